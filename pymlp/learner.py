"""`Learner`: a network trained one batch at a time, by whoever says how good its outputs were.

For control loops, games and streams, whose batches are a few rows that do not exist before the network has answered.  A
plan, the optimizer's state and all scratch memory are bound once; a call costs little more than the engine's own time,
through `pymlp._call`.  What is done here is for arrays that are not as the engine takes them, for calls so long that
Ctrl-C must come through, and for the backends without C.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from pymlp import backends
from pymlp.arrays import check_out, finite_numbers, refuse_others
from pymlp.backends import StoppedError
from pymlp.backends.plan_stepper import PlanStepper
from pymlp.course import Course
from pymlp.inference import block_rows, checked_rows
from pymlp.interruptible import DIRECT_SECONDS, run_interruptibly, training_seconds
from pymlp.losses import CompiledLoss, CustomLoss
from pymlp.network import Network
from pymlp.optimizers import N_COEFFICIENTS, Adam, Optimizer
from pymlp.predictor import LOCKED_PARAMETERS
from pymlp.schedules import Constant, Plateau
from pymlp.sparse_rows import SparseRows
from pymlp.training import (
    check_count,
    check_data,
    check_optimizer,
    check_params,
    check_rates,
    check_slots,
    check_step,
)

try:
    from pymlp._call import Stepper
except ImportError:
    # without a compiler

    class Stepper:
        """Calls the methods `_forward`, `_predict`, `_step` and `_train`."""

        def forward(self, X: Any, out: np.ndarray | None = None) -> np.ndarray:
            """Outputs of rows, which are remembered for `step`; see the class."""
            return self._forward(X, out)

        def predict(self, X: Any, out: np.ndarray | None = None) -> np.ndarray:
            """Outputs of any number of rows, without dropout, remembering nothing; see the class."""
            return self._predict(X, out)

        def step(self, output_gradient: Any, X: Any = None) -> None:
            """One step of the optimizer by a gradient at the outputs; see the class."""
            self._step(output_gradient, X)

        def train(self, X: Any, y: Any, weight: Any = None) -> float:
            """One step of the optimizer by the network's own loss, which is returned; see the class."""
            return self._train(X, y, weight)


# steps whose rates and coefficients are worked out in one go
STEPS_AHEAD = 256
# a run so long that it counts as without end, for schedules
ENDLESS = 1 << 53
# a direct call must stay this far below what Ctrl-C may wait for: a step takes three times as long as the forward that
# may have been measured
MARGIN = 4.0


class Learner(Stepper):
    """Trains a network's parameters in place, one step a call, by gradients of the caller's own or by its loss.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (n_parameters,)
        Changed in place by each step; C-contiguous, see `Network.initial_params`.  It may be changed by others between
        calls, too (``learner.params[:] = best``): each call takes it as it is.
    optimizer : option object of `pymlp.optimizers`, default=Adam()
        Its values at this moment count.
    rate : float, default=1e-3
    schedule : option object of `pymlp.schedules`, or callable
        A callable gets the number of a step and gives its rate; it is asked some hundred steps ahead.  An object's
        epochs are `epoch_steps` steps long, in which `InverseScaling` counts a step as one row.  For rates that depend
        on how it goes, leave this and set `rate`.
    batch_size : int, default=1024
        Most rows of one step.
    slots, step : ndarray of shape (n_slots, n_parameters), and int, optional
        State of the optimizer to go on from, such as `train` returns it; `slots` is then changed in place.
    total_steps : int, optional
        Length of the whole run, for schedules that spread their rates over it.
    epoch_steps : int, default=1
    n_threads : int, optional
        Upper bound on the threads of one call; by default as many as pay, of those the configuration allows.
    backend : {"c", "numba", "numpy"}, optional

    Attributes
    ----------
    network, params, slots, optimizer, batch_size, n_threads
    steps : int
        Steps taken so far, `step` included.
    rate : float
        Rate of the next step.  To set it replaces the base rate from there on.
    average : ndarray of shape (n_parameters,) or None
        The averaged parameters, where the optimizer averages.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; the message names it.

    Notes
    -----
    ``forward(X, out=None)``
        Outputs of at most `batch_size` rows, (rows, outputs), as the next training step sees them: with its masks,
        where the network has dropout.  Remembers (a copy of) X for `step`.
    ``step(output_gradient, X=None)``
        One step of the optimizer by the gradient of ``sum(outputs * output_gradient)``: what `pymlp.backends.Plan`'s
        ``backward`` and ``update`` do.  `output_gradient` is of the outputs' shape, the gradient of what shall become
        *smaller* by each output; divide it by the rows for a mean over them.  X are the rows it is about, by default
        those of the last `forward`; only one step may be taken by one forward, because its outputs are history then.
        The gradient is taken at the parameters as they are at this moment.  The network's penalties belong to its loss
        and have no part in it: the optimizer's `weight_decay` has.
    ``train(X, y, weight=None)``
        One step by the network's own loss, penalties included; returns that loss.  y and weight as `pymlp.train` takes
        them.
    ``update(gradient)``
        One step by a gradient at the parameters, such as a pullback of `Network.vjp` gives.
    ``predict(X, out=None)``
        Outputs of any number of rows, without dropout; nothing is remembered.

    X is array-like of shape (rows, inputs), or (inputs,) for one row; y, `output_gradient` and what is returned then
    have no axis for rows either.  Fastest are C-contiguous arrays of the network's dtype; all others are converted.  An
    `out` is written to and returned.  What is not finite, of a wrong shape, or no number is refused before anything
    changes: TypeError or ValueError name it.

    A step happens as a whole or not at all, also where Ctrl-C comes: its KeyboardInterrupt is raised before or after
    it, and `steps` tells which.  A learner is used by one thread at a time (a second one gets a RuntimeError), after a
    fork by parent and child alike.  It can be pickled and copied; the copy has arrays of its own, and chooses backend
    and threads where it is made.  `pymlp.save((network, params), path)` keeps the network alone.

    Examples
    --------
    >>> import numpy as np
    >>> from pymlp import Adam, Learner, Network
    >>> network = Network.from_widths((4, 64, 64, 2))
    >>> learner = Learner(network, network.initial_params(0), Adam(), rate=1e-3, batch_size=32)
    >>> x = np.ones((32, 4), np.float32)
    >>> outputs = learner.forward(x)
    >>> learner.step((outputs - 1) / 32)  # the gradient of half a squared distance
    >>> learner.steps
    1
    """

    def __init__(
        self,
        network: Network,
        params: np.ndarray,
        optimizer: Optimizer = Adam(),  # noqa: B008 - frozen
        *,
        rate: float = 1e-3,
        schedule: Any = Constant(),  # noqa: B008 - frozen
        batch_size: int = 1024,
        slots: np.ndarray | None = None,
        step: int = 0,
        total_steps: int | None = None,
        epoch_steps: int = 1,
        n_threads: int | None = None,
        backend: str | None = None,
    ) -> None:
        if hasattr(self, "_plan"):
            # a call may be using what would be replaced
            raise RuntimeError("a Learner cannot be initialised again: make a new one")
        if not isinstance(network, Network):
            raise TypeError(f"network must be a Network, got {type(network).__name__}")
        check_params(network, params)
        check_optimizer(optimizer)
        slots = check_slots(network, optimizer, slots)
        for name, array in (("params", params), ("slots", slots)):
            if not array.flags.carray:
                raise ValueError(f"{name} is changed in place and must be C-contiguous and aligned")
        step = check_step(step)
        self._rate_arguments = {
            "rate": rate, "schedule": schedule, "total_steps": total_steps, "epoch_steps": epoch_steps,
        }  # fmt: skip
        self._course = _checked_course(**self._rate_arguments)
        self._given_threads, self._given_backend = n_threads, backend
        self.network, self._user_params, self._user_slots = network, params, slots
        # the optimizer may be changed by set_params
        self.optimizer, self.batch_size = copy.copy(optimizer), backends.checked_batch_size(batch_size)
        # views of the class that C takes, where a user's is another: a memory-mapped file's
        self._params, self._slots = (np.asarray(array) for array in (params, slots))
        self._count = np.array([step], np.int64)
        self._first, self._rates, self._coefficients, self._most_rows = 0, np.empty(0), np.empty((0, N_COEFFICIENTS)), 0
        plan = backends.get(backend).Plan(network, self.batch_size, n_threads)
        self._row_seconds = training_seconds(network.n_parameters, 1)
        loss = network.loss_function
        self._loss_is_called = isinstance(loss, CustomLoss) and not isinstance(loss, CompiledLoss)
        # compiled code may be a function of Python after all, called by a thread that has to wait for the lock
        locked_rows = 0 if isinstance(loss, CompiledLoss) else LOCKED_PARAMETERS // network.n_parameters
        self._plan = plan
        entry = plan.entry(self.optimizer) if hasattr(Stepper, "_bind") else None
        self._is_direct = entry is not None
        if self._is_direct:
            self._bind(
                entry.addresses,
                entry.fail,
                np.dtype(network.dtype),
                (
                    self._params,
                    self._slots,
                    np.empty_like(self._params),
                    np.empty((self.batch_size, network.inputs), network.dtype),
                    self._count,
                ),
                (
                    network.inputs,
                    network.outputs,
                    self.batch_size,
                    len(slots),
                    locked_rows,
                ),
                not self._loss_is_called,
                *_finite_bounds(loss, network.dtype),
            )
        else:
            self._plan_stepper = PlanStepper(plan, self.optimizer, self._params, self._slots, self._count)
        self._look_ahead()

    @property
    def _stepper(self) -> Any:
        return self if self._is_direct else self._plan_stepper

    @property
    def params(self) -> np.ndarray:
        """The parameters that are trained."""
        return self._user_params

    @property
    def slots(self) -> np.ndarray:
        """The optimizer's state."""
        return self._user_slots

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return int(self._count[0])

    @property
    def n_threads(self) -> int:
        """Upper bound on the threads of one call."""
        return self._plan.n_threads

    @property
    def average(self) -> np.ndarray | None:
        """The averaged parameters, a view of the last slot; None where the optimizer has no average."""
        return None if self.optimizer.average is None else self._user_slots[-1]

    @property
    def rate(self) -> float:
        """Rate of the next step."""
        self._look_ahead()
        return self._rate_of(self.steps)

    @rate.setter
    def rate(self, rate: float) -> None:
        if not hasattr(self._rate_arguments["schedule"], "rates"):
            raise ValueError("rate is what the callable that was given as schedule says, and cannot be set")
        before = self._course, self._rate_arguments
        arguments = {**self._rate_arguments, "rate": rate}
        try:
            self._course, self._rate_arguments = _checked_course(**arguments), arguments
            self._look_ahead(anew=True)
        except BaseException:
            self._course, self._rate_arguments = before
            raise

    def update(self, gradient: Any) -> None:
        """One step of the optimizer by a gradient at the parameters: of one's own making, or a sum of several.

        Parameters
        ----------
        gradient : array-like of shape (n_parameters,)
            Of what shall become smaller.

        Raises
        ------
        TypeError, ValueError
            It does not hold finite numbers, or is of another shape.
        """
        gradient = finite_numbers("gradient", gradient, self.network.dtype)
        if gradient.shape != self._params.shape:
            raise ValueError(f"gradient must be of shape {self._params.shape}, got {gradient.shape}")
        self._call(1, lambda: self._stepper._run_update(gradient))

    # what the calls do with any kind of arguments

    def _forward(self, X: Any, out: np.ndarray | None = None) -> np.ndarray:
        X, out = self._rows_and_out(X, out)
        rows, into = self._check_rows(X, least=0), np.asarray(out)
        self._call(rows, lambda: self._stepper._run_forward(X, into, True))
        return out

    def _predict(self, X: Any, out: np.ndarray | None = None) -> np.ndarray:
        X, out = self._rows_and_out(X, out)
        rows, into = (np.atleast_2d(np.asarray(array)) for array in (X, out))
        at_once = block_rows(self.network.n_parameters)
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            self._call(1, lambda part=part: self._stepper._run_forward(rows[part], into[part], False))
        return out

    def _step(self, output_gradient: Any, X: Any = None) -> None:
        by_output = finite_numbers("output_gradient", output_gradient, self.network.dtype)
        shape = self._stepper._kept_shape
        if X is not None:
            X = self._dense(X)
            rows = self._check_rows(X, least=1)
            shape = (*X.shape[:-1], self.network.outputs)
        elif shape is None:
            raise RuntimeError("step needs X, or a forward before it: there was none since the last step")
        else:
            rows = 1 if len(shape) == 1 else shape[0]
            if rows == 0:
                raise ValueError("a step needs at least one row, but the last forward had none")
        if by_output.shape != shape:
            raise ValueError(f"output_gradient must be of shape {shape}, as the outputs, got {by_output.shape}")
        self._call(rows, lambda: self._stepper._run_step(by_output, X))

    def _train(self, X: Any, y: Any, weight: Any = None) -> float:
        network, X = self.network, self._dense(X)
        rows = self._check_rows(X, least=1)
        if X.ndim == 1:
            refuse_others("y", y)
            X, y = X.reshape(1, -1), np.asarray(y).reshape(1, -1)
            weight = None if weight is None else np.asarray(weight).reshape(1)
        X, y, weight = check_data(network, X, y, weight)
        if weight is not None and not (weight >= np.finfo(network.dtype).tiny).any():
            # subnormal ones count as 0
            raise ValueError("weight must not be zero for every row")
        run = self._run_train_by_function if self._loss_is_called and self._is_direct else self._stepper._run_train
        return self._call(rows, lambda: run(X, y, weight))

    def _run_train_by_function(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
        gradient = np.empty_like(self._params)
        loss = self._plan.loss_gradient(self._params, X, y, weight, gradient, self.steps)
        self._run_update(gradient)
        return float(loss)

    def _call(self, rows: int, call: Callable[[], Any]) -> Any:
        """The result of a call about so many rows; so that Ctrl-C comes through, if it may take long."""
        self.network.check_params(self._params)
        for name, array in (("params", self._params), ("slots", self._slots)):
            if not array.flags.carray:
                raise ValueError(f"{name} is changed in place, but the array is read-only now, or not contiguous")
        self._look_ahead()
        try:
            return self._timed(rows, call)
        except StoppedError:
            # it was an earlier call that was asked to stop, and that ended just before
            return self._timed(rows, call)

    def _timed(self, rows: int, call: Callable[[], Any]) -> Any:
        if self._row_seconds * rows <= DIRECT_SECONDS:
            return call()
        began = perf_counter()
        result = run_interruptibly(call, self._plan.stop)
        self._row_seconds = max((perf_counter() - began) / rows, 1e-9)
        return result

    def _look_ahead(self, *, anew: bool = False) -> None:
        """Work out the rates of the next steps, and how many rows a direct call may have."""
        first, rates, coefficients = self._first, self._rates, self._coefficients
        ends = not first <= self.steps < first + len(rates)
        if ends or anew:
            first = self.steps
            try:
                rates = self._course.rates(first, STEPS_AHEAD)
            except Exception:
                # a callable may know no more than the steps there will be
                rates = self._course.rates(first, 1)
            coefficients = self.optimizer.coefficients(first, rates)
        most_rows = min(sys.maxsize, max(1, int(DIRECT_SECONDS / MARGIN / self._row_seconds)))
        if ends or anew or most_rows != self._most_rows:
            if self._is_direct:
                self._begin(first, coefficients, most_rows)
            else:
                self._plan_stepper.begin(first, rates)
        self._first, self._rates, self._coefficients, self._most_rows = first, rates, coefficients, most_rows

    def _rate_of(self, step: int) -> float:
        return float(self._rates[step - self._first])

    def _dense(self, X: Any) -> np.ndarray:
        X = checked_rows(self.network, X)
        return X.toarray() if isinstance(X, SparseRows) else X

    def _rows_and_out(self, X: Any, out: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        X = self._dense(X)
        shape = (*X.shape[:-1], self.network.outputs)
        if out is None:
            return X, np.empty(shape, self.network.dtype)
        check_out(out, shape, np.dtype(self.network.dtype), X=X, params=self._params, slots=self._slots)
        return X, out

    def _check_rows(self, X: np.ndarray, least: int) -> int:
        rows = 1 if X.ndim == 1 else len(X)
        if rows < least:
            raise ValueError(f"X must have at least one row, got shape {X.shape}")
        if rows > self.batch_size:
            raise ValueError(f"X has {rows} rows, more than batch_size={self.batch_size}")
        return rows

    def __reduce__(self) -> tuple[Any, ...]:
        options = {
            **self._rate_arguments,
            "batch_size": self.batch_size,
            "slots": np.array(self._slots),
            "step": self.steps,
            "n_threads": self._given_threads,
            "backend": self._given_backend,
        }
        return _rebuilt, (type(self), self.network, np.array(self._params), self.optimizer, options)


def _rebuilt(
    kind: type[Learner], network: Network, params: np.ndarray, optimizer: Optimizer, options: dict[str, Any]
) -> Learner:
    return kind(network, params, optimizer, **options)


def _checked_course(rate: Any, schedule: Any, total_steps: int | None, epoch_steps: int) -> Course:
    """The rates of a learner; ValueError if an argument does not fit."""
    check_rates(rate, schedule)
    epoch_steps = check_count("epoch_steps", epoch_steps)
    if isinstance(schedule, Plateau):
        raise ValueError("schedule=Plateau() watches the losses of epochs, which a Learner does not know: set its rate")
    if total_steps is not None:
        check_count("total_steps", total_steps)
    course = Course(schedule, float(rate))
    course.begin(1 if total_steps is None else int(total_steps), epoch_steps, epoch_steps)
    if total_steps is None and not course.agrees(ENDLESS, 0, STEPS_AHEAD):
        raise ValueError(f"schedule={schedule!r} spreads its rates over the whole run: give its length, total_steps")
    return course


def _finite_bounds(loss: Any, dtype: str) -> tuple[float, float]:
    """The least and the largest finite target, as numbers of `dtype`."""
    kind = np.dtype(dtype).type
    most = np.finfo(dtype).max
    low, high = max(-most, kind(loss.lowest_target)), min(most, kind(loss.highest_target))
    # rounded into the interval
    low = np.nextafter(low, most) if low < loss.lowest_target else low
    high = np.nextafter(high, -most) if high > loss.highest_target else high
    return float(low), float(high)
