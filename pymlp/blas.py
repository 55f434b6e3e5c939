"""One thread for BLAS, while sums are taken that must not depend on how many it has.

OpenBLAS deals a long sum out to its threads, of which there are as many as cores this process may use, and adds up what
they bring.  SciPy's minimiser takes such sums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

from threadpoolctl import ThreadpoolController


@cache
def _libraries() -> ThreadpoolController:
    # looked for once, which takes as long as a small fit: NumPy's and SciPy's BLAS are loaded by then
    return ThreadpoolController().select(user_api="blas")


class _Holders:
    """Who asks for one thread at this moment: the number is the process's, so the first sets it and the last takes it
    back.  Each by himself would take it back while others still need it."""

    def __init__(self) -> None:
        self.lock, self.count, self.limits = Lock(), 0, None

    def enter(self) -> None:
        with self.lock:
            if self.count == 0:
                self.limits = _libraries().limit(limits=1)
            self.count += 1

    def leave(self) -> None:
        with self.lock:
            self.count -= 1
            if self.count == 0:
                self.limits.restore_original_limits()
                self.limits = None


_holders = _Holders()


def _forget_parents_threads() -> None:
    # the lock may be held by a thread that is not in the child
    global _holders
    _holders = _Holders()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_threads)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS on one thread for the body of a ``with`` statement, whichever other threads use this at the same time."""
    holders = _holders
    holders.enter()
    try:
        yield
    finally:
        holders.leave()
