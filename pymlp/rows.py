"""Where training rows come from: a run of batches, in the form `Plan.train_steps` takes.

Dense arrays go to the engine as they are, with the row numbers of each batch.  A sparse matrix is never made dense as a
whole: only the rows of the run at hand are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

# a run of sparse rows made dense stays below this, or is a single batch
DENSE_BYTES = 64 << 20

Run = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]


class DenseRows:
    """Rows of a C-contiguous array.

    Parameters
    ----------
    X : ndarray of shape (rows, inputs)
    y : ndarray of shape (rows, outputs)
    weight : ndarray of shape (rows,), or None
    numbers : int64 ndarray, optional
        The rows to train on; all by default.
    """

    def __init__(self, X: Any, y: np.ndarray, weight: np.ndarray | None, numbers: np.ndarray | None = None) -> None:
        self.X, self.y, self.weight = X, y, weight
        self.numbers = np.arange(X.shape[0], dtype=np.int64) if numbers is None else numbers

    def most_steps(self, batch_size: int) -> int:
        """Most batches of one run."""
        return len(self.numbers)

    def run(self, order: np.ndarray, starts: np.ndarray, first: int, last: int) -> Run:
        """X, y, weight, order and starts of the batches first..last-1 of ``order`` cut at ``starts``."""
        return self.X, self.y, self.weight, order, starts[first : last + 1]


class SparseRows(DenseRows):
    """Rows of a SciPy matrix in CSR form; see `DenseRows`."""

    def most_steps(self, batch_size: int) -> int:
        """Most batches of one run."""
        return max(1, DENSE_BYTES // (batch_size * self.X.shape[1] * self.X.dtype.itemsize))

    def run(self, order: np.ndarray, starts: np.ndarray, first: int, last: int) -> Run:
        """X, y, weight, order and starts of the batches first..last-1 of ``order`` cut at ``starts``."""
        numbers = order[starts[first] : starts[last]]
        weight = None if self.weight is None else self.weight[numbers]
        X = np.ascontiguousarray(self.X[numbers].toarray())
        local = np.arange(len(numbers), dtype=np.int64)
        return X, self.y[numbers], weight, local, starts[first : last + 1] - starts[first]


def rows_of(X: Any, y: np.ndarray, weight: np.ndarray | None, numbers: np.ndarray | None = None) -> DenseRows:
    """The source that fits X: `SparseRows` for a SciPy matrix (made CSR), else `DenseRows`."""
    if hasattr(X, "tocsr"):
        return SparseRows(X.tocsr(), y, weight, numbers)
    return DenseRows(X, y, weight, numbers)


def dense_blocks(X: Any, rows: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Walk over X in blocks of at most `rows` rows, made dense where X is sparse: pairs of (slice, block)."""
    sparse = hasattr(X, "tocsr")
    if sparse:
        X = X.tocsr()
        rows = max(1, min(rows, DENSE_BYTES // max(1, X.shape[1] * X.dtype.itemsize)))
    for start in range(0, X.shape[0], rows):
        part = slice(start, min(start + rows, X.shape[0]))
        yield part, np.ascontiguousarray(X[part].toarray()) if sparse else X[part]
