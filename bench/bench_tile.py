"""The micro-kernel alone, from cache: what share of the peak one tile reaches, by instruction set, dtype and depth.

`k` is the length of the chain of multiply-adds: the number of inputs of a layer going forward, of rows for a gradient.
The peak is a loop of multiply-adds in registers, measured right before each round by the same instruction set.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import pytest

import pymlp
from pymlp import backends

ROUNDS = 7
MOST_PEAKS = 100


@dataclass(frozen=True)
class TileCase:
    """One micro-kernel and the length of its chains."""

    isa: str
    k: int
    dtypes: tuple[str, ...] = ("float32", "float64")

    @property
    def name(self) -> str:
        """Shown in the tables."""
        return f"{self.isa} k={self.k}"


_ISAS = backends.get("c").instruction_sets() if "c" in backends.available() else ()
CASES = tuple(TileCase(isa, k) for isa in _ISAS for k in (32, 128, 512))


@pytest.mark.skipif(not CASES, reason="the C engine was not built")
def test_tile(benchmark, case, dtype):
    benchmark.group = f"tile {case.isa} {dtype}"
    engine = backends.get("c")
    peaks: list[float] = []
    rates: list[float] = []

    with pymlp.config_context(isa=case.isa):
        benchmark.pedantic(
            lambda: rates.append(engine.measure_tile(dtype, case.k)),
            setup=lambda: peaks.append(engine.measure_peak(dtype, 1)),
            rounds=ROUNDS,
        )

        # a neighbour on the same core may slow down any of these, but not all
        highest_peak = max(peaks)
        for _ in range(MOST_PEAKS):
            if statistics.median(rates) < 1.05 * highest_peak:
                break
            highest_peak = max(highest_peak, engine.measure_peak(dtype, 1))

    # a tile faster than the registers allow has not done its work
    assert 0 < statistics.median(rates) < 1.05 * highest_peak
    benchmark.extra_info.update(
        kind="tile",
        case=case.name,
        dtype=dtype,
        gflops=statistics.median(rates),
        peak_gflops=statistics.median(peaks),
        share_of_peak=statistics.median(rate / peak for rate, peak in zip(rates, peaks, strict=True)),
    )
