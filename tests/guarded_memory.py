"""Memory between two pages that nobody may touch, and work in a child process whose death is a result.

An array that ends exactly where such a page begins shows the first byte that is read or written past its end, and one
that begins where such a page ends the first before it; canaries beside an array show writes alone.  What touches the
page dies of a signal, so the work runs in a forked child, which keeps note of the case it is at where its parent sees
it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

# of both dtypes a NaN, of an integer -1
CANARY = 0xFF
# numbers that name the case a child is at
CASE_NUMBERS = 8
# places of an array between the pages
AT_END, AT_START = True, False


class GuardedMemory:
    """Whole pages between two that nobody may touch; one array lives there at a time.

    Parameters
    ----------
    size : int
        Bytes there must be room for.

    Attributes
    ----------
    bytes : ndarray of uint8
        All of them, from page to page.
    end : int
        Address of the page behind.
    """

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        size = max(page, (size + page - 1) // page * page)
        self._map = mmap.mmap(-1, size + 2 * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for guard in (address, address + page + size):
            if _MPROTECT(guard, page, 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        self.bytes = np.frombuffer(self._map, np.uint8, size, page)
        self.end = address + page + size
        self._beside: list[np.ndarray] = []

    def array(self, values: Any, dtype: Any = None, at_end: bool = AT_END) -> np.ndarray:
        """A copy of `values` that ends (or begins) at a guard page, with canaries in all other bytes."""
        values = np.asarray(values, dtype)
        array = self.empty(values.shape, values.dtype, at_end)
        array[...] = values
        return array

    def empty(self, shape: tuple[int, ...], dtype: Any, at_end: bool = AT_END) -> np.ndarray:
        """The same with canaries in the array too: NaNs, or -1."""
        dtype = np.dtype(dtype)
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        first = len(self.bytes) - size if at_end else 0
        if first < 0:
            raise ValueError(f"{size} bytes do not fit into {len(self.bytes)}")
        self.bytes[:] = CANARY
        self._beside = [self.bytes[:first], self.bytes[first + size :]]
        return self.bytes[first : first + size].view(dtype).reshape(shape)

    @property
    def is_intact(self) -> bool:
        """Whether all bytes beside the array are as they were."""
        return all(part.tobytes() == bytes([CANARY]) * len(part) for part in self._beside)


_MPROTECT = ctypes.CDLL(None, use_errno=True).mprotect
_MPROTECT.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def in_child(work: Callable[[np.ndarray], Any]) -> Any:
    """What ``work(case)`` returns in a forked child; `case` is where it notes the numbers of the case it is at.

    Raises
    ------
    AssertionError
        The child raised, or died; the message names the signal and the case.
    """
    shared = mmap.mmap(-1, 8 * CASE_NUMBERS)
    case = np.frombuffer(shared, np.int64)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work_and_exit(work, case, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        raise AssertionError(f"{name}: memory outside an array was touched, in the case {case.tolist()}")
    succeeded, result = pickle.loads(answer)
    if not succeeded:
        raise AssertionError(f"in the case {case.tolist()}:\n{result}")
    return result


def _work_and_exit(work: Callable[[np.ndarray], Any], case: np.ndarray, writing: int) -> None:
    # no pytest machinery may run in the child
    try:
        try:
            answer = True, work(case)
        except BaseException:
            answer = False, traceback.format_exc()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
    finally:
        os._exit(0)
