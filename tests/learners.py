"""Small learners, data for them, and what they have come to: for the tests of `pymlp.Learner`."""

import numpy as np
import pytest
from matrix import Engine

from pymlp import Learner, Network, backends, config_context

HAS_ENGINE = backends.missing_reason("c") is None
has_engine = pytest.mark.skipif(not HAS_ENGINE, reason="the C engine is not built")


def made(engine: Engine | str = "c" if HAS_ENGINE else "numpy", *arguments: object, **options: object) -> Learner:
    engine = engine if isinstance(engine, Engine) else Engine(engine)
    with config_context(backend=engine.backend, isa=(engine.variant or None) if engine.backend == "c" else None):
        return Learner(*arguments, **options)


def small(**options: object) -> tuple[Network, np.ndarray]:
    network = Network.from_widths((4, 9, 2), "tanh", **options)
    return network, network.initial_params(0)


def data(rows: int = 6, dtype: str = "float32", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(rows, 4)).astype(dtype), draw.normal(size=(rows, 2)).astype(dtype)


def state_of(learner: Learner) -> tuple[bytes, bytes, int]:
    return learner.params.tobytes(), learner.slots.tobytes(), learner.steps
