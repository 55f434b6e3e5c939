"""All checks that scikit-learn generates for the two estimators: none may fail, none is expected to.

One check of each skips itself: check_array_api_input, because the environment variable SCIPY_ARRAY_API is not set (the
engine reads NumPy's arrays; scikit-learn's own perceptrons do not take other arrays either).
"""

import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from pymlp import AdamW, Cosine, MLPClassifier, MLPRegressor, Plateau

# in use one by one, and together where they do not disturb one another
OPTIONS = [
    {},
    {"solver": AdamW(average="ema", clip_norm=1.0), "learning_rate": Cosine(warmup=2), "max_time": 60.0},
    {"solver": "nadam", "learning_rate": Plateau(), "roll_back": True},
]


@parametrize_with_checks([cls(**options) for cls in (MLPClassifier, MLPRegressor) for options in OPTIONS])
def test_scikit_learn_check(estimator, check):
    check(estimator)
