"""`pymlp.export.to_onnx`: what onnxruntime gives of a written model is what the model answers."""

import json
import sys

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.exceptions import NotFittedError

import pymlp
from pymlp import Dense, Network, Predictor
from pymlp.convert import fitted_estimator
from pymlp.export import onnx_functions, onnx_models, to_onnx
from pymlp.functions import ACTIVATIONS
from pymlp.layers import KINDS
from pymlp.losses import LOSSES, Quantile
from pymlp.network import DTYPES
from pymlp.portable import TASKS, portable
from pymlp.targets import CLASS_LOSSES, NUMBER_LOSSES

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
]

HIDDEN = [name for name, row in ACTIVATIONS.items() if row.hidden]
# of the largest number of an answer
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
FEW = {"max_iter": 5, "random_state": 0, "tol": 0.0, "n_iter_no_change": 10}
X, y = load_iris(return_X_y=True)
X_labels, labels = make_multilabel_classification(n_samples=60, n_features=4, n_classes=3, random_state=0)


def run(path, rows):
    """What onnxruntime gives, by the names of the outputs; the file must be one that the format allows."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["X"]
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": rows}), strict=True))


def agree(found, expected):
    """Equal to the tolerance of the type, and of the type."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[expected.dtype.name] * np.abs(expected).max())


def drawn(network, seed=0):
    """Parameters of which none is at its neutral value."""
    random = np.random.default_rng(seed)
    params = network.initial_params(seed)
    for row, views in zip(network.table, network.parts(params), strict=True):
        if row.kind != "dense":
            for view in views:
                view += random.normal(scale=0.3, size=view.shape)
    return params


LAYERS = {
    "plain": {},
    "norm": {"normalization": "layer"},
    "parametric": {"parametric": True},
    "all": {"normalization": "layer", "parametric": True, "residual": True, "dropout": 0.2, "max_norm": 2.0},
}


def test_every_function_and_kind_of_row_has_its_operators():
    assert {*onnx_functions.FUNCTIONS, *onnx_functions.ROW_FUNCTIONS} == set(ACTIVATIONS)
    assert set(onnx_functions.FUNCTIONS) >= set(HIDDEN)
    assert set(onnx_functions.ROWS) == {name for name, kind in KINDS.items() if not kind.trains_only}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HIDDEN)
def test_every_activation_in_every_kind_of_layer(name, dtype, tmp_path):
    rows = np.random.default_rng(1).normal(size=(40, 5)).astype(dtype)
    for options in LAYERS.values():
        network = Network(
            5, (Dense(5, name, **options), Dense(7, name), Dense(3, "identity")), dtype=dtype, input_dropout=0.1
        )
        params = drawn(network)
        to_onnx((network, params), tmp_path / "model.onnx")
        # of large inputs a cosine keeps no digits, and the tails of all others are nearly straight
        for scale in (1, 1e-4) if name == "cosine" else (1, 1e-4, 30):
            given = rows * np.dtype(dtype).type(scale)
            agree(run(tmp_path / "model.onnx", given)["variable"], Predictor(network, params)(given))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["elu", "selu", "gelu", "silu", "mish", "softplus", "leaky_relu", "tanh", "exp"])
def test_values_keep_their_digits_where_they_are_small(name, dtype, tmp_path):
    # a single unit, so that no other value hides the error
    loss = "poisson" if name == "exp" else "squared_error"
    layers = (Dense(1, name),) if name == "exp" else (Dense(1, name), Dense(1, "identity"))
    network = Network(1, layers, loss, dtype)
    params = np.array([1, 0] if name == "exp" else [1, 0, 1, 0], dtype)
    to_onnx((network, params), tmp_path / "model.onnx")
    rows = np.concatenate([-np.geomspace(1e-6, 1.0, 30), np.geomspace(1e-6, 1.0, 30)])[:, None].astype(dtype)
    found, expected = run(tmp_path / "model.onnx", rows)["variable"], Predictor(network, params)(rows)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_probabilities_keep_their_digits(dtype, tmp_path):
    network = Network(1, (Dense(1, "logistic"),), "binary_log_loss", dtype)
    model = fitted_estimator(network, np.array([1, 0], dtype), task="binary")
    to_onnx(model, tmp_path / "model.onnx")
    rows = np.linspace(-80, 20, 201, dtype=dtype)[:, None]
    found = run(tmp_path / "model.onnx", rows)
    np.testing.assert_allclose(found["probabilities"][:, 1], Predictor(model)(rows)[:, 1], rtol=TOLERANCE[dtype])
    np.testing.assert_array_equal(found["label"], model.predict(rows))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [*LOSSES, Quantile([0.2, 0.8]), Quantile([0.5])], ids=str)
def test_every_loss_and_its_output_activation(loss, dtype, tmp_path):
    group = pymlp.losses.loss_of(loss).group
    rows = np.random.default_rng(1).normal(size=(40, 5)).astype(dtype)
    for targets in (1, 3):
        network = Network.from_widths((5, 8, targets * group), "tanh", loss=loss, dtype=dtype)
        params = network.initial_params(2)
        to_onnx((network, params), tmp_path / "model.onnx")
        found = run(tmp_path / "model.onnx", rows)
        assert list(found) == ["variable"]
        agree(found["variable"], Predictor(network, params)(rows))


def test_small_deviations_keep_their_digits(tmp_path):
    for dtype in DTYPES:
        network = Network(1, (Dense(2, "mean_deviation"),), "gaussian_nll", dtype)
        params = np.array([1, 1, 0, 0], dtype)
        to_onnx((network, params), tmp_path / "model.onnx")
        rows = np.linspace(-40, 40, 81, dtype=dtype)[:, None]
        found, expected = run(tmp_path / "model.onnx", rows)["variable"], Predictor(network, params)(rows)
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype])


CLASSES = {
    "strings": (["no", "yes"], ["a", "bb", "zürich"]),
    "objects": (np.array(["no", "yes"], object), np.array(["a", "bb", "c"], object)),
    "integers": ([-1, 7], [3, 5, 1 << 40]),
    "small": (np.array([0, 1], np.int8), np.array([0, 1, 2], np.uint8)),
    "floats": ([0.0, 2.0], [1.0, 2.0, 3.0]),
    "bools": ([False, True], None),
    "single": (["only"], None),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", CLASSES)
def test_labels_of_classes(kind, dtype, tmp_path):
    for task, classes in zip(("binary", "multiclass"), CLASSES[kind], strict=True):
        if classes is None:
            continue
        columns = 1 if task == "binary" else 3
        loss = "binary_log_loss" if columns == 1 else "log_loss"
        network = Network.from_widths((4, 6, columns), "tanh", loss=loss, dtype=dtype)
        model = fitted_estimator(network, 3 * network.initial_params(1), task=task, classes=classes)
        to_onnx(model, tmp_path / "model.onnx")
        rows = np.random.default_rng(0).normal(size=(50, 4)).astype(dtype)
        found = run(tmp_path / "model.onnx", rows)
        assert list(found) == ["label", "probabilities"]
        assert found["label"].shape == (50,)
        is_text = model.classes_.dtype.kind in "UO"
        assert found["label"].dtype == (object if is_text else np.int64)
        np.testing.assert_array_equal(found["label"], model.predict(rows))
        assert len(set(found["label"].tolist())) == len(classes)
        agree(found["probabilities"], Predictor(model)(rows))
        told = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
        assert json.loads(told["classes"]) == model.classes_.tolist()
        assert told["task"] == task


def classifier(task, **options):
    if task == "multilabel-indicator":
        return pymlp.MLPClassifier((5,), **FEW, **options).fit(X_labels, labels), X_labels
    rows = y < 2 if task == "binary" else y < 3
    return pymlp.MLPClassifier((5,), **FEW, **options).fit(X[rows], np.array(["a", "b", "c"])[y[rows]]), X[rows]


@pytest.mark.parametrize("loss", CLASS_LOSSES)
@pytest.mark.parametrize("task", [task for task in TASKS if task != "numbers"])
def test_classifiers_of_every_loss(task, loss, tmp_path):
    model, rows = classifier(task, loss=loss, standardize=True)
    to_onnx(model, tmp_path / "model.onnx")
    found = run(tmp_path / "model.onnx", rows)
    expected = model.predict(rows)
    np.testing.assert_array_equal(found["label"], expected)
    assert found["label"].dtype == (np.int64 if task == "multilabel-indicator" else object)
    scores = found["probabilities" if hasattr(model, "predict_proba") else "scores"]
    answer = model.predict_proba(rows) if hasattr(model, "predict_proba") else model.decision_function(rows)
    agree(scores, answer.reshape(len(rows), -1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", NUMBER_LOSSES)
def test_regressors_of_every_loss(loss, dtype, tmp_path):
    scaled = pymlp.losses.loss_of(loss).output_activation != "exp"
    for targets in (y + 1, np.column_stack([y + 1, X[:, 0]])):
        model = pymlp.MLPRegressor(
            loss, hidden_layer_sizes=(5,), standardize=True, standardize_target=scaled, dtype=dtype, **FEW
        ).fit(X, targets)
        to_onnx(model, tmp_path / "model.onnx")
        rows = X.astype(dtype)
        found = run(tmp_path / "model.onnx", rows)
        assert list(found) == ["variable"]
        agree(found["variable"], Predictor(model)(rows).reshape(len(rows), -1))


@pytest.mark.parametrize(
    "kind",
    [
        pymlp.LogisticRegression, pymlp.LinearSVC, pymlp.Perceptron, pymlp.FourierSVC, pymlp.GaussianNB,
        pymlp.MultinomialNB, pymlp.BernoulliNB,
    ],
)  # fmt: skip
def test_classic_classifiers(kind, tmp_path):
    for rows in (y < 2, y < 3):
        # around the threshold of BernoulliNB too
        options = {"binarize": 2.5} if kind is pymlp.BernoulliNB else {}
        model = kind(**options).fit(X[rows], np.array(["a", "b", "c"])[y[rows]])
        to_onnx(model, tmp_path / "model.onnx")
        given = X.astype(portable(model).network.dtype)
        found = run(tmp_path / "model.onnx", given)
        np.testing.assert_array_equal(found["label"], model.predict(X))
        if hasattr(model, "predict_proba"):
            np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), rtol=1e-9, atol=1e-12)
        else:
            scores = model.decision_function(X).reshape(len(X), -1)
            np.testing.assert_allclose(found["scores"], scores, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_any_number_of_rows(task, tmp_path):
    if task == "numbers":
        model = pymlp.MLPRegressor("quantile", hidden_layer_sizes=(5,), **FEW).fit(X, np.column_stack([y, y]))
        rows = X
    else:
        model, rows = classifier(task)
    to_onnx(model, tmp_path / "model.onnx")
    whole = run(tmp_path / "model.onnx", rows)
    for count in (0, 1, 7):
        for name, found in run(tmp_path / "model.onnx", rows[:count]).items():
            assert found.shape == (count, *whole[name].shape[1:])
            if name == "label":
                np.testing.assert_array_equal(found, whole[name][:count])
            else:
                np.testing.assert_allclose(found, whole[name][:count], rtol=1e-12)


def test_names_and_version_stand_in_the_metadata(tmp_path):
    pandas = pytest.importorskip("pandas", reason="the package pandas is not installed")
    frame = pandas.DataFrame(X, columns=["length", "breite in Ångström", "c", "d"])
    model = pymlp.MLPClassifier((5,), **FEW).fit(frame, y)
    to_onnx(model, tmp_path / "model.onnx")
    written = onnx.load(tmp_path / "model.onnx")
    told = {entry.key: entry.value for entry in written.metadata_props}
    assert json.loads(told["feature_names"]) == list(frame.columns)
    assert told["pymlp_version"] == written.producer_version == pymlp.__version__
    assert Network.from_description(json.loads(told["network"])) == model.network_
    assert written.producer_name == "pymlp"
    assert [(each.domain, each.version) for each in written.opset_import] == [("", onnx_models.OPSET)]
    assert {node.domain for node in written.graph.node} == {""}


def test_a_network_is_told_from_a_regressor(tmp_path):
    network = Network.from_widths((4, 3, 1))
    to_onnx((network, network.initial_params(0)), tmp_path / "model.onnx")
    assert {each.key: each.value for each in onnx.load(tmp_path / "model.onnx").metadata_props}["task"] == "network"


def test_the_same_model_gives_the_same_bytes(tmp_path):
    model, _ = classifier("multiclass")
    to_onnx(model, tmp_path / "a.onnx")
    to_onnx(model, str(tmp_path / "b.onnx"))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    "classes",
    [np.array(["a", "b\ud800"]), np.array([0.5, 1.5]), np.array([1, 1 << 63], np.uint64), np.array([b"a", b"b"])],
    ids=str,
)
def test_classes_that_onnx_cannot_hold(classes, tmp_path):
    with pytest.raises(ValueError, match="strings or whole numbers of 64 bits for ONNX"):
        onnx_models.exported_labels(classes)


def test_what_cannot_be_exported_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match="fitted estimator of pymlp"):
        to_onnx("model", path)
    with pytest.raises(NotFittedError):
        to_onnx(pymlp.MLPClassifier(), path)
    network = Network.from_widths((4, 3, 1))
    params = network.initial_params(0)
    with pytest.raises(ValueError, match="params must be a float32 array"):
        to_onnx((network, params[:-1]), path)
    for most in (50, 500):
        monkeypatch.setattr(onnx_models, "MOST_BYTES", most)
        with pytest.raises(ValueError, match=r"the model takes [\d,]+ bytes, and an ONNX file holds at most"):
            to_onnx((network, params), path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    to_onnx((network, params), path)
    assert path.read_bytes() != b"old"


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    network = Network.from_widths((4, 3, 1))
    params, path = network.initial_params(0), tmp_path / "model.onnx"
    to_onnx((network, params), path)
    old = path.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pymlp.replacement.os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        to_onnx((network, 2 * params), path)
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
    for folder in (tmp_path, tmp_path / "nowhere" / "model.onnx"):
        with pytest.raises(OSError, match=r"[Dd]irectory|folder"):
            to_onnx((network, params), folder)


def test_without_the_package_one_line_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    network = Network.from_widths((4, 3, 1))
    with pytest.raises(ModuleNotFoundError, match=r"^pymlp.export.to_onnx needs .* pip install 'pymlp\[onnx\]'$"):
        to_onnx((network, network.initial_params(0)), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
