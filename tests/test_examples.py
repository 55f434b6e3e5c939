"""Every example runs, prints the same each time and draws its picture; what it is to show is there."""

import importlib
import pkgutil
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
pytest.importorskip("matplotlib", reason="the examples draw by matplotlib")

from matplotlib import image, pyplot

from pymlp import examples

# needs no screen
pyplot.switch_backend("Agg")

NAMES = sorted(module.name for module in pkgutil.iter_modules(examples.__path__) if module.name != "picture")

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="the example compiles its loop by Numba")
# the examples stop where the picture is good enough
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def printed(request, tmp_path, capsys):
    """What an example prints; its picture is checked on the way."""
    path = tmp_path / "picture.png"
    importlib.import_module(f"pymlp.examples.{request.param}").main(["--save", str(path)])
    pyplot.close("all")
    picture = image.imread(path)
    assert min(picture.shape[:2]) > 300
    assert picture[..., :3].std() > 0.05
    return capsys.readouterr().out


def numbers(line):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", line)]


def test_all_examples_are_tested():
    tested = (
        "custom_loss", "digits", "imbalanced", "memmap", "policy_gradient", "quantile_bands", "spiral", "surrogate",
        "van_der_pol",
    )  # fmt: skip
    assert sorted(tested) == NAMES


@pytest.mark.parametrize("printed", ["digits"], indirect=True)
def test_digits(printed):
    assert numbers(printed.splitlines()[-1])[0] > 0.95


@pytest.mark.parametrize("printed", ["spiral"], indirect=True)
def test_spiral(printed):
    assert numbers(printed.splitlines()[-1])[0] > 0.98


@pytest.mark.parametrize("printed", ["surrogate"], indirect=True)
def test_surrogate(printed):
    lines = [numbers(line) for line in printed.splitlines()[1:7]]
    # within the disc, and near the function's lowest point there
    assert all(x * x + y * y < 1.001 for _, _, x, y, _, _ in lines)
    assert min(height for *_, height in lines) < 0.42


@pytest.mark.parametrize("printed", ["quantile_bands"], indirect=True)
def test_quantile_bands(printed):
    for level, below in map(numbers, printed.splitlines()[1:6]):
        assert abs(level - below) < 0.04
    assert printed.splitlines()[-1] == "bands that cross: 0"


@pytest.mark.parametrize("printed", ["imbalanced"], indirect=True)
def test_imbalanced(printed):
    plain, weighted = (numbers(line) for line in printed.splitlines()[1:3])
    # more rare ones found, more false alarms, better on balance
    assert weighted[0] > plain[0] + 0.1
    assert weighted[1] < plain[1]
    assert weighted[2] > plain[2] + 0.03


@pytest.mark.parametrize("printed", ["custom_loss"], indirect=True)
def test_custom_loss(printed):
    squared, cauchy = (numbers(line)[0] for line in printed.splitlines()[1:3])
    assert cauchy < 0.1 < 0.4 < squared


@pytest.mark.parametrize("printed", ["memmap"], indirect=True)
def test_memmap(printed):
    assert numbers(printed.splitlines()[-1])[0] > 0.95


@pytest.mark.parametrize("printed", ["policy_gradient"], indirect=True)
def test_policy_gradient(printed):
    *table, last = printed.splitlines()[1:]
    assert numbers(table[0])[0] < 50
    # Gymnasium's own measure of a pole that is balanced
    assert numbers(table[-1])[0] >= 475
    before, after = (int(number) for number in re.findall(r"\d+", last))
    assert before < 100 < after


@pytest.mark.parametrize("printed", [pytest.param("van_der_pol", marks=needs_numba)], indirect=True)
def test_van_der_pol(printed):
    lines = printed.splitlines()
    assert numbers(lines[0])[0] > 0.9999
    median, largest = numbers(lines[1])
    assert median < 0.02
    assert largest < 2
    # each time is there: how long it took is not for a test to say
    assert lines[3].startswith("compiled loop, as_numba")
    assert all(len(numbers(line)) == 2 and min(numbers(line)) > 0 for line in lines[4:-1])
    assert {"pymlp", "scikit-learn"} <= {line.split("*")[0].split(",")[1].split()[0] for line in lines[4:-1]}


def test_starts_from_the_command_line(tmp_path):
    path = tmp_path / "picture.svg"
    command = [sys.executable, "-m", "pymlp.examples.spiral", "--save", str(path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.startswith("MLPClassifier: 2 inputs")
    assert path.read_text().count("<use") > 400
