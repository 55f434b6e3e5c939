"""Activations of the Numba backend: each of `pymlp.functions` as a compiled loop over arrays, chosen by a number.

What is computed of one number is `pymlp.backends.numba_functions`'; here stand the loops, the functions of a whole
row, and the two dispatchers that the layers call.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import njit

from pymlp.backends.numba_functions import (
    OPTIONS,
    cosine,
    cosine_slope,
    elu,
    elu_slope,
    exp_slope,
    exponential,
    gelu,
    gelu_slope,
    leaky_relu,
    leaky_relu_slope,
    logistic,
    logistic_slope,
    mish,
    mish_slope,
    relu,
    relu_slope,
    selu,
    selu_slope,
    silu,
    silu_slope,
    softplus,
    softplus_slope,
    square,
    square_slope,
    tanh,
    tanh_slope,
)
from pymlp.functions import LEAST_DEVIATION

_NAMES = (
    "identity logistic tanh relu leaky_relu elu selu gelu silu mish softplus exp cosine square softmax ascending "
    "mean_deviation"
)
ACTIVATION_CODES = {name: code for code, name in enumerate(_NAMES.split())}
LOGISTIC, TANH, RELU, LEAKY_RELU, ELU, SELU, GELU, SILU, MISH, SOFTPLUS, EXP, COSINE, SQUARE = range(1, 14)
SOFTMAX, ASCENDING, MEAN_DEVIATION = 14, 15, 16


def _named_after(function: Callable, loop: Callable) -> Callable:
    """Compile `loop` under a name of its own.

    Numba links cached code by name: two closures of one factory, cached by different processes, would be taken for
    each other.
    """
    loop.__name__ = loop.__qualname__ = f"{function.__name__}_{loop.__name__}"
    return njit(**OPTIONS)(loop)


def _in_place(value: Callable) -> Callable:
    """A compiled loop that replaces z by ``value(z)`` in `values`, which holds the scores."""

    def in_place(scores, values):
        # one array only: LLVM takes vectors just where it can prove that arrays do not overlap
        for i in range(len(values)):
            values[i] = value(values[i])

    return _named_after(value, in_place)


def _from_scores(value: Callable) -> Callable:
    """A compiled loop that writes ``value(z)`` for all of `scores` into `values`, another array."""

    def from_scores(scores, values):
        for i in range(len(values)):
            values[i] = value(scores[i])

    return _named_after(value, from_scores)


def _times_over_array(slope: Callable) -> Callable:
    """A compiled loop that multiplies `deltas` by the slope."""

    def times_slope(scores, values, deltas):
        for i in range(len(deltas)):
            deltas[i] *= slope(scores[i], values[i])

    return _named_after(slope, times_slope)


_logistic, _tanh, _relu, _leaky_relu = map(_in_place, (logistic, tanh, relu, leaky_relu))
_elu, _selu, _softplus, _exp = map(_in_place, (elu, selu, softplus, exponential))
_gelu, _silu, _mish, _cosine, _square = map(_from_scores, (gelu, silu, mish, cosine, square))
_logistic_back, _tanh_back, _relu_back = map(_times_over_array, (logistic_slope, tanh_slope, relu_slope))
_leaky_relu_back, _elu_back, _selu_back = map(_times_over_array, (leaky_relu_slope, elu_slope, selu_slope))
_gelu_back, _silu_back, _mish_back = map(_times_over_array, (gelu_slope, silu_slope, mish_slope))
_softplus_back, _exp_back = map(_times_over_array, (softplus_slope, exp_slope))
_cosine_back, _square_back = map(_times_over_array, (cosine_slope, square_slope))


@njit(**OPTIONS)
def softmax(values, rows, columns, outputs):
    """Replace the scores of each row by their softmax; a row has `outputs` scores, stored in `columns` numbers."""
    for row in range(rows):
        a = values[row * columns : row * columns + outputs]
        highest = a[0]
        for j in range(1, outputs):
            # the second condition lets NaN through, as NumPy's maximum does
            if a[j] > highest or a[j] != a[j]:
                highest = a[j]
        total = type(highest)(0.0)
        for j in range(outputs):
            a[j] = exponential(a[j] - highest)
            total += a[j]
        for j in range(outputs):
            a[j] /= total


@njit(**OPTIONS)
def softmax_back(values, deltas, rows, columns, outputs):
    """Turn the gradient by the outputs of `softmax` into that by its scores."""
    for row in range(rows):
        a = values[row * columns : row * columns + outputs]
        d = deltas[row * columns : row * columns + outputs]
        total = a[0] * d[0]
        for j in range(1, outputs):
            total += a[j] * d[j]
        for j in range(outputs):
            d[j] = a[j] * (d[j] - total)


@njit(**OPTIONS)
def ascending(z, a, group):
    """One row: the first of a group is its score, each of the others lies above the one before."""
    for j in range(len(z)):
        a[j] = z[j] if j % group == 0 else a[j - 1] + softplus(z[j])


@njit(**OPTIONS)
def ascending_back(z, d, group):
    """One row: gradient by the outputs into that by the scores; each output holds the scores before it in its group."""
    for last in range(group - 1, len(z), group):
        for j in range(last, last - group + 1, -1):
            # the sum over the outputs from here on
            d[j - 1] += d[j]
            d[j] *= logistic(z[j])


@njit(**OPTIONS)
def mean_deviation(z, a):
    """One row: pairs of a mean and a deviation, which is positive."""
    for j in range(0, len(z), 2):
        a[j] = z[j]
        a[j + 1] = softplus(z[j + 1]) + z.dtype.type(LEAST_DEVIATION)


@njit(**OPTIONS)
def mean_deviation_back(z, d):
    """One row: gradient by the outputs into that by the scores."""
    for j in range(1, len(z), 2):
        d[j] *= logistic(z[j])


@njit(**OPTIONS)
def activate(code, scores, values, rows, columns, outputs, group):
    """Write the activation of `scores` into `values`: rows of `outputs` numbers, each stored in `columns`.

    Both are one array, except where the slope is taken from the scores (``uses="input"``), which then stay.  `group`:
    so many outputs belong together, in a function that knows groups.
    """
    if code == LOGISTIC:
        _logistic(scores, values)
    elif code == TANH:
        _tanh(scores, values)
    elif code == RELU:
        _relu(scores, values)
    elif code == LEAKY_RELU:
        _leaky_relu(scores, values)
    elif code == ELU:
        _elu(scores, values)
    elif code == SELU:
        _selu(scores, values)
    elif code == GELU:
        _gelu(scores, values)
    elif code == SILU:
        _silu(scores, values)
    elif code == MISH:
        _mish(scores, values)
    elif code == SOFTPLUS:
        _softplus(scores, values)
    elif code == EXP:
        _exp(scores, values)
    elif code == COSINE:
        _cosine(scores, values)
    elif code == SQUARE:
        _square(scores, values)
    elif code == SOFTMAX:
        softmax(values, rows, columns, outputs)
    elif code >= ASCENDING:
        for row in range(rows):
            z, a = scores[row * columns : row * columns + outputs], values[row * columns : row * columns + outputs]
            if code == ASCENDING:
                ascending(z, a, group)
            else:
                mean_deviation(z, a)


@njit(**OPTIONS)
def pull_back(code, scores, values, deltas, rows, columns, outputs, group):
    """Turn `deltas`, the gradient by the outputs of an activation, into the gradient by its scores, in place."""
    if code == LOGISTIC:
        _logistic_back(scores, values, deltas)
    elif code == TANH:
        _tanh_back(scores, values, deltas)
    elif code == RELU:
        _relu_back(scores, values, deltas)
    elif code == LEAKY_RELU:
        _leaky_relu_back(scores, values, deltas)
    elif code == ELU:
        _elu_back(scores, values, deltas)
    elif code == SELU:
        _selu_back(scores, values, deltas)
    elif code == GELU:
        _gelu_back(scores, values, deltas)
    elif code == SILU:
        _silu_back(scores, values, deltas)
    elif code == MISH:
        _mish_back(scores, values, deltas)
    elif code == SOFTPLUS:
        _softplus_back(scores, values, deltas)
    elif code == EXP:
        _exp_back(scores, values, deltas)
    elif code == COSINE:
        _cosine_back(scores, values, deltas)
    elif code == SQUARE:
        _square_back(scores, values, deltas)
    elif code == SOFTMAX:
        softmax_back(values, deltas, rows, columns, outputs)
    elif code >= ASCENDING:
        for row in range(rows):
            z, d = scores[row * columns : row * columns + outputs], deltas[row * columns : row * columns + outputs]
            if code == ASCENDING:
                ascending_back(z, d, group)
            else:
                mean_deviation_back(z, d)
