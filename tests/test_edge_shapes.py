"""Shapes at the edge of what there is: none, one, too many, of other dimensions; and what is no array of numbers."""

import datetime

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from odd_inputs import COLUMNS, ESTIMATORS, PERCEPTRONS, ROWS, data, fit_verbs, learn, made, say_verbs, state

import pymlp
from pymlp import Dense, MLPClassifier, MLPRegressor, Network, Predictor, backends, config_context, train
from pymlp.optimizers import OPTIMIZERS

KINDS = [pytest.param(kind, id=kind.__name__) for kind in ESTIMATORS]
SHAPES = {
    "no rows": (np.ones((0, COLUMNS)), "0 sample"),
    "no columns": (np.ones((ROWS, 0)), "0 feature|shape"),
    "one dimension": (np.ones(COLUMNS), "Expected 2D array|shape"),
    "three dimensions": (np.ones((ROWS, COLUMNS, 2)), "dim 3|shape"),
    "no dimension": (np.float64(1), "Expected 2D array|shape"),
    "ragged": ([[1.0] * COLUMNS] * (ROWS - 1) + [[1.0]], "X is no array of numbers"),
    "another number of columns": (np.ones((ROWS, COLUMNS + 1)), "features"),
}

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:batch_size="),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_shapes_that_no_model_takes(kind, shape):
    X, message = SHAPES[shape]
    good, y = data()
    fitted = learn(made(kind), "fit", good, y)
    before = state(fitted)
    for verb in fit_verbs(kind):
        if shape != "another number of columns" or verb == "partial_fit":
            with pytest.raises(ValueError, match=message):
                learn(fitted, verb, X, y[: len(X)] if np.ndim(y) and shape == "no rows" else y)
    for verb in say_verbs(fitted):
        with pytest.raises(ValueError, match=message):
            getattr(fitted, verb)(X)
    assert state(fitted) == before


# name: (X, error, what it says)
NO_NUMBERS = {
    "text": (np.full((ROWS, COLUMNS), "1.5"), TypeError, "X must hold real numbers, got dtype <U3"),
    "text in lists": ([["1.5"] * COLUMNS] * ROWS, TypeError, "X must hold real numbers, got dtype <U3"),
    "bytes": (np.full((ROWS, COLUMNS), b"1"), TypeError, "X must hold real numbers, got dtype .S1"),
    "dates": (np.zeros((ROWS, COLUMNS), "M8[s]"), TypeError, "X must hold real numbers, got dtype datetime64"),
    "spans": (np.zeros((ROWS, COLUMNS), "m8[s]"), TypeError, "X must hold real numbers, got dtype timedelta64"),
    "records": (np.zeros((ROWS, COLUMNS), "f8, i4"), TypeError, "X must hold real numbers, got dtype"),
    "records of one": (np.zeros((ROWS, COLUMNS), [("a", "f8")]), TypeError, "X must hold real numbers, got dtype"),
    "complex": (np.ones((ROWS, COLUMNS), complex), ValueError, "Complex data not supported"),
    "matrix": (np.asmatrix(np.ones((ROWS, COLUMNS))), TypeError, "np.matrix"),
    "masked": (np.ma.masked_equal(np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) * 1.0, 5), TypeError, r"\(1, 2\)"),
    "masked rows": ([np.ma.array([1.0] * COLUMNS, mask=[0, 1, 0])] * ROWS, TypeError, r"masked entries.* \(1,\)"),
    "objects that are none": (np.full((ROWS, COLUMNS), {}, object), (TypeError, ValueError), "real number|object"),
}


@pytest.mark.parametrize("what", NO_NUMBERS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_holds_no_numbers(kind, what):
    X, error, message = NO_NUMBERS[what]
    good, y = data()
    fitted = learn(made(kind), "fit", good, y)
    before = state(fitted)
    for verb in fit_verbs(kind):
        with pytest.raises(error, match=message):
            learn(fitted, verb, X, y)
    for verb in say_verbs(fitted):
        with pytest.raises(error, match=message):
            getattr(fitted, verb)(X)
    if kind in PERCEPTRONS:
        with pytest.raises(error, match="chunk 1 of source"):
            fitted.fit_stream([(good, y), (X, y)])
    assert state(fitted) == before


@pytest.mark.parametrize("what", NO_NUMBERS)
def test_what_holds_no_numbers_below_the_estimators(what):
    X, error, message = NO_NUMBERS[what]
    good, _ = data()
    network = Network.from_widths((COLUMNS, 4, COLUMNS))
    params = network.initial_params(0)
    before = params.tobytes()
    with pytest.raises(error, match=message):
        Predictor(network, params)(X)
    for name in ("X", "y", "X_val", "y_val"):
        arguments = {"X": good, "y": good, "X_val": good, "y_val": good, name: X}
        with pytest.raises(error, match=message.replace("X must", f"{name} must")):
            train(network, params, **arguments, epochs=1)
    assert params.tobytes() == before


@pytest.mark.parametrize("what", [name for name in NO_NUMBERS if name != "masked rows"])
def test_what_holds_no_numbers_as_target_and_as_weight(what):
    column, error, message = NO_NUMBERS[what]
    column = column[:, 0] if isinstance(column, np.ndarray) else [row[0] for row in column]
    message = message.replace(r"\(1, 2\)", "masked")
    if what == "masked":
        column = np.ma.masked_equal(np.arange(ROWS) * 1.0, 5)
    X, y = data()
    with pytest.raises(error, match=message.replace("X must", "y must")):
        made(MLPRegressor).fit(X, column)
    for kind in ESTIMATORS:
        for verb in fit_verbs(kind):
            with pytest.raises(error, match=message.replace("X must", "sample_weight must")):
                learn(made(kind), verb, X, y, column)
    if what == "masked":
        for kind in ESTIMATORS:
            with pytest.raises(TypeError, match=r"y is a masked array with masked entries, the first at \(5,\)"):
                learn(made(kind), "fit", X, column)


def test_nothing_masked_is_an_array():
    X, y = data()
    for kind in ESTIMATORS:
        plain, masked = (learn(made(kind), "fit", form(X), form(y)) for form in (np.asarray, np.ma.asarray))
        assert plain.predict(X).tobytes() == masked.predict(np.ma.asarray(X)).tobytes()


def test_dates_among_the_objects():
    X, y = data()
    X = X.astype(object)
    X[3, 1] = datetime.date(2020, 1, 1)
    with pytest.raises((TypeError, ValueError), match=r"date|number"):
        made(MLPClassifier).fit(X, y)


# ---------------------------------------------------------------------------------------------- one, and more than all


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_to_predict(kind):
    X, y = data()
    model = learn(made(kind), "fit", X, y)
    for verb in say_verbs(model):
        whole = getattr(model, verb)(X)
        assert getattr(model, verb)(X[5:6]).tobytes() == whole[5:6].tobytes(), verb


@pytest.mark.parametrize("backend", backends.available())
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_one_row_one_class_one_column(backend, solver):
    with config_context(backend=backend):
        model = made(MLPClassifier, solver=solver, batch_size="auto").fit([[1.5]], ["only"])
        assert model.predict([[2.0], [-7.0]]).tolist() == ["only", "only"]
        model = made(MLPRegressor, solver=solver, batch_size="auto").fit([[1.5]], [2.0])
        assert np.isfinite(model.predict([[1.5]])).all()


@pytest.mark.parametrize("kind", [kind for kind in ESTIMATORS if hasattr(kind, "coef_") or hasattr(kind, "gamma")])
def test_classifiers_that_need_two_classes_say_so(kind):
    X, _ = data()
    with pytest.raises(ValueError, match=r"needs samples of at least 2 classes.*only one class"):
        made(kind).fit(X, np.zeros(ROWS))


@pytest.mark.parametrize("kind", [*PERCEPTRONS, pymlp.LogisticRegression, pymlp.Perceptron])
def test_a_batch_of_more_rows_than_there_are_is_one_of_all(kind):
    X, y = data()
    options = {"solver": "sgd"}
    whole = made(kind, batch_size=ROWS, **options).fit(X, y)
    for size in (ROWS + 1, 2**31, 2**62, 2**63 - 1):
        assert made(kind, batch_size=size, **options).fit(X, y).params_.tobytes() == whole.params_.tobytes()


@pytest.mark.parametrize("backend", backends.available())
def test_a_batch_of_more_rows_than_there_are_below_the_estimators(backend):
    X, _ = data()
    network = Network.from_widths((COLUMNS, 4, 2))
    found = []
    for size in (ROWS, ROWS + 1, 2**62):
        params = network.initial_params(0)
        train(network, params, X, X[:, :2], batch_size=size, epochs=2, random_state=0, backend=backend)
        found.append(params.tobytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize("sizes", [(), [], np.array([]), np.array([], int), range(0)], ids=repr)
@pytest.mark.parametrize("backend", backends.available())
def test_no_hidden_layer_is_a_linear_model(backend, sizes):
    X, y = data()
    with config_context(backend=backend):
        for kind in PERCEPTRONS:
            model = made(kind, hidden_layer_sizes=sizes).fit(X, y)
            assert [part.shape for part in model.coefs_] == [(COLUMNS, 1)]
            expected = X @ model.coefs_[0] + model.intercepts_[0]
            found = model.decision_function(X) if kind is MLPClassifier else model.predict(X)
            np.testing.assert_allclose(found, expected[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "sizes",
    [{}, {4: 5}, set(), {4}, frozenset({4}), "", "4", b"4", [4.0], [True], [0], [-1], [[4]], None, 4.0, np.array(4.5)],
    ids=repr,
)  # fmt: skip
def test_what_is_no_sequence_of_layers(sizes):
    X, y = data()
    model = made(MLPClassifier).fit(X, y)
    before = state(model.set_params(hidden_layer_sizes=sizes))
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        model.fit(X, y)
    assert state(model) == before


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_average_starts_at_a_whole_step(optimizer):
    assert optimizer(average="swa", average_start=np.int64(3)).average_start == 3
    for value in (0.5, 3.0, "3", None, np.nan, -1, 2**62 + 1):
        with pytest.raises(ValueError, match="average_start must be"):
            optimizer(average="swa", average_start=value)


def test_layers_of_one_unit():
    X, y = data()
    for hidden in ((1,), (1, 1, 1), [Dense(1, "tanh", normalization="layer", residual=False)]):
        assert np.isfinite(made(MLPRegressor, hidden_layer_sizes=hidden).fit(X, y).predict(X)).all()
