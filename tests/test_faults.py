"""Memory and threads that cannot be had: MemoryError, nothing lost, nothing changed; fewer threads, the same bits.

A library stands before the C library (allocation_faults.c) and refuses the n-th allocation of the engine, or of NumPy's
data, for n = 1, 2, ... until the work succeeds: once that one alone, once all that follow too.  Each case compares the
state of what failed with the state before, repeats the work on it, compares the bits with those of work that met no
fault, and counts the blocks that are still held in the end.
"""

from __future__ import annotations

import importlib.util
import threading

import pytest
from allocation_faults import run_preloaded

from pymlp import Network, backends
from pymlp.interruptible import run_interruptibly

pytestmark = pytest.mark.skipif("c" not in backends.available(), reason=f"no C engine: {backends.missing_reason('c')}")

# those in which objects of Python are refused
OF_PYTHON = ["fit again", "Plan", "Predictor", "save", "load", "train", "fit, checkpoints"]


# these ask for nothing from the engine, or for no arrays
WITHOUT_ENGINE = {"fit, numpy", "train, numpy", "Gaussian naive Bayes", "multinomial naive Bayes", "save", "load"}
WITHOUT_ARRAYS = {"Plan", "as_cfunc, a row longer than the stack has room for"}


def check_sweep(results: dict, without: set[str], least_failures: int) -> None:
    problems = [f"{name}: {problem}" for name, result in results.items() for problem in result["problems"]]
    assert problems == []
    # a fault that never came would show nothing
    assert {name for name, result in results.items() if result["failures"] == 0} == without
    assert sum(result["failures"] for result in results.values()) >= least_failures


def test_refused_allocations_of_the_engine(faults_library: str) -> None:
    results = run_preloaded(faults_library, "fault_scenarios.py", "engine", "1")
    check_sweep(results, WITHOUT_ENGINE, 160)
    assert sum(result["strange errors"] for result in results.values()) == 0


def test_refused_arrays_now_and_then(faults_library: str) -> None:
    check_sweep(run_preloaded(faults_library, "fault_scenarios.py", "numpy", "29"), WITHOUT_ARRAYS, 120)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_refused_arrays(faults_library: str) -> None:
    check_sweep(run_preloaded(faults_library, "fault_scenarios.py", "numpy", "1", timeout=1200), WITHOUT_ARRAYS, 2800)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_refused_objects_of_python(faults_library: str) -> None:
    if importlib.util.find_spec("_testcapi") is None:
        pytest.skip("this Python comes without _testcapi, which can refuse its objects")
    every, last = 3, 30_000
    arguments = ("python", str(every), str(last), *OF_PYTHON)
    results = run_preloaded(faults_library, "fault_scenarios.py", *arguments, timeout=1200)
    assert [f"{name}: {problem}" for name, result in results.items() for problem in result["problems"]] == []
    assert set(results) == set(OF_PYTHON)
    # each has been to the end of its work, where nothing is left to be refused
    assert {name: result["cases"] for name, result in results.items() if result["cases"] * every > last - every} == {}


def test_refused_threads_and_advice(faults_library: str) -> None:
    results = run_preloaded(faults_library, "fault_threads.py")
    for name, result in results.items():
        assert result["failures"] > 0, name
        assert result["same"] == [True, True], name
    for first in range(1, 5):
        assert results[f"threads from {first} on"]["threads"] == first
        assert results[f"threads from {first} on"]["afterwards"] == 5
        assert results[f"thread {first}"]["threads"] == 5
    assert results["no watch of forks"]["afterwards"] == 1
    assert results["no watch of forks"]["grandchild"] is True


def test_a_message_names_the_bytes() -> None:
    network = Network.from_widths((2**22, 2**22, 1))
    weights = 4 * 2**44
    with pytest.raises(MemoryError, match=r"the engine asked for [0-9,]+ bytes") as caught:
        backends.get("c").Plan(network, 1)
    named = int("".join(filter(str.isdigit, str(caught.value))))
    # the weights, their transposes, three slots and the gradient
    assert 5 * weights < named < 8 * weights


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_a_helper_thread_that_cannot_start(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def start(thread: threading.Thread) -> None:
        raise error

    monkeypatch.setattr(threading.Thread, "start", start)
    stops = []
    if isinstance(error, MemoryError):
        with pytest.raises(MemoryError):
            run_interruptibly(lambda: 3, lambda: stops.append("stop"))
    else:
        assert run_interruptibly(lambda: 3, lambda: stops.append("stop")) == 3
        with pytest.raises(ZeroDivisionError):
            run_interruptibly(lambda: 1 // 0, lambda: stops.append("stop"))
    # a plan told to stop would end its next verb
    assert stops == []


def test_a_helper_thread_that_dies_before_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "run", lambda thread: None)
    assert run_interruptibly(lambda: 3, lambda: None) == 3
