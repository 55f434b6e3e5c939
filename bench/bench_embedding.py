"""A predictor inside other programs: Numba's loops, SciPy's integrals, the right-hand side of a differential equation.

Each race is between the engine called by its address and the same calls made from Python.  The loops are over single
rows, because that is what an embedding program asks for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from cases import PREDICTION_CASES, SEED
from interleaved import race, units_of_a_round

from pymlp import Network, Predictor, backends

numba = pytest.importorskip("numba", reason="Numba is not installed")
pytestmark = pytest.mark.skipif(backends.missing_reason("c") is not None, reason="no C engine")

ROW = next(case for case in PREDICTION_CASES if case.name == "one row, 4-64-64-2")
# rows of a loop, which fit into a second-level cache; a round goes over them again and again
ROWS = 10_000
# relative error of an integral over the low-level callable
TOLERANCE = 1e-12


@numba.njit(cache=True)
def each_row(f, X, out, times):
    """The answers to the rows of X, one after the other, so many times."""
    for _ in range(times):
        for i in range(len(X)):
            f(X[i], out[i])


@numba.njit(cache=True)
def each_row_with_gradient(f, X, out, gradient, times):
    """The same with gradients."""
    for _ in range(times):
        for i in range(len(X)):
            f(X[i], out[i], gradient[i])


@numba.njit(cache=True, parallel=True)
def each_row_in_parallel(f, X, out, times):
    """The same as the first, shared out among the cores."""
    for _ in range(times):
        for i in numba.prange(len(X)):
            f(X[i], out[i])


def _loop_in_python(call: Callable, X: np.ndarray, out: np.ndarray, times: int) -> None:
    rows = list(zip(X, out, strict=True))
    for _ in range(times):
        for x, answer in rows:
            call(x, out=answer)


def _gradients_in_python(call: Callable, X: np.ndarray, times: int) -> None:
    rows = list(X)
    for _ in range(times):
        for x in rows:
            call(x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loop", ["scalar loop", "prange", "scalar loop with gradient"])
def test_compiled_loop(benchmark, loop, dtype):
    """A call in compiled code against one in Python; a ``prange`` against the scalar loop."""
    benchmark.group = f"embedding: calls of 4-64-64-2, {dtype}"
    network = ROW.network(dtype)
    predictor = Predictor(network, network.initial_params(SEED))
    X = np.random.default_rng(SEED).standard_normal((ROWS, network.inputs)).astype(dtype)
    out, reference_out = np.full((ROWS, 2), np.nan, dtype), np.full((ROWS, 2), np.nan, dtype)
    gradient = np.full((ROWS, 2, network.inputs), np.nan, dtype)
    f, g = predictor.as_numba(), predictor.as_numba(value_and_gradient=True)
    contestant, reference = {
        "scalar loop": (
            functools.partial(each_row, f, X, out),
            functools.partial(_loop_in_python, predictor, X, reference_out),
        ),
        "prange": (
            functools.partial(each_row_in_parallel, f, X, out),
            functools.partial(each_row, f, X, reference_out),
        ),
        "scalar loop with gradient": (
            functools.partial(each_row_with_gradient, g, X, out, gradient),
            functools.partial(_gradients_in_python, predictor.value_and_gradient, X),
        ),
    }[loop]
    times = units_of_a_round(benchmark, lambda times: functools.partial(contestant, times))
    reference_times = units_of_a_round(benchmark, lambda times: functools.partial(reference, times))

    race(
        benchmark,
        functools.partial(contestant, times),
        functools.partial(reference, reference_times),
        times * ROWS,
        reference_times * ROWS,
    )

    assert out.tobytes() == predictor(X).tobytes()
    if loop == "scalar loop with gradient":
        assert gradient.tobytes() == predictor.jacobian(X).tobytes()
    else:
        assert out.tobytes() == reference_out.tobytes()
    benchmark.extra_info.update(kind="embedding", case="calls of 4-64-64-2", dtype=dtype, contestant=loop)


# how a user may write the integrand
INTEGRANDS = {
    "predictor([[x]])": lambda predictor: lambda x: predictor([[x]])[0, 0],
    "predictor(np.array([[x]]))": lambda predictor: lambda x: predictor(np.array([[x]]))[0, 0],
}


@pytest.mark.parametrize("integrand", INTEGRANDS)
@pytest.mark.parametrize("widths", [(1, 16, 1), (1, 64, 64, 1)], ids=str)
def test_integral(benchmark, widths, integrand):
    """`scipy.integrate.quad` over the low-level callable, against the same over a function of Python."""
    integrate = pytest.importorskip("scipy.integrate", reason="SciPy is not installed")
    name = "-".join(map(str, widths))
    benchmark.group = f"embedding: integral of {name}"
    network = Network.from_widths(widths, "tanh", dtype="float64")
    params = network.initial_params(SEED)
    # waves enough that the integral takes some hundred points
    network.weights(params)[0][:] *= 30
    predictor = Predictor(network, params)
    found = []

    def repeated(function: Callable, calls: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(calls):
                found.append(integrate.quad(function, -3.0, 3.0, limit=200)[0])

        return run

    fast, slow = predictor.as_low_level_callable(), INTEGRANDS[integrand](predictor)
    calls = units_of_a_round(benchmark, lambda calls: repeated(fast, calls))
    reference_calls = units_of_a_round(benchmark, lambda calls: repeated(slow, calls))

    race(benchmark, repeated(fast, calls), repeated(slow, reference_calls), calls, reference_calls)

    assert max(found) - min(found) <= TOLERANCE * abs(found[0])
    benchmark.extra_info.update(
        kind="embedding", case=f"integral of {name}", dtype="float64", contestant="low-level callable",
        reference=integrand, points=integrate.quad(fast, -3.0, 3.0, limit=200, full_output=1)[2]["neval"],
    )  # fmt: skip


# steps of a round of the loops in Python
SLOW_STEPS = 20


@pytest.fixture(scope="module")
def oscillator():
    """The example with its network, trained for a moment: that it is good does not matter here."""
    pytest.importorskip("matplotlib", reason="the example draws by matplotlib")
    pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    from pymlp import MLPRegressor
    from pymlp.examples import van_der_pol

    random = np.random.RandomState(SEED)
    states, rates = van_der_pol.measured(random)
    model = MLPRegressor(
        hidden_layer_sizes=(32, 32), activation="tanh", max_iter=20, standardize=True, random_state=SEED
    )
    with pytest.warns(Warning, match="Maximum iterations"):
        model.fit(states, rates)
    return van_der_pol, model, random.uniform(-van_der_pol.REACH, van_der_pol.REACH, (van_der_pol.PATHS, 2))


@pytest.mark.parametrize("way", ["one by one", "all in step"])
@pytest.mark.parametrize("peer", ["pymlp", "PyTorch", "scikit-learn"])
def test_right_hand_side(benchmark, oscillator, peer, way):
    """1,000 paths of an equation whose right-hand side is a network: the loop compiled, against the loop in Python."""
    example, model, starts = oscillator
    predictor = Predictor(model)
    calls = {"pymlp": predictor, **example.peers(model)}
    if peer not in calls:
        pytest.skip(f"{peer} is not installed")
    benchmark.group = f"embedding: right-hand side, {way}"
    paths = example.started(starts, example.STEPS)
    slow = example.started(starts if way == "all in step" else starts[:1], SLOW_STEPS)
    network = predictor.as_numba()
    example.solve_all(network, paths, example.STEP)

    def compiled() -> None:
        example.solve_all(network, paths, example.STEP)

    def repeated(rounds: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(rounds):
                if way == "all in step":
                    example.in_step(calls[peer], slow, example.STEP)
                else:
                    example.solve(calls[peer], slow[0], example.STEP)

        return run

    rounds = units_of_a_round(benchmark, repeated)
    race(benchmark, compiled, repeated(rounds), len(starts) * example.STEPS, rounds * len(slow) * SLOW_STEPS)

    np.testing.assert_allclose(slow, paths[: len(slow), : SLOW_STEPS + 1], rtol=1e-9, atol=1e-9)
    benchmark.extra_info.update(
        kind="embedding", case=f"right-hand side, {way}", dtype="float64", contestant="compiled loop", reference=peer
    )
