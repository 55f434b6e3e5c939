"""Golden model files: those of every version so far load, and predict what they predicted when they were made.

Made by tests/golden/make.py; the same bits where the C engine has fused instructions, else to a tolerance.
"""

from pathlib import Path

import numpy as np
import pytest
import saved_models

import pymlp
from pymlp import backends

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(FOLDER.glob("*.safetensors"))
FUSED = ("avx512", "avx2", "neon")


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "expected.npz") as stored:
        return dict(stored)


def _has_fused_instructions():
    if backends.choose().value != "c":
        return False
    return backends.get("c").choose_instruction_set().value in FUSED


def test_there_is_a_file_of_each_kind():
    assert {path.stem for path in FILES} >= saved_models.networks().keys() | {"binary", "multilabel", "quantile"}
    assert len(FILES) >= 40
    assert max(path.stat().st_size for path in FILES) < 8192


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_file_predicts_what_it_did(path, expected, tmp_path):
    model = pymlp.load(path)
    network = model[0] if isinstance(model, tuple) else model.network_
    found = saved_models.predictions(model, expected["rows"].astype(network.dtype))

    assert {f"{path.stem}.{method}" for method in found} == {
        name for name in expected if name.split(".")[0] == path.stem
    }
    for method, values in found.items():
        wanted = expected[f"{path.stem}.{method}"]
        assert np.shape(values) == wanted.shape
        if wanted.dtype.kind == "U":
            assert values.tolist() == wanted.tolist()
        elif _has_fused_instructions():
            assert values.tobytes() == wanted.tobytes()
        else:
            np.testing.assert_allclose(values, wanted, rtol=1e-4 if network.dtype == "float32" else 1e-9, atol=1e-6)
    # what loads can be saved again
    pymlp.save(model, tmp_path / "again")
    again = saved_models.predictions(pymlp.load(tmp_path / "again"), expected["rows"].astype(network.dtype))
    assert all(np.array_equal(again[method], values) for method, values in found.items())
