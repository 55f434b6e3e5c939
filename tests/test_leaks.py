"""Nothing stays: rounds of fits, predictions, files and failures hold no more memory, files or threads in the end.

And a training step allocates nothing at all.
"""

from __future__ import annotations

import numpy as np
import pytest
from allocation_faults import run_preloaded

from pymlp import backends

pytestmark = pytest.mark.skipif("c" not in backends.available(), reason=f"no C engine: {backends.missing_reason('c')}")

# what the memory may grow by, bytes a round, and objects of Python, of some 50 bytes, once all caches are full
MOST_BYTES = 100
MOST_OBJECTS = 2
# and while some are still being filled
EARLY_OBJECTS = 6


def growth(values: list[int], rounds: int) -> float:
    """Growth a round, of samples so many rounds apart: the median of that over each tenth of the run, which a table
    that is made larger once does not move."""
    y, tenth = np.array(values, float), max(1, len(values) // 10)
    return float(np.median(y[tenth:] - y[:-tenth])) / tenth / rounds


def check_samples(samples: dict[str, list[int]], rounds: int, most_objects: float) -> None:
    assert growth(samples["malloc bytes"], rounds) < MOST_BYTES
    assert growth(samples["python blocks"], rounds) < most_objects
    for name in ("files", "threads", "engine blocks"):
        assert len(set(samples[name])) == 1, f"{name}: {sorted(set(samples[name]))}"


def test_a_hundred_rounds_of_everything(faults_library: str) -> None:
    check_samples(run_preloaded(faults_library, "leak_rounds.py", "100", "10"), 10, EARLY_OBJECTS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_rounds_of_everything(faults_library: str) -> None:
    samples = run_preloaded(faults_library, "leak_rounds.py", "10000", "50", timeout=1800)
    check_samples(samples, 50, MOST_OBJECTS)
    assert growth(samples["resident bytes"], 50) < MOST_BYTES


def test_a_training_step_allocates_nothing(faults_library: str) -> None:
    for name, counts in run_preloaded(faults_library, "leak_rounds.py", "steps").items():
        # the first call may make threads, whose own variables come after it, and room for sparse numbers
        assert counts[2:] == [0, 0], (name, counts)


def test_a_leak_would_be_seen() -> None:
    draw = np.random.RandomState(0)
    noise = draw.standard_normal(200) * 3000
    level = 100_000 + 2_000_000 * (np.arange(200) > 120)
    rising = level + MOST_BYTES * 1.5 * 50 * np.arange(200)
    assert growth(list(rising + noise), 50) > MOST_BYTES
    assert growth(list(level + noise), 50) < MOST_BYTES
