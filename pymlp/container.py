"""The container of model files and checkpoints: named arrays and strings, by the safetensors format, read strictly.

Eight bytes of header length (little-endian), a JSON header, then the arrays one after the other.  The header says of
each array its type, its shape and its place; its ``__metadata__`` holds strings.  Any program that reads safetensors
reads the arrays.

``__metadata__["sha256"]`` is the digest of the whole file, taken with zeros in the digest's own place, so no flipped
bit goes unseen.  A file may lack it, as those of other writers do: then only its structure is checked.  A digest is no
signature: whoever means harm can make a right one, so nothing relies on it but the finding of accidents.

A header is bounded in length, in values and in depth before it is parsed, so that no file takes more time or memory
than a sound one of its size.  What is long has its place in an array.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from pymlp.replacement import replacing

# names of types in the header, and the types as they lie in the file
TYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U32": "<u4", "U64": "<u8", "U8": "|u1"}
_TYPE_NAMES = {np.dtype(stored): name for name, stored in TYPES.items()}
# bytes of a header: enough for 1,000 layers and all that is said of them
LONGEST_HEADER = 1 << 19
# of one JSON text: values and names outside its strings, and lists and objects within each other
MOST_VALUES = 1 << 15
DEEPEST = 32
# characters of an integer: 128 bits, which the states of NumPy's generators have
LONGEST_INTEGER = 40
# of an array: dimensions, and bytes if the dimensions of size 0 are left out
MOST_DIMENSIONS = 8
MOST_BYTES = 2**63 - 1
# bytes of a JSON text whose bounds are checked at once
CHECKED_AT_ONCE = 1 << 12
# characters of an array's name
LONGEST_NAME = 200
_PAIRED_SURROGATES = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NO_DIGEST = "0" * 64


class ModelFormatError(ValueError):
    """The file is not a whole and consistent model file; the message says what is wrong and where."""


@dataclass(frozen=True)
class Entry:
    """Where an array lies among the bytes of all arrays: ``start`` to ``stop``."""

    type_name: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Container:
    """What a file holds.

    Parameters
    ----------
    metadata : dict of str to str
        Without the digest.
    entries : dict of str to Entry
        In the order of their places; there are neither holes nor overlaps.
    data : ndarray of uint8
        The bytes of all arrays.
    """

    metadata: dict[str, str]
    entries: dict[str, Entry]
    data: np.ndarray

    def array(self, name: str) -> np.ndarray:
        """The array of that name, in the machine's byte order: a view of `data` where that is the file's."""
        entry = self.entries[name]
        stored = self.data[entry.start : entry.stop].view(TYPES[entry.type_name]).reshape(entry.shape)
        return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def write(
    path: str | os.PathLike[str],
    metadata: Mapping[str, str],
    arrays: Mapping[str, np.ndarray],
    *,
    keep_previous: bool = False,
) -> None:
    """Write a container; the old file of that name is replaced in one step.

    Parameters
    ----------
    path : str or path-like
    metadata : mapping of str to str
        Without "sha256", which is added.
    arrays : mapping of str to ndarray
        Of the types in `TYPES`; written in this order.
    keep_previous : bool, default=False
        Whether the old file stays, see `pymlp.replacement.replacing`.

    Raises
    ------
    ValueError
        The header would be too large to be read again.
    OSError
        The file cannot be written; the old one is as it was.
    """
    header: dict[str, Any] = {"__metadata__": {**metadata, "sha256": _NO_DIGEST}}
    stored = []
    start = 0
    for name, values in arrays.items():
        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        place = [start, start + little.nbytes]
        header[name] = {"dtype": _TYPE_NAMES[little.dtype], "shape": list(values.shape), "data_offsets": place}
        stored.append(little.reshape(-1).view(np.uint8).data)
        start += little.nbytes
    encoded = json.dumps(header, ensure_ascii=False).encode()
    # spaces up to a multiple of eight keep the arrays aligned for readers that map the file
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > LONGEST_HEADER:
        raise ValueError(f"a header of {len(encoded)} bytes is longer than the {LONGEST_HEADER} that are read")
    check_bounds("the header", encoded)
    size = len(encoded).to_bytes(8, "little")
    digest = hashlib.sha256(size + encoded)
    for each in stored:
        digest.update(each)
    # it is the last of the metadata: strings before it could hold the same text
    place = encoded.rindex(f'"sha256": "{_NO_DIGEST}"}}'.encode()) + len('"sha256": "')
    encoded = encoded[:place] + digest.hexdigest().encode() + encoded[place + len(_NO_DIGEST) :]
    with replacing(path, keep_previous=keep_previous) as stream:
        stream.write(size)
        stream.write(encoded)
        for each in stored:
            stream.write(each)


def read(path: str | os.PathLike[str]) -> Container:
    """Read a container and check its structure and its digest.

    Raises
    ------
    ModelFormatError
        A ValueError: the file is malformed.  The message does not name the file, see `naming`.
    OSError
        The file cannot be read.
    """
    with open(path, "rb") as stream:
        return _read_stream(stream)


@contextmanager
def naming(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Let a ModelFormatError of the body say which file it is about, and what that should have been."""
    try:
        yield
    except ModelFormatError as error:
        raise ModelFormatError(f"{path} is not a valid {what}: {error}") from error.__cause__


def _read_stream(stream: BinaryIO) -> Container:
    size = os.fstat(stream.fileno()).st_size
    if size < 8:
        raise ModelFormatError(f"it has {size} bytes, and the header length alone takes 8")
    length = stream.read(8)
    header_size = int.from_bytes(length, "little")
    if header_size > LONGEST_HEADER:
        raise ModelFormatError(
            f"its first 8 bytes give a header of {header_size} bytes, and {LONGEST_HEADER} are the most"
        )
    if header_size > size - 8:
        raise ModelFormatError(f"its header should take {header_size} bytes, but only {size - 8} follow the length")
    encoded = stream.read(header_size)
    if not encoded.startswith(b"{"):
        raise ModelFormatError(f"its header must begin with '{{', found {encoded[:1]!r}")
    header = parse_json("the header", encoded)
    metadata = take(header, "__metadata__", dict, "the header")
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise ModelFormatError(f"__metadata__[{shown(name)}] must be a string, found {shown(value)}")
    entries = _check_entries(header, size - 8 - header_size)
    data = np.empty(size - 8 - header_size, np.uint8)
    if len(encoded) != header_size or stream.readinto(data) != len(data):
        raise ModelFormatError("it became shorter while it was read")
    if "sha256" in metadata:
        _check_digest(metadata.pop("sha256"), length, encoded, data)
    return Container(metadata, entries, data)


def _check_digest(written: str, length: bytes, encoded: bytes, data: np.ndarray) -> None:
    text = written.encode("ascii", "replace")
    if len(text) != len(_NO_DIGEST) or encoded.count(text) != 1:
        raise ModelFormatError(f"__metadata__['sha256'] must be 64 digits found nowhere else, found {shown(written)}")
    digest = hashlib.sha256(length + encoded.replace(text, _NO_DIGEST.encode()))
    digest.update(data)
    if digest.hexdigest() != written:
        raise ModelFormatError("it was damaged: its bytes do not give the SHA-256 that it states")


def check_bounds(where: str, text: bytes) -> None:
    """ModelFormatError if a JSON text has too many values, goes too deep, or has half a character in a string.

    Before it is parsed, and piece by piece: three bytes of text may become a list of sixty.
    """
    # escaped characters could be taken for ends of strings
    plain = text.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    if b"\\u" in plain and _SURROGATE.search(_PAIRED_SURROGATES.sub(b"", plain)):
        raise ModelFormatError(f"{where} has a surrogate that is half a character")
    strings = values = depth = 0
    for start in range(0, len(plain), CHECKED_AT_ONCE):
        parts = plain[start : start + CHECKED_AT_ONCE].split(b'"')
        # every second one, from the first if the piece does not begin inside a string
        outside = b"".join(parts[strings % 2 :: 2])
        strings += len(parts) - 1
        values += sum(map(outside.count, (b",", b":", b"[", b"{")))
        if strings > 2 * MOST_VALUES or values > MOST_VALUES:
            raise ModelFormatError(f"{where} has more than {MOST_VALUES} values")
        for bracket in outside.translate(None, _NO_BRACKETS):
            depth += 1 if bracket in b"[{" else -1
            if depth > DEEPEST:
                raise ModelFormatError(f"{where} goes more than {DEEPEST} brackets deep")


def parse_json(where: str, text: bytes | str) -> dict[str, Any]:
    """A JSON object within the bounds of `check_bounds`, and without a key twice; else ModelFormatError."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))
            raise ModelFormatError(f"{where} has the key {shown(twice)} twice")
        return result

    def whole(digits: str) -> int:
        if len(digits) > LONGEST_INTEGER:
            raise ModelFormatError(f"{where} has an integer of {len(digits)} characters")
        return int(digits)

    try:
        check_bounds(where, text if isinstance(text, bytes) else text.encode())
        # decoded here: json.loads would guess UTF-16 or UTF-32 from the first bytes
        decoded = text.decode() if isinstance(text, bytes) else text
        content = json.loads(decoded, object_pairs_hook=unique, parse_int=whole)
    except ModelFormatError:
        raise
    except ValueError as error:
        raise ModelFormatError(f"{where} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelFormatError(f"{where} must be a JSON object, found {shown(content)}")
    return content


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def take(fields: dict[str, Any], name: str, kind: type, where: str) -> Any:
    """Remove and return a field that must be there and be of the kind."""
    if name not in fields:
        raise ModelFormatError(f"{where} has no {name!r}")
    value = fields.pop(name)
    if type(value) is not kind:
        raise ModelFormatError(f"{where}: {name!r} must be of type {kind.__name__}, found {shown(value)}")
    return value


def _check_entries(header: dict[str, Any], data_size: int) -> dict[str, Entry]:
    """The entries in the order of their places, which fill the data without holes and overlaps."""
    entries = {name: _check_entry(name, entry) for name, entry in header.items()}
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)))
    end, before = 0, "the header"
    for name, entry in ordered.items():
        if entry.start != end:
            kind = "a hole" if entry.start > end else "an overlap"
            raise ModelFormatError(
                f"there is {kind} between {before} and {name}: it starts at {entry.start} instead of {end}"
            )
        end, before = entry.stop, name
    if data_size != end:
        raise ModelFormatError(f"{end} bytes of tensors must follow the header, found {data_size}")
    return ordered


def _check_entry(name: str, entry: Any) -> Entry:
    # of ASCII alone: who reads it in C need not know which of all characters are printable
    if len(name) > LONGEST_NAME or not (name.isascii() and name.isprintable()):
        raise ModelFormatError(f"the header has the name {shown(name)}, which is not one of an array")
    if type(entry) is not dict:
        raise ModelFormatError(f"the header: {name!r} must be of type dict, found {shown(entry)}")
    type_name = take(entry, "dtype", str, name)
    if type_name not in TYPES:
        raise ModelFormatError(f"{name}: dtype must be one of {', '.join(TYPES)}, found {shown(type_name)}")
    shape = take(entry, "shape", list, name)
    if any(type(size) is not int or size < 0 for size in shape):
        raise ModelFormatError(f"{name}: shape must be integers of at least 0, found {shown(shape)}")
    offsets = take(entry, "data_offsets", list, name)
    if [type(offset) for offset in offsets] != [int, int]:
        raise ModelFormatError(f"{name}: data_offsets must be two integers, found {shown(offsets)}")
    size = np.dtype(TYPES[type_name]).itemsize
    # NumPy multiplies in 64 bits, also where a size of 0 makes the array an empty one
    if len(shape) > MOST_DIMENSIONS or math.prod(max(length, 1) for length in shape) * size > MOST_BYTES:
        raise ModelFormatError(f"{name}: no array is of the shape {shown(shape)}")
    needed = math.prod(shape) * size
    if offsets[0] < 0 or offsets[1] - offsets[0] != needed:
        raise ModelFormatError(f"{name}: data_offsets must span {needed} bytes, found {shown(offsets)}")
    if entry:
        raise ModelFormatError(f"{name} has the unknown key {shown(next(iter(entry)))}")
    return Entry(type_name, tuple(shape), *offsets)
