"""Linear classifiers: networks of a single layer, fitted by L-BFGS-B over all rows or by descent in batches.

What they share is here, with `LogisticRegression` and the `Perceptron`; the support vector machines are in
`pymlp.support_vectors`.
"""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from pymlp import backends
from pymlp.classifiers import (
    VersionedState,
    check_labelled_data,
    class_positions,
    known_classes,
    log_normalised,
    network_scores,
    row_weights,
    unchanged_on_failure,
)
from pymlp.convex import Minimum, Problem, minimise
from pymlp.lbfgs import FullBatch
from pymlp.network import Dense, Network
from pymlp.validation import Interval, StrOptions, check_parameters, check_prediction_data

# About the second derivative of a log loss once most rows are sure, as a share of what it is before training: anywhere
# between 0.03 and 0.3 the passes over MNIST are nearly as few.
SURE = 0.1


def encoded(positions: np.ndarray, outputs: int, dtype: str) -> np.ndarray:
    """Targets (rows, outputs) of 0 and 1: a column a class, or one column that is 1 for the second of two classes."""
    if outputs == 1:
        return positions[:, None].astype(dtype)
    y = np.zeros((len(positions), outputs), dtype)
    y[np.arange(len(positions)), positions] = 1
    return y


def warn_unconverged(name: str, minimum: Minimum, max_iter: int) -> None:
    """The warning of a minimisation that did not converge, naming the line that called fit."""
    warnings.warn(
        f"lbfgs failed to converge after {minimum.iterations} iteration(s) (max_iter={max_iter}) in {name}: "
        f"{minimum.message}. Inputs of similar scale help: see sklearn.preprocessing.StandardScaler.",
        ConvergenceWarning,
        stacklevel=5,
    )


class LinearClassifier(ClassifierMixin, VersionedState, BaseEstimator):
    """What follows from the weights and biases of one layer, and what comes before its fit."""

    @property
    def coef_(self) -> np.ndarray:
        """Weights, (classes, features), or (1, features) for two classes: a view of ``params_``."""
        return self._fitted_network("coef_").weights(self.params_)[-1].T

    @coef_.setter
    def coef_(self, values: Any) -> None:
        self.coef_[...] = values

    @property
    def intercept_(self) -> np.ndarray:
        """Biases, (classes,), or (1,) for two classes: a view of ``params_``."""
        return self._fitted_network("intercept_").biases(self.params_)[-1]

    @intercept_.setter
    def intercept_(self, values: Any) -> None:
        self.intercept_[...] = values

    def _fitted_network(self, name: str) -> Network:
        if "network_" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet, so it has no {name}")
        return self.network_

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit to training data.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, features)
        y : array-like of shape (rows,)
        sample_weight : array-like of shape (rows,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Parameters or data do not fit; the estimator is then as it was, as it is after Ctrl-C.
        """
        return self._fit(X, y, sample_weight, None, incremental=False)

    def _fit(self, X: Any, y: Any, sample_weight: Any, classes: Any, *, incremental: bool) -> Any:
        check_parameters(self)
        with unchanged_on_failure(self):
            fitted = "params_" in self.__dict__
            first = not (fitted and (incremental or getattr(self, "warm_start", False)))
            dtypes = ("float64", "float32") if first else (self.network_.dtype,)
            X, y, dtype = check_labelled_data(self, X, y, dtypes=dtypes, reset=first)
            known = known_classes(self, y, classes, incremental=incremental)
            if len(known) < 2:
                raise ValueError(
                    f"{type(self).__name__} needs samples of at least 2 classes in the data, but the data contains "
                    f"only one class: {known[0]!r}"
                )
            if not first and not np.array_equal(known, self.classes_):
                raise ValueError(f"warm_start needs the classes of the last fit, {self.classes_}, but y has {known}")
            self.classes_ = known
            weight = row_weights(self.class_weight, known, y, sample_weight, dtype)
            targets = encoded(class_positions(y, known), 1 if len(known) == 2 else len(known), dtype)
            self._learn(X, targets, weight, dtype, first=first, incremental=incremental)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the classes, shape (rows, classes); of two classes that of the second, (rows,)."""
        check_is_fitted(self)
        scores = network_scores(self.network_, self.params_, check_prediction_data(self, X, self.network_.dtype))
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> np.ndarray:
        """Predicted labels, shape (rows,)."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)]

    def to_network(self) -> tuple[Network, np.ndarray]:
        """The same classifier as a network and its parameters, a copy which the caller owns.

        Returns
        -------
        network : Network
            To be trained further, saved by `pymlp.save`, or used by `pymlp.Predictor`.
        params : ndarray of shape (network.n_parameters,)
        """
        check_is_fitted(self)
        return self.network_, self.params_.copy()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


@dataclass(eq=False, repr=False)
class LogisticRegression(LinearClassifier):
    """Logistic regression; with "lbfgs" the weights are those of scikit-learn's class of this name.

    Minimises ``C * sum(losses) + (1 - l1_ratio) / 2 * sum(W**2) + l1_ratio * sum(abs(W))``, the intercepts unpenalised;
    more than two classes share one softmax.

    Parameters
    ----------
    C : float, default=1.0
        Weight of the data against the penalty.
    l1_ratio : float, default=0.0
        Share of the L1 penalty, from 0 to 1 (Zou and Hastie, "Regularization and variable selection via the elastic
        net", 2005).  "lbfgs" then takes the weights as differences of two numbers of at least 0.
    tol : float, default=1e-4
        "lbfgs": largest component of the gradient of the mean loss at convergence.
    fit_intercept : bool, default=True
    class_weight : dict, "balanced" or None, default=None
    random_state : int, RandomState or None, default=None
        Not used by "lbfgs".
    solver : {"lbfgs"}, default="lbfgs"
    max_iter : int, default=100
    warm_start : bool, default=False
        Go on from the weights of the last fit.

    Attributes
    ----------
    classes_ : ndarray
    coef_ : ndarray of shape (classes, features), or (1, features) for two classes
    intercept_ : ndarray of shape (classes,), or (1,)
    params_, network_
        The same as a flat vector, and the network it belongs to.
    n_iter_ : ndarray of shape (1,)
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from pymlp import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> LogisticRegression().fit(X, y).predict(X[:2])
    array([0, 0])
    """

    _: KW_ONLY
    C: float = 1.0
    l1_ratio: float = 0.0
    tol: float = 1e-4
    fit_intercept: bool = True
    class_weight: Any = None
    random_state: Any = None
    solver: str = "lbfgs"
    max_iter: int = 100
    warm_start: bool = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="right")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
        "solver": [StrOptions({"lbfgs"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
    }

    def _learn(
        self, X: Any, y: np.ndarray, weight: np.ndarray | None, dtype: str, *, first: bool, incremental: bool
    ) -> None:
        outputs = y.shape[1]
        layer, loss = (Dense(1, "logistic"), "binary_log_loss") if outputs == 1 else (Dense(outputs, "softmax"), "log_loss")
        l1, l2 = self.l1_ratio / self.C, (1 - self.l1_ratio) / self.C
        network = Network(X.shape[1], (layer,), loss, dtype, l1=l1, l2=l2)
        start = np.zeros((X.shape[1] + 1, outputs)) if first else self.params_.reshape(-1, outputs)
        smooth = Network(X.shape[1], (layer,), loss, dtype, l2=l2)
        classes = len(self.classes_)
        problem = Problem(
            FullBatch(backends.get(), smooth, X, y, weight),
            float(len(y)) if weight is None else float(weight.sum(dtype=np.float64)),
            SURE * (classes - 1) / classes**2,
            l1=l1,
            with_bias=self.fit_intercept,
        )
        minimum = minimise(problem, start, max_iter=self.max_iter, tol=self.tol)
        if not minimum.converged:
            warn_unconverged("LogisticRegression", minimum, self.max_iter)
        self.network_, self.params_ = network, minimum.params.ravel().astype(dtype)
        self.n_iter_ = np.array([minimum.iterations], np.int32)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, shape (rows, classes)."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of `predict_proba`."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            # the softmax of the scores 0 and s is the logistic function of s
            scores = np.column_stack([np.zeros_like(scores), scores])
        return log_normalised(scores)
