"""The C backend: hands the verbs of a plan to the engine in csrc.

Everything here is checking and pointers: an array of another dtype or shape must not reach C, where it would be read as
what it is not.  The interpreter's lock is released while C works.
"""

from __future__ import annotations

import functools
from typing import Any, NoReturn

import numpy as np

from pymlp._engine import ffi, lib
from pymlp.backends import Entry, StoppedError, callable_loss, checked_batch_size, shuffle_by_numpy
from pymlp.config import Choice, requested, resolve_threads
from pymlp.forks import drawing
from pymlp.interruptible import copy_in_pieces
from pymlp.losses import CompiledLoss
from pymlp.network import Network
from pymlp.optimizers import Optimizer
from pymlp.sparse_rows import SparseRows

try:
    from pymlp._call import generator_addresses
except ImportError:

    def generator_addresses(generator: Any) -> tuple[int, int]:
        """Where a bit generator of NumPy's is as C calls it, and where its state, as long as it lives."""
        return generator.ctypes.bit_generator.value, generator.ctypes.state_address


# pymlp_error_text says the rest; these deserve an exception of their own
OUT_OF_MEMORY = 1
_EXCEPTIONS = {
    lib.pymlp_error_text(code): exception
    for code, exception in (
        (OUT_OF_MEMORY, MemoryError), (2, RuntimeError), (3, StoppedError), (4, IndexError), (5, ValueError),
    )
}  # fmt: skip


_INT64 = np.dtype(np.int64)
# longer ones are drawn from 64 bits
LONGEST_SHUFFLE = 1 << 32
# some 30 milliseconds, where the rows are in no cache: between such pieces Ctrl-C comes through
SHUFFLED_AT_ONCE = 1 << 21


def _fail(code: int) -> NoReturn:
    text = lib.pymlp_error_text(code)
    if code == OUT_OF_MEMORY:
        raise MemoryError(f"{ffi.string(text).decode()}: the engine asked for {lib.pymlp_refused_bytes():,.0f} bytes")
    raise _EXCEPTIONS.get(text, RuntimeError)(ffi.string(text).decode())


@functools.cache
def instruction_sets() -> tuple[str, ...]:
    """Names of the instruction sets this machine can run, best first."""
    names: list[str] = []
    while (name := lib.pymlp_instruction_set(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def choose_instruction_set() -> Choice:
    """The instruction set to use, and why.

    Raises
    ------
    ValueError
        The one asked for is not among those this machine can run.
    """
    choice = requested("isa")
    here = instruction_sets()
    if choice.value is None:
        return Choice(here[0], "best that this machine can run")
    if choice.value not in here:
        raise ValueError(f"isa={choice.value!r} ({choice.reason}) cannot run here; this machine runs {', '.join(here)}")
    return choice


def _bits(dtype: str) -> int:
    return 8 * np.dtype(dtype).itemsize


def measure_peak(dtype: str = "float32", n_threads: int = 1, seconds: float = 0.2) -> float:
    """GFLOP/s of multiply-adds that touch no memory, on `n_threads` threads at once."""
    return lib.pymlp_measure_peak(choose_instruction_set().value.encode(), _bits(dtype), n_threads, seconds)


def measure_tile(dtype: str = "float32", k: int = 256, seconds: float = 0.1) -> float:
    """GFLOP/s of the micro-kernel on one thread, from cache, for products of depth `k` (1 to 512)."""
    if not 1 <= k <= 512:
        raise ValueError(f"k must be in 1 to 512, got {k!r}")
    return lib.pymlp_measure_tile(choose_instruction_set().value.encode(), _bits(dtype), k, seconds)


def evaluate(name: str, z: np.ndarray, slope: bool = False) -> np.ndarray:
    """One element-wise activation of the engine (or "log") or its slope on an array, for tests and tables of error."""
    z = np.ascontiguousarray(z)
    out = np.empty_like(z)
    isa = choose_instruction_set().value.encode()
    code = lib.pymlp_evaluate(
        isa, _bits(z.dtype.name), name.encode(), slope, ffi.from_buffer(z), z.size,
        ffi.from_buffer(out, require_writable=True),
    )  # fmt: skip
    if code:
        _fail(code)
    return out


@functools.cache
def _twister_is_known() -> bool:
    """Whether NumPy keeps the Mersenne Twister's state, whose place it tells, as the engine takes it: 624 words and the
    number of those used."""
    generator = np.random.MT19937(0)
    generator.random_raw(7)
    words = ffi.unpack(ffi.cast("uint32_t *", generator_addresses(generator)[1]), 625)
    state = generator.state["state"]
    return words == [*state["key"].tolist(), state["pos"]]


class Plan:
    """See `pymlp.backends.Plan`; `isa` is the instruction set it runs on."""

    def __init__(self, network: Network, batch_size: int, n_threads: int | None = None) -> None:
        self.network, self.batch_size = network, checked_batch_size(batch_size)
        self.isa = str(choose_instruction_set().value)
        self._dtype = np.dtype(network.dtype)
        self._parameters = (network.n_parameters,)
        # a compiled one is C's own affair
        self._loss_is_called = network.loss_function.name == "custom"
        self._optimizers: dict[Any, object] = {}
        loss = _loss(network)
        # the owner is there before what it owns: there is no moment at which an exception could lose a plan
        self._owner = ffi.gc(ffi.new("pymlp_plan **"), lib.pymlp_plan_disown)
        code = lib.pymlp_plan_create(
            self._owner, self.isa.encode(), _bits(network.dtype), _layers(network), len(network.table),
            loss[0], network.l1, network.l2, network.seed, self.batch_size,
            resolve_threads(n_threads).value, n_threads is None,
        )  # fmt: skip
        if code:
            _fail(code)
        self._plan = self._owner[0]
        self.n_threads = int(lib.pymlp_plan_threads(self._plan))

    def _address(self, name: str, array: np.ndarray, shape: tuple[int, ...], *, writes: bool = False) -> object:
        return _address(name, array, self._dtype, shape, writes=writes)

    def _rows_of(self, X: Any) -> tuple[int, object, object]:
        """Number of rows, and where they are: the address of an array, and of sparse rows; one is null."""
        if isinstance(X, SparseRows):
            return len(X), ffi.NULL, _sparse(X, self.network)
        rows = X.shape[0] if isinstance(X, np.ndarray) and X.ndim else 0
        return rows, self._address("X", X, (rows, self.network.inputs)), ffi.NULL

    def _check_batch(self, rows: int) -> None:
        if rows > self.batch_size:
            raise ValueError(f"{rows} rows exceed the plan's batch_size={self.batch_size}")

    def _optimizer(self, optimizer: Optimizer) -> object:
        # option objects may change, so their values are the key
        numbers = optimizer.constants
        key = optimizer.name, optimizer.average, optimizer.clip_norm, optimizer.clip_value, numbers
        if key not in self._optimizers:
            record = ffi.new("pymlp_optimizer *")
            record.kind = lib.pymlp_optimizer_kind(optimizer.name.encode())
            record.averages = optimizer.average is not None
            record.clip_norm, record.clip_value = optimizer.clip_norm or 0.0, optimizer.clip_value or 0.0
            for position, number in enumerate(numbers):
                record.parameters[position] = number
            self._optimizers[key] = record
        return self._optimizers[key]

    def forward(
        self, params: np.ndarray, X: np.ndarray, out: np.ndarray, step: int | None = None, row_offset: int = 0
    ) -> None:
        """Write network(X) into `out`."""
        rows, X_address, sparse = self._rows_of(X)
        code = lib.pymlp_forward(
            self._plan,
            self._address("params", params, self._parameters),
            X_address,
            sparse,
            rows,
            self._address("out", out, (rows, self.network.outputs), writes=True),
            -1 if step is None else step,
            row_offset,
        )
        if code:
            _fail(code)

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
        rows, X_address, sparse = self._rows_of(X)
        self._check_batch(rows)
        if sparse != ffi.NULL and x_gradient is not None:
            raise ValueError("x_gradient is not offered where X is sparse")
        shape = (rows, self.network.inputs)
        code = lib.pymlp_backward(
            self._plan,
            self._address("params", params, self._parameters),
            X_address,
            sparse,
            rows,
            self._address("output_gradient", output_gradient, (rows, self.network.outputs)),
            ffi.NULL if gradient is None else self._address("gradient", gradient, self._parameters, writes=True),
            ffi.NULL if x_gradient is None else self._address("x_gradient", x_gradient, shape, writes=True),
            -1 if step is None else step,
            row_offset,
        )
        if code:
            _fail(code)

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
        rows, X_address, sparse = self._rows_of(X)
        self._check_batch(rows)
        loss = ffi.new("double *")
        code = lib.pymlp_loss_gradient(
            self._plan,
            self._address("params", params, self._parameters),
            X_address,
            sparse,
            self._address("y", y, (rows, self.network.outputs)),
            ffi.NULL if weight is None else self._address("weight", weight, (rows,)),
            rows,
            self._address("gradient", gradient, self._parameters, writes=True),
            loss,
            -1 if step is None else step,
            row_offset,
        )
        if code:
            _fail(code)
        return loss[0]

    def update(
        self, optimizer: Optimizer, params: np.ndarray, gradient: np.ndarray, slots: np.ndarray, step: int, rate: float
    ) -> None:
        """One step of the optimizer, in place."""
        code = lib.pymlp_update(
            self._plan,
            self._optimizer(optimizer),
            self._address("params", params, self._parameters, writes=True),
            self._address("gradient", gradient, self._parameters),
            self._address("slots", slots, (optimizer.n_slots, *self._parameters), writes=True),
            ffi.from_buffer("double *", optimizer.coefficients(step, np.array([rate]))),
        )
        if code:
            _fail(code)

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
        """A run of batches in one call; see `pymlp.backends.Plan.train_steps`."""
        rows, X_address, sparse = self._rows_of(X)
        n_steps = len(rates)
        _check_vector("order", order, np.int64, None)
        _check_vector("starts", starts, np.int64, n_steps + 1)
        _check_vector("rates", rates, np.float64, n_steps)
        _check_vector("losses", losses, np.float64, n_steps)
        if starts[-1] > len(order):
            raise ValueError(f"starts ends at {starts[-1]}, past the {len(order)} numbers of order")
        if self._loss_is_called:
            callable_loss.train_steps(self, optimizer, params, slots, step, X, y, weight, order, starts, rates, losses)
            return
        code = lib.pymlp_train_steps(
            self._plan,
            self._optimizer(optimizer),
            self._address("params", params, self._parameters, writes=True),
            self._address("slots", slots, (optimizer.n_slots, *self._parameters), writes=True),
            step,
            X_address,
            sparse,
            self._address("y", y, (rows, self.network.outputs)),
            ffi.NULL if weight is None else self._address("weight", weight, (rows,)),
            rows,
            ffi.from_buffer("int64_t *", order),
            ffi.from_buffer("int64_t *", starts),
            n_steps,
            ffi.from_buffer("double *", optimizer.coefficients(step, rates)),
            ffi.from_buffer("double *", losses, require_writable=True),
        )
        if code == 5:
            raise ValueError(f"starts holds a batch of more than batch_size={self.batch_size} rows, or does not ascend")
        if code:
            _fail(code)

    def shuffle(self, orders: np.ndarray, source: np.random.RandomState | np.random.Generator) -> None:
        """Shuffle `orders`; in an eighth to a quarter of NumPy's time where the source is an ordinary RandomState."""
        # a RandomState's way to shuffle is frozen; a Generator's is not, nor what a subclass makes of it
        generator = getattr(source, "_bit_generator", None) if type(source) is np.random.RandomState else None
        if not isinstance(orders, np.ndarray) or orders.ndim != 2:
            raise ValueError(_mismatch("orders", orders, _INT64, ("epochs", "rows")))
        count, rows = orders.shape
        if generator is None or rows > LONGEST_SHUFFLE:
            shuffle_by_numpy(orders, source)
            return
        address = ffi.cast("int64_t *", _address("orders", orders, _INT64, orders.shape, writes=True))
        twister = type(generator) is np.random.MT19937 and _twister_is_known()
        place, state_place = generator_addresses(generator)
        source_address, state = ffi.cast("void *", place), ffi.cast("uint32_t *", state_place if twister else 0)
        if count * rows <= SHUFFLED_AT_ONCE:
            with drawing, generator.lock:
                lib.pymlp_shuffle(self._plan, source_address, state, address, count, rows, 0, rows)
            return
        for number in range(count):
            if number > 0:
                copy_in_pieces(orders[number], orders[number - 1])
            # from the end, as NumPy does it
            for end in range(rows, 0, -SHUFFLED_AT_ONCE):
                part = address + number * rows, 1, rows, max(0, end - SHUFFLED_AT_ONCE), end
                with drawing, generator.lock:
                    lib.pymlp_shuffle(self._plan, source_address, state, *part)

    def stop(self) -> None:
        """Ask the verb that is running, or else the next one, to raise StoppedError soon."""
        lib.pymlp_stop(self._plan)

    def entry(self, optimizer: Optimizer) -> Entry:
        """What `pymlp._call` needs to call C directly, as long as the plan lives."""
        verbs = (ffi.addressof(lib, f"pymlp_{name}") for name in ("forward", "backward", "loss_gradient", "update"))
        pointers = (self._plan, self._optimizer(optimizer), *verbs)
        return Entry(tuple(int(ffi.cast("uintptr_t", pointer)) for pointer in pointers), _fail)


class Predictor:
    """See `pymlp.backends.Predictor`; `isa` is the instruction set it runs on."""

    exact_cuts = True

    def __init__(
        self, network: Network, params: np.ndarray, n_threads: int | None = None, *, with_complement: bool = False
    ) -> None:
        self.network = network
        self.columns = 2 if with_complement else network.outputs
        self.isa = str(choose_instruction_set().value)
        self.n_threads = int(resolve_threads(n_threads).value)
        self._dtype = np.dtype(network.dtype)
        loss = _loss(network)
        self._owner = ffi.gc(ffi.new("pymlp_predictor **"), lib.pymlp_predictor_disown)
        code = lib.pymlp_predictor_create(
            self._owner, self.isa.encode(), _bits(network.dtype), _layers(network), len(network.table),
            loss[0], _address("params", params, self._dtype, (network.n_parameters,)),
            with_complement, self.n_threads, n_threads is None,
        )  # fmt: skip
        if code:
            _fail(code)
        self._predictor = self._owner[0]
        self.entry = _number(ffi.addressof(lib, "pymlp_predictor_predict")), _number(self._predictor)
        self.gradient_entry = _number(ffi.addressof(lib, "pymlp_predictor_value_and_gradient"))

    def predict(self, X: np.ndarray, out: np.ndarray) -> None:
        """Write network(X) into `out`."""
        sparse = isinstance(X, SparseRows)
        rows = X.shape[0] if sparse or (isinstance(X, np.ndarray) and X.ndim) else 0
        address = _sparse(X, self.network) if sparse else _address("X", X, self._dtype, (rows, self.network.inputs))
        predict = lib.pymlp_predictor_predict_sparse if sparse else lib.pymlp_predictor_predict
        code = predict(
            self._predictor, address, rows, _address("out", out, self._dtype, (rows, self.columns), writes=True)
        )
        if code:
            _fail(code)

    def callback(self, scale: tuple[np.ndarray, np.ndarray] | None, column: int) -> Any:
        """This predictor as functions that other programs call by their addresses."""
        from pymlp.backends.c_callbacks import Callback

        return Callback(self, scale, column)

    def value_and_gradient(self, X: np.ndarray, out: np.ndarray | None, jacobian: np.ndarray) -> None:
        """Write network(X) into `out`, if there is one, and its derivative by X into `jacobian`."""
        rows = X.shape[0] if isinstance(X, np.ndarray) and X.ndim else 0
        shape = (rows, self.columns, self.network.inputs)
        code = lib.pymlp_predictor_value_and_gradient(
            self._predictor,
            _address("X", X, self._dtype, (rows, self.network.inputs)),
            rows,
            ffi.NULL if out is None else _address("out", out, self._dtype, shape[:2], writes=True),
            _address("jacobian", jacobian, self._dtype, shape, writes=True),
        )
        if code:
            _fail(code)


def _number(pointer: object) -> int:
    """The address that a pointer holds."""
    return int(ffi.cast("uintptr_t", pointer))


def _sparse(X: SparseRows, network: Network) -> object:
    """Sparse rows as C takes them, while X lives; ValueError if they do not fit the network."""
    if X.dtype != network.dtype or X.shape[1] != network.inputs:
        raise ValueError(f"X must be of {network.dtype} and shape (rows, {network.inputs}), got {X.dtype} {X.shape}")
    if not network.takes_sparse:
        raise ValueError("X is sparse, but not only a dense layer reads the network's inputs")
    rows = ffi.new("pymlp_sparse *")
    rows.values = ffi.from_buffer(X.data)
    rows.columns = ffi.from_buffer("int32_t *", X.indices)
    rows.starts = ffi.from_buffer("int64_t *", X.indptr)
    return rows


def _layers(network: Network) -> object:
    """The table of layers as C takes it."""
    layers = ffi.new("pymlp_layer[]", len(network.table))
    for given, row in zip(layers, network.table, strict=True):
        given.kind = lib.pymlp_layer_kind(row.kind.encode())
        given.activation = lib.pymlp_activation(row.activation.encode())
        given.inputs, given.outputs = row.inputs, row.outputs
        given.source, given.second = row.source, row.second
        given.setting, given.max_norm = row.setting, row.max_norm
    return layers


def _loss(network: Network) -> tuple[object, object]:
    """The loss as C takes it, which copies it, and the numbers it points to: they live as long as the caller has both.

    No weak reference keeps them: what Python does as memory is freed must not be code of Python, because Ctrl-C, where
    that came during the call before, would be raised in it and be lost.
    """
    loss = network.loss_function
    rule = ffi.new("pymlp_loss_rule *")
    rule.kind, rule.group, rule.n_numbers = lib.pymlp_loss(loss.name.encode()), loss.group, len(loss.numbers)
    numbers = ffi.new("double[]", loss.numbers)
    rule.numbers = numbers
    if isinstance(loss, CompiledLoss):
        rule.function = ffi.cast("void *", loss.address)
    return rule, numbers


def _address(name: str, array: np.ndarray, dtype: np.dtype, shape: tuple[int, ...], *, writes: bool = False) -> object:
    """Where the array's numbers lie; ValueError if it is not what C takes it for."""
    if (
        not isinstance(array, np.ndarray)
        or array.dtype != dtype
        or array.shape != shape
        or not array.flags.c_contiguous
        or not array.flags.aligned
    ):
        raise ValueError(_mismatch(name, array, dtype, shape))
    return ffi.from_buffer(array, require_writable=writes)


def _mismatch(name: str, array: object, dtype: np.dtype, shape: tuple[int, ...]) -> str:
    if isinstance(array, np.ndarray):
        found = f"{array.dtype} {array.shape}" + ("" if array.flags.c_contiguous else ", not contiguous")
        found += "" if array.flags.aligned else ", not aligned"
    else:
        found = type(array).__name__
    return f"{name} must be a C-contiguous {dtype} array of shape {shape}, got {found}"


def _check_vector(name: str, array: np.ndarray, dtype: type, length: int | None) -> None:
    if (
        not isinstance(array, np.ndarray)
        or array.ndim != 1
        or array.dtype != dtype
        or not array.flags.c_contiguous
        or not array.flags.aligned
        or (length is not None and len(array) != length)
    ):
        shape = (len(array) if length is None and isinstance(array, np.ndarray) else length,)
        raise ValueError(_mismatch(name, array, np.dtype(dtype), shape))
