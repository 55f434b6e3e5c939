"""What exported C is tested with: networks, parameters, rows, and the files they become."""

from __future__ import annotations

import numpy as np
import pytest

from pymlp import Dense, Network, backends
from pymlp.export import to_c
from pymlp.functions import ACTIVATIONS

REAL = ("float32", "float64")
# what the sources promise
MOST_ULPS = 2
HIDDEN = [name for name, row in ACTIVATIONS.items() if row.hidden]


def slow(*values):
    """Values of a test that is not in the fast set."""
    return pytest.param(*values, marks=pytest.mark.slow)


CPP = ("-x", "c++", "-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror")

needs_engine = pytest.mark.skipif(backends.missing_reason("c") is not None, reason="the C engine is not built")

SHAPES = {
    "one": (1, (Dense(1, "identity"),)),
    "narrow": (3, (Dense(2, "tanh"), Dense(5, "identity"))),
    "edges": (5, (Dense(31), Dense(32), Dense(33), Dense(63), Dense(64), Dense(65), Dense(4, "identity"))),
    "wide": (70, (Dense(200, "silu"), Dense(130, "elu"), Dense(129, "identity"))),
    "norm": (
        7,
        (Dense(16, "gelu", normalization="layer"), Dense(37, "relu", normalization="layer"), Dense(3, "identity")),
    ),
    "residual": (
        6,
        (
            Dense(6, residual=True),
            Dense(6, "mish", residual=True),
            Dense(6, "tanh", residual=True),
            Dense(1, "identity"),
        ),
    ),
    "all": (
        9,
        (
            Dense(9, "gelu", 0.25, "layer", residual=True, max_norm=3.0, parametric=True),
            Dense(20, "softplus", 0.5, "layer", parametric=True),
            Dense(20, "cosine", 0.5, residual=True, parametric=True),
            Dense(2, "identity"),
        ),
    ),
}

FEW = {"hidden_layer_sizes": (6,), "max_iter": 5, "random_state": 0, "tol": 0.0}


def some_rows():
    return np.random.default_rng(3).normal(size=(60, 4))


def some_params(network, seed=0):
    """Parameters of every kind that are none of its initial ones."""
    params = network.initial_params(seed)
    draw = np.random.default_rng(seed)
    for row, parts in zip(network.table, network.parts(params), strict=True):
        for part in parts:
            if row.kind != "dense":
                part += draw.normal(size=part.shape) * 0.5
    return params


def inputs_for(network, rows=40, seed=1):
    return np.random.default_rng(seed).normal(size=(rows, network.inputs)).astype(network.dtype)


def example(dtype):
    """A network with all kinds of layers, and its export's arguments."""
    inputs, layers = SHAPES["all"]
    network = Network(inputs, (*layers[:-1], Dense(3, "softmax")), "log_loss")
    return network, some_params(network), inputs_for(network) if dtype == "int8" else None


def exported(folder, dtype, name="example"):
    network, params, calibration = example(dtype)
    to_c((network, params), folder / f"{name}.c", dtype, calibration=calibration)
    return folder / f"{name}.c"
