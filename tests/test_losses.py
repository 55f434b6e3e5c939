"""The registry of losses against what others compute: by hand, scikit-learn's metrics, PyTorch; and refusals."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special
from sklearn.base import clone

from pymlp import losses
from pymlp.functions import ACTIVATIONS
from pymlp.losses import (
    LOSSES,
    AbsoluteError,
    BinaryFocal,
    BinaryLogLoss,
    CompiledLoss,
    CustomLoss,
    Focal,
    GaussianNLL,
    Huber,
    LogLoss,
    Loss,
    Quantile,
    SquaredError,
    Tweedie,
    described_loss,
    loss_description,
    loss_of,
)

DRAW = np.random.default_rng(0)
NUMBERS = DRAW.normal(size=(40, 3)), DRAW.normal(size=(40, 3))
AMOUNTS = DRAW.gamma(2.0, 1.0, (40, 3)), DRAW.gamma(2.0, 1.0, (40, 3))
COUNTS = DRAW.poisson(1.5, (40, 3)).astype(float), AMOUNTS[1]
CLASSES = np.eye(3)[DRAW.integers(3, size=40)], DRAW.dirichlet(np.ones(3), 40)
LABELS = DRAW.integers(2, size=(40, 3)).astype(float), DRAW.random((40, 3))


def by_output(loss: Loss, y: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Gradient by the outputs, which is that by the scores where the output activation is the identity."""
    assert loss.output_activation == "identity"
    return loss.score_gradient(y, output)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_losses_of_one_row() -> None:
    y, p = np.array([[0.0, 1.0, 0.25]]), np.array([[0.5, 0.3, 0.2]])
    expected = {
        "squared_error": (0.25 + 0.49 + 0.0025) / 6,
        "log_loss": -math.log(0.3) - 0.25 * math.log(0.2),
        "binary_log_loss": -math.log(0.5) - math.log(0.3) - 0.25 * math.log(0.2) - 0.75 * math.log(0.8),
        "poisson": 0.5 + (-math.log(0.3) - 0.7) + (0.25 * math.log(1.25) - 0.05),
    }
    for name, value in expected.items():
        assert LOSSES[name].value(y, p)[0] == pytest.approx(value, rel=1e-14), name
        np.testing.assert_allclose(LOSSES[name].score_gradient(y, p), p - y)


@pytest.mark.parametrize(
    ("loss", "target", "output", "value", "slope"),
    [
        ("absolute_error", 1.0, 3.0, 2.0, 1.0),
        ("absolute_error", 1.0, 1.0, 0.0, 0.0),
        (Huber(0.5), 1.0, 1.25, 0.03125, 0.25),
        (Huber(0.5), 1.0, -1.0, 0.5 * (2.0 - 0.25), -0.5),
        ("hinge", 1.0, 0.25, 0.75, -1.0),
        ("hinge", 0.0, 0.25, 1.25, 1.0),
        ("hinge", 1.0, 1.0, 0.0, -1.0),
        ("hinge", 1.0, 1.5, 0.0, 0.0),
        ("perceptron", 1.0, -0.5, 0.5, -1.0),
        ("perceptron", 0.0, -0.5, 0.0, 0.0),
        ("perceptron", 1.0, 0.0, 0.0, -1.0),
        ("squared_hinge", 1.0, 0.25, 0.5625, -1.5),
        ("squared_hinge", 0.0, -2.0, 0.0, 0.0),
    ],
)
def test_values_and_slopes_by_hand(loss: Any, target: float, output: float, value: float, slope: float) -> None:
    y, p = np.array([[target]]), np.array([[output]])
    assert loss_of(loss).value(y, p)[0] == pytest.approx(value, rel=1e-15)
    assert by_output(loss_of(loss), y, p)[0, 0] == slope


def test_quantiles_by_hand() -> None:
    loss = Quantile([0.25, 0.75])
    z = np.array([[1.0, 0.5]])
    output = ACTIVATIONS["ascending"].value(z, 2)
    np.testing.assert_allclose(output, [[1.0, 1.0 + math.log1p(math.exp(0.5))]])
    # above the first quantile, below the second: their gradients by the outputs are -0.25 and 0.25
    y = np.full((1, 2), 1.5)
    np.testing.assert_allclose(loss.value(y, output), [(0.25 * 0.5 + 0.25 * (output[0, 1] - 1.5)) / 2])
    np.testing.assert_allclose(loss.score_gradient(y, output, z), [[0.0, 0.25 * special.expit(0.5)]])


@pytest.mark.parametrize("name", ["log_loss", "binary_log_loss", "focal", "binary_focal"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_certain_and_wrong_answer_costs_a_finite_amount(name: str, dtype: str) -> None:
    # as scikit-learn: clipped at the precision of the dtype
    value = LOSSES[name].value(np.array([[1.0, 0.0]], dtype), np.array([[0.0, 1.0]], dtype))
    assert value[0] >= -math.log(np.finfo(dtype).eps) * 0.99
    assert np.isfinite(value).all()


def test_perfect_predictions_cost_nothing() -> None:
    y = np.array([[1.0, 2.0]])
    for name in ("squared_error", "absolute_error", "huber", "poisson", "gamma"):
        assert LOSSES[name].value(y, y)[0] == 0, name
    assert LOSSES["tweedie"].value(y, y)[0] == pytest.approx(0, abs=1e-14)


def test_smoothing_is_a_mixture_of_targets() -> None:
    y, p = CLASSES
    mixed = 0.9 * y + 0.1 / 3
    np.testing.assert_allclose(LogLoss(0.1).value(y, p), LogLoss().value(mixed, p), rtol=1e-14)
    np.testing.assert_allclose(LogLoss(0.1).score_gradient(y, p), p - mixed, atol=1e-15)
    y, p = LABELS
    mixed = 0.8 * y + 0.1
    np.testing.assert_allclose(BinaryLogLoss(0.2).value(y, p), BinaryLogLoss().value(mixed, p), rtol=1e-14)
    np.testing.assert_allclose(BinaryLogLoss(0.2).score_gradient(y, p), p - mixed, atol=1e-15)


def test_focal_losses_by_hand() -> None:
    y, p = CLASSES
    true = (y * p).sum(axis=1)
    np.testing.assert_allclose(Focal(3.0).value(y, p), -((1 - true) ** 3) * np.log(true), rtol=1e-13)
    np.testing.assert_allclose(Focal(0.0).value(y, p), LogLoss().value(y, p), rtol=1e-14)
    np.testing.assert_allclose(Focal(0.0).score_gradient(y, p), LogLoss().score_gradient(y, p), atol=1e-14)
    y, p = LABELS
    true = np.where(y == 1, p, 1 - p)
    np.testing.assert_allclose(BinaryFocal(2.0).value(y, p), (-((1 - true) ** 2) * np.log(true)).sum(axis=1))
    np.testing.assert_allclose(BinaryFocal(0.0).score_gradient(y, p), p - y, atol=1e-14)


# --- scikit-learn -----------------------------------------------------------------------------------------------------


def test_log_loss_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference here")
    y, p = CLASSES
    expected = metrics.log_loss(y.argmax(axis=1), p, labels=range(3))
    assert LOSSES["log_loss"].value(y, p).mean() == pytest.approx(expected, rel=1e-13)


def test_hinge_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference here")
    y, output = LABELS[0][:, :1], NUMBERS[1][:, :1]
    expected = metrics.hinge_loss(y[:, 0], output[:, 0])
    assert LOSSES["hinge"].value(y, output).mean() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("level", [0.05, 0.5, 0.8])
def test_quantile_against_scikit_learn(level: float) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference here")
    y, output = NUMBERS
    expected = metrics.mean_pinball_loss(y, output, alpha=level)
    assert Quantile([level]).value(y, output).mean() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("loss", "power", "data"),
    [
        ("squared_error", 0, NUMBERS),
        ("poisson", 1, COUNTS),
        (Tweedie(1.1), 1.1, COUNTS),
        (Tweedie(1.5), 1.5, COUNTS),
        (Tweedie(1.9), 1.9, COUNTS),
        ("gamma", 2, AMOUNTS),
    ],
)
def test_half_deviances_against_scikit_learn(loss: Any, power: float, data: tuple[np.ndarray, np.ndarray]) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference here")
    y, output = (array[:, :1] for array in data)
    expected = metrics.mean_tweedie_deviance(y[:, 0], output[:, 0], power=power) / 2
    assert loss_of(loss).value(y, output).mean() == pytest.approx(expected, rel=1e-12)


# --- PyTorch ----------------------------------------------------------------------------------------------------------


def torch_functions() -> Any:
    return pytest.importorskip("torch.nn.functional", reason="PyTorch is the reference here")


def torch_gradient(function: Callable[[Any], Any], scores: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and gradient of a function of the scores, by PyTorch."""
    torch = pytest.importorskip("torch")
    z = torch.tensor(scores, requires_grad=True)
    value = function(z)
    value.backward()
    return value.item(), z.grad.numpy()


@pytest.mark.parametrize("delta", [0.3, 1.0, 5.0])
def test_huber_against_torch(delta: float) -> None:
    functions, torch = torch_functions(), pytest.importorskip("torch")
    y, output = NUMBERS
    value, gradient = torch_gradient(
        lambda z: functions.huber_loss(z, torch.tensor(y), delta=delta, reduction="sum"), output
    )
    assert 3 * Huber(delta).value(y, output).sum() == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(Huber(delta).score_gradient(y, output), gradient, rtol=1e-13)


def test_gaussian_nll_against_torch() -> None:
    functions, torch = torch_functions(), pytest.importorskip("torch")
    loss, z = GaussianNLL(), DRAW.normal(size=(40, 4))
    target = DRAW.normal(size=(40, 2))

    def reference(z: Any) -> Any:
        deviation = functions.softplus(z[:, 1::2]) + 1e-6
        return functions.gaussian_nll_loss(
            z[:, 0::2], torch.tensor(target), deviation**2, full=True, eps=1e-30, reduction="sum"
        )

    value, gradient = torch_gradient(reference, z)
    y, output = np.repeat(target, 2, axis=1), ACTIVATIONS["mean_deviation"].value(z, 2)
    assert loss.value(y, output).sum() == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(loss.score_gradient(y, output, z), gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_log_loss_against_torch(smoothing: float) -> None:
    functions, torch = torch_functions(), pytest.importorskip("torch")
    labels = CLASSES[0].argmax(axis=1)
    value, gradient = torch_gradient(
        lambda z: functions.cross_entropy(z, torch.tensor(labels), label_smoothing=smoothing, reduction="sum"),
        NUMBERS[0],
    )
    loss, p = LogLoss(smoothing), special.softmax(NUMBERS[0], axis=1)
    assert loss.value(CLASSES[0], p).sum() == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(loss.score_gradient(CLASSES[0], p), gradient, atol=1e-14)


def test_focal_losses_against_the_gradients_of_torch() -> None:
    functions, torch = torch_functions(), pytest.importorskip("torch")
    z = NUMBERS[0]

    def focal(z: Any) -> Any:
        logarithm = functions.log_softmax(z, dim=1)
        return -(torch.tensor(CLASSES[0]) * (1 - logarithm.exp()) ** 2 * logarithm).sum()

    def binary_focal(z: Any) -> Any:
        y, p = torch.tensor(LABELS[0]), torch.sigmoid(z)
        return -(y * (1 - p) ** 2 * p.log() + (1 - y) * p**2 * (1 - p).log()).sum()

    for loss, function, y, p in (
        (Focal(), focal, CLASSES[0], special.softmax(z, axis=1)),
        (BinaryFocal(), binary_focal, LABELS[0], special.expit(z)),
    ):
        value, gradient = torch_gradient(function, z)
        assert loss.value(y, p).sum() == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(loss.score_gradient(y, p), gradient, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", ["poisson", "gamma", "tweedie"])
def test_gradients_of_deviances_against_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the reference here")
    z, target = NUMBERS[0], AMOUNTS[0]

    def deviance(z: Any) -> Any:
        y, mean = torch.tensor(target), z.exp()
        if name == "poisson":
            return (mean - y * z).sum()
        if name == "gamma":
            return (y / mean + z).sum()
        return (2 * mean**0.5 + 2 * y * mean**-0.5).sum()

    _, gradient = torch_gradient(deviance, z)
    np.testing.assert_allclose(LOSSES[name].score_gradient(target, np.exp(z)), gradient, rtol=1e-11, atol=1e-13)


# --- option objects, and losses of one's own --------------------------------------------------------------------------


def test_registry() -> None:
    for name, row in LOSSES.items():
        assert row.name == name
        assert loss_of(name) is row
        assert loss_of(row) is row
        assert row.output_activation in ACTIVATIONS
        assert described_loss(loss_description(row)) == row
        assert pickle.loads(pickle.dumps(row)) == row
    assert loss_description("huber") == "huber"
    assert described_loss("huber") == "huber"


def own(y: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ((output - y) ** 2).sum(axis=1), 2 * (output - y)


def test_a_callable_stands_for_a_custom_loss() -> None:
    loss = loss_of(own)
    assert loss == CustomLoss(own)
    y, output = NUMBERS
    np.testing.assert_allclose(loss.value(y, output), 6 * SquaredError().value(y, output))
    np.testing.assert_allclose(loss.score_gradient(y, output), 2 * (output - y))
    # through an output activation
    z = NUMBERS[0]
    p = special.expit(z)
    gradient = CustomLoss(own, "logistic").score_gradient(y, p, z)
    np.testing.assert_allclose(gradient, 2 * (p - y) * p * (1 - p), rtol=1e-14)


def test_a_file_does_not_hold_a_function() -> None:
    described = loss_description(CustomLoss(own, "logistic"))
    assert described == {"option": "CustomLoss", "parameters": {"output_activation": "logistic"}}
    loss = described_loss(described)
    assert loss.output_activation == "logistic"
    with pytest.raises(ValueError, match="a loss of its own, which neither a file nor another process holds"):
        loss.value(*NUMBERS)


class Code:
    """Compiled code as Numba holds it: with an address, and with what can neither be copied nor pickled."""

    address = 4096

    def __reduce__(self) -> None:
        raise TypeError("not to be pickled")


def test_compiled_code_is_copied_and_pickled_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = CompiledLoss(Code(), "softmax")
    for copied in (copy.deepcopy(loss), clone(loss), pickle.loads(pickle.dumps(loss))):
        # a new object: set_params changes one in place
        assert type(copied) is CompiledLoss
        assert copied is not loss
        assert copied.function is loss.function
        assert copied.output_activation == "softmax"
    stored = pickle.dumps(loss)
    monkeypatch.setattr(losses, "_PROCESS", bytes(16))
    elsewhere = pickle.loads(stored)
    # nothing is called that lies at the address by chance
    assert not isinstance(elsewhere, CompiledLoss)
    assert elsewhere.output_activation == "softmax"
    with pytest.raises(ValueError, match="neither a file nor another process holds"):
        elsewhere.value(np.zeros((1, 2)), np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: loss_of("hubert"), "loss='hubert' is unknown; known: squared_error, absolute_error, huber"),
        (lambda: loss_of(LogLoss), "loss must be a name, an object of pymlp.losses or a callable, got <class"),
        (lambda: loss_of(3), "loss must be a name, an object of pymlp.losses or a callable, got 3"),
        (lambda: Huber(0), r"delta must be in \(0, inf\), got 0"),
        (lambda: Huber(math.nan), r"delta must be in \(0, inf\), got nan"),
        (lambda: Quantile(0.5), "levels must be a sequence of at least one number"),
        (lambda: Quantile([]), "levels must be a sequence of at least one number"),
        (lambda: Quantile([0.0, 0.5]), r"levels must be in \(0, 1\), got 0.0"),
        (lambda: Quantile([0.5, 0.5]), r"levels must ascend, got \[0.5, 0.5\]"),
        (lambda: LogLoss(1.5), r"label_smoothing must be in \[0, 1\], got 1.5"),
        (lambda: BinaryLogLoss(-0.1), r"label_smoothing must be in \[0, 1\], got -0.1"),
        (lambda: Focal(-1.0), r"gamma must be in \[0, inf\), got -1.0"),
        (lambda: Tweedie(1.0), r"power must be in \(1, 2\), got 1.0"),
        (lambda: Tweedie(2.0), r"power must be in \(1, 2\), got 2.0"),
        (lambda: CustomLoss(own, "softmin"), "output_activation='softmin' is unknown; known: identity"),
        (lambda: CompiledLoss("f"), "function must be an address, or have one as its attribute, got 'f'"),
        (lambda: CompiledLoss(0), "function must be an address, or have one as its attribute, got 0"),
        (lambda: CompiledLoss(1, "softmin"), "output_activation='softmin' is unknown; known: identity"),
        (
            lambda: described_loss({"option": "Adam", "parameters": {}}),
            "not the description of an option object: {'option': 'Adam'",
        ),
        (lambda: described_loss({"option": "Hubert", "parameters": {}}), "not the description of an option object"),
    ],
)
def test_refusals(make: Callable[[], Any], message: str) -> None:
    import pymlp.optimizers  # noqa: F401  (its option objects are known by name)

    with pytest.raises(ValueError, match=message):
        make()


def test_parameters_change_all_or_none() -> None:
    loss = Huber(2.0)
    with pytest.raises(ValueError, match="delta must be in"):
        loss.set_params(delta=-1.0)
    assert loss.delta == 2.0
    assert loss.set_params(delta=3.0).numbers == (3.0,)
    with pytest.raises(ValueError, match="has no parameter 'alpha'"):
        AbsoluteError().set_params(alpha=1)


def test_quantiles_are_equal_by_their_levels():
    array, listed = Quantile(np.array([0.25, 0.5])), Quantile([0.25, 0.5])
    assert array == listed == Quantile((0.25, 0.5))
    assert hash(array) == hash(listed)
    assert array != Quantile([0.25, 0.75])
    assert array != "quantile"
