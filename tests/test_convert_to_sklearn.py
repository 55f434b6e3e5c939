"""`pymlp.convert.to_sklearn`: the same answers and the same training, or an error with a name."""

import pickle

import numpy as np
import pytest
from sklearn import linear_model, naive_bayes, neural_network, pipeline, preprocessing
from sklearn.exceptions import NotFittedError
from sklearn.tree import DecisionTreeClassifier
from sklearn_models import (
    CLASS_TASKS,
    LABELS,
    ROWS,
    X,
    Z,
    agree,
    same_weights,
    theirs,
)

import pymlp
from pymlp import Dense, Network
from pymlp.convert import ConversionError, fitted_estimator, from_sklearn, to_sklearn
from pymlp.functions import ACTIVATIONS as OURS
from pymlp.network import DTYPES
from pymlp.portable import TASKS
from pymlp.targets import CLASS_LOSSES, NUMBER_LOSSES

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("task", TASKS)
def test_perceptrons_from_here(task, dtype):
    rows = X.astype(dtype)
    kind, y = (pymlp.MLPRegressor if task == "numbers" else pymlp.MLPClassifier), LABELS[task]
    options = {"standardize_target": True} if task == "numbers" else {"class_weight": "balanced"}
    if task == "multilabel-indicator":
        options = {}
    model = kind(hidden_layer_sizes=(6,), max_iter=5, random_state=0, standardize=True, dropout=0.1, **options)
    model.fit(rows, y)
    back = to_sklearn(model)
    # scikit-learn multiplies by BLAS, in another order
    agree(
        back,
        model,
        rows,
        1e-12 if dtype == "float64" else 2e-5,
        methods=("predict_proba", "predict")[task == "numbers" :],
    )
    agree(from_sklearn(back), model, rows, 0.0, methods=("predict", "predict_proba"))
    before = back.t_
    assert back.partial_fit(rows, y).t_ == before + ROWS
    assert pickle.loads(pickle.dumps(back)).predict(rows).shape == y.shape


def test_solvers_that_are_not_scikit_learns():
    y = LABELS["multiclass"]
    for solver, expected in ((pymlp.Lion(), "adam"), (pymlp.SGD(momentum=0.25), "sgd"), ("rmsprop", "adam")):
        model = pymlp.MLPClassifier((4,), solver=solver, max_iter=2, learning_rate=pymlp.Cosine()).fit(X, y)
        there = to_sklearn(model)
        assert (there.solver, there.learning_rate) == (expected, "constant")
        assert there.momentum == (0.25 if expected == "sgd" else 0.9)
        assert np.isfinite(there.partial_fit(X, y).loss_)


def test_clipped_moments_are_not_scikit_learns():
    y = LABELS["multiclass"]
    model = pymlp.MLPClassifier((4,), solver=pymlp.Adam(clip_norm=1e-3), max_iter=2, random_state=0).fit(Z, y)
    assert not hasattr(to_sklearn(model), "_optimizer")
    plain = pymlp.MLPClassifier((4,), solver=pymlp.Adam(beta_1=0.5), max_iter=2, random_state=0).fit(Z, y)
    there = to_sklearn(plain)
    same_weights(there.partial_fit(Z, y), plain.partial_fit(Z, y))


def test_a_network_becomes_a_regressor():
    network = Network.from_widths((5, 4, 2), "tanh", dtype="float64")
    params = network.initial_params(0)
    there = to_sklearn((network, params))
    assert type(there) is neural_network.MLPRegressor
    agree(from_sklearn(there), there)
    np.testing.assert_allclose(there.predict(X), pymlp.Predictor(network, params)(X), rtol=1e-12)
    assert np.isfinite(there.partial_fit(X, LABELS["numbers"]).loss_)


def test_one_quantile_is_a_number():
    model = pymlp.MLPRegressor(
        hidden_layer_sizes=(4,), loss=pymlp.Quantile([0.9]), standardize_target=True, max_iter=3, random_state=0
    ).fit(X, LABELS["numbers"][:, 0])
    np.testing.assert_allclose(to_sklearn(model).predict(X), np.ravel(model.predict(X)), rtol=1e-12)


@pytest.mark.parametrize("activation", [name for name, row in OURS.items() if row.hidden])
def test_hidden_activations(activation):
    network = Network.from_widths((5, 4, 3, 1), ("tanh", activation))
    model = fitted_estimator(network, network.initial_params(0), task="numbers")
    if activation == "tanh":
        agree(to_sklearn(model), model, X.astype("float32"), 1e-6)
        return
    with pytest.raises(ConversionError, match=rf"layers\[1\] has the activation '{activation}'"):
        to_sklearn(model)


@pytest.mark.parametrize("loss", [*NUMBER_LOSSES, pymlp.Huber(2)], ids=str)
def test_losses_of_numbers(loss):
    y = np.abs(LABELS["numbers"]) + 0.1
    model = pymlp.MLPRegressor(loss, (4,), max_iter=2, random_state=0).fit(Z, y)
    if model.out_activation_ in ("identity", "exp"):
        agree(to_sklearn(model), model, Z)
        return
    with pytest.raises(ConversionError, match=r"layers\[1\], the output layer, has the activation"):
        to_sklearn(model)


@pytest.mark.parametrize("task", CLASS_TASKS)
@pytest.mark.parametrize("loss", [*CLASS_LOSSES, pymlp.LogLoss(0.1)], ids=str)
def test_losses_of_classes(loss, task):
    model = pymlp.MLPClassifier((4,), loss=loss, max_iter=2, random_state=0).fit(Z, LABELS[task])
    if hasattr(model, "predict_proba"):
        agree(to_sklearn(model), model, Z, methods=("predict", "predict_proba"))
        return
    with pytest.raises(ConversionError, match=f"the loss '{loss}'"):
        to_sklearn(model)


@pytest.mark.parametrize("further", [{"normalization": "layer"}, {"residual": True}, {"parametric": True}], ids=str)
def test_layers_that_scikit_learn_has_not(further):
    network = Network(5, (Dense(5, "relu"), Dense(5, "relu", **further), Dense(1, "identity")))
    with pytest.raises(ConversionError, match=rf"layers\[1\] has {next(iter(further))}="):
        to_sklearn((network, network.initial_params(0)))


def test_refusals():
    with pytest.raises(ConversionError, match=r"sklearn\.tree\..*DecisionTreeClassifier cannot be converted"):
        from_sklearn(DecisionTreeClassifier().fit(X, LABELS["binary"]))
    with pytest.raises(ConversionError, match="str cannot be converted"):
        from_sklearn("model")
    with pytest.raises(ConversionError, match="MLPClassifier cannot be converted"):
        from_sklearn(pymlp.MLPClassifier((2,), max_iter=1).fit(X, LABELS["binary"]))
    with pytest.raises(ConversionError, match="StandardScaler cannot be converted"):
        from_sklearn(pipeline.make_pipeline(preprocessing.StandardScaler()).fit(X))
    with pytest.raises(ConversionError, match="dtype='float16'"):
        from_sklearn(theirs(), dtype="float16")
    with pytest.raises(ConversionError, match="GaussianNB computes in float64"):
        from_sklearn(naive_bayes.GaussianNB().fit(X, LABELS["binary"]), dtype="float32")
    with pytest.raises(ConversionError, match="loss='modified_huber'"):
        from_sklearn(linear_model.SGDClassifier(loss="modified_huber").fit(X, LABELS["binary"]))
    with pytest.raises(ConversionError, match=r"loss='log_loss'.*3 classes"):
        from_sklearn(linear_model.SGDClassifier(loss="log_loss").fit(X, LABELS["multiclass"]))
    half = pipeline.Pipeline([("scaler", preprocessing.StandardScaler()), ("model", theirs())])
    for model in (neural_network.MLPClassifier(), linear_model.Ridge(), naive_bayes.GaussianNB(), half):
        with pytest.raises(NotFittedError):
            from_sklearn(model)
    for model in (pymlp.MLPClassifier(), pymlp.GaussianNB(), pymlp.LogisticRegression()):
        with pytest.raises(NotFittedError):
            to_sklearn(model)
    with pytest.raises(TypeError, match="fitted estimator of pymlp"):
        to_sklearn(theirs())
    with pytest.raises(ConversionError, match=r"layers\[0\] has the activation 'cosine'"):
        to_sklearn(pymlp.FourierSVC(n_components=3).fit(X, LABELS["binary"]))
    broken = theirs()
    broken.coefs_[0][0, 0] = np.nan
    with pytest.raises(ConversionError, match=r"layers\.0\.weight holds nan"):
        from_sklearn(broken)
