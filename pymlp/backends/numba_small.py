"""The Numba backend's own way through a small network: whole runs of training steps in one compiled call.

Parameters, slots and gradient are kept in a padded copy of the flat vector while a verb runs: every row of a weight
matrix fills whole vectors, the padding being zero, so that the tile needs no masks.  The copy costs one pass over the
vector a call.  A batch goes through in blocks of `BLOCK` rows, which keeps the scratch memory small and in cache; the
gradients of the blocks are added in order.

A layer is a row of the table (int64), so that no network needs a compilation of its own.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pymlp.backends.numba_functions import (
    ACTIVATION_CODES,
    OPTIONS,
    activate,
    cached,
    clear,
    copy,
    pull_back,
)
from pymlp.backends.numba_losses import LOSS_CODES, loss_and_deltas, penalise
from pymlp.backends.numba_optimizers import optimizer_constants, optimizer_step
from pymlp.backends.numba_vector import TILE_ROWS, VECTOR_BYTES, tile_of_rows
from pymlp.functions import ACTIVATIONS
from pymlp.network import Network
from pymlp.optimizers import Optimizer

# rows that go through the layers together: their activations stay in the second-level cache of any processor
BLOCK = 256

# columns of the table; "columns" are padded widths, offsets are in elements into the padded vector, the flat vector
# or the scratch memory.  SOURCE is the buffer of a layer's inputs, SOURCE_DELTAS that of the gradient by them.
(
    INPUTS, OUTPUTS, COLUMNS, ACTIVATION, WEIGHT, BIAS, FLAT, SCORES, VALUES, DELTAS, SOURCE, SOURCE_COLUMNS,
    SOURCE_DELTAS, SOURCE_DELTAS_COLUMNS, TRANSPOSED,
) = range(15)  # fmt: skip

_TILE_8, _TILE_4, _TILE_2, _TILE_1 = map(tile_of_rows, TILE_ROWS)


def padded(width: int, dtype: str) -> int:
    """`width` rounded up to whole vectors."""
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    return -(-width // lanes) * lanes


def layer_table(network: Network) -> tuple[np.ndarray, np.ndarray, int]:
    """The table; start and stop of each layer's weights and biases in the padded vector; the scratch memory it needs.

    The first two are int64 with a row a layer.  The scratch memory begins with zeros, as many as the widest layer.
    """
    widths = [padded(width, network.dtype) for width in network.widths]
    used = max(widths)

    def take(count: int) -> int:
        nonlocal used
        used += count
        return used - count

    source, source_columns = take(BLOCK * network.inputs), network.inputs
    source_deltas, source_deltas_columns = take(BLOCK * widths[0]), widths[0]
    table, pieces, weight = [], [], 0
    for layer, part, columns in zip(network.layers, network.layout, widths[1:], strict=True):
        bias = weight + part.inputs * columns
        scores = take(BLOCK * columns)
        values = take(BLOCK * columns) if ACTIVATIONS[layer.activation].uses == "input" else scores
        deltas = take(BLOCK * columns)
        transposed = take(part.outputs * source_deltas_columns)
        code = ACTIVATION_CODES[layer.activation]
        buffers = (scores, values, deltas, source, source_columns, source_deltas, source_deltas_columns, transposed)
        table.append((part.inputs, part.outputs, columns, code, weight, bias, part.weight.start, *buffers))
        pieces.append((weight, bias, bias, bias + columns))
        weight = bias + columns
        source, source_columns, source_deltas, source_deltas_columns = values, columns, deltas, columns
    return np.array(table, np.int64), np.array(pieces, np.int64), used


@njit(**OPTIONS)
def pack(table, flat, packed):
    """Copy the flat vector into the padded one."""
    for layer in range(len(table)):
        columns, outputs = table[layer, COLUMNS], table[layer, OUTPUTS]
        # the bias is one more row behind the weights, in both vectors
        for row in range(table[layer, INPUTS] + 1):
            to, start = table[layer, WEIGHT] + row * columns, table[layer, FLAT] + row * outputs
            copy(flat[start : start + outputs], packed[to : to + outputs])
            clear(packed[to + outputs : to + columns])


@njit(**OPTIONS)
def unpack(table, packed, flat):
    """Copy the padded vector into the flat one."""
    for layer in range(len(table)):
        columns, outputs = table[layer, COLUMNS], table[layer, OUTPUTS]
        for row in range(table[layer, INPUTS] + 1):
            start, to = table[layer, WEIGHT] + row * columns, table[layer, FLAT] + row * outputs
            copy(packed[start : start + outputs], flat[to : to + outputs])


@njit(**OPTIONS)
def product(c, c_stride, a, a_row, a_k, b, b_stride, start, start_stride, rows, columns, count):
    """``c[row, :] = start[row, :] + sum over k < count of a[row, k] * b[k, :]``; strides in elements.

    `columns` is a whole number of vectors.  Panel after panel of b, which stays in the first-level cache.
    """
    lanes = VECTOR_BYTES // c.itemsize
    for at in range(0, columns, lanes):
        row = 0
        while rows - row >= 8:
            _TILE_8(
                c, row * c_stride + at, c_stride, a, row * a_row, a_row, a_k, b, at, b_stride,
                start, row * start_stride + at, start_stride, count,
            )  # fmt: skip
            row += 8
        if rows - row >= 4:
            _TILE_4(
                c, row * c_stride + at, c_stride, a, row * a_row, a_row, a_k, b, at, b_stride,
                start, row * start_stride + at, start_stride, count,
            )  # fmt: skip
            row += 4
        if rows - row >= 2:
            _TILE_2(
                c, row * c_stride + at, c_stride, a, row * a_row, a_row, a_k, b, at, b_stride,
                start, row * start_stride + at, start_stride, count,
            )  # fmt: skip
            row += 2
        if rows - row >= 1:
            _TILE_1(
                c, row * c_stride + at, c_stride, a, row * a_row, a_row, a_k, b, at, b_stride,
                start, row * start_stride + at, start_stride, count,
            )  # fmt: skip


@njit(**OPTIONS)
def gather(X, order, first, rows, target):
    """Copy the block's rows of X into the flat `target`; `order` empty means the rows as they stand."""
    width = X.shape[1]
    for i in range(rows):
        source = X[order[first + i] if len(order) else first + i]
        copy(source, target[i * width : (i + 1) * width])


@njit(**OPTIONS)
def forward_block(table, packed, rows, scratch, stop):
    """Carry the block in the first layer's SOURCE through all layers."""
    for layer in range(len(table)):
        if stop[0]:
            return
        part = table[layer]
        columns = part[COLUMNS]
        scores = scratch[part[SCORES] : part[SCORES] + rows * columns]
        values = scratch[part[VALUES] : part[VALUES] + rows * columns]
        product(
            scores, columns, scratch[part[SOURCE] :], part[SOURCE_COLUMNS], 1,
            packed[part[WEIGHT] :], columns, packed[part[BIAS] :], 0, rows, columns, part[INPUTS],
        )  # fmt: skip
        activate(part[ACTIVATION], scores, values, rows, columns, part[OUTPUTS])


@njit(**OPTIONS)
def backward_block(table, packed, rows, gradient, is_first, wants_gradient, wants_inputs, scratch, stop):
    """Carry the last layer's DELTAS back; write (first block) or add (others) the gradient of every layer.

    `wants_inputs`: carry them on to the gradient by the inputs, in the first layer's SOURCE_DELTAS.
    """
    for layer in range(len(table) - 1, -1, -1):
        if stop[0]:
            return
        part = table[layer]
        columns, inputs, outputs = part[COLUMNS], part[INPUTS], part[OUTPUTS]
        deltas = scratch[part[DELTAS] : part[DELTAS] + rows * columns]
        if wants_gradient:
            weight_gradient = gradient[part[WEIGHT] : part[BIAS]]
            bias_gradient = gradient[part[BIAS] : part[BIAS] + columns]
            source = scratch[part[SOURCE] :]
            start, stride = (scratch[:columns], 0) if is_first else (weight_gradient, columns)
            product(
                weight_gradient, columns, source, 1, part[SOURCE_COLUMNS], deltas, columns,
                start, stride, inputs, columns, rows,
            )  # fmt: skip
            if is_first:
                clear(bias_gradient)
            for row in range(rows):
                delta = deltas[row * columns : (row + 1) * columns]
                for j in range(columns):
                    bias_gradient[j] += delta[j]
        if layer == 0 and not wants_inputs:
            return
        before = part[SOURCE_DELTAS_COLUMNS]
        transposed = scratch[part[TRANSPOSED] : part[TRANSPOSED] + outputs * before]
        transpose(packed[part[WEIGHT] : part[BIAS]], inputs, columns, outputs, transposed, before)
        source_deltas = scratch[part[SOURCE_DELTAS] : part[SOURCE_DELTAS] + rows * before]
        product(source_deltas, before, deltas, columns, 1, transposed, before, scratch, 0, rows, before, outputs)
        if layer > 0:
            previous = table[layer - 1]
            scores = scratch[previous[SCORES] : previous[SCORES] + rows * before]
            values = scratch[previous[VALUES] : previous[VALUES] + rows * before]
            pull_back(previous[ACTIVATION], scores, values, source_deltas, rows, before, inputs)


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
    table, pieces, loss, l1, l2, epsilon, packed, X, y, weight, order, first, last, weight_sum, gradient, scratch, stop
):
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
        forward_block(table, packed, rows, scratch, stop)
        outputs = scratch[final[VALUES] : final[VALUES] + rows * columns]
        deltas = scratch[final[DELTAS] : final[DELTAS] + rows * columns]
        total += loss_and_deltas(loss, block_y[:rows], outputs, columns, block_weight, weight_sum, epsilon, deltas)
        backward_block(table, packed, rows, gradient, at == first, True, False, scratch, stop)
        if stop[0]:
            return 0.0
    if l1 != 0.0 or l2 != 0.0:
        total += penalise(pieces, packed, gradient, l1, l2, weight_sum)
    return total / weight_sum


@cached
def forward_rows(table, params, X, out, packed, scratch, stop):
    """The verb `forward`."""
    pack(table, params, packed)
    final = table[len(table) - 1]
    columns, outputs = final[COLUMNS], final[OUTPUTS]
    no_order = np.empty(0, np.int64)
    for first in range(0, len(X), BLOCK):
        rows = min(BLOCK, len(X) - first)
        gather(X, no_order, first, rows, scratch[table[0, SOURCE] :])
        forward_block(table, packed, rows, scratch, stop)
        if stop[0]:
            return
        for row in range(rows):
            at = final[VALUES] + row * columns
            copy(scratch[at : at + outputs], out[first + row])


@cached
def backward_rows(table, params, X, output_gradient, gradient, x_gradient, packed, packed_gradient, scratch, stop):
    """The verb `backward`; `gradient` and `x_gradient` are empty where they are not wanted."""
    pack(table, params, packed)
    final = table[len(table) - 1]
    columns, outputs = final[COLUMNS], final[OUTPUTS]
    no_order = np.empty(0, np.int64)
    clear(packed_gradient)
    for first in range(0, len(X), BLOCK):
        rows = min(BLOCK, len(X) - first)
        gather(X, no_order, first, rows, scratch[table[0, SOURCE] :])
        forward_block(table, packed, rows, scratch, stop)
        scores = scratch[final[SCORES] : final[SCORES] + rows * columns]
        values = scratch[final[VALUES] : final[VALUES] + rows * columns]
        deltas = scratch[final[DELTAS] : final[DELTAS] + rows * columns]
        clear(deltas)
        for row in range(rows):
            at = row * columns
            copy(output_gradient[first + row], deltas[at : at + outputs])
        pull_back(final[ACTIVATION], scores, values, deltas, rows, columns, outputs)
        wants_inputs = len(x_gradient) > 0
        backward_block(table, packed, rows, packed_gradient, first == 0, len(gradient) > 0, wants_inputs, scratch, stop)
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
    table, pieces, loss, l1, l2, epsilon, params, X, y, weight, gradient, packed, packed_gradient, scratch, stop
):
    """The verb `loss_gradient`."""
    no_order = np.empty(0, np.int64)
    weight_sum = weight_sum_of(weight, no_order, 0, len(X))
    if weight_sum == 0.0:
        clear(gradient)
        return 0.0
    pack(table, params, packed)
    value = batch_gradient(
        table, pieces, loss, l1, l2, epsilon, packed, X, y, weight, no_order, 0, len(X), weight_sum,
        packed_gradient, scratch, stop,
    )  # fmt: skip
    unpack(table, packed_gradient, gradient)
    return value


@cached
def train_batches(
    table, pieces, loss, l1, l2, epsilon, kind, constants, coefficients, params, slots, X, y, weight, order, starts,
    losses, packed, packed_slots, packed_gradient, scratch, stop,
):  # fmt: skip
    """The verb `train_steps`; `coefficients` (steps, 2) of the network's dtype."""
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
            table, pieces, loss, l1, l2, epsilon, packed, X, y, weight, order, first, last, weight_sum,
            packed_gradient, scratch, stop,
        )  # fmt: skip
        if stop[0]:
            break
        optimizer_step(
            pieces, kind, constants, coefficients[i, 0], coefficients[i, 1], packed, packed_gradient, packed_slots
        )
    unpack(table, packed, params)
    for slot in range(len(slots)):
        unpack(table, packed_slots[slot], slots[slot])


class SmallNetwork:
    """The verbs of one network on these kernels; arguments are checked, None is not among them."""

    def __init__(self, network: Network, stop: np.ndarray) -> None:
        self._dtype = network.dtype
        self._table, self._pieces, scratch_size = layer_table(network)
        self._loss = (LOSS_CODES[network.loss], network.l1, network.l2, float(np.finfo(network.dtype).eps))
        self._packed = np.zeros(self._pieces[-1, 3], network.dtype)
        self._gradient = np.zeros_like(self._packed)
        self._slots = np.zeros((0, len(self._packed)), network.dtype)
        self._scratch = np.zeros(scratch_size, network.dtype)
        self._stop = stop

    def forward(self, params: np.ndarray, X: np.ndarray, out: np.ndarray) -> None:
        """Write network(X) into `out`."""
        forward_rows(self._table, params, X, out, self._packed, self._scratch, self._stop)

    def backward(
        self,
        params: np.ndarray,
        X: np.ndarray,
        output_gradient: np.ndarray,
        gradient: np.ndarray,
        x_gradient: np.ndarray,
    ) -> None:
        """Vector-Jacobian product; `gradient` and `x_gradient` are of length 0 where they are not wanted."""
        backward_rows(
            self._table, params, X, output_gradient, gradient, x_gradient,
            self._packed, self._gradient, self._scratch, self._stop,
        )  # fmt: skip

    def loss_gradient(
        self, params: np.ndarray, X: np.ndarray, y: np.ndarray, weight: np.ndarray, gradient: np.ndarray
    ) -> float:
        """Loss and gradient of a batch; `weight` is of length 0 where there are none."""
        return loss_gradient_rows(
            self._table, self._pieces, *self._loss, params, X, y, weight, gradient,
            self._packed, self._gradient, self._scratch, self._stop,
        )  # fmt: skip

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
        """All steps, in one compiled call; `coefficients` as the optimizer gives them, in the network's dtype."""
        if len(self._slots) < len(slots):
            self._slots = np.zeros((len(slots), len(self._packed)), self._dtype)
        kind, constants = optimizer_constants(optimizer, self._dtype)
        train_batches(
            self._table, self._pieces, *self._loss, kind, constants, coefficients, params, slots, X, y, weight,
            order, starts, losses, self._packed, self._slots, self._gradient, self._scratch, self._stop,
        )  # fmt: skip
