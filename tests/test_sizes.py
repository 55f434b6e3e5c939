"""Sizes whose products overflow are refused before anything is allocated; arrays of more than 2**31 numbers are right
at both ends."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pytest

from pymlp import Dense, Network, Predictor, SparseRows, backends, config_context, train
from pymlp.optimizers import SGD

PAST = 2**31
by_backend = pytest.mark.parametrize("backend", backends.available())


def kilobytes(file, name):
    """A number that Linux keeps."""
    return next(int(line.split()[1]) for line in Path("/proc", file).read_text().splitlines() if line.startswith(name))


@contextlib.contextmanager
def nothing_allocated(most=1 << 24):
    """Fail if the body touches more than `most` bytes of new memory."""
    linux = Path("/proc/self/clear_refs").exists()
    if linux:
        # begin a new maximum
        Path("/proc/self/clear_refs").write_text("5")
        before = kilobytes("self/status", "VmRSS:")
    yield
    if linux:
        grown = kilobytes("self/status", "VmHWM:") - before
        assert grown < most >> 10, f"{grown} KB"


def needs(gigabytes):
    if not Path("/proc/meminfo").exists():
        pytest.skip("the memory that is free is read from /proc/meminfo, which is missing")
    free = kilobytes("meminfo", "MemAvailable:") >> 20
    if free < gigabytes:
        pytest.skip(f"needs {gigabytes} GB of address space that the system grants, {free} are free")


# --------------------------------------------------------------------------------------------------- products of sizes


@pytest.mark.parametrize(
    "widths",
    [(2**40, 2**40), (2**24, 2**24, 2**24), (1, 2**62, 1), (2**63, 2), (2, 2**64, 2**64, 2), (2**47, 1), (10**30, 1)],
    ids=str,
)
def test_networks_of_more_parameters_than_can_be_counted(widths):
    with nothing_allocated(), pytest.raises(ValueError, match=r"layers of the widths .* parameters, more than"):
        Network.from_widths(widths)


LARGEST = {
    "a matrix": lambda: Network.from_widths((2**23, 2**23)),
    "two matrices": lambda: Network.from_widths((2**22, 2**22, 2**22)),
    "many inputs": lambda: Network.from_widths((2**45, 1)),
    "many outputs": lambda: Network.from_widths((1, 2**44), loss="log_loss"),
    "dropout of the inputs": lambda: Network.from_widths((2**44, 2), input_dropout=0.5),
    "every kind": lambda: Network(
        2**22, (Dense(2**22, normalization="layer", parametric=True, dropout=0.5, residual=True), Dense(1, "identity"))
    ),
}


@pytest.mark.parametrize("name", LARGEST)
@by_backend
def test_networks_of_more_parameters_than_memory(name, backend):
    network, Plan = LARGEST[name](), backends.get(backend).Plan
    with nothing_allocated():
        with pytest.raises(MemoryError):
            network.initial_params(0)
        # a plan without memory of its own may be made
        with pytest.raises(MemoryError) if backend == "c" else contextlib.suppress(MemoryError):
            Plan(network, 2**40)


@by_backend
def test_batches_of_more_rows_than_can_be_counted(backend):
    network = Network.from_widths((3, 4, 2))
    plan = backends.get(backend).Plan
    for size in (2**63, 2**64, 2**200, 0, -1, 2.0, "4", None, True):
        with pytest.raises(ValueError, match="batch_size must be an integer from 1 to"):
            plan(network, size)
    X = np.ones((5, 3), "float32")
    outs = []
    for size in (5, 2**31, 2**62, 2**63 - 1):
        with nothing_allocated(1 << 26):
            made = plan(network, size)
        out, gradient = np.empty((5, 2), "float32"), np.empty(network.n_parameters, "float32")
        params = network.initial_params(0)
        made.forward(params, X, out)
        loss = made.loss_gradient(params, X, out + 1, None, gradient)
        outs.append((loss, gradient.tobytes()))
    # one gradient of blocks or of a whole: the same, to rounding
    for loss, gradient in outs[1:]:
        assert loss == pytest.approx(outs[0][0])
        np.testing.assert_allclose(np.frombuffer(gradient, "f4"), np.frombuffer(outs[0][1], "f4"), rtol=1e-5)


def test_fits_of_more_parameters_than_memory_leave_the_model_as_it_was():
    pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    from odd_inputs import PERCEPTRONS, data, made, state

    X, y = data()
    for kind in PERCEPTRONS:
        model = made(kind).fit(X, y)
        for sizes, error in (
            ((2**40,), MemoryError), ((2**22, 2**22), MemoryError), ((2**62,), ValueError), ((2**200,), ValueError),
        ):  # fmt: skip
            before = state(model.set_params(hidden_layer_sizes=sizes))
            with nothing_allocated(), pytest.raises(error):
                model.fit(X, y)
            assert state(model) == before


@pytest.mark.skipif("c" not in backends.available(), reason="looks at the C engine's own checks")
def test_the_engine_checks_tables_of_layers_itself():
    from pymlp._engine import ffi, lib

    from pymlp.backends.c import _layers, _loss, choose_instruction_set

    network = Network(
        6, (Dense(6, "tanh", dropout=0.5, normalization="layer", max_norm=2.0), Dense(1, "identity")), l1=0.1, l2=0.1
    )
    kinds = [row.kind for row in network.table]
    norm, dropout = kinds.index("layer_norm"), kinds.index("dropout")

    def code(change=None, batch_size=4, l1=0.1, l2=0.1):
        layers, plan, loss = _layers(network), ffi.new("pymlp_plan **"), _loss(network)
        if change is not None:
            change(layers)
        found = lib.pymlp_plan_create(
            plan, choose_instruction_set().value.encode(), 32, layers, len(kinds), loss[0], l1, l2, 0,
            batch_size, 1, 0,
        )  # fmt: skip
        assert (plan[0] == ffi.NULL) == (found != 0)
        lib.pymlp_plan_free(plan[0])
        return ffi.string(lib.pymlp_error_text(found)).decode()

    def setting(row, name, value):
        return lambda layers: setattr(layers[row], name, value)

    bad, much = "an argument is out of its range", "out of memory"
    assert code() == "no error"
    for value in (np.nan, np.inf, -np.inf, -1e-9):
        for row in range(len(kinds)):
            assert code(setting(row, "setting", value)) == bad, (row, value)
        assert code(setting(0, "max_norm", value)) == bad
        assert code(l1=value) == code(l2=value) == bad
    assert code(setting(dropout, "setting", 1.0)) == bad
    assert code(setting(norm, "setting", 1.0)) == "no error"
    for row in range(len(kinds)):
        for size in (0, -1, 2**40, 2**62, 2**63 - 1):
            assert code(setting(row, "outputs", size)) in (bad, much)

    def all_wide(layers):
        for layer in layers:
            layer.inputs = layer.outputs = size
        layers[len(kinds) - 1].outputs = 1

    for size in (2**31, 2**40, 2**47, 2**62, 2**63 - 1):
        assert code(all_wide) == much, size
    assert code(batch_size=2**63 - 1) == "no error"


@pytest.mark.skipif("c" not in backends.available(), reason="the C engine lays the rows out")
def test_kinds_without_a_matrix_are_counted_by_their_width():
    # dropout of so many inputs would be more numbers than there may be, were it a matrix
    backends.get("c").Plan(Network.from_widths((2**24, 1), input_dropout=0.5), 1, 1)


def test_sparse_rows_count_columns_by_32_bits():
    with pytest.raises(ValueError, match="more than 2147483647"):
        SparseRows([1.0], [0], [0, 1], (1, PAST))
    assert SparseRows([1.0], [PAST - 2], [0, 1], (1, PAST - 1)).indices[0] == PAST - 2


@by_backend
def test_sparse_inputs_of_millions_of_columns_take_no_dense_room(backend):
    # dense, the batch would be 33 GB, and what a plan keeps of it twice as much
    columns, n_rows = 1_000_000, 4096
    network = Network.from_widths((columns, 2, 1), "tanh", dtype="float64")
    draw = np.random.default_rng(0)
    known = np.append(np.sort(draw.choice(columns - 1, 48, replace=False)), columns - 1)
    indices = np.sort([draw.choice(known, 3, replace=False) for _ in range(n_rows)], axis=1)
    X = SparseRows(np.ones(3 * n_rows), indices.ravel(), 3 * np.arange(n_rows + 1), (n_rows, columns))
    used, small = np.unique(indices, return_inverse=True)
    narrow = Network.from_widths((len(used), 2, 1), "tanh", dtype="float64")
    X_narrow = np.zeros((n_rows, len(used)))
    X_narrow[np.arange(n_rows)[:, None], small.reshape(n_rows, 3)] = 1
    y = np.sin(np.arange(n_rows))[:, None]
    found = []
    params = narrow.initial_params(0)
    wide = np.zeros(network.n_parameters)
    network.weights(wide)[0][used] = narrow.weights(params)[0]
    wide[network.layout[0].bias.start :] = params[narrow.layout[0].bias.start :]
    for each, X_each, start in ((network, X, wide), (narrow, X_narrow, params)):
        plan = backends.get(backend).Plan(each, n_rows)
        gradient, out = np.empty_like(start), np.empty((n_rows, 1))
        loss = plan.loss_gradient(start, X_each, y, None, gradient)
        plan.forward(start, X_each, out)
        with config_context(backend=backend):
            predicted = Predictor(each, start)(X_each if isinstance(X_each, np.ndarray) else _scipy(X_each))
        found.append((loss, gradient[each.layout[0].bias.start :].copy(), out, predicted))
    for ours, expected in zip(*found, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
    # a dense row of them finds its room
    out = np.empty((1, 1))
    plan = backends.get(backend).Plan(network, 8)
    plan.loss_gradient(wide, X[:1].toarray(), y[:1], None, gradient := np.empty_like(wide))
    plan.forward(wide, X[:1].toarray(), out)
    np.testing.assert_allclose(out, found[0][2][:1], rtol=1e-9, atol=1e-12)
    assert np.isfinite(gradient).all()


def _scipy(X):
    sparse = pytest.importorskip("scipy.sparse", reason="sparse matrices are SciPy's")
    return sparse.csr_matrix((X.data, X.indices, X.indptr), X.shape)


# ------------------------------------------------------------------------------------------------ past 2**31 numbers


@contextlib.contextmanager
def sparse_file(shape, dtype):
    """An array in a file that holds zeros where nothing was written, and takes no room there."""
    with tempfile.TemporaryDirectory() as folder:
        yield np.memmap(Path(folder) / "X", dtype, "w+", shape=shape)


def marked(X):
    """Write into rows at both ends and around 2**31 numbers, and return their numbers."""
    boundary = PAST // X.shape[1]
    places = [0, 1, boundary - 1, boundary, boundary + 1, len(X) - 2, len(X) - 1]
    # rows of one sign each would saturate
    draw = np.random.default_rng(0)
    for place in places:
        X[place] = draw.integers(0, 2, X.shape[1])
    return places


@pytest.mark.slow
@by_backend
def test_predictions_of_more_than_2_to_31_numbers(backend):
    needs(12)
    columns = 40_000
    # zeros of which no page is made before it is written
    X = np.zeros((PAST // columns + 50, columns), "float32")
    places = marked(X)
    network = Network.from_widths((columns, 2, 1), "tanh")
    params = network.initial_params(0)
    plan, out = backends.get(backend).Plan(network, 1), np.empty((len(X), 1), "float32")
    few = np.empty((len(places), 1), "float32")
    plan.forward(params, X, out)
    plan.forward(params, X[places], few)
    np.testing.assert_allclose(out[places], few, rtol=1e-3, atol=1e-4)
    with config_context(backend=backend):
        predictor = Predictor(network, params)
    predicted = predictor(X)
    np.testing.assert_allclose(predicted, out, rtol=1e-3, atol=1e-4)
    if backend == "c":
        assert out[places].tobytes() == few.tobytes()
        assert out.tobytes() == predicted.tobytes()
    assert len(np.unique(out)) == len(places) + 1


@pytest.mark.slow
@by_backend
def test_training_on_row_numbers_past_2_to_31(backend):
    # next to nothing of it is touched
    needs(2)
    # three columns would do for the numbers; here the rows themselves are past it
    X, y = (np.zeros((PAST + 9, 1), "float32") for _ in range(2))
    order = np.array([0, PAST - 1, PAST, PAST + 8, 5, PAST + 1], np.int64)
    X[order, 0], y[order, 0] = np.arange(6) + 1, np.arange(6) % 3
    network = Network.from_widths((1, 4, 1), "tanh")
    starts, rates = np.array([0, 2, 5, 6]), np.full(3, 0.1)
    found = []
    for rows, targets, numbers in ((X, y, order), (X[order], y[order], np.arange(6))):
        params, losses = network.initial_params(0), np.empty(3)
        slots = np.zeros((SGD().n_slots, len(params)), "float32")
        plan = backends.get(backend).Plan(network, 3)
        plan.train_steps(SGD(), params, slots, 0, rows, targets, None, numbers, starts, rates, losses)
        found.append((params.tobytes(), losses.tobytes()))
    assert found[0] == found[1]
    order[-1] = PAST + 9
    with pytest.raises(IndexError, match="row number outside"):
        plan.train_steps(SGD(), params, slots, 0, X, y, None, order, starts, rates, losses)


@pytest.mark.slow
def test_estimators_on_files_of_more_than_2_to_31_numbers():
    pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    from pymlp import MLPRegressor

    needs(4)
    columns = 50_000
    with sparse_file((PAST // columns + 50, columns), "uint8") as X:
        places = marked(X)
        y = np.zeros(len(X))
        y[places] = np.arange(len(places)) + 1
        options = {
            "hidden_layer_sizes": (2,),
            "max_iter": 1,
            "batch_size": 500,
            "shuffle": False,
            "random_state": 0,
            "dtype": "float32",
        }
        model = MLPRegressor(**options)
        with pytest.warns(match="Maximum iterations"):
            model.fit(X, y)
        found = model.predict(X)
        assert found[places].tobytes() == model.predict(X[places]).tobytes()
        # the same rows as a stream of chunks: the last one is the file's end
        chunks = [(X[start : start + 10_000], y[start : start + 10_000]) for start in range(0, len(X), 10_000)]
        with pytest.warns(match="Maximum iterations"):
            streamed = MLPRegressor(**options).fit_stream(chunks, n_rows=len(X))
        assert streamed.params_.tobytes() == model.params_.tobytes()


@pytest.mark.slow
def test_one_row_that_stands_for_more_than_2_to_31_numbers():
    needs(2)
    # no copy of the whole is made
    columns = 40_000
    X = np.broadcast_to((np.arange(columns) % 3).astype("uint8"), (PAST // columns + 50, columns))
    network = Network.from_widths((columns, 2, 1), "tanh")
    params = network.initial_params(0)
    with nothing_allocated(1 << 28):
        out = Predictor(network, params)(X)
        assert set(out.ravel().tolist()) == {Predictor(network, params)(X[:1]).item()}
        train(network, params, X, np.zeros(len(X)), epochs=1, batch_size=100, shuffle=False)
    assert np.isfinite(params).all()
    with pytest.raises(ValueError, match=rf"y must have shape \({len(X)}, 1\)"):
        train(network, params, X, np.zeros((3, 1)))
