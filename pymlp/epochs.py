"""The epoch loop: order of the rows, slices of steps, rates, callbacks, and what survives an interruption.

One loop serves `pymlp.train` (NumPy alone) and the estimators.  It works on arrays of its own and keeps a copy of them
at the end of each epoch: whoever runs it publishes the outcome, so a failure changes nothing, and Ctrl-C or a time
limit keeps the last complete epoch.  What differs between its users (scores, when to stop) is a `Rule`.

Short epochs are trained several in one call where nobody looks at them one by one: what surrounds a call takes as long
as several steps of a small network, and for a large one, whose parameters it moves, as a tenth of a step.  They come to
an end together, for Ctrl-C too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from pymlp import backends
from pymlp.callbacks import Announcer, Meter
from pymlp.course import Course
from pymlp.interruptible import DIRECT_SECONDS, copied, copy_in_pieces, run_interruptibly, training_seconds
from pymlp.optimizers import Optimizer
from pymlp.rows import DenseRows

# A call packs the parameters and writes them back, and between calls they are copied: together up to a step's time,
# which calls of at least so many steps keep to half a percent.  Where they take longer than DIRECT_SECONDS they run in
# a helper thread, in slices of about HELPED_SLICE_SECONDS, and stay interruptible all the while.
ENOUGH_STEPS = 200
HELPED_SLICE_SECONDS = 4.0


def new_history(watched: str) -> dict[str, list[float | None]]:
    """The history of no epochs; `watched` names what is measured on validation rows."""
    return {"loss": [], watched: [], "rate": [], "seconds": []}


class Rule(Protocol):
    """What the users of the loop decide for themselves."""

    course: Course
    validation_score: float | None
    verbose: bool  # whether it prints each epoch: then none waits for another longer than DIRECT_SECONDS

    def certain_epochs(self) -> float:
        """How many epochs will be trained whatever their losses, at least 1: only the last of them may end the training
        or change a rate, and none needs its own parameters."""

    def end_epoch(self, loss: float, params: np.ndarray, rate: float, seconds: float) -> bool:
        """Take note of an epoch: its mean loss, its last rate, the time its steps took; true ends the training.

        `params` is its outcome, and must not be kept itself.
        """

    def state(self) -> Any:
        """What `restore` needs to return to this moment; nothing in it may change later."""

    def restore(self, state: Any) -> None:
        """Return to the moment of `state`."""


@dataclass(frozen=True)
class Completed:
    """Where the epochs completed so far have led; ``outcome`` is what they are for, see `outcome_of`."""

    params: np.ndarray
    slots: np.ndarray
    outcome: np.ndarray
    epochs: int
    step: int
    rule_state: Any


def outcome_of(optimizer: Optimizer, params: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """The parameters to score and to keep: their average where the optimizer has one, in its last slot."""
    return params if optimizer.average is None else slots[-1]


class OutOfTimeError(Exception):
    """The time limit was reached inside an epoch; ends it from within."""


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
    max_time : float, optional
        Seconds after which `run` ends, once an epoch is complete.

    Attributes
    ----------
    completed : Completed or None
        The last complete epoch, None before the first.
    timed_out : bool
        Whether the time limit ended the last run.
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
        max_time: float | None = None,
    ) -> None:
        self.plan, self.optimizer, self.rows, self.rule = plan, optimizer, rows, rule
        self.params, self.slots, self.step = params, slots, step
        # a view that goes along with the steps
        self.outcome = outcome_of(optimizer, params, slots)
        self.max_time = np.inf if max_time is None else max_time
        self.completed: Completed | None = None
        # what to go back to if the first epoch is undone
        self._start = (copied(params), copied(slots), step) if rule.course.roll_back else None
        self._began, self.timed_out = 0.0, False
        self.n_rows = len(rows.numbers)
        self.starts = np.append(np.arange(0, self.n_rows, batch_size, dtype=np.int64), self.n_rows)
        self.epoch_steps = len(self.starts) - 1
        self._batch_fractions = np.diff(self.starts) / self.n_rows
        self._batch_size = batch_size
        self._step_seconds = training_seconds(plan.network.n_parameters, batch_size)
        self._measured = False
        self._spare: tuple[np.ndarray, np.ndarray] | None = None

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
            Whether the rule, a callback or the time limit ended the training.
        """
        order = self.rows.numbers
        watched = bool(announcer.callbacks)
        self._began, self.timed_out = perf_counter(), False
        epoch = 0
        while epoch < epochs:
            self._set_aside()
            count = 1 if watched else self._epochs_together(epochs - epoch)
            returning = count > 1 or self.max_time < np.inf
            before, state = self.completed, _state_of(shuffler) if returning else None
            try:
                orders = self._orders(order, count, shuffler)
                order = orders[-1]
                rates = self.rule.course.rates(self.step, count * self.epoch_steps)
                meter = None
                if watched:
                    before_it = epoch * self.n_rows, epoch * self.epoch_steps
                    meter = Meter(announcer, self._began, *before_it, self.starts, rates)
                    announcer.begin_epoch(epoch, **meter.metrics(0))
                epoch_began = perf_counter()
                losses, steps = self._run_epochs(orders, rates, meter)
                seconds = (perf_counter() - epoch_began) / count
                if self.rule.course.undoes(epoch, losses[-1], self.params, self.slots):
                    self._undo()
                    continue
                self.step += steps
                stop = meter is not None and meter.stopped
                last_rates = rates[min(steps, self.epoch_steps) - 1 :: self.epoch_steps].tolist()
                for loss, rate in zip(losses, last_rates, strict=True):
                    stop |= self.rule.end_epoch(loss, self.outcome, rate, seconds)
                epoch += count
                self.timed_out = perf_counter() - self._began > self.max_time
                stop |= self.timed_out
                if meter is not None:
                    score = self.rule.validation_score
                    metrics = meter.metrics(steps)
                    stop |= announcer.end_epoch(**metrics, loss=losses[-1], validation_score=score)
                state_of_rule = self.rule.state()
                self.completed = Completed(self.params, self.slots, self.outcome, epoch, self.step, state_of_rule)
            except OutOfTimeError:
                self.timed_out = True
                _return_to(shuffler, state)
                self.rule.restore(self.completed.rule_state)
                return True
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
        steps = int(DIRECT_SECONDS / self._step_seconds)
        # a time limit shall find an epoch that is not long past
        if steps < ENOUGH_STEPS and not self.rule.verbose and self.max_time == np.inf:
            steps = min(ENOUGH_STEPS, int(HELPED_SLICE_SECONDS / self._step_seconds))
        fitting = min(steps, self.rows.most_steps(self._batch_size)) // self.epoch_steps
        return max(1, int(min(most, fitting, self.rule.certain_epochs())))

    def _orders(self, last: np.ndarray, count: int, shuffler: Any) -> np.ndarray:
        """Row numbers of the next epochs, (count, rows): each shuffled from the one before, as scikit-learn does it."""
        if shuffler is None and count == 1:
            return last[np.newaxis]
        orders = np.empty((count, self.n_rows), np.int64)
        for order in orders:
            order[:] = last
            if shuffler is not None:
                self.plan.shuffle(order, shuffler)
            last = order
        return orders

    def _undo(self) -> None:
        params, slots, self.step = self._start
        if self.completed is not None:
            params, slots, self.step = self.completed.params, self.completed.slots, self.completed.step
        copy_in_pieces(self.params, params)
        copy_in_pieces(self.slots, slots)

    def _watch_time(self) -> None:
        if self.completed is not None and perf_counter() - self._began > self.max_time:
            raise OutOfTimeError

    def _set_aside(self) -> None:
        """Copy the last complete epoch out of the way of the next.

        Not at its end, because the last epoch of all needs no copy; and until the copy is whole, an interruption finds
        the epoch where it was trained.
        """
        done = self.completed
        if done is None or done.params is not self.params:
            return
        if self._spare is None:
            self._spare = np.empty_like(self.params), np.empty_like(self.slots)
        params, slots = self._spare
        copy_in_pieces(params, self.params)
        copy_in_pieces(slots, self.slots)
        outcome = outcome_of(self.optimizer, params, slots)
        self.completed = replace(done, params=params, slots=slots, outcome=outcome)

    def _run_epochs(self, orders: np.ndarray, rates: np.ndarray, meter: Meter | None) -> tuple[list[float], int]:
        """Train one epoch for each row of `orders`; their mean losses, and the steps taken: fewer if a callback stopped
        the epoch."""
        count, steps = len(orders), len(rates)
        starts = self.starts
        if count > 1:
            starts = np.append((np.arange(count)[:, None] * self.n_rows + starts[:-1]).ravel(), orders.size)
        losses = np.empty(steps)
        order = orders.reshape(-1)
        first = 0
        while first < steps:
            most = min(self.rows.most_steps(self._batch_size, first), steps - first) if self._measured else 1
            helped = min(most, ENOUGH_STEPS) * self._step_seconds > DIRECT_SECONDS
            seconds = HELPED_SLICE_SECONDS if helped else DIRECT_SECONDS
            most = min(most, max(1, int(seconds / self._step_seconds)))
            last = first + (most if meter is None else meter.steps_at_once(first, most))
            began = perf_counter()
            run = self.rows.run(order, starts, first, last)
            self._run_slice(run, rates, losses, first, last, helped, meter)
            self._step_seconds = max((perf_counter() - began) / (last - first), 1e-9)
            self._measured = True
            first = last
            if meter is not None:
                meter.show(first, losses)
                if meter.stopped and first < steps:
                    return [meter.mean_loss(first, losses)], first
            if first < steps:
                self._watch_time()
        # not by BLAS, whose sums depend on its threads and on the machine
        return (losses.reshape(count, -1) * self._batch_fractions).sum(axis=1).tolist(), steps

    def _run_slice(
        self,
        run: tuple,
        rates: np.ndarray,
        losses: np.ndarray,
        first: int,
        last: int,
        helped: bool,
        meter: Meter | None,
    ) -> None:
        new = losses[first:last]
        arguments = (self.optimizer, self.params, self.slots, self.step + first, *run, rates[first:last], new)
        if not helped:
            self.plan.train_steps(*arguments)
            return
        new.fill(np.nan)

        def watch() -> None:
            if meter is not None:
                meter.show(min(last - 1, first + int(np.count_nonzero(~np.isnan(new)))), losses)
            self._watch_time()

        run_interruptibly(lambda: self.plan.train_steps(*arguments), self.plan.stop, watch)


def _state_of(shuffler: Any) -> Any:
    if isinstance(shuffler, np.random.RandomState):
        return shuffler.get_state(legacy=False)
    return None if shuffler is None else shuffler.bit_generator.state


def _return_to(shuffler: Any, state: Any) -> None:
    if isinstance(shuffler, np.random.RandomState):
        shuffler.set_state(state)
    elif shuffler is not None:
        shuffler.bit_generator.state = state
