"""The description of a network: layout of the flat vector, views, descriptions, initial parameters, refusals."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from itertools import pairwise

import numpy as np
import pytest

from pymlp.losses import LOSSES
from pymlp.network import DRAWN_AT_ONCE, INITIALISERS, Dense, Network, random_source


@pytest.fixture
def network() -> Network:
    return Network(3, (Dense(4, "tanh"), Dense(5, "gelu"), Dense(2, "softmax")), "log_loss", "float64", l2=0.5)


def test_layout(network: Network) -> None:
    assert network.widths == (3, 4, 5, 2)
    assert network.outputs == 2
    assert network.output_activation == "softmax"
    assert network.n_parameters == (3 * 4 + 4) + (4 * 5 + 5) + (5 * 2 + 2)
    parts = network.layout
    assert [(part.inputs, part.outputs) for part in parts] == [(3, 4), (4, 5), (5, 2)]
    # W0 b0 W1 b1 ... without gaps
    pieces = [piece for part in parts for piece in (part.weight, part.bias)]
    assert pieces[0].start == 0
    assert pieces[-1].stop == network.n_parameters
    assert all(a.stop == b.start for a, b in pairwise(pieces))


def test_views_share_the_flat_vector(network: Network) -> None:
    params = np.arange(network.n_parameters, dtype=np.float64)
    views = network.views(params)
    assert list(views) == [f"layers.{i}.{name}" for i in range(3) for name in ("weight", "bias")]
    assert [view.shape for view in views.values()] == [(3, 4), (4,), (4, 5), (5,), (5, 2), (2,)]
    np.testing.assert_array_equal(np.concatenate([view.ravel() for view in views.values()]), params)
    views["layers.1.weight"][2, 3] = -1
    assert params[16 + 2 * 5 + 3] == -1
    assert all(view.base is params or view.base.base is params for view in views.values())


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(52), np.zeros((53, 1)), np.zeros(53, "float32"), [0.0] * 53, None],
    ids=["short", "two dimensions", "dtype", "list", "None"],
)
def test_params_of_another_shape_or_dtype(network: Network, wrong: object) -> None:
    for view in (network.weights, network.biases, network.views):
        with pytest.raises(ValueError, match=r"params must be a float64 array of shape \(53,\), got"):
            view(wrong)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_description_makes_the_same_network(loss: str, dtype: str) -> None:
    network = Network.from_widths((3, 4, 5, 6), ("tanh", "elu"), loss=loss, dtype=dtype, l1=0.25, l2=1e-3)
    again = Network.from_description(json.loads(json.dumps(network.description)))
    assert again == network
    assert hash(again) == hash(network)


def test_a_network_does_not_change(network: Network) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        network.loss = "poisson"
    with pytest.raises(dataclasses.FrozenInstanceError):
        network.layers[0].outputs = 3


def test_from_widths() -> None:
    network = Network.from_widths([2, 3, 1], loss="binary_log_loss")
    assert network == Network(2, (Dense(3, "relu"), Dense(1, "logistic")), "binary_log_loss", "float32")
    assert Network.from_widths((2, 1)).layers == (Dense(1, "identity"),)
    assert Network.from_widths((2, 3, 4, 1), ["elu", "mish"]).layers[:2] == (Dense(3, "elu"), Dense(4, "mish"))


def test_numpy_integers_become_python_ones() -> None:
    network = Network(np.int64(3), [Dense(np.int32(2), "identity")], dtype=np.float64)
    assert json.dumps(network.description)
    assert isinstance(network.layers, tuple)


OUTPUT = (Dense(1, "identity"),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": 0}, "inputs must be an integer of at least 1, got 0"),
        ({"inputs": 2.0}, "inputs must be an integer of at least 1, got 2.0"),
        ({"inputs": True}, "inputs must be an integer of at least 1, got True"),
        ({"layers": ()}, r"layers must be at least one Dense, got \(\)"),
        ({"layers": (3,)}, r"layers must be at least one Dense, got \(3,\)"),
        ({"loss": "cross_entropy"}, "loss='cross_entropy' is unknown; known: squared_error, absolute_error"),
        ({"loss": "poisson"}, "loss='poisson' is defined over the output activation 'exp', but .* has 'identity'"),
        ({"l1": "some"}, r"l1 must be in \[0, inf\), got 'some'"),
        ({"layers": None}, "layers must be at least one Dense, got None"),
        ({"dtype": "double-ish"}, "dtype='double-ish' is not one of float32, float64"),
        ({"dtype": "float16"}, "dtype='float16' is not one of float32, float64"),
        ({"l1": -1}, r"l1 must be in \[0, inf\), got -1"),
        ({"l2": np.nan}, r"l2 must be in \[0, inf\), got nan"),
        ({"l2": np.inf}, r"l2 must be in \[0, inf\), got inf"),
        ({"layers": (Dense(2, "softmax"), *OUTPUT)}, r"layers\[0\]: 'softmax' serves as output activation only"),
        ({"layers": (Dense(2), Dense(2, "exp"), *OUTPUT)}, r"layers\[1\]: 'exp' serves as output activation only"),
    ],
    ids=str,
)
def test_refusals(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network(**{"inputs": 2, "layers": OUTPUT, **arguments})


@pytest.mark.parametrize("outputs", [0, -1, 1.5, "3", None, False])
def test_a_layer_of_no_width(outputs: object) -> None:
    with pytest.raises(ValueError, match="a layer's outputs must be an integer of at least 1, got"):
        Dense(outputs)


def test_an_unknown_activation_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="activation='swish' is unknown; known: identity, logistic, tanh, relu"):
        Dense(2, "swish")


@pytest.mark.parametrize(
    ("widths", "activation", "loss", "message"),
    [
        ((3,), "relu", "squared_error", r"widths must hold at least inputs and outputs, got \(3,\)"),
        ((3, 4, 1), ("relu", "tanh"), "squared_error", "activation has 2 names for 1 hidden layers"),
        ((3, 4, 1), "relu", "absolute", "loss='absolute' is unknown"),
    ],
)
def test_refusals_of_from_widths(widths: tuple[int, ...], activation: object, loss: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network.from_widths(widths, activation, loss=loss)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("inputs"), "inputs"),
        (lambda d: d.pop("layers"), "layers"),
        (lambda d: d.update(colour="red"), "colour"),
        (lambda d: d["layers"][0].update(kind="conv"), "kind"),
        (lambda d: d["layers"][0].update(outputs=0), "outputs must be an integer of at least 1, got 0"),
        (lambda d: d.update(layers=None), "not the description of a network"),
        (lambda d: d.update(dtype="int8"), "dtype='int8'"),
    ],
    ids=["no inputs", "no layers", "unknown field", "unknown field of a layer", "no width", "None", "dtype"],
)
def test_a_broken_description_is_a_value_error(network: Network, change: object, message: str) -> None:
    description = network.description
    change(description)
    with pytest.raises(ValueError, match=message):
        Network.from_description(description)


def test_a_description_that_is_not_one() -> None:
    with pytest.raises(ValueError, match="not the description of a network"):
        Network.from_description(None)


def scikit_learn_draws(widths: tuple[int, ...], activation: str, seed: int) -> list[np.ndarray]:
    """Initial weights and biases of scikit-learn's own regressor, before its first update."""
    from sklearn.neural_network import MLPRegressor

    model = MLPRegressor(widths[1:-1], activation=activation, random_state=seed)
    model._random_state = np.random.RandomState(seed)
    model._initialize(np.zeros((2, widths[-1])), list(widths), np.dtype("float64"))
    return [array for pair in zip(model.coefs_, model.intercepts_, strict=True) for array in pair]


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_glorot_draws_exactly_what_scikit_learn_draws(activation: str, seed: int) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is the reference here")
    # the first layer is drawn in pieces
    widths = (7, 1501, 5, 3)
    assert widths[0] * widths[1] > DRAWN_AT_ONCE
    network = Network.from_widths(widths, activation, dtype="float64")
    found = network.views(network.initial_params(seed)).values()
    for ours, theirs in zip(found, scikit_learn_draws(widths, activation, seed), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("initialiser", INITIALISERS)
def test_float32_is_the_rounded_float64(initialiser: str) -> None:
    wide = Network.from_widths((3, 4, 2), dtype="float64").initial_params(3, initialiser)
    narrow = Network.from_widths((3, 4, 2), dtype="float32").initial_params(3, initialiser)
    assert narrow.dtype == "float32"
    np.testing.assert_array_equal(narrow, wide.astype("float32"))


@pytest.mark.parametrize(
    ("initialiser", "variance", "uniform"),
    [
        ("he_normal", 2 / 100, False),
        ("he_uniform", 2 / 100, True),
        ("lecun_normal", 1 / 100, False),
        ("lecun_uniform", 1 / 100, True),
        ("glorot_uniform", 2 / 300, True),
    ],
)
def test_scale_of_the_initialisers(initialiser: str, variance: float, uniform: bool) -> None:
    network = Network.from_widths((100, 200), dtype="float64")
    params = network.initial_params(np.random.default_rng(0), initialiser)
    weight, bias = network.weights(params)[0], network.biases(params)[0]
    # the variance of 20,000 draws lies within a few per cent of that of the distribution
    assert weight.var() == pytest.approx(variance, rel=0.05)
    assert abs(weight.mean()) < 4 * np.sqrt(variance / weight.size)
    bound = np.sqrt(3 * variance)
    assert (np.abs(weight).max() <= bound) == uniform
    assert bias.any() == (initialiser == "glorot_uniform")


def test_the_output_layer_is_scaled_by_the_hidden_activation() -> None:
    widths = (4, 6, 2)
    logistic = Network.from_widths(widths, "logistic", dtype="float64")
    relu = Network.from_widths(widths, "relu", dtype="float64")
    np.testing.assert_allclose(logistic.initial_params(0) * np.sqrt(3), relu.initial_params(0), rtol=1e-12)
    np.testing.assert_array_equal(relu.initial_params(0, activation="relu"), relu.initial_params(0))
    single = Network.from_widths((4, 2), dtype="float64")
    np.testing.assert_allclose(
        single.initial_params(0, activation="logistic") * np.sqrt(3), single.initial_params(0), rtol=1e-12
    )


def test_an_unknown_initialiser() -> None:
    with pytest.raises(ValueError, match="initialiser='zeros' is unknown; known: glorot_uniform, he_normal"):
        Network.from_widths((2, 1)).initial_params(0, "zeros")


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, np.int64(3), True])
def test_a_seeded_source_is_numpys(seed: int) -> None:
    source, expected = random_source(seed), np.random.RandomState(int(seed))
    for ours in (source, copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        state, wanted = ours.get_state(legacy=False), expected.get_state(legacy=False)
        np.testing.assert_array_equal(state["state"].pop("key"), wanted["state"].pop("key"))
        assert state == wanted
    np.testing.assert_array_equal(source.normal(size=5), expected.normal(size=5))
    assert random_source(seed) is not source


def test_a_twin_is_the_same_network_and_another_object(network: Network) -> None:
    network.free_plans["kept"] = "by the first"
    twin = network.twin()
    assert twin == network
    assert twin is not network
    assert twin.table is network.table
    assert twin.free_plans == {}
    assert pickle.dumps(twin) == pickle.dumps(network)


def test_what_a_class_of_ones_own_keeps_is_pickled(network: Network) -> None:
    object.__setattr__(network, "note", "by the user")
    network.free_plans["kept"] = "by vjp"
    for copied in (copy.copy(network), pickle.loads(pickle.dumps(network))):
        assert copied == network
        assert copied.note == "by the user"
        assert copied.free_plans == {}


def test_random_sources() -> None:
    assert random_source(None) is np.random.mtrand._rand
    assert random_source(np.random) is np.random.mtrand._rand
    for source in (np.random.RandomState(3), np.random.default_rng(3)):
        assert random_source(source) is source
    assert random_source(np.int64(3)).uniform() == np.random.RandomState(3).uniform()
    network = Network.from_widths((2, 3, 1))
    np.random.seed(11)
    from_global = network.initial_params()
    np.testing.assert_array_equal(from_global, network.initial_params(11))


@pytest.mark.parametrize("seed", ["3", 3.0, [3]], ids=repr)
def test_what_cannot_seed(seed: object) -> None:
    with pytest.raises(ValueError, match=r"random_state=.* cannot seed a generator"):
        random_source(seed)
