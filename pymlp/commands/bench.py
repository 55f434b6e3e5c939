"""``pymlp bench``: how fast this machine trains, per backend, against NumPy written by hand.

A shared machine may be twice as slow a minute later, so the programs of a row take turns, round after round, and the
medians are shown.  The whole takes about half a minute, plus the time Numba needs to compile.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, sleep

import numpy as np

from pymlp import backends
from pymlp.config import config_context, resolve_threads
from pymlp.network import Network
from pymlp.optimizers import Adam, new_slots
from pymlp.peers import PlainNumpyStep, TightNumpyStep

SECONDS = 20.0
# a round repeats its steps until it takes about this long: a millisecond's disturbance is then a few percent
ROUND_SECONDS = 0.03
FEWEST_ROUNDS, MOST_ROUNDS = 3, 25
# the threads of NumPy's BLAS keep a core busy for a while after their last product, which is not their successor's time
SETTLE_SECONDS = 0.05
# rows the batches are drawn from
DATA_ROWS = 4096
PRODUCT_SIZE = 1024


@dataclass(frozen=True)
class Case:
    """A network and a batch to train it on."""

    name: str
    widths: tuple[int, ...]
    batch: int
    loss: str


CASES = (
    Case("tiny", (8, 32, 32, 1), 32, "squared_error"),
    Case("small", (64, 64, 64, 1), 32, "squared_error"),
    Case("tab", (20, 100, 2), 200, "log_loss"),
    Case("tabmid", (100, 256, 256, 256, 10), 256, "log_loss"),
    Case("mnist", (784, 512, 512, 10), 128, "log_loss"),
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "bench",
        help="measure this machine",
        description="Measure the peak of this machine and the time of a training step (Adam, float32), per backend and "
        "against NumPy written by hand: tightly (in place, no temporaries) and plainly.",
    )
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=SECONDS, help=f"about how long to measure (default: {SECONDS:g})"
    )
    parser.add_argument("--threads", metavar="N", type=int, help="of pymlp, at most (default: the cores)")
    parser.set_defaults(run=run)


def _seconds_of(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def numpy_product_speed() -> float:
    """GFLOP/s of NumPy's float32 matrix product, the best of some."""
    generator = np.random.default_rng(0)
    left, right = generator.standard_normal((2, PRODUCT_SIZE, PRODUCT_SIZE), np.float32)
    out = np.empty_like(left)
    best = min(_seconds_of(lambda: np.matmul(left, right, out=out)) for _ in range(8))
    return 2 * PRODUCT_SIZE**3 / best / 1e9


def _programs(case: Case) -> dict[str, Callable[[int], None]]:
    """Each program as a function that takes a number of training steps, on the same data."""
    network = Network.from_widths(case.widths, loss=case.loss)
    generator = np.random.default_rng(0)
    X = generator.standard_normal((DATA_ROWS, network.inputs), np.float32)
    if case.loss == "log_loss":
        y = np.eye(network.outputs, dtype=np.float32)[generator.integers(network.outputs, size=DATA_ROWS)]
    else:
        y = generator.standard_normal((DATA_ROWS, network.outputs), np.float32)
    shuffled = generator.permutation(DATA_ROWS)

    def batches(steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        order = np.resize(shuffled, steps * case.batch)
        return order, np.arange(steps + 1) * case.batch, np.full(steps, 1e-3)

    def backend(name: str) -> Callable[[int], None]:
        plan = backends.get(name).Plan(network, case.batch)
        params, slots = network.initial_params(0), new_slots(Adam(), network.n_parameters, network.dtype)

        def run(steps: int) -> None:
            plan.train_steps(Adam(), params, slots, 0, X, y, None, *batches(steps), np.empty(steps))

        return run

    def peer(kind: type[TightNumpyStep] | type[PlainNumpyStep]) -> Callable[[int], None]:
        program = kind(network, case.batch)
        params, slots = network.initial_params(0), new_slots(Adam(), network.n_parameters, network.dtype)
        return lambda steps: program.run(params, slots, X, y, *batches(steps))

    programs = {name: backend(name) for name in backends.available()}
    return programs | {"tight NumPy": peer(TightNumpyStep), "plain NumPy": peer(PlainNumpyStep)}


def step_times(case: Case, seconds: float) -> dict[str, float]:
    """Median seconds of one training step of each program; they take turns for about `seconds`."""
    programs = _programs(case)
    steps, turn = {}, 0.0
    for name, program in programs.items():
        program(1)  # compiles, and touches the memory
        one_step = _seconds_of(lambda program=program: program(1))
        steps[name] = max(1, round(ROUND_SECONDS / one_step))
        turn += steps[name] * one_step + SETTLE_SECONDS
    rounds = round(seconds / turn)
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(max(FEWEST_ROUNDS, min(MOST_ROUNDS, rounds))):
        for name, program in programs.items():
            sleep(SETTLE_SECONDS)
            times[name].append(_seconds_of(lambda program=program, count=steps[name]: program(count)) / steps[name])
    return {name: statistics.median(values) for name, values in times.items()}


def _print_peak() -> None:
    print(f"NumPy's matrix product, float32: {numpy_product_speed():,.0f} GFLOP/s")
    if "c" not in backends.available():
        return
    from pymlp.backends import c

    threads = int(resolve_threads().value)
    for count in sorted({1, threads}):
        peak = c.measure_peak("float32", count)
        where = f"{c.choose_instruction_set().value}, {count} thread{'s' if count > 1 else ''}"
        print(f"peak of multiply-adds, float32, {where}: {peak:,.0f} GFLOP/s")


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print a row as soon as it is there."""
    if not 0 < arguments.seconds < np.inf:
        raise ValueError(f"--seconds must be above 0, got {arguments.seconds}")
    with config_context(n_threads=arguments.threads):
        _print_peak()
        names = [*backends.available(), "tight NumPy", "plain NumPy"]
        print("microseconds per training step (Adam, float32), and the best backend against tight NumPy")
        print(f"{'network (batch)':<36}" + "".join(f"{name:>13}" for name in names) + f"{'speed':>8}", flush=True)
        for case in CASES:
            times = step_times(case, arguments.seconds / len(CASES))
            speed = times["tight NumPy"] / min(times[name] for name in backends.available())
            title = f"{case.name} {'-'.join(map(str, case.widths))} ({case.batch})"
            row = "".join(f"{1e6 * times[name]:>13,.1f}" for name in names)
            print(f"{title:<36}{row}{speed:>7.1f}x", flush=True)
