"""What pymlp will use at this moment and why: backend, instruction set, threads, and what is missing.

`pymlp.config` holds what was asked for and `pymlp.backends` what can run; this file puts both into one table, for
people (`show_config`, ``pymlp config``) and for programs (`selection`).
"""

from __future__ import annotations

from dataclasses import dataclass

from pymlp import backends
from pymlp.config import BACKENDS, resolve_threads


@dataclass(frozen=True)
class Setting:
    """One line of the table: what it is about, what was chosen or found, and the reason or the remedy."""

    name: str
    value: str
    reason: str


def _backend() -> Setting:
    try:
        choice = backends.choose()
    except backends.BackendUnavailableError as error:
        return Setting("backend", "none", str(error))
    return Setting("backend", str(choice.value), choice.reason)


def _instruction_set(backend: str) -> Setting:
    if backend != "c":
        return Setting("instruction set", "none", "only the C engine is compiled for several")
    engine = backends.get("c")
    usable = ", ".join(engine.instruction_sets())
    try:
        choice = engine.choose_instruction_set()
    except ValueError as error:
        return Setting("instruction set", "none", str(error))
    return Setting("instruction set", str(choice.value), f"{choice.reason} ({usable})")


def selection() -> list[Setting]:
    """Every choice that `pymlp` makes by itself, in the order shown by `show_config`.

    Returns
    -------
    list of Setting
        ``backend``, ``instruction set``, ``threads``, then ``backend c``, ``backend numba`` and ``backend numpy``
        with the value ``available`` or ``missing`` (the reason then names the remedy).

    Raises
    ------
    ValueError
        An environment variable holds an unknown name or a thread count below 1.
    """
    backend = _backend()
    threads = resolve_threads()
    table = [backend, _instruction_set(backend.value), Setting("threads", str(threads.value), threads.reason)]
    for name in BACKENDS:
        missing = backends.missing_reason(name)
        table.append(
            Setting(f"backend {name}", "available" if missing is None else "missing", missing or "can run here")
        )
    return table


def show_config() -> None:
    """Print `selection` as a table: what is used, why, and what is missing with its remedy."""
    table = selection()
    name_width = max(len(row.name) for row in table)
    value_width = max(len(row.value) for row in table)
    for row in table:
        print(f"{row.name:<{name_width}}  {row.value:<{value_width}}  {row.reason}")
