"""One call in a helper thread: begun at most once and never left half done, whatever interrupts the wait for it."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest
from interrupting import raising

from pymlp import Network, backends, interruptible
from pymlp.interruptible import compute, copied, copy_in_pieces, run_interruptibly

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")


def test_a_call_is_waited_for_whatever_interrupts_the_wait() -> None:
    stopped, ended = threading.Event(), []

    def call() -> None:
        stopped.wait()
        time.sleep(0.2)
        ended.append(True)

    with raising(signal.SIGALRM, KeyboardInterrupt) as arrived:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            with pytest.raises(KeyboardInterrupt):
                run_interruptibly(call, stopped.set)
            reached = bool(ended)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(arrived) > 3
    assert reached


def test_a_call_without_a_stop_runs_to_its_end() -> None:
    ended = []

    def call() -> None:
        time.sleep(0.1)
        ended.append(True)

    with raising(signal.SIGALRM, TimeoutError):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(TimeoutError):
            run_interruptibly(call)
    assert ended


@pytest.mark.parametrize("stops", [False, True])
def test_signals_that_come_together_end_the_wait_no_sooner(stops: bool) -> None:
    # the second one is raised where the first one's exception is being dealt with
    stopped, ended = threading.Event(), []

    def call() -> None:
        # the start of a thread, which is Python's, is over then
        time.sleep(0.1)
        # both are due in the main thread before it runs again: neither call lets another thread run
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGALRM)
        if stops:
            stopped.wait(5)
        time.sleep(0.2)
        ended.append(stopped.is_set())

    with raising(signal.SIGINT, KeyboardInterrupt) as first, raising(signal.SIGALRM, TimeoutError) as second:
        with pytest.raises((KeyboardInterrupt, TimeoutError)):
            run_interruptibly(call, stopped.set if stops else None)
        reached = list(ended)
    assert first
    assert second
    assert reached == [stops]


@pytest.mark.parametrize("begun", [False, True])
def test_an_interruption_while_the_thread_starts(monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    real, called, running = threading.Thread.start, [], threading.Event()

    def start(thread: threading.Thread) -> None:
        if begun:
            real(thread)
            running.wait()
        raise KeyboardInterrupt

    def call() -> None:
        running.set()
        time.sleep(0.1)
        called.append(True)

    monkeypatch.setattr(interruptible.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(call, lambda: None)
    assert bool(called) is begun


def test_an_interruption_before_the_thread_runs_keeps_the_call_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    called, late = [], []

    def start(thread: threading.Thread) -> None:
        late.append(thread)
        raise KeyboardInterrupt

    real = threading.Thread.start
    monkeypatch.setattr(interruptible.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(lambda: called.append(True), lambda: None)
    # the system may have made the thread all the same
    real(late[0])
    late[0].join()
    assert not called


def test_without_a_thread_the_call_takes_place_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(interruptible.Thread, "start", start)
    assert run_interruptibly(threading.get_ident, lambda: None) == threading.get_ident()


@pytest.mark.parametrize("begun", [False, True])
def test_a_handlers_error_while_the_thread_starts_is_not_taken_for_a_refused_thread(
    monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    real, called, running = threading.Thread.start, [], threading.Event()

    def start(thread: threading.Thread) -> None:
        if begun:
            real(thread)
            running.wait()
        raise RuntimeError("raised by a handler")

    def call() -> None:
        running.set()
        called.append(True)

    monkeypatch.setattr(interruptible.Thread, "start", start)
    with pytest.raises(RuntimeError, match="raised by a handler"):
        run_interruptibly(call)
    assert len(called) == begun


def test_what_an_interrupted_call_held_is_freed_at_once() -> None:
    stopped, array = threading.Event(), np.zeros(10)
    freed = weakref.ref(array)

    def call(array: np.ndarray = array) -> None:
        stopped.wait()
        raise ValueError("stopped")

    gc.collect()
    gc.disable()
    try:
        with raising(signal.SIGALRM, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with contextlib.suppress(KeyboardInterrupt):
                run_interruptibly(call, stopped.set)
        del call, array
        # the helper lets go of its last things after the call's end was noted
        for _ in range(500):
            if freed() is None:
                break
            time.sleep(0.01)
        assert freed() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("leaves", [False, True])
def test_in_the_child_of_a_fork_the_call_does_not_seem_done_nor_is_it_waited_for(leaves: bool) -> None:
    parent, children = os.getpid(), []

    def fork() -> None:
        if os.getpid() == parent and not children:
            children.append(os.fork())
        if os.getpid() != parent and leaves:
            raise SystemExit

    code, result = 1, None
    try:
        result = run_interruptibly(lambda: time.sleep(0.2) or "done", None, fork)
    except RuntimeError as error:
        code = 2 if "forked" in str(error) else 1
    except SystemExit:
        code = 3
    finally:
        if os.getpid() != parent:
            os._exit(code)
    assert result == "done"
    for _ in range(1000):
        ended, status = os.waitpid(children[0], os.WNOHANG)
        if ended:
            break
        time.sleep(0.01)
    else:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)
        pytest.fail("the child waits for ever")
    assert os.waitstatus_to_exitcode(status) == (3 if leaves else 2)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(0,), (1,), (1000,), (3, 700), (700, 3), (0, 5), (5, 0)])
def test_copies_in_pieces_are_copies(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], order: str) -> None:
    monkeypatch.setattr(interruptible, "COPIED_BYTES", 1000)
    array = np.random.default_rng(0).standard_normal(shape).copy(order)
    copy = copied(array)
    assert copy.flags.c_contiguous
    assert not np.may_share_memory(copy, array)
    np.testing.assert_array_equal(copy, array)
    wide = np.zeros((2, *shape))
    copy_in_pieces(wide[::-1][0], array)
    np.testing.assert_array_equal(wide[1], array)
    every_other = np.zeros(2 * len(array)) if len(shape) == 1 else np.zeros((2 * len(array), shape[1]))
    copy_in_pieces(every_other[::2], array)
    np.testing.assert_array_equal(every_other[::2], array)
    assert not every_other[1::2].any()


def test_a_computation_is_left_alone_and_not_waited_for() -> None:
    going_on, ended = threading.Event(), threading.Event()

    def call() -> None:
        going_on.wait()
        ended.set()

    with raising(signal.SIGALRM, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            compute(call, 10**9)
    assert not ended.is_set()
    going_on.set()
    assert ended.wait(5)
    # few numbers need no thread
    assert compute(threading.get_ident, 100) == threading.get_ident()
    assert compute(threading.get_ident, 10**9) != threading.get_ident()


@pytest.mark.skipif("c" not in backends.available(), reason="only the C engine's memory is freed by code")
def test_no_code_of_python_runs_as_memory_of_the_engine_is_freed() -> None:
    # Ctrl-C that came during the call before would be raised in such code, which nobody called, and be lost
    module, network, called = backends.get("c"), Network.from_widths((3, 4, 1)), []

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            called.append(f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}")

    params = network.initial_params(0)
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        plan, predictor = module.Plan(network, 10), module.Predictor(network, params)
        made = list(called)
        called.clear()
        del plan, predictor
        freed = list(called)
    finally:
        sys.setprofile(before)
    assert not [name for name in made if "weakref" in name]
    assert not freed
