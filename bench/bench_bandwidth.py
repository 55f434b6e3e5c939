"""How fast numbers come from the last-level cache and from memory: the slopes of the roofline.

Each core reads an array of its own again and again, through BLAS's dot product of the array with itself, which loads
each number once from afar.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Barrier, Thread
from time import perf_counter

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from pymlp.config import resolve_threads

SECONDS = 0.2
ROUNDS = 9


@dataclass(frozen=True)
class BandwidthCase:
    """Where the numbers lie; the arrays of all cores take `megabytes` each."""

    name: str
    megabytes: int


# beyond the second-level caches, within the last; and beyond all of them
CASES = (BandwidthCase("last-level cache", 4), BandwidthCase("memory", 256))


def read_rate(n_threads: int, megabytes: int, seconds: float) -> float:
    """GB/s that `n_threads` threads read together, each from an array of `megabytes`."""
    arrays = [np.ones(megabytes << 18, np.float32) for _ in range(n_threads)]
    rates = [0.0] * n_threads
    together = Barrier(n_threads)

    def read(position: int) -> None:
        array = arrays[position]
        np.dot(array, array)
        together.wait()
        began, passes = perf_counter(), 0
        while (elapsed := perf_counter() - began) < seconds:
            np.dot(array, array)
            passes += 1
        rates[position] = passes * array.nbytes / elapsed * 1e-9

    with threadpool_limits(1, user_api="blas"):
        threads = [Thread(target=read, args=(position,)) for position in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(rates)


@pytest.mark.parametrize("threads", ["one", "all"])
def test_bandwidth(benchmark, case, threads):
    benchmark.group = f"bandwidth, {threads} cores"
    n_threads = 1 if threads == "one" else int(resolve_threads().value)
    rates: list[float] = []

    benchmark.pedantic(lambda: rates.append(read_rate(n_threads, case.megabytes, SECONDS)), rounds=ROUNDS)

    assert min(rates) > 0
    # others on the machine can only take bandwidth away
    benchmark.extra_info.update(
        kind="bandwidth", case=case.name, dtype="float32", contestant=threads, threads=n_threads, gigabytes=max(rates)
    )
