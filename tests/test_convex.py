"""L-BFGS in better coordinates: the minimum does not depend on them, and needs fewer passes."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the minimiser is SciPy's")
pytest.importorskip("sklearn", reason="the data are scikit-learn's")

from classic_data import standardised
from scipy import optimize, sparse

from pymlp import backends, convex
from pymlp.convex import Problem, minimise
from pymlp.full_batch import FullBatch
from pymlp.network import Dense, Network


def problem_of(X, weight=None, **options):
    y = standardised("wine")[1]
    network = Network(X.shape[1], (Dense(3, "softmax"),), "log_loss", "float64", l2=2.0)
    batch = FullBatch(backends.get(), network, X, np.eye(3)[y], weight)
    whole = len(y) if weight is None else weight.sum()
    return Problem(batch, float(whole), 0.02, **options)


def run(problem, tol=1e-8):
    return minimise(problem, np.zeros((problem.batch.X.shape[1] + 1, 3)), max_iter=1000, tol=tol)


@pytest.mark.parametrize("options", [{}, {"bias_l2": 3.0}, {"with_bias": False}, {"l1": 1.0}], ids=str)
def test_coordinates_do_not_change_the_minimum(options, monkeypatch):
    X, _, weight = standardised("wine")
    problem = problem_of(X, weight, **options)
    found = run(problem)
    assert found.converged
    loss, gradient = problem(found.params)
    assert problem.distance(found.params, gradient) <= 1e-7
    assert found.loss == pytest.approx(loss + options.get("l1", 0) * np.abs(found.params[:-1]).sum() / weight.sum())
    monkeypatch.setattr(convex, "MOST_GRAM_FEATURES", 0)
    np.testing.assert_allclose(run(problem).params, found.params, atol=1e-5)
    if "with_bias" in options:
        assert not found.params[-1].any()


def test_the_gradient_is_that_of_the_loss():
    X, _, weight = standardised("wine")
    problem = problem_of(X, weight, bias_l2=3.0)
    point = np.random.RandomState(0).normal(size=(14, 3))
    found = problem(point)[1].ravel()
    expected = optimize.approx_fprime(point.ravel(), lambda at: problem(at.reshape(14, 3))[0], 1e-6)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_correlated_features_cost_no_passes():
    X = standardised("wine")[0]
    mixed = X @ (np.eye(13) + 0.97 * np.ones((13, 13))) * np.logspace(-2, 2, 13)
    plain, better = run(problem_of(X), 1e-6), run(problem_of(mixed), 1e-6)
    assert better.converged
    assert better.iterations < 3 * plain.iterations


def test_the_gram_matrix_of_some_rows_will_do(monkeypatch):
    X, _, weight = standardised("wine")
    weight = np.where(np.arange(len(weight)) % 5 == 0, 0, weight)
    whole = run(problem_of(X, weight))
    monkeypatch.setattr(convex, "GRAM_ROWS", 40)
    np.testing.assert_allclose(run(problem_of(X, weight)).params, whole.params, atol=1e-5)
    np.testing.assert_allclose(run(problem_of(sparse.csr_matrix(X), weight)).params, whole.params, atol=1e-5)


def test_an_end_without_convergence():
    problem = problem_of(standardised("wine")[0])
    found = minimise(problem, np.zeros((14, 3)), max_iter=2, tol=1e-10)
    assert (found.converged, found.iterations) == (False, 2)
    assert "LIMIT" in found.message
