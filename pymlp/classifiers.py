"""What the linear classifiers and naive Bayes share around their networks: labels, scores, failures.

Their targets are single labels.  The multilayer perceptrons, which also take label matrices, lay theirs out in
`pymlp.targets`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from pymlp import backends
from pymlp.inference import predict_rows, without_output_activation
from pymlp.network import Network
from pymlp.targets import distinct_labels
from pymlp.validation import check_training_data


@contextmanager
def unchanged_on_failure(estimator: Any) -> Iterator[None]:
    """Give the estimator its attributes back if the body raises; arrays must be replaced, not changed in place."""
    before = dict(estimator.__dict__)
    try:
        yield
    except BaseException:
        # in one step, which takes no memory
        estimator.__dict__ = before
        raise


def check_labelled_data(
    estimator: Any, X: Any, y: Any, *, dtypes: tuple[str, ...], reset: bool
) -> tuple[Any, np.ndarray, str]:
    """X, the labels as an array of shape (rows,), and the type to compute in; see `check_training_data`."""
    X, y, dtype = check_training_data(estimator, X, y, dtypes=dtypes, reset=reset, numeric=False)
    if hasattr(y, "tocsr"):
        raise ValueError("y must hold one class label a row, but it is a sparse label matrix")
    y = column_or_1d(y, warn=True)
    check_classification_targets(y)
    return X, y, dtype


def refuse_sparse(estimator: Any, X: Any) -> None:
    """Raise TypeError if X is sparse, in scikit-learn's words."""
    if hasattr(X, "tocsr"):
        name = type(estimator).__name__
        raise TypeError(f"Sparse data was passed for X, but {name} needs dense data. Use X.toarray() to convert it.")


def known_classes(estimator: Any, y: np.ndarray, classes: Any, *, incremental: bool) -> np.ndarray:
    """The classes of a fit (those in y), or of a `partial_fit` (those given at the first call).

    Raises
    ------
    ValueError
        `partial_fit` got no classes at its first call, or others than then, or a label that is none of them.
    """
    if not incremental:
        return distinct_labels(y)
    known = estimator.__dict__.get("classes_")
    if known is None and classes is None:
        raise ValueError("classes must be passed on the first call to partial_fit.")
    if known is not None and classes is not None and not np.array_equal(known, distinct_labels(classes)):
        raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {known!r}")
    known = distinct_labels(classes) if known is None else known
    class_positions(y, known)
    return known


def class_positions(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Number of each row's class; ValueError if a label is none of the classes."""
    positions = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    strange = classes[positions] != y
    if strange.any():
        unknown = distinct_labels(y[strange])
        raise ValueError(f"The target label(s) {unknown} in y do not exist in the initial classes {classes}")
    return positions


def network_outputs(network: Network, params: np.ndarray, X: Any, *, with_complement: bool = False) -> np.ndarray:
    """What the network says of X (dense, or CSR): array of shape (rows, outputs), or 1 - p and p of a single output."""
    predictor = backends.get().Predictor(network, params, with_complement=with_complement)
    out = np.empty((X.shape[0], predictor.columns), network.dtype)
    predict_rows(predictor, X, out)
    return out


def network_scores(network: Network, params: np.ndarray, X: Any) -> np.ndarray:
    """What the network says of X before its output activation: array of shape (rows, outputs)."""
    return network_outputs(without_output_activation(network), params, X)


def log_normalised(scores: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax of each row."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
