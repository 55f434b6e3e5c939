"""Fitted models from scikit-learn, and to it.

A model becomes the class of its own name where this package has one, else the perceptron that predicts the same; see
`pymlp.convert.sklearn_perceptrons` and `pymlp.convert.sklearn_classics`.  What pipelines do first goes into the first
layer as far as that can hold it; see `pymlp.convert.sklearn_columns`.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from sklearn import linear_model, naive_bayes, neural_network, svm
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from pymlp.convert import sklearn_classics, sklearn_perceptrons
from pymlp.convert.errors import ConversionError
from pymlp.convert.sklearn_columns import Columns, columns_of, without_scalers
from pymlp.network import DTYPES
from pymlp.portable import portable

# what converts a model of a class, given what comes before it and the dtype that is asked for
_CONVERTERS = {
    neural_network.MLPClassifier: sklearn_perceptrons.from_perceptron,
    neural_network.MLPRegressor: sklearn_perceptrons.from_perceptron,
    linear_model.LogisticRegression: sklearn_classics.from_linear_classifier,
    linear_model.LogisticRegressionCV: sklearn_classics.from_linear_classifier,
    linear_model.Perceptron: sklearn_classics.from_linear_classifier,
    svm.LinearSVC: sklearn_classics.from_linear_classifier,
    linear_model.SGDClassifier: sklearn_classics.from_descent_classifier,
    **{getattr(linear_model, name): sklearn_classics.from_regression for name in sklearn_classics.REGRESSIONS},
    naive_bayes.GaussianNB: sklearn_classics.from_bayes,
    naive_bayes.MultinomialNB: sklearn_classics.from_bayes,
    naive_bayes.BernoulliNB: sklearn_classics.from_bayes,
}
# what cannot take a scaling before it: its threshold is one for all columns
_AS_THEY_ARE = (naive_bayes.BernoulliNB,)


def from_sklearn(model: Any, *, dtype: str | None = None) -> Any:
    """Make a fitted model of this package from one of scikit-learn's.

    Parameters
    ----------
    model : fitted estimator of scikit-learn
        ``MLPClassifier``, ``MLPRegressor``, ``LogisticRegression``, ``LinearSVC``, ``Perceptron``, ``GaussianNB``,
        ``MultinomialNB`` or ``BernoulliNB``, which become the classes of these names; ``SGDClassifier`` and the linear
        regressions (``LinearRegression``, ``Ridge``, ``Lasso``, ...), which become a perceptron without hidden layers;
        a search over one of them, which stands for its ``best_estimator_``; or a ``Pipeline`` with one of them at its
        end.
    dtype : {"float32", "float64"}, optional
        Of the model made; by default that of the model's weights.

    Returns
    -------
    estimator of this package, or Pipeline
        It predicts the same from the same X.

        Of a pipeline, the scalers before the model (``StandardScaler``, ``MinMaxScaler``, ``MaxAbsScaler``,
        ``RobustScaler``), selections of features, and a ``ColumnTransformer`` of these go into the first layer, and the
        result takes raw columns.  The perceptrons then have ``standardize=True``: they go on training in the units of
        the scalers, while a clone of them learns means and deviations.  A step that is more than a scaling of single
        columns, such as a ``OneHotEncoder``, stays in front as it is, in a scikit-learn pipeline of copies; the scalers
        inside a ``ColumnTransformer`` beside it are taken out of it.

    Raises
    ------
    ConversionError
        A ValueError: there is no way to convert the model, or it is none of scikit-learn's.
    sklearn.exceptions.NotFittedError
        The model has not been fitted.

    Notes
    -----
    The perceptrons keep all their parameters, records and moments: `partial_fit` does what scikit-learn's would do,
    to rounding.  The linear models and naive Bayes keep the parameters that they have here too, and learn by the rules
    of this package.  Naive Bayes behind scalers becomes an `MLPClassifier` with the network that `to_network` gives.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from pymlp.convert import from_sklearn
    >>> X, y = load_iris(return_X_y=True)
    >>> theirs = make_pipeline(StandardScaler(), MLPClassifier(solver="lbfgs", random_state=0)).fit(X, y)
    >>> bool((from_sklearn(theirs).predict(X) == theirs.predict(X)).all())
    True
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConversionError(f"dtype={dtype!r} is not one of {', '.join(DTYPES)}")
    *before, (name, last) = _steps("", model)
    for _, step in before:
        check_is_fitted(step)
    columns = None
    if not isinstance(last, _AS_THEY_ARE):
        before, columns = _folded(before, last)
    converted = _converted(last, columns, dtype)
    return Pipeline([*copy.deepcopy(before), (name, converted)]) if before else converted


def _steps(name: str, model: Any) -> list[tuple[str, Any]]:
    """The steps of a pipeline, and of pipelines in it; of anything else itself."""
    # what a search has found stands for it
    model = getattr(model, "best_estimator_", model)
    if not isinstance(model, Pipeline):
        return [(name, model)]
    prefix = f"{name}-" if name else ""
    *before, last = model.steps
    steps = [(inner, step) for inner, step in before if step is not None and step != "passthrough"]
    return [each for inner, step in (*steps, last) for each in _steps(prefix + inner, step)]


def _folded(before: list[tuple[str, Any]], last: Any) -> tuple[list[tuple[str, Any]], Columns | None]:
    """The steps that stay before a model, and what those do that go into it."""
    before, columns, following = list(before), None, last
    while before and (found := columns_of(before[-1][1])) is not None:
        columns = found if columns is None else found.then(columns)
        _, following = before.pop()
    if before and isinstance(before[-1][1], ColumnTransformer):
        taken = without_scalers(before[-1][1])
        if taken is not None:
            bare, found = taken
            found = replace(found, names=getattr(following, "feature_names_in_", None))
            before[-1] = before[-1][0], bare
            columns = found if columns is None else found.then(columns)
    return before, columns


def _converted(model: Any, columns: Columns | None, dtype: str | None) -> Any:
    # not of classes derived from them, which may predict otherwise
    converter = _CONVERTERS.get(type(model))
    if converter is None:
        known = ", ".join(sorted(kind.__name__ for kind in _CONVERTERS))
        raise ConversionError(
            f"{type(model).__module__}.{type(model).__name__} cannot be converted; of scikit-learn's models these can: "
            f"{known}, and a Pipeline with one of them at its end"
        )
    check_is_fitted(model)
    return converter(model, columns, dtype)


def to_sklearn(model: Any) -> Any:
    """Make a fitted model of scikit-learn from one of this package.

    Parameters
    ----------
    model : fitted estimator of this package, or (Network, ndarray)
        `MLPClassifier`, `MLPRegressor`, `LogisticRegression`, `LinearSVC`, `Perceptron`, `GaussianNB`, `MultinomialNB`
        or `BernoulliNB`; a network with its parameters becomes an ``MLPRegressor``.

    Returns
    -------
    estimator of scikit-learn
        Of the same name.  It predicts the same; a standardisation is part of its first layer.

        What only training knows, and scikit-learn's perceptrons do not, is left behind: dropout, `max_norm`, penalties
        other than L2, class weights, schedules, and of a loss all but its output activation.  Its solver is "adam"
        where it has not the model's.  The moments of "sgd" and "adam" come along, so that `partial_fit` goes on as
        here, unless the model standardizes or its optimizer does more than scikit-learn's.

    Raises
    ------
    ConversionError
        A ValueError: scikit-learn has no place for something in the model, such as an activation or a residual layer;
        it names the layer.
    TypeError
        `model` is nothing of this package that predicts.
    sklearn.exceptions.NotFittedError
        The model has not been fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from pymlp import MLPClassifier
    >>> from pymlp.convert import to_sklearn
    >>> X, y = load_iris(return_X_y=True)
    >>> ours = MLPClassifier(solver="lbfgs", standardize=True, random_state=0).fit(X, y)
    >>> bool((to_sklearn(ours).predict(X) == ours.predict(X)).all())
    True
    """
    if type(model).__module__.startswith("pymlp.") and type(model).__name__ in sklearn_classics.MODULES:
        check_is_fitted(model)
        return sklearn_classics.to_classic(model)
    return sklearn_perceptrons.to_perceptron(portable(model), model)
