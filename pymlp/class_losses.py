"""Losses over classes, in NumPy: cross-entropy with label smoothing, focal losses, hinges; targets are 0 and 1."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pymlp.functions import xlogy
from pymlp.loss import Array, Loss
from pymlp.options import check_number, option


def _clip_probability(p: Array) -> Array:
    epsilon = np.finfo(p.dtype).eps
    return np.clip(p, epsilon, 1 - epsilon)


def _signs(y: Array) -> Array:
    # classes 0 and 1 as -1 and 1
    return 2 * y - 1


@option
class LogLoss(Loss):
    """Cross-entropy over classes, of which each row has one (or a distribution over them).

    Parameters
    ----------
    label_smoothing : float, default=0.0
        This part of each row's probability is spread over all classes (Szegedy et al., "Rethinking the Inception
        architecture for computer vision", 2016).
    """

    label_smoothing: float = 0.0
    name: ClassVar[str] = "log_loss"
    output_activation: ClassVar[str] = "softmax"
    lowest_target: ClassVar[float] = 0.0
    highest_target: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        check_number("label_smoothing", self.label_smoothing, 0, 1)

    def _smooth(self, y: Array, classes: int) -> Array:
        if not self.label_smoothing:
            return y
        return y * y.dtype.type(1 - self.label_smoothing) + y.dtype.type(self.label_smoothing / classes)

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        return -xlogy(self._smooth(y, y.shape[1]), _clip_probability(output)).sum(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        return output - self._smooth(y, y.shape[1])


@option
class BinaryLogLoss(LogLoss):
    """Cross-entropy of each output by itself: of two classes, or of several labels."""

    name: ClassVar[str] = "binary_log_loss"
    output_activation: ClassVar[str] = "logistic"

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        y, p = self._smooth(y, 2), _clip_probability(output)
        return -(xlogy(y, p) + xlogy(1 - y, 1 - p)).sum(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        return output - self._smooth(y, 2)


@option
class Focal(Loss):
    """Cross-entropy that counts rows the less, the surer the network is of them: ``-(1 - p)**gamma log(p)``.

    Lin et al., "Focal loss for dense object detection", 2017.

    Parameters
    ----------
    gamma : float, default=2.0
        At least 0; 0 is the cross-entropy.
    """

    gamma: float = 2.0
    name: ClassVar[str] = "focal"
    output_activation: ClassVar[str] = "softmax"
    lowest_target: ClassVar[float] = 0.0
    highest_target: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, 0, np.inf, high_open=True)

    def _term(self, y: Array, p: Array) -> Array:
        p = _clip_probability(p)
        return -((1 - p) ** p.dtype.type(self.gamma)) * xlogy(y, p)

    def _slope(self, y: Array, p: Array) -> Array:
        # p times the gradient of the term by p
        p, gamma = _clip_probability(p), p.dtype.type(self.gamma)
        return y * (1 - p) ** (gamma - 1) * (gamma * p * np.log(p) - (1 - p))

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        return self._term(y, output).sum(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        slope = self._slope(y, output)
        return slope - output * slope.sum(axis=1, keepdims=True)


@option
class BinaryFocal(Focal):
    """`Focal` of each output by itself: of two classes, or of several labels."""

    name: ClassVar[str] = "binary_focal"
    output_activation: ClassVar[str] = "logistic"

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        return (self._term(y, output) + self._term(1 - y, 1 - output)).sum(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        return self._slope(y, output) * (1 - output) - self._slope(1 - y, 1 - output) * output


@option
class Hinge(Loss):
    """``max(0, 1 - s z)`` with s = 1 for the row's class and -1 for the others: one class against the rest.

    Cortes and Vapnik, "Support-vector networks", 1995.
    """

    name: ClassVar[str] = "hinge"
    lowest_target: ClassVar[float] = 0.0
    highest_target: ClassVar[float] = 1.0
    margin: ClassVar[float] = 1.0

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        return np.maximum(0, y.dtype.type(self.margin) - _signs(y) * output).sum(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores; at the margin that of the rows inside it."""
        sign = _signs(y)
        return np.where(sign * output <= y.dtype.type(self.margin), -sign, 0).astype(y.dtype)


@option
class Perceptron(Hinge):
    """``max(0, -s z)``: the hinge without a margin (Rosenblatt, "The perceptron", 1958)."""

    name: ClassVar[str] = "perceptron"
    margin: ClassVar[float] = 0.0


@option
class SquaredHinge(Hinge):
    """``max(0, 1 - s z)**2``."""

    name: ClassVar[str] = "squared_hinge"

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        return np.square(np.maximum(0, 1 - _signs(y) * output)).sum(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        sign = _signs(y)
        return -2 * sign * np.maximum(0, 1 - sign * output)
