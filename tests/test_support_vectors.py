"""Support vector machines: liblinear's objective, the RBF kernel's accuracy, and the networks they are."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is the reference here")

from classic_data import NAMES, PRECISELY, assert_unchanged, distance, raw, standardised
from scipy import sparse
from sklearn import svm
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import train_test_split

import pymlp
from pymlp import FourierSVC, LinearSVC, Predictor

PRECISE = {"tol": 1e-8, "max_iter": 10_000}


def objective(model, X, y, C=1.0, intercept_scaling=1.0, weight=1.0, power=2):
    """What liblinear minimises, summed over the classes."""
    classes = np.unique(y)
    sign = np.where(y[:, None] == (classes[1:] if len(classes) == 2 else classes), 1, -1)
    inside = np.maximum(0, 1 - sign * (X @ model.coef_.T + model.intercept_))
    penalty = (model.coef_**2).sum() + ((model.intercept_ / intercept_scaling) ** 2).sum()
    return 0.5 * penalty + C * (np.reshape(weight, (-1, 1)) * inside**power).sum()


@pytest.mark.parametrize("intercept_scaling", [1.0, 10.0])
@pytest.mark.parametrize("name", PRECISELY)
def test_the_objective_is_liblinears(name, intercept_scaling):
    X, y, weight = standardised(name)
    ours = LinearSVC(**PRECISE, intercept_scaling=intercept_scaling).fit(X, y, weight)
    theirs = svm.LinearSVC(tol=1e-8, max_iter=100_000, intercept_scaling=intercept_scaling, dual=False)
    theirs.fit(X, y, weight)
    found, expected = (objective(model, X, y, 1.0, intercept_scaling, weight) for model in (ours, theirs))
    assert found == pytest.approx(expected, rel=1e-8)
    assert distance(ours, theirs) < 1e-3


@pytest.mark.parametrize("parameters", [{"fit_intercept": False}, {"C": 0.01}, {"class_weight": "balanced"}], ids=str)
def test_weights_are_liblinears_with(parameters):
    X, y, _ = standardised("breast_cancer")
    ours = LinearSVC(**PRECISE, **parameters).fit(X, y)
    theirs = svm.LinearSVC(tol=1e-10, max_iter=100_000, dual=False, **parameters).fit(X, y)
    assert distance(ours, theirs) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_the_hinge_comes_near_liblinears_objective(name):
    X, y, _ = standardised(name)
    ours = LinearSVC(loss="hinge", C=0.1, random_state=0).fit(X, y)
    theirs = svm.LinearSVC(loss="hinge", C=0.1, tol=1e-6, max_iter=100_000, random_state=0).fit(X, y)
    found, expected = (objective(model, X, y, 0.1, power=1) for model in (ours, theirs))
    assert expected * 0.999 < found < 1.05 * expected


def test_a_hinge_without_intercept():
    X, y, _ = standardised("wine")
    assert not LinearSVC(loss="hinge", fit_intercept=False, random_state=0).fit(X, y).intercept_.any()


def test_bad_parameters():
    X, y, _ = standardised("wine")
    for parameters, name in (({"loss": "log_loss"}, "loss"), ({"C": 0.0}, "C"), ({"intercept_scaling": -1}, "scaling")):
        model = LinearSVC(**parameters)
        assert name in assert_unchanged(model, lambda model=model: model.fit(X, y))
    model = FourierSVC(gamma="wide")
    assert "gamma" in assert_unchanged(model, lambda: model.fit(X, y))


@pytest.mark.slow
def test_the_kernels_accuracy_on_raw_digits():
    X, y = raw("digits")
    ours, theirs = [], []
    for seed in range(5):
        X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=seed, stratify=y)
        model = FourierSVC(n_components=2000, random_state=seed).fit(X_train, y_train)
        ours.append(model.score(X_test, y_test))
        theirs.append(svm.SVC().fit(X_train, y_train).score(X_test, y_test))
    assert np.mean(ours) > np.mean(theirs) - 0.005


def test_products_of_the_features_are_the_kernel():
    X, y, _ = standardised("wine")
    model = FourierSVC(gamma=0.03, n_components=20_000, random_state=0, max_iter=1, tol=1e9).fit(X, y)
    network, params = model.to_network()
    cosines = np.cos(X @ network.weights(params)[0] + network.biases(params)[0])
    squares = ((X[:, None] - X) ** 2).sum(axis=2)
    assert np.abs(2 / 20_000 * cosines @ cosines.T - np.exp(-0.03 * squares)).max() < 0.05


def test_gamma_counts_rows_by_their_weight():
    X, y = raw("wine")
    plain = FourierSVC(n_components=20, random_state=0).fit(X, y)
    assert plain.gamma_ == pytest.approx(1 / (X.shape[1] * X.var()), rel=1e-12)
    weight = np.arange(len(y)) % 3
    weighted = FourierSVC(n_components=20, random_state=0).fit(X, y, weight)
    repeated = FourierSVC(n_components=20, random_state=0).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert weighted.gamma_ == pytest.approx(repeated.gamma_, rel=1e-12)
    np.testing.assert_allclose(weighted.decision_function(X), repeated.decision_function(X), atol=1e-3)
    thin = FourierSVC(n_components=20, random_state=0).fit(sparse.csr_matrix(X), y)
    assert thin.gamma_ == pytest.approx(plain.gamma_, rel=1e-12)
    assert FourierSVC(gamma="auto", n_components=20).fit(X, y).gamma_ == 1 / X.shape[1]
    assert FourierSVC(n_components=20).fit(np.ones((4, 2)), [0, 1, 0, 1]).gamma_ == 1.0


@pytest.mark.parametrize("name", ["breast_cancer", "wine"])
@pytest.mark.parametrize("model", [LinearSVC(), FourierSVC(n_components=50, random_state=0)], ids=str)
def test_the_network_is_the_classifier(model, name, tmp_path):
    X, y, _ = standardised(name)
    network, params = model.fit(X, y).to_network()
    pymlp.save((network, params), tmp_path / "model.safetensors")
    scores = Predictor(*pymlp.load(tmp_path / "model.safetensors"))(X)
    np.testing.assert_allclose(scores.reshape(len(X), -1).squeeze(), model.decision_function(X), atol=1e-10)
    targets = y[:, None] if network.outputs == 1 else np.eye(3)[y]
    losses = pymlp.train(network, params, X, targets, epochs=2, rate=1e-4, random_state=0).losses
    assert np.isfinite(losses).all()


def test_probabilities_by_calibration():
    X, y, _ = standardised("wine")
    model = CalibratedClassifierCV(FourierSVC(n_components=100, random_state=0), cv=3).fit(X, y)
    assert model.score(X, y) > 0.97
    assert not hasattr(FourierSVC(), "predict_proba")
