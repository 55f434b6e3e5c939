"""The Numba backend: compiled when it is first used, for machines where no C compiler built the engine.

It computes what `pymlp.backends.numpy` defines, to rounding.  A small network runs on kernels of its own
(`numba_small`: whole runs of steps in one compiled call, on one thread), a large one on NumPy's matrix products
(`numba_wide`: as many threads as NumPy's BLAS takes, which `n_threads` does not reach).  Compiled code is kept on disk,
so only the first use on a machine waits for the compiler.  The GIL is free while compiled code and products run.
Sparse rows are left to the definition, whose products never touch what is not there.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from pymlp.backends import StoppedError, callable_loss, checked_batch_size, shuffle_by_numpy
from pymlp.backends import numpy as numpy_backend
from pymlp.backends.numba_small import SmallNetwork
from pymlp.backends.numba_wide import WideNetwork, flat_pieces, optimize, step_rule
from pymlp.backends.plan_predictor import PlanPredictor
from pymlp.config import resolve_threads
from pymlp.losses import CustomLoss
from pymlp.network import Network
from pymlp.optimizers import Optimizer
from pymlp.sparse_rows import SparseRows

if TYPE_CHECKING:
    from pymlp.backends.numba_callbacks import Callback

# A step of fewer multiply-adds takes one thread of the tile no longer than NumPy's BLAS takes on two cores, which busy
# neighbours slow down several times; below so many parameters the layers are too narrow for BLAS whatever the batch;
# above so many the padded copy of each verb costs too much.
SMALL_STEP = 30_000_000
SMALL_PARAMETERS = 32_768
MOST_PARAMETERS = 262_144


def is_small(network: Network, batch_size: int) -> bool:
    """Whether the network runs on kernels of its own."""
    parameters = network.n_parameters
    small_step = parameters * batch_size * 3 <= SMALL_STEP
    return parameters <= SMALL_PARAMETERS or (small_step and parameters <= MOST_PARAMETERS)


def _taken_for_writable(array: np.ndarray) -> np.ndarray:
    """A view of a read-only array that does not say so; the verbs do not write into it, and the caller keeps it alive.

    Read-only arrays (memory-mapped ones, say) are a type of their own to Numba, and would be compiled for once more.
    """
    if array.size == 0:
        return np.empty(array.shape, array.dtype)
    memory = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
    return np.frombuffer(memory, array.dtype).reshape(array.shape)


class Plan:
    """See `pymlp.backends.Plan`.

    Raises
    ------
    ValueError
        A verb got an array of another shape, dtype or memory order than it takes.
    RuntimeError
        Two threads used the plan at the same time.
    """

    def __init__(self, network: Network, batch_size: int, n_threads: int | None = None) -> None:
        self.network, self.batch_size = network, checked_batch_size(batch_size)
        self.n_threads = int(resolve_threads(n_threads).value)
        self._loss_is_called = isinstance(network.loss_function, CustomLoss)
        self._stop = np.zeros(1, np.int64)
        self._busy = threading.Lock()
        self._definition = numpy_backend.Plan(network, batch_size)
        if is_small(network, self.batch_size):
            self._engine = SmallNetwork(network, self._stop)
        else:
            self._engine = WideNetwork(network, self.batch_size, self._stop)

    def shuffle(self, orders: np.ndarray, source: np.random.RandomState | np.random.Generator) -> None:
        """Shuffle `orders`."""
        shuffle_by_numpy(orders, source)

    def stop(self) -> None:
        """Ask the verb that is running, or else the next one, to raise StoppedError soon."""
        self._stop[0] = 1
        self._definition.stop()

    def entry(self, optimizer: Optimizer) -> None:
        """There is no C."""

    def forward(
        self, params: np.ndarray, X: np.ndarray, out: np.ndarray, step: int | None = None, row_offset: int = 0
    ) -> None:
        """Write network(X) into `out`."""
        if isinstance(X, SparseRows):
            with self._running():
                self._definition.forward(params, X, out, step, row_offset)
            return
        params = self._checked_params(params)
        X = self._checked("X", X, (None, self.network.inputs))
        self._checked("out", out, (len(X), self.network.outputs), writes=True)
        with self._running():
            self._engine.forward(params, X, out, step, row_offset)

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
        if isinstance(X, SparseRows):
            with self._running():
                self._definition.backward(params, X, output_gradient, gradient, x_gradient, step, row_offset)
            return
        params = self._checked_params(params)
        X = self._checked("X", X, (None, self.network.inputs), batch=True)
        output_gradient = self._checked("output_gradient", output_gradient, (len(X), self.network.outputs))
        if gradient is None:
            gradient = np.empty(0, self.network.dtype)
        else:
            self._checked("gradient", gradient, params.shape, writes=True)
        if x_gradient is None:
            x_gradient = np.empty((0, self.network.inputs), self.network.dtype)
        else:
            self._checked("x_gradient", x_gradient, X.shape, writes=True)
        with self._running():
            self._engine.backward(params, X, output_gradient, gradient, x_gradient, step, row_offset)

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
        if self._loss_is_called:
            return callable_loss.loss_gradient(self, params, X, y, weight, gradient, step, row_offset)
        if isinstance(X, SparseRows):
            with self._running():
                return self._definition.loss_gradient(params, X, y, weight, gradient, step, row_offset)
        params = self._checked_params(params)
        X = self._checked("X", X, (None, self.network.inputs), batch=True)
        y, weight = self._checked_targets(X, y, weight)
        self._checked("gradient", gradient, params.shape, writes=True)
        with self._running():
            return float(self._engine.loss_gradient(params, X, y, weight, gradient, step, row_offset))

    def update(
        self, optimizer: Optimizer, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, step: int, rate: float
    ) -> None:
        """One step of the optimizer, in place; weight decay spares the biases."""
        self._checked_params(params, writes=True)
        gradient = self._checked("gradient", gradient, params.shape)
        self._checked("slots", slots, (optimizer.n_slots, len(params)), writes=True)
        numbers = optimizer.coefficients(step, np.array([rate]))[0].astype(self.network.dtype)
        if (optimizer.clip_value, optimizer.clip_norm) != (None, None):
            # clipped in place
            gradient = gradient.copy()
        with self._running():
            rule = step_rule(optimizer, self.network)
            optimize(flat_pieces(self.network), *rule, numbers, params, gradient, slots)

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
        if isinstance(X, SparseRows):
            numpy_backend.train_steps(self, optimizer, params, slots, step, X, y, weight, order, starts, rates, losses)
            return
        self._checked_params(params, writes=True)
        self._checked("slots", slots, (optimizer.n_slots, len(params)), writes=True)
        X = self._checked("X", X, (None, self.network.inputs))
        y, weight = self._checked_targets(X, y, weight)
        steps = len(rates)
        order = self._checked("order", order, (None,), np.int64)
        starts = self._checked("starts", starts, (steps + 1,), np.int64)
        rates = self._checked("rates", rates, (steps,), np.float64)
        self._checked("losses", losses, (steps,), np.float64, writes=True)
        self._check_batches(order, starts, len(X))
        if self._loss_is_called:
            given = None if weight.size == 0 else weight
            callable_loss.train_steps(self, optimizer, params, slots, step, X, y, given, order, starts, rates, losses)
            return
        coefficients = optimizer.coefficients(step, rates).astype(self.network.dtype)
        with self._running():
            self._engine.train(optimizer, coefficients, params, slots, step, X, y, weight, order, starts, losses)

    @contextmanager
    def _running(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("a plan is used by one thread at a time: make one for each thread")
        try:
            # the kernels poll the request and return early, also when it came before the call
            with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
                yield
            if self._stop[0]:
                raise StoppedError("stopped on request")
        except StoppedError:
            self._stop[0] = 0
            self._definition = numpy_backend.Plan(self.network, self.batch_size)
            raise
        finally:
            self._busy.release()

    def _checked(
        self,
        name: str,
        array: np.ndarray,
        shape: tuple[int | None, ...],
        dtype: object = None,
        *,
        batch: bool = False,
        writes: bool = False,
    ) -> np.ndarray:
        """The array, if it is C-contiguous, of the dtype and shape (None: any length) and fits the batch."""
        wanted = np.dtype(self.network.dtype if dtype is None else dtype)
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} must be an array, got {type(array).__name__}")
        fits = array.ndim == len(shape) and all(
            want in (None, found) for want, found in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype != wanted or not array.flags.c_contiguous or not array.flags.aligned:
            sizes = ", ".join("any" if size is None else str(size) for size in shape)
            order = "" if array.flags.c_contiguous else ", not C-contiguous"
            order += "" if array.flags.aligned else ", not aligned"
            raise ValueError(
                f"{name} must be a C-contiguous {wanted} array of shape ({sizes}), "
                f"got {array.dtype} {array.shape}{order}"
            )
        if batch and len(array) > self.batch_size:
            raise ValueError(f"{len(array)} rows exceed the plan's batch_size={self.batch_size}")
        if array.flags.writeable:
            return array
        if writes:
            raise ValueError(f"{name} is written to, but the array is read-only")
        return _taken_for_writable(array)

    def _checked_params(self, params: np.ndarray, *, writes: bool = False) -> np.ndarray:
        return self._checked("params", params, (self.network.n_parameters,), writes=writes)

    def _checked_targets(
        self, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Check y and weight against X; an empty array stands for no weight."""
        y = self._checked("y", y, (len(X), self.network.outputs))
        if weight is None:
            return y, np.empty(0, self.network.dtype)
        return y, self._checked("weight", weight, (len(X),))

    def _check_batches(self, order: np.ndarray, starts: np.ndarray, rows: int) -> None:
        sizes = np.diff(starts)
        if starts[0] < 0 or starts[-1] > len(order) or (sizes < 0).any():
            raise ValueError(f"starts must rise from at least 0 to at most {len(order)}, the length of order")
        if sizes.size and sizes.max() > self.batch_size:
            raise ValueError(f"a batch of {sizes.max()} rows exceeds the plan's batch_size={self.batch_size}")
        used = order[starts[0] : starts[-1]]
        if used.size and (used.min() < 0 or used.max() >= rows):
            raise IndexError(f"order holds a row number outside the {rows} rows of X")


class Predictor(PlanPredictor):
    """See `pymlp.backends.Predictor`."""

    __init__ = functools.partialmethod(PlanPredictor.__init__, Plan)

    def callback(self, scale: tuple[np.ndarray, np.ndarray] | None, column: int) -> Callback:
        """This predictor as functions that other programs call by their addresses."""
        from pymlp.backends.numba_callbacks import Callback

        return Callback(self, self._params, scale)
