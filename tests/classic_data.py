"""Data sets the classic classifiers are compared on: standardised, with row weights, and a comparison of two models."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

NAMES = ("breast_cancer", "digits", "wine")
# for fits to eight digits, which take many seconds on one of them
PRECISELY = ("breast_cancer", pytest.param("digits", marks=pytest.mark.slow), "wine")


@cache
def raw(name):
    """Inputs as they come, and labels."""
    return getattr(datasets, f"load_{name}")(return_X_y=True)


@cache
def standardised(name):
    """Inputs, labels and weights between 1/5 and 3."""
    X, y = raw(name)
    return StandardScaler().fit_transform(X), y, np.random.RandomState(5).uniform(0.2, 3.0, len(X))


def distance(ours, theirs):
    """Norm of the difference between two linear models."""
    return np.hypot(np.linalg.norm(ours.coef_ - theirs.coef_), np.linalg.norm(ours.intercept_ - theirs.intercept_))


def assert_unchanged(model, call):
    """The call raises ValueError, and leaves the model's attributes as they were; the message."""
    before = {name: np.array(value, copy=True) for name, value in vars(model).items()}
    try:
        call()
    except ValueError as error:
        assert before.keys() == vars(model).keys()
        for name, value in before.items():
            np.testing.assert_array_equal(value, np.array(vars(model)[name]), err_msg=name)
        return str(error)
    raise AssertionError("no ValueError")
