"""The micro-kernels of every instruction set, called by themselves, and the sizes that are next to their edges.

A plan chooses strides and sizes by itself; tests must be able to, by `pymlp_multiply`.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pymlp import backends

needs_c = pytest.mark.skipif("c" not in backends.available(), reason=f"no C engine: {backends.missing_reason('c')}")
ISAS = backends.get("c").instruction_sets() if "c" in backends.available() else ()
by_kernel = pytest.mark.parametrize(("isa", "dtype"), list(itertools.product(ISAS, ("float32", "float64"))))

# columns of a band of a buffer (csrc/plan.h)
BAND = 32


class Product(ctypes.Structure):
    """``struct product`` of csrc/plan.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("by_columns", "rows", "columns", "depth")),
        *((name, ctypes.c_void_p) for name in ("a", "b", "bias", "outputs", "c")),
        *((name, ctypes.c_int64) for name in ("a_band", "b_panel", "pitch", "c_band", "adds", "kind")),
    )


@dataclass(frozen=True)
class Kernel:
    """A micro-kernel: rows of its tile, numbers in a panel, in a vector, and in half a vector if it has such tiles."""

    isa: str
    dtype: str
    rows: int
    panel: int
    lanes: int
    half: int

    @property
    def is_fused(self) -> bool:
        return self.isa != "portable"

    def written(self, columns: int) -> int:
        """Columns that are computed of so many: whole vectors, or half of one."""
        whole, rest = divmod(columns, self.panel)
        if 0 < rest <= self.half:
            return whole * self.panel + self.half
        return whole * self.panel + -(-rest // self.lanes) * self.lanes


@functools.cache
def kernel(isa: str, dtype: str) -> Kernel:
    sizes = (ctypes.c_int64 * 4)()
    assert multiply(isa, dtype, sizes, None) == 0
    return Kernel(isa, dtype, *sizes)


def multiply(isa: str, dtype: str, sizes: ctypes.Array, product: Product | None) -> int:
    ffi, lib = _engine()
    of = ffi.NULL if product is None else ffi.cast("void *", ctypes.addressof(product))
    return lib.pymlp_multiply(isa.encode(), 8 * np.dtype(dtype).itemsize, ffi.from_buffer("int64_t *", sizes), of)


@functools.cache
def _engine() -> tuple[Any, Any]:
    engine = importlib.import_module("pymlp._engine")
    return engine.ffi, engine.lib


@dataclass(frozen=True)
class Sizes:
    """Rows, columns and depths that are combined."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    depths: tuple[int, ...]


def all_sizes(kernel: Kernel) -> Sizes:
    """From 0, or from 1 where there is nothing to add up, to twice a tile; in depth to twice a band."""
    return Sizes(*(tuple(range(2 * size + 1)) for size in (kernel.rows, kernel.panel)), tuple(range(1, 2 * BAND + 1)))


def edge_sizes(kernel: Kernel) -> Sizes:
    """Those next to where a tile, a panel, a vector or a band ends."""

    def near(*ends: int) -> tuple[int, ...]:
        return tuple(sorted({size for end in ends for size in (end - 1, end, end + 1)}))

    rows = (*near(1, kernel.rows), 2 * kernel.rows)
    columns = (*near(1, kernel.lanes // 2, kernel.lanes, kernel.panel), 2 * kernel.panel)
    return Sizes(rows, columns, (1, 2, *near(BAND), 2 * BAND))
