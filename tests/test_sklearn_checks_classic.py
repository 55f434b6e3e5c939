"""All checks that scikit-learn generates for the classic classifiers: none may fail, none is expected to.

One check of each skips itself: check_array_api_input, because the environment variable SCIPY_ARRAY_API is not set (the
engine reads NumPy's arrays).
"""

import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from pymlp import BernoulliNB, FourierSVC, GaussianNB, LinearSVC, LogisticRegression, MultinomialNB, Perceptron

ESTIMATORS = [
    BernoulliNB(),
    # fewer features than by default take less time
    FourierSVC(n_components=100),
    GaussianNB(),
    LinearSVC(),
    LinearSVC(loss="hinge"),
    LogisticRegression(),
    LogisticRegression(l1_ratio=0.5),
    LogisticRegression(solver="adam"),
    LogisticRegression(solver="sgd"),
    MultinomialNB(),
    Perceptron(),
    Perceptron(penalty="elasticnet"),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_check(estimator, check):
    check(estimator)
