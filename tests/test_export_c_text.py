"""`to_c`: the text of its sources, and what it is given: names, types, models that it refuses."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_exports import (
    FEW,
    HIDDEN,
    REAL,
    some_rows,
)
from c_sources import STRICT, compile_with, need

import pymlp
from pymlp import Dense, Network, backends, config_context
from pymlp.export import ExportReport, to_c
from pymlp.export.c_functions import FUNCTIONS, constants, in_order
from pymlp.export.c_layers import LAYER_FUNCTIONS, PANEL
from pymlp.export.c_self_test import inputs_of_test
from pymlp.export.c_tables import CONSTANTS, TABLES, TWO_OVER_PI
from pymlp.export.c_text import literal, literals, string
from pymlp.functions import ACTIVATIONS


@pytest.fixture(scope="module")
def rows():
    return some_rows()


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
