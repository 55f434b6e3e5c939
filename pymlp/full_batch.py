"""Loss and gradient over all rows at once, at any point of the parameters: what minimisers and samplers ask for.

Points and gradients are float64, whatever the network computes in.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from pymlp.backends import Plan
from pymlp.interruptible import DIRECT_SECONDS, run_interruptibly, training_seconds
from pymlp.network import Network
from pymlp.rows import DENSE_BYTES, as_taken, dense_blocks, is_gathered


def penalty(network: Network, params: np.ndarray) -> float:
    """L1 and L2 of the weights, which a loss divides by the sum of the row weights."""
    total = 0.0
    if network.l1 or network.l2:
        for layer in network.layout:
            W = params[layer.weight].astype(np.float64)
            # not by BLAS, whose sums depend on its threads
            total += 0.5 * network.l2 * float(np.square(W).sum()) + network.l1 * float(np.abs(W).sum())
    return total


class FullBatch:
    """Loss and gradient over all rows, as SciPy asks for them.

    Parameters
    ----------
    module : module
        A backend.
    network : Network
    X : ndarray or CSR matrix of shape (rows, inputs)
        One that an engine does not take as it is (another dtype, say) is converted block by block, never as a whole.
    y : ndarray of shape (rows, outputs)
    weight : ndarray of shape (rows,), or None
    n_threads : int, optional
        Upper bound on the threads of one call.
    """

    def __init__(
        self,
        module: Any,
        network: Network,
        X: Any,
        y: np.ndarray,
        weight: np.ndarray | None,
        n_threads: int | None = None,
    ) -> None:
        X = as_taken(network, X)
        self.network, self.X, self.y, self.weight = network, X, y, weight
        rows = X.shape[0]
        self.gathered = is_gathered(X, network.dtype)
        self.block = rows
        planned = network
        if self.gathered:
            self.block = max(1, min(rows, DENSE_BYTES // (X.shape[1] * np.dtype(network.dtype).itemsize)))
            # over blocks every call would add the penalty: `_over_blocks` adds it once
            planned = replace(network, l1=0.0, l2=0.0)
        self.plan: Plan = module.Plan(planned, self.block, n_threads)
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

    @property
    def gradient_dtype(self) -> str:
        """The type in which a gradient loses nothing."""
        return "float64" if self.gathered else self.network.dtype

    def recall(self, loss: float, gradient: np.ndarray) -> tuple[float, np.ndarray]:
        """Give what an earlier call has given."""
        self.last_loss = loss
        self.evaluations += 1
        return loss, gradient

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
            gradient[layer.weight] += self.network.l2 * W + self.network.l1 * np.sign(W)
        return (loss + penalty(self.network, params)) / whole, gradient / whole
