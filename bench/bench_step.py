"""Training steps: every case, every backend, against NumPy written tightly.

Each round starts from the same parameters and takes the same batches; the losses of the last timed round must be those
of a float64 reference.  ``plain NumPy`` and scikit-learn run in the same races, so that one table holds them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import SEED, TRAINING_CASES, TrainingCase
from interleaved import race, units_of_a_round

from pymlp import backends
from pymlp.optimizers import Adam, new_slots
from pymlp.peers import PlainNumpyStep, TightNumpyStep

CASES = TRAINING_CASES
# different batches of a run; longer runs repeat them
BATCHES = 4
RATE = 1e-3
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}

Program = Callable[..., np.ndarray]


class TrainingRun:
    """`steps` steps of one case from its first parameters, by any program that takes a peer's arguments."""

    def __init__(self, case: TrainingCase, dtype: str, steps: int) -> None:
        self.network = case.network(dtype)
        self.steps = steps
        self.X, self.y = case.data(BATCHES, dtype)
        shuffled = np.random.default_rng(SEED).permutation(len(self.X))
        self.order = np.resize(shuffled, steps * case.batch_size)
        self.starts = np.arange(steps + 1, dtype=np.int64) * case.batch_size
        self.rates = np.full(steps, RATE)
        self._first_params = self.network.initial_params(SEED)
        self.params = self._first_params.copy()
        self.slots = new_slots(Adam(), self.network.n_parameters, dtype)
        self.losses = np.empty(0)

    def rewind(self) -> None:
        """Go back to the first parameters."""
        self.params[:] = self._first_params
        self.slots[:] = 0

    def take(self, program: Program) -> None:
        """Run the program and keep its losses."""
        self.losses = program(self.params, self.slots, self.X, self.y, self.order, self.starts, self.rates)


def _backend_program(name: str, case: TrainingCase, dtype: str) -> Program:
    plan = backends.get(name).Plan(case.network(dtype), case.batch_size)
    optimizer = Adam()

    def run(params, slots, X, y, order, starts, rates):
        losses = np.empty(len(rates))
        plan.train_steps(optimizer, params, slots, 0, X, y, None, order, starts, rates, losses)
        return losses

    return run


def _program(contestant: str, case: TrainingCase, dtype: str) -> Program:
    if contestant == "plain NumPy":
        return PlainNumpyStep(case.network(dtype), case.batch_size).run
    return _backend_program(contestant, case, dtype)


def _steps_of_a_round(benchmark: Any, program: Program, case: TrainingCase, dtype: str) -> int:
    def run_of(steps: int) -> Callable[[], None]:
        run = TrainingRun(case, dtype, steps)
        return lambda: run.take(program)

    return units_of_a_round(benchmark, run_of, least=BATCHES)


def _reference(benchmark: Any, case: TrainingCase, dtype: str) -> tuple[Program, TrainingRun]:
    program = TightNumpyStep(case.network(dtype), case.batch_size).run
    return program, TrainingRun(case, dtype, _steps_of_a_round(benchmark, program, case, dtype))


def _exact_losses(case: TrainingCase) -> np.ndarray:
    """Losses of the first `BATCHES` steps in float64."""
    run = TrainingRun(case, "float64", BATCHES)
    run.take(TightNumpyStep(run.network, case.batch_size).run)
    return run.losses


@pytest.mark.parametrize("contestant", [*backends.available(), "plain NumPy"])
def test_step(benchmark, record_rate, case, dtype, contestant):
    benchmark.group = f"step {case.name} {dtype}"
    program = _program(contestant, case, dtype)
    run = TrainingRun(case, dtype, _steps_of_a_round(benchmark, program, case, dtype))
    reference, reference_run = _reference(benchmark, case, dtype)

    race(
        benchmark,
        lambda: run.take(program),
        lambda: reference_run.take(reference),
        run.steps,
        reference_run.steps,
        before_round=run.rewind,
    )

    np.testing.assert_allclose(run.losses[:BATCHES], _exact_losses(case), rtol=TOLERANCE[dtype])
    assert np.isfinite(run.losses).all()
    benchmark.extra_info.update(kind="step", case=case.name, dtype=dtype, contestant=contestant)
    record_rate(benchmark, case.flops, dtype)


def test_scikit_learn(benchmark, record_rate, case, dtype):
    benchmark.group = f"step {case.name} {dtype}"
    neural_network = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")
    estimator = neural_network.MLPRegressor if case.loss == "squared_error" else neural_network.MLPClassifier
    reference, reference_run = _reference(benchmark, case, dtype)
    steps = BATCHES * max(1, reference_run.steps // (2 * BATCHES))
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
    run.take(TightNumpyStep(run.network, case.batch_size).run)
    assert model.loss_ == pytest.approx(run.losses.mean(), rel=2e-3)

    race(
        benchmark,
        lambda: model.partial_fit(X, y),
        lambda: reference_run.take(reference),
        steps,
        reference_run.steps,
    )

    assert np.isfinite(model.loss_)
    benchmark.extra_info.update(kind="step", case=case.name, dtype=dtype, contestant="scikit-learn")
    record_rate(benchmark, case.flops, dtype)
