"""Waiting for a long call so that Ctrl-C works: the call runs in a helper thread, the caller's thread only waits.

Python delivers signals to the main thread between bytecodes; while that thread is inside a verb of a plan, Ctrl-C would
wait for its end.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from threading import Lock, Thread
from typing import Any

# a call shorter than this is made directly: Ctrl-C may wait that long
DIRECT_SECONDS = 0.05
POLL_SECONDS = 0.025
# a pessimistic guess of the speed of any backend, before anything has been measured
ASSUMED_FLOPS_PER_SECOND = 5e9


def training_seconds(n_parameters: int, rows: int) -> float:
    """Pessimistic guess of the time of one gradient: three products of 2 * rows * parameters operations."""
    return 6.0 * n_parameters * rows / ASSUMED_FLOPS_PER_SECOND


def run_interruptibly(call: Callable[[], Any], stop: Callable[[], None], poll: Callable[[], None] | None = None) -> Any:
    """The result of ``call()``, run in a helper thread; or in this one, where the system has no thread left.

    Parameters
    ----------
    call : callable
        Sees the context variables of the caller.
    stop : callable
        Makes `call` end early (`Plan.stop`); used when this thread is interrupted.
    poll : callable, optional
        Called in this thread a few dozen times a second.

    Raises
    ------
    BaseException
        What `call` raised; or what interrupted this thread, after `call` has ended.
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
        # a call that has not begun must not be stopped: the next one would be
        if not turn.acquire(blocking=False):
            stop()
            thread.join()
        raise
    if turn.acquire(blocking=False):
        # the thread has ended before the call began: there was no memory for it
        return call()
    if failure[0] is not None:
        raise failure[0]
    return result[0]
