"""``pymlp info``: what a model file holds.  It reads the file alone, so it works without scikit-learn."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from pymlp import files

# names listed before the rest is only counted
MOST_NAMES = 20


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "info",
        help="describe a model file",
        description="Show the layers, parameters, loss, classes, feature names, version and size of a model file.",
    )
    parser.add_argument("model", metavar="MODEL", help="a file written by pymlp train --save or model.save")
    parser.set_defaults(run=run)


def _listed(values: Any) -> str:
    values = values if isinstance(values, list) else []
    shown = ", ".join(str(value) for value in values[:MOST_NAMES])
    more = f", ... ({len(values)} in all)" if len(values) > MOST_NAMES else ""
    return shown + more


def _lines(content: files.ModelFile, size: int) -> list[tuple[str, str]]:
    network, state = content.network, content.state
    lines = [
        ("file", f"{size:,} bytes, written by pymlp {content.pymlp_version}"),
        ("model", content.estimator or "network"),
        ("network", f"{'-'.join(map(str, network.widths))}, {network.n_parameters:,} parameters in {network.dtype}"),
    ]
    for position, (layer, inputs) in enumerate(zip(network.layers, network.widths[:-1], strict=True)):
        rows = [row for row in network.table if row.layer == position]
        count = sum(math.prod(part.shape) for row in rows for part in row.parts)
        further = "".join(f", {row.kind.replace('_', ' ')}" for row in rows[1:])
        lines.append(
            (f"layer {position}", f"{inputs} -> {layer.outputs}, {layer.activation}{further}, {count:,} parameters")
        )
    penalty = f", l1={network.l1:g}, l2={network.l2:g}" if network.l1 or network.l2 else ""
    lines.append(("loss", network.loss_function.name + penalty))
    classes = state.get("classes")
    if isinstance(classes, dict) and classes.get("values"):
        lines.append(("classes", _listed(classes["values"])))
    if state.get("features"):
        lines.append(("features", _listed(state["features"])))
    fitted = state.get("fitted")
    if isinstance(fitted, dict) and "n_iter_" in fitted:
        lines.append(("trained", f"{fitted['n_iter_']} epochs"))
    return lines


def run(arguments: argparse.Namespace) -> None:
    """Print the table."""
    lines = _lines(files.read(arguments.model), Path(arguments.model).stat().st_size)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:<{width}}  {value}")
