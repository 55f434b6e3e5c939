"""Arrays in files larger than what may be copied: nothing that reads them takes memory of their size.

NumPy tells `tracemalloc` of its memory, so the peaks below are what was allocated, not what the system keeps of a file.
What an engine takes for itself depends on the batch and the network alone.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from pymlp import MLPClassifier, MLPRegressor, Network, find_learning_rate, train
from pymlp.rows import SMALL_COPY_BYTES, ChosenRows, chosen_rows

pytestmark = pytest.mark.filterwarnings("ignore:.*Maximum iterations:UserWarning")

ROWS, COLUMNS = 160_000, 400
DTYPES = ("float32", "float16", "uint8", "int16")
# two of them are left to the long set: each takes seconds to read
MOST_OFTEN = [
    pytest.param(dtype, marks=pytest.mark.slow) if dtype in ("float16", "int16") else dtype for dtype in DTYPES
]
# an eighth of the largest file: blocks of rows, in float64 where they are scaled
MOST_BYTES = 32 << 20


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Fails if more bytes than `limit` are allocated at the same time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak >> 20} MB"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Memory-mapped matrices of each dtype, and labels that hang on them."""
    folder = tmp_path_factory.mktemp("rows")
    block = np.random.default_rng(0).integers(0, 4, (1000, COLUMNS))
    mapped = {}
    for dtype in DTYPES:
        path = folder / f"{dtype}.npy"
        whole = np.lib.format.open_memmap(path, "w+", dtype, (ROWS, COLUMNS))
        for start in range(0, ROWS, 1000):
            whole[start : start + 1000] = block
        whole.flush()
        del whole
        mapped[dtype] = np.load(path, mmap_mode="r")
    assert mapped["float32"].nbytes > 7 * MOST_BYTES
    return mapped, np.tile(block[:, 0] > 1, ROWS // 1000)


def small(kind: Callable = MLPClassifier, **parameters):
    defaults = {"hidden_layer_sizes": 2, "max_iter": 1, "batch_size": 1000, "random_state": 0, "dtype": "float32"}
    return kind(**{**defaults, **parameters})


@pytest.mark.parametrize("dtype", MOST_OFTEN)
def test_fit_and_predict(files, dtype):
    X, y = files[0][dtype], files[1]
    with at_most(MOST_BYTES):
        model = small().fit(X, y)
        probabilities = model.predict_proba(X)
        assert model.predict(X).shape == (ROWS,)
        model.partial_fit(X, y)
        model.score(X, y)
    # as if it had been an array of the right type
    part = np.array(X[:3000], "float32")
    np.testing.assert_array_equal(probabilities[:3000], small().fit(X, y).predict_proba(part))


@pytest.mark.parametrize(
    ("dtype", "parameters"),
    [
        ("float32", {"early_stopping": True, "validation_fraction": 0.5}),
        pytest.param("uint8", {"early_stopping": True, "validation_fraction": 0.2}, marks=pytest.mark.slow),
        pytest.param("float16", {"standardize": True}, marks=pytest.mark.slow),
        ("float32", {"standardize": True}),
        ("float32", {"solver": "lbfgs"}),
        ("uint8", {"solver": "lbfgs"}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_options(files, dtype, parameters):
    X, y = files[0][dtype], files[1]
    with at_most(MOST_BYTES):
        small(**parameters).fit(X, y)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_regression_validation_rows_and_streams(files, dtype):
    X, y = files[0][dtype], files[1].astype("float32")
    with at_most(MOST_BYTES):
        model = small(MLPRegressor).fit(X, y, X_val=X, y_val=y)
        model.predict(X)
        model.fit_stream([(X[:90_000], y[:90_000]), (X[90_000:], y[90_000:])])


@pytest.mark.parametrize("dtype", MOST_OFTEN)
def test_train(files, dtype):
    X, y = files[0][dtype], files[1].astype("float32")
    network = Network.from_widths((COLUMNS, 2, 1), loss="binary_log_loss")
    with at_most(MOST_BYTES):
        train(network, network.initial_params(0), X, y, X_val=X, y_val=y, epochs=1, batch_size=1000, random_state=0)
        find_learning_rate(network, X, y, steps=10, random_state=0)


def test_chosen_rows_are_copied_where_that_is_little():
    X = np.arange(12.0).reshape(6, 2)
    numbers = np.array([4, 0, 3])
    np.testing.assert_array_equal(chosen_rows(X, numbers), X[numbers])
    lazy = ChosenRows(X, numbers)
    assert (lazy.shape, lazy.dtype) == ((3, 2), X.dtype)
    np.testing.assert_array_equal(lazy[1:3], X[[0, 3]])
    many = np.zeros(SMALL_COPY_BYTES // 16 + 1, np.int64)
    assert isinstance(chosen_rows(X, many), ChosenRows)
