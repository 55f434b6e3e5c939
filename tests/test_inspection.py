"""Derivatives by the inputs: against finite differences and known answers."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from scipy import sparse
from small_models import small

import pymlp
from pymlp import MLPClassifier, MLPRegressor, inspection

# the fits here are short on purpose
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BACKENDS = pymlp.backends.available()


def differences(answer, X, width=1e-5):
    """Central differences of ``answer``, of shape (rows, ...), by each column of X: shape (rows, ..., inputs)."""
    steps = width * np.eye(X.shape[1])
    return np.stack([(answer(X + step) - answer(X - step)) / (2 * width) for step in steps], axis=-1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["decision_function", "predict_proba"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_gradients_of_a_classifier_are_those_of_its_answers(iris, backend, method, kind):
    X, y = iris[0], np.array(["a", "b", "c"])[iris[1]]
    if kind == "binary":
        X, y = X[:100], y[:100]
    elif kind == "multilabel":
        y = np.column_stack([iris[1] == 0, iris[1] < 2]).astype(int)
    model = small(activation="tanh", max_iter=20).fit(X, y)
    with pymlp.config_context(backend=backend):
        found = model.input_gradient(X, response_method=method)
    expected = differences(getattr(model, method), X)
    if kind == "binary" and method == "predict_proba":
        expected = expected[:, 1]
    assert found.shape == ((100, 4) if kind == "binary" else (150, len(model.classes_), 4))
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_gradient_of_one_class(iris):
    X, y = iris[0], np.array(["a", "b", "c"])[iris[1]]
    model = small().fit(X, y)
    every = model.input_gradient(X)
    for position, label in enumerate(model.classes_):
        assert np.array_equal(model.input_gradient(X, target=label), every[:, position])
    two = small().fit(X[:100], y[:100])
    assert np.array_equal(two.input_gradient(X, target="b"), two.input_gradient(X))
    assert np.array_equal(two.input_gradient(X, target="a"), -two.input_gradient(X))
    assert np.array_equal(
        two.input_gradient(X, target="a", response_method="predict_proba"),
        -two.input_gradient(X, response_method="predict_proba"),
    )


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_gradients_of_a_regressor(iris, loss):
    X, y = iris[0], iris[1] + 0.5
    model = small(MLPRegressor, activation="tanh", loss=loss).fit(X, y)
    np.testing.assert_allclose(model.input_gradient(X), differences(model.predict, X), atol=1e-8)
    both = small(MLPRegressor, activation="tanh", loss=loss).fit(X, np.column_stack([y, y**2]))
    found = both.input_gradient(X)
    np.testing.assert_allclose(found, differences(both.predict, X), atol=1e-8)
    assert np.array_equal(both.input_gradient(X, target=1), found[:, 1])


def test_gradients_of_a_linear_model_are_its_weights(iris):
    model = MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", random_state=0, dtype="float32").fit(*iris)
    found = model.input_gradient(iris[0])
    assert found.dtype == np.float32
    assert np.array_equal(found, np.broadcast_to(model.coefs_[0][:, 0], found.shape))


def test_rows_may_be_sparse_or_many_or_none(iris, monkeypatch):
    X, y = iris
    model = small().fit(X, y)
    found = model.input_gradient(X, target=0)
    assert np.array_equal(model.input_gradient(sparse.csr_matrix(X), target=0), found)
    monkeypatch.setattr("pymlp.inspection.block_rows", lambda n_parameters: 7)
    assert np.array_equal(model.input_gradient(X, target=0), found)


@pytest.mark.parametrize("loss", ["squared_error", pymlp.Quantile([0.1, 0.9]), pymlp.GaussianNLL()], ids=repr)
def test_scaled_inputs_and_targets_are_in_the_users_units(iris, loss):
    X, y = 5.0 + 3.0 * iris[0], 100.0 * iris[1]
    options = {"loss": loss, "activation": "tanh", "standardize": True, "standardize_target": True}
    model = small(MLPRegressor, **options).fit(X, y)
    if isinstance(loss, pymlp.GaussianNLL):

        def predict(X):
            return np.column_stack(model.predict(X, return_std=True))

    else:
        predict = model.predict
    np.testing.assert_allclose(model.input_gradient(X), differences(predict, X, 1e-4), rtol=1e-6, atol=1e-7)
    answers = predict(X)
    np.testing.assert_allclose(model.layer_outputs(X)[-1].reshape(answers.shape), answers, rtol=1e-12)


def test_a_loss_without_probabilities_has_scores_only(iris):
    model = small(loss="hinge", activation="tanh").fit(*iris)
    found = model.input_gradient(iris[0])
    np.testing.assert_allclose(found, differences(model.decision_function, iris[0]), atol=1e-8)
    with pytest.raises(ValueError, match=r"response_method=.* is not one of auto, decision_function$"):
        model.input_gradient(iris[0], response_method="predict_proba")


def test_what_cannot_be_differentiated(iris):
    classifier, regressor = small().fit(*iris), small(MLPRegressor).fit(*iris)
    with pytest.raises(ValueError, match=r"target must be one of \[0, 1, 2\], got 3"):
        classifier.input_gradient(iris[0], target=3)
    with pytest.raises(ValueError, match=r"target must be one of \[0\], got 1"):
        regressor.input_gradient(iris[0], target=1)
    with pytest.raises(ValueError, match="response_method='predict' is not one of auto, decision_function"):
        classifier.input_gradient(iris[0], response_method="predict")
    with pytest.raises(ValueError, match="response_method='predict_proba' is not one of auto, predict"):
        regressor.input_gradient(iris[0], response_method="predict_proba")
    with pytest.raises(ValueError, match="X has 3 features"):
        regressor.input_gradient(iris[0][:, :3])
    with pytest.raises(ValueError, match="not fitted"):
        MLPClassifier().input_gradient(iris[0])


def test_outputs_of_layers(iris):
    X, y = iris
    model = small(hidden_layer_sizes=(6, 5)).fit(X, y)
    first, second, last = model.layer_outputs(X)
    weights, biases = model.coefs_, model.intercepts_
    np.testing.assert_allclose(first, np.maximum(X @ weights[0] + biases[0], 0), atol=1e-14)
    np.testing.assert_allclose(second, np.maximum(first @ weights[1] + biases[1], 0), atol=1e-14)
    np.testing.assert_allclose(last, model.predict_proba(X), atol=1e-14)
    again = model.layer_outputs(sparse.csr_matrix(X))
    assert all(np.array_equal(*pair) for pair in zip(again, (first, second, last), strict=True))
    with pytest.raises(ValueError, match="X has 3 features"):
        model.layer_outputs(X[:, :3])


def test_outputs_of_layers_in_blocks_and_float32(iris, monkeypatch):
    model = small(MLPRegressor, dtype="float32").fit(*iris)
    whole = model.layer_outputs(iris[0])
    assert {part.dtype for part in whole} == {np.dtype("float32")}
    np.testing.assert_allclose(whole[-1][:, 0], model.predict(iris[0]), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr("pymlp.inspection.block_rows", lambda n_parameters: 7)
    for part, expected in zip(model.layer_outputs(iris[0]), whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-5)


def test_outputs_of_layers_of_many_rows():
    # a layer passes on what its last row makes: here normalised, activated and with its inputs added
    network = pymlp.Network(
        3,
        (pymlp.Dense(3, "tanh", normalization="layer", residual=True, dropout=0.5), pymlp.Dense(1, "identity")),
        dtype="float64",
    )
    params = network.initial_params(0)
    X = np.random.RandomState(0).normal(size=(5, 3))
    hidden, last = inspection.layer_outputs(network, params, X)
    z = X @ network.weights(params)[0] + network.biases(params)[0]
    normal = (z - z.mean(axis=1, keepdims=True)) / np.sqrt(z.var(axis=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(hidden, X + np.tanh(normal), atol=1e-14)
    np.testing.assert_allclose(last, hidden @ network.weights(params)[1] + network.biases(params)[1], atol=1e-14)
