"""The epoch loop: order of the rows, slices of steps, rates, callbacks, and what survives an interruption.

One loop serves `train` (NumPy alone) and the estimators.  It works on arrays of its own and keeps a copy of them at
the end of each epoch: whoever runs it publishes the outcome, so a failure changes nothing and Ctrl-C keeps the last
complete epoch.  What differs between its users (rates, scores, when to stop) is a `Rule`.

Short epochs are trained several in one call where nobody looks at them one by one: what surrounds a call takes as long
as several steps of a small network.  They come to an end together, for Ctrl-C too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from pymlp import backends
from pymlp.callbacks import Announcer, check_callbacks
from pymlp.finiteness import check_finite
from pymlp.interruptible import DIRECT_SECONDS, run_interruptibly, training_seconds
from pymlp.network import Network, random_source
from pymlp.optimizers import Adam, Optimizer, new_slots
from pymlp.rows import DenseRows, is_converted_late, rows_of
from pymlp.schedules import Constant, Cosine, InverseScaling, OneCycle

# A call packs the parameters and writes them back, which takes about as long as half a step: calls of at least so many
# steps keep that to a percent.  Where they take longer than DIRECT_SECONDS they run in a helper thread, in slices of
# about HELPED_SLICE_SECONDS, and stay interruptible all the while.
ENOUGH_STEPS = 50
HELPED_SLICE_SECONDS = 4.0


class Rule(Protocol):
    """What the users of the loop decide for themselves."""

    validation_score: float | None

    def rates(self, first: int, count: int) -> np.ndarray:
        """Rates of `count` steps from step `first`: float64 array of shape (count,)."""

    def certain_epochs(self) -> float:
        """How many epochs will be trained whatever their losses, at least 1: only the last of them may end the training
        or change a rate, and none needs its own parameters."""

    def end_epoch(self, loss: float, params: np.ndarray) -> bool:
        """Take note of an epoch's mean loss; true ends the training.  Must not keep `params` itself."""

    def state(self) -> Any:
        """What `restore` needs to return to this moment; nothing in it may change later."""

    def restore(self, state: Any) -> None:
        """Return to the moment of `state`."""


@dataclass(frozen=True)
class Completed:
    """The outcome of the epochs completed so far."""

    params: np.ndarray
    slots: np.ndarray
    epochs: int
    step: int
    rule_state: Any


class EpochLoop:
    """Trains `params` and `slots` in place, epoch by epoch.

    Parameters
    ----------
    plan : Plan
    optimizer : Optimizer
    params, slots : ndarray
        The loop's own: undefined after an interruption, see `completed`.
    step : int
        Steps the slots have already seen.
    rows : DenseRows
    batch_size : int
        At most the number of rows.
    rule : Rule

    Attributes
    ----------
    completed : Completed or None
        The last complete epoch, None before the first.
    """

    def __init__(
        self,
        plan: backends.Plan,
        optimizer: Optimizer,
        params: np.ndarray,
        slots: np.ndarray,
        step: int,
        rows: DenseRows,
        batch_size: int,
        rule: Rule,
    ) -> None:
        self.plan, self.optimizer, self.rows, self.rule = plan, optimizer, rows, rule
        self.params, self.slots, self.step = params, slots, step
        self.completed: Completed | None = None
        self.n_rows = len(rows.numbers)
        self.starts = np.append(np.arange(0, self.n_rows, batch_size, dtype=np.int64), self.n_rows)
        self.epoch_steps = len(self.starts) - 1
        self._batch_fractions = np.diff(self.starts) / self.n_rows
        self._most_steps = rows.most_steps(batch_size)
        self._step_seconds = training_seconds(plan.network.n_parameters, batch_size)
        self._measured = False
        self._spare = None

    def run(self, epochs: int, shuffler: Any, announcer: Announcer) -> bool:
        """Train for at most `epochs` epochs.

        Parameters
        ----------
        epochs : int
        shuffler : RandomState, Generator or None
            Draws the order of each epoch; None keeps the rows in order.  It never gets further ahead of the completed
            epochs than by the one that was interrupted or failed.
        announcer : Announcer

        Returns
        -------
        bool
            Whether the rule or a callback ended the training.
        """
        order = self.rows.numbers
        watched = bool(announcer.callbacks)
        began = perf_counter()
        epoch = 0
        while epoch < epochs:
            count = 1 if watched else self._epochs_together(epochs - epoch)
            before, state = self.completed, _state_of(shuffler) if count > 1 else None
            try:
                orders = self._orders(order, count, shuffler)
                order = orders[-1]
                rates = self.rule.rates(self.step, count * self.epoch_steps)
                meter = None
                if watched:
                    meter = _Meter(announcer, began, epoch * self.n_rows, self.starts, float(rates[-1]))
                    announcer.begin_epoch(epoch, **meter.metrics(0))
                losses = self._run_epochs(orders, rates, meter)
                self.step += len(rates)
                stop = False
                for loss in losses:
                    stop |= self.rule.end_epoch(loss, self.params)
                epoch += count
                if meter is not None:
                    score = self.rule.validation_score
                    metrics = meter.metrics(self.epoch_steps)
                    stop |= announcer.end_epoch(**metrics, loss=losses[-1], validation_score=score)
                self._keep(epoch, last=stop or epoch == epochs)
            except BaseException:
                if state is not None and self.completed is before:
                    _return_to(shuffler, state)
                raise
            if stop:
                return True
        return False

    def _epochs_together(self, most: int) -> int:
        """Epochs of the next call: more than one if they all fit into a slice and the rule is certain of them."""
        if not self._measured:
            return 1
        fitting = min(int(DIRECT_SECONDS / self._step_seconds), self._most_steps) // self.epoch_steps
        return max(1, int(min(most, fitting, self.rule.certain_epochs())))

    def _orders(self, last: np.ndarray, count: int, shuffler: Any) -> np.ndarray:
        """Row numbers of the next epochs, (count, rows): each shuffled from the one before, as scikit-learn does it."""
        orders = np.empty((count, self.n_rows), np.int64)
        for order in orders:
            order[:] = last
            if shuffler is not None:
                self.plan.shuffle(order, shuffler)
            last = order
        return orders

    def _keep(self, epochs: int, last: bool) -> None:
        params, slots = self.params, self.slots
        if not last:
            # two sets of copies in turn, so that an interruption here leaves the older one whole
            spare = self._spare or (np.empty_like(params), np.empty_like(slots))
            np.copyto(spare[0], params)
            np.copyto(spare[1], slots)
            self._spare = None if self.completed is None else (self.completed.params, self.completed.slots)
            params, slots = spare
        self.completed = Completed(params, slots, epochs, self.step, self.rule.state())

    def _run_epochs(self, orders: np.ndarray, rates: np.ndarray, meter: _Meter | None) -> list[float]:
        """Train one epoch for each row of `orders`; their mean losses."""
        count, steps = len(orders), len(rates)
        starts = self.starts
        if count > 1:
            starts = np.append((np.arange(count)[:, None] * self.n_rows + starts[:-1]).ravel(), orders.size)
        losses = np.empty(steps)
        order = orders.reshape(-1)
        first = 0
        while first < steps:
            most = min(self._most_steps, steps - first) if self._measured else 1
            helped = min(most, ENOUGH_STEPS) * self._step_seconds > DIRECT_SECONDS
            seconds = HELPED_SLICE_SECONDS if helped else DIRECT_SECONDS
            last = first + min(most, max(1, int(seconds / self._step_seconds)))
            began = perf_counter()
            run = self.rows.run(order, starts, first, last)
            self._run_slice(run, rates, losses, first, last, helped, meter)
            self._step_seconds = max((perf_counter() - began) / (last - first), 1e-9)
            self._measured = True
            first = last
            if meter is not None and first < steps:
                meter.show(first)
        # not by BLAS, whose sums depend on its threads and on the machine
        return (losses.reshape(count, -1) * self._batch_fractions).sum(axis=1).tolist()

    def _run_slice(
        self,
        run: tuple,
        rates: np.ndarray,
        losses: np.ndarray,
        first: int,
        last: int,
        helped: bool,
        meter: _Meter | None,
    ) -> None:
        losses = losses[first:last]
        arguments = (self.optimizer, self.params, self.slots, self.step + first, *run, rates[first:last], losses)
        if not helped:
            self.plan.train_steps(*arguments)
            return
        losses.fill(np.nan)

        def show() -> None:
            if meter is not None:
                meter.show(first + int(np.count_nonzero(~np.isnan(losses))))

        run_interruptibly(lambda: self.plan.train_steps(*arguments), self.plan.stop, show)


def _state_of(shuffler: Any) -> Any:
    if isinstance(shuffler, np.random.RandomState):
        return shuffler.get_state(legacy=False)
    return None if shuffler is None else shuffler.bit_generator.state


def _return_to(shuffler: Any, state: Any) -> None:
    if isinstance(shuffler, np.random.RandomState):
        shuffler.set_state(state)
    else:
        shuffler.bit_generator.state = state


@dataclass
class _Meter:
    """Rows and seconds of a run, for its callbacks."""

    announcer: Announcer
    began: float
    rows_before: int
    starts: np.ndarray
    rate: float
    shown: int = 0

    def metrics(self, steps: int) -> dict[str, Any]:
        rows, seconds = self.rows_before + int(self.starts[steps]), perf_counter() - self.began
        return {"rows": rows, "seconds": seconds, "rows_per_second": rows / max(seconds, 1e-9), "rate": self.rate}

    def show(self, steps: int) -> None:
        if steps > self.shown:
            self.shown = steps
            self.announcer.progress(**self.metrics(steps))


@dataclass
class TrainingResult:
    """What `train` did, and what it takes to go on.

    Attributes
    ----------
    losses : list of float
        Mean loss of each epoch.
    steps : int
        Steps the slots have seen, those before this call included: pass it on as ``step``.
    slots : ndarray of shape (n_slots, n_parameters)
        The optimizer's state: pass it on as ``slots``.
    rate : float
        Rate of the last step.
    seconds : float
        Duration of the call.
    """

    losses: list[float]
    steps: int
    slots: np.ndarray
    rate: float
    seconds: float


@dataclass
class _ScheduleRule:
    """Rates from a schedule; never stops by itself."""

    base: float
    schedule: Any
    total: int
    epoch_steps: int
    epoch_rows: int
    losses: list[float] = field(default_factory=list)
    last_rate: float = 0.0
    validation_score: None = None

    def rates(self, first: int, count: int) -> np.ndarray:
        rates = self.schedule.rates(self.base, first, count, self.total, self.epoch_steps, self.epoch_rows)
        self.last_rate = float(rates[-1])
        return rates

    def certain_epochs(self) -> float:
        return np.inf

    def end_epoch(self, loss: float, params: np.ndarray) -> bool:
        self.losses.append(loss)
        return False

    def state(self) -> int:
        return len(self.losses)

    def restore(self, state: int) -> None:
        del self.losses[state:]


def train(
    network: Network,
    params: np.ndarray,
    X: Any,
    y: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    optimizer: Optimizer = Adam(),  # noqa: B008 - frozen
    rate: float = 1e-3,
    schedule: Constant | InverseScaling | Cosine | OneCycle = Constant(),  # noqa: B008 - frozen
    batch_size: int | None = None,
    epochs: int = 10,
    shuffle: bool = True,
    random_state: Any = None,
    slots: np.ndarray | None = None,
    step: int = 0,
    n_threads: int | None = None,
    backend: str | None = None,
    callbacks: Sequence[Any] = (),
) -> TrainingResult:
    """Train a network's parameters in place.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (n_parameters,)
        Changed in place; see `Network.initial_params`.
    X : array-like or SciPy sparse matrix of shape (rows, inputs)
    y : array-like of shape (rows, outputs), or (rows,) for one output
        Targets as the loss takes them: one column a class, holding 0 or 1, for "log_loss".
    weight : array-like of shape (rows,), optional
        Weight of each row, at least 0.  A batch whose weights sum to 0 is skipped.
    optimizer : object of `pymlp.optimizers`
    rate : float, default=1e-3
    schedule : object of `pymlp.schedules`
        Runs over the steps from 0 to ``step`` plus those of this call.
    batch_size : int, optional
        By default 200, or all rows if fewer.
    epochs : int, default=10
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

    Returns
    -------
    TrainingResult

    Raises
    ------
    ValueError
        An argument does not fit; the message names it.  `params` and `slots` are then as they were.
    KeyboardInterrupt
        After Ctrl-C; `params` and `slots` then hold the last complete epoch of this call.
    """
    began = perf_counter()
    _check_params(network, params)
    _check_choices(optimizer, rate, schedule)
    X, y, weight = _check_data(network, X, y, weight)
    n_rows = X.shape[0]
    batch_size = min(200, n_rows) if batch_size is None else min(_check_count("batch_size", batch_size), n_rows)
    epochs, step = _check_count("epochs", epochs), _check_count("step", step, least=0)
    if slots is None:
        slots = new_slots(optimizer, network.n_parameters, network.dtype)
    expected = (optimizer.n_slots, network.n_parameters)
    if not isinstance(slots, np.ndarray) or slots.shape != expected or slots.dtype != network.dtype:
        raise ValueError(f"slots must be a {network.dtype} array of shape {expected} for {type(optimizer).__name__}")
    if not slots.flags.writeable:
        raise ValueError("slots is changed in place, but the array is read-only")
    callbacks = check_callbacks(callbacks)
    shuffler = random_source(random_state) if shuffle else None
    epoch_steps = -(-n_rows // batch_size)
    rule = _ScheduleRule(rate, schedule, step + epochs * epoch_steps, epoch_steps, n_rows)
    plan = backends.get(backend).Plan(network, batch_size, n_threads)
    loop = EpochLoop(plan, optimizer, params.copy(), slots.copy(), step, rows_of(X, y, weight), batch_size, rule)
    try:
        with Announcer(callbacks, network, "train", epochs, n_rows) as announcer:
            loop.run(epochs, shuffler, announcer)
    except KeyboardInterrupt:
        if loop.completed is not None:
            _publish(loop.completed, params, slots)
        raise
    _publish(loop.completed, params, slots)
    return TrainingResult(rule.losses, loop.step, slots, rule.last_rate, perf_counter() - began)


def _publish(completed: Completed, params: np.ndarray, slots: np.ndarray) -> None:
    params[...] = completed.params
    slots[...] = completed.slots


def _check_params(network: Network, params: np.ndarray) -> None:
    network.check_params(params)
    check_finite("params", params)
    if not params.flags.writeable:
        raise ValueError("params is changed in place, but the array is read-only")


def _check_choices(optimizer: Any, rate: Any, schedule: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"optimizer must be an object such as SGD(), Adam() or AdamW(), got {optimizer!r}")
    if not isinstance(rate, Real) or isinstance(rate, bool) or not 0 < rate < np.inf:
        raise ValueError(f"rate must be a finite number above 0, got {rate!r}")
    if isinstance(schedule, type) or not callable(getattr(schedule, "rates", None)):
        raise ValueError(f"schedule must be an object such as Constant() or Cosine(), got {schedule!r}")


def _check_count(name: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def _check_data(network: Network, X: Any, y: Any, weight: Any) -> tuple[Any, np.ndarray, np.ndarray | None]:
    if hasattr(X, "tocsr"):
        X = X.tocsr().astype(network.dtype)
    elif not is_converted_late(X, network.dtype):
        X = np.ascontiguousarray(X, network.dtype)
    if X.ndim != 2 or X.shape[1] != network.inputs or X.shape[0] < 1:
        raise ValueError(f"X must have shape (rows, {network.inputs}) with at least one row, got {X.shape}")
    check_finite("X", X, network.dtype)
    y = np.ascontiguousarray(y, network.dtype)
    if y.ndim == 1 and network.outputs == 1:
        y = y[:, None]
    if y.shape != (X.shape[0], network.outputs):
        raise ValueError(f"y must have shape ({X.shape[0]}, {network.outputs}), got {y.shape}")
    check_finite("y", y)
    loss = network.loss_function
    if y.min() < loss.lowest_target or y.max() > loss.highest_target:
        raise ValueError(
            f"y must lie in [{loss.lowest_target:g}, {loss.highest_target:g}] for loss={network.loss!r}, "
            f"but it reaches from {y.min():g} to {y.max():g}"
        )
    return X, y, None if weight is None else check_weight(weight, X.shape[0], network.dtype)


def check_weight(weight: Any, rows: int, dtype: str, name: str = "weight") -> np.ndarray:
    """Row weights as an array of shape (rows,); ValueError if one is negative or not finite, or if all are zero."""
    weight = np.ascontiguousarray(weight, dtype)
    if weight.shape != (rows,):
        raise ValueError(f"{name} must have shape ({rows},), got {weight.shape}")
    check_finite(name, weight)
    if weight.min() < 0:
        row = int(np.argmax(weight < 0))
        raise ValueError(f"{name} must not be negative, but row {row} (counted from 0) has {weight[row]:g}")
    if not weight.any():
        raise ValueError(f"{name} must not be zero for every row")
    return weight
