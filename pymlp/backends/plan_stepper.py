"""A stepper made of a plan's verbs, where C cannot be called directly: what `pymlp._call.Stepper` does, in Python.

Its methods have the names by which `pymlp.learner` calls either.  Each step happens as a whole or not at all: it is
taken on copies, which then fill the arrays in one go.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pymlp.backends import Plan
from pymlp.interruptible import fill_together
from pymlp.optimizers import Optimizer


class PlanStepper:
    """Steps of an optimizer by gradients of one batch at a time.

    Parameters
    ----------
    plan : Plan
    optimizer : Optimizer
    params, slots : ndarray
        Changed in place.
    count : int64 ndarray of shape (1,)
        Steps taken so far; changed in place.
    """

    def __init__(
        self,
        plan: Plan,
        optimizer: Optimizer,
        params: np.ndarray,
        slots: np.ndarray,
        count: np.ndarray,
    ) -> None:
        self.plan, self.optimizer, self.params, self.slots, self.count = plan, optimizer, params, slots, count
        self.first, self.rates = 0, np.empty(0)
        self._kept: np.ndarray | None = None
        # the thread at work, by its process: what a fork has left behind is another process's
        self._users: dict[int, int] = {}

    def begin(self, first: int, rates: np.ndarray) -> None:
        """The steps from `first` on have these rates."""
        self.first, self.rates = first, rates

    @property
    def _kept_shape(self) -> tuple[int, ...] | None:
        if self._kept is None:
            return None
        return (*self._kept.shape[:-1], self.plan.network.outputs)

    def _run_forward(self, X: np.ndarray, out: np.ndarray, keeps: bool) -> np.ndarray:
        with self._alone():
            # a caller's array may hold the next rows by the time of the step
            kept = X.copy() if keeps else X
            step = int(self.count[0]) if keeps else None
            self.plan.forward(self.params, _matrix(kept), _matrix(out), step)
            if keeps:
                self._kept = kept
        return out

    def _run_step(self, output_gradient: np.ndarray, X: np.ndarray | None) -> None:
        with self._alone():
            gradient = np.empty_like(self.params)
            rows = _matrix(self._kept if X is None else X)
            self.plan.backward(self.params, rows, _matrix(output_gradient), gradient, None, int(self.count[0]))
            self._step(gradient)

    def _run_train(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
        with self._alone():
            gradient = np.empty_like(self.params)
            loss = self.plan.loss_gradient(self.params, X, y, weight, gradient, int(self.count[0]))
            self._step(gradient)
        return float(loss)

    def _run_update(self, gradient: np.ndarray) -> None:
        with self._alone():
            self._step(gradient)

    def _step(self, gradient: np.ndarray) -> None:
        step = int(self.count[0])
        params, slots = self.params.copy(), self.slots.copy()
        self.plan.update(self.optimizer, params, gradient, slots, step, float(self.rates[step - self.first]))
        # before the arrays change: what an interruption leaves behind must not be taken for the outputs of the new ones
        self._kept = None
        fill_together((self.params, self.slots, self.count), (params, slots, self.count + 1))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        process, thread = os.getpid(), threading.get_ident()
        try:
            if self._users.setdefault(process, thread) != thread:
                raise RuntimeError("the learner is in use by another thread")
            yield
        finally:
            if self._users.get(process) == thread:
                self._users.pop(process, None)


def _matrix(array: np.ndarray) -> np.ndarray:
    return array.reshape(1, -1) if array.ndim == 1 else array
