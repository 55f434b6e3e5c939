"""No verb touches a byte outside its arrays: each ends where a page begins that nobody may touch, or begins there.

The same verbs run on ordinary arrays and on guarded ones, in a child process, and must give the same bytes; what a call
must not read, rows of other batches and numbers of a sparse matrix that are cut off, is NaN or -1.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from guarded_memory import AT_END, AT_START, GuardedMemory, in_child
from matrix import DTYPES, ENGINES, SHAPES, Case, Engine, make_case, make_feature_case, mixed_activations

from pymlp import SparseRows, backends, config_context
from pymlp.optimizers import Adam, NAdam, Optimizer, new_slots

C_ENGINES = [engine for engine in ENGINES if engine.backend == "c"]
pytestmark = pytest.mark.skipif(not C_ENGINES, reason="no C engine: the others' arrays are NumPy's affair")
by_engine = pytest.mark.parametrize("engine", C_ENGINES, ids=str)

# gives an array with these values
Placed = Callable[[Any], np.ndarray]
FEATURES = (
    ("dropout", "layer norm"),
    ("residual", "parametric"),
    ("dropout", "layer norm", "residual", "parametric", "max_norm", "input dropout", "penalties"),
)


class Guards:
    """Every array in guarded memory of its own."""

    def __init__(self, at_end: bool) -> None:
        self._at_end = at_end
        self._memories: list[GuardedMemory] = []

    def __call__(self, values: Any) -> np.ndarray:
        values = np.asarray(values)
        self._memories.append(GuardedMemory(values.nbytes))
        return self._memories[-1].array(values, at_end=self._at_end)

    def check(self) -> None:
        assert all(memory.is_intact for memory in self._memories), "written beside an array"


def nothing_yet(like: np.ndarray) -> np.ndarray:
    """What an output holds before: NaNs."""
    return np.full(like.shape, np.nan, like.dtype)


def spread(case: Case) -> Case:
    """The case's rows as every other row of larger arrays, whose other rows nobody may use."""
    rows = 2 * len(case.X) + 1
    arrays = []
    for array in (case.X, case.y, case.weight):
        if array is None:
            arrays.append(None)
            continue
        larger = np.full((rows, *array.shape[1:]), np.nan, array.dtype)
        larger[1::2] = array
        arrays.append(larger)
    return Case(case.network, case.params, *arrays)


def run_verbs(engine: Engine, case: Case, n_threads: int, optimizer: Optimizer, placed: Placed) -> bytes:
    """Everything that all verbs write."""
    network, rows = case.network, len(case.X)
    plan = engine.plan(network, rows, n_threads)
    params, X, y = placed(case.params), placed(case.X), placed(case.y)
    weight = None if case.weight is None else placed(case.weight)
    out, trained_out, gradient, x_gradient, of_loss = (placed(nothing_yet(like)) for like in (y, y, params, X, params))
    plan.forward(params, X, out)
    plan.forward(params, X, trained_out, step=3, row_offset=5)
    plan.backward(params, X, y, gradient, x_gradient, step=3, row_offset=5)
    losses = [plan.loss_gradient(params, X, y, weight, of_loss, step=3, row_offset=5)]
    new, slots = placed(case.params), placed(new_slots(optimizer, len(case.params), network.dtype))
    plan.update(optimizer, new, of_loss, slots, 3, 0.01)
    trained, trained_slots = placed(case.params), placed(new_slots(optimizer, len(case.params), network.dtype))
    larger = spread(case)
    order = placed(1 + 2 * np.random.default_rng(0).permutation(rows))
    starts, of_steps = placed(np.array([0, rows // 3, rows])), placed(np.full(2, np.nan))
    plan.train_steps(
        optimizer, trained, trained_slots, 3, placed(larger.X), placed(larger.y),
        None if larger.weight is None else placed(larger.weight), order, starts, np.array([0.01, 0.02]), of_steps,
    )  # fmt: skip
    losses += of_steps.tolist()
    assert np.array_equal(params, case.params), "the parameters were written"
    written = (out, trained_out, gradient, x_gradient, of_loss, new, slots, trained, trained_slots, np.array(losses))
    assert all(np.isfinite(array).all() for array in written), "a number was read that must not be, or none was written"
    return b"".join(array.tobytes() for array in written)


def compare(runs: Iterable[Callable[[Placed], bytes]]) -> None:
    """Each gives the same bytes on ordinary arrays and on guarded ones; in a child, whose case is the number of the run
    and where its arrays lie."""

    def work(progress: np.ndarray) -> None:
        for number, run in enumerate(runs):
            expected = run(lambda values: np.array(values, copy=True))
            for at_end in (AT_END, AT_START):
                progress[:2] = number, at_end
                guards = Guards(at_end)
                assert run(guards) == expected, "guarded arrays change the result"
                guards.check()

    in_child(work)


@pytest.mark.parametrize("dtype", DTYPES)
@by_engine
def test_verbs(engine: Engine, dtype: str) -> None:
    runs = []
    for position, (rows, widths) in enumerate(SHAPES.values()):
        odd = position % 2
        case = make_case(
            rows, widths, mixed_activations(widths, position), ("squared_error", "huber")[odd], dtype,
            ("none", "random")[position // 2 % 2], l1=0.01, l2=0.1,
        )  # fmt: skip
        optimizer = (Adam(), NAdam(average="ema", clip_norm=1e-3))[odd]
        runs.append(functools.partial(run_verbs, engine, case, 1 + 2 * odd, optimizer))
    compare(runs)


@pytest.mark.parametrize("dtype", DTYPES)
@by_engine
def test_verbs_of_layers_with_features(engine: Engine, dtype: str) -> None:
    sizes = itertools.product(FEATURES, ((1, 5), (15, 33), (14, 32)))
    cases = [make_feature_case(features, *size, dtype=dtype) for features, size in sizes]
    compare([functools.partial(run_verbs, engine, case, 2, Adam(weight_decay=0.1)) for case in cases])


@pytest.mark.parametrize("loss", ["squared_error", "binary_log_loss"])
@pytest.mark.parametrize("dtype", DTYPES)
@by_engine
def test_predictors(engine: Engine, dtype: str, loss: str) -> None:
    with_complement, runs = loss == "binary_log_loss", []
    for widths in ((1, 1), (5, 9, 1), (17, 33, 3), (33, 32, 16), (70, 300, 1)):
        case = make_case(40, (*widths[:-1], 1) if with_complement else widths, "gelu", loss, dtype)
        with config_context(isa=engine.variant):
            ask = backends.get("c").Predictor(case.network, case.params, 3, with_complement=with_complement)

        def run(placed: Placed, ask: Any = ask, case: Case = case) -> bytes:
            answers = []
            for rows in (0, 1, 2, 3, 5, 13, 14, 15, 31, 40):
                out = placed(np.full((rows, ask.columns), np.nan, dtype))
                ask.predict(placed(case.X[:rows]), out)
                assert np.isfinite(out).all()
                answers.append(out.tobytes())
                again = placed(nothing_yet(out))
                jacobian = placed(np.full((rows, ask.columns, case.network.inputs), np.nan, dtype))
                ask.value_and_gradient(placed(case.X[:rows]), again, jacobian)
                assert again.tobytes() == out.tobytes()
                assert np.isfinite(jacobian).all()
                answers.append(jacobian.tobytes())
            return b"".join(answers)

        runs.append(run)
    compare(runs)


# rows, columns and outputs of a sparse first layer: a group of columns is 32, a row carries up to 128 outputs at once
SPARSE_SIZES = ((1, 1, 1), (7, 9, 2), (15, 33, 17), (14, 32, 33), (16, 65, 130), (33, 64, 257))


@pytest.mark.parametrize("dtype", DTYPES)
@by_engine
def test_sparse_rows(engine: Engine, dtype: str) -> None:
    compare(itertools.chain.from_iterable(sparse_runs(engine, dtype, sizes) for sizes in SPARSE_SIZES))


def sparse_runs(engine: Engine, dtype: str, sizes: tuple[int, int, int]) -> Iterator[Callable[[Placed], bytes]]:
    """The verbs on sparse rows that are filled to several shares."""
    rows, inputs, outputs = sizes
    case = make_case(rows, (inputs, outputs), dtype=dtype, weight="random")
    draw, plan = np.random.default_rng(1), engine.plan(case.network, rows, 2)
    for share in (0.0, 0.1, 0.6, 1.0):
        filled = draw.random((rows, inputs)) < share
        # a row without a number and a full one
        filled[0], filled[-1] = False, share > 0.5
        # every other time numbers before the first and behind the last are cut off
        cut = 3 * (share in (0.1, 1.0))
        nowhere, nothing = np.full(cut, -1), np.full(cut, np.nan)
        columns = np.concatenate([nowhere, *(np.flatnonzero(row) for row in filled), nowhere]).astype(np.int32)
        numbers = np.concatenate([nothing, case.X[filled], nothing]).astype(dtype)
        starts = cut + np.append(0, np.cumsum(filled.sum(axis=1)))
        dense = np.where(filled, case.X, 0).astype(dtype)

        def run(placed: Placed, parts: tuple = (numbers, columns, starts), dense: np.ndarray = dense) -> bytes:
            X = SparseRows._made(*(placed(part) for part in parts), (rows, inputs))
            out, gradient = placed(nothing_yet(case.y)), placed(nothing_yet(case.params))
            plan.forward(placed(case.params), X, out)
            loss = plan.loss_gradient(placed(case.params), X, placed(case.y), placed(case.weight), gradient)
            of_dense, gradient_of_dense = nothing_yet(case.y), nothing_yet(case.params)
            plan.forward(case.params, dense, of_dense)
            assert loss == plan.loss_gradient(case.params, dense, case.y, case.weight, gradient_of_dense)
            # a zero may have either sign
            assert np.array_equal(out, of_dense)
            assert np.array_equal(gradient, gradient_of_dense)
            return out.tobytes() + gradient.tobytes()

        yield run
