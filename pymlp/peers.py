"""Training steps as one writes them by hand in NumPy: tightly, and plainly.

These are what the engines are measured against (``pymlp bench`` and the benchmarks of the source tree), so they live in
the package and not beside either.  Both run mini-batch Adam on a perceptron with relu in its hidden layers and compute
just what a backend's ``train_steps`` computes, losses included; the tests hold them to its results.

`TightNumpyStep` is NumPy at its best: every product and every element-wise pass writes into scratch made once, and the
optimizer walks the flat vector in pieces that stay in the cache.  `PlainNumpyStep` is the textbook's text: one
expression a formula, a new array for each.  The difference between the two is the price of temporaries.
"""

from __future__ import annotations

import numpy as np

from pymlp.functions import logistic, softmax
from pymlp.losses import LOSSES
from pymlp.network import Network
from pymlp.optimizers import Adam

# elements of a piece of the optimizer's walk: five float32 arrays of it take 320 KB, which a second-level cache holds
PIECE = 16384


def _check_network(network: Network) -> None:
    hidden = {layer.activation for layer in network.layers[:-1]}
    if hidden - {"relu"}:
        raise ValueError(f"the hidden layers must have relu, got {', '.join(sorted(hidden))}")
    if network.loss == "poisson":
        raise ValueError("loss='poisson' is not written out here")
    if network.l1 or network.l2:
        raise ValueError(f"penalties are not written out here, got l1={network.l1}, l2={network.l2}")


class TightNumpyStep:
    """Adam steps in NumPy without temporaries.

    Parameters
    ----------
    network : Network
        relu in the hidden layers; squared error, log loss or binary log loss; no penalty.
    batch_size : int
        Most rows of one batch.

    Raises
    ------
    ValueError
        A network that is not written out here.
    """

    def __init__(self, network: Network, batch_size: int) -> None:
        _check_network(network)
        self.network = network
        self.batch_size = batch_size
        self.optimizer = Adam()
        self._rows = [np.empty((batch_size, width), network.dtype) for width in network.widths]
        self._deltas = [np.empty((batch_size, width), network.dtype) for width in network.widths[1:]]
        self._positive = [np.empty((batch_size, width), bool) for width in network.widths[1:-1]]
        self._targets = np.empty((batch_size, network.outputs), network.dtype)
        self._terms = np.empty((batch_size, network.outputs), network.dtype)
        self._column = np.empty((batch_size, 1), network.dtype)
        self._ones = np.ones(batch_size, network.dtype)
        self._gradient = np.empty(network.n_parameters, network.dtype)
        self._piece = np.empty(min(PIECE, network.n_parameters), network.dtype)

    def run(
        self,
        params: np.ndarray,
        slots: np.ndarray,
        X: np.ndarray,
        y: np.ndarray,
        order: np.ndarray,
        starts: np.ndarray,
        rates: np.ndarray,
        step: int = 0,
    ) -> np.ndarray:
        """Take one step a batch, in place on `params` and `slots`; arguments as in `pymlp.backends.Plan.train_steps`.

        Returns
        -------
        ndarray of shape (len(rates),)
            Mean loss of each batch before its update.
        """
        weights, biases = self.network.weights(params), self.network.biases(params)
        weight_gradients, bias_gradients = self.network.weights(self._gradient), self.network.biases(self._gradient)
        sizes = self.optimizer.coefficients(step, rates)[:, 0].tolist()
        losses = np.empty(len(rates))
        for i, size in enumerate(sizes):
            rows = order[starts[i] : starts[i + 1]]
            count = len(rows)
            outputs = [buffer[:count] for buffer in self._rows]
            deltas = [buffer[:count] for buffer in self._deltas]
            targets = self._targets[:count]
            # mode="clip" lets take write straight into the buffer; with the default it would go through a copy
            np.take(X, rows, axis=0, out=outputs[0], mode="clip")
            np.take(y, rows, axis=0, out=targets, mode="clip")
            for position, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                np.matmul(outputs[position], weight, out=outputs[position + 1])
                outputs[position + 1] += bias
                if position + 1 < len(weights):
                    np.maximum(outputs[position + 1], 0, out=outputs[position + 1])
            self._activate(outputs[-1])
            np.subtract(outputs[-1], targets, out=deltas[-1])
            losses[i] = self._loss(outputs[-1], targets, deltas[-1])
            deltas[-1] *= 1.0 / count
            for position in reversed(range(len(weights))):
                np.matmul(outputs[position].T, deltas[position], out=weight_gradients[position])
                np.matmul(self._ones[:count], deltas[position], out=bias_gradients[position])
                if position > 0:
                    np.matmul(deltas[position], weights[position].T, out=deltas[position - 1])
                    positive = self._positive[position - 1][:count]
                    np.greater(outputs[position], 0, out=positive)
                    deltas[position - 1] *= positive
            self._update(params, slots, size)
        return losses

    def _activate(self, scores: np.ndarray) -> None:
        column = self._column[: len(scores)]
        if self.network.loss == "log_loss":
            np.max(scores, axis=1, keepdims=True, out=column)
            scores -= column
            np.exp(scores, out=scores)
            np.sum(scores, axis=1, keepdims=True, out=column)
            scores /= column
        elif self.network.loss == "binary_log_loss":
            # 1 / (1 + exp(-z)) as (1 + tanh(z / 2)) / 2: one function, and no overflow at either end
            scores *= 0.5
            np.tanh(scores, out=scores)
            scores += 1
            scores *= 0.5

    def _loss(self, outputs: np.ndarray, targets: np.ndarray, difference: np.ndarray) -> float:
        count = len(outputs)
        if self.network.loss == "squared_error":
            return 0.5 * float(np.vdot(difference, difference)) / outputs.size
        terms = self._terms[:count]
        epsilon = np.finfo(terms.dtype).eps
        np.clip(outputs, epsilon, 1 - epsilon, out=terms)
        if self.network.loss == "log_loss":
            np.log(terms, out=terms)
            return -float(np.vdot(terms, targets)) / count
        # targets are 0 or 1: the probability of what happened is |1 - y - p|
        terms += targets
        terms -= 1
        np.abs(terms, out=terms)
        np.log(terms, out=terms)
        return -float(terms.sum()) / count

    def _update(self, params: np.ndarray, slots: np.ndarray, size: float) -> None:
        beta_1, beta_2, epsilon = self.optimizer.beta_1, self.optimizer.beta_2, self.optimizer.epsilon
        for start in range(0, len(params), PIECE):
            part = slice(start, start + PIECE)
            gradient, first, second = self._gradient[part], slots[0, part], slots[1, part]
            scratch = self._piece[: len(gradient)]
            first *= beta_1
            np.multiply(gradient, 1 - beta_1, out=scratch)
            first += scratch
            second *= beta_2
            np.multiply(gradient, gradient, out=scratch)
            scratch *= 1 - beta_2
            second += scratch
            np.sqrt(second, out=scratch)
            scratch += epsilon
            np.divide(first, scratch, out=scratch)
            scratch *= size
            params[part] -= scratch


class PlainNumpyStep:
    """Adam steps in NumPy, one expression a formula.

    Parameters
    ----------
    network : Network
        relu in the hidden layers; squared error, log loss or binary log loss; no penalty.
    batch_size : int
        Most rows of one batch; nothing depends on it.

    Raises
    ------
    ValueError
        A network that is not written out here.
    """

    def __init__(self, network: Network, batch_size: int) -> None:
        _check_network(network)
        self.network = network
        self.batch_size = batch_size
        self.optimizer = Adam()

    def run(
        self,
        params: np.ndarray,
        slots: np.ndarray,
        X: np.ndarray,
        y: np.ndarray,
        order: np.ndarray,
        starts: np.ndarray,
        rates: np.ndarray,
        step: int = 0,
    ) -> np.ndarray:
        """Take one step a batch, in place on `params` and `slots`; arguments as in `pymlp.backends.Plan.train_steps`.

        Returns
        -------
        ndarray of shape (len(rates),)
            Mean loss of each batch before its update.
        """
        weights, biases = self.network.weights(params), self.network.biases(params)
        activate = {"log_loss": softmax, "binary_log_loss": logistic}.get(self.network.loss)
        sizes = self.optimizer.coefficients(step, rates)[:, 0].tolist()
        losses = np.empty(len(rates))
        for i, size in enumerate(sizes):
            rows = order[starts[i] : starts[i + 1]]
            outputs = [X[rows]]
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                outputs.append(np.maximum(outputs[-1] @ weight + bias, 0))
            scores = outputs[-1] @ weights[-1] + biases[-1]
            result = activate(scores) if activate else scores
            losses[i] = LOSSES[self.network.loss].value(y[rows], result).mean()
            deltas = (result - y[rows]) / len(rows)
            gradients = []
            for position in reversed(range(len(weights))):
                gradients += [deltas.sum(axis=0), (outputs[position].T @ deltas).ravel()]
                if position > 0:
                    deltas = (deltas @ weights[position].T) * (outputs[position] > 0)
            gradient = np.concatenate(gradients[::-1])
            slots[0] = self.optimizer.beta_1 * slots[0] + (1 - self.optimizer.beta_1) * gradient
            slots[1] = self.optimizer.beta_2 * slots[1] + (1 - self.optimizer.beta_2) * gradient**2
            params -= size * slots[0] / (np.sqrt(slots[1]) + self.optimizer.epsilon)
        return losses
