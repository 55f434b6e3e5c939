"""Trains 784-512-512-10 on MNIST with every backend and records the accuracy on the 10,000 test images.

    PYMLP_DATA=folder python bench/mnist.py                       # the folder holds mnist.npz
    python bench/mnist.py --backend c numba numpy --seeds 3

Speed alone proves little: this is the whole job, in float32, judged by images it was not trained on.  It ends with exit
code 1 where the accuracy falls short.  The runs are recorded in results/mnist.json, from which render.py writes the
README's table.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import pymlp
from pymlp import backends, datasets

RESULTS = Path(__file__).parent / "results" / "mnist.json"

WIDTHS = (784, 512, 512, 10)
EPOCHS = 10
BATCH_SIZE = 128
RATE = 1e-3
L2 = 1e-4
# what the fast backends must reach, and how far the NumPy backend may end from the C engine at the same seed
LEAST_ACCURACY = 0.98
MOST_DIFFERENCE = 0.002

Record = dict[str, Any]


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels from 0 to 1 and labels: ``X, y, X_test, y_test``, 60,000 and 10,000 rows."""
    data = datasets.load("mnist")
    return (data.X / 255).astype(np.float32), data.y, (data.X_test / 255).astype(np.float32), data.y_test


def run(backend: str, seed: int, X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray) -> Record:
    """Train once; the record holds the test accuracy, the seconds of the training and the last epoch's mean loss."""
    network = pymlp.Network.from_widths(WIDTHS, "relu", loss="log_loss", dtype="float32", l2=L2)
    params = network.initial_params(seed)
    targets = np.eye(WIDTHS[-1], dtype=np.float32)[y]
    recipe = {"schedule": pymlp.Cosine(warmup=1), "rate": RATE, "batch_size": BATCH_SIZE, "backend": backend}
    # Numba compiles in its first call
    pymlp.train(network, params.copy(), X[:BATCH_SIZE], targets[:BATCH_SIZE], epochs=1, **recipe)

    start = perf_counter()
    result = pymlp.train(network, params, X, targets, epochs=EPOCHS, random_state=seed, **recipe)
    seconds = perf_counter() - start

    outputs = np.empty((len(X_test), network.outputs), np.float32)
    backends.get(backend).Plan(network, BATCH_SIZE).forward(params, X_test, outputs)
    correct = int((outputs.argmax(axis=1) == y_test).sum())
    return {
        "backend": backend,
        "seed": seed,
        "accuracy": correct / len(y_test),
        "seconds": round(seconds, 2),
        "last_loss": result.losses[-1],
    }


def failures(records: list[Record]) -> list[str]:
    """One line for each demand that the records do not meet."""
    engine = {record["seed"]: record["accuracy"] for record in records if record["backend"] == "c"}
    found = []
    for record in records:
        name, accuracy = f"{record['backend']}, seed {record['seed']}", record["accuracy"]
        if record["backend"] != "numpy":
            if accuracy < LEAST_ACCURACY:
                found.append(f"{name}: {accuracy:.2%} is below {LEAST_ACCURACY:.1%}")
        elif record["seed"] in engine and abs(accuracy - engine[record["seed"]]) > MOST_DIFFERENCE:
            found.append(f"{name}: {accuracy:.2%} is too far from the C engine's {engine[record['seed']]:.2%}")
    return found


def table(records: list[Record]) -> str:
    """The records as a Markdown table."""
    lines = ["| backend | seed | test accuracy | seconds |", "|---|--:|--:|--:|"]
    lines += [
        f"| {record['backend']} | {record['seed']} | {record['accuracy']:.2%} | {record['seconds']:.1f} |"
        for record in records
    ]
    return "\n".join(lines)


def main() -> int:
    """Run all backends and seeds asked for, print and record them; 1 where a demand is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", nargs="+", choices=("c", "numba", "numpy"), default=backends.available())
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train from the seeds 0 to N-1 (default 1)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where to record (default results/mnist.json)")
    arguments = parser.parse_args()
    data = load()
    records = [run(backend, seed, *data) for backend in arguments.backend for seed in range(arguments.seeds)]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print(table(records))
    short = failures(records)
    for line in short:
        print(line, file=sys.stderr)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
