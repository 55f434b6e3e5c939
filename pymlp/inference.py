"""Running a plan forward over many rows, dense or sparse, in blocks short enough for Ctrl-C between them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pymlp.backends import Plan
from pymlp.interruptible import ASSUMED_FLOPS_PER_SECOND, DIRECT_SECONDS
from pymlp.network import Network
from pymlp.rows import dense_blocks

# fewer rows than this keep neither the threads nor the tiles busy
LEAST_BLOCK_ROWS = 64


def block_rows(n_parameters: int) -> int:
    """Rows of one call of `Plan.forward`, by the pessimistic guess of a backend's speed."""
    return max(LEAST_BLOCK_ROWS, int(DIRECT_SECONDS * ASSUMED_FLOPS_PER_SECOND / (2.0 * n_parameters)))


def outputs_of(plan: Plan, params: np.ndarray, X: Any) -> np.ndarray:
    """Outputs of the plan's network: array of shape (rows, outputs).

    Parameters
    ----------
    plan : Plan
    params : ndarray of shape (n_parameters,)
    X : ndarray or SciPy sparse matrix of shape (rows, inputs)
        Converted block by block where it is not of the network's dtype.
    """
    network = plan.network
    out = np.empty((X.shape[0], network.outputs), network.dtype)
    for part, block in dense_blocks(X, block_rows(network.n_parameters), network.dtype):
        plan.forward(params, block, out[part])
    return out


def without_output_activation(network: Network) -> Network:
    """The same chain, with the same parameters, ending in the scores before the output activation."""
    last = replace(network.layers[-1], activation="identity")
    return replace(network, layers=(*network.layers[:-1], last), loss="squared_error")
