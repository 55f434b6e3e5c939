"""What becomes of an example's picture: a window, or the file named on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


def path_from(description: str, arguments: Sequence[str] | None) -> str | None:
    """The path after ``--save`` on the command line, None without it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", metavar="PATH", help="write the picture to this file instead of showing it")
    return parser.parse_args(arguments).save


def show(figure: Any, path: str | None) -> None:
    """Write the picture to `path`, or show it."""
    if path is None:
        from matplotlib import pyplot

        pyplot.show()
    else:
        figure.savefig(path, dpi=120)
