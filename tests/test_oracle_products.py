"""The products of a plan's verbs against exact sums, at every size from 0 to twice a tile, between pages that kill.

A network of one linear layer is nothing but products: ``forward`` is X W + b, ``backward`` is D W^T and X^T D.  Every
array ends where a page begins that nobody may touch, or begins there; outputs hold NaNs before; the error of each
element is held against the bound of its chain (`exact_chains`).  The unmarked tests take the sizes next to the edges,
the slow ones all.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from exact_chains import Chains, exact_chains, full_numbers
from guarded_memory import GuardedMemory, in_child
from micro_kernels import Kernel, Sizes, all_sizes, by_kernel, edge_sizes, kernel, needs_c

from pymlp import Network, backends, config_context

pytestmark = needs_c

# next to where rows are cut: strips of phase 1, pieces of the gradient's products, blocks
MANY = (238, 239, 240, 255, 256, 257, 478, 479, 512, 513, 4095, 4096, 4097, 4353)


@functools.cache
def linear_layer(dtype: str, sizes: Sizes) -> tuple[tuple[np.ndarray, ...], tuple[Chains, ...]]:
    """X, the output's gradient, W and b of the largest layer, and the sums of out, x_gradient and both gradients."""
    rows, columns, depth = max(sizes.rows), max(sizes.columns), max(sizes.depths)
    shapes = ((rows, depth), (rows, columns), (depth, columns), (columns,))
    X, D, W, b = numbers = tuple(full_numbers(shape, dtype, 7 + seed) for seed, shape in enumerate(shapes))
    return numbers, (
        exact_chains(X, W, b, sizes.depths),
        exact_chains(D, W.T, None, sizes.columns),
        exact_chains(X.T, D, None, sizes.rows),
        exact_chains(np.ones((1, rows), dtype), D, None, sizes.rows),
    )


class Verbs:
    """`forward` and `backward` of a network of one linear layer, every array in its own guarded memory."""

    def __init__(self, known: Kernel, sizes: Sizes, case: np.ndarray) -> None:
        rows, columns, depth = max(sizes.rows), max(sizes.columns), max(sizes.depths)
        self.kernel, self.sizes, self.case = known, sizes, case
        self.calls, self.worst = 0, 0.0
        (self.X, self.D, self.W, self.b), chains = linear_layer(known.dtype, sizes)
        bounded = [each.within(known.dtype, known.is_fused) for each in chains]
        self.out, self.by_inputs, self.by_weights, self.by_bias = bounded
        counts = {"params": (depth + 1) * columns, "X": rows * depth, "out": rows * columns}
        counts |= {"gradient": counts["params"], "x_gradient": counts["X"], "output_gradient": counts["out"]}
        itemsize = np.dtype(known.dtype).itemsize
        self.memory = {name: GuardedMemory(count * itemsize) for name, count in counts.items()}

    def run(self) -> None:
        for depth in self.sizes.depths:
            for columns in self.sizes.columns:
                if columns > 0:
                    self._run_network(depth, columns)

    def _run_network(self, depth: int, columns: int) -> None:
        network = Network.from_widths((depth, columns), loss="squared_error", dtype=self.kernel.dtype)
        with config_context(isa=self.kernel.isa):
            plan = backends.get("c").Plan(network, max(self.sizes.rows), 1)
        # every other network begins where a page ends, instead of ending where one begins
        at_end, dtype = (depth + columns) % 2 == 0, self.kernel.dtype
        flat = np.concatenate([self.W[:depth, :columns].ravel(), self.b[:columns]])
        params = self.memory["params"].array(flat, dtype, at_end)
        found: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []
        for rows in self.sizes.rows:
            self.case[:4] = 100, rows, columns, depth
            X = self.memory["X"].array(self.X[:rows, :depth], dtype, at_end)
            D = self.memory["output_gradient"].array(self.D[:rows, :columns], dtype, at_end)
            out = self.memory["out"].empty((rows, columns), dtype, at_end)
            gradient = self.memory["gradient"].empty(flat.shape, dtype, at_end)
            x_gradient = self.memory["x_gradient"].empty((rows, depth), dtype, at_end)
            plan.forward(params, X, out)
            plan.backward(params, X, D, gradient, x_gradient)
            self.calls += 2
            assert all(memory.is_intact for memory in self.memory.values()), "written beside an array"
            found.append((rows, out.copy(), x_gradient.copy(), gradient.copy()))
        assert np.array_equal(params, flat), "the parameters were written"
        self._judge(found, depth, columns)

    def _judge(self, found: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]], depth: int, columns: int) -> None:
        # results of all numbers of rows at once
        many = np.concatenate([np.arange(rows) for rows, *_ in found])
        out, x_gradient = (np.concatenate([parts[i] for parts in found]) for i in (1, 2))
        rows, gradient = np.array([parts[0] for parts in found]), np.stack([parts[3] for parts in found])
        weights = gradient[:, : depth * columns].reshape(-1, depth, columns)
        biases = gradient[:, depth * columns :][:, None]
        to_depth, to_columns = slice(depth), slice(columns)
        self.worst = max(
            self.worst,
            self.out.after(depth, many, to_columns).share(out),
            self.by_inputs.after(columns, many, to_depth).share(x_gradient),
            self.by_weights.after(rows, to_depth, to_columns).share(weights),
            self.by_bias.after(rows, slice(1), to_columns).share(biases),
        )
        assert self.worst <= 1, f"{self.worst:.3g} of the bound at a depth of {depth}, {columns} columns"


def run_verbs(isa: str, dtype: str, sizes: Sizes) -> int:
    known = kernel(isa, dtype)
    # in the parent, where it is remembered
    linear_layer(dtype, sizes)

    def work(case: np.ndarray) -> tuple[int, float]:
        verbs = Verbs(known, sizes, case)
        verbs.run()
        return verbs.calls, verbs.worst

    calls, worst = in_child(work)
    print(f"verbs, {isa} {dtype}: {calls} calls, the largest error {worst:.3f} of its bound")
    return calls


@by_kernel
def test_verbs_at_edge_sizes(isa: str, dtype: str) -> None:
    assert run_verbs(isa, dtype, edge_sizes(kernel(isa, dtype))) > 500


@pytest.mark.slow
@by_kernel
def test_verbs_at_all_sizes(isa: str, dtype: str) -> None:
    sizes = all_sizes(kernel(isa, dtype))
    assert run_verbs(isa, dtype, sizes) == 2 * len(sizes.rows) * (len(sizes.columns) - 1) * len(sizes.depths)


@pytest.mark.slow
@by_kernel
def test_verbs_where_rows_are_cut(isa: str, dtype: str) -> None:
    run_verbs(isa, dtype, Sizes(MANY, (1, 17, 33), (1, 33)))
