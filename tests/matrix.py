"""What the backend matrix runs over: every engine of this machine, shapes each with its reason, and data for them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np

from pymlp import backends
from pymlp.config import config_context
from pymlp.functions import ACTIVATIONS
from pymlp.layers import Dense
from pymlp.losses import Loss, loss_of
from pymlp.network import Network

HIDDEN_ACTIVATIONS = tuple(name for name, row in ACTIVATIONS.items() if row.hidden)
DTYPES = ("float32", "float64")
WEIGHT_KINDS = ("none", "ones", "random", "some zero", "all zero")

# losses whose rounding errors `error_bounds` knows; the others are compared in `test_backends_losses`
ANALYSED_LOSSES = ("squared_error", "log_loss", "binary_log_loss", "poisson")

# rows, widths.  Tiles have 14 rows with AVX-512, 6 with AVX2 and 8 in Numba; a vector holds 16, 8, 4 or 2 numbers.
SHAPES = {
    "one number in, one out, no hidden layer": (1, (1, 1)),
    "one row, no hidden layer, fewer columns than a vector": (1, (5, 3)),
    "two rows, columns: 4 minus and plus 1": (2, (4, 3, 5)),
    "AVX2 tile minus one row, columns: 8 minus 1": (5, (6, 7, 1)),
    "AVX2 tile, columns: 8 and 16": (6, (8, 8, 16)),
    "AVX2 tile and one row, columns: 8 and 16 plus 1": (7, (9, 17, 9)),
    "Numba tile and one row": (9, (3, 15, 2)),
    "AVX-512 tile minus one row, columns: 16 and 32 minus 1": (13, (15, 31, 4)),
    "AVX-512 tile, columns: whole vectors": (14, (16, 32, 64, 16)),
    "AVX-512 tile and one row, columns: 16 and 32 plus 1": (15, (17, 33, 10)),
    "tab, no row left over": (200, (20, 100, 2)),
    "three hidden layers, one row left over": (201, (31, 32, 33, 100, 3)),
    "wide layers, deep products": (33, (257, 100, 257, 10)),
    "a network for NumPy's products in the Numba backend": (201, (257, 150, 11)),
    "more inputs than units are taken at once, twice": (15, (2090, 150, 3)),
}
# one shape with edges everywhere, for what is varied otherwise
EDGES = (15, (5, 17, 33, 3))

# what a layer, or the network, can have beside its product and activation; the tests run over subsets of these
FEATURES: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.3},
    "layer norm": {"normalization": "layer"},
    "residual": {"residual": True},
    "parametric": {"parametric": True},
    "max_norm": {"max_norm": 0.6},
    "input dropout": {"input_dropout": 0.25},
    "penalties": {"l1": 0.02, "l2": 0.1},
}
NETWORK_OPTIONS = ("input_dropout", "l1", "l2")
FEATURE_SETS = tuple(
    names for count in range(1, len(FEATURES)) for names in itertools.combinations(list(FEATURES)[:-1], count)
)


@dataclass(frozen=True)
class Engine:
    """A backend, and the variant of it: C's instruction set, or Numba's way through small or wide networks."""

    backend: str
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.backend}-{self.variant}" if self.variant else self.backend

    def plan(self, network: Network, batch_size: int, n_threads: int | None = None) -> backends.Plan:
        """A plan of this engine."""
        module = backends.get(self.backend)
        if self.backend == "numba":
            with mock.patch.object(module, "is_small", return_value=self.variant == "small"):
                return module.Plan(network, batch_size, n_threads)
        with config_context(isa=self.variant or None):
            return module.Plan(network, batch_size, n_threads)


def engines() -> list[Engine]:
    """Every engine that this machine can run."""
    found = []
    for backend in backends.available():
        if backend == "c":
            found += [Engine("c", isa) for isa in backends.get("c").instruction_sets()]
        elif backend == "numba":
            found += [Engine("numba", "small"), Engine("numba", "wide")]
        else:
            found.append(Engine(backend))
    return found


ENGINES = engines()
# what is compared with the definition, which is NumPy's
OTHERS = [engine for engine in ENGINES if engine.backend != "numpy"]
# these give the same bytes
FUSED = [engine for engine in ENGINES if engine.backend == "c" and engine.variant != "portable"]
NUMPY = Engine("numpy")


@dataclass
class Case:
    """A network with parameters and a batch."""

    network: Network
    params: np.ndarray
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None

    @property
    def doubled(self) -> Case:
        """The same numbers for the same network in float64."""
        wide = replace(self.network, dtype="float64")
        weight = None if self.weight is None else self.weight.astype(np.float64)
        return Case(wide, *(array.astype(np.float64) for array in (self.params, self.X, self.y)), weight)


def targets(row: Loss, rows: int, outputs: int, draw: np.random.Generator) -> np.ndarray:
    """Targets in the range of a loss, zeros and ones among them where it takes them."""
    if row.output_activation == "softmax":
        y = np.eye(outputs)[draw.integers(outputs, size=rows)]
        y[::3] = draw.dirichlet(np.ones(outputs), len(y[::3]))
        return y
    if row.highest_target == 1:
        y = draw.integers(2, size=(rows, outputs)).astype(np.float64)
        if row.output_activation == "logistic":
            y[::3] = draw.random((len(y[::3]), outputs))
        return y
    if row.lowest_target == 0:
        return draw.poisson(1.5, (rows, outputs)).astype(np.float64)
    if row.lowest_target > 0:
        return draw.gamma(2.0, 1.0, (rows, outputs))
    # a target for each group of outputs
    return np.repeat(draw.normal(size=(rows, outputs // row.group)), row.group, axis=1)


def weights(kind: str, rows: int, draw: np.random.Generator) -> np.ndarray | None:
    """Sample weights of a kind."""
    if kind == "none":
        return None
    weight = draw.random(rows) + 0.25 if kind in ("random", "some zero") else np.full(rows, float(kind == "ones"))
    if kind == "some zero":
        weight[1::2] = 0.0
    return weight


def make_case(
    rows: int,
    widths: tuple[int, ...],
    activation: object = "relu",
    loss: Any = "squared_error",
    dtype: str = "float64",
    weight: str = "none",
    seed: int = 0,
    **options: Any,
) -> Case:
    """A network with random parameters, and data for it."""
    # whole groups of outputs
    row = loss_of(loss)
    outputs = -(-widths[-1] // row.group) * row.group
    network = Network.from_widths((*widths[:-1], outputs), activation, loss=loss, dtype=dtype, **options)
    draw = np.random.default_rng(seed)
    params = network.initial_params(seed)
    # biases that matter, also where the initialiser draws none
    for bias in network.biases(params):
        bias[:] = draw.normal(scale=0.3, size=bias.shape)
    X = draw.normal(size=(rows, network.inputs)).astype(dtype)
    y = targets(row, rows, network.outputs, draw).astype(dtype)
    drawn = weights(weight, rows, draw)
    return Case(network, params, X, y, None if drawn is None else drawn.astype(dtype))


def make_feature_case(
    names: tuple[str, ...],
    rows: int = 15,
    width: int = 33,
    layers: int = 2,
    activation: str = "tanh",
    loss: Any = "log_loss",
    dtype: str = "float64",
    weight: str = "random",
    seed: int = 0,
) -> Case:
    """A network of so many hidden layers of the inputs' width that all have these features, and data for it."""
    options = {key: value for name in names for key, value in FEATURES[name].items()}
    of_network = {key: options.pop(key) for key in NETWORK_OPTIONS if key in options}
    # the output layer can have a largest norm; the seed fills both words of the generator's key
    row = loss_of(loss)
    last = Dense(-(-3 // row.group) * row.group, row.output_activation, max_norm=options.get("max_norm"))
    hidden = tuple(Dense(width, activation, **options) for _ in range(layers))
    network = Network(width, (*hidden, last), loss, dtype, seed=2**40 + seed, **of_network)
    draw = np.random.default_rng(seed)
    params = network.initial_params(seed)
    # gains, shifts and mixtures away from their start
    params += draw.normal(scale=0.1, size=params.shape).astype(dtype)
    X = draw.normal(size=(rows, width)).astype(dtype)
    y = targets(row, rows, network.outputs, draw).astype(dtype)
    drawn = weights(weight, rows, draw)
    return Case(network, params, X, y, None if drawn is None else drawn.astype(dtype))


def mixed_activations(widths: tuple[int, ...], first: int = 0) -> tuple[str, ...]:
    """A different activation for each hidden layer, starting at number `first` of the registry."""
    return tuple(HIDDEN_ACTIVATIONS[(first + i) % len(HIDDEN_ACTIVATIONS)] for i in range(len(widths) - 2))


def run_forward(engine: Engine, case: Case) -> np.ndarray:
    out = np.full((len(case.X), case.network.outputs), np.nan, case.network.dtype)
    engine.plan(case.network, len(case.X)).forward(case.params, case.X, out)
    return out


def run_loss_gradient(engine: Engine, case: Case, n_threads: int | None = None) -> tuple[float, np.ndarray]:
    gradient = np.full_like(case.params, np.nan)
    plan = engine.plan(case.network, len(case.X), n_threads)
    return plan.loss_gradient(case.params, case.X, case.y, case.weight, gradient), gradient


def run_backward(
    engine: Engine, case: Case, output_gradient: np.ndarray, n_threads: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    gradient, x_gradient = np.full_like(case.params, np.nan), np.full_like(case.X, np.nan)
    plan = engine.plan(case.network, len(case.X), n_threads)
    plan.backward(case.params, case.X, output_gradient, gradient, x_gradient)
    return gradient, x_gradient
