"""The narrow interface between Python and the arithmetic, and the choice of a backend.

Each backend is a module with two classes (the protocols below).  ``Plan`` is what the backend makes of a `Network` for
one batch size and thread count; it owns scratch memory and threads, never parameter values.  ``Predictor`` is a network
with its parameters, for inference alone.  Arrays are C-contiguous and
of the network's dtype; whoever calls a verb has checked shapes and finiteness once before the first one.  Where a
network `takes_sparse`, X may be `SparseRows`; then there is no ``x_gradient``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from numbers import Integral
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

import numpy as np

from pymlp.config import BACKENDS, Choice, requested
from pymlp.forks import drawing

if TYPE_CHECKING:
    from pymlp.network import Network
    from pymlp.optimizers import Optimizer

# rows of a block: the gradients of a longer batch are added block by block, in order (bounded scratch, and in float32
# one chain over a million rows would lose three digits)
BLOCK_ROWS = 4096


# rows are counted by 64 bits
MOST_ROWS = 2**63 - 1


def checked_batch_size(batch_size: int) -> int:
    """A plan's batch size as an int; ValueError if it is no number of rows."""
    if not isinstance(batch_size, Integral) or isinstance(batch_size, bool) or not 1 <= batch_size <= MOST_ROWS:
        raise ValueError(f"batch_size must be an integer from 1 to {MOST_ROWS}, got {batch_size!r}")
    return int(batch_size)


def shuffle_by_numpy(orders: np.ndarray, source: np.random.RandomState | np.random.Generator) -> None:
    """`Plan.shuffle` for any source."""
    for number, order in enumerate(orders):
        if number > 0:
            order[:] = orders[number - 1]
        with drawing:
            source.shuffle(order)


class BackendUnavailableError(ImportError):
    """The backend asked for cannot run here; the message says what to install."""


class StoppedError(RuntimeError):
    """A verb ended early because `Plan.stop` was called; what it was writing is undefined."""


class Entry(NamedTuple):
    """The way into C for callers that are C themselves."""

    addresses: tuple[int, ...]
    """Of the plan, of the optimizer's record, and of the verbs forward, backward, loss_gradient and update."""
    fail: Callable[[int], NoReturn]
    """Raises what a code of a verb stands for."""


class Plan(Protocol):
    """A network made ready to run.  One thread uses a plan at a time; `stop` may be called from any.

    Parameters
    ----------
    network : Network
    batch_size : int
        Most rows of one `backward`, `loss_gradient` or batch of `train_steps`; `forward` takes any number.
    n_threads : int, optional
        Upper bound on the threads; None follows `pymlp.config`.
    """

    network: Network
    batch_size: int
    n_threads: int

    def __init__(self, network: Network, batch_size: int, n_threads: int | None = None) -> None: ...

    def forward(
        self, params: np.ndarray, X: np.ndarray, out: np.ndarray, step: int | None = None, row_offset: int = 0
    ) -> None:
        """Write network(X) into `out` (rows, outputs).  ``step=None`` is inference; a step number is training."""

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
        """Vector-Jacobian product: gradients of ``sum(network(X) * output_gradient)``.

        `gradient` (n_parameters,) and `x_gradient` (rows, inputs) are overwritten where given.  No penalty is added.
        """

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
        """Mean loss of the batch with L1 and L2; its gradient overwrites `gradient` (n_parameters,).

        y is (rows, outputs), weight (rows,) or None.  Both are divided by S, the sum of the weights (the rows if
        None).  Where S is 0 the result is 0.0 and the gradient zero.
        """

    def update(
        self, optimizer: Optimizer, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, step: int, rate: float
    ) -> None:
        """One step of the optimizer, in place on `params` and `slots`; `step` counts from 0."""

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
        """A run of batches: for each i, rows ``order[starts[i]:starts[i + 1]]`` of X, y and weight.

        Equals the loop ``losses[i] = loss_gradient(batch i); update(..., step + i, rates[i])``, which leaves out the
        update of a batch whose weights sum to zero.  `order` is int64 row numbers, `starts` int64 of steps + 1 offsets
        into it, `rates` and `losses` float64 of one number a step.  Raises StoppedError after `stop`, with `params`
        and `slots` undefined, and IndexError if a row number lies outside X.
        """

    def shuffle(self, orders: np.ndarray, source: np.random.RandomState | np.random.Generator) -> None:
        """Shuffle `orders`, int64 of shape (epochs, rows), in place: what ``source.shuffle`` does, draw for draw.

        The first is shuffled as it is, each further one as the one before it has become, whatever it held.
        """

    def stop(self) -> None:
        """Ask the verb that is running, or else the next one, to raise StoppedError soon."""

    def entry(self, optimizer: Optimizer) -> Entry | None:
        """What `pymlp._call` needs to call C directly, as long as the plan lives; None where there is no C."""


class Predictor(Protocol):
    """A network frozen with its parameters, for inference alone; any number of threads may use one at the same time.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (n_parameters,)
        Copied.
    n_threads : int, optional
        As for `Plan`.
    with_complement : bool, default=False
        The network has one output p, and `predict` writes two columns, 1 - p and p.
    """

    network: Network
    n_threads: int
    columns: int
    """Columns of what `predict` writes."""
    exact_cuts: bool
    """Whether the bits stay the same however rows are cut into calls."""
    entry: tuple[int, int] | None
    """Addresses of C's function and predictor, for `pymlp._call`; None where there is no C."""
    gradient_entry: int | None
    """Address of C's function for values and gradients, likewise."""

    def __init__(
        self, network: Network, params: np.ndarray, n_threads: int | None = None, *, with_complement: bool = False
    ) -> None: ...

    def predict(self, X: np.ndarray, out: np.ndarray) -> None:
        """Write network(X) into `out` (rows, columns), a C-contiguous array of the network's dtype, as X is."""

    def value_and_gradient(self, X: np.ndarray, out: np.ndarray | None, jacobian: np.ndarray) -> None:
        """Write into `out`, unless it is None, what `predict` writes, and into `jacobian` (rows, columns, inputs) the
        derivative of each column by each input; X is no `SparseRows`."""

    def callback(self, scale: tuple[np.ndarray, np.ndarray] | None, column: int) -> Callback:
        """This predictor as functions that other programs call by their addresses (see `pymlp.compiled`).

        `scale` is what the columns are multiplied by and what is then added, `column` the one that functions of one
        number give.  Raises BackendUnavailableError where there is no compiled code.
        """


class Callback(Protocol):
    """What functions called by their addresses are handed as their user data.

    It lies in the memory of an array, so `numpy.asarray` of it is one, and keeps alive what the functions need.
    """

    address: int
    """Of the user data."""

    def function(self, name: str) -> int:
        """Address of a function of csrc/callables.c, or one that does the same."""


def missing_reason(name: str) -> str | None:
    """Why backend `name` cannot run here, in one line with its remedy; None if it can."""
    if name == "c":
        # each fit asks, and what has been imported is there
        if "pymlp.backends.c" in sys.modules:
            return None
        if importlib.util.find_spec("pymlp._engine") is None:
            return (
                "the C engine was not built when pymlp was installed (no working C compiler); "
                "install one and run: pip install --force-reinstall --no-cache-dir --no-deps pymlp"
            )
        if importlib.util.find_spec("_cffi_backend") is None:
            return "the package cffi is missing; run: pip install cffi"
    elif name == "numba" and importlib.util.find_spec("numba") is None:
        return "the package numba is missing; run: pip install 'pymlp[numba]'"
    return None


def available() -> tuple[str, ...]:
    """Names of the backends that can run here, fastest first."""
    return tuple(name for name in BACKENDS if missing_reason(name) is None)


def choose(name: str | None = None) -> Choice:
    """Name of the backend to use, and why; an argument precedes the configuration, and that the fastest one."""
    choice = requested("backend") if name is None else Choice(name, "argument")
    if choice.value is None:
        fastest = next(known for known in BACKENDS if missing_reason(known) is None)
        return Choice(fastest, "fastest that can run here")
    if choice.value not in BACKENDS:
        raise ValueError(f"backend={choice.value!r} is not one of {', '.join(BACKENDS)}")
    reason = missing_reason(choice.value)
    if reason is not None:
        raise BackendUnavailableError(f"backend {choice.value!r} ({choice.reason}) cannot run: {reason}")
    return choice


def arithmetic(name: str | None = None) -> str:
    """What tells the bits of one run from those of another: the backend `choose` gives, and of C whether it fuses.

    Instruction sets with fused multiply-add give the same bits as each other; the portable one has none.
    """
    chosen = str(choose(name).value)
    if chosen == "c" and get("c").choose_instruction_set().value == "portable":
        return "c without fused multiply-add"
    return chosen


def get(name: str | None = None) -> ModuleType:
    """The module of a backend: `name`, or what the configuration asks for, or the fastest that can run here.

    Raises
    ------
    ValueError
        Unknown name.
    BackendUnavailableError
        It cannot run here; the message names the remedy.
    """
    return importlib.import_module(f"pymlp.backends.{choose(name).value}")
