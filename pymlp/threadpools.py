"""threadpoolctl's view of the C engine: ``with threadpool_limits(1):`` holds for it as for BLAS.

The limit is a cap on top of every other choice of the thread count, see `pymlp.config`.
"""

from __future__ import annotations

import threadpoolctl

import pymlp
from pymlp import backends
from pymlp.config import resolve_threads, set_thread_cap


class EngineController(threadpoolctl.LibController):
    """Matches the shared library of `pymlp._engine`."""

    user_api = "pymlp"
    internal_api = "pymlp"
    filename_prefixes = ("_engine",)
    check_symbols = ("PyInit__engine",)

    def get_num_threads(self) -> int:
        """Upper bound on the threads of one call."""
        return int(resolve_threads().value)

    def set_num_threads(self, num_threads: int) -> None:
        """Cap the threads of every call; a cap that would change nothing is none, so leaving a limit lifts it."""
        set_thread_cap(None)
        if num_threads < self.get_num_threads():
            set_thread_cap(num_threads)

    def get_version(self) -> str:
        """Version of pymlp."""
        return pymlp.__version__


threadpoolctl.register(EngineController)
if backends.missing_reason("c") is None:
    # threadpoolctl limits the libraries that are loaded when the limit is set
    backends.get("c")
