"""The container: arrays and strings go in and come out, whatever their types and shapes."""

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
