"""``pymlp predict``: what a saved model says about the rows of a file, as CSV."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

from pymlp import files
from pymlp.arrays import packed
from pymlp.finiteness import first_non_finite
from pymlp.network import Network
from pymlp.predictor import Predictor
from pymlp.replacement import check_replaceable, replacing
from pymlp.tables import DataError, read_table


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "predict",
        help="predict the rows of a file",
        description="Predict the rows of a file with a saved model, as CSV with a header line. Columns are found by "
        "name if the model knows the names it was trained on (others are ignored), else they are taken in order.",
    )
    parser.add_argument("model", metavar="MODEL", help="a file written by pymlp train --save or model.save")
    parser.add_argument("data", metavar="DATA", help="CSV, NPZ or Parquet file")
    parser.add_argument("--proba", action="store_true", help="add the probability of each class")
    parser.add_argument("--output", metavar="FILE", help="write there instead of to standard output")
    parser.add_argument("--drop", metavar="COLUMN", action="append", default=[], help="leave this column out")
    parser.add_argument("--separator", metavar="CHAR", help="between the cells of a CSV file (default: found out)")
    parser.set_defaults(run=run)


def read_rows(
    path: str, names: Sequence[str] | None, network: Network, drop: Sequence[str] = (), separator: str | None = None
) -> np.ndarray:
    """The input columns (rows, columns) of a file that a model takes, in its type.

    Parameters
    ----------
    path : str
        CSV, NPZ or Parquet file; of one with an official test part, that part.
    names : sequence of str or None
        Of the columns; None takes them all in order.
    network : Network
    drop : sequence of str, default=()
        Columns to leave out.
    separator : str, optional
        Between the cells of a CSV file.

    Raises
    ------
    DataError
        A ValueError: columns are missing or too many, or a number is missing or too large for the network.
    """
    table = read_table(path, columns=names, drop=drop, separator=separator)
    X = table.X if table.X_test is None else table.X_test
    columns = network.inputs
    if X.shape[1] != columns:
        hint = "; leave the target and others out with --drop" if names is None and X.shape[1] > columns else ""
        raise DataError(f"{path}: the model takes {columns} columns, found {X.shape[1]}{hint}")
    found = first_non_finite(X, network.dtype)
    if found is not None:
        row, column, value = found
        name = column + 1 if table.names is None else repr(table.names[column])
        raise DataError(
            f"{path}: {table.place(row)}, column {name}: {value:g} is too large for the model, "
            f"which computes in {network.dtype}"
        )
    return packed(X, network.dtype)


def _predictions(model: Any, X: np.ndarray, proba: bool) -> list[tuple[str, np.ndarray]]:
    """Columns of the answer by name."""
    if isinstance(model, tuple):
        return _numbered("output", Predictor(*model)(X))
    predicted = model.predict(X)
    classes = getattr(model, "classes_", None)
    if classes is not None and predicted.ndim == 2:
        columns = [(f"label {label}", predicted[:, i]) for i, label in enumerate(classes)]
    else:
        columns = _numbered("prediction", predicted.reshape(len(X), -1))
    if proba:
        columns += [
            (f"probability of {label}", column) for label, column in zip(classes, model.predict_proba(X).T, strict=True)
        ]
    return columns


def _numbered(name: str, values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    if values.shape[1] == 1:
        return [(name, values[:, 0])]
    return [(f"{name} {i}", values[:, i]) for i in range(values.shape[1])]


def _write(stream: TextIO, columns: list[tuple[str, np.ndarray]]) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    # as text by NumPy: the shortest digits that give the number back in its own type
    writer.writerows(zip(*(values.astype(str).tolist() for _, values in columns), strict=True))


def run(arguments: argparse.Namespace) -> None:
    """Predict, and print or write the answer."""
    if arguments.output is not None:
        check_replaceable(arguments.output)
    model = files.load(arguments.model)
    network: Network = model[0] if isinstance(model, tuple) else model.network_
    if arguments.proba and not hasattr(model, "predict_proba"):
        raise DataError(f"{arguments.model}: --proba is for classifiers")
    names = getattr(model, "feature_names_in_", None)
    names_asked = None if names is None else [str(name) for name in names]
    X = read_rows(arguments.data, names_asked, network, arguments.drop, arguments.separator)
    if names is not None:
        # the columns are in the model's order; without names on X, scikit-learn would warn that it cannot tell
        del model.feature_names_in_
    columns = _predictions(model, X, arguments.proba)
    if arguments.output is None:
        _write(sys.stdout, columns)
        return
    with replacing(arguments.output) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        _write(text, columns)
        text.flush()
        text.detach()
