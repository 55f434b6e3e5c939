"""`pymlp.convert.from_onnx`: what the end of a graph says of a task, and what is refused by name."""

import os
import subprocess
import sys

import make_onnx_golden
import numpy as np
import pytest

import pymlp
from pymlp import Network
from pymlp.convert import ConversionError, from_onnx
from pymlp.export import to_onnx
from pymlp.losses import Focal, Quantile

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx_graphs import BEHIND, LINEAR, RANDOM, W, X, check, constants, model_of, written  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    # of onnx's own implementation, in a function of which the other part counts
    pytest.mark.filterwarnings("ignore:divide by zero encountered in log"),
]


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
        from_onnx(make_onnx_golden.FOLDER / "sklearn_binary.onnx")
