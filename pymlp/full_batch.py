"""The loss of a network over all rows of its data, with its gradient.

L-BFGS minimises it; `pymlp.train` validates by it, since it serves every loss that a backend can compute.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from pymlp.backends import Plan
from pymlp.interruptible import DIRECT_SECONDS, run_interruptibly, training_seconds
from pymlp.network import Network
from pymlp.rows import DENSE_BYTES, dense_blocks, is_gathered


class FullBatch:
    """Loss and gradient over all rows, at any point.

    Parameters
    ----------
    module : module
        A backend.
    network : Network
    X : ndarray or CSR matrix of shape (rows, inputs)
        A sparse one is made dense block by block, never as a whole; one of another dtype is converted so.
    y : ndarray of shape (rows, outputs)
    weight : ndarray of shape (rows,), or None
    """

    def __init__(self, module: Any, network: Network, X: Any, y: np.ndarray, weight: np.ndarray | None) -> None:
        self.network, self.X, self.y, self.weight = network, X, y, weight
        rows = X.shape[0]
        self.gathered = is_gathered(X, network.dtype)
        self.block = rows
        planned = network
        if self.gathered:
            self.block = max(1, min(rows, DENSE_BYTES // (X.shape[1] * np.dtype(network.dtype).itemsize)))
            # over blocks every call would add the penalty: `_over_blocks` adds it once
            planned = replace(network, l1=0.0, l2=0.0)
        self.plan: Plan = module.Plan(planned, self.block)
        self.gradient = np.empty(network.n_parameters, network.dtype)
        self.evaluations = 0
        self.last_loss = np.inf
        self._seconds = training_seconds(network.n_parameters, self.block)

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss and gradient (float64) at a point of shape (n_parameters,)."""
        params = np.ascontiguousarray(point, self.network.dtype)
        if self.gathered:
            self.last_loss, gradient = self._over_blocks(params)
        else:
            self.last_loss = self._call(params, self.X, self.y, self.weight)
            gradient = self.gradient.astype(np.float64)
        self.evaluations += 1
        return self.last_loss, gradient

    def _call(self, params: np.ndarray, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
        def call() -> float:
            return self.plan.loss_gradient(params, X, y, weight, self.gradient)

        began = perf_counter()
        loss = run_interruptibly(call, self.plan.stop) if self._seconds > DIRECT_SECONDS else call()
        self._seconds = perf_counter() - began
        return loss

    def _over_blocks(self, params: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient, whole = 0.0, np.zeros(len(params)), 0.0
        for part, block in dense_blocks(self.X, self.block, self.network.dtype):
            weight = None if self.weight is None else self.weight[part]
            share = float(len(block)) if weight is None else float(weight.sum(dtype=np.float64))
            loss += share * self._call(params, block, self.y[part], weight)
            gradient += share * self.gradient
            whole += share
        for layer in self.network.layout:
            W = params[layer.weight].astype(np.float64)
            loss += 0.5 * self.network.l2 * float(W @ W) + self.network.l1 * float(np.abs(W).sum())
            gradient[layer.weight] += self.network.l2 * W + self.network.l1 * np.sign(W)
        return loss / whole, gradient / whole
