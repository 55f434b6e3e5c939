"""Building, preloading and arming allocation_faults.c, which refuses chosen allocations and threads of chosen modules.

A preloaded library must be there before the process is, so what is to meet its faults is a script of its own: a test
calls `run_preloaded` with it, and gets the JSON it printed; the script uses `Faults`.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pymlp

HERE = Path(__file__).parent
ALLOCATION, THREAD, ADVICE, FORK_WATCH, MAPPING = 1, 2, 4, 8, 16
# what is in the engine's path
ENGINE = ("/libpymlp." if any(Path(pymlp.__file__).parent.glob("libpymlp.*")) else "/_engine.",)
# of PyDataMem_SetHandler in the table of NumPy's C interface
SET_HANDLER = 304
FOR_EVER = 2**60


class Faults:
    """The preloaded library, from within the process that it was preloaded into."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        for name in ("calls", "failures", "live_blocks", "live_bytes", "lost_track", "peak_bytes"):
            function = getattr(self._library, f"faults_{name}")
            function.restype = ctypes.c_long
        self._library.faults_watch_nothing.argtypes = [ctypes.c_size_t]
        self._library.faults_arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_long]

    def watch(self, parts: tuple[str, ...], least: int = 0) -> None:
        """Watch the modules whose paths hold one of `parts`, and no others; allocations below `least` bytes do not
        count."""
        self._library.faults_watch_nothing(least)
        watched = 0
        for part in parts:
            before, watched = watched, self._library.faults_watch(part.encode())
            assert watched > before, f"no module has {part} in its path"

    def watch_arrays(self, least: int) -> None:
        """Watch the data of the arrays that NumPy makes in this thread from now on, of at least so many bytes, and no
        modules."""
        self._library.faults_watch_nothing(least)
        python = ctypes.pythonapi
        python.PyCapsule_New.restype = ctypes.py_object
        python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        python.PyCapsule_GetPointer.restype = ctypes.c_void_p
        python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
        handler = ctypes.addressof(ctypes.c_char.in_dll(self._library, "faults_data_handler"))
        table = python.PyCapsule_GetPointer(np._core._multiarray_umath._ARRAY_API, None)
        set_handler = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[SET_HANDLER]
        ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(set_handler)(
            python.PyCapsule_New(handler, b"mem_handler", None)
        )

    @contextmanager
    def armed(self, kinds: int, first: int, end: int = FOR_EVER) -> Iterator[None]:
        """Let the watched calls number first .. end - 1 of the body fail."""
        self._library.faults_arm(kinds, first, end)
        try:
            yield
        finally:
            self._library.faults_disarm()

    @property
    def calls(self) -> int:
        """Watched calls since the library was last armed."""
        return self._library.faults_calls()

    @property
    def failures(self) -> int:
        """Those of them that failed."""
        return self._library.faults_failures()

    @property
    def live_blocks(self) -> int:
        """Blocks that watched modules hold."""
        assert self._library.faults_lost_track() == 0, "the table of blocks was full"
        return self._library.faults_live_blocks()

    def take_peak_bytes(self) -> int:
        """Most bytes that watched modules held at the same time since the last call."""
        return self._library.faults_peak_bytes()


def build(folder: Path) -> str:
    """Compile the library; its path.  Skips where that cannot be."""
    compiler = shutil.which(os.environ.get("CC", "cc").split()[0])
    if not sys.platform.startswith("linux"):
        pytest.skip("a library that stands before the C library is made for Linux")
    if compiler is None:
        pytest.skip("there is no C compiler to build the library of faults with")
    if os.environ.get("LD_PRELOAD"):
        pytest.skip(f"another library is preloaded: {os.environ['LD_PRELOAD']}")
    library = folder / "allocation_faults.so"
    command = [compiler, "-O2", "-g", "-Wall", "-Wextra", "-fno-builtin", "-fPIC", "-shared", "-o", str(library)]
    built = subprocess.run(
        [*command, str(HERE / "allocation_faults.c"), "-ldl", "-pthread"], capture_output=True, text=True
    )
    if "__libc_m" in built.stderr:
        pytest.skip("the library of faults is made for the GNU C library")
    assert built.returncode == 0, built.stderr
    return str(library)


def run_preloaded(library: str, script: str, *arguments: str, timeout: float = 280) -> Any:
    """Run a script of this folder with the library preloaded; what it printed, from JSON."""
    path = os.pathsep.join([str(HERE.parent), str(HERE)])
    # OpenBLAS makes its threads anew after a fork, and ends the process where it gets none
    environment = {"LD_PRELOAD": library, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | environment,
    )
    assert ended.returncode == 0, f"{script} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}"
    return json.loads(ended.stdout)
