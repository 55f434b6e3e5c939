"""Checkpoints: a training run on disk, so that one that was killed goes on as if nothing had happened.

A checkpoint is a container (`pymlp.container`) with the state of a run as a tree of dicts and lists: its numbers and
strings are JSON in the container's metadata, its arrays lie in the container under the names of their places.

    format, format_version   "pymlp checkpoint", "1"
    pymlp_version            the version that wrote the file
    fingerprint              JSON: what must be the same when the run goes on
    state                    JSON: {"start": what was drawn before the first step, "run": where the run has got to}

What a run is, its own loop knows (`pymlp.epochs`, `pymlp.lbfgs`); here stands when one is due, how it gets to the disk
and back, and whether it belongs to the run that wants to go on.  A file takes the place of the one before in one step,
and that one is kept (`pymlp.replacement`): at every moment there is a whole one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from numbers import Integral, Real
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from pymlp import container
from pymlp.container import ModelFormatError, naming, parse_json, shown, take
from pymlp.network import Network
from pymlp.options import of_python
from pymlp.replacement import check_replaceable, previous_of

if TYPE_CHECKING:
    from pymlp.epochs import EpochLoop

FORMAT = "pymlp checkpoint"
FORMAT_VERSION = "1"
# seconds between two checkpoints, unless the user says otherwise
DEFAULT_EVERY = 60.0
# bytes of an array that are hashed at once where it must be copied for that
HASHED_BYTES = 1 << 24
# characters of a setting in a fingerprint
LONGEST_TEXT = 1000
# how a tree says that an array stands in its place, or a list of float, of None, or of both
_ARRAY, _FLOATS, _NOTHING, _SOME = "array", "floats", "nothing", "some"


@dataclass(frozen=True)
class Found:
    """What a checkpoint holds: see the head of this file."""

    fingerprint: dict[str, Any]
    start: dict[str, Any]
    run: dict[str, Any]
    pymlp_version: str


class Checkpoints:
    """The checkpoints of one run, and what an earlier run has left at their place; the `pymlp.epochs.Keeper`.

    Parameters
    ----------
    path : str or path-like
    every : int or float
        An int counts epochs (iterations of "lbfgs"), a float seconds.
    resume : bool
        Whether to go on from what is found.

    Attributes
    ----------
    start : dict
        What was drawn before the first step: part of every checkpoint.
    found : Found or None
        What to go on from; None begins anew.
    generator : RandomState, Generator or None
        What the run draws from.
    within : bool
        Whether a run may be kept inside an epoch.
    """

    def __init__(self, path: str | os.PathLike[str], every: int | float, resume: bool) -> None:
        self.path, self.every, self.resume = path, every, resume
        self.start: dict[str, Any] = {}
        self.found: Found | None = None
        self.generator: Any = None
        self.within = not isinstance(every, int)
        self._fingerprint: dict[str, Any] = {}
        self._last = perf_counter()

    @classmethod
    def asked_for(cls, checkpoint: Any, checkpoint_every: Any, resume: Any) -> Checkpoints | None:
        """From the arguments of a fit; None without a path.

        Raises
        ------
        TypeError, ValueError
            An argument does not fit.
        """
        if checkpoint is None:
            if resume:
                raise ValueError("resume=True needs the path of a checkpoint, but checkpoint=None")
            return None
        if not isinstance(checkpoint, (str, os.PathLike)):
            raise TypeError(f"checkpoint must be a path or None, got {checkpoint!r}")
        counted = isinstance(checkpoint_every, Integral) and not isinstance(checkpoint_every, bool)
        timed = isinstance(checkpoint_every, Real) and not isinstance(checkpoint_every, Integral)
        if not (counted or timed) or not 0 < checkpoint_every < np.inf:
            raise ValueError(
                "checkpoint_every must be an integer above 0 (epochs) or a finite float above 0 (seconds), got "
                f"{checkpoint_every!r}"
            )
        return cls(checkpoint, int(checkpoint_every) if counted else float(checkpoint_every), bool(resume))

    def open(self, fingerprint: dict[str, Any]) -> None:
        """Begin: find what there is to go on from, if that was asked for.

        Parameters
        ----------
        fingerprint : dict
            JSON-ready; what must be the same as in the run that is to go on.

        Raises
        ------
        ModelFormatError
            There are checkpoints, but none is whole.
        ValueError
            The checkpoint is that of another run: the message says by what; or what makes this one the same could not
            be read again.
        OSError
            No file can be written there, or the one that is there cannot be read.
        """
        check_replaceable(self.path)
        _check_previous(self.path)
        # as it will be read
        self._fingerprint = parse_json("the fingerprint", json.dumps(fingerprint))
        self._last = perf_counter()
        self.found = find(self.path) if self.resume else None
        if self.found is not None:
            self._check_found(self.found)
            self.start = self.found.start

    def _check_found(self, found: Found) -> None:
        from pymlp import __version__

        now, then = self._fingerprint, found.fingerprint
        names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
        if names:
            changes = ", ".join(f"{name} is {shown(now.get(name))} (there {shown(then.get(name))})" for name in names)
            raise ValueError(f"{self.path} is the checkpoint of another run, which cannot go on as this one: {changes}")
        if found.pymlp_version != __version__:
            warnings.warn(
                f"{self.path} was written by pymlp {found.pymlp_version} and goes on with {__version__}, which may "
                "compute other bits",
                RuntimeWarning,
                stacklevel=2,
            )

    def epochs_until_due(self, epochs: int) -> float:
        """How many epochs may pass until one must be kept, `epochs` being complete."""
        return self.every - epochs % self.every if isinstance(self.every, int) else np.inf

    def is_due(self, epochs: int | None = None) -> bool:
        """Whether the run is to be kept now: `epochs` of its epochs being complete, or by None inside one."""
        if isinstance(self.every, int):
            return epochs is not None and epochs % self.every == 0
        return (epochs is not None or self.within) and self._seconds_left() <= 0

    def seconds_until_due(self) -> float:
        """How many seconds may pass, inside an epoch, until the run must be kept; not above 0 where that is now."""
        return self._seconds_left() if self.within else np.inf

    def _seconds_left(self) -> float:
        return self.every - (perf_counter() - self._last)

    def keep(self, run: dict[str, Any]) -> None:
        """Write a checkpoint.

        Raises
        ------
        OSError
            That failed; the one before is as it was.
        ModelFormatError
            What was written could not be read again; the one before is as it was.
        """
        from pymlp import __version__

        arrays: dict[str, np.ndarray] = {}
        tree = _without_arrays({"start": self.start, "run": run}, "", arrays)
        metadata = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "pymlp_version": __version__,
            "fingerprint": json.dumps(self._fingerprint),
            "state": json.dumps(tree),
        }
        # the bounds of the header are not those of the JSON in its strings
        parse_json("the state of the run", metadata["state"])
        container.write(self.path, metadata, arrays, keep_previous=True)
        self._last = perf_counter()

    def generator_for(self, generator: Any) -> Any:
        """What a run draws from that is given `generator`; in one that goes on, none that others draw from as well."""
        if self.found is not None and generator is np.random.mtrand._rand:
            generator = np.random.RandomState()
        self.generator = generator
        return generator

    def give_to(self, loop: EpochLoop, epochs: int) -> None:
        """Let a loop that is to run for `epochs` epochs go on from what was found, if anything was.

        Raises
        ------
        ModelFormatError
            What was found is malformed.
        ValueError
            It is not where a run of so many epochs would have come to.
        """
        if self.found is not None:
            with self.taking_up():
                loop.take_up(self.found.run)
            loop.check_going_on(epochs)

    @contextmanager
    def taking_up(self) -> Iterator[None]:
        """Say of errors in the body, which takes up what was found, that the file is malformed."""
        with naming(self.path, "checkpoint"):
            try:
                yield
            except ModelFormatError:
                raise
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                message = f"the state of the run is malformed: {type(error).__name__}: {error}"
                raise ModelFormatError(message) from error


def find(path: str | os.PathLike[str]) -> Found | None:
    """The newest whole checkpoint of a path; None where there is none at all.

    If the file is missing or damaged, and the one before it is there, that one, with a warning.

    Raises
    ------
    ModelFormatError
        No file is whole.
    OSError
        A file cannot be read.
    """
    previous = previous_of(path)
    try:
        return read(path)
    except (FileNotFoundError, ModelFormatError) as error:
        if not previous.exists():
            if isinstance(error, FileNotFoundError):
                return None
            raise
        missing = isinstance(error, FileNotFoundError)
        reason = f"{path} is missing" if missing else str(error)
        found = read(previous)
    warnings.warn(f"{reason}: going on from the checkpoint before it, {previous}", RuntimeWarning, stacklevel=2)
    return found


def read(path: str | os.PathLike[str]) -> Found:
    """Read one checkpoint.

    Raises
    ------
    ModelFormatError
        The file is malformed.
    OSError
        The file cannot be read.
    """
    with naming(path, "checkpoint"):
        file = container.read(path)
        metadata, where = dict(file.metadata), "__metadata__"
        for name, expected in (("format", FORMAT), ("format_version", FORMAT_VERSION)):
            value = take(metadata, name, str, where)
            if value != expected:
                raise ModelFormatError(f"__metadata__[{name!r}] must be {expected!r}, found {shown(value)}")
        version = take(metadata, "pymlp_version", str, where)
        fingerprint = parse_json("__metadata__['fingerprint']", take(metadata, "fingerprint", str, where))
        state = parse_json("__metadata__['state']", take(metadata, "state", str, where))
        if metadata:
            raise ModelFormatError(f"__metadata__ has the unknown key {shown(next(iter(metadata)))}")
        arrays = {name: file.array(name) for name in file.entries}
        tree = _with_arrays(state, arrays)
        if arrays:
            raise ModelFormatError(f"the state has no place for the array {shown(next(iter(arrays)))}")
        start, run = (take(tree, name, dict, "the state") for name in ("start", "run"))
        if tree:
            raise ModelFormatError(f"the state has the unknown key {shown(next(iter(tree)))}")
    return Found(fingerprint, start, run, version)


def _without_arrays(value: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    """The tree with the names of arrays in their places; the arrays go to `arrays`."""
    if isinstance(value, Mapping):
        before = f"{place}." if place else ""
        return {name: _without_arrays(item, f"{before}{name}", arrays) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        arrays[place] = value
        return {_ARRAY: place}
    if isinstance(value, (list, tuple)):
        # a history of many epochs would be a long text
        if value and all(isinstance(item, float) for item in value):
            arrays[place] = np.array(value, np.float64)
            return {_FLOATS: place}
        if value and all(item is None for item in value):
            arrays[place] = np.zeros(len(value), np.uint8)
            return {_NOTHING: place}
        # a model that was loaded does not know the seconds of its epochs, but those of further ones
        if value and all(item is None or isinstance(item, float) for item in value):
            known, numbers = _places_of_some(place)
            arrays[known] = np.array([item is not None for item in value], np.uint8)
            arrays[numbers] = np.array([item for item in value if item is not None], np.float64)
            return {_SOME: place}
        return [_without_arrays(item, f"{place}.{number}", arrays) for number, item in enumerate(value)]
    return of_python(value)


def _with_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """What `_without_arrays` was given; takes the arrays out of `arrays`."""
    if isinstance(value, list):
        return [_with_arrays(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        kind, place = next(iter(value.items()))
        if kind == _SOME and isinstance(place, str):
            return _some(place, *(_popped(arrays, name) for name in _places_of_some(place)))
        if kind in (_ARRAY, _FLOATS, _NOTHING) and isinstance(place, str):
            array = _popped(arrays, place)
            if kind == _NOTHING:
                return [None] * array.size
            # a copy, which is aligned and can be written to
            return array.copy() if kind == _ARRAY else array.astype(np.float64).tolist()
    return {name: _with_arrays(item, arrays) for name, item in value.items()}


def _popped(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise ModelFormatError(f"the state needs an array {shown(name)} of its own")
    return arrays.pop(name)


def _places_of_some(place: str) -> tuple[str, str]:
    # the arrays of a list with gaps: which of its items are there, and these
    return f"{place}.known", f"{place}.numbers"


def _some(place: str, known: np.ndarray, numbers: np.ndarray) -> list[float | None]:
    if known.ndim != 1 or known.dtype != np.uint8 or known.max(initial=0) > 1:
        raise ModelFormatError(f"{shown(place)} must say by 0 or 1 which of its numbers are known")
    if numbers.dtype != np.float64 or numbers.shape != (np.count_nonzero(known),):
        raise ModelFormatError(
            f"{shown(place)} must have {np.count_nonzero(known)} numbers of float64, found {numbers.dtype} "
            f"{numbers.shape}"
        )
    following = iter(numbers.tolist())
    return [next(following) if each else None for each in known.tolist()]


def _check_previous(path: str | os.PathLike[str]) -> None:
    # before the run, not at its second checkpoint: the name may be too long with its ending, or a folder's
    previous = previous_of(path)
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(previous).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(previous))


def generator_state(generator: Any) -> dict[str, Any] | None:
    """State of a RandomState or a Generator; None of None."""
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return None if generator is None else generator.bit_generator.state


def set_generator_state(generator: Any, state: dict[str, Any] | None) -> None:
    """Bring a generator to a state of its own kind."""
    if isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    elif generator is not None:
        generator.bit_generator.state = state


def fingerprint(kind: str, network: Network, settings: dict[str, Any]) -> dict[str, Any]:
    """What makes a run the same one, JSON-ready: who trains, what, and by which settings, data among them."""
    described = {**settings, **{f"network.{name}": value for name, value in network.description.items()}}
    return {"kind": kind, **{name: _described(value) for name, value in described.items()}}


def _described(value: Any) -> Any:
    # A number, or a text that is the same in another process.  Functions go by their names alone.
    if isinstance(value, np.ndarray) or hasattr(value, "tocsr"):
        return digest(value)
    if isinstance(value, (np.random.RandomState, np.random.Generator)):
        bits = value.get_state(legacy=False)["bit_generator"] if isinstance(value, np.random.RandomState) else ""
        return f"{type(value).__name__} {bits or type(value.bit_generator).__name__}"
    value = of_python(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    text = re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(value))
    if len(text) <= LONGEST_TEXT:
        return text
    # a header has no room for 100,000 labels: they are told by their sum
    return f"{text[:LONGEST_TEXT]}... {hashlib.sha256(text.encode()).hexdigest()[:32]}"


def digest(values: Any) -> str:
    """Type, shape and SHA-256 of an array or a sparse matrix, which is never copied as a whole."""
    hashed = hashlib.sha256()
    if hasattr(values, "tocsr"):
        rows = values.tocsr()
        first, last = int(rows.indptr[0]), int(rows.indptr[-1])
        for part in (rows.data[first:last], rows.indices[first:last], rows.indptr - first):
            # whose integers may have 32 or 64 bits
            _hash(hashed, part, part.dtype if part.dtype.kind == "f" else np.dtype(np.int64))
    else:
        _hash(hashed, values, values.dtype)
    return f"{values.dtype} {tuple(values.shape)} {hashed.hexdigest()[:32]}"


def _hash(hashed: Any, values: np.ndarray, dtype: np.dtype) -> None:
    rows = max(1, HASHED_BYTES // max(1, values.nbytes // max(1, len(values))))
    for start in range(0, len(values), rows):
        hashed.update(np.ascontiguousarray(values[start : start + rows], dtype).reshape(-1).view(np.uint8).data)
