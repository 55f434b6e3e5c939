"""Importing pymlp is cheap: nothing heavy is loaded until it is used, and every public name is found when it is."""

import importlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import pymlp

# what only some users need, and each of which takes longer to import than pymlp itself
HEAVY = (
    "sklearn",
    "scipy",
    "numba",
    "llvmlite",
    "pandas",
    "pyarrow",
    "matplotlib",
    "tqdm",
    "joblib",
    "optuna",
    "tensorboard",
)


def _run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(pymlp.__file__).parent.parent), "PYMLP_BACKEND": "numpy"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_import_loads_nothing_heavy():
    loaded = json.loads(_run("import sys, json, pymlp; print(json.dumps(sorted(sys.modules)))"))

    assert "pymlp.network" in loaded
    assert not {name for name in loaded if name.split(".")[0] in HEAVY}
    assert not {"pymlp.training", "pymlp.estimators"} & set(loaded)


def test_training_and_files_need_no_scikit_learn():
    code = "import sys, pymlp; pymlp.train, pymlp.load, pymlp.save, pymlp.AdamW; print('sklearn' in sys.modules)"

    assert _run(code).strip() == "False"


def test_displays_and_logs_load_what_they_need_when_they_are_used():
    code = (
        "import sys, pymlp; pymlp.NetworkDisplay, pymlp.TrainingCurveDisplay, pymlp.FirstLayerDisplay, pymlp.CSVLog; "
        "pymlp.TensorBoardLog, pymlp.OptunaPruning, pymlp.Network.from_widths((2, 1)).summary(); "
        "print([name for name in sys.modules if name in ('matplotlib', 'tensorboard', 'optuna', 'sklearn')])"
    )

    assert _run(code).strip() == "[]"


def test_import_is_fast():
    # of CPU time: other work on the machine says nothing about the import
    code = "import time, numpy\nstart = time.process_time()\nimport pymlp\nprint(time.process_time() - start)"
    # the first run may have to compile the modules to bytecode
    _run(code)
    seconds = statistics.median(float(_run(code)) for _ in range(5))

    assert seconds < 0.15


@pytest.mark.parametrize("name", pymlp.__all__)
def test_every_public_name_is_found(name):
    assert getattr(pymlp, name) is not None
    assert name in dir(pymlp)


def test_lazy_names_are_those_of_their_modules():
    assert set(pymlp._LAZY) <= set(pymlp.__all__)
    for name, module in pymlp._LAZY.items():
        assert getattr(pymlp, name) is getattr(importlib.import_module(module), name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'pymlp' has no attribute 'MLPTransformer'"):
        _ = pymlp.MLPTransformer
