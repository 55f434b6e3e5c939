"""Checks before a fit: what scikit-learn's checks would pass goes by them, everything else reaches them."""

import gc
import weakref
from numbers import Real
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from sklearn.utils._param_validation import Interval, InvalidParameterError

from pymlp import MLPClassifier, MLPRegressor
from pymlp.validation import check_parameters, check_training_data

DTYPES = ("float64", "float32")


def checked(X, y, estimator=None, reset=True, numeric=False):
    return check_training_data(estimator or MLPClassifier(), X, y, dtypes=DTYPES, reset=reset, numeric=numeric)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("y", [np.arange(4), np.ones((4, 2), int), np.ones(4, "float32"), np.ones(4, bool)], ids=str)
def test_arrays_that_are_ready_are_taken_as_they_are(dtype, y):
    X = np.ones((4, 3), dtype)
    model = MLPClassifier()
    model.feature_names_in_ = np.array(["from", "another", "fit"])
    found, targets, found_dtype = checked(X, y, model)
    assert found is X
    assert targets is y
    assert found_dtype == dtype
    assert model.n_features_in_ == 3
    assert not hasattr(model, "feature_names_in_")
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 3"):
        checked(np.ones((4, 2)), y, model, reset=False)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.ones((4, 3)), np.arange(5), "inconsistent numbers of samples"),
        (np.ones(4), np.arange(4), "Expected 2D array, got 1D"),
        (np.ones((0, 3)), np.arange(0), "Found array with 0 sample"),
        (np.ones((4, 0)), np.arange(4), "0 feature"),
        (np.ones((4, 3)), np.array(1), "Singleton array|at least 1 dimension|should be a 1d array"),
        (np.ones((4, 3)), None, "requires y to be passed"),
        (np.full((4, 3), np.nan), np.arange(4), "Input X contains NaN: first in row 0, column 0"),
        (np.ones((4, 3)), np.array([0.0, 1.0, np.inf, 0.0]), "Input y contains infinity: first in row 2"),
    ],
    ids=str,
)
def test_what_is_not_ready_gets_scikit_learns_message(X, y, message):
    with pytest.raises((ValueError, TypeError), match=message):
        checked(X, y)


@pytest.mark.filterwarnings("ignore:A column-vector y")
@pytest.mark.parametrize(
    "X", [np.ones((3, 4)).T, np.ones((4, 3), ">f8"), np.ones((4, 3), "float16"), [[1.0] * 3] * 4], ids=type
)
def test_what_is_not_ready_is_converted(X):
    found, _, dtype = checked(X, np.arange(4))
    assert found.dtype == dtype == "float64"
    assert found.flags.c_contiguous
    assert checked(np.ones((4, 3)), np.ones((4, 1)))[1].shape == (4,)
    assert checked(np.ones((4, 3)), np.array([1, 2, 3, 4], object), MLPRegressor(), numeric=True)[1].dtype == "float64"


def test_parameters_of_a_class_that_builds_on_ours_are_checked_too():
    class Deeper(MLPClassifier):
        _parameter_constraints = {**MLPClassifier._parameter_constraints, "depth": ["boolean"]}  # noqa: RUF012

        def __init__(self, depth=True, alpha=0.0001):
            super().__init__(alpha=alpha)
            self.depth = depth

    check_parameters(Deeper())
    with pytest.raises(InvalidParameterError, match="The 'depth' parameter of Deeper"):
        check_parameters(Deeper(depth=7))
    with pytest.raises(InvalidParameterError, match="The 'alpha' parameter of Deeper"):
        check_parameters(Deeper(alpha=-1))
    # the first by name, as in scikit-learn
    with pytest.raises(InvalidParameterError, match="'alpha'"):
        check_parameters(MLPRegressor(tol=-1.0, alpha=-1.0))


def test_constraints_are_those_of_now():
    class Own(MLPClassifier):
        _parameter_constraints: ClassVar[dict] = dict(MLPClassifier._parameter_constraints)

    check_parameters(Own(alpha=0.5))
    Own._parameter_constraints["alpha"] = [Interval(Real, 0, 0.1, closed="both")]
    with pytest.raises(InvalidParameterError, match="'alpha'"):
        check_parameters(Own(alpha=0.5))
    Own._parameter_constraints["alpha"].append(Interval(Real, 0.4, 0.6, closed="both"))
    check_parameters(Own(alpha=0.5))
    # of one object alone
    model = Own(alpha=0.5, max_iter=3.0)
    with pytest.raises(InvalidParameterError, match="'max_iter'"):
        check_parameters(model)
    model._parameter_constraints = {**Own._parameter_constraints, "max_iter": "no_validation"}
    check_parameters(model)
    with pytest.raises(InvalidParameterError, match="'max_iter'"):
        check_parameters(Own(alpha=0.5, max_iter=3.0))


def test_constraints_of_a_property():
    class Own(MLPClassifier):
        @property
        def _parameter_constraints(self):
            return {**MLPClassifier._parameter_constraints, "alpha": [Interval(Real, 0, self.tol, closed="both")]}

    check_parameters(Own(alpha=0.5, tol=1.0))
    with pytest.raises(InvalidParameterError, match="'alpha'"):
        check_parameters(Own(alpha=0.5, tol=0.1))


@pytest.mark.parametrize("value", [1, 1.0, True, "1", (1,), None, np.float64(1), float("nan")], ids=repr)
def test_values_that_are_equal_are_of_different_types(value):
    reference, wrong = MLPClassifier(max_iter=value), None
    try:
        reference._validate_params()
    except InvalidParameterError as error:
        wrong = str(error)
    for _ in range(2):
        if wrong is None:
            check_parameters(MLPClassifier(max_iter=value))
        else:
            with pytest.raises(InvalidParameterError) as caught:
                check_parameters(MLPClassifier(max_iter=value))
            assert str(caught.value) == wrong


def test_a_class_is_not_kept():
    class Own(MLPClassifier):
        pass

    check_parameters(Own(alpha=0.5))
    kept = weakref.ref(Own)
    del Own
    gc.collect()
    assert kept() is None
