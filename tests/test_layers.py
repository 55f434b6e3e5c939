"""Layers: what a `Dense` refuses, the table it becomes, and the kinds' definitions against slow formulas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pymlp.layers import KINDS, NORM_EPSILON, Dense, Moment, Row, table_of
from pymlp.network import Network
from pymlp.philox import kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": 0}, "outputs must be an integer of at least 1, got 0"),
        ({"outputs": 2.0}, "outputs must be an integer of at least 1, got 2.0"),
        ({"outputs": True}, "outputs must be an integer of at least 1, got True"),
        ({"activation": "step"}, "activation='step' is unknown; known: identity"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"dropout": -0.1}, "dropout must be"),
        ({"dropout": float("nan")}, "dropout must be"),
        ({"normalization": "batch"}, "normalization='batch' is unknown; known: None, layer"),
        ({"residual": 1}, "residual must be True or False, got 1"),
        ({"parametric": None}, "parametric must be True or False, got None"),
        ({"max_norm": 0}, "max_norm must be"),
        ({"max_norm": float("inf")}, "max_norm must be"),
    ],
)
def test_what_a_layer_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dense(**{"outputs": 3, **arguments})


def test_a_layer_does_not_change_and_keeps_plain_numbers() -> None:
    layer = Dense(np.int64(3), "tanh", dropout=0.5)
    assert type(layer.outputs) is int
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer.dropout = 0.1


def test_what_is_plain() -> None:
    assert Dense(3).is_plain
    assert Dense(3, max_norm=1.0).is_plain
    for option in ({"dropout": 0.1}, {"normalization": "layer"}, {"residual": True}, {"parametric": True}):
        assert not Dense(3, **option).is_plain


def test_a_plain_network_has_a_row_a_layer() -> None:
    table = table_of(3, 0.0, (Dense(4, "tanh"), Dense(2, "identity", max_norm=2.0)))
    assert [(row.kind, row.activation, row.inputs, row.outputs, row.source, row.second) for row in table] == [
        ("dense", "tanh", 3, 4, 0, -1),
        ("dense", "identity", 4, 2, 1, -1),
    ]
    assert [row.max_norm for row in table] == [0.0, 2.0]


def test_rows_in_the_order_of_computation() -> None:
    everything = Dense(4, "gelu", 0.25, "layer", residual=True, max_norm=3.0, parametric=True)
    table = table_of(4, 0.5, (everything, Dense(2, "identity")))
    assert [row.kind for row in table] == [
        "dropout", "dense", "layer_norm", "parametric", "dropout", "add", "dense",
    ]  # fmt: skip
    assert [row.layer for row in table] == [-1, 0, 0, 0, 0, 0, 1]
    assert [row.number for row in table] == list(range(7))
    assert [row.source for row in table] == list(range(7))
    # the residual is what the layer read: the inputs after their dropout
    assert [row.second for row in table] == [-1, -1, -1, -1, -1, 1, -1]
    assert [row.setting for row in table] == [0.5, 0, NORM_EPSILON, 0, 0.25, 0, 0]
    # the activation is where it is computed, once
    assert [row.activation for row in table] == ["identity"] * 3 + ["gelu"] + ["identity"] * 3
    assert table_of(4, 0, (Dense(4, "gelu", normalization="layer"),))[1].activation == "gelu"


def test_parts_follow_each_other_without_gaps() -> None:
    network = Network(3, (Dense(4, normalization="layer", parametric=True), Dense(2, "identity")))
    names = [(part.name, part.shape) for row in network.table for part in row.parts]
    assert names == [
        ("weight", (3, 4)), ("bias", (4,)), ("gain", (4,)), ("shift", (4,)), ("mixture", (4,)),
        ("weight", (4, 2)), ("bias", (2,)),
    ]  # fmt: skip
    places = [part.place for row in network.table for part in row.parts]
    assert [place.start for place in places] == [0, *(place.stop for place in places[:-1])]
    assert places[-1].stop == network.n_parameters == 12 + 4 * 4 + 8 + 2
    views = network.views(network.initial_params(0))
    assert list(views)[:5] == [f"layers.0.{name}" for name in ("weight", "bias", "gain", "shift", "mixture")]
    # a norm and a parametric activation begin as what they are beside
    assert (views["layers.0.gain"] == 1).all()
    assert (views["layers.0.shift"] == 0).all()
    assert (views["layers.0.mixture"] == 1).all()


def test_a_residual_needs_one_width() -> None:
    with pytest.raises(ValueError, match=r"layers\[1\]: residual=True needs as many outputs as inputs, got 5 outputs"):
        Network(3, (Dense(4), Dense(5, residual=True), Dense(1, "identity")))


def test_the_output_layer_is_plain() -> None:
    with pytest.raises(ValueError, match=r"layers\[-1\], the output layer, can have a max_norm and nothing else"):
        Network(3, (Dense(3, "identity", dropout=0.1),))


def row_of(kind: str, **columns: object) -> Row:
    return Row(
        kind, **{"activation": "identity", "inputs": 5, "outputs": 5, "layer": 0, "number": 7, "source": 7} | columns
    )


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 5))


def test_layer_norm(x: np.ndarray) -> None:
    gain, shift = np.arange(1.0, 6.0), np.linspace(-1, 1, 5)
    row = row_of("layer_norm", setting=NORM_EPSILON)
    found = KINDS["layer_norm"].forward(row, [gain, shift], x, None, Moment())
    for given, numbers in zip(x, found, strict=True):
        mean = sum(given) / 5
        variance = sum((number - mean) ** 2 for number in given) / 5
        expected = [(number - mean) / (variance + 1e-5) ** 0.5 for number in given]
        np.testing.assert_allclose(numbers, np.array(expected) * gain + shift, rtol=1e-13)


def test_parametric(x: np.ndarray) -> None:
    row = row_of("parametric", activation="relu")
    forward = KINDS["parametric"].forward
    np.testing.assert_array_equal(forward(row, [np.ones(5)], x, None, Moment()), np.maximum(x, 0))
    np.testing.assert_array_equal(forward(row, [np.zeros(5)], x, None, Moment()), x)
    # relu with mixture a is leaky with slope 1 - a
    leaky = forward(row, [np.full(5, 0.75)], x, None, Moment())
    np.testing.assert_allclose(leaky, np.where(x > 0, x, 0.25 * x), rtol=1e-15)


def test_dropout(x: np.ndarray) -> None:
    row = row_of("dropout", setting=0.4)
    forward = KINDS["dropout"].forward
    assert forward(row, [], x, None, Moment(3)) is x
    mask = kept(0.4, 6, 5, seed=3, step=8, layer=7, first_row=2)
    assert mask.any()
    assert not mask.all()
    np.testing.assert_array_equal(forward(row, [], x, None, Moment(3, 8, 2)), np.where(mask, x * (1 / 0.6), 0))
    # what is dropped is 0 even where it is not finite
    x[:] = np.nan
    np.testing.assert_array_equal(np.isnan(forward(row, [], x, None, Moment(3, 8, 2))), mask)


def test_moments_follow_each_other() -> None:
    assert Moment(3, 8, 2).after(5) == Moment(3, 8, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_a_start_for_each_of_its_parameters(kind: str) -> None:
    row = KINDS[kind]
    assert row.name == kind
    assert len(row.initial) == len(row.shapes)
    assert {shape for _, shape in row.shapes} <= {"matrix", "vector"}
