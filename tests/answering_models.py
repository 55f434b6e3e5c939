"""Predictors of every form that an answer has, for the tests of what is made of predictors."""

import numpy as np

from pymlp import Dense, GaussianNLL, MLPClassifier, MLPRegressor, Network, Predictor, Quantile

INPUTS = 3
# several columns; one; a number; several numbers; both with a scale; a class and its complement; layers of every kind;
# one that runs on several threads and not on the stack
FORMS = ("columns", "column", "number", "numbers", "scaled", "scaled to the network", "two classes", "layers", "wide")


def rows(count, dtype="float64", seed=0, inputs=INPUTS):
    return np.random.default_rng(seed).normal(size=(count, inputs)).astype(dtype)


def network(widths, dtype="float64", activation="tanh", **options):
    made = Network.from_widths(widths, activation, dtype=dtype, **options)
    return made, made.initial_params(0)


def predictor(form, dtype="float64", **options):
    """A predictor whose answer has this form; of `INPUTS` inputs."""
    if form == "columns":
        return Predictor(*network((INPUTS, 17, 4), dtype), **options)
    if form == "column":
        return Predictor(*network((INPUTS, 17, 1), dtype), **options)
    if form == "layers":
        kinds = Dense(INPUTS, "gelu", 0.1, "layer", True, None, True)
        made = Network(INPUTS, (kinds, Dense(9, "mish"), Dense(2, "identity")), dtype=dtype)
        return Predictor(made, made.initial_params(0), **options)
    if form == "wide":
        return Predictor(*network((INPUTS, 500, 300, 2), dtype), **{"n_threads": 2, **options})
    return Predictor(model(form, dtype), **options)


def model(form, dtype="float64"):
    """A fitted estimator whose answer has this form."""
    X = rows(60, dtype)
    y = 100 + 20 * X @ rows(INPUTS, dtype, 1)
    few = {"hidden_layer_sizes": (11, 7), "activation": "tanh", "max_iter": 3, "tol": 0.0, "random_state": 0}
    if form == "two classes":
        return MLPClassifier(**few).fit(X, y[:, 0] > 100)
    if form == "scaled":
        return MLPRegressor(loss=Quantile([0.1, 0.5, 0.9]), standardize_target=True, **few).fit(X, y[:, 0])
    if form == "scaled to the network":
        return MLPRegressor(loss=GaussianNLL(), standardize=True, standardize_target=True, **few).fit(X, y[:, :2])
    return MLPRegressor(**few).fit(X, y[:, 0] if form == "number" else y)
