"""Models in C: the same answers as Python's, to the bit, of every kind of model that a file can hold."""

import contextlib
import locale
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import saved_models
from c_models import (
    BAD_ARGUMENT,
    GOLDEN,
    NO_INSTRUCTION_SET,
    CModel,
    predictor_of,
    saved,
)

import pymlp
from pymlp import Dense, Network, backends, losses
from pymlp.functions import ACTIVATIONS
from pymlp.layers import KINDS
from pymlp.losses import LOSSES, CustomLoss
from pymlp.portable import portable

pytestmark = pytest.mark.skipif(backends.missing_reason("c") is not None, reason="the C engine is not built")
if backends.missing_reason("c") is None:
    from pymlp._engine import ffi, lib


def check_model(content, model):
    """Everything that C says of a sound file is what Python says of the model."""
    found, meant = CModel(content), portable(model)
    assert found.code == 0, found.message
    predictor = predictor_of(model)
    network = predictor.network
    assert found.dtype == network.dtype
    assert lib.pymlp_model_inputs(found.model) == network.inputs
    assert found.columns == predictor._backend.columns
    assert ffi.string(lib.pymlp_model_task(found.model)).decode() == meant.task
    assert lib.pymlp_model_threshold(found.model) == meant.threshold
    classes = [] if meant.classes is None else meant.classes.tolist()
    assert lib.pymlp_model_classes(found.model) == len(classes)
    assert found.texts(lib.pymlp_model_class, len(classes)) == [str(label) for label in classes]
    names = [None] * network.inputs if meant.feature_names is None else list(meant.feature_names)
    assert found.texts(lib.pymlp_model_feature, network.inputs) == names
    count = ffi.new("int64_t *")
    params = lib.pymlp_model_params(found.model, count)
    assert count[0] == network.n_parameters
    assert ffi.buffer(params, meant.params.nbytes)[:] == meant.params.tobytes()
    check_table(found.model, network)
    for rows in (1, 40):
        X = np.resize(saved_models.rows(), (rows, network.inputs)).astype(network.dtype)
        values, gradient = predictor.value_and_gradient(X)
        assert found.predict(X).tobytes() == values.tobytes()
        assert (
            b"".join(array.tobytes() for array in found.value_and_gradient(X)) == values.tobytes() + gradient.tobytes()
        )
    return found


def check_table(model, network):
    count = ffi.new("int64_t *")
    layers = lib.pymlp_model_layers(model, count)
    assert count[0] == len(network.table)
    for given, row in zip(layers[0 : count[0]], network.table, strict=True):
        assert given.kind == lib.pymlp_layer_kind(row.kind.encode())
        assert given.activation == lib.pymlp_activation(row.activation.encode())
        assert (given.inputs, given.outputs, given.source, given.second, given.setting, given.max_norm) == (
            row.inputs, row.outputs, row.source, row.second, row.setting, row.max_norm,
        )  # fmt: skip
    rule, loss = lib.pymlp_model_loss(model), network.loss_function
    assert rule.kind == lib.pymlp_loss(loss.name.encode())
    assert rule.group == loss.group
    assert tuple(rule.numbers[0 : rule.n_numbers]) == loss.numbers
    l1, l2, seed = ffi.new("double *"), ffi.new("double *"), ffi.new("uint64_t *")
    lib.pymlp_model_training(model, l1, l2, seed)
    assert (l1[0], l2[0], seed[0]) == (network.l1, network.l2, network.seed)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.safetensors")), ids=lambda path: path.stem)
def test_golden_files(path):
    check_model(path.read_bytes(), pymlp.load(path))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_activation(activation, dtype, model_path):
    own = CustomLoss(losses._not_stored, activation)
    hidden = activation if ACTIVATIONS[activation].hidden else "tanh"
    network = Network.from_widths((4, 5, 6), hidden, loss=own, dtype=dtype)
    model = network, network.initial_params(0)
    check_model(saved(model, model_path), model)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(loss, model_path):
    for given in (loss, LOSSES[loss]):
        network = Network.from_widths((4, 5, 2 * LOSSES[loss].group), loss=given, dtype="float64")
        model = network, network.initial_params(0)
        check_model(saved(model, model_path), model)


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_kind(kind, model_path):
    features = {
        "layer_norm": {"normalization": "layer"}, "parametric": {"parametric": True}, "dropout": {"dropout": 0.25},
        "add": {"residual": True},
    }.get(kind, {})  # fmt: skip
    layers = Dense(4, "gelu", **features), Dense(4, "selu", **features), Dense(3, "softmax", max_norm=2.0)
    network = Network(4, layers, "log_loss", input_dropout=0.5, l1=0.25, l2=10, seed=2**64 - 1)
    assert kind in {row.kind for row in network.table}
    model = network, network.initial_params(0)
    check_model(saved(model, model_path), model)


def squared(y, output):
    return ((output - y) ** 2).sum(axis=1), 2 * (output - y)


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_answers_in_the_units_of_the_target(dtype, targets, model_path):
    # what ends in a function that is not linear is scaled behind it
    X = saved_models.rows().astype(dtype)
    y = 1000 + 50 * np.sin(np.arange(targets * len(X), dtype=dtype)).reshape(len(X), targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = pymlp.MLPRegressor(
            loss=CustomLoss(squared, "tanh"), hidden_layer_sizes=3, max_iter=2, random_state=0, standardize_target=True
        ).fit(X, y if targets > 1 else y.ravel())
    found = check_model(saved(model, model_path), model)
    assert found.dtype == dtype
    assert 0 < np.abs(found.predict(X) - 1000).max() < 100
    # the derivative alone
    gradient = np.empty((len(X), targets, X.shape[1]), dtype)
    arguments = found.model, ffi.from_buffer(X), len(X), ffi.NULL, ffi.from_buffer(gradient)
    assert lib.pymlp_value_and_gradient(*arguments) == 0
    assert gradient.tobytes() == found.value_and_gradient(X)[1].tobytes()


def classifier(labels, **options):
    X = saved_models.rows()
    labels = np.asarray(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = pymlp.MLPClassifier((3,), max_iter=1, random_state=0, **options)
        return model.fit(X, labels[np.arange(len(X)) % len(labels)])


@pytest.mark.parametrize(
    "labels",
    [
        [1.0, 2.0, 1e16], np.array([0, 3], "float32"), np.array([0, 2, 1000], "float16"), [-5, 3, 2**62],
        np.array([0, 2**64 - 1], "uint64"), np.array([-128, 127], "int8"), [False, True],
        ["a", "\u00e4\0b", "\U0001f40d"],
        np.array(["", "x" * 200], object), [f"class {n}" for n in range(40)],
        [7],
    ],
    ids=str,
)  # fmt: skip
def test_labels(labels, model_path):
    model = classifier(labels)
    check_model(saved(model, model_path), model)


def test_long_lists_of_labels_and_features(model_path):
    # more than a JSON text has room for: they lie in arrays
    draw = np.random.RandomState(0)
    X = draw.normal(size=(600, 300))
    frame = pytest.importorskip("pandas", reason="names of columns come from a table").DataFrame(
        X, columns=[f"column {number} \u00e4" for number in range(300)]
    )
    for labels in (
        np.arange(600) % 300 * 7,
        2.0 * (np.arange(600) % 300),
        np.array([f"<{n % 300:04}>" for n in range(600)]),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = pymlp.MLPClassifier(
                (3,), max_iter=1, random_state=0, class_weight=dict.fromkeys(set(labels.tolist()), 2.0)
            )
            model.fit(frame, labels)
        check_model(saved(model, model_path), model)


def test_instruction_sets_and_threads_give_the_same_bits(model_path):
    network = Network.from_widths((20, 300, 300, 3), "gelu", loss="log_loss")
    model = network, network.initial_params(0)
    found = CModel(saved(model, model_path))
    X = np.random.RandomState(0).normal(size=(500, 20)).astype("float32")
    values, gradient = (array.tobytes() for array in found.value_and_gradient(X))
    for isa in backends.get("c").instruction_sets():
        if isa == "portable":
            continue
        for n_threads in (1, 3):
            assert lib.pymlp_model_use(found.model, isa.encode(), n_threads) == 0
            assert tuple(array.tobytes() for array in found.value_and_gradient(X)) == (values, gradient)
    assert lib.pymlp_model_use(found.model, b"no such set", 1) == NO_INSTRUCTION_SET
    assert lib.pymlp_model_use(found.model, ffi.NULL, 0) == BAD_ARGUMENT
    # what could not be done has changed nothing
    assert found.predict(X).tobytes() == values


def test_many_threads_use_one_model(model_path):
    model = classifier(["low", "middle", "high"])
    content = saved(model, model_path)
    found, expected = CModel(content), model.predict_proba(saved_models.rows())

    def ask(number):
        rows = saved_models.rows()[number : number + 5]
        again = CModel(content)
        return all(
            np.array_equal(each.predict(rows), expected[number : number + 5])
            and each.value_and_gradient(rows)[0].tobytes() == each.predict(rows).tobytes()
            for each in (found, again)
            for _ in range(50)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(32)))


def test_files_of_other_locales(model_path):
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "nl_NL.UTF-8"):
        with contextlib.suppress(locale.Error):
            before = locale.setlocale(locale.LC_NUMERIC)
            locale.setlocale(locale.LC_NUMERIC, name)
            try:
                model = classifier([1.0, 2.0], dtype="float32")
                check_model(saved(model, model_path), model)
                assert locale.localeconv()["decimal_point"] == ","
            finally:
                locale.setlocale(locale.LC_NUMERIC, before)
            return
    pytest.skip("no locale with a decimal comma is installed")
