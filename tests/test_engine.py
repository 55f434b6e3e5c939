"""The C engine below the plan's verbs: its machine code, its functions, its threads, and what it leaves behind."""

import os
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest

from pymlp import Network, backends, config_context
from pymlp.functions import ACTIVATIONS
from pymlp.optimizers import Adam, new_slots

pytestmark = pytest.mark.skipif("c" not in backends.available(), reason=f"no C engine: {backends.missing_reason('c')}")
if "c" in backends.available():
    from pymlp.backends import c

ELEMENT_WISE = [name for name, row in ACTIVATIONS.items() if row.slope is not None]


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
    from pymlp import _engine

    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", _engine.__file__], capture_output=True, text=True, check=True
    ).stdout
    functions = re.findall(
        r"^[0-9a-f]+ <((?:row|column|value|slope|woven)_tile_\w*_(?:avx512|avx2)_f\d\d)>:\n(.*?)(?:\n\n|\Z)",
        listing,
        re.M | re.S,
    )
    if not functions:
        pytest.skip("no tiles of AVX2 or AVX-512 in this machine's engine, or its symbols were stripped")
    # rows, columns, relu's values and slopes of every height; for AVX-512, two heights with an update woven in
    assert len(functions) == 2 * (4 * (14 + 6) + 2)
    for name, body in functions:
        arithmetic = re.findall(r"\t(v?(?:f(?:n?m)(?:add|sub)\d*|mul|add|sub|div|sqrt)[ps][sd])\b", body)
        assert arithmetic, name
        others = {"slope": "|vmulp[sd]", "woven": r"|v(?:fnmadd\d+|mul|add|sub|div|sqrt)p[sd]"}.get(name.split("_")[0], "")
        wrong = sorted({word for word in arithmetic if not re.fullmatch(r"vfmadd\d+p[sd]" + others, word)})
        assert not wrong, f"{name}: {wrong}"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*ELEMENT_WISE, "log"])
def test_functions_are_the_same_bits_on_every_fused_instruction_set(name, dtype):
    draw = np.random.RandomState(0)
    z = np.concatenate(
        [draw.uniform(-100, 100, 3000), draw.standard_normal(3000), [0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30]]
    ).astype(dtype)
    fused = [isa for isa in c.instruction_sets() if isa != "portable"]
    results = []
    for isa in fused:
        with config_context(isa=isa):
            out = c.evaluate(name, z)
        # the sign and payload of a NaN are excepted from the promise
        out[np.isnan(out)] = np.nan
        results.append(out.tobytes())
    assert len(set(results)) <= 1


@pytest.mark.parametrize("isa", c.instruction_sets() if "c" in backends.available() else [])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*ELEMENT_WISE, "log"])
def test_functions_are_accurate(name, dtype, isa):
    draw = np.random.RandomState(1)
    limit = {"float32": 80.0, "float64": 700.0}[dtype]
    z = np.concatenate([draw.uniform(-limit, limit, 5000), draw.standard_normal(5000)]).astype(dtype)
    if name == "log":
        z = np.abs(z)
    # the definition in twice the digits; float64 is compared with the definition in long double where that is wider
    wide = z.astype(np.float64 if dtype == "float32" else np.longdouble)
    expected = np.log(wide) if name == "log" else ACTIVATIONS[name].value(wide)
    with config_context(isa=isa):
        out = c.evaluate(name, z)
    spacing = np.spacing(np.abs(expected).astype(dtype)).astype(wide.dtype)
    ulps = np.abs(out.astype(wide.dtype) - expected) / spacing
    # results near the smallest normal number count as 0
    counted = np.abs(expected) > np.finfo(dtype).tiny * 2.0**30
    # the definition of gelu rounds to float64 on the way
    bound = 12.0 if name == "gelu" and dtype == "float64" else 6.0
    if name == "gelu" and isa == "portable":
        # without a fused multiply-add the rounding error of z**2 stays in: z**2 / 4 units
        bound += np.square(wide[counted]).max() / 4
    assert ulps[counted].max() <= bound, (z[counted][ulps[counted].argmax()], ulps[counted].max())


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


def test_subnormal_arithmetic_of_the_caller_is_as_before():
    train(n_threads=2)
    assert np.float32(1e-40) * np.float32(1) > 0
    assert np.array([1e-310]) * np.array([1.0]) > 0


@pytest.mark.parametrize("widths", [(2**40, 2**40, 1), (2**62, 3), (3, 2**31, 2**31, 1)])
def test_sizes_that_no_memory_holds_raise_before_allocating(widths):
    with pytest.raises(MemoryError):
        c.Plan(Network.from_widths(widths), 1)


def test_an_unknown_instruction_set_is_named():
    missing = next(isa for isa in ("neon", "avx512") if isa not in c.instruction_sets())
    with config_context(isa=missing), pytest.raises(ValueError, match=f"isa='{missing}'.*this machine runs"):
        c.Plan(Network.from_widths((1, 1)), 1)


def test_measurements_are_rates():
    assert c.measure_peak("float32", 1, 0.01) > 0.1
    assert c.measure_tile("float64", 64, 0.01) > 0.1
    with pytest.raises(ValueError, match="k must be"):
        c.measure_tile("float32", 0)
