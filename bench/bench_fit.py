"""Whole fits of the estimators against scikit-learn's, with the same parameters on the same data.

In float64 both draw the same numbers, so their loss curves must agree; in float32 they agree to rounding.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cases import SEED
from interleaved import race

import pymlp
from pymlp import backends


@dataclass(frozen=True)
class FitCase:
    """Data and parameters of one fit."""

    name: str
    hidden: tuple[int, ...]
    batch_size: int
    epochs: int
    dtypes: tuple[str, ...]

    def data(self, dtype: str) -> tuple[np.ndarray, np.ndarray]:
        """Inputs scaled to about 0..1 and class numbers."""
        if self.name == "digits":
            from sklearn.datasets import load_digits

            X, y = load_digits(return_X_y=True)
            return (X / 16).astype(dtype), y
        with np.load(Path(os.environ["PYMLP_DATA"]) / "mnist.npz") as archive:
            X, y = archive["X_train"][:10_000], archive["y_train"][:10_000]
        return (X.reshape(len(X), -1) / 255).astype(dtype), y


CASES = (
    FitCase("digits", (100,), 200, 20, ("float32", "float64")),
    FitCase("mnist, first 10,000 rows", (512, 512), 128, 2, ("float32",)),
)


@pytest.mark.parametrize("backend", backends.available())
def test_fit(benchmark, case, dtype, backend):
    benchmark.group = f"fit {case.name} {dtype}"
    neural_network = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")
    if case.name != "digits" and not os.environ.get("PYMLP_DATA"):
        pytest.skip("PYMLP_DATA names no folder with mnist.npz")
    X, y = case.data(dtype)
    options = {
        "hidden_layer_sizes": case.hidden,
        "batch_size": case.batch_size,
        "max_iter": case.epochs,
        "random_state": SEED,
    }
    model, reference = pymlp.MLPClassifier(**options), neural_network.MLPClassifier(**options)

    # max_iter ends these fits, and both say so
    with warnings.catch_warnings(), pymlp.config_context(backend=backend):
        warnings.simplefilter("ignore", category=UserWarning)
        # Numba compiles in its first call
        model.fit(X[: case.batch_size], y[: case.batch_size])
        race(benchmark, lambda: model.fit(X, y), lambda: reference.fit(X, y), 1, 1)

    assert model.n_iter_ == reference.n_iter_ == case.epochs
    np.testing.assert_allclose(model.loss_curve_, reference.loss_curve_, rtol=1e-6 if dtype == "float64" else 1e-2)
    benchmark.extra_info.update(kind="fit", case=case.name, dtype=dtype, contestant=backend, epochs=case.epochs)
