"""`pymlp.convert.from_onnx`: networks from ONNX graphs, whoever wrote them, and what is refused by name."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import make_onnx_golden
import numpy as np
import pytest

import pymlp
from pymlp import Dense, Network, Predictor
from pymlp.convert import ConversionError, fitted_estimator, from_onnx
from pymlp.convert.onnx_files import read_graph
from pymlp.convert.onnx_operators import OPERATORS, compute
from pymlp.export import to_onnx
from pymlp.functions import ACTIVATIONS
from pymlp.losses import LOSSES, CustomLoss, Focal, LogLoss, Quantile
from pymlp.network import DTYPES
from pymlp.portable import TASKS

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx_graphs import RANDOM, B, V, W, X, answer_of, constants, model_of, network_of, written  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    # of onnx's own implementation, in a function of which the other part counts
    pytest.mark.filterwarnings("ignore:divide by zero encountered in log"),
]

HIDDEN = [name for name, row in ACTIVATIONS.items() if row.hidden]
GOLDEN = sorted(make_onnx_golden.FOLDER.glob("*.onnx"))


def check(model, folder, *, rows=X, tolerance=3e-6, layers=None):
    """The converted model, which must answer what the reference implementation of ONNX does."""
    found = from_onnx(written(model, folder))
    kind = model.graph.input[0].type.tensor_type.elem_type
    given = rows.astype(helper.tensor_dtype_to_np_dtype(kind))
    names = [each.name for each in model.graph.input if each.name not in {w.name for w in model.graph.initializer}]
    feed = {names[0]: given} if len(names) == 1 else {n: given[:, i : i + 1] for i, n in enumerate(names)}
    expected = ReferenceEvaluator(model).run(None, feed)[-1]
    answer = answer_of(found, rows.reshape(len(rows), -1))
    np.testing.assert_allclose(answer, expected.reshape(answer.shape), rtol=tolerance, atol=tolerance)
    if layers is not None:
        assert [(each.outputs, each.activation) for each in network_of(found)[0].layers] == layers
    return found


# -- what pymlp has written ------------------------------------------------------------------------------------------

LAYERS = {
    "plain": {},
    "norm": {"normalization": "layer"},
    "parametric": {"parametric": True},
    "residual": {"residual": True},
    "all": {"normalization": "layer", "parametric": True, "residual": True, "dropout": 0.25, "max_norm": 2.0},
}


def drawn(network):
    random = np.random.default_rng(3)
    params = network.initial_params(3)
    for row, views in zip(network.table, network.parts(params), strict=True):
        for view in views if row.kind != "dense" else ():
            view += random.normal(scale=0.3, size=view.shape)
    return params


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HIDDEN)
def test_networks_come_back_to_the_bit(name, dtype, tmp_path):
    for options in LAYERS.values():
        for start in (drawn, lambda network: network.initial_params(0)):
            layers = (Dense(4, name, **options), Dense(4, name, **options), Dense(3, name), Dense(2, "softmax"))
            network = Network(4, layers, LogLoss(label_smoothing=0.1), dtype, l1=0.1, l2=0.2, input_dropout=0.1, seed=7)
            params = start(network)
            to_onnx((network, params), tmp_path / "model.onnx")
            found, numbers = from_onnx(tmp_path / "model.onnx")
            assert found == network
            np.testing.assert_array_equal(numbers, params)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HIDDEN)
def test_the_graph_alone_says_what_is_computed(name, dtype, tmp_path):
    # without the metadata that only pymlp reads, parametric layers that still are at their start are plain ones
    for options in LAYERS.values():
        layers = (Dense(4, name, **options), Dense(3, name), Dense(2, "identity"))
        network = Network(4, layers, dtype=dtype)
        params = drawn(network)
        to_onnx((network, params), tmp_path / "model.onnx")
        model = onnx.load(tmp_path / "model.onnx")
        del model.metadata_props[:]
        found, numbers = from_onnx(written(model, tmp_path))
        bare = {key: value for key, value in options.items() if key not in ("dropout", "max_norm")}
        assert found == Network(4, (Dense(4, name, **bare), *layers[1:]), dtype=dtype)
        np.testing.assert_array_equal(numbers, params)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [*LOSSES, Quantile([0.2, 0.8]), Quantile([0.5]), Focal(3.0)], ids=str)
def test_every_loss_comes_back(loss, dtype, tmp_path):
    group = pymlp.losses.loss_of(loss).group
    for targets in (1, 2, 3):
        network = Network.from_widths((4, 3, targets * group), "tanh", loss=loss, dtype=dtype)
        params = network.initial_params(targets)
        to_onnx((network, params), tmp_path / "model.onnx")
        found, numbers = from_onnx(tmp_path / "model.onnx")
        assert found == network
        np.testing.assert_array_equal(numbers, params)


def test_a_loss_of_ones_own_comes_back_without_its_function(tmp_path):
    network = Network.from_widths((4, 3, 2), loss=CustomLoss(lambda y, output: (y, output), "softmax"))
    to_onnx((network, network.initial_params(0)), tmp_path / "model.onnx")
    found, _ = from_onnx(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="set loss anew"):
        found.loss_function.evaluate(np.zeros((1, 2)), np.zeros((1, 2)))


CLASSES = {
    "binary": (["no", "yes"], [3, 9], [False, True], np.array([0.0, 2.0]), np.array(["a", "b"], object), ["only"]),
    "multiclass": (["a", "b", "zürich"], [3, 9, 1 << 40], np.array([1, 2, 3], np.uint8)),
    "multilabel-indicator": (None,),
    "numbers": (None,),
}
TASK_LOSSES = {
    "binary": ("binary_log_loss", "binary_focal", "hinge"),
    "multiclass": ("log_loss", "focal", "squared_hinge"),
    "multilabel-indicator": ("binary_log_loss", "hinge"),
    "numbers": ("squared_error", "huber", "poisson", "quantile", "gaussian_nll"),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("task", TASKS)
def test_estimators_come_back(task, dtype, tmp_path):
    rows = X.astype(dtype)
    for loss in TASK_LOSSES[task]:
        group = pymlp.losses.loss_of(loss).group
        for classes in CLASSES[task]:
            columns = 1 if task == "binary" else 3
            network = Network.from_widths((4, 5, columns * group), "elu", loss=loss, dtype=dtype, l2=1e-4)
            scale = None
            if group > 1:
                scale = (
                    np.tile(np.array([2.0, 3.0], dtype), columns * group)[: columns * group],
                    np.full(columns * group, 0.5, dtype),
                )
            model = fitted_estimator(
                network, 2 * network.initial_params(1), task=task, classes=classes, feature_names=list("abcd"),
                output_scale=scale,
            )  # fmt: skip
            to_onnx(model, tmp_path / "model.onnx")
            found = from_onnx(tmp_path / "model.onnx")
            assert type(found) is type(model)
            assert found.network_ == model.network_
            np.testing.assert_array_equal(found.params_, model.params_)
            np.testing.assert_array_equal(found.predict(rows), model.predict(rows))
            np.testing.assert_array_equal(Predictor(found)(rows), Predictor(model)(rows))
            assert list(found.feature_names_in_) == list("abcd")
            if task != "numbers":
                assert found.classes_.dtype == model.classes_.dtype
                assert found.classes_.tolist() == model.classes_.tolist()
            y = np.abs(rows[:, :columns]) if task == "numbers" else model.predict(rows)
            if len(np.unique(y)) > 1:
                found.set_params(solver="sgd").partial_fit(rows, y)
                assert not np.array_equal(found.params_, model.params_)
            pickle.loads(pickle.dumps(found)).predict(rows)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel-indicator"])
def test_labels_are_told_by_the_graph_alone(task, tmp_path):
    for loss in TASK_LOSSES[task]:
        network = Network.from_widths((4, 5, 1 if task == "binary" else 3), "elu", loss=loss)
        classes = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"]}.get(task)
        model = fitted_estimator(network, 2 * network.initial_params(1), task=task, classes=classes)
        to_onnx(model, tmp_path / "model.onnx")
        content = onnx.load(tmp_path / "model.onnx")
        del content.metadata_props[:]
        for outputs in (slice(0, 2), slice(0, 1), slice(1, 2)):
            part = onnx.ModelProto.FromString(content.SerializeToString())
            kept = content.graph.output[outputs]
            del part.graph.output[:]
            part.graph.output.extend(kept)
            found = from_onnx(written(part, tmp_path))
            if isinstance(found, tuple):
                # scores alone are numbers
                assert [each.name for each in kept] == ["scores"]
                continue
            np.testing.assert_array_equal(found.params_, model.params_)
            answer = found.predict(X.astype("f"))
            expected = model.predict(X.astype("f"))
            if [each.name for each in kept] == ["probabilities"] and classes:
                # which does not know the labels
                expected = np.searchsorted(classes, expected)
            np.testing.assert_array_equal(answer, expected)


def test_metadata_of_another_network_count_for_nothing(tmp_path):
    network = Network.from_widths((4, 3, 1))
    to_onnx((network, network.initial_params(0)), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    for entry in model.metadata_props:
        if entry.key == "network":
            entry.value = entry.value.replace("relu", "tanh")
    found, _ = from_onnx(written(model, tmp_path))
    assert found.layers[0].activation == "relu"
    for entry in model.metadata_props:
        if entry.key == "network":
            entry.value = "{"
    with pytest.raises(ConversionError, match="its metadata describe no network"):
        from_onnx(written(model, tmp_path))


# -- what others write -----------------------------------------------------------------------------------------------

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
LINEAR = ["z = Gemm(X, W, B)"]
BEHIND = ["y = Gemm(a, V, C)"]


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


# -- what the end of a graph says -------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_probabilities_make_a_classifier(columns, tmp_path):
    arrays = constants(K=RANDOM.normal(size=(4, columns)), one=np.float64(1))
    rows = X.astype("f")
    for end in ("Softmax", "Sigmoid", "LogSoftmax"):
        if columns == 1 and end != "Sigmoid":
            continue
        model = model_of(["z = MatMul(X, K)", f"y = {end}(z){'' if end == 'Sigmoid' else ' axis=1'}"], arrays)
        found = from_onnx(written(model, tmp_path))
        assert isinstance(found, pymlp.MLPClassifier)
        assert found.classes_.tolist() == list(range(max(2, columns)))
        (expected,) = ReferenceEvaluator(model).run(None, {"X": rows})
        answer = found.predict_log_proba(rows) if end == "LogSoftmax" else found.predict_proba(rows)
        np.testing.assert_allclose(answer[:, -columns:], expected, rtol=1e-4, atol=1e-6)
        found.set_params(solver="sgd").partial_fit(rows, found.predict(rows))


def test_scores_become_a_classifier_by_a_loss(tmp_path):
    model = model_of([*LINEAR, "a = Relu(z)", *BEHIND], constants())
    path = written(model, tmp_path)
    assert isinstance(from_onnx(path), tuple)
    for asked in (
        {"classes": ["no", "yes"]},
        {"task": "binary"},
        {"task": "multilabel-indicator"},
        {"task": "numbers"},
    ):
        found = from_onnx(path, **asked, feature_names=list("abcd"), dtype="float64")
        assert isinstance(found, pymlp.MLPRegressor if asked.get("task") == "numbers" else pymlp.MLPClassifier)
        assert list(found.feature_names_in_) == list("abcd")
        assert found.network_.dtype == "float64"
    found = from_onnx(path, classes=["yes", "no"])
    assert found.classes_.tolist() == ["no", "yes"]
    found = from_onnx(path, loss="log_loss")
    (scores,) = ReferenceEvaluator(model).run(None, {"X": X.astype("f")})
    np.testing.assert_array_equal(found.predict(X), scores.argmax(axis=1))
    np.testing.assert_allclose(found.decision_function(X), scores[:, 1] - scores[:, 0], rtol=1e-4, atol=1e-5)
    found = from_onnx(path, loss=Focal())
    assert found.loss == "focal"
    network, _ = from_onnx(path, loss="huber")
    assert network.loss == "huber"
    for asked, reason in (
        ({"task": "none"}, "task='none' is not one of"),
        ({"dtype": "float16"}, "dtype='float16' is not one of"),
        ({"classes": ["a", "b", "c"]}, "must be the 2 labels"),
    ):
        with pytest.raises(ConversionError, match=reason):
            from_onnx(path, **asked)
    with pytest.raises(ConversionError, match="loss='none' is unknown"):
        from_onnx(path, loss="none")
    with pytest.raises(ConversionError, match=r"'quantile' has 3 outputs for each target, but there are 2"):
        from_onnx(path, loss="quantile")
    path = written(model_of([*LINEAR, "y = Softmax(z)"], constants()), tmp_path)
    with pytest.raises(ConversionError, match=r"ends the network with 'softmax', but loss='poisson' is .* 'exp'"):
        from_onnx(path, loss="poisson")


def test_labels_of_any_order_and_kind(tmp_path):
    rows = X.astype("f")
    arrays = constants(names=np.array(["c", "a", "b"], object), two=np.array(["yes", "no"], object),
                       K=W[:, :1], shape=np.array([-1]))  # fmt: skip
    softmax = [*LINEAR, "p = Softmax(z) axis=1"]
    single = ["z = MatMul(X, K)", "p = Sigmoid(z)"]
    for lines, outputs in (
        ([*softmax, "k = ArgMax(p) axis=1, keepdims=0", "l = Gather(names, k)"], ["l", "p"]),
        ([*softmax, "k = ArgMax(z) axis=1", "l = ml.ArrayFeatureExtractor(names, k)"], ["l", "p"]),
        ([*softmax, "k = ArgMax(p) axis=-1, keepdims=0", "l = Gather(names, k)"], ["l"]),
        ([*softmax, "k = ArgMax(p) axis=1, keepdims=0"], ["k", "p"]),
        ([*LINEAR, "k = ArgMax(z) axis=1, keepdims=0", "l = Gather(names, k)"], ["l", "z"]),
        ([*single, "t = Greater(p, 0.5)", "k = Cast(t) to=7", "l = ml.ArrayFeatureExtractor(two, k)"], ["l", "p"]),
        ([*single, "t = Less(z, 0.0)", "n = Not(t)", "k = Cast(n) to=7", "l = Gather(two, k)"], ["l"]),
        ([*LINEAR, "a = Relu(z)", "w = Gemm(a, V, C)", "k = ArgMax(w) axis=1, keepdims=0", "l = Gather(two, k)"],
         ["w", "l"]),
    ):  # fmt: skip
        model = model_of(lines, arrays, outputs=outputs)
        found = from_onnx(written(model, tmp_path))
        by_name = dict(zip(outputs, ReferenceEvaluator(model).run(None, {"X": rows}), strict=True))
        expected = by_name.get("l", by_name.get("k")).reshape(-1)
        np.testing.assert_array_equal(found.predict(rows), expected)
        assert found.classes_.tolist() == sorted(found.classes_.tolist())


def test_many_classes(tmp_path):
    classes = np.array([f"class {number}" for number in range(400)], object)
    arrays = {"K": RANDOM.normal(size=(4, 400)).astype("f"), "names": classes}
    lines = ["z = MatMul(X, K)", "k = ArgMax(z) axis=1, keepdims=0", "l = Gather(names, k)", "p = Softmax(z) axis=1"]
    model = model_of(lines, arrays, outputs=["l", "p"])
    found = from_onnx(written(model, tmp_path))
    expected = ReferenceEvaluator(model).run(None, {"X": X.astype("f")})[0]
    np.testing.assert_array_equal(found.predict(X), expected)


def test_models_of_the_machine_learning_domain(tmp_path):
    rows = X.astype("f")
    one, two = W[:, 0].tolist(), W[:, :2].T.ravel().tolist()
    opposite = [*[-each for each in one], *one]
    three = W.T.ravel().tolist()
    for coefficients, intercepts, labels, transform in (
        (opposite, [-0.5, 0.5], ["a", "b"], "LOGISTIC"),
        (opposite, [-0.5, 0.5], ["b", "a"], "LOGISTIC"),
        (opposite, [-0.5, 0.5], ["a", "b"], "NONE"),
        (two, [0.1, 0.2], ["a", "b"], "SOFTMAX"),
        (three, [0.1, 0.2, 0.3], [3, 1, 2], "SOFTMAX"),
        (three, [0.1, 0.2, 0.3], ["a", "b", "c"], "NONE"),
    ):
        kind = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_ints"
        line = (
            f"l, p = ml.LinearClassifier(X) coefficients={coefficients}, intercepts={intercepts}, {kind}={labels}, "
            f"post_transform='{transform}'"
        )
        model = model_of([line], outputs=["l", "p"])
        found = from_onnx(written(model, tmp_path))
        label, scores = ReferenceEvaluator(model).run(None, {"X": rows})
        np.testing.assert_array_equal(found.predict(rows), label)
        if transform == "NONE":
            answer = found.decision_function(rows)
            np.testing.assert_allclose(answer, scores[:, 1] if scores.shape[1] == 2 else scores, rtol=1e-4, atol=1e-6)
            assert found.loss == "hinge"
        else:
            answer = found.predict_proba(rows)[:, np.searchsorted(found.classes_, labels)]
            np.testing.assert_allclose(answer, scores, rtol=1e-4, atol=1e-6)
    line = f"y = ml.LinearRegressor(X) coefficients={two}, intercepts=[1.0, 2.0], targets=2"
    found = check(model_of([line]), tmp_path)
    assert isinstance(found, pymlp.MLPRegressor)


def test_a_row_function_at_the_end_without_metadata(tmp_path):
    for loss in ("quantile", "gaussian_nll", "poisson"):
        group = pymlp.losses.loss_of(loss).group
        network = Network.from_widths((4, 3, 2 * group), "tanh", loss=loss, dtype="float64")
        params = network.initial_params(0)
        to_onnx((network, params), tmp_path / "model.onnx")
        model = onnx.load(tmp_path / "model.onnx")
        del model.metadata_props[:]
        path = written(model, tmp_path)
        if loss == "quantile":
            with pytest.raises(ConversionError, match=r"ends in quantiles, 3 for each target.*pymlp.Quantile"):
                from_onnx(path)
        found, numbers = from_onnx(path, loss=Quantile() if loss == "quantile" else None)
        assert found.layers == network.layers
        np.testing.assert_array_equal(numbers, params)


def test_an_activation_at_the_end_gets_a_layer_behind_it(tmp_path):
    model = model_of([*LINEAR, "t = Tanh(z)", "y = Mul(t, 2.0)"], constants())
    network, params = check(model, tmp_path, layers=[(3, "tanh"), (3, "identity")])
    np.testing.assert_array_equal(network.weights(params)[1], 2 * np.eye(3))


# -- what is refused --------------------------------------------------------------------------------------------------

REFUSED = [
    ("HardSigmoid", ["a = HardSigmoid(z)"], "none of pymlp's activations"),
    ("HardSwish", ["a = HardSwish(z)"], "none of pymlp's activations"),
    ("Softsign", ["a = Softsign(z)"], "none of pymlp's activations"),
    ("Elu", ["a = Elu(z) alpha=0.5"], "none of pymlp's activations"),
    ("ThresholdedRelu", ["a = ThresholdedRelu(z)"], "none of pymlp's activations"),
    ("Clip", ["a = Clip(z, 0.0, 6.0)"], "none of pymlp's activations"),
    ("Softmax", ["a = Softmax(z) axis=1"], "none of pymlp's activations"),
    ("Sinh", ["a = Sinh(z)"], "no such function"),
    ("LSTM", ["a = LSTM(z, V, V)"], "no such function"),
    ("If", ["a = If(z)"], "no such function"),
    ("Hardmax", ["a = Hardmax(z)"], "no such function"),
    ("QuantizeLinear", ["a = QuantizeLinear(z, 0.1)"], "no such function"),
    ("Add", ["t = Tanh(z)", "a = Add(t, z)"], "none of pymlp's activations"),
    ("Sum", ["t = Gemm(X, W)", "a = Sum(t, z)"], "joins values of different layers"),
    ("Mul", ["t = Gemm(X, W)", "a = Mul(t, z)"], "joins values of different layers"),
    ("ReduceMean", ["m = ReduceMean(z) axes=[0]", "a = Sub(z, m)"], "takes rows together"),
    ("Transpose", ["t = Transpose(z) perm=[1, 0]", "a = MatMul(t, z)"], "takes rows together"),
    ("MatMul", ["a = MatMul(table, z)"], "not rows of it by a matrix"),
    ("MatMul", ["a = MatMul(z, z)"], "two values that depend on the inputs"),
    ("Mul", ["t = Tanh(z)", "a = Mul(z, t)"], "none of pymlp's activations"),
    ("Dropout", ["a = Dropout(z, 0.5, yes)"], "training mode"),
    ("BatchNormalization", ["a = BatchNormalization(z, B, B, B, B) training_mode=1"], "training mode"),
    ("LayerNormalization", ["a = LayerNormalization(z, B) axis=0"], "columns of rows"),
    ("Reshape", ["a = Reshape(z, flat)"], "takes rows together"),
    ("Gemm", ["t = Gemm(z, V, C) transA=1", "a = Identity(z)"], "transA"),
    ("Div", ["s = Shape(z)", "f = Cast(s) to=1", "g = Gather(f, first)", "a = Div(z, g)"], "how many rows"),
    ("Mul", ["k = ArgMax(z) axis=1", "f = Cast(k) to=1", "a = Mul(z, f)"], "none of pymlp's activations"),
    ("Gather", ["k = ArgMax(z) axis=1, keepdims=0", "a = Gather(table, k)"], "none of pymlp's activations"),
    ("CumSum", ["a = CumSum(z, one) reverse=1"], "first column"),
]


@pytest.mark.parametrize(("operator", "lines", "reason"), REFUSED)
def test_what_cannot_be_read_is_named(operator, lines, reason, tmp_path):
    arrays = constants(
        yes=np.array(True), flat=np.array([-1]), first=np.array([0]), one=np.array(1), table=RANDOM.normal(size=(3, 3))
    )
    end = "y = Gemm(t, V)" if operator == "Gemm" else BEHIND[0]
    model = model_of([*LINEAR, *lines, end], arrays, opset=17)
    with pytest.raises(ConversionError, match=rf"model.onnx: node '\w+ \d+' \({operator}\): .*({reason})"):
        from_onnx(written(model, tmp_path))


def test_a_node_without_a_name_is_named_by_what_it_gives(tmp_path):
    model = model_of([*LINEAR, "a = Sinh(z)", *BEHIND], constants())
    model.graph.node[1].name = ""
    with pytest.raises(ConversionError, match=r"node 1 \(Sinh, which gives 'a'\)"):
        from_onnx(written(model, tmp_path))
    # what leads to no output need not be read
    model = model_of([*LINEAR, "a = Sinh(z)", "y = Gemm(X, W)"], constants())
    check(model, tmp_path)


def test_ends_that_are_refused(tmp_path):
    arrays = constants(K=W[:, :2], names=np.array(["a", "b", "c"], object))
    for lines, outputs, reason in (
        (["y = Gemm(X, W, B)", "w = Gemm(y, V, C)"], ["y", "w"], "several outputs with numbers: 'y', 'w'"),
        (["y = Identity(X)"], ["y"], "multiplies by no matrix"),
        (["y = Identity(W)"], ["y"], "no input"),
        (["z = Gemm(X, W)", "p = Softmax(z) axis=1", "k = ArgMin(p) axis=1"], ["k"], r"ArgMin\): pymlp has no such"),
        (["z = Gemm(X, W)", "n = Neg(z)", "k = ArgMax(n) axis=1", "p = Softmax(z) axis=1"], ["k", "p"],
         r"ArgMax\): its labels are not those of the largest score"),
        (["z = Gemm(X, W)", "p = Sigmoid(z)", "k = ArgMax(p) axis=1"], ["k", "p"], r"ArgMax\): it gives 1 labels"),
        (["z = Gemm(X, W)", "p = Sigmoid(z)", "t = Greater(p, 0.3)"], ["t", "p"], "more probable than not"),
        (["z = Gemm(X, W)", "y = Softmax(z) axis=0"], ["y"], r"Softmax\): it runs over axis 0"),
        (["z = Gemm(X, W)", "e = Unsqueeze(z, two)"], ["e"], r"the shape \[3, 1\]"),
        (["z = Gemm(X, W)"], ["q"], "'q' is computed by no node"),
    ):  # fmt: skip
        model = model_of(lines, {**arrays, "two": np.array([2])}, outputs=outputs)
        with pytest.raises(ConversionError, match=reason):
            from_onnx(written(model, tmp_path))


def test_networks_need_no_scikit_learn(tmp_path):
    program = """
import sys
sys.modules["sklearn"] = sys.modules["scipy"] = None
import pymlp
network = pymlp.Network.from_widths((4, 3, 1), "gelu")
params = network.initial_params(pymlp.network.np.random.RandomState(0))
pymlp.export.to_onnx((network, params), sys.argv[1])
found, numbers = pymlp.convert.from_onnx(sys.argv[1])
assert found == network and (numbers == params).all()
"""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    command = [sys.executable, "-c", program, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_without_the_package_one_line_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"^pymlp.convert.from_onnx needs .* pip install 'pymlp\[onnx\]'$"):
        from_onnx(GOLDEN[0])


# -- files of the exporters -------------------------------------------------------------------------------------------


def compare(path, stored):
    """The model of a file of an exporter, which must answer what onnxruntime does."""
    model = from_onnx(path)
    rows = stored["X"]
    numbers = stored["numbers"].reshape(len(rows), -1)
    if "norms" in Path(path).name and "torch" in Path(path).name:
        # they are logarithms
        numbers = np.exp(numbers)
    answer = answer_of(model, rows)[:, -numbers.shape[1] :]
    tolerance = 1e-12 if network_of(model)[0].dtype == "float64" else 1e-6
    np.testing.assert_allclose(answer, numbers, rtol=0, atol=tolerance * np.abs(numbers).max())
    if "labels" in stored:
        predicted = model.predict(rows.astype(model.network_.dtype))
        np.testing.assert_array_equal(predicted.astype(stored["labels"].dtype), stored["labels"])
    if not isinstance(model, tuple):
        y = model.predict(rows)
        model.set_params(solver="sgd").partial_fit(rows, y)
    return model


def test_there_are_files_of_every_exporter():
    found = {path.stem.rsplit("_", 1)[0] if "sklearn" not in path.stem else "sklearn" for path in GOLDEN}
    assert found == {"torch_script", "torch_dynamo", "keras_torch", "keras_jax", "sklearn"}
    assert max(path.stat().st_size for path in GOLDEN) < 10_000


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_files_of_exporters(path):
    with np.load(path.with_suffix(".npz")) as stored:
        model = compare(path, dict(stored))
    if path.stem.startswith("sklearn"):
        regressors = ("regressor", "columns", "linear")
        assert isinstance(model, pymlp.MLPRegressor if path.stem.endswith(regressors) else pymlp.MLPClassifier)
    if path.stem == "sklearn_frame":
        assert list(model.feature_names_in_) == [f"column_{place}" for place in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("source", make_onnx_golden.SOURCES)
def test_what_the_installed_exporters_write(source, tmp_path, monkeypatch):
    needed = {"torch": ("torch", "onnxscript"), "keras": ("torch", "keras"), "sklearn": ("skl2onnx",)}[source]
    for name in ("onnxruntime", *needed):
        if name == "keras":
            monkeypatch.setenv("KERAS_BACKEND", "torch")
        pytest.importorskip(name, reason=f"the package {name} is not installed")
    rows = RANDOM.normal(loc=3, scale=2, size=(12, 4)).astype(np.float32)
    count = 0
    for path in make_onnx_golden.SOURCES[source](tmp_path):
        compare(path, {"X": rows, **make_onnx_golden.answers(path, rows)})
        count += 1
    assert count >= 2


def test_operators_are_the_reference_implementation_s(tmp_path):
    """Each operator that is read gives what ONNX's own implementation does."""
    z = np.concatenate([np.linspace(-5, 5, 33), [0.0, 1e-3, -1e-3]])[:, None] * np.array([1.0, 0.3, -1.0])
    lines = {
        "Pow": "y = Pow(X, 3.0)", "Div": "y = Div(X, 1.5)", "Clip": "y = Clip(X, -1.0, 2.0)", "Where": None,
        "Max": "y = Max(X, 0.5)", "Min": "y = Min(X, 0.5)", "PRelu": "y = PRelu(X, 0.2)", "Cast": "y = Cast(X) to=6",
        "And": None, "Or": None, "Not": None, "Expand": None, "Gather": "y = Gather(X, places) axis=1", "Concat": None,
        "Reshape": "y = Reshape(X, shape)", "Slice": None, "Split": None, "Transpose": "y = Transpose(X) perm=[1, 0]",
        "Unsqueeze": "y = Unsqueeze(X, axis)", "Squeeze": None, "CumSum": "y = CumSum(X, number)",
        "ConstantOfShape": None, "ArrayFeatureExtractor": None, "FeatureVectorizer": None, "Sum": None,
        "LayerNormalization": "y = LayerNormalization(X, gain, gain) epsilon=0.1", "Swish": None, "Gelu": None,
        "Normalizer": "y = ml.Normalizer(X) norm='L2'", "Binarizer": "y = ml.Binarizer(X) threshold=0.5",
        "Log": "a = Abs(X)\ny = Log(a)", "Sqrt": "a = Abs(X)\ny = Sqrt(a)",
        "Reciprocal": "a = Add(X, 9.0)\ny = Reciprocal(a)",
    }  # fmt: skip
    compared = 0
    for _, operator in OPERATORS:
        text = lines.get(operator, None if operator in lines else f"y = {operator}(X)")
        if operator in ("Add", "Sub", "Mul", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
            text = f"y = {operator}(X, 0.3)"
        if operator in ("ArgMax", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare"):
            text = f"y = {operator}(X){' axis=1' if operator == 'ArgMax' else ''}"
        if text is None:
            continue
        arrays = {"places": np.array([2, 0]), "shape": np.array([3, 0]), "axis": np.array([1]), "number": np.array(1),
                  "gain": np.array([1.0, 2.0, 3.0])}  # fmt: skip
        arrays["shape"] = np.array([3, -1])
        model = model_of(text.split("\n"), arrays, inputs={"X": ["rows", 3]}, dtype="float64", opset=18)
        (expected,) = ReferenceEvaluator(model).run(None, {"X": z})
        values = {"X": z, **arrays, **{each.name: numpy_helper.to_array(each) for each in model.graph.initializer}}
        for node in read_graph(written(model, tmp_path)).nodes:
            function = OPERATORS[node.domain, node.operator]
            values[node.outputs[0]] = compute(node, function, [values[name] for name in node.inputs])
        assert values["y"].shape == expected.shape, operator
        np.testing.assert_allclose(values["y"], expected, rtol=1e-6, atol=1e-9, err_msg=operator)
        compared += 1
    assert compared >= 55
