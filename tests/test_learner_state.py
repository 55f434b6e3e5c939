"""What a learner goes by from step to step: rates, the optimizer's state, losses of one's own, copies."""

import copy
import ctypes
import pickle

import numpy as np
import pytest
from learners import data, has_engine, made, small, state_of

import pymlp
from pymlp import SGD, Adam, AdamW, CustomLoss, Dense, Learner, Network, backends
from pymlp.schedules import SCHEDULES, Constant, Cosine, InverseScaling, OneCycle, Plateau, Step


def rates_seen(learner: Learner, steps: int) -> list[float]:
    found = []
    X, by_output = data(2)
    for _ in range(steps):
        found.append(learner.rate)
        learner.step(by_output, X)
    return found


@pytest.mark.parametrize("backend", ["c", "numpy"])
@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        (Constant(), {}),
        (Step(100), {}),
        (Step(2), {"epoch_steps": 50}),
        (InverseScaling(), {}),
        (Cosine(warmup=20), {"total_steps": 600}),
        (OneCycle(peak=0.1), {"total_steps": 600}),
        (lambda step: 0.1 / (step + 1), {}),
    ],
    ids=str,
)
def test_rates_follow_the_schedule(backend, schedule, options):
    if backend not in backends.available():
        pytest.skip(f"no backend {backend}")
    network, params = small(dtype="float64")
    learner = made(backend, network, params, SGD(momentum=0.0), rate=0.01, schedule=schedule, **options)
    epoch = options.get("epoch_steps", 1)
    if hasattr(schedule, "rates"):
        expected = schedule.rates(0.01, 0, 600, options.get("total_steps", 1), epoch, epoch).tolist()
    else:
        expected = [schedule(step) for step in range(600)]
    X, by_output = data(2)
    for rate in expected:
        before = params.copy()
        assert learner.rate == rate
        gradient = network.vjp(params, X, backend=backend)[1](by_output)
        learner.step(by_output, X)
        np.testing.assert_allclose(before - params, rate * gradient, rtol=1e-9, atol=1e-14)


def test_schedules_that_need_to_know_the_whole_run():
    network, params = small()
    needy = {"cosine", "one_cycle"}
    for name, kind in SCHEDULES.items():
        if name == "plateau":
            with pytest.raises(ValueError, match=r"Plateau.*set its rate"):
                Learner(network, params, schedule=Plateau())
        elif name in needy:
            with pytest.raises(ValueError, match=r"whole run: give its length, total_steps"):
                Learner(network, params, schedule=kind())
            Learner(network, params, schedule=kind(), total_steps=10)
        else:
            Learner(network, params, schedule=kind())


def test_a_callable_may_know_only_the_steps_there_will_be():
    network, params = small()
    rates = np.linspace(0.1, 0.2, 300)
    learner = Learner(network, params, schedule=lambda step: float(rates[step]))
    assert rates_seen(learner, 300) == rates.tolist()
    before = state_of(learner)
    with pytest.raises(IndexError):
        learner.step(*data(2)[::-1])
    assert state_of(learner) == before
    with pytest.raises(ValueError, match="gives -1 for step 0"):
        Learner(network, params, schedule=lambda step: -1)


@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_the_rate_can_be_set(backend):
    if backend not in backends.available():
        pytest.skip(f"no backend {backend}")
    network, params = small()
    learner = made(backend, network, params, rate=0.01, schedule=Step(2))
    assert rates_seen(learner, 3) == pytest.approx([0.01, 0.01, 0.001])
    learner.rate = 1.0
    assert rates_seen(learner, 2) == pytest.approx([0.1, 0.01])
    before = state_of(learner)
    for rate in (0, -1.0, np.nan, "fast", True):
        with pytest.raises(ValueError, match="rate must be a finite number above 0"):
            learner.rate = rate
    assert learner.rate == pytest.approx(0.01)
    learner.step(*data(2)[::-1])
    assert state_of(learner) != before
    with pytest.raises(ValueError, match="callable"):
        Learner(network, params, schedule=lambda step: 0.1).rate = 1.0


@pytest.mark.parametrize("backend", backends.available())
def test_goes_on_from_a_training(backend):
    network, params = small()
    X, y = data(20)
    result = pymlp.train(network, params, X, y, batch_size=20, epochs=5, shuffle=False, backend=backend)
    copied = params.copy()
    learner = made(backend, network, params, slots=result.slots, step=result.steps)
    assert learner.slots is result.slots
    assert learner.steps == 5
    learner.train(X, y)
    again = made(backend, network, copied.copy())
    again.params[:] = network.initial_params(0)
    for _ in range(6):
        again.train(X, y)
    tolerance = 0 if backend != "numba" else 1e-5
    np.testing.assert_allclose(learner.params, again.params, rtol=0, atol=tolerance)
    assert learner.steps == again.steps == 6


@pytest.mark.parametrize("backend", backends.available())
def test_update_takes_a_gradient_at_the_parameters(backend):
    network, params = small()
    X, by_output = data()
    learner, expected = made(backend, network, params.copy()), made(backend, network, params.copy())
    _, pullback = network.vjp(params, X, backend=backend)
    gradient = pullback(by_output)
    learner.update(gradient.astype("float64"))
    expected.step(by_output, X)
    np.testing.assert_allclose(learner.params, expected.params, atol=1e-6)
    before = state_of(learner)
    for bad, message in (
        (gradient[:-1], r"gradient must be of shape \(65,\), got \(64,\)"),
        (gradient * np.nan, "gradient contains NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            learner.update(bad)
    assert state_of(learner) == before


def test_the_average_is_the_last_slot():
    network, params = small()
    learner = Learner(network, params, Adam(average="swa"))
    assert Learner(network, params).average is None
    taken = []
    for _ in range(5):
        learner.step(*data()[::-1])
        taken.append(params.copy())
    np.testing.assert_allclose(learner.average, np.mean(taken, axis=0), rtol=1e-5, atol=1e-6)


def test_an_optimizer_counts_as_it_was_given():
    network, params = small()
    optimizer = Adam()
    learner, expected = Learner(network, params.copy(), optimizer), Learner(network, params.copy())
    optimizer.set_params(beta_1=0.1)
    assert learner.optimizer == Adam()
    for _ in range(300):
        learner.step(*data()[::-1])
        expected.step(*data()[::-1])
    assert state_of(learner) == state_of(expected)


@pytest.mark.parametrize("backend", backends.available())
def test_losses_of_ones_own(backend):
    def half_square(y, output):
        return 0.5 * ((y - output) ** 2).sum(axis=1), output - y

    def failing(y, output):
        raise ArithmeticError("no loss today")

    X, y = data()
    layers = (Dense(9, "tanh"), Dense(2, "identity"))
    params = Network(4, layers).initial_params(0)
    own = made(backend, Network(4, layers, half_square), params.copy())
    builtin = made(backend, Network(4, layers), params.copy())
    for weight in (None, np.arange(6.0)):
        # the reported loss is a mean over the outputs
        assert own.train(X, y, weight) == pytest.approx(2 * builtin.train(X, y, weight), rel=1e-5)
    np.testing.assert_allclose(own.params, builtin.params, atol=1e-5)
    learner = made(backend, Network(4, layers, CustomLoss(failing)), params.copy())
    before = state_of(learner)
    learner.forward(X)
    with pytest.raises(ArithmeticError, match="no loss today"):
        learner.train(X, y)
    assert state_of(learner) == before
    learner.step(y)


@has_engine
def test_compiled_losses_are_called_by_the_engine(monkeypatch):
    numba = pytest.importorskip("numba", reason="Numba compiles the loss")
    types = numba.types

    @numba.cfunc(types.void(types.int64, types.int64, *[types.CPointer(types.float32)] * 4))
    def compiled(rows, outputs, y, output, value, gradient):
        for i in range(rows):
            value[i] = 0
            for j in range(outputs):
                residual = output[i * outputs + j] - y[i * outputs + j]
                value[i] += 0.5 * residual * residual
                gradient[i * outputs + j] = residual

    X, y = data()
    layers = (Dense(9, "tanh"), Dense(2, "identity"))
    params = Network(4, layers).initial_params(0)
    own = made("c", Network(4, layers, pymlp.CompiledLoss(compiled)), params.copy())
    builtin = made("c", Network(4, layers), params.copy())
    monkeypatch.delattr(Learner, "_train")
    assert own.train(X, y) == pytest.approx(2 * builtin.train(X, y), rel=1e-5)
    np.testing.assert_allclose(own.params, builtin.params, atol=1e-5)


@has_engine
def test_a_compiled_loss_may_be_a_function_of_python():
    # several threads of the engine call it, each of which takes the interpreter's lock
    @ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, *[ctypes.POINTER(ctypes.c_float)] * 4)
    def loss(rows, outputs, y, output, value, gradient):
        for i in range(rows):
            value[i] = 0
            for j in range(i * outputs, (i + 1) * outputs):
                value[i] += 0.5 * (output[j] - y[j]) ** 2
                gradient[j] = output[j] - y[j]

    network = Network(4, (Dense(9, "tanh"), Dense(2, "identity")), pymlp.CompiledLoss(address_of(loss)))
    X, y = data(20)
    found = set()
    for n_threads in (1, 3):
        learner = Learner(network, network.initial_params(0), n_threads=n_threads)
        found.add((*(learner.train(X, y) for _ in range(10)), *state_of(learner)))
    assert len(found) == 1


def address_of(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value


class Named(Learner):
    """A learner of a user's own kind."""


@pytest.mark.parametrize("backend", backends.available())
def test_can_be_pickled_and_copied(backend):
    network, params = small()
    X, by_output = data()
    options = {"schedule": Step(7), "rate": 0.01, "batch_size": 50, "n_threads": 1, "backend": backend}
    learner = Named(network, params, AdamW(average="ema"), **options)
    for _ in range(10):
        learner.step(by_output, X)
    others = [pickle.loads(pickle.dumps(learner)), copy.copy(learner), copy.deepcopy(learner)]
    for _ in range(10):
        learner.step(by_output, X)
    for other in others:
        assert type(other) is Named
        assert other.steps == 10
        for _ in range(10):
            other.step(by_output, X)
        assert state_of(other) == state_of(learner)
        assert (other.batch_size, other.n_threads, other.rate) == (50, 1, learner.rate)
