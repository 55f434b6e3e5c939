"""`MLPClassifier` and `MLPRegressor`: scikit-learn's estimators of the same names, on pymlp's engine.

With float64 data, the same parameters and the same integer ``random_state`` the fitted weights equal scikit-learn's up
to rounding, so changing the import is the whole migration.  What the two do differently is all about targets and stands
in a module each; what they share is in `pymlp.perceptron`, what fitting does in `pymlp.fitting`.
"""

from pymlp.mlp_classifier import MLPClassifier
from pymlp.mlp_regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
