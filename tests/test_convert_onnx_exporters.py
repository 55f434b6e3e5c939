"""`pymlp.convert.from_onnx` reads files of exporters, and computes as the reference implementation does."""

from pathlib import Path

import make_onnx_golden
import numpy as np
import pytest

import pymlp
from pymlp.convert import from_onnx
from pymlp.convert.onnx_files import read_graph
from pymlp.convert.onnx_operators import OPERATORS, compute

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
from onnx import numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx_graphs import RANDOM, answer_of, model_of, network_of, written  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    # of onnx's own implementation, in a function of which the other part counts
    pytest.mark.filterwarnings("ignore:divide by zero encountered in log"),
]

GOLDEN = sorted(make_onnx_golden.FOLDER.glob("*.onnx"))


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
