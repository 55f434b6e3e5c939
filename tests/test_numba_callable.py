"""Predictors in code that Numba compiles: their bits, what keeps them alive, what is kept on disk, what is refused."""

import copy
import gc
import importlib.util
import os
import pickle
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matrix
import numpy as np
import pytest
from answering_models import FORMS, INPUTS, network, predictor, rows

from pymlp import Predictor, backends, config_context
from pymlp.losses import LOSSES

numba = pytest.importorskip("numba", reason="Numba is not installed")
numba_callable = pytest.importorskip("pymlp.numba_callable")
pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
pytestmark = [
    pytest.mark.skipif(backends.missing_reason("c") is not None, reason="the C engine is not built"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@numba.njit
def each_row(f, X, out):
    for i in range(len(X)):
        f(X[i], out[i])


@numba.njit(parallel=True)
def each_row_in_parallel(f, X, out):
    for i in numba.prange(len(X)):
        f(X[i], out[i])


@numba.njit
def each_row_with_gradient(f, X, out, gradient):
    for i in range(len(X)):
        f(X[i], out[i], gradient[i])


@numba.njit(nogil=True)
def all_rows(f, X, out):
    return f(X, out=out)


@numba.njit
def made(f, X):
    return f(X), f(X[0])


# their own columns, or none, as the predictor has it; each is a type of its own to Numba
TYPES = [("columns", "float32"), ("columns", "float64"), ("number", "float64")]


@pytest.mark.parametrize(("form", "dtype"), TYPES)
def test_compiled_code_gets_the_predictors_bits(form, dtype):
    of = predictor(form, dtype)
    f, X = of.as_numba(), rows(20, dtype)
    expected = of(X)
    for loop in (each_row, each_row_in_parallel):
        # one row's answer has an axis, also where it is a single number
        out = np.full((20, of._backend.columns), np.nan, dtype)
        loop(f, X, out)
        assert out.tobytes() == expected.tobytes()
    out = np.full_like(expected, np.nan)
    assert all_rows(f, X, out) is not None
    assert out.tobytes() == expected.tobytes()
    new, first = made(f, X)
    assert (new.dtype, new.shape, new.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
    assert np.shape(first) == expected.shape[1:]
    assert (first == of(X[0])).all()
    assert all_rows(f, X[:0], out[:0]).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize(("form", "dtype"), TYPES)
def test_values_and_gradients(form, dtype):
    of = predictor(form, dtype)
    f, X = of.as_numba(value_and_gradient=True), rows(20, dtype)
    expected, slopes = of.value_and_gradient(X)
    (values, gradient), (first, first_gradient) = made(f, X)
    for found, wanted in ((values, expected), (gradient, slopes), (first_gradient, slopes[0])):
        assert (found.shape, found.tobytes()) == (wanted.shape, wanted.tobytes())
    assert (first == expected[0]).all()
    columns = of._backend.columns
    out, jacobian = np.empty((20, columns), dtype), np.empty((20, columns, INPUTS), dtype)
    each_row_with_gradient(f, X, out, jacobian)
    assert out.tobytes() == expected.tobytes()
    assert jacobian.tobytes() == of.jacobian(X).tobytes()
    out, gradient = f(X, np.empty_like(expected), np.empty_like(slopes))
    assert out.tobytes() == expected.tobytes()
    assert gradient.tobytes() == slopes.tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_answer(form):
    # types that are compiled already, so that this takes no time
    of = predictor(form)
    X = rows(50)
    for count in (0, 1, 50):
        assert of.as_numba()(X[:count]).tobytes() == of(X[:count]).tobytes()
        both = of.as_numba(value_and_gradient=True)(X[:count])
        for found, expected in zip(both, of.value_and_gradient(X[:count]), strict=True):
            assert (found.shape, found.tobytes()) == (expected.shape, expected.tobytes())


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(loss):
    outputs = 2 * LOSSES[loss].group if LOSSES[loss].output_activation != "logistic" else 2
    of = Predictor(*network((INPUTS, 8, outputs), loss=loss))
    X = rows(5)
    values, gradient = of.as_numba(value_and_gradient=True)(X)
    assert values.tobytes() == of(X).tobytes() == of.as_numba()(X).tobytes()
    assert gradient.tobytes() == of.jacobian(X).tobytes()


@pytest.mark.parametrize("activation", matrix.HIDDEN_ACTIVATIONS)
def test_every_activation(activation):
    of = Predictor(*network((INPUTS, 8, 2), activation=activation))
    X = rows(5)
    values, gradient = of.as_numba(value_and_gradient=True)(X)
    assert values.tobytes() == of(X).tobytes() == of.as_numba()(X).tobytes()
    assert gradient.tobytes() == of.jacobian(X).tobytes()


def test_many_threads_call_at_once():
    of = predictor("wide")
    f, X = of.as_numba(), rows(60)
    expected = of(X)

    def right(start):
        out = np.empty((40, 2))
        return all(
            all_rows(f, X[start : start + 40], out).tobytes() == expected[start : start + 40].tobytes()
            for _ in range(20)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(right, range(16)))


def test_code_with_the_function_as_an_argument_serves_all_of_its_type():
    @numba.njit
    def total(functions, x):
        sum = 0.0
        for f in functions:
            sum += f(x)[0]
        return sum

    predictors = [predictor("columns"), predictor("column"), predictor("wide"), predictor("two classes")]
    x = rows(1)[0]
    total(tuple(each.as_numba() for each in predictors), x)
    assert total(tuple(each.as_numba() for each in predictors[::-1]), x) == sum(each(x)[0] for each in predictors[::-1])
    assert len(total.signatures) == 1


UNCOMPILED = """
import numba, numpy as np, pymlp

network = pymlp.Network.from_widths((2, 3, 2), dtype="float64")
predictor = pymlp.Predictor(network, network.initial_params(0))
f, g = predictor.as_numba(), predictor.as_numba(value_and_gradient=True)

@numba.njit
def code(f, g, x, out, gradient):
    g(x, out, gradient)
    return f(x), f(x, np.empty(2)), g(x)[1]

x, out, gradient = np.ones(2), np.empty(2), np.empty((2, 2))
first, second, third = code(f, g, x, out, gradient)
assert (first == predictor(x)).all() and (second == first).all() and (out == first).all()
assert (third == predictor.jacobian(x)).all() and (gradient == third).all()
"""


def test_works_where_nothing_is_compiled():
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", UNCOMPILED], check=True, env=environment)


# --- lifetime ---------------------------------------------------------------------------------------------------------


def compiled_with_a_global(parallel):
    """A compiled function around a predictor that nobody else has, with a weak reference to it and the answer."""
    of = predictor("columns")
    f, X = of.as_numba(), rows(4)

    @numba.njit(parallel=parallel)
    def code(X, out):
        for i in numba.prange(len(X)):
            f(X[i], out[i])

    code(X, np.empty((4, 4)))
    expected, weights = of(X).tobytes(), weakref.ref(of._backend)
    # as if the name had been bound to something else
    code.py_func.__closure__[0].cell_contents = None
    return code, X, expected, weights


@pytest.mark.parametrize("parallel", [False, True])
def test_machine_code_keeps_its_function_alive(parallel):
    code, X, expected, weights = compiled_with_a_global(parallel)

    @numba.njit
    def around(X, out):
        code(X, out)

    out = np.empty((4, 4))
    around(X, out)
    code = None
    around.py_func.__closure__[0].cell_contents = None
    gc.collect()
    others = [predictor("columns") for _ in range(20)]
    out[:] = np.nan
    around(X, out)
    assert out.tobytes() == expected
    assert weights() is not None
    del around
    gc.collect()
    # Numba keeps the code of parallel loops for ever
    assert (weights() is not None) == parallel
    assert len(others) == 20


def test_a_function_keeps_the_weights_alive_and_no_longer():
    of = predictor("columns")
    f, X = of.as_numba(), rows(4)
    expected, weights = of(X).tobytes(), weakref.ref(of._backend)
    del of
    gc.collect()
    out = np.empty((4, 4))
    each_row(f, X, out)
    assert out.tobytes() == expected
    del f
    gc.collect()
    assert weights() is None


def test_functions_can_be_pickled_and_copied():
    of = predictor("number")
    X = rows(4)
    for value_and_gradient in (False, True):
        f = of.as_numba(value_and_gradient=value_and_gradient)
        for other in (pickle.loads(pickle.dumps(f)), copy.copy(f), copy.deepcopy(f)):
            assert other.value_and_gradient == value_and_gradient
            assert pickle.dumps(other(X)) == pickle.dumps(f(X))


KEPT = """
import sys, warnings
import numba, numpy as np, pymlp

network = pymlp.Network.from_widths((2, 3, 1), dtype="float64")
predictor = pymlp.Predictor(network, network.initial_params(int(sys.argv[1])))
f = predictor.as_numba()

@numba.njit(cache=True)
def by_argument(f, x):
    return f(x)[0]

@numba.njit(cache=True)
def by_name(x):
    return f(x)[0]

x = np.ones(2)
assert by_argument(f, x) == predictor(x)[0]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert by_name(x) == predictor(x)[0]
assert "dynamic globals" in str(caught[0].message), caught
print(sum(by_argument.stats.cache_hits.values()), sum(by_name.stats.cache_hits.values()))
"""


def test_only_code_without_addresses_is_kept_on_disk(tmp_path):
    script = tmp_path / "kept.py"
    script.write_text(KEPT)
    for seed, hits in (("0", "0 0"), ("1", "1 0")):
        command = [sys.executable, str(script), seed]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == hits.split()


def test_code_kept_on_disk_is_not_found_by_another_version(tmp_path):
    source = Path(numba_callable.__file__).read_text()
    # other places in the record
    places = "FUNCTION, USER_DATA, INPUTS, COLUMNS, LENGTH = range(5)"
    assert places in source
    other = tmp_path / "other_callable.py"
    other.write_text(source.replace(places, "FUNCTION, USER_DATA, COLUMNS, INPUTS, LENGTH = range(5)"))
    spec = importlib.util.spec_from_file_location("other_callable", other)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    here, there = (each.PredictorFunctionType("float64", False, False) for each in (numba_callable, module))
    assert here == numba_callable.PredictorFunctionType("float64", False, False)
    assert here.name != there.name


# --- what is refused --------------------------------------------------------------------------------------------------


@numba.njit
def called(f, *arguments):
    return f(*arguments)


def both(f, *arguments):
    """From compiled code and from Python."""
    yield lambda: called(f, *arguments)
    yield lambda: f(*arguments)


def test_shapes_that_do_not_fit():
    of = predictor("columns")
    f, g = of.as_numba(), of.as_numba(value_and_gradient=True)
    X, out, gradient = rows(5), np.zeros((5, 4)), np.zeros((5, 4, 3))
    for arguments, message in (
        ((f, rows(5, inputs=4), out), "x must have 3 numbers a row, got 4"),
        ((f, rows(5, inputs=4)[0], out[0]), "x must have 3 numbers a row, got 4"),
        ((f, X, out[:4]), "out must have 4 numbers for each of 5 rows, got 16 in all"),
        ((f, X, out.reshape(4, 5)), "out must have 4 numbers for each of 5 rows, got 20 in all"),
        ((f, X[0], out.ravel()), "out must have 4 numbers for each of 1 rows, got 20 in all"),
        ((g, X, out, gradient[:4]), "gradient must have 4 x 3 numbers for each of 5 rows, got 48 in all"),
        ((g, X, out, gradient.reshape(5, 3, 4)), "gradient must have 4 x 3 numbers for each of 5 rows, got 60 in all"),
        ((g, X, out, gradient.reshape(10, 2, 3)), "gradient must have 4 x 3 numbers"),
        ((g, X[0], out[:2].ravel(), gradient[0]), "out must have 4 numbers for each of 1 rows, got 8"),
    ):
        for call in both(*arguments):
            with pytest.raises(ValueError, match=message) as caught:
                call()
            assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert not out.any()
    assert not gradient.any()


def test_arrays_that_overlap():
    of = predictor("columns")
    f, g = of.as_numba(), of.as_numba(value_and_gradient=True)
    memory = np.ones(100)
    x, out, gradient = memory[:3], memory[2:6], memory[10:22].reshape(4, 3)
    for arguments, message in (
        ((f, x, out), "out must not overlap x"),
        ((g, x, memory[3:7], memory[2:14].reshape(4, 3)), "gradient must not overlap x or out"),
        ((g, x, memory[21:25], gradient), "gradient must not overlap x or out"),
    ):
        for call in both(*arguments):
            with pytest.raises(ValueError, match=message):
                call()
    assert (memory == 1).all()
    f(x, memory[3:7])
    assert memory[3:7].tobytes() == of(x).tobytes()


def test_types_that_do_not_fit():
    of = predictor("columns")
    f, g = of.as_numba(), of.as_numba(value_and_gradient=True)
    X, out = rows(5), np.zeros((5, 4))
    read_only = out.copy()
    read_only.flags.writeable = False
    for arguments, message in (
        ((f, X.astype("float32"), out), r"x must be a C-contiguous float64 array whose dimensions are 1 or 2, got"),
        ((f, X[:, ::2], out), r"x must be a C-contiguous float64 array.*2d, A"),
        ((f, np.asfortranarray(X), out), r"x must be a C-contiguous float64 array.*2d, F"),
        ((f, X[np.newaxis], out), "x must be a C-contiguous float64 array.*3d, C"),
        ((f, 1.0), "x must be a C-contiguous float64 array.*got float64"),
        ((f, X, out[0]), r"out must be a writable C-contiguous float64 array whose dimensions are 2, got"),
        ((f, X, read_only), "out must be a writable C-contiguous float64 array.*readonly"),
        ((f, X, out.astype("float32")), "out must be a writable C-contiguous float64 array"),
        ((g, X, out, out), "gradient must be a writable C-contiguous float64 array whose dimensions are 3, got"),
        ((f,), r"a predictor's function takes \(x\), or \(x, out\), got \(\)"),
        ((f, X, out, out), r"takes \(x\), or \(x, out\), got \(array"),
        ((g, X, out), r"takes \(x\), or \(x, out, gradient\), got \(array"),
    ):
        with pytest.raises(numba.TypingError, match=f"(?s){message}"):
            called(*arguments)
        with pytest.raises(TypeError, match=f"(?s){message.replace('array', '(array|ndarray)')}"):
            arguments[0](*arguments[1:])
    # what reads only may be read only
    X.flags.writeable = False
    assert called(f, X).tobytes() == f(x=X).tobytes() == f(X, out=out).tobytes() == of(X).tobytes()
    with pytest.raises(TypeError, match=r"got \(ndarray, y=\)"):
        f(X, y=out)


def test_nothing_is_written_where_a_parallel_loop_fails():
    of = predictor("columns")
    X, out = rows(5, inputs=4), np.zeros((5, 4))
    with pytest.raises((SystemError, ValueError)):
        each_row_in_parallel(of.as_numba(), X, out)
    assert not out.any()


# --- the Numba backend ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", matrix.DTYPES)
@pytest.mark.parametrize("backend", ["numba"])
def test_the_backend_without_a_compiler(backend, dtype):
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    for form in FORMS:
        with config_context(backend=backend):
            of = predictor(form, dtype)
        for count in (0, 1, 7, 30):
            X = rows(count, dtype)
            values, gradient = of.as_numba(value_and_gradient=True)(X)
            expected, slopes = of.value_and_gradient(X)
            np.testing.assert_allclose(of.as_numba()(X), expected, tolerance)
            np.testing.assert_allclose(values, expected, tolerance)
            np.testing.assert_allclose(gradient, slopes, tolerance, tolerance * np.abs(slopes).max(initial=0))
        if count:
            out = np.empty((count, of._backend.columns), dtype)
            each_row_in_parallel(of.as_numba(), X, out)
            np.testing.assert_allclose(out.reshape(expected.shape), expected, tolerance)
    with pytest.raises(backends.BackendUnavailableError, match="has kind='rows' alone"):
        of.as_low_level_callable(column=0)


@pytest.mark.parametrize("features", matrix.FEATURE_SETS, ids=str)
@pytest.mark.parametrize("backend", ["numba"])
def test_features_of_layers_in_the_backend_without_a_compiler(backend, features):
    case = matrix.make_feature_case(features, 11, 9, 2, "gelu", dtype="float64")
    with config_context(backend=backend):
        of = Predictor(case.network, case.params)
    values, gradient = of.as_numba(value_and_gradient=True)(case.X)
    expected, slopes = of.value_and_gradient(case.X)
    np.testing.assert_allclose(values, expected, 1e-10)
    np.testing.assert_allclose(gradient, slopes, 1e-9, 1e-10)
