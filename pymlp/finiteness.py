"""Finding the first NaN or infinity of an array, chunk by chunk, so that an error can name its place.

Arrays that are memory-mapped or larger than the free memory are looked at without a copy of the whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np

CHUNK_ELEMENTS = 1 << 20

# row, column, and the number as it is in the array
Place = tuple[int, int, Any]


def first_non_finite(array: Any, dtype: Any = None) -> Place | None:
    """Row, column and value of the first number that is not finite.

    Parameters
    ----------
    array : ndarray of shape (rows,) or (rows, columns), or a SciPy sparse matrix
        Anything that is not of a floating type counts as finite.
    dtype : dtype, optional
        The type the numbers will be converted to: what is too large for it counts as not finite.

    Returns
    -------
    tuple of (int, int, number), or None
    """
    if hasattr(array, "tocsr"):
        return _first_in_sparse(array.tocsr(), dtype)
    if array.dtype.kind != "f" or array.size == 0:
        return None
    rows_per_chunk = max(1, CHUNK_ELEMENTS // max(1, array.size // len(array)))
    for start in range(0, len(array), rows_per_chunk):
        chunk = np.asarray(array[start : start + rows_per_chunk])
        chunk = chunk.reshape(len(chunk), -1)
        finite = _is_finite(chunk, dtype)
        if not finite.all():
            row, column = np.unravel_index(int(np.argmin(finite)), finite.shape)
            return start + int(row), int(column), chunk[row, column]
    return None


def _first_in_sparse(matrix: Any, dtype: Any) -> Place | None:
    if matrix.data.dtype.kind != "f":
        return None
    bad = np.flatnonzero(~_is_finite(matrix.data, dtype))
    if not len(bad):
        return None
    row = int(np.searchsorted(matrix.indptr, bad[0], side="right")) - 1
    # within a row the column numbers need not be sorted
    in_row = bad[bad < matrix.indptr[row + 1]]
    first = in_row[np.argmin(matrix.indices[in_row])]
    return row, int(matrix.indices[first]), matrix.data[first]


def _is_finite(numbers: np.ndarray, dtype: Any) -> np.ndarray:
    if dtype is None or numbers.dtype == dtype:
        return np.isfinite(numbers)
    with np.errstate(over="ignore"):
        return np.isfinite(numbers.astype(dtype))


def described(name: str, found: Place, *, has_columns: bool, dtype: Any = None, names: Any = None) -> str:
    """What an error says of a number that is not finite.

    Parameters
    ----------
    name : str
        What the array is called.
    found : tuple
        From `first_non_finite`.
    has_columns : bool
        Whether the array has two dimensions.
    dtype : str, optional
        The type the numbers are to be converted to.
    names : sequence, optional
        Names of the columns.
    """
    row, column, value = found
    place = f"row {row}"
    if has_columns:
        place += f", column {column}" + ("" if names is None else f" ({names[column]!r})")
    if np.isnan(value):
        return f"Input {name} contains NaN: first in {place} (counted from 0)."
    kind = "infinity"
    # of a narrow type infinity is also what became of a large number
    if np.isfinite(value) or dtype == "float32":
        kind += f" or a value too large for {dtype}"
    # not by format(), for which a longdouble is a float; of some numbers the point is left
    number = np.format_float_scientific(value, precision=6, trim="-").replace(".e", "e")
    return f"Input {name} contains {kind}: first in {place} (counted from 0), where it is {number}."


def check_finite(name: str, array: Any, dtype: Any = None) -> None:
    """Raise ValueError naming the first row and column of `array` that hold NaN or infinity, also once in `dtype`."""
    found = first_non_finite(array, dtype)
    if found is not None:
        raise ValueError(described(name, found, has_columns=array.ndim == 2, dtype=dtype))
