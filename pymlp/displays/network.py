"""The network as a drawing: units as nodes in columns, weights as lines between them.

A picture of thousands of lines says nothing, so a wide layer is thinned to its first and last units, and the number
of those left out stands between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pymlp.displays.axes import DIVERGING, NEGATIVE, POSITIVE, QUIET, axes_or_new, fitted_network

# a line of this part of the largest weight, or less, is not drawn
LEAST_SHARE = 0.02
WIDEST_LINE = 3.0


@dataclass(frozen=True)
class Column:
    """The nodes of one layer as they are drawn: their units, heights, and how many units were left out."""

    units: np.ndarray
    heights: np.ndarray
    left_out: int


class NetworkDisplay:
    """Nodes and weighted edges; line width and colour show a weight's size and sign, a node's colour its bias.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (n_parameters,)
    input_names, output_names : sequence of str, optional
        What stands beside the nodes of the first and of the last column.
    max_nodes : int, default=12
        Most nodes of a column; of wider layers only the first and last are drawn.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from pymlp import MLPClassifier, NetworkDisplay
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> display = NetworkDisplay.from_estimator(MLPClassifier((8, 5), solver="lbfgs", random_state=0).fit(X, y))
    """

    def __init__(
        self,
        network: Any,
        params: np.ndarray,
        *,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        max_nodes: int = 12,
    ) -> None:
        self.network = network
        self.params = params
        self.input_names = input_names
        self.output_names = output_names
        self.max_nodes = max_nodes

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        max_nodes: int = 12,
        ax: Any = None,
    ) -> NetworkDisplay:
        """Draw the network of a fitted estimator.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Fitted.
        input_names, output_names : sequence of str, optional
            By default the names of the features it was fitted to, and its classes.
        max_nodes, ax
            See the class and `plot`.

        Returns
        -------
        NetworkDisplay

        Raises
        ------
        ValueError
            The estimator is not fitted, or names are too few or too many, or `max_nodes` is less than 2.
        ImportError
            matplotlib is missing.
        """
        network = fitted_network(estimator)
        if input_names is None:
            input_names = getattr(estimator, "feature_names_in_", None)
        classes = getattr(estimator, "classes_", ())
        if output_names is None and len(classes) == network.outputs:
            output_names = [str(label) for label in classes]
        display = cls(
            network, estimator.params_, input_names=input_names, output_names=output_names, max_nodes=max_nodes
        )
        return display.plot(ax)

    def plot(self, ax: Any = None) -> NetworkDisplay:
        """Draw.

        Parameters
        ----------
        ax : Axes, optional

        Returns
        -------
        self
        """
        network = self.network
        if self.max_nodes < 2:
            raise ValueError(f"max_nodes must be at least 2, got {self.max_nodes!r}")
        for argument, names, units in (
            ("input_names", self.input_names, network.inputs),
            ("output_names", self.output_names, network.outputs),
        ):
            if names is not None and len(names) != units:
                raise ValueError(f"{argument} must be {units} names, got {len(names)}")
        columns = [_column(width, self.max_nodes) for width in network.widths]
        tallest = max(len(column.heights) for column in columns)
        self.ax_ = axes_or_new(ax, (2.2 + 1.9 * len(columns), 1.6 + 0.36 * max(tallest, 5)))
        self.figure_ = self.ax_.figure
        weights, biases = network.weights(self.params), network.biases(self.params)
        for position, weight in enumerate(weights):
            self._draw_edges(position, columns[position], columns[position + 1], weight)
        limit = max(float(np.abs(bias).max()) for bias in biases) or 1.0
        for position, column in enumerate(columns):
            self._draw_nodes(position, column, biases[position - 1] if position else None, limit)
        self._write_names(columns)
        self.ax_.set_axis_off()
        self._draw_key()
        return self

    def _draw_edges(self, position: int, left: Column, right: Column, weight: np.ndarray) -> None:
        from matplotlib.collections import LineCollection

        drawn = weight[np.ix_(left.units, right.units)].astype(float)
        # each layer has its own scale, as weights shrink with the width of a layer
        share = drawn / (np.abs(drawn).max() or 1.0)
        order = [edge for edge in np.argsort(np.abs(share), axis=None) if abs(share.flat[edge]) > LEAST_SHARE]
        lines, colours, widths = [], [], []
        for edge in order:
            start, end = np.unravel_index(edge, share.shape)
            size = abs(share[start, end])
            lines.append([(position, left.heights[start]), (position + 1, right.heights[end])])
            colours.append((POSITIVE if share[start, end] > 0 else NEGATIVE, 0.12 + 0.78 * size))
            widths.append(0.3 + (WIDEST_LINE - 0.3) * size)
        self.ax_.add_collection(LineCollection(lines, colors=colours, linewidths=widths, zorder=1))

    def _draw_nodes(self, position: int, column: Column, bias: np.ndarray | None, limit: float) -> None:
        colours = np.zeros(len(column.units)) if bias is None else bias[column.units]
        self.ax_.scatter(
            np.full(len(column.units), position),
            column.heights,
            s=130,
            c=colours,
            cmap=DIVERGING,
            vmin=-limit,
            vmax=limit,
            edgecolors="#333333",
            linewidths=0.9,
            zorder=2,
        )
        if column.left_out:
            self.ax_.text(
                position,
                0.0,
                f"{column.left_out} more",
                ha="center",
                va="center",
                fontsize="small",
                color="#333333",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
                zorder=3,
            )

    def _write_names(self, columns: list[Column]) -> None:
        ax, last = self.ax_, len(columns) - 1
        for names, position, shift, side in (
            (self.input_names, 0, -11, "right"),
            (self.output_names, last, 11, "left"),
        ):
            if names is None:
                continue
            column = columns[position]
            for unit, height in zip(column.units, column.heights, strict=True):
                ax.annotate(
                    str(names[unit]),
                    (position, height),
                    xytext=(shift, 0),
                    textcoords="offset points",
                    ha=side,
                    va="center",
                    fontsize="small",
                )
        bottom = min(column.heights.min() for column in columns)
        captions = ["inputs", *(_caption(layer) for layer in self.network.layers)]
        for position, (caption, width) in enumerate(zip(captions, self.network.widths, strict=True)):
            ax.text(position, bottom - 0.9, f"{width}\n{caption}", ha="center", va="top", fontsize="small", color=QUIET)
        ax.set(xlim=(-0.25, last + 0.25), ylim=(bottom - 2.2, -bottom + 0.5))

    def _draw_key(self) -> None:
        from matplotlib.lines import Line2D

        lines = [
            Line2D([], [], color=POSITIVE, linewidth=WIDEST_LINE, label="positive"),
            Line2D([], [], color=NEGATIVE, linewidth=WIDEST_LINE, label="negative"),
        ]
        self.ax_.legend(
            handles=lines,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=2,
            frameon=False,
            fontsize="small",
            title="weights (lines) and biases (nodes)",
            title_fontsize="small",
        )


def _column(width: int, most: int) -> Column:
    """The nodes of a layer, centred at height 0; where some are left out there is a gap in the middle."""
    if width <= most:
        return Column(np.arange(width), (width - 1) / 2 - np.arange(width), 0)
    half = most // 2
    above = np.arange(half)
    heights = half + 0.5 - above
    units = np.concatenate([above, width - 1 - above[::-1]])
    return Column(units, np.concatenate([heights, -heights[::-1]]), width - 2 * half)


def _caption(layer: Any) -> str:
    words = [f"parametric {layer.activation}" if layer.parametric else layer.activation]
    if layer.normalization is not None:
        words.insert(0, f"{layer.normalization} norm")
    if layer.dropout:
        words.append(f"dropout {layer.dropout:g}")
    if layer.residual:
        words.append("+ inputs")
    return "\n".join(words)
