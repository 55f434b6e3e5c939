"""The Numba backend's own way through a small network: whole runs of training steps in one compiled call.

A batch goes through in blocks of `BLOCK` rows, which keeps the scratch memory small and in cache; the gradients of the
blocks are added in order.  Networks are a table (see `numba_table`), so that none needs a compilation of its own; but
there are two of each function: plain networks have no `kinds` (nor `numbers` of the loss, nor `limits` of the
optimizer), and since Numba leaves out what follows such a condition, they neither wait for the rest to be compiled and
loaded nor are slowed down by it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pymlp.backends.numba_activations import activate, pull_back
from pymlp.backends.numba_functions import OPTIONS, cached, clear, copy
from pymlp.backends.numba_kinds import ADD, DENSE, NO_STEP, backward_kind, forward_kind
from pymlp.backends.numba_losses import is_simple_loss, loss_and_deltas, loss_code, loss_numbers, penalise
from pymlp.backends.numba_optimizers import (
    OPTIMIZER_CODES,
    is_simple_step,
    optimizer_constants,
    optimizer_limits,
    optimizer_step,
)
from pymlp.backends.numba_table import (
    ACTIVATION,
    ADDS,
    BIAS,
    BLOCK,
    COLUMNS,
    DELTAS,
    ENDS,
    FUNCTION,
    GROUP,
    INPUTS,
    KIND,
    OUTPUTS,
    PARAMETER_ROWS,
    SCORES,
    SECOND,
    SECOND_COLUMNS,
    SECOND_DELTAS,
    SECOND_DELTAS_COLUMNS,
    SOURCE,
    SOURCE_COLUMNS,
    SOURCE_DELTAS,
    SOURCE_DELTAS_COLUMNS,
    TRANSPOSED,
    VALUES,
    WEIGHT,
    layer_table,
    pack,
    unpack,
)
from pymlp.backends.numba_vector import TILE_ROWS, VECTOR_BYTES, tile_of_rows
from pymlp.network import Network
from pymlp.optimizers import Optimizer

_TILE_8, _TILE_4, _TILE_2, _TILE_1 = map(tile_of_rows, TILE_ROWS)


@njit(**OPTIONS)
def product(c, c_stride, a, a_row, a_k, b, b_stride, start, start_at, start_stride, rows, columns, count):
    """``c[row, :] = start[row, :] + sum over k < count of a[row, k] * b[k, :]``; strides in elements.

    `start` begins at its element `start_at`; `columns` is a whole number of vectors.  Panel after panel of b, which
    stays in the first-level cache.
    """
    lanes = VECTOR_BYTES // c.itemsize
    for at in range(0, columns, lanes):
        row = 0
        while rows - row >= 8:
            _TILE_8(
                c, row * c_stride + at, c_stride, a, row * a_row, a_row, a_k, b, at, b_stride,
                start, start_at + row * start_stride + at, start_stride, count,
            )  # fmt: skip
            row += 8
        if rows - row >= 4:
            _TILE_4(
                c, row * c_stride + at, c_stride, a, row * a_row, a_row, a_k, b, at, b_stride,
                start, start_at + row * start_stride + at, start_stride, count,
            )  # fmt: skip
            row += 4
        if rows - row >= 2:
            _TILE_2(
                c, row * c_stride + at, c_stride, a, row * a_row, a_row, a_k, b, at, b_stride,
                start, start_at + row * start_stride + at, start_stride, count,
            )  # fmt: skip
            row += 2
        if rows - row >= 1:
            _TILE_1(
                c, row * c_stride + at, c_stride, a, row * a_row, a_row, a_k, b, at, b_stride,
                start, start_at + row * start_stride + at, start_stride, count,
            )  # fmt: skip


@njit(**OPTIONS)
def gather(X, order, first, rows, target):
    """Copy the block's rows of X into the flat `target`; `order` empty means the rows as they stand."""
    width = X.shape[1]
    for i in range(rows):
        source = X[order[first + i] if len(order) else first + i]
        copy(source, target[i * width : (i + 1) * width])


@njit(**OPTIONS)
def forward_block(table, kinds, step, first_row, packed, rows, scratch, stop):
    """Carry the block in the first row's SOURCE through the whole table.

    `kinds` is the setting of each row and the seed of the masks, or None for a table of dense rows; `first_row` is the
    place in the batch of the block's first row.
    """
    for layer in range(len(table)):
        if stop[0]:
            return
        part = table[layer]
        columns = part[COLUMNS]
        scores = scratch[part[SCORES] : part[SCORES] + rows * columns]
        values = scratch[part[VALUES] : part[VALUES] + rows * columns]
        if kinds is not None and part[KIND] != DENSE:
            source_columns, second_columns = part[SOURCE_COLUMNS], part[SECOND_COLUMNS]
            forward_kind(
                part[KIND], part[FUNCTION], kinds[0][layer], layer, (kinds[1], step, first_row), packed[part[WEIGHT] :],
                scratch[part[SOURCE] : part[SOURCE] + rows * source_columns], source_columns,
                scratch[part[SECOND] : part[SECOND] + rows * second_columns], second_columns,
                scores, values, columns, rows, part[OUTPUTS],
            )  # fmt: skip
        else:
            product(
                scores, columns, scratch[part[SOURCE] :], part[SOURCE_COLUMNS], 1,
                packed[part[WEIGHT] :], columns, packed, part[BIAS], 0, rows, columns, part[INPUTS],
            )  # fmt: skip
        activate(part[ACTIVATION], scores, values, rows, columns, part[OUTPUTS], part[GROUP])


@njit(**OPTIONS)
def backward_block(
    table, kinds, step, first_row, packed, rows, gradient, is_first, wants_gradient, wants_inputs, scratch, stop
):
    """Carry the last row's DELTAS back; write (first block) or add (others) the gradient of every row.

    `wants_inputs`: carry them on to the gradient by the inputs, in the first row's SOURCE_DELTAS.
    """
    for layer in range(len(table) - 1, -1, -1):
        if stop[0]:
            return
        part = table[layer]
        columns, inputs, outputs = part[COLUMNS], part[INPUTS], part[OUTPUTS]
        deltas = scratch[part[DELTAS] : part[DELTAS] + rows * columns]
        if layer < len(table) - 1:
            scores = scratch[part[SCORES] : part[SCORES] + rows * columns]
            values = scratch[part[VALUES] : part[VALUES] + rows * columns]
            pull_back(part[ACTIVATION], scores, values, deltas, rows, columns, outputs, part[GROUP])
        if kinds is not None and part[KIND] != DENSE:
            moment = kinds[1], step, first_row
            further_back(part, kinds[0][layer], layer, moment, packed, rows, gradient, is_first, scratch)
            if part[ENDS] and not wants_inputs:
                return
            continue
        if wants_gradient:
            weight_gradient = gradient[part[WEIGHT] : part[BIAS]]
            bias_gradient = gradient[part[BIAS] : part[BIAS] + columns]
            source = scratch[part[SOURCE] :]
            start, stride = (scratch[:columns], 0) if is_first else (weight_gradient, columns)
            product(
                weight_gradient, columns, source, 1, part[SOURCE_COLUMNS], deltas, columns,
                start, 0, stride, inputs, columns, rows,
            )  # fmt: skip
            if is_first:
                clear(bias_gradient)
            for row in range(rows):
                delta = deltas[row * columns : (row + 1) * columns]
                for j in range(columns):
                    bias_gradient[j] += delta[j]
        if part[ENDS] and not wants_inputs:
            return
        before = part[SOURCE_DELTAS_COLUMNS]
        transposed = scratch[part[TRANSPOSED] : part[TRANSPOSED] + outputs * before]
        transpose(packed[part[WEIGHT] : part[BIAS]], inputs, columns, outputs, transposed, before)
        source_deltas = scratch[part[SOURCE_DELTAS] : part[SOURCE_DELTAS] + rows * before]
        start, stride = 0, 0
        if kinds is not None and part[ADDS]:
            start, stride = part[SOURCE_DELTAS], before
        product(
            source_deltas, before, deltas, columns, 1, transposed, before,
            scratch, start, stride, rows, before, outputs,
        )  # fmt: skip


@njit(**OPTIONS)
def further_back(part, setting, number, moment, packed, rows, gradient, is_first, scratch):
    """Carry the DELTAS of a row that is not dense back, and write or add the gradient of its parameters."""
    columns, before, second_columns = part[COLUMNS], part[SOURCE_DELTAS_COLUMNS], part[SECOND_DELTAS_COLUMNS]
    own_gradient = gradient[part[WEIGHT] : part[WEIGHT] + part[PARAMETER_ROWS] * columns]
    source_deltas = scratch[part[SOURCE_DELTAS] : part[SOURCE_DELTAS] + rows * before]
    second_deltas = scratch[part[SECOND_DELTAS] : part[SECOND_DELTAS] + rows * second_columns]
    if is_first:
        clear(own_gradient)
    if not part[ADDS]:
        clear(source_deltas)
    if part[KIND] == ADD:
        # no row behind this one reads the second buffer
        clear(second_deltas)
    backward_kind(
        part[KIND], part[FUNCTION], setting, number, moment, packed[part[WEIGHT] :],
        scratch[part[SOURCE] : part[SOURCE] + rows * columns], scratch[part[SCORES] : part[SCORES] + rows * columns],
        scratch[part[DELTAS] : part[DELTAS] + rows * columns], columns, rows, part[OUTPUTS],
        own_gradient, source_deltas, before, second_deltas, second_columns,
    )  # fmt: skip


@njit(**OPTIONS)
def transpose(W, inputs, columns, outputs, transposed, before):
    """Write W (inputs, outputs; rows of `columns`) as (outputs, inputs; rows of `before`, zeros behind)."""
    for j in range(outputs):
        row = transposed[j * before : (j + 1) * before]
        for k in range(inputs):
            row[k] = W[k * columns + j]
        clear(row[inputs:])


@njit(**OPTIONS)
def weight_sum_of(weight, order, first, last):
    """Sum of the weights of a batch, its number of rows where there are none."""
    if len(weight) == 0:
        return np.float64(last - first)
    total = 0.0
    for i in range(first, last):
        total += weight[order[i] if len(order) else i]
    return total


@njit(**OPTIONS)
def batch_gradient(
    table, kinds, step, row_offset, pieces, loss, numbers, l1, l2, epsilon, packed, X, y, weight, order, first, last,
    weight_sum, gradient, scratch, stop,
):  # fmt: skip
    """Loss of one batch; its gradient overwrites the padded vector `gradient`.  `weight_sum` is not zero."""
    final = table[len(table) - 1]
    columns = final[COLUMNS]
    block_y = np.empty((min(BLOCK, last - first), y.shape[1]), y.dtype)
    block_weight = np.empty(min(BLOCK, last - first) if len(weight) else 0, y.dtype)
    total = 0.0
    for at in range(first, last, BLOCK):
        rows = min(BLOCK, last - at)
        gather(X, order, at, rows, scratch[table[0, SOURCE] :])
        gather(y, order, at, rows, block_y.ravel())
        for i in range(len(block_weight[:rows])):
            block_weight[i] = weight[order[at + i] if len(order) else at + i]
            if block_weight[i] == 0.0:
                # removed, whatever it holds: what overflows on the way would make NaN of a product with 0
                clear(scratch[table[0, SOURCE] + i * X.shape[1] : table[0, SOURCE] + (i + 1) * X.shape[1]])
        first_row = row_offset + at - first
        forward_block(table, kinds, step, first_row, packed, rows, scratch, stop)
        outputs = scratch[final[VALUES] : final[VALUES] + rows * columns]
        deltas = scratch[final[DELTAS] : final[DELTAS] + rows * columns]
        total += loss_and_deltas(
            loss, numbers, block_y[:rows], outputs, scratch[final[SCORES] :], columns, block_weight, weight_sum,
            epsilon, deltas,
        )  # fmt: skip
        backward_block(table, kinds, step, first_row, packed, rows, gradient, at == first, True, False, scratch, stop)
        if stop[0]:
            return 0.0
    if l1 != 0.0 or l2 != 0.0:
        total += penalise(pieces, packed, gradient, l1, l2, weight_sum)
    return total / weight_sum


@cached
def forward_rows(table, kinds, step, row_offset, params, X, out, packed, scratch, stop):
    """The verb `forward`."""
    pack(table, params, packed)
    final = table[len(table) - 1]
    columns, outputs = final[COLUMNS], final[OUTPUTS]
    no_order = np.empty(0, np.int64)
    for first in range(0, len(X), BLOCK):
        rows = min(BLOCK, len(X) - first)
        gather(X, no_order, first, rows, scratch[table[0, SOURCE] :])
        forward_block(table, kinds, step, row_offset + first, packed, rows, scratch, stop)
        if stop[0]:
            return
        for row in range(rows):
            at = final[VALUES] + row * columns
            copy(scratch[at : at + outputs], out[first + row])


@cached
def backward_rows(
    table, kinds, step, row_offset, params, X, output_gradient, gradient, x_gradient, packed, packed_gradient, scratch,
    stop,
):  # fmt: skip
    """The verb `backward`; `gradient` and `x_gradient` are empty where they are not wanted."""
    pack(table, params, packed)
    final = table[len(table) - 1]
    columns, outputs = final[COLUMNS], final[OUTPUTS]
    no_order = np.empty(0, np.int64)
    clear(packed_gradient)
    for first in range(0, len(X), BLOCK):
        rows = min(BLOCK, len(X) - first)
        gather(X, no_order, first, rows, scratch[table[0, SOURCE] :])
        forward_block(table, kinds, step, row_offset + first, packed, rows, scratch, stop)
        scores = scratch[final[SCORES] : final[SCORES] + rows * columns]
        values = scratch[final[VALUES] : final[VALUES] + rows * columns]
        deltas = scratch[final[DELTAS] : final[DELTAS] + rows * columns]
        clear(deltas)
        for row in range(rows):
            at = row * columns
            copy(output_gradient[first + row], deltas[at : at + outputs])
        pull_back(final[ACTIVATION], scores, values, deltas, rows, columns, outputs, final[GROUP])
        wants_inputs = len(x_gradient) > 0
        backward_block(
            table, kinds, step, row_offset + first, packed, rows, packed_gradient, first == 0, len(gradient) > 0,
            wants_inputs, scratch, stop,
        )  # fmt: skip
        if stop[0]:
            return
        if wants_inputs:
            for row in range(rows):
                at = table[0, SOURCE_DELTAS] + row * table[0, SOURCE_DELTAS_COLUMNS]
                copy(scratch[at : at + X.shape[1]], x_gradient[first + row])
    if len(gradient):
        unpack(table, packed_gradient, gradient)


@cached
def loss_gradient_rows(
    table, kinds, step, row_offset, pieces, loss, numbers, l1, l2, epsilon, params, X, y, weight, gradient, packed,
    packed_gradient, scratch, stop,
):  # fmt: skip
    """The verb `loss_gradient`."""
    no_order = np.empty(0, np.int64)
    weight_sum = weight_sum_of(weight, no_order, 0, len(X))
    if weight_sum == 0.0:
        clear(gradient)
        return 0.0
    pack(table, params, packed)
    value = batch_gradient(
        table, kinds, step, row_offset, pieces, loss, numbers, l1, l2, epsilon, packed, X, y, weight, no_order, 0,
        len(X), weight_sum, packed_gradient, scratch, stop,
    )  # fmt: skip
    unpack(table, packed_gradient, gradient)
    return value


@cached
def train_batches(
    table, kinds, first_step, pieces, loss, numbers, l1, l2, epsilon, optimizer, constants, limits, coefficients,
    params, slots, X, y, weight, order, starts, losses, packed, packed_slots, packed_gradient, scratch, stop,
):  # fmt: skip
    """The verb `train_steps`; `coefficients` as the optimizer gives them, in the network's dtype."""
    pack(table, params, packed)
    for slot in range(len(slots)):
        pack(table, slots[slot], packed_slots[slot])
    for i in range(len(losses)):
        first, last = starts[i], starts[i + 1]
        weight_sum = weight_sum_of(weight, order, first, last)
        losses[i] = 0.0
        if weight_sum == 0.0:
            continue
        losses[i] = batch_gradient(
            table, kinds, first_step + i, 0, pieces, loss, numbers, l1, l2, epsilon, packed, X, y, weight, order,
            first, last, weight_sum, packed_gradient, scratch, stop,
        )  # fmt: skip
        if stop[0]:
            break
        optimizer_step(
            pieces, optimizer, constants, limits, coefficients[i], packed, packed_gradient, packed_slots[: len(slots)]
        )
    unpack(table, packed, params)
    for slot in range(len(slots)):
        unpack(table, packed_slots[slot], slots[slot])


class SmallNetwork:
    """The verbs of one network on these kernels; arguments are checked, None is not among them but for the step."""

    def __init__(self, network: Network, stop: np.ndarray) -> None:
        self._network = network
        self._table, self._pieces, scratch_size = layer_table(network)
        self._loss = loss_code(network.loss_function)
        self._penalties = network.l1, network.l2, float(np.finfo(network.dtype).eps)
        # what further kinds of rows and losses need
        self._kinds = np.array([row.setting for row in network.table]), np.uint64(network.seed)
        self._numbers = loss_numbers(network.loss_function)
        self._only_dense = all(row.kind == "dense" for row in network.table)
        self._is_simple = self._only_dense and is_simple_loss(network.loss_function)
        self._packed = np.zeros(self._pieces[-1, 1], network.dtype)
        self._gradient = np.zeros_like(self._packed)
        self._slots = np.zeros((0, len(self._packed)), network.dtype)
        self._scratch = np.zeros(scratch_size, network.dtype)
        self._stop = stop

    def forward(self, params: np.ndarray, X: np.ndarray, out: np.ndarray, step: int | None, row_offset: int) -> None:
        """Write network(X) into `out`."""
        kinds = None if self._only_dense else self._kinds
        forward_rows(
            self._table, kinds, NO_STEP if step is None else step, row_offset, params, X, out,
            self._packed, self._scratch, self._stop,
        )  # fmt: skip

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
        kinds = None if self._only_dense else self._kinds
        backward_rows(
            self._table, kinds, NO_STEP if step is None else step, row_offset, params, X, output_gradient, gradient,
            x_gradient, self._packed, self._gradient, self._scratch, self._stop,
        )  # fmt: skip

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
        kinds, numbers = (None, None) if self._is_simple else (self._kinds, self._numbers)
        return loss_gradient_rows(
            self._table, kinds, NO_STEP if step is None else step, row_offset, self._pieces, self._loss, numbers,
            *self._penalties, params, X, y, weight, gradient,
            self._packed, self._gradient, self._scratch, self._stop,
        )  # fmt: skip

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
        """All steps, in one compiled call; `coefficients` as the optimizer gives them, in the network's dtype."""
        if len(self._slots) < len(slots):
            self._slots = np.zeros((len(slots), len(self._packed)), params.dtype)
        kinds, numbers = self._kinds, self._numbers
        limits = optimizer_limits(optimizer, self._network)
        if self._is_simple and is_simple_step(optimizer, self._network):
            kinds = numbers = limits = None
        train_batches(
            self._table, kinds, step, self._pieces, self._loss, numbers, *self._penalties,
            OPTIMIZER_CODES[optimizer.name], optimizer_constants(optimizer, self._network.dtype), limits, coefficients,
            params, slots, X, y, weight, order, starts, losses,
            self._packed, self._slots, self._gradient, self._scratch, self._stop,
        )  # fmt: skip
