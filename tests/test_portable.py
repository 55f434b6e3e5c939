"""`pymlp.portable`: what a model answers, said once for all exporters and converters."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.exceptions import NotFittedError

import pymlp
from pymlp.inference import outputs_of
from pymlp.portable import TASKS, portable

X, y = load_iris(return_X_y=True)
X_labels, labels = make_multilabel_classification(n_samples=60, n_features=5, n_classes=3, random_state=0)
FEW = {"max_iter": 5, "random_state": 0, "tol": 0.0, "n_iter_no_change": 10}


def fitted(task):
    if task == "multilabel-indicator":
        return pymlp.MLPClassifier((4,), **FEW).fit(X_labels, labels), X_labels
    if task == "numbers":
        return pymlp.MLPRegressor(hidden_layer_sizes=(4,), standardize=True, standardize_target=True, **FEW).fit(
            X, y
        ), X
    rows = y < 2 if task == "binary" else y < 3
    return pymlp.MLPClassifier((4,), **FEW).fit(X[rows], np.array(["a", "b", "c"])[y[rows]]), X[rows]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("task", TASKS)
def test_answers_follow_from_the_network_and_what_is_said_of_it(task):
    model, rows = fitted(task)
    found = portable(model)
    assert found.task == task
    plan = pymlp.backends.get("numpy").Plan(found.network, len(rows))
    outputs = outputs_of(plan, found.params, rows)
    if found.output_scale is not None:
        outputs = outputs * found.output_scale[0] + found.output_scale[1]
    if task == "numbers":
        np.testing.assert_allclose(outputs[:, 0], model.predict(rows), rtol=1e-10)
        return
    if task == "multilabel-indicator":
        answer = (outputs > found.threshold).astype(int)
    else:
        answer = found.classes[
            outputs.argmax(axis=1) if task == "multiclass" else (outputs[:, 0] > found.threshold) + 0
        ]
    np.testing.assert_array_equal(answer, model.predict(rows))
    if found.with_complement:
        outputs = np.hstack([1 - outputs, outputs])
    np.testing.assert_allclose(outputs, model.predict_proba(rows), rtol=1e-10, atol=1e-12)


def test_parameters_are_a_copy():
    network = pymlp.Network.from_widths((2, 3, 1))
    params = network.initial_params(0)
    for found in (portable(network, params), portable((network, params))):
        assert found.task == "numbers"
        assert not np.shares_memory(found.params, params)


@pytest.mark.parametrize("kind", [pymlp.LogisticRegression, pymlp.LinearSVC, pymlp.GaussianNB, pymlp.BernoulliNB])
def test_classic_classifiers(kind):
    found = portable(kind().fit(X, y))
    assert found.task == "multiclass"
    assert found.gives_probabilities == (kind is not pymlp.LinearSVC)


def test_refusals():
    network = pymlp.Network.from_widths((2, 3, 1))
    with pytest.raises(TypeError, match="params is missing"):
        portable(network)
    with pytest.raises(TypeError, match="params goes with a Network"):
        portable(pymlp.LogisticRegression().fit(X, y), np.zeros(3))
    with pytest.raises(TypeError, match="fitted estimator of pymlp"):
        portable("model")
    with pytest.raises(NotFittedError):
        portable(pymlp.MLPClassifier())
