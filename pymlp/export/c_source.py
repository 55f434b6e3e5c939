"""`to_c`: a model as one source file of C, for programs that can have no library: controllers, simulations, servers.

The file is written for the one model: its layers are calls with constants, of those functions alone that it needs, and
what a person who opens it must know stands at its top.  It computes what the engine's portable instruction set does, in
the same order (`pymlp.export.c_functions`, `c_layers`), so that answers agree to the last digits.  The other parts are
the head (`c_head`), the numbers (`c_numbers`), the code that calls the layers (`c_body`) and a test (`c_self_test`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from pymlp import backends
from pymlp.export.c_body import Body
from pymlp.export.c_head import declarations, head, preamble
from pymlp.export.c_model import CModel
from pymlp.export.c_numbers import arrays_of, name_arrays
from pymlp.export.c_self_test import self_test
from pymlp.export.c_text import IDENTIFIER
from pymlp.export.report import ExportReport, check_calibration, comparison
from pymlp.inference import outputs_of
from pymlp.network import DTYPES as REAL_DTYPES
from pymlp.portable import portable
from pymlp.replacement import check_replaceable, replacing

DTYPES = (*REAL_DTYPES, "int8")
FILE_NAME = re.compile(r"[\w.+-]+", re.ASCII)


def to_c(
    model: Any,
    path: str | os.PathLike[str],
    dtype: str | None = None,
    *,
    name: str | None = None,
    calibration: Any = None,
    y: Any = None,
) -> ExportReport:
    """Write a model as one C99 source file that needs no library and no heap.

    The file has ``void NAME_predict(const float *x, float *out)``, which answers for a row of raw inputs what
    `pymlp.Predictor` does.  A classifier has ``int NAME_classify(const float *x)`` as well, which gives the place of a
    label in ``NAME_classes``, or where several labels may hold, ``void NAME_labels(const float *x, int *labels)``.
    ``NAME_features`` are the names of the inputs, where the model knows them; ``NAME_INPUTS``, ``NAME_OUTPUTS`` and
    ``NAME_CLASSES`` count.  The top of the file explains it.  Compiled with the macro ``NAME_SELF_TEST``, it is a
    program that compares answers with those recorded when it was written, and returns 0 if they agree.

    Parameters
    ----------
    model : fitted estimator, or pair of Network and ndarray
        What `pymlp.Predictor` takes, and the classic classifiers of this package without probabilities.
    path : str or path-like
        An old file is replaced once the new one is complete.
    dtype : {"float32", "float64", "int8"}, optional
        The model's own by default.  "float32" rounds what a float64 model has learnt.  "int8" makes the file and the
        constants of the program about a quarter as large: weights are integers with a scale for each unit, inputs of
        layers are integers by ranges taken from `calibration`, their sums are exact in 32 bits; inputs, outputs and
        what lies between products are float32.
    name : str, optional
        What the names in the file begin with, in capitals those of macros: letters, digits and underscores.  By default
        the file's name without its ending, with underscores for other characters.
    calibration : array-like, table or sparse matrix of shape (rows, inputs), optional
        Rows as the model will see them, a few hundred of them; "int8" cannot do without.  The answers of the file are
        compared with the model's on them.  Into the file go their ranges, and no row.
    y : array-like of shape (rows,) or (rows, columns), optional
        Labels or targets of these rows, by which the report says how good both are.

    Returns
    -------
    ExportReport
        The size of the file, and how far its answers are from the model's on the rows of `calibration`.

    Raises
    ------
    TypeError
        `model` is none that can be exported, or `calibration` or `y` does not hold numbers.
    ValueError
        An argument does not fit, "int8" has no `calibration`, or a number or an answer of the model is not finite in
        the dtype.
    OSError
        The file cannot be written; an old one is untouched.
    sklearn.exceptions.NotFittedError
        The estimator has not been fitted.

    Notes
    -----
    In float32 and float64 each sum is the engine's chain and each function the engine's, as its portable instruction
    set has them: answers are the same within 2 units in the last place, also from other compilers and on other
    machines, as long as operations keep their order (``-ffast-math`` is refused).  The engine's other instruction sets
    fuse products and sums, and round otherwise.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from pymlp import Network
    >>> from pymlp.export import to_c
    >>> network = Network.from_widths((2, 8, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = to_c((network, network.initial_params(0)), Path(folder) / "plane.c")
    >>> report.name, report.dtype
    ('plane', 'float32')
    """
    given = portable(model)
    dtype = given.network.dtype if dtype is None else dtype
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is not one of {', '.join(DTYPES)}")
    name = _name_of(path) if name is None else _checked_name(name)
    if calibration is None and dtype == "int8":
        raise ValueError(
            "dtype='int8' needs calibration=X, rows as the model will see them: the ranges of the layers' inputs are "
            "taken from them"
        )
    if calibration is None and y is not None:
        raise ValueError("y holds the labels or targets of the rows of calibration, which is missing")
    real = "float32" if dtype == "int8" else dtype
    X = None if calibration is None else check_calibration(given, calibration, y, real)
    check_replaceable(path)
    file = Path(path).name
    # a comment holds it, and a program that is shown
    written = CModel.of(given, name, dtype, file if FILE_NAME.fullmatch(file) else f"{name}.c", X)
    text = _text(written, X)
    measured = {}
    if X is not None:
        before = outputs_of(backends.get().Plan(given.network, 1), given.params, given.seen(X))
        measured = comparison(given, written.model, before, written.outputs(X), y)
    data = text.encode("ascii")
    with replacing(path) as stream:
        stream.write(data)
    return ExportReport(Path(path), name, dtype, len(data), **measured)


def _name_of(path: str | os.PathLike[str]) -> str:
    found = re.sub(r"\W", "_", Path(os.fsdecode(path)).stem, flags=re.ASCII).strip("_")
    return found if IDENTIFIER.fullmatch(found) else f"model_{found}".rstrip("_")


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not IDENTIFIER.fullmatch(name):
        raise ValueError(f"name must be letters, digits and underscores, a letter first, got {name!r}")
    return name


def _text(model: CModel, X: np.ndarray | Any) -> str:
    """The whole file; `X` are the rows of calibration, or None."""
    body = Body(model)
    sections = [
        head(model),
        declarations(model),
        f"#ifndef {model.macro}_DECLARATIONS_ONLY",
        preamble(model),
        *body.functions(),
        *name_arrays(model),
        *arrays_of(model),
        body.predict(),
        *body.decision(),
        self_test(model, X),
        f"#endif /* {model.macro}_DECLARATIONS_ONLY */",
    ]
    return "\n\n".join(sections) + "\n"
