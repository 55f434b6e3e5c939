"""One batch at a time with a gradient of the caller's own: what a call of `pymlp.Learner` adds to the engine's work.

The reference does the same work through cffi on pointers that were bound before the race, without a look at any array;
what such calls take by themselves is measured where the verbs refuse at once, and taken off.  ``overhead_seconds`` is
the rest, whose goal is 3 us for a forward and a step together.  A second reference takes all steps in one
`train_steps`, which packs the weights once and not in every call.  PyTorch does what its users would write.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from cases import SEED
from interleaved import race, seconds_of, units_of_a_round
from training_run import RATE

from pymlp import Adam, Learner, Network, backends
from pymlp.optimizers import new_slots

HAS_ENGINE = backends.missing_reason("c") is None
pytestmark = pytest.mark.skipif(not HAS_ENGINE, reason="the C engine was not built")
CALLS = ("forward", "step", "forward and step", "train")
# calls that are refused are timed over so many, so often
EMPTY_CALLS, EMPTY_ROUNDS = 20_000, 9
# PyTorch adds up in another order, and Adam's first steps divide a gradient by its own size
PEER_STEPS, PEER_TOLERANCE = 20, 2e-3


@dataclass(frozen=True)
class LearnerCase:
    """A network and the rows of one call."""

    name: str
    widths: tuple[int, ...]
    rows: int

    def network(self) -> Network:
        """The network, with scores as outputs."""
        return Network.from_widths(self.widths)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (rows, inputs), and numbers like the outputs: a gradient by them, or targets."""
        draw = np.random.default_rng(SEED)
        return tuple(
            draw.standard_normal((self.rows, width), np.float32) for width in (self.widths[0], self.widths[-1])
        )


CASES = (
    LearnerCase("1 row, 4-64-64-2", (4, 64, 64, 2), 1),
    LearnerCase("32 rows, 4-64-64-2", (4, 64, 64, 2), 32),
)


class Contestant:
    """Parameters and an optimizer's state of its own, and the same data as the others."""

    def __init__(self, case: LearnerCase) -> None:
        self.case, self.network = case, case.network()
        self.X, self.by_output = case.data()
        self.first_params = self.network.initial_params(SEED)
        self.params, self.slots = self.first_params.copy(), new_slots(Adam(), len(self.first_params), "float32")
        self.out = np.zeros_like(self.by_output)

    def rewind(self) -> None:
        """Go back to the first parameters."""
        self.params[:] = self.first_params
        self.slots[:] = 0


class LearnerCalls(Contestant):
    """As a user writes them."""

    def __init__(self, case: LearnerCase) -> None:
        super().__init__(case)
        self.rewind()

    def rewind(self) -> None:
        """Go back to the first parameters, and the first step."""
        super().rewind()
        self.learner = Learner(self.network, self.params, slots=self.slots, rate=RATE, batch_size=self.case.rows)

    def program(self, call: str, count: int) -> Callable[[], None]:
        """So many of the calls."""
        X, by_output, out = self.X, self.by_output, self.out

        def forward() -> None:
            learner = self.learner
            for _ in range(count):
                learner.forward(X, out)

        def step() -> None:
            learner = self.learner
            for _ in range(count):
                learner.step(by_output, X)

        def both() -> None:
            learner = self.learner
            for _ in range(count):
                learner.forward(X, out)
                learner.step(by_output)

        def train() -> None:
            learner = self.learner
            for _ in range(count):
                learner.train(X, by_output)

        return dict(zip(CALLS, (forward, step, both, train), strict=True))[call]


class BoundPointers(Contestant):
    """The engine's verbs on pointers made before."""

    def __init__(self, case: LearnerCase) -> None:
        from pymlp._engine import ffi, lib

        super().__init__(case)
        self.lib, self.null = lib, ffi.NULL
        self.plan = backends.get("c").Plan(self.network, case.rows)
        addresses = self.plan.entry(Adam()).addresses
        self.plan_address = ffi.cast("pymlp_plan *", addresses[0])
        self.optimizer = ffi.cast("pymlp_optimizer *", addresses[1])
        self.gradient, self.loss = np.empty_like(self.params), ffi.new("double *")
        arrays = (self.params, self.slots, self.gradient, self.X, self.by_output, self.out)
        self.pointers = [ffi.from_buffer(array) for array in arrays]
        self.ffi = ffi

    def program(self, call: str, count: int) -> Callable[[], None]:
        """So many of the calls; the coefficients of their steps are worked out before."""
        lib, plan, null, rows = self.lib, self.plan_address, self.null, self.case.rows
        params, slots, gradient, X, by_output, out = self.pointers
        optimizer, loss = self.optimizer, self.loss
        numbers = Adam().coefficients(0, np.full(count, RATE))
        coefficients = [self.ffi.from_buffer("double *", row) for row in numbers]

        def forward() -> None:
            for step in range(count):
                lib.pymlp_forward(plan, params, X, null, rows, out, step, 0)

        def step() -> None:
            for step, row in enumerate(coefficients):
                lib.pymlp_backward(plan, params, X, null, rows, by_output, gradient, null, step, 0)
                lib.pymlp_update(plan, optimizer, params, gradient, slots, row)

        def both() -> None:
            for step, row in enumerate(coefficients):
                lib.pymlp_forward(plan, params, X, null, rows, out, step, 0)
                lib.pymlp_backward(plan, params, X, null, rows, by_output, gradient, null, step, 0)
                lib.pymlp_update(plan, optimizer, params, gradient, slots, row)

        def train() -> None:
            for step, row in enumerate(coefficients):
                lib.pymlp_loss_gradient(plan, params, X, null, by_output, null, rows, gradient, loss, step, 0)
                lib.pymlp_update(plan, optimizer, params, gradient, slots, row)

        return dict(zip(CALLS, (forward, step, both, train), strict=True))[call]

    def call_seconds(self, call: str) -> float:
        """What the calls through cffi take by themselves: of the same verbs, which refuse at once."""
        lib, plan, null = self.lib, self.plan_address, self.null
        params, slots, gradient, X, by_output, out = self.pointers
        loss, row = self.loss, self.ffi.new("double[4]")
        nothing = self.ffi.new("pymlp_optimizer *")
        nothing.kind = -1

        def forward() -> None:
            for _ in range(EMPTY_CALLS):
                lib.pymlp_forward(plan, params, X, null, -1, out, 0, 0)

        def backward() -> None:
            for _ in range(EMPTY_CALLS):
                lib.pymlp_backward(plan, params, X, null, -1, by_output, gradient, null, 0, 0)

        def loss_gradient() -> None:
            for _ in range(EMPTY_CALLS):
                lib.pymlp_loss_gradient(plan, params, X, null, by_output, null, -1, gradient, loss, 0, 0)

        def update() -> None:
            for _ in range(EMPTY_CALLS):
                lib.pymlp_update(plan, nothing, params, gradient, slots, row)

        of_call = dict(
            zip(
                CALLS,
                ((forward,), (backward, update), (forward, backward, update), (loss_gradient, update)),
                strict=True,
            )
        )[call]
        return sum(min(seconds_of(each) for _ in range(EMPTY_ROUNDS)) for each in of_call) / EMPTY_CALLS


class OneCall(Contestant):
    """All steps in one `train_steps`."""

    def __init__(self, case: LearnerCase) -> None:
        super().__init__(case)
        self.plan = backends.get("c").Plan(self.network, case.rows)

    def program(self, count: int) -> Callable[[], None]:
        """So many steps."""
        rows, losses, rates = self.case.rows, np.empty(count), np.full(count, RATE)
        order, starts = np.tile(np.arange(rows), count), np.arange(count + 1) * rows
        targets, optimizer = self.by_output, Adam()

        def train() -> None:
            self.plan.train_steps(
                optimizer, self.params, self.slots, 0, self.X, targets, None, order, starts, rates, losses
            )

        return train


class TorchCalls(Contestant):
    """A forward, a backward from the gradient at the outputs, a step of the fused Adam."""

    def __init__(self, case: LearnerCase) -> None:
        import torch
        from peer_torch import sequential

        super().__init__(case)
        self._torch, self._sequential = torch, sequential
        self._X, self._by_output = torch.from_numpy(self.X), torch.from_numpy(self.by_output)
        self.rewind()

    def rewind(self) -> None:
        """Go back to the first parameters."""
        self.model = self._sequential(self.network, self.first_params)
        self._optimizer = self._torch.optim.Adam(self.model.parameters(), lr=RATE, fused=True)

    def program(self, count: int) -> Callable[[], None]:
        """So many of both."""

        def both() -> None:
            model, optimizer = self.model, self._optimizer
            for _ in range(count):
                optimizer.zero_grad()
                outputs = model(self._X)
                outputs.backward(self._by_output)
                optimizer.step()

        return both

    def outputs(self) -> np.ndarray:
        """What the model says of the rows."""
        with self._torch.inference_mode():
            return self.model(self._X).numpy()


def _race(benchmark: Any, contestant: Contestant, run: Callable, reference: Contestant, other: Callable) -> None:
    """Race ``run(count)`` against ``other(count)``, over as many calls each."""
    count = units_of_a_round(benchmark, run)
    race(
        benchmark,
        run(count),
        other(count),
        count,
        count,
        before_contestant=contestant.rewind,
        before_reference=reference.rewind,
    )
    for each, program in ((contestant, run), (reference, other)):
        each.rewind()
        program(count)()


@pytest.mark.parametrize("call", CALLS)
def test_call(benchmark, case, call):
    benchmark.group = f"learner {case.name}"
    learner, bound = LearnerCalls(case), BoundPointers(case)

    _race(benchmark, learner, lambda n: learner.program(call, n), bound, lambda n: bound.program(call, n))

    for one, other in ((learner.params, bound.params), (learner.slots, bound.slots), (learner.out, bound.out)):
        assert call == "forward" or one.tobytes() == other.tobytes()
    info = benchmark.extra_info
    info.update(kind="learner", case=case.name, dtype="float32", contestant=call)
    if not benchmark.disabled:
        info["engine_seconds"] = info["reference_seconds"] - bound.call_seconds(call)
        info["overhead_seconds"] = info["seconds"] - info["engine_seconds"]


def test_call_against_one_call_of_all_steps(benchmark, case):
    benchmark.group = f"learner {case.name}"
    learner, whole = LearnerCalls(case), OneCall(case)

    _race(benchmark, learner, lambda n: learner.program("train", n), whole, whole.program)

    assert learner.params.tobytes() == whole.params.tobytes()
    info = benchmark.extra_info
    info.update(kind="learner against train_steps", case=case.name, dtype="float32", contestant="train")
    if not benchmark.disabled:
        info["overhead_seconds"] = info["seconds"] - info["reference_seconds"]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_pytorch(benchmark, case):
    benchmark.group = f"learner {case.name}"
    torch, learner = TorchCalls(case), LearnerCalls(case)

    _race(benchmark, torch, torch.program, learner, lambda n: learner.program("forward and step", n))

    for each, program in ((torch, torch.program), (learner, lambda n: learner.program("forward and step", n))):
        each.rewind()
        program(PEER_STEPS)()
    ours = learner.learner.predict(case.data()[0])
    np.testing.assert_allclose(torch.outputs(), ours, rtol=0, atol=PEER_TOLERANCE * np.abs(ours).max())
    benchmark.extra_info.update(kind="learner", case=case.name, dtype="float32", contestant="PyTorch")
