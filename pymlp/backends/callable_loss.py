"""Losses that Python computes, for the backends that compute all else themselves.

A loss of one's own stands between two verbs of a plan: `forward` gives the outputs, the function the values and the
gradient by the outputs, and `backward` carries that to the parameters.  So a function of Python serves every backend,
and no backend knows of it but for the `if` that leads here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pymlp.backends.numpy import penalties, train_steps
from pymlp.rows import counted_rows

__all__ = ["loss_gradient", "train_steps"]


def loss_gradient(
    plan: Any,
    params: np.ndarray,
    X: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None,
    gradient: np.ndarray,
    step: int | None = None,
    row_offset: int = 0,
) -> float:
    """`Plan.loss_gradient` by the plan's other verbs; the loss is a `pymlp.losses.CustomLoss`.

    Raises
    ------
    ValueError
        An array does not fit the network, or the loss does not return what it should.
    """
    network, rows = plan.network, X.shape[0]
    _check("y", y, (rows, network.outputs), network.dtype)
    if weight is not None:
        _check("weight", weight, (rows,), network.dtype)
    weight_sum = float(rows) if weight is None else float(weight.sum(dtype=np.float64))
    if weight_sum == 0.0:
        gradient[:] = 0
        return 0.0
    X = counted_rows(X, weight)
    output = np.empty((rows, network.outputs), network.dtype)
    plan.forward(params, X, output, step, row_offset)
    values, by_output = network.loss_function.evaluate(y, output)
    if weight is not None:
        # a row of weight zero counts as removed, even where its loss is infinite
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            values = np.where(weight == 0, 0, values * weight)
            by_output = np.where(weight[:, None] == 0, 0, by_output * weight[:, None])
    plan.backward(params, X, np.ascontiguousarray(by_output), gradient, None, step, row_offset)
    total = float(values.sum(dtype=np.float64)) + penalties(network, params, gradient)
    gradient /= weight_sum
    return total / weight_sum


def _check(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: str) -> None:
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{name} must be a {dtype} array of shape {shape}, got {found}")
