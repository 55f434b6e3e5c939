"""The same bits: C gives the same bytes with every fused instruction set, any number of threads, any cut of the rows.

Compared are whole results as bytes, so that even the sign of a zero counts.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matrix import (
    DTYPES,
    EDGES,
    FEATURE_SETS,
    FUSED,
    HIDDEN_ACTIVATIONS,
    SHAPES,
    Case,
    Engine,
    make_case,
    make_feature_case,
    mixed_activations,
)

from pymlp.losses import LOSSES, BinaryLogLoss, GaussianNLL, LogLoss, Quantile
from pymlp.optimizers import SGD, Adam, AdamW, Lion, NAdam, Optimizer, RMSprop, Rprop, new_slots

pytestmark = pytest.mark.skipif(
    not FUSED, reason="the C engine was not built, or this machine has no fused instructions"
)

OPTIMIZERS = (Adam(), SGD(), SGD(nesterov=False), AdamW(weight_decay=0.2), NAdam(), RMSprop(), Lion(), Rprop())
# what all optimizers share, beside each other
SHARED = (
    SGD(weight_decay=0.1, clip_value=0.01),
    Adam(weight_decay=0.1, clip_norm=0.1),
    NAdam(average="ema", average_decay=0.5),
    RMSprop(momentum=0.5, clip_value=0.02, clip_norm=0.05, average="swa"),
    Lion(weight_decay=0.3, average="swa", average_start=1),
    Rprop(average="ema"),
)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def results(
    engine: Engine, n_threads: int, case: Case, optimizer: Optimizer, step: int | None = None
) -> dict[str, bytes]:
    """Everything that the verbs write, by name; forward, backward and loss_gradient at a step."""
    network, rows = case.network, len(case.X)
    plan = engine.plan(network, rows, n_threads)
    out = np.empty((rows, network.outputs), network.dtype)
    plan.forward(case.params, case.X, out, step, 3)
    gradient, x_gradient, of_loss = np.empty_like(case.params), np.empty_like(case.X), np.empty_like(case.params)
    plan.backward(case.params, case.X, case.y, gradient, x_gradient, step, 3)
    loss = np.array(plan.loss_gradient(case.params, case.X, case.y, case.weight, of_loss, step, 3))
    params, slots = case.params.copy(), new_slots(optimizer, len(case.params), network.dtype)
    order = np.random.default_rng(4).integers(rows, size=2 * rows + 1)
    starts = np.array([0, rows, 2 * rows, 2 * rows + 1])
    losses = np.empty(3)
    plan.train_steps(optimizer, params, slots, 0, case.X, case.y, case.weight, order, starts, np.full(3, 0.01), losses)
    found = {"out": out, "gradient": gradient, "x_gradient": x_gradient, "loss": loss, "gradient of the loss": of_loss}
    found |= {"params": params, "slots": slots, "losses": losses}
    return {name: array.tobytes() for name, array in found.items()}


def check_same_bytes(
    case: Case, optimizer: Optimizer, threads: tuple[int, ...] = (1, 2, 3, 4, 5), step: int | None = None
) -> None:
    expected = results(FUSED[0], 1, case, optimizer, step)
    for engine in FUSED:
        for n_threads in threads:
            found = results(engine, n_threads, case, optimizer, step)
            different = [name for name in expected if found[name] != expected[name]]
            assert not different, f"{engine} with {n_threads} threads differs in {different}"


@by_dtype
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(shape: str, dtype: str) -> None:
    rows, widths = SHAPES[shape]
    position = list(SHAPES).index(shape)
    loss = list(LOSSES)[position % len(LOSSES)]
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
@pytest.mark.parametrize(
    "loss",
    [*LOSSES, LogLoss(0.1), BinaryLogLoss(0.2), Quantile([0.5]), Quantile([0.05, 0.2, 0.5, 0.7, 0.9]), GaussianNLL()],
    ids=str,
)
def test_every_loss(loss: Any, dtype: str) -> None:
    case = make_case(75, EDGES[1], "tanh", loss, dtype, "some zero")
    check_same_bytes(case, SGD(), (1, 2, 5))


@by_dtype
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, *SHARED], ids=str)
@pytest.mark.parametrize("widths", [(70, 100, 33, 3), (9, 17, 1)], ids=str)
def test_every_optimizer(widths: tuple[int, ...], optimizer: Optimizer, dtype: str) -> None:
    # the first has more parameters than a chunk of the gradient's norm
    case = make_case(40, widths, "tanh", "log_loss" if widths[-1] > 1 else "huber", dtype, "random", l2=0.1)
    check_same_bytes(case, optimizer, (1, 2, 5))


@by_dtype
@pytest.mark.parametrize("features", FEATURE_SETS, ids="-".join)
def test_every_set_of_features(features: tuple[str, ...], dtype: str) -> None:
    activation = HIDDEN_ACTIVATIONS[FEATURE_SETS.index(features) % len(HIDDEN_ACTIVATIONS)]
    case = make_feature_case((*features, "penalties"), 75, activation=activation, dtype=dtype)
    optimizer = (Adam(), SGD(average="swa"), AdamW(weight_decay=0.2, clip_norm=0.5))[FEATURE_SETS.index(features) % 3]
    check_same_bytes(case, optimizer, (1, 2, 5), step=2**33 + 7)


@by_dtype
@pytest.mark.parametrize("width", [1, 3, 7, 16, 31, 64, 130])
def test_every_feature_in_every_width(width: int, dtype: str) -> None:
    case = make_feature_case(FEATURE_SETS[-1], 37, width, activation="silu", dtype=dtype)
    check_same_bytes(case, Adam(average="ema"), (1, 2, 5), step=3)


@by_dtype
def test_every_feature_with_more_rows_than_a_block(dtype: str) -> None:
    case = make_feature_case(FEATURE_SETS[-1], 9000, 5, activation="mish", dtype=dtype)
    check_same_bytes(case, Adam(), (1, 2, 5), step=3)


@by_dtype
def test_more_rows_than_a_block(dtype: str) -> None:
    case = make_case(9000, (3, 5, 2), "gelu", "log_loss", dtype, "random", l2=0.1)
    check_same_bytes(case, Adam())


@by_dtype
@pytest.mark.parametrize(("rows", "widths"), [(1000, (100, 530, 2)), (2050, (70, 250, 3))], ids=str)
def test_many_rows_of_many_columns(rows: int, widths: tuple[int, ...], dtype: str) -> None:
    # instruction sets differ in how many columns meet all inputs before the next do, and in how many inputs at a time
    check_same_bytes(make_case(rows, widths, "relu", "log_loss", dtype, l2=0.1), Adam(), (1, 2, 5))


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
