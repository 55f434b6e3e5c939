"""What a layer can have beside its product and activation, in every engine: the verbs against NumPy's, and each other.

Masks are fixed by the network's seed, the step and the place of a row: engines can be compared number by number.
"""

from __future__ import annotations

import numpy as np
import pytest
from matrix import (
    DTYPES,
    ENGINES,
    FEATURE_SETS,
    HIDDEN_ACTIVATIONS,
    NUMPY,
    OTHERS,
    Case,
    Engine,
    make_case,
    make_feature_case,
)

from pymlp.backends import BLOCK_ROWS
from pymlp.layers import Dense
from pymlp.network import Network
from pymlp.optimizers import SGD, Adam, Lion, Optimizer, new_slots
from pymlp.philox import kept

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

# float32 against float64: largest difference relative to the largest number of an array.  Two layers of 33 columns,
# behind norms that divide by deviations of about 1, lose a digit and a half of the seven there are.
FLOAT32_TOLERANCE = 3e-5
FLOAT64_TOLERANCE = 1e-10
# inference, and steps whose number fills both words of a mask's counter
STEPS = (None, 3, 2**33 + 7)
SMOOTH = ("identity", "logistic", "tanh", "gelu", "silu", "mish", "softplus")

by_engine = pytest.mark.parametrize("engine", ENGINES, ids=str)
by_other = pytest.mark.parametrize("engine", OTHERS, ids=str)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_features = pytest.mark.parametrize("features", FEATURE_SETS, ids="-".join)


def verbs(engine: Engine, case: Case, step: int | None, n_threads: int | None = None) -> dict[str, np.ndarray]:
    """What forward, backward and loss_gradient write at a step, for rows from the fifth place of a batch on."""
    network, rows = case.network, len(case.X)
    plan, place = engine.plan(network, rows, n_threads), {"step": step, "row_offset": 5}
    output_gradient = np.random.default_rng(1).normal(size=case.y.shape).astype(network.dtype)
    out, x_gradient = np.full_like(case.y, np.nan), np.full_like(case.X, np.nan)
    gradient, of_loss, alone = (np.full_like(case.params, np.nan) for _ in range(3))
    plan.forward(case.params, case.X, out, **place)
    plan.backward(case.params, case.X, output_gradient, gradient, x_gradient, **place)
    plan.backward(case.params, case.X, output_gradient, gradient=alone, **place)
    np.testing.assert_array_equal(alone, gradient)
    loss = plan.loss_gradient(case.params, case.X, case.y, case.weight, of_loss, **place)
    found = {"out": out, "gradient": gradient, "x_gradient": x_gradient, "of the loss": of_loss}
    return found | {"loss": np.array([loss])}


def train(
    engine: Engine, case: Case, optimizer: Optimizer, n_threads: int | None = None, *, in_one: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameters, slots and losses after some steps, by train_steps or by the loop of its two verbs."""
    rows = len(case.X)
    plan = engine.plan(case.network, rows, n_threads)
    params, slots = case.params.copy(), new_slots(optimizer, len(case.params), case.network.dtype)
    order = np.random.default_rng(4).integers(rows, size=2 * rows + 1)
    starts, rates, losses = np.array([0, rows, 2 * rows, 2 * rows + 1]), np.full(3, 0.02), np.full(3, np.nan)
    if in_one:
        plan.train_steps(
            optimizer, params, slots, 9, case.X, case.y, case.weight, order, starts, rates, losses
        )  # fmt: skip
        return params, slots, losses
    gradient = np.empty_like(params)
    for i, rate in enumerate(rates):
        batch = order[starts[i] : starts[i + 1]]
        weight = None if case.weight is None else case.weight[batch]
        losses[i] = plan.loss_gradient(params, case.X[batch], case.y[batch], weight, gradient, 9 + i)
        plan.update(optimizer, params, gradient, slots, 9 + i, rate)
    return params, slots, losses


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float, name: str) -> None:
    limit = tolerance * max(1e-3, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit, err_msg=name)


@by_features
@by_other
def test_verbs_in_float64(engine: Engine, features: tuple[str, ...]) -> None:
    activation = HIDDEN_ACTIVATIONS[FEATURE_SETS.index(features) % len(HIDDEN_ACTIVATIONS)]
    case = make_feature_case((*features, "penalties"), activation=activation)
    for step in STEPS:
        expected = verbs(NUMPY, case, step)
        for name, found in verbs(engine, case, step).items():
            assert_close(found, expected[name], FLOAT64_TOLERANCE, f"{name}, step {step}")


@by_features
@by_engine
def test_verbs_in_float32(engine: Engine, features: tuple[str, ...]) -> None:
    # no kinks, which would be met on different sides, and no probabilities, which are cut off at each dtype's epsilon
    activation = SMOOTH[FEATURE_SETS.index(features) % len(SMOOTH)]
    case = make_feature_case(features, activation=activation, loss="squared_error", dtype="float32")
    expected = verbs(NUMPY, case.doubled, 3)
    for name, found in verbs(engine, case, 3).items():
        assert_close(found, expected[name], FLOAT32_TOLERANCE, name)


@by_dtype
@by_features
@by_engine
def test_train_steps_is_the_loop_of_its_two_verbs(engine: Engine, features: tuple[str, ...], dtype: str) -> None:
    case = make_feature_case(features, activation="gelu", dtype=dtype)
    optimizer = (Adam(), SGD(average="ema"), Lion(weight_decay=0.1))[FEATURE_SETS.index(features) % 3]
    whole, loop = (train(engine, case, optimizer, in_one=in_one) for in_one in (True, False))
    for name, a, b in zip(("params", "slots", "losses"), whole, loop, strict=True):
        if engine.backend == "numba":
            # compiled twice, so that other products may be fused with their sums
            np.testing.assert_allclose(a, b, rtol=0, atol=500 * np.finfo(dtype).eps * np.abs(b).max(), err_msg=name)
        else:
            assert a.tobytes() == b.tobytes(), name


@by_features
@by_other
def test_training_as_numpy_does_it(engine: Engine, features: tuple[str, ...]) -> None:
    case = make_feature_case((*features, "penalties"), activation="silu")
    optimizer = SGD(average="swa", weight_decay=0.1)
    for name, found, expected in zip(
        ("params", "slots", "losses"), train(engine, case, optimizer), train(NUMPY, case, optimizer), strict=True
    ):
        assert_close(found, expected, 1e-9, name)


@by_other
@pytest.mark.parametrize("width", [1, 2, 5, 16, 31, 64, 130])
def test_every_width(engine: Engine, width: int) -> None:
    # a single column, parts of vectors and bands, whole ones, and bands beyond the fourth, which lie otherwise
    case = make_feature_case(FEATURE_SETS[-1], rows=37, width=width, activation="softplus")
    expected = verbs(NUMPY, case, 3)
    for name, found in verbs(engine, case, 3).items():
        assert_close(found, expected[name], FLOAT64_TOLERANCE, name)


@by_other
def test_more_rows_than_a_block(engine: Engine) -> None:
    case = make_feature_case(FEATURE_SETS[-1], rows=BLOCK_ROWS + 905, width=3, activation="elu")
    expected = verbs(NUMPY, case, 3)
    for name, found in verbs(engine, case, 3).items():
        assert_close(found, expected[name], 1e-9, name)


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
@by_other
def test_a_parametric_unit_takes_every_activation(engine: Engine, activation: str) -> None:
    # mixtures on both sides of 0 and 1
    case = make_case(15, (5, Dense(17, activation, parametric=True, dropout=0.2), 3))
    case.network.views(case.params)["layers.0.mixture"][:] = np.linspace(-1, 2, 17)
    expected = verbs(NUMPY, case, 3)
    for name, found in verbs(engine, case, 3).items():
        assert_close(found, expected[name], FLOAT64_TOLERANCE, name)


@pytest.mark.parametrize("input_dropout", [0.0, 0.3])
@by_other
def test_a_residual_of_the_inputs(engine: Engine, input_dropout: float) -> None:
    # two rows read the first buffer, or what the mask makes of it
    case = make_case(15, (5, Dense(5, "tanh", residual=True), 3), input_dropout=input_dropout)
    expected = verbs(NUMPY, case, 3)
    for name, found in verbs(engine, case, 3).items():
        assert_close(found, expected[name], FLOAT64_TOLERANCE, name)


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
def test_a_batch_in_two_shards(engine: Engine) -> None:
    # row_offset: what makes shards of a batch, on several machines, draw the masks of the whole
    case = make_feature_case(("dropout", "input dropout"), rows=20, weight="none")
    plan = engine.plan(case.network, 20)
    whole, parts = np.empty_like(case.y), np.empty_like(case.y)
    gradient, sums = np.empty_like(case.params), np.zeros_like(case.params)
    plan.forward(case.params, case.X, whole, step=4)
    plan.loss_gradient(case.params, case.X, case.y, None, gradient, step=4)
    for rows in (slice(0, 7), slice(7, 20)):
        plan.forward(case.params, case.X[rows], parts[rows], step=4, row_offset=rows.start)
        part, X = np.empty_like(gradient), case.X[rows]
        plan.loss_gradient(case.params, X, case.y[rows], None, part, step=4, row_offset=rows.start)
        sums += part * len(X)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    np.testing.assert_allclose(sums / 20, gradient, rtol=1e-10, atol=1e-13)


@by_engine
def test_dropout_keeps_its_share_and_the_mean(engine: Engine) -> None:
    case = make_feature_case(("input dropout",), rows=4000, width=33, layers=0, loss="squared_error")
    case.params[:] = 0
    case.network.weights(case.params)[0][:3] = np.eye(3)
    case.X[:] = 1
    plan = engine.plan(case.network, 4000)
    outputs = []
    for step in (0, 1):
        outputs.append(np.empty_like(case.y))
        plan.forward(case.params, case.X, outputs[-1], step=step)
    kept = np.stack(outputs) != 0
    np.testing.assert_allclose(np.stack(outputs)[kept], 1 / 0.75, rtol=1e-15)
    # five deviations of a share of 24,000
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / kept.size)
    assert abs((kept[0] & kept[1]).mean() - 0.75**2) < 0.02
    plan.forward(case.params, case.X, outputs[0])
    np.testing.assert_array_equal(outputs[0], 1)


@by_engine
def test_only_norms_that_are_too_large_are_scaled_down(engine: Engine) -> None:
    case = make_case(9, (5, Dense(19, "tanh", max_norm=0.5), 3))
    params, slots = case.params.copy(), new_slots(SGD(), len(case.params), "float64")
    case.network.weights(params)[0][:, 3] *= 0.1
    before = params.copy()
    engine.plan(case.network, 9).update(SGD(), params, np.zeros_like(params), slots, 0, 0.1)
    (first, second), (first_before, second_before) = map(case.network.weights, (params, before))
    norms = np.linalg.norm(first_before, axis=0)
    np.testing.assert_allclose(first, first_before * np.minimum(1, 0.5 / norms), rtol=1e-14)
    np.testing.assert_array_equal(first[:, 3], first_before[:, 3])
    np.testing.assert_array_equal(second, second_before)


@by_engine
def test_largest_norms_hold_after_each_step(engine: Engine) -> None:
    case = make_feature_case(("max_norm",), rows=40)
    params, slots, _ = train(engine, case, SGD(average="swa"))
    for weight in case.network.weights(params):
        assert np.linalg.norm(weight, axis=0).max() <= 0.6 * (1 + 1e-12)
    # a mean of such weights is within the limit as well, as it would not be of weights before they are scaled down
    for weight in case.network.weights(slots[-1]):
        assert np.linalg.norm(weight, axis=0).max() <= 0.6 * (1 + 1e-12)
