"""Standardising the columns a network is trained on, and folding it back so that the network takes raw values.

Training wants inputs (and a regression's target) of about unit size; whoever predicts has raw values.  Both are linear,
so after training they go into the first layer's weight and bias and into the output layer's: the result is one network
of the same shape that needs no scaling step beside it.  The folding is done in float64.  An estimator that trains on
returns to the scaled values by `unfold`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pymlp.interruptible import compute
from pymlp.losses import GaussianNLL, loss_of
from pymlp.network import Network
from pymlp.rows import is_converted_late

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
    def of(cls, values: Any, weight: np.ndarray | None = None, *, of_constants: float = np.inf) -> Scaling:
        """Mean and deviation of the columns of `values` (rows, columns), each row counted by its weight.

        A constant column gets the deviation `of_constants`.  By default it counts for nothing: its weights would stay
        at their random start, and then act on the first value that differs.  A sparse matrix stays sparse: its columns
        keep their zeros, so the mean is taken as 0, but the deviation is that from the true mean.
        """
        if hasattr(values, "tocsr"):
            return cls._of_sparse(values.tocsr(), weight, of_constants)
        if weight is not None:
            return cls._of_weighted(values, weight, of_constants)
        mean = compute(lambda: values.mean(axis=0, dtype=np.float64), values.size)
        squares = np.zeros(values.shape[1])
        for start in range(0, len(values), ROWS):
            squares += np.square(values[start : start + ROWS] - mean).sum(axis=0)
        constant = compute(lambda: values.max(axis=0) == values.min(axis=0), values.size)
        return cls(mean, np.where(constant, of_constants, np.sqrt(squares / len(values))))

    @classmethod
    def _of_weighted(cls, values: np.ndarray, weight: np.ndarray, of_constants: float) -> Scaling:
        columns = values.shape[1]
        total, sums, squares = float(weight.sum(dtype=np.float64)), np.zeros(columns), np.zeros(columns)
        highest, lowest = np.full(columns, -np.inf), np.full(columns, np.inf)
        for block, share in _counted_rows(values, weight):
            sums += (share * block).sum(axis=0)
            highest, lowest = np.maximum(highest, block.max(axis=0)), np.minimum(lowest, block.min(axis=0))
        mean = sums / total
        for block, share in _counted_rows(values, weight):
            squares += (share * np.square(block - mean)).sum(axis=0)
        return cls(mean, np.where(highest == lowest, of_constants, np.sqrt(squares / total)))

    @classmethod
    def _of_sparse(cls, values: Any, weight: np.ndarray | None, of_constants: float) -> Scaling:
        columns = values.shape[1]
        weight = np.ones(values.shape[0]) if weight is None else weight.astype(np.float64)
        values = values[weight > 0]
        weight = weight[weight > 0]
        each, data = np.repeat(weight, np.diff(values.indptr)), values.data.astype(np.float64)
        total, stored = weight.sum(), np.bincount(values.indices, each, columns)
        mean = np.bincount(values.indices, each * data, columns) / total
        distance = data - mean[values.indices]
        squares = np.bincount(values.indices, each * distance**2, columns) + (total - stored).clip(0) * mean**2
        constant = np.asarray((values.max(axis=0) - values.min(axis=0)).todense()).ravel() == 0
        return cls(np.zeros(columns), np.where(constant, of_constants, np.sqrt(squares / total)))

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

    def apply(self, values: Any, dtype: str) -> Any:
        """The scaled values (rows, columns), in C order, or sparse as they were.

        Raises
        ------
        ValueError
            Sparse values would have to be shifted.
        """
        if hasattr(values, "tocsr"):
            if self.mean.any():
                raise ValueError(
                    "X is sparse, but its columns are standardized as those of the dense X of the first fit: they "
                    "would have to be shifted, and not be sparse any more"
                )
            values = values.tocsr()
            data = (values.data / self.deviation[values.indices]).astype(dtype)
            return type(values)((data, values.indices, values.indptr), values.shape)
        result = np.empty(values.shape, dtype)
        for start in range(0, len(values), ROWS):
            result[start : start + ROWS] = (values[start : start + ROWS] - self.mean) / self.deviation
        return result


class ScalingSums:
    """The `Scaling` of rows that come in chunks, each looked at once.

    Means and sums of squares around them are merged block by block (Chan, Golub and LeVeque, "Algorithms for computing
    the sample variance", 1983), so the result is that of all rows up to rounding.

    Parameters
    ----------
    columns : int
    """

    def __init__(self, columns: int) -> None:
        self.total, self.mean, self.squares = 0.0, np.zeros(columns), np.zeros(columns)
        self.highest, self.lowest = np.full(columns, -np.inf), np.full(columns, np.inf)
        self.sparse = False

    def add(self, values: Any, weight: np.ndarray | None = None) -> None:
        """Take the rows of `values` (rows, columns), dense or sparse, into account."""
        if hasattr(values, "tocsr"):
            self.sparse = True
            self._add_sparse(values.tocsr(), weight)
            return
        if weight is None:
            weight = np.ones(len(values))
        for block, share in _counted_rows(values, weight):
            total = float(share.sum())
            mean = (share * block).sum(axis=0) / total
            self._merge(
                total, mean, (share * np.square(block - mean)).sum(axis=0), block.max(axis=0), block.min(axis=0)
            )

    def _add_sparse(self, values: Any, weight: np.ndarray | None) -> None:
        columns = values.shape[1]
        weight = np.ones(values.shape[0]) if weight is None else weight.astype(np.float64)
        values, weight = values[weight > 0], weight[weight > 0]
        if not len(weight):
            return
        each, data = np.repeat(weight, np.diff(values.indptr)), values.data.astype(np.float64)
        total, stored = float(weight.sum()), np.bincount(values.indices, each, columns)
        mean = np.bincount(values.indices, each * data, columns) / total
        distance = data - mean[values.indices]
        squares = np.bincount(values.indices, each * distance**2, columns) + (total - stored).clip(0) * mean**2
        ends = (np.asarray(end.todense()).ravel() for end in (values.max(axis=0), values.min(axis=0)))
        self._merge(total, mean, squares, *ends)

    def _merge(
        self, total: float, mean: np.ndarray, squares: np.ndarray, highest: np.ndarray, lowest: np.ndarray
    ) -> None:
        both, distance = self.total + total, mean - self.mean
        self.squares += squares + distance**2 * (self.total * total / both)
        self.mean += distance * (total / both)
        self.total = both
        self.highest, self.lowest = np.maximum(self.highest, highest), np.minimum(self.lowest, lowest)

    def scaling(self, of_constants: float = np.inf) -> Scaling:
        """What `Scaling.of` would say of all rows; where a chunk was sparse, means are taken as 0."""
        constant = self.highest == self.lowest
        deviation = np.where(constant, of_constants, np.sqrt(self.squares / self.total))
        return Scaling(np.zeros_like(self.mean) if self.sparse else self.mean, deviation)


class ScaledRows:
    """Rows that are scaled when they are read, a batch at a time: of arrays too large for a scaled copy.

    Its dtype is none that a network has, so that `pymlp.rows` takes it for an array to be converted.
    """

    dtype = np.dtype(object)

    def __init__(self, values: np.ndarray, scaling: Scaling, dtype: str) -> None:
        self.values, self.scaling, self.shape = values, scaling, values.shape
        self._dtype = dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.scaling.apply(self.values[rows], self._dtype)


def _counted_rows(values: np.ndarray, weight: np.ndarray) -> Any:
    # blocks of the rows whose weight is not 0, in float64, with their weights as a column
    for start in range(0, len(values), ROWS):
        share = weight[start : start + ROWS]
        counted = share > 0
        if counted.any():
            block = values[start : start + ROWS][counted].astype(np.float64)
            yield block, share[counted].astype(np.float64)[:, np.newaxis]


def _is_mapped(values: Any) -> bool:
    while isinstance(values, np.ndarray):
        if isinstance(values, np.memmap):
            return True
        values = values.base
    return False


def _wide_views(network: Network, params: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    wide = replace(network, dtype="float64")
    copied = params.astype(np.float64)
    return copied, wide.weights(copied), wide.biases(copied)


def _weighted_sum(factors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    # not BLAS, whose sums depend on its threads and on the processor
    return np.einsum("i,ij->j", factors, rows)


def fold(
    network: Network,
    params: np.ndarray,
    inputs: Scaling | None,
    target: Scaling | None = None,
    dtype: str | None = None,
) -> tuple[Network, np.ndarray]:
    """Make of a network trained on scaled values the one that does the same from and to raw values.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (network.n_parameters,)
    inputs : Scaling or None
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
        A target was scaled under an output activation that is not linear, or the first layer passes its inputs on.
    """
    if target is not None and network.output_activation != "identity":
        raise ValueError(f"a scaled target cannot be folded into the output activation {network.output_activation!r}")
    if inputs is not None and network.layers[0].residual:
        raise ValueError("scaled inputs cannot be folded into a first layer with residual=True, which passes them on")
    folded, weights, biases = _wide_views(network, params)
    if inputs is not None:
        weights[0] /= inputs.deviation[:, np.newaxis]
        biases[0] -= _weighted_sum(inputs.mean, weights[0])
    if target is not None:
        weights[-1] *= target.deviation
        biases[-1] *= target.deviation
        biases[-1] += target.mean
    result = replace(network, dtype=network.dtype if dtype is None else dtype)
    return result, folded.astype(result.dtype)


def unfold(network: Network, params: np.ndarray, inputs: Scaling | None, target: Scaling | None = None) -> np.ndarray:
    """Undo `fold`, up to rounding; the weights of an input that counts for nothing become 0.

    Returns
    -------
    ndarray of shape (network.n_parameters,)
    """
    unfolded, weights, biases = _wide_views(network, params)
    if inputs is not None:
        biases[0] += _weighted_sum(inputs.mean, weights[0])
        weights[0] *= np.where(np.isfinite(inputs.deviation), inputs.deviation, 0.0)[:, np.newaxis]
    if target is not None:
        biases[-1] -= target.mean
        biases[-1] /= target.deviation
        weights[-1] /= target.deviation
    return unfolded.astype(network.dtype)


@dataclass(frozen=True)
class Standardisation:
    """What an estimator's inputs and target go through on the way into training.

    Parameters
    ----------
    inputs, target : Scaling or None
        The target's is that of the network's outputs.
    """

    inputs: Scaling | None
    target: Scaling | None

    @classmethod
    def of(
        cls, X: Any, y: np.ndarray, weight: np.ndarray | None, rows: np.ndarray | None, *, inputs: bool, target: bool
    ) -> Standardisation:
        """Learn the scalings asked for.

        Parameters
        ----------
        X : ndarray or SciPy sparse matrix of shape (rows, inputs)
        y : ndarray of shape (rows, outputs)
        weight : ndarray of shape (rows,), or None
        rows : int64 ndarray, or None
            Numbers of the rows to learn from; None is all.
        inputs, target : bool
        """
        if rows is not None:
            counted = np.zeros(len(y))
            counted[rows] = 1.0 if weight is None else weight[rows]
            weight = counted
        return cls(
            Scaling.of(X, weight) if inputs else None,
            # a constant target is learnt as it is
            Scaling.of(y, weight, of_constants=1.0) if target else None,
        )

    @classmethod
    def of_chunks(
        cls, chunks: Iterable[tuple[Any, np.ndarray, np.ndarray | None]], *, inputs: bool, target: bool
    ) -> Standardisation:
        """The same from chunks of rows: X, y and weight of each, which `of` would get as a whole."""
        of_inputs: ScalingSums | None = None
        of_target: ScalingSums | None = None
        for X, y, weight in chunks:
            if of_inputs is None or of_target is None:
                of_inputs, of_target = ScalingSums(X.shape[1]), ScalingSums(y.shape[1])
            if inputs:
                of_inputs.add(X, weight)
            if target:
                of_target.add(y, weight)
        return cls(of_inputs.scaling() if inputs else None, of_target.scaling(1.0) if target else None)

    def apply(self, X: Any, y: np.ndarray, dtype: str) -> tuple[Any, np.ndarray]:
        """X and y as training takes them; a very large X or one in a file is scaled when its rows are read."""
        if self.inputs is not None:
            late = _is_mapped(X) or is_converted_late(X, dtype)
            X = ScaledRows(X, self.inputs, dtype) if late else self.inputs.apply(X, dtype)
        return X, y if self.target is None else self.target.apply(y, dtype)

    def _folded_target(self, network: Network) -> Scaling | None:
        return self.target if network.output_activation == "identity" else None

    def fold(self, network: Network, params: np.ndarray) -> np.ndarray:
        """Parameters for raw values, from those trained on scaled ones."""
        return fold(network, params, self.inputs, self._folded_target(network))[1]

    def unfold(self, network: Network, params: np.ndarray) -> np.ndarray:
        """Parameters for scaled values, from those for raw ones."""
        return unfold(network, params, self.inputs, self._folded_target(network))

    def output_scale(self, network: Network) -> tuple[np.ndarray, np.ndarray] | None:
        """What the outputs must be multiplied by, and what then added, where `fold` leaves the target scaled."""
        if self.target is None or self._folded_target(network) is not None:
            return None
        shift = self.target.mean.copy()
        if isinstance(loss_of(network.loss), GaussianNLL):
            # a deviation has no place to be shifted to
            shift[1::2] = 0.0
        return self.target.deviation.astype(network.dtype), shift.astype(network.dtype)

    @property
    def state(self) -> dict[str, Any]:
        """Numbers and lists that `from_state` reads."""
        return {
            name: None if scaling is None else [scaling.mean.tolist(), scaling.deviation.tolist()]
            for name, scaling in (("inputs", self.inputs), ("target", self.target))
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], network: Network) -> Standardisation:
        """What `state` described; ValueError if it does not fit the network."""
        found: dict[str, Scaling | None] = {"inputs": None, "target": None}
        if set(state) != set(found):
            raise ValueError(f"a standardisation has an entry each for inputs and target, not {sorted(state)}")
        for name, columns in (("inputs", network.inputs), ("target", network.outputs)):
            if state[name] is None:
                continue
            mean, deviation = state[name]
            if not all(type(number) in (int, float) for number in [*mean, *deviation]):
                raise ValueError(f"the scaling of the {name} must be of numbers")
            mean, deviation = np.array(mean, np.float64), np.array(deviation, np.float64)
            if not mean.shape == deviation.shape == (columns,):
                raise ValueError(f"the scaling of the {name} must have {columns} means and deviations")
            # those of a constant input are infinite, and those of a constant target 1
            bounded = name == "inputs" or np.isfinite(deviation).all()
            if not (np.isfinite(mean).all() and (deviation > 0).all() and bounded):
                raise ValueError(f"the scaling of the {name} must have finite means and deviations above 0")
            found[name] = Scaling(mean, deviation)
        return cls(**found)
