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
    class Journal(Stopper):
        def on_fit_task_begin(self, estimator, context):
            told.append(("begin", context.task_name, context.task_id))

        def on_fit_task_end(self, estimator, context):
            told.append(("end", context.task_name, context.task_id))

    told = []
    model = small(solver="lbfgs", **parameters).set_callbacks(Journal(None)).fit(*iris)
    epochs = [(moment, "epoch", number) for number in range(model.n_iter_) for moment in ("begin", "end")]
    assert 0 < model.n_iter_ < 200
    assert told == [("begin", "fit", 0), *epochs, ("end", "fit", 0)]


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
