"""Validation scores, straight from a network's outputs: an epoch of a small network is shorter than a call of the
metrics of scikit-learn, whose values these equal."""

from __future__ import annotations

import numpy as np


def accuracy(decisions: np.ndarray, expected: np.ndarray, weight: np.ndarray | None) -> float:
    """Weighted share of rows whose decisions are all as expected.

    Parameters
    ----------
    decisions, expected : ndarray of shape (rows,) or (rows, columns)
    weight : ndarray of shape (rows,), or None
    """
    correct = decisions == expected
    if correct.ndim == 2:
        correct = correct.all(axis=1)
    return float(np.average(correct, weights=weight))


def _counted(
    outputs: np.ndarray, expected: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The rows whose weight is not 0: the others count as removed, whatever a network says of them."""
    if weight is None or weight.all():
        return outputs, expected, weight
    counted = weight != 0
    return outputs[counted], expected[counted], weight[counted]


def r2(outputs: np.ndarray, expected: np.ndarray, weight: np.ndarray | None) -> float:
    """Coefficient of determination, averaged over the columns; NaN where an output is not finite.

    Parameters
    ----------
    outputs, expected : ndarray of shape (rows, columns)
    weight : ndarray of shape (rows,), or None
    """
    outputs, expected, weight = _counted(outputs, expected, weight)
    if not np.isfinite(outputs).all():
        return float("nan")
    column_weight = 1.0 if weight is None else weight[:, None]
    residual = (column_weight * (expected - outputs) ** 2).sum(axis=0, dtype=np.float64)
    centred = expected - np.average(expected, axis=0, weights=weight)
    total = (column_weight * centred**2).sum(axis=0, dtype=np.float64)
    # a constant column counts as 1 where it is met exactly, else as 0
    explained = np.where(residual == 0, 1.0, 0.0)
    varying = total != 0
    explained[varying] = 1.0 - residual[varying] / total[varying]
    return float(explained.mean())


def pinball_d2(
    outputs: np.ndarray, expected: np.ndarray, levels: tuple[float, ...], weight: np.ndarray | None
) -> float:
    """Part of the pinball loss of the best constants that predicted quantiles save, averaged over the columns.

    What R2 is to the squared error (Koenker and Machado, "Goodness of fit and related inference processes for quantile
    regression", 1999); NaN where an output is not finite.

    Parameters
    ----------
    outputs, expected : ndarray of shape (rows, columns)
    levels : tuple of float
        Of the first columns; those of the further ones repeat them.
    weight : ndarray of shape (rows,), or None
    """
    outputs, expected, weight = _counted(outputs, expected, weight)
    if not np.isfinite(outputs).all():
        return float("nan")
    level = np.tile(levels, outputs.shape[1] // len(levels))
    row_weight = np.ones(len(expected)) if weight is None else np.asarray(weight, np.float64)
    # one column for each target is sorted, not one for each level
    constants = np.empty(outputs.shape[1])
    for first in range(0, outputs.shape[1], len(levels)):
        order = np.argsort(expected[:, first], kind="stable")
        reached = np.cumsum(row_weight[order])
        # half a rounding error below, so that a level met exactly is met
        places = np.searchsorted(reached, np.asarray(levels) * reached[-1] * (1 - 1e-12))
        constants[first : first + len(levels)] = expected[order[np.minimum(places, len(order) - 1)], first]

    def loss(predicted: np.ndarray) -> np.ndarray:
        residual = expected - predicted
        return (row_weight[:, None] * np.maximum(level * residual, (level - 1) * residual)).sum(axis=0)

    left, least = loss(outputs), loss(constants)
    saved = np.where(left == 0, 1.0, 0.0)
    varying = least != 0
    saved[varying] = 1.0 - left[varying] / least[varying]
    return float(saved.mean())
