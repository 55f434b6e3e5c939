"""scikit-learn's rules at the end of an epoch: learning rate, improvement, when to stop, and what `verbose` prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pymlp.optimizers import Optimizer
from pymlp.schedules import InverseScaling

ADAPTIVE_DIVISOR = 5.0
SMALLEST_ADAPTIVE_RATE = 1e-6


@dataclass
class Descent:
    """An optimizer on its way: kept between calls of ``partial_fit``.

    The parameters of the optimizer are those of the call that began it, as in scikit-learn.
    """

    optimizer: Optimizer
    schedule: str
    power: float
    base_rate: float
    rate: float
    slots: np.ndarray
    step: int = 0


@dataclass
class StoppingRule:
    """The `pymlp.training.Rule` of the estimators.

    Parameters
    ----------
    descent : Descent
        Its ``rate`` is changed in place.
    tol, patience : float
        Least improvement, and how many epochs may pass without one (``n_iter_no_change``).
    verbose : bool
    epoch_rows : int
    score : callable, optional
        Validation score from parameters; with it early stopping is on.
    rows_seen : int
        ``t_``.
    loss_curve, validation_scores, best_loss, best_score, no_improvement
        Where an earlier call left off.
    best_params : ndarray, optional
        Parameters to return to if no epoch improves the score; None keeps the last.
    """

    descent: Descent
    tol: float
    patience: float
    verbose: bool
    epoch_rows: int
    score: Callable[[np.ndarray], float] | None = None
    rows_seen: int = 0
    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    best_loss: float = np.inf
    best_score: float = -np.inf
    no_improvement: int = 0
    best_params: np.ndarray | None = None
    epochs: int = 0
    validation_score: float | None = None
    _rates: np.ndarray = field(default_factory=lambda: np.empty(0))

    def rates(self, first: int, count: int) -> np.ndarray:
        """Rates of `count` steps: the same for a whole epoch."""
        if len(self._rates) != count or self._rates[0] != self.descent.rate:
            self._rates = np.full(count, self.descent.rate)
        return self._rates

    def certain_epochs(self) -> float:
        """Epochs until patience may run out; 1 where each has a score or a rate of its own."""
        if self.score is not None or self.descent.schedule == "invscaling":
            return 1
        return max(1, self.patience + 1 - self.no_improvement)

    def end_epoch(self, loss: float, params: np.ndarray) -> bool:
        """Loss, improvement, rate, then the decision: in scikit-learn's order."""
        self.epochs += 1
        self.rows_seen += self.epoch_rows
        self.loss_curve.append(loss)
        if self.verbose:
            print(f"Iteration {self.epochs}, loss = {loss:.8f}")
        if self.score is None:
            self._compare_loss(loss)
        else:
            self._compare_score(self.score(params), params)
        descent = self.descent
        if descent.schedule == "invscaling":
            descent.rate = InverseScaling(descent.power).after_rows(descent.base_rate, self.rows_seen)
        return self.no_improvement > self.patience and self._out_of_patience()

    def _compare_loss(self, loss: float) -> None:
        self.no_improvement = self.no_improvement + 1 if loss > self.best_loss - self.tol else 0
        self.best_loss = min(self.best_loss, loss)

    def _compare_score(self, score: float, params: np.ndarray) -> None:
        self.validation_score = score
        self.validation_scores.append(score)
        if self.verbose:
            print(f"Validation score: {score:f}")
        self.no_improvement = self.no_improvement + 1 if score < self.best_score + self.tol else 0
        if score > self.best_score:
            self.best_score = score
            self.best_params = params.copy()

    def _out_of_patience(self) -> bool:
        watched = "Training loss" if self.score is None else "Validation score"
        found = f"{watched} did not improve more than tol={self.tol:f} for {self.patience} consecutive epochs."
        descent = self.descent
        if descent.schedule != "adaptive":
            outcome, stop = "Stopping.", True
        elif descent.rate <= SMALLEST_ADAPTIVE_RATE:
            outcome, stop = "Learning rate too small. Stopping.", True
        else:
            descent.rate /= ADAPTIVE_DIVISOR
            self.no_improvement = 0
            outcome, stop = f"Setting learning rate to {descent.rate:f}", False
        if self.verbose:
            print(found, outcome)
        return stop

    def state(self) -> tuple[Any, ...]:
        """Everything an epoch changes."""
        return (
            self.epochs,
            self.rows_seen,
            len(self.loss_curve),
            len(self.validation_scores),
            self.best_loss,
            self.best_score,
            self.no_improvement,
            self.best_params,
            self.descent.rate,
        )

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to an earlier `state`."""
        self.epochs, self.rows_seen, losses, scores = state[:4]
        self.best_loss, self.best_score, self.no_improvement, self.best_params, self.descent.rate = state[4:]
        del self.loss_curve[losses:]
        del self.validation_scores[scores:]
