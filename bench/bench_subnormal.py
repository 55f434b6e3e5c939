"""Training on inputs full of subnormal numbers, against the same training on ordinary ones.

Processors take 20 to 150 cycles more for an operation with a subnormal number.  The engine counts them as 0, which
costs nothing: the reference here is the engine itself on the case's usual data, and the ratio should be 1.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import SEED, TRAINING_CASES
from interleaved import race, units_of_a_round
from training_run import BATCHES, ProgramTraining, TrainingRun, backend_program

from pymlp import backends

CASES = tuple(case for case in TRAINING_CASES if not case.slow)


@pytest.mark.skipif("c" not in backends.available(), reason="no C engine")
def test_step(benchmark, case, dtype):
    benchmark.group = f"subnormal {case.name} {dtype}"
    program = backend_program("c", case, dtype)

    def training_of(steps: int) -> ProgramTraining:
        return ProgramTraining(TrainingRun(case, dtype, steps), program)

    steps = units_of_a_round(benchmark, lambda steps: training_of(steps).take, least=BATCHES)
    training, usual, zeros = (training_of(steps) for _ in range(3))
    draw = np.random.default_rng(SEED)
    X = training.run.X
    X[:] = draw.uniform(-0.9, 0.9, X.shape) * float(np.finfo(dtype).tiny)
    zeros.run.X[:] = 0

    race(
        benchmark,
        training.take,
        usual.take,
        steps,
        steps,
        before_contestant=training.rewind,
        before_reference=usual.rewind,
    )

    zeros.take()
    np.testing.assert_array_equal(training.run.losses[:BATCHES], zeros.run.losses[:BATCHES])
    benchmark.extra_info.update(kind="subnormal", case=case.name, dtype=dtype, contestant="c")
