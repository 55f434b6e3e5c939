"""Fits in children that are killed, or whose checkpoints fail, and what is left of them; run by test_checkpoint_kills.

As a script: ``checkpoint_victims.py moments FOLDER COUNT`` kills at random moments, ``checkpoint_victims.py calls
FOLDER`` at each system call of a checkpoint, and lets each fail, with call_faults.c preloaded.  It prints what was
done as JSON, or ends with the first thing that is wrong.  Children are forks: their imports are done.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pymlp import MLPClassifier, MLPRegressor, checkpoints
from pymlp.checkpoints import Checkpoints
from pymlp.optimizers import SGD, Adam
from pymlp.replacement import previous_of
from pymlp.schedules import Cosine

# epochs of a fit that is killed at random, and of one whose every call is met
ROWS, EPOCHS, FEW_EPOCHS = 600, 12, 5
FINISHED, FAILED, WRONG = 0, 3, 4
# more than a checkpoint has
MOST_CALLS = 200
# the weights of each victim that nobody has killed, by its name and epochs
EXPECTED: dict[tuple[str, int], bytes] = {}
# of call_faults.c, where it is preloaded
FAULTY = ctypes.CDLL(None)
KILL, FAIL, SHORT, FULL = 1, 2, 3, 4
FAULTS = {
    "killed": (KILL, 0),
    "no space": (FAIL, errno.ENOSPC),
    "input/output error": (FAIL, errno.EIO),
    "short write": (SHORT, 0),
    "disk full": (FULL, 0),
}

_draw = np.random.RandomState(0)
X = _draw.normal(size=(ROWS, 8))
Y = (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 1)

SMALL = {"hidden_layer_sizes": (20,)}
# what is killed: estimator, and how often it is kept
VICTIMS = {
    "adam": (lambda: MLPClassifier(**SMALL, batch_size=50), 1),
    "early stopping": (lambda: MLPClassifier(**SMALL, batch_size=20, early_stopping=True, n_iter_no_change=30), 1e-9),
    "average, dropout": (lambda: MLPRegressor(**SMALL, solver=Adam(average="ema"), dropout=0.2, dtype="float32"), 2),
    "cosine": (lambda: MLPRegressor(**SMALL, solver=SGD(), learning_rate=Cosine(warmup=1), batch_size=30), 1e-3),
    "lbfgs": (lambda: MLPClassifier(**SMALL, solver="lbfgs"), 1),
}


def model_of(name: str, epochs: int) -> MLPClassifier | MLPRegressor:
    """The unfitted estimator of a victim."""
    return VICTIMS[name][0]().set_params(max_iter=epochs, random_state=7, tol=0.0)


def fitted(name: str, epochs: int, path: Path | None = None) -> bytes:
    """The weights of a victim's fit, which goes on from what is at a path."""
    options = {"checkpoint_every": VICTIMS[name][1], "resume": path is not None}
    return model_of(name, epochs).fit(X, Y, checkpoint=path, **options).params_.tobytes()


def check(condition: bool, what: str) -> None:
    """End with what is wrong."""
    if not condition:
        raise SystemExit(f"wrong: {what}")


def leads_to(path: Path, name: str, epochs: int) -> None:
    """Check that what is at a path is whole, and comes to the weights of a fit that nobody has killed."""
    for each in (path, previous_of(path)):
        if each.exists():
            checkpoints.read(each)
    check(fitted(name, epochs, path) == EXPECTED[name, epochs], f"{name}: the finished weights are others")


def litter(path: Path) -> list[str]:
    """What lies beside the checkpoints of a path."""
    known = {path.name, previous_of(path).name}
    return sorted(name for name in os.listdir(path.parent) if name not in known)


def killed_at_random(folder: Path, count: int) -> dict[str, int]:
    """Kill so many children at random moments of their fits; what each leaves goes on here, and in the next child."""
    moments = random.Random(0)
    kills, finished = dict.fromkeys(VICTIMS, 0), 0
    copy = folder / "copy" / "c"
    for name in VICTIMS:
        path = folder / name / "c"
        path.parent.mkdir()
        EXPECTED[name, EPOCHS] = fitted(name, EPOCHS)
        began = time.perf_counter()
        fitted(name, EPOCHS, path)
        longest = 1.1 * (time.perf_counter() - began)
        new = True
        while kills[name] < count // len(VICTIMS):
            if new:
                for each in (path, previous_of(path)):
                    each.unlink(missing_ok=True)
            child = os.fork()
            if child == 0:
                fitted(name, EPOCHS, path)
                os._exit(FINISHED)
            time.sleep(moments.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            if os.WIFSIGNALED(status):
                kills[name] += 1
            else:
                check(os.WEXITSTATUS(status) == FINISHED, f"{name}: a child has failed")
                finished += 1
            shutil.rmtree(copy.parent, ignore_errors=True)
            shutil.copytree(path.parent, copy.parent)
            leads_to(copy, name, EPOCHS)
            new = not os.WIFSIGNALED(status) or moments.random() < 0.2
    return {**kills, "finished before": finished}


def child_with_fault(name: str, path: Path, kind: int, number: int, code: int, links: bool) -> tuple[int, int, str]:
    """Let the n-th call of the first checkpoint of a child's fit fail.

    Returns
    -------
    int, int, str
        Status of the child, how many calls it made, and the one that failed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        told = os.read(reading, 100).decode().split()
        os.close(reading)
        return os.waitpid(child, 0)[1], int(told[0]) if told else 0, " ".join(told[1:])
    os.close(reading)
    status, calls, keep = WRONG, [], Checkpoints.keep

    def keep_with_fault(self: Checkpoints, run: dict) -> None:
        if calls:
            return keep(self, run)
        FAULTY.arm_faults(kind, number, code)
        try:
            keep(self, run)
        finally:
            calls.append(FAULTY.disarm_faults())

    def no_link(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    Checkpoints.keep = keep_with_fault
    if not links:
        os.link = no_link
    model = model_of(name, FEW_EPOCHS)
    try:
        model.fit(X, Y, checkpoint=path, checkpoint_every=VICTIMS[name][1], resume=True)
        status = FINISHED
    except OSError as error:
        # a failed fit leaves the estimator as it was
        if error.errno in (code, errno.ENOSPC) and not hasattr(model, "params_"):
            status = FAILED
    except BaseException:
        traceback.print_exc()
    os.write(writing, f"{calls[0] if calls else 0} {FAULTY.struck_call().decode()}".encode())
    os._exit(status)


def progress(found: checkpoints.Found | None) -> int:
    """How far a checkpoint has got, in epochs or evaluations; -1 without one."""
    return -1 if found is None else found.run.get("epochs", len(found.run.get("losses", ())))


def faults_at_each_call(folder: Path, name: str, *, old: bool, links: bool) -> dict[str, Any]:
    """Every fault at every call of a checkpoint, where there are old ones or not: which calls, and what came of it."""
    template, path, outcomes = folder / "template" / "c", folder / "case" / "c", {}
    template.parent.mkdir(parents=True)
    EXPECTED[name, FEW_EPOCHS] = fitted(name, FEW_EPOCHS)
    if old:
        fitted(name, FEW_EPOCHS - 2, template)
    before = progress(checkpoints.find(template))
    for fault, (kind, code) in FAULTS.items():
        ends = outcomes[fault] = {"killed": 0, "OSError": [], "went on": []}
        for number in range(1, MOST_CALLS):
            shutil.rmtree(path.parent, ignore_errors=True)
            shutil.copytree(template.parent, path.parent)
            status, calls, call = child_with_fault(name, path, kind, number, code, links)
            where = f"{name}, {fault} at call {number} ({call})"
            if os.WIFSIGNALED(status):
                check(kind == KILL and os.WTERMSIG(status) == signal.SIGKILL, f"{where}: the child has crashed")
                ends["killed"] += 1
            else:
                end = os.WEXITSTATUS(status)
                check(end in (FINISHED, FAILED), f"{where}: the child has ended otherwise")
                check(litter(path) == [], f"{where}: litter {litter(path)}")
                if calls < number:
                    check(end == FINISHED, f"{where}: a failure without a fault")
                    break
                ends["went on" if end == FINISHED else "OSError"].append(call)
            with warnings.catch_warnings():
                # without links there is a moment in which the one before has to serve
                warnings.filterwarnings("error" if links else "ignore", category=RuntimeWarning)
                check(progress(checkpoints.find(path)) >= before, f"{where}: the old checkpoint is lost")
                leads_to(path, name, FEW_EPOCHS)
            # what a killed one has left is gone as well
            check(litter(path) == [], f"{where}: the next fit leaves litter {litter(path)}")
        else:
            check(False, f"{name}, {fault}: the calls have no end")
    return outcomes


def main(command: str, folder: str, count: str = "0") -> None:
    """Run one of the two kinds of kills and print what was done."""
    warnings.filterwarnings("ignore", category=UserWarning)
    if command == "moments":
        done = killed_at_random(Path(folder), int(count))
    else:
        FAULTY.struck_call.restype = ctypes.c_char_p
        done = {
            "adam, old ones": faults_at_each_call(Path(folder, "a"), "adam", old=True, links=True),
            "adam, first one": faults_at_each_call(Path(folder, "b"), "adam", old=False, links=True),
            "adam, no hard links": faults_at_each_call(Path(folder, "c"), "adam", old=True, links=False),
            "lbfgs, old ones": faults_at_each_call(Path(folder, "d"), "lbfgs", old=True, links=True),
        }
    print(json.dumps(done))


if __name__ == "__main__":
    main(*sys.argv[1:])
