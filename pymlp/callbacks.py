"""Callbacks: scikit-learn 1.9's protocol, called here without needing scikit-learn.

A callback is any object with ``setup(estimator, context)``, ``on_fit_task_begin(estimator, context)``,
``on_fit_task_end(estimator, context)`` (true stops the training) and ``teardown(estimator, context)``; ``context`` is a
`Task`.  The whole of the training is the root task ("fit"); each epoch (an iteration, with lbfgs) is a subtask
("epoch").  As in scikit-learn, the two ``on_fit_task`` methods may ask for more by keyword-only arguments named X, y,
metadata or fitted_estimator.  One method goes beyond the protocol and is optional: ``on_fit_progress(estimator,
context)``, called a few times a second inside a long epoch, or after every n-th step of the run where the callback has
an attribute ``every_steps`` of n (steps are counted over the epochs from 1; lbfgs has none within an iteration).  True
ends the training there: what the epoch has trained so far counts as a whole one.  Without ``every_steps`` that may be
up to a few seconds later, as steps are trained many in one call.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from numbers import Integral
from time import perf_counter
from typing import Any

import numpy as np

from pymlp.forks import cached_property

REQUIRED_METHODS = ("setup", "on_fit_task_begin", "on_fit_task_end", "teardown")


@dataclass(eq=False)
class Task:
    """What a callback is told about the task at hand; the attributes of scikit-learn's ``CallbackContext``.

    Attributes
    ----------
    task_name : str
        "fit" for the root, "epoch" below it.
    task_id : int
        Number of the epoch, from 0.
    max_subtasks : int
        Most subtasks this task can have; 0 for an epoch.
    estimator_name : str
        Class name of the estimator, "train" for `pymlp.train`.
    parent : Task or None
    metrics : dict
        Of the root: ``epochs`` (most epochs of this run), ``rows`` (rows of one epoch).  Of an epoch: ``step`` and
        ``rows`` (trained since the run began), ``seconds`` (since the run began), ``rows_per_second``, ``rate`` (of the
        last step), ``loss`` (the mean over the epoch so far, from its first step on), and once it has ended
        ``validation_score`` (None without validation).  With lbfgs ``step`` counts evaluations and ``rate`` is None.
    root_uuid : uuid.UUID
        One for each run.
    init_time : datetime.datetime
    source_estimator_name, source_task_name : str or None
        The task of a meta-estimator that this one stands for.
    sequential_subtasks : bool
        True: subtasks follow one another and are numbered from 0.
    """

    task_name: str
    task_id: int
    max_subtasks: int
    estimator_name: str
    parent: Any = None
    metrics: dict[str, Any] = field(default_factory=dict)
    root_uuid: uuid.UUID = field(default_factory=uuid.uuid4)
    init_time: datetime = field(default_factory=lambda: datetime.now(UTC))
    source_estimator_name: str | None = None
    source_task_name: str | None = None
    sequential_subtasks: bool = True


def check_callbacks(callbacks: Iterable[Any]) -> list[Any]:
    """The callbacks as a list.

    Raises
    ------
    TypeError
        One lacks a method of the protocol or is a class.
    ValueError
        ``every_steps`` of one is not an integer of at least 1.
    """
    callbacks = list(callbacks)
    for callback in callbacks:
        missing = [name for name in REQUIRED_METHODS if not callable(getattr(callback, name, None))]
        if isinstance(callback, type) or missing:
            reason = "is a class, not an instance" if isinstance(callback, type) else f"lacks {', '.join(missing)}"
            raise TypeError(f"callbacks must follow the callback protocol, but {callback!r} {reason}")
        steps = getattr(callback, "every_steps", None)
        if steps is not None and (not isinstance(steps, Integral) or isinstance(steps, bool) or steps < 1):
            raise ValueError(f"every_steps of {callback!r} must be an integer of at least 1 or None, got {steps!r}")
    return callbacks


def _every_steps(callback: Any) -> int | None:
    return getattr(callback, "every_steps", None)


def _wanted_values(hook: Callable[..., Any], values: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    parameters = inspect.signature(hook).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    unknown = [name for name in names if name not in values]
    if unknown:
        raise TypeError(f"{hook!r} asks for {', '.join(unknown)}; known: {', '.join(values)}")
    return {name: values[name]() for name in names}


class Announcer:
    """Calls the callbacks of one run; a context manager, so that what was set up is always torn down.

    Parameters
    ----------
    callbacks : sequence
    estimator : object
        First argument of every call: the estimator, or the `pymlp.Network` for `pymlp.train`.
    name : str
        The estimator's name.
    epochs, rows : int
        Most epochs of the run, and the rows of each.
    values : dict of str to callable
        What hooks may ask for by name, made when asked for.
    """

    def __init__(
        self,
        callbacks: Iterable[Any],
        estimator: Any,
        name: str,
        epochs: int,
        rows: int,
        values: dict[str, Callable[[], Any]] | None = None,
    ) -> None:
        self.callbacks = list(callbacks)
        self.estimator = estimator
        self._name, self._metrics = name, {"epochs": epochs, "rows": rows}
        nothing = dict.fromkeys(("X", "y", "metadata", "fitted_estimator"), lambda: None)
        self._values = {**nothing, **(values or {})}
        self._epoch: Task | None = None
        self._set_up: list[Any] = []
        self._own_callbacks = self.callbacks
        self._outer = getattr(estimator, "_parent_callback_ctx", None)
        if self._outer is not None:
            # inside a meta-estimator of scikit-learn: callbacks it passed down are set up and torn down by it
            self._own_callbacks = [each for each in self.callbacks if not hasattr(each, "max_propagation_depth")]

    @cached_property
    def root(self) -> Task:
        """The whole run; nobody sees it where there are no callbacks."""
        root = Task("fit", 0, self._metrics["epochs"], self._name, metrics=self._metrics)
        outer = self._outer
        if outer is not None:
            # this run is one of the tasks of a meta-estimator
            root.parent, root.task_id, root.root_uuid = outer.parent, outer.task_id, outer.root_uuid
            root.source_estimator_name, root.source_task_name = outer.estimator_name, outer.task_name
        return root

    def __enter__(self) -> Announcer:
        if not self.callbacks:
            return self
        root = self.root
        try:
            for callback in self._own_callbacks:
                self._set_up.append(callback)
                callback.setup(estimator=self.estimator, context=root)
            self._call("on_fit_task_begin", root)
        except BaseException:
            self._tear_down()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None and self.callbacks:
                self._call("on_fit_task_end", self.root)
        finally:
            self._tear_down()

    def _tear_down(self) -> None:
        errors = []
        while self._set_up:
            try:
                self._set_up.pop(0).teardown(estimator=self.estimator, context=self.root)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0] if len(errors) == 1 else ExceptionGroup("several callbacks failed at teardown", errors)

    def _call(self, name: str, task: Task) -> bool:
        stop = False
        for callback in self.callbacks:
            hook = getattr(callback, name)
            stop |= bool(hook(self.estimator, task, **_wanted_values(hook, self._values)))
        return stop

    def begin_epoch(self, epoch: int, **metrics: Any) -> None:
        """Announce that epoch number `epoch` begins."""
        if self.callbacks:
            root = self.root
            self._epoch = Task("epoch", epoch, 0, root.estimator_name, root, metrics, root.root_uuid)
            self._call("on_fit_task_begin", self._epoch)

    def steps_until_progress(self, step: int) -> float:
        """Steps from number `step` of the run to the next one that a callback wants to see; infinite if none does."""
        wanted = [steps - step % steps for steps in map(_every_steps, self.callbacks) if steps is not None]
        return min(wanted, default=inf)

    def progress(self, step: int, **metrics: Any) -> bool:
        """Announce where a long epoch has got to, `step` steps into the run; true if a callback asks to stop."""
        stop = False
        if self._epoch is not None:
            self._epoch.metrics.update(metrics, step=step)
            for callback in self.callbacks:
                hook = getattr(callback, "on_fit_progress", None)
                if hook is not None and step % (_every_steps(callback) or 1) == 0:
                    stop |= bool(hook(self.estimator, self._epoch))
        return stop

    def end_epoch(self, **metrics: Any) -> bool:
        """Announce that the epoch has ended; true if a callback asks to stop."""
        if self._epoch is None:
            return False
        self._epoch.metrics.update(metrics)
        return self._call("on_fit_task_end", self._epoch)


@dataclass
class Meter:
    """Steps, rows, seconds and losses of a run, for its callbacks."""

    announcer: Announcer
    began: float
    rows_before: int
    steps_before: int
    starts: np.ndarray
    rates: np.ndarray
    shown: int = 0
    stopped: bool = False

    def metrics(self, steps: int) -> dict[str, Any]:
        """What is known `steps` steps into the epoch, but for the loss."""
        rows, seconds = self.rows_before + int(self.starts[steps]), perf_counter() - self.began
        return {
            "step": self.steps_before + steps,
            "rows": rows,
            "seconds": seconds,
            "rows_per_second": rows / max(seconds, 1e-9),
            "rate": float(self.rates[max(steps, 1) - 1]),
        }

    def mean_loss(self, steps: int, losses: np.ndarray) -> float:
        """Mean over the rows of the first `steps` batches of the epoch."""
        return float((losses[:steps] * np.diff(self.starts[: steps + 1])).sum() / self.starts[steps])

    def steps_at_once(self, first: int, most: int) -> int:
        """How many of at most `most` steps may be trained before a callback wants to see where the epoch has got to."""
        return int(min(most, self.announcer.steps_until_progress(self.steps_before + first)))

    def show(self, steps: int, losses: np.ndarray) -> None:
        """Call those who want to know; the end of the epoch is told only to those who count steps."""
        counted = self.announcer.steps_until_progress(self.steps_before + steps - 1) == 1
        if steps > self.shown and (counted or steps < len(self.rates)):
            self.shown = steps
            metrics = self.metrics(steps)
            self.stopped |= self.announcer.progress(**metrics, loss=self.mean_loss(steps, losses))
