"""The optimizers' definition: one step by hand, scikit-learn's own optimizers, coefficients, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from pymlp.backends import get
from pymlp.network import Dense, Network
from pymlp.optimizers import (
    DECAY,
    OPTIMIZERS,
    SGD,
    SIZE,
    Adam,
    AdamW,
    Lion,
    NAdam,
    Optimizer,
    RMSprop,
    Rprop,
    clipped,
    new_slots,
)


def run(optimizer: Optimizer, gradients: list[np.ndarray], rates: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Parameters (from zero) and slots after the steps."""
    params = np.zeros_like(gradients[0])
    slots = new_slots(optimizer, len(params), "float64")
    coefficients = optimizer.coefficients(0, np.array(rates))
    assert coefficients.shape == (len(rates), 4)
    assert coefficients.dtype == np.float64
    for gradient, numbers in zip(gradients, coefficients, strict=True):
        params -= numbers[DECAY] * params
        optimizer.apply(params, gradient, slots, numbers)
    return params, slots


def test_registry() -> None:
    assert list(OPTIMIZERS.values()) == [SGD, Adam, AdamW, NAdam, RMSprop, Lion, Rprop]
    for name, kind in OPTIMIZERS.items():
        assert kind().name == name
        slots = new_slots(kind(), 5, "float32")
        assert slots.shape == (kind.own_slots, 5)
        assert slots.dtype == "float32"
        assert not slots.any()


def test_momentum_by_hand() -> None:
    gradients = [np.array([1.0]), np.array([2.0])]
    # v1 = -0.1, v2 = 0.5 (-0.1) - 0.2 = -0.25
    params, slots = run(SGD(0.5, nesterov=False), gradients, [0.1, 0.1])
    np.testing.assert_allclose(params, [-0.35])
    np.testing.assert_allclose(slots, [[-0.25]])
    # 0.5 v1 - 0.1, then 0.5 v2 - 0.2
    params, slots = run(SGD(0.5, nesterov=True), gradients, [0.1, 0.1])
    np.testing.assert_allclose(params, [(-0.05 - 0.1) + (-0.125 - 0.2)])
    np.testing.assert_allclose(slots, [[-0.25]])
    params, _ = run(SGD(0.0), gradients, [0.1, 0.2])
    np.testing.assert_allclose(params, [-0.5])


def test_adam_by_hand() -> None:
    params, slots = run(Adam(), [np.array([3.0, -0.5, 0.0])], [0.1])
    # the first step is the rate, whatever the gradient's size, and none for a gradient of zero
    np.testing.assert_allclose(params, [-0.1, 0.1, 0.0], rtol=1e-6)
    np.testing.assert_allclose(slots, [[0.3, -0.05, 0.0], [9e-3, 2.5e-4, 0.0]])


def test_adam_epsilon_stands_outside_the_root() -> None:
    params, _ = run(Adam(epsilon=10.0), [np.array([4.0])], [1.0])
    size = np.sqrt(1 - 0.999) / (1 - 0.9)
    np.testing.assert_allclose(params, [-size * 0.4 / (np.sqrt(0.001 * 16) + 10)])


@pytest.mark.parametrize("first", [0, 1000, 1023, 1024, 2047, 40_000])
def test_powers_of_the_betas(first: int) -> None:
    adam, steps = Adam(0.9, 0.999), range(first, first + 60)
    sizes = [1e-3 * (1 - 0.999 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1)) for step in steps]
    np.testing.assert_allclose(adam.coefficients(first, np.full(60, 1e-3))[:, 0], sizes, rtol=4e-16)
    # beta_1 == 0 is allowed
    np.testing.assert_allclose(Adam(0.0, 0.5).coefficients(0, np.array([1.0]))[0, 0], 0.5**0.5)


def test_adamw_decays_before_the_step_and_by_the_rate() -> None:
    network = Network(1, (Dense(1, "identity"),), dtype="float64")
    optimizer = AdamW(weight_decay=0.5)
    params, slots = np.array([2.0, 3.0]), new_slots(optimizer, 2, "float64")
    assert optimizer.coefficients(0, np.array([0.1]))[0, DECAY] == pytest.approx(0.05)
    get("numpy").Plan(network, 1).update(optimizer, params, np.ones(2), slots, 0, 0.1)
    # the bias does not decay
    np.testing.assert_allclose(params, [2.0 * 0.95 - 0.1, 3.0 - 0.1], rtol=1e-6)
    same, _ = run(AdamW(weight_decay=0.0), [np.array([1.0])], [0.1])
    expected, _ = run(Adam(), [np.array([1.0])], [0.1])
    np.testing.assert_array_equal(same, expected)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_against_scikit_learn(momentum: float, nesterov: bool) -> None:
    reference = pytest.importorskip("sklearn.neural_network._stochastic_optimizers", reason="the reference here")
    gradients = list(np.random.default_rng(0).normal(size=(20, 5)))
    params = [np.zeros(5)]
    theirs = reference.SGDOptimizer(params, 0.05, "constant", momentum, nesterov)
    for gradient in gradients:
        theirs.update_params(params, [gradient])
    ours, _ = run(SGD(momentum, nesterov), gradients, [0.05] * 20)
    np.testing.assert_allclose(ours, params[0], rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize(("beta_1", "beta_2", "epsilon"), [(0.9, 0.999, 1e-8), (0.0, 0.5, 1e-3)])
def test_adam_against_scikit_learn(beta_1: float, beta_2: float, epsilon: float) -> None:
    reference = pytest.importorskip("sklearn.neural_network._stochastic_optimizers", reason="the reference here")
    gradients = list(np.random.default_rng(1).normal(size=(20, 5)))
    params = [np.zeros(5)]
    theirs = reference.AdamOptimizer(params, 0.01, beta_1, beta_2, epsilon)
    for gradient in gradients:
        theirs.update_params(params, [gradient])
    ours, _ = run(Adam(beta_1, beta_2, epsilon), gradients, [0.01] * 20)
    np.testing.assert_allclose(ours, params[0], rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_coefficients_do_not_depend_on_how_a_run_is_cut(kind: type) -> None:
    optimizer, rates = kind(), np.linspace(0.1, 0.01, 50)
    whole = optimizer.coefficients(0, rates)
    parts = [optimizer.coefficients(i, rates[i : i + 10]) for i in range(0, 50, 10)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert optimizer.coefficients(0, np.array([])).shape == (0, 4)


def test_adams_correction_fades() -> None:
    size = Adam().coefficients(10**6, np.array([0.1]))[0, SIZE]
    assert size == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (SGD, {"nesterov": "no"}, "nesterov must be True or False, got 'no'"),
        (SGD, {"momentum": 1.5}, r"momentum must be in \[0, 1\], got 1.5"),
        (SGD, {"momentum": -0.1}, r"momentum must be in \[0, 1\], got -0.1"),
        (SGD, {"momentum": np.nan}, r"momentum must be in \[0, 1\], got nan"),
        (Adam, {"beta_1": 1.0}, r"beta_1 must be in \[0, 1\), got 1.0"),
        (Adam, {"beta_2": -1}, r"beta_2 must be in \[0, 1\), got -1"),
        (Adam, {"epsilon": 0}, r"epsilon must be in \(0, inf\), got 0"),
        (AdamW, {"beta_2": 1.0}, r"beta_2 must be in \[0, 1\), got 1.0"),
        (AdamW, {"weight_decay": -0.1}, r"weight_decay must be in \[0, inf\), got -0.1"),
        (SGD, {"weight_decay": -1.0}, r"weight_decay must be in \[0, inf\), got -1.0"),
        (Lion, {"clip_norm": 0.0}, r"clip_norm must be in \(0, inf\), got 0.0"),
        (Lion, {"clip_value": -1.0}, r"clip_value must be in \(0, inf\), got -1.0"),
        (Lion, {"beta_1": 1.0}, r"beta_1 must be in \[0, 1\), got 1.0"),
        (Adam, {"average": "mean"}, "average must be None, 'ema' or 'swa', got 'mean'"),
        (Adam, {"average_decay": 1.0}, r"average_decay must be in \[0, 1\), got 1.0"),
        (Adam, {"average_start": -1}, "average_start must be in"),
        (RMSprop, {"rho": 1.0}, r"rho must be in \[0, 1\), got 1.0"),
        (RMSprop, {"momentum": 2.0}, r"momentum must be in \[0, 1\], got 2.0"),
        (Rprop, {"shrink": 1.0}, r"shrink must be in \(0, 1\), got 1.0"),
        (Rprop, {"grow": 1.0}, r"grow must be in \(1, inf\), got 1.0"),
        (Rprop, {"least": 0.0}, r"least must be in \(0, inf\), got 0.0"),
        (Rprop, {"most": 1e-9}, r"most must be in \[1e-06, inf\), got 1e-09"),
        (AdamW, {"weight_decay": np.inf}, r"weight_decay must be in \[0, inf\), got inf"),
    ],
)
def test_refusals(kind: type, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_momentum_of_one_is_allowed() -> None:
    assert SGD(momentum=1.0).momentum == 1.0


@pytest.mark.parametrize(
    ("ours", "name", "options", "rtol"),
    [
        (SGD(0.8, weight_decay=0.0), "SGD", {"momentum": 0.8, "nesterov": True}, 1e-13),
        (SGD(0.8, nesterov=False), "SGD", {"momentum": 0.8}, 1e-13),
        # PyTorch adds epsilon after the correction of the second moment: it must not count
        (Adam(0.8, 0.9, 1e-30), "Adam", {"betas": (0.8, 0.9), "eps": 1e-30}, 1e-12),
        (
            AdamW(0.8, 0.9, 1e-30, weight_decay=0.3),
            "AdamW",
            {"betas": (0.8, 0.9), "eps": 1e-30, "weight_decay": 0.3},
            1e-12,
        ),
        (RMSprop(0.9, 0.0, 1e-3), "RMSprop", {"alpha": 0.9, "eps": 1e-3}, 1e-12),
        (RMSprop(0.95, 0.7, 1e-3), "RMSprop", {"alpha": 0.95, "momentum": 0.7, "eps": 1e-3}, 1e-12),
        (Rprop(), "Rprop", {}, 1e-12),
        (Rprop(0.4, 1.6, 0.01, 0.2), "Rprop", {"etas": (0.4, 1.6), "step_sizes": (0.01, 0.2)}, 1e-12),
    ],
    ids=str,
)
def test_against_torch(ours: Optimizer, name: str, options: dict, rtol: float) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the reference here")
    draw = np.random.default_rng(4)
    gradients = list(draw.normal(size=(20, 6)))
    start = draw.normal(size=6)
    theirs = torch.nn.Parameter(torch.tensor(start))
    optimizer = getattr(torch.optim, name)([theirs], lr=0.05, **options)
    params, slots = start.copy(), new_slots(ours, 6, "float64")
    coefficients = ours.coefficients(0, np.full(20, 0.05))
    for gradient, numbers in zip(gradients, coefficients, strict=True):
        theirs.grad = torch.tensor(gradient)
        optimizer.step()
        params -= numbers[DECAY] * params
        ours.apply(params, gradient, slots, numbers)
    np.testing.assert_allclose(params, theirs.detach().numpy(), rtol=rtol, atol=1e-14)


def test_clipping_against_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the reference here")
    gradient = np.random.default_rng(5).normal(size=50)
    for largest in (0.5, 100.0):
        theirs = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
        theirs.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_([theirs], largest)
        # PyTorch adds 1e-6 to the norm
        np.testing.assert_allclose(clipped(SGD(clip_norm=largest), gradient), theirs.grad.numpy(), rtol=1e-5)
    theirs.grad = torch.tensor(gradient)
    torch.nn.utils.clip_grad_value_([theirs], 0.3)
    np.testing.assert_array_equal(clipped(SGD(clip_value=0.3), gradient), theirs.grad.numpy())


def test_nadam_by_hand() -> None:
    params, slots = run(NAdam(0.5, 0.75, 1e-30), [np.array([2.0]), np.array([-1.0])], [0.1, 0.1])
    # step 1: m = 1, v = 1; 0.1 sqrt(1/4) (0.5 m / 0.75 + 0.5 g / 0.5) / sqrt(v)
    first = 0.1 * 0.5 * (0.5 / 0.75 + 2.0)
    # step 2: m = 0, v = 1; 0.1 sqrt(7/16) (0 + 0.5 g / 0.75)
    second = 0.1 * np.sqrt(7 / 16) * (0.5 * -1.0 / 0.75)
    np.testing.assert_allclose(params, [-first - second], rtol=1e-14)
    np.testing.assert_allclose(slots, [[0.0], [1.0]], atol=1e-16)


def test_lion_by_hand() -> None:
    # directions: 0.5 * 1 > 0; then m = 0.25 and 0.5 * 0.25 - 0.5 * 0.2 > 0 against the gradient's sign; then m < 0
    params, slots = run(Lion(0.5, 0.75), [np.array([1.0]), np.array([-0.2]), np.array([-1.0])], [0.1, 0.1, 0.1])
    np.testing.assert_allclose(params, [-0.1 - 0.1 + 0.1], atol=1e-16)
    np.testing.assert_allclose(slots, [[0.75 * (0.75 * 0.25 - 0.05) - 0.25]])


def test_rprop_forgets_the_gradient_where_its_sign_has_changed() -> None:
    gradients = [np.array([value]) for value in (3.0, 0.1, -5.0, -0.2, -0.2)]
    params, slots = run(Rprop(), gradients, [0.1] * 5)
    # steps: 0.1, 0.12, none (the length is halved to 0.06), 0.06 the other way, 0.072
    np.testing.assert_allclose(params, [-0.1 - 0.12 + 0.06 + 0.072], rtol=1e-14)
    np.testing.assert_allclose(slots, [[-0.2], [0.072]])
