"""Fitting an estimator: errors that change nothing, what is printed, interruption, threads."""

import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from scipy import sparse
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from small_models import CLASSES, Stopper, interrupt_in, small, state_of

import pymlp
from pymlp import MLPClassifier, MLPRegressor, backends, epochs, step_times
from pymlp.config import resolve_threads

# the fits here are short on purpose
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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


# ------------------------------------------------------------------------------------------- several epochs in one call


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"tol": 0.3},
        {"tol": 0.05, "n_iter_no_change": 3},
        {"n_iter_no_change": np.inf},
        {"early_stopping": True},
        {"shuffle": False},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.02, "n_iter_no_change": 2},
        {"solver": "sgd", "learning_rate": "invscaling"},
    ],
    ids=str,
)
def test_epochs_in_one_call_change_nothing(iris, parameters, monkeypatch, capsys):
    # however slow the machine is
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 1e9)
    outcomes = []
    for together in (True, False):
        if not together:
            monkeypatch.setattr(epochs.EpochLoop, "_epochs_together", lambda self, most: 1)
        draw = np.random.RandomState(3)
        model = small(max_iter=40, batch_size=40, verbose=True, **parameters).set_params(random_state=draw).fit(*iris)
        state = state_of(model)
        # the counts left by fit decide how many epochs a warm start is certain of
        model.set_params(warm_start=True).fit(*iris)
        outcomes.append((state, state_of(model), draw.normal(), capsys.readouterr().out))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("every", [1e-9, 1e9])
def test_a_slice_ends_when_a_checkpoint_is_due(iris, tmp_path, monkeypatch, every):
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 1e-9)
    monkeypatch.setattr(epochs, "TOGETHER_SECONDS", 1e-9)
    step_times.forget()
    lengths = []
    plan = backends.get().Plan
    train_steps = plan.train_steps
    monkeypatch.setattr(
        plan, "train_steps", lambda self, *rest: lengths.append(len(rest[-1])) or train_steps(self, *rest)
    )
    small(batch_size=40).fit(*iris, checkpoint=tmp_path / "c", checkpoint_every=every)
    # an epoch has four steps; the first of all is timed
    assert lengths[0] == 1
    assert set(lengths[2:]) == ({1} if every < 1 else {4})


def test_patience_limits_the_epochs_of_a_call(iris, monkeypatch):
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 1e9)
    step_times.forget()
    counts = []
    together = epochs.EpochLoop._epochs_together
    monkeypatch.setattr(
        epochs.EpochLoop, "_epochs_together", lambda self, most: counts.append(together(self, most)) or counts[-1]
    )
    model = small(max_iter=30, tol=10.0, n_iter_no_change=7).fit(*iris)
    # one epoch to measure, which improves on nothing; then the eighth in a row without improvement ends the training
    assert counts == [1, 8]
    assert model.n_iter_ == 9
    counts.clear()
    # how long a step takes is known by now
    small(max_iter=30, n_iter_no_change=100).fit(*iris)
    assert counts == [30]
    counts.clear()
    # where steps are slow, Ctrl-C soon finds a first epoch that is complete
    with monkeypatch.context() as slower:
        slower.setattr(epochs, "DIRECT_SECONDS", 0.0)
        small(max_iter=30, n_iter_no_change=100).fit(*iris)
    assert counts[0] == 1 < max(counts)
    counts.clear()
    # and of a step of another kind it is not
    small(max_iter=30, n_iter_no_change=100, batch_size=50).fit(*iris)
    assert counts == [1, 29]
    counts.clear()
    small(max_iter=5, early_stopping=True).fit(*iris)
    assert counts == [1] * 5
    counts.clear()
    # each takes longer than one may wait for what it prints
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 0.0)
    small(max_iter=5, verbose=True).fit(*iris)
    assert counts == [1] * 5


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
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 1e9)
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
