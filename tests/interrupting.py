"""Signals at known moments, interruptions at every line, how long Python was deaf to them, and what they left."""

from __future__ import annotations

import contextlib
import hashlib
import linecache
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pymlp

PACKAGE = str(Path(pymlp.__file__).parent)
_LOCKS = re.compile(r"with (drawing|self\.lock)")

# a process of its own: a thread of this one would wait for the very calls it is to interrupt
_SENDER = """
import os, sys, time
for line in sys.stdin:
    process, number, *delays = line.split()
    # the clock of a process's CPU time, as Linux numbers it
    clock, moments = (~int(process) << 3) | 2, []
    for delay in delays:
        time.sleep(float(delay))
        moments += [time.perf_counter(), time.clock_gettime(clock)]
        os.kill(int(process), int(number))
    print(*moments, flush=True)
"""


@dataclass(frozen=True)
class Delay:
    """Seconds from a signal to its exception, and how long this process had the use of a core meanwhile."""

    passed: float
    computed: float


class Sender:
    """Sends this process signals, after delays, and notes when; the clocks are the same in both."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def send(self, number: int, delays: tuple[float, ...]) -> None:
        """Ask for one signal after each of the delays, which follow one another."""
        self._process.stdin.write(f"{os.getpid()} {int(number)} {' '.join(map(str, delays))}\n")
        self._process.stdin.flush()

    def is_done(self) -> bool:
        """Whether all signals of the last `send` have been sent."""
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def first_moment(self) -> tuple[float, float]:
        """When the first signal of the last `send` was sent, and this process's CPU time then; waits for the last."""
        moment, computed, *_ = self._process.stdout.readline().split()
        return float(moment), float(computed)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@contextlib.contextmanager
def raising(number: int, error: type[BaseException]) -> Iterator[list[int]]:
    """Let a signal raise `error` in the main thread, as Ctrl-C raises KeyboardInterrupt; gives the list of those that
    arrived."""
    arrived: list[int] = []

    def handle(signal_number: int, frame: Any) -> None:
        arrived.append(signal_number)
        # one that comes after the call it was meant for is only counted: there is nobody to catch it
        if frame.f_code not in (delay_of_interrupt.__code__, Sender.is_done.__code__, Sender.first_moment.__code__):
            raise error

    before = signal.signal(number, handle)
    try:
        yield arrived
    finally:
        signal.signal(number, before)


def delay_of_interrupt(
    sender: Sender,
    call: Callable[[], Any],
    delays: tuple[float, ...],
    number: int = signal.SIGINT,
    error: type[BaseException] = KeyboardInterrupt,
) -> Delay | None:
    """What passed from the first signal to the moment `call` was left; None where it had ended by itself before."""
    left: list[float] = []
    with raising(number, error) as arrived:
        for attempt in range(len(delays) + 1):
            # each signal that arrives raises once, in the call or in this wait for the others
            try:
                if attempt == 0:
                    sender.send(number, delays)
                    try:
                        call()
                    finally:
                        left += [time.perf_counter(), time.process_time()]
                while not sender.is_done():
                    time.sleep(0.001)
            except error:
                continue
        moment, computed = sender.first_moment()
    # two that came before Python looked count as one
    assert 1 <= len(arrived) <= len(delays)
    # without an entry the call had ended, and its end was about to be noted
    return Delay(left[0] - moment, left[1] - computed) if left and left[0] > moment else None


class Interruption:
    """Raises KeyboardInterrupt in front of one of the lines of this package that a call executes."""

    def __init__(self, line: int) -> None:
        self.line, self.lines, self.place = line, 0, ""

    def _trace(self, frame: Any, event: str, argument: Any) -> Any:
        return self._at_line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _at_line(self, frame: Any, event: str, argument: Any) -> Any:
        # a tracer can raise where no signal can: between the end of a with statement's body and its release of a lock
        if event == "line" and not _LOCKS.search(linecache.getline(frame.f_code.co_filename, frame.f_lineno)):
            self.lines += 1
            if self.lines == self.line:
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._at_line

    def run(self, call: Callable[[], Any]) -> bool:
        """Whether the call was interrupted: it may have fewer lines."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


def longest_deafness(call: Callable[[], Any], interval: float = 0.004) -> tuple[float, str]:
    """Longest time in which a signal could not have been answered while `call` ran, and the lines it ended at."""
    longest, last = (0.0, ""), time.perf_counter()

    def note(number: int, frame: Any) -> None:
        nonlocal longest, last
        now = time.perf_counter()
        if now - last > longest[0]:
            places, outer = [], frame
            while outer is not None and len(places) < 6:
                places.append(f"{Path(outer.f_code.co_filename).name}:{outer.f_lineno}")
                outer = outer.f_back
            longest = now - last, " < ".join(places)
        last = now

    before = signal.signal(signal.SIGALRM, note)
    signal.setitimer(signal.ITIMER_REAL, interval, interval)
    try:
        last = time.perf_counter()
        call()
        note(signal.SIGALRM, sys._getframe())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return longest


def digest(*values: Any) -> str:
    """Of arrays, of objects that hold them, and of anything with a repr that tells it."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            found.update(repr((value.dtype, value.shape)).encode() + np.ascontiguousarray(value).tobytes())
        elif isinstance(value, dict):
            found.update(digest(*(item for name in sorted(value) for item in (name, value[name]))).encode())
        elif isinstance(value, (list, tuple)):
            found.update(digest(*value).encode())
        elif is_dataclass(value) and not isinstance(value, type):
            # not what it has worked out of its fields in the meantime; a course knows how many steps there were to be
            own = [getattr(value, field.name) for field in fields(value) if field.name != "total"]
            found.update(digest(type(value).__name__, own).encode())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()


def state_of(model: Any) -> str:
    """All that a fit may change, but for how long it took."""
    state = {name: value for name, value in vars(model).items() if name.endswith("_") or name.startswith("_")}
    state.pop("_skl_callbacks", None)
    if "history_" in state:
        state["history_"] = {name: values for name, values in state["history_"].items() if name != "seconds"}
    return digest(state)


def random_rows(n_rows: int, columns: int, classes: int = 3, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    X = draw.standard_normal((n_rows, columns), dtype=dtype)
    return X, draw.integers(classes, size=n_rows)
