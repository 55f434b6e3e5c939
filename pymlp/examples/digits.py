"""Handwritten digits: a classifier, how its training went, what its first layer looks for, and what it confuses."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import pyplot
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split

from pymlp import FirstLayerDisplay, MLPClassifier, TrainingCurveDisplay
from pymlp.examples.picture import path_from, show


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, print a summary and the accuracy, draw."""
    path = path_from(__doc__, arguments)
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=0.25, random_state=0, stratify=y)
    # strong regularisation, so that the first layer shows more than noise
    model = MLPClassifier((64,), alpha=0.3, learning_rate_init=0.005, early_stopping=True, random_state=0)
    model.fit(X_train, y_train)
    print(model.summary())
    print(f"accuracy on {len(y_test)} other digits: {model.score(X_test, y_test):.3f}")

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    TrainingCurveDisplay.from_estimator(model, ax=left)
    FirstLayerDisplay.from_estimator(model, ax=middle)
    middle.set_title("weights of the first layer")
    ConfusionMatrixDisplay.from_estimator(model, X_test, y_test, ax=right, cmap="Blues", colorbar=False)
    right.set_title("test digits")
    show(figure, path)


if __name__ == "__main__":
    main()
