"""What an exported model says of rows that a user gave, beside what the model itself says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pymlp import scores
from pymlp.arrays import finite_numbers, refuse_others
from pymlp.finiteness import check_finite
from pymlp.frames import columns_of, matrix_of
from pymlp.portable import PortableModel


@dataclass(frozen=True)
class ExportReport:
    """A file that was written, and how far its answers are from the model's.

    Attributes
    ----------
    path : Path
    name : str
        What the names in the file begin with.
    dtype : {"float32", "float64", "int8"}
    n_bytes : int
        Size of the file.
    n_rows : int
        Rows of `calibration`, on which the rest was measured; 0 where none were given, and what follows is then None.
    largest_difference : float or None
        Of an output, in all rows: of probabilities where the model has them, else of scores or predicted numbers.
    agreement : float or None
        Share of the rows that both give the same label (of a label matrix: all labels); None for numbers.
    score_before, score_after : float or None
        Of the model and of the file, where `y` was given: the accuracy, or for numbers R2 (of quantiles D2).
    """

    path: Path
    name: str
    dtype: str
    n_bytes: int
    n_rows: int = 0
    largest_difference: float | None = None
    agreement: float | None = None
    score_before: float | None = None
    score_after: float | None = None

    def __str__(self) -> str:
        said = [f"{self.path}: {self.n_bytes:,} bytes, {self.dtype}"]
        if self.n_rows:
            said.append(f"largest difference in {self.n_rows:,} rows {self.largest_difference:.3g}")
        if self.agreement is not None:
            said.append(f"same label in {self.agreement:.2%}")
        if self.score_before is not None:
            said.append(f"score {self.score_before:.4f} before, {self.score_after:.4f} after")
        return "; ".join(said)


def answers(model: PortableModel, outputs: np.ndarray) -> np.ndarray:
    """What the model answers, from its network's outputs (rows, outputs): with the complement, in the user's units."""
    if model.output_scale is not None:
        return outputs * model.output_scale[0] + model.output_scale[1]
    return np.hstack([1 - outputs, outputs]) if model.with_complement else outputs


def _labels(model: PortableModel, outputs: np.ndarray) -> np.ndarray:
    """Places in the classes, (rows,), or the labels' 0 and 1, (rows, labels)."""
    if model.task == "multiclass":
        return outputs.argmax(axis=1)
    decisions = (outputs > model.threshold).astype(np.int64)
    return decisions if model.task == "multilabel-indicator" else np.minimum(decisions[:, 0], len(model.classes) - 1)


def _scores(model: PortableModel, y: Any, found: list[np.ndarray]) -> list[float]:
    """How good each of `found` is, answers (rows, outputs) for numbers, else what `_labels` gives."""
    if model.task == "numbers":
        from pymlp.targets import NumberTargets

        targets = NumberTargets.of_outputs(model.network.outputs, model.network.loss)
        y = finite_numbers("y", y, "float64")
        y = y.reshape(len(y), -1) if y.ndim < 2 else y
        if y.ndim > 2 or y.shape[1] != targets.columns:
            raise ValueError(f"y must hold {targets.columns} numbers for each row, got shape {y.shape}")
        return [targets.score(answered, targets.encode(y), None) for answered in found]
    y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    if model.task != "multilabel-indicator":
        found = [model.classes[places] for places in found]
    if y.shape != found[0].shape:
        raise ValueError(f"y must be of shape {found[0].shape}, as the labels of the rows are, got {y.shape}")
    return [scores.accuracy(labels, y, None) for labels in found]


def check_calibration(model: PortableModel, X: Any, y: Any, dtype: str) -> Any:
    """`calibration` as a matrix of numbers of the model's dtype.

    Parameters
    ----------
    model : PortableModel
    X : array-like, table or SciPy sparse matrix
    y : array-like, or None
    dtype : {"float32", "float64"}
        The numbers must be finite in this type too.

    Raises
    ------
    TypeError, ValueError
        X does not fit the model, has no rows, or holds what is no finite number; `y` has another number of rows.
    """
    columns = None if hasattr(X, "tocsr") else columns_of(X)
    if columns is not None:
        names = tuple(str(name) for name, _ in columns)
        if model.feature_names is not None and names != model.feature_names:
            raise ValueError(
                f"calibration must have the columns that the model was fitted to, {list(model.feature_names)}, got "
                f"{list(names)}"
            )
        X = matrix_of(columns, (model.network.dtype,))
    if hasattr(X, "tocsr"):
        refuse_others("calibration", X)
        check_finite("calibration", X, model.network.dtype)
        X = X.tocsr().astype(model.network.dtype)
    else:
        X = finite_numbers("calibration", X, model.network.dtype)
    if X.ndim != 2 or X.shape[1] != model.network.inputs:
        raise ValueError(f"calibration must be of shape (rows, {model.network.inputs}), got {tuple(X.shape)}")
    if not X.shape[0]:
        raise ValueError("calibration has no rows")
    check_finite("calibration", X, dtype)
    if y is not None and np.shape(y)[:1] != (X.shape[0],):
        raise ValueError(f"y must have {X.shape[0]} rows, as calibration has, got shape {np.shape(y)}")
    return X


def comparison(
    model: PortableModel, written: PortableModel, before: np.ndarray, after: np.ndarray, y: Any
) -> dict[str, float | int | None]:
    """Fields of a report.

    Parameters
    ----------
    model, written : PortableModel
        The model, and what of it is in the file.
    before, after : ndarray of shape (rows, outputs)
        Outputs of their networks.
    y : array-like, or None
        What `ExportReport` scores both by.

    Raises
    ------
    TypeError, ValueError
        `y` does not fit the model.
    """
    answered = [answers(model, before).astype(np.float64), answers(written, after).astype(np.float64)]
    found: dict[str, float | int | None] = {
        "n_rows": len(before),
        "largest_difference": float(np.abs(answered[1] - answered[0]).max()),
    }
    if model.task == "numbers":
        scored = answered
    else:
        scored = [_labels(model, outputs) for outputs in (before, after)]
        found["agreement"] = scores.accuracy(*scored, None)
    if y is not None:
        found["score_before"], found["score_after"] = _scores(model, y, scored)
    return found
