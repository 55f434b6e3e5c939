"""The losses of the two estimators: what each predicts, scores and keeps."""

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from small_models import small

import pymlp
from pymlp import (
    CompiledLoss,
    CustomLoss,
    Focal,
    GaussianNLL,
    Huber,
    LogLoss,
    MLPClassifier,
    MLPRegressor,
    Predictor,
    Quantile,
    Tweedie,
)
from pymlp.functions import PROBABILITIES
from pymlp.losses import LOSSES, BinaryLogLoss
from pymlp.scores import pinball_d2
from pymlp.targets import CLASS_LOSSES, NUMBER_LOSSES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FAST = {"max_iter": 80, "learning_rate_init": 0.02}


def cross_entropy(y, output):
    p = np.clip(output, 1e-12, 1 - 1e-12)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=1), (p - y) / (p * (1 - p))


def half_squares(y, output):
    return 0.5 * ((output - y) ** 2).mean(axis=1), output - y


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return 20 * X, (y - y.mean()) / y.std()


def labelled(kind, y):
    return {
        "multiclass": y,
        "text": np.array(["ab", "c", "é"])[y],
        "binary": (y == 1).astype(int),
        "text binary": np.array(["no", "yes"])[(y == 1).astype(int)],
        "multilabel": np.eye(3, dtype=int)[y],
    }[kind]


KINDS = ["multiclass", "text", "binary", "text binary", "multilabel"]


def test_every_loss_belongs_to_an_estimator():
    binary = {"binary_log_loss", "binary_focal"}
    assert {*CLASS_LOSSES, *NUMBER_LOSSES} == set(LOSSES) - binary


# ---------------------------------------------------------------------------------------------------------- classifier


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", [*CLASS_LOSSES, LogLoss(0.1), Focal(0.5), cross_entropy], ids=str)
def test_classifiers_learn_by_every_loss(iris, loss, kind, tmp_path):
    X, y = iris[0], labelled(kind, iris[1])
    model = small(loss=loss, **FAST).fit(X, y)
    assert model.score(X, y) > 0.85
    scores = model.decision_function(X)
    has_probabilities = model.network_.output_activation in PROBABILITIES
    assert hasattr(model, "predict_proba") == hasattr(model, "predict_log_proba") == has_probabilities
    answer = Predictor(model)(X)
    if has_probabilities:
        np.testing.assert_array_equal(answer, model.predict_proba(X))
    else:
        np.testing.assert_array_equal(answer, scores)
    if "binary" in kind:
        np.testing.assert_array_equal(model.predict(X), model.classes_[(scores > 0).astype(int)])
    elif kind != "multilabel":
        np.testing.assert_array_equal(model.predict(X), model.classes_[scores.argmax(axis=1)])
    model.save(tmp_path / "model")
    again = pymlp.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert hasattr(again, "predict_proba") == has_probabilities
    twin = pickle.loads(pickle.dumps(model))
    assert twin.partial_fit(X, y).params_.tobytes() == model.partial_fit(X, y).params_.tobytes()


@pytest.mark.parametrize("loss", ["hinge", Focal(), CustomLoss(half_squares), cross_entropy, "log_loss", "?"], ids=str)
def test_probabilities_are_known_to_exist_before_a_fit(loss):
    assert hasattr(small(loss=loss), "predict_proba") == (loss != "hinge" and not isinstance(loss, CustomLoss))


def test_what_has_no_probabilities_says_so(iris):
    model = small(loss="hinge").fit(*iris)
    with pytest.raises(AttributeError, match="has no attribute 'predict_proba'") as failure:
        model.predict_proba(iris[0])
    assert "not available for loss='hinge'" in str(failure.value.__cause__)
    # as it was fitted, whatever is to be fitted next
    assert not hasattr(model.set_params(loss="log_loss"), "predict_proba")


def test_a_loss_of_ones_own_is_what_the_built_in_is(iris):
    X, y = iris[0], labelled("binary", iris[1])
    own, built_in = small(loss=cross_entropy).fit(X, y), small().fit(X, y)
    np.testing.assert_allclose(own.params_, built_in.params_, rtol=1e-9, atol=1e-11)
    assert own.loss_ == pytest.approx(built_in.loss_, rel=1e-10)
    minimised = small(loss=cross_entropy, solver="lbfgs").fit(X, y)
    np.testing.assert_allclose(minimised.params_, small(solver="lbfgs").fit(X, y).params_, rtol=1e-6, atol=1e-8)


def test_compiled_code_is_a_loss(diabetes):
    numba = pytest.importorskip("numba", reason="compiles the loss")
    doubles = numba.types.CPointer(numba.types.double)

    @numba.cfunc(numba.types.void(numba.int64, numba.int64, doubles, doubles, doubles, doubles))
    def compiled(rows, outputs, y, output, value, gradient):
        for row in range(rows):
            value[row] = 0.0
            for column in range(row * outputs, (row + 1) * outputs):
                gradient[column] = output[column] - y[column]
                value[row] += 0.5 * gradient[column] ** 2 / outputs

    X, y = diabetes
    own, built_in = (small(MLPRegressor, loss=loss).fit(X, y) for loss in (CompiledLoss(compiled), "squared_error"))
    np.testing.assert_allclose(own.params_, built_in.params_, rtol=1e-9, atol=1e-11)
    for copied in (clone(own), copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        np.testing.assert_array_equal(copied.fit(X, y).params_, own.params_)


def test_label_smoothing_bounds_the_scores(iris):
    X, y = iris
    plain, smooth = (
        small(loss=loss, solver="lbfgs", alpha=0.0, max_iter=100).fit(X, y) for loss in ("log_loss", LogLoss(0.2))
    )
    assert np.abs(smooth.decision_function(X)).max() < np.abs(plain.decision_function(X)).max() / 2


@pytest.mark.parametrize(
    ("cls", "loss", "message"),
    [
        (MLPClassifier, "squared_error", "'loss' parameter of MLPClassifier"),
        (MLPClassifier, "binary_log_loss", "'loss' parameter of MLPClassifier"),
        (MLPClassifier, Huber(), "'loss' parameter of MLPClassifier"),
        (MLPClassifier, BinaryLogLoss(), "does not fit more than two classes; give LogLoss"),
        (MLPClassifier, Focal, r"loss must be an object such as Focal\(\)"),
        (MLPRegressor, "hinge", "'loss' parameter of MLPRegressor"),
        (MLPRegressor, LogLoss(), "'loss' parameter of MLPRegressor"),
        (MLPRegressor, Quantile, r"loss must be an object such as Quantile\(\)"),
    ],
)
def test_losses_that_do_not_fit_are_named(iris, cls, loss, message):
    with pytest.raises(ValueError, match=message):
        small(cls, loss=loss).fit(*iris)


def test_what_a_loss_of_ones_own_does_wrong_leaves_the_estimator_as_it_was(iris):
    model = small(loss=cross_entropy).fit(*iris)
    before = copy.deepcopy(vars(model))
    model.loss = lambda y, output: (np.zeros(len(y)), np.zeros(3))
    with pytest.raises(ValueError, match="must return values of shape"):
        model.fit(*iris)
    model.loss = cross_entropy
    np.testing.assert_array_equal(model.params_, before["params_"])
    assert model.loss_curve_ == before["loss_curve_"]


def test_a_file_has_no_place_for_a_function(iris, tmp_path):
    model = small(loss=cross_entropy).fit(*iris)
    model.save(tmp_path / "model")
    again = pymlp.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(iris[0]), model.predict_proba(iris[0]))
    with pytest.raises(ValueError, match="set loss anew"):
        again.partial_fit(*iris)
    again.set_params(loss=cross_entropy).partial_fit(*iris)


# ----------------------------------------------------------------------------------------------------------- regressor


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("loss", [*NUMBER_LOSSES, Huber(0.5), Tweedie(1.2), Quantile([0.5]), half_squares], ids=str)
def test_regressors_learn_by_every_loss(diabetes, loss, targets, tmp_path):
    X, y = diabetes
    if loss in ("poisson", "gamma", "tweedie") or isinstance(loss, Tweedie):
        y = np.exp(0.5 * y)
    y = y if targets == 1 else np.column_stack([y, 1 + 0.5 * y])
    model = small(MLPRegressor, loss=loss, **FAST).fit(X, y)
    assert model.score(X, y) > (0.2 if loss == "quantile" else 0.3)
    predicted = model.predict(X)
    assert predicted.shape == (y.shape if loss != "quantile" else (*y.shape, 3))
    if loss != "gaussian_nll":
        columns = predicted.reshape(len(X), -1) if loss == "quantile" else predicted
        np.testing.assert_array_equal(Predictor(model)(X), columns)
    model.save(tmp_path / "model")
    again = pymlp.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(X), predicted)
    assert again.score(X, y) == model.score(X, y)


@pytest.mark.parametrize("targets", [1, 2])
def test_quantiles_never_cross_and_hold_their_share(diabetes, targets):
    X, y = diabetes
    y = y if targets == 1 else np.column_stack([y, -3 * y])
    levels = [0.1, 0.5, 0.8]
    model = small(MLPRegressor, loss=Quantile(levels), max_iter=300, learning_rate_init=0.02).fit(X, y)
    predicted = model.predict(X)
    assert np.diff(predicted, axis=-1).min() > 0
    np.testing.assert_allclose(
        (y[..., None] <= predicted).mean(axis=0), np.resize(levels, (*y.shape[1:], 3)), atol=0.05
    )


def test_quantiles_are_scored_by_their_loss(diabetes):
    X, y = diabetes
    weight = np.random.RandomState(0).uniform(size=len(y))
    model = small(MLPRegressor, loss="quantile", early_stopping=True, **FAST).fit(X, y)
    expected = pinball_d2(model.predict(X), np.repeat(y[:, None], 3, axis=1), (0.1, 0.5, 0.9), weight)
    assert model.score(X, y, sample_weight=weight) == pytest.approx(expected, rel=1e-13)
    assert max(model.validation_scores_) == model.best_validation_score_ < 1
    with pytest.raises(ValueError, match=r"y must be of shape \(442, 1\), got \(442, 2\)"):
        model.score(X, np.column_stack([y, y]))


def test_means_and_deviations():
    X = np.random.RandomState(0).uniform(-2, 2, (800, 1))
    y = X[:, 0] + np.random.RandomState(1).normal(size=800) * np.where(X[:, 0] > 0, 0.5, 0.1)
    model = small(MLPRegressor, loss=GaussianNLL(), max_iter=300, learning_rate_init=0.02).fit(X, y)
    mean, deviation = model.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, model.predict(X))
    assert mean.shape == deviation.shape == (800,)
    right, left = (np.median(deviation[part]) for part in (X[:, 0] > 0.5, X[:, 0] < -0.5))
    assert right == pytest.approx(0.5, rel=0.35)
    assert left == pytest.approx(0.1, rel=0.35)
    assert model.score(X, y) == r2_score(y, mean)
    np.testing.assert_array_equal(Predictor(model)(X), np.column_stack([mean, deviation]))
    with pytest.raises(ValueError, match="return_std=True needs loss=GaussianNLL"):
        small(MLPRegressor).fit(X, y).predict(X, return_std=True)


@pytest.mark.parametrize(("loss", "lowest"), [("poisson", 0), ("gamma", 0), ("tweedie", -1)])
def test_targets_below_the_losses_bound_are_placed(diabetes, loss, lowest):
    X, y = diabetes[0], np.abs(diabetes[1]) + 0.1
    y[17] = lowest if loss != "poisson" else -1
    with pytest.raises(ValueError, match=rf"y must be at least .* for loss={loss!r}, but row 17, column 0"):
        small(MLPRegressor, loss=loss).fit(X, y)


# -------------------------------------------------------------------------------------------------- in scikit-learn


@pytest.mark.parametrize("loss", [Focal(3.0), LogLoss(label_smoothing=0.2), cross_entropy], ids=str)
def test_losses_are_cloned(loss):
    model = clone(small(loss=loss))
    assert model.loss == loss


def test_a_search_goes_through_the_parameters_of_a_loss(iris, diabetes):
    search = GridSearchCV(small(loss=Focal(), **FAST), {"loss__gamma": [0.0, 50.0]}, cv=3).fit(*iris)
    assert search.best_params_ == {"loss__gamma": 0.0}
    assert search.best_estimator_.network_.loss == Focal(0.0)
    search = GridSearchCV(small(MLPRegressor, loss=Huber()), {"loss": [Huber(0.1), "absolute_error"]}, cv=3)
    search.fit(*diabetes)
