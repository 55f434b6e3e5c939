"""`from_onnx`: a model of an ONNX file as an estimator or a network of this package.

The graph says what is computed; the metadata that `pymlp.export.to_onnx` leaves say the rest, such as the loss, as far
as they fit the graph.  See `pymlp.convert.onnx_nodes` and `pymlp.convert.onnx_layers` for how it is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pymlp.container import parse_json, shown
from pymlp.convert.chains import TASK_LOSSES, Chain
from pymlp.convert.errors import ConversionError
from pymlp.convert.onnx_files import GraphFile, read_graph
from pymlp.convert.onnx_layers import (
    Layer,
    arguments_of_output,
    close,
    identity_layer,
    layer_of,
    read_layers,
)
from pymlp.convert.onnx_nodes import Terms
from pymlp.convert.onnx_terms import ROWS, Term, evaluate, place_of, sole_arguments
from pymlp.functions import ACTIVATIONS, PROBABILITIES, logistic, softmax
from pymlp.layers import NORM_EPSILON, Dense
from pymlp.losses import CustomLoss
from pymlp.model_state import labels_of
from pymlp.network import Network
from pymlp.portable import TASKS

# what classes are trained for from here on if the graph has scores of them that are no probabilities
SCORES_LOSS = "hinge"
# of the activations over the columns of a row, whose losses no other activation has
ROW_LOSSES = {"mean_deviation": "gaussian_nll"}
# names that scikit-learn's exporter gives to what a regressor predicts
REGRESSORS = {"skl2onnx": "variable"}


@dataclass(frozen=True, eq=False)
class Head:
    """The end of a graph.

    Parameters
    ----------
    activation : str
        Of the output layer.
    group : int
        Columns that belong together in it.
    layer : Layer
        The output layer.
    source : Term
        What it reads.
    argument : Term
        What the activation is applied to.
    paired : bool
        Whether the graph gives the complement of a single probability beside it.
    scale : pair of ndarray, optional
        What the outputs are multiplied by, and what then is added.
    """

    activation: str
    layer: Layer
    source: Term
    argument: Term
    group: int = 1
    paired: bool = False
    scale: tuple[np.ndarray, np.ndarray] | None = None


def from_onnx(
    path: str | os.PathLike[str],
    *,
    task: str | None = None,
    classes: Any = None,
    loss: Any = None,
    dtype: str | None = None,
    feature_names: Sequence[str] | None = None,
) -> Any:
    """Read a multilayer perceptron from an ONNX file, whoever wrote it; the result can be trained further.

    Parameters
    ----------
    path : str or path-like
        Arrays in files of their own are read from the file's folder.  Nothing in a file is executed.
    task : {"binary", "multiclass", "multilabel-indicator", "numbers"}, optional
        What the outputs mean, where the file does not say, or otherwise than it says.
    classes : sequence of labels, optional
        The label of each output, in their order; of a single output that of low values and that of high ones.
    loss : str or object of `pymlp.losses`, optional
        What to train for from here on; by default what the metadata of `pymlp.export.to_onnx` say, or the usual one of
        the task or of the last activation, or "hinge" for labels by scores that are no probabilities.
    dtype : {"float32", "float64"}, optional
        By default float64 if one of the matrices has it, else float32.
    feature_names : sequence of str, optional
        Of an estimator.

    Returns
    -------
    MLPClassifier, MLPRegressor or (Network, ndarray)
        A classifier if the graph ends in probabilities (Softmax, LogSoftmax, Sigmoid) or gives labels, with these
        labels, else 0, 1, ...; a regressor if it says so (LinearRegressor, the output ``variable`` of skl2onnx, the
        metadata of pymlp); else the network and its parameters.

        The answers are those of the graph, but that scores of classes get probabilities if `task`, `classes` or `loss`
        ask for them: a PyTorch model that ends in a Linear becomes a classifier by ``classes=[...]``.

    Raises
    ------
    ConversionError
        A ValueError: it is not an ONNX file, or has something that no perceptron of this package has, or the arguments
        do not fit it; the message names the node and its operator.
    ModuleNotFoundError
        The package onnx is missing; the message has the command that installs it.
    OSError
        The file cannot be read.

    Notes
    -----
    What is read: products with matrices (Gemm, MatMul, LinearClassifier, LinearRegressor) and what is added to them;
    all activations of the registry, in whatever operators they are written, PRelu and LeakyRelu of any slope (as
    parametric relu); BatchNormalization, Scaler and other multiples and sums with constants, folded into the layer that
    they are next to; LayerNormalization, as an operator or composed; sums of the inputs and outputs of a layer; choices
    of input columns; Softmax, Sigmoid and the labels that scikit-learn's exporter writes.

    Numbers of half precision become float32.  Two columns of a softmax become the one of a binary classifier.  The
    log-probabilities of a LogSoftmax are what `predict_log_proba` gives.

    Examples
    --------
    >>> from pymlp.convert import from_onnx
    >>> model = from_onnx("iris.onnx")  # doctest: +SKIP
    """
    try:
        return _model(read_graph(path), Asked(task, classes, loss, dtype, feature_names))
    except ConversionError as error:
        raise ConversionError(f"{os.fspath(path)}: {error}") from error


@dataclass(frozen=True, eq=False)
class Asked:
    """The arguments of `from_onnx`."""

    task: str | None
    classes: Any
    loss: Any
    dtype: str | None
    feature_names: Sequence[str] | None


def _model(graph: GraphFile, asked: Asked) -> Any:
    terms = Terms(graph)
    if not terms.products:
        raise ConversionError("it multiplies by no matrix, so it is no perceptron")
    out, label = _ends(graph, terms)
    head = _head(out, labelled=label is not None)
    layers = read_layers(head.layer, head.source)
    told = _told_network(graph, layers, head)
    if asked.task is not None or asked.classes is not None:
        # whoever says what the labels are says what they are the labels of
        task, classes = asked.task or _task_of(head), asked.classes
    else:
        task, classes = _said(graph, terms, out, label, head)
        if told is not None:
            task = graph.metadata["task"] if graph.metadata.get("task") in TASKS else None
            classes = _told_labels(graph, classes)
    loss, dtype = asked.loss, asked.dtype
    if loss is None:
        loss = told.loss if told is not None and _suits(told, task) else _usual_loss(task, label, head)
    if dtype is None:
        dtype = "float64" if any(each.weight.dtype == np.float64 for each in terms.products) else "float32"
    if loss == SCORES_LOSS and task == "binary" and head.argument.width == 2:
        _join_scores(layers[-1])
    network, params = _chain(layers, head).network(loss, dtype)
    if told is not None:
        network = _as_told(network, told)
    elif task is None and network.output_activation in PROBABILITIES:
        # the loss has put them behind the scores
        task = _task_of(replace(head, activation=network.output_activation))
    if task is None and head.scale is not None:
        # which a network has no place for
        task = "numbers"
    if task is None:
        return network, params
    # a network alone needs no scikit-learn
    from pymlp.convert.estimators import fitted_estimator

    names = _feature_names(graph, network) if asked.feature_names is None else asked.feature_names
    return fitted_estimator(network, params, task=task, classes=classes, feature_names=names, output_scale=head.scale)


def _said(
    graph: GraphFile, terms: Terms, out: Term, label: Term | None, head: Head
) -> tuple[str | None, np.ndarray | None]:
    """Task and labels, as the graph has them; None where it is silent."""
    if label is not None:
        return _labels(label, head)
    if head.activation in PROBABILITIES:
        task, given = _task_of(head), terms.classes.get(out)
        return task, np.array(given) if given and task != "multilabel-indicator" else None
    return "numbers" if _is_regressor(graph) else None, None


def _task_of(head: Head) -> str:
    """What the outputs are, if they are classes."""
    columns = head.argument.width
    if columns > 1 and head.activation == "logistic":
        return "multilabel-indicator"
    return "binary" if columns <= 2 else "multiclass"


def _usual_loss(task: str | None, label: Term | None, head: Head) -> Any:
    """What to train for where nothing says it; None where the last activation does."""
    if head.activation in ROW_LOSSES:
        return ROW_LOSSES[head.activation]
    if head.activation == "ascending":
        raise ConversionError(
            f"the graph ends in quantiles, {head.group} for each target, but says not which: give "
            "loss=pymlp.Quantile([...])"
        )
    if label is not None and head.activation == "identity" and task != "numbers":
        return SCORES_LOSS
    if task == "numbers" and head.activation in PROBABILITIES:
        return "squared_error"
    if task == "binary":
        return "binary_log_loss" if head.argument.width == 1 else "log_loss"
    return TASK_LOSSES.get(task)


def _chain(layers: Sequence[Layer], head: Head) -> Chain:
    """The layers as `pymlp.convert` has them of all libraries."""
    chain = Chain()
    for layer in layers:
        chain.dense(layer.where, layer.weight, layer.bias)
        if layer.gain is not None:
            chain.normalise(layer.where, layer.gain, layer.shift, NORM_EPSILON)
        if layer.mixture is None:
            chain.activate(layer.where, layer.activation)
        else:
            chain.activate_partly(layer.where, layer.activation, layer.mixture)
        if layer.residual:
            chain.add_inputs(layer.where, len(chain.layers) - 1)
    chain.activate(layers[-1].where, head.activation)
    return chain


def _suits(told: Network, task: str | None) -> bool:
    """Whether the loss of a network is for the task."""
    known = told.loss_function
    if task is None or isinstance(known, CustomLoss):
        return True
    from pymlp.targets import NUMBER_LOSSES

    return (task == "numbers") == (known.name in NUMBER_LOSSES)


def _as_told(network: Network, told: Network) -> Network:
    """A network with what the metadata say of it beside its structure, such as dropout."""
    if len(network.layers) != len(told.layers):
        # a loss that was asked for has put a layer behind them
        return network
    last = replace(told.layers[-1], activation=network.output_activation)
    return replace(told, layers=(*told.layers[:-1], last), loss=network.loss, dtype=network.dtype)


def _structure(inputs: int, layers: Sequence[Dense]) -> list[Any]:
    """What a graph shows of a network, but for the last activation."""
    *hidden, last = layers
    names = ("outputs", "activation", "normalization", "residual", "parametric")
    return [inputs, *(tuple(getattr(layer, name) for name in names) for layer in hidden), last.outputs]


def _ends(graph: GraphFile, terms: Terms) -> tuple[Term, Term | None]:
    """The output with numbers, and the one with labels."""
    numbers: dict[Term, str] = {}
    labels: dict[Term, str] = {}
    for name in graph.outputs:
        found = terms.value(name)
        if not isinstance(found, Term):
            raise ConversionError(f"the output {shown(name)} does not depend on the inputs")
        (numbers if found.kind == "f" else labels).setdefault(found, name)
    for kind, found in (("numbers", numbers), ("labels", labels)):
        if len(found) > 1:
            listed = ", ".join(map(shown, found.values()))
            raise ConversionError(f"it has several outputs with {kind}: {listed}; pymlp's networks have one")
    label = next(iter(labels), None)
    if numbers:
        return next(iter(numbers)), label
    # what the labels are told by
    scores = [each for each in sole_arguments(label) if each.kind == "f" and len(each.dims) == 1]
    # zeros and ones that are written as numbers
    scores = [each for each in scores if each.leaf or each.node.operator != "Binarizer"]
    if not scores:
        raise place_of(label).refusal("pymlp cannot tell what the labels follow from")
    return scores[-1], label


# by name of the output activation: the columns of the argument are those of the output, but for the complement
def _output_functions(columns: int) -> list[tuple[str, int, bool, Callable[[np.ndarray], np.ndarray]]]:
    """Activation, group, whether paired, and what it computes of an argument of so many columns."""
    found: list[tuple[str, int, bool, Callable[[np.ndarray], np.ndarray]]] = [
        ("identity", 1, False, lambda z: z),
        ("softmax", 1, False, softmax),
        ("softmax", 1, False, lambda z: np.log(softmax(z))),
        ("logistic", 1, False, logistic),
        ("exp", 1, False, np.exp),
    ]
    if columns == 1:
        found.append(("logistic", 1, True, lambda z: np.hstack([1 - logistic(z), logistic(z)])))
        # a softmax of one score and its negative
        found.append(("identity", 1, True, lambda z: np.hstack([-z, z])))
    if columns % 2 == 0:
        found.append(("mean_deviation", 2, False, lambda z: ACTIVATIONS["mean_deviation"].apply(z, 2)))
    for group in range(2, columns + 1):
        if columns % group == 0:
            found.append(("ascending", group, False, lambda z, group=group: ACTIVATIONS["ascending"].apply(z, group)))
    return found


# activations whose outputs may be scaled: what they predict is numbers in other units
SCALABLE = ("ascending", "mean_deviation")


def _head(out: Term, *, labelled: bool) -> Head:
    """The output layer, and the activation behind it."""
    if len(out.dims) != 1:
        raise place_of(out).refusal(f"the outputs of a row have the shape {list(out.dims)}, and not one axis")
    *_, (base, _, _) = out.scalings()
    if base.leaf == "dense":
        layer, source = layer_of(out)
        return Head("identity", layer, source, out)
    random = np.random.default_rng(0)
    for term, argument, scale, shift in arguments_of_output(out):
        z = random.normal(scale=3, size=(ROWS, argument.width))
        found = evaluate(term, {argument: z})
        for name, group, paired, function in _output_functions(argument.width):
            if found.shape[1] != argument.width * (2 if paired else 1):
                continue
            if paired and name == "identity" and not labelled:
                # nothing says that the two scores are those of two classes
                continue
            is_scaled = not (np.all(scale == 1) and np.all(shift == 0))
            if (is_scaled and name not in SCALABLE) or not close(found, function(z), np.zeros_like(found)):
                continue
            layer, source = layer_of(argument)
            if layer.gain is not None:
                layer, source = identity_layer(argument), argument
            scaled = tuple(np.broadcast_to(each, out.dims) for each in (scale, shift)) if is_scaled else None
            return Head(name, layer, source, argument, group, paired, scaled)
    # a hidden layer at the end: handed on by an output layer that does nothing
    return Head("identity", identity_layer(out), out, out)


def _join_scores(layer: Layer) -> None:
    """Put the difference of two columns, whose sign decides, in their place."""
    weight, bias = layer.weight.astype(np.float64), layer.bias
    layer.weight, layer.bias = weight[:, 1:] - weight[:, :1], bias[1:] - bias[:1]


def _labels(label: Term, head: Head) -> tuple[str, np.ndarray | None]:
    """What kind of labels there are, and which in the order of the columns; None for a label matrix.

    They are found by asking for the label of some scores of which each class has the largest.
    """
    columns = head.argument.width
    random = np.random.default_rng(0)
    if columns > 1 and label.dims == (columns,) and head.activation in ("identity", "logistic"):
        decisions, z = _ask(label, head, random.normal(size=(ROWS, columns)))
        if not np.array_equal(decisions, z > 0):
            raise place_of(label).refusal("its labels are not those that are more probable than not")
        return "multilabel-indicator", None
    if label.width != 1 or (columns > 1 and head.activation not in ("identity", "softmax")):
        raise place_of(label).refusal(
            f"it gives {label.width} labels a row, which do not follow from {columns} columns with {head.activation!r}"
        )
    found: dict[int, Any] = {}
    for first in range(0, columns, ROWS):
        z = random.normal(size=(ROWS, columns))
        if columns > 1:
            rows = np.arange(min(ROWS, columns - first))
            z[rows, first + rows] += 10
        asked, z = _ask(label, head, z)
        decisions = z.argmax(axis=1) if columns > 1 else (z[:, 0] > 0).astype(np.int64)
        for place, value in zip(decisions.tolist(), asked.reshape(-1).tolist(), strict=True):
            if found.setdefault(place, value) != value:
                raise place_of(label).refusal("its labels are not those of the largest score of a row")
    values = [found[place] for place in sorted(found)]
    if columns == 1 and len(set(values)) == 1:
        # a classifier that has seen a single class
        values = values[:1]
    return "binary" if columns <= 2 else "multiclass", np.array(values)


def _ask(label: Term, head: Head, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels for scores, and the scores, where the argument of the output activation can be set to them."""
    *_, (base, scale, shift) = head.argument.scalings()
    if not base.leaf or base.dims != head.argument.dims:
        base, scale, shift = head.argument, 1.0, 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        given = np.where(np.asarray(scale) == 0, 0.0, (z - shift) / scale)
    return evaluate(label, {base: given}), given * scale + shift


def _told_network(graph: GraphFile, layers: Sequence[Layer], head: Head) -> Network | None:
    """The network that the metadata describe; None if they have outlived a change of the graph."""
    text = graph.metadata.get("network")
    if graph.producer != "pymlp" or text is None:
        return None
    try:
        told = Network.from_description(parse_json("the metadata network", text))
    except ValueError as error:
        raise ConversionError(f"its metadata describe no network: {error}") from error
    found = _chain(layers, head).layers
    if _structure(told.inputs, told.layers) != _structure(len(found[0].weight), [layer.dense for layer in found]):
        return None
    # groups are told apart where there are some; of a group of one the activation leaves no trace
    activation, group = told.output_activation, told.loss_function.group
    ends = {(activation, group if head.group > 1 else 1)}
    if activation == "ascending" and group == 1:
        ends.add(("identity", 1))
    return told if (head.activation, head.group) in ends else None


def _feature_names(graph: GraphFile, network: Network) -> list[str] | None:
    text = graph.metadata.get("feature_names") if graph.producer == "pymlp" else None
    if text is not None:
        names = _told_list("feature_names", text)
        if len(names) == network.inputs and all(isinstance(name, str) for name in names):
            return names
    if len(graph.inputs) == network.inputs > 1:
        # one input for each column, as for a data frame
        return list(graph.inputs)
    return None


def _told_list(name: str, text: str) -> list[Any]:
    try:
        found = parse_json(f"the metadata {name}", f'{{"values": {text}}}')["values"]
    except ValueError as error:
        raise ConversionError(str(error)) from error
    if not isinstance(found, list):
        raise ConversionError(f"its metadata {name} is not a list")
    return found


def _is_regressor(graph: GraphFile) -> bool:
    if REGRESSORS.get(graph.producer) in graph.outputs:
        return True
    return any(node.operator == "LinearRegressor" for node in graph.nodes)


def _told_labels(graph: GraphFile, labels: np.ndarray | None) -> Any:
    """The labels in the type that they had when they were exported."""
    metadata: Mapping[str, str] = graph.metadata
    if labels is None or graph.producer != "pymlp" or not {"classes", "classes_dtype"} <= set(metadata):
        return labels
    values = _told_list("classes", metadata["classes"])
    try:
        told = labels_of({"dtype": metadata["classes_dtype"], "values": values})
    except ValueError as error:
        raise ConversionError(f"its metadata have no labels: {error}") from error
    # they are the labels of the graph, or they are not these classes
    return told if told.tolist() == labels.tolist() else labels
