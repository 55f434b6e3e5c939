"""`train`: a network's parameters in, trained in place, with NumPy alone.

What an estimator does around this (labels, scores, scikit-learn's rules for stopping) is left to the caller; the loop
is the same, `pymlp.epochs`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from time import perf_counter
from typing import Any

import numpy as np

from pymlp import backends
from pymlp.arrays import finite_numbers, packed, refuse_others
from pymlp.callbacks import Announcer, check_callbacks
from pymlp.checkpoints import DEFAULT_EVERY, Checkpoints, fingerprint
from pymlp.course import Course
from pymlp.epochs import EpochLoop, check_histories, new_history
from pymlp.finiteness import check_finite
from pymlp.inference import outputs_of
from pymlp.interruptible import copied, fill_together
from pymlp.network import Network, random_source
from pymlp.optimizers import Adam, Optimizer, new_slots
from pymlp.rows import is_converted_late, rows_of
from pymlp.schedules import Constant, is_schedule

# far above any number of steps; what is added to it still fits into 64 bits
MOST_STEPS = 2**62


@dataclass
class TrainingResult:
    """What `train` did, and what it takes to go on.

    Attributes
    ----------
    history : dict of str to list
        For each epoch its "loss" (the mean of its batches), "validation_loss" (None without validation rows), "rate"
        (of its last step) and "seconds" (of its steps).
    steps : int
        Steps the slots have seen, those before this call included: pass it on as ``step``.
    slots : ndarray of shape (n_slots, n_parameters)
        The optimizer's state: pass it on as ``slots``.
    rate : float
        Rate of the last step.
    seconds : float
        Duration of the call.
    average : ndarray of shape (n_parameters,) or None
        The averaged parameters, where the optimizer averages; `params` are those it goes on from.
    """

    history: dict[str, list[float | None]]
    steps: int
    slots: np.ndarray
    rate: float
    seconds: float
    average: np.ndarray | None = None

    @property
    def losses(self) -> list[float]:
        """Mean loss of each epoch."""
        return self.history["loss"]


@dataclass
class _LossRule:
    """The rule of `train`: the loss, on validation rows where there are some, ends it if anything does."""

    course: Course
    validate: Callable[[np.ndarray], float] | None
    patience: int | None
    tol: float
    history: dict[str, list[float | None]] = field(default_factory=lambda: new_history("validation_loss"))
    validation_score: float | None = None
    best: float = np.inf
    waited: int = 0
    best_params: np.ndarray | None = None
    verbose: bool = False

    def certain_epochs(self) -> float:
        if self.validate is not None:
            return 1
        certain = self.course.certain_epochs()
        return certain if self.patience is None else min(certain, max(1, self.patience + 1 - self.waited))

    def end_epoch(self, loss: float, params: np.ndarray, rate: float, seconds: float) -> bool:
        validation_loss = None if self.validate is None else self.validate(params)
        if validation_loss is not None:
            # for callbacks, to whom higher is better
            self.validation_score = -validation_loss
        for values, value in zip(self.history.values(), (loss, validation_loss, rate, seconds), strict=True):
            values.append(value)
        watched = loss if validation_loss is None else validation_loss
        self.course.end_epoch(watched, len(self.history["loss"]) * self.course.epoch_rows)
        if self.patience is None:
            return False
        self.waited = 0 if watched < self.best - self.tol else self.waited + 1
        if watched < self.best:
            self.best = watched
            self.best_params = params.copy() if validation_loss is not None else None
        return self.waited > self.patience

    def state(self) -> tuple[Any, ...]:
        return len(self.history["loss"]), self.course.state(), self.best, self.waited, self.best_params

    def restore(self, state: tuple[Any, ...]) -> None:
        epochs, course, self.best, self.waited, self.best_params = state
        for values in self.history.values():
            del values[epochs:]
        self.course.restore(course)

    def record(self) -> dict[str, Any]:
        changing = {name: getattr(self, name) for name in ("best", "waited", "best_params", "history")}
        return {**changing, "course": self.course.state()}

    def take_up(self, record: dict[str, Any], epochs: int) -> None:
        self.best, self.waited, self.best_params = record["best"], record["waited"], record["best_params"]
        self.history = {name: list(record["history"][name]) for name in self.history}
        check_histories(self.history, epochs)
        self.course.restore(record["course"])


def train(
    network: Network,
    params: np.ndarray,
    X: Any,
    y: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    X_val: Any = None,
    y_val: np.ndarray | None = None,
    weight_val: np.ndarray | None = None,
    optimizer: Optimizer = Adam(),  # noqa: B008 - frozen
    rate: float = 1e-3,
    schedule: Any = Constant(),  # noqa: B008 - frozen
    batch_size: int | None = None,
    epochs: int = 10,
    patience: int | None = None,
    tol: float = 1e-4,
    max_time: float | None = None,
    roll_back: bool = False,
    shuffle: bool = True,
    random_state: Any = None,
    slots: np.ndarray | None = None,
    step: int = 0,
    n_threads: int | None = None,
    backend: str | None = None,
    callbacks: Sequence[Any] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | float = DEFAULT_EVERY,
    resume: bool = False,
) -> TrainingResult:
    """Train a network's parameters in place.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (n_parameters,)
        Changed in place; see `Network.initial_params`.
    X : array-like or SciPy sparse matrix of shape (rows, inputs)
    y : array-like of shape (rows, targets), or (rows,) for one target
        Targets as the loss takes them: one column a class, holding 0 or 1, for "log_loss".  There is one for each
        output, but for a loss of several outputs a target.
    weight : array-like of shape (rows,), optional
        Weight of each row, at least 0.  A batch whose weights sum to 0 is skipped.
    X_val, y_val, weight_val : like X, y and weight, optional
        Rows whose loss, without penalties, is noted after each epoch; callbacks see it negated, as a score.
    optimizer : option object of `pymlp.optimizers`
    rate : float, default=1e-3
    schedule : option object of `pymlp.schedules`, or callable
        Runs over the steps from 0 to ``step`` plus those of this call.  A callable gets the number of a step and gives
        its rate; `rate` then counts for nothing.
    batch_size : int, optional
        By default 200, or all rows if fewer.
    epochs : int, default=10
    patience : int, optional
        End once more than so many epochs in a row have not lowered the loss (on the validation rows, if given) by more
        than `tol`.  With validation rows the best parameters are kept then, not the last.
    tol : float, default=1e-4
    max_time : float, optional
        Seconds after which training ends with the last complete epoch; the first one is always completed.
    roll_back : bool, default=False
        Where an epoch ends with numbers that are not finite, go back to the end of the one before, halve the rates,
        warn and go on.
    shuffle : bool, default=True
        Draw a new order of the rows for each epoch.
    random_state : None, int, RandomState or Generator
        Where the orders come from.
    slots, step : ndarray and int, optional
        State of the optimizer to go on from, as returned by an earlier call; `slots` is then changed in place.
    n_threads : int, optional
        Upper bound on the threads; see `pymlp.config`.
    backend : {"c", "numba", "numpy"}, optional
    callbacks : sequence
        See `pymlp.callbacks`; they get the network where scikit-learn passes the estimator.
    checkpoint : str or path-like, optional
        A file that keeps where the training has got to, from time to time and at the end; the one before it is kept
        under this name with ".previous".
    checkpoint_every : int or float, default=60.0
        An integer: after so many epochs.  A float: after so many seconds, also inside an epoch.
    resume : bool, default=False
        Go on from the newest whole checkpoint, to the bits an uninterrupted run comes to; begin where there is none.
        `params` and `slots` are then filled from it, whatever finite numbers they hold.  All else must be as it was,
        the backend too, but for `epochs`, `max_time`, callbacks, threads and the instruction set (as long as it has
        fused multiply-add or has none); of functions and of callbacks with a state the user takes care.

    Returns
    -------
    TrainingResult

    Raises
    ------
    TypeError
        X, y or weights hold what is no number (text, dates, records, masked entries), or `checkpoint` is no path.
        `params` and `slots` are then as they were.
    ValueError
        An argument does not fit, or the checkpoint is that of another run; the message names what it is.  `params` and
        `slots` are then as they were.
    OSError
        A checkpoint cannot be written, or read.  `params` and `slots` are then as they were.
    KeyboardInterrupt
        After Ctrl-C; `params` and `slots` then hold the last complete epoch of this call.  Short epochs are trained
        several at a time, for up to four seconds where there are no callbacks, and come to their end together.
    """
    began = perf_counter()
    check_params(network, params)
    check_optimizer(optimizer)
    check_rates(rate, schedule)
    if max_time is not None:
        check_above_zero("max_time", max_time)
    X, y, weight = check_data(network, X, y, weight)
    n_rows = X.shape[0]
    batch_size = min(200, n_rows) if batch_size is None else min(check_count("batch_size", batch_size), n_rows)
    epochs, step = check_count("epochs", epochs), check_step(step)
    slots = check_slots(network, optimizer, slots)
    if patience is not None:
        patience = check_count("patience", patience, least=0)
        if not isinstance(tol, Real) or not 0 <= tol < np.inf:
            raise ValueError(f"tol must be a finite number of at least 0, got {tol!r}")
    callbacks = check_callbacks(callbacks)
    validation = _check_validation(network, X_val, y_val, weight_val)
    checkpoints = Checkpoints.asked_for(checkpoint, checkpoint_every, resume)
    shuffler = random_source(random_state) if shuffle else None
    if checkpoints is not None:
        settings = {
            "optimizer": optimizer, "rate": rate, "schedule": schedule, "batch_size": batch_size, "patience": patience,
            "tol": tol, "roll_back": roll_back, "random_state": random_state if shuffle else "no shuffling",
            "step": step, "X": X, "y": y, "weight": weight, "backend": backends.arithmetic(backend),
        }  # fmt: skip
        for name, value in zip(("X_val", "y_val", "weight_val"), validation or (), strict=False):
            settings[name] = value
        checkpoints.open(fingerprint("train", network, settings))
        shuffler = checkpoints.generator_for(shuffler)
    epoch_steps = -(-n_rows // batch_size)
    course = Course(schedule, float(rate), roll_back=bool(roll_back))
    course.begin(step + epochs * epoch_steps, epoch_steps, n_rows)
    plan = backends.get(backend).Plan(network, batch_size, n_threads)
    validate = None if validation is None else lambda params: _mean_loss(plan, params, *validation)
    rule = _LossRule(course, validate, patience, float(tol))
    rows = rows_of(network, X, y, weight)
    start = copied(params), copied(slots), step
    loop = EpochLoop(plan, optimizer, *start, rows, batch_size, rule, max_time, checkpoints)
    if checkpoints is not None:
        checkpoints.give_to(loop, epochs)
    try:
        with Announcer(callbacks, network, "train", epochs, n_rows) as announcer:
            loop.run(epochs, shuffler, announcer)
        done, average, last = loop.completed, None, loop.completed.params
        if optimizer.average is not None:
            average = (done.outcome if rule.best_params is None else rule.best_params).copy()
        elif rule.best_params is not None:
            last = rule.best_params
        seconds = perf_counter() - began
        result = TrainingResult(rule.history, done.step, slots, rule.history["rate"][-1], seconds, average)
        # the caller's arrays are filled when nothing else can fail
        fill_together((params, slots), (last, done.slots))
    except KeyboardInterrupt:
        if loop.completed is not None:
            fill_together((params, slots), (loop.completed.params, loop.completed.slots))
        raise
    return result


def _check_validation(network: Network, X: Any, y: Any, weight: Any) -> tuple | None:
    if X is None and y is None and weight is None:
        return None
    check_validation_is_whole(X, y, "weight_val")
    return check_data(network, X, y, weight, suffix="_val")


def _mean_loss(plan: backends.Plan, params: np.ndarray, X: Any, y: np.ndarray, weight: np.ndarray | None) -> float:
    values = plan.network.loss_function.value(y, outputs_of(plan, params, X)).astype(np.float64)
    if weight is not None:
        # a row of weight 0 counts as removed, even where its loss is infinite
        values[weight == 0] = 0
    return float(np.average(values, weights=weight))


def check_validation_is_whole(X: Any, y: Any, weight_name: str) -> None:
    """ValueError if one of X_val and y_val is missing where validation data are given."""
    for name, value in (("X_val", X), ("y_val", y)):
        if value is None:
            raise ValueError(f"{name} is missing: X_val and y_val must be given together, also with {weight_name}")


def check_params(network: Network, params: np.ndarray) -> None:
    """ValueError if `params` cannot be trained in place: wrong shape or dtype, not finite, read-only."""
    network.check_params(params)
    check_finite("params", params)
    if not params.flags.writeable:
        raise ValueError("params is changed in place, but the array is read-only")


def check_slots(network: Network, optimizer: Optimizer, slots: np.ndarray | None) -> np.ndarray:
    if slots is None:
        return new_slots(optimizer, network.n_parameters, network.dtype)
    expected = (optimizer.n_slots, network.n_parameters)
    if not isinstance(slots, np.ndarray) or slots.shape != expected or slots.dtype != network.dtype:
        raise ValueError(f"slots must be a {network.dtype} array of shape {expected} for {type(optimizer).__name__}")
    if not slots.flags.writeable:
        raise ValueError("slots is changed in place, but the array is read-only")
    return slots


def check_optimizer(optimizer: Any) -> None:
    """ValueError if it is not an option object of `pymlp.optimizers`."""
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"optimizer must be an object such as SGD(), Adam() or AdamW(), got {optimizer!r}")


def check_rates(rate: Any, schedule: Any) -> None:
    check_above_zero("rate", rate)
    if not is_schedule(schedule):
        raise ValueError(f"schedule must be an object such as Constant() or Cosine(), or a callable, got {schedule!r}")


def check_above_zero(name: str, value: Any) -> None:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < np.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def check_count(name: str, value: Any, least: int = 1) -> int:
    """`value` as int; ValueError if it is no integer of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def check_step(step: Any) -> int:
    """The number of a step as int; ValueError if it is none, or one that 64 bits do not count on from."""
    step = check_count("step", step, least=0)
    if step > MOST_STEPS:
        raise ValueError(f"step must be at most {MOST_STEPS}, got {step}")
    return step


def check_data(
    network: Network, X: Any, y: Any, weight: Any, suffix: str = ""
) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """X, y and weight as the backends take them.

    Raises
    ------
    TypeError, ValueError
        One does not hold finite numbers, or does not fit the network, or the others.
    """
    X, is_sparse = _array_of(f"X{suffix}", X)
    if X.ndim != 2 or X.shape[1] != network.inputs or X.shape[0] < 1:
        raise ValueError(f"X{suffix} must have shape (rows, {network.inputs}) with at least one row, got {X.shape}")
    check_finite(f"X{suffix}", X, network.dtype)
    if is_sparse:
        X = X.astype(network.dtype)
    elif not is_converted_late(X, network.dtype):
        X = packed(X, network.dtype)
    y = finite_numbers(f"y{suffix}", y, network.dtype)
    group = network.loss_function.group
    if y.ndim == 1 and network.outputs == group:
        y = y[:, None]
    if group > 1 and y.shape == (X.shape[0], network.outputs // group):
        y = np.repeat(y, group, axis=1)
    if y.shape != (X.shape[0], network.outputs):
        raise ValueError(f"y{suffix} must have shape ({X.shape[0]}, {network.outputs}), got {y.shape}")
    loss = network.loss_function
    if y.min() < loss.lowest_target or y.max() > loss.highest_target:
        raise ValueError(
            f"y{suffix} must lie in [{loss.lowest_target:g}, {loss.highest_target:g}] for loss={network.loss!r}, "
            f"but it reaches from {y.min():g} to {y.max():g}"
        )
    return X, y, None if weight is None else check_weight(weight, X.shape[0], network.dtype, f"weight{suffix}")


def _array_of(name: str, X: Any) -> tuple[Any, bool]:
    """X as an array of numbers, or in CSR form, and whether it is the latter."""
    refuse_others(name, X)
    if hasattr(X, "tocsr"):
        return X.tocsr(), True
    X = np.asarray(X)
    return (finite_numbers(name, X, "float64") if X.dtype.kind == "O" else X), False


def check_weight(weight: Any, rows: int, dtype: str, name: str = "weight", *, some: bool = True) -> np.ndarray:
    """Row weights as an array of shape (rows,); ValueError if one is negative or not finite, or, with `some`, if all
    are zero."""
    weight = finite_numbers(name, weight, dtype)
    if weight.shape != (rows,):
        raise ValueError(f"{name} must have shape ({rows},), got {weight.shape}")
    if weight.min() < 0:
        row = int(np.argmax(weight < 0))
        raise ValueError(f"{name} must not be negative, but row {row} (counted from 0) has {weight[row]:g}")
    if some and not weight.any():
        raise ValueError(f"{name} must not be zero for every row")
    return weight
