"""scikit-learn's linear models and naive Bayes, in both directions.

A linear classifier or a naive Bayes has the same parameters and learns the same arrays under the same names here and
there; what differs is said in the tables.  Where a model has no class of its name here, it becomes a perceptron.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn import linear_model, naive_bayes, svm

import pymlp
from pymlp.convert.errors import ConversionError
from pymlp.convert.sklearn_columns import Columns, fitted_behind
from pymlp.network import DTYPES, Dense, Network

# parameters of one name and one meaning, by class
LINEAR: dict[str, tuple[str, ...]] = {
    "LogisticRegression": ("C", "tol", "fit_intercept", "class_weight", "random_state", "max_iter", "warm_start"),
    "LinearSVC": (
        "loss", "tol", "C", "fit_intercept", "intercept_scaling", "class_weight", "random_state", "max_iter",
    ),
    "Perceptron": (
        "penalty", "alpha", "l1_ratio", "fit_intercept", "max_iter", "tol", "shuffle", "eta0", "random_state",
        "n_iter_no_change", "class_weight", "warm_start",
    ),
}  # fmt: skip
_COUNTS = ("classes_", "class_count_", "class_log_prior_", "feature_count_", "feature_log_prob_")
_COUNTING = ("alpha", "force_alpha", "fit_prior", "class_prior")
# parameters, and what is learnt
BAYES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "GaussianNB": (
        ("priors", "var_smoothing"),
        ("classes_", "class_count_", "class_prior_", "theta_", "var_", "epsilon_"),
    ),
    "MultinomialNB": (_COUNTING, _COUNTS),
    "BernoulliNB": ((*_COUNTING, "binarize"), _COUNTS),
}
# linear models of numbers by their losses
REGRESSIONS = {
    **dict.fromkeys(
        ("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "SGDRegressor"),
        "squared_error",
    ),
    "PoissonRegressor": "poisson",
    "GammaRegressor": "gamma",
}
# the losses of SGDClassifier that are a network's
_DESCENT_LOSSES = ("hinge", "squared_hinge", "perceptron", "log_loss")
# where scikit-learn has its classes
MODULES = {**dict.fromkeys(LINEAR, linear_model), "LinearSVC": svm, **dict.fromkeys(BAYES, naive_bayes)}


@dataclass(frozen=True, eq=False)
class _Layer:
    """The single layer of a linear model: weight (inputs, outputs), bias (outputs,), the names of its inputs."""

    weight: np.ndarray
    bias: np.ndarray
    names: Any
    dtype: str

    @classmethod
    def of(cls, model: Any, dtype: str | None) -> _Layer:
        coef = model.coef_.toarray() if hasattr(model.coef_, "toarray") else np.asarray(model.coef_)
        weight = np.atleast_2d(coef).T
        kept = weight.dtype.name if weight.dtype.name in DTYPES else "float64"
        bias = np.broadcast_to(np.ravel(model.intercept_), (weight.shape[1],))
        return cls(weight, bias, getattr(model, "feature_names_in_", None), dtype or kept)

    def behind(self, columns: Columns | None) -> _Layer:
        """The layer for raw columns."""
        if columns is None:
            return self
        return _Layer(*columns.fold(self.weight, self.bias), columns.names, self.dtype)

    def network(self, activation: str, loss: Any, **penalties: float) -> tuple[Network, np.ndarray]:
        network = Network(len(self.weight), (Dense(len(self.bias), activation),), loss, self.dtype, **penalties)
        return network, np.concatenate([self.weight.ravel(), self.bias]).astype(self.dtype)


def from_linear_classifier(model: Any, columns: Columns | None, dtype: str | None) -> Any:
    """The classifier of the same name here."""
    name = _name(model)
    layer = _Layer.of(model, dtype).behind(columns)
    # what the kind of its name that searches for C has not stays at its default
    shared = [own for own in LINEAR[name] if own != "C" and hasattr(model, own)]
    made = getattr(pymlp, name)(**{own: copy.deepcopy(getattr(model, own)) for own in shared})
    made.n_iter_ = int(np.max(model.n_iter_))
    if name == "LogisticRegression":
        layer = _with_its_probabilities(model, layer)
        made.C, made.l1_ratio = _penalty(model)
        penalties = {"l1": made.l1_ratio / made.C, "l2": (1 - made.l1_ratio) / made.C}
        activation, loss = ("logistic", "binary_log_loss") if len(layer.bias) == 1 else ("softmax", "log_loss")
        made.n_iter_ = np.array([made.n_iter_], np.int32)
    elif name == "LinearSVC":
        made.C = model.C
        activation, loss, penalties = "identity", made.loss, {"l2": 1 / made.C}
    else:
        # its rule is that of single rows; without a tolerance it goes on as long as anything improves
        made.batch_size, made.tol = 1, 0.0 if model.tol is None else model.tol
        activation, loss, penalties = "identity", "perceptron", {}
    made.network_, made.params_ = layer.network(activation, loss, **penalties)
    made.classes_ = model.classes_.copy()
    _take_inputs(made, len(layer.weight), layer.names)
    return made


def _penalty(model: Any) -> tuple[float, float]:
    """C and the share of L1 of a logistic regression; of one that searched them, the largest it found."""
    # before scikit-learn 1.8 there was a name for each kind of penalty
    kind = getattr(model, "penalty", "deprecated")
    found, shares = getattr(model, "C_", model.C if hasattr(model, "C") else None), getattr(model, "l1_ratio_", None)
    if shares is None:
        shares = getattr(model, "l1_ratio", None)
    share = max((float(each) for each in np.ravel(shares) if each is not None), default=0.0)
    C = np.inf if kind is None else float(np.max(found))
    return C, {"l1": 1.0, "l2": 0.0, None: 0.0}.get(kind, share)


def _with_its_probabilities(model: Any, layer: _Layer) -> _Layer:
    """The layer whose scores its probabilities are the logistic function or the softmax of."""
    # before scikit-learn 1.8 this was a choice
    choice, pair = getattr(model, "multi_class", "auto"), len(model.classes_) <= 2
    one_by_one = choice == "ovr" or (choice != "multinomial" and (pair or model.solver == "liblinear"))
    if pair and not one_by_one:
        # the softmax of -s and s
        return _Layer(2 * layer.weight, 2 * layer.bias, layer.names, layer.dtype)
    if not pair and one_by_one:
        raise ConversionError(
            f"{type(model).__name__} with multi_class={choice!r} and solver={model.solver!r} divides the probability "
            f"of each of its {len(model.classes_)} classes against the rest by their sum, which no output activation "
            "here does"
        )
    return layer


def from_descent_classifier(model: Any, columns: Columns | None, dtype: str | None) -> Any:
    """A perceptron without hidden layers that scores as `SGDClassifier` does."""
    if model.loss not in _DESCENT_LOSSES:
        raise ConversionError(
            f"SGDClassifier has loss={model.loss!r}; what can be converted is {', '.join(_DESCENT_LOSSES)}"
        )
    layer, pair = _Layer.of(model, dtype), len(model.classes_) == 2
    if model.loss == "log_loss" and not pair:
        raise ConversionError(
            f"SGDClassifier with loss='log_loss' divides the probability of each of its {len(model.classes_)} classes "
            "against the rest by their sum, which no output activation here does"
        )
    loss, activation = ("binary_log_loss", "logistic") if model.loss == "log_loss" else (model.loss, "identity")
    network, params = layer.network(activation, loss)
    task = "binary" if pair else "multiclass"
    return fitted_behind(columns, network, params, task=task, classes=model.classes_, feature_names=layer.names)


def from_regression(model: Any, columns: Columns | None, dtype: str | None) -> Any:
    """A perceptron without hidden layers that predicts as a linear model of numbers does."""
    layer = _Layer.of(model, dtype)
    loss = REGRESSIONS[type(model).__name__]
    activation = "identity" if loss == "squared_error" else "exp"
    network, params = layer.network(activation, loss)
    return fitted_behind(columns, network, params, task="numbers", feature_names=layer.names)


def from_bayes(model: Any, columns: Columns | None, dtype: str | None) -> Any:
    """The classifier of the same name here, or behind scalers its network as a perceptron."""
    name = _name(model)
    if dtype == "float32" and columns is None:
        raise ConversionError(f"{name} computes in float64: dtype='float32' is not for it")
    parameters, learnt = BAYES[name]
    made = getattr(pymlp, name)(**{own: copy.deepcopy(getattr(model, own)) for own in parameters})
    for attribute in learnt:
        setattr(made, attribute, _own(getattr(model, attribute)))
    inputs = model.n_features_in_
    _take_inputs(made, inputs, getattr(model, "feature_names_in_", None))
    if columns is None:
        return made
    network, params = made.to_network()
    network = replace(network, dtype=dtype or network.dtype)
    task = "binary" if network.outputs == 2 else "multiclass"
    return fitted_behind(columns, network, params.astype(network.dtype), task=task, classes=model.classes_)


def to_classic(model: Any) -> Any:
    """The classifier of the same name in scikit-learn."""
    name = type(model).__name__
    kind = getattr(MODULES[name], name)
    parameters, learnt = BAYES[name] if name in BAYES else (LINEAR[name], ("classes_", "n_iter_"))
    made = kind(**{own: copy.deepcopy(getattr(model, own)) for own in parameters})
    for attribute in learnt:
        setattr(made, attribute, _own(getattr(model, attribute)))
    if name in LINEAR:
        made.coef_, made.intercept_ = model.coef_.copy(), model.intercept_.copy()
    if name == "LogisticRegression" and model.l1_ratio:
        made.set_params(l1_ratio=model.l1_ratio, solver="saga")
        if made.penalty == "l2":
            # before scikit-learn 1.8 the ratio alone said nothing
            made.set_params(penalty="elasticnet")
    _take_inputs(made, model.n_features_in_, getattr(model, "feature_names_in_", None))
    return made


def _name(model: Any) -> str:
    name = type(model).__name__
    return "LogisticRegression" if name == "LogisticRegressionCV" else name


def _own(value: Any) -> Any:
    # naive Bayes here is float64 throughout
    if not isinstance(value, np.ndarray):
        return value
    return value.astype(np.float64) if value.dtype.kind == "f" else value.copy()


def _take_inputs(made: Any, inputs: int, names: Any) -> None:
    made.n_features_in_ = int(inputs)
    if names is not None:
        made.feature_names_in_ = np.array(names, object)
