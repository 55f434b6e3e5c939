"""How long a training step took in the last run of its kind, so that the next need not begin with a single step.

The many fits of a search or of an ensemble are alike.  It is one table for the process, without locks: of two threads
that write at the same time one is forgotten, which costs the next run a step of its own.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pymlp import backends
from pymlp.optimizers import Optimizer
from pymlp.rows import DenseRows

MOST_KNOWN = 256


@dataclass
class StepTime:
    """Seconds of a step in the last run of a kind; None before there was one."""

    seconds: float | None = None


_known: dict[Hashable, StepTime] = {}


def step_time(plan: backends.Plan, optimizer: Optimizer, rows: DenseRows, batch_size: int) -> StepTime:
    """What the last run that was alike has left, and this one shall write to.

    It is nobody else's where the time of a step is that of a function of the user's, or of what the rows lie in.
    """
    network = plan.network
    if type(rows) is not DenseRows or not _is_in_memory(rows.X) or not isinstance(network.loss, str):
        return StepTime()
    machine = type(plan), getattr(plan, "isa", None), plan.n_threads
    alike = machine, network.dtype, network.inputs, network.layers, network.loss, batch_size, type(optimizer)
    # once for both, since to hash the layers takes as long as the steps of a tiny network
    known = _known.get(alike)
    if known is None:
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        known = _known[alike] = StepTime()
    return known


def _is_in_memory(values: Any) -> bool:
    """Whether it is an array whose numbers NumPy itself has got room for: those of files and of others may be slow."""
    while isinstance(values, np.ndarray) and not isinstance(values, np.memmap):
        if values.base is None:
            return True
        values = values.base
    return False


def forget() -> None:
    """Empty the table."""
    _known.clear()
