"""The fuzzer of model files: what it once found stays mended, a sample of its cases, and that it can find something."""

import fuzz_files
import pytest

import pymlp
from pymlp import container

CORPUS = sorted(fuzz_files.CORPUS.glob("*.bin"))


def test_there_is_a_corpus():
    assert CORPUS


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    return fuzz_files.Fuzzer(1, tmp_path_factory.mktemp("fuzzer"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_was_found_once(fuzzer, path):
    assert fuzzer.broken(path.read_bytes()) is None


def _check(cases, seed):
    fuzzer, findings = fuzz_files.run(cases, seed)
    assert [found for _, found, _ in findings] == []
    assert fuzzer.counts["cases"] == cases
    # the changes get past the digest and the structure, and not all of them do harm
    assert fuzzer.counts["loaded"] > cases / 100
    assert fuzzer.counts["refused"] > cases / 2


def test_a_few_cases():
    _check(500, seed=1)


@pytest.mark.slow
def test_a_sample_of_cases():
    _check(20_000, seed=2)


@pytest.mark.parametrize("fault", ["error", "digest", "time"])
def test_the_fuzzer_finds_a_fault(monkeypatch, fault):
    if fault == "error":
        monkeypatch.setattr(
            container, "_check_entries", lambda header, size: {name: 1 / len(header) for name in header}
        )
    elif fault == "digest":
        # a reader that takes the numbers as they come
        monkeypatch.setattr(pymlp.files, "_first_odd_number", lambda name, values: None)
        monkeypatch.setattr(container, "_check_digest", lambda *arguments: None)
        monkeypatch.setattr(fuzz_files, "value_for", lambda draw, old=None: old)
    else:
        monkeypatch.setattr(fuzz_files, "SECONDS", 0.0)
    monkeypatch.setattr(fuzz_files, "ATTEMPTS", 3)
    try:
        _, findings = fuzz_files.run(300, seed=1)
    except AssertionError:
        # the sound files already
        return
    assert findings


def test_cases_are_told_by_their_numbers(fuzzer):
    cases = [fuzzer.case(number) for number in range(50)]
    assert [fuzzer.case(number) for number in range(50)] == cases
    assert len(set(cases)) > 40
