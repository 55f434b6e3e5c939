"""pymlp: train and run multilayer perceptrons on CPUs, fast and with the same bits every time.

Importing the package loads NumPy and the description of networks, nothing else.  The public names that need more
(scikit-learn for the estimators, tqdm for the bar) are looked up in `_LAZY` and imported when they are first used, so
`Network`, `train`, the backends and the files work where scikit-learn is not installed.
"""

from __future__ import annotations

import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any

from pymlp.backends import missing_reason
from pymlp.config import config_context, get_config, set_config
from pymlp.network import Dense, Network

if TYPE_CHECKING:
    from pymlp.displays.first_layer import FirstLayerDisplay
    from pymlp.displays.network import NetworkDisplay
    from pymlp.displays.training_curve import TrainingCurveDisplay
    from pymlp.estimators import MLPClassifier, MLPRegressor
    from pymlp.files import ModelFormatError, load, load_network, save, save_network
    from pymlp.library import get_include, get_library
    from pymlp.linear import LogisticRegression, Perceptron
    from pymlp.loggers import CSVLog, JSONLinesLog, TensorBoardLog
    from pymlp.losses import CompiledLoss, CustomLoss, Focal, GaussianNLL, Huber, LogLoss, Quantile, Tweedie
    from pymlp.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
    from pymlp.optimizers import SGD, Adam, AdamW, Lion, NAdam, RMSprop, Rprop
    from pymlp.predictor import Predictor
    from pymlp.progress import ProgressBar
    from pymlp.pruning import OptunaPruning
    from pymlp.range_test import find_learning_rate
    from pymlp.schedules import Constant, Cosine, Exponential, InverseScaling, OneCycle, Plateau, Step
    from pymlp.selection import show_config
    from pymlp.support_vectors import FourierSVC, LinearSVC
    from pymlp.training import train

__version__ = "0.1.0"

# the module that defines each public name imported on first use
_LAZY = {
    "Adam": "pymlp.optimizers",
    "AdamW": "pymlp.optimizers",
    "CSVLog": "pymlp.loggers",
    "BernoulliNB": "pymlp.naive_bayes",
    "CompiledLoss": "pymlp.losses",
    "Constant": "pymlp.schedules",
    "Cosine": "pymlp.schedules",
    "CustomLoss": "pymlp.losses",
    "Exponential": "pymlp.schedules",
    "FirstLayerDisplay": "pymlp.displays.first_layer",
    "Focal": "pymlp.losses",
    "FourierSVC": "pymlp.support_vectors",
    "GaussianNB": "pymlp.naive_bayes",
    "GaussianNLL": "pymlp.losses",
    "Huber": "pymlp.losses",
    "InverseScaling": "pymlp.schedules",
    "JSONLinesLog": "pymlp.loggers",
    "LinearSVC": "pymlp.support_vectors",
    "Lion": "pymlp.optimizers",
    "LogLoss": "pymlp.losses",
    "LogisticRegression": "pymlp.linear",
    "MLPClassifier": "pymlp.estimators",
    "MLPRegressor": "pymlp.estimators",
    "ModelFormatError": "pymlp.files",
    "MultinomialNB": "pymlp.naive_bayes",
    "NAdam": "pymlp.optimizers",
    "NetworkDisplay": "pymlp.displays.network",
    "OneCycle": "pymlp.schedules",
    "OptunaPruning": "pymlp.pruning",
    "Perceptron": "pymlp.linear",
    "Plateau": "pymlp.schedules",
    "Predictor": "pymlp.predictor",
    "ProgressBar": "pymlp.progress",
    "Quantile": "pymlp.losses",
    "RMSprop": "pymlp.optimizers",
    "Rprop": "pymlp.optimizers",
    "SGD": "pymlp.optimizers",
    "SparseRows": "pymlp.sparse_rows",
    "Step": "pymlp.schedules",
    "TensorBoardLog": "pymlp.loggers",
    "TrainingCurveDisplay": "pymlp.displays.training_curve",
    "Tweedie": "pymlp.losses",
    "find_learning_rate": "pymlp.range_test",
    "get_include": "pymlp.library",
    "get_library": "pymlp.library",
    "load": "pymlp.files",
    "load_network": "pymlp.files",
    "save": "pymlp.files",
    "save_network": "pymlp.files",
    "show_config": "pymlp.selection",
    "train": "pymlp.training",
}

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "BernoulliNB",
    "CSVLog",
    "CompiledLoss",
    "Constant",
    "Cosine",
    "CustomLoss",
    "Dense",
    "Exponential",
    "FirstLayerDisplay",
    "Focal",
    "FourierSVC",
    "GaussianNB",
    "GaussianNLL",
    "Huber",
    "InverseScaling",
    "JSONLinesLog",
    "LinearSVC",
    "Lion",
    "LogLoss",
    "LogisticRegression",
    "MLPClassifier",
    "MLPRegressor",
    "ModelFormatError",
    "MultinomialNB",
    "NAdam",
    "Network",
    "NetworkDisplay",
    "OneCycle",
    "OptunaPruning",
    "Perceptron",
    "Plateau",
    "Predictor",
    "ProgressBar",
    "Quantile",
    "RMSprop",
    "Rprop",
    "SparseRows",
    "Step",
    "TensorBoardLog",
    "TrainingCurveDisplay",
    "Tweedie",
    "config_context",
    "find_learning_rate",
    "get_config",
    "get_include",
    "get_library",
    "load",
    "load_network",
    "save",
    "save_network",
    "set_config",
    "show_config",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_LAZY[name])
    except ModuleNotFoundError as error:
        missing = str(error.name).split(".")[0]
        if missing == __name__:
            raise
        package = {"sklearn": "scikit-learn"}.get(missing, missing)
        message = f"pymlp.{name} needs the package {package}; run: pip install {package}"
        raise ModuleNotFoundError(message, name=missing) from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def _warn_without_engine() -> None:
    """Say once, at import, that a slower backend stands in for the C engine; silent where the user chose one."""
    reason = missing_reason("c")
    if reason is None or os.environ.get("PYMLP_BACKEND", "").strip():
        return
    substitute = "Numba" if missing_reason("numba") is None else "NumPy"
    warnings.warn(
        f"the slower {substitute} backend stands in for pymlp's C engine: {reason}. Without a compiler the Numba "
        "backend is the fastest; run: pip install 'pymlp[numba]'. To silence this warning set the environment "
        f"variable PYMLP_BACKEND={substitute.lower()}.",
        RuntimeWarning,
        stacklevel=3,
    )


_warn_without_engine()
