"""Whole networks, drawn at random, against an oracle that works in 40 digits: every kind of layer, activation, loss,
penalty and optimizer, on every instruction set, and the NumPy backend beside them.

The unmarked tests take some tens of networks, the slow ones some hundreds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import mpmath
import numpy as np
import oracle
import pytest
from matrix import ENGINES, HIDDEN_ACTIVATIONS, Case, Engine, targets, weights
from mpmath import mpf

from pymlp import Dense, Network, backends, config_context
from pymlp.losses import (
    LOSSES,
    BinaryFocal,
    BinaryLogLoss,
    Focal,
    GaussianNLL,
    Huber,
    LogLoss,
    Quantile,
    Tweedie,
    loss_of,
)
from pymlp.optimizers import OPTIMIZERS, SGD, Adam, Optimizer, RMSprop, new_slots

ORACLE_ENGINES = [engine for engine in ENGINES if engine.backend in ("c", "numpy")]
# errors are counted in units (half an epsilon) of the largest number of an array, or of LEAST where all are smaller:
# what cancels on its way was of size 1.  The largest found are 120 of whole networks, 4 of a step, 300 of three steps.
MOST_UNITS, MOST_UNITS_OF_A_STEP, MOST_UNITS_OF_STEPS = 250, 8, 1000
LEAST, LEAST_OF_A_STEP = 1e-2, 1e-3
LARGEST_SCORE = 3.0


def numbered(few: int, many: int) -> pytest.MarkDecorator:
    """So many networks in the fast set, and other ones in the slow set."""
    slow = pytest.param(range(few, many), marks=pytest.mark.slow)
    return pytest.mark.parametrize("seeds", [range(few), slow], ids=["few", "many"])


# losses with parameters that are not their defaults, beside the registry
OTHER_LOSSES = (
    Huber(0.3), Quantile((0.3, 0.8)), LogLoss(0.1), BinaryLogLoss(0.2), Focal(0.7), BinaryFocal(3.0), Tweedie(1.2),
    GaussianNLL(),
)  # fmt: skip
SHARED_OPTIONS: Sequence[dict[str, Any]] = (
    {}, {"weight_decay": 0.1}, {"clip_value": 0.05}, {"clip_norm": 0.1}, {"average": "ema", "average_decay": 0.7},
    {"average": "swa", "average_start": 8},
    {"weight_decay": 0.2, "clip_value": 0.2, "clip_norm": 0.3, "average": "ema"},
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a batch stands: what masks depend on."""

    step: int | None
    row_offset: int


def random_network(draw: np.random.Generator) -> Network:
    """A network of up to three hidden layers; half of the layers are plain."""
    loss = loss_of([*LOSSES, *OTHER_LOSSES][draw.integers(len(LOSSES) + len(OTHER_LOSSES))])

    def width() -> int:
        return int(
            draw.choice([1, 2, 3, 4, 5, 7, 8, 9, 17, 33], p=[0.05, 0.1, 0.15, 0.15, 0.15, 0.15, 0.1, 0.1, 0.03, 0.02])
        )

    def chance(probability: float) -> bool:
        return bool(draw.random() < probability)

    inputs = before = width()
    layers = []
    for _ in range(draw.integers(4)):
        residual = chance(0.25)
        outputs = before if residual else width()
        featured = chance(0.5)
        layers.append(
            Dense(
                outputs,
                str(draw.choice(HIDDEN_ACTIVATIONS)),
                dropout=0.4 if featured and chance(0.4) else 0.0,
                normalization="layer" if featured and outputs > 2 and chance(0.5) else None,
                residual=residual,
                max_norm=0.7 if chance(0.2) else None,
                parametric=featured and chance(0.5),
            )
        )
        before = outputs
    # one class has no probability but 1
    groups = int(draw.integers(2 if loss.output_activation == "softmax" else 1, 4))
    layers.append(Dense(loss.group * groups, loss.output_activation, max_norm=0.9 if chance(0.2) else None))
    options = {"l1": 0.03, "l2": 0.2} if chance(0.4) else {"l2": 0.1} if chance(0.4) else {}
    return Network(
        inputs, tuple(layers), loss, "float64", input_dropout=0.3 if chance(0.2) else 0.0,
        seed=int(draw.integers(2**63)), **options,
    )  # fmt: skip


def random_case(seed: int) -> tuple[Case, Place]:
    """A network with parameters away from their start, a batch for it, and where it stands."""
    draw = np.random.default_rng(seed)
    network = random_network(draw)
    rows = int(draw.integers(1, 7))
    params = network.initial_params(seed) + draw.normal(scale=0.1, size=network.n_parameters)
    X = draw.normal(size=(rows, network.inputs))
    y = targets(network.loss_function, rows, network.outputs, draw)
    if network.output_activation == "softmax":
        # probabilities whose sum is 1 without rounding: the engine takes it for granted
        y = np.round(y * 1024) / 1024
        y[:, 0] += 1 - y.sum(axis=1)
    kind = ("none", "random", "some zero")[draw.integers(3)]
    weight = weights(kind, rows, draw)
    place = Place(None if draw.random() < 0.2 else int(draw.choice([0, 7, 2**33 + 5])), int(draw.integers(0, 100)))
    # scores that leave the losses well-conditioned: near certainty, 1 - p has few digits in float32
    largest = max(
        np.abs(np.array(oracle.scores(network, params, X, step, place.row_offset), float)).max()
        for step in (None, place.step)
    )
    last = slice(network.layout[-1].weight.start, None)
    params[last] *= min(1.0, LARGEST_SCORE / largest)
    # numbers that float32 holds, so that both dtypes see the same
    single = [
        None if array is None else array.astype(np.float32).astype(np.float64) for array in (params, X, y, weight)
    ]
    return Case(network, *single), place


def in_dtype(case: Case, dtype: str) -> Case:
    """The case with a network and arrays of this dtype."""
    arrays = (case.params, case.X, case.y, case.weight)
    network = replace(case.network, dtype=dtype)
    return Case(network, *(None if array is None else array.astype(dtype) for array in arrays))


def assert_near(
    found: Any, expected: Any, dtype: str, what: str, units: float = MOST_UNITS, least: float = LEAST
) -> None:
    """Within so many units of the largest number, or of `least` where all are smaller."""
    expected = np.array(expected, object)
    largest = max([mpf(least), *(abs(number) for number in expected.ravel())])
    unit = float(np.finfo(dtype).eps / 2 * largest)
    differences = [abs(mpf(float(a)) - b) for a, b in zip(np.ravel(found), expected.ravel(), strict=True)]
    # a NaN is larger than nothing
    worst = max((float(difference) for difference in differences), default=0.0)
    assert all(difference <= units * unit for difference in differences), f"{what}: {worst / unit:.3g} units off"


def check_network(seed: int) -> None:
    """All verbs but the updates, on all engines."""
    case, place = random_case(seed)
    network = case.network
    output_gradient = np.random.default_rng(seed).normal(size=case.y.shape).astype(np.float32).astype(np.float64)
    inferred = oracle.forward(network, case.params, case.X)
    trained = oracle.forward(network, case.params, case.X, place.step, place.row_offset)
    value, by_loss = oracle.loss_gradient(
        network, case.params, case.X, case.y, case.weight, place.step, place.row_offset
    )
    by_params, by_x = oracle.backward(network, case.params, case.X, output_gradient, place.step, place.row_offset)
    where = {"step": place.step, "row_offset": place.row_offset}
    for engine in ORACLE_ENGINES:
        for dtype in ("float32", "float64"):
            own = in_dtype(case, dtype)
            what = f"network {seed}, {engine}, {dtype}, {network}"
            plan = engine.plan(own.network, len(own.X), 1 + seed % 3)
            out, gradient, x_gradient = (np.full_like(array, np.nan) for array in (own.y, own.params, own.X))
            plan.forward(own.params, own.X, out)
            assert_near(out, inferred, dtype, f"inference, {what}")
            if engine.backend == "c":
                check_predictor(engine, own, inferred, what)
            plan.forward(own.params, own.X, out, **where)
            assert_near(out, trained, dtype, f"forward, {what}")
            plan.backward(own.params, own.X, output_gradient.astype(dtype), gradient, x_gradient, **where)
            assert_near(gradient, by_params, dtype, f"gradient of backward, {what}")
            assert_near(x_gradient, by_x, dtype, f"x_gradient, {what}")
            loss = plan.loss_gradient(own.params, own.X, own.y, own.weight, gradient, **where)
            assert_near(loss, value, dtype, f"loss, {what}")
            assert_near(gradient, by_loss, dtype, f"gradient of the loss, {what}")


def check_predictor(engine: Engine, case: Case, expected: Any, what: str) -> None:
    """All rows in one call, and each in one of its own, which goes another way."""
    with config_context(isa=engine.variant):
        ask = backends.get("c").Predictor(case.network, case.params, 2)
    out, single = np.full_like(case.y, np.nan), np.full_like(case.y, np.nan)
    ask.predict(case.X, out)
    assert_near(out, expected, case.network.dtype, f"predictor, {what}")
    for row in range(len(single)):
        ask.predict(case.X[row : row + 1], single[row : row + 1])
    assert_near(single, expected, case.network.dtype, f"predictor row by row, {what}")


def random_optimizer(draw: np.random.Generator) -> Optimizer:
    """One of the registry, with options that all share."""
    kind = list(OPTIMIZERS.values())[draw.integers(len(OPTIMIZERS))]
    return kind(**SHARED_OPTIONS[draw.integers(len(SHARED_OPTIONS))])


def check_updates(seed: int) -> None:
    """A few steps of an optimizer, with gradients that change their signs; each from the state of the last engine."""
    case, _ = random_case(seed)
    draw = np.random.default_rng(seed)
    optimizer, first = random_optimizer(draw), int(draw.integers(20))
    for dtype in ("float32", "float64"):
        own = in_dtype(case, dtype)
        before = own.params, new_slots(optimizer, len(own.params), dtype)
        for step in range(first, first + 3):
            gradient = draw.normal(size=own.params.shape).astype(dtype)
            gradient[draw.random(len(gradient)) < 0.1] = 0
            expected = oracle.update(own.network, optimizer, before[0], gradient, before[1], step, 0.03)
            for engine in ORACLE_ENGINES:
                params, slots = before[0].copy(), before[1].copy()
                engine.plan(own.network, 2).update(optimizer, params, gradient, slots, step, 0.03)
                what = f"step {step} of {optimizer}, network {seed}, {engine}, {dtype}"
                assert_near(
                    params, expected[0], dtype, f"parameters after {what}", MOST_UNITS_OF_A_STEP, LEAST_OF_A_STEP
                )
                for number, (found, exact) in enumerate(zip(slots, expected[1], strict=True)):
                    assert_near(
                        found, exact, dtype, f"slot {number} after {what}", MOST_UNITS_OF_A_STEP, LEAST_OF_A_STEP
                    )
            before = params, slots


# steps that are smooth in the gradient, and short, so that rounding stays small
SMOOTH = (
    SGD(clip_norm=0.5),
    SGD(0.5, nesterov=False, weight_decay=0.1),
    RMSprop(epsilon=0.1, momentum=0.3),
    Adam(epsilon=0.1),
)


def check_training(seed: int) -> None:
    """`train_steps` over batches of its own order, against the oracle's loss_gradient and update."""
    case, place = random_case(seed)
    network, optimizer, first = case.network, SMOOTH[seed % len(SMOOTH)], place.step or 0
    draw = np.random.default_rng(seed)
    rows = len(case.X)
    starts = np.array([0, rows, rows + (rows + 1) // 2, 2 * rows + 1])
    order, rates = draw.integers(rows, size=starts[-1]), np.array([0.02, 0.01, 0.03])
    params, slots = case.params, new_slots(optimizer, len(case.params), "float64")
    expected_losses = []
    for i, rate in enumerate(rates):
        batch = order[starts[i] : starts[i + 1]]
        weight = None if case.weight is None else case.weight[batch]
        if weight is not None and not weight.any():
            expected_losses.append(mpf(0))
            continue
        loss, gradient = oracle.loss_gradient(network, params, case.X[batch], case.y[batch], weight, first + i)
        params, slots = rounded(oracle.update(network, optimizer, params, gradient, slots, first + i, rate))
        expected_losses.append(loss)
    for engine in ORACLE_ENGINES:
        plan = engine.plan(network, rows + 1, 1 + seed % 3)
        found, found_slots = case.params.copy(), new_slots(optimizer, len(case.params), "float64")
        losses = np.full(3, np.nan)
        plan.train_steps(
            optimizer, found, found_slots, first, case.X, case.y, case.weight, order, starts, rates, losses
        )
        what = f"network {seed}, {engine}, {optimizer}, {network}"
        assert_near(losses, expected_losses, "float64", f"losses, {what}", MOST_UNITS_OF_STEPS)
        assert_near(found, params, "float64", f"parameters, {what}", MOST_UNITS_OF_STEPS)
        assert_near(found_slots, slots, "float64", f"slots, {what}", MOST_UNITS_OF_STEPS)


def rounded(state: tuple[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and slots as float64: half a unit, which the limit has room for."""
    return np.array(state[0], np.float64), np.array(state[1], np.float64).reshape(-1, len(state[0]))


def test_the_oracle_differentiates_itself() -> None:
    # the way back is written out; here it is held against differences of whole losses
    layers = (Dense(4, "gelu", 0.3, "layer", residual=True, parametric=True), Dense(3, "tanh"), Dense(2, "softmax"))
    network = Network(4, layers, "log_loss", "float64", l1=0.1, l2=0.2, input_dropout=0.2, seed=3)
    draw = np.random.default_rng(0)
    params = draw.normal(size=network.n_parameters)
    X, y, weight = draw.normal(size=(3, 4)), np.eye(2)[[0, 1, 1]], draw.random(3)
    _, gradient = oracle.loss_gradient(network, params, X, y, weight, 5, 2)
    output_gradient = draw.normal(size=(3, 2))
    _, by_x = oracle.backward(network, params, X, output_gradient, 5, 2)

    def moved(array: np.ndarray, index: Any, by: Any) -> np.ndarray:
        numbers = np.array(oracle.exactly(array), object)
        numbers[index] += by
        return numbers

    with mpmath.workdps(oracle.DIGITS):
        step = mpf(2) ** -30
        for i in range(len(params)):
            above, below = (
                oracle.loss_gradient(network, moved(params, i, by), X, y, weight, 5, 2)[0] for by in (step, -step)
            )
            assert abs((above - below) / (2 * step) - gradient[i]) < 1e-14 * (1 + abs(gradient[i]))
        for index in np.ndindex(X.shape):
            sums = []
            for by in (step, -step):
                out = oracle.forward(network, params, moved(X, index, by), 5, 2)
                sums.append(sum(a * float(b) for a, b in zip(np.ravel(out), output_gradient.ravel(), strict=True)))
            slope = (sums[0] - sums[1]) / (2 * step)
            assert abs(slope - by_x[index[0]][index[1]]) < 1e-14 * (1 + abs(slope))


def test_the_oracle_draws_the_authors_numbers() -> None:
    # from the file of known answers that comes with Random123
    words = (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)
    counter = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert oracle.philox(counter, (0xA4093822, 0x299F31D0)) == words


def test_the_comparison_notices_errors() -> None:
    exact = [mpf(1), mpf("0.5")]
    assert_near([1.0, 0.5], exact, "float64", "")
    for wrong in ([1.0, 0.5 + 1e-13], [1.0, np.nan], [np.inf, 0.5]):
        with pytest.raises(AssertionError, match="units off"):
            assert_near(wrong, exact, "float64", "")


@numbered(20, 420)
def test_networks(seeds: range) -> None:
    for seed in seeds:
        check_network(seed)


@numbered(10, 130)
def test_updates(seeds: range) -> None:
    for seed in seeds:
        check_updates(seed)


@numbered(20, 220)
def test_training(seeds: range) -> None:
    for seed in seeds:
        check_training(seed)
