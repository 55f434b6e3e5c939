"""Tables of pandas, polars and pyarrow: the matrix they become, and estimators that take them."""

import numpy as np
import pytest

pytest.importorskip("pandas", reason="the tables are of pandas, polars and pyarrow")
pytest.importorskip("polars", reason="the tables are of pandas, polars and pyarrow")
pytest.importorskip("pyarrow", reason="the tables are of pandas, polars and pyarrow")
pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

import pandas
import polars
import pyarrow
import sklearn
from sklearn.utils.fixes import parse_version

from pymlp import MLPClassifier, MLPRegressor
from pymlp.frames import columns_of, matrix_of

RANDOM = np.random.RandomState(0)
COLUMNS = {
    "narrow": RANDOM.normal(size=40).astype("float32"),
    "count": RANDOM.randint(0, 9, 40),
    "flag": RANDOM.randint(0, 2, 40).astype(bool),
    "wide": RANDOM.normal(size=40),
}
MATRIX = np.column_stack([values.astype("float64") for values in COLUMNS.values()])
KINDS = {
    "pandas": pandas.DataFrame,
    "pandas with missing values": lambda columns: pandas.DataFrame(columns).convert_dtypes(),
    "pandas on pyarrow": lambda columns: pandas.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow"),
    "polars": polars.DataFrame,
    "pyarrow": pyarrow.table,
}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("kind", KINDS)
def test_columns_become_a_matrix(kind):
    columns = columns_of(KINDS[kind](COLUMNS))
    assert [name for name, _ in columns] == list(COLUMNS)
    matrix = matrix_of(columns, ("float64", "float32"))
    np.testing.assert_array_equal(matrix, MATRIX)
    assert matrix.dtype == "float64"
    assert matrix.flags.c_contiguous
    assert matrix_of(columns, ("float32",)).dtype == "float32"


@pytest.mark.parametrize("kind", KINDS)
def test_the_type_follows_the_columns(kind):
    table = KINDS[kind]({name: values.astype("float32") + np.float32(0.25) for name, values in COLUMNS.items()})
    assert matrix_of(columns_of(table), ("float64", "float32")).dtype == "float32"
    assert matrix_of(columns_of(KINDS[kind]({"a": COLUMNS["count"]})), ("float64", "float32")).dtype == "float64"


@pytest.mark.parametrize("kind", KINDS)
def test_no_column_goes_through_python_objects(kind, monkeypatch):
    kinds = []
    empty = np.empty
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float, **rest: kinds.append(dtype) or empty(shape, dtype))
    matrix_of(columns_of(KINDS[kind](COLUMNS)), ("float64", "float32"))
    assert np.dtype(object) not in [np.dtype(kind) for kind in kinds]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_placed(kind):
    table = KINDS[kind]({"a": np.arange(40.0), "b": [0.5, None] * 20})
    with pytest.raises(ValueError, match=r"Input X contains NaN: first in row 1, column 1 \('b'\)"):
        MLPRegressor().fit(table, np.arange(40.0))


def test_missing_flags_are_nan():
    table = polars.DataFrame({"flag": [True, None, False]})
    np.testing.assert_array_equal(matrix_of(columns_of(table), ("float64",)), [[1], [np.nan], [0]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [["a", "b"] * 20, np.arange(40).astype("datetime64[D]")], ids=["text", "dates"])
def test_what_is_not_a_number_is_named(kind, values):
    table = KINDS[kind]({"a": np.arange(40.0), "b": values})
    with pytest.raises(ValueError, match="column 'b' of X does not hold numbers"):
        MLPRegressor().fit(table, np.arange(40.0))


def test_categories_of_numbers_are_numbers():
    table = pandas.DataFrame(COLUMNS).astype({"count": "category"})
    np.testing.assert_array_equal(matrix_of(columns_of(table), ("float64",)), MATRIX)


def test_what_float32_cannot_hold_is_placed():
    table = pandas.DataFrame({"a": [0.0, 1.0], "b": [1.0, 1e300]})
    with pytest.raises(ValueError, match=r"too large for float32: first in row 1, column 1 \('b'\)"):
        MLPRegressor(dtype="float32").fit(table, [0.0, 1.0])


def test_what_is_no_table():
    assert columns_of(MATRIX) is None
    assert columns_of(MATRIX.tolist()) is None
    assert columns_of(pandas.Series([1.0])) is None
    assert columns_of(pandas.DataFrame({"a": pandas.arrays.SparseArray([0.0, 1.0])})) is None


@pytest.mark.parametrize("kind", KINDS)
def test_estimators_know_the_names(kind):
    labels = np.array(["no", "yes"])[COLUMNS["count"] % 2]
    table = KINDS[kind](COLUMNS)
    if not hasattr(table, "__dataframe__") and parse_version(sklearn.__version__) < parse_version("1.9"):
        pytest.skip("scikit-learn before 1.9 knows names of tables by __dataframe__, which this polars no longer has")
    model = MLPClassifier((5,), max_iter=3, random_state=0).fit(table, labels)
    expected = MLPClassifier((5,), max_iter=3, random_state=0).fit(MATRIX, labels)
    assert list(model.feature_names_in_) == list(COLUMNS)
    assert model.n_features_in_ == 4
    np.testing.assert_array_equal(model.params_, expected.params_)
    np.testing.assert_array_equal(model.predict(table), expected.predict(MATRIX))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(KINDS[kind](dict(reversed(COLUMNS.items()))))
    with pytest.raises(ValueError, match=r"features|feature names"):
        model.predict(KINDS[kind]({"narrow": COLUMNS["narrow"]}))


@pytest.mark.parametrize("column", [pandas.Series, polars.Series, pyarrow.array, lambda values: values.tolist()])
def test_targets_may_be_columns(column):
    labels = np.array(["no", "yes"])[COLUMNS["count"] % 2]
    model = MLPClassifier((5,), max_iter=3, random_state=0).fit(MATRIX, column(labels))
    assert model.classes_.tolist() == ["no", "yes"]
    MLPRegressor(hidden_layer_sizes=(5,), max_iter=3).fit(MATRIX, column(COLUMNS["wide"]))


@pytest.mark.parametrize("frame", [False, True])
def test_half_precision(frame):
    X = MATRIX.astype("float16")
    given = pandas.DataFrame(X, columns=list("abcd")) if frame else X
    model = MLPRegressor(max_iter=3, random_state=0).fit(given, COLUMNS["wide"])
    expected = MLPRegressor(max_iter=3, random_state=0).fit(X.astype("float64"), COLUMNS["wide"])
    np.testing.assert_array_equal(model.params_, expected.params_)
    np.testing.assert_array_equal(model.predict(given), expected.predict(X.astype("float64")))
    assert MLPRegressor(max_iter=3, dtype="float32").fit(given, COLUMNS["wide"]).params_.dtype == "float32"
