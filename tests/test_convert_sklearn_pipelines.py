"""`pymlp.convert.from_sklearn`: what stands before a perceptron goes into its first layer, or stays."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn import compose, linear_model, pipeline, preprocessing
from sklearn.base import clone
from sklearn.feature_selection import SelectKBest
from sklearn.model_selection import GridSearchCV
from sklearn_models import (
    LABELS,
    ROWS,
    X,
    Z,
    agree,
    theirs,
    transformer,
)

import pymlp
from pymlp.convert import from_sklearn, to_sklearn
from pymlp.portable import TASKS

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


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
