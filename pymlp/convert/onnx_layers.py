"""The layers that the terms of a graph come from, read from its output back to its inputs.

What follows a product with a matrix is compared with each activation of the registry, by its values over a range of
numbers; multiples and sums before and behind it go into the matrices, as those of BatchNormalization and of scaled
inputs do.  What stands where a perceptron has no place for it but is still a layer's part (an activation of the inputs,
a norm behind an activation) becomes a layer of its own, whose matrix is the identity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pymlp.convert.errors import ConversionError
from pymlp.convert.onnx_terms import GRID, ROWS, TOLERANCE, Term, between, evaluate, place_of, sole_arguments
from pymlp.functions import ACTIVATIONS
from pymlp.layers import NORM_EPSILON

# element by element; the identity is found by its being a multiple
HIDDEN = [name for name, row in ACTIVATIONS.items() if row.hidden and name != "identity"]
# of a composed form cancellation leaves so much, where the value itself is smaller
CANCELLATION = 1e-12
# of a matrix that is not in the file: 256 MB
MOST_NUMBERS = 1 << 25
# operators that may be the sum of a residual layer
SUMS = ("Add", "Sum")


@dataclass(eq=False)
class Layer:
    """One layer; arrays of float64, or of the file's type where they are as they were there.

    Parameters
    ----------
    where : str
        The node it comes from, for messages.
    weight : ndarray of shape (inputs, outputs)
    bias : ndarray of shape (outputs,)
    activation : str
    gain, shift : ndarray of shape (outputs,), optional
        Of a norm.
    mixture : ndarray of shape (outputs,), optional
        Of a parametric activation.
    residual : bool
    """

    where: str
    weight: np.ndarray
    bias: np.ndarray
    activation: str = "identity"
    gain: np.ndarray | None = None
    shift: np.ndarray | None = None
    mixture: np.ndarray | None = None
    residual: bool = False

    def take_before(self, scale: Any, shift: Any) -> None:
        """Let the inputs be multiplied and summed beforehand; numbers, or arrays of shape (inputs,)."""
        wide = self.weight.astype(np.float64)
        if np.any(shift != 0):
            # not BLAS, whose sums depend on its threads and on the processor
            self.bias = self.bias + np.einsum("i,ij->j", np.broadcast_to(shift, len(wide)), wide)
        if np.any(scale != 1):
            self.weight = wide * np.broadcast_to(scale, len(wide))[:, None]

    def take_mixed(self, matrix: np.ndarray, shift: np.ndarray) -> None:
        """Let the inputs be ``x @ matrix + shift`` of others beforehand."""
        self.take_before(1.0, shift)
        self.weight = np.einsum("ij,jk->ik", matrix, self.weight.astype(np.float64))


@dataclass(frozen=True, eq=False)
class Activated:
    """What is known of a term: an activation of `argument`, mixed with it, and added to `residual`."""

    argument: Term
    activation: str
    mixture: np.ndarray | None = None
    residual: Term | None = None


def close(found: np.ndarray, expected: np.ndarray, x: np.ndarray) -> bool:
    """Whether values are those of a function at x, to what an exporter may round off.

    Where a composed form overflows, the function decides; but only far out.
    """
    if found.dtype.kind != "f" or found.shape != expected.shape:
        return False
    odd = ~np.isfinite(found)
    if odd.any() and (np.abs(x[odd]) <= 20).any():
        return False
    with np.errstate(all="ignore"):
        apart = np.abs(found - expected)
        near = apart <= TOLERANCE * np.abs(expected) + CANCELLATION * (1 + np.abs(x))
    return bool((near | odd).all())


def _places(term: Term) -> np.ndarray:
    """Where in the grid each number of a term stands: in each column in another order, so that none passes for one."""
    places = (np.arange(ROWS)[:, None] + 13 * np.arange(term.width)[None, :]) % ROWS
    return places.reshape(ROWS, *term.dims)


# over the grid
_VALUES = {name: ACTIVATIONS[name].value(GRID) for name in HIDDEN}


def _matched(term: Term, argument: Term) -> str | None:
    """The activation of another that a term is."""
    if term is argument:
        return "identity"
    if term.dims != argument.dims:
        return None
    places = _places(argument)
    x = GRID[places]
    found = evaluate(term, {argument: x})
    if found.shape != x.shape:
        return None
    # one column tells most of them apart
    first = (slice(None), *[slice(0, 1)] * len(term.dims))
    for name in HIDDEN:
        for part in (first, ...):
            if not close(found[part], _VALUES[name][places[part]], x[part]):
                break
        else:
            return name
    return None


def _written_as_mixture(term: Term) -> Activated | None:
    """``x + a (f(x) - x)``, written so: a is then had to the bit."""
    if term.node.operator != "Add" or len(term.terms) != 2:
        return None
    for x, product in (term.terms, term.terms[::-1]):
        if product.leaf or product.node.operator != "Mul" or len(product.terms) != 1:
            continue
        (difference,) = product.terms
        if difference.leaf or difference.node.operator != "Sub" or len(difference.terms) != 2:
            continue
        function, subtracted = difference.terms
        if subtracted is not x or (function is not x and between(function, [x])[1]):
            continue
        (factor,) = (each for each in product.arguments if not isinstance(each, Term))
        name = _matched(function, x)
        if name is not None and factor.size in (1, term.width):
            return Activated(x, name, np.broadcast_to(factor.reshape(-1), term.width))
    return None


def _mixture(term: Term, argument: Term) -> Activated | None:
    """The same in any other form, such as PRelu and LeakyRelu of other slopes."""
    if term.dims != argument.dims or len(term.dims) != 1:
        return None
    places = _places(argument)
    x = GRID[places]
    found = evaluate(term, {argument: x})
    if found.shape != x.shape or found.dtype.kind != "f" or not np.isfinite(found).all():
        return None
    for name in HIDDEN:
        away = _VALUES[name][places] - x
        factor = (away * (found - x)).sum(axis=0) / (away * away).sum(axis=0)
        if close(found, x + factor * away, x):
            if name == "relu" and term.node.operator == "PRelu" and term.arguments[0] is argument:
                # to the bit
                factor = 1 - np.broadcast_to(np.asarray(term.arguments[1], np.float64).reshape(-1), term.width)
            return Activated(argument, name, factor)
    return None


def _is_scaled_layer(term: Term) -> bool:
    *_, (base, _, _) = term.scalings()
    return base.leaf in ("dense", "norm")


def _plain(term: Term, *, anywhere: bool) -> Activated | None:
    """A term as an activation of a layer, or with `anywhere` of any other term."""
    if _is_scaled_layer(term):
        return Activated(term, "identity")
    if term.leaf or (not anywhere and len(between(term, ())[1]) > 1):
        return None
    arguments = [each for each in sole_arguments(term) if each.kind == "f" and (anywhere or _is_scaled_layer(each))]
    written = _written_as_mixture(term)
    if written is not None and (anywhere or _is_scaled_layer(written.argument)):
        return written
    for argument in arguments:
        name = _matched(term, argument)
        if name is not None:
            return Activated(argument, name)
    for argument in arguments:
        found = _mixture(term, argument)
        if found is not None:
            return found
    return None


def activated(term: Term, *, anywhere: bool) -> Activated | None:
    """What a term is as the output of a hidden layer; None if it is none."""
    if not term.leaf and term.node.operator in SUMS and len(term.terms) == 2 == len(term.arguments):
        for inner, residual in (term.terms, term.terms[::-1]):
            if inner is residual or inner.dims != residual.dims:
                continue
            found = _plain(inner, anywhere=anywhere)
            if found is not None and any(each is residual for each, _, _ in layer_of(found.argument)[1].scalings()):
                return Activated(found.argument, found.activation, found.mixture, residual)
    return _plain(term, anywhere=anywhere)


def layer_of(term: Term) -> tuple[Layer, Term]:
    """The layer that computes a term without an activation, and the term that it reads."""
    *_, (base, scale, shift) = term.scalings()
    if base.leaf == "norm":
        (argument,) = base.arguments
        layer, source = _matrix_of(argument)
        # the norm of k z with epsilon k**2 is that of z with epsilon
        factor = np.sqrt(NORM_EPSILON / base.epsilon)
        if factor != 1:
            layer.weight, layer.bias = layer.weight.astype(np.float64) * factor, layer.bias * factor
        layer.gain, layer.shift = (np.broadcast_to(each, term.dims) for each in (scale, shift))
        return layer, source
    return _matrix_of(term)


def _matrix_of(term: Term) -> tuple[Layer, Term]:
    *_, (base, scale, shift) = term.scalings()
    if base.leaf == "dense":
        layer = Layer(str(base.node), base.weight, base.bias)
        if np.any(scale != 1):
            layer.weight, layer.bias = layer.weight.astype(np.float64) * scale, layer.bias * scale
        layer.bias = layer.bias + shift
        return layer, base.arguments[0]
    return identity_layer(term), term


def identity_layer(term: Term) -> Layer:
    """A layer that reads a term and hands it on."""
    where = "the input" if term.node is None else str(term.node)
    _check_room(where, term.width, term.width)
    return Layer(where, np.eye(term.width), np.zeros(term.width))


def _check_room(where: str, inputs: int, outputs: int) -> None:
    """ConversionError before a matrix is made that no file holds."""
    if inputs * outputs > MOST_NUMBERS:
        raise ConversionError(f"{where} would become a matrix of {inputs:,} x {outputs:,} numbers")


def read_layers(last: Layer, source: Term) -> list[Layer]:
    """All layers of a network, from its last one and the term that this reads.

    Raises
    ------
    ConversionError
        Names the node that no layer can be made of.
    """
    layers, exact = [last], False
    while True:
        found, scale, shift = _read(source)
        if exact and not (np.all(scale == 1) and np.all(shift == 0) and not isinstance(found, tuple)):
            # a residual layer hands on its inputs, so nothing can go into its matrix alone
            layers.append(identity_layer(source))
        if isinstance(found, tuple):
            layers[-1].take_mixed(*found)
            return layers[::-1]
        layers[-1].take_before(scale, shift)
        if isinstance(found, Term):
            return layers[::-1]
        layer, source = layer_of(found.argument)
        layer.activation, layer.mixture = found.activation, found.mixture
        exact = layer.residual = found.residual is not None
        if found.residual is not None:
            for each, scale, shift in source.scalings():
                if each is found.residual:
                    layer.take_before(scale, shift)
                    break
            source = found.residual
        layers.append(layer)


def _read(term: Term) -> tuple[Any, Any, Any]:
    """The inputs, a matrix over them with a shift, or an activation; and what it is multiplied by and summed with."""
    for anywhere in (False, True):
        for each, scale, shift in term.scalings():
            if each.leaf == "inputs":
                return each, scale, shift
            found = activated(each, anywhere=anywhere)
            if found is not None:
                return found, scale, shift
        mixed = _of_inputs(term)
        if mixed is not None:
            return mixed, 1.0, 0.0
    raise _refusal(term)


def _of_inputs(term: Term) -> tuple[np.ndarray, np.ndarray] | None:
    """Matrix and shift, if a term is a linear function of the inputs, such as a choice of columns."""
    calls, leaves = between(term, ())
    if len(leaves) != 1 or any(each.kind != "f" for each in calls):
        return None
    (inputs,) = leaves
    if inputs.leaf != "inputs":
        return None
    width = inputs.width

    def values(x: np.ndarray) -> np.ndarray:
        return evaluate(term, {inputs: x.reshape(ROWS, *inputs.dims)}).reshape(ROWS, -1)

    _check_room(str(place_of(term)), width, term.width)
    shift = values(np.zeros((ROWS, width)))[0]
    matrix = np.empty((width, term.width))
    for start in range(0, width, ROWS):
        unit = np.eye(ROWS, width, start)
        matrix[start : start + ROWS] = (values(unit) - shift)[: width - start]
    x = np.random.default_rng(0).normal(scale=100, size=(ROWS, width))
    found, expected = values(x), np.einsum("ij,jk->ik", x, matrix) + shift
    fits = np.isfinite(matrix).all() and np.allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    return (matrix, shift) if fits else None


def _refusal(term: Term) -> ConversionError:
    """Why a term cannot be read, by the node that is the nearest to its cause."""
    *_, (term, _, _) = term.scalings()
    node = place_of(term)
    if len(term.terms) > 1 and len(between(term, ())[1]) > 1:
        return node.refusal(
            "it joins values of different layers; pymlp knows sums of a single layer's inputs and outputs alone"
        )
    # of a composed form, the first that is no function of the layer by itself
    for each in between(term, ())[0]:
        if each.node.operator in _NAMED:
            node = each.node
    return node.refusal(f"what it gives is none of pymlp's activations: {', '.join(HIDDEN)}")


# operators that are an activation by themselves, and so the one to name
_NAMED = ("Celu", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Selu", "Softsign", "Swish", "ThresholdedRelu")


def arguments_of_output(term: Term) -> Iterator[tuple[Term, Term, Any, Any]]:
    """What an output may be a function of, with what it is then multiplied by and summed with: layers first."""
    for anywhere in (False, True):
        for each, scale, shift in term.scalings():
            if each.leaf:
                continue
            for argument in sole_arguments(each):
                *_, (base, _, _) = argument.scalings()
                if argument.kind == "f" and len(argument.dims) == 1 and (anywhere or base.leaf == "dense"):
                    yield each, argument, scale, shift
