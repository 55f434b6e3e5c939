"""In float64, the gradients are the slopes of what is computed: of the definition, and with features in every engine.

For plain layers the definition is checked, which the engines are then compared with: central differences with
Richardson's extrapolation, so that the differences' own error (h**4) leaves seven digits to compare.  With what else
layers have, each engine's gradient is checked against differences of what that engine computes.  The data keep away
from kinks: no pre-activation and no weight lies within a few steps of one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from differences import (
    KINKED,
    PLACE,
    STEP,
    TOLERANCE,
    assert_slopes,
    feature_case,
    potential,
    short_slopes,
    slopes,
    smooth_case,
)
from matrix import ENGINES, FEATURE_SETS, HIDDEN_ACTIVATIONS, NUMPY, Case, Engine, run_backward, run_forward

from pymlp.functions import ACTIVATIONS
from pymlp.losses import LOSSES

# what stands beside every activation and loss: a fixed mask, a norm, a residual, penalties, and all there is
CHECKED_FEATURES = (("dropout",), ("layer norm",), ("residual",), ("penalties",), (*FEATURE_SETS[-1], "penalties"))


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


def feature_potential(engine: Engine, case: Case) -> Callable[[], float]:
    """`potential` by an engine's forward of a training step."""
    network, loss = case.network, LOSSES[case.network.loss]
    plan, out, factor = engine.plan(network, len(case.X)), np.empty_like(case.y), loss.potential_factor(network.outputs)
    total_weight, weights = case.weight.sum(), network.weights(case.params)

    def compute() -> float:
        plan.forward(case.params, case.X, out, **PLACE)
        total = (loss.value(case.y, out) * factor) @ case.weight
        if network.l1 or network.l2:
            for W in weights:
                total += network.l1 * np.abs(W).sum() + 0.5 * network.l2 * np.square(W).sum()
        return total / total_weight

    return compute


# 13 activations x 15 losses x 5 sets of features: 975 configurations for each engine
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_loss_gradient_with_features(activation: str, loss: str) -> None:
    for features in CHECKED_FEATURES:
        case = feature_case(features, activation, loss)
        gradient = np.empty_like(case.params)
        for engine in ENGINES:
            plan = engine.plan(case.network, 4)
            plan.loss_gradient(case.params, case.X, case.y, case.weight, gradient, **PLACE)
            expected = short_slopes(feature_potential(engine, case), case.params)
            limit = TOLERANCE * np.abs(expected).max()
            np.testing.assert_allclose(gradient, expected, rtol=0, atol=limit, err_msg=f"{engine} {features}")


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
@pytest.mark.parametrize("features", CHECKED_FEATURES, ids="-".join)
def test_backward_with_features(features: tuple[str, ...], activation: str) -> None:
    case = feature_case(features, activation, "squared_error")
    output_gradient = np.random.default_rng(5).normal(size=case.y.shape)
    gradient, x_gradient, out = np.empty_like(case.params), np.empty_like(case.X), np.empty_like(case.y)
    for engine in ENGINES:
        plan = engine.plan(case.network, 4)

        def projected(plan=plan) -> float:
            plan.forward(case.params, case.X, out, **PLACE)
            return float((out * output_gradient).sum())

        plan.backward(case.params, case.X, output_gradient, gradient, x_gradient, **PLACE)
        assert_slopes(gradient, short_slopes(projected, case.params))
        assert_slopes(x_gradient, short_slopes(projected, case.X))
