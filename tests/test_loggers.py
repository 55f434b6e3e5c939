"""The logs of a training: what stands in them, several runs, and files that cannot be written."""

import copy
import csv
import json
import os
import pickle
import sys

import numpy as np
import pytest

from pymlp.loggers import COLUMNS, CSVLog, JSONLinesLog, TensorBoardLog
from pymlp.network import Network
from pymlp.training import train

LOGS = {"csv": CSVLog, "jsonl": JSONLinesLog}


def run(*callbacks, epochs=3):
    network = Network.from_widths((2, 3, 1), dtype="float64")
    X = np.ones((10, 2))
    params = network.initial_params(0)
    return train(network, params, X, X[:, :1], batch_size=4, epochs=epochs, random_state=0, callbacks=callbacks)


def read(path):
    """The lines of a log, as dicts of numbers."""
    text = path.read_text()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    lines = csv.DictReader(text.splitlines())
    return [{name: float(value) if value else None for name, value in line.items()} for line in lines]


@pytest.mark.parametrize("kind", LOGS)
def test_a_line_an_epoch(kind, tmp_path):
    path = tmp_path / f"log.{kind}"
    result = run(LOGS[kind](path))
    lines = read(path)
    assert [tuple(line) for line in lines] == [COLUMNS] * 3
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["step"] for line in lines] == [3, 6, 9]
    assert [line["rows"] for line in lines] == [10, 20, 30]
    # every digit of the numbers
    assert [line["loss"] for line in lines] == result.losses
    assert {line["rate"] for line in lines} == {1e-3}
    assert {line["validation_score"] for line in lines} == {None}
    assert 0 < lines[0]["seconds"] < lines[2]["seconds"] < result.seconds


@pytest.mark.parametrize("kind", LOGS)
def test_each_run_begins_the_file_anew_or_adds_to_it(kind, tmp_path):
    path = tmp_path / f"log.{kind}"
    log, adding = LOGS[kind](path), LOGS[kind](path, append=True)
    run(log)
    run(log, epochs=2)
    assert [line["epoch"] for line in read(path)] == [1, 2]
    run(adding, epochs=1)
    run(pickle.loads(pickle.dumps(adding)), epochs=1)
    assert [line["epoch"] for line in read(path)] == [1, 2, 1, 1]
    path.unlink()
    run(copy.deepcopy(adding), epochs=1)
    assert [line["epoch"] for line in read(path)] == [1]


@pytest.mark.parametrize("kind", LOGS)
def test_lines_are_on_the_disk_when_their_epoch_has_ended(kind, tmp_path):
    class Reader(CSVLog):
        def on_fit_task_end(self, estimator, context):
            if context.task_name == "epoch":
                seen.append(len(read(path)))

    path, seen = tmp_path / f"log.{kind}", []
    run(LOGS[kind](path), Reader(tmp_path / "other"))
    assert seen == [1, 2, 3]


def test_json_has_no_infinity(tmp_path):
    path = tmp_path / "log.jsonl"
    network = Network.from_widths((1, 1), dtype="float64")
    X = np.full((1, 1), 1e200)
    train(network, np.ones(2), X, -X, epochs=1, callbacks=[JSONLinesLog(path)])
    assert "Infinity" not in path.read_text()
    assert read(path)[0]["loss"] is None


@pytest.mark.parametrize("kind", LOGS)
def test_a_file_that_cannot_be_opened_or_written_ends_the_training(kind, tmp_path):
    with pytest.raises(FileNotFoundError):
        run(LOGS[kind](tmp_path / "nowhere" / "log"))
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no device that is always full")
    log = LOGS[kind]("/dev/full")
    with pytest.raises(OSError, match=r"the training log cannot be written: No space left.*/dev/full"):
        run(log)
    assert not log._files._files


def test_tensorboard_reads_the_curves(tmp_path):
    pytest.importorskip("tensorboard", reason="writes in TensorBoard's format")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = pickle.loads(pickle.dumps(TensorBoardLog(tmp_path, every_steps=2)))
    result = run(log)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["tensors"]) == ["loss", "rate", "step/loss", "step/rate"]

    def curve(tag):
        return {event.step: event.tensor_proto.float_val[0] for event in events.Tensors(tag)}

    assert curve("loss") == dict(zip((1, 2, 3), np.float32(result.losses).tolist(), strict=True))
    assert set(curve("rate").values()) == {np.float32(1e-3).item()}
    assert list(curve("step/loss")) == [2, 4, 6, 8]


def test_names_the_command_where_tensorboard_is_missing(monkeypatch, tmp_path):
    for name in ("tensorboard", "tensorboard.summary", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        TensorBoardLog(tmp_path)
