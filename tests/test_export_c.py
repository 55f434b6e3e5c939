"""`to_c`: the answers of compiled sources against the engine's, for every activation, kind of layer and task."""

from __future__ import annotations

import ctypes
import math
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_sources import STRICT, compile_with, library, need, predicted, ulps

import pymlp
from pymlp import Dense, Network, backends, config_context
from pymlp.export import ExportReport, to_c
from pymlp.export.c_functions import FUNCTIONS, constants, in_order
from pymlp.export.c_layers import LAYER_FUNCTIONS, PANEL
from pymlp.export.c_model import steps_of
from pymlp.export.c_self_test import inputs_of_test
from pymlp.export.c_tables import CONSTANTS, TABLES, TWO_OVER_PI
from pymlp.export.c_text import literal, literals, string
from pymlp.functions import ACTIVATIONS
from pymlp.inference import outputs_of
from pymlp.losses import CustomLoss, GaussianNLL, Quantile
from pymlp.portable import TASKS, portable

REAL = ("float32", "float64")
# what the sources promise
MOST_ULPS = 2
HIDDEN = [name for name, row in ACTIVATIONS.items() if row.hidden]


def slow(*values):
    """Values of a test that is not in the fast set."""
    return pytest.param(*values, marks=pytest.mark.slow)


CPP = ("-x", "c++", "-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror")

needs_engine = pytest.mark.skipif(backends.missing_reason("c") is not None, reason="the C engine is not built")


def engine_outputs(network, params, X):
    """What the portable instruction set computes."""
    with config_context(backend="c", isa="portable"):
        return outputs_of(backends.get().Plan(network, 1), params, X)


def some_params(network, seed=0):
    """Parameters of every kind that are none of its initial ones."""
    params = network.initial_params(seed)
    draw = np.random.default_rng(seed)
    for row, parts in zip(network.table, network.parts(params), strict=True):
        for part in parts:
            if row.kind != "dense":
                part += draw.normal(size=part.shape) * 0.5
    return params


def inputs_for(network, rows=40, seed=1):
    return np.random.default_rng(seed).normal(size=(rows, network.inputs)).astype(network.dtype)


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
SHAPES = {
    "one": (1, (Dense(1, "identity"),)),
    "narrow": (3, (Dense(2, "tanh"), Dense(5, "identity"))),
    "edges": (5, (Dense(31), Dense(32), Dense(33), Dense(63), Dense(64), Dense(65), Dense(4, "identity"))),
    "wide": (70, (Dense(200, "silu"), Dense(130, "elu"), Dense(129, "identity"))),
    "norm": (
        7,
        (Dense(16, "gelu", normalization="layer"), Dense(37, "relu", normalization="layer"), Dense(3, "identity")),
    ),
    "residual": (
        6,
        (
            Dense(6, residual=True),
            Dense(6, "mish", residual=True),
            Dense(6, "tanh", residual=True),
            Dense(1, "identity"),
        ),
    ),
    "all": (
        9,
        (
            Dense(9, "gelu", 0.25, "layer", residual=True, max_norm=3.0, parametric=True),
            Dense(20, "softplus", 0.5, "layer", parametric=True),
            Dense(20, "cosine", 0.5, residual=True, parametric=True),
            Dense(2, "identity"),
        ),
    ),
}


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
    return np.random.default_rng(3).normal(size=(60, 4))


FEW = {"hidden_layer_sizes": (6,), "max_iter": 5, "random_state": 0, "tol": 0.0}
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


# -- compilers and machines


def example(dtype):
    """A network with all kinds of layers, and its export's arguments."""
    inputs, layers = SHAPES["all"]
    network = Network(inputs, (*layers[:-1], Dense(3, "softmax")), "log_loss")
    return network, some_params(network), inputs_for(network) if dtype == "int8" else None


def exported(folder, dtype, name="example"):
    network, params, calibration = example(dtype)
    to_c((network, params), folder / f"{name}.c", dtype, calibration=calibration)
    return folder / f"{name}.c"


NATIVE = [
    slow("gcc", (*STRICT, "-O0")),
    ("gcc", (*STRICT, "-O3", "-march=native")),
    slow("gcc", ("-Wall", "-Wextra", "-Werror", "-O3", "-march=native")),
    ("gcc", (*STRICT, "-Wconversion", "-Wshadow", "-Wdouble-promotion", "-Os")),
    ("g++", (*CPP, "-O3", "-march=native")),
    ("clang", (*STRICT, "-O3", "-march=native")),
    (
        "clang",
        (*STRICT, "-Wconversion", "-Wshadow", "-O1", "-fsanitize=undefined,address", "-fno-sanitize-recover=all"),
    ),
    slow("clang++", ("-x", "c++", "-std=c++17", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2")),
]


@pytest.mark.parametrize("dtype", [*REAL, "int8"])
@pytest.mark.parametrize(
    ("compiler", "flags"), NATIVE, ids=lambda each: each if isinstance(each, str) else each[-2] + each[-1]
)
def test_the_self_test_passes(tmp_path, dtype, compiler, flags):
    need(compiler)
    source, program = exported(tmp_path, dtype), tmp_path / "self_test"
    compile_with(compiler, *flags, "-DEXAMPLE_SELF_TEST", source, "-o", program)
    done = subprocess.run([program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"example: 8 rows agree, largest difference \S+\n", done.stdout)


EMULATED = {
    "aarch64": ("aarch64-linux-gnu-gcc", ("-O3",), "qemu-aarch64"),
    "arm": ("arm-linux-gnueabihf-gcc", ("-mthumb", "-mcpu=cortex-a7", "-O2"), "qemu-arm"),
}


@pytest.mark.parametrize("dtype", [*REAL, "int8"])
@pytest.mark.parametrize("machine", list(EMULATED))
def test_the_self_test_passes_on_other_machines(tmp_path, dtype, machine):
    compiler, flags, emulator = EMULATED[machine]
    need(compiler, emulator)
    source, program = exported(tmp_path, dtype), tmp_path / "self_test"
    compile_with(compiler, *STRICT, *flags, "-static", "-DEXAMPLE_SELF_TEST", source, "-o", program)
    done = subprocess.run([emulator, program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    largest = float(done.stdout.split()[-1])
    # the same operations in the same order; the definition of integers is NumPy's, whose functions round otherwise
    assert largest == 0 if dtype != "int8" and backends.missing_reason("c") is None else largest < 1e-6


@pytest.mark.parametrize("dtype", [*REAL, "int8"])
def test_it_compiles_for_a_controller(tmp_path, dtype):
    need("arm-none-eabi-gcc", "arm-none-eabi-nm")
    # of all functions the cosine alone has doubles, for large arguments
    inputs, layers = SHAPES["norm"]
    network = Network(inputs, layers)
    source, program = tmp_path / "example.c", tmp_path / "example.o"
    to_c((network, some_params(network)), source, dtype, calibration=inputs_for(network))
    machine = ("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-ffreestanding")
    compile_with("arm-none-eabi-gcc", *STRICT, *machine, "-O2", "-c", source, "-o", program)
    done = subprocess.run(["arm-none-eabi-nm", "--undefined-only", program], capture_output=True, text=True, check=True)
    outside = set(done.stdout.split()) - {"U", "memset", "memcpy"}
    # arithmetic that the machine does not have comes with the compiler
    assert all(name.startswith("__aeabi_") for name in outside)
    assert dtype == "float64" or not outside


@pytest.mark.parametrize("dtype", [*REAL, "int8"])
def test_it_needs_no_library(tmp_path, dtype):
    need("gcc", "nm")
    source, program = exported(tmp_path, dtype), tmp_path / "example.o"
    compile_with("gcc", *STRICT, "-O2", "-c", source, "-o", program)
    done = subprocess.run(["nm", program], capture_output=True, text=True, check=True)
    symbols = [line.split()[-2:] for line in done.stdout.splitlines()]
    assert {name for kind, name in symbols if kind == "U"} <= {"memset", "memcpy", "_GLOBAL_OFFSET_TABLE_"}
    assert {name for kind, name in symbols if kind in "TDRBC"} == {"example_predict"}
    # no data that a call could change
    assert not {name for kind, name in symbols if kind.upper() in "DBC"}


@pytest.mark.parametrize("change", ["a weight", "the answer"])
def test_the_self_test_fails_where_it_should(tmp_path, change):
    need("gcc")
    source = exported(tmp_path, "float32")
    text = source.read_text()
    if change == "a weight":
        found = re.search(r"example_weight_0\[.*?\{\n(\S+?),", text)
    else:
        found = re.search(r"expected\[8\].*?\{\n +(\S+?),", text, re.DOTALL)
    source.write_text(text[: found.start(1)] + "9.5f" + text[found.end(1) :])
    compile_with("gcc", *STRICT, "-DEXAMPLE_SELF_TEST", source, "-o", tmp_path / "self_test")
    done = subprocess.run([tmp_path / "self_test"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "example: row 0, output 0 is " in done.stdout


def test_a_compiler_that_takes_liberties_is_refused(tmp_path):
    need("gcc")
    done = subprocess.run(
        ["gcc", "-std=c99", "-ffast-math", "-c", exported(tmp_path, "float32"), "-o", tmp_path / "o"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "example.c does not compute what it should with -ffast-math" in done.stderr


PROGRAM = """\
#include <cstdio>
#define FIRST_DECLARATIONS_ONLY
#define SECOND_DECLARATIONS_ONLY
#include "first.c"
#include "second.c"
#include "first.c"
int main()
{
    float x[FIRST_INPUTS] = {1.f}, y[FIRST_OUTPUTS];
    double u[SECOND_INPUTS] = {1.}, v[SECOND_OUTPUTS];
    first_predict(x, y);
    second_predict(u, v);
    std::printf("%.6f %.6f\\n", y[0], v[0]);
}
"""


def test_two_models_in_a_program_of_cpp(tmp_path):
    need("gcc", "g++")
    sources = [exported(tmp_path, dtype, name) for dtype, name in (("float32", "first"), ("float64", "second"))]
    (tmp_path / "main.cpp").write_text(PROGRAM)
    objects = [source.with_suffix(".o") for source in sources]
    for source, program in zip(sources, objects, strict=True):
        compile_with("gcc", *STRICT, "-c", source, "-o", program)
    warnings = ("-std=c++17", "-pedantic", "-Wall", "-Wextra", "-Werror")
    compile_with("g++", *warnings, tmp_path / "main.cpp", *objects, "-o", tmp_path / "main")
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    first, second = map(float, done.stdout.split())
    assert first == pytest.approx(second, abs=2e-6)
    network, params, _ = example("float32")
    expected = pymlp.Predictor(network, params)(np.eye(1, network.inputs, dtype=np.float32))
    assert first == pytest.approx(float(expected[0, 0]), abs=2e-6)


# -- the text


def test_the_tables_are_the_engines():
    header = Path(__file__).parent.parent / "csrc" / "tables.h"
    if not header.exists():
        pytest.skip("the tests do not lie in a source tree")
    text = header.read_text()
    found = re.findall(r"static const (\w+) (\w+)_f\d\d\[\] = \{(.*?)\};", text, re.DOTALL)
    assert {name for _, name, _ in found} == set(TABLES)
    for kind, name, body in found:
        numbers = [float(number.strip().rstrip("f")) for number in body.split(",") if number.strip()]
        ours = TABLES[name][0 if kind == "float" else 1]
        np.testing.assert_array_equal(np.array(ours, kind), np.array(numbers, kind))
    pairs = re.findall(r"#define (\w+) BY_TYPE\((\S+)f, (\S+)\)", text)
    assert {name: (float(single), float(twofold)) for name, single, twofold in pairs} == CONSTANTS
    digits = re.search(r"two_over_pi\[\] = \{(.*?)\}", text, re.DOTALL)[1]
    assert [int(number, 16) for number in re.findall(r"0x\w+", digits)] == list(TWO_OVER_PI)


def test_functions_bring_what_they_need_and_nothing_else():
    known = {**FUNCTIONS, **LAYER_FUNCTIONS}
    assert in_order(["relu"], known) == ["relu"]
    assert in_order(["softmax"], known)[-1] == "softmax"
    assert "normal_table" not in in_order(["softmax", "apply_tanh"], known)
    # all that an activation may be is there
    assert {f"apply_{name}" for name, row in ACTIVATIONS.items() if row.slope and name != "identity"} <= set(known)
    assert {name for name, row in ACTIVATIONS.items() if not row.slope} <= set(known)
    assert {f"parametric_{name}" for name in HIDDEN} <= set(known)


@pytest.mark.parametrize("dtype", REAL)
def test_numbers_read_as_what_they_are(dtype):
    bits = {"float32": np.uint32, "float64": np.uint64}[dtype]
    numbers = np.random.default_rng(0).integers(0, np.iinfo(bits).max, 20_000, dtype=bits, endpoint=True).view(dtype)
    numbers = np.concatenate(
        [numbers[np.isfinite(numbers)], np.array([0, -0.0, 1, -1, 10, 0.5, 123456, 1e-5, 1e10], dtype)]
    )
    with np.printoptions(legacy="1.13", precision=3):
        texts = literals(numbers)
    suffix = "f" if dtype == "float32" else ""
    assert all(text.endswith(suffix) for text in texts)
    # C reads a constant of the type f as one of float
    read = np.array([text.removesuffix("f") for text in texts]).astype(dtype)
    np.testing.assert_array_equal(read.view(bits), numbers.view(bits))
    # digits and the point, so that it is no integer, or an exponent
    assert all(re.fullmatch(r"-?(\d+\.\d*|\.\d+|\d+(\.\d+)?e-?\d+)", text.removesuffix("f")) for text in texts)


def test_short_numbers():
    assert [literal(number, "float32") for number in (0, 0.1, -0.5, 2, 1e-7, -1.5e20)] == [
        "0.f", ".1f", "-.5f", "2.f", "1e-7f", "-1.5e20f",
    ]  # fmt: skip
    assert literal(math.pi, "float64") == "3.141592653589793"


def test_strings():
    assert string("plain") == '"plain"'
    assert string('"\\??=\n\té') == '"\\"\\\\\\?\\?=\\n\\t\\303\\251"'


def test_constants_are_numbers_of_the_type():
    for dtype in REAL:
        values = constants("p_", dtype)
        assert values["real"] == {"float32": "float", "float64": "double"}[dtype]
        assert not [name for name, text in values.items() if re.search(r"\d\.\d*f\b", text)] or dtype == "float32"
    assert PANEL["float32"] == 2 * PANEL["float64"]


# -- arguments


@pytest.fixture
def pair():
    network = Network.from_widths((3, 4, 2))
    return network, network.initial_params(0)


def test_names(tmp_path, pair):
    assert to_c(pair, tmp_path / "net-1.0 (old).c").name == "net_1_0__old"
    assert to_c(pair, str(tmp_path / "7.c")).name == "model_7"
    assert to_c(pair, tmp_path / "größe.c").name == "gr__e"
    assert to_c(pair, tmp_path / "a.c", name="My_net").name == "My_net"
    text = (tmp_path / "a.c").read_text()
    assert "void My_net_predict(const float *x, float *out);" in text
    assert "#define MY_NET_INPUTS 3\n#define MY_NET_OUTPUTS 2\n" in text
    assert '#include "a.c"' in text
    for name in ("", "1st", "_hidden", "a-b", "ä", 5):
        with pytest.raises(ValueError, match="name must be letters, digits and underscores, a letter first, got"):
            to_c(pair, tmp_path / "b.c", name=name)
    assert not (tmp_path / "b.c").exists()


def test_refusals(tmp_path, pair):
    network, params = pair
    path = tmp_path / "a.c"
    path.write_text("old")
    X = np.zeros((5, 3))
    with pytest.raises(ValueError, match="dtype='float16' is not one of float32, float64, int8"):
        to_c(pair, path, "float16")
    with pytest.raises(ValueError, match="dtype='int8' needs calibration=X"):
        to_c(pair, path, "int8")
    with pytest.raises(ValueError, match="y holds the labels or targets of the rows of calibration, which is missing"):
        to_c(pair, path, y=np.zeros(5))
    with pytest.raises(ValueError, match=r"calibration must be of shape \(rows, 3\), got \(5, 4\)"):
        to_c(pair, path, calibration=np.zeros((5, 4)))
    with pytest.raises(ValueError, match=r"calibration must be of shape \(rows, 3\), got \(3,\)"):
        to_c(pair, path, calibration=np.zeros(3))
    with pytest.raises(ValueError, match="calibration has no rows"):
        to_c(pair, path, "int8", calibration=np.zeros((0, 3)))
    with pytest.raises(ValueError, match="Input calibration contains NaN: first in row 2, column 1"):
        to_c(pair, path, calibration=np.where(np.arange(15).reshape(5, 3) == 7, np.nan, 0))
    with pytest.raises(TypeError, match="calibration must hold real numbers"):
        to_c(pair, path, calibration=np.full((5, 3), "a"))
    with pytest.raises(ValueError, match="y must have 5 rows, as calibration has, got shape"):
        to_c(pair, path, calibration=X, y=np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"y must hold 2 numbers for each row, got shape \(5, 1\)"):
        to_c(pair, path, calibration=X, y=np.zeros(5))
    with pytest.raises(TypeError, match="fitted estimator of pymlp"):
        to_c("model", path)
    spoilt = params.copy()
    network.weights(spoilt)[1][3, 1] = np.inf
    with pytest.raises(ValueError, match=r"the model cannot be exported: layers.1.weight\[3, 1\] is inf in float32"):
        to_c((network, spoilt), path)
    large = replace(network, dtype="float64")
    numbers = params.astype(np.float64)
    large.biases(numbers)[0][2] = -1e300
    with pytest.raises(ValueError, match=r"layers.0.bias\[2\] is -inf in float32"):
        to_c((large, numbers), path, "float32")
    counts = Network.from_widths((3, 1), loss="poisson")
    with pytest.raises(ValueError, match="its answers are not finite for inputs of usual size; give calibration=X"):
        to_c((counts, np.array([0, 0, 0, 1000], np.float32)), path)
    with pytest.raises(FileNotFoundError):
        to_c(pair, tmp_path / "missing" / "a.c")
    with pytest.raises(IsADirectoryError):
        to_c(pair, tmp_path, name="a")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_name_that_is_no_string_of_c(tmp_path, rows):
    model = pymlp.MLPClassifier(**FEW).fit(rows, np.where(rows[:, 0] > 0, "a\0b", "c"))
    with pytest.raises(ValueError, match=r"the name of the class 'a\\x00b' is no string of C"):
        to_c(model, tmp_path / "a.c")
    long = pymlp.MLPClassifier(**FEW).fit(rows, np.where(rows[:, 0] > 0, "a" * 5000, "c"))
    with pytest.raises(ValueError, match="is longer than 4095 bytes"):
        to_c(long, tmp_path / "a.c")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_report(tmp_path, rows):
    model = pymlp.MLPClassifier(**FEW).fit(rows, rows[:, 0] > 0)
    bare = to_c(model, tmp_path / "a.c")
    assert bare == ExportReport(tmp_path / "a.c", "a", "float64", (tmp_path / "a.c").stat().st_size)
    assert str(bare) == f"{tmp_path / 'a.c'}: {bare.n_bytes:,} bytes, float64"
    full = to_c(model, tmp_path / "a.c", "float32", calibration=rows, y=rows[:, 0] > 0)
    assert (full.n_rows, full.dtype) == (60, "float32")
    assert 0 < full.largest_difference < 1e-6
    assert full.agreement == 1
    assert full.score_before == full.score_after == model.score(rows, rows[:, 0] > 0)
    assert "same label in 100.00%; score 0." in str(full)
    with pytest.raises(ValueError, match=r"y must be of shape \(60,\), as the labels of the rows are, got \(60, 2\)"):
        to_c(model, tmp_path / "a.c", calibration=rows, y=rows[:, :2])


def test_nothing_is_imported_before_it_is_used():
    code = (
        "import sys, pymlp\n"
        "assert not [name for name in sys.modules if name.startswith('pymlp.export')]\n"
        "pymlp.export.to_c\n"
        "assert 'sklearn' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_engine(tmp_path, pair, monkeypatch):
    missing = backends.missing_reason
    monkeypatch.setattr(backends, "missing_reason", lambda name: "not built" if name == "c" else missing(name))
    with config_context(backend="numpy"):
        assert to_c(pair, tmp_path / "a.c", calibration=np.ones((2, 3))).largest_difference == 0
    need("gcc")
    compile_with("gcc", *STRICT, "-DA_SELF_TEST", tmp_path / "a.c", "-o", tmp_path / "a")
    assert subprocess.run([tmp_path / "a"], capture_output=True).returncode == 0


def test_a_model_that_soon_overflows(tmp_path):
    network = Network(1, (Dense(1, "square"), Dense(1, "square"), Dense(1, "exp")), "poisson")
    to_c((network, np.array([3, 0, 3, 0, 3, 0], np.float32)), tmp_path / "a.c")
    need("gcc")
    compile_with("gcc", *STRICT, "-DA_SELF_TEST", tmp_path / "a.c", "-o", tmp_path / "a")
    assert subprocess.run([tmp_path / "a"], capture_output=True).returncode == 0


def test_inputs_of_the_self_test_suit_the_model():
    draw = np.random.default_rng(0)
    mean, deviation = np.array([2000.0, 0, 1e6, -3]), np.array([10.0, 1e-4, 5e5, 1])
    network = Network.from_widths((4, 6, 1), loss="poisson", dtype="float64")
    params = network.initial_params(0)
    weight, bias = network.weights(params)[0], network.biases(params)[0]
    weight /= deviation[:, np.newaxis]
    bias -= mean @ weight
    rows = inputs_of_test(network, params, None)
    assert rows.shape == (8, 4)
    scores = rows @ weight + bias
    assert np.abs(scores).max() < 5
    assert (scores.std(axis=0) > 0.1).all()
    assert (((rows - mean) / deviation).std(axis=0) > 0.3).all()
    # rows as they are given: no wider, and constant where they are
    X = np.stack([np.full(20, 1 / 3), draw.uniform(5, 6, 20), draw.normal(size=20), draw.normal(size=20)], axis=1)
    rows = inputs_of_test(network, params, X)
    assert (rows[:, 0] == 1 / 3).all()
    assert (np.abs(rows[:, 1] - 5.5) <= 0.55).all()
    assert (inputs_of_test(network, params, X, 0.0).std(axis=0) < 1e-12).all()
    # of a wide network there are fewer, with few digits
    wide = Network.from_widths((5000, 2))
    rows = inputs_of_test(wide, wide.initial_params(0), None)
    assert rows.shape == (2, 5000)
    assert np.mean([len(literal(number, "float32")) for number in rows[0]]) < 6
