"""The C engine below the plan's verbs: its machine code, its threads, and what it leaves behind."""

import os
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
from builds import engine_file

from pymlp import Network, backends, config_context
from pymlp.optimizers import Adam, new_slots

pytestmark = pytest.mark.skipif("c" not in backends.available(), reason=f"no C engine: {backends.missing_reason('c')}")
if "c" in backends.available():
    from pymlp.backends import c


def train(isa=None, n_threads=1, steps=4, dtype="float32", rows=60):
    """Bytes of parameters, slots and losses after some steps on fixed data."""
    draw = np.random.RandomState(3)
    network = Network.from_widths((9, 33, 17, 5), "tanh", loss="log_loss", dtype=dtype, l2=1e-3)
    params = network.initial_params(1)
    slots = new_slots(Adam(), network.n_parameters, dtype)
    X = draw.standard_normal((rows, 9)).astype(dtype)
    y = np.eye(5, dtype=dtype)[draw.randint(0, 5, rows)]
    starts = np.linspace(0, rows, steps + 1).astype(np.int64)
    losses = np.empty(steps)
    with config_context(isa=isa):
        plan = c.Plan(network, rows, n_threads)
    plan.train_steps(
        Adam(),
        params,
        slots,
        0,
        X,
        y,
        None,
        draw.permutation(rows).astype(np.int64),
        starts,
        np.full(steps, 0.01),
        losses,
    )
    return params.tobytes() + slots.tobytes() + losses.tobytes()


def test_tiles_are_packed_fused_multiply_adds_and_nothing_else():
    if shutil.which("objdump") is None:
        pytest.skip("objdump (binutils) is not installed")
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", engine_file()], capture_output=True, text=True, check=True
    ).stdout
    functions = re.findall(
        r"^[0-9a-f]+ <((?:row|column|value|slope|woven)_tile_\w*_(?:avx512|avx2)_f\d\d)>:\n(.*?)(?:\n\n|\Z)",
        listing,
        re.M | re.S,
    )
    if not functions:
        pytest.skip("no tiles of AVX2 or AVX-512 in this machine's engine, or its symbols were stripped")
    # rows, columns, relu's values and slopes of every height; for AVX-512, two heights with an update woven in, for
    # each of three optimizers with penalties and without
    assert len(functions) == 2 * (4 * (14 + 6) + 2 * 3 * 2)
    for name, body in functions:
        arithmetic = re.findall(r"\t(v?(?:f(?:n?m)(?:add|sub)\d*|mul|add|sub|div|sqrt)[ps][sd])\b", body)
        assert arithmetic, name
        kind = name.split("_")[0]
        others = {"slope": "|vmulp[sd]", "woven": r"|v(?:fnmadd\d+|mul|add|sub|div|sqrt)p[sd]"}.get(kind, "")
        wrong = sorted({word for word in arithmetic if not re.fullmatch(r"vfmadd\d+p[sd]" + others, word)})
        assert not wrong, f"{name}: {wrong}"


def test_a_forked_child_trains_with_threads_of_its_own():
    expected = train(n_threads=3)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # no pytest machinery may run in the child
        status = 1
        try:
            status = 0 if train(n_threads=3) == expected else 2
        finally:
            os.write(writing, bytes([status]))
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read(1) == b"\0"
    assert os.waitpid(child, 0)[1] == 0
    assert train(n_threads=3) == expected


def short_steps(n_threads, hidden=100):
    """A plan for steps of a size for which the engine tries out how many threads serve it best, and 400 rows for it.

    What it finds it remembers for plans of the same widths.
    """
    draw = np.random.RandomState(4)
    network = Network.from_widths((20, hidden, 3), "relu", loss="log_loss", dtype="float32")
    X = draw.standard_normal((400, 20)).astype("float32")
    y = np.eye(3, dtype="float32")[draw.randint(0, 3, 400)]
    order = np.concatenate([draw.permutation(400) for _ in range(100)]).astype(np.int64)
    with config_context(n_threads=n_threads):
        plan = c.Plan(network, 200)

    def take(params, slots, step, count):
        losses = np.empty(count)
        starts = np.arange(count + 1) * 200
        plan.train_steps(Adam(), params, slots, step, X, y, None, order, starts, np.full(count, 1e-3), losses)
        return losses

    return plan, take


def run_of_short_steps(n_threads, calls=3):
    """Bytes after calls of 200 steps."""
    plan, take = short_steps(n_threads)
    params, slots = plan.network.initial_params(1), new_slots(Adam(), plan.network.n_parameters, "float32")
    for call in range(calls):
        losses = take(params, slots, 200 * call, 200)
    return params.tobytes() + slots.tobytes() + losses.tobytes()


def test_the_trial_of_threads_changes_no_bit():
    expected = run_of_short_steps(1)
    assert run_of_short_steps(2) == expected
    assert run_of_short_steps(3) == expected
    assert run_of_short_steps(2, calls=20) == run_of_short_steps(1, calls=20)


def test_a_stop_during_the_trial_of_threads_ends_it():
    plan, take = short_steps(2, hidden=103)
    params, slots = plan.network.initial_params(1), new_slots(Adam(), plan.network.n_parameters, "float32")
    plan.stop()
    with pytest.raises(backends.StoppedError):
        take(params, slots, 0, 200)
    assert np.isfinite(take(plan.network.initial_params(1), np.zeros_like(slots), 0, 2)).all()


@pytest.mark.parametrize(("dtype", "weight"), [("float32", 1e-40), ("float64", 1e-310)])
def test_weights_below_the_smallest_normal_number_count_as_none(dtype, weight):
    network = Network.from_widths((3, 4, 1), loss="squared_error", dtype=dtype)
    params, gradient = network.initial_params(0), np.empty(network.n_parameters, dtype)
    X, y = np.ones((5, 3), dtype), np.ones((5, 1), dtype)
    loss = c.Plan(network, 5).loss_gradient(params, X, y, np.full(5, weight, dtype), gradient)
    assert loss == 0
    assert not gradient.any()


def test_plans_of_many_python_threads_share_the_pool_without_changing_a_bit():
    expected = train(n_threads=2, steps=20)
    results = [None] * 8

    def work(position):
        results[position] = [train(n_threads=1 + position % 3, steps=20) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(position,)) for position in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(bytes_ == expected for result in results for bytes_ in result)


def test_more_threads_than_rows_or_cores():
    expected = train(n_threads=1, rows=12)
    for n_threads in (5, 16, 300):
        assert train(n_threads=n_threads, rows=12) == expected


@pytest.mark.parametrize("widths", [(2**40, 2**40, 1), (2**62, 3), (3, 2**31, 2**31, 1)])
def test_networks_that_no_memory_holds_cannot_be(widths):
    with pytest.raises(ValueError, match="parameters, more than"):
        Network.from_widths(widths)


@pytest.mark.parametrize(("widths", "rows"), [((2**46, 1), 1), ((3, 2**23, 2**23, 1), 1), ((2**30, 2**16, 1), 4096)])
def test_sizes_that_no_memory_holds_raise_before_allocating(widths, rows):
    with pytest.raises(MemoryError, match="the engine asked for"):
        c.Plan(Network.from_widths(widths, dtype="float64"), rows)


def test_an_unknown_instruction_set_is_named():
    missing = next(isa for isa in ("neon", "avx512") if isa not in c.instruction_sets())
    with config_context(isa=missing), pytest.raises(ValueError, match=f"isa='{missing}'.*this machine runs"):
        c.Plan(Network.from_widths((1, 1)), 1)


def test_measurements_are_rates():
    assert c.measure_peak("float32", 1, 0.01) > 0.1
    assert c.measure_tile("float64", 64, 0.01) > 0.1
    with pytest.raises(ValueError, match="k must be"):
        c.measure_tile("float32", 0)
