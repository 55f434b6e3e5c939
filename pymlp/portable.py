"""A fitted model as other programs need it: a network, its numbers, and what its outputs mean.

The exporters (`pymlp.export`) and the converters (`pymlp.convert`) all begin here, so that what a model answers is said
once: which columns the network has, how they are scaled, and how labels are read from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pymlp.functions import PROBABILITIES
from pymlp.network import Network

# what the columns are; the first three as `pymlp.targets` names them
TASKS = ("binary", "multiclass", "multilabel-indicator", "numbers")


@dataclass(frozen=True, eq=False)
class PortableModel:
    """A network with its parameters, and what its outputs mean.

    Parameters
    ----------
    network : Network
        For raw inputs: what `standardize` learnt of them is folded into the first layer.
    params : ndarray of shape (network.n_parameters,)
        A copy.
    task : {"binary", "multiclass", "multilabel-indicator", "numbers"}
        One column for two classes (or for a single one), a column for each class, one for each label, or plain numbers.
    classes : ndarray of shape (classes,), optional
        The labels in ascending order; of a label matrix the numbers of its columns; None for numbers.
    threshold : float, default=0.0
        Where the decision of a single column, or of a label's, lies: above it is the second class.
    feature_names : tuple of str, optional
        Names of the inputs.
    output_scale : pair of ndarray of shape (outputs,), optional
        What outputs must be multiplied by, and what then added.
    input_threshold : float, optional
        What is above it counts as 1 on the way into the network, all else as 0; by default inputs stay as they are.
    """

    network: Network
    params: np.ndarray
    task: str = "numbers"
    classes: np.ndarray | None = None
    threshold: float = 0.0
    feature_names: tuple[str, ...] | None = None
    output_scale: tuple[np.ndarray, np.ndarray] | None = None
    input_threshold: float | None = None

    def seen(self, X: Any) -> Any:
        """X (rows, inputs), dense or CSR, as the network is given it: what is above `input_threshold` counts as 1."""
        if self.input_threshold is None:
            return X
        dense = X.toarray() if hasattr(X, "tocsr") else X
        return (dense > self.input_threshold).astype(self.network.dtype)

    @property
    def gives_probabilities(self) -> bool:
        """Whether the outputs are probabilities of classes or labels."""
        return self.task != "numbers" and self.network.output_activation in PROBABILITIES

    @property
    def with_complement(self) -> bool:
        """Whether a probability has its complement as a column before it."""
        return self.task == "binary" and self.gives_probabilities


def portable(model: Any, params: np.ndarray | None = None) -> PortableModel:
    """What of a fitted model can be taken elsewhere.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor, a classic classifier of this package, Network, or (Network, ndarray)
    params : ndarray of shape (n_parameters,), optional
        With a `Network` alone.

    Raises
    ------
    TypeError
        `model` is nothing of this package that predicts, or `params` is missing or too much.
    ValueError
        `params` does not fit the network.
    sklearn.exceptions.NotFittedError
        The estimator has not been fitted.
    """
    if isinstance(model, tuple) and len(model) == 2 and isinstance(model[0], Network) and params is None:
        model, params = model
    if isinstance(model, Network):
        if params is None:
            raise TypeError("params is missing: a Network holds no numbers")
        return PortableModel(model, model.check_params(params).copy())
    if params is not None:
        raise TypeError(f"params goes with a Network; this {type(model).__name__} has its own")
    names = getattr(model, "feature_names_in_", None)
    feature_names = None if names is None else tuple(map(str, names))
    if hasattr(model, "_prediction_state"):
        network, flat, _, _ = model._prediction_state()
    elif hasattr(model, "to_network"):
        # the classic classifiers that have no probabilities of their own
        network, flat = model.to_network()
    else:
        raise TypeError(f"model must be a fitted estimator of pymlp or a Network, got {type(model).__name__}")
    scale = model._output_scale() if hasattr(model, "_output_scale") else None
    classes = getattr(model, "classes_", None)
    if classes is None:
        return PortableModel(network, flat.copy(), feature_names=feature_names, output_scale=scale)
    threshold = 0.5 if network.output_activation in PROBABILITIES else 0.0
    targets = getattr(model, "_targets", None)
    # only the perceptrons take label matrices
    task = targets.kind if targets is not None else "binary" if network.outputs == 1 else "multiclass"
    # of the estimators, BernoulliNB alone asks of an input whether it is there
    binarize = getattr(model, "binarize", None)
    return PortableModel(network, flat.copy(), task, classes, threshold, feature_names, scale, binarize)
