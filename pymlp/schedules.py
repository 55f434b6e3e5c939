"""Learning-rate schedules as arrays: one rate for each step, so that every backend sees the same numbers.

A schedule is a small record of its own parameters; ``rates(base, first, count, total, epoch_steps, epoch_rows)`` gives
the rates of the steps ``first .. first + count - 1`` of a run of ``total`` steps whose epochs have ``epoch_steps``
steps over ``epoch_rows`` rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Constant:
    """The base rate at every step."""

    name: ClassVar[str] = "constant"

    def rates(self, base: float, first: int, count: int, total: int, epoch_steps: int, epoch_rows: int) -> np.ndarray:
        """Rates of `count` steps from step `first`: float64 array of shape (count,)."""
        return np.full(count, float(base))


@dataclass(frozen=True)
class InverseScaling:
    """``base / (rows seen + 1) ** power``, renewed at the end of each epoch as scikit-learn does it."""

    power: float = 0.5
    name: ClassVar[str] = "invscaling"

    def __post_init__(self) -> None:
        if not self.power >= 0:
            raise ValueError(f"power must be at least 0, got {self.power!r}")

    def after_rows(self, base: float, rows: int) -> float:
        """The rate once `rows` rows have been seen."""
        return float(base) / (rows + 1) ** self.power if rows else float(base)

    def rates(self, base: float, first: int, count: int, total: int, epoch_steps: int, epoch_rows: int) -> np.ndarray:
        """Rates of `count` steps from step `first`: float64 array of shape (count,)."""
        epochs = np.arange(first, first + count) // epoch_steps
        return np.array([self.after_rows(base, int(epoch) * epoch_rows) for epoch in epochs])


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up over `warmup` epochs, then half a cosine from the base rate down to ``base * final``.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017 (one period, no restart).
    """

    warmup: float = 0.0
    final: float = 0.0
    name: ClassVar[str] = "cosine"

    def __post_init__(self) -> None:
        if not self.warmup >= 0:
            raise ValueError(f"warmup must be at least 0 epochs, got {self.warmup!r}")
        if not 0 <= self.final <= 1:
            raise ValueError(f"final must be a fraction of the base rate in [0, 1], got {self.final!r}")

    def rates(self, base: float, first: int, count: int, total: int, epoch_steps: int, epoch_rows: int) -> np.ndarray:
        """Rates of `count` steps from step `first`: float64 array of shape (count,)."""
        steps = np.arange(first, first + count, dtype=np.float64)
        warm = min(self.warmup * epoch_steps, float(total))
        progress = np.clip((steps - warm) / max(total - warm, 1.0), 0.0, 1.0)
        falling = self.final + (1.0 - self.final) * 0.5 * (1.0 + np.cos(np.pi * progress))
        return base * np.where(steps < warm, (steps + 1.0) / (warm + 1.0), falling)


@dataclass(frozen=True)
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
        if self.peak is not None and not self.peak > 0:
            raise ValueError(f"peak must be above 0, got {self.peak!r}")
        if not 0 < self.rising < 1:
            raise ValueError(f"rising must be a fraction in (0, 1), got {self.rising!r}")
        for name in ("start_divisor", "end_divisor"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")

    def rates(self, base: float, first: int, count: int, total: int, epoch_steps: int, epoch_rows: int) -> np.ndarray:
        """Rates of `count` steps from step `first`: float64 array of shape (count,)."""
        peak = float(base if self.peak is None else self.peak)
        low, end = peak / self.start_divisor, peak / (self.start_divisor * self.end_divisor)
        position = np.clip(np.arange(first, first + count, dtype=np.float64) / max(total - 1, 1), 0.0, 1.0)
        up = low + (peak - low) * 0.5 * (1.0 - np.cos(np.pi * np.minimum(position / self.rising, 1.0)))
        fall = np.clip((position - self.rising) / (1.0 - self.rising), 0.0, 1.0)
        down = end + (peak - end) * 0.5 * (1.0 + np.cos(np.pi * fall))
        return np.where(position < self.rising, up, down)


SCHEDULES: dict[str, type] = {row.name: row for row in (Constant, InverseScaling, Cosine, OneCycle)}
