"""Support vector machines as networks: linear ones, and the RBF kernel by a frozen layer of random Fourier features.

Both hold one class against the rest.  The squared hinge is smooth and fitted by L-BFGS; the hinge has a kink and is
trained in batches.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from pymlp import backends
from pymlp.convex import Problem
from pymlp.inference import predict_rows
from pymlp.layer_descent import BiasRule, Terms
from pymlp.linear import Discriminant, Examples, LinearClassifier, minimised
from pymlp.losses import CustomLoss
from pymlp.network import Dense, Network, random_source
from pymlp.optimizers import Adam
from pymlp.rows import counted_rows, dense_blocks
from pymlp.validation import Interval, StrOptions

# About the second derivative of the squared hinge: 2 for the rows inside the margin, which are some.
INSIDE = 0.5
# Of the descent for the hinge: the rate falls by 5 whenever so many epochs bring nothing
HINGE_RATE = 0.01
HINGE_PATIENCE = 5
VARIANCE_ROWS = 4096


def _nothing(y: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # the loss of a network that is not trained
    return np.zeros(len(y)), np.zeros_like(output)


def squared_hinge(inputs: int, outputs: int, dtype: str, C: float) -> Network:
    """The linear support vector machine with its objective divided by C."""
    return Network(inputs, (Dense(outputs, "identity"),), "squared_hinge", dtype, l2=1 / C)


@dataclass(eq=False, repr=False)
class LinearSVC(LinearClassifier):
    """Linear support vector machine; with "squared_hinge" the objective is that of scikit-learn's class of this name.

    Minimises ``sum(W**2) / 2 + C * sum(losses)`` for each class against the rest.  As in liblinear the intercept is the
    weight of a constant feature ``intercept_scaling``, which is penalised like the others.

    Parameters
    ----------
    loss : {"squared_hinge", "hinge"}, default="squared_hinge"
        "hinge" is trained by Adam in batches of ``min(200, rows)``, to a lower precision.
    tol : float, default=1e-4
        Largest component of the gradient of the mean loss at convergence ("squared_hinge"), or least improvement of the
        mean loss ("hinge").
    C : float, default=1.0
        Weight of the data against the penalty.
    fit_intercept : bool, default=True
    intercept_scaling : float, default=1.0
        The larger, the less the intercept is penalised.
    class_weight : dict, "balanced" or None, default=None
    random_state : int, RandomState or None, default=None
        Draws the order of the rows, for "hinge".
    max_iter : int, default=1000
        Most iterations, or epochs for "hinge".

    Attributes
    ----------
    classes_ : ndarray
    coef_ : ndarray of shape (classes, features), or (1, features) for two classes
    intercept_ : ndarray of shape (classes,), or (1,)
    params_, network_
        The same as a flat vector, and the network it belongs to.
    n_iter_ : int
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    _: KW_ONLY
    loss: str = "squared_hinge"
    tol: float = 1e-4
    C: float = 1.0
    fit_intercept: bool = True
    intercept_scaling: float = 1.0
    class_weight: Any = None
    random_state: Any = None
    max_iter: int = 1000

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "loss": [StrOptions({"squared_hinge", "hinge"})],
        "tol": [Interval(Real, 0, None, closed="left")],
        "C": [Interval(Real, 0, None, closed="neither")],
        "fit_intercept": ["boolean"],
        "intercept_scaling": [Interval(Real, 0, None, closed="neither")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def _learn(self, examples: Examples) -> None:
        inputs, outputs = examples.X.shape[1], examples.y.shape[1]
        solve = self._minimise if self.loss == "squared_hinge" else self._train
        self.params_, self.n_iter_ = solve(examples)
        self.network_ = Network(inputs, (Dense(outputs, "identity"),), self.loss, examples.dtype, l2=1 / self.C)

    def _minimise(self, examples: Examples) -> tuple[np.ndarray, int]:
        network = squared_hinge(examples.X.shape[1], examples.y.shape[1], examples.dtype, self.C)
        problem = Problem(
            examples.full_batch(network),
            examples.whole,
            INSIDE,
            bias_l2=network.l2 / self.intercept_scaling**2,
            with_bias=self.fit_intercept,
        )
        return minimised(type(self).__name__, problem, self._start(examples), self.max_iter, self.tol)

    def _train(self, examples: Examples) -> tuple[np.ndarray, int]:
        batch_size = examples.batch_size("auto")
        # each batch has its share of the penalty
        l2 = batch_size / len(examples.y) / self.C
        layer = Dense(examples.y.shape[1], "identity")
        network = Network(examples.X.shape[1], (layer,), "hinge", examples.dtype, l2=l2)
        terms = Terms(Adam(), "adaptive", HINGE_RATE, batch_size, self.max_iter, self.tol, HINGE_PATIENCE)
        rule = BiasRule(l2 / self.intercept_scaling**2, fixed=not self.fit_intercept)
        random = random_source(self.random_state)
        return self._descend(network, examples, self._start(examples), terms, random, rule)


@dataclass(eq=False, repr=False)
class FourierSVC(Discriminant):
    """Support vector machine with the RBF kernel ``exp(-gamma |x - z|**2)``, by random Fourier features.

    A frozen layer of cosines, whose products are the kernel on average (Rahimi and Recht, "Random features for
    large-scale kernel machines", 2007), then a linear machine with squared hinge, one class against the rest.  Time and
    memory grow with the rows and not, as scikit-learn's `SVC`, with their square: the features of all rows are kept
    while it is fitted.  It has no support vectors and no probabilities (see
    `sklearn.calibration.CalibratedClassifierCV`).

    Parameters
    ----------
    C : float, default=1.0
        Weight of the data against the penalty.
    gamma : {"scale", "auto"} or float, default="scale"
        "scale" is ``1 / (features * X.var())``, the variance over all numbers of X with the weights of their rows;
        "auto" is ``1 / features``.
    n_components : int, default=1000
        Number of cosines: the error of the kernel falls with its root.
    tol : float, default=1e-4
        Largest component of the gradient of the mean loss by the weights of the cosines, at convergence.
    class_weight : dict, "balanced" or None, default=None
    random_state : int, RandomState or None, default=None
        Draws the features.
    max_iter : int, default=1000

    Attributes
    ----------
    classes_ : ndarray
    params_, network_
        Two layers: cosines and scores.
    gamma_ : float
    n_iter_ : int
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    _: KW_ONLY
    C: float = 1.0
    gamma: Any = "scale"
    n_components: int = 1000
    tol: float = 1e-4
    class_weight: Any = None
    random_state: Any = None
    max_iter: int = 1000

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="neither")],
        "gamma": [StrOptions({"scale", "auto"}), Interval(Real, 0, None, closed="neither")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def _learn(self, examples: Examples) -> None:
        inputs, outputs, dtype = examples.X.shape[1], examples.y.shape[1], examples.dtype
        draw = random_source(self.random_state)
        self.gamma_ = self._kernel_gamma(examples)
        frequencies = draw.normal(0.0, np.sqrt(2 * self.gamma_), (inputs, self.n_components))
        phases = draw.uniform(0.0, 2 * np.pi, self.n_components)
        frozen = np.concatenate([frequencies.ravel(), phases]).astype(dtype)
        features = self._cosines(examples.X, frozen, dtype)
        trained, self.n_iter_ = self._minimise(replace(examples, X=features))
        layers = Dense(self.n_components, "cosine"), Dense(outputs, "identity")
        self.network_ = Network(inputs, layers, "squared_hinge", dtype)
        self.params_ = np.concatenate([frozen, trained])

    def _minimise(self, examples: Examples) -> tuple[np.ndarray, int]:
        # the kernel's features are sqrt(2 / n_components) times the cosines: the penalty is on their weights
        C = 2 * self.C / self.n_components
        network = squared_hinge(self.n_components, examples.y.shape[1], examples.dtype, C)
        problem = Problem(examples.full_batch(network), examples.whole, INSIDE)
        start = np.zeros(network.n_parameters)
        return minimised(type(self).__name__, problem, start, self.max_iter, self.tol)

    def _kernel_gamma(self, examples: Examples) -> float:
        inputs = examples.X.shape[1]
        if self.gamma == "auto":
            return 1 / inputs
        if self.gamma != "scale":
            return float(self.gamma)
        # once for the mean and once around it, which loses no digits
        mean = self._weighted_mean(examples, 0.0, 1)
        variance = self._weighted_mean(examples, mean, 2)
        return 1 / (inputs * variance) if variance > 0 else 1.0

    @staticmethod
    def _weighted_mean(examples: Examples, centre: float, power: int) -> float:
        total = 0.0
        for part, block in dense_blocks(examples.X, VARIANCE_ROWS, "float64"):
            if examples.weight is not None:
                block = counted_rows(block, examples.weight[part])
            of_rows = ((block - centre) ** power).sum(axis=1)
            total += float((of_rows if examples.weight is None else of_rows * examples.weight[part]).sum())
        return total / (examples.whole * examples.X.shape[1])

    def _cosines(self, X: Any, frozen: np.ndarray, dtype: str) -> np.ndarray:
        # by the cosine that predictions go through, which has the same bits on every machine
        network = Network(X.shape[1], (Dense(self.n_components, "cosine"),), CustomLoss(_nothing, "cosine"), dtype)
        out = np.empty((X.shape[0], self.n_components), dtype)
        predict_rows(backends.get().Predictor(network, frozen), X, out)
        return out
