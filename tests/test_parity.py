"""Fitted weights equal scikit-learn's: same float64 data, parameters and integer random_state, in every backend.

Two parts.  `DESIGN` covers data set, solver (sgd with each momentum and each schedule, adam, lbfgs), activation, batch
size, early stopping and sample weights so that every pair of values of any two of these factors occurs in at least one
case; the full product would be 1584.  `SINGLE` holds what does not combine: other kinds of targets, sparse input,
shapes of networks, what happens when patience runs out.  Inputs are standardised and sgd runs at 1e-3, because rounding
differences grow without bound on raw data; lbfgs is compared after 10 iterations for the same reason.
"""

from functools import cache
from itertools import combinations, product

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="parity is with scikit-learn")

from scipy import sparse
from sklearn import datasets, neural_network
from sklearn.preprocessing import StandardScaler

import pymlp
from pymlp import backends

pytestmark = pytest.mark.filterwarnings("ignore")

SGD_SOLVERS = {
    f"sgd-{momentum_name}-{schedule}": {"solver": "sgd", "learning_rate": schedule, **momentum}
    for momentum_name, momentum in {
        "plain": {"momentum": 0.0},
        "momentum": {"momentum": 0.9, "nesterovs_momentum": False},
        "nesterov": {"momentum": 0.9, "nesterovs_momentum": True},
    }.items()
    for schedule in ("constant", "invscaling", "adaptive")
}
FACTORS = {
    "data": ("iris", "digits", "diabetes"),
    "solver": (*SGD_SOLVERS, "adam", "lbfgs"),
    "activation": ("identity", "logistic", "tanh", "relu"),
    "batch": ("auto", 32, "n"),
    "early_stopping": (False, True),
    "weighted": (False, True),
}


def pairs_of(case):
    return set(combinations(tuple(zip(FACTORS, case, strict=True)), 2))


def pairwise_design():
    """Greedy: of all cases, always the one with the most pairs not yet covered."""
    cases = {case: pairs_of(case) for case in product(*FACTORS.values())}
    missing = set().union(*cases.values())
    design = []
    while missing:
        best = max(cases, key=lambda case: len(cases[case] & missing))
        design.append(best)
        missing -= cases[best]
    return design


DESIGN = pairwise_design()


@cache
def data_of(name):
    loader = {"iris": datasets.load_iris, "digits": datasets.load_digits, "diabetes": datasets.load_diabetes}[name]
    X, y = loader(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    if name == "diabetes":
        y = (y - y.mean()) / y.std()
    return X, y, np.random.RandomState(5).uniform(0.2, 3.0, len(X))


def pair_of(regression):
    if regression:
        return neural_network.MLPRegressor, pymlp.MLPRegressor
    return neural_network.MLPClassifier, pymlp.MLPClassifier


def parameters_of(case):
    name, solver, activation, batch, early_stopping, _ = case
    return {
        "hidden_layer_sizes": (9, 5),
        "activation": activation,
        "batch_size": len(data_of(name)[0]) if batch == "n" else batch,
        "early_stopping": early_stopping,
        "learning_rate_init": 1e-3,
        "max_iter": 10,
        "n_iter_no_change": 3,
        "random_state": 11,
        **SGD_SOLVERS.get(solver, {"solver": solver}),
    }


@cache
def theirs_of(case):
    name, *_, weighted = case
    X, y, weight = data_of(name)
    model = pair_of(name == "diabetes")[0](**parameters_of(case))
    return model.fit(X, y, sample_weight=weight if weighted else None)


def assert_same(ours, theirs):
    """Every weight within 1e-6 relative or 1e-9 absolute, and every record of the training."""
    for name in ("coefs_", "intercepts_"):
        for mine, expected in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-6, atol=1e-9, err_msg=name)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"):
        assert hasattr(ours, name) == hasattr(theirs, name), name
        expected = getattr(theirs, name, None)
        if expected is None:
            assert getattr(ours, name, None) is None, name
        else:
            np.testing.assert_allclose(getattr(ours, name), expected, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.fixture(params=backends.available())
def backend(request):
    with pymlp.config_context(backend=request.param):
        yield request.param


def test_design_covers_every_pair_of_values():
    covered = set().union(*(pairs_of(case) for case in DESIGN))
    names = list(FACTORS)
    for first, second in combinations(names, 2):
        for pair in product(FACTORS[first], FACTORS[second]):
            assert ((first, pair[0]), (second, pair[1])) in covered


@pytest.mark.parametrize("case", DESIGN, ids=lambda case: "-".join(map(str, case)))
def test_weights_equal(case, backend):
    name, *_, weighted = case
    X, y, weight = data_of(name)
    ours = pair_of(name == "diabetes")[1](**parameters_of(case))
    ours.fit(X, y, sample_weight=weight if weighted else None)
    assert_same(ours, theirs_of(case))


def _iris(chosen=slice(None)):
    X, y, _ = data_of("iris")
    return X[chosen], y[chosen]


def _multilabel():
    return datasets.make_multilabel_classification(120, 6, n_classes=4, random_state=2)


def _targets(columns, positive=False):
    X, y, _ = data_of("diabetes")
    Y = np.column_stack([np.roll(y, shift) for shift in range(columns)])
    return X, np.exp(Y) if positive else Y


# name: (regression, parameters, data)
SINGLE = {
    "binary": (False, {}, lambda: _iris(slice(0, 100))),
    "binary_early_stopping": (False, {"early_stopping": True}, lambda: _iris(slice(0, 100))),
    "binary_lbfgs": (False, {"solver": "lbfgs"}, lambda: _iris(slice(30, 100))),
    "text_labels": (False, {}, lambda: (_iris()[0], np.array(["b", "c", "a"])[_iris()[1]])),
    "one_class": (False, {}, lambda: _iris(slice(0, 40))),
    "multilabel": (False, {}, _multilabel),
    "multilabel_early_stopping": (False, {"early_stopping": True, "solver": "sgd"}, _multilabel),
    "multilabel_lbfgs": (False, {"solver": "lbfgs"}, _multilabel),
    "multilabel_sparse": (False, {}, lambda: (_multilabel()[0], sparse.csr_matrix(_multilabel()[1]))),
    "csr": (False, {"batch_size": 32}, lambda: (sparse.csr_matrix(_iris()[0] > 0.3).astype(float), _iris()[1])),
    "csc": (False, {"batch_size": 32}, lambda: (sparse.csc_matrix(_iris()[0] > 0.3).astype(float), _iris()[1])),
    "csr_early_stopping": (False, {"early_stopping": True}, lambda: (sparse.csr_matrix(_iris()[0]), _iris()[1])),
    "csr_lbfgs": (False, {"solver": "lbfgs"}, lambda: (sparse.csr_matrix(_iris()[0]), _iris()[1])),
    "no_hidden_layer": (False, {"hidden_layer_sizes": ()}, _iris),
    "no_hidden_layer_logistic": (False, {"hidden_layer_sizes": (), "activation": "logistic"}, _iris),
    "one_number_for_the_layers": (False, {"hidden_layer_sizes": 7}, _iris),
    "four_hidden_layers": (False, {"hidden_layer_sizes": [5, 6, 7, 8]}, _iris),
    "no_shuffle": (False, {"shuffle": False, "batch_size": 40}, _iris),
    "batch_too_large": (False, {"batch_size": 1000}, _iris),
    "no_penalty": (False, {"alpha": 0.0}, _iris),
    "large_penalty": (False, {"alpha": 10.0, "solver": "sgd", "learning_rate_init": 1e-3}, _iris),
    "adam_parameters": (False, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}, _iris),
    "patience_runs_out": (False, {"tol": 0.5, "n_iter_no_change": 2, "max_iter": 30}, _iris),
    "patience_never_runs_out": (False, {"tol": 0.5, "n_iter_no_change": np.inf, "max_iter": 15}, _iris),
    "adaptive_until_too_small": (
        False,
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 9.0, "n_iter_no_change": 1, "max_iter": 50},
        _iris,
    ),
    "adaptive_early_stopping": (
        False,
        {"solver": "sgd", "learning_rate": "adaptive", "early_stopping": True, "n_iter_no_change": 2, "max_iter": 40},
        _iris,
    ),
    "early_stopping_keeps_best": (
        False,
        {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 4, "max_iter": 60},
        _iris,
    ),
    "invscaling_power": (False, {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3}, _iris),
    "poisson": (True, {"loss": "poisson"}, lambda: _targets(1, positive=True)),
    "poisson_two_targets": (True, {"loss": "poisson", "solver": "sgd"}, lambda: _targets(2, positive=True)),
    "poisson_lbfgs": (True, {"loss": "poisson", "solver": "lbfgs"}, lambda: _targets(1, positive=True)),
    "three_targets": (True, {}, lambda: _targets(3)),
    "three_targets_early_stopping": (True, {"early_stopping": True}, lambda: _targets(3)),
    "three_targets_lbfgs": (True, {"solver": "lbfgs"}, lambda: _targets(3)),
}


@pytest.mark.parametrize("name", SINGLE)
def test_single(name, backend):
    regression, parameters, load = SINGLE[name]
    X, y = load()
    parameters = {"hidden_layer_sizes": (8,), "max_iter": 10, "random_state": 4, **parameters}
    theirs, ours = (cls(**parameters).fit(X, y) for cls in pair_of(regression))
    assert_same(ours, theirs)
    expected = theirs.predict(X)
    if sparse.issparse(expected):
        assert sparse.issparse(ours.predict(X))
        assert (ours.predict(X) != expected).nnz == 0
    elif regression:
        np.testing.assert_allclose(ours.predict(X), expected, rtol=1e-6)
    else:
        np.testing.assert_array_equal(ours.predict(X), expected)
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-6, atol=1e-9)
        assert ours.score(X, y) == theirs.score(X, y)


@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "adam"},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1},
        {"solver": "sgd", "learning_rate": "invscaling"},
        {"solver": "adam", "early_stopping": True},
        {"solver": "lbfgs"},
    ],
    ids=lambda parameters: "-".join(map(str, parameters.values())),
)
def test_warm_start(parameters, backend):
    X, y = _iris()
    pair = [
        cls(hidden_layer_sizes=(8,), max_iter=5, random_state=4, warm_start=True, **parameters)
        for cls in pair_of(False)
    ]
    for _ in range(3):
        for model in pair:
            model.fit(X, y)
        assert_same(pair[1], pair[0])


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("regression", [False, True])
def test_partial_fit_also_after_fit(solver, regression, backend):
    X, y, weight = data_of("diabetes" if regression else "iris")
    first = {} if regression else {"classes": np.unique(y)}
    pair = [cls(hidden_layer_sizes=(8,), max_iter=5, random_state=4, solver=solver) for cls in pair_of(regression)]
    rows = np.random.RandomState(0).permutation(len(X))
    for model in pair:
        model.partial_fit(X[rows[:60]], y[rows[:60]], **first)
        model.partial_fit(X[rows[60:]], y[rows[60:]], sample_weight=weight[rows[60:]])
    assert_same(pair[1], pair[0])
    for model in pair:
        model.fit(X, y).partial_fit(X[rows[:50]], y[rows[:50]])
    assert_same(pair[1], pair[0])


def test_partial_fit_of_several_labels(backend):
    X, Y = _multilabel()
    pair = [cls(hidden_layer_sizes=(8,), random_state=4) for cls in pair_of(False)]
    for model in pair:
        model.partial_fit(X[:60], Y[:60], classes=np.arange(4)).partial_fit(X[60:], Y[60:])
    assert_same(pair[1], pair[0])
    np.testing.assert_array_equal(pair[1].classes_, pair[0].classes_)
    np.testing.assert_array_equal(pair[1].predict(X), pair[0].predict(X))


def test_the_global_generator_is_the_same(backend):
    X, y = _iris()
    fitted = []
    for cls in pair_of(False):
        np.random.seed(8)
        fitted.append(cls(hidden_layer_sizes=(8,), max_iter=3).fit(X, y))
        fitted.append(np.random.rand())
    assert_same(fitted[2], fitted[0])
    assert fitted[1] == fitted[3]


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_float32_to_a_tolerance(solver, backend):
    X, y = _iris()
    X = X.astype(np.float32)
    # a few iterations: the search of lbfgs soon turns on the last bits of float32
    parameters = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 4, "solver": solver}
    theirs, ours = (cls(**parameters).fit(X, y) for cls in pair_of(False))
    assert ours.coefs_[0].dtype == np.float32
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=1e-3, atol=1e-4)
    assert ours.predict_proba(X).dtype == np.float32
