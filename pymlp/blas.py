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
    """Who asks for one thread at this moment.  The number is the process's, so the first notes it and the last takes it
    back: each by himself would take it back while others still need it.

    To leave is allowed again and again, so that an interruption on the way can be made up for.
    """

    def __init__(self) -> None:
        self.lock, self.present, self.limits = Lock(), set(), None

    def enter(self, who: object) -> None:
        with self.lock:
            if not self.present:
                # notes the numbers, changes none
                self.limits = _libraries().limit()
            self.present.add(who)
        # everyone, for with OpenMP and with MKL the number is the thread's own
        _libraries().limit(limits=1)

    def leave(self, who: object) -> None:
        with self.lock:
            if self.present == {who}:
                self.limits.restore_original_limits()
            self.present.discard(who)


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
    holders, who = _holders, object()
    try:
        holders.enter(who)
        yield
    finally:
        try:
            holders.leave(who)
        except BaseException:
            holders.leave(who)
            raise
