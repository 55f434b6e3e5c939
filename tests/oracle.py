"""What a network computes, worked out slowly and obviously: one number after the other, in 40 digits.

Nothing here is shared with a backend, the NumPy one included: a layer is a loop over its units, a slope or the gradient
of a loss is the difference of two values 2e-14 apart, a mask comes from a generator of plain integers.  Only the way
back through the layers is written out as formulas; `test_oracle_networks` holds it against differences of whole losses.
Formulas of the activations are those of `function_errors`, which judges each of them by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np
from function_errors import VALUES, Digits
from mpmath import mpf

from pymlp.layers import NORM_EPSILON, Dense
from pymlp.network import Network
from pymlp.optimizers import Optimizer

DIGITS = 40
# half the distance of the two values that a slope is taken from: its error is some 1e-26 of the slope
STEP = mpf(2) ** -46

Numbers = list[Any]
# from the gradient by what came out to that by what went in; adds to the gradient by the parameters on its way
Pull = Callable[[Numbers], Numbers]


def exactly(array: Any) -> Any:
    """The numbers of an array as they are, in lists of its shape; those of the oracle keep their digits."""
    if np.ndim(array):
        return [exactly(part) for part in array]
    return array if isinstance(array, mpf) else mpf(float(array))


def slope(function: Callable[[Any], Any], at: Any) -> Any:
    """The derivative of a function of one number."""
    return (function(at + STEP) - function(at - STEP)) / (2 * STEP)


# ------------------------------------------------------------------------------------------------------------- masks


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """The four words of Philox4x32-10, as its authors define it."""
    a, b, c, d = counter
    first, second = key
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (
            (right >> 32) ^ b ^ first,
            right & 0xFFFFFFFF,
            (left >> 32) ^ d ^ second,
            left & 0xFFFFFFFF,
        )
        first, second = (first + 0x9E3779B9) & 0xFFFFFFFF, (second + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d


def is_kept(rate: float, unit: int, *, seed: int, step: int, layer: int, row: int) -> bool:
    """Whether dropout keeps a unit; `layer` counts every part of a layer as one."""
    counter = (unit // 4, row, step & 0xFFFFFFFF, layer | (step >> 32) << 16)
    word = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))[unit % 4]
    return word >= int(rate * 2.0**32 + 0.5)


# ------------------------------------------------------------------------------------------------------------ layers


class Row:
    """One row of data on its way through a network: its numbers, and how gradients come back.

    Parameters
    ----------
    network : Network
    params : list of number
    gradient : list of number
        By the parameters; what comes back through the row is added to it.
    step : int or None
        None is inference.
    number : int
        Place of the row in its batch.
    """

    def __init__(self, network: Network, params: Numbers, gradient: Numbers, step: int | None, number: int) -> None:
        self.network, self.params, self.gradient, self.step, self.number = network, params, gradient, step, number
        # parameters used so far, and parts of layers passed so far
        self.used = self.passed = 0

    def scores(self, x: Numbers) -> tuple[Numbers, Pull]:
        """What the output layer has before its activation, and the way back from there to the inputs."""
        pulls: list[Pull] = []
        if self.network.input_dropout:
            x, pull = self._dropout(self.network.input_dropout, x)
            pulls.append(pull)
        for layer in self.network.layers[:-1]:
            x, pull = self._layer(layer, x)
            pulls.append(pull)
        x, pull = self._dense(x, self.network.outputs)
        pulls.append(pull)
        assert self.used == len(self.params)
        return x, _one_after_the_other(pulls)

    def _layer(self, layer: Dense, x: Numbers) -> tuple[Numbers, Pull]:
        first = x
        x, pull = self._dense(x, layer.outputs)
        pulls = [pull]
        if layer.normalization == "layer":
            x, pull = self._normalised(x)
            pulls.append(pull)
        x, pull = self._parametric(layer.activation, x) if layer.parametric else _activated(layer.activation, x)
        pulls.append(pull)
        if layer.dropout:
            x, pull = self._dropout(layer.dropout, x)
            pulls.append(pull)
        inner = _one_after_the_other(pulls)
        if not layer.residual:
            return x, inner
        self.passed += 1
        return [a + b for a, b in zip(x, first, strict=True)], lambda d: [
            a + b for a, b in zip(inner(d), d, strict=True)
        ]

    def _part(self, count: int) -> int:
        # where the next `count` parameters are
        self.used += count
        return self.used - count

    def _dense(self, x: Numbers, outputs: int) -> tuple[Numbers, Pull]:
        self.passed += 1
        weight, bias = self._part(len(x) * outputs), self._part(outputs)
        z = []
        for j in range(outputs):
            total = self.params[bias + j]
            for i in range(len(x)):
                total += x[i] * self.params[weight + i * outputs + j]
            z.append(total)

        def pull(d: Numbers) -> Numbers:
            by_input = [mpf(0)] * len(x)
            for j in range(outputs):
                self.gradient[bias + j] += d[j]
                for i in range(len(x)):
                    self.gradient[weight + i * outputs + j] += x[i] * d[j]
                    by_input[i] += self.params[weight + i * outputs + j] * d[j]
            return by_input

        return z, pull

    def _normalised(self, x: Numbers) -> tuple[Numbers, Pull]:
        self.passed += 1
        units, width = range(len(x)), len(x)
        gain, shift = self._part(width), self._part(width)
        mean = sum(x) / width
        deviation = mpmath.sqrt(sum((number - mean) ** 2 for number in x) / width + mpf(NORM_EPSILON))
        normal = [(number - mean) / deviation for number in x]

        def pull(d: Numbers) -> Numbers:
            for i in units:
                self.gradient[gain + i] += d[i] * normal[i]
                self.gradient[shift + i] += d[i]
            by_normal = [d[i] * self.params[gain + i] for i in units]
            level = sum(by_normal) / width
            slant = sum(by_normal[i] * normal[i] for i in units) / width
            return [(by_normal[i] - level - normal[i] * slant) / deviation for i in units]

        return [normal[i] * self.params[gain + i] + self.params[shift + i] for i in units], pull

    def _parametric(self, activation: str, x: Numbers) -> tuple[Numbers, Pull]:
        self.passed += 1
        units, mixture = range(len(x)), self._part(len(x))
        curve = _curve(activation)
        values = [curve(number) for number in x]

        def pull(d: Numbers) -> Numbers:
            for i in units:
                self.gradient[mixture + i] += d[i] * (values[i] - x[i])
            return [d[i] * (1 + self.params[mixture + i] * (slope(curve, x[i]) - 1)) for i in units]

        return [x[i] + self.params[mixture + i] * (values[i] - x[i]) for i in units], pull

    def _dropout(self, rate: float, x: Numbers) -> tuple[Numbers, Pull]:
        layer = self.passed
        self.passed += 1
        if self.step is None:
            return x, lambda d: d
        place = {"seed": self.network.seed, "step": self.step, "layer": layer, "row": self.number}
        factors = [1 / (1 - mpf(rate)) if is_kept(rate, i, **place) else mpf(0) for i in range(len(x))]

        def through(numbers: Numbers) -> Numbers:
            return [number * factor for number, factor in zip(numbers, factors, strict=True)]

        return through(x), through


def _curve(activation: str) -> Callable[[Any], Any]:
    return lambda z: mpf(VALUES[activation](Digits, z))


def _activated(activation: str, x: Numbers) -> tuple[Numbers, Pull]:
    curve = _curve(activation)
    return [curve(number) for number in x], lambda d: [d[i] * slope(curve, x[i]) for i in range(len(x))]


def _one_after_the_other(pulls: Sequence[Pull]) -> Pull:
    def pull(d: Numbers) -> Numbers:
        for each in reversed(pulls):
            d = each(d)
        return d

    return pull


# ------------------------------------------------------------------------------------------------ outputs and losses


def outputs(activation: str, group: int, z: Numbers) -> Numbers:
    """The output activation of a row's scores."""
    if activation == "softmax":
        total = sum(mpmath.exp(number) for number in z)
        return [mpmath.exp(number) / total for number in z]
    if activation == "ascending":
        a: Numbers = []
        for i, number in enumerate(z):
            a.append(number if i % group == 0 else a[-1] + mpmath.log1p(mpmath.exp(number)))
        return a
    if activation == "mean_deviation":
        return [mpmath.log1p(mpmath.exp(z[i])) + mpf(1e-6) if i % 2 else z[i] for i in range(len(z))]
    return [_curve(activation)(number) for number in z]


def _log_term(y: Any, p: Any) -> Any:
    return -y * mpmath.log(p) if y != 0 else mpf(0)


def _focal_term(y: Any, p: Any, gamma: Any) -> Any:
    return (1 - p) ** gamma * _log_term(y, p)


def _tweedie_term(y: Any, a: Any, power: Any) -> Any:
    lower, upper = 1 - power, 2 - power
    first = y**upper / (lower * upper) if y != 0 else mpf(0)
    return first - y * a**lower / lower + a**upper / upper


def _huber_term(y: Any, a: Any, delta: Any) -> Any:
    distance = abs(y - a)
    return distance**2 / 2 if distance <= delta else delta * (distance - delta / 2)


# of one output; c is the loss's parameter
TERMS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "squared_error": lambda y, a, c: (y - a) ** 2 / 2,
    "absolute_error": lambda y, a, c: abs(y - a),
    "huber": _huber_term,
    "quantile": lambda y, a, c: max(c * (y - a), (c - 1) * (y - a)),
    "log_loss": lambda y, a, c: _log_term(y, a),
    "binary_log_loss": lambda y, a, c: _log_term(y, a) + _log_term(1 - y, 1 - a),
    "focal": _focal_term,
    "binary_focal": lambda y, a, c: _focal_term(y, a, c) + _focal_term(1 - y, 1 - a, c),
    "hinge": lambda y, a, c: max(mpf(0), 1 - (2 * y - 1) * a),
    "perceptron": lambda y, a, c: max(mpf(0), -(2 * y - 1) * a),
    "squared_hinge": lambda y, a, c: max(mpf(0), 1 - (2 * y - 1) * a) ** 2,
    "poisson": lambda y, a, c: (y * mpmath.log(y / a) if y != 0 else mpf(0)) - y + a,
    "gamma": lambda y, a, c: y / a - mpmath.log(y / a) - 1,
    "tweedie": _tweedie_term,
}
# their reported value is a mean over the outputs
MEANS = ("squared_error", "absolute_error", "huber", "quantile")


def row_loss(loss: Any, y: Numbers, a: Numbers) -> Any:
    """The loss of a row, summed over its outputs: the potential of the gradient."""
    if loss.name == "gaussian_nll":
        return sum(
            mpmath.log(a[i + 1]) + ((y[i] - a[i]) / a[i + 1]) ** 2 / 2 + mpmath.log(2 * mpmath.pi) / 2
            for i in range(0, len(a), 2)
        )
    numbers = exactly(loss.numbers) or [mpf(0)]
    if loss.name in ("log_loss", "binary_log_loss"):
        classes = len(a) if loss.name == "log_loss" else 2
        y = [target * (1 - numbers[0]) + numbers[0] / classes for target in y]
    return sum(TERMS[loss.name](y[i], a[i], numbers[i % len(numbers)]) for i in range(len(a)))


# ------------------------------------------------------------------------------------------------------------- verbs


def scores(network: Network, params: Any, X: Any, step: int | None = None, row_offset: int = 0) -> Numbers:
    """What the output layer has before its activation, row by row."""
    params = exactly(params)
    with mpmath.workdps(DIGITS):
        return [Row(network, params, [], step, row_offset + i).scores(x)[0] for i, x in enumerate(exactly(X))]


def forward(network: Network, params: Any, X: Any, step: int | None = None, row_offset: int = 0) -> Numbers:
    """The network's outputs, row by row."""
    group = network.loss_function.group
    with mpmath.workdps(DIGITS):
        found = scores(network, params, X, step, row_offset)
        return [outputs(network.output_activation, group, z) for z in found]


def backward(
    network: Network, params: Any, X: Any, output_gradient: Any, step: int | None = None, row_offset: int = 0
) -> tuple[Numbers, Numbers]:
    """Gradients of ``sum(output * output_gradient)`` by the parameters and by X."""
    factors = exactly(output_gradient)

    def potential(i: int, a: Numbers) -> Any:
        return sum(number * factor for number, factor in zip(a, factors[i], strict=True))

    with mpmath.workdps(DIGITS):
        return _differentiated(network, exactly(params), exactly(X), potential, step, row_offset)


def loss_gradient(
    network: Network, params: Any, X: Any, y: Any, weight: Any = None, step: int | None = None, row_offset: int = 0
) -> tuple[Any, Numbers]:
    """Mean loss with its penalties, and the gradient by the parameters."""
    loss = network.loss_function
    params, targets = exactly(params), exactly(y)
    weights = exactly(np.ones(len(targets)) if weight is None else weight)
    factor, values = network.outputs if loss.name in MEANS else 1, [mpf(0)] * len(targets)

    def potential(i: int, a: Numbers) -> Any:
        values[i] = row_loss(loss, targets[i], a)
        return weights[i] * values[i]

    with mpmath.workdps(DIGITS):
        gradient, _ = _differentiated(network, params, exactly(X), potential, step, row_offset)
        value, total = sum(w * v for w, v in zip(weights, values, strict=True)) / factor, sum(weights)
        for part in network.layout:
            for i in range(part.weight.start, part.weight.stop):
                value += mpf(network.l1) * abs(params[i]) + mpf(network.l2) * params[i] ** 2 / 2
                gradient[i] += mpf(network.l1) * mpmath.sign(params[i]) + mpf(network.l2) * params[i]
        return value / total, [number / total for number in gradient]


def _differentiated(
    network: Network,
    params: Numbers,
    X: Numbers,
    potential: Callable[[int, Numbers], Any],
    step: int | None,
    first: int,
) -> tuple[Numbers, Numbers]:
    # of the sum of each row's potential, a function of its number and its outputs
    gradient, x_gradient = [mpf(0)] * len(params), []
    activation, group = network.output_activation, network.loss_function.group
    for i, x in enumerate(X):
        z, pull = Row(network, params, gradient, step, first + i).scores(x)
        deltas = []
        for j in range(len(z)):

            def along(score: Any, i: int = i, j: int = j, z: Numbers = z) -> Any:
                return potential(i, outputs(activation, group, [*z[:j], score, *z[j + 1 :]]))

            deltas.append(slope(along, z[j]))
        # the last word, so that what a potential keeps of its last call is that of the row itself
        potential(i, outputs(activation, group, z))
        x_gradient.append(pull(deltas))
    return gradient, x_gradient


def update(
    network: Network, optimizer: Optimizer, params: Any, gradient: Any, slots: Any, step: int, rate: float
) -> tuple[Numbers, Numbers]:
    """Parameters and slots after a step of the optimizer."""
    with mpmath.workdps(DIGITS):
        params, gradient, slots = exactly(params), exactly(gradient), exactly(slots)
        weights = {i for part in network.layout for i in range(part.weight.start, part.weight.stop)}
        if optimizer.clip_value is not None:
            most = mpf(optimizer.clip_value)
            gradient = [min(max(g, -most), most) for g in gradient]
        if optimizer.clip_norm is not None:
            norm = mpmath.sqrt(sum(g * g for g in gradient))
            gradient = [g * min(1, optimizer.clip_norm / norm) for g in gradient]
        for i, g in enumerate(gradient):
            if i in weights:
                params[i] *= 1 - mpf(rate) * mpf(optimizer.weight_decay)
            kept = [slot[i] for slot in slots]
            params[i], kept = RULES[optimizer.name](optimizer, params[i], g, kept, step + 1, mpf(rate))
            for slot, number in zip(slots, kept, strict=False):
                slot[i] = number
        _shorten(network, params)
        if optimizer.average is not None:
            passed = max(step - optimizer.average_start, 0) + 1
            least = 1 - mpf(optimizer.average_decay) if optimizer.average == "ema" else mpf(0)
            share = max(1 / mpf(passed), least)
            slots[-1] = [old + share * (new - old) for old, new in zip(slots[-1], params, strict=True)]
        return params, slots


def _shorten(network: Network, params: Numbers) -> None:
    for layer, part in zip(network.layers, network.layout, strict=True):
        for j in range(part.outputs if layer.max_norm else 0):
            column = range(part.weight.start + j, part.weight.stop, part.outputs)
            norm = mpmath.sqrt(sum(params[i] ** 2 for i in column))
            for i in column:
                params[i] *= min(1, layer.max_norm / norm) if norm else 1


# ------------------------------------------------------------------------------------------------------------- rules

# each from a parameter, its gradient, its slots, the number of the step counted from 1, and the rate


def _sgd(rule: Any, w: Any, g: Any, slots: Numbers, t: int, rate: Any) -> tuple[Any, Numbers]:
    velocity = rule.momentum * slots[0] - rate * g
    return w + (rule.momentum * velocity - rate * g if rule.nesterov else velocity), [velocity]


def _moments(rule: Any, g: Any, slots: Numbers) -> tuple[Any, Any]:
    b, c = mpf(rule.beta_1), mpf(rule.beta_2)
    return b * slots[0] + (1 - b) * g, c * slots[1] + (1 - c) * g * g


def _adam(rule: Any, w: Any, g: Any, slots: Numbers, t: int, rate: Any) -> tuple[Any, Numbers]:
    b, c = mpf(rule.beta_1), mpf(rule.beta_2)
    m, v = _moments(rule, g, slots)
    size = rate * mpmath.sqrt(1 - c**t) / (1 - b**t)
    return w - size * m / (mpmath.sqrt(v) + rule.epsilon), [m, v]


def _nadam(rule: Any, w: Any, g: Any, slots: Numbers, t: int, rate: Any) -> tuple[Any, Numbers]:
    b, c = mpf(rule.beta_1), mpf(rule.beta_2)
    m, v = _moments(rule, g, slots)
    ahead = b * m / (1 - b ** (t + 1)) + (1 - b) * g / (1 - b**t)
    return w - rate * mpmath.sqrt(1 - c**t) * ahead / (mpmath.sqrt(v) + rule.epsilon), [m, v]


def _rmsprop(rule: Any, w: Any, g: Any, slots: Numbers, t: int, rate: Any) -> tuple[Any, Numbers]:
    v = rule.rho * slots[1] + (1 - mpf(rule.rho)) * g * g
    velocity = rule.momentum * slots[0] + rate * g / (mpmath.sqrt(v) + rule.epsilon)
    return w - velocity, [velocity, v]


def _lion(rule: Any, w: Any, g: Any, slots: Numbers, t: int, rate: Any) -> tuple[Any, Numbers]:
    b, c = mpf(rule.beta_1), mpf(rule.beta_2)
    return w - rate * mpmath.sign(b * slots[0] + (1 - b) * g), [c * slots[0] + (1 - c) * g]


def _rprop(rule: Any, w: Any, g: Any, slots: Numbers, t: int, rate: Any) -> tuple[Any, Numbers]:
    before, length = slots[:2]
    agreement = mpmath.sign(before) * mpmath.sign(g)
    if length == 0:
        length = rate
    elif agreement > 0:
        length = min(length * mpf(rule.grow), mpf(rule.most))
    elif agreement < 0:
        length = max(length * mpf(rule.shrink), mpf(rule.least))
    g = mpf(0) if agreement < 0 else g
    return w - mpmath.sign(g) * length, [g, length]


RULES: dict[str, Callable[..., tuple[Any, Numbers]]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adam,
    "nadam": _nadam,
    "rmsprop": _rmsprop,
    "lion": _lion,
    "rprop": _rprop,
}
