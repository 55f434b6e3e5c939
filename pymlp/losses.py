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
import os
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from pymlp.class_losses import BinaryFocal, BinaryLogLoss, Focal, Hinge, LogLoss, Perceptron, SquaredHinge
from pymlp.functions import ACTIVATIONS
from pymlp.loss import Array, Loss
from pymlp.number_losses import AbsoluteError, Gamma, GaussianNLL, Huber, Poisson, Quantile, SquaredError, Tweedie
from pymlp.options import describe, from_description, option


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
        # a class is a callable
        if not callable(self.function) or isinstance(self.function, type):
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
        return self.both(y, output, z)[1]

    def both(self, y: Array, output: Array, z: Array | None = None) -> tuple[Array, Array]:
        """`value` and `score_gradient`, of one call of the function."""
        value, gradient = self.evaluate(y, output)
        return value, ACTIVATIONS[self.output_activation].pullback(z, output, gradient, self.group)


@option
class CompiledLoss(CustomLoss):
    """A loss of one's own, as compiled code that the C engine calls without Python.

    Parameters
    ----------
    function : int, or an object with an integer ``address`` such as a ``numba.cfunc``
        Address of ``void f(int64 rows, int64 outputs, const real *y, const real *output, real *value, real *gradient)``
        with arrays in C order of the network's dtype: value (rows,), gradient by the outputs (rows, outputs).  It is
        called from several threads at once, each with a few rows.  Another process has other code at that address, so
        a model that was unpickled there predicts, but refuses to train.
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

    def __deepcopy__(self, memo: Any) -> CompiledLoss:
        # the code is one, and what holds it need not know how to be copied
        return CompiledLoss(self.function, self.output_activation)

    def __sklearn_clone__(self) -> CompiledLoss:
        return CompiledLoss(self.function, self.output_activation)

    def __reduce__(self) -> tuple[Any, ...]:
        _PICKLED[self.address] = self.function
        return _unpickled, (self.address, self.output_activation, _PROCESS)


_COMPILED = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, *[ctypes.c_void_p] * 4)
# tells this process, and those forked from it, from all others: compiled code lies elsewhere there
_PROCESS = os.urandom(16)
# what holds the code of losses that were pickled: it must outlive them
_PICKLED: dict[int, Any] = {}

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
    return from_description(description, map(type, LOSSES.values()))


def _unpickled(address: int, output_activation: str, process: bytes) -> CustomLoss:
    if process != _PROCESS:
        return CustomLoss(_not_stored, output_activation)
    return CompiledLoss(_PICKLED.get(address, address), output_activation)


def _not_stored(y: Array, output: Array) -> tuple[Array, Array]:
    raise ValueError(
        "the model was trained with a loss of its own, which neither a file nor another process holds: set loss anew"
    )
