"""Scaling columns and folding the scaling back: the folded network gives on raw values what the other gave."""

import numpy as np
import pytest
from scipy import sparse

from pymlp import rows
from pymlp.backends.numpy import Plan
from pymlp.layers import Dense
from pymlp.losses import GaussianNLL, Quantile
from pymlp.network import Network
from pymlp.standardisation import ROWS, ScaledRows, Scaling, Standardisation, fold, unfold


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


def test_a_row_of_weight_two_counts_twice():
    generator = np.random.default_rng(2)
    X = generator.normal([1, -20, 300], [0.1, 5, 40], size=(2 * ROWS + 3, 3))
    X[:, 1] = 7.0
    weight = generator.integers(0, 3, len(X)).astype(float)
    # of weight 0: as if it were not there
    X[weight == 0, 1] = 8.0
    found, expected = Scaling.of(X, weight), Scaling.of(np.repeat(X, weight.astype(int), axis=0))
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.deviation, expected.deviation, rtol=1e-12)
    assert found.deviation[1] == np.inf
    assert Scaling.of(X, weight, of_constants=1.0).deviation[1] == 1


@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_columns_keep_their_zeros(weighted):
    generator = np.random.default_rng(3)
    X = np.where(generator.random((50, 4)) < 0.3, generator.normal(5, 2, size=(50, 4)), 0.0)
    X[:, 2], X[:, 3] = 0.0, 3.0
    weight = generator.integers(0, 3, 50).astype(float) if weighted else None
    found, expected = Scaling.of(sparse.csr_matrix(X), weight), Scaling.of(X, weight)
    np.testing.assert_allclose(found.deviation, expected.deviation, rtol=1e-12)
    assert not found.mean.any()
    scaled = found.apply(sparse.csc_matrix(X), "float32")
    assert scaled.dtype == "float32"
    np.testing.assert_allclose(scaled.toarray(), X / expected.deviation, rtol=1e-6)


@pytest.mark.parametrize("scaled_target", [False, True])
def test_unfolding_undoes_folding(scaled_target):
    generator = np.random.default_rng(4)
    X, y = generator.normal([1, -20, 300], [0.1, 5, 40], size=(50, 3)), generator.normal(7, 2, size=(50, 2))
    X[:, 1] = 2.0
    network = Network.from_widths((3, 5, 2), "tanh", dtype="float64")
    params = network.initial_params(0)
    inputs, target = Scaling.of(X), Scaling.of(y) if scaled_target else None
    again = unfold(network, fold(network, params, inputs, target)[1], inputs, target)
    # the constant column had no say
    network.weights(params)[0][1] = 0.0
    np.testing.assert_allclose(again, params, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(unfold(network, params, None), params)
    np.testing.assert_array_equal(fold(network, params, None)[1], params)


def test_inputs_that_are_passed_on_cannot_be_folded():
    network = Network(2, (Dense(2, residual=True), Dense(1, "identity")))
    with pytest.raises(ValueError, match="first layer with residual=True"):
        fold(network, network.initial_params(0), Scaling.by(2, 2))


def test_rows_are_scaled_when_they_are_read(monkeypatch):
    X = np.random.default_rng(5).normal(3, 2, size=(20, 4)).astype("float32")
    scaling = Scaling.of(X)
    lazy = ScaledRows(X, scaling, "float32")
    expected = scaling.apply(X, "float32")
    assert lazy.shape == (20, 4)
    assert rows.is_gathered(lazy, "float32")
    source = rows.rows_of(Network.from_widths((4, 1)), lazy, np.zeros((20, 1), "float32"), None)
    assert isinstance(source, rows.GatheredRows)
    np.testing.assert_array_equal(lazy[np.array([3, 1])], expected[[3, 1]])
    monkeypatch.setattr(rows, "DENSE_BYTES", 7 * 16)
    blocks = [block for _, block in rows.dense_blocks(lazy, 100, "float32")]
    assert len(blocks) == 3
    np.testing.assert_array_equal(np.concatenate(blocks), expected)


@pytest.mark.parametrize("kind", ["array", "mapped", "large"])
def test_what_is_copied_when_it_is_scaled(kind, tmp_path, monkeypatch):
    X, y = np.random.default_rng(6).normal(3, 2, size=(20, 4)), np.zeros((20, 1))
    if kind == "mapped":
        np.save(tmp_path / "X.npy", X)
        X = np.asarray(np.load(tmp_path / "X.npy", mmap_mode="r"))[2:]
    elif kind == "large":
        X = X.astype("float32")
        monkeypatch.setattr(rows, "SMALL_COPY_BYTES", 0)
    standardisation = Standardisation.of(X, y, None, None, inputs=True, target=False)
    scaled, same = standardisation.apply(X, y, "float64")
    assert isinstance(scaled, np.ndarray if kind == "array" else ScaledRows)
    assert same is y
    np.testing.assert_allclose(scaled[np.arange(18)].std(axis=0), 1, rtol=0.5)


def test_only_the_training_rows_are_learnt_from():
    X, y = np.arange(10.0)[:, None], np.arange(10.0)[:, None] ** 2
    numbers = np.array([8, 1, 3])
    found = Standardisation.of(X, y, None, numbers, inputs=True, target=True)
    np.testing.assert_allclose(found.inputs.mean, 4.0)
    np.testing.assert_allclose(found.target.deviation, y[numbers].std())
    weight = np.arange(10.0)
    found = Standardisation.of(X, y, weight, numbers, inputs=True, target=False)
    np.testing.assert_allclose(found.inputs.mean, np.average([8, 1, 3], weights=[8, 1, 3]))
    assert found.target is None


def test_outputs_that_are_not_linear_are_scaled_after_the_network():
    target = Scaling(np.array([10.0, 10.0]), np.array([2.0, 2.0]))
    standardisation = Standardisation(None, target)

    def scale(loss, activation):
        network = Network(1, (Dense(2, activation),), loss)
        return standardisation.output_scale(network)

    assert scale("squared_error", "identity") is None
    factor, shift = scale(Quantile([0.1, 0.9]), "ascending")
    assert (factor.tolist(), shift.tolist(), factor.dtype) == ([2, 2], [10, 10], "float32")
    factor, shift = scale(GaussianNLL(), "mean_deviation")
    assert (factor.tolist(), shift.tolist()) == ([2, 2], [10, 0])


def test_the_state_is_kept():
    standardisation = Standardisation(Scaling(np.array([1.0, 2.0]), np.array([0.5, np.inf])), None)
    network = Network.from_widths((2, 1))
    again = Standardisation.from_state(standardisation.state, network)
    np.testing.assert_array_equal(again.inputs.deviation, standardisation.inputs.deviation)
    assert again.target is None
    with pytest.raises(ValueError, match="scaling of the inputs must have 3"):
        Standardisation.from_state(standardisation.state, Network.from_widths((3, 1)))
