"""The C engine, compiled by several compilers at several levels with a C program of the tests, and what that prints.

A build is a compiler and what it is told beside the flags of setup.py, which are read from there.  The sources are
compiled file by file, two at a time, into a folder of the test session.  A build for another machine runs through an
emulator.  What is missing here is named, for the reason of a skip.
"""

from __future__ import annotations

import ast
import platform
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# compilations at the same time
JOBS = 2
# what a program of the tests may take, in seconds
LONGEST_RUN = 600
# flags of setup.py that a build chooses itself
CHOSEN = ("-O3",)
SANITIZERS = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
NATIVE = platform.machine()


@dataclass(frozen=True)
class Build:
    """A compiler, what it is told, and for which machine.

    Parameters
    ----------
    compiler : str
        The program's name.
    flags : tuple of str
        Beside those of setup.py, of which the level of optimisation is left out.
    machine : str
        What `platform.machine` says where the program runs as it is.
    """

    compiler: str
    flags: tuple[str, ...]
    machine: str = NATIVE

    def __str__(self) -> str:
        return " ".join((self.compiler, *self.flags))

    @property
    def launcher(self) -> tuple[str, ...]:
        """What the program is run by."""
        return () if self.machine == NATIVE else (f"qemu-{self.machine}",)

    @property
    def missing(self) -> str | None:
        """Why it cannot be made or run here; None if it can."""
        for program in (self.compiler, *self.launcher):
            if shutil.which(program) is None:
                return f"{program} is not installed"
        return None


def neon(*flags: str) -> Build:
    """A build for AArch64: on another machine a static program, which needs no libraries of that machine."""
    if NATIVE == "aarch64":
        return Build("gcc", flags)
    return Build("aarch64-linux-gnu-gcc", (*flags, "-static"), "aarch64")


def setup_flags() -> list[str]:
    """The compiler's flags that setup.py gives, without those that a build chooses."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "COMPILE_ARGS":
            return [flag for flag in ast.literal_eval(statement.value) if flag not in CHOSEN]
    raise LookupError("setup.py assigns no COMPILE_ARGS")


def engine_file() -> Path:
    """The file that holds the engine of this Python: the library, or the module where all is compiled into that."""
    import pymlp

    try:
        return Path(pymlp.get_library())
    except FileNotFoundError:
        from pymlp import _engine

        return Path(_engine.__file__)


def sources() -> list[Path]:
    """The engine's sources."""
    return sorted((ROOT / "csrc").glob("*.c"))


class CompileError(Exception):
    """A compiler failed; what it said."""


def _run(command: Iterable[str | Path]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"{' '.join(map(str, command))}\n{done.stderr[-4000:]}")


def folder_of(build: Build, folder: Path) -> Path:
    """Where `compile_program` puts the objects of a build."""
    name = "".join(letter if letter.isalnum() else "_" for letter in str(build))
    return folder / name


def compile_program(
    builds: Iterable[Build], program: Path, folder: Path, libraries: tuple[str, ...] = ()
) -> dict[Build, Path]:
    """Compile `program` with the engine, by each of the builds that are not missing.

    Parameters
    ----------
    builds : iterable of Build
    program : Path
        A C source that needs no header but pymlp.h and those of the C library.
    folder : Path
        Where objects and programs go, a folder for each build; objects that are there already are used again.
    libraries : tuple of str
        For the linker.

    Returns
    -------
    dict
        The program of each build.

    Raises
    ------
    CompileError
        With the first command that failed and what it said.
    """
    builds = [build for build in builds if build.missing is None]
    files = [*sources(), program]
    commands = []
    for build in builds:
        objects = folder_of(build, folder)
        objects.mkdir(parents=True, exist_ok=True)
        for source in files:
            target = objects / (source.stem + ".o")
            if not target.exists():
                flags = (*setup_flags(), *build.flags, f"-I{ROOT / 'csrc'}")
                commands.append((build.compiler, *flags, "-c", source, "-o", target))
    # the large files first, so that no core is left alone with one at the end
    commands.sort(key=lambda command: not command[-3].stem.startswith("isa_"))
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(_run, commands))
    made = {}
    for build in builds:
        objects = folder_of(build, folder)
        made[build] = objects / program.stem
        names = [objects / (source.stem + ".o") for source in files]
        _run((build.compiler, *setup_flags(), *build.flags, *names, "-o", made[build], *libraries))
    return made


def output_of(build: Build, program: Path, *arguments: object) -> str:
    """What a program prints; AssertionError with what it said if it fails."""
    command = [*build.launcher, str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_RUN)
    assert done.returncode == 0, f"{build}: {' '.join(command)} ended with {done.returncode}\n{done.stderr[-4000:]}"
    return done.stdout
