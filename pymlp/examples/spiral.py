"""Three spirals, one wound into the other: the regions a small network cuts the plane into, and the network itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot
from sklearn.inspection import DecisionBoundaryDisplay

from pymlp import MLPClassifier, NetworkDisplay
from pymlp.examples.picture import path_from, show

COLOURS = ("#4477aa", "#ee6677", "#228833")


def spirals(rows: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Points of shape (rows, 2) on three noisy spirals, and the number of each one's spiral."""
    arm = np.arange(rows) % 3
    turn = np.sqrt(random.uniform(0.02, 1.0, rows))
    angle = 2.0 * np.pi * (1.25 * turn + arm / 3)
    X = turn[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return X + random.normal(0.0, 0.02, X.shape), arm


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, print the accuracy on new points, draw."""
    path = path_from(__doc__, arguments)
    random = np.random.RandomState(0)
    X, y = spirals(450, random)
    model = MLPClassifier((10, 10), "tanh", solver="lbfgs", alpha=0.01, max_iter=1000, random_state=0).fit(X, y)
    print(model.summary())
    print(f"accuracy on new points: {model.score(*spirals(3000, random)):.3f}")

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5.6), layout="constrained", width_ratios=(1, 1.3))
    DecisionBoundaryDisplay.from_estimator(
        model,
        X,
        response_method="predict_proba",
        multiclass_colors=list(COLOURS),
        grid_resolution=300,
        eps=0.15,
        alpha=0.6,
        ax=left,
    )
    for arm, colour in enumerate(COLOURS):
        left.scatter(*X[y == arm].T, s=14, color=colour, edgecolors="white", linewidths=0.5)
    left.set_aspect("equal")
    NetworkDisplay.from_estimator(model, input_names=["x", "y"], ax=right)
    show(figure, path)


if __name__ == "__main__":
    main()
