"""Models as files for other programs: `to_c` writes a source file of C.

Each exporter is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymlp.export.c_source import to_c
    from pymlp.export.report import ExportReport

# the module that defines each public name imported on first use
_LAZY = {
    "ExportReport": "pymlp.export.report",
    "to_c": "pymlp.export.c_source",
}

__all__ = ["ExportReport", "to_c"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
