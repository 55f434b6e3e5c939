"""Models as files of other programs, each by one function that is imported when it is first used.

What such a file answers is what the model answers, to rounding; preprocessing that the model has learnt is folded in.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymlp.export.c_source import to_c
    from pymlp.export.onnx_models import to_onnx
    from pymlp.export.report import ExportReport

# the module that defines each public name
_LAZY = {
    "ExportReport": "pymlp.export.report",
    "to_c": "pymlp.export.c_source",
    "to_onnx": "pymlp.export.onnx_models",
}

__all__ = ["ExportReport", "to_c", "to_onnx"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
