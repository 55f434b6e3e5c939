"""The generator of masks: the known answers of its authors, and which numbers a mask is a function of."""

from __future__ import annotations

import numpy as np
import pytest

from pymlp.philox import kept, philox, threshold

# counter, key, words: from the file of known answers that comes with Random123
KNOWN = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN, ids=["zeros", "ones", "pi"])
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    found = philox(tuple(np.array([word], np.uint64) for word in counter), key)
    assert [int(word[0]) for word in found] == list(words)


def test_many_counters_at_once_are_each_by_itself() -> None:
    counters = np.random.default_rng(0).integers(2**32, size=(4, 50)).astype(np.uint64)
    together = np.stack(philox(tuple(counters), (3, 2**31)))
    for i in range(50):
        alone = philox(tuple(counters[:, i : i + 1]), (3, 2**31))
        np.testing.assert_array_equal(np.concatenate(alone), together[:, i])


def test_a_mask_is_made_of_words_in_the_order_of_the_units() -> None:
    seed, step, row, layer = 5 + (6 << 32), 7 + (8 << 32), 9, 10
    words = philox(tuple(np.array([word], np.uint64) for word in (2, row, 7, layer | 8 << 16)), (5, 6))
    mask = kept(0.25, 1, 12, seed=seed, step=step, layer=layer, first_row=row)
    assert mask[0, 8:].tolist() == [int(word[0]) >= 2**30 for word in words]


def test_a_mask_depends_on_each_of_its_numbers_and_on_nothing_else() -> None:
    numbers = {"seed": 1, "step": 2, "layer": 3}
    mask = kept(0.5, 20, 9, **numbers)
    for name in numbers:
        for change in (1, 2**32) if name != "layer" else (1,):
            assert (kept(0.5, 20, 9, **{**numbers, name: numbers[name] + change}) != mask).any()
    # a part of the rows and units is that part of the mask
    np.testing.assert_array_equal(kept(0.5, 5, 7, **numbers, first_row=4), mask[4:9, :7])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1 - 2.0**-32])
def test_shares(rate: float) -> None:
    mask = kept(rate, 300, 400, seed=11, step=0, layer=0)
    assert abs(mask.mean() - (1 - rate)) <= 5 * np.sqrt(rate * (1 - rate) / mask.size)
    # neighbours, in either direction, are independent
    for a, b in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
        assert abs((a & b).mean() - (1 - rate) ** 2) < 0.01


def test_threshold() -> None:
    assert threshold(0.0) == 0
    assert threshold(0.5) == 2**31
    assert threshold(1 - 2.0**-40) == 2**32
