"""Fits by name, what they come to as SHA-256, and the recorded sums of this version.

The data are multiples of powers of two by a formula of whole numbers; start values and orders are drawn by NumPy's
RandomState, whose draws never change.  `golden/same_bits.json` holds the sums of those fits whose arithmetic is the
engine's and Python's own.  A commit that changes them changes what users get from the same seed: it raises the version,
and records the new sums by

    python tests/fits.py --record

which refuses as long as the version is the recorded one.  ``python tests/fits.py`` prints the sums of all fits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning

import pymlp
from pymlp import (
    SGD,
    AdamW,
    BernoulliNB,
    Cosine,
    Dense,
    Focal,
    FourierSVC,
    GaussianNB,
    LinearSVC,
    Lion,
    LogisticRegression,
    MLPClassifier,
    MLPRegressor,
    MultinomialNB,
    OneCycle,
    Perceptron,
    Quantile,
    RMSprop,
    Rprop,
    find_learning_rate,
)

GOLDEN = Path(__file__).parent / "golden" / "same_bits.json"
ROWS, FEATURES, CLASSES = 150, 10, 3


def numbers(rows: int, columns: int, series: int) -> np.ndarray:
    """Multiples of 2**-23 in [-1, 1), exact in both dtypes: float64 array of shape (rows, columns)."""
    place = np.arange(1, rows * columns + 1, dtype=np.uint64) + np.uint64(series << 32)
    bits = place * np.uint64(0x9E3779B97F4A7C15)
    for _ in range(2):
        bits = (bits ^ bits >> np.uint64(29)) * np.uint64(0xD1342543DE82EF95)
    return ((bits >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0).reshape(rows, columns)


def rows_of(kind: str, rows: int = ROWS, features: int = FEATURES) -> tuple[Any, np.ndarray]:
    """X and y of a kind of problem: "classes", "two classes", "labels", "number", "numbers", "counts" or "sparse"."""
    X = numbers(rows, features, 1)
    scores = X[:, :CLASSES] + 0.5 * X[:, CLASSES : 2 * CLASSES] + 0.25 * numbers(rows, CLASSES, 2)
    y = scores.argmax(axis=1)
    if kind == "two classes":
        y = (scores[:, 0] > 0).astype(int)
    if kind == "labels":
        y = (scores > 0).astype(int)
    if kind == "number":
        y = scores[:, 0]
    if kind == "numbers":
        y = scores[:, :2]
    if kind == "counts":
        X = np.floor(4.0 * np.abs(X))
    if kind == "sparse":
        X = scipy.sparse.csr_matrix(np.where(np.abs(X) > 0.75, X, 0.0))
    return X, y


@dataclass(frozen=True)
class Fit:
    """An estimator and its data.

    Parameters
    ----------
    make : callable
        Gives the unfitted estimator.
    kind : str
        See `rows_of`.
    dtype : str
        Of X.
    weighted : bool
        Whether rows have weights.
    recorded : bool
        Whether its sum is recorded: all that its numbers go through but exact operations is the engine's or Python's,
        not NumPy's functions or BLAS.
    rows, features : int
    """

    make: Callable[[], Any]
    kind: str = "classes"
    dtype: str = "float64"
    weighted: bool = False
    recorded: bool = True
    rows: int = ROWS
    features: int = FEATURES

    def data(self) -> tuple[Any, np.ndarray, dict[str, Any]]:
        """X, y, and further arguments of ``fit``."""
        X, y = rows_of(self.kind, self.rows, self.features)
        weight = 1.125 + numbers(self.rows, 1, 3)[:, 0]
        return X.astype(self.dtype), y, {"sample_weight": weight} if self.weighted else {}

    def run(self) -> tuple[Any, Any]:
        """The fitted estimator, and the X it was fitted to."""
        X, y, further = self.data()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return self.make().fit(X, y, **further), X

    def digest(self) -> str:
        """SHA-256 of the weights and predictions."""
        return digest(*self.run())


def classifier(**parameters: Any) -> Callable[[], MLPClassifier]:
    """Make an MLPClassifier that fits in milliseconds."""
    return lambda: MLPClassifier(**{"hidden_layer_sizes": (24, 17), "max_iter": 6, "random_state": 1, **parameters})


def regressor(**parameters: Any) -> Callable[[], MLPRegressor]:
    """Make an MLPRegressor that fits in milliseconds."""
    return lambda: MLPRegressor(**{"hidden_layer_sizes": (24, 17), "max_iter": 6, "random_state": 1, **parameters})


FEATURE_LAYERS = [
    Dense(24, "gelu", dropout=0.2, normalization="layer"),
    Dense(24, "mish", residual=True, max_norm=1.5),
    Dense(17, "silu", parametric=True),
]
FITS: dict[str, Fit] = {
    "classifier": Fit(classifier()),
    "classifier, float32": Fit(classifier(), dtype="float32"),
    "two classes, weights": Fit(classifier(activation="tanh", batch_size=40), "two classes", weighted=True),
    "labels": Fit(classifier(activation="logistic", alpha=0.1, l1_ratio=0.3), "labels"),
    "sparse, Lion": Fit(classifier(solver=Lion(weight_decay=0.1)), "sparse", "float32"),
    "layers of all kinds": Fit(classifier(hidden_layer_sizes=FEATURE_LAYERS, input_dropout=0.1), dtype="float32"),
    "average, clipped, one cycle": Fit(
        classifier(solver=AdamW(clip_norm=0.5, average="ema"), learning_rate=OneCycle(peak=0.02), batch_size=32)
    ),
    "focal loss, RMSprop": Fit(classifier(solver=RMSprop(), loss=Focal(), activation="elu")),
    "early stopping, standardised": Fit(classifier(early_stopping=True, standardize=True, activation="softplus")),
    "regressor, cosine": Fit(
        regressor(solver="sgd", learning_rate=Cosine(warmup=1, restarts=1), activation="selu", batch_size=16), "number"
    ),
    "two numbers, inverse scaling": Fit(
        regressor(solver="sgd", learning_rate="invscaling", learning_rate_init=0.01, momentum=0.5), "numbers", "float32"
    ),
    "quantiles": Fit(regressor(loss=Quantile(), solver=Rprop(), batch_size=ROWS, standardize_target=True), "number"),
    "no hidden layer, adaptive": Fit(
        regressor(hidden_layer_sizes=(), solver="sgd", learning_rate="adaptive", max_iter=40, tol=1e-2), "numbers"
    ),
    # large enough for 16 threads
    "wide": Fit(
        classifier(hidden_layer_sizes=(96, 96), max_iter=20, batch_size=300), dtype="float32", rows=600, features=96
    ),
    "perceptron": Fit(lambda: Perceptron(max_iter=20, penalty="elasticnet")),
    "logistic regression in batches": Fit(lambda: LogisticRegression(solver=SGD(), random_state=1, max_iter=10)),
    "hinge": Fit(lambda: LinearSVC(loss="hinge", random_state=1, max_iter=10), "two classes"),
    # SciPy's minimiser and NumPy's functions have a part in these; the first has so many weights that BLAS shares its
    # sums out
    "lbfgs": Fit(classifier(solver="lbfgs", hidden_layer_sizes=(150, 100)), recorded=False),
    "logistic regression": Fit(lambda: LogisticRegression(), recorded=False),
    "squared hinge": Fit(lambda: LinearSVC(), recorded=False),
    "Fourier": Fit(lambda: FourierSVC(n_components=64, random_state=1), recorded=False),
    "normal Bayes": Fit(lambda: GaussianNB(), recorded=False),
    "counting Bayes": Fit(lambda: MultinomialNB(), "counts", recorded=False),
    "yes or no Bayes": Fit(lambda: BernoulliNB(), recorded=False),
}


def digest(model: Any, X: Any) -> str:
    """SHA-256 of a fitted model's weights, of the course of its loss and of what it predicts."""
    params = model.params_ if hasattr(model, "params_") else model.to_network()[1]
    predictions = [
        np.asarray(getattr(model, name)(X))
        for name in ("predict", "predict_proba", "decision_function")
        if hasattr(model, name)
    ]
    taken = hashlib.sha256()
    for array in (params, np.asarray(getattr(model, "loss_curve_", [])), *predictions):
        taken.update(f"{array.dtype.str} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return taken.hexdigest()


def digests(names: Any = None) -> dict[str, str]:
    """SHA-256 of the fits of these names, or of all."""
    return {name: FITS[name].digest() for name in (FITS if names is None else names)}


def range_test_digest() -> str:
    """SHA-256 of the rates and losses of a range test."""
    test = find_learning_rate(FITS["classifier"].make(), *rows_of("classes"), steps=40)
    return hashlib.sha256(test.rates.tobytes() + test.losses.tobytes()).hexdigest()


def recorded_names() -> list[str]:
    """Names of the fits whose sums are recorded."""
    return [name for name, fit in FITS.items() if fit.recorded]


def record(golden: Path = GOLDEN) -> None:
    """Write the sums of this version; SystemExit if sums of this very version have changed."""
    found = digests(recorded_names())
    if golden.exists():
        before = json.loads(golden.read_text())
        changed = [name for name, value in before["fits"].items() if found.get(name, value) != value]
        if changed and before["version"] == pymlp.__version__:
            raise SystemExit(
                f"the bits of {changed} are no longer those of version {before['version']}, which is this one: raise "
                "pymlp.__version__ first, or mend what changed them"
            )
    golden.write_text(json.dumps({"version": pymlp.__version__, "fits": found}, indent=1) + "\n")


def main() -> None:
    """Print the sums as JSON, or record them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write the sums of this version")
    if parser.parse_args().record:
        record()
    else:
        print(json.dumps({**digests(), "range test": range_test_digest()}))


if __name__ == "__main__":
    main()
