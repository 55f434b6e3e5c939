"""The range test of learning rates: what it runs, what it suggests, what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest

import pymlp
from pymlp import Network, find_learning_rate
from pymlp.network import random_source
from pymlp.optimizers import SGD, Adam
from pymlp.range_test import _outcome

# the fits here are short on purpose
pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")

NETWORK = Network.from_widths((6, 8, 1), "tanh", dtype="float64")


@pytest.fixture
def data():
    draw = np.random.RandomState(0)
    X = draw.normal(size=(53, 6))
    return X, X[:, :1] - X[:, 1:2]


def test_each_step_has_a_rate_of_its_own(data):
    X, y = data
    params, optimizer = NETWORK.initial_params(3), SGD(0.5)
    before = params.tobytes()
    options = {"params": params, "optimizer": optimizer, "batch_size": 10, "random_state": 7}
    test = find_learning_rate(NETWORK, X, y, lowest=1e-4, highest=1e-2, steps=12, **options)
    assert params.tobytes() == before
    np.testing.assert_allclose(test.rates, np.logspace(-4, -2, 12))
    # two epochs of six batches, the last one short
    draw, plan = random_source(7), pymlp.backends.get().Plan(NETWORK, 10)
    slots, gradient, losses = np.zeros((1, len(params))), np.empty_like(params), []
    for epoch in range(2):
        order = draw.permutation(53)
        for number, start in enumerate(range(0, 53, 10)):
            chosen = order[start : start + 10]
            step = 6 * epoch + number
            losses.append(plan.loss_gradient(params, X[chosen], y[chosen], None, gradient, step))
            plan.update(optimizer, params, gradient, slots, step, test.rates[step])
    np.testing.assert_allclose(test.losses, losses, rtol=1e-12)


def test_the_suggestion_is_where_the_loss_falls_steepest():
    rates = np.logspace(-6, 0, 200)
    # a fall of one in the middle, then a rise
    losses = 2.0 - 1.0 / (1.0 + (1e-3 / rates) ** 3) + 100.0 * (rates > 0.5) * rates
    test = _outcome(rates, losses)
    assert test.suggestion == pytest.approx(1e-3, rel=0.1)
    assert len(test.smoothed) == 200
    assert _outcome(rates, rates.copy()).suggestion is None


@pytest.mark.parametrize("optimizer", [Adam(), SGD()], ids=["adam", "sgd"])
@pytest.mark.parametrize("backend", pymlp.backends.available())
def test_it_ends_where_the_loss_has_gone_up_for_good(data, optimizer, backend):
    test = find_learning_rate(NETWORK, *data, optimizer=optimizer, batch_size=20, random_state=0, backend=backend)
    assert 100 < len(test.rates) < 200
    assert len(test.rates) == len(test.losses) == len(test.smoothed)
    assert np.isfinite(test.losses).all()
    assert 1e-4 < test.suggestion < 1.0


def test_the_plot():
    matplotlib = pytest.importorskip("matplotlib", reason="the plot is drawn by matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rates = np.logspace(-6, 0, 50)
    test = _outcome(rates, 2.0 - 1.0 / (1.0 + (1e-3 / rates) ** 3))
    figure, axes = pyplot.subplots()
    assert test.plot(axes) is axes
    assert axes.get_xscale() == "log"
    assert [len(line.get_xdata()) for line in axes.lines] == [50, 50, 2]
    pyplot.close(figure)
    pyplot.close(_outcome(rates, rates.copy()).plot().figure)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 3}, "steps must be an integer of at least 10, got 3"),
        ({"lowest": 1.0, "highest": 0.1}, "lowest and highest must be finite rates above 0, in this order, got 1.0"),
        ({"highest": np.inf}, "lowest and highest"),
        ({"optimizer": "adam"}, "optimizer must be an object"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"params": np.zeros(3)}, "params must be a float64 array"),
        ({"model": SGD()}, "model must be a Network, or an estimator"),
        ({"X": np.zeros((53, 2))}, r"X must have shape \(rows, 6\)"),
    ],
)
def test_bad_arguments_are_named(data, changes, message):
    with pytest.raises(ValueError, match=message):
        find_learning_rate(**{"model": NETWORK, "X": data[0], "y": data[1], **changes})


# ---------------------------------------------------------------------------------------------------------- estimators


@pytest.fixture
def model():
    pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    from small_models import small

    return small(batch_size=20)


def test_an_estimator_stays_as_it_is(model, iris):
    from small_models import state_of

    X, y = iris
    weight = np.linspace(0.5, 2.0, 150)
    before = state_of(model)
    test = find_learning_rate(model, X, y, weight)
    assert state_of(model) == before
    again = find_learning_rate(model, X, np.array(["a", "b", "c"])[y], weight)
    np.testing.assert_array_equal(test.losses, again.losses)
    assert 1e-4 < test.suggestion < 1.0
    # the first batch of a fit, before its first step
    network = model.fit(X, y).network_
    draw = np.random.RandomState(0)
    params = network.initial_params(draw)
    chosen = draw.permutation(150)[:20]
    plan, gradient = pymlp.backends.get().Plan(network, 20), np.empty_like(params)
    expected = plan.loss_gradient(params, X[chosen], np.eye(3)[y[chosen]], weight[chosen], gradient)
    assert test.losses[0] == pytest.approx(expected, rel=1e-12)


def test_what_an_estimator_refuses(model, iris):
    with pytest.raises(ValueError, match="solver='lbfgs' has no learning rate"):
        find_learning_rate(model.set_params(solver="lbfgs"), *iris)
    with pytest.raises(ValueError, match="params can be given with a Network alone"):
        find_learning_rate(model, *iris, params=np.zeros(3))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        find_learning_rate(model.set_params(solver="adam"), np.full((150, 4), np.nan), iris[1])
