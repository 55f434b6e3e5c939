"""What all benchmarks share: the ``--slow`` cases, the machine's peak, and a record of the machine without its name."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

import pymlp
from pymlp import backends
from pymlp.config import resolve_threads

RECORDED_PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "torch", "jax", "onnxruntime")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the cases that take minutes")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `case` names its cases in the attribute `CASES` of its module."""
    if "case" not in metafunc.fixturenames:
        return
    slow = metafunc.config.getoption("--slow")
    cases = [case for case in metafunc.module.CASES if slow or not getattr(case, "slow", False)]
    if "dtype" in metafunc.fixturenames:
        pairs = [(case, dtype) for case in cases for dtype in getattr(case, "dtypes", ("float32",))]
        metafunc.parametrize(("case", "dtype"), pairs, ids=[f"{case.name}-{dtype}" for case, dtype in pairs])
    else:
        metafunc.parametrize("case", cases, ids=[case.name for case in cases])


@pytest.fixture(scope="session")
def record_rate() -> Callable[[Any, int, str], None]:
    """Adds GFLOP/s and the share of the peak of all usable cores to a benchmark that knows its ``seconds``."""

    def record(benchmark: Any, flops: int, dtype: str) -> None:
        if benchmark.disabled:
            return
        rate = flops / benchmark.extra_info["seconds"] * 1e-9
        limit = None
        if backends.missing_reason("c") is None:
            # right after the race: the clock of a shared machine changes from minute to minute
            engine, n_threads = backends.get("c"), int(resolve_threads().value)
            limit = max(engine.measure_peak(dtype, n_threads) for _ in range(3))
        benchmark.extra_info.update(gflops=rate, share_of_peak=None if limit is None else rate / limit)

    return record


def _first_line(command: str) -> str:
    found = shutil.which(command)
    if found is None:
        return "none"
    return subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def _versions() -> dict[str, str]:
    """Versions of the recorded packages that are installed."""
    found = {}
    for package in RECORDED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    # only what explains the figures: no host name
    cpu = machine_info["cpu"]
    has_engine = backends.missing_reason("c") is None
    record = {
        "cpu": f"{cpu.get('brand_raw', 'unknown')}, family {cpu.get('family')} model {cpu.get('model')}",
        "architecture": machine_info["machine"],
        "usable_cores": resolve_threads().value,
        "instruction_sets": list(backends.get("c").instruction_sets()) if has_engine else [],
        "system": machine_info["system"],
        "compiler": _first_line("cc"),
        "python": machine_info["python_version"],
        "pymlp": pymlp.__version__,
        "packages": _versions(),
    }
    machine_info.clear()
    machine_info.update(record)


def pytest_benchmark_update_commit_info(config: pytest.Config, commit_info: dict[str, Any]) -> None:
    for name in ("project", "branch"):
        commit_info.pop(name, None)


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list, output_json: dict[str, Any]) -> None:
    # the medians of interleaved rounds are in extra_info; the single times would make the record a hundred times longer
    for entry in output_json["benchmarks"]:
        entry["stats"].pop("data", None)
        entry.pop("params", None)
