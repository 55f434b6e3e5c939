"""Logistic regression on MNIST against scikit-learn's: the same objective, tolerance and float32 pixels.

Both stop when no component of the gradient of the mean loss exceeds the tolerance.  The objective of either result is
then worked out in float64, and the contestant's must not be the larger one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interleaved import race
from scipy.special import logsumexp

import pymlp

MAX_ITER = 1000
# the largest ratio of the two objectives, whose difference float32 may hide
MOST_EXCESS = 1 + 1e-6
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
    assert ours <= theirs * MOST_EXCESS
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
