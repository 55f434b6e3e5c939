"""Callbacks on the estimators: stopping, order of the announcements, scikit-learn's own, searches and pipelines."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_models import Stopper, small

import pymlp
from pymlp import epochs

# the fits here are short on purpose
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_callbacks_stop_the_training_and_can_be_taken_off(iris):
    scores = []

    def at_end(number, fitted_estimator):
        scores.append(fitted_estimator.score(*iris))
        return number == 1

    for solver in ("adam", "lbfgs"):
        scores.clear()
        model = small(solver=solver, max_iter=9).set_callbacks(Stopper(at_end))
        assert model.fit(*iris).n_iter_ == 2
        assert scores[-1] == model.score(*iris)
        assert model.set_callbacks().fit(*iris).n_iter_ == 9
    with pytest.raises(TypeError, match="lacks setup"):
        model.set_callbacks(print)


@pytest.mark.parametrize("parameters", [{"max_iter": 3}, {"tol": 0.1, "max_iter": 200}], ids=["max_iter", "converged"])
def test_lbfgs_announces_no_iteration_after_the_last(iris, parameters):
    class Tasks(Stopper):
        def on_fit_task_begin(self, estimator, context):
            told.append(("begin", context.task_name, context.task_id))

        def on_fit_task_end(self, estimator, context):
            told.append(("end", context.task_name, context.task_id))

    told = []
    model = small(solver="lbfgs", **parameters).set_callbacks(Tasks(None)).fit(*iris)
    epochs = [(moment, "epoch", number) for number in range(model.n_iter_) for moment in ("begin", "end")]
    assert 0 < model.n_iter_ < 200
    assert told == [("begin", "fit", 0), *epochs, ("end", "fit", 0)]


class Journal(Stopper):
    """Notes each call: (task, what happened, metrics)."""

    def __init__(self, every_steps=None, stop_at=None):
        self.every_steps, self.stop_at = every_steps, stop_at
        self.steps, self.epochs = [], []

    def on_fit_progress(self, estimator, context):
        self.steps.append(dict(context.metrics))
        return context.metrics["step"] == self.stop_at

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.epochs.append(dict(context.metrics))


@pytest.mark.parametrize("longest", [0.0, 1.0], ids=["in a helper thread", "directly"])
def test_a_callback_is_called_every_so_many_steps(iris, longest, monkeypatch):
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", longest)
    threes, fives = Journal(3), Journal(5)
    # 150 rows, 8 steps an epoch
    plain = small(batch_size=20).fit(*iris)
    model = small(batch_size=20).set_callbacks(threes, fives).fit(*iris)
    assert [metrics["step"] for metrics in threes.steps] == list(range(3, 33, 3))
    assert [metrics["step"] for metrics in fives.steps] == list(range(5, 33, 5))
    assert [metrics["rows"] for metrics in fives.steps] == [100, 190, 290, 380, 470, 570]
    assert [metrics["step"] for metrics in fives.epochs] == [8, 16, 24, 32]
    assert [metrics["loss"] for metrics in fives.epochs] == model.loss_curve_ == plain.loss_curve_
    # being watched changes nothing
    assert model.params_.tobytes() == plain.params_.tobytes()
    # at the last step of an epoch the loss so far is that of the epoch
    assert threes.steps[7]["step"] == 24
    assert threes.steps[7]["loss"] == pytest.approx(model.loss_curve_[2], rel=1e-14)
    assert all(metrics["rate"] == 0.001 for metrics in threes.steps)


def test_a_callback_stops_within_an_epoch(iris):
    journal = Journal(5, stop_at=10)
    model = small(batch_size=20).set_callbacks(journal).fit(*iris)
    assert model.n_iter_ == 2
    assert [metrics["step"] for metrics in journal.epochs] == [8, 10]
    # two steps of 20 rows are all of the second epoch: the parameters are those after ten steps
    assert model._descent.step == 10
    assert model.loss_ == journal.steps[-1]["loss"] == journal.epochs[-1]["loss"]
    shuffled = np.random.RandomState(0)
    network, X = model.network_, iris[0]
    params, y = network.initial_params(shuffled, activation="relu"), np.eye(3)[iris[1]]
    slots, order = np.zeros((2, network.n_parameters)), np.arange(150)
    plan = pymlp.backends.get().Plan(network, 20)
    for epoch, steps in enumerate((8, 2)):
        order = order[shuffled.permutation(150)]
        starts = np.append(np.arange(0, 150, 20), 150)[: steps + 1]
        rates, losses = np.full(steps, 0.001), np.empty(steps)
        plan.train_steps(pymlp.Adam(), params, slots, 8 * epoch, X, y, None, order, starts, rates, losses)
    assert params.tobytes() == model.params_.tobytes()


@pytest.mark.parametrize("steps", [0, 2.5, True, "often"])
def test_every_steps_must_be_a_count(steps):
    with pytest.raises(ValueError, match=r"every_steps of .* must be an integer of at least 1 or None"):
        small().set_callbacks(Journal(steps))


def test_scikit_learns_own_callbacks_work(iris):
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    X, y = iris
    # the scorer gets the labels that fit got
    model = small(max_iter=9, early_stopping=True).set_callbacks(monitor).fit(X, np.array(["a", "b", "c"])[y])
    scores = {entry["task_id_path"]: entry["accuracy"] for entry in monitor.get_logs().data}
    assert list(scores) == [(0,), *((0, epoch) for epoch in range(model.n_iter_))]
    assert scores[(0,)] == model.score(X, np.array(["a", "b", "c"])[y])


def test_callbacks_reach_the_fits_of_searches_and_pipelines(iris):
    pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")

    class Counter(Stopper):
        max_propagation_depth = None

        def setup(self, estimator, context):
            names.append(type(estimator).__name__)

    names, epochs = [], []
    counter = Counter(lambda number, fitted: epochs.append(number))
    search = GridSearchCV(small(max_iter=2), {"alpha": [0.1, 1.0]}, cv=2).set_callbacks(counter).fit(*iris)
    assert names == ["GridSearchCV"]
    # two folds for each of two values, then the fit of the best on all rows
    assert epochs == [0, 1] * 5
    assert not hasattr(search.best_estimator_, "_parent_callback_ctx")
    make_pipeline(StandardScaler(), small(max_iter=2)).set_callbacks(counter).fit(*iris)
    assert names == ["GridSearchCV", "Pipeline"]
    assert epochs == [0, 1] * 6
    # a clone keeps what was set on it
    clone(small(max_iter=1).set_callbacks(counter)).fit(*iris)
    assert names[-1] == "MLPClassifier"


def test_progress_bar_on_an_estimator(iris, capsys):
    small(early_stopping=True).set_callbacks(pymlp.ProgressBar()).fit(*iris)
    captured = capsys.readouterr()
    assert "epoch 4/4" in captured.err
    assert "validation=" in captured.err
    assert captured.out == ""
