"""The Numba backend's way through a large network: NumPy's matrix products, and one compiled pass for all the rest.

Beyond some thirty million multiply-adds a step the products decide the time, and NumPy's BLAS computes them on all
cores; the Python calls between them no longer count.  Everything else (bias and activation, loss and deltas, slopes,
penalties, the optimizer) is one compiled pass over memory that is allocated once.
"""

from __future__ import annotations

import numpy as np

from pymlp.backends import BLOCK_ROWS
from pymlp.backends.numba_activations import ACTIVATION_CODES, activate, pull_back
from pymlp.backends.numba_functions import cached
from pymlp.backends.numba_kinds import KIND_CODES, NO_STEP, backward_kind, forward_kind
from pymlp.backends.numba_losses import is_simple_loss, loss_and_deltas, loss_code, loss_numbers, penalise
from pymlp.backends.numba_optimizers import (
    OPTIMIZER_CODES,
    is_simple_step,
    optimizer_constants,
    optimizer_limits,
    optimizer_step,
)
from pymlp.backends.numba_table import first_to_learn, is_shared, needs_scores
from pymlp.layers import KINDS, Row
from pymlp.network import Network
from pymlp.optimizers import Optimizer
from pymlp.rows import counted_rows

# rows of a block of `forward`, at least: fewer would starve the products
FORWARD_ROWS = 256


def flat_pieces(network: Network) -> np.ndarray:
    """Where each array of parameters lies in the flat vector, as `numba_optimizers` takes it: int64 (arrays, 3)."""
    parts = [part for row in network.table for part in row.parts]
    widths = [part.shape[1] if len(part.shape) == 2 else 0 for part in parts]
    return np.array([(part.place.start, part.place.stop, width) for part, width in zip(parts, widths, strict=True)])


@cached
def add_bias_and_activate(code, scores, bias, values, group):
    """Add the bias to the scores, in place, and write their activation; all (rows, outputs), perhaps one array."""
    rows, outputs = scores.shape
    for row in range(rows):
        z, a = scores[row], values[row]
        for j in range(outputs):
            z[j] += bias[j]
        # row by row: the numbers are still in the first-level cache
        activate(code, z, a, 1, outputs, outputs, group)


@cached
def slope_times(code, scores, values, deltas, group):
    """Turn the gradient by the outputs into that by the scores, in place."""
    rows, outputs = deltas.shape
    pull_back(code, scores.ravel(), values.ravel(), deltas.ravel(), rows, outputs, outputs, group)


@cached
def forward_further(kind, function, code, setting, number, moment, parameters, source, second, scores, values):
    """Entry to `forward_kind`, and the activation; arrays are (rows, outputs), `parameters` flat."""
    rows, outputs = scores.shape
    forward_kind(
        kind, function, setting, number, moment, parameters, source.ravel(), outputs, second.ravel(), outputs,
        scores.ravel(), values.ravel(), outputs, rows, outputs,
    )  # fmt: skip
    activate(code, scores.ravel(), values.ravel(), rows, outputs, outputs, 1)


@cached
def backward_further(
    kind, function, setting, number, moment, parameters, source, scores, deltas, gradient, x_deltas, second_deltas
):
    """Entry to `backward_kind`; arrays are (rows, outputs), `parameters` and `gradient` flat."""
    rows, outputs = deltas.shape
    backward_kind(
        kind, function, setting, number, moment, parameters, source.ravel(), scores.ravel(), deltas.ravel(), outputs,
        rows, outputs, gradient, x_deltas.ravel(), outputs, second_deltas.ravel(), outputs,
    )  # fmt: skip


@cached
def output_deltas(loss, numbers, y, outputs, scores, weight, weight_sum, epsilon, deltas):
    """Sum of the losses of a block; their gradient by the scores goes to `deltas`."""
    return loss_and_deltas(
        loss, numbers, y, outputs.ravel(), scores.ravel(), y.shape[1], weight, weight_sum, epsilon, deltas.ravel()
    )


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
def optimize(pieces, kind, constants, limits, numbers, params, gradient, slots):
    """Entry to `optimizer_step`."""
    optimizer_step(pieces, kind, constants, limits, numbers, params, gradient, slots)


def step_rule(optimizer: Optimizer, network: Network) -> tuple:
    """Code, constants and limits of an optimizer, as `optimize` takes them."""
    limits = None if is_simple_step(optimizer, network) else optimizer_limits(optimizer, network)
    return OPTIMIZER_CODES[optimizer.name], optimizer_constants(optimizer, network.dtype), limits


class WideNetwork:
    """The verbs of one network on NumPy's products; arguments are checked, None is not among them but for the step."""

    def __init__(self, network: Network, batch_size: int, stop: np.ndarray) -> None:
        self._network = network
        self._pieces = flat_pieces(network)
        codes = [ACTIVATION_CODES[row.activation] for row in network.table]
        # a kind that does not activate may have a use of its own for the function
        self._codes = [code * KINDS[row.kind].activates for code, row in zip(codes, network.table, strict=True)]
        self._functions = codes
        self._adds = [is_shared(network, row) for row in network.table]
        self._first_to_learn = first_to_learn(network)
        self._loss, self._epsilon = loss_code(network.loss_function), float(np.finfo(network.dtype).eps)
        self._group = network.loss_function.group
        simple = is_simple_loss(network.loss_function)
        self._numbers = None if simple else loss_numbers(network.loss_function)
        self._block = min(max(batch_size, FORWARD_ROWS), BLOCK_ROWS)
        self._scores, self._values, self._deltas = [], [], []
        for row in network.table:
            shape = (self._block, row.outputs)
            self._scores.append(np.empty(shape, network.dtype))
            self._values.append(np.empty(shape, network.dtype) if needs_scores(row) else self._scores[-1])
            self._deltas.append(np.empty(shape, network.dtype))
        self._nothing = np.empty((0, 0), network.dtype)
        # made when a verb first needs it
        self._gradient = None
        self._batch = None
        self._stop = stop

    def forward(self, params: np.ndarray, X: np.ndarray, out: np.ndarray, step: int | None, row_offset: int) -> None:
        """Write network(X) into `out`."""
        for start in range(0, len(X), self._block):
            rows = X[start : start + self._block]
            self._forward_block(params, rows, self._moment(step, row_offset + start))
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
        step: int | None,
        row_offset: int,
    ) -> None:
        """Vector-Jacobian product; `gradient` and `x_gradient` are of length 0 where they are not wanted."""
        gradient[:] = 0
        for start in range(0, len(X), self._block):
            rows = X[start : start + self._block]
            count = len(rows)
            moment = self._moment(step, row_offset + start)
            self._forward_block(params, rows, moment)
            deltas = self._deltas[-1][:count]
            deltas[:] = output_gradient[start : start + count]
            slope_times(self._codes[-1], self._scores[-1][:count], self._values[-1][:count], deltas, self._group)
            part = x_gradient[start : start + count] if len(x_gradient) else None
            self._backward_block(params, rows, moment, gradient if len(gradient) else None, start == 0, part)
            if self._stop[0]:
                return

    def loss_gradient(
        self,
        params: np.ndarray,
        X: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray,
        gradient: np.ndarray,
        step: int | None,
        row_offset: int,
    ) -> float:
        """Loss and gradient of a batch; `weight` is of length 0 where there are none."""
        weight_sum = float(weight.sum(dtype=np.float64)) if len(weight) else float(len(X))
        if weight_sum == 0.0:
            gradient[:] = 0
            return 0.0
        total = 0.0
        X = counted_rows(X, weight if len(weight) else None)
        for start in range(0, len(X), self._block):
            rows = X[start : start + self._block]
            count = len(rows)
            moment = self._moment(step, row_offset + start)
            self._forward_block(params, rows, moment)
            total += output_deltas(
                self._loss, self._numbers, y[start : start + count], self._values[-1][:count],
                self._scores[-1][:count], weight[start : start + count], weight_sum, self._epsilon,
                self._deltas[-1][:count],
            )  # fmt: skip
            self._backward_block(params, rows, moment, gradient, start == 0, None)
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
        step: int,
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
        rule = step_rule(optimizer, self._network)
        no_weight = weight[:0]
        for i in range(len(losses)):
            rows = order[starts[i] : starts[i + 1]]
            batch_weight = weight[rows] if len(weight) else no_weight
            batch = self._gather(X, y, rows)
            losses[i] = self.loss_gradient(params, *batch, batch_weight, self._gradient, step + i, 0)
            if self._stop[0]:
                return
            if len(rows) and (len(weight) == 0 or batch_weight.sum(dtype=np.float64) != 0):
                optimize(self._pieces, *rule, coefficients[i], params, self._gradient, slots)

    def _moment(self, step: int | None, first_row: int) -> tuple[np.uint64, int, int]:
        return np.uint64(self._network.seed), NO_STEP if step is None else step, first_row

    def _gather(self, X: np.ndarray, y: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._batch is None or len(self._batch[0]) < len(rows):
            self._batch = tuple(np.empty((len(rows), part.shape[1]), part.dtype) for part in (X, y))
        # the row numbers are checked already; without a mode, take copies its output once more
        parts = (
            part.take(rows, axis=0, out=to[: len(rows)], mode="clip")
            for part, to in zip((X, y), self._batch, strict=True)
        )
        return tuple(parts)

    def _forward_block(self, params: np.ndarray, X: np.ndarray, moment: tuple) -> None:
        buffers = [X, *(values[: len(X)] for values in self._values)]
        table = self._network.table
        for row, parts in zip(table, self._network.parts(params), strict=True):
            if self._stop[0]:
                return
            source, values = buffers[row.source], buffers[row.number + 1]
            scores, code = self._scores[row.number][: len(X)], self._codes[row.number]
            if row.kind == "dense":
                np.matmul(source, parts[0], out=scores)
                group = self._group if row is table[-1] else 1
                add_bias_and_activate(code, scores, parts[1], values, group)
            else:
                second = buffers[row.second] if row.second >= 0 else source
                forward_further(
                    *self._kind(row), code, row.setting, row.number, moment, self._own(row, params), source, second,
                    scores, values,
                )  # fmt: skip

    def _kind(self, row: Row) -> tuple[int, int]:
        return KIND_CODES[row.kind], self._functions[row.number]

    def _own(self, row: Row, vector: np.ndarray) -> np.ndarray:
        # the row's parameters, or their part of the gradient: its arrays lie side by side
        return vector[row.parts[0].place.start : row.parts[-1].place.stop] if row.parts else vector[:0]

    def _backward_block(
        self,
        params: np.ndarray,
        X: np.ndarray,
        moment: tuple,
        gradient: np.ndarray | None,
        is_first: bool,
        x_gradient: np.ndarray | None,
    ) -> None:
        """Carry the last row's deltas back; write (first block) or add (others) into `gradient`."""
        buffers = [X, *(values[: len(X)] for values in self._values)]
        by_buffer = [x_gradient, *(deltas[: len(X)] for deltas in self._deltas)]
        table, parts = self._network.table, self._network.parts(params)
        for row in reversed(table):
            if self._stop[0]:
                return
            deltas, scores = by_buffer[row.number + 1], self._scores[row.number][: len(X)]
            if row is not table[-1]:
                slope_times(self._codes[row.number], scores, buffers[row.number + 1], deltas, 1)
            source, by_source, adds = buffers[row.source], by_buffer[row.source], self._adds[row.number]
            is_last = row.number == self._first_to_learn and x_gradient is None
            if row.kind == "dense":
                if gradient is not None:
                    self._dense_gradient(row, source, deltas, gradient, is_first)
                if is_last:
                    return
                if adds:
                    by_source += deltas @ parts[row.number][0].T
                else:
                    np.matmul(deltas, parts[row.number][0].T, out=by_source)
                continue
            by_second = by_buffer[row.second] if row.second >= 0 else None
            # what was computed before is of an older batch
            for target in (None if adds else by_source, by_second):
                if target is not None:
                    target[:] = 0
            own = params[:0] if gradient is None else self._own(row, gradient)
            if is_first:
                own[:] = 0
            backward_further(
                *self._kind(row), row.setting, row.number, moment, self._own(row, params), source, scores, deltas, own,
                by_source, self._nothing if by_second is None else by_second,
            )  # fmt: skip

    def _dense_gradient(
        self, row: Row, source: np.ndarray, deltas: np.ndarray, gradient: np.ndarray, is_first: bool
    ) -> None:
        weight, bias = (gradient[part.place] for part in row.parts)
        if is_first:
            np.matmul(source.T, deltas, out=weight.reshape(row.inputs, row.outputs))
            bias[:] = 0
        else:
            weight += (source.T @ deltas).ravel()
        column_sums(deltas, bias)
