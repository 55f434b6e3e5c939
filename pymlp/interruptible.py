"""Waiting for a long call so that Ctrl-C works: the call runs in a helper thread, the caller's thread only waits.

Python delivers signals to the main thread between bytecodes; while that thread is inside a verb of a plan, Ctrl-C would
wait for its end.  A second signal may come while the first one's exception is on its way: what must not be left half
done also runs in a helper thread, which no signal reaches.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from threading import Lock, Thread
from typing import Any

import numpy as np

# a call shorter than this is made directly: Ctrl-C may wait that long
DIRECT_SECONDS = 0.05
POLL_SECONDS = 0.025
# a pessimistic guess of the speed of any backend, before anything has been measured
ASSUMED_FLOPS_PER_SECOND = 5e9
# copied in a few milliseconds, also into memory that was never touched
COPIED_BYTES = 16 << 20


def training_seconds(n_parameters: int, rows: int) -> float:
    """Pessimistic guess of the time of one gradient: three products of 2 * rows * parameters operations."""
    return 6.0 * n_parameters * rows / ASSUMED_FLOPS_PER_SECOND


def copy_in_pieces(target: np.ndarray, source: np.ndarray) -> None:
    """Copy one array into another of its shape, in pieces between which Ctrl-C comes through."""
    if not (target.flags.c_contiguous and source.flags.c_contiguous):
        target[...] = source
        return
    target, source = target.reshape(-1), source.reshape(-1)
    piece = max(1, COPIED_BYTES // max(1, target.itemsize))
    for start in range(0, target.size, piece):
        target[start : start + piece] = source[start : start + piece]


def copied(array: np.ndarray) -> np.ndarray:
    """A C-contiguous copy, made in pieces between which Ctrl-C comes through."""
    copy = np.empty(array.shape, array.dtype)
    copy_in_pieces(copy, array)
    return copy


def _withdraw(turn: Lock, thread: Thread, stop: Callable[[], None] | None) -> None:
    """Keep a call from beginning, or wait until it has ended, whatever else interrupts this thread."""
    while True:
        try:
            # a call that has not begun must not be stopped: the next one would be
            if not turn.acquire(blocking=False):
                if stop is not None:
                    stop()
                while thread.is_alive():
                    thread.join(POLL_SECONDS)
            return
        except BaseException:
            # another signal while the first one is being obeyed: it asks for nothing new
            continue


def run_interruptibly(
    call: Callable[[], Any], stop: Callable[[], None] | None = None, poll: Callable[[], None] | None = None
) -> Any:
    """The result of ``call()``, run in a helper thread; or in this one, where the system has no thread left.

    Parameters
    ----------
    call : callable
        Sees the context variables of the caller.
    stop : callable, optional
        Makes `call` end early (`Plan.stop`); used when this thread is interrupted.  Without it the call runs to its
        end whatever comes.
    poll : callable, optional
        Called in this thread a few dozen times a second.

    Raises
    ------
    BaseException
        What `call` raised; or what first interrupted this thread, after `call` has ended.  Where this thread was
        interrupted before the call began, it never does.
    """
    # places that are there before the call, so that to note its end takes no memory
    result: list[Any] = [None]
    failure: list[BaseException | None] = [None]
    # taken once: by the call as it begins, or by this thread if it is interrupted before
    turn = Lock()

    def work() -> None:
        if not turn.acquire(blocking=False):
            return
        try:
            result[0] = call()
        except BaseException as error:
            failure[0] = error

    thread = Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    try:
        try:
            thread.start()
        except RuntimeError:
            return call()
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            if poll is not None:
                poll()
    except BaseException:
        _withdraw(turn, thread, stop)
        raise
    if turn.acquire(blocking=False):
        # the thread has ended before the call began: there was no memory for it
        return call()
    if failure[0] is not None:
        raise failure[0]
    return result[0]
