"""`pymlp.convert.from_torch` and `to_torch`: the same numbers both ways, or an error that names the layer."""

import copy
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import small_models
from sklearn.exceptions import NotFittedError

import pymlp
from pymlp import Dense, Network
from pymlp.convert import ConversionError, fitted_estimator, from_torch, to_torch
from pymlp.functions import ACTIVATIONS, PROBABILITIES
from pymlp.layers import NORM_EPSILON
from pymlp.losses import LOSSES, CustomLoss
from pymlp.network import DTYPES
from pymlp.portable import TASKS, portable
from pymlp.training import train

torch = pytest.importorskip("torch")
nn = torch.nn

X = np.random.RandomState(0).normal(size=(40, 5))
LABELS = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"]}
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads wait for each other longer than these modules compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows_of(dtype):
    return X.astype(dtype)


def said(module, rows):
    with torch.no_grad():
        return module(torch.from_numpy(rows)).numpy()


def close(ours, expected, dtype):
    expected = np.asarray(expected)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * np.abs(expected).max())


def computed(network, params, rows):
    return pymlp.Predictor(network, params)(rows)


def agrees(module, dtype="float64", **options):
    """What `from_torch` makes of a module gives what that gives."""
    module = module.to(getattr(torch, dtype)).eval()
    network, params = from_torch(module, **options)
    assert network.dtype == dtype
    close(computed(network, params, rows_of(dtype)), said(module, rows_of(dtype)), dtype)
    return network, params


def filled(module, seed=1):
    """Random numbers in all parameters and statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.3)
        for name, tensor in module.named_buffers():
            if name.endswith("running_var"):
                tensor.add_(1.0)
    return module


def network_with(activation="relu", loss="squared_error", outputs=2, dtype="float64", **further):
    layers = Dense(5, activation, **further), Dense(4, activation), Dense(outputs, LOSSES[loss].output_activation)
    network = Network(5, layers, loss, dtype)
    params = network.initial_params(0)
    # what is drawn as 1 or 0 would hide mistakes
    return network, (params + np.random.RandomState(1).uniform(0, 0.2, params.shape)).astype(dtype)


# from here to there and back

HIDDEN = [name for name, row in ACTIVATIONS.items() if row.hidden]
FURTHER = [
    {},
    {"dropout": 0.25},
    {"normalization": "layer"},
    {"residual": True},
    {"parametric": True},
    {"dropout": 0.25, "normalization": "layer", "residual": True, "parametric": True},
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("further", FURTHER, ids=lambda further: " ".join(further) or "plain")
@pytest.mark.parametrize("activation", HIDDEN)
def test_networks_there_and_back(activation, further, dtype):
    network, params = network_with(activation, dtype=dtype, **further)
    module = to_torch((network, params))
    assert not module.training
    close(said(module, rows_of(dtype)), computed(network, params, rows_of(dtype)), dtype)
    back, flat = from_torch(module)
    assert back == network
    np.testing.assert_array_equal(flat, params)
    assert not np.shares_memory(flat, params)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_output_activations(loss, dtype):
    group = LOSSES[loss].group
    network, params = network_with("tanh", loss, 2 * group, dtype)
    module = to_torch((network, params))
    close(said(module, rows_of(dtype)), computed(network, params, rows_of(dtype)), dtype)
    back, flat = from_torch(module)
    assert back == network
    np.testing.assert_array_equal(flat, params)
    scores = said(to_torch((network, params), logits=True), rows_of(dtype))
    if network.output_activation in PROBABILITIES:
        again, flat = from_torch(to_torch((network, params), logits=True))
        assert again == network
        np.testing.assert_array_equal(flat, params)
        applied = ACTIVATIONS[network.output_activation].value(scores)
        close(applied.astype(dtype), said(module, rows_of(dtype)), dtype)
    else:
        close(scores, said(module, rows_of(dtype)), dtype)


def fitted(task, dtype="float64", **options):
    rows = rows_of(dtype)
    options = {"hidden_layer_sizes": (6,), "max_iter": 3, "random_state": 0, "batch_size": 40, **options}
    if task == "numbers":
        return pymlp.MLPRegressor(**options).fit(rows, X[:, :2])
    y = (X[:, :3] > 0).astype(int) if task == "multilabel-indicator" else np.resize(LABELS[task], 40)
    return pymlp.MLPClassifier(**options).fit(rows, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("task", TASKS)
def test_estimators_there_and_back(task, dtype):
    model = fitted(task, dtype, standardize=True)
    module = to_torch(model)
    outputs = said(module, rows_of(dtype))
    expected = pymlp.Predictor(model)(rows_of(dtype))
    close(outputs, expected[:, 1:] if task == "binary" else expected, dtype)
    copied = io.BytesIO()
    torch.save(module, copied)
    copied.seek(0)
    for other in (module, copy.deepcopy(module), torch.load(copied, weights_only=False)):
        back = from_torch(other)
        assert type(back) is type(model)
        np.testing.assert_array_equal(back.params_, model.params_)
        np.testing.assert_array_equal(back.predict(rows_of(dtype)), model.predict(rows_of(dtype)))
        if task != "numbers":
            np.testing.assert_array_equal(back.classes_, model.classes_)
            np.testing.assert_array_equal(back.predict_proba(X), model.predict_proba(X))
    scores = said(to_torch(model, logits=True), rows_of(dtype))
    if task != "numbers":
        expected = model.decision_function(rows_of(dtype))
        close(scores[:, 0] if task == "binary" else scores, expected, dtype)


def test_names_of_features_survive():
    network, params = network_with()
    model = fitted_estimator(network, params, task="numbers", feature_names=list("abcde"))
    assert list(from_torch(to_torch(model)).feature_names_in_) == list("abcde")
    assert list(from_torch(to_torch(model), task="numbers", feature_names=list("vwxyz")).feature_names_in_) == list(
        "vwxyz"
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "kind", ["LogisticRegression", "LinearSVC", "Perceptron", "GaussianNB", "BernoulliNB", "FourierSVC"]
)
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_classic_classifiers(kind, task):
    options = {"n_components": 20} if kind == "FourierSVC" else {"binarize": 0.5} if kind == "BernoulliNB" else {}
    model = getattr(pymlp, kind)(**options).fit(X, np.resize(LABELS[task], 40))
    module = to_torch(model)
    outputs = said(module, X)
    positions = (outputs[:, 0] > portable(model).threshold) + 0 if outputs.shape[1] == 1 else outputs.argmax(axis=1)
    np.testing.assert_array_equal(model.classes_[positions], model.predict(X))
    if kind == "BernoulliNB":
        with pytest.raises(ConversionError, match=r"layer '0' \(Above\)"):
            from_torch(module)
        return
    back = from_torch(module)
    assert isinstance(back, pymlp.MLPClassifier)
    np.testing.assert_array_equal(back.predict(X), model.predict(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scaled_targets_of_a_density():
    model = pymlp.MLPRegressor("gaussian_nll", (4,), max_iter=3, standardize_target=True).fit(X, 100 * X[:, 0])
    outputs = said(to_torch(model), X)
    close(outputs, np.stack(model.predict(X, return_std=True), axis=1), "float64")
    with pytest.raises(ConversionError, match=r"'mean_deviation' can only be the last|ends the network"):
        from_torch(to_torch(model))


def test_input_dropout_and_training_mode():
    network = Network.from_widths((5, 4, 1), dropout=0.5, input_dropout=0.25, dtype="float64")
    module = to_torch((network, network.initial_params(0)))
    assert [layer.p for layer in module if isinstance(layer, nn.Dropout)] == [0.25, 0.5]
    assert from_torch(module)[0] == network
    first, second = said(module.train(), X), said(module, X)
    assert not np.array_equal(first, second)
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_loss_of_ones_own_is_left_behind():
    loss = CustomLoss(lambda y, output: (((y - output) ** 2).sum(axis=1), 2 * (y - output)))
    network = Network.from_widths((5, 1), loss=loss)
    assert from_torch(to_torch((network, network.initial_params(0))))[0].loss == "squared_error"


def test_nothing_is_drawn_and_nothing_shared():
    network, params = network_with(normalization="layer")
    state, before = torch.random.get_rng_state(), params.copy()
    module = to_torch((network, params))
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(params, before)
    module = filled(module)
    kept = pickle.dumps(module.state_dict())
    made, flat = from_torch(module)
    flat[:] = 0
    assert pickle.dumps(module.state_dict()) == kept
    assert made.n_parameters == len(flat)


def test_nothing_but_numpy_is_imported_to_read_a_state_dict():
    code = (
        "import sys, numpy as np, pymlp; "
        "network, params = pymlp.convert.from_torch({'0.weight': np.ones((2, 3), 'float32')}); "
        "print(network.widths, {'torch', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(3, 2) set()"


# modules of all kinds

MODULES = {
    "ReLU": nn.ReLU(),
    "Tanh": nn.Tanh(),
    "Sigmoid": nn.Sigmoid(),
    "GELU": nn.GELU(),
    "SiLU": nn.SiLU(),
    "Mish": nn.Mish(),
    "ELU": nn.ELU(),
    "SELU": nn.SELU(),
    "LeakyReLU": nn.LeakyReLU(),
    "LeakyReLU of another slope": nn.LeakyReLU(0.25),
    "PReLU": nn.PReLU(init=0.125),
    "PReLU for each": nn.PReLU(6),
    "Softplus": nn.Softplus(threshold=40),
    "Identity": nn.Identity(),
    "LayerNorm": nn.LayerNorm(6),
    "LayerNorm of another epsilon": nn.LayerNorm(6, eps=0.01),
    "LayerNorm without parameters": nn.LayerNorm(6, elementwise_affine=False),
    "LayerNorm without shift": nn.LayerNorm(6, bias=False),
    "BatchNorm1d": nn.BatchNorm1d(6),
    "BatchNorm1d without parameters": nn.BatchNorm1d(6, affine=False, eps=0.1),
    "Dropout": nn.Dropout(0.25),
    "Flatten": nn.Flatten(),
    "Linear": nn.Linear(6, 6),
    "Linear without bias": nn.Linear(6, 6, bias=False),
}


@pytest.mark.parametrize("second", ["ReLU", "LayerNorm", "BatchNorm1d", "Dropout"])
@pytest.mark.parametrize("first", MODULES)
def test_layers_in_any_order(first, second):
    # each pair of them in both orders, nested, between products and at the end
    for pair in ((first, second), (second, first)):
        inner = nn.Sequential(*(copy.deepcopy(MODULES[name]) for name in pair))
        agrees(filled(nn.Sequential(nn.Linear(5, 6), inner, nn.Sequential(nn.Sequential(), nn.Linear(6, 2)))))
    agrees(filled(nn.Sequential(nn.Linear(5, 6), inner)))


@pytest.mark.parametrize("name", MODULES)
def test_layers_in_float32(name):
    agrees(filled(nn.Sequential(nn.Linear(5, 6), copy.deepcopy(MODULES[name]), nn.Linear(6, 2))), "float32")


@pytest.mark.parametrize("name", ["BatchNorm1d", "LayerNorm", "Dropout", "ReLU", "PReLU"])
def test_layers_before_the_first_product(name):
    layers = {"BatchNorm1d": nn.BatchNorm1d(5), "LayerNorm": nn.LayerNorm(5)}
    module = nn.Sequential(layers.get(name, MODULES[name]), nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 1))
    if name in ("ReLU", "PReLU"):
        # how many columns there are nothing says before
        with pytest.raises(ConversionError, match="before the first layer that says how many columns"):
            from_torch(module)
        return
    network, _ = agrees(filled(module))
    assert len(network.layers) == (3 if name == "LayerNorm" else 2)
    assert network.input_dropout == (0.25 if name == "Dropout" else 0)


def test_one_module_in_several_places():
    relu, linear = nn.ReLU(), nn.Linear(6, 6)
    network, _ = agrees(nn.Sequential(nn.Linear(5, 6), relu, linear, relu, linear, relu, nn.Linear(6, 1)))
    assert network.widths == (5, 6, 6, 6, 1)
    assert {layer.activation for layer in network.layers[:-1]} == {"relu"}


def test_batch_norms_are_folded_where_they_can_be():
    layers = [nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(6), nn.Linear(6, 2)]
    network, _ = agrees(filled(nn.Sequential(nn.BatchNorm1d(5), *layers)))
    assert network.layers == (Dense(6, "relu", 0.5), Dense(2, "identity"))
    # in training mode too it is what eval mode computes
    module = filled(nn.Sequential(*layers)).double()
    expected = said(module.eval(), X)
    close(computed(*from_torch(module.train()), X), expected, "float64")


@pytest.mark.parametrize(
    ("last", "loss"), [(nn.Softmax(dim=1), "log_loss"), (nn.Sigmoid(), "binary_log_loss"), (nn.Tanh(), "squared_error")]
)
def test_ends(last, loss):
    network, _ = agrees(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), last))
    assert network.loss == loss


@pytest.mark.parametrize("last", [nn.Softmax(dim=1), nn.Sigmoid(), nn.Tanh(), nn.Identity()], ids=str)
def test_a_layer_norm_before_the_last_activation(last):
    module = filled(nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3), last))
    network, _ = agrees(module)
    assert network.layers[0].normalization == "layer"
    if not isinstance(last, nn.Sigmoid):
        model = from_torch(module, classes=list("abc"))
        expected = said(module, X)
        expected = expected if isinstance(last, nn.Softmax) else probabilities(expected)
        close(model.predict_proba(X), expected, "float64")


def test_a_single_linear_layer():
    network, _ = agrees(nn.Linear(5, 2))
    assert network == Network(5, (Dense(2, "identity"),), dtype="float64")


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
def test_narrow_types_become_float32(narrow):
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)).to(narrow)
    network, params = from_torch(module)
    assert network.dtype == "float32"
    close(computed(network, params, rows_of("float32")), said(module.float(), rows_of("float32")), "float32")
    assert from_torch(module, dtype="float64")[0].dtype == "float64"


# estimators

SCORES = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).double()
ONE = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1)).double()
TWO = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).double()


def probabilities(scores):
    return torch.softmax(torch.from_numpy(scores), dim=1).numpy()


@pytest.mark.parametrize("last", [None, nn.Softmax(dim=1), nn.LogSoftmax(dim=1)], ids=str)
@pytest.mark.parametrize("base", [SCORES, TWO], ids=["three", "two"])
def test_classifiers_with_an_output_for_each_class(base, last):
    labels = ["b", "a", "c"][: base[-1].out_features]
    module = base if last is None else nn.Sequential(base, last)
    model = from_torch(module, classes=labels)
    expected = probabilities(said(base, X))[:, np.argsort(labels)]
    close(model.predict_proba(X), expected, "float64")
    assert list(model.classes_) == sorted(labels)
    np.testing.assert_array_equal(model.predict(X), np.sort(labels)[expected.argmax(axis=1)])
    losses = [model.partial_fit(X, np.resize(labels, 40)).loss_ for _ in range(20)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("last", [None, nn.Sigmoid()], ids=str)
def test_classifiers_with_a_single_output(last):
    module = ONE if last is None else nn.Sequential(ONE, last)
    model = from_torch(module, classes=["no", "yes"])
    close(model.predict_proba(X)[:, 1:], torch.sigmoid(torch.from_numpy(said(ONE, X))).numpy(), "float64")
    losses = [model.partial_fit(X, np.resize(["no", "yes"], 40)).loss_ for _ in range(20)]
    assert losses[-1] < losses[0]


def test_labels_that_come_together():
    module = nn.Sequential(SCORES, nn.Sigmoid())
    with pytest.raises(ConversionError, match="task='multilabel-indicator'"):
        from_torch(module, classes=["a", "b", "c"])
    for each in (module, SCORES):
        model = from_torch(each, task="multilabel-indicator")
        close(model.predict_proba(X), said(module, X), "float64")
    losses = [model.partial_fit(X, (X[:, :3] > 0).astype(int)).loss_ for _ in range(20)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("last", [None, nn.Tanh(), nn.Sigmoid(), nn.Softplus(threshold=40)], ids=str)
def test_regressors(last):
    module = ONE if last is None else nn.Sequential(ONE, last)
    for loss in (None, pymlp.Huber(2.0)):
        model = from_torch(module, task="numbers", loss=loss)
        close(model.predict(X), said(module, X)[:, 0], "float64")
        assert model.loss == (loss or "squared_error")
        losses = [model.partial_fit(X, np.abs(X[:, 0]) / 4).loss_ for _ in range(20)]
        assert losses[-1] < losses[0]


def test_losses_can_be_chosen():
    model = from_torch(SCORES, classes=list("abc"), loss=pymlp.LogLoss(0.1))
    assert model.loss == pymlp.LogLoss(0.1)
    model = from_torch(SCORES, classes=list("abc"), loss="hinge")
    close(model.decision_function(X), said(SCORES, X), "float64")
    assert not hasattr(model, "predict_proba")


def test_networks_go_on_training():
    network, params = from_torch(ONE)
    result = train(network, params, X, X[:, 0], optimizer=pymlp.Adam(), rate=0.01, epochs=20)
    assert result.history["loss"][-1] < result.history["loss"][0]


@pytest.mark.parametrize("task", TASKS)
def test_dropout_goes_on_in_training(task):
    outputs = {"binary": 1, "numbers": 2}.get(task, 3)
    module = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, outputs))
    model = from_torch(module, task=task)
    assert model.network_.layers[0] == Dense(8, "gelu", 0.5)
    assert isinstance(model, tuple(small_models.CLASSES.values()))


# state_dict


@pytest.mark.parametrize("as_arrays", [False, True])
def test_a_state_dict(as_arrays):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(5)
            self.first = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))
            self.second = nn.Linear(7, 6, bias=False)
            self.layer_norm = nn.LayerNorm(6)
            self.head = nn.Linear(6, 2)

        def forward(self, x):
            x = torch.tanh(self.first(self.norm(x)))
            return torch.sigmoid(self.head(torch.relu(self.layer_norm(self.second(x)))))

    module = filled(Model()).double().eval()
    state = module.state_dict()
    if as_arrays:
        state = {name: tensor.numpy() for name, tensor in state.items()}
    network, params = from_torch(state, activation=["tanh", "relu"], output_activation="logistic")
    close(computed(network, params, X), said(module, X), "float64")
    assert network.layers == (
        Dense(7, "tanh"), Dense(6, "relu", normalization="layer"), Dense(2, "logistic")
    )  # fmt: skip
    with pytest.raises(ConversionError, match=r"Model.*cannot be converted.*state_dict\(\) with activation="):
        from_torch(module)


def test_a_state_dict_of_a_classifier():
    model = from_torch(SCORES.state_dict(), activation="relu", classes=["a", "b", "c"])
    close(model.predict_proba(X), probabilities(said(SCORES, X)), "float64")
    single = from_torch(nn.Linear(5, 1).state_dict(), task="numbers")
    assert single.n_outputs_ == 1


# refusals


def chain_of(*modules):
    return nn.Sequential(nn.Linear(5, 6), *modules, nn.Linear(6, 1))


class Own(nn.Module):
    def forward(self, x):
        return x


class ReLU(nn.Module):
    """Of the same name as one that is known."""

    def forward(self, x):
        return -x


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (chain_of(nn.GELU("tanh")), {}, r"layer '1' \(GELU\) has approximate='tanh'"),
        (chain_of(nn.ELU(0.5)), {}, r"layer '1' \(ELU\) has alpha=0.5"),
        (chain_of(nn.Softplus(beta=2)), {}, r"layer '1' \(Softplus\) has beta=2"),
        (chain_of(nn.Softplus(threshold=5)), {}, r"\(Softplus\) has threshold=5.*at least 20"),
        (chain_of(nn.Softmax(dim=0)), {}, r"\(Softmax\) has dim=0"),
        (chain_of(nn.Softmax(dim=1)), {}, r"layer '1' \(Softmax\): 'softmax' can only be the last"),
        (chain_of(nn.Flatten(2)), {}, r"\(Flatten\) has start_dim=2"),
        (chain_of(nn.BatchNorm1d(6, track_running_stats=False)), {}, r"\(BatchNorm1d\) has track_running_stats=False"),
        (chain_of(nn.BatchNorm1d(4)), {}, r"layer '1' \(BatchNorm1d\): its mean must be of shape \(6,\)"),
        (chain_of(nn.LayerNorm((2, 3))), {}, r"normalized_shape=\(2, 3\)"),
        (chain_of(nn.LayerNorm(4)), {}, r"layer '1' \(LayerNorm\): its gain must be of shape \(6,\)"),
        (chain_of(nn.LayerNorm(6, eps=0)), {}, r"epsilon=0"),
        (chain_of(nn.PReLU(3)), {}, r"\(PReLU\) has num_parameters=3.*one or 6"),
        (chain_of(nn.Dropout(1.0)), {}, r"\(Dropout\) has the rate 1.0"),
        (chain_of(nn.AlphaDropout()), {}, r"layer '1' \(AlphaDropout\) is of torch.*cannot be converted"),
        (chain_of(nn.ReLU6()), {}, r"layer '1' \(ReLU6\)"),
        (chain_of(nn.Conv1d(1, 1, 1)), {}, r"layer '1' \(Conv1d\)"),
        (chain_of(Own()), {}, r"layer '1' \(Own\).*state_dict"),
        (chain_of(ReLU()), {}, r"layer '1' \(ReLU\) is of .*test_convert_torch"),
        (chain_of(nn.Linear(4, 6)), {}, r"layer '1' \(Linear\) takes 4 columns, but layer '0' \(Linear\) gives 6"),
        (chain_of(nn.Sequential(nn.Tanh(), nn.Linear(4, 6))), {}, r"layer '1.1' \(Linear\) takes 4 columns"),
        (nn.Sequential(), {}, "no layer with weights"),
        (nn.Sequential(ONE, nn.Sigmoid(), nn.BatchNorm1d(1)), {"classes": [0, 1]}, "and something behind it"),
        ("module", {}, r"str.*cannot be converted"),
        (nn.utils.spectral_norm(nn.Linear(5, 1)), {}, "Linear has forward hooks"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(5, 1)), {}, "ParametrizedLinear.*cannot be converted"),
        (ONE, {"activation": "relu"}, "activation goes with a state_dict"),
        (ONE, {"output_activation": "relu"}, "output_activation goes with a state_dict"),
        (ONE, {"dtype": "float16"}, "dtype='float16'"),
        (ONE, {"loss": "no loss"}, "loss='no loss' is unknown"),
        (ONE, {"feature_names": ["a"] * 5}, "give task or classes"),
        (ONE, {"task": "numbers", "feature_names": ["a"]}, "names of the 5 features"),
        (ONE, {"classes": ["a", "b", "c"]}, "2 labels"),
        (SCORES, {"task": "binary"}, "has one output"),
        (SCORES, {"task": "everything"}, "task='everything'"),
        (nn.Sequential(SCORES, nn.Softmax(1)), {"task": "numbers"}, "no MLPRegressor has this network"),
        (nn.Sequential(SCORES, nn.Sigmoid()), {"task": "multiclass"}, "ends the network with 'logistic'"),
        (nn.Sequential(SCORES, nn.Softmax(1)), {"loss": "hinge"}, "ends the network with 'softmax', but loss='hinge'"),
        (SCORES.state_dict(), {}, "a state_dict has no activations"),
        (SCORES.state_dict(), {"activation": ["relu", "tanh"]}, "2 names for 1 hidden layers"),
        (SCORES.state_dict(), {"activation": "step"}, "activation='step' is unknown"),
        (SCORES.state_dict(), {"activation": "relu", "output_activation": "step"}, "output_activation='step'"),
        ({"0.weight": np.zeros((3, 2, 2))}, {}, r"layer '0' of the state_dict.*weight \(3, 2, 2\)"),
        ({"0.weight": np.zeros((3, 2)), "0.mask": np.zeros(3)}, {}, r"mask \(3,\)"),
        ({"0.weight": np.zeros((3, 2)), "1.weight": np.zeros(3)}, {}, "layer '1' of the state_dict"),
        ({}, {}, "no layer with weights"),
        ({"weight": np.array([["a"]])}, {}, "must be numbers"),
        ({"weight": np.full((1, 1), np.nan)}, {}, "not finite"),
        ({"weight": np.full((1, 1), 1e300)}, {"dtype": "float32"}, "not finite"),
    ],
)  # fmt: skip
def test_refusals(module, options, message):
    with pytest.raises(ConversionError, match=message):
        from_torch(module, **options)


def test_residuals_of_what_is_no_single_layer():
    Residual = type(to_torch((Network(5, (Dense(5, residual=True), Dense(1, "identity"))), np.zeros(36, "float32")))[0])
    for inner in (nn.ReLU(), nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)), nn.BatchNorm1d(6)):
        with pytest.raises(ConversionError, match=r"layer '1' \(Residual\) adds its inputs"):
            from_torch(chain_of(Residual(inner)))


def test_what_cannot_be_taken_there():
    with pytest.raises(TypeError, match="fitted estimator of pymlp"):
        to_torch("model")
    with pytest.raises(NotFittedError):
        to_torch(pymlp.MLPClassifier())


def test_the_epsilon_is_pytorchs():
    assert nn.LayerNorm(3).eps == NORM_EPSILON
