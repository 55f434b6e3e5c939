"""Builds the C engine as the library `pymlp/libpymlp` and `pymlp._engine`, through which Python calls it; everything
else about the package stands in pyproject.toml.

There is one copy of the engine, in a shared library that knows nothing of Python, so that C and C++ programs link with
the very file that Python runs on (`pymlp.get_library()`).  `pymlp._engine` is a cffi module in API mode, which finds
the library beside itself; its declarations are the marked block of csrc/pymlp.h itself, so there is no second copy of
the interface, and one wheel serves every later Python (the stable ABI).  A static library would be a second engine in
every wheel, and one that no interpreter could load; who wants one makes it by one command (csrc/README.md).

Where the compiler is missing or fails, the package installs without the engine and runs on Numba or NumPy;
`import pymlp` says so.
"""

import glob
import os
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor

from cffi import FFI
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CCompilerError

HEADER = "csrc/pymlp.h"
SOURCES = sorted(glob.glob("csrc/*.c"))
# what is compiled into them, and what goes with the sources besides
OTHER_FILES = [name for name in sorted(glob.glob("csrc/**", recursive=True)) if os.path.isfile(name)]
OTHER_FILES = [name for name in OTHER_FILES if name not in SOURCES]
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
ON_MACOS = sys.platform == "darwin"
LIBRARY = "libpymlp.dylib" if ON_MACOS else "libpymlp.so"
# the folder of whoever loads the library
BESIDE = "@loader_path" if ON_MACOS else "$ORIGIN"
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
    """Links the library as one, and the module with it; writes cffi's source into the temporary folder of the build,
    and compiles all files at the same time."""

    def get_ext_filename(self, fullname: str) -> str:
        if fullname.rpartition(".")[2] == library.name.rpartition(".")[2]:
            return os.path.join(*fullname.split(".")[:-1], LIBRARY)
        return super().get_ext_filename(fullname)

    def get_export_symbols(self, ext: Extension) -> list[str]:
        # no function that makes a module
        return [] if ext is library else super().get_export_symbols(ext)

    def get_libraries(self, ext: Extension) -> list[str]:
        # not Python's
        return list(ext.libraries) if ext is library else super().get_libraries(ext)

    def build_extension(self, ext: Extension) -> None:
        if ext not in (library, engine):
            super().build_extension(ext)
            return
        linker, compile_files = self.compiler.linker_so, self.compiler.compile
        if ext is engine:
            generated = os.path.join(self.build_temp, "_engine.c")
            os.makedirs(self.build_temp, exist_ok=True)
            engine_interface().emit_c_code(generated)
            ext.sources = [generated]
            built = self.get_ext_fullpath(library.name)
            ext.library_dirs, ext.depends = [os.path.dirname(built)], [HEADER, built]
        elif ON_MACOS:
            # a bundle, which a module is there, cannot be linked with
            self.compiler.linker_so = ["-dynamiclib" if word == "-bundle" else word for word in linker]

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
        finally:
            self.compiler.compile, self.compiler.linker_so = compile_files, linker


class BuildPackage(build_py):
    """Puts the header into the package; in a source tree it stays where it is."""

    def _header(self) -> str:
        return os.path.join(self.build_lib, "pymlp", "include", os.path.basename(HEADER))

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.mkpath(os.path.dirname(self._header()))
            self.copy_file(HEADER, self._header())

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, self._header()]


library = Extension(
    "pymlp.libpymlp",
    sources=SOURCES,
    depends=OTHER_FILES,
    include_dirs=["csrc"],
    extra_compile_args=COMPILE_ARGS,
    # Also here: to link with -ffast-math would switch subnormal numbers off for the whole process.  Elsewhere than on
    # macOS the library gets no name of its own: a program that is linked with it by its path finds it there again; and
    # its functions call each other, whatever else in the process has functions of these names.
    extra_link_args=[*COMPILE_ARGS, "-Wl,-install_name,@rpath/" + LIBRARY if ON_MACOS else "-Wl,-Bsymbolic"],
    optional=True,
)
engine = Extension(
    "pymlp._engine",
    sources=[],
    include_dirs=["csrc"],
    libraries=["pymlp"],
    extra_compile_args=COMPILE_ARGS,
    extra_link_args=[*COMPILE_ARGS, f"-Wl,-rpath,{BESIDE}"],
    py_limited_api=STABLE_ABI,
    optional=True,
)


def direct_call() -> list[Extension]:
    """`pymlp._call`, through which Python calls a predictor; where NumPy's headers are missing, cffi serves alone."""
    try:
        import numpy as np
    except ImportError:
        return []
    return [
        Extension(
            "pymlp._call",
            sources=["csrc/python_call.c"],
            depends=[HEADER],
            include_dirs=["csrc", np.get_include()],
            define_macros=[("PYMLP_PYTHON", "1"), *([("Py_LIMITED_API", "0x030b0000")] if STABLE_ABI else [])],
            extra_compile_args=COMPILE_ARGS,
            py_limited_api=STABLE_ABI,
            optional=True,
        )
    ]


setup(
    # MSVC has neither the vector types nor the threads of the engine
    ext_modules=[] if os.name == "nt" else [library, engine, *direct_call()],
    cmdclass={"build_ext": BuildEngine, "build_py": BuildPackage},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
