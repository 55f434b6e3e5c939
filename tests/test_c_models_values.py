"""Every value that a model file can hold, in C: taken where Python takes it, and nowhere else.

The tables of csrc/options.c, csrc/parameters.c and csrc/labels.c are compared with the registries of Python here, field
by field.
"""

import copy
import json
import math
import warnings
from dataclasses import fields

import fuzz_files
import numpy as np
import pytest
import saved_models
from c_models import (
    BAD_MODEL,
    GOLDEN,
    NETWORK,
    PARAMETERS,
    STATE,
    UNREADABLE,
    CModel,
    at,
    check_agreement,
    check_values,
    golden_tree,
    python_model,
    saved,
    tree,
    with_member,
    without_digest,
)
from fuzz_files import joined, split

import pymlp
from pymlp import Dense, Network, backends, losses, model_state, validation
from pymlp.losses import LOSSES, CustomLoss
from pymlp.optimizers import OPTIMIZERS
from pymlp.schedules import SCHEDULES

pytestmark = pytest.mark.skipif(backends.missing_reason("c") is not None, reason="the C engine is not built")
if backends.missing_reason("c") is None:
    from pymlp._engine import ffi, lib


@pytest.fixture(params=["some", pytest.param("all", marks=pytest.mark.slow)])
def chosen(request):
    """All of a list of values, or some of them, from another one on for each name."""
    if request.param == "all":
        return lambda values, name="": list(values)
    return lambda values, name="": list(values)[len(name) % 7 :: 7]


def are_all(chosen):
    """Whether nothing is left out."""
    return len(chosen(VALUES)) == len(VALUES)


RAW = fuzz_files.Raw
NUMBERS = [
    *(0, 1, -1, 2, 3, 0.0, -0.0, 0.5, 1.0, 1.5, 2.0, 1e-7, 2.5, 49.0, 51.0, 2**31, 2**32 - 1, 2**32, 2**62, 2**62 + 1),
    *(2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**38, 1e300),
    *map(RAW, ["-0", "NaN", "Infinity", "-Infinity", "1e400"]),
]
VALUES = [
    *NUMBERS, None, True, False, "", "a", "auto", "layer", "relu", "exp", "softmax", "ema", "swa", "lbfgs", "sgd",
    "adam", "constant", "adaptive", "balanced", "log_loss", "binary_log_loss", "squared_error", "float32", "float16",
    [], [1], [0.1, 0.5], [0.5, 0.1], [2, 1], [1, 2, 2], [0.5, 1], [True], ["a"], [None], [[1]], [3, [4]], {}, {"a": 1},
    {"keys": ["a", 1], "values": [1, 2]}, {"keys": [1, 1.0], "values": [1, 2]}, {"keys": [True, 1], "values": [1, 2]},
    {"keys": ["a"], "values": []}, {"keys": [None], "values": [1]}, {"keys": [], "values": []},
    {"keys": [RAW("NaN"), RAW("NaN")], "values": [1, 2]}, {"keys": [2**63, float(2**63)], "values": [1, 2]},
    {"keys": [2**63 - 1, float(2**63), -(2**63)], "values": [1, 2, [3]]},
    {"keys": [0, RAW("-0"), "0"], "values": [1, 2, 3]},
    {"keys": ["a", "a"], "values": [1, 2]}, {"keys": ["a"], "values": [{"option": "Hinge"}]},
    {"layer": {"outputs": 3}}, {"layer": {}}, {"layer": {"outputs": 0}}, {"layer": {"outputs": 10**30, "dropout": 0.5}},
    {"layer": {"outputs": True}}, {"layer": {"outputs": 3, "wide": 1}}, {"layer": 3}, [{"layer": {"outputs": 3}}, 4],
    {"keys": [1e50, 2**130, 2**63, 1], "values": [1, 2, 3, 4]}, {"keys": [-1e50, -(2**130), 0.5], "values": [1, 2, 3]},
    [{"layer": {"outputs": 3, "activation": "nothing"}}], {"option": "Adam", "parameters": {}},
    {"option": "Cosine", "parameters": {}}, {"option": "Hinge", "parameters": {}},
    {"option": "Huber", "parameters": {}},
    {"option": "CustomLoss", "parameters": {}}, {"option": "Adam", "parameters": {}, "more": 1}, {"option": "Adam"},
    {"option": "Loss", "parameters": {}}, {"option": 3, "parameters": {}}, {"option": "Adam", "parameters": []},
    {"array": "state.0"}, [{"array": "state.0"}],
]  # fmt: skip


@pytest.mark.parametrize("kind", model_state.OPTION_KINDS, ids=lambda kind: kind.__name__)
def test_parameters_of_every_option(kind, model_path, chosen):
    # where it is taken, or else refused after its parameters were looked at
    parameter = "solver" if kind in OPTIMIZERS.values() else "learning_rate" if kind in SCHEDULES.values() else "loss"
    header, data = golden_tree("multiclass")
    assert check_agreement(joined(header, data), model_path)
    names = [each.name for each in fields(kind)]
    for name in [*names, "nothing"]:
        taken = 0
        for value in chosen(VALUES, kind.__name__ + name):
            description = {"option": kind.__name__, "parameters": {name: value}}
            taken += check_values(model_path, header, data, PARAMETERS, parameter, [description])
        assert taken > 0 or parameter == "loss" or name == "nothing" or not are_all(chosen), name
    if kind.__name__ == "Rprop":
        pairs = [(least, most) for least in NUMBERS for most in (0, 1, 1.0, 2**53, 2**53 + 1, 2.0**53, RAW("Infinity"))]
        values = [{"option": "Rprop", "parameters": {"least": least, "most": most}} for least, most in pairs]
        taken = check_values(model_path, header, data, PARAMETERS, parameter, chosen(values))
        assert taken > 3 or not are_all(chosen)


@pytest.mark.parametrize("loss", [*LOSSES, "custom"])
def test_losses_of_networks(loss, model_path, chosen):
    group = 1 if loss == "custom" else LOSSES[loss].group
    own = CustomLoss(losses._not_stored, "tanh")
    network = Network.from_widths((2, group), loss=own if loss == "custom" else LOSSES[loss])
    header, data = split(saved((network, network.initial_params(0)), model_path))
    assert check_agreement(joined(header, data), model_path)
    names = NETWORK
    kind = "CustomLoss" if loss == "custom" else type(LOSSES[loss]).__name__
    members = ["output_activation", "function"] if loss == "custom" else [each.name for each in fields(LOSSES[loss])]
    for name in [*members, "nothing"]:
        values = [
            {"option": kind, "parameters": {name: value}} for value in [*chosen(VALUES, name), "tanh", [0.2], [0.9999]]
        ]
        check_values(model_path, header, data, names, "loss", values)
    check_values(model_path, header, data, names, "loss", [*chosen(VALUES, loss), *LOSSES])


@pytest.mark.parametrize("name", [each.name for each in fields(Network)] + ["nothing"])
def test_descriptions_of_networks(name, model_path, chosen):
    header, data = golden_tree("network_everything_float64")
    names = NETWORK
    check_values(model_path, header, data, names, name, chosen(VALUES, name))
    removed = fuzz_files._copied(header)
    where = at(removed, *names)
    where[:] = [(key, item) for key, item in where if key != name]
    check_agreement(joined(removed, data), model_path)


@pytest.mark.parametrize("name", [each.name for each in fields(Dense)] + ["nothing"])
def test_descriptions_of_layers(name, model_path, chosen):
    header, data = golden_tree("network_everything")
    taken = 0
    for place in range(3):
        for value in chosen(VALUES, name):
            changed = fuzz_files._copied(header)
            layer = at(changed, "__metadata__", "network", "layers")[place]
            layer[:] = [(key, item) for key, item in layer if key != name]
            layer.append((name, tree(value)))
            try:
                taken += check_agreement(joined(changed, data), model_path)
            except AssertionError as error:
                raise AssertionError(f"layer {place}, {name}={value!r}: {error}") from error
    assert taken > 0 or name == "nothing" or not are_all(chosen)


NAMES = sorted({*validation.CLASSIFIER_CONSTRAINTS, *validation.REGRESSOR_CONSTRAINTS, "nothing", "random_states"})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["multiclass", "regressor", "own_loss"])
def test_parameters_of_estimators(model, name, model_path, chosen):
    header, data = golden_tree(model)
    taken = check_values(model_path, header, data, PARAMETERS, name, chosen(VALUES, name))
    known = validation.CLASSIFIER_CONSTRAINTS if model == "multiclass" else validation.REGRESSOR_CONSTRAINTS
    assert (taken > 0) == (name in known) or not are_all(chosen)
    removed = fuzz_files._copied(header)
    where = at(removed, *PARAMETERS)
    where[:] = [(key, item) for key, item in where if key != name]
    check_agreement(joined(removed, data), model_path)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "hinge", "focal", "own_loss"])
def test_losses_that_classes_and_parameters_ask_for(task, model_path, chosen):
    header, data = golden_tree(task)
    asked = [
        *LOSSES, *({"option": type(loss).__name__, "parameters": {}} for loss in LOSSES.values()),
        {"option": "Focal", "parameters": {"gamma": 1.5}}, {"option": "BinaryFocal", "parameters": {"gamma": 1.5}},
        {"option": "LogLoss", "parameters": {"label_smoothing": 0}}, {"option": "CustomLoss", "parameters": {}},
    ]  # fmt: skip
    for of_network in [None, *chosen(asked, task)]:
        changed = header
        if of_network is not None:
            changed = with_member(header, NETWORK, "loss", of_network)
        check_values(model_path, changed, data, PARAMETERS, "loss", asked)


@pytest.mark.parametrize("name", [*model_state.RECORDS, "nothing"])
def test_records_of_the_fit(name, model_path, chosen):
    header, data = golden_tree("regressor")
    history = [
        {"loss": [1.0, 2], "validation_score": None, "rate": [None, 0.5]}, {"loss": [1.0], "validation_score": None},
        {"loss": [1.0], "validation_score": [1, 2], "rate": None},
        {"loss": [True], "validation_score": None, "rate": None},
        {"loss": [], "validation_score": [], "rate": []}, {"loss": [1], "validation_score": 3, "rate": None},
        {"loss": [1], "validation_score": ["a"], "rate": [1]}, {"loss": None, "validation_score": None, "rate": None},
        {"loss": [1], "validation_score": None, "rate": None, "more": None},
    ]  # fmt: skip
    taken = check_values(
        model_path, header, data, ("__metadata__", "state", "fitted"), name, [*chosen(VALUES, name), *history]
    )
    assert (taken > 0) == (name != "nothing") or not are_all(chosen)


def test_the_state_of_an_estimator(model_path, chosen):
    header, data = golden_tree("multiclass")
    for name in ("class", "parameters", "features", "fitted", "standardisation", "classes", "nothing"):
        values = [
            *chosen(VALUES, name),
            "MLPClassifier",
            "MLPRegressor",
            ["a", "b", "c", "d"],
            ["a", "a", "", "d"],
            ["a"] * 3,
            [1] * 4,
        ]
        check_values(model_path, header, data, STATE, name, values)
        removed = fuzz_files._copied(header)
        where = at(removed, *STATE)
        where[:] = [(key, item) for key, item in where if key != name]
        check_agreement(joined(removed, data), model_path)
    for name in ("format", "format_version", "pymlp_version", "network", "state", "estimator", "nothing"):
        values = [
            "pymlp",
            "1",
            "2",
            "0.1",
            "\u00e4",
            "\x7f",
            "MLPClassifier",
            "MLPRegressor",
            "",
            "{}",
            "[]",
            " {}",
            None,
            3,
        ]
        check_values(model_path, header, data, ("__metadata__",), name, values)


@pytest.mark.parametrize("model", ["multiclass", "two_targets", "poisson", "standardize_gaussian"])
def test_scalings(model, model_path, chosen):
    header, data = golden_tree(model)
    network = pymlp.load(GOLDEN / f"{model}.safetensors").network_
    taken = 0
    for columns in {network.inputs, network.outputs}:
        good, low = [0.5, *[1] * (columns - 1)], [2.0] * columns
        scalings = [
            None, [low, good], [good, low], [low, [0.0] * columns], [low, [-1.0] * columns],
            [low, [RAW("Infinity")] * columns],
            [low, [RAW("NaN")] * columns], [[RAW("Infinity")] * columns, good], [[RAW("NaN")] * columns, good], [low],
            low,
            [low, good, good], [low, "a" * columns], [low, [True] * columns], [low, [None] * columns], [[], []],
            ["", ""],
            {"a": low, "b": good}, {}, [low, [1e300] * columns], [[1e39] * columns, good], [low, [1e-320] * columns],
            [low, [10**39] * columns],
        ]  # fmt: skip
        pairs = [(one, None) for one in scalings] + [(None, one) for one in scalings] + [([low, good], [low, good])]
        values = [{"inputs": inputs, "target": target} for inputs, target in pairs]
        taken += check_values(
            model_path, header, data, STATE, "standardisation", [*values, *chosen(VALUES), {"inputs": None}]
        )
    assert taken > 3


TYPES = [order + kind for order in "<>|=" for kind in (
    "b1", "b", "b2", "i1", "i2", "i4", "i8", "i3", "u1", "u2", "u4", "u8", "f2", "f4", "f8",
    "f16", "f3", "O", "O8", "O4", "O16", "U", "U0",
    "U1", "U2", "U000000003", "U0000000003", "U999999999", "S3", "c8",
)] + ["i8", "", "<", "object", 3, None, "<i8 "]  # fmt: skip
LABELS = [
    [False, True], [True, False], [0, 1], [1, 0], [-1, 1], [0, 255], [0, 256], [-128, 127], [-129, 0], [0, 2**32 - 1],
    [0, 2**63 - 1], [0, 2**64 - 1], [0, 2**64], [-(2**63), 0], [-(2**63) - 1, 0], [0.5, 1.5], [0.5, 1], [0.1, 0.2],
    [1, 1.5],
    [0, 65504], [0, 65505], [0, 2**53 + 1], [2**53, 2**53 + 2], [RAW("-Infinity"), RAW("Infinity")], [0, RAW("NaN")],
    [0, 1.000244140625], [5.960464477539063e-08, 1.0], [6e-8, 1.0], [1e-45, 1.0], [1.401298464324817e-45, 1.0],
    [3.4028234663852886e38, 1e39],
    ["a", "b"], ["b", "a"], ["a", "a"], ["", "b"], ["a\0", "b"], ["a", "a\0b"], ["abc", "abd"],
    ["\U0001f40d", "\U0001f40e"],
    ["\uffff", "\U0001f40d"], ["a", 1], [False, 1], [False, 0], [1, True], [2**53, 2**53 + 1.0], [1, 2.5],
    [2**53 + 1, 2.0**53],
    [10**39, 1e39], [1e39, 10**39], [10**38, 1e39], [None, 1], [[1], [2]], [1, 2, 3], [1], [], "ab", None,
    {"a": 1, "b": 2},
    [0, RAW("-0")], [RAW("-0"), 1], [-0.0, 0.0], [-0.0, 1.0], [-0.0001, 1e-5], [1e-4, 0.1], [123456789.125, 1e15],
    [1e16, 1e22], [5e-324, 1.7976931348623157e308], [-1.2345678901234567e-7, 0.30000000000000004],
]  # fmt: skip


def test_labels_of_every_type(model_path, chosen):
    header, data = golden_tree("binary")
    names = (*STATE, "classes")
    taken = 0
    for kind in TYPES:
        changed = with_member(header, names, "dtype", kind)
        try:
            taken += check_values(model_path, changed, data, names, "values", chosen(LABELS, str(kind)))
        except AssertionError as error:
            raise AssertionError(f"dtype={kind!r}: {error}") from error
    assert taken > 20
    for name in ("kind", "sparse_labels", "nothing"):
        check_values(model_path, header, data, names, name, [*chosen(VALUES), *pymlp.targets.KINDS])


def test_texts_of_labels_are_those_of_python(model_path):
    header, data = golden_tree("binary")
    names, checked = (*STATE, "classes"), 0
    for kind in ("<f8", "<f4", "<f2", "<i8", "|O", "|b1", "<U3"):
        for labels in LABELS:
            content = joined(with_member(with_member(header, names, "dtype", kind), names, "values", labels), data)
            model, _ = python_model(content, model_path)
            if model is not None:
                texts = CModel(content).texts(lib.pymlp_model_class, len(model.classes_))
                assert texts == [str(label) for label in model.classes_.tolist()]
                checked += 1
    assert checked > 30


def test_lists_in_arrays(model_path):
    header, data = golden_tree("no_hidden_layer")

    def content(state, *arrays):
        changed = with_member(header, ("__metadata__",), "state", RAW("x"))
        changed = with_member(changed, ("__metadata__",), "state", json.dumps(state))
        whole = data
        for name, kind, shape, values in arrays:
            place = [len(whole), len(whole) + len(values)]
            changed = with_member(changed, (), name, {"dtype": kind, "shape": shape, "data_offsets": place})
            whole += values
        return joined(changed, whole)

    old = json.loads(dict(split_texts(header))["state"])

    def with_curve(value):
        return {**old, "fitted": {**old["fitted"], "loss_curve_": value}}

    reference, eight = {"array": "state.0"}, bytes(8)
    assert check_agreement(content(old), model_path)
    assert check_agreement(content(with_curve(reference), ("state.0", "F64", [1], eight)), model_path)
    assert check_agreement(content(with_curve(reference), ("state.0", "I64", [1], b"\xff" * 8)), model_path)
    assert check_agreement(content(with_curve(reference), ("state.0", "F64", [1], b"\xff" * 8)), model_path)
    assert check_agreement(content(with_curve(reference), ("state.0", "F64", [0], b"")), model_path)
    for state, *arrays in (
        (old, ("state.0", "F64", [1], eight)),
        (with_curve(reference),),
        (with_curve([reference, reference]), ("state.0", "F64", [1], eight)),
        (with_curve(reference), ("state.1", "F64", [1], eight)),
        (with_curve(reference), ("state.0", "F64", [1, 1], eight)),
        (with_curve(reference), ("state.0", "F32", [2], eight)),
        (with_curve(reference), ("state.0", "U64", [1], eight)),
        (with_curve(reference), ("state.0", "U8", [8], eight)),
        (with_curve({"array": 0}), ("state.0", "F64", [1], eight)),
        (with_curve({"array": "layers.0.bias"}),),
        ({**old, "features": reference}, ("state.0", "U8", [7], b"a\0b\0\xff\0d")),
        ({**old, "features": reference}, ("state.0", "U8", [3], b"a\0b")),
        ({**old, "features": reference}, ("state.0", "F64", [4], bytes(32))),
        (with_curve(reference), ("stat.0", "F64", [1], eight)),
    ):
        assert not check_agreement(content(state, *arrays), model_path)
    assert check_agreement(content({**old, "features": reference}, ("state.0", "U8", [7], b"a\0b\0c\0d")), model_path)
    assert check_agreement(content({**old, "features": reference}, ("state.0", "U8", [3], bytes(3))), model_path)


def split_texts(header):
    """Texts of the metadata by name."""
    return [
        (name, item if isinstance(item, str) else fuzz_files.text_of(item)) for name, item in at(header, "__metadata__")
    ]


def test_entries_of_the_header(model_path, chosen):
    header, data = golden_tree("network_float64")
    for entry in ("layers.0.weight", "layers.0.bias"):
        for name in ("dtype", "shape", "data_offsets", "nothing"):
            values = [
                *chosen(VALUES), "F32", "F64", "I64", "U8", "BF16", [4, 3], [3, 4], [12], [4, 3, 1], [4, 3.0], [0, 96],
                [96, 120],
                [0, 97], [-1, 95], [96, 0], [2**64, 2**64 + 96], [0, 96, 96], [0.0, 96], [3], [3, 1], [2**62, 4, 3],
            ]  # fmt: skip
            check_values(model_path, header, data, (entry,), name, values)
    # other orders of the arrays are as good
    turned = [*reversed(header)]
    assert check_agreement(joined(fuzz_files.Pairs(turned), data), model_path)


def test_digests_of_every_length(model_path):
    header, data = golden_tree("network_float64")
    for length in range(140):
        texts = {"array": "state.0"} if length else {}
        changed = with_member(header, ("__metadata__",), "state", RAW("x"))
        changed = with_member(changed, ("__metadata__",), "state", json.dumps({"a": texts}))
        if length:
            place = [len(data), len(data) + length]
            changed = with_member(changed, (), "state.0", {"dtype": "U8", "shape": [length], "data_offsets": place})
        content = joined(changed, data + b"x" * length)
        assert check_agreement(content, model_path)
        assert not check_agreement(content[:-1] + b"y", model_path)


@pytest.mark.parametrize(
    "text",
    [
        "{}", " {} ", "{ }", '{"a":1}', '{"a": 1,}', '{"a" 1}', '{a: 1}', "{'a': 1}", '{"a": 01}', '{"a": 1.}',
        '{"a": .5}',
        '{"a": 1e}', '{"a": 1e5}', '{"a": 1E+5}', '{"a": 1e-}', '{"a": -}', '{"a": -0.0}', '{"a": +1}', '{"a": 0x10}',
        '{"a": NaN}', '{"a": nan}', '{"a": -NaN}', '{"a": -Infinity}', '{"a": Infinit}', '{"a": true}', '{"a": True}',
        '{"a": nul}', '{"a": "\\u00e4"}', '{"a": "\\u00E4\\ud83d\\udc0d"}', '{"a": "\\ud83d"}',
        '{"a": "\\udc0d\\ud83d"}',
        '{"a": "\\u12"}', '{"a": "\\x"}', '{"a": "\\/\\b\\f\\n\\r\\t\\\\\\""}', '{"a": "\n"}', '{"a": "\t"}',
        '{"a": "\x7f"}',
        '{"a": "}', '{"a": [1, 2, [3]]}', '{"a": [1 2]}', '{"a": [,]}', '{"a": [1}', '{"a": 1}}', '{"a": 1} x',
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 1}}', '{"\\u0061": 1, "a": 2}', "[]", '"a"', "3", "", "null", '\ufeff{}',
        '{"a": "\\u0000"}',
        '{"\\u0000": 1, "": 2}', '{"a": ' + "[" * 31 + "]" * 31 + "}", '{"a": ' + "[" * 32 + "]" * 32 + "}",
        '{"a": [' + "0," * 32765 + "0]}", '{"a": [' + "0," * 32766 + "0]}", '{"a": "' + "[" * 100 + '"}',
        '{"a": ' + "1" * 40 + "}",
        '{"a": ' + "1" * 41 + "}", '{"a": -' + "1" * 39 + "}", '{"a": -' + "1" * 40 + "}",
        '{"a": 0.' + "1" * 5000 + "}",
        '{"a": "\u00e4\U0001f40d"}', "{\"a\": '\"'}", '{"a": 1e400}', '{"a":\x0b1}', '{"a":\u00a01}',
        '{"a": "\\ud83d\\u0061"}', '{"a": "\\ud83d\\uffff"}', '{"a": "\\uffff\\u20ac"}', '{"a": "\\u1',
        '{"a":\r\n\t 1}',
        '{"a": ' + '""' * 32769 + "}", '{"a": ' + '"b",' * 32769 + "}",
    ],
    ids=lambda text: text if len(text) < 30 else f"{text[:10]}...{len(text)}",
)  # fmt: skip
def test_texts_that_may_be_json(text, model_path):
    header, data = golden_tree("network_float64")
    check_values(model_path, header, data, ("__metadata__",), "state", [text])


def test_bytes_that_are_no_utf8(model_path):
    content = without_digest((GOLDEN / "two_targets.safetensors").read_bytes())
    place = content.index(b'"format"') + 2
    for sequence in (
        b"\xc3\xa4", b"\xf0\x9f\x90\x8d", b"\xed\x9f\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf", b"\x80", b"\xc0\x80",
        b"\xc1\xbf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80",
        b"\xff",
        b"\xe2\x82", b"\xf0\x9f\x90",
    ):  # fmt: skip
        # in the place of a name, whose length is kept by what follows
        broken = content[:place] + sequence + content[place + len(sequence) :]
        assert not check_agreement(broken, model_path)
        assert CModel(broken).message.isprintable()


def test_a_checkpoint_is_called_one(tmp_path):
    path = tmp_path / "checkpoint"
    X = saved_models.rows()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pymlp.MLPRegressor(max_iter=2, random_state=0).fit(X, X[:, 0], checkpoint=path)
    found = CModel(path.read_bytes())
    assert found.code == BAD_MODEL
    assert "it is the checkpoint of a training run" in found.message


def test_messages_end_where_there_is_no_more_room():
    content = b"not a model"
    owner, whole = ffi.new("pymlp_model **"), CModel(content).message
    for room in range(1, len(whole) + 2):
        message = ffi.new("char[]", b"x" * (room + 1))
        assert lib.pymlp_model_read(owner, content, len(content), message, room) == BAD_MODEL
        assert ffi.string(message).decode() == whole[: room - 1]
        # what stood behind it stands there still
        assert ffi.buffer(message)[room : room + 1] == b"x"
    assert lib.pymlp_model_read(owner, content, len(content), ffi.NULL, 0) == BAD_MODEL
    for room in (0, 1, 20, 200):
        message = ffi.new("char[]", b"x" * 201)
        assert lib.pymlp_model_load(owner, b"/no/such/file", message, room) == UNREADABLE
        assert len(ffi.string(message)) < max(room, 1) or room == 0
    assert lib.pymlp_model_load(owner, b"/no/such/file", ffi.NULL, 0) == UNREADABLE


def test_numbers_that_are_not_finite(model_path):
    network = Network.from_widths((3, 2), dtype="float64")
    content = without_digest(saved((network, network.initial_params(0)), model_path))
    for number in (math.nan, math.inf, -math.inf):
        for place in range(network.n_parameters):
            start = len(content) - 8 * (network.n_parameters - place)
            broken = content[:start] + np.float64(number).tobytes() + content[start + 8 :]
            assert not check_agreement(broken, model_path)
    assert "layers.0.bias[1] is not a finite number" in CModel(broken).message


def test_a_model_is_not_changed_by_what_is_asked_of_it(model_path):
    content = (GOLDEN / "no_hidden_layer.safetensors").read_bytes()
    found, X = CModel(content), saved_models.rows()
    before = copy.copy(X), found.predict(X)
    found.value_and_gradient(X)
    assert X.tobytes() == before[0].tobytes()
    assert found.predict(X).tobytes() == before[1].tobytes()
    assert lib.pymlp_predict(found.model, ffi.from_buffer(X), 0, ffi.NULL) == 0
    assert lib.pymlp_predict(found.model, ffi.from_buffer(X), -1, ffi.NULL) == 5
    assert lib.pymlp_value_and_gradient(found.model, ffi.from_buffer(X), 1, ffi.NULL, ffi.NULL) == 5
