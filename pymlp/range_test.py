"""The learning-rate range test: a short run at ever larger rates, which shows where training learns fastest.

Smith, "Cyclical learning rates for training neural networks", 2017.  The loss hardly moves while the rate is too small,
falls, then rises once the rate is too large; a rate where it falls steepest is a good one to train with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pymlp import backends
from pymlp.forks import drawing
from pymlp.interruptible import run_interruptibly
from pymlp.network import Network, random_source
from pymlp.optimizers import Adam, new_slots
from pymlp.options import check_number
from pymlp.rows import DenseRows, rows_of
from pymlp.training import check_count, check_data, check_optimizer, check_params

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# the test ends where the loss, averaged over the last few steps, is so many times its lowest
HOPELESS = 4.0
# weight of the past in that average
MEMORY = 0.8
# steps between two looks at the losses
STEPS_TOGETHER = 5
# the loss is smoothed over this part of the steps on either side
SMOOTHED_PART = 0.05


@dataclass(frozen=True)
class RangeTest:
    """The outcome of `find_learning_rate`.

    Attributes
    ----------
    rates : ndarray of shape (steps,)
        Rising; fewer than asked for if the loss went up for good before.
    losses : ndarray of shape (steps,)
        Loss of each step's batch, before the step.
    smoothed : ndarray of shape (steps,)
        `losses` averaged over neighbouring steps.
    suggestion : float or None
        The rate where `smoothed` falls steepest over the logarithm of the rate; None if it never falls.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss over the rate.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ImportError
            matplotlib is missing; the message names the pip command.
        """
        if ax is None:
            try:
                from matplotlib import pyplot
            except ImportError as error:
                raise ImportError("the package matplotlib is missing; run: pip install matplotlib") from error
            _, ax = pyplot.subplots()
        ax.plot(self.rates, self.losses, color="0.75", linewidth=1, label="of each batch")
        ax.plot(self.rates, self.smoothed, color="tab:blue", label="smoothed")
        if self.suggestion is not None:
            label = f"falls steepest: {self.suggestion:.2g}"
            ax.axvline(self.suggestion, color="tab:orange", linestyle="--", label=label)
        low, high = float(self.smoothed.min()), float(self.smoothed[0])
        margin = 0.3 * (high - low)
        if margin > 0:
            # what diverges at the end would leave no room for the rest
            ax.set_ylim(low - margin, high + margin)
        ax.set_xscale("log")
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss")
        ax.legend()
        return ax


def find_learning_rate(
    model: Any,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    params: np.ndarray | None = None,
    optimizer: Any = None,
    batch_size: int | None = None,
    random_state: Any = None,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 200,
    backend: str | None = None,
) -> RangeTest:
    """Try rates from `lowest` to `highest`, each times a constant factor the one before, one step with each.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor or Network
        Stays as it is.  An estimator gives its own solver, batch size and random state, unless others are given here.
    X, y, sample_weight : array-like
        As for ``fit``; for a network as for `pymlp.train`.
    params : ndarray of shape (n_parameters,), optional
        Where to begin, for a network; by default its initial values.
    optimizer : option object of `pymlp.optimizers`, optional
        For a network by default `Adam`.
    batch_size : int, optional
        For a network by default 200, or all rows if fewer.
    random_state : None, int, RandomState or Generator
        Where initial values and the order of rows come from.
    lowest, highest : float, default=1e-6, 10
    steps : int, default=200
    backend : {"c", "numba", "numpy"}, optional

    Returns
    -------
    RangeTest

    Raises
    ------
    ValueError
        An argument does not fit; the message names it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from pymlp import MLPClassifier, find_learning_rate
    >>> X, y = load_iris(return_X_y=True)
    >>> test = find_learning_rate(MLPClassifier(random_state=0), X, y)
    >>> 1e-4 < test.suggestion < 1
    True
    """
    steps = check_count("steps", steps, least=10)
    check_number("lowest", lowest, 0, np.inf, low_open=True, high_open=True)
    check_number("highest", highest, lowest, np.inf, low_open=True, high_open=True)
    if isinstance(model, Network):
        draw = random_source(random_state)
        network, (X, y, weight) = model, check_data(model, X, y, sample_weight)
        params = model.initial_params(draw) if params is None else params.copy()
        optimizer = Adam() if optimizer is None else optimizer
        batch_size = min(200, X.shape[0]) if batch_size is None else batch_size
    elif params is not None:
        raise ValueError("params can be given with a Network alone: an estimator draws its own, or starts warm")
    elif not hasattr(model, "_starting_point"):
        raise ValueError(f"model must be a Network, or an estimator of pymlp that trains in batches, got {model!r}")
    else:
        start = model._starting_point(X, y, sample_weight)
        network, params, X, y, weight = start.network, start.params, start.X, start.y, start.weight
        draw = start.random if random_state is None else random_source(random_state)
        optimizer = start.optimizer if optimizer is None else optimizer
        batch_size = start.batch_size if batch_size is None else batch_size
    check_params(network, params)
    check_optimizer(optimizer)
    batch_size = min(check_count("batch_size", batch_size), X.shape[0])
    ratio = float(highest) / float(lowest)
    # Python's power: NumPy's vectorised one may differ in the last bit between machines
    rates = np.array([float(lowest) * ratio ** (step / (steps - 1)) for step in range(steps)])
    plan = backends.get(backend).Plan(network, batch_size)
    slots = new_slots(optimizer, network.n_parameters, network.dtype)
    rows = rows_of(network, X, y, weight)

    def take_steps(first: int, last: int, order: np.ndarray, starts: np.ndarray, losses: np.ndarray) -> None:
        run = rows.run(order, starts, first, last)
        arguments = (optimizer, params, slots, first, *run, rates[first:last], losses[first:last])
        run_interruptibly(lambda: plan.train_steps(*arguments), plan.stop)

    losses = _losses(rows, batch_size, steps, draw, take_steps)
    return _outcome(rates[: len(losses)], losses)


def _losses(rows: DenseRows, batch_size: int, steps: int, draw: Any, take_steps: Callable[..., None]) -> np.ndarray:
    """Losses of the steps until there is no more hope, at least two."""
    n_rows = len(rows.numbers)
    within = np.append(np.arange(0, n_rows, batch_size), n_rows)
    epochs = -(-steps // (len(within) - 1))
    permutations = []
    for _ in range(epochs):
        with drawing:
            permutations.append(draw.permutation(n_rows))
    order = np.concatenate(permutations).astype(np.int64)
    starts = np.append((np.arange(epochs)[:, None] * n_rows + within[:-1]).ravel(), len(order)).astype(np.int64)
    together = min(STEPS_TOGETHER, rows.most_steps(batch_size))
    losses = np.empty(steps)
    recent, lowest = None, np.inf
    for first in range(0, steps, together):
        last = min(first + together, steps)
        with np.errstate(over="ignore", invalid="ignore"):
            take_steps(first, last, order, starts, losses)
        for step in range(first, last):
            recent = losses[step] if recent is None else MEMORY * recent + (1 - MEMORY) * losses[step]
            lowest = min(lowest, recent)
            # also where it is not a number
            if step > 1 and not recent <= lowest + (HOPELESS - 1) * abs(lowest):
                return losses[:step]
    return losses


def _outcome(rates: np.ndarray, losses: np.ndarray) -> RangeTest:
    width = max(1, round(SMOOTHED_PART * len(losses)))
    window = np.hanning(2 * width + 3)[1:-1]
    padded = np.pad(losses, width, mode="reflect")
    smoothed = np.convolve(padded, window / window.sum(), mode="valid")
    bottom = int(np.argmin(smoothed))
    suggestion = None
    if bottom > 0:
        slopes = np.gradient(smoothed, np.log(rates))[: bottom + 1]
        suggestion = float(rates[np.argmin(slopes)])
    return RangeTest(rates, losses, smoothed, suggestion)
