"""`pymlp.convert.from_keras`: what Keras said, from descriptions and weights alone; from Keras itself where it is."""

import json
import subprocess
import sys

import keras_models
import numpy as np
import pytest

import pymlp
from pymlp import Dense
from pymlp.convert import ConversionError, from_keras
from pymlp.convert.keras_layers import ACTIVATIONS
from pymlp.functions import ACTIVATIONS as OURS
from pymlp.training import train

GOLDEN = json.loads(keras_models.GOLDEN.read_text(encoding="utf-8"))
ROWS = np.array(GOLDEN["rows"], np.float32)


def arrays(weights):
    return [np.array(weight, np.float32) for weight in weights]


def close(ours, expected):
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())


pytestmark = [
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    # of Keras
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

# the golden file: no Keras is needed


@pytest.mark.parametrize("name", GOLDEN["models"])
def test_golden_models(name):
    golden = GOLDEN["models"][name]
    expected = np.array(golden["outputs"], np.float32)
    description, weights = json.loads(golden["json"]), arrays(golden["weights"])
    forms = [
        golden["json"],
        golden["json"].encode(),
        description,
        description["config"],
        description["config"]["layers"],
    ]
    for form in forms:
        network, params = from_keras(form, weights)
        assert network.dtype == "float32"
        close(pymlp.Predictor(network, params)(ROWS), expected)
    wide, params = from_keras(description, weights, dtype="float64")
    assert wide.dtype == "float64"
    assert from_keras(description, [weight.astype(np.float64) for weight in weights])[0].dtype == "float64"
    close(pymlp.Predictor(wide, params)(ROWS).astype(np.float32), expected)


def test_golden_layers():
    golden = GOLDEN["models"]["usual"]
    network, _ = from_keras(golden["json"], arrays(golden["weights"]))
    assert network.layers == (Dense(8, "relu", 0.25), Dense(8, "tanh"), Dense(3, "softmax"))
    assert network.loss == "log_loss"


def test_nothing_but_numpy_is_imported():
    code = (
        "import sys, numpy as np, pymlp; "
        "layers = [dict(class_name='Dense', config={})]; "
        "network, params = pymlp.convert.from_keras(layers, [np.ones((2, 3)), np.ones(3)]); "
        "print(network.widths, {'keras', 'torch', 'jax', 'tensorflow', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(2, 3) set()"


# descriptions by hand


def layer(kind, **config):
    return {"class_name": kind, "config": {"name": f"my_{kind.lower()}", **config}}


def input_of(*shape):
    return layer("InputLayer", batch_shape=[None, *shape])


def weight(*shape):
    return np.random.RandomState(len(shape)).normal(size=shape)


TWO = [layer("Dense", units=4, activation="tanh"), layer("Dense", units=3)]
WEIGHTS = [weight(5, 4), weight(4), weight(4, 3), weight(3)]
X = weight(40, 5)


def test_a_description_of_version_2():
    # as TensorFlow 2.10 wrote it: names of options, wrapped functions, nodes as lists
    nodes = [[], [[["input_1", 0, 0, {}]]], [[["dense", 0, 0, {}]]], [[["leaky_re_lu", 0, 0, {}]]]]
    layers = [
        layer("InputLayer", batch_input_shape=[None, 5], dtype="float32", sparse=False),
        layer("Dense", units=4, activation={"class_name": "function", "config": "relu"}, use_bias=True),
        layer("LeakyReLU", alpha=0.25),
        layer("Dense", units=3, activation="softmax"),
    ]
    for each, name, inbound in zip(layers, ("input_1", "dense", "leaky_re_lu", "out"), nodes, strict=True):
        each.update(name=name, inbound_nodes=inbound)
    config = {"name": "model", "layers": layers, "input_layers": [["input_1", 0, 0]], "output_layers": [["out", 0, 0]]}
    text = json.dumps({"class_name": "Functional", "config": config, "keras_version": "2.10.0"})
    network, params = from_keras(text, WEIGHTS)
    hidden = np.maximum(X @ WEIGHTS[0] + WEIGHTS[1], 0)
    scores = hidden @ WEIGHTS[2] + WEIGHTS[3]
    np.testing.assert_allclose(pymlp.Predictor(network, params)(X), OURS["softmax"].value(scores), rtol=1e-12)
    layers[2]["inbound_nodes"] = [[["input_1", 0, 0, {}]]]
    with pytest.raises(ConversionError, match=r"no chain: its layer 'leaky_re_lu' reads \['input_1'\]"):
        from_keras(config, WEIGHTS)
    layers[2]["inbound_nodes"] = nodes[2]
    config["output_layers"].append(["dense", 0, 0])
    with pytest.raises(ConversionError, match="its outputs are"):
        from_keras(config, WEIGHTS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    ours = OURS[ACTIVATIONS[name]]
    last = {"linear": "linear", "softmax": "softmax", "log_softmax": "softmax", "exponential": "exponential"}
    layers = [layer("Dense"), layer("Activation", activation=name)]
    network, params = from_keras(layers, WEIGHTS[:2])
    scores = X @ WEIGHTS[0] + WEIGHTS[1]
    np.testing.assert_allclose(pymlp.Predictor(network, params)(X), ours.value(scores), rtol=1e-10, atol=1e-14)
    assert len(network.layers) == (1 if name in last or name == "sigmoid" else 2)
    if not ours.hidden:
        with pytest.raises(
            ConversionError, match=rf"layer 'my_activation' \(Activation\): '{ours.name}' can only be the last"
        ):
            from_keras([*layers, layer("Dense")], WEIGHTS)


def test_estimators():
    scores = np.tanh(X @ WEIGHTS[0] + WEIGHTS[1]) @ WEIGHTS[2] + WEIGHTS[3]
    model = from_keras(TWO, WEIGHTS, classes=["b", "c", "a"], feature_names=list("vwxyz"))
    expected = OURS["softmax"].value(scores)[:, [2, 0, 1]]
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-12)
    assert list(model.classes_) == ["a", "b", "c"]
    assert list(model.feature_names_in_) == list("vwxyz")
    losses = [model.partial_fit(X, np.resize(["a", "b", "c"], 40)).loss_ for _ in range(20)]
    assert losses[-1] < losses[0]
    numbers = from_keras(TWO, WEIGHTS, task="numbers", loss="huber")
    np.testing.assert_allclose(numbers.predict(X), scores, rtol=1e-12)
    assert numbers.loss == "huber"
    labels = from_keras([*TWO, layer("Activation", activation="sigmoid")], WEIGHTS, task="multilabel-indicator")
    np.testing.assert_array_equal(labels.predict(X), scores > 0)
    pair = [*WEIGHTS[:2], WEIGHTS[2][:, :1], WEIGHTS[3][:1]]
    binary = from_keras([TWO[0], layer("Dense", activation="sigmoid")], pair, classes=["no", "yes"])
    np.testing.assert_allclose(binary.predict_proba(X)[:, 1], OURS["logistic"].value(scores[:, 0]), rtol=1e-12)


def test_networks_go_on_training():
    network, params = from_keras(TWO, WEIGHTS)
    result = train(network, params, X, X[:, :3], optimizer=pymlp.Adam(), rate=0.01, epochs=20)
    assert result.history["loss"][-1] < result.history["loss"][0]


def test_weights_are_copied():
    before = [array.copy() for array in WEIGHTS]
    from_keras(TWO, WEIGHTS)[1][:] = 0
    for array, expected in zip(WEIGHTS, before, strict=True):
        np.testing.assert_array_equal(array, expected)


NORM = layer("BatchNormalization")
BATCH_NORM = [weight(4), weight(4), weight(4), np.abs(weight(4))]


@pytest.mark.parametrize(
    ("layers", "weights", "options", "message"),
    [
        (TWO, None, {}, "weights are missing"),
        (TWO, WEIGHTS[:3], {}, r"none for the bias of layer 'my_dense' \(Dense\)"),
        (TWO, [*WEIGHTS, weight(3)], {}, "weights has 5 arrays, but the layers take 4"),
        (TWO, [*WEIGHTS[:2], weight(3, 3), weight(3)], {}, r"layer 'my_dense' \(Dense\) takes 3 columns.*gives 4"),
        (TWO, [*WEIGHTS[:2], weight(4), weight(3)], {}, r"its kernel must be of 2 dimensions, but weights\[2\]"),
        (TWO, [weight(5, 7), *WEIGHTS[1:]], {}, r"has 4 units, but its kernel is of shape \(5, 7\)"),
        (TWO, [WEIGHTS[0], weight(3), *WEIGHTS[2:]], {}, r"its bias must be of shape \(4,\)"),
        (TWO, [np.array(["a"]), *WEIGHTS[1:]], {}, r"weights\[0\] holds no numbers"),
        (TWO, [WEIGHTS[0] * np.nan, *WEIGHTS[1:]], {}, r"layer 'my_dense' \(Dense\) has numbers that are not finite"),
        (TWO, WEIGHTS, {"classes": ["a", "b"]}, "the 3 labels"),
        (TWO, WEIGHTS, {"dtype": "bfloat16"}, "dtype='bfloat16'"),
        ("{", WEIGHTS, {}, "not the JSON of a model"),
        ("3", WEIGHTS, {}, "described by its layers"),
        (None, WEIGHTS, {}, "described by its layers"),
        ({"class_name": "Sequential", "config": {"name": "none"}}, WEIGHTS, {}, "described by its layers"),
        (["Dense"], WEIGHTS, {}, "a layer must be a dict with a class_name"),
        ([{"class_name": "Dense", "config": 3}], WEIGHTS, {}, "the config of a Dense must be a dict"),
        ([], [], {}, "no layer with weights"),
        ([layer("Lambda", function="import os")], [], {}, r"layer 'my_lambda' \(Lambda\) cannot be converted"),
        ([layer("Conv2D")], [], {}, r"layer 'my_conv2d' \(Conv2D\) cannot be converted"),
        ([layer("Dense", activation="hard_sigmoid")], WEIGHTS[:2], {}, "has the activation 'hard_sigmoid'"),
        ([layer("Dense", activation={"class_name": "mine"})], WEIGHTS[:2], {}, r"has the activation \{'class_name'"),
        ([TWO[0], layer("ReLU", max_value=6)], WEIGHTS[:2], {}, r"\(ReLU\) has max_value=6"),
        ([TWO[0], layer("ReLU", threshold=1.0)], WEIGHTS[:2], {}, r"\(ReLU\) has threshold=1.0"),
        ([TWO[0], layer("ELU", alpha=0.5)], WEIGHTS[:2], {}, r"\(ELU\) has alpha=0.5"),
        ([TWO[0], layer("LeakyReLU", negative_slope="a")], WEIGHTS[:2], {}, "negative_slope must be a number"),
        ([TWO[0], layer("Softmax", axis=0)], WEIGHTS[:2], {}, r"\(Softmax\) has axis=0"),
        ([TWO[0], layer("Softmax"), TWO[1]], WEIGHTS, {}, r"\(Softmax\): 'softmax' can only be the last"),
        ([TWO[0], layer("Dropout", rate=1.0)], WEIGHTS[:2], {}, r"\(Dropout\) has the rate 1.0"),
        ([TWO[0], layer("Dropout", noise_shape=[1])], WEIGHTS[:2], {}, r"has noise_shape=\[1\]"),
        ([TWO[0], layer("BatchNormalization", axis=0)], [*WEIGHTS[:2], *BATCH_NORM], {}, "has axis=0"),
        ([TWO[0], NORM], [*WEIGHTS[:2], *BATCH_NORM[:3]], {}, "none for the moving_variance"),
        ([TWO[0], NORM], [*WEIGHTS[:2], *[weight(3) ** 2] * 4], {}, "its mean must be"),
        ([TWO[0], NORM], [*WEIGHTS[:2], weight(4), weight(3), weight(4), weight(4) ** 2], {}, "its shift must be"),
        ([TWO[0], NORM], [*WEIGHTS[:2], *[-np.ones(4)] * 4], {}, "a variance of -1, which is not above 0"),
        ([TWO[0], layer("PReLU")], [*WEIGHTS[:2], weight(3)], {}, "its slope must be"),
        ([TWO[0], layer("Rescaling", scale=[1.0, 2.0])], WEIGHTS[:2], {}, "its scale must be"),
        ([TWO[0], layer("Rescaling", scale="a")], WEIGHTS[:2], {}, "its scale must be numbers"),
        ("[" * 100_000, WEIGHTS, {}, "not the JSON of a model"),
        ([TWO[0], layer("LayerNormalization", rms_scaling=True)], WEIGHTS[:2], {}, "has rms_scaling=True"),
        ([layer("Activation", activation="relu"), TWO[0]], WEIGHTS[:2], {}, "before the first layer that says"),
        ([input_of(None), TWO[0]], WEIGHTS[:2], {}, "does not say how many columns"),
        ([input_of(7), TWO[0]], WEIGHTS[:2], {}, "takes 5 columns, but the input gives 7"),
        ([input_of(1, 5), TWO[0]], WEIGHTS[:2], {}, "only a Flatten"),
        ([input_of(1, 5)], [], {}, "gives rows of shape"),
    ],
)  # fmt: skip
def test_refusals(layers, weights, options, message):
    with pytest.raises(ConversionError, match=message):
        from_keras(layers, weights, **options)


# with Keras, which takes seconds to import


@pytest.fixture(scope="module")
def keras():
    try:
        return keras_models.import_keras()
    except ImportError as error:
        pytest.skip(f"Keras, or a library for it to run on, is not installed: {error}")


@pytest.fixture(scope="module")
def names(keras):
    return list(keras_models.builders(keras))


@pytest.mark.slow
def test_every_kind_of_model(keras, names):
    for name in names:
        model = keras_models.built(keras, name)
        expected = keras_models.said(model, ROWS.reshape(-1, *model.input_shape[1:]))
        for given in ((model,), (model.to_json(), model.get_weights()), (model.get_config(), model.get_weights())):
            network, params = from_keras(*given)
            close(pymlp.Predictor(network, params)(ROWS), expected)
        with pytest.raises(ConversionError, match="a model has its own"):
            from_keras(model, model.get_weights())


@pytest.mark.slow
def test_golden_models_are_what_keras_says(keras):
    for name, golden in GOLDEN["models"].items():
        model = keras_models.filled(keras.models.model_from_json(golden["json"]), arrays(golden["weights"]))
        expected = np.array(golden["outputs"], np.float32)
        close(keras_models.said(model, ROWS.reshape(-1, *model.input_shape[1:])), expected)
        assert name in keras_models.CHOSEN


@pytest.mark.slow
def test_what_is_no_chain(keras):
    layers = keras.layers
    inputs = keras.Input((5,))
    first = layers.Dense(5)(inputs)
    sum_of_both = keras.Model(inputs, layers.Dense(1)(layers.Add()([first, inputs])))
    with pytest.raises(ConversionError, match="is no chain"):
        from_keras(sum_of_both)
    two_outputs = keras.Model(inputs, [first, layers.Dense(1)(first)])
    with pytest.raises(ConversionError, match="is no chain"):
        from_keras(two_outputs)
    shared = layers.Dense(5)
    with pytest.raises(ConversionError, match="is no chain"):
        from_keras(keras.Model(inputs, shared(shared(inputs))))
