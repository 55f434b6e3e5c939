"""How a training went: loss, validation score and rate over the epochs.

scikit-learn's `LearningCurveDisplay` is something else (the score over the number of training rows) and takes pymlp's
estimators too; hence the other name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pymlp.displays.axes import QUIET, axes_or_new

# the panels from top to bottom: their share of the height, and what stands beside them
PANELS = {"loss": (3.0, "loss"), "validation_score": (2.0, "validation score"), "rate": (1.0, "rate")}
GAP = 0.06


class TrainingCurveDisplay:
    """Loss over the epochs; below it the validation score, its best epoch marked, and the rate if it changes.

    Parameters
    ----------
    history : dict of str to list
        ``loss`` and, where known, ``validation_score``, ``validation_loss`` and ``rate``, a value for each epoch: the
        ``history_`` of an estimator, or the ``history`` of what `pymlp.train` returns.
    name : str, optional
        For the legend.

    Attributes
    ----------
    ax_ : Axes
        What was given to draw into.
    axes_ : dict of str to Axes
        The panels by name; draw another model into the same ones by ``ax=display.axes_``.
    figure_ : Figure

    Examples
    --------
    >>> from pymlp import TrainingCurveDisplay
    >>> display = TrainingCurveDisplay.from_estimator(first, name="adam")
    >>> TrainingCurveDisplay.from_estimator(second, name="sgd", ax=display.axes_)
    """

    def __init__(self, history: dict[str, list[Any]], *, name: str | None = None) -> None:
        self.history = history
        self.name = name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Any = None, **line_options: Any
    ) -> TrainingCurveDisplay:
        """Draw the curves of a fitted estimator.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Fitted.
        name, ax, **line_options
            See the class and `plot`.

        Returns
        -------
        TrainingCurveDisplay

        Raises
        ------
        ValueError
            The estimator is not fitted, or has no history.
        ImportError
            matplotlib is missing.
        """
        history = getattr(estimator, "history_", None)
        if not history or not history.get("loss"):
            raise ValueError(f"estimator must be fitted and have a history of its loss, got {estimator!r}")
        return cls(history, name=name).plot(ax, **line_options)

    def plot(self, ax: Any = None, **line_options: Any) -> TrainingCurveDisplay:
        """Draw.

        Parameters
        ----------
        ax : Axes, or dict of str to Axes, optional
            Where to draw: axes to divide into panels, or the panels of another display.
        **line_options
            For every line: see `matplotlib.axes.Axes.plot`.

        Returns
        -------
        self
        """
        curves = self._curves()
        held_out = curves.pop("validation_loss", None)
        if isinstance(ax, dict):
            self.axes_, self.ax_ = ax, ax["loss"]
        else:
            heights = [PANELS[name][0] for name in curves]
            self.ax_ = axes_or_new(ax, (6.4, 1.4 + 0.9 * sum(heights)))
            self.axes_ = _panels(self.ax_, list(curves))
        self.figure_ = self.ax_.figure
        options = {"linewidth": 1.6, **line_options}
        for name, values in curves.items():
            if name not in self.axes_:
                continue
            panel, epochs = self.axes_[name], np.arange(1, len(values) + 1)
            label = self.name
            best = None
            if name == "validation_score" and np.isfinite(values).any():
                best = int(np.nanargmax(values))
                label = f"best {values[best]:.4g}, epoch {best + 1}"
            (line,) = panel.plot(epochs, values, label=label, **options)
            # every curve of a display in one colour, also where a panel had fewer lines before
            options["color"] = line.get_color()
            if best is not None:
                panel.plot(best + 1, values[best], "o", color=line.get_color(), markersize=5)
                panel.legend(frameon=False, fontsize="small", loc="lower right")
        if held_out is not None:
            # on validation rows, and the same quantity: it belongs beside the loss
            label = "validation" if self.name is None else f"{self.name}, validation"
            self.axes_["loss"].plot(
                np.arange(1, len(held_out) + 1), held_out, **{**options, "linestyle": ":", "label": label}
            )
        if self.name is not None or held_out is not None:
            self.axes_["loss"].legend(frameon=False)
        return self

    def _curves(self) -> dict[str, np.ndarray]:
        curves = {}
        for name in (*PANELS, "validation_loss"):
            values = self.history.get(name) or ()
            if any(value is not None for value in values):
                curves[name] = np.array([np.nan if value is None else value for value in values], float)
        rates = curves.get("rate")
        if rates is not None and np.nanmin(rates) == np.nanmax(rates):
            del curves["rate"]
        return curves


def _panels(ax: Any, names: list[str]) -> dict[str, Any]:
    """Divide the axes into one panel for each name, below each other with the same epochs."""
    if len(names) > 1:
        ax.set_axis_off()
        ax.set(xlim=(0, 1), ylim=(0, 1))
    heights = np.array([PANELS[name][0] for name in names])
    heights *= (1 - GAP * (len(names) - 1)) / heights.sum()
    panels: dict[str, Any] = {}
    top = 1.0
    for name, height in zip(names, heights, strict=True):
        first = next(iter(panels.values()), None)
        panel = ax if len(names) == 1 else ax.inset_axes((0, top - height, 1, height), sharex=first)
        top -= height + GAP
        panel.set_ylabel(PANELS[name][1])
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color=QUIET, alpha=0.2)
        panel.tick_params(labelbottom=name == names[-1])
        panels[name] = panel
    panel.set_xlabel("epoch")
    panel.xaxis.get_major_locator().set_params(integer=True)
    return panels
