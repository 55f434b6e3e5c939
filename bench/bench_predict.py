"""Prediction: single rows and bulk calls, every backend and peer, against NumPy.

The reference of the ratios is NumPy written by hand over all rows at once; ``NumPy in chunks`` is the same code cut
into pieces that stay in the cache, which is what the engines do by themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import peers
import pytest
from cases import PREDICTION_CASES, SEED, PredictionCase
from interleaved import race, units_of_a_round
from numpy_forward import NumpyForward

from pymlp import Predictor, backends

CASES = PREDICTION_CASES
CHUNK = 2048
# `pymlp.Predictor` on the fastest backend: a new array an answer, and the same one each time
PREDICTOR_CALLS = ("predictor(x)", "predictor(x, out=)")
# rows of a call of ONNX Runtime where the rows are cut by hand
ONNX_CHUNK = 4096
ONNX_IN_CHUNKS = "ONNX Runtime in chunks"
# least rows of a case that a contestant cuts
CUT = {"NumPy in chunks": CHUNK, ONNX_IN_CHUNKS: ONNX_CHUNK}
PEERS = peers.prediction_peers()
if "ONNX Runtime" in PEERS:
    PEERS.append(ONNX_IN_CHUNKS)
# on the scores of a float64 reference, relative to the largest of them
TOLERANCE = 1e-5


def _scikit_learn_model(case: PredictionCase, params: np.ndarray):
    neural_network = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")
    model = neural_network.MLPRegressor(hidden_layer_sizes=case.widths[1:-1], random_state=SEED)
    model.partial_fit(np.zeros((2, case.widths[0]), params.dtype), np.zeros((2, case.widths[-1]), params.dtype))
    network = case.network(params.dtype.name)
    model.coefs_, model.intercepts_ = network.weights(params), network.biases(params)
    return model


def _program(contestant: str, case: PredictionCase, params: np.ndarray) -> Callable[[np.ndarray, np.ndarray], None]:
    network = case.network(params.dtype.name)
    if contestant == "NumPy":
        return NumpyForward(network, params, case.rows).run
    if contestant == "NumPy in chunks":
        return NumpyForward(network, params, CHUNK).run
    if contestant == "scikit-learn":
        model = _scikit_learn_model(case, params)

        def predict(X: np.ndarray, out: np.ndarray) -> None:
            out[...] = model.predict(X)

        return predict
    if contestant in PREDICTOR_CALLS:
        return Predictor(network, params)
    if contestant == ONNX_IN_CHUNKS:
        return peers.in_chunks(peers.new_forward("ONNX Runtime", network, params), ONNX_CHUNK)
    if contestant in PEERS:
        return peers.new_forward(contestant, network, params)
    plan = backends.get(contestant).Plan(network, min(case.rows, backends.BLOCK_ROWS))
    return lambda X, out: plan.forward(params, X, out)


def _repeated(program: Callable, X: np.ndarray, out: np.ndarray, calls: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(calls):
            program(X, out)

    return run


def _repeated_predictor(
    contestant: str, predictor: Predictor, X: np.ndarray, out: np.ndarray, calls: int
) -> Callable[[], None]:
    """As a user writes the calls: a function around them would take a good part of the time of a single row."""

    def run() -> None:
        for _ in range(calls):
            answer = predictor(X)
        out[...] = answer

    def run_into() -> None:
        for _ in range(calls):
            predictor(X, out=out)

    return run if contestant == "predictor(x)" else run_into


@pytest.mark.parametrize(
    "contestant", [*backends.available(), *PREDICTOR_CALLS, "NumPy in chunks", "scikit-learn", *PEERS]
)
def test_predict(benchmark, record_rate, case, dtype, contestant):
    benchmark.group = f"predict {case.name}"
    if case.rows <= CUT.get(contestant, 0):
        pytest.skip("the call is not longer than a chunk")
    params = case.network(dtype).initial_params(SEED)
    X = case.data(dtype)
    out = np.full((case.rows, case.widths[-1]), np.nan, dtype)
    reference_out = np.empty_like(out)
    program, reference = _program(contestant, case, params), _program("NumPy", case, params)
    repeated = functools.partial(_repeated_predictor, contestant) if contestant in PREDICTOR_CALLS else _repeated
    calls = units_of_a_round(benchmark, lambda calls: repeated(program, X, out, calls))
    reference_calls = units_of_a_round(benchmark, lambda calls: _repeated(reference, X, reference_out, calls))

    race(
        benchmark,
        repeated(program, X, out, calls),
        _repeated(reference, X, reference_out, reference_calls),
        calls,
        reference_calls,
    )

    exact = np.empty(out.shape)
    NumpyForward(case.network("float64"), params.astype(np.float64), CHUNK).run(X.astype(np.float64), exact)
    assert np.abs(out - exact).max() <= TOLERANCE * np.abs(exact).max()
    benchmark.extra_info.update(kind="predict", case=case.name, dtype=dtype, contestant=contestant, rows=case.rows)
    record_rate(benchmark, case.flops, dtype)
