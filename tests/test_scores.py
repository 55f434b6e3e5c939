"""Validation scores equal scikit-learn's metrics."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="compares with the metrics of scikit-learn")

from sklearn.metrics import accuracy_score, r2_score

from pymlp.scores import accuracy, r2


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
