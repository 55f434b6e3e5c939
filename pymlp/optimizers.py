"""The registry of optimizers: what one step does to the flat parameter vector, and which numbers it keeps.

An optimizer is an option object.  Its state (``slots``) is an array of shape (n_slots, n_parameters) that the caller
owns, so it can be saved, sent and resumed.  Powers of the step number come in through ``coefficients`` as doubles,
computed here once for all backends: no backend calls ``pow``.

What all share stands in `Optimizer`: clipping, decoupled weight decay, averaging of the parameters.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import lru_cache
from numbers import Integral
from typing import ClassVar

import numpy as np

from pymlp.options import check_number, option

# powers of a beta that are computed and remembered at once
POWERS = 1024
# columns of `coefficients`
SIZE, DECAY, SECOND_SIZE, AVERAGING = range(4)
N_COEFFICIENTS = 4

AVERAGES = ("ema", "swa")


@option
class Optimizer:
    """What every optimizer can do beside its own rule, in this order: clip, decay, step, average.

    Parameters
    ----------
    weight_decay : float
        Before each step the weights, not biases, gains and the like, shrink by ``rate * weight_decay`` of themselves
        (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).
    clip_norm : float or None
        Scale the gradient of a step down to this Euclidean norm if its own is larger (Pascanu, Mikolov and Bengio, "On
        the difficulty of training recurrent neural networks", 2013).
    clip_value : float or None
        First bring each number of the gradient into ``[-clip_value, clip_value]``.
    average : {None, "ema", "swa"}
        Keep an average of the parameters, which predicts better than the last of them: "ema" an exponential moving
        average (Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992), "swa" the mean
        over all steps from `average_start` on (Izmailov et al., "Averaging weights leads to wider optima", 2018).  It
        is the last slot.
    average_decay : float
        Of "ema": what is kept of the average at each step; less in the first steps, so that their average is unbiased.
    average_start : int
        Step at which the average begins; before, it is the parameters themselves.
    """

    _: KW_ONLY
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    average: str | None = None
    average_decay: float = 0.999
    average_start: int = 0
    name: ClassVar[str] = ""
    own_slots: ClassVar[int] = 0

    @property
    def n_slots(self) -> int:
        """Arrays like the parameters that are kept between steps; the average is the last."""
        return self.own_slots + (self.average is not None)

    @property
    def constants(self) -> tuple[float, ...]:
        """The rule's own numbers as a backend takes them."""
        return ()

    def __post_init__(self) -> None:
        check_number("weight_decay", self.weight_decay, 0, np.inf, high_open=True)
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0, np.inf, low_open=True, high_open=True)
        if self.average is not None and self.average not in AVERAGES:
            raise ValueError(f"average must be None, 'ema' or 'swa', got {self.average!r}")
        check_number("average_decay", self.average_decay, 0, 1, high_open=True)
        check_number("average_start", self.average_start, 0, 2**62)
        if not isinstance(self.average_start, Integral):
            raise ValueError(f"average_start must be the number of a step, an integer, got {self.average_start!r}")

    def coefficients(self, first: int, rates: np.ndarray) -> np.ndarray:
        """Numbers of each step from number `first` on, counted from 0, (len(rates), 4): step size, decay, second size,
        weight of the new in the average."""
        coefficients = np.zeros((len(rates), N_COEFFICIENTS))
        self._fill_sizes(coefficients, first + 1, rates)
        if self.weight_decay:
            coefficients[:, DECAY] = np.asarray(rates, np.float64) * self.weight_decay
        if self.average is not None:
            passed = np.maximum(np.arange(first, first + len(rates)) - self.average_start, 0) + 1.0
            least = 1.0 - self.average_decay if self.average == "ema" else 0.0
            coefficients[:, AVERAGING] = np.maximum(1.0 / passed, least)
        return coefficients

    def _fill_sizes(self, coefficients: np.ndarray, first: int, rates: np.ndarray) -> None:
        # `first`: number of the first step, counted from 1
        coefficients[:, SIZE] = rates

    def apply(self, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, numbers: tuple[float, ...]) -> None:
        """One step of the rule in place; `numbers` are a row of `coefficients`, the decay 0 where none is due."""
        raise NotImplementedError


@option
class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    ``velocity = momentum * velocity - rate * gradient``; then the parameters grow by the velocity, or with Nesterov's
    momentum by ``momentum * velocity - rate * gradient`` with the new velocity (Sutskever et al., "On the importance
    of initialization and momentum in deep learning", 2013).

    Parameters
    ----------
    momentum : float, default=0.9
        In [0, 1].
    nesterov : bool, default=True
    weight_decay, clip_norm, clip_value, average, average_decay, average_start
        See `Optimizer`.
    """

    momentum: float = 0.9
    nesterov: bool = True
    name: ClassVar[str] = "sgd"
    own_slots: ClassVar[int] = 1

    @property
    def constants(self) -> tuple[float, ...]:
        """Momentum, and whether it is Nesterov's."""
        return float(self.momentum), float(self.nesterov)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("momentum", self.momentum, 0, 1)
        if not isinstance(self.nesterov, (bool, np.bool_)):
            raise ValueError(f"nesterov must be True or False, got {self.nesterov!r}")

    def apply(self, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, numbers: tuple[float, ...]) -> None:
        """One step of the rule in place; `numbers` are a row of `coefficients`."""
        velocity, size = slots[0], numbers[SIZE]
        velocity *= self.momentum
        velocity -= size * gradient
        params += self.momentum * velocity - size * gradient if self.nesterov else velocity


@option
class Adam(Optimizer):
    """Adam (Kingma and Ba, "Adam: a method for stochastic optimization", 2015), epsilon outside the square root.

    Step t (counted from 1): ``m = beta_1 m + (1 - beta_1) g``, ``v = beta_2 v + (1 - beta_2) g**2``, and the
    parameters shrink by ``rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon)``.

    Parameters
    ----------
    beta_1, beta_2 : float, default=0.9, 0.999
        In [0, 1).
    epsilon : float, default=1e-8
        Above 0.
    weight_decay, clip_norm, clip_value, average, average_decay, average_start
        See `Optimizer`.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    name: ClassVar[str] = "adam"
    own_slots: ClassVar[int] = 2

    @property
    def constants(self) -> tuple[float, ...]:
        """Both betas and epsilon."""
        return float(self.beta_1), float(self.beta_2), float(self.epsilon)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("beta_1", self.beta_1, 0, 1, high_open=True)
        check_number("beta_2", self.beta_2, 0, 1, high_open=True)
        check_number("epsilon", self.epsilon, 0, np.inf, low_open=True, high_open=True)

    def _fill_sizes(self, coefficients: np.ndarray, first: int, rates: np.ndarray) -> None:
        roots = np.sqrt(_complements(self.beta_2, first, len(rates)))
        coefficients[:, SIZE] = rates * roots / _complements(self.beta_1, first, len(rates))

    def _moments(self, gradient: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, second = slots[:2]
        first *= self.beta_1
        first += (1 - self.beta_1) * gradient
        second *= self.beta_2
        second += (1 - self.beta_2) * (gradient * gradient)
        return first, second

    def apply(self, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, numbers: tuple[float, ...]) -> None:
        """One step of the rule in place; `numbers` are a row of `coefficients`."""
        first, second = self._moments(gradient, slots)
        params -= numbers[SIZE] * first / (np.sqrt(second) + self.epsilon)


@option
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).

    Parameters
    ----------
    beta_1, beta_2, epsilon : float
        See `Adam`.
    weight_decay : float, default=0.01
    clip_norm, clip_value, average, average_decay, average_start
        See `Optimizer`.
    """

    _: KW_ONLY
    weight_decay: float = 0.01
    name: ClassVar[str] = "adamw"


@option
class NAdam(Adam):
    """Adam with Nesterov's momentum (Dozat, "Incorporating Nesterov momentum into Adam", 2016; beta_1 constant).

    As Adam, but with ``beta_1 m / (1 - beta_1**(t + 1)) + (1 - beta_1) g / (1 - beta_1**t)`` in place of
    ``m / (1 - beta_1**t)``.

    Parameters
    ----------
    beta_1, beta_2, epsilon : float
        See `Adam`.
    weight_decay, clip_norm, clip_value, average, average_decay, average_start
        See `Optimizer`.
    """

    name: ClassVar[str] = "nadam"

    def _fill_sizes(self, coefficients: np.ndarray, first: int, rates: np.ndarray) -> None:
        count = len(rates)
        common = rates * np.sqrt(_complements(self.beta_2, first, count))
        coefficients[:, SIZE] = common * self.beta_1 / _complements(self.beta_1, first + 1, count)
        coefficients[:, SECOND_SIZE] = common * (1 - self.beta_1) / _complements(self.beta_1, first, count)

    def apply(self, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, numbers: tuple[float, ...]) -> None:
        """One step of the rule in place; `numbers` are a row of `coefficients`."""
        first, second = self._moments(gradient, slots)
        params -= (numbers[SIZE] * first + numbers[SECOND_SIZE] * gradient) / (np.sqrt(second) + self.epsilon)


@option
class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, "Lecture 6.5: RMSProp", 2012), with momentum.

    ``v = rho v + (1 - rho) g**2``, ``velocity = momentum velocity + rate g / (sqrt(v) + epsilon)``, and the parameters
    shrink by the velocity.

    Parameters
    ----------
    rho : float, default=0.9
        In [0, 1).
    momentum : float, default=0.0
        In [0, 1].
    epsilon : float, default=1e-8
        Above 0.
    weight_decay, clip_norm, clip_value, average, average_decay, average_start
        See `Optimizer`.
    """

    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-8
    name: ClassVar[str] = "rmsprop"
    own_slots: ClassVar[int] = 2

    @property
    def constants(self) -> tuple[float, ...]:
        """Rho, momentum and epsilon."""
        return float(self.rho), float(self.momentum), float(self.epsilon)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("rho", self.rho, 0, 1, high_open=True)
        check_number("momentum", self.momentum, 0, 1)
        check_number("epsilon", self.epsilon, 0, np.inf, low_open=True, high_open=True)

    def apply(self, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, numbers: tuple[float, ...]) -> None:
        """One step of the rule in place; `numbers` are a row of `coefficients`."""
        velocity, second = slots[:2]
        second *= self.rho
        second += (1 - self.rho) * (gradient * gradient)
        velocity *= self.momentum
        velocity += numbers[SIZE] * gradient / (np.sqrt(second) + self.epsilon)
        params -= velocity


@option
class Lion(Optimizer):
    """Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023): steps of one size.

    The parameters shrink by ``rate * sign(beta_1 m + (1 - beta_1) g)``; then ``m = beta_2 m + (1 - beta_2) g``.  Rates
    are a third to a tenth of Adam's.

    Parameters
    ----------
    beta_1, beta_2 : float, default=0.9, 0.99
        In [0, 1).
    weight_decay, clip_norm, clip_value, average, average_decay, average_start
        See `Optimizer`.
    """

    beta_1: float = 0.9
    beta_2: float = 0.99
    name: ClassVar[str] = "lion"
    own_slots: ClassVar[int] = 1

    @property
    def constants(self) -> tuple[float, ...]:
        """Both betas."""
        return float(self.beta_1), float(self.beta_2)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("beta_1", self.beta_1, 0, 1, high_open=True)
        check_number("beta_2", self.beta_2, 0, 1, high_open=True)

    def apply(self, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, numbers: tuple[float, ...]) -> None:
        """One step of the rule in place; `numbers` are a row of `coefficients`."""
        momentum = slots[0]
        params -= numbers[SIZE] * np.sign(self.beta_1 * momentum + (1 - self.beta_1) * gradient)
        momentum *= self.beta_2
        momentum += (1 - self.beta_2) * gradient


@option
class Rprop(Optimizer):
    """Resilient propagation, for full batches: each parameter has a step size of its own, which the signs of its
    gradient lengthen and shorten.

    Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning", 1993; where the sign has
    changed, no step is taken (Rprop- with the gradient forgotten: Igel and Huesken, "Improving the Rprop learning
    algorithm", 2000).  The rate is the first step size, and does not count later.

    Parameters
    ----------
    shrink, grow : float, default=0.5, 1.2
        What a step size is multiplied by where the sign has changed, in (0, 1), and where it has not, above 1.
    least, most : float, default=1e-6, 50
        Bounds of the step sizes.
    weight_decay, clip_norm, clip_value, average, average_decay, average_start
        See `Optimizer`.
    """

    shrink: float = 0.5
    grow: float = 1.2
    least: float = 1e-6
    most: float = 50.0
    name: ClassVar[str] = "rprop"
    own_slots: ClassVar[int] = 2

    @property
    def constants(self) -> tuple[float, ...]:
        """Both factors, and the bounds of the step size."""
        return float(self.shrink), float(self.grow), float(self.least), float(self.most)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("shrink", self.shrink, 0, 1, low_open=True, high_open=True)
        check_number("grow", self.grow, 1, np.inf, low_open=True, high_open=True)
        check_number("least", self.least, 0, np.inf, low_open=True, high_open=True)
        check_number("most", self.most, self.least, np.inf, high_open=True)

    def apply(self, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, numbers: tuple[float, ...]) -> None:
        """One step of the rule in place; `numbers` are a row of `coefficients`."""
        before, sizes = slots[:2]
        agreement = np.sign(before) * np.sign(gradient)
        # a step size of 0 has not been set yet
        longer, shorter = np.minimum(sizes * self.grow, self.most), np.maximum(sizes * self.shrink, self.least)
        new = np.where(agreement > 0, longer, np.where(agreement < 0, shorter, sizes))
        sizes[:] = np.where(sizes == 0, numbers[SIZE], new)
        before[:] = np.where(agreement < 0, 0, gradient)
        params -= np.sign(before) * sizes


OPTIMIZERS: dict[str, type[Optimizer]] = {row.name: row for row in (SGD, Adam, AdamW, NAdam, RMSprop, Lion, Rprop)}


def clipped(optimizer: Optimizer, gradient: np.ndarray) -> np.ndarray:
    """The gradient as the optimizer takes it: by value, then by norm."""
    if optimizer.clip_value is not None:
        gradient = np.clip(gradient, -optimizer.clip_value, optimizer.clip_value)
    if optimizer.clip_norm is not None:
        norm = float(np.sqrt(np.square(gradient, dtype=np.float64).sum()))
        if norm > optimizer.clip_norm:
            gradient = gradient * gradient.dtype.type(optimizer.clip_norm / norm)
    return gradient


def _complements(beta: float, first: int, count: int) -> np.ndarray:
    """``1 - beta ** exponent`` for `count` exponents from `first` on."""
    start, end = first // POWERS, -(-(first + count) // POWERS)
    blocks = [_block_of_complements(float(beta), number) for number in range(start, max(end, start + 1))]
    table = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return table[first - start * POWERS : first - start * POWERS + count]


@lru_cache(maxsize=256)
def _block_of_complements(beta: float, number: int) -> np.ndarray:
    # Python's power, which took a twentieth of a tiny network's step before it was remembered: NumPy's vectorised one
    # may differ in the last bit between machines
    start = number * POWERS
    return 1.0 - np.array([beta**exponent for exponent in range(start, start + POWERS)])


def new_slots(optimizer: Optimizer, n_parameters: int, dtype: str) -> np.ndarray:
    """Slots of an optimizer that has taken no step: zeros of shape (n_slots, n_parameters)."""
    return np.zeros((optimizer.n_slots, n_parameters), dtype)
