"""The matrix: every backend, instruction set and dtype computes what the NumPy backend defines, to rounding.

Each check covers every activation, loss, shape and kind of sample weight, though not their full product.
"""

from __future__ import annotations

import error_bounds
import numpy as np
import pytest
from matrix import (
    ANALYSED_LOSSES,
    DTYPES,
    EDGES,
    ENGINES,
    HIDDEN_ACTIVATIONS,
    NUMPY,
    OTHERS,
    SHAPES,
    WEIGHT_KINDS,
    Case,
    Engine,
    make_case,
    mixed_activations,
    run_backward,
    run_forward,
    run_loss_gradient,
)

from pymlp.backends import BLOCK_ROWS, get
from pymlp.optimizers import SGD, Adam, AdamW, Optimizer, new_slots

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

OPTIMIZERS = (SGD(), SGD(momentum=0.8, nesterov=False), SGD(momentum=0.0), Adam(), AdamW(weight_decay=0.1))
by_engine = pytest.mark.parametrize("engine", ENGINES, ids=str)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def short(optimizer: Optimizer) -> str:
    """A name for the test of an optimizer."""
    return "-".join([optimizer.name, *map(str, optimizer.constants), *(["decay"] if optimizer.weight_decay else [])])


def check_all_verbs(engine: Engine, case: Case) -> None:
    """forward, backward and loss_gradient against the definition in float64."""
    epsilon = float(np.finfo(case.network.dtype).eps)
    wide = case.doubled
    pre_activations, outputs = error_bounds.forward(wide, epsilon)
    error_bounds.assert_within(run_forward(engine, case), outputs[-1], "forward")
    output_gradient = np.random.default_rng(1).normal(size=case.y.shape).astype(case.network.dtype)
    start = error_bounds.exact(output_gradient.astype(np.float64))
    last = case.network.output_activation
    deltas = error_bounds.pulled_back(last, pre_activations[-1], outputs[-1], start, epsilon)
    expected = error_bounds.backward(wide, pre_activations, outputs, deltas, epsilon)
    gradient, x_gradient = run_backward(engine, case, output_gradient)
    error_bounds.assert_within(gradient, expected[0], "backward: gradient")
    error_bounds.assert_within(x_gradient, expected[1], "backward: x_gradient")
    value, gradient = run_loss_gradient(engine, case)
    if case.weight is not None and not case.weight.any():
        assert value == 0.0
        assert not gradient.any()
        return
    expected = error_bounds.loss_gradient(wide, epsilon)
    error_bounds.assert_within(np.array([value]), expected[0], "loss_gradient: loss")
    error_bounds.assert_within(gradient, expected[1], "loss_gradient: gradient")


def test_the_bounds_hold_what_numpy_computes() -> None:
    # the analysis computes the same numbers as the definition, so that to agree with it is to agree with NumPy
    case = make_case(*EDGES, activation="gelu", loss="log_loss", weight="random", l1=0.1, l2=0.2)
    value, gradient = run_loss_gradient(NUMPY, case)
    expected_value, expected = error_bounds.loss_gradient(case, 2.0**-52)
    np.testing.assert_allclose(value, expected_value.value[0], rtol=1e-14)
    np.testing.assert_allclose(gradient, expected.value, rtol=1e-11, atol=1e-15)
    assert expected.error.max() < 1e-11


@by_dtype
@pytest.mark.parametrize("shape", SHAPES)
@by_engine
def test_every_shape(engine: Engine, shape: str, dtype: str) -> None:
    rows, widths = SHAPES[shape]
    position = list(SHAPES).index(shape)
    loss = ANALYSED_LOSSES[position % len(ANALYSED_LOSSES)]
    weight = WEIGHT_KINDS[position % len(WEIGHT_KINDS)]
    activations = mixed_activations(widths, position)
    check_all_verbs(engine, make_case(rows, widths, activations, loss, dtype, weight, l2=0.1 * (position % 2)))


@by_dtype
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
@by_engine
def test_every_activation(engine: Engine, activation: str, dtype: str) -> None:
    check_all_verbs(engine, make_case(*EDGES, activation=activation, dtype=dtype, weight="random", l1=0.03, l2=0.2))


@by_dtype
@pytest.mark.parametrize("weight", WEIGHT_KINDS)
@pytest.mark.parametrize("loss", ANALYSED_LOSSES)
@by_engine
def test_every_loss_with_every_kind_of_weight(engine: Engine, loss: str, weight: str, dtype: str) -> None:
    check_all_verbs(engine, make_case(*EDGES, activation="tanh", loss=loss, dtype=dtype, weight=weight))


@by_dtype
@by_engine
def test_more_rows_than_a_block(engine: Engine, dtype: str) -> None:
    case = make_case(2 * BLOCK_ROWS + 905, (3, 4, 2), "silu", "log_loss", dtype, "some zero", l2=0.5)
    check_all_verbs(engine, case)


# more columns than have deltas that stay in a cache; in floats two groups of inputs at a time, or one
MANY_COLUMNS = ((1000, (100, 530, 2)), (2050, (70, 250, 3)))


@by_dtype
@pytest.mark.parametrize(("rows", "widths"), MANY_COLUMNS, ids=str)
@by_engine
def test_many_rows_of_many_columns(engine: Engine, rows: int, widths: tuple[int, ...], dtype: str) -> None:
    check_all_verbs(engine, make_case(rows, widths, "relu", "log_loss", dtype, l2=0.1))


@by_engine
def test_forward_takes_more_rows_than_the_batch(engine: Engine) -> None:
    case = make_case(600, (4, 9, 2), "tanh")
    out = np.empty((600, 2))
    engine.plan(case.network, 1).forward(case.params, case.X, out)
    np.testing.assert_allclose(out, run_forward(NUMPY, case), rtol=1e-12, atol=1e-14)


@by_engine
def test_backward_gives_what_is_asked_for(engine: Engine) -> None:
    case = make_case(*EDGES, activation="mish")
    gradient, x_gradient = run_backward(engine, case, case.y)
    plan = engine.plan(case.network, len(case.X))
    only = np.empty_like(gradient)
    plan.backward(case.params, case.X, case.y, gradient=only)
    np.testing.assert_array_equal(only, gradient)
    only = np.empty_like(x_gradient)
    plan.backward(case.params, case.X, case.y, x_gradient=only)
    np.testing.assert_array_equal(only, x_gradient)


@by_engine
def test_a_row_of_weight_zero_counts_as_removed_even_where_its_loss_is_infinite(engine: Engine) -> None:
    case = make_case(6, (3, 4, 2), "relu", weight="some zero")
    kept = case.weight > 0
    case.y[~kept] = np.inf
    value, gradient = run_loss_gradient(engine, case)
    expected = run_loss_gradient(engine, Case(case.network, case.params, case.X[kept], case.y[kept], case.weight[kept]))
    np.testing.assert_allclose(value, expected[0], rtol=1e-13)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-11, atol=1e-14)


@by_engine
def test_numbers_that_overflow_come_out_as_numpy_gives_them(engine: Engine) -> None:
    case = make_case(3, (2, 3, 2), "identity", "poisson", "float32")
    case.X[:] = [[1e30, 1e30], [np.nan, 1.0], [0.5, -0.5]]
    expected, found = run_forward(NUMPY, case), run_forward(engine, case)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-5)


@by_dtype
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
@pytest.mark.parametrize("engine", OTHERS, ids=str)
def test_ends_of_the_activations(engine: Engine, activation: str, dtype: str) -> None:
    case = make_case(7, (1, 1, 1), activation, dtype=dtype)
    case.params[:] = [1, 0, 1, 0]
    case.X[:, 0] = [-np.inf, -1e30, -200, 0, 200, 1e30, np.inf]
    expected = run_forward(NUMPY, case)
    # numbers below the smallest normal one count as zero
    tiny = float(np.finfo(dtype).tiny)
    np.testing.assert_allclose(run_forward(engine, case), expected, rtol=1e-6, atol=tiny)
    ones = np.ones((7, 1), dtype)
    slopes, expected = (run_backward(each, case, ones)[1] for each in (engine, NUMPY))
    np.testing.assert_allclose(slopes, expected, rtol=1e-6, atol=tiny)
    case.X[:] = np.nan
    assert np.isnan(run_forward(engine, case)).all()


@by_dtype
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=short)
@pytest.mark.parametrize("engine", OTHERS, ids=str)
def test_update(engine: Engine, optimizer: Optimizer, dtype: str) -> None:
    case = make_case(2, (31, 33, 3), dtype=dtype)
    draw = np.random.default_rng(2)
    gradient = draw.normal(size=case.params.shape).astype(dtype)
    # a gradient of zero on new slots is a step of zero, not 0 / 0
    gradient[::7] = 0
    found, expected = ((case.params.copy(), new_slots(optimizer, len(case.params), dtype)) for _ in range(2))
    epsilon = np.finfo(dtype).eps
    for step, rate in enumerate((0.1, 0.01, 0.5)):
        engine.plan(case.network, 2).update(optimizer, found[0], gradient, found[1], step, rate)
        NUMPY.plan(case.network, 2).update(optimizer, expected[0], gradient, expected[1], step, rate)
        for a, b in zip(found, expected, strict=True):
            # each step rounds a handful of numbers of at most this size
            np.testing.assert_allclose(a, b, rtol=0, atol=32 * (step + 1) * epsilon * np.abs(b).max())
        gradient *= -0.5


@by_dtype
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=short)
@by_engine
def test_train_steps_is_the_loop_of_its_two_verbs(engine: Engine, optimizer: Optimizer, dtype: str) -> None:
    position = OPTIMIZERS.index(optimizer)
    widths = ((6, 3), (6, 17, 3), (6, 33, 16, 5, 3), (6, 100, 3), (6, 14, 3))[position]
    loss = ANALYSED_LOSSES[position % len(ANALYSED_LOSSES)]
    case = make_case(60, widths, mixed_activations(widths, 2 * position), loss, dtype, "random", l1=0.01, l2=0.1)
    draw = np.random.default_rng(3)
    # repeated row numbers, a batch of one row, one without rows, one whose weights sum to zero, a short one at the end
    order = np.concatenate([draw.integers(60, size=45), draw.permutation(60)]).astype(np.int64)
    starts = np.array([0, 29, 30, 30, 45, 59, 88, 105], np.int64)
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
    for name, a, b in zip(("params", "slots", "losses"), whole, loop, strict=True):
        if engine.backend == "numba":
            # compiled twice, so that other products may be fused with their sums
            np.testing.assert_allclose(a, b, rtol=0, atol=500 * np.finfo(dtype).eps * np.abs(b).max(), err_msg=name)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert whole[2][2] == 0.0


@by_dtype
@by_engine
def test_train_steps_without_weights_and_in_pieces(engine: Engine, dtype: str) -> None:
    case = make_case(50, (4, 16, 2), "tanh", "log_loss", dtype)
    order, starts = np.arange(50), np.array([0, 20, 40, 50])
    rates = np.full(3, 0.01)
    results = []
    for pieces in ((slice(0, 3),), (slice(0, 1), slice(1, 3))):
        params, slots, losses = case.params.copy(), new_slots(Adam(), len(case.params), dtype), np.empty(3)
        plan = engine.plan(case.network, 20)
        for piece in pieces:
            plan.train_steps(
                Adam(), params, slots, piece.start, case.X, case.y, None, order,
                starts[piece.start : piece.stop + 1], rates[piece], losses[piece],
            )  # fmt: skip
        results.append((params, slots, losses))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (results[0][2] > 0).all()


@by_engine
@pytest.mark.parametrize("weight", ["none", "ones"])
def test_a_batch_without_rows_changes_nothing_but_the_step_number(engine: Engine, weight: str) -> None:
    case = make_case(9, (5, 4, 1), weight=weight)

    def train(starts: list[int], step: int, params: np.ndarray, slots: np.ndarray) -> np.ndarray:
        losses = np.full(len(starts) - 1, np.nan)
        engine.plan(case.network, 9).train_steps(
            Adam(), params, slots, step, case.X, case.y, case.weight, np.arange(9), np.array(starts),
            np.full(len(losses), 0.1), losses,
        )  # fmt: skip
        return losses

    with_empty, without = ((case.params.copy(), new_slots(Adam(), len(case.params), "float64")) for _ in range(2))
    assert train([0, 5, 5, 9], 0, *with_empty)[1] == 0.0
    train([0, 5], 0, *without)
    train([5, 9], 2, *without)
    for a, b in zip(with_empty, without, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_training_learns(engine: Engine) -> None:
    case = make_case(64, (2, 16, 1), "tanh")
    case.y[:, 0] = np.sin(2 * case.X[:, 0]) * case.X[:, 1]
    steps = 400
    losses = np.empty(steps)
    params, slots = case.params.copy(), new_slots(Adam(), len(case.params), "float64")
    order, starts = np.tile(np.arange(64), steps), 64 * np.arange(steps + 1)
    engine.plan(case.network, 64).train_steps(
        Adam(), params, slots, 0, case.X, case.y, None, order, starts, np.full(steps, 0.02), losses
    )
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("backend", sorted({engine.backend for engine in ENGINES}))
def test_plans_are_what_get_returns(backend: str) -> None:
    assert get(backend).Plan.__module__ == f"pymlp.backends.{backend}"
