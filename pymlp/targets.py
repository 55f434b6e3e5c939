"""Targets as a user has them and the columns a network is trained on, in both directions: classes and numbers.

Which loss a network of classes is trained with follows from the loss that was asked for and from the targets: two
classes and label matrices have one logistic output a column, more classes share a softmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.multiclass import type_of_target, unique_labels

from pymlp import scores
from pymlp.arrays import packed
from pymlp.losses import (
    BinaryFocal,
    BinaryLogLoss,
    CustomLoss,
    Focal,
    GaussianNLL,
    LogLoss,
    Loss,
    Quantile,
    loss_of,
)

KINDS = ("binary", "multiclass", "multilabel-indicator")
CLASS_LOSSES = ("log_loss", "focal", "hinge", "squared_hinge", "perceptron")
NUMBER_LOSSES = (
    "squared_error", "absolute_error", "huber", "quantile", "gaussian_nll", "poisson", "gamma", "tweedie",
)  # fmt: skip
# the losses that have a form of their own for one output a column
BINARY_FORMS = {LogLoss: BinaryLogLoss, Focal: BinaryFocal}

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
    # what is below 0 is large as an unsigned number
    if _is_whole(y, 2) and y.shape[1] > 1 and y.view(f"{y.dtype.byteorder}u{y.dtype.itemsize}").max() <= 1:
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
    threshold : float
        Where the decision of one column lies: half for probabilities, 0 for scores.
    """

    kind: str
    classes: np.ndarray
    sparse_labels: bool = False
    threshold: float = 0.5

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

    def loss(self, asked: Any) -> Any:
        """The form of a loss that fits the layout.

        Parameters
        ----------
        asked : str, Loss or callable
            One of `CLASS_LOSSES`, an object of their kinds, or a loss of one's own: a bare function gets the output
            activation of the log loss.

        Raises
        ------
        ValueError
            The form for single columns was asked for where the classes share a softmax.
        """
        joint = self.kind == "multiclass"
        if asked == "log_loss":
            return asked if joint else "binary_log_loss"
        if not isinstance(asked, (str, Loss)):
            return CustomLoss(asked, "softmax" if joint else "logistic")
        loss = loss_of(asked)
        if joint and type(loss) in BINARY_FORMS.values():
            form = next(form.__name__ for form, binary in BINARY_FORMS.items() if binary is type(loss))
            raise ValueError(f"loss={asked!r} does not fit more than two classes; give {form}(...)")
        if not joint and type(loss) in BINARY_FORMS:
            return BINARY_FORMS[type(loss)](**loss.get_params())
        return asked

    def encode(self, y: Any, dtype: str, *, learnt: bool = False) -> np.ndarray:
        """0/1 columns of shape (rows, columns) for labels that are all among `classes`.

        With `learnt` the layout was learnt from y itself, whose kind need not be found out again.

        Raises
        ------
        ValueError
            A label matrix where single labels are expected or the other way round, or one of another width.
        """
        multilabel = self.kind == "multilabel-indicator"
        # a single column never is a label matrix
        if not learnt and (multilabel or np.ndim(y) != 1):
            kind = _kind_of(y)
            if multilabel != (kind == "multilabel-indicator"):
                raise ValueError(f"y is {kind}, but the model was fitted to {self.kind} targets")
        if multilabel:
            y = y.toarray() if sparse.issparse(y) else np.asarray(y)
            if y.shape[1] != len(self.classes):
                raise ValueError(f"y has {y.shape[1]} label columns, but the model was fitted to {len(self.classes)}")
            return packed(y, dtype)
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
        decisions = (outputs > self.threshold).astype(np.int64)
        return decisions[:, 0] if self.kind == "binary" else decisions

    def decode(self, outputs: np.ndarray) -> Any:
        """Predicted labels from outputs of shape (rows, columns)."""
        if self.kind == "binary":
            # numbers of one byte: a column of larger ones takes longer to fill than a small network to compute
            positions = (outputs[:, 0] > self.threshold).view(np.uint8)
            # with a single class there is nothing to decide
            return self.classes[positions if len(self.classes) > 1 else np.zeros_like(positions)]
        decisions = self.decide(outputs)
        if self.kind == "multiclass":
            # no decision is out of range; to clip is to look no closer
            return self.classes.take(decisions, mode="clip")
        return sparse.csr_matrix(decisions) if self.sparse_labels else decisions


@dataclass(frozen=True, eq=False)
class NumberTargets:
    """How numbers are laid out over output columns: each target as many columns, side by side, as its loss asks for.

    Parameters
    ----------
    columns : int
        Targets.
    loss : Loss
    """

    columns: int
    loss: Loss

    @classmethod
    def of_outputs(cls, outputs: int, loss: Any) -> NumberTargets:
        """The layout over so many outputs."""
        loss = loss_of(loss)
        return cls(outputs // loss.group, loss)

    def encode(self, columns: np.ndarray) -> np.ndarray:
        """What the network is trained on, (rows, outputs), from targets (rows, columns)."""
        return columns if self.loss.group == 1 else np.repeat(columns, self.loss.group, axis=1)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Predictions from outputs: (rows,) or (rows, columns); with several levels one more axis for them."""
        if isinstance(self.loss, GaussianNLL):
            outputs = outputs[:, 0::2].copy()
        elif self.loss.group > 1:
            outputs = outputs.reshape(len(outputs), self.columns, self.loss.group)
        return outputs[:, 0] if self.columns == 1 else outputs

    def deviations(self, outputs: np.ndarray) -> np.ndarray:
        """Standard deviations from the outputs of `GaussianNLL`: (rows,) or (rows, columns)."""
        found = outputs[:, 1::2].copy()
        return found[:, 0] if self.columns == 1 else found

    def score(self, outputs: np.ndarray, encoded: np.ndarray, weight: np.ndarray | None) -> float:
        """R2 of the predictions; of `Quantile`, D2 by the pinball loss."""
        if isinstance(self.loss, Quantile):
            return scores.pinball_d2(outputs, encoded, self.loss.numbers, weight)
        if isinstance(self.loss, GaussianNLL):
            outputs, encoded = outputs[:, 0::2], encoded[:, 0::2]
        return scores.r2(outputs, encoded, weight)
