"""The Numba backend's way through a large network: NumPy's matrix products, and one compiled pass for all the rest.

Beyond some thirty million multiply-adds a step the products decide the time, and NumPy's BLAS computes them on all
cores; the Python calls between them no longer count.  Everything else (bias and activation, loss and deltas, slopes,
penalties, the optimizer) is one compiled pass over memory that is allocated once.
"""

from __future__ import annotations

import numpy as np

from pymlp.backends import BLOCK_ROWS
from pymlp.backends.numba_functions import (
    ACTIVATION_CODES,
    activate,
    cached,
    pull_back,
)
from pymlp.backends.numba_losses import LOSS_CODES, loss_and_deltas, penalise
from pymlp.backends.numba_optimizers import optimizer_constants, optimizer_step
from pymlp.functions import ACTIVATIONS
from pymlp.network import Network
from pymlp.optimizers import Optimizer

# rows of a block of `forward`, at least: fewer would starve the products
FORWARD_ROWS = 256


def flat_pieces(network: Network) -> np.ndarray:
    """Start and stop of each layer's weights and biases in the flat vector: int64 (layers, 4)."""
    return np.array([(p.weight.start, p.weight.stop, p.bias.start, p.bias.stop) for p in network.layout], np.int64)


@cached
def add_bias_and_activate(code, scores, bias, values):
    """Add the bias to the scores, in place, and write their activation; all (rows, outputs), perhaps one array."""
    rows, outputs = scores.shape
    for row in range(rows):
        z, a = scores[row], values[row]
        for j in range(outputs):
            z[j] += bias[j]
        # row by row: the numbers are still in the first-level cache
        activate(code, z, a, 1, outputs, outputs)


@cached
def slope_times(code, scores, values, deltas):
    """Turn the gradient by the outputs into that by the scores, in place."""
    rows, outputs = deltas.shape
    pull_back(code, scores.ravel(), values.ravel(), deltas.ravel(), rows, outputs, outputs)


@cached
def output_deltas(loss, y, outputs, weight, weight_sum, epsilon, deltas):
    """Sum of the losses of a block; their gradient by the scores goes to `deltas`."""
    return loss_and_deltas(loss, y, outputs.ravel(), y.shape[1], weight, weight_sum, epsilon, deltas.ravel())


@cached
def column_sums(deltas, sums):
    """Add the sums over the rows of `deltas` into `sums`."""
    for row in range(len(deltas)):
        delta = deltas[row]
        for j in range(len(sums)):
            sums[j] += delta[j]


@cached
def add_penalties(pieces, params, gradient, l1, l2, weight_sum):
    """Entry to `penalise`."""
    return penalise(pieces, params, gradient, l1, l2, weight_sum)


@cached
def optimize(pieces, kind, constants, size, decay, params, gradient, slots):
    """Entry to `optimizer_step`."""
    optimizer_step(pieces, kind, constants, size, decay, params, gradient, slots)


class WideNetwork:
    """The verbs of one network on NumPy's products; arguments are checked, None is not among them."""

    def __init__(self, network: Network, batch_size: int, stop: np.ndarray) -> None:
        self._network = network
        self._pieces = flat_pieces(network)
        self._codes = [ACTIVATION_CODES[layer.activation] for layer in network.layers]
        self._loss, self._epsilon = LOSS_CODES[network.loss], float(np.finfo(network.dtype).eps)
        self._block = min(max(batch_size, FORWARD_ROWS), BLOCK_ROWS)
        self._scores, self._values, self._deltas = [], [], []
        for layer in network.layers:
            shape = (self._block, layer.outputs)
            self._scores.append(np.empty(shape, network.dtype))
            uses_scores = ACTIVATIONS[layer.activation].uses == "input"
            self._values.append(np.empty(shape, network.dtype) if uses_scores else self._scores[-1])
            self._deltas.append(np.empty(shape, network.dtype))
        # made when a verb first needs it
        self._gradient = None
        self._batch = None
        self._stop = stop

    def forward(self, params: np.ndarray, X: np.ndarray, out: np.ndarray) -> None:
        """Write network(X) into `out`."""
        for start in range(0, len(X), self._block):
            rows = X[start : start + self._block]
            self._forward_block(params, rows)
            if self._stop[0]:
                return
            out[start : start + len(rows)] = self._values[-1][: len(rows)]

    def backward(
        self,
        params: np.ndarray,
        X: np.ndarray,
        output_gradient: np.ndarray,
        gradient: np.ndarray,
        x_gradient: np.ndarray,
    ) -> None:
        """Vector-Jacobian product; `gradient` and `x_gradient` are of length 0 where they are not wanted."""
        gradient[:] = 0
        for start in range(0, len(X), self._block):
            rows = X[start : start + self._block]
            count = len(rows)
            self._forward_block(params, rows)
            deltas = self._deltas[-1][:count]
            deltas[:] = output_gradient[start : start + count]
            slope_times(self._codes[-1], self._scores[-1][:count], self._values[-1][:count], deltas)
            part = x_gradient[start : start + count] if len(x_gradient) else None
            self._backward_block(params, rows, gradient if len(gradient) else None, start == 0, part)
            if self._stop[0]:
                return

    def loss_gradient(
        self, params: np.ndarray, X: np.ndarray, y: np.ndarray, weight: np.ndarray, gradient: np.ndarray
    ) -> float:
        """Loss and gradient of a batch; `weight` is of length 0 where there are none."""
        weight_sum = float(weight.sum(dtype=np.float64)) if len(weight) else float(len(X))
        if weight_sum == 0.0:
            gradient[:] = 0
            return 0.0
        total = 0.0
        for start in range(0, len(X), self._block):
            rows = X[start : start + self._block]
            count = len(rows)
            self._forward_block(params, rows)
            total += output_deltas(
                self._loss, y[start : start + count], self._values[-1][:count], weight[start : start + count],
                weight_sum, self._epsilon, self._deltas[-1][:count],
            )  # fmt: skip
            self._backward_block(params, rows, gradient, start == 0, None)
            if self._stop[0]:
                return 0.0
        l1, l2 = self._network.l1, self._network.l2
        if l1 or l2:
            total += add_penalties(self._pieces, params, gradient, l1, l2, weight_sum)
        return total / weight_sum

    def train(
        self,
        optimizer: Optimizer,
        coefficients: np.ndarray,
        params: np.ndarray,
        slots: np.ndarray,
        X: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray,
        order: np.ndarray,
        starts: np.ndarray,
        losses: np.ndarray,
    ) -> None:
        """The loop over the batches; `coefficients` as the optimizer gives them, in the network's dtype."""
        if self._gradient is None:
            self._gradient = np.empty_like(params)
        kind, constants = optimizer_constants(optimizer, self._network.dtype)
        no_weight = weight[:0]
        for i in range(len(losses)):
            rows = order[starts[i] : starts[i + 1]]
            batch_weight = weight[rows] if len(weight) else no_weight
            losses[i] = self.loss_gradient(params, *self._gather(X, y, rows), batch_weight, self._gradient)
            if self._stop[0]:
                return
            if len(rows) and (len(weight) == 0 or batch_weight.sum(dtype=np.float64) != 0):
                size, decay = coefficients[i, :2]
                optimize(self._pieces, kind, constants, size, decay, params, self._gradient, slots)

    def _gather(self, X: np.ndarray, y: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._batch is None or len(self._batch[0]) < len(rows):
            self._batch = tuple(np.empty((len(rows), part.shape[1]), part.dtype) for part in (X, y))
        # the row numbers are checked already; without a mode, take copies its output once more
        parts = (
            part.take(rows, axis=0, out=to[: len(rows)], mode="clip")
            for part, to in zip((X, y), self._batch, strict=True)
        )
        return tuple(parts)

    def _forward_block(self, params: np.ndarray, source: np.ndarray) -> None:
        rows = len(source)
        weights, biases = self._network.weights(params), self._network.biases(params)
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            if self._stop[0]:
                return
            scores, values = self._scores[layer][:rows], self._values[layer][:rows]
            np.matmul(source, weight, out=scores)
            add_bias_and_activate(self._codes[layer], scores, bias, values)
            source = values

    def _backward_block(
        self,
        params: np.ndarray,
        source: np.ndarray,
        gradient: np.ndarray | None,
        is_first: bool,
        x_gradient: np.ndarray | None,
    ) -> None:
        """Carry the last layer's deltas back; write (first block) or add (others) into `gradient`."""
        rows = len(source)
        weights = self._network.weights(params)
        for layer in reversed(range(len(weights))):
            if self._stop[0]:
                return
            deltas = self._deltas[layer][:rows]
            values = self._values[layer - 1][:rows] if layer else source
            if gradient is not None:
                part = self._network.layout[layer]
                if is_first:
                    np.matmul(values.T, deltas, out=gradient[part.weight].reshape(part.inputs, part.outputs))
                    gradient[part.bias] = 0
                else:
                    gradient[part.weight] += (values.T @ deltas).ravel()
                column_sums(deltas, gradient[part.bias])
            if layer:
                before = self._deltas[layer - 1][:rows]
                np.matmul(deltas, weights[layer].T, out=before)
                slope_times(self._codes[layer - 1], self._scores[layer - 1][:rows], values, before)
            elif x_gradient is not None:
                np.matmul(deltas, weights[0].T, out=x_gradient)
