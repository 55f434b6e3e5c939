"""What an interrupted fit leaves behind, wherever it was interrupted: the last complete epoch, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from interrupting import Interruption, digest, random_rows, state_of

from pymlp import (
    BernoulliNB,
    FourierSVC,
    GaussianNB,
    LinearSVC,
    LogisticRegression,
    MLPClassifier,
    MLPRegressor,
    Network,
    Perceptron,
    train,
)
from pymlp.optimizers import Adam, new_slots

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@dataclass(frozen=True)
class Fit:
    """A fit of so many epochs, whose outcomes after fewer are known: `make` gives the estimator, `fit` fits it."""

    make: Callable[[int], Any]
    fit: Callable[[Any], Any]
    epochs: int = 0

    def allowed(self) -> dict[str, int]:
        """States that may be found, and after how many epochs; 0: as before the fit."""
        found = {state_of(self.make(max(1, self.epochs))): 0}
        for epochs in range(1, self.epochs + 1):
            model = self.make(epochs)
            self.fit(model)
            found[state_of(model)] = epochs
        if not self.epochs:
            found[state_of(self.fit(self.make(1)))] = 1
        return found


@cache
def small_rows() -> tuple[np.ndarray, np.ndarray]:
    return random_rows(60, 4)


def mlp(**parameters: Any) -> Fit:
    def make(epochs: int) -> MLPClassifier:
        defaults = {"hidden_layer_sizes": (7,), "batch_size": 20, "random_state": 0, "max_iter": epochs, "tol": 0.0}
        return MLPClassifier(**{**defaults, **parameters})

    return Fit(make, lambda model: model.fit(*small_rows()), 3)


def warm(**parameters: Any) -> Fit:
    cold = mlp(warm_start=True, **parameters)

    def make(epochs: int) -> MLPClassifier:
        model = cold.make(2)
        cold.fit(model)
        return model.set_params(max_iter=epochs, hidden_layer_sizes=(7,))

    return Fit(make, cold.fit, 3)


def incremental() -> Fit:
    def make(epochs: int) -> MLPRegressor:
        model = MLPRegressor(hidden_layer_sizes=(7,), random_state=0, batch_size=20)
        return model.partial_fit(*small_rows()) if epochs else model

    return Fit(make, lambda model: model.partial_fit(*small_rows()))


def classic(model: type, **parameters: Any) -> Fit:
    return Fit(lambda epochs: model(**parameters), lambda fitted: fitted.fit(*small_rows()))


FITS = {
    "adam": mlp(),
    "averaged": mlp(solver=Adam(average="ema")),
    "standardised": mlp(standardize=True),
    "scored": mlp(scoring="accuracy"),
    "lbfgs": mlp(solver="lbfgs"),
    "warm": warm(),
    "warm lbfgs": warm(solver="lbfgs"),
    "partial_fit": incremental(),
    "logistic regression": classic(LogisticRegression),
    "perceptron": classic(Perceptron, max_iter=5),
    "linear machine": classic(LinearSVC),
    "fourier machine": classic(FourierSVC, n_components=20, random_state=0),
    "normal distributions": classic(GaussianNB),
    "coins": classic(BernoulliNB),
}


def interrupt_everywhere(fit: Fit, stride: int, first: int = 1) -> tuple[int, set[int]]:
    """Interrupt fits in front of their lines first, first + stride, ...; how often, and after how many epochs."""
    allowed, seen, line, count = fit.allowed(), set(), first, 0
    complete = state_of(fit.fit(fit.make(max(1, fit.epochs))))
    while True:
        model, interruption = fit.make(max(1, fit.epochs)), Interruption(line)
        if not interruption.run(lambda model=model: fit.fit(model)):
            assert state_of(model) == complete
            print(f"{count} interruptions, states after {sorted(seen)} epochs")
            return count, seen
        found = state_of(model)
        assert found in allowed, f"interrupted at {interruption.place}, line {line} of the run"
        seen.add(allowed[found])
        # the same object, and the same process, fit again as if nothing had happened
        if count % 50 == 0:
            again = fit.make(max(1, fit.epochs))
            assert state_of(fit.fit(again)) == complete
        line, count = line + stride, count + 1


@pytest.mark.parametrize("name", ["adam", "warm", "lbfgs", "logistic regression"])
def test_an_interrupted_fit_leaves_the_last_complete_epoch_or_nothing(name: str) -> None:
    count, _ = interrupt_everywhere(FITS[name], stride=41)
    assert count > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_a_fit_interrupted_at_any_line_leaves_the_last_complete_epoch_or_nothing(name: str) -> None:
    count, seen = interrupt_everywhere(FITS[name], stride=1)
    assert count > 100
    assert {0, max(1, FITS[name].epochs)} <= seen


@pytest.mark.parametrize("stride", [pytest.param(23), pytest.param(1, marks=pytest.mark.slow)])
def test_train_leaves_parameters_and_slots_of_the_same_epoch(stride: int) -> None:
    X, labels = small_rows()
    network, y = Network.from_widths((4, 7, 3), loss="log_loss", dtype="float64"), np.eye(3)[labels]

    def state(epochs: int) -> tuple[np.ndarray, np.ndarray]:
        params, slots = network.initial_params(0), new_slots(Adam(), network.n_parameters, "float64")
        if epochs:
            train(network, params, X, y, epochs=epochs, slots=slots, random_state=0, batch_size=20)
        return params, slots

    allowed = [digest(*state(epochs)) for epochs in range(4)]
    line, seen, last = 1, set(), False
    while True:
        params, slots = state(0)
        interruption = Interruption(line)
        if not interruption.run(
            lambda params=params, slots=slots: train(
                network, params, X, y, epochs=3, slots=slots, random_state=0, batch_size=20
            )
        ):
            # in front of the last line of all, too
            line, last = interruption.lines, True
            continue
        assert digest(params, slots) in allowed, f"interrupted at {interruption.place}"
        seen.add(allowed.index(digest(params, slots)))
        if last:
            break
        line += stride
    assert {0, 3} <= seen
