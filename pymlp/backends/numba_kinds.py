"""Rows of the Numba backend's tables that are not dense: both ways of each kind; `pymlp.layers` defines them.

They work on flat blocks of rows: a row of a buffer has as many numbers as the layer has outputs, stored in `columns`
numbers (the buffer of the network's inputs may be stored more densely than the others, hence a number for each).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pymlp.backends.numba_activations import activate, pull_back
from pymlp.backends.numba_functions import OPTIONS, clear, copy
from pymlp.philox import KEY_STEPS, MULTIPLIERS, ROUNDS

# sums whose order does not matter may be taken a vector at a time
SUM_OPTIONS = {**OPTIONS, "fastmath": {"contract", "reassoc"}}

KIND_CODES = {"dense": 0, "layer_norm": 1, "parametric": 2, "dropout": 3, "add": 4}
DENSE, LAYER_NORM, PARAMETRIC, DROPOUT, ADD = range(5)

# what stands for the step number in inference
NO_STEP = -1

# a literal would be signed, and a product of both kinds of integer is a floating-point number in Numba
_MULTIPLIER_1, _MULTIPLIER_2 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
_KEY_STEP_1, _KEY_STEP_2 = np.uint64(KEY_STEPS[0]), np.uint64(KEY_STEPS[1])
_LOW, _WORD, _UPPER_HALF = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(16)


@njit(**OPTIONS)
def draw_words(words, seed, step, number, row):
    """Fill `words` (uint32, a multiple of 4 of them) with what `pymlp.philox` draws for the units of one row."""
    seed, step = np.uint64(seed), np.uint64(step)
    tail = np.uint64(number) | ((step >> _WORD) << _UPPER_HALF)
    for block in range(len(words) // 4):
        first, second, third, fourth = np.uint64(block), np.uint64(row), step & _LOW, tail
        key_1, key_2 = seed & _LOW, seed >> _WORD
        for _ in range(ROUNDS):
            left, right = first * _MULTIPLIER_1, third * _MULTIPLIER_2
            first, second = (right >> _WORD) ^ second ^ key_1, right & _LOW
            third, fourth = (left >> _WORD) ^ fourth ^ key_2, left & _LOW
            key_1, key_2 = (key_1 + _KEY_STEP_1) & _LOW, (key_2 + _KEY_STEP_2) & _LOW
        words[4 * block] = np.uint32(first)
        words[4 * block + 1] = np.uint32(second)
        words[4 * block + 2] = np.uint32(third)
        words[4 * block + 3] = np.uint32(fourth)


@njit(**OPTIONS)
def dropout(rate, number, moment, source, source_columns, target, columns, rows, outputs):
    """Add the masked `source` into `target`, all of it in inference; forward and backward are the same."""
    seed, step, first_row = moment
    if step == NO_STEP:
        add(source, source_columns, target, columns, rows, outputs)
        return
    words = np.empty((outputs + 3) // 4 * 4, np.uint32)
    least = np.int64(rate * 4294967296.0 + 0.5)
    scale = source.dtype.type(1.0 / (1.0 - rate))
    zero = source.dtype.type(0.0)
    for row in range(rows):
        draw_words(words, seed, step, number, first_row + row)
        x = source[row * source_columns : row * source_columns + outputs]
        z = target[row * columns : row * columns + outputs]
        for j in range(outputs):
            z[j] += x[j] * scale if np.int64(words[j]) >= least else zero


@njit(**OPTIONS)
def add(source, source_columns, target, columns, rows, outputs):
    """Add `source` into `target`."""
    for row in range(rows):
        x = source[row * source_columns : row * source_columns + outputs]
        z = target[row * columns : row * columns + outputs]
        for j in range(outputs):
            z[j] += x[j]


@njit(**SUM_OPTIONS)
def moments(x, epsilon):
    """Mean of the numbers, and the reciprocal of their deviation."""
    total = x.dtype.type(0.0)
    for j in range(len(x)):
        total += x[j]
    mean = total / x.dtype.type(len(x))
    squares = x.dtype.type(0.0)
    for j in range(len(x)):
        squares += (x[j] - mean) * (x[j] - mean)
    one = x.dtype.type(1.0)
    return mean, one / np.sqrt(squares / x.dtype.type(len(x)) + x.dtype.type(epsilon))


@njit(**OPTIONS)
def layer_norm(epsilon, parameters, source, target, columns, rows, outputs):
    """Write the normalised rows, times the gain, plus the shift."""
    gain, shift = parameters[:outputs], parameters[columns : columns + outputs]
    for row in range(rows):
        x = source[row * columns : row * columns + outputs]
        z = target[row * columns : row * columns + outputs]
        mean, inverse = moments(x, epsilon)
        for j in range(outputs):
            z[j] = (x[j] - mean) * inverse * gain[j] + shift[j]


@njit(**SUM_OPTIONS)
def layer_norm_back(epsilon, parameters, source, deltas, columns, rows, outputs, gradient, x_deltas):
    """Add the gradient by the rows into `x_deltas`, those by gain and shift into `gradient`, if it is not empty."""
    gain = parameters[:outputs]
    count = source.dtype.type(outputs)
    for row in range(rows):
        x = source[row * columns : row * columns + outputs]
        d = deltas[row * columns : row * columns + outputs]
        to = x_deltas[row * columns : row * columns + outputs]
        mean, inverse = moments(x, epsilon)
        level = source.dtype.type(0.0)
        slant = source.dtype.type(0.0)
        for j in range(outputs):
            level += d[j] * gain[j]
            slant += d[j] * gain[j] * (x[j] - mean) * inverse
        level /= count
        slant /= count
        for j in range(outputs):
            to[j] += inverse * (d[j] * gain[j] - level - (x[j] - mean) * inverse * slant)
        if len(gradient):
            by_gain, by_shift = gradient[:outputs], gradient[columns : columns + outputs]
            for j in range(outputs):
                by_gain[j] += d[j] * (x[j] - mean) * inverse
                by_shift[j] += d[j]


@njit(**OPTIONS)
def parametric(function, parameters, source, scores, values, columns, rows, outputs):
    """Write ``x + a (f(x) - x)`` into `values`, and f(x) into `scores`."""
    copy(source, scores)
    activate(function, source, scores, rows, columns, outputs, 1)
    for row in range(rows):
        x = source[row * columns : row * columns + outputs]
        f = scores[row * columns : row * columns + outputs]
        z = values[row * columns : row * columns + outputs]
        for j in range(outputs):
            z[j] = x[j] + parameters[j] * (f[j] - x[j])


@njit(**OPTIONS)
def parametric_back(function, parameters, source, scores, deltas, columns, rows, outputs, gradient, x_deltas):
    """Add the gradient by x into `x_deltas`, that by a into `gradient`, if it is not empty; overwrites `deltas`."""
    one = source.dtype.type(1.0)
    for row in range(rows):
        x = source[row * columns : row * columns + outputs]
        f = scores[row * columns : row * columns + outputs]
        d = deltas[row * columns : row * columns + outputs]
        to = x_deltas[row * columns : row * columns + outputs]
        for j in range(outputs):
            to[j] += d[j] * (one - parameters[j])
        if len(gradient):
            for j in range(outputs):
                gradient[j] += d[j] * (f[j] - x[j])
    # the other part goes through f
    pull_back(function, source, scores, deltas, rows, columns, outputs, 1)
    for row in range(rows):
        d = deltas[row * columns : row * columns + outputs]
        to = x_deltas[row * columns : row * columns + outputs]
        for j in range(outputs):
            to[j] += d[j] * parameters[j]


@njit(**OPTIONS)
def forward_kind(
    kind, function, setting, number, moment, parameters, source, source_columns, second, second_columns,
    scores, values, columns, rows, outputs,
):  # fmt: skip
    """What a row that is not dense computes from `source` and `second`, before its activation, into `scores`.

    Of "parametric" it goes to `values`, and `scores` is another array; `function` is the code of its activation.
    """
    if kind == LAYER_NORM:
        layer_norm(setting, parameters, source, scores, columns, rows, outputs)
    elif kind == PARAMETRIC:
        parametric(function, parameters, source, scores, values, columns, rows, outputs)
    else:
        clear(scores)
        if kind == DROPOUT:
            dropout(setting, number, moment, source, source_columns, scores, columns, rows, outputs)
        else:
            add(source, source_columns, scores, columns, rows, outputs)
            add(second, second_columns, scores, columns, rows, outputs)


@njit(**OPTIONS)
def backward_kind(
    kind, function, setting, number, moment, parameters, source, scores, deltas, columns, rows, outputs,
    gradient, x_deltas, x_columns, second_deltas, second_columns,
):  # fmt: skip
    """Add the gradients of such a row where they belong; `deltas` is that by what `forward_kind` computed.

    `gradient` is empty where the gradient by the parameters is not wanted, `second_deltas` where nobody wants that by
    the second buffer.
    """
    if kind == LAYER_NORM:
        layer_norm_back(setting, parameters, source, deltas, columns, rows, outputs, gradient, x_deltas)
    elif kind == PARAMETRIC:
        parametric_back(function, parameters, source, scores, deltas, columns, rows, outputs, gradient, x_deltas)
    elif kind == DROPOUT:
        dropout(setting, number, moment, deltas, columns, x_deltas, x_columns, rows, outputs)
    else:
        add(deltas, columns, x_deltas, x_columns, rows, outputs)
        if len(second_deltas):
            add(deltas, columns, second_deltas, second_columns, rows, outputs)
