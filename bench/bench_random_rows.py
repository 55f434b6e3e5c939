"""Training steps on rows drawn from an array larger than the caches, against the same steps on a few rows at hand.

An epoch takes its rows in a random order, so each comes from memory, and so does its target.  The engine asks for them
before their turn; the ratio says how much of the way to memory that hides.  1 is all of it.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import SEED, TrainingCase
from interleaved import race, units_of_a_round
from training_run import BATCHES, ProgramTraining, TrainingRun, backend_program

from pymlp import backends

# bytes of the inputs: more than any last-level cache that a core has to itself
BYTES = 256_000_000

CASES = (
    TrainingCase("8-32-32-1", (8, 32, 32, 1), 32, "squared_error"),
    TrainingCase("20-100-2", (20, 100, 2), 200, "binary_log_loss"),
    TrainingCase("100-64-10", (100, 64, 10), 200, "log_loss", ("float32", "float64")),
    TrainingCase("784-64-10", (784, 64, 10), 128, "log_loss", ("float32", "float64")),
    TrainingCase("784-512-512-10", (784, 512, 512, 10), 128, "log_loss"),
)


def _scatter(run: TrainingRun) -> None:
    """Replaces the run's data by large arrays, at random places of which its rows lie in their order."""
    draw = np.random.default_rng(SEED)
    rows = BYTES // (run.X.itemsize * run.X.shape[1])
    # a run longer than the array begins anew
    places = np.resize(draw.permutation(rows), len(run.order))
    first = slice(BATCHES * run.case.batch_size)
    for name in ("X", "y"):
        near = getattr(run, name)
        far = near[np.arange(rows) % len(near)]
        far[places[first]] = near[run.order[first]]
        setattr(run, name, far)
    run.order = places


@pytest.mark.skipif("c" not in backends.available(), reason="no C engine")
def test_step(benchmark, case, dtype):
    benchmark.group = f"random rows {case.name} {dtype}"
    program = backend_program("c", case, dtype)

    def training_of(steps: int) -> ProgramTraining:
        return ProgramTraining(TrainingRun(case, dtype, steps), program)

    steps = units_of_a_round(benchmark, lambda steps: training_of(steps).take, least=BATCHES)
    far, near = training_of(steps), training_of(steps)
    _scatter(far.run)

    race(
        benchmark,
        far.take,
        near.take,
        steps,
        steps,
        before_contestant=far.rewind,
        before_reference=near.rewind,
    )

    # the same rows at other places
    np.testing.assert_array_equal(far.run.losses[:BATCHES], near.run.losses[:BATCHES])
    benchmark.extra_info.update(kind="random rows", case=case.name, dtype=dtype, contestant="c")
