"""Long lists of a state as arrays: what a JSON text within bounds has no room for.

A model file keeps the history of every epoch, the labels of the classes, the names of the columns.  As JSON, 100,000
of them would need a header of megabytes, whose parsing takes more time and memory than the weights.  So lists of more
than `LONGEST` numbers or strings lie beside the weights as arrays, and the JSON text names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pymlp.container import ModelFormatError, shown

# items of a list that stays in the JSON text
LONGEST = 256
# the one key of what stands for a list; its value is the name of an array
REFERENCE = "array"
# between strings, which therefore must not hold it
SEPARATOR = "\0"


def _array_of(values: list[Any]) -> np.ndarray | None:
    """A list as an array from which `_list_of` makes an equal one; None if there is none."""
    kinds = set(map(type, values))
    if kinds == {float}:
        return np.array(values, np.float64)
    if kinds == {int} and min(values) >= -(2**63) and max(values) < 2**63:
        return np.array(values, np.int64)
    if kinds == {str} and not any(SEPARATOR in value for value in values):
        return np.frombuffer(SEPARATOR.join(values).encode(), np.uint8)
    return None


def _list_of(name: str, array: np.ndarray) -> list[Any]:
    if array.ndim != 1 or array.dtype.name not in ("float64", "int64", "uint8"):
        raise ModelFormatError(f"{name} is no list, but {array.dtype} of shape {list(array.shape)}")
    if array.dtype != np.uint8:
        return array.tolist()
    try:
        return array.tobytes().decode().split(SEPARATOR)
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"{name} must hold UTF-8: {error}") from error


def detach(state: dict[str, Any], prefix: str = "state") -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Take long lists out of a state of numbers, strings, lists and dicts.

    Parameters
    ----------
    state : dict
    prefix : str
        The arrays are called ``prefix.0``, ``prefix.1``, ...

    Returns
    -------
    state : dict
        With references in place of the lists.
    arrays : dict of str to ndarray
        Of float64, int64, or uint8 for strings; each of one dimension.

    Raises
    ------
    ValueError
        The state has a dict that would be taken for a reference, or a string that is not Unicode.
    """
    arrays: dict[str, np.ndarray] = {}

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {REFERENCE}:
                raise ValueError(f"a dict with the one key {REFERENCE!r} cannot be kept")
            return {name: without(item) for name, item in value.items()}
        if not isinstance(value, (list, tuple)):
            return value
        array = _array_of(list(value)) if len(value) > LONGEST else None
        if array is None:
            return [without(item) for item in value]
        name = f"{prefix}.{len(arrays)}"
        arrays[name] = array
        return {REFERENCE: name}

    return without(state), arrays


def attach(state: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Undo `detach`.

    Raises
    ------
    ModelFormatError
        An array is missing, is no list, or is not used exactly once.
    """
    unused = dict(arrays)

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(item) for item in value]
        if not isinstance(value, dict):
            return value
        if set(value) != {REFERENCE}:
            return {name: whole(item) for name, item in value.items()}
        name = value[REFERENCE]
        if not isinstance(name, str) or name not in unused:
            raise ModelFormatError(f"there is no array {shown(name)}, or it is there for another list")
        return _list_of(name, unused.pop(name))

    result = whole(state)
    if unused:
        raise ModelFormatError(f"nothing uses the array {shown(next(iter(unused)))}")
    return result
