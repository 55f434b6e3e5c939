"""How much memory a plan, a fit, a prediction and a model file take: upper bounds, in bytes, before anything is done.

They are for the C engine and for arrays that are taken as they come: C-contiguous X of the network's type.  An X that
has to be converted comes on top with what the copy takes, validation rows with their own copies.  What Python and NumPy
hold besides, buffers for checks of the data, the threads' stacks and the rest of huge pages begun, is `BESIDES`,
whatever the sizes.  The formulas stand in the README; tests hold the real peaks against them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pymlp.backends import BLOCK_ROWS

if TYPE_CHECKING:
    from pymlp.network import Network
    from pymlp.optimizers import Optimizer

BESIDES = 24 << 20
# the engine's bands and the widest of its panels: widths are rounded up to it
BAND = 32
# rows that a thread carries through the layers together, at most (csrc/pymlp.c)
STRIP_ROWS = 239
# most rows that a buffer has more than the batch: they deal it out over the sets of a cache
SPARE_ROWS = 46
# numbers of an average, of a clipped gradient and of the most demanding rule's two, which a plan has room for
PLAN_SLOTS = 3
# of the scratch that derivatives take (csrc/predictor.c): rows and columns that go back together at least, and bytes
# that more of them take at most
LEAST_PAIRS, PAIR_BYTES = 16, 786432


def _rounded(width: int) -> int:
    return -(-width // BAND) * BAND


def _packed(network: Network) -> tuple[int, int]:
    # numbers of all matrices as the engine packs them, and of all parameters
    matrices = sum(_rounded(row.inputs) * _rounded(row.outputs) for row in network.table if row.kind == "dense")
    vectors = sum(_rounded(row.outputs) for row in network.table for part in row.parts if len(part.shape) == 1)
    return matrices, matrices + vectors


def _scratch(network: Network, n_threads: int) -> int:
    # strips of rows on their way through the layers; what a residual link goes around is kept, too
    widest = max(_rounded(width) for row in network.table for width in (row.inputs, row.outputs))
    strips = 3 if any(row.second >= 0 for row in network.table) else 2
    return n_threads * (strips * STRIP_ROWS * widest + 64 * network.outputs)


def plan_bytes(network: Network, batch_size: int, n_threads: int = 1) -> int:
    """Most bytes of a plan: what it asks for at once; pages that its verbs do not use are never touched.

    Parameters
    ----------
    network : Network
    batch_size : int
    n_threads : int, default=1

    Returns
    -------
    int
    """
    real = np.dtype(network.dtype).itemsize
    matrices, packed = _packed(network)
    widths = [_rounded(network.inputs), *(_rounded(row.outputs) for row in network.table)]
    # outputs, deltas and, for some activations, what they were applied to
    batch = 3 * sum(widths) * (min(batch_size, BLOCK_ROWS) + SPARE_ROWS)
    # packed, gradient and slots; the transposes; a batch of several blocks adds their gradients up
    numbers = (2 + PLAN_SLOTS) * packed + matrices + batch + (packed if batch_size > BLOCK_ROWS else 0)
    # a loss and up to two numbers for each row and layer
    numbers += _scratch(network, n_threads) + 3 * len(network.table) * min(batch_size, BLOCK_ROWS)
    # sums of squares of 256 weights each; the table itself, and pieces of whole cache lines
    return real * numbers + packed // 8 + 1024 * (len(network.table) + 8)


def fit_bytes(
    network: Network, rows: int, batch_size: int, n_threads: int = 1, optimizer: Optimizer | None = None
) -> int:
    """Most bytes that a fit by steps takes beyond X, y and `BESIDES`.

    Parameters
    ----------
    network : Network
    rows : int
    batch_size : int
    n_threads : int, default=1
    optimizer : option object of `pymlp.optimizers`, optional
        By default one with two slots, as Adam has.

    Returns
    -------
    int
    """
    real = np.dtype(network.dtype).itemsize
    slots = 2 if optimizer is None else optimizer.n_slots
    # those trained, the last complete epoch, the best, and the new estimator's beside the old one's
    parameters = real * network.n_parameters * (4 + 3 * slots)
    # targets as columns; the orders of this epoch and of the last, and the classes' numbers
    per_row = real * (network.outputs + 1) + 40
    return plan_bytes(network, batch_size, n_threads) + parameters + per_row * rows


def predict_bytes(network: Network, rows: int, n_threads: int = 1) -> int:
    """Most bytes that a prediction, or a `Predictor`, takes beyond X and `BESIDES`, with what it returns.

    Parameters
    ----------
    network : Network
    rows : int
    n_threads : int, default=1

    Returns
    -------
    int
    """
    real = np.dtype(network.dtype).itemsize
    # parameters packed, and those a `Predictor` keeps to be pickled; the outputs and their labels
    parameters = _packed(network)[1] + network.n_parameters
    return real * (parameters + _scratch(network, n_threads)) + rows * (2 * real * (network.outputs + 1) + 24)


def gradient_bytes(network: Network, rows: int, n_threads: int = 1) -> int:
    """Most bytes that a `Predictor` takes for values and gradients, beyond X and `BESIDES`, with what it returns.

    Parameters
    ----------
    network : Network
    rows : int
    n_threads : int, default=1

    Returns
    -------
    int
    """
    real = np.dtype(network.dtype).itemsize
    widths = [_rounded(network.inputs), *(_rounded(row.outputs) for row in network.table)]
    # outputs, what they were made of, and deltas; up to two numbers for each row of the table
    pair = 3 * sum(widths) + 2 * len(network.table)
    scratch = n_threads * (max(LEAST_PAIRS * pair, PAIR_BYTES // real) + 64 * network.outputs)
    # two classes have both columns
    columns = max(network.outputs, 2)
    returned = rows * real * columns * network.inputs
    return predict_bytes(network, rows, n_threads) + real * (_packed(network)[0] + scratch) + returned


def load_bytes(network: Network) -> int:
    """Most bytes that reading a model file takes beyond `BESIDES`, with the model.

    Parameters
    ----------
    network : Network

    Returns
    -------
    int
    """
    real = np.dtype(network.dtype).itemsize
    # the file's bytes, the vector made of them, and whether each of its numbers is finite
    return math.ceil(network.n_parameters * (2 * real + 1))
