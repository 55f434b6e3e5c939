"""The hand-written NumPy steps do the work of a backend's train_steps: same weights, same state, same losses."""

import numpy as np
import pytest

from pymlp.backends.numpy import Plan
from pymlp.network import Network
from pymlp.optimizers import Adam, new_slots
from pymlp.peers import PIECE, PlainNumpyStep, TightNumpyStep


def _problem(loss, widths, rows, dtype):
    generator = np.random.default_rng(7)
    network = Network.from_widths(widths, loss=loss, dtype=dtype)
    X = generator.normal(size=(rows, widths[0])).astype(dtype)
    if loss == "log_loss":
        y = np.eye(widths[-1], dtype=dtype)[generator.integers(widths[-1], size=rows)]
    elif loss == "binary_log_loss":
        y = generator.integers(2, size=(rows, widths[-1])).astype(dtype)
    else:
        y = generator.normal(size=(rows, widths[-1])).astype(dtype)
    return network, X, y


@pytest.mark.parametrize("peer", [TightNumpyStep, PlainNumpyStep])
@pytest.mark.parametrize(
    ("loss", "widths"),
    [
        ("squared_error", (3, 5, 7, 2)),
        ("log_loss", (4, 6, 3)),
        ("binary_log_loss", (4, 6, 1)),
        ("binary_log_loss", (4, 3)),
        ("squared_error", (100, 200, 1)),  # more parameters than one piece of the optimizer's walk
    ],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-4)])
def test_equals_train_steps(peer, loss, widths, dtype, tolerance):
    network, X, y = _problem(loss, widths, 50, dtype)
    order = np.random.default_rng(1).permutation(50).astype(np.int64)
    starts = np.array([0, 16, 32, 48, 50], np.int64)
    rates = np.array([1e-2, 1e-2, 5e-3, 1e-3])
    expected_params = network.initial_params(0)
    expected_slots = new_slots(Adam(), network.n_parameters, dtype)
    params, slots = expected_params.copy(), expected_slots.copy()
    expected_losses = np.empty(4)
    Plan(network, 16).train_steps(
        Adam(), expected_params, expected_slots, 3, X, y, None, order, starts, rates, expected_losses
    )

    losses = peer(network, 16).run(params, slots, X, y, order, starts, rates, step=3)

    np.testing.assert_allclose(losses, expected_losses, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(params, expected_params, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(slots, expected_slots, rtol=tolerance, atol=tolerance)


def test_a_case_is_longer_than_a_piece():
    assert Network.from_widths((100, 200, 1)).n_parameters > PIECE


@pytest.mark.parametrize("peer", [TightNumpyStep, PlainNumpyStep])
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Network.from_widths((2, 3, 1), "tanh"), "relu, got tanh"),
        (Network.from_widths((2, 1), loss="poisson"), "poisson"),
        (Network.from_widths((2, 1), l2=0.5), "l2=0.5"),
    ],
)
def test_refuses_what_is_not_written_out(peer, network, message):
    with pytest.raises(ValueError, match=message):
        peer(network, 4)
