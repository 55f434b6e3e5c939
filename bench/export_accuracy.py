"""What an exported source file of C keeps of a network's accuracy on MNIST, in float32 and in integers of 8 bits.

    PYMLP_DATA=folder python bench/export_accuracy.py             # the folder holds mnist.npz; a minute

Networks are trained, exported, compiled by ``cc -O3 -march=native``, and judged by the 10,000 test images, each through
the compiled file.  It ends with exit code 1 where the file in integers is larger than 0.3 times that in float32, loses
more than 0.2 points, or the one in float32 disagrees with the estimator.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np

import pymlp
from pymlp import datasets
from pymlp.export import to_c

HIDDEN = ((128,), (512, 512))
EPOCHS, BATCH_SIZE = 8, 128
CALIBRATION_ROWS = 1000
MOST_SIZE, MOST_LOSS = 0.3, 0.002


def trained(hidden: tuple[int, ...], X: np.ndarray, y: np.ndarray) -> pymlp.MLPClassifier:
    """A classifier after `EPOCHS` epochs."""
    model = pymlp.MLPClassifier(
        hidden, batch_size=BATCH_SIZE, max_iter=EPOCHS, learning_rate=pymlp.Cosine(warmup=1), random_state=0
    )
    with warnings.catch_warnings():
        # so many epochs are what was asked for
        warnings.simplefilter("ignore")
        return model.fit(X, y)


def classes_of(source: Path, X: np.ndarray) -> tuple[np.ndarray, float]:
    """Classes (rows,) by the compiled file, and the seconds of a row."""
    target = source.with_suffix(".so")
    subprocess.run(["cc", "-std=c99", "-O3", "-march=native", "-shared", "-fPIC", source, "-o", target], check=True)
    classify = getattr(ctypes.CDLL(str(target)), f"{source.stem}_classify")
    addresses = [ctypes.c_void_p(x.ctypes.data) for x in X]
    start = perf_counter()
    found = [classify(address) for address in addresses]
    return np.array(found), (perf_counter() - start) / len(X)


def main() -> int:
    """Print the table; 1 where a demand is not met."""
    data = datasets.load("mnist")
    X, X_test = ((pixels / 255).astype(np.float32) for pixels in (data.X, data.X_test))
    print("| network | file | bytes | of float32 | accuracy | us a row |\n|---|---|--:|--:|--:|--:|")
    met = True
    for hidden in HIDDEN:
        model = trained(hidden, X, data.y)
        sizes, accuracies = {}, {}
        with tempfile.TemporaryDirectory() as folder:
            for dtype in ("float32", "int8"):
                source = Path(folder) / f"mnist_{dtype}.c"
                sizes[dtype] = to_c(model, source, dtype, calibration=X[:CALIBRATION_ROWS]).n_bytes
                places, seconds = classes_of(source, X_test)
                accuracies[dtype] = float((model.classes_[places] == data.y_test).mean())
                print(
                    f"| {'-'.join(map(str, model.network_.widths))} | {dtype} | {sizes[dtype]:,} | "
                    f"{sizes[dtype] / sizes['float32']:.3f} | {accuracies[dtype]:.2%} | {seconds * 1e6:.1f} |"
                )
        met &= sizes["int8"] <= MOST_SIZE * sizes["float32"]
        met &= accuracies["int8"] >= accuracies["float32"] - MOST_LOSS
        met &= accuracies["float32"] == model.score(X_test, data.y_test)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
