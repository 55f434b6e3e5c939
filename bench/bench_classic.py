"""Logistic regression on MNIST against scikit-learn's: the same objective, tolerance and float32 pixels.

Both stop when no component of the gradient of the mean loss exceeds the tolerance.  Which of them then happens to be
lower hangs on rounding, NumPy's too.  So the contestant's gradient is worked out in float64: it must be within the
tolerance, and the objective above the reference's by no more than such a gradient allows (the penalty makes the
objective strongly convex: a gradient g leaves at most g**2 / 2 over the penalty's factor).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interleaved import race
from scipy.special import logsumexp, softmax

import pymlp

MAX_ITER = 1000
# the largest ratio of the two objectives, and of the gradient and its tolerance, beyond what is allowed anyway: float32
# may hide as much
MOST_EXCESS = 1 + 1e-6
MOST_SLOPE = 1.01
# enough for the checks alone
FEW_ROWS = 2000


@dataclass(frozen=True)
class ClassicCase:
    """Rows of MNIST, and how precisely they are fitted."""

    name: str
    rows: int
    tol: float
    slow: bool


CASES = (
    ClassicCase("mnist, first 10,000 rows", 10_000, 1e-4, False),
    ClassicCase("mnist", 60_000, 1e-4, True),
)


def objective(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """The mean of what both minimise, at C=1."""
    scores = X @ model.coef_.T.astype(np.float64) + model.intercept_
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]
    return float(losses.mean() + 0.5 * np.square(model.coef_, dtype=np.float64).sum() / len(y))


def gradient(model: Any, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient of `objective`: (classes, features and the intercept)."""
    errors = softmax(X @ model.coef_.T.astype(np.float64) + model.intercept_, axis=1)
    errors[np.arange(len(y)), y] -= 1
    return np.column_stack([errors.T @ X + model.coef_, errors.sum(axis=0)]) / len(y)


def test_logistic_regression(benchmark, case):
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    if not os.environ.get("PYMLP_DATA"):
        pytest.skip("PYMLP_DATA names no folder with mnist.npz")
    benchmark.group = f"logistic regression {case.name}"
    rows = FEW_ROWS if benchmark.disabled else case.rows
    with np.load(Path(os.environ["PYMLP_DATA"]) / "mnist.npz") as archive:
        X, y = archive["X_train"][:rows], archive["y_train"][:rows]
    X = (X.reshape(len(X), -1) / 255).astype(np.float32)
    model = pymlp.LogisticRegression(tol=case.tol, max_iter=MAX_ITER)
    reference = linear_model.LogisticRegression(tol=case.tol, max_iter=MAX_ITER)

    with pymlp.config_context(backend="c"):
        race(benchmark, lambda: model.fit(X, y), lambda: reference.fit(X, y), 1, 1)

    ours, theirs = objective(model, X, y), objective(reference, X, y)
    slopes = gradient(model, X, y)
    assert np.abs(slopes).max() <= case.tol * MOST_SLOPE
    assert ours <= theirs * MOST_EXCESS + np.square(slopes).sum() * len(y) / 2
    benchmark.extra_info.update(
        kind="classic",
        case=case.name,
        dtype="float32",
        contestant="c",
        iterations=int(model.n_iter_[0]),
        reference_iterations=int(reference.n_iter_[0]),
        objective=ours,
        reference_objective=theirs,
    )
