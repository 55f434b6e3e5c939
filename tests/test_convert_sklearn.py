"""`pymlp.convert.from_sklearn` and `to_sklearn`: the same answers and the same training, or an error with a name."""

import pickle
import warnings

import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn import compose, linear_model, naive_bayes, neural_network, pipeline, preprocessing, svm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

import pymlp
from pymlp import Dense, Network
from pymlp.convert import ConversionError, fitted_estimator, from_sklearn, to_sklearn
from pymlp.convert.sklearn_classics import BAYES, LINEAR, REGRESSIONS
from pymlp.convert.sklearn_perceptrons import ACTIVATIONS, RATES
from pymlp.functions import ACTIVATIONS as OURS
from pymlp.network import DTYPES
from pymlp.portable import TASKS
from pymlp.targets import CLASS_LOSSES, NUMBER_LOSSES

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
ROWS = 60
random = np.random.RandomState(0)
# columns of different places and sizes, the last of few whole numbers
X = random.normal(size=(ROWS, 5)) * [1.0, 20.0, 0.1, 3.0, 1.0] + [0.0, 50.0, 1.0, -2.0, 0.0]
X[:, 4] = random.randint(0, 3, ROWS)
SCORE = (X[:, 0] + X[:, 1] / 20 + X[:, 3] / 3 + X[:, 4]).argsort().argsort()
LABELS = {
    "binary": np.array(["no", "yes"])[SCORE * 2 // ROWS],
    "multiclass": np.array(["a", "b", "c"])[SCORE * 3 // ROWS],
    "multilabel-indicator": np.stack([SCORE > 30, SCORE % 2 == 0, X[:, 3] > -2], axis=1).astype(int),
    "numbers": np.stack([SCORE / 10.0, X[:, 3]], axis=1),
}
CLASS_TASKS = [task for task in TASKS if task != "numbers"]
METHODS = ("predict", "predict_proba", "decision_function")
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


def theirs(task="multiclass", rows=X, y=None, **parameters):
    """A fitted perceptron of scikit-learn."""
    kind = neural_network.MLPRegressor if task == "numbers" else neural_network.MLPClassifier
    settings = {"hidden_layer_sizes": (7, 4), "max_iter": 4, "random_state": 0, **parameters}
    return kind(**settings).fit(rows, LABELS[task] if y is None else y)


def agree(converted, model, rows=X, tolerance=1e-12, methods=METHODS):
    """Everything that both can say is the same, relative to the largest of it."""
    said = [name for name in methods if hasattr(converted, name) and hasattr(model, name)]
    assert said
    for name in said:
        ours, expected = getattr(converted, name)(rows), getattr(model, name)(rows)
        if sparse.issparse(expected):
            ours, expected = ours.toarray(), expected.toarray()
        assert ours.shape == expected.shape
        if np.asarray(expected).dtype.kind in "fc":
            np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
        else:
            np.testing.assert_array_equal(ours, expected)


def same_weights(first, second, tolerance=1e-8):
    for name in ("coefs_", "intercepts_"):
        for ours, expected in zip(getattr(first, name), getattr(second, name), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)


# perceptrons


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
Z = (X - X.mean(axis=0)) / X.std(axis=0)


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


# pipelines

SCALERS = {
    "standard": preprocessing.StandardScaler(),
    "without mean": preprocessing.StandardScaler(with_mean=False),
    "without deviation": preprocessing.StandardScaler(with_std=False),
    "range": preprocessing.MinMaxScaler((-1, 2)),
    "largest": preprocessing.MaxAbsScaler(),
    "robust": preprocessing.RobustScaler(unit_variance=True),
    "two": pipeline.make_pipeline(preprocessing.MinMaxScaler(), "passthrough", preprocessing.StandardScaler()),
    "nothing": preprocessing.FunctionTransformer(),
}


@pytest.mark.parametrize("scaler", SCALERS.values(), ids=SCALERS)
@pytest.mark.parametrize("task", TASKS)
def test_scalers_go_into_the_first_layer(task, scaler):
    model = pipeline.Pipeline([("none", None), ("scaler", clone(scaler)), ("model", theirs(task, max_iter=20))])
    model.fit(X, LABELS[task])
    ours = from_sklearn(model)
    assert isinstance(ours, (pymlp.MLPClassifier, pymlp.MLPRegressor))
    agree(ours, model)
    # it goes on in the units of the scaler
    scaled = model[:-1].transform(X)
    last = model[-1]
    for _ in range(3):
        last.partial_fit(scaled, LABELS[task])
        ours.partial_fit(X, LABELS[task])
    agree(ours, model, tolerance=1e-8, methods=("predict_proba", "predict")[task == "numbers" :])
    agree(to_sklearn(ours), model, tolerance=1e-8, methods=("predict_proba", "predict")[task == "numbers" :])


def test_float32_pipelines_are_folded_in_float64():
    rows = X.astype("float32")
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), theirs()).fit(rows, LABELS["multiclass"])
    ours = from_sklearn(model)
    assert ours.network_.dtype == "float32"
    agree(ours, model, rows, 1e-5, methods=("predict_proba",))
    agree(ours, model, rows, methods=("predict",))


def transformer(**options):
    steps = [
        ("scaled", preprocessing.StandardScaler(), [3, 0]),
        ("dropped", "drop", [4]),
        ("kept", "passthrough", slice(1, 2)),
        ("nested", pipeline.make_pipeline(preprocessing.MaxAbsScaler(), preprocessing.MinMaxScaler()), [2]),
    ]
    return compose.ColumnTransformer(steps, **options)


@pytest.mark.parametrize("remainder", ["drop", "passthrough", preprocessing.MinMaxScaler()], ids=str)
@pytest.mark.parametrize("weights", [None, {"scaled": 2.0, "kept": 0.01}, {"scaled": -1.0, "kept": 0.01}], ids=str)
def test_column_transformers_go_into_the_first_layer(remainder, weights):
    steps = transformer().transformers
    if remainder != "drop":
        steps = [step for step in steps if step[0] != "nested"]
    columns = compose.ColumnTransformer(steps, remainder=remainder, transformer_weights=weights)
    model = pipeline.make_pipeline(columns, preprocessing.MaxAbsScaler(), theirs()).fit(X, LABELS["multiclass"])
    ours = from_sklearn(model)
    assert ours.n_features_in_ == 5
    agree(ours, model)
    odd = X.copy()
    odd[:, 4] += 1000
    agree(ours, model, odd)
    if weights is None or weights["scaled"] > 0:
        # what is dropped stays so in training
        model[-1].partial_fit(model[:-1].transform(odd), LABELS["multiclass"])
        agree(ours.partial_fit(odd, LABELS["multiclass"]), model, tolerance=1e-8, methods=("predict_proba",))
    else:
        ours.partial_fit(Z, LABELS["multiclass"])


def test_a_column_that_becomes_two_features():
    columns = compose.ColumnTransformer(
        [("a", preprocessing.StandardScaler(), [0, 1]), ("b", preprocessing.MinMaxScaler(), [1, 2])]
    )
    model = pipeline.make_pipeline(columns, theirs()).fit(X, LABELS["multiclass"])
    ours = from_sklearn(model)
    agree(ours, model)
    losses = [ours.partial_fit(X, LABELS["multiclass"]).loss_ for _ in range(30)]
    assert losses[-1] < losses[0]


def test_selected_features():
    model = pipeline.make_pipeline(SelectKBest(k=3), preprocessing.StandardScaler(), theirs())
    model.fit(X, LABELS["multiclass"])
    ours = from_sklearn(model)
    assert ours.n_features_in_ == 5
    agree(ours, model)


def test_sparse_rows_behind_a_scaler():
    rows = sparse.csr_matrix(np.where(X > 0, X, 0))
    model = pipeline.make_pipeline(preprocessing.MaxAbsScaler(), theirs()).fit(rows, LABELS["multiclass"])
    ours = from_sklearn(model)
    agree(ours, model, rows)
    model[-1].partial_fit(model[:-1].transform(rows), LABELS["multiclass"])
    agree(ours.partial_fit(rows, LABELS["multiclass"]), model, rows, 1e-8)


def mixed_table():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X[:, :4], columns=["one", "two", "three", "four"])
    return table.assign(colour=np.array(["red", "green", "blue"])[X[:, 4].astype(int)])


@pytest.mark.parametrize("frame", ["default", "pandas"])
@pytest.mark.parametrize("weights", [None, {"numbers": 0.5, "words": 2.0}], ids=str)
def test_encoded_categories_stay_in_front(frame, weights):
    table = mixed_table()
    columns = compose.ColumnTransformer(
        [
            ("numbers", preprocessing.StandardScaler(), ["one", "two"]),
            ("words", preprocessing.OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["colour"]),
            ("range", preprocessing.MinMaxScaler(), ["four"]),
        ],
        transformer_weights=weights,
    ).set_output(transform=frame)
    model = pipeline.Pipeline([("columns", columns), ("model", theirs())]).fit(table, LABELS["multiclass"])
    before = pickle.dumps(model)
    ours = from_sklearn(model)
    assert isinstance(ours, pipeline.Pipeline)
    assert list(ours.named_steps) == ["columns", "model"]
    assert isinstance(ours[-1], pymlp.MLPClassifier)
    # the scalers are part of the network now
    np.testing.assert_array_equal(
        np.asarray(ours[0].transform(table))[:, :2], table[["one", "two"]] * (weights["numbers"] if weights else 1)
    )
    agree(ours, model, table)
    unknown = table.assign(colour="violet")
    agree(ours, model, unknown)
    for pair in (ours, model):
        pair[-1].partial_fit(pair[:-1].transform(table), LABELS["multiclass"])
    agree(ours, model, table, 1e-8, methods=("predict_proba",))
    assert pickle.loads(before)[-1].t_ < model[-1].t_
    again = clone(ours).fit(table, LABELS["multiclass"])
    assert again.predict(unknown).shape == (ROWS,)
    assert list(again[0].get_feature_names_out()) == list(columns.get_feature_names_out())


def test_encoded_categories_of_an_object_array():
    table = mixed_table().to_numpy(dtype=object)
    columns = compose.ColumnTransformer(
        [("words", preprocessing.OneHotEncoder(), [4]), ("numbers", preprocessing.StandardScaler(), [0, 1, 2])],
        remainder=preprocessing.MinMaxScaler(),
        sparse_threshold=0,
    )
    model = pipeline.make_pipeline(columns, preprocessing.MaxAbsScaler(), theirs()).fit(table, LABELS["multiclass"])
    ours = from_sklearn(model)
    assert [type(step).__name__ for step in ours] == ["ColumnTransformer", "MLPClassifier"]
    agree(ours, model, table)


def test_a_sparse_encoding_stays_as_it_is():
    codes = X[:, 4:].astype(int)
    model = pipeline.make_pipeline(preprocessing.OneHotEncoder(), theirs(rows=codes)).fit(codes, LABELS["multiclass"])
    ours = from_sklearn(model)
    assert [type(step) for step in ours] == [preprocessing.OneHotEncoder, pymlp.MLPClassifier]
    agree(ours, model, codes)
    columns = compose.ColumnTransformer(
        [("words", preprocessing.OneHotEncoder(), [4]), ("numbers", preprocessing.MaxAbsScaler(), [0])],
        sparse_threshold=1,
    )
    model = pipeline.make_pipeline(columns, theirs()).fit(X, LABELS["multiclass"])
    ours = from_sklearn(model)
    assert isinstance(ours[0].named_transformers_["numbers"], preprocessing.MaxAbsScaler)
    agree(ours, model)


def test_what_is_no_scaling_of_single_columns_stays():
    steps = preprocessing.PolynomialFeatures(), preprocessing.StandardScaler(), theirs()
    model = pipeline.make_pipeline(*steps).fit(X, LABELS["multiclass"])
    ours = from_sklearn(model)
    assert [type(step).__name__ for step in ours] == ["PolynomialFeatures", "MLPClassifier"]
    agree(ours, model, tolerance=1e-10)
    clipped = pipeline.make_pipeline(preprocessing.MinMaxScaler(clip=True), theirs()).fit(X, LABELS["multiclass"])
    assert isinstance(from_sklearn(clipped), pipeline.Pipeline)
    agree(from_sklearn(clipped), clipped, X * 2)
    assert ours[0] is not model[0]


def test_a_search_stands_for_what_it_found():
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    search = GridSearchCV(model, {"logisticregression__C": [0.1, 1.0]}, cv=3).fit(X, LABELS["binary"])
    agree(from_sklearn(search), search)


def test_pipelines_in_pipelines():
    inner = pipeline.make_pipeline(preprocessing.PolynomialFeatures(), preprocessing.StandardScaler())
    last = pipeline.make_pipeline(preprocessing.MinMaxScaler(), linear_model.LogisticRegression())
    search = GridSearchCV(last, {"logisticregression__C": [0.1, 1.0]}, cv=3)
    model = pipeline.Pipeline([("first", inner), ("search", search)]).fit(X, LABELS["binary"])
    ours = from_sklearn(model)
    assert list(ours.named_steps) == ["first-polynomialfeatures", "search-logisticregression"]
    agree(ours, model, tolerance=1e-10)


def test_models_of_all_solvers_can_be_saved(tmp_path):
    for solver in ("lbfgs", "sgd", "adam"):
        ours = from_sklearn(theirs(solver=solver))
        ours.save(tmp_path / solver)
        np.testing.assert_array_equal(pymlp.load(tmp_path / solver).predict_proba(X), ours.predict_proba(X))


# linear models and naive Bayes

CLASSIFIERS = [
    linear_model.LogisticRegression(),
    linear_model.LogisticRegression(C=0.5, fit_intercept=False, class_weight="balanced"),
    linear_model.LogisticRegression(
        l1_ratio=0.5, solver="saga", **({"penalty": "elasticnet"} if VERSION < (1, 8) else {})
    ),
    linear_model.LogisticRegression(C=np.inf),
    linear_model.LogisticRegressionCV(cv=3, Cs=3),
    linear_model.Perceptron(penalty="l2"),
    linear_model.Perceptron(tol=None, max_iter=5),
    svm.LinearSVC(),
    svm.LinearSVC(loss="hinge", fit_intercept=False),
    svm.LinearSVC(multi_class="crammer_singer"),
    linear_model.SGDClassifier(loss="hinge"),
    linear_model.SGDClassifier(loss="squared_hinge"),
    linear_model.SGDClassifier(loss="perceptron"),
]


@pytest.mark.parametrize("scaled", [False, True], ids=["alone", "scaled"])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("kind", CLASSIFIERS, ids=str)
def test_linear_classifiers(kind, task, scaled):
    model = clone(kind).fit(Z, LABELS[task])
    if scaled:
        model = pipeline.make_pipeline(transformer(), preprocessing.StandardScaler(), clone(kind)).fit(X, LABELS[task])
    rows = X if scaled else Z
    ours = from_sklearn(model)
    agree(ours, model, rows)
    name = type(kind).__name__.removesuffix("CV")
    if name in LINEAR:
        assert type(ours) is getattr(pymlp, name)
        back = to_sklearn(ours)
        assert type(back).__name__ == name
        agree(back, model, rows)
        shared = {own: getattr(kind, own) for own in LINEAR[name] if own not in ("C", "tol") and hasattr(kind, own)}
        for other in (ours, back):
            assert {own: getattr(other, own) for own in shared} == shared
        if not scaled and name == type(kind).__name__:
            assert getattr(ours, "C", None) == (None if name == "Perceptron" else kind.C)
    else:
        assert type(ours) is pymlp.MLPClassifier
    if name in LINEAR:
        for other in (ours, back):
            assert other.set_params(max_iter=3).fit(rows, LABELS[task]).coef_.shape[1] == 5
        return
    # towards other labels: of its own some losses are 0 by now
    ours.set_params(learning_rate_init=0.01)
    losses = [ours.partial_fit(rows, LABELS[task][::-1]).loss_ for _ in range(20)]
    assert losses[-1] < losses[0]


def test_logistic_regression_goes_on_from_where_it_was():
    model = linear_model.LogisticRegression(tol=1e-10, max_iter=10000).fit(Z, LABELS["multiclass"])
    ours = from_sklearn(model).set_params(warm_start=True, tol=1e-6)
    np.testing.assert_allclose(ours.fit(Z, LABELS["multiclass"]).coef_, model.coef_, atol=1e-4)
    assert ours.n_iter_[0] < 5


def test_binary_logistic_descent():
    model = linear_model.SGDClassifier(loss="log_loss").fit(Z, LABELS["binary"])
    ours = from_sklearn(model)
    agree(ours, model, Z)
    agree(to_sklearn(ours), model, Z, methods=("predict", "predict_proba"))


@pytest.mark.skipif(VERSION >= (1, 8), reason="scikit-learn 1.8 has no multi_class any more")
def test_kinds_of_several_classes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pair = linear_model.LogisticRegression(multi_class="multinomial").fit(Z, LABELS["binary"])
        agree(from_sklearn(pair), pair, Z, methods=("predict", "predict_proba"))
        one_by_one = linear_model.LogisticRegression(multi_class="ovr").fit(Z, LABELS["binary"])
        agree(from_sklearn(one_by_one), one_by_one, Z)
        one_by_one.fit(Z, LABELS["multiclass"])
        with pytest.raises(ConversionError, match=r"multi_class='ovr'.*3 classes"):
            from_sklearn(one_by_one)
        several = linear_model.LogisticRegression(multi_class="multinomial").fit(Z, LABELS["multiclass"])
        agree(from_sklearn(several), several, Z)
        liblinear = linear_model.LogisticRegression(solver="liblinear").fit(Z, LABELS["multiclass"])
        with pytest.raises(ConversionError, match="solver='liblinear'"):
            from_sklearn(liblinear)


@pytest.mark.parametrize("name", REGRESSIONS)
def test_regressions(name):
    y = np.abs(LABELS["numbers"][:, 0]) + 0.1
    kind = getattr(linear_model, name)
    model = kind().fit(Z, y)
    agree(from_sklearn(model), model, Z)
    scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), kind()).fit(X, y)
    ours = from_sklearn(scaled)
    agree(ours, scaled)
    losses = [ours.partial_fit(X, y).loss_ for _ in range(10)]
    assert np.isfinite(losses).all()


def test_regression_of_several_targets():
    model = linear_model.Ridge().fit(X, LABELS["numbers"])
    agree(from_sklearn(model), model)
    agree(to_sklearn(from_sklearn(model)), model)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("name", BAYES)
def test_naive_bayes(name, task):
    rows = X.round().clip(0) if name == "MultinomialNB" else X
    options = {"binarize": 0.5} if name == "BernoulliNB" else {}
    model = getattr(naive_bayes, name)(**options).fit(rows, LABELS[task])
    ours = from_sklearn(model)
    assert type(ours) is getattr(pymlp, name)
    assert {own: getattr(ours, own) for own in BAYES[name][0]} == {own: getattr(model, own) for own in BAYES[name][0]}
    agree(ours, model, rows)
    back = to_sklearn(ours)
    agree(back, model, rows)
    for other in (ours, back, model):
        other.partial_fit(rows[:40] + 1, LABELS[task][:40])
    agree(ours, model, rows, 1e-10)
    agree(back, model, rows, 1e-10)
    narrow = getattr(naive_bayes, name)().fit(rows.astype("float32"), LABELS[task])
    # some of what it learnt scikit-learn keeps in float32
    agree(from_sklearn(narrow), narrow, rows, 1e-6)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("name", BAYES)
def test_naive_bayes_behind_a_scaler(name, task):
    kind = getattr(naive_bayes, name)
    model = pipeline.make_pipeline(preprocessing.MinMaxScaler(), kind(**{"binarize": 0.5} if name[0] == "B" else {}))
    model.fit(X, LABELS[task])
    ours = from_sklearn(model)
    agree(ours, model, tolerance=1e-10, methods=("predict", "predict_proba"))
    if name == "BernoulliNB":
        # the threshold is one for all columns: the scaler stays
        assert isinstance(ours, pipeline.Pipeline)
        assert type(ours[-1]) is pymlp.BernoulliNB
    else:
        assert type(ours) is pymlp.MLPClassifier
        losses = [ours.partial_fit(X, LABELS[task]).loss_ for _ in range(10)]
        assert losses[-1] < losses[0]


# to scikit-learn


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("task", TASKS)
def test_perceptrons_from_here(task, dtype):
    rows = X.astype(dtype)
    kind, y = (pymlp.MLPRegressor if task == "numbers" else pymlp.MLPClassifier), LABELS[task]
    options = {"standardize_target": True} if task == "numbers" else {"class_weight": "balanced"}
    if task == "multilabel-indicator":
        options = {}
    model = kind(hidden_layer_sizes=(6,), max_iter=5, random_state=0, standardize=True, dropout=0.1, **options)
    model.fit(rows, y)
    back = to_sklearn(model)
    # scikit-learn multiplies by BLAS, in another order
    agree(
        back,
        model,
        rows,
        1e-12 if dtype == "float64" else 2e-5,
        methods=("predict_proba", "predict")[task == "numbers" :],
    )
    agree(from_sklearn(back), model, rows, 0.0, methods=("predict", "predict_proba"))
    before = back.t_
    assert back.partial_fit(rows, y).t_ == before + ROWS
    assert pickle.loads(pickle.dumps(back)).predict(rows).shape == y.shape


def test_solvers_that_are_not_scikit_learns():
    y = LABELS["multiclass"]
    for solver, expected in ((pymlp.Lion(), "adam"), (pymlp.SGD(momentum=0.25), "sgd"), ("rmsprop", "adam")):
        model = pymlp.MLPClassifier((4,), solver=solver, max_iter=2, learning_rate=pymlp.Cosine()).fit(X, y)
        there = to_sklearn(model)
        assert (there.solver, there.learning_rate) == (expected, "constant")
        assert there.momentum == (0.25 if expected == "sgd" else 0.9)
        assert np.isfinite(there.partial_fit(X, y).loss_)


def test_clipped_moments_are_not_scikit_learns():
    y = LABELS["multiclass"]
    model = pymlp.MLPClassifier((4,), solver=pymlp.Adam(clip_norm=1e-3), max_iter=2, random_state=0).fit(Z, y)
    assert not hasattr(to_sklearn(model), "_optimizer")
    plain = pymlp.MLPClassifier((4,), solver=pymlp.Adam(beta_1=0.5), max_iter=2, random_state=0).fit(Z, y)
    there = to_sklearn(plain)
    same_weights(there.partial_fit(Z, y), plain.partial_fit(Z, y))


def test_a_network_becomes_a_regressor():
    network = Network.from_widths((5, 4, 2), "tanh", dtype="float64")
    params = network.initial_params(0)
    there = to_sklearn((network, params))
    assert type(there) is neural_network.MLPRegressor
    agree(from_sklearn(there), there)
    np.testing.assert_allclose(there.predict(X), pymlp.Predictor(network, params)(X), rtol=1e-12)
    assert np.isfinite(there.partial_fit(X, LABELS["numbers"]).loss_)


def test_one_quantile_is_a_number():
    model = pymlp.MLPRegressor(
        hidden_layer_sizes=(4,), loss=pymlp.Quantile([0.9]), standardize_target=True, max_iter=3, random_state=0
    ).fit(X, LABELS["numbers"][:, 0])
    np.testing.assert_allclose(to_sklearn(model).predict(X), np.ravel(model.predict(X)), rtol=1e-12)


@pytest.mark.parametrize("activation", [name for name, row in OURS.items() if row.hidden])
def test_hidden_activations(activation):
    network = Network.from_widths((5, 4, 3, 1), ("tanh", activation))
    model = fitted_estimator(network, network.initial_params(0), task="numbers")
    if activation == "tanh":
        agree(to_sklearn(model), model, X.astype("float32"), 1e-6)
        return
    with pytest.raises(ConversionError, match=rf"layers\[1\] has the activation '{activation}'"):
        to_sklearn(model)


@pytest.mark.parametrize("loss", [*NUMBER_LOSSES, pymlp.Huber(2)], ids=str)
def test_losses_of_numbers(loss):
    y = np.abs(LABELS["numbers"]) + 0.1
    model = pymlp.MLPRegressor(loss, (4,), max_iter=2, random_state=0).fit(Z, y)
    if model.out_activation_ in ("identity", "exp"):
        agree(to_sklearn(model), model, Z)
        return
    with pytest.raises(ConversionError, match=r"layers\[1\], the output layer, has the activation"):
        to_sklearn(model)


@pytest.mark.parametrize("task", CLASS_TASKS)
@pytest.mark.parametrize("loss", [*CLASS_LOSSES, pymlp.LogLoss(0.1)], ids=str)
def test_losses_of_classes(loss, task):
    model = pymlp.MLPClassifier((4,), loss=loss, max_iter=2, random_state=0).fit(Z, LABELS[task])
    if hasattr(model, "predict_proba"):
        agree(to_sklearn(model), model, Z, methods=("predict", "predict_proba"))
        return
    with pytest.raises(ConversionError, match=f"the loss '{loss}'"):
        to_sklearn(model)


@pytest.mark.parametrize("further", [{"normalization": "layer"}, {"residual": True}, {"parametric": True}], ids=str)
def test_layers_that_scikit_learn_has_not(further):
    network = Network(5, (Dense(5, "relu"), Dense(5, "relu", **further), Dense(1, "identity")))
    with pytest.raises(ConversionError, match=rf"layers\[1\] has {next(iter(further))}="):
        to_sklearn((network, network.initial_params(0)))


def test_refusals():
    with pytest.raises(ConversionError, match=r"sklearn\.tree\..*DecisionTreeClassifier cannot be converted"):
        from_sklearn(DecisionTreeClassifier().fit(X, LABELS["binary"]))
    with pytest.raises(ConversionError, match="str cannot be converted"):
        from_sklearn("model")
    with pytest.raises(ConversionError, match="MLPClassifier cannot be converted"):
        from_sklearn(pymlp.MLPClassifier((2,), max_iter=1).fit(X, LABELS["binary"]))
    with pytest.raises(ConversionError, match="StandardScaler cannot be converted"):
        from_sklearn(pipeline.make_pipeline(preprocessing.StandardScaler()).fit(X))
    with pytest.raises(ConversionError, match="dtype='float16'"):
        from_sklearn(theirs(), dtype="float16")
    with pytest.raises(ConversionError, match="GaussianNB computes in float64"):
        from_sklearn(naive_bayes.GaussianNB().fit(X, LABELS["binary"]), dtype="float32")
    with pytest.raises(ConversionError, match="loss='modified_huber'"):
        from_sklearn(linear_model.SGDClassifier(loss="modified_huber").fit(X, LABELS["binary"]))
    with pytest.raises(ConversionError, match=r"loss='log_loss'.*3 classes"):
        from_sklearn(linear_model.SGDClassifier(loss="log_loss").fit(X, LABELS["multiclass"]))
    half = pipeline.Pipeline([("scaler", preprocessing.StandardScaler()), ("model", theirs())])
    for model in (neural_network.MLPClassifier(), linear_model.Ridge(), naive_bayes.GaussianNB(), half):
        with pytest.raises(NotFittedError):
            from_sklearn(model)
    for model in (pymlp.MLPClassifier(), pymlp.GaussianNB(), pymlp.LogisticRegression()):
        with pytest.raises(NotFittedError):
            to_sklearn(model)
    with pytest.raises(TypeError, match="fitted estimator of pymlp"):
        to_sklearn(theirs())
    with pytest.raises(ConversionError, match=r"layers\[0\] has the activation 'cosine'"):
        to_sklearn(pymlp.FourierSVC(n_components=3).fit(X, LABELS["binary"]))
    broken = theirs()
    broken.coefs_[0][0, 0] = np.nan
    with pytest.raises(ConversionError, match=r"layers\.0\.weight holds nan"):
        from_sklearn(broken)
