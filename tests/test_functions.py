"""The registry of activations against the mathematics: values at the ends, far out, and in between.

References are SciPy's special functions and Python's `math`, which share no code with pymlp.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import special

from pymlp.functions import ACTIVATIONS, normal_cdf, softmax, xlogy
from pymlp.losses import LOSSES

INF = math.inf
ELEMENTWISE = [name for name, row in ACTIVATIONS.items() if row.slope is not None]
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
LOG_2 = math.log(2)

# value and slope at minus infinity, zero and infinity (the slope at a kink is the one scikit-learn takes: the left one)
ENDS = {
    "identity": ((-INF, 0, INF), (1, 1, 1)),
    "logistic": ((0, 0.5, 1), (0, 0.25, 0)),
    "tanh": ((-1, 0, 1), (0, 1, 0)),
    "relu": ((0, 0, INF), (0, 0, 1)),
    "leaky_relu": ((-INF, 0, INF), (0.01, 0.01, 1)),
    "elu": ((-1, 0, INF), (0, 1, 1)),
    "selu": ((-SELU_SCALE * SELU_ALPHA, 0, INF), (0, SELU_SCALE * SELU_ALPHA, SELU_SCALE)),
    "gelu": ((0, 0, INF), (0, 0.5, 1)),
    "silu": ((0, 0, INF), (0, 0.5, 1)),
    "mish": ((0, 0, INF), (0, 0.6, 1)),
    "softplus": ((0, LOG_2, INF), (0, 0.5, 1)),
    "exp": ((0, 1, INF), (0, 1, INF)),
    "cosine": ((math.nan, 1, math.nan), (math.nan, 0, math.nan)),
    "square": ((INF, 0, INF), (-INF, 0, INF)),
}
REFERENCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda z: z,
    "logistic": special.expit,
    "tanh": np.vectorize(math.tanh),
    "relu": lambda z: np.where(z > 0, z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, z / 100),
    "elu": lambda z: np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
    "selu": lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * (np.exp(np.minimum(z, 0)) - 1)),
    "gelu": lambda z: z * special.ndtr(z),
    "silu": lambda z: z * special.expit(z),
    "mish": lambda z: z * np.tanh(np.logaddexp(0, z)),
    "softplus": lambda z: np.logaddexp(0, z),
    "exp": np.vectorize(math.exp),
    "cosine": np.vectorize(math.cos),
    "square": lambda z: z * z,
}


@pytest.fixture(autouse=True)
def _quiet():
    # what the backends do around these functions
    with np.errstate(all="ignore"):
        yield


def test_the_tables_here_are_complete() -> None:
    assert set(ENDS) == set(REFERENCES) == set(ELEMENTWISE)
    of_outputs = ["exp", "softmax", "ascending", "mean_deviation"]
    assert [name for name, row in ACTIVATIONS.items() if not row.hidden] == of_outputs
    assert all(name == row.name for table in (ACTIVATIONS, LOSSES) for name, row in table.items())
    assert all(row.output_activation in ACTIVATIONS for row in LOSSES.values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_ends_and_zero(name: str, dtype: str) -> None:
    row = ACTIVATIONS[name]
    z = np.array([-INF, 0, INF], dtype)
    a = row.value(z)
    assert a.dtype == dtype
    np.testing.assert_allclose(a, ENDS[name][0], rtol=2 * np.finfo(dtype).eps)
    slope = row.slope(z, a)
    assert slope.dtype == dtype
    np.testing.assert_allclose(slope, ENDS[name][1], rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_not_a_number_stays_one(name: str, dtype: str) -> None:
    row = ACTIVATIONS[name]
    z = np.array([np.nan], dtype)
    assert np.isnan(row.value(z)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_values(name: str, dtype: str) -> None:
    z = np.linspace(-30, 30, 1201).astype(dtype)
    found = ACTIVATIONS[name].value(z).astype(np.float64)
    expected = REFERENCES[name](z.astype(np.float64))
    epsilon = np.finfo(dtype).eps
    # a product with an exponential carries its argument's rounding: |z| roundings; exp itself also
    np.testing.assert_allclose(found, expected, rtol=40 * epsilon, atol=8 * epsilon * min(1, np.abs(expected).max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_large_arguments(name: str, dtype: str) -> None:
    z = np.array([-1e30, -1000, 1000, 1e30], dtype)
    row = ACTIVATIONS[name]
    a = row.value(z)
    assert not np.isnan(a).any()
    assert np.isfinite(row.slope(z, a)[:2]).all()
    left, right = ENDS[name][0][0], ENDS[name][0][2]
    if np.isfinite(left):
        np.testing.assert_allclose(a[:2], left, atol=1e-30)
    if np.isfinite(right):
        np.testing.assert_allclose(a[2:], right)


def test_the_normal_distribution_keeps_its_relative_accuracy_in_the_tail() -> None:
    z = -np.linspace(0, 37, 400)
    # exp(-z**2 / 2) magnifies the rounding of its argument, of 700 at the end
    np.testing.assert_allclose(normal_cdf(z), special.ndtr(z), rtol=1e-12)
    np.testing.assert_allclose(normal_cdf(-z), special.ndtr(-z), rtol=1e-15)


def test_softmax() -> None:
    z = np.array([[1.0, 2.0, 3.0], [1000.0, 0.0, -1000.0], [-1e308, -1e308, -1e308]])
    np.testing.assert_allclose(softmax(z), special.softmax(z, axis=1), rtol=1e-14)
    np.testing.assert_allclose(softmax(z).sum(axis=1), 1)
    assert np.isnan(softmax(np.array([[np.nan, 1.0]]))).all()
    # its pullback is the product with the Jacobian, diag(a) - a a'
    a, gradient = softmax(z[:1]), np.array([[0.3, -0.2, 0.7]])
    expected = gradient @ (np.diag(a[0]) - np.outer(a[0], a[0]))
    np.testing.assert_allclose(ACTIVATIONS["softmax"].pullback(z[:1], a, gradient), expected, rtol=1e-13)


def test_nothing_times_the_logarithm_of_nothing() -> None:
    np.testing.assert_array_equal(xlogy(np.array([0.0, 0.0, 2.0]), np.array([0.0, np.nan, 1.0])), [0.0, 0.0, 0.0])
