"""Convex fits of a single layer by L-BFGS-B, in coordinates in which the problem is nearly round.

Plain L-BFGS needs hundreds of passes over data whose features differ in size or go together, as pixels do.  The
curvature of the losses of linear classifiers is, but for a factor, that of least squares: the Gram matrix of the
features.  So the minimiser works on coordinates that make the Gram matrix of some thousand rows the unit matrix, which
takes a fifth of the passes on MNIST.  Convergence is judged on the gradient by the weights themselves, so `tol` means
what it means in scikit-learn.  (Byrd, Lu, Nocedal and Zhu, "A limited memory algorithm for bound constrained
optimization", 1995.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg, optimize

from pymlp.blas import one_blas_thread
from pymlp.full_batch import FullBatch
from pymlp.rows import dense_blocks

# beyond so many features their Gram matrix costs more than it saves, and each has a scale of its own instead
MOST_GRAM_FEATURES = 2048
# as where there are fewer rows than this part of the features
LEAST_ROWS = 0.25
# rows the Gram matrix is taken from, which shapes the coordinates only, and rows of them made dense at a time
GRAM_ROWS = 4096
GRAM_BLOCK = 1024
# what the Gram matrix's smallest eigenvalue is kept above, relative to its largest diagonal element
RIDGE = 1e-9
# SciPy's stop for a loss that no longer falls: scikit-learn's for its linear models
FLAT = 64 * np.finfo(np.float64).eps
MOST_SEARCHES = 50


@dataclass(frozen=True)
class Problem:
    """A layer to fit: the smooth loss ``batch``, which like the penalties is divided by the sum of the row weights.

    Parameters
    ----------
    batch : FullBatch
        Of a network of one dense layer with L2 penalty alone.
    whole : float
        The sum of the row weights.
    curvature : float
        About the second derivative of a row's loss by a score.
    l1 : float
        L1 penalty on the weights.
    bias_l2 : float
        L2 penalty on the biases.
    with_bias : bool
        False keeps the biases at 0.
    """

    batch: FullBatch
    whole: float
    curvature: float
    l1: float = 0.0
    bias_l2: float = 0.0
    with_bias: bool = True

    def __call__(self, params: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss without L1, and its gradient, at weights and biases (inputs + 1, outputs)."""
        loss, gradient = self.batch(params.ravel())
        gradient = gradient.reshape(params.shape)
        if self.bias_l2:
            biases = params[-1]
            loss += 0.5 * self.bias_l2 * float((biases * biases).sum()) / self.whole
            gradient[-1] += self.bias_l2 * biases / self.whole
        return loss, gradient

    def distance(self, params: np.ndarray, gradient: np.ndarray) -> float:
        """Largest component of the gradient; with L1, of the subgradient nearest to 0."""
        weights, slopes = params[:-1], gradient[:-1]
        if self.l1:
            rate = self.l1 / self.whole
            beyond = np.sign(slopes) * np.maximum(np.abs(slopes) - rate, 0)
            slopes = np.where(weights == 0, beyond, slopes + rate * np.sign(weights))
        largest = np.abs(slopes).max()
        return float(max(largest, np.abs(gradient[-1]).max()) if self.with_bias else largest)


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended: weights and biases (inputs + 1, outputs); without convergence, SciPy's message."""

    params: np.ndarray
    loss: float
    iterations: int
    converged: bool
    message: str


class _ConvergedError(Exception):
    """Ends the minimisation from within."""


class _Gram:
    """Coordinates u with ``params = inverse.T @ u``, where ``inverse`` undoes the Gram matrix's lower root."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.root = linalg.cholesky(matrix, lower=True, check_finite=False)
        # LAPACK and BLAS by name: they know that half of it is 0
        self.inverse, _ = linalg.lapack.dtrtri(self.root, lower=1)

    def of_params(self, params: np.ndarray) -> np.ndarray:
        return self.root.T @ params

    def to_params(self, point: np.ndarray) -> np.ndarray:
        return linalg.blas.dtrmm(1.0, self.inverse, point, lower=1, trans_a=1)

    def of_gradient(self, gradient: np.ndarray) -> np.ndarray:
        return linalg.blas.dtrmm(1.0, self.inverse, gradient, lower=1)


class _Scales:
    """Coordinates u with ``params = u / scales``."""

    def __init__(self, squares: np.ndarray) -> None:
        self.scales = np.sqrt(squares)[:, None]

    def of_params(self, params: np.ndarray) -> np.ndarray:
        return self.scales * params

    def to_params(self, point: np.ndarray) -> np.ndarray:
        return point / self.scales

    def of_gradient(self, gradient: np.ndarray) -> np.ndarray:
        return gradient / self.scales


def _sampled(problem: Problem) -> tuple[Any, np.ndarray]:
    """Some of the rows that count, evenly spread, and their weights."""
    batch = problem.batch
    rows = batch.X.shape[0]
    numbers = np.arange(rows) if batch.weight is None else np.flatnonzero(batch.weight)
    numbers = numbers[:: -(-len(numbers) // GRAM_ROWS)]
    weight = np.ones(len(numbers)) if batch.weight is None else batch.weight[numbers].astype(np.float64)
    return batch.X if len(numbers) == rows else batch.X[numbers], weight


def _curvature(problem: Problem, whole_matrix: bool) -> np.ndarray:
    """About the second derivatives of the loss: a matrix (inputs + 1, inputs + 1), or only its diagonal."""
    X, weight = _sampled(problem)
    inputs = X.shape[1]
    found = np.zeros((inputs + 1, inputs + 1) if whole_matrix else inputs + 1)
    for part, block in dense_blocks(X, GRAM_BLOCK, "float64"):
        roots = np.sqrt(weight[part, None])
        extended = np.hstack([block * roots, roots])
        found += extended.T @ extended if whole_matrix else (extended * extended).sum(axis=0)
    found *= problem.curvature / weight.sum()
    penalties = np.append(np.full(inputs, problem.batch.network.l2), problem.bias_l2) / problem.whole
    diagonal = found.diagonal() if whole_matrix else found
    penalties += RIDGE * diagonal.max()
    if whole_matrix:
        found.flat[:: inputs + 2] += penalties
        return found
    return found + penalties


def _coordinates(problem: Problem) -> _Gram | _Scales:
    inputs = problem.batch.X.shape[1]
    # rows by their weight, so that a weight of 2 stays the row twice
    few = problem.whole < LEAST_ROWS * inputs
    if problem.l1 or inputs > MOST_GRAM_FEATURES or few:
        # bounds hold for single coordinates
        return _Scales(_curvature(problem, whole_matrix=False))
    matrix = _curvature(problem, whole_matrix=True)
    if not problem.with_bias:
        matrix[-1, :-1] = matrix[:-1, -1] = 0
    try:
        return _Gram(matrix)
    except linalg.LinAlgError:
        # features of sizes so different that the matrix is singular but for rounding, or so large that it overflows
        return _Scales(matrix.diagonal())


class _Search:
    """The functions SciPy asks for: over all coordinates, or with L1 over the positive and the negative parts."""

    def __init__(self, problem: Problem, coordinates: _Gram | _Scales, shape: tuple[int, int], tol: float) -> None:
        self.problem, self.coordinates, self.shape, self.tol = problem, coordinates, shape, tol
        self.params = np.zeros(shape)
        self.loss, self.distance, self.iterations = np.inf, np.inf, 0

    def point_of(self, params: np.ndarray) -> np.ndarray:
        point = self.coordinates.of_params(params)
        if self.problem.l1:
            point = np.concatenate([np.maximum(point[:-1], 0), np.maximum(-point[:-1], 0), point[-1:]])
        return point.ravel()

    def bounds(self) -> Any:
        if not self.problem.l1:
            return None
        parts = 2 * (self.shape[0] - 1) * self.shape[1]
        lower = np.zeros(parts + self.shape[1])
        lower[parts:] = -np.inf
        return optimize.Bounds(lower, np.inf)

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        point = point.reshape(-1, self.shape[1])
        inputs, parts = self.shape[0] - 1, point[:-1]
        if self.problem.l1:
            point = np.concatenate([point[:inputs] - point[inputs : 2 * inputs], point[-1:]])
        self.params = self.coordinates.to_params(point)
        if not self.problem.with_bias:
            self.params[-1] = 0
        loss, gradient = self.problem(self.params)
        self.distance = self.problem.distance(self.params, gradient)
        if not self.problem.with_bias:
            gradient[-1] = 0
        slopes = self.coordinates.of_gradient(gradient)
        if self.problem.l1:
            rate = self.problem.l1 / self.problem.whole
            price = np.broadcast_to(rate / self.coordinates.scales[:-1], (inputs, self.shape[1]))
            loss += float((parts * np.concatenate([price, price])).sum())
            slopes = np.concatenate([slopes[:-1] + price, price - slopes[:-1], slopes[-1:]])
        self.loss = loss
        return loss, slopes.ravel()

    def accept(self, point: np.ndarray) -> None:
        # the accepted point is the last one evaluated
        self.iterations += 1
        if self.distance <= self.tol:
            raise _ConvergedError


def minimise(problem: Problem, start: np.ndarray, *, max_iter: int, tol: float) -> Minimum:
    """Fit the layer.

    Parameters
    ----------
    problem : Problem
    start : ndarray of shape (inputs + 1, outputs)
        Weights and biases to begin with.
    max_iter : int
    tol : float
        Largest component of the gradient at convergence.

    Returns
    -------
    Minimum
    """
    options = {"maxiter": max_iter, "gtol": 0.0, "ftol": FLAT, "maxls": MOST_SEARCHES}
    # the sums of BLAS depend on its threads; numbers too large for the arithmetic show in the result
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        search = _Search(problem, _coordinates(problem), start.shape, tol)
        try:
            result = optimize.minimize(
                search,
                search.point_of(start.astype(np.float64)),
                jac=True,
                method="L-BFGS-B",
                bounds=search.bounds(),
                callback=search.accept,
                options=options,
            )
        except _ConvergedError:
            return Minimum(search.params, search.loss, search.iterations, True, "")
        search(result.x)
    converged = result.status == 0 or search.distance <= tol
    return Minimum(search.params, search.loss, int(result.nit), bool(converged), str(result.message))
