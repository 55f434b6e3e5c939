"""A network in place of an expensive function: learn it from samples, then search the network for the lowest point.

`scipy.optimize.minimize` asks for a value and a gradient at each point; the network gives both in microseconds,
the gradient by `input_gradient`.  A constraint stays what it is: here the search must stay within a disc.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot
from scipy import optimize

from pymlp import MLPRegressor
from pymlp.examples.picture import path_from, show

CENTRE, RADIUS = np.array([2.5, 7.5]), 6.0


def branin(X: np.ndarray) -> np.ndarray:
    """Branin's function (1972) of points (rows, 2): three lowest points of equal height in [-5, 10] x [0, 15]."""
    a, b = X[:, 0], X[:, 1]
    return (b - 5.1 / (4 * np.pi**2) * a**2 + 5 / np.pi * a - 6) ** 2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Sample, fit, search from several starts, print what was found, draw."""
    path = path_from(__doc__, arguments)
    random = np.random.RandomState(0)
    low, high = np.array([-5.0, 0.0]), np.array([10.0, 15.0])
    samples = random.uniform(low, high, (400, 2))
    values = branin(samples)
    # the network sees inputs and values of about unit size; the chain rule brings its gradient back
    scale, offset, spread = (high - low) / 4, values.mean(), values.std()
    model = MLPRegressor(
        hidden_layer_sizes=(24, 24),
        activation="tanh",
        solver="lbfgs",
        alpha=1e-6,
        max_iter=5000,
        max_fun=6000,
        tol=1e-6,
        random_state=0,
    )
    model.fit((samples - CENTRE) / scale, (values - offset) / spread)

    def value(point: np.ndarray) -> float:
        return offset + spread * float(model.predict([(point - CENTRE) / scale])[0])

    def gradient(point: np.ndarray) -> np.ndarray:
        return spread * model.input_gradient([(point - CENTRE) / scale])[0] / scale

    disc = {"type": "ineq", "fun": lambda point: RADIUS**2 - ((point - CENTRE) ** 2).sum()}
    starts = CENTRE + random.uniform(-4.5, 4.5, (6, 2))
    figure, ax = pyplot.subplots(figsize=(7.2, 6.2), layout="constrained")
    print("start              found               the network says   the function says")
    found = []
    for start in starts:
        way = [start]
        result = optimize.minimize(
            value,
            start,
            jac=gradient,
            method="SLSQP",
            constraints=[disc],
            callback=lambda point, way=way: way.append(point),
        )
        found.append(result)
        print(f"{_text(start)}   {_text(result.x)}   {result.fun:16.4f}   {branin(result.x[None])[0]:17.4f}")
        ax.plot(*np.transpose(way), "o-", color="#cc3311", markersize=3, linewidth=1.2, zorder=3)
    best = min(found, key=lambda result: result.fun)
    print(f"lowest: {_text(best.x)} (the function's lowest value anywhere is 0.3979)")

    grid = np.stack(np.meshgrid(np.linspace(low[0], high[0], 200), np.linspace(low[1], high[1], 200)), axis=-1)
    learnt = offset + spread * model.predict((grid.reshape(-1, 2) - CENTRE) / scale).reshape(200, 200)
    levels = np.geomspace(1, 300, 14)
    shades = ax.contourf(grid[..., 0], grid[..., 1], learnt, levels=levels, cmap="Blues_r", norm="log", extend="both")
    ax.contour(
        grid[..., 0],
        grid[..., 1],
        branin(grid.reshape(-1, 2)).reshape(200, 200),
        levels=levels,
        colors="white",
        linewidths=0.6,
    )
    ax.add_patch(pyplot.Circle(CENTRE, RADIUS, fill=False, color="#333333", linestyle="--"))
    ax.plot(*samples.T, ".", color="#333333", markersize=2)
    ax.plot(*best.x, "*", color="#ffdd00", markeredgecolor="black", markersize=15, zorder=4)
    ax.set(aspect="equal", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    ax.set_title("shades: the network, lines: the function, red: searches in the disc")
    figure.colorbar(shades, ax=ax, format="%.0f", shrink=0.8)
    show(figure, path)


def _text(point: np.ndarray) -> str:
    return f"({point[0]:6.3f}, {point[1]:6.3f})"


if __name__ == "__main__":
    main()
