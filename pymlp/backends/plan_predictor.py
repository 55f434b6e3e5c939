"""A predictor made of plans, for the backends that have nothing faster: a call takes a plan that no other call has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import numpy as np

from pymlp.backends import BackendUnavailableError, Plan
from pymlp.config import resolve_threads
from pymlp.network import Network

# rows whose single output becomes two columns in one go
COMPLEMENT_ROWS = 4096
# rows that are differentiated in one go: enough for the products, few enough for small scratch
GRADIENT_ROWS = 256


class PlanPredictor:
    """See `pymlp.backends.Predictor`.

    Parameters
    ----------
    make_plan : callable
        The backend's `Plan`.
    network, params, n_threads, with_complement
        As there.
    """

    # the products are BLAS's, or sums whose order depends on the rows of a block
    exact_cuts = False
    entry = None
    gradient_entry = None

    def __init__(
        self,
        make_plan: Callable[..., Plan],
        network: Network,
        params: np.ndarray,
        n_threads: int | None = None,
        *,
        with_complement: bool = False,
    ) -> None:
        self.network = network
        self.columns = 2 if with_complement else network.outputs
        # fixed now, as the rest is: the plan of a later call must not follow a configuration of that time
        self.n_threads = int(resolve_threads(n_threads).value)
        self._make_plan = make_plan
        self._params = network.check_params(params).copy()
        self._with_complement = with_complement
        # by their batch sizes; append and pop are atomic
        self._free: dict[int, list[Plan]] = {1: [], GRADIENT_ROWS: []}

    @contextmanager
    def _plan(self, batch_size: int) -> Iterator[Plan]:
        """A plan that no other call has."""
        free = self._free[batch_size]
        try:
            plan = free.pop()
        except IndexError:
            plan = self._make_plan(self.network, batch_size, self.n_threads)
        try:
            yield plan
        finally:
            free.append(plan)

    def predict(self, X: np.ndarray, out: np.ndarray) -> None:
        """Write network(X) into `out`."""
        with self._plan(1) as plan:
            if self._with_complement:
                self._predict_both(plan, X, out)
            else:
                plan.forward(self._params, X, out)

    def value_and_gradient(self, X: np.ndarray, out: np.ndarray | None, jacobian: np.ndarray) -> None:
        """Write network(X) into `out`, if there is one, and its derivative by X into `jacobian`."""
        if out is not None:
            self.predict(X, out)
        with self._plan(GRADIENT_ROWS) as plan:
            for start in range(0, len(X), GRADIENT_ROWS):
                rows = X[start : start + GRADIENT_ROWS]
                part = jacobian[start : start + GRADIENT_ROWS]
                by_input = np.empty_like(rows)
                for column in range(self.network.outputs):
                    by_output = np.zeros((len(rows), self.network.outputs), self.network.dtype)
                    by_output[:, column] = 1
                    plan.backward(self._params, rows, by_output, None, by_input)
                    # of the two columns of `with_complement` the second
                    part[:, column - self.network.outputs] = by_input
                if self._with_complement:
                    np.negative(by_input, out=part[:, 0])

    def callback(self, scale: tuple[np.ndarray, np.ndarray] | None, column: int) -> NoReturn:
        """There is nothing to call."""
        raise BackendUnavailableError(
            "this predictor has no compiled code that other programs could call: it was made under the NumPy backend; "
            "make it under pymlp.config_context(backend='c'), or backend='numba'"
        )

    def _predict_both(self, plan: Plan, X: np.ndarray, out: np.ndarray) -> None:
        for start in range(0, len(X), COMPLEMENT_ROWS):
            rows = X[start : start + COMPLEMENT_ROWS]
            outputs = np.empty((len(rows), 1), self.network.dtype)
            plan.forward(self._params, rows, outputs)
            both = out[start : start + COMPLEMENT_ROWS]
            np.subtract(1, outputs, out=both[:, :1])
            both[:, 1:] = outputs
