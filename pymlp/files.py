"""Model files: a safetensors container that holds a network's parameters and says everything about them.

The container is `pymlp.container`'s; the tensors ``layers.0.weight``, ``layers.0.bias``, ... are contiguous pieces of
the flat parameter vector, so any program that reads safetensors reads the weights.  What the container has no place for
stands in its ``__metadata__``, whose values are strings:

    format, format_version   "pymlp", "1"
    pymlp_version            the version that wrote the file
    network                  JSON of `Network.description`
    estimator                name of the estimator's class, in files written by an estimator
    state                    JSON of what else the writer keeps: classes, feature names, parameters, history

Long lists of the state lie beside the weights, as the tensors ``state.0``, ``state.1``, ... (see `pymlp.long_lists`).

Nothing in a file is ever executed, and no class is looked up by a name that is not in a registry.  Reading checks every
byte's place and refuses anything odd: a model that loads is the model that was saved.  Networks need NumPy alone; only
estimators need scikit-learn.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pymlp import checkpoints, container
from pymlp.container import TYPES, Container, ModelFormatError, naming, parse_json, shown, take
from pymlp.long_lists import attach, detach
from pymlp.network import Network

FORMAT = "pymlp"
FORMAT_VERSION = "1"
# the estimators by name, and the modules they come from
ESTIMATORS = {"MLPClassifier": "pymlp.mlp_classifier", "MLPRegressor": "pymlp.mlp_regressor"}
TENSOR_TYPES = {"float32": "F32", "float64": "F64"}
# of the tensors that are lists of the state
LISTS = "state"
# characters of a message about what is wrong with a state
LONGEST_MESSAGE = 500


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (network.n_parameters,)
        The flat vector.
    estimator : str or None
        Name of the class that wrote the file; None for a plain network.
    state : dict
        What the writer kept besides (see `save_network`).
    pymlp_version : str
        The version that wrote the file.
    """

    network: Network
    params: np.ndarray
    estimator: str | None = None
    state: dict[str, Any] = field(default_factory=dict)
    pymlp_version: str = ""


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator, or a network with its parameters, to a model file.

    The old file of that name is replaced in one step; a failed write leaves it as it was.  It may be the file that the
    model was loaded from, or one that its parameters are mapped from.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor or (Network, ndarray)
        For derived classes use pickle: a model file names only the classes of this package.
    path : str or path-like

    Raises
    ------
    ValueError
        `model` is none of these, a parameter is not finite, or a file could not hold it: it has a function of one's
        own, or parameters were set that `fit` would not take or that do not belong to the fitted network.
    sklearn.exceptions.NotFittedError
        The estimator has not been fitted.
    OSError
        The file cannot be written.
    """
    kind = type(model)
    if isinstance(model, tuple) and len(model) == 2 and isinstance(model[0], Network):
        save_network(model[0], model[1], path)
    elif ESTIMATORS.get(kind.__name__) == kind.__module__:
        network, params, state = model._model_state()
        _write(path, network, params, state, kind)
    else:
        raise ValueError(
            f"model must be one of {', '.join(ESTIMATORS)} (not a class derived from it), "
            f"or (network, params), got {kind.__name__}"
        )


def save_network(
    network: Network, params: np.ndarray, path: str | os.PathLike[str], state: dict[str, Any] | None = None
) -> None:
    """Write a network and its parameters to a model file.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (network.n_parameters,)
    path : str or path-like
    state : dict, optional
        Anything JSON can hold, to be kept in the file (NaN and infinity are written as Python's ``json`` does).

    Raises
    ------
    ValueError
        `params` does not belong to `network` or is not finite, or `state` is not JSON-ready.
    OSError
        The file cannot be written; the old file is untouched.
    """
    _write(path, network, params, {} if state is None else state, None)


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` wrote.

    Loading executes nothing that is in the file, so a file from anywhere may be loaded; to unpickle a file runs what
    its writer wants to be run.

    Returns
    -------
    MLPClassifier, MLPRegressor or (Network, ndarray)
        By what was saved.

    Raises
    ------
    ModelFormatError
        A ValueError: the file is malformed; the message says what and where.
    ImportError
        The file holds an estimator and scikit-learn is missing (`load_network` reads it all the same).
    OSError
        The file cannot be read.
    """
    content = read(path)
    if content.estimator is None:
        return content.network, content.params
    try:
        from pymlp import estimators
    except ImportError as error:
        raise ImportError(
            f"{path} holds a {content.estimator}, which needs scikit-learn: pip install scikit-learn "
            "(or read its network with pymlp.load_network)"
        ) from error
    try:
        return getattr(estimators, content.estimator)._from_model_state(content.network, content.params, content.state)
    except ValueError as error:
        said = " ".join(str(error).split())[:LONGEST_MESSAGE]
        raise ModelFormatError(f"{path}: the state of the {content.estimator} is malformed: {said}") from error


def load_network(path: str | os.PathLike[str]) -> tuple[Network, np.ndarray]:
    """Read the network and its flat parameter vector from any model file, with NumPy alone.

    Raises
    ------
    ModelFormatError
        A ValueError: the file is malformed.
    OSError
        The file cannot be read.
    """
    content = read(path)
    return content.network, content.params


def read(path: str | os.PathLike[str]) -> ModelFile:
    """Read everything a model file holds, without making an estimator of it.

    Raises
    ------
    ModelFormatError
        A ValueError: the file is malformed.
    OSError
        The file cannot be read.
    """
    with naming(path, "model file"):
        file = container.read(path)
        network, estimator, state, version = _read_metadata(file)
        params = _read_params(network, file)
        lists = {name: file.array(name) for name in file.entries if _is_list(name)}
        return ModelFile(network, params, estimator, attach(state, lists), version)


def _is_list(name: str) -> bool:
    return name.startswith(f"{LISTS}.")


def _write(
    path: str | os.PathLike[str], network: Network, params: np.ndarray, state: dict[str, Any], kind: type | None
) -> None:
    from pymlp import __version__

    network.check_params(params)
    for name, values in network.views(params).items():
        odd = _first_odd_number(name, values)
        if odd is not None:
            raise ValueError(f"params cannot be saved: {odd}")
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "pymlp_version": __version__,
        "network": json.dumps(network.description, allow_nan=False),
    }
    if kind is not None:
        metadata["estimator"] = kind.__name__
    try:
        short, lists = detach(state, LISTS)
        metadata["state"] = json.dumps(short, ensure_ascii=False)
        # what could be written need not be readable: two keys may have become one string
        kept = attach(parse_json("state", metadata["state"]), lists)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"state cannot be kept as JSON: {error}") from error
    if kind is not None:
        # nor need it be a model any more: parameters may have been set since it was fitted
        try:
            kind._from_model_state(network, params, kept)
        except ValueError as error:
            raise ValueError(f"this {kind.__name__} could not be loaded again: {error}") from error
    container.write(path, metadata, {**network.views(params), **lists})


def _first_odd_number(name: str, values: np.ndarray) -> str | None:
    finite = np.isfinite(values)
    if finite.all():
        return None
    where = np.argwhere(~finite)[0].tolist()
    return f"{name}{where} is {values[tuple(where)]}, not a finite number"


def _read_metadata(file: Container) -> tuple[Network, str | None, dict[str, Any], str]:
    where, metadata = "__metadata__", dict(file.metadata)
    name = take(metadata, "format", str, where)
    if name == checkpoints.FORMAT:
        raise ModelFormatError(
            "it is the checkpoint of a training run, which fit(..., checkpoint=..., resume=True) reads"
        )
    if name != FORMAT:
        raise ModelFormatError(f"__metadata__['format'] must be {FORMAT!r}, found {shown(name)}")
    version = take(metadata, "format_version", str, where)
    if version != FORMAT_VERSION:
        raise ModelFormatError(
            f"its format version is {shown(version)} and this pymlp reads {FORMAT_VERSION!r}; "
            "a newer pymlp may read it: pip install --upgrade pymlp"
        )
    pymlp_version = take(metadata, "pymlp_version", str, where)
    if not (pymlp_version.isascii() and pymlp_version.isprintable()):
        raise ModelFormatError(f"__metadata__['pymlp_version'] is {shown(pymlp_version)}")
    description = parse_json("__metadata__['network']", take(metadata, "network", str, where))
    state = parse_json("__metadata__['state']", take(metadata, "state", str, where))
    estimator = metadata.pop("estimator", None)
    if estimator is not None and estimator not in ESTIMATORS:
        raise ModelFormatError(
            f"__metadata__['estimator'] must be one of {', '.join(ESTIMATORS)}, found {shown(estimator)}"
        )
    if metadata:
        raise ModelFormatError(f"__metadata__ has the unknown key {shown(next(iter(metadata)))}")
    layers = description.get("layers")
    if isinstance(layers, list) and 2 * len(layers) > len(file.entries):
        raise ModelFormatError(f"its {len(file.entries)} tensors are too few for {len(layers)} layers")
    try:
        network = Network.from_description(description)
    except ValueError as error:
        said = " ".join(str(error).split())[:LONGEST_MESSAGE]
        raise ModelFormatError(f"__metadata__['network']: {said}") from error
    return network, estimator, state, pymlp_version


def _read_params(network: Network, file: Container) -> np.ndarray:
    """The flat vector, from arrays that must be those of the network."""
    parts = [(f"layers.{row.layer}.{part.name}", tuple(part.shape)) for row in network.table for part in row.parts]
    rest = {name: entry for name, entry in file.entries.items() if not _is_list(name)}
    in_order = [name for name, _ in parts] == list(file.entries)[: len(parts)]
    # before anything is allocated: a description may ask for any size
    for name, shape in parts:
        entry = rest.pop(name, None)
        if entry is None:
            raise ModelFormatError(f"the header has no {name!r}")
        if entry.type_name != TENSOR_TYPES[network.dtype]:
            expected = TENSOR_TYPES[network.dtype]
            raise ModelFormatError(f"{name}: dtype must be {expected!r}, found {shown(entry.type_name)}")
        if entry.shape != shape:
            raise ModelFormatError(f"{name}: shape must be {list(shape)}, found {shown(list(entry.shape))}")
    if rest:
        raise ModelFormatError(f"the network has no tensor {shown(next(iter(rest)))}")
    if in_order:
        # as `save` writes them: the flat vector is there, and need not be copied
        stored = file.data[: network.n_parameters * np.dtype(network.dtype).itemsize]
        params = stored.view(TYPES[TENSOR_TYPES[network.dtype]]).astype(network.dtype, copy=False)
    else:
        params = np.empty(network.n_parameters, network.dtype)
        for name, values in network.views(params).items():
            values[...] = file.array(name)
    for name, values in network.views(params).items():
        odd = _first_odd_number(name, values)
        if odd is not None:
            raise ModelFormatError(odd)
    return params
