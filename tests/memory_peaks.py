"""Peaks of memory, each of a child process of its own: what a body of work takes beyond what was there before it."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _status(name: str) -> int:
    # bytes
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def peak_of(work: Callable[[], Any], seconds: int) -> int:
    """Bytes that ``work()`` took at most in a child process, which is killed after so many seconds.

    Raises
    ------
    AssertionError
        The work failed, or took longer.
    """
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(there)
            # the default: the process ends, whatever it is at
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds)
            gc.collect()
            # what the parent has freed must not hide what the work takes
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            before = _status("VmRSS")
            work()
            os.write(here, json.dumps(_status("VmHWM") - before).encode())
            os._exit(0)
        except BaseException as error:
            os.write(here, json.dumps(repr(error)).encode())
            os._exit(1)
    os.close(here)
    with open(there) as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    assert status != signal.SIGALRM, f"the work took longer than {seconds} seconds"
    assert status == 0, f"the work failed: {said or status}"
    return json.loads(said)
