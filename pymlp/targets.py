"""Class labels and the columns a network is trained on, in both directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.multiclass import type_of_target, unique_labels

KINDS = ("binary", "multiclass", "multilabel-indicator")

# whole numbers that span less than this are counted, not sorted
COUNTED_SPAN = 4096


def distinct_labels(y: Any) -> np.ndarray:
    """The labels that occur in y, sorted (of a label matrix the numbers of its columns); ValueError if it has none."""
    if not _is_whole(y, 1):
        return unique_labels(y)
    lowest = int(y.min())
    if int(y.max()) - lowest >= COUNTED_SPAN or y.dtype == np.uint64:
        return np.unique(y)
    counts = np.bincount(y.astype(np.int64) - lowest)
    return (np.flatnonzero(counts) + lowest).astype(y.dtype)


def _is_whole(y: Any, dimensions: int) -> bool:
    # Whole numbers need no closer look to say what they are.  scikit-learn's takes as long as 100 steps of a small
    # network, and is left to all other targets.
    return isinstance(y, np.ndarray) and y.ndim == dimensions and y.dtype.kind in "biu" and y.size > 0


def _kind_of(y: Any) -> str:
    if _is_whole(y, 2) and y.shape[1] > 1 and y.min() >= 0 and y.max() <= 1:
        return "multilabel-indicator"
    return type_of_target(y, input_name="y")


@dataclass(frozen=True, eq=False)
class ClassTargets:
    """How labels are laid out over output columns.

    Parameters
    ----------
    kind : {"binary", "multiclass", "multilabel-indicator"}
        One column, one column a class, or the columns of the label matrix itself.
    classes : ndarray
        The labels in sorted order; the numbers of the columns for a label matrix.
    sparse_labels : bool
        Whether the label matrix was sparse, and predictions are to be so too.
    """

    kind: str
    classes: np.ndarray
    sparse_labels: bool = False

    @classmethod
    def from_labels(cls, y: Any) -> ClassTargets:
        """Learn the layout from labels; ValueError if they are not classes."""
        if _is_whole(y, 1):
            classes = distinct_labels(y)
            return cls("binary" if len(classes) <= 2 else "multiclass", classes)
        kind = _kind_of(y)
        if "multioutput" in kind:
            raise ValueError(f"y must hold one class label a row or be a 0/1 label matrix, but it is {kind}")
        if kind not in KINDS:
            raise ValueError(f"Unknown label type: {kind}. y must hold classes; for numbers use a regressor.")
        classes = np.arange(np.shape(y)[1]) if kind == "multilabel-indicator" else distinct_labels(y)
        return cls(kind, classes, sparse.issparse(y))

    @property
    def columns(self) -> int:
        """Number of output columns."""
        return 1 if self.kind == "binary" else len(self.classes)

    @property
    def loss(self) -> str:
        """The log loss that fits the layout."""
        return "log_loss" if self.kind == "multiclass" else "binary_log_loss"

    def encode(self, y: Any, dtype: str) -> np.ndarray:
        """0/1 columns of shape (rows, columns) for labels that are all among `classes`.

        Raises
        ------
        ValueError
            A label matrix where single labels are expected or the other way round, or one of another width.
        """
        multilabel = self.kind == "multilabel-indicator"
        # a single column never is a label matrix
        if multilabel or np.ndim(y) != 1:
            kind = _kind_of(y)
            if multilabel != (kind == "multilabel-indicator"):
                raise ValueError(f"y is {kind}, but the model was fitted to {self.kind} targets")
        if multilabel:
            y = y.toarray() if sparse.issparse(y) else np.asarray(y)
            if y.shape[1] != len(self.classes):
                raise ValueError(f"y has {y.shape[1]} label columns, but the model was fitted to {len(self.classes)}")
            return np.ascontiguousarray(y, dtype)
        positions = np.searchsorted(self.classes, y)
        if self.kind == "binary":
            # the second class is 1; a single class is 0 throughout
            return positions[:, None].astype(dtype)
        columns = np.zeros((len(positions), len(self.classes)), dtype)
        columns[np.arange(len(positions)), positions] = 1
        return columns

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Decisions from outputs: column numbers (rows,) for single labels, 0/1 (rows, columns) for a label matrix."""
        if self.kind == "multiclass":
            return outputs.argmax(axis=1)
        decisions = (outputs > 0.5).astype(np.int64)
        return decisions[:, 0] if self.kind == "binary" else decisions

    def decode(self, outputs: np.ndarray) -> Any:
        """Predicted labels from outputs of shape (rows, columns)."""
        if self.kind == "binary":
            # numbers of one byte: a column of larger ones takes longer to fill than a small network to compute
            positions = (outputs[:, 0] > 0.5).view(np.uint8)
            # with a single class there is nothing to decide
            return self.classes[positions if len(self.classes) > 1 else np.zeros_like(positions)]
        decisions = self.decide(outputs)
        if self.kind == "multiclass":
            # no decision is out of range; to clip is to look no closer
            return self.classes.take(decisions, mode="clip")
        return sparse.csr_matrix(decisions) if self.sparse_labels else decisions
