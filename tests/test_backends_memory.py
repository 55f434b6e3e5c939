"""What the verbs may touch and how they refuse: guards around every output, stop, two threads, wrong arrays."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from matrix import DTYPES, ENGINES, SHAPES, Case, Engine, make_case, mixed_activations

from pymlp import backends
from pymlp.backends import StoppedError
from pymlp.optimizers import SGD, Adam, new_slots

by_engine = pytest.mark.parametrize("engine", ENGINES, ids=str)
# NumPy raises what NumPy raises; these two check before they run
CHECKING = [engine for engine in ENGINES if engine.backend != "numpy"]
GUARD = 64


class Guarded:
    """Arrays with a canary of `GUARD` bytes on both sides of each."""

    def __init__(self) -> None:
        self._buffers: list[np.ndarray] = []

    def array(self, shape: tuple[int, ...], dtype: str, start: np.ndarray | None = None) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        buffer = np.full(size + 2 * GUARD, 0xA5, np.uint8)
        self._buffers.append(buffer)
        array = buffer[GUARD : GUARD + size].view(dtype).reshape(shape)
        array[...] = np.nan if start is None else start
        return array

    def check(self) -> None:
        for buffer in self._buffers:
            assert (buffer[:GUARD] == 0xA5).all()
            assert (buffer[-GUARD:] == 0xA5).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@by_engine
def test_outputs_are_written_and_nothing_else(engine: Engine, shape: str, dtype: str) -> None:
    rows, widths = SHAPES[shape]
    position = list(SHAPES).index(shape)
    case = make_case(rows, widths, mixed_activations(widths, position), dtype=dtype, weight="random", l2=0.1)
    network, params, guarded = case.network, case.params, Guarded()
    order, starts, rates = np.arange(rows), np.array([0, rows // 2, rows]), np.full(2, 0.01)
    inputs = {"params": params, "X": case.X, "y": case.y, "weight": case.weight}
    inputs |= {"order": order, "starts": starts, "rates": rates}
    before = {name: array.copy() for name, array in inputs.items()}
    for array in inputs.values():
        array.flags.writeable = False
    plan = engine.plan(network, rows, 3)
    out = guarded.array((rows, network.outputs), dtype)
    plan.forward(params, case.X, out)
    gradient, x_gradient = guarded.array(params.shape, dtype), guarded.array(case.X.shape, dtype)
    plan.backward(params, case.X, case.y, gradient, x_gradient)
    of_loss = guarded.array(params.shape, dtype)
    plan.loss_gradient(params, case.X, case.y, case.weight, of_loss)
    updated = guarded.array(params.shape, dtype, params)
    slots = guarded.array((2, *params.shape), dtype, np.zeros((2, *params.shape)))
    plan.update(Adam(), updated, of_loss, slots, 0, 0.01)
    trained = guarded.array(params.shape, dtype, params)
    train_slots = guarded.array((2, *params.shape), dtype, np.zeros((2, *params.shape)))
    losses = guarded.array((2,), "float64")
    plan.train_steps(Adam(), trained, train_slots, 0, case.X, case.y, case.weight, order, starts, rates, losses)
    guarded.check()
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    for written in (out, gradient, x_gradient, of_loss, updated, slots, trained, train_slots, losses):
        assert np.isfinite(written).all()


def train_arguments(case: Case, steps: int = 2) -> dict[str, object]:
    rows = len(case.X)
    return {
        "optimizer": SGD(),
        "params": case.params.copy(),
        "slots": new_slots(SGD(), len(case.params), case.network.dtype),
        "step": 0,
        "X": case.X,
        "y": case.y,
        "weight": case.weight,
        "order": np.tile(np.arange(rows), steps),
        "starts": rows * np.arange(steps + 1),
        "rates": np.full(steps, 0.01),
        "losses": np.zeros(steps),
    }


@pytest.mark.parametrize("row", [-1, 10, 2**40])
@by_engine
def test_a_row_number_outside_the_data(engine: Engine, row: int) -> None:
    case = make_case(10, (3, 4, 2))
    arguments = train_arguments(case)
    # in the second batch: the first one must not have run
    arguments["order"][17] = row
    with pytest.raises(IndexError):
        engine.plan(case.network, 10).train_steps(**arguments)
    np.testing.assert_array_equal(arguments["params"], case.params)
    assert not arguments["slots"].any()


def half_square(y: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ((output - y) ** 2).sum(axis=1) / 2, output - y


@pytest.mark.parametrize("loss", ["squared_error", half_square])
@pytest.mark.parametrize("starts", [[0, 5, 20], [0, 12, 6], [0, 5, 21], [-5, 5, 10]])
@by_engine
def test_batches_that_cannot_be(engine: Engine, starts: list[int], loss: object) -> None:
    case = make_case(10, (3, 4, 2), loss=loss)
    arguments = train_arguments(case) | {"starts": np.array(starts)}
    with pytest.raises(ValueError, match=r"starts|batch"):
        engine.plan(case.network, 10).train_steps(**arguments)
    # not even the first, which could be
    np.testing.assert_array_equal(arguments["params"], case.params)


@by_engine
def test_stop_before_a_verb_and_work_afterwards(engine: Engine) -> None:
    case = make_case(10, (3, 4, 2), "tanh", weight="random")
    plan = engine.plan(case.network, 10)
    out, gradient = np.empty((10, 2)), np.empty_like(case.params)
    verbs: list[Callable[[], object]] = [
        lambda: plan.forward(case.params, case.X, out),
        lambda: plan.backward(case.params, case.X, case.y, gradient),
        lambda: plan.loss_gradient(case.params, case.X, case.y, case.weight, gradient),
        lambda: plan.train_steps(**train_arguments(case)),
    ]
    for verb in verbs:
        plan.stop()
        with pytest.raises(StoppedError):
            verb()
        verb()
    expected = np.empty_like(out)
    engine.plan(case.network, 10).forward(case.params, case.X, expected)
    plan.forward(case.params, case.X, out)
    np.testing.assert_array_equal(out, expected)


def start_long_run(engine: Engine) -> tuple[backends.Plan, threading.Thread, list[BaseException | None]]:
    """A plan busy in another thread for longer than any test waits, and where its end will be told."""
    case = make_case(200, (20, 100, 2))
    plan = engine.plan(case.network, 200, 1)
    plan.train_steps(**train_arguments(case, 1))  # Numba compiles here
    arguments = train_arguments(case, 40_000)
    ends: list[BaseException | None] = []
    begun = threading.Event()

    def run() -> None:
        begun.set()
        try:
            plan.train_steps(**arguments)
            ends.append(None)
        except (StoppedError, RuntimeError) as error:
            ends.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait(10)
    # from here to the engine there are only checks of shapes
    time.sleep(0.1)
    return plan, thread, ends


@by_engine
def test_stop_a_running_verb(engine: Engine) -> None:
    plan, thread, ends = start_long_run(engine)
    plan.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert [type(end) for end in ends] == [StoppedError]


@pytest.mark.parametrize("engine", CHECKING, ids=str)
def test_two_threads_do_not_share_a_plan(engine: Engine) -> None:
    plan, thread, ends = start_long_run(engine)
    case = make_case(3, (20, 100, 2))
    try:
        with pytest.raises(RuntimeError) as caught:
            plan.forward(case.params, case.X, np.empty((3, 2)))
        assert not isinstance(caught.value, StoppedError)
    finally:
        plan.stop()
        thread.join(10)
    assert [type(end) for end in ends] == [StoppedError]


@pytest.mark.parametrize("engine", CHECKING, ids=str)
def test_other_threads_run_while_a_plan_works(engine: Engine) -> None:
    plan, thread, _ = start_long_run(engine)
    counted = 0
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        counted += 1
    still_running = thread.is_alive()
    plan.stop()
    thread.join(10)
    assert still_running
    assert counted > 1000


WRONG = {
    "params: length": {"params": lambda a: a[:-1]},
    "params: dtype": {"params": lambda a: a.astype("float32")},
    "params: a list": {"params": lambda a: a.tolist()},
    "X: columns": {"X": lambda a: np.ascontiguousarray(a[:, :-1])},
    "X: dtype": {"X": lambda a: a.astype("float32")},
    "X: order": {"X": np.asfortranarray},
    "y: rows": {"y": lambda a: a[:-1]},
    "y: columns": {"y": lambda a: a[:, :1].copy()},
    "y: dimensions": {"y": np.ravel},
    "weight: length": {"weight": lambda a: a[:-1]},
    "weight: dtype": {"weight": lambda a: a.astype("int64")},
    "slots: number": {"slots": lambda a: np.zeros((2, a.shape[1]))},
    "order: dtype": {"order": lambda a: a.astype("int32")},
    "starts: length": {"starts": lambda a: a[:-1]},
    "starts: beyond the order": {"starts": lambda a: a + 1},
    "starts: falling": {"starts": lambda a: a[::-1].copy()},
    "starts: batch too large": {"starts": lambda a: np.array([0, 0, a[-1]])},
    "rates: dtype": {"rates": lambda a: a.astype("float32")},
    "losses: length": {"losses": lambda a: np.zeros(5)},
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("engine", CHECKING, ids=str)
def test_wrong_arrays_are_refused_by_name(engine: Engine, wrong: str) -> None:
    case = make_case(10, (3, 4, 2), weight="random")
    arguments = train_arguments(case)
    params = arguments["params"]
    for name, change in WRONG[wrong].items():
        arguments[name] = change(arguments[name])
    with pytest.raises(ValueError, match=wrong.partition(":")[0] if "batch" not in wrong else "batch"):
        engine.plan(case.network, 10).train_steps(**arguments)
    np.testing.assert_array_equal(params, case.params)


@pytest.mark.parametrize("engine", CHECKING, ids=str)
def test_wrong_outputs_are_refused_by_name(engine: Engine) -> None:
    case = make_case(10, (3, 4, 2))
    plan = engine.plan(case.network, 10)
    gradient, out = np.empty_like(case.params), np.empty((10, 2))
    with pytest.raises(ValueError, match="out"):
        plan.forward(case.params, case.X, out[:-1])
    with pytest.raises(ValueError, match="out"):
        plan.forward(case.params, case.X, out.astype("float32"))
    with pytest.raises(ValueError, match="output_gradient"):
        plan.backward(case.params, case.X, out[:, :1].copy(), gradient)
    with pytest.raises(ValueError, match="gradient"):
        plan.backward(case.params, case.X, out, gradient[1:])
    with pytest.raises(ValueError, match="x_gradient"):
        plan.backward(case.params, case.X, out, gradient, np.empty((10, 4)))
    with pytest.raises(ValueError, match="gradient"):
        plan.loss_gradient(case.params, case.X, case.y, None, gradient[::-1])
    out.flags.writeable = False
    with pytest.raises((ValueError, BufferError), match=r"read-?only|writable"):
        plan.forward(case.params, case.X, out)
    with pytest.raises(ValueError, match="slots"):
        plan.update(Adam(), case.params, gradient, np.zeros((1, len(gradient))), 0, 0.1)


@by_engine
def test_more_rows_than_the_plan_is_for(engine: Engine) -> None:
    case = make_case(10, (3, 4, 2))
    plan = engine.plan(case.network, 9)
    with pytest.raises(ValueError, match="10 rows exceed the plan's batch_size=9"):
        plan.loss_gradient(case.params, case.X, case.y, None, np.empty_like(case.params))
    with pytest.raises(ValueError, match="10 rows exceed the plan's batch_size=9"):
        plan.backward(case.params, case.X, case.y, np.empty_like(case.params))
    with pytest.raises(ValueError, match=r"batch_size must be an integer from 1 to .*, got 0"):
        engine.plan(case.network, 0)


@by_engine
def test_threads_are_taken_as_asked(engine: Engine) -> None:
    case = make_case(200, (20, 30, 2))
    assert 1 <= engine.plan(case.network, 200, 5).n_threads <= 5
    assert engine.plan(case.network, 200, 1).n_threads == 1
    with pytest.raises(ValueError, match="n_threads=0"):
        engine.plan(case.network, 200, 0)


def test_a_missing_backend_is_one_line_that_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYMLP_BACKEND", raising=False)
    real = backends.importlib.util.find_spec
    absent = ("numba", "pymlp._engine")
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None if name in absent else real(name))
    # what has been imported counts as there
    monkeypatch.delitem(sys.modules, "pymlp.backends.c", raising=False)
    assert backends.available() == ("numpy",)
    assert backends.choose() == backends.Choice("numpy", "fastest that can run here")
    with pytest.raises(backends.BackendUnavailableError, match=r"pip install 'pymlp\[numba\]'") as caught:
        backends.get("numba")
    assert "\n" not in str(caught.value)
    with pytest.raises(backends.BackendUnavailableError, match="C compiler"):
        backends.get("c")
    with pytest.raises(ValueError, match="backend='fortran' is not one of c, numba, numpy"):
        backends.get("fortran")
