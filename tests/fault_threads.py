"""Threads that cannot be had, and what else the system may refuse: the same bits must come out, from fewer threads.

Run as a script, with the library of faults preloaded, it prints JSON: of each case how many calls failed, how many
threads there were afterwards, and whether the bits were the expected ones.  Each case is a child of its own, in which
the engine has no threads yet.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from allocation_faults import ADVICE, ENGINE, FOR_EVER, FORK_WATCH, MAPPING, THREAD, Faults
from fault_scenarios import LABELS, X, learnt
from small_models import small

from pymlp import Network, Predictor, epochs, lbfgs, train
from pymlp.backends import c
from pymlp.optimizers import Adam, new_slots

N_THREADS = 5
WIDE = Network.from_widths((700, 1500, 10), loss="log_loss")


def work(n_threads: int = N_THREADS) -> bytes:
    """Training, and predictions by one and by many rows."""
    network = Network.from_widths((12, 70, 50, 3), "tanh", loss="log_loss", dtype="float64")
    params = network.initial_params(0)
    result = train(network, params, X, np.eye(3)[LABELS], epochs=2, random_state=1, n_threads=n_threads)
    predictor = Predictor(network, params, n_threads=n_threads)
    answers = predictor(np.repeat(X, 5, axis=0)), predictor(X[:1]), predictor(X[:9])
    return b"".join(array.tobytes() for array in (params, result.slots, *answers))


def wide_work() -> bytes:
    """A step of a plan of several huge pages."""
    draw = np.random.RandomState(0)
    rows, y = draw.standard_normal((20, 700)).astype("float32"), np.eye(10, dtype="float32")[np.arange(20) % 10]
    params = WIDE.initial_params(0)
    slots = new_slots(Adam(), WIDE.n_parameters, "float32")
    plan = c.Plan(WIDE, 20, 1)
    plan.train_steps(
        Adam(), params, slots, 0, rows, y, None, np.arange(20), np.array([0, 20]), np.array([0.01]), np.empty(1)
    )
    return params.tobytes()


def helped_work() -> bytes:
    """Fits whose steps a thread of Python's is to make."""
    epochs.DIRECT_SECONDS = lbfgs.DIRECT_SECONDS = 0
    return b"".join(learnt(small(solver=solver, max_iter=3).fit(X, LABELS)) for solver in ("adam", "lbfgs"))


def threads() -> int:
    """Threads of this process."""
    return len(os.listdir("/proc/self/task"))


def in_child(case: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `case` gives in a child process."""
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(there)
        os.write(here, json.dumps(case()).encode())
        os._exit(0)
    os.close(here)
    with open(there) as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}"
    return json.loads(said)


def main() -> dict[str, Any]:
    """All cases."""
    faults = Faults()
    faults.watch(ENGINE)

    def case(kind: int, first: int, end: int, body: Callable[[], bytes], expected: bytes) -> dict[str, Any]:
        start = threads()
        with faults.armed(kind, first, end):
            bits = body()
        during, failures = threads() - start + 1, faults.failures
        again = body()
        same = [bits == expected, again == expected]
        return {"failures": failures, "threads": during, "afterwards": threads() - start + 1, "same": same}

    def without_watch() -> dict[str, Any]:
        # a child of a process that could not register for forks: the grandchild must not wait for threads it has not
        found = case(FORK_WATCH, 1, 2, work, expected)
        found["grandchild"] = in_child(lambda: {"same": work() == expected})["same"]
        return found

    def all_threads() -> dict[str, Any]:
        # the only kind of thread left to make is Python's
        faults.watch(("",))
        return case(THREAD, 1, FOR_EVER, helped_work, helped)

    def expectations() -> dict[str, Any]:
        return {"work": work(1).hex(), "wide": wide_work().hex(), "helped": helped_work().hex()}

    # in a child, too: here the engine shall not have been used
    found = in_child(expectations)
    expected, wide, helped = (bytes.fromhex(found[name]) for name in ("work", "wide", "helped"))
    results = {"no watch of forks": in_child(without_watch)}
    for first in range(1, N_THREADS):
        results[f"threads from {first} on"] = in_child(partial(case, THREAD, first, FOR_EVER, work, expected))
        results[f"thread {first}"] = in_child(partial(case, THREAD, first, first + 1, work, expected))
    results["huge pages"] = in_child(partial(case, ADVICE | MAPPING, 1, FOR_EVER, wide_work, wide))
    results["threads of Python"] = in_child(all_threads)
    return results


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(main()))
