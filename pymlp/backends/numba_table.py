"""The table of a small network in the Numba backend: where everything of each row lies, for `numba_small` to walk.

Parameters, slots and gradient are kept in a padded copy of the flat vector while a verb runs: every row of a weight
matrix, and every vector, fills whole vectors of the processor, the padding being zero, so that the tile needs no masks.
The copy costs one pass over the vector a call.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from pymlp.backends.numba_activations import ACTIVATION_CODES
from pymlp.backends.numba_functions import OPTIONS, clear, copy
from pymlp.backends.numba_kinds import KIND_CODES
from pymlp.backends.numba_vector import VECTOR_BYTES
from pymlp.functions import ACTIVATIONS
from pymlp.layers import KINDS, Row
from pymlp.network import Network

# rows that go through the layers together: their activations stay in the second-level cache of any processor
BLOCK = 256

# columns of the table; "columns" are padded widths, offsets are in elements into the padded vector, the flat vector
# or the scratch memory.  Numbers of columns: PARAMETER_ROWS are those of the parameters, stored one behind the other.
# ACTIVATION is applied to SCORES, FUNCTION is the one that a parametric row has.  SOURCE is the buffer that a row
# reads, SOURCE_DELTAS that of the gradient by it, into which it adds if ADDS; SECOND and SECOND_DELTAS likewise, which
# are those of the source where there is none.  At the row that ENDS no parameters come before.
(
    KIND, INPUTS, OUTPUTS, COLUMNS, ACTIVATION, FUNCTION, GROUP, WEIGHT, BIAS, FLAT, PARAMETER_ROWS, SCORES, VALUES,
    DELTAS, SOURCE, SOURCE_COLUMNS, SOURCE_DELTAS, SOURCE_DELTAS_COLUMNS, SECOND, SECOND_COLUMNS, SECOND_DELTAS,
    SECOND_DELTAS_COLUMNS, ADDS, TRANSPOSED, ENDS,
) = range(25)  # fmt: skip


class Buffer(NamedTuple):
    """What a row writes (buffer 0: the inputs), and the gradient by it: offsets and numbers a row is stored in."""

    values: int
    columns: int
    deltas: int
    deltas_columns: int


class LayerTable(NamedTuple):
    """The table (int64); the pieces of the padded vector (see `numba_optimizers`); the scratch memory it needs."""

    table: np.ndarray
    pieces: np.ndarray
    scratch: int


def padded(width: int, dtype: str) -> int:
    """`width` rounded up to whole vectors."""
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    return -(-width // lanes) * lanes


def needs_scores(row: Row) -> bool:
    """Whether a row's scores must stay beside its values."""
    return row.kind == "parametric" or (KINDS[row.kind].activates and ACTIVATIONS[row.activation].uses == "input")


def is_shared(network: Network, row: Row) -> bool:
    """Whether the buffer that the row reads is read by a later row too, which comes first in the backward pass."""
    return any(later.second == row.source for later in network.table)


def first_to_learn(network: Network) -> int:
    """Number of the first row with parameters."""
    return next(row.number for row in network.table if row.parts)


def layer_table(network: Network, block: int = BLOCK) -> LayerTable:
    """The table for blocks of so many rows; the scratch memory begins with zeros, as many as the widest row."""
    used = max(padded(row.outputs, network.dtype) for row in network.table)
    used = max(used, padded(network.inputs, network.dtype))

    def take(count: int) -> int:
        nonlocal used
        used += count
        return used - count

    width = padded(network.inputs, network.dtype)
    buffers = [Buffer(take(block * network.inputs), network.inputs, take(block * width), width)]
    table, pieces, end, flat = [], [], 0, 0
    for row in network.table:
        columns = padded(row.outputs, network.dtype)
        source = buffers[row.source]
        second = buffers[row.second] if row.second >= 0 else source
        scores = take(block * columns)
        values = take(block * columns) if needs_scores(row) else scores
        deltas = take(block * columns)
        transposed = take(row.outputs * source.deltas_columns) if row.kind == "dense" else 0
        start = end
        for part in row.parts:
            is_matrix = len(part.shape) == 2
            pieces.append((end, end + part.shape[0] * columns if is_matrix else end + columns, columns * is_matrix))
            end = pieces[-1][1]
        code = ACTIVATION_CODES[row.activation]
        table.append((
            KIND_CODES[row.kind], row.inputs, row.outputs, columns, code * KINDS[row.kind].activates, code,
            network.loss_function.group if row is network.table[-1] else 1, start, end - columns, flat,
            (end - start) // columns, scores, values, deltas, source.values, source.columns, source.deltas,
            source.deltas_columns, second.values, second.columns, second.deltas, second.deltas_columns,
            is_shared(network, row), transposed, row.number == first_to_learn(network),
        ))  # fmt: skip
        flat = row.parts[-1].place.stop if row.parts else flat
        buffers.append(Buffer(values, columns, deltas, columns))
    return LayerTable(np.array(table, np.int64), np.array(pieces, np.int64), used)


@njit(**OPTIONS)
def pack(table, flat, packed):
    """Copy the flat vector into the padded one."""
    for layer in range(len(table)):
        columns, outputs = table[layer, COLUMNS], table[layer, OUTPUTS]
        for row in range(table[layer, PARAMETER_ROWS]):
            to, start = table[layer, WEIGHT] + row * columns, table[layer, FLAT] + row * outputs
            copy(flat[start : start + outputs], packed[to : to + outputs])
            clear(packed[to + outputs : to + columns])


@njit(**OPTIONS)
def unpack(table, packed, flat):
    """Copy the padded vector into the flat one."""
    for layer in range(len(table)):
        columns, outputs = table[layer, COLUMNS], table[layer, OUTPUTS]
        for row in range(table[layer, PARAMETER_ROWS]):
            start, to = table[layer, WEIGHT] + row * columns, table[layer, FLAT] + row * outputs
            copy(packed[start : start + outputs], flat[to : to + outputs])
