"""The registry of activations, and their definition in NumPy.

A row here and a row in ``csrc/functions.h`` (and in ``backends/numba.py``'s table) is all there is to a function: the
tests walk these tables, so a new row brings its own gradient check and its comparison between backends.

Slopes are taken from the stored output where the function allows it (``uses="output"``) and from the stored
pre-activation otherwise (``uses="input"``): this decides what a backend keeps of the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.polynomial import polyval

LEAKY_SLOPE = 0.01
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
# output activations whose outputs are probabilities
PROBABILITIES = ("softmax", "logistic")
GAUSS_FACTOR = 0.3989422804014327  # 1 / sqrt(2 pi)
# added to a standard deviation, so that its logarithm and reciprocal stay finite
LEAST_DEVIATION = 1e-6

# erf(x) / x on 0 <= x <= 1, in powers of x**2; relative error 2e-19 before rounding
ERF_NEAR = (
    1.1283791670955126, -0.3761263890318375, 0.11283791670954879, -0.026866170645076792, 0.0052239776248180145,
    -0.000854832698083379, 0.0001205533111164271, -1.4925595266831182e-05, 1.6461000484121368e-06,
    -1.6350312701054695e-07, 1.4659775274047436e-08, -1.1372848856791674e-09, 5.957176147748911e-11,
)  # fmt: skip
# exp(x**2) erfc(x) (1 + 2 x) on 1 <= x <= 28, in powers of (x - 3) / (x + 3); relative error 2e-18 before rounding
ERFC_FAR = (
    1.2530080582697296, -0.13562110612458117, -0.04756229435345255, 0.12964515870275942, -0.11927366341514863,
    0.0683080273440213, -0.023770514924158083, 0.0025293918171539523, 0.0018886904548306967, -0.0007798323354491311,
    -0.00010516073045237441, 0.00012510040319467419, 4.954662305540925e-06, -2.0109122442179304e-05,
    -7.465737555485466e-07, 3.5097110842239623e-06, 3.697644354779614e-07, -6.993241083952505e-07,
    -1.0514496651037887e-07, 1.708108463654178e-07, -3.279078693609197e-08,
)  # fmt: skip

Array = np.ndarray


def logistic(z: Array) -> Array:
    """1 / (1 + exp(-z)), without overflow at either end."""
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + small), small / (1 + small))


def bell(z: Array) -> Array:
    """exp(-z**2 / 2), with full relative accuracy where it is small."""
    bounded = np.clip(z, -40.0, 40.0)
    # the square of the leading half of the digits is exact; rounding z**2 would cost z**2 / 2 units in the last place
    leading = bounded.astype(np.float32).astype(np.float64)
    return np.exp(-0.5 * leading * leading) * np.exp(-0.5 * (bounded - leading) * (bounded + leading))


def normal_cdf(z: Array) -> Array:
    """Distribution function of the standard normal, with full relative accuracy in the left tail."""
    wide = np.asarray(z, np.float64)
    x = np.abs(wide) * np.sqrt(0.5)
    near = 0.5 * x * polyval(np.minimum(x, 1.0) ** 2, ERF_NEAR)
    far_x = np.clip(x, 1.0, 28.0)
    far = 0.5 * bell(wide) * polyval((far_x - 3.0) / (far_x + 3.0), ERFC_FAR) / (1.0 + 2.0 * far_x)
    tail = np.where(x < 1.0, 0.5 - near, far)
    whole = np.where(wide < 0, np.where(x < 1.0, 0.5 - near, tail), np.where(x < 1.0, 0.5 + near, 1.0 - far))
    return (whole + 0 * np.where(np.isnan(wide), wide, 0.0)).astype(z.dtype)


def softplus(z: Array) -> Array:
    """log(1 + exp(z)), without overflow."""
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def softmax(z: Array) -> Array:
    """exp(z) / sum(exp(z)) over the columns of each row."""
    shifted = np.exp(z - z.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def xlogy(x: Array, y: Array) -> Array:
    """x * log(y), and 0 where x is 0."""
    return np.where(x == 0, 0, x * np.log(np.where(x == 0, 1, y)))


def _gelu_slope(z: Array, a: Array) -> Array:
    return normal_cdf(z) + np.where(np.isinf(z), 0, z) * GAUSS_FACTOR * np.exp(-0.5 * z * z)


def _silu_slope(z: Array, a: Array) -> Array:
    s = logistic(z)
    return s + np.where(np.isinf(z), 0, z) * s * logistic(-z)


def _mish_slope(z: Array, a: Array) -> Array:
    t = np.tanh(softplus(z))
    return t + np.where(np.isinf(z), 0, z) * (1 - t * t) * logistic(z)


def _times_left_tail(z: Array, factor: Array) -> Array:
    # z * factor, where factor tends to 0 at -inf faster than z grows
    return np.where(z == -np.inf, 0, z) * factor


@dataclass(frozen=True)
class Activation:
    """One row: an element-wise function, or one over the columns of a row.

    ``value(z)`` gives the outputs of pre-activations z, ``slope(z, a)`` the derivative at z with a = value(z); it reads
    only the one that ``uses`` names ("input": z, "output": a).  ``hidden`` says whether hidden layers may have it.
    A function over columns has no slope but ``pull(z, a, gradient, group)``, and if ``grouped``, its value is
    ``value(z, group)``: columns belong together in groups of so many.
    """

    name: str
    value: Callable[..., Array]
    slope: Callable[[Array, Array], Array] | None
    uses: str = "output"
    hidden: bool = True
    pull: Callable[[Array, Array, Array, int], Array] | None = None
    grouped: bool = False

    def apply(self, z: Array, group: int = 1) -> Array:
        """Outputs, whatever the kind of function."""
        return self.value(z, group) if self.grouped else self.value(z)

    def pullback(self, z: Array, a: Array, gradient: Array, group: int = 1) -> Array:
        """Gradient with respect to z, from the gradient with respect to a."""
        if self.slope is None:
            return self.pull(z, a, gradient, group)
        return gradient * self.slope(z, a)


def _softmax_pull(z: Array, a: Array, gradient: Array, group: int) -> Array:
    return a * (gradient - (a * gradient).sum(axis=1, keepdims=True))


def _ascending(z: Array, group: int) -> Array:
    # the first of a group is itself, each of the others lies above the one before
    steps = z.reshape(len(z), -1, group).copy()
    steps[:, :, 1:] = softplus(steps[:, :, 1:])
    return np.cumsum(steps, axis=2, dtype=z.dtype).reshape(z.shape)


def _ascending_pull(z: Array, a: Array, gradient: Array, group: int) -> Array:
    by_step = np.cumsum(gradient.reshape(len(z), -1, group)[:, :, ::-1], axis=2)[:, :, ::-1].copy()
    by_step[:, :, 1:] *= logistic(z.reshape(by_step.shape)[:, :, 1:])
    return by_step.reshape(z.shape)


def _mean_deviation(z: Array, group: int) -> Array:
    a = z.copy()
    a[:, 1::2] = softplus(z[:, 1::2]) + z.dtype.type(LEAST_DEVIATION)
    return a


def _mean_deviation_pull(z: Array, a: Array, gradient: Array, group: int) -> Array:
    pulled = gradient.copy()
    pulled[:, 1::2] *= logistic(z[:, 1::2])
    return pulled


ACTIVATIONS: dict[str, Activation] = {
    row.name: row
    for row in (
        Activation("identity", lambda z: z.copy(), lambda z, a: np.ones_like(a)),
        Activation("logistic", logistic, lambda z, a: a * (1 - a)),
        Activation("tanh", np.tanh, lambda z, a: 1 - a * a),
        Activation("relu", lambda z: np.maximum(z, 0), lambda z, a: (a != 0).astype(a.dtype)),
        Activation(
            "leaky_relu",
            lambda z: np.where(z > 0, z, LEAKY_SLOPE * z).astype(z.dtype),
            lambda z, a: np.where(a > 0, 1, LEAKY_SLOPE).astype(a.dtype),
        ),
        Activation(
            "elu",
            lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
            lambda z, a: np.where(a > 0, 1, a + 1),
        ),
        Activation(
            "selu",
            lambda z: (SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0)))).astype(z.dtype),
            lambda z, a: np.where(a > 0, SELU_SCALE, a + SELU_SCALE * SELU_ALPHA).astype(a.dtype),
        ),
        Activation("gelu", lambda z: _times_left_tail(z, normal_cdf(z)), _gelu_slope, uses="input"),
        Activation("silu", lambda z: _times_left_tail(z, logistic(z)), _silu_slope, uses="input"),
        Activation("mish", lambda z: _times_left_tail(z, np.tanh(softplus(z))), _mish_slope, uses="input"),
        Activation("softplus", softplus, lambda z, a: -np.expm1(-a)),
        Activation("cosine", np.cos, lambda z, a: -np.sin(z), uses="input"),
        Activation("square", np.square, lambda z, a: z + z, uses="input"),
        Activation("exp", np.exp, lambda z, a: a, hidden=False),
        Activation("softmax", softmax, None, hidden=False, pull=_softmax_pull),
        Activation("ascending", _ascending, None, hidden=False, uses="input", pull=_ascending_pull, grouped=True),
        Activation(
            "mean_deviation", _mean_deviation, None, hidden=False, uses="input", pull=_mean_deviation_pull, grouped=True
        ),
    )
}
