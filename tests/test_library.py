"""The engine as a library for C and C++: what is installed, what it shows, and programs that are linked with it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import saved_models
from builds import ROOT

import pymlp
from pymlp import library

EXAMPLES = ROOT / "csrc" / "examples"
README = ROOT / "csrc" / "README.md"
STRICT = ("-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
C, CPP = ("cc", "-std=c11", *STRICT), ("c++", "-std=c++17", *STRICT)
LINUX = sys.platform == "linux"

needs_sources = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the tests do not lie in a source tree")
needs_compilers = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("cc", "c++")), reason="no compilers (cc, c++)"
)
needs_nm = pytest.mark.skipif(not LINUX or shutil.which("nm") is None, reason="needs nm, and Linux's objects")


def run(*command, stdin="", status=0, cwd=None):
    done = subprocess.run(list(map(str, command)), input=stdin, capture_output=True, text=True, cwd=cwd, timeout=600)
    assert done.returncode == status, f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stderr if status else done.stdout


def declared():
    """Names of the functions that the header declares."""
    text = re.sub(r"/\*.*?\*/", "", (Path(pymlp.get_include()) / "pymlp.h").read_text(), flags=re.S)
    return set(re.findall(r"\b(pymlp_\w+)\(", text))


@pytest.fixture(scope="module")
def shared():
    """The library of this installation."""
    try:
        return Path(pymlp.get_library())
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def example(shared, tmp_path_factory):
    """Compiles an example and links it with the library of this installation, by its path alone."""
    folder = tmp_path_factory.mktemp("examples")
    return lambda name, objects=(shared,): compiled(name, folder / "program", objects)


def compiled(name, program, objects):
    compiler = CPP if name.endswith(".cpp") else C
    run(*compiler, f"-I{pymlp.get_include()}", EXAMPLES / name, *objects, "-pthread", "-o", program)
    return program


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Model files by name, and what `Predictor` makes of them."""
    folder, found = tmp_path_factory.mktemp("models"), {}
    for name in ("strings", "binary", "multilabel", "float32", "standardize_gaussian", "network"):
        path = ROOT / "tests" / "golden" / f"{name}.safetensors"
        model = pymlp.load(path)
        shutil.copy(path, folder / name)
        found[name] = folder / name, model
    return found


def test_the_header_is_where_it_is_said_to_be():
    assert (Path(pymlp.get_include()) / "pymlp.h").is_file()


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "_PACKAGE", tmp_path / "pymlp")
    with pytest.raises(FileNotFoundError, match=r"no libpymlp.so in .* compiler"):
        pymlp.get_library()
    with pytest.raises(FileNotFoundError, match=r"pymlp.h is in none of .*include, .*csrc"):
        pymlp.get_include()


@needs_compilers
@pytest.mark.parametrize("compiler", [C, CPP], ids=["C11", "C++17"])
def test_the_header_stands_alone(compiler, tmp_path):
    source = tmp_path / ("alone.c" if compiler is C else "alone.cpp")
    source.write_text(
        '#include "pymlp.h"\n#include "pymlp.h"\nint main(void) { return pymlp_activation("relu") < 0; }\n'
    )
    run(*compiler, f"-I{pymlp.get_include()}", "-c", source, "-o", tmp_path / "alone.o")


@needs_nm
def test_the_library_shows_what_the_header_declares_and_nothing_else(shared):
    shown = {line.split()[-1] for line in run("nm", "-D", "--defined-only", shared).splitlines()}
    assert shown == declared()
    assert all(name.startswith("pymlp_") for name in shown)


@needs_nm
def test_the_library_needs_no_python(shared):
    undefined = run("nm", "-D", "--undefined-only", shared)
    assert not re.search(r"\b_?Py", undefined)
    if shutil.which("readelf") is not None:
        needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", shared))
        assert all(re.match(r"(libc|libpthread|ld-linux|ld-musl|libgcc_s)\b", name) for name in needed), needed


def rows_of(model):
    network = model[0] if isinstance(model, tuple) else model.network_
    return saved_models.rows(network.dtype)


def check_predictions(program, path, model):
    X = rows_of(model)
    lines = run(program, path, stdin="\n".join(" ".join(map(repr, row)) for row in X.tolist())).splitlines()
    predictor = pymlp.Predictor(*model) if isinstance(model, tuple) else pymlp.Predictor(model)
    expected = predictor(X).reshape(len(X), -1)
    columns = expected.shape[1]
    found = np.array([[float(word) for word in line.split(" ")[:columns]] for line in lines])
    # 17 digits tell every number
    assert np.array_equal(found, expected)
    labels = [line.split(" ")[columns:] for line in lines]
    if not hasattr(model, "classes_"):
        assert labels == [[]] * len(X)
    elif model._targets.kind == "multilabel-indicator":
        assert labels == [[str(place) for place in np.flatnonzero(row)] for row in model.predict(X)]
    else:
        assert labels == [[str(label)] for label in model.predict(X).tolist()]


@needs_sources
@needs_compilers
def test_a_program_in_c_predicts_as_python_does(example, models):
    program = example("predict.c")
    for path, model in models.values():
        check_predictions(program, path, model)


@needs_sources
@needs_compilers
def test_a_program_in_c_says_what_is_wrong(example, tmp_path):
    program = example("predict.c")
    broken = tmp_path / "broken"
    broken.write_bytes(b"no model at all")
    assert run(program, broken, status=1).startswith(f"{broken} is not a valid model file: its first 8 bytes")
    missing = tmp_path / "missing"
    assert run(program, missing, status=1) == f"{missing} cannot be read: No such file or directory\n"
    assert run(program, tmp_path, status=1) == f"{tmp_path} cannot be read: Is a directory\n"


@needs_sources
@needs_compilers
def test_a_program_in_c_trains(example):
    *epochs, last = run(example("train.c")).splitlines()
    losses = [float(line.split()[-1]) for line in epochs]
    assert losses[-1] < losses[0] / 2
    assert abs(float(last.split()[-1]) + 0.25) < 0.05


def check_climb(program, path, model):
    column, steps, rate = 0, 3, 0.1
    start = rows_of(model)[0]
    words = [f"{number:.9g}" for number in start]
    lines = run(program, path, column, steps, rate, *words).splitlines()
    predictor = pymlp.Predictor(*model) if isinstance(model, tuple) else pymlp.Predictor(model)
    x = np.array(words, start.dtype)
    for line in lines:
        value, gradient = predictor(x), predictor.jacobian(x)[column]
        expected = [np.ravel(value)[column], *x]
        np.testing.assert_allclose([float(word) for word in line.split()], expected, rtol=1e-6)
        x = x + x.dtype.type(rate) * gradient
    assert len(lines) == steps + 1


@needs_sources
@needs_compilers
def test_a_program_in_cpp_follows_derivatives(example, models):
    program = example("climb.cpp")
    for name in ("float32", "standardize_gaussian", "network"):
        check_climb(program, *models[name])
    path, _ = models["network"]
    assert "the model has 2 columns" in run(program, path, 7, 1, 0.1, 1, 2, 3, 4, status=1)
    assert "the model has 4 inputs" in run(program, path, 0, 1, 0.1, 1, status=1)


def documented_command(kind):
    """The one command of the README that makes the library."""
    text = README.read_text().split(f"<!-- {kind} library begin -->")[1].split(f"<!-- {kind} library end -->")[0]
    (command,) = text.strip().splitlines()
    return command


@needs_sources
@needs_compilers
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["shared", "static"])
def test_one_documented_command_makes_the_library(kind, tmp_path, models):
    command = documented_command(kind)
    assert "python" not in command.lower()
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    made = tmp_path / ("libpymlp.so" if kind == "shared" else "libpymlp.o")
    if LINUX and shutil.which("nm") is not None:
        shown = run("nm", *(["-D"] if kind == "shared" else ["-g"]), "--defined-only", made).splitlines()
        names = {line.split()[-1] for line in shown if line}
        assert all(name.startswith("pymlp_") for name in names)
        assert names >= declared() if kind == "static" else names == declared()
    objects = [made]
    if kind == "static" and shutil.which("ar") is not None:
        run("ar", "rcs", tmp_path / "libpymlp.a", made)
        objects = [tmp_path / "libpymlp.a"]
    program = compiled("predict.c", tmp_path / "predict", objects)
    for path, model in models.values():
        check_predictions(program, path, model)
    check_climb(compiled("climb.cpp", tmp_path / "climb", objects), *models["float32"])


@needs_sources
@needs_compilers
def test_the_readmes_program_compiles(tmp_path):
    (text,) = re.findall(r"```c\n(.*?)```", README.read_text(), re.S)
    (tmp_path / "program.c").write_text(text)
    run(*C, f"-I{pymlp.get_include()}", "-c", tmp_path / "program.c", "-o", tmp_path / "program.o")
