"""Layers: what a user says (`Dense`), the table of primitive rows it becomes, and the kinds a row can be of.

A backend walks the table and knows no kind by name in its loops.  A kind is three functions, forward, backward and the
gradient of its parameters; their definition in NumPy stands here, beside the columns that say what a backend must know.
A plain layer is one row of the kind "dense"; each thing a layer adds is a row more:

    dense -> layer_norm -> parametric -> dropout -> add
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np

from pymlp.functions import ACTIVATIONS
from pymlp.options import check_number
from pymlp.philox import kept

Array = np.ndarray

# what is added to a row's variance before its root is taken
NORM_EPSILON = 1e-5
NORMALIZATIONS = ("layer",)


@dataclass(frozen=True)
class Dense:
    """One fully connected layer: ``activation(inputs @ weight + bias)``, and what may come with it.

    In the order of computation: ``z = x @ weight + bias``, normalization of z, activation, dropout, residual.

    Parameters
    ----------
    outputs : int
        Width of the layer, at least 1.
    activation : str, default="relu"
        A name in `pymlp.functions.ACTIVATIONS`.
    dropout : float, default=0.0
        Probability in [0, 1) that an output is 0 in a training step; the others are divided by ``1 - dropout``
        (Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014).
    normalization : {None, "layer"}, default=None
        "layer": each row of z is brought to mean 0 and variance 1, then scaled and shifted by a gain and a shift for
        each unit (Ba, Kiros and Hinton, "Layer normalization", 2016).
    residual : bool, default=False
        Add the layer's inputs to its outputs; both must be of one width (He et al., "Deep residual learning for image
        recognition", 2016).
    max_norm : float or None, default=None
        After each step, the weights into a unit are scaled down to this Euclidean norm if theirs is larger (Srebro
        and Shraibman, "Rank, trace-norm and max-norm", 2005).
    parametric : bool, default=False
        With f the activation, the unit computes ``x + a (f(x) - x)`` and learns a, which starts at 1 (after He et al.,
        "Delving deep into rectifiers", 2015).
    """

    outputs: int
    activation: str = "relu"
    dropout: float = 0.0
    normalization: str | None = None
    residual: bool = False
    max_norm: float | None = None
    parametric: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.outputs, Integral) or isinstance(self.outputs, bool) or self.outputs < 1:
            raise ValueError(f"a layer's outputs must be an integer of at least 1, got {self.outputs!r}")
        object.__setattr__(self, "outputs", int(self.outputs))
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation={self.activation!r} is unknown; known: {', '.join(ACTIVATIONS)}")
        check_number("dropout", self.dropout, 0, 1, high_open=True)
        if self.normalization is not None and self.normalization not in NORMALIZATIONS:
            known = ", ".join(NORMALIZATIONS)
            raise ValueError(f"normalization={self.normalization!r} is unknown; known: None, {known}")
        for name in ("residual", "parametric"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.max_norm is not None:
            check_number("max_norm", self.max_norm, 0, math.inf, low_open=True, high_open=True)

    @property
    def is_plain(self) -> bool:
        """Whether the layer is one row of the kind "dense"."""
        return not (self.dropout or self.normalization or self.residual or self.parametric)


@dataclass(frozen=True)
class Part:
    """One array of parameters of a row: its name, its shape, and where it lies in the flat vector."""

    name: str
    shape: tuple[int, ...]
    place: slice


@dataclass(frozen=True)
class Row:
    """One row of a network's table: a primitive layer that reads one or two buffers and writes one.

    Buffer 0 holds the network's inputs, buffer i + 1 what row i writes.

    Attributes
    ----------
    kind : str
        A name in `KINDS`.
    activation : str
    inputs, outputs : int
        Widths of the buffer it reads and of the one it writes.
    layer : int
        Number of the `Dense` it belongs to; -1 for what comes before the first.
    number : int
        Of the row.
    source, second : int
        Buffers it reads; second is -1 where there is none.
    parts : tuple of Part
    setting : float
        The kind's own number: the rate of dropout, the epsilon of a norm; 0 where there is none.
    max_norm : float
        0 where there is none.
    """

    kind: str
    activation: str
    inputs: int
    outputs: int
    layer: int
    number: int
    source: int
    second: int = -1
    parts: tuple[Part, ...] = ()
    setting: float = 0.0
    max_norm: float = 0.0


@dataclass(frozen=True)
class Moment:
    """Where a batch stands: what a mask depends on.  ``step=None`` is inference."""

    seed: int = 0
    step: int | None = None
    first_row: int = 0

    def after(self, rows: int) -> Moment:
        """The same for the rows after the first `rows`."""
        return Moment(self.seed, self.step, self.first_row + rows)


@dataclass(frozen=True)
class Kind:
    """One kind of row.

    With x and second what the row reads, z what ``forward`` returns, and deltas the gradient by z:

    ``forward(row, parts, x, second, moment)`` gives z; ``backward(row, parts, x, z, deltas, moment)`` the gradients by
    x and by second (None where there is none); ``gradient(row, parts, x, z, deltas)`` those by the parameters, in the
    order of ``parts``, which is that of `shapes`.

    ``initial`` holds the parameters' start: a number, or None where the network's initialiser draws it.  ``activates``:
    the row's activation is applied to z.  ``trains_only``: the row is skipped in inference.  ``by_columns``: a column
    of z can be had without the others.
    """

    name: str
    forward: Callable[..., Array]
    backward: Callable[..., tuple[Array, Array | None]]
    gradient: Callable[..., tuple[Array, ...]] = lambda row, parts, x, z, deltas: ()
    shapes: tuple[tuple[str, str], ...] = ()
    initial: tuple[float | None, ...] = ()
    activates: bool = False
    trains_only: bool = False
    by_columns: bool = True


def _dense_forward(row: Row, parts: list[Array], x: Any, second: None, moment: Moment) -> Array:
    return x @ parts[0] + parts[1]


def _dense_backward(row: Row, parts: list[Array], x: Any, z: Array, deltas: Array, moment: Moment) -> tuple:
    return deltas @ parts[0].T, None


def _dense_gradient(row: Row, parts: list[Array], x: Any, z: Array, deltas: Array) -> tuple[Array, ...]:
    return x.T @ deltas, deltas.sum(axis=0)


def _normalised(row: Row, x: Array) -> tuple[Array, Array]:
    # each row at mean 0 and variance 1, and the reciprocal of its deviation
    centred = x - x.mean(axis=1, keepdims=True)
    inverse = 1 / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + x.dtype.type(row.setting))
    return centred * inverse, inverse


def _norm_forward(row: Row, parts: list[Array], x: Array, second: None, moment: Moment) -> Array:
    return _normalised(row, x)[0] * parts[0] + parts[1]


def _norm_backward(row: Row, parts: list[Array], x: Array, z: Array, deltas: Array, moment: Moment) -> tuple:
    normal, inverse = _normalised(row, x)
    scaled = deltas * parts[0]
    level, slant = scaled.mean(axis=1, keepdims=True), (scaled * normal).mean(axis=1, keepdims=True)
    return inverse * (scaled - level - normal * slant), None


def _norm_gradient(row: Row, parts: list[Array], x: Array, z: Array, deltas: Array) -> tuple[Array, ...]:
    return (deltas * _normalised(row, x)[0]).sum(axis=0), deltas.sum(axis=0)


def _parametric_forward(row: Row, parts: list[Array], x: Array, second: None, moment: Moment) -> Array:
    return x + parts[0] * (ACTIVATIONS[row.activation].value(x) - x)


def _parametric_backward(row: Row, parts: list[Array], x: Array, z: Array, deltas: Array, moment: Moment) -> tuple:
    activation = ACTIVATIONS[row.activation]
    return deltas * (1 + parts[0] * (activation.slope(x, activation.value(x)) - 1)), None


def _parametric_gradient(row: Row, parts: list[Array], x: Array, z: Array, deltas: Array) -> tuple[Array, ...]:
    return ((deltas * (ACTIVATIONS[row.activation].value(x) - x)).sum(axis=0),)


def _masked(row: Row, values: Array, moment: Moment) -> Array:
    if moment.step is None:
        return values
    keep = kept(
        row.setting,
        *values.shape,
        seed=moment.seed,
        step=moment.step,
        layer=row.number,
        first_row=moment.first_row,
    )
    return np.where(keep, values * values.dtype.type(1 / (1 - row.setting)), values.dtype.type(0))


def _dropout_forward(row: Row, parts: list[Array], x: Array, second: None, moment: Moment) -> Array:
    return _masked(row, x, moment)


def _dropout_backward(row: Row, parts: list[Array], x: Array, z: Array, deltas: Array, moment: Moment) -> tuple:
    return _masked(row, deltas, moment), None


def _add_forward(row: Row, parts: list[Array], x: Array, second: Array, moment: Moment) -> Array:
    return x + second


def _add_backward(row: Row, parts: list[Array], x: Array, z: Array, deltas: Array, moment: Moment) -> tuple:
    return deltas, deltas


KINDS: dict[str, Kind] = {
    row.name: row
    for row in (
        Kind(
            "dense", _dense_forward, _dense_backward, _dense_gradient,
            shapes=(("weight", "matrix"), ("bias", "vector")), initial=(None, None), activates=True,
        ),
        Kind(
            "layer_norm", _norm_forward, _norm_backward, _norm_gradient,
            shapes=(("gain", "vector"), ("shift", "vector")), initial=(1.0, 0.0), activates=True, by_columns=False,
        ),
        Kind(
            "parametric", _parametric_forward, _parametric_backward, _parametric_gradient,
            shapes=(("mixture", "vector"),), initial=(1.0,),
        ),
        Kind("dropout", _dropout_forward, _dropout_backward, trains_only=True),
        Kind("add", _add_forward, _add_backward),
    )
}  # fmt: skip


@dataclass
class _Table:
    rows: list[Row] = field(default_factory=list)
    width: int = 0
    end: int = 0

    def append(self, kind: str, layer: int, outputs: int, activation: str = "identity", **columns: Any) -> None:
        parts = []
        for name, shape in KINDS[kind].shapes:
            sizes = (self.width, outputs) if shape == "matrix" else (outputs,)
            parts.append(Part(name, sizes, slice(self.end, self.end + math.prod(sizes))))
            self.end = parts[-1].place.stop
        number = len(self.rows)
        row = Row(kind, activation, self.width, outputs, layer, number, number, parts=tuple(parts), **columns)
        self.rows.append(row)
        self.width = outputs


def table_of(inputs: int, input_dropout: float, layers: tuple[Dense, ...]) -> tuple[Row, ...]:
    """The table of rows of a chain of layers; ValueError if a residual layer does not have the width of its inputs."""
    table = _Table(width=inputs)
    if input_dropout:
        table.append("dropout", -1, inputs, setting=float(input_dropout))
    for position, layer in enumerate(layers):
        start, width = len(table.rows), table.width
        bare = layer.normalization is None and not layer.parametric
        largest = float(layer.max_norm or 0)
        table.append("dense", position, layer.outputs, layer.activation if bare else "identity", max_norm=largest)
        if layer.normalization is not None:
            activation = "identity" if layer.parametric else layer.activation
            table.append("layer_norm", position, layer.outputs, activation, setting=NORM_EPSILON)
        if layer.parametric:
            table.append("parametric", position, layer.outputs, layer.activation)
        if layer.dropout:
            table.append("dropout", position, layer.outputs, setting=float(layer.dropout))
        if layer.residual:
            if width != layer.outputs:
                raise ValueError(
                    f"layers[{position}]: residual=True needs as many outputs as inputs, got {layer.outputs} outputs "
                    f"and {width} inputs"
                )
            table.append("add", position, layer.outputs, second=start)
    return tuple(table.rows)
