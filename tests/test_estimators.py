"""The estimators beyond parity: parameters, fitted state, errors, interruption, life inside scikit-learn."""

import copy
import inspect
import json
import os
import pickle
import signal
import threading
import time
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from scipy import sparse
from sklearn import datasets, neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pymlp
from pymlp import MLPClassifier, MLPRegressor, backends, lbfgs, rows, training
from pymlp.config import resolve_threads
from pymlp.validation import HIDDEN_ACTIVATIONS

CLASSES = {"classifier": MLPClassifier, "regressor": MLPRegressor}
# the fits here are short on purpose
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def iris():
    X, y = datasets.load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def small(cls=MLPClassifier, **parameters):
    return cls(**{"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0, **parameters})


def state_of(model):
    return {name: pickle.dumps(value) for name, value in vars(model).items()}


# ---------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_the_signature_begins_with_scikit_learns(name):
    theirs = inspect.signature(getattr(neural_network, name)).parameters
    ours = inspect.signature(getattr(pymlp, name)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for parameter in theirs:
        assert ours[parameter].default == theirs[parameter].default, parameter
        assert ours[parameter].kind == theirs[parameter].kind, parameter
    rest = list(ours)[len(theirs) :]
    assert rest == (["loss", "dtype"] if name == "MLPClassifier" else ["dtype"])
    assert all(ours[parameter].kind is inspect.Parameter.KEYWORD_ONLY for parameter in rest)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": -1}, "'alpha' parameter of MLPClassifier"),
        ({"solver": "adagrad"}, "'solver' parameter"),
        ({"activation": "sine"}, "'activation' parameter"),
        ({"activation": ["relu", "sine"]}, "activation='sine' is unknown|activation has 2 names for 1"),
        ({"activation": ("softmax",)}, "serves as output activation only"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be > 0"),
        ({"hidden_layer_sizes": (3, -2)}, "hidden_layer_sizes must be > 0"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"loss": "hinge"}, "'loss' parameter"),
        ({"dtype": "float16"}, "'dtype' parameter"),
        ({"max_iter": 0}, "'max_iter' parameter"),
        ({"early_stopping": True, "validation_fraction": 0.005}, "validation set is too small"),
    ],
)
def test_bad_parameters_are_named(iris, parameters, message):
    with pytest.raises(ValueError, match=message):
        small(**parameters).fit(*iris)


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_every_hidden_activation_learns(iris, activation):
    X, y = iris
    model = small(activation=activation, solver="lbfgs", max_iter=40).fit(X, y)
    assert model.score(X, y) > 0.95


def test_each_layer_can_have_its_own_activation(iris):
    model = small(hidden_layer_sizes=(5, 4), activation=("gelu", "tanh")).fit(*iris)
    assert [layer.activation for layer in model.network_.layers] == ["gelu", "tanh", "softmax"]


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float32])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_dtype_decides_the_arithmetic(iris, dtype, solver):
    X, y = iris
    model = small(dtype=dtype, solver=solver).fit(X, y)
    assert model.params_.dtype == dtype
    assert model.predict_proba(X).dtype == dtype
    assert model.predict_proba(X.astype("float32")).dtype == dtype


def test_dtype_none_follows_the_data(iris):
    X, y = iris
    assert small().fit(X.astype("float32"), y).params_.dtype == "float32"
    assert small().fit(X.astype(int), y).params_.dtype == "float64"


# -------------------------------------------------------------------------------------------------------- fitted state


def test_weights_are_views_that_can_be_assigned(iris):
    X, y = iris
    model = small().fit(X, y)
    model.coefs_[0][2, 3] = 5.0
    assert model.params_[2 * 6 + 3] == 5.0
    model.coefs_[0] = np.zeros((4, 6))
    assert not model.params_[: 4 * 6].any()
    model.intercepts_ = [np.ones(6), np.full(3, 2.0)]
    assert model.params_[-3:].tolist() == [2.0, 2.0, 2.0]
    model.coefs_[:] = [np.ones((4, 6)), np.ones((6, 3))]
    assert model.params_[:24].all()
    with pytest.raises(ValueError, match="arrays of shapes"):
        model.coefs_ = [np.zeros((4, 6)), np.zeros((6, 2))]
    with pytest.raises(ValueError, match="arrays of shapes"):
        model.coefs_[0] = np.zeros(6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_views_of_their_own(iris, copied):
    X, y = iris
    model = small().fit(X, y)
    twin = copied(model)
    np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
    before = model.predict_proba(X)
    twin.coefs_[0][:] = 0
    twin.intercepts_[0][:] = 0
    assert np.ptp(twin.predict_proba(X), axis=0).max() == 0
    np.testing.assert_array_equal(model.predict_proba(X), before)
    # the optimizer's state goes along
    twin = copied(model)
    model.partial_fit(X, y)
    assert twin.partial_fit(X, y).params_.tobytes() == model.params_.tobytes()


def test_a_clone_is_not_fitted(iris):
    model = clone(small().fit(*iris))
    with pytest.raises(NotFittedError):
        model.predict(iris[0])
    with pytest.raises(AttributeError, match="not fitted yet, so it has no coefs_"):
        _ = model.coefs_


def test_another_version_warns(iris, monkeypatch):
    stored = pickle.dumps(small().fit(*iris))
    monkeypatch.setattr(pymlp, "__version__", "99.0")
    with pytest.warns(UserWarning, match=r"was pickled by pymlp .* loaded by 99\.0"):
        pickle.loads(stored)


@pytest.mark.parametrize("kind", ["numbers", "text", "objects", "multilabel", "regressor"])
def test_model_state_round_trip_through_json(iris, kind):
    X, y = iris
    cls = MLPClassifier
    if kind == "text":
        y = np.array(["ab", "c", "é"])[y]
    elif kind == "objects":
        y = np.array(["ab", "c", "é"], object)[y]
    elif kind == "multilabel":
        y = np.eye(3, dtype=int)[y]
    elif kind == "regressor":
        cls = MLPRegressor
    model = small(cls, early_stopping=True, n_iter_no_change=np.inf).fit(X, y)
    network, params, metadata = model._model_state()
    again = cls._from_model_state(network, params.copy(), json.loads(json.dumps(metadata)))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.predict(X).dtype == model.predict(X).dtype
    assert again.get_params() == model.get_params()
    assert again.validation_scores_ == model.validation_scores_
    assert again.n_features_in_ == 4
    again.set_params(warm_start=True, early_stopping=False).fit(X, y)
    with pytest.raises(ValueError, match="not the description"):
        cls._from_model_state(network, params, {"class": cls.__name__})


# ---------------------------------------------------------------------------------------------------------- predicting


def test_scores_probabilities_and_decisions_agree(iris):
    X, y = iris
    model = small(max_iter=30).fit(X, y)
    scores, probabilities = model.decision_function(X), model.predict_proba(X)
    assert scores.shape == (150, 3)
    exponentials = np.exp(scores)
    np.testing.assert_allclose(probabilities, exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_array_equal(model.predict(X), model.classes_[scores.argmax(axis=1)])
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(probabilities))
    binary = small(max_iter=30).fit(X[:100], y[:100])
    assert binary.decision_function(X).shape == (150,)
    np.testing.assert_allclose(binary.predict_proba(X)[:, 1], 1 / (1 + np.exp(-binary.decision_function(X))))
    np.testing.assert_array_equal(binary.predict(X), (binary.decision_function(X) > 0).astype(int))
    labels = small().fit(X, np.eye(3, dtype=int)[y])
    assert labels.decision_function(X).shape == labels.predict_proba(X).shape == (150, 3)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_sparse_rows_are_predicted_in_blocks(iris, kind, monkeypatch):
    X, y = iris
    model = small(MLPRegressor).fit(X, y)
    expected = model.predict(X)
    monkeypatch.setattr(rows, "DENSE_BYTES", 7 * 4 * 8)
    np.testing.assert_allclose(model.predict(kind(X)), expected, rtol=1e-12)


def test_lbfgs_over_blocks_of_sparse_rows(iris, monkeypatch):
    X, y = iris
    weight = np.linspace(0, 2, 150)
    expected = small(solver="lbfgs", alpha=0.1).fit(X, y, sample_weight=weight)
    monkeypatch.setattr(lbfgs, "DENSE_BYTES", 40 * 4 * 8)
    model = small(solver="lbfgs", alpha=0.1).fit(sparse.csr_matrix(X), y, sample_weight=weight)
    np.testing.assert_allclose(model.params_, expected.params_, rtol=1e-8, atol=1e-10)
    assert model.loss_ == pytest.approx(expected.loss_, rel=1e-12)


@pytest.mark.parametrize("parameters", [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"dtype": "float32"}])
@pytest.mark.parametrize("kind", ["uint8", "float16"])
def test_large_arrays_of_another_type_are_converted_in_blocks(iris, kind, parameters, monkeypatch):
    X, y = np.round(9 * np.abs(iris[0])).astype(kind), iris[1]
    dtype = parameters.get("dtype", "float64")
    expected = small(batch_size=20, **parameters).fit(X.astype(dtype), y)
    probabilities = expected.predict_proba(X.astype(dtype))
    forty_rows = 40 * 4 * np.dtype(dtype).itemsize
    monkeypatch.setattr(rows, "DENSE_BYTES", forty_rows)
    monkeypatch.setattr(lbfgs, "DENSE_BYTES", forty_rows)
    monkeypatch.setattr(rows, "SMALL_COPY_BYTES", 0)
    converted = []
    to_dense = rows._dense
    monkeypatch.setattr(rows, "_dense", lambda X, dtype: converted.append(len(X)) or to_dense(X, dtype))
    model = small(batch_size=20, **parameters).fit(X, y)
    assert model.params_.dtype == dtype
    np.testing.assert_allclose(model.params_, expected.params_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(model.predict_proba(X), probabilities, rtol=1e-8)
    assert max(converted) == 40


def test_what_float32_cannot_hold_is_placed_in_large_arrays_too(iris, monkeypatch):
    X, y = iris[0].copy(), iris[1]
    model = small(dtype="float32").fit(X, y)
    X[20, 1] = 1e300
    monkeypatch.setattr(rows, "SMALL_COPY_BYTES", 0)
    place = "infinity or a value too large for float32: first in row 20, column 1"
    with pytest.raises(ValueError, match=place):
        small(dtype="float32").fit(X, y)
    with pytest.raises(ValueError, match=place):
        model.predict(X)
    with pytest.raises(ValueError, match="Input X contains infinity in row 20, column 1"):
        pymlp.train(model.network_, model.params_, X, np.eye(3)[y])


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", ["array", "sparse", "frame"])
@pytest.mark.parametrize(("value", "named"), [(np.nan, "NaN"), (-np.inf, "infinity")])
def test_numbers_that_are_not_finite_are_placed(iris, kind, value, named):
    X, y = iris[0].copy(), iris[1]
    fitted = small().fit(X, y)
    X[17, 2] = X[40, 0] = value
    place = "row 17, column 2"
    if kind == "sparse":
        X = sparse.csc_matrix(X)
    elif kind == "frame":
        pandas = pytest.importorskip("pandas", reason="needs a data frame")
        names = ["a", "b", "c", "d"]
        fitted = small().fit(pandas.DataFrame(iris[0], columns=names), y)
        X, place = pandas.DataFrame(X, columns=names), r"row 17, column 2 \('c'\)"
    with pytest.raises(ValueError, match=f"Input X contains {named}: first in {place}"):
        small().fit(X, y)
    with pytest.raises(ValueError, match=f"Input X contains {named}: first in {place}"):
        fitted.predict(X)


def test_targets_that_are_not_finite_are_placed(iris):
    X, y = iris[0], iris[1].astype(float)
    y[30] = np.nan
    with pytest.raises(ValueError, match="Input y contains NaN: first in row 30 "):
        small(MLPRegressor).fit(X, y)
    with pytest.raises(ValueError, match="row 30, column 1"):
        small(MLPRegressor).fit(X, np.column_stack([iris[1], y]))


def test_a_regression_needs_dense_targets(iris):
    with pytest.raises(ValueError, match="y must be a dense array"):
        small(MLPRegressor).fit(iris[0], sparse.csr_matrix(iris[0][:, :2]))


def test_poisson_needs_targets_of_at_least_zero(iris):
    y = iris[1].astype(float)
    y[9] = -1
    with pytest.raises(ValueError, match="y must be at least 0 for loss='poisson', but row 9, column 0"):
        small(MLPRegressor, loss="poisson").fit(iris[0], y)


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda X, y: (np.where(np.arange(len(X))[:, None] == 3, np.nan, X)[:, :2], y, None),
        lambda X, y: (X[:, :3], y[:-1], None),
        lambda X, y: (X[:, :3], y, -np.ones(len(X))),
        lambda X, y: (X[:, :3], y, np.zeros(len(X))),
        lambda X, y: (X * 1e200, y, None),
    ],
    ids=["NaN", "lengths", "negative weights", "no weight", "weights overflow"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_failed_fit_leaves_the_model_as_it_was(iris, cls, spoil):
    X, y = iris
    model = small(cls, activation="identity", solver="sgd", batch_size=30).fit(X, y)
    before, predicted = state_of(model), model.predict(X)
    bad_X, bad_y, weight = spoil(X, y)
    with pytest.raises(ValueError, match=r"\w"):
        model.fit(bad_X, bad_y, sample_weight=weight)
    assert state_of(model) == before
    if bad_X.shape[1] == 4:
        with pytest.raises(ValueError, match="non-finite"):
            model.partial_fit(bad_X, bad_y)
        assert state_of(model) == before
    np.testing.assert_array_equal(model.predict(X), predicted)


def test_a_failed_first_fit_leaves_the_model_unfitted(iris):
    model = small()
    with pytest.raises(ValueError, match="inconsistent"):
        model.fit(iris[0], iris[1][:10])
    assert state_of(model) == state_of(small())


def test_partial_fit_checks_the_classes(iris):
    X, y = iris
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        small().partial_fit(X, y)
    model = small().partial_fit(X, y, classes=[0, 1, 2])
    before = state_of(model)
    with pytest.raises(ValueError, match="not the same as on last call"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="`y` has classes not in"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="was fitted to multiclass"):
        model.partial_fit(X, np.eye(3, dtype=int)[y])
    assert state_of(model) == before
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same classes"):
        model.set_params(warm_start=True).fit(X[:100], y[:100])


def test_partial_fit_is_not_for_every_solver(iris):
    assert not hasattr(small(solver="lbfgs"), "partial_fit")
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        small(early_stopping=True).partial_fit(*iris, classes=[0, 1, 2])


def test_partial_fit_after_lbfgs_with_other_layers_begins_anew(iris):
    X, y = iris
    model = small().fit(X, y).set_params(solver="lbfgs", hidden_layer_sizes=(3,)).fit(X, y)
    expected = small(solver="lbfgs", hidden_layer_sizes=(3,)).fit(X, y).set_params(solver="adam").partial_fit(X, y)
    model.set_params(solver="adam").partial_fit(X, y)
    assert model.params_.tobytes() == expected.params_.tobytes()
    # the same layers in another dtype
    model.set_params(solver="lbfgs").fit(X.astype("float32"), y).set_params(solver="adam").partial_fit(X, y)
    assert model.params_.dtype == "float32"


def test_a_warm_start_needs_the_same_layers(iris):
    model = small(warm_start=True).fit(*iris).set_params(hidden_layer_sizes=(7,))
    with pytest.raises(ValueError, match=r"layer widths \(4, 6, 3\)"):
        model.fit(*iris)


# -------------------------------------------------------------------------------------------------- printing, warnings


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 30},
        {"tol": 1.0, "n_iter_no_change": 2},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1, "max_iter": 40},
        {"solver": "lbfgs"},
    ],
    ids=str,
)
def test_verbose_prints_scikit_learns_lines(iris, capsys, parameters):
    small(verbose=True, **parameters).fit(*iris)
    ours = capsys.readouterr().out
    theirs = neural_network.MLPClassifier(
        **{"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0, "verbose": True, **parameters}
    )
    theirs.fit(*iris)
    assert ours == capsys.readouterr().out


def test_silent_otherwise(iris, capfd):
    GridSearchCV(small(), {"alpha": [0.1, 1.0]}, cv=2).fit(*iris)
    small(MLPRegressor, solver="lbfgs").fit(*iris)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
def test_convergence_warning_only_where_max_iter_ends_the_training(iris):
    for solver in ("adam", "lbfgs"):
        with pytest.warns(ConvergenceWarning, match="reached|failed to converge") as caught:
            small(solver=solver, max_iter=2).fit(*iris)
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(tol=1.0, n_iter_no_change=1).fit(*iris)
        small().partial_fit(*iris, classes=[0, 1, 2])


# --------------------------------------------------------------------------------------- interruption, threads, limits


class Stopper:
    """A callback that does something at the end of an epoch."""

    def __init__(self, at_end):
        self.at_end = at_end

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        return context.task_name == "epoch" and self.at_end(context.task_id, fitted_estimator)

    def teardown(self, estimator, context):
        pass


def interrupt_in(epoch):
    def at_end(number, fitted_estimator):
        if number == epoch:
            raise KeyboardInterrupt

    return Stopper(at_end)


@pytest.mark.parametrize("parameters", [{}, {"solver": "sgd", "learning_rate": "adaptive"}, {"early_stopping": True}])
def test_an_interruption_keeps_the_last_complete_epoch(iris, parameters):
    X, y = iris
    parameters = {**parameters, "max_iter": 9, "n_iter_no_change": 50}
    model, seen = small(**parameters), []
    model.set_callbacks(interrupt_in(3), Stopper(lambda number, fitted: seen.append(fitted.params_)))
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert model.params_.tobytes() == seen[2].tobytes()
    assert model.n_iter_ == len(model.loss_curve_) == 3
    assert model.t_ == 3 * (135 if "early_stopping" in parameters else 150)
    assert model.predict(X).shape == (150,)
    if "early_stopping" not in parameters:
        reference = small(**{**parameters, "max_iter": 3}).fit(X, y)
        assert (
            model.set_callbacks().partial_fit(X, y).params_.tobytes() == reference.partial_fit(X, y).params_.tobytes()
        )


def test_an_interrupted_lbfgs_keeps_the_last_iterate(iris):
    model = small(solver="lbfgs", max_iter=20).set_callbacks(interrupt_in(4))
    with pytest.raises(KeyboardInterrupt):
        model.fit(*iris)
    expected = small(solver="lbfgs", max_iter=5).fit(*iris)
    assert model.n_iter_ == 5
    np.testing.assert_allclose(model.params_, expected.params_, rtol=1e-12)
    assert model.loss_ == expected.loss_


def test_an_interruption_before_the_first_epoch_changes_nothing(iris):
    model = small().set_callbacks(interrupt_in(0))
    with pytest.raises(KeyboardInterrupt):
        model.fit(*iris)
    with pytest.raises(NotFittedError):
        model.predict(iris[0])
    model.set_callbacks().fit(*iris).set_callbacks(interrupt_in(0))
    before = model.params_.tobytes()
    with pytest.raises(KeyboardInterrupt):
        model.fit(iris[0][:, :2], iris[1])
    assert model.params_.tobytes() == before
    assert model.n_features_in_ == 4


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("backend", backends.available())
def test_control_c_comes_through_within_a_fifth_of_a_second(solver, backend):
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(3000, 300)).astype("float32"), draw.integers(10, size=3000)
    with pymlp.config_context(backend=backend):
        MLPClassifier((300, 300), solver=solver, max_iter=1, batch_size=500).fit(X[:1000], y[:1000])
        delays = []
        # the best of three: other work on the machine delays threads
        while not delays or (min(delays) >= 0.2 and len(delays) < 3):
            sent = []
            model = MLPClassifier(
                (300, 300), solver=solver, max_iter=10**6, tol=0, batch_size=500, n_iter_no_change=10**6
            )
            thread = threading.Timer(
                0.6, lambda sent=sent: sent.append(time.perf_counter()) or os.kill(os.getpid(), signal.SIGINT)
            )
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                model.fit(X, y)
            delays.append(time.perf_counter() - sent[0])
            thread.join()
    assert min(delays) < 0.2


@pytest.mark.skipif("c" not in backends.available(), reason="only the C engine is built without Python in its loops")
def test_other_threads_run_while_c_trains(monkeypatch):
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(4000, 200)).astype("float32"), draw.integers(10, size=4000)
    # without slices, one call trains a whole epoch
    monkeypatch.setattr(training, "DIRECT_SECONDS", 1e9)
    model = MLPClassifier((400, 400), max_iter=3, random_state=0, batch_size=100)
    longest, stop = [0.0], threading.Event()

    def count():
        last = time.perf_counter()
        while not stop.is_set():
            time.sleep(0.001)
            now = time.perf_counter()
            longest[0], last = max(longest[0], now - last), now

    with pymlp.config_context(backend="c", n_threads=1):
        thread = threading.Thread(target=count)
        began = time.perf_counter()
        thread.start()
        model.fit(X, y)
        seconds = time.perf_counter() - began
        stop.set()
        thread.join()
    # an epoch is a third of the time; holding the lock for one would show as a gap that long
    assert longest[0] < seconds / 6


def test_fits_in_another_thread(iris):
    expected = small().fit(*iris).params_
    fitted = []
    thread = threading.Thread(target=lambda: fitted.append(small().fit(*iris)))
    thread.start()
    thread.join()
    assert fitted[0].params_.tobytes() == expected.tobytes()


@pytest.mark.skipif("c" not in backends.available(), reason="threadpoolctl sees the C engine's library only")
def test_threadpoolctl_limits_the_threads():
    import threadpoolctl

    before = resolve_threads().value
    with pymlp.config_context(n_threads=3):
        with threadpoolctl.threadpool_limits(1):
            assert resolve_threads().value == 1
            assert {"user_api": "pymlp", "num_threads": 1}.items() <= next(
                library for library in threadpoolctl.threadpool_info() if library["user_api"] == "pymlp"
            ).items()
        assert resolve_threads().value == 3
    with threadpoolctl.threadpool_limits({"pymlp": 1}):
        assert resolve_threads().value == 1
    assert resolve_threads().value == before


# ----------------------------------------------------------------------------------------- callbacks, inside meta-tools


def test_callbacks_stop_the_training_and_can_be_taken_off(iris):
    scores = []

    def at_end(number, fitted_estimator):
        scores.append(fitted_estimator.score(*iris))
        return number == 1

    for solver in ("adam", "lbfgs"):
        scores.clear()
        model = small(solver=solver, max_iter=9).set_callbacks(Stopper(at_end))
        assert model.fit(*iris).n_iter_ == 2
        assert scores[-1] == model.score(*iris)
        assert model.set_callbacks().fit(*iris).n_iter_ == 9
    with pytest.raises(TypeError, match="lacks setup"):
        model.set_callbacks(print)


@pytest.mark.parametrize("parameters", [{"max_iter": 3}, {"tol": 0.1, "max_iter": 200}], ids=["max_iter", "converged"])
def test_lbfgs_announces_no_iteration_after_the_last(iris, parameters):
    class Journal(Stopper):
        def on_fit_task_begin(self, estimator, context):
            told.append(("begin", context.task_name, context.task_id))

        def on_fit_task_end(self, estimator, context):
            told.append(("end", context.task_name, context.task_id))

    told = []
    model = small(solver="lbfgs", **parameters).set_callbacks(Journal(None)).fit(*iris)
    epochs = [(moment, "epoch", number) for number in range(model.n_iter_) for moment in ("begin", "end")]
    assert 0 < model.n_iter_ < 200
    assert told == [("begin", "fit", 0), *epochs, ("end", "fit", 0)]


def test_scikit_learns_own_callbacks_work(iris):
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    X, y = iris
    # the scorer gets the labels that fit got
    model = small(max_iter=9, early_stopping=True).set_callbacks(monitor).fit(X, np.array(["a", "b", "c"])[y])
    scores = {entry["task_id_path"]: entry["accuracy"] for entry in monitor.get_logs().data}
    assert list(scores) == [(0,), *((0, epoch) for epoch in range(model.n_iter_))]
    assert scores[(0,)] == model.score(X, np.array(["a", "b", "c"])[y])


def test_callbacks_reach_the_fits_of_searches_and_pipelines(iris):
    pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")

    class Counter(Stopper):
        max_propagation_depth = None

        def setup(self, estimator, context):
            names.append(type(estimator).__name__)

    names, epochs = [], []
    counter = Counter(lambda number, fitted: epochs.append(number))
    search = GridSearchCV(small(max_iter=2), {"alpha": [0.1, 1.0]}, cv=2).set_callbacks(counter).fit(*iris)
    assert names == ["GridSearchCV"]
    # two folds for each of two values, then the fit of the best on all rows
    assert epochs == [0, 1] * 5
    assert not hasattr(search.best_estimator_, "_parent_callback_ctx")
    make_pipeline(StandardScaler(), small(max_iter=2)).set_callbacks(counter).fit(*iris)
    assert names == ["GridSearchCV", "Pipeline"]
    assert epochs == [0, 1] * 6
    # a clone keeps what was set on it
    clone(small(max_iter=1).set_callbacks(counter)).fit(*iris)
    assert names[-1] == "MLPClassifier"


def test_progress_bar_on_an_estimator(iris, capsys):
    small(early_stopping=True).set_callbacks(pymlp.ProgressBar()).fit(*iris)
    captured = capsys.readouterr()
    assert "epoch 4/4" in captured.err
    assert "validation=" in captured.err
    assert captured.out == ""


def test_lives_in_pipelines_and_searches(iris):
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), small(max_iter=60, learning_rate_init=0.02))
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.9
    search = GridSearchCV(pipeline, {"mlpclassifier__hidden_layer_sizes": [(3,), (9,)]}, cv=3, n_jobs=2).fit(X, y)
    assert search.best_score_ > 0.9


def test_feature_names_are_kept_and_checked(iris):
    pandas = pytest.importorskip("pandas", reason="needs a data frame")
    frame = pandas.DataFrame(iris[0], columns=["a", "b", "c", "d"])
    model = small().fit(frame, iris[1])
    assert list(model.feature_names_in_) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a", "c", "d"]])
    model.fit(*iris)
    assert not hasattr(model, "feature_names_in_")
