"""What ends an estimator's training, and what is noted on the way: own validation rows, scoring, limits, histories."""

import time

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

import sklearn
from scipy import sparse
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import get_scorer, make_scorer, max_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from small_models import CLASSES, Stopper, small, state_of

import pymlp
from pymlp import MLPClassifier, MLPRegressor, backends, epochs
from pymlp.optimizers import SGD, Adam
from pymlp.schedules import Constant, Cosine, InverseScaling, Plateau, Step

# the fits here are short on purpose
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# -------------------------------------------------------------------------------------------------- own validation rows


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_own_validation_rows_take_the_place_of_the_split(iris, cls):
    X, y = iris
    weight = np.linspace(0.5, 2.0, 150)
    parameters = {"max_iter": 30, "n_iter_no_change": 3, "tol": 0.01, "batch_size": 30, "learning_rate_init": 0.01}
    split = small(cls, early_stopping=True, shuffle=False, **parameters).fit(X, y, weight)
    # the same split by hand: it is drawn after the initial weights
    draw = np.random.RandomState(0)
    split.network_.initial_params(draw)
    training, held_out = train_test_split(np.arange(150), test_size=0.1, random_state=draw)
    own = small(cls, early_stopping=True, shuffle=False, **parameters).fit(
        X[training], y[training], weight[training],
        X_val=X[held_out], y_val=y[held_out], sample_weight_val=weight[held_out],
    )  # fmt: skip
    assert own.params_.tobytes() == split.params_.tobytes()
    assert own.validation_scores_ == split.validation_scores_
    assert own.best_validation_score_ == split.best_validation_score_
    assert own.best_loss_ is None
    assert own.t_ == 135 * own.n_iter_


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_without_early_stopping_the_scores_are_noted_and_change_nothing(iris, cls):
    X, y = iris
    expected = small(cls, max_iter=6).fit(X, y)
    model = small(cls, max_iter=6).fit(X, y, X_val=X[::3], y_val=y[::3])
    assert model.params_.tobytes() == expected.params_.tobytes()
    assert model.best_loss_ == expected.best_loss_
    assert model.loss_curve_ == expected.loss_curve_
    assert len(model.validation_scores_) == 6
    assert model.validation_scores_[-1] == pytest.approx(model.score(X[::3], y[::3]))
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.history_["validation_score"] == model.validation_scores_
    assert expected.validation_scores_ is None
    # a fit without them forgets them
    assert model.fit(X, y).validation_scores_ is None


def test_scores_of_an_earlier_fit_do_not_stay_with_lbfgs(iris):
    X, y = iris
    for solver in ("lbfgs", "adam"):
        model = small(solver=solver, warm_start=True).fit(X, y, X_val=X[::2], y_val=y[::2])
        model.set_params(solver="lbfgs").fit(X, y)
        assert not hasattr(model, "validation_scores_")
        assert not hasattr(model, "best_validation_score_")
        assert set(model.history_["validation_score"]) == {None}


def test_the_iterations_of_lbfgs_are_scored(iris):
    X, y = iris
    expected = small(solver="lbfgs").fit(X, y)
    model = small(solver="lbfgs").fit(X, y, X_val=X[::2], y_val=y[::2])
    assert model.params_.tobytes() == expected.params_.tobytes()
    assert len(model.validation_scores_) == model.n_iter_ == 4
    assert model.validation_scores_[-1] == model.score(X[::2], y[::2])
    assert model.history_["validation_score"] == model.validation_scores_
    assert model.history_["rate"] == [None] * 4
    assert model.history_["loss"][-1] == model.loss_
    assert not hasattr(expected, "validation_scores_")


@pytest.mark.parametrize("kind", ["text", "binary", "multilabel", "sparse rows", "targets"])
def test_validation_rows_of_every_kind(iris, kind):
    X, y = iris
    cls = MLPClassifier
    if kind == "text":
        y = np.array(["a", "b", "c"])[y]
    elif kind == "binary":
        y = y > 0
    elif kind == "multilabel":
        X, y = make_multilabel_classification(60, 4, random_state=0)
    elif kind == "sparse rows":
        X = sparse.csr_matrix(X)
    else:
        cls, y = MLPRegressor, iris[0][:, :2]
    model = small(cls).fit(X, y, X_val=X[:20], y_val=y[:20])
    assert model.validation_scores_[-1] == pytest.approx(model.score(X[:20], y[:20]))


def test_a_class_may_be_missing_from_the_validation_rows(iris):
    X, y = iris
    assert len(small().fit(X, y, X_val=X[:60], y_val=y[:60]).validation_scores_) == 4


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ({"X_val": np.zeros((2, 4))}, "y_val is missing: X_val and y_val must be given together"),
        ({"y_val": np.zeros(2)}, "X_val is missing"),
        ({"sample_weight_val": np.ones(2)}, "X_val is missing"),
        ({"X_val": np.zeros((2, 3)), "y_val": [0, 1]}, "X_val and y_val do not fit: X has 3 features"),
        ({"X_val": np.zeros((2, 4)), "y_val": [0, 1, 1]}, "X_val and y_val do not fit: .*inconsistent"),
        (
            {"X_val": np.full((2, 4), np.inf), "y_val": [0, 1]},
            "X_val and y_val do not fit: Input X_val contains infinity",
        ),
        ({"X_val": np.zeros((2, 4)), "y_val": [0, 7]}, r"y_val has classes that y has not: \[7\]"),
        (
            {"X_val": np.zeros((2, 4)), "y_val": [0, 1], "sample_weight_val": [-1, 1]},
            "sample_weight_val must not be negative, but row 0",
        ),
    ],
)
def test_bad_validation_rows_are_named_and_change_nothing(iris, validation, message):
    model = small().fit(*iris)
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        model.fit(*iris, **validation)
    assert state_of(model) == before


def test_validation_targets_must_fit_a_regression(iris):
    X, y = iris
    with pytest.raises(ValueError, match="y_val must hold labels as y does"):
        small().fit(X, y, X_val=X, y_val=X[:, 0])
    with pytest.raises(TypeError, match="y_val must hold real numbers, got dtype <U1"):
        small(MLPRegressor).fit(X, y, X_val=X, y_val=np.where(y == 0, "a", "b"))
    with pytest.raises(ValueError, match="y_val has 2 target columns, but y has 1"):
        small(MLPRegressor).fit(X, y, X_val=X, y_val=X[:, :2])
    with pytest.raises(ValueError, match="y_val must be at least 0 for loss='poisson', but row 3"):
        small(MLPRegressor, loss="poisson").fit(X, y, X_val=X, y_val=np.where(np.arange(150) == 3, -1, y))


def test_validation_rows_in_a_pipeline(iris):
    X, y = iris
    X = 50 + 9 * X
    with sklearn.config_context(enable_metadata_routing=True):
        model = small(early_stopping=True, max_iter=40, learning_rate_init=0.02)
        model.set_fit_request(X_val=True, y_val=True, sample_weight=True, sample_weight_val=True)
        steps = [("scale", StandardScaler().set_fit_request(sample_weight=False)), ("network", model)]
        pipeline = Pipeline(steps, transform_input=["X_val"])
        weight = np.ones(50)
        pipeline.fit(X[::3], y[::3], X_val=X[1::3], y_val=y[1::3], sample_weight=weight, sample_weight_val=weight)
        fitted = pipeline[-1]
        assert fitted.t_ == 50 * fitted.n_iter_
        # raw rows would be scored far worse
        assert fitted.best_validation_score_ == pipeline.score(X[1::3], y[1::3]) > 0.7


# -------------------------------------------------------------------------------------------------------------- scoring


@pytest.mark.parametrize("scoring", ["neg_log_loss", "f1_macro", lambda model, X, y: -np.mean(model.predict(X) != y)])
@pytest.mark.parametrize("own", [False, True])
def test_scoring_decides(iris, scoring, own):
    X, y = iris[0], np.array(["a", "b", "c"])[iris[1]]
    validation = {"X_val": X[::2], "y_val": y[::2]} if own else {}
    parameters = {"early_stopping": True, "max_iter": 8, "learning_rate_init": 0.02, "scoring": scoring}
    model = small(**parameters).fit(X, y, **validation)
    scorer = get_scorer(scoring)
    if own:
        assert model.best_validation_score_ == pytest.approx(scorer(model, X[::2], y[::2]))
    assert len(model.validation_scores_) == model.n_iter_
    expected = small(**{**parameters, "scoring": None}).fit(X, y, **validation)
    if callable(scoring):
        assert model.validation_scores_ == pytest.approx([score - 1 for score in expected.validation_scores_])
    else:
        assert model.validation_scores_ != expected.validation_scores_


def test_scoring_gets_the_weights_where_it_takes_them(iris):
    X, y = iris
    weight = np.linspace(0, 2, 150)
    own = {"X_val": X, "y_val": y, "sample_weight_val": weight}
    model = small(MLPRegressor, scoring="neg_mean_absolute_error").fit(X, y, **own)
    expected = get_scorer("neg_mean_absolute_error")(model, X, y, sample_weight=weight)
    assert model.validation_scores_[-1] == pytest.approx(expected)
    scorer = make_scorer(max_error, greater_is_better=False)
    model = small(MLPRegressor, scoring=scorer).fit(X, y, **own)
    assert model.validation_scores_[-1] == pytest.approx(scorer(model, X, y))


def test_scoring_gets_a_table_without_complaint(iris, recwarn):
    pandas = pytest.importorskip("pandas", reason="needs a data frame")
    X, y = pandas.DataFrame(iris[0], columns=["a", "b", "c", "d"]), iris[1]
    small(scoring="neg_log_loss", early_stopping=True).fit(X, y, X_val=X[::2], y_val=y[::2])
    assert not [warning for warning in recwarn if "feature names" in str(warning.message)]


def test_bad_scoring_is_named_and_changes_nothing(iris):
    model = small(early_stopping=True).fit(*iris)
    before = state_of(model)
    for scoring, message in (
        ("accurate", "'accurate' is not a valid scoring value|scoring"),
        (lambda model, X, y: "good", "scoring must give one number, but .* gives 'good'"),
        (7, "'scoring' parameter of MLPClassifier"),
    ):
        model.set_params(scoring=scoring)
        with pytest.raises(ValueError, match=message):
            model.fit(*iris)
        model.set_params(scoring=None)
        assert state_of(model) == before


# ---------------------------------------------------------------------------------------------------- solvers and rates


def test_a_solver_by_name_has_the_estimators_parameters(iris):
    options = {"momentum": 0.5, "nesterovs_momentum": False, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}
    for solver, same in (
        ("sgd", SGD(0.5, False)),
        ("adam", Adam(0.8, 0.9, 1e-3)),
        ("adamw", pymlp.AdamW(0.8, 0.9, 1e-3)),
        ("nadam", pymlp.NAdam(0.8, 0.9, 1e-3)),
        ("rmsprop", pymlp.RMSprop()),
        ("lion", pymlp.Lion()),
        ("rprop", pymlp.Rprop()),
    ):
        by_name = small(solver=solver, **options).fit(*iris)
        by_object = small(solver=same).fit(*iris)
        assert by_name.params_.tobytes() == by_object.params_.tobytes()
        assert by_name._descent.optimizer == same


def test_changing_an_option_leaves_the_running_descent_alone(iris):
    model = small(solver=SGD(0.5)).fit(*iris)
    expected = small(solver=SGD(0.5)).fit(*iris).partial_fit(*iris)
    model.set_params(solver__momentum=0.9).partial_fit(*iris)
    assert model.params_.tobytes() == expected.params_.tobytes()


@pytest.mark.parametrize(
    ("name", "same"), [("constant", Constant()), ("invscaling", InverseScaling(0.3))], ids=["constant", "invscaling"]
)
def test_schedules_of_scikit_learn_as_objects(iris, name, same):
    by_name = small(solver="sgd", learning_rate=name, power_t=0.3).fit(*iris)
    by_object = small(solver="sgd", learning_rate=same).fit(*iris)
    assert by_name.params_.tobytes() == by_object.params_.tobytes()
    assert by_name.history_["rate"] == by_object.history_["rate"]


def test_adam_by_name_takes_no_notice_of_scikit_learns_names(iris):
    expected = small().fit(*iris)
    assert small(learning_rate="invscaling").fit(*iris).params_.tobytes() == expected.params_.tobytes()
    assert small(solver=Adam(), learning_rate="invscaling").fit(*iris).history_["rate"][1] < 1e-4


@pytest.mark.parametrize("schedule", [Cosine(warmup=1), Step(2), lambda step: 0.01 / (step + 1)], ids=str)
def test_a_schedule_runs_over_max_iter_epochs(iris, schedule):
    # one step an epoch
    model = small(learning_rate=schedule, learning_rate_init=0.01, max_iter=6, n_iter_no_change=99).fit(*iris)
    if hasattr(schedule, "rates"):
        expected = schedule.rates(0.01, 0, 6, 6, 1, 150)
    else:
        expected = [schedule(step) for step in range(6)]
    assert model.history_["rate"] == list(expected)
    # partial_fit goes on where it was
    rates = model.partial_fit(*iris).history_["rate"]
    assert len(rates) == 7
    assert rates[6] == (schedule.rates(0.01, 6, 1, 6, 1, 150)[0] if hasattr(schedule, "rates") else schedule(6))


def test_a_plateau_of_the_score_lowers_the_rate(iris):
    schedule = Plateau(factor=0.5, patience=1, tol=10.0)
    X, y = iris
    parameters = {"learning_rate": schedule, "learning_rate_init": 0.01, "max_iter": 6}
    model = small(**parameters).fit(X, y, X_val=X, y_val=y)
    assert model.history_["rate"] == [0.01, 0.01, 0.01, 0.005, 0.005, 0.0025]
    again = small(**parameters).fit(X, y)
    assert again.history_["rate"] == model.history_["rate"]
    assert again.params_.tobytes() == model.params_.tobytes()
    assert model.partial_fit(X, y).history_["rate"][6] == 0.0025


# ------------------------------------------------------------------------------------- averages, limits, rolling back


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_the_average_is_the_model_and_the_descent_goes_on(iris, average):
    X, y = iris
    plain = small(solver=SGD(), batch_size=30, max_iter=5).fit(X, y)
    model = small(solver=SGD(average=average), batch_size=30, max_iter=5).fit(X, y)
    assert model.loss_curve_ == plain.loss_curve_
    assert not np.array_equal(model.params_, plain.params_)
    np.testing.assert_allclose(model._descent.params, plain.params_, rtol=1e-12)
    for _ in range(2):
        plain.partial_fit(X, y)
        model.partial_fit(X, y)
        np.testing.assert_allclose(model._descent.params, plain.params_, rtol=1e-12)
        np.testing.assert_array_equal(model._descent.slots[-1], model.params_)
    # what is changed by hand is gone on from, and is no longer the slot
    model.coefs_[0][:] = 0.5
    assert not np.array_equal(model._descent.slots[-1], model.params_)
    model.partial_fit(X, y)
    assert abs(model._descent.params[0] - 0.5) < 0.1


def test_the_average_is_what_is_scored_and_kept(iris):
    X, y = iris
    seen = []
    parameters = {"solver": SGD(average="ema", average_decay=0.9), "learning_rate_init": 0.05, "max_iter": 12}
    model = small(early_stopping=True, **parameters)
    model.set_callbacks(Stopper(lambda number, fitted: seen.append(fitted.params_)))
    model.fit(X, y, X_val=X[::2], y_val=y[::2])
    best = int(np.argmax(model.validation_scores_))
    assert model.params_.tobytes() == seen[best].tobytes()
    assert model.score(X[::2], y[::2]) == model.best_validation_score_


def slow_down(monkeypatch):
    """Make each step, and each gradient, take a fiftieth of a second."""
    plan = backends.get().Plan
    train_steps, loss_gradient = plan.train_steps, plan.loss_gradient

    def slow_steps(self, *arguments):
        time.sleep(0.02 * len(arguments[-1]))
        train_steps(self, *arguments)

    def slow_gradient(self, *arguments):
        time.sleep(0.02)
        return loss_gradient(self, *arguments)

    monkeypatch.setattr(plan, "train_steps", slow_steps)
    monkeypatch.setattr(plan, "loss_gradient", slow_gradient)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_time_limit_ends_the_training(iris, solver, monkeypatch):
    slow_down(monkeypatch)
    model = small(solver=solver, max_iter=1000, max_time=0.25, tol=1e-9, n_iter_no_change=1000).fit(*iris)
    assert 1 <= model.n_iter_ <= 13
    monkeypatch.undo()
    expected = small(solver=solver, max_iter=model.n_iter_, tol=1e-9).fit(*iris)
    np.testing.assert_allclose(model.params_, expected.params_, rtol=1e-12)
    assert model.loss_ == pytest.approx(expected.loss_, rel=1e-12)
    assert len(model.history_["loss"]) == model.n_iter_


def test_a_time_limit_is_no_reason_to_warn(iris, recwarn):
    for solver in ("adam", "lbfgs"):
        model = small(solver=solver, max_iter=1000, max_time=1e-6, tol=1e-9).fit(*iris)
        assert model.n_iter_ == 1
    assert not list(recwarn)


def test_verbose_says_that_time_is_up(iris, capsys):
    small(verbose=True, max_time=1e-6).fit(*iris)
    assert capsys.readouterr().out.endswith("\nTraining took longer than max_time=1e-06 seconds. Stopping.\n")


def test_a_time_limit_within_an_epoch_forgets_it(iris, monkeypatch):
    slow_down(monkeypatch)
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 1e-9)
    parameters = {"batch_size": 15, "learning_rate": Cosine(), "max_iter": 50}
    model = small(max_time=0.5, **parameters).fit(*iris)
    assert 1 <= model.n_iter_ < 10
    assert model.t_ == 150 * model.n_iter_
    assert model._descent.step == 10 * model.n_iter_
    monkeypatch.undo()
    counted = []
    stopper = Stopper(lambda number, fitted: counted.append(number) or len(counted) == model.n_iter_)
    expected = small(**parameters).set_callbacks(stopper).fit(*iris)
    assert model.params_.tobytes() == expected.params_.tobytes()


def test_rolling_back_with_half_the_rate(iris, monkeypatch):
    plan = backends.get("numpy").Plan
    train_steps, calls = plan.train_steps, []

    def fail_in_the_third_epoch(self, optimizer, params, slots, step, *rest):
        calls.append(step)
        train_steps(self, optimizer, params, slots, step, *rest)
        if len(calls) == 3:
            rest[-1][:] = np.nan

    monkeypatch.setattr(plan, "train_steps", fail_in_the_third_epoch)
    parameters = {"solver": "sgd", "shuffle": False}
    with pymlp.config_context(backend="numpy"):
        with pytest.warns(RuntimeWarning, match="epoch 3 ended with numbers that are not finite .loss nan"):
            model = small(roll_back=True, **parameters).fit(*iris)
        assert calls == [0, 1, 2, 2, 3]
        monkeypatch.undo()
        expected = small(learning_rate=lambda step: 1e-3 if step < 2 else 5e-4, **parameters).fit(*iris)
        assert model.n_iter_ == 4
        assert model.history_["rate"] == expected.history_["rate"] == [1e-3, 1e-3, 5e-4, 5e-4]
        assert model.params_.tobytes() == expected.params_.tobytes()
        # the lower rate stays
        assert model.partial_fit(*iris).history_["rate"][-1] == 5e-4


# -------------------------------------------------------------------------------------------------------------- history


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_history_of_all_epochs(iris, early_stopping):
    model = small(early_stopping=early_stopping, max_iter=5).fit(*iris)
    assert list(model.history_) == ["loss", "validation_score", "rate", "seconds"]
    assert model.history_["loss"] == model.loss_curve_
    assert model.history_["validation_score"] == (model.validation_scores_ if early_stopping else [None] * 5)
    assert model.history_["rate"] == [1e-3] * 5
    assert all(isinstance(value, float) and value > 0 for value in model.history_["seconds"])
    model.set_params(early_stopping=False).partial_fit(*iris)
    assert [len(values) for values in model.history_.values()] == [6] * 4
    assert len(model.fit(*iris).history_["loss"]) == 5
    assert len(model.set_params(warm_start=True).fit(*iris).history_["loss"]) == 10
    pandas = pytest.importorskip("pandas", reason="a history becomes a table of pandas")
    assert pandas.DataFrame(model.history_).shape == (10, 4)


def test_histories_in_a_pipeline_are_those_of_the_last_fit(iris):
    pipeline = make_pipeline(StandardScaler(), small(max_iter=3))
    assert len(pipeline.fit(*iris)[-1].history_["loss"]) == 3
    assert len(pipeline.fit(*iris)[-1].history_["loss"]) == 3
