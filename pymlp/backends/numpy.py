"""The NumPy backend: the readable definition of what the other two compute.

Written for the reader, not for speed: each verb is the textbook formula over whole arrays, in the network's dtype.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from pymlp.backends import BLOCK_ROWS, StoppedError, checked_batch_size, shuffle_by_numpy
from pymlp.backends.plan_predictor import PlanPredictor
from pymlp.config import resolve_threads
from pymlp.functions import ACTIVATIONS
from pymlp.layers import KINDS, Moment
from pymlp.network import Network
from pymlp.optimizers import AVERAGING, DECAY, Optimizer, clipped
from pymlp.rows import counted_rows


def penalties(network: Network, params: np.ndarray, gradient: np.ndarray) -> float:
    """L1 and L2 of the weights, not divided; their gradient is added to `gradient`."""
    total = 0.0
    for part in network.layout:
        W = params[part.weight]
        if network.l2:
            total += 0.5 * network.l2 * float(np.square(W, dtype=np.float64).sum())
            gradient[part.weight] += network.l2 * W
        if network.l1:
            total += network.l1 * float(np.abs(W).sum(dtype=np.float64))
            gradient[part.weight] += network.l1 * np.sign(W)
    return total


def train_steps(
    plan: Any,
    optimizer: Optimizer,
    params: np.ndarray,
    slots: np.ndarray,
    step: int,
    X: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None,
    order: np.ndarray,
    starts: np.ndarray,
    rates: np.ndarray,
    losses: np.ndarray,
) -> None:
    """What `Plan.train_steps` is: the loop of a plan's `loss_gradient` and `update` over the batches."""
    sizes = np.diff(starts)
    if starts[0] < 0 or starts[-1] > len(order) or (sizes < 0).any() or (sizes > plan.batch_size).any():
        raise ValueError(
            f"starts must rise from at least 0 to at most {len(order)}, the length of order, in batches of at most "
            f"batch_size={plan.batch_size} rows, got {starts}"
        )
    used = order[starts[0] : starts[-1]]
    if len(used) and (used.min() < 0 or used.max() >= X.shape[0]):
        raise IndexError(f"order holds a row number outside the {X.shape[0]} rows of X")
    gradient = np.empty_like(params)
    for i in range(len(rates)):
        rows = order[starts[i] : starts[i + 1]]
        batch_weight = None if weight is None else weight[rows]
        losses[i] = plan.loss_gradient(params, X[rows], y[rows], batch_weight, gradient, step + i)
        if (len(rows) if batch_weight is None else batch_weight.sum(dtype=np.float64)) != 0:
            plan.update(optimizer, params, gradient, slots, step + i, rates[i])


class Plan:
    """See `pymlp.backends.Plan`."""

    def __init__(self, network: Network, batch_size: int, n_threads: int | None = None) -> None:
        self.network, self.batch_size = network, checked_batch_size(batch_size)
        self.n_threads = int(resolve_threads(n_threads).value)
        self._stopped = False

    def shuffle(self, orders: np.ndarray, source: np.random.RandomState | np.random.Generator) -> None:
        """Shuffle `orders`."""
        shuffle_by_numpy(orders, source)

    def stop(self) -> None:
        """Ask the verb that is running, or else the next one, to raise StoppedError soon."""
        self._stopped = True

    def entry(self, optimizer: Optimizer) -> None:
        """There is no C."""

    def _check_stop(self) -> None:
        if self._stopped:
            self._stopped = False
            raise StoppedError("stopped on request")

    def _activate(self, number: int, z: np.ndarray) -> np.ndarray:
        row = self.network.table[number]
        if not KINDS[row.kind].activates:
            return z
        last = number == len(self.network.table) - 1
        return ACTIVATIONS[row.activation].apply(z, self.network.loss_function.group if last else 1)

    def _forward_pass(
        self, params: np.ndarray, X: np.ndarray, moment: Moment
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Pre-activations of every row of the table, and outputs of every row with X before them."""
        pre_activations, outputs = [], [X]
        for row, parts in zip(self.network.table, self.network.parts(params), strict=True):
            self._check_stop()
            second = outputs[row.second] if row.second >= 0 else None
            z = KINDS[row.kind].forward(row, parts, outputs[row.source], second, moment)
            pre_activations.append(z)
            outputs.append(self._activate(row.number, z))
        return pre_activations, outputs

    @np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
    def row_outputs(self, params: np.ndarray, X: np.ndarray) -> list[np.ndarray]:
        """What every row of the table writes, in inference."""
        return self._forward_pass(params, X, self._moment(None, 0))[1][1:]

    def _backward_pass(
        self,
        params: np.ndarray,
        pre_activations: list[np.ndarray],
        outputs: list[np.ndarray],
        deltas: np.ndarray,
        moment: Moment,
        gradient: np.ndarray | None,
        x_gradient: np.ndarray | None = None,
    ) -> None:
        """Carry `deltas`, the gradient by the last pre-activations, back; adds into `gradient`, fills `x_gradient`."""
        table, parts = self.network.table, self.network.parts(params)
        # by the outputs of each buffer, as far as they are known; a buffer that two rows read gets the sum
        by_output: list[np.ndarray | None] = [None] * len(outputs)
        for row in reversed(table):
            self._check_stop()
            kind, x, z = KINDS[row.kind], outputs[row.source], pre_activations[row.number]
            if row.number < len(table) - 1:
                deltas = by_output[row.number + 1]
                if kind.activates:
                    deltas = ACTIVATIONS[row.activation].pullback(z, outputs[row.number + 1], deltas)
            if gradient is not None:
                found = kind.gradient(row, parts[row.number], x, z, deltas)
                for part, values in zip(row.parts, found, strict=True):
                    gradient[part.place] += values.ravel()
            if row.number == 0 and x_gradient is None:
                return
            for buffer, values in zip(
                (row.source, row.second), kind.backward(row, parts[row.number], x, z, deltas, moment), strict=True
            ):
                if values is not None:
                    before = by_output[buffer]
                    by_output[buffer] = values if before is None else before + values
        x_gradient[...] = by_output[0]

    @np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
    def forward(
        self, params: np.ndarray, X: np.ndarray, out: np.ndarray, step: int | None = None, row_offset: int = 0
    ) -> None:
        """Write network(X) into `out`."""
        for start in range(0, X.shape[0], BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            out[rows] = self._forward_pass(params, X[rows], self._moment(step, row_offset + start))[1][-1]

    def _moment(self, step: int | None, first_row: int) -> Moment:
        return Moment(self.network.seed, step, first_row)

    @np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
    def backward(
        self,
        params: np.ndarray,
        X: np.ndarray,
        output_gradient: np.ndarray,
        gradient: np.ndarray | None = None,
        x_gradient: np.ndarray | None = None,
        step: int | None = None,
        row_offset: int = 0,
    ) -> None:
        """Gradients of ``sum(network(X) * output_gradient)`` to the parameters and to X."""
        self._check_rows(X.shape[0])
        if gradient is not None:
            gradient[:] = 0
        last, group = ACTIVATIONS[self.network.output_activation], self.network.loss_function.group
        for start in range(0, X.shape[0], BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            moment = self._moment(step, row_offset + start)
            pre_activations, outputs = self._forward_pass(params, X[rows], moment)
            deltas = last.pullback(pre_activations[-1], outputs[-1], output_gradient[rows], group)
            part = None if x_gradient is None else x_gradient[rows]
            self._backward_pass(params, pre_activations, outputs, deltas, moment, gradient, part)

    @np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
    def loss_gradient(
        self,
        params: np.ndarray,
        X: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray | None,
        gradient: np.ndarray,
        step: int | None = None,
        row_offset: int = 0,
    ) -> float:
        """Mean loss with the penalties; its gradient overwrites `gradient`."""
        self._check_rows(X.shape[0])
        network, loss = self.network, self.network.loss_function
        gradient[:] = 0
        weight_sum = float(X.shape[0]) if weight is None else float(weight.sum(dtype=np.float64))
        if weight_sum == 0.0:
            return 0.0
        total = 0.0
        X = counted_rows(X, weight)
        for start in range(0, X.shape[0], BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            moment = self._moment(step, row_offset + start)
            pre_activations, outputs = self._forward_pass(params, X[rows], moment)
            values, deltas = loss.both(y[rows], outputs[-1], pre_activations[-1])
            if weight is not None:
                # a row of weight zero counts as removed, even where its loss is infinite
                values = np.where(weight[rows] == 0, 0, values * weight[rows])
                deltas = np.where(weight[rows, None] == 0, 0, deltas * weight[rows, None])
            total += float(values.sum(dtype=np.float64))
            self._backward_pass(params, pre_activations, outputs, deltas, moment, gradient)
        total += penalties(network, params, gradient)
        gradient /= weight_sum
        return total / weight_sum

    @np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
    def update(
        self,
        optimizer: Optimizer,
        params: np.ndarray,
        gradient: np.ndarray,
        slots: np.ndarray,
        step: int,
        rate: float,
    ) -> None:
        """One step of the optimizer, in place: clip, decay, the rule, largest norms, average."""
        numbers = optimizer.coefficients(step, np.array([rate]))[0].tolist()
        for part in self.network.layout:
            params[part.weight] -= numbers[DECAY] * params[part.weight]
        optimizer.apply(params, clipped(optimizer, gradient), slots, numbers)
        for row, parts in zip(self.network.table, self.network.parts(params), strict=True):
            if row.max_norm:
                norms = np.sqrt(np.square(parts[0]).sum(axis=0))
                parts[0] *= np.where(norms > row.max_norm, row.max_norm / norms, 1).astype(params.dtype)
        if optimizer.average is not None:
            slots[-1] += numbers[AVERAGING] * (params - slots[-1])

    def train_steps(
        self,
        optimizer: Optimizer,
        params: np.ndarray,
        slots: np.ndarray,
        step: int,
        X: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray | None,
        order: np.ndarray,
        starts: np.ndarray,
        rates: np.ndarray,
        losses: np.ndarray,
    ) -> None:
        """The loop of `loss_gradient` and `update` over the batches."""
        train_steps(self, optimizer, params, slots, step, X, y, weight, order, starts, rates, losses)

    def _check_rows(self, rows: int) -> None:
        if rows > self.batch_size:
            raise ValueError(f"{rows} rows exceed the plan's batch_size={self.batch_size}")


Predictor = functools.partial(PlanPredictor, Plan)
