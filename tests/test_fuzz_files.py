"""The fuzzer of model files: what it once found stays mended, a sample of its cases, and that it can find something."""

import fuzz_files
import pytest

from pymlp import container, perceptron

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
    _check(300, seed=1)


@pytest.mark.slow
def test_a_sample_of_cases():
    _check(20_000, seed=2)


@pytest.mark.parametrize(
    ("module", "name", "without", "found"),
    [
        (container, "check_bounds", lambda where, text: None, "RecursionError in load"),
        (container, "_check_entries", lambda header, size: header, "in load"),
        (perceptron, "checked_records", lambda records: records, "after load"),
    ],
    ids=["bounds", "entries", "records"],
)
def test_the_fuzzer_finds_what_is_not_checked(monkeypatch, module, name, without, found):
    monkeypatch.setattr(fuzz_files, "ATTEMPTS", 3)
    monkeypatch.setattr(module, name, without)
    try:
        _, findings = fuzz_files.run(300, seed=1)
    except AssertionError as error:
        # sound files do not load either
        findings = [(0, str(error), b"")]
    assert any(found in text for _, text, _ in findings)


def test_the_fuzzer_finds_what_takes_time_and_memory(monkeypatch, fuzzer):
    content = fuzzer.files[0]
    assert fuzzer.broken(content) is None
    with monkeypatch.context() as patched:
        patched.setattr(fuzz_files, "SECONDS", 0.0)
        assert fuzzer.broken(content) == "slow"
    monkeypatch.setattr(fuzz_files, "SLACK", -3 * len(content))
    assert f"bytes of memory for a file of {len(content)}" in fuzzer.broken(content)


def test_cases_are_told_by_their_numbers(fuzzer):
    cases = [fuzzer.case(number) for number in range(50)]
    assert [fuzzer.case(number) for number in range(50)] == cases
    assert len(set(cases)) > 40
