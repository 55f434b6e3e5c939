"""The formulas of pymlp.memory: never below what is taken, not far above, and watched where a million rows go in."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from allocation_faults import run_preloaded
from memory_peaks import peak_of

import pymlp
from pymlp import Network, Predictor, backends
from pymlp.memory import BESIDES, fit_bytes, gradient_bytes, load_bytes, predict_bytes

pytestmark = [
    pytest.mark.skipif("c" not in backends.available(), reason=f"no C engine: {backends.missing_reason('c')}"),
    # one epoch is enough here
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc"),
]

# far above what they take, on any machine
SECONDS = 60


def check_peak(work, formula: int) -> None:
    taken = peak_of(work, SECONDS)
    assert taken <= formula + BESIDES
    # a formula that says anything says no more than several times as much
    assert taken + BESIDES >= formula / 4


def test_plans_ask_for_no_more_than_their_formula(faults_library: str) -> None:
    for case, (asked, formula) in run_preloaded(faults_library, "memory_plans.py").items():
        assert asked <= formula <= 2.2 * asked + 100_000, case


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [200, 5000])
def test_a_fit_of_a_million_rows(batch_size: int) -> None:
    draw = np.random.default_rng(0)
    X = draw.standard_normal((1_000_000, 20), np.float32)
    y = (X[:, 0] > X[:, 1]).astype(int)
    model = pymlp.MLPClassifier((100,), max_iter=1, batch_size=batch_size, random_state=0)
    network = Network.from_widths((20, 100, 1), loss="binary_log_loss")
    with pymlp.config_context(n_threads=2):
        check_peak(lambda: model.fit(X, y), fit_bytes(network, len(X), batch_size, 2))


@pytest.mark.slow
def test_a_prediction_of_a_million_rows() -> None:
    X = np.random.default_rng(0).standard_normal((1_000_000, 20), np.float32)
    model = pymlp.MLPClassifier((100,), max_iter=1, random_state=0).fit(X[:1000], np.arange(1000) % 3)
    with pymlp.config_context(n_threads=2):
        formula = predict_bytes(model.network_, len(X), 2)
        check_peak(lambda: model.predict(X), formula)
        check_peak(lambda: model.predict_proba(X), formula)
        predictor = Predictor(model)
        check_peak(lambda: predictor(X), formula)


@pytest.mark.slow
def test_derivatives_of_many_rows() -> None:
    X = np.random.default_rng(0).standard_normal((300_000, 20), np.float32)
    network = Network.from_widths((20, 100, 3), loss="log_loss")
    predictor = Predictor(network, network.initial_params(0), n_threads=2)
    check_peak(lambda: predictor.jacobian(X), gradient_bytes(network, len(X), 2))


@pytest.mark.slow
def test_a_large_model(tmp_path: Path) -> None:
    network = Network.from_widths((2000, 4000, 4000, 10), loss="log_loss")
    params = network.initial_params(0)
    path = tmp_path / "large.safetensors"
    pymlp.save((network, params), path)
    X = np.random.default_rng(0).standard_normal((100, 2000), np.float32)
    y = np.eye(10, dtype=np.float32)[np.arange(100) % 10]
    check_peak(lambda: pymlp.load(path), load_bytes(network))
    check_peak(lambda: Predictor(network, params, n_threads=2)(X), predict_bytes(network, len(X), 2))
    check_peak(lambda: Predictor(network, params, n_threads=2).jacobian(X), gradient_bytes(network, len(X), 2))
    check_peak(
        lambda: pymlp.train(network, params, X, y, epochs=3, batch_size=50, n_threads=2),
        fit_bytes(network, len(X), 50, 2),
    )


def test_a_peak_is_seen_and_a_delay_ends() -> None:
    assert 60 << 20 < peak_of(lambda: np.ones(64 << 20, np.uint8).sum(), SECONDS) < 80 << 20
    with pytest.raises(AssertionError, match="longer than 1 seconds"):
        peak_of(lambda: time.sleep(20), 1)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        peak_of(lambda: 1 // 0, SECONDS)
