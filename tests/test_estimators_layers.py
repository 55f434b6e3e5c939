"""Layers, dropout and the elastic net on the two estimators."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from sklearn.base import clone
from small_models import CLASSES, small

import pymlp
from pymlp import SGD, AdamW, Dense, MLPRegressor, Network, Predictor, backends, config_context
from pymlp.optimizers import new_slots

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LAYERS = {
    "one": Dense(6),
    "plain": [Dense(6), 5],
    "dropout": [Dense(6, dropout=0.3), 5],
    "norm": [6, Dense(6, "silu", normalization="layer", residual=True)],
    "parametric": (Dense(6, "gelu", parametric=True, max_norm=2.0),),
}


def test_numbers_and_layers_mix(iris):
    model = small(
        hidden_layer_sizes=[Dense(7, "gelu", 0.2), 5, 4], activation=["relu", "tanh", "silu"], dropout=0.1,
        input_dropout=0.05,
    ).fit(*iris)  # fmt: skip
    assert model.network_.layers == (
        Dense(7, "gelu", 0.2), Dense(5, "tanh", 0.1), Dense(4, "silu", 0.1), Dense(3, "softmax"),
    )  # fmt: skip
    assert model.network_.input_dropout == 0.05
    assert [weight.shape for weight in model.coefs_] == [(4, 7), (7, 5), (5, 4), (4, 3)]
    assert model.n_layers_ == 5


def test_a_plain_layer_is_its_width(iris):
    layers = small(hidden_layer_sizes=[Dense(6), Dense(5)]).fit(*iris)
    widths = small(hidden_layer_sizes=(6, 5)).fit(*iris)
    assert layers.network_ == widths.network_
    np.testing.assert_array_equal(layers.params_, widths.params_)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", CLASSES)
def test_layers_are_kept(iris, kind, name, tmp_path):
    X, y = iris
    model = small(CLASSES[kind], hidden_layer_sizes=LAYERS[name]).fit(X, y)
    model.save(tmp_path / "model")
    for again in (pymlp.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        assert again.network_ == model.network_
    sizes = pymlp.load(tmp_path / "model").hidden_layer_sizes
    assert sizes == (tuple(LAYERS[name]) if isinstance(LAYERS[name], list) else LAYERS[name])
    assert clone(model).hidden_layer_sizes == LAYERS[name]
    answer = model.predict_proba(X) if kind == "classifier" else model.predict(X)
    np.testing.assert_array_equal(Predictor(model)(X), answer)
    twin = pickle.loads(pickle.dumps(model))
    assert twin.partial_fit(X, y).params_.tobytes() == model.partial_fit(X, y).params_.tobytes()


# ------------------------------------------------------------------------------------------------------------- dropout


def test_dropout_acts_in_training_alone(iris):
    X, y = iris
    model, plain = small(dropout=0.5).fit(X, y), small().fit(X, y)
    assert not np.array_equal(model.params_, plain.params_)
    np.testing.assert_array_equal(model.predict_proba(X), model.predict_proba(X))
    network = Network.from_widths((4, 6, 3), loss="log_loss", dtype="float64")
    np.testing.assert_allclose(Predictor(network, model.params_)(X), model.predict_proba(X), rtol=1e-13)


def test_the_seed_of_dropout_comes_after_the_weights(iris):
    X, y = iris
    options = {"learning_rate_init": 1e-300, "max_iter": 1}
    model, plain = small(dropout=0.5, **options).fit(X, y), small(**options).fit(X, y)
    np.testing.assert_allclose(model.params_, plain.params_)
    random = np.random.RandomState(0)
    plain.network_.initial_params(random)
    assert model.network_.seed == random.randint(0, 2**64, dtype=np.uint64)
    assert plain.network_.seed == 0


@pytest.mark.parametrize(
    "options", [{"dropout": 0.4}, {"input_dropout": 0.4}, {"hidden_layer_sizes": [Dense(6, dropout=0.4)]}]
)
def test_masks_are_drawn_anew(iris, options):
    X, y = iris
    one, same, other = (small(random_state=seed, shuffle=False, **options).fit(X, y) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.params_, same.params_)
    assert one.network_.seed != other.network_.seed
    # a fit that goes on draws again, partial_fit goes on with its steps
    seed = one.network_.seed
    assert one.partial_fit(X, y).network_.seed == seed
    same.set_params(warm_start=True, random_state=5).fit(X, y)
    assert same.network_.seed != seed
    first = small(**options).partial_fit(X, y, classes=[0, 1, 2])
    assert first.network_.seed == seed


def test_dropout_is_of_the_plan_with_that_seed(iris):
    X, y = iris
    found = small(dropout=0.4, shuffle=False, max_iter=3, batch_size=50, solver="sgd", momentum=0.0).fit(X, y)
    network = found.network_
    params = network.initial_params(np.random.RandomState(0))
    one_hot = np.eye(3)[y]
    optimizer = SGD(0.0, False)
    plan = backends.get("numpy").Plan(network, 50)
    slots, gradient = new_slots(optimizer, network.n_parameters, "float64"), np.empty(network.n_parameters)
    for step in range(9):
        rows = slice(50 * (step % 3), 50 * (step % 3) + 50)
        plan.loss_gradient(params, X[rows], one_hot[rows], None, gradient, step)
        plan.update(optimizer, params, gradient, slots, step, 0.001)
    np.testing.assert_allclose(found.params_, params, rtol=1e-10, atol=1e-13)


# -------------------------------------------------------------------------------------------------------- elastic net


@pytest.mark.parametrize("l1_ratio", [0.0, 0.25, 1.0])
def test_the_penalty_is_shared(iris, l1_ratio):
    network = small(alpha=0.2, l1_ratio=l1_ratio).fit(*iris).network_
    assert network.l1 == 0.2 * l1_ratio
    assert network.l2 == 0.2 * (1 - l1_ratio)


def test_l1_makes_weights_small(iris):
    X, y = iris
    options = {"alpha": 10.0, "max_iter": 300, "learning_rate_init": 0.01}
    ridge, lasso = (small(l1_ratio=l1_ratio, **options).fit(X, y) for l1_ratio in (0.0, 1.0))
    tiny = [np.mean(np.abs(model.coefs_[0]) < 0.02) for model in (ridge, lasso)]
    assert tiny[1] > tiny[0] + 0.3


# ---------------------------------------------------------------------------------------------------------- what fails


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dropout": 1.0}, "'dropout' parameter"),
        ({"input_dropout": -0.1}, "'input_dropout' parameter"),
        ({"l1_ratio": 1.5}, "'l1_ratio' parameter"),
        ({"hidden_layer_sizes": [Dense(3), 0]}, "hidden_layer_sizes must be > 0"),
        ({"hidden_layer_sizes": [Dense(3, residual=True)]}, r"layers\[0\]: residual=True needs as many"),
        ({"hidden_layer_sizes": [Dense(3, "softmax")]}, "serves as output activation only"),
        ({"solver": "lbfgs", "dropout": 0.1}, "solver='lbfgs' .* layer 0 has dropout=0.1"),
        ({"solver": "lbfgs", "input_dropout": 0.1}, "solver='lbfgs' .*input_dropout=0.1"),
        ({"solver": "lbfgs", "hidden_layer_sizes": [Dense(3, max_norm=1.0)]}, "layer 0 has max_norm=1.0"),
        ({"standardize": True, "hidden_layer_sizes": [Dense(4, residual=True)]}, "cannot be folded into a first layer"),
    ],
)
def test_what_does_not_fit_is_named(iris, parameters, message):
    with pytest.raises(ValueError, match=message):
        small(**parameters).fit(*iris)


def test_a_warm_start_needs_the_same_arrays(iris):
    model = small(hidden_layer_sizes=[Dense(6, normalization="layer")], warm_start=True).fit(*iris)
    before = model.params_.copy()
    with pytest.raises(ValueError, match=r"ask for .* which learn other arrays"):
        model.set_params(hidden_layer_sizes=[6]).fit(*iris)
    np.testing.assert_array_equal(model.params_, before)
    # dropout learns nothing
    model.set_params(hidden_layer_sizes=[Dense(6, normalization="layer", dropout=0.1)]).fit(*iris)


@pytest.mark.parametrize("name", ["plain", "dropout", "norm"])
def test_backends_agree(iris, name):
    X, y = iris
    found = {}
    for backend in ("c", "numpy"):
        with config_context(backend=backend):
            model = small(MLPRegressor, hidden_layer_sizes=LAYERS[name], solver=AdamW(weight_decay=0.01), max_iter=10)
            found[backend] = model.fit(X, y).predict(X)
    np.testing.assert_allclose(found["c"], found["numpy"], rtol=1e-9, atol=1e-9)
