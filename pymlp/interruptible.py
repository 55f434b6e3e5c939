"""Waiting for a long call so that Ctrl-C works: the call runs in a helper thread, the caller's thread only waits.

Python delivers signals to the main thread between bytecodes; while that thread is inside a verb of a plan, Ctrl-C would
wait for its end.  A second signal may come while the first one's exception is on its way: what must not be left half
done also runs in a helper thread, which no signal reaches.
"""

from __future__ import annotations

import contextvars
import os
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import setitem
from threading import Lock, Thread
from typing import Any

import numpy as np

# a call shorter than this is made directly: Ctrl-C may wait that long
DIRECT_SECONDS = 0.05
POLL_SECONDS = 0.025
# a pessimistic guess of the speed of any backend, before anything has been measured
ASSUMED_FLOPS_PER_SECOND = 5e9
# NumPy goes over so many numbers in some ten milliseconds, a hundred times as long as a thread takes to start
MANY_NUMBERS = 4_000_000
# copied in some milliseconds, also into memory that was never touched
COPIED_BYTES = 4 << 20


def training_seconds(n_parameters: int, rows: int) -> float:
    """Pessimistic guess of the time of one gradient: three products of 2 * rows * parameters operations."""
    return 6.0 * n_parameters * rows / ASSUMED_FLOPS_PER_SECOND


def copy_in_pieces(target: np.ndarray, source: np.ndarray) -> None:
    """Copy one array into another of its shape, in pieces between which Ctrl-C comes through."""
    if target.flags.c_contiguous and source.flags.c_contiguous:
        target, source = target.reshape(-1), source.reshape(-1)
    rows = max(1, COPIED_BYTES * len(target) // max(1, target.nbytes))
    for start in range(0, len(target), rows):
        target[start : start + rows] = source[start : start + rows]


def copied(array: np.ndarray) -> np.ndarray:
    """A C-contiguous copy, made in pieces between which Ctrl-C comes through."""
    copy = np.empty(array.shape, array.dtype)
    copy_in_pieces(copy, array)
    return copy


def fill_together(targets: Sequence[np.ndarray], sources: Sequence[np.ndarray]) -> None:
    """Fill all arrays or none, whatever a signal's handler raises."""
    if sum(target.nbytes for target in targets) <= COPIED_BYTES:
        # sooner done than a thread is started; one call that runs no code of Python, so that no signal comes between
        deque(map(setitem, targets, repeat(...), sources), maxlen=0)
        return

    def copy() -> None:
        for target, source in zip(targets, sources, strict=True):
            copy_in_pieces(target, source)

    run_interruptibly(copy)


class _HelpedCall:
    """A call in a thread of its own.

    Python's own word for whether a thread has ended, and its wait for that, are not to be relied on here: up to version
    3.12 a thread counts as ended once Ctrl-C has interrupted whoever waited for it.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        # places that are there before the call, so that to note its end takes no memory
        self.result: Any = None
        self.failure: BaseException | None = None
        self.is_over = False
        # who decides whether the call takes place, its thread or the caller: the first to fill the place left for it
        self._decided = {"": ""}
        self._ended = Lock()
        self._ended.acquire()
        # a child of a fork is without the helper: what it runs never ends there
        self._process = os.getpid()
        self.thread = Thread(target=contextvars.copy_context().run, args=(self._work,), daemon=True)

    def _work(self) -> None:
        if self._decided.setdefault("by", "thread") == "caller":
            return
        try:
            self.result = self.call()
        except BaseException as error:
            self.failure = error
        finally:
            self.is_over = True
            self._ended.release()
            # the failure holds this frame: were the frame to hold the call, neither that nor its arrays would be freed
            # before the garbage collector comes
            del self

    def wait(self) -> None:
        """Return when the call has ended, or a short while later."""
        self._ended.acquire(timeout=POLL_SECONDS)

    def keep_from_beginning(self) -> bool:
        """Whether the call has not begun; then it never will."""
        return self._decided.setdefault("by", "caller") == "caller"

    def goes_on(self) -> bool:
        """Whether the call, once begun, has not ended and will, in this process."""
        return not self.is_over and os.getpid() == self._process

    def withdraw(self, stop: Callable[[], None] | None, is_pure: bool) -> None:
        """Keep the call from beginning, or wait until it has ended unless it is pure, whatever else interrupts this
        thread."""
        while True:
            try:
                # a call that has not begun, or has ended, must not be stopped: the next one would be
                if not self.keep_from_beginning() and not is_pure:
                    if stop is not None and self.goes_on():
                        stop()
                    while self.goes_on():
                        self.wait()
                return
            except BaseException:
                # another signal while the first one is being obeyed: it asks for nothing new
                continue


def run_interruptibly(
    call: Callable[[], Any],
    stop: Callable[[], None] | None = None,
    poll: Callable[[], None] | None = None,
    *,
    is_pure: bool = False,
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
    is_pure : bool, default=False
        The call changes nothing that anyone sees, so that nobody waits for its end who has been interrupted.

    Raises
    ------
    BaseException
        What `call` raised; or what first interrupted this thread, after `call` has ended.  Where this thread was
        interrupted before the call began, it never does.
    RuntimeError
        In the child of a fork that a signal's handler made while this thread waited.
    """
    helped = _HelpedCall(call)
    try:
        try:
            helped.thread.start()
        except (KeyError, RuntimeError) as error:
            # "can't start new thread" is Python's
            if str(error).startswith("can't ") and helped.keep_from_beginning():
                return call()
            # others are a signal handler's, or come of its exception inside `start`, which does not clean up after it
            raise error.__context__ or error from None
        while not helped.is_over:
            helped.wait()
            if poll is not None:
                poll()
            if not helped.is_over and not helped.thread.is_alive():
                break
    except BaseException:
        try:
            helped.withdraw(stop, is_pure)
        except BaseException:
            # another signal, due already, was raised on the way into `withdraw`, where nothing catches it yet
            helped.withdraw(stop, is_pure)
        raise
    if helped.keep_from_beginning():
        # the thread has ended before the call began: there was no memory for it
        return call()
    if not helped.is_over:
        raise RuntimeError("the process was forked during this call, which goes on in the parent alone")
    if helped.failure is not None:
        try:
            raise helped.failure
        finally:
            # an error that is held by the frames it holds would keep their arrays alive
            helped.failure = None
    return helped.result


def compute(call: Callable[[], Any], numbers: int) -> Any:
    """The result of ``call()``, which reads so many numbers by NumPy and changes nothing; Ctrl-C comes through where
    they are many."""
    return run_interruptibly(call, is_pure=True) if numbers > MANY_NUMBERS else call()
