"""A chain of layers as other libraries have them, one operation each, on its way to a network.

`Dense` does several things in a fixed order: product, layer norm, activation, dropout.  Other libraries have a layer
for each and leave the order to the user.  Here every operation goes into the layer before it if it comes in that order;
a scaling goes into the weights before or after it; and what comes in another order gets a product with the identity, so
that nothing is refused only for its place.

Numbers are float64 until the network is made: folding costs no digits of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from pymlp.convert.errors import ConversionError
from pymlp.functions import ACTIVATIONS, PROBABILITIES
from pymlp.layers import NORM_EPSILON, Dense
from pymlp.losses import loss_of
from pymlp.network import DTYPES, Network

# the losses that come without being asked for, by what the last layer's outputs go through
LOSSES = {"identity": "squared_error", "softmax": "log_loss", "logistic": "binary_log_loss", "exp": "poisson"}
TASK_LOSSES = {"multiclass": "log_loss", "multilabel-indicator": "binary_log_loss"}


@dataclass(eq=False)
class _Layer:
    """A `Dense` in the making; `where` says what it comes from."""

    where: str
    weight: np.ndarray
    bias: np.ndarray
    norm: tuple[np.ndarray, np.ndarray] | None = None
    activation: str = "identity"
    mixture: np.ndarray | None = None
    dropout: float = 0.0
    residual: bool = False
    # whether nothing but dropout can be added to it any more
    closed: bool = False

    @property
    def is_bare(self) -> bool:
        """Whether it is a product and nothing else yet."""
        return self.norm is None and not self.closed

    @property
    def is_plain(self) -> bool:
        """Whether an output layer can be so."""
        return self.norm is None and self.mixture is None and not self.dropout and not self.residual

    @property
    def parts(self) -> list[np.ndarray]:
        """The arrays in the order of the flat vector."""
        norm = () if self.norm is None else self.norm
        return [self.weight.ravel(), self.bias, *norm, *(() if self.mixture is None else (self.mixture,))]

    @property
    def dense(self) -> Dense:
        """The same as a description."""
        return Dense(
            self.weight.shape[1],
            self.activation,
            self.dropout,
            None if self.norm is None else "layer",
            self.residual,
            parametric=self.mixture is not None,
        )


class Chain:
    """Operations in their order; each takes `where` it comes from, for messages.

    Parameters
    ----------
    inputs : int, optional
        Columns it is fed with; by default as many as the first product takes.
    """

    def __init__(self, inputs: int | None = None) -> None:
        self.width, self.layers, self.input_dropout = inputs, [], 0.0
        self.dtype, self._before = "float32", "the input"
        # factor and shift of a scaling that the next product takes in
        self._pending: tuple[np.ndarray, np.ndarray] | None = None

    def expect(self, where: str, width: int) -> None:
        """Say how many columns there are; ConversionError if it is known otherwise."""
        if self.width is not None and width != self.width:
            raise ConversionError(f"{where} takes {width} columns, but {self._before} gives {self.width}")
        self.width = width

    def columns(self, where: str) -> int:
        """How many columns there are; ConversionError if nothing has said so yet."""
        return self._known_width(where)

    def dense(self, where: str, weight: Any, bias: Any = None) -> None:
        """``x @ weight + bias``; weight of shape (inputs, outputs)."""
        if getattr(weight, "dtype", None) == np.float64:
            self.dtype = "float64"
        weight = self._numbers(where, "weight", weight, 2)
        self.expect(where, len(weight))
        if 0 in weight.shape:
            raise ConversionError(f"{where} has a weight of shape {weight.shape}")
        outputs = weight.shape[1]
        bias = np.zeros(outputs) if bias is None else self._vector(where, "bias", bias, outputs)
        if self._pending is not None:
            factor, shift = self._pending
            bias = bias + np.einsum("i,ij->j", shift, weight)
            weight, self._pending = weight * factor[:, np.newaxis], None
        self.layers.append(_Layer(where, weight, bias))
        self.width, self._before = outputs, where

    def scale(self, where: str, factor: Any, shift: Any) -> None:
        """``x * factor + shift``, column by column."""
        width = self._known_width(where, factor)
        factor = self._vector(where, "scale", factor, width)
        shift = self._vector(where, "shift", shift, width)
        layer = self.layers[-1] if self.layers else None
        if self._pending is not None:
            earlier = self._pending
            self._pending = earlier[0] * factor, earlier[1] * factor + shift
        elif layer is not None and layer.is_bare:
            layer.weight, layer.bias = layer.weight * factor, layer.bias * factor + shift
        elif layer is not None and not layer.closed:
            gain, level = layer.norm
            layer.norm = gain * factor, level * factor + shift
        else:
            self._pending = factor, shift

    def standardise(
        self, where: str, mean: Any, variance: Any, gain: Any = None, shift: Any = None, epsilon: float = 0.0
    ) -> None:
        """``(x - mean) / sqrt(variance + epsilon) * gain + shift``, column by column."""
        width = self._known_width(where, mean)
        mean, variance = self._vector(where, "mean", mean, width), self._vector(where, "variance", variance, width)
        if not np.all(variance + epsilon > 0):
            raise ConversionError(f"{where} has a variance of {variance.min():g}, which is not above 0")
        factor = 1 / np.sqrt(variance + epsilon)
        if gain is not None:
            factor = factor * self._vector(where, "gain", gain, width)
        level = np.zeros(width) if shift is None else self._vector(where, "shift", shift, width)
        self.scale(where, factor, level - mean * factor)

    def normalise(self, where: str, gain: Any, shift: Any, epsilon: float) -> None:
        """Layer norm over all columns, then ``* gain + shift``."""
        width = self._known_width(where, gain)
        if not epsilon > 0:
            raise ConversionError(f"{where} has epsilon={epsilon!r}, and a layer norm here one above 0")
        layer = self._open(where, bare=True)
        if epsilon != NORM_EPSILON:
            # a norm takes out what its inputs are multiplied by, all but the epsilon
            factor = sqrt(NORM_EPSILON / epsilon)
            layer.weight, layer.bias = layer.weight * factor, layer.bias * factor
        layer.norm = (
            self._vector(where, "gain", gain, width),
            np.zeros(width) if shift is None else self._vector(where, "shift", shift, width),
        )

    def activate(self, where: str, name: str) -> None:
        """An activation of the registry."""
        if name == "identity":
            return
        layer = self._open(where)
        layer.activation, layer.closed, layer.where = name, True, where

    def activate_partly(self, where: str, name: str, mixture: Any) -> None:
        """``x + mixture * (f(x) - x)``: a parametric layer's activation."""
        width = self._known_width(where)
        layer = self._open(where)
        layer.activation, layer.closed, layer.where = name, True, where
        layer.mixture = self._vector(where, "mixture", mixture, width)

    def leak(self, where: str, slope: Any) -> None:
        """``x`` above 0, ``slope * x`` below; the slope of a column, or one for all."""
        width = self._known_width(where)
        slope = np.full(width, slope) if np.size(slope) == 1 else slope
        self.activate_partly(where, "relu", 1.0 - self._vector(where, "slope", slope, width))

    def dropout(self, where: str, rate: float) -> None:
        """Dropout, which only training knows."""
        if not 0 <= rate < 1:
            raise ConversionError(f"{where} has the rate {rate!r}, which is not in [0, 1)")
        if rate == 0:
            return
        if not self.layers and self._pending is None:
            self.input_dropout = 1 - (1 - self.input_dropout) * (1 - rate)
            return
        layer = self.layers[-1] if self.layers else None
        if layer is None or self._pending is not None or layer.residual:
            layer = self._product(where)
        # two after another drop what either drops
        layer.dropout, layer.closed = 1 - (1 - layer.dropout) * (1 - rate), True

    def add_inputs(self, where: str, start: int) -> None:
        """Add what the layer number `start`, which must be the last, was fed with."""
        if len(self.layers) != start + 1 or self._pending is not None or len(self.layers[-1].weight) != self.width:
            raise ConversionError(
                f"{where} adds its inputs to what is no single layer of the same width: only a product, with what "
                "comes after it, can be so here"
            )
        self.layers[-1].residual = self.layers[-1].closed = True

    @property
    def output_activation(self) -> str | None:
        """The last layer's activation, if it can be an output layer's; else None."""
        layer = self.layers[-1] if self.layers else None
        return None if layer is None or self._pending is not None or not layer.is_plain else layer.activation

    def network(self, loss: Any = None, dtype: str | None = None) -> tuple[Network, np.ndarray]:
        """The network and its parameters.

        Parameters
        ----------
        loss : str, object of `pymlp.losses` or callable, optional
            By default the one of the output activation.  A last layer without activation gets the one of the loss: its
            outputs are taken for scores.
        dtype : {"float32", "float64"}, optional
            By default that of the widest weight.

        Raises
        ------
        ConversionError
            There is no layer, one can only be the last and is not, or the loss does not fit the last.
        """
        if not self.layers:
            raise ConversionError("there is no layer with weights")
        if dtype is not None and dtype not in DTYPES:
            raise ConversionError(f"dtype={dtype!r} is not one of {', '.join(DTYPES)}")
        self._end(loss)
        for layer in self.layers[:-1]:
            if not ACTIVATIONS[layer.activation].hidden:
                raise ConversionError(f"{layer.where}: {layer.activation!r} can only be the last of all")
        last = self.layers[-1]
        layers = [layer.dense for layer in self.layers]
        inputs = len(self.layers[0].weight)
        loss = LOSSES[last.activation] if loss is None else loss
        try:
            network = Network(inputs, layers, loss, dtype or self.dtype, input_dropout=self.input_dropout)
        except ValueError as error:
            raise ConversionError(str(error)) from error
        with np.errstate(over="ignore"):
            params = np.concatenate([part for layer in self.layers for part in layer.parts]).astype(network.dtype)
        for row, views in zip(network.table, network.parts(params), strict=True):
            if not all(np.isfinite(view).all() for view in views):
                raise ConversionError(f"{self.layers[row.layer].where} has numbers that are not finite")
        return network, params

    def _end(self, loss: Any) -> None:
        """Give the last layer the activation of the loss."""
        try:
            wanted = None if loss is None else loss_of(loss).output_activation
        except ValueError as error:
            raise ConversionError(str(error)) from error
        self._part_end()
        where, found = self.layers[-1].where, self.output_activation
        if found is not None and (found == wanted or (wanted is None and found in LOSSES)):
            return
        if found != "identity":
            last = self.layers[-1].activation
            if not ACTIVATIONS[last].hidden or (last in PROBABILITIES and wanted in PROBABILITIES):
                needed = (
                    f"loss={loss!r} is defined over {wanted!r}" if wanted else "no loss is defined over it: give loss"
                )
                behind = "" if found else " and something behind it"
                raise ConversionError(f"{where} ends the network with {last!r}{behind}, but {needed}")
            self._product(where)
        if wanted is not None:
            self.layers[-1].activation = wanted

    def _part_end(self) -> None:
        """Give the activation of a last layer with a norm to an output layer behind it: that can have no norm."""
        last = self.layers[-1]
        more = last.mixture is not None or last.dropout or last.residual or self._pending is not None
        if last.norm is not None and last.activation in LOSSES and not more:
            name, last.activation = last.activation, "identity"
            self._product(last.where).activation = name

    def _open(self, where: str, *, bare: bool = False) -> _Layer:
        """The last layer, if what comes next can be a part of it, else a new one."""
        self._known_width(where)
        layer = self.layers[-1] if self.layers else None
        if layer is None or self._pending is not None or layer.closed or (bare and not layer.is_bare):
            return self._product(where)
        return layer

    def _product(self, where: str) -> _Layer:
        """A new layer that gives what it gets."""
        width, before = self._known_width(where), self._before
        self.dense(where, np.eye(width, dtype=np.float32))
        self._before = before
        return self.layers[-1]

    def _known_width(self, where: str, vector: Any = None) -> int:
        if self.width is None and vector is not None:
            # a number for each column says how many there are
            self.width = len(vector)
        if self.width is None:
            raise ConversionError(f"{where} comes before the first layer that says how many columns there are")
        return self.width

    def _numbers(self, where: str, name: str, values: Any, dimensions: int) -> np.ndarray:
        array = np.asarray(values)
        if array.dtype.kind not in "fiu" or array.ndim != dimensions:
            raise ConversionError(f"{where}: its {name} must be numbers of {dimensions} dimensions, got {_told(array)}")
        return array.astype(np.float64)

    def _vector(self, where: str, name: str, values: Any, width: int) -> np.ndarray:
        array = self._numbers(where, name, values, 1)
        if array.shape != (width,):
            raise ConversionError(f"{where}: its {name} must be of shape ({width},), got {_told(array)}")
        return array


def _told(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {array.shape}"


def answered(
    chain: Chain,
    *,
    task: str | None = None,
    classes: Any = None,
    loss: Any = None,
    dtype: str | None = None,
    feature_names: Sequence[str] | None = None,
) -> Any:
    """``(network, params)``, or a fitted estimator where `task` or `classes` say what the outputs mean.

    The arguments are those of `from_torch`.
    """
    if task is None and classes is None:
        if feature_names is not None:
            raise ConversionError("feature_names are an estimator's: give task or classes too")
        return chain.network(loss, dtype)
    if task is None:
        task = _task_of(chain)
    if loss is None:
        loss = TASK_LOSSES.get(task)
        if task == "binary":
            loss = "binary_log_loss" if chain.width == 1 else "log_loss"
        elif task == "numbers" and chain.output_activation == "logistic":
            # numbers between 0 and 1 that are no probabilities of classes
            loss = "squared_error"
    network, params = chain.network(loss, dtype)
    # a network alone needs no scikit-learn
    from pymlp.convert.estimators import fitted_estimator

    return fitted_estimator(network, params, task=task, classes=classes, feature_names=feature_names)


def _task_of(chain: Chain) -> str:
    if not chain.layers or chain.width == 1:
        return "binary"
    if chain.output_activation == "logistic":
        raise ConversionError(
            f"{chain.layers[-1].where} ends the network with 'logistic' for {chain.width} outputs each by itself: give "
            "task='multilabel-indicator' if these are labels that a row can have several of"
        )
    return "binary" if chain.width == 2 else "multiclass"
