"""Ctrl-C and other signals: how soon they are obeyed, and what an interrupted fit leaves behind."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from interrupting import Interruption, Sender, delay_of_interrupt, longest_deafness, raising

from pymlp import (
    BernoulliNB,
    FourierSVC,
    GaussianNB,
    LinearSVC,
    LogisticRegression,
    MLPClassifier,
    MLPRegressor,
    Network,
    Perceptron,
    find_learning_rate,
    interruptible,
    train,
)
from pymlp.interruptible import compute, copied, copy_in_pieces, run_interruptibly
from pymlp.optimizers import Adam, new_slots

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

# what the promise says of the 99th percentile
PROMISED_SECONDS = 0.1


@pytest.fixture(scope="module")
def sender() -> Iterator[Sender]:
    sender = Sender()
    yield sender
    sender.close()


def digest(*values: Any) -> str:
    """Of arrays, of objects that hold them, and of anything with a repr that tells it."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            found.update(repr((value.dtype, value.shape)).encode() + np.ascontiguousarray(value).tobytes())
        elif isinstance(value, dict):
            found.update(digest(*(item for name in sorted(value) for item in (name, value[name]))).encode())
        elif isinstance(value, (list, tuple)):
            found.update(digest(*value).encode())
        elif is_dataclass(value) and not isinstance(value, type):
            # not what it has worked out of its fields in the meantime; a course knows how many steps there were to be
            own = [getattr(value, field.name) for field in fields(value) if field.name != "total"]
            found.update(digest(type(value).__name__, own).encode())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()


def state_of(model: Any) -> str:
    """All that a fit may change, but for how long it took."""
    state = {name: value for name, value in vars(model).items() if name.endswith("_") or name.startswith("_")}
    state.pop("_skl_callbacks", None)
    if "history_" in state:
        state["history_"] = {name: values for name, values in state["history_"].items() if name != "seconds"}
    return digest(state)


def rows(n_rows: int, columns: int, classes: int = 3, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    X = draw.standard_normal((n_rows, columns), dtype=dtype)
    return X, draw.integers(classes, size=n_rows)


# --- one call in a helper thread -----------------------------------------------------------------------------------


def test_a_call_is_waited_for_whatever_interrupts_the_wait() -> None:
    stopped, ended = threading.Event(), []

    def call() -> None:
        stopped.wait()
        time.sleep(0.2)
        ended.append(True)

    with raising(signal.SIGALRM, KeyboardInterrupt) as arrived:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            with pytest.raises(KeyboardInterrupt):
                run_interruptibly(call, stopped.set)
            reached = bool(ended)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(arrived) > 3
    assert reached


def test_a_call_without_a_stop_runs_to_its_end() -> None:
    ended = []

    def call() -> None:
        time.sleep(0.1)
        ended.append(True)

    with raising(signal.SIGALRM, TimeoutError):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(TimeoutError):
            run_interruptibly(call)
    assert ended


@pytest.mark.parametrize("begun", [False, True])
def test_an_interruption_while_the_thread_starts(monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    real, called, running = threading.Thread.start, [], threading.Event()

    def start(thread: threading.Thread) -> None:
        if begun:
            real(thread)
            running.wait()
        raise KeyboardInterrupt

    def call() -> None:
        running.set()
        time.sleep(0.1)
        called.append(True)

    monkeypatch.setattr(interruptible.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(call, lambda: None)
    assert bool(called) is begun


def test_an_interruption_before_the_thread_runs_keeps_the_call_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    called, late = [], []

    def start(thread: threading.Thread) -> None:
        late.append(thread)
        raise KeyboardInterrupt

    real = threading.Thread.start
    monkeypatch.setattr(interruptible.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(lambda: called.append(True), lambda: None)
    # the system may have made the thread all the same
    real(late[0])
    late[0].join()
    assert not called


def test_without_a_thread_the_call_takes_place_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(interruptible.Thread, "start", start)
    assert run_interruptibly(threading.get_ident, lambda: None) == threading.get_ident()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(0,), (1,), (1000,), (3, 700), (700, 3), (0, 5), (5, 0)])
def test_copies_in_pieces_are_copies(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], order: str) -> None:
    monkeypatch.setattr(interruptible, "COPIED_BYTES", 1000)
    array = np.random.default_rng(0).standard_normal(shape).copy(order)
    copy = copied(array)
    assert copy.flags.c_contiguous
    assert not np.may_share_memory(copy, array)
    np.testing.assert_array_equal(copy, array)
    wide = np.zeros((2, *shape))
    copy_in_pieces(wide[::-1][0], array)
    np.testing.assert_array_equal(wide[1], array)
    every_other = np.zeros(2 * len(array)) if len(shape) == 1 else np.zeros((2 * len(array), shape[1]))
    copy_in_pieces(every_other[::2], array)
    np.testing.assert_array_equal(every_other[::2], array)
    assert not every_other[1::2].any()


def test_a_computation_is_left_alone_and_not_waited_for() -> None:
    going_on, ended = threading.Event(), threading.Event()

    def call() -> None:
        going_on.wait()
        ended.set()

    with raising(signal.SIGALRM, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            compute(call, 10**9)
    assert not ended.is_set()
    going_on.set()
    assert ended.wait(5)
    # few numbers need no thread
    assert compute(threading.get_ident, 100) == threading.get_ident()
    assert compute(threading.get_ident, 10**9) != threading.get_ident()


# --- what is left, wherever the interruption comes -----------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """A fit of so many epochs, whose outcomes after fewer are known: `make` gives the estimator, `fit` fits it."""

    make: Callable[[int], Any]
    fit: Callable[[Any], Any]
    epochs: int = 0

    def allowed(self) -> dict[str, int]:
        """States that may be found, and after how many epochs; 0: as before the fit."""
        found = {state_of(self.make(max(1, self.epochs))): 0}
        for epochs in range(1, self.epochs + 1):
            model = self.make(epochs)
            self.fit(model)
            found[state_of(model)] = epochs
        if not self.epochs:
            found[state_of(self.fit(self.make(1)))] = 1
        return found


@cache
def small_rows() -> tuple[np.ndarray, np.ndarray]:
    return rows(60, 4)


def mlp(**parameters: Any) -> Fit:
    def make(epochs: int) -> MLPClassifier:
        defaults = {"hidden_layer_sizes": (7,), "batch_size": 20, "random_state": 0, "max_iter": epochs, "tol": 0.0}
        return MLPClassifier(**{**defaults, **parameters})

    return Fit(make, lambda model: model.fit(*small_rows()), 3)


def warm(**parameters: Any) -> Fit:
    cold = mlp(warm_start=True, **parameters)

    def make(epochs: int) -> MLPClassifier:
        model = cold.make(2)
        cold.fit(model)
        return model.set_params(max_iter=epochs, hidden_layer_sizes=(7,))

    return Fit(make, cold.fit, 3)


def incremental() -> Fit:
    def make(epochs: int) -> MLPRegressor:
        model = MLPRegressor(hidden_layer_sizes=(7,), random_state=0, batch_size=20)
        return model.partial_fit(*small_rows()) if epochs else model

    return Fit(make, lambda model: model.partial_fit(*small_rows()))


def classic(model: type, **parameters: Any) -> Fit:
    return Fit(lambda epochs: model(**parameters), lambda fitted: fitted.fit(*small_rows()))


FITS = {
    "adam": mlp(),
    "averaged": mlp(solver=Adam(average="ema")),
    "standardised": mlp(standardize=True),
    "scored": mlp(scoring="accuracy"),
    "lbfgs": mlp(solver="lbfgs"),
    "warm": warm(),
    "warm lbfgs": warm(solver="lbfgs"),
    "partial_fit": incremental(),
    "logistic regression": classic(LogisticRegression),
    "perceptron": classic(Perceptron, max_iter=5),
    "linear machine": classic(LinearSVC),
    "fourier machine": classic(FourierSVC, n_components=20, random_state=0),
    "normal distributions": classic(GaussianNB),
    "coins": classic(BernoulliNB),
}


def interrupt_everywhere(fit: Fit, stride: int, first: int = 1) -> tuple[int, set[int]]:
    """Interrupt fits in front of their lines first, first + stride, ...; how often, and after how many epochs."""
    allowed, seen, line, count = fit.allowed(), set(), first, 0
    complete = state_of(fit.fit(fit.make(max(1, fit.epochs))))
    while True:
        model, interruption = fit.make(max(1, fit.epochs)), Interruption(line)
        if not interruption.run(lambda model=model: fit.fit(model)):
            assert state_of(model) == complete
            print(f"{count} interruptions, states after {sorted(seen)} epochs")
            return count, seen
        found = state_of(model)
        assert found in allowed, f"interrupted at {interruption.place}, line {line} of the run"
        seen.add(allowed[found])
        # the same object, and the same process, fit again as if nothing had happened
        if count % 50 == 0:
            again = fit.make(max(1, fit.epochs))
            assert state_of(fit.fit(again)) == complete
        line, count = line + stride, count + 1


@pytest.mark.parametrize("name", ["adam", "warm", "lbfgs", "logistic regression"])
def test_an_interrupted_fit_leaves_the_last_complete_epoch_or_nothing(name: str) -> None:
    count, _ = interrupt_everywhere(FITS[name], stride=41)
    assert count > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_a_fit_interrupted_at_any_line_leaves_the_last_complete_epoch_or_nothing(name: str) -> None:
    count, seen = interrupt_everywhere(FITS[name], stride=1)
    assert count > 100
    assert {0, max(1, FITS[name].epochs)} <= seen


@pytest.mark.parametrize("stride", [pytest.param(23), pytest.param(1, marks=pytest.mark.slow)])
def test_train_leaves_parameters_and_slots_of_the_same_epoch(stride: int) -> None:
    X, labels = small_rows()
    network, y = Network.from_widths((4, 7, 3), loss="log_loss", dtype="float64"), np.eye(3)[labels]

    def state(epochs: int) -> tuple[np.ndarray, np.ndarray]:
        params, slots = network.initial_params(0), new_slots(Adam(), network.n_parameters, "float64")
        if epochs:
            train(network, params, X, y, epochs=epochs, slots=slots, random_state=0, batch_size=20)
        return params, slots

    allowed = [digest(*state(epochs)) for epochs in range(4)]
    line, seen = 1, set()
    while True:
        params, slots = state(0)
        interruption = Interruption(line)
        if not interruption.run(
            lambda params=params, slots=slots: train(
                network, params, X, y, epochs=3, slots=slots, random_state=0, batch_size=20
            )
        ):
            break
        assert digest(params, slots) in allowed, f"interrupted at {interruption.place}"
        seen.add(allowed.index(digest(params, slots)))
        line += stride
    assert {0, 3} <= seen


# --- how soon ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """Something that takes a while: `make` gives what to call, which says afterwards whether all is as it should be."""

    make: Callable[[], tuple[Callable[[], Any], Callable[[], None]]]
    longest: float


def reference_epochs(make: Callable[[int], Any], X: Any, y: Any, epochs: int) -> list[str]:
    """Digests of the parameters after each epoch."""
    found = []

    class Note:
        def setup(self, estimator: Any, context: Any) -> None: ...
        def on_fit_task_begin(self, estimator: Any, context: Any) -> None: ...
        def teardown(self, estimator: Any, context: Any) -> None: ...
        def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> None:
            if context.task_name == "epoch":
                found.append(digest(fitted_estimator.params_))

    make(epochs).set_callbacks(Note()).fit(X, y)
    return found


def fit_work(make: Callable[[int], Any], X: Any, y: Any, epochs: int, longest: float, exact: bool = True) -> Work:
    """A fit that finds after an interruption whether the estimator holds the epoch that it says it holds."""
    expected = reference_epochs(make, X, y, epochs) if exact else []

    def one() -> tuple[Callable[[], Any], Callable[[], None]]:
        model = make(epochs)

        def check() -> None:
            if "params_" not in vars(model):
                assert not any(name.endswith("_") for name in vars(model))
                return
            assert model.n_iter_ == len(model.history_["loss"])
            if exact:
                assert digest(model.params_) == expected[model.n_iter_ - 1]

        return lambda: model.fit(X, y), check

    return Work(one, longest)


def nothing_to_check() -> None:
    """For what changes nothing."""


@cache
def small_steps() -> Work:
    """Epochs of a fraction of a millisecond, many of them in a call."""
    X, y = rows(400, 20)
    return fit_work(
        lambda epochs: MLPClassifier((30,), batch_size=50, max_iter=epochs, tol=0, n_iter_no_change=10**6,
                                     random_state=0), X, y, 400, 0.25,
    )  # fmt: skip


@cache
def middle_steps() -> Work:
    """Steps of milliseconds, in slices that run in a helper thread."""
    X, y = rows(3000, 300, dtype="float32")
    return fit_work(
        lambda epochs: MLPClassifier((300, 300), batch_size=500, max_iter=epochs, tol=0, n_iter_no_change=10**6,
                                     random_state=0), X, y, 12, 0.5,
    )  # fmt: skip


def wide_step() -> Work:
    """A step that takes about a second."""
    X, y = rows(1500, 2000, dtype="float32")
    return fit_work(
        lambda epochs: MLPClassifier((2000, 2000), batch_size=1500, max_iter=epochs, random_state=0), X, y, 3, 3.0
    )


def million_rows() -> Work:
    """L-BFGS on a million rows: a gradient takes seconds."""
    X, y = rows(1_000_000, 30, dtype="float32")
    return fit_work(
        lambda epochs: MLPClassifier((40,), solver="lbfgs", max_iter=epochs, random_state=0), X, y, 2, 3.0, exact=False
    )


def prediction() -> Work:
    """Predictions, probabilities and a score of a million rows."""
    X, y = rows(1_000_000, 30, dtype="float32")
    model = MLPClassifier((100, 100), max_iter=1, random_state=0).fit(X[:500], y[:500])

    def all_of_them() -> None:
        model.predict(X)
        model.predict_proba(X)
        model.score(X, y)

    return Work(lambda: (all_of_them, nothing_to_check), 0.8)


def classic_fits() -> Work:
    """A linear classifier and the search for a rate."""
    X, y = rows(60_000, 100)

    def both() -> None:
        LogisticRegression(max_iter=20).fit(X, y)
        find_learning_rate(MLPClassifier((50,), random_state=0), X, y)

    return Work(lambda: (both, nothing_to_check), 0.8)


def delays_of(sender: Sender, work: Work, count: int, seed: int = 0) -> list[float]:
    """Delays of so many interruptions at random moments; after each, what is left is looked at."""
    draw, delays = np.random.default_rng(seed), []
    attempts = 0
    while len(delays) < count:
        attempts += 1
        assert attempts < 3 * count + 10, "most calls ended before their interruption"
        call, check = work.make()
        delay = delay_of_interrupt(sender, call, (float(draw.uniform(0.001, work.longest)),))
        check()
        if delay is not None:
            delays.append(delay)
    return delays


def assert_soon(sender: Sender, work: Work, count: int) -> None:
    """The promise, of which other work on the machine may spoil a round."""
    rounds = []
    while len(rounds) < 3:
        delays = delays_of(sender, work, count, seed=len(rounds))
        rounds.append(float(np.percentile(delays, 99)))
        print(f"{count} interruptions: median {1e3 * np.median(delays):.1f} ms, 99th percentile "
              f"{1e3 * rounds[-1]:.1f} ms, longest {1e3 * max(delays):.1f} ms")  # fmt: skip
        if rounds[-1] <= PROMISED_SECONDS:
            return
    raise AssertionError(f"99th percentiles of three rounds: {rounds} s")


@pytest.mark.parametrize("make", [small_steps, middle_steps], ids=["small steps", "middle steps"])
def test_control_c_comes_through_soon(sender: Sender, make: Callable[[], Work]) -> None:
    assert_soon(sender, make(), 8)


# together 500
MOMENTS = {
    small_steps: 280,
    middle_steps: 100,
    wide_step: 30,
    million_rows: 30,
    prediction: 40,
    classic_fits: 20,
}


@pytest.mark.slow
@pytest.mark.parametrize("make", MOMENTS, ids=lambda make: make.__name__)
def test_control_c_comes_through_at_any_moment(sender: Sender, make: Callable[[], Work]) -> None:
    assert_soon(sender, make(), MOMENTS[make])


def test_a_second_control_c_changes_nothing(sender: Sender) -> None:
    twice(sender, 5)


@pytest.mark.slow
def test_many_second_control_cs_change_nothing(sender: Sender) -> None:
    twice(sender, 60)


def twice(sender: Sender, count: int) -> None:
    """Interrupt twice, the second time while the first is being obeyed or soon after."""
    draw = np.random.default_rng(1)
    works = small_steps(), middle_steps()
    for attempt in range(count):
        call, check = works[attempt % 2].make()
        delay_of_interrupt(sender, call, (float(draw.uniform(0.001, 0.2)), float(draw.uniform(0.001, 0.03))))
        check()
        threads = [thread for thread in threading.enumerate() if thread.daemon and thread.name.startswith("Thread-")]
        for thread in threads:
            thread.join(1)
        assert not any(thread.is_alive() for thread in threads)
        check()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fit", "another order", "another type", "predict", "standardise", "train"])
def test_large_arrays_are_looked_at_in_pieces(kind: str) -> None:
    X, y = rows(2_000_000, 50, dtype="float32")
    model = MLPClassifier((10,), max_iter=1, batch_size=1000, random_state=0, standardize=kind == "standardise")
    if kind == "another order":
        X = np.asfortranarray(X)
    elif kind == "another type":
        X = X.astype("float16")
    if kind == "predict":
        model.fit(X[:1000], y[:1000])
    network = Network.from_widths((50, 10, 1), dtype="float32")
    target = y.astype("float32")
    calls = {
        "predict": lambda: model.predict(X),
        "train": lambda: train(network, network.initial_params(0), X, target, epochs=1, batch_size=1000),
    }
    call, found = calls.get(kind, lambda: model.fit(X, y)), []
    while not found or (min(found)[0] > PROMISED_SECONDS and len(found) < 4):
        found.append(longest_deafness(call))
    print(f"{kind}: {1e3 * min(found)[0]:.0f} ms at {min(found)[1]}")
    assert min(found)[0] <= PROMISED_SECONDS, min(found)


# --- other signals, other threads ----------------------------------------------------------------------------------


def test_another_handlers_exception_leaves_the_fit_and_changes_nothing(sender: Sender) -> None:
    X, y = rows(3000, 300, dtype="float32")
    model = MLPClassifier((300, 300), batch_size=500, max_iter=10**6, tol=0, n_iter_no_change=10**6, random_state=0)
    for number, error in ((signal.SIGALRM, TimeoutError), (signal.SIGTERM, SystemExit)):
        delays = [
            delay_of_interrupt(sender, lambda: model.fit(X, y), (0.15 + 0.05 * i,), number, error) for i in range(3)
        ]
        assert not any(name.endswith("_") for name in vars(model))
        assert min(delays) < PROMISED_SECONDS


def test_sigterm_ends_a_process_that_fits() -> None:
    X, y = rows(3000, 300, dtype="float32")
    child = os.fork()
    if child == 0:
        # no pytest machinery may run in the child
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            MLPClassifier((300, 300), batch_size=500, max_iter=10**6, tol=0, n_iter_no_change=10**6).fit(X, y)
        finally:
            os._exit(1)
    time.sleep(0.3)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_control_c_does_not_disturb_a_fit_in_another_thread(sender: Sender) -> None:
    X, y = rows(400, 20)

    def fit() -> str:
        return digest(MLPClassifier((60,), batch_size=50, max_iter=150, tol=0, random_state=0).fit(X, y).params_)

    expected, fitted = fit(), []
    thread = threading.Thread(target=lambda: fitted.extend(fit() for _ in range(3)))
    thread.start()
    # the main thread, which waits, is the one that signals interrupt
    for _ in range(3):
        delay_of_interrupt(sender, lambda: time.sleep(1), (0.02,))
    thread.join()
    assert fitted == [expected] * 3
