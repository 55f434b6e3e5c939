"""`SparseRows`: a matrix by its numbers that are not 0, as the backends take it (CSR), without SciPy.

Rows are cut out and taken together without ever being dense.  The two products of a dense layer are here as the NumPy
backend writes them, ``x @ W`` and ``x.T @ deltas``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pymlp.arrays import packed

# numbers of a product's summands, and of indices looked at, in one go
PIECE = 1 << 20
# C counts columns by 32 bits
MOST_COLUMNS = 2**31 - 1


class SparseRows:
    """A matrix in CSR form, checked: what a `pymlp.backends.Plan` takes for a sparse X.

    Parameters
    ----------
    data : array-like of shape (numbers,)
        The numbers, row by row.
    indices : array-like of shape (numbers,)
        Their columns, ascending within a row, each once.
    indptr : array-like of shape (rows + 1,)
        Where each row starts in both.
    shape : (int, int)
    dtype : dtype, optional
        Of the numbers; by default that of `data`.

    Raises
    ------
    ValueError
        The arrays do not describe a matrix of that shape; the message names the one that does not fit.

    Examples
    --------
    >>> from pymlp import SparseRows
    >>> SparseRows([2.0, 1.0], [0, 2], [0, 1, 2], (2, 3)).toarray()
    array([[2., 0., 0.],
           [0., 0., 1.]])
    """

    __slots__ = ("data", "indices", "indptr", "shape")
    ndim = 2

    def __init__(self, data: Any, indices: Any, indptr: Any, shape: tuple[int, int], dtype: Any = None) -> None:
        rows, columns = (int(size) for size in shape)
        self.data, indptr = packed(data, dtype), packed(indptr, np.int64)
        if indptr.shape != (rows + 1,) or (np.diff(indptr) < 0).any() or indptr[0] < 0:
            raise ValueError(f"indptr must hold {rows + 1} places that do not descend, got an array of {indptr.shape}")
        if columns > MOST_COLUMNS:
            raise ValueError(f"shape has {columns} columns, more than {MOST_COLUMNS}")
        indices = np.asarray(indices)
        if self.data.ndim != 1 or indices.shape != self.data.shape or indptr[-1] > len(indices):
            raise ValueError(
                f"data and indices must be as long as indptr says, {indptr[-1]}, got {self.data.shape} and "
                f"{indices.shape}"
            )
        if len(indices) and (indices.min() < 0 or indices.max() >= columns):
            raise ValueError(f"indices must lie in 0 to {columns - 1}, got {indices.min()} to {indices.max()}")
        self.indices, self.indptr, self.shape = packed(indices, np.int32), indptr, (rows, columns)
        _check_ascent(self.indices, indptr)

    @classmethod
    def of(cls, X: Any, dtype: Any) -> SparseRows:
        """A SciPy sparse matrix, or rows like these, with numbers of `dtype`; what fits already is not copied."""
        X = X.tocsr()
        if isinstance(X, cls):
            return X if X.dtype == dtype else cls._made(X.data.astype(dtype), X.indices, X.indptr, X.shape)
        if not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
        return cls(X.data, X.indices, X.indptr, X.shape, dtype)

    @classmethod
    def _made(cls, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]) -> SparseRows:
        # of parts that are right
        new = object.__new__(cls)
        new.data, new.indices, new.indptr, new.shape = data, indices, indptr, shape
        return new

    @classmethod
    def stacked(cls, parts: list[SparseRows]) -> SparseRows:
        """The rows of several, one after the other; they must have the same width and dtype."""
        numbers = [slice(part.indptr[0], part.indptr[-1]) for part in parts]
        lengths = np.concatenate([np.diff(part.indptr) for part in parts])
        return cls._made(
            np.concatenate([part.data[place] for part, place in zip(parts, numbers, strict=True)]),
            np.concatenate([part.indices[place] for part, place in zip(parts, numbers, strict=True)]),
            np.append(0, np.cumsum(lengths)),
            (len(lengths), parts[0].shape[1]),
        )

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        return self.data.dtype

    @property
    def nnz(self) -> int:
        """How many numbers the rows have."""
        return int(self.indptr[-1] - self.indptr[0])

    def __len__(self) -> int:
        return self.shape[0]

    def tocsr(self) -> SparseRows:
        """Itself; so that it passes for a sparse matrix."""
        return self

    def astype(self, dtype: Any) -> SparseRows:
        """The same with numbers of `dtype`."""
        return SparseRows.of(self, dtype)

    def __getitem__(self, rows: Any) -> SparseRows:
        """Some of the rows: a slice without a step copies no numbers; or row numbers."""
        if isinstance(rows, slice) and rows.step in (None, 1):
            start, stop, _ = rows.indices(len(self))
            stop = max(start, stop)
            return self._made(self.data, self.indices, self.indptr[start : stop + 1], (stop - start, self.shape[1]))
        rows = np.arange(len(self))[rows]
        lengths = np.diff(self.indptr)[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.indptr[rows] - indptr[:-1], lengths) + np.arange(indptr[-1])
        return self._made(self.data[places], self.indices[places], indptr, (len(rows), self.shape[1]))

    def without(self, removed: np.ndarray) -> SparseRows:
        """The same with no numbers in the rows that are True in `removed`, an array of shape (rows,)."""
        lengths = np.diff(self.indptr)
        numbers = slice(self.indptr[0], self.indptr[-1])
        stays = np.repeat(~removed, lengths)
        indptr = np.append(0, np.cumsum(np.where(removed, 0, lengths)))
        return self._made(self.data[numbers][stays], self.indices[numbers][stays], indptr, self.shape)

    def toarray(self) -> np.ndarray:
        """The matrix as an array of shape (rows, columns)."""
        dense = np.zeros(self.shape, self.dtype)
        first, last = self.indptr[0], self.indptr[-1]
        dense[self._row_numbers(0, len(self)), self.indices[first:last]] = self.data[first:last]
        return dense

    def _row_numbers(self, first: int, last: int) -> np.ndarray:
        return np.repeat(np.arange(first, last), np.diff(self.indptr[first : last + 1]))

    def _pieces(self, outputs: int) -> Iterator[tuple[int, int]]:
        # rows of which the summands of a product with so many outputs stay small
        most = max(1, PIECE // max(1, outputs))
        first = 0
        while first < len(self):
            last = int(np.searchsorted(self.indptr, self.indptr[first] + most, side="right")) - 1
            last = min(max(last, first + 1), len(self))
            yield first, last
            first = last

    def __matmul__(self, matrix: np.ndarray) -> np.ndarray:
        """Product with an array of shape (columns, outputs)."""
        result = np.zeros((len(self), matrix.shape[1]), matrix.dtype)
        for first, last in self._pieces(matrix.shape[1]):
            starts = self.indptr[first : last + 1]
            part = slice(starts[0], starts[-1])
            filled = np.flatnonzero(np.diff(starts))
            if len(filled):
                summands = self.data[part, None] * matrix[self.indices[part]]
                result[first + filled] = np.add.reduceat(summands, starts[filled] - starts[0])
        return result

    @property
    def T(self) -> Transposed:
        """The transpose, as a factor on the left."""
        return Transposed(self)


class Transposed:
    """The transpose of `SparseRows`, which can be multiplied and nothing else."""

    def __init__(self, rows: SparseRows) -> None:
        self.rows = rows

    def __matmul__(self, matrix: np.ndarray) -> np.ndarray:
        """Product with an array of shape (rows, outputs)."""
        rows = self.rows
        result = np.zeros((rows.shape[1], matrix.shape[1]), matrix.dtype)
        for first, last in rows._pieces(matrix.shape[1]):
            part = slice(rows.indptr[first], rows.indptr[last])
            by_column = np.argsort(rows.indices[part], kind="stable")
            columns = rows.indices[part][by_column]
            if len(columns):
                summands = rows.data[part][by_column, None] * matrix[rows._row_numbers(first, last)[by_column]]
                starts = np.flatnonzero(np.append(True, columns[1:] != columns[:-1]))
                result[columns[starts]] += np.add.reduceat(summands, starts)
        return result


def _check_ascent(indices: np.ndarray, indptr: np.ndarray) -> None:
    for start in range(int(indptr[0]) + 1, int(indptr[-1]), PIECE):
        stop = min(start + PIECE, int(indptr[-1]))
        falls = start + np.flatnonzero(indices[start:stop] <= indices[start - 1 : stop - 1])
        within = falls[indptr[np.searchsorted(indptr, falls)] != falls]
        if len(within):
            row = int(np.searchsorted(indptr, within[0], side="right")) - 1
            raise ValueError(f"indices must ascend within a row, but those of row {row} (counted from 0) do not")
