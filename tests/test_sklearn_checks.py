"""All checks that scikit-learn generates for the two estimators, with each of their options in use: none may fail, none
is expected to.

Two checks skip themselves: check_array_api_input, because the environment variable SCIPY_ARRAY_API is not set (the
engine reads NumPy's arrays; scikit-learn's own perceptrons do not take other arrays either), and
check_decision_proba_consistency, for the losses without probabilities.  `skip_reason` lists what cannot hold for an
option, in scikit-learn's own perceptrons neither.
"""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from pymlp import (
    AdamW,
    Cosine,
    CustomLoss,
    Dense,
    Focal,
    GaussianNLL,
    Huber,
    LogLoss,
    MLPClassifier,
    MLPRegressor,
    Plateau,
    Quantile,
)


def cross_entropy(y, output):
    p = np.clip(output, 1e-12, 1 - 1e-12)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=1), (p - y) / (p * (1 - p))


def cauchy(y, output):
    residual = output - y
    return np.log1p(residual**2).sum(axis=1), 2 * residual / (1 + residual**2)


CLASSIFIERS = [
    MLPClassifier(),
    MLPClassifier(loss="hinge"),
    MLPClassifier(loss="squared_hinge", solver="lbfgs"),
    MLPClassifier(loss="perceptron"),
    MLPClassifier(loss=Focal(gamma=1.0)),
    MLPClassifier(loss=LogLoss(label_smoothing=0.1)),
    MLPClassifier(loss=cross_entropy),
    MLPClassifier(class_weight="balanced"),
    MLPClassifier(dropout=0.1, input_dropout=0.05),
    MLPClassifier(hidden_layer_sizes=[Dense(12, "gelu", normalization="layer"), Dense(12, "silu", residual=True), 8]),
    MLPClassifier(hidden_layer_sizes=[Dense(32, "relu", parametric=True, max_norm=3.0)], activation=["relu"]),
    MLPClassifier(l1_ratio=0.5, alpha=0.01),
    MLPClassifier(standardize=True),
    MLPClassifier(standardize=True, early_stopping=True, validation_fraction=0.5, scoring="accuracy"),
    MLPClassifier(solver=AdamW(weight_decay=0.01, clip_norm=1.0, average="ema"), learning_rate=Cosine(warmup=2)),
    MLPClassifier(max_time=60.0, roll_back=True, dtype="float32"),
]
REGRESSORS = [
    MLPRegressor(),
    MLPRegressor(loss="absolute_error"),
    MLPRegressor(loss=Huber(delta=0.5)),
    MLPRegressor(loss=Quantile([0.5])),
    MLPRegressor(loss=GaussianNLL(), learning_rate_init=0.01),
    MLPRegressor(loss=CustomLoss(cauchy)),
    MLPRegressor(dropout=0.05, l1_ratio=1.0),
    MLPRegressor(standardize=True, standardize_target=True),
    MLPRegressor(standardize=True, standardize_target=True, solver="lbfgs"),
    MLPRegressor(loss="gaussian_nll", standardize_target=True),
    MLPRegressor(hidden_layer_sizes=(Dense(24, "tanh", normalization="layer"), Dense(24, residual=True))),
    MLPRegressor(solver=AdamW(average="swa"), learning_rate=Plateau()),
]


def skip_reason(estimator, name):
    """Why the check of that name does not fit the estimator's parameters; None if it does."""
    if name.startswith("check_sample_weight_equivalence"):
        if estimator.dropout:
            return "a row and its repetition are dropped out independently"
        if estimator.early_stopping:
            return "a row and its repetition may be on both sides of the split"
        if estimator.dtype == "float32":
            return "equal to rounding of float32, the check asks for that of float64"
    calls_partial_fit = name in ("check_fit_score_takes_y", "check_n_features_in_after_fitting")
    if estimator.early_stopping and (calls_partial_fit or "partial_fit" in name):
        return "it calls partial_fit, which refuses early_stopping=True with a ValueError as scikit-learn's does"
    return None


@parametrize_with_checks([*CLASSIFIERS, *REGRESSORS])
def test_scikit_learn_check(estimator, check):
    reason = skip_reason(estimator, check.func.__name__)
    if reason is not None:
        pytest.skip(reason)
    check(estimator)
