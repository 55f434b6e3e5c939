"""Builds the C engine as `pymlp._engine`; everything else about the package stands in pyproject.toml.

The engine is a cffi module in API mode: its declarations are the marked block of csrc/pymlp.h itself, so there is no
second copy of the interface, and one wheel serves every later Python (the stable ABI).  Where the compiler is missing
or fails, the package installs without the engine and runs on Numba or NumPy; `import pymlp` says so.
"""

import glob
import os
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor

from cffi import FFI
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError

HEADER = "csrc/pymlp.h"
SOURCES = sorted(glob.glob("csrc/*.c"))
# They follow the environment's CFLAGS, which may tune the code but not change the bits: nothing may contract, reorder
# or approximate arithmetic.  Debug information would be most of the file.
COMPILE_ARGS = [
    "-std=gnu11",
    "-O3",
    "-ffp-contract=off",
    "-fno-fast-math",
    "-fno-unsafe-math-optimizations",
    "-fno-finite-math-only",
    "-fvisibility=hidden",
    "-pthread",
    "-g0",
]
# the stable ABI is CPython's, without its free-threaded build
STABLE_ABI = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")


def engine_interface() -> FFI:
    """The declarations of the C header, as cffi compiles them."""
    with open(HEADER, encoding="utf-8") as file:
        block = file.read().split("/* cffi declarations begin */")[1].split("/* cffi declarations end */")[0]
    interface = FFI()
    interface.cdef(block)
    interface.set_source("pymlp._engine", '#include "pymlp.h"')
    return interface


class BuildEngine(build_ext):
    """Writes cffi's source into the temporary folder of the build and compiles all files at the same time."""

    def build_extension(self, ext: Extension) -> None:
        if ext is not engine:
            super().build_extension(ext)
            return
        generated = os.path.join(self.build_temp, "_engine.c")
        os.makedirs(self.build_temp, exist_ok=True)
        engine_interface().emit_c_code(generated)
        ext.sources = [generated, *SOURCES]
        compile_files = self.compiler.compile

        def compile_in_parallel(sources: list[str], **options: object) -> list[str]:
            with ThreadPoolExecutor() as pool:
                objects = pool.map(lambda source: compile_files([source], **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_in_parallel
        try:
            super().build_extension(ext)
        except CCompilerError as error:
            # setuptools turns this into a warning, because the extension is optional
            raise CCompilerError("the C compiler failed; pymlp is installed without its C engine") from error


engine = Extension(
    "pymlp._engine",
    sources=SOURCES,
    depends=[name for name in sorted(glob.glob("csrc/*")) if name not in SOURCES],
    include_dirs=["csrc"],
    extra_compile_args=COMPILE_ARGS,
    # also here: to link with -ffast-math would switch subnormal numbers off for the whole process
    extra_link_args=COMPILE_ARGS,
    py_limited_api=STABLE_ABI,
    optional=True,
)


def direct_call() -> list[Extension]:
    """`pymlp._call`, through which Python calls predictors and learners; without NumPy's headers, cffi serves alone."""
    try:
        import numpy as np
    except ImportError:
        return []
    return [
        Extension(
            "pymlp._call",
            sources=["csrc/python_call.c", "csrc/python_stepper.c"],
            depends=[HEADER, "csrc/python_arrays.h"],
            include_dirs=["csrc", np.get_include()],
            define_macros=[("PYMLP_PYTHON", "1"), *([("Py_LIMITED_API", "0x030b0000")] if STABLE_ABI else [])],
            extra_compile_args=COMPILE_ARGS,
            py_limited_api=STABLE_ABI,
            optional=True,
        )
    ]


setup(
    # MSVC has neither the vector types nor the threads of the engine
    ext_modules=[] if os.name == "nt" else [engine, *direct_call()],
    cmdclass={"build_ext": BuildEngine},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
