"""A fitted estimator around a network from elsewhere.

It is made as that of a model file is, by the estimator's own way back from what describes it, so that it can whatever a
model that was loaded can: predict, train on, be saved, pickled and cloned.  Its records are those of a model that has
run no epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import pymlp
from pymlp.convert.errors import ConversionError
from pymlp.finiteness import first_non_finite
from pymlp.layers import Dense
from pymlp.losses import CustomLoss, Loss, loss_description, loss_of
from pymlp.model_state import HISTORIES, plain
from pymlp.network import Network
from pymlp.portable import TASKS
from pymlp.targets import BINARY_FORMS, ClassTargets

# the form of a loss that an estimator is asked for, by that for single columns
_ASKED = {binary: form for form, binary in BINARY_FORMS.items()}


def fitted_estimator(
    network: Network,
    params: np.ndarray,
    *,
    task: str,
    classes: Any = None,
    feature_names: Sequence[str] | None = None,
    sparse_labels: bool = False,
    output_scale: tuple[np.ndarray, np.ndarray] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Any:
    """Make a fitted estimator that predicts with a network, and goes on training it.

    Parameters
    ----------
    network : Network
        Its loss is the estimator's, and its output activation the one of that loss.
    params : ndarray of shape (network.n_parameters,)
        Copied.
    task : {"binary", "multiclass", "multilabel-indicator", "numbers"}
        What the outputs mean: two classes, in one column or in two with a softmax; a column for each class; one for
        each label; or numbers.
    classes : array-like of shape (classes,), optional
        The label of each output, in their order; of a single output the label of low values and that of high ones (or
        a single label).  Estimators have labels in ascending order: outputs in another are put into it.  By default 0,
        1, ..., which are the only ones a label matrix has.
    feature_names : sequence of str, optional
        Names of the inputs.
    sparse_labels : bool, default=False
        Whether label matrices are predicted in sparse form.
    output_scale : pair of array-like of shape (outputs,), optional
        What the outputs of a regressor must be multiplied by, and what then added, to be in the units of the target:
        that of `pymlp.portable.PortableModel`.  The estimator then has ``standardize_target=True``.
    parameters : mapping, optional
        Further parameters of the estimator, such as ``solver`` or ``max_iter``; those that the network decides
        (``hidden_layer_sizes``, ``activation``, ``loss``, ``alpha``, ...) are read from it.

    Returns
    -------
    MLPClassifier or MLPRegressor
        A clone of it, fitted, has a network of the same layers, loss and dtype.  ``n_iter_`` and ``t_`` are 0, its
        curves are empty, and it has no ``loss_``.

    Raises
    ------
    ConversionError
        A ValueError: no estimator has such a network, params, classes or names do not fit it, or a number of params is
        not finite.

    Examples
    --------
    >>> from pymlp import Network
    >>> from pymlp.convert import fitted_estimator
    >>> network = Network.from_widths((2, 3, 1), loss="binary_log_loss")
    >>> model = fitted_estimator(network, network.initial_params(0), task="binary", classes=["no", "yes"])
    >>> model.predict_proba([[0.0, 0.0]]).shape
    (1, 2)
    """
    if task not in TASKS:
        raise ConversionError(f"task={task!r} is not one of {', '.join(TASKS)}")
    try:
        network.check_params(params)
    except ValueError as error:
        raise ConversionError(str(error)) from error
    for name, values in network.views(params).items():
        place = first_non_finite(values)
        if place is not None:
            raise ConversionError(f"{name} holds {place[2]} in row {place[0]}, column {place[1]} (counted from 0)")
    last = len(network.layers) - 1
    if network.layers[last].max_norm is not None:
        raise ConversionError(f"layers[{last}], the output layer, has a max_norm, which no estimator's has")
    # the classic classifiers have an output for each of two classes too
    task = "binary" if task == "multiclass" and network.outputs == 2 else task
    network, params = _with_one_output(network, params) if task == "binary" else (network, params.copy())
    found = {**_described(network), **(parameters or {})}
    metadata: dict[str, Any] = {
        "parameters": found,
        "features": None if feature_names is None else [str(name) for name in feature_names],
        "fitted": {
            "n_iter_": 0,
            "t_": 0,
            "loss_curve_": [],
            "best_loss_": None,
            "history_": {name: [] for name in HISTORIES},
            "validation_scores_": None,
            "best_validation_score_": None,
        },
    }
    if task == "numbers":
        if classes is not None:
            raise ConversionError("classes are given, but task='numbers' has none")
        kind = pymlp.MLPRegressor
        found["loss"] = loss_description(network.loss)
        if output_scale is not None:
            scale, shift = (np.asarray(each, np.float64).tolist() for each in output_scale)
            metadata["standardisation"] = {"inputs": None, "target": [shift, scale]}
            found["standardize_target"] = True
    else:
        if output_scale is not None:
            raise ConversionError(f"output_scale is given, but task={task!r} has no numbers to scale")
        kind = pymlp.MLPClassifier
        labels, order = _labels(network, task, classes)
        if order is not None:
            _reorder(network, params, order)
        asked = _asked(network.loss)
        network = _as_asked(network, ClassTargets(task, labels).loss(asked))
        found["loss"] = loss_description(asked)
        metadata["classes"] = {
            "kind": task,
            "dtype": labels.dtype.str,
            "values": plain(labels),
            "sparse_labels": bool(sparse_labels),
        }
    metadata["class"] = kind.__name__
    try:
        model = kind._from_model_state(network, params, metadata)
    except ValueError as error:
        raise ConversionError(f"no {kind.__name__} has this network for task={task!r}: {error}") from error
    if isinstance(network.loss_function, CustomLoss):
        # the function itself, which a description has not
        model.loss = network.loss
    return model


def _with_one_output(network: Network, params: np.ndarray) -> tuple[Network, np.ndarray]:
    """The network with the difference of two outputs with a softmax in their place; a copy of the parameters."""
    form = BINARY_FORMS.get(type(network.loss_function))
    if network.outputs != 2 or form is None:
        return network, params.copy()
    loss = _by_name(form(**network.loss_function.get_params()))
    layers = (*network.layers[:-1], Dense(1, loss_of(loss).output_activation))
    single = replace(network, layers=layers, loss=loss)
    found = np.empty(single.n_parameters, params.dtype)
    # only the last layer differs, which lies at the end
    start = single.layout[-1].weight.start
    found[:start] = params[:start]
    for view, pair in zip(
        (single.weights(found)[-1], single.biases(found)[-1]),
        (network.weights(params)[-1], network.biases(params)[-1]),
        strict=True,
    ):
        view[...] = pair[..., 1:] - pair[..., :1]
    return single, found


def _described(network: Network) -> dict[str, Any]:
    """The parameters by which an estimator gets the same network."""
    hidden = network.layers[:-1]
    names = tuple(layer.activation for layer in hidden)
    alpha = network.l1 + network.l2
    return {
        "hidden_layer_sizes": tuple(
            layer.outputs if layer == Dense(layer.outputs, layer.activation) else plain(layer) for layer in hidden
        ),
        # without hidden layers the default, which then counts for nothing
        "activation": names if len(set(names)) > 1 else "".join(set(names)) or "relu",
        "alpha": alpha,
        "l1_ratio": network.l1 / alpha if alpha else 0.0,
        "input_dropout": network.input_dropout,
        "dtype": network.dtype,
    }


def _by_name(loss: Loss) -> Any:
    """The loss, or its name where that says it all."""
    return loss.name if loss == loss_of(loss.name) else loss


def _asked(loss: Any) -> Any:
    """What a classifier has to be asked for to get a loss."""
    found = loss_of(loss)
    if type(found) not in _ASKED:
        return loss
    return _by_name(_ASKED[type(found)](**found.get_params()))


def _as_asked(network: Network, loss: Any) -> Network:
    """The network with its loss as an estimator says it, by name or by object, if it is the same."""
    return replace(network, loss=loss) if loss_of(loss) == network.loss_function else network


def _labels(network: Network, task: str, classes: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """The labels in ascending order, and the order in which that takes the outputs; None where they are in it."""
    outputs = network.outputs
    columns = 2 if task == "binary" else outputs
    if task == "binary" and outputs != 1:
        raise ConversionError(
            f"task='binary' has one output, or two with a softmax, but the network has {outputs} with "
            f"{network.output_activation!r}"
        )
    if task == "multiclass" and outputs == 1:
        raise ConversionError(
            f"task='multiclass' has an output for each class, but the network has {outputs}: for two classes in one "
            "output say task='binary'"
        )
    labels = np.arange(columns) if classes is None else np.asarray(classes)
    lengths = (1, 2) if task == "binary" else (columns,)
    if labels.ndim != 1 or len(labels) not in lengths:
        raise ConversionError(f"classes must be the {columns} labels of the outputs, got {classes!r}")
    if task == "multilabel-indicator":
        if not np.array_equal(labels, np.arange(columns)):
            raise ConversionError(f"the classes of a label matrix are the numbers of its columns, got {classes!r}")
        return labels, None
    try:
        ascending, first = np.unique(labels, return_index=True)
    except TypeError as error:
        raise ConversionError(f"classes must be labels that can be sorted, got {classes!r}") from error
    if len(ascending) < len(labels):
        raise ConversionError(f"classes has a label twice: {classes!r}")
    return ascending, None if np.array_equal(first, np.arange(len(first))) else first


def _reorder(network: Network, params: np.ndarray, order: np.ndarray) -> None:
    # columns of the last layer; the two classes of a single output change places where its score changes its sign
    for view in (network.weights(params)[-1], network.biases(params)[-1]):
        view[...] = -view if network.outputs == 1 else view[..., order]
