"""ONNX Runtime: a graph of Gemm and Relu nodes in a session with its default threads; it predicts only.

In one call it writes every layer's outputs of all rows to memory; a caller who cuts the rows into chunks by hand keeps
them in the cache, so bench_predict.py measures both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from pymlp import Network

# what any onnxruntime of the last years reads
OPSET = 17
IR_VERSION = 8


def _model(network: Network, params: np.ndarray) -> onnx.ModelProto:
    """The network's scores as a graph from "X" to "scores"."""
    nodes, initializers = [], []
    last = len(network.layers) - 1
    values = "X"
    for index, (weight, bias) in enumerate(zip(network.weights(params), network.biases(params), strict=True)):
        names = [f"weight{index}", f"bias{index}"]
        initializers += [
            numpy_helper.from_array(array, name) for array, name in zip((weight, bias), names, strict=True)
        ]
        output = "scores" if index == last else f"sums{index}"
        nodes.append(helper.make_node("Gemm", [values, *names], [output]))
        if index < last:
            values = f"outputs{index}"
            nodes.append(helper.make_node("Relu", [output], [values]))
    ends = [("X", network.inputs), ("scores", network.outputs)]
    given, made = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])] for name, width in ends)
    graph = helper.make_graph(nodes, "mlp", given, made, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def forward(network: Network, params: np.ndarray) -> Callable[[np.ndarray, np.ndarray], None]:
    """Scores of a session: a function of X (rows, inputs) and `out` (rows, outputs)."""
    session = onnxruntime.InferenceSession(
        _model(network, params).SerializeToString(), providers=["CPUExecutionProvider"]
    )

    def run(X: np.ndarray, out: np.ndarray) -> None:
        (out[...],) = session.run(None, {"X": X})

    return run
