"""Running a network forward over many rows, dense or sparse, in blocks short enough for Ctrl-C between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from pymlp.arrays import finite_numbers, packed, refuse_others
from pymlp.backends import Plan, Predictor
from pymlp.finiteness import check_finite
from pymlp.interruptible import ASSUMED_FLOPS_PER_SECOND, DIRECT_SECONDS
from pymlp.network import Network
from pymlp.rows import as_taken, dense_blocks, is_gathered
from pymlp.sparse_rows import SparseRows

# fewer rows than this keep neither the threads nor the tiles busy
LEAST_BLOCK_ROWS = 64


def block_rows(n_parameters: int) -> int:
    """Rows of one call, by the pessimistic guess of a backend's speed."""
    return max(LEAST_BLOCK_ROWS, int(DIRECT_SECONDS * ASSUMED_FLOPS_PER_SECOND / (2.0 * n_parameters)))


def shaped_rows(network: Network, X: Any) -> Any:
    """X as an array or a sparse matrix, in which one row may have one dimension.

    Raises
    ------
    TypeError, ValueError
        X holds what is no number, or not as many in a row as the network has inputs.
    """
    refuse_others("X", X)
    sparse = hasattr(X, "tocsr")
    X = X if sparse else np.asarray(X)
    if X.ndim not in ((2,) if sparse else (1, 2)) or X.shape[-1] != network.inputs:
        shapes = f"(rows, {network.inputs}), or ({network.inputs},) for one row"
        raise ValueError(f"X must be of shape {shapes}, got {tuple(X.shape)}")
    return X


def checked_rows(network: Network, X: Any) -> np.ndarray | SparseRows:
    """X as the verbs of a plan take it, but that one row may have one dimension.

    Raises
    ------
    TypeError, ValueError
        X does not hold finite numbers, or not as many in a row as the network has inputs.
    """
    X = shaped_rows(network, X)
    if not hasattr(X, "tocsr"):
        return finite_numbers("X", X, network.dtype)
    check_finite("X", X, network.dtype)
    X = as_taken(network, X)
    return X if isinstance(X, SparseRows) else packed(X.toarray(), network.dtype)


def predict_rows(predictor: Predictor, X: Any, out: np.ndarray) -> None:
    """Write what the network says of X into `out`.

    Parameters
    ----------
    predictor : pymlp.backends.Predictor
    X : ndarray or SciPy sparse matrix of shape (rows, inputs)
        Converted block by block where it is not of the network's dtype, or not C-contiguous.
    out : ndarray of shape (rows, predictor.columns)
        C-contiguous, of the network's dtype.
    """
    _in_blocks(predictor.network, predictor.predict, X, out, grows=predictor.exact_cuts)


def gradient_rows(network: Network) -> int:
    """Rows of one call for values and gradients: forward, and back for each of the outputs."""
    flops = 2.0 * network.n_parameters * (1 + network.outputs)
    return max(1, int(DIRECT_SECONDS * ASSUMED_FLOPS_PER_SECOND / flops))


def differentiate_rows(predictor: Predictor, X: Any, out: np.ndarray | None, jacobian: np.ndarray) -> None:
    """Write what the network says of X into `out`, if there is one, and its derivative by X into `jacobian`.

    Parameters
    ----------
    predictor : pymlp.backends.Predictor
    X : ndarray or SciPy sparse matrix of shape (rows, inputs)
        Converted block by block where it is not of the network's dtype, not C-contiguous, or sparse.
    out : ndarray of shape (rows, predictor.columns), or None
    jacobian : ndarray of shape (rows, predictor.columns, inputs)
        As `out` C-contiguous, of the network's dtype.
    """
    network = predictor.network
    for part, block in dense_blocks(X, gradient_rows(network), network.dtype):
        predictor.value_and_gradient(block, None if out is None else out[part], jacobian[part])


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
    _in_blocks(network, lambda block, part: plan.forward(params, block, part), X, out, grows=False)
    return out


def _in_blocks(
    network: Network, forward: Callable[[np.ndarray, np.ndarray], Any], X: Any, out: np.ndarray, *, grows: bool
) -> None:
    rows, dtype = block_rows(network.n_parameters), network.dtype
    X = as_taken(network, X)
    if is_gathered(X, dtype) or not (grows or isinstance(X, SparseRows)):
        for part, block in dense_blocks(X, rows, dtype):
            forward(block, out[part])
        return
    start = 0
    while start < len(X):
        end, began = min(start + rows, len(X)), perf_counter()
        block = X[start:end]
        forward(block if isinstance(X, SparseRows) else packed(block, dtype), out[start:end])
        start = end
        # the guess was far too pessimistic: so short a call costs more than its work
        if grows and perf_counter() - began < DIRECT_SECONDS / 4:
            rows *= 2


def without_output_activation(network: Network) -> Network:
    """The same chain, with the same parameters, ending in the scores before the output activation."""
    last = replace(network.layers[-1], activation="identity")
    return replace(network, layers=(*network.layers[:-1], last), loss="squared_error")
