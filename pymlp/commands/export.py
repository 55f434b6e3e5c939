"""``pymlp export``: a saved model as a file of another program: C source, ONNX, or weights for PyTorch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from pymlp import files
from pymlp.commands.predict import read_rows
from pymlp.network import Network
from pymlp.replacement import check_replaceable, replacing

DTYPES = ("float32", "float64", "int8")
# options that one kind of file alone has: attribute, and how it is written
OPTIONS_OF_C = {"dtype": "--dtype", "name": "--name", "calibration": "--calibration"}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "export",
        help="write a model for C, ONNX or PyTorch",
        description="Write a saved model for another program: as one source file of C99 without any dependency (c), "
        "for onnxruntime (onnx, which needs the package onnx), or as a state_dict of PyTorch, for the module that "
        "pymlp.convert.to_torch makes (torch, which needs the package torch).",
    )
    parser.add_argument("model", metavar="MODEL", help="a file written by pymlp train --save or model.save")
    parser.add_argument("--to", metavar="KIND", required=True, help=f"one of {', '.join(WRITERS)}")
    parser.add_argument("out", metavar="OUT", help="the file to write")
    parser.add_argument(
        "--dtype", metavar="TYPE", help=f"of the arithmetic in C: {', '.join(DTYPES)} (default: the model's)"
    )
    parser.add_argument("--name", metavar="NAME", help="what the names in C begin with (default: the name of OUT)")
    parser.add_argument(
        "--calibration",
        metavar="DATA",
        help="for C: rows, as pymlp predict reads them, to compare answers on, and to find the ranges on for int8",
    )
    parser.set_defaults(run=run)


def _to_c(arguments: argparse.Namespace, model: Any) -> Any:
    from pymlp.export import to_c

    rows = None
    if arguments.calibration is not None:
        network: Network = model[0] if isinstance(model, tuple) else model.network_
        names = getattr(model, "feature_names_in_", None)
        names = None if names is None else [str(name) for name in names]
        rows = read_rows(arguments.calibration, names, network)
    return to_c(model, arguments.out, arguments.dtype, name=arguments.name, calibration=rows)


def _to_onnx(arguments: argparse.Namespace, model: Any) -> Any:
    from pymlp.export import to_onnx

    to_onnx(model, arguments.out)
    return arguments.out


def _to_torch(arguments: argparse.Namespace, model: Any) -> Any:
    from pymlp.convert import to_torch

    module = to_torch(model)
    import torch

    with replacing(arguments.out) as stream:
        torch.save(module.state_dict(), stream)
    return arguments.out


# each returns what to say of the file
WRITERS: dict[str, Callable[[argparse.Namespace, Any], Any]] = {"c": _to_c, "onnx": _to_onnx, "torch": _to_torch}


def run(arguments: argparse.Namespace) -> None:
    """Read the model and write the file."""
    if arguments.to not in WRITERS:
        raise ValueError(f"--to {arguments.to!r} must be one of {', '.join(WRITERS)}")
    if arguments.dtype is not None and arguments.dtype not in DTYPES:
        raise ValueError(f"--dtype {arguments.dtype!r} must be one of {', '.join(DTYPES)}")
    if arguments.to == "c" and arguments.dtype == "int8" and arguments.calibration is None:
        raise ValueError("--dtype int8 needs rows to find the ranges on: --calibration DATA")
    if arguments.to != "c":
        for attribute, option in OPTIONS_OF_C.items():
            if getattr(arguments, attribute) is not None:
                raise ValueError(f"{option} goes with --to c, not with --to {arguments.to}")
    check_replaceable(arguments.out)
    model = files.load(arguments.model)
    print(f"saved: {WRITERS[arguments.to](arguments, model)}")
