"""Models from Keras, by the description of their layers and their weights, without Keras.

Keras says of a layer what it is in a dict, its config, and gives the weights of all layers as one list of arrays; both
have been much the same since its second version.  Nothing in a config is run: what is not known by name is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pymlp.convert.chains import Chain, answered
from pymlp.convert.errors import ConversionError
from pymlp.functions import LEAKY_SLOPE

# Keras's activations by their names here; the two others are leaky_relu and what has no name here
ACTIVATIONS = {
    "linear": "identity",
    "relu": "relu",
    "sigmoid": "logistic",
    "tanh": "tanh",
    "elu": "elu",
    "selu": "selu",
    "gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
    "mish": "mish",
    "softplus": "softplus",
    "exponential": "exp",
    "softmax": "softmax",
    "log_softmax": "softmax",
}
# the slope of Keras's activation "leaky_relu", and that of its layer LeakyReLU unless told otherwise
ACTIVATION_SLOPE, LAYER_SLOPE = 0.2, 0.3
# the least deviation that a Normalization divides by
LEAST_DEVIATION = 1e-7


def from_keras(
    layers: Any,
    weights: Sequence[Any] | None = None,
    *,
    task: str | None = None,
    classes: Any = None,
    loss: Any = None,
    dtype: str | None = None,
    feature_names: Sequence[str] | None = None,
) -> Any:
    """Make a network, or a fitted estimator, of a model of Keras.

    Parameters
    ----------
    layers : list of dict, dict, str or Keras model
        A ``Sequential``, or a functional model that is a chain: the ``"layers"`` of its ``get_config()``, this itself,
        the text of its ``to_json()``, or the model.  Of ``Dense``, ``Activation``, ``ReLU``, ``LeakyReLU``, ``PReLU``,
        ``ELU``, ``Softmax``, ``Dropout``, ``BatchNormalization``, ``LayerNormalization``, ``Normalization``,
        ``Rescaling``, ``InputLayer``, ``Flatten``, and further models of these.
    weights : sequence of array-like, optional
        What its ``get_weights()`` gives; a model has them.
    task : {"binary", "multiclass", "multilabel-indicator", "numbers"}, optional
        What the outputs mean; makes an estimator.
    classes : sequence of labels, optional
        The label of each output, in their order; of a single output that of low values and that of high ones.  Makes a
        classifier, and says enough of the task unless each output is a label by itself.
    loss : str, object of `pymlp.losses` or callable, optional
        What to train on by; by default the usual one of the task, or of the last activation.
    dtype : {"float32", "float64"}, optional
        By default that of the weights, at least float32.
    feature_names : sequence of str, optional
        Of an estimator.

    Returns
    -------
    (Network, ndarray) or MLPClassifier or MLPRegressor
        An estimator with `task` or `classes`.  The answers are those of ``predict``, but that a classifier whose model
        ends in scores gives probabilities of them.  Rows that Keras flattens are taken flat.

    Raises
    ------
    ConversionError
        A ValueError: a layer is unknown, or has an option that no layer here has, or layers and weights do not fit
        together; it names the layer.

    Notes
    -----
    ``BatchNormalization``, ``Normalization`` and ``Rescaling`` go into the weights beside them; a ``LeakyReLU`` of
    another slope than 0.01 and a ``PReLU`` become a parametric layer, which learns its slopes.  Regularizers and
    constraints are left behind.

    Examples
    --------
    >>> import numpy as np
    >>> from pymlp.convert import from_keras
    >>> layers = [{"class_name": "Dense", "config": {"name": "scores", "activation": "softmax"}}]
    >>> model = from_keras(layers, [np.eye(3), np.zeros(3)], classes=["a", "b", "c"])
    >>> str(model.predict([[0.0, 1.0, 0.0]])[0])
    'b'
    """
    if hasattr(layers, "get_config") and hasattr(layers, "get_weights"):
        if weights is not None:
            raise ConversionError("weights go with a description; a model has its own")
        layers, weights = layers.get_config(), layers.get_weights()
    if weights is None:
        raise ConversionError("weights are missing: a description of layers has none")
    reader = _Reader([_array(number, array) for number, array in enumerate(weights)])
    reader.read_model(_described(layers), "the model")
    reader.finish()
    return answered(reader.chain, task=task, classes=classes, loss=loss, dtype=dtype, feature_names=feature_names)


def _array(number: int, array: Any) -> np.ndarray:
    found = np.asarray(array)
    if found.dtype.kind not in "fiu":
        raise ConversionError(f"weights[{number}] holds no numbers, but {found.dtype}")
    return found.astype(np.float64 if found.dtype == np.float64 else np.float32)


def _described(layers: Any) -> Any:
    """A description as dicts and lists, if it is given as text."""
    if not isinstance(layers, (str, bytes)):
        return layers
    try:
        return json.loads(layers)
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"layers is text, but not the JSON of a model: {error}") from error


class _Reader:
    """Adds layers to a chain, and takes their arrays from the list of all."""

    def __init__(self, weights: list[np.ndarray]) -> None:
        self.chain, self.weights, self.taken = Chain(), weights, 0
        # of a row, where it has more than one dimension
        self.shape: tuple[int, ...] | None = None
        self.where, self.config = "", {}

    def read_model(self, model: Any, where: str) -> None:
        """Add the layers of a model, or of a list of layers."""
        config = model
        while isinstance(config, Mapping) and "layers" not in config and "config" in config:
            config = config["config"]
        layers = config["layers"] if isinstance(config, Mapping) and "layers" in config else config
        if not isinstance(layers, (list, tuple)):
            raise ConversionError(f"{where} must be described by its layers, a list of dicts, got {_short(model)}")
        _check_chain(layers, config.get("output_layers") if isinstance(config, Mapping) else None, where)
        for layer in layers:
            self.read_layer(layer)

    def read_layer(self, layer: Any) -> None:
        """Add a layer, given by its description."""
        if not isinstance(layer, Mapping) or not isinstance(layer.get("class_name"), str):
            raise ConversionError(f"a layer must be a dict with a class_name and a config, got {_short(layer)}")
        kind, config = layer["class_name"], layer.get("config")
        if kind in ("Sequential", "Functional", "Model"):
            self.read_model(config, f"the model of the class {kind}")
            return
        if not isinstance(config, Mapping):
            raise ConversionError(f"the config of a {kind} must be a dict, got {_short(config)}")
        self.where, self.config = f"layer {config.get('name', kind.lower())!r} ({kind})", config
        read = _LAYERS.get(kind)
        if read is None:
            raise ConversionError(
                f"{self.where} cannot be converted; what can are {', '.join(sorted(_LAYERS))} and models of these"
            )
        if self.shape is not None and kind not in _OF_ANY_SHAPE:
            raise ConversionError(f"{self.where} gets rows of shape {self.shape}: only a Flatten makes columns of them")
        read(self)

    def finish(self) -> None:
        """ConversionError if there are more arrays than layers take."""
        if self.shape is not None:
            raise ConversionError(f"the model gives rows of shape {self.shape}: only a Flatten makes columns of them")
        if self.taken < len(self.weights):
            raise ConversionError(f"weights has {len(self.weights)} arrays, but the layers take {self.taken}")

    def take(self, name: str, dimensions: int) -> np.ndarray:
        """The next array."""
        if self.taken == len(self.weights):
            raise ConversionError(f"weights has {len(self.weights)} arrays, and none for the {name} of {self.where}")
        array = self.weights[self.taken]
        if array.ndim != dimensions:
            raise ConversionError(
                f"{self.where}: its {name} must be of {dimensions} dimensions, but weights[{self.taken}] is of shape "
                f"{array.shape}"
            )
        self.taken += 1
        return array

    def option(self, name: str, default: Any) -> Any:
        """An entry of the config; what is not said is Keras's default."""
        value = self.config.get(name)
        return default if value is None else value

    def only(self, name: str, default: Any, *allowed: Any) -> None:
        """ConversionError if an option has another value than these."""
        value = self.option(name, default)
        if value not in (default, *allowed):
            raise ConversionError(f"{self.where} has {name}={value!r}, and can be converted with {default!r} alone")

    def only_columns(self) -> None:
        """ConversionError if the layer does not work column by column, or along the columns of a row."""
        axis = np.ravel(self.option("axis", -1)).tolist()
        if axis not in ([-1], [1]):
            raise ConversionError(f"{self.where} has axis={self.config['axis']!r}, and can be converted with -1 alone")

    def number(self, name: str, default: float) -> float:
        """An option that is a number."""
        value = self.option(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConversionError(f"{self.where}: {name} must be a number, got {value!r}")
        return float(value)

    def activate(self, activation: Any) -> None:
        """Add an activation, a name or a layer."""
        if isinstance(activation, Mapping):
            if activation.get("class_name") in _LAYERS:
                where, config = self.where, self.config
                self.read_layer(activation)
                self.where, self.config = where, config
                return
            # a function, by whose name earlier versions wrapped in a dict
            activation = activation.get("config", activation)
        if activation == "leaky_relu":
            self.chain.leak(self.where, ACTIVATION_SLOPE)
        elif isinstance(activation, str) and activation in ACTIVATIONS:
            self.chain.activate(self.where, ACTIVATIONS[activation])
        else:
            known = ", ".join(sorted([*ACTIVATIONS, "leaky_relu"]))
            raise ConversionError(
                f"{self.where} has the activation {_short(activation)}; what can be converted is {known}"
            )

    def leak(self, slope: float) -> None:
        """Add an activation that leaks."""
        if slope == LEAKY_SLOPE:
            self.chain.activate(self.where, "leaky_relu")
        else:
            self.chain.leak(self.where, slope)


def _check_chain(layers: Sequence[Any], outputs: Any, where: str) -> None:
    """ConversionError if the layers of a functional model are no chain; those of others have no sources."""
    before = None
    for number, layer in enumerate(layers):
        nodes, name = (layer.get(key) if isinstance(layer, Mapping) else None for key in ("inbound_nodes", "name"))
        if nodes is not None and _sources(nodes) != ([] if number == 0 else [before]):
            raise ConversionError(
                f"{where} is no chain: its layer {name!r} reads {_sources(nodes)}, and comes after {before!r}"
            )
        before = name
    if outputs is not None and _sources(outputs) != [before]:
        raise ConversionError(f"{where} is no chain: its outputs are {_sources(outputs)}, its last layer is {before!r}")


def _sources(nodes: Any) -> list[Any]:
    """The layers that are named as sources, wherever in the nodes of a layer."""
    if isinstance(nodes, Mapping):
        config = nodes.get("config")
        if nodes.get("class_name") == "__keras_tensor__" and isinstance(config, Mapping):
            return list(config.get("keras_history", ()))[:1]
        return [name for value in nodes.values() for name in _sources(value)]
    if isinstance(nodes, (list, tuple)):
        # name, node and tensor, and before version 3 arguments
        if len(nodes) >= 3 and isinstance(nodes[0], str) and isinstance(nodes[1], int):
            return [nodes[0]]
        return [name for value in nodes for name in _sources(value)]
    return []


def _input(reader: _Reader) -> None:
    shape = reader.option("batch_shape", reader.option("batch_input_shape", reader.option("shape", None)))
    if shape is None:
        return
    sizes = tuple(shape if "shape" in reader.config and "batch_shape" not in reader.config else shape[1:])
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ConversionError(f"{reader.where} does not say how many columns there are: its shape is {tuple(shape)}")
    reader.shape = sizes if len(sizes) > 1 else None
    reader.chain.expect(reader.where, math.prod(sizes))


def _dense(reader: _Reader) -> None:
    kernel = reader.take("kernel", 2)
    units = reader.option("units", kernel.shape[1])
    if kernel.shape[1] != units:
        raise ConversionError(f"{reader.where} has {units} units, but its kernel is of shape {kernel.shape}")
    bias = reader.take("bias", 1) if reader.option("use_bias", True) else None
    reader.chain.dense(reader.where, kernel, bias)
    reader.activate(reader.option("activation", "linear"))


def _relu(reader: _Reader) -> None:
    if reader.config.get("max_value") is not None:
        raise ConversionError(f"{reader.where} has max_value={reader.config['max_value']!r}, which no activation has")
    reader.only("threshold", 0.0)
    slope = reader.number("negative_slope", 0.0)
    if slope == 0:
        reader.chain.activate(reader.where, "relu")
    else:
        reader.leak(slope)


def _leaky_relu(reader: _Reader) -> None:
    # the earlier name of the slope
    reader.leak(reader.number("negative_slope", reader.number("alpha", LAYER_SLOPE)))


def _prelu(reader: _Reader) -> None:
    reader.only("shared_axes", None, [1], [])
    reader.chain.leak(reader.where, reader.take("alpha", 1))


def _elu(reader: _Reader) -> None:
    reader.only("alpha", 1.0)
    reader.chain.activate(reader.where, "elu")


def _softmax(reader: _Reader) -> None:
    reader.only_columns()
    reader.chain.activate(reader.where, "softmax")


def _dropout(reader: _Reader) -> None:
    reader.only("noise_shape", None)
    reader.chain.dropout(reader.where, reader.number("rate", 0.0))


def _batch_normalization(reader: _Reader) -> None:
    reader.only_columns()
    gamma = reader.take("gamma", 1) if reader.option("scale", True) else None
    beta = reader.take("beta", 1) if reader.option("center", True) else None
    mean, variance = reader.take("moving_mean", 1), reader.take("moving_variance", 1)
    reader.chain.standardise(reader.where, mean, variance, gamma, beta, reader.number("epsilon", 1e-3))


def _layer_normalization(reader: _Reader) -> None:
    reader.only_columns()
    reader.only("rms_scaling", False)
    gamma = reader.take("gamma", 1) if reader.option("scale", True) else np.ones(reader.chain.columns(reader.where))
    beta = reader.take("beta", 1) if reader.option("center", True) else None
    reader.chain.normalise(reader.where, gamma, beta, reader.number("epsilon", 1e-3))


def _normalization(reader: _Reader) -> None:
    # without an axis there is one mean and one deviation for all columns
    single = "axis" in reader.config and not np.size(reader.config["axis"] if reader.config["axis"] is not None else ())
    if not single:
        reader.only_columns()
    given = reader.option("mean", None), reader.option("variance", None)
    if given[0] is None or given[1] is None:
        mean, variance = (reader.take(name, 0 if single else 1).ravel() for name in ("mean", "variance"))
        reader.take("count", 0)
    else:
        mean, variance = (np.asarray(each, np.float64).ravel() for each in given)
    width = reader.chain.width or len(mean)
    mean, variance = (np.broadcast_to(each, (width,)) if len(each) == 1 else each for each in (mean, variance))
    deviation = np.maximum(np.sqrt(variance.astype(np.float64)), LEAST_DEVIATION)
    if reader.option("invert", False):
        reader.chain.scale(reader.where, deviation, mean)
    else:
        reader.chain.scale(reader.where, 1 / deviation, -mean / deviation)


def _rescaling(reader: _Reader) -> None:
    width = reader.chain.columns(reader.where)
    factor, shift = (np.ravel(reader.option(name, value)) for name, value in (("scale", 1.0), ("offset", 0.0)))
    if reader.shape is not None and factor.size * shift.size > 1:
        raise ConversionError(f"{reader.where} has a scale for each of several columns, but rows of {reader.shape}")
    reader.chain.scale(reader.where, *(np.full(width, each[0]) if each.size == 1 else each for each in (factor, shift)))


def _flatten(reader: _Reader) -> None:
    reader.only("data_format", "channels_last", "channels_first" if reader.shape is None else "channels_last")
    reader.shape = None


_LAYERS: dict[str, Callable[[_Reader], None]] = {
    "Activation": lambda reader: reader.activate(reader.option("activation", None)),
    "BatchNormalization": _batch_normalization,
    "Dense": _dense,
    "Dropout": _dropout,
    "ELU": _elu,
    "Flatten": _flatten,
    "InputLayer": _input,
    "LayerNormalization": _layer_normalization,
    "LeakyReLU": _leaky_relu,
    "Normalization": _normalization,
    "PReLU": _prelu,
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "Softmax": _softmax,
}
# what is the same for a row of any shape
_OF_ANY_SHAPE = ("InputLayer", "Flatten", "Rescaling", "Dropout")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
