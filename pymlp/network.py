"""The frozen description of a multilayer perceptron, and the layout of its parameters.

A `Network` is an ordered chain of layers, a loss and a dtype; it holds no numbers that training changes.  All
parameters live in ONE flat vector ``[W0 b0 W1 b1 ...]`` (each W is (inputs, outputs) in C order, unpadded) that the
caller owns; the network knows where each array lies in it.  Files, L-BFGS, distributed training and tests all work
on that vector, so there is one layout and it is written down once, here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from pymlp.functions import ACTIVATIONS, LOSSES

if TYPE_CHECKING:
    from pymlp.summary import Summary

DTYPES = ("float32", "float64")


def random_source(random_state: Any = None) -> Any:
    """Turn a seed into something that draws numbers, by scikit-learn's rule.

    Parameters
    ----------
    random_state : None, int, numpy.random.RandomState or numpy.random.Generator
        None is NumPy's global state; an integer seeds a new ``RandomState``.

    Returns
    -------
    numpy.random.RandomState or numpy.random.Generator
    """
    if random_state is None or random_state is np.random:
        return np.random.mtrand._rand
    if isinstance(random_state, Integral):
        return np.random.RandomState(int(random_state))
    if isinstance(random_state, (np.random.RandomState, np.random.Generator)):
        return random_state
    raise ValueError(
        f"random_state={random_state!r} cannot seed a generator: give None, an integer, a RandomState or a Generator"
    )


def _glorot_uniform(draw: Any, inputs: int, outputs: int, activation: str) -> tuple[np.ndarray, np.ndarray]:
    # scikit-learn's variant: 2 instead of 6 for the logistic function, and the biases are drawn as well
    bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (inputs + outputs))
    return draw.uniform(-bound, bound, (inputs, outputs)), draw.uniform(-bound, bound, outputs)


def _scaled_by_inputs(numerator: float, *, uniform: bool):
    def initialise(draw: Any, inputs: int, outputs: int, activation: str) -> tuple[np.ndarray, np.ndarray]:
        deviation = np.sqrt(numerator / inputs)
        if uniform:
            bound = np.sqrt(3.0) * deviation
            weight = draw.uniform(-bound, bound, (inputs, outputs))
        else:
            weight = draw.normal(0.0, deviation, (inputs, outputs))
        return weight, np.zeros(outputs)

    return initialise


INITIALISERS = {
    "glorot_uniform": _glorot_uniform,
    "he_normal": _scaled_by_inputs(2.0, uniform=False),
    "he_uniform": _scaled_by_inputs(2.0, uniform=True),
    "lecun_normal": _scaled_by_inputs(1.0, uniform=False),
    "lecun_uniform": _scaled_by_inputs(1.0, uniform=True),
}


@dataclass(frozen=True)
class Dense:
    """One fully connected layer: ``activation(inputs @ weight + bias)``.

    Parameters
    ----------
    outputs : int
        Width of the layer, at least 1.
    activation : str, default="relu"
        A name in `pymlp.functions.ACTIVATIONS`.
    """

    outputs: int
    activation: str = "relu"

    def __post_init__(self) -> None:
        if not isinstance(self.outputs, Integral) or isinstance(self.outputs, bool) or self.outputs < 1:
            raise ValueError(f"a layer's outputs must be an integer of at least 1, got {self.outputs!r}")
        object.__setattr__(self, "outputs", int(self.outputs))
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation={self.activation!r} is unknown; known: {', '.join(ACTIVATIONS)}")


@dataclass(frozen=True)
class LayerLayout:
    """Where one dense layer's parameters lie in the flat vector (offsets in elements)."""

    inputs: int
    outputs: int
    weight: slice
    bias: slice


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron: what it computes and what it is trained for, without its numbers.

    Parameters
    ----------
    inputs : int
        Number of input columns, at least 1.
    layers : sequence of Dense
        The chain from the first hidden layer to the output layer, at least one.  The output layer's activation is the
        one its loss is defined over (see `pymlp.functions.LOSSES`); hidden layers take any element-wise activation.
    loss : str, default="squared_error"
        A name in `pymlp.functions.LOSSES`.
    dtype : {"float32", "float64"}, default="float32"
        Type of parameters, inputs, outputs and gradients.
    l1, l2 : float, default=0.0
        Penalty on the weights (not the biases): ``(l1 * sum(abs(W)) + l2 / 2 * sum(W**2)) / S``, S being the number of
        rows of the batch, or the sum of their weights; this is scikit-learn's scaling of ``alpha``.

    Raises
    ------
    ValueError
        Names the argument and the value that does not fit.
    """

    inputs: int
    layers: tuple[Dense, ...]
    loss: str = "squared_error"
    dtype: str = "float32"
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.inputs, Integral) or isinstance(self.inputs, bool) or self.inputs < 1:
            raise ValueError(f"inputs must be an integer of at least 1, got {self.inputs!r}")
        layers = tuple(self.layers)
        if not layers or not all(isinstance(layer, Dense) for layer in layers):
            raise ValueError(f"layers must be at least one Dense, got {self.layers!r}")
        if self.loss not in LOSSES:
            raise ValueError(f"loss={self.loss!r} is unknown; known: {', '.join(LOSSES)}")
        dtype = np.dtype(self.dtype).name
        if dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype!r} is not one of {', '.join(DTYPES)}")
        for position, layer in enumerate(layers[:-1]):
            if not ACTIVATIONS[layer.activation].hidden:
                raise ValueError(f"layers[{position}]: {layer.activation!r} serves as output activation only")
        needed = LOSSES[self.loss].output_activation
        if layers[-1].activation != needed:
            raise ValueError(
                f"loss={self.loss!r} is defined over the output activation {needed!r}, "
                f"but layers[-1] has {layers[-1].activation!r}"
            )
        for name in ("l1", "l2"):
            value = float(getattr(self, name))
            if not (0.0 <= value < np.inf):
                raise ValueError(f"{name} must be a finite number of at least 0, got {getattr(self, name)!r}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "inputs", int(self.inputs))
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "dtype", dtype)

    @classmethod
    def from_widths(
        cls, widths: Any, activation: Any = "relu", *, loss: str = "squared_error", **options: Any
    ) -> Network:
        """Build the usual perceptron from its widths.

        Parameters
        ----------
        widths : sequence of int
            ``(inputs, hidden..., outputs)``, at least two numbers.
        activation : str or sequence of str, default="relu"
            One name for all hidden layers, or one for each.
        loss : str, default="squared_error"
            Decides the output activation too.
        **options
            Further fields of `Network`: ``dtype``, ``l1``, ``l2``.

        Returns
        -------
        Network
        """
        widths = tuple(widths)
        if len(widths) < 2:
            raise ValueError(f"widths must hold at least inputs and outputs, got {widths!r}")
        hidden = widths[1:-1]
        names = (activation,) * len(hidden) if isinstance(activation, str) else tuple(activation)
        if len(names) != len(hidden):
            raise ValueError(f"activation has {len(names)} names for {len(hidden)} hidden layers: {activation!r}")
        if loss not in LOSSES:
            raise ValueError(f"loss={loss!r} is unknown; known: {', '.join(LOSSES)}")
        layers = [Dense(width, name) for width, name in zip(hidden, names, strict=True)]
        layers.append(Dense(widths[-1], LOSSES[loss].output_activation))
        return cls(widths[0], tuple(layers), loss, **options)

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Network:
        """Rebuild a network from `description`; ValueError where a field is missing, unknown or does not fit."""
        try:
            fields = dict(description)
            fields["layers"] = tuple(Dense(**layer) for layer in fields["layers"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the description of a network: {error}") from error

    @property
    def description(self) -> dict[str, Any]:
        """Plain numbers, strings and lists that say everything about the network (JSON-ready)."""
        fields = asdict(self)
        fields["layers"] = [dict(layer) for layer in fields["layers"]]
        return fields

    def summary(self) -> Summary:
        """The layers with their shapes, parameters and cost: text, or a table in a notebook."""
        from pymlp.summary import Summary

        return Summary(self)

    @property
    def outputs(self) -> int:
        """Number of output columns."""
        return self.layers[-1].outputs

    @property
    def output_activation(self) -> str:
        """Name of the last layer's activation, which the loss decides."""
        return self.layers[-1].activation

    @property
    def widths(self) -> tuple[int, ...]:
        """``(inputs, hidden..., outputs)``."""
        return (self.inputs, *(layer.outputs for layer in self.layers))

    @cached_property
    def layout(self) -> tuple[LayerLayout, ...]:
        """Where each layer's weight and bias lie in the flat vector."""
        layouts, start = [], 0
        for inputs, outputs in pairwise(self.widths):
            middle = start + inputs * outputs
            layouts.append(LayerLayout(inputs, outputs, slice(start, middle), slice(middle, middle + outputs)))
            start = middle + outputs
        return tuple(layouts)

    @property
    def n_parameters(self) -> int:
        """Length of the flat vector."""
        return self.layout[-1].bias.stop

    def check_params(self, params: np.ndarray) -> np.ndarray:
        """Return `params` if it is this network's flat vector, else raise ValueError."""
        if not isinstance(params, np.ndarray) or params.shape != (self.n_parameters,) or params.dtype != self.dtype:
            found = f"{params.dtype} {params.shape}" if isinstance(params, np.ndarray) else type(params).__name__
            raise ValueError(f"params must be a {self.dtype} array of shape ({self.n_parameters},), got {found}")
        return params

    def weights(self, params: np.ndarray) -> list[np.ndarray]:
        """Views of the weight matrices, each (inputs, outputs)."""
        self.check_params(params)
        return [params[part.weight].reshape(part.inputs, part.outputs) for part in self.layout]

    def biases(self, params: np.ndarray) -> list[np.ndarray]:
        """Views of the bias vectors, each (outputs,)."""
        self.check_params(params)
        return [params[part.bias] for part in self.layout]

    def views(self, params: np.ndarray) -> dict[str, np.ndarray]:
        """Views by name: ``layers.0.weight``, ``layers.0.bias``, ``layers.1.weight``, ..."""
        named = {}
        for position, (weight, bias) in enumerate(zip(self.weights(params), self.biases(params), strict=True)):
            named[f"layers.{position}.weight"] = weight
            named[f"layers.{position}.bias"] = bias
        return named

    def initial_params(
        self, random_state: Any = None, initialiser: str = "glorot_uniform", activation: str | None = None
    ) -> np.ndarray:
        """Draw initial parameters, in float64, then cast to the network's dtype.

        Parameters
        ----------
        random_state : None, int, RandomState or Generator, default=None
            See `random_source`.
        initialiser : str, default="glorot_uniform"
            ``glorot_uniform`` draws exactly what scikit-learn's MLP draws (Glorot and Bengio, "Understanding the
            difficulty of training deep feedforward neural networks", 2010; biases are drawn as well, and with the
            logistic function the bound is sqrt(2 / (inputs + outputs))).  ``he_normal`` and ``he_uniform``: He et al.,
            "Delving deep into rectifiers", 2015.  ``lecun_normal`` and ``lecun_uniform``: LeCun et al., "Efficient
            BackProp", 1998.  These four leave the biases at zero.
        activation : str, optional
            The hidden activation that decides the scale of the output layer, and of a network without hidden layers;
            by default the last hidden layer's.

        Returns
        -------
        ndarray of shape (n_parameters,)
        """
        if initialiser not in INITIALISERS:
            raise ValueError(f"initialiser={initialiser!r} is unknown; known: {', '.join(INITIALISERS)}")
        draw = random_source(random_state)
        names = [layer.activation for layer in self.layers[:-1]]
        names.append(activation if activation is not None else (names[-1] if names else "identity"))
        params = np.empty(self.n_parameters, self.dtype)
        for part, name in zip(self.layout, names, strict=True):
            weight, bias = INITIALISERS[initialiser](draw, part.inputs, part.outputs, name)
            params[part.weight] = weight.ravel()
            params[part.bias] = bias
        return params
