"""Logistic regression and the perceptron: scikit-learn's weights, weights of rows, warm starts, and their networks."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is the reference here")

from classic_data import NAMES, PRECISELY, assert_unchanged, distance, standardised
from scipy import sparse
from sklearn import linear_model
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV

import pymlp
from pymlp import FourierSVC, LinearSVC, LogisticRegression, Perceptron, Predictor, backends

PRECISE = {"tol": 1e-8, "max_iter": 10_000}


@pytest.mark.parametrize("backend", backends.available())
@pytest.mark.parametrize("name", PRECISELY)
def test_weights_are_scikit_learns(name, backend):
    X, y, _ = standardised(name)
    with pymlp.config_context(backend=backend):
        ours = LogisticRegression(**PRECISE).fit(X, y)
    theirs = linear_model.LogisticRegression(**PRECISE).fit(X, y)
    assert np.linalg.norm(ours.coef_ - theirs.coef_) < 1e-4
    assert np.linalg.norm(ours.intercept_ - theirs.intercept_) < 1e-4
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X), atol=1e-3)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=1e-3)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize(
    "parameters",
    [{"fit_intercept": False}, {"C": 0.01}, {"class_weight": "balanced"}, {"class_weight": {0: 2.0}}],
    ids=str,
)
@pytest.mark.parametrize("name", ["breast_cancer", "wine"])
def test_weights_are_scikit_learns_with(name, parameters):
    X, y, weight = standardised(name)
    ours = LogisticRegression(**PRECISE, **parameters).fit(X, y, weight)
    theirs = linear_model.LogisticRegression(**PRECISE, **parameters).fit(X, y, weight)
    assert distance(ours, theirs) < 1e-4


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@pytest.mark.parametrize("name", ["breast_cancer", "wine"])
def test_l1_penalties(name, l1_ratio):
    X, y, _ = standardised(name)
    ours = LogisticRegression(**PRECISE, C=0.3, l1_ratio=l1_ratio).fit(X, y)
    # before version 1.8 the ratio counted with this penalty alone
    old = linear_model.LogisticRegression().penalty == "l2"
    options = {"penalty": "elasticnet"} if old else {}
    theirs = linear_model.LogisticRegression(
        tol=1e-8, max_iter=100_000, C=0.3, l1_ratio=l1_ratio, solver="saga", random_state=0, **options
    ).fit(X, y)
    assert distance(ours, theirs) < 1e-4
    np.testing.assert_array_equal(ours.coef_ == 0, theirs.coef_ == 0)
    assert (ours.coef_ == 0).any()


def test_float32_and_labels_of_any_kind():
    X, y, _ = standardised("wine")
    names = np.array(["red", "white", "rose"])[y]
    model = LogisticRegression().fit(X.astype(np.float32), names)
    assert model.coef_.dtype == model.predict_proba(X).dtype == np.float32
    wide = LogisticRegression(**PRECISE).fit(X, names)
    np.testing.assert_allclose(model.predict_proba(X), wide.predict_proba(X), atol=0.01)
    assert (model.predict(X) == names).mean() > 0.98


@pytest.mark.parametrize("cls", [LogisticRegression, Perceptron])
def test_sparse_data_give_the_same(cls):
    X, y, _ = standardised("digits")
    X = np.where(np.abs(X) < 0.7, 0, X)
    dense, thin = cls().fit(X, y), cls().fit(sparse.csr_matrix(X), y)
    np.testing.assert_allclose(thin.coef_, dense.coef_, atol=1e-6)
    np.testing.assert_allclose(thin.decision_function(sparse.csr_array(X)), dense.decision_function(X), atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [LogisticRegression(**PRECISE), LogisticRegression(solver="adam", max_iter=1000), Perceptron(penalty="l2")],
    ids=str,
)
def test_a_weight_of_two_is_the_row_twice(model):
    X, y, _ = standardised("wine")
    weight = np.arange(len(y)) % 3
    # at most 200 rows: one batch
    weighted = pickle.loads(pickle.dumps(model)).fit(X, y, weight)
    repeated = model.fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert distance(weighted, repeated) < 1e-6


@pytest.mark.parametrize("solver", ["sgd", "adam", pymlp.SGD(momentum=0.5), pymlp.NAdam(average="ema")], ids=str)
def test_descent_in_batches_comes_near_the_minimum(solver):
    X, y, _ = standardised("breast_cancer")
    options = {"max_iter": 2000, "tol": 1e-6, "random_state": 0, "C": 0.1}
    model = LogisticRegression(solver=solver, **options).fit(X, y)
    best = LogisticRegression(**PRECISE, C=0.1).fit(X, y)

    def objective(each):
        y_signed = 2 * y - 1
        losses = np.logaddexp(0, -y_signed * each.decision_function(X))
        return 0.5 * (each.coef_**2).sum() + 0.1 * losses.sum()

    assert objective(best) <= objective(model) < 1.05 * objective(best)
    frozen = LogisticRegression(solver=solver, fit_intercept=False, **options).fit(X, y)
    assert frozen.intercept_ == 0


def test_few_iterations_warn_and_a_warm_start_goes_on():
    X, y, _ = standardised("digits")
    model = LogisticRegression(max_iter=3, warm_start=True)
    with pytest.warns(ConvergenceWarning, match="failed to converge after 3") as caught:
        model.fit(X, y)
    assert caught[0].filename == __file__
    whole = LogisticRegression().fit(X, y)
    model.set_params(max_iter=100).fit(X, y)
    assert model.n_iter_[0] <= whole.n_iter_[0]
    np.testing.assert_array_equal(model.predict(X), whole.predict(X))
    assert "classes of the last fit" in assert_unchanged(model, lambda: model.fit(X, y % 3))


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(solver="sgd", max_iter=2),
        Perceptron(max_iter=2),
        LinearSVC(max_iter=2),
        LinearSVC(loss="hinge", max_iter=2),
        FourierSVC(n_components=50, max_iter=2, random_state=0),
    ],
    ids=str,
)
def test_a_fit_that_ends_early_warns_at_its_line(model):
    X, y, _ = standardised("digits")
    with pytest.warns(ConvergenceWarning, match="converge") as caught:
        model.fit(X, y)
    assert [each.filename for each in caught] == [__file__]


def test_coordinates_do_not_change_the_minimum():
    # features of very different size, and two that go together
    X, y, _ = standardised("wine")
    X = np.column_stack([X * 10.0 ** np.linspace(-2, 2, X.shape[1]), X[:, 0] * 0.02])
    ours = LogisticRegression(tol=1e-7, max_iter=1000).fit(X, y)
    assert ours.n_iter_ < 100
    residual = ours.predict_proba(X) - np.eye(3)[y]
    assert np.abs(X.T @ residual + ours.coef_.T).max() < 1e-6 * len(X)
    assert np.abs(residual.sum(axis=0)).max() < 1e-6 * len(X)


@pytest.mark.parametrize("cls", [LogisticRegression, Perceptron])
@pytest.mark.parametrize("name", ["breast_cancer", "wine"])
def test_the_network_is_the_classifier(cls, name, tmp_path):
    X, y, _ = standardised(name)
    model = cls().fit(X, y)
    network, params = model.to_network()
    pymlp.save((network, params), tmp_path / "model.safetensors")
    outputs = Predictor(*pymlp.load(tmp_path / "model.safetensors"))(X)
    if cls is Perceptron:
        np.testing.assert_allclose(outputs.reshape(len(X), -1).squeeze(), model.decision_function(X), atol=1e-10)
    else:
        np.testing.assert_array_equal(outputs, model.predict_proba(X)[:, -outputs.shape[1] :])
        np.testing.assert_array_equal(Predictor(model)(X), model.predict_proba(X))
    # the caller's own
    params[:] = 0
    assert model.coef_.any()
    # trained further
    network, params = model.to_network()
    targets = y[:, None] if network.outputs == 1 else np.eye(3)[y]
    pymlp.train(network, params, X, targets, epochs=2, random_state=0)
    assert np.isfinite(params).all()


def test_weights_are_views():
    X, y, _ = standardised("wine")
    model = pickle.loads(pickle.dumps(LogisticRegression().fit(X, y)))
    model.coef_ = np.zeros_like(model.coef_)
    model.intercept_[:] = [0.0, 1.0, 0.0]
    assert (model.predict(X) == 1).all()
    with pytest.raises(AttributeError, match="not fitted yet, so it has no coef_"):
        _ = LogisticRegression().coef_
    with pytest.raises(NotFittedError):
        LogisticRegression().predict(X)


def test_a_pickle_of_another_version_warns():
    X, y, _ = standardised("wine")
    state = {**LogisticRegression().fit(X, y).__getstate__(), "_pymlp_version": "0.0.1"}
    with pytest.warns(UserWarning, match=r"pickled by pymlp 0\.0\.1"):
        LogisticRegression().__setstate__(state)


@pytest.mark.parametrize("cls", [LogisticRegression, Perceptron])
def test_failures_change_nothing(cls):
    X, y, _ = standardised("wine")
    model = cls().fit(X, y)
    assert "only one class" in assert_unchanged(model, lambda: model.fit(X, np.zeros(len(y))))
    assert "sparse label matrix" in assert_unchanged(model, lambda: model.fit(X, sparse.csr_matrix(np.eye(3)[y])))
    assert "sample_weight" in assert_unchanged(model, lambda: model.fit(X, y, np.ones(3)))
    model.class_weight = {0: -1.0}
    assert "class_weight must be finite and at least 0" in assert_unchanged(model, lambda: model.fit(X, y))
    model.class_weight, model.max_iter = None, 0
    assert "max_iter" in assert_unchanged(model, lambda: model.fit(X, y))


def test_numbers_too_large_or_far_too_different():
    X, y, _ = standardised("wine")
    model = LogisticRegression().fit(X, y)
    assert "non-finite" in assert_unchanged(model, lambda: model.fit(X * 1e300, y))
    X = np.column_stack([X * 1e-150, X * 1e150])
    assert LogisticRegression().fit(X, y).score(X, y) > 0.98


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.skipif("c" not in backends.available(), reason="the promise is the C engine's")
@pytest.mark.parametrize(
    "model",
    [
        FourierSVC(n_components=100, random_state=0),
        LinearSVC(max_iter=30),
        LogisticRegression(),
        LogisticRegression(solver="adam", max_iter=3, random_state=0),
        Perceptron(max_iter=10),
    ],
    ids=str,
)
def test_threads_and_instruction_sets_do_not_change_the_bytes(model):
    X, y, _ = standardised("digits")
    found = set()
    for isa in backends.get("c").instruction_sets():
        for threads in (1, 2, 3):
            if isa != "portable":
                with pymlp.config_context(n_threads=threads, isa=isa):
                    found.add(model.fit(X, y).params_.tobytes())
    assert len(found) <= 1


def test_a_grid_search_over_C():
    X, y, _ = standardised("wine")
    search = GridSearchCV(LogisticRegression(), {"C": [1e-4, 1.0]}, cv=3).fit(X, y)
    assert search.best_params_ == {"C": 1.0}


# ---------------------------------------------------------------------------------------------------------- perceptron


@pytest.mark.parametrize("name", NAMES)
def test_the_perceptron_learns(name):
    X, y, _ = standardised(name)
    ours, theirs = Perceptron().fit(X, y), linear_model.Perceptron().fit(X, y)
    assert ours.score(X, y) > theirs.score(X, y) - 0.02
    assert ours.n_iter_ < 1000


def test_one_step_of_the_perceptron():
    X, y, _ = standardised("breast_cancer")
    model = Perceptron(shuffle=False, batch_size=len(X)).partial_fit(X, y, classes=[0, 1])
    # all rows are at the margin of weights of 0
    sign = (2 * y - 1)[:, None]
    np.testing.assert_allclose(model.coef_[0], (sign * X).mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(model.intercept_, sign.mean(), rtol=1e-10)


def test_the_perceptron_in_pieces():
    X, y, _ = standardised("digits")
    model = Perceptron()
    assert "classes must be passed" in assert_unchanged(model, lambda: model.partial_fit(X, y))
    for start in range(0, len(X), 300):
        model.partial_fit(X[start : start + 300], y[start : start + 300], classes=np.arange(10))
    assert model.n_iter_ == 1
    assert model.score(X, y) > 0.85
    model.class_weight = "balanced"
    with pytest.raises(ValueError, match="balanced"):
        model.partial_fit(X, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("penalty", ["l1", "l2", "elasticnet"])
def test_penalties_of_the_perceptron_shrink_its_weights(penalty):
    X, y, _ = standardised("wine")
    plain = Perceptron(fit_intercept=False, max_iter=50, tol=0.0).fit(X, y)
    shrunk = Perceptron(penalty=penalty, alpha=0.1, fit_intercept=False, max_iter=50, tol=0.0).fit(X, y)
    assert np.abs(shrunk.coef_).sum() < np.abs(plain.coef_).sum()
    assert not plain.intercept_.any()
