"""``pymlp import``: a model of another library as a model file.  (``import`` is a word of Python, hence the name.)"""

from __future__ import annotations

import argparse
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pymlp import files
from pymlp.network import Network
from pymlp.replacement import check_replaceable
from pymlp.tables import DAMAGE

# between names and labels on the command line
SEPARATOR = ","


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "import",
        help="make a model file of an ONNX file or of PyTorch's weights",
        description="Make a model file of an ONNX file (.onnx, of a multilayer perceptron by whichever exporter; needs "
        "the package onnx) or of a state_dict of PyTorch (.pt or .pth; needs the package torch), which has no "
        "activations and says not what its outputs mean.",
    )
    parser.add_argument("file", metavar="FILE", help=f"a file with one of the endings {', '.join(READERS)}")
    parser.add_argument("-o", "--output", metavar="MODEL", required=True, help="the model file to write")
    parser.add_argument("--activation", metavar="NAME", help="of the hidden layers (state_dict; several with commas)")
    parser.add_argument("--output-activation", metavar="NAME", help="of the last layer (state_dict)")
    parser.add_argument(
        "--task", metavar="TASK", help="binary, multiclass, multilabel-indicator or numbers (default: as the file says)"
    )
    parser.add_argument("--classes", metavar="LABELS", help="of the outputs, with commas between")
    parser.add_argument("--loss", metavar="NAME", help="to train on by (default: as the file says, or by the task)")
    parser.set_defaults(run=run)


def _from_onnx(arguments: argparse.Namespace, options: dict[str, Any]) -> Any:
    from pymlp.convert import from_onnx

    for name in ("activation", "output_activation"):
        if getattr(arguments, name) is not None:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} goes with a state_dict of PyTorch; an ONNX file has its own")
    return from_onnx(arguments.file, **options)


def _from_torch(arguments: argparse.Namespace, options: dict[str, Any]) -> Any:
    from pymlp.convert import from_torch

    state = _state_dict(arguments.file)
    activation = arguments.activation
    if activation is not None and SEPARATOR in activation:
        activation = [name.strip() for name in activation.split(SEPARATOR)]
    try:
        return from_torch(state, activation=activation, output_activation=arguments.output_activation, **options)
    except ValueError as error:
        raise ValueError(f"{arguments.file}: {error}") from error


def _state_dict(path: str) -> Mapping[str, Any]:
    """The tensors of a file of PyTorch by name; nothing in it is executed."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("files of PyTorch need the package torch; run: pip install torch") from error
    with open(path, "rb") as stream, warnings.catch_warnings():
        # of what is damaged PyTorch warns before it fails
        warnings.simplefilter("ignore")
        try:
            state = torch.load(stream, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, *DAMAGE) as error:
            raise ValueError(
                f"{path} is not a state_dict of PyTorch, as torch.save(module.state_dict(), ...) writes one"
            ) from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a state_dict")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ValueError(f"{path}: {name!r} is a {type(value).__name__}, and a state_dict has tensors alone")
    return state


READERS: dict[str, Callable[[argparse.Namespace, dict[str, Any]], Any]] = {
    ".onnx": _from_onnx,
    ".pt": _from_torch,
    ".pth": _from_torch,
}


def parse_classes(text: str) -> list[Any]:
    """Labels from a list such as ``no,yes`` or ``3,5,8``: whole numbers if all of them are."""
    labels = [label.strip() for label in text.split(SEPARATOR)]
    if not all(labels):
        raise ValueError(f"--classes {text!r} must be labels with commas between, such as no,yes")
    try:
        return [int(label) for label in labels]
    except ValueError:
        return labels


def run(arguments: argparse.Namespace) -> None:
    """Read the file and write the model."""
    reader = READERS.get(Path(arguments.file).suffix.lower())
    if reader is None:
        raise ValueError(f"{arguments.file}: the ending must be one of {', '.join(READERS)} to tell the format")
    check_replaceable(arguments.output)
    options = {
        "task": arguments.task,
        "classes": None if arguments.classes is None else parse_classes(arguments.classes),
        "loss": arguments.loss,
    }
    model = reader(arguments, options)
    files.save(model, arguments.output)
    network: Network = model[0] if isinstance(model, tuple) else model.network_
    kind = "network" if isinstance(model, tuple) else type(model).__name__
    print(
        f"model: {kind}, {'-'.join(map(str, network.widths))}, {network.n_parameters:,} parameters in {network.dtype}"
    )
    print(f"saved: {arguments.output}")
