"""Derivatives as functions: pullbacks have the bits of `Plan.backward`, the flat objective's gradient is its slope."""

import copy
import multiprocessing
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import matrix
import numpy as np
import pytest
from differences import TOLERANCE, assert_slopes, potential, slopes, smooth_case
from matrix import ENGINES, HIDDEN_ACTIVATIONS, Case, Engine, make_case, make_feature_case

import pymlp
from pymlp import Dense, Network, backends, config_context, derivatives
from pymlp.losses import LOSSES

optimize = pytest.importorskip("scipy.optimize", reason="the optimisers are SciPy's")
sparse = pytest.importorskip("scipy.sparse", reason="the sparse matrices are SciPy's")

ENGINE = Engine("c") if "c" in backends.available() else Engine("numpy")


def vjp_of(engine: Engine, network: Network, *arguments: object, **options: object) -> tuple:
    with config_context(backend=engine.backend, isa=engine.variant if engine.backend == "c" else None):
        return network.vjp(*arguments, **options)


def output_gradient_of(case: Case) -> np.ndarray:
    return np.random.default_rng(5).normal(size=case.y.shape).astype(case.network.dtype)


# --- vjp


@pytest.mark.parametrize("dtype", matrix.DTYPES)
@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_pullback_has_the_bits_of_backward(engine, dtype):
    for position, features in enumerate(matrix.FEATURE_SETS[::5]):
        case = make_feature_case(features, 15, (9, 33)[position % 2], 2, "gelu", dtype=dtype)
        by_output = output_gradient_of(case)
        for step in (None, 7):
            # the plan that a call of 15 rows is made for
            plan, expected = engine.plan(case.network, 16), np.empty_like(case.y)
            by_params, by_x = np.empty_like(case.params), np.empty_like(case.X)
            if engine.backend == "numba":
                # the way that Numba itself would take
                plan = backends.get("numba").Plan(case.network, 16)
            plan.forward(case.params, case.X, expected, step)
            plan.backward(case.params, case.X, by_output, by_params, by_x, step)

            outputs, pullback = vjp_of(engine, case.network, case.params, case.X, step=step)
            found = pullback(by_output, x_gradient=True)
            assert outputs.tobytes() == expected.tobytes(), features
            assert [array.tobytes() for array in found] == [by_params.tobytes(), by_x.tobytes()], features
            assert pullback(by_output).tobytes() == by_params.tobytes()
            assert pullback(by_output, gradient=False, x_gradient=True).tobytes() == by_x.tobytes()
            assert {array.dtype.name for array in (outputs, *found)} == {dtype}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_pullbacks_are_slopes(activation, loss):
    case = smooth_case(activation, loss)
    by_output = output_gradient_of(case)
    plan, out = ENGINE.plan(case.network, 4), np.empty_like(case.y)

    def projected() -> float:
        plan.forward(case.params, case.X, out)
        return float((out * by_output).sum())

    _, pullback = case.network.vjp(case.params, case.X, backend=ENGINE.backend)
    by_params, by_x = pullback(by_output, x_gradient=True)
    assert_slopes(by_params, slopes(projected, case.params))
    assert_slopes(by_x, slopes(projected, case.X))


@pytest.mark.parametrize("backend", backends.available())
def test_any_number_of_rows(backend, monkeypatch):
    network = Network.from_widths((3, 7, 2), "tanh", dtype="float64")
    params = network.initial_params(0)
    draw = np.random.default_rng(0)
    # more than a block of the engine, and forward in several calls
    monkeypatch.setattr(derivatives, "block_rows", lambda n_parameters: 1000)
    X, by_output = draw.normal(size=(9001, 3)), draw.normal(size=(9001, 2))
    outputs, pullback = network.vjp(params, X, backend=backend)
    by_params, by_x = pullback(by_output, x_gradient=True)

    parts = [network.vjp(params, X[i : i + 100], backend=backend) for i in range(0, 9001, 100)]
    pulled = [pull(by_output[100 * i : 100 * i + 100], x_gradient=True) for i, (_, pull) in enumerate(parts)]
    np.testing.assert_allclose(outputs, np.concatenate([part for part, _ in parts]), rtol=1e-12)
    np.testing.assert_allclose(by_params, sum(each for each, _ in pulled), rtol=1e-9)
    np.testing.assert_allclose(by_x, np.concatenate([each for _, each in pulled]), rtol=1e-11)

    outputs, pullback = network.vjp(params, X[:0], backend=backend)
    assert outputs.shape == (0, 2)
    by_params, by_x = pullback(outputs, x_gradient=True)
    assert not by_params.any()
    assert by_x.shape == (0, 3)

    # one row
    outputs, pullback = network.vjp(params, X[0], backend=backend)
    assert outputs.shape == (2,)
    by_params, by_x = pullback(by_output[0], x_gradient=True)
    assert by_x.shape == (3,)
    np.testing.assert_allclose(by_params, network.vjp(params, X[:1])[1](by_output[:1]), rtol=1e-12)


@pytest.mark.parametrize("step", [None, 3])
def test_masks_go_by_the_place_in_the_whole_batch(step, monkeypatch):
    case = make_feature_case(("dropout", "input dropout"), 50)
    whole, _ = case.network.vjp(case.params, case.X, step=step)
    monkeypatch.setattr(derivatives, "block_rows", lambda n_parameters: 16)
    assert case.network.vjp(case.params, case.X, step=step)[0].tobytes() == whole.tobytes()


def test_bits_do_not_depend_on_threads_or_instruction_set():
    network = Network.from_widths((30, 120, 120, 5), "gelu", loss="log_loss")
    params, draw = network.initial_params(0), np.random.default_rng(0)
    X, by_output = draw.normal(size=(2000, 30)), draw.normal(size=(2000, 5))
    found = set()
    for engine in matrix.FUSED:
        for n_threads in (1, 2, 3):
            outputs, pullback = vjp_of(engine, network, params, X, n_threads=n_threads)
            found.add((outputs.tobytes(), *(each.tobytes() for each in pullback(by_output, x_gradient=True))))
    if not found:
        pytest.skip("no engine with fused multiply-add")
    assert len(found) == 1


def test_a_pullback_is_of_the_moment_of_the_call():
    network = Network.from_widths((3, 7, 2), "tanh")
    params, X, by_output = network.initial_params(0), np.ones((4, 3), "float32"), np.ones((4, 2))
    _, pullback = network.vjp(params, X)
    expected = pullback(by_output)
    params[:], X[:] = 0, 5
    assert pullback(by_output).tobytes() == expected.tobytes()
    with ThreadPoolExecutor(8) as pool:
        assert {each.tobytes() for each in pool.map(pullback, [by_output] * 200)} == {expected.tobytes()}


def test_any_kind_of_array_is_taken_by_vjp():
    network = Network.from_widths((3, 7, 2), "tanh")
    params = network.initial_params(0)
    X, by_output = matrix.make_case(6, (3, 2), dtype="float32").X, np.ones((6, 2), "float32")
    outputs, pullback = network.vjp(params, X)
    expected = outputs.tobytes(), *(each.tobytes() for each in pullback(by_output, x_gradient=True))
    for given in (X.astype("float64"), X.tolist(), np.asfortranarray(X), X.astype(">f4"), sparse.csr_matrix(X)):
        outputs, pullback = network.vjp(params.astype("float64"), given)
        pulled = pullback(by_output.tolist(), x_gradient=True)
        assert (outputs.tobytes(), *(each.tobytes() for each in pulled)) == expected


def test_sparse_rows_stay_sparse():
    network = Network.from_widths((500, 7, 2), "tanh")
    params = network.initial_params(0)
    X = sparse.random(40, 500, 0.02, "csr", random_state=0)
    outputs, pullback = network.vjp(params, X)
    dense_outputs, dense = network.vjp(params, X.toarray())
    assert outputs.tobytes() == dense_outputs.tobytes()
    by_output = np.ones((40, 2))
    assert isinstance(pullback._X, pymlp.SparseRows)
    for options in ({}, {"x_gradient": True}, {"gradient": False, "x_gradient": True}):
        np.testing.assert_array_equal(
            np.concatenate([np.ravel(each) for each in pullback(by_output, **options)]),
            np.concatenate([np.ravel(each) for each in dense(by_output, **options)]),
        )


def test_what_does_not_fit_vjp_is_named():
    network = Network.from_widths((3, 7, 2), "tanh")
    params, X = network.initial_params(0), np.ones((4, 3))
    bad = X.copy()
    bad[2, 1] = np.nan
    for arguments, options, message in (
        ((params[:-1], X), {}, r"params must be a float32 array of shape \(44,\), got float32 \(43,\)"),
        ((params * np.nan, X), {}, "params contains NaN: first in row 0"),
        ((params, X[:, :2]), {}, r"X must be of shape \(rows, 3\), or \(3,\) for one row, got \(4, 2\)"),
        ((params, X[None]), {}, r"got \(1, 4, 3\)"),
        ((params, bad), {}, "X contains NaN: first in row 2, column 1"),
        ((params, X * 1e300), {}, "X contains infinity or a value too large for float32"),
        ((params, sparse.csr_matrix(X * np.inf)), {}, "X contains infinity"),
        ((params, X.astype(complex)), {}, "Complex data not supported: X"),
        ((params, X), {"step": -1}, "step must be an integer of at least 0, got -1"),
        ((params, X), {"step": 1.5}, "step must be an integer"),
        ((params, X), {"step": 2**64}, "step must be at most"),
        ((params, X), {"n_threads": 0}, "n_threads=0"),
        ((params, X), {"backend": "fortran"}, "backend='fortran'"),
    ):
        with pytest.raises(ValueError, match=message):
            network.vjp(*arguments, **options)
    with pytest.raises(TypeError, match="X must hold real numbers"):
        network.vjp(params, [["a"] * 3])
    _, pullback = network.vjp(params, X)
    for by_output, options, message in (
        (np.ones((4, 3)), {}, r"output_gradient must be of shape \(4, 2\), as the outputs, got \(4, 3\)"),
        (np.ones(2), {}, r"got \(2,\)"),
        (np.full((4, 2), np.inf), {}, "output_gradient contains infinity"),
        (np.ones((4, 2)), {"gradient": False}, "gradient and x_gradient are both False"),
    ):
        with pytest.raises(ValueError, match=message):
            pullback(by_output, **options)


def test_plans_are_used_again():
    network = Network.from_widths((3, 7, 2), "tanh")
    params = network.initial_params(0)

    def pulled(rows: int, **options: object) -> np.ndarray:
        return network.vjp(params, np.ones((rows, 3)), **options)[1](np.ones((rows, 2)))

    first = pulled(5)
    (plan,) = network.free_plans.values()
    assert pulled(6).shape == first.shape
    assert list(network.free_plans.values()) == [plan]
    assert pulled(5).tobytes() == first.tobytes()
    pulled(5, n_threads=1)
    with config_context(backend="numpy"):
        pulled(5)
    for rows in (10, 100, 1000, 9):
        pulled(rows)
    kept = list(network.free_plans.values())
    assert len(kept) == derivatives.KEPT_PLANS
    assert plan not in kept
    # they are no part of what a network is
    same = Network.from_widths((3, 7, 2), "tanh")
    assert same == network
    assert repr(same) == repr(network)
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network), replace(network, l2=0.0)):
        assert other == network
        assert not other.free_plans


def test_large_plans_are_not_kept(monkeypatch):
    network = Network.from_widths((3, 7, 2), "tanh")
    monkeypatch.setattr(derivatives, "KEPT_BYTES", 100)
    network.vjp(network.initial_params(0), np.ones((5, 3)))[1](np.ones((5, 2)))
    assert not network.free_plans


def interrupted(call, after: float) -> bool:
    """Whether Ctrl-C, which comes after so many seconds, was raised from the call."""
    timer = threading.Timer(after, signal.raise_signal, [signal.SIGINT])
    try:
        timer.start()
        call()
    except KeyboardInterrupt:
        return True
    finally:
        timer.join()
    return False


@pytest.mark.skipif("c" not in backends.available(), reason="the C engine is not built")
def test_ctrl_c_ends_a_pullback_and_an_objective_and_the_next_call_works():
    network = Network.from_widths((200, 600, 600, 2), "tanh")
    params, X = network.initial_params(0), np.ones((8000, 200), "float32")
    by_output = np.ones((8000, 2), "float32")
    _, pullback = network.vjp(params, X)
    objective = network.flat_objective(X, by_output)
    for call in (lambda: pullback(by_output), lambda: objective(params)):
        began = time.perf_counter()
        call()
        whole = time.perf_counter() - began
        began = time.perf_counter()
        assert interrupted(lambda call=call: [call() for _ in range(20)], whole / 3)
        assert time.perf_counter() - began < 10 * whole
        call()


# --- flat_objective


def cases_of_losses(**options):
    for loss in LOSSES:
        yield smooth_case("tanh", loss, **options)


@pytest.mark.parametrize("weight", ["none", "random", "some zero"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_the_slope_of_the_value(loss, weight):
    case = smooth_case("tanh", loss, weight=weight, l1=0.05, l2=0.3)
    for backend in backends.available()[:: 1 if loss == "squared_error" else 2]:
        objective = case.network.flat_objective(case.X, case.y, case.weight, backend=backend)
        value, gradient = objective(case.params)
        assert value == pytest.approx(potential(case), rel=1e-12)
        assert objective.value(case.params) == pytest.approx(value, rel=1e-12)
        assert gradient.dtype == np.float64
        assert objective.gradient(case.params).tobytes() == gradient.tobytes()
        assert_slopes(gradient, slopes(lambda objective=objective: objective.value(case.params), case.params))


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_scipys_check_of_the_gradient(activation):
    case = smooth_case(activation, "squared_error", l2=0.1)
    objective = case.network.flat_objective(case.X, case.y)
    error = optimize.check_grad(objective.value, objective.gradient, case.params)
    assert error <= 1e-6 * np.abs(objective.gradient(case.params)).max() * len(case.params)


@pytest.mark.parametrize(
    "features", [("dropout", "layer norm"), ("residual", "parametric", "input dropout")], ids="-".join
)
def test_features_of_layers_and_no_dropout(features):
    case = make_feature_case(features, 20, 6, 2, "silu", "squared_error")
    objective = case.network.flat_objective(case.X, case.y, case.weight)
    numeric = slopes(lambda: objective.value(case.params), case.params)
    np.testing.assert_allclose(objective.gradient(case.params), numeric, rtol=0, atol=TOLERANCE * np.abs(numeric).max())
    assert objective(case.params)[0] == objective(case.params)[0]


@pytest.mark.parametrize("backend", backends.available())
def test_the_value_alone_takes_a_way_of_its_own_where_it_pays(backend, monkeypatch):
    for loss in LOSSES:
        case = make_case(500, (4, 9, 3), "tanh", loss, weight="some zero", l1=0.05, l2=0.3)
        objective = case.network.flat_objective(case.X, case.y, case.weight, backend=backend)
        expected = objective(case.params)[0]
        monkeypatch.setattr(derivatives, "BRIEF_SECONDS", 0.0)
        monkeypatch.setattr(derivatives, "block_rows", lambda n_parameters: 64)
        assert objective.value(case.params) == pytest.approx(expected, rel=1e-10), loss


def blobs(dtype: str = "float64") -> tuple[Network, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    y = np.arange(300) % 3
    X = draw.normal(size=(300, 4)) + np.array([[0, 0, 1, 2], [2, 0, 0, 0], [0, 1.5, 0, 0]])[y]
    # without a hidden layer, and with the penalty on all weights: there is one minimum but for a shift of the biases
    network = Network(4, (Dense(3, "softmax"),), "log_loss", dtype, l2=3.0)
    return network, X, np.eye(3)[y]


@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "CG", "TNC", "SLSQP"])
def test_scipys_minimisers_reach_the_minimum_that_lbfgs_reaches(method):
    pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    network, X, y = blobs()
    objective = network.flat_objective(X, y)
    options = {
        "L-BFGS-B": {"maxiter": 2000, "gtol": 1e-10, "ftol": 1e-15},
        "BFGS": {"gtol": 1e-8},
        "CG": {"gtol": 1e-8},
        "TNC": {"maxfun": 5000, "gtol": 1e-10, "ftol": 1e-15},
        "SLSQP": {"maxiter": 2000, "ftol": 1e-15},
    }[method]
    found = optimize.minimize(objective, np.zeros(network.n_parameters), jac=True, method=method, options=options)
    assert np.abs(objective.gradient(found.x)).max() < 1e-6

    model = pymlp.MLPClassifier((), solver="lbfgs", alpha=3.0, tol=1e-10, max_iter=5000, max_fun=50000, random_state=0)
    model.fit(X, y.argmax(axis=1))
    # it stops by SciPy's default, where the loss falls by less than 2e-9
    np.testing.assert_allclose(network.weights(found.x)[0], model.coefs_[0], atol=3e-4)
    assert model.loss_ - 1e-6 <= found.fun <= model.loss_
    linear = pymlp.LogisticRegression(C=1 / 3, tol=1e-10, max_iter=5000).fit(X, y.argmax(axis=1))
    np.testing.assert_allclose(network.weights(found.x)[0], linear.coef_.T, atol=2e-6)


def test_lbfgs_of_a_deep_network_goes_the_estimators_way():
    pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    draw = np.random.default_rng(1)
    X = draw.normal(size=(80, 3))
    y = np.sin(X).sum(axis=1)
    model = pymlp.MLPRegressor(
        "squared_error", (7, 5), "tanh", solver="lbfgs", alpha=0.01, tol=0.0, max_iter=15, random_state=0
    )
    with pytest.warns(UserWarning, match="converge"):
        model.fit(X, y)
    network = Network.from_widths((3, 7, 5, 1), "tanh", dtype="float64", l2=0.01)
    objective = network.flat_objective(X, y)
    start = network.initial_params(0)
    options = {"maxiter": 15, "gtol": 0.0, "maxfun": 15000}
    found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    fitted = np.concatenate(
        [part.ravel() for pair in zip(model.coefs_, model.intercepts_, strict=True) for part in pair]
    )
    np.testing.assert_allclose(found.x, fitted, rtol=1e-6, atol=1e-8)


def test_float64_points_for_a_float32_network():
    network, X, y = blobs("float32")
    objective = network.flat_objective(X, y)
    point = np.random.default_rng(0).normal(size=network.n_parameters)
    value, gradient = objective(point)
    assert isinstance(value, float)
    assert gradient.dtype == np.float64
    for given in (point.astype("float32"), point.tolist(), point.astype(">f8"), np.repeat(point, 2)[::2]):
        again, same = objective(given)
        assert (again, same.tobytes()) == (value, gradient.tobytes())
    found = optimize.minimize(objective, np.zeros(network.n_parameters), jac=True)
    wide = replace(network, dtype="float64").flat_objective(X, y)
    exact = optimize.minimize(wide, np.zeros(network.n_parameters), jac=True, options={"gtol": 1e-9})
    assert found.fun == pytest.approx(exact.fun, rel=1e-5)
    # points of whole numbers, and where the numbers leave float32
    assert objective(np.zeros(network.n_parameters, int))[0] == pytest.approx(np.log(3), rel=1e-6)
    assert not np.isfinite(objective(point * 1e300)[0])


@pytest.mark.parametrize("kind", ["csr", "bytes", "float16"])
def test_rows_that_are_converted_block_by_block(kind, monkeypatch):
    draw = np.random.default_rng(0)
    X = draw.integers(0, 5, size=(700, 6)).astype("float64")
    y = X[:, :2] - X[:, 2:4]
    network = Network.from_widths((6, 9, 2), "tanh", dtype="float64", l1=0.01, l2=0.1)
    weight, params = draw.random(700), network.initial_params(0)
    expected, by_params = network.flat_objective(X, y, weight)(params)
    given = {"csr": sparse.csr_matrix, "bytes": lambda X: X.astype("uint8"), "float16": lambda X: X.astype("float16")}
    monkeypatch.setattr("pymlp.rows.SMALL_COPY_BYTES", 100)
    monkeypatch.setattr("pymlp.full_batch.DENSE_BYTES", 2000)
    monkeypatch.setattr("pymlp.rows.DENSE_BYTES", 2000)
    objective = network.flat_objective(given[kind](X), y, weight)
    value, gradient = objective(params)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, by_params, rtol=1e-9)
    monkeypatch.setattr(derivatives, "BRIEF_SECONDS", 0.0)
    assert objective.value(params) == pytest.approx(expected, rel=1e-12)


def test_a_loss_of_ones_own():
    def cauchy(y, output):
        residual = output - y
        return np.log1p(residual**2).sum(axis=1), 2 * residual / (1 + residual**2)

    network = Network(3, (Dense(5, "tanh"), Dense(2, "identity")), cauchy, "float64", l2=0.1)
    draw = np.random.default_rng(0)
    X, y, params = draw.normal(size=(20, 3)), draw.normal(size=(20, 2)), network.initial_params(0)
    objective = network.flat_objective(X, y)
    assert_slopes(objective.gradient(params), slopes(lambda: objective.value(params), params))


def test_the_objectives_bits_do_not_depend_on_threads():
    network = Network.from_widths((30, 120, 120, 5), "gelu", loss="log_loss", l2=0.1)
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(3000, 30)), np.eye(5)[np.arange(3000) % 5]
    params = network.initial_params(0)
    found = set()
    for n_threads in (1, 2, 3):
        objective = network.flat_objective(X, y, n_threads=n_threads, backend=ENGINE.backend)
        value, gradient = objective(params)
        found.add((value, gradient.tobytes(), objective.value(params)))
    assert len(found) == 1


def test_many_threads_at_once():
    network, X, y = blobs()
    objective = network.flat_objective(X, y)
    points = np.random.default_rng(0).normal(size=(200, network.n_parameters))
    expected = [objective(point) for point in points]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(objective, points))
        values = list(pool.map(objective.value, points))
    for (value, gradient), (other, same), alone in zip(expected, found, values, strict=True):
        assert (value, gradient.tobytes()) == (other, same.tobytes())
        assert alone == value


def test_pickles_and_pools_of_processes():
    network, X, y = blobs()
    weight = np.random.default_rng(0).random(len(X))
    points = np.random.default_rng(1).normal(size=(6, network.n_parameters))
    for given in (X, sparse.csr_matrix(X * (np.abs(X) > 2))):
        objective = network.flat_objective(given, y, weight, n_threads=1)
        expected = [objective(point) for point in points]
        again = pickle.loads(pickle.dumps(objective))
        assert [again(point)[0] for point in points] == [value for value, _ in expected]
        assert copy.deepcopy(objective).value(points[0]) == expected[0][0]
        # as samplers do it: the function goes to processes that were forked
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(objective.value, points) == [value for value, _ in expected]


def test_what_does_not_fit_an_objective_is_named():
    network, X, y = blobs()
    weight = np.ones(len(X))
    bad = X.copy()
    bad[7, 3] = np.inf
    for arguments, message in (
        ((X[:, :3], y), r"X must have shape \(rows, 4\)"),
        ((X[:0], y[:0]), "at least one row"),
        ((bad, y), "X contains infinity: first in row 7, column 3"),
        ((X, y[:-1]), r"y must have shape \(300, 3\)"),
        ((X, y + 1), r"y must lie in \[0, 1\]"),
        ((X, y, weight[:-1]), r"sample_weight must have shape \(300,\)"),
        ((X, y, -weight), "sample_weight must not be negative"),
        ((X, y, 0 * weight), "sample_weight must not be zero for every row"),
    ):
        with pytest.raises(ValueError, match=message):
            network.flat_objective(*arguments)
    with pytest.raises(ValueError, match="n_threads=0"):
        network.flat_objective(X, y, n_threads=0)
    with pytest.raises(ValueError, match="backend='fortran'"):
        network.flat_objective(X, y, backend="fortran")
    objective = network.flat_objective(X, y)
    for point in (np.zeros(14), np.zeros((1, 15)), 0.0):
        for call in (objective, objective.value, objective.gradient):
            with pytest.raises(ValueError, match=r"params must be of shape \(15,\)"):
                call(point)
    with pytest.raises(ValueError, match="Complex"):
        objective(np.zeros(15, complex))
    with pytest.raises(TypeError, match="real numbers"):
        objective(np.array(["a"] * 15))


def test_needs_neither_scipy_nor_scikit_learn():
    import subprocess
    import sys

    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('scipy', 'sklearn'), None))\n"
        "import numpy as np, pymlp\n"
        "assert 'pymlp.derivatives' not in sys.modules\n"
        "network = pymlp.Network.from_widths((2, 3, 1))\n"
        "params, X = network.initial_params(0), np.ones((4, 2))\n"
        "assert network.vjp(params, X)[1](np.ones((4, 1))).shape == params.shape\n"
        "assert network.flat_objective(X, np.ones(4))(params)[1].shape == params.shape\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
