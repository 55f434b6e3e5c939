"""Networks in integers of 8 bits: their definition, the source that computes them, and what they lose."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_sources import STRICT, compile_with, library, need, predicted

import pymlp
from pymlp import Dense, Network, datasets
from pymlp.backends.numpy import Plan
from pymlp.export import quantisation, to_c
from pymlp.export.quantisation import HIGHEST, LOWEST, MOST_INPUTS, quantised_layers, quantised_outputs
from pymlp.functions import ACTIVATIONS

HIDDEN = [name for name, row in ACTIVATIONS.items() if row.hidden]
# activations whose values NumPy and the source round alike
EXACT = ("identity", "relu", "leaky_relu", "square")


def rows_of(inputs, rows=300, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, inputs)).astype(np.float32)


def exact_outputs(network, params, X):
    return Plan(network, 1).row_outputs(params, X)[-1]


def relative_error(network, params, layers, X):
    exact = exact_outputs(network, params, X)
    error = quantised_outputs(network, params, layers, X) - exact
    return np.sqrt(np.square(error).mean() / exact.var())


def test_sums_fit_into_32_bits():
    assert MOST_INPUTS * -LOWEST * HIGHEST < 2**31 <= (MOST_INPUTS + 1) * -LOWEST * HIGHEST
    # and these are whole numbers that float32 has
    assert quantisation.SINGLE_INPUTS * -LOWEST * HIGHEST <= 2**24


def test_a_layer_by_hand():
    network = Network(2, (Dense(2, "identity"),))
    params = np.array([1, 0.5, -2, 0, 10, 20], np.float32)  # weights (2, 2), then biases
    X = np.array([[0, 0], [1, 1], [0, 1], [1, 0]], np.float32)
    (layer,) = quantised_layers(network, params, X).values()
    # a unit's largest weight is 127, and its scale what one step of an input brings
    np.testing.assert_array_equal(layer.weight, [[64, 127], [-127, 0]])
    np.testing.assert_allclose(layer.scale, [2 / 127 / 255, 0.5 / 127 / 255], rtol=1e-6)
    np.testing.assert_array_equal(layer.whole(X), np.where(X == 1, 127, -128))
    np.testing.assert_array_equal(layer.whole(np.array([[-5, 0.5], [np.inf, 9]], np.float32)), [[-128, 0], [127, 127]])
    # the mean row comes out right, whatever became of the weights
    np.testing.assert_allclose(layer.forward(X).mean(axis=0), [9.5, 20.25], rtol=1e-6)
    np.testing.assert_allclose(layer.forward(X), X @ [[1, 0.5], [-2, 0]] + [10, 20], atol=0.01)


@pytest.mark.parametrize("name", HIDDEN)
def test_little_is_lost_with_any_activation(name):
    network = Network(12, (Dense(40, name), Dense(40, name, normalization="layer"), Dense(3, "identity")))
    params, X = network.initial_params(1), rows_of(12)
    assert relative_error(network, params, quantised_layers(network, params, X), X) < 0.03


def test_the_source_computes_the_definition(tmp_path):
    networks = {}
    for name in HIDDEN:
        layers = (Dense(21, name, parametric=True), Dense(21, name, residual=True), Dense(3, "identity"))
        networks[name] = Network(21, layers, input_dropout=0.5)
    sources, rows = [], rows_of(21)
    for name, network in networks.items():
        sources.append(
            to_c((network, network.initial_params(0)), tmp_path / f"{name}.c", "int8", calibration=rows).path
        )
    functions = library(sources, ("-O3",))
    # twice as far as the ranges, too
    X = np.concatenate([rows, 2 * rows_of(21, seed=1)])
    for name, network in networks.items():
        params = network.initial_params(0)
        expected = quantised_outputs(network, params, quantised_layers(network, params, rows), X)
        found = predicted(functions, name, X)
        if name in EXACT:
            np.testing.assert_array_equal(found, expected, name)
            continue
        # a number at the edge between two whole ones may go either way
        difference = np.abs(found - expected).max(axis=1) / np.abs(expected).max()
        assert difference.max() < 0.02, name
        assert np.quantile(difference, 0.9) < 1e-6, name


def test_what_is_outside_counts_as_the_end(tmp_path):
    network = Network(3, (Dense(5), Dense(2, "identity")))
    params, rows = network.initial_params(0), rows_of(3)
    to_c((network, params), tmp_path / "m.c", "int8", calibration=rows)
    functions = library([tmp_path / "m.c"], ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all"))
    low, high = rows.min(), rows.max()
    given = np.array([[np.nan, 0, 1], [-1e30, 0, 1], [1e30, 0, 1], [np.inf, -np.inf, 1]], np.float32)
    meant = np.array([[low, 0, 1], [low, 0, 1], [high, 0, 1], [high, low, 1]], np.float32)
    np.testing.assert_array_equal(predicted(functions, "m", given), predicted(functions, "m", meant))


def test_raw_features_get_a_range_each_and_others_share_one():
    draw = np.random.default_rng(0)
    sizes = 10.0 ** np.arange(-3, 5)
    X = (draw.normal(size=(500, 8)) * sizes + 3 * sizes).astype(np.float32)
    network = Network(8, (Dense(30, "tanh"), Dense(1, "identity")))
    params = network.initial_params(0)
    # as `standardize` leaves them
    network.weights(params)[0][:] /= sizes[:, np.newaxis]
    network.biases(params)[0][:] -= 3 * sizes @ network.weights(params)[0]
    raw = quantised_layers(network, params, X)
    assert [layer.by_input for layer in raw.values()] == [True, False]
    assert relative_error(network, params, raw, X) < 0.03
    pixels = draw.uniform(size=(500, 8)).astype(np.float32)
    alike = quantised_layers(network, network.initial_params(0), pixels)
    assert not any(layer.by_input for layer in alike.values())


def test_ranges_of_raw_features_in_the_source(tmp_path):
    draw = np.random.default_rng(0)
    X = (draw.normal(size=(200, 4)) * [1e-2, 1, 100, 1e4] + [0, 5, 0, 1e5]).astype(np.float32)
    X[:, 1] = 5
    y = X[:, 0] * 100 + X[:, 3] / 1e4
    model = pymlp.MLPRegressor(
        hidden_layer_sizes=(20,), standardize=True, max_iter=100, random_state=0, solver="lbfgs"
    ).fit(X, y)
    report = to_c(model, tmp_path / "m.c", "int8", calibration=X, y=y)
    assert "m_quantise_each(4, x, m_low_0, m_inverse_0, whole);" in report.path.read_text()
    assert report.score_before > 0.99
    assert report.score_after > report.score_before - 0.01
    found = predicted(library([report.path]), "m", X)[:, 0]
    assert np.abs(found - model.predict(X)).max() == pytest.approx(report.largest_difference, rel=0.05)


@pytest.mark.parametrize("X", [np.zeros((1, 3)), np.ones((4, 3)), rows_of(3, 1)], ids=["zeros", "ones", "one row"])
def test_inputs_that_do_not_vary(tmp_path, X):
    network = Network(3, (Dense(5), Dense(5), Dense(2, "identity")))
    params = network.initial_params(0)
    report = to_c((network, params), tmp_path / "m.c", "int8", calibration=X)
    found = predicted(library([report.path]), "m", np.ascontiguousarray(X, np.float32))
    np.testing.assert_allclose(found, exact_outputs(network, params, X.astype(np.float32)), rtol=1e-2, atol=1e-3)


def test_weights_of_zero(tmp_path):
    network = Network(3, (Dense(5), Dense(2, "identity")))
    params = np.zeros(network.n_parameters, np.float32)
    network.biases(params)[1][:] = 1, 2
    report = to_c((network, params), tmp_path / "m.c", "int8", calibration=rows_of(3))
    np.testing.assert_array_equal(predicted(library([report.path]), "m", rows_of(3)), np.tile([[1, 2]], (300, 1)))


def test_too_many_inputs(tmp_path):
    network = Network.from_widths((MOST_INPUTS + 1, 1))
    params = np.ones(network.n_parameters, np.float32)
    with pytest.raises(
        ValueError, match=rf"dtype='int8' takes up to {MOST_INPUTS} inputs a layer, but layers\[0\] has"
    ):
        to_c((network, params), tmp_path / "m.c", "int8", calibration=np.zeros((1, network.inputs)))
    assert not list(tmp_path.iterdir())


def test_the_widest_sums(tmp_path):
    # all products at their largest: more than float32 holds, and nearly all that 32 bits do
    network = Network.from_widths((MOST_INPUTS, 1), dtype="float32")
    params = np.ones(network.n_parameters, np.float32)
    calibration = np.array([[0.0], [1.0]], np.float32) * np.ones((1, network.inputs), np.float32)
    report = to_c((network, params), tmp_path / "m.c", "int8", calibration=calibration)
    found = predicted(library([report.path]), "m", calibration)
    np.testing.assert_allclose(found[:, 0], [1, network.inputs + 1], rtol=1e-6, atol=0.1)


def test_sparse_and_dense_rows_give_one_file(tmp_path):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    network = Network(20, (Dense(9), Dense(2, "identity")))
    params, X = network.initial_params(0), rows_of(20) * (rows_of(20, seed=1) > 1)
    texts = []
    for kind in (np.asarray, sparse.csr_matrix, sparse.coo_array):
        to_c((network, params), tmp_path / "m.c", "int8", calibration=kind(X))
        texts.append((tmp_path / "m.c").read_text())
    assert texts[0] == texts[1] == texts[2]


def test_a_float64_model(tmp_path):
    network = Network(6, (Dense(9, "gelu"), Dense(2, "identity")), dtype="float64")
    report = to_c((network, network.initial_params(0)), tmp_path / "m.c", "int8", calibration=rows_of(6))
    assert report.largest_difference < 0.05
    with pytest.raises(ValueError, match="Input calibration contains infinity or a value too large for float32"):
        to_c((network, network.initial_params(0)), tmp_path / "m.c", "int8", calibration=np.full((2, 6), 1e200))


def test_the_report_of_a_classifier(tmp_path):
    X = rows_of(8, 500)
    y = np.digitize(X[:, 0] + X[:, 1] ** 2, [0, 1, 2])
    model = pymlp.MLPClassifier((32, 32), max_iter=20, random_state=0).fit(X, y)
    report = to_c(model, tmp_path / "m.c", "int8", calibration=X, y=y)
    assert report.agreement > 0.97
    assert report.score_before == model.score(X, y)
    functions = library([report.path])
    found = predicted(functions, "m", X)
    expected = model.predict_proba(X)
    assert np.abs(found - expected).max() == pytest.approx(report.largest_difference, abs=0.01)
    labels = model.classes_[found.argmax(axis=1)]
    assert (labels == model.predict(X)).mean() == pytest.approx(report.agreement, abs=0.005)
    assert (labels == y).mean() == pytest.approx(report.score_after, abs=0.005)


# -- real data


@pytest.fixture(scope="module")
def images():
    folder = Path(os.environ.get("PYMLP_DATA", ""))
    if not os.environ.get("PYMLP_DATA") or not (folder / "mnist.npz").exists():
        pytest.skip("PYMLP_DATA names no folder with mnist.npz")
    data = datasets.load("mnist")
    return (data.X / 255).astype(np.float32), data.y, (data.X_test / 255).astype(np.float32), data.y_test


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("hidden", [(128,), (512, 512)])
def test_digits_in_integers(tmp_path, images, hidden):
    X, y, X_test, y_test = images
    model = pymlp.MLPClassifier(
        hidden, batch_size=128, max_iter=6, learning_rate=pymlp.Cosine(warmup=1), random_state=0
    )
    model.fit(X, y)
    single = to_c(model, tmp_path / "single.c")
    whole = to_c(model, tmp_path / "whole.c", "int8", calibration=X[:1000])
    assert whole.n_bytes <= 0.3 * single.n_bytes
    functions = library([single.path, whole.path], ("-O3",))
    accuracy = {}
    for name in ("single", "whole"):
        accuracy[name] = (predicted(functions, name, X_test).argmax(axis=1) == y_test).mean()
    assert accuracy["single"] == model.score(X_test, y_test) > 0.96
    assert accuracy["whole"] >= accuracy["single"] - 0.002
    need("gcc")
    compile_with("gcc", *STRICT, "-DWHOLE_SELF_TEST", whole.path, "-o", tmp_path / "self_test")
    assert subprocess.run([tmp_path / "self_test"], capture_output=True).returncode == 0
