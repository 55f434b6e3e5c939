"""How soon Ctrl-C and other signals are obeyed: in steps short and long, in predictions, and before a fit begins.

The promise: within 100 ms for 99 of 100, at whatever moment of a fit.  What each interruption leaves is looked at.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from interrupting import Delay, Sender, delay_of_interrupt, digest, longest_deafness, random_rows

from pymlp import LogisticRegression, MLPClassifier, Network, find_learning_rate, train

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


@dataclass(frozen=True)
class Work:
    """Something that takes a while: `make` gives what to call, and what says afterwards whether all is as it should
    be."""

    make: Callable[[], tuple[Callable[[], Any], Callable[[], None]]]

    def seconds(self) -> float:
        """How long it takes on this machine, at this moment."""
        call, _ = self.make()
        began = time.perf_counter()
        call()
        return time.perf_counter() - began


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


def fit_work(make: Callable[[int], Any], X: Any, y: Any, epochs: int, exact: bool = True) -> Work:
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

    return Work(one)


def nothing_to_check() -> None:
    """For what changes nothing."""


@cache
def small_steps() -> Work:
    """Epochs of a fraction of a millisecond, many of them in a call."""
    X, y = random_rows(400, 20)
    return fit_work(
        lambda epochs: MLPClassifier((30,), batch_size=50, max_iter=epochs, tol=0, n_iter_no_change=10**6,
                                     random_state=0), X, y, 1500,
    )  # fmt: skip


@cache
def middle_steps() -> Work:
    """Steps of milliseconds, in slices that run in a helper thread."""
    X, y = random_rows(3000, 300, dtype="float32")
    return fit_work(
        lambda epochs: MLPClassifier((300, 300), batch_size=500, max_iter=epochs, tol=0, n_iter_no_change=10**6,
                                     random_state=0), X, y, 12,
    )  # fmt: skip


def wide_step() -> Work:
    """A step that takes about a second."""
    X, y = random_rows(1500, 2000, dtype="float32")
    return fit_work(
        lambda epochs: MLPClassifier((2000, 2000), batch_size=1500, max_iter=epochs, random_state=0), X, y, 3
    )


def million_rows() -> Work:
    """L-BFGS on a million rows: a gradient takes seconds."""
    X, y = random_rows(1_000_000, 30, dtype="float32")
    return fit_work(
        lambda epochs: MLPClassifier((40,), solver="lbfgs", max_iter=epochs, random_state=0), X, y, 2, exact=False
    )


def prediction() -> Work:
    """Predictions, probabilities and a score of a million rows."""
    X, y = random_rows(1_000_000, 30, dtype="float32")
    model = MLPClassifier((100, 100), max_iter=1, random_state=0).fit(X[:500], y[:500])

    def all_of_them() -> None:
        model.predict(X)
        model.predict_proba(X)
        model.score(X, y)

    return Work(lambda: (all_of_them, nothing_to_check))


def classic_fits() -> Work:
    """A linear classifier and the search for a rate."""
    X, y = random_rows(60_000, 100)

    def both() -> None:
        LogisticRegression(max_iter=20).fit(X, y)
        find_learning_rate(MLPClassifier((50,), random_state=0), X, y)

    return Work(lambda: (both, nothing_to_check))


def delays_of(sender: Sender, work: Work, count: int, seed: int = 0) -> list[Delay]:
    """Delays of so many interruptions at random moments; after each, what is left is looked at."""
    draw, delays = np.random.default_rng(seed), []
    attempts, longest = 0, work.seconds()
    while len(delays) < count:
        attempts += 1
        assert attempts < 5 * count + 10, "most calls ended before their interruption"
        call, check = work.make()
        delay = delay_of_interrupt(sender, call, (float(draw.uniform(0.001, longest)),))
        check()
        if delay is not None:
            delays.append(delay)
    return delays


def is_busy() -> bool:
    """Whether others keep this machine's cores busy."""
    return os.getloadavg()[0] > len(os.sched_getaffinity(0))


def assert_soon(sender: Sender, work: Work, count: int) -> None:
    """The promise; where others keep the cores busy, of the time in which this process had one."""
    rounds = []
    while len(rounds) < 3:
        delays = delays_of(sender, work, count, seed=len(rounds))
        passed, computed = [delay.passed for delay in delays], [delay.computed for delay in delays]
        rounds.append((float(np.percentile(passed, 99)), float(np.percentile(computed, 99))))
        for name, values in (("passed", passed), ("computed", computed)):
            middle, late, latest = 1e3 * np.percentile(values, [50, 99, 100])
            print(
                f"{count} interruptions, ms {name}: median {middle:.0f}, 99th percentile {late:.0f}, most {latest:.0f}"
            )
        print(f"load {os.getloadavg()[0]:.1f}")
        if rounds[-1][0] <= PROMISED_SECONDS or (is_busy() and rounds[-1][1] <= PROMISED_SECONDS):
            return
    raise AssertionError(f"99th percentiles of three rounds, and of their CPU time: {rounds} s")


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


def has_begun(thread: threading.Thread) -> bool:
    """Whether a thread runs, or has run, or does soon.  Python lists also those that never will: where Ctrl-C came into
    `start` before the system had made them."""
    deadline = time.perf_counter() + 0.5
    while thread.ident is None and time.perf_counter() < deadline:
        time.sleep(0.01)
    return thread.ident is not None


def twice(sender: Sender, count: int) -> None:
    """Interrupt twice, the second time while the first is being obeyed or soon after."""
    draw = np.random.default_rng(1)
    works = small_steps(), middle_steps()
    for attempt in range(count):
        call, check = works[attempt % 2].make()
        # those of earlier tests are none of its business
        before = set(threading.enumerate())
        delay_of_interrupt(sender, call, (float(draw.uniform(0.001, 0.2)), float(draw.uniform(0.001, 0.03))))
        check()
        threads = [thread for thread in threading.enumerate() if thread not in before and has_begun(thread)]
        for thread in threads:
            thread.join(1)
        assert not any(thread.is_alive() for thread in threads)
        check()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fit", "another order", "another type", "predict", "standardise", "train"])
def test_large_arrays_are_looked_at_in_pieces(kind: str) -> None:
    X, y = random_rows(2_000_000, 50, dtype="float32")
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


def test_another_handlers_exception_leaves_the_fit_and_changes_nothing(sender: Sender) -> None:
    X, y = random_rows(3000, 300, dtype="float32")
    model = MLPClassifier((300, 300), batch_size=500, max_iter=10**6, tol=0, n_iter_no_change=10**6, random_state=0)
    for number, error in ((signal.SIGALRM, TimeoutError), (signal.SIGTERM, SystemExit)):
        delays = [
            delay_of_interrupt(sender, lambda: model.fit(X, y), (0.15 + 0.05 * i,), number, error) for i in range(3)
        ]
        assert not any(name.endswith("_") for name in vars(model))
        assert min(delay.computed if is_busy() else delay.passed for delay in delays) < PROMISED_SECONDS


def test_sigterm_ends_a_process_that_fits() -> None:
    X, y = random_rows(3000, 300, dtype="float32")
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
    X, y = random_rows(400, 20)

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
