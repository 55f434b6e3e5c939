"""The same bits: C gives the same bytes with every fused instruction set, any number of threads, any cut of the rows.

Compared are whole results as bytes, so that even the sign of a zero counts.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matrix import (
    ANALYSED_LOSSES,
    DTYPES,
    EDGES,
    FUSED,
    HIDDEN_ACTIVATIONS,
    SHAPES,
    Case,
    Engine,
    make_case,
    mixed_activations,
)

from pymlp.optimizers import SGD, Adam, AdamW, Optimizer, new_slots

pytestmark = pytest.mark.skipif(
    not FUSED, reason="the C engine was not built, or this machine has no fused instructions"
)

OPTIMIZERS = (Adam(), SGD(), SGD(nesterov=False), AdamW(weight_decay=0.2))
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def results(engine: Engine, n_threads: int, case: Case, optimizer: Optimizer) -> dict[str, bytes]:
    """Everything that the verbs write, by name."""
    network, rows = case.network, len(case.X)
    plan = engine.plan(network, rows, n_threads)
    out = np.empty((rows, network.outputs), network.dtype)
    plan.forward(case.params, case.X, out)
    gradient, x_gradient, of_loss = np.empty_like(case.params), np.empty_like(case.X), np.empty_like(case.params)
    plan.backward(case.params, case.X, case.y, gradient, x_gradient)
    loss = np.array(plan.loss_gradient(case.params, case.X, case.y, case.weight, of_loss))
    params, slots = case.params.copy(), new_slots(optimizer, len(case.params), network.dtype)
    order = np.random.default_rng(4).integers(rows, size=2 * rows + 1)
    starts = np.array([0, rows, 2 * rows, 2 * rows + 1])
    losses = np.empty(3)
    plan.train_steps(optimizer, params, slots, 0, case.X, case.y, case.weight, order, starts, np.full(3, 0.01), losses)
    found = {"out": out, "gradient": gradient, "x_gradient": x_gradient, "loss": loss, "gradient of the loss": of_loss}
    found |= {"params": params, "slots": slots, "losses": losses}
    return {name: array.tobytes() for name, array in found.items()}


def check_same_bytes(case: Case, optimizer: Optimizer, threads: tuple[int, ...] = (1, 2, 3, 4, 5)) -> None:
    expected = results(FUSED[0], 1, case, optimizer)
    for engine in FUSED:
        for n_threads in threads:
            found = results(engine, n_threads, case, optimizer)
            different = [name for name in expected if found[name] != expected[name]]
            assert not different, f"{engine} with {n_threads} threads differs in {different}"


@by_dtype
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(shape: str, dtype: str) -> None:
    rows, widths = SHAPES[shape]
    position = list(SHAPES).index(shape)
    loss = ANALYSED_LOSSES[position % len(ANALYSED_LOSSES)]
    case = make_case(rows, widths, mixed_activations(widths, position), loss, dtype, "random", l1=0.01, l2=0.1)
    check_same_bytes(case, OPTIMIZERS[position % len(OPTIMIZERS)])


@by_dtype
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_every_activation(activation: str, dtype: str) -> None:
    case = make_case(75, EDGES[1], activation, dtype=dtype, weight="some zero", l2=0.1)
    # both tails, where other polynomials and other branches are taken
    case.X *= np.logspace(-6, 2, len(case.X))[:, None].astype(dtype)
    check_same_bytes(case, Adam())


@by_dtype
@pytest.mark.parametrize("loss", ANALYSED_LOSSES)
def test_every_loss(loss: str, dtype: str) -> None:
    case = make_case(75, EDGES[1], "tanh", loss, dtype, "random")
    check_same_bytes(case, SGD())


@by_dtype
def test_more_rows_than_a_block(dtype: str) -> None:
    case = make_case(9000, (3, 5, 2), "gelu", "log_loss", dtype, "random", l2=0.1)
    check_same_bytes(case, Adam())


@by_dtype
@pytest.mark.parametrize("widths", [(20, 100, 2), (17, 33, 65, 3), (5, 3), (300, 257, 10)], ids=str)
def test_rows_come_out_alike_however_they_are_cut(widths: tuple[int, ...], dtype: str) -> None:
    case = make_case(100, widths, mixed_activations(widths, 5), "log_loss", dtype)
    draw = np.random.default_rng(6)
    whole = np.empty((100, widths[-1]), dtype)
    FUSED[0].plan(case.network, 100, 1).forward(case.params, case.X, whole)
    singles = list(range(101))
    for engine in FUSED:
        for n_threads, cuts in ((1, singles), (3, [0, *sorted(draw.integers(1, 100, 6)), 100]), (2, [0, 41, 100])):
            plan = engine.plan(case.network, 7, n_threads)
            parts = np.empty_like(whole)
            for start, stop in pairwise(cuts):
                plan.forward(case.params, case.X[start:stop], parts[start:stop])
            assert parts.tobytes() == whole.tobytes(), f"{engine} with {n_threads} threads, cut at {cuts}"


@by_dtype
def test_the_same_run_twice(dtype: str) -> None:
    case = make_case(64, (20, 40, 3), "mish", "log_loss", dtype)
    assert results(FUSED[0], 2, case, Adam()) == results(FUSED[0], 2, case, Adam())
