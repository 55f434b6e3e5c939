"""Scaling columns and folding the scaling back: the folded network gives on raw values what the other gave."""

import numpy as np
import pytest

from pymlp.backends.numpy import Plan
from pymlp.network import Network
from pymlp.standardisation import ROWS, Scaling, fold


def _outputs(network, params, X):
    out = np.empty((len(X), network.outputs), network.dtype)
    Plan(network, 100).forward(params, np.ascontiguousarray(X, network.dtype), out)
    return out


def test_mean_and_deviation():
    X = np.random.default_rng(0).normal(5, 3, size=(ROWS + 7, 3))
    scaled = Scaling.of(X).apply(X, "float64")
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-13)


def test_bytes_are_scaled_without_overflow():
    X = np.array([[0, 255], [255, 0], [255, 255]], np.uint8)
    scaled = Scaling.of(X).apply(X, "float32")
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, (X - X.mean(axis=0)) / X.std(axis=0), rtol=1e-6)
    assert Scaling.by(255, 2).apply(X, "float32").max() == 1


def test_a_constant_column_counts_for_nothing():
    X = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]])
    scaling = Scaling.of(X)
    assert scaling.apply(X, "float64")[:, 0].tolist() == [0, 0, 0]
    network = Network.from_widths((2, 3, 1), dtype="float64")
    folded_network, folded = fold(network, network.initial_params(0), scaling)
    other = X + np.array([1e6, 0])
    np.testing.assert_array_equal(_outputs(folded_network, folded, X), _outputs(folded_network, folded, other))


@pytest.mark.parametrize("widths", [(3, 2), (3, 5, 2), (3, 5, 4, 2)])
@pytest.mark.parametrize("scaled_target", [False, True])
def test_the_folded_network_takes_and_gives_raw_values(widths, scaled_target):
    generator = np.random.default_rng(1)
    X = generator.normal([1, -20, 300], [0.1, 5, 40], size=(50, 3))
    y = generator.normal([7, -3], [2, 30], size=(50, 2))
    network = Network.from_widths(widths, "tanh", dtype="float64", l2=0.1)
    params = network.initial_params(0)
    inputs, target = Scaling.of(X), Scaling.of(y)
    expected = _outputs(network, params, inputs.apply(X, "float64"))
    if scaled_target:
        expected = expected * target.deviation + target.mean
    before = params.copy()

    folded_network, folded = fold(network, params, inputs, target if scaled_target else None)

    np.testing.assert_allclose(_outputs(folded_network, folded, X), expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(params, before)
    assert folded_network == network
    single_network, single = fold(network, params, inputs, target if scaled_target else None, dtype="float32")
    assert single_network.dtype == single.dtype == "float32"
    np.testing.assert_array_equal(single, folded.astype("float32"))


def test_when_float32_is_enough():
    assert Scaling(np.array([1000.0, 0]), np.array([1.0, 1e-9])).fits_float32
    assert not Scaling(np.array([1001.0, 0]), np.array([1.0, 1])).fits_float32
    assert Scaling.of(np.full((3, 1), 1e9)).fits_float32
    assert not Scaling.of(np.full((3, 1), 1e50)).fits_float32
    for size in (1e-20, 1e20):
        assert not Scaling(np.zeros(1), np.array([size])).fits_float32


def test_a_target_cannot_be_folded_into_a_curve():
    network = Network.from_widths((2, 2), loss="log_loss")
    scaling = Scaling.by(1, 2)
    with pytest.raises(ValueError, match="cannot be folded into the output activation 'softmax'"):
        fold(network, network.initial_params(0), scaling, scaling)
