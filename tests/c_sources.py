"""Exported C sources, compiled and called: for the tests of `pymlp.export.to_c`."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

# as strict as the sources are meant for
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")


def need(*programs: str) -> None:
    """Skip the test, naming the first of the programs that is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def compile_with(compiler: str, *arguments: str | Path) -> None:
    """Run a compiler; what it says is the message of a failure."""
    done = subprocess.run([compiler, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]


def library(sources: Sequence[Path], flags: Sequence[str] = ("-O2",), compiler: str = "gcc") -> ctypes.CDLL:
    """Sources as one shared library: a single translation unit, in which nothing of one may be in another's way."""
    need(compiler)
    unit = sources[0].with_name("unit.c")
    lines = [
        f'#include "{source.name}"\nint {source.stem}_width(void) {{ return {source.stem.upper()}_OUTPUTS; }}\n'
        for source in sources
    ]
    unit.write_text("".join(lines), encoding="ascii")
    target = unit.with_suffix(".so")
    compile_with(compiler, *STRICT, *flags, "-shared", "-fPIC", unit, "-o", target)
    return ctypes.CDLL(str(target))


def predicted(functions: ctypes.CDLL, name: str, X: np.ndarray) -> np.ndarray:
    """Answers (rows, columns) for the rows of a C-contiguous X, until the last of which nothing else is written."""
    columns = columns_of(functions, name)
    # what lies behind a row must stay
    out = np.full((len(X), columns + 1), 77, X.dtype)
    function = getattr(functions, f"{name}_predict")
    for x, answer in zip(X, out, strict=True):
        function(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(answer.ctypes.data))
    assert (out[:, columns] == 77).all()
    return out[:, :columns]


def columns_of(functions: ctypes.CDLL, name: str) -> int:
    """How many numbers a row's answer is: the sources have it as a macro, `library` as a function."""
    return int(getattr(functions, f"{name}_width")())


def ulps(found: np.ndarray, expected: np.ndarray) -> int:
    """The largest distance in units in the last place; numbers below the smallest normal one count as 0."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    integer = np.int32 if found.itemsize == 4 else np.int64

    def places(numbers: np.ndarray) -> np.ndarray:
        # the bits of floating-point numbers are in their order, but for the sign
        normal = np.where(np.abs(numbers) < np.finfo(numbers.dtype).tiny, 0, numbers).astype(numbers.dtype)
        bits = normal.view(integer).astype(object)
        return np.where(bits < 0, -(bits + 2 ** (8 * found.itemsize - 1)), bits)

    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    there = ~np.isnan(expected)
    if not there.any():
        return 0
    return int(np.abs(places(found[there]) - places(expected[there])).max())
