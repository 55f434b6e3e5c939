"""Finding the first NaN or infinity of an array, chunk by chunk, so that an error can name its place.

Arrays that are memory-mapped or larger than the free memory are looked at without a copy of the whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np

CHUNK_ELEMENTS = 1 << 20


def first_non_finite(array: Any, dtype: Any = None) -> tuple[int, int, str] | None:
    """Row, column and kind ("NaN" or "infinity") of the first number that is not finite.

    Parameters
    ----------
    array : ndarray of shape (rows,) or (rows, columns), or a SciPy sparse matrix
        Anything that is not of a floating type counts as finite.
    dtype : dtype, optional
        The type the numbers of a dense array will be converted to: what is too large for it counts as infinity.

    Returns
    -------
    tuple of (int, int, str), or None
    """
    if hasattr(array, "tocsr"):
        return _first_in_sparse(array.tocsr())
    if array.dtype.kind != "f" or array.size == 0:
        return None
    rows_per_chunk = max(1, CHUNK_ELEMENTS // max(1, array.size // len(array)))
    for start in range(0, len(array), rows_per_chunk):
        with np.errstate(over="ignore"):
            chunk = np.asarray(array[start : start + rows_per_chunk], dtype)
        chunk = chunk.reshape(len(chunk), -1)
        finite = np.isfinite(chunk)
        if not finite.all():
            row, column = np.unravel_index(int(np.argmin(finite)), finite.shape)
            return start + int(row), int(column), _kind(chunk[row, column])
    return None


def _first_in_sparse(matrix: Any) -> tuple[int, int, str] | None:
    if matrix.data.dtype.kind != "f":
        return None
    bad = np.flatnonzero(~np.isfinite(matrix.data))
    if not len(bad):
        return None
    row = int(np.searchsorted(matrix.indptr, bad[0], side="right")) - 1
    # within a row the column numbers need not be sorted
    in_row = bad[bad < matrix.indptr[row + 1]]
    first = in_row[np.argmin(matrix.indices[in_row])]
    return row, int(matrix.indices[first]), _kind(matrix.data[first])


def _kind(value: float) -> str:
    return "NaN" if np.isnan(value) else "infinity"


def check_finite(name: str, array: Any, dtype: Any = None) -> None:
    """Raise ValueError naming the first row and column of `array` that hold NaN or infinity, also once in `dtype`."""
    found = first_non_finite(array, dtype)
    if found is not None:
        row, column, kind = found
        place = f"row {row}" if array.ndim == 1 else f"row {row}, column {column}"
        raise ValueError(f"Input {name} contains {kind} in {place} (counted from 0).")
