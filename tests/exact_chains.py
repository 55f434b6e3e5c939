"""Products worked out exactly, for every length of their chains at once, and how far an engine may be off.

Floating-point numbers are integers times a power of two, and Python's integers have as many digits as they need: so the
sums here have no error at all.  An element of a product depends on its row, its column and where its chain ends; so the
exact sums of the largest sizes are those of all smaller ones too, which makes an oracle of plain integers fast enough
for a million products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# numbers are multiples of 2**-SCALE: what `full_numbers` draws is, down to its last bit
SCALE = 140


def full_numbers(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Random numbers of several sizes and both signs, all of whose bits count."""
    draw = np.random.default_rng(seed)
    return np.ldexp(draw.standard_normal(shape), draw.integers(-4, 5, shape)).astype(dtype)


@dataclass(frozen=True)
class Chains:
    """Exact sums after some numbers of terms, and what an engine may be off.

    Attributes
    ----------
    ends : ndarray of int
        The numbers of terms, ascending.
    high, low : ndarray of shape (ends, rows, columns)
        Two float64 whose sum the exact one is, to 100 bits.
    size : ndarray of the same shape
        The sums of the absolute values.
    starts : bool
        Whether chains start from a number other than 0.
    """

    ends: np.ndarray
    high: np.ndarray
    low: np.ndarray
    size: np.ndarray
    starts: bool

    def within(self, dtype: str, fused: bool) -> Bounded:
        """The sums with the errors that are allowed.

        That is gamma_n |A| |B|, the bound of every chain with n roundings, and no more than 8 sqrt(n) u |A| |B|, which
        chains of random numbers keep.
        """
        unit = float(np.finfo(dtype).eps) / 2
        # without fused multiply-add a product and its sum are two roundings, but for a first sum onto 0, which is exact
        n = (self.ends + (0 if fused or not self.starts else 1)).astype(np.float64)[:, None, None]
        allowed = np.minimum(n * unit / (1 - n * unit), 8 * np.sqrt(n) * unit) * self.size
        return Bounded(self.ends, self.high, self.low, np.maximum(allowed, np.finfo(np.float64).tiny))


@dataclass(frozen=True)
class Bounded:
    """Exact numbers ``high + low``, and the errors that are allowed; `ends` as in `Chains`, along the first axis."""

    ends: np.ndarray
    high: np.ndarray
    low: np.ndarray
    allowed: np.ndarray

    def after(self, terms: np.ndarray | int, *index: Any) -> Bounded:
        """The numbers after so many terms, at an index of the other axes."""
        at = (np.searchsorted(self.ends, terms), *index)
        return Bounded(self.ends, self.high[at], self.low[at], self.allowed[at])

    def corner(self, rows: int, columns: int) -> Bounded:
        """Of the numbers after some terms, the first rows and columns."""
        at = slice(rows), slice(columns)
        return Bounded(self.ends, self.high[at], self.low[at], self.allowed[at])

    def times(self, factor: np.ndarray) -> Bounded:
        """The numbers times 0 or 1, with their errors."""
        return Bounded(self.ends, self.high * factor, self.low * factor, self.allowed)

    def share(self, found: np.ndarray) -> float:
        """The largest error of `found` as a share of what is allowed; infinite if there is a NaN."""
        if found.size == 0:
            return 0.0
        worst = float((np.abs((found - self.high) - self.low) / self.allowed).max())
        return math.inf if math.isnan(worst) else worst


def exact_chains(
    left: np.ndarray, right: np.ndarray, start: np.ndarray | None = None, ends: Sequence[int] | None = None
) -> Chains:
    """Of ``start + left @ right``; left is (rows, terms), right (terms, columns), start broadcasts to (rows, columns).

    `ends` are the numbers of terms to keep, ascending; by default all from 0 on.
    """
    a, b = _integers(left, SCALE), _integers(right, SCALE)
    sizes_of_terms = np.abs(left.T[:, :, None].astype(np.float64) * right[:, None].astype(np.float64))
    shape = len(left), right.shape[1]
    begin = np.zeros(shape) if start is None else np.broadcast_to(np.asarray(start, np.float64), shape)
    total, size = _integers(begin, 2 * SCALE), np.abs(begin)
    kept = range(left.shape[1] + 1) if ends is None else ends
    sums, sizes = [], []
    for k in range(kept[-1] + 1):
        if k > 0:
            total = total + a[:, k - 1, None] * b[None, k - 1]
            size = size + sizes_of_terms[k - 1]
        if k in kept:
            sums.append(total)
            sizes.append(size)
    exact = np.array(sums, object)
    # integers are divided with one rounding
    high = (exact / (1 << 2 * SCALE)).astype(np.float64)
    rest = exact - _integers(high, 2 * SCALE)
    low = (rest / (1 << 2 * SCALE)).astype(np.float64)
    return Chains(np.array(kept), high, low, np.array(sizes), start is not None)


def _integers(numbers: np.ndarray, scale: int) -> np.ndarray:
    # as multiples of 2**-scale; a number that is none would lose bits unseen
    scaled = [int(math.ldexp(float(number), scale)) for number in numbers.ravel()]
    back = [math.ldexp(number, -scale) for number in scaled]
    assert np.array_equal(back, numbers.ravel().astype(np.float64)), "numbers below the resolution"
    found = np.empty(len(scaled), object)
    found[:] = scaled
    return found.reshape(numbers.shape)
