"""A network whose products run in integers of 8 bits: what `to_c` writes for ``dtype="int8"``, and its definition.

Weights have a scale for each unit and are symmetric about 0; the inputs of a layer are whole numbers from -128 to 127,
by ranges taken from rows that the user gives.  Sums are integers of 32 bits, so they are exact; what comes after a sum
(bias, normalization, activation, residual) is computed in float32, as ever.  (Jacob et al., "Quantization and training
of neural networks for efficient integer-arithmetic-only inference", 2018; a scale for each unit: Krishnamoorthi,
"Quantizing deep convolutional networks for efficient inference", 2018.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pymlp.backends.numpy import Plan
from pymlp.functions import ACTIVATIONS
from pymlp.inference import block_rows, without_output_activation
from pymlp.layers import KINDS, Moment, Row
from pymlp.network import Network
from pymlp.rows import dense_blocks

# whole numbers that inputs and weights become; weights are symmetric
LOWEST, HIGHEST = -128, 127
# inputs of a layer up to which a sum of their products stays in 32 bits
MOST_INPUTS = (2**31 - 1) // (-LOWEST * HIGHEST)
# and in the 24 bits of a float32
SINGLE_INPUTS = 2**24 // (-LOWEST * HIGHEST)
# a range below this part of the numbers in it is none: float32 could not tell its ends apart
LEAST_RANGE = 2.0**-16
# and one below this, the reciprocal of which float32 could not hold
LEAST_SPREAD = 1e-30
# the inputs of the network get a range each where that leaves less than this part of the error of a common one
WORTHWHILE = 0.5
# rows whose columns are looked at in one go
RANGE_ROWS = 1024
# rows on which the two are compared, at most
COMPARED_ROWS = 1000


@dataclass(frozen=True, eq=False)
class QuantisedDense:
    """One dense layer: ``scale * (whole numbers @ weight) + bias``, the whole numbers of x being those of `whole`.

    Parameters
    ----------
    low, inverse : float32 ndarray of shape (1,) or (inputs,)
        Where the range of the inputs begins, and whole numbers for each unit of x; 0 for inputs that do not vary.
    weight : int8 ndarray of shape (inputs, outputs)
    scale, bias : float32 ndarray of shape (outputs,)
    """

    low: np.ndarray
    inverse: np.ndarray
    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray

    @property
    def by_input(self) -> bool:
        """Whether each input has a range of its own."""
        return len(self.low) > 1

    def whole(self, x: np.ndarray) -> np.ndarray:
        """Inputs (rows, inputs) as whole numbers; what lies outside of the range counts as its end."""
        placed = (x - self.low) * self.inverse + np.float32(LOWEST)
        return np.rint(np.clip(placed, np.float32(LOWEST), np.float32(HIGHEST)))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Pre-activations (rows, outputs) from float32 inputs (rows, inputs)."""
        # in floating point, where NumPy has a fast product, of a type that holds the sums exactly
        exact = np.float32 if len(self.weight) <= SINGLE_INPUTS else np.float64
        sums = self.whole(x).astype(exact) @ self.weight.astype(exact)
        return sums.astype(np.float32) * self.scale + self.bias


@dataclass(eq=False)
class _Seen:
    """What the inputs of a dense layer were over all rows."""

    low: np.ndarray
    high: np.ndarray
    total: np.ndarray

    @classmethod
    def nothing(cls, inputs: int) -> _Seen:
        return cls(np.full(inputs, np.inf), np.full(inputs, -np.inf), np.zeros(inputs))

    def add(self, x: np.ndarray) -> None:
        np.minimum(self.low, x.min(axis=0), out=self.low)
        np.maximum(self.high, x.max(axis=0), out=self.high)
        self.total += x.sum(axis=0, dtype=np.float64)


def ranges_of(X: Any) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest number of each column of an array or SciPy sparse matrix, in float64."""
    seen = _Seen.nothing(X.shape[1])
    for _, x in dense_blocks(X, RANGE_ROWS, "float64"):
        seen.add(x)
    return seen.low, seen.high


def _quantised(
    weight: np.ndarray, bias: np.ndarray, low: np.ndarray, high: np.ndarray, mean: np.ndarray
) -> QuantisedDense:
    """The layer of such weights (inputs, outputs) whose inputs lie between low and high, (1,) or (inputs,)."""
    spread = high - low
    varies = spread > np.maximum(LEAST_RANGE * np.maximum(np.abs(low), np.abs(high)), LEAST_SPREAD)
    step = np.where(varies, spread, 0.0) / (HIGHEST - LOWEST)
    inverse = np.divide(1.0, step, out=np.zeros_like(step), where=varies).astype(np.float32)
    low = low.astype(np.float32)
    # what one whole number of an input brings
    stepped = step[:, np.newaxis] * weight.astype(np.float64)
    scale = np.abs(stepped).max(axis=0) / HIGHEST
    scale[scale == 0] = 1.0
    whole = np.rint(stepped / scale)
    # so that the mean row comes out right: weights that were rounded would shift it (Nagel et al., "Data-free
    # quantization through weight equalization and bias correction", 2019)
    mean_whole = (mean - low) * inverse + LOWEST
    shifted = bias + mean @ weight.astype(np.float64) - scale * (mean_whole @ whole)
    return QuantisedDense(low, inverse, whole.astype(np.int8), scale.astype(np.float32), shifted.astype(np.float32))


def quantised_outputs(network: Network, params: np.ndarray, layers: Mapping[int, QuantisedDense], X: Any) -> np.ndarray:
    """Outputs of shape (rows, outputs) with the dense rows of the table replaced.

    Parameters
    ----------
    network : Network
        In float32.
    params : float32 ndarray of shape (n_parameters,)
        Of the rows that are not dense.
    layers : mapping of int to QuantisedDense
        By the number of the row in the network's table.
    X : ndarray or SciPy sparse matrix of shape (rows, inputs)
    """
    out = np.empty((X.shape[0], network.outputs), network.dtype)
    for part, x in dense_blocks(X, block_rows(network.n_parameters), network.dtype):
        out[part] = _outputs_of_block(network, params, layers, x)
    return out


def _outputs_of_block(
    network: Network, params: np.ndarray, layers: Mapping[int, QuantisedDense], X: np.ndarray
) -> np.ndarray:
    buffers = [X]
    for row, parts in zip(network.table, network.parts(params), strict=True):
        kind, x = KINDS[row.kind], buffers[row.source]
        if row.number in layers:
            z = layers[row.number].forward(x)
        else:
            z = kind.forward(row, parts, x, buffers[row.second] if row.second >= 0 else None, Moment())
        if kind.activates:
            last = row.number == len(network.table) - 1
            z = ACTIVATIONS[row.activation].apply(z, network.loss_function.group if last else 1)
        buffers.append(z)
    return buffers[-1]


def _reads_inputs(network: Network, row: Row) -> bool:
    # what drops inputs in training passes them on in inference
    return all(KINDS[before.kind].trains_only for before in network.table[: row.number])


def quantised_layers(network: Network, params: np.ndarray, X: Any) -> dict[int, QuantisedDense]:
    """The dense rows of a network in integers of 8 bits, by their numbers in its table.

    The inputs of a layer share one range, from the least to the largest of all rows and units.  Those of the network
    get one each if that leaves less than half of the error in the outputs: raw features may be of any size.

    Parameters
    ----------
    network : Network
        In float32.
    params : float32 ndarray of shape (n_parameters,)
    X : ndarray or SciPy sparse matrix of shape (rows, inputs)
        At least one row.

    Raises
    ------
    ValueError
        A layer has so many inputs that its sums might not fit.
    """
    dense = [row for row in network.table if row.kind == "dense"]
    for row in dense:
        if row.inputs > MOST_INPUTS:
            raise ValueError(
                f"dtype='int8' takes up to {MOST_INPUTS} inputs a layer, but layers[{row.layer}] has {row.inputs}"
            )
    seen = {row.number: _Seen.nothing(row.inputs) for row in dense}
    plan, rows = Plan(network, 1), block_rows(network.n_parameters)
    for _, x in dense_blocks(X, rows, network.dtype):
        buffers = [x, *plan.row_outputs(params, x)]
        for row in dense:
            seen[row.number].add(buffers[row.source])
    parts = network.parts(params)

    def layer(row: Row, each: bool) -> QuantisedDense:
        found = seen[row.number]
        ends = (found.low, found.high) if each else (found.low.min(keepdims=True), found.high.max(keepdims=True))
        return _quantised(*parts[row.number], *ends, found.total / X.shape[0])

    layers = {row.number: layer(row, each=False) for row in dense}
    first = dense[0]
    if _reads_inputs(network, first):
        alone = {**layers, first.number: layer(first, each=True)}
        if _error(network, params, alone, X) < WORTHWHILE * _error(network, params, layers, X):
            return alone
    return layers


def _error(network: Network, params: np.ndarray, layers: Mapping[int, QuantisedDense], X: Any) -> float:
    """Root of the mean square error of the scores, over some of the rows."""
    scores, total = without_output_activation(network), 0.0
    some = X[:: -(-X.shape[0] // COMPARED_ROWS)]
    plan, rows = Plan(scores, 1), block_rows(network.n_parameters)
    for _, x in dense_blocks(some, rows, network.dtype):
        exact = plan.row_outputs(params, x)[-1]
        total += float(np.square(_outputs_of_block(scores, params, layers, x) - exact, dtype=np.float64).sum())
    return float(np.sqrt(total / (some.shape[0] * network.outputs)))
