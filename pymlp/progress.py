"""The progress bar: a callback that shows loss, validation score and rows per second while a model trains.

Estimators and `pymlp.train` are silent; whoever wants a bar asks for it (the command line does).  It goes to standard
error, so that what a program prints stays clean.
"""

from __future__ import annotations

import sys
from typing import Any, TextIO


class ProgressBar:
    """Live progress on one line, by tqdm.

    Parameters
    ----------
    file : text stream, optional
        Where to draw; by default standard error at the time of the training.
    leave : bool, default=True
        Keep the finished bar on the screen.

    Raises
    ------
    ImportError
        tqdm is missing; the message names the pip command.

    Examples
    --------
    >>> from pymlp import MLPClassifier, ProgressBar
    >>> model = MLPClassifier().set_callbacks(ProgressBar())
    """

    def __init__(self, *, file: TextIO | None = None, leave: bool = True) -> None:
        try:
            import tqdm  # noqa: F401
        except ImportError as error:
            raise ImportError("the package tqdm is missing; run: pip install tqdm") from error
        self.file = file
        self.leave = leave
        self._bars: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # bars hold open streams and locks; an estimator must stay picklable with its callbacks
        return {**self.__dict__, "_bars": {}}

    def setup(self, estimator: Any, context: Any) -> None:
        """Draw the empty bar."""
        from tqdm import tqdm

        metrics = context.metrics
        self._bars[context.root_uuid] = tqdm(
            total=metrics["epochs"] * metrics["rows"],
            desc=f"epoch 0/{metrics['epochs']}",
            unit=" rows",
            unit_scale=True,
            file=sys.stderr if self.file is None else self.file,
            leave=self.leave,
            # by its own estimate tqdm would skip most epochs after a slow first one
            miniters=1,
            dynamic_ncols=True,
        )

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Show the number of the epoch."""
        if context.task_name == "epoch":
            bar = self._bars[context.root_uuid]
            bar.set_description_str(f"epoch {context.task_id + 1}/{context.parent.metrics['epochs']}", refresh=False)

    def on_fit_progress(self, estimator: Any, context: Any) -> None:
        """Move the bar within a long epoch."""
        bar = self._bars[context.root_uuid]
        bar.update(context.metrics["rows"] - bar.n)

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Show the epoch's loss and validation score."""
        if context.task_name == "epoch":
            bar, metrics = self._bars[context.root_uuid], context.metrics
            shown = {"loss": f"{metrics['loss']:.4f}"}
            if metrics.get("validation_score") is not None:
                shown["validation"] = f"{metrics['validation_score']:.4f}"
            bar.set_postfix(shown, refresh=False)
            bar.update(metrics["rows"] - bar.n)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Leave or remove the bar."""
        bar = self._bars.pop(context.root_uuid, None)
        if bar is not None:  # Ctrl-C may have come before the bar was drawn
            bar.close()
