"""Losses and penalties of the Numba backend; what each computes is defined in `pymlp.functions` and `Network`.

Sums are taken in double: a row's loss is a handful of numbers, and a batch's may be a million rows.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pymlp.backends.numba_functions import OPTIONS, clear

# sums whose order does not matter may be taken a vector at a time
SUM_OPTIONS = {**OPTIONS, "fastmath": {"contract", "reassoc"}}

LOSS_CODES = {"squared_error": 0, "log_loss": 1, "binary_log_loss": 2, "poisson": 3}
SQUARED_ERROR, LOG_LOSS, BINARY_LOG_LOSS, POISSON = range(4)


@njit(**OPTIONS)
def row_loss(loss, y, output, epsilon):
    """Reported loss of one row, in double; `epsilon` is that of the network's dtype."""
    total = 0.0
    for j in range(len(y)):
        target, value = np.float64(y[j]), np.float64(output[j])
        if loss == SQUARED_ERROR:
            total += (target - value) ** 2
        elif loss == POISSON:
            total += (target * math.log(target / value) if target != 0.0 else 0.0) - target + value
        else:
            # bounds as conditions that let NaN through
            p = epsilon if value < epsilon else value
            p = 1.0 - epsilon if p > 1.0 - epsilon else p
            if target != 0.0:
                total -= target * math.log(p)
            if loss == BINARY_LOG_LOSS and target != 1.0:
                total -= (1.0 - target) * math.log(1.0 - p)
    return 0.5 * total / len(y) if loss == SQUARED_ERROR else total


@njit(**OPTIONS)
def loss_and_deltas(loss, y, outputs, columns, weight, weight_sum, epsilon, deltas):
    """Sum of the weighted losses of the rows of y; their gradient by the scores, over `weight_sum`, goes to `deltas`.

    `y` is (rows, outputs), `outputs` and `deltas` are flat with `columns` numbers a row, `weight` is empty or (rows,).
    """
    total = 0.0
    rows, width = y.shape
    for row in range(rows):
        output = outputs[row * columns : row * columns + width]
        delta = deltas[row * columns : (row + 1) * columns]
        clear(delta)
        row_weight = np.float64(weight[row]) if len(weight) else 1.0
        # a row of weight zero counts as removed, even where its loss is infinite
        if row_weight != 0.0:
            total += row_weight * row_loss(loss, y[row], output, epsilon)
            factor = y.dtype.type(row_weight / weight_sum)
            for j in range(width):
                delta[j] = (output[j] - y[row, j]) * factor
    return total


@njit(**SUM_OPTIONS)
def penalise(pieces, params, gradient, l1, l2, weight_sum):
    """Add the gradient of the penalties, over `weight_sum`, and return the penalties (not divided)."""
    total_1 = 0.0
    total_2 = 0.0
    for layer in range(len(pieces)):
        W = params[pieces[layer, 0] : pieces[layer, 1]]
        G = gradient[pieces[layer, 0] : pieces[layer, 1]]
        if l2 != 0.0:
            factor = params.dtype.type(l2 / weight_sum)
            for i in range(len(W)):
                total_2 += np.float64(W[i]) * np.float64(W[i])
                G[i] += factor * W[i]
        if l1 != 0.0:
            factor = params.dtype.type(l1 / weight_sum)
            for i in range(len(W)):
                total_1 += abs(np.float64(W[i]))
                G[i] += factor * np.sign(W[i])
    return l1 * total_1 + 0.5 * l2 * total_2
