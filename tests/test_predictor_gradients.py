"""Derivatives of predictors: against central differences, the definition and each other, for all in the registries."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import matrix
import numpy as np
import pytest
from scipy import sparse

import pymlp
from pymlp import Dense, MLPClassifier, MLPRegressor, Network, Predictor, backends, config_context
from pymlp.functions import ACTIVATIONS
from pymlp.layers import KINDS
from pymlp.losses import LOSSES, CustomLoss

FUSED = [engine for engine in matrix.ENGINES if engine in matrix.FUSED]
has_engine = pytest.mark.skipif(backends.missing_reason("c") is not None, reason="the C engine is not built")
needs_fused = pytest.mark.skipif(not FUSED, reason="no engine with fused multiply-add")


def own(y, output):
    return ((y - output) ** 2).sum(axis=1) / 2, output - y


def of_engine(engine, network, params, **options):
    with config_context(backend=engine.backend, isa=engine.variant if engine.backend == "c" else None):
        return Predictor(network, params, **options)


def made(widths, activation="gelu", loss="squared_error", dtype="float64", **options):
    row = pymlp.losses.loss_of(loss)
    widths = (*widths[:-1], -(-widths[-1] // row.group) * row.group)
    network = Network.from_widths(widths, activation, loss=loss, dtype=dtype, **options)
    return network, network.initial_params(0) * np.dtype(dtype).type(1.5)


def data(rows, columns, dtype="float64", seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(dtype)


def central_differences(predictor, X, step=1e-6):
    """(rows, columns, inputs), for a network's predictor."""
    rows, columns = predictor(X).shape
    found = np.empty((rows, columns, X.shape[1]))
    for i in range(X.shape[1]):
        shift = np.zeros_like(X)
        shift[:, i] = step
        found[:, :, i] = (predictor(X + shift) - predictor(X - shift)) / (2 * step)
    return found


def check_against_differences(engine, network, params, rows=3):
    predictor = of_engine(engine, network, params)
    X = data(rows, network.inputs)
    expected = central_differences(predictor, X)
    values, found = predictor.value_and_gradient(X)
    assert found.shape == (rows, network.outputs, network.inputs)
    assert np.abs(found).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7 * np.abs(expected).max())
    assert values.tobytes() == predictor(X).tobytes()
    assert predictor.jacobian(X).tobytes() == found.tobytes()


@pytest.mark.parametrize("engine", matrix.ENGINES, ids=str)
@pytest.mark.parametrize("activation", [name for name, row in ACTIVATIONS.items() if row.hidden])
def test_every_activation_of_hidden_layers(engine, activation):
    check_against_differences(engine, *made((5, 9, 7, 3), activation))


@pytest.mark.parametrize("engine", matrix.ENGINES, ids=str)
@pytest.mark.parametrize("activation", [name for name, row in ACTIVATIONS.items() if not row.grouped])
def test_every_output_activation(engine, activation):
    check_against_differences(engine, *made((5, 9, 4), loss=CustomLoss(own, activation)))


@pytest.mark.parametrize("engine", matrix.ENGINES, ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(engine, loss):
    # two targets, of as many outputs as the loss asks for
    check_against_differences(engine, *made((5, 9, 2 * LOSSES[loss].group), loss=loss))


LAYERS = {
    "dense": {},
    "layer_norm": {"normalization": "layer"},
    "parametric": {"parametric": True},
    "dropout": {"dropout": 0.4},
    "add": {"residual": True},
}


@pytest.mark.parametrize("engine", matrix.ENGINES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_kind(engine, kind):
    hidden = Dense(6, "tanh", **LAYERS[kind]), Dense(6, "silu", **LAYERS[kind])
    network = Network(6, (*hidden, Dense(3, "softmax")), "log_loss", "float64", input_dropout=0.3)
    assert kind in {row.kind for row in network.table}
    params = network.initial_params(0)
    check_against_differences(engine, network, params + np.random.default_rng(1).normal(scale=0.2, size=params.shape))


def by_definition(network, params, X):
    plan = matrix.NUMPY.plan(network, max(len(X), 1))
    found, by_input = np.empty((len(X), network.outputs, network.inputs), X.dtype), np.empty_like(X)
    for column in range(network.outputs):
        by_output = np.zeros((len(X), network.outputs), X.dtype)
        by_output[:, column] = 1
        plan.backward(params, X, by_output, None, by_input)
        found[:, column] = by_input
    return found


@pytest.mark.parametrize("dtype", matrix.DTYPES)
@pytest.mark.parametrize("engine", matrix.OTHERS, ids=str)
def test_features_of_layers_are_those_of_the_definition(engine, dtype):
    for position, features in enumerate(matrix.FEATURE_SETS[::3]):
        width = (33, 5, 130)[position % 3]
        case = matrix.make_feature_case(features, 40, width, 1 + position % 3, loss="squared_error", dtype=dtype)
        predictor = of_engine(engine, case.network, case.params)
        expected = by_definition(case.network, case.params, case.X)
        limit = (1e-4 if dtype == "float32" else 1e-12) * np.abs(expected).max()
        for rows in (1, 40):
            found = predictor.jacobian(case.X[:rows])
            np.testing.assert_allclose(found, expected[:rows], rtol=0, atol=limit, err_msg=str(features))


# no hidden layer; one output; more outputs than a vector; wider than a cut of the depth; many outputs
SHAPES = ((9, 37, 70, 3), (600, 70, 1), (5, 40), (1, 1), (300, 130, 37), (20, 30, 200))
ROWS = (0, 1, 2, 13, 15, 300)


@needs_fused
@pytest.mark.parametrize("dtype", matrix.DTYPES)
def test_bits_do_not_depend_on_instruction_set_threads_or_cuts(dtype):
    for number, widths in enumerate(SHAPES):
        loss = list(LOSSES)[number % len(LOSSES)]
        network, params = made(widths, matrix.mixed_activations(widths, number), loss, dtype)
        X = data(ROWS[-1], widths[0], dtype)
        plain = of_engine(FUSED[0], network, params, n_threads=1)
        values, expected = plain(X), plain.jacobian(X)
        for engine in FUSED:
            for n_threads in (1, 2, 5):
                predictor = of_engine(engine, network, params, n_threads=n_threads)
                for rows in ROWS:
                    found = predictor.value_and_gradient(X[:rows])
                    assert found[0].tobytes() == values[:rows].tobytes(), (widths, engine, n_threads, rows)
                    assert found[1].tobytes() == expected[:rows].tobytes(), (widths, engine, n_threads, rows)


@needs_fused
def test_bits_of_features_do_not_depend_on_instruction_set_threads_or_cuts():
    for features in (matrix.FEATURE_SETS[-1], ("residual",), ("dropout", "residual", "parametric")):
        case = matrix.make_feature_case(features, 100, 64, 3, "gelu", dtype="float32")
        plain = of_engine(FUSED[0], case.network, case.params, n_threads=1)
        values, expected = plain(case.X), plain.jacobian(case.X)
        for engine in FUSED:
            for n_threads in (1, 3):
                predictor = of_engine(engine, case.network, case.params, n_threads=n_threads)
                for rows in (1, 2, 5, 100):
                    found = predictor.value_and_gradient(case.X[:rows])
                    assert found[0].tobytes() == values[:rows].tobytes()
                    assert found[1].tobytes() == expected[:rows].tobytes()


def fitted(kind, dtype="float64"):
    X = data(60, 4, dtype)
    scores = X @ data(4, 3, dtype, seed=1)
    y = {
        "number": scores[:, 0],
        "scaled number": 1000 * scores[:, 0],
        "scaled deviations": 1000 * scores[:, 0],
        "targets": scores,
        "levels": scores[:, :2],
        "two classes": scores[:, 0] > 0,
        "a single class": np.zeros(60),
        "classes": scores.argmax(axis=1),
        "labels": (scores > 0).astype(int),
        "hinge": scores[:, 0] > 0,
    }[kind]
    options = {"hidden_layer_sizes": (9,), "activation": "tanh", "max_iter": 3, "random_state": 0, "standardize": True}
    loss = {"scaled deviations": "gaussian_nll", "levels": "quantile", "hinge": "hinge"}.get(kind)
    if kind in ("number", "scaled number", "scaled deviations", "targets", "levels"):
        if loss:
            options["loss"] = loss
        model = MLPRegressor(standardize_target=kind.startswith("scaled"), **options)
    else:
        model = MLPClassifier(loss=loss or "log_loss", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y)


@pytest.mark.parametrize("backend", backends.available())
@pytest.mark.parametrize(
    "kind",
    ["number", "scaled number", "scaled deviations", "targets", "levels", "two classes", "a single class", "classes",
     "labels", "hinge"],
)  # fmt: skip
def test_estimators(backend, kind):
    model = fitted(kind)
    with config_context(backend=backend):
        predictor = Predictor(model)
    X = data(7, 4, seed=5)
    values, gradient = predictor.value_and_gradient(X)
    assert values.tobytes() == predictor(X).tobytes()
    assert gradient.shape == (*values.shape, 4)
    assert gradient.dtype == values.dtype
    for i in range(4):
        shift = np.zeros_like(X)
        shift[:, i] = 1e-6
        slope = (predictor(X + shift) - predictor(X - shift)) / 2e-6
        np.testing.assert_allclose(gradient[..., i], slope, rtol=0, atol=1e-6 * max(np.abs(gradient).max(), 1e-3))
    whole = gradient.reshape(7, -1, 4)
    assert predictor.jacobian(X).tobytes() == gradient.tobytes()
    assert predictor.jacobian(X).shape == whole.shape
    # one row without an axis for rows
    value, slope = predictor.value_and_gradient(X[2])
    assert np.shape(value) == values.shape[1:]
    assert slope.shape == gradient.shape[1:]
    assert predictor.jacobian(X[2]).shape == whole.shape[1:]
    np.testing.assert_allclose(slope, gradient[2], rtol=1e-10, atol=1e-12)
    # no rows
    empty = predictor.value_and_gradient(X[:0])
    assert [array.shape for array in empty] == [(0, *values.shape[1:]), (0, *gradient.shape[1:])]
    with config_context(backend=backend):
        again = pickle.loads(pickle.dumps(predictor))
    assert again.jacobian(X).tobytes() == gradient.tobytes()


def test_the_complement_falls_as_the_other_rises():
    predictor = Predictor(fitted("two classes"))
    found = predictor.jacobian(data(7, 4))
    assert np.array_equal(found[:, 0], -found[:, 1])
    assert np.abs(found).max() > 0


@pytest.mark.parametrize("backend", backends.available())
def test_any_kind_of_array_is_taken(backend):
    network, params = made((9, 20, 3), dtype="float32")
    with config_context(backend=backend):
        predictor = Predictor(network, params)
    X = data(30, 9, "float32")
    before = X.copy()
    expected = predictor.value_and_gradient(X)
    wide = np.repeat(X, 2, axis=1)
    unaligned = np.frombuffer(b"x" + X.tobytes(), np.uint8)[1:].view("float32").reshape(X.shape)
    read_only = X.copy()
    read_only.flags.writeable = False
    for given in (
        X.tolist(), X.astype("float64"), X.astype(">f4"), np.asfortranarray(X), wide[:, ::2], unaligned, read_only,
        sparse.csr_matrix(X), sparse.csc_matrix(X), X.view(np.ndarray), memoryview(X),
    ):  # fmt: skip
        for one, other in zip(predictor.value_and_gradient(given), expected, strict=True):
            assert one.tobytes() == other.tobytes()
            assert one.dtype == "float32"
    # sums of BLAS depend on where a row stands
    np.testing.assert_allclose(predictor.jacobian(X[::-1]), expected[1][::-1], rtol=1e-4, atol=1e-6)
    assert X.tobytes() == before.tobytes()


@pytest.mark.parametrize("backend", backends.available())
def test_what_does_not_fit_is_named(backend):
    network, params = made((9, 20, 3), dtype="float32")
    with config_context(backend=backend):
        predictor = Predictor(network, params)
    X = data(4, 9, "float32")
    masked = np.ma.masked_array(X, np.zeros_like(X, bool))
    masked.mask[2, 3] = True
    for bad, message in (
        (data(4, 8), r"X must be of shape \(rows, 9\), or \(9,\) for one row, got \(4, 8\)"),
        (X[None], r"got \(1, 4, 9\)"),
        (np.float32(1), r"got \(\)"),
        (X.astype("complex64"), "X must hold real numbers, got dtype complex64"),
        (np.array([["a"] * 9]), "X must hold real numbers, got dtype <U1"),
        (masked, "masked entries"),
        (X.astype(object), "got dtype object"),
        (sparse.csr_matrix(data(4, 8)), r"got \(4, 8\)"),
    ):
        for method in (predictor.value_and_gradient, predictor.jacobian):
            with pytest.raises((TypeError, ValueError), match=message):
                method(bad)


@pytest.mark.parametrize("backend", backends.available())
def test_a_backend_checks_what_it_is_given(backend):
    network, params = made((9, 20, 3), dtype="float32")
    with config_context(backend=backend):
        predictor = backends.get().Predictor(network, params)
    X, out, jacobian = data(4, 9, "float32"), np.empty((4, 3), "float32"), np.empty((4, 3, 9), "float32")
    predictor.value_and_gradient(X, None, jacobian)
    alone = jacobian.copy()
    predictor.value_and_gradient(X, out, jacobian)
    assert jacobian.tobytes() == alone.tobytes()
    expected = np.empty_like(out)
    predictor.predict(X, expected)
    assert out.tobytes() == expected.tobytes()
    if backend == "c":
        for arguments in ((X[:3], out, jacobian), (X, out[:3], jacobian), (X, out, jacobian[:, :2]), (X, out, out)):
            with pytest.raises(ValueError, match="must be a C-contiguous float32 array"):
                predictor.value_and_gradient(*arguments)


@has_engine
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("row", [0, 1, 40])
def test_what_is_not_finite_stays_in_its_row(row, n_threads):
    network, params = made((3, 33, 5), loss="log_loss", dtype="float32")
    X = data(41, 3, "float32")
    X[row] = np.nan
    found = Predictor(network, params, n_threads=n_threads).jacobian(X)
    assert np.isnan(found[row]).all()
    assert np.isfinite(np.delete(found, row, axis=0)).all()


@pytest.mark.parametrize("backend", backends.available())
def test_many_threads_at_once(backend):
    network, params = made((20, 33, 33, 3), dtype="float32")
    X = data(600, 20, "float32")
    with config_context(backend=backend):
        predictor = Predictor(network, params, n_threads=2)
        first = Predictor(network, params, n_threads=2)
    pieces = [X[i : i + 1 + 29 * (i % 7)] for i in range(0, 500, 25)]
    expected = [predictor.jacobian(piece).tobytes() for piece in pieces]

    def ask(seed):
        # the first of them to come makes the transposes of `first`
        order = np.random.default_rng(seed).permutation(len(pieces))
        return all(first.jacobian(pieces[i]).tobytes() == expected[i] for i in order)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))


def test_training_goes_by_the_same_slopes():
    # at a kink as well: relu's slope at 0 is 0
    network, params = made((3, 4, 2), "relu")
    found = Predictor(network, np.zeros_like(params)).jacobian(np.zeros((2, 3)))
    assert not found.any()
    assert by_definition(network, np.zeros_like(params), np.zeros((2, 3))).tobytes() == found.tobytes()
