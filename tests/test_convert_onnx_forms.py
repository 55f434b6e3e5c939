"""`pymlp.convert.from_onnx` reads what others write: every form of activations, products, norms and links."""

import numpy as np
import pytest

from pymlp.convert import from_onnx
from pymlp.functions import ACTIVATIONS

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_graphs import BEHIND, LINEAR, RANDOM, B, V, W, X, check, constants, model_of, written  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    # of onnx's own implementation, in a function of which the other part counts
    pytest.mark.filterwarnings("ignore:divide by zero encountered in log"),
]

HIDDEN = [name for name, row in ACTIVATIONS.items() if row.hidden]

# from z to a; of each activation all forms that exporters are known to write, and some more
FORMS = {
    "logistic": (
        ["a = Sigmoid(z)"],
        ["p = Neg(z)", "q = Exp(p)", "r = Add(q, 1.0)", "a = Div(1.0, r)"],
        ["p = Mul(z, 0.5)", "q = Tanh(p)", "r = Mul(q, 0.5)", "a = Add(r, 0.5)"],
    ),
    "tanh": (
        ["a = Tanh(z)"],
        ["p = Mul(z, 2.0)", "q = Sigmoid(p)", "r = Mul(q, 2.0)", "a = Sub(r, 1.0)"],
    ),
    "relu": (
        ["a = Relu(z)"],
        ["a = Max(z, 0.0)"],
        ["a = Clip(z, 0.0)"],
        ["a = LeakyRelu(z) alpha=0.0"],
        ["m = Greater(z, 0.0)", "a = Where(m, z, 0.0)"],
        ["m = Greater(z, 0.0)", "f = Cast(m) to=1", "a = Mul(z, f)"],
        ["p = Abs(z)", "q = Add(p, z)", "a = Div(q, 2.0)"],
    ),
    "leaky_relu": (
        ["a = LeakyRelu(z)"],
        ["a = PRelu(z, 0.01)"],
        ["p = Mul(z, 0.01)", "a = Max(z, p)"],
    ),
    "elu": (
        ["a = Elu(z)"],
        ["a = Celu(z)"],
        ["m = Greater(z, 0.0)", "p = Exp(z)", "q = Sub(p, 1.0)", "a = Where(m, z, q)"],
        ["p = Relu(z)", "m = Min(z, 0.0)", "q = Exp(m)", "r = Sub(q, 1.0)", "a = Add(p, r)"],
    ),
    "selu": (
        ["a = Selu(z)"],
        ["p = Elu(z) alpha=1.6732632423543772", "a = Mul(p, 1.0507009873554805)"],
    ),
    "gelu": (
        ["p = Div(z, 1.41421356)", "q = Erf(p)", "r = Add(q, 1.0)", "s = Mul(z, r)", "a = Mul(s, 0.5)"],
        ["h = Mul(z, 0.5)", "p = Mul(z, 0.70710678)", "q = Erf(p)", "r = Add(1.0, q)", "a = Mul(h, r)"],
    ),
    "silu": (
        ["p = Sigmoid(z)", "a = Mul(p, z)"],
        ["n = Neg(z)", "p = Exp(n)", "q = Add(p, 1.0)", "a = Div(z, q)"],
    ),
    "mish": (
        ["a = Mish(z)"],
        ["p = Softplus(z)", "q = Tanh(p)", "a = Mul(z, q)"],
        ["e = Exp(z)", "p = Add(e, 1.0)", "q = Log(p)", "r = Tanh(q)", "a = Mul(z, r)"],
    ),
    "softplus": (
        ["a = Softplus(z)"],
        ["e = Exp(z)", "p = Add(e, 1.0)", "a = Log(p)"],
        ["m = Greater(z, 20.0)", "p = Softplus(z)", "a = Where(m, z, p)"],
        ["n = Abs(z)", "m = Neg(n)", "e = Exp(m)", "p = Add(e, 1.0)", "q = Log(p)", "r = Relu(z)", "a = Add(q, r)"],
    ),
    "cosine": (
        ["a = Cos(z)"],
        ["p = Add(z, 1.5707963267948966)", "a = Sin(p)"],
    ),
    "square": (
        ["a = Mul(z, z)"],
        ["a = Pow(z, 2.0)"],
    ),
}  # fmt: skip


def test_forms_are_given_for_every_activation():
    assert set(FORMS) == set(HIDDEN) - {"identity"}


@pytest.mark.parametrize("name", FORMS)
def test_activations_are_known_in_every_form(name, tmp_path):
    for lines in FORMS[name]:
        model = model_of([*LINEAR, *lines, *BEHIND], constants("float64"), dtype="float64")
        if name == "relu" and "Cast" in str(lines):
            model.graph.node[2].attribute[0].i = TensorProto.DOUBLE
        check(model, tmp_path, tolerance=1e-6, layers=[(3, name), (2, "identity")])
        found = from_onnx(written(model, tmp_path))
        assert found[0].dtype == "float64"
        np.testing.assert_array_equal(found[0].weights(found[1])[0], W)


@pytest.mark.parametrize("opset", [20, 24])
def test_activations_that_later_opsets_have(opset, tmp_path):
    for operator, name in (("Gelu", "gelu"), ("Swish", "silu")):
        if (opset, operator) == (20, "Swish"):
            continue
        model = model_of([*LINEAR, f"a = {operator}(z)", *BEHIND], constants(), opset=opset)
        found, _ = from_onnx(written(model, tmp_path))
        assert found.layers[0].activation == name


@pytest.mark.parametrize("slope", [0.3, -0.5, 1.0, "vector"])
def test_slopes_become_parametric_layers(slope, tmp_path):
    slopes = np.array([0.1, 0.0, 0.7]) if slope == "vector" else slope
    for lines in (["a = PRelu(z, S)"], ["m = Less(z, 0.0)", "p = Mul(z, S)", "a = Where(m, p, z)"]):
        model = model_of([*LINEAR, *lines, *BEHIND], constants(S=np.float64(slopes)))
        network, params = check(model, tmp_path)
        if slope == 1.0:
            # that is no activation at all
            assert network.layers[0].activation == "identity" or network.layers[0].parametric
            continue
        assert network.layers[0].parametric
        np.testing.assert_allclose(network.views(params)["layers.0.mixture"], np.broadcast_to(1 - slopes, 3), rtol=1e-6)


def test_slopes_behind_another_function(tmp_path):
    # both together are a mixture of relu too, of another slope
    model = model_of([*LINEAR, "t = Abs(z)", "a = PRelu(t, 0.25)", *BEHIND], constants())
    network, params = check(model, tmp_path)
    np.testing.assert_allclose(network.views(params)["layers.0.mixture"], 2, rtol=1e-6)


def test_products_in_every_form(tmp_path):
    further = constants(WT=W.T, VT=V.T, B2=B / 2, row=B[None, :], number=0.5, W2=W / 2)
    for lines in (
        ["z = Gemm(X, WT, B) transB=1"],
        ["z = Gemm(X, W2, B2) alpha=2.0, beta=2.0"],
        ["p = MatMul(X, W)", "z = Add(p, B)"],
        ["p = MatMul(X, W)", "z = Add(row, p)"],
        ["p = MatMul(X, W)", "n = Neg(B)", "z = Sub(p, n)"],
        ["T = Transpose(WT) perm=[1, 0]", "p = MatMul(X, T)", "c = Cast(p) to=1", "z = Add(c, B)"],
        ["T = Identity(W)", "d = Dropout(X)", "i = Identity(d)", "p = Gemm(i, T)", "z = Sum(p, B)"],
        ["p = Gemm(X, W, number)", "h = Sub(B, 0.5)", "z = Add(p, h)"],
    ):
        network, params = check(
            model_of([*lines, "a = Tanh(z)", "y = Gemm(a, VT, C) transB=1"], further),
            tmp_path,
            layers=[(3, "tanh"), (2, "identity")],
        )
        np.testing.assert_allclose(network.views(params)["layers.0.weight"], W.astype("f"), rtol=1e-6)
    # to the bit where nothing is folded
    _, params = from_onnx(written(model_of(["p = MatMul(X, W)", "y = Add(p, B)"], further), tmp_path))
    np.testing.assert_array_equal(params, np.concatenate([W.ravel(), B]).astype("f"))


def test_layers_without_an_activation_stay_apart(tmp_path):
    model = model_of(["a = Gemm(X, W, B)", *BEHIND], constants())
    check(model, tmp_path, layers=[(3, "identity"), (2, "identity")])


NORM = {"g": [1.5, -0.5, 0.8], "s": [0.1, 0.2, -0.3], "m": [0.5, -1.0, 2.0], "v": [0.5, 2.0, 1.0]}
NORM_OF_X = {"gx": [1.5, -0.5, 0.8, 2], "sx": [0.1, 0.2, -0.3, 1], "mx": [0.5, -1.0, 2.0, 0], "vx": [0.5, 2.0, 1.0, 3]}


def test_batch_normalisation_is_folded(tmp_path):
    arrays = constants(**{name: np.array(values, float) for name, values in {**NORM, **NORM_OF_X}.items()})
    for lines in (
        # between a layer and its activation, behind it, of the inputs, of the outputs, and all of them
        ["z = Gemm(X, W, B)", "n = BatchNormalization(z, g, s, m, v)", "a = Tanh(n)", *BEHIND],
        ["z = Gemm(X, W, B)", "n = Tanh(z)", "a = BatchNormalization(n, g, s, m, v) epsilon=0.01", *BEHIND],
        ["n = BatchNormalization(X, gx, sx, mx, vx)", "z = Gemm(n, W, B)", "a = Selu(z)", *BEHIND],
        ["z = MatMul(X, W)", "y = BatchNormalization(z, g, s, m, v)"],
        [
            "n = BatchNormalization(X, gx, sx, mx, vx)", "z = MatMul(n, W)",
            "k = BatchNormalization(z, g, s, m, v)", "t = Mish(k)", "a = BatchNormalization(t, g, s, m, v)", *BEHIND,
        ],
        # composed
        ["z = Gemm(X, W, B)", "r = Sqrt(v)", "c = Sub(z, m)", "d = Div(c, r)", "e = Mul(g, d)", "f = Add(e, s)",
         "a = Tanh(f)", *BEHIND],
        ["z = Gemm(X, W, B)", "r = Relu(z)", "k = Neg(r)", "a = Sub(s, k)", *BEHIND],
    ):  # fmt: skip
        check(model_of(lines, arrays), tmp_path)
    # a unit that counts for nothing
    arrays["g"] = np.zeros(3, np.float32)
    lines = ["z = Gemm(X, W, B)", "n = BatchNormalization(z, g, s, m, v)", "y = Sigmoid(n)"]
    check(model_of(lines, arrays), tmp_path)


LAYER_NORM = [
    "mean = ReduceMean(z) axes=[-1]", "c = Sub(z, mean)", "q = Pow(c, 2.0)", "var = ReduceMean(q) axes=[-1]",
    "w = Add(var, 1e-5)", "d = Sqrt(w)", "n = Div(c, d)", "h = Mul(n, g)", "k = Add(h, s)",
]  # fmt: skip


def test_layer_normalisation(tmp_path):
    arrays = constants(**{name: np.array(values, float) for name, values in {**NORM, **NORM_OF_X}.items()})
    one = "k = LayerNormalization(z, g, s) axis=-1"
    for lines, expected in (
        ([*LINEAR, one, "a = Tanh(k)", *BEHIND], [(3, "tanh"), (2, "identity")]),
        ([*LINEAR, *LAYER_NORM, "a = Tanh(k)", *BEHIND], [(3, "tanh"), (2, "identity")]),
        ([*LINEAR, "a = LayerNormalization(z, g)", *BEHIND], [(3, "identity"), (2, "identity")]),
        # an epsilon of its own, that goes into the layer before
        ([*LINEAR, f"{one}, epsilon=0.001", "a = Relu(k)", *BEHIND], [(3, "relu"), (2, "identity")]),
        # behind an activation, or of the inputs: a layer of its own
        (["b = Gemm(X, W, B)", "z = Tanh(b)", *LAYER_NORM, "a = Identity(k)", *BEHIND],
         [(3, "tanh"), (3, "identity"), (2, "identity")]),
        (["z = LayerNormalization(X, gx, sx) epsilon=0.01", "k = Gemm(z, W, B)", "a = Elu(k)", *BEHIND],
         [(4, "identity"), (3, "elu"), (2, "identity")]),
        # at the end
        ([*LINEAR, "y = LayerNormalization(z, g, s)"], [(3, "identity"), (3, "identity")]),
        # of multiples, with a multiple behind it
        ([*LINEAR[:0], "b = Gemm(X, W, B)", "z = Mul(b, g)", *LAYER_NORM, "t = Selu(k)", "a = Mul(t, m)", *BEHIND],
         [(3, "selu"), (2, "identity")]),
        # as Keras composes it
        ([*LINEAR, *LAYER_NORM[:5], "d = Sqrt(w)", "e = Reciprocal(d)", "i = Mul(e, g)", "o = Neg(mean)",
          "p = Mul(o, i)", "r = Add(p, s)", "t = Mul(z, i)", "u = Add(t, r)", "a = Relu(u)", *BEHIND],
         [(3, "relu"), (2, "identity")]),
    ):  # fmt: skip
        network, _ = check(model_of(lines, arrays, opset=17), tmp_path, layers=expected, tolerance=2e-5)
        assert sum(each.normalization == "layer" for each in network.layers) == 1


def test_residual_layers(tmp_path):
    Q = RANDOM.normal(size=(4, 4))
    arrays = constants(Q=Q, D=np.arange(4.0), U=RANDOM.normal(size=(4, 2)), gx=np.array(NORM_OF_X["gx"], float))
    for lines, residual in (
        (["z = Gemm(X, Q, D)", "t = Tanh(z)", "a = Add(t, X)", "y = Gemm(a, U, C)"], [True, False]),
        (["z = Gemm(X, Q, D)", "t = Tanh(z)", "a = Add(X, t)", "y = Gemm(a, U, C)"], [True, False]),
        (["z = Gemm(X, Q, D)", "a = Sum(X, z)", "y = Gemm(a, U, C)"], [True, False]),
        (["z = Gemm(X, Q, D)", "t = Elu(z)", "r = Add(t, X)", "p = Gemm(r, Q, D)", "q = Relu(p)", "a = Add(q, r)",
          "y = Gemm(a, U, C)"], [True, True, False]),
        # in Gemm, at the end, around a scaled layer, over scaled inputs, and over inputs that are scaled for the layer
        (["z = Gemm(X, Q, X)", "y = Gemm(z, U, C)"], [True, False]),
        (["z = Gemm(X, Q, D)", "t = Tanh(z)", "y = Add(t, X)"], [True, False]),
        (["b = Mul(X, gx)", "z = Gemm(b, Q, D)", "t = Tanh(z)", "a = Add(t, b)", "y = Gemm(a, U, C)"],
         [False, True, False]),
        (["b = Mul(X, gx)", "z = Gemm(b, Q, D)", "t = Tanh(z)", "a = Add(t, X)", "y = Gemm(a, U, C)"], [True, False]),
        (["i = Relu(X)", "z = Gemm(i, Q, D)", "t = Tanh(z)", "a = Add(t, i)", "y = Gemm(a, U, C)"],
         [False, True, False]),
    ):  # fmt: skip
        network, _ = check(model_of(lines, arrays), tmp_path)
        assert [each.residual for each in network.layers] == residual


def test_a_hundred_residual_layers(tmp_path):
    Q = 0.1 * RANDOM.normal(size=(4, 4))
    lines, name = [], "X"
    for number in range(100):
        lines += [f"z{number} = Gemm({name}, Q)", f"t{number} = Tanh(z{number})", f"r{number} = Add(t{number}, {name})"]
        name = f"r{number}"
    network, _ = check(model_of([*lines, f"y = Identity({name})"], constants(Q=Q)), tmp_path, tolerance=1e-4)
    assert len(network.layers) == 101


def test_inputs_that_are_scaled_chosen_or_joined(tmp_path):
    arrays = constants(
        gx=np.array(NORM_OF_X["gx"], float), mx=np.array(NORM_OF_X["mx"], float), order=np.array([2, 0, 3, 1]),
        starts=np.array([1]), ends=np.array([3]), ones=np.array([1]), U=RANDOM.normal(size=(2, 3)),
        back=np.array([-1]), first=np.array([-(1 << 31)]), shape=np.array([-1, 4]), R=RANDOM.normal(size=(6, 3)),
    )  # fmt: skip
    for lines in (
        ["i = ml.Scaler(X) offset=[1.0, 2.0, 3.0, 4.0], scale=[0.5, 2.0, 1.0, 3.0]", "y = Gemm(i, W, B)"],
        ["i = ml.Scaler(X) offset=[1.0], scale=[0.5]", "y = Gemm(i, W, B)"],
        ["a = Sub(X, mx)", "b = Div(a, gx)", "i = Add(b, 1.0)", "y = Gemm(i, W, B)"],
        ["a = Div(X, 255.0)", "y = Gemm(a, W, B)"],
        ["i = Gather(X, order) axis=1", "y = Gemm(i, W, B)"],
        ["i = ml.ArrayFeatureExtractor(X, order)", "y = Gemm(i, W, B)"],
        ["i = Slice(X, starts, ends, ones)", "y = Gemm(i, U, B)"],
        ["i = Slice(X, back, first, ones, back)", "y = Gemm(i, W, B)"],
        ["a, b = Split(X) axis=1, num_outputs=2", "i = Concat(b, a) axis=1", "y = Gemm(i, W, B)"],
        ["a = Slice(X, starts, ends, ones)", "b = Mul(X, gx)", "i = Concat(b, a) axis=1", "y = Gemm(i, R, B)"],
        ["s = Shape(X)", "i = Reshape(X, s)", "y = Gemm(i, W, B)"],
        ["i = Reshape(X, shape)", "y = Gemm(i, W, B)"],
        ["i = Relu(X)", "y = Gemm(i, W, B)"],
        ["a = Gather(X, order) axis=1", "i = Cos(a)", "y = Gemm(i, W, B)"],
    ):
        check(model_of(lines, arrays), tmp_path)


def test_pictures_are_flattened(tmp_path):
    arrays = constants(P=RANDOM.normal(size=(12, 3)), channel=np.array([0.5, 1.5, 2.5]).reshape(3, 1, 1),
                       g=np.array([1.5, -0.5, 0.8]), s=np.array([0.1, 0.2, -0.3]), v=np.array([0.5, 2.0, 1.0]),
                       one=np.array([1]), last=np.array([-1]))  # fmt: skip
    rows = RANDOM.normal(size=(9, 3, 2, 2))
    shape = {"X": ["rows", 3, 2, 2]}
    for lines in (
        ["p = Sub(X, channel)", "q = Div(p, channel)", "f = Flatten(q)", "y = Gemm(f, P, B)"],
        ["n = BatchNormalization(X, g, s, s, v)", "f = Flatten(n)", "y = Gemm(f, P, B)"],
        ["s2 = Shape(X)", "d = Gather(s2, 0) axis=0", "u = Unsqueeze(d, zero)", "t = Concat(u, last) axis=0",
         "f = Reshape(X, t)", "y = Gemm(f, P, B)"],
        ["f = Transpose(X) perm=[0, 2, 3, 1]", "h = Flatten(f)", "y = Gemm(h, P, B)"],
    ):  # fmt: skip
        extra = {**arrays, "zero": np.array([0])}
        model = model_of(lines, extra, inputs=shape)
        for tensor in model.graph.initializer:
            if tensor.name == "0":
                tensor.CopyFrom(numpy_helper.from_array(np.array(0), "0"))
        check(model, tmp_path, rows=rows)


def test_a_number_of_rows_that_an_exporter_has_fixed(tmp_path):
    arrays = constants(shape=np.array([2, -1]))
    model = model_of(["f = Reshape(X, shape)", "y = Gemm(f, W, B)"], arrays, inputs={"X": [2, 4]})
    check(model, tmp_path, rows=X[:2])


def test_one_input_for_each_column(tmp_path):
    inputs = {name: ["rows", 1] for name in ("length", "width", "height", "weight")}
    lines = ["i = Concat(length, width, weight, height) axis=1", "p = Gemm(i, W, B)", "y = Softmax(p) axis=1"]
    found = check(model_of(lines, constants(), inputs=inputs), tmp_path)
    assert list(found.feature_names_in_) == list(inputs)


def test_columns_that_are_found_out(tmp_path):
    for shape in (["rows", None], None):
        for lines in (
            ["i = Mul(X, 2.0)", "y = Gemm(i, W, B)"],
            ["p = MatMul(X, W)", "y = Tanh(p)"],
            ["y = ml.LinearRegressor(X) coefficients=[1.0, 2.0, 3.0, 4.0], intercepts=[1.0]"],
        ):
            check(model_of(lines, constants(), inputs={"X": shape}), tmp_path)


def test_the_matrices_say_the_type_of_the_network(tmp_path):
    narrow, wide = constants(), {"K": W}
    for lines, dtype in (
        (["y = Gemm(X, W)"], "float32"),
        (["c = Cast(K) to=1", "y = Gemm(X, c)"], "float32"),
        (["c = Cast(W) to=11", "x = Cast(X) to=11", "y = Gemm(x, c)"], "float64"),
        (["x = Cast(X) to=11", "p = Gemm(x, K)", "q = Cast(p) to=1", "y = Add(q, B)"], "float64"),
    ):
        network, _ = check(model_of(lines, {**narrow, **wide}), tmp_path)
        assert network.dtype == dtype
        network, _ = from_onnx(tmp_path / "model.onnx", dtype="float64")
        assert network.dtype == "float64"


def test_half_precision_becomes_float32(tmp_path):
    for kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        for raw in (False, True):
            model = model_of(["y = Gemm(X, half)"], kind=kind)
            numbers = (W * 4).round() / 4
            bits = numbers.astype(np.float16).view(np.uint16)
            if kind == TensorProto.BFLOAT16:
                bits = (numbers.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
            tensor = TensorProto(name="half", data_type=kind, dims=W.shape)
            if raw:
                tensor.raw_data = bits.tobytes()
            else:
                tensor.int32_data.extend(bits.ravel().tolist())
            model.graph.initializer.append(tensor)
            network, params = from_onnx(written(model, tmp_path))
            assert network.dtype == "float32"
            np.testing.assert_array_equal(network.weights(params)[0], numbers)


def test_arrays_of_constant_nodes_and_old_files(tmp_path):
    model = model_of(["z = Gemm(X, W, B)", "k = Constant() value_float=2.0", "a = Mul(z, k)", *BEHIND], constants())
    check(model, tmp_path)
    # arrays among the inputs, as their defaults
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    check(model, tmp_path)
    node = helper.make_node("Constant", [], ["W"], value=numpy_helper.from_array(W.astype("f"), "value"))
    model = model_of(["y = Gemm(X, W, B)"], {"B": B.astype("f")})
    model.graph.node.insert(0, node)
    check(model, tmp_path)
