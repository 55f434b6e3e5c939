"""Signals at known moments, interruptions at every line, and how long Python was deaf to them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymlp

PACKAGE = str(Path(pymlp.__file__).parent)

# a process of its own: a thread of this one would wait for the very calls it is to interrupt
_SENDER = """
import os, sys, time
for line in sys.stdin:
    process, number, *delays = line.split()
    moments = []
    for delay in delays:
        time.sleep(float(delay))
        moments.append(time.perf_counter())
        os.kill(int(process), int(number))
    print(*moments, flush=True)
"""


class Sender:
    """Sends this process signals, after delays, and notes when; the clock is the same in both."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def send(self, number: int, delays: tuple[float, ...]) -> None:
        """Ask for one signal after each of the delays, which follow one another."""
        self._process.stdin.write(f"{os.getpid()} {int(number)} {' '.join(map(str, delays))}\n")
        self._process.stdin.flush()

    def moments(self) -> list[float]:
        """When the signals of the last `send` were sent; waits for the last of them."""
        return [float(moment) for moment in self._process.stdout.readline().split()]

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
) -> float | None:
    """Seconds from the first signal to the moment `call` was left; None where it had ended by itself before."""
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
                        left.append(time.perf_counter())
                while len(arrived) < len(delays):
                    time.sleep(0.001)
            except error:
                continue
        moments = sender.moments()
    assert len(arrived) == len(delays)
    return left[0] - moments[0] if left[0] > moments[0] else None


class Interruption:
    """Raises KeyboardInterrupt in front of one of the lines of this package that a call executes."""

    def __init__(self, line: int) -> None:
        self.line, self.lines, self.place = line, 0, ""

    def _trace(self, frame: Any, event: str, argument: Any) -> Any:
        return self._at_line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _at_line(self, frame: Any, event: str, argument: Any) -> Any:
        if event == "line":
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
