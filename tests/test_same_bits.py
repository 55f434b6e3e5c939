"""The same bits, seen from the estimators: SHA-256 of weights and predictions, however a fit is run.

`test_backends_bits.py` compares the verbs of a plan, `test_builds.py` compilers and their flags; here are whole fits
(`fits.py`): on any threads and cores, instruction set, in any process, beside other load, and after any detour through
a file.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import os
import pickle
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builds import ROOT
from fits import FITS, GOLDEN, digest, digests, range_test_digest, record, recorded_names, rows_of
from threadpoolctl import threadpool_limits

import pymlp
from pymlp import Network, Predictor, backends, config_context, find_learning_rate, load, set_config, train

pytestmark = pytest.mark.skipif("c" not in backends.available(), reason=f"no C engine: {backends.missing_reason('c')}")
if "c" in backends.available():
    from pymlp.backends import c

    FUSED = [isa for isa in c.instruction_sets() if isa != "portable"]
else:
    FUSED = []

# of every kind: one that is worth 16 threads, ordinary ones, and one whose minimiser is SciPy's
CHOSEN = ("wide", "classifier", "regressor, cosine", "early stopping, standardised", "lbfgs")
MOST_THREADS = 16
REPEATS = 1000


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    """The sums of all fits on one thread of the best instruction set."""
    with config_context(n_threads=1):
        return digests()


def differing(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    assert found
    return [name for name, value in found.items() if value != expected[name]]


def in_child(function: Callable[[], Any]) -> Any:
    """What the function gives in a child of this process, which has it all loaded."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # no pytest machinery may run in the child
        status = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "wb") as file:
                pickle.dump(function(), file)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        found = file.read()
    _, status = os.waitpid(child, 0)
    assert status == 0
    return pickle.loads(found)


@contextmanager
def spinning(processes: int) -> Iterator[None]:
    """So many processes that do nothing but keep the cores busy."""
    children = []
    try:
        for _ in range(processes):
            child = os.fork()
            if child == 0:
                while True:
                    pass
            children.append(child)
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="recorded on x86-64: elsewhere NumPy's compiler may fuse what it draws"
)
@pytest.mark.parametrize("isa", FUSED)
def test_the_recorded_sums(isa: str) -> None:
    recorded = json.loads(GOLDEN.read_text())
    assert recorded["fits"].keys() == set(recorded_names())
    with config_context(isa=isa):
        changed = differing(digests(recorded["fits"]), recorded["fits"])
    assert not changed, (
        f"the bits of {changed} are no longer those of version {recorded['version']}: mend what changed them, or raise "
        "the version and run: python tests/fits.py --record"
    )


def test_sums_are_recorded_anew_for_a_new_version_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden, names = tmp_path / "golden.json", ["perceptron"]
    monkeypatch.setattr("fits.recorded_names", lambda: names)
    record(golden)
    found = json.loads(golden.read_text())
    assert found == {"version": pymlp.__version__, "fits": digests(names)}
    golden.write_text(json.dumps({**found, "fits": {"perceptron": "0" * 64}}))
    with pytest.raises(SystemExit, match="perceptron"):
        record(golden)
    monkeypatch.setattr(pymlp, "__version__", "0.99")
    record(golden)
    assert json.loads(golden.read_text()) == {**found, "version": "0.99"}


@pytest.mark.parametrize("isa", FUSED)
def test_instruction_sets(isa: str, expected: dict[str, str]) -> None:
    with config_context(isa=isa):
        assert not differing(digests(), expected)


@pytest.mark.parametrize("n_threads", range(1, MOST_THREADS + 1))
def test_threads_up_to_many_more_than_cores(n_threads: int, expected: dict[str, str]) -> None:
    with config_context(n_threads=n_threads):
        model, X = FITS["wide"].run()
        # so many do take part
        assert backends.get("c").Plan(model.network_, model.batch_size).n_threads == n_threads
        assert digest(model, X) == expected["wide"]


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", range(2, MOST_THREADS + 1))
def test_every_fit_on_so_many_threads(n_threads: int, expected: dict[str, str]) -> None:
    with config_context(n_threads=n_threads):
        assert not differing(digests(), expected)


def test_without_a_number_of_threads(expected: dict[str, str]) -> None:
    assert not differing(digests(CHOSEN), expected)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity of processes")
@pytest.mark.parametrize("n_threads", [None, 1, 4])
def test_pinned_to_one_core(n_threads: int | None, expected: dict[str, str]) -> None:
    def pinned() -> dict[str, str]:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        with config_context(n_threads=n_threads):
            return digests(CHOSEN)

    assert not differing(in_child(pinned), expected)


@pytest.mark.slow
def test_beside_processes_that_keep_every_core_busy(expected: dict[str, str]) -> None:
    with spinning(2 * len(os.sched_getaffinity(0))):
        for n_threads in (2, 5, 16):
            with config_context(n_threads=n_threads):
                assert not differing(digests(CHOSEN), expected)


@pytest.mark.parametrize("name", ["PYMLP_NUM_THREADS", "OMP_NUM_THREADS"])
def test_threads_and_instruction_set_of_the_environment(
    name: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "3")
    monkeypatch.setenv("PYMLP_ISA", FUSED[-1])
    assert not differing(digests(CHOSEN), expected)


def test_the_order_of_what_is_asked_for(expected: dict[str, str]) -> None:
    try:
        set_config(n_threads=5, isa=FUSED[-1])
        with config_context(n_threads=2), config_context(isa=FUSED[0]):
            assert not differing(digests(CHOSEN), expected)
        with config_context(isa=FUSED[0]), config_context(n_threads=2):
            assert not differing(digests(CHOSEN), expected)
        assert not differing(digests(CHOSEN), expected)
    finally:
        set_config()


@pytest.mark.parametrize("n_threads", [1, 4])
def test_threads_of_blas(n_threads: int, expected: dict[str, str]) -> None:
    with threadpool_limits(n_threads, user_api="blas"):
        names = [name for name, fit in FITS.items() if not fit.recorded]
        assert not differing(digests(names), expected)


def repeat(times: int, expected: dict[str, str]) -> None:
    for number in range(times):
        with config_context(n_threads=1 + number % 3, isa=FUSED[number % len(FUSED)]):
            for name in ("classifier", "regressor, cosine"):
                assert FITS[name].digest() == expected[name], f"fit {number} of {name}"


def test_a_fit_again_and_again(expected: dict[str, str]) -> None:
    repeat(20, expected)


@pytest.mark.slow
def test_a_fit_a_thousand_times(expected: dict[str, str]) -> None:
    repeat(REPEATS, expected)


@pytest.mark.slow
def test_a_machine_without_avx512(expected: dict[str, str]) -> None:
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    if "avx2" not in FUSED:
        pytest.skip("this machine has no AVX2")
    # the engine's, NumPy's and BLAS's choices on a machine that has AVX2 and no more
    beyond = [name for name in __cpu_dispatch__ if __cpu_features__.get(name) and name.startswith(("AVX512", "X86_V4"))]
    further = {
        "PYMLP_ISA": "avx2",
        "NPY_DISABLE_CPU_FEATURES": " ".join(beyond),
        "OPENBLAS_CORETYPE": "Haswell",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "fits.py"], env={**os.environ, **further}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # SciPy's minimiser takes the sums of the BLAS at hand, naive Bayes NumPy's exponentials and logarithms: these agree
    # to rounding only between processors
    alike = ["range test", *recorded_names()]
    expected = {**expected, "range test": range_test_digest()}
    assert not differing({name: found[name] for name in alike}, expected)


# --- predictions, files, detours ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wide", "sparse, Lion", "two classes, weights", "normal Bayes"])
def test_predictions_cut_in_any_way(name: str) -> None:
    model, X = FITS[name].run()
    rows, draw = X.shape[0], np.random.RandomState(5)
    with config_context(n_threads=1):
        whole = model.predict_proba(X).tobytes()
    for n_threads in (None, 1, 2, 5):
        random_cuts = [0, *sorted({*draw.randint(1, rows, 7).tolist()}), rows]
        single = [*range(20), rows]
        for cuts in (single, random_cuts, [0, rows]):
            for isa in FUSED:
                with config_context(n_threads=n_threads, isa=isa):
                    parts = [model.predict_proba(X[start:stop]) for start, stop in pairwise(cuts)]
                assert np.concatenate(parts).tobytes() == whole, f"{n_threads} threads, {isa}, cut at {cuts}"


def test_predictors_say_what_the_model_says() -> None:
    for name in ("wide", "two classes, weights", "quantiles"):
        model, X = FITS[name].run()
        expected = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
        for n_threads in (1, 3):
            predictor = Predictor(model, n_threads=n_threads)
            assert predictor(X).tobytes() == expected.tobytes()
            single = np.concatenate([predictor(X[i : i + 1]) for i in range(40)])
            assert single.tobytes() == expected[:40].tobytes()


def saved(model: Any, folder: Path) -> Any:
    model.save(folder / "model")
    return load(folder / "model")


@pytest.mark.parametrize("name", [name for name, fit in FITS.items() if hasattr(fit.make(), "save")])
def test_a_model_that_was_copied_pickled_or_saved(name: str, tmp_path: Path, expected: dict[str, str]) -> None:
    model, X = FITS[name].run()
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), saved(model, tmp_path)):
        assert digest(other, X) == expected[name]


@pytest.mark.parametrize("name", ["classifier", "layers of all kinds", "average, clipped, one cycle", "perceptron"])
def test_going_on_after_pickling(name: str) -> None:
    X, y, _ = FITS[name].data()
    straight = FITS[name].make()
    detour = FITS[name].make()
    for n_threads in range(1, 6):
        straight.partial_fit(X, y, classes=np.unique(y))
        with config_context(n_threads=n_threads, isa=FUSED[n_threads % len(FUSED)]):
            detour = pickle.loads(pickle.dumps(detour)).partial_fit(X, y, classes=np.unique(y))
        assert digest(straight, X) == digest(detour, X)


# --- NumPy's global generator ---------------------------------------------------------------------------------------

# public names that take a random state, or make what does
RANDOM_ESTIMATORS = {"FourierSVC", "LinearSVC", "LogisticRegression", "MLPClassifier", "MLPRegressor", "Perceptron"}
RANDOM_FUNCTIONS = {"find_learning_rate", "train"}


@contextmanager
def global_state_kept() -> Iterator[None]:
    """Fails where NumPy's global generator is not left as it was."""
    before = pickle.dumps(np.random.get_state())
    yield
    assert pickle.dumps(np.random.get_state()) == before, "NumPy's global generator was used or seeded"


def test_all_that_take_a_random_state_are_here() -> None:
    found = set()
    for name in pymlp.__all__:
        value = getattr(pymlp, name)
        # an exception has no signature
        is_exception = isinstance(value, type) and issubclass(value, Exception)
        if callable(value) and not is_exception and "random_state" in inspect.signature(value).parameters:
            found.add(name)
    assert found == RANDOM_ESTIMATORS | RANDOM_FUNCTIONS
    assert {type(fit.make()).__name__ for fit in FITS.values()} >= RANDOM_ESTIMATORS


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("name", FITS)
def test_estimators_leave_the_global_generator_alone(name: str, tmp_path: Path) -> None:
    X, y, further = FITS[name].data()
    np.random.seed(11)
    with global_state_kept():
        model, _ = FITS[name].run()
        first = digest(model, X)
        if hasattr(model, "save"):
            saved(model, tmp_path)
        classes = {} if model.__class__.__name__ == "MLPRegressor" else {"classes": np.unique(y)}
        if hasattr(model, "partial_fit") and not getattr(model, "early_stopping", False):
            if y.ndim == 2 and classes:
                classes = {"classes": np.arange(y.shape[1])}
            FITS[name].make().partial_fit(X, y, **classes, **further)
        if hasattr(model, "fit_stream") and y.ndim == 1 and not getattr(model, "early_stopping", False):
            FITS[name].make().fit_stream([(X[:70], y[:70]), (X[70:], y[70:])])
    np.random.seed(12)
    assert digest(FITS[name].run()[0], X) == first


def test_functions_leave_the_global_generator_alone() -> None:
    X, y = rows_of("number")
    y = y[:, np.newaxis]
    network = Network.from_widths((X.shape[1], 8, 1), "tanh", dtype="float64", dropout=0.2)
    with global_state_kept():
        for initialiser in ("glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform"):
            params = network.initial_params(3, initialiser)
        train(network, params, X, y, random_state=4, epochs=2)
        find_learning_rate(network, X, y, random_state=5, steps=10)
        find_learning_rate(FITS["classifier"].make(), *rows_of("classes"), steps=10)


def test_the_watch_over_the_global_generator_sees_a_draw() -> None:
    with pytest.raises(AssertionError, match="global generator"), global_state_kept():
        np.random.random_sample()


def test_a_sum_sees_the_last_bit_of_a_weight() -> None:
    model, X = FITS["perceptron"].run()
    before = digest(model, X)
    model.params_[0] = np.nextafter(model.params_[0], 9)
    assert len(before) == len(hashlib.sha256().hexdigest())
    assert digest(model, X) != before
