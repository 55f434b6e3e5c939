"""Which methods an estimator has, by its parameters: the conditions of scikit-learn's ``available_if``.

Each returns True or raises the AttributeError that says why a method is not there.
"""

from __future__ import annotations

from typing import Any

from pymlp.functions import PROBABILITIES
from pymlp.losses import LOSSES, Loss


def is_stochastic(estimator: Any) -> bool:
    """Whether the solver takes steps over batches."""
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is only available for stochastic optimizers. lbfgs is not stochastic.")
    return True


def takes_streams(estimator: Any) -> bool:
    """Whether a classifier can train without knowing all rows."""
    if estimator.class_weight == "balanced":
        raise AttributeError(
            "class_weight 'balanced' is not supported for partial_fit. In order to use 'balanced' weights, use "
            "compute_class_weight('balanced', classes=classes, y=y). In place of y you can use a large enough sample "
            "of the full training set target to properly estimate the class frequency distributions. Pass the "
            "resulting weights as the class_weight parameter."
        )
    return is_stochastic(estimator)


def gives_probabilities(estimator: Any) -> bool:
    """Whether a classifier's outputs are probabilities: as it was fitted, else as it would be."""
    if "network_" in estimator.__dict__:
        has_them = estimator.network_.output_activation in PROBABILITIES
    else:
        # a function has the outputs of the log loss; what is no loss at all is for `fit` to say
        loss = LOSSES.get(estimator.loss) if isinstance(estimator.loss, str) else estimator.loss
        has_them = not isinstance(loss, Loss) or loss.output_activation in PROBABILITIES
    if not has_them:
        raise AttributeError(f"probability estimates are not available for loss={estimator.loss!r}")
    return True
