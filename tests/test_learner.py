"""Learners compute the bits of a plan's verbs, by any way into them and from any kind of array."""

import inspect
import pickle
import subprocess
import sys

import matrix
import numpy as np
import pytest
from learners import data, has_engine, made, small, state_of
from matrix import ENGINES, Engine, make_case, make_feature_case

import pymlp
from pymlp import SGD, Adam, AdamW, Dense, Learner, Network, backends
from pymlp import (
    learner as module,
)
from pymlp.losses import LOSSES
from pymlp.optimizers import OPTIMIZERS, new_slots

sparse = pytest.importorskip("scipy.sparse", reason="the sparse matrices are SciPy's")


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


def test_is_public():
    assert pymlp.Learner is Learner
    assert "Learner" in pymlp.__all__
