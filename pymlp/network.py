"""The frozen description of a multilayer perceptron, and the layout of its parameters.

A `Network` is an ordered chain of layers, a loss and a dtype; it holds no numbers that training changes.  All
parameters live in ONE flat vector ``[W0 b0 W1 b1 ...]`` (each W is (inputs, outputs) in C order, unpadded; what else a
layer has follows its bias) that the caller owns; the network knows where each array lies in it.  Files, L-BFGS,
distributed training and tests all work on that vector, so there is one layout and it is written down once, here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import partial
from math import sqrt
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from pymlp.forks import cached_property, drawing
from pymlp.functions import ACTIVATIONS
from pymlp.layers import KINDS, Dense, Row, table_of
from pymlp.losses import Loss, described_loss, loss_description, loss_of
from pymlp.options import check_number, of_python

if TYPE_CHECKING:
    from pymlp.derivatives import FlatObjective, Pullback
    from pymlp.summary import Summary

DTYPES = ("float32", "float64")
# what the engine counts to: 2**47, far above any memory
MOST_PARAMETERS = 1 << 47
# numbers drawn in one call: 64 KB
DRAWN_AT_ONCE = 8192
# fields of a description, of the network and of a layer, that are always there
FIRST_FIELDS = ("inputs", "layers", "loss", "dtype", "l1", "l2", "outputs", "activation")


class _NoEntropy(np.random.SeedSequence):
    """For a generator that is seeded anew at once.

    NumPy's own would ask the system for entropy and mix that, which takes as long as 20 steps of a small network.
    """

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        """Zeros, in a form whose items are quickly had."""
        return np.zeros(n_words, dtype).tolist()


_NO_ENTROPY = _NoEntropy(0)


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
        source = np.random.RandomState(np.random.MT19937(_NO_ENTROPY))
        source.seed(int(random_state))
        return source
    if isinstance(random_state, (np.random.RandomState, np.random.Generator)):
        return random_state
    raise ValueError(
        f"random_state={random_state!r} cannot seed a generator: give None, an integer, a RandomState or a Generator"
    )


# An initialiser returns two functions, for the weights and for the biases: each draws so many float64 numbers.
Draws = Callable[[int], np.ndarray]


def _glorot_uniform(draw: Any, inputs: int, outputs: int, activation: str) -> tuple[Draws, Draws]:
    # scikit-learn's variant: 2 instead of 6 for the logistic function, and the biases are drawn as well
    bound = sqrt((2.0 if activation == "logistic" else 6.0) / (inputs + outputs))
    numbers = partial(draw.uniform, -bound, bound)
    return numbers, numbers


def _scaled_by_inputs(numerator: float, *, uniform: bool):
    def initialise(draw: Any, inputs: int, outputs: int, activation: str) -> tuple[Draws, Draws]:
        deviation = sqrt(numerator / inputs)
        if uniform:
            bound = sqrt(3.0) * deviation
            return partial(draw.uniform, -bound, bound), np.zeros
        return partial(draw.normal, 0.0, deviation), np.zeros

    return initialise


def _fill(target: np.ndarray, draws: Draws) -> None:
    """Fill a vector from a stream of draws, in pieces that stay in a cache: the float64 numbers of a large layer would
    take more memory than its weights, and more time to get there than to be drawn."""
    for start in range(0, len(target), DRAWN_AT_ONCE):
        piece = target[start : start + DRAWN_AT_ONCE]
        with drawing:
            piece[:] = draws(len(piece))


INITIALISERS = {
    "glorot_uniform": _glorot_uniform,
    "he_normal": _scaled_by_inputs(2.0, uniform=False),
    "he_uniform": _scaled_by_inputs(2.0, uniform=True),
    "lecun_normal": _scaled_by_inputs(1.0, uniform=False),
    "lecun_uniform": _scaled_by_inputs(1.0, uniform=True),
}


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
        one its loss is defined over (see `pymlp.losses`); hidden layers take any element-wise activation.
    loss : str, object of `pymlp.losses` or callable, default="squared_error"
        A name in `pymlp.losses.LOSSES`, a loss with its parameters, or a function (see `pymlp.losses.CustomLoss`).
    dtype : {"float32", "float64"}, default="float32"
        Type of parameters, inputs, outputs and gradients.
    l1, l2 : float, default=0.0
        Penalty on the weights (not the biases): ``(l1 * sum(abs(W)) + l2 / 2 * sum(W**2)) / S``, S being the number of
        rows of the batch, or the sum of their weights; this is scikit-learn's scaling of ``alpha``.
    input_dropout : float, default=0.0
        Probability in [0, 1) that an input counts as 0 in a training step; the others are divided by its complement.
    seed : int, default=0
        What the masks of dropout are drawn from: 64 bits.

    Raises
    ------
    ValueError
        Names the argument and the value that does not fit.
    """

    inputs: int
    layers: tuple[Dense, ...]
    loss: Any = "squared_error"
    dtype: str = "float32"
    l1: float = 0.0
    l2: float = 0.0
    input_dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.inputs, Integral) or isinstance(self.inputs, bool) or self.inputs < 1:
            raise ValueError(f"inputs must be an integer of at least 1, got {self.inputs!r}")
        layers = tuple(self.layers) if isinstance(self.layers, Iterable) else ()
        if not layers or not all(isinstance(layer, Dense) for layer in layers):
            raise ValueError(f"layers must be at least one Dense, got {self.layers!r}")
        loss = loss_of(self.loss)
        dtype = next((name for name in DTYPES if self.dtype == np.dtype(name)), None)
        if dtype is None:
            raise ValueError(f"dtype={self.dtype!r} is not one of {', '.join(DTYPES)}")
        for position, layer in enumerate(layers[:-1]):
            if not ACTIVATIONS[layer.activation].hidden:
                raise ValueError(f"layers[{position}]: {layer.activation!r} serves as output activation only")
        if layers[-1].activation != loss.output_activation:
            raise ValueError(
                f"loss={self.loss!r} is defined over the output activation {loss.output_activation!r}, "
                f"but layers[-1] has {layers[-1].activation!r}"
            )
        if not layers[-1].is_plain:
            raise ValueError(f"layers[-1], the output layer, can have a max_norm and nothing else, got {layers[-1]!r}")
        if layers[-1].outputs % loss.group:
            raise ValueError(
                f"loss={self.loss!r} has {loss.group} outputs for each target, but there are {layers[-1].outputs}"
            )
        for name in ("l1", "l2"):
            check_number(name, getattr(self, name), 0, np.inf, high_open=True)
            object.__setattr__(self, name, float(getattr(self, name)))
        check_number("input_dropout", self.input_dropout, 0, 1, high_open=True)
        if not isinstance(self.seed, Integral) or not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must be an integer of 64 bits, at least 0, got {self.seed!r}")
        object.__setattr__(self, "inputs", int(self.inputs))
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "seed", int(self.seed))
        # a mistake in the chain shows here, not at the first use
        table = self.table
        size = max(table[-1].parts[-1].place.stop, *(row.inputs for row in table))
        if size > MOST_PARAMETERS:
            raise ValueError(
                f"layers of the widths {(self.inputs, *(layer.outputs for layer in layers))} have {size} parameters, "
                f"more than {MOST_PARAMETERS}"
            )

    @classmethod
    def from_widths(
        cls, widths: Any, activation: Any = "relu", *, loss: Any = "squared_error", dropout: float = 0.0, **options: Any
    ) -> Network:
        """Build the usual perceptron from its widths.

        Parameters
        ----------
        widths : sequence of int or Dense
            ``(inputs, hidden..., outputs)``, at least two; inputs and outputs are numbers, a hidden layer may be a
            `Dense`, which stays as it is.
        activation : str or sequence of str, default="relu"
            One name for all hidden layers, or one for each.
        loss : str, object of `pymlp.losses` or callable, default="squared_error"
            Decides the output activation too.
        dropout : float, default=0.0
            Of the hidden layers that are given as numbers.
        **options
            Further fields of `Network`: ``dtype``, ``l1``, ``l2``, ``input_dropout``, ``seed``.

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
        layers = [
            width if isinstance(width, Dense) else Dense(width, name, dropout)
            for width, name in zip(hidden, names, strict=True)
        ]
        layers.append(Dense(widths[-1], loss_of(loss).output_activation))
        return cls(widths[0], tuple(layers), loss, **options)

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Network:
        """Rebuild a network from `description`; ValueError where a field is missing, unknown or does not fit."""
        try:
            fields = dict(description)
            if fields.get("dtype", DTYPES[0]) not in DTYPES:
                # NumPy would read a type out of almost any text
                raise ValueError(f"dtype={fields['dtype']!r} is not one of {', '.join(DTYPES)}")
            fields["layers"] = tuple(Dense(**layer) for layer in fields["layers"])
            if "loss" in fields:
                fields["loss"] = described_loss(fields["loss"])
            return cls(**fields)
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not the description of a network: {error}") from error

    @property
    def description(self) -> dict[str, Any]:
        """Plain numbers, strings and lists that say everything about the network (JSON-ready).

        What came after the first version of the description is left out where it has its default.
        """
        found = {
            each.name: of_python(getattr(self, each.name))
            for each in fields(self)
            if each.name in FIRST_FIELDS or getattr(self, each.name) != each.default
        }
        found["loss"] = loss_description(self.loss)
        found["layers"] = [
            {
                each.name: of_python(getattr(layer, each.name))
                for each in fields(layer)
                if each.name in FIRST_FIELDS or getattr(layer, each.name) != each.default
            }
            for layer in self.layers
        ]
        return found

    @cached_property
    def loss_function(self) -> Loss:
        """The loss as an object, whatever `loss` is."""
        return loss_of(self.loss)

    @cached_property
    def table(self) -> tuple[Row, ...]:
        """The rows that the layers become; see `pymlp.layers`."""
        return table_of(self.inputs, self.input_dropout, self.layers)

    def summary(self) -> Summary:
        """The layers with their shapes, parameters and cost: text, or a table in a notebook."""
        from pymlp.summary import Summary

        return Summary(self)

    def vjp(
        self,
        params: Any,
        X: Any,
        *,
        step: int | None = None,
        n_threads: int | None = None,
        backend: str | None = None,
    ) -> tuple[np.ndarray, Pullback]:
        """Outputs, and the function that carries a gradient by them back: the vector-Jacobian product.

        For objectives of one's own: say how they follow the outputs, and get how they follow the parameters and X.

        Parameters
        ----------
        params : array-like of shape (n_parameters,)
        X : array-like or SciPy sparse matrix of shape (rows, inputs), or array-like of shape (inputs,)
            Any number of rows; one dimension is one row, and nothing then has an axis for rows.
        step : int, optional
            Number of a training step, whose masks of dropout are applied on both ways; by default there is no dropout.
        n_threads : int, optional
            Upper bound on the threads; see `pymlp.config`.
        backend : {"c", "numba", "numpy"}, optional

        Returns
        -------
        outputs : ndarray of shape (rows, outputs)
        pullback : Pullback
            ``pullback(output_gradient)`` gives the gradient of ``sum(outputs * output_gradient)`` by the parameters, of
            shape (n_parameters,); with ``x_gradient=True`` that by X as well, and with ``gradient=False`` alone.

        Raises
        ------
        TypeError, ValueError
            An argument does not hold finite numbers, or does not fit; the message names it.

        Notes
        -----
        `params` and X are copied: the pullback is of this moment.  What the backend made ready for the call waits with
        the network for the next one of about as many rows, where it takes at most 256 MB.

        Examples
        --------
        >>> import numpy as np
        >>> from pymlp import Network
        >>> network = Network.from_widths((4, 8, 2))
        >>> params = network.initial_params(0)
        >>> outputs, pullback = network.vjp(params, np.ones((5, 4)))
        >>> pullback(2 * outputs).shape  # of the sum of squares
        (58,)
        """
        from pymlp.derivatives import vjp

        return vjp(self, params, X, step=step, n_threads=n_threads, backend=backend)

    def flat_objective(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        n_threads: int | None = None,
        backend: str | None = None,
    ) -> FlatObjective:
        """The loss over these rows as a function of the flat parameters: for any optimiser or sampler.

        Parameters
        ----------
        X : array-like or SciPy sparse matrix of shape (rows, inputs)
        y : array-like of shape (rows, targets), or (rows,) for one target
            Targets as the loss takes them; see `pymlp.train`.
        sample_weight : array-like of shape (rows,), optional
            Weight of each row, at least 0.
        n_threads : int, optional
            Upper bound on the threads; see `pymlp.config`.
        backend : {"c", "numba", "numpy"}, optional

        Returns
        -------
        FlatObjective
            ``objective(params)`` gives value and gradient, ``objective.value(params)`` the value alone.

        Raises
        ------
        TypeError, ValueError
            An argument does not hold finite numbers, or does not fit; the message names it.

        Notes
        -----
        Arrays that are as the engine takes them are not copied: X and y must stay as they are.

        Examples
        --------
        >>> import numpy as np
        >>> from pymlp import Network
        >>> from scipy.optimize import minimize
        >>> network = Network.from_widths((1, 8, 1), "tanh")
        >>> x = np.linspace(-2, 2, 50)
        >>> objective = network.flat_objective(x[:, None], np.sin(x))
        >>> found = minimize(objective, network.initial_params(0), jac=True, method="L-BFGS-B")
        >>> bool(found.fun < 1e-3)
        True
        """
        from pymlp.derivatives import FlatObjective

        return FlatObjective(self, X, y, sample_weight, n_threads=n_threads, backend=backend)

    @cached_property
    def free_plans(self) -> dict[Any, Any]:
        """Plans that nobody uses at the moment, kept by `vjp`; no part of what the network is."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        # not what can be worked out from the rest
        kind = type(self)
        return {
            name: value
            for name, value in vars(self).items()
            if not isinstance(getattr(kind, name, None), cached_property)
        }

    def twin(self) -> Network:
        """Another object that is the same network, without a second look at what it is made of."""
        network = object.__new__(type(self))
        # with where the parameters lie, which otherwise every twin would find out anew
        network.__dict__.update(self.__dict__, n_parameters=self.n_parameters)
        network.__dict__.pop("free_plans", None)
        return network

    @property
    def takes_sparse(self) -> bool:
        """Whether a plan takes sparse inputs: they are read by a dense row of the table and by nothing else."""
        return self.table[0].kind == "dense" and all(0 not in (row.source, row.second) for row in self.table[1:])

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
        return tuple(
            LayerLayout(row.inputs, row.outputs, *(part.place for part in row.parts))
            for row in self.table
            if row.kind == "dense"
        )

    @cached_property
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

    def parts(self, params: np.ndarray) -> list[list[np.ndarray]]:
        """Views of each row's parameters, in the order of the table."""
        self.check_params(params)
        return [[params[part.place].reshape(part.shape) for part in row.parts] for row in self.table]

    def views(self, params: np.ndarray) -> dict[str, np.ndarray]:
        """Views by name: ``layers.0.weight``, ``layers.0.bias``, ``layers.1.weight``, ..."""
        return {
            f"layers.{row.layer}.{part.name}": view
            for row, views in zip(self.table, self.parts(params), strict=True)
            for part, view in zip(row.parts, views, strict=True)
        }

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
        for row, views in zip(self.table, self.parts(params), strict=True):
            if row.kind == "dense":
                drawn = INITIALISERS[initialiser](draw, row.inputs, row.outputs, names[row.layer])
                for view, draws in zip(views, drawn, strict=True):
                    _fill(view.reshape(-1), draws)
            else:
                for view, value in zip(views, KINDS[row.kind].initial, strict=True):
                    view[...] = value
        return params
