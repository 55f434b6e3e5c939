"""Pruning by Optuna: what is reported, when a fit ends, and what is refused."""

import sys

import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from small_models import small

from pymlp.pruning import OptunaPruning

# the fits here are short on purpose
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def optuna(monkeypatch):
    optuna = pytest.importorskip("optuna", reason="prunes by Optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@pytest.mark.parametrize(("monitor", "direction"), [("loss", "minimize"), ("validation_score", "maximize")])
def test_reports_every_epoch(optuna, iris, monitor, direction):
    study = optuna.create_study(direction=direction)
    trial = study.ask()
    model = small(early_stopping=True).set_callbacks(OptunaPruning(trial, monitor=monitor)).fit(*iris)
    curve = model.loss_curve_ if monitor == "loss" else model.validation_scores_
    study.tell(trial, curve[-1])
    assert study.trials[0].intermediate_values == dict(enumerate(curve, 1))


def test_ends_what_the_pruner_gives_up_on(optuna, iris):
    def objective(trial):
        model = small(hidden_layer_sizes=(trial.suggest_int("width", 1, 9),), early_stopping=True)
        models.append(model.set_callbacks(OptunaPruning(trial)))
        return model.fit(*iris).best_validation_score_

    models = []
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=2.0, n_warmup_steps=3)
    )
    study.optimize(objective, n_trials=1)
    assert study.trials[0].state is optuna.trial.TrialState.PRUNED
    assert list(study.trials[0].intermediate_values) == [1, 2, 3]
    # as a failed fit leaves it
    assert not hasattr(models[0], "params_")


def test_refuses_a_study_that_looks_the_other_way_and_a_fit_without_scores(optuna, iris):
    trial = optuna.create_study(direction="minimize").ask()
    with pytest.raises(ValueError, match="needs a study with direction='maximize', this one has 'minimize'"):
        small(early_stopping=True).set_callbacks(OptunaPruning(trial)).fit(*iris)
    trial = optuna.create_study(direction="maximize").ask()
    with pytest.raises(ValueError, match="no validation score: set early_stopping=True"):
        small().set_callbacks(OptunaPruning(trial)).fit(*iris)
    with pytest.raises(ValueError, match="monitor='accuracy' is not one of loss, validation_score"):
        OptunaPruning(trial, monitor="accuracy")
    # a fixed trial never prunes
    fixed = optuna.trial.FixedTrial({})
    assert small().set_callbacks(OptunaPruning(fixed, monitor="loss")).fit(*iris).n_iter_ == 4


def test_names_the_command_where_optuna_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match="pip install optuna"):
        OptunaPruning(None)
