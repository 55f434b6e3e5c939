"""Tables of numbers from CSV, NPZ and Parquet files, with errors that name the row and the column.

A network takes numbers, so a table with text, an empty cell or a missing value is refused, and whoever reads the
message can find the cell.  CSV goes through the standard library's reader for that reason: it is one implementation
that needs nothing installed, knows the line it is in, and parses more than a million cells a second.
"""

from __future__ import annotations

import csv
import difflib
import errno
import os
import re
import zipfile
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pymlp.finiteness import first_non_finite

ENDINGS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".npz": "npz", ".parquet": "parquet", ".pq": "parquet"}
SEPARATORS = (",", ";", "\t")
# how a cell without a value is written, in lower case
MISSING = frozenset({"", "?", "na", "n/a", "nan", "null"})
# what the libraries raise that read a damaged file; running out of memory is not among them
DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


class DataError(ValueError):
    """The data cannot be used; the message says what is wrong and where."""


@dataclass(frozen=True)
class Table:
    """Numbers in columns, and the target if one was asked for.

    Parameters
    ----------
    source : str
        The file, for messages.
    X : ndarray of shape (rows, columns)
        Integers or floating-point numbers, finite.
    names : tuple of str or None
        Names of the columns.
    y : ndarray of shape (rows,) or None
        int64, float64 or text.
    target : str or None
        Name of the column y comes from.
    X_test, y_test : ndarray or None
        A test part that the file itself sets apart.
    lines : array of int or None
        Line of the file that each row ends in.
    """

    source: str
    X: np.ndarray
    names: tuple[str, ...] | None = None
    y: np.ndarray | None = None
    target: str | None = None
    X_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    lines: Sequence[int] | None = None

    def place(self, row: int) -> str:
        """Where a row (counted from 0) stands, for messages."""
        return f"row {row + 1}" + (f" (line {self.lines[row]})" if self.lines is not None else "")


def read_table(
    path: str | os.PathLike[str],
    *,
    target: str | None = None,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    separator: str | None = None,
    needs_target: bool = False,
) -> Table:
    """Read a CSV, NPZ or Parquet file of numbers.

    Parameters
    ----------
    path : str or path-like
        The ending tells the format: .csv, .tsv and .txt (a header line, then values), .npz (arrays X and y; or X_train,
        y_train, X_test and y_test; or one-dimensional columns by name), .parquet and .pq (needs the extra ``table``).
    target : str, optional
        The column to predict; it alone may hold text.  NPZ files with an array y need none.
    columns : sequence of str, optional
        Take just these, in this order; by default every column but the target and what `drop` names.
    drop : sequence of str, default=()
        Columns to leave out.
    separator : str, optional
        The character between the cells of a CSV file; by default what the header line is split by best, of comma,
        semicolon and tab.
    needs_target : bool, default=False
        Whether it is an error if there is no target.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        A ValueError: a column is missing, a cell is not a finite number, the file is damaged, ...
    OSError
        The file cannot be read.
    ImportError
        Parquet without the extra ``table``.
    """
    kind = ENDINGS.get(Path(path).suffix.lower())
    choice = Choice(target, columns, drop, needs_target)
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if kind is None:
        raise DataError(f"{path}: the ending must be one of {', '.join(ENDINGS)} to tell the format")
    if kind == "csv":
        table = _read_csv(path, choice, separator)
    elif kind == "npz":
        table = _read_npz(path, choice)
    else:
        table = _read_parquet(path, choice)
    if not len(table.X):
        raise DataError(f"{path}: there are no rows")
    if table.X.shape[1] == 0:
        raise DataError(f"{path}: there are no input columns")
    _check_finite(table)
    return table


def unknown_name(what: str, name: str, known: Sequence[str]) -> str:
    """A message about a name that is not there: the closest one that is, and all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    listed = ", ".join(known[:30]) + (f", ... ({len(known)} in all)" if len(known) > 30 else "")
    return f"there is no {what} {name!r}{hint}; there are: {listed}"


@dataclass(frozen=True)
class Choice:
    """Which columns to take; the fields are arguments of `read_table`."""

    target: str | None
    columns: Sequence[str] | None
    drop: Sequence[str]
    needs_target: bool

    def positions(self, source: str, names: Sequence[str]) -> tuple[list[int], int | None]:
        """Positions of the input columns and of the target among `names`; DataError if one is not there."""
        target, places = self.target, {name: position for position, name in enumerate(names)}
        if target is None and self.needs_target:
            raise DataError(f"{source}: name the column to predict with --target; there are: {', '.join(names)}")
        for name in (*self.drop, *([] if target is None else [target])):
            if name not in places:
                raise DataError(f"{source}: {unknown_name('column', name, names)}")
        if target is not None and target in self.drop:
            raise DataError(f"{source}: column {target!r} is the target and cannot be left out")
        if self.columns is None:
            left_out = {target, *self.drop}
            inputs = [position for position, name in enumerate(names) if name not in left_out]
        else:
            missing = [name for name in self.columns if name not in places]
            if len(missing) == 1:
                raise DataError(f"{source}: {unknown_name('column', missing[0], names)}")
            if missing:
                listed = ", ".join(repr(name) for name in missing[:10]) + (", ..." if len(missing) > 10 else "")
                raise DataError(f"{source}: {len(missing)} columns are missing: {listed}")
            inputs = [places[name] for name in self.columns]
        return inputs, None if target is None else places[target]


def _check_names(source: str, names: Sequence[str]) -> None:
    seen = set()
    for position, name in enumerate(names):
        if not name:
            raise DataError(
                f"{source}: column {position + 1} has no name "
                "(if pandas wrote its row index there, write the file with index=False)"
            )
        if name in seen:
            raise DataError(f"{source}: two columns have the name {name!r}")
        seen.add(name)


def _is_number(text: str) -> bool:
    if "_" in text:  # float() takes 1_000, no table means it
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cell_error(source: str, place: str, name: str, text: str) -> DataError:
    where = f"{source}: {place}, column {name!r}"
    if text.strip().lower() in MISSING:
        return DataError(f"{where}: a value is missing ({text!r}); fill such cells or leave their rows out")
    if re.fullmatch(r"\s*[+-]?\d+,\d+\s*", text):
        return DataError(f"{where}: {text!r} is not a number; write decimals with a point and no thousands separator")
    return DataError(
        f"{where}: the text {text!r} stands where a number is needed; turn categories into 0/1 columns first (one-hot, "
        f"for example with pandas.get_dummies), or leave the column out with --drop {name!r}"
    )


def _read_csv(path: str | os.PathLike[str], choice: Choice, separator: str | None) -> Table:
    source = str(path)
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise DataError(f"separator={separator!r} must be one character, not a quotation mark or the end of a line")
    with open(path, newline="", encoding="utf-8-sig") as stream:
        try:
            first = stream.readline()
            if not first.strip():
                raise DataError(f"{source}: the first line is empty; it must hold the names of the columns")
            if separator is None:
                unquoted = re.sub(r'"[^"]*"', "", first)
                separator = max(SEPARATORS, key=unquoted.count)
            stream.seek(0)
            reader = csv.reader(stream, delimiter=separator)
            names = [name.strip() for name in next(reader)]
            if all(_is_number(name) for name in names) and names != [str(i) for i in range(len(names))]:
                raise DataError(f"{source}: the first line holds numbers; it must hold the names of the columns")
            _check_names(source, names)
            inputs, target_position = choice.positions(source, names)
            values, texts, lines = _parse_rows(source, reader, names, inputs, target_position)
        except csv.Error as error:
            raise DataError(f"{source}: line {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise DataError(f"{source} is not text in UTF-8 (byte 0x{byte:02x}); save it in that encoding") from error
    X = np.asarray(values).reshape(len(lines), len(inputs))
    table = Table(source, X, tuple(names[position] for position in inputs), target=choice.target, lines=lines)
    return table if choice.target is None else replace(table, y=_parse_target(table, texts))


def _parse_rows(
    source: str, reader, names: list[str], inputs: list[int], target: int | None
) -> tuple[array, list[str], array]:
    """Numbers of the input columns row after row, texts of the target, and the line each row ends in."""
    values, texts, lines = array("d"), [], array("q")
    for row in reader:
        if len(row) != len(names):
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            raise DataError(
                f"{source}: line {reader.line_num} has {len(row)} cells, and the header line has {len(names)}"
            )
        lines.append(reader.line_num)
        cells = [row[position] for position in inputs]
        try:
            values.extend(map(float, cells))
            numbers = "_" not in "".join(cells)
        except ValueError:
            numbers = False
        if not numbers:
            position, text = next((p, row[p]) for p in inputs if not _is_number(row[p]))
            place = f"row {len(lines)} (line {reader.line_num})"
            raise _cell_error(source, place, names[position], text)
        if target is not None:
            texts.append(row[target].strip())
    return values, texts, lines


def _parse_target(table: Table, texts: list[str]) -> np.ndarray:
    """The target as whole numbers, else as numbers, else as text."""
    for row, text in enumerate(texts):
        if text.lower() in MISSING:
            raise _cell_error(table.source, table.place(row), str(table.target), text)
    if all(re.fullmatch(r"[+-]?\d{1,18}", text) for text in texts):
        return np.array([int(text) for text in texts], np.int64)
    if all(_is_number(text) for text in texts):
        return np.array([float(text) for text in texts], np.float64)
    return np.array(texts)


def _check_finite(table: Table) -> None:
    """Raise DataError at the first number, of X, y and the test part, that is NaN or infinite."""
    parts = [("", table.X, table.y)]
    if table.X_test is not None:
        parts.append(("of the test part, ", table.X_test, table.y_test))
    for part, X, y in parts:
        found = first_non_finite(X)
        if found is not None:
            name = f"column {found[1] + 1 if table.names is None else repr(table.names[found[1]])}"
        elif y is not None:
            found = first_non_finite(y)
            name = f"column {table.target!r}"
        if found is not None:
            row, _, value = found
            what = "a value is missing (NaN)" if np.isnan(value) else "the value is infinite"
            raise DataError(
                f"{table.source}: {table.place(row)}, {part}{name}: {what}; fill such cells or leave their rows out"
            )


def _numbers(source: str, name: str, values: np.ndarray, ndim: int) -> np.ndarray:
    """An array of an NPZ file as numbers with `ndim` dimensions; pictures become rows."""
    if values.dtype.kind not in "buif":
        raise DataError(f"{source}: the array {name!r} must hold numbers, found {values.dtype}")
    if ndim == 2 and values.ndim > 2:
        values = values.reshape(len(values), -1)
    if values.ndim != ndim:
        raise DataError(f"{source}: the array {name!r} must have {ndim} dimensions, found the shape {values.shape}")
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _labels(source: str, name: str, values: np.ndarray, rows: int) -> np.ndarray:
    """An array of an NPZ file as a target."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (rows,):
        raise DataError(f"{source}: the array {name!r} must have the shape ({rows},), found {values.shape}")
    if values.dtype.kind in "bU":
        return values.astype(str)
    if values.dtype.kind in "ui":
        return values.astype(np.int64)
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    raise DataError(f"{source}: the array {name!r} must hold numbers or text, found {values.dtype}")


def _read_npz(path: str | os.PathLike[str], choice: Choice) -> Table:
    source = str(path)
    with open(path, "rb") as stream:
        try:
            with np.load(stream, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except DAMAGE as error:
            raise DataError(f"{source} is not a readable NPZ file: {error}") from error
    if "X_train" in arrays or "X" in arrays:
        return _from_matrices(source, arrays, choice)
    return _from_columns(source, arrays, choice)


def _from_matrices(source: str, arrays: dict[str, np.ndarray], choice: Choice) -> Table:
    """From X and y, or from X_train, y_train, X_test, y_test."""
    if choice.target not in (None, "y"):
        raise DataError(
            f"{source} holds arrays X and y, so the target is y; leave --target out, found {choice.target!r}"
        )
    official = "X" not in arrays
    X_name, y_name = ("X_train", "y_train") if official else ("X", "y")
    X = _numbers(source, X_name, arrays[X_name], 2)
    names = None
    listed = arrays.get("feature_names")
    if listed is not None and listed.shape == (X.shape[1],) and listed.dtype.kind == "U":
        names = tuple(listed.tolist())
        _check_names(source, names)
        inputs, _ = replace(choice, target=None, needs_target=False).positions(source, names)
        X, names = X[:, inputs], tuple(names[position] for position in inputs)
    elif choice.drop:
        raise DataError(f"{source}: the columns of {X_name} have no names, so none can be left out by name")
    y = _labels(source, y_name, arrays[y_name], len(X)) if y_name in arrays else None
    if y is None and choice.needs_target:
        raise DataError(f"{source}: there is an array {X_name} but no array {y_name} to predict")
    if not official or "X_test" not in arrays:
        return Table(source, X, names, y, "y")
    X_test = _numbers(source, "X_test", arrays["X_test"], 2)
    if X_test.shape[1] != X.shape[1]:
        raise DataError(f"{source}: X_train has {X.shape[1]} columns and X_test has {X_test.shape[1]}")
    if "y_test" not in arrays:
        raise DataError(f"{source}: there is an array X_test but no array y_test")
    return Table(source, X, names, y, "y", X_test, _labels(source, "y_test", arrays["y_test"], len(X_test)))


def _from_columns(source: str, arrays: dict[str, np.ndarray], choice: Choice) -> Table:
    """From one-dimensional arrays by name."""
    # what has no dimension, such as the name of a task, is a note and not a column
    names = [name for name, values in arrays.items() if values.ndim > 0]
    if not names:
        raise DataError(f"{source}: there are no arrays X and y, nor columns by name")
    for name in names:
        if arrays[name].ndim != 1:
            raise DataError(
                f"{source}: there is no array 'X', and the array {name!r} of shape {arrays[name].shape} is no column; "
                "give X and y, or X_train, y_train, X_test and y_test, or one-dimensional columns by name"
            )
    inputs, target_position = choice.positions(source, names)
    rows = len(arrays[names[0]])
    for name in names:
        if len(arrays[name]) != rows:
            raise DataError(f"{source}: column {names[0]!r} has {rows} rows and column {name!r} {len(arrays[name])}")
    parts = [_numbers(source, names[position], arrays[names[position]], 1) for position in inputs]
    X = np.column_stack(parts) if parts else np.empty((rows, 0))
    y = None if target_position is None else _labels(source, str(choice.target), arrays[names[target_position]], rows)
    return Table(source, X, tuple(names[position] for position in inputs), y, choice.target)


def _read_parquet(path: str | os.PathLike[str], choice: Choice) -> Table:
    try:
        import pandas
        import pyarrow
    except ImportError as error:
        raise ImportError(f"{path}: Parquet files need pandas and pyarrow: pip install 'pymlp[table]'") from error
    source = str(path)
    with open(path, "rb") as stream:
        try:
            frame = pandas.read_parquet(stream, engine="pyarrow")
        except (*DAMAGE, pyarrow.ArrowException) as error:
            raise DataError(f"{source} is not a readable Parquet file: {error}") from error
    names = [str(name) for name in frame.columns]
    _check_names(source, names)
    inputs, target_position = choice.positions(source, names)
    kinds = pandas.api.types
    X = np.empty((len(frame), len(inputs)))
    for place, position in enumerate(inputs):
        series = frame.iloc[:, position]
        if kinds.is_numeric_dtype(series.dtype) and not kinds.is_complex_dtype(series.dtype):
            X[:, place] = series.to_numpy(np.float64, na_value=np.nan)
        else:
            row = int(np.argmax(series.notna()))  # the first row with a value, or the first of all
            text = str(series.iloc[row]) if series.notna().any() else ""
            raise _cell_error(source, f"row {row + 1}", names[position], text)
    table = Table(source, X, tuple(names[position] for position in inputs), target=choice.target)
    if target_position is None:
        return table
    series = frame.iloc[:, target_position]
    if series.isna().any():
        row = int(np.flatnonzero(series.isna())[0])
        raise _cell_error(source, f"row {row + 1}", str(choice.target), "")
    values = series.to_numpy()
    if values.dtype.kind == "O" or not kinds.is_numeric_dtype(series.dtype):
        values = np.array([str(value) for value in values])
    return replace(table, y=_labels(source, str(choice.target), values, len(frame)))
