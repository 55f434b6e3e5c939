"""Models from PyTorch's modules, and to them.

A module is read by what it is, an instance of a class of ``torch.nn``, and never run: what a ``forward`` of one's own
does nobody can tell.  PyTorch itself is needed to make modules alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pymlp.convert.chains import Chain, answered
from pymlp.convert.errors import ConversionError
from pymlp.functions import ACTIVATIONS, LEAKY_SLOPE
from pymlp.layers import NORM_EPSILON
from pymlp.losses import CustomLoss, described_loss, loss_description
from pymlp.portable import PortableModel, portable

# the epsilon that torch.nn.BatchNorm1d has unless told otherwise: a state_dict does not say
BATCH_EPSILON = 1e-5
# where torch.nn.Softplus turns into x itself unless told otherwise
SOFTPLUS_THRESHOLD = 20.0
# the attribute of a module that says what its outputs mean
ANSWERS = "pymlp_answers"


def from_torch(
    model: Any,
    *,
    task: str | None = None,
    classes: Any = None,
    activation: str | Sequence[str] | None = None,
    output_activation: str | None = None,
    loss: Any = None,
    dtype: str | None = None,
    feature_names: Sequence[str] | None = None,
) -> Any:
    """Make a network, or a fitted estimator, of a module of PyTorch.

    Parameters
    ----------
    model : torch.nn.Sequential or mapping of str to Tensor or ndarray
        A chain of ``Linear``, activations, ``Dropout``, ``BatchNorm1d``, ``LayerNorm``, ``PReLU``, ``Flatten``,
        ``Identity`` and further ``Sequential``; as it computes in eval mode.  Or a ``state_dict`` of ``Linear``, with
        ``BatchNorm1d`` and ``LayerNorm`` of the usual epsilon right behind them.
    task : {"binary", "multiclass", "multilabel-indicator", "numbers"}, optional
        What the outputs mean; makes an estimator.
    classes : sequence of labels, optional
        The label of each output, in their order; of a single output that of low values and that of high ones.  Makes a
        classifier, and says enough of the task unless each output is a label by itself.
    activation : str or sequence of str, optional
        With a ``state_dict``, which has none: of all hidden layers, or of each.
    output_activation : str, optional
        With a ``state_dict``: of the last layer.
    loss : str, object of `pymlp.losses` or callable, optional
        What to train on by; by default the usual one of the task, or of the last activation.
    dtype : {"float32", "float64"}, optional
        By default that of the weights, at least float32.
    feature_names : sequence of str, optional
        Of an estimator.

    Returns
    -------
    (Network, ndarray) or MLPClassifier or MLPRegressor
        An estimator with `task` or `classes`, or if `to_torch` made the module of one.

        The answers are those of the module, but for its last activation: a classifier whose module ends in scores, as
        ``CrossEntropyLoss`` and ``BCEWithLogitsLoss`` want, gives probabilities of them, and ``LogSoftmax`` becomes
        ``Softmax``.

    Raises
    ------
    ConversionError
        A ValueError: a layer is unknown, or has an option that no layer here has, or layers do not fit together; it
        names the layer.

    Notes
    -----
    A ``BatchNorm1d`` goes into the weights beside it, a ``LeakyReLU`` of another slope than 0.01 and a ``PReLU`` become
    a parametric layer, which learns its slopes.  A layer in a place that no layer here has it in, such as a
    ``LayerNorm`` before the first ``Linear``, gets a product with the identity to follow.

    Examples
    --------
    >>> import torch
    >>> from pymlp.convert import from_torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> from_torch(module, classes=["a", "b", "c"]).predict([[0.0, 0.0, 0.0, 0.0]]).shape
    (1,)
    """
    chain = Chain()
    if isinstance(model, Mapping):
        _read_state(chain, model, activation, output_activation)
    else:
        for name, value in (("activation", activation), ("output_activation", output_activation)):
            if value is not None:
                raise ConversionError(f"{name} goes with a state_dict; a module has its own")
        _read(chain, model, "")
        answers = getattr(model, ANSWERS, {})
        if task is None and classes is None:
            task, classes = answers.get("task"), answers.get("classes")
            feature_names = answers.get("feature_names") if feature_names is None else feature_names
        if loss is None and "loss" in answers:
            loss = described_loss(answers["loss"])
    return answered(chain, task=task, classes=classes, loss=loss, dtype=dtype, feature_names=feature_names)


def _array(tensor: Any) -> np.ndarray:
    """A tensor's numbers, of float32 at least."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        # NumPy has no bfloat16
        tensor = tensor.double() if str(tensor.dtype) == "torch.float64" else tensor.float()
    return np.asarray(tensor)


def _optional(tensor: Any) -> np.ndarray | None:
    return None if tensor is None else _array(tensor)


def _told(place: str, module: Any) -> str:
    name = type(module).__name__
    return f"layer {place!r} ({name})" if place else name


def _read(chain: Chain, module: Any, place: str) -> None:
    """Add what a module does to the chain; `place` is its name as a ``state_dict`` has it."""
    kind = type(module)
    reader = _READERS.get(kind.__name__) if kind.__module__.startswith(_MODULES) else None
    if reader is None:
        advice = ", or give its state_dict() with activation=" if not kind.__module__.startswith("torch.nn.") else ""
        raise ConversionError(
            f"{_told(place, module)} is of {kind.__module__}.{kind.__qualname__}, which cannot be converted; what can "
            f"are Sequential and {', '.join(sorted(set(_READERS) - {'Sequential'}))} of torch.nn{advice}"
        )
    if module._forward_hooks or module._forward_pre_hooks:
        raise ConversionError(
            f"{_told(place, module)} has forward hooks, and what they do cannot be converted: remove them, and weight "
            "norms, spectral norms or prunings that act by them, first"
        )
    reader(chain, module, place)


def _refuse(place: str, module: Any, option: str, wanted: str) -> None:
    value = getattr(module, option)
    raise ConversionError(f"{_told(place, module)} has {option}={value!r}, and can be converted with {wanted} alone")


def _sequential(chain: Chain, module: Any, place: str) -> None:
    # named_children() leaves out what has come before, such as one ReLU in several places
    for name, child in module._modules.items():
        _read(chain, child, f"{place}.{name}" if place else name)


def _linear(chain: Chain, module: Any, place: str) -> None:
    chain.dense(_told(place, module), _array(module.weight).T, _optional(module.bias))


def _flatten(chain: Chain, module: Any, place: str) -> None:
    if (module.start_dim, module.end_dim) not in ((1, -1), (1, 1)):
        _refuse(place, module, "start_dim", "start_dim=1 and end_dim=-1")


def _dropout(chain: Chain, module: Any, place: str) -> None:
    chain.dropout(_told(place, module), module.p)


def _batch_norm(chain: Chain, module: Any, place: str) -> None:
    where = _told(place, module)
    if module.running_mean is None or module.running_var is None:
        _refuse(place, module, "track_running_stats", "running means and variances")
    statistics = _array(module.running_mean), _array(module.running_var)
    chain.standardise(where, *statistics, _optional(module.weight), _optional(module.bias), module.eps)


def _layer_norm(chain: Chain, module: Any, place: str) -> None:
    if len(module.normalized_shape) != 1:
        _refuse(place, module, "normalized_shape", "one dimension")
    gain = np.ones(module.normalized_shape) if module.weight is None else _array(module.weight)
    chain.normalise(_told(place, module), gain, _optional(getattr(module, "bias", None)), module.eps)


def _plain(name: str, **options: Any) -> Callable[[Chain, Any, str], None]:
    """A module that is an activation of the registry, if its options have these values."""

    def read(chain: Chain, module: Any, place: str) -> None:
        for option, value in options.items():
            if getattr(module, option) != value:
                _refuse(place, module, option, f"{option}={value!r}")
        chain.activate(_told(place, module), name)

    return read


def _leaky_relu(chain: Chain, module: Any, place: str) -> None:
    where = _told(place, module)
    if module.negative_slope == LEAKY_SLOPE:
        chain.activate(where, "leaky_relu")
    else:
        chain.leak(where, module.negative_slope)


def _prelu(chain: Chain, module: Any, place: str) -> None:
    slope = _array(module.weight)
    if chain.width is not None and len(slope) not in (1, chain.width):
        _refuse(place, module, "num_parameters", f"one or {chain.width}")
    chain.leak(_told(place, module), slope)


def _softplus(chain: Chain, module: Any, place: str) -> None:
    if module.beta != 1:
        _refuse(place, module, "beta", "beta=1")
    if module.threshold < SOFTPLUS_THRESHOLD:
        _refuse(place, module, "threshold", f"a threshold of at least {SOFTPLUS_THRESHOLD:g}")
    chain.activate(_told(place, module), "softplus")


def _softmax(chain: Chain, module: Any, place: str) -> None:
    if module.dim not in (None, 1, -1):
        _refuse(place, module, "dim", "dim=1 or -1")
    chain.activate(_told(place, module), "softmax")


def _parametric(chain: Chain, module: Any, place: str) -> None:
    inner = Chain(1)
    _read(inner, module.activation, f"{place}.activation")
    name = inner.layers[-1].activation if inner.layers else "identity"
    chain.activate_partly(_told(place, module), name, _array(module.mixture))


def _residual(chain: Chain, module: Any, place: str) -> None:
    start = len(chain.layers)
    _read(chain, module.layer, f"{place}.layer")
    chain.add_inputs(_told(place, module), start)


def _scaling(chain: Chain, module: Any, place: str) -> None:
    chain.scale(_told(place, module), _array(module.factor), _array(module.shift))


# where the classes come from whose names follow
_MODULES = ("torch.nn.modules.", "pymlp.convert.torch_layers")
_READERS: dict[str, Callable[[Chain, Any, str], None]] = {
    "Sequential": _sequential,
    "Linear": _linear,
    "Identity": lambda chain, module, place: None,
    "Flatten": _flatten,
    "Dropout": _dropout,
    "BatchNorm1d": _batch_norm,
    "LayerNorm": _layer_norm,
    "ReLU": _plain("relu"),
    "Tanh": _plain("tanh"),
    "Sigmoid": _plain("logistic"),
    "GELU": _plain("gelu", approximate="none"),
    "SiLU": _plain("silu"),
    "Mish": _plain("mish"),
    "ELU": _plain("elu", alpha=1.0),
    "SELU": _plain("selu"),
    "LeakyReLU": _leaky_relu,
    "PReLU": _prelu,
    "Softplus": _softplus,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    # of pymlp.convert.torch_layers
    "Cosine": _plain("cosine"),
    "Square": _plain("square"),
    "Exp": _plain("exp"),
    "Ascending": _plain("ascending"),
    "MeanDeviation": _plain("mean_deviation"),
    "Parametric": _parametric,
    "Residual": _residual,
    "Scaling": _scaling,
}


def _read_state(
    chain: Chain, state: Mapping[str, Any], activation: str | Sequence[str] | None, output_activation: str | None
) -> None:
    """Add the layers of a ``state_dict`` to the chain, each activation right before the next ``Linear``."""
    layers: dict[str, dict[str, Any]] = {}
    for key, tensor in state.items():
        place, _, name = str(key).rpartition(".")
        layers.setdefault(place, {})[name] = _array(tensor)
    products = [place for place, arrays in layers.items() if np.ndim(arrays.get("weight", 0)) == 2]
    names = _activations(len(products) - 1, activation)
    for place, arrays in layers.items():
        where, known = f"layer {place!r} of the state_dict", {"weight", "bias"}
        if place in products:
            if place != products[0]:
                chain.activate(chain.layers[-1].where, names.pop(0))
            chain.dense(where, arrays["weight"].T, arrays.get("bias"))
        elif "running_mean" in arrays and "running_var" in arrays:
            known |= {"running_mean", "running_var", "num_batches_tracked"}
            statistics = arrays["running_mean"], arrays["running_var"]
            chain.standardise(where, *statistics, arrays.get("weight"), arrays.get("bias"), BATCH_EPSILON)
        elif np.ndim(arrays.get("weight", 0)) == np.ndim(arrays.get("bias", 0)) == 1:
            chain.normalise(where, arrays["weight"], arrays["bias"], NORM_EPSILON)
        else:
            known = set()
        unknown = sorted(set(arrays) - known)
        if unknown:
            shapes = ", ".join(f"{name} {np.shape(arrays[name])}" for name in unknown)
            raise ConversionError(f"{where} is not of Linear, BatchNorm1d or LayerNorm: it has {shapes}")
    if output_activation is not None and chain.layers:
        _check_activation("output_activation", output_activation)
        chain.activate(chain.layers[-1].where, output_activation)


def _activations(hidden: int, activation: str | Sequence[str] | None) -> list[str]:
    if activation is None:
        if hidden > 0:
            raise ConversionError(
                "a state_dict has no activations: give activation, one name or one for each hidden layer"
            )
        return []
    names = [activation] * max(hidden, 0) if isinstance(activation, str) else list(activation)
    if len(names) != hidden:
        raise ConversionError(f"activation has {len(names)} names for {hidden} hidden layers: {activation!r}")
    for name in names:
        _check_activation("activation", name)
    return names


def _check_activation(argument: str, name: Any) -> None:
    if name not in ACTIVATIONS:
        raise ConversionError(f"{argument}={name!r} is unknown; known: {', '.join(ACTIVATIONS)}")


def to_torch(model: Any, *, logits: bool = False) -> Any:
    """Make a module of PyTorch that computes what a fitted model does.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor, a classic classifier of this package, or (Network, ndarray)
    logits : bool, default=False
        Leave the last activation out if it gives probabilities: scores, as ``BCEWithLogitsLoss`` and
        ``CrossEntropyLoss`` want them.

    Returns
    -------
    torch.nn.Sequential
        In eval mode, with parameters of the network's dtype.  It takes raw rows and gives the network's outputs, (rows,
        outputs): of two classes a single column, the probability of the second in ascending order; for a regressor the
        predictions.  What PyTorch has no module for is in `pymlp.convert.torch_layers`.  `max_norm` and penalties are
        left behind.

        Its attribute ``pymlp_answers`` says what the outputs mean, labels and names of features among it; `from_torch`
        reads it.

    Raises
    ------
    TypeError
        `model` is nothing of this package that predicts.
    ModuleNotFoundError
        PyTorch is missing.
    sklearn.exceptions.NotFittedError
        The estimator has not been fitted.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from pymlp import MLPClassifier
    >>> from pymlp.convert import to_torch
    >>> X, y = load_iris(return_X_y=True)
    >>> module = to_torch(MLPClassifier(solver="lbfgs", standardize=True, random_state=0).fit(X, y))
    >>> module(torch.from_numpy(X[:2])).shape
    torch.Size([2, 3])
    """
    found = portable(model)
    try:
        from pymlp.convert.torch_layers import module_of
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        message = "pymlp.convert.to_torch needs the package torch; run: pip install torch"
        raise ModuleNotFoundError(message, name="torch") from error
    module = module_of(found, logits=logits, threshold=found.input_threshold)
    setattr(module, ANSWERS, _answers(found, model))
    return module


def _answers(found: PortableModel, model: Any) -> dict[str, Any]:
    """What a network's outputs mean, as far as it does not show."""
    answers: dict[str, Any] = {}
    if not isinstance(found.network.loss_function, CustomLoss):
        answers["loss"] = loss_description(found.network.loss)
    if not isinstance(model, tuple):
        answers |= {"task": found.task, "classes": found.classes, "feature_names": found.feature_names}
    return answers
