"""Data sets by name and by file: what is told about the task, the split, and the errors."""

import urllib.error

import numpy as np
import pytest

from pymlp import datasets
from pymlp.tables import DataError


def _csv(tmp_path, name, **columns):
    path = tmp_path / name
    rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize(
    ("name", "shape", "task", "unit"),
    [
        ("digits", (1797, 64), "classification", 16.0),
        ("iris", (150, 4), "classification", None),
        ("wine", (178, 13), "classification", None),
        ("breast_cancer", (569, 30), "classification", None),
        ("diabetes", (442, 10), "regression", None),
    ],
)
def test_bundled(name, shape, task, unit):
    dataset = datasets.load(name)
    assert dataset.X.shape == shape
    assert dataset.task == task
    assert dataset.unit == unit
    assert (dataset.feature_names is None) == (name == "digits")
    assert dataset.y.dtype.kind == {"digits": "i", "diabetes": "f"}.get(name, "U")


def _pictures(folder, name="mnist", **changes):
    generator = np.random.default_rng(0)
    arrays = {
        "X_train": generator.integers(256, size=(30, 28, 28), dtype=np.uint8),
        "y_train": np.arange(30, dtype=np.uint8) % 10,
        "X_test": generator.integers(256, size=(10, 28, 28), dtype=np.uint8),
        "y_test": np.arange(10, dtype=np.uint8),
    }
    arrays |= changes
    np.savez(folder / f"{name}.npz", **{key: value for key, value in arrays.items() if value is not None})


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_pictures_from_the_data_folder(tmp_path, monkeypatch, name):
    _pictures(tmp_path, name)
    monkeypatch.setenv("PYMLP_DATA", str(tmp_path))
    dataset = datasets.load(name)
    assert dataset.name == name
    assert dataset.X.shape == (30, 784)
    assert dataset.X.dtype == np.uint8
    assert dataset.unit == 255
    X, y, X_test, y_test = datasets.split(dataset, None, 0)
    assert (len(X), len(y), X_test.shape, y_test.tolist()) == (30, 30, (10, 784), list(range(10)))
    assert len(datasets.split(dataset, 0.5, 0)[2]) == 15


def test_pictures_that_are_incomplete(tmp_path, monkeypatch):
    _pictures(tmp_path, X_test=None)
    monkeypatch.setenv("PYMLP_DATA", str(tmp_path))
    with pytest.raises(DataError, match="must hold X_train, y_train, X_test and y_test"):
        datasets.load("mnist")


def test_pictures_by_download(tmp_path, monkeypatch):
    import sklearn.datasets

    asked = []

    def fetch(name, **options):
        asked.append(name)
        return np.zeros((60010, 4)), np.array(["3", "4"] * 30005)

    monkeypatch.setenv("PYMLP_DATA", str(tmp_path))
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    dataset = datasets.load("fashion_mnist")
    assert asked == ["Fashion-MNIST"]
    assert (len(dataset.X), len(dataset.X_test)) == (60000, 10)
    assert dataset.y_test.tolist() == [3, 4] * 5


@pytest.mark.parametrize("folder", [True, False])
@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (urllib.error.URLError("no route"), DataError, r"OpenML cannot be reached .*no route.*; set PYMLP_DATA"),
        (ImportError("pandas"), ImportError, r"the download needs pandas: pip install 'pymlp\[table\]'"),
    ],
)
def test_pictures_out_of_reach(tmp_path, monkeypatch, folder, error, kind, message):
    import sklearn.datasets

    def fail(name, **options):
        raise error

    monkeypatch.setenv("PYMLP_DATA", str(tmp_path) if folder else "")
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fail)
    with pytest.raises(kind, match=message) as caught:
        datasets.load("mnist")
    assert ("has no mnist.npz" if folder else "PYMLP_DATA is not set") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "task", "kind"),
    [
        (["no", "yes"] * 10, "classification", "U"),
        ([0, 1] * 10, "classification", "i"),
        (["0.0", "1.0"] * 10, "classification", "i"),
        (list(range(10)) * 2, "classification", "i"),
        (list(range(20)), "regression", "f"),
        ([value + 0.5 for value in range(2)] * 10, "regression", "f"),
        (list(range(21)) * 2, "regression", "f"),
        ([1, 2, 3], "regression", "f"),
        ([1, 2], "classification", "i"),
    ],
)
def test_the_task_is_told_from_the_target(tmp_path, target, task, kind):
    dataset = datasets.load(_csv(tmp_path, "data.csv", a=range(len(target)), t=target), "t")
    assert dataset.task == task
    assert dataset.y.dtype.kind == kind
    assert dataset.reason.startswith("the target holds")
    assert (dataset.feature_names, dataset.target) == (("a",), "t")


def test_the_task_can_be_asked_for(tmp_path):
    path = _csv(tmp_path, "data.csv", a=[1, 2, 3, 4], t=[0, 1, 0, 1])
    assert datasets.load(path, "t", task="regression").y.dtype == np.float64
    path = _csv(tmp_path, "data.csv", a=range(60), t=[*range(30), *range(30)])
    assert datasets.load(path, "t", task="classification").y.dtype == np.int64


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"a": [1, 2], "t": ["x", "x"]},
            {"target": "t"},
            r"column 't' has only one class \(x\); a classifier needs two",
        ),
        ({"a": [1, 2], "t": [1, 1]}, {"target": "t"}, r"column 't' has only one class \(1\)"),
        ({"a": [1, 2], "t": [1.5, 2]}, {"target": "t", "task": "classification"}, "holds decimal numbers"),
        (
            {"a": [1, 2], "t": ["3", "x"]},
            {"target": "t", "task": "regression"},
            r"row 2 \(line 3\), column 't': the text 'x' stands where a regression needs a number",
        ),
        ({"a": [1, 2], "t": [2.5, 2.5]}, {"target": "t"}, r"column 't' holds only the value 2\.5; nothing varies"),
        ({"a": [1, 2], "t": [1, 2]}, {}, "name the column to predict with --target; there are: a, t"),
        ({"a": [1, 2], "t": [1, 2]}, {"target": "t", "task": "ranking"}, "task='ranking' is not one of"),
    ],
)
def test_targets_that_do_not_serve(tmp_path, columns, options, message):
    with pytest.raises(DataError, match=message):
        datasets.load(_csv(tmp_path, "data.csv", **columns), **options)


def test_names_that_are_unknown(tmp_path):
    with pytest.raises(DataError, match=r"no data set 'digit' \(did you mean 'digits'\?\); there are: .*, or a file"):
        datasets.load("digit")
    with pytest.raises(FileNotFoundError, match=r"no such file: 'digits\.csv'"):
        datasets.load("digits.csv")
    with pytest.raises(DataError, match="'iris' is a data set with its own target"):
        datasets.load("iris", "species")


def test_an_npz_without_target(tmp_path):
    np.savez(tmp_path / "data.npz", X=np.eye(3))
    with pytest.raises(DataError, match="there is an array X but no array y to predict"):
        datasets.load(tmp_path / "data.npz")


def test_a_split_keeps_every_row_once_and_the_classes_alike():
    dataset = datasets.load("iris")
    X, y, X_test, y_test = datasets.split(dataset, None, 3)
    assert (len(X), len(X_test)) == (120, 30)
    assert np.unique(y_test, return_counts=True)[1].tolist() == [10, 10, 10]
    rows = np.concatenate([X, X_test])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, dataset.X))
    again = datasets.split(dataset, None, 3)
    np.testing.assert_array_equal(again[2], X_test)
    assert not np.array_equal(datasets.split(dataset, None, 4)[2], X_test)
    assert len(y) == 120


def test_a_split_with_a_class_of_one_row(tmp_path):
    path = _csv(tmp_path, "data.csv", a=range(11), t=["x", "y"] * 5 + ["z"])
    X, _, X_test, _ = datasets.split(datasets.load(path, "t"), 0.3, 0)
    assert (len(X), len(X_test)) == (8, 3)


def test_a_fraction_of_zero_trains_on_everything():
    dataset = datasets.load("iris")
    X, _, X_test, y_test = datasets.split(dataset, 0, 0)
    np.testing.assert_array_equal(X, dataset.X)
    assert (len(X_test), len(y_test)) == (0, 0)


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_fractions_out_of_bounds(fraction):
    with pytest.raises(DataError, match="the test fraction must be at least 0 and below 1"):
        datasets.split(datasets.load("iris"), fraction, 0)


def test_splits_that_leave_too_little(tmp_path):
    dataset = datasets.load(_csv(tmp_path, "data.csv", a=[1, 2], t=["x", "y"]), "t")
    with pytest.raises(DataError, match=r"a test fraction of 0\.9 leaves none of the 2 rows"):
        datasets.split(dataset, 0.9, 0)
    with pytest.raises(DataError, match="only one class is left in the 1 rows for training"):
        datasets.split(dataset, 0.5, 0)
