"""What the first layer looks for: the weights of each of its units as an image of the inputs' shape."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isqrt, prod, sqrt
from typing import Any

import numpy as np

from pymlp.displays.axes import DIVERGING, axes_or_new, fitted_network

# the part of the weights that the colours tell apart
SHOWN_QUANTILE = 0.995


class FirstLayerDisplay:
    """The first layer's weights as images side by side, all on one scale, positive blue and negative red.

    Parameters
    ----------
    weights : ndarray of shape (inputs, units)
        A column for each image, in the order they are drawn.
    shape : tuple of int
        ``(height, width)`` of an image, or ``(height, width, 3)`` for inputs that are pixels in red, green and blue.
    units : sequence of int
        Which units of the layer the columns are.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure
    image_ : ndarray
        All images with gaps (NaN) between them, as drawn.
    """

    def __init__(self, weights: np.ndarray, *, shape: tuple[int, ...], units: Sequence[int]) -> None:
        self.weights = weights
        self.shape = tuple(shape)
        self.units = tuple(units)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        shape: tuple[int, ...] | None = None,
        units: int | Sequence[int] = 64,
        ax: Any = None,
        **image_options: Any,
    ) -> FirstLayerDisplay:
        """Draw the first layer of a fitted estimator.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Fitted to images, one in each row.
        shape : tuple of int, optional
            Shape of an image, see the class; by default a square, if the number of inputs is one.
        units : int or sequence of int, default=64
            So many units of largest weight (root of the sum of squares), largest first; or the units themselves.
        ax, **image_options
            See `plot`.

        Returns
        -------
        FirstLayerDisplay

        Raises
        ------
        ValueError
            The estimator is not fitted, the inputs do not make up such an image, or there is no such unit.
        ImportError
            matplotlib is missing.
        """
        weights = fitted_network(estimator).weights(estimator.params_)[0]
        inputs, outputs = weights.shape
        if shape is None:
            side = isqrt(inputs)
            if side * side != inputs:
                raise ValueError(f"shape must say how {inputs} inputs make up an image, as they are no square")
            shape = (side, side)
        if len(shape) not in (2, 3) or prod(shape) != inputs or tuple(shape)[2:] not in ((), (3,)):
            raise ValueError(
                f"shape must be (height, width) or (height, width, 3) for {inputs} inputs, but it is {tuple(shape)}"
            )
        if isinstance(units, (int, np.integer)):
            if units < 1:
                raise ValueError(f"units must be at least 1, got {units}")
            # a stable sort, so that equal units keep their order
            chosen = np.argsort(-np.linalg.norm(weights, axis=0), kind="stable")[:units]
        else:
            chosen = np.array(units, dtype=np.int64)
            if chosen.size == 0 or chosen.min() < 0 or chosen.max() >= outputs:
                raise ValueError(f"units must lie between 0 and {outputs - 1} and be at least one, got {units!r}")
        display = cls(weights[:, chosen], shape=tuple(shape), units=chosen.tolist())
        return display.plot(ax, **image_options)

    def plot(self, ax: Any = None, **image_options: Any) -> FirstLayerDisplay:
        """Draw.

        Parameters
        ----------
        ax : Axes, optional
        **image_options
            See `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        self
        """
        columns = ceil(sqrt(len(self.units) * self.shape[0] / self.shape[1]))
        rows = ceil(len(self.units) / columns)
        self.ax_ = axes_or_new(ax, (6.4, 0.3 + 5.4 * rows * self.shape[0] / (columns * self.shape[1])))
        self.figure_ = self.ax_.figure
        self.image_ = self._mosaic(rows, columns)
        # a few weights far larger than the rest would leave all others pale
        limit = float(np.quantile(np.abs(self.weights), SHOWN_QUANTILE)) or 1.0
        if len(self.shape) == 2:
            options = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit, "interpolation": "nearest", **image_options}
            picture = self.ax_.imshow(self.image_, **options)
            self.figure_.colorbar(picture, ax=self.ax_, label="weight", extend="both", shrink=0.6, pad=0.02)
        else:
            grey = np.nan_to_num(np.clip(0.5 + 0.5 * self.image_ / limit, 0.0, 1.0), nan=1.0)
            self.ax_.imshow(grey, **{"interpolation": "nearest", **image_options})
        self.ax_.set_axis_off()
        return self

    def _mosaic(self, rows: int, columns: int) -> np.ndarray:
        height, width, *colours = self.shape
        # a gap must be seen, but not take the space of an image
        gap = max(1, min(height, width) // 10)
        mosaic = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *colours), np.nan)
        for position, weights in enumerate(self.weights.T):
            top, left = (position // columns) * (height + gap), (position % columns) * (width + gap)
            mosaic[top : top + height, left : left + width] = weights.reshape(self.shape)
        return mosaic
