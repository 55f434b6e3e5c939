"""The learning rate on its way: plateaus, halvings, scikit-learn's names, and going back."""

from __future__ import annotations

import numpy as np
import pytest

from pymlp.course import MOST_HALVINGS, Course
from pymlp.schedules import Constant, InverseScaling, Plateau


def falls(course: Course, watched: list[float]) -> list[float]:
    """The rate after each epoch."""
    rates = []
    for epoch, value in enumerate(watched, 1):
        course.end_epoch(value, 10 * epoch)
        rates.append(float(course.rates(epoch, 1)[0]))
    return rates


def test_a_plateau_lowers_the_rate() -> None:
    course = Course(Plateau(factor=0.5, patience=1, tol=0.1, smallest=0.2), 1.0)
    assert course.rates(0, 2).tolist() == [1.0, 1.0]
    # an improvement of less than tol is none, two in a row are one too many; at last the smallest rate is reached
    watched = [3.0, 2.0, 1.95, 1.94, 1.0, np.nan, np.nan, 0.99, 0.98, 0.97, 0.96]
    assert falls(course, watched) == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]


def test_a_smallest_rate_above_the_base_rate_raises_nothing() -> None:
    assert falls(Course(Plateau(patience=0, smallest=2.0), 1.0), [1.0, 1.0, 1.0]) == [1.0, 1.0, 1.0]


def test_certain_epochs_end_where_a_rate_may_change() -> None:
    course = Course(Plateau(patience=3), 1.0)
    assert course.certain_epochs() == 4
    falls(course, [1.0, 1.0, 1.0])
    assert course.certain_epochs() == 2
    assert Course(Constant(), 1.0).certain_epochs() == np.inf
    assert Course(Constant(), 1.0, roll_back=True).certain_epochs() == 1
    assert Course("invscaling", 1.0).certain_epochs() == 1


def test_scikit_learns_names() -> None:
    assert falls(Course("constant", 0.5), [1.0, 1.0]) == [0.5, 0.5]
    expected = [InverseScaling(0.3).after_rows(0.5, rows) for rows in (10, 20)]
    assert falls(Course("invscaling", 0.5, 0.3), [1.0, 1.0]) == expected
    course = Course("adaptive", 0.5)
    course.divide(5.0)
    assert course.rates(0, 1)[0] == 0.1


def test_a_callable_gives_the_rate_of_each_step() -> None:
    course = Course(lambda step: 1.0 / (step + 1), 7.0)
    assert course.rates(1, 3).tolist() == [1 / 2, 1 / 3, 1 / 4]
    for bad in (-1.0, np.inf, np.nan, "fast"):
        with pytest.raises(ValueError, match=r"at least 0, but .* gives .* for step 3"):
            Course(lambda step, bad=bad: bad if step == 3 else 0.0, 1.0).rates(1, 5)


def test_halving_and_going_back() -> None:
    course = Course(Constant(), 1.0, roll_back=True)
    start = course.state()
    fine = np.ones(3)
    assert not course.undoes(0, 1.0, fine)
    with pytest.warns(RuntimeWarning, match=r"epoch 5 .* \(loss nan\).* half the learning rate \(0.5 of"):
        assert course.undoes(4, np.nan, fine)
    with pytest.warns(RuntimeWarning, match="epoch 5"):
        assert course.undoes(4, 1.0, fine, np.array([1.0, np.inf]))
    assert course.rates(0, 2).tolist() == [0.25, 0.25]
    course.restore(start)
    assert course.rates(0, 2).tolist() == [1.0, 1.0]
    assert not Course(Constant(), 1.0).undoes(4, np.nan, fine)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_halving_comes_to_an_end() -> None:
    course = Course(Constant(), 1.0, roll_back=True)
    assert [course.undoes(0, np.inf) for _ in range(MOST_HALVINGS + 1)] == [True] * MOST_HALVINGS + [False]
