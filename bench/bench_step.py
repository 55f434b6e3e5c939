"""Training steps: every case, every backend and peer, against NumPy written tightly; instruction sets and threads.

Each round starts from the same parameters and takes the same batches; the losses of the last timed round must be those
of a float64 reference.  Everything runs in the same races against the same reference, so that one table holds it all.
The engine also races itself: AVX2 against the best instruction set, and all cores against one.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import peers
import pytest
from cases import SEED, TRAINING_CASES, TrainingCase
from interleaved import race, seconds_of, units_of_a_round
from training_run import BATCHES, RATE, Program, ProgramTraining, Training, TrainingRun, backend_program

import pymlp
from pymlp import backends
from pymlp.config import resolve_threads
from pymlp.epochs import ENOUGH_STEPS, HELPED_SLICE_SECONDS
from pymlp.peers import PlainNumpyStep, TightNumpyStep

CASES = TRAINING_CASES
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
# Adam's first steps divide a gradient by its own size, so one that is rounding alone moves its weight as far as a large
# one: libraries that add in another order differ by this after a step of a large network
PEER_TOLERANCE = 1e-3
# products in bfloat16 keep three digits
BFLOAT16_TOLERANCE = 2e-2
HAS_ENGINE = backends.missing_reason("c") is None


def _tight_numpy(case: TrainingCase, dtype: str) -> Program:
    return TightNumpyStep(case.network(dtype), case.batch_size).run


def _program(contestant: str, case: TrainingCase, dtype: str) -> Program:
    if contestant == "plain NumPy":
        return PlainNumpyStep(case.network(dtype), case.batch_size).run
    return backend_program(contestant, case, dtype)


def _of_a_round(benchmark: Any, case: TrainingCase, dtype: str, new: Any, least: int = BATCHES) -> Training:
    """What ``new(run)`` makes of a run that is as long as a round."""
    steps = units_of_a_round(benchmark, lambda steps: new(TrainingRun(case, dtype, steps)).take, least=least)
    return new(TrainingRun(case, dtype, steps))


def _steps_of_a_call(benchmark: Any, case: TrainingCase, dtype: str, program: Program) -> int:
    """Steps for which `fit` would call the engine once.

    A call packs the parameters and writes them back, which the other programs need not do; in rounds of a tenth of a
    second that would be up to 4 % of a large network's steps.
    """
    if benchmark.disabled:
        return BATCHES
    trial = ProgramTraining(TrainingRun(case, dtype, BATCHES), program)
    trial.take()
    return max(BATCHES, min(ENOUGH_STEPS, int(HELPED_SLICE_SECONDS * BATCHES / seconds_of(trial.take))))


def _of_program(benchmark: Any, case: TrainingCase, dtype: str, program: Program) -> Training:
    return _of_a_round(benchmark, case, dtype, lambda run: ProgramTraining(run, program))


def _race(benchmark: Any, contestant: Training, reference: Training) -> None:
    race(
        benchmark,
        contestant.take,
        reference.take,
        contestant.run.steps,
        reference.run.steps,
        before_contestant=contestant.rewind,
        before_reference=reference.rewind,
    )


@functools.cache
def _exact_losses(case: TrainingCase) -> np.ndarray:
    """Losses of the first `BATCHES` steps in float64."""
    exact = ProgramTraining(TrainingRun(case, "float64", BATCHES), _tight_numpy(case, "float64"))
    exact.take()
    return exact.run.losses


def _check_losses(training: Training, tolerance: float) -> None:
    """The first losses of a timed run are those of float64; it must have been rewound."""
    losses = training.run.losses
    np.testing.assert_allclose(losses[:BATCHES], _exact_losses(training.run.case), rtol=tolerance)
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("contestant", [*backends.available(), "plain NumPy", *peers.training_peers()])
def test_step(benchmark, record_rate, case, dtype, contestant):
    benchmark.group = f"step {case.name} {dtype}"
    tolerance = TOLERANCE[dtype]
    if contestant in peers.training_peers():
        if dtype != "float32":
            pytest.skip("frameworks race in float32")
        tolerance = BFLOAT16_TOLERANCE if contestant == "PyTorch bf16" else PEER_TOLERANCE
        training = _of_a_round(benchmark, case, dtype, lambda run: peers.new_training(contestant, run))
    else:
        program = _program(contestant, case, dtype)
        least = _steps_of_a_call(benchmark, case, dtype, program) if contestant == "c" else BATCHES
        training = _of_a_round(benchmark, case, dtype, lambda run: ProgramTraining(run, program), least)

    _race(benchmark, training, _of_program(benchmark, case, dtype, _tight_numpy(case, dtype)))

    _check_losses(training, tolerance)
    benchmark.extra_info.update(kind="step", case=case.name, dtype=dtype, contestant=contestant)
    record_rate(benchmark, case.flops, dtype)


def test_scikit_learn(benchmark, record_rate, case, dtype):
    benchmark.group = f"step {case.name} {dtype}"
    neural_network = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")
    estimator = neural_network.MLPRegressor if case.loss == "squared_error" else neural_network.MLPClassifier
    reference = _of_program(benchmark, case, dtype, _tight_numpy(case, dtype))
    steps = BATCHES * max(1, reference.run.steps // (2 * BATCHES))
    run = TrainingRun(case, dtype, steps)
    X, y = run.X[run.order], run.y[run.order]
    if case.loss == "squared_error":
        y = y.ravel()
    elif case.loss == "log_loss":
        y = y.argmax(axis=1)
    classes = {} if case.loss == "squared_error" else {"classes": np.arange(run.network.outputs)}
    model = estimator(
        hidden_layer_sizes=case.widths[1:-1],
        batch_size=case.batch_size,
        learning_rate_init=RATE,
        alpha=0.0,
        shuffle=False,
        random_state=SEED,
    )
    # one epoch of partial_fit is one run; the first also draws the parameters, the same as the reference's
    model.partial_fit(X, y, **classes)
    ProgramTraining(run, _tight_numpy(case, dtype)).take()
    assert model.loss_ == pytest.approx(run.losses.mean(), rel=2e-3)

    race(
        benchmark,
        lambda: model.partial_fit(X, y),
        reference.take,
        steps,
        reference.run.steps,
        before_reference=reference.rewind,
    )

    assert np.isfinite(model.loss_)
    benchmark.extra_info.update(kind="step", case=case.name, dtype=dtype, contestant="scikit-learn")
    record_rate(benchmark, case.flops, dtype)


@pytest.mark.skipif(not HAS_ENGINE, reason="the C engine was not built")
def test_avx2(benchmark, case, dtype):
    benchmark.group = f"instruction sets {case.name} {dtype}"
    best, *others = backends.get("c").instruction_sets()
    if "avx2" not in others:
        pytest.skip("no better instruction set than AVX2 here")
    reference = _of_program(benchmark, case, dtype, backend_program("c", case, dtype))
    with pymlp.config_context(isa="avx2"):
        training = _of_program(benchmark, case, dtype, backend_program("c", case, dtype))

    _race(benchmark, training, reference)

    _check_losses(training, TOLERANCE[dtype])
    reference.rewind()
    reference.take()
    assert training.run.losses[:BATCHES].tolist() == reference.run.losses[:BATCHES].tolist()
    benchmark.extra_info.update(kind="isa", case=case.name, dtype=dtype, contestant="avx2", reference=best)


@pytest.mark.skipif(not HAS_ENGINE, reason="the C engine was not built")
def test_threads(benchmark, case, dtype):
    benchmark.group = f"threads {case.name} {dtype}"
    cores = int(resolve_threads().value)
    if cores == 1:
        pytest.skip("one usable core")
    reference = _of_program(benchmark, case, dtype, backend_program("c", case, dtype, 1))
    training = _of_program(benchmark, case, dtype, backend_program("c", case, dtype))

    _race(benchmark, training, reference)

    _check_losses(training, TOLERANCE[dtype])
    benchmark.extra_info.update(kind="threads", case=case.name, dtype=dtype, contestant="c", threads=cores)
