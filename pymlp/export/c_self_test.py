"""The program that an exported source contains: does this compiler, on this machine, give the answers recorded?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pymlp.export.c_functions import expanded
from pymlp.export.c_model import CModel
from pymlp.export.c_text import filled, literal, literals
from pymlp.export.quantisation import ranges_of
from pymlp.export.report import answers
from pymlp.network import Network

# rows, from least to most, numbers in all of them together, and digits of each at the size of its spread
LEAST_ROWS, MOST_ROWS, NUMBERS, DIGITS = 2, 8, 2048, 2
# Differences that are allowed, relative to the largest answer: far above those of another order of the sums, far below
# what comes of a compiler that takes liberties.  In integers one input may have been rounded to the next.
ALLOWED = {"float32": 1e-4, "float64": 1e-11, "int8": 0.02}
# largest spread of an input, relative to the median of all: raw features may differ by much, weights may be next to 0
MOST_SPREAD = 1e8
# parts of their spread by which inputs go from the middle: the first for which there are finite answers
REACHES = (1.0, 0.25, 0.05, 0.0)
# steps of conjugate gradients
MIDDLE_STEPS = 30

SELF_TEST = """\
#ifdef ${P}SELF_TEST
#include <stdio.h>

/* Returns 0 if the answers for some rows are those that were recorded when this file was written. */
int main(void)
{
    static const $real inputs[$rows][${P}INPUTS] = {
$inputs
    };
    static const $real expected[$rows][${P}OUTPUTS] = {
$expected
    };
    const $real allowed = $allowed;
    $real out[${P}OUTPUTS], largest = 0;
    int row, i, failed = 0;
    for (row = 0; row < $rows; row++) {
        ${p}predict(inputs[row], out);
        for (i = 0; i < ${P}OUTPUTS; i++) {
            const $real wanted = expected[row][i], difference = out[i] > wanted ? out[i] - wanted : wanted - out[i];
            if (!(difference <= allowed)) {
                printf("$name: row %d, output %d is %.9g, not %.9g\\n", row, i, (double)out[i], (double)wanted);
                failed = 1;
            }
            largest = difference > largest ? difference : largest;
        }
    }
    if (!failed)
        printf("$name: $rows rows agree, largest difference %.2g\\n", (double)largest);
    return failed;
}
#endif"""


def _rounded(rows: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Rows with as many digits as their columns' spread asks for, which makes them short."""
    for column, wide in enumerate(spread.tolist()):
        if wide > 0:
            rows[:, column] = np.round(rows[:, column], DIGITS - 1 - math.floor(math.log10(wide)))
    return rows


def _middle(weight: np.ndarray, bias: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Inputs at which pre-activations are about 0: raw features that were standardised may lie far from it.

    By conjugate gradients on the normal equations (Hestenes and Stiefel, "Methods of conjugate gradients for solving
    linear systems", 1952), in units of the spread; a few steps will do.
    """
    scaled, found = weight * spread[:, np.newaxis], np.zeros(len(weight))
    left = -bias
    slope = scaled @ left
    direction, before = slope, float(slope @ slope)
    for _ in range(MIDDLE_STEPS):
        if before <= 0:
            break
        along = direction @ scaled
        step = before / float(along @ along)
        found, left = found + step * direction, left - step * along
        slope = scaled @ left
        now = float(slope @ slope)
        direction, before = slope + now / before * direction, now
    return found * spread


def inputs_of_test(network: Network, params: np.ndarray, X: Any, reach: float = 1.0) -> np.ndarray:
    """Inputs of the self-test with few digits.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (n_parameters,)
    X : ndarray or SciPy sparse matrix of shape (rows, inputs), or None
        Rows in whose ranges they are to lie.  Without them, the first layer's pre-activations are of the size of 1, and
        each input contributes to them.
    reach : float
        How far they may be from the middle of all that.

    Returns
    -------
    float64 ndarray of shape (rows, inputs)
    """
    draw = np.random.default_rng(0)
    shape = min(MOST_ROWS, max(LEAST_ROWS, NUMBERS // network.inputs)), network.inputs
    if X is not None:
        low, high = ranges_of(X)
        middle, spread, noise = (low + high) / 2, high - low, draw.uniform(-0.5, 0.5, shape)
    else:
        first = next(row.number for row in network.table if row.kind == "dense")
        weight, bias = (part.astype(np.float64) for part in network.parts(params)[first])
        length = np.sqrt(np.square(weight).mean(axis=1) * network.inputs)
        spread = np.divide(1.0, length, out=np.ones_like(length), where=length > 0)
        spread = np.minimum(spread, MOST_SPREAD * np.median(spread))
        middle, noise = _middle(weight, bias, spread), draw.normal(size=shape)
    return _rounded(middle + reach * spread * noise, spread)


def _test_rows(model: CModel, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and answers of the self-test, all of them finite, which they may be only near the middle."""
    dtype = model.network.dtype
    for reach in REACHES:
        rows = inputs_of_test(model.network, model.model.params, X, reach).astype(dtype)
        with np.errstate(all="ignore"):
            expected = answers(model.model, model.outputs(rows)).astype(dtype)
        finite = np.isfinite(expected).all(axis=1)
        if finite.any():
            return rows[finite], expected[finite]
    where = "in the ranges of calibration" if X is not None else "of usual size; give calibration=X for other ones"
    raise ValueError(f"the model cannot be exported: its answers are not finite for inputs {where}")


def self_test(model: CModel, X: Any = None) -> str:
    """The text of the program; `X` are rows in whose ranges the test's inputs are to lie.

    Raises
    ------
    ValueError
        No answer is finite.
    """
    dtype = model.network.dtype
    rows, expected = _test_rows(model, X)
    largest = max(float(np.abs(expected).max()), float(np.finfo(dtype).tiny))

    def table(numbers: np.ndarray) -> str:
        return ",\n".join(f"        {{\n{filled(literals(row), indent=' ' * 12)}\n        }}" for row in numbers)

    return expanded(
        SELF_TEST,
        {
            **model.values,
            "rows": str(len(rows)),
            "inputs": table(rows),
            "expected": table(expected),
            "allowed": literal(ALLOWED[model.dtype] * largest, dtype),
        },
    )
