"""What was asked for and what is used: precedence, environment, nesting, the cap on threads, refusals, the table."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

import pymlp
from pymlp import backends, config
from pymlp.config import Config, config_context, get_config, requested, resolve_threads, set_config, set_thread_cap
from pymlp.network import Network
from pymlp.selection import selection, show_config

VARIABLES = ("PYMLP_BACKEND", "PYMLP_ISA", "PYMLP_NUM_THREADS", "OMP_NUM_THREADS")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield
    set_config()
    set_thread_cap(None)


def test_nothing_asked_for() -> None:
    assert get_config() == Config(None, None, None)
    for field in ("backend", "isa", "n_threads"):
        assert requested(field) == config.Choice(None, "not asked for")


def test_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMLP_BACKEND", "numpy")
    monkeypatch.setenv("PYMLP_NUM_THREADS", "7")
    assert requested("backend") == config.Choice("numpy", "environment variable PYMLP_BACKEND")
    set_config(backend="c", n_threads=6)
    assert requested("backend").value == "c"
    assert resolve_threads().value == 6
    with config_context(backend="numba", n_threads=5):
        assert requested("backend") == config.Choice("numba", "config_context or set_config")
        assert resolve_threads().value == 5
        assert resolve_threads(4) == config.Choice(4, "argument")
        assert backends.choose("numpy") == config.Choice("numpy", "argument")
    assert requested("backend").value == "c"


def test_none_takes_a_choice_back() -> None:
    set_config(backend="numpy", isa="portable", n_threads=2)
    assert get_config() == Config("numpy", "portable", 2)
    set_config(isa="avx2")
    assert get_config() == Config(None, "avx2", None)


def test_contexts_nest_and_end_with_an_exception() -> None:
    with config_context(backend="numpy"):
        with config_context(n_threads=3):
            assert get_config() == Config("numpy", None, 3)
            with config_context(backend="c"):
                assert get_config() == Config("c", None, 3)
        assert get_config() == Config("numpy", None, None)
        with pytest.raises(KeyError), config_context(isa="avx2"):
            raise KeyError("body")
        assert get_config() == Config("numpy", None, None)
    assert get_config() == Config()


def test_a_context_is_one_threads_own() -> None:
    seen = []
    with config_context(backend="numpy"):
        thread = threading.Thread(target=lambda: seen.append(get_config()))
        thread.start()
        thread.join()
    set_config(n_threads=2)
    thread = threading.Thread(target=lambda: seen.append(get_config()))
    thread.start()
    thread.join()
    assert seen == [Config(), Config(None, None, 2)]


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMLP_ISA", " portable ")
    assert requested("isa").value == "portable"
    monkeypatch.setenv("PYMLP_ISA", "")
    assert requested("isa").value is None
    # joblib's workers set this one; a list holds a number for each level of nesting
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert resolve_threads() == config.Choice(3, "environment variable OMP_NUM_THREADS")
    monkeypatch.setenv("PYMLP_NUM_THREADS", "5")
    assert resolve_threads() == config.Choice(5, "environment variable PYMLP_NUM_THREADS")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PYMLP_BACKEND", "cuda", "PYMLP_BACKEND: backend='cuda' is not one of c, numba, numpy"),
        ("PYMLP_ISA", "sse", "PYMLP_ISA: isa='sse' is not one of avx512, avx2, neon, portable"),
        ("PYMLP_NUM_THREADS", "0", "PYMLP_NUM_THREADS='0' must be an integer of at least 1"),
        ("PYMLP_NUM_THREADS", "two", "PYMLP_NUM_THREADS='two' must be an integer of at least 1"),
        ("PYMLP_NUM_THREADS", "2,1", "PYMLP_NUM_THREADS='2,1' must be an integer of at least 1"),
        ("OMP_NUM_THREADS", "-1", "OMP_NUM_THREADS='-1' must be an integer of at least 1"),
    ],
)
def test_refusals_of_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    field = {"PYMLP_BACKEND": "backend", "PYMLP_ISA": "isa"}.get(name, "n_threads")
    with pytest.raises(ValueError, match=message):
        requested(field)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "C"}, "backend='C' is not one of c, numba, numpy"),
        ({"isa": "avx"}, "isa='avx' is not one of avx512, avx2, neon, portable"),
        ({"n_threads": 0}, "n_threads=0 must be an integer of at least 1, or None"),
        ({"n_threads": 2.0}, "n_threads=2.0 must be an integer"),
        ({"n_threads": True}, "n_threads=True must be an integer"),
    ],
)
def test_refusals(arguments: dict[str, object], message: str) -> None:
    set_config(backend="numpy")
    with pytest.raises(ValueError, match=message):
        set_config(**arguments)
    with pytest.raises(ValueError, match=message), config_context(**arguments):
        pass
    assert get_config() == Config("numpy", None, None)


def test_numpy_integers_count_threads() -> None:
    choice = resolve_threads(np.int64(3))
    assert choice.value == 3
    assert type(choice.value) is int
    with pytest.raises(ValueError, match="n_threads=-1"):
        resolve_threads(-1)


def test_the_cap_is_on_top_of_every_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    set_thread_cap(2)
    assert resolve_threads(8) == config.Choice(2, "limit set through threadpoolctl")
    assert resolve_threads(1) == config.Choice(1, "argument")
    monkeypatch.setenv("PYMLP_NUM_THREADS", "4")
    assert resolve_threads().value == 2
    set_thread_cap(0)
    assert resolve_threads().value == 1
    set_thread_cap(None)
    assert resolve_threads(8).value == 8


def test_at_least_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_cgroup_cores", lambda: 0.3)
    assert config.usable_cores() == 1


@pytest.mark.parametrize("name", backends.available())
def test_the_backend_asked_for_is_the_one_that_comes(name: str) -> None:
    with config_context(backend=name):
        assert backends.get().__name__ == f"pymlp.backends.{name}"
    set_config(backend=name)
    assert backends.get().__name__ == f"pymlp.backends.{name}"


def test_the_fastest_comes_unasked() -> None:
    assert backends.choose() == config.Choice(backends.available()[0], "fastest that can run here")


def test_plans_follow_the_thread_count() -> None:
    network = Network.from_widths((2, 3, 1))
    with config_context(n_threads=1):
        assert backends.get().Plan(network, 4).n_threads == 1


def table() -> dict[str, tuple[str, str]]:
    return {row.name: (row.value, row.reason) for row in selection()}


def test_selection() -> None:
    rows = table()
    assert list(rows) == ["backend", "instruction set", "threads", "backend c", "backend numba", "backend numpy"]
    assert rows["backend"] == (backends.available()[0], "fastest that can run here")
    assert rows["threads"] == (str(config.usable_cores()), "cores this process may use")
    with config_context(backend="numpy", n_threads=3):
        rows = table()
    assert rows["backend"] == ("numpy", "config_context or set_config")
    assert rows["instruction set"][0] == "none"
    assert rows["threads"] == ("3", "config_context or set_config")


@pytest.mark.skipif("c" not in backends.available(), reason="the C engine was not built")
def test_selection_of_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    usable = backends.get("c").instruction_sets()
    value, reason = table()["instruction set"]
    assert value == usable[0]
    assert ", ".join(usable) in reason
    monkeypatch.setenv("PYMLP_ISA", "portable")
    value, reason = table()["instruction set"]
    assert value == "portable"
    assert "PYMLP_ISA" in reason
    foreign = next(isa for isa in config.ISAS if isa not in usable)
    with config_context(isa=foreign):
        value, reason = table()["instruction set"]
        assert value == "none"
        assert foreign in reason
        with pytest.raises(ValueError, match=foreign):
            backends.get("c").Plan(Network.from_widths((2, 1)), 1)


def test_selection_names_the_remedy_for_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = backends.importlib.util.find_spec
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None if name == "numba" else real(name))
    assert table()["backend numba"] == ("missing", "the package numba is missing; run: pip install 'pymlp[numba]'")
    monkeypatch.setenv("PYMLP_BACKEND", "numba")
    value, reason = table()["backend"]
    assert value == "none"
    assert "PYMLP_BACKEND" in reason
    assert "pip install" in reason


def test_show_config_prints_the_selection(capsys: pytest.CaptureFixture[str]) -> None:
    show_config()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(selection())
    for line, row in zip(lines, selection(), strict=True):
        assert line.split() == f"{row.name} {row.value} {row.reason}".split()
    assert pymlp.show_config is show_config
