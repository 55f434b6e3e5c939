"""Losses and penalties of the Numba backend; what each computes is defined in `pymlp.losses` and `Network`.

Sums are taken in double: a row's loss is a handful of numbers, and a batch's may be a million rows.  The four losses
whose deltas are `output - y` are compiled by themselves for the networks that need nothing else: `numbers` is None
then, and Numba leaves out what follows such a condition.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pymlp.backends.numba_activations import ascending_back, mean_deviation_back
from pymlp.backends.numba_functions import OPTIONS, clear
from pymlp.backends.numba_kinds import SUM_OPTIONS
from pymlp.backends.numba_optimizers import START, STOP, WIDTH
from pymlp.losses import Loss

_SIMPLE = "squared_error log_loss binary_log_loss poisson"
_FURTHER = "absolute_error huber quantile gaussian_nll focal binary_focal hinge perceptron squared_hinge gamma tweedie"
LOSS_CODES = {name: code for code, name in enumerate(f"{_SIMPLE} {_FURTHER}".split())}
SQUARED_ERROR, LOG_LOSS, BINARY_LOG_LOSS, POISSON = range(4)
ABSOLUTE_ERROR, HUBER, QUANTILE, GAUSSIAN_NLL, FOCAL, BINARY_FOCAL = range(4, 10)
HINGE, PERCEPTRON, SQUARED_HINGE, GAMMA, TWEEDIE = range(10, 15)
NO_CODE = -1

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


@njit(**OPTIONS)
def smoothed(loss, numbers, target, width):
    """The target of a log loss after label smoothing; those of the other losses as they are."""
    if loss == LOG_LOSS:
        return target * (1.0 - numbers[0]) + numbers[0] / width
    if loss == BINARY_LOG_LOSS:
        return target * (1.0 - numbers[0]) + 0.5 * numbers[0]
    return target


@njit(**OPTIONS)
def bounded(p, epsilon):
    """A probability in [epsilon, 1 - epsilon], by conditions that let NaN through."""
    p = epsilon if p < epsilon else p
    return 1.0 - epsilon if p > 1.0 - epsilon else p


@njit(**OPTIONS)
def focal_term(gamma, target, p, epsilon):
    """Loss of one class."""
    p = bounded(p, epsilon)
    return -((1.0 - p) ** gamma) * target * math.log(p) if target != 0.0 else 0.0


@njit(**OPTIONS)
def focal_slope(gamma, target, p, epsilon):
    """p times the derivative of the term by p."""
    p = bounded(p, epsilon)
    return target * (1.0 - p) ** (gamma - 1.0) * (gamma * p * math.log(p) - (1.0 - p))


@njit(**OPTIONS)
def tweedie_product(power, target, value):
    """0 where the target is 0, also where the output is too small to be a number."""
    return target * value ** (1.0 - power) if target != 0.0 else 0.0


@njit(**OPTIONS)
def further_value(loss, numbers, j, target, value, epsilon):
    """Loss of the output number j of a row, in double, for the losses that treat outputs alike and by themselves."""
    number, distance, sign = numbers[0], target - value, 2.0 * target - 1.0
    if loss == ABSOLUTE_ERROR:
        return abs(distance)
    if loss == HUBER:
        distance = abs(distance)
        near = number if distance > number else distance
        return near * (distance - 0.5 * near)
    if loss == QUANTILE:
        level = numbers[j % len(numbers)]
        return level * distance if distance > 0.0 else (level - 1.0) * distance
    if loss == FOCAL:
        return focal_term(number, target, value, epsilon)
    if loss == BINARY_FOCAL:
        return focal_term(number, target, value, epsilon) + focal_term(number, 1.0 - target, 1.0 - value, epsilon)
    if loss in (HINGE, PERCEPTRON, SQUARED_HINGE):
        inside = (0.0 if loss == PERCEPTRON else 1.0) - sign * value
        inside = 0.0 if inside < 0.0 else inside
        return inside * inside if loss == SQUARED_HINGE else inside
    if loss == GAMMA:
        return target / value - math.log(target / value) - 1.0
    # TWEEDIE
    lower, upper = 1.0 - number, 2.0 - number
    return target**upper / (lower * upper) - tweedie_product(number, target, value) / lower + value**upper / upper


@njit(**OPTIONS)
def further_slope(loss, numbers, j, target, value, epsilon):
    """Derivative of `further_value` by the score; of QUANTILE by the output, of FOCAL the part of this class alone."""
    number, distance, sign = numbers[0], value - target, 2.0 * target - 1.0
    if loss == ABSOLUTE_ERROR:
        return np.sign(distance)
    if loss == HUBER:
        distance = number if distance > number else distance
        return -number if distance < -number else distance
    if loss == QUANTILE:
        level = numbers[j % len(numbers)]
        if distance == 0.0:
            return 0.0
        return 1.0 - level if distance > 0.0 else -level
    if loss == FOCAL:
        return focal_slope(number, target, value, epsilon)
    if loss == BINARY_FOCAL:
        falling = focal_slope(number, 1.0 - target, 1.0 - value, epsilon)
        return focal_slope(number, target, value, epsilon) * (1.0 - value) - falling * value
    if loss in (HINGE, PERCEPTRON):
        return -sign if sign * value <= (0.0 if loss == PERCEPTRON else 1.0) else 0.0
    if loss == SQUARED_HINGE:
        inside = 1.0 - sign * value
        return -2.0 * sign * (0.0 if inside < 0.0 else inside)
    if loss == GAMMA:
        return 1.0 - target / value
    if loss == TWEEDIE:
        return value ** (2.0 - number) - tweedie_product(number, target, value)
    return distance


@njit(**OPTIONS)
def row_loss(loss, numbers, y, output, epsilon):
    """Reported loss of one row, in double; `epsilon` is that of the network's dtype."""
    total = 0.0
    for j in range(len(y)):
        target, value = np.float64(y[j]), np.float64(output[j])
        if numbers is not None:
            target = smoothed(loss, numbers, target, len(y))
        if loss == SQUARED_ERROR:
            total += (target - value) ** 2
        elif loss == POISSON:
            total += (target * math.log(target / value) if target != 0.0 else 0.0) - target + value
        elif loss <= BINARY_LOG_LOSS:
            p = bounded(value, epsilon)
            if target != 0.0:
                total -= target * math.log(p)
            if loss == BINARY_LOG_LOSS and target != 1.0:
                total -= (1.0 - target) * math.log(1.0 - p)
        elif numbers is not None:
            total += further_value(loss, numbers, j, target, value, epsilon)
    if loss == SQUARED_ERROR:
        return 0.5 * total / len(y)
    return total / len(y) if loss in (ABSOLUTE_ERROR, HUBER, QUANTILE) else total


@njit(**OPTIONS)
def gaussian_loss(y, output, delta):
    """Negative log density of one row, in double; the gradient by the outputs goes to `delta`."""
    total = 0.0
    for j in range(0, len(y), 2):
        deviation = np.float64(output[j + 1])
        distance = (np.float64(y[j]) - np.float64(output[j])) / deviation
        total += math.log(deviation) + 0.5 * distance * distance + _HALF_LOG_TWO_PI
        delta[j] = -distance / deviation
        delta[j + 1] = (1.0 - distance * distance) / deviation
    return total


@njit(**OPTIONS)
def further_loss(loss, numbers, y, output, score, epsilon, delta):
    """Loss of one row, in double; the gradient by the scores goes to `delta`.  For every loss, simple ones too."""
    if loss == GAUSSIAN_NLL:
        total = gaussian_loss(y, output, delta)
        mean_deviation_back(score, delta)
        return total
    for j in range(len(y)):
        target = smoothed(loss, numbers, np.float64(y[j]), len(y))
        delta[j] = further_slope(loss, numbers, j, target, np.float64(output[j]), epsilon)
    if loss == QUANTILE:
        ascending_back(score, delta, len(numbers))
    elif loss == FOCAL:
        slopes = 0.0
        for j in range(len(y)):
            slopes += delta[j]
        for j in range(len(y)):
            delta[j] -= output[j] * slopes
    return row_loss(loss, numbers, y, output, epsilon)


@njit(**OPTIONS)
def loss_and_deltas(loss, numbers, y, outputs, scores, columns, weight, weight_sum, epsilon, deltas):
    """Sum of the weighted losses of the rows of y; their gradient by the scores, over `weight_sum`, goes to `deltas`.

    `y` is (rows, outputs), `outputs`, `scores` and `deltas` are flat with `columns` numbers a row, `weight` is empty or
    (rows,).  `numbers` are as `loss_numbers` makes them; `scores` are read only with them.
    """
    total = 0.0
    rows, width = y.shape
    for row in range(rows):
        output = outputs[row * columns : row * columns + width]
        delta = deltas[row * columns : (row + 1) * columns]
        clear(delta)
        row_weight = np.float64(weight[row]) if len(weight) else 1.0
        # a row of weight zero counts as removed, even where its loss is infinite
        if row_weight == 0.0:
            continue
        factor = y.dtype.type(row_weight / weight_sum)
        if numbers is not None:
            score = scores[row * columns : row * columns + width]
            total += row_weight * further_loss(loss, numbers, y[row], output, score, epsilon, delta[:width])
            for j in range(width):
                delta[j] *= factor
        else:
            total += row_weight * row_loss(loss, numbers, y[row], output, epsilon)
            for j in range(width):
                delta[j] = (output[j] - y[row, j]) * factor
    return total


@njit(**SUM_OPTIONS)
def penalise(pieces, params, gradient, l1, l2, weight_sum):
    """Add the gradient of the penalties, over `weight_sum`, and return the penalties (not divided)."""
    total_1 = 0.0
    total_2 = 0.0
    for piece in range(len(pieces)):
        if pieces[piece, WIDTH] == 0:
            continue
        W = params[pieces[piece, START] : pieces[piece, STOP]]
        G = gradient[pieces[piece, START] : pieces[piece, STOP]]
        if l2 != 0.0:
            factor = params.dtype.type(l2 / weight_sum)
            for i in range(len(W)):
                total_2 += np.float64(W[i]) * np.float64(W[i])
                G[i] += factor * W[i]
        if l1 != 0.0:
            factor = params.dtype.type(l1 / weight_sum)
            for i in range(len(W)):
                total_1 += abs(np.float64(W[i]))
                G[i] += factor * np.sign(W[i])
    return l1 * total_1 + 0.5 * l2 * total_2


def loss_numbers(loss: Loss) -> np.ndarray:
    """The loss's own numbers in double, at least one."""
    return np.array(loss.numbers or (0.0,), np.float64)


def loss_code(loss: Loss) -> int:
    """The loss's code; that of a loss of the user's own, which compiled code does not compute, is in no use."""
    return LOSS_CODES.get(loss.name, NO_CODE)


def is_simple_loss(loss: Loss) -> bool:
    """Whether compiled code needs no `loss_numbers`."""
    return loss_code(loss) <= POISSON and not any(loss.numbers)
