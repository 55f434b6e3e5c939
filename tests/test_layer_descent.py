"""Descent of a single layer: the bias's own rule, against steps by hand and against the engine's loop."""

import numpy as np
import pytest

from pymlp import SGD, Adam, Dense, Network, backends
from pymlp.layer_descent import BiasRule, Terms, descend


def problem(weighted=False):
    draw = np.random.RandomState(0)
    X, weight = draw.normal(size=(50, 4)), draw.uniform(0.5, 2, 50)
    y = (X[:, :1] + 0.3 > 0).astype(float)
    network = Network(4, (Dense(1, "logistic"),), "binary_log_loss", "float64", l2=0.5)
    return network, (X, y, weight if weighted else None)


def terms(**options):
    return Terms(**{
        "optimizer": Adam(), "schedule": "constant", "rate": 0.05, "batch_size": 20, "epochs": 6, "tol": 0.0,
        "patience": 100, **options,
    })  # fmt: skip


@pytest.mark.parametrize("backend", backends.available())
def test_a_rule_that_changes_nothing_gives_the_engines_steps(backend):
    from pymlp import config_context

    network, data = problem(weighted=True)
    start = np.zeros(5)
    with config_context(backend=backend):
        plain = descend("test", network, data, start, terms(), np.random.RandomState(1))
        # so small a penalty is lost to rounding
        ruled = descend("test", network, data, start, terms(), np.random.RandomState(1), BiasRule(1e-30))
    np.testing.assert_allclose(ruled.params, plain.params, rtol=1e-10)
    np.testing.assert_allclose(ruled.losses, plain.losses, rtol=1e-10)
    assert not start.any()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_penalty_on_the_bias(weighted):
    network, (X, y, weight) = problem(weighted)
    start = np.array([0.1, -0.2, 0.3, 0.0, 0.5])
    one = terms(optimizer=SGD(momentum=0.0, nesterov=False), batch_size=50, epochs=1)
    found = descend("test", network, (X, y, weight), start, one, None, BiasRule(2.0))
    w = np.ones(50) if weight is None else weight
    residual = w[:, None] * (1 / (1 + np.exp(-(X @ start[:4] + 0.5)))[:, None] - y)
    gradient = np.append(X.T @ residual + 0.5 * start[:4, None], residual.sum() + 2.0 * 0.5) / w.sum()
    np.testing.assert_allclose(found.params, start - 0.05 * gradient, rtol=1e-12)
    plain = descend("test", network, (X, y, weight), start, one, None)
    assert found.losses[0] == pytest.approx(plain.losses[0] + 0.5 * 2.0 * 0.5**2 / w.sum())


def test_a_fixed_bias():
    network, data = problem()
    found = descend("test", network, data, np.full(5, 0.25), terms(), None, BiasRule(fixed=True))
    assert found.params[-1] == 0.25
    assert (found.params[:-1] != 0.25).all()


def test_patience_and_its_end():
    network, data = problem()
    ends = descend("test", network, data, np.zeros(5), terms(tol=10.0, patience=2, epochs=50), None)
    assert ends.converged
    assert len(ends.losses) == 4
    falls = terms(tol=10.0, patience=1, epochs=100, schedule="adaptive")
    # eight times two epochs bring the rate from 0.05 below 1e-6
    assert len(descend("test", network, data, np.zeros(5), falls, None).losses) > 10
    assert not descend("test", network, data, np.zeros(5), terms(), None).converged


def test_batches_without_weight_are_skipped():
    network, (X, y, _) = problem()
    weight = np.where(np.arange(50) < 20, 0.0, 1.0)
    found = descend("test", network, (X, y, weight), np.zeros(5), terms(), None, BiasRule(1.0))
    assert np.isfinite(found.params).all()
