"""What the estimators do once their data are checked: parity with scikit-learn lives here.

The order of random draws is scikit-learn's: initial weights (first pass only), validation rows, then one shuffle an
epoch, all from the one generator that `random_state` gives at each call.  An integer therefore seeds anew each call.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from pymlp import backends, resumption
from pymlp.callbacks import Announcer
from pymlp.checkpoints import Checkpoints
from pymlp.course import Course
from pymlp.epochs import EpochLoop, new_history
from pymlp.finiteness import first_non_finite
from pymlp.full_batch import FullBatch
from pymlp.inference import outputs_of
from pymlp.interruptible import copied, run_interruptibly
from pymlp.lbfgs import Iterate, Minimisation
from pymlp.network import Network
from pymlp.optimizers import OPTIMIZERS, Optimizer, new_slots
from pymlp.rows import chosen_rows, rows_of
from pymlp.standardisation import Standardisation
from pymlp.stopping import Descent, StoppingRule
from pymlp.streams import Stream, StreamedRows
from pymlp.validation import check_scoring

if TYPE_CHECKING:
    from pymlp.perceptron import MultilayerPerceptron

# a warning shall name the line that called fit: a solver, `fit` here, three methods of the estimator, then that line
STACK_LEVEL = 6

# what begins anew with a first pass
HISTORY = (
    "history_",
    "loss_curve_",
    "best_loss_",
    "validation_scores_",
    "best_validation_score_",
    "_no_improvement_count",
)


class DivergedError(ValueError):
    """The weights are no longer finite at the end of a fit."""


# the parameters of solvers given by name that the estimator has, under the names it has for them; all others have the
# solver's own defaults
_OF_ADAM = {"beta_1": "beta_1", "beta_2": "beta_2", "epsilon": "epsilon"}
NAMED_PARAMETERS = {
    "sgd": {"momentum": "momentum", "nesterov": "nesterovs_momentum"},
    "adam": _OF_ADAM,
    "adamw": _OF_ADAM,
    "nadam": _OF_ADAM,
}


@dataclass(frozen=True)
class Scored:
    """Checked validation rows: ``y`` as output columns, ``labels`` as targets of the user's own kind, for `scoring`."""

    X: Any
    y: np.ndarray
    labels: Any
    weight: np.ndarray | None


@dataclass(frozen=True)
class Data:
    """Checked training data of one call of fit or partial_fit.

    ``labels`` are the targets that ``y`` encodes.  ``weight`` is what the loss counts rows by, ``sample_weight`` what
    scores do: without the weights of classes.  ``first`` says that the parameters are drawn anew, ``incremental`` that
    this is ``partial_fit``.  ``given`` is X and y as the user gave them, for callbacks.  Of rows that come in chunks X
    is a `pymlp.streams.Stream`, and y, labels and weights are None.  ``checkpoints`` keep the fit, if it is kept.
    """

    X: Any
    y: np.ndarray | None
    labels: Any
    weight: np.ndarray | None
    sample_weight: np.ndarray | None
    validation: Scored | None
    first: bool
    incremental: bool
    random: np.random.RandomState
    given: tuple[Any, Any]
    checkpoints: Checkpoints | None = None


def fit(draft: MultilayerPerceptron, estimator: MultilayerPerceptron, network: Network, data: Data) -> None:
    """Train `draft`; `estimator` is what callbacks get to see.

    Raises
    ------
    ValueError
        The weights are not finite at the end (DivergedError), or there are too few rows to validate on.
    KeyboardInterrupt
        `draft` then has the last complete epoch, if there was one in this call.
    """
    network, drawn = _drawn(draft, network, data)
    network = resumption.started(network, data)
    if data.first:
        draft.t_ = 0
        for attribute in HISTORY:
            draft.__dict__.pop(attribute, None)
    solve = _minimise if draft.solver == "lbfgs" else _descend
    solve(draft, estimator, network, data, drawn)
    if first_non_finite(draft.params_) is not None:
        raise DivergedError(
            "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
            "preprocessed."
        )


@dataclass(frozen=True)
class StartingPoint:
    """What the first step of a fit is made of."""

    network: Network
    params: np.ndarray
    X: Any
    y: np.ndarray
    weight: np.ndarray | None
    optimizer: Optimizer
    batch_size: int
    random: np.random.RandomState


def starting_point(draft: MultilayerPerceptron, network: Network, data: Data) -> StartingPoint:
    """Where a fit would begin; ValueError for a solver that takes all rows at once."""
    if draft.solver == "lbfgs":
        raise ValueError("solver='lbfgs' has no learning rate")
    network, drawn = _drawn(draft, network, data)
    X, y, params = _scaled(draft, network, data, None, drawn)
    batch_size = _batch_size(draft.batch_size, data.X.shape[0])
    return StartingPoint(network, params, X, y, data.weight, _optimizer(draft), batch_size, data.random)


def _drawn(draft: MultilayerPerceptron, network: Network, data: Data) -> tuple[Network, np.ndarray | None]:
    """The network with a seed for its masks, if it has any, and its initial parameters if this is a first pass."""
    drawn = None
    if data.first:
        name = draft.activation if isinstance(draft.activation, str) else None
        drawn = network.initial_params(data.random, activation=name)
    if network.input_dropout or any(layer.dropout for layer in network.layers):
        goes_on = data.incremental and not data.first
        seed = draft.network_.seed if goes_on else int(data.random.randint(0, 2**64, dtype=np.uint64))
        network = replace(network, seed=seed)
    return network, drawn


def _scaled(
    draft: MultilayerPerceptron, network: Network, data: Data, training: np.ndarray | None, drawn: np.ndarray | None
) -> tuple[Any, np.ndarray | None, np.ndarray]:
    """X, y and parameters to train on: those of the data, unless the draft standardises."""
    before = None if data.first else draft._standardisation
    params = drawn if drawn is not None else draft._params_to_train()
    inputs, target = _is_standardised(draft)
    streamed = isinstance(data.X, Stream)
    if not (inputs or target):
        draft._standardisation = None
        return data.X, data.y, copied(draft.params_) if before is not None else params
    known = resumption.known_scaling(data, network)
    if known is not None:
        draft._standardisation = known
    elif learns_scaling(draft, first=data.first):
        if streamed:
            after = Standardisation.of_chunks(data.X.chunks(), inputs=inputs, target=target)
        else:
            after = Standardisation.of(data.X, data.y, data.weight, training, inputs=inputs, target=target)
        if network.dtype == "float32" and inputs and not after.inputs.fits_float32:
            warnings.warn(
                "some columns of X have means, or units, so large or small that raw values in float32 lose most of "
                "their digits, also when they are standardized: use dtype='float64', or shift and scale X first",
                stacklevel=STACK_LEVEL + 1,
            )
        if drawn is None:
            params = after.unfold(network, draft.params_)
        draft._standardisation = after
    scaling = draft._standardisation
    resumption.note_scaling(data, scaling)
    if streamed:
        return data.X.through(lambda X, y: scaling.apply(X, y, network.dtype)), None, params
    X, y = scaling.apply(data.X, data.y, network.dtype)
    return X, y, params


def _is_standardised(draft: MultilayerPerceptron) -> tuple[bool, bool]:
    return bool(draft.standardize), bool(getattr(draft, "standardize_target", False))


def learns_scaling(draft: MultilayerPerceptron, *, first: bool) -> bool:
    """Whether means and deviations of the rows are needed, as those of an earlier fit are not."""
    inputs, target = _is_standardised(draft)
    before = None if first else draft._standardisation
    known = before is not None and (before.inputs is not None, before.target is not None) == (inputs, target)
    return (inputs or target) and not known


def _announcer(
    estimator: MultilayerPerceptron, data: Data, epochs: int, rows: int, so_far: Callable[[], Any]
) -> Announcer:
    metadata = {} if data.sample_weight is None else {"sample_weight": data.sample_weight}
    X, y = data.given
    values = {"X": lambda: X, "y": lambda: y, "metadata": lambda: metadata, "fitted_estimator": so_far}
    callbacks = getattr(estimator, "_skl_callbacks", ())
    return Announcer(callbacks, estimator, type(estimator).__name__, epochs, rows, values)


def _copy_with(draft: MultilayerPerceptron, network: Network, params: np.ndarray) -> MultilayerPerceptron:
    # what callbacks get as fitted_estimator
    fitted = copy.copy(draft)
    fitted.__dict__.pop("_skl_callbacks", None)
    fitted._take_trained(network, params.copy())
    return fitted


def _minimise(
    draft: MultilayerPerceptron, estimator: MultilayerPerceptron, network: Network, data: Data, drawn: np.ndarray | None
) -> None:
    X, y, params = _scaled(draft, network, data, None, drawn)
    batch = FullBatch(backends.get(), network, X, y, data.weight)
    checkpoints = data.checkpoints

    def so_far() -> MultilayerPerceptron:
        reached = minimisation.accepted
        return _copy_with(draft, network, params if reached is None else reached.params)

    announcer = _announcer(estimator, data, draft.max_iter, data.X.shape[0], so_far)
    score = None
    if data.validation is not None:
        score = _scorer(draft, network, batch.plan, data.validation)
    minimisation = Minimisation(batch, announcer, score, draft.max_time, checkpoints)
    if checkpoints is not None and checkpoints.found is not None:
        with checkpoints.taking_up():
            params = network.check_params(checkpoints.found.run["first"])
            minimisation.take_up(checkpoints.found.run)
    try:
        with announcer:
            ending = minimisation.run(params, max_iter=draft.max_iter, max_fun=draft.max_fun, tol=draft.tol)
        _take_iterate(draft, network, minimisation, ending.iterate)
    except KeyboardInterrupt:
        if minimisation.accepted is not None:
            run_interruptibly(lambda: _take_iterate(draft, network, minimisation, minimisation.accepted))
        raise
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


def _take_iterate(draft: MultilayerPerceptron, network: Network, minimisation: Minimisation, iterate: Iterate) -> None:
    draft.n_iter_, draft.loss_ = iterate.iterations, iterate.loss
    # an interruption may have come between an entry and its point
    draft.history_ = {name: values[: iterate.iterations] for name, values in minimisation.history.items()}
    # not those of an earlier fit either
    for attribute in ("validation_scores_", "best_validation_score_"):
        draft.__dict__.pop(attribute, None)
    if minimisation.score is not None:
        draft.validation_scores_ = list(draft.history_["validation_score"])
        draft.best_validation_score_ = max(draft.validation_scores_, default=None)
    draft._take_trained(network, iterate.params)


def _descend(
    draft: MultilayerPerceptron, estimator: MultilayerPerceptron, network: Network, data: Data, drawn: np.ndarray | None
) -> None:
    descent = _descent(draft, network, data)
    training, scored = _split(draft, data)
    X, y, params = _scaled(draft, network, data, training, drawn)
    # unless the average was changed in the meantime
    if descent.params is not None and np.array_equal(descent.slots[-1], params):
        params = descent.params.copy()
    n_rows = data.X.shape[0] if training is None else len(training)
    batch_size = _batch_size(draft.batch_size, n_rows)
    epoch_steps = -(-n_rows // batch_size)
    descent.course.begin(draft.max_iter * epoch_steps, epoch_steps, n_rows)
    plan = backends.get().Plan(network, batch_size)
    score = None if scored is None else _scorer(draft, network, plan, scored)
    rule = _rule(draft, descent.course, data, n_rows, score, params)
    shuffler = data.random if draft.shuffle else None
    if isinstance(X, Stream):
        # a pass knows one chunk at a time: that is what is shuffled
        source = StreamedRows(X, network, batch_size, None if shuffler is None else shuffler.shuffle)
        shuffler = None
    else:
        source = rows_of(network, X, y, data.weight, training)
    loop = EpochLoop(
        plan,
        descent.optimizer,
        params,
        descent.slots,
        descent.step,
        source,
        batch_size,
        rule,
        draft.max_time,
        data.checkpoints,
    )
    epochs = 1 if data.incremental else draft.max_iter
    if data.checkpoints is not None:
        # a stream cannot be entered anywhere but at its beginning
        data.checkpoints.within &= not isinstance(X, Stream)
        data.checkpoints.give_to(loop, epochs)
    outcome = loop.outcome
    announcer = _announcer(estimator, data, epochs, n_rows, lambda: _copy_with(draft, network, outcome))
    try:
        with announcer:
            # an integer seeds a generator for this call alone
            is_private = isinstance(draft.random_state, Integral)
            stopped = loop.run(epochs, shuffler, announcer, is_private=is_private)
            outcome = loop.completed.outcome if rule.best_params is None else rule.best_params
        _take_epochs(draft, network, descent, rule, loop, outcome)
    except KeyboardInterrupt:
        if loop.completed is not None:
            run_interruptibly(lambda: _take_completed(draft, network, descent, rule, loop))
        raise
    if draft.verbose and loop.timed_out:
        print(f"Training took longer than max_time={draft.max_time:g} seconds. Stopping.")
    if not stopped and not data.incremental:
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({draft.max_iter}) reached and the optimization hasn't "
            "converged yet.",
            ConvergenceWarning,
            stacklevel=STACK_LEVEL,
        )


def _take_completed(
    draft: MultilayerPerceptron, network: Network, descent: Descent, rule: StoppingRule, loop: EpochLoop
) -> None:
    """What an interruption leaves: the last complete epoch."""
    rule.restore(loop.completed.rule_state)
    _take_epochs(draft, network, descent, rule, loop, loop.completed.outcome)


def _take_epochs(
    draft: MultilayerPerceptron,
    network: Network,
    descent: Descent,
    rule: StoppingRule,
    loop: EpochLoop,
    params: np.ndarray,
) -> None:
    descent.slots, descent.step = loop.completed.slots, loop.completed.step
    if descent.optimizer.average is not None:
        # not the slot itself, which goes on changing
        params, descent.params = params.copy(), loop.completed.params
    draft._descent = descent
    draft.n_iter_, draft.t_ = rule.epochs, rule.rows_seen
    draft.history_ = rule.history
    draft.loss_curve_, draft.loss_ = rule.loss_curve, rule.loss_curve[-1]
    draft._no_improvement_count = rule.no_improvement
    draft.best_loss_ = None if rule.early else rule.best_loss
    draft.validation_scores_, draft.best_validation_score_ = None, None
    if rule.score is not None:
        draft.validation_scores_, draft.best_validation_score_ = rule.validation_scores, rule.best_score
    draft._take_trained(network, params)


def _descent(draft: MultilayerPerceptron, network: Network, data: Data) -> Descent:
    """A new descent for fit, a copy of the last one for partial_fit."""
    kept = draft.__dict__.get("_descent")
    if data.incremental and kept is not None and _belongs(kept.slots, network):
        return replace(kept, course=copy.copy(kept.course), slots=kept.slots.copy())
    optimizer = _optimizer(draft)
    # scikit-learn's adam takes no notice of `learning_rate`; copies, since options can be changed after the fit
    ignored = draft.solver == "adam" and isinstance(draft.learning_rate, str)
    schedule = "constant" if ignored else copy.copy(draft.learning_rate)
    course = Course(schedule, float(draft.learning_rate_init), draft.power_t, bool(draft.roll_back))
    return Descent(optimizer, course, new_slots(optimizer, network.n_parameters, network.dtype))


def _optimizer(draft: MultilayerPerceptron) -> Optimizer:
    """The solver: an option object as it is, or the one of that name with the estimator's parameters."""
    solver = draft.solver
    if not isinstance(solver, str):
        return copy.copy(solver)
    parameters = NAMED_PARAMETERS.get(solver, {})
    return OPTIMIZERS[solver](**{own: getattr(draft, name) for own, name in parameters.items()})


def _belongs(slots: np.ndarray, network: Network) -> bool:
    # a fit by lbfgs in between may have changed the layers or the dtype, and has no slots of its own
    return slots.shape[1] == network.n_parameters and slots.dtype == network.dtype


def _split(draft: MultilayerPerceptron, data: Data) -> tuple[np.ndarray | None, Scored | None]:
    """Numbers of the training rows (None for all), and the rows to be scored after each epoch."""
    if data.validation is not None or not draft.early_stopping:
        return None, data.validation
    # splitting the numbers draws what splitting the rows would, and copies no rows
    training, held_out = train_test_split(
        np.arange(data.X.shape[0], dtype=np.int64),
        test_size=draft.validation_fraction,
        random_state=data.random,
        stratify=draft._stratification(data.y),
    )
    if len(held_out) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    weight = None if data.sample_weight is None else data.sample_weight[held_out]
    # a function of the user's wants an array
    X = chosen_rows(data.X, held_out) if draft.scoring is None else data.X[held_out]
    return training, Scored(X, data.y[held_out], data.labels[held_out], weight)


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
    draft: MultilayerPerceptron, network: Network, plan: backends.Plan, scored: Scored
) -> Callable[[np.ndarray], float]:
    """Validation score from parameters, by `scoring` or the estimator's own measure."""
    if draft.scoring is None:
        scale = None if draft._standardisation is None else draft._standardisation.output_scale(network)

        def own_score(params: np.ndarray) -> float:
            outputs = outputs_of(plan, draft._folded(network, params), scored.X)
            if scale is not None:
                outputs = outputs * scale[0] + scale[1]
            return float(draft._validation_score(outputs, scored.y, scored.weight))

        return own_score
    scorer = check_scoring(draft, draft.scoring)

    def score(params: np.ndarray) -> float:
        fitted = _copy_with(draft, network, params)
        # the rows are arrays by now
        fitted.__dict__.pop("feature_names_in_", None)
        return scorer(fitted, scored.X, scored.labels, scored.weight)

    return score


def _rule(
    draft: MultilayerPerceptron,
    course: Course,
    data: Data,
    n_rows: int,
    score: Callable[[np.ndarray], float] | None,
    params: np.ndarray,
) -> StoppingRule:
    """The rule, going on where an earlier call left off (a first pass has no history)."""
    early = bool(draft.early_stopping)

    def history(name: str, default: Any) -> Any:
        value = draft.__dict__.get(name)
        return default if value is None else value

    return StoppingRule(
        course,
        tol=draft.tol,
        patience=draft.n_iter_no_change,
        verbose=bool(draft.verbose),
        epoch_rows=n_rows,
        score=score,
        early=early,
        rows_seen=draft.t_,
        loss_curve=list(history("loss_curve_", ())),
        validation_scores=list(history("validation_scores_", ())),
        history={name: list(values) for name, values in history("history_", new_history("validation_score")).items()},
        best_loss=history("best_loss_", np.inf),
        best_score=history("best_validation_score_", -np.inf),
        no_improvement=history("_no_improvement_count", 0),
        # on a warm start scikit-learn's best weights are the very arrays being trained: the last stay if none is better
        best_params=params.copy() if data.first and early else None,
    )
