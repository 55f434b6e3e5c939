"""NaN and infinities are refused by argument, row, column and value, wherever numbers come in, in whatever form; so are
numbers too large for the type of the arithmetic.  A refusal changes neither the model nor what was given."""

import contextlib
import re
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from odd_inputs import (
    COLUMNS,
    ESTIMATORS,
    PERCEPTRONS,
    ROWS,
    data,
    fit_verbs,
    learn,
    made,
    say_verbs,
    state,
    takes_sparse,
)
from scipy import sparse

from pymlp import MLPClassifier, MLPRegressor, Network, Predictor, backends, config_context, rows, train
from pymlp.fitting import DivergedError

ROW, COLUMN = 7, 2
PLACE = rf"row {ROW}, column {COLUMN}"
VALUES = {"NaN": np.nan, "infinity": np.inf, "minus infinity": -np.inf}
KINDS = [pytest.param(kind, id=kind.__name__) for kind in ESTIMATORS]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def pattern(name, value, place=PLACE):
    """What a message says of a number that is not finite."""
    if np.isnan(value):
        return rf"Input {name} contains NaN: first in {place}(?!\d)"
    return rf"Input {name} contains infinity.*: first in {place}(?!\d).*, where it is {re.escape(str(value))}\."


def forms(X, tmp_path):
    """X in the forms that users have: name -> (X, what a message adds to the place)."""
    path = tmp_path / "X.npy"
    np.save(path, X)
    with np.errstate(over="ignore"):
        half = X.astype("float16")
    found = {
        "array": (X, ""),
        "Fortran": (np.asfortranarray(X), ""),
        "list": (X.tolist(), ""),
        "half": (half, ""),
        "long": (X.astype(np.longdouble), ""),
        "objects": (X.astype(object), ""),
        "file": (np.load(path, mmap_mode="r"), ""),
        "csr": (sparse.csr_matrix(X), ""),
        "csc": (sparse.csc_array(X), ""),
    }
    try:
        import pandas

        found["pandas"] = (pandas.DataFrame(X, columns=["a", "b", "c"]), r" \('c'\)")
    except ImportError:
        pass
    try:
        import polars

        found["polars"] = (polars.DataFrame(X, schema=["a", "b", "c"]), r" \('c'\)")
    except ImportError:
        pass
    return found


def bytes_of(X):
    if hasattr(X, "tocsr"):
        return X.data.tobytes(), X.indices.tobytes(), X.indptr.tobytes()
    if isinstance(X, np.ndarray) and X.dtype != object:
        return X.tobytes()
    return repr(X)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize(
    ("kind", "largest_copy"),
    [*((kind, rows.SMALL_COPY_BYTES) for kind in ESTIMATORS), *((kind, 0) for kind in PERCEPTRONS)],
    ids=lambda each: each.__name__ if isinstance(each, type) else "converted at once" if each else "converted late",
)
def test_numbers_that_are_not_finite_in_X(kind, value, largest_copy, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "SMALL_COPY_BYTES", largest_copy)
    X, y = data()
    fitted = learn(made(kind), "fit", X, y)
    bad = X.copy()
    bad[ROW, COLUMN] = bad[ROW + 1, 0] = value
    before = state(fitted)
    for name, (given, added) in forms(bad, tmp_path).items():
        if hasattr(given, "tocsr") and not takes_sparse(kind):
            continue
        held, message = bytes_of(given), pattern("X", value, PLACE + added)
        for verb in fit_verbs(kind):
            fresh = made(kind)
            for model in (fitted, fresh):
                with pytest.raises(ValueError, match=message):
                    learn(model, verb, given, y)
            assert set(fresh.__dict__) == set(made(kind).__dict__), (name, verb)
        for verb in say_verbs(fitted):
            with pytest.raises(ValueError, match=message):
                getattr(fitted, verb)(given)
        with pytest.raises(ValueError, match=message):
            fitted.score(given, y)
        assert bytes_of(given) == held, name
    assert state(fitted) == before


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_are_not_finite_in_weights(kind, value):
    X, y = data()
    weight = np.ones(ROWS)
    weight[ROW] = value
    fitted = learn(made(kind), "fit", X, y)
    before = state(fitted)
    for given in (weight, weight.tolist(), weight.astype("float16"), weight[::-1].copy()[::-1]):
        for verb in fit_verbs(kind):
            with pytest.raises(ValueError, match=pattern("sample_weight", value, f"row {ROW}")):
                learn(fitted, verb, X, y, given)
    assert state(fitted) == before


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_numbers_that_are_not_finite_in_targets(value):
    X, _ = data()
    fitted = made(MLPRegressor).fit(X, X[:, 0])
    before = state(fitted)
    one, two = X[:, 0].copy(), X[:, :2].copy()
    one[ROW] = two[ROW, 1] = value
    for verb in fit_verbs(MLPRegressor):
        for given in (one, one.tolist(), one.astype("float16"), one.astype(object)):
            with pytest.raises(ValueError, match=pattern("y", value, f"row {ROW}")):
                learn(fitted, verb, X, given)
        with pytest.raises(ValueError, match=pattern("y", value, f"row {ROW}, column 1")):
            learn(made(MLPRegressor), verb, X, two)
    # the labels of classes have no place for such a number either
    with pytest.raises(ValueError, match=pattern("y", value, f"row {ROW}")):
        made(MLPClassifier).fit(X, one)
    assert state(fitted) == before


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("kind", PERCEPTRONS)
def test_numbers_that_are_not_finite_in_validation_rows(kind, value):
    X, y = data()
    bad, weight, targets = X.copy(), np.ones(ROWS), y.astype(float)
    bad[ROW, COLUMN] = weight[ROW] = targets[ROW] = value
    for changes, message in (
        ({"X_val": bad}, pattern("X_val", value)),
        ({"X_val": sparse.csr_matrix(bad)}, pattern("X_val", value)),
        ({"y_val": targets}, pattern("y_val", value, f"row {ROW}")),
        ({"sample_weight_val": weight}, pattern("sample_weight_val", value, f"row {ROW}")),
    ):
        with pytest.raises(ValueError, match=message):
            made(kind).fit(X, y, **{"X_val": X, "y_val": y, **changes})


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("kind", PERCEPTRONS)
def test_numbers_that_are_not_finite_in_a_stream_name_the_chunk(kind, value):
    X, y = data()
    fitted = made(kind).fit(X, y)
    before = state(fitted)
    bad, weight = X.copy(), np.ones(ROWS)
    bad[ROW, COLUMN] = weight[ROW] = value
    chunk = r"chunk 2 of source \(counted from 0\) does not fit: "
    for third, message in (
        ((bad, y), pattern("X", value)),
        ((sparse.csr_matrix(bad), y), pattern("X", value)),
        ((X, y, weight), pattern("weight", value, f"row {ROW}")),
    ):
        with pytest.raises(ValueError, match=chunk + message):
            fitted.fit_stream([(X, y), (X, y), third])
    assert state(fitted) == before


@pytest.mark.parametrize("value", [*VALUES.values(), 1e300], ids=[*VALUES, "large"])
def test_numbers_that_are_not_finite_in_train(value):
    X, _ = data()
    network = Network.from_widths((COLUMNS, 4, 2))
    params = network.initial_params(0)
    before = params.tobytes()
    good = {"X": X, "y": X[:, :2], "weight": np.ones(ROWS)}
    bad = {name: array.copy() for name, array in good.items()}
    bad["X"][ROW, COLUMN] = bad["y"][ROW, 1] = bad["weight"][ROW] = value
    places = {"X": PLACE, "y": f"row {ROW}, column 1", "weight": f"row {ROW}"}
    forms_of = {"X": (np.asarray, sparse.csr_matrix, np.asfortranarray, list), "y": (np.asarray, list)}
    for name, place in places.items():
        for form in forms_of.get(name, (np.asarray, list)):
            with pytest.raises(ValueError, match=pattern(name, value, place)):
                train(network, params, **{**good, name: form(bad[name])}, epochs=1)
        validation = {f"{each}_val": array for each, array in {**good, name: bad[name]}.items()}
        with pytest.raises(ValueError, match=pattern(f"{name}_val", value, place)):
            train(network, params, **good, **validation, epochs=1)
    assert params.tobytes() == before


# ------------------------------------------------------------------------------------------------------ large numbers


def test_numbers_too_large_for_float32_are_placed(tmp_path):
    X, y = data()
    bad = X.copy()
    bad[ROW, COLUMN] = -1e300
    message = rf"Input X contains infinity or a value too large for float32: first in {PLACE}"
    for kind in PERCEPTRONS:
        narrow = made(kind, dtype="float32").fit(X, y)
        wide = made(kind).fit(X.astype("float32"), y)
        with warnings.catch_warnings():
            # the numbers are refused before they overflow
            warnings.simplefilter("error", RuntimeWarning)
            for name, (given, added) in forms(bad, tmp_path).items():
                if name == "half":
                    continue
                seen = "inf" if added else r"-1e\+300"
                for verb in ("fit", "partial_fit"):
                    with pytest.raises(ValueError, match=message + added + f".*{seen}"):
                        learn(narrow, verb, given, y)
                for model in (narrow, wide):
                    with pytest.raises(ValueError, match=message + added + f".*{seen}"):
                        model.predict(given)
    targets = X[:, 0].copy()
    targets[ROW] = 1e300
    with pytest.raises(ValueError, match=rf"Input y contains .* too large for float32: first in row {ROW}\b.*1e\+300"):
        made(MLPRegressor, dtype="float32").fit(X, targets)
    with pytest.raises(ValueError, match=rf"sample_weight contains .* too large for float32: first in row {ROW}\b"):
        made(MLPRegressor, dtype="float32").fit(X, y, 1 + np.abs(targets))


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_too_large_for_float64_are_placed(kind):
    X, y = data()
    bad = X.astype(np.longdouble)
    bad[ROW, COLUMN] = np.longdouble("1e4000")
    if np.isinf(bad[ROW, COLUMN]):
        pytest.skip("this machine's longdouble is float64")
    with pytest.raises(ValueError, match=rf"too large for float64: first in {PLACE}.*1e\+4000"):
        learn(made(kind), "fit", bad, y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1e30, 1e150, 1e300])
def test_large_inputs_give_finite_numbers_or_an_error_that_says_so(kind, size):
    X, y = data()
    for dtype in ("float32", "float64"):
        given = X * size
        if size > 1e38 and dtype == "float32":
            continue
        model = made(kind)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                learn(model, "fit", given.astype(dtype), y)
            except ValueError as error:
                told = str(error)
                assert re.search("non-finite|large", told), told
                continue
            for name, held in model.__dict__.items():
                if isinstance(held, np.ndarray) and held.dtype.kind == "f":
                    assert np.isfinite(held).all(), name


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("constant", [0.0, 1.0, -3.3, 1e30, 0.1])
def test_constant_columns(standardize, constant):
    X, y = data()
    X[:, 1] = constant
    for kind in PERCEPTRONS:
        for dtype in ("float32", "float64"):
            model = made(kind, standardize=standardize, dtype=dtype)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if constant == 1e30 and not standardize:
                    # squares of them are more than float32 holds
                    with contextlib.suppress(DivergedError):
                        model.fit(X, y)
                    continue
                model.fit(X, y)
            assert np.isfinite(model.params_).all()
            assert np.isfinite(model.predict(X).astype(float)).all()
            if standardize:
                # it counts for nothing
                assert not model.coefs_[0][1].any()


@pytest.mark.parametrize("backend", backends.available())
def test_numbers_that_are_not_finite_spoil_their_own_row_of_a_predictor_and_no_other(backend):
    X, y = data()
    for kind in PERCEPTRONS:
        model = made(kind, dtype="float32").fit(X, y)
        with config_context(backend=backend):
            predictor = Predictor(model)
        expected = predictor(X.astype("float32"))
        for value in VALUES.values():
            bad = X.astype("float32")
            bad[ROW] = value
            found = predictor(bad)
            others = np.arange(ROWS) != ROW
            np.testing.assert_array_equal(found[others], expected[others])
            if np.isnan(value):
                assert np.isnan(found[ROW]).all()


# ----------------------------------------------------------------------------------------------- rows that do not count


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("backend", backends.available())
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_a_row_of_weight_0_counts_as_removed_whatever_it_holds(backend, solver, form):
    X, y = data()
    # so few numbers that the engine takes them as sparse rows
    X[::2] = X[1::4] = X[:, 1] = 0
    huge = X.copy()
    huge[ROW] = 1e300
    weight = np.ones(ROWS)
    weight[ROW] = 0
    with config_context(backend=backend), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in PERCEPTRONS:
            for options in ({}, {"activation": "square"}, {"standardize": True}):
                model = made(kind, solver=solver, max_iter=4, **options)
                small = model.fit(form(X), y, weight).params_
                large = model.fit(form(huge), y, weight).params_
                np.testing.assert_array_equal(small, large)
                # in one batch of all rows, to rounding that of the others alone
                model.set_params(batch_size=ROWS, shuffle=False)
                found = model.fit(form(huge), y, weight).params_
                others = np.arange(ROWS) != ROW
                model.set_params(batch_size=ROWS - 1)
                alone = model.fit(form(X[others]), y[others]).params_
                np.testing.assert_allclose(found, alone, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("backend", backends.available())
def test_a_validation_row_of_weight_0_counts_as_removed_whatever_it_holds(backend):
    X, y = data()
    huge, weight = X.copy(), np.ones(ROWS)
    huge[ROW], weight[ROW] = 1e300, 0
    with config_context(backend=backend), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for loss in ("squared_error", "quantile"):
            validation = {"X_val": huge, "y_val": y, "sample_weight_val": weight}
            model = made(MLPRegressor, activation="square", loss=loss).fit(X, y, **validation)
            assert np.isfinite(model.validation_scores_).all()
        network = Network.from_widths((COLUMNS, 4, 1), "square", dtype="float64")
        validation = {"X_val": huge, "y_val": y, "weight_val": weight}
        result = train(network, network.initial_params(0), X, y, **validation, epochs=2, backend=backend)
        assert np.isfinite(result.history["validation_loss"]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_leave_no_row_are_refused(kind):
    X, y = data()
    with pytest.raises(ValueError, match="must not be zero for every row"):
        learn(made(kind), "fit", X, y, np.zeros(ROWS))


@pytest.mark.parametrize("kind", PERCEPTRONS)
@pytest.mark.parametrize("options", [{}, {"standardize": True}, {"shuffle": False}], ids=str)
def test_a_stream_whose_weights_leave_no_row_is_refused(kind, options):
    X, y = data()
    fitted = made(kind, **options).fit(X, y)
    before = state(fitted)
    nothing = (X, y, np.zeros(ROWS))
    for chunks in ([nothing], [nothing, nothing, nothing]):
        with pytest.raises(ValueError, match=r"weights of source.* must not be zero for every row"):
            fitted.fit_stream(chunks)
    assert state(fitted) == before
    # one chunk may count for nothing
    fitted.fit_stream([nothing, (X, y)])
    if kind is MLPClassifier:
        with pytest.raises(ValueError, match="must not be zero for every row"):
            made(kind, class_weight={0: 0, 1: 0}, **options).fit_stream([(X, y)])


def test_every_estimator_of_the_package_is_here():
    names = {kind.__name__ for kind in ESTIMATORS}
    assert names >= {"MLPClassifier", "MLPRegressor", "LogisticRegression", "Perceptron", "LinearSVC", "FourierSVC"}
    assert names >= {"GaussianNB", "MultinomialNB", "BernoulliNB"}
