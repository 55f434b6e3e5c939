"""`to_onnx`: a fitted model as an ONNX file for onnxruntime and other runtimes.

Inputs and outputs follow the conventions of scikit-learn's exporter, skl2onnx, so that a program written for its files
takes these: ``X`` in; ``label`` and ``probabilities`` out, or ``variable``.  The graph needs the standard operators of
one opset alone, so that old runtimes read it too; what the format has no place for (names of inputs, what the network
is trained for) stands in its metadata, where `pymlp.convert.from_onnx` finds it.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import numpy as np

import pymlp
from pymlp.export.onnx_functions import FUNCTIONS, ROWS, Graph, activated
from pymlp.layers import KINDS
from pymlp.model_state import plain
from pymlp.network import Network
from pymlp.portable import PortableModel, portable
from pymlp.replacement import check_replaceable, replacing

# of the standard operators, and the version of the file format that came with it
OPSET, IR_VERSION = 17, 8
# what a protocol buffer can hold
MOST_BYTES = (1 << 31) - 1
# halves of characters, which are no text in UTF-8
_SURROGATES = re.compile(r"[\ud800-\udfff]")
# the name of the task of a model that is a network and no estimator
BARE_NETWORK = "network"


def to_onnx(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted model as an ONNX file, which replaces an old one in one step.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor, a classic classifier of this package, or (Network, ndarray)
    path : str or path-like

    Raises
    ------
    ModuleNotFoundError
        The package onnx is missing; the message has the command that installs it.
    TypeError
        `model` is nothing of this package that predicts.
    ValueError
        The classes are neither strings nor whole numbers of 64 bits, or the model has more than 2 GiB, the most that
        an ONNX file without further files can hold.
    sklearn.exceptions.NotFittedError
        The estimator has not been fitted.
    OSError
        The file cannot be written; the old one is untouched.

    Notes
    -----
    The file has one input, ``X`` of shape (rows, inputs) in the type of the network, any number of rows.  Its outputs:

    label
        Of a classifier: strings or int64, (rows,); of a classifier of label matrices int64, (rows, labels).
    probabilities
        Of a classifier: what `predict_proba` gives, (rows, classes) or (rows, labels).
    scores
        In place of the probabilities, where the loss has none ("hinge"): what `decision_function` gives, with an axis
        for columns if there is only one.
    variable
        Of a regressor or a network: what a `Predictor` gives, with an axis for columns if there is only one; the levels
        of `Quantile`, or mean and deviation of `GaussianNLL`, of a target side by side.

    Operators are those of opset 17 without any extension; onnxruntime 1.19 and 1.32 were tried.  What they compute in
    float32 alone is composed, for float64, of what they do not.  Answers agree to some units in the last place of the
    largest: to 1e-6 in float32 and 1e-12 in float64, the cosine of large numbers excepted.

    Metadata: ``pymlp_version``, ``task`` (of `pymlp.portable.TASKS`, or "network"), ``network`` (JSON of
    `Network.description`), ``classes`` and ``classes_dtype``, ``feature_names`` (JSON lists).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> import pymlp
    >>> X, y = load_iris(return_X_y=True)
    >>> model = pymlp.MLPClassifier(solver="lbfgs", random_state=0).fit(X, y)
    >>> pymlp.export.to_onnx(model, "iris.onnx")  # doctest: +SKIP
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pymlp.export.to_onnx needs the package onnx; run: pip install 'pymlp[onnx]'", name="onnx"
        ) from error
    found = portable(model)
    check_replaceable(path)
    # parameters come once more for the graph and once more for the bytes, so this is seen first
    if found.params.nbytes > MOST_BYTES:
        raise ValueError(_too_large(found.params.nbytes))
    content = _model(onnx, found, bare=isinstance(model, (tuple, Network)))
    size = content.ByteSize()
    if size > MOST_BYTES:
        raise ValueError(_too_large(size))
    with replacing(path) as stream:
        stream.write(content.SerializeToString(deterministic=True))


def _too_large(size: int) -> str:
    return f"the model takes {size:,} bytes, and an ONNX file holds at most {MOST_BYTES:,}"


def _model(onnx: Any, found: PortableModel, *, bare: bool) -> Any:
    """The protocol buffer."""
    network = found.network
    # labels that cannot be had are seen before the work
    labels = None if found.classes is None else exported_labels(found.classes)
    graph = Graph(onnx, network.dtype)
    outputs = _answers(graph, found, _outputs(graph, found), labels)
    helper, kind = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(graph.dtype)
    described = [
        helper.make_tensor_value_info(name, kind if dtype is None else dtype, ["rows", *columns])
        for name, dtype, columns in outputs
    ]
    X = helper.make_tensor_value_info("X", kind, ["rows", network.inputs])
    content = helper.make_graph(graph.nodes, "pymlp", [X], described, list(graph.constants.values()))
    model = helper.make_model(
        content,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="pymlp",
        producer_version=pymlp.__version__,
    )
    helper.set_model_props(model, _metadata(found, bare=bare))
    return model


def _metadata(found: PortableModel, *, bare: bool) -> dict[str, str]:
    metadata = {
        "pymlp_version": pymlp.__version__,
        "task": BARE_NETWORK if bare else found.task,
        "network": json.dumps(found.network.description, allow_nan=False),
    }
    if found.classes is not None:
        metadata["classes"] = json.dumps(plain(found.classes), allow_nan=False)
        metadata["classes_dtype"] = found.classes.dtype.str
    if found.feature_names is not None:
        metadata["feature_names"] = json.dumps(found.feature_names)
    return metadata


def exported_labels(classes: np.ndarray) -> np.ndarray:
    """Labels as ONNX can hold them: strings (as objects) or int64; ValueError if they are neither."""
    values = plain(classes)
    if all(isinstance(value, str) and not _SURROGATES.search(value) for value in values):
        return np.array(values, object)
    if all(isinstance(value, (bool, int)) or (isinstance(value, float) and value.is_integer()) for value in values):
        try:
            return np.array([int(value) for value in values], np.int64)
        except OverflowError:
            # said below
            pass
    raise ValueError(f"classes must be strings or whole numbers of 64 bits for ONNX, got {classes!r}")


def _outputs(graph: Graph, found: PortableModel) -> str:
    """The network's outputs (rows, outputs), scaled; the last node is still without a name of its own."""
    network = found.network
    values = ["X"]
    if found.input_threshold is not None:
        values[0] = graph.cast(graph.node("Greater", "X", found.input_threshold), graph.dtype)
    views = network.parts(found.params)
    for row, arrays in zip(network.table, views, strict=True):
        if KINDS[row.kind].trains_only:
            # in its buffer stands what it read
            values.append(values[row.source])
            continue
        graph.prefix = f"layers.{row.layer}."
        parts = [
            graph.constant(f"{graph.prefix}{part.name}", array) for part, array in zip(row.parts, arrays, strict=True)
        ]
        second = None if row.second < 0 else values[row.second]
        z = ROWS[row.kind](graph, row, parts, values[row.source], second)
        if KINDS[row.kind].activates:
            if row is network.table[-1]:
                z = activated(graph, row.activation, z, network.outputs, network.loss_function.group)
            else:
                z = FUNCTIONS[row.activation](graph, z)
        values.append(z)
    graph.prefix = ""
    outputs = values[-1]
    if found.output_scale is not None:
        scale, shift = (graph.constant(name, array) for name, array in zip(SCALING, found.output_scale, strict=True))
        outputs = graph.node("Add", graph.node("Mul", outputs, scale), shift)
    return outputs


SCALING = ("outputs.scale", "outputs.shift")


def _answers(
    graph: Graph, found: PortableModel, outputs: str, labels: np.ndarray | None
) -> list[tuple[str, Any, list[int]]]:
    """Name, type (None for the network's) and columns of each output of the graph."""
    columns = found.network.outputs
    if labels is None:
        return [(graph.node("Identity", outputs, name="variable"), None, [columns])]
    int64 = graph.onnx.TensorProto.INT64
    if found.with_complement:
        answer, columns = (
            graph.node("Concat", graph.node("Sub", 1.0, outputs), outputs, axis=1, name="probabilities"),
            2,
        )
    else:
        name = "probabilities" if found.gives_probabilities else "scores"
        answer = graph.node("Identity", outputs, name=name)
    described = (answer, None, [columns])
    if found.task == "multilabel-indicator":
        label = graph.cast(graph.node("Greater", outputs, found.threshold), np.int64, name="label")
        return [(label, int64, [columns]), described]
    if found.task == "multiclass":
        position = graph.node("ArgMax", outputs, axis=1, keepdims=0)
    else:
        above = graph.cast(graph.node("Greater", outputs, found.threshold), np.int64)
        position = graph.node("Squeeze", above, graph.integers(1))
        if len(labels) == 1:
            # with a single class there is nothing to decide
            labels = labels.repeat(2)
    label = graph.node("Gather", graph.constant("classes", labels), position, name="label")
    kind = graph.onnx.TensorProto.STRING if labels.dtype == object else int64
    return [(label, kind, []), described]
