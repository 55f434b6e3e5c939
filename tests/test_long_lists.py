"""Long lists go into arrays and come back the same; references that are none are refused."""

import json

import numpy as np
import pytest

from pymlp.container import ModelFormatError
from pymlp.long_lists import LONGEST, attach, detach

LONG = LONGEST + 1


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ([0.5] * LONG, "float64"),
        ([float("inf"), -0.0] * LONG, "float64"),
        ([-(2**63), 2**63 - 1] * LONG, "int64"),
        (["a", "\u00e4", "", "\U0001f40d"] * LONG, "uint8"),
        ([""] * LONG, "uint8"),
    ],
)
def test_long_lists_of_one_kind_become_arrays(values, stored):
    state, arrays = detach({"a": {"b": [1, values]}})
    assert state == {"a": {"b": [1, {"array": "state.0"}]}}
    assert [array.dtype.name for array in arrays.values()] == [stored]
    assert repr(attach(state, arrays)) == repr({"a": {"b": [1, values]}})


@pytest.mark.parametrize(
    "values",
    [
        [0.5] * LONGEST,
        [0, 0.5] * LONG,
        [True] * LONG,
        [None] * LONG,
        [2**63] * LONG,
        [-(2**63) - 1] * LONG,
        ["a\0b"] * LONG,
        [[1]] * LONG,
        (1, 0.5),
        [],
    ],
)
def test_all_other_lists_stay(values):
    state, arrays = detach({"a": values})
    assert arrays == {}
    assert state == {"a": list(values)}
    assert attach(state, {}) == state


def test_each_list_has_an_array_of_its_own():
    state = {"a": [1] * LONG, "b": [[2] * LONG, "c"], "d": 3}
    short, arrays = detach(state, "list")
    assert list(arrays) == ["list.0", "list.1"]
    assert len(json.dumps(short)) < 80
    assert attach(short, arrays) == state


def test_states_that_cannot_be_told_from_others():
    with pytest.raises(ValueError, match="a dict with the one key 'array' cannot be kept"):
        detach({"a": [{"array": 1}]})
    with pytest.raises(UnicodeEncodeError):
        detach({"a": ["\ud800"] * LONG})


NUMBERS = np.arange(3)


@pytest.mark.parametrize(
    ("state", "arrays", "message"),
    [
        ({"a": {"array": "b"}}, {}, "there is no array 'b'"),
        ({"a": {"array": ["b"]}}, {"b": NUMBERS}, r"there is no array \['b'\]"),
        ({"a": {"array": "b"}, "c": {"array": "b"}}, {"b": NUMBERS}, "or it is there for another list"),
        ({}, {"b": NUMBERS}, "nothing uses the array 'b'"),
        ({"a": {"array": "b"}}, {"b": NUMBERS.reshape(3, 1)}, r"b is no list, but int64 of shape \[3, 1\]"),
        ({"a": {"array": "b"}}, {"b": NUMBERS.astype(np.float32)}, "b is no list, but float32"),
        ({"a": {"array": "b"}}, {"b": np.array([0xFF], np.uint8)}, "b must hold UTF-8"),
    ],
)
def test_odd_references(state, arrays, message):
    with pytest.raises(ModelFormatError, match=message):
        attach(state, arrays)
