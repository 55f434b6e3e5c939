"""The micro-kernels against exact sums, at every size from 0 to twice a tile, between pages that kill.

Strides above the least, NaNs in every gap of an operand, results whose memory holds no number before; every operand
ends where a page begins that nobody may touch; nothing beside the results may change.  The error of each element is
held against the bound of its chain (`exact_chains`).  The unmarked tests take the sizes next to the edges, the slow
ones all.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from exact_chains import Bounded, Chains, exact_chains, full_numbers
from guarded_memory import GuardedMemory, in_child
from micro_kernels import (
    BAND,
    ISAS,
    Kernel,
    Product,
    Sizes,
    all_sizes,
    by_kernel,
    edge_sizes,
    kernel,
    multiply,
    needs_c,
)

pytestmark = needs_c

# what a tile does with its sums (csrc/functions.h)
PLAIN, RELU, RELU_SLOPE = 0, 1, 2
# where a product starts and ends: the bias, what C holds, an activation of the sums or the slope of one
MODES = ("zeros", "bias", "adds", "relu", "slope")
# next to where the depth of a product is cut, and its double
DEEP = (511, 512, 513, 1023, 1024, 1025)
# what a product's operands take of a second-level cache before it cuts its depth (csrc/kernels.inc.h)
CACHE_BYTES = 450_560

# what chains start from in each mode
STARTS = {"zeros": "nothing", "bias": "bias", "adds": "numbers", "relu": "bias", "slope": "nothing"}


@dataclass(frozen=True)
class Operands:
    """Numbers for the largest product of some sizes."""

    a: np.ndarray
    b: np.ndarray
    bias: np.ndarray
    numbers: np.ndarray
    outputs: np.ndarray


@functools.cache
def operands(dtype: str, rows: int, columns: int, depth: int) -> Operands:
    shapes = ((rows, depth), (depth, columns), (columns,), (rows, columns), (rows, columns))
    *four, outputs = (full_numbers(shape, dtype, seed) for seed, shape in enumerate(shapes))
    return Operands(*four, np.maximum(outputs, 0))


@functools.cache
def exact_products(dtype: str, rows: int, columns: int, depths: tuple[int, ...], start: str) -> Chains:
    """The exact sums of all products of these depths and of no more rows and columns."""
    given = operands(dtype, rows, columns, depths[-1])
    return exact_chains(given.a, given.b, getattr(given, start, None), depths)


def test_exact_chains_are_exact() -> None:
    a, b, start = full_numbers((3, 7), "float64", 0), full_numbers((7, 2), "float64", 1), np.array([0.1, -3.0])
    chains = exact_chains(a, b, start)
    for (end, i, j), high in np.ndenumerate(chains.high):
        terms = [Fraction(a[i, k]) * Fraction(b[k, j]) for k in range(end)]
        exact = Fraction(start[j]) + sum(terms)
        assert abs(Fraction(high) + Fraction(chains.low[end, i, j]) - exact) <= abs(exact) / 2**100
        size = float(abs(Fraction(start[j])) + sum(map(abs, terms)))
        assert chains.size[end, i, j] == pytest.approx(size, rel=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bound_notices_errors(dtype: str) -> None:
    a, b = full_numbers((4, 9), dtype, 0), full_numbers((9, 5), dtype, 1)
    chains = exact_chains(a, b, ends=(9,)).within(dtype, True).after(9)
    nearest = chains.high.astype(dtype)
    assert 0 < chains.share(nearest) < 1
    # more than what nine roundings can do, a term that is left out, a NaN
    for wrong in (nearest * np.array(1 + 40 * np.finfo(dtype).eps, dtype), nearest - a[:, :1] * b[:1]):
        assert chains.share(wrong) > 1
    nearest[2, 3] = np.nan
    assert chains.share(nearest) == np.inf


def places(rows: int, columns: int, band: int, width: int = BAND) -> np.ndarray:
    """Where number (row, column) lies, `band` being the distance of bands of `width` columns."""
    row, column = np.ogrid[:rows, :columns]
    return column // width * band + row * width + column % width


class Window:
    """Guarded memory of one dtype, and the last numbers in it."""

    def __init__(self, numbers: int, dtype: str) -> None:
        self._memory = GuardedMemory(numbers * np.dtype(dtype).itemsize)
        self.numbers = self._memory.bytes.view(dtype)
        self.bits = self._memory.bytes.view(f"i{np.dtype(dtype).itemsize}")
        self._itemsize = self.numbers.itemsize

    def address(self, length: int) -> int:
        """Of an array of so many numbers that ends where the page begins."""
        return self._memory.end - length * self._itemsize

    def hold(self, values: np.ndarray, at: np.ndarray, length: int) -> int:
        """Address of an array of so many numbers: the values at their places, everywhere else NaN."""
        self.numbers.fill(np.nan)
        if values.size:
            self.numbers[len(self.numbers) - length + at] = values
        return self.address(length)

    def clear(self) -> None:
        """All bits 1, which no result has."""
        self.bits.fill(-1)

    def count_written(self) -> int:
        """Numbers that have changed since."""
        return int(np.count_nonzero(self.bits != -1))


class RowProducts:
    """C = start + A B by row tiles, each operand in its own guarded memory."""

    def __init__(self, kernel: Kernel, sizes: Sizes, case: np.ndarray) -> None:
        self.kernel, self.sizes, self.case = kernel, sizes, case
        rows, columns, depth = max(sizes.rows), max(sizes.columns), max(sizes.depths)
        self.given = operands(kernel.dtype, rows, columns, depth)
        chains = {mode: exact_products(kernel.dtype, rows, columns, sizes.depths, STARTS[mode]) for mode in MODES}
        self.bounded = {mode: each.within(kernel.dtype, kernel.is_fused) for mode, each in chains.items()}
        bands = -(-max(columns, depth) // BAND)
        self.a = Window((rows + 3) * BAND * bands, kernel.dtype)
        self.b = {
            width: Window(3 * (depth + 1) * (kernel.panel + 8) + kernel.panel, kernel.dtype) for width in sizes.columns
        }
        self.bias = Window(columns + kernel.panel, kernel.dtype)
        self.outputs, self.c = (Window((rows + 3) * BAND * (bands + 1), kernel.dtype) for _ in range(2))
        self.product, self.calls, self.worst = Product(), 0, 0.0
        self.layouts: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, int]] = {}

    def run(self) -> None:
        for depth in self.sizes.depths:
            packed = {columns: self._pack_b(columns, depth) for columns in self.sizes.columns}
            before = {columns: self.b[columns].bits.copy() for columns in self.sizes.columns}
            expected = {mode: each.after(depth) for mode, each in self.bounded.items()}
            for rows in self.sizes.rows:
                self._pack_a(rows, depth)
                for columns in self.sizes.columns:
                    self.case[:4] = 0, rows, columns, depth
                    self.product.b, self.product.b_panel, self.product.pitch = packed[columns]
                    for number, mode in enumerate(MODES):
                        self.case[0] = number
                        part = expected[mode].corner(rows, columns)
                        self._check(mode, rows, columns, part)
            for columns in self.sizes.columns:
                assert np.array_equal(self.b[columns].bits, before[columns]), "an operand was written"

    def _pack_a(self, rows: int, depth: int) -> None:
        # 0 to 2 rows more than there are
        band = (rows + rows % 3) * BAND
        at = places(rows, depth, band)
        self.product.depth, self.product.a_band = depth, band
        self.product.a = self.a.hold(self.given.a[:rows, :depth], at, int(at.max(initial=-1)) + 1)

    def _pack_b(self, columns: int, depth: int) -> tuple[int, int, int]:
        """Address, distance of panels and of rows: rows as wide as a panel or wider, or narrow ones without gaps."""
        panel = self.kernel.panel
        pitch = panel + 8 * (columns % 2)
        if columns < self.kernel.lanes and columns % 2:
            pitch = columns
        distance = depth * pitch + 8 * (columns % 3)
        row, column = np.ogrid[:depth, :columns]
        at = column // panel * distance + row * pitch + column % panel
        # the last row is read in whole vectors
        last = max(0, self.kernel.written(columns) - 1)
        length = last // panel * distance + (depth - 1) * pitch + last % panel + 1
        return self.b[columns].hold(self.given.b[:depth, :columns], at, length), distance, pitch

    def _layout(self, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Places of the results, of what is computed beside them, and how long C is."""
        if (rows, columns) not in self.layouts:
            at = places(rows, self.kernel.written(columns), (rows + columns % 3) * BAND)
            length = int(at.max(initial=-1)) + 1
            at = at + len(self.c.numbers) - length
            self.layouts[rows, columns] = at[:, :columns].copy(), at[:, columns:].copy(), length
        return self.layouts[rows, columns]

    def _check(self, mode: str, rows: int, columns: int, expected: Bounded) -> None:
        product, given = self.product, self.given
        results, beside, length = self._layout(rows, columns)
        self.c.clear()
        if mode == "adds":
            self.c.numbers[results] = given.numbers[:rows, :columns]
            self.c.numbers[beside] = 0
        product.rows, product.columns, product.c_band = rows, columns, (rows + columns % 3) * BAND
        product.c, product.adds = self.c.address(length), mode == "adds"
        product.kind = {"relu": RELU, "slope": RELU_SLOPE}.get(mode, PLAIN)
        product.bias = product.outputs = None
        if STARTS[mode] == "bias":
            product.bias = self.bias.hold(given.bias[:columns], np.arange(columns), self.kernel.written(columns))
        if mode == "slope":
            at = results - (len(self.c.numbers) - length)
            product.outputs = self.outputs.hold(given.outputs[:rows, :columns], at, length)
            expected = expected.times(given.outputs[:rows, :columns] != 0)
        if mode == "relu":
            expected = expected.times(expected.high > 0)
        multiply(self.kernel.isa, self.kernel.dtype, _SIZES, product)
        self.calls += 1
        assert self.c.count_written() == rows * self.kernel.written(columns), f"{mode}: not what was to be written"
        self.worst = max(self.worst, expected.share(self.c.numbers[results]))
        assert self.worst <= 1, f"{mode}: {self.worst:.3g} of the bound"


_SIZES = (ctypes.c_int64 * 4)()


class ColumnProducts:
    """C = A^T B by column tiles: A is a band of up to 32 columns, B one of up to a panel."""

    def __init__(self, kernel: Kernel, sizes: Sizes, case: np.ndarray) -> None:
        self.kernel, self.depths, self.case = kernel, sizes.depths, case
        self.rows = sorted({rows for rows in (*sizes.rows, BAND - 1, BAND) if 0 < rows <= BAND})
        self.columns = [columns for columns in sizes.columns if 0 < columns <= kernel.panel]
        self.given = operands(kernel.dtype, BAND, kernel.panel, sizes.depths[-1])
        chains = exact_products(kernel.dtype, BAND, kernel.panel, sizes.depths, "nothing")
        self.bounded = chains.within(kernel.dtype, kernel.is_fused)
        self.a, self.b, self.c = (Window((sizes.depths[-1] + BAND) * BAND, kernel.dtype) for _ in range(3))
        self.product, self.calls, self.worst = Product(by_columns=1), 0, 0.0

    def run(self) -> None:
        for depth in self.depths:
            expected = self.bounded.after(depth)
            for columns in self.columns:
                width = -(-columns // self.kernel.lanes) * self.kernel.lanes
                at = places(depth, columns, 0)
                self.product.depth, self.product.columns = depth, columns
                self.product.b = self.b.hold(self.given.b[:depth, :columns], at, (depth - 1) * BAND + width)
                for rows in self.rows:
                    self.case[:4] = len(MODES), rows, columns, depth
                    self._check(rows, columns, width, expected.corner(rows, columns))

    def _check(self, rows: int, columns: int, width: int, expected: Bounded) -> None:
        product, panel = self.product, self.kernel.panel
        at = places(product.depth, rows, 0)
        length = (rows - 1) * panel + width
        self.c.clear()
        product.rows, product.c = rows, self.c.address(length)
        product.a = self.a.hold(self.given.a[:rows, : product.depth].T, at, int(at[-1, -1]) + 1)
        multiply(self.kernel.isa, self.kernel.dtype, _SIZES, product)
        self.calls += 1
        assert self.c.count_written() == rows * width, "not what was to be written"
        found = self.c.numbers[places(rows, columns, 0, panel) + len(self.c.numbers) - length]
        self.worst = max(self.worst, expected.share(found))
        assert self.worst <= 1, f"{self.worst:.3g} of the bound"


def run_kernels(isa: str, dtype: str, sizes: Sizes) -> int:
    """Both products at all these sizes in a child; the number of calls."""
    known = kernel(isa, dtype)
    for start in set(STARTS.values()):
        # in the parent, where they are remembered
        exact_products(dtype, max(sizes.rows), max(sizes.columns), sizes.depths, start)

    def work(case: np.ndarray) -> tuple[int, float]:
        products = RowProducts(known, sizes, case), ColumnProducts(known, sizes, case)
        for each in products:
            each.run()
        return sum(each.calls for each in products), max(each.worst for each in products)

    calls, worst = in_child(work)
    print(f"kernels, {isa} {dtype}: {calls} calls, the largest error {worst:.3f} of its bound")
    return calls


@by_kernel
def test_kernels_at_edge_sizes(isa: str, dtype: str) -> None:
    assert run_kernels(isa, dtype, edge_sizes(kernel(isa, dtype))) > 1000


@pytest.mark.slow
@by_kernel
def test_kernels_at_all_sizes(isa: str, dtype: str) -> None:
    known = kernel(isa, dtype)
    sizes = all_sizes(known)
    combined = len(MODES) * len(sizes.rows) * len(sizes.columns) * len(sizes.depths)
    assert run_kernels(isa, dtype, sizes) > combined


@pytest.mark.slow
@by_kernel
def test_kernels_where_the_depth_is_cut(isa: str, dtype: str) -> None:
    known = kernel(isa, dtype)
    run_kernels(isa, dtype, Sizes((1, known.rows, known.rows + 1), (1, known.lanes, known.panel + 1), DEEP))


@by_kernel
def test_kernels_where_many_rows_cut_the_depth(isa: str, dtype: str) -> None:
    known = kernel(isa, dtype)
    # rows of a strip, and the depth that they and two panels are carried through at once
    rows = 239
    depth = CACHE_BYTES // np.dtype(dtype).itemsize // (rows + 2 * known.panel)
    run_kernels(isa, dtype, Sizes((rows - 1, rows), (1, known.panel + 1), (depth, depth + 1, 2 * depth, 2 * depth + 1)))


def test_a_page_behind_an_operand_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    # the test of the test: B one number too short
    right = Kernel.written
    monkeypatch.setattr(Kernel, "written", lambda self, columns: right(self, columns) - (columns > 0))
    isa, dtype = ISAS[0], "float32"
    with pytest.raises(AssertionError, match="SIGSEGV: memory outside an array was touched, in the case"):
        run_kernels(isa, dtype, Sizes((1,), (3,), (2,)))
