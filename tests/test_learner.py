"""Learners: the bits of a plan's verbs by any way into them, whole steps or none, and errors that change nothing."""

import copy
import ctypes
import inspect
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import matrix
import numpy as np
import pytest
from matrix import ENGINES, Engine, make_case, make_feature_case

import pymlp
from pymlp import (
    SGD,
    Adam,
    AdamW,
    CustomLoss,
    Dense,
    Learner,
    Network,
    backends,
    config_context,
)
from pymlp import (
    learner as module,
)
from pymlp.backends import plan_stepper
from pymlp.losses import LOSSES
from pymlp.optimizers import OPTIMIZERS, new_slots
from pymlp.schedules import SCHEDULES, Constant, Cosine, InverseScaling, OneCycle, Plateau, Step

sparse = pytest.importorskip("scipy.sparse", reason="the sparse matrices are SciPy's")

HAS_ENGINE = backends.missing_reason("c") is None
has_engine = pytest.mark.skipif(not HAS_ENGINE, reason="the C engine is not built")


def made(engine: Engine | str = "c" if HAS_ENGINE else "numpy", *arguments: object, **options: object) -> Learner:
    engine = engine if isinstance(engine, Engine) else Engine(engine)
    with config_context(backend=engine.backend, isa=(engine.variant or None) if engine.backend == "c" else None):
        return Learner(*arguments, **options)


def small(**options: object) -> tuple[Network, np.ndarray]:
    network = Network.from_widths((4, 9, 2), "tanh", **options)
    return network, network.initial_params(0)


def data(rows: int = 6, dtype: str = "float32", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(rows, 4)).astype(dtype), draw.normal(size=(rows, 2)).astype(dtype)


def state_of(learner: Learner) -> tuple[bytes, bytes, int]:
    return learner.params.tobytes(), learner.slots.tobytes(), learner.steps


# --- what a call computes


def plan_of(engine: Engine, network: Network, batch_size: int) -> backends.Plan:
    # Numba chooses between its two ways by itself
    if engine.backend == "numba":
        return backends.get("numba").Plan(network, batch_size)
    return engine.plan(network, batch_size)


@pytest.mark.parametrize("dtype", matrix.DTYPES)
@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine.variant != "wide"], ids=str)
def test_a_step_is_backward_and_update(engine, dtype):
    optimizers = [kind() for kind in OPTIMIZERS.values()]
    optimizers += [AdamW(average="ema", clip_norm=0.1), SGD(average="swa", clip_value=0.01, weight_decay=0.1)]
    for position, optimizer in enumerate(optimizers):
        features = matrix.FEATURE_SETS[-1 - 3 * position]
        case = make_feature_case(features, 15, (9, 33)[position % 2], 2, "gelu", dtype=dtype)
        params, slots = case.params.copy(), new_slots(optimizer, len(case.params), dtype)
        learner = made(engine, case.network, params.copy(), optimizer, batch_size=15, rate=0.01)
        plan, gradient, expected = plan_of(engine, case.network, 15), np.empty_like(params), np.empty_like(case.y)
        for step in range(4):
            rows = (15, 1, 7, 15)[step]
            X = case.X[:rows]
            plan.forward(params, X, expected[:rows], step)
            by_output = expected[:rows] * (step + 1)
            plan.backward(params, X, by_output, gradient, None, step)
            plan.update(optimizer, params, gradient, slots, step, 0.01)

            if step % 2:
                learner.step(by_output, X)
            else:
                assert learner.forward(X).tobytes() == expected[:rows].tobytes()
                learner.step(by_output)
            assert state_of(learner) == (params.tobytes(), slots.tobytes(), step + 1), (optimizer, features)
        # without dropout
        plan.forward(params, case.X, expected)
        assert learner.predict(case.X).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", matrix.DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine.variant != "wide"], ids=str)
def test_training_is_loss_gradient_and_update(engine, loss, dtype):
    case = make_case(15, (5, 17, 3), "tanh", loss, dtype, weight="some zero", l1=0.02, l2=0.1)
    optimizer = Adam()
    params, slots = case.params.copy(), new_slots(optimizer, len(case.params), dtype)
    learner = made(engine, case.network, params.copy(), batch_size=15)
    plan, gradient = plan_of(engine, case.network, 15), np.empty_like(params)
    for step in range(4):
        weight = case.weight if step % 2 else None
        expected = plan.loss_gradient(params, case.X, case.y, weight, gradient, step)
        plan.update(optimizer, params, gradient, slots, step, 1e-3)
        assert learner.train(case.X, case.y, weight) == expected
        assert state_of(learner) == (params.tobytes(), slots.tobytes(), step + 1)


@pytest.mark.parametrize("backend", backends.available())
def test_steps_of_one_batch_are_those_of_a_run(backend):
    network, params = small(l2=0.1)
    X, y = data(20)
    learner, losses = made(backend, network, params.copy(), rate=0.01), np.empty(700)
    found = [learner.train(X, y) for _ in range(700)]
    slots = new_slots(Adam(), len(params), "float32")
    starts, order = np.arange(0, 14001, 20), np.tile(np.arange(20), 700)
    plan = backends.get(backend).Plan(network, 20)
    plan.train_steps(Adam(), params, slots, 0, X, y, None, order, starts, np.full(700, 0.01), losses)
    if backend == "numba":
        # its runs are kernels of their own
        np.testing.assert_allclose(found, losses, rtol=1e-3)
    else:
        assert found == losses.tolist()
        assert state_of(learner) == (params.tobytes(), slots.tobytes(), 700)


def test_bits_do_not_depend_on_threads_or_instruction_set():
    network = Network.from_widths((30, 120, 120, 5), "gelu", loss="log_loss", l2=0.1)
    draw = np.random.default_rng(0)
    X = draw.normal(size=(2000, 30)).astype("float32")
    y, by_output = np.eye(5, dtype="float32")[np.arange(2000) % 5], draw.normal(size=(2000, 5)).astype("float32")
    found = set()
    for engine in matrix.FUSED:
        for n_threads in (1, 2, 3):
            learner = made(engine, network, network.initial_params(0), batch_size=2000, n_threads=n_threads)
            outputs = learner.forward(X)
            learner.step(by_output)
            loss = learner.train(X, y)
            found.add((outputs.tobytes(), loss, *state_of(learner)))
    if not found:
        pytest.skip("no engine with fused multiply-add")
    assert len(found) == 1


@pytest.mark.parametrize("backend", backends.available())
def test_any_kind_of_array_is_taken(backend):
    network, params = small()
    X, by_output = data()
    weight = np.arange(6, dtype="float32")

    def run(rows: object, gradient: object, y: object, weight: object) -> tuple:
        learner = made(backend, network, params.copy())
        first = learner.forward(rows)
        learner.step(gradient)
        learner.step(gradient, rows)
        return first.tobytes(), learner.train(rows, y, weight), learner.predict(rows).tobytes(), state_of(learner)

    expected = run(X, by_output, by_output, weight)
    wide = np.repeat(X, 2, axis=1)
    unaligned = np.frombuffer(b"x" + X.tobytes(), np.uint8)[1:].view("float32").reshape(X.shape)
    read_only = X.copy()
    read_only.flags.writeable = False
    derived = X.view(type("Derived", (np.ndarray,), {}))
    others = [
        pickle.loads(pickle.dumps(X)),
        X.astype("float64"),
        X.tolist(),
        np.asfortranarray(X),
        X.astype(">f4"),
        wide[:, ::2],
    ]
    for rows in (*others, unaligned, read_only, derived, sparse.csr_matrix(X), sparse.csc_matrix(X)):
        assert run(rows, by_output.tolist(), by_output.astype("float64"), weight.tolist()) == expected
    assert run(X, np.asfortranarray(by_output), by_output[:, ::-1][:, ::-1], weight.astype(int)) == expected


@pytest.mark.parametrize("backend", backends.available())
def test_one_row_may_have_one_dimension(backend):
    network, params = small()
    X, by_output = data(1)
    rows, row = made(backend, network, params.copy()), made(backend, network, params.copy())
    for convert in (np.asarray, np.ndarray.tolist):
        assert row.forward(convert(X[0])).shape == (2,)
        assert row.forward(convert(X[0])).tobytes() == rows.forward(X).tobytes()
        assert row.predict(convert(X[0])).shape == (2,)
        with pytest.raises(ValueError, match=r"output_gradient must be of shape \(2,\), as the outputs, got \(1, 2\)"):
            row.step(by_output)
        row.step(convert(by_output[0]))
        rows.step(by_output)
        row.step(convert(by_output[0]), convert(X[0]))
        rows.step(by_output, X)
        assert row.train(convert(X[0]), convert(by_output[0])) == rows.train(X, by_output)
        assert row.train(convert(X[0]), convert(by_output[0]), 2.0) == rows.train(X, by_output, [2.0])
        assert state_of(row) == state_of(rows)
    network = Network.from_widths((4, 3, 1))
    learner = made(backend, network, network.initial_params(0))
    assert isinstance(learner.train(X[0], 1.0), float)
    assert isinstance(learner.train(X, [1.0]), float)


@pytest.mark.parametrize("backend", backends.available())
def test_out_is_written_and_returned(backend):
    network, params = small()
    learner = made(backend, network, params)
    X, _ = data(30)
    expected = learner.predict(X)
    block = np.zeros((50, 2), "float32")
    for call in (learner.forward, learner.predict):
        assert call(X, block[7:37]).base is block
        assert call(X, out=block[7:37]).base is block
        assert call(X=X.tolist(), out=block[7:37]).base is block
        assert block[7:37].tobytes() == expected.tobytes()
        derived = np.empty_like(expected).view(type("Derived", (np.ndarray,), {}))
        assert call(X, out=derived) is derived
        assert derived.tobytes() == expected.tobytes()
        assert not block[:7].any()
        assert not block[37:].any()
        assert call(X, out=None).tobytes() == expected.tobytes()
        for out, message in (
            (np.empty((30, 3), "float32"), r"out must be a writeable C-contiguous float32 array of shape \(30, 2\)"),
            (np.empty((30, 2)), "got float64"),
            (learner.slots.reshape(-1)[:60].reshape(30, 2), "out must not overlap slots"),
            (learner.params[:60].reshape(30, 2), "out must not overlap params"),
            (X.reshape(-1)[:60].reshape(30, 2), "out must not overlap X"),
        ):
            with pytest.raises(ValueError, match=message):
                call(X, out)


@pytest.mark.parametrize("backend", backends.available())
def test_many_rows_at_once(backend, monkeypatch):
    monkeypatch.setattr(module, "block_rows", lambda n_parameters: 64)
    network, params = small()
    X, by_output = data(500)
    learner = made(backend, network, params, batch_size=100)
    # a pessimistic guess makes all calls general ones, in a helper thread
    other = made(backend, network, params.copy(), batch_size=100)
    other._row_seconds = 1.0
    other._look_ahead()
    np.testing.assert_allclose(learner.predict(X), other.predict(X), rtol=1e-6)
    assert learner.predict(X[:0]).shape == (0, 2)
    for rows in (X[:100], X[:1]):
        assert learner.forward(rows).tobytes() == other.forward(rows).tobytes()
        for each in (learner, other):
            each.step(by_output[: len(rows)])
        assert learner.train(rows, by_output[: len(rows)]) == other.train(rows, by_output[: len(rows)])
    assert state_of(learner) == state_of(other)
    # measured by now
    assert other._row_seconds < 0.1


# --- the way there


@has_engine
def test_plain_arrays_go_to_the_engine_directly(monkeypatch):
    call = pytest.importorskip("pymlp._call", reason="the module of direct calls is not built")
    assert issubclass(Learner, call.Stepper)
    for dtype in matrix.DTYPES:
        network, params = small(dtype=dtype)
        learner = made("c", network, params)
        X, y = data(dtype=dtype)
        out, weight = np.empty_like(y), np.ones(6, dtype)
        with monkeypatch.context() as patch:
            for name in ("_forward", "_predict", "_step", "_train"):
                patch.delattr(Learner, name)
            given = (X, y, out), (X[:1], y[:1], out[:1]), (X[0], y[0], out[0]), pickle.loads(pickle.dumps((X, y, out)))
            for rows, targets, into in given:
                assert learner.forward(rows).shape == targets.shape
                assert learner.forward(rows, into) is into
                assert learner.forward(X=rows, out=into) is into
                learner.step(targets)
                learner.step(targets, rows)
                learner.step(X=rows, output_gradient=targets)
                assert isinstance(learner.train(rows, targets), float)
                assert isinstance(learner.train(rows, targets, weight=None), float)
                assert learner.predict(rows, out=into) is into
            assert isinstance(learner.train(X, y, weight), float)
            assert learner.steps == 21
            with pytest.raises(AttributeError, match="_step"):
                learner.step(y, X.astype("int64"))


@pytest.mark.parametrize("name", ["forward", "predict", "step", "train", "update"])
def test_methods_say_what_they_take(name):
    known = {
        "forward": ["self", "X", "out"],
        "predict": ["self", "X", "out"],
        "step": ["self", "output_gradient", "X"],
        "train": ["self", "X", "y", "weight"],
        "update": ["self", "gradient"],
    }
    assert list(inspect.signature(getattr(Learner, name)).parameters) == known[name]
    assert f"``{name}(" in Learner.__doc__
    network, params = small()
    learner = Learner(network, params)
    for arguments, options in (((), {}), ((1, 2, 3, 4), {}), ((1,), {"gradients": 3})):
        with pytest.raises(TypeError):
            getattr(learner, name)(*arguments, **options)


def test_works_without_the_direct_call():
    code = (
        "import sys; sys.modules['pymlp._call'] = None\n"
        "import numpy as np, pickle, pymlp\n"
        "network = pymlp.Network.from_widths((4, 8, 2))\n"
        "params = network.initial_params(0)\n"
        "learner = pymlp.Learner(network, params.copy())\n"
        "X, y = np.ones((3, 4), 'float32'), np.ones((3, 2), 'float32')\n"
        "out = learner.forward(X); learner.step(y); loss = learner.train(X, y); learner.update(params)\n"
        "assert pickle.loads(pickle.dumps(learner)).predict(X[0]).shape == (2,)\n"
        "print(out.tobytes().hex(), loss, learner.params.tobytes().hex(), learner.slots.tobytes().hex())\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    network = Network.from_widths((4, 8, 2))
    params = network.initial_params(0)
    learner = Learner(network, params.copy())
    X, y = np.ones((3, 4), "float32"), np.ones((3, 2), "float32")
    out = learner.forward(X)
    learner.step(y)
    loss = learner.train(X, y)
    learner.update(params)
    state = (learner.params.tobytes().hex(), learner.slots.tobytes().hex())
    assert printed.split() == [out.tobytes().hex(), str(loss), *state]


def test_needs_neither_scipy_nor_scikit_learn():
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('scipy', 'sklearn'), None))\n"
        "import numpy as np, pymlp\n"
        "assert 'pymlp.learner' not in sys.modules\n"
        "network = pymlp.Network.from_widths((2, 3, 1))\n"
        "learner = pymlp.Learner(network, network.initial_params(0))\n"
        "learner.step(learner.forward(np.ones((4, 2))))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- forward and step


@pytest.mark.parametrize("backend", backends.available())
def test_a_forward_is_for_one_step(backend):
    network, params = small()
    X, by_output = data()
    learner = made(backend, network, params)
    with pytest.raises(RuntimeError, match="step needs X, or a forward before it"):
        learner.step(by_output)
    expected = made(backend, network, params.copy())
    expected.step(by_output, X)
    # the caller's array holds other rows by then
    rows = X.copy()
    learner.forward(rows)
    rows[:] = 7
    # neither a step that was refused nor a prediction in between counts
    with pytest.raises(ValueError, match="output_gradient"):
        learner.step(by_output[:2])
    learner.predict(X[:2])
    learner.step(by_output)
    assert state_of(learner) == state_of(expected)
    for step in (
        lambda: None,
        lambda: learner.step(by_output, X),
        lambda: learner.train(X, by_output),
        lambda: learner.update(learner.params),
    ):
        learner.forward(X)
        learner.step(by_output)
        step()
        with pytest.raises(RuntimeError, match="there was none since the last step"):
            learner.step(by_output)
    # the last of two forwards
    learner.forward(X[:3])
    learner.forward(X[:2])
    with pytest.raises(ValueError, match=r"of shape \(2, 2\), as the outputs, got \(3, 2\)"):
        learner.step(by_output[:3])
    learner.step(by_output[:2])
    learner.forward(X[:0])
    with pytest.raises(ValueError, match="the last forward had none"):
        learner.step(by_output[:0])


@pytest.mark.parametrize("backend", backends.available())
def test_masks_are_those_of_the_step(backend):
    network = Network(4, (Dense(50, "tanh", dropout=0.5), Dense(2, "identity")), seed=3)
    learner = made(backend, network, network.initial_params(0), SGD(momentum=0.0), rate=1.0)
    X, by_output = data()
    first = learner.forward(X)
    assert learner.forward(X).tobytes() == first.tobytes()
    still = learner.predict(X)
    assert np.abs(first - still).max() > 1e-3
    before = learner.params.copy()
    _, pullback = network.vjp(before, X, step=0, backend=backend)
    learner.step(by_output)
    np.testing.assert_allclose(before - learner.params, pullback(by_output), rtol=1e-3, atol=1e-5)
    learner.params[:] = before
    # the next step has others
    assert learner.forward(X).tobytes() != first.tobytes()
    assert learner.predict(X).tobytes() == still.tobytes()


@pytest.mark.parametrize("backend", backends.available())
def test_parameters_may_be_changed_between_calls(backend):
    network, params = small()
    X, by_output = data()
    learner = made(backend, network, params)
    assert learner.params is params
    start = params.copy()
    learner.forward(X)
    params *= 2
    expected = made(backend, network, 2 * start)
    # the gradient is that of this moment
    expected.step(by_output, X)
    learner.step(by_output)
    assert state_of(learner) == state_of(expected)
    learner.slots[:] = expected.slots[:] = 1
    learner.step(by_output, X)
    expected.step(by_output, X)
    assert state_of(learner) == state_of(expected)
    with pytest.raises(AttributeError):
        learner.params = start
    before = state_of(learner)
    params.flags.writeable = False
    for call in (lambda: learner.step(by_output, X), lambda: learner.train(X, by_output), lambda: learner.forward(X)):
        with pytest.raises(ValueError, match="params is changed in place, but the array is read-only now"):
            call()
    params.flags.writeable = True
    learner.slots.flags.writeable = False
    with pytest.raises(ValueError, match="slots is changed in place, but the array is read-only now"):
        learner.step(by_output, X)
    learner.slots.flags.writeable = True
    assert state_of(learner) == before
    learner.step(by_output, X)


def test_parameters_in_a_file(tmp_path):
    network, params = small()
    X, by_output = data()
    file = np.memmap(tmp_path / "params", "float32", "w+", shape=params.shape)
    file[:] = params
    learner, expected = Learner(network, file), Learner(network, params)
    assert learner.params is file
    learner.step(by_output, X)
    expected.step(by_output, X)
    file.flush()
    assert np.fromfile(tmp_path / "params", "float32").tobytes() == params.tobytes()


# --- rates, state


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


# --- errors


@pytest.mark.parametrize("backend", backends.available())
def test_what_does_not_fit_is_named_and_changes_nothing(backend):
    network, params = small(loss="binary_log_loss")
    learner = made(backend, network, params, batch_size=6)
    X, by_output = data()
    y, weight = (by_output > 0).astype("float32"), np.ones(6, "float32")
    bad = X.copy()
    bad[4, 2] = np.nan
    learner.train(X, y)
    before = state_of(learner)
    rows = np.ones((7, 4), "float32")
    for call, message in (
        (lambda: learner.forward(X[:, :3]), r"X must be of shape \(rows, 4\), or \(4,\) for one row, got \(6, 3\)"),
        (lambda: learner.forward(X[None]), r"got \(1, 6, 4\)"),
        (lambda: learner.forward(rows), "X has 7 rows, more than batch_size=6"),
        (lambda: learner.forward(bad), r"X contains NaN: first in row 4, column 2 \(counted from 0\)"),
        (lambda: learner.predict(bad), "X contains NaN: first in row 4, column 2"),
        (lambda: learner.predict(X.astype("float64") * 1e60), "X contains infinity"),
        (lambda: learner.step(by_output, X[:, :3]), "X must be of shape"),
        (lambda: learner.step(by_output, X[:5]), r"output_gradient must be of shape \(5, 2\).*got \(6, 2\)"),
        (lambda: learner.step(by_output[:, :1], X), r"got \(6, 1\)"),
        (lambda: learner.step(np.ones((7, 2)), rows), "X has 7 rows, more than batch_size=6"),
        (lambda: learner.step(by_output, bad), "X contains NaN"),
        (lambda: learner.step(by_output * np.inf, X), "output_gradient contains infinity.*row 0, column 0"),
        (lambda: learner.step(by_output[:0], X[:0]), "X must have at least one row"),
        (lambda: learner.step(by_output.astype(complex), X), "Complex data not supported: output_gradient"),
        (lambda: learner.train(X, y[:5]), r"y must have shape \(6, 2\), got \(5, 2\)"),
        (lambda: learner.train(X, 2 * y), r"y must lie in \[0, 1\]"),
        (lambda: learner.train(X, y * np.nan), "y contains NaN"),
        (lambda: learner.train(bad, y), "X contains NaN"),
        (lambda: learner.train(X[:0], y[:0]), "X must have at least one row"),
        (lambda: learner.train(rows, np.ones((7, 2))), "X has 7 rows, more than batch_size=6"),
        (lambda: learner.train(X, y, weight[:5]), r"weight must have shape \(6,\)"),
        (lambda: learner.train(X, y, -weight), "weight must not be negative"),
        (lambda: learner.train(X, y, 0 * weight), "weight must not be zero for every row"),
        (lambda: learner.train(X, y, weight * np.float32(1e-44)), "weight must not be zero for every row"),
        (lambda: learner.train(X, y, weight * np.nan), "weight contains NaN"),
        (lambda: learner.train(X[0], y), "cannot|y must have"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
        assert state_of(learner) == before
    with pytest.raises(TypeError, match="X must hold real numbers"):
        learner.forward([["a"] * 4])
    with pytest.raises(TypeError, match="masked entries"):
        learner.train(X[0], np.ma.masked_array([1.0, 0.0], [True, False]))
    assert state_of(learner) == before


def test_what_makes_no_learner_is_named():
    network, params = small()
    read_only = params.copy()
    read_only.flags.writeable = False
    slots = new_slots(Adam(), len(params), "float32")
    for arguments, options, message in (
        ((network, params[:-1]), {}, "params must be a float32 array of shape"),
        ((network, params.astype("float64")), {}, "params must be a float32 array of shape"),
        ((network, params * np.nan), {}, "params contains NaN"),
        ((network, read_only), {}, "read-only"),
        ((network, np.repeat(params, 2)[::2]), {}, "params is changed in place and must be C-contiguous"),
        ((network, params, "adam"), {}, "optimizer must be an object"),
        ((network, params), {"rate": 0}, "rate must be a finite number above 0"),
        ((network, params), {"schedule": "constant"}, "schedule must be an object"),
        ((network, params), {"batch_size": 0}, "batch_size must be an integer from 1"),
        ((network, params), {"slots": slots[:1]}, r"slots must be a float32 array of shape \(2, 65\) for Adam"),
        ((network, params), {"slots": np.asfortranarray(slots)}, "slots is changed in place and must be C-contiguous"),
        ((network, params), {"step": -1}, "step must be an integer of at least 0"),
        ((network, params), {"step": 2**63}, "step must be at most"),
        ((network, params), {"epoch_steps": 0}, "epoch_steps must be an integer of at least 1"),
        ((network, params), {"total_steps": 0}, "total_steps must be an integer of at least 1"),
        ((network, params), {"n_threads": 0}, "n_threads=0"),
        ((network, params), {"backend": "fortran"}, "backend='fortran'"),
    ):
        with pytest.raises(ValueError, match=message):
            Learner(*arguments, **options)
    with pytest.raises(TypeError, match="network must be a Network, got list"):
        Learner([4, 2], params)
    learner = Learner(network, params)
    with pytest.raises(RuntimeError, match="make a new one"):
        learner.__init__(network, params)


@pytest.mark.skipif(not HAS_ENGINE, reason="the C engine is not built")
def test_the_type_in_c_refuses_to_work_unbound():
    call = pytest.importorskip("pymlp._call", reason="the module of direct calls is not built")
    stepper = call.Stepper()
    for method, arguments in (
        ("_run_forward", (1, 2, True)),
        ("_run_step", (1, None)),
        ("_run_train", (1, 2, None)),
        ("_run_update", (1,)),
        ("_begin", (0, np.empty((1, 4)), 1)),
    ):
        with pytest.raises(SystemError):
            getattr(stepper, method)(*arguments)
    assert stepper._kept_shape is None
    with pytest.raises(AttributeError, match="_step"):
        stepper.step(1)
    network, params = small()
    learner = Learner(network, params)
    entry = learner._plan.entry(Adam())
    arrays = (learner.params, learner.slots, params, params, learner._count)
    with pytest.raises(RuntimeError, match="bound once"):
        learner._bind(entry.addresses, entry.fail, params.dtype, arrays, (4, 2, 6, 2, 1), True, -1.0, 1.0)
    with pytest.raises(SystemError, match="not as the engine takes them"):
        learner._run_step(params, params)


def test_calls_leak_nothing():
    network, params = small()
    X, by_output = data()
    bad = X.copy()
    bad[0] = np.nan
    # what the learner is bound to, and what it is called with
    held = [X, by_output, bad, params, np.dtype("float32")]

    def counts() -> list[int]:
        return [sys.getrefcount(each) for each in held]

    def calls(learner: Learner) -> None:
        out = learner.forward(X)
        learner.step(by_output)
        learner.forward(X, out=out)
        learner.train(X, by_output)
        learner.train(X.tolist(), by_output)
        for call in (lambda: learner.step(bad), lambda: learner.forward(bad), lambda: learner.train(X, bad)):
            with pytest.raises((ValueError, RuntimeError)):
                call()

    before = counts()
    learner = Learner(network, params, batch_size=6)
    calls(learner)
    bound = counts()
    assert bound[3] > before[3]
    for _ in range(300):
        calls(learner)
    # the type has users elsewhere
    assert all(abs(late - early) <= 2 for early, late in zip(bound, counts(), strict=True))
    del learner
    assert counts()[:4] == before[:4]


# --- threads, forks, signals


def large(backend: str = "c") -> tuple[Network, np.ndarray, np.ndarray, np.ndarray]:
    """Some milliseconds of work."""
    rows = 1024 if backend == "c" else 200
    network = Network.from_widths((200, 500, 500, 2), "tanh")
    draw = np.random.default_rng(0)
    X = draw.normal(size=(rows, 200)).astype("float32")
    return network, network.initial_params(0), X, draw.normal(size=(rows, 2)).astype("float32")


@pytest.mark.parametrize("backend", backends.available())
def test_two_threads_get_an_error_or_whole_steps(backend):
    network, params, X, by_output = large(backend)
    learner = made(backend, network, params)
    refused = []

    def work(number: int) -> int:
        taken = 0
        for _ in range(6):
            try:
                if number % 2:
                    learner.step(by_output, X)
                else:
                    learner.train(X, by_output)
                taken += 1
            except RuntimeError as error:
                refused.append(str(error))
                time.sleep(0.002)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = sum(pool.map(work, range(4)))
    assert refused
    assert all("in use by another thread" in message for message in refused)
    assert learner.steps == taken > 0
    assert np.isfinite(learner.params).all()
    learner.step(by_output, X)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.parametrize("backend", ["c", "numpy"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_learns_on_in_a_forked_child(backend):
    if backend not in backends.available():
        pytest.skip(f"no backend {backend}")
    network, params = small()
    X, by_output = data()
    learner = Learner(network, params, backend=backend)
    learner.step(by_output, X)
    twin = copy.copy(learner)
    twin.step(by_output, X)
    expected = state_of(twin)
    child = os.fork()
    if child == 0:
        learner.step(by_output, X)
        os._exit(0 if state_of(learner) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
    learner.step(by_output, X)
    assert state_of(learner) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@has_engine
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_during_another_threads_step_leaves_a_learner_that_works():
    network, params, X, by_output = large()
    learner = made("c", network, params)
    learner.step(by_output, X)
    over = threading.Event()

    def steps() -> None:
        while not over.is_set():
            learner.step(by_output, X)

    thread = threading.Thread(target=steps)
    thread.start()
    try:
        for _ in range(10):
            time.sleep(0.003)
            child = os.fork()
            if child == 0:
                try:
                    learner.train(X[:8], by_output[:8])
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        over.set()
        thread.join()
    learner.step(by_output, X)


@pytest.mark.parametrize("backend", backends.available())
def test_ctrl_c_comes_before_or_after_a_step(backend):
    network, params, X, by_output = large(backend)
    expected = made(backend, network, params.copy())
    states = [state_of(expected)]
    for _ in range(10):
        expected.step(by_output, X)
        states.append(state_of(expected))
    raised = 0
    for delay in (0.0005, 0.002, 0.005, 0.01, 0.02):
        # the first steps are taken in a helper thread, until it is known how long they take
        learner = made(backend, network, params.copy())
        timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])
        try:
            timer.start()
            while learner.steps < 9 and timer.is_alive():
                learner.step(by_output, X)
            timer.join()
        except KeyboardInterrupt:
            raised += 1
        timer.join()
        assert state_of(learner) == states[learner.steps]
        # an interruption that came too late for its step must not stop the next
        learner.step(by_output, X)
        assert state_of(learner) == states[learner.steps]
    assert raised == 5


@has_engine
def test_a_request_to_stop_that_came_too_late_is_forgotten():
    network, params = small()
    X, by_output = data()
    learner, expected = made("c", network, params.copy()), made("c", network, params.copy())
    for convert in (np.asarray, np.ndarray.tolist):
        learner._plan.stop()
        learner.step(by_output, convert(X))
        learner._plan.stop()
        learner.forward(convert(X))
        learner._plan.stop()
        learner.train(convert(X), by_output)
        expected.step(by_output, X)
        expected.train(X, by_output)
    assert state_of(learner) == state_of(expected)


def test_a_plan_stepper_is_interrupted_before_or_after_a_step(monkeypatch):
    network, params = small()
    X, by_output = data()
    learner = made("numpy", network, params)
    before = state_of(learner)

    def interrupting(targets: object, sources: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(plan_stepper, "fill_together", interrupting)
        with pytest.raises(KeyboardInterrupt):
            learner.step(by_output, X)
    assert state_of(learner) == before
    learner.step(by_output, X)
    assert learner.steps == 1


def test_is_public():
    assert pymlp.Learner is Learner
    assert "Learner" in pymlp.__all__
