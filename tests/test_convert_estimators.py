"""`pymlp.convert.fitted_estimator`: networks from elsewhere become estimators that can all that a fitted one can."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from small_models import Stopper

import pymlp
from pymlp import Dense, Network
from pymlp.convert import ConversionError, fitted_estimator
from pymlp.functions import ACTIVATIONS, PROBABILITIES
from pymlp.inference import outputs_of
from pymlp.losses import LOSSES, CustomLoss
from pymlp.network import DTYPES
from pymlp.portable import TASKS, portable
from pymlp.targets import CLASS_LOSSES, NUMBER_LOSSES

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
]

X = np.random.RandomState(0).normal(size=(30, 4))
COLUMNS = {"binary": 1, "multiclass": 3, "multilabel-indicator": 3, "numbers": 2}
LABELS = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"]}
# what a classifier may be asked for, and the form of it for single columns
BINARY = {"log_loss": "binary_log_loss", "focal": "binary_focal"}


def network_of(task, loss=None, dtype="float64"):
    if loss is None:
        loss = {"numbers": "squared_error", "multiclass": "log_loss"}.get(task, "binary_log_loss")
    outputs = COLUMNS[task] * pymlp.losses.loss_of(loss).group
    network = Network.from_widths((4, 5, outputs), "tanh", loss=loss, dtype=dtype)
    return network, network.initial_params(1)


def targets_of(task, rows=30):
    random = np.random.RandomState(2)
    if task == "numbers":
        return random.uniform(0.5, 2.0, (rows, 2))
    if task == "multilabel-indicator":
        return random.randint(0, 2, (rows, 3))
    return np.resize(LABELS[task], rows)


def raw_outputs(network, params, rows):
    return outputs_of(pymlp.backends.get("numpy").Plan(network, len(rows)), params, rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("task", TASKS)
def test_answers_are_the_networks(task, dtype, tmp_path):
    network, params = network_of(task, dtype=dtype)
    model = fitted_estimator(network, params, task=task, classes=LABELS.get(task), feature_names=list("abcd"))
    outputs = raw_outputs(network, params, X.astype(dtype))
    tolerance = {"rtol": 1e-5 if dtype == "float32" else 1e-12}
    found = portable(model)
    assert (found.task, found.network, found.feature_names) == (task, network, tuple("abcd"))
    np.testing.assert_array_equal(found.params, params)
    if task == "numbers":
        np.testing.assert_allclose(model.predict(X), outputs, **tolerance)
    else:
        expected = np.hstack([1 - outputs, outputs]) if task == "binary" else outputs
        np.testing.assert_allclose(model.predict_proba(X), expected, **tolerance)
        if task != "multilabel-indicator":
            np.testing.assert_array_equal(model.predict(X), np.array(LABELS[task])[expected.argmax(axis=1)])
    answer = model.predict(X)
    assert model.n_features_in_ == 4
    assert list(model.feature_names_in_) == list("abcd")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), answer)
    model.save(tmp_path / "model.pymlp")
    np.testing.assert_array_equal(pymlp.load(tmp_path / "model.pymlp").predict(X), answer)
    assert np.isfinite(model.score(X, targets_of(task)))
    np.testing.assert_array_equal(
        pymlp.Predictor(model)(X.astype(dtype)), model.predict(X) if task == "numbers" else model.predict_proba(X)
    )
    assert str(network.n_parameters) in str(model.summary()).replace(",", "")


def test_records_are_those_of_no_epoch():
    model = fitted_estimator(*network_of("binary"), task="binary")
    assert (model.n_iter_, model.t_, model.loss_curve_, model.best_loss_) == (0, 0, [], None)
    assert set(map(len, model.history_.values())) == {0}
    assert not hasattr(model, "loss_")
    assert list(model.classes_) == [0, 1]


@pytest.mark.parametrize("task", TASKS)
def test_training_goes_on_from_the_given_parameters(task):
    network, params = network_of(task)
    y = targets_of(task)
    model = fitted_estimator(network, params, task=task, classes=LABELS.get(task), parameters={"random_state": 0})
    for _ in range(20):
        model.partial_fit(X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert (model.n_iter_, model.t_, len(model.loss_curve_)) == (1, 600, 20)
    # the first loss is that of the parameters themselves: all rows are one batch
    encoded = y if task in ("numbers", "multilabel-indicator") else model._targets.encode(y, "float64")
    first = network.loss_function.value(encoded.astype(float), raw_outputs(network, params, X)).mean()
    assert model.loss_curve_[0] == pytest.approx(first, rel=1e-10)
    warm = fitted_estimator(
        network, params, task=task, classes=LABELS.get(task), parameters={"warm_start": True, "max_iter": 3}
    )
    warm.fit(X, y)
    assert warm.loss_curve_[0] == pytest.approx(first, rel=1e-10)
    seen = []
    warm.set_callbacks(Stopper(lambda number, fitted: seen.append(fitted.predict(X)) and False)).fit(X, y)
    assert len(seen) == 3


HIDDEN = [name for name, row in ACTIVATIONS.items() if row.hidden]
FURTHER = [
    {},
    {"dropout": 0.25},
    {"normalization": "layer"},
    {"residual": True},
    {"max_norm": 2.0},
    {"parametric": True},
]


@pytest.mark.parametrize("activation", HIDDEN)
@pytest.mark.parametrize("further", FURTHER, ids=lambda further: "".join(further) or "plain")
def test_a_clone_builds_the_same_network(activation, further):
    layers = Dense(4, activation, **further), Dense(3, "tanh"), Dense(3, "softmax")
    network = Network(4, layers, "log_loss", "float32", l1=0.25, l2=0.5, input_dropout=0.125)
    model = fitted_estimator(network, network.initial_params(0), task="multiclass", classes=list("abc"))
    built = clone(model).set_params(max_iter=1).fit(X, np.resize(list("abc"), 30)).network_
    assert (built.layers, built.loss, built.dtype) == (network.layers, network.loss, network.dtype)
    assert (built.l1, built.l2, built.input_dropout) == (network.l1, network.l2, network.input_dropout)


@pytest.mark.parametrize("loss", [*NUMBER_LOSSES, pymlp.Quantile([0.25, 0.75]), pymlp.Huber(0.5)], ids=str)
def test_losses_of_numbers(loss):
    model = fitted_estimator(*network_of("numbers", loss), task="numbers")
    built = clone(model).set_params(max_iter=1).fit(X, targets_of("numbers"))
    assert built.network_ == model.network_


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel-indicator"])
@pytest.mark.parametrize("loss", [*CLASS_LOSSES, pymlp.LogLoss(0.1), pymlp.Focal(1.5)], ids=str)
def test_losses_of_classes(task, loss):
    form = loss
    if task != "multiclass":
        form = (
            BINARY.get(loss, loss)
            if isinstance(loss, str)
            else LOSSES[BINARY[loss.name]].__class__(**loss.get_params())
        )
    model = fitted_estimator(*network_of(task, form), task=task, classes=LABELS.get(task))
    assert model.loss == loss
    built = clone(model).set_params(max_iter=1).fit(X, targets_of(task))
    assert built.network_ == model.network_
    assert hasattr(model, "predict_proba") == (model.network_.output_activation in PROBABILITIES)


def half_squares(y, output):
    return ((y - output) ** 2).sum(axis=1) / 2, output - y


@pytest.mark.parametrize("task", TASKS)
def test_a_loss_of_ones_own_stays_one(task):
    activation = network_of(task)[0].output_activation
    network, params = network_of(task, CustomLoss(half_squares, activation))
    model = fitted_estimator(network, params, task=task, classes=LABELS.get(task))
    before = model.predict(X)
    model.partial_fit(X, targets_of(task))
    assert len(model.loss_curve_) == 1
    assert before.shape == model.predict(X).shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", ["log_loss", pymlp.LogLoss(0.1), pymlp.Focal(1.5)], ids=str)
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_two_outputs_with_a_softmax_become_one(task, loss, dtype):
    network = Network.from_widths((4, 5, 2), loss=loss, dtype=dtype)
    params = network.initial_params(0)
    model = fitted_estimator(network, params, task=task, classes=["a", "b"])
    np.testing.assert_allclose(
        model.predict_proba(X),
        raw_outputs(network, params, X.astype(dtype)),
        rtol=1e-12 if dtype == "float64" else 2e-6,
    )
    assert model.loss == loss
    assert model.partial_fit(X, np.resize(["a", "b"], 30)).n_outputs_ == 1


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_outputs_are_put_into_the_order_of_their_labels(task):
    network, params = network_of(task)
    given = params.copy()
    labels = {"binary": ["yes", "no"], "multiclass": ["b", "c", "a"]}[task]
    model = fitted_estimator(network, params, task=task, classes=labels)
    outputs = raw_outputs(network, params, X)
    columns = np.hstack([1 - outputs, outputs]) if task == "binary" else outputs
    assert list(model.classes_) == sorted(labels)
    np.testing.assert_array_equal(model.predict(X), np.array(labels)[columns.argmax(axis=1)])
    np.testing.assert_allclose(model.predict_proba(X), columns[:, np.argsort(labels)], rtol=1e-12)
    np.testing.assert_array_equal(params, given)


@pytest.mark.parametrize(
    "labels", [[3, 1, 2], [0.5, 1.5, -1.0], ["x", "y", "z"], np.array(["x", "z", "y"], object), np.int8([1, 2, 3])]
)
def test_types_of_labels(labels, tmp_path):
    model = fitted_estimator(*network_of("multiclass"), task="multiclass", classes=labels)
    assert model.classes_.dtype == np.asarray(labels).dtype
    assert model.classes_.tolist() == sorted(np.asarray(labels).tolist())
    model.save(tmp_path / "model")
    assert pymlp.load(tmp_path / "model").classes_.tolist() == model.classes_.tolist()


def test_a_single_class():
    model = fitted_estimator(*network_of("binary"), task="binary", classes=["only"])
    assert set(model.predict(X)) == {"only"}


def test_one_row_and_none():
    model = fitted_estimator(*network_of("binary"), task="binary")
    assert model.predict(X[:1]).shape == (1,)
    with pytest.raises(ValueError, match="0 sample"):
        model.predict(X[:0])


def test_sparse_label_matrices_are_predicted_as_they_were():
    model = fitted_estimator(*network_of("multilabel-indicator"), task="multilabel-indicator", sparse_labels=True)
    assert hasattr(model.predict(X), "tocsr")


def test_parameters_are_copied():
    network, params = network_of("numbers")
    model = fitted_estimator(network, params, task="numbers")
    assert not np.shares_memory(model.params_, params)


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("classes", {}, "task='classes' is not one of binary"),
        ("binary", {"params": np.zeros(3)}, "params must be a float64 array"),
        ("binary", {"params": "nan"}, r"layers\.0\.weight holds nan in row 0, column 2"),
        ("binary", {"network": network_of("numbers")[0]}, "has one output, or two with a softmax.*has 2"),
        ("multiclass", {"network": network_of("binary")[0]}, "an output for each class"),
        ("multiclass", {"classes": ["a", "b"]}, "the 3 labels of the outputs"),
        ("multiclass", {"classes": [["a", "b", "c"]]}, "the 3 labels of the outputs"),
        ("multiclass", {"classes": ["a", "b", "a"]}, "a label twice"),
        ("multiclass", {"classes": np.array(["a", 1, None], object)}, "can be sorted"),
        ("multiclass", {"classes": np.array([b"a", b"b", b"c"])}, "cannot be of the type"),
        ("binary", {"classes": ["a", "b", "c"]}, "the 2 labels of the outputs"),
        ("multilabel-indicator", {"classes": ["a", "b", "c"]}, "numbers of its columns"),
        ("numbers", {"classes": ["a", "b"]}, "task='numbers' has none"),
        ("numbers", {"feature_names": ["a"]}, "names of the 4 features"),
        ("numbers", {"network": network_of("multilabel-indicator")[0]}, "no MLPRegressor has this network"),
        ("binary", {"network": Network.from_widths((4, 1), dtype="float64")}, "no MLPClassifier has this network"),
        ("numbers", {"parameters": {"solver": "newton"}}, "solver"),
        ("numbers", {"parameters": {"loose": 1}}, "loose"),
        (
            "numbers",
            {"network": Network(4, (Dense(3), Dense(1, "identity", max_norm=1.0)), dtype="float64")},
            r"layers\[1\], the output layer, has a max_norm",
        ),
    ],
)
def test_refusals(task, change, message):
    network = change.get("network", network_of(task if task in COLUMNS else "binary")[0])
    params = network.initial_params(0)
    options = {name: value for name, value in change.items() if name not in ("network", "params")}
    if isinstance(change.get("params"), str):
        params[2] = np.nan
    else:
        params = change.get("params", params)
    with pytest.raises(ConversionError, match=message):
        fitted_estimator(network, params, task=task, **options)


def test_names_are_found_lazily():
    assert set(pymlp.convert.__all__) <= set(dir(pymlp.convert))
    for name in pymlp.convert.__all__:
        assert getattr(pymlp.convert, name) is not None
    with pytest.raises(AttributeError, match=r"module 'pymlp\.convert' has no attribute 'from_theano'"):
        _ = pymlp.convert.from_theano
