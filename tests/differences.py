"""Derivatives by central differences, and small cases that keep away from kinks: no pre-activation, no weight and no
score lies within a few steps of one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matrix import NUMPY, Case, make_case, make_feature_case, run_forward

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
