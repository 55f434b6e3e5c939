"""Nothing stays: rounds of fits, predictions, files and failures hold no more memory, files or threads in the end.

And a training step allocates nothing at all.
"""

from __future__ import annotations

import numpy as np
import pytest
from allocation_faults import run_preloaded

from pymlp import backends

pytestmark = pytest.mark.skipif("c" not in backends.available(), reason=f"no C engine: {backends.missing_reason('c')}")

# what the slope of the memory must stay below, bytes a round
MOST_BYTES = 100
# an object of Python takes some 50 bytes
MOST_BLOCKS = 2
ROUNDS_A_SAMPLE = 20


def slope(values: list[int]) -> float:
    """Growth a round: the median of the slopes between the samples (Theil's estimator), which no outlier moves."""
    y = np.array(values, float)
    first, second = np.triu_indices(len(y), 1)
    return float(np.median((y[second] - y[first]) / (second - first))) / ROUNDS_A_SAMPLE


def check_samples(samples: dict[str, list[int]]) -> None:
    assert slope(samples["malloc bytes"]) < MOST_BYTES
    assert slope(samples["python blocks"]) < MOST_BLOCKS
    for name in ("files", "threads", "engine blocks"):
        assert len(set(samples[name])) == 1, f"{name}: {sorted(set(samples[name]))}"


def test_two_hundred_rounds_of_everything(faults_library: str) -> None:
    check_samples(run_preloaded(faults_library, "leak_rounds.py", "200", str(ROUNDS_A_SAMPLE)))


@pytest.mark.slow
def test_ten_thousand_rounds_of_everything(faults_library: str) -> None:
    samples = run_preloaded(faults_library, "leak_rounds.py", "10000", str(ROUNDS_A_SAMPLE))
    check_samples(samples)
    assert slope(samples["resident bytes"]) < MOST_BYTES


def test_a_training_step_allocates_nothing(faults_library: str) -> None:
    for name, counts in run_preloaded(faults_library, "leak_rounds.py", "steps").items():
        # the first call may make threads, and room for sparse numbers
        _, one, thousand = counts
        assert one == thousand == 0, (name, counts)


def test_a_leak_would_be_seen() -> None:
    draw = np.random.RandomState(0)
    noise = draw.standard_normal(50) * 3000
    rising = 100_000 + MOST_BYTES * 1.5 * ROUNDS_A_SAMPLE * np.arange(50)
    assert slope(list(rising + noise)) > MOST_BYTES
    assert slope(list(100_000 + noise)) < MOST_BYTES
