"""Tables of named columns (pandas, polars, pyarrow) as matrices of numbers, column by column.

Columns of several types have no common NumPy type but ``object``, by which these packages make one array of them: a
Python object for each number.  Here each column is converted by itself, straight into its place.  None of the packages
is imported: a table is told by what it can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

NUMBERS = "biuf"


def columns_of(X: Any) -> list[tuple[Any, Any]] | None:
    """Names and columns of a table; None if X is no table, or one of sparse columns."""
    if isinstance(X, np.ndarray):
        return None
    if hasattr(X, "iloc") and getattr(X, "ndim", 0) == 2:
        if any(hasattr(dtype, "fill_value") for dtype in X.dtypes):
            return None
        return [(name, X.iloc[:, position]) for position, name in enumerate(X.columns)]
    if hasattr(X, "get_columns") and hasattr(X, "to_numpy"):
        return [(column.name, column) for column in X.get_columns()]
    if hasattr(X, "column_names") and hasattr(X, "itercolumns"):
        return list(zip(X.column_names, X.itercolumns(), strict=True))
    return None


def _type_of(column: Any) -> np.dtype:
    # the NumPy type of a column's numbers; object where there is none
    kind = getattr(column, "dtype", None)
    try:
        if kind is None:
            # pyarrow
            return np.dtype(column.type.to_pandas_dtype())
        if hasattr(column, "iloc"):
            # pandas: its own types of numbers name NumPy's
            return np.dtype(getattr(kind, "numpy_dtype", kind))
        # polars; no numbers make an empty array
        return column.clear().to_numpy().dtype
    except (NotImplementedError, TypeError):
        return np.dtype(object)


def _numbers(column: Any, dtype: np.dtype) -> np.ndarray:
    # missing values become NaN
    if hasattr(column, "iloc"):
        return column.to_numpy(dtype, na_value=np.nan)
    values = column.to_numpy()
    if values.dtype.kind == "O":
        return np.array([np.nan if value is None else value for value in values], dtype)
    return values


def matrix_of(columns: Sequence[tuple[Any, Any]], dtypes: tuple[str, ...]) -> np.ndarray:
    """The columns as one C-contiguous array (rows, columns).

    Parameters
    ----------
    columns : sequence of (name, column)
        See `columns_of`.
    dtypes : tuple of str
        Types of the result: that of the columns, or the first if theirs is none of them.

    Raises
    ------
    ValueError
        A column does not hold numbers.
    """
    types = [_type_of(column) for _, column in columns]
    for (name, _), kind in zip(columns, types, strict=True):
        if kind.kind not in NUMBERS + "O":
            raise ValueError(f"column {name!r} of X does not hold numbers: it is of type {kind}")
    common = np.result_type(*types) if types else np.dtype(object)
    dtype = common if common in [np.dtype(name) for name in dtypes] else np.dtype(dtypes[0])
    matrix = np.empty((len(columns[0][1]) if columns else 0, len(columns)), dtype)
    for position, (name, column) in enumerate(columns):
        try:
            # what the type cannot hold becomes infinite, which the check of numbers reports with its place
            with np.errstate(over="ignore"):
                matrix[:, position] = _numbers(column, dtype)
        except (TypeError, ValueError) as error:
            raise ValueError(f"column {name!r} of X does not hold numbers: {error}") from error
    return matrix
