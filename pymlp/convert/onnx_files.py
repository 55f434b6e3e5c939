"""ONNX files as plain Python: the graph of a file, with every array checked against the bytes there are for it.

A file may come from anywhere.  Nothing in it is executed, no array is larger than the bytes that it has in the file,
and data in further files are read from the folder of the model and from nowhere else.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pymlp.container import shown
from pymlp.convert.errors import ConversionError

# the oldest opset whose operators broadcast as NumPy does
OLDEST_OPSET = 7
# characters of an operator in a message
LONGEST_OPERATOR = 60
# by the number of the type in TensorProto: name, type of its bytes, and the field that holds it if not raw
TENSOR_TYPES: dict[int, tuple[str, str, str]] = {
    1: ("float32", "<f4", "float_data"),
    2: ("uint8", "u1", "int32_data"),
    3: ("int8", "i1", "int32_data"),
    4: ("uint16", "<u2", "int32_data"),
    5: ("int16", "<i2", "int32_data"),
    6: ("int32", "<i4", "int32_data"),
    7: ("int64", "<i8", "int64_data"),
    9: ("bool", "?", "int32_data"),
    10: ("float16", "<f2", "int32_data"),
    11: ("float64", "<f8", "double_data"),
    12: ("uint32", "<u4", "uint64_data"),
    13: ("uint64", "<u8", "uint64_data"),
    16: ("bfloat16", "<u2", "int32_data"),
}
STRING = 8
# of types whose fields hold bits and not numbers
BITS = ("float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class Node:
    """One node of a graph.

    Parameters
    ----------
    number : int
        Its place in the graph.
    name, operator, domain : str
    inputs, outputs : tuple of str
        Names of values; "" where one is left out.
    attributes : dict
        Numbers, lists, strings and arrays; None for what is none of these.
    opset : int
        Version of the operators of its domain.
    """

    number: int
    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default where it is not given."""
        return self.attributes.get(name, default)

    def __str__(self) -> str:
        operator = f"{self.domain}.{self.operator}" if self.domain else self.operator
        operator = operator if len(operator) <= LONGEST_OPERATOR else f"{operator[: LONGEST_OPERATOR - 3]}..."
        if self.name:
            return f"node {shown(self.name)} ({operator})"
        outputs = next(filter(None, self.outputs), "")
        return f"node {self.number} ({operator}, which gives {shown(outputs)})"

    def refusal(self, reason: str) -> ConversionError:
        """The error that this node cannot be converted."""
        return ConversionError(f"{self}: {reason}")


@dataclass(frozen=True, eq=False)
class GraphFile:
    """What an ONNX file holds.

    Parameters
    ----------
    inputs : dict of str to (tuple of int or None, or None)
        Sizes of each input's dimensions, None where one is open; None where nothing is said of them.
    outputs : tuple of str
    nodes : list of Node
        In the order of the file.
    constants : dict of str to ndarray
    metadata : dict of str to str
    producer : str
    """

    inputs: dict[str, tuple[int | None, ...] | None]
    outputs: tuple[str, ...]
    nodes: list[Node]
    constants: dict[str, np.ndarray]
    metadata: dict[str, str] = field(default_factory=dict)
    producer: str = ""


def read_graph(path: str | os.PathLike[str]) -> GraphFile:
    """Read an ONNX file.

    Raises
    ------
    ModuleNotFoundError
        The package onnx is missing; the message has the command that installs it.
    ConversionError
        A ValueError: the file is no ONNX file or damaged, or has something that no perceptron has.
    OSError
        The file, or one that it refers to, cannot be read.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pymlp.convert.from_onnx needs the package onnx; run: pip install 'pymlp[onnx]'", name="onnx"
        ) from error
    content = Path(path).read_bytes()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ConversionError("it is not an ONNX file, or a damaged one") from error
    if not model.ir_version or not model.graph.node:
        raise ConversionError("it is not an ONNX file, or one without a graph")
    if model.functions:
        function = model.functions[0]
        raise ConversionError(
            f"it defines the function {shown(function.name)} (domain {shown(function.domain)}): "
            "inline its functions first, by onnx.inliner.inline_local_functions"
        )
    opsets = _opsets(model)
    folder = Path(path).resolve().parent
    graph = model.graph
    if graph.sparse_initializer:
        raise ConversionError(f"the array {shown(graph.sparse_initializer[0].values.name)} is sparse: store it dense")
    constants = {tensor.name: array_of(tensor, folder) for tensor in graph.initializer}
    return GraphFile(
        # older files list their arrays among the inputs, as defaults
        {value.name: _dimensions(value) for value in graph.input if value.name not in constants},
        tuple(value.name for value in graph.output),
        [_node(onnx, number, node, opsets, folder) for number, node in enumerate(graph.node)],
        constants,
        {entry.key: entry.value for entry in model.metadata_props},
        model.producer_name,
    )


def _opsets(model: Any) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for entry in model.opset_import:
        domain = _domain(entry.domain)
        opsets[domain] = max(entry.version, opsets.get(domain, 0))
    version = opsets.get("")
    if version is not None and version < OLDEST_OPSET:
        raise ConversionError(f"it has opset {version}, and pymlp reads {OLDEST_OPSET} and later")
    return opsets


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _dimensions(value: Any) -> tuple[int | None, ...] | None:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise ConversionError(f"the input {shown(value.name)} is not a tensor")
    if kind.elem_type not in TENSOR_TYPES and kind.elem_type:
        raise ConversionError(f"the input {shown(value.name)} does not hold numbers, but type {kind.elem_type} of ONNX")
    if not kind.HasField("shape"):
        return None
    return tuple(
        size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None for size in kind.shape.dim
    )


def _node(onnx: Any, number: int, node: Any, opsets: Mapping[str, int], folder: Path) -> Node:
    domain = _domain(node.domain)
    kinds = onnx.AttributeProto
    readers = {
        kinds.FLOAT: lambda each: each.f,
        kinds.INT: lambda each: each.i,
        kinds.STRING: lambda each: each.s.decode("utf-8", "replace"),
        kinds.TENSOR: lambda each: array_of(each.t, folder),
        kinds.FLOATS: lambda each: list(each.floats),
        kinds.INTS: lambda each: list(each.ints),
        kinds.STRINGS: lambda each: [text.decode("utf-8", "replace") for text in each.strings],
    }
    attributes = {each.name: readers.get(each.type, lambda each: None)(each) for each in node.attribute}
    inputs, outputs = tuple(node.input), tuple(node.output)
    return Node(number, node.name, node.op_type, domain, inputs, outputs, attributes, opsets.get(domain, 0))


def array_of(tensor: Any, folder: Path) -> np.ndarray:
    """The array of a tensor; half precision becomes float32, strings become objects.

    Raises
    ------
    ConversionError
        Its type is none that pymlp reads, or it has other bytes than its shape asks for.
    OSError
        Its data lie in another file, which cannot be read.
    """
    shape = tuple(tensor.dims)
    where = f"the array {shown(tensor.name)}"
    if any(size < 0 for size in shape):
        raise ConversionError(f"{where} has the shape {list(shape)}")
    count = math.prod(shape)
    if tensor.data_type == STRING:
        if len(tensor.string_data) != count:
            raise ConversionError(f"{where} has {len(tensor.string_data)} strings for the shape {list(shape)}")
        try:
            texts = [text.decode("utf-8") for text in tensor.string_data]
        except UnicodeDecodeError as error:
            raise ConversionError(f"{where} has a string that is not UTF-8: {error}") from error
        found = np.empty(count, object)
        found[:] = texts
        return found.reshape(shape)
    if tensor.data_type not in TENSOR_TYPES:
        known = ", ".join(name for name, _, _ in TENSOR_TYPES.values())
        raise ConversionError(f"{where} is of type {tensor.data_type} of ONNX, and pymlp reads {known} and strings")
    name, stored, place = TENSOR_TYPES[tensor.data_type]
    numbers = getattr(tensor, place)
    if tensor.external_data or tensor.data_location:
        values = np.frombuffer(_external(tensor, where, folder, count * np.dtype(stored).itemsize), stored)
    elif tensor.HasField("raw_data"):
        values = _of_bytes(tensor.raw_data, stored, where, shape, count)
    elif len(numbers) != count:
        raise ConversionError(f"{where} has {len(numbers)} numbers for the shape {list(shape)}")
    elif name in BITS:
        values = np.array(numbers, np.int64).astype(np.uint16).view(stored)
    else:
        values = np.array(numbers).astype(stored)
    if name == "bfloat16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    elif name == "float16":
        values = values.astype(np.float32)
    return values.reshape(shape)


def _of_bytes(content: bytes, stored: str, where: str, shape: tuple[int, ...], count: int) -> np.ndarray:
    if len(content) != count * np.dtype(stored).itemsize:
        raise ConversionError(f"{where} has {len(content)} bytes for the shape {list(shape)} of {np.dtype(stored)}")
    return np.frombuffer(content, stored)


def _external(tensor: Any, where: str, folder: Path, size: int) -> bytes:
    """The bytes of a tensor that lie in a file of their own, which must be in the folder of the model."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    path = (folder / location).resolve()
    # also where a link leads out of it
    if not location or os.path.isabs(location) or not path.is_relative_to(folder) or path == folder:
        raise ConversionError(f"{where} lies in the file {shown(location)}, which is not in the folder of the model")
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(size)))
    except ValueError as error:
        raise ConversionError(f"{where}: its place in {shown(location)} is malformed: {error}") from error
    if offset < 0 or length != size:
        raise ConversionError(f"{where}: {length} bytes at {offset} of {shown(location)}, but it takes {size} bytes")
    if size == 0:
        return b""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file, where the model keeps its arrays", str(path))
    if offset + size > path.stat().st_size:
        raise ConversionError(f"{where}: {shown(location)} ends before its {size} bytes at {offset}")
    with open(path, "rb") as stream:
        stream.seek(offset)
        return stream.read(size)
