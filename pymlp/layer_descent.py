"""Fits of a single layer by descent in batches, also with what the engine's steps do not know: a rule for the biases.

A support vector machine penalises its intercept, other classifiers may have none.  Both concern the gradient by the
biases alone, so such a fit takes the engine's gradient, changes that part, and takes the engine's step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pymlp import backends
from pymlp.callbacks import Announcer
from pymlp.course import Course
from pymlp.epochs import EpochLoop
from pymlp.network import Network
from pymlp.optimizers import Optimizer, new_slots
from pymlp.rows import rows_of
from pymlp.stopping import StoppingRule


@dataclass(frozen=True)
class BiasRule:
    """L2 penalty on the biases, in the units of `Network.l2`; ``fixed`` leaves them as they are."""

    l2: float = 0.0
    fixed: bool = False


@dataclass(frozen=True)
class Terms:
    """How a descent steps and when it ends.

    Parameters
    ----------
    optimizer : Optimizer
    schedule : {"constant", "adaptive"}
        "adaptive" divides the rate by 5 each time patience runs out, until it is below 1e-6.
    rate : float
    batch_size : int
    epochs : int
        Most epochs.
    tol, patience : float, int
        Least improvement of the loss, and how many epochs may pass without one.
    """

    optimizer: Optimizer
    schedule: str
    rate: float
    batch_size: int
    epochs: int
    tol: float
    patience: float


@dataclass(frozen=True)
class Arrival:
    """What a descent came to."""

    params: np.ndarray
    losses: list[float]
    converged: bool


class _BiasedPlan:
    """A plan that changes the gradient by the biases before each step; see `pymlp.backends.Plan`."""

    def __init__(self, plan: backends.Plan, rule: BiasRule) -> None:
        self.plan, self.rule, self.network = plan, rule, plan.network
        self.shuffle, self.stop, self.n_threads = plan.shuffle, plan.stop, plan.n_threads

    def train_steps(
        self,
        optimizer: Optimizer,
        params: np.ndarray,
        slots: np.ndarray,
        step: int,
        X: Any,
        y: np.ndarray,
        weight: np.ndarray | None,
        order: np.ndarray,
        starts: np.ndarray,
        rates: np.ndarray,
        losses: np.ndarray,
    ) -> None:
        """The loop of `loss_gradient` and `update`."""
        biases, gradient = self.network.layout[-1].bias, np.empty_like(params)
        for i in range(len(rates)):
            rows = order[starts[i] : starts[i + 1]]
            batch_weight = None if weight is None else weight[rows]
            whole = float(len(rows)) if weight is None else float(batch_weight.sum(dtype=np.float64))
            losses[i] = self.plan.loss_gradient(params, X[rows], y[rows], batch_weight, gradient, step + i)
            if whole == 0:
                continue
            if self.rule.fixed:
                gradient[biases] = 0
            else:
                b = params[biases].astype(np.float64)
                losses[i] += 0.5 * self.rule.l2 * float((b * b).sum()) / whole
                gradient[biases] += (self.rule.l2 / whole * b).astype(gradient.dtype)
            self.plan.update(optimizer, params, gradient, slots, step + i, rates[i])


def descend(
    name: str,
    network: Network,
    data: tuple[Any, np.ndarray, np.ndarray | None],
    params: np.ndarray,
    terms: Terms,
    shuffler: np.random.RandomState | None,
    bias_rule: BiasRule = BiasRule(),
) -> Arrival:
    """Train a network of one layer.

    Parameters
    ----------
    name : str
        The estimator's.
    network : Network
    data : tuple
        X (rows, inputs), y (rows, outputs) and the weights of the rows, or None.
    params : ndarray of shape (n_parameters,)
        Where to begin; stays as it is.
    terms : Terms
    shuffler : RandomState or None
        Draws the order of the rows for each epoch; None keeps them in order.
    bias_rule : BiasRule

    Returns
    -------
    Arrival
    """
    X, y, weight = data
    plan = backends.get().Plan(network, terms.batch_size)
    if bias_rule != BiasRule():
        plan = _BiasedPlan(plan, bias_rule)
    slots = new_slots(terms.optimizer, network.n_parameters, network.dtype)
    rule = StoppingRule(Course(terms.schedule, terms.rate), terms.tol, terms.patience, False, len(y))
    rows = rows_of(network, X, y, weight)
    loop = EpochLoop(plan, terms.optimizer, params.copy(), slots, 0, rows, terms.batch_size, rule)
    with Announcer((), network, name, terms.epochs, len(y)) as announcer:
        stopped = loop.run(terms.epochs, shuffler, announcer)
    return Arrival(loop.outcome, rule.loss_curve, stopped)
