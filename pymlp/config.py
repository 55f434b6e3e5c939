"""Which backend, instruction set and thread count to use: asked for in one place, answered in one place.

These three are not hyper-parameters (the C engine's bits do not depend on them), so they stand outside the estimators.
What counts, first to last: an argument, `config_context`, `set_config`, the environment (``PYMLP_BACKEND``,
``PYMLP_ISA``, ``PYMLP_NUM_THREADS``, then ``OMP_NUM_THREADS`` for the threads), what fits the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from numbers import Integral
from pathlib import Path

BACKENDS = ("c", "numba", "numpy")
ISAS = ("avx512", "avx2", "neon", "portable")

# where Linux tells of control groups
CGROUPS = Path("/sys/fs/cgroup")
CGROUPS_OF_PROCESS = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Config:
    """What was asked for; None leaves the choice to the next place that may decide."""

    backend: str | None = None
    isa: str | None = None
    n_threads: int | None = None


@dataclass(frozen=True)
class Choice:
    """A value and the reason for it."""

    value: str | int | None
    reason: str


# the environment's, by field of `Config`
VARIABLES = {
    "backend": ("PYMLP_BACKEND",),
    "isa": ("PYMLP_ISA",),
    "n_threads": ("PYMLP_NUM_THREADS", "OMP_NUM_THREADS"),
}
NOT_ASKED_FOR = Choice(None, "not asked for")

_process_config = Config()
_context_config: ContextVar[Config] = ContextVar("pymlp_config", default=_process_config)
# set through threadpoolctl: a cap on top of everything else
_thread_cap: int | None = None


def _checked(backend: str | None, isa: str | None, n_threads: int | None, where: str = "") -> Config:
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f"{where}backend={backend!r} is not one of {', '.join(BACKENDS)}")
    if isa is not None and isa not in ISAS:
        raise ValueError(f"{where}isa={isa!r} is not one of {', '.join(ISAS)}")
    if n_threads is not None and (not isinstance(n_threads, Integral) or isinstance(n_threads, bool) or n_threads < 1):
        raise ValueError(f"{where}n_threads={n_threads!r} must be an integer of at least 1, or None")
    return Config(backend, isa, None if n_threads is None else int(n_threads))


def _merged(base: Config, new: Config) -> Config:
    return replace(base, **{name: value for name, value in vars(new).items() if value is not None})


def set_config(*, backend: str | None = None, isa: str | None = None, n_threads: int | None = None) -> None:
    """Choose backend, instruction set and threads for the whole process; None takes a choice back.

    Parameters
    ----------
    backend : {"c", "numba", "numpy"}, optional
    isa : {"avx512", "avx2", "neon", "portable"}, optional
        Instruction set of the C engine.
    n_threads : int, optional
        Upper bound on the threads of one call.

    Raises
    ------
    ValueError
        An unknown name or a thread count below 1.
    """
    global _process_config
    _process_config = _checked(backend, isa, n_threads)


@contextmanager
def config_context(
    *, backend: str | None = None, isa: str | None = None, n_threads: int | None = None
) -> Iterator[None]:
    """`set_config` for the body of a ``with`` statement and the current thread; None changes nothing."""
    token = _context_config.set(_merged(_context_config.get(), _checked(backend, isa, n_threads)))
    try:
        yield
    finally:
        _context_config.reset(token)


def get_config() -> Config:
    """What `config_context` and `set_config` ask for at this moment (the environment not included)."""
    return _merged(_process_config, _context_config.get())


def requested(field: str) -> Choice:
    """What was asked for `field` ("backend", "isa" or "n_threads") and where; value None if nothing was."""
    value = getattr(_context_config.get(), field)
    if value is None:
        value = getattr(_process_config, field)
    if value is not None:
        return Choice(value, "config_context or set_config")
    for name in VARIABLES[field]:
        text = os.environ.get(name, "").strip()
        if not text:
            continue
        reason = f"environment variable {name}"
        if field != "n_threads":
            _checked(**{**vars(Config()), field: text}, where=f"{name}: ")
            return Choice(text, reason)
        # OMP_NUM_THREADS may be a list, one number a nesting level
        first = text.split(",")[0].strip() if name == "OMP_NUM_THREADS" else text
        if not first.isdecimal() or int(first) < 1:
            raise ValueError(f"{name}={text!r} must be an integer of at least 1")
        return Choice(int(first), reason)
    return NOT_ASKED_FOR


def _own_groups() -> list[tuple[str, str]]:
    """Hierarchies of control groups and the process's path in each: "" names version 2, else its controllers."""
    try:
        lines = CGROUPS_OF_PROCESS.read_text().splitlines()
    except (OSError, ValueError):
        # ValueError: a path that is not in the locale's encoding
        return []
    return [(fields[1], fields[2]) for line in lines if len(fields := line.split(":", 2)) == 3]


def _cpu_groups() -> Iterator[tuple[Path, bool]]:
    """Folders of the process's control groups that may limit its cores, each with those above it, and whether they are
    of version 2."""
    # a container sees its own group as the root, whatever its path
    found = [("", "/"), ("cpu", "/"), *_own_groups()]
    for controllers, path in found:
        parts = [part for part in path.split("/") if part]
        if ".." in parts or not (controllers == "" or "cpu" in controllers.split(",")):
            continue
        roots = [CGROUPS] if controllers == "" else [CGROUPS / "cpu", CGROUPS / controllers]
        for root in roots:
            for depth in range(len(parts) + 1):
                yield root.joinpath(*parts[:depth]), controllers == ""


def _quota(folder: Path, version_2: bool) -> float | None:
    try:
        if version_2:
            quota, period = (folder / "cpu.max").read_text().split()[:2]
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        # no such group, or no limit: "max"
        return None
    return cores if cores > 0 else None


@cache
def _cgroup_cores() -> float | None:
    """Cores that the CPU quotas of the process's control groups allow (versions 1 and 2), None without a quota.

    The least counts, its own or that of a group above.  Asked once: every plan needs the number, and to read it takes
    longer than a prediction of a few rows.
    """
    quotas = (_quota(folder, version_2) for folder, version_2 in _cpu_groups())
    return min((quota for quota in quotas if quota is not None), default=None)


def usable_cores() -> int:
    """Cores this process may use: the affinity mask, cut by the control group's CPU quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = _cgroup_cores()
    return max(1, cores if quota is None else min(cores, int(quota)))


def set_thread_cap(n_threads: int | None) -> None:
    """A cap on top of every other choice of the thread count (threadpoolctl's limit); None lifts it."""
    global _thread_cap
    _thread_cap = None if n_threads is None else max(1, int(n_threads))


def resolve_threads(n_threads: int | None = None) -> Choice:
    """Upper bound on the threads of one call, and why.

    Parameters
    ----------
    n_threads : int, optional
        The argument of a call, which precedes every other choice.

    Returns
    -------
    Choice
        An explicit number is taken as it is (also above the cores); without one it is `usable_cores`.
    """
    if n_threads is not None:
        choice = Choice(_checked(None, None, n_threads).n_threads, "argument")
    else:
        choice = requested("n_threads")
        if choice.value is None:
            choice = Choice(usable_cores(), "cores this process may use")
    if _thread_cap is not None and _thread_cap < choice.value:
        return Choice(_thread_cap, "limit set through threadpoolctl")
    return choice
