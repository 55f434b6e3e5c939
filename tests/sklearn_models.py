"""Fitted models of scikit-learn, their data, and what two models must agree in: for the tests of conversions."""

import numpy as np
import sklearn
from scipy import sparse
from sklearn import compose, neural_network, pipeline, preprocessing

from pymlp.portable import TASKS

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
Z = (X - X.mean(axis=0)) / X.std(axis=0)
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


def transformer(**options):
    steps = [
        ("scaled", preprocessing.StandardScaler(), [3, 0]),
        ("dropped", "drop", [4]),
        ("kept", "passthrough", slice(1, 2)),
        ("nested", pipeline.make_pipeline(preprocessing.MaxAbsScaler(), preprocessing.MinMaxScaler()), [2]),
    ]
    return compose.ColumnTransformer(steps, **options)
