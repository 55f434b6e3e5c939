"""What a model file says of an estimator beside its network: parameters, records of the fit, labels; both directions.

The way out makes numbers, strings, lists and dicts of Python, which JSON can hold.  The way back trusts nothing: a file
may come from anywhere, so every value is one that `fit` could have left behind, or a ValueError.  Objects are made of
the classes in the registries alone, never by a name from the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np

from pymlp.layers import Dense
from pymlp.losses import LOSSES
from pymlp.optimizers import OPTIMIZERS
from pymlp.options import describe, from_description, is_option
from pymlp.schedules import SCHEDULES

# what may stand in a parameter as an option object
OPTION_KINDS = (*map(type, LOSSES.values()), *OPTIMIZERS.values(), *SCHEDULES.values())
# what a history holds of each epoch; its "seconds" are not kept: equal models have equal files
HISTORIES = ("loss", "validation_score", "rate")
# types of labels; objects are strings or numbers of Python
_LABEL_TYPE = re.compile(r"[<>|](?:b1|[iu][1248]|f[248]|O8?|U([0-9]{1,9}))")
# NumPy gives each string the room of the longest: bytes of the array, beside so many for each character it holds
ROOM_OF_LABELS, ROOM_OF_A_CHARACTER = 1 << 20, 64


def plain(value: Any) -> Any:
    """Numbers, strings, lists and dicts of Python in place of NumPy's, of option objects and of layers."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, Dense):
        return {"layer": {each.name: plain(getattr(value, each.name)) for each in fields(value)}}
    if is_option(value):
        return describe(value)
    if isinstance(value, dict):
        # labels of classes, which need not be strings as the names of a JSON object are
        return {"keys": [plain(name) for name in value], "values": [plain(item) for item in value.values()]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, type):
        return np.dtype(value).name
    return value


def from_plain(value: Any) -> Any:
    """A parameter from what `plain` made of it; sequences are tuples.

    Raises
    ------
    ValueError
        It describes nothing that a parameter can be.
    """
    if isinstance(value, (list, tuple)):
        return tuple(from_plain(item) for item in value)
    if not isinstance(value, dict):
        return value
    if set(value) == {"keys", "values"}:
        return _dict_of(value["keys"], value["values"])
    if set(value) == {"layer"} and isinstance(value["layer"], dict):
        unknown = sorted(set(value["layer"]) - {each.name for each in fields(Dense)})
        if unknown or "outputs" not in value["layer"]:
            raise ValueError(f"not the description of a layer: {value!r}")
        return Dense(**value["layer"])
    return from_description(value, OPTION_KINDS)


def _dict_of(keys: Any, values: Any) -> dict[Any, Any]:
    if not isinstance(keys, list) or not isinstance(values, list) or len(keys) != len(values):
        raise ValueError("a dict must have as many keys as values")
    if not all(isinstance(key, (str, int, float)) for key in keys):
        raise ValueError("the keys of a dict must be strings or numbers")
    result = dict(zip(keys, map(from_plain, values), strict=True))
    if len(result) < len(keys):
        raise ValueError("a dict has a key twice")
    return result


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_number, value))


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _optional(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _history(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != set(HISTORIES):
        return False
    if not _numbers(value["loss"]):
        return False
    # None where there is none at all
    further = [values for name, values in value.items() if name != "loss" and values is not None]
    lengths = [len(values) for values in further if isinstance(values, list) and all(map(_optional(_number), values))]
    return lengths == [len(value["loss"])] * len(further)


# numbers and histories that a model file keeps of the fit, and what tells whether a value is one
RECORDS: dict[str, Callable[[Any], bool]] = {
    "n_iter_": _count,
    "history_": _history,
    "t_": _count,
    "loss_": _number,
    "best_loss_": _optional(_number),
    "loss_curve_": _numbers,
    "validation_scores_": _optional(_numbers),
    "best_validation_score_": _optional(_number),
}


def records_of(model: Any) -> dict[str, Any]:
    """The records that a fitted model has, ready for JSON."""
    found = {name: getattr(model, name) for name in RECORDS if hasattr(model, name)}
    if "history_" in found:
        history = {name: plain(found["history_"][name]) for name in HISTORIES}
        # 100,000 times None would be a long list that no array can hold
        found["history_"] = {
            name: values if name == "loss" or any(value is not None for value in values) else None
            for name, values in history.items()
        }
    return {name: value if name == "history_" else plain(value) for name, value in found.items()}


def checked_records(records: Any) -> dict[str, Any]:
    """The attributes that `records_of` described; ValueError if there is no such record or it is none of its kind."""
    if not isinstance(records, dict):
        raise ValueError("the records of the fit must be a dict")
    unknown = sorted(set(records) - set(RECORDS))
    if unknown:
        raise ValueError(f"the model has unknown records: {', '.join(unknown)}")
    for name, value in records.items():
        if not RECORDS[name](value):
            raise ValueError(f"the record {name} does not hold what a fit leaves there")
    result = dict(records)
    if "history_" in records:
        # in the order in which a fit that goes on appends to them
        given = records["history_"]
        epochs = len(given["loss"])
        history = {name: [None] * epochs if given[name] is None else given[name] for name in HISTORIES}
        result["history_"] = {**history, "seconds": [None] * epochs}
    return result


def labels_of(classes: Any) -> np.ndarray:
    """The labels of classes, from their type and their values.

    Parameters
    ----------
    classes : dict
        "dtype": text of the type, "values": list of the labels in ascending order.

    Raises
    ------
    ValueError
        It is not the type of labels, the values are not of it, or they do not ascend.
    """
    text, values = classes["dtype"], classes["values"]
    found = _LABEL_TYPE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"the labels of classes cannot be of the type {text!r}")
    if not isinstance(values, list) or not values:
        raise ValueError("the labels of classes must be a list of at least one")
    kind = text[1]
    allowed = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float), "U": (str,), "O": (str, bool, int, float)}
    if any(type(value) not in allowed[kind] or value != value for value in values):
        raise ValueError(f"there are labels of classes that are not of their type {text}")
    if any(later <= value for value, later in pairwise(values)):
        raise ValueError("the labels of classes must ascend")
    if kind == "U":
        _check_room(int(found[1]), values)
    try:
        labels = np.array(values, np.dtype(text))
    except OverflowError as error:
        raise ValueError(f"there are labels of classes that are not of their type {text}: {error}") from error
    if labels.tolist() != values:
        raise ValueError(f"there are labels of classes that the type {text} cannot hold")
    return labels


def _check_room(width: int, values: list[str]) -> None:
    used = sum(map(len, values))
    if 4 * width * len(values) > ROOM_OF_LABELS + ROOM_OF_A_CHARACTER * used:
        raise ValueError(
            f"{len(values)} labels of classes in strings of {width} characters take much more room than the {used} "
            "characters they have: make them objects, by y.astype(object)"
        )
