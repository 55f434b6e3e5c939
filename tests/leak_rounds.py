"""Rounds of all that pymlp does, failures included, and what the process holds after each hundred of them.

Run as a script, with the library of faults preloaded (memory fails, too), it prints JSON: the samples,
as lists by name, or with "steps" the allocations of training steps.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from allocation_faults import ADVICE, ALLOCATION, ENGINE, FOR_EVER, MAPPING, THREAD, Faults
from scipy import sparse
from small_models import small

import pymlp
from pymlp import Dense, Network, Predictor
from pymlp.backends import c
from pymlp.optimizers import SGD, Adam, AdamW, new_slots

# rounds until caches of strings, types and files have what they will have
WARM_UP = 100

draw = np.random.RandomState(0)
X, Y = draw.standard_normal((30, 4)), np.arange(30) % 3
THIN = sparse.random(30, 40, 0.1, "csr", random_state=draw)
ROWS = pymlp.SparseRows.of(THIN, "float64")
BROKEN = X.copy()
BROKEN[3, 2] = np.nan


class MallInfo(ctypes.Structure):
    """mallinfo2's answer."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def malloc_bytes() -> int:
    """Bytes that malloc has given out."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
    found = mallinfo2()
    return found.uordblks + found.hblkhd


def sample() -> dict[str, int]:
    """What the process holds."""
    gc.collect()
    return {
        "resident bytes": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        "malloc bytes": malloc_bytes(),
        "python blocks": sys.getallocatedblocks(),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def steps_of(plan: Any, network: Network, rows: Any, optimizer: Any, n_steps: int = 3) -> None:
    """Training steps on a plan, of 10 rows each."""
    params, slots = network.initial_params(0), new_slots(optimizer, network.n_parameters, network.dtype)
    order = np.arange(10 * n_steps) % len(Y)
    plan.train_steps(
        optimizer, params, slots, 0, rows, np.ones((len(Y), network.outputs), network.dtype), None, order,
        np.arange(n_steps + 1) * 10, np.full(n_steps, 0.01), np.empty(n_steps),
    )  # fmt: skip


WIDE = Network.from_widths((40, 50, 2), dtype="float64")


def a_round(faults: Faults, folder: Path) -> None:
    """One of everything."""
    model = small(max_iter=2).fit(X, Y)
    assert model.predict(X).shape == (30,)
    predictor = Predictor(model)
    predictor(X)
    predictor(X[:1])
    predictor.jacobian(X)
    path = folder / "model.safetensors"
    model.save(path)
    pymlp.load(path).predict(X)
    small(solver="lbfgs", max_iter=2).fit(THIN, Y).predict_proba(THIN)
    for broken in (BROKEN, X[:7]):
        with contextlib.suppress(ValueError):
            model.fit(broken, Y)
            raise AssertionError("broken rows were taken")
    for first in (1, 2):
        with contextlib.suppress(MemoryError), faults.armed(ALLOCATION, first):
            model.fit(X, Y)
            raise AssertionError("an allocation should have failed")
    many = np.repeat(X, 9, axis=0)
    for verb in (lambda: Predictor(model), lambda: model.predict(X), lambda: Predictor(model)(many)):
        with contextlib.suppress(MemoryError), faults.armed(ALLOCATION, 1):
            verb()
            raise AssertionError("an allocation should have failed")
    with contextlib.suppress(OSError):
        model.save(folder / "missing" / path.name)
    for n_threads in (1, 2):
        steps_of(c.Plan(WIDE, 10, n_threads), WIDE, ROWS, Adam())


def rounds(count: int, from_sample_to_sample: int) -> dict[str, list[int]]:
    """Samples during so many rounds, after some to warm up."""
    faults = Faults()
    faults.watch(ENGINE)
    samples: list[dict[str, int]] = []
    # what is written here is synchronised for nothing
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        for number in range(-WARM_UP, count + 1):
            a_round(faults, Path(folder))
            if number >= 0 and number % from_sample_to_sample == 0:
                samples.append(sample() | {"engine blocks": faults.live_blocks})
    return {name: [each[name] for each in samples] for name in samples[0]}


class CountingLibrary:
    """The engine's functions, of which the calls of train_steps count what the whole process allocates meanwhile."""

    def __init__(self, library: Any, faults: Faults) -> None:
        self.library, self.faults, self.counts = library, faults, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)

    def pymlp_train_steps(self, *arguments: Any) -> int:
        with self.faults.armed(ALLOCATION | MAPPING | ADVICE | THREAD, FOR_EVER):
            code = self.library.pymlp_train_steps(*arguments)
        self.counts.append(self.faults.calls)
        return code


def allocations_of_steps() -> dict[str, list[int]]:
    """Allocations of calls of 30, 30, 1 and 1,000 steps, by what is trained."""
    faults = Faults()
    faults.watch(("",))
    rich = Network(
        4,
        (
            Dense(40, "gelu", dropout=0.2, normalization="layer"),
            Dense(40, residual=True, max_norm=2.0),
            Dense(2, "identity"),
        ),
        dtype="float64",
    )
    plain = Network.from_widths((4, 40, 2), dtype="float64", l1=1e-3, l2=1e-3)
    results, library = {}, c.lib
    for name, network, rows, optimizer in (
        ("dense", plain, X, Adam()),
        ("layers, clipped", rich, X, AdamW(clip_norm=1.0, average="ema")),
        ("sparse", WIDE, ROWS, SGD()),
    ):
        for n_threads in (1, 3):
            c.lib = CountingLibrary(library, faults)
            plan = c.Plan(network, 10, n_threads)
            for n_steps in (30, 30, 1, 1000):
                steps_of(plan, network, rows, optimizer, n_steps)
            results[f"{name}, {n_threads} threads"] = c.lib.counts
    return results


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    # what was imported need not be looked through each time that garbage is collected
    gc.freeze()
    print(json.dumps(allocations_of_steps() if sys.argv[1] == "steps" else rounds(*map(int, sys.argv[1:]))))
