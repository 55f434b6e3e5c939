"""The cases every benchmark walks: networks and batches from tiny to wide, their data, and what they must cost.

One list for training and one for prediction, so that a case has the same name and the same numbers in every table.
The data are random: speed does not depend on them, and the checks compare with a reference on the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pymlp import Network

# seeds the data, the first parameters and the order of the rows
SEED = 20


@dataclass(frozen=True)
class TrainingCase:
    """A network trained by Adam with relu in its hidden layers; `slow` cases run only with ``--slow``."""

    name: str
    widths: tuple[int, ...]
    batch_size: int
    loss: str
    dtypes: tuple[str, ...] = ("float32",)
    slow: bool = False

    def network(self, dtype: str) -> Network:
        """The network with its loss."""
        return Network.from_widths(self.widths, loss=self.loss, dtype=dtype)

    @property
    def flops(self) -> int:
        """Additions and multiplications of one step's products, without the input gradient of the first layer."""
        weights = [inputs * outputs for inputs, outputs in pairwise(self.widths)]
        return 2 * self.batch_size * (3 * sum(weights) - weights[0])

    def bytes(self, dtype: str) -> int:
        """What the two phases of a step read and write, each number once a phase.

        The first reads the weights twice, forward and transposed, and the inputs, and writes outputs and deltas; the
        second reads these again and reads and writes the parameters and their two slots.
        """
        parameters = self.network(dtype).n_parameters
        of_a_row = self.widths[0] + sum(self.widths[1:-1]) + sum(self.widths[1:])
        return np.dtype(dtype).itemsize * ((2 + 6) * parameters + 2 * self.batch_size * of_a_row)

    def data(self, batches: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (batches * batch_size, inputs) and targets (batches * batch_size, outputs)."""
        generator = np.random.default_rng(SEED)
        rows = batches * self.batch_size
        X = generator.standard_normal((rows, self.widths[0]), np.float32).astype(dtype)
        if self.loss == "squared_error":
            return X, generator.standard_normal((rows, self.widths[-1]), np.float32).astype(dtype)
        if self.loss == "binary_log_loss":
            return X, generator.integers(2, size=(rows, self.widths[-1])).astype(dtype)
        return X, np.eye(self.widths[-1], dtype=dtype)[generator.integers(self.widths[-1], size=rows)]


TRAINING_CASES = (
    TrainingCase("tiny", (8, 32, 32, 1), 32, "squared_error"),
    TrainingCase("small", (64, 64, 64, 1), 32, "squared_error"),
    TrainingCase("tab", (20, 100, 2), 200, "binary_log_loss"),
    TrainingCase("tabmid", (100, 256, 256, 256, 10), 256, "log_loss", ("float32", "float64")),
    TrainingCase("mnist", (784, 512, 512, 10), 128, "log_loss", ("float32", "float64")),
    TrainingCase("mnist-large", (784, 1024, 1024, 10), 1024, "log_loss", ("float32", "float64"), slow=True),
    TrainingCase("wide", (2048, 4096, 4096, 1000), 1024, "log_loss", ("float32", "float64"), slow=True),
)


@dataclass(frozen=True)
class PredictionCase:
    """A network with relu in its hidden layers and the number of rows of one call."""

    name: str
    widths: tuple[int, ...]
    rows: int

    def network(self, dtype: str) -> Network:
        """The network, with scores as outputs."""
        return Network.from_widths(self.widths, loss="squared_error", dtype=dtype)

    @property
    def flops(self) -> int:
        """Additions and multiplications of the products of one call."""
        return 2 * self.rows * sum(inputs * outputs for inputs, outputs in pairwise(self.widths))

    def bytes(self, dtype: str) -> int:
        """What a call reads and writes: the parameters, the inputs and the outputs, each once."""
        ends = self.widths[0] + self.widths[-1]
        return np.dtype(dtype).itemsize * (self.network(dtype).n_parameters + self.rows * ends)

    def data(self, dtype: str) -> np.ndarray:
        """Inputs (rows, inputs)."""
        return np.random.default_rng(SEED).standard_normal((self.rows, self.widths[0]), np.float32).astype(dtype)


PREDICTION_CASES = (
    PredictionCase("one row, 4-64-64-2", (4, 64, 64, 2), 1),
    PredictionCase("one row, 784-512-512-10", (784, 512, 512, 10), 1),
    PredictionCase("bulk 20-64-64-2", (20, 64, 64, 2), 200_000),
    PredictionCase("bulk 100-256-256-256-10", (100, 256, 256, 256, 10), 20_000),
)
