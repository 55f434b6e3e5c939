"""Every optimizer in every backend: its own rule, and what all share: decay, clipping, averages of the parameters."""

from __future__ import annotations

import numpy as np
import pytest
from matrix import DTYPES, ENGINES, NUMPY, OTHERS, Engine, make_case

from pymlp.backends import BLOCK_ROWS
from pymlp.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Lion, NAdam, Optimizer, RMSprop, Rprop, new_slots

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

SHARED = {
    "decay": {"weight_decay": 0.3},
    "value": {"clip_value": 0.4},
    "norm": {"clip_norm": 0.5},
    "both clips": {"clip_value": 0.4, "clip_norm": 0.7},
    "a norm that is not reached": {"clip_norm": 1e6},
    "ema": {"average": "ema", "average_decay": 0.6},
    "swa": {"average": "swa"},
    "late average": {"average": "swa", "average_start": 12},
    "all": {"weight_decay": 0.2, "clip_value": 0.4, "clip_norm": 0.7, "average": "ema", "average_decay": 0.9},
}
CASES = {name: kind() for name, kind in OPTIMIZERS.items()}
CASES |= {
    "plain momentum": SGD(0.8, nesterov=False),
    "no momentum": SGD(0.0),
    "rmsprop with momentum": RMSprop(0.95, momentum=0.7, epsilon=1e-4),
    "lion with other betas": Lion(0.8, 0.95),
    "rprop with other factors": Rprop(0.3, 1.5, 1e-3, 0.2),
}
CASES |= {f"{name}, {extra}": kind(**options) for name, kind in OPTIMIZERS.items() for extra, options in SHARED.items()}
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_optimizer = pytest.mark.parametrize("optimizer", CASES.values(), ids=CASES)


@by_dtype
@by_optimizer
@pytest.mark.parametrize("engine", OTHERS, ids=str)
def test_update(engine: Engine, optimizer: Optimizer, dtype: str) -> None:
    # more parameters than a chunk of the gradient's norm, and pieces that are no whole vectors
    case = make_case(2, (70, 65, 3), dtype=dtype)
    gradient = np.random.default_rng(2).normal(size=case.params.shape).astype(dtype)
    # a gradient of zero on new slots is a step of zero, not 0 / 0
    gradient[::7] = 0
    found, expected = ((case.params.copy(), new_slots(optimizer, len(case.params), dtype)) for _ in range(2))
    epsilon = np.finfo(dtype).eps
    for position, rate in enumerate((0.1, 0.01, 0.05, 0.02)):
        before = gradient.copy()
        engine.plan(case.network, 2).update(optimizer, found[0], gradient, found[1], 11 + position, rate)
        assert gradient.tobytes() == before.tobytes()
        NUMPY.plan(case.network, 2).update(optimizer, expected[0], gradient, expected[1], 11 + position, rate)
        for a, b in zip([found[0], *found[1]], [expected[0], *expected[1]], strict=True):
            # each step rounds a handful of numbers of at most this size
            np.testing.assert_allclose(a, b, rtol=0, atol=32 * (position + 1) * epsilon * np.abs(b).max())
        gradient *= -0.5 if position == 1 else 0.75


@by_dtype
@by_optimizer
@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_train_steps_is_the_loop_of_its_two_verbs(engine: Engine, optimizer: Optimizer, dtype: str) -> None:
    widths = ((6, 3), (70, 65, 3), (33, 16, 5, 1), (6, 100, 17))[list(CASES.values()).index(optimizer) % 4]
    loss = "huber" if widths[-1] == 1 else "log_loss"
    case = make_case(60, widths, "tanh", loss, dtype, "random", l1=0.01, l2=0.1)
    # gradients of several sizes, so that some are clipped
    case.X *= np.float32(3)
    order = np.random.default_rng(3).integers(60, size=105)
    starts = np.array([0, 29, 30, 30, 45, 59, 88, 105])
    case.weight[order[45:59]] = 0
    rates = np.linspace(0.05, 0.01, len(starts) - 1)
    first_step = 11
    plan = engine.plan(case.network, 29)
    whole = case.params.copy(), new_slots(optimizer, len(case.params), dtype), np.full(len(rates), np.nan)
    plan.train_steps(
        optimizer, whole[0], whole[1], first_step, case.X, case.y, case.weight, order, starts, rates, whole[2]
    )  # fmt: skip
    loop = case.params.copy(), new_slots(optimizer, len(case.params), dtype), np.full(len(rates), np.nan)
    gradient = np.empty_like(case.params)
    for i, rate in enumerate(rates):
        rows = order[starts[i] : starts[i + 1]]
        batch = case.X[rows], case.y[rows], case.weight[rows]
        loop[2][i] = plan.loss_gradient(loop[0], *batch, gradient, first_step + i)
        if batch[2].sum() != 0:
            plan.update(optimizer, loop[0], gradient, loop[1], first_step + i, rate)
    assert not np.array_equal(whole[0], case.params)
    for name, a, b in zip(("params", "slots", "losses"), whole, loop, strict=True):
        if engine.backend == "numba":
            if optimizer.name in ("lion", "rprop"):
                continue  # a sign of what rounding left may be either
            # compiled twice, so that other products may be fused with their sums
            np.testing.assert_allclose(a, b, rtol=0, atol=500 * np.finfo(dtype).eps * np.abs(b).max(), err_msg=name)
        else:
            assert a.tobytes() == b.tobytes(), name


@pytest.mark.parametrize("shared", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_batch_of_several_blocks(engine: Engine, shared: dict) -> None:
    # what is clipped by norm is the gradient of all blocks, once
    rows = BLOCK_ROWS + 300
    case = make_case(rows, (6, 9, 3), "tanh", "log_loss", weight="random", l2=0.1)
    optimizer = SGD(**{**shared, "clip_norm": 0.01})
    plan, order, rates = engine.plan(case.network, rows), np.tile(np.arange(rows), 2), np.array([0.1, 0.1])
    starts, losses = np.array([0, rows, 2 * rows]), np.empty(2)
    whole, loop = ((case.params.copy(), new_slots(optimizer, len(case.params), "float64")) for _ in range(2))
    plan.train_steps(optimizer, *whole, 0, case.X, case.y, case.weight, order, starts, rates, losses)
    gradient = np.empty_like(case.params)
    for step, rate in enumerate(rates):
        plan.loss_gradient(loop[0], case.X, case.y, case.weight, gradient, step)
        plan.update(optimizer, loop[0], gradient, loop[1], step, rate)
    for a, b in zip(whole, loop, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 if engine.backend == "numba" else 0)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, NAdam, Lion])
def test_decay_spares_the_biases(engine: Engine, kind: type) -> None:
    case = make_case(2, (5, 4, 3))
    gradient, params = np.zeros_like(case.params), case.params.copy()
    optimizer = kind(weight_decay=0.5)
    engine.plan(case.network, 2).update(
        optimizer, params, gradient, new_slots(optimizer, len(params), "float64"), 0, 0.1
    )
    for after, before in zip(case.network.biases(params), case.network.biases(case.params), strict=True):
        np.testing.assert_array_equal(after, before)
    for after, before in zip(case.network.weights(params), case.network.weights(case.params), strict=True):
        np.testing.assert_allclose(after, 0.95 * before, rtol=1e-15)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_clipping_by_hand(engine: Engine) -> None:
    case = make_case(2, (1, 1))
    plan = engine.plan(case.network, 2)

    def steps(gradient: list[float], **options: float) -> np.ndarray:
        optimizer = SGD(0.0, **options)
        params = np.zeros(2)
        plan.update(optimizer, params, np.array(gradient), new_slots(optimizer, 2, "float64"), 0, 1.0)
        return -params

    np.testing.assert_allclose(steps([3.0, -4.0], clip_norm=1.0), [0.6, -0.8], rtol=1e-15)
    np.testing.assert_allclose(steps([0.3, -0.4], clip_norm=1.0), [0.3, -0.4], rtol=1e-15)
    np.testing.assert_allclose(steps([3.0, -4.0], clip_value=3.5), [3.0, -3.5], rtol=1e-15)
    # by value first: (3, -3), whose norm is 3 sqrt(2)
    np.testing.assert_allclose(steps([4.0, -4.0], clip_value=3.0, clip_norm=np.sqrt(2.0)), [1.0, -1.0], rtol=1e-15)
    assert np.isnan(steps([np.nan, 1.0], clip_value=1.0, clip_norm=1.0)[0])


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_averages_by_hand(engine: Engine) -> None:
    case = make_case(2, (1, 1))
    plan = engine.plan(case.network, 2)

    def averages(**options: object) -> list[float]:
        optimizer = SGD(0.0, **options)
        params, slots = np.zeros(2), new_slots(optimizer, 2, "float64")
        found = []
        for step in range(4):
            plan.update(optimizer, params, np.full(2, -1.0), slots, step, 1.0)
            found.append(slots[-1][0])
        return found

    # the parameters are 1, 2, 3, 4
    np.testing.assert_allclose(averages(average="swa"), [1, 1.5, 2, 2.5], rtol=1e-15)
    np.testing.assert_allclose(averages(average="swa", average_start=2), [1, 2, 3, 3.5], rtol=1e-15)
    np.testing.assert_allclose(averages(average="ema", average_decay=0.25), [1, 1.75, 2.6875, 3.671875], rtol=1e-15)
