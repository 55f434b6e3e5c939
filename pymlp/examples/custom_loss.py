"""A loss of one's own: Cauchy's, which outliers do not move, beside the squared error, which they do.

A loss is a function of targets and outputs, both of shape (rows, outputs), that gives the value of each row and the
gradient by the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot

from pymlp import MLPRegressor
from pymlp.examples.picture import path_from, show

# residuals much larger than this count for little
SCALE = 0.2


def cauchy(y: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of one plus the squared residual: its gradient falls again for large ones."""
    residual = (output - y) / SCALE
    return np.log1p(residual**2).sum(axis=1), 2 * residual / (1 + residual**2) / SCALE


def truth(x: np.ndarray) -> np.ndarray:
    """What the points would be without noise."""
    return np.sin(2 * x) + 0.5 * x


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit with both losses, print their errors, draw."""
    path = path_from(__doc__, arguments)
    random = np.random.RandomState(0)
    x = random.uniform(-3, 3, 500)
    y = truth(x) + random.normal(0, 0.1, 500)
    outliers = random.choice(500, 100, replace=False)
    y[outliers] += random.uniform(1, 5, 100)

    figure, ax = pyplot.subplots(figsize=(8.6, 5), layout="constrained")
    axis = np.linspace(-3, 3, 400)
    ax.plot(x, y, ".", color="#777777", markersize=4)
    ax.plot(axis, truth(axis), color="black", linewidth=4, alpha=0.25, label="truth")
    print("loss            root mean squared distance from the truth")
    for name, loss, colour in (("squared_error", "squared_error", "#b2182b"), ("cauchy", cauchy, "#2166ac")):
        model = MLPRegressor(
            loss=loss, hidden_layer_sizes=(40, 40), activation="tanh", learning_rate_init=0.005, max_iter=2000,
            n_iter_no_change=40, random_state=0,
        )  # fmt: skip
        found = model.fit(x[:, None], y).predict(axis[:, None])
        print(f"{name:<14}   {np.sqrt(np.mean((found - truth(axis)) ** 2)):.3f}")
        ax.plot(axis, found, color=colour, linewidth=2, label=name)
    ax.set(xlim=(-3, 3), xlabel="x", ylabel="y")
    ax.legend(frameon=False)
    show(figure, path)


if __name__ == "__main__":
    main()
