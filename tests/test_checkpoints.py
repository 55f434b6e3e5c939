"""Checkpoint files: which one serves, which run may go on from it, what is malformed, and writes that fail."""

import errno
import os
import shutil

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from killed_runs import Killed, dying
from small_models import interrupt_in, small, state_of

import pymlp
from pymlp import MLPClassifier, MLPRegressor, ModelFormatError, checkpoints, container, epochs
from pymlp.checkpoints import Checkpoints
from pymlp.losses import CustomLoss
from pymlp.network import Network
from pymlp.optimizers import SGD
from pymlp.replacement import previous_of
from pymlp.training import train

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:lbfgs failed")

NETWORK = Network.from_widths((4, 6, 3), "tanh", loss="log_loss", dtype="float64", l2=1e-3, dropout=0.2, seed=9)


@pytest.fixture
def killed(monkeypatch):
    return dying(monkeypatch)


def fitted(model, data, **options):
    return model.fit(data[0], data[1], **options)


def misfit(y, output):
    difference = output - y
    return 0.5 * (difference**2).mean(axis=1), difference


# -------------------------------------------------------------------------------------------------- what is found there


def test_resuming_begins_where_there_is_nothing(iris, tmp_path):
    expected = fitted(small(), iris)
    assert state_of(fitted(small(), iris, checkpoint=tmp_path / "c", resume=True)) == state_of(expected)
    assert os.listdir(tmp_path) == ["c"]


def written_twice(iris, path, killed, **parameters):
    killed(2)
    with pytest.raises(Killed):
        fitted(small(**parameters), iris, checkpoint=path, checkpoint_every=1)
    killed(None)


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "a model"])
def test_the_one_before_serves_where_the_newest_does_not(iris, tmp_path, killed, damage):
    path = tmp_path / "c"
    written_twice(iris, path, killed)
    expected = fitted(small(), iris)
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "flipped":
        content[-3] ^= 4
        path.write_bytes(content)
    else:
        expected.save(path)
    reason = "is missing" if damage == "missing" else "is not a valid checkpoint"
    with pytest.warns(RuntimeWarning, match=f"{reason}.*going on from the checkpoint before it, .*c.previous"):
        resumed = fitted(small(), iris, checkpoint=path, resume=True)
    assert state_of(resumed) == state_of(expected)


def test_nothing_whole_is_an_error(iris, tmp_path, killed):
    path = tmp_path / "c"
    written_twice(iris, path, killed)
    for each in (path, previous_of(path)):
        each.write_bytes(each.read_bytes()[:-1])
    model = small()
    with pytest.raises(ModelFormatError, match=r"c\.previous is not a valid checkpoint"):
        fitted(model, iris, checkpoint=path, resume=True)
    previous_of(path).unlink()
    with pytest.raises(ModelFormatError, match="c is not a valid checkpoint"):
        fitted(model, iris, checkpoint=path, resume=True)
    assert not hasattr(model, "params_")
    # without resume they are overwritten, but not before the first new one
    killed(1)
    with pytest.raises(Killed):
        fitted(model, iris, checkpoint=path, checkpoint_every=1)
    assert checkpoints.find(path).run["epochs"] == 1


def test_an_old_checkpoint_stays_until_the_first_new_one(iris, tmp_path):
    path = tmp_path / "c"
    fitted(small(), iris, checkpoint=path)
    old = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        fitted(small().set_callbacks(interrupt_in(1)), iris, checkpoint=path)
    assert path.read_bytes() == old


def test_another_run_is_refused_by_what_differs(iris, tmp_path):
    X, y = iris
    path = tmp_path / "c"
    small(early_stopping=True, loss=CustomLoss(misfit, "softmax")).fit(X, y, np.ones(150), checkpoint=path)
    content = path.read_bytes()

    ones = np.ones(150)

    def refused(message, X=X, y=y, weight=ones, cls=MLPClassifier, options=None, **parameters):
        model = small(cls, **{"early_stopping": True, "loss": CustomLoss(misfit, "softmax"), **parameters})
        before = vars(model).copy()
        with pytest.raises(ValueError, match=message):
            model.fit(X, y, weight, checkpoint=path, resume=True, **(options or {}))
        assert vars(model) == before
        assert path.read_bytes() == content

    refused(r"c is the checkpoint of another run.*: alpha is 0.5 \(there 0.0001\)", alpha=0.5)
    refused(r"random_state is 1 \(there 0\)", random_state=1)
    refused(r"solver is 'SGD\(\)' \(there 'adam'\)", solver=SGD())
    refused(r"hidden_layer_sizes is '\[7\]' \(there '\[6\]'\).*network.layers", hidden_layer_sizes=(7,))
    refused("random_state is 'RandomState MT19937'", random_state=np.random.RandomState(0))
    refused("network.dtype is 'float32'", dtype="float32")
    refused("kind is 'MLPRegressor'", cls=MLPRegressor, y=y * 1.0, loss="squared_error")
    changed = X.copy()
    changed[77, 2] = np.nextafter(changed[77, 2], 9)
    refused(r": X is 'float64 \(150, 4\) \w+' \(there 'float64 \(150, 4\) \w+'\)$", X=changed)
    refused("X is", X=X[:149], y=y[:149], weight=np.ones(149))
    refused("y is", y=y[::-1])
    refused("classes is", y=y + 1)
    refused("sample_weight is", weight=np.full(150, 2.0))
    refused(r"X_val is .* \(there None\)", options={"X_val": X, "y_val": y})


@pytest.mark.parametrize("kind", ["fit", "fit_stream", "train"])
@pytest.mark.parametrize("other", [{"backend": "numpy"}, {"backend": "c", "isa": "portable"}])
def test_another_arithmetic_is_refused(iris, tmp_path, kind, other):
    if "c" not in pymlp.backends.available():
        pytest.skip("needs the C engine")
    fused = [name for name in pymlp.backends.get("c").instruction_sets() if name != "portable"]
    if not fused:
        pytest.skip("needs fused multiply-add")
    X, y = iris

    def run(epochs, **options):
        options = {"checkpoint": tmp_path / "c", **options}
        if kind == "fit":
            small(max_iter=epochs).fit(X, y, **options)
        elif kind == "fit_stream":
            small(max_iter=epochs).fit_stream([(X, y)], **options)
        else:
            train(NETWORK, NETWORK.initial_params(0), X, np.eye(3)[y], epochs=epochs, random_state=0, **options)

    with pymlp.config_context(backend="c", isa=fused[0]):
        run(2)
    name = "numpy" if other["backend"] == "numpy" else "c without fused multiply-add"
    with (
        pymlp.config_context(**other),
        pytest.raises(ValueError, match=rf"another run.*: backend is '{name}' \(there 'c'\)$"),
    ):
        run(3, resume=True)
    if kind == "train" and other["backend"] == "numpy":
        with pytest.raises(ValueError, match="backend is 'numpy'"):
            run(3, resume=True, backend="numpy")
    # those that fuse are one
    with pymlp.config_context(backend="c", isa=fused[-1]):
        run(3, resume=True)


def test_what_may_change(iris, tmp_path, killed):
    written_twice(iris, tmp_path / "c", killed)
    model = fitted(small(max_time=1000, max_fun=7), iris, checkpoint=tmp_path / "c", resume=True)
    assert model.params_.tobytes() == fitted(small(), iris).params_.tobytes()


def test_another_version_warns(iris, tmp_path, killed, monkeypatch):
    written_twice(iris, tmp_path / "c", killed)
    monkeypatch.setattr(pymlp, "__version__", "99")
    with pytest.warns(RuntimeWarning, match="was written by pymlp 0.1.0 and goes on with 99"):
        fitted(small(), iris, checkpoint=tmp_path / "c", resume=True)


def test_loading_a_checkpoint_says_what_it_is(iris, tmp_path):
    fitted(small(), iris, checkpoint=tmp_path / "c")
    with pytest.raises(ModelFormatError, match="it is the checkpoint of a training run"):
        pymlp.load(tmp_path / "c")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"resume": True}, ValueError, "resume=True needs the path of a checkpoint"),
        ({"checkpoint": 3}, TypeError, "checkpoint must be a path or None, got 3"),
        ({"checkpoint": "c", "checkpoint_every": 0}, ValueError, "checkpoint_every must be an integer above 0"),
        ({"checkpoint": "c", "checkpoint_every": -1.0}, ValueError, r"got -1\.0"),
        ({"checkpoint": "c", "checkpoint_every": np.inf}, ValueError, "got inf"),
        ({"checkpoint": "c", "checkpoint_every": np.nan}, ValueError, "got nan"),
        ({"checkpoint": "c", "checkpoint_every": True}, ValueError, "got True"),
        ({"checkpoint": "c", "checkpoint_every": "1"}, ValueError, "got '1'"),
        ({"checkpoint": os.path.join("missing", "c")}, FileNotFoundError, "the folder does not exist"),
        ({"checkpoint": "."}, IsADirectoryError, "Is a directory"),
    ],
)
def test_odd_arguments(iris, tmp_path, monkeypatch, options, error, message):
    monkeypatch.chdir(tmp_path)
    X, y = iris
    for fit in (small().fit, small(MLPRegressor).fit):
        with pytest.raises(error, match=message):
            fit(X, y, **options)
    with pytest.raises(error, match=message):
        small().fit_stream([(X, y)], **options)
    with pytest.raises(error, match=message):
        train(NETWORK, NETWORK.initial_params(0), X, np.eye(3)[y], **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["too long", "folder"])
def test_no_place_for_the_one_before_is_noticed_at_once(iris, tmp_path, kind):
    path = tmp_path / ("c" * (os.pathconf(tmp_path, "PC_NAME_MAX") - 3) if kind == "too long" else "c")
    if kind == "folder":
        previous_of(path).mkdir()
    there = os.listdir(tmp_path)
    with pytest.raises(OSError, match="too long" if kind == "too long" else "Is a directory") as caught:
        fitted(small(), iris, checkpoint=path)
    assert caught.value.filename == str(previous_of(path))
    assert os.listdir(tmp_path) == there


def test_every_state_comes_back(tmp_path):
    kept = Checkpoints(tmp_path / "c", 1, False)
    kept.open({"kind": "nothing", "limit": np.inf})
    run = {
        "alone": {"array of one name": 3},
        "numbers": [0.1, -0.0, 5e-324, np.inf],
        "mixed": [1.5, None, {"deep": [np.arange(4, dtype=np.uint32), np.zeros((2, 0))]}, "text", True, 2**127],
        "gaps": [None, -0.0, None, np.inf, 5e-324],
        "none": [],
        "scalar": np.float32(0.1),
    }
    kept.keep(run)
    found = checkpoints.read(tmp_path / "c")
    assert found.fingerprint == {"kind": "nothing", "limit": np.inf}
    first, second = found.run["mixed"][2].pop("deep"), run["mixed"][2].pop("deep")
    assert [each.dtype for each in first] == [each.dtype for each in second]
    assert [each.tolist() for each in first] == [each.tolist() for each in second]
    assert repr(found.run) == repr({**run, "scalar": float(np.float32(0.1))})


def test_a_long_setting_is_told_by_its_sum(iris, tmp_path):
    X, y = iris[0], np.array([f"{'species ' * 60}{number}" for number in iris[1]])
    small().fit(X, y, checkpoint=tmp_path / "c")
    assert len(checkpoints.read(tmp_path / "c").fingerprint["classes"]) < 1100
    small(max_iter=5).fit(X, y, checkpoint=tmp_path / "c", resume=True)
    with pytest.raises(ValueError, match=": classes is"):
        small(max_iter=5).fit(X, np.char.add(y, "!"), checkpoint=tmp_path / "c", resume=True)


def test_nothing_to_draw_from_has_no_state():
    assert checkpoints.generator_state(None) is None
    checkpoints.set_generator_state(None, None)


# ------------------------------------------------------------------------------------------------------ malformed files


def rewritten(path, change):
    """Write the file anew, with a right digest, after `change` of its metadata and arrays."""
    file = container.read(path)
    metadata = dict(file.metadata)
    arrays = {name: file.array(name).copy() for name in file.entries}
    change(metadata, arrays)
    container.write(path, metadata, arrays)


def text(old, new, name="state"):
    def change(metadata, arrays):
        assert old in metadata[name]
        metadata[name] = metadata[name].replace(old, new, 1)

    return change


def without(name):
    return lambda metadata, arrays: arrays.pop(name)


def with_array(name, make):
    def change(metadata, arrays):
        arrays[name] = make(arrays.get(name))

    return change


MALFORMED = {
    "format": (text("checkpoint", "chequepoint", "format"), "'format'] must be"),
    "version": (text("1", "2", "format_version"), "'format_version'] must be '1', found '2'"),
    "more metadata": (lambda metadata, arrays: metadata.update(more=""), "unknown key 'more'"),
    "no JSON": (text("{", "[", "fingerprint"), "is not JSON"),
    "array missing": (without("run.params"), "needs an array 'run.params' of its own"),
    "array too much": (with_array("more", lambda _: np.zeros(3)), "has no place for the array 'more'"),
    "no run": (text('"run": ', '"walk": '), "the state has no 'run'"),
    "more state": (text('"start": ', '"more": {}, "start": '), "the state has the unknown key 'more'"),
    "epochs": (text('"epochs": 2', '"epochs": "2"'), "epochs must be an integer of at least 0, found '2'"),
    "negative": (text('"epochs": 2', '"epochs": -2'), "epochs must be an integer of at least 0, found -2"),
    "no course": (text('"course": ', '"curse": '), "the state of the run is malformed: KeyError: 'course'"),
    "params": (with_array("run.params", lambda old: old[:-1]), "its params must be a float64 array of shape"),
    "slots": (with_array("run.slots", lambda old: old.astype("f4")), "its slots must be a float64 array of shape"),
    "rows": (with_array("run.order", lambda old: old + 1), "its order is not one of the rows"),
    "rows twice": (with_array("run.order", np.zeros_like), "its order is not one of the rows"),
    "type of rows": (with_array("run.order", lambda old: old.astype("u8")), "its order is not one of the rows"),
    "generator": (with_array("start.generator.state.key", lambda old: old[:5]), "the state of the run is malformed"),
    "later generator": (text('"MT19937"', '"PCG64"'), "the state of the run is malformed"),
    "scaling": (with_array("start.standardisation.inputs.0", lambda old: old[1:]), "must have 4 means and deviations"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files(iris, tmp_path, killed, name):
    path = tmp_path / "c"
    written_twice(iris, path, killed, standardize=True)
    previous_of(path).unlink()
    change, message = MALFORMED[name]
    # to write it anew does no harm in itself
    shutil.copy(path, tmp_path / "d")
    rewritten(tmp_path / "d", lambda metadata, arrays: None)
    fitted(small(standardize=True), iris, checkpoint=tmp_path / "d", resume=True)
    rewritten(path, change)
    model = small(standardize=True)
    with pytest.raises(ModelFormatError) as caught:
        fitted(model, iris, checkpoint=path, resume=True)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert not hasattr(model, "params_")


def test_malformed_epochs_under_way(iris, tmp_path, killed, monkeypatch):
    # slices of one step
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 1e-9)
    monkeypatch.setattr(epochs, "HELPED_SLICE_SECONDS", 1e-9)
    monkeypatch.setattr(epochs, "TOGETHER_SECONDS", 1e-9)
    path = tmp_path / "c"
    killed(6)
    with pytest.raises(Killed):
        fitted(small(batch_size=40), iris, checkpoint=path, checkpoint_every=1e-9)
    killed(None)
    shutil.copy(path, tmp_path / "whole")
    for make in (lambda old: np.zeros(4), lambda old: np.zeros(0)):
        shutil.copy(tmp_path / "whole", path)
        rewritten(path, with_array("run.begun.losses", make))
        with pytest.raises(ModelFormatError, match="of an epoch's 4 steps cannot be done"):
            fitted(small(batch_size=40), iris, checkpoint=path, resume=True)


def test_ended_before_the_first_epoch(iris, tmp_path, killed, monkeypatch):
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 1e-9)
    monkeypatch.setattr(epochs, "HELPED_SLICE_SECONDS", 1e-9)
    monkeypatch.setattr(epochs, "TOGETHER_SECONDS", 1e-9)
    path = tmp_path / "c"
    killed(1)
    with pytest.raises(Killed):
        fitted(small(batch_size=40), iris, checkpoint=path, checkpoint_every=1e-9)
    killed(None)
    assert checkpoints.read(path).run["epochs"] == 0
    rewritten(path, text('"over": false', '"over": true'))
    with pytest.raises(ModelFormatError, match="it has ended before its first epoch"):
        fitted(small(batch_size=40), iris, checkpoint=path, resume=True)


def emptied(*names):
    # the lists of these names in the rule, whose numbers then have no place
    def change(metadata, arrays):
        for name in names:
            array = f"run.rule.{name}"
            (kind,) = (kind for kind in ("floats", "nothing") if f'{{"{kind}": "{array}"}}' in metadata["state"])
            text(f'{{"{kind}": "{array}"}}', "[]")(metadata, arrays)
            del arrays[array]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (emptied("loss_curve"), "its loss_curve has 0 entries for 4 epochs"),
        (emptied("history.rate"), "its rate has 0 entries for 4 epochs"),
        (text('"rule": {"epochs": 4', '"rule": {"epochs": 0'), "its rule must know of 4 epochs, found 0"),
    ],
)
def test_malformed_histories(iris, tmp_path, change, message):
    path = tmp_path / "c"
    fitted(small(), iris, checkpoint=path)
    rewritten(path, change)
    with pytest.raises(ModelFormatError, match=message):
        fitted(small(), iris, checkpoint=path, resume=True)


def test_malformed_histories_of_train(iris, tmp_path):
    path, names = tmp_path / "c", ("loss", "validation_loss", "rate", "seconds")
    run = NETWORK, NETWORK.initial_params(0), iris[0], np.eye(3)[iris[1]]
    train(*run, epochs=2, random_state=0, checkpoint=path)
    rewritten(path, emptied(*(f"history.{name}" for name in names)))
    with pytest.raises(ModelFormatError, match="its loss has 0 entries for 2 epochs"):
        train(*run, epochs=2, random_state=0, checkpoint=path, resume=True)


def test_malformed_histories_of_lbfgs(iris, tmp_path):
    path = tmp_path / "c"
    fitted(small(solver="lbfgs", max_iter=3), iris, checkpoint=path)
    rewritten(path, with_array("run.history.loss", lambda old: old[:-1]))
    with pytest.raises(ModelFormatError, match="entries of its history must be equally many"):
        fitted(small(solver="lbfgs", max_iter=4), iris, checkpoint=path, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("run.gaps.known"), "needs an array 'run.gaps.known' of its own"),
        (without("run.gaps.numbers"), "needs an array 'run.gaps.numbers' of its own"),
        (with_array("run.gaps.known", lambda old: old[:, None]), "must say by 0 or 1 which"),
        (with_array("run.gaps.known", lambda old: old * 2), "must say by 0 or 1 which"),
        (with_array("run.gaps.known", lambda old: old.astype("u4")), "must say by 0 or 1 which"),
        (with_array("run.gaps.numbers", lambda old: old[1:]), "must have 2 numbers of float64, found float64"),
        (with_array("run.gaps.numbers", lambda old: old.astype("f4")), "must have 2 numbers of float64, found float32"),
    ],
)
def test_malformed_lists_with_gaps(tmp_path, change, message):
    kept = Checkpoints(tmp_path / "c", 1, False)
    kept.open({"kind": "nothing"})
    kept.keep({"gaps": [None, 1.0, 2.0]})
    rewritten(tmp_path / "c", change)
    with pytest.raises(ModelFormatError, match=message):
        checkpoints.read(tmp_path / "c")


def test_malformed_evaluations(iris, tmp_path):
    path = tmp_path / "c"
    fitted(small(solver="lbfgs", max_iter=2), iris, checkpoint=path)
    rewritten(path, with_array("run.gradients", lambda old: old[:, 1:].copy()))
    with pytest.raises(
        ModelFormatError, match=r"gradients must be float64 arrays of shape \(51,\), found float64 \(50,\)"
    ):
        fitted(small(solver="lbfgs", max_iter=3), iris, checkpoint=path, resume=True)


# -------------------------------------------------------------------------------------------------------- failed writes


@pytest.mark.parametrize("function", ["fsync", "replace", "link", "chmod", "unlink"])
@pytest.mark.parametrize("fit", ["epochs", "lbfgs"])
def test_a_failed_write_leaves_everything(iris, tmp_path, killed, monkeypatch, function, fit):
    path = tmp_path / "c"
    parameters = {"solver": "lbfgs"} if fit == "lbfgs" else {"batch_size": 50}
    expected = fitted(small(**parameters), iris)
    written_twice(iris, path, killed, **parameters)
    files = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    real = getattr(os, function)
    failed = []

    def fail_once(*arguments, **options):
        if failed or (function == "unlink" and not str(arguments[0]).endswith("previous")):
            return real(*arguments, **options)
        failed.append(arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    model = small(alpha=7.0).fit(*iris).set_params(alpha=0.0001, **parameters)
    before = state_of(model)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail_once)
        with pytest.raises(OSError, match="No space left"):
            fitted(model, iris, checkpoint=path, checkpoint_every=1, resume=True)
    assert state_of(model) == before
    assert {"c"} <= set(os.listdir(tmp_path)) <= {"c", "c.previous"}
    assert path.read_bytes() == files["c"]
    assert state_of(fitted(small(**parameters), iris, checkpoint=path, resume=True)) == state_of(expected)
    assert sorted(os.listdir(tmp_path)) == ["c", "c.previous"]


def test_train_that_cannot_write_changes_nothing(iris, tmp_path, monkeypatch):
    params = NETWORK.initial_params(0)
    before = params.tobytes()

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        train(NETWORK, params, iris[0], np.eye(3)[iris[1]], checkpoint=tmp_path / "c")
    assert params.tobytes() == before
    assert os.listdir(tmp_path) == []
