"""What may be asked of `train` beside the plain loop: rates, validation, patience, averages, time limits."""

import time

import numpy as np
import pytest
from scipy import sparse

from pymlp import backends, epochs
from pymlp.losses import GaussianNLL, Quantile
from pymlp.network import Network
from pymlp.optimizers import SGD
from pymlp.schedules import Cosine, Plateau
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


def test_a_callable_is_a_schedule(data, backend):
    X, y, _ = data
    given, expected = NETWORK.initial_params(1), NETWORK.initial_params(1)
    options = {"epochs": 3, "batch_size": 20, "random_state": 0, "backend": backend}
    cosine = Cosine(warmup=1)
    train(NETWORK, expected, X, y, rate=0.02, schedule=cosine, **options)
    rates = cosine.rates(0.02, 0, 9, 9, 3, 53)
    result = train(NETWORK, given, X, y, schedule=lambda step: rates[step], **options)
    assert given.tobytes() == expected.tobytes()
    assert result.history["rate"] == rates[2::3].tolist()
    with pytest.raises(ValueError, match="gives -1 for step 4"):
        train(NETWORK, given, X, y, schedule=lambda step: -1 if step == 4 else 1, **options)
    assert given.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_on_validation_rows(data, backend, kind, weighted):
    X, y, weight = data
    chosen = slice(0, 11)
    params, expected = NETWORK.initial_params(1), NETWORK.initial_params(1)
    X_val = sparse.csr_matrix(X[chosen]) if kind == "sparse" else X[chosen]
    weight_val = weight[chosen] if weighted else None
    result = train(
        NETWORK, params, X, y, epochs=2, random_state=0, backend=backend, X_val=X_val, y_val=y[chosen],
        weight_val=weight_val,
    )  # fmt: skip
    plain = train(NETWORK, expected, X, y, epochs=2, random_state=0, backend=backend)
    assert params.tobytes() == expected.tobytes()
    assert plain.history["validation_loss"] == [None, None]
    assert plain.losses == result.losses
    outputs = np.empty((11, 3))
    backends.get(backend).Plan(NETWORK, 11).forward(params, X[chosen], outputs)
    values = NETWORK.loss_function.value(y[chosen], outputs)
    assert result.history["validation_loss"][-1] == pytest.approx(np.average(values, weights=weight_val), rel=1e-9)


def test_a_plateau_of_the_validation_loss_lowers_the_rate(data):
    X, y, _ = data
    schedule = Plateau(factor=0.5, patience=1, tol=1e9)
    options = {"epochs": 6, "rate": 0.01, "schedule": schedule, "X_val": X, "y_val": y}
    result = train(NETWORK, NETWORK.initial_params(1), X, y, **options)
    # the first epoch improves on nothing that was before
    assert result.history["rate"] == [0.01, 0.01, 0.01, 0.005, 0.005, 0.0025]


def test_patience_ends_the_training_and_keeps_the_best(data, backend):
    X, y, _ = data
    other = np.eye(3)[(y.argmax(axis=1) + 1) % 3]
    params = NETWORK.initial_params(1)
    options = {"rate": 0.01, "random_state": 0, "backend": backend, "batch_size": 10}
    # what is learnt here is wrong there
    result = train(NETWORK, params, X, y, epochs=30, X_val=X, y_val=other, patience=3, **options)
    found = result.history["validation_loss"]
    best = int(np.argmin(found))
    assert len(found) == best + 5
    expected = NETWORK.initial_params(1)
    train(NETWORK, expected, X, y, epochs=best + 1, **options)
    assert params.tobytes() == expected.tobytes()
    # without validation rows the training loss counts, and the last parameters stay
    stopped = train(NETWORK, params, X, y, epochs=30, patience=2, tol=1e9, **options)
    assert len(stopped.losses) == 4


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_an_average_of_the_parameters(data, backend, average):
    X, y, _ = data
    optimizer = SGD(0.0, False, average=average, average_decay=0.5)
    options = {"rate": 0.1, "batch_size": 53, "shuffle": False, "backend": backend}
    params = NETWORK.initial_params(1)
    passed = []
    for epoch in range(1, 4):
        params = NETWORK.initial_params(1)
        result = train(NETWORK, params, X, y, epochs=epoch, optimizer=optimizer, X_val=X, y_val=y, **options)
        passed.append(params)
    expected = np.mean(passed, axis=0) if average == "swa" else passed[0] / 4 + passed[1] / 4 + passed[2] / 2
    np.testing.assert_allclose(result.average, expected, rtol=1e-12)
    plain = NETWORK.initial_params(1)
    assert train(NETWORK, plain, X, y, epochs=3, optimizer=SGD(0.0, False), **options).average is None
    np.testing.assert_array_equal(params, plain)
    # validated is the average
    outputs = np.empty((53, 3))
    backends.get(backend).Plan(NETWORK, 53).forward(result.average, X, outputs)
    found = NETWORK.loss_function.value(y, outputs).mean()
    assert result.history["validation_loss"][-1] == pytest.approx(found, rel=1e-9)


def slow(plan, seconds, monkeypatch):
    train_steps = plan.train_steps
    monkeypatch.setattr(plan, "train_steps", lambda self, *rest: time.sleep(seconds) or train_steps(self, *rest))


def test_a_time_limit_keeps_the_last_complete_epoch(data, monkeypatch):
    X, y, _ = data
    params, expected = NETWORK.initial_params(1), NETWORK.initial_params(1)
    slow(backends.get("numpy").Plan, 0.02, monkeypatch)
    options = {"batch_size": 10, "backend": "numpy", "shuffle": False}
    # slices of one step each: the limit falls into the second epoch, or into a later one on a slow machine
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 1e-9)
    result = train(NETWORK, params, X, y, epochs=100, max_time=0.2, **options)
    assert 1 <= len(result.losses) < 100
    assert result.seconds < 2.0
    assert result.steps == 6 * len(result.losses)
    again = train(NETWORK, expected, X, y, epochs=len(result.losses), **options)
    assert params.tobytes() == expected.tobytes()
    assert result.slots.tobytes() == again.slots.tobytes()
    # the first epoch is always completed
    assert len(train(NETWORK, params, X, y, epochs=5, max_time=1e-9, **options).losses) == 1


def test_a_time_limit_comes_through_inside_a_long_slice(data, monkeypatch):
    X, y, _ = data
    params, expected = NETWORK.initial_params(1), NETWORK.initial_params(1)
    plan = backends.get("numpy").Plan
    train_steps, ended = plan.train_steps, []

    def wait_in_the_second_epoch(self, *arguments):
        if arguments[3] < 6:
            return train_steps(self, *arguments)
        while not ended:
            time.sleep(0.001)
        raise backends.StoppedError

    monkeypatch.setattr(plan, "train_steps", wait_in_the_second_epoch)
    monkeypatch.setattr(plan, "stop", lambda self: ended.append(True))
    # every slice runs in a helper thread
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 0.0)
    options = {"batch_size": 10, "backend": "numpy"}
    draw, expected_draw = np.random.default_rng(3), np.random.default_rng(3)
    result = train(NETWORK, params, X, y, epochs=100, max_time=0.3, random_state=draw, **options)
    monkeypatch.undo()
    assert len(result.losses) == 1
    train(NETWORK, expected, X, y, epochs=1, random_state=expected_draw, **options)
    assert params.tobytes() == expected.tobytes()
    # the order of the epoch that was given up is not drawn
    assert draw.normal() == expected_draw.normal()


@pytest.mark.parametrize("failing", [1, 3])
def test_rolling_back(data, failing, monkeypatch):
    X, y, _ = data
    plan = backends.get("numpy").Plan
    train_steps, calls = plan.train_steps, []

    def fail_once(self, optimizer, params, slots, step, *rest):
        calls.append((step, rest[-2].tolist()))
        train_steps(self, optimizer, params, slots, step, *rest)
        if len(calls) == failing:
            params[3] = np.inf
            slots[:] = 7.0

    monkeypatch.setattr(plan, "train_steps", fail_once)
    params, expected = NETWORK.initial_params(1), NETWORK.initial_params(1)
    options = {"batch_size": 53, "backend": "numpy", "shuffle": False, "rate": 0.01}
    with pytest.warns(RuntimeWarning, match=f"epoch {failing} ended with numbers that are not finite"):
        result = train(NETWORK, params, X, y, epochs=4, roll_back=True, **options)
    rates = [0.01 if step + 1 < failing else 0.005 for step in range(4)]
    assert result.history["rate"] == rates
    undone = (failing - 1, [0.01])
    steps = list(enumerate([rate] for rate in rates))
    assert calls == [*steps[: failing - 1], undone, *steps[failing - 1 :]]
    assert result.steps == 4
    monkeypatch.undo()
    train(NETWORK, expected, X, y, epochs=4, **{**options, "schedule": lambda step: rates[step]})
    assert params.tobytes() == expected.tobytes()


@pytest.mark.parametrize("loss", [Quantile((0.2, 0.8)), GaussianNLL()])
def test_each_target_serves_all_its_outputs(data, loss):
    X, _, weight = data
    network = Network.from_widths((6, 4, 4), loss=loss, dtype="float64")
    y = X[:, :2] + 1.0
    given, repeated = network.initial_params(0), network.initial_params(0)
    options = {"weight": weight, "epochs": 2, "random_state": 0}
    train(network, given, X, y, X_val=X, y_val=y, **options)
    train(network, repeated, X, np.repeat(y, 2, axis=1), **options)
    assert given.tobytes() == repeated.tobytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X_val": np.zeros((4, 6))}, "y_val is missing: X_val and y_val must be given together"),
        ({"y_val": np.zeros((4, 3))}, "X_val is missing"),
        ({"weight_val": np.ones(3)}, "X_val is missing"),
        ({"X_val": np.zeros((4, 5)), "y_val": np.zeros((4, 3))}, r"X_val must have shape \(rows, 6\)"),
        ({"X_val": np.full((4, 6), np.nan), "y_val": np.zeros((4, 3))}, "Input X_val contains NaN: first in row 0"),
        ({"X_val": np.zeros((4, 6)), "y_val": np.zeros((3, 3))}, r"y_val must have shape \(4, 3\)"),
        ({"X_val": np.zeros((4, 6)), "y_val": np.full((4, 3), 2.0)}, r"y_val must lie in \[0, 1\]"),
        (
            {"X_val": np.zeros((4, 6)), "y_val": np.zeros((4, 3)), "weight_val": -np.ones(4)},
            "weight_val must not be negative",
        ),
        ({"max_time": 0}, "max_time must be a finite number above 0, got 0"),
        ({"patience": -1}, "patience must be an integer of at least 0, got -1"),
        ({"patience": 2, "tol": -1}, "tol must be a finite number of at least 0, got -1"),
    ],
)
def test_bad_options_are_named_and_change_nothing(data, changes, message):
    X, y, _ = data
    params = NETWORK.initial_params(0)
    before = params.tobytes()
    with pytest.raises(ValueError, match=message):
        train(NETWORK, params, X, y, **changes)
    assert params.tobytes() == before
