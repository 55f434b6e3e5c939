"""A run of training steps from a case's first parameters: what all contestants of bench_step.py race over.

A contestant is a class made from a `TrainingRun` with two methods: ``rewind()`` goes back to the first parameters,
outside the time, and ``take()`` takes all steps and leaves their losses in the run.  `ProgramTraining` wraps whatever
has the signature of `pymlp.backends.Plan.train_steps`; each `peer_*.py` has one class for its library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from cases import SEED, TrainingCase

from pymlp import backends
from pymlp.optimizers import Adam, new_slots

# different batches of a run; longer runs repeat them
BATCHES = 4
RATE = 1e-3

Program = Callable[..., np.ndarray]


class TrainingRun:
    """`steps` steps of one case: its data, the order of its rows, its first parameters; `losses` is the outcome."""

    def __init__(self, case: TrainingCase, dtype: str, steps: int) -> None:
        self.case = case
        self.dtype = dtype
        self.steps = steps
        self.network = case.network(dtype)
        self.X, self.y = case.data(BATCHES, dtype)
        shuffled = np.random.default_rng(SEED).permutation(len(self.X))
        self.order = np.resize(shuffled, steps * case.batch_size)
        self.starts = np.arange(steps + 1, dtype=np.int64) * case.batch_size
        self.rates = np.full(steps, RATE)
        self.first_params = self.network.initial_params(SEED)
        self.losses = np.empty(0)

    @property
    def batches(self) -> np.ndarray:
        """Row numbers of each step: (steps, batch_size)."""
        return self.order.reshape(self.steps, -1)


class Training(Protocol):
    """One contestant with its own copy of the parameters."""

    run: TrainingRun

    def rewind(self) -> None:
        """Go back to the first parameters and a fresh optimizer."""

    def take(self) -> None:
        """Take the run's steps and set its `losses`: float64 array of shape (steps,)."""


class ProgramTraining:
    """Steps by a program that takes the arguments of `train_steps`: the backends, and NumPy written by hand."""

    def __init__(self, run: TrainingRun, program: Program) -> None:
        self.run = run
        self._program = program
        self._params = run.first_params.copy()
        self._slots = new_slots(Adam(), run.network.n_parameters, run.dtype)

    def rewind(self) -> None:
        """Go back to the first parameters."""
        self._params[:] = self.run.first_params
        self._slots[:] = 0

    def take(self) -> None:
        """Run the program and keep its losses."""
        run = self.run
        run.losses = self._program(self._params, self._slots, run.X, run.y, run.order, run.starts, run.rates)


def backend_program(name: str, case: TrainingCase, dtype: str, n_threads: int | None = None) -> Program:
    """A backend's `train_steps` with Adam, on a plan of its own."""
    plan = backends.get(name).Plan(case.network(dtype), case.batch_size, n_threads)
    optimizer = Adam()

    def program(params, slots, X, y, order, starts, rates):
        losses = np.empty(len(rates))
        plan.train_steps(optimizer, params, slots, 0, X, y, None, order, starts, rates, losses)
        return losses

    return program
