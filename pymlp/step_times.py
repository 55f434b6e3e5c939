"""How long a training step took in the last run of its kind, so that the next need not begin with a single step.

The many fits of a search or of an ensemble are alike.  It is one table for the process, without locks: of two threads
that write at the same time one is forgotten, which costs the next run a step of its own.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from pymlp import backends
from pymlp.optimizers import Optimizer
from pymlp.rows import DenseRows

MOST_KNOWN = 256
_known: dict[Hashable, float] = {}


def likeness(plan: backends.Plan, optimizer: Optimizer, rows: DenseRows, batch_size: int) -> Hashable:
    """What the time of a step depends on; None where that is a function of the user's, or the rows' own affair."""
    network = plan.network
    if type(rows) is not DenseRows or not _is_in_memory(rows.X) or not isinstance(network.loss, str):
        return None
    machine = type(plan), getattr(plan, "isa", None), plan.n_threads
    return machine, network.dtype, network.inputs, network.layers, network.loss, batch_size, type(optimizer)


def _is_in_memory(values: Any) -> bool:
    """Whether it is an array whose numbers NumPy itself has got room for: those of files and of others may be slow."""
    while isinstance(values, np.ndarray) and not isinstance(values, np.memmap):
        if values.base is None:
            return True
        values = values.base
    return False


def recall(alike: Hashable) -> float | None:
    """Seconds of a step in the last run that was alike, if there was one."""
    return None if alike is None else _known.get(alike)


def note(alike: Hashable, seconds: float) -> None:
    """Keep the seconds of a step."""
    if alike is None:
        return
    if len(_known) >= MOST_KNOWN:
        _known.clear()
    _known[alike] = seconds


def forget() -> None:
    """Empty the table."""
    _known.clear()
