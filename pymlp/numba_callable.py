"""A predictor as a function that Numba's compiled code calls: what `Predictor.as_numba` gives.

To Numba it is a value of a type of its own: the address of a small record that says which C function to call, with
what, and which shapes fit.  Predictors of one dtype and one form of answer share a type, so code that is given one as
an argument is compiled once for all of them, and can be cached; where one is a global variable, its address becomes
part of the machine code, which then keeps it alive and is never cached.  The checks of shapes are compiled as well, and
become part of the code around the call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit, typeof, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.imputils import lower_constant
from numba.core.typing import signature
from numba.extending import (
    NativeValue,
    intrinsic,
    lower_builtin,
    models,
    register_model,
    typeof_impl,
    unbox,
)

from pymlp.backends.numba_functions import OPTIONS, cached

# places in a function's record, each an int64
FUNCTION, USER_DATA, INPUTS, COLUMNS, LENGTH = range(5)

# code that others keep on disk has the record's places in it, and must not meet those of another version: the name of
# the type, by which it is found again, says which these are
_DIGEST = sha256(Path(__file__).read_bytes()).hexdigest()[:8]

_BYTES = ir.IntType(8).as_pointer()
_INT64 = ir.IntType(64)
_CODE = ir.IntType(32)


class ShapeError(ValueError):
    """A text with places for the numbers behind it: compiled code would take a second to learn how to fill them in."""

    def __str__(self) -> str:
        text, *numbers = self.args
        return text.format(*numbers)


class PredictorFunction:
    """A predictor that compiled code can call; see `pymlp.Predictor.as_numba`.

    Parameters
    ----------
    predictor : pymlp.Predictor
    value_and_gradient : bool
    """

    __slots__ = ("__weakref__", "_callback", "_numba_type_", "_record", "predictor", "value_and_gradient")

    def __init__(self, predictor: Any, value_and_gradient: bool) -> None:
        self.predictor, self.value_and_gradient = predictor, value_and_gradient
        self._callback = predictor._callback()
        self._record = np.zeros(LENGTH, np.int64)
        name = "pymlp_call_rows_and_gradient" if value_and_gradient else "pymlp_call_rows"
        self._record[FUNCTION] = self._callback.function(name)
        self._record[USER_DATA] = self._callback.address
        self._record[INPUTS], self._record[COLUMNS] = predictor.network.inputs, predictor._backend.columns
        self._numba_type_ = PredictorFunctionType(predictor.network.dtype, predictor._tail == (), value_and_gradient)

    @property
    def _address(self) -> int:
        return self._record.ctypes.data

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """What it does in compiled code; TypeError where an argument is of a type that it does not take there."""
        kind = self._numba_type_
        try:
            given = kind.parameters(arguments, named).bind(*arguments, **named).args
            entry = kind.entry(tuple(typeof(each) for each in given))
        except (TypingError, ValueError) as error:
            raise TypeError(str(error)) from None
        return self._uncompiled(*given) if config.DISABLE_JIT else entry(self, *given)

    def _uncompiled(self, x: np.ndarray, *targets: np.ndarray) -> Any:
        """The same where NUMBA_DISABLE_JIT lets all code run as Python, for debuggers."""
        found = self.predictor.value_and_gradient(x) if self.value_and_gradient else (self.predictor(x),)
        for target, numbers in zip(targets, found, strict=False):
            target[...] = np.reshape(numbers, target.shape)
        answer = targets or found
        return answer if self.value_and_gradient else answer[0]

    def __repr__(self) -> str:
        form = "value_and_gradient=True" if self.value_and_gradient else ""
        return f"<as_numba({form}) of a {self.predictor.network.dtype} predictor of {self.predictor.network.widths}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.predictor, self.value_and_gradient)


class PredictorFunctionType(types.Callable):
    """Numba's type of a `PredictorFunction`.

    Parameters
    ----------
    dtype : {"float32", "float64"}
    flat : bool
        The answer has no axis for columns.
    value_and_gradient : bool
    """

    def __init__(self, dtype: str, flat: bool, value_and_gradient: bool) -> None:
        self.dtype, self.flat, self.value_and_gradient = getattr(types, dtype), flat, value_and_gradient
        form = f"{dtype}, flat={flat}, value_and_gradient={value_and_gradient}"
        super().__init__(f"PredictorFunction({form}, {_DIGEST})")

    def parameters(self, arguments: tuple, named: dict) -> inspect.Signature:
        """Those of a call that has these arguments; TypingError if there is no such call."""
        forms = (("x",), ("x", "out", "gradient") if self.value_and_gradient else ("x", "out"))
        for names in forms:
            if len(arguments) + len(named) == len(names) and set(named) == set(names[len(arguments) :]):
                kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
                return inspect.Signature([inspect.Parameter(name, kind) for name in names])
        given = ", ".join([*map(str, map(_described, arguments)), *(f"{name}=" for name in named)])
        raise TypingError(f"a predictor's function takes ({'), or ('.join(map(', '.join, forms))}), got ({given})")

    def entry(self, kinds: tuple) -> Callable:
        """The compiled function for arguments of these types; TypingError names the one that does not fit."""
        x = kinds[0]
        self._check("x", x, (1, 2))
        axes = x.ndim
        if len(kinds) > 1:
            self._check("out", kinds[1], (axes - 1, axes) if self.flat else (axes,), writes=True)
        if len(kinds) > 2:
            self._check("gradient", kinds[2], (axes, axes + 1) if self.flat else (axes + 1,), writes=True)
        if self.value_and_gradient:
            return fill_both if len(kinds) > 1 else _NEW_BOTH[axes, self.flat]
        return fill if len(kinds) > 1 else _NEW[axes, self.flat]

    def _check(self, name: str, kind: Any, axes: tuple[int, ...], *, writes: bool = False) -> None:
        if (
            not isinstance(kind, types.Array)
            or kind.dtype != self.dtype
            or kind.layout != "C"
            or not kind.aligned
            or kind.ndim not in axes
            or (writes and not kind.mutable)
        ):
            writable = "writable " if writes else ""
            raise TypingError(
                f"{name} must be a {writable}C-contiguous {self.dtype} array whose dimensions are "
                f"{' or '.join(map(str, axes))}, got {_described(kind)}"
            )

    def get_call_type(self, context: Any, args: tuple, kws: dict) -> Any:
        """Numba's question what a call returns."""
        parameters = self.parameters(args, kws)
        given = parameters.bind(*args, **kws).args
        found = _called(context, self.entry(given), (self, *given))[1]
        return signature(found.return_type, *given, recvr=self).replace(pysig=parameters)

    def get_call_signatures(self) -> tuple:
        """Numba's question which calls there are, for its messages."""
        return (), True

    def get_impl_key(self, sig: Any) -> type:
        """What the code of a call is registered by."""
        return type(self)


def _described(argument: Any) -> str:
    return str(argument if isinstance(argument, types.Type) else type(argument).__name__)


def _called(context: Any, entry: Any, kinds: tuple) -> tuple:
    """The type of a compiled function, and the signature of its call with arguments of these types."""
    kind = types.Dispatcher(entry)
    return kind, kind.get_call_type(context, kinds, {})


# --- what Numba must know of the type ---------------------------------------------------------------------------------

register_model(PredictorFunctionType)(models.OpaqueModel)


@typeof_impl.register(PredictorFunction)
def _type_of(value: PredictorFunction, context: Any) -> PredictorFunctionType:
    return value._numba_type_


@unbox(PredictorFunctionType)
def _unbox(kind: PredictorFunctionType, value: Any, c: Any) -> NativeValue:
    # the caller's arguments keep it alive
    address = c.pyapi.object_getattr_string(value, "_address")
    native = c.pyapi.long_as_voidptr(address)
    c.pyapi.decref(address)
    return NativeValue(native, is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


@lower_constant(PredictorFunctionType)
def _constant(context: Any, builder: Any, kind: PredictorFunctionType, value: PredictorFunction) -> Any:
    # the machine code that holds the address keeps what lies there: the variable may be bound to something else later
    vars(context.active_code_library).setdefault("_pymlp_functions", []).append(value)
    return context.add_dynamic_addr(builder, value._address, info=repr(value))


@lower_builtin(PredictorFunctionType, PredictorFunctionType, types.VarArg(types.Any))
def _call(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.get_function(*_called(context.typing_context, sig.args[0].entry(sig.args[1:]), sig.args))(
        builder, args
    )


# --- reading the record, and the call itself --------------------------------------------------------------------------


def _field(builder: Any, record: Any, place: int) -> Any:
    numbers = builder.bitcast(record, _INT64.as_pointer())
    field = builder.load(builder.gep(numbers, [ir.Constant(_INT64, place)]))
    # a record never changes, so that loops need not read it anew after each call
    field.set_metadata("invariant.load", builder.module.add_metadata([]))
    return field


def _reader(place: int) -> Callable:
    @intrinsic
    def read(typing_context, f):
        return types.int64(f), lambda context, builder, sig, args: _field(builder, args[0], place)

    return read


inputs_of, columns_of = _reader(INPUTS), _reader(COLUMNS)


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return builder.bitcast(context.make_array(kind)(context, builder, array).data, _BYTES)


def _call_function(builder: Any, record: Any, x: Any, rows: Any, *outputs: Any) -> Any:
    arguments = [builder.inttoptr(_field(builder, record, USER_DATA), _BYTES), x, rows, *outputs]
    kind = ir.FunctionType(_CODE, [argument.type for argument in arguments])
    return builder.call(builder.inttoptr(_field(builder, record, FUNCTION), kind.as_pointer()), arguments)


@intrinsic
def call_rows(typing_context, f, x, rows, out):
    """Write the answer to `rows` rows; a code."""

    def generate(context, builder, sig, args):
        x, out = (_data(context, builder, sig.args[i], args[i]) for i in (1, 3))
        return _call_function(builder, args[0], x, args[2], out)

    return types.int32(f, x, types.int64, out), generate


@intrinsic
def call_rows_and_gradient(typing_context, f, x, rows, out, gradient):
    """Write the answer to `rows` rows, and its derivatives; a code."""

    def generate(context, builder, sig, args):
        x, out, gradient = (_data(context, builder, sig.args[i], args[i]) for i in (1, 3, 4))
        return _call_function(builder, args[0], x, args[2], out, gradient)

    return types.int32(f, x, types.int64, out, gradient), generate


@intrinsic
def overlap(typing_context, first, second):
    """Whether two arrays share memory."""

    def generate(context, builder, sig, args):
        ends = []
        for kind, value in zip(sig.args, args, strict=True):
            array = context.make_array(kind)(context, builder, value)
            start = builder.ptrtoint(array.data, _INT64)
            ends.append((start, builder.add(start, builder.mul(array.nitems, array.itemsize))))
        (first, first_end), (second, second_end) = ends
        return builder.and_(
            builder.icmp_unsigned("<", first, second_end), builder.icmp_unsigned("<", second, first_end)
        )

    return types.boolean(first, second), generate


# --- the calls, by what is given and what is made ---------------------------------------------------------------------


@njit(**OPTIONS)
def checked_rows(f, x):
    """Number of rows of x."""
    if x.shape[-1] != inputs_of(f):
        raise ShapeError("x must have {} numbers a row, got {}", inputs_of(f), x.shape[-1])
    return 1 if x.ndim == 1 else x.shape[0]


@njit(**OPTIONS)
def check_out(f, x, rows, out):
    """ValueError unless `out` is of the answer's shape and of other memory than x."""
    columns = columns_of(f)
    fits = out.size == rows * columns
    if out.ndim == x.ndim:
        fits = fits and out.shape[-1] == columns
    if not fits:
        raise ShapeError("out must have {} numbers for each of {} rows, got {} in all", columns, rows, out.size)
    if overlap(x, out):
        raise ValueError("out must not overlap x")


@njit(**OPTIONS)
def check_gradient(f, x, rows, out, gradient):
    """ValueError unless `gradient` is of the derivatives' shape and of other memory than x and `out`."""
    columns, inputs = columns_of(f), inputs_of(f)
    fits = gradient.size == rows * columns * inputs and gradient.shape[-1] == inputs
    if gradient.ndim > x.ndim:
        fits = fits and gradient.shape[-2] == columns
    if not fits:
        raise ShapeError(
            "gradient must have {} x {} numbers for each of {} rows, got {} in all",
            columns, inputs, rows, gradient.size,
        )  # fmt: skip
    if overlap(x, gradient) or overlap(out, gradient):
        raise ValueError("gradient must not overlap x or out")


@njit(**OPTIONS)
def check_code(code):
    """What the engine's code means, as an exception."""
    if code == 1:
        raise MemoryError("out of memory in a predictor")
    if code != 0:
        raise RuntimeError("a predictor failed with the code", code)


@cached
def fill(f, x, out):
    """``f(x, out)``."""
    rows = checked_rows(f, x)
    check_out(f, x, rows, out)
    check_code(call_rows(f, x, rows, out))
    return out


@cached
def fill_both(f, x, out, gradient):
    """``f(x, out, gradient)``."""
    rows = checked_rows(f, x)
    check_out(f, x, rows, out)
    check_gradient(f, x, rows, out, gradient)
    check_code(call_rows_and_gradient(f, x, rows, out, gradient))
    return out, gradient


@cached
def new_number(f, x):
    """``f(x)`` of one row whose answer is a number."""
    return fill(f, x, np.empty(1, x.dtype))[0]


@cached
def new_row(f, x):
    """``f(x)`` of one row."""
    return fill(f, x, np.empty(columns_of(f), x.dtype))


@cached
def new_numbers(f, x):
    """``f(x)`` of rows whose answers are numbers."""
    return fill(f, x, np.empty(x.shape[0], x.dtype))


@cached
def new_rows(f, x):
    """``f(x)`` of rows."""
    return fill(f, x, np.empty((x.shape[0], columns_of(f)), x.dtype))


@cached
def new_number_and_gradient(f, x):
    """``f(x)`` of one row whose answer is a number, with its gradient."""
    out, gradient = fill_both(f, x, np.empty(1, x.dtype), np.empty(inputs_of(f), x.dtype))
    return out[0], gradient


@cached
def new_row_and_gradient(f, x):
    """``f(x)`` of one row, with its Jacobian."""
    return fill_both(f, x, np.empty(columns_of(f), x.dtype), np.empty((columns_of(f), inputs_of(f)), x.dtype))


@cached
def new_numbers_and_gradient(f, x):
    """``f(x)`` of rows whose answers are numbers, with their gradients."""
    return fill_both(f, x, np.empty(x.shape[0], x.dtype), np.empty((x.shape[0], inputs_of(f)), x.dtype))


@cached
def new_rows_and_gradient(f, x):
    """``f(x)`` of rows, with their Jacobians."""
    rows, columns = x.shape[0], columns_of(f)
    return fill_both(f, x, np.empty((rows, columns), x.dtype), np.empty((rows, columns, inputs_of(f)), x.dtype))


# by the axes of x, and whether the answer has none for columns
_NEW = {(1, True): new_number, (1, False): new_row, (2, True): new_numbers, (2, False): new_rows}
_NEW_BOTH = {
    (1, True): new_number_and_gradient,
    (1, False): new_row_and_gradient,
    (2, True): new_numbers_and_gradient,
    (2, False): new_rows_and_gradient,
}
