"""One case in twenty-five is rare: what class weights change about what a classifier finds and what it misses."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import pyplot
from sklearn.datasets import make_classification
from sklearn.metrics import ConfusionMatrixDisplay, balanced_accuracy_score, precision_score, recall_score
from sklearn.model_selection import train_test_split

from pymlp import MLPClassifier
from pymlp.examples.picture import path_from, show


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit with and without weights, print how well the rare class is found, draw both confusion matrices."""
    path = path_from(__doc__, arguments)
    X, y = make_classification(
        10000, 12, n_informative=6, n_clusters_per_class=3, weights=[0.96], flip_y=0.0, class_sep=1.2, random_state=2
    )
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0, stratify=y)

    figure, panels = pyplot.subplots(1, 2, figsize=(9.6, 4.4), layout="constrained")
    print("class_weight   rare ones found   of those called rare, right   balanced accuracy")
    for class_weight, ax in zip((None, "balanced"), panels, strict=True):
        model = MLPClassifier((32,), alpha=1.0, learning_rate_init=0.003, class_weight=class_weight, random_state=0)
        predicted = model.fit(X_train, y_train).predict(X_test)
        found, right = recall_score(y_test, predicted), precision_score(y_test, predicted)
        balanced = balanced_accuracy_score(y_test, predicted)
        print(f"{class_weight!r:<12}   {found:15.3f}   {right:27.3f}   {balanced:17.3f}")
        ConfusionMatrixDisplay.from_predictions(
            y_test, predicted, display_labels=["common", "rare"], normalize="true", values_format=".1%", cmap="Blues",
            im_kw={"vmin": 0, "vmax": 1}, colorbar=False, ax=ax,
        )  # fmt: skip
        ax.set_title(f"class_weight={class_weight!r}")
    show(figure, path)


if __name__ == "__main__":
    main()
