"""`pymlp.convert.from_sklearn`: linear models, support vector machines and naive Bayes of scikit-learn."""

import warnings

import numpy as np
import pytest
from sklearn import linear_model, naive_bayes, pipeline, preprocessing, svm
from sklearn.base import clone
from sklearn_models import (
    LABELS,
    VERSION,
    X,
    Z,
    agree,
    transformer,
)

import pymlp
from pymlp.convert import ConversionError, from_sklearn, to_sklearn
from pymlp.convert.sklearn_classics import BAYES, LINEAR, REGRESSIONS

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


CLASSIFIERS = [
    linear_model.LogisticRegression(),
    linear_model.LogisticRegression(C=0.5, fit_intercept=False, class_weight="balanced"),
    linear_model.LogisticRegression(
        l1_ratio=0.5, solver="saga", **({"penalty": "elasticnet"} if VERSION < (1, 8) else {})
    ),
    linear_model.LogisticRegression(C=np.inf),
    linear_model.LogisticRegressionCV(cv=3, Cs=3),
    linear_model.Perceptron(penalty="l2"),
    linear_model.Perceptron(tol=None, max_iter=5),
    svm.LinearSVC(),
    svm.LinearSVC(loss="hinge", fit_intercept=False),
    svm.LinearSVC(multi_class="crammer_singer"),
    linear_model.SGDClassifier(loss="hinge"),
    linear_model.SGDClassifier(loss="squared_hinge"),
    linear_model.SGDClassifier(loss="perceptron"),
]


@pytest.mark.parametrize("scaled", [False, True], ids=["alone", "scaled"])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("kind", CLASSIFIERS, ids=str)
def test_linear_classifiers(kind, task, scaled):
    model = clone(kind).fit(Z, LABELS[task])
    if scaled:
        model = pipeline.make_pipeline(transformer(), preprocessing.StandardScaler(), clone(kind)).fit(X, LABELS[task])
    rows = X if scaled else Z
    ours = from_sklearn(model)
    agree(ours, model, rows)
    name = type(kind).__name__.removesuffix("CV")
    if name in LINEAR:
        assert type(ours) is getattr(pymlp, name)
        back = to_sklearn(ours)
        assert type(back).__name__ == name
        agree(back, model, rows)
        shared = {own: getattr(kind, own) for own in LINEAR[name] if own not in ("C", "tol") and hasattr(kind, own)}
        for other in (ours, back):
            assert {own: getattr(other, own) for own in shared} == shared
        if not scaled and name == type(kind).__name__:
            assert getattr(ours, "C", None) == (None if name == "Perceptron" else kind.C)
    else:
        assert type(ours) is pymlp.MLPClassifier
    if name in LINEAR:
        for other in (ours, back):
            assert other.set_params(max_iter=3).fit(rows, LABELS[task]).coef_.shape[1] == 5
        return
    # towards other labels: of its own some losses are 0 by now
    ours.set_params(learning_rate_init=0.01)
    losses = [ours.partial_fit(rows, LABELS[task][::-1]).loss_ for _ in range(20)]
    assert losses[-1] < losses[0]


def test_logistic_regression_goes_on_from_where_it_was():
    model = linear_model.LogisticRegression(tol=1e-10, max_iter=10000).fit(Z, LABELS["multiclass"])
    ours = from_sklearn(model).set_params(warm_start=True, tol=1e-6)
    np.testing.assert_allclose(ours.fit(Z, LABELS["multiclass"]).coef_, model.coef_, atol=1e-4)
    assert ours.n_iter_[0] < 5


def test_binary_logistic_descent():
    model = linear_model.SGDClassifier(loss="log_loss").fit(Z, LABELS["binary"])
    ours = from_sklearn(model)
    agree(ours, model, Z)
    agree(to_sklearn(ours), model, Z, methods=("predict", "predict_proba"))


@pytest.mark.skipif(VERSION >= (1, 8), reason="scikit-learn 1.8 has no multi_class any more")
def test_kinds_of_several_classes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pair = linear_model.LogisticRegression(multi_class="multinomial").fit(Z, LABELS["binary"])
        agree(from_sklearn(pair), pair, Z, methods=("predict", "predict_proba"))
        one_by_one = linear_model.LogisticRegression(multi_class="ovr").fit(Z, LABELS["binary"])
        agree(from_sklearn(one_by_one), one_by_one, Z)
        one_by_one.fit(Z, LABELS["multiclass"])
        with pytest.raises(ConversionError, match=r"multi_class='ovr'.*3 classes"):
            from_sklearn(one_by_one)
        several = linear_model.LogisticRegression(multi_class="multinomial").fit(Z, LABELS["multiclass"])
        agree(from_sklearn(several), several, Z)
        liblinear = linear_model.LogisticRegression(solver="liblinear").fit(Z, LABELS["multiclass"])
        with pytest.raises(ConversionError, match="solver='liblinear'"):
            from_sklearn(liblinear)


@pytest.mark.parametrize("name", REGRESSIONS)
def test_regressions(name):
    y = np.abs(LABELS["numbers"][:, 0]) + 0.1
    kind = getattr(linear_model, name)
    model = kind().fit(Z, y)
    agree(from_sklearn(model), model, Z)
    scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), kind()).fit(X, y)
    ours = from_sklearn(scaled)
    agree(ours, scaled)
    losses = [ours.partial_fit(X, y).loss_ for _ in range(10)]
    assert np.isfinite(losses).all()


def test_regression_of_several_targets():
    model = linear_model.Ridge().fit(X, LABELS["numbers"])
    agree(from_sklearn(model), model)
    agree(to_sklearn(from_sklearn(model)), model)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("name", BAYES)
def test_naive_bayes(name, task):
    rows = X.round().clip(0) if name == "MultinomialNB" else X
    options = {"binarize": 0.5} if name == "BernoulliNB" else {}
    model = getattr(naive_bayes, name)(**options).fit(rows, LABELS[task])
    ours = from_sklearn(model)
    assert type(ours) is getattr(pymlp, name)
    assert {own: getattr(ours, own) for own in BAYES[name][0]} == {own: getattr(model, own) for own in BAYES[name][0]}
    agree(ours, model, rows)
    back = to_sklearn(ours)
    agree(back, model, rows)
    for other in (ours, back, model):
        other.partial_fit(rows[:40] + 1, LABELS[task][:40])
    agree(ours, model, rows, 1e-10)
    agree(back, model, rows, 1e-10)
    narrow = getattr(naive_bayes, name)().fit(rows.astype("float32"), LABELS[task])
    # some of what it learnt scikit-learn keeps in float32
    agree(from_sklearn(narrow), narrow, rows, 1e-6)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("name", BAYES)
def test_naive_bayes_behind_a_scaler(name, task):
    kind = getattr(naive_bayes, name)
    model = pipeline.make_pipeline(preprocessing.MinMaxScaler(), kind(**{"binarize": 0.5} if name[0] == "B" else {}))
    model.fit(X, LABELS[task])
    ours = from_sklearn(model)
    agree(ours, model, tolerance=1e-10, methods=("predict", "predict_proba"))
    if name == "BernoulliNB":
        # the threshold is one for all columns: the scaler stays
        assert isinstance(ours, pipeline.Pipeline)
        assert type(ours[-1]) is pymlp.BernoulliNB
    else:
        assert type(ours) is pymlp.MLPClassifier
        losses = [ours.partial_fit(X, LABELS[task]).loss_ for _ in range(10)]
        assert losses[-1] < losses[0]
