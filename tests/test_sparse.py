"""Sparse inputs: `SparseRows`, the verbs over them in every engine, training and prediction without dense copies."""

from __future__ import annotations

import numpy as np
import pytest
from matrix import DTYPES, ENGINES, FUSED, Case, Engine, make_case
from scipy import sparse

import pymlp
from pymlp import Dense, MLPClassifier, MLPRegressor, Network, Predictor, SparseRows, inference, rows, train
from pymlp.backends import StoppedError
from pymlp.callbacks import REQUIRED_METHODS
from pymlp.optimizers import SGD, Adam, new_slots
from pymlp.rows import DenseRows, GatheredRows, rows_of

by_engine = pytest.mark.parametrize("engine", ENGINES, ids=str)

# rows, widths: units of phase 2 are 32 inputs by a panel of up to 32 outputs, a row carries up to 128 outputs at once
SHAPES = {
    "one number in, one out": (1, (1, 1)),
    "inputs of one group, fewer outputs than a vector": (7, (9, 3, 2)),
    "a group and one column, a vector and one": (15, (33, 17, 3)),
    "no hidden layer, one output": (33, (300, 1)),
    "two turns of 128 outputs": (20, (70, 150, 11)),
    "two hidden layers, many rows": (201, (64, 40, 33, 4)),
    "two blocks of rows": (4100, (40, 5, 2)),
}
# max_iter ends fits in an epoch or an iteration
ENDED = "Maximum iterations|failed to converge"
SHARES = (0.0, 0.03, 0.5, 1.0)


def thinned(case: Case, share: float) -> tuple[np.ndarray, SparseRows]:
    """The case's inputs with a share of their numbers, dense and sparse."""
    draw = np.random.default_rng(7)
    X = np.where(draw.random(case.X.shape) < share, case.X, 0).astype(case.X.dtype)
    return X, SparseRows.of(sparse.csr_matrix(X), X.dtype)


def agree(found: np.ndarray, expected: np.ndarray, engine: Engine, dtype: str = "float64") -> None:
    if engine in FUSED:
        assert found.tobytes() == expected.tobytes()
    else:
        single = dtype == "float32"
        np.testing.assert_allclose(found, expected, rtol=1e-4 if single else 1e-11, atol=1e-5 if single else 1e-12)


# --------------------------------------------------------------------------------------------------------- SparseRows


def test_sparse_rows_are_the_matrix_they_were_made_of():
    X = sparse.random(20, 30, 0.05, format="csr", random_state=0)
    assert (np.diff(X.indptr) == 0).any()
    own, dense = SparseRows.of(X, "float32"), X.toarray().astype("float32")
    assert own.nnz == X.nnz
    assert len(own) == 20
    assert own.dtype == "float32"
    np.testing.assert_array_equal(own.toarray(), dense)
    numbers = np.array([5, 3, 3, -1])
    for chosen in (slice(2, 9), slice(7, 4), slice(None), numbers, np.arange(0), dense[:, 0] > 0.5):
        np.testing.assert_array_equal(own[chosen].toarray(), dense[chosen])
    assert np.shares_memory(own[2:9].data, own.data)
    assert SparseRows.of(own, "float32") is own
    assert own.astype("float64").dtype == "float64"


def test_entries_given_twice_or_out_of_order_are_put_right_in_a_copy():
    X = sparse.csr_matrix(([1.0, 2.0, 3.0, 4.0], [2, 0, 2, 1], [0, 3, 4]), shape=(2, 3))
    np.testing.assert_array_equal(SparseRows.of(X, "float64").toarray(), [[2, 0, 4], [0, 4, 0]])
    np.testing.assert_array_equal(X.indices, [2, 0, 2, 1])


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_products(piece, monkeypatch):
    monkeypatch.setattr(pymlp.sparse_rows, "PIECE", piece)
    draw = np.random.default_rng(0)
    X = sparse.random(20, 30, 0.2, format="csr", random_state=0)
    own = SparseRows.of(X, "float64")[3:18]
    W, D = draw.normal(size=(30, 4)), draw.normal(size=(15, 4))
    np.testing.assert_allclose(own @ W, X[3:18].toarray() @ W, rtol=1e-13)
    np.testing.assert_allclose(own.T @ D, X[3:18].toarray().T @ D, rtol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [0], [0, 1], (2, 3)), "indptr must hold 3 places"),
        (([1.0], [0], [0, 1, 0], (2, 3)), "indptr must hold 3 places"),
        (([1.0], [0], [0, 1, 2], (2, 3)), "as long as indptr says, 2"),
        (([1.0, 2.0], [0], [0, 1, 1], (2, 3)), "data and indices must be as long"),
        (([1.0, 2.0], [0, 3], [0, 1, 2], (2, 3)), "indices must lie in 0 to 2, got 0 to 3"),
        (([1.0, 2.0], [0, -1], [0, 1, 2], (2, 3)), "indices must lie in 0 to 2, got -1 to 0"),
        (([1.0, 2.0, 3.0], [2, 0, 0], [0, 1, 3], (2, 3)), "those of row 1"),
        (([], [], [0], (0, 2**31)), "shape has 2147483648 columns"),
    ],
)
def test_what_is_not_a_matrix_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SparseRows(*arguments)


# ---------------------------------------------------------------------------------------------------------- the verbs


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@by_engine
def test_sparse_equals_dense(engine, shape, dtype):
    n_rows, widths = SHAPES[shape]
    case = make_case(n_rows, widths, "gelu" if n_rows % 2 else "relu", dtype=dtype, weight="random", l1=0.01, l2=0.1)
    plan, on_three = engine.plan(case.network, n_rows, 1), engine.plan(case.network, n_rows, 3)
    draw = np.random.default_rng(1)
    order = np.concatenate([draw.permutation(n_rows) for _ in range(3)])
    starts = np.unique(np.append(np.arange(0, 3 * n_rows, max(1, n_rows * 2 // 3)), 3 * n_rows))
    # Adam makes a step of any rounding error
    optimizer = Adam() if engine in FUSED else SGD()
    for share in SHARES:
        outcomes = []
        X, own = thinned(case, share)
        for used, given in ((plan, X), (on_three, own)):
            out, gradient = np.empty((n_rows, case.network.outputs), dtype), np.empty_like(case.params)
            used.forward(case.params, given, out)
            loss = used.loss_gradient(case.params, given, case.y, case.weight, gradient)
            backward = np.empty_like(case.params)
            used.backward(case.params, given, case.y, backward)
            params, slots = case.params.copy(), new_slots(optimizer, len(case.params), dtype)
            losses, rates = np.empty(len(starts) - 1), np.full(len(starts) - 1, 0.01)
            used.train_steps(
                optimizer, params, slots, 0, given, case.y, case.weight, order, starts, rates, losses
            )  # fmt: skip
            outcomes.append((out, gradient, backward, np.array([loss]), losses, params))
        for expected, found in zip(*outcomes, strict=True):
            agree(found, expected, engine, dtype)


@by_engine
def test_rows_of_every_layer_kind_after_a_sparse_one(engine):
    layers = (
        Dense(20, "relu", dropout=0.3, normalization="layer"),
        Dense(20, "tanh", residual=True, parametric=True),
        Dense(2, "identity"),
    )
    network = Network(50, layers, dtype="float64", seed=3)
    case = make_case(40, (50, 2))
    X, own = thinned(case, 0.1)
    params = network.initial_params(0)
    plan = engine.plan(network, 40)
    gradients = []
    for given in (X, own):
        gradient = np.empty_like(params)
        plan.loss_gradient(params, given, case.y, None, gradient, step=5, row_offset=3)
        gradients.append(gradient)
        # a slice, and a call of one row
        out = np.empty((1, 2))
        plan.forward(params, given[7:8], out, step=2)
        gradients.append(out)
    agree(gradients[2], gradients[0], engine)
    agree(gradients[3], gradients[1], engine)


@by_engine
def test_stop_and_go_on_with_sparse_rows(engine):
    case = make_case(10, (40, 4, 2))
    X, own = thinned(case, 0.1)
    plan, gradient = engine.plan(case.network, 10), np.empty_like(case.params)
    out = np.empty((10, 2))
    for verb in (
        lambda given: plan.forward(case.params, given, out),
        lambda given: plan.loss_gradient(case.params, given, case.y, None, gradient),
    ):
        for given in (own, X):
            plan.stop()
            with pytest.raises(StoppedError):
                verb(given)
            verb(own)
            verb(X)


C_ENGINES = [engine for engine in ENGINES if engine.backend == "c"]


@pytest.mark.parametrize("engine", C_ENGINES, ids=str)
def test_what_does_not_fit_a_plan_is_refused(engine):
    case = make_case(10, (6, 4, 2))
    _, own = thinned(case, 0.5)
    plan, out = engine.plan(case.network, 10), np.empty((10, 2))
    with pytest.raises(ValueError, match=r"float64 and shape \(rows, 6\), got float32"):
        plan.forward(case.params, own.astype("float32"), out)
    narrow = SparseRows(own.data, own.indices, own.indptr, (10, 7))
    with pytest.raises(ValueError, match=r"got float64 \(10, 7\)"):
        plan.forward(case.params, narrow, out)
    with pytest.raises(ValueError, match="exceed the plan's batch_size=9"):
        engine.plan(case.network, 9).loss_gradient(case.params, own, case.y, None, np.empty_like(case.params))
    with pytest.raises(ValueError, match="x_gradient is not offered where X is sparse"):
        plan.backward(case.params, own, out, None, np.empty((10, 6)))
    linked = Network(6, (Dense(6, residual=True), Dense(2, "identity")), dtype="float64")
    with pytest.raises(ValueError, match="not only a dense layer"):
        engine.plan(linked, 10).forward(linked.initial_params(0), own, out)


def test_which_networks_take_sparse_rows():
    taking = Network(6, (Dense(6, residual=False, dropout=0.5), Dense(6, residual=True), Dense(2, "identity")))
    assert taking.takes_sparse
    assert not Network(6, (Dense(6, residual=True), Dense(2, "identity"))).takes_sparse
    assert not Network(6, (Dense(4), Dense(2, "identity")), input_dropout=0.1).takes_sparse
    assert Network(6, (Dense(2, "identity"),)).takes_sparse


# ------------------------------------------------------------------------------------------------ training, prediction


@pytest.fixture(scope="module")
def scattered():
    """A thin matrix in CSR form and the same as an array, labels that depend on it."""
    X = sparse.random(300, 400, 0.05, format="csr", random_state=0)
    X.data += 0.5
    return X, X.toarray(), np.asarray(X[:, :200].sum(axis=1)).ravel() > 10


@pytest.fixture
def never_dense(monkeypatch):
    def refuse(self, *rest):
        raise AssertionError("a sparse matrix was made dense")

    for kind in (sparse.csr_matrix, sparse.csr_array, SparseRows):
        monkeypatch.setattr(kind, "toarray", refuse)


def test_sources(scattered):
    X, dense, y = scattered
    network = Network.from_widths((400, 4, 1), dtype="float64")
    y = y[:, None].astype("float64")
    assert type(rows_of(network, X, y, None)) is DenseRows
    assert type(rows_of(network, dense, y, None)) is DenseRows
    assert type(rows_of(network, sparse.csr_matrix(dense + 1), y, None)) is GatheredRows
    masked = Network.from_widths((400, 4, 1), dtype="float64", input_dropout=0.1)
    assert type(rows_of(masked, X, y, None)) is GatheredRows


@pytest.mark.parametrize("backend", pymlp.backends.available())
@pytest.mark.parametrize("form", ["csr", "csc", "own"])
def test_train_never_makes_thin_rows_dense(scattered, form, backend, never_dense):
    X, dense, y = scattered
    given = SparseRows.of(X, "float64") if form == "own" else X.asformat(form)
    network = Network.from_widths((400, 6, 1), loss="binary_log_loss", dtype="float64", l2=0.01)
    outcomes = []
    for each in (dense, given):
        params = network.initial_params(0)
        result = train(
            network, params, each, y, X_val=each[:50], y_val=y[:50], epochs=3, batch_size=64, random_state=0,
            backend=backend,
        )  # fmt: skip
        outcomes.append((params, np.array(result.losses), np.array(result.history["validation_loss"])))
    for expected, found in zip(*outcomes, strict=True):
        agree(found, expected, FUSED[0] if backend == "c" else ENGINES[-1])


@pytest.mark.parametrize(
    "options",
    [{}, {"early_stopping": True}, {"solver": "lbfgs", "max_iter": 15}, {"solver": "sgd"}, {"dtype": "float32"}],
    ids=str,
)
def test_estimators_never_make_thin_rows_dense(scattered, options, never_dense):
    X, dense, y = scattered
    options = {"hidden_layer_sizes": 5, "max_iter": 3, "random_state": 0, **options}
    with pytest.warns(UserWarning, match=ENDED):
        on_dense, on_sparse = (MLPClassifier(**options).fit(each, y) for each in (dense, X))
    assert on_sparse.params_.tobytes() == on_dense.params_.tobytes()
    assert on_sparse.predict_proba(X).tobytes() == on_dense.predict_proba(dense).tobytes()
    assert on_sparse.score(X, y) == on_dense.score(dense, y)
    if options.get("solver") != "lbfgs" and "early_stopping" not in options:
        assert on_sparse.partial_fit(X, y).params_.tobytes() == on_dense.partial_fit(dense, y).params_.tobytes()
    with pytest.warns(UserWarning, match=ENDED):
        numbers = MLPRegressor(**options).fit(X, dense[:, :2])
    np.testing.assert_array_equal(numbers.predict(X[4:6]), numbers.predict(dense[4:6]))


@pytest.mark.parametrize("backend", pymlp.backends.available())
def test_a_loss_of_the_users_own_over_sparse_rows(scattered, backend, never_dense):
    X, dense, y = scattered

    def loss(y, output):
        return ((output - y) ** 4).sum(axis=1), 4 * (output - y) ** 3

    network = Network.from_widths((400, 6, 1), loss=loss, dtype="float64", l2=0.01)
    outcomes = []
    for given in (dense, X):
        params = network.initial_params(0)
        train(
            network, params, given, y, epochs=2, batch_size=64, random_state=0, backend=backend,
            optimizer=SGD(clip_norm=1.0),
        )  # fmt: skip
        outcomes.append(params)
    agree(outcomes[1], outcomes[0], FUSED[0] if backend == "c" else ENGINES[-1])


def test_a_network_whose_inputs_drop_out_gets_its_rows_dense_batch_by_batch(scattered, monkeypatch):
    X, dense, y = scattered
    monkeypatch.setattr(rows, "DENSE_BYTES", 64 * 400 * 8)
    made_dense = []
    to_dense = sparse.csr_matrix.toarray
    monkeypatch.setattr(
        sparse.csr_matrix, "toarray", lambda self, *rest: made_dense.append(self.shape[0]) or to_dense(self, *rest)
    )
    network = Network.from_widths((400, 6, 1), dtype="float64", input_dropout=0.2)
    on_dense, on_sparse = network.initial_params(0), network.initial_params(0)
    train(network, on_dense, dense, y, epochs=2, batch_size=64, random_state=0)
    train(network, on_sparse, X, y, epochs=2, batch_size=64, random_state=0)
    assert max(made_dense) == 64
    # a mask depends on a row's place in its batch and on the step alone
    np.testing.assert_array_equal(on_sparse, on_dense)


@pytest.mark.parametrize("backend", pymlp.backends.available())
@pytest.mark.parametrize("block", [1, 64, 10_000])
def test_predictors_take_sparse_rows(scattered, backend, block, never_dense, monkeypatch):
    X, dense, _ = scattered
    monkeypatch.setattr(inference, "block_rows", lambda n_parameters: block)
    network = Network.from_widths((400, 6, 3), loss="log_loss", dtype="float64")
    with pymlp.config_context(backend=backend):
        predictor = Predictor(network, network.initial_params(0))
    expected = predictor(dense)
    agree(predictor(X), expected, FUSED[0] if backend == "c" else ENGINES[-1])
    agree(predictor(X[:1]), expected[:1], FUSED[0] if backend == "c" else ENGINES[-1])
    assert predictor(X[:0]).shape == (0, 3)


def test_callbacks_and_the_protocol_see_the_given_matrix(scattered):
    X, _, y = scattered
    seen = []

    class Look:
        def on_fit_task_end(self, estimator, context, *, X):
            seen.append(X)

    for name in REQUIRED_METHODS:
        if not hasattr(Look, name):
            setattr(Look, name, lambda self, estimator, context: None)
    model = MLPClassifier(5, max_iter=1, random_state=0).set_callbacks(Look())
    with pytest.warns(UserWarning, match=ENDED):
        model.fit(X, y)
    assert all(each is X for each in seen)
