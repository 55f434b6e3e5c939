"""Training on inputs full of subnormal numbers, against the same training on ordinary ones.

Processors take 20 to 150 cycles more for an operation with a subnormal number.  The engine counts them as 0, which
costs nothing: the reference here is the engine itself on the case's usual data, and the ratio should be 1.
"""

from __future__ import annotations

import numpy as np
import pytest
from bench_step import BATCHES, TrainingRun, _backend_program, _steps_of_a_round
from cases import SEED, TRAINING_CASES
from interleaved import race

from pymlp import backends

CASES = tuple(case for case in TRAINING_CASES if not case.slow)


@pytest.mark.skipif("c" not in backends.available(), reason="no C engine")
def test_step(benchmark, case, dtype):
    benchmark.group = f"subnormal {case.name} {dtype}"
    program = _backend_program("c", case, dtype)
    steps = _steps_of_a_round(benchmark, program, case, dtype)
    run, usual, zeros = (TrainingRun(case, dtype, steps) for _ in range(3))
    draw = np.random.default_rng(SEED)
    run.X[:] = draw.uniform(-0.9, 0.9, run.X.shape) * float(np.finfo(dtype).tiny)
    zeros.X[:] = 0

    race(
        benchmark,
        lambda: run.take(program),
        lambda: usual.take(program),
        steps,
        steps,
        before_round=run.rewind,
    )

    zeros.take(program)
    np.testing.assert_array_equal(run.losses[:BATCHES], zeros.losses[:BATCHES])
    benchmark.extra_info.update(kind="subnormal", case=case.name, dtype=dtype, contestant="c")
