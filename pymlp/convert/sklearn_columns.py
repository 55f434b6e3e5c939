"""What scikit-learn's scalers and column transformers do to a table: each column they give is one they get, shifted and
scaled.

Such steps go into the first layer behind them.  What is none of them, such as an encoding of categories, is no part of
a network; then the scalers inside a `ColumnTransformer` can still be taken out of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from pymlp.convert.estimators import fitted_estimator
from pymlp.network import Network
from pymlp.standardisation import Scaling, Standardisation, fold


@dataclass(frozen=True, eq=False)
class Columns:
    """``feature[k] = (x[source[k]] - mean[k]) / deviation[k]``.

    Parameters
    ----------
    inputs : int
        Columns of x.
    source : int64 ndarray of shape (features,)
    mean, deviation : float64 ndarray of shape (features,)
        Deviations are not 0, but may be negative.
    names : sequence of str, optional
        Of the columns of x.
    """

    inputs: int
    source: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    names: Any = None

    @classmethod
    def of_all(cls, step: Any, mean: Any = 0.0, deviation: Any = 1.0) -> Columns:
        """One feature for each column that a fitted transformer gets."""
        inputs = step.n_features_in_
        return cls(
            inputs,
            np.arange(inputs),
            np.broadcast_to(np.asarray(mean, np.float64), (inputs,)),
            np.broadcast_to(np.asarray(deviation, np.float64), (inputs,)),
            getattr(step, "feature_names_in_", None),
        )

    def chosen(self, which: np.ndarray) -> Columns:
        """The features of these numbers."""
        return Columns(self.inputs, self.source[which], self.mean[which], self.deviation[which], self.names)

    def then(self, later: Columns) -> Columns:
        """Both in one, this one first."""
        mine = self.chosen(later.source)
        return Columns(
            self.inputs,
            mine.source,
            mine.mean + later.mean * mine.deviation,
            mine.deviation * later.deviation,
            self.names,
        )

    @property
    def is_identity(self) -> bool:
        """Whether the features are the columns as they are."""
        return (
            np.array_equal(self.source, np.arange(self.inputs)) and not self.mean.any() and np.all(self.deviation == 1)
        )

    @property
    def scaling(self) -> Scaling | None:
        """The same for each column of x, those that become no feature counting for nothing; None if one becomes two, or
        changes its sign."""
        if len(np.unique(self.source)) < len(self.source) or not np.all(self.deviation > 0):
            return None
        mean, deviation = np.zeros(self.inputs), np.full(self.inputs, np.inf)
        mean[self.source], deviation[self.source] = self.mean, self.deviation
        return Scaling(mean, deviation)

    def in_place(self, weight: np.ndarray) -> np.ndarray:
        """The rows of a weight (features, outputs) where their columns are: (inputs, outputs)."""
        placed = np.zeros((self.inputs, weight.shape[1]), weight.dtype)
        np.add.at(placed, self.source, weight)
        return placed

    def placed(self, network: Network, flat: np.ndarray) -> np.ndarray:
        """A flat vector of a network for the features, its first weight `in_place`."""
        weight = self.in_place(network.weights(flat)[0])
        return np.concatenate([weight.ravel(), flat[network.layout[0].bias.start :]])

    def fold(self, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The layer for x that does what a layer does for the features: in float64."""
        scaled = weight.astype(np.float64) / self.deviation[:, np.newaxis]
        return self.in_place(scaled), bias.astype(np.float64) - np.einsum("i,ij->j", self.mean, scaled)


def fitted_behind(
    columns: Columns | None,
    network: Network,
    params: np.ndarray,
    *,
    feature_names: Any = None,
    parameters: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """The `fitted_estimator` of a network for features, fed with the raw columns.

    It goes on training in the units of the features, as far as `Columns.scaling` can say what they are.
    """
    if columns is None:
        return fitted_estimator(network, params, feature_names=feature_names, parameters=parameters, **options)
    options["feature_names"] = columns.names
    if columns.is_identity:
        return fitted_estimator(network, params, parameters=parameters, **options)
    # first as one for the features: outputs may be put into another order, or two be made one
    made = fitted_estimator(network, params, **{**options, "feature_names": None})
    network, params = made.network_, made.params_
    if options["task"] != "numbers":
        options["classes"] = made.classes_
    raw, scaling = replace(network, inputs=columns.inputs), columns.scaling
    if scaling is None:
        weight, bias = columns.fold(network.weights(params)[0], network.biases(params)[0])
        flat = np.concatenate([weight.ravel(), bias, params[network.layout[0].bias.stop :]]).astype(raw.dtype)
        return fitted_estimator(raw, flat, parameters=parameters, **options)
    trained = columns.placed(network, params)
    parameters = {**(parameters or {}), "standardize": True}
    made = fitted_estimator(raw, fold(raw, trained, scaling)[1], parameters=parameters, **options)
    made._standardisation, made._trained_params = Standardisation(scaling, None), trained
    return made


def columns_of(step: Any) -> Columns | None:
    """What a fitted transformer does, or None if it is more than `Columns` say."""
    if isinstance(step, SelectorMixin):
        return Columns.of_all(step).chosen(np.flatnonzero(step.get_support()))
    found = _KINDS.get(type(step))
    return None if found is None else found(step)


def _standard(step: StandardScaler) -> Columns:
    mean = step.mean_ if step.with_mean else 0.0
    return Columns.of_all(step, mean, step.scale_ if step.with_std else 1.0)


def _min_max(step: MinMaxScaler) -> Columns | None:
    return None if step.clip else Columns.of_all(step, -step.min_ / step.scale_, 1 / step.scale_)


def _max_abs(step: MaxAbsScaler) -> Columns | None:
    # later versions can clip
    return None if getattr(step, "clip", False) else Columns.of_all(step, 0.0, step.scale_)


def _robust(step: RobustScaler) -> Columns:
    centre = step.center_ if step.with_centering else 0.0
    return Columns.of_all(step, centre, step.scale_ if step.with_scaling else 1.0)


def _function(step: FunctionTransformer) -> Columns | None:
    # what a column transformer makes of "passthrough"
    return Columns.of_all(step) if step.func is None and hasattr(step, "n_features_in_") else None


def _pipeline(pipeline: Pipeline) -> Columns | None:
    found = None
    for _, step in pipeline.steps:
        if step is None or step == "passthrough":
            continue
        columns = columns_of(step)
        if columns is None:
            return None
        found = columns if found is None else found.then(columns)
    return found


def _parts(transformer: ColumnTransformer) -> list[tuple[str, Any, np.ndarray, float]]:
    """Name, fitted step, columns and weight of all that gives columns, in the order of these."""
    weights = transformer.transformer_weights or {}
    found = []
    for name, step, _ in transformer.transformers_:
        # by number, however they were named
        columns = np.asarray(transformer._transformer_to_input_indices[name], np.int64)
        if len(columns) and not (isinstance(step, str) and step == "drop"):
            weight = weights.get(name)
            found.append((name, step, columns, 1.0 if weight is None else float(weight)))
    return found


def _column_transformer(transformer: ColumnTransformer) -> Columns | None:
    whole, found = Columns.of_all(transformer), []
    for _, step, columns, weight in _parts(transformer):
        features = columns_of(step)
        if features is None or weight == 0:
            return None
        placed = whole.chosen(columns).then(features)
        found.append((placed.source, placed.mean, placed.deviation / weight))
    if not found:
        return None
    return Columns(whole.inputs, *map(np.concatenate, zip(*found, strict=True)), whole.names)


_KINDS: dict[type, Callable[[Any], Columns | None]] = {
    StandardScaler: _standard,
    MinMaxScaler: _min_max,
    MaxAbsScaler: _max_abs,
    RobustScaler: _robust,
    FunctionTransformer: _function,
    Pipeline: _pipeline,
    ColumnTransformer: _column_transformer,
}


def without_scalers(transformer: ColumnTransformer) -> tuple[ColumnTransformer, Columns] | None:
    """A copy of a fitted transformer whose scalers leave their columns as they are, and what they do.

    None where there is nothing to take out of it, or where its output is sparse, which shifted columns would not be.
    """
    if transformer.sparse_output_:
        return None
    width = max((place.stop for place in transformer.output_indices_.values()), default=0)
    mean, deviation, idle = np.zeros(width), np.ones(width), {}
    for name, step, columns, weight in _parts(transformer):
        features = columns_of(step)
        if features is None or features.is_identity or not np.array_equal(features.source, np.arange(len(columns))):
            continue
        place = transformer.output_indices_[name]
        # the weight comes after the step, and stays
        mean[place], deviation[place] = features.mean * weight, features.deviation
        idle[name] = _idle(step)
    if not idle:
        return None
    bare = copy.deepcopy(transformer)
    bare.transformers_ = [(name, idle.get(name, step), columns) for name, step, columns in bare.transformers_]
    bare.transformers = [(name, idle.get(name, step), columns) for name, step, columns in bare.transformers]
    if "remainder" in idle:
        bare.remainder = idle["remainder"]
    return bare, Columns(width, np.arange(width), mean, deviation)


def _idle(step: Any) -> FunctionTransformer:
    """A fitted transformer that gives its columns as they are, but as numbers, as a scaler does."""
    found = FunctionTransformer(accept_sparse=True, check_inverse=False, feature_names_out="one-to-one", validate=True)
    for name in ("n_features_in_", "feature_names_in_", "_sklearn_output_config"):
        if hasattr(step, name):
            setattr(found, name, getattr(step, name))
    return found
