"""Whole fits to sparse rows (CSR) against fits to the same rows as an array, in float32.

The reference reads every number, the contestant those that are not 0.  Both update all weights in each step, which is
most of what the contestant does; so the ratio grows with the batch and with the share of zeros, up to that.  In the C
engine the two end with the same bytes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from cases import SEED
from interleaved import race
from scipy import sparse

import pymlp


@dataclass(frozen=True)
class SparseCase:
    """A random matrix, and the network that is fitted to it."""

    name: str
    rows: int
    columns: int
    share: float
    hidden: int
    batch_size: int
    solver: str
    dtypes: tuple[str, ...] = ("float32",)

    def data(self) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Rows in CSR form and two classes."""
        draw = np.random.default_rng(SEED)
        lengths = draw.poisson(self.share * self.columns, self.rows)
        places = np.concatenate([np.sort(draw.choice(self.columns, length, replace=False)) for length in lengths])
        values = draw.random(len(places), np.float32) + np.float32(0.1)
        X = sparse.csr_matrix((values, places, np.append(0, np.cumsum(lengths))), (self.rows, self.columns))
        return X, draw.integers(2, size=self.rows)


CASES = (
    SparseCase("1 % of 10,000 columns", 20_000, 10_000, 0.01, 128, 200, "adam"),
    SparseCase("1 % of 10,000 columns, sgd", 20_000, 10_000, 0.01, 128, 200, "sgd"),
    SparseCase("text: 60 of 30,000 words", 6_000, 30_000, 0.002, 64, 200, "adam"),
    SparseCase("1 % of 1,000 columns", 20_000, 1_000, 0.01, 100, 200, "adam"),
)


def test_fit_to_sparse_rows(benchmark, case, dtype):
    benchmark.group = f"sparse {case.name} {dtype}"
    if pymlp.backends.missing_reason("c") is not None:
        pytest.skip("the ratio is that of the C engine")
    X, y = case.data()
    dense = X.toarray()
    model = pymlp.MLPClassifier(
        case.hidden, solver=case.solver, batch_size=case.batch_size, max_iter=2, random_state=SEED
    )
    reference = pymlp.MLPClassifier(**model.get_params())
    # max_iter ends these fits, and both say so
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)
        race(benchmark, lambda: model.fit(X, y), lambda: reference.fit(dense, y), 1, 1)
    assert model.params_.tobytes() == reference.params_.tobytes()
    benchmark.extra_info.update(kind="sparse", case=case.name, dtype=dtype, contestant="c")
