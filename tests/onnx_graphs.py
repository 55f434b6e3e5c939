"""ONNX graphs in a few lines of text, and what converted models answer: for the tests of reading them.

A line is ``y = Operator(x, 1.5, W) alpha=2, axes=[1]``: names of values, numbers of the graph's type, names of
constants; then the attributes.  Operators of ai.onnx.ml are written with a leading ``ml.``.
"""

import ast
import re

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from pymlp import Predictor
from pymlp.convert import from_onnx

# a layer in front of what a test adds, and one behind it
LINEAR = ["z = Gemm(X, W, B)"]
BEHIND = ["y = Gemm(a, V, C)"]
LINE = re.compile(r"\s*([\w, ]+?) = (ml\.)?(\w+)\((.*?)\)\s*(.*)")


def nodes_of(lines, dtype, constants):
    """The nodes of some lines; numbers in them are added to the constants."""
    nodes = []
    for number, line in enumerate(lines):
        outputs, ml, operator, inputs, attributes = LINE.fullmatch(line).groups()
        names = []
        for each in filter(None, map(str.strip, inputs.split(","))):
            if re.fullmatch(r"-?[\d.]+(e-?\d+)?", each):
                constants[each] = np.array(float(each), dtype)
            names.append("" if each == "_" else each)
        given = ast.parse(f"f({attributes})", mode="eval").body.keywords
        options = {each.arg: ast.literal_eval(each.value) for each in given}
        outputs = [each.strip() for each in outputs.split(",")]
        name = f"{operator.lower()} {number}"
        domain = "ai.onnx.ml" if ml else ""
        nodes.append(helper.make_node(operator, names, outputs, name=name, domain=domain, **options))
    return nodes


def model_of(
    lines,
    constants=None,
    *,
    inputs=None,
    outputs=("y",),
    dtype="float32",
    opset=18,
    producer="tests",
    metadata=None,
    kind=None,
):
    """A model with one input X of four columns, if nothing else is said."""
    constants = dict(constants or {})
    nodes = nodes_of(lines, dtype, constants)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) if kind is None else kind
    described = {"X": ["rows", 4]} if inputs is None else inputs
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in described.items()],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 1)],
        ir_version=8,
        producer_name=producer,
    )
    helper.set_model_props(model, metadata or {})
    return model


RANDOM = np.random.default_rng(0)
X = RANDOM.normal(scale=2, size=(30, 4))
W, B = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=3)
V, C = RANDOM.normal(size=(3, 2)), RANDOM.normal(size=2)


def constants(dtype="float32", **further):
    """The matrices of two layers, 4-3-2, and further arrays."""
    arrays = {"W": W, "B": B, "V": V, "C": C, **further}
    return {
        name: np.asarray(values, dtype if np.asarray(values).dtype.kind == "f" else None)
        for name, values in arrays.items()
    }


def written(model, folder):
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def network_of(model):
    return model if isinstance(model, tuple) else (model.network_, model.params_)


def answer_of(model, rows):
    """What a converted model answers, (rows, columns)."""
    predictor = Predictor(*model) if isinstance(model, tuple) else Predictor(model)
    return predictor(rows.astype(network_of(model)[0].dtype)).reshape(len(rows), -1)


def check(model, folder, *, rows=X, tolerance=3e-6, layers=None):
    """The converted model, which must answer what the reference implementation of ONNX does."""
    found = from_onnx(written(model, folder))
    kind = model.graph.input[0].type.tensor_type.elem_type
    given = rows.astype(helper.tensor_dtype_to_np_dtype(kind))
    names = [each.name for each in model.graph.input if each.name not in {w.name for w in model.graph.initializer}]
    feed = {names[0]: given} if len(names) == 1 else {n: given[:, i : i + 1] for i, n in enumerate(names)}
    expected = ReferenceEvaluator(model).run(None, feed)[-1]
    answer = answer_of(found, rows.reshape(len(rows), -1))
    np.testing.assert_allclose(answer, expected.reshape(answer.shape), rtol=tolerance, atol=tolerance)
    if layers is not None:
        assert [(each.outputs, each.activation) for each in network_of(found)[0].layers] == layers
    return found
