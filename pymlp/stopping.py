"""scikit-learn's rules at the end of an epoch: score, improvement, when to stop, and what `verbose` prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pymlp.container import ModelFormatError, shown
from pymlp.course import Course
from pymlp.epochs import check_histories, new_history
from pymlp.optimizers import Optimizer

ADAPTIVE_DIVISOR = 5.0
SMALLEST_ADAPTIVE_RATE = 1e-6
# what an epoch changes beside the lists and the course
CHANGING = ("epochs", "rows_seen", "best_loss", "best_score", "no_improvement", "best_params")


@dataclass
class Descent:
    """An optimizer on its way: kept between calls of ``partial_fit``.

    The parameters of the optimizer are those of the call that began it, as in scikit-learn.  Where it averages the
    network's parameters, the estimator has the average, and ``params`` are those the next step starts from.
    """

    optimizer: Optimizer
    course: Course
    slots: np.ndarray
    step: int = 0
    params: np.ndarray | None = None


@dataclass
class StoppingRule:
    """The `pymlp.epochs.Rule` of the estimators.

    Parameters
    ----------
    course : Course
        Changed in place.
    tol, patience : float
        Least improvement, and how many epochs may pass without one (``n_iter_no_change``).
    verbose : bool
    epoch_rows : int
    score : callable, optional
        Validation score from parameters.
    early : bool
        Whether the score decides when to stop, and its best parameters are kept.
    rows_seen : int
        ``t_``.
    loss_curve, validation_scores, history, best_loss, best_score, no_improvement
        Where an earlier call left off.
    best_params : ndarray, optional
        Parameters to return to if no epoch improves the score; None keeps the last.
    """

    course: Course
    tol: float
    patience: float
    verbose: bool
    epoch_rows: int
    score: Callable[[np.ndarray], float] | None = None
    early: bool = False
    rows_seen: int = 0
    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    history: dict[str, list[float | None]] = field(default_factory=lambda: new_history("validation_score"))
    best_loss: float = np.inf
    best_score: float = -np.inf
    no_improvement: int = 0
    best_params: np.ndarray | None = None
    epochs: int = 0
    validation_score: float | None = None

    def certain_epochs(self) -> float:
        """Epochs until patience may run out; 1 where each has a score or a rate of its own."""
        if self.score is not None:
            return 1
        return min(max(1, self.patience + 1 - self.no_improvement), self.course.certain_epochs())

    def end_epoch(self, loss: float, params: np.ndarray, rate: float, seconds: float) -> bool:
        """Loss, improvement, rate, then the decision: in scikit-learn's order."""
        self.epochs += 1
        self.rows_seen += self.epoch_rows
        self.loss_curve.append(loss)
        if self.verbose:
            print(f"Iteration {self.epochs}, loss = {loss:.8f}")
        if self.score is not None:
            self._take_score(self.score(params), params)
        if not self.early:
            self.no_improvement = self.no_improvement + 1 if loss > self.best_loss - self.tol else 0
            self.best_loss = min(self.best_loss, loss)
        history = self.history
        history["loss"].append(loss)
        history["validation_score"].append(self.validation_score)
        history["rate"].append(rate)
        history["seconds"].append(seconds)
        self.course.end_epoch(loss if self.score is None else -self.validation_score, self.rows_seen)
        return self.no_improvement > self.patience and self._out_of_patience()

    def _take_score(self, score: float, params: np.ndarray) -> None:
        self.validation_score = score
        self.validation_scores.append(score)
        if self.verbose:
            print(f"Validation score: {score:f}")
        if self.early:
            self.no_improvement = self.no_improvement + 1 if score < self.best_score + self.tol else 0
        if score > self.best_score:
            self.best_score = score
            if self.early:
                self.best_params = params.copy()

    def _out_of_patience(self) -> bool:
        watched = "Validation score" if self.early else "Training loss"
        found = f"{watched} did not improve more than tol={self.tol:f} for {self.patience} consecutive epochs."
        course = self.course
        if course.schedule != "adaptive":
            outcome, stop = "Stopping.", True
        elif course.rate <= SMALLEST_ADAPTIVE_RATE:
            outcome, stop = "Learning rate too small. Stopping.", True
        else:
            course.divide(ADAPTIVE_DIVISOR)
            self.no_improvement = 0
            outcome, stop = f"Setting learning rate to {course.rate:f}", False
        if self.verbose:
            print(found, outcome)
        return stop

    def state(self) -> tuple[Any, ...]:
        """Everything an epoch changes."""
        lengths = len(self.loss_curve), len(self.validation_scores), len(self.history["loss"])
        return [getattr(self, name) for name in CHANGING], lengths, self.course.state()

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to an earlier `state`."""
        values, (losses, scores, epochs), course = state
        for name, value in zip(CHANGING, values, strict=True):
            setattr(self, name, value)
        self.course.restore(course)
        del self.loss_curve[losses:]
        del self.validation_scores[scores:]
        for values in self.history.values():
            del values[epochs:]

    def record(self) -> dict[str, Any]:
        """Everything an epoch changes, with the lists themselves."""
        changing = {name: getattr(self, name) for name in CHANGING}
        lists = {name: getattr(self, name) for name in ("loss_curve", "validation_scores", "history")}
        return {**changing, **lists, "course": self.course.state()}

    def take_up(self, record: dict[str, Any], epochs: int) -> None:
        """Go on from the moment of `record`, `epochs` being complete; ModelFormatError if it does not know of these."""
        if record["epochs"] != epochs:
            raise ModelFormatError(f"its rule must know of {epochs} epochs, found {shown(record['epochs'])}")
        for name in CHANGING:
            setattr(self, name, record[name])
        self.loss_curve, self.validation_scores = list(record["loss_curve"]), list(record["validation_scores"])
        self.history = {name: list(record["history"][name]) for name in self.history}
        check_histories({"loss_curve": self.loss_curve, **self.history}, epochs)
        self.course.restore(record["course"])
