"""What is Numba's alone: which way a network takes, the compiled code on disk, read-only arrays."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
from matrix import make_case

from pymlp import backends
from pymlp.functions import ACTIVATIONS
from pymlp.layers import KINDS
from pymlp.losses import LOSSES
from pymlp.network import Network
from pymlp.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Lion, Optimizer, new_slots

pytest.importorskip("numba", reason="the Numba backend is not installed")
numba_functions = pytest.importorskip("pymlp.backends.numba_functions")


def module(name: str = "") -> ModuleType:
    return pytest.importorskip(f"pymlp.backends.numba{name}")


def test_every_row_of_the_registries_has_a_number() -> None:
    activations = module("_activations")
    assert set(activations.ACTIVATION_CODES) == set(ACTIVATIONS)
    assert activations.ACTIVATION_CODES["softmax"] == activations.SOFTMAX
    assert activations.ACTIVATION_CODES["mean_deviation"] == activations.MEAN_DEVIATION
    losses, optimizers, kinds = module("_losses"), module("_optimizers"), module("_kinds")
    assert set(losses.LOSS_CODES) == set(LOSSES)
    assert losses.LOSS_CODES["poisson"] == losses.POISSON
    assert losses.LOSS_CODES["tweedie"] == losses.TWEEDIE
    assert set(optimizers.OPTIMIZER_CODES) == set(OPTIMIZERS)
    assert optimizers.OPTIMIZER_CODES["rprop"] == optimizers.RPROP
    assert set(kinds.KIND_CODES) == set(KINDS)
    assert kinds.KIND_CODES["add"] == kinds.ADD


@pytest.mark.parametrize(
    ("widths", "batch_size", "small"),
    [
        ((8, 32, 32, 1), 32, True),
        ((64, 64, 64, 1), 32, True),
        ((20, 100, 2), 200, True),
        ((20, 100, 2), 100_000, True),
        ((100, 256, 256, 256, 10), 1, True),
        ((100, 256, 256, 256, 10), 256, False),
        ((784, 512, 512, 10), 128, False),
        ((784, 512, 512, 10), 1, False),
    ],
    ids=str,
)
def test_which_way_a_network_takes(widths: tuple[int, ...], batch_size: int, small: bool) -> None:
    assert module().is_small(Network.from_widths(widths), batch_size) == small


def test_compiled_functions_have_names_of_their_own() -> None:
    # cached code of several processes is linked by name: two closures of one name would be taken for each other
    names = ("functions", "activations", "kinds", "losses", "optimizers", "table", "small", "wide")
    modules = [module(f"_{name}") for name in names]
    compiled = {id(value): value for part in modules for value in vars(part).values() if hasattr(value, "py_func")}
    assert len(compiled) > 40
    compiled_names = [f"{function.__module__}.{function.py_func.__qualname__}" for function in compiled.values()]
    assert len(set(compiled_names)) == len(compiled_names)


def test_without_a_place_for_the_cache_functions_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    real = numba_functions.njit

    def njit_without_cache(**options: object) -> object:
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(numba_functions, "njit", njit_without_cache)

    def double(x):
        return x + x

    assert numba_functions.cached(double)(21) == 42


def test_another_process_finds_the_compiled_code() -> None:
    program = """
import sys, numpy as np
from pymlp import backends
from pymlp.network import Network
from pymlp.optimizers import Adam, new_slots
network = Network.from_widths((3, 4, 1), dtype="float64")
plan = backends.get("numba").Plan(network, 2)
order, starts, losses = np.arange(4), np.array([0, 2, 4]), np.empty(2)
X, params, slots = np.ones((4, 3)), network.initial_params(0), new_slots(Adam(), network.n_parameters, "float64")
plan.train_steps(Adam(), params, slots, 0, X, X[:, :1].copy(), None, order, starts, np.full(2, 0.1), losses)
parts = [part for name, part in sys.modules.items() if name.startswith("pymlp.backends.numba_")]
compiled = {id(each): each for part in parts for each in vars(part).values() if hasattr(each, "stats")}.values()
print(sum(sum(each.stats.cache_hits.values()) for each in compiled), end=" ")
print(sum(sum(each.stats.cache_misses.values()) for each in compiled))
"""
    if not module("_small").train_batches.stats.cache_path:
        pytest.skip("compiled code has no place on disk here")
    run = [sys.executable, "-c", program]
    # the first may have to compile
    subprocess.run(run, check=True)
    hits, misses = subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
    assert int(hits) > 0
    assert int(misses) == 0


@pytest.mark.parametrize(
    ("optimizer", "loss", "further"),
    [
        (SGD(), "log_loss", False),
        (AdamW(), "poisson", False),
        (Adam(clip_norm=1.0), "log_loss", True),
        (Lion(), "log_loss", True),
        (SGD(), "hinge", True),
    ],
    ids=str,
)
def test_plain_networks_have_functions_of_their_own(
    optimizer: Optimizer, loss: str, further: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # three arguments, of the kinds, the loss and the optimizer, are None, and Numba compiles only what is then left
    case = make_case(6, (2, 3, 2), loss=loss)
    calls = []
    monkeypatch.setattr(module("_small"), "train_batches", lambda *arguments: calls.append(arguments))
    slots = new_slots(optimizer, len(case.params), "float64")
    backends.get("numba").Plan(case.network, 6).train_steps(
        optimizer, case.params, slots, 0, case.X, case.y, None, np.arange(6), np.array([0, 6]), np.ones(1), np.empty(1)
    )
    assert sum(argument is None for argument in calls[0]) == (0 if further else 3)


def test_read_only_arrays_are_not_compiled_for_once_more() -> None:
    case = make_case(5, (2, 3, 1))
    plan = backends.get("numba").Plan(case.network, 5)
    out = np.empty((5, 1))
    plan.forward(case.params, case.X, out)
    before = len(module("_small").forward_rows.signatures)
    case.X.flags.writeable = case.params.flags.writeable = False
    again = np.empty_like(out)
    plan.forward(case.params, case.X, again)
    np.testing.assert_array_equal(again, out)
    assert len(module("_small").forward_rows.signatures) == before
    assert not case.X.flags.writeable


def test_read_only_outputs_are_refused() -> None:
    case = make_case(5, (2, 3, 1))
    plan = backends.get("numba").Plan(case.network, 5)
    case.params.flags.writeable = False
    with pytest.raises(ValueError, match="params is written to, but the array is read-only"):
        plan.update(SGD(), case.params, np.zeros_like(case.params), new_slots(SGD(), 13, "float64"), 0, 0.1)


def test_no_rows() -> None:
    case = make_case(5, (2, 3, 1))
    plan = backends.get("numba").Plan(case.network, 5)
    plan.forward(case.params, case.X[:0], np.empty((0, 1)))
    gradient = np.ones_like(case.params)
    assert plan.loss_gradient(case.params, case.X[:0], case.y[:0], None, gradient) == 0.0
    assert not gradient.any()
    gradient[:] = 1
    plan.backward(case.params, case.X[:0], case.y[:0], gradient)
    assert not gradient.any()
