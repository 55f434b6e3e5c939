"""How far two correct backends may lie apart: a running error analysis of the network, element by element.

The network runs in float64; with every number goes the size of the error that a backend of unit roundoff `epsilon` may
have made in it.  Rounding errors behave like independent random numbers, so their squares add: the product of length
k has ``2 sqrt(k) epsilon`` times the root of the sum of ``(a b)**2``, and passes on the errors of its operands in the
same way.  (Worst-case bounds are no use: through three layers of 100 columns they exceed the gradient itself.)  Where a
pre-activation lies within its error of a kink, the slope counts as unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matrix import Case

from pymlp.functions import ACTIVATIONS
from pymlp.losses import LOSSES

# bounds on the first derivative of every hidden activation but the square, which selu sets (alpha * scale = 1.758), and
# on the second, which the square sets
STEEPEST, MOST_CURVED = 1.8, 2.0
# rounding errors of one activation
FUNCTION_ERROR = 3


@dataclass
class Bounded:
    """Numbers in float64, and how far a backend's may lie from them."""

    value: np.ndarray
    error: np.ndarray


def product(a: Bounded, b: Bounded, epsilon: float) -> Bounded:
    """a @ b."""
    rounding = 4 * a.value.shape[1] * epsilon**2
    squares = (a.error**2 + rounding * a.value**2) @ b.value**2 + a.value**2 @ b.error**2
    return Bounded(a.value @ b.value, np.sqrt(squares))


def exact(value: np.ndarray) -> Bounded:
    """Numbers that every backend is given alike."""
    return Bounded(value, np.zeros_like(value))


def activated(name: str, z: Bounded, epsilon: float) -> Bounded:
    """The activation of pre-activations."""
    value = ACTIVATIONS[name].value(z.value)
    steepness = STEEPEST
    if name == "exp":
        steepness = np.abs(value) * np.exp(z.error)
    elif name == "square":
        steepness = 2 * np.abs(z.value) + z.error
    error = z.error if name != "softmax" else np.broadcast_to(z.error.max(axis=1, keepdims=True), z.error.shape)
    return Bounded(
        value, steepness * error + FUNCTION_ERROR * epsilon * (np.abs(value) + np.minimum(np.abs(z.value), 1))
    )


def forward(case: Case, epsilon: float) -> tuple[list[Bounded], list[Bounded]]:
    """Pre-activations and outputs of every layer; the first output is X."""
    pre_activations, outputs = [], [exact(case.X)]
    parts = zip(case.network.layers, case.network.weights(case.params), case.network.biases(case.params), strict=True)
    for layer, weight, bias in parts:
        z = product(outputs[-1], exact(weight), epsilon)
        z = Bounded(z.value + bias, z.error + 4 * epsilon * (np.abs(bias) + np.abs(z.value)))
        pre_activations.append(z)
        outputs.append(activated(layer.activation, z, epsilon))
    return pre_activations, outputs


def pulled_back(name: str, z: Bounded, a: Bounded, deltas: Bounded, epsilon: float) -> Bounded:
    """The gradient by the pre-activations from that by the outputs."""
    value = ACTIVATIONS[name].pullback(z.value, a.value, deltas.value)
    if name == "softmax":
        largest = np.abs(deltas.value).max(axis=1, keepdims=True)
        error = 4 * largest * (a.error + 8 * epsilon * a.value) + 2 * deltas.error.max(axis=1, keepdims=True)
        return Bounded(value, error)
    slope = np.abs(ACTIVATIONS[name].slope(z.value, a.value))
    curvature = np.abs(a.value) + a.error if name == "exp" else MOST_CURVED
    slope_error = curvature * (z.error + a.error) + FUNCTION_ERROR * epsilon
    has_kink = name in ("relu", "leaky_relu", "elu", "selu")
    slope_error = np.where(has_kink & (np.abs(z.value) <= 2 * z.error), STEEPEST, slope_error)
    error = deltas.error * (slope + slope_error) + np.abs(deltas.value) * slope_error + 4 * epsilon * np.abs(value)
    return Bounded(value, error)


def backward(
    case: Case, pre_activations: list[Bounded], outputs: list[Bounded], deltas: Bounded, epsilon: float
) -> tuple[Bounded, Bounded]:
    """Gradients by the parameters (flat) and by X, from that by the last pre-activations."""
    gradient = exact(np.zeros_like(case.params))
    weights = case.network.weights(case.params)
    for position in reversed(range(len(weights))):
        part, source = case.network.layout[position], outputs[position]
        of_weight = product(Bounded(source.value.T, source.error.T), deltas, epsilon)
        of_bias = product(exact(np.ones((1, len(deltas.value)))), deltas, epsilon)
        for piece, found in ((part.weight, of_weight), (part.bias, of_bias)):
            gradient.value[piece], gradient.error[piece] = found.value.ravel(), found.error.ravel()
        deltas = product(deltas, exact(weights[position].T), epsilon)
        if position:
            name = case.network.layers[position - 1].activation
            deltas = pulled_back(name, pre_activations[position - 1], source, deltas, epsilon)
    return gradient, deltas


def loss_gradient(case: Case, epsilon: float) -> tuple[Bounded, Bounded]:
    """Mean loss with the penalties (an array of one number), and its gradient; the weights do not sum to zero."""
    network, loss = case.network, LOSSES[case.network.loss]
    pre_activations, outputs = forward(case, epsilon)
    output, y = outputs[-1], case.y
    weight = np.ones(len(y)) if case.weight is None else case.weight
    total = weight.sum()
    values = loss.value(y, output.value)
    tiny = np.finfo(np.float32).eps
    steepness = {
        "squared_error": np.abs(output.value - y),
        "log_loss": y / np.maximum(output.value, tiny),
        "binary_log_loss": y / np.maximum(output.value, tiny) + (1 - y) / np.maximum(1 - output.value, tiny),
        "poisson": 1 + y / output.value,
    }[network.loss]
    size = np.abs(values) + (np.abs(y) + np.abs(output.value) + y * y).sum(axis=1)
    value_errors = (steepness * output.error).sum(axis=1) + FUNCTION_ERROR * epsilon * size
    scale = (weight / total)[:, None]
    deltas = (output.value - y) * scale
    delta_errors = (output.error + 4 * epsilon * (np.abs(output.value) + np.abs(y))) * scale
    gradient, _ = backward(case, pre_activations, outputs, Bounded(deltas, delta_errors), epsilon)
    value, value_error = (values * weight).sum() / total, (value_errors * weight).sum() / total
    for part in network.layout:
        W = case.params[part.weight]
        penalty = (network.l1 * np.abs(W).sum() + 0.5 * network.l2 * (W * W).sum()) / total
        slope = (network.l1 * np.sign(W) + network.l2 * W) / total
        value += penalty
        value_error += FUNCTION_ERROR * epsilon * (penalty + abs(value))
        gradient.value[part.weight] += slope
        gradient.error[part.weight] += 4 * epsilon * (np.abs(slope) + np.abs(gradient.value[part.weight]))
    return Bounded(np.array([value]), np.array([value_error])), gradient


def assert_within(found: np.ndarray, expected: Bounded, what: str) -> None:
    """Fail with the worst element if any lies beyond twice its bound (once for each of the two backends)."""
    found = np.asarray(found, np.float64).reshape(expected.value.shape)
    excess = np.abs(found - expected.value) - 2 * expected.error
    # NaN must not pass for small
    wrong = ~(excess <= 0)
    if wrong.any():
        worst = np.unravel_index(np.argmax(np.where(wrong, np.nan_to_num(excess, nan=np.inf), -np.inf)), excess.shape)
        raise AssertionError(
            f"{what}: {wrong.sum()} of {wrong.size} elements are off, most {tuple(map(int, worst))}: "
            f"{found[worst]!r} instead of {expected.value[worst]!r}, allowed {2 * expected.error[worst]:.3g}"
        )
