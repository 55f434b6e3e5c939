"""`Predictor`: a model frozen for prediction, where a single row costs less than a microsecond.

An estimator's `predict` checks its input in every way, packs the weights and allocates, which takes a hundred times as
long as a small network.  A predictor packs the weights once, checks shape and type alone, and remembers the last pair
of input and output arrays with their addresses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pymlp import backends
from pymlp.inference import block_rows, predict_rows
from pymlp.network import Network

# in place of a pair of arrays, before there is one: is not an array, so it is never found again
_NO_PAIR = (object(), object(), None, 0, 0)


class Predictor:
    """What a fitted model says of rows, fast: the weights packed, the buffers made and the pointers bound once.

    Any number of Python threads may call one predictor at the same time.  It is frozen: training the model further, or
    changing its weights, does not change it.  Backend, instruction set and number of threads are chosen when it is made
    (see `pymlp.config_context`).

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor or Network
        A fitted estimator; or a network, with `params`.
    params : ndarray of shape (n_parameters,), optional
        With a `Network` alone; copied.
    n_threads : int, optional
        Upper bound on the threads of one call; by default as many as pay, of those `pymlp.config` allows.

    Attributes
    ----------
    network : Network
    n_threads : int

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
    ``predictor(x, out=y)`` recognises the arrays of the last such call and then looks at nothing but their sizes.  Whoever
    gives a bound array another shape or dtype in place (``x.shape = ...``, ``x.dtype = ...``) must pass a view instead:
    ``x.view()``, ``x.reshape(...)`` and slices are new arrays.

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
        "_direct_rows",
        "_dtype",
        "_pair",
        "_params",
        "_repeat",
        "_tail",
        "_width",
        "_with_complement",
        "_write",
    )

    def __init__(self, model: Any, params: np.ndarray | None = None, *, n_threads: int | None = None) -> None:
        if isinstance(model, Network):
            if params is None:
                raise TypeError("params is missing: a Network holds no numbers")
            network, with_complement, flat = model, False, False
        elif hasattr(model, "_prediction_state"):
            if params is not None:
                raise TypeError(f"params goes with a Network; this {type(model).__name__} has its own")
            network, params, with_complement, flat = model._prediction_state()
        else:
            raise TypeError(f"model must be a fitted estimator of pymlp or a Network, got {type(model).__name__}")
        self._build(network, params, with_complement, flat, n_threads)

    def _build(
        self, network: Network, params: np.ndarray, with_complement: bool, flat: bool, n_threads: int | None
    ) -> None:
        # kept for pickling; backends may pack them otherwise
        self._params = network.check_params(params).copy()
        self._asked_threads, self._with_complement = n_threads, with_complement
        self._backend = backends.get().Predictor(network, self._params, n_threads, with_complement=with_complement)
        self._repeat, self._write = self._backend.repeat, self._backend.write
        self._dtype = np.dtype(network.dtype)
        self._width = network.inputs
        # of an answer's shape, what comes after the rows
        self._tail = () if flat else (self._backend.columns,)
        # a longer call is cut, for Ctrl-C
        self._direct_rows = block_rows(network.n_parameters)
        self._pair: tuple[Any, ...] = _NO_PAIR

    def __call__(self, X: Any, out: np.ndarray | None = None) -> np.ndarray:
        """Predict.

        Parameters
        ----------
        X : array-like or SciPy sparse matrix of shape (rows, inputs), or array-like of shape (inputs,)
            Fastest as a C-contiguous array of the network's dtype; anything else is converted.  A one-dimensional X is
            one row, and the answer then has no axis for rows.  Numbers that are not finite are not refused.
        out : ndarray, optional
            Written to and returned: C-contiguous, of the network's dtype and the answer's shape.  Must not overlap X.

        Returns
        -------
        ndarray
            For a classifier what `predict_proba` gives, (rows, classes) or (rows, labels); for a regressor what
            `predict` gives, (rows,) or (rows, targets); for a network (rows, outputs).  The same bits.

        Raises
        ------
        ValueError
            X or `out` does not fit; the message names it, and what it is.
        """
        if out is not None:
            # one tuple, so that another thread's pair is seen whole or not at all; it keeps the arrays alive
            last_X, last_out, bound, X_bytes, out_bytes = self._pair
            # a resize in place is the one change that moves an array's memory
            if X is last_X and out is last_out and X.nbytes == X_bytes and out.nbytes == out_bytes:
                code = self._repeat(bound)
                if code:
                    self._backend.fail(code)
                return out
            return self._predict_into(X, out)
        if X.__class__ is np.ndarray and X.dtype is self._dtype:
            shape = X.shape
            if len(shape) == 2 and shape[1] == self._width and shape[0] <= self._direct_rows and X.flags.c_contiguous:
                out = np.empty(shape[:1] + self._tail, self._dtype)
                self._write(X, shape[0], out)
                return out
        X = self._checked(X)
        out = np.empty(X.shape[:-1] + self._tail, self._dtype)
        self._fill(X, out)
        return out

    @property
    def network(self) -> Network:
        """What is computed."""
        return self._backend.network

    @property
    def n_threads(self) -> int:
        """Upper bound on the threads of one call."""
        return self._backend.n_threads

    def _checked(self, X: Any) -> Any:
        """X as an array of numbers or a sparse matrix, of the right width."""
        if not hasattr(X, "tocsr"):
            X = np.asarray(X)
            if X.dtype.kind not in "biuf":
                raise ValueError(f"X must hold real numbers, got dtype {X.dtype}")
        if X.ndim not in (1, 2) or X.shape[-1] != self._width or (X.ndim == 1 and hasattr(X, "tocsr")):
            raise ValueError(
                f"X must be of shape (rows, {self._width}), or ({self._width},) for one row, got {tuple(X.shape)}"
            )
        return X

    def _predict_into(self, X: Any, out: np.ndarray) -> np.ndarray:
        """Predict into an `out` that is not known yet; remember the pair if it can be used again as it is."""
        checked = self._checked(X)
        shape = checked.shape[:-1] + self._tail
        if not isinstance(out, np.ndarray) or out.dtype != self._dtype or out.shape != shape or not out.flags.carray:
            raise ValueError(
                f"out must be a writeable C-contiguous {self._dtype} array of shape {shape}, got {_described(out)}"
            )
        if isinstance(checked, np.ndarray):
            if np.may_share_memory(checked, out):
                raise ValueError("out must not overlap X")
            rows = checked.reshape(-1, self._width)
            if checked is X and X.dtype == self._dtype and X.flags.c_contiguous and X.flags.aligned and len(rows) <= self._direct_rows:
                bound = self._backend.bind(rows, out.reshape(-1, self._backend.columns))
                self._pair = (X, out, bound, X.nbytes, out.nbytes)
        self._fill(checked, out)
        return out

    def _fill(self, X: Any, out: np.ndarray) -> None:
        """Write the answer for a checked X into an `out` of the right shape."""
        if X.ndim == 1:
            X = X.reshape(1, -1)
        predict_rows(self._backend, X, out.reshape(-1, self._backend.columns))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.network, self._params, self._with_complement, self._tail == (), self._asked_threads)


def _rebuilt(
    network: Network, params: np.ndarray, with_complement: bool, flat: bool, n_threads: int | None
) -> Predictor:
    predictor = object.__new__(Predictor)
    predictor._build(network, params, with_complement, flat, n_threads)
    return predictor


def _described(out: Any) -> str:
    if not isinstance(out, np.ndarray):
        return type(out).__name__
    flags = "" if out.flags.c_contiguous else ", not contiguous", "" if out.flags.writeable else ", read-only"
    return f"{out.dtype} {out.shape}{''.join(flags)}"
