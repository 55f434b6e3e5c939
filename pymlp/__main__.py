"""The command line: ``pymlp COMMAND ...`` or ``python -m pymlp COMMAND ...``.

Here stands what all commands share: the parser, and how errors reach the person at the keyboard: as one line on
standard error and exit code 2, never as a traceback.  Each command is a module of `pymlp.commands`.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import pymlp
from pymlp.commands import bench, config, export, import_, info, predict, train

ERROR = 2
# as shells report a program ended by SIGINT or SIGPIPE: 128 + the signal
INTERRUPTED = 130
BROKEN_PIPE = 141
# modules whose package has another name
PACKAGES = {"sklearn": "scikit-learn"}


class Parser(argparse.ArgumentParser):
    """argparse's parser, whose errors are one line instead of usage and line."""

    def error(self, message: str) -> NoReturn:
        """End the program with the message."""
        self.exit(ERROR, f"pymlp: error: {message} (see {self.prog} --help)\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(prog="pymlp", description="Train and run multilayer perceptrons on CPUs.")
    parser.add_argument("--version", action="version", version=f"pymlp {pymlp.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (train, predict, info, export, import_, bench, config):
        module.add_parser(commands)
    return parser


def _one_line(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename or repr('')}: {error.strerror}"
    if isinstance(error, ModuleNotFoundError) and error.name is not None and "pip install" not in text:
        module = error.name.split(".")[0]
        package = PACKAGES.get(module, module)
        text = f"the package {package} is missing; run: pip install {package}"
    return " ".join(text.split()) or type(error).__name__


def _show_warning(message: Warning | str, *place: object) -> None:
    print(f"pymlp: warning: {' '.join(str(message).split())}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments behind the program's name; by default the process's.

    Returns
    -------
    int
        0; 2 after an error, 130 after Ctrl-C, 141 when whoever read standard output has gone.
    """
    try:
        arguments = make_parser().parse_args(argv)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            arguments.run(arguments)
        sys.stdout.flush()
    except SystemExit as end:  # argparse's own, after --help or an error it has reported
        return int(end.code or 0)
    except BrokenPipeError:
        # what is still buffered must not fail again when the interpreter closes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("pymlp: interrupted", file=sys.stderr)
        return INTERRUPTED
    except MemoryError as error:
        print(f"pymlp: error: not enough memory: {_one_line(error)}", file=sys.stderr)
        return ERROR
    except (ImportError, OSError, ValueError) as error:
        print(f"pymlp: error: {_one_line(error)}", file=sys.stderr)
        return ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
