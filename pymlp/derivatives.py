"""A network's derivatives as functions: pullbacks of outputs, and a loss over given rows with its gradient.

`Network.vjp` is for objectives of one's own (policy gradients, physics, several networks in one loss): the caller says
how they follow the outputs, the engine carries that on to the parameters and the inputs.  `Network.flat_objective` is
for optimisers and samplers of one's own, which want a number and a gradient at a point of one flat vector.  Nothing is
computed here: both are the verbs of a plan (see `pymlp.backends`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from pymlp import backends
from pymlp.arrays import finite_numbers, packed, refuse_others
from pymlp.backends import Plan
from pymlp.config import config_context, requested, resolve_threads
from pymlp.full_batch import FullBatch, penalty
from pymlp.inference import block_rows, checked_rows, outputs_of
from pymlp.interruptible import DIRECT_SECONDS, copied, run_interruptibly, training_seconds
from pymlp.memory import plan_bytes
from pymlp.network import Network
from pymlp.rows import as_taken
from pymlp.sparse_rows import SparseRows
from pymlp.training import check_data, check_step, check_weight

# plans that wait with their network for the next call, and the most memory of one: to make a plan, and to touch its
# memory for the first time, takes ten times as long as a step of a small network
KEPT_PLANS = 4
KEPT_BYTES = 256 << 20
# a gradient of so short a guess takes no longer than NumPy's calls for the loss
BRIEF_SECONDS = 5e-4


class Pullback:
    """What `Network.vjp` gives: carries a gradient by the outputs back to the parameters and to X.

    Any number of threads may call one at the same time.  It differentiates at the parameters and rows that `vjp` got,
    whatever has become of those arrays since.
    """

    def __init__(
        self,
        network: Network,
        params: np.ndarray,
        X: np.ndarray | SparseRows,
        shape: tuple[int, ...],
        step: int | None,
        choice: _Choice,
    ) -> None:
        self.network = network
        self._params, self._X, self._shape, self._step, self._choice = params, X, shape, step, choice

    def __call__(self, output_gradient: Any, *, gradient: bool = True, x_gradient: bool = False) -> Any:
        """Gradients of ``sum(outputs * output_gradient)``.

        Parameters
        ----------
        output_gradient : array-like of the outputs' shape
            Gradient of the objective by each output, (rows, outputs).
        gradient : bool, default=True
            Whether the gradient by the parameters is asked for: an array of shape (n_parameters,), laid out like them.
            The network's penalties have no part in it.
        x_gradient : bool, default=False
            Whether the gradient by X is: an array of the shape of X, dense where X is sparse.

        Returns
        -------
        ndarray, or pair of ndarray
            What was asked for, in this order, of the network's dtype.

        Raises
        ------
        ValueError
            `output_gradient` is not of the outputs' shape or not finite, or nothing is asked for.
        """
        network, rows = self.network, self._X.shape[0]
        if not gradient and not x_gradient:
            raise ValueError("gradient and x_gradient are both False: nothing is asked for")
        by_output = finite_numbers("output_gradient", output_gradient, network.dtype)
        if by_output.shape != self._shape:
            raise ValueError(f"output_gradient must be of shape {self._shape}, as the outputs, got {by_output.shape}")
        by_output = by_output.reshape(rows, network.outputs)
        X = self._X
        if x_gradient and isinstance(X, SparseRows):
            X = X.toarray()
        by_params = np.empty(network.n_parameters, network.dtype) if gradient else None
        by_x = np.empty(X.shape, network.dtype) if x_gradient else None
        with self._choice.plan(network) as plan:
            _run(plan, rows, lambda: plan.backward(self._params, X, by_output, by_params, by_x, self._step))
        if by_x is not None:
            by_x = by_x.reshape(*self._shape[:-1], network.inputs)
        found = tuple(each for each in (by_params, by_x) if each is not None)
        return found if len(found) > 1 else found[0]


def vjp(
    network: Network,
    params: Any,
    X: Any,
    *,
    step: int | None = None,
    n_threads: int | None = None,
    backend: str | None = None,
) -> tuple[np.ndarray, Pullback]:
    """See `Network.vjp`."""
    params = network.check_params(finite_numbers("params", params, network.dtype))
    if step is not None:
        step = check_step(step)
    X = checked_rows(network, X)
    shape = (*X.shape[:-1], network.outputs)
    if X.ndim == 1:
        X = X.reshape(1, -1)
    params, X = copied(params), X if isinstance(X, SparseRows) else copied(X)
    rows = X.shape[0]
    outputs = np.empty((rows, network.outputs), network.dtype)
    at_once = block_rows(network.n_parameters)
    choice = _Choice.of(rows, n_threads, backend)
    with choice.plan(network) as plan:
        for start in range(0, rows, at_once):
            part = slice(start, start + at_once)
            # the place in the batch is what masks of dropout go by
            plan.forward(params, X[part], outputs[part], step, start)
    return outputs.reshape(shape), Pullback(network, params, X, shape, step, choice)


class FlatObjective:
    """What `Network.flat_objective` gives: a network's loss over given rows, as a function of the flat parameters.

    ``objective(params)`` is the pair of value and gradient that ``scipy.optimize.minimize(objective, start, jac=True)``
    asks for; `value` and `gradient` are each alone.  Points may be of any real type; the gradient is float64.

    The value is the mean of the rows' losses by their weights, with the network's penalties, without dropout.  It is
    the potential of the gradient: for the losses of numbers that report the mean over several outputs
    (`Loss.potential_factor`), it is the sum over them, which is what training follows.

    Any number of threads may use one at the same time; each that does has scratch memory of its own.  It can be
    pickled, with X and y: the copy chooses backend and threads where it is made.
    """

    def __init__(
        self,
        network: Network,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        n_threads: int | None = None,
        backend: str | None = None,
    ) -> None:
        X, y, _ = check_data(network, X, y, None)
        weight = None
        if sample_weight is not None:
            weight = check_weight(sample_weight, X.shape[0], network.dtype, "sample_weight")
        # once for all who evaluate
        self.network, self._data = network, (as_taken(network, X), y, weight)
        self._whole = float(len(y)) if weight is None else float(weight.sum(dtype=np.float64))
        self._asked = n_threads, backend
        self._begin()

    def _begin(self) -> None:
        n_threads, backend = self._asked
        self._backend = str(backends.choose(backend).value)
        resolve_threads(n_threads)
        # append and pop are atomic
        self._free: list[FullBatch] = []

    def __call__(self, params: Any) -> tuple[float, np.ndarray]:
        """Value and gradient at a point.

        Parameters
        ----------
        params : array-like of shape (n_parameters,)
            Cast to the network's dtype.

        Returns
        -------
        float, ndarray of shape (n_parameters,)
            Of float64; not finite where the point, or what comes of it, is not.

        Raises
        ------
        ValueError
            `params` is of another shape.
        """
        params = self._point(params)
        with self._batch() as batch:
            reported, gradient = batch(params)
        # the penalties are no mean over outputs
        rest = self._factor - 1.0
        value = reported + rest * (reported - self._penalty(params)) if rest else reported
        return float(value), gradient

    def value(self, params: Any) -> float:
        """The value alone, in as little as a third of the time: for samplers, and for searches without gradients.  It
        equals that of a call up to rounding.

        Parameters
        ----------
        params : array-like of shape (n_parameters,)

        Returns
        -------
        float
        """
        params = self._point(params)
        loss, (X, y, weight) = self.network.loss_function, self._data
        if training_seconds(self.network.n_parameters, len(y)) < BRIEF_SECONDS:
            return self(params)[0]
        total, at_once = 0.0, block_rows(self.network.n_parameters)
        with self._batch() as batch, np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            for start in range(0, len(y), at_once):
                part = slice(start, start + at_once)
                values = loss.value(y[part], outputs_of(batch.plan, params, X[part])).astype(np.float64)
                if weight is not None:
                    # a row of weight 0 counts as removed, even where its loss is infinite
                    values = np.where(weight[part] == 0, 0.0, values * weight[part])
                total += float(values.sum())
        return self._factor * total / self._whole + self._penalty(params)

    def gradient(self, params: Any) -> np.ndarray:
        """The gradient alone, as an array of its own: ``scipy.optimize.check_grad(o.value, o.gradient, point)``.

        A difference of values needs more digits than float32 has: check a network of dtype float64.

        Parameters
        ----------
        params : array-like of shape (n_parameters,)

        Returns
        -------
        ndarray of shape (n_parameters,)
        """
        return self(params)[1]

    @property
    def _factor(self) -> float:
        return self.network.loss_function.potential_factor(self.network.outputs)

    def _penalty(self, params: np.ndarray) -> float:
        return penalty(self.network, params) / self._whole

    def _point(self, params: Any) -> np.ndarray:
        refuse_others("params", params)
        params = np.asarray(params)
        if params.shape != (self.network.n_parameters,):
            raise ValueError(f"params must be of shape ({self.network.n_parameters},), got {params.shape}")
        return packed(params, self.network.dtype)

    @contextmanager
    def _batch(self) -> Iterator[FullBatch]:
        try:
            batch = self._free.pop()
        except IndexError:
            batch = FullBatch(backends.get(self._backend), self.network, *self._data, self._asked[0])
        yield batch
        # not where it was interrupted: its plan may have been asked to stop just after the end
        self._free.append(batch)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_free", "_backend")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()


@dataclass(frozen=True)
class _Choice:
    """What decides on a plan.  Not any plan that is large enough would do: a backend may have different ways for
    different sizes, and what was asked before would show in its bits."""

    backend: str
    isa: str | None
    asked_threads: int | None
    n_threads: int
    batch_size: int

    @classmethod
    def of(cls, rows: int, n_threads: int | None, backend: str | None) -> _Choice:
        """For a call of so many rows, at this moment."""
        name, isa = str(backends.choose(backend).value), requested("isa").value
        # powers of two: episodes differ in length
        return cls(name, isa, n_threads, int(resolve_threads(n_threads).value), 1 << max(0, rows - 1).bit_length())

    @contextmanager
    def plan(self, network: Network) -> Iterator[Plan]:
        """A plan that nobody else has: one that waits with the network, or a new one."""
        waiting = network.free_plans
        plan = waiting.pop(self, None)
        is_kept = plan is not None
        if plan is None:
            with config_context(isa=self.isa):
                plan = backends.get(self.backend).Plan(network, self.batch_size, self.asked_threads)
            is_kept = plan_bytes(network, self.batch_size, plan.n_threads) <= KEPT_BYTES
        yield plan
        # not where it was interrupted: it may have been asked to stop just after the end
        if is_kept:
            waiting[self] = plan
            for oldest in list(waiting)[:-KEPT_PLANS]:
                waiting.pop(oldest, None)


def _run(plan: Plan, rows: int, call: Callable[[], Any]) -> Any:
    if training_seconds(plan.network.n_parameters, rows) > DIRECT_SECONDS:
        return run_interruptibly(call, plan.stop)
    return call()
