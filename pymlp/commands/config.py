"""``pymlp config``: which backend, instruction set and thread count are used here, and why."""

from __future__ import annotations

import argparse

from pymlp.selection import show_config


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "config",
        help="show backend, instruction set and threads",
        description="Show which backend, instruction set and thread count are used here, why, and what is missing.",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print the table."""
    show_config()
