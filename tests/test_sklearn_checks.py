"""All checks that scikit-learn generates for the two estimators: none may fail, none is expected to.

One check of each skips itself: check_array_api_input, because the environment variable SCIPY_ARRAY_API is not set (the
engine reads NumPy's arrays; scikit-learn's own perceptrons do not take other arrays either).
"""

import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from pymlp import MLPClassifier, MLPRegressor


@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
def test_scikit_learn_check(estimator, check):
    check(estimator)
