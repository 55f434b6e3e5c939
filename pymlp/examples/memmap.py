"""Learning from a file that is never in memory as a whole: chunks of a memory-mapped array, epoch after epoch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot

from pymlp import MLPClassifier, TrainingCurveDisplay
from pymlp.examples.picture import path_from, show

ROWS, FEATURES, CHUNK = 200_000, 40, 10_000


def write(directory: Path) -> tuple[np.memmap, np.memmap]:
    """A file of pixels in bytes and one of labels, written chunk by chunk: what a label is depends on two features."""
    random = np.random.RandomState(0)
    X = np.memmap(directory / "X.dat", np.uint8, "w+", shape=(ROWS, FEATURES))
    y = np.memmap(directory / "y.dat", np.uint8, "w+", shape=(ROWS,))
    for start in range(0, ROWS, CHUNK):
        part = slice(start, start + CHUNK)
        X[part] = random.randint(0, 256, (CHUNK, FEATURES))
        left, right = (X[part, :2].astype(float) / 255 - 0.5).T
        y[part] = (left * right > 0).astype(np.uint8) + 2 * (left**2 + right**2 > 0.16)
    return X, y


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files, fit from their chunks, print the accuracy on the last one, draw the curve."""
    path = path_from(__doc__, arguments)
    with tempfile.TemporaryDirectory() as directory:
        X, y = write(Path(directory))

        def chunk(start: int) -> tuple[np.ndarray, np.ndarray]:
            part = slice(start, start + CHUNK)
            return X[part] / np.float32(127.5) - 1, y[part]

        def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            # the last one is kept for the test
            return map(chunk, range(0, ROWS - CHUNK, CHUNK))

        model = MLPClassifier((64,), tol=0.005, n_iter_no_change=1, random_state=0)
        # a function that gives the chunks anew for each epoch
        model.fit_stream(chunks)
        print(model.summary())
        at_once = 4e-6 * CHUNK * FEATURES
        print(f"{4e-6 * X.size:.0f} MB as float32, of which {at_once:.1f} MB at a time were in memory")
        print(f"accuracy on the last {CHUNK} rows: {model.score(*chunk(ROWS - CHUNK)):.3f}")
    figure, ax = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    TrainingCurveDisplay.from_estimator(model, ax=ax)
    show(figure, path)


if __name__ == "__main__":
    main()
