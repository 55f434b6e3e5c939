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


def r2(outputs: np.ndarray, expected: np.ndarray, weight: np.ndarray | None) -> float:
    """Coefficient of determination, averaged over the columns; NaN where an output is not finite.

    Parameters
    ----------
    outputs, expected : ndarray of shape (rows, columns)
    weight : ndarray of shape (rows,), or None
    """
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
