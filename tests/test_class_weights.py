"""Weights of classes, and what a weight means: a row of weight 2 is two rows, a row of weight 0 is none."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="compares with the weights of scikit-learn")

from sklearn.base import clone
from sklearn.utils.class_weight import compute_sample_weight
from small_models import small

import pymlp
from pymlp import Focal, MLPClassifier, MLPRegressor, Quantile, config_context
from pymlp.class_weights import row_weights
from pymlp.targets import ClassTargets

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RANDOM = np.random.RandomState(0)
LABELS = {
    "binary": RANDOM.randint(0, 5, 50) // 4,
    "multiclass": np.array(["a", "b", "b", "c"])[RANDOM.randint(0, 4, 50)],
    "multilabel-indicator": (RANDOM.uniform(size=(50, 3)) < [0.2, 0.5, 0.7]).astype(int),
}
DICTS = {
    "binary": {0: 1.0, 1: 3.5},
    "multiclass": {"a": 2.0, "c": 0.5},
    "multilabel-indicator": [{0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.0}, {0: 1.0, 1: 1.0}],
}


def weights_of(class_weight, labels, sample_weight=None):
    targets = ClassTargets.from_labels(labels)
    return row_weights(class_weight, targets, targets.encode(labels, "float64"), sample_weight)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("class_weight", ["balanced", "dict"])
def test_weights_are_those_of_scikit_learn(kind, class_weight):
    class_weight = DICTS[kind] if class_weight == "dict" else class_weight
    found = weights_of(class_weight, LABELS[kind])
    np.testing.assert_allclose(found, compute_sample_weight(class_weight, LABELS[kind]), rtol=1e-14)
    own = RANDOM.uniform(size=50)
    if class_weight != "balanced":
        np.testing.assert_allclose(weights_of(class_weight, LABELS[kind], own), found * own, rtol=1e-15)


def test_no_class_weight_leaves_the_weights_of_rows():
    own = np.ones(50)
    assert weights_of(None, LABELS["binary"], own) is own
    assert weights_of(None, LABELS["binary"]) is None


@pytest.mark.parametrize("kind", LABELS)
def test_balanced_counts_rows_by_their_weights(kind):
    labels = LABELS[kind]
    counts = RANDOM.randint(0, 3, 50).astype(float)
    rows = np.repeat(np.arange(50), counts.astype(int))
    found = weights_of("balanced", labels, counts)
    repeated = weights_of("balanced", labels[rows])
    np.testing.assert_allclose((found / np.where(counts > 0, counts, 1))[rows], repeated, rtol=1e-14)


@pytest.mark.parametrize(
    ("kind", "class_weight", "message"),
    [
        ("binary", {0: -1.0}, "class_weight must be finite and at least 0, but class 0 has -1"),
        ("binary", {0: np.nan}, "must be finite"),
        ("binary", [{0: 1.0}], "must be 'balanced' or a dict for single labels"),
        ("multiclass", {"a": 1.0, "d": 2.0}, "class_weight=.* does not fit"),
        ("multilabel-indicator", {0: 1.0}, "a list of 3 dicts for a label matrix"),
        ("multilabel-indicator", [{0: 1.0}], "a list of 3 dicts for a label matrix"),
    ],
)
def test_bad_weights_are_named(kind, class_weight, message):
    with pytest.raises(ValueError, match=message):
        weights_of(class_weight, LABELS[kind])


def test_estimators_train_on_the_product(iris):
    X, y = iris
    own = RANDOM.uniform(size=150)
    weight = {0: 1.0, 1: 3.0, 2: 0.5}
    found = small(class_weight=weight).fit(X, y, sample_weight=own)
    expected = small().fit(X, y, sample_weight=own * np.array([1.0, 3.0, 0.5])[y])
    np.testing.assert_array_equal(found.params_, expected.params_)
    found.partial_fit(X, y)
    expected.partial_fit(X, y, sample_weight=np.array([1.0, 3.0, 0.5])[y])
    np.testing.assert_array_equal(found.params_, expected.params_)


def test_validation_scores_leave_out_the_weights_of_classes(iris):
    X, y = iris
    options = {"early_stopping": True, "class_weight": {0: 0.0, 1: 0.0, 2: 1.0}, "max_iter": 3}
    model = small(**options).fit(X, y)
    # of all classes, although one alone was trained on
    assert model.validation_scores_[-1] < 0.8
    model = small(**{**options, "early_stopping": False}).fit(X, y, X_val=X, y_val=y)
    assert model.validation_scores_[-1] == model.score(X, y)


def test_balanced_weights_have_no_partial_fit(iris):
    model = small(class_weight="balanced")
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError) as failure:
        model.partial_fit(*iris)
    assert "not supported for partial_fit" in str(failure.value.__cause__)


@pytest.mark.parametrize("kind", LABELS)
def test_weights_are_kept(kind, tmp_path):
    X, y = RANDOM.normal(size=(50, 4)), LABELS[kind]
    model = small(class_weight=DICTS[kind]).fit(X, y)
    model.save(tmp_path / "model")
    again = pymlp.load(tmp_path / "model")
    assert again.class_weight == (tuple(DICTS[kind]) if kind == "multilabel-indicator" else DICTS[kind])
    np.testing.assert_array_equal(again.fit(X, y).params_, model.params_)
    np.testing.assert_array_equal(clone(model).fit(X, y).params_, model.params_)


def test_balanced_weights_find_the_rare_class():
    X = RANDOM.normal(size=(400, 2))
    y = (X[:, 0] + RANDOM.normal(size=400) > 2.2).astype(int)
    plain = small(solver="lbfgs", max_iter=50).fit(X, y).predict(X)
    balanced = small(solver="lbfgs", max_iter=50, class_weight="balanced").fit(X, y).predict(X)
    assert balanced[y == 1].mean() > plain[y == 1].mean() + 0.2


# ------------------------------------------------------------------------------------------------- what a weight means

ROWS = 60
X = RANDOM.normal(size=(ROWS, 5))
CLASSES = RANDOM.randint(3, size=ROWS)
NUMBERS = X[:, 0] + RANDOM.normal(size=ROWS)
WEIGHT = RANDOM.randint(0, 3, ROWS).astype(float)
CASES = {
    "log loss": (MLPClassifier, CLASSES, {}),
    "hinge": (MLPClassifier, CLASSES, {"loss": "squared_hinge"}),
    "focal": (MLPClassifier, CLASSES, {"loss": Focal()}),
    "balanced": (MLPClassifier, (CLASSES == 0).astype(int), {"class_weight": "balanced"}),
    "squared error": (MLPRegressor, NUMBERS, {}),
    "quantiles": (MLPRegressor, NUMBERS, {"loss": Quantile([0.1, 0.5])}),
    "standardized": (MLPRegressor, NUMBERS, {"standardize": True, "standardize_target": True, "loss": "gaussian_nll"}),
    "elastic net": (MLPRegressor, NUMBERS, {"l1_ratio": 0.5, "alpha": 1.0}),
}


def fitted(case, solver, rows, weight=None):
    cls, y, options = CASES[case]
    model = small(cls, solver=solver, max_iter=10, shuffle=False, batch_size=len(rows), **options)
    return model.fit(X[rows], y[rows], sample_weight=weight)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_a_weight_of_two_is_the_row_twice(case, solver, backend):
    with config_context(backend=backend):
        weighted = fitted(case, solver, np.arange(ROWS), WEIGHT)
        repeated = fitted(case, solver, np.repeat(np.arange(ROWS), WEIGHT.astype(int)))
    # one product instead of two sums: equal up to rounding
    np.testing.assert_allclose(weighted.params_, repeated.params_, rtol=1e-10, atol=1e-12)
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-11)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_a_weight_of_zero_is_no_row(case, solver, backend):
    rows = np.flatnonzero(WEIGHT)
    with config_context(backend=backend):
        weighted = fitted(case, solver, np.arange(ROWS), WEIGHT)
        removed = fitted(case, solver, rows, WEIGHT[rows])
    if backend == "c" and case in ("log loss", "balanced", "squared error", "elastic net"):
        # a sum does not change by a zero in between
        np.testing.assert_array_equal(weighted.params_, removed.params_)
    np.testing.assert_allclose(weighted.params_, removed.params_, rtol=1e-10, atol=1e-12)
    assert weighted.loss_ == pytest.approx(removed.loss_, rel=1e-12)
