"""`to_c`: the answers of compiled sources against the engine's, for every activation, kind of layer and task."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from c_exports import (
    CPP,
    FEW,
    HIDDEN,
    MOST_ULPS,
    REAL,
    SHAPES,
    inputs_for,
    needs_engine,
    slow,
    some_params,
    some_rows,
)
from c_sources import compile_with, library, need, predicted, ulps

import pymlp
from pymlp import Dense, Network, backends, config_context
from pymlp.export import to_c
from pymlp.export.c_model import steps_of
from pymlp.functions import ACTIVATIONS
from pymlp.inference import outputs_of
from pymlp.losses import CustomLoss, GaussianNLL, Quantile
from pymlp.portable import TASKS, portable


def engine_outputs(network, params, X):
    """What the portable instruction set computes."""
    with config_context(backend="c", isa="portable"):
        return outputs_of(backends.get().Plan(network, 1), params, X)


def custom(y, output):
    raise AssertionError("no test trains with it")


def arguments(dtype):
    """Numbers of all sizes, and what is beyond them."""
    draw = np.random.default_rng(0)
    most = np.log10(np.finfo(dtype).max) - 1
    sizes = [draw.normal(size=1000) * 10.0 ** draw.uniform(-8, 3, 1000), 10.0 ** draw.uniform(-most, most, 300)]
    ends = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.6e6, 6400.0, 88.5, 709.5, -87.5, -708.5]
    numbers = np.concatenate([*sizes, -sizes[1], np.linspace(-120, 120, 1001), ends])
    return numbers.astype(dtype).reshape(-1, 1)


@pytest.mark.parametrize("dtype", REAL)
@needs_engine
def test_every_function_is_the_engines(tmp_path, dtype):
    # units beside each other make loops of them: as many as vectors have lanes, and some more
    units, sources, networks = 19, [], {}
    for name, row in ACTIVATIONS.items():
        last = Dense(2 * units, name)
        layers = (Dense(2 * units, name), Dense(2 * units, "identity")) if row.hidden else (last,)
        loss = (
            "squared_error"
            if row.hidden
            else {"ascending": Quantile((0.2, 0.8)), "mean_deviation": GaussianNLL()}.get(
                name, CustomLoss(custom, name)
            )
        )
        network = Network(1, layers, loss, dtype=dtype)
        params = np.zeros(network.n_parameters, dtype)
        # each unit is the input, and goes its own way
        network.weights(params)[0][:] = 1
        if row.hidden:
            network.weights(params)[1][:] = np.eye(2 * units)
        networks[name] = network, params
        sources.append(to_c((network, params), tmp_path / f"f_{name}.c").path)
    functions = library(sources, ("-O3",))
    X = arguments(dtype)
    for name, (network, params) in networks.items():
        # products with 0 spoil what is not finite
        rows = X[np.isfinite(X[:, 0])] if ACTIVATIONS[name].hidden else X
        found, expected = predicted(functions, f"f_{name}", rows), engine_outputs(network, params, rows)
        assert ulps(found, expected) <= MOST_ULPS, name


# widths at the edges of panels and of vectors


@pytest.mark.parametrize("dtype", REAL)
@needs_engine
def test_every_kind_of_layer_is_the_engines(tmp_path, dtype):
    networks = {
        name: Network(inputs, layers, dtype=dtype, input_dropout=0.2 if name == "all" else 0.0)
        for name, (inputs, layers) in SHAPES.items()
    }
    for name in HIDDEN:
        layers = (
            Dense(5, name, parametric=True),
            Dense(5, name, residual=True, normalization="layer"),
            Dense(2, "identity"),
        )
        networks[f"with_{name}"] = Network(5, layers, dtype=dtype)
    sources = [to_c((each, some_params(each)), tmp_path / f"{name}.c").path for name, each in networks.items()]
    functions = library(sources, ("-O3",))
    for name, network in networks.items():
        X = inputs_for(network)
        assert ulps(predicted(functions, name, X), engine_outputs(network, some_params(network), X)) <= MOST_ULPS, name


@needs_engine
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are those of x86-64")
@pytest.mark.parametrize(
    ("compiler", "standard"),
    [("gcc", "gnu17"), slow("gcc", "c99"), slow("clang", "gnu17"), slow("clang", "c99")],
)
def test_nothing_is_fused(tmp_path, compiler, standard):
    need(compiler, "objdump")
    networks = [Network(inputs, layers, dtype=dtype) for inputs, layers in SHAPES.values() for dtype in REAL]
    networks.append(Network(4, (Dense(6, "ascending"),), Quantile((0.1, 0.5, 0.9)), dtype="float64"))
    unit, program = tmp_path / "unit.c", tmp_path / "unit.o"
    for number, network in enumerate(networks):
        to_c((network, some_params(network)), tmp_path / f"n{number}.c")
    unit.write_text("".join(f'#include "n{number}.c"\n' for number in range(len(networks))))
    compile_with(compiler, f"-std={standard}", "-O3", "-mavx2", "-mfma", "-c", unit, "-o", program)
    done = subprocess.run(["objdump", "-d", program], capture_output=True, text=True, check=True)
    assert "vmulps" in done.stdout
    assert not re.findall(r"\bvfn?m(?:add|sub)\w+", done.stdout)


def test_buffers_are_used_again_once_they_are_read():
    plain = Network.from_widths((3, *[8] * 9, 1))
    assert steps_of(plain, "out")[1] == {"a": 8, "b": 8}
    steps, buffers = steps_of(Network(*SHAPES["all"]), "out")
    assert [step.row.kind for step in steps] == [
        "dense", "layer_norm", "parametric", "add", "dense", "layer_norm", "parametric", "dense", "parametric", "add",
        "dense",
    ]  # fmt: skip
    assert (steps[0].source, steps[-1].target) == ("x", "out")
    # the inputs are added to what has come of them, and nobody writes to them
    assert steps[3].second == "x"
    assert all(step.target != "x" for step in steps)
    assert len(buffers) == 2


# -- what a model answers


@pytest.fixture(scope="module")
def rows():
    return some_rows()


LABELS = np.array(['a "quoted"', "back\\slash", "?" + "?=", "ümlaut\nline"])


def models(rows, dtype):
    """Fitted models of every task, by name."""
    X = rows.astype(dtype)
    score = rows[:, 0] + 0.3 * rows[:, 1]
    four, two = LABELS[np.digitize(score, [-0.7, 0, 0.7])], LABELS[(score > 0) + 0]
    indicator = np.stack([score > 0, rows[:, 2] > 0.5, rows[:, 3] < 0.2], axis=1) + 0
    found = {
        "binary": pymlp.MLPClassifier(**FEW).fit(X, two),
        "binary_scores": pymlp.MLPClassifier(loss="hinge", **FEW).fit(X, two),
        "single_class": pymlp.MLPClassifier(**FEW).fit(X, np.zeros(len(X), int)),
        "multiclass": pymlp.MLPClassifier(standardize=True, **FEW).fit(X * 50 + 1000, four),
        "multiclass_scores": pymlp.MLPClassifier(loss="squared_hinge", **FEW).fit(X, four),
        "integers": pymlp.MLPClassifier(**FEW).fit(X, np.digitize(score, [-0.5, 0.5]) * 10 - 10),
        "multilabel": pymlp.MLPClassifier(**FEW).fit(X, indicator),
        "multilabel_scores": pymlp.MLPClassifier(loss="hinge", **FEW).fit(X, indicator),
        "number": pymlp.MLPRegressor(**FEW).fit(X, score),
        "numbers": pymlp.MLPRegressor(standardize=True, standardize_target=True, **FEW).fit(X, rows[:, :2] * 1000),
        "quantiles": pymlp.MLPRegressor(loss=Quantile((0.1, 0.5, 0.9)), standardize_target=True, **FEW).fit(
            X, score * 30
        ),
        "density": pymlp.MLPRegressor(loss=GaussianNLL(), standardize_target=True, **FEW).fit(X, score + 400),
        "counts": pymlp.MLPRegressor(loss="poisson", **FEW).fit(X, np.round(np.exp(score))),
        "logistic": pymlp.LogisticRegression().fit(X, four),
        "vectors": pymlp.LinearSVC().fit(X, two),
        "fourier": pymlp.FourierSVC(n_components=30, random_state=0).fit(X, four),
        "bayes": pymlp.GaussianNB().fit(X, four),
        "threshold": pymlp.BernoulliNB(binarize=0.1).fit(X, four),
    }
    assert {portable(model).task for model in found.values()} == set(TASKS)
    return found


def X_for(name, rows, dtype):
    return np.ascontiguousarray(rows * 50 + 1000 if name == "multiclass" else rows, dtype)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", REAL)
@needs_engine
def test_every_task(tmp_path, rows, dtype):
    fitted = models(rows, dtype)
    sources = []
    for name, model in fitted.items():
        report = to_c(model, tmp_path / f"{name}.c")
        assert report.dtype == portable(model).network.dtype
        sources.append(report.path)
    functions = library(sources)
    if shutil.which("g++") is not None:
        compile_with("g++", *CPP, "-fsyntax-only", tmp_path / "unit.c")
    for name, model in fitted.items():
        given = portable(model)
        X = X_for(name, rows, given.network.dtype)
        found, expected = predicted(functions, name, X), answers_of(model, X)
        assert found.shape == expected.shape, name
        assert ulps(found, expected) <= MOST_ULPS, name
        check_decisions(functions, name, model, given, X)


def answers_of(model, X):
    if hasattr(model, "_prediction_state"):
        with config_context(backend="c", isa="portable"):
            return pymlp.Predictor(model)(X).reshape(len(X), -1)
    return engine_outputs(*model.to_network(), portable(model).seen(X))


def check_decisions(functions, name, model, given, X):
    address = [ctypes.c_void_p(x.ctypes.data) for x in X]
    if given.task == "numbers":
        assert not hasattr(functions, f"{name}_classify")
        assert not hasattr(functions, f"{name}_classes")
        return
    names = (ctypes.c_char_p * len(given.classes)).in_dll(functions, f"{name}_classes")
    assert [each.decode() for each in names] == [str(label) for label in given.classes.tolist()]
    if given.task == "multilabel-indicator":
        found = np.empty((len(X), len(given.classes)), np.intc)
        for x, labels in zip(address, found, strict=True):
            getattr(functions, f"{name}_labels")(x, ctypes.c_void_p(labels.ctypes.data))
        np.testing.assert_array_equal(found, model.predict(X))
    else:
        places = [getattr(functions, f"{name}_classify")(x) for x in address]
        np.testing.assert_array_equal(given.classes[places], model.predict(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_names_of_features(tmp_path, rows):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    names = ["plain", "with space", 'a "quote"', "ß"]
    model = pymlp.MLPRegressor(**FEW).fit(pandas.DataFrame(rows, columns=names), rows[:, 0])
    to_c(model, tmp_path / "named.c")
    functions = library([tmp_path / "named.c"])
    found = (ctypes.c_char_p * 4).in_dll(functions, "named_features")
    assert [each.decode() for each in found] == names
    assert "in the order of named_features" in (tmp_path / "named.c").read_text()
    with pytest.raises(ValueError, match="calibration must have the columns that the model was fitted to"):
        to_c(model, tmp_path / "named.c", calibration=pandas.DataFrame(rows, columns=names[::-1]))


@needs_engine
def test_another_type_than_the_models(tmp_path):
    network = Network(5, (Dense(9, "tanh"), Dense(2, "identity")), dtype="float64")
    params, X = some_params(network), inputs_for(network)
    single = replace(network, dtype="float32")
    to_c((network, params), tmp_path / "narrowed.c", "float32")
    to_c((single, params.astype(np.float32)), tmp_path / "widened.c", "float64")
    functions = library([tmp_path / "narrowed.c", tmp_path / "widened.c"])
    X32 = X.astype(np.float32)
    expected = engine_outputs(single, params.astype(np.float32), X32)
    assert ulps(predicted(functions, "narrowed", X32), expected) <= MOST_ULPS
    expected = engine_outputs(network, params.astype(np.float32).astype(np.float64), X)
    assert ulps(predicted(functions, "widened", X), expected) <= MOST_ULPS
