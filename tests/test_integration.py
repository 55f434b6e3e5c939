"""The estimators inside scikit-learn's machinery: pipelines, searches, ensembles, calibration, inspection, routing."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import BaggingRegressor, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes HalvingGridSearchCV importable
from sklearn.inspection import PartialDependenceDisplay, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, get_scorer, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from small_models import small

from pymlp import AdamW, Cosine, Dense, Focal, MLPClassifier, MLPRegressor, Quantile

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FAST = {"max_iter": 40, "learning_rate_init": 0.02}


@pytest.fixture(scope="module")
def flowers():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def tumours():
    X, y = load_breast_cancer(return_X_y=True)
    return X[:, :10], y


@pytest.fixture(scope="module")
def diabetes():
    return load_diabetes(return_X_y=True)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def pipeline(**parameters):
    return Pipeline([("scale", StandardScaler()), ("mlp", small(**{**FAST, **parameters}))])


# ------------------------------------------------------------------------------------------------------------ searches


def test_a_grid_over_the_parameters_of_options(flowers):
    grid = {
        "mlp__solver__weight_decay": [0.0, 100.0],
        "mlp__learning_rate__warmup": [0, 2],
        "mlp__loss__gamma": [0.0, 1.0],
    }
    model = pipeline(solver=AdamW(), learning_rate=Cosine(), loss=Focal())
    search = GridSearchCV(model, grid, cv=3).fit(*flowers)
    assert search.best_params_["mlp__solver__weight_decay"] == 0.0
    assert search.best_score_ > 0.9
    assert model["mlp"].solver == AdamW()
    # a decay of 100 a step undoes every step
    scores = search.cv_results_["mean_test_score"]
    decays = np.array(search.cv_results_["param_mlp__solver__weight_decay"], float)
    assert scores[decays == 100].max() < scores[decays == 0].min()


def test_a_grid_over_options_and_layers(flowers):
    grid = {
        "mlp__hidden_layer_sizes": [(6,), [Dense(6, "gelu", dropout=0.1)], (Dense(8, normalization="layer"), 4)],
        "mlp__solver": ["adam", AdamW(clip_norm=1.0)],
        "mlp__class_weight": [None, "balanced"],
    }
    search = GridSearchCV(pipeline(), grid, cv=2).fit(*flowers)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ > 0.85


def test_halving_with_epochs_as_the_resource(flowers):
    search = HalvingGridSearchCV(
        pipeline(), {"mlp__learning_rate_init": [1e-5, 1e-4, 1e-3, 0.03]}, resource="mlp__max_iter", min_resources=5,
        max_resources=40, factor=2, cv=2, random_state=0,
    ).fit(*flowers)  # fmt: skip
    assert search.n_resources_ == [5, 10, 20]
    assert search.best_params_ == {"mlp__learning_rate_init": 0.03, "mlp__max_iter": 20}


@pytest.mark.parametrize("scoring", ["neg_log_loss", "roc_auc_ovr", ["accuracy", "f1_macro"]])
def test_cross_validation_by_any_score(flowers, scoring):
    found = cross_validate(pipeline(), *flowers, cv=3, scoring=scoring, error_score="raise")
    assert all(np.isfinite(values).all() for values in found.values())


def test_curves(flowers):
    sizes, training, _ = learning_curve(
        pipeline(), *flowers, cv=3, train_sizes=[0.3, 1.0], shuffle=True, random_state=0
    )
    assert len(sizes) == len(training) == 2
    training, _ = validation_curve(pipeline(), *flowers, param_name="mlp__dropout", param_range=[0.0, 0.5], cv=3)
    assert training.shape == (2, 3)


# ----------------------------------------------------------------------------------------------------------- ensembles


@pytest.mark.parametrize("loss", ["log_loss", "hinge"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_gives_probabilities(tumours, loss, method):
    X, y = tumours
    model = CalibratedClassifierCV(pipeline(loss=loss), cv=3, method=method).fit(X[:400], y[:400])
    probabilities = model.predict_proba(X[400:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert brier_score_loss(y[400:], probabilities[:, 1]) < 0.1


def test_stacking(tumours):
    X, y = tumours
    members = [("soft", pipeline()), ("hard", pipeline(loss="hinge")), ("line", pipeline(hidden_layer_sizes=()))]
    model = StackingClassifier(members, LogisticRegression(), cv=3).fit(X, y)
    assert model.stack_method_ == ["predict_proba", "decision_function", "predict_proba"]
    assert model.score(X, y) > 0.9


def test_other_ensembles(flowers, diabetes):
    X, y = flowers
    assert (
        VotingClassifier([("a", pipeline()), ("b", pipeline(random_state=1))], voting="soft").fit(X, y).score(X, y)
        > 0.9
    )
    assert OneVsRestClassifier(pipeline()).fit(X, y).score(X, y) > 0.8
    several = MultiOutputClassifier(pipeline()).fit(X, np.column_stack([y, y == 1]))
    assert several.predict(X).shape == (150, 2)
    bag = BaggingRegressor(small(MLPRegressor, **FAST), 3, random_state=0).fit(*diabetes)
    assert bag.predict(diabetes[0]).shape == (442,)


# ----------------------------------------------------------------------------------------------- looking at the outcome


def test_permutation_importance_in_a_pipeline(flowers):
    X, y = flowers
    noise = np.random.RandomState(0).normal(size=(len(X), 1))
    model = pipeline().fit(np.hstack([X, noise]), y)
    found = permutation_importance(model, np.hstack([X, noise]), y, n_repeats=3, random_state=0)
    assert found.importances_mean[3] > found.importances_mean[4] + 0.05


def test_partial_dependence(diabetes):
    pytest.importorskip("matplotlib", reason="draws").use("Agg")
    model = small(MLPRegressor, standardize=True, standardize_target=True).fit(*diabetes)
    PartialDependenceDisplay.from_estimator(model, diabetes[0], [2, (2, 3)], grid_resolution=5)


def test_predictions_across_folds(flowers):
    X, y = flowers
    scores = cross_val_predict(pipeline(loss="squared_hinge"), X, y, cv=3, method="decision_function")
    assert np.mean(scores.argmax(axis=1) == y) > 0.85


# --------------------------------------------------------------------------------------------------------------- tables


def test_columns_of_a_table_through_a_transformer():
    pandas = pytest.importorskip("pandas", reason="needs a data frame")
    random = np.random.RandomState(0)
    table = pandas.DataFrame({"size": random.normal(5, 2, 200), "colour": random.choice(["red", "blue", "grey"], 200)})
    y = np.where((table["size"] > 5) ^ (table["colour"] == "red"), "yes", "no")
    for sparse_threshold in (0.0, 1.0):
        columns = make_column_transformer(
            (StandardScaler(), ["size"]), (OneHotEncoder(), ["colour"]), sparse_threshold=sparse_threshold
        )
        model = make_pipeline(columns, small(**{**FAST, "max_iter": 150})).fit(table, y)
        assert model.score(table, y) > 0.9
    columns = ColumnTransformer([("size", StandardScaler(), ["size"])], verbose_feature_names_out=False)
    model = make_pipeline(columns.set_output(transform="pandas"), small(max_iter=3)).fit(table, y)
    assert model[-1].feature_names_in_.tolist() == ["size"]


def test_a_transformed_target(diabetes):
    X, y = diabetes
    model = TransformedTargetRegressor(small(MLPRegressor, **FAST), func=np.log, inverse_func=np.exp).fit(X, y)
    assert (model.predict(X) > 0).all()
    scorer = make_scorer(lambda y, bands: np.mean((bands[:, 0] < y) & (y < bands[:, 1])))
    bands = small(MLPRegressor, loss=Quantile([0.1, 0.9]), standardize=True, standardize_target=True, **FAST)
    assert scorer(bands.fit(X, y), X, y) == pytest.approx(0.8, abs=0.1)


# -------------------------------------------------------------------------------------------------------------- routing


@pytest.mark.usefixtures("routing")
def test_weights_are_routed(tumours):
    X, y = tumours
    weight = np.where(y == 1, 1.0, 5.0)
    member = small(**FAST).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    scaler = StandardScaler().set_fit_request(sample_weight=True)
    model = make_pipeline(scaler, member)
    routed = model.fit(X, y, sample_weight=weight)[-1]
    by_hand = small(**FAST).fit(StandardScaler().fit(X, sample_weight=weight).transform(X), y, sample_weight=weight)
    np.testing.assert_array_equal(routed.params_, by_hand.params_)
    assert model.score(X, y, sample_weight=weight) == by_hand.score(routed_X(model, X), y, sample_weight=weight)
    scorer = get_scorer("accuracy").set_score_request(sample_weight=True)
    search = GridSearchCV(model, {"mlpclassifier__alpha": [1e-4, 1e-2]}, cv=3, scoring=scorer)
    search.fit(X, y, sample_weight=weight)
    assert search.best_score_ > 0.85


def routed_X(model, X):
    return model[:-1].transform(X)


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_validation_rows_go_through_the_pipeline(tumours, cls):
    X, y = tumours
    weight = np.linspace(0.5, 1.5, 100)
    member = small(cls, early_stopping=True, **FAST)
    member.set_fit_request(X_val=True, y_val=True, sample_weight_val=True)
    model = Pipeline([("scale", StandardScaler()), ("mlp", member)], transform_input=["X_val"])
    model.fit(X[:400], y[:400], X_val=X[400:500], y_val=y[400:500], sample_weight_val=weight)
    scaler = StandardScaler().fit(X[:400])
    by_hand = small(cls, early_stopping=True, **FAST).fit(
        scaler.transform(X[:400]), y[:400], X_val=scaler.transform(X[400:500]), y_val=y[400:500],
        sample_weight_val=weight,
    )  # fmt: skip
    np.testing.assert_array_equal(model[-1].params_, by_hand.params_)
    assert model[-1].validation_scores_ == by_hand.validation_scores_


@pytest.mark.usefixtures("routing")
def test_deviations_are_routed(diabetes):
    X, y = diabetes
    member = small(MLPRegressor, loss="gaussian_nll", **FAST).set_predict_request(return_std=True)
    mean, deviation = make_pipeline(StandardScaler(), member).fit(X, y).predict(X, return_std=True)
    assert mean.shape == deviation.shape == (442,)
