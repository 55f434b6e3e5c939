"""The learning rate on its way through a run: a schedule, and what the run itself has made of it.

A schedule only knows the number of a step.  That a plateau was reached, that patience ran out or that the loss was no
longer finite is known here, and goes along from one call of ``partial_fit`` to the next.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pymlp.schedules import InverseScaling, Plateau, called_rates

# rates that are compared in one go
RATES_AT_ONCE = 1 << 16
# so often a run halves its rate before it is given up: a billionth of the rate is left then
MOST_HALVINGS = 30


@dataclass
class Course:
    """Rates of one run.

    Parameters
    ----------
    schedule : schedule object, callable or str
        A name is one of scikit-learn's: "constant"; "invscaling", by all rows seen so far; "adaptive", which changes
        by `divide` alone.
    base : float
        The rate the schedule starts from.
    power : float
        Of "invscaling".
    roll_back : bool
        Whether `undoes` ever says so.

    Attributes
    ----------
    rate : float
        Of the names: the rate of the next epoch, before `factor`.
    factor : float
        What plateaus and halvings have left of the rates.
    """

    schedule: Any
    base: float
    power: float = 0.5
    roll_back: bool = False
    rate: float = field(init=False)
    factor: float = 1.0
    halvings: int = 0
    best: float = np.inf
    waited: int = 0
    total: int = 1
    epoch_steps: int = 1
    epoch_rows: int = 1

    def __post_init__(self) -> None:
        self.rate = self.base

    def begin(self, total: int, epoch_steps: int, epoch_rows: int) -> None:
        """A run of `total` steps begins, those before it included, in epochs of so many steps and rows."""
        self.total, self.epoch_steps, self.epoch_rows = total, epoch_steps, epoch_rows

    def rates(self, first: int, count: int) -> np.ndarray:
        """Rates of `count` steps from step `first`: float64 array of shape (count,)."""
        if isinstance(self.schedule, str):
            return np.full(count, self.rate * self.factor)
        if hasattr(self.schedule, "rates"):
            rates = self.schedule.rates(self.base, first, count, self.total, self.epoch_steps, self.epoch_rows)
        else:
            rates = called_rates(self.schedule, first, count)
        return rates if self.factor == 1.0 else rates * self.factor

    def agrees(self, total: int, first: int, last: int) -> bool:
        """Whether the schedule gives the steps first..last-1 the rates they would have in a run of `total` steps."""
        if total == self.total or not hasattr(self.schedule, "rates"):
            return True
        for start in range(first, last, RATES_AT_ONCE):
            count = min(RATES_AT_ONCE, last - start)
            rates, others = (
                self.schedule.rates(self.base, start, count, each, self.epoch_steps, self.epoch_rows)
                for each in (self.total, total)
            )
            if not np.array_equal(rates, others):
                return False
        return True

    def certain_epochs(self) -> float:
        """How many epochs have rates that do not depend on how they end; see `pymlp.epochs.Rule`."""
        if self.roll_back or self.schedule == "invscaling":
            return 1
        if isinstance(self.schedule, Plateau):
            return max(1, self.schedule.patience + 1 - self.waited)
        return np.inf

    def end_epoch(self, watched: float, rows_seen: int) -> None:
        """Take note of the end of an epoch: a loss or a negated score, and all rows seen so far."""
        if self.schedule == "invscaling":
            self.rate = InverseScaling(self.power).after_rows(self.base, rows_seen)
        elif isinstance(self.schedule, Plateau):
            self._watch(self.schedule, watched)

    def _watch(self, plateau: Plateau, watched: float) -> None:
        self.waited = 0 if watched < self.best - plateau.tol else self.waited + 1
        # not min(), which would keep a NaN
        if watched < self.best:
            self.best = watched
        if self.waited > plateau.patience:
            lowest = min(self.factor, plateau.smallest / self.base)
            self.factor = max(self.factor * plateau.factor, lowest)
            self.waited = 0

    def divide(self, divisor: float) -> None:
        """Lower the rate of a name."""
        self.rate /= divisor

    def undoes(self, epoch: int, loss: float, *arrays: np.ndarray) -> bool:
        """Whether an epoch is to be undone because its loss or one of the arrays it left is not finite.

        The rates are halved then.
        """
        if not self.roll_back or (np.isfinite(loss) and all(np.isfinite(array).all() for array in arrays)):
            return False
        if self.halvings == MOST_HALVINGS:
            return False
        self.halvings += 1
        self.factor *= 0.5
        warnings.warn(
            f"epoch {epoch + 1} ended with numbers that are not finite (loss {loss:g}): it is repeated from the end of "
            f"the one before with half the learning rate ({self.factor:g} of what the schedule says)",
            RuntimeWarning,
            stacklevel=2,
        )
        return True

    def state(self) -> tuple[Any, ...]:
        """Everything a run changes."""
        return self.rate, self.factor, self.halvings, self.best, self.waited

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to an earlier `state`."""
        self.rate, self.factor, self.halvings, self.best, self.waited = state
