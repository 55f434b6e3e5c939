"""The operators of ONNX that a perceptron is written in, in NumPy: what they give of arrays.

`from_onnx` finds out what a piece of a graph computes by computing it, for some numbers, and comparing.  So an
activation is known by its values, in whatever operators an exporter writes it, and no list of such forms is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pymlp.convert.errors import ConversionError
from pymlp.convert.onnx_files import Node
from pymlp.functions import SELU_ALPHA, SELU_SCALE, logistic, normal_cdf, softmax, softplus

Array = np.ndarray
ML = "ai.onnx.ml"
# numbers of the types of TensorProto that are of floating point; a Cast between them changes no more than digits
FLOATS = frozenset((1, 10, 11, 16))
INTEGERS = {
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    12: "uint32",
    13: "uint64",
}


def _elementwise(function: Callable[..., Array]) -> Callable[..., Array]:
    def apply(node: Node, *arrays: Array) -> Array:
        return function(*arrays)

    return apply


def erf(x: Array) -> Array:
    """The error function."""
    return 2 * normal_cdf(np.asarray(x, np.float64) * math.sqrt(2)) - 1


def _whole_division(node: Node, a: Array, b: Array) -> Array:
    if a.dtype.kind in "iu" and b.dtype.kind in "iu":
        # towards zero, as in C
        return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))
    return a / b


def _elu(node: Node, x: Array) -> Array:
    return np.where(x > 0, x, node.get("alpha", 1.0) * np.expm1(np.minimum(x, 0)))


def _selu(node: Node, x: Array) -> Array:
    alpha, gamma = node.get("alpha", SELU_ALPHA), node.get("gamma", SELU_SCALE)
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _celu(node: Node, x: Array) -> Array:
    alpha = node.get("alpha", 1.0)
    return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _gelu(node: Node, x: Array) -> Array:
    if node.get("approximate", "none") == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x * normal_cdf(x)


def _swish(node: Node, x: Array) -> Array:
    return x * logistic(node.get("alpha", 1.0) * x)


def _hard_sigmoid(node: Node, x: Array) -> Array:
    return np.clip(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0, 1)


def _clip(node: Node, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    low = node.get("min") if low is None else low
    high = node.get("max") if high is None else high
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _folded(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def apply(node: Node, first: Array, *others: Array) -> Array:
        for other in others:
            first = function(first, other)
        return first

    return apply


def _cast(node: Node, x: Array) -> Array:
    kind = node.get("to")
    if kind in FLOATS:
        # arrays keep the digits they have
        return x if x.dtype.kind == "f" else x.astype(np.float64)
    if kind in INTEGERS and x.dtype.kind in "biuf":
        return x.astype(INTEGERS[kind])
    if kind == 8 and x.dtype.kind == "O":
        return x
    raise node.refusal(f"pymlp does not read a Cast to the type {kind} of ONNX")


def _softmax(node: Node, x: Array) -> Array:
    axis = node.get("axis", 1 if node.opset < 13 else -1)
    if axis % x.ndim != x.ndim - 1:
        raise node.refusal(f"it runs over axis {axis}, and classes are along the last one")
    return softmax(x.reshape(-1, x.shape[-1])).reshape(x.shape)


def _log_softmax(node: Node, x: Array) -> Array:
    return np.log(_softmax(node, x))


def axes_of(node: Node, given: Array | None) -> tuple[int, ...] | None:
    """The axes that an input or an attribute names, by its opset; None if neither does."""
    axes = node.get("axes") if given is None else given.reshape(-1).tolist()
    return None if axes is None else tuple(axes)


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    def apply(node: Node, x: Array, axes: Array | None = None) -> Array:
        chosen = axes_of(node, axes)
        if chosen == () or (chosen is None and node.get("noop_with_empty_axes", 0)):
            return x
        return function(x, axis=chosen, keepdims=bool(node.get("keepdims", 1)))

    return apply


def _cumulative_sum(node: Node, x: Array, axis: Array) -> Array:
    if node.get("exclusive", 0) or node.get("reverse", 0):
        raise node.refusal("pymlp reads sums from the first column on, that one included")
    return np.cumsum(x, int(axis.reshape(())))


def _argmax(node: Node, x: Array) -> Array:
    if node.get("select_last_index", 0):
        raise node.refusal("of equal values it takes the last, and pymlp the first")
    return x.argmax(axis=node.get("axis", 0), keepdims=bool(node.get("keepdims", 1)))


def _reshape(node: Node, x: Array, shape: Array) -> Array:
    sizes = shape.tolist()
    if not node.get("allowzero", 0):
        sizes = [x.shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    return x.reshape(sizes)


def _flatten(node: Node, x: Array) -> Array:
    axis = node.get("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _squeeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    return x.squeeze(axes_of(node, axes))


def _unsqueeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(x, axes_of(node, axes))


def _expand(node: Node, x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape.tolist())))


def _transpose(node: Node, x: Array) -> Array:
    return x.transpose(node.get("perm"))


def _slice(node: Node, x: Array, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Array:
    if starts is None:
        starts, ends, axes = (node.get(name) for name in ("starts", "ends", "axes"))
    starts, ends = np.asarray(starts).tolist(), np.asarray(ends).tolist()
    axes = range(len(starts)) if axes is None else np.asarray(axes).tolist()
    steps = [1] * len(starts) if steps is None else np.asarray(steps).tolist()
    places = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # what lies before the first is said by None where steps go back
        places[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(places)]


def _gather(node: Node, x: Array, indices: Array) -> Array:
    return x.take(indices, axis=node.get("axis", 0))


def _concat(node: Node, *arrays: Array) -> Array:
    return np.concatenate(arrays, axis=node.get("axis", 0))


def _split(node: Node, x: Array, sizes: Array | None = None) -> tuple[Array, ...]:
    axis, parts = node.get("axis", 0), node.get("split")
    parts = sizes.tolist() if sizes is not None else parts
    if parts is None:
        each = -(-x.shape[axis] // len(node.outputs))
        return tuple(np.split(x, range(each, x.shape[axis], each), axis))
    return tuple(np.split(x, np.cumsum(parts)[:-1], axis))


def _extract(node: Node, x: Array, indices: Array) -> Array:
    found = x[..., indices.reshape(-1)]
    return found if x.ndim > 1 else found[None, :]


def _normalise(node: Node, x: Array) -> Array:
    norms = {
        "MAX": lambda x: np.abs(x).max(axis=1, keepdims=True),
        "L1": lambda x: np.abs(x).sum(axis=1, keepdims=True),
        "L2": lambda x: np.sqrt((x * x).sum(axis=1, keepdims=True)),
    }
    size = norms[node.get("norm", "MAX")](x)
    return x / np.where(size == 0, 1, size)


def _binarise(node: Node, x: Array) -> Array:
    return (x > node.get("threshold", 0.0)).astype(np.float64)


def _constant_of_shape(node: Node, shape: Array) -> Array:
    value = node.get("value")
    fill = np.zeros(1, np.float32) if value is None else value
    return np.full(shape.tolist(), fill.reshape(-1)[0], fill.dtype)


def _layer_normalisation(node: Node, x: Array, gain: Array, shift: Array | None = None) -> Array:
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = (centred * centred).mean(axis=axes, keepdims=True)
    found = centred / np.sqrt(variance + node.get("epsilon", 1e-5)) * gain
    return found if shift is None else found + shift


# element by element: of arrays that broadcast, and of any shape
ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "And": _elementwise(np.logical_and),
    "Cast": _cast,
    "Celu": _celu,
    "Clip": _clip,
    "Cos": _elementwise(np.cos),
    "Div": _whole_division,
    "Elu": _elu,
    "Equal": _elementwise(np.equal),
    "Erf": _elementwise(erf),
    "Exp": _elementwise(np.exp),
    "Gelu": _gelu,
    "Greater": _elementwise(np.greater),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda node, x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Identity": lambda node, x: x,
    "LeakyRelu": lambda node, x: np.where(x >= 0, x, node.get("alpha", 0.01) * x),
    "Less": _elementwise(np.less),
    "LessOrEqual": _elementwise(np.less_equal),
    "Log": _elementwise(np.log),
    "Max": _folded(np.maximum),
    "Min": _folded(np.minimum),
    "Mish": lambda node, x: x * np.tanh(softplus(x)),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Not": _elementwise(np.logical_not),
    "Or": _elementwise(np.logical_or),
    "PRelu": _elementwise(lambda x, slope: np.where(x >= 0, x, slope * x)),
    "Pow": _elementwise(np.power),
    "Reciprocal": _elementwise(lambda x: 1 / x),
    "Relu": _elementwise(lambda x: np.maximum(x, 0)),
    "Selu": _selu,
    "Sigmoid": _elementwise(logistic),
    "Sign": _elementwise(np.sign),
    "Sin": _elementwise(np.sin),
    "Softplus": _elementwise(softplus),
    "Softsign": _elementwise(lambda x: x / (1 + np.abs(x))),
    "Sqrt": _elementwise(np.sqrt),
    "Sub": _elementwise(np.subtract),
    "Sum": _folded(np.add),
    "Swish": _swish,
    "Tanh": _elementwise(np.tanh),
    "ThresholdedRelu": lambda node, x: np.where(x > node.get("alpha", 1.0), x, 0),
    "Where": _elementwise(np.where),
}
# what changes places and shapes alone
STRUCTURAL: dict[str, Callable[..., Any]] = {
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
# what takes several columns together
JOINING: dict[str, Callable[..., Array]] = {
    "ArgMax": _argmax,
    "CumSum": _cumulative_sum,
    "LayerNormalization": _layer_normalisation,
    "LogSoftmax": _log_softmax,
    "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(np.mean),
    "ReduceMin": _reduce(np.min),
    "ReduceSum": _reduce(np.sum),
    "ReduceSumSquare": _reduce(lambda x, **where: (x * x).sum(**where)),
    "Softmax": _softmax,
}
# by domain and operator
OPERATORS: dict[tuple[str, str], Callable[..., Any]] = {
    **{("", name): function for name, function in {**ELEMENTWISE, **STRUCTURAL, **JOINING}.items()},
    ("", "ConstantOfShape"): _constant_of_shape,
    (ML, "ArrayFeatureExtractor"): _extract,
    (ML, "Binarizer"): _binarise,
    (ML, "FeatureVectorizer"): lambda node, *arrays: np.concatenate(arrays, axis=1),
    (ML, "Normalizer"): _normalise,
}
# what numpy raises of arguments that do not fit
MISFITS = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)


def compute(node: Node, function: Callable[..., Any], arrays: list[Any]) -> Any:
    """What an operator gives of arrays, None where an input is left out; ConversionError if they do not fit it."""
    try:
        with np.errstate(all="ignore"):
            return function(node, *arrays)
    except ConversionError:
        raise
    except MISFITS as error:
        raise node.refusal(" ".join(str(error).split())) from error
