"""Callbacks that write down how a training went: one line an epoch, to a CSV or JSON-lines file, or to TensorBoard.

A line is on the disk when its epoch has ended, so that a run can be watched from outside, and what a crash leaves is
complete up to the last epoch.  A log that cannot be written is an error, not a gap: the fit ends with an OSError and
the estimator is as it was before.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable
from typing import Any

# what a line says, in this order; None where a solver or a fit has no such thing
COLUMNS = ("epoch", "step", "rows", "seconds", "rate", "loss", "validation_score")


def _line_of(context: Any) -> dict[str, Any]:
    return {"epoch": context.task_id + 1, **{name: context.metrics.get(name) for name in COLUMNS[1:]}}


def _as_csv(values: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _as_json(line: dict[str, Any]) -> str:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in line.items()
    }
    return json.dumps(finite) + "\n"


class _TextFiles:
    """The open files of a log: one for each run, as one callback may serve several fits, also at the same time."""

    def __init__(self, path: str | os.PathLike[str], append: bool) -> None:
        self.path, self.append = path, append
        self._files: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # an estimator must stay picklable with its callbacks
        return {**self.__dict__, "_files": {}}

    def open(self, run: Any) -> bool:
        """Open the file of a run; true if it is empty."""
        # unbuffered: what could not be written is not tried again when the file is closed
        file = self._files[run] = open(self.path, "ab" if self.append else "wb", buffering=0)  # noqa: SIM115
        return file.tell() == 0

    def write(self, run: Any, text: str) -> None:
        """Write to the file of a run, at once."""
        data = text.encode()
        try:
            while data:
                data = data[self._files[run].write(data) :]
        except OSError as error:
            reason = f"the training log cannot be written: {error.strerror}"
            raise OSError(error.errno, reason, os.fspath(self.path)) from error

    def close(self, run: Any) -> None:
        """Close the file of a run; there is none where opening it failed."""
        file = self._files.pop(run, None)
        if file is not None:
            file.close()


class CSVLog:
    """A table of the training as comma-separated values, for spreadsheets and `pandas.read_csv`.

    The columns are epoch (from 1), step, rows, seconds (all three since the fit began), rate, loss and
    validation_score; empty where there is none.

    Parameters
    ----------
    path : path-like
    append : bool, default=False
        Add to a file that exists, without a second header; otherwise each fit begins it anew.

    Raises
    ------
    OSError
        At fit: the file cannot be opened or written.

    Examples
    --------
    >>> from pymlp import CSVLog, MLPClassifier
    >>> model = MLPClassifier().set_callbacks(CSVLog("training.csv"))
    """

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False) -> None:
        self._files = _TextFiles(path, append)

    def setup(self, estimator: Any, context: Any) -> None:
        """Open the file; write the header if it is empty."""
        if self._files.open(context.root_uuid):
            self._files.write(context.root_uuid, _as_csv(COLUMNS))

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing is known before an epoch has ended."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Write the epoch's line."""
        if context.task_name == "epoch":
            self._files.write(context.root_uuid, _as_csv(_line_of(context).values()))

    def teardown(self, estimator: Any, context: Any) -> None:
        """Close the file."""
        self._files.close(context.root_uuid)


class JSONLinesLog:
    """The training as one JSON object an epoch, for log collectors and `pandas.read_json(path, lines=True)`.

    The keys are the columns of `CSVLog`; null where there is no value or it is not finite, which JSON cannot say.

    Parameters
    ----------
    path : path-like
    append : bool, default=False
        Add to a file that exists; otherwise each fit begins it anew.

    Raises
    ------
    OSError
        At fit: the file cannot be opened or written.

    Examples
    --------
    >>> from pymlp import JSONLinesLog, MLPClassifier
    >>> model = MLPClassifier().set_callbacks(JSONLinesLog("training.jsonl", append=True))
    """

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False) -> None:
        self._files = _TextFiles(path, append)

    def setup(self, estimator: Any, context: Any) -> None:
        """Open the file."""
        self._files.open(context.root_uuid)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing is known before an epoch has ended."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Write the epoch's line."""
        if context.task_name == "epoch":
            self._files.write(context.root_uuid, _as_json(_line_of(context)))

    def teardown(self, estimator: Any, context: Any) -> None:
        """Close the file."""
        self._files.close(context.root_uuid)


class TensorBoardLog:
    """Curves of the training for TensorBoard: loss, validation score and rate over the epochs.

    Parameters
    ----------
    directory : path-like
        Each fit adds a file of events to it.
    every_steps : int, optional
        Also write the loss (the mean over the epoch so far) and the rate after every so many steps, as "step/loss" and
        "step/rate" over the steps.

    Raises
    ------
    ImportError
        Neither tensorboard nor tensorboardX is installed; the message names the pip command.

    Notes
    -----
    The writer is tensorboard's own, or tensorboardX's.  That of PyTorch needs tensorboard too, and takes seconds to
    import.

    Examples
    --------
    >>> from pymlp import MLPClassifier, TensorBoardLog
    >>> model = MLPClassifier().set_callbacks(TensorBoardLog("runs/first"))
    """

    def __init__(self, directory: str | os.PathLike[str], *, every_steps: int | None = None) -> None:
        _tensorboard_writer()
        self.directory = directory
        self.every_steps = every_steps
        self._writers: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_writers": {}}

    def setup(self, estimator: Any, context: Any) -> None:
        """Open a file of events."""
        self._writers[context.root_uuid] = _tensorboard_writer()(os.fspath(self.directory))

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing is written before an epoch has ended."""

    def on_fit_progress(self, estimator: Any, context: Any) -> None:
        """Write where the epoch has got to, if asked for."""
        if self.every_steps is not None:
            self._add(context, "step/", ("loss", "rate"), context.metrics["step"])

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Write the epoch's numbers."""
        if context.task_name == "epoch":
            self._add(context, "", ("loss", "validation_score", "rate"), context.task_id + 1)
            self._writers[context.root_uuid].flush()

    def teardown(self, estimator: Any, context: Any) -> None:
        """Close the file of events."""
        writer = self._writers.pop(context.root_uuid, None)
        if writer is not None:
            writer.close()

    def _add(self, context: Any, prefix: str, names: tuple[str, ...], position: int) -> None:
        for name in names:
            value = context.metrics.get(name)
            if value is not None:
                self._writers[context.root_uuid].add_scalar(prefix + name, value, position)


def _tensorboard_writer() -> Callable[[str], Any]:
    try:
        from tensorboard.summary import Writer

        return Writer
    except ImportError:
        try:
            from tensorboardX import SummaryWriter

            return SummaryWriter
        except ImportError as error:
            raise ImportError("the package tensorboard is missing; run: pip install tensorboard") from error
