"""A noisy regression with bands: one network gives several quantiles at once, and they never cross."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot

from pymlp import MLPRegressor, Quantile
from pymlp.examples.picture import path_from, show

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def noisy_wave(rows: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Points x of shape (rows, 1) and values whose noise grows with x and leans upwards."""
    x = random.uniform(0.0, 10.0, rows)
    return x[:, None], np.sin(x) + 0.3 * x + (0.1 + 0.08 * x) * (random.gamma(2.0, 1.0, rows) - 2.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, print how many new points lie below each band, draw."""
    path = path_from(__doc__, arguments)
    random = np.random.RandomState(0)
    x, y = noisy_wave(2000, random)
    model = MLPRegressor(
        loss=Quantile(LEVELS), hidden_layer_sizes=(50, 50), activation="tanh", learning_rate_init=0.003,
        max_iter=2000, n_iter_no_change=20, random_state=0, standardize=True,
    )  # fmt: skip
    model.fit(x, y)

    new_x, new_y = noisy_wave(20000, random)
    bands = model.predict(new_x)
    print("level   part of new points below")
    for level, band in zip(LEVELS, bands.T, strict=True):
        print(f"{level:5.2f}   {np.mean(new_y < band):24.3f}")
    print(f"bands that cross: {int((np.diff(bands, axis=1) < 0).sum())}")

    figure, ax = pyplot.subplots(figsize=(8.6, 5), layout="constrained")
    axis = np.linspace(0, 10, 400)
    lowest, low, middle, high, highest = model.predict(axis[:, None]).T
    ax.plot(x[:, 0], y, ".", color="#555555", markersize=2.5, alpha=0.6)
    ax.fill_between(axis, lowest, highest, color="#2166ac", alpha=0.18, linewidth=0, label="90 % of the points")
    ax.fill_between(axis, low, high, color="#2166ac", alpha=0.35, linewidth=0, label="50 %")
    ax.plot(axis, middle, color="#b2182b", linewidth=2, label="median")
    ax.set(xlim=(0, 10), xlabel="x", ylabel="y")
    ax.legend(loc="upper left", frameon=False)
    show(figure, path)


if __name__ == "__main__":
    main()
