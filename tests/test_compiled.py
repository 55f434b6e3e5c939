"""Predictors as C functions called by their addresses: their bits, what keeps them alive, what they refuse."""

import copy
import ctypes
import gc
import pickle
import shutil
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from answering_models import FORMS, INPUTS, network, predictor, rows
from builds import setup_flags

from pymlp import Predictor, backends, config_context
from pymlp.backends import BackendUnavailableError
from pymlp.compiled import KINDS

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
pytestmark = [
    pytest.mark.skipif(backends.missing_reason("c") is not None, reason="the C engine is not built"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

DTYPES = ("float32", "float64")


def address(array):
    return array.ctypes.data


def answers(function, X, columns):
    """What a function of the kind "rows" writes: values, and gradient if it has one."""
    out, gradient = np.full((len(X), columns), np.nan, X.dtype), np.full((len(X), columns, X.shape[1]), np.nan, X.dtype)
    more = (address(gradient),) if function.value_and_gradient else ()
    assert function.ctypes(function.user_data, address(X), len(X), address(out), *more) == 0
    return (out, gradient) if function.value_and_gradient else out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_rows_have_the_predictors_bits(form, dtype):
    of = predictor(form, dtype)
    for count in (0, 1, 2, 40):
        X = rows(count, dtype)
        expected, slopes = of(X), of.jacobian(X)
        columns = slopes.shape[1]
        assert answers(of.as_cfunc(), X, columns).tobytes() == expected.tobytes()
        out, gradient = answers(of.as_cfunc(value_and_gradient=True), X, columns)
        assert out.tobytes() == expected.tobytes()
        assert gradient.tobytes() == slopes.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_functions_of_one_number_give_one_column_of_a_row(form, dtype):
    of = predictor(form, dtype)
    for x in rows(3):
        row = x.astype(dtype)
        expected, slopes = np.atleast_1d(of(row)), of.jacobian(row)
        for column in range(len(expected)):
            function = of.as_cfunc("point", column=column)
            assert function.ctypes(INPUTS, address(x), function.user_data) == expected[column]
            function = of.as_cfunc("point", column=column, value_and_gradient=True)
            gradient = np.full(INPUTS, np.nan)
            assert function.ctypes(INPUTS, address(x), address(gradient), function.user_data) == expected[column]
            assert (gradient == slopes[column]).all()
            # as NLopt asks where it wants the value alone
            assert function.ctypes(INPUTS, address(x), None, function.user_data) == expected[column]


@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_of_one_variable(dtype):
    of = Predictor(*network((1, 9, 1), dtype))
    function, both = of.as_cfunc("number"), of.as_cfunc("number", value_and_gradient=True)
    slope = np.empty(1)
    for x in (-1.5, 0.0, 0.3):
        row = np.array([x], dtype)
        assert function.ctypes(x, function.user_data) == of(row)[0]
        assert both.ctypes(x, address(slope), both.user_data) == of(row)[0]
        assert slope[0] == of.jacobian(row)[0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("timed", [False, True])
def test_right_hand_sides(timed, dtype):
    of = Predictor(*network((2 + timed, 9, 2), dtype))
    function, both = of.as_cfunc("ode"), of.as_cfunc("ode", value_and_gradient=True)
    for t, *state in rows(3):
        state, rates, slopes = np.array(state), np.empty(2), np.empty((2, 2 + timed))
        row = np.array([t, *state] if timed else state, dtype)
        function.ctypes(t, address(state), address(rates), function.user_data)
        assert (rates == of(row)).all()
        rates[:] = np.nan
        both.ctypes(t, address(state), address(rates), address(slopes), both.user_data)
        assert (rates == of(row)).all()
        assert (slopes == of.jacobian(row)).all()


def test_a_row_too_long_for_the_stack():
    of = Predictor(*network((1500, 4, 3), "float32"))
    x, slopes = rows(1, inputs=1500)[0], np.empty(1500)
    function = of.as_cfunc("point", column=2, value_and_gradient=True)
    assert function.ctypes(1500, address(x), address(slopes), function.user_data) == of(x.astype("float32"))[2]
    assert (slopes == of.jacobian(x.astype("float32"))[2]).all()


# --- in other programs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_address_and_signature_for_ctypes(dtype):
    of = predictor("scaled", dtype)
    X, out = rows(5, dtype), np.empty((5, 3), dtype)
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    # what another predictor is asked for meanwhile changes nothing
    assert predictor("columns", dtype).address == of.address
    assert kind(of.address)(of.user_data, address(X), 5, address(out)) == 0
    assert out.tobytes() == of(X).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_address_and_signature_for_cffi(dtype):
    cffi = pytest.importorskip("cffi", reason="cffi is not installed")
    ffi = cffi.FFI()
    of = predictor("columns", dtype)
    X, out, gradient = rows(5, dtype), np.empty((5, 4), dtype), np.empty((5, 4, INPUTS), dtype)
    function = ffi.cast(of.signature, of.address)
    numbers = {"float32": "float[]", "float64": "double[]"}[dtype]

    def pointer(array):
        return ffi.from_buffer(numbers, array)

    assert function(ffi.cast("void *", of.user_data), pointer(X), 5, pointer(out)) == 0
    assert out.tobytes() == of(X).tobytes()
    both = of.as_cfunc(value_and_gradient=True)
    function = ffi.cast(both.signature, both.address)
    assert function(ffi.cast("void *", both.user_data), pointer(X), 5, pointer(out), pointer(gradient)) == 0
    assert gradient.tobytes() == of.jacobian(X).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_signatures_are_those_of_the_header(kind):
    from pymlp._engine import ffi, lib

    of = Predictor(*network((1, 3, 1)))
    for value_and_gradient in (False, True)[: 1 + bool(KINDS[kind].gradient_function)]:
        function = of.as_cfunc(kind, value_and_gradient=value_and_gradient)
        row = KINDS[kind]
        name = row.gradient_function if value_and_gradient else row.function
        declared = ffi.typeof(ffi.addressof(lib, name))
        given = ffi.typeof(function.signature)
        assert given.result is declared.result
        same = [(a, b) for a, b in zip(given.args, declared.args, strict=True) if a is not b]
        # the header cannot say which numbers a predictor takes
        assert all(a is ffi.typeof("double *") and b is ffi.typeof("void *") for a, b in same)
        assert int(ffi.cast("uintptr_t", ffi.addressof(lib, name))) == function.address


def test_integrals():
    integrate = pytest.importorskip("scipy.integrate", reason="SciPy is not installed")
    of = Predictor(*network((1, 16, 1), activation="cosine"))
    exact = integrate.quad(lambda x: of(np.array([x]))[0], -2, 3)
    for kind in (None, "number", "point"):
        found = integrate.quad(of.as_low_level_callable(kind), -2, 3)
        assert found == exact
    assert of.as_low_level_callable().signature == "double (double, void *)"

    of = Predictor(*network((2, 8, 2)))
    exact = integrate.dblquad(lambda y, x: of(np.array([y, x]))[1], -1, 1, 0, lambda x: 1 + x * x)
    found = integrate.dblquad(of.as_low_level_callable(column=1), -1, 1, 0, lambda x: 1 + x * x)
    assert found == exact
    exact = integrate.nquad(lambda x, y: of(np.array([x, y]))[1], [(0, 1), (0, 2)])
    assert integrate.nquad(of.as_low_level_callable(column=1), [(0, 1), (0, 2)]) == exact
    # the second number is an argument
    assert integrate.quad(of.as_low_level_callable(column=1), 0, 1, args=(0.5,)) == integrate.quad(
        lambda x, y: of(np.array([x, y]))[1], 0, 1, args=(0.5,)
    )
    # one variable where there are two
    with pytest.warns(integrate.IntegrationWarning):
        assert np.isnan(integrate.quad(of.as_low_level_callable(column=1), 0, 1)[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_filters_of_images(dtype):
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    image = rows(12, inputs=15)
    of = Predictor(*network((9, 8, 1), dtype))
    function = of.as_low_level_callable("generic_filter")
    expected = ndimage.generic_filter(image, lambda window: of(window)[0], size=3)
    assert (ndimage.generic_filter(image, function, size=3) == expected).all()
    with pytest.raises(RuntimeError):
        ndimage.generic_filter(image, function, size=5)

    def line(numbers, result):
        for i in range(len(result)):
            result[i] = of(numbers[i : i + 9])[0]

    function = of.as_low_level_callable("generic_filter1d")
    assert (ndimage.generic_filter1d(image, function, 9) == ndimage.generic_filter1d(image, line, 9)).all()
    with pytest.raises(RuntimeError):
        ndimage.generic_filter1d(image, function, 8)

    made, params = network((2, 8, 2), dtype)
    params[made.layout[-1].bias] = 5
    of = Predictor(made, params)
    function = of.as_low_level_callable("geometric_transform")
    expected = ndimage.geometric_transform(image, lambda place: tuple(of(np.array(place, dtype))))
    assert expected.std() > 0.1
    assert (ndimage.geometric_transform(image, function) == expected).all()
    with pytest.raises(RuntimeError):
        ndimage.geometric_transform(rows(4)[..., np.newaxis], function)


SOLVER = """
typedef void right_hand_side(double t, double *state, double *rates, void *user_data);
void euler(right_hand_side *f, double *state, int n, int steps, double step, void *user_data) {
    double rates[8];
    for (int i = 0; i < steps; i++) {
        f(i * step, state, rates, user_data);
        for (int k = 0; k < n; k++) state[k] = state[k] + step * rates[k];
    }
}
"""


def test_a_solver_in_c(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    source, library = tmp_path / "solver.c", tmp_path / "solver.so"
    source.write_text(SOLVER)
    flags = [*setup_flags(), "-fvisibility=default", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, source, "-o", library], check=True)
    euler = ctypes.CDLL(str(library)).euler
    of = Predictor(*network((3, 9, 2)))
    function = of.as_cfunc("ode")
    state, expected = np.array([0.3, -0.2]), np.array([0.3, -0.2])
    pointers = [ctypes.c_void_p(number) for number in (function.address, address(state), function.user_data)]
    euler(pointers[0], pointers[1], 2, 100, ctypes.c_double(0.01), pointers[2])
    for i in range(100):
        expected += 0.01 * of(np.array([i * 0.01, *expected]))
    assert (state == expected).all()


# --- lifetime ---------------------------------------------------------------------------------------------------------


def test_what_is_handed_out_keeps_the_weights_alive():
    scipy = pytest.importorskip("scipy", reason="SciPy is not installed")
    of = predictor("scaled")
    x = rows(1)[0]
    expected, user_data = of(x)[1], None
    function = of.as_cfunc("point", column=1)
    low, data, call, user_data = of.as_low_level_callable(column=1), function.data, function.ctypes, function.user_data
    weights = weakref.ref(of._backend)
    del of, function
    gc.collect()
    # others take the memory that was given back, if any was
    others = [predictor("columns") for _ in range(20)]
    assert address(data) == user_data
    assert call(INPUTS, address(x), user_data) == expected
    del data
    gc.collect()
    assert weights() is not None
    assert isinstance(low, scipy.LowLevelCallable)
    integrand = scipy.integrate.quad(low, 0.0, 1e-9, args=tuple(x[1:]))[0]
    assert np.isfinite(integrand)
    del low
    gc.collect()
    assert weights() is None
    assert len(others) == 20


def test_addresses_live_as_long_as_the_predictor():
    of = predictor("scaled")
    before = of.address, of.user_data, of.signature
    gc.collect()
    assert (of.address, of.user_data, of.signature) == before
    other = copy.copy(of)
    assert other.user_data != of.user_data
    weights = weakref.ref(of._backend)
    del of
    gc.collect()
    assert weights() is None


def test_many_threads_at_once():
    of = predictor("wide", "float32")
    function, X = of.as_cfunc(value_and_gradient=True), rows(30, "float32")
    expected = [each.tobytes() for each in answers(function, X, 2)]
    wrong = []

    def work():
        for _ in range(20):
            if [each.tobytes() for each in answers(function, X, 2)] != expected:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert expected[0] == of(X).tobytes()


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_number_of_inputs_that_does_not_fit_gives_nan():
    of = predictor("number", "float32")
    x, slopes = rows(1)[0], np.zeros(5)
    function = of.as_cfunc("point")
    assert np.isnan(function.ctypes(INPUTS - 1, address(x), function.user_data))
    function = of.as_cfunc("point", value_and_gradient=True)
    assert np.isnan(function.ctypes(2, address(x), address(slopes), function.user_data))
    assert np.isnan(slopes).tolist() == [True, True, False, False, False]


def test_every_kind_refuses_what_does_not_fit():
    # as a host program would that mixes up two predictors' records
    three, one = predictor("number"), Predictor(*network((1, 4, 1)))
    x, value, slopes = rows(1)[0], np.full(5, 7.0), np.full(3, 7.0)
    record = three.as_cfunc("point")
    number, both = one.as_cfunc("number"), one.as_cfunc("number", value_and_gradient=True)
    assert np.isnan(number.ctypes(0.5, record.user_data))
    assert np.isnan(both.ctypes(0.5, address(slopes), record.user_data))
    assert np.isnan(slopes).tolist() == [True, False, False]
    window = three.as_cfunc("generic_filter")
    assert window.ctypes(address(x), 2, address(value), window.user_data) == 0
    line = three.as_cfunc("generic_filter1d")
    assert line.ctypes(address(x), 3, address(value), 2, line.user_data) == 0
    places = np.zeros(3, np.intp)
    places_of = three.as_cfunc("geometric_transform")
    assert places_of.ctypes(address(places), address(value), 2, 1, places_of.user_data) == 0
    assert places_of.ctypes(address(places), address(value), 3, 2, places_of.user_data) == 0
    assert (value == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["columns", "scaled"])
def test_the_derivative_alone(form, dtype):
    of = predictor(form, dtype)
    X = rows(4, dtype)
    slopes = of.jacobian(X)
    gradient = np.full_like(slopes, np.nan)
    function = of.as_cfunc(value_and_gradient=True)
    assert function.ctypes(function.user_data, address(X), len(X), None, address(gradient)) == 0
    assert gradient.tobytes() == slopes.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_longer_rows_than_the_stack_holds(dtype):
    of = Predictor(*network((3001, 2, 3001), dtype))
    x = rows(1, inputs=3001)[0]
    rates = np.empty(3001)
    function = of.as_cfunc("ode")
    function.ctypes(0.0, address(x), address(rates), function.user_data)
    assert (rates == of(x.astype(dtype))).all()
    of = Predictor(*network((3001, 2, 3000), dtype))
    function = of.as_cfunc("ode")
    state = x[1:].copy()
    function.ctypes(x[0], address(state), address(rates), function.user_data)
    assert (rates[:3000] == of(x.astype(dtype))).all()


def test_refusals():
    of = predictor("columns")
    with pytest.raises(ValueError, match="kind='integral' is not one of rows, number, point, generic_filter"):
        of.as_cfunc("integral")
    with pytest.raises(ValueError, match="kind='number' needs a predictor of one input; this one has 3 inputs"):
        of.as_low_level_callable("number", column=0)
    with pytest.raises(ValueError, match="kind='ode' needs a predictor of as many columns as inputs"):
        of.as_cfunc("ode")
    with pytest.raises(ValueError, match="column must say which of the 4 columns"):
        of.as_low_level_callable()
    for column in (4, -1, 1.0, "a", True):
        with pytest.raises(ValueError, match=r"column must be one of 0 to 3, got"):
            of.as_low_level_callable(column=column)
    with pytest.raises(ValueError, match="kind='rows' gives all columns"):
        of.as_cfunc(column=1)
    with pytest.raises(ValueError, match="kind='generic_filter' has no version with value_and_gradient=True"):
        of.as_cfunc("generic_filter", column=1, value_and_gradient=True)
    with pytest.raises(TypeError, match="pickle the predictor"):
        pickle.dumps(of.as_cfunc())
    with pytest.raises(TypeError, match="pickle the predictor"):
        copy.copy(of.as_cfunc())


def test_the_numpy_backend_has_no_compiled_code():
    with config_context(backend="numpy"):
        of = predictor("columns")
    for ask in (of.as_cfunc, of.as_numba, lambda: of.as_low_level_callable(column=0), lambda: of.address):
        with pytest.raises(BackendUnavailableError, match="made under the NumPy backend; make it under"):
            ask()


def test_what_is_not_installed_is_named(monkeypatch):
    of = predictor("columns")
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match="the package scipy is missing; run: pip install scipy"):
        of.as_low_level_callable(column=0)
    monkeypatch.setattr(backends, "missing_reason", lambda name: "the package numba is missing")
    monkeypatch.setattr("pymlp.compiled.missing_reason", backends.missing_reason)
    with pytest.raises(ImportError, match="the package numba is missing"):
        of.as_numba()


def test_nothing_is_imported_before_it_is_used():
    code = (
        "import sys, numpy, pymlp\n"
        "network = pymlp.Network.from_widths((2, 3, 1))\n"
        "predictor = pymlp.Predictor(network, network.initial_params(0))\n"
        "assert not {'numba', 'scipy', 'pymlp.compiled', 'pymlp.numba_callable'} & set(sys.modules)\n"
        "predictor.address\n"
        "assert not {'numba', 'scipy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
