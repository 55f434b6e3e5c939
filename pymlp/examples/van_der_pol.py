"""A network inside a differential equation: learn an oscillator from measured paths, then let it run a thousand times.

The loop that solves the equation is compiled by Numba, and calls the network through `Predictor.as_numba`, without any
Python.  The same loop in Python, around pymlp's predictor, PyTorch and scikit-learn, shows what that brings.  Times
are this machine's, and the only thing that differs from run to run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from time import perf_counter

import numpy as np
from matplotlib import pyplot
from matplotlib.collections import LineCollection
from numba import njit, prange

from pymlp import Adam, Cosine, MLPRegressor, Predictor
from pymlp.examples.picture import path_from, show

STIFFNESS = 1.5
REACH = 3.0
PATHS, STEPS, STEP = 1000, 600, 0.02
# the loops in Python run over so much of it, and their times are multiplied
FEW_PATHS, FEW_STEPS = 2, 40
DRAWN = 150


def oscillator(state: np.ndarray, out: np.ndarray) -> None:
    """Rates of van der Pol's oscillator ("On relaxation-oscillations", 1926) in states (..., position and velocity)."""
    position, velocity = state[..., 0], state[..., 1]
    out[..., 0] = velocity
    out[..., 1] = STIFFNESS * (1 - position**2) * velocity - position


def solve(rates: Callable, states: np.ndarray, step: float) -> None:
    """Fill `states` (steps + 1, ...) from the first on, by the Runge-Kutta method of order 4; ``rates(state, out)``."""
    slopes = np.empty((4, *states.shape[1:]))
    for n in range(len(states) - 1):
        state = states[n]
        rates(state, slopes[0])
        rates(state + step / 2 * slopes[0], slopes[1])
        rates(state + step / 2 * slopes[1], slopes[2])
        rates(state + step * slopes[2], slopes[3])
        states[n + 1] = state + step / 6 * (slopes[0] + 2 * slopes[1] + 2 * slopes[2] + slopes[3])


# what takes the network as an argument is compiled once, and kept
compiled_solve = njit(cache=True)(solve)


@njit(parallel=True, cache=True)
def solve_all(rates: Callable, paths: np.ndarray, step: float) -> None:
    """Fill `paths` (paths, steps + 1, 2) from the first state of each on, shared out among the cores."""
    for i in prange(len(paths)):
        compiled_solve(rates, paths[i], step)


def started(starts: np.ndarray, steps: int) -> np.ndarray:
    """Paths (starts, steps + 1, 2) of which only the starts are known."""
    paths = np.empty((len(starts), steps + 1, 2))
    paths[:, 0] = starts
    return paths


def in_step(rates: Callable, paths: np.ndarray, step: float) -> None:
    """Fill `paths` (paths, steps + 1, 2) in Python, all of them one step after the other."""
    states = np.ascontiguousarray(paths.swapaxes(0, 1))
    solve(rates, states, step)
    paths[:] = states.swapaxes(0, 1)


def measured(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """States (rows, 2) along short paths, and their rates as differences of the states around them tell them."""
    seen = started(random.uniform(-REACH, REACH, (200, 2)), 50)
    in_step(oscillator, seen, STEP)
    rates = (8 * (seen[:, 3:-1] - seen[:, 1:-3]) - (seen[:, 4:] - seen[:, :-4])) / (12 * STEP)
    return seen[:, 2:-2].reshape(-1, 2), rates.reshape(-1, 2)


def peers(model: MLPRegressor) -> dict[str, Callable]:
    """The same network in the libraries that are installed, as ``rates(state, out)`` of a state or of many."""
    found = {}
    if find_spec("torch") is not None:
        import torch

        layers = []
        for weight, bias in zip(model.coefs_, model.intercepts_, strict=True):
            layer = torch.nn.Linear(*weight.shape, dtype=torch.float64)
            layer.weight.data, layer.bias.data = torch.from_numpy(weight.T.copy()), torch.from_numpy(bias.copy())
            layers += [layer, torch.nn.Tanh()]
        chain = torch.nn.Sequential(*layers[:-1])

        def by_torch(state: np.ndarray, out: np.ndarray) -> None:
            with torch.inference_mode():
                out[:] = chain(torch.from_numpy(state)).numpy()

        found["PyTorch"] = by_torch
    if find_spec("sklearn") is not None:
        from sklearn.neural_network import MLPRegressor as Twin

        twin = Twin(hidden_layer_sizes=model.hidden_layer_sizes, activation="tanh")
        twin.partial_fit(np.zeros((2, 2)), np.zeros((2, 2)))
        twin.coefs_, twin.intercepts_ = list(model.coefs_), list(model.intercepts_)

        def by_sklearn(state: np.ndarray, out: np.ndarray) -> None:
            out[:] = twin.predict(np.atleast_2d(state)).reshape(out.shape)

        found["scikit-learn"] = by_sklearn
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, fit, solve, print how far from the equation that is and how long it took, draw."""
    save = path_from(__doc__, arguments)
    random = np.random.RandomState(0)
    states, rates = measured(random)
    model = MLPRegressor(
        hidden_layer_sizes=(32, 32), activation="tanh", solver=Adam(), learning_rate=Cosine(), learning_rate_init=0.005,
        alpha=0.0, batch_size=100, max_iter=500, tol=0.0, n_iter_no_change=500, random_state=0, standardize=True,
        standardize_target=True,
    )  # fmt: skip
    model.fit(states, rates)
    predictor = Predictor(model)
    network = predictor.as_numba()

    starts = random.uniform(-REACH, REACH, (PATHS, 2))
    learnt, true = started(starts, STEPS), started(starts, STEPS)
    solve_all(network, learnt, STEP)
    in_step(oscillator, true, STEP)
    distance = np.linalg.norm(learnt - true, axis=2)
    print(f"R2 of the learnt rates: {model.score(states, rates):.6f}")
    print(
        f"distance of {PATHS} paths from the equation's: median {np.median(distance):.4f}, largest {distance.max():.3f}"
    )

    print(f"seconds for {PATHS} paths of {STEPS} steps    one by one    all in step")
    print(f"{'compiled loop, as_numba':38} {seconds_of(solve_all, network, learnt, STEP):13.3f}")
    for name, call in {"pymlp": predictor, **peers(model)}.items():
        few, begun = started(starts[:FEW_PATHS], STEPS), started(starts, FEW_STEPS)
        one_by_one = sum(seconds_of(solve, call, path, STEP) for path in few) * PATHS / FEW_PATHS
        together = seconds_of(in_step, call, begun, STEP) * STEPS / FEW_STEPS
        print(f"{'loop in Python, ' + name:38} {one_by_one:12.3f}* {together:13.3f}*")
        # they have computed the same
        np.testing.assert_allclose(few, learnt[:FEW_PATHS], atol=1e-6)
        np.testing.assert_allclose(begun, learnt[:, : FEW_STEPS + 1], atol=1e-9)
    print(f"* computed from the time of {FEW_PATHS} paths, or of {FEW_STEPS} steps")
    draw(save, learnt, true)


def seconds_of(function: Callable, *arguments: object) -> float:
    """Wall time of a call."""
    begun = perf_counter()
    function(*arguments)
    return perf_counter() - begun


def draw(save: str | None, learnt: np.ndarray, true: np.ndarray) -> None:
    """The paths in the phase plane, coloured by time, and three of them over time beside the equation's."""
    figure, (plane, graph) = pyplot.subplots(1, 2, figsize=(11.5, 5.4), width_ratios=(1.25, 1), layout="constrained")
    times = np.arange(STEPS + 1) * STEP
    for way in learnt[:DRAWN]:
        pieces = np.stack([way[:-1], way[1:]], axis=1)
        # what comes later is on the limit cycle
        lines = LineCollection(pieces, array=times[:-1], cmap="viridis", clim=(0, 5), linewidths=0.7, alpha=0.85)
        plane.add_collection(lines)
    plane.plot(*learnt[:DRAWN, 0].T, ".", color="#333333", markersize=3, label="starts")
    # one turn takes 7.2
    plane.plot(*true[0, -380:].T, "--", color="#cc3311", linewidth=2.2, label="the equation's limit cycle")
    plane.set(xlim=(-3.4, 3.4), ylim=(-5.6, 6.4), xlabel="position", ylabel="velocity")
    plane.set_title(f"{DRAWN} of {PATHS} paths of the network")
    plane.legend(loc="upper right", frameon=False, ncols=2)
    figure.colorbar(lines, ax=plane, label="time", shrink=0.8, extend="max")
    for number, colour in enumerate(("#0077bb", "#ee7733", "#009988")):
        graph.plot(times, learnt[number, :, 0], color=colour, linewidth=2.2)
        graph.plot(times, true[number, :, 0], "--", color="black", linewidth=0.9)
    graph.set(xlabel="time", ylabel="position", title="lines: the network; dashed: the equation")
    show(figure, save)


if __name__ == "__main__":
    main()
