"""The registry of losses, and their definition in NumPy.

A loss is an option object: a name stands for it with its defaults, the object carries its own numbers.  A row here and
one in ``csrc/functions.h`` (and in the Numba backend's table) is all there is to a loss; the tests walk `LOSSES`.

Each is defined over the outputs of its own output activation, and gives the value of each row that is reported and the
gradient by the scores before that activation.  Regression losses that are alike for each output follow scikit-learn's
convention for the squared error: the mean over the outputs is reported, the gradient is that of the sum
(`Loss.potential_factor`).  Targets are of the shape of the outputs; a loss of several outputs a target (`Loss.group`:
the levels of `Quantile`, the mean and the deviation of `GaussianNLL`) gets each target as often, side by side.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import fields
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from pymlp.functions import ACTIVATIONS, logistic, xlogy
from pymlp.options import check_number, describe, from_description, option

Array = np.ndarray

HALF_LOG_TWO_PI = 0.9189385332046727


def _clip_probability(p: Array) -> Array:
    epsilon = np.finfo(p.dtype).eps
    return np.clip(p, epsilon, 1 - epsilon)


def _signs(y: Array) -> Array:
    # classes 0 and 1 as -1 and 1
    return 2 * y - 1


@option
class Loss:
    """What all losses share; each stands in `LOSSES`.

    Attributes
    ----------
    name : str
    output_activation : str
    lowest_target, highest_target : float
        Bounds of y.
    """

    name: ClassVar[str] = ""
    # without an annotation: in `CustomLoss` it is a field
    output_activation = "identity"
    lowest_target: ClassVar[float] = -np.inf
    highest_target: ClassVar[float] = np.inf

    @property
    def group(self) -> int:
        """Outputs of a target."""
        return 1

    @property
    def numbers(self) -> tuple[float, ...]:
        """The parameters as a backend takes them."""
        return tuple(float(getattr(self, each.name)) for each in fields(self))

    def potential_factor(self, outputs: int) -> float:
        """What the reported value must be multiplied by to be the potential of the gradient."""
        return 1.0

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row, shape (rows,), from targets and outputs of shape (rows, outputs)."""
        raise NotImplementedError

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores z before the output activation, (rows, outputs).

        z is read only where the outputs do not tell it: by losses with more than one output a target.
        """
        raise NotImplementedError


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
        return (y**upper / (lower * upper) - y * output**lower / lower + output**upper / upper).sum(axis=1)

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        return output ** y.dtype.type(2 - self.power) - y * output ** y.dtype.type(1 - self.power)


@option
class CustomLoss(Loss):
    """A loss of one's own, as a function of Python over NumPy arrays.

    Parameters
    ----------
    function : callable
        ``function(y, output)`` gives the value of each row, (rows,), and the gradient by the outputs, (rows, outputs).
        It is not written into model files; a pickle holds it as pickle holds any function.
    output_activation : str, default="identity"
        What the outputs went through.
    """

    function: Callable[[Array, Array], tuple[Array, Array]]
    output_activation: str = "identity"
    name: ClassVar[str] = "custom"

    @property
    def numbers(self) -> tuple[float, ...]:
        """None: the function is called from Python."""
        return ()

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(f"loss must be a name, an object of pymlp.losses or a callable, got {self.function!r}")
        if self.output_activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"output_activation={self.output_activation!r} is unknown; known: {known}")

    def evaluate(self, y: Array, output: Array) -> tuple[Array, Array]:
        """Value of each row and gradient by the outputs; ValueError if the function returns anything else."""
        value, gradient = self.function(y, output)
        value, gradient = np.asarray(value, output.dtype), np.asarray(gradient, output.dtype)
        if value.shape != (len(y),) or gradient.shape != output.shape:
            raise ValueError(
                f"the loss {self.function!r} must return values of shape {(len(y),)} and a gradient of shape "
                f"{output.shape}, got {value.shape} and {gradient.shape}"
            )
        return value, gradient

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row."""
        return self.evaluate(y, output)[0]

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores."""
        return ACTIVATIONS[self.output_activation].pullback(z, output, self.evaluate(y, output)[1], self.group)


@option
class CompiledLoss(CustomLoss):
    """A loss of one's own, as compiled code that the C engine calls without Python.

    Parameters
    ----------
    function : int, or an object with an integer ``address`` such as a ``numba.cfunc``
        Address of ``void f(int64 rows, int64 outputs, const real *y, const real *output, real *value, real *gradient)``
        with arrays in C order of the network's dtype: value (rows,), gradient by the outputs (rows, outputs).  It is
        called from several threads at once, each with a few rows.
    output_activation : str, default="identity"
    """

    function: Any
    name: ClassVar[str] = "compiled"

    @property
    def address(self) -> int:
        """Where the code lies in memory."""
        return int(getattr(self.function, "address", self.function))

    def __post_init__(self) -> None:
        address = getattr(self.function, "address", self.function)
        if not isinstance(address, int) or isinstance(address, bool) or address <= 0:
            raise ValueError(f"function must be an address, or have one as its attribute, got {self.function!r}")
        if self.output_activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"output_activation={self.output_activation!r} is unknown; known: {known}")

    def evaluate(self, y: Array, output: Array) -> tuple[Array, Array]:
        """Value of each row and gradient by the outputs, by calling the code."""
        y, output = np.ascontiguousarray(y), np.ascontiguousarray(output)
        value, gradient = np.empty(len(y), output.dtype), np.empty_like(output)
        arrays = [ctypes.c_void_p(array.ctypes.data) for array in (y, output, value, gradient)]
        _COMPILED(self.address)(len(y), output.shape[1], *arrays)
        return value, gradient


_COMPILED = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, *[ctypes.c_void_p] * 4)

# with their defaults; CustomLoss and CompiledLoss have none
LOSSES: dict[str, Loss] = {
    row.name: row
    for row in (
        SquaredError(),
        AbsoluteError(),
        Huber(),
        Quantile(),
        GaussianNLL(),
        LogLoss(),
        BinaryLogLoss(),
        Focal(),
        BinaryFocal(),
        Hinge(),
        Perceptron(),
        SquaredHinge(),
        Poisson(),
        Gamma(),
        Tweedie(),
    )
}


def loss_of(loss: Any) -> Loss:
    """The loss that a name, a loss or a callable stands for.

    Raises
    ------
    ValueError
        The name is unknown, or a parameter of the loss does not fit.
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"loss={loss!r} is unknown; known: {', '.join(LOSSES)}")
        return LOSSES[loss]
    if not isinstance(loss, Loss):
        loss = CustomLoss(loss)
    return loss


def loss_description(loss: Any) -> Any:
    """A name, or what stands for a loss with its parameters (JSON-ready); a function of one's own is left out."""
    if isinstance(loss, str):
        return loss
    loss = loss_of(loss)
    if isinstance(loss, CustomLoss):
        return {"option": "CustomLoss", "parameters": {"output_activation": loss.output_activation}}
    return describe(loss)


def described_loss(description: Any) -> Any:
    """The loss of a `loss_description`; ValueError if there is no such loss."""
    if not isinstance(description, dict):
        return description
    if description.get("option") == "CustomLoss":
        return CustomLoss(_not_stored, **description["parameters"])
    loss = from_description(description)
    if not isinstance(loss, Loss):
        raise ValueError(f"{description['option']!r} is not a loss")
    return loss


def _not_stored(y: Array, output: Array) -> tuple[Array, Array]:
    raise ValueError("the model was trained with a loss of its own, which its file does not hold: set loss anew")
