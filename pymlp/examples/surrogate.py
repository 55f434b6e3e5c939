"""A network in place of an expensive function: learn it from samples, then search the network for the lowest point.

`scipy.optimize.minimize` asks for a value and a gradient at each point; the network gives both in a fraction of a
millisecond, the gradient by `input_gradient`.  Constraints stay what they are: here the search must stay within a disc.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot
from scipy import optimize

from pymlp import MLPRegressor
from pymlp.examples.picture import path_from, show

# the search is in units of the disc's radius, from its centre; the samples reach beyond it
CENTRE, RADIUS, REACH = np.array([2.5, 7.5]), 6.0, 1.25


def branin(points: np.ndarray) -> np.ndarray:
    """Branin's function (1972) of points of shape (..., 2): three lowest points of equal height in its square."""
    a, b = np.moveaxis(CENTRE + RADIUS * points, -1, 0)
    return (b - 5.1 / (4 * np.pi**2) * a**2 + 5 / np.pi * a - 6) ** 2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Sample, fit, search from several starts, print what was found, draw."""
    path = path_from(__doc__, arguments)
    random = np.random.RandomState(0)
    samples = random.uniform(-REACH, REACH, (400, 2))
    heights = branin(samples)
    model = MLPRegressor(
        hidden_layer_sizes=(24, 24), activation="tanh", solver="lbfgs", alpha=1e-6, max_iter=5000, max_fun=6000,
        tol=1e-6, random_state=0,
    )  # fmt: skip
    model.fit(samples, heights / heights.std())

    disc = optimize.NonlinearConstraint(lambda point: point @ point, 0.0, 1.0, jac=lambda point: 2 * point)
    searches = []
    for start in random.uniform(-0.7, 0.7, (6, 2)):
        way = [start]
        result = optimize.minimize(
            lambda point: model.predict([point])[0],
            start,
            jac=lambda point: model.input_gradient([point])[0],
            hess=optimize.BFGS(),
            method="trust-constr",
            constraints=[disc],
            callback=lambda point, state, way=way: way.append(point.copy()),
            options={"initial_tr_radius": 0.1},
        )
        searches.append((result, np.array(way)))
    print("start             found             the network says  the function says")
    for result, way in searches:
        height = heights.std() * result.fun
        print(f"({_text(way[0])})  ({_text(result.x)})  {height:16.3f}  {branin(result.x):17.3f}")
    best = min((result for result, _ in searches), key=lambda result: result.fun)
    print(f"lowest: ({_text(best.x)}); the function's lowest value anywhere is 0.398")

    figure, ax = pyplot.subplots(figsize=(7.4, 6.2), layout="constrained")
    axis = np.linspace(-REACH, REACH, 200)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    learnt = heights.std() * model.predict(grid.reshape(-1, 2)).reshape(200, 200)
    levels = np.geomspace(1, 250, 13)
    shades = ax.contourf(axis, axis, learnt.clip(levels[0], levels[-1]), levels, cmap="Blues_r", norm="log")
    ax.contour(axis, axis, branin(grid), levels, colors="white", linewidths=0.6)
    ax.add_patch(pyplot.Circle((0, 0), 1, fill=False, color="#333333", linestyle="--"))
    ax.plot(*samples.T, ".", color="#333333", markersize=2)
    for _, way in searches:
        ax.plot(*way.T, "o-", color="#cc3311", markersize=3.5, linewidth=1.4)
    ax.plot(*best.x, "*", color="#ffdd00", markeredgecolor="black", markersize=16, zorder=4)
    ax.set(aspect="equal", title="shades: the network; lines: the function; red: searches within the disc")
    figure.colorbar(shades, ax=ax, format="%.0f", shrink=0.8)
    show(figure, path)


def _text(point: np.ndarray) -> str:
    return f"{point[0]:6.3f}, {point[1]:6.3f}"


if __name__ == "__main__":
    main()
