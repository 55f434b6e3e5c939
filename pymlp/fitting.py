"""What the estimators do once their data are checked: parity with scikit-learn lives here.

The order of random draws is scikit-learn's: initial weights (first pass only), validation rows, then one shuffle an
epoch, all from the one generator that `random_state` gives at each call.  An integer therefore seeds anew each call.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from pymlp import backends
from pymlp.callbacks import Announcer
from pymlp.inference import outputs_of
from pymlp.lbfgs import FullBatch, Iterate, Minimisation
from pymlp.network import Network
from pymlp.optimizers import SGD, Adam, new_slots
from pymlp.rows import rows_of
from pymlp.stopping import Descent, StoppingRule
from pymlp.training import EpochLoop

if TYPE_CHECKING:
    from pymlp.perceptron import MultilayerPerceptron

# a warning shall name the line that called fit: a solver, `fit` here, the estimator's two methods, then that line
STACK_LEVEL = 5

HISTORY = ("loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_", "_no_improvement_count")


class DivergedError(ValueError):
    """The weights are no longer finite at the end of a fit."""


@dataclass(frozen=True)
class Data:
    """Checked training data of one call of fit or partial_fit.

    ``first`` says that the weights are drawn anew, ``incremental`` that this is ``partial_fit``.  ``given`` is X and y
    as the user gave them, for callbacks.
    """

    X: Any
    y: np.ndarray
    weight: np.ndarray | None
    first: bool
    incremental: bool
    random: np.random.RandomState
    given: tuple[Any, Any]


def fit(draft: MultilayerPerceptron, estimator: MultilayerPerceptron, network: Network, data: Data) -> None:
    """Train `draft`; `estimator` is what callbacks get to see.

    Raises
    ------
    ValueError
        The weights are not finite at the end (DivergedError), or there are too few rows to validate on.
    KeyboardInterrupt
        `draft` then has the last complete epoch, if there was one in this call.
    """
    if data.first:
        name = draft.activation if isinstance(draft.activation, str) else None
        params = network.initial_params(data.random, activation=name)
        draft.t_ = 0
        for attribute in HISTORY:
            draft.__dict__.pop(attribute, None)
    else:
        params = draft.params_.copy()
    solve = _minimise if draft.solver == "lbfgs" else _descend
    solve(draft, estimator, network, data, params)
    if not np.isfinite(draft.params_).all():
        raise DivergedError(
            "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
            "preprocessed."
        )


def _announcer(
    estimator: MultilayerPerceptron, data: Data, epochs: int, rows: int, so_far: Callable[[], Any]
) -> Announcer:
    metadata = {} if data.weight is None else {"sample_weight": data.weight}
    X, y = data.given
    values = {"X": lambda: X, "y": lambda: y, "metadata": lambda: metadata, "fitted_estimator": so_far}
    callbacks = getattr(estimator, "_skl_callbacks", ())
    return Announcer(callbacks, estimator, type(estimator).__name__, epochs, rows, values)


def _copy_with(draft: MultilayerPerceptron, network: Network, params: np.ndarray) -> MultilayerPerceptron:
    # what callbacks get as fitted_estimator
    fitted = copy.copy(draft)
    fitted.__dict__.pop("_skl_callbacks", None)
    fitted._take_network(network, params.copy())
    return fitted


def _minimise(
    draft: MultilayerPerceptron, estimator: MultilayerPerceptron, network: Network, data: Data, params: np.ndarray
) -> None:
    batch = FullBatch(backends.get(), network, data.X, data.y, data.weight)

    def so_far() -> MultilayerPerceptron:
        reached = minimisation.accepted
        return _copy_with(draft, network, params if reached is None else reached.params)

    announcer = _announcer(estimator, data, draft.max_iter, data.X.shape[0], so_far)
    minimisation = Minimisation(batch, announcer)
    try:
        with announcer:
            ending = minimisation.run(params, max_iter=draft.max_iter, max_fun=draft.max_fun, tol=draft.tol)
    except KeyboardInterrupt:
        if minimisation.accepted is not None:
            _take_iterate(draft, network, minimisation.accepted)
        raise
    _take_iterate(draft, network, ending.iterate)
    if not ending.converged:
        advice = ""
        if ending.iterate.iterations == draft.max_iter:
            advice = f" Increase the number of iterations to improve the convergence (max_iter={draft.max_iter})."
        warnings.warn(
            f"lbfgs failed to converge after {ending.iterate.iterations} iteration(s) (status={ending.status}): "
            f"{ending.message}.{advice} Inputs of similar scale help: see sklearn.preprocessing.StandardScaler.",
            ConvergenceWarning,
            stacklevel=STACK_LEVEL,
        )


def _take_iterate(draft: MultilayerPerceptron, network: Network, iterate: Iterate) -> None:
    draft.n_iter_, draft.loss_ = iterate.iterations, iterate.loss
    draft._take_network(network, iterate.params)


def _descend(
    draft: MultilayerPerceptron, estimator: MultilayerPerceptron, network: Network, data: Data, params: np.ndarray
) -> None:
    descent = _descent(draft, network, data)
    training, held_out = _split(draft, data)
    n_rows = data.X.shape[0] if training is None else len(training)
    batch_size = _batch_size(draft.batch_size, n_rows)
    plan = backends.get().Plan(network, batch_size)
    score = None
    if held_out is not None:
        score = _scorer(draft, plan, data, held_out)
    rule = _rule(draft, descent, data, n_rows, score, params)
    source = rows_of(data.X, data.y, data.weight, training)
    loop = EpochLoop(plan, descent.optimizer, params, descent.slots, descent.step, source, batch_size, rule)
    epochs = 1 if data.incremental else draft.max_iter
    announcer = _announcer(estimator, data, epochs, n_rows, lambda: _copy_with(draft, network, params))
    try:
        with announcer:
            stopped = loop.run(epochs, data.random if draft.shuffle else None, announcer)
            if score is not None and rule.best_params is not None:
                params = rule.best_params
    except KeyboardInterrupt:
        if loop.completed is not None:
            rule.restore(loop.completed.rule_state)
            _take_epochs(draft, network, rule, loop, loop.completed.params)
        raise
    _take_epochs(draft, network, rule, loop, params)
    if not stopped and not data.incremental:
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({draft.max_iter}) reached and the optimization hasn't "
            "converged yet.",
            ConvergenceWarning,
            stacklevel=STACK_LEVEL,
        )


def _take_epochs(
    draft: MultilayerPerceptron, network: Network, rule: StoppingRule, loop: EpochLoop, params: np.ndarray
) -> None:
    rule.descent.slots, rule.descent.step = loop.completed.slots, loop.completed.step
    draft._descent = rule.descent
    draft.n_iter_, draft.t_ = rule.epochs, rule.rows_seen
    draft.loss_curve_, draft.loss_ = rule.loss_curve, rule.loss_curve[-1]
    draft._no_improvement_count = rule.no_improvement
    if rule.score is None:
        draft.best_loss_, draft.validation_scores_, draft.best_validation_score_ = rule.best_loss, None, None
    else:
        draft.best_loss_ = None
        draft.validation_scores_, draft.best_validation_score_ = rule.validation_scores, rule.best_score
    draft._take_network(network, params)


def _descent(draft: MultilayerPerceptron, network: Network, data: Data) -> Descent:
    """A new descent for fit, a copy of the last one for partial_fit."""
    kept = draft.__dict__.get("_descent")
    if data.incremental and kept is not None and _belongs(kept.slots, network):
        return replace(kept, slots=kept.slots.copy())
    rate = float(draft.learning_rate_init)
    if draft.solver == "sgd":
        optimizer, schedule = SGD(draft.momentum, bool(draft.nesterovs_momentum)), draft.learning_rate
    else:
        optimizer, schedule = Adam(draft.beta_1, draft.beta_2, draft.epsilon), "constant"
    slots = new_slots(optimizer, network.n_parameters, network.dtype)
    return Descent(optimizer, schedule, draft.power_t, rate, rate, slots)


def _belongs(slots: np.ndarray, network: Network) -> bool:
    # a fit by lbfgs in between may have changed the layers or the dtype, and has no slots of its own
    return slots.shape[1] == network.n_parameters and slots.dtype == network.dtype


def _split(draft: MultilayerPerceptron, data: Data) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Numbers of the training and of the validation rows; None, None without early stopping."""
    if not draft.early_stopping:
        return None, None
    # splitting the numbers draws what splitting the rows would, and copies no rows
    training, held_out = train_test_split(
        np.arange(data.X.shape[0], dtype=np.int64),
        test_size=draft.validation_fraction,
        random_state=data.random,
        stratify=draft._stratification(data.y),
    )
    if len(held_out) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    return training, held_out


def _batch_size(batch_size: Any, n_rows: int) -> int:
    if batch_size == "auto":
        return min(200, n_rows)
    if batch_size > n_rows:
        warnings.warn(
            f"batch_size={batch_size} is larger than the {n_rows} training rows and is clipped to them",
            stacklevel=STACK_LEVEL + 1,
        )
    return min(int(batch_size), n_rows)


def _scorer(
    draft: MultilayerPerceptron, plan: backends.Plan, data: Data, held_out: np.ndarray
) -> Callable[[np.ndarray], float]:
    X, y = data.X[held_out], data.y[held_out]
    weight = None if data.weight is None else data.weight[held_out]
    return lambda params: draft._validation_score(outputs_of(plan, params, X), y, weight)


def _rule(
    draft: MultilayerPerceptron,
    descent: Descent,
    data: Data,
    n_rows: int,
    score: Callable[[np.ndarray], float] | None,
    params: np.ndarray,
) -> StoppingRule:
    """The rule, going on where an earlier call left off (a first pass has no history)."""

    def history(name: str, default: Any) -> Any:
        value = draft.__dict__.get(name)
        return default if value is None else value

    return StoppingRule(
        descent,
        tol=draft.tol,
        patience=draft.n_iter_no_change,
        verbose=bool(draft.verbose),
        epoch_rows=n_rows,
        score=score,
        rows_seen=draft.t_,
        loss_curve=list(history("loss_curve_", ())),
        validation_scores=list(history("validation_scores_", ())),
        best_loss=history("best_loss_", np.inf),
        best_score=history("best_validation_score_", -np.inf),
        no_improvement=history("_no_improvement_count", 0),
        # on a warm start scikit-learn's best weights are the very arrays being trained: the last stay if none is better
        best_params=params.copy() if data.first and score is not None else None,
    )
