"""The libraries that pymlp is measured against, as far as they are installed; those that are not are left out.

Each is imported when it first races, and only then: their threads and their memory stay out of the other races.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from training_run import Training, TrainingRun

from pymlp import Network

# what must be installed for each
_TRAINING = {"PyTorch": ("torch",), "PyTorch bf16": ("torch",), "JAX": ("jax",)}
_PREDICTION = {"PyTorch": ("torch",), "JAX": ("jax",), "ONNX Runtime": ("onnx", "onnxruntime")}

Forward = Callable[[np.ndarray, np.ndarray], Any]


def _installed(needed: dict[str, tuple[str, ...]]) -> list[str]:
    return [name for name, modules in needed.items() if all(find_spec(module) for module in modules)]


def training_peers() -> list[str]:
    """Names of the installed peers that train, in float32."""
    return _installed(_TRAINING)


def prediction_peers() -> list[str]:
    """Names of the installed peers that predict, in float32."""
    return _installed(_PREDICTION)


def new_training(name: str, run: TrainingRun) -> Training:
    """A peer made ready to take a run's steps."""
    if name == "JAX":
        from peer_jax import JaxTraining

        return JaxTraining(run)
    from peer_torch import TorchTraining

    return TorchTraining(run, bfloat16=name == "PyTorch bf16")


def new_forward(name: str, network: Network, params: np.ndarray) -> Forward:
    """A peer made ready to predict: a function of X (rows, inputs) and `out` (rows, outputs) for the scores."""
    if name == "JAX":
        from peer_jax import forward
    elif name == "PyTorch":
        from peer_torch import forward
    else:
        from peer_onnxruntime import forward
    return forward(network, params)


def in_chunks(forward: Forward, chunk: int) -> Forward:
    """The same, `chunk` rows a call."""

    def run(X: np.ndarray, out: np.ndarray) -> None:
        for start in range(0, len(X), chunk):
            forward(X[start : start + chunk], out[start : start + chunk])

    return run
