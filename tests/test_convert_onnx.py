"""`pymlp.convert.from_onnx` reads what pymlp has written: the same network to the bit, with or without metadata."""

import pickle

import numpy as np
import pytest

import pymlp
from pymlp import Dense, Network, Predictor
from pymlp.convert import ConversionError, fitted_estimator, from_onnx
from pymlp.export import to_onnx
from pymlp.functions import ACTIVATIONS
from pymlp.losses import LOSSES, CustomLoss, Focal, LogLoss, Quantile
from pymlp.network import DTYPES
from pymlp.portable import TASKS

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
from onnx_graphs import X, written  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    # of onnx's own implementation, in a function of which the other part counts
    pytest.mark.filterwarnings("ignore:divide by zero encountered in log"),
]

HIDDEN = [name for name, row in ACTIVATIONS.items() if row.hidden]

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
