"""What a layer, a loss or an optimizer can do beyond the plain network: every engine against the NumPy backend.

float64 to rounding; float32 against NumPy in float64, within `TOLERANCES` of the largest number (no analysis as in
`error_bounds`: normalisation divides by deviations, and the losses have poles).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matrix import (
    ANALYSED_LOSSES,
    DTYPES,
    ENGINES,
    HIDDEN_ACTIVATIONS,
    NUMPY,
    OTHERS,
    Case,
    Engine,
    make_case,
    run_forward,
    run_loss_gradient,
    targets,
)

from pymlp.backends import BLOCK_ROWS
from pymlp.layers import Dense
from pymlp.losses import LOSSES, BinaryLogLoss, Focal, Huber, LogLoss, Loss, Quantile, Tweedie
from pymlp.network import Network
from pymlp.optimizers import SGD, Adam, AdamW, Lion, NAdam, Optimizer, RMSprop, Rprop, new_slots
from pymlp.philox import kept

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

TOLERANCES = {"float32": 2e-4, "float64": 1e-10}

FULL = Dense(19, "tanh", dropout=0.3, normalization="layer", residual=True, parametric=True)
# hidden layers, and options of the network
FEATURES: dict[str, tuple[tuple[Dense, ...], dict]] = {
    "dropout": ((Dense(19, "gelu", dropout=0.3),), {}),
    "input dropout": ((Dense(19, "tanh"),), {"input_dropout": 0.2}),
    "only input dropout": ((), {"input_dropout": 0.4}),
    "layer norm": ((Dense(19, "silu", normalization="layer"),), {}),
    "layer norm of two units": ((Dense(2, "tanh", normalization="layer"),), {}),
    "parametric": ((Dense(19, "mish", parametric=True), Dense(8, "tanh", parametric=True)), {}),
    "residual": ((Dense(19, "gelu"), Dense(19, "tanh", residual=True), Dense(19, "silu", residual=True)), {}),
    "residual of the inputs": ((Dense(5, "tanh", residual=True),), {}),
    "residual of dropped inputs": ((Dense(5, "tanh", residual=True),), {"input_dropout": 0.3}),
    "everything": ((Dense(19, "softplus", max_norm=1.0), FULL, FULL), {"input_dropout": 0.1, "l1": 0.1, "l2": 0.2}),
}
PARAMETERISED: dict[str, Loss] = {
    "label smoothing": LogLoss(label_smoothing=0.1),
    "binary label smoothing": BinaryLogLoss(label_smoothing=0.2),
    "focal without gamma": Focal(gamma=0.0),
    "focal, gamma a fraction": Focal(gamma=1.5),
    "huber of 0.3": Huber(delta=0.3),
    "one quantile": Quantile(levels=(0.3,)),
    "two quantiles": Quantile(levels=(0.05, 0.9)),
    "tweedie of 1.2": Tweedie(power=1.2),
}
FURTHER_LOSSES = {**{name: LOSSES[name] for name in LOSSES if name not in ANALYSED_LOSSES}, **PARAMETERISED}
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd, decay": SGD(weight_decay=0.1),
    "sgd, clip by value": SGD(clip_value=0.02),
    "adam, clip by norm": Adam(clip_norm=0.05),
    "adam, both clips": Adam(clip_norm=0.05, clip_value=0.02),
    "adamw, moving average": AdamW(weight_decay=0.1, average="ema", average_decay=0.7),
    "sgd, mean from step 12": SGD(average="swa", average_start=12),
    "nadam": NAdam(),
    "nadam, decay": NAdam(weight_decay=0.1),
    "rmsprop": RMSprop(),
    "rmsprop, momentum and decay": RMSprop(momentum=0.8, weight_decay=0.1),
    "lion": Lion(),
    "lion, all": Lion(weight_decay=0.1, clip_norm=0.1, clip_value=0.05, average="ema"),
    "rprop": Rprop(),
    "rprop, average": Rprop(average="swa"),
}
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_other = pytest.mark.parametrize("engine", OTHERS, ids=str)
by_engine = pytest.mark.parametrize("engine", ENGINES, ids=str)
by_feature = pytest.mark.parametrize("feature", FEATURES)


def feature_case(feature: str, dtype: str = "float64", rows: int = 15, **options: object) -> Case:
    """A network with a feature, its gains and mixtures away from where they start."""
    layers, of_network = FEATURES[feature]
    case = make_case(rows, (5, *layers, 3), dtype=dtype, **{"weight": "random", **of_network, **options})
    case = replace(case, network=replace(case.network, seed=2**63 + 12345))
    draw = np.random.default_rng(4)
    for name, view in case.network.views(case.params).items():
        if name.endswith(("gain", "mixture")):
            view *= draw.uniform(0.5, 1.5, view.shape).astype(dtype)
    return case


def loss_case(loss: Loss, dtype: str, weight: str = "some zero") -> Case:
    """A network with a loss."""
    outputs = 3 * loss.group
    network = Network.from_widths((5, 17, outputs), "tanh", loss=loss, dtype=dtype, l2=0.1)
    case = make_case(15, (5, 17, outputs), "tanh", dtype=dtype, weight=weight)
    y = targets(loss.name, 15, outputs, np.random.default_rng(3))
    if loss.group > 1:
        y = np.repeat(np.random.default_rng(3).normal(size=(15, 3)), loss.group, axis=1)
    return Case(network, case.params, case.X, y.astype(dtype), case.weight)


def numbers_of(engine: Engine, case: Case, step: int | None, row_offset: int = 0) -> dict[str, np.ndarray]:
    """Everything that the verbs but `update` and `train_steps` give."""
    plan = engine.plan(case.network, len(case.X))
    out, x_gradient = np.full_like(case.y, np.nan), np.full_like(case.X, np.nan)
    of_loss, of_outputs = np.full_like(case.params, np.nan), np.full_like(case.params, np.nan)
    plan.forward(case.params, case.X, out, step, row_offset)
    output_gradient = np.random.default_rng(1).normal(size=case.y.shape).astype(case.network.dtype)
    plan.backward(case.params, case.X, output_gradient, of_outputs, x_gradient, step, row_offset)
    value = plan.loss_gradient(case.params, case.X, case.y, case.weight, of_loss, step, row_offset)
    return {
        "forward": out, "backward": of_outputs, "x_gradient": x_gradient, "loss": np.array([value]),
        "loss_gradient": of_loss,
    }  # fmt: skip


def doubled(case: Case) -> Case:
    """The same numbers for the same network in float64, whatever its loss."""
    weight = None if case.weight is None else case.weight.astype(np.float64)
    arrays = (array.astype(np.float64) for array in (case.params, case.X, case.y))
    return Case(replace(case.network, dtype="float64"), *arrays, weight)


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], dtype: str) -> None:
    """Within the tolerance of the dtype, relative to the largest number of an array."""
    for name, numbers in expected.items():
        allowed = TOLERANCES[dtype] * np.abs(numbers).max()
        np.testing.assert_allclose(found[name], numbers, rtol=0, atol=allowed, err_msg=name)


@by_dtype
@pytest.mark.parametrize("step", [None, 0, 7, 2**33 + 5])
@by_feature
@by_other
def test_every_feature(engine: Engine, feature: str, step: int | None, dtype: str) -> None:
    case = feature_case(feature, dtype)
    assert_close(numbers_of(engine, case, step, 3), numbers_of(NUMPY, doubled(case), step, 3), dtype)


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
@by_other
def test_a_parametric_unit_takes_every_activation(engine: Engine, activation: str) -> None:
    case = make_case(15, (5, Dense(17, activation, parametric=True, normalization="layer", dropout=0.2), 3))
    case.network.views(case.params)["layers.0.mixture"][:] = np.linspace(-1, 2, 17)
    assert_close(numbers_of(engine, case, 2), numbers_of(NUMPY, case, 2), "float64")


@by_dtype
@pytest.mark.parametrize("loss", FURTHER_LOSSES)
@by_other
def test_every_further_loss(engine: Engine, loss: str, dtype: str) -> None:
    case = loss_case(FURTHER_LOSSES[loss], dtype)
    assert_close(numbers_of(engine, case, None), numbers_of(NUMPY, doubled(case), None), dtype)


@pytest.mark.parametrize("loss", FURTHER_LOSSES)
@by_other
def test_a_row_of_weight_zero_counts_as_removed(engine: Engine, loss: str) -> None:
    case = loss_case(FURTHER_LOSSES[loss], "float64")
    there = case.weight > 0
    case.y[~there] = np.inf
    value, gradient = run_loss_gradient(engine, case)
    rest = Case(case.network, case.params, case.X[there], case.y[there], case.weight[there])
    expected_value, expected = run_loss_gradient(NUMPY, rest)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("first_row", [0, 6])
@pytest.mark.parametrize("step", [0, 3, 2**32 + 9])
@by_engine
def test_every_engine_draws_the_same_mask(engine: Engine, step: int, first_row: int) -> None:
    # a network that passes its inputs on
    network = Network(37, (Dense(37, "identity"),), input_dropout=0.4, seed=2**64 - 3, dtype="float64")
    params = np.concatenate([np.eye(37).ravel(), np.zeros(37)])
    out = np.empty((11, 37))
    engine.plan(network, 11).forward(params, np.ones((11, 37)), out, step, first_row)
    mask = kept(0.4, 11, 37, seed=2**64 - 3, step=step, layer=0, first_row=first_row)
    np.testing.assert_array_equal(out, np.where(mask, 1 / (1 - 0.4), 0))


@by_engine
def test_inference_drops_nothing(engine: Engine) -> None:
    case = make_case(9, (5, Dense(19, "tanh", dropout=0.5), 3), input_dropout=0.5)
    plain = make_case(9, (5, 19, 3), "tanh")
    np.testing.assert_allclose(run_forward(engine, case), run_forward(NUMPY, plain), rtol=1e-12, atol=1e-14)


@by_dtype
@by_other
def test_more_rows_than_a_block(engine: Engine, dtype: str) -> None:
    case = feature_case("everything", dtype, rows=BLOCK_ROWS + 301)
    assert_close(numbers_of(engine, case, 5, 9), numbers_of(NUMPY, doubled(case), 5, 9), dtype)


@by_dtype
@pytest.mark.parametrize("name", OPTIMIZERS)
@by_other
def test_update(engine: Engine, name: str, dtype: str) -> None:
    optimizer, case = OPTIMIZERS[name], feature_case("everything", dtype)
    draw = np.random.default_rng(2)
    gradient = draw.normal(size=case.params.shape).astype(dtype)
    # a gradient of zero on new slots is a step of zero, not 0 / 0
    gradient[::7] = 0
    given = gradient.copy()
    found, expected = ((case.params.copy(), new_slots(optimizer, len(case.params), dtype)) for _ in range(2))
    epsilon = np.finfo(dtype).eps
    for step, rate in enumerate((0.1, 0.01, 0.5, 0.02), start=11):
        engine.plan(case.network, 2).update(optimizer, found[0], gradient, found[1], step, rate)
        NUMPY.plan(case.network, 2).update(optimizer, expected[0], gradient, expected[1], step, rate)
        for a, b in zip(found, expected, strict=True):
            # each step rounds a handful of numbers of at most this size
            np.testing.assert_allclose(a, b, rtol=0, atol=64 * (step - 10) * epsilon * np.abs(b).max())
        np.testing.assert_array_equal(gradient, given)
        gradient, given = gradient * -0.5, given * -0.5


@by_engine
def test_max_norm_bounds_the_weights_into_each_unit(engine: Engine) -> None:
    case = make_case(9, (5, Dense(19, "tanh", max_norm=0.5), 3))
    params, slots = case.params.copy(), new_slots(SGD(), len(case.params), "float64")
    # only what is larger is scaled
    case.network.weights(params)[0][:, 3] *= 0.1
    before = params.copy()
    engine.plan(case.network, 9).update(SGD(), params, np.zeros_like(params), slots, 0, 0.1)
    (first, second), (first_before, second_before) = map(case.network.weights, (params, before))
    norms = np.linalg.norm(first_before, axis=0)
    np.testing.assert_allclose(first, first_before * np.minimum(1, 0.5 / norms), rtol=1e-14)
    np.testing.assert_array_equal(second, second_before)
    np.testing.assert_array_equal(first[:, 3], first_before[:, 3])


@by_dtype
@pytest.mark.parametrize("name", OPTIMIZERS)
@by_engine
def test_train_steps_is_the_loop_of_its_two_verbs(engine: Engine, name: str, dtype: str) -> None:
    position, optimizer = list(OPTIMIZERS).index(name), OPTIMIZERS[name]
    feature = list(FEATURES)[-1 - position % len(FEATURES)]
    case = feature_case(feature, dtype, rows=60)
    draw = np.random.default_rng(3)
    order = np.concatenate([draw.integers(60, size=45), draw.permutation(60)]).astype(np.int64)
    starts = np.array([0, 29, 30, 30, 45, 59, 88, 105], np.int64)
    case.weight[order[45:59]] = 0
    rates = np.linspace(0.02, 0.01, len(starts) - 1)
    first_step = 11
    plan = engine.plan(case.network, 29)
    whole = case.params.copy(), new_slots(optimizer, len(case.params), dtype), np.full(len(rates), np.nan)
    plan.train_steps(
        optimizer, whole[0], whole[1], first_step, case.X, case.y, case.weight, order, starts, rates, whole[2]
    )  # fmt: skip
    loop = case.params.copy(), new_slots(optimizer, len(case.params), dtype), np.full(len(rates), np.nan)
    gradient = np.empty_like(case.params)
    for i, rate in enumerate(rates):
        rows = order[starts[i] : starts[i + 1]]
        batch = case.X[rows], case.y[rows], case.weight[rows]
        loop[2][i] = plan.loss_gradient(loop[0], *batch, gradient, first_step + i)
        if batch[2].sum() != 0:
            plan.update(optimizer, loop[0], gradient, loop[1], first_step + i, rate)
    for what, a, b in zip(("params", "slots", "losses"), whole, loop, strict=True):
        if engine.backend == "numba":
            # compiled twice, so that other products may be fused with their sums
            np.testing.assert_allclose(a, b, rtol=0, atol=2000 * np.finfo(dtype).eps * np.abs(b).max(), err_msg=what)
        else:
            np.testing.assert_array_equal(a, b, err_msg=what)
    assert whole[2][2] == 0.0
