"""Derivatives of predictions: every column of the outputs by every input, beside the prediction itself.

The reference of the ratios is the prediction alone, by the same predictor: how many predictions a Jacobian costs.
PyTorch's is ``vmap(jacrev(...))``, compiled by nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
from cases import SEED, PredictionCase
from interleaved import race, units_of_a_round

from pymlp import Predictor, backends, config_context

CASES = (
    PredictionCase("one row, 8-32-32-1", (8, 32, 32, 1), 1),
    PredictionCase("one row, 4-64-64-2", (4, 64, 64, 2), 1),
    PredictionCase("one row, 784-512-512-10", (784, 512, 512, 10), 1),
    PredictionCase("bulk 20-64-64-2", (20, 64, 64, 2), 20_000),
)
PEERS = ["PyTorch"] if find_spec("torch") else []
# relative to the largest derivative
TOLERANCE = 1e-4


def _program(contestant: str, case: PredictionCase, params: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    network = case.network(params.dtype.name)
    if contestant == "PyTorch":
        from peer_torch import jacobian

        return jacobian(network, params)
    with config_context(backend=contestant):
        return Predictor(network, params).jacobian


def _repeated(program: Callable[[np.ndarray], np.ndarray], X: np.ndarray, calls: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(calls):
            program(X)

    return run


@pytest.mark.parametrize("contestant", [*backends.available(), *PEERS])
def test_jacobian(benchmark, record_rate, case, dtype, contestant):
    benchmark.group = f"jacobian {case.name}"
    params = case.network(dtype).initial_params(SEED)
    X = case.data(dtype)
    program, reference = _program(contestant, case, params), Predictor(case.network(dtype), params)
    calls = units_of_a_round(benchmark, lambda calls: _repeated(program, X, calls))
    reference_calls = units_of_a_round(benchmark, lambda calls: _repeated(reference, X, calls))

    race(benchmark, _repeated(program, X, calls), _repeated(reference, X, reference_calls), calls, reference_calls)

    with config_context(backend="numpy"):
        few = X[:50].astype(np.float64)
        exact = Predictor(case.network("float64"), params.astype(np.float64)).jacobian(few)
    assert np.abs(program(X)[:50] - exact).max() <= TOLERANCE * np.abs(exact).max()
    benchmark.extra_info.update(kind="jacobian", case=case.name, dtype=dtype, contestant=contestant, rows=case.rows)
    # forward, and back for each column
    record_rate(benchmark, case.flops * (1 + case.widths[-1]), dtype)
