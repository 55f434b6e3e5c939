"""The same bits from every compiler, level of optimisation and sanitizer, on every instruction set, also of AArch64.

`bits_driver.c` prints a hash of all that the verbs compute, case by case; the lines of each build are compared with
those of the build that setup.py makes, and with each other over instruction sets and threads.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from builds import NATIVE, ROOT, SANITIZERS, Build, compile_program, folder_of, neon, output_of

from pymlp.functions import ACTIVATIONS
from pymlp.layers import KINDS
from pymlp.losses import LOSSES
from pymlp.optimizers import OPTIMIZERS

# the first test compiles all builds
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

DRIVER = ROOT / "tests" / "bits_driver.c"
# as setup.py builds it
SHIPPED = Build("gcc", ("-O3",))
OTHERS = (
    Build("gcc", ("-O1",)),
    Build("gcc", ("-O2",)),
    Build("clang", ("-O1",)),
    Build("clang", ("-O2",)),
    Build("clang", ("-O3",)),
    Build("gcc", SANITIZERS),
    neon("-O2"),
    neon("-O3"),
)
# 16 are more than this machine is likely to have; an emulator is slow
SHIPPED_THREADS, OTHER_THREADS, EMULATED_THREADS = (1, 2, 3, 16), (1, 3), (3,)

Lines = dict[tuple[str, str], dict[tuple[str, int], str]]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[Build, Path]:
    if SHIPPED.missing:
        pytest.skip(f"the build that all are compared with cannot be made: {SHIPPED.missing}")
    return compile_program((SHIPPED, *OTHERS), DRIVER, tmp_path_factory.mktemp("builds"))


def lines_of(build: Build, program: Path) -> Lines:
    """By dtype and case: the hash for each instruction set and number of threads."""
    threads = SHIPPED_THREADS if build == SHIPPED else EMULATED_THREADS if build.launcher else OTHER_THREADS
    found: Lines = defaultdict(dict)
    for line in output_of(build, program, *threads).splitlines():
        isa, count, dtype, value, case = line.split(" ", 4)
        found[dtype, case][isa, int(count)] = value
    return found


@pytest.fixture(scope="session")
def shipped(programs: dict[Build, Path]) -> Lines:
    return lines_of(SHIPPED, programs[SHIPPED])


def families(lines: dict[tuple[str, int], str]) -> dict[str, set[str]]:
    """Hashes of the instruction sets that promise the same bits: those that fuse, and the portable one by itself."""
    found = defaultdict(set)
    for (isa, _), value in lines.items():
        found["portable" if isa == "portable" else "fused"].add(value)
    return found


def pairs(lines: Lines) -> str:
    counted = defaultdict(int)
    for hashes in lines.values():
        for isa, _ in hashes:
            counted[isa] += 1
    return ", ".join(f"{isa}: {count} hashes" for isa, count in counted.items())


def test_instruction_sets_and_threads_agree(shipped: Lines) -> None:
    print(f"{SHIPPED}: {pairs(shipped)}")
    for (dtype, case), hashes in shipped.items():
        for family, values in families(hashes).items():
            assert len(values) == 1, f"{SHIPPED}, {dtype}, {case}, {family} instruction sets differ: {hashes}"


@pytest.mark.parametrize("build", OTHERS, ids=str)
def test_every_build_agrees(build: Build, programs: dict[Build, Path], shipped: Lines) -> None:
    if build.missing:
        pytest.skip(build.missing)
    found = lines_of(build, programs[build])
    print(f"{build}: {pairs(found)}")
    assert found.keys() == shipped.keys()
    wrong = defaultdict(list)
    for key, hashes in found.items():
        expected = families(shipped[key])
        for family, values in families(hashes).items():
            if values != expected[family]:
                wrong[family].append(key)
    assert not wrong, f"{build} ({pairs(found)}) differs from {SHIPPED} in {dict(wrong)}"


def test_the_cases_cover_the_registries(shipped: Lines) -> None:
    cases = {case for _, case in shipped}
    named = defaultdict(set)
    for case in cases:
        kind, *what = re.split("[ ,]", case)
        named[kind].update(what[:1])
    # those over the columns of a row belong to losses
    element_wise = {name for name, row in ACTIVATIONS.items() if row.slope is not None}
    assert named["activation"] == element_wise
    assert named["loss"] >= LOSSES.keys()
    assert named["optimizer"] == OPTIMIZERS.keys()
    assert named["layer"] >= KINDS.keys() - {"dense"}
    assert {dtype for dtype, _ in shipped} == {"float32", "float64"}


@pytest.mark.skipif(NATIVE != "x86_64", reason="the planted fault is one of AVX2's file")
def test_a_contracted_product_is_noticed(programs: dict[Build, Path], shipped: Lines, tmp_path: Path) -> None:
    # all objects of the shipped build but one
    fault = Build("gcc", ("-O2", "-ffp-contract=fast"))
    spoilt = folder_of(fault, tmp_path)
    spoilt.mkdir()
    for file in programs[SHIPPED].parent.glob("*.o"):
        if file.stem != "isa_avx2":
            (spoilt / file.name).symlink_to(file)
    made = compile_program((fault,), DRIVER, tmp_path)
    found = lines_of(fault, made[fault])
    assert {key for key in found if families(found[key])["fused"] != families(shipped[key])["fused"]}
