"""ONNX files that are odd, damaged or made to do harm: `pymlp.convert.from_onnx` reads or refuses them."""

import make_onnx_golden
import numpy as np
import pytest

from pymlp.convert import ConversionError, from_onnx

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
from onnx import TensorProto, helper  # noqa: E402
from onnx_graphs import RANDOM, W, X, answer_of, constants, model_of, written  # noqa: E402

GOLDEN = sorted(make_onnx_golden.FOLDER.glob("*.onnx"))


def test_what_is_no_onnx_file(tmp_path):
    path = tmp_path / "model.onnx"
    for content in (b"", b"\x00" * 40, b"PK\x03\x04" + b"x" * 50, b"not a model", RANDOM.bytes(300)):
        path.write_bytes(content)
        with pytest.raises(ConversionError, match=r"model.onnx: it is not an ONNX file"):
            from_onnx(path)
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "nowhere.onnx")
    with pytest.raises(IsADirectoryError):
        from_onnx(tmp_path)


def test_cycles_and_missing_values(tmp_path):
    for lines, reason in (
        (
            ["a = Add(b, X)", "b = Relu(a)", "y = Gemm(b, W)"],
            r"node 'add 0' \(Add\): it reads 'b', which no node before",
        ),
        (["y = Add(y, X)"], "it reads 'y', which no node before"),
        (["z = Gemm(X, W)", "z = Relu(z)", "y = Tanh(z)"], "it gives 'z', which is there already"),
        (["z = Gemm(X, missing)", "y = Tanh(z)"], "it reads 'missing'"),
        (["z = Gemm(X, V)", "y = Tanh(z)"], r"rows of the shape \[4\] by a matrix of the shape \[3, 2\]"),
        (["z = Gemm(X, W, C)", "y = Tanh(z)"], r"constants of the shape \[2\] do not fit 3 columns"),
        (["z = Gemm(X, W)", "y = Add(z, C)"], r"Add\): .*broadcast"),
        (["z = Gemm(X, order)", "y = Tanh(z)"], "its matrix is of type int64"),
    ):
        model = model_of(lines, constants(order=np.ones((4, 3), np.int64)))
        with pytest.raises(ConversionError, match=reason):
            from_onnx(written(model, tmp_path))


def test_arrays_that_are_larger_than_their_bytes(tmp_path):
    def damaged(change):
        model = model_of(["y = Gemm(X, W, B)"], constants())
        change(model.graph.initializer[0])
        with pytest.raises(ConversionError) as raised:
            from_onnx(written(model, tmp_path))
        return str(raised.value)

    def typed(tensor):
        tensor.ClearField("raw_data")
        tensor.float_data.extend([1.0] * 5)

    assert "has 48 bytes for the shape [1000000000, 1000000000]" in damaged(
        lambda tensor: tensor.dims.__setitem__(slice(0, 2), [10**9, 10**9])
    )
    assert "has the shape [-4, 3]" in damaged(lambda tensor: tensor.dims.__setitem__(0, -4))
    assert "has 5 numbers for the shape [4, 3]" in damaged(typed)
    for kind in (TensorProto.COMPLEX64, TensorProto.FLOAT8E4M3FN, TensorProto.INT4, 0, 99):
        assert f"is of type {kind} of ONNX" in damaged(lambda tensor, kind=kind: setattr(tensor, "data_type", kind))


def test_graphs_that_grow_beyond_their_file(tmp_path):
    huge = np.array([1 << 40, 1 << 20])
    doubling = ["c0 = Identity(B)"] + [f"c{n + 1} = Concat(c{n}, c{n}) axis=0" for n in range(60)]
    squares = ["c0 = Unsqueeze(B, zero)", "t = Transpose(c0)", "s = Add(c0, t)"]
    for lines, inputs in (
        (["k = ConstantOfShape(huge)", "y = Gemm(X, k)"], None),
        (["k = Expand(B, huge)", "y = Gemm(X, k)"], None),
        (["k = Expand(X, huge)", "y = Gemm(k, W)"], None),
        ([*doubling, "y = Add(X, c60)"], None),
        ([*squares, *[f"s{n} = Gather(s, many{n})" for n in range(1)], "y = Add(X, s0)"], None),
        (["z = Relu(X)", "y = Gemm(z, W)"], {"X": ["rows", 1 << 40]}),
        (["z = Relu(X)", "y = Gemm(z, W)"], {"X": ["rows", 1 << 40, 1 << 40]}),
    ):
        arrays = constants(huge=huge, zero=np.array([0]), many0=np.zeros((300, 300), np.int64))
        with pytest.raises(ConversionError, match=r"far more than|input|shape|broadcast"):
            from_onnx(written(model_of(lines, arrays, inputs=inputs), tmp_path))


def external(model, folder, location, **entries):
    """Let the first array of a model lie in a file of its own."""
    tensor = model.graph.initializer[0]
    (folder / "arrays.bin").write_bytes(b"padding." + tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "8", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return written(model, folder)


def test_arrays_in_files_of_their_own(tmp_path):
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    model = model_of(["y = Gemm(X, W, B)"], constants())
    expected = answer_of(from_onnx(written(model, tmp_path)), X)
    found = from_onnx(external(model, folder, "arrays.bin", length="48"))
    np.testing.assert_array_equal(answer_of(found, X), expected)
    (tmp_path / "outside.bin").write_bytes(b"x" * 100)
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    for location in ("../outside.bin", str(tmp_path / "outside.bin"), "link.bin", "", ".", "deeper/../../outside.bin"):
        model = model_of(["y = Gemm(X, W, B)"], constants())
        with pytest.raises(ConversionError, match="not in the folder of the model"):
            from_onnx(external(model, folder, location))
    for entries, reason in (
        ({"offset": "30"}, "ends before its 48 bytes at 30"),
        ({"offset": "-8"}, "48 bytes at -8"),
        ({"length": "47"}, "47 bytes at 8.* takes 48"),
        ({"length": "all"}, "malformed"),
    ):
        model = model_of(["y = Gemm(X, W, B)"], constants())
        with pytest.raises(ConversionError, match=reason):
            from_onnx(external(model, folder, "arrays.bin", **entries))
    model = model_of(["y = Gemm(X, W, B)"], constants())
    with pytest.raises(FileNotFoundError, match=r"missing\.bin"):
        from_onnx(external(model, folder, "missing.bin"))


def test_other_parts_that_are_refused(tmp_path):
    model = model_of(["y = Gemm(X, W, B)"], constants(), opset=6)
    with pytest.raises(ConversionError, match="opset 6, and pymlp reads 7 and later"):
        from_onnx(written(model, tmp_path))
    model = model_of(["y = Gemm(X, W, B)"], constants())
    model.functions.append(helper.make_function("own", "f", [], [], [], []))
    with pytest.raises(ConversionError, match="defines the function 'f'"):
        from_onnx(written(model, tmp_path))
    model = model_of(["y = Gemm(X, W, B)"], constants())
    model.graph.sparse_initializer.add().values.name = "S"
    with pytest.raises(ConversionError, match="'S' is sparse"):
        from_onnx(written(model, tmp_path))
    model = model_of(["y = Gemm(X, W, B)"], constants())
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(ConversionError, match=r"input 'X' does not hold numbers, but type 8"):
        from_onnx(written(model, tmp_path))
    bad = W.copy()
    bad[1, 2] = np.nan
    model = model_of(["z = Gemm(X, W, B)", "y = Softmax(z)"], {**constants(), "W": bad.astype("f")})
    with pytest.raises(ConversionError, match=r"node 'gemm 0' \(Gemm\) has numbers that are not finite"):
        from_onnx(written(model, tmp_path))


def test_damaged_files_are_models_or_refused(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "model.onnx"
    outcomes = set()
    for source in GOLDEN[::4]:
        content = source.read_bytes()
        for _ in range(25):
            changed = bytearray(content)
            if random.random() < 0.3:
                del changed[random.integers(len(changed)) :]
            for _ in range(random.integers(1, 4)):
                changed[random.integers(len(changed))] = random.integers(256)
            path.write_bytes(changed)
            try:
                from_onnx(path)
                outcomes.add("read")
            except ConversionError as error:
                outcomes.add("refused" if str(error).startswith(str(path)) else str(error))
            except FileNotFoundError:
                # a flag has become that of an array in a file of its own
                outcomes.add("elsewhere")
    assert {"read", "refused"} <= outcomes <= {"read", "refused", "elsewhere"}
