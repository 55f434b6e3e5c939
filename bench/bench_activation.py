"""Training with smooth activations against the same network with relu, both by the engine, on one thread.

The activation is a small part of a step: what is wanted is that nobody chooses relu for speed alone.  The losses are
checked against the NumPy backend in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from bench_step import TOLERANCE
from cases import TRAINING_CASES, TrainingCase
from interleaved import race, units_of_a_round
from training_run import BATCHES, ProgramTraining, TrainingRun

from pymlp import Network, backends
from pymlp.optimizers import Adam

CASES = tuple(case for case in TRAINING_CASES if case.name == "mnist")


def _program(backend: str, case: TrainingCase, activation: str, dtype: str) -> Callable[..., np.ndarray]:
    network = Network.from_widths(case.widths, activation, loss=case.loss, dtype=dtype)
    plan = backends.get(backend).Plan(network, case.batch_size, 1)

    def run(params, slots, X, y, order, starts, rates):
        losses = np.empty(len(rates))
        plan.train_steps(Adam(), params, slots, 0, X, y, None, order, starts, rates, losses)
        return losses

    return run


@pytest.mark.skipif("c" not in backends.available(), reason="no C engine")
@pytest.mark.parametrize("activation", ["gelu", "tanh", "mish", "silu", "logistic", "softplus", "elu"])
def test_step(benchmark, case, dtype, activation):
    benchmark.group = f"activation {case.name} {dtype}"
    program, reference = (_program("c", case, name, dtype) for name in (activation, "relu"))

    def training_of(steps: int) -> ProgramTraining:
        return ProgramTraining(TrainingRun(case, dtype, steps), program)

    steps = units_of_a_round(benchmark, lambda steps: training_of(steps).take, least=BATCHES)
    training = training_of(steps)
    relu = ProgramTraining(TrainingRun(case, dtype, steps), reference)

    race(
        benchmark,
        training.take,
        relu.take,
        steps,
        steps,
        before_contestant=training.rewind,
        before_reference=relu.rewind,
    )

    exact = ProgramTraining(TrainingRun(case, "float64", BATCHES), _program("numpy", case, activation, "float64"))
    exact.take()
    np.testing.assert_allclose(training.run.losses[:BATCHES], exact.run.losses, rtol=TOLERANCE[dtype])
    benchmark.extra_info.update(kind="activation", case=case.name, dtype=dtype, contestant=activation)
