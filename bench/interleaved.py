"""Timing two programs against each other on a machine that others use too.

A neighbour may take a core away for seconds, so times from different minutes do not compare.  Each round therefore runs
the reference and then the contestant, right after each other; the figure to trust is the median of the rounds' ratios.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from time import perf_counter, sleep
from typing import Any

# a round of either program is repeated until it takes about this long, in seconds
ROUND_SECONDS = 0.1
# no benchmark measures for much longer than this, in seconds, unless it is to have so many rounds
TOTAL_SECONDS = 4.0
MIN_ROUNDS = 3
MAX_ROUNDS = 25
# the threads of NumPy's OpenBLAS spin on a core for 100 ms after their last product (its THREAD_TIMEOUT), those of
# PyTorch and ONNX Runtime for 10 and 40 ms, which is not the next one's doing
SETTLE_SECONDS = 0.15


def seconds_of(run: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = perf_counter()
    run()
    return perf_counter() - start


def units_of_a_round(benchmark: Any, program_of: Callable[[int], Callable[[], Any]], least: int = 1) -> int:
    """How many units of work make up a round, at least `least`; ``program_of(n)`` makes the program that does n."""
    units = least
    if benchmark.disabled:
        return units
    while True:
        # the first call may compile, for some programs with each new number of units
        program = program_of(units)
        program()
        seconds = seconds_of(program)
        if seconds >= ROUND_SECONDS / 2:
            return units
        units = min(8 * units, 1 + int(units * ROUND_SECONDS / seconds))


def race(
    benchmark: Any,
    contestant: Callable[[], Any],
    reference: Callable[[], Any],
    contestant_units: float,
    reference_units: float,
    before_contestant: Callable[[], Any] | None = None,
    before_reference: Callable[[], Any] | None = None,
    settle_seconds: float = SETTLE_SECONDS,
    least_rounds: int = MIN_ROUNDS,
) -> None:
    """Time `contestant` with pytest-benchmark, each round right after a round of `reference`.

    Parameters
    ----------
    benchmark : pytest_benchmark.fixture.BenchmarkFixture
        Its ``extra_info`` receives ``seconds`` and ``reference_seconds`` (medians, for one unit of work), ``speed``
        (the median of the rounds' ratios, above 1 where the contestant is faster) and ``rounds``.
    contestant, reference : callable
        Take no argument; called before, where the first call takes longer.
    contestant_units, reference_units : float
        Units of work (steps, rows, fits) in one call of either.
    before_contestant, before_reference : callable, optional
        Called before each round of either, outside its time.
    settle_seconds : float
        Pause between the two, in which the reference's threads may come to rest.
    least_rounds : int, default=MIN_ROUNDS
        However long they take.
    """
    references: list[float] = []
    rounds = 1
    if not benchmark.disabled:
        estimate = seconds_of(contestant) + seconds_of(reference) + settle_seconds
        rounds = max(least_rounds, min(MAX_ROUNDS, int(TOTAL_SECONDS / estimate)))

    def run_reference_first() -> None:
        if before_reference is not None:
            before_reference()
        references.append(seconds_of(reference) / reference_units)
        if before_contestant is not None:
            before_contestant()
        sleep(settle_seconds)

    gc.collect()
    benchmark.pedantic(contestant, setup=run_reference_first, rounds=rounds)
    if benchmark.disabled:
        return
    seconds = [value / contestant_units for value in benchmark.stats.stats.data]
    ratios = [slow / fast for slow, fast in zip(references, seconds, strict=True)]
    benchmark.extra_info.update(
        seconds=statistics.median(seconds),
        reference_seconds=statistics.median(references),
        speed=statistics.median(ratios),
        rounds=rounds,
    )
