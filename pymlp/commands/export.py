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
        "--dtype", metavar="TYPE", help=f"of the arithmetic in C: {', '.join(DTYPES)} (default: float32)"
    )
    parser.add_argument("--name", metavar="NAME", help="prefix of all names in C (default: from OUT)")
    parser.add_argument(
        "--calibration",
        metavar="DATA",
        help="with --dtype int8: rows to find the ranges on, as pymlp predict reads them",
    )
    parser.set_defaults(run=run)


def _to_c(arguments: argparse.Namespace, model: Any) -> None:
    dtype = "float32" if arguments.dtype is None else arguments.dtype
    if dtype not in DTYPES:
        raise ValueError(f"--dtype {dtype!r} must be one of {', '.join(DTYPES)}")
    if (arguments.calibration is None) == (dtype == "int8"):
        raise ValueError("--dtype int8 needs rows to find the ranges on, and nothing else does: --calibration DATA")
    options: dict[str, Any] = {"dtype": dtype}
    if arguments.name is not None:
        options["name"] = arguments.name
    if arguments.calibration is not None:
        network: Network = model[0] if isinstance(model, tuple) else model.network_
        names = getattr(model, "feature_names_in_", None)
        names = None if names is None else [str(name) for name in names]
        options["calibration"] = read_rows(arguments.calibration, names, network)
    from pymlp.export import to_c

    to_c(model, arguments.out, **options)


def _to_onnx(arguments: argparse.Namespace, model: Any) -> None:
    from pymlp.export import to_onnx

    to_onnx(model, arguments.out)


def _to_torch(arguments: argparse.Namespace, model: Any) -> None:
    from pymlp.convert import to_torch

    module = to_torch(model)
    import torch

    with replacing(arguments.out) as stream:
        torch.save(module.state_dict(), stream)


WRITERS: dict[str, Callable[[argparse.Namespace, Any], None]] = {"c": _to_c, "onnx": _to_onnx, "torch": _to_torch}


def run(arguments: argparse.Namespace) -> None:
    """Read the model and write the file."""
    if arguments.to not in WRITERS:
        raise ValueError(f"--to {arguments.to!r} must be one of {', '.join(WRITERS)}")
    if arguments.to != "c":
        for attribute, option in OPTIONS_OF_C.items():
            if getattr(arguments, attribute) is not None:
                raise ValueError(f"{option} goes with --to c, not with --to {arguments.to}")
    check_replaceable(arguments.out)
    model = files.load(arguments.model)
    WRITERS[arguments.to](arguments, model)
    print(f"saved: {arguments.out}")
