"""Linear classifiers: networks of a single layer, fitted by L-BFGS-B over all rows or by descent in batches.

What they share is here, with `LogisticRegression` and the `Perceptron`; the support vector machines are in
`pymlp.support_vectors`.
"""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from pymlp import backends
from pymlp.class_weights import check_counted, row_weights
from pymlp.classifiers import (
    check_labelled_data,
    known_classes,
    log_normalised,
    network_outputs,
    network_scores,
    unchanged_on_failure,
)
from pymlp.convex import Problem, minimise
from pymlp.full_batch import FullBatch
from pymlp.layer_descent import BiasRule, Terms, descend
from pymlp.network import Dense, Network, random_source
from pymlp.optimizers import OPTIMIZERS, SGD, Optimizer
from pymlp.targets import ClassTargets
from pymlp.validation import Interval, StrOptions, check_parameters, check_prediction_data, check_sample_weight
from pymlp.versioned import VersionedState

# About the second derivative of a log loss once most rows are sure, as a share of what it is before training: anywhere
# between 0.03 and 0.3 the passes over MNIST are nearly as few.
SURE = 0.1
# a warning shall name the line that called fit: what warns, `_minimise` or `_train`, `_learn`, `_fit`, `fit`, that line
STACK_LEVEL = 6
# the perceptron's patience counts epochs of at least so many steps: fewer change the weights too little to judge by
PATIENCE_STEPS = 20


def finite(params: np.ndarray) -> np.ndarray:
    """The parameters; ValueError if training has left them not finite."""
    if not np.isfinite(params).all():
        raise ValueError(
            "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
            "preprocessed."
        )
    return params


def minimised(name: str, problem: Problem, start: np.ndarray, max_iter: int, tol: float) -> tuple[np.ndarray, int]:
    """Flat parameters and iterations of a minimisation by L-BFGS; warns where it did not converge."""
    network = problem.batch.network
    minimum = minimise(problem, start.reshape(-1, network.outputs), max_iter=max_iter, tol=tol)
    if not minimum.converged:
        warnings.warn(
            f"lbfgs failed to converge after {minimum.iterations} iteration(s) (max_iter={max_iter}) in {name}: "
            f"{minimum.message}. Inputs of similar scale help: see sklearn.preprocessing.StandardScaler.",
            ConvergenceWarning,
            stacklevel=STACK_LEVEL,
        )
    return finite(minimum.params.ravel().astype(network.dtype)), minimum.iterations


@dataclass(frozen=True)
class Examples:
    """Checked training data of one fit: X, targets of 0 and 1 (rows, outputs), row weights or None, dtype.

    ``first`` says that the fit begins anew, ``incremental`` that it is a ``partial_fit``.
    """

    X: Any
    y: np.ndarray
    weight: np.ndarray | None
    dtype: str
    first: bool
    incremental: bool

    @property
    def whole(self) -> float:
        """The sum of the row weights."""
        return float(len(self.y)) if self.weight is None else float(self.weight.sum(dtype=np.float64))

    @property
    def arrays(self) -> tuple[Any, np.ndarray, np.ndarray | None]:
        """X, y and the weights."""
        return self.X, self.y, self.weight

    def full_batch(self, network: Network) -> FullBatch:
        """The network's loss over all rows."""
        return FullBatch(backends.get(), network, *self.arrays)

    def batch_size(self, asked: Any) -> int:
        """Rows of a batch: "auto" is at most 200."""
        return min(200 if asked == "auto" else int(asked), len(self.y))


class Discriminant(ClassifierMixin, VersionedState, BaseEstimator):
    """What follows from a network with a score for each class, and what comes before its fit."""

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
            targets = ClassTargets("binary" if len(known) == 2 else "multiclass", known)
            encoded = targets.encode(y, dtype)
            weight = check_sample_weight(sample_weight, X.shape[0], dtype)
            weight = row_weights(self.class_weight, targets, encoded, weight)
            if not incremental:
                check_counted(weight)
            self._learn(Examples(X, encoded, weight, dtype, first, incremental))
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


class LinearClassifier(Discriminant):
    """Weights and biases of a single layer."""

    @property
    def coef_(self) -> np.ndarray:
        """Weights, (classes, features), or (1, features) for two classes: a view of ``params_``."""
        return self._fitted_network("coef_").weights(self.params_)[0].T

    @coef_.setter
    def coef_(self, values: Any) -> None:
        self.coef_[...] = values

    @property
    def intercept_(self) -> np.ndarray:
        """Biases, (classes,), or (1,) for two classes: a view of ``params_``."""
        return self._fitted_network("intercept_").biases(self.params_)[0]

    @intercept_.setter
    def intercept_(self, values: Any) -> None:
        self.intercept_[...] = values

    def _fitted_network(self, name: str) -> Network:
        if "network_" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet, so it has no {name}")
        return self.network_

    def _start(self, examples: Examples) -> np.ndarray:
        """Where a fit begins: the last fit's parameters, or 0."""
        parameters = (examples.X.shape[1] + 1) * examples.y.shape[1]
        return np.zeros(parameters, examples.dtype) if examples.first else self.params_

    def _descend(
        self,
        network: Network,
        examples: Examples,
        start: np.ndarray,
        terms: Terms,
        random: Any,
        bias_rule: BiasRule,
    ) -> tuple[np.ndarray, int]:
        """Parameters and epochs of a descent in batches; warns where `max_iter` ended it."""
        name = type(self).__name__
        arrival = descend(name, network, examples.arrays, start, terms, random, bias_rule)
        if not arrival.converged:
            warnings.warn(
                f"Maximum iterations ({self.max_iter}) reached and {name} hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=STACK_LEVEL,
            )
        return finite(arrival.params), len(arrival.losses)


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
        Draws the order of the rows, for batches.
    solver : str or object of `pymlp.optimizers`, default="lbfgs"
        "lbfgs", L-BFGS over all rows; or descent in batches by a name in `pymlp.optimizers.OPTIMIZERS` or an object
        such as `pymlp.SGD`, at a rate that falls until nothing improves any more.
    max_iter : int, default=100
        Most iterations, or epochs.
    warm_start : bool, default=False
        Go on from the weights of the last fit.
    learning_rate_init : float, default=0.01
        Of batches.
    batch_size : int or "auto", default="auto"
        "auto" is ``min(200, rows)``.
    n_iter_no_change : int, default=5
        Epochs in which the mean loss improves by less than `tol` before the rate falls, for batches.

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
    solver: Any = "lbfgs"
    max_iter: int = 100
    warm_start: bool = False
    learning_rate_init: float = 0.01
    batch_size: Any = "auto"
    n_iter_no_change: int = 5

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="right")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
        "solver": [StrOptions({"lbfgs", *OPTIMIZERS}), Optimizer],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    }

    def _learn(self, examples: Examples) -> None:
        outputs = examples.y.shape[1]
        layer = Dense(1, "logistic") if outputs == 1 else Dense(outputs, "softmax")
        loss = "binary_log_loss" if outputs == 1 else "log_loss"
        l1, l2 = self.l1_ratio / self.C, (1 - self.l1_ratio) / self.C
        network = Network(examples.X.shape[1], (layer,), loss, examples.dtype, l1=l1, l2=l2)
        solve = self._minimise if self.solver == "lbfgs" else self._train
        params, iterations = solve(network, examples)
        self.network_, self.params_, self.n_iter_ = network, params, np.array([iterations], np.int32)

    def _minimise(self, network: Network, examples: Examples) -> tuple[np.ndarray, int]:
        classes = len(self.classes_)
        problem = Problem(
            examples.full_batch(replace(network, l1=0.0)),
            examples.whole,
            SURE * (classes - 1) / classes**2,
            l1=network.l1,
            with_bias=self.fit_intercept,
        )
        return minimised(type(self).__name__, problem, self._start(examples), self.max_iter, self.tol)

    def _train(self, network: Network, examples: Examples) -> tuple[np.ndarray, int]:
        batch_size = examples.batch_size(self.batch_size)
        # each batch has its share of the penalties
        share = batch_size / len(examples.y)
        network = replace(network, l1=network.l1 * share, l2=network.l2 * share)
        optimizer = OPTIMIZERS[self.solver]() if isinstance(self.solver, str) else self.solver
        terms = Terms(
            optimizer, "adaptive", self.learning_rate_init, batch_size, self.max_iter, self.tol, self.n_iter_no_change
        )
        random = random_source(self.random_state)
        rule = BiasRule(fixed=not self.fit_intercept)
        return self._descend(network, examples, self._start(examples), terms, random, rule)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, shape (rows, classes)."""
        network, params, with_complement, _ = self._prediction_state()
        X = check_prediction_data(self, X, network.dtype)
        return network_outputs(network, params, X, with_complement=with_complement)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of `predict_proba`."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            # the softmax of the scores 0 and s is the logistic function of s
            scores = np.column_stack([np.zeros_like(scores), scores])
        return log_normalised(scores)

    def _prediction_state(self) -> tuple[Network, np.ndarray, bool, bool]:
        """What `pymlp.Predictor` is made of; see `MultilayerPerceptron`."""
        check_is_fitted(self)
        return self.network_, self.params_, self.network_.outputs == 1, False


@dataclass(eq=False, repr=False)
class Perceptron(LinearClassifier):
    """The perceptron (Rosenblatt, "The perceptron", 1958), trained in batches: one class against the rest.

    scikit-learn's class of this name corrects its weights after each wrong row; here a step is the mean of the
    corrections of a batch, so the two find different weights.  ``batch_size=1`` is the original rule.

    Parameters
    ----------
    penalty : {None, "l2", "l1", "elasticnet"}, default=None
    alpha : float, default=0.0001
        Weight of the penalty.
    l1_ratio : float, default=0.15
        Share of the L1 penalty, for "elasticnet".
    fit_intercept : bool, default=True
    max_iter : int, default=1000
        Most epochs.
    tol : float, default=1e-3
        Least improvement of the mean loss.
    shuffle : bool, default=True
        Draw a new order of the rows for each epoch.
    eta0 : float, default=1.0
        The rate.
    random_state : int, RandomState or None, default=0
    n_iter_no_change : int, default=5
        Epochs without improvement before training stops; shorter ones than 20 steps count as parts of one.
    class_weight : dict, "balanced" or None, default=None
    warm_start : bool, default=False
        Go on from the weights of the last fit.
    batch_size : int or "auto", default="auto"
        "auto" is ``min(200, rows)``.

    Attributes
    ----------
    classes_, coef_, intercept_, params_, network_, n_features_in_, feature_names_in_
        As of `LogisticRegression`.
    n_iter_ : int
        Epochs of the last fit.
    """

    _: KW_ONLY
    penalty: str | None = None
    alpha: float = 0.0001
    l1_ratio: float = 0.15
    fit_intercept: bool = True
    max_iter: int = 1000
    tol: float = 1e-3
    shuffle: bool = True
    eta0: float = 1.0
    random_state: Any = 0
    n_iter_no_change: int = 5
    class_weight: Any = None
    warm_start: bool = False
    batch_size: Any = "auto"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "penalty": [StrOptions({"l2", "l1", "elasticnet"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "fit_intercept": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "shuffle": ["boolean"],
        "eta0": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "warm_start": ["boolean"],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    }

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Perceptron:
        """Train for one epoch over the given rows, going on from the present weights.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, features)
        y : array-like of shape (rows,)
        classes : array-like of shape (classes,)
            All classes there will be; needed at the first call.
        sample_weight : array-like of shape (rows,), optional

        Returns
        -------
        self
        """
        if self.class_weight == "balanced":
            raise ValueError(
                'class_weight="balanced" needs all data at once: for partial_fit give a dict, such as '
                "sklearn.utils.class_weight.compute_class_weight finds"
            )
        return self._fit(X, y, sample_weight, classes, incremental=True)

    def _learn(self, examples: Examples) -> None:
        batch_size = examples.batch_size(self.batch_size)
        l1_share = {None: 0.0, "l2": 0.0, "l1": 1.0, "elasticnet": self.l1_ratio}[self.penalty]
        # the engine divides penalties by the weights of the batch, here taken for its share of all
        share = batch_size / len(examples.y)
        strength = 0.0 if self.penalty is None else self.alpha * share * examples.whole
        layer = Dense(examples.y.shape[1], "identity")
        l1, l2 = strength * l1_share, strength * (1 - l1_share)
        self.network_ = Network(examples.X.shape[1], (layer,), "perceptron", examples.dtype, l1=l1, l2=l2)
        self.params_, self.n_iter_ = self._train(self.network_, examples, batch_size)

    def _train(self, network: Network, examples: Examples, batch_size: int) -> tuple[np.ndarray, int]:
        patience = self.n_iter_no_change * -(-PATIENCE_STEPS * batch_size // len(examples.y))
        optimizer = SGD(momentum=0.0, nesterov=False)
        terms = Terms(optimizer, "constant", self.eta0, batch_size, self.max_iter, self.tol, patience)
        random = random_source(self.random_state) if self.shuffle else None
        rule = BiasRule(fixed=not self.fit_intercept)
        # the first epoch by itself: weights of 0 make no loss, after which none would be an improvement
        name, start = type(self).__name__, self._start(examples)
        begun = descend(name, network, examples.arrays, start, replace(terms, epochs=1), random, rule)
        if examples.incremental or self.max_iter == 1:
            return begun.params, 1
        terms = replace(terms, epochs=self.max_iter - 1)
        params, epochs = self._descend(network, examples, begun.params, terms, random, rule)
        return params, epochs + 1
