"""Learners when something is wrong: errors that change nothing, other threads, forks, Ctrl-C."""

import copy
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from interrupting import Interruption
from learners import data, has_engine, made, small, state_of

from pymlp import Adam, Learner, Network, backends
from pymlp.backends import plan_stepper
from pymlp.optimizers import new_slots


@pytest.mark.parametrize("backend", backends.available())
def test_what_does_not_fit_is_named_and_changes_nothing(backend):
    network, params = small(loss="binary_log_loss")
    learner = made(backend, network, params, batch_size=6)
    X, by_output = data()
    y, weight = (by_output > 0).astype("float32"), np.ones(6, "float32")
    bad = X.copy()
    bad[4, 2] = np.nan
    learner.train(X, y)
    before = state_of(learner)
    rows = np.ones((7, 4), "float32")
    for call, message in (
        (lambda: learner.forward(X[:, :3]), r"X must be of shape \(rows, 4\), or \(4,\) for one row, got \(6, 3\)"),
        (lambda: learner.forward(X[None]), r"got \(1, 6, 4\)"),
        (lambda: learner.forward(rows), "X has 7 rows, more than batch_size=6"),
        (lambda: learner.forward(bad), r"X contains NaN: first in row 4, column 2 \(counted from 0\)"),
        (lambda: learner.predict(bad), "X contains NaN: first in row 4, column 2"),
        (lambda: learner.predict(X.astype("float64") * 1e60), "X contains infinity"),
        (lambda: learner.step(by_output, X[:, :3]), "X must be of shape"),
        (lambda: learner.step(by_output, X[:5]), r"output_gradient must be of shape \(5, 2\).*got \(6, 2\)"),
        (lambda: learner.step(by_output[:, :1], X), r"got \(6, 1\)"),
        (lambda: learner.step(np.ones((7, 2)), rows), "X has 7 rows, more than batch_size=6"),
        (lambda: learner.step(by_output, bad), "X contains NaN"),
        (lambda: learner.step(by_output * np.inf, X), "output_gradient contains infinity.*row 0, column 0"),
        (lambda: learner.step(by_output[:0], X[:0]), "X must have at least one row"),
        (lambda: learner.step(by_output.astype(complex), X), "Complex data not supported: output_gradient"),
        (lambda: learner.train(X, y[:5]), r"y must have shape \(6, 2\), got \(5, 2\)"),
        (lambda: learner.train(X, 2 * y), r"y must lie in \[0, 1\]"),
        (lambda: learner.train(X, y * np.nan), "y contains NaN"),
        (lambda: learner.train(bad, y), "X contains NaN"),
        (lambda: learner.train(X[:0], y[:0]), "X must have at least one row"),
        (lambda: learner.train(rows, np.ones((7, 2))), "X has 7 rows, more than batch_size=6"),
        (lambda: learner.train(X, y, weight[:5]), r"weight must have shape \(6,\)"),
        (lambda: learner.train(X, y, -weight), "weight must not be negative"),
        (lambda: learner.train(X, y, 0 * weight), "weight must not be zero for every row"),
        (lambda: learner.train(X, y, weight * np.float32(1e-44)), "weight must not be zero for every row"),
        (lambda: learner.train(X, y, weight * np.nan), "weight contains NaN"),
        (lambda: learner.train(X[0], y), "cannot|y must have"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
        assert state_of(learner) == before
    with pytest.raises(TypeError, match="X must hold real numbers"):
        learner.forward([["a"] * 4])
    with pytest.raises(TypeError, match="masked entries"):
        learner.train(X[0], np.ma.masked_array([1.0, 0.0], [True, False]))
    assert state_of(learner) == before


def test_what_makes_no_learner_is_named():
    network, params = small()
    read_only = params.copy()
    read_only.flags.writeable = False
    slots = new_slots(Adam(), len(params), "float32")
    for arguments, options, message in (
        ((network, params[:-1]), {}, "params must be a float32 array of shape"),
        ((network, params.astype("float64")), {}, "params must be a float32 array of shape"),
        ((network, params * np.nan), {}, "params contains NaN"),
        ((network, read_only), {}, "read-only"),
        ((network, np.repeat(params, 2)[::2]), {}, "params is changed in place and must be C-contiguous"),
        ((network, params, "adam"), {}, "optimizer must be an object"),
        ((network, params), {"rate": 0}, "rate must be a finite number above 0"),
        ((network, params), {"schedule": "constant"}, "schedule must be an object"),
        ((network, params), {"batch_size": 0}, "batch_size must be an integer from 1"),
        ((network, params), {"slots": slots[:1]}, r"slots must be a float32 array of shape \(2, 65\) for Adam"),
        ((network, params), {"slots": np.asfortranarray(slots)}, "slots is changed in place and must be C-contiguous"),
        ((network, params), {"step": -1}, "step must be an integer of at least 0"),
        ((network, params), {"step": 2**63}, "step must be at most"),
        ((network, params), {"epoch_steps": 0}, "epoch_steps must be an integer of at least 1"),
        ((network, params), {"total_steps": 0}, "total_steps must be an integer of at least 1"),
        ((network, params), {"n_threads": 0}, "n_threads=0"),
        ((network, params), {"backend": "fortran"}, "backend='fortran'"),
    ):
        with pytest.raises(ValueError, match=message):
            Learner(*arguments, **options)
    with pytest.raises(TypeError, match="network must be a Network, got list"):
        Learner([4, 2], params)
    learner = Learner(network, params)
    with pytest.raises(RuntimeError, match="make a new one"):
        learner.__init__(network, params)


@has_engine
def test_the_type_in_c_refuses_to_work_unbound():
    call = pytest.importorskip("pymlp._call", reason="the module of direct calls is not built")
    stepper = call.Stepper()
    for method, arguments in (
        ("_run_forward", (1, 2, True)),
        ("_run_step", (1, None)),
        ("_run_train", (1, 2, None)),
        ("_run_update", (1,)),
        ("_begin", (0, np.empty((1, 4)), 1)),
    ):
        with pytest.raises(SystemError):
            getattr(stepper, method)(*arguments)
    assert stepper._kept_shape is None
    with pytest.raises(AttributeError, match="_step"):
        stepper.step(1)
    network, params = small()
    learner = Learner(network, params)
    entry = learner._plan.entry(Adam())
    arrays = (learner.params, learner.slots, params, params, learner._count)
    with pytest.raises(RuntimeError, match="bound once"):
        learner._bind(entry.addresses, entry.fail, params.dtype, arrays, (4, 2, 6, 2, 1), True, -1.0, 1.0)
    with pytest.raises(SystemError, match="not as the engine takes them"):
        learner._run_step(params, params)


def test_calls_leak_nothing():
    network, params = small()
    X, by_output = data()
    bad = X.copy()
    bad[0] = np.nan
    # what the learner is bound to, and what it is called with
    held = [X, by_output, bad, params, np.dtype("float32")]

    def counts() -> list[int]:
        return [sys.getrefcount(each) for each in held]

    def calls(learner: Learner) -> None:
        out = learner.forward(X)
        learner.step(by_output)
        learner.forward(X, out=out)
        learner.train(X, by_output)
        learner.train(X.tolist(), by_output)
        for call in (lambda: learner.step(bad), lambda: learner.forward(bad), lambda: learner.train(X, bad)):
            with pytest.raises((ValueError, RuntimeError)):
                call()

    before = counts()
    learner = Learner(network, params, batch_size=6)
    calls(learner)
    bound = counts()
    assert bound[3] > before[3]
    for _ in range(300):
        calls(learner)
    # the type has users elsewhere
    assert all(abs(late - early) <= 2 for early, late in zip(bound, counts(), strict=True))
    del learner
    assert counts()[:4] == before[:4]


def large(backend: str = "c") -> tuple[Network, np.ndarray, np.ndarray, np.ndarray]:
    """Some milliseconds of work."""
    rows = 1024 if backend == "c" else 200
    network = Network.from_widths((200, 500, 500, 2), "tanh")
    draw = np.random.default_rng(0)
    X = draw.normal(size=(rows, 200)).astype("float32")
    return network, network.initial_params(0), X, draw.normal(size=(rows, 2)).astype("float32")


@pytest.mark.parametrize("backend", backends.available())
def test_two_threads_get_an_error_or_whole_steps(backend):
    network, params, X, by_output = large(backend)
    learner = made(backend, network, params)
    refused = []

    def work(number: int) -> int:
        taken = 0
        for _ in range(6):
            try:
                if number % 2:
                    learner.step(by_output, X)
                else:
                    learner.train(X, by_output)
                taken += 1
            except RuntimeError as error:
                refused.append(str(error))
                time.sleep(0.002)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = sum(pool.map(work, range(4)))
    assert refused
    assert all("in use by another thread" in message for message in refused)
    assert learner.steps == taken > 0
    assert np.isfinite(learner.params).all()
    learner.step(by_output, X)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.parametrize("backend", ["c", "numpy"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_learns_on_in_a_forked_child(backend):
    if backend not in backends.available():
        pytest.skip(f"no backend {backend}")
    network, params = small()
    X, by_output = data()
    learner = Learner(network, params, backend=backend)
    learner.step(by_output, X)
    twin = copy.copy(learner)
    twin.step(by_output, X)
    expected = state_of(twin)
    child = os.fork()
    if child == 0:
        learner.step(by_output, X)
        os._exit(0 if state_of(learner) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
    learner.step(by_output, X)
    assert state_of(learner) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@has_engine
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_during_another_threads_step_leaves_a_learner_that_works():
    network, params, X, by_output = large()
    learner = made("c", network, params)
    learner.step(by_output, X)
    over = threading.Event()

    def steps() -> None:
        while not over.is_set():
            learner.step(by_output, X)

    thread = threading.Thread(target=steps)
    thread.start()
    try:
        for _ in range(10):
            time.sleep(0.003)
            child = os.fork()
            if child == 0:
                try:
                    learner.train(X[:8], by_output[:8])
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        over.set()
        thread.join()
    learner.step(by_output, X)


@pytest.mark.parametrize("backend", backends.available())
def test_ctrl_c_comes_before_or_after_a_step(backend):
    network, params, X, by_output = large(backend)
    expected = made(backend, network, params.copy())
    states = [state_of(expected)]
    for _ in range(10):
        expected.step(by_output, X)
        states.append(state_of(expected))
    raised = 0
    for delay in (0.0005, 0.002, 0.005, 0.01, 0.02):
        # the first steps are taken in a helper thread, until it is known how long they take
        learner = made(backend, network, params.copy())
        timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])
        try:
            timer.start()
            while learner.steps < 9 and timer.is_alive():
                learner.step(by_output, X)
            timer.join()
        except KeyboardInterrupt:
            raised += 1
        timer.join()
        assert state_of(learner) == states[learner.steps]
        # an interruption that came too late for its step must not stop the next
        learner.step(by_output, X)
        assert state_of(learner) == states[learner.steps]
    assert raised == 5


@pytest.mark.parametrize("name", ["step", "train", "update"])
@pytest.mark.parametrize("backend", [name for name in ("c", "numpy") if name in backends.available()])
def test_a_call_interrupted_at_any_line_is_a_whole_step_or_none(backend, name):
    network, params = small()
    X, y = data()
    # not as the engine takes them, so that there are lines of Python
    calls = {
        "step": lambda learner: learner.step(y.tolist(), X.tolist()),
        "train": lambda learner: learner.train(X.tolist(), y.tolist()),
        "update": lambda learner: learner.update(params.tolist()),
    }
    expected = made(backend, network, params.copy())
    states = [state_of(expected)]
    for _ in range(2):
        calls[name](expected)
        states.append(state_of(expected))
    line, seen = 1, set()
    while True:
        learner, interruption = made(backend, network, params.copy()), Interruption(line)
        if not interruption.run(lambda learner=learner: calls[name](learner)):
            break
        assert state_of(learner) == states[learner.steps], f"interrupted at {interruption.place}"
        seen.add(learner.steps)
        calls[name](learner)
        assert state_of(learner) == states[learner.steps]
        line += 1
    assert seen == {0, 1} or (backend, seen) == ("c", {0})
    assert line > 10


@has_engine
def test_a_request_to_stop_that_came_too_late_is_forgotten():
    network, params = small()
    X, by_output = data()
    learner, expected = made("c", network, params.copy()), made("c", network, params.copy())
    for convert in (np.asarray, np.ndarray.tolist):
        learner._plan.stop()
        learner.step(by_output, convert(X))
        learner._plan.stop()
        learner.forward(convert(X))
        learner._plan.stop()
        learner.train(convert(X), by_output)
        expected.step(by_output, X)
        expected.train(X, by_output)
    assert state_of(learner) == state_of(expected)


def test_a_plan_stepper_is_interrupted_before_or_after_a_step(monkeypatch):
    network, params = small()
    X, by_output = data()
    learner = made("numpy", network, params)
    before = state_of(learner)

    def interrupting(targets: object, sources: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(plan_stepper, "fill_together", interrupting)
        with pytest.raises(KeyboardInterrupt):
            learner.step(by_output, X)
    assert state_of(learner) == before
    learner.step(by_output, X)
    assert learner.steps == 1
