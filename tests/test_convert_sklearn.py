"""`pymlp.convert.from_sklearn`: perceptrons of scikit-learn, their answers, and their training that goes on."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network, pipeline, preprocessing
from sklearn.base import clone
from sklearn_models import (
    LABELS,
    ROWS,
    SCORE,
    TOLERANCE,
    X,
    Z,
    agree,
    same_weights,
    theirs,
)

import pymlp
from pymlp.convert import from_sklearn, to_sklearn
from pymlp.convert.sklearn_perceptrons import ACTIVATIONS, RATES
from pymlp.network import DTYPES
from pymlp.portable import TASKS

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("task", TASKS)
def test_perceptrons_there_and_back(task, activation, dtype):
    rows = X.astype(dtype)
    model = theirs(task, rows, activation=activation)
    ours = from_sklearn(model)
    assert ours.network_.dtype == dtype
    agree(ours, model, rows, TOLERANCE[dtype])
    back = to_sklearn(ours)
    assert type(back) is type(model)
    agree(back, model, rows, TOLERANCE[dtype])
    for name in ("coefs_", "intercepts_"):
        for array, expected in zip(getattr(back, name), getattr(model, name), strict=True):
            np.testing.assert_array_equal(array, expected)
            assert array.dtype == expected.dtype
    same = {name: value for name, value in model.get_params().items() if name != "hidden_layer_sizes"}
    for one in (ours, back):
        assert {name: one.get_params()[name] for name in same} == same
        for name in (
            "n_iter_",
            "t_",
            "loss_",
            "best_loss_",
            "loss_curve_",
            "n_layers_",
            "n_outputs_",
            "out_activation_",
        ):
            assert getattr(one, name) == getattr(model, name)


@pytest.mark.parametrize("parameters", [{"solver": "lbfgs"}, {"early_stopping": True, "validation_fraction": 0.3}])
@pytest.mark.parametrize("task", ["binary", "numbers"])
def test_other_ways_to_train(task, parameters):
    # numbers as labels: before version 1.9 scikit-learn cannot stop early by others
    y = np.unique(LABELS[task], return_inverse=True)[1] if task == "binary" else LABELS[task]
    model = theirs(task, y=y, **parameters)
    ours = from_sklearn(model)
    agree(ours, model)
    back = to_sklearn(ours)
    agree(back, model)
    for name in ("loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"):
        assert hasattr(model, name) == hasattr(ours, name) == hasattr(back, name)
        assert getattr(ours, name, None) == getattr(model, name, None) == getattr(back, name, None)
    # a fit begins anew in both
    rounds = {"max_iter": 3, "random_state": 1}
    same_weights(ours.set_params(**rounds).fit(X, y), model.set_params(**rounds).fit(X, y), 1e-6)


def test_regression_of_counts():
    y = np.abs(LABELS["numbers"][:, 0])
    model = neural_network.MLPRegressor(loss="poisson", max_iter=3, random_state=0, hidden_layer_sizes=5).fit(X / 50, y)
    ours = from_sklearn(model)
    assert ours.loss == "poisson"
    agree(ours, model, X / 50)
    agree(to_sklearn(ours), model, X / 50)


def test_a_single_class_no_hidden_layer_and_sparse_labels():
    one = theirs(y=np.full(ROWS, "only"))
    agree(from_sklearn(one), one)
    agree(to_sklearn(from_sklearn(one)), one)
    none = theirs("numbers", y=SCORE.astype(float), hidden_layer_sizes=())
    agree(from_sklearn(none), none)
    agree(to_sklearn(from_sklearn(none)), none)
    labels = theirs("multilabel-indicator", y=sparse.csr_matrix(LABELS["multilabel-indicator"]))
    for other in (from_sklearn(labels), to_sklearn(from_sklearn(labels))):
        assert sparse.issparse(other.predict(X))
        agree(other, labels)


SOLVERS = [
    {"solver": "adam", "beta_1": 0.8, "learning_rate_init": 0.01},
    *({"solver": "sgd", "learning_rate": rate, "learning_rate_init": 1e-3} for rate in RATES),
    {"solver": "sgd", "nesterovs_momentum": False, "momentum": 0.5, "learning_rate_init": 1e-3},
]


@pytest.mark.parametrize("settings", SOLVERS, ids=lambda settings: " ".join(map(str, settings.values())))
@pytest.mark.parametrize("task", TASKS)
def test_training_goes_on_as_it_would_have(task, settings):
    # patience ends in the midst of it: "adaptive" has lowered its rate by then
    settings = {"max_iter": 30, "batch_size": 16, "n_iter_no_change": 2, "tol": 0.1, **settings}
    model = theirs(task, Z, **settings)
    ours = from_sklearn(model)
    back = to_sklearn(from_sklearn(model))
    for _ in range(5):
        model.partial_fit(Z, LABELS[task])
        ours.partial_fit(Z, LABELS[task])
        back.partial_fit(Z, LABELS[task])
    same_weights(ours, model)
    same_weights(back, model)
    assert ours.t_ == model.t_ == back.t_
    np.testing.assert_allclose(ours.loss_curve_, model.loss_curve_, rtol=1e-8)
    np.testing.assert_allclose(to_sklearn(ours).loss_curve_, model.loss_curve_, rtol=1e-8)
    # and from here to there in the midst
    there = to_sklearn(ours)
    same_weights(there.partial_fit(Z, LABELS[task]), ours.partial_fit(Z, LABELS[task]))
    warm = {"warm_start": True, "max_iter": 2}
    same_weights(ours.set_params(**warm).fit(Z, LABELS[task]), there.set_params(**warm).fit(Z, LABELS[task]))


def test_a_generator_is_copied():
    model = theirs(random_state=np.random.RandomState(3), batch_size=16)
    ours = from_sklearn(model)
    same_weights(ours.partial_fit(X, LABELS["multiclass"]), model.partial_fit(X, LABELS["multiclass"]))


def test_nothing_is_shared_and_nothing_drawn():
    before = np.random.get_state()[1].copy()
    model = theirs(random_state=1)
    kept = pickle.dumps(model)
    ours = from_sklearn(model)
    ours.partial_fit(X, LABELS["multiclass"])
    there = to_sklearn(ours)
    state = pickle.dumps(ours)
    there.partial_fit(X, LABELS["multiclass"])
    assert pickle.dumps(ours) == state
    assert pickle.dumps(model) == kept
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_can_be_chosen(dtype):
    ours = from_sklearn(theirs(), dtype=dtype)
    assert ours.network_.dtype == ours.dtype == dtype
    agree(ours, theirs(), tolerance=1e-12 if dtype == "float64" else 1e-4, methods=("predict_proba",))


def test_converted_models_are_estimators_like_others(tmp_path):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=["one", "two", "three", "four", "five"])
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), theirs(rows=table)).fit(table, LABELS["multiclass"])
    ours = from_sklearn(model)
    assert list(ours.feature_names_in_) == list(table.columns)
    agree(ours, model, table)
    ours.save(tmp_path / "model")
    for other in (pymlp.load(tmp_path / "model"), pickle.loads(pickle.dumps(ours))):
        np.testing.assert_array_equal(other.predict_proba(table), ours.predict_proba(table))
    np.testing.assert_array_equal(pymlp.Predictor(ours)(X), ours.predict_proba(table))
    assert clone(ours).fit(table, LABELS["multiclass"]).network_.widths == ours.network_.widths
    back = to_sklearn(ours)
    assert list(back.feature_names_in_) == list(table.columns)
    agree(back, model, table)
