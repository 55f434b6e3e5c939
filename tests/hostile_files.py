"""Model files that mean harm: small ones that would take much time or memory, each with a right digest.

Beside the fuzzer's finds, which are in tests/corpus, these are what one thinks of.
"""

import hashlib
import json

from pymlp.container import LONGEST_HEADER

ENTRY = '"{}": {{"dtype": "U8", "shape": [], "data_offsets": [{}, {}]}}'
DESCRIPTION = {"inputs": 1, "layers": [{"outputs": 1, "activation": "identity"}], "loss": "squared_error"}


def file_of(header, data=b""):
    """A file of a header, as text or bytes, and data; a place for the digest is filled."""
    encoded = header if isinstance(header, bytes) else header.encode()
    content = len(encoded).to_bytes(8, "little") + encoded + data
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


def model_file(network=None, state="{}", arrays="", data=b"", **metadata):
    """A file of one weight and one bias, whose description, state or further arrays are odd."""
    texts = {
        "format": "pymlp",
        "format_version": "1",
        "pymlp_version": "0.1.0",
        "network": network if isinstance(network, str) else json.dumps({**DESCRIPTION, **(network or {})}),
        "state": state,
        **metadata,
        "sha256": "0" * 64,
    }
    first = '"layers.0.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}'
    second = '"layers.0.bias": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}'
    entries = ", ".join(text for text in (first, second, arrays) if text)
    return file_of(f'{{"__metadata__": {json.dumps(texts)}, {entries}}}', bytes(8) + data)


def _many_tensors(count):
    entries = ", ".join(ENTRY.format(f"t{number}", number, number + 1) for number in range(count))
    return file_of(f'{{"__metadata__": {{"sha256": "{"0" * 64}"}}, {entries}}}', bytes(count))


def _shape(*sizes):
    text = f'{{"dtype": "F64", "shape": {list(sizes)}, "data_offsets": [8, 8]}}'
    return model_file(arrays=f'"state.0": {text}')


def _many_keys():
    names = [f'"{number}": 0' for number in range(16_000)]
    return file_of("{" + ", ".join([*names, names[-1]]) + "}")


def _layers(count, **fields):
    return [{"outputs": 1, **fields}] * count


def _strings(count, length):
    data = bytes(length)
    place = f'{{"dtype": "U8", "shape": [{length}], "data_offsets": [8, {8 + length}]}}'
    return model_file(state=json.dumps({"a": [{"array": "state.0"}] * count}), arrays=f'"state.0": {place}', data=data)


ROOM = LONGEST_HEADER - 1000

# what takes its time to make is made when it is asked for
BOMBS = {
    "a length of 2**64 - 1": lambda: b"\xff" * 8 + b"{}",
    "a length of 2**63": lambda: (1 << 63).to_bytes(8, "little") + b"{}",
    "a million tensors": lambda: _many_tensors(1_000_000),
    "as many tensors as fit": lambda: _many_tensors(ROOM // 70),
    "a few too many tensors": lambda: _many_tensors(4096),
    "deep lists": lambda: file_of('{"a": ' + "[" * ROOM),
    "deep lists that end": lambda: file_of('{"a": ' + "[" * (ROOM // 2) + "]" * (ROOM // 2) + "}"),
    "deep objects": lambda: file_of('{"a":' * (ROOM // 5)),
    "brackets in strings": lambda: file_of('{"' + "[" * ROOM + '": 1}'),
    "empty lists": lambda: file_of('{"a": [' + "[]," * (ROOM // 3) + "[]]}"),
    "empty strings": lambda: file_of('{"a": [' + '"",' * (ROOM // 3) + '""]}'),
    "zeros": lambda: file_of('{"a": [' + "0," * (ROOM // 2) + "0]}"),
    "a long integer": lambda: file_of('{"a": ' + "9" * ROOM + "}"),
    "a long fraction": lambda: file_of('{"a": 0.' + "3" * ROOM + "}"),
    "a long exponent": lambda: file_of('{"a": 1e' + "9" * ROOM + "}"),
    "a long string": lambda: file_of('{"a": "' + "x" * ROOM + '"}'),
    "a long string of wide characters": lambda: file_of('{"a": "' + "\U0001f40d" * (ROOM // 4) + '"}'),
    "escaped quotes": lambda: file_of('{"a": "' + '\\"' * (ROOM // 2) + '"}'),
    "escaped characters": lambda: file_of('{"a": "' + "\\u0041" * (ROOM // 6) + '"}'),
    "backslashes": lambda: file_of('{"a": "' + "\\" * ROOM + '"}'),
    "half a character": lambda: file_of('{"__metadata__": {"a": "\\ud800"}}'),
    "half a character beside a whole one": lambda: file_of('{"__metadata__": {"a": "\\ud83d\\udc0d\\udc0d"}}'),
    "a long name": lambda: file_of('{"__metadata__": {}, "' + "x" * ROOM + '": []}'),
    "a name of two lines": lambda: file_of('{"__metadata__": {}, "a\\nb": []}'),
    "a key twice": _many_keys,
    "spaces": lambda: file_of("{" + " " * ROOM + "}"),
    "a shape of many sizes": lambda: _shape(*[2**62] * 5000),
    "a shape of 2**64 numbers": lambda: _shape(2**32, 2**32),
    "a shape of none of 2**124 numbers": lambda: _shape(0, 2**62, 2**62),
    "a shape that goes round in 64 bits": lambda: _shape(2**61),
    "a width of 2**62": lambda: model_file({"layers": [{"outputs": 2**62, "activation": "identity"}]}),
    "inputs of 2**62": lambda: model_file({"inputs": 2**62}),
    "two widths of 2**62": lambda: model_file({"inputs": 2**62, "layers": _layers(1, outputs=2**62)}),
    "a million layers": lambda: model_file({"layers": _layers(1_000_000)}),
    "as many layers as fit": lambda: model_file({"layers": _layers(8000)}),
    "half as many layers as fit": lambda: model_file({"layers": _layers(4000)}),
    "an infinite penalty": lambda: model_file(json.dumps(DESCRIPTION)[:-1] + ', "l2": 1e400}'),
    "a penalty that is no number": lambda: model_file(json.dumps(DESCRIPTION)[:-1] + ', "l2": NaN}'),
    "a long penalty": lambda: model_file(json.dumps(DESCRIPTION)[:-1] + f', "l2": {"9" * 100_000}}}'),
    "many levels": lambda: model_file(
        {"loss": {"option": "Quantile", "parameters": {"levels": [(place + 1) / 20_000 for place in range(14_000)]}}}
    ),
    "a long name of an activation": lambda: model_file({"layers": _layers(1, activation="x" * 100_000)}),
    "a type with a size": lambda: model_file({"dtype": "(1000000000,)f8"}),
    "a type of many types": lambda: model_file({"dtype": "f4," * 50_000}),
    "a deep state": lambda: model_file(state='{"a":' + "[" * 20_000 + "]" * 20_000 + "}"),
    "a long state": lambda: model_file(state='{"a":[' + "[]," * 40_000 + "[]]}"),
    "a list of many empty strings, many times": lambda: _strings(5000, 20_000),
    "a reference to nothing": lambda: model_file(state='{"a": {"array": "layers.0.bias"}}'),
    "a version of two lines": lambda: model_file(pymlp_version="1\n2"),
}
