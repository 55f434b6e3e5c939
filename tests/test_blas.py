"""One thread for BLAS while anyone needs it, and as many as before afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np  # noqa: F401 - brings its BLAS
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from pymlp import blas
from pymlp.blas import one_blas_thread

BEFORE = 3


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def _several_threads() -> Iterator[None]:
    with threadpool_limits(BEFORE, user_api="blas"):
        if threads() != {BEFORE}:
            pytest.skip(f"BLAS takes {threads()} threads where {BEFORE} are asked for")
        yield


def test_the_number_is_restored() -> None:
    with one_blas_thread():
        assert threads() == {1}
    assert threads() == {BEFORE}


def test_whoever_leaves_first_takes_nothing_from_the_others() -> None:
    # as two Python threads would that fit at the same time
    first, second = ExitStack(), ExitStack()
    first.enter_context(one_blas_thread())
    second.enter_context(one_blas_thread())
    first.close()
    assert threads() == {1}
    second.close()
    assert threads() == {BEFORE}


def test_a_failure_restores_it() -> None:
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        raise ZeroDivisionError
    assert threads() == {BEFORE}


def test_a_child_forked_by_another_thread_does_not_wait_for_a_lock_that_nobody_holds() -> None:
    blas._holders.lock.acquire()
    try:
        child = os.fork()
        if child == 0:
            with one_blas_thread():
                os._exit(0 if threads() == {1} else 1)
    finally:
        blas._holders.lock.release()
    assert os.waitpid(child, 0)[1] == 0
