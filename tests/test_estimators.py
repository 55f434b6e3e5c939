"""The estimators beyond parity: parameters, fitted state, predictions, life inside scikit-learn."""

import copy
import inspect
import json
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from scipy import sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_models import small

import pymlp
from pymlp import MLPClassifier, MLPRegressor, full_batch, rows
from pymlp.validation import HIDDEN_ACTIVATIONS

# the fits here are short on purpose
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# ---------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_the_signature_begins_with_scikit_learns(name):
    theirs = inspect.signature(getattr(neural_network, name)).parameters
    ours = inspect.signature(getattr(pymlp, name)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for parameter in theirs:
        assert ours[parameter].default == theirs[parameter].default, parameter
        assert ours[parameter].kind == theirs[parameter].kind, parameter
    rest = list(ours)[len(theirs) :]
    first, last = (["loss", "class_weight"], []) if name == "MLPClassifier" else ([], ["standardize_target"])
    shared = ["dropout", "l1_ratio", "scoring", "standardize", "max_time", "dtype", "roll_back", "input_dropout"]
    assert rest == [*first, *shared, *last]
    assert all(ours[parameter].kind is inspect.Parameter.KEYWORD_ONLY for parameter in rest)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": -1}, "'alpha' parameter of MLPClassifier"),
        ({"solver": "adagrad"}, "'solver' parameter"),
        ({"activation": "sine"}, "'activation' parameter"),
        ({"activation": ["relu", "sine"]}, "activation='sine' is unknown|activation has 2 names for 1"),
        ({"activation": ("softmax",)}, "serves as output activation only"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be > 0"),
        ({"hidden_layer_sizes": (3, -2)}, "hidden_layer_sizes must be > 0"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"loss": "huber"}, "'loss' parameter"),
        ({"dtype": "float16"}, "'dtype' parameter"),
        ({"max_iter": 0}, "'max_iter' parameter"),
        ({"max_time": 0}, "'max_time' parameter"),
        ({"roll_back": 7}, "'roll_back' parameter"),
        ({"solver": "lbfgs2"}, "'solver' parameter"),
        ({"learning_rate": 0.1}, "'learning_rate' parameter"),
        ({"early_stopping": True, "validation_fraction": 0.005}, "validation set is too small"),
    ],
)
def test_bad_parameters_are_named(iris, parameters, message):
    with pytest.raises(ValueError, match=message):
        small(**parameters).fit(*iris)


@pytest.mark.parametrize(
    ("name", "good", "bad", "message"),
    [
        ("max_iter", 3, 3.0, "The 'max_iter' parameter of MLPClassifier must be an int in the range"),
        ("shuffle", True, 1, "The 'shuffle' parameter of MLPClassifier must be"),
        ("hidden_layer_sizes", (5,), (5.0,), r"hidden_layer_sizes must be > 0, got \[5.0\]"),
        ("hidden_layer_sizes", (1,), (True,), r"hidden_layer_sizes must be > 0, got \[True\]"),
        ("random_state", 1, 1.0, "The 'random_state' parameter of MLPClassifier must be"),
    ],
)
def test_an_equal_value_of_another_type_is_another_value(iris, name, good, bad, message):
    # what is found of a value is remembered
    model = small(max_iter=1)
    for _ in range(2):
        model.set_params(**{name: good}).fit(*iris)
        with pytest.raises(ValueError, match=message):
            model.set_params(**{name: bad}).fit(*iris)


def test_fits_share_no_network(iris):
    first, second, other = (small(max_iter=1, alpha=alpha).fit(*iris) for alpha in (0.5, 0.5, 0.25))
    assert first.network_ == second.network_
    assert first.network_ is not second.network_
    assert first.network_.free_plans is not second.network_.free_plans
    assert (first.network_.l2, other.network_.l2) == (0.5, 0.25)


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_every_hidden_activation_learns(iris, activation):
    X, y = iris
    model = small(activation=activation, solver="lbfgs", max_iter=40).fit(X, y)
    assert model.score(X, y) > 0.95


def test_each_layer_can_have_its_own_activation(iris):
    model = small(hidden_layer_sizes=(5, 4), activation=("gelu", "tanh")).fit(*iris)
    assert [layer.activation for layer in model.network_.layers] == ["gelu", "tanh", "softmax"]


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float32])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_dtype_decides_the_arithmetic(iris, dtype, solver):
    X, y = iris
    model = small(dtype=dtype, solver=solver).fit(X, y)
    assert model.params_.dtype == dtype
    assert model.predict_proba(X).dtype == dtype
    assert model.predict_proba(X.astype("float32")).dtype == dtype


def test_dtype_none_follows_the_data(iris):
    X, y = iris
    assert small().fit(X.astype("float32"), y).params_.dtype == "float32"
    assert small().fit(X.astype(int), y).params_.dtype == "float64"


# -------------------------------------------------------------------------------------------------------- fitted state


def test_weights_are_views_that_can_be_assigned(iris):
    X, y = iris
    model = small().fit(X, y)
    model.coefs_[0][2, 3] = 5.0
    assert model.params_[2 * 6 + 3] == 5.0
    model.coefs_[0] = np.zeros((4, 6))
    assert not model.params_[: 4 * 6].any()
    model.intercepts_ = [np.ones(6), np.full(3, 2.0)]
    assert model.params_[-3:].tolist() == [2.0, 2.0, 2.0]
    model.coefs_[:] = [np.ones((4, 6)), np.ones((6, 3))]
    assert model.params_[:24].all()
    with pytest.raises(ValueError, match="arrays of shapes"):
        model.coefs_ = [np.zeros((4, 6)), np.zeros((6, 2))]
    with pytest.raises(ValueError, match="arrays of shapes"):
        model.coefs_[0] = np.zeros(6)
    with pytest.raises(ValueError, match="could not convert"):
        model.coefs_ = [np.zeros((4, 6)), np.full((6, 3), "many")]
    assert model.params_[:24].all()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_views_of_their_own(iris, copied):
    X, y = iris
    model = small().fit(X, y)
    twin = copied(model)
    np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
    before = model.predict_proba(X)
    twin.coefs_[0][:] = 0
    twin.intercepts_[0][:] = 0
    assert np.ptp(twin.predict_proba(X), axis=0).max() == 0
    np.testing.assert_array_equal(model.predict_proba(X), before)
    # the optimizer's state goes along
    twin = copied(model)
    model.partial_fit(X, y)
    assert twin.partial_fit(X, y).params_.tobytes() == model.params_.tobytes()


def test_a_clone_is_not_fitted(iris):
    model = clone(small().fit(*iris))
    with pytest.raises(NotFittedError):
        model.predict(iris[0])
    with pytest.raises(AttributeError, match="not fitted yet, so it has no coefs_"):
        _ = model.coefs_


def test_another_version_warns(iris, monkeypatch):
    stored = pickle.dumps(small().fit(*iris))
    monkeypatch.setattr(pymlp, "__version__", "99.0")
    with pytest.warns(UserWarning, match=r"was pickled by pymlp .* loaded by 99\.0"):
        pickle.loads(stored)


@pytest.mark.parametrize("kind", ["numbers", "text", "objects", "multilabel", "regressor"])
def test_model_state_round_trip_through_json(iris, kind):
    X, y = iris
    cls = MLPClassifier
    if kind == "text":
        y = np.array(["ab", "c", "é"])[y]
    elif kind == "objects":
        y = np.array(["ab", "c", "é"], object)[y]
    elif kind == "multilabel":
        y = np.eye(3, dtype=int)[y]
    elif kind == "regressor":
        cls = MLPRegressor
    model = small(cls, early_stopping=True, n_iter_no_change=np.inf).fit(X, y)
    network, params, metadata = model._model_state()
    again = cls._from_model_state(network, params.copy(), json.loads(json.dumps(metadata)))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.predict(X).dtype == model.predict(X).dtype
    assert again.get_params() == model.get_params()
    assert again.validation_scores_ == model.validation_scores_
    assert again.n_features_in_ == 4
    again.set_params(warm_start=True, early_stopping=False).fit(X, y)
    with pytest.raises(ValueError, match="not the description"):
        cls._from_model_state(network, params, {"class": cls.__name__})


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_files_of_the_first_version_load(iris, cls):
    X, y = iris
    model = small(cls).fit(X, y)
    network, params, metadata = model._model_state()
    own = inspect.signature(getattr(neural_network, cls.__name__)).parameters
    kept = {*own, "loss", "dtype"}
    metadata["parameters"] = {name: value for name, value in metadata["parameters"].items() if name in kept}
    again = cls._from_model_state(network, params, metadata)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.get_params() == model.get_params()


# ---------------------------------------------------------------------------------------------------------- predicting


def test_scores_probabilities_and_decisions_agree(iris):
    X, y = iris
    model = small(max_iter=30).fit(X, y)
    scores, probabilities = model.decision_function(X), model.predict_proba(X)
    assert scores.shape == (150, 3)
    exponentials = np.exp(scores)
    np.testing.assert_allclose(probabilities, exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_array_equal(model.predict(X), model.classes_[scores.argmax(axis=1)])
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(probabilities))
    binary = small(max_iter=30).fit(X[:100], y[:100])
    assert binary.decision_function(X).shape == (150,)
    np.testing.assert_allclose(binary.predict_proba(X)[:, 1], 1 / (1 + np.exp(-binary.decision_function(X))))
    np.testing.assert_array_equal(binary.predict(X), (binary.decision_function(X) > 0).astype(int))
    labels = small().fit(X, np.eye(3, dtype=int)[y])
    assert labels.decision_function(X).shape == labels.predict_proba(X).shape == (150, 3)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_sparse_rows_are_predicted_in_blocks(iris, kind, monkeypatch):
    X, y = iris
    model = small(MLPRegressor).fit(X, y)
    expected = model.predict(X)
    monkeypatch.setattr(rows, "DENSE_BYTES", 7 * 4 * 8)
    np.testing.assert_allclose(model.predict(kind(X)), expected, rtol=1e-12)


def test_lbfgs_over_blocks_of_sparse_rows(iris, monkeypatch):
    X, y = iris
    weight = np.linspace(0, 2, 150)
    expected = small(solver="lbfgs", alpha=0.1).fit(X, y, sample_weight=weight)
    monkeypatch.setattr(full_batch, "DENSE_BYTES", 40 * 4 * 8)
    model = small(solver="lbfgs", alpha=0.1).fit(sparse.csr_matrix(X), y, sample_weight=weight)
    np.testing.assert_allclose(model.params_, expected.params_, rtol=1e-8, atol=1e-10)
    assert model.loss_ == pytest.approx(expected.loss_, rel=1e-12)


@pytest.mark.parametrize("parameters", [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"dtype": "float32"}])
@pytest.mark.parametrize("kind", ["uint8", "float16"])
def test_large_arrays_of_another_type_are_converted_in_blocks(iris, kind, parameters, monkeypatch):
    X, y = np.round(9 * np.abs(iris[0])).astype(kind), iris[1]
    dtype = parameters.get("dtype", "float64")
    expected = small(batch_size=20, **parameters).fit(X.astype(dtype), y)
    probabilities = expected.predict_proba(X.astype(dtype))
    forty_rows = 40 * 4 * np.dtype(dtype).itemsize
    monkeypatch.setattr(rows, "DENSE_BYTES", forty_rows)
    monkeypatch.setattr(full_batch, "DENSE_BYTES", forty_rows)
    monkeypatch.setattr(rows, "SMALL_COPY_BYTES", 0)
    converted = []
    to_dense = rows._dense
    monkeypatch.setattr(rows, "_dense", lambda X, dtype: converted.append(len(X)) or to_dense(X, dtype))
    model = small(batch_size=20, **parameters).fit(X, y)
    assert model.params_.dtype == dtype
    np.testing.assert_allclose(model.params_, expected.params_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(model.predict_proba(X), probabilities, rtol=1e-8)
    assert max(converted) == 40


def test_what_float32_cannot_hold_is_placed_in_large_arrays_too(iris, monkeypatch):
    X, y = iris[0].copy(), iris[1]
    model = small(dtype="float32").fit(X, y)
    X[20, 1] = 1e300
    monkeypatch.setattr(rows, "SMALL_COPY_BYTES", 0)
    place = "infinity or a value too large for float32: first in row 20, column 1"
    with pytest.raises(ValueError, match=place):
        small(dtype="float32").fit(X, y)
    with pytest.raises(ValueError, match=place):
        model.predict(X)
    with pytest.raises(ValueError, match=place):
        pymlp.train(model.network_, model.params_, X, np.eye(3)[y])


# ------------------------------------------------------------------------------------------------- inside scikit-learn


def test_lives_in_pipelines_and_searches(iris):
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), small(max_iter=60, learning_rate_init=0.02))
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.9
    search = GridSearchCV(pipeline, {"mlpclassifier__hidden_layer_sizes": [(3,), (9,)]}, cv=3, n_jobs=2).fit(X, y)
    assert search.best_score_ > 0.9


def test_feature_names_are_kept_and_checked(iris):
    pandas = pytest.importorskip("pandas", reason="needs a data frame")
    frame = pandas.DataFrame(iris[0], columns=["a", "b", "c", "d"])
    model = small().fit(frame, iris[1])
    assert list(model.feature_names_in_) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a", "c", "d"]])
    model.fit(*iris)
    assert not hasattr(model, "feature_names_in_")


def test_negative_zero_stays_with_who_asked_for_it(iris):
    def network(**parameters):
        return small(max_iter=1, **parameters).fit(*iris).network_

    for name, of in (("alpha", "l2"), ("input_dropout", "input_dropout")):
        found = [getattr(network(**{name: value}), of) for value in (-0.0, 0.0, -0.0)]
        assert [np.signbit(value) for value in found] == [True, False, True]
