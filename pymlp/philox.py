"""Philox4x32-10, the counter-based generator that dropout masks come from.

A mask is a function of the network's seed, the step, the row of the table of layers, the row's place in the batch and
the unit, so none is stored, and every backend, thread and instruction set draws the same one.  Salmon, Moraes, Dror and
Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

from __future__ import annotations

import numpy as np

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW = np.uint64(0xFFFFFFFF)


def philox(counter: tuple[np.ndarray, ...], key: tuple[int, int]) -> list[np.ndarray]:
    """Four 32-bit words for each counter.

    Parameters
    ----------
    counter : tuple of 4 uint64 ndarrays of one shape
        Each holds 32-bit words.
    key : tuple of 2 int
        32-bit words.

    Returns
    -------
    list of 4 uint64 ndarrays
        Numbers below 2**32.
    """
    first, second, third, fourth = (np.asarray(word, np.uint64) for word in counter)
    key = list(key)
    shift = np.uint64(32)
    for _ in range(ROUNDS):
        left, right = first * np.uint64(MULTIPLIERS[0]), third * np.uint64(MULTIPLIERS[1])
        first, second, third, fourth = (
            (right >> shift) ^ second ^ np.uint64(key[0]),
            right & LOW,
            (left >> shift) ^ fourth ^ np.uint64(key[1]),
            left & LOW,
        )
        key = [(word + step) & 0xFFFFFFFF for word, step in zip(key, KEY_STEPS, strict=True)]
    return [first, second, third, fourth]


def kept(rate: float, rows: int, units: int, *, seed: int, step: int, layer: int, first_row: int = 0) -> np.ndarray:
    """Which units dropout keeps: bool array of shape (rows, units).

    Parameters
    ----------
    rate : float
        Probability that a unit is dropped.
    rows, units : int
    seed : int
        64 bits.
    step : int
        Number of the training step.
    layer : int
        Number of the row in the network's table of layers.
    first_row : int
        Place in the batch of the first row.
    """
    blocks = (units + 3) // 4
    unit, row = np.meshgrid(np.arange(blocks, dtype=np.uint64), np.arange(first_row, first_row + rows, dtype=np.uint64))
    tail = np.full(unit.shape, layer | (step >> 32) << 16, np.uint64)
    low_step = np.full(unit.shape, step & 0xFFFFFFFF, np.uint64)
    words = philox((unit, row, low_step, tail), (seed & 0xFFFFFFFF, seed >> 32))
    drawn = np.stack(words, axis=2).reshape(rows, 4 * blocks)[:, :units]
    return drawn >= np.uint64(threshold(rate))


def threshold(rate: float) -> int:
    """The least 32-bit word at which a unit is kept."""
    return int(rate * 4294967296.0 + 0.5)
