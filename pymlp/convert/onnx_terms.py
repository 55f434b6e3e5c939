"""Terms: the values of an ONNX graph as functions of what they are made of, down to the products with matrices.

Products with constant matrices are layers in the making, and the leaves of all further terms.  All else is a call that
can be computed for some numbers, which is how `pymlp.convert.onnx_layers` tells what it is; multiples of a term plus
constants are remembered as such, to be folded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pymlp.convert.errors import ConversionError
from pymlp.convert.onnx_files import Node
from pymlp.convert.onnx_operators import compute

# where functions are compared: dense where they bend, and far out
GRID = np.concatenate(
    [np.linspace(-10, 10, 161), *(sign * np.geomspace(1e-5, 0.05, 9) for sign in (-1, 1)), [-40, -20, -14, 14, 20, 40]]
)
# rows of every array that terms are computed of
ROWS = len(GRID)
# relative to the value: constants of float32 must pass, and two activations must not
TOLERANCE = 1e-6
# multiples of multiples, and operators between two layers, that are followed: no exporter writes so many, and what is
# done with them takes a time that grows with their square
MOST_SCALINGS, MOST_CALLS = 100, 1000


class Constant:
    """An array that does not depend on the inputs.

    Parameters
    ----------
    array : ndarray
    of_rows : ndarray of bool, optional
        Which of its numbers are the number of rows, or follow from it.
    """

    __slots__ = ("array", "of_rows")

    def __init__(self, array: np.ndarray, of_rows: np.ndarray | None = None) -> None:
        self.array = array
        self.of_rows = of_rows if of_rows is not None and of_rows.any() else None


class Term:
    """A value that depends on the inputs: rows of numbers, or of labels.

    Attributes
    ----------
    number : int
        In the order in which they are made.
    node : Node or None
        Where it comes from.
    leaf : {"", "inputs", "dense", "norm"}
        "" for a call.  A "norm" brings each row of its argument to mean 0 and variance 1.
    dims : tuple of int
        Shape of a row.
    kind : str
        Letter of its NumPy type: "f" numbers, all else labels and decisions.
    function, arguments, place
        Of a call: what it computes of which terms and arrays, and which of several results it is.
    scaled : tuple of (Term, scale, shift) or None
        The term that it is a multiple of, plus something: numbers, or arrays over the flattened row.
    depth : int
        Of how many others it is so.
    joins : bool
        Whether it takes several columns of a leaf together.
    weight, bias : ndarray
        Of a "dense".
    epsilon : float
        Of a "norm".
    """

    __slots__ = (
        "arguments", "bias", "depth", "dims", "epsilon", "function", "joins", "kind", "leaf", "node", "number", "place",
        "scaled", "weight",
    )  # fmt: skip

    def __init__(self, number: int, node: Node | None, dims: tuple[int, ...], leaf: str = "", kind: str = "f") -> None:
        self.number, self.node, self.dims, self.leaf, self.kind = number, node, dims, leaf, kind
        self.function: Any = None
        self.arguments: list[Any] = []
        self.place: int | None = None
        self.scaled: tuple[Term, Any, Any] | None = None
        self.depth = 0
        self.joins = False
        self.weight = self.bias = np.empty(0)
        self.epsilon = 0.0

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return math.prod(self.dims)

    @property
    def terms(self) -> list[Term]:
        """The terms among the arguments."""
        return [each for each in self.arguments if isinstance(each, Term)]

    def scale_of(self, term: Term, scale: Any, shift: Any) -> None:
        """Note that it is a multiple of a term plus something."""
        if term.depth < MOST_SCALINGS:
            self.scaled, self.depth = (term, scale, shift), term.depth + 1

    def scalings(self) -> Iterator[tuple[Term, Any, Any]]:
        """Itself and each term that it is a multiple of plus something, with multiple and sum: the nearest first."""
        term, scale, shift = self, 1.0, 0.0
        yield term, scale, shift
        while term.scaled is not None:
            term, inner_scale, inner_shift = term.scaled
            shift = scale * inner_shift + shift
            scale = scale * inner_scale
            yield term, scale, shift


def between(term: Term, stops: Iterable[Term]) -> tuple[list[Term], set[Term]]:
    """The calls that lead to a term, in order, and the leaves that they begin at; nothing of `stops` or behind them."""
    stops, seen, calls, leaves, waiting = set(stops), set(), [], set(), [term]
    while waiting:
        each = waiting.pop()
        if each in seen or each in stops:
            continue
        seen.add(each)
        if each.leaf:
            leaves.add(each)
        else:
            calls.append(each)
            waiting.extend(each.terms)
    return sorted(calls, key=lambda each: each.number), leaves


def sole_arguments(term: Term) -> list[Term]:
    """The terms that a term is a function of, each by itself alone, from the leaf on; without the term itself."""
    calls, leaves = between(term, ())
    if len(calls) > MOST_CALLS:
        return []
    candidates = [*sorted(leaves, key=lambda each: each.number), *calls]
    return [each for each in candidates if each is not term and not between(term, [each])[1]]


def evaluate(term: Term, given: dict[Term, np.ndarray]) -> np.ndarray:
    """The values of a term, (ROWS, *dims), where those of others are given; ConversionError if they do not suffice."""
    calls, leaves = between(term, given)
    if leaves:
        raise place_of(term).refusal("it joins values that do not come from one layer")
    values: dict[Any, np.ndarray] = dict(given)
    for call in calls:
        arrays = [values[each] if isinstance(each, Term) else each for each in call.arguments]
        found = compute(call.node, call.function, arrays)
        values[call] = found if call.place is None else found[call.place]
    return values[term]


def place_of(term: Term) -> Node:
    """The node of a term, for messages."""
    if term.node is None:
        raise ConversionError("the inputs are handed on as they are, without a layer")
    return term.node


def norm_of(term: Term, argument: Term) -> tuple[float, np.ndarray, np.ndarray] | None:
    """Epsilon, gain and shift with which a term is the norm of another, if it is that."""
    columns = term.dims[0]
    x = np.random.default_rng(0).normal(size=(ROWS, columns))
    # rows without any deviation, with a large one, and with one that is far below every epsilon
    x[0], x[1] = 0.0, 1e4 * x[1]
    x[2:40] *= 1e-6
    found = evaluate(term, {argument: x})
    if found.dtype.kind != "f" or not np.isfinite(found).all():
        return None
    shift = found[0]
    centred = x - x.mean(axis=1, keepdims=True)
    variance = (centred * centred).mean(axis=1)
    ratios = (found[1:3] - shift) / centred[1:3]
    best = int(np.argmax(np.abs(ratios[0])))
    if not ratios[0, best] or not np.isfinite(ratios[1, best]):
        return None
    # of gain / sqrt(variance + epsilon) for the large and the tiny variance
    square = (ratios[1, best] / ratios[0, best]) ** 2
    if square <= 1:
        return None
    epsilon = (variance[1] - square * variance[2]) / (square - 1)
    # a larger one would be that of a mere multiple, of which the variance decides nothing
    if not 0 < epsilon < 1:
        return None
    gain = ratios[0] * np.sqrt(variance[1] + epsilon)
    expected = centred / np.sqrt(variance + epsilon)[:, None] * gain + shift
    if not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE * float(np.abs(gain).max())):
        return None
    if np.allclose(gain, 1, rtol=1e-9, atol=0) and np.allclose(shift, 0, atol=1e-9):
        gain, shift = np.ones(columns), np.zeros(columns)
    return float(epsilon), gain, shift
