"""Data sets by name or by file, made ready for training: inputs, target, task, and a part set apart for testing.

The names are what scikit-learn bundles, and MNIST and Fashion-MNIST, which come from the folder that the environment
variable PYMLP_DATA names (``mnist.npz``, ``fashion_mnist.npz``), or else are downloaded from OpenML.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pymlp.tables import DataError, Table, read_table, unknown_name

BUNDLED = ("digits", "iris", "wine", "breast_cancer", "diabetes")
DOWNLOADED = {"mnist": "mnist_784", "fashion_mnist": "Fashion-MNIST"}
NAMES = (*BUNDLED, *DOWNLOADED)
TASKS = ("classification", "regression")
# whole numbers with more distinct values than this are quantities, not classes
MOST_WHOLE_CLASSES = 20
OFFICIAL_TRAINING_ROWS = 60000


@dataclass(frozen=True)
class Dataset:
    """Data and the task it sets.

    Parameters
    ----------
    name : str
        Name or file, for messages.
    X : ndarray of shape (rows, columns)
        Raw numbers.
    y : ndarray of shape (rows,)
        Labels (int64 or text) for a classification, float64 for a regression.
    task : {"classification", "regression"}
    reason : str
        What decided the task.
    feature_names : tuple of str or None
    target : str or None
        Name of the column y comes from.
    unit : float or None
        Largest value of pixels, which are scaled by a constant; None for columns of different kinds.
    X_test, y_test : ndarray or None
        The official test part, where there is one.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    task: str
    reason: str
    feature_names: tuple[str, ...] | None = None
    target: str | None = None
    unit: float | None = None
    X_test: np.ndarray | None = None
    y_test: np.ndarray | None = None


def load(
    name_or_path: str | os.PathLike[str],
    target: str | None = None,
    *,
    task: str | None = None,
    drop: Sequence[str] = (),
    separator: str | None = None,
) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    name_or_path : str or path-like
        One of `NAMES`, or a file for `pymlp.tables.read_table`.
    target : str, optional
        The column to predict; files need it, except NPZ files with arrays X and y.
    task : {"classification", "regression"}, optional
        By default told from the target: text and few distinct whole numbers are classes.
    drop : sequence of str, default=()
        Columns of a file to leave out.
    separator : str, optional
        See `read_table`.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        A ValueError: an unknown name or column, a cell that is no number, only one class, ...
    OSError
        The file cannot be read.
    ImportError
        A package is missing; the message names the pip command.
    """
    name = str(name_or_path)
    if task is not None and task not in TASKS:
        raise DataError(f"task={task!r} is not one of {', '.join(TASKS)}")
    if name in NAMES:
        if target is not None or drop:
            raise DataError(
                f"{name!r} is a data set with its own target and columns; --target and --drop are for files"
            )
        return _checked(_load_bundled(name) if name in BUNDLED else _load_pictures(name), task)
    # unlike pathlib, which takes an empty name for the folder it is in
    if not os.path.exists(name):
        if Path(name).suffix:
            raise FileNotFoundError(2, "no such file", name)
        raise DataError(f"{unknown_name('data set', name, NAMES)}, or a file")
    table = read_table(name, target=target, drop=drop, separator=separator, needs_target=True)
    return _checked(table, task)


def _load_bundled(name: str) -> Table:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    if name == "digits":
        # pixels from 0 to 16; their names would stand in the way of a file with names of its own
        return Table(name, bunch.data.astype(np.uint8), None, bunch.target.astype(np.int64), "digit")
    y = bunch.target if name == "diabetes" else np.asarray(bunch.target_names)[bunch.target].astype(str)
    return Table(name, bunch.data, tuple(str(feature) for feature in bunch.feature_names), y, "target")


def _load_pictures(name: str) -> Table:
    folder = os.environ.get("PYMLP_DATA", "").strip()
    path = Path(folder, f"{name}.npz")
    if folder and path.exists():
        table = read_table(path, needs_target=True)
        if table.X_test is None:
            raise DataError(f"{path} must hold X_train, y_train, X_test and y_test")
        return replace(table, source=name)
    from sklearn.datasets import fetch_openml

    where = f"PYMLP_DATA={folder} has no {name}.npz" if folder else "the environment variable PYMLP_DATA is not set"
    try:
        X, y = fetch_openml(DOWNLOADED[name], version=1, return_X_y=True, as_frame=False)
    except ImportError as error:
        raise ImportError(f"{where}, and the download needs pandas: pip install 'pymlp[table]'") from error
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name} is not at hand: {where}, and OpenML cannot be reached ({reason}); set PYMLP_DATA to a folder "
            f"with {name}.npz (X_train, y_train, X_test, y_test)"
        ) from error
    X, y = X.astype(np.uint8), y.astype(np.int64)
    train, test = slice(None, OFFICIAL_TRAINING_ROWS), slice(OFFICIAL_TRAINING_ROWS, None)
    return Table(name, X[train], None, y[train], "y", X[test], y[test])


def _told_task(y: np.ndarray) -> tuple[str, str]:
    """The task that a target sets, and the reason."""
    if y.dtype.kind == "U":
        return "classification", "the target holds text"
    distinct = len(np.unique(y))
    if not np.array_equal(y, np.round(y)):
        return "regression", "the target holds decimal numbers"
    # fewer rows than this a value, and the values do not repeat as classes do
    if distinct <= min(MOST_WHOLE_CLASSES, max(2, len(y) // 2)):
        return "classification", f"the target holds {distinct} distinct whole numbers"
    return "regression", f"the target holds {distinct} distinct whole numbers"


def _checked(table: Table, task: str | None) -> Dataset:
    """Decide the task and hold the target to it."""
    told, reason = _told_task(table.y) if task is None else (task, "as asked for")
    y, y_test = table.y, table.y_test
    if told == "regression":
        y = _quantities(table, y)
        y_test = None if y_test is None else _quantities(table, y_test)
        if len(y) > 1 and np.ptp(y) == 0:
            raise DataError(f"{table.source}: column {table.target!r} holds only the value {y[0]:g}; nothing varies")
    else:
        y = _classes(y)
        y_test = None if y_test is None else _classes(y_test)
        if y.dtype.kind == "f":
            raise DataError(f"{table.source}: column {table.target!r} holds decimal numbers, which are no classes")
        if len(np.unique(y)) < 2:
            raise DataError(
                f"{table.source}: column {table.target!r} has only one class ({y[0]!s}); a classifier needs two"
            )
    # bytes are pixels, and as such share one scale
    unit = float(table.X.max(initial=1)) if table.X.dtype == np.uint8 else None
    return Dataset(table.source, table.X, y, told, reason, table.names, table.target, unit, table.X_test, y_test)


def _classes(y: np.ndarray) -> np.ndarray:
    """Whole numbers written as decimals (1.0) become whole; everything else stays."""
    if y.dtype.kind == "f" and np.array_equal(y, np.round(y)):
        return y.astype(np.int64)
    return y


def _quantities(table: Table, y: np.ndarray) -> np.ndarray:
    if y.dtype.kind != "U":
        return y.astype(np.float64)
    values = np.empty(len(y))
    for row, text in enumerate(y.tolist()):
        try:
            values[row] = float(text)
        except ValueError as error:
            raise DataError(
                f"{table.source}: {table.place(row)}, column {table.target!r}: the text {text!r} stands where a "
                "regression needs a number; for classes use --task classification"
            ) from error
    return values


def split(dataset: Dataset, fraction: float | None, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows for training and rows for testing: ``X, y, X_test, y_test``.

    Parameters
    ----------
    dataset : Dataset
    fraction : float or None
        Part of the rows set apart for testing, drawn by `seed`, in each class alike where the classes are large enough;
        0 trains on everything.  None takes the official test part, or else a fifth.
    seed : int

    Raises
    ------
    DataError
        A fraction outside [0, 1), or one that leaves no row or no second class to train on.
    """
    X, y = dataset.X, dataset.y
    if fraction is None and dataset.X_test is not None and dataset.y_test is not None:
        return X, y, dataset.X_test, dataset.y_test
    fraction = 0.2 if fraction is None else fraction
    if not 0 <= fraction < 1:
        raise DataError(f"the test fraction must be at least 0 and below 1, got {fraction}")
    tested = round(fraction * len(y))
    if tested >= len(y):
        raise DataError(f"{dataset.name}: a test fraction of {fraction} leaves none of the {len(y)} rows for training")
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(y))
    if tested:
        strata = None
        if dataset.task == "classification":
            counts = np.unique(y, return_counts=True)[1]
            if counts.min() >= 2 and len(counts) <= min(tested, len(y) - tested):
                strata = y
        rows, test_rows = train_test_split(rows, test_size=tested, random_state=seed, stratify=strata)
    else:
        test_rows = rows[:0]
    if dataset.task == "classification" and len(np.unique(y[rows])) < 2:
        raise DataError(f"{dataset.name}: only one class is left in the {len(rows)} rows for training")
    return X[rows], y[rows], X[test_rows], y[test_rows]
