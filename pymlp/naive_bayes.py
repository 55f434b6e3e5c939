"""Naive Bayes classifiers: networks whose weights are counted or measured in one pass, without a loop.

Each class has a product of one distribution a feature; its logarithm is what the network computes for that class.  For
counts and for yes or no that is a matrix product plus a bias (Lewis, "Naive (Bayes) at forty", 1998).  For normal
distributions it is a hidden layer of squares, one unit for each class and feature, whose sums the output layer takes.
Everything is float64, because logarithms of probabilities add up to large numbers that differ by little.
"""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass
from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, check_non_negative

from pymlp.classifiers import (
    check_labelled_data,
    class_positions,
    known_classes,
    log_normalised,
    network_scores,
    refuse_sparse,
    unchanged_on_failure,
)
from pymlp.interruptible import compute
from pymlp.network import Dense, Network
from pymlp.validation import (
    Interval,
    check_parameters,
    check_prediction_data,
    check_sample_weight,
)
from pymlp.versioned import VersionedState

# the least alpha with force_alpha=False, as in scikit-learn
LEAST_ALPHA = 1e-10
# what rounding may leave of priors that sum to 1
PRIOR_TOLERANCE = 1e-5


def _class_sums(X: Any, positions: np.ndarray, weight: np.ndarray | None, classes: int) -> tuple[np.ndarray, Any]:
    """Weights of the classes (classes,), and weighted sums of their rows (classes, features)."""
    shares = np.zeros((len(positions), classes))
    shares[np.arange(len(positions)), positions] = 1.0 if weight is None else weight
    if hasattr(X, "tocsr"):
        return shares.sum(axis=0), np.asarray(X.T @ shares).T
    # class by class and not by BLAS, whose sums depend on its threads
    sums = [(X[chosen] * shares[chosen, [number]][:, None]).sum(axis=0) for number, chosen in _rows_by_class(positions)]
    whole = np.zeros((classes, X.shape[1]))
    whole[np.unique(positions)] = sums
    return shares.sum(axis=0), whole


def _rows_by_class(positions: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(int(number), np.flatnonzero(positions == number)) for number in np.unique(positions)]


def _moments(X: np.ndarray, chosen: np.ndarray, weight: np.ndarray | None) -> tuple[float, np.ndarray, np.ndarray]:
    """Weight, means and variances of some rows; without weight the others are no numbers."""
    rows = X[chosen]
    shares = np.ones(len(chosen)) if weight is None else weight[chosen]
    whole = float(shares.sum())
    if whole == 0:
        return whole, np.full(X.shape[1], np.nan), np.full(X.shape[1], np.nan)
    mean = (rows * shares[:, None]).sum(axis=0) / whole
    return whole, mean, ((rows - mean) ** 2 * shares[:, None]).sum(axis=0) / whole


def _distances(X: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return ((X - mean) ** 2 / variance).sum(axis=1)


class NaiveBayes(ClassifierMixin, VersionedState, BaseEstimator):
    """What follows from the joint log-probabilities, and the two ways to fit."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Learn from the data alone.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            Or a sparse matrix, but for `GaussianNB`.
        y : array-like of shape (rows,)
        sample_weight : array-like of shape (rows,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Parameters or data do not fit; the estimator is then as it was.
        """
        return self._fit(X, y, sample_weight, None, incremental=False)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """Add data to what was learnt before; data in pieces give what they give at once.

        Parameters
        ----------
        X : array-like of shape (rows, features)
        y : array-like of shape (rows,)
        classes : array-like of shape (classes,)
            All classes there will be; needed at the first call.
        sample_weight : array-like of shape (rows,), optional

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, classes, incremental=True)

    def _fit(self, X: Any, y: Any, sample_weight: Any, classes: Any, *, incremental: bool) -> Any:
        check_parameters(self)
        with unchanged_on_failure(self):
            first = not incremental or "classes_" not in self.__dict__
            self._check_kind(X)
            X, y, _ = check_labelled_data(self, X, y, dtypes=("float64",), reset=first)
            self._check_range(X)
            self.classes_ = known_classes(self, y, classes, incremental=incremental)
            weight = check_sample_weight(sample_weight, X.shape[0], "float64")
            self._learn(X, class_positions(y, self.classes_), weight, first)
        return self

    def _check_kind(self, X: Any) -> None:
        """Raise TypeError if X is sparse and the distribution needs every number."""

    def _check_range(self, X: Any) -> None:
        """Raise ValueError if numbers of X are none the distribution can have."""

    def _prediction_data(self, X: Any) -> Any:
        check_is_fitted(self)
        self._check_kind(X)
        X = check_prediction_data(self, X, "float64")
        self._check_range(X)
        return X

    def predict_joint_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of P(row, class) for each class, shape (rows, classes)."""
        network, params = self.to_network()
        return network_scores(network, params, self._prediction_data(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of `predict_proba`."""
        return log_normalised(self.predict_joint_log_proba(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, shape (rows, classes)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable labels, shape (rows,)."""
        most_probable = self.predict_joint_log_proba(X).argmax(axis=1)
        return self.classes_[most_probable]


@dataclass(eq=False, repr=False)
class GaussianNB(NaiveBayes):
    """Naive Bayes with a normal distribution for each class and feature; results are those of scikit-learn's class.

    Parameters
    ----------
    priors : array-like of shape (classes,), optional
        Probabilities of the classes; by default their shares of the data.
    var_smoothing : float, default=1e-9
        This share of the largest variance of a feature (without weights, and with `partial_fit` in the last data, as in
        scikit-learn) is added to all.

    Attributes
    ----------
    classes_, class_count_, class_prior_ : ndarray of shape (classes,)
    theta_, var_ : ndarray of shape (classes, features)
        Means and variances.
    epsilon_ : float
        What was added to the variances.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    _: KW_ONLY
    priors: Any = None
    var_smoothing: float = 1e-9

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "priors": ["array-like", None],
        "var_smoothing": [Interval(Real, 0, None, closed="left")],
    }

    def _check_kind(self, X: Any) -> None:
        refuse_sparse(self, X)

    def _learn(self, X: np.ndarray, positions: np.ndarray, weight: np.ndarray | None, first: bool) -> None:
        shape = len(self.classes_), X.shape[1]
        priors = self._checked_priors()
        spreads = compute(lambda: X.var(axis=0, dtype=np.float64), X.size)
        epsilon = float(self.var_smoothing * spreads.max())
        if first:
            count, mean, variance = np.zeros(shape[0]), np.zeros(shape), np.zeros(shape)
        else:
            count, mean, variance = self.class_count_.copy(), self.theta_.copy(), self.var_ - epsilon
        for number, chosen in _rows_by_class(positions):
            new, new_mean, new_variance = compute(partial(_moments, X, chosen, weight), X.size)
            if new == 0:
                continue
            # the means and variances of two parts of the data (Chan, Golub and LeVeque, "Updating formulae and a
            # pairwise algorithm for computing sample variances", 1979)
            past, whole = count[number], count[number] + new
            between = new * past / whole * (mean[number] - new_mean) ** 2
            variance[number] = (past * variance[number] + new * new_variance + between) / whole
            mean[number] = (past * mean[number] + new * new_mean) / whole
            count[number] = whole
        smoothed = variance + epsilon
        if not np.isfinite(smoothed).all():
            # epsilon spoils all columns alike; NaN counts as the largest here
            with np.errstate(over="ignore", invalid="ignore"):
                column = int(np.argmax(spreads + variance.sum(axis=0)))
            raise ValueError(
                f"X holds numbers so large in column {column} (counted from 0) that their variance is not finite: "
                "scale X first"
            )
        self.class_count_, self.theta_, self.var_, self.epsilon_ = count, mean, smoothed, epsilon
        self.class_prior_ = count / count.sum() if priors is None else priors

    def _checked_priors(self) -> np.ndarray | None:
        if self.priors is None:
            return None
        priors = np.array(self.priors, np.float64)
        if priors.shape != self.classes_.shape:
            raise ValueError(
                f"Number of priors must match number of classes: there are {len(self.classes_)}, got {self.priors!r}"
            )
        if priors.min() < 0:
            raise ValueError(f"Priors must be non-negative, got {self.priors!r}")
        if abs(priors.sum() - 1) > PRIOR_TOLERANCE:
            raise ValueError(f"The sum of the priors should be 1, got {self.priors!r}")
        return priors

    def _constants(self) -> np.ndarray:
        # what the squares are subtracted from, for each class
        with np.errstate(divide="ignore"):
            return np.log(self.class_prior_) - 0.5 * np.log(2 * np.pi * self.var_).sum(axis=1)

    def predict_joint_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of P(row, class) for each class, shape (rows, classes)."""
        # the network's first layer would multiply by a matrix that is zero but for one number a column
        X = self._prediction_data(X)
        scores = np.empty((len(X), len(self.classes_)))
        for column, (constant, mean, variance) in enumerate(
            zip(self._constants(), self.theta_, self.var_, strict=True)
        ):
            scores[:, column] = constant - 0.5 * compute(partial(_distances, X, mean, variance), X.size)
        return scores

    def to_network(self) -> tuple[Network, np.ndarray]:
        """The same classifier as a network and its parameters, which the caller owns.

        The hidden unit of a class and a feature is ``((x - mean) / sqrt(2 variance)) ** 2``: centred, because the
        difference of large squares would lose the digits.

        Returns
        -------
        network : Network
            ``classes * features`` units of activation "square", then one softmax output for each class.
        params : ndarray of shape (network.n_parameters,)
        """
        check_is_fitted(self)
        classes, features = self.theta_.shape
        layers = Dense(classes * features, "square"), Dense(classes, "softmax")
        network = Network(features, layers, "log_loss", "float64")
        params = np.zeros(network.n_parameters)
        (spread, summing), (centres, constants) = network.weights(params), network.biases(params)
        scale = 1 / np.sqrt(2 * self.var_)
        units = np.arange(classes * features)
        spread[units % features, units] = scale.ravel()
        centres[:] = -(self.theta_ * scale).ravel()
        summing[units, units // features] = -1
        constants[:] = self._constants()
        return network, params


class CountingBayes(NaiveBayes):
    """What the two that count share: the counts, the priors, and one matrix product as their network."""

    def _learn(self, X: Any, positions: np.ndarray, weight: np.ndarray | None, first: bool) -> None:
        counts, sums = compute(lambda: _class_sums(X, positions, weight, len(self.classes_)), X.size)
        if not first:
            counts, sums = counts + self.class_count_, sums + self.feature_count_
        self.class_count_, self.feature_count_ = counts, sums
        self.feature_log_prob_ = self._log_probabilities(self._checked_alpha())
        self.class_log_prior_ = self._log_priors()

    def _checked_alpha(self) -> Any:
        """The pseudo-counts: one number, or (features,)."""
        alpha = np.asarray(self.alpha, np.float64)
        if alpha.ndim and alpha.shape != (self.n_features_in_,):
            raise ValueError(
                f"alpha must be one number or hold one for each of the {self.n_features_in_} features, got an array of "
                f"shape {alpha.shape}"
            )
        if not alpha.min() >= 0:
            raise ValueError(f"All values in alpha must be at least 0, got {self.alpha!r}")
        if alpha.min() < LEAST_ALPHA and not self.force_alpha:
            warnings.warn(
                f"alpha too small will result in numeric errors, setting alpha = {LEAST_ALPHA:.1e}. Use "
                "`force_alpha=True` to keep alpha unchanged.",
                stacklevel=6,
            )
            return np.maximum(alpha, LEAST_ALPHA)
        return alpha

    def _log_priors(self) -> np.ndarray:
        classes = len(self.classes_)
        with np.errstate(divide="ignore"):
            if self.class_prior is not None:
                priors = np.array(self.class_prior, np.float64)
                if priors.shape != (classes,):
                    raise ValueError(
                        f"Number of priors must match number of classes: there are {classes}, got {self.class_prior!r}"
                    )
                if not priors.min() >= 0:
                    raise ValueError(f"class_prior must be non-negative, got {self.class_prior!r}")
                return np.log(priors)
            if self.fit_prior:
                return np.log(self.class_count_) - np.log(self.class_count_.sum())
        return np.full(classes, -np.log(classes))

    def to_network(self) -> tuple[Network, np.ndarray]:
        """The same classifier as a network of one layer and its parameters, which the caller owns.

        Returns
        -------
        network : Network
            Takes X as the distribution does, and has one softmax output for each class.
        params : ndarray of shape (network.n_parameters,)
        """
        check_is_fitted(self)
        weight, bias = self._weight_and_bias()
        network = Network(len(weight), (Dense(len(bias), "softmax"),), "log_loss", "float64")
        return network, np.concatenate([weight.ravel(), bias])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.poor_score = True
        return tags


COUNTING_CONSTRAINTS: dict[str, list[Any]] = {
    "alpha": [Interval(Real, 0, None, closed="left"), "array-like"],
    "force_alpha": ["boolean"],
    "fit_prior": ["boolean"],
    "class_prior": ["array-like", None],
}


@dataclass(eq=False, repr=False)
class MultinomialNB(CountingBayes):
    """Naive Bayes for counts, as of words; results are those of scikit-learn's class of this name.

    Parameters
    ----------
    alpha : float or array-like of shape (features,), default=1.0
        Pseudo-counts that are added to each feature.
    force_alpha : bool, default=True
        False raises an alpha below 1e-10 to that.
    fit_prior : bool, default=True
        False makes all classes equally probable beforehand.
    class_prior : array-like of shape (classes,), optional
        Probabilities of the classes; by default their shares of the data.

    Attributes
    ----------
    classes_, class_count_, class_log_prior_ : ndarray of shape (classes,)
    feature_count_, feature_log_prob_ : ndarray of shape (classes, features)
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    _: KW_ONLY
    alpha: Any = 1.0
    force_alpha: bool = True
    fit_prior: bool = True
    class_prior: Any = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = COUNTING_CONSTRAINTS

    def _check_range(self, X: Any) -> None:
        check_non_negative(X, "MultinomialNB (input X)")

    def _log_probabilities(self, alpha: Any) -> np.ndarray:
        counts = self.feature_count_ + alpha
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(counts) - np.log(counts.sum(axis=1, keepdims=True))

    def _weight_and_bias(self) -> tuple[np.ndarray, np.ndarray]:
        return self.feature_log_prob_.T, self.class_log_prior_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags


@dataclass(eq=False, repr=False)
class BernoulliNB(CountingBayes):
    """Naive Bayes for features that are there or not; results are those of scikit-learn's class of this name.

    Parameters
    ----------
    alpha : float or array-like of shape (features,), default=1.0
        Pseudo-counts that are added to each feature.
    force_alpha : bool, default=True
        False raises an alpha below 1e-10 to that.
    binarize : float or None, default=0.0
        What is above counts as there; None takes X as it is, which must then be 0 or 1.  `to_network` has no such
        threshold: its network takes zeros and ones.
    fit_prior : bool, default=True
        False makes all classes equally probable beforehand.
    class_prior : array-like of shape (classes,), optional
        Probabilities of the classes; by default their shares of the data.

    Attributes
    ----------
    classes_, class_count_, class_log_prior_ : ndarray of shape (classes,)
    feature_count_, feature_log_prob_ : ndarray of shape (classes, features)
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    _: KW_ONLY
    alpha: Any = 1.0
    force_alpha: bool = True
    binarize: float | None = 0.0
    fit_prior: bool = True
    class_prior: Any = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **COUNTING_CONSTRAINTS,
        "binarize": [None, Interval(Real, 0, None, closed="left")],
    }

    def _learn(self, X: Any, positions: np.ndarray, weight: np.ndarray | None, first: bool) -> None:
        super()._learn(self._binary(X), positions, weight, first)

    def _prediction_data(self, X: Any) -> Any:
        return self._binary(super()._prediction_data(X))

    def _binary(self, X: Any) -> Any:
        if self.binarize is None:
            return X
        if not hasattr(X, "tocsr"):
            return (self.binarize < X).astype(np.float64)
        # the threshold is at least 0, so what is not stored is not there
        X = X.copy()
        X.data = (self.binarize < X.data).astype(np.float64)
        return X

    def _log_probabilities(self, alpha: Any) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(self.feature_count_ + alpha) - np.log(self.class_count_[:, None] + 2 * alpha)

    def _weight_and_bias(self) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(divide="ignore", invalid="ignore"):
            absent = np.log1p(-np.exp(self.feature_log_prob_))
            return (self.feature_log_prob_ - absent).T, self.class_log_prior_ + absent.sum(axis=1)
