"""`to_c`: the sources under compilers, standards and machines, and their self-test, which must fail where it should."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest
from c_exports import (
    CPP,
    REAL,
    SHAPES,
    example,
    exported,
    inputs_for,
    slow,
    some_params,
)
from c_sources import STRICT, compile_with, need

import pymlp
from pymlp import Network, backends
from pymlp.export import to_c

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
