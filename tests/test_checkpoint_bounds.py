"""Checkpoints of long fits and of many classes stay within the bounds of a file's header, and are told apart."""

import numpy as np
import pytest
from small_models import small

from pymlp import ModelFormatError, checkpoints, container


def test_a_history_of_many_epochs_takes_little_of_the_header(tmp_path):
    kept = checkpoints.Checkpoints(tmp_path / "c", 1, False)
    kept.open({"kind": "a"})
    kept.start = {"seed": 1}
    epochs = 100_000
    run = {"history": {"loss": [0.5] * epochs, "validation_score": [None] * epochs, "none": [], "mixed": [None, 1.0]}}
    kept.keep(run)
    found = checkpoints.read(tmp_path / "c")
    assert found.run == run
    assert int.from_bytes((tmp_path / "c").read_bytes()[:8], "little") < 2000


def test_a_history_with_gaps_takes_little_of_the_header(tmp_path):
    # the seconds of a model that was loaded and goes on: unknown, then known
    kept = checkpoints.Checkpoints(tmp_path / "c", 1, False)
    kept.open({"kind": "a"})
    run = {"history": {"seconds": [None] * 20_000 + [0.25] * 20_000, "odd": [0.5, None, np.inf]}}
    kept.keep(run)
    assert checkpoints.read(tmp_path / "c").run == run
    assert int.from_bytes((tmp_path / "c").read_bytes()[:8], "little") < 2000


@pytest.mark.parametrize("run", [{"many": [1] * 40_000}, {"deep": [[]]}, {"long": 10**50}, {"half": "\ud800"}])
def test_what_could_not_be_read_is_not_written(tmp_path, run):
    if "deep" in run:
        for _ in range(40):
            run["deep"] = [run["deep"]]
    kept = checkpoints.Checkpoints(tmp_path / "c", 1, False)
    kept.open({"kind": "a"})
    kept.keep({"epochs": 1})
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(ModelFormatError, match="the state of the run"):
        kept.keep(run)
    assert (tmp_path / "c").read_bytes() == before
    with pytest.raises(ModelFormatError, match="the fingerprint"):
        kept.open(run)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_many_classes_are_told_by_their_sum(tmp_path):
    # more than the header has room for, if each were named
    X = np.random.RandomState(0).normal(size=(3000, 2))
    labels = np.array([f"class {number:>300}" for number in range(1500)])
    y = labels[np.arange(3000) // 2]
    options = {"hidden_layer_sizes": (1,), "batch_size": 3000, "max_iter": 1}
    small(**options).fit(X, y, checkpoint=tmp_path / "c")
    assert len(str(checkpoints.read(tmp_path / "c").fingerprint)) < 10_000 < container.LONGEST_HEADER
    small(**{**options, "max_iter": 2}).fit(X, y, checkpoint=tmp_path / "c", resume=True)
    with pytest.raises(ValueError, match=r"the checkpoint of another run.*classes"):
        small(**options).fit(X, np.char.replace(y, "1499", "1500"), checkpoint=tmp_path / "c", resume=True)
