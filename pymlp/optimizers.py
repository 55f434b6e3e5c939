"""The registry of optimizers: what one step does to the flat parameter vector, and which numbers it keeps.

An optimizer is a small record of its own parameters.  Its state (``slots``) is an array of shape
(n_slots, n_parameters) that the caller owns, so it can be saved, sent and resumed.  Powers of the step number come in
through ``coefficients`` as doubles, computed here once for all backends: no backend calls ``pow``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import numpy as np

from pymlp.options import option

# powers of a beta that are computed and remembered at once
POWERS = 1024


@option
class SGD:
    """Stochastic gradient descent with momentum.

    ``velocity = momentum * velocity - rate * gradient``; then the parameters grow by the velocity, or with Nesterov's
    momentum by ``momentum * velocity - rate * gradient`` with the new velocity (Sutskever et al., "On the importance
    of initialization and momentum in deep learning", 2013).
    """

    momentum: float = 0.9
    nesterov: bool = True
    name: ClassVar[str] = "sgd"
    n_slots: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check_range("momentum", self.momentum, 0.0, 1.0, closed=True)

    def coefficients(self, steps: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Effective (step size, decay) of each step: (len(steps), 2)."""
        coefficients = np.zeros((len(rates), 2))
        coefficients[:, 0] = rates
        return coefficients

    def apply(self, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, size: float, decay: float) -> None:
        """One step in place; `size` and `decay` are a row of `coefficients`."""
        velocity = slots[0]
        velocity *= self.momentum
        velocity -= size * gradient
        params += self.momentum * velocity - size * gradient if self.nesterov else velocity


@option
class Adam:
    """Adam (Kingma and Ba, "Adam: a method for stochastic optimization", 2015), epsilon outside the square root.

    Step t (counted from 1): ``m = beta_1 m + (1 - beta_1) g``, ``v = beta_2 v + (1 - beta_2) g**2``, and the
    parameters shrink by ``rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon)``.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    name: ClassVar[str] = "adam"
    n_slots: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _check_range("beta_1", self.beta_1, 0.0, 1.0)
        _check_range("beta_2", self.beta_2, 0.0, 1.0)
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be above 0, got {self.epsilon!r}")

    def coefficients(self, steps: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Effective (step size, decay) of each step: (len(steps), 2)."""
        steps = steps + 1
        coefficients = np.empty((len(steps), 2))
        coefficients[:, 0] = rates * np.sqrt(_complements(self.beta_2, steps)) / _complements(self.beta_1, steps)
        coefficients[:, 1] = self._decays(rates)
        return coefficients

    def _decays(self, rates: np.ndarray) -> np.ndarray | float:
        return 0.0

    def apply(self, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, size: float, decay: float) -> None:
        """One step in place; `size` and `decay` are a row of `coefficients`."""
        first, second = slots
        first *= self.beta_1
        first += (1 - self.beta_1) * gradient
        second *= self.beta_2
        second += (1 - self.beta_2) * (gradient * gradient)
        if decay:
            params -= decay * params
        params -= size * first / (np.sqrt(second) + self.epsilon)


@option
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): weights, not biases, first shrink by
    ``rate * weight_decay`` of themselves."""

    weight_decay: float = 0.01
    name: ClassVar[str] = "adamw"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight_decay < np.inf:
            raise ValueError(f"weight_decay must be a finite number of at least 0, got {self.weight_decay!r}")

    def _decays(self, rates: np.ndarray) -> np.ndarray:
        return np.asarray(rates, np.float64) * self.weight_decay


OPTIMIZERS: dict[str, type] = {row.name: row for row in (SGD, Adam, AdamW)}


def _complements(beta: float, exponents: np.ndarray) -> np.ndarray:
    """``1 - beta ** exponent`` for exponents that lie close together."""
    if len(exponents) == 0:
        return np.empty(0)
    if len(exponents) == 1:
        number, position = divmod(int(exponents[0]), POWERS)
        return _block_of_complements(float(beta), number)[position : position + 1]
    first, last = int(exponents.min()) // POWERS, int(exponents.max()) // POWERS
    blocks = [_block_of_complements(float(beta), number) for number in range(first, last + 1)]
    table = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return table[exponents - first * POWERS]


@lru_cache(maxsize=256)
def _block_of_complements(beta: float, number: int) -> np.ndarray:
    # Python's power, which took a twentieth of a tiny network's step before it was remembered: NumPy's vectorised one
    # may differ in the last bit between machines
    start = number * POWERS
    return 1.0 - np.array([beta**exponent for exponent in range(start, start + POWERS)])


def _check_range(name: str, value: float, low: float, high: float, *, closed: bool = False) -> None:
    if not (low <= value < high or (closed and value == high)):
        raise ValueError(f"{name} must be in [{low:g}, {high:g}{']' if closed else ')'}, got {value!r}")


def new_slots(optimizer: SGD | Adam, n_parameters: int, dtype: str) -> np.ndarray:
    """Slots of an optimizer that has taken no step: zeros of shape (n_slots, n_parameters)."""
    return np.zeros((optimizer.n_slots, n_parameters), dtype)
