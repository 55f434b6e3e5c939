"""Arrays of every layout, byte order and width give the bits of a contiguous copy of the same numbers, and stay as they
were: what is given to fit, to predict, as targets, as weights, to a `Predictor` and to `train`."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from odd_inputs import COLUMNS, ESTIMATORS, PERCEPTRONS, ROWS, data, learn, made, numbers_of, say_verbs
from scipy import sparse

from pymlp import (
    GaussianNB,
    LogisticRegression,
    MLPClassifier,
    MLPRegressor,
    MultinomialNB,
    Network,
    Predictor,
    backends,
    config_context,
    rows,
    train,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Wrapper:
    """Something that becomes an array when it is asked to."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)

    def __len__(self):
        return len(self.array)

    @property
    def shape(self):
        return self.array.shape


class Derived(np.ndarray):
    """An array class of a user's."""


def unaligned(array, offset=1):
    """A copy whose numbers lie `offset` bytes past where they should."""
    memory = np.zeros(array.nbytes + offset, np.uint8)
    found = memory[offset:].view(array.dtype).reshape(array.shape)
    found[...] = array
    assert not found.flags.aligned
    return found


def read_only(array):
    found = array.copy()
    found.flags.writeable = False
    return found


def spread(array):
    """Every other column of every other row of a larger array."""
    larger = np.full(tuple(2 * size for size in array.shape), np.nan, array.dtype)
    part = larger[tuple(slice(None, None, 2) for _ in array.shape)]
    part[...] = array
    return part


CONVERTED_LATE = (*PERCEPTRONS, LogisticRegression, GaussianNB, MultinomialNB)

# of an array of either dimension; each keeps the numbers
LAYOUTS = {
    "Fortran": np.asfortranarray,
    "negative strides": lambda a: np.flip(np.flip(a).copy()),
    "spread": spread,
    "unaligned": unaligned,
    "unaligned, Fortran": lambda a: unaligned(a.T.copy()).T,
    "read-only": read_only,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "big-endian, unaligned": lambda a: unaligned(a.astype(a.dtype.newbyteorder(">")), 3),
    "subclass": lambda a: a.view(Derived),
    "nothing masked": np.ma.asarray,
}
# of float64 alone: they change the type, and become float64 again
WIDTHS = {
    **{name: name for name in ("float16", "longdouble", "int8", "int16", "int32", "int64")},
    **{name: name for name in ("uint8", "uint16", "uint32", "uint64")},
    "big-endian integers": ">i4",
    "big-endian halves": ">f2",
    "objects": "object",
}
TYPED = {name: (lambda a, dtype=dtype: a.astype(dtype)) for name, dtype in WIDTHS.items()} | {
    "memoryview": memoryview,
    "lists": lambda a: a.tolist(),
    "tuples": lambda a: tuple(tuple(row) for row in a.tolist()) if a.ndim == 2 else tuple(a.tolist()),
    "wrapped": Wrapper,
}


def held(array):
    """The bytes of what an array is a view of."""
    while isinstance(array, np.ndarray) and isinstance(array.base, np.ndarray):
        array = array.base
    if isinstance(array, Wrapper):
        array = array.array
    return bytes(array) if isinstance(array, memoryview) else repr(array) if isinstance(array, (list, tuple)) else (
        repr(array.tolist()) if array.dtype == object else array.tobytes()
    )  # fmt: skip


def answers(model, X):
    return {verb: np.ascontiguousarray(getattr(model, verb)(X)).tobytes() for verb in say_verbs(model)}


@pytest.fixture(params=[rows.SMALL_COPY_BYTES, 0], ids=["converted at once", "converted late"])
def largest_copy(request, monkeypatch):
    monkeypatch.setattr(rows, "SMALL_COPY_BYTES", request.param)


@pytest.mark.parametrize(
    ("kind", "largest_copy"),
    [*((kind, rows.SMALL_COPY_BYTES) for kind in ESTIMATORS), *((kind, 0) for kind in CONVERTED_LATE)],
    ids=lambda each: each.__name__ if isinstance(each, type) else "converted at once" if each else "converted late",
)
def test_every_layout_gives_the_bits_of_a_contiguous_copy(kind, largest_copy, monkeypatch):
    monkeypatch.setattr(rows, "SMALL_COPY_BYTES", largest_copy)
    X, y = data()
    weight = np.arange(ROWS) % 3 + 1.0
    for dtype in ("float64", "float32"):
        plain = np.ascontiguousarray(X, dtype)
        expected = learn(made(kind), "fit", plain, y, weight)
        for name, form in (LAYOUTS | TYPED).items():
            if name in TYPED and dtype == "float32":
                # these become float64
                continue
            given, given_weight = form(plain), form(weight.astype(dtype))
            before = held(given), held(given_weight)
            model = learn(made(kind), "fit", given, y, given_weight)
            if largest_copy == 0 and kind is LogisticRegression:
                # lbfgs adds up block by block: equal to rounding
                np.testing.assert_allclose(model.params_, expected.params_, rtol=1e-6 if dtype == "float64" else 1e-3)
                model = expected
            assert numbers_of(model) == numbers_of(expected), (name, dtype)
            assert answers(model, given) == answers(expected, plain), (name, dtype)
            assert model.score(given, y) == expected.score(plain, y), (name, dtype)
            assert (held(given), held(given_weight)) == before, (name, dtype)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("backend", backends.available())
def test_every_layout_of_targets_and_weights(backend, solver):
    X, _ = data()
    targets = {"one": X[:, 0].copy(), "two": X[:, :2].copy()}
    weight = np.arange(ROWS) % 3 + 1.0
    with config_context(backend=backend):
        for y in targets.values():
            expected = made(MLPRegressor, solver=solver, max_iter=3).fit(X, y, weight).params_.tobytes()
            for name, form in (LAYOUTS | TYPED).items():
                given = form(X), form(y), form(weight)
                before = [held(array) for array in given]
                found = made(MLPRegressor, solver=solver, max_iter=3).fit(*given).params_.tobytes()
                assert found == expected, name
                assert [held(array) for array in given] == before, name


@pytest.mark.parametrize("kind", PERCEPTRONS)
def test_zero_strides(kind):
    X, y = data()
    same_rows, same_columns = np.broadcast_to(X[3], X.shape), np.broadcast_to(X[:, :1], X.shape)
    weight = np.broadcast_to(2.0, ROWS)
    for given in (same_rows, same_columns):
        found = made(kind).fit(given, y, weight)
        expected = made(kind).fit(given.copy(), y, weight.copy())
        assert found.params_.tobytes() == expected.params_.tobytes()
        assert answers(found, given) == answers(expected, given.copy())


def test_truth_values_are_ones_and_zeros():
    X, y = data()
    truth = X > 2
    for kind in ESTIMATORS:
        found, expected = learn(made(kind), "fit", truth, y), learn(made(kind), "fit", truth.astype(float), y)
        assert numbers_of(found) == numbers_of(expected)
        assert answers(found, truth) == answers(expected, truth.astype(float))


@pytest.mark.usefixtures("largest_copy")
def test_integers_that_no_float64_holds_are_rounded_to_the_nearest():
    X, y = data()
    large = X.astype(np.uint64) + np.uint64(2**53 + 1)
    assert (large.astype(np.float64).astype(np.uint64) != large).any()
    for kind in PERCEPTRONS:
        found = made(kind, standardize=True).fit(large, y)
        expected = made(kind, standardize=True).fit(large.astype(np.float64), y)
        assert found.params_.tobytes() == expected.params_.tobytes()
        assert answers(found, large) == answers(expected, large.astype(np.float64))


def test_labels_of_every_type_stay_what_they_are():
    X, y = data()
    for labels in (
        y.astype(">i2"), y.astype("float16"), y.astype(bool), y.astype(np.uint64) + np.uint64(2**63),
        np.where(y, "yes", "no"), np.where(y, "yes", "no").astype(object), unaligned(y.astype(np.int64)), y[::-1],
    ):  # fmt: skip
        expected = made(MLPClassifier).fit(X, labels == np.unique(labels)[1])
        model = made(MLPClassifier).fit(X, labels)
        assert model.params_.tobytes() == expected.params_.tobytes()
        assert set(model.predict(X).tolist()) <= set(labels.tolist())
        assert model.classes_.dtype == (labels.dtype if labels.dtype != object else "<U3")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", backends.available())
@pytest.mark.usefixtures("largest_copy")
def test_a_predictor_and_train_take_every_layout(backend, dtype):
    X, _ = data()
    X = X.astype(dtype)
    network = Network.from_widths((COLUMNS, 4, 2), dtype=dtype)
    start = network.initial_params(0)

    def trained(X, y, weight):
        params = start.copy()
        train(network, params, X, y, weight=weight, epochs=2, batch_size=10, random_state=0, backend=backend)
        return params.tobytes()

    with config_context(backend=backend):
        predictor = Predictor(network, start)
    y, weight = X[:, 1:].copy(), X[:, 0] + 1
    expected, expected_params = predictor(X).tobytes(), trained(X, y, weight)
    for name, form in (LAYOUTS | TYPED).items():
        given = form(X), form(y), form(weight)
        before = [held(array) for array in given]
        if name == "objects":
            with pytest.raises(TypeError, match="X must hold real numbers, got dtype object"):
                predictor(given[0])
        else:
            assert predictor(given[0]).tobytes() == expected, name
            assert predictor(given[0], out=np.empty((ROWS, 2), dtype)).tobytes() == expected, name
            if name not in ("lists", "tuples", "memoryview", "wrapped"):
                assert predictor(given[0][4]).tobytes() == predictor(X[4]).tobytes(), name
        assert trained(*given) == expected_params, name
        assert [held(array) for array in given] == before, name


@pytest.mark.parametrize("backend", backends.available())
def test_what_a_predictor_cannot_write_to(backend):
    X, _ = data()
    X = X.astype("float32")
    network = Network.from_widths((COLUMNS, 4, 2))
    with config_context(backend=backend):
        predictor = Predictor(network, network.initial_params(0))
    good = np.empty((ROWS, 2), "float32")
    for out in (
        good.astype("float64"), good.astype(">f4"), good[:-1], good.reshape(2, ROWS), good.ravel(), good.T.copy().T,
        np.empty((2 * ROWS, 2), "float32")[::2], unaligned(good), read_only(good),
        good.tolist(), memoryview(good), "out",
    ):  # fmt: skip
        kept = held(out) if not isinstance(out, str) else out
        with pytest.raises(ValueError, match="out must be a writeable C-contiguous float32 array of shape"):
            predictor(X, out=out)
        assert (held(out) if not isinstance(out, str) else out) == kept
    memory = np.zeros(ROWS * COLUMNS + ROWS * 2 - 1, "float32")
    inside, outside = memory[: ROWS * COLUMNS].reshape(ROWS, COLUMNS), memory[ROWS * COLUMNS - 1 :].reshape(ROWS, 2)
    inside[...] = X
    before = memory.tobytes()
    with pytest.raises(ValueError, match="out must not overlap X"):
        predictor(inside, out=outside)
    with pytest.raises(ValueError, match="out must not overlap X"):
        predictor(inside.astype("float32", copy=False)[::-1], out=outside)
    assert memory.tobytes() == before
    assert predictor(X, out=good) is good


@pytest.mark.parametrize("backend", [name for name in backends.available() if name != "numpy"])
def test_the_verbs_of_a_plan_refuse_what_C_cannot_read(backend):
    X, _ = data()
    network = Network.from_widths((COLUMNS, 4, 2), dtype="float64")
    params, out = network.initial_params(0), np.empty((ROWS, 2))
    plan = backends.get(backend).Plan(network, ROWS)
    plan.forward(params, X, out)
    for name, form in LAYOUTS.items():
        if name in ("read-only", "subclass", "nothing masked"):
            continue
        with pytest.raises(ValueError, match="X must be"):
            plan.forward(params, form(X), out)
        if name != "Fortran":
            with pytest.raises(ValueError, match="params must be"):
                plan.forward(form(params), X, out)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse_rows_of_every_type(dtype):
    X, y = data()
    X[:, 0] = X[::2] = X[1::4] = 0
    plain = sparse.csr_matrix(X.astype(dtype))
    for kind in (MLPClassifier, MLPRegressor):
        expected = made(kind).fit(plain, y)
        forms = [sparse.csc_matrix(plain), sparse.coo_array(plain)]
        wide = plain.copy()
        wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
        mixed = plain.copy()
        for start, stop in zip(mixed.indptr[:-1], mixed.indptr[1:], strict=True):
            part = slice(start, stop)
            mixed.indices[part], mixed.data[part] = mixed.indices[part][::-1].copy(), mixed.data[part][::-1].copy()
        mixed.has_sorted_indices = False
        odd = plain.copy()
        odd.data = unaligned(odd.data)
        for given in [*forms, wide, mixed, odd, *([] if dtype == "float32" else [plain.astype(int)])]:
            kept = given.data.tobytes()
            model = made(kind).fit(given, y)
            assert model.params_.tobytes() == expected.params_.tobytes()
            assert answers(model, given) == answers(expected, plain)
            assert given.data.tobytes() == kept
