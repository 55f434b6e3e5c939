"""Forks, before, during and after fits, from one thread and from several: no child hangs, all find the same bits.

A child is a copy of one thread: the engine's workers are gone in it, and so is whoever held a lock.  It does its piece
of work, says by its exit status whether the bits were right, and must have done so within five seconds.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import select
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

from pymlp import MLPClassifier, Network, Predictor, backends, config_context, train
from pymlp.forks import cached_property, drawing

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs fork and file descriptors of processes"),
    pytest.mark.skipif("c" not in backends.available(), reason="only the C engine has threads of its own"),
    # Python warns of what is done here: to fork a process of many threads
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

# within which a child must have ended
LIMIT_SECONDS = 5.0


@cache
def rows() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.standard_normal((300, 20), dtype=np.float32), draw.integers(3, size=300)


def fitted(seed: int | None = 0) -> MLPClassifier:
    with config_context(backend="c"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MLPClassifier((40,), batch_size=100, max_iter=3, random_state=seed).fit(*rows())


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def bits_of_fit() -> str:
    """Of a training whose steps two threads share, whatever they cost."""
    X, labels = rows()
    network = Network.from_widths((20, 40, 3), loss="log_loss")
    params = network.initial_params(0)
    result = train(
        network, params, X, np.eye(3)[labels], batch_size=100, epochs=3, random_state=0, n_threads=2, backend="c"
    )
    return digest(params, result.slots)


def bits_of_prediction(predictor: Predictor) -> str:
    X, _ = rows()
    return digest(predictor(X), predictor(X[:1]), predictor(X[:77]))


class Children:
    """Children at work; `count` of those that have ended, and what became of those that did not end well."""

    def __init__(self) -> None:
        self.count, self.longest = 0, 0.0
        self.failures: list[str] = []
        self._running: dict[int, tuple[int, float]] = {}

    def start(self, work: Callable[[], bool]) -> None:
        """Fork a child that ends well if `work` gives true."""
        child = os.fork()
        if child == 0:
            # no pytest machinery may run in the child
            status = 3
            try:
                status = 0 if work() else 1
            except BaseException:
                status = 2
            finally:
                os._exit(status)
        self._running[os.pidfd_open(child)] = child, time.perf_counter()

    def wait(self, most: int = 0) -> None:
        """Wait until at most so many are running."""
        while len(self._running) > most:
            ready, _, _ = select.select(list(self._running), [], [], 0.5)
            now = time.perf_counter()
            for descriptor in list(self._running):
                child, began = self._running[descriptor]
                late = now - began > LIMIT_SECONDS
                if descriptor not in ready and not late:
                    continue
                if late and descriptor not in ready:
                    os.kill(child, signal.SIGKILL)
                    self.failures.append("hung")
                _, status = os.waitpid(child, 0)
                os.close(descriptor)
                del self._running[descriptor]
                self.count += 1
                self.longest = max(self.longest, now - began)
                if status:
                    self.failures.append({1: "other bits", 2: "an exception"}.get(status >> 8, f"status {status}"))

    def __len__(self) -> int:
        return len(self._running)


@contextmanager
def thread_at(work: Callable[[], Any]) -> Iterator[None]:
    """A thread that does a piece of work again and again while the body runs."""
    ended, errors = threading.Event(), []

    def repeat() -> None:
        try:
            while not ended.is_set():
                work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert not errors, errors


def run_children(count: int, work: Callable[[], bool]) -> Children:
    """Fork so many children, two at a time."""
    children = Children()
    for _ in range(count):
        children.start(work)
        children.wait(most=1)
    children.wait()
    return children


def after_a_fit(count: int) -> Children:
    """Fit, then fork: the child fits with threads of its own."""
    expected = bits_of_fit()
    return run_children(count, lambda: bits_of_fit() == expected)


def during_a_fit(count: int) -> Children:
    """Fork while another thread fits, without a seed: the child fits, also without one, and draws numbers."""
    expected = bits_of_fit()

    def work() -> bool:
        np.random.standard_normal(3)
        fitted(None)
        return bits_of_fit() == expected

    X, y = np.tile(rows()[0], (100, 1)), np.tile(rows()[1], 100)

    def fit_without_a_seed() -> None:
        # many short epochs: much of the time is spent on drawing the order
        with config_context(backend="c"):
            MLPClassifier((2,), batch_size=30_000, max_iter=5).fit(X, y)

    with thread_at(fit_without_a_seed):
        return run_children(count, work)


def from_two_threads(count: int) -> Children:
    """Two threads that fit and fork at the same time."""
    expected, results = bits_of_fit(), []

    def fork_many() -> None:
        results.append(run_children(count // 2, lambda: bits_of_fit() == expected and len(Children()) == 0))

    threads = [threading.Thread(target=fork_many) for _ in range(2)]
    with thread_at(bits_of_fit):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    both = Children()
    for children in results:
        both.count += children.count
        both.failures += children.failures
        both.longest = max(both.longest, children.longest)
    return both


def of_a_server(count: int) -> Children:
    """A server that has predicted, and goes on, forks children that predict with the model they were given."""
    model = fitted()
    predictor = Predictor(model, n_threads=2)
    expected, labels = bits_of_prediction(predictor), digest(model.predict(rows()[0]))

    def work() -> bool:
        return bits_of_prediction(predictor) == expected and digest(model.predict(rows()[0])) == labels

    def serve() -> None:
        assert work()
        # the same model again: a child finds it as it was before, or as it is after
        with config_context(backend="c"):
            model.fit(*rows())

    with thread_at(serve):
        return run_children(count, work)


# together 4,960; multiprocessing and joblib make the rest
WAYS = {after_a_fit: 1600, during_a_fit: 1200, from_two_threads: 1160, of_a_server: 1000}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_children_do_not_hang(way: Callable[[int], Children]) -> None:
    children = way(16)
    assert children.count == 16
    assert not children.failures, children.failures


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_thousands_of_children_do_not_hang(way: Callable[[int], Children]) -> None:
    children = way(WAYS[way])
    print(f"{way.__name__}: {children.count} forks, the longest child {children.longest:.2f} s, "
          f"{len(children.failures)} failures")  # fmt: skip
    assert children.count == WAYS[way]
    assert not children.failures, children.failures


def test_a_fork_waits_for_a_draw_in_another_thread() -> None:
    begun, done = threading.Event(), []

    def draw() -> None:
        with drawing:
            begun.set()
            time.sleep(0.2)
            done.append(True)

    thread = threading.Thread(target=draw)
    thread.start()
    begun.wait()
    children = run_children(1, lambda: bool(done) and drawing.acquire(blocking=False))
    thread.join()
    assert not children.failures, children.failures


def test_a_fork_while_another_thread_works_out_a_property() -> None:
    begun, going_on = threading.Event(), threading.Event()

    class Thing:
        def __init__(self, is_slow: bool) -> None:
            self.is_slow = is_slow

        @cached_property
        def number(self) -> int:
            if self.is_slow:
                begun.set()
                going_on.wait()
            return 7

    slow = Thing(True)
    thread = threading.Thread(target=lambda: slow.number)
    thread.start()
    begun.wait()
    children = run_children(1, lambda: Thing(False).number == 7)
    going_on.set()
    thread.join()
    assert not children.failures, children.failures
    # and no work twice
    slow.is_slow = None
    assert slow.number == 7
    assert "number" in vars(slow)
    assert cached_property.__get__(vars(Thing)["number"], None, Thing) is vars(Thing)["number"]


def test_no_network_has_a_property_with_a_lock() -> None:
    import functools

    from pymlp.network import Network

    assert not [name for name, value in vars(Network).items() if isinstance(value, functools.cached_property)]
    assert isinstance(vars(Network)["table"], cached_property)


def test_a_plan_at_work_in_another_thread_is_free_in_the_child() -> None:
    network, (X, _) = fitted().network_, rows()
    params = fitted().params_
    with config_context(backend="c"):
        plan = backends.get().Plan(network, 300, 2)
    out = np.empty((300, 3), np.float32)
    plan.forward(params, X, out)
    expected = out.tobytes()
    long, begun = np.tile(X, (2000, 1)), threading.Event()
    long_out = np.empty((len(long), 3), np.float32)

    def forward() -> None:
        begun.set()
        plan.forward(params, long, long_out)

    def work() -> bool:
        plan.forward(params, X, out)
        return out.tobytes() == expected

    busy = 0
    for _ in range(10):
        begun.clear()
        thread = threading.Thread(target=forward)
        thread.start()
        begun.wait()
        time.sleep(0.002)
        children = Children()
        children.start(work)
        busy += thread.is_alive()
        children.wait()
        thread.join()
        assert not children.failures, children.failures
    assert busy


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes_of_multiprocessing(method: str) -> None:
    expected = bits_of_fit()
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context(method)) as pool:
        futures = [pool.submit(bits_of_fit) for _ in range(12)]
        # time for three interpreters to start
        assert [future.result(timeout=60) for future in futures] == [expected] * 12


@pytest.mark.slow
def test_processes_of_joblib() -> None:
    joblib = pytest.importorskip("joblib", reason="scikit-learn brings joblib along")
    expected = bits_of_fit()
    for _ in range(2):
        found = joblib.Parallel(n_jobs=2, backend="loky", timeout=60)(joblib.delayed(bits_of_fit)() for _ in range(8))
        assert found == [expected] * 8
