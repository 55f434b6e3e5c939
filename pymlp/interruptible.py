"""Waiting for a long call so that Ctrl-C works: the call runs in a helper thread, the caller's thread only waits.

Python delivers signals to the main thread between bytecodes; while that thread is inside a verb of a plan, Ctrl-C would
wait for its end.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from threading import Thread
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
    """The result of ``call()``, run in a helper thread.

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
    results: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    try:
        thread.start()
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            if poll is not None:
                poll()
    except BaseException:
        stop()
        if thread.ident is not None:
            thread.join()
        raise
    if errors:
        raise errors[0]
    return results[0]
