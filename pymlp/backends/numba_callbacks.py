"""A predictor of the Numba backend as a function that other programs call by its address.

It is the kernels of `numba_small`, whatever the network's size, behind the interface that csrc/callables.c has for
rows: a record says where everything of the network lies, so one compiled function of each dtype serves all networks.  A
call makes its scratch memory itself, for a few rows at a time, because any number of threads may call at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

from pymlp.backends import BackendUnavailableError
from pymlp.backends.numba_activations import pull_back
from pymlp.backends.numba_functions import OPTIONS, cached, clear, copy
from pymlp.backends.numba_kinds import NO_STEP
from pymlp.backends.numba_small import backward_block, forward_block, gather
from pymlp.backends.numba_table import (
    ACTIVATION,
    DELTAS,
    GROUP,
    OUTPUTS,
    SCORES,
    SOURCE,
    SOURCE_DELTAS,
    SOURCE_DELTAS_COLUMNS,
    VALUES,
    layer_table,
    pack,
)
from pymlp.backends.numba_table import COLUMNS as TABLE_COLUMNS

# rows that go through the layers together: those of the highest tile
ROWS = 8
# places in the record, each an int64: addresses of the arrays with what else is known of them, and a flag that stays 0
(
    TABLE, TABLE_ROWS, TABLE_WIDTH, SETTINGS, SEED, PACKED, PACKED_SIZE, SCRATCH_SIZE, INPUTS, COLUMNS, COMPLEMENT,
    SCALE, SHIFT, STOP, LENGTH,
) = range(15)  # fmt: skip
# codes of csrc/pymlp.h
OK, OUT_OF_MEMORY = 0, 1


class Callback:
    """What such a function is handed as its user data: the record, and what it points to.

    Parameters
    ----------
    predictor : pymlp.backends.numba.Predictor
    params : ndarray of shape (n_parameters,)
    scale : pair of ndarray of shape (columns,), optional
        What the columns are multiplied by, and what is then added; of the network's dtype.
    """

    def __init__(self, predictor: Any, params: np.ndarray, scale: tuple[np.ndarray, np.ndarray] | None) -> None:
        network = predictor.network
        self._dtype = network.dtype
        self._only_dense = all(row.kind == "dense" for row in network.table)
        table, pieces, scratch_size = layer_table(network, ROWS)
        packed = np.zeros(pieces[-1, 1], network.dtype)
        fill_packed(table, params, packed)
        settings = np.array([row.setting for row in network.table])
        self._arrays = [table, packed, settings]
        self._record = np.zeros(LENGTH, np.int64)
        for place, number in (
            (TABLE, table.ctypes.data), (TABLE_ROWS, len(table)), (TABLE_WIDTH, table.shape[1]),
            (SETTINGS, settings.ctypes.data),
            (PACKED, packed.ctypes.data), (PACKED_SIZE, len(packed)), (SCRATCH_SIZE, scratch_size),
            (INPUTS, network.inputs), (COLUMNS, predictor.columns), (COMPLEMENT, predictor.columns != network.outputs),
        ):  # fmt: skip
            self._record[place] = number
        self._record.view(np.uint64)[SEED] = network.seed
        if scale is not None:
            # copies that nobody else can change
            numbers = [np.array(each, network.dtype) for each in scale]
            self._arrays += numbers
            self._record[[SCALE, SHIFT]] = [each.ctypes.data for each in numbers]

    @property
    def address(self) -> int:
        """Where the record lies."""
        return self._record.ctypes.data

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """The record as an array of NumPy's, which keeps this object alive."""
        return self._record.__array_interface__

    def function(self, name: str) -> int:
        """Address of what does the same as a function of callables.c; BackendUnavailableError if nothing does."""
        if name in ("pymlp_call_rows", "pymlp_call_rows_and_gradient"):
            return rows_function(self._dtype, self._only_dense, name != "pymlp_call_rows").address
        raise BackendUnavailableError(
            "this predictor was made under the Numba backend, which has kind='rows' alone; the others are the C "
            "engine's: make the predictor under pymlp.config_context(backend='c')"
        )


@cached
def fill_packed(table, params, packed):
    """Entry to `pack`."""
    pack(table, params, packed)


def _array_at(dtype: Any) -> Callable:
    # an address as a pointer to numbers of a dtype
    @intrinsic
    def pointer(typing_context, address):
        kind = types.CPointer(dtype)

        def generate(context, builder, sig, args):
            return builder.inttoptr(args[0], context.get_value_type(kind))

        return kind(types.int64), generate

    return pointer


_INTEGERS_AT, _DOUBLES_AT = _array_at(types.int64), _array_at(types.float64)
_REALS_AT = {"float32": _array_at(types.float32), "float64": _DOUBLES_AT}


@njit(**OPTIONS)
def write_values(record, table, rows, scratch, out, scale, shift):
    """Write the answer to a block's rows into `out`; `scale` and `shift` are empty where there are none."""
    final = table[len(table) - 1]
    columns, outputs = final[TABLE_COLUMNS], final[OUTPUTS]
    for row in range(rows):
        values, answer = scratch[final[VALUES] + row * columns :], out[row]
        if record[COMPLEMENT]:
            answer[0] = values.dtype.type(1) - values[0]
            answer[1] = values[0]
        else:
            copy(values[:outputs], answer)
        for i in range(len(scale)):
            answer[i] *= scale[i]
        for i in range(len(shift)):
            # a loop of its own: in one, the two operations would be fused
            answer[i] += shift[i]


@njit(**OPTIONS)
def write_jacobian(record, table, kinds, packed, rows, scratch, no_gradient, stop, jacobian, scale):
    """Write the derivatives of a block's answers into `jacobian`: one output goes back after the other."""
    final = table[len(table) - 1]
    columns, outputs = final[TABLE_COLUMNS], final[OUTPUTS]
    scores = scratch[final[SCORES] : final[SCORES] + rows * columns]
    values = scratch[final[VALUES] : final[VALUES] + rows * columns]
    deltas = scratch[final[DELTAS] : final[DELTAS] + rows * columns]
    for output in range(outputs):
        clear(deltas)
        for row in range(rows):
            deltas[row * columns + output] = 1
        pull_back(final[ACTIVATION], scores, values, deltas, rows, columns, outputs, final[GROUP])
        backward_block(table, kinds, NO_STEP, 0, packed, rows, no_gradient, True, False, True, scratch, stop)
        for row in range(rows):
            at = table[0, SOURCE_DELTAS] + row * table[0, SOURCE_DELTAS_COLUMNS]
            slopes = scratch[at : at + record[INPUTS]]
            if record[COMPLEMENT]:
                copy(slopes, jacobian[row, 1])
                for i in range(len(slopes)):
                    jacobian[row, 0, i] = -slopes[i]
            else:
                copy(slopes, jacobian[row, output])
            if len(scale):
                for i in range(len(slopes)):
                    jacobian[row, output, i] *= scale[output]


@cached
def answer_rows(record, table, kinds, packed, X, out, jacobian, scale, shift):
    """Write the answer to the rows of X into `out`, and its derivatives into `jacobian` unless that is None."""
    scratch = np.zeros(record[SCRATCH_SIZE], X.dtype)
    # the kinds of layers that are not dense write the gradient of their parameters too
    no_gradient = np.empty(0 if kinds is None or jacobian is None else len(packed), X.dtype)
    no_order, stop = np.empty(0, np.int64), record[STOP : STOP + 1]
    for first in range(0, len(X), ROWS):
        rows = min(ROWS, len(X) - first)
        gather(X, no_order, first, rows, scratch[table[0, SOURCE] :])
        forward_block(table, kinds, NO_STEP, 0, packed, rows, scratch, stop)
        write_values(record, table, rows, scratch, out[first:], scale, shift)
        if jacobian is not None:
            write_jacobian(
                record, table, kinds, packed, rows, scratch, no_gradient, stop, jacobian[first:], scale
            )  # fmt: skip


@functools.cache
def rows_function(dtype: str, only_dense: bool, with_gradient: bool) -> Any:
    """``int f(user_data, X, rows, out)``, or with a gradient behind `out`, for networks of a dtype, with dense layers
    alone or with any."""
    reals_at = _REALS_AT[dtype]

    def answer(user_data, X, rows, out, jacobian):
        record = carray(user_data, LENGTH)
        table = carray(_INTEGERS_AT(record[TABLE]), (record[TABLE_ROWS], record[TABLE_WIDTH]))
        if only_dense:
            kinds = None
        else:
            kinds = carray(_DOUBLES_AT(record[SETTINGS]), record[TABLE_ROWS]), np.uint64(record[SEED])
        scaled = record[COLUMNS] if record[SCALE] else 0
        answer_rows(
            record, table, kinds, carray(reals_at(record[PACKED]), record[PACKED_SIZE]),
            carray(X, (rows, record[INPUTS])), carray(out, (rows, record[COLUMNS])), jacobian,
            carray(reals_at(record[SCALE]), scaled), carray(reals_at(record[SHIFT]), scaled),
        )  # fmt: skip

    answer = njit(**OPTIONS)(answer)

    def values(user_data, X, rows, out):
        try:
            answer(user_data, X, rows, out, None)
        except Exception:
            return OUT_OF_MEMORY
        return OK

    def both(user_data, X, rows, out, jacobian):
        try:
            record = carray(user_data, LENGTH)
            answer(user_data, X, rows, out, carray(jacobian, (rows, record[COLUMNS], record[INPUTS])))
        except Exception:
            return OUT_OF_MEMORY
        return OK

    reals = types.CPointer(getattr(types, dtype))
    arguments = (types.CPointer(types.int64), reals, types.int64, reals)
    if with_gradient:
        return cfunc(types.int32(*arguments, reals), error_model="numpy")(both)
    return cfunc(types.int32(*arguments), error_model="numpy")(values)
