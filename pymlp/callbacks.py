"""Callbacks: scikit-learn 1.9's protocol, called here without needing scikit-learn.

A callback is any object with ``setup(estimator, context)``, ``on_fit_task_begin(estimator, context)``,
``on_fit_task_end(estimator, context)`` (true stops the training) and ``teardown(estimator, context)``; ``context`` is a
`Task`.  The whole of the training is the root task ("fit"); each epoch (an iteration, with lbfgs) is a subtask
("epoch").  As in scikit-learn, the two ``on_fit_task`` methods may ask for more by keyword-only arguments named X, y,
metadata or fitted_estimator.  One method goes beyond the protocol and is optional: ``on_fit_progress(estimator,
context)``, called a few times a second inside a long epoch.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

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
        Of the root: ``epochs`` (most epochs of this run), ``rows`` (rows of one epoch).  Of an epoch: ``rows`` (trained
        on since the run began), ``seconds`` (since the run began), ``rows_per_second``, ``rate``, and once it has
        ended ``loss`` and ``validation_score`` (None without validation).
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
    """The callbacks as a list; TypeError if one lacks a method of the protocol or is a class."""
    callbacks = list(callbacks)
    for callback in callbacks:
        missing = [name for name in REQUIRED_METHODS if not callable(getattr(callback, name, None))]
        if isinstance(callback, type) or missing:
            reason = "is a class, not an instance" if isinstance(callback, type) else f"lacks {', '.join(missing)}"
            raise TypeError(f"callbacks must follow the callback protocol, but {callback!r} {reason}")
    return callbacks


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
        self.root = Task("fit", 0, epochs, name, metrics={"epochs": epochs, "rows": rows})
        nothing = dict.fromkeys(("X", "y", "metadata", "fitted_estimator"), lambda: None)
        self._values = {**nothing, **(values or {})}
        self._epoch: Task | None = None
        self._set_up: list[Any] = []
        self._own_callbacks = self.callbacks
        outer = getattr(estimator, "_parent_callback_ctx", None)
        if outer is not None:
            # inside a meta-estimator of scikit-learn: this run is one of its tasks, and callbacks it passed down are
            # set up and torn down by it
            self.root.parent, self.root.task_id, self.root.root_uuid = outer.parent, outer.task_id, outer.root_uuid
            self.root.source_estimator_name, self.root.source_task_name = outer.estimator_name, outer.task_name
            self._own_callbacks = [each for each in self.callbacks if not hasattr(each, "max_propagation_depth")]

    def __enter__(self) -> Announcer:
        try:
            for callback in self._own_callbacks:
                self._set_up.append(callback)
                callback.setup(estimator=self.estimator, context=self.root)
            self._call("on_fit_task_begin", self.root)
        except BaseException:
            self._tear_down()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None:
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

    def progress(self, **metrics: Any) -> None:
        """Announce where a long epoch has got to."""
        if self._epoch is not None:
            self._epoch.metrics.update(metrics)
            for callback in self.callbacks:
                hook = getattr(callback, "on_fit_progress", None)
                if hook is not None:
                    hook(self.estimator, self._epoch)

    def end_epoch(self, **metrics: Any) -> bool:
        """Announce that the epoch has ended; true if a callback asks to stop."""
        if self._epoch is None:
            return False
        self._epoch.metrics.update(metrics)
        return self._call("on_fit_task_end", self._epoch)
