"""scikit-learn's `MLPClassifier` and `MLPRegressor`: their arrays, parameters, records and moments, in both directions.

The two classes here were made after those, so nearly everything has a place of the same name; a network goes the other
way as far as scikit-learn's has a place for it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import sparse
from sklearn import neural_network

import pymlp
from pymlp.convert.errors import ConversionError
from pymlp.convert.sklearn_columns import Columns, fitted_behind
from pymlp.course import Course
from pymlp.epochs import new_history
from pymlp.fitting import NAMED_PARAMETERS
from pymlp.network import DTYPES, Network
from pymlp.optimizers import SGD, Adam
from pymlp.portable import PortableModel
from pymlp.stopping import Descent

# the losses that scikit-learn's perceptrons have, by what their outputs go through
LOSSES = {"softmax": "log_loss", "logistic": "binary_log_loss", "identity": "squared_error", "exp": "poisson"}
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
SOLVERS = ("lbfgs", "sgd", "adam")
RATES = ("constant", "invscaling", "adaptive")
# records of a fit that have one name and one meaning here and there
RECORDS = ("loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_")
# parameters that say how to train, and are to be as they are only once the arrays are there
_LATER = {"solver": "adam", "batch_size": "auto", "early_stopping": False, "verbose": False, "random_state": 0}


def from_perceptron(model: Any, columns: Columns | None, dtype: str | None) -> Any:
    """The same model here, fed with raw columns."""
    kept = model.coefs_[0].dtype.name if model.coefs_[0].dtype.name in DTYPES else "float64"
    widths = (len(model.coefs_[0]), *(coef.shape[1] for coef in model.coefs_))
    if model.activation not in ACTIVATIONS:
        raise ConversionError(f"activation={model.activation!r} is none of {', '.join(ACTIVATIONS)}")
    network = Network.from_widths(
        widths, model.activation, loss=LOSSES[model.out_activation_], dtype=dtype or kept, l2=float(model.alpha)
    )
    made = fitted_behind(
        columns,
        network,
        _flat(network, [*model.coefs_, *model.intercepts_]),
        task=_task(model),
        classes=getattr(model, "classes_", None),
        feature_names=getattr(model, "feature_names_in_", None),
        sparse_labels=bool(getattr(getattr(model, "_label_binarizer", None), "sparse_input_", False)),
        parameters={**_parameters(model), "dtype": dtype},
    )
    _take_records(made, model)
    descent = _descent(network, model)
    if descent is not None and columns is not None:
        # of a column that became two features nothing is known but the sum
        descent.slots = np.stack([columns.placed(network, slot) for slot in descent.slots])
        descent = None if columns.scaling is None else descent
    if descent is not None:
        made._descent = descent
    return made


def _flat(network: Network, arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Arrays in scikit-learn's order, the weights and then the biases, as one vector."""
    flat = np.empty(network.n_parameters, network.dtype)
    for view, array in zip([*network.weights(flat), *network.biases(flat)], arrays, strict=True):
        view[...] = array
    return flat


def _task(model: Any) -> str:
    if not hasattr(model, "classes_"):
        return "numbers"
    if model.out_activation_ == "softmax":
        return "multiclass"
    return "binary" if model.n_outputs_ == 1 else "multilabel-indicator"


def _parameters(model: Any) -> dict[str, Any]:
    kind = pymlp.MLPClassifier if hasattr(model, "classes_") else pymlp.MLPRegressor
    decided = {"hidden_layer_sizes", "activation", "loss", "alpha"}
    own = set(kind().get_params(deep=False)) - decided
    # a generator is copied as by sklearn.base.clone: both models draw the same
    return {name: copy.deepcopy(value) for name, value in model.get_params(deep=False).items() if name in own}


def _take_records(made: Any, model: Any) -> None:
    made.n_iter_, made.t_ = int(model.n_iter_), int(model.t_)
    for name in RECORDS:
        made.__dict__.pop(name, None)
        if hasattr(model, name):
            setattr(made, name, _numbers(getattr(model, name)))
    if hasattr(model, "_no_improvement_count"):
        made._no_improvement_count = int(model._no_improvement_count)
    losses, scores = getattr(made, "loss_curve_", []), getattr(made, "validation_scores_", None)
    made.history_ = {name: [None] * len(losses) for name in new_history("validation_score")}
    made.history_["loss"] = list(losses)
    if scores is not None and len(scores) == len(losses):
        made.history_["validation_score"] = list(scores)


def _numbers(value: Any) -> Any:
    if value is None:
        return None
    return [float(number) for number in value] if np.ndim(value) else float(value)


def _descent(network: Network, model: Any) -> Descent | None:
    """The optimizer where scikit-learn's has got to."""
    optimizer = getattr(model, "_optimizer", None)
    if hasattr(optimizer, "velocities"):
        ours, moments, step = SGD(momentum=optimizer.momentum, nesterov=bool(optimizer.nesterov)), ["velocities"], 0
        course = Course(optimizer.lr_schedule, float(optimizer.learning_rate_init), optimizer.power_t)
        course.rate = float(optimizer.learning_rate)
    elif hasattr(optimizer, "ms"):
        ours = Adam(beta_1=optimizer.beta_1, beta_2=optimizer.beta_2, epsilon=optimizer.epsilon)
        moments, step = ["ms", "vs"], int(optimizer.t)
        course = Course("constant", float(optimizer.learning_rate_init))
    else:
        return None
    return Descent(ours, course, np.stack([_flat(network, getattr(optimizer, name)) for name in moments]), step)


def to_perceptron(found: PortableModel, model: Any) -> Any:
    """The same model in scikit-learn; `found` is what `model` answers."""
    network, params = _held(found)
    activations = {layer.activation for layer in network.layers[:-1]} or {"relu"}
    classes = found.task != "numbers"
    kind = neural_network.MLPClassifier if classes else neural_network.MLPRegressor
    settings = {name: value for name, value in _settings(model).items() if name in kind().get_params()}
    settings |= {"hidden_layer_sizes": network.widths[1:-1], "activation": activations.pop(), "alpha": network.l2}
    if not classes:
        settings["loss"] = LOSSES[network.output_activation]
    later = {name: settings.get(name, value) for name, value in kind().get_params().items() if name in _LATER}
    made = kind(**settings).set_params(**_LATER)
    if later["solver"] == "sgd":
        made.set_params(solver="sgd")
    _begin(made, found, sparse_labels=getattr(getattr(model, "_targets", None), "sparse_labels", False))
    made.set_params(**later)
    made.coefs_ = [view.copy() for view in network.weights(params)]
    made.intercepts_ = [view.copy() for view in network.biases(params)]
    if found.feature_names is not None:
        made.feature_names_in_ = np.array(found.feature_names, object)
    _give_records(made, model)
    _give_descent(made, network, model)
    return made


def _held(found: PortableModel) -> tuple[Network, np.ndarray]:
    """Network and parameters, if scikit-learn has a place for them; ConversionError says what has none."""
    network, params = found.network, found.params
    first = None
    for number, layer in enumerate(network.layers[:-1]):
        for name in ("normalization", "residual", "parametric"):
            if getattr(layer, name):
                raise ConversionError(
                    f"layers[{number}] has {name}={getattr(layer, name)!r}, which no layer of scikit-learn's has"
                )
        if layer.activation not in ACTIVATIONS:
            raise ConversionError(
                f"layers[{number}] has the activation {layer.activation!r}; scikit-learn has {', '.join(ACTIVATIONS)}"
            )
        first = first or layer.activation
        if layer.activation != first:
            raise ConversionError(
                f"layers[{number}] has the activation {layer.activation!r} and layers[0] {first!r}; scikit-learn has "
                "one for all hidden layers"
            )
    last, activation = len(network.layers) - 1, network.output_activation
    # the first of a group is itself
    if activation == "ascending" and network.loss_function.group == 1:
        activation = "identity"
    expected = {"binary": ["logistic"], "multiclass": ["softmax"], "multilabel-indicator": ["logistic"]}
    if activation not in expected.get(found.task, ["identity", "exp"]):
        raise ConversionError(
            f"layers[{last}], the output layer, has the activation {activation!r} of the loss "
            f"{network.loss_function.name!r}; for task={found.task!r} scikit-learn has "
            f"{' or '.join(expected.get(found.task, ['identity', 'exp']))}"
        )
    if found.output_scale is not None:
        for view in (network.weights(params)[-1], network.biases(params)[-1]):
            view *= found.output_scale[0]
        network.biases(params)[-1][...] += found.output_scale[1]
    plain = Network.from_widths(
        network.widths, first or "relu", loss=LOSSES[activation], dtype=network.dtype, l2=network.l2
    )
    return plain, params


def _settings(model: Any) -> dict[str, Any]:
    """The parameters of an estimator that scikit-learn's take as they are."""
    settings = copy.deepcopy(model.get_params(deep=False)) if hasattr(model, "get_params") else {}
    solver = settings.get("solver", "adam")
    if not isinstance(solver, str):
        settings |= {ours: getattr(solver, own) for own, ours in NAMED_PARAMETERS.get(solver.name, {}).items()}
        solver = solver.name
    settings["solver"] = solver if solver in SOLVERS else "adam"
    if settings.get("learning_rate") not in RATES:
        settings["learning_rate"] = "constant"
    return settings


def _begin(made: Any, found: PortableModel, *, sparse_labels: bool) -> None:
    """Make scikit-learn's model ready by a row of zeros: what else it keeps, and how, is its own affair."""
    network = found.network
    rows = np.zeros((1, network.inputs), network.dtype)
    if found.task == "numbers":
        made.partial_fit(rows, np.zeros((1, network.outputs) if network.outputs > 1 else 1))
    elif found.task == "multilabel-indicator":
        labels = np.zeros((1, network.outputs), np.int64)
        made.partial_fit(rows, sparse.csr_matrix(labels) if sparse_labels else labels, classes=found.classes)
    else:
        made.partial_fit(rows, found.classes[:1], classes=found.classes)


def _give_records(made: Any, model: Any) -> None:
    made.n_iter_, made.t_ = getattr(model, "n_iter_", 0), getattr(model, "t_", 0)
    for name in RECORDS:
        made.__dict__.pop(name, None)
        if hasattr(model, name):
            setattr(made, name, copy.copy(getattr(model, name)))
    made._no_improvement_count = getattr(model, "_no_improvement_count", 0)
    if made.solver == "lbfgs":
        return
    made.loss_curve_ = list(getattr(model, "loss_curve_", []))
    if made.early_stopping:
        made.best_validation_score_ = getattr(model, "best_validation_score_", None)
    else:
        # it watches nothing but the loss, and a loss is lower than none
        made.validation_scores_ = made.best_validation_score_ = None
        if getattr(made, "best_loss_", None) is None:
            made.best_loss_ = np.inf


def _give_descent(made: Any, network: Network, model: Any) -> None:
    """The moments, where scikit-learn's optimizer would have come to the same; else it begins anew."""
    descent = getattr(model, "_descent", None)
    optimizer = made.__dict__.pop("_optimizer")
    if descent is None or getattr(model, "_standardisation", None) is not None or made.solver == "lbfgs":
        return
    ours, course = descent.optimizer, descent.course
    if ours != type(ours)(**{name: getattr(ours, name) for name in NAMED_PARAMETERS.get(ours.name, {})}):
        # it clips, decays or averages
        return
    fits = descent.slots.shape[1] == network.n_parameters and descent.slots.dtype == network.dtype
    if not fits or ours.name != made.solver or course.schedule not in RATES:
        return
    moments = [[*map(np.copy, network.weights(slot)), *map(np.copy, network.biases(slot))] for slot in descent.slots]
    if ours.name == "sgd":
        optimizer.velocities, optimizer.learning_rate = moments[0], course.rate * course.factor
        optimizer.momentum, optimizer.nesterov, optimizer.lr_schedule = ours.momentum, ours.nesterov, course.schedule
    elif course.factor == 1.0:
        (optimizer.ms, optimizer.vs), optimizer.t = moments, descent.step
        optimizer.beta_1, optimizer.beta_2, optimizer.epsilon = ours.beta_1, ours.beta_2, ours.epsilon
    else:
        return
    optimizer.learning_rate_init = course.base
    made._optimizer = optimizer
