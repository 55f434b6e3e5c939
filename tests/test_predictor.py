"""Predictors: the bits of predict and predict_proba for any rows, engine, threads and kind of array; many at once."""

import copy
import os
import pickle
import resource
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import matrix
import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError

import pymlp
from pymlp import MLPClassifier, MLPRegressor, Network, Predictor, backends, config_context, inference
from pymlp.losses import LOSSES

# tiles have 14 rows with AVX-512, 6 with AVX2; a strip has 238 at most
ROWS = (0, 1, 2, 13, 14, 15, 100, 5000)
WIDTHS = (9, 37, 70, 3)
has_engine = pytest.mark.skipif(backends.missing_reason("c") is not None, reason="the C engine is not built")


def data(rows: int, width: int = WIDTHS[0], dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(dtype)


def made(
    widths: tuple[int, ...] = WIDTHS, loss: str = "log_loss", dtype: str = "float32", **options: object
) -> tuple[Network, np.ndarray]:
    widths = (*widths[:-1], -(-widths[-1] // LOSSES[loss].group) * LOSSES[loss].group)
    network = Network.from_widths(widths, matrix.mixed_activations(widths), loss=loss, dtype=dtype, **options)
    return network, network.initial_params(0) * np.dtype(dtype).type(2)


def of_engine(engine: matrix.Engine, *arguments: object, **options: object) -> Predictor:
    with config_context(backend=engine.backend, isa=engine.variant if engine.backend == "c" else None):
        return Predictor(*arguments, **options)


KINDS = ("numbers", "targets", "poisson", "two classes", "classes", "labels")


def fitted(kind: str, dtype: str) -> MLPClassifier | MLPRegressor:
    X = data(60, dtype=dtype)
    scores = X @ data(WIDTHS[0], 4, dtype, seed=1)
    y = {
        "numbers": scores[:, 0],
        "targets": scores,
        "poisson": np.exp(0.1 * scores[:, 0]),
        "two classes": scores[:, 0] > 0,
        "classes": scores.argmax(axis=1),
        "labels": (scores > 0).astype(int),
    }[kind]
    options = {"hidden_layer_sizes": (37, 20), "max_iter": 3, "tol": 0.0, "random_state": 0}
    if kind in KINDS[:3]:
        model = MLPRegressor("poisson" if kind == "poisson" else "squared_error", **options)
    else:
        model = MLPClassifier(**options)
    with pytest.warns(Warning, match="Maximum iterations"):
        model.fit(X, y)
    return model


@pytest.mark.parametrize("dtype", matrix.DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", backends.available())
def test_says_what_the_estimator_says(backend, kind, dtype):
    model = fitted(kind, dtype)
    answer = model.predict if isinstance(model, MLPRegressor) else model.predict_proba
    with config_context(backend=backend):
        predictor = Predictor(model)
        for rows in ROWS[1:]:
            X = data(rows, dtype=dtype, seed=rows)
            expected = answer(X)
            got = predictor(X)
            assert got.dtype == expected.dtype
            assert got.shape == expected.shape
            assert got.tobytes() == expected.tobytes()
            out = np.full_like(expected, np.nan)
            assert predictor(X, out=out) is out
            assert out.tobytes() == expected.tobytes()
            assert predictor(X[0]).shape == expected.shape[1:]
            np.testing.assert_allclose(predictor(X[0]), expected[0], rtol=1e-4, atol=1e-6)
        # the estimator refuses no rows at all
        assert predictor(data(0, dtype=dtype)).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", matrix.DTYPES)
@pytest.mark.parametrize("engine", matrix.ENGINES, ids=str)
def test_a_network_gives_what_its_plan_gives(engine, dtype, loss):
    network, params = made(loss=loss, dtype=dtype)
    predictor = of_engine(engine, network, params)
    for rows in ROWS:
        X = data(rows, dtype=dtype, seed=rows)
        expected = np.empty((rows, network.outputs), dtype)
        matrix.NUMPY.plan(network, 1).forward(params, X, expected)
        np.testing.assert_allclose(predictor(X), expected, rtol=2e-4 if dtype == "float32" else 1e-10, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("loss", LOSSES)
def test_bits_do_not_depend_on_instruction_set_threads_or_cuts(loss, dtype):
    engines = [engine for engine in matrix.ENGINES if engine in matrix.FUSED]
    if not engines:
        pytest.skip("no engine with fused multiply-add")
    # a wide layer, cut in depth and shared out by columns; one output, more outputs than a vector, and an odd number
    for widths in ((9, 37, 70, 3), (600, 70, 1), (5, 40), (1, 1), (300, 130, 37)):
        network, params = made(widths, loss=loss, dtype=dtype)
        X = data(5000, widths[0], dtype)
        expected = of_engine(engines[0], network, params, n_threads=1)(X)
        for engine in engines:
            for n_threads in (1, 2, 3):
                predictor = of_engine(engine, network, params, n_threads=n_threads)
                for rows in ROWS:
                    assert predictor(X[:rows]).tobytes() == expected[:rows].tobytes(), (engine, n_threads, rows)
        out = np.empty_like(expected)
        matrix.Engine("c", engines[0].variant).plan(network, 7, 2).forward(params, X, out)
        assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", matrix.DTYPES)
@pytest.mark.parametrize("engine", matrix.ENGINES, ids=str)
def test_features_of_layers(engine, dtype):
    # every set of features, alone and with narrow and wide layers: dropout is left out, residuals are kept alive
    for position, features in enumerate(matrix.FEATURE_SETS):
        width = (33, 5, 130)[position % 3]
        case = matrix.make_feature_case(features, 200, width, 1 + position % 3, loss="squared_error", dtype=dtype)
        predictor = of_engine(engine, case.network, case.params)
        expected = np.empty_like(case.y)
        matrix.NUMPY.plan(case.network, 1).forward(case.params, case.X, expected)
        for rows in (1, 2, 200):
            found = predictor(case.X[:rows])
            limit = (2e-5 if dtype == "float32" else 1e-12) * np.abs(expected).max()
            np.testing.assert_allclose(found, expected[:rows], rtol=0, atol=limit, err_msg=str(features))


@pytest.mark.parametrize("dtype", matrix.DTYPES)
@pytest.mark.parametrize("width", [5, 64, 300])
def test_bits_of_features_do_not_depend_on_instruction_set_threads_or_cuts(width, dtype):
    engines = [engine for engine in matrix.ENGINES if engine in matrix.FUSED]
    if not engines:
        pytest.skip("no engine with fused multiply-add")
    # all of them, and those whose layers are shared out by columns where a call is short
    for features in (matrix.FEATURE_SETS[-1], ("residual",), ("dropout", "residual", "parametric")):
        case = matrix.make_feature_case(features, 700, width, 3, "gelu", dtype=dtype)
        expected = of_engine(engines[0], case.network, case.params, n_threads=1)(case.X)
        for engine in engines:
            for n_threads in (1, 2, 3):
                predictor = of_engine(engine, case.network, case.params, n_threads=n_threads)
                for rows in (1, 2, 5, 28, 700):
                    found = predictor(case.X[:rows])
                    assert found.tobytes() == expected[:rows].tobytes(), (features, engine, n_threads, rows)


@has_engine
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("row", [0, 1, 40])
def test_what_is_not_finite_stays_in_its_row(row, n_threads):
    network, params = made((3, 33, 5), "log_loss")
    X = data(41, 3)
    X[row] = np.nan
    for rows in (X, X[row : row + 1]):
        out = Predictor(network, params, n_threads=n_threads)(rows)
        bad = np.isnan(rows).any(axis=1)
        assert np.isnan(out[bad]).all()
        assert np.isfinite(out[~bad]).all()


def test_any_kind_of_array_is_taken():
    network, params = made()
    predictor = Predictor(network, params)
    X = data(30)
    expected = predictor(X)
    wide = np.repeat(X, 2, axis=1)

    assert predictor(X.tolist()).tobytes() == expected.tobytes()
    assert predictor(X.astype("float64")).tobytes() == expected.tobytes()
    assert predictor(X.astype(">f4")).tobytes() == expected.tobytes()
    assert predictor(np.asfortranarray(X)).tobytes() == expected.tobytes()
    assert predictor(wide[:, ::2]).tobytes() == expected.tobytes()
    assert predictor(X[::-1]).tobytes() == expected[::-1].tobytes()
    assert predictor(sparse.csr_matrix(X)).tobytes() == expected.tobytes()
    assert predictor(sparse.csc_matrix(X)).tobytes() == expected.tobytes()
    assert predictor(wide[3, ::2]).tobytes() == expected[3].tobytes()
    unaligned = np.frombuffer(b"x" + X.tobytes(), np.uint8)[1:].view("float32").reshape(X.shape)
    assert predictor(unaligned).tobytes() == expected.tobytes()
    X.flags.writeable = False
    assert predictor(X).tobytes() == expected.tobytes()
    whole = np.arange(18).reshape(2, 9)
    assert predictor(whole).tobytes() == predictor(whole.astype("float32")).tobytes()


class Derived(np.ndarray):
    """An array of a class of its own."""


def test_out_is_written_whatever_its_kind():
    network, params = made()
    predictor = Predictor(network, params)
    X = data(30)
    expected = predictor(X)

    block = np.zeros((50, 3), "float32")
    assert predictor(X, block[7:37]).base is block
    assert block[7:37].tobytes() == expected.tobytes()
    assert not block[:7].any()
    assert not block[37:].any()
    derived = np.empty_like(expected).view(Derived)
    assert predictor(X, out=derived) is derived
    assert derived.tobytes() == expected.tobytes()
    assert predictor(X=X, out=None).tobytes() == expected.tobytes()
    # the same array with other numbers, then with another shape
    X *= 2
    assert predictor(X, block[7:37]).tobytes() == predictor(X.copy()).tobytes()
    row, out = X[:1].copy(), np.empty((1, 3), "float32")
    predictor(row, out=out)
    flat = row.reshape(9)
    assert predictor(flat, out=out[0]).tobytes() == predictor(row).tobytes()


@pytest.mark.parametrize("backend", backends.available())
def test_what_does_not_fit_is_named(backend):
    network, params = made()
    X, out = data(4), np.empty((4, 3), "float32")
    with config_context(backend=backend):
        predictor = Predictor(network, params)
    read_only = out.copy()
    read_only.flags.writeable = False
    for bad, message in (
        (data(4, 8), r"X must be of shape \(rows, 9\), or \(9,\) for one row, got \(4, 8\)"),
        (X[None], r"got \(1, 4, 9\)"),
        (np.float32(1), r"got \(\)"),
        (X.astype("complex64"), "X must hold real numbers, got dtype complex64"),
        (np.array([["a"] * 9]), "X must hold real numbers, got dtype <U1"),
    ):
        for arguments in ((bad,), (bad, out)):
            with pytest.raises((TypeError, ValueError), match=message):
                predictor(*arguments)
    for bad, message in (
        (
            np.empty((4, 2), "float32"),
            r"out must be a writeable C-contiguous float32 array of shape \(4, 3\), got .*2\)",
        ),
        (np.empty((4, 3)), r"got float64 \(4, 3\)"),
        (np.empty((3, 4), "float32").T, r"got float32 \(4, 3\), not contiguous"),
        (read_only, r"got float32 \(4, 3\), read-only"),
        ([[0.0] * 3] * 4, "got list"),
    ):
        with pytest.raises(ValueError, match=message):
            predictor(X, out=bad)
    with pytest.raises(ValueError, match="out must not overlap X"):
        predictor(X[:3], out=X.reshape(-1)[20:29].reshape(3, 3))
    with pytest.raises(TypeError):
        predictor()
    with pytest.raises(TypeError):
        predictor(X, output=out)
    with pytest.raises(TypeError):
        predictor(X, out, out)


def test_what_is_no_model_is_named():
    network, params = made()
    with pytest.raises(TypeError, match="params is missing"):
        Predictor(network)
    with pytest.raises(TypeError, match="must be a fitted estimator of pymlp or a Network, got list"):
        Predictor([])
    with pytest.raises(TypeError, match="MLPRegressor has its own"):
        Predictor(fitted("numbers", "float32"), params)
    with pytest.raises(ValueError, match="params must be a float32 array"):
        Predictor(network, params[:-1])
    with pytest.raises(ValueError, match="n_threads=0"):
        Predictor(network, params, n_threads=0)
    with pytest.raises(NotFittedError):
        Predictor(MLPClassifier())


@pytest.mark.parametrize("backend", backends.available())
def test_is_frozen(backend):
    model = fitted("classes", "float32")
    X = data(20)
    with config_context(backend=backend):
        predictor = Predictor(model)
        before = predictor(X)
        model.coefs_[0][:] = 0
        assert predictor(X).tobytes() == before.tobytes()
        assert Predictor(model)(X).tobytes() != before.tobytes()


@pytest.mark.parametrize("kind", ["numbers", "two classes"])
def test_can_be_pickled_and_copied(kind):
    predictor = Predictor(fitted(kind, "float64"), n_threads=1)
    X = data(20, dtype="float64")
    for other in (pickle.loads(pickle.dumps(predictor)), copy.copy(predictor), copy.deepcopy(predictor)):
        assert other(X).tobytes() == predictor(X).tobytes()
        assert other.network == predictor.network
        assert other.n_threads == 1


@pytest.mark.parametrize("backend", backends.available())
def test_many_threads_at_once(backend):
    network, params = made((20, 64, 64, 3))
    X = data(3000, 20)
    with config_context(backend=backend):
        predictor = Predictor(network, params, n_threads=2)
    pieces = [X[i : i + 1 + 97 * (i % 7)] for i in range(0, 2000, 10)]
    expected = [predictor(piece).tobytes() for piece in pieces]

    def ask(seed: int) -> bool:
        out = np.empty((1, 3), "float32")
        right = True
        for i in np.random.default_rng(seed).permutation(len(pieces)):
            right &= predictor(pieces[i]).tobytes() == expected[i]
            right &= predictor(X[i : i + 1], out=out).tobytes() == predictor(X[i : i + 1]).tobytes()
        return right

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(16)))


@has_engine
def test_calls_leave_no_memory_behind():
    network, params = made((20, 64, 64, 3))
    predictor = Predictor(network, params)
    X, row = data(1000, 20), data(1, 20)
    out, row_out = np.empty((1000, 3), "float32"), np.empty((1, 3), "float32")

    def call() -> None:
        for _ in range(100):
            predictor(X, out=out)
            predictor(row, out=row_out)
            predictor(row)

    call()
    tracemalloc.start()
    call()
    first = tracemalloc.get_traced_memory()[0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        call()
    assert tracemalloc.get_traced_memory()[0] <= first + 1000
    tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss <= before + 1000


MILLION_ROWS = """
import resource
import numpy as np
from pymlp import Network, Predictor
network = Network.from_widths((20, 64, 64, 2))
predictor = Predictor(network, network.initial_params(0))
X = np.zeros((1_000_000, 20), "float32")
X += 1
out = np.ones((1_000_000, 2), "float32")
predictor(X[:100])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
predictor(X, out=out)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
assert (out == out[0]).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in Linux's unit")
def test_a_million_rows_take_little_memory():
    printed = subprocess.run([sys.executable, "-c", MILLION_ROWS], capture_output=True, text=True, check=True).stdout

    assert float(printed) <= 64


@has_engine
@pytest.mark.parametrize("kind", ["array", "converted"])
def test_long_calls_are_cut_so_that_interrupts_arrive(kind, monkeypatch):
    network, params = made((20, 64, 64, 3))
    predictor = Predictor(network, params)
    X = data(3000, 20, "float32" if kind == "array" else "float64")
    whole = predictor(X)
    calls = []

    def predict(X: np.ndarray, out: np.ndarray) -> None:
        calls.append(len(X))
        if len(calls) == 3:
            raise KeyboardInterrupt
        type(predictor._backend).predict(predictor._backend, X, out)

    monkeypatch.setattr(inference, "block_rows", lambda n_parameters: 64)
    monkeypatch.setattr(predictor._backend, "predict", predict)
    with pytest.raises(KeyboardInterrupt):
        predictor._general(X)
    assert calls[0] == 64
    monkeypatch.undo()
    monkeypatch.setattr(inference, "block_rows", lambda n_parameters: 64)
    assert predictor._general(X).tobytes() == whole.tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_works_in_the_child_of_a_fork(backend):
    if backends.missing_reason(backend) is not None:
        pytest.skip("the C engine is not built")
    network, params = made((300, 600, 600, 3))
    X = data(500, 300)
    with config_context(backend=backend):
        predictor = Predictor(network, params, n_threads=2)
    expected = [predictor(X[:rows]).tobytes() for rows in (1, 5, 500)]
    if backend == "numpy":
        # BLAS's own threads do not survive a fork with certainty: one row is enough
        X, expected = X[:1], expected[:1]
    child = os.fork()
    if child == 0:
        got = [predictor(X[:rows]).tobytes() for rows in (1, 5, 500)[: len(expected)]]
        os._exit(0 if got == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_works_without_the_direct_call():
    code = (
        "import sys; sys.modules['pymlp._call'] = None\n"
        "import numpy as np, pickle, pymlp\n"
        "network = pymlp.Network.from_widths((4, 8, 2))\n"
        "predictor = pymlp.Predictor(network, network.initial_params(0))\n"
        "X, out = np.ones((3, 4), 'float32'), np.empty((3, 2), 'float32')\n"
        "assert predictor(X, out=out) is out and np.array_equal(predictor(X), out)\n"
        "assert np.array_equal(pickle.loads(pickle.dumps(predictor))(X[0]), out[0])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@has_engine
def test_plain_arrays_go_to_the_engine_directly(monkeypatch):
    call = pytest.importorskip("pymlp._call", reason="the module of direct calls is not built")
    assert issubclass(Predictor, call.Caller)
    network, params = made()
    predictor = Predictor(network, params)

    def general(self: Predictor, X: object, out: object = None) -> None:
        raise AssertionError("the general way was taken")

    monkeypatch.setattr(Predictor, "_general", general)
    X, out = data(5), np.empty((5, 3), "float32")
    assert predictor(X).shape == (5, 3)
    assert predictor(X[0]).shape == (3,)
    assert predictor(X, out=out) is out
    assert predictor(X, out) is out
    with pytest.raises(AssertionError, match="general"):
        predictor(X.astype("float64"))


def test_is_public():
    assert pymlp.Predictor is Predictor
    assert "Predictor" in pymlp.__all__


class Named(Predictor):
    """A predictor of a user's own kind."""


def test_a_copy_keeps_its_kind_and_no_predictor_is_initialised_twice():
    network = Network.from_widths((3, 4, 1), loss="squared_error", dtype="float32")
    predictor = Named(network, network.initial_params(0))
    assert type(copy.copy(predictor)) is Named
    with pytest.raises(RuntimeError, match="make a new one"):
        predictor.__init__(network, network.initial_params(1))
    x = np.ones((2, 3), np.float32)
    assert predictor(x).tobytes() == Named(network, network.initial_params(0))(x).tobytes()
