"""What the two estimators share: the parameters, fitting on a draft, the views of the weights, state.

Every parameter is declared once, as a field of a dataclass.  Fitting works on a draft that the estimator takes over at
the end, so a fit that fails leaves a fitted model as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from math import copysign
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from pymlp import (  # noqa: F401 - threadpoolctl shall know the engine
    backends,
    fitting,
    resumption,
    stream_fitting,
    threadpools,
)
from pymlp.callbacks import check_callbacks
from pymlp.checkpoints import Checkpoints
from pymlp.class_weights import check_counted
from pymlp.functions import PROBABILITIES
from pymlp.inference import predict_rows, without_output_activation
from pymlp.interruptible import copied
from pymlp.layers import Dense
from pymlp.looking_inside import LookingInside
from pymlp.losses import CustomLoss, described_loss, loss_description
from pymlp.model_state import checked_records, from_plain, plain, records_of
from pymlp.network import Network, random_source
from pymlp.parameters import ParameterViews, copy_into
from pymlp.standardisation import Standardisation
from pymlp.training import check_validation_is_whole
from pymlp.validation import (
    check_parameters,
    check_prediction_data,
    check_sample_weight,
    check_training_data,
    check_validation_data,
    hidden_layers,
)
from pymlp.versioned import VersionedState


def _shapes(network: Network) -> list[tuple[str, tuple[int, ...]]]:
    # of all that is learnt
    return [(f"{row.layer}.{part.name}", part.shape) for row in network.table for part in row.parts]


def _new_network(
    widths: tuple[int | Dense, ...],
    activation: Any,
    loss: Any,
    dropout: float,
    dtype: str,
    l1: float,
    l2: float,
    input_dropout: float,
) -> Network:
    return Network.from_widths(
        widths, activation, loss=loss, dropout=dropout, dtype=dtype, l1=l1, l2=l2, input_dropout=input_dropout
    )


# the many small fits of a search or of an ensemble have the same
_known_network = lru_cache(maxsize=128, typed=True)(_new_network)


@dataclass(eq=False, repr=False)
class FurtherParameters:
    """What both take beyond scikit-learn's parameters."""

    _: KW_ONLY
    dropout: float = 0.0
    l1_ratio: float = 0.0
    scoring: Any = None
    standardize: bool = False
    max_time: float | None = None
    dtype: Any = None
    roll_back: bool = False
    input_dropout: float = 0.0


@dataclass(eq=False, repr=False)
class MultilayerPerceptron(LookingInside, VersionedState, BaseEstimator):
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

    # no parameters: how a fitted estimator scaled what it was trained on, and its parameters in those units
    _standardisation = None
    _trained_params = None
    # what a model file may say of it
    _state_keys: ClassVar[frozenset[str]] = frozenset(("class", "parameters", "features", "fitted", "standardisation"))

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
        checkpoints: Checkpoints | None = None,
    ) -> MultilayerPerceptron:
        if incremental and self.early_stopping:
            check_parameters(self)
            raise ValueError("partial_fit does not support early_stopping=True")
        return self._fit_draft(
            lambda draft: draft._prepare(X, y, sample_weight, validation, incremental=incremental, classes=classes),
            checkpoints,
        )

    def _fit_stream(
        self,
        source: Any,
        n_rows: Any,
        classes: Any,
        validation: tuple[Any, Any, Any],
        checkpoints: Checkpoints | None,
    ) -> MultilayerPerceptron:
        return self._fit_draft(
            lambda draft: stream_fitting.prepare(draft, source, n_rows, classes, validation), checkpoints
        )

    def _fit_draft(
        self,
        prepare: Callable[[MultilayerPerceptron], tuple[Network, fitting.Data]],
        checkpoints: Checkpoints | None,
    ) -> MultilayerPerceptron:
        """Train a draft on what `prepare` makes of it, and take it over."""
        check_parameters(self)
        draft = object.__new__(type(self))
        start = dict(self.__dict__)
        draft.__dict__.update(start)
        try:
            network, data = prepare(draft)
            if checkpoints is not None:
                data = resumption.opened(draft, network, data, checkpoints)
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
        new, missing = draft.__dict__, object()
        changed = {name: value for name, value in new.items() if start.get(name, missing) is not value}
        taken = {**self.__dict__, **changed}
        for name in start.keys() - new.keys():
            taken.pop(name, None)
        # in one step: where memory ends before it, nothing has changed
        self.__dict__ = taken

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
        first = self._is_first_pass(incremental=incremental)
        given, dtypes = (X, y), self._dtypes(first=first)
        X, labels, dtype = check_training_data(self, X, y, dtypes=dtypes, reset=first, numeric=self._takes_numbers())
        y, loss = self._encode(labels, dtype, first=first, incremental=incremental, classes=classes)
        sample_weight = check_sample_weight(sample_weight, X.shape[0], dtype)
        weight = self._loss_weight(y, sample_weight)
        if not incremental:
            # of a stream's rows these may be some that do not count
            check_counted(weight)
        network = self._network_for(X.shape[1], y.shape[1], loss, dtype)
        self._check_network(network, first=first)
        scored = self._check_validation(*validation, network)
        random = random_source(self.random_state)
        data = fitting.Data(X, y, labels, weight, sample_weight, scored, first, incremental, random, given)
        return network, data

    def _takes_numbers(self) -> bool:
        # scikit-learn's is_regressor makes all tags for the answer
        return isinstance(self, RegressorMixin)

    def _is_first_pass(self, *, incremental: bool) -> bool:
        """Whether parameters are drawn anew."""
        return "params_" not in self.__dict__ or not (self.warm_start or incremental)

    def _dtypes(self, *, first: bool) -> tuple[str, ...]:
        """Types to compute in: that of X if it is one of them, else the first."""
        if not first:
            return (self.network_.dtype,)
        return ("float64", "float32") if self.dtype is None else (np.dtype(self.dtype).name,)

    def _network_for(self, inputs: int, outputs: int, loss: Any, dtype: str) -> Network:
        """What the parameters describe."""
        widths = (inputs, *hidden_layers(self.hidden_layer_sizes), outputs)
        l1, l2 = self.alpha * self.l1_ratio, self.alpha * (1.0 - self.l1_ratio)
        numbers = self.dropout, l1, l2, self.input_dropout
        arguments = widths, self.activation, loss, self.dropout, dtype, l1, l2, self.input_dropout
        # -0.0 would be found where 0.0 is asked for: they are equal
        plain = all(type(width) is int for width in widths) and not any(
            x == 0 and copysign(1.0, x) < 0 for x in numbers
        )
        if plain and type(self.activation) is type(loss) is str:
            return _known_network(*arguments).twin()
        return _new_network(*arguments)

    def _check_network(self, network: Network, *, first: bool) -> None:
        """ValueError if the network cannot be trained by the other parameters, or goes on from one that it does not
        fit."""
        if not first and network.widths != self.network_.widths:
            raise ValueError(
                f"the model has the layer widths {self.network_.widths}, but its parameters and the data now ask for "
                f"{network.widths}; call fit with warm_start=False"
            )
        same = first or network.layers == self.network_.layers
        if not same and _shapes(network) != _shapes(self.network_):
            raise ValueError(
                f"the model has the layers {self.network_.layers}, but its parameters now ask for {network.layers}, "
                "which learn other arrays; call fit with warm_start=False"
            )
        if self.solver == "lbfgs":
            for position, layer in enumerate(network.layers):
                name = "dropout" if layer.dropout else "max_norm" if layer.max_norm else None
                if name is not None:
                    raise ValueError(
                        f"solver='lbfgs' minimises one function and takes no steps that {name} could act in, but "
                        f"layer {position} has {name}={getattr(layer, name)!r}: choose a stochastic solver"
                    )
            if network.input_dropout:
                raise ValueError(
                    f"solver='lbfgs' minimises one function: input_dropout={network.input_dropout!r} needs a "
                    "stochastic solver"
                )
        if self.standardize and network.layers[0].residual:
            raise ValueError(
                "standardize=True cannot be folded into a first layer with residual=True, which passes its inputs on: "
                "scale X beforehand"
            )

    def _check_validation(self, X: Any, y: Any, sample_weight: Any, network: Network) -> fitting.Scored | None:
        if X is None and y is None and sample_weight is None:
            return None
        check_validation_is_whole(X, y, "sample_weight_val")
        X, labels = check_validation_data(self, X, y, network.dtype, numeric=self._takes_numbers())
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
        network = self.network_
        if not activated and network.output_activation != "identity":
            network = without_output_activation(network)
        predictor = backends.get().Predictor(network, self.params_, with_complement=with_complement)
        out = np.empty((X.shape[0], predictor.columns), network.dtype)
        predict_rows(predictor, X, out)
        scale = self._output_scale()
        return out if scale is None else out * scale[0] + scale[1]

    def _output_scale(self) -> tuple[np.ndarray, np.ndarray] | None:
        """What outputs must be multiplied by, and what then added, where the network gives them in the units it was
        trained in."""
        return None if self._standardisation is None else self._standardisation.output_scale(self.network_)

    def _prediction_state(self) -> tuple[Network, np.ndarray, bool, bool]:
        """What `pymlp.Predictor` is made of, with `_output_scale`: also whether the answer has the complement of a
        single output as a column before it, and whether it has no axis for columns."""
        check_is_fitted(self)
        paired = not self._takes_numbers() and self.network_.output_activation in PROBABILITIES
        single = self.n_outputs_ == 1
        return self.network_, self.params_, single and paired, single and not paired

    def _model_state(self) -> tuple[Network, np.ndarray, dict[str, Any]]:
        """What a model file holds; JSON-ready metadata.  The state of the optimizer is not part of it."""
        check_is_fitted(self)
        parameters = {name: plain(value) for name, value in self.get_params(deep=False).items()}
        if isinstance(self.network_.loss, CustomLoss):
            # the function itself has no place in a file
            parameters["loss"] = loss_description(self.network_.loss)
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
            "fitted": records_of(self),
        }
        if self._standardisation is not None:
            metadata["standardisation"] = self._standardisation.state
        self._add_target_state(metadata)
        return self.network_, self.params_, metadata

    @classmethod
    def _from_model_state(cls, network: Network, params: np.ndarray, metadata: dict[str, Any]) -> MultilayerPerceptron:
        """The fitted estimator that `_model_state` described; ValueError if the metadata do not fit."""
        try:
            if metadata["class"] != cls.__name__:
                raise ValueError(f"the model is of class {metadata['class']!r}, not {cls.__name__}")
            unknown = sorted(set(metadata) - cls._state_keys)
            if unknown:
                raise ValueError(f"the model has unknown entries: {', '.join(unknown)}")
            parameters = metadata["parameters"]
            if isinstance(network.loss, CustomLoss):
                parameters = {**parameters, "loss": described_loss(parameters["loss"])}
            model = cls(**{name: from_plain(value) for name, value in parameters.items()})
            check_parameters(model)
            hidden_layers(model.hidden_layer_sizes)
            for name, value in checked_records(metadata["fitted"]).items():
                setattr(model, name, value)
            features = metadata["features"]
            if features is not None:
                if not isinstance(features, list) or [type(name) for name in features] != [str] * network.inputs:
                    raise ValueError(f"the names of the {network.inputs} features must be as many strings")
                model.feature_names_in_ = np.array(features, object)
            model.n_features_in_ = network.inputs
            if metadata.get("standardisation") is not None:
                model._standardisation = Standardisation.from_state(metadata["standardisation"], network)
            model._take_target_state(metadata, network)
            model._take_network(network, network.check_params(params))
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not the description of a {cls.__name__}: {error!r}") from error
        return model

    def _folded(self, network: Network, params: np.ndarray) -> np.ndarray:
        """Parameters for raw values from those that are trained."""
        return params if self._standardisation is None else self._standardisation.fold(network, params)

    def _params_to_train(self) -> np.ndarray:
        """A copy of the fitted parameters in the units of training."""
        if self._standardisation is None:
            return copied(self.params_)
        trained = self._trained_params
        # to the bit, unless somebody changed them in the meantime
        if trained is not None and np.array_equal(self._folded(self.network_, trained), self.params_):
            return trained.copy()
        return self._standardisation.unfold(self.network_, self.params_)

    def _take_trained(self, network: Network, params: np.ndarray) -> None:
        self._trained_params = None if self._standardisation is None else params
        self._take_network(network, self._folded(network, params))

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
