"""The epoch loop: batches, slices, continuation, interruption, callbacks."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from scipy import sparse

from pymlp import backends, epochs, interruptible, rows, step_times
from pymlp.network import Network, random_source
from pymlp.optimizers import SGD, Adam, new_slots
from pymlp.schedules import Constant, Cosine
from pymlp.training import train

NETWORK = Network.from_widths((6, 8, 3), "tanh", loss="log_loss", dtype="float64", l2=1e-3)


@pytest.fixture
def data():
    draw = np.random.RandomState(0)
    X = draw.normal(size=(53, 6))
    return X, np.eye(3)[draw.randint(3, size=53)], draw.uniform(0.5, 2.0, 53)


@pytest.fixture(params=backends.available())
def backend(request):
    return request.param


class Recorder:
    """A callback that notes what it is told, and can do something at the end of an epoch."""

    def __init__(self, at_end=None):
        self.events = []
        self.at_end = at_end

    def setup(self, estimator, context):
        self.events.append(("setup", context.task_name))

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name, context.task_id))

    def on_fit_progress(self, estimator, context):
        self.events.append(("progress", context.task_id, context.metrics["rows"]))

    def on_fit_task_end(self, estimator, context):
        self.events.append(("end", context.task_name, context.task_id))
        if self.at_end is not None and context.task_name == "epoch":
            return self.at_end(context)
        return False

    def teardown(self, estimator, context):
        self.events.append(("teardown", context.task_name))


def raise_at(epoch, error):
    def at_end(context):
        if context.task_id == epoch:
            raise error

    return at_end


@pytest.mark.parametrize("optimizer", [SGD(0.9, True), Adam()], ids=["sgd", "adam"])
@pytest.mark.parametrize("schedule", [Constant(), Cosine(warmup=1)], ids=["constant", "cosine"])
def test_train_equals_the_loop_over_the_verbs(data, backend, optimizer, schedule):
    X, y, weight = data
    params = NETWORK.initial_params(1)
    expected, losses = params.copy(), []
    plan = backends.get(backend).Plan(NETWORK, 20)
    slots = new_slots(optimizer, NETWORK.n_parameters, NETWORK.dtype)
    gradient = np.empty_like(params)
    source, order, step = random_source(7), np.arange(53), 0
    for _ in range(3):
        positions = np.arange(53)
        source.shuffle(positions)
        order = order[positions]
        total = 0.0
        for start in range(0, 53, 20):
            chosen = order[start : start + 20]
            rate = schedule.rates(0.01, step, 1, 9, 3, 53)[0]
            total += len(chosen) * plan.loss_gradient(expected, X[chosen], y[chosen], weight[chosen], gradient, step)
            plan.update(optimizer, expected, gradient, slots, step, rate)
            step += 1
        losses.append(total / 53)
    result = train(
        NETWORK, params, X, y, weight=weight, optimizer=optimizer, rate=0.01, schedule=schedule, batch_size=20,
        epochs=3, random_state=7, backend=backend,
    )  # fmt: skip
    np.testing.assert_allclose(params, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-12)
    np.testing.assert_allclose(result.slots, slots, rtol=1e-10, atol=1e-14)
    assert result.steps == 9


def test_training_can_be_continued(data, backend):
    X, y, _ = data
    whole, parts = NETWORK.initial_params(1), NETWORK.initial_params(1)
    source = np.random.RandomState(3)
    result = train(NETWORK, whole, X, y, epochs=5, batch_size=10, shuffle=False, backend=backend)
    first = train(NETWORK, parts, X, y, epochs=2, batch_size=10, shuffle=False, backend=backend)
    second = train(
        NETWORK, parts, X, y, epochs=3, batch_size=10, shuffle=False, backend=backend, slots=first.slots,
        step=first.steps, random_state=source,
    )  # fmt: skip
    assert parts.tobytes() == whole.tobytes()
    assert first.slots is second.slots
    assert second.slots.tobytes() == result.slots.tobytes()
    assert first.losses + second.losses == result.losses


@pytest.mark.parametrize("helped", [False, True], ids=["direct", "in a helper thread"])
def test_slices_change_nothing(data, backend, helped, monkeypatch):
    X, y, weight = data
    whole, sliced = NETWORK.initial_params(1), NETWORK.initial_params(1)
    result = train(NETWORK, whole, X, y, weight=weight, epochs=3, batch_size=5, random_state=2, backend=backend)
    if helped:
        monkeypatch.setattr(epochs, "DIRECT_SECONDS", 0.0)
        monkeypatch.setattr(epochs, "HELPED_SLICE_SECONDS", 1e-9)
    else:
        monkeypatch.setattr(epochs, "DIRECT_SECONDS", 1e9)
        monkeypatch.setattr(rows.DenseRows, "most_steps", lambda self, batch_size, first=0: 2)
    recorder = Recorder()
    again = train(
        NETWORK, sliced, X, y, weight=weight, epochs=3, batch_size=5, random_state=2, backend=backend,
        callbacks=[recorder],
    )  # fmt: skip
    assert sliced.tobytes() == whole.tobytes()
    assert again.losses == result.losses
    shown = [event[2] for event in recorder.events if event[0] == "progress"]
    assert shown == sorted(shown)
    assert 3 * 53 - 10 <= shown[-1] <= 3 * 53


@pytest.mark.parametrize("source", [np.random.RandomState, np.random.default_rng, None], ids=str)
@pytest.mark.parametrize("scattered", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("helped", [False, True], ids=["direct", "helped"])
def test_epochs_in_one_call_change_nothing(data, backend, source, scattered, helped, monkeypatch):
    X, y, weight = data
    X = sparse.csr_matrix(X) if scattered else X
    calls = []
    plan = backends.get(backend).Plan
    train_steps = plan.train_steps
    monkeypatch.setattr(
        plan, "train_steps", lambda self, *rest: calls.append(len(rest[-1])) or train_steps(self, *rest)
    )
    outcomes = []
    for together in (True, False):
        # however slow the machine is, or fast
        monkeypatch.setattr(epochs, "DIRECT_SECONDS", 0.0 if helped else 1e9)
        monkeypatch.setattr(epochs, "TOGETHER_SECONDS", 1e9)
        monkeypatch.setattr(epochs, "ENOUGH_STEPS", 50)
        # and whatever was measured before
        step_times.forget()
        if not together:
            monkeypatch.setattr(epochs.EpochLoop, "_epochs_together", lambda self, most: 1)
        draw = None if source is None else source(2)
        params = NETWORK.initial_params(1)
        result = train(
            NETWORK, params, X, y, weight=weight, epochs=7, batch_size=5, schedule=Cosine(warmup=1), backend=backend,
            shuffle=source is not None, random_state=draw,
        )  # fmt: skip
        following = None if draw is None else draw.normal()
        outcomes.append((params.tobytes(), result.slots.tobytes(), result.losses, result.rate, following))
    assert outcomes[0] == outcomes[1]
    # the first step is timed; then come the rest of its epoch, and all others at once or, where they take long, as many
    # as make 50 steps
    assert calls == [1, 10, *([44, 22] if helped else [66]), 1, 10] + [11] * 6


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_end_within_epochs_in_one_call_goes_back_to_the_last_complete_one(data, backend, error, monkeypatch):
    X, y, _ = data
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 1e9)
    plan = backends.get(backend).Plan
    train_steps = plan.train_steps

    def fail_in_many(self, *arguments):
        train_steps(self, *arguments)
        if len(arguments[-1]) > 11:
            raise error

    params, expected = NETWORK.initial_params(1), NETWORK.initial_params(1)
    slots, draw, expected_draw = new_slots(Adam(), NETWORK.n_parameters, NETWORK.dtype), *map(random_source, (2, 2))
    expected_slots = train(NETWORK, expected, X, y, epochs=1, batch_size=5, random_state=expected_draw).slots
    monkeypatch.setattr(plan, "train_steps", fail_in_many)
    # the first epoch is measured
    step_times.forget()
    with pytest.raises(error):
        train(NETWORK, params, X, y, epochs=7, batch_size=5, slots=slots, random_state=draw, backend=backend)
    if error is KeyboardInterrupt:
        np.testing.assert_allclose(params, expected, rtol=1e-12)
        np.testing.assert_allclose(slots, expected_slots, rtol=1e-10, atol=1e-14)
    else:
        assert params.tobytes() == NETWORK.initial_params(1).tobytes()
        assert not slots.any()
    # the shuffler has drawn the order of the complete epoch and nothing else
    assert draw.normal() == expected_draw.normal()


def test_sparse_rows_equal_dense_rows_and_are_never_dense_as_a_whole(data, backend, monkeypatch):
    X, y, weight = data
    X = np.where(X > 0.5, X, 0.0)
    dense, scattered = NETWORK.initial_params(1), NETWORK.initial_params(1)
    train(NETWORK, dense, X, y, weight=weight, epochs=2, batch_size=5, random_state=2, backend=backend)
    monkeypatch.setattr(rows, "DENSE_BYTES", 2 * 5 * 6 * 8)
    made_dense = []
    to_dense = sparse.csr_matrix.toarray
    monkeypatch.setattr(
        sparse.csr_matrix, "toarray", lambda self, *rest: made_dense.append(self.shape[0]) or to_dense(self, *rest)
    )
    for kind in (sparse.csr_matrix, sparse.csc_matrix):
        scattered = NETWORK.initial_params(1)
        train(NETWORK, scattered, kind(X), y, weight=weight, epochs=2, batch_size=5, random_state=2, backend=backend)
        assert scattered.tobytes() == dense.tobytes()
    assert max(made_dense) == 10


@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", "memory-mapped"])
def test_large_arrays_of_another_type_are_never_converted_as_a_whole(data, backend, kind, monkeypatch, tmp_path):
    X, y, weight = data
    X = np.round(4 * np.abs(X)).astype("float32" if kind == "memory-mapped" else kind)
    if kind == "memory-mapped":
        np.save(tmp_path / "X.npy", X)
        X = np.load(tmp_path / "X.npy", mmap_mode="r")
    options = {"weight": weight, "epochs": 2, "batch_size": 5, "random_state": 2, "backend": backend}
    whole, piecewise = NETWORK.initial_params(1), NETWORK.initial_params(1)
    train(NETWORK, whole, X.astype("float64"), y, **options)
    monkeypatch.setattr(rows, "DENSE_BYTES", 2 * 5 * 6 * 8)
    monkeypatch.setattr(rows, "SMALL_COPY_BYTES", 0)
    converted = []
    to_dense = rows._dense
    monkeypatch.setattr(rows, "_dense", lambda X, dtype: converted.append(len(X)) or to_dense(X, dtype))
    train(NETWORK, piecewise, X, y, **options)
    assert piecewise.tobytes() == whole.tobytes()
    assert max(converted) == 10


def test_a_failure_changes_nothing(data):
    X, y, _ = data
    params, slots = NETWORK.initial_params(1), new_slots(Adam(), NETWORK.n_parameters, NETWORK.dtype)
    before = params.tobytes() + slots.tobytes()
    recorder = Recorder(raise_at(2, OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        train(NETWORK, params, X, y, epochs=5, slots=slots, random_state=0, callbacks=[recorder])
    assert params.tobytes() + slots.tobytes() == before
    assert recorder.events[-1] == ("teardown", "fit")


@pytest.mark.parametrize("epoch", [0, 1, 2, 4])
def test_an_interruption_keeps_the_last_complete_epoch(data, epoch, backend):
    X, y, _ = data
    params, expected = NETWORK.initial_params(1), NETWORK.initial_params(1)
    slots = new_slots(Adam(), NETWORK.n_parameters, NETWORK.dtype)
    # raised while the end of that epoch is announced: it does not yet count as complete
    recorder = Recorder(raise_at(epoch, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        train(NETWORK, params, X, y, epochs=6, slots=slots, random_state=0, callbacks=[recorder], backend=backend)
    if epoch > 0:
        result = train(NETWORK, expected, X, y, epochs=epoch, random_state=0, backend=backend)
        assert slots.tobytes() == result.slots.tobytes()
    assert params.tobytes() == expected.tobytes()


def interrupt_after(seconds, sent):
    def send():
        time.sleep(seconds)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("widths", "rows_count", "batch_size"),
    [((20, 30, 1), 2000, 20), ((512, 1024, 1024, 1), 8192, 8192)],
    ids=["short steps", "steps of seconds"],
)
def test_control_c_comes_through_within_a_fifth_of_a_second(widths, rows_count, batch_size, backend):
    network = Network.from_widths(widths, dtype="float32")
    X = np.random.default_rng(0).normal(size=(rows_count, widths[0])).astype("float32")
    params = network.initial_params(0)
    train(network, params.copy(), X[:20], X[:20, :1], batch_size=20, epochs=1, backend=backend)
    delays = []
    # the best of three: other work on the machine delays threads
    for _ in range(3):
        sent = []
        thread = interrupt_after(0.3, sent)
        with pytest.raises(KeyboardInterrupt):
            train(network, params, X, X[:, :1], batch_size=batch_size, epochs=10**6, random_state=0, backend=backend)
        delays.append(time.perf_counter() - sent[0])
        thread.join()
        if delays[-1] < 0.2:
            break
    assert min(delays) < 0.2
    assert np.isfinite(params).all()


def test_callbacks_are_told_everything_in_order(data):
    X, y, _ = data
    recorder = Recorder()
    train(NETWORK, NETWORK.initial_params(0), X, y, epochs=2, callbacks=[recorder])
    events = [event for event in recorder.events if event[0] != "progress"]
    assert events == [
        ("setup", "fit"),
        ("begin", "fit", 0),
        ("begin", "epoch", 0),
        ("end", "epoch", 0),
        ("begin", "epoch", 1),
        ("end", "epoch", 1),
        ("end", "fit", 0),
        ("teardown", "fit"),
    ]


def test_a_callback_can_stop_and_sees_the_metrics(data):
    X, y, _ = data
    seen = []

    def at_end(context):
        seen.append(dict(context.metrics))
        return context.task_id == 1

    result = train(NETWORK, NETWORK.initial_params(0), X, y, epochs=9, rate=0.02, callbacks=[Recorder(at_end)])
    assert [metrics["loss"] for metrics in seen] == result.losses
    assert [metrics["rows"] for metrics in seen] == [53, 106]
    assert seen[1]["seconds"] >= seen[0]["seconds"] > 0
    assert {metrics["rate"] for metrics in seen} == {0.02}


def test_a_batch_of_weight_zero_is_skipped(data, backend):
    X, y, weight = data
    weight[10:20] = 0
    params, expected = NETWORK.initial_params(0), NETWORK.initial_params(0)
    train(NETWORK, params, X, y, weight=weight, batch_size=10, shuffle=False, epochs=1, optimizer=SGD(0.0, False),
          backend=backend)  # fmt: skip
    keep = np.r_[0:10, 20:53]
    train(NETWORK, expected, X[keep], y[keep], weight=weight[keep], batch_size=10, shuffle=False, epochs=1,
          optimizer=SGD(0.0, False), backend=backend)  # fmt: skip
    assert params.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": np.zeros((53, 5))}, r"X must have shape \(rows, 6\)"),
        ({"X": np.zeros((0, 6))}, "at least one row"),
        ({"y": np.zeros((53, 2))}, r"y must have shape \(53, 3\)"),
        ({"y": np.full((53, 3), 2.0)}, r"y must lie in \[0, 1\]"),
        ({"weight": -np.ones(53)}, "weight must not be negative, but row 0"),
        ({"weight": np.zeros(53)}, "weight must not be zero for every row"),
        ({"weight": np.ones(3)}, r"weight must have shape \(53,\)"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"epochs": 1.5}, "epochs must be an integer of at least 1, got 1.5"),
        ({"step": -1}, "step must be an integer of at least 0"),
        ({"rate": 0.0}, "rate must be a finite number above 0"),
        ({"rate": "fast"}, "rate must be a finite number above 0, got 'fast'"),
        ({"optimizer": "adam"}, "optimizer must be an object such as .*, got 'adam'"),
        ({"optimizer": SGD}, "optimizer must be an object"),
        ({"schedule": "cosine"}, "schedule must be an object such as .*, got 'cosine'"),
        ({"schedule": Cosine}, "schedule must be an object"),
        ({"slots": np.zeros((1, 3))}, "slots must be a float64 array of shape"),
        ({"params": np.zeros(4)}, "params must be a float64 array of shape"),
        ({"params": np.full(NETWORK.n_parameters, np.nan)}, "Input params contains NaN: first in row 0"),
        ({"params": np.broadcast_to(0.0, NETWORK.n_parameters)}, "params is changed in place"),
        ({"slots": np.broadcast_to(0.0, (2, NETWORK.n_parameters))}, "slots is changed in place"),
        ({"backend": "fortran"}, "backend='fortran'"),
    ],
)
def test_bad_arguments_are_named_and_change_nothing(data, changes, message):
    X, y, _ = data
    params = NETWORK.initial_params(0)
    arguments = {"params": params, "X": X, "y": y, **changes}
    before = params.tobytes()
    with pytest.raises(ValueError, match=message):
        train(NETWORK, **arguments)
    assert params.tobytes() == before


def test_numbers_that_are_not_finite_are_placed(data):
    X, y, _ = data
    X[7, 2] = np.inf
    with pytest.raises(ValueError, match=r"contains infinity: first in row 7, column 2 .*, where it is inf"):
        train(NETWORK, NETWORK.initial_params(0), X, y)


def test_callbacks_must_follow_the_protocol(data):
    X, y, _ = data
    with pytest.raises(TypeError, match="lacks setup"):
        train(NETWORK, NETWORK.initial_params(0), X, y, callbacks=[print])
    with pytest.raises(TypeError, match="is a class"):
        train(NETWORK, NETWORK.initial_params(0), X, y, callbacks=[Recorder])


def test_an_error_in_the_helper_thread_is_raised_here():
    def fail():
        raise IndexError("row 9")

    with pytest.raises(IndexError, match="row 9"):
        interruptible.run_interruptibly(fail, lambda: None)


def test_numpy_alone_is_enough():
    program = """
import sys
for name in ("sklearn", "scipy", "tqdm", "numba"):
    sys.modules[name] = None
import numpy as np, pymlp
network = pymlp.Network.from_widths((2, 4, 1), dtype="float64")
params = network.initial_params(0)
X = np.arange(20.0).reshape(10, 2) / 20
result = pymlp.train(network, params, X, X.sum(axis=1), epochs=50, rate=0.05, random_state=0, backend="numpy")
assert result.losses[-1] < result.losses[0] / 5, result.losses
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)
