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
from matrix import (
    ENGINES,
    FEATURE_SETS,
    HIDDEN_ACTIVATIONS,
    NUMPY,
    Case,
    Engine,
    make_case,
    make_feature_case,
    run_backward,
    run_forward,
)

from pymlp.functions import ACTIVATIONS
from pymlp.layers import KINDS, Moment
from pymlp.losses import LOSSES

STEP = 1e-3
# relative to the largest slope: differences of a sum of about 10 with steps of 1e-3 round to 1e-12
TOLERANCE = 1e-7
KINKED = ("relu", "leaky_relu", "elu", "selu")
# of differences without extrapolation, whose error (h**2) is then as small as what they round to
SHORT_STEP = 1e-5
# the training step whose masks are used, and the place of the first row in its batch
PLACE = {"step": 11, "row_offset": 5}
# what stands beside every activation and loss: a fixed mask, a norm, a residual, penalties, and all there is
CHECKED_FEATURES = (("dropout",), ("layer norm",), ("residual",), ("penalties",), (*FEATURE_SETS[-1], "penalties"))


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


def short_slopes(function: Callable[[], float], numbers: np.ndarray) -> np.ndarray:
    """Derivative of `function` by each of `numbers`, which it reads anew at every call; two calls for each."""
    flat = numbers.reshape(-1)
    found = np.empty_like(flat)
    for i, value in enumerate(flat.copy()):
        flat[i] = value + SHORT_STEP
        above = function()
        flat[i] = value - SHORT_STEP
        found[i] = (above - function()) / (2 * SHORT_STEP)
        flat[i] = value
    return found.reshape(numbers.shape)


def nearest_kink(case: Case) -> float:
    """How near a pre-activation, a weight, or a score that a loss has a kink at comes to one."""
    moment = Moment(case.network.seed, PLACE["step"], PLACE["row_offset"])
    pre_activations, outputs = NUMPY.plan(case.network, 4)._forward_pass(case.params, case.X, moment)
    # where the targets of the losses with kinks lie: at the score, at 1 and -1 from it, at 1, at 0
    near = [np.abs(np.abs(case.y - outputs[-1]) - distance).min() for distance in (0, 1)]
    near += [np.abs(np.abs(outputs[-1]) - distance).min() for distance in (0, 1)]
    if case.network.output_activation not in ("identity", "ascending"):
        near = []
    near += [np.abs(weight).min() for weight in case.network.weights(case.params)]
    for row, z in zip(case.network.table[:-1], pre_activations[:-1], strict=True):
        if KINDS[row.kind].activates:
            near.append(np.abs(z).min())
        elif row.kind == "parametric":
            near.append(np.abs(outputs[row.source]).min())
    return min(near)


def feature_case(features: tuple[str, ...], activation: str, loss: str) -> Case:
    """A small case away from every kink."""
    for seed in range(1000):
        case = make_feature_case(features, 4, 3, 1, activation, loss, seed=seed)
        case.X[:] = np.clip(case.X, -2, 2)
        if nearest_kink(case) > 20 * SHORT_STEP:
            return case
    raise AssertionError("no seed keeps away from the kinks")


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
