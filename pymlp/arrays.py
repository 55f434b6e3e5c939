"""Arrays of numbers as users have them, and as the engine takes them.

NumPy makes numbers of nearly anything: of text, of dates, of what a mask hides, of half of a complex number.  Here that
is refused, by name; what holds real numbers in any layout, byte order or width is taken, and becomes an array that C
can read where it cannot as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pymlp.finiteness import check_finite

# booleans, integers, floating-point numbers, and objects that may be any of these
NUMBERS = "biufO"


def refuse_others(name: str, values: Any) -> None:
    """Raise where `values` are no real numbers, or not all of them are there.

    Parameters
    ----------
    name : str
        What the argument is called.
    values : array-like
        Sparse matrices and tables are left to those who know them.

    Raises
    ------
    TypeError
        Masked entries, text, dates, records (structured arrays), or a ``numpy.matrix``.
    ValueError
        Complex numbers, or lists whose rows differ in length.
    """
    if isinstance(values, (list, tuple)):
        for row in values:
            refuse_masked(name, row)
        try:
            values = np.asarray(values)
        except ValueError as error:
            raise ValueError(f"{name} is no array of numbers: {error}") from error
    refuse_masked(name, values)
    if isinstance(values, np.matrix):
        raise TypeError(f"{name} is a np.matrix, which is not supported: give np.asarray({name})")
    kind = getattr(values, "dtype", None)
    if not isinstance(kind, np.dtype) or kind.kind in NUMBERS:
        return
    if kind.kind == "c":
        raise ValueError(f"Complex data not supported: {name} must hold real numbers, got dtype {kind}")
    raise TypeError(f"{name} must hold real numbers, got dtype {kind}")


def refuse_masked(name: str, values: Any) -> None:
    """TypeError if entries of a masked array are masked: what the mask hides are numbers to everyone else."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        where = tuple(int(index) for index in np.argwhere(np.ma.getmaskarray(values))[0])
        raise TypeError(
            f"{name} is a masked array with masked entries, the first at {where}: fill them, or leave their rows out"
        )


def packed(values: Any, dtype: Any) -> np.ndarray:
    """`values` as a plain array that C can read: of `dtype`, C-contiguous and aligned; a copy only where it must be."""
    if type(values) is np.ndarray and values.dtype == dtype and values.flags.c_contiguous and values.flags.aligned:
        return values
    if type(values) is np.ndarray and values.dtype != dtype and values.dtype.kind in "biu":
        # none of them is too large
        return values.astype(dtype, order="C")
    with np.errstate(over="ignore"):
        return np.require(values, dtype, ("C", "A", "E"))


def finite_numbers(name: str, values: Any, dtype: str) -> np.ndarray:
    """`values` as an array of finite numbers, as `packed` makes it.

    Raises
    ------
    TypeError, ValueError
        See `refuse_others`; or a number is NaN, infinite or too large for `dtype`, or an object is none.
    """
    refuse_others(name, values)
    values = np.asarray(values)
    if values.dtype.kind == "O":
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name} must hold real numbers: {error}") from error
    check_finite(name, values, dtype)
    return packed(values, dtype)


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype, **others: Any) -> None:
    """ValueError if `out` is no array that C can write so many numbers of `dtype` to, or overlaps one of the `others`,
    arrays by their names."""
    if not isinstance(out, np.ndarray) or out.dtype != dtype or out.shape != shape or not out.flags.carray:
        raise ValueError(f"out must be a writeable C-contiguous {dtype} array of shape {shape}, got {_described(out)}")
    for name, other in others.items():
        if isinstance(other, np.ndarray) and np.may_share_memory(other, out):
            raise ValueError(f"out must not overlap {name}")


def _described(out: Any) -> str:
    if not isinstance(out, np.ndarray):
        return type(out).__name__
    flags = ("" if out.flags.c_contiguous else ", not contiguous") + ("" if out.flags.writeable else ", read-only")
    flags += "" if out.flags.aligned else ", not aligned"
    return f"{out.dtype} {out.shape}{flags}"
