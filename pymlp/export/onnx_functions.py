"""Activations and kinds of rows as operators of ONNX.

A function is one operator where the standard has one that onnxruntime computes in the network's type and to its last
digits; it is composed of simpler ones where there is no kernel for float64 (softplus, erf), where an attribute holds
float32 alone (the slope of LeakyRelu, the epsilon of LayerNormalization) or where the kernel cancels (Elu near 0 and
Selu, Sigmoid far from it).  Names are those of `pymlp.functions.ACTIVATIONS` and `pymlp.layers.KINDS`; the tests walk
both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pymlp.functions import (
    ERF_NEAR,
    ERFC_FAR,
    LEAKY_SLOPE,
    LEAST_DEVIATION,
    SELU_ALPHA,
    SELU_SCALE,
)
from pymlp.layers import Row

# exp(2 * 40) is a number of float32, and from 20 on mish is the identity
MISH_BOUND = 40.0
# beyond it the tail of the normal distribution is 0 in float64
GELU_BOUND = 40.0


class Graph:
    """Nodes and constants as they are added; values go by their names.

    Parameters
    ----------
    onnx : module
    dtype : {"float32", "float64"}
        Of the numbers.
    """

    def __init__(self, onnx: Any, dtype: str) -> None:
        self.onnx = onnx
        self.dtype = np.dtype(dtype)
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        # what nodes and values are called that belong to one row of the table
        self.prefix = ""

    @property
    def wide(self) -> bool:
        """Whether numbers are of float64."""
        return self.dtype == np.float64

    def node(self, operator: str, *inputs: str | float, name: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output; numbers among the inputs become constants."""
        given = [each if isinstance(each, str) else self.number(each) for each in inputs]
        label = f"{self.prefix}{operator}.{len(self.nodes)}"
        output = label if name is None else name
        self.nodes.append(self.onnx.helper.make_node(operator, given, [output], name=label, **attributes))
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        """Add an array under a name, once."""
        if name not in self.constants:
            self.constants[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def number(self, value: float) -> str:
        """Add a number of the graph's type."""
        return self.constant(f"number.{float(value)!r}", np.array(value, self.dtype))

    def integers(self, *values: int) -> str:
        """Add a list of integers."""
        return self.constant(f"integers.{'.'.join(map(str, values))}", np.array(values, np.int64))

    def cast(self, value: str, dtype: Any, **options: Any) -> str:
        """Convert to a NumPy type."""
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.node("Cast", value, to=kind, **options)


def logistic(graph: Graph, z: str) -> str:
    """1 / (1 + exp(-z)) with all digits of small values, which Sigmoid's kernels lose."""
    return graph.node("Reciprocal", graph.node("Add", graph.node("Exp", graph.node("Neg", z)), 1.0))


def _leaky_relu(graph: Graph, z: str) -> str:
    if graph.wide:
        return graph.node("Max", z, graph.node("Mul", z, LEAKY_SLOPE))
    return graph.node("LeakyRelu", z, alpha=LEAKY_SLOPE)


def _expm1_of_negative(graph: Graph, z: str) -> str:
    # of min(z, 0): exp(z) - 1 = 2 t / (1 - t) with t = tanh(z / 2), in which nothing cancels
    t = graph.node("Tanh", graph.node("Mul", graph.node("Min", z, 0.0), 0.5))
    return graph.node("Div", graph.node("Add", t, t), graph.node("Sub", 1.0, t))


def _elu(graph: Graph, z: str) -> str:
    return graph.node("Add", graph.node("Relu", z), _expm1_of_negative(graph, z))


def _selu(graph: Graph, z: str) -> str:
    above = graph.node("Mul", graph.node("Relu", z), SELU_SCALE)
    return graph.node("Add", above, graph.node("Mul", _expm1_of_negative(graph, z), SELU_SCALE * SELU_ALPHA))


def _polynomial(graph: Graph, x: str, coefficients: tuple[float, ...]) -> str:
    value = graph.node("Mul", x, coefficients[-1])
    for coefficient in reversed(coefficients[1:-1]):
        value = graph.node("Mul", graph.node("Add", value, coefficient), x)
    return graph.node("Add", value, coefficients[0])


def _gelu(graph: Graph, z: str) -> str:
    if not graph.wide:
        doubled = graph.node("Add", graph.node("Erf", graph.node("Mul", z, np.sqrt(0.5))), 1.0)
        return graph.node("Mul", graph.node("Mul", z, doubled), 0.5)
    # max(z, 0) - |z| P(Z > |z|), the tail as `pymlp.functions.normal_cdf` computes it
    size = graph.node("Min", graph.node("Abs", z), GELU_BOUND)
    x = graph.node("Mul", size, np.sqrt(0.5))
    near_x = graph.node("Min", x, 1.0)
    near = _polynomial(graph, graph.node("Mul", near_x, near_x), ERF_NEAR)
    near = graph.node("Sub", 0.5, graph.node("Mul", graph.node("Mul", near_x, near), 0.5))
    far_x = graph.node("Min", graph.node("Max", x, 1.0), 28.0)
    ratio = graph.node("Div", graph.node("Sub", far_x, 3.0), graph.node("Add", far_x, 3.0))
    far = graph.node(
        "Div", _polynomial(graph, ratio, ERFC_FAR), graph.node("Add", graph.node("Add", far_x, far_x), 1.0)
    )
    bell = graph.node("Exp", graph.node("Mul", graph.node("Mul", size, size), -0.5))
    far = graph.node("Mul", graph.node("Mul", far, bell), 0.5)
    tail = graph.node("Where", graph.node("Less", x, graph.number(1.0)), near, far)
    return graph.node("Sub", graph.node("Relu", z), graph.node("Mul", size, tail))


def _silu(graph: Graph, z: str) -> str:
    if graph.wide:
        # as a product with Sigmoid older versions of onnxruntime make an operator of it that they have in float32 alone
        return graph.node("Mul", z, logistic(graph, z))
    return graph.node("Mul", z, graph.node("Sigmoid", z))


def _mish(graph: Graph, z: str) -> str:
    # z tanh(softplus(z)) = z n / (n + 2) with n = e (e + 2) and e = exp(z)
    e = graph.node("Exp", graph.node("Min", z, MISH_BOUND))
    n = graph.node("Mul", e, graph.node("Add", e, 2.0))
    return graph.node("Mul", z, graph.node("Div", n, graph.node("Add", n, 2.0)))


def _softplus(graph: Graph, z: str) -> str:
    if not graph.wide:
        return graph.node("Softplus", z)
    # max(z, 0) + log(1 + u) with u = exp(-|z|); what 1 + u rounds off is put back to first order
    u = graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))
    above = graph.node("Add", u, 1.0)
    lost = graph.node("Div", graph.node("Sub", u, graph.node("Sub", above, 1.0)), above)
    return graph.node("Add", graph.node("Relu", z), graph.node("Add", graph.node("Log", above), lost))


def _ascending(graph: Graph, z: str, outputs: int, group: int) -> str:
    if group == 1:
        return z
    steps = graph.node("Where", _columns(graph, "first", np.arange(outputs) % group == 0), z, _softplus(graph, z))
    if group == outputs:
        return graph.node("CumSum", steps, graph.integers(1))
    apart = graph.node("Reshape", steps, graph.integers(-1, outputs // group, group))
    return graph.node("Reshape", graph.node("CumSum", apart, graph.integers(2)), graph.integers(-1, outputs))


def _mean_deviation(graph: Graph, z: str, outputs: int, group: int) -> str:
    means = _columns(graph, "means", np.arange(outputs) % 2 == 0)
    return graph.node("Where", means, z, graph.node("Add", _softplus(graph, z), LEAST_DEVIATION))


def _columns(graph: Graph, name: str, chosen: np.ndarray) -> str:
    return graph.constant(f"columns.{name}", chosen[None, :])


def _cosine(graph: Graph, z: str) -> str:
    if graph.wide:
        # older versions of onnxruntime have Sin in float64, but not Cos
        return graph.node("Sin", graph.node("Add", z, np.pi / 2))
    return graph.node("Cos", z)


# element by element: function(graph, z)
FUNCTIONS: dict[str, Callable[[Graph, str], str]] = {
    "identity": lambda graph, z: z,
    "logistic": lambda graph, z: graph.node("Sigmoid", z),
    "tanh": lambda graph, z: graph.node("Tanh", z),
    "relu": lambda graph, z: graph.node("Relu", z),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "silu": _silu,
    "mish": _mish,
    "softplus": _softplus,
    "cosine": _cosine,
    "square": lambda graph, z: graph.node("Mul", z, z),
    "exp": lambda graph, z: graph.node("Exp", z),
}
# over the columns of a row: function(graph, z, outputs, group)
ROW_FUNCTIONS: dict[str, Callable[[Graph, str, int, int], str]] = {
    "softmax": lambda graph, z, outputs, group: graph.node("Softmax", z, axis=-1),
    "ascending": _ascending,
    "mean_deviation": _mean_deviation,
}


def activated(graph: Graph, name: str, z: str, outputs: int, group: int) -> str:
    """The output layer's activation of z, (rows, outputs)."""
    if name == "logistic":
        return logistic(graph, z)
    if name in ROW_FUNCTIONS:
        return ROW_FUNCTIONS[name](graph, z, outputs, group)
    return FUNCTIONS[name](graph, z)


def _dense(graph: Graph, row: Row, parts: list[str], x: str, second: str | None) -> str:
    return graph.node("Gemm", x, *parts)


def _layer_norm(graph: Graph, row: Row, parts: list[str], x: str, second: str | None) -> str:
    if not graph.wide:
        return graph.node("LayerNormalization", x, *parts, axis=-1, epsilon=row.setting)
    centred = graph.node("Sub", x, graph.node("ReduceMean", x, axes=[1]))
    variance = graph.node("ReduceMean", graph.node("Mul", centred, centred), axes=[1])
    # by the reciprocal: written as a quotient, onnxruntime makes of it an operator that has epsilon in float32
    inverse = graph.node("Reciprocal", graph.node("Sqrt", graph.node("Add", variance, row.setting)))
    return graph.node("Add", graph.node("Mul", graph.node("Mul", centred, inverse), parts[0]), parts[1])


def _parametric(graph: Graph, row: Row, parts: list[str], x: str, second: str | None) -> str:
    away = graph.node("Sub", FUNCTIONS[row.activation](graph, x), x)
    return graph.node("Add", x, graph.node("Mul", away, parts[0]))


def _add(graph: Graph, row: Row, parts: list[str], x: str, second: str | None) -> str:
    return graph.node("Add", x, second)


# by the kind of row: function(graph, row, parts, x, second); what only trains is none of them
ROWS: dict[str, Callable[[Graph, Row, list[str], str, Any], str]] = {
    "dense": _dense,
    "layer_norm": _layer_norm,
    "parametric": _parametric,
    "add": _add,
}
