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


def slope(values: list[int], rounds: int) -> float:
    """Growth a round, of samples so many rounds apart: the median of the slopes between them, which no outlier moves
    (Theil's estimator)."""
    y = np.array(values, float)
    first, second = np.triu_indices(len(y), 1)
    return float(np.median((y[second] - y[first]) / (second - first))) / rounds


def check_samples(samples: dict[str, list[int]], rounds: int) -> None:
    assert slope(samples["malloc bytes"], rounds) < MOST_BYTES
    assert slope(samples["python blocks"], rounds) < MOST_BLOCKS
    for name in ("files", "threads", "engine blocks"):
        assert len(set(samples[name])) == 1, f"{name}: {sorted(set(samples[name]))}"


def test_a_hundred_rounds_of_everything(faults_library: str) -> None:
    check_samples(run_preloaded(faults_library, "leak_rounds.py", "100", "10"), 10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_rounds_of_everything(faults_library: str) -> None:
    samples = run_preloaded(faults_library, "leak_rounds.py", "10000", "50", timeout=1800)
    check_samples(samples, 50)
    assert slope(samples["resident bytes"], 50) < MOST_BYTES


def test_a_training_step_allocates_nothing(faults_library: str) -> None:
    for name, counts in run_preloaded(faults_library, "leak_rounds.py", "steps").items():
        # the first call may make threads, whose own variables come after it, and room for sparse numbers
        assert counts[2:] == [0, 0], (name, counts)


def test_a_leak_would_be_seen() -> None:
    draw = np.random.RandomState(0)
    noise = draw.standard_normal(50) * 3000
    rising = 100_000 + MOST_BYTES * 1.5 * 20 * np.arange(50)
    assert slope(list(rising + noise), 20) > MOST_BYTES
    assert slope(list(100_000 + noise), 20) < MOST_BYTES
