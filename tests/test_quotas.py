"""The cores a process may use are never exceeded unasked: control groups, affinity masks, joblib, threadpoolctl."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl

import pymlp
from pymlp import MLPClassifier, Network, Predictor, backends, config, config_context, train
from pymlp.config import resolve_threads, usable_cores

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores and a system with affinity masks",
)
needs_c = pytest.mark.skipif("c" not in backends.available(), reason="only the C engine has threads of its own")


@pytest.fixture(autouse=True)
def _nothing_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYMLP_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@cache
def rows() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.standard_normal((600, 30), dtype=np.float32), draw.integers(3, size=600)


def fit(n_threads: int | None = None) -> bytes:
    """Parameters after a few steps on so many threads, whatever the steps cost; None: as many as pay."""
    X, labels = rows()
    network = Network.from_widths((30, 60, 3), loss="log_loss")
    params = network.initial_params(0)
    train(network, params, X, np.eye(3)[labels], epochs=3, random_state=0, n_threads=n_threads, backend="c")
    return params.tobytes()


# --- control groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a.slice/b.scope\n", {"a.slice/b.scope/cpu.max": "300000 100000\n"}, 3.0),
        ("0::/a.slice/b.scope\n", {"a.slice/cpu.max": "200000 100000", "a.slice/b.scope/cpu.max": "max 100000"}, 2.0),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "500000 100000"}, 2.0),
        # a path that this namespace does not show
        ("0::/../../c\n", {"cpu.max": "400000 100000"}, 4.0),
        ("0::/not/here\n", {"cpu.max": "400000 100000"}, 4.0),
        ("2:cpu,cpuacct:/d\n", {"cpu/d/cpu.cfs_quota_us": "250000", "cpu/d/cpu.cfs_period_us": "100000"}, 2.5),
        ("2:cpu,cpuacct:/d\n",
         {"cpu,cpuacct/d/cpu.cfs_quota_us": "250000", "cpu,cpuacct/d/cpu.cfs_period_us": "100000"}, 2.5),
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("2:cpuacct:/d\n", {"cpuacct/d/cpu.cfs_quota_us": "1", "cpuacct/d/cpu.cfs_period_us": "1"}, None),
        ("nonsense\n", {"cpu.max": "many"}, None),
        ("0::/\n", {"cpu.max": "100000 0"}, None),
        (None, {"cpu.max": "500000 100000"}, 5.0),
        (None, {}, None),
    ],
)  # fmt: skip
def test_the_quota_of_the_own_control_group_or_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str | None, files: dict[str, str], cores: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / "mounted" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mounted" / name).write_text(text)
    if groups is not None:
        (tmp_path / "groups").write_text(groups)
    monkeypatch.setattr(config, "CGROUPS", tmp_path / "mounted")
    monkeypatch.setattr(config, "CGROUPS_OF_PROCESS", tmp_path / "groups")
    monkeypatch.setattr(config, "_cgroup_cores", cache(config._cgroup_cores.__wrapped__))
    monkeypatch.setattr(config.os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    assert usable_cores() == (64 if cores is None else max(1, int(cores)))
    assert resolve_threads() == config.Choice(usable_cores(), "cores this process may use")


def test_control_groups_that_the_locale_cannot_read_are_no_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "groups").write_bytes(b"0::/caf\xe9\n")
    monkeypatch.setattr(config, "CGROUPS_OF_PROCESS", tmp_path / "groups")
    assert config._own_groups() == []


# --- affinity --------------------------------------------------------------------------------------------------------


def in_child(work: Callable[[], Any]) -> None:
    """Run in a process that may be spoilt; it fails if `work` raises."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # no pytest machinery may run in the child
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        message = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, message or status


def masks_of_threads(thread: int | str = "*") -> list[str]:
    """The affinity masks of all threads of this process, or of one."""
    found = []
    for status in Path("/proc/self/task").glob(f"{thread}/status"):
        found += [line.split()[1] for line in status.read_text().splitlines() if line.startswith("Cpus_allowed:")]
    return found


@needs_affinity
def test_the_affinity_mask_bounds_the_threads() -> None:
    def work() -> None:
        cores = sorted(os.sched_getaffinity(0))
        assert resolve_threads().value == min(len(cores), usable_cores())
        os.sched_setaffinity(0, cores[:1])
        assert resolve_threads().value == 1
        assert Predictor(MLPClassifier((500,), max_iter=1).fit(*rows())).n_threads == 1

    in_child(work)


@needs_affinity
@needs_c
def test_threads_made_before_keep_to_a_mask_set_later() -> None:
    def work() -> None:
        cores = sorted(os.sched_getaffinity(0))
        expected = fit(3)
        for mask in (cores[:1], cores[1:2], cores):
            before = len(masks_of_threads())
            os.sched_setaffinity(0, mask)
            # asked for, so three they are, but on the cores of the one who asks
            assert fit(3) == expected
            found = masks_of_threads()
            assert len(found) == before >= 3
            assert found == [masks_of_threads(threading.get_native_id())[0]] * len(found)

    in_child(work)


# --- joblib and threadpoolctl ----------------------------------------------------------------------------------------


class CountingClassifier(MLPClassifier):
    """Its score is the number of threads that a fit in this process takes at most."""

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        return float(resolve_threads().value)


@pytest.mark.slow
def test_a_parallel_search_does_not_take_more_threads_than_cores() -> None:
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(
        CountingClassifier((20,), max_iter=2, random_state=0),
        {"alpha": [1e-4, 1e-3]}, n_jobs=2, cv=2, refit=False, error_score="raise",
    )  # fmt: skip
    search.fit(*rows())
    threads = np.concatenate([search.cv_results_[f"split{number}_test_score"] for number in range(2)])
    assert (threads >= 1).all()
    assert 2 * threads.max() <= max(2, usable_cores()), threads


@needs_c
def test_threadpoolctl_sees_and_limits_the_engine() -> None:
    def entry() -> dict[str, Any]:
        found = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "pymlp"]
        assert len(found) == 1
        return found[0]

    backends.get("c")
    expected = fit()
    with config_context(backend="c", n_threads=4):
        assert entry()["num_threads"] == 4
        assert entry()["version"] == pymlp.__version__
        with threadpoolctl.threadpool_limits(limits={"pymlp": 3}):
            assert (entry()["num_threads"], resolve_threads().value) == (3, 3)
            with threadpoolctl.threadpool_limits(1):
                assert (entry()["num_threads"], resolve_threads(8).value) == (1, 1)
                assert backends.get("c").Plan(pymlp.Network.from_widths((900, 900)), 500, 8).n_threads == 1
                assert fit() == expected
            assert entry()["num_threads"] == 3
            # others' limits leave the engine alone
            with threadpoolctl.threadpool_limits(1, user_api="blas"):
                assert entry()["num_threads"] == 3
        assert entry()["num_threads"] == 4
        controller = threadpoolctl.ThreadpoolController().select(user_api="pymlp")
        assert len(controller) == 1
        with controller.limit(limits=2):
            assert resolve_threads().value == 2
    assert resolve_threads().value == usable_cores()
