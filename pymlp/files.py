"""Model files: a safetensors container that holds a network's parameters and says everything about them.

Eight bytes of header length (little-endian), a JSON header, then the flat parameter vector as it lies in memory: the
tensors ``layers.0.weight``, ``layers.0.bias``, ... are contiguous pieces of it, so any program that reads safetensors
reads the weights.  What the container has no place for stands in its ``__metadata__``, whose values are strings:

    format, format_version   "pymlp", "1"
    pymlp_version            the version that wrote the file
    network                  JSON of `Network.description`
    estimator                name of the estimator's class, in files written by an estimator
    state                    JSON of what else the writer keeps: classes, feature names, parameters, history

Nothing in a file is ever executed.  Reading checks every byte's place and refuses anything odd: a model that loads is
the model that was saved.  Networks need NumPy alone; only estimators need scikit-learn.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from pymlp.network import Network
from pymlp.replacement import replacing

FORMAT = "pymlp"
FORMAT_VERSION = "1"
# the estimators by name, and the modules they come from
ESTIMATORS = {"MLPClassifier": "pymlp.mlp_classifier", "MLPRegressor": "pymlp.mlp_regressor"}
TENSOR_TYPES = {"float32": "F32", "float64": "F64"}
# the safetensors package refuses longer headers too
LONGEST_HEADER = 100_000_000


class ModelFormatError(ValueError):
    """The file is not a whole and consistent model file; the message says what is wrong and where."""


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

    The old file of that name is replaced in one step; a failed write leaves it as it was.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor or (Network, ndarray)
        For derived classes use pickle: a model file names only the classes of this package.
    path : str or path-like

    Raises
    ------
    ValueError
        `model` is none of these, or a parameter is not finite.
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
        _write(path, network, params, state, kind.__name__)
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
    except (ArithmeticError, AttributeError, LookupError, SyntaxError, TypeError, ValueError) as error:
        message = f"{path}: the state of the {content.estimator} is malformed: {type(error).__name__}: {error}"
        raise ModelFormatError(message) from error


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
    try:
        with open(path, "rb") as stream:
            return _read_stream(stream)
    except ModelFormatError as error:
        raise ModelFormatError(f"{path} is not a valid model file: {error}") from error.__cause__


def _write(
    path: str | os.PathLike[str], network: Network, params: np.ndarray, state: dict[str, Any], estimator: str | None
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
    if estimator is not None:
        metadata["estimator"] = estimator
    try:
        metadata["state"] = json.dumps(state)
        # what could be written need not be readable: two keys may have become one string
        _parse_json("state", metadata["state"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"state cannot be kept as JSON: {error}") from error
    header: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for name, values in network.views(params).items():
        header[name] = {
            "dtype": TENSOR_TYPES[network.dtype],
            "shape": list(values.shape),
            "data_offsets": [start, start + values.nbytes],
        }
        start += values.nbytes
    encoded = json.dumps(header).encode()
    # spaces up to a multiple of eight keep the tensors aligned for readers that map the file
    encoded += b" " * (-len(encoded) % 8)
    with replacing(path) as stream:
        stream.write(len(encoded).to_bytes(8, "little"))
        stream.write(encoded)
        stream.write(np.ascontiguousarray(params, _stored_dtype(network)).data)


def _stored_dtype(network: Network) -> np.dtype:
    return np.dtype(network.dtype).newbyteorder("<")


def _first_odd_number(name: str, values: np.ndarray) -> str | None:
    finite = np.isfinite(values)
    if finite.all():
        return None
    where = np.argwhere(~finite)[0].tolist()
    return f"{name}{where} is {values[tuple(where)]}, not a finite number"


def _read_stream(stream: BinaryIO) -> ModelFile:
    size = os.fstat(stream.fileno()).st_size
    if size < 8:
        raise ModelFormatError(f"it has {size} bytes, and the header length alone takes 8")
    header_size = int.from_bytes(stream.read(8), "little")
    if header_size > LONGEST_HEADER:
        raise ModelFormatError(f"its first 8 bytes give a header of {header_size} bytes, more than any model file has")
    if header_size > size - 8:
        raise ModelFormatError(f"its header should take {header_size} bytes, but only {size - 8} follow the length")
    encoded = stream.read(header_size)
    if not encoded.startswith(b"{"):
        raise ModelFormatError(f"its header must begin with '{{', found {encoded[:1]!r}")
    header = _parse_json("the header", encoded)
    metadata = _take(header, "__metadata__", dict, "the header")
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise ModelFormatError(f"__metadata__[{name!r}] must be a string, found {_shown(value)}")
    network, estimator, state, version = _read_metadata(metadata)
    starts = _check_tensors(network, header, size - 8 - header_size)
    params = _read_params(stream, network, starts, 8 + header_size)
    return ModelFile(network, params, estimator, state, version)


def _parse_json(where: str, text: bytes | str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ModelFormatError(f"{where} has the key {twice!r} twice")
        return result

    try:
        # decoded here: json.loads would guess UTF-16 or UTF-32 from the first bytes
        content = json.loads(text.decode() if isinstance(text, bytes) else text, object_pairs_hook=unique)
    except ModelFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{where} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelFormatError(f"{where} must be a JSON object, found {_shown(content)}")
    return content


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _take(fields: dict[str, Any], name: str, kind: type, where: str) -> Any:
    """Remove and return a field that must be there and be of the kind."""
    if name not in fields:
        raise ModelFormatError(f"{where} has no {name!r}")
    value = fields.pop(name)
    if type(value) is not kind:
        raise ModelFormatError(f"{where}: {name!r} must be of type {kind.__name__}, found {_shown(value)}")
    return value


def _read_metadata(metadata: dict[str, str]) -> tuple[Network, str | None, dict[str, Any], str]:
    where = "__metadata__"
    name = _take(metadata, "format", str, where)
    if name != FORMAT:
        raise ModelFormatError(f"__metadata__['format'] must be {FORMAT!r}, found {_shown(name)}")
    version = _take(metadata, "format_version", str, where)
    if version != FORMAT_VERSION:
        raise ModelFormatError(
            f"its format version is {_shown(version)} and this pymlp reads {FORMAT_VERSION!r}; "
            "a newer pymlp may read it: pip install --upgrade pymlp"
        )
    pymlp_version = _take(metadata, "pymlp_version", str, where)
    description = _parse_json("__metadata__['network']", _take(metadata, "network", str, where))
    state = _parse_json("__metadata__['state']", _take(metadata, "state", str, where))
    estimator = metadata.pop("estimator", None)
    if estimator is not None and estimator not in ESTIMATORS:
        raise ModelFormatError(
            f"__metadata__['estimator'] must be one of {', '.join(ESTIMATORS)}, found {_shown(estimator)}"
        )
    if metadata:
        raise ModelFormatError(f"__metadata__ has the unknown key {_shown(next(iter(metadata)))}")
    try:
        network = Network.from_description(description)
    except (ValueError, OverflowError) as error:
        raise ModelFormatError(f"__metadata__['network']: {error}") from error
    return network, estimator, state, pymlp_version


def _check_tensors(network: Network, header: dict[str, Any], data_size: int) -> list[int]:
    """Offset of each tensor in the data, in the order of the flat vector; `header` holds the tensors' entries."""
    starts, places = [], []
    for row in network.table:
        for part in row.parts:
            name, shape = f"layers.{row.layer}.{part.name}", list(part.shape)
            entry = _take(header, name, dict, "the header")
            stored = _take(entry, "dtype", str, name)
            if stored != TENSOR_TYPES[network.dtype]:
                raise ModelFormatError(f"{name}: dtype must be {TENSOR_TYPES[network.dtype]!r}, found {_shown(stored)}")
            found = _take(entry, "shape", list, name)
            if [type(size) for size in found] != [int] * len(shape) or found != shape:
                raise ModelFormatError(f"{name}: shape must be {shape}, found {_shown(found)}")
            offsets = _take(entry, "data_offsets", list, name)
            if [type(offset) for offset in offsets] != [int, int]:
                raise ModelFormatError(f"{name}: data_offsets must be two integers, found {_shown(offsets)}")
            needed = math.prod(shape) * np.dtype(network.dtype).itemsize
            if offsets[0] < 0 or offsets[1] - offsets[0] != needed:
                raise ModelFormatError(f"{name}: data_offsets must span {needed} bytes, found {_shown(offsets)}")
            if entry:
                raise ModelFormatError(f"{name} has the unknown key {_shown(next(iter(entry)))}")
            starts.append(offsets[0])
            places.append((offsets[0], offsets[1], name))
    if header:
        raise ModelFormatError(f"the network has no tensor {_shown(next(iter(header)))}")
    end, before = 0, "the header"
    for first, last, name in sorted(places):
        if first != end:
            kind = "a hole" if first > end else "an overlap"
            raise ModelFormatError(
                f"there is {kind} between {before} and {name}: it starts at {first} instead of {end}"
            )
        end, before = last, name
    if data_size != end:
        raise ModelFormatError(f"{end} bytes of tensors must follow the header, found {data_size}")
    return starts


def _read_params(stream: BinaryIO, network: Network, starts: list[int], base: int) -> np.ndarray:
    params = np.empty(network.n_parameters, network.dtype)
    for start, (name, values) in zip(starts, network.views(params).items(), strict=True):
        stream.seek(base + start)
        stored = stream.read(values.nbytes)
        if len(stored) != values.nbytes:
            raise ModelFormatError(f"it ends inside {name}")
        values[...] = np.frombuffer(stored, _stored_dtype(network)).reshape(values.shape)
        odd = _first_odd_number(name, values)
        if odd is not None:
            raise ModelFormatError(odd)
    return params
