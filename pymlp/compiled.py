"""A predictor as functions that compiled code calls by their addresses: what `Predictor.as_cfunc` and its like give.

Other programs call back functions of one signature each, most of them SciPy's, and pass a pointer along; the C engine
has a function for each such signature (csrc/callables.c), and the pointer says which predictor answers.  A row of
`KINDS` is all there is to one of them.  What is handed out keeps the weights alive as long as it lives itself.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from pymlp.backends import missing_reason

_C_TYPES = {
    "void": None,
    "double": ctypes.c_double,
    "int": ctypes.c_int,
    "unsigned": ctypes.c_uint,
    "int64_t": ctypes.c_int64,
    "intptr_t": ctypes.c_ssize_t,
}


@dataclass(frozen=True)
class Kind:
    """One kind of function.

    Parameters
    ----------
    name : str
    function, signature : str
        Its name in csrc/callables.c, and its type in C; "real" stands for the type of the network's numbers.
    gradient_function, gradient_signature : str, optional
        The same of the version that writes derivatives too.
    fits : callable
        Whether a predictor of so many inputs and columns can be one.
    needs : str
        What it must be, for the error message.
    one_number : bool
        The function gives one column of the answer.
    """

    name: str
    function: str
    signature: str
    gradient_function: str = ""
    gradient_signature: str = ""
    fits: Callable[[int, int], bool] = lambda inputs, columns: True
    needs: str = ""
    one_number: bool = False


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "rows",
            "pymlp_call_rows",
            "int (*)(const void *user_data, const real *X, int64_t rows, real *out)",
            "pymlp_call_rows_and_gradient",
            "int (*)(const void *user_data, const real *X, int64_t rows, real *out, real *gradient)",
        ),
        Kind(
            "number",
            "pymlp_call_number",
            "double (*)(double x, void *user_data)",
            "pymlp_call_number_and_gradient",
            "double (*)(double x, double *gradient, void *user_data)",
            fits=lambda inputs, columns: inputs == 1,
            needs="one input",
            one_number=True,
        ),
        Kind(
            "point",
            "pymlp_call_point",
            "double (*)(int n, double *x, void *user_data)",
            "pymlp_call_point_and_gradient",
            "double (*)(unsigned n, const double *x, double *gradient, void *user_data)",
            one_number=True,
        ),
        Kind(
            "generic_filter",
            "pymlp_call_window",
            "int (*)(double *numbers, intptr_t size, double *value, void *user_data)",
            one_number=True,
        ),
        Kind(
            "generic_filter1d",
            "pymlp_call_line",
            "int (*)(double *input, intptr_t input_size, double *output, intptr_t output_size, void *user_data)",
            one_number=True,
        ),
        Kind(
            "geometric_transform",
            "pymlp_call_coordinates",
            "int (*)(intptr_t *output, double *input, int output_rank, int input_rank, void *user_data)",
        ),
        Kind(
            "ode",
            "pymlp_call_rates",
            "void (*)(double t, double *state, double *rates, void *user_data)",
            "pymlp_call_rates_and_gradient",
            "void (*)(double t, const double *state, double *rates, double *gradient, void *user_data)",
            fits=lambda inputs, columns: inputs - columns in (0, 1),
            needs="as many columns as inputs, or one fewer where the time is the first input",
        ),
    )
}


class CFunction:
    """A predictor as a C function, made by `pymlp.Predictor.as_cfunc`.

    Address and user data are good as long as this object lives, which also keeps the predictor's weights.

    Attributes
    ----------
    address : int
        Of the function.
    signature : str
        Its type in C, as cffi takes it: ``ffi.cast(f.signature, f.address)``.
    user_data : int
        The pointer that it must be given.
    kind : str
    value_and_gradient : bool
    """

    __slots__ = ("_callback", "address", "kind", "signature", "user_data", "value_and_gradient")

    def __init__(self, callback: Any, kind: Kind, dtype: str, value_and_gradient: bool) -> None:
        self._callback = callback
        self.kind, self.value_and_gradient = kind.name, value_and_gradient
        self.address = callback.function(kind.gradient_function if value_and_gradient else kind.function)
        signature = kind.gradient_signature if value_and_gradient else kind.signature
        self.signature = re.sub(r"\breal\b", {"float32": "float", "float64": "double"}[dtype], signature)
        self.user_data = callback.address

    @property
    def data(self) -> np.ndarray:
        """The user data as an array whose memory they are, for solvers that pass an array's address along.

        It keeps alive what this object does.
        """
        return np.asarray(self._callback)

    @property
    def ctypes(self) -> Any:
        """The function as ctypes calls it; it is for as long as this object that it may be called."""
        result, parameters = _types(self.signature)
        kinds = [ctypes.c_void_p if "*" in parameter else _C_TYPES[parameter] for parameter in parameters]
        return ctypes.CFUNCTYPE(_C_TYPES[result], *kinds)(self.address)

    def __repr__(self) -> str:
        return f"<{self.signature} at {self.address:#x}, user_data={self.user_data:#x}>"

    def __reduce__(self) -> Any:
        raise TypeError("a CFunction is addresses of this process: pickle the predictor, and make another there")


class _UserData(ctypes.c_void_p):
    """A pointer that keeps alive what it points to."""

    owner: Any


def c_function(
    predictor: Any, kind: str | None, column: int | None = None, value_and_gradient: bool = False
) -> CFunction:
    """A predictor as a function of a kind, None being an integrand's; see `pymlp.Predictor.as_cfunc`.

    Raises
    ------
    ValueError
        There is no such kind or column, or the predictor or the kind does not fit what is asked for.
    BackendUnavailableError
        The predictor's backend has no function of this kind.
    """
    network, columns = predictor.network, predictor._backend.columns
    if kind is None:
        kind = "number" if network.inputs == 1 else "point"
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not one of {', '.join(KINDS)}")
    row = KINDS[kind]
    if not row.fits(network.inputs, columns):
        raise ValueError(
            f"kind={kind!r} needs a predictor of {row.needs}; this one has {network.inputs} inputs, {columns} columns"
        )
    if value_and_gradient and not row.gradient_function:
        raise ValueError(f"kind={kind!r} has no version with value_and_gradient=True")
    if not row.one_number:
        if column is not None:
            raise ValueError(f"column={column!r} is for kinds that give one number; kind={kind!r} gives all columns")
    elif column is None and columns > 1:
        raise ValueError(f"column must say which of the {columns} columns kind={kind!r} is to give")
    elif column is not None and (
        not isinstance(column, Integral) or isinstance(column, bool) or not 0 <= column < columns
    ):
        raise ValueError(f"column must be one of 0 to {columns - 1}, got {column!r}")
    return CFunction(predictor._callback(int(column or 0)), row, network.dtype, value_and_gradient)


def low_level_callable(function: CFunction) -> Any:
    """The function with its user data as `scipy.LowLevelCallable`, which keeps both alive."""
    try:
        from scipy import LowLevelCallable
    except ImportError as error:
        raise ImportError("the package scipy is missing; run: pip install scipy") from error
    pointer = _UserData(function.user_data)
    pointer.owner = function
    result, parameters = _types(function.signature)
    return LowLevelCallable(function.ctypes, pointer, f"{result} ({', '.join(parameters)})")


def _types(signature: str) -> tuple[str, list[str]]:
    """Types alone, of the result and of the parameters."""
    result, parameters = re.fullmatch(r"(\w+) \(\*\)\((.*)\)", signature.replace("const ", "")).groups()
    return result, [re.sub(r"\w+$", "", parameter).strip() for parameter in parameters.split(", ")]


def numba_function(predictor: Any, value_and_gradient: bool) -> Any:
    """The predictor as a function for Numba's compiled code; ImportError without Numba."""
    # what is missing is named before Numba is imported, which takes a while
    predictor._callback()
    reason = missing_reason("numba")
    if reason is not None:
        raise ImportError(reason)
    from pymlp.numba_callable import PredictorFunction

    return PredictorFunction(predictor, value_and_gradient)
