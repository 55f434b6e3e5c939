"""Standardising the columns a network is trained on, and folding it back so that the network takes raw values.

Training wants inputs (and a regression's target) of about unit size; whoever predicts has raw values.  Both are linear,
so after training they go into the first layer's weight and bias and into the output layer's: the result is one network
of the same shape that needs no scaling step beside it.  The folding is done in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pymlp.network import Network

# |mean| / deviation of a column above which float32 loses more than three of its seven digits to the column's mean
LARGEST_RATIO_OF_FLOAT32 = 1000.0
# sizes whose squares and reciprocals float32 still holds
SMALLEST_OF_FLOAT32, LARGEST_OF_FLOAT32 = 1e-15, 1e15
# rows scaled in one go: the float64 copy stays small beside the data
ROWS = 4096


@dataclass(frozen=True)
class Scaling:
    """``(values - mean) / deviation`` for each column; a deviation of infinity leaves 0 of a column.

    Parameters
    ----------
    mean, deviation : float64 ndarray of shape (columns,)
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Scaling:
        """Mean and deviation of the columns of `values` (rows, columns); a constant column counts for nothing.

        Its weights would stay at their random start, and then act on the first value that differs.
        """
        mean = values.mean(axis=0, dtype=np.float64)
        squares = np.zeros(values.shape[1])
        for start in range(0, len(values), ROWS):
            squares += np.square(values[start : start + ROWS] - mean).sum(axis=0)
        constant = values.max(axis=0) == values.min(axis=0)
        return cls(mean, np.where(constant, np.inf, np.sqrt(squares / len(values))))

    @classmethod
    def by(cls, unit: float, columns: int) -> Scaling:
        """Division of every column by `unit`."""
        return cls(np.zeros(columns), np.full(columns, float(unit)))

    @property
    def fits_float32(self) -> bool:
        """Whether raw values in float32 still tell the rows of every column apart."""
        offset, varies = np.abs(self.mean), np.isfinite(self.deviation)
        deviation = np.where(varies, self.deviation, 1.0)
        return bool(
            np.all(offset <= LARGEST_OF_FLOAT32)
            and np.all((deviation >= SMALLEST_OF_FLOAT32) & (deviation <= LARGEST_OF_FLOAT32))
            and np.all(offset[varies] <= LARGEST_RATIO_OF_FLOAT32 * deviation[varies])
        )

    def apply(self, values: np.ndarray, dtype: str) -> np.ndarray:
        """The scaled values (rows, columns), in C order."""
        result = np.empty(values.shape, dtype)
        for start in range(0, len(values), ROWS):
            result[start : start + ROWS] = (values[start : start + ROWS] - self.mean) / self.deviation
        return result


def fold(
    network: Network, params: np.ndarray, inputs: Scaling, target: Scaling | None = None, dtype: str | None = None
) -> tuple[Network, np.ndarray]:
    """Make of a network trained on scaled values the one that does the same from and to raw values.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (network.n_parameters,)
    inputs : Scaling
        What the inputs went through.
    target : Scaling, optional
        What the target went through; the output activation must be the identity.
    dtype : {"float32", "float64"}, optional
        Of the result; by default the network's.

    Returns
    -------
    network : Network
    params : ndarray of shape (network.n_parameters,)

    Raises
    ------
    ValueError
        A target was scaled under an output activation that is not linear.
    """
    if target is not None and network.output_activation != "identity":
        raise ValueError(f"a scaled target cannot be folded into the output activation {network.output_activation!r}")
    wide = replace(network, dtype="float64")
    folded = params.astype(np.float64)
    weights, biases = wide.weights(folded), wide.biases(folded)
    weights[0] /= inputs.deviation[:, np.newaxis]
    biases[0] -= inputs.mean @ weights[0]
    if target is not None:
        weights[-1] *= target.deviation
        biases[-1] *= target.deviation
        biases[-1] += target.mean
    result = replace(network, dtype=network.dtype if dtype is None else dtype)
    return result, folded.astype(result.dtype)
