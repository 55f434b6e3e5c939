"""Option objects: parameters by name, inside scikit-learn's clone, searches and views, in pickles and model files."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from pymlp import options
from pymlp.optimizers import OPTIMIZERS, AdamW
from pymlp.schedules import SCHEDULES, Cosine, Step

EVERY = [*OPTIMIZERS.values(), *SCHEDULES.values()]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_option_object_has_its_parameters_by_name(kind):
    made = kind()
    assert options.OPTIONS[kind.__name__] is kind
    assert options.is_option(made)
    assert not options.is_option(kind)
    again = kind(**made.get_params())
    assert again == made
    assert again.get_params(deep=False) == made.get_params()
    assert repr(again) == repr(made) == f"{kind.__name__}()"
    assert made.set_params() is made
    assert pickle.loads(pickle.dumps(made)) == made
    assert options.from_description(options.describe(made), EVERY) == made


def test_what_is_given_is_stored_as_it_is():
    epochs = [3, np.int64(5)]
    assert Step(epochs).get_params()["epochs"] is epochs
    rate = np.float32(0.25)
    assert AdamW(weight_decay=rate).weight_decay is rate


def test_numbers_of_numpy_are_described_by_those_of_python():
    described = options.describe(AdamW(weight_decay=np.float32(0.25))), options.describe(Step(np.array([3, 5])))
    assert json.loads(json.dumps(described))[0]["parameters"]["weight_decay"] == 0.25
    assert [type(epoch) for epoch in described[1]["parameters"]["epochs"]] == [int, int]


def test_parameters_change_together_or_not_at_all():
    schedule = Cosine(warmup=1)
    assert schedule.set_params(warmup=3, restarts=2) is schedule
    assert schedule == Cosine(warmup=3, restarts=2)
    assert repr(schedule) == "Cosine(warmup=3, restarts=2)"
    with pytest.raises(ValueError, match="Cosine has no parameter 'warm'; it has: warmup, restarts"):
        schedule.set_params(final=0.5, warm=2)
    with pytest.raises(ValueError, match=r"warmup must be in \[0, inf\), got -1"):
        schedule.set_params(final=0.5, warmup=-1)
    assert schedule == Cosine(warmup=3, restarts=2)
    with pytest.raises(AttributeError):
        schedule.warmup = 4


def test_only_what_is_known_is_made_of_a_description():
    with pytest.raises(ValueError, match="not the description of an option object"):
        options.from_description({"option": "eval", "parameters": {}}, EVERY)
    with pytest.raises(ValueError, match="not the description of an option object"):
        options.from_description({"option": "Cosine", "parameters": {}, "more": 1}, EVERY)


# ------------------------------------------------------------------------------------------------- inside scikit-learn


@pytest.fixture
def model():
    pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    from small_models import small

    return small(solver=AdamW(weight_decay=0.1), learning_rate=Cosine(warmup=2))


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_clone_copies(kind):
    base = pytest.importorskip("sklearn.base", reason="clone is scikit-learn's")
    made = kind()
    copied = base.clone(made)
    assert copied == made
    assert copied is not made


def test_an_estimator_shows_the_parameters_of_its_options(model):
    from sklearn.base import clone

    found = model.get_params()
    assert found["solver__weight_decay"] == 0.1
    assert found["learning_rate__warmup"] == 2
    copied = clone(model).set_params(solver__weight_decay=0.3, learning_rate__final=0.5)
    assert copied.solver == AdamW(weight_decay=0.3)
    assert copied.learning_rate == Cosine(warmup=2, final=0.5)
    assert model.solver == AdamW(weight_decay=0.1)
    with pytest.raises(ValueError, match="AdamW has no parameter 'decay'"):
        model.set_params(solver__decay=1)
    assert "solver=AdamW(weight_decay=0.1)" in repr(model)
    assert "learning_rate=Cosine(warmup=2)" in repr(model)
    assert "weight_decay=0.1" in model._repr_html_()
    again = pickle.loads(pickle.dumps(model))
    assert again.solver == model.solver
    assert again.learning_rate == model.learning_rate


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_search_over_the_parameters_of_options(model, iris):
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), model.set_params(max_iter=30, learning_rate_init=0.05))
    grid = {"mlpclassifier__solver__weight_decay": [0.0, 19.0], "mlpclassifier__learning_rate__warmup": [0, 3]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(*iris)
    assert search.best_params_["mlpclassifier__solver__weight_decay"] == 0.0
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    assert model.solver == AdamW(weight_decay=0.1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_model_files_keep_options_but_no_functions(model, iris, tmp_path):
    import pymlp

    model.set_params(learning_rate=Step((2, 3))).fit(*iris).save(tmp_path / "model")
    again = pymlp.load(tmp_path / "model")
    assert again.solver == model.solver
    assert again.learning_rate == model.learning_rate
    assert again.history_ == {**model.history_, "seconds": [None] * 4}
    assert len(again.partial_fit(*iris).history_["seconds"]) == 5
    model.set_params(learning_rate=lambda step: 0.01)
    with pytest.raises(ValueError, match=r"no place for the function learning_rate=.* use pickle"):
        model.save(tmp_path / "model")
    assert pymlp.load(tmp_path / "model").learning_rate == Step((2, 3))


def test_a_class_is_no_option_object(model, iris):
    with pytest.raises(ValueError, match=r"'solver' parameter of MLPClassifier must be .* Got <class"):
        model.set_params(solver=AdamW).fit(*iris)
    with pytest.raises(ValueError, match=r"learning_rate must be an object such as Cosine\(\)"):
        model.set_params(solver="adam", learning_rate=Cosine).fit(*iris)
