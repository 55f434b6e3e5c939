"""Learning-rate schedules as arrays: one rate for each step, so that every backend sees the same numbers.

A schedule is an option object; ``rates(base, first, count, total, epoch_steps, epoch_rows)`` gives the rates of the
steps ``first .. first + count - 1`` of a run of ``total`` steps whose epochs have ``epoch_steps`` steps over
``epoch_rows`` rows.  What changes while a run goes on (what a `Plateau` has seen) is in `pymlp.course`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from pymlp.options import check_number, option


@option
class Constant:
    """The base rate at every step."""

    name: ClassVar[str] = "constant"

    def rates(self, base: float, first: int, count: int, total: int, epoch_steps: int, epoch_rows: int) -> np.ndarray:
        """Rates of `count` steps from step `first`: float64 array of shape (count,)."""
        return np.full(count, float(base))


@option
class InverseScaling:
    """``base / (rows seen + 1) ** power``, renewed at the end of each epoch as scikit-learn does it."""

    power: float = 0.5
    name: ClassVar[str] = "invscaling"

    def __post_init__(self) -> None:
        check_number("power", self.power, 0, np.inf, high_open=True)

    def after_rows(self, base: float, rows: int) -> float:
        """The rate once `rows` rows have been seen."""
        return float(base) / (rows + 1) ** self.power if rows else float(base)

    def rates(self, base: float, first: int, count: int, total: int, epoch_steps: int, epoch_rows: int) -> np.ndarray:
        """Rates of `count` steps from step `first`: float64 array of shape (count,)."""
        return _by_epoch(lambda epoch: self.after_rows(base, epoch * epoch_rows), first, count, epoch_steps)


@option
class Step:
    """The base rate times `factor` after every `epochs` epochs, or after each of the epochs named.

    Parameters
    ----------
    epochs : int or sequence of int, default=10
        A number: it falls each time so many epochs have passed.  A rising sequence: it falls when the first, the
        second, ... of these numbers of epochs has passed.
    factor : float, default=0.1
        In (0, 1].
    """

    epochs: Any = 10
    factor: float = 0.1
    name: ClassVar[str] = "step"

    def __post_init__(self) -> None:
        places = list(self.epochs) if isinstance(self.epochs, (Sequence, np.ndarray)) else [self.epochs]
        whole = all(isinstance(place, Integral) and not isinstance(place, bool) and place >= 1 for place in places)
        if not places or not whole or any(later <= place for place, later in pairwise(places)):
            raise ValueError(f"epochs must be an integer above 0, or a rising sequence of them, got {self.epochs!r}")
        check_number("factor", self.factor, 0, 1, low_open=True)

    def rates(self, base: float, first: int, count: int, total: int, epoch_steps: int, epoch_rows: int) -> np.ndarray:
        """Rates of `count` steps from step `first`: float64 array of shape (count,)."""

        def rate(epoch: int) -> float:
            if isinstance(self.epochs, Integral):
                falls = epoch // int(self.epochs)
            else:
                falls = sum(place <= epoch for place in self.epochs)
            return base * float(self.factor) ** falls

        return _by_epoch(rate, first, count, epoch_steps)


@option
class Exponential:
    """The base rate times `factor` after every epoch.

    Parameters
    ----------
    factor : float, default=0.95
        In (0, 1].
    """

    factor: float = 0.95
    name: ClassVar[str] = "exponential"

    def __post_init__(self) -> None:
        check_number("factor", self.factor, 0, 1, low_open=True)

    def rates(self, base: float, first: int, count: int, total: int, epoch_steps: int, epoch_rows: int) -> np.ndarray:
        """Rates of `count` steps from step `first`: float64 array of shape (count,)."""
        return _by_epoch(lambda epoch: base * float(self.factor) ** epoch, first, count, epoch_steps)


@option
class Cosine:
    """Linear warm-up, then half a cosine from the base rate down to ``base * final``, or several, one after another.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.

    Parameters
    ----------
    warmup : float, default=0
        Epochs of the warm-up.
    restarts : int, default=0
        How many times the rate goes back to the base rate; the run after the warm-up falls into one period more.
    final : float, default=0
        What is left of the base rate at the end of a period, in [0, 1].
    multiplier : float, default=1
        Each period is so many times as long as the one before; above 0.
    """

    warmup: float = 0.0
    restarts: int = 0
    final: float = 0.0
    multiplier: float = 1.0
    name: ClassVar[str] = "cosine"

    def __post_init__(self) -> None:
        check_number("warmup", self.warmup, 0, np.inf, high_open=True)
        if not isinstance(self.restarts, Integral) or self.restarts < 0:
            raise ValueError(f"restarts must be an integer of at least 0, got {self.restarts!r}")
        check_number("final", self.final, 0, 1)
        check_number("multiplier", self.multiplier, 0, np.inf, low_open=True, high_open=True)

    def rates(self, base: float, first: int, count: int, total: int, epoch_steps: int, epoch_rows: int) -> np.ndarray:
        """Rates of `count` steps from step `first`: float64 array of shape (count,)."""
        steps = np.arange(first, first + count, dtype=np.float64)
        warm = min(self.warmup * epoch_steps, float(total))
        progress = np.clip((steps - warm) / max(total - warm, 1.0), 0.0, 1.0)
        if self.restarts:
            lengths = np.array([float(self.multiplier) ** period for period in range(self.restarts + 1)])
            ends = np.append(0.0, np.cumsum(lengths) / lengths.sum())
            # whole steps: each period shall begin at the very base rate
            edges = np.rint(warm + ends * (total - warm))
            period = np.clip(np.searchsorted(edges, steps, side="right") - 1, 0, self.restarts)
            progress = (steps - edges[period]) / np.maximum(edges[period + 1] - edges[period], 1.0)
            progress = np.clip(progress, 0.0, 1.0)
        falling = self.final + (1.0 - self.final) * 0.5 * (1.0 + _cosines(progress))
        return base * np.where(steps < warm, (steps + 1.0) / (warm + 1.0), falling)


@option
class OneCycle:
    """Up from ``peak / start_divisor`` to the peak over the first `rising` part of the run, then down to
    ``peak / (start_divisor * end_divisor)``, both along half a cosine.

    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2018.
    `peak` None is the base rate.
    """

    peak: float | None = None
    rising: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4
    name: ClassVar[str] = "one_cycle"

    def __post_init__(self) -> None:
        if self.peak is not None:
            check_number("peak", self.peak, 0, np.inf, low_open=True, high_open=True)
        check_number("rising", self.rising, 0, 1, low_open=True, high_open=True)
        for name in ("start_divisor", "end_divisor"):
            check_number(name, getattr(self, name), 1, np.inf, high_open=True)

    def rates(self, base: float, first: int, count: int, total: int, epoch_steps: int, epoch_rows: int) -> np.ndarray:
        """Rates of `count` steps from step `first`: float64 array of shape (count,)."""
        peak = float(base if self.peak is None else self.peak)
        low, end = peak / self.start_divisor, peak / (self.start_divisor * self.end_divisor)
        position = np.clip(np.arange(first, first + count, dtype=np.float64) / max(total - 1, 1), 0.0, 1.0)
        up = low + (peak - low) * 0.5 * (1.0 - _cosines(np.minimum(position / self.rising, 1.0)))
        fall = np.clip((position - self.rising) / (1.0 - self.rising), 0.0, 1.0)
        down = end + (peak - end) * 0.5 * (1.0 + _cosines(fall))
        return np.where(position < self.rising, up, down)


@option
class Plateau:
    """The base rate, times `factor` each time more than `patience` epochs in a row bring no improvement.

    Watched is the validation score or loss where there is one, else the training loss.  The count begins anew after a
    fall.  It is not the count that ends a fit: `patience` should be below ``n_iter_no_change``.

    Parameters
    ----------
    factor : float, default=0.2
        In (0, 1].
    patience : int, default=4
    tol : float, default=1e-4
        Least improvement.
    smallest : float, default=1e-6
        The rate falls no further than to here.
    """

    factor: float = 0.2
    patience: int = 4
    tol: float = 1e-4
    smallest: float = 1e-6
    name: ClassVar[str] = "plateau"

    def __post_init__(self) -> None:
        check_number("factor", self.factor, 0, 1, low_open=True)
        if not isinstance(self.patience, Integral) or self.patience < 0:
            raise ValueError(f"patience must be an integer of at least 0, got {self.patience!r}")
        for name in ("tol", "smallest"):
            check_number(name, getattr(self, name), 0, np.inf, high_open=True)

    def rates(self, base: float, first: int, count: int, total: int, epoch_steps: int, epoch_rows: int) -> np.ndarray:
        """Rates before the first fall: float64 array of shape (count,)."""
        return np.full(count, float(base))


SCHEDULES: dict[str, type] = {
    row.name: row for row in (Constant, InverseScaling, Step, Exponential, Cosine, OneCycle, Plateau)
}


def is_schedule(value: Any) -> bool:
    """Whether `value` is a schedule object or a callable from steps to rates."""
    return not isinstance(value, type) and (callable(getattr(value, "rates", None)) or callable(value))


def called_rates(schedule: Callable[[int], float], first: int, count: int) -> np.ndarray:
    """Rates of `count` steps from step `first` by a callable from the number of a step to its rate.

    Raises
    ------
    ValueError
        A rate is not a finite number of at least 0; the message names the step.
    """
    rates = np.empty(count)
    for position in range(count):
        rate = schedule(first + position)
        if not isinstance(rate, Real) or not 0 <= rate < np.inf:
            raise ValueError(
                f"a learning rate must be a finite number of at least 0, but {schedule!r} gives {rate!r} for step "
                f"{first + position}"
            )
        rates[position] = rate
    return rates


def _cosines(half_turns: np.ndarray) -> np.ndarray:
    # Python's cosine: NumPy's vectorised one may differ in the last bit between machines
    return np.array([math.cos(math.pi * turned) for turned in half_turns.tolist()])


def _by_epoch(rate: Callable[[int], float], first: int, count: int, epoch_steps: int) -> np.ndarray:
    # Python's power: NumPy's vectorised one may differ in the last bit between machines
    epochs = np.arange(first, first + count) // epoch_steps
    distinct, places = np.unique(epochs, return_inverse=True)
    return np.array([rate(int(epoch)) for epoch in distinct], np.float64)[places]
