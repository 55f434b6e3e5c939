"""Looking into a network at work: how its outputs follow its inputs, and what each layer makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pymlp import backends
from pymlp.inference import block_rows
from pymlp.network import Network
from pymlp.rows import dense_blocks


def input_gradient(network: Network, params: np.ndarray, X: Any, column: int | None = None) -> np.ndarray:
    """Derivatives of a network's outputs by its inputs, by `Plan.backward`.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (n_parameters,)
    X : ndarray or SciPy sparse matrix of shape (rows, inputs)
        A sparse one is made dense block by block.
    column : int, optional
        The output to differentiate; all by default.

    Returns
    -------
    ndarray of shape (rows, inputs), or (rows, outputs, inputs) for all outputs
    """
    columns = range(network.outputs) if column is None else (column,)
    rows = X.shape[0]
    gradients = np.empty((rows, len(columns), network.inputs), network.dtype)
    block = max(1, min(rows, block_rows(network.n_parameters)))
    plan = backends.get().Plan(network, block)
    for part, x in dense_blocks(X, block, network.dtype):
        x_gradient = np.empty_like(x)
        for position, chosen in enumerate(columns):
            by_output = np.zeros((len(x), network.outputs), network.dtype)
            by_output[:, chosen] = 1
            plan.backward(params, x, by_output, x_gradient=x_gradient)
            gradients[part, position] = x_gradient
    return gradients if column is None else gradients[:, 0]
