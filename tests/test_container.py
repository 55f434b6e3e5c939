"""The container: arrays and strings go in and come out, whatever their types and shapes."""

import io

import numpy as np
import pytest

from pymlp import container
from pymlp.container import ModelFormatError, naming


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u4", "u8", "u1"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_round_trip_of_every_type(tmp_path, dtype, order):
    values = np.arange(12).reshape(3, 4).astype(order + dtype)
    arrays = {"matrix": values, "transposed": values.T, "none": values[:0], "scalar": values[1, 1].reshape(())}
    container.write(tmp_path / "file", {"a": "\u00e4", "b": "0" * 64}, arrays)

    file = container.read(tmp_path / "file")

    assert file.metadata == {"a": "\u00e4", "b": "0" * 64}
    assert list(file.entries) == list(arrays)
    for name, expected in arrays.items():
        assert file.array(name).dtype == dtype
        np.testing.assert_array_equal(file.array(name), expected)


def test_the_message_names_the_file():
    def fail():
        with naming("a/path", "model file"):
            raise ModelFormatError("it is empty")

    with pytest.raises(ModelFormatError, match=r"^a/path is not a valid model file: it is empty$"):
        fail()


def test_a_file_without_arrays(tmp_path):
    container.write(tmp_path / "file", {}, {})
    file = container.read(tmp_path / "file")
    assert file.metadata == {}
    assert file.entries == {}


def _json(text):
    return container.parse_json("it", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ' + "[" * 33 + "]" * 33 + "}", "it goes more than 32 brackets deep"),
        ('{"a":' * 33 + "1" + "}" * 33, "it goes more than 32 brackets deep"),
        ('{"a": [' + "1," * 40_000 + "1]}", "it has more than 32768 values"),
        ('{"a": [' + "[]," * 20_000 + "1]}", "it has more than 32768 values"),
        ('{"a": [' + '"",' * 40_000 + "1]}", "it has more than 32768 values"),
        ('{"a": ' + "1" * 41 + "}", "it has an integer of 41 characters"),
        ('{"a": "\\ud800"}', "it has a surrogate that is half a character"),
        ('{"a": "\\uDC00"}', "it has a surrogate that is half a character"),
        ('{"a": "\\ud83d\\"\\udc0d"}', "it has a surrogate that is half a character"),
        ('{"a": 1, "b": 2, "a": 3}', "it has the key 'a' twice"),
        ('["a"]', r"it must be a JSON object, found \['a'\]"),
        ("{", "it is not JSON"),
        (b'{"\xff": 1}', "it is not JSON"),
    ],
)
def test_texts_out_of_bounds(text, message):
    with pytest.raises(ModelFormatError, match=message):
        _json(text)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('{"a": ' + "[" * 31 + "]" * 31 + "}", None),
        ('{"a": "' + "[" * 1000 + '"}', {"a": "[" * 1000}),
        ('{"a": "\\"' + ",[" * 40_000 + '"}', {"a": '"' + ",[" * 40_000}),
        ('{"a\\\\": "\\\\", "b": "\\\\\\""}', {"a\\": "\\", "b": '\\"'}),
        ('{"a": "\\ud83d\\udc0d \\\\ud800 \\u00e4"}', {"a": "\U0001f40d \\ud800 \u00e4"}),
        (f'{{"a": [{2**128 - 1}, {-(2**63)}]}}', {"a": [2**128 - 1, -(2**63)]}),
        (b'{"a": "\xc3\xa4"}', {"a": "\u00e4"}),
        # strings that begin and end at each place of a piece
        ('{"a": "' + "[" * 4085 + '"}', {"a": "[" * 4085}),
        ('{"a": "' + "[" * 4086 + '"}', {"a": "[" * 4086}),
        ('{"a": "' + "[" * 4087 + '"}', {"a": "[" * 4087}),
        ('{"a": "' + "[" * 40_000 + '", "b": [[]]}', {"a": "[" * 40_000, "b": [[]]}),
        ('{"a"' + " " * 4090 + ': ["' + "[" * 100 + '"]}', {"a": ["[" * 100]}),
    ],
)
def test_texts_within_bounds(text, content):
    assert content is None or _json(text) == content
    _json(text)


def test_what_could_not_be_read_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="is longer than the 524288 that are read"):
        container.write(tmp_path / "file", {"a": "x" * 600_000}, {})
    with pytest.raises(ValueError, match="more than 32768 values"):
        container.write(tmp_path / "file", {}, {str(number): np.zeros(1) for number in range(5000)})
    with pytest.raises(UnicodeEncodeError):
        container.write(tmp_path / "file", {"a": "\ud800"}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    container.write(tmp_path / "file", {}, {"a": np.zeros(1000)})
    content = (tmp_path / "file").read_bytes()

    class Shrinking(io.BytesIO):
        """A stream of a part of the file, whose number is that of the whole."""

        def fileno(self):
            return whole.fileno()

    with open(tmp_path / "file", "rb") as whole:
        with pytest.raises(ModelFormatError, match="it became shorter while it was read"):
            container._read_stream(Shrinking(content[:-1]))
        with pytest.raises(ModelFormatError, match="the header is not JSON"):
            container._read_stream(Shrinking(content[:50]))
