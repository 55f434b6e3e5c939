"""The one file that imports private names of scikit-learn: its checks of parameters; and the checks of data.

Whatever is wrong with parameters or data raises before a model changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from inspect import signature
from numbers import Integral, Number, Real
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from sklearn import metrics
from sklearn.base import is_regressor
from sklearn.utils import check_array, check_X_y, column_or_1d
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,
    StrOptions,
    make_constraint,
    validate_parameter_constraints,
)
from sklearn.utils.validation import validate_data

from pymlp.arrays import finite_numbers, packed, refuse_masked, refuse_others
from pymlp.finiteness import described, first_non_finite
from pymlp.frames import columns_of, matrix_of
from pymlp.functions import ACTIVATIONS
from pymlp.interruptible import copied
from pymlp.layers import Dense
from pymlp.losses import LOSSES, CustomLoss
from pymlp.network import DTYPES
from pymlp.optimizers import OPTIMIZERS, Optimizer
from pymlp.rows import is_converted_late
from pymlp.targets import CLASS_LOSSES, NUMBER_LOSSES
from pymlp.training import check_weight

# verdicts on values that are kept for a class
MOST_ALLOWED = 1024
# types of values that stay what they are, and that are allowed if an equal one of their type is
CONSTANTS = {bool, int, float, str, type(None)}
HIDDEN_ACTIVATIONS = tuple(name for name, row in ACTIVATIONS.items() if row.hidden)


def _losses(names: tuple[str, ...]) -> list[Any]:
    # by name, as an object of one of their kinds, or one of one's own
    return [StrOptions(set(names)), *(type(LOSSES[name]) for name in names), CustomLoss, callable]


# scikit-learn's constraints, so that its messages come out; activation and dtype take more than its own classes do
PARAMETER_CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left"), Dense],
    "activation": [StrOptions(set(HIDDEN_ACTIVATIONS)), list, tuple],
    "solver": [StrOptions({"lbfgs", *OPTIMIZERS}), Optimizer],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), HasMethods(["rates"]), callable],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "l1_ratio": [Interval(Real, 0, 1, closed="both")],
    "scoring": [None, str, callable],
    "standardize": ["boolean"],
    "max_time": [None, Interval(Real, 0, None, closed="neither")],
    "roll_back": ["boolean"],
    "dtype": [None, StrOptions(set(DTYPES)), Options(type, {np.float32, np.float64})],
    "input_dropout": [Interval(Real, 0, 1, closed="left")],
}
CLASSIFIER_CONSTRAINTS = {
    **PARAMETER_CONSTRAINTS,
    "loss": _losses(CLASS_LOSSES),
    "class_weight": [None, StrOptions({"balanced"}), dict, list, tuple],
}
REGRESSOR_CONSTRAINTS = {
    **PARAMETER_CONSTRAINTS,
    "loss": _losses(NUMBER_LOSSES),
    "standardize_target": ["boolean"],
}


class _Constraints:
    """Those of a class as they were when last looked at, and what has been found out by them.

    Parameters
    ----------
    kind : type
    constraints : dict
        scikit-learn's constraints by a parameter's name.
    """

    def __init__(self, kind: type, constraints: dict[str, Any]) -> None:
        self._constraints = _copied(constraints)
        # the default of a dataclass's field is the attribute of its class; no value is `constraints`
        self.defaults = [(name, getattr(kind, name, constraints)) for name in sorted(constraints)]
        self._allowed: dict[tuple, bool] = {}

    def are(self, constraints: dict[str, Any]) -> bool:
        """Whether they are still the same."""
        return self._constraints == constraints

    def allow(self, name: str, value: Any) -> bool:
        """Whether a parameter may have a value; False also where that must be found out anew each time."""
        if type(value) not in CONSTANTS and not (type(value) is tuple and all(type(each) is int for each in value)):
            return False
        key = name, type(value), value
        allowed = self._allowed.get(key)
        if allowed is None:
            each = self._constraints[name]
            allowed = each == "no_validation" or any(make_constraint(one).is_satisfied_by(value) for one in each)
            if len(self._allowed) >= MOST_ALLOWED:
                self._allowed.clear()
            self._allowed[key] = allowed
        return allowed


def _copied(constraints: dict[str, Any]) -> dict[str, Any]:
    return {name: each[:] if isinstance(each, list) else each for name, each in constraints.items()}


# by class, which must not live on because it was fitted once
_known_constraints: WeakKeyDictionary[type, _Constraints] = WeakKeyDictionary()


def check_parameters(estimator: Any) -> None:
    """Raise scikit-learn's error for the first parameter that breaks its constraint.

    What ``_validate_params`` does, without a look at the parameters that have their defaults: nearly all of them.
    """
    kind, constraints = type(estimator), estimator._parameter_constraints
    known = _known_constraints.get(kind)
    if known is None or not known.are(constraints):
        known = _known_constraints[kind] = _Constraints(kind, constraints)
    changed = {name: value for name, default in known.defaults if (value := getattr(estimator, name)) is not default}
    # numbers and names are the same in one fit after another, and scikit-learn's look at them takes as long as 50 steps
    # of a small network
    if not all(known.allow(name, value) for name, value in changed.items()):
        validate_parameter_constraints(constraints, changed, caller_name=kind.__name__)
    for name in ("learning_rate", "loss"):
        # a class is a callable
        value = changed.get(name)
        if isinstance(value, type):
            raise ValueError(f"{name} must be an object such as {value.__name__}(), not the class {value!r}")


def hidden_layers(hidden_layer_sizes: Any) -> tuple[int | Dense, ...]:
    """Hidden layers as widths or `Dense`; ValueError if a width is not above 0, or they come in no order."""
    if type(hidden_layer_sizes) is tuple and all(type(size) is int and size > 0 for size in hidden_layer_sizes):
        return hidden_layer_sizes
    if isinstance(hidden_layer_sizes, (str, bytes, Mapping, Set)):
        raise ValueError(
            f"hidden_layer_sizes must be a width, a Dense or a sequence of these, got {hidden_layer_sizes!r}; () is no "
            "hidden layer"
        )
    if isinstance(hidden_layer_sizes, np.ndarray):
        hidden_layer_sizes = hidden_layer_sizes.tolist()
    sizes = list(hidden_layer_sizes) if hasattr(hidden_layer_sizes, "__iter__") else [hidden_layer_sizes]
    if any(
        not isinstance(size, Dense) and (isinstance(size, bool) or not isinstance(size, Integral) or size <= 0)
        for size in sizes
    ):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return tuple(size if isinstance(size, Dense) else int(size) for size in sizes)


def _non_finite_message(error: ValueError, name: str, array: Any, dtype: Any = None, names: Any = None) -> str | None:
    """What to say instead of `error`, with row and column, if a NaN or an infinity in `array` is the reason for it."""
    try:
        values = array if hasattr(array, "tocsr") else np.asarray(array)
        if values.dtype.kind == "O":
            values = np.asarray(values, np.float64)
        found = first_non_finite(values, dtype)
    except (TypeError, ValueError):
        # not numbers at all: `error` says so
        return None
    if found is None:
        return None
    # scikit-learn's first line says this without the place; its further lines give advice
    advice = str(error).split("\n")[1:]
    return "\n".join([described(name, found, has_columns=values.ndim == 2, dtype=dtype, names=names), *advice])


def _as_matrix(X: Any, dtypes: tuple[str, ...]) -> tuple[Any, list[Any] | None]:
    """X, or the matrix that a table becomes, with the names of its columns."""
    columns = columns_of(X)
    if columns is None:
        return X, None
    return matrix_of(columns, dtypes), [name for name, _ in columns]


def _in_c_order(X: Any, dtypes: tuple[str, ...]) -> Any:
    """X, or of an array in another order a copy, which is made in pieces: scikit-learn's takes seconds in which Ctrl-C
    would not come through."""
    is_other = type(X) is np.ndarray and X.ndim == 2 and X.dtype in dtypes and not X.flags.c_contiguous
    return copied(X) if is_other else X


def _type_for(X: Any, dtypes: tuple[str, ...]) -> str:
    """The type to compute in: that of X, in whatever byte order, or the first if it is none of them."""
    name = getattr(getattr(X, "dtype", None), "name", None)
    return name if name in dtypes else dtypes[0]


def _asked(X: Any, dtypes: tuple[str, ...]) -> dict[str, Any]:
    # What to ask scikit-learn for.  None keeps the type, and with it an array whose copy would be large; its numbers
    # are looked at by _checked_range, because scikit-learn makes an array of truth values of all of them.
    dtype = _type_for(X, dtypes)
    if is_converted_late(X, dtype):
        return {"dtype": None, "ensure_all_finite": False}
    # what has no NumPy type finds its own among them
    return {"dtype": dtype if isinstance(getattr(X, "dtype", None), np.dtype) else dtypes}


def _checked_range(X: Any, dtype: str) -> Any:
    """X as training takes it: what is not converted late can be read by C."""
    if not isinstance(X, np.ndarray):
        return X.tocsr()
    if not is_converted_late(X, dtype):
        return packed(X, dtype)
    if first_non_finite(X, dtype) is not None:
        raise ValueError(f"Input X contains NaN, infinity or a value too large for dtype('{dtype}').")
    return X


def _ready_type(X: Any, y: Any, dtypes: tuple[str, ...]) -> str | None:
    # That of arrays which scikit-learn would hand back as they are.  Its own look takes as long as 50 steps of a small
    # network; to ask a dtype for its name, as long as two.
    is_ready = (
        type(X) is type(y) is np.ndarray
        and X.ndim == 2
        and X.size > 0
        and X.dtype in dtypes
        and X.flags.c_contiguous
        and X.flags.aligned
        and (y.ndim == 1 or (y.ndim == 2 and y.shape[1] > 1))
        and len(y) == len(X)
        and y.dtype.kind in "biuf"
        and first_non_finite(X) is first_non_finite(y) is None
    )
    return dtypes[dtypes.index(X.dtype)] if is_ready else None


def check_training_data(
    estimator: Any, X: Any, y: Any, *, dtypes: tuple[str, ...], reset: bool, numeric: bool, suffix: str = ""
) -> tuple[Any, np.ndarray, str]:
    """X as a C-contiguous or CSR array, y as an array, and the type to compute in.

    X is of that type, unless it is a dense array whose copy would be large: see `pymlp.rows.is_converted_late`.

    Parameters
    ----------
    estimator : estimator
        Gets ``n_features_in_`` and ``feature_names_in_`` if `reset`, else X must fit the ones it has.
    X, y
        What was given to fit.
    dtypes : tuple of str
        Types to compute in: that of X, or the first if it is none of them.
    reset : bool
    numeric : bool
        Whether y must hold numbers.
    suffix : str
        Of the names of X and y in messages about their numbers.

    Raises
    ------
    ValueError
        scikit-learn's messages; for NaN and infinity with the first row and column.
    TypeError
        X, or a y of numbers, holds something else, or has masked entries; see `pymlp.arrays`.
    """
    X = _in_c_order(X, dtypes)
    ready_type = _ready_type(X, y, dtypes)
    if ready_type is not None:
        if reset:
            # an array has no names, which validate_data finds out by asking whether it is any kind of data frame
            estimator.__dict__.pop("feature_names_in_", None)
            estimator.n_features_in_ = X.shape[1]
        else:
            validate_data(estimator, X, y, reset=False, skip_check_array=True)
        return X, y, ready_type
    options = {"accept_sparse": ["csr", "csc"], "multi_output": True, "y_numeric": numeric, "order": "C"}
    if numeric and hasattr(y, "tocsr"):
        raise ValueError("y must be a dense array: only the labels of a classifier may be sparse")
    refuse_others(f"X{suffix}", X)
    (refuse_others if numeric else refuse_masked)(f"y{suffix}", y)
    matrix, names = _as_matrix(X, dtypes)
    dtype = _type_for(matrix, dtypes)
    try:
        with np.errstate(over="ignore"):
            if names is None:
                X_checked, y = validate_data(estimator, X, y, reset=reset, **_asked(X, dtypes), **options)
            else:
                # the names are the table's, the numbers the matrix's
                validate_data(estimator, X, reset=reset, skip_check_array=True)
                X_checked, y = check_X_y(matrix, y, dtype=dtypes, estimator=estimator, **options)
        dtype = _type_for(X_checked, dtypes)
        X_checked = _checked_range(X_checked, dtype)
    except ValueError as error:
        message = _non_finite_message(error, f"X{suffix}", matrix, dtype, names) or _non_finite_message(
            error, f"y{suffix}", y
        )
        if message is None:
            raise
        raise ValueError(message) from error
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    return X_checked, y, dtype


@contextmanager
def chunk_named(number: int) -> Iterator[None]:
    """Say in an error of the body which chunk of a stream does not fit: `number`, counted from 0."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"chunk {number} of source (counted from 0) does not fit: {error}") from error


def check_chunk(
    estimator: Any, chunk: Any, number: int, dtypes: tuple[str, ...], *, reset: bool
) -> tuple[Any, np.ndarray, np.ndarray | None, str]:
    """X and y of a stream's chunk as `check_training_data` gives them, its weights or None, and the type to compute in.

    ValueError says which chunk does not fit: `number`, counted from 0.
    """
    if not isinstance(chunk, (tuple, list)) or len(chunk) not in (2, 3):
        raise ValueError(f"chunk {number} of source must be (X, y) or (X, y, weight), got {type(chunk).__name__}")
    X, y, *rest = chunk
    with chunk_named(number):
        X, y, dtype = check_training_data(estimator, X, y, dtypes=dtypes, reset=reset, numeric=is_regressor(estimator))
        # a whole chunk may count for nothing
        weight = check_sample_weight(rest[0] if rest else None, X.shape[0], dtype, "weight", some=False)
    return X, y, weight, dtype


def check_prediction_data(estimator: Any, X: Any, dtype: str) -> Any:
    """X as `check_training_data` gives it, checked against the data the estimator was fitted to."""
    X = _in_c_order(X, (dtype,))
    options = {"accept_sparse": ["csr", "csc"], "order": "C"}
    refuse_others("X", X)
    matrix, names = _as_matrix(X, (dtype,))
    try:
        with np.errstate(over="ignore"):
            if names is None:
                checked = validate_data(estimator, X, reset=False, **_asked(X, (dtype,)), **options)
            else:
                validate_data(estimator, X, reset=False, skip_check_array=True)
                checked = check_array(matrix, dtype=dtype, estimator=estimator, input_name="X", **options)
        checked = _checked_range(checked, dtype)
    except ValueError as error:
        message = _non_finite_message(error, "X", matrix, dtype, names)
        if message is None:
            raise
        raise ValueError(message) from error
    return checked


def check_targets(y: Any, rows: int, columns: int) -> np.ndarray:
    """Numbers to score predictions by, as a float64 array (rows, columns); ValueError if they are anything else."""
    y = finite_numbers("y", y, "float64")
    if y.shape not in ((rows, columns), (rows,) if columns == 1 else ()):
        raise ValueError(f"y must be of shape ({rows}, {columns}), got {y.shape}")
    return y.reshape(rows, columns)


def check_validation_data(estimator: Any, X: Any, y: Any, dtype: str, *, numeric: bool) -> tuple[Any, np.ndarray]:
    """X_val and y_val as `check_training_data` gives X and y, checked against the data the estimator is fitted to."""
    try:
        X, y, _ = check_training_data(estimator, X, y, dtypes=(dtype,), reset=False, numeric=numeric, suffix="_val")
    except ValueError as error:
        raise ValueError(f"X_val and y_val do not fit: {error}") from error
    return X, y


def check_scoring(estimator: Any, scoring: Any) -> Callable[[Any, Any, Any, np.ndarray | None], float]:
    """What `scoring` names, as ``score(estimator, X, y, sample_weight)``; weighted where the measure takes weights.

    Raises
    ------
    ValueError
        scikit-learn knows no such name; or, when called, the score is not a number.
    """
    scorer = metrics.check_scoring(estimator, scoring)
    # a scorer takes weights for any measure, and passes them on
    weighted = "sample_weight" in signature(getattr(scorer, "_score_func", scorer)).parameters

    def score(fitted: Any, X: Any, y: Any, sample_weight: np.ndarray | None) -> float:
        options = {"sample_weight": sample_weight} if weighted and sample_weight is not None else {}
        value = scorer(fitted, X, y, **options)
        if not isinstance(value, Real):
            raise ValueError(f"scoring must give one number, but {scoring!r} gives {value!r}")
        return float(value)

    return score


def check_sample_weight(
    sample_weight: Any, rows: int, dtype: str, name: str = "sample_weight", *, some: bool = True
) -> np.ndarray | None:
    """Weights as an array of shape (rows,), from an array, one number for all rows, or None; with `some` not all 0."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Number):
        sample_weight = np.full(rows, sample_weight)
    return check_weight(sample_weight, rows, dtype, name, some=some)
