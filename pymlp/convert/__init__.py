"""Models to and from other libraries, each by one function that is imported when it is first used.

What a converted model answers is what it answered before, to rounding; and it goes on training.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymlp.convert.errors import ConversionError
    from pymlp.convert.estimators import fitted_estimator
    from pymlp.convert.keras_layers import from_keras
    from pymlp.convert.onnx_graphs import from_onnx
    from pymlp.convert.sklearn_models import from_sklearn, to_sklearn
    from pymlp.convert.torch_modules import from_torch, to_torch

# the module that defines each public name
_LAZY = {
    "ConversionError": "pymlp.convert.errors",
    "fitted_estimator": "pymlp.convert.estimators",
    "from_keras": "pymlp.convert.keras_layers",
    "from_onnx": "pymlp.convert.onnx_graphs",
    "from_sklearn": "pymlp.convert.sklearn_models",
    "from_torch": "pymlp.convert.torch_modules",
    "to_sklearn": "pymlp.convert.sklearn_models",
    "to_torch": "pymlp.convert.torch_modules",
}

__all__ = [
    "ConversionError",
    "fitted_estimator",
    "from_keras",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "to_sklearn",
    "to_torch",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
