"""The reader of model files under AddressSanitizer and UndefinedBehaviorSanitizer.

Files of every kind, each in a block of its own size: no finding, no leak, the answers of the engine as it is shipped.
"""

import subprocess

import fuzz_files
import pytest
from builds import ROOT, SANITIZERS, Build, compile_program
from c_models import GOLDEN, CModel, without_digest
from hostile_files import BOMBS

from pymlp import backends

pytestmark = [
    pytest.mark.skipif(backends.missing_reason("c") is not None, reason="the C engine is not built"),
    # the whole engine is compiled
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]
BUILD = Build("gcc", SANITIZERS)
CASES = 20_000


def contents(folder):
    """All files that are read."""
    small = (GOLDEN / "no_hidden_layer.safetensors").read_bytes()
    plain = without_digest((GOLDEN / "strings.safetensors").read_bytes())
    for path in sorted(GOLDEN.glob("*.safetensors")):
        yield path.read_bytes()
        yield without_digest(path.read_bytes())
    for path in sorted(fuzz_files.CORPUS.glob("*.bin")):
        yield path.read_bytes()
    for make in BOMBS.values():
        yield make()
    for size in range(len(small)):
        yield small[:size]
    for place in range(len(plain)):
        broken = bytearray(plain)
        broken[place] ^= 1 << place % 8
        yield bytes(broken)
    fuzzer = fuzz_files.Fuzzer(11, folder)
    for number in range(CASES):
        yield fuzzer.case(number)


def test_files_of_every_kind(tmp_path):
    if BUILD.missing:
        pytest.skip(BUILD.missing)
    program = compile_program([BUILD], ROOT / "tests" / "model_driver.c", tmp_path)[BUILD]
    cases, expected = tmp_path / "cases", []
    with open(cases, "wb") as file:
        for content in contents(tmp_path):
            found = CModel(content)
            expected.append(f"{found.code} {0 if found.model is None else found.columns}")
            file.write(len(content).to_bytes(8, "little") + content)
    with open(cases, "rb") as file:
        done = subprocess.run([program], stdin=file, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == ""
    assert done.stdout.splitlines() == expected
    taken = sum(line.startswith("0 ") for line in expected)
    assert len(expected) / 100 < taken < len(expected) / 2
