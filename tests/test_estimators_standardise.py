"""``standardize`` and ``standardize_target``: trained on scaled values, the estimator takes and gives raw ones."""

import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from scipy import sparse
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_models import CLASSES, small

import pymlp
from pymlp import AdamW, MLPClassifier, MLPRegressor, Predictor, rows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

OFFSET, SPREAD = np.array([3.0, -70.0, 0.0, 500.0]), np.array([0.1, 20.0, 1.0, 60.0])
LINEAR = ("squared_error", "absolute_error", "huber")


@pytest.fixture(scope="module")
def raw():
    X, y = load_diabetes(return_X_y=True)
    return X[:, :4] * 20 * SPREAD + OFFSET, y


def in_pipeline(cls, X, y, target=False, **options):
    """The same model, scaled by scikit-learn."""
    model = make_pipeline(StandardScaler(), small(cls, **options))
    if target:
        model = TransformedTargetRegressor(model, transformer=StandardScaler())
    return model.fit(X, y)


@pytest.mark.parametrize(
    "options", [{}, {"solver": "lbfgs", "max_iter": 20}, {"solver": "sgd", "batch_size": 30}], ids=str
)
def test_classifiers_are_what_they_are_behind_a_scaler(raw, options):
    X, y = raw[0], np.digitize(raw[1], [100, 200])
    model, expected = small(standardize=True, **options).fit(X, y), in_pipeline(MLPClassifier, X, y, **options)
    np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), rtol=1e-9, atol=1e-11)
    assert model.loss_ == pytest.approx(expected[-1].loss_, rel=1e-12)


@pytest.mark.parametrize("loss", [*LINEAR, "quantile", "gaussian_nll"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("inputs", [True, False])
def test_regressors_are_what_they_are_with_a_scaled_target(raw, loss, solver, inputs):
    X, y = raw
    if not inputs:
        X = (X - X.mean(axis=0)) / X.std(axis=0)
    options = {"loss": loss, "solver": solver, "max_iter": 10}
    model = small(MLPRegressor, standardize=inputs, standardize_target=True, **options).fit(X, y)
    scaled = (y - y.mean()) / y.std()
    expected = in_pipeline(MLPRegressor, X, scaled, **options)
    predicted = expected.predict(X) * y.std() + y.mean()
    np.testing.assert_allclose(model.predict(X), predicted, rtol=1e-9, atol=1e-7)
    assert model.score(X, y) == pytest.approx(expected.score(X, scaled), rel=1e-8)
    if loss == "gaussian_nll":
        deviation = expected[-1].predict(expected[0].transform(X), return_std=True)[1] * y.std()
        np.testing.assert_allclose(model.predict(X, return_std=True)[1], deviation, rtol=1e-9)


def test_several_targets_are_scaled_each(raw):
    X, y = raw[0], np.column_stack([raw[1], 1e4 - 30 * raw[1]])
    model = small(MLPRegressor, standardize=True, standardize_target=True).fit(X, y)
    expected = in_pipeline(MLPRegressor, X, y, target=True)
    np.testing.assert_allclose(model.predict(X), expected.predict(X), rtol=1e-9)
    levels = small(MLPRegressor, loss="quantile", standardize_target=True).fit(X / 100, y)
    assert levels.predict(X).shape == (len(X), 2, 3)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_network_takes_raw_values(raw, kind):
    X, y = raw[0], raw[1] if kind == "regressor" else (raw[1] > 140).astype(int)
    options = {"standardize_target": True} if kind == "regressor" else {}
    model = small(CLASSES[kind], standardize=True, **options).fit(X, y)
    # no step beside it: the weights are all there is
    hidden = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
    outputs = hidden @ model.coefs_[1] + model.intercepts_[1]
    found = model.predict(X)[:, None] if kind == "regressor" else model.decision_function(X)[:, None]
    np.testing.assert_allclose(found, outputs, rtol=1e-10, atol=1e-10)
    direct = Predictor(model.network_, model.params_)(X)
    np.testing.assert_array_equal(Predictor(model)(X)[..., -1:] if kind == "classifier" else found, direct)


@pytest.mark.parametrize("loss", ["quantile", "gaussian_nll"])
def test_a_predictor_scales_what_the_network_cannot(raw, loss):
    X, y = raw
    model = small(MLPRegressor, loss=loss, standardize=True, standardize_target=True).fit(X, y)
    predicted = model.predict(X) if loss == "quantile" else np.column_stack(model.predict(X, return_std=True))
    predictor = Predictor(model)
    np.testing.assert_array_equal(predictor(X), predicted)
    out = np.empty_like(predicted)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(predictor))(X, out=out), predicted)
    np.testing.assert_array_equal(predictor(X[0]), predictor(X[:1])[0])


@pytest.mark.parametrize("loss", ["squared_error", "quantile"])
def test_everything_is_kept(raw, loss, tmp_path):
    X, y = raw
    model = small(MLPRegressor, loss=loss, standardize=True, standardize_target=True).fit(X, y)
    model.save(tmp_path / "model")
    again = pymlp.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    twin = pickle.loads(pickle.dumps(model))
    # the scaling of the first fit goes along, also to rows with another one
    further = X[:50] * 2 + 1
    reached = model.partial_fit(further, y[:50]).predict(X)
    np.testing.assert_array_equal(twin.partial_fit(further, y[:50]).predict(X), reached)
    again.set_params(warm_start=True).fit(X, y)


def test_partial_fit_goes_on_where_it_was_to_the_bit(raw):
    X, y = raw
    whole = small(MLPRegressor, standardize=True, standardize_target=True, max_iter=3, shuffle=False, batch_size=50)
    pieces = pickle.loads(pickle.dumps(whole)).fit(X, y)
    pieces.partial_fit(X, y).partial_fit(X, y)
    whole.set_params(max_iter=5).fit(X, y)
    np.testing.assert_array_equal(pieces.params_, whole.params_)


def test_weights_that_were_changed_are_trained_on(raw):
    X, y = raw
    model = small(MLPRegressor, standardize=True, warm_start=True, learning_rate_init=1e-12).fit(X, y)
    model.coefs_[0] *= 2
    changed = model.params_.copy()
    model.fit(X, y)
    np.testing.assert_allclose(model.params_, changed, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("before", [False, True])
def test_a_warm_start_may_change_its_mind(raw, before):
    X, y = raw
    model = small(MLPRegressor, standardize=before, warm_start=True, learning_rate_init=1e-12).fit(X, y)
    expected = model.predict(X)
    model.set_params(standardize=not before, standardize_target=not before).fit(X, y)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-6)


def test_averages_of_standardised_weights(raw):
    X, y = raw
    options = {"solver": AdamW(average="ema"), "shuffle": False, "batch_size": 50}
    model = small(MLPRegressor, standardize=True, max_iter=5, **options).fit(X, y)
    np.testing.assert_allclose(model.predict(X), in_pipeline(MLPRegressor, X, y, max_iter=5, **options).predict(X))
    pieces = small(MLPRegressor, standardize=True, max_iter=3, **options).fit(X, y).partial_fit(X, y).partial_fit(X, y)
    np.testing.assert_array_equal(pieces.params_, model.params_)


@pytest.mark.parametrize("scoring", [None, "r2"])
@pytest.mark.parametrize("loss", ["squared_error", "gaussian_nll"])
def test_validation_rows_are_scored_as_they_are(raw, scoring, loss):
    X, y = raw
    options = {"loss": loss, "standardize": True, "standardize_target": True, "max_iter": 3, "scoring": scoring}
    model = small(MLPRegressor, **options).fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:])
    assert model.validation_scores_[-1] == pytest.approx(model.score(X[300:], y[300:]), rel=1e-9)
    held_out = small(MLPRegressor, early_stopping=True, **options).fit(X, y)
    assert len(held_out.validation_scores_) == 3


def test_held_out_rows_are_not_learnt_from(raw):
    X, y = raw
    model = small(MLPRegressor, early_stopping=True, standardize=True).fit(X, y)
    assert not np.allclose(model._standardisation.inputs.mean, X.mean(axis=0), rtol=1e-9)
    model = small(MLPRegressor, standardize=True).fit(X, y, X_val=X[:9] + 100, y_val=y[:9])
    np.testing.assert_allclose(model._standardisation.inputs.mean, X.mean(axis=0))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_columns_are_scaled_without_a_shift(raw, solver):
    X = np.where(np.random.RandomState(0).uniform(size=raw[0].shape) < 0.3, raw[0], 0.0)
    model = small(MLPRegressor, standardize=True, solver=solver).fit(sparse.csr_matrix(X), raw[1])
    scaler = StandardScaler(with_mean=False).fit(X)
    expected = small(MLPRegressor, solver=solver).fit(scaler.transform(X), raw[1])
    np.testing.assert_allclose(model.predict(sparse.csr_matrix(X)), expected.predict(scaler.transform(X)), rtol=1e-8)


def test_sparse_rows_after_dense_ones(raw):
    X, y = raw
    model = small(MLPRegressor, standardize=True).fit(X, y)
    before = model.params_.copy()
    with pytest.raises(ValueError, match="X is sparse, but its columns are standardized as those of the dense X"):
        model.partial_fit(sparse.csr_matrix(X), y)
    np.testing.assert_array_equal(model.params_, before)
    np.testing.assert_allclose(model.predict(sparse.csr_matrix(X)), model.predict(X), rtol=1e-10)
    small(MLPRegressor, standardize=True).fit(sparse.csr_matrix(X), y).partial_fit(X, y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_large_arrays_are_scaled_batch_by_batch(raw, solver, monkeypatch):
    X, y = np.round(raw[0]).astype("int16"), raw[1]
    options = {"solver": solver, "standardize": True, "batch_size": 50}
    expected = small(MLPRegressor, **options).fit(X.astype(float), y).predict(X)
    monkeypatch.setattr(rows, "SMALL_COPY_BYTES", 0)
    monkeypatch.setattr(rows, "DENSE_BYTES", 70 * 4 * 8)
    model = small(MLPRegressor, **options).fit(X, y)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-8)


def test_constant_columns_and_targets(raw):
    X, y = raw[0].copy(), np.full(len(raw[0]), 7.5)
    X[:, 2] = 4.0
    model = small(MLPRegressor, standardize=True, standardize_target=True, solver="lbfgs", max_iter=50).fit(X, y)
    np.testing.assert_allclose(model.predict(X), 7.5, atol=0.05)
    assert not model.coefs_[0][2].any()
    other = X.copy()
    other[:, 2] = 1e9
    np.testing.assert_array_equal(model.predict(other), model.predict(X))


def test_float32_that_loses_digits_warns(raw):
    X, y = raw
    with pytest.warns(UserWarning, match="raw values in float32 lose most of their digits"):
        small(MLPRegressor, standardize=True, dtype="float32").fit(X + 1e6, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        small(MLPRegressor, standardize=True).fit(X + 1e6, y)


@pytest.mark.parametrize("loss", ["poisson", "gamma", "tweedie"])
def test_targets_of_exponential_outputs_cannot_be_scaled(raw, loss):
    with pytest.raises(ValueError, match=f"standardize_target=True needs a loss .* not loss='{loss}'"):
        small(MLPRegressor, loss=loss, standardize_target=True).fit(*raw)
