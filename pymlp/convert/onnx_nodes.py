"""What the nodes of an ONNX graph give: terms and constants.

Each node is looked at once, in the order of the file, so that a graph with a cycle is no graph.  What leaves its
argument as it is (Identity, Cast, Dropout, Flatten of rows) is that argument; what depends on no input is computed at
once, the shapes of arrays too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pymlp.container import shown
from pymlp.convert.errors import ConversionError
from pymlp.convert.onnx_files import GraphFile, Node
from pymlp.convert.onnx_operators import ELEMENTWISE, JOINING, ML, OPERATORS, STRUCTURAL, compute
from pymlp.convert.onnx_terms import ROWS, TOLERANCE, Constant, Term, norm_of, sole_arguments
from pymlp.functions import logistic, softmax
from pymlp.layers import NORM_EPSILON

# widths that a graph may have whatever its arrays are
LEAST_WIDTH = 1024
# the room for constants, beside twice that of the file
LEAST_ROOM = 1 << 16


class Terms:
    """The terms of a graph.

    Parameters
    ----------
    graph : GraphFile

    Attributes
    ----------
    values : dict of str to (Term or Constant)
    inputs : Term
        All inputs, side by side.
    products : list of Term
        All products with matrices.
    classes : dict of Term to list
        Labels that the graph gives to the columns of a term.
    """

    def __init__(self, graph: GraphFile) -> None:
        self.graph = graph
        self.values: dict[str, Term | Constant] = {name: Constant(array) for name, array in graph.constants.items()}
        self.products: list[Term] = []
        self.classes: dict[Term, list[Any]] = {}
        self._made = 0
        sizes = [size for array in graph.constants.values() for size in array.shape]
        # a row is no wider than the arrays it is multiplied by, which LinearClassifier has in an attribute
        listed = [
            len(values) for node in graph.nodes for values in node.attributes.values() if isinstance(values, list)
        ]
        self._widest = 4 * max([LEAST_WIDTH, *sizes, *listed])
        self._room = LEAST_ROOM + 2 * sum(array.size for array in graph.constants.values())
        nodes = self._needed()
        self.inputs = self._take_inputs(nodes)
        for node in nodes:
            self._add(node)

    def value(self, name: str) -> Term | Constant:
        """The value of that name."""
        return self.values[name]

    def _needed(self) -> list[Node]:
        """The nodes that the outputs depend on, in the order of the file."""
        made: set[str] = set()
        for node in self.graph.nodes:
            for name in filter(None, node.outputs):
                if name in made or name in self.values or name in self.graph.inputs:
                    raise node.refusal(f"it gives {shown(name)}, which is there already")
                made.add(name)
        wanted, needed = set(self.graph.outputs), []
        for node in reversed(self.graph.nodes):
            if not wanted.isdisjoint(node.outputs):
                needed.append(node)
                wanted.update(filter(None, node.inputs))
        for name in self.graph.outputs:
            if name not in made:
                raise ConversionError(f"the output {shown(name)} is computed by no node")
        return needed[::-1]

    def _take_inputs(self, nodes: Sequence[Node]) -> Term:
        found = self.graph.inputs
        if found.keys().isdisjoint(name for node in nodes for name in node.inputs):
            raise ConversionError("its outputs depend on no input")
        if len(found) == 1:
            ((name, dims),) = found.items()
            leaf = self._term(None, self._row(name, dims, nodes), "inputs")
            self.values[name] = leaf
            return leaf
        widths = []
        for name, dims in found.items():
            if dims is None or len(dims) != 2 or dims[1] is None:
                raise ConversionError(f"it has {len(found)} inputs, so {shown(name)} must say how many columns it has")
            widths.append(dims[1])
        leaf = self._term(None, (sum(widths),), "inputs")
        self._check_width(leaf.dims, "its inputs together have")
        ends = np.cumsum(widths).tolist()
        for name, width, end in zip(found, widths, ends, strict=True):
            node = Node(-1, name, "Slice", "", (), (name,), {"starts": [end - width], "ends": [end], "axes": [1]}, 9)
            self.values[name] = self._call(node, STRUCTURAL["Slice"], [leaf])
        return leaf

    def _row(self, name: str, dims: tuple[int | None, ...] | None, nodes: Sequence[Node]) -> tuple[int, ...]:
        """The shape of a row of the only input."""
        if dims is None or dims[1:] == (None,):
            dims = (None, next((width for node in nodes if (width := self._width_asked(node)) is not None), None))
        if len(dims) < 2 or None in dims[1:]:
            raise ConversionError(
                f"the input {shown(name)} has the dimensions {[size or '?' for size in dims]}: it must have an axis "
                "for rows and say how many columns they have"
            )
        self._check_width(dims[1:], f"the input {shown(name)} has")
        return dims[1:]

    def _width_asked(self, node: Node) -> int | None:
        """The columns of the first argument, where a node says them by its constants."""
        if node.operator in ("MatMul", "Gemm") and len(node.inputs) > 1:
            found = self.values.get(node.inputs[1])
            if isinstance(found, Constant) and found.array.ndim == 2:
                return found.array.shape[1 if node.operator == "Gemm" and node.get("transB", 0) else 0]
        if node.operator == "Scaler" and len(node.get("offset", ())) > 1:
            return len(node.get("offset"))
        if node.operator in ("LinearClassifier", "LinearRegressor") and node.get("intercepts"):
            return len(node.get("coefficients", ())) // len(node.get("intercepts"))
        return None

    def _check_width(self, dims: tuple[int, ...], what: str) -> None:
        if math.prod(dims) > self._widest:
            raise ConversionError(f"{what} {math.prod(dims)} columns, far more than its arrays")

    def _term(self, node: Node | None, dims: tuple[int, ...], leaf: str = "", kind: str = "f") -> Term:
        self._made += 1
        return Term(self._made, node, dims, leaf, kind)

    def _add(self, node: Node) -> None:
        """Find out what a node gives."""
        arguments = []
        for name in node.inputs:
            if name and name not in self.values:
                raise node.refusal(f"it reads {shown(name)}, which no node before it gives")
            arguments.append(self.values[name] if name else None)
        special = _SPECIAL.get((node.domain, node.operator))
        function = OPERATORS.get((node.domain, node.operator))
        if special is not None:
            results = compute(node, lambda node, *given: special(self, node, *given), arguments)
        elif function is not None:
            results = compute(node, lambda node, *given: self._apply(node, function, list(given)), arguments)
        else:
            raise node.refusal("pymlp has no such function, nor reads one from it")
        results = results if isinstance(results, tuple) else (results,)
        if None in results:
            raise node.refusal("it has no input")
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                self.values[name] = result
        missing = [name for name in node.outputs[len(results) :] if name]
        used = {*self.graph.outputs, *(name for each in self.graph.nodes for name in each.inputs)} if missing else ()
        if used and not used.isdisjoint(missing):
            raise node.refusal(f"pymlp does not read its output {shown(missing[0])}")

    def _apply(self, node: Node, function: Any, arguments: list[Any]) -> Any:
        """What an ordinary operator gives."""
        if not any(isinstance(each, Term) for each in arguments):
            return self._folded(node, function, arguments)
        data = arguments if node.operator not in STRUCTURAL or node.operator == "Concat" else arguments[:1]
        if any(isinstance(each, Constant) and each.of_rows is not None for each in data):
            raise node.refusal("its numbers depend on how many rows there are")
        arrays = [each.array if isinstance(each, Constant) else each for each in arguments]
        if node.operator == "Reshape" and self._fixes_rows(arrays):
            arrays[1] = np.concatenate([[ROWS], arrays[1][1:]])
        found = self._call(node, function, arrays)
        if not isinstance(found, Term):
            return found
        argument = arguments[0]
        if node.operator in ("Identity", "Cast", *STRUCTURAL) and isinstance(argument, Term):
            if found.dims == argument.dims and node.operator in _KEEPING and found.kind == argument.kind:
                # only places and digits change, and here not even those
                return argument
            if node.operator in _KEEPING and found.kind == argument.kind:
                found.scale_of(argument, 1.0, 0.0)
        elif node.operator in ("Add", "Sub", "Mul", "Div", "Neg", "Sum"):
            scaled = _scaled(node, arrays, found)
            if scaled is not None:
                found.scale_of(*scaled)
        return self._as_norm(found)

    def _fixes_rows(self, arrays: list[Any]) -> bool:
        """Whether a shape begins with the number of rows that the graph was exported with."""
        dims = next(iter(self.graph.inputs.values()))
        shape = arrays[1] if isinstance(arrays[1], np.ndarray) else np.empty(0)
        return bool(dims) and shape.ndim == 1 and len(shape) > 1 and dims[0] is not None and shape[0] == dims[0]

    def _folded(self, node: Node, function: Any, arguments: list[Any]) -> Constant | tuple[Constant, ...]:
        arrays = [None if each is None else each.array for each in arguments]
        self._check_size(node, arrays, self._room)
        found = compute(node, function, arrays)
        if node.operator == "Cast" and node.get("to") in _CASTS:
            # unlike those of terms, they decide on the type of the network
            found = found.astype(_CASTS[node.get("to")])
        results = found if isinstance(found, tuple) else (found,)
        masks: list[Any] = [None] * len(results)
        given = [each for each in arguments if each is not None and each.of_rows is not None]
        if node.operator in STRUCTURAL or node.operator in ("Cast", "Identity"):
            data = arguments if node.operator == "Concat" else arguments[:1]
            if any(each in data for each in given):
                moved = [
                    np.zeros(each.array.shape, bool) if each.of_rows is None else each.of_rows for each in data
                ]  # fmt: skip
                if node.operator in STRUCTURAL:
                    mask = compute(node, function, [*moved, *arrays[len(data) :]])
                    masks = list(mask) if isinstance(mask, tuple) else [mask]
                else:
                    masks = moved
        elif given and node.operator != "ConstantOfShape":
            masks = [np.ones(np.shape(each), bool) for each in results]
        made = tuple(Constant(np.asarray(each), mask) for each, mask in zip(results, masks, strict=True))
        return made if isinstance(found, tuple) else made[0]

    def _check_size(self, node: Node, arrays: list[Any], room: int) -> None:
        """ConversionError before an array is made that is larger than all that the file holds."""
        shapes = [np.shape(each) for each in arrays if each is not None]
        size = 0
        try:
            if node.operator in ELEMENTWISE:
                size = math.prod(np.broadcast_shapes(*shapes))
            elif node.operator == "Expand" and len(arrays) > 1:
                size = math.prod(np.broadcast_shapes(shapes[0], tuple(arrays[1].tolist())))
            elif node.operator == "ConstantOfShape" and arrays:
                size = math.prod(arrays[0].tolist())
            elif node.operator == "Concat":
                size = sum(map(math.prod, shapes))
            elif node.operator == "Gather" and len(arrays) > 1:
                size = math.prod(shapes[0]) // max(1, shapes[0][node.get("axis", 0)]) * math.prod(shapes[1])
        except (IndexError, TypeError, ValueError) as error:
            raise node.refusal(" ".join(str(error).split())) from error
        if size > room:
            raise node.refusal(f"it makes an array of {size:,} numbers, far more than the file holds")

    def _call(self, node: Node, function: Any, arguments: list[Any]) -> Term | tuple[Term, ...]:
        """A term, or several, that is computed of others."""
        blank = [
            np.zeros((ROWS, *each.dims), _TYPES[each.kind]) if isinstance(each, Term) else each for each in arguments
        ]
        self._check_size(node, blank, ROWS * self._widest)
        found = compute(node, function, blank)
        made = []
        for place, result in enumerate(found if isinstance(found, tuple) else (found,)):
            if result.ndim < 1 or len(result) != ROWS:
                raise node.refusal("it takes rows together, or fixes how many there are")
            term = self._term(node, result.shape[1:], kind=result.dtype.kind)
            term.function, term.arguments = function, arguments
            term.place = place if isinstance(found, tuple) else None
            term.joins = node.operator in JOINING or any(each.joins for each in term.terms)
            made.append(term)
        return tuple(made) if isinstance(found, tuple) else made[0]

    def dense(self, node: Node, argument: Any, weight: np.ndarray, bias: Any = 0.0) -> Term:
        """A product with a matrix, (inputs, outputs), plus a bias."""
        if not isinstance(argument, Term):
            raise node.refusal("it multiplies constants")
        if argument.dims != weight.shape[:1] or weight.ndim != 2 or argument.kind not in "fiub":
            raise node.refusal(
                f"it multiplies rows of the shape {list(argument.dims)} by a matrix of the shape {list(weight.shape)}"
            )
        if weight.dtype.kind != "f":
            raise node.refusal(f"its matrix is of type {weight.dtype}")
        term = self._term(node, weight.shape[1:], "dense")
        term.arguments, term.weight = [argument], weight
        term.bias = self._over_columns(node, bias, term.dims)
        self.products.append(term)
        return term

    def scaled(self, node: Node, argument: Term, scale: Any, shift: Any) -> Term:
        """A multiple of a term plus something, in arrays that broadcast to its rows."""
        scale, shift = (self._over_row(node, each, argument.dims) for each in (scale, shift))
        found = self._call(node, lambda node, x: x * scale + shift, [argument])
        found.scale_of(argument, _flat(scale, argument.dims), _flat(shift, argument.dims))
        return found

    @staticmethod
    def _over_row(node: Node, values: Any, dims: tuple[int, ...]) -> np.ndarray:
        values = np.asarray(values, np.float64)
        try:
            np.broadcast_to(values, (1, *dims))
        except ValueError as error:
            raise node.refusal(
                f"its constants of the shape {list(values.shape)} do not fit rows of {list(dims)}"
            ) from error
        return values

    @staticmethod
    def _over_columns(node: Node, values: Any, dims: tuple[int, ...]) -> np.ndarray:
        values = np.asarray(values)
        if values.size != 1 and values.shape not in (dims, (1, *dims)):
            raise node.refusal(f"its constants of the shape {list(values.shape)} do not fit {dims[0]} columns")
        return np.broadcast_to(values.reshape(-1), dims).astype(np.float64)

    def norm(self, node: Node, argument: Term, epsilon: float) -> Term:
        """Each row at mean 0 and variance 1."""
        if not 0 < epsilon < np.inf:
            raise node.refusal(f"epsilon is {epsilon}")
        term = self._term(node, argument.dims, "norm")
        term.arguments = [argument]
        # float32 does not hold it exactly
        term.epsilon = NORM_EPSILON if math.isclose(epsilon, NORM_EPSILON, rel_tol=TOLERANCE) else epsilon
        return term

    def _as_norm(self, term: Term) -> Term:
        """The same as a multiple of a norm, if it is one that is written in simpler operators."""
        if not term.joins or len(term.dims) != 1 or term.dims[0] < 2 or term.node.operator not in _ENDS_OF_NORMS:
            return term
        for argument in reversed(sole_arguments(term)):
            if argument.joins or argument.dims != term.dims or argument.kind != "f":
                continue
            found = norm_of(term, argument)
            if found is not None:
                epsilon, gain, shift = found
                normal = self.norm(term.node, argument, epsilon)
                if np.all(gain == 1) and not shift.any():
                    return normal
                return self.scaled(term.node, normal, gain, shift)
        return term


# by the letter of the kind
_TYPES = {"f": np.float64, "i": np.int64, "u": np.uint64, "b": np.bool_, "O": np.object_}
# types of ONNX that a network can have
_CASTS = {1: np.float32, 11: np.float64}
# what leaves every number of a row where it is
_KEEPING = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_ENDS_OF_NORMS = ("Add", "Div", "Mul", "Sub")


def _flat(values: np.ndarray, dims: tuple[int, ...]) -> Any:
    return float(values.reshape(())) if values.size == 1 else np.broadcast_to(values, (1, *dims)).reshape(-1)


def _scaled(node: Node, arrays: list[Any], found: Term) -> tuple[Term, Any, Any] | None:
    """The term that a sum or product with constants is a multiple of."""
    terms = [each for each in arrays if isinstance(each, Term)]
    if len(terms) != 1 or len(arrays) > 2 or terms[0].dims != found.dims or terms[0].kind != "f":
        return None
    (term,) = terms
    if node.operator == "Neg":
        return term, -1.0, 0.0
    first = arrays[0] is term
    if len(arrays) == 1:
        return term, 1.0, 0.0
    constant = np.asarray(arrays[1 if first else 0], np.float64)
    if constant.size != 1 and constant.ndim > len(found.dims) and constant.shape[: -len(found.dims) or None] != (1,):
        return None
    number = _flat(constant, found.dims)
    if node.operator in ("Add", "Sum"):
        return term, 1.0, number
    if node.operator == "Sub":
        return (term, 1.0, -number) if first else (term, -1.0, number)
    if node.operator == "Mul":
        return term, number, 0.0
    # a quotient of constants by the term is no multiple of it
    return (term, 1.0 / number, 0.0) if first and np.all(number != 0) else None


def _constant(terms: Terms, node: Node) -> Constant:
    for name, value in node.attributes.items():
        if name == "value" and isinstance(value, np.ndarray):
            return Constant(value)
        if name in ("value_float", "value_floats"):
            return Constant(np.array(value, np.float32))
        if name in ("value_int", "value_ints"):
            return Constant(np.array(value, np.int64))
        if name in ("value_string", "value_strings"):
            return Constant(np.array(value, object))
    raise node.refusal("it holds no array that pymlp reads")


def _shape(terms: Terms, node: Node, x: Any) -> Constant:
    shape = x.array.shape if isinstance(x, Constant) else (ROWS, *x.dims)
    of_rows = np.zeros(len(shape), bool)
    of_rows[:1] = isinstance(x, Term)
    part = slice(node.get("start", 0), node.get("end"))
    return Constant(np.array(shape, np.int64)[part], of_rows[part])


def _dropout(terms: Terms, node: Node, x: Any, ratio: Any = None, training: Any = None) -> Any:
    if training is not None and not (isinstance(training, Constant) and not training.array.any()):
        raise node.refusal("it is in training mode: export the model for inference")
    return x


def _matrix(node: Node, weight: Any) -> np.ndarray:
    if not isinstance(weight, Constant):
        raise node.refusal("it multiplies two values that depend on the inputs")
    if weight.of_rows is not None:
        raise node.refusal("its matrix depends on how many rows there are")
    return weight.array


def _matmul(terms: Terms, node: Node, x: Any, weight: Any) -> Term:
    if isinstance(x, Constant) and isinstance(weight, Term):
        raise node.refusal("it multiplies a matrix by what depends on the inputs, and not rows of it by a matrix")
    return terms.dense(node, x, _matrix(node, weight))


def _gemm(terms: Terms, node: Node, x: Any, weight: Any, bias: Any = None) -> Term:
    if node.get("transA", 0):
        raise node.refusal("transA=1 takes columns for rows")
    matrix = _matrix(node, weight)
    matrix = matrix.T if node.get("transB", 0) else matrix
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if alpha != 1:
        # in its own type, which says that of the network
        matrix = matrix * matrix.dtype.type(alpha)
    if not isinstance(bias, Term):
        return terms.dense(node, x, matrix, 0.0 if bias is None else _matrix(node, bias) * np.float64(beta))
    product = terms.dense(node, x, matrix)
    other = bias if beta == 1 else terms.scaled(node, bias, beta, 0.0)
    return terms._apply(_renamed(node, "Add"), ELEMENTWISE["Add"], [product, other])


def _renamed(node: Node, operator: str) -> Node:
    """A node that does a part of what another does, under the other's name."""
    return Node(node.number, node.name, operator, "", node.inputs, node.outputs, node.attributes, node.opset)


def _batch_normalisation(
    terms: Terms, node: Node, x: Any, gain: Any, shift: Any, mean: Any, variance: Any
) -> Term | Constant:
    if node.get("training_mode", 0):
        raise node.refusal("it is in training mode: export the model for inference")
    if not isinstance(x, Term):
        raise node.refusal("it has constants for inputs")
    # one for each channel, which is the first axis of a row
    after = (1,) * (len(x.dims) - 1)
    gain, shift, mean, variance = (
        _matrix(node, each).astype(np.float64).reshape(-1, *after) for each in (gain, shift, mean, variance)
    )
    with np.errstate(all="ignore"):
        scale = gain / np.sqrt(variance + node.get("epsilon", 1e-5))
        return terms.scaled(node, x, scale, shift - mean * scale)


def _layer_normalisation(terms: Terms, node: Node, x: Any, gain: Any, shift: Any = None) -> Term:
    if not isinstance(x, Term) or len(x.dims) != 1 or node.get("axis", -1) not in (-1, 1):
        raise node.refusal("it must run over the columns of rows")
    normal = terms.norm(node, x, node.get("epsilon", 1e-5))
    return terms.scaled(node, normal, _matrix(node, gain), 0.0 if shift is None else _matrix(node, shift))


def _scaler(terms: Terms, node: Node, x: Any) -> Term:
    if not isinstance(x, Term):
        raise node.refusal("it has constants for inputs")
    scale, offset = (np.array(node.get(name, default), np.float64) for name, default in (("scale", 1), ("offset", 0)))
    return terms.scaled(node, x, scale, -offset * scale)


def _coefficients(node: Node, x: Any, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (inputs, outputs) and biases of a linear model of ai.onnx.ml."""
    coefficients = np.array(node.get("coefficients", ()), np.float32)
    if not outputs or len(coefficients) % outputs:
        raise node.refusal(f"it has {len(coefficients)} coefficients for {outputs} outputs")
    intercepts = np.array(node.get("intercepts") or [0.0] * outputs, np.float32)
    if len(intercepts) != outputs:
        raise node.refusal(f"it has {len(intercepts)} intercepts for {outputs} outputs")
    return coefficients.reshape(outputs, -1).T, intercepts


def _linear_regressor(terms: Terms, node: Node, x: Any) -> Term:
    if node.get("post_transform", "NONE") != "NONE":
        raise node.refusal(f"pymlp does not read post_transform={node.get('post_transform')!r}")
    return terms.dense(node, x, *_coefficients(node, x, node.get("targets", 1)))


def _linear_classifier(terms: Terms, node: Node, x: Any) -> tuple[Term, Term]:
    classes = node.get("classlabels_strings") or node.get("classlabels_ints") or []
    labels = np.array(classes, object if classes and isinstance(classes[0], str) else np.int64)
    single = len(labels) == 2 and len(node.get("intercepts") or ()) == 1
    weight, bias = _coefficients(node, x, 1 if single else len(labels))
    if len(labels) == 2 and not single and np.array_equal(weight[:, 0], -weight[:, 1]) and bias[0] == -bias[1]:
        # two columns that say the same
        weight, bias, single = weight[:, 1:], bias[1:], True
    z = terms.dense(node, x, weight, bias)
    transform = node.get("post_transform", "NONE")
    if transform not in _TRANSFORMS:
        raise node.refusal(f"pymlp does not read post_transform={transform!r}")
    function = (_PAIRED if single else _TRANSFORMS)[transform]
    scores = terms._call(_renamed(node, "LinearClassifier"), lambda node, z: function(z), [z])
    if single:
        label = terms._call(node, lambda node, z: labels[(z[:, 0] > 0).astype(np.int64)], [z])
    else:
        label = terms._call(node, lambda node, z: labels[z.argmax(axis=1)], [z])
    terms.classes[scores] = classes
    # the scores themselves, where they are what the layer gives
    return label, z if transform == "NONE" and not single else scores


_TRANSFORMS = {"NONE": lambda z: z, "LOGISTIC": logistic, "SOFTMAX": softmax}
# of a single score, for both classes
_PAIRED = {
    "NONE": lambda z: np.hstack([-z, z]),
    "LOGISTIC": lambda z: np.hstack([1 - logistic(z), logistic(z)]),
    "SOFTMAX": lambda z: softmax(np.hstack([-z, z])),
}


def _extract(terms: Terms, node: Node, x: Any, indices: Any) -> Any:
    if isinstance(x, Constant) and isinstance(indices, Term) and x.array.ndim == 1:
        # labels by their numbers: written with a first axis of 1, which is taken off behind it
        return terms._call(node, lambda node, places: x.array[places.reshape(len(places))], [indices])
    return terms._apply(node, OPERATORS[ML, "ArrayFeatureExtractor"], [x, indices])


def _zip_map(terms: Terms, node: Node, x: Any) -> Any:
    if isinstance(x, Term):
        terms.classes[x] = node.get("classlabels_strings") or node.get("classlabels_int64s") or []
    return x


_SPECIAL = {
    ("", "Constant"): _constant,
    ("", "Shape"): _shape,
    ("", "Dropout"): _dropout,
    ("", "MatMul"): _matmul,
    ("", "Gemm"): _gemm,
    ("", "BatchNormalization"): _batch_normalisation,
    ("", "LayerNormalization"): _layer_normalisation,
    (ML, "Scaler"): _scaler,
    (ML, "LinearRegressor"): _linear_regressor,
    (ML, "LinearClassifier"): _linear_classifier,
    (ML, "ArrayFeatureExtractor"): _extract,
    (ML, "ZipMap"): _zip_map,
}
