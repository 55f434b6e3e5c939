"""A forward pass as one writes it by hand in NumPy: products into scratch made once, everything else in place."""

from __future__ import annotations

import numpy as np

from pymlp import Network


class NumpyForward:
    """Scores of a network with relu in its hidden layers, `chunk` rows at a time.

    A chunk of some two thousand rows keeps each layer's outputs in the cache and is enough for two threads; one chunk
    of all rows is how such code is usually written.
    """

    def __init__(self, network: Network, params: np.ndarray, chunk: int) -> None:
        self.weights, self.biases = network.weights(params), network.biases(params)
        self.chunk = chunk
        self._hidden = [np.empty((chunk, width), network.dtype) for width in network.widths[1:-1]]

    def run(self, X: np.ndarray, out: np.ndarray) -> None:
        """Write the scores of X (rows, inputs) into `out` (rows, outputs)."""
        for start in range(0, len(X), self.chunk):
            values = X[start : start + self.chunk]
            buffers = [hidden[: len(values)] for hidden in self._hidden]
            buffers.append(out[start : start + self.chunk])
            for weight, bias, buffer in zip(self.weights, self.biases, buffers, strict=True):
                np.matmul(values, weight, out=buffer)
                buffer += bias
                if buffer is not buffers[-1]:
                    np.maximum(buffer, 0, out=buffer)
                values = buffer
