"""What a layer can do beyond the plain network: every engine against the NumPy backend, and the same masks.

float64 to rounding; float32 against NumPy in float64, within `TOLERANCES` of the largest number (no analysis as in
`error_bounds`, since normalisation divides by deviations).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matrix import (
    DTYPES,
    ENGINES,
    HIDDEN_ACTIVATIONS,
    NUMPY,
    OTHERS,
    Case,
    Engine,
    make_case,
    run_forward,
)

from pymlp.backends import BLOCK_ROWS
from pymlp.layers import Dense
from pymlp.network import Network
from pymlp.optimizers import SGD, AdamW, new_slots
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
    assert_close(numbers_of(engine, case, step, 3), numbers_of(NUMPY, case.doubled, step, 3), dtype)


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
@by_other
def test_a_parametric_unit_takes_every_activation(engine: Engine, activation: str) -> None:
    case = make_case(15, (5, Dense(17, activation, parametric=True, normalization="layer", dropout=0.2), 3))
    case.network.views(case.params)["layers.0.mixture"][:] = np.linspace(-1, 2, 17)
    assert_close(numbers_of(engine, case, 2), numbers_of(NUMPY, case, 2), "float64")


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
    assert_close(numbers_of(engine, case, 5, 9), numbers_of(NUMPY, case.doubled, 5, 9), dtype)


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
@by_feature
@by_engine
def test_train_steps_is_the_loop_of_its_two_verbs(engine: Engine, feature: str, dtype: str) -> None:
    optimizer = AdamW(weight_decay=0.1, clip_norm=0.05, average="ema")
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
            np.testing.assert_allclose(a, b, rtol=0, atol=500 * np.finfo(dtype).eps * np.abs(b).max(), err_msg=what)
        else:
            np.testing.assert_array_equal(a, b, err_msg=what)
    assert whole[2][2] == 0.0
