"""Losses over numbers, in NumPy: errors and quantiles, a normal density, deviances of counts and amounts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from pymlp.functions import ACTIVATIONS, logistic, xlogy
from pymlp.loss import Array, Loss
from pymlp.options import check_number, option

HALF_LOG_TWO_PI = 0.9189385332046727


@option
class SquaredError(Loss):
    """``(y - output)**2 / 2``."""

    name: ClassVar[str] = "squared_error"

    def potential_factor(self, outputs: int) -> float:
        """A mean over the outputs is reported."""
        return float(outputs)

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        return 0.5 * ((y - output) ** 2).mean(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        return output - y


@option
class AbsoluteError(SquaredError):
    """``abs(y - output)``, whose best constant is the median."""

    name: ClassVar[str] = "absolute_error"

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        return np.abs(y - output).mean(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores; 0 where the output is the target."""
        return np.sign(output - y)


@option
class Huber(SquaredError):
    """The squared error up to a distance `delta` from the target, linear beyond.

    Huber, "Robust estimation of a location parameter", 1964.

    Parameters
    ----------
    delta : float, default=1.0
        Above 0, in units of the target.
    """

    delta: float = 1.0
    name: ClassVar[str] = "huber"

    def __post_init__(self) -> None:
        check_number("delta", self.delta, 0, np.inf, low_open=True, high_open=True)

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        distance, delta = np.abs(y - output), y.dtype.type(self.delta)
        near = np.minimum(distance, delta)
        return (near * (distance - near / 2)).mean(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        delta = y.dtype.type(self.delta)
        return np.clip(output - y, -delta, delta)


@option
class Quantile(SquaredError):
    """Several quantiles of the target at once, which never cross.

    The output activation adds a positive step from each level to the next.  Koenker and Bassett, "Regression
    quantiles", 1978 (the pinball loss).

    Parameters
    ----------
    levels : sequence of float, default=(0.1, 0.5, 0.9)
        Ascending, in (0, 1).
    """

    levels: Any = (0.1, 0.5, 0.9)
    name: ClassVar[str] = "quantile"
    output_activation: ClassVar[str] = "ascending"

    @property
    def group(self) -> int:
        """Outputs of a target: one for each level."""
        return len(self.levels)

    @property
    def numbers(self) -> tuple[float, ...]:
        """The levels."""
        return tuple(float(level) for level in self.levels)

    def __post_init__(self) -> None:
        levels = self.levels if isinstance(self.levels, (list, tuple, np.ndarray)) else ()
        if not len(levels):
            raise ValueError(f"levels must be a sequence of at least one number in (0, 1), got {self.levels!r}")
        for level in levels:
            check_number("levels", level, 0, 1, low_open=True, high_open=True)
        if any(after <= before for before, after in pairwise(levels)):
            raise ValueError(f"levels must ascend, got {self.levels!r}")

    def _repeated(self, y: Array) -> Array:
        return np.tile(np.array(self.numbers, y.dtype), y.shape[1] // self.group)

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        level, residual = self._repeated(y), y - output
        return np.maximum(level * residual, (level - 1) * residual).mean(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        level = self._repeated(y)
        # 0 where the output is the target, as for the absolute error
        by_output = np.where(y > output, -level, np.where(y < output, 1 - level, 0)).astype(y.dtype)
        return ACTIVATIONS[self.output_activation].pullback(z, output, by_output, self.group)


@option
class GaussianNLL(Loss):
    """Mean and standard deviation of the target, by the negative logarithm of the normal density.

    Nix and Weigend, "Estimating the mean and variance of the target probability distribution", 1994.  The outputs of a
    target are its mean and its deviation.
    """

    name: ClassVar[str] = "gaussian_nll"
    output_activation: ClassVar[str] = "mean_deviation"

    @property
    def group(self) -> int:
        """Outputs of a target: mean and deviation."""
        return 2

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        mean, deviation = output[:, 0::2], output[:, 1::2]
        return (np.log(deviation) + 0.5 * ((y[:, 0::2] - mean) / deviation) ** 2 + HALF_LOG_TWO_PI).sum(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        deviation = output[:, 1::2]
        distance = (y[:, 0::2] - output[:, 0::2]) / deviation
        gradient = np.empty_like(output)
        gradient[:, 0::2] = -distance / deviation
        gradient[:, 1::2] = (1 - distance * distance) / deviation * logistic(z[:, 1::2])
        return gradient


@option
class Poisson(Loss):
    """Half the deviance of the Poisson distribution, the mean being an exponential; y >= 0."""

    name: ClassVar[str] = "poisson"
    output_activation: ClassVar[str] = "exp"
    lowest_target: ClassVar[float] = 0.0

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        return (xlogy(y, y / output) - y + output).sum(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        return output - y


@option
class Gamma(Loss):
    """Half the deviance of the gamma distribution, the mean being an exponential; y > 0."""

    name: ClassVar[str] = "gamma"
    output_activation: ClassVar[str] = "exp"
    # positive numbers alone: the least that float32 holds
    lowest_target: ClassVar[float] = float(np.finfo(np.float32).tiny)

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        ratio = y / output
        return (ratio - np.log(ratio) - 1).sum(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        return 1 - y / output


@option
class Tweedie(Loss):
    """Half the deviance of the Tweedie distribution, whose variance is the mean to a power; the mean is an exponential.

    Jorgensen, "Exponential dispersion models", 1987.

    Parameters
    ----------
    power : float, default=1.5
        In (1, 2): a mixture of zeros and positive numbers; y >= 0.  The ends are the losses "poisson" and "gamma".
    """

    power: float = 1.5
    name: ClassVar[str] = "tweedie"
    output_activation: ClassVar[str] = "exp"
    lowest_target: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        check_number("power", self.power, 1, 2, low_open=True, high_open=True)

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        lower, upper = y.dtype.type(1 - self.power), y.dtype.type(2 - self.power)
        return (y**upper / (lower * upper) - self._scaled(y, output) / lower + output**upper / upper).sum(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        return output ** y.dtype.type(2 - self.power) - self._scaled(y, output)

    def _scaled(self, y: Array, output: Array) -> Array:
        # 0 where y is 0, also where the output is too small to be a number
        return np.where(y == 0, 0, y * output ** y.dtype.type(1 - self.power))
