"""Looking into a network at work: how its outputs follow its inputs, and what each layer makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pymlp import backends
from pymlp.backends.numpy import Plan
from pymlp.inference import block_rows
from pymlp.network import Network
from pymlp.rows import dense_blocks


def output_of(target: Any, known: Sequence[Any], outputs: int) -> tuple[int | None, int]:
    """The output that speaks for a target, None for all of several, and its sign: of two classes, the only output
    speaks for the second.

    Parameters
    ----------
    target : label, int or None
    known : sequence
        What `target` may be: the classes, or the numbers of the outputs.
    outputs : int

    Raises
    ------
    ValueError
        `target` is none of the known.
    """
    if target is None:
        return (0 if outputs == 1 else None), 1
    known = np.asarray(known).tolist()
    if target not in known:
        raise ValueError(f"target must be one of {known}, got {target!r}")
    position = known.index(target)
    return (position, 1) if len(known) == outputs else (0, 1 if position else -1)


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


def layer_outputs(network: Network, params: np.ndarray, X: Any) -> list[np.ndarray]:
    """What each layer passes on, in inference.

    It is computed by the NumPy backend, the only one that keeps all of it: the last agrees with the network's outputs
    up to rounding.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (n_parameters,)
    X : ndarray or SciPy sparse matrix of shape (rows, inputs)
        A sparse one is made dense block by block.

    Returns
    -------
    list of ndarray of shape (rows, layer's outputs)
    """
    outputs = [np.empty((X.shape[0], layer.outputs), network.dtype) for layer in network.layers]
    block = block_rows(network.n_parameters)
    plan = Plan(network, block)
    for part, x in dense_blocks(X, block, network.dtype):
        for row, values in zip(network.table, plan.row_outputs(params, x), strict=True):
            # a layer's last row is the one that stays
            if row.layer >= 0:
                outputs[row.layer][part] = values
    return outputs
