"""Rows that come in chunks: what ``fit_stream`` reads, and the batches that are cut from it.

A pass over a stream is one epoch.  Batches are cut as if the chunks were one array: what is left at the end of a chunk
goes to the front of the next one's, so how rows are dealt into chunks changes nothing (unless they are shuffled, which
happens within chunks).  Nothing but the chunk at hand, and a part of a batch, is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pymlp.network import Network
from pymlp.rows import DenseRows, Run, as_taken, joined_rows, rows_of

# X, y as output columns, weight or None: checked, as training takes them
Chunk = tuple[Any, np.ndarray, np.ndarray | None]


class Source:
    """Chunks as the user gives them, read anew for each pass.

    Parameters
    ----------
    source : iterable or callable
        A callable returns an iterator over the chunks, a new one each time.

    Attributes
    ----------
    once : bool
        Whether there can be one pass only: the source is an iterator.
    """

    def __init__(self, source: Any) -> None:
        self.once = False
        self._peeked: tuple[tuple[int, Any], Iterator[tuple[int, Any]]] | None = None
        self._open = source if callable(source) else lambda: source
        if not callable(source):
            if not isinstance(source, Iterable):
                raise ValueError(
                    f"source must be chunks to iterate over, or a callable that gives them, got {source!r}"
                )
            self.once = iter(source) is source

    def _iterator(self) -> Iterator[tuple[int, Any]]:
        opened = self._open()
        if not isinstance(opened, Iterable):
            raise ValueError(f"source must return an iterator over chunks, but it returned {opened!r}")
        # the number among all that are given: by it the user finds the chunk
        return ((number, chunk) for number, chunk in enumerate(opened) if not _is_empty(chunk))

    def peek(self) -> tuple[int, Any]:
        """Number and first chunk with rows, which the next pass will give again; ValueError if there is none."""
        iterator = self._iterator()
        for first in iterator:
            self._peeked = first, iterator
            return first
        raise ValueError("source gave no rows")

    def one_pass(self) -> Iterator[tuple[int, Any]]:
        """All chunks that hold rows, with their numbers among all chunks, counted from 0."""
        if self._peeked is None:
            yield from self._iterator()
            return
        first, iterator = self._peeked
        self._peeked = None
        yield first
        yield from iterator


def _is_empty(chunk: Any) -> bool:
    # what is no chunk at all is not empty either: an error says so later
    return isinstance(chunk, (tuple, list)) and len(chunk) > 0 and getattr(chunk[0], "shape", (1,))[:1] == (0,)


@dataclass(frozen=True)
class Stream:
    """Checked chunks, in the place of an X of all rows.

    Parameters
    ----------
    chunks : callable
        Gives an iterator over the chunks of one pass.
    shape : (int, int)
        Rows of one pass, and inputs.
    """

    chunks: Callable[[], Iterator[Chunk]]
    shape: tuple[int, int]

    def through(self, change: Callable[[Any, np.ndarray], tuple[Any, np.ndarray]]) -> Stream:
        """The stream of ``change(X, y)``."""

        def chunks() -> Iterator[Chunk]:
            for X, y, weight in self.chunks():
                yield *change(X, y), weight

        return replace(self, chunks=chunks)


class StreamedRows:
    """The source of training rows that reads a `Stream`; see `pymlp.rows.DenseRows`.

    Parameters
    ----------
    stream : Stream
    network : Network
    batch_size : int
    shuffle : callable, optional
        Shuffles the row numbers of a chunk in place.
    """

    def __init__(
        self, stream: Stream, network: Network, batch_size: int, shuffle: Callable[[np.ndarray], Any] | None
    ) -> None:
        self.stream, self.network, self.batch_size, self.shuffle = stream, network, batch_size, shuffle
        # what counts is how many there are: they come in their order
        self.numbers = np.broadcast_to(np.int64(0), stream.shape[0])
        self._pieces: Iterator[_Piece] = iter(())
        self._piece: _Piece | None = None
        # steps of this pass that have been given out
        self._given = 0

    def most_steps(self, batch_size: int, first: int = 0) -> int:
        """Batches that are at hand from step `first` of the pass on, at least 1; reads on where there is none."""
        piece = self._piece_at(first)
        return min(piece.rows.most_steps(batch_size), piece.steps - piece.done)

    def _piece_at(self, first: int) -> _Piece:
        if first == 0 and (self._given > 0 or self._piece is None):
            self._pieces, self._piece, self._given = self._one_pass(), None, 0
        if self._piece is None:
            self._piece = next(self._pieces)
        return self._piece

    def run(self, order: np.ndarray, starts: np.ndarray, first: int, last: int) -> Run:
        """X, y, weight, order and starts of the batches first..last-1 of the pass."""
        piece = self._piece_at(first)
        done, piece.done = piece.done, piece.done + last - first
        self._given = last
        if piece.done == piece.steps:
            self._piece = None
            if last == len(starts) - 1:
                # nothing may come after the last
                for _ in self._pieces:
                    pass
        return piece.rows.run(piece.order, piece.starts, done, piece.done)

    def _one_pass(self) -> Iterator[_Piece]:
        """Runs of whole batches: of one chunk, or a single one of rows from several."""
        size, n_rows = self.batch_size, self.stream.shape[0]
        held: list[Chunk] = []
        missing, seen = 0, 0
        for X, y, weight in self.stream.chunks():
            order = np.arange(len(y), dtype=np.int64)
            if self.shuffle is not None:
                self.shuffle(order)
            seen += len(order)
            if seen > n_rows:
                raise ValueError(
                    f"source gave more rows in a pass than the {n_rows} it has by n_rows or its first pass"
                )
            if held:
                taken, order = order[:missing], order[missing:]
                held.append(self._taken(X, y, weight, taken))
                missing -= len(taken)
                if missing == 0 or seen == n_rows:
                    yield self._joined(held)
                    held = []
            whole = len(order) if seen == n_rows else len(order) // size * size
            if whole:
                yield _Piece(rows_of(self.network, X, y, weight), order[:whole], size)
            if len(order) > whole and not held:
                held.append(self._taken(X, y, weight, order[whole:]))
                missing = size - (len(order) - whole)
        if seen < n_rows:
            raise ValueError(
                f"source ended after {seen} rows, but has {n_rows} by n_rows or its first pass; a callable must return "
                "a new iterator each time"
            )

    def _taken(self, X: Any, y: np.ndarray, weight: np.ndarray | None, numbers: np.ndarray) -> Chunk:
        # copies, because the chunk goes away
        return as_taken(self.network, X[numbers]), y[numbers], None if weight is None else weight[numbers]

    def _joined(self, parts: list[Chunk]) -> _Piece:
        X = joined_rows(self.network, [part[0] for part in parts])
        y, weight = np.concatenate([part[1] for part in parts]), None
        if any(part[2] is not None for part in parts):
            each = [np.ones(len(part[1]), y.dtype) if part[2] is None else part[2] for part in parts]
            weight = np.concatenate(each)
        return _Piece(rows_of(self.network, X, y, weight), np.arange(len(y), dtype=np.int64), self.batch_size)


class _Piece:
    """Whole batches of rows at hand, and how many of them are done."""

    def __init__(self, rows: DenseRows, order: np.ndarray, batch_size: int) -> None:
        self.rows, self.order, self.done = rows, order, 0
        self.starts = np.append(np.arange(0, len(order), batch_size, dtype=np.int64), len(order))
        self.steps = len(self.starts) - 1
