"""What a model file says of an estimator: there and back through JSON, and what is no such thing."""

import json

import numpy as np
import pytest

from pymlp import AdamW, Cosine, Dense, Quantile
from pymlp.model_state import checked_records, from_plain, labels_of, plain, records_of


@pytest.mark.parametrize(
    ("value", "again"),
    [
        (None, None),
        ("relu", "relu"),
        (np.float32, "float32"),
        (np.int64(3), 3),
        ((np.float32(0.5), [1, "a"]), (0.5, (1, "a"))),
        (np.array([3, 5]), (3, 5)),
        ({"a": 1, 2: 0.5, True: [1]}, {"a": 1, 2: 0.5, True: (1,)}),
        # as if it were what stands for a dict, a layer, an option object
        ({"keys": 1, "values": 2}, {"keys": 1, "values": 2}),
        ({"layer": {"outputs": 3}}, {"layer": {"outputs": 3}}),
        ({"option": "AdamW", "parameters": {}}, {"option": "AdamW", "parameters": {}}),
        ([Dense(3, "tanh", dropout=0.5), 4], (Dense(3, "tanh", dropout=0.5), 4)),
        (AdamW(weight_decay=np.float32(0.5)), AdamW(weight_decay=0.5)),
        (Cosine(warmup=2), Cosine(warmup=2)),
        (Quantile([0.25, 0.5]), Quantile((0.25, 0.5))),
    ],
    ids=str,
)
def test_parameters_come_back(value, again):
    assert from_plain(json.loads(json.dumps(plain(value)))) == again


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "not the description of an option object"),
        ({"layer": 3}, "not the description of an option object"),
        ({"layer": {"outputs": 3, "depth": 1}}, "not the description of a layer"),
        ({"layer": {}}, "not the description of a layer"),
        ({"option": "CompiledLoss", "parameters": {"function": 4096}}, "not the description of an option object"),
        ({"option": "AdamW", "parameters": {"function": 4096}}, "AdamW has no parameter 'function'"),
        ({"keys": ["a"], "values": []}, "as many keys as values"),
        ({"keys": [None], "values": [1]}, "must be strings or numbers"),
        ({"keys": [1, 1.0], "values": [1, 2]}, "a key twice"),
    ],
    ids=str,
)
def test_what_is_no_parameter(value, message):
    with pytest.raises(ValueError, match=message):
        from_plain(value)


class Fitted:
    """What has records of a fit."""

    def __init__(self, **records):
        self.__dict__.update(records)


def test_records_come_back():
    nothing = [None] * 3
    history = {"loss": [3.0, 2.0, np.nan], "validation_score": nothing, "rate": [0.1, None, 0.1], "seconds": [1, 2, 3]}
    found = records_of(Fitted(history_=history, n_iter_=np.int64(3), best_loss_=None))
    assert found["history_"]["validation_score"] is None
    again = checked_records(json.loads(json.dumps(found)))
    assert repr(again["history_"]) == repr({**history, "seconds": nothing, "loss": [3.0, 2.0, float("nan")]})
    assert (again["n_iter_"], again["best_loss_"]) == (3, None)
    assert records_of(Fitted()) == checked_records({}) == {}
    assert checked_records(records_of(Fitted(n_iter_=1))) == {"n_iter_": 1}


@pytest.mark.parametrize("records", [[], {"params_": 1}, {"n_iter_": 1.0}, {"loss_": None}, {"loss_curve_": [None]}])
def test_what_is_no_record(records):
    with pytest.raises(ValueError, match="record"):
        checked_records(records)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([False, True]),
        np.array([-5, 3], np.int8),
        np.array([0, 2**64 - 1], np.uint64),
        np.array([1, 2], ">i4"),
        np.array([0.5, 1.5], np.float16),
        np.array(["", "a", "\u00e4"]),
        np.array(["a", "b"], "<U300"),
        np.array(["a", "b"], object),
        np.array([1, 2.5, True + 2], object),
    ],
    ids=repr,
)
def test_labels_come_back(labels):
    described = {"dtype": labels.dtype.str, "values": plain(labels)}
    again = labels_of(json.loads(json.dumps(described)))
    assert again.dtype == labels.dtype
    assert again.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("dtype", "values", "message"),
    [
        (3, ["a"], "cannot be of the type 3"),
        ("<M8[s]", [0], "cannot be of the type '<M8"),
        ("<c16", [0], "cannot be of the type '<c16'"),
        ("|S3", ["a"], "cannot be of the type"),
        ("<U3", [], "a list of at least one"),
        ("<U3", "abc", "a list of at least one"),
        ("<U3", [3], "not of their type <U3"),
        ("|O", [float("nan")], "not of their type"),
        ("|b1", [0, 1], "not of their type"),
        ("<i8", [0.0], "not of their type"),
        ("|i1", [1000], "not of their type|cannot hold"),
        ("<U1", ["ab"], "cannot hold"),
        ("<U3", ["a\0"], "cannot hold"),
        ("<f4", [0.1], "cannot hold"),
        ("<i8", [2, 1], "must ascend"),
        ("<U900000", ["a"], "take much more room than the 1 characters they have"),
    ],
)
def test_what_are_no_labels(dtype, values, message):
    with pytest.raises(ValueError, match=message):
        labels_of({"dtype": dtype, "values": values})
