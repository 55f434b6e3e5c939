"""The epoch loop: order of the rows, slices of steps, rates, callbacks, and what survives an interruption.

One loop serves `pymlp.train` (NumPy alone) and the estimators.  It works on arrays of its own and keeps a copy of them
at the end of each epoch: whoever runs it publishes the outcome, so a failure changes nothing, and Ctrl-C or a time
limit keeps the last complete epoch.  What differs between its users (scores, when to stop) is a `Rule`.

Short epochs are trained several in one call where nobody looks at them one by one: what surrounds a call takes as long
as several steps of a small network, and for a large one, whose parameters it moves, as a tenth of a step.  They come to
an end together, for Ctrl-C too.

A `Keeper` gets, from time to time, a record of where the run has got to, from which another process goes on to the same
bits: slices and groups of epochs change none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from pymlp import backends, step_times
from pymlp.callbacks import Announcer, Meter
from pymlp.checkpoints import generator_state, set_generator_state
from pymlp.container import ModelFormatError, shown
from pymlp.course import Course
from pymlp.interruptible import DIRECT_SECONDS, copied, copy_in_pieces, run_interruptibly, training_seconds
from pymlp.optimizers import Optimizer
from pymlp.rows import DenseRows

# A call packs the parameters and writes them back, and between calls they are copied: together up to a step's time,
# which calls of at least so many steps keep to half a percent.  Where they take longer than DIRECT_SECONDS they run in
# a helper thread, in slices of about HELPED_SLICE_SECONDS, and stay interruptible all the while: enough for some 20
# steps of the widest networks.  Whole epochs go together for TOGETHER_SECONDS at most, which is what Ctrl-C may lose.
ENOUGH_STEPS = 200
HELPED_SLICE_SECONDS = 16.0
TOGETHER_SECONDS = 4.0
# A run that nobody watches begins by what the last one like it in this process has measured, so many times as slow; any
# other by a single step.
CAUTION = 3.0


def new_history(watched: str) -> dict[str, list[float | None]]:
    """The history of no epochs; `watched` names what is measured on validation rows."""
    return {"loss": [], watched: [], "rate": [], "seconds": []}


class Rule(Protocol):
    """What the users of the loop decide for themselves."""

    course: Course
    best_params: np.ndarray | None
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

    def record(self) -> dict[str, Any]:
        """What `take_up` needs to go on from this moment in another process: numbers, lists and arrays."""

    def take_up(self, record: dict[str, Any], epochs: int) -> None:
        """Go on from the moment of `record`, `epochs` being complete; ModelFormatError if it does not know of these."""


class Keeper(Protocol):
    """Who keeps records of a run; see `pymlp.checkpoints`."""

    generator: Any  # what the orders of the rows are drawn from, also by whom the rows come from

    def epochs_until_due(self, epochs: int) -> float:
        """How many epochs may pass until one must be kept, `epochs` being complete."""

    def is_due(self, epochs: int | None = None) -> bool:
        """Whether the run is to be kept now: `epochs` of its epochs being complete, or by None inside one."""

    def seconds_until_due(self) -> float:
        """How many seconds may pass, inside an epoch, until the run must be kept; not above 0 where that is now."""

    def keep(self, run: dict[str, Any]) -> None:
        """Take a record; its arrays may change later."""


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


@dataclass
class Begun:
    """Epochs under way: their orders of shape (epochs, rows), the loss of each step, and how many steps are done.

    ``seconds`` are those of an earlier process.
    """

    orders: np.ndarray
    losses: np.ndarray
    done: int = 0
    seconds: float = 0.0
    began: float = 0.0

    def passed(self) -> float:
        """Seconds the epochs have taken so far."""
        return self.seconds + perf_counter() - self.began


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
    keeper : Keeper, optional
        Gets a record whenever one is due, and at the end.

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
        keeper: Keeper | None = None,
    ) -> None:
        self.plan, self.optimizer, self.rows, self.rule, self.keeper = plan, optimizer, rows, rule, keeper
        self.params, self.slots, self.step = params, slots, step
        # a view that goes along with the steps
        self.outcome = outcome_of(optimizer, params, slots)
        self.max_time = np.inf if max_time is None else max_time
        self.completed: Completed | None = None
        # what to go back to if the first epoch is undone
        self._start = (copied(params), copied(slots), step) if rule.course.roll_back else None
        self._began, self.timed_out = 0.0, False
        self.n_rows = len(rows.numbers)
        self.epoch_steps = -(-self.n_rows // batch_size)
        self.starts = self._starts_of(1, batch_size)
        self._batch_fractions = (self.starts[1:] - self.starts[:-1]) / self.n_rows
        self._batch_size = batch_size
        self._step_time = step_times.step_time(plan, optimizer, rows, batch_size)
        self._step_seconds = training_seconds(plan.network.n_parameters, batch_size)
        self._measured = False
        self._spare: tuple[np.ndarray, np.ndarray] | None = None
        self._first_step = step
        # what the next epoch's order is made from, and the generator's state, at the end of the last complete epoch
        self._position: tuple[np.ndarray, Any] = rows.numbers, None
        self._begun: Begun | None = None
        # epochs, and steps of the next one, of the last record; and whether the rule has ended the training
        self._kept, self._over = (0, 0), False
        self._shuffled, self._recorded_total = False, 0

    def run(self, epochs: int, shuffler: Any, announcer: Announcer, *, is_private: bool = False) -> bool:
        """Train for at most `epochs` epochs, those taken up included.

        Parameters
        ----------
        epochs : int
        shuffler : RandomState, Generator or None
            Draws the order of each epoch; None keeps the rows in order.  It never gets further ahead of the completed
            epochs than by the one that was interrupted or failed.
        announcer : Announcer
        is_private : bool, default=False
            Nobody draws from the shuffler once this run has ended: where it is left then does not matter.

        Returns
        -------
        bool
            Whether the rule, a callback or the time limit ended the training.
        """
        self._began, self.timed_out, self._shuffled = perf_counter(), False, shuffler is not None
        self._recall_seconds(announcer)
        shared = None if is_private and self.keeper is None else shuffler
        stopped = self._over or self._train(epochs, shuffler, shared, announcer)
        if self.keeper is not None and (self.completed.epochs, 0) > self._kept:
            self._keep()
        return stopped

    def _recall_seconds(self, announcer: Announcer) -> None:
        known = self._step_time.seconds
        # a time limit shall hold on a machine that has become slower, too, and what callbacks see shall not depend on
        # what was fitted before
        if known is not None and not self._measured and self.max_time == np.inf and not announcer.callbacks:
            self._step_seconds, self._measured = CAUTION * known, True

    def _train(self, epochs: int, shuffler: Any, shared: Any, announcer: Announcer) -> bool:
        # `shared`: the shuffler, or None where it need not be brought back
        order, _ = self._position
        watched = bool(announcer.callbacks)
        epoch = 0 if self.completed is None else self.completed.epochs
        while epoch < epochs:
            self._set_aside()
            begun, self._begun = self._begun, None
            most = epochs - epoch if self.keeper is None else min(epochs - epoch, self.keeper.epochs_until_due(epoch))
            count = 1 if watched or begun is not None else self._epochs_together(most)
            returning = count > 1 or self.max_time < np.inf
            before, state = self.completed, generator_state(shared) if returning else None
            try:
                if begun is None:
                    orders = self._orders(order, count, shuffler)
                    begun = Begun(orders, np.empty(count * self.epoch_steps))
                order = begun.orders[-1]
                rates = self.rule.course.rates(self.step, count * self.epoch_steps)
                meter = None
                if watched:
                    before_it = epoch * self.n_rows, epoch * self.epoch_steps
                    meter = Meter(announcer, self._began, *before_it, self.starts, rates)
                    announcer.begin_epoch(epoch, **meter.metrics(begun.done))
                begun.began = perf_counter()
                losses, steps = self._run_epochs(begun, rates, meter)
                seconds = begun.passed() / count
                if self.rule.course.undoes(epoch, losses[-1], self.params, self.slots):
                    self._undo()
                    continue
                self.step += steps
                last_rates = rates[min(steps, self.epoch_steps) - 1 :: self.epoch_steps].tolist()
                for loss, rate in zip(losses, last_rates, strict=True):
                    self._over |= self.rule.end_epoch(loss, self.outcome, rate, seconds)
                epoch += count
                self.timed_out = perf_counter() - self._began > self.max_time
                stop = self._over or self.timed_out or (meter is not None and meter.stopped)
                if meter is not None:
                    score = self.rule.validation_score
                    metrics = meter.metrics(steps)
                    stop |= announcer.end_epoch(**metrics, loss=losses[-1], validation_score=score)
                state_of_rule = self.rule.state()
                self.completed = Completed(self.params, self.slots, self.outcome, epoch, self.step, state_of_rule)
                if self.keeper is not None:
                    self._position = order, generator_state(self.keeper.generator)
                    if self.keeper.is_due(epoch):
                        self._keep()
            except OutOfTimeError:
                self.timed_out = True
                set_generator_state(shared, state)
                self.rule.restore(self.completed.rule_state)
                return True
            except BaseException:
                if state is not None and self.completed is before:
                    set_generator_state(shared, state)
                raise
            if stop:
                return True
        return False

    def _keep(self, begun: Begun | None = None) -> None:
        """Give the keeper a record of the last complete epoch, and of the one that is under way."""
        params, slots, epochs = None, None, 0
        if self.completed is not None:
            params, slots, epochs = self.completed.params, self.completed.slots, self.completed.epochs
        elif self._start is not None:
            params, slots, _ = self._start
        order, generator = self._position
        under_way = None
        if begun is not None:
            order, generator = begun.orders[-1], generator_state(self.keeper.generator)
            under_way = {
                "params": self.params,
                "slots": self.slots,
                "losses": begun.losses[: begun.done],
                "seconds": begun.passed(),
            }
        record = {
            "epochs": epochs,
            "first_step": self._first_step,
            "step": self.step,
            "total": self.rule.course.total,
            "params": params,
            "slots": slots,
            "order": order if self._shuffled else None,
            "generator": generator,
            "rule": self.rule.record(),
            "over": self._over,
            "begun": under_way,
        }
        self.keeper.keep(record)
        self._kept = epochs, 0 if begun is None else begun.done

    def take_up(self, record: dict[str, Any]) -> None:
        """Go on from what a keeper got, in a run over the same rows; before `run`, after ``course.begin``.

        Raises
        ------
        ModelFormatError, or what odd types and values lead to
            The record is malformed.
        """
        epochs, self.step, self._first_step = (_count(record, name) for name in ("epochs", "step", "first_step"))
        self._recorded_total = _count(record, "total")
        self.rule.take_up(record["rule"], epochs)
        order = self.rows.numbers
        if record["order"] is not None:
            order = record["order"]
            if order.dtype != np.int64 or not np.array_equal(np.sort(order), np.sort(self.rows.numbers)):
                raise ModelFormatError("its order is not one of the rows to train on")
        under_way = record["begun"]
        if under_way is not None:
            losses = np.empty(self.epoch_steps)
            done = len(under_way["losses"])
            if not 0 < done < self.epoch_steps:
                raise ModelFormatError(f"{done} of an epoch's {self.epoch_steps} steps cannot be done")
            losses[:done] = under_way["losses"]
            self._begun = Begun(order[np.newaxis], losses, done, float(under_way["seconds"]))
        else:
            under_way, done = record, 0
        np.copyto(self.params, _checked(under_way["params"], self.params, "params"))
        np.copyto(self.slots, _checked(under_way["slots"], self.slots, "slots"))
        if self.rule.best_params is not None:
            _checked(self.rule.best_params, self.params, "best_params")
        if epochs or self._start is not None:
            params = _checked(record["params"], self.params, "params")
            slots = _checked(record["slots"], self.slots, "slots")
            if epochs:
                outcome = outcome_of(self.optimizer, params, slots)
                self.completed = Completed(params, slots, outcome, epochs, self.step, self.rule.state())
            else:
                self._start = params, slots, self.step
        set_generator_state(self.keeper.generator, record["generator"])
        self._position = order, record["generator"]
        self._kept, self._over = (epochs, done), bool(record["over"])
        if self._over and self.completed is None:
            raise ModelFormatError("it has ended before its first epoch")

    def check_going_on(self, epochs: int) -> None:
        """ValueError if a run of `epochs` epochs would not have come to where the record taken up has."""
        course, done = self.rule.course, 0 if self.completed is None else self.completed.epochs
        if done > epochs:
            raise ValueError(f"the checkpoint has {done} epochs, more than the {epochs} there shall be")
        step = self.step + (0 if self._begun is None else self._begun.done)
        if not course.agrees(self._recorded_total, self._first_step, step):
            raise ValueError(
                f"{course.schedule!r} spreads its rates over all epochs: with {epochs} of them those of the "
                f"checkpoint's {done} would have been others; resume with as many as it was begun with"
            )

    def _epochs_together(self, most: float) -> int:
        """Epochs of the next call: more than one if they all fit into a slice and the rule is certain of them."""
        if not self._measured:
            return 1
        steps = int(DIRECT_SECONDS / self._step_seconds)
        # a time limit shall find an epoch that is not long past, and Ctrl-C soon the first
        slow_too = not self.rule.verbose and self.max_time == np.inf and self.completed is not None
        if steps < ENOUGH_STEPS and slow_too:
            steps = min(ENOUGH_STEPS, int(TOGETHER_SECONDS / self._step_seconds))
        fitting = min(steps, self.rows.most_steps(self._batch_size)) // self.epoch_steps
        return max(1, int(min(most, fitting, self.rule.certain_epochs())))

    def _orders(self, last: np.ndarray, count: int, shuffler: Any) -> np.ndarray:
        """Row numbers of the next epochs, (count, rows): each shuffled from the one before, as scikit-learn does it."""
        if shuffler is None and count == 1:
            return last[np.newaxis]
        orders = np.empty((count, self.n_rows), np.int64)
        if shuffler is None:
            orders[:] = last
        else:
            orders[0] = last
            self.plan.shuffle(orders, shuffler)
        return orders

    def _starts_of(self, count: int, batch_size: int) -> np.ndarray:
        """Where each batch of so many epochs starts in their orders, and the end of the last."""
        starts = np.empty(count * self.epoch_steps + 1, np.int64)
        epochs = np.arange(0, count * self.n_rows, self.n_rows)[:, np.newaxis]
        np.add(epochs, np.arange(0, self.n_rows, batch_size), out=starts[:-1].reshape(count, -1))
        starts[-1] = count * self.n_rows
        return starts

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

    def _run_epochs(self, begun: Begun, rates: np.ndarray, meter: Meter | None) -> tuple[list[float], int]:
        """Train the rest of the epochs; their mean losses, and the steps taken: fewer if a callback stopped the
        epoch."""
        count, steps, losses = len(begun.orders), len(rates), begun.losses
        starts = self.starts if count == 1 else self._starts_of(count, self._batch_size)
        order = begun.orders.reshape(-1)
        first = begun.done
        while first < steps:
            most = min(self.rows.most_steps(self._batch_size, first), steps - first) if self._measured else 1
            helped = min(most, ENOUGH_STEPS) * self._step_seconds > DIRECT_SECONDS
            seconds = self._helped_seconds(count) if helped else DIRECT_SECONDS
            most = min(most, max(1, int(seconds / self._step_seconds)))
            last = first + (most if meter is None else meter.steps_at_once(first, most))
            began = perf_counter()
            run = self.rows.run(order, starts, first, last)
            self._run_slice(run, rates, losses, first, last, helped, meter)
            self._step_seconds = max((perf_counter() - began) / (last - first), 1e-9)
            self._measured = True
            first = begun.done = last
            if meter is not None:
                meter.show(first, losses)
                if meter.stopped and first < steps:
                    return [meter.mean_loss(first, losses)], first
            if first < steps:
                if self.keeper is not None and count == 1 and self.keeper.is_due():
                    self._keep(begun)
                self._watch_time()
        self._step_time.seconds = self._step_seconds
        # not by BLAS, whose sums depend on its threads and on the machine
        return np.add.reduce(losses.reshape(count, -1) * self._batch_fractions, axis=1).tolist(), steps

    def _helped_seconds(self, count: int) -> float:
        """How long the next slice may take in a helper thread: one that is to be kept is not kept waiting."""
        if self.keeper is None or count > 1:
            return HELPED_SLICE_SECONDS
        return min(HELPED_SLICE_SECONDS, self.keeper.seconds_until_due())

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
        if helped:
            new.fill(np.nan)
            self._run_helped(arguments, losses, first, meter)
        else:
            self.plan.train_steps(*arguments)

    def _run_helped(self, arguments: tuple, losses: np.ndarray, first: int, meter: Meter | None) -> None:
        """Run the steps in a helper thread; the losses of the steps not yet taken are NaN."""
        new = arguments[-1]

        def watch() -> None:
            if meter is not None:
                meter.show(first + min(len(new) - 1, int(np.count_nonzero(~np.isnan(new)))), losses)
            self._watch_time()

        run_interruptibly(lambda: self.plan.train_steps(*arguments), self.plan.stop, watch)


def check_histories(histories: dict[str, list[Any]], epochs: int) -> None:
    """ModelFormatError if the entries of a record are fewer than its epochs."""
    for name, values in histories.items():
        if len(values) < epochs:
            raise ModelFormatError(f"its {name} has {len(values)} entries for {epochs} epochs")


def _count(record: dict[str, Any], name: str) -> int:
    value = record[name]
    if type(value) is not int or value < 0:
        raise ModelFormatError(f"its {name} must be an integer of at least 0, found {shown(value)}")
    return value


def _checked(values: np.ndarray, like: np.ndarray, name: str) -> np.ndarray:
    if values.shape != like.shape or values.dtype != like.dtype:
        raise ModelFormatError(
            f"its {name} must be a {like.dtype} array of shape {like.shape}, found {values.dtype} {values.shape}"
        )
    return values
