"""`Predictor`: a model frozen for prediction, where a single row costs less than a microsecond.

An estimator's `predict` checks its input in every way, packs the weights and allocates, which takes a hundred times as
long as a small network.  A predictor packs the weights once and checks shape, type and memory order alone.  Arrays that
are as the C engine wants them go there directly, through `pymlp._call`; what is done here is for all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pymlp import backends
from pymlp.arrays import check_out
from pymlp.inference import block_rows, differentiate_rows, gradient_rows, predict_rows, shaped_rows
from pymlp.network import Network

if TYPE_CHECKING:
    from pymlp.backends import Callback
    from pymlp.compiled import CFunction
    from pymlp.numba_callable import PredictorFunction

try:
    from pymlp._call import Caller
except ImportError:
    # without a compiler

    class Caller:
        """Calls the method `_general`."""

        __slots__ = ()

        def __call__(self, X: Any, out: np.ndarray | None = None) -> np.ndarray:
            return self._general(X, out)

        def _set_entry(self, *entry: Any) -> None:
            """There is nothing to call directly."""

        def _direct_gradient(self, X: Any) -> None:
            """There is nothing to call directly."""


# parameters up to which a row takes less time than to give the interpreter's lock away and to take it again
LOCKED_PARAMETERS = 20_000


class Predictor(Caller):
    """What a fitted model says of rows, fast: the weights packed, scratch memory kept.

    Any number of Python threads may call one predictor at the same time.  It is frozen: training the model further, or
    changing its weights, does not change it.  Backend, instruction set and number of threads are chosen when it is made
    (see `pymlp.config_context`).

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor, LogisticRegression or Network
        A fitted estimator; or a network, with `params`.
    params : ndarray of shape (n_parameters,), optional
        With a `Network` alone; copied.
    n_threads : int, optional
        Upper bound on the threads of one call; by default as many as pay, of those the configuration allows.

    Raises
    ------
    TypeError
        `model` is neither an estimator of this package nor a network, or `params` is missing or too much.
    ValueError
        `params` does not fit the network.
    sklearn.exceptions.NotFittedError
        The estimator has not been fitted.

    Notes
    -----
    ``predictor(X)`` and ``predictor(X, out=y)`` take the following.

    X : array-like or SciPy sparse matrix of shape (rows, inputs), or array-like of shape (inputs,)
        Fastest as a C-contiguous array of the network's dtype; any other layout, byte order and width of numbers is
        converted.  A one-dimensional X is one row, and the answer then has no axis for rows.  Numbers that are not
        finite are not refused: to look for them would take longer than a small network.  They spoil the answer of
        their own rows, and of no other.
    out : ndarray, optional
        Written to and returned: C-contiguous, of the network's dtype and the answer's shape.  Must not overlap X.

    The answer is for a classifier what `predict_proba` gives, (rows, classes) or (rows, labels), and what
    `decision_function` gives if its loss has no probabilities; for a regressor what `predict` gives, (rows,) or
    (rows, targets), with all outputs of a loss that has several for a target side by side; for a network its outputs,
    (rows, outputs): the same bits.  ValueError names what does not fit; TypeError what does not hold real numbers:
    objects, text, dates, records, masked entries.

    A predictor can be pickled and copied; the copy chooses backend and threads where it is made.

    Examples
    --------
    >>> import numpy as np
    >>> from pymlp import Network, Predictor
    >>> network = Network.from_widths((2, 8, 1))
    >>> predictor = Predictor(network, network.initial_params(0))
    >>> predictor(np.zeros((5, 2), np.float32)).shape
    (5, 1)
    """

    __slots__ = (
        "__weakref__",
        "_asked_threads",
        "_backend",
        "_dtype",
        "_functions",
        "_params",
        "_scale",
        "_tail",
        "_with_complement",
    )

    def __init__(self, model: Any, params: np.ndarray | None = None, *, n_threads: int | None = None) -> None:
        if isinstance(model, Network):
            if params is None:
                raise TypeError("params is missing: a Network holds no numbers")
            network, with_complement, flat, scale = model, False, False, None
        elif hasattr(model, "_prediction_state"):
            if params is not None:
                raise TypeError(f"params goes with a Network; this {type(model).__name__} has its own")
            network, params, with_complement, flat = model._prediction_state()
            scale = model._output_scale() if hasattr(model, "_output_scale") else None
        else:
            raise TypeError(f"model must be a fitted estimator of pymlp or a Network, got {type(model).__name__}")
        self._build(network, params, with_complement, flat, scale, n_threads)

    def _build(
        self,
        network: Network,
        params: np.ndarray,
        with_complement: bool,
        flat: bool,
        scale: tuple[np.ndarray, np.ndarray] | None,
        n_threads: int | None,
    ) -> None:
        if hasattr(self, "_backend"):
            # a call may be using what would be replaced
            raise RuntimeError("a Predictor cannot be initialised again: make a new one")
        # kept for pickling: the backend may pack them otherwise
        self._params = network.check_params(params).copy()
        self._asked_threads, self._with_complement, self._scale = n_threads, with_complement, scale
        self._backend = backends.get().Predictor(network, self._params, n_threads, with_complement=with_complement)
        self._dtype = np.dtype(network.dtype)
        # of whose addresses this object is in charge; the first counts, if threads should make several
        self._functions: list[CFunction] = []
        columns = self._backend.columns
        # of an answer's shape, what comes after the rows
        self._tail = () if flat else (columns,)
        if self._backend.entry is not None and scale is None:
            # a call of more rows is cut, for Ctrl-C
            most_rows, locked = block_rows(network.n_parameters), network.n_parameters <= LOCKED_PARAMETERS
            self._set_entry(
                *self._backend.entry, self._dtype, network.inputs, columns, most_rows, flat, locked,
                self._backend.gradient_entry, gradient_rows(network),
            )  # fmt: skip

    @property
    def network(self) -> Network:
        """What is computed."""
        return self._backend.network

    @property
    def n_threads(self) -> int:
        """Upper bound on the threads of one call."""
        return self._backend.n_threads

    def value_and_gradient(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """What the predictor says of X, and how that changes with X.

        Parameters
        ----------
        X : array-like or SciPy sparse matrix of shape (rows, inputs), or array-like of shape (inputs,)
            As for a call; a sparse one is made dense block by block.

        Returns
        -------
        values : ndarray
            What a call gives, the same bits.
        gradient : ndarray of shape (rows, inputs), or (rows, columns, inputs)
            The derivative of each value by each input of its row; without the axis for columns where the values have
            none, and without that for rows where X has none.  At a kink (relu at 0) it is the slope on one side, as in
            training.

        Raises
        ------
        TypeError, ValueError
            X is none that a call takes.

        Examples
        --------
        >>> import numpy as np
        >>> from pymlp import Network, Predictor
        >>> network = Network.from_widths((2, 8, 3), "tanh")
        >>> predictor = Predictor(network, network.initial_params(0))
        >>> values, gradient = predictor.value_and_gradient(np.zeros((5, 2), np.float32))
        >>> values.shape, gradient.shape
        ((5, 3), (5, 3, 2))
        """
        found = self._direct_gradient(X)
        return self._general_gradient(X) if found is None else found

    def jacobian(self, X: Any) -> np.ndarray:
        """The derivative of each column of the answer by each input.

        Parameters
        ----------
        X : array-like or SciPy sparse matrix of shape (rows, inputs), or array-like of shape (inputs,)
            As for `value_and_gradient`.

        Returns
        -------
        ndarray of shape (rows, columns, inputs), or (columns, inputs)
            There is an axis for columns also where the answer has none.

        Raises
        ------
        TypeError, ValueError
            X is none that a call takes.
        """
        gradient = self.value_and_gradient(X)[1]
        return gradient if self._tail else gradient[..., np.newaxis, :]

    def as_numba(self, *, value_and_gradient: bool = False) -> PredictorFunction:
        """A function that code compiled by Numba can call, also in parallel loops: the engine without Python around.

        ``f(x, out)`` writes what ``predictor(x, out=out)`` would, the same bits, and returns `out`; ``f(x)`` makes a
        new array, or a number for one row of a regressor with one target.  With `value_and_gradient`, ``f(x, out,
        gradient)`` and ``f(x)`` give the pair that ``predictor.value_and_gradient(x)`` does.  x is (inputs,) or (rows,
        inputs), and all arrays are C-contiguous, of the network's dtype, and do not overlap.  Where an answer has no
        axis for columns, arrays may have one of length 1 all the same.

        Parameters
        ----------
        value_and_gradient : bool, default=False

        Returns
        -------
        PredictorFunction
            To be used as a global variable or closure of compiled code, or handed to it as an argument.  It can also be
            called from Python, and pickled.

        Raises
        ------
        ImportError
            Numba is missing.
        BackendUnavailableError
            The predictor was made under the NumPy backend, which has no compiled code.

        Notes
        -----
        Compiled code raises ValueError where a shape does not fit, before anything is written, and MemoryError where
        the engine finds no memory; Numba makes a SystemError of what is raised within ``prange``.  A wrong dtype,
        layout or number of axes is an error of compilation.

        The function keeps the weights alive, and so does compiled code that has it as a global variable: binding that
        name to another function later changes nothing there, as with all of Numba's globals.  Such code is not kept by
        ``cache=True``, because an address is part of it; Numba warns.  Code that takes the function as an argument is
        compiled once for all networks of one dtype, and is kept.  What compiled code stores elsewhere, in a typed list
        or a ``jitclass``, it does not keep alive.

        A row of a small network is computed by the calling thread alone, so calls in ``prange`` scale with its threads.
        Calls of many rows may take the engine's own threads as well; ``Predictor(model, n_threads=1)`` prevents it.
        """
        from pymlp.compiled import numba_function

        return numba_function(self, value_and_gradient)

    def as_cfunc(self, kind: str = "rows", *, column: int | None = None, value_and_gradient: bool = False) -> CFunction:
        """A C function by its address, for ctypes, cffi, and whatever takes a function pointer and user data.

        Parameters
        ----------
        kind : str, default="rows"
            Which type the function has.  All but "rows" take and give doubles, whatever the network's dtype, one row
            a call, and may be called from any number of threads:

            "rows"
                ``int f(user_data, X, rows, out)``: X (rows, inputs) and out (rows, columns) are C-contiguous, of the
                network's dtype; the result is 0, or a code of ``pymlp.h`` if it failed.
            "number"
                ``double f(x, user_data)``: a predictor of one input.
            "point"
                ``double f(n, x, user_data)``: x (n), n being the inputs.
            "ode"
                ``void f(t, state, rates, user_data)``: right-hand side of a differential equation, as solvers in C and
                numbalsoda take it.  Has as many inputs as columns, or one more: the time, which then is the first.
            "generic_filter", "generic_filter1d", "geometric_transform"
                What the functions of `scipy.ndimage` of these names take: a filter's footprint, or `filter_size`, has
                as many elements as there are inputs; a transform maps the place of a pixel in the output to the place
                in the input, as many columns as that has axes.
        column : int, optional
            Which column of the answer a function of one number gives ("number", "point" and the filters).  Must be
            given where there are several, such as the probabilities of two classes.
        value_and_gradient : bool, default=False
            The version that also writes the derivatives: the gradient of that number (inputs), after the point, as
            NLopt has it, for "number" and "point"; all derivatives (columns, inputs), or (rows, columns, inputs),
            after the values for "ode" and "rows".

        Returns
        -------
        CFunction
            With ``address``, ``user_data`` and ``signature``.  Both addresses are good as long as it lives.

        Raises
        ------
        ValueError
            There is no such kind or column, or the predictor does not fit it.
        BackendUnavailableError
            The predictor's backend has no such function: Numba's has "rows" alone, NumPy's none.

        Notes
        -----
        C cannot raise: where an n or a size does not fit, or memory is missing, "number" and "point" give NaN, "ode"
        rates of NaN, the filters the status of a failure, of which SciPy makes a RuntimeError.  A "rows" call is not
        checked at all.
        """
        from pymlp.compiled import c_function

        return c_function(self, kind, column, value_and_gradient)

    def as_low_level_callable(
        self, kind: str | None = None, *, column: int | None = None, value_and_gradient: bool = False
    ) -> Any:
        """The same as `scipy.LowLevelCallable`, for `scipy.integrate.quad` and its like, and for `scipy.ndimage`.

        Parameters
        ----------
        kind : str, optional
            As for `as_cfunc`.  By default an integrand: "number" for one input, else "point".
        column, value_and_gradient
            As for `as_cfunc`.

        Returns
        -------
        scipy.LowLevelCallable
            It keeps the weights alive.

        Raises
        ------
        ImportError
            SciPy is missing.
        ValueError, BackendUnavailableError
            As for `as_cfunc`.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.integrate import quad
        >>> from pymlp import Network, Predictor
        >>> network = Network.from_widths((1, 8, 1), "tanh", dtype="float64")
        >>> predictor = Predictor(network, network.initial_params(0))
        >>> fast = quad(predictor.as_low_level_callable(), 0.0, 1.0)[0]
        >>> bool(np.isclose(fast, quad(lambda x: predictor(np.array([x]))[0], 0.0, 1.0)[0]))
        True
        """
        from pymlp.compiled import c_function, low_level_callable

        return low_level_callable(c_function(self, kind, column, value_and_gradient))

    @property
    def address(self) -> int:
        """Address of a C function that answers rows, for ctypes, cffi and other compiled code: that of ``as_cfunc()``.

        It is good as long as this predictor lives.

        Examples
        --------
        >>> import ctypes
        >>> import numpy as np
        >>> from pymlp import Network, Predictor
        >>> network = Network.from_widths((2, 8, 1))
        >>> predictor = Predictor(network, network.initial_params(0))
        >>> predictor.signature
        'int (*)(const void *user_data, const float *X, int64_t rows, float *out)'
        >>> kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
        >>> X, out = np.ones((3, 2), np.float32), np.empty((3, 1), np.float32)
        >>> kind(predictor.address)(predictor.user_data, X.ctypes.data, 3, out.ctypes.data)
        0
        >>> bool((out == predictor(X)).all())
        True
        """
        return self._function.address

    @property
    def signature(self) -> str:
        """Type of the function at `address` in C, as cffi takes it: ``ffi.cast(signature, address)``."""
        return self._function.signature

    @property
    def user_data(self) -> int:
        """The pointer that the function at `address` must be given first."""
        return self._function.user_data

    @property
    def _function(self) -> CFunction:
        if not self._functions:
            self._functions.append(self.as_cfunc())
        return self._functions[0]

    def _callback(self, column: int = 0) -> Callback:
        """What functions made of this predictor are handed, in its backend."""
        return self._backend.callback(self._scale, column)

    def _general_gradient(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """What `value_and_gradient` does with any X."""
        X = self._checked(X)
        values = np.empty(X.shape[:-1] + self._tail, self._dtype)
        gradient = np.empty((*values.shape, X.shape[-1]), self._dtype)
        rows = X.reshape(1, -1) if X.ndim == 1 else X
        columns = values.reshape(-1, self._backend.columns)
        jacobian = gradient.reshape(-1, self._backend.columns, X.shape[-1])
        differentiate_rows(self._backend, rows, columns, jacobian)
        if self._scale is not None:
            columns *= self._scale[0]
            columns += self._scale[1]
            jacobian *= self._scale[0][:, np.newaxis]
        return values, gradient

    def _general(self, X: Any, out: np.ndarray | None = None) -> np.ndarray:
        """What a call does with any X and `out`."""
        X = self._checked(X)
        shape = X.shape[:-1] + self._tail
        if out is None:
            out = np.empty(shape, self._dtype)
        else:
            check_out(out, shape, self._dtype, X=X)
        rows = X.reshape(1, -1) if X.ndim == 1 else X
        columns = out.reshape(-1, self._backend.columns)
        predict_rows(self._backend, rows, columns)
        if self._scale is not None:
            columns *= self._scale[0]
            columns += self._scale[1]
        return out

    def _checked(self, X: Any) -> Any:
        """X as an array of numbers or a sparse matrix, of the right width."""
        X = shaped_rows(self.network, X)
        if X.dtype.kind == "O":
            raise TypeError("X must hold real numbers, got dtype object")
        return X

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.network, self._params, self._with_complement, self._tail == (), self._scale, self._asked_threads
        return _rebuilt, (type(self), *state)


def _rebuilt(
    kind: type[Predictor],
    network: Network,
    params: np.ndarray,
    with_complement: bool,
    flat: bool,
    scale: tuple[np.ndarray, np.ndarray] | None,
    n_threads: int | None,
) -> Predictor:
    predictor = kind.__new__(kind)
    predictor._build(network, params, with_complement, flat, scale, n_threads)
    return predictor
