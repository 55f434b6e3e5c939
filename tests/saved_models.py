"""One small model of each kind that a model file can hold, and all that it predicts: for the tests of files.

The data are drawn by NumPy's legacy generator, whose numbers never change.
"""

import warnings
from contextlib import suppress

import numpy as np
from scipy import sparse

import pymlp
from pymlp import Dense, Network
from pymlp.losses import CustomLoss
from pymlp.optimizers import OPTIMIZERS
from pymlp.schedules import SCHEDULES

ROWS, COLUMNS = 40, 4


def rows(dtype="float64"):
    """The inputs of all models: (40, 4)."""
    return np.random.RandomState(7).normal(size=(ROWS, COLUMNS)).astype(dtype)


def _numbers(columns=1):
    X = rows()
    found = np.stack([np.abs(X @ np.arange(1.0, COLUMNS + 1) + shift) for shift in range(columns)], axis=1)
    return found[:, 0] if columns == 1 else found


def _labels(*names):
    return np.array(names)[np.argsort(rows()[:, 0]) % len(names)]


def _label_matrix():
    return (rows()[:, :3] > 0).astype(int)


def _everything(dtype):
    first = Dense(4, "gelu", 0.25, "layer", residual=True, max_norm=3.0, parametric=True)
    layers = first, Dense(3, "tanh"), Dense(2, "softmax", max_norm=0.5)
    return Network(COLUMNS, layers, pymlp.LogLoss(0.1), dtype, l1=0.5, l2=0.25, input_dropout=0.5, seed=2**63)


def _own_loss(y, output):
    return ((y - output) ** 2).sum(axis=1) / 2, output - y


def _named_columns():
    import pandas

    return pandas.DataFrame(rows(), columns=["a", "b", "c", "\u00e4 \U0001f40d"])


def _estimators():
    """Name to class, parameters, X, y."""
    classifier, regressor, X = pymlp.MLPClassifier, pymlp.MLPRegressor, rows()
    layers = [Dense(5, "gelu", dropout=0.1, normalization="layer", parametric=True), Dense(5, residual=True)]
    found = {
        "binary": (classifier, {}, X, _labels(False, True)),
        "multiclass": (classifier, {"activation": ["tanh", "gelu"]}, X, _labels(3, -5, 9)),
        "multilabel": (classifier, {}, X, _label_matrix()),
        "sparse_labels": (classifier, {}, X, sparse.csr_matrix(_label_matrix())),
        "strings": (classifier, {"early_stopping": True}, X, _labels("low", "m\u00e4\u00dfig", "high")),
        "objects": (classifier, {}, X, _labels("low", "m\u00e4\u00dfig", "high \U0001f40d").astype(object)),
        "numbers_as_labels": (classifier, {"l1_ratio": 0.5}, X, _labels(1.0, 2.0).astype(np.float32)),
        "float32": (classifier, {}, rows("float32"), _labels(0, 1, 2)),
        "hinge": (classifier, {"loss": "hinge"}, X, _labels(0, 1, 2)),
        "focal": (classifier, {"loss": pymlp.Focal(gamma=1.5)}, X, _labels(0, 1)),
        "weighted": (classifier, {"class_weight": {"a": 1.0, "b": 2}}, X, _labels("a", "b")),
        "lbfgs": (classifier, {"solver": "lbfgs"}, X, _labels(0, 1, 2)),
        "layers": (classifier, {"hidden_layer_sizes": layers, "input_dropout": 0.1}, X, _labels(0, 1, 2)),
        "standardize": (classifier, {"standardize": True}, X * 1000, _labels(0, 1, 2)),
        "regressor": (regressor, {}, X, _numbers()),
        "two_targets": (regressor, {"max_time": 1000.0}, X, _numbers(2)),
        "no_hidden_layer": (regressor, {"hidden_layer_sizes": ()}, X, _numbers()),
        "gaussian": (regressor, {"loss": pymlp.GaussianNLL()}, X, _numbers()),
        "quantile": (regressor, {"loss": pymlp.Quantile([0.1, 0.5, 0.75])}, X, _numbers(2)),
        "huber": (regressor, {"loss": pymlp.Huber(0.5), "dtype": "float32"}, X, _numbers()),
        "poisson": (regressor, {"loss": "poisson"}, X, _numbers()),
        "tweedie": (regressor, {"loss": pymlp.Tweedie(1.25)}, X, _numbers()),
        "own_loss": (regressor, {"loss": _own_loss}, X, _numbers()),
        "own_loss_activated": (regressor, {"loss": CustomLoss(_own_loss, "softplus")}, X, _numbers()),
        "standardize_target": (
            regressor, {"standardize": True, "standardize_target": True}, X * 1000, 1000 * _numbers(),
        ),
        "standardize_gaussian": (
            regressor, {"loss": "gaussian_nll", "standardize_target": True}, X, 1000 * _numbers(),
        ),
    }  # fmt: skip
    for name, kind in OPTIMIZERS.items():
        found[f"solver_{name}"] = regressor, {"solver": kind(average="ema", clip_norm=1.0)}, X, _numbers()
    for name, kind in SCHEDULES.items():
        found[f"rate_{name}"] = classifier, {"solver": "sgd", "learning_rate": kind()}, X, _labels(0, 1)
    with suppress(ImportError):
        # names come from a data frame, which is an extra
        found["named_columns"] = classifier, {}, _named_columns(), _labels(0, 1, 2)
    return found


def networks():
    """Plain networks with parameters, by name."""
    described = {
        "network": Network.from_widths((COLUMNS, 5, 2), "tanh", loss="log_loss", l2=0.25),
        "network_float64": Network.from_widths((COLUMNS, 3), loss="squared_error", dtype="float64"),
        "network_everything": _everything("float32"),
        "network_everything_float64": _everything("float64"),
    }
    return {name: (network, network.initial_params(3)) for name, network in described.items()}


def models():
    """What `pymlp.save` takes, by name: every kind of estimator, and networks with their parameters."""
    found = dict(networks())
    for name, (kind, parameters, X, y) in _estimators().items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings = {"hidden_layer_sizes": (5, 3), "max_iter": 3, "batch_size": 20, "random_state": 0, **parameters}
            found[name] = kind(**settings).fit(X, y)
    return found


def predictions(model, X=None):
    """All that a model says of X, by default `rows`, by method; numbers or texts."""
    network = model[0] if isinstance(model, tuple) else model.network_
    X = rows(network.dtype) if X is None else X
    if isinstance(model, tuple):
        return {"outputs": pymlp.Predictor(*model)(X)}
    with warnings.catch_warnings():
        # names of columns, which an array has not
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
        found = {"predict": model.predict(X)}
        for name in ("predict_proba", "decision_function"):
            if hasattr(model, name):
                found[name] = getattr(model, name)(X)
        if isinstance(model, pymlp.MLPRegressor) and network.loss_function.name == "gaussian_nll":
            found["deviations"] = model.predict(X, return_std=True)[1]
    return {name: value.toarray() if sparse.issparse(value) else value for name, value in found.items()}
