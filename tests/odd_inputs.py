"""What the tests of bad and odd input run over: every estimator of the package, small, and what can be asked of it."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import numpy as np

import pymlp

ROWS, COLUMNS = 24, 3

# parameters that make a fit short, where an estimator has them
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 2, "n_components": 8, "random_state": 0, "batch_size": 10}

ESTIMATORS = tuple(
    kind
    for kind in (getattr(pymlp, name) for name in pymlp.__all__)
    if isinstance(kind, type) and hasattr(kind, "fit") and hasattr(kind, "get_params")
)
PERCEPTRONS = (pymlp.MLPClassifier, pymlp.MLPRegressor)


def made(kind: type, **options: Any) -> Any:
    """A small estimator of that kind; of the options those that it has."""
    model = kind()
    known = model.get_params()
    return model.set_params(**{name: value for name, value in {**SMALL, **options}.items() if name in known})


def takes_sparse(kind: type) -> bool:
    """Whether the estimator takes sparse matrices."""
    return kind().__sklearn_tags__().input_tags.sparse


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """X of small whole numbers (every width of number holds them, and counts are not negative), and labels."""
    draw = np.random.default_rng(seed)
    return draw.integers(0, 5, (ROWS, COLUMNS)).astype(np.float64), np.arange(ROWS) % 2


def fit_verbs(kind: type) -> list[str]:
    """What learns from X and y."""
    return [verb for verb in ("fit", "partial_fit") if hasattr(made(kind), verb)]


def learn(model: Any, verb: str, X: Any, y: Any, weight: Any = None) -> Any:
    """``model.fit(X, y)`` or the like."""
    options = {} if weight is None else {"sample_weight": weight}
    method = getattr(model, verb)
    if verb == "partial_fit" and "classes" in inspect.signature(method).parameters:
        options["classes"] = [0, 1]
    return method(X, y, **options)


# of a fitted model, from X alone
SAYING = ("predict", "predict_proba", "predict_log_proba", "decision_function", "predict_joint_log_proba")


def say_verbs(model: Any) -> list[str]:
    """What a fitted model says of rows."""
    return [verb for verb in SAYING if hasattr(model, verb)]


def state(model: Any) -> bytes:
    """Everything a model holds."""
    return pickle.dumps(model.__dict__)


def numbers_of(model: Any) -> dict[str, bytes]:
    """What a fit has found, to the bit."""
    return {
        name: np.ascontiguousarray(value).tobytes()
        for name, value in sorted(model.__dict__.items())
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    }
