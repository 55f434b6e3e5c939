"""Model files that are not sound, in C: refused where Python refuses them, and nowhere else."""

import time

import fuzz_files
import pytest
from builds import ROOT
from c_models import (
    BAD_MODEL,
    GOLDEN,
    UNREADABLE,
    CModel,
    check_agreement,
    without_digest,
)
from hostile_files import BOMBS, model_file

from pymlp import backends

pytestmark = pytest.mark.skipif(backends.missing_reason("c") is not None, reason="the C engine is not built")
if backends.missing_reason("c") is None:
    from pymlp._engine import ffi, lib


def test_what_cannot_be_read_is_told_from_what_is_no_model(tmp_path):
    message, owner = ffi.new("char[300]"), ffi.new("pymlp_model **")
    for path, code, text in (
        (tmp_path / "missing", UNREADABLE, "missing cannot be read: No such file or directory"),
        (tmp_path, UNREADABLE, "cannot be read: Is a directory"),
        (
            ROOT / "tests" / "conftest.py",
            BAD_MODEL,
            "conftest.py is not a valid model file: its first 8 bytes give a header",
        ),
    ):
        assert lib.pymlp_model_load(owner, str(path).encode(), message, 300) == code
        assert text in ffi.string(message).decode()
        assert owner[0] == ffi.NULL
        assert lib.pymlp_model_load(owner, str(path).encode(), ffi.NULL, 0) == code
    assert lib.pymlp_model_read(owner, ffi.NULL, 8, message, 300) == 5
    assert lib.pymlp_model_read(owner, message, -1, message, 300) == 5
    lib.pymlp_model_free(ffi.NULL)


def test_a_message_keeps_to_its_buffer():
    content = model_file({"layers": [{"outputs": 1, "activation": "\u00e4\U0001f40d" * 20}]})
    whole = CModel(content).message
    assert "\u00e4\U0001f40d" in whole
    for size in range(len(whole.encode()) + 5):
        room, owner = ffi.new(f"char[{size + 8}]", b"#" * (size + 7)), ffi.new("pymlp_model **")
        assert lib.pymlp_model_read(owner, ffi.from_buffer(content), len(content), room, size) == BAD_MODEL
        assert ffi.buffer(room)[size : size + 7] == b"#" * 7
        if size:
            # no half of a character
            assert whole.startswith(ffi.string(room).decode())
            assert len(ffi.string(room)) >= min(size - 4, len(whole.encode()))


@pytest.mark.parametrize("name", BOMBS)
def test_hostile_files(name, model_path):
    content = BOMBS[name]()
    assert not check_agreement(content, model_path)

    def seconds():
        start = time.process_time()
        CModel(content)
        return time.process_time() - start

    assert min(seconds() for _ in range(5)) < SECONDS


# seconds of the processor for a hostile file, as for Python's reader
SECONDS = 0.05
SMALL = GOLDEN / "no_hidden_layer.safetensors"


def test_every_truncation_is_refused(model_path):
    content = SMALL.read_bytes()
    for size in range(len(content)):
        assert CModel(content[:size]).code == BAD_MODEL
    # and what comes after the end
    assert not check_agreement(content + b"\0", model_path)


def test_every_flipped_bit_is_seen(model_path):
    content = SMALL.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            broken = bytearray(content)
            broken[place] ^= 1 << bit
            assert CModel(bytes(broken)).code == BAD_MODEL, (place, bit)


def test_flipped_bits_that_no_digest_tells_of(model_path):
    content = without_digest(SMALL.read_bytes())
    taken = 0
    # each place once, its bits by turns
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 1 << place % 8
        taken += check_agreement(bytes(broken), model_path)
    assert taken > 0


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    return fuzz_files.Fuzzer(3, tmp_path_factory.mktemp("fuzzer"))


@pytest.mark.parametrize("corpus", sorted(fuzz_files.CORPUS.glob("*.bin")), ids=lambda path: path.stem)
def test_what_was_found_once(corpus, model_path):
    check_agreement(corpus.read_bytes(), model_path)


def check_cases(fuzzer, model_path, first, cases):
    taken = 0
    for number in range(first, first + cases):
        try:
            taken += check_agreement(fuzzer.case(number), model_path)
        except AssertionError as error:
            raise AssertionError(f"case {number} of seed {fuzzer.seed}: {error}") from error
    assert cases / 100 < taken < cases / 2


def test_mutated_files(fuzzer, model_path):
    check_cases(fuzzer, model_path, 0, 500)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_mutated_files(fuzzer, model_path):
    check_cases(fuzzer, model_path, 500, 60_000)
