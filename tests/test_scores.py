"""Validation scores equal scikit-learn's metrics."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="compares with the metrics of scikit-learn")

from sklearn.metrics import accuracy_score, d2_pinball_score, r2_score

from pymlp.scores import accuracy, pinball_d2, r2


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [None, 3])
def test_accuracy(columns, weighted):
    draw = np.random.RandomState(0)
    shape = (40,) if columns is None else (40, columns)
    decisions, expected = draw.randint(2, size=shape), draw.randint(2, size=shape)
    weight = draw.uniform(0.1, 3.0, 40) if weighted else None
    assert accuracy(decisions, expected, weight) == accuracy_score(expected, decisions, sample_weight=weight)


@pytest.mark.parametrize("weighted", [False, True])
def test_r2_also_of_constant_columns(weighted):
    draw = np.random.RandomState(0)
    outputs, expected = draw.normal(size=(30, 4)), draw.normal(size=(30, 4))
    expected[:, 1] = 2.0
    expected[:, 2] = outputs[:, 2] = 5.0
    weight = draw.uniform(0.1, 3.0, 30) if weighted else None
    assert r2(outputs, expected, weight) == pytest.approx(r2_score(expected, outputs, sample_weight=weight), rel=1e-13)


def test_r2_of_outputs_that_are_not_finite_is_nan():
    assert np.isnan(r2(np.array([[np.inf], [1.0]]), np.ones((2, 1)), None))


@pytest.mark.parametrize("columns", [1, 2])
def test_d2_of_quantiles(columns):
    draw = np.random.RandomState(0)
    levels = (0.1, 0.5, 0.85)
    y, weight = draw.normal(size=(41, columns)), draw.uniform(0.1, 3.0, 41)
    outputs = draw.normal(size=(41, columns * 3))
    found = pinball_d2(outputs, np.repeat(y, 3, axis=1), levels, weight)
    expected = [
        d2_pinball_score(y, outputs[:, place::3], sample_weight=weight, alpha=level)
        for place, level in enumerate(levels)
    ]
    assert found == pytest.approx(np.mean(expected), rel=1e-12)


def test_d2_counts_a_row_of_weight_two_as_two():
    draw = np.random.RandomState(1)
    y, outputs, weight = draw.normal(size=(30, 1)), draw.normal(size=(30, 1)), draw.randint(0, 3, 30)
    rows = np.repeat(np.arange(30), weight)
    repeated = pinball_d2(outputs[rows], y[rows], (0.3,), None)
    assert pinball_d2(outputs, y, (0.3,), weight.astype(float)) == pytest.approx(repeated, rel=1e-13)


def test_d2_of_the_best_constants_is_zero():
    y = np.array([[1.0], [2.0], [3.0], [4.0]])
    # 0.5 is met by two of four rows: no other constant is better
    assert pinball_d2(np.full((4, 1), 2.0), y, (0.5,), None) == 0
    assert pinball_d2(y, y, (0.5,), None) == 1
    assert pinball_d2(np.full((4, 1), 5.0), np.full((4, 1), 5.0), (0.5,), None) == 1
    assert pinball_d2(np.full((4, 1), 4.0), np.full((4, 1), 5.0), (0.5,), None) == 0
    assert np.isnan(pinball_d2(np.full((4, 1), np.nan), y, (0.5,), None))
