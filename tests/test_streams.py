"""``fit_stream``: batches over the ends of chunks, passes, what is found out beforehand, and what is refused."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from matrix import FUSED
from scipy import sparse
from sklearn.base import clone

import pymlp
from pymlp import Cosine, Dense, MLPClassifier, MLPRegressor, Quantile
from pymlp.network import Network
from pymlp.optimizers import SGD
from pymlp.standardisation import Scaling, ScalingSums
from pymlp.streams import Source, Stream, StreamedRows

pytestmark = pytest.mark.filterwarnings("ignore:.*Maximum iterations:UserWarning")

ROWS, BATCH = 203, 16
# chunks of less than a batch, of whole batches, of both
CUTS = {
    "one": (203,),
    "single rows first": (1, 1, 1, 200),
    "whole batches": (32, 160, 11),
    "less than a batch": (10,) * 20 + (3,),
    "everything": (1, 50, 3, 100, 2, 30, 5, 12),
}


@pytest.fixture(scope="module")
def data():
    draw = np.random.default_rng(0)
    X = draw.normal(size=(ROWS, 5))
    # classes in the order of the rows: the first chunks do not know all
    return X, np.sort(draw.integers(3, size=ROWS)), draw.random(ROWS)


def cut(sizes, *arrays):
    """The arrays in chunks of so many rows."""
    ends = np.cumsum(sizes)
    assert ends[-1] == ROWS
    return [tuple(array[end - size : end] for array in arrays) for size, end in zip(sizes, ends, strict=True)]


def small(kind=MLPClassifier, **parameters):
    defaults = {"hidden_layer_sizes": 6, "max_iter": 4, "batch_size": BATCH, "shuffle": False, "random_state": 0}
    return kind(**{**defaults, **parameters})


def same(first, second):
    assert first.params_.tobytes() == second.params_.tobytes()
    assert first.loss_curve_ == second.loss_curve_
    assert (first.n_iter_, first.t_, first.n_features_in_) == (second.n_iter_, second.t_, second.n_features_in_)


# ----------------------------------------------------------------------------------------------------- the same as fit


@pytest.mark.parametrize("sizes", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_chunks_in_their_order_are_the_rows_in_their_order(data, kind, sizes):
    fitted = small(kind).fit(*data)
    same(small(kind).fit_stream(cut(sizes, *data)), fitted)


@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "sgd", "learning_rate": "invscaling"},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1},
        {"learning_rate": Cosine(warmup=2)},
        {"batch_size": "auto"},
        {"dropout": 0.2, "input_dropout": 0.1},
        {"hidden_layer_sizes": [Dense(5, "gelu", normalization="layer", residual=True)]},
        {"solver": SGD(average="swa", clip_norm=0.1)},
        {"class_weight": {0: 2.0, 2: 0.5}, "l1_ratio": 0.5, "alpha": 0.1},
        {"loss": "hinge"},
        {"dtype": "float32"},
        {"n_iter_no_change": 2, "tol": 10.0},
    ],
    ids=str,
)
def test_parameters_mean_what_they_mean_in_fit(data, parameters):
    same(small(**parameters).fit_stream(cut(CUTS["everything"], *data)), small(**parameters).fit(*data))


@pytest.mark.parametrize("form", ["sparse", "uint8", "float32", "frame", "lists", "labels", "text", "two classes"])
def test_chunks_of_every_form(data, form):
    X, y, _ = data
    X = np.where(X > 0.8, np.round(X), 0)
    changed = {
        "sparse": lambda X, y: (sparse.csr_matrix(X), y),
        "uint8": lambda X, y: (X.astype("uint8"), y),
        "float32": lambda X, y: (X.astype("float32"), y),
        "frame": lambda X, y: (pytest.importorskip("pandas").DataFrame(X, columns=list("abcde")), y),
        "lists": lambda X, y: (X.tolist(), y.tolist()),
        "labels": lambda X, y: (X, np.eye(3, dtype=int)[y]),
        "text": lambda X, y: (X, np.array(["b", "a", "cc"], object)[y]),
        "two classes": lambda X, y: (X, y > 0),
    }[form]
    fitted, streamed = small().fit(*changed(X, y)), small()
    streamed.fit_stream([changed(*chunk) for chunk in cut(CUTS["everything"], X, y)])
    same(streamed, fitted)
    np.testing.assert_array_equal(streamed.classes_, fitted.classes_)
    given = changed(X, y)[0]
    np.testing.assert_array_equal(streamed.predict(given), fitted.predict(given))
    assert hasattr(streamed, "feature_names_in_") == (form == "frame")


def test_targets_of_several_columns_and_groups_of_outputs(data):
    X, _, weight = data
    y = X[:, :2] ** 2
    for loss in ("squared_error", Quantile([0.1, 0.9])):
        same(
            small(MLPRegressor, loss=loss).fit_stream(cut(CUTS["everything"], X, y)),
            small(MLPRegressor, loss=loss).fit(X, y),
        )
    with_weight = cut(CUTS["everything"], X, y, weight)
    # weights in some chunks alone count as 1 in the others
    mixed = [chunk if number % 2 else chunk[:2] for number, chunk in enumerate(with_weight)]
    ends = np.cumsum(CUTS["everything"])
    ones = weight.copy()
    for number in range(0, len(ends), 2):
        ones[ends[number] - CUTS["everything"][number] : ends[number]] = 1
    streamed, fitted = small(MLPRegressor).fit_stream(mixed), small(MLPRegressor).fit(X, y, ones)
    np.testing.assert_allclose(streamed.params_, fitted.params_, rtol=1e-9, atol=1e-12)


def test_chunks_without_rows_or_without_weight_are_no_trouble(data):
    X, y, weight = data
    chunks = cut(CUTS["everything"], X, y, weight)
    empty = X[:0], y[:0], weight[:0]
    same(small().fit_stream([empty, *chunks[:3], empty, *chunks[3:], empty]), small().fit(X, y, weight))
    nothing = weight.copy()
    nothing[1:51] = 0
    same(small().fit_stream(cut(CUTS["everything"], X, y, nothing)), small().fit(X, y, nothing))


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_standardising_learns_from_a_pass(data, kind, weighted, form):
    X, y, weight = data
    X = np.where(X > 0, 10 * X + 3, 0) if form == "sparse" else 10 * X + 3
    arrays = (X, y, weight) if weighted else (X, y)
    as_given = sparse.csr_matrix if form == "sparse" else np.asarray
    options = {"standardize": True, **({"standardize_target": True} if kind is MLPRegressor else {})}
    fitted = small(kind, **options).fit(as_given(X), *arrays[1:])
    chunks = [(as_given(part), *rest) for part, *rest in cut(CUTS["everything"], *arrays)]
    streamed = small(kind, **options).fit_stream(chunks)
    np.testing.assert_allclose(streamed.params_, fitted.params_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(streamed.loss_curve_, fitted.loss_curve_, rtol=1e-9)


def test_sums_of_scalings_are_those_of_all_rows(data):
    X, _, weight = data
    X = np.column_stack([X, np.full(ROWS, 7.0), 1e6 + X[:, 0]])
    weight = np.where(weight < 0.2, 0, weight)
    for each in (None, weight):
        sums = ScalingSums(7)
        for start in range(0, ROWS, 30):
            sums.add(X[start : start + 30], None if each is None else each[start : start + 30])
        found, expected = sums.scaling(), Scaling.of(X, each)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(found.deviation, expected.deviation, rtol=1e-9)


def test_other_backends_too(data):
    for backend in pymlp.backends.available():
        with pymlp.config_context(backend=backend):
            streamed, fitted = small().fit_stream(cut(CUTS["everything"], *data)), small().fit(*data)
        np.testing.assert_allclose(streamed.params_, fitted.params_, rtol=1e-8, atol=1e-10)


# ------------------------------------------------------------------------------------------------ shuffling and batches


def test_shuffling_is_within_chunks_and_seeded(data):
    chunks = cut(CUTS["whole batches"], *data)
    first, again = (small(shuffle=True).fit_stream(chunks) for _ in range(2))
    other = small(shuffle=True, random_state=1).fit_stream(chunks)
    same(first, again)
    assert not np.array_equal(first.params_, small().fit_stream(chunks).params_)
    assert not np.array_equal(first.params_, other.params_)


def test_batches_of_shuffled_chunks_hold_every_row_once():
    X = np.arange(ROWS, dtype="float64")[:, None]
    network = Network.from_widths((1, 1), dtype="float64")
    sizes = CUTS["everything"]
    stream = Stream(lambda: ((x, x, None) for (x,) in cut(sizes, X)), (ROWS, 1))
    rows = StreamedRows(stream, network, BATCH, np.random.RandomState(0).shuffle)
    starts = np.append(np.arange(0, ROWS, BATCH), ROWS)
    assert len(rows.numbers) == ROWS
    orders = []
    for _ in range(2):
        first, seen = 0, []
        while first < len(starts) - 1:
            last = first + min(2, rows.most_steps(BATCH, first))
            taken, y, weight, order, local = rows.run(np.arange(0), starts, first, last)
            np.testing.assert_array_equal(np.diff(local), np.diff(starts[first : last + 1]))
            np.testing.assert_array_equal(taken, y)
            assert weight is None
            seen += taken[order[local[0] : local[-1]], 0].astype(int).tolist()
            first = last
        assert sorted(seen) == list(range(ROWS))
        # rows move within their chunk alone
        ends = np.cumsum(sizes)
        np.testing.assert_array_equal(np.searchsorted(ends, seen, "right"), np.repeat(np.arange(len(sizes)), sizes))
        orders.append(seen)
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])


# ------------------------------------------------------------------------------------------------------------- sources


def counted(chunks):
    """A callable source, and a list that grows with each pass."""
    passes = []

    def source():
        passes.append(0)
        for chunk in chunks:
            passes[-1] += 1
            yield chunk

    return source, passes


def test_passes_are_no_more_than_needed(data):
    chunks = cut(CUTS["everything"], *data)
    for options, extra in (
        ({}, 1),
        ({"n_rows": ROWS}, 1),
        ({"classes": [0, 1, 2]}, 1),
        ({"n_rows": ROWS, "classes": [0, 1, 2]}, 0),
    ):
        source, passes = counted(chunks)
        same(small().fit_stream(source, **options), small().fit(*data))
        assert passes == [8] * (4 + extra)
    source, passes = counted(chunks)
    small(MLPRegressor, standardize=True).fit_stream(source)
    assert passes == [8] * 6
    # the scaling of an earlier fit is kept
    source, passes = counted(chunks)
    model = small(MLPRegressor, standardize=True, warm_start=True).fit(*data)
    model.fit_stream(source, n_rows=ROWS)
    assert passes == [8] * 4


def test_an_iterator_does_where_one_pass_is_enough(data):
    chunks = cut(CUTS["everything"], *data)
    known = {"n_rows": ROWS, "classes": [0, 1, 2]}
    same(small(max_iter=1).fit_stream(iter(chunks), **known), small(max_iter=1).fit(*data))
    for parameters, options, reason in (
        ({}, known, "max_iter=4 epochs"),
        ({"max_iter": 1}, {"n_rows": ROWS}, "n_rows and classes"),
        ({"max_iter": 1, "standardize": True}, known, "standardising"),
    ):
        with pytest.raises(ValueError, match=rf"source is an iterator.*{reason}.*a callable that returns"):
            small(**parameters).fit_stream(iter(chunks), **options)


def test_sources_that_are_none(data):
    with pytest.raises(ValueError, match=r"source must be chunks to iterate over, or a callable.*got 5"):
        Source(5)
    with pytest.raises(ValueError, match="source must return an iterator over chunks, but it returned None"):
        small().fit_stream(lambda: None)
    with pytest.raises(ValueError, match="source gave no rows"):
        small().fit_stream([])
    X, y, _ = data
    with pytest.raises(ValueError, match=r"chunk 1 .*has classes not in"):
        small().fit_stream([(X, y), (X, y + 7)], classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"chunk 1 .*its y has 2 target columns"):
        small(MLPRegressor).fit_stream([(X, y), (X, X[:, :2])])
    with pytest.raises(ValueError, match=r"chunk 0 of source must be \(X, y\) or \(X, y, weight\), got ndarray"):
        small().fit_stream(data[:2])


def test_passes_of_different_lengths_are_refused(data):
    chunks = cut(CUTS["everything"], *data)
    iterator = iter(chunks)
    model = small().fit(*data)
    before = model.params_.tobytes()
    for source, options, message in (
        (chunks, {"n_rows": ROWS - 1, "classes": [0, 1, 2]}, "gave more rows in a pass than the 202"),
        (chunks, {"n_rows": ROWS + 1, "classes": [0, 1, 2]}, "ended after 203 rows, but has 204"),
        (lambda: iterator, {}, "ended after 0 rows, but has 203.*a new iterator each time"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit_stream(source, **options)
        assert model.params_.tobytes() == before
    # even where the rows that are too many make a chunk of their own
    with pytest.raises(ValueError, match="gave more rows"):
        model.fit_stream([*chunks, chunks[0]], n_rows=ROWS, classes=[0, 1, 2])


def test_an_error_names_the_chunk_and_changes_nothing(data):
    X, y, weight = data
    model = small().fit(*data)
    before = {name: getattr(model, name) for name in ("params_", "classes_", "n_iter_", "loss_curve_")}
    good = cut(CUTS["everything"], X, y, weight)
    bad_row = X[:4].copy()
    bad_row[2, 3] = np.nan
    for chunk, message in (
        ((bad_row, y[:4]), "chunk 8 of source .* row 2, column 3"),
        ((X[:4, :3], y[:4]), "chunk 8 of source .* 3 features"),
        ((X[:4], y[:3]), "chunk 8 of source .* inconsistent"),
        ((X[:4], y[:4], -weight[:4]), "chunk 8 of source .* must not be negative"),
        ((X[:4],), "chunk 8 of source must be"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit_stream([*good, chunk])
        for name, value in before.items():
            assert getattr(model, name) is value or name == "params_"
    with pytest.raises(ValueError, match="has classes not in"):
        model.fit_stream([*good, (X[:4], y[:4] + 7)], classes=[0, 1, 2])
    assert model.params_.tobytes() == before["params_"].tobytes()


def test_an_error_counts_the_chunks_without_rows_too(data):
    X, y, _ = data
    empty, bad = (X[:0], y[:0]), X[:4].copy()
    bad[2, 3] = np.nan
    known = {"n_rows": ROWS + 4, "classes": [0, 1, 2]}
    for chunks, options in (([empty, (X, y), (bad, y[:4])], {}), ([empty, (X, y), (bad, y[:4])], known)):
        with pytest.raises(ValueError, match=r"chunk 2 of source .* row 2, column 3"):
            small().fit_stream(chunks, **options)
    for options in ({}, known):
        with pytest.raises(ValueError, match=r"chunk 1 of source .* row 2, column 3"):
            small().fit_stream([empty, (bad, y[:4]), (X, y)], **options)


def test_what_a_stream_cannot_serve_is_refused(data):
    chunks = cut(CUTS["everything"], *data)
    with pytest.raises(ValueError, match="early_stopping=True needs X_val and y_val"):
        small(early_stopping=True).fit_stream(chunks)
    with pytest.raises(ValueError, match="n_rows must be an integer"):
        small().fit_stream(chunks, n_rows=0)
    assert not hasattr(small(solver="lbfgs"), "fit_stream")
    assert not hasattr(small(class_weight="balanced"), "fit_stream")


# ------------------------------------------------------------------------------------------- validation, going on, ends


@pytest.mark.parametrize("early", [False, True])
def test_validation_rows(data, early):
    X, y, weight = data
    options = {"early_stopping": early, "n_iter_no_change": 2, "max_iter": 12, "learning_rate_init": 0.05}
    held = {"X_val": X[::4], "y_val": y[::4], "sample_weight_val": weight[::4]}
    streamed, fitted = small(**options).fit_stream(cut(CUTS["everything"], *data), **held), small(**options)
    fitted.fit(*data, **held)
    same(streamed, fitted)
    assert streamed.validation_scores_ == fitted.validation_scores_
    assert len(streamed.validation_scores_) == streamed.n_iter_
    assert streamed.history_["loss"] == streamed.loss_curve_


def test_going_on_warm_and_by_partial_fit(data):
    chunks = cut(CUTS["everything"], *data)
    streamed, fitted = small(warm_start=True).fit_stream(chunks), small(warm_start=True).fit(*data)
    same(streamed.fit_stream(chunks), fitted.fit(*data))
    same(streamed.partial_fit(*data), fitted.partial_fit(*data))
    cold = streamed.set_params(warm_start=False).fit_stream(chunks[:4], classes=[0, 1, 2])
    assert cold.t_ == 4 * 154
    with pytest.raises(ValueError, match="is not the same as on last call"):
        cold.set_params(warm_start=True).fit_stream(chunks, classes=[0, 1])


class Recorder:
    """Notes the ends of epochs; may raise or stop at one."""

    def __init__(self, at=None, error=None):
        self.at, self.error, self.ends = at, error, []

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, X, y):
        if context.task_name == "epoch":
            self.ends.append((context.task_id, context.metrics["rows"], X, y))
            if context.task_id == self.at:
                if self.error is not None:
                    raise self.error
                return True
        return False


def test_callbacks(data):
    chunks = cut(CUTS["everything"], *data)
    recorder = Recorder(at=2)
    model = small().set_callbacks(recorder).fit_stream(chunks)
    assert model.n_iter_ == 3
    assert [end[:2] for end in recorder.ends] == [(0, 203), (1, 406), (2, 609)]
    assert all(X is chunks and y is None for _, _, X, y in recorder.ends)


def test_an_interruption_keeps_the_last_complete_epoch(data):
    chunks = cut(CUTS["everything"], *data)
    model = small().set_callbacks(Recorder(at=2, error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        model.fit_stream(chunks)
    same(model, clone(model).set_params(max_iter=2).set_callbacks().fit(*data))

    source, passes = counted(chunks)

    def interrupted():
        for number, chunk in enumerate(source()):
            if len(passes) == 3 and number == 5:
                raise KeyboardInterrupt
            yield chunk

    model = small()
    with pytest.raises(KeyboardInterrupt):
        model.fit_stream(interrupted)
    same(model, small(max_iter=1).fit(*data))


def test_rolling_back_reads_the_epoch_again(data):
    X = data[0]
    options = {"solver": "sgd", "learning_rate_init": 100.0, "roll_back": True}
    target = X @ np.arange(5.0)
    with pytest.warns(RuntimeWarning, match="not finite"):
        fitted = small(MLPRegressor, **options).fit(X, target)
    with pytest.warns(RuntimeWarning, match="not finite"):
        same(small(MLPRegressor, **options).fit_stream(cut(CUTS["everything"], X, target)), fitted)


def test_only_a_chunk_and_a_part_of_a_batch_are_held(data):
    X, y, _ = data
    alive, most = [], []

    def source():
        for size, end in zip(CUTS["less than a batch"], np.cumsum(CUTS["less than a batch"]), strict=True):
            chunk = X[end - size : end].copy()
            alive.append(weakref.ref(chunk))
            most.append(sum(each() is not None for each in alive))
            yield chunk, y[end - size : end]

    small(max_iter=2).fit_stream(source)
    # the one that is being made, the one before it, and the run of batches that was trained on last
    assert max(most) <= 3


def test_bits_are_those_of_any_number_of_threads(data):
    chunks = cut(CUTS["everything"], *data)
    assert FUSED
    outcomes = set()
    for n_threads in (1, 3):
        with pymlp.config_context(n_threads=n_threads):
            outcomes.add(small(hidden_layer_sizes=(40, 40)).fit_stream(chunks).params_.tobytes())
    assert len(outcomes) == 1
