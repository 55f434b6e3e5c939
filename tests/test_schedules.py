"""Schedules: the rates at known places, continuity over slices, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pymlp.schedules import SCHEDULES, Constant, Cosine, Exponential, InverseScaling, OneCycle, Plateau, Step

# a run of 10 epochs of 10 steps over 95 rows each
TOTAL, EPOCH_STEPS, EPOCH_ROWS = 100, 10, 95
EVERY = [
    Constant(),
    InverseScaling(0.7),
    Step(3),
    Step((2, 7), factor=0.5),
    Exponential(0.8),
    Cosine(),
    Cosine(warmup=2.5, final=0.1),
    Cosine(warmup=1, restarts=2, multiplier=2),
    OneCycle(),
    OneCycle(peak=2.0),
    Plateau(),
]


def rates(schedule: object, first: int = 0, count: int = TOTAL, base: float = 0.5) -> np.ndarray:
    return schedule.rates(base, first, count, TOTAL, EPOCH_STEPS, EPOCH_ROWS)


def test_registry() -> None:
    assert {schedule.name for schedule in EVERY} == set(SCHEDULES)
    assert all(kind.name == name for name, kind in SCHEDULES.items())


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_slices_make_up_the_whole(schedule: object) -> None:
    whole = rates(schedule)
    assert whole.shape == (TOTAL,)
    assert whole.dtype == np.float64
    assert (whole >= 0).all()
    parts = [rates(schedule, first, count) for first, count in ((0, 1), (1, 36), (37, 0), (37, 63))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert np.isfinite(rates(schedule, 90, 50)).all()


def test_constant() -> None:
    np.testing.assert_array_equal(rates(Constant()), 0.5)


def test_inverse_scaling_is_renewed_at_the_end_of_an_epoch() -> None:
    found = rates(InverseScaling(0.5)).reshape(10, 10)
    np.testing.assert_array_equal(found, np.repeat(found[:, :1], 10, axis=1))
    # as scikit-learn: the first epoch at the base rate, then base / (rows seen + 1) ** power
    expected = [0.5] + [0.5 / (95 * epoch + 1) ** 0.5 for epoch in range(1, 10)]
    np.testing.assert_array_equal(found[:, 0], expected)
    assert InverseScaling(0.0).after_rows(0.5, 95) == 0.5


def test_inverse_scaling_against_scikit_learn() -> None:
    reference = pytest.importorskip("sklearn.neural_network._stochastic_optimizers", reason="the reference here")
    theirs = reference.SGDOptimizer([np.zeros(1)], 0.5, "invscaling", power_t=0.3)
    for epoch in range(5):
        assert InverseScaling(0.3).after_rows(0.5, epoch * EPOCH_ROWS) == theirs.learning_rate
        theirs.iteration_ends((epoch + 1) * EPOCH_ROWS)


def test_cosine() -> None:
    found = rates(Cosine())
    assert found[0] == 0.5
    assert found[50] == pytest.approx(0.25)
    assert 0 < found[-1] < 1e-3
    assert (np.diff(found) < 0).all()
    assert rates(Cosine(final=0.2), TOTAL, 1)[0] == pytest.approx(0.1)


def test_cosine_warms_up() -> None:
    found = rates(Cosine(warmup=2))
    np.testing.assert_allclose(found[:20], 0.5 * np.arange(1, 21) / 21)
    assert found[20] == 0.5
    assert (np.diff(found[20:]) < 0).all()
    # a warm-up longer than the run only rises
    assert (np.diff(rates(Cosine(warmup=50))) > 0).all()


def test_cosine_restarts() -> None:
    found = rates(Cosine(restarts=1, final=0.1))
    np.testing.assert_allclose(found[:50], rates(Cosine(final=0.1))[::2])
    np.testing.assert_array_equal(found[50:], found[:50])
    # after a warm-up of 10 steps the 90 others fall into 1 + 2 + 4 parts
    found = rates(Cosine(warmup=1, restarts=2, multiplier=2))
    starts = np.flatnonzero(np.diff(found) > 0) + 1
    assert starts[starts > 10].tolist() == [round(10 + 90 / 7), round(10 + 3 * 90 / 7)]
    assert set(found[[10, *starts[starts > 10]]]) == {0.5}


def test_steps() -> None:
    np.testing.assert_allclose(rates(Step(4, factor=0.5))[[0, 39, 40, 79, 80]], [0.5, 0.5, 0.25, 0.25, 0.125])
    np.testing.assert_allclose(rates(Step([2, 3], factor=0.1))[[19, 20, 29, 30, 99]], [0.5, 0.05, 0.05, 0.005, 0.005])


def test_exponential() -> None:
    found = rates(Exponential(0.5)).reshape(10, 10)
    np.testing.assert_array_equal(found, np.repeat(found[:, :1], 10, axis=1))
    np.testing.assert_array_equal(found[:, 0], 0.5 * 0.5 ** np.arange(10))


def test_one_cycle() -> None:
    found = rates(OneCycle(rising=0.3))
    top = int(np.argmax(found))
    assert found[0] == pytest.approx(0.5 / 25)
    assert top == pytest.approx(0.3 * 99, abs=1)
    assert found[top] == pytest.approx(0.5, rel=1e-3)
    assert found[-1] == pytest.approx(0.5 / 25 / 1e4)
    assert (np.diff(found[: top + 1]) > 0).all()
    assert (np.diff(found[top:]) < 0).all()
    np.testing.assert_allclose(rates(OneCycle(peak=2.0)), 4 * found)


def test_a_run_of_one_step() -> None:
    for schedule in EVERY:
        assert math.isfinite(schedule.rates(0.5, 0, 1, 1, 1, 10)[0])


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (InverseScaling, {"power": -1}, "power must be at least 0, got -1"),
        (InverseScaling, {"power": math.nan}, "power must be at least 0, got nan"),
        (Cosine, {"warmup": -1}, "warmup must be at least 0 epochs, got -1"),
        (Cosine, {"final": 2}, r"final must be a fraction of the base rate in \[0, 1\], got 2"),
        (Cosine, {"restarts": -1}, "restarts must be an integer of at least 0, got -1"),
        (Cosine, {"restarts": 1.5}, "restarts must be an integer of at least 0, got 1.5"),
        (Cosine, {"multiplier": 0}, "multiplier must be a finite number above 0, got 0"),
        (Step, {"epochs": 0}, "epochs must be an integer above 0, or a rising sequence of them, got 0"),
        (Step, {"epochs": []}, r"rising sequence of them, got \[\]"),
        (Step, {"epochs": (3, 3)}, r"rising sequence of them, got \(3, 3\)"),
        (Step, {"factor": 0}, r"factor must be a fraction in \(0, 1\], got 0"),
        (Exponential, {"factor": 2}, r"factor must be a fraction in \(0, 1\], got 2"),
        (Plateau, {"factor": -1}, r"factor must be a fraction in \(0, 1\], got -1"),
        (Plateau, {"patience": 0.5}, "patience must be an integer of at least 0, got 0.5"),
        (Plateau, {"tol": math.nan}, "tol must be a finite number of at least 0, got nan"),
        (Plateau, {"smallest": -1}, "smallest must be a finite number of at least 0, got -1"),
        (OneCycle, {"peak": 0}, "peak must be above 0, got 0"),
        (OneCycle, {"rising": 1.0}, r"rising must be a fraction in \(0, 1\), got 1.0"),
        (OneCycle, {"start_divisor": 0.5}, "start_divisor must be at least 1, got 0.5"),
        (OneCycle, {"end_divisor": 0}, "end_divisor must be at least 1, got 0"),
    ],
)
def test_refusals(kind: type, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
