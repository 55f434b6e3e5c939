"""The NumPy backend: the readable definition of what the other two compute.

Written for the reader, not for speed: each verb is the textbook formula over whole arrays, in the network's dtype.
"""

from __future__ import annotations

import functools

import numpy as np

from pymlp.backends import BLOCK_ROWS, StoppedError
from pymlp.backends.plan_predictor import PlanPredictor
from pymlp.config import resolve_threads
from pymlp.functions import ACTIVATIONS, LOSSES
from pymlp.network import Network
from pymlp.optimizers import SGD, Adam


class Plan:
    """See `pymlp.backends.Plan`."""

    def __init__(self, network: Network, batch_size: int, n_threads: int | None = None) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
        self.network = network
        self.batch_size = int(batch_size)
        self.n_threads = int(resolve_threads(n_threads).value)
        self._stopped = False

    def shuffle(self, order: np.ndarray, source: np.random.RandomState | np.random.Generator) -> None:
        """Shuffle `order` in place."""
        source.shuffle(order)

    def stop(self) -> None:
        """Ask the verb that is running, or else the next one, to raise StoppedError soon."""
        self._stopped = True

    def _check_stop(self) -> None:
        if self._stopped:
            self._stopped = False
            raise StoppedError("stopped on request")

    def _forward_pass(self, params: np.ndarray, X: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Pre-activations of every layer, and outputs of every layer with X before them."""
        pre_activations, outputs = [], [X]
        weights, biases = self.network.weights(params), self.network.biases(params)
        for layer, weight, bias in zip(self.network.layers, weights, biases, strict=True):
            self._check_stop()
            pre_activations.append(outputs[-1] @ weight + bias)
            outputs.append(ACTIVATIONS[layer.activation].value(pre_activations[-1]))
        return pre_activations, outputs

    def _backward_pass(
        self,
        params: np.ndarray,
        pre_activations: list[np.ndarray],
        outputs: list[np.ndarray],
        deltas: np.ndarray,
        gradient: np.ndarray | None,
        x_gradient: np.ndarray | None = None,
    ) -> None:
        """Carry `deltas`, the gradient by the last pre-activations, back; adds into `gradient`, fills `x_gradient`."""
        weights = self.network.weights(params)
        for position in reversed(range(len(weights))):
            self._check_stop()
            if gradient is not None:
                part = self.network.layout[position]
                gradient[part.weight] += (outputs[position].T @ deltas).ravel()
                gradient[part.bias] += deltas.sum(axis=0)
            if position > 0:
                row = ACTIVATIONS[self.network.layers[position - 1].activation]
                deltas = row.pullback(pre_activations[position - 1], outputs[position], deltas @ weights[position].T)
            elif x_gradient is not None:
                x_gradient[...] = deltas @ weights[0].T

    @np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
    def forward(
        self, params: np.ndarray, X: np.ndarray, out: np.ndarray, step: int | None = None, row_offset: int = 0
    ) -> None:
        """Write network(X) into `out`."""
        for start in range(0, len(X), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            out[rows] = self._forward_pass(params, X[rows])[1][-1]

    @np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
    def backward(
        self,
        params: np.ndarray,
        X: np.ndarray,
        output_gradient: np.ndarray,
        gradient: np.ndarray | None = None,
        x_gradient: np.ndarray | None = None,
        step: int | None = None,
        row_offset: int = 0,
    ) -> None:
        """Gradients of ``sum(network(X) * output_gradient)`` to the parameters and to X."""
        self._check_rows(len(X))
        if gradient is not None:
            gradient[:] = 0
        last = ACTIVATIONS[self.network.output_activation]
        for start in range(0, len(X), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            pre_activations, outputs = self._forward_pass(params, X[rows])
            deltas = last.pullback(pre_activations[-1], outputs[-1], output_gradient[rows])
            part = None if x_gradient is None else x_gradient[rows]
            self._backward_pass(params, pre_activations, outputs, deltas, gradient, part)

    @np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
    def loss_gradient(
        self,
        params: np.ndarray,
        X: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray | None,
        gradient: np.ndarray,
        step: int | None = None,
        row_offset: int = 0,
    ) -> float:
        """Mean loss with the penalties; its gradient overwrites `gradient`."""
        self._check_rows(len(X))
        network, loss = self.network, LOSSES[self.network.loss]
        gradient[:] = 0
        weight_sum = float(len(X)) if weight is None else float(weight.sum(dtype=np.float64))
        if weight_sum == 0.0:
            return 0.0
        total = 0.0
        for start in range(0, len(X), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            pre_activations, outputs = self._forward_pass(params, X[rows])
            values = loss.value(y[rows], outputs[-1])
            deltas = loss.delta(y[rows], outputs[-1])
            if weight is not None:
                # a row of weight zero counts as removed, even where its loss is infinite
                values = np.where(weight[rows] == 0, 0, values * weight[rows])
                deltas = np.where(weight[rows, None] == 0, 0, deltas * weight[rows, None])
            total += float(values.sum(dtype=np.float64))
            self._backward_pass(params, pre_activations, outputs, deltas, gradient)
        for part in network.layout:
            W = params[part.weight]
            if network.l2:
                total += 0.5 * network.l2 * float(np.square(W, dtype=np.float64).sum())
                gradient[part.weight] += network.l2 * W
            if network.l1:
                total += network.l1 * float(np.abs(W).sum(dtype=np.float64))
                gradient[part.weight] += network.l1 * np.sign(W)
        gradient /= weight_sum
        return total / weight_sum

    @np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
    def update(
        self, optimizer: SGD | Adam, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, step: int, rate: float
    ) -> None:
        """One step of the optimizer, in place; weight decay spares the biases."""
        size, decay = optimizer.coefficients(np.array([step]), np.array([rate]))[0].tolist()
        for part in self.network.layout:
            for piece, piece_decay in ((part.weight, decay), (part.bias, 0.0)):
                optimizer.apply(params[piece], gradient[piece], slots[:, piece], size, piece_decay)

    def train_steps(
        self,
        optimizer: SGD | Adam,
        params: np.ndarray,
        slots: np.ndarray,
        step: int,
        X: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray | None,
        order: np.ndarray,
        starts: np.ndarray,
        rates: np.ndarray,
        losses: np.ndarray,
    ) -> None:
        """The loop of `loss_gradient` and `update` over the batches."""
        used = order[starts[0] : starts[-1]]
        if len(used) and (used.min() < 0 or used.max() >= len(X)):
            raise IndexError(f"order holds a row number outside the {len(X)} rows of X")
        gradient = np.empty_like(params)
        for i in range(len(rates)):
            rows = order[starts[i] : starts[i + 1]]
            batch_weight = None if weight is None else weight[rows]
            losses[i] = self.loss_gradient(params, X[rows], y[rows], batch_weight, gradient, step + i)
            if (len(rows) if batch_weight is None else batch_weight.sum(dtype=np.float64)) != 0:
                self.update(optimizer, params, gradient, slots, step + i, rates[i])

    def _check_rows(self, rows: int) -> None:
        if rows > self.batch_size:
            raise ValueError(f"{rows} rows exceed the plan's batch_size={self.batch_size}")


Predictor = functools.partial(PlanPredictor, Plan)
