"""``pymlp train``: from a data set to a tested and saved model, with settings that do well unasked.

Inputs (and a regression's target) are standardised for the training, pixels are divided by their largest value, and
both are folded into the network afterwards: the score that is printed is that of the very model that is saved, on raw
values.

Where a tenth of the training rows is worth giving up, it decides when to stop: for a classifier from 10,000 rows on,
for a regression, which overfits small data badly, almost always.  Otherwise that tenth would say little about when to
stop and is better trained on; the bar then shows the score of the test rows, which decides nothing.
"""

from __future__ import annotations

import argparse
import math
import warnings
from time import perf_counter
from typing import Any

import numpy as np

import pymlp
from pymlp import backends, datasets, files
from pymlp.config import config_context
from pymlp.datasets import Dataset
from pymlp.functions import ACTIVATIONS
from pymlp.network import Network
from pymlp.replacement import check_replaceable
from pymlp.scores import r2
from pymlp.selection import selection
from pymlp.standardisation import Scaling, fold
from pymlp.tables import unknown_name

LAYERS = "256,128"
EPOCHS = 100
RATE = 1e-3
# about 25 steps an epoch, but batches that keep the engine busy and are still noisy
STEPS_PER_EPOCH = 25
SMALLEST_BATCH, LARGEST_BATCH = 32, 256
# epochs without a better validation score (or, without validation, a lower loss) before training stops
PATIENCE = 20
# fewest training rows of which a tenth is given to validation
VALIDATION_ROWS = {"classification": 10_000, "regression": 50}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "train",
        help="train a network on a data set",
        description=f"Train a network on a data set ({', '.join(datasets.NAMES)}) or a CSV, NPZ or Parquet file of "
        "numbers, and test it on rows that were set apart.",
    )
    parser.add_argument("data", metavar="DATA", help="name of a data set, or a file")
    parser.add_argument("--target", metavar="COLUMN", help="the column to predict (files only)")
    parser.add_argument("--task", help="classification or regression (default: told from the target)")
    parser.add_argument("--drop", metavar="COLUMN", action="append", default=[], help="leave this column out")
    parser.add_argument("--separator", metavar="CHAR", help="between the cells of a CSV file (default: found out)")
    parser.add_argument(
        "--layers", metavar="WIDTHS", default=LAYERS, help=f"of the hidden layers, or 'none' (default: {LAYERS})"
    )
    parser.add_argument("--activation", metavar="NAME", default="relu", help="of the hidden layers (default: relu)")
    parser.add_argument("--epochs", metavar="N", type=int, default=EPOCHS, help=f"at most (default: {EPOCHS})")
    parser.add_argument("--batch", metavar="N", type=int, help="rows of a batch (default: by the number of rows)")
    parser.add_argument("--rate", metavar="R", type=float, default=RATE, help=f"learning rate (default: {RATE})")
    parser.add_argument("--test-fraction", metavar="F", type=float, help="rows to test on (default: 0.2, or official)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of all random draws (default: 0)")
    parser.add_argument("--backend", metavar="NAME", help="c, numba or numpy (default: the fastest here)")
    parser.add_argument("--isa", metavar="NAME", help="instruction set of the C backend (default: the best here)")
    parser.add_argument("--threads", metavar="N", type=int, help="at most (default: the cores)")
    parser.add_argument("--save", metavar="FILE", help="write the model there")
    parser.add_argument("--checkpoint", metavar="FILE", help="keep there, once a minute, where the training has got to")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    parser.set_defaults(run=run)


def parse_layers(text: str) -> tuple[int, ...]:
    """Widths of the hidden layers from a list such as ``100,50``; none from ``none``."""
    if text.strip().lower() == "none":
        return ()
    widths = [part.strip() for part in text.split(",")]
    if not all(width.isdecimal() and int(width) > 0 for width in widths):
        raise ValueError(f"--layers {text!r} must be widths above 0 with commas between, such as 100,50, or none")
    return tuple(int(width) for width in widths)


def _check_options(arguments: argparse.Namespace) -> None:
    hidden = [name for name, row in ACTIVATIONS.items() if row.hidden]
    if arguments.activation not in hidden:
        raise ValueError(unknown_name("activation", arguments.activation, hidden))
    for name, value in (("--epochs", arguments.epochs), ("--batch", arguments.batch)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 0 < arguments.rate < np.inf:
        raise ValueError(f"--rate must be above 0, got {arguments.rate}")
    if not 0 <= arguments.seed < 2**32:
        raise ValueError(f"--seed must be at least 0 and below 2**32, got {arguments.seed}")
    if arguments.resume and arguments.checkpoint is None:
        raise ValueError("--resume needs a file to go on from: --checkpoint FILE")
    for path in (arguments.save, arguments.checkpoint):
        if path is not None:
            check_replaceable(path)


def run(arguments: argparse.Namespace) -> None:
    """Train, test, print, and save."""
    layers = parse_layers(arguments.layers)
    _check_options(arguments)
    with config_context(backend=arguments.backend, isa=arguments.isa, n_threads=arguments.threads):
        # a backend, instruction set or thread count that cannot be had says so before the data are read
        backends.get(arguments.backend).Plan(Network.from_widths((1, 1)), 1)
        dataset = datasets.load(
            arguments.data,
            arguments.target,
            task=arguments.task,
            drop=arguments.drop,
            separator=arguments.separator,
        )
        _train(arguments, layers, dataset)


def _train(arguments: argparse.Namespace, layers: tuple[int, ...], dataset: Dataset) -> None:
    from pymlp.fitting import DivergedError

    X, y, X_test, y_test = datasets.split(dataset, arguments.test_fraction, arguments.seed)
    kind = f"{len(np.unique(y))} classes" if dataset.task == "classification" else "regression"
    print(f"data: {dataset.name}, {len(X):,} rows to train, {len(X_test):,} to test, {X.shape[1]} columns")
    print(f"task: {kind} ({dataset.reason})")
    inputs = Scaling.of(X) if dataset.unit is None else Scaling.by(dataset.unit, X.shape[1])
    target = Scaling.of(y[:, np.newaxis]) if dataset.task == "regression" else None
    model = _new_model(arguments, layers, dataset.task, len(X))
    scores = []
    if len(X_test) and not model.early_stopping:
        scores.append(HeldOutScore(inputs.apply(X_test, "float32"), _scaled_target(target, y_test)))
    model.set_callbacks(*scores, pymlp.ProgressBar())
    start = perf_counter()
    try:
        model.fit(
            inputs.apply(X, "float32"),
            _scaled_target(target, y),
            checkpoint=arguments.checkpoint,
            resume=arguments.resume,
        )
    except DivergedError as error:
        raise ValueError(f"the weights were no longer finite; lower --rate ({arguments.rate})") from error
    seconds = perf_counter() - start
    diverged = np.flatnonzero(~np.isfinite(model.loss_curve_))
    if len(diverged):
        raise ValueError(f"the loss was no longer finite in epoch {diverged[0] + 1}; lower --rate ({arguments.rate})")
    model = _fold_into(model, inputs, target)
    network = model.network_
    print(f"network: {'-'.join(map(str, network.widths))}, {network.n_parameters:,} parameters in {network.dtype}")
    if len(X_test):
        print(_tested(model, dataset.task, X_test, y_test))
    print(f"time: {seconds:.2f} s, {model.n_iter_} epochs, {model.t_ / seconds:,.0f} rows/s")
    print(f"backend: {_backend()}")
    if arguments.save is not None:
        if dataset.feature_names is not None:
            model.feature_names_in_ = np.array(dataset.feature_names, object)
        files.save(model, arguments.save)
        print(f"saved: {arguments.save}")


def _new_model(arguments: argparse.Namespace, layers: tuple[int, ...], task: str, rows: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    # to come to the last epoch is what --epochs asks for; the caller undoes the filter
    warnings.simplefilter("ignore", ConvergenceWarning)
    estimator = pymlp.MLPClassifier if task == "classification" else pymlp.MLPRegressor
    validate = rows >= VALIDATION_ROWS[task]
    trained_on = rows - math.ceil(0.1 * rows) if validate else rows
    batch = arguments.batch
    if batch is None:
        power_of_two = 2 ** round(math.log2(rows / STEPS_PER_EPOCH))
        batch = max(SMALLEST_BATCH, min(LARGEST_BATCH, power_of_two))
    return estimator(
        hidden_layer_sizes=layers,
        activation=arguments.activation,
        batch_size=min(batch, trained_on),
        learning_rate_init=arguments.rate,
        max_iter=arguments.epochs,
        random_state=arguments.seed,
        early_stopping=validate,
        validation_fraction=0.1,
        n_iter_no_change=PATIENCE,
    )


class HeldOutScore:
    """A callback that gives the progress bar the score of the test rows at the end of each epoch.

    Parameters
    ----------
    X : ndarray of shape (rows, columns)
        Scaled as the training rows are.
    y : ndarray of shape (rows,)
    """

    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        self.X = X
        self.y = y

    def setup(self, estimator: Any, context: Any) -> None:
        """Nothing to set up."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing to do before an epoch."""

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> None:
        """Put the score where the bar looks for one."""
        if context.task_name == "epoch":
            context.metrics["validation_score"] = fitted_estimator.score(self.X, self.y)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Nothing to tear down."""


def _scaled_target(target: Scaling | None, y: np.ndarray) -> np.ndarray:
    return y if target is None else target.apply(y[:, np.newaxis], "float32")[:, 0]


def _fold_into(model: Any, inputs: Scaling, target: Scaling | None) -> Any:
    """The same model on raw values; in float64 where float32 cannot tell the raw values apart."""
    network, params, state = model._model_state()
    dtype = "float32" if inputs.fits_float32 else "float64"
    folded_network, folded = fold(network, params, inputs, target, dtype)
    return type(model)._from_model_state(folded_network, folded, state)


def _tested(model: Any, task: str, X: np.ndarray, y: np.ndarray) -> str:
    """The score of the folded model on the raw test rows."""
    predicted = model.predict(X)
    if task == "classification":
        return f"test accuracy: {np.mean(predicted == y):.4f} ({np.sum(predicted == y):,} of {len(y):,})"
    error = float(np.sqrt(np.mean(np.square(y - predicted))))
    return f"test R2: {r2(predicted[:, np.newaxis], y[:, np.newaxis], None):.4f}, RMSE: {error:.6g} ({len(y):,} rows)"


def _backend() -> str:
    chosen = {setting.name: setting.value for setting in selection()}
    threads = "1 thread" if chosen["threads"] == "1" else f"at most {chosen['threads']} threads"
    if chosen["backend"] == "c":
        return f"c, {chosen['instruction set']}, {threads}"
    return f"{chosen['backend']}, {threads}"
