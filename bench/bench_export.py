"""One row through an exported source file of C (`pymlp.export.to_c`), against `pymlp.Predictor` on one thread.

The file is compiled by the machine's ``gcc`` and ``clang`` with ``-O3 -march=native`` and called from a loop in C, the
predictor from one in Python, as a user would call it: of a small network some 0.1 us of its time are the call.  The
reference is a predictor of the file's type, of "int8" one of float32.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cases import PREDICTION_CASES, SEED, PredictionCase
from interleaved import race, units_of_a_round

from pymlp import Network, Predictor
from pymlp.export import to_c

FLAGS = ("-std=c99", "-O3", "-march=native", "-shared", "-fPIC")
# rows by whose ranges integers are chosen
CALIBRATION_ROWS = 200
# relative to the largest score; of integers, relative to the largest difference in the rows of calibration
TOLERANCE = {"float32": 1e-5, "float64": 1e-13, "int8": 2}
LOOP = """
void repeat(long calls, const void *x, void *out);
void repeat(long calls, const void *x, void *out) { while (calls-- > 0) model_predict(x, out); }
"""


@dataclass(frozen=True)
class ExportCase(PredictionCase):
    """A prediction case with another hidden activation."""

    activation: str = "relu"
    dtypes: tuple[str, ...] = ("float32", "float64", "int8")

    def network(self, dtype: str) -> Network:
        """The network, with scores as outputs."""
        return Network.from_widths(self.widths, self.activation, dtype="float32" if dtype == "int8" else dtype)


CASES = [
    *(ExportCase(case.name, case.widths, case.rows) for case in PREDICTION_CASES if case.rows == 1),
    ExportCase("one row, 784-128-10", (784, 128, 10), 1),
    ExportCase("one row, 20-100-2", (20, 100, 2), 1),
    ExportCase("one row, 100-256-256-256-10, gelu", (100, 256, 256, 256, 10), 1, "gelu"),
    ExportCase("one row, 64-64-64-1, tanh", (64, 64, 64, 1), 1, "tanh"),
]


def _compiled(folder: Path, compiler: str) -> ctypes.CDLL:
    source, target = folder / "loop.c", folder / "loop.so"
    source.write_text(f'#include "model.c"\n{LOOP}', encoding="ascii")
    subprocess.run([compiler, *FLAGS, source, "-o", target], check=True)
    return ctypes.CDLL(str(target))


def _calls(library: ctypes.CDLL, x: np.ndarray, out: np.ndarray, calls: int) -> Callable[[], None]:
    arguments = ctypes.c_long(calls), ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(out.ctypes.data)
    return lambda: library.repeat(*arguments)


def _predictions(predictor: Predictor, x: np.ndarray, out: np.ndarray, calls: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(calls):
            predictor(x, out=out)

    return run


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_export(benchmark, tmp_path, record_rate, case, dtype, compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    benchmark.group = f"export {case.name} {dtype}"
    network = case.network(dtype)
    params = network.initial_params(SEED)
    draw = np.random.default_rng(SEED)
    calibration = draw.standard_normal((CALIBRATION_ROWS, network.inputs)) if dtype == "int8" else None
    report = to_c((network, params), tmp_path / "model.c", dtype, calibration=calibration)
    library, predictor = _compiled(tmp_path, compiler), Predictor(network, params, n_threads=1)
    x = case.data(network.dtype)
    out, reference_out = np.empty((1, network.outputs), x.dtype), np.empty((1, network.outputs), x.dtype)
    calls = units_of_a_round(benchmark, lambda calls: _calls(library, x, out, calls))
    reference_calls = units_of_a_round(benchmark, lambda calls: _predictions(predictor, x, reference_out, calls))

    race(
        benchmark,
        _calls(library, x, out, calls),
        _predictions(predictor, x, reference_out, reference_calls),
        calls,
        reference_calls,
    )

    allowed = np.abs(reference_out).max() if report.largest_difference is None else report.largest_difference
    assert np.abs(out - reference_out).max() <= TOLERANCE[dtype] * allowed
    benchmark.extra_info.update(
        kind="export", case=case.name, dtype=dtype, contestant=f"C file, {compiler}", n_bytes=report.n_bytes
    )
    record_rate(benchmark, case.flops, network.dtype)
