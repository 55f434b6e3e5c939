"""What a user's call adds to the engine's steps: ``fit`` over 20 epochs, and one epoch of Python.

The reference is a single `train_steps` over the same batches in the same order, so both end with the same bytes.  The
share that validation, drawing, shuffling and the epoch loop add is the price of the estimator.
"""

from __future__ import annotations

import mmap
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from cases import SEED, TRAINING_CASES, TrainingCase
from interleaved import race
from training_run import RATE

import pymlp
from pymlp import backends
from pymlp.memory import plan_bytes
from pymlp.optimizers import Adam, new_slots

CASES = TRAINING_CASES
EPOCHS = 20
# rows of the data, and operations of a fit: ten thousand rows, fewer where a step takes long
MOST_ROWS = 10_000
MOST_FLOPS = 400e9
# memory of a fit from which on it is touched beforehand
LEAST_WARMED_BYTES = 64 << 20
# a fit differs from its steps by less than two of them that take a second do from each other
LEAST_ROUNDS = 7
# epochs of one batch that show what an epoch costs in Python
SHORT_EPOCHS = 1000


@dataclass(frozen=True)
class Fit:
    """One case as a user would fit it: an estimator, its data, and the same steps as arrays."""

    case: TrainingCase
    dtype: str
    rows: int
    epochs: int

    def model(self) -> pymlp.MLPClassifier | pymlp.MLPRegressor:
        """An estimator that stops for nothing but `max_iter`."""
        estimator: Any = pymlp.MLPRegressor if self.case.loss == "squared_error" else pymlp.MLPClassifier
        return estimator(
            hidden_layer_sizes=self.case.widths[1:-1],
            batch_size=self.case.batch_size,
            learning_rate_init=RATE,
            alpha=0.0,
            max_iter=self.epochs,
            n_iter_no_change=self.epochs,
            random_state=SEED,
        )

    def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs, targets as the estimator takes them, targets as the engine takes them."""
        X, y = self.case.data(-(-self.rows // self.case.batch_size), self.dtype)
        X, y = X[: self.rows], y[: self.rows]
        if self.case.loss == "squared_error":
            return X, y.ravel(), y
        if self.case.loss == "log_loss":
            # no class may be missing
            y[: y.shape[1]] = np.eye(y.shape[1], dtype=self.dtype)
            return X, y.argmax(axis=1), y
        return X, y.astype(np.int64), y

    def bare(self, X: np.ndarray, y: np.ndarray) -> BareSteps:
        """The steps of the fit, in one call."""
        draw = np.random.RandomState(SEED)
        network = self.case.network(self.dtype)
        params = network.initial_params(draw)
        order, orders = np.arange(self.rows), []
        for _ in range(self.epochs):
            positions = np.arange(self.rows)
            draw.shuffle(positions)
            order = order[positions]
            orders.append(order)
        starts = np.arange(0, self.rows, self.case.batch_size)
        starts = np.concatenate([epoch * self.rows + starts for epoch in range(self.epochs)])
        return BareSteps(self.case, X, y, params, np.concatenate(orders), np.append(starts, self.epochs * self.rows))


class BareSteps:
    """One call of `train_steps` on a plan that is ready."""

    def __init__(
        self,
        case: TrainingCase,
        X: np.ndarray,
        y: np.ndarray,
        params: np.ndarray,
        order: np.ndarray,
        starts: np.ndarray,
    ) -> None:
        self.plan = backends.get("c").Plan(case.network(X.dtype.name), case.batch_size)
        self.optimizer = Adam()
        self.first_params, self.params = params, params.copy()
        self.slots = new_slots(self.optimizer, len(params), X.dtype.name)
        steps = len(starts) - 1
        self.arguments = (X, y, None, order, starts, np.full(steps, RATE), np.empty(steps))

    def rewind(self) -> None:
        """Go back to the first parameters."""
        self.params[:] = self.first_params
        self.slots[:] = 0

    def take(self) -> None:
        """All steps of all epochs."""
        self.plan.train_steps(self.optimizer, self.params, self.slots, 0, *self.arguments)


def rows_of(case: TrainingCase) -> int:
    """As many rows as stay within the limits, but a batch at least."""
    affordable = int(MOST_FLOPS / EPOCHS / case.flops * case.batch_size)
    return max(case.batch_size, min(MOST_ROWS, affordable))


def _warm_pages(bare: BareSteps) -> None:
    """Have the machine own the memory that a fit will ask for: parameters, slots and plan, of which `bare` has its own.

    Virtual machines give pages that stay free for some seconds back to their host, and to fetch one again takes fifty
    times as long as to clear it: two seconds for a gigabyte, where the bare steps need none.  A small network finds its
    pages in the process, and its data in the caches, from which this would drive them.
    """
    network, batch_size = bare.plan.network, bare.plan.batch_size
    size = int(plan_bytes(network, batch_size, 2) + 6 * bare.params.nbytes)
    if size > LEAST_WARMED_BYTES:
        np.empty(size, np.uint8)[:: mmap.PAGESIZE] = 0


def _race(benchmark: Any, fit: Fit) -> int:
    """Race the fit against its steps, compare the bytes, and return the number of steps."""
    X, labels, y = fit.data()
    model, bare = fit.model(), fit.bare(X, y)
    # max_iter ends these fits, and they say so
    with warnings.catch_warnings(), pymlp.config_context(backend="c"):
        warnings.simplefilter("ignore", category=UserWarning)
        race(
            benchmark,
            lambda: model.fit(X, labels),
            bare.take,
            1,
            1,
            before_contestant=lambda: _warm_pages(bare),
            before_reference=bare.rewind,
            # the same engine on both sides, whose threads rest at once: a pause would only cool one's caches
            settle_seconds=0,
            least_rounds=LEAST_ROUNDS,
        )

    bare.rewind()
    bare.take()
    fitted = [part.ravel() for pair in zip(model.coefs_, model.intercepts_, strict=True) for part in pair]
    assert np.concatenate(fitted).tobytes() == bare.params.tobytes()
    return len(bare.arguments[-1])


@pytest.mark.skipif(backends.missing_reason("c") is not None, reason="the C engine was not built")
def test_fit_overhead(benchmark, case):
    benchmark.group = "fit against bare steps"
    # the checks alone need no 20 epochs
    fit = Fit(case, "float32", rows_of(case), 2 if benchmark.disabled else EPOCHS)

    steps = _race(benchmark, fit)

    benchmark.extra_info.update(
        kind="fit overhead",
        case=case.name,
        dtype="float32",
        contestant="c",
        rows=fit.rows,
        epochs=fit.epochs,
        steps=steps,
    )


@pytest.mark.skipif(backends.missing_reason("c") is not None, reason="the C engine was not built")
def test_epoch_overhead(benchmark):
    benchmark.group = "an epoch in Python"
    case = next(case for case in CASES if case.name == "tiny")

    _race(benchmark, Fit(case, "float32", case.batch_size, SHORT_EPOCHS))

    if not benchmark.disabled:
        info = benchmark.extra_info
        info["epoch_seconds"] = (info["seconds"] - info["reference_seconds"]) / SHORT_EPOCHS
    benchmark.extra_info.update(
        kind="epoch overhead", case=case.name, dtype="float32", contestant="c", epochs=SHORT_EPOCHS
    )
