"""Where the C library of the engine lies, for programs in C and C++ that are linked with it.

It is the file that Python itself runs on, and needs no Python; csrc/README.md says how it is made without.
"""

from __future__ import annotations

from pathlib import Path

# as setup.py names it, on macOS and elsewhere
NAMES = ("libpymlp.dylib", "libpymlp.so")
HEADER = "pymlp.h"
_PACKAGE = Path(__file__).resolve().parent


def get_include() -> str:
    """The folder of ``pymlp.h``, for the compiler's ``-I``.

    Returns
    -------
    str

    Raises
    ------
    FileNotFoundError
        The header is not there: the installation is not whole.

    Examples
    --------
    >>> import os
    >>> import pymlp
    >>> os.listdir(pymlp.get_include()).count("pymlp.h")
    1
    """
    # a source tree has it where the library is made from
    folders = (_PACKAGE / "include", _PACKAGE.parent / "csrc")
    for folder in folders:
        if (folder / HEADER).is_file():
            return str(folder)
    raise FileNotFoundError(f"{HEADER} is in none of {', '.join(map(str, folders))}; install pymlp again")


def get_library() -> str:
    """The file of the shared library ``libpymlp``, to be given to the linker or to ``dlopen``.

    It holds the engine, reads model files and knows nothing of Python; what it offers is in ``pymlp.h``.  A program
    that is linked with this path finds the library where it lies now::

        cc program.c -I"$(python -c 'import pymlp; print(pymlp.get_include())')" \\
            "$(python -c 'import pymlp; print(pymlp.get_library())')" -o program

    Returns
    -------
    str

    Raises
    ------
    FileNotFoundError
        The engine was not built when pymlp was installed (no working C compiler).
    """
    for name in NAMES:
        if (_PACKAGE / name).is_file():
            return str(_PACKAGE / name)
    raise FileNotFoundError(
        f"there is no {NAMES[-1]} in {_PACKAGE}: the C engine was not built when pymlp was installed (no working C "
        "compiler); install one and run: pip install --force-reinstall --no-cache-dir --no-deps pymlp"
    )
