"""Ending a hopeless fit early, in a search by Optuna: a callback that reports each epoch and asks whether to go on."""

from __future__ import annotations

from typing import Any

# what may be watched, and whether a study that reports it minimises or maximises
DIRECTIONS = {"loss": "minimize", "validation_score": "maximize"}


class OptunaPruning:
    """Reports each epoch to a trial of Optuna, and ends the fit where its pruner says so.

    The fit then raises `optuna.TrialPruned`, which is how a study learns of it; the estimator is as it was before.
    (Akiba, Sano, Yanase, Ohta and Koyama, "Optuna: A next-generation hyperparameter optimization framework", 2019.)

    Parameters
    ----------
    trial : optuna.trial.Trial
    monitor : {"validation_score", "loss"}, default="validation_score"
        What is reported.  The score needs rows to validate on (``early_stopping=True``) and a study that maximises, the
        training loss one that minimises.

    Raises
    ------
    ImportError
        Optuna is missing; the message names the pip command.
    ValueError
        `monitor` is unknown; at fit: it does not suit the direction of the study, or there is no validation score.

    Examples
    --------
    >>> from pymlp import MLPClassifier, OptunaPruning
    >>> def objective(trial):
    ...     model = MLPClassifier(
    ...         alpha=trial.suggest_float("alpha", 1e-6, 1.0, log=True), early_stopping=True, random_state=0
    ...     )
    ...     return model.set_callbacks(OptunaPruning(trial)).fit(X, y).best_validation_score_
    """

    def __init__(self, trial: Any, *, monitor: str = "validation_score") -> None:
        try:
            import optuna  # noqa: F401
        except ImportError as error:
            raise ImportError("the package optuna is missing; run: pip install optuna") from error
        if monitor not in DIRECTIONS:
            raise ValueError(f"monitor={monitor!r} is not one of {', '.join(DIRECTIONS)}")
        self.trial = trial
        self.monitor = monitor

    def setup(self, estimator: Any, context: Any) -> None:
        """Check that the study wants what is reported."""
        study = getattr(self.trial, "study", None)  # a fixed trial, to try an objective once, has none
        wanted = DIRECTIONS[self.monitor]
        if study is not None and study.direction.name.lower() != wanted:
            raise ValueError(
                f"monitor={self.monitor!r} needs a study with direction={wanted!r}, "
                f"this one has {study.direction.name.lower()!r}"
            )

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing is known before an epoch has ended."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Report the epoch; raise TrialPruned if it shall be the last."""
        if context.task_name != "epoch":
            return
        from optuna import TrialPruned

        value, epoch = context.metrics.get(self.monitor), context.task_id + 1
        if value is None:
            raise ValueError(
                f"monitor={self.monitor!r}, but this fit has no validation score: set early_stopping=True, or watch "
                "monitor='loss'"
            )
        self.trial.report(value, epoch)
        if self.trial.should_prune():
            raise TrialPruned(f"pruned after epoch {epoch} with {self.monitor} {value:g}")

    def teardown(self, estimator: Any, context: Any) -> None:
        """Nothing is open."""
