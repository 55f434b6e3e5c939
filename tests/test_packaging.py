"""The package as users get it: what the archives hold, and that it runs with NumPy and cffi alone, with no engine too.

The checkout is copied, built into an sdist, that into a wheel, and the wheel installed into fresh virtual environments.
Their NumPy, cffi and Numba are links to those of the tests, so nothing is downloaded and nothing else can be imported.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import pymlp

SOURCE = Path(__file__).parent.parent
SOURCE_FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "csrc", "pymlp")
COMPILER = os.environ.get("CC", "cc").split()[0]

pytestmark = [
    # archives are built and installed: half a minute before the first test begins
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (SOURCE / "setup.py").exists(), reason="the tests do not lie in a source tree"),
]
needs_compiler = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"no C compiler ({COMPILER})")


def _run(command: list[str | Path], **environment: str) -> str:
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYMLP_"))}
    done = subprocess.run(command, env={**settings, **environment}, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _build(source: Path, archives: Path, *options: str, **environment: str) -> None:
    _run([sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", archives, source], **environment)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the archives are made from, so that building leaves the checkout alone."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCE_FILES:
        if (SOURCE / name).is_dir():
            shutil.copytree(SOURCE / name, copy / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(SOURCE / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def archives(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from that sdist."""
    folder = tmp_path_factory.mktemp("archives")
    _build(source, folder)
    return folder


@pytest.fixture(scope="session")
def wheel(archives: Path) -> Path:
    return next(archives.glob("*.whl"))


@pytest.fixture(scope="session")
def wheel_without_engine(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a machine gets whose C compiler does not work."""
    folder = tmp_path_factory.mktemp("no_compiler")
    _build(source, folder, "--wheel", CC="false")
    return next(folder.glob("*.whl"))


def _link_package(name: str, site_packages: Path) -> None:
    for file in importlib.metadata.files(name):
        top = file.parts[0]
        if top != ".." and not (site_packages / top).exists():
            (site_packages / top).symlink_to(importlib.metadata.distribution(name).locate_file(top))


def _install(wheel: Path, folder: Path, *packages: str) -> Path:
    """Install the wheel beside links to `packages` into a new environment; returns its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    variables = {"base": str(folder), "platbase": str(folder)}
    site_packages = Path(sysconfig.get_path("purelib", "venv", vars=variables))
    for name in packages:
        _link_package(name, site_packages)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    _run([*pip, wheel])
    return python


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has pymlp, NumPy and cffi alone."""
    return _install(wheel, tmp_path_factory.mktemp("bare"), "numpy", "cffi")


def test_sdist_holds_all_sources(archives):
    with tarfile.open(next(archives.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    expected = {path.relative_to(SOURCE).as_posix() for path in (SOURCE / "csrc").rglob("*") if path.is_file()}
    expected |= {path.relative_to(SOURCE).as_posix() for path in (SOURCE / "pymlp").rglob("*.py")}
    assert expected | {"pymlp/py.typed", "setup.py", "pyproject.toml", "README.md", "LICENSE"} <= names


def test_wheel_holds_the_package_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        folder = next(name.split("/")[0] for name in names if ".dist-info/" in name)
        metadata = archive.read(f"{folder}/METADATA").decode()
        entry_points = archive.read(f"{folder}/entry_points.txt").decode()

    assert {name.split("/")[0] for name in names} == {"pymlp", folder}
    assert {"pymlp/py.typed", "pymlp/include/pymlp.h"} <= set(names)
    assert f"{folder}/licenses/LICENSE" in names
    assert f"\nVersion: {pymlp.__version__}\n" in metadata
    assert "pymlp = pymlp.__main__:main" in entry_points
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    names = [re.split("[ <>=]", line)[1] for line in required]
    assert names == ["numpy", "cffi", "scikit-learn", "threadpoolctl", "tqdm"]


@needs_compiler
@pytest.mark.skipif(sysconfig.get_config_var("Py_GIL_DISABLED") == 1, reason="free threads have no stable ABI")
def test_one_wheel_serves_every_later_python(wheel):
    assert "-cp311-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        modules = sorted(name for name in archive.namelist() if name.endswith(".so"))
    assert [name for name in modules if name.endswith(".abi3.so")] == ["pymlp/_call.abi3.so", "pymlp/_engine.abi3.so"]


def test_a_wheel_is_small(wheel):
    # there is one copy of the engine in it
    assert wheel.stat().st_size <= 3_000_000


@needs_compiler
@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("nm") is None, reason="needs nm and Linux's dynamic symbols"
)
@pytest.mark.parametrize("module", ["_engine", "_call"])
def test_a_module_exports_its_entry_alone(wheel, tmp_path, module):
    with zipfile.ZipFile(wheel) as archive:
        extension = archive.extract(f"pymlp/{module}.abi3.so", tmp_path)

    symbols = _run(["nm", "-D", "--defined-only", extension]).split("\n")

    assert [line.split()[-1] for line in symbols if line] == [f"PyInit_{module}"]


@needs_compiler
def test_a_c_program_finds_header_and_library_of_an_installed_package(python, tmp_path):
    program = tmp_path / "program.c"
    program.write_text(
        '#include <stdio.h>\n#include "pymlp.h"\nint main(void) { return puts(pymlp_instruction_set(0)) < 0; }\n'
    )
    include, library = _run([python, "-c", "import pymlp; print(pymlp.get_include(), pymlp.get_library())"]).split()

    _run([COMPILER, program, f"-I{include}", library, "-o", tmp_path / "program"])

    assert Path(include).parent == Path(library).parent
    printed = _run([python, "-c", "from pymlp.backends import c; print(c.instruction_sets()[0])"])
    assert _run([tmp_path / "program"]) == printed


TRAIN_AND_SAVE = """
import importlib.util, sys, warnings
warnings.simplefilter("error")
import numpy as np
import pymlp
from pymlp import backends

assert all(importlib.util.find_spec(name) is None for name in ("sklearn", "scipy", "numba", "tqdm", "joblib"))
network = pymlp.Network.from_widths((2, 16, 1), "tanh")
X = np.random.default_rng(0).uniform(-1, 1, (400, 2)).astype("float32")
y = X[:, :1] * X[:, 1:]
folder = sys.argv[1]
for name in backends.available():
    params = network.initial_params(0)
    with pymlp.config_context(backend=name):
        result = pymlp.train(
            network, params, X, y, optimizer=pymlp.AdamW(), rate=0.01, batch_size=50, epochs=30, random_state=0
        )
        assert result.losses[-1] < 0.1 * result.losses[0], (name, result.losses)
        pymlp.save((network, params), f"{folder}/{name}.safetensors")
        read, loaded = pymlp.load(f"{folder}/{name}.safetensors")
        assert read == network and np.array_equal(loaded, params)
        out = np.empty((400, 1), "float32")
        backends.get(name).Plan(read, 400).forward(loaded, X, out)
        assert np.abs(out - y).mean() < 0.1, name
        assert np.array_equal(pymlp.Predictor(read, loaded)(X), out)
pymlp.show_config()
print("backends:", *backends.available())
"""


@needs_compiler
def test_runs_with_numpy_and_cffi_alone(python, tmp_path):
    printed = _run([python, "-c", TRAIN_AND_SAVE, tmp_path])

    assert printed.splitlines()[-1] == "backends: c numpy"


@needs_compiler
def test_estimators_say_that_scikit_learn_is_missing(python):
    code = "import pymlp\ntry:\n    pymlp.MLPClassifier\nexcept ImportError as error:\n    print(error)"

    lines = _run([python, "-c", code]).splitlines()

    assert len(lines) == 1
    assert "pip install scikit-learn" in lines[0]


WARNINGS_OF_IMPORT = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import pymlp
    import pymlp.training
from pymlp import backends
print(backends.choose().value)
for warning in caught:
    print(warning.category.__name__, warning.message)
"""


LIBRARY_THAT_IS_MISSING = """
import os
import pymlp
try:
    pymlp.get_library()
except FileNotFoundError as error:
    assert "compiler" in str(error)
    print(*os.listdir(pymlp.get_include()))
"""


def test_without_compiler_numpy_serves_and_one_warning_names_the_remedies(wheel_without_engine, tmp_path):
    python = _install(wheel_without_engine, tmp_path, "numpy", "cffi")

    chosen, *warned = _run([python, "-c", WARNINGS_OF_IMPORT]).splitlines()

    assert chosen == "numpy"
    assert len(warned) == 1
    assert warned[0].startswith("RuntimeWarning")
    assert "compiler" in warned[0]
    assert "pip install 'pymlp[numba]'" in warned[0]
    assert _run([python, "-c", WARNINGS_OF_IMPORT], PYMLP_BACKEND="numpy").splitlines() == ["numpy"]
    assert _run([python, "-c", LIBRARY_THAT_IS_MISSING], PYMLP_BACKEND="numpy") == "pymlp.h\n"


def test_without_compiler_numba_serves_where_it_is(wheel_without_engine, tmp_path):
    pytest.importorskip("numba", reason="numba is not installed")
    python = _install(wheel_without_engine, tmp_path, "numpy", "cffi", "numba", "llvmlite")

    chosen, *warned = _run([python, "-c", WARNINGS_OF_IMPORT]).splitlines()

    assert chosen == "numba"
    assert len(warned) == 1
    assert "Numba backend stands in" in warned[0]
