"""Where training rows come from: a run of batches, in the form `Plan.train_steps` takes.

Dense arrays of the network's dtype go to the engine as they are, with the row numbers of each batch; so does a sparse
matrix whose numbers a dense layer reads.  Any other sparse matrix is never made dense as a whole, nor is a large array
of another type (pixels in bytes, a memory-mapped file) converted as a whole: only the rows of the run at hand are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from pymlp.arrays import packed
from pymlp.network import Network
from pymlp.sparse_rows import SparseRows

# A run of rows made dense or converted stays below this, or is a single batch.  So short a run is still in the cache
# when the engine reads it, and its memory is used again: on MNIST in bytes that is faster than converting it at once.
DENSE_BYTES = 4 << 20
# an array is converted as a whole where its copy takes no more than this
SMALL_COPY_BYTES = 64 << 20
# of more numbers that are not 0, dense rows are faster
THIN = 0.25

Run = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]


class DenseRows:
    """Rows that an engine takes as they are.

    Parameters
    ----------
    X : C-contiguous ndarray, or SparseRows, of shape (rows, inputs)
    y : ndarray of shape (rows, outputs)
    weight : ndarray of shape (rows,), or None
    numbers : int64 ndarray, optional
        The rows to train on; all by default.
    """

    def __init__(self, X: Any, y: np.ndarray, weight: np.ndarray | None, numbers: np.ndarray | None = None) -> None:
        self.X, self.y, self.weight = X, y, weight
        self.numbers = np.arange(X.shape[0], dtype=np.int64) if numbers is None else numbers

    def most_steps(self, batch_size: int, first: int = 0) -> int:
        """Most batches of one run from step `first` of an epoch on."""
        return sys.maxsize

    def run(self, order: np.ndarray, starts: np.ndarray, first: int, last: int) -> Run:
        """X, y, weight, order and starts of the batches first..last-1 of ``order`` cut at ``starts``."""
        return self.X, self.y, self.weight, order, starts[first : last + 1]


class GatheredRows(DenseRows):
    """Rows of a SciPy matrix in CSR form, or of an array of another dtype than y's; see `DenseRows`."""

    def most_steps(self, batch_size: int, first: int = 0) -> int:
        """Most batches of one run from step `first` of an epoch on."""
        return max(1, DENSE_BYTES // (batch_size * self.X.shape[1] * self.y.dtype.itemsize))

    def run(self, order: np.ndarray, starts: np.ndarray, first: int, last: int) -> Run:
        """X, y, weight, order and starts of the batches first..last-1 of ``order`` cut at ``starts``."""
        numbers = order[starts[first] : starts[last]]
        weight = None if self.weight is None else self.weight[numbers]
        X = _dense(self.X[numbers], self.y.dtype)
        local = np.arange(len(numbers), dtype=np.int64)
        return X, self.y[numbers], weight, local, starts[first : last + 1] - starts[first]


class ChosenRows:
    """Some rows of an array, copied only when they are read.

    Parameters
    ----------
    X : ndarray of shape (rows, inputs)
    numbers : int64 ndarray
    """

    def __init__(self, X: np.ndarray, numbers: np.ndarray) -> None:
        self.X, self.numbers = X, numbers
        self.shape, self.dtype = (len(numbers), X.shape[1]), X.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.X[self.numbers[rows]]


def chosen_rows(X: Any, numbers: np.ndarray) -> Any:
    """Rows of X by their numbers: a copy, unless an array would have a large one."""
    if isinstance(X, np.ndarray) and len(numbers) * X.shape[1] * X.dtype.itemsize > SMALL_COPY_BYTES:
        return ChosenRows(X, numbers)
    return X[numbers]


def rows_of(
    network: Network, X: Any, y: np.ndarray, weight: np.ndarray | None, numbers: np.ndarray | None = None
) -> DenseRows:
    """The source that fits X and the network: `DenseRows` for what an engine takes as it is, else `GatheredRows`."""
    X = as_taken(network, X)
    return (GatheredRows if is_gathered(X, network.dtype) else DenseRows)(X, y, weight, numbers)


def as_taken(network: Network, X: Any) -> Any:
    """A sparse X as the verbs of a plan take it, if the network's inputs may be sparse and that is faster.

    A sparse X that is to be made dense comes back in CSR form, an array as it is.
    """
    if not hasattr(X, "tocsr"):
        return X
    X = X.tocsr()
    thin = network.takes_sparse and X.nnz <= THIN * X.shape[0] * X.shape[1]
    return SparseRows.of(X, network.dtype) if thin else X


def joined_rows(network: Network, parts: list[Any]) -> Any:
    """The rows of several X, as `as_taken` gives them, one after the other: sparse if all are, else dense."""
    if all(isinstance(part, SparseRows) for part in parts):
        return SparseRows.stacked(parts)
    return np.concatenate([_dense(part, network.dtype) for part in parts])


def dense_blocks(X: Any, rows: int, dtype: str) -> Iterator[tuple[slice, np.ndarray]]:
    """Walk over X in blocks of at most `rows` rows, dense and of `dtype`: pairs of (slice, block)."""
    if hasattr(X, "tocsr"):
        X = X.tocsr()
    if is_gathered(X, dtype):
        rows = max(1, min(rows, DENSE_BYTES // max(1, X.shape[1] * np.dtype(dtype).itemsize)))
    for start in range(0, X.shape[0], rows):
        part = slice(start, min(start + rows, X.shape[0]))
        yield part, _dense(X[part], dtype)


def counted_rows(X: Any, weight: np.ndarray | None) -> Any:
    """X, an array or `SparseRows`, with zeros in the rows of weight 0; X itself if there are none.

    Such a row counts as removed, whatever it holds: what overflows on its way would make NaN of a product with 0.
    """
    removed = None if weight is None else weight == 0
    if removed is None or not removed.any():
        return X
    return X.without(removed) if isinstance(X, SparseRows) else np.where(removed[:, np.newaxis], X.dtype.type(0), X)


def is_gathered(X: Any, dtype: str) -> bool:
    """Whether the rows of X must be made dense, or converted to `dtype`, before an engine can take them."""
    if isinstance(X, SparseRows):
        return X.dtype != dtype
    return hasattr(X, "tocsr") or isinstance(X, ChosenRows) or X.dtype != dtype or not X.flags.aligned


def is_converted_late(X: Any, dtype: str) -> bool:
    """Whether X is an array of numbers whose copy, in another dtype or aligned, would be large, so that it stays as it
    is."""
    return (
        isinstance(X, np.ndarray)
        and X.ndim == 2
        and X.dtype.kind in "biuf"
        # of a longdouble the copy is the smaller of the two
        and X.dtype.itemsize <= 8
        and (X.dtype != dtype or not X.flags.aligned)
        and X.size * np.dtype(dtype).itemsize > SMALL_COPY_BYTES
    )


def _dense(X: Any, dtype: Any) -> np.ndarray:
    return packed(X.toarray() if hasattr(X, "tocsr") else X, dtype)
