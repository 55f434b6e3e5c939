"""The definition itself: in float64, the NumPy backend's gradients are the slopes of what it computes.

Central differences with Richardson's extrapolation, so that the differences' own error (h**4) leaves seven digits to
compare.  The data keep away from kinks: no pre-activation and no weight lies within a few steps of one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matrix import HIDDEN_ACTIVATIONS, NUMPY, Case, make_case, run_backward, run_forward

from pymlp.functions import ACTIVATIONS
from pymlp.layers import Moment
from pymlp.losses import LOSSES

STEP = 1e-3
# relative to the largest slope: differences of a sum of about 10 with steps of 1e-3 round to 1e-12
TOLERANCE = 1e-7
KINKED = ("relu", "leaky_relu", "elu", "selu")


def slopes(function: Callable[[], float], numbers: np.ndarray) -> np.ndarray:
    """Derivative of `function` by each of `numbers`, which it reads anew at every call."""
    flat = numbers.reshape(-1)
    found = np.empty_like(flat)
    for i, value in enumerate(flat.copy()):
        differences = []
        for step in (STEP, STEP / 2):
            flat[i] = value + step
            above = function()
            flat[i] = value - step
            differences.append((above - function()) / (2 * step))
        flat[i] = value
        found[i] = (4 * differences[1] - differences[0]) / 3
    return found.reshape(numbers.shape)


def smooth_case(activation: object, loss: str, **options: object) -> Case:
    """A small case whose pre-activations and weights stay on one side of every kink."""
    for seed in range(1000):
        case = make_case(4, (3, 4, 5, 2), activation, loss, seed=seed, **options)
        weights = np.concatenate([weight.ravel() for weight in case.network.weights(case.params)])
        case.X[:] = np.clip(case.X, -2, 2)
        pre_activations, _ = NUMPY.plan(case.network, 4)._forward_pass(case.params, case.X, Moment())
        if min(np.abs(z).min() for z in pre_activations[:-1]) > 20 * STEP and np.abs(weights).min() > 5 * STEP:
            return case
    raise AssertionError("no seed keeps away from the kinks")


def potential(case: Case) -> float:
    """What `loss_gradient` gives the gradient of: the summed loss and the penalties, over the sum of the weights."""
    network, loss = case.network, LOSSES[case.network.loss]
    weight = np.ones(len(case.X)) if case.weight is None else case.weight
    total = (loss.value(case.y, run_forward(NUMPY, case)) * loss.potential_factor(network.outputs)) @ weight
    for W in network.weights(case.params):
        total += network.l1 * np.abs(W).sum() + 0.5 * network.l2 * (W * W).sum()
    return total / weight.sum()


def assert_slopes(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def check_loss_gradient(case: Case) -> None:
    gradient = np.empty_like(case.params)
    value = NUMPY.plan(case.network, 4).loss_gradient(case.params, case.X, case.y, case.weight, gradient)
    assert_slopes(gradient, slopes(lambda: potential(case), case.params))
    if LOSSES[case.network.loss].potential_factor(2) == 1.0:
        assert value == pytest.approx(potential(case), rel=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_loss_gradient(activation: str, loss: str) -> None:
    check_loss_gradient(smooth_case(activation, loss))


@pytest.mark.parametrize("weight", ["random", "some zero"])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_gradient_with_weights_and_penalties(loss: str, weight: str) -> None:
    check_loss_gradient(smooth_case("tanh", loss, weight=weight, l1=0.05, l2=0.3))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_backward(activation: str, loss: str) -> None:
    case = smooth_case(activation, loss)
    output_gradient = np.random.default_rng(5).normal(size=case.y.shape)
    gradient, x_gradient = run_backward(NUMPY, case, output_gradient)

    def projected() -> float:
        return float((run_forward(NUMPY, case) * output_gradient).sum())

    assert_slopes(gradient, slopes(projected, case.params))
    assert_slopes(x_gradient, slopes(projected, case.X))


@pytest.mark.parametrize("activation", [name for name, row in ACTIVATIONS.items() if row.slope is not None])
def test_slope(activation: str) -> None:
    row = ACTIVATIONS[activation]
    z = np.linspace(-6, 6, 241)
    if activation in KINKED:
        z = z[np.abs(z) > 2 * STEP]
    moving = z.copy()
    expected = slopes_by_element(lambda: row.value(moving), moving)
    np.testing.assert_allclose(row.slope(z, row.value(z)), expected, rtol=1e-8, atol=1e-9)


def slopes_by_element(function: Callable[[], np.ndarray], numbers: np.ndarray) -> np.ndarray:
    """Derivative of each result by the number at its place."""
    centre = numbers.copy()
    differences = []
    for step in (STEP, STEP / 2):
        numbers[:] = centre + step
        above = function()
        numbers[:] = centre - step
        differences.append((above - function()) / (2 * step))
    numbers[:] = centre
    return (4 * differences[1] - differences[0]) / 3
