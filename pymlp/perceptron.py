"""What the two estimators share: the parameters, fitting on a draft, the views of the weights, state.

Every parameter is declared once, as a field of a dataclass.  Fitting works on a draft that the estimator takes over at
the end, so a fit that fails leaves a fitted model as it was.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_regressor
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from pymlp import backends, fitting
from pymlp.callbacks import check_callbacks
from pymlp.inference import predict_rows, without_output_activation
from pymlp.network import Network
from pymlp.options import describe, from_description, is_option
from pymlp.parameters import ParameterViews, copy_into
from pymlp.training import check_validation_is_whole
from pymlp.validation import (
    check_parameters,
    check_prediction_data,
    check_sample_weight,
    check_training_data,
    check_validation_data,
    hidden_widths,
)
from pymlp.versioned import VersionedState

# numbers and histories that a model file keeps
FITTED_RECORDS = (
    "n_iter_",
    "history_",
    "t_",
    "loss_",
    "best_loss_",
    "loss_curve_",
    "validation_scores_",
    "best_validation_score_",
)


def plain(value: Any) -> Any:
    """Numbers, strings, lists and dicts of Python in place of NumPy's and of option objects."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if is_option(value):
        value = describe(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, type):
        return np.dtype(value).name
    return value


def from_plain(value: Any) -> Any:
    """A parameter from what `plain` made of it; sequences are tuples."""
    if isinstance(value, list):
        return tuple(from_plain(item) for item in value)
    if isinstance(value, dict):
        value = {name: from_plain(item) for name, item in value.items()}
        return from_description(value) if "option" in value else value
    return value


@dataclass(eq=False, repr=False)
class FurtherParameters:
    """What both take beyond scikit-learn's parameters."""

    _: KW_ONLY
    scoring: Any = None
    max_time: float | None = None
    dtype: Any = None
    roll_back: bool = False


@dataclass(eq=False, repr=False)
class MultilayerPerceptron(VersionedState, BaseEstimator):
    """What the classifier and the regressor share: the parameters of both, and all but the handling of targets."""

    hidden_layer_sizes: Any = (100,)
    activation: Any = "relu"
    _: KW_ONLY
    solver: Any = "adam"
    alpha: float = 0.0001
    batch_size: Any = "auto"
    learning_rate: Any = "constant"
    learning_rate_init: float = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    random_state: Any = None
    tol: float = 1e-4
    verbose: bool = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10
    max_fun: int = 15000

    def set_callbacks(self, *callbacks: Any) -> MultilayerPerceptron:
        """Set the callbacks of the fits to come, in place of earlier ones; see `pymlp.callbacks`.

        Parameters
        ----------
        *callbacks : objects that follow the protocol
            None takes them all off.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            One does not follow the protocol.
        """
        callbacks = check_callbacks(callbacks)
        if callbacks:
            # scikit-learn's name, so that clone keeps them
            self._skl_callbacks = callbacks
        else:
            self.__dict__.pop("_skl_callbacks", None)
        return self

    def save(self, path: Any) -> None:
        """Write the fitted model to a file; see `pymlp.files.save`."""
        from pymlp import files

        files.save(self, path)

    @property
    def coefs_(self) -> ParameterViews:
        """Weights of each layer, (inputs, outputs): views of ``params_``."""
        return ParameterViews(self._fitted_network("coefs_").weights(self.params_))

    @coefs_.setter
    def coefs_(self, values: Any) -> None:
        copy_into(self.coefs_, values)

    @property
    def intercepts_(self) -> ParameterViews:
        """Biases of each layer, (outputs,): views of ``params_``."""
        return ParameterViews(self._fitted_network("intercepts_").biases(self.params_))

    @intercepts_.setter
    def intercepts_(self, values: Any) -> None:
        copy_into(self.intercepts_, values)

    def _fitted_network(self, name: str) -> Network:
        if "network_" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet, so it has no {name}")
        return self.network_

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        incremental: bool,
        classes: Any = None,
        validation: tuple[Any, Any, Any] = (None, None, None),
    ) -> MultilayerPerceptron:
        check_parameters(self)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        draft = object.__new__(type(self))
        start = dict(self.__dict__)
        draft.__dict__.update(start)
        try:
            network, data = draft._prepare(X, y, sample_weight, validation, incremental=incremental, classes=classes)
            fitting.fit(draft, self, network, data)
        except KeyboardInterrupt:
            # the draft has new parameters if at least one epoch was completed
            if draft.__dict__.get("params_") is not start.get("params_"):
                self._take_over(draft, start)
            raise
        self._take_over(draft, start)
        return self

    def _take_over(self, draft: MultilayerPerceptron, start: dict[str, Any]) -> None:
        """Take what has changed in `draft` since its attributes were `start`."""
        new = draft.__dict__
        for name in start.keys() - new.keys():
            self.__dict__.pop(name, None)
        missing = object()
        self.__dict__.update({name: value for name, value in new.items() if start.get(name, missing) is not value})

    def _prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any],
        *,
        incremental: bool,
        classes: Any,
    ) -> tuple[Network, fitting.Data]:
        """Check everything; on the draft alone."""
        hidden = hidden_widths(self.hidden_layer_sizes)
        first = "params_" not in self.__dict__ or not (self.warm_start or incremental)
        dtypes: tuple[str, ...] = ("float64", "float32")
        if not first:
            dtypes = (self.network_.dtype,)
        elif self.dtype is not None:
            dtypes = (np.dtype(self.dtype).name,)
        given = X, y
        X, labels, dtype = check_training_data(self, X, y, dtypes=dtypes, reset=first, numeric=is_regressor(self))
        y, loss = self._encode(labels, dtype, first=first, incremental=incremental, classes=classes)
        weight = check_sample_weight(sample_weight, X.shape[0], dtype)
        widths = (X.shape[1], *hidden, y.shape[1])
        network = Network.from_widths(widths, self.activation, loss=loss, dtype=dtype, l2=self.alpha)
        if not first and network.widths != self.network_.widths:
            raise ValueError(
                f"the model has the layer widths {self.network_.widths}, but its parameters and the data now ask for "
                f"{network.widths}; call fit with warm_start=False"
            )
        scored = self._check_validation(*validation, network)
        random = check_random_state(self.random_state)
        return network, fitting.Data(X, y, labels, weight, scored, first, incremental, random, given)

    def _check_validation(self, X: Any, y: Any, sample_weight: Any, network: Network) -> fitting.Scored | None:
        if X is None and y is None and sample_weight is None:
            return None
        check_validation_is_whole(X, y, "sample_weight_val")
        X, labels = check_validation_data(self, X, y, network.dtype, numeric=is_regressor(self))
        encoded = self._encode_validation(labels, network)
        weight = check_sample_weight(sample_weight, X.shape[0], network.dtype, "sample_weight_val")
        return fitting.Scored(X, encoded, labels, weight)

    def _starting_point(self, X: Any, y: Any, sample_weight: Any) -> fitting.StartingPoint:
        """Where a fit to these data would begin; leaves the estimator as it is."""
        check_parameters(self)
        draft = object.__new__(type(self))
        draft.__dict__.update(self.__dict__)
        network, data = draft._prepare(X, y, sample_weight, (None, None, None), incremental=False, classes=None)
        return fitting.starting_point(draft, network, data)

    def _outputs(self, X: Any, *, activated: bool = True, with_complement: bool = False) -> np.ndarray:
        check_is_fitted(self)
        X = check_prediction_data(self, X, self.network_.dtype)
        network = self.network_ if activated else without_output_activation(self.network_)
        predictor = backends.get().Predictor(network, self.params_, with_complement=with_complement)
        out = np.empty((X.shape[0], predictor.columns), network.dtype)
        predict_rows(predictor, X, out)
        return out

    def _prediction_state(self) -> tuple[Network, np.ndarray, bool, bool]:
        """What `pymlp.Predictor` is made of: also whether the answer has the complement of a single output as a column
        before it, and whether it has no axis for columns."""
        check_is_fitted(self)
        single, numbers = self.n_outputs_ == 1, is_regressor(self)
        return self.network_, self.params_, single and not numbers, single and numbers

    def _model_state(self) -> tuple[Network, np.ndarray, dict[str, Any]]:
        """What a model file holds; JSON-ready metadata.  The state of the optimizer is not part of it."""
        check_is_fitted(self)
        parameters = {name: plain(value) for name, value in self.get_params(deep=False).items()}
        for name, value in parameters.items():
            if callable(value):
                raise ValueError(
                    f"a model file has no place for the function {name}={value!r}: use pickle, or set another {name}"
                )
        if not isinstance(self.random_state, (int, np.integer)):
            parameters["random_state"] = None
        metadata: dict[str, Any] = {
            "class": type(self).__name__,
            "parameters": parameters,
            "features": [str(name) for name in getattr(self, "feature_names_in_", ())] or None,
            "fitted": {name: plain(getattr(self, name)) for name in FITTED_RECORDS if hasattr(self, name)},
        }
        if "history_" in metadata["fitted"]:
            # equal models have equal files
            del metadata["fitted"]["history_"]["seconds"]
        self._add_target_state(metadata)
        return self.network_, self.params_, metadata

    @classmethod
    def _from_model_state(cls, network: Network, params: np.ndarray, metadata: dict[str, Any]) -> MultilayerPerceptron:
        """The fitted estimator that `_model_state` described; ValueError if the metadata do not fit."""
        try:
            if metadata["class"] != cls.__name__:
                raise ValueError(f"the model is of class {metadata['class']!r}, not {cls.__name__}")
            parameters = metadata["parameters"]
            model = cls(**{name: from_plain(value) for name, value in parameters.items()})
            unknown = sorted(set(metadata["fitted"]) - set(FITTED_RECORDS))
            if unknown:
                raise ValueError(f"the model has unknown records: {', '.join(unknown)}")
            for name, value in metadata["fitted"].items():
                setattr(model, name, value)
            if "history_" in metadata["fitted"]:
                model.history_ = {**model.history_, "seconds": [None] * len(model.history_["loss"])}
            features = metadata["features"]
            if features is not None:
                if [type(name) for name in features] != [str] * network.inputs:
                    raise ValueError(f"the names of the {network.inputs} features must be as many strings")
                model.feature_names_in_ = np.array(features, object)
            model.n_features_in_ = network.inputs
            model._take_target_state(metadata, network)
            model._take_network(network, network.check_params(params))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the description of a {cls.__name__}: {error!r}") from error
        return model

    def _take_network(self, network: Network, params: np.ndarray) -> None:
        self.network_ = network
        self.n_outputs_ = network.outputs
        self.n_layers_ = len(network.widths)
        self.out_activation_ = network.output_activation
        self.params_ = params

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
