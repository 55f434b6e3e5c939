"""Weights of rows from weights of classes.

They multiply the rows' own weights in the loss.  "balanced" counts rows by their own weights, so that a row of weight 2
stays the same as two rows, which a count of rows would break.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from pymlp.targets import ClassTargets


def _of_classes(
    class_weight: Any, classes: np.ndarray, positions: np.ndarray, sample_weight: np.ndarray | None
) -> np.ndarray:
    """The weight of each class, (classes,), from rows of the classes at `positions`."""
    if class_weight == "balanced":
        counts = np.bincount(positions, sample_weight, len(classes))
        present = counts > 0
        # of a class without rows the weight does not matter
        return counts.sum() / (present.sum() * np.where(present, counts, 1.0))
    try:
        weights = compute_class_weight(class_weight, classes=classes, y=classes)
    except ValueError as error:
        raise ValueError(f"class_weight={class_weight!r} does not fit: {error}") from error
    for label, weight in zip(classes, weights, strict=True):
        if not 0 <= weight < np.inf:
            raise ValueError(f"class_weight must be finite and at least 0, but class {label} has {weight:g}")
    return weights


def row_weights(
    class_weight: Any, targets: ClassTargets, encoded: np.ndarray, sample_weight: np.ndarray | None
) -> np.ndarray | None:
    """The product of each row's own weight and that of its class; None for all 1.

    Parameters
    ----------
    class_weight : "balanced", dict, sequence of dict (one for each column of a label matrix) or None
        A dict gives classes their weights, 1 where it has none.  For a label matrix each column has classes 0 and 1,
        and a row's weight is the product over the columns.
    targets : ClassTargets
    encoded : ndarray of shape (rows, columns)
        See `ClassTargets.encode`.
    sample_weight : ndarray of shape (rows,), or None

    Raises
    ------
    ValueError
        The weights do not fit the classes, or one is negative.
    """
    if class_weight is None:
        return sample_weight
    if targets.kind == "multilabel-indicator":
        each = [class_weight] * targets.columns if class_weight == "balanced" else class_weight
        if not isinstance(each, (list, tuple)) or len(each) != targets.columns:
            raise ValueError(
                f"class_weight must be 'balanced' or a list of {targets.columns} dicts for a label matrix of so many "
                f"columns, got {class_weight!r}"
            )
        weight = np.ones(len(encoded))
        for column, of_column in zip(encoded.T, each, strict=True):
            positions = column.astype(np.intp)
            weight *= _of_classes(of_column, np.array([0, 1]), positions, sample_weight)[positions]
    else:
        if isinstance(class_weight, (list, tuple)):
            raise ValueError(f"class_weight must be 'balanced' or a dict for single labels, got {class_weight!r}")
        positions = encoded[:, 0].astype(np.intp) if targets.kind == "binary" else encoded.argmax(axis=1)
        weight = _of_classes(class_weight, targets.classes, positions, sample_weight)[positions]
    weight = weight.astype(encoded.dtype)
    return weight if sample_weight is None else weight * sample_weight
