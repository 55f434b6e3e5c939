"""Naive Bayes: scikit-learn's log-probabilities, data in pieces, weights, and the network that each is."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is the reference here")

from classic_data import NAMES, assert_unchanged, raw, standardised
from scipy import sparse
from sklearn import naive_bayes

import pymlp
from pymlp import BernoulliNB, GaussianNB, MultinomialNB, Predictor, backends

KINDS = ("BernoulliNB", "GaussianNB", "MultinomialNB")


def data_of(kind, name):
    # counts cannot be negative
    return raw(name) if kind == "MultinomialNB" else standardised(name)[:2]


def pair(kind, **parameters):
    return getattr(pymlp, kind)(**parameters), getattr(naive_bayes, kind)(**parameters)


def assert_same(ours, theirs, X):
    """Joint log-probabilities within 1e-9, and what follows from them.

    The normalised ones are differences of those, and lose to rounding what is small beside them.
    """
    joint = theirs.predict_joint_log_proba(X)
    np.testing.assert_allclose(ours.predict_joint_log_proba(X), joint, rtol=1e-9)
    rounding = 1e-13 * np.abs(joint).max(axis=1, keepdims=True)
    difference = np.abs(ours.predict_log_proba(X) - theirs.predict_log_proba(X))
    assert (difference <= 1e-9 * np.abs(theirs.predict_log_proba(X)) + rounding).all()
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_scikit_learns(kind, name, weighted):
    X, y = data_of(kind, name)
    weight = standardised(name)[2] if weighted else None
    ours, theirs = pair(kind)
    assert_same(ours.fit(X, y, weight), theirs.fit(X, y, weight), X)
    np.testing.assert_allclose(ours.class_count_, theirs.class_count_, rtol=1e-12)
    np.testing.assert_allclose(ours.predict_proba(X).sum(axis=1), 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_data_in_pieces(kind, name):
    X, y = data_of(kind, name)
    ours, theirs = pair(kind)
    for part in (slice(0, 60), slice(60, 61), slice(61, None)):
        for model in (ours, theirs):
            model.partial_fit(X[part], y[part], classes=np.unique(y))
    assert_same(ours, theirs, X)


@pytest.mark.parametrize("kind", ["BernoulliNB", "MultinomialNB"])
@pytest.mark.parametrize("parameters", [{"alpha": 0.3}, {"fit_prior": False}, {"class_prior": [0.2, 0.5, 0.3]}])
def test_parameters_of_those_that_count(kind, parameters):
    X, y = data_of(kind, "wine")
    ours, theirs = pair(kind, **parameters)
    assert_same(ours.fit(X, y), theirs.fit(X, y), X)


def test_parameters_of_the_normal_distribution():
    X, y = standardised("wine")[:2]
    ours, theirs = pair("GaussianNB", priors=[0.2, 0.5, 0.3], var_smoothing=0.1)
    assert_same(ours.fit(X, y), theirs.fit(X, y), X)


def test_a_threshold_and_none():
    X, y = standardised("wine")[:2]
    for parameters, data in (({"binarize": 0.7}, X), ({"binarize": None}, (X > 0).astype(float))):
        ours, theirs = pair("BernoulliNB", **parameters)
        assert_same(ours.fit(data, y), theirs.fit(data, y), data)


@pytest.mark.parametrize("kind", ["BernoulliNB", "MultinomialNB"])
def test_sparse_data(kind):
    X, y = raw("digits")
    dense, thin = getattr(pymlp, kind)().fit(X, y), getattr(pymlp, kind)().fit(sparse.csr_matrix(X), y)
    np.testing.assert_allclose(thin.feature_log_prob_, dense.feature_log_prob_, rtol=1e-13)
    np.testing.assert_allclose(
        thin.predict_joint_log_proba(sparse.csc_matrix(X)), dense.predict_joint_log_proba(X), rtol=1e-13
    )


def test_the_normal_distribution_needs_dense_data():
    X, y = raw("wine")
    with pytest.raises(TypeError, match="Sparse data was passed for X"):
        GaussianNB().fit(sparse.csr_matrix(X), y)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_two_is_the_row_twice(kind):
    X, y = data_of(kind, "wine")
    weight = np.arange(len(y)) % 3
    weighted = getattr(pymlp, kind)().fit(X, y, weight)
    repeated = getattr(pymlp, kind)().fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_allclose(
        weighted.predict_joint_log_proba(X), repeated.predict_joint_log_proba(X), rtol=1e-6 if kind[0] == "G" else 1e-12
    )


@pytest.mark.parametrize("backend", backends.available())
@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_the_classifier(kind, backend, tmp_path):
    X, y = data_of(kind, "wine")
    model = getattr(pymlp, kind)().fit(X, y)
    network, params = model.to_network()
    pymlp.save((network, params), tmp_path / "model.safetensors")
    loaded, read = pymlp.load(tmp_path / "model.safetensors")
    assert loaded == network
    inputs = (X > 0).astype(float) if kind == "BernoulliNB" else X
    with pymlp.config_context(backend=backend):
        found = Predictor(loaded, read)(inputs)
    np.testing.assert_allclose(found, model.predict_proba(X), rtol=1e-10, atol=1e-12)


def test_the_network_of_squares_is_centred():
    # far from 0 the expanded squares would lose all digits
    draw = np.random.RandomState(0)
    X, y = draw.normal(1e6, 1.0, (200, 5)), draw.randint(2, size=200)
    model = GaussianNB(var_smoothing=0.0).fit(X, y)
    np.testing.assert_allclose(Predictor(*model.to_network())(X), model.predict_proba(X), rtol=1e-6)


def test_a_network_can_be_trained_further():
    X, y = standardised("wine")[:2]
    network, params = GaussianNB().fit(X, y).to_network()
    before = Predictor(network, params)(X)
    loss = pymlp.train(network, params, X, np.eye(3)[y], epochs=3, rate=1e-4, random_state=0).losses
    assert np.isfinite(loss).all()
    assert not np.array_equal(Predictor(network, params)(X), before)


@pytest.mark.parametrize("kind", KINDS)
def test_failures_name_what_is_wrong_and_change_nothing(kind):
    X, y = data_of(kind, "wine")
    model = getattr(pymlp, kind)().fit(X, y)
    assert "do not exist" in assert_unchanged(model, lambda: model.partial_fit(X, y + 1))
    assert "same as on last call" in assert_unchanged(model, lambda: model.partial_fit(X, y, classes=[0, 1]))
    assert "sample_weight" in assert_unchanged(model, lambda: model.fit(X, y, -np.ones(len(y))))
    fresh = getattr(pymlp, kind)()
    assert "classes must be passed" in assert_unchanged(fresh, lambda: fresh.partial_fit(X, y))
    assert "row 3, column 2" in assert_unchanged(fresh, lambda: fresh.fit(np.where(X[3, 2] == X, np.nan, X), y))


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("var_smoothing", [0.0, 1e-9])
def test_a_variance_that_overflows_names_its_column(var_smoothing):
    X, y = data_of("GaussianNB", "wine")
    X = X.copy()
    X[::2, 3] = 1e200
    with pytest.raises(ValueError, match=r"so large in column 3 \(counted from 0\)"):
        GaussianNB(var_smoothing=var_smoothing).fit(X, y)


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("GaussianNB", {"priors": [0.5, 0.5]}, "Number of priors"),
        ("GaussianNB", {"priors": [0.5, 0.9, -0.4]}, "non-negative"),
        ("GaussianNB", {"priors": [0.5, 0.5, 0.5]}, "sum of the priors"),
        ("GaussianNB", {"var_smoothing": -1.0}, "var_smoothing"),
        ("MultinomialNB", {"alpha": [1.0, 2.0]}, "alpha"),
        ("MultinomialNB", {"alpha": -1.0}, "alpha"),
        ("MultinomialNB", {"class_prior": [1.0]}, "Number of priors"),
        ("BernoulliNB", {"class_prior": [0.5, -0.5, 1.0]}, "class_prior"),
        ("BernoulliNB", {"binarize": -1.0}, "binarize"),
    ],
)
def test_bad_parameters(kind, parameters, message):
    X, y = raw("wine")
    model = getattr(pymlp, kind)(**parameters)
    assert message in assert_unchanged(model, lambda: model.fit(X, y))


def test_negative_counts():
    X, y = standardised("wine")[:2]
    model = MultinomialNB()
    assert "Negative values" in assert_unchanged(model, lambda: model.fit(X, y))


def test_a_tiny_alpha():
    X, y = raw("digits")
    with pytest.warns(UserWarning, match="alpha too small"):
        model = MultinomialNB(alpha=0.0, force_alpha=False).fit(X, y)
    assert np.isfinite(model.feature_log_prob_).all()
    with np.errstate(all="ignore"):
        assert np.isinf(BernoulliNB(alpha=0.0).fit(X, y).feature_log_prob_).any()
