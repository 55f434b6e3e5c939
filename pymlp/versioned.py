"""Pickles that say which version wrote them, and warn where another one loads them."""

from __future__ import annotations

import warnings
from typing import Any

import pymlp


class VersionedState:
    """Mixed into an estimator before scikit-learn's base class."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_pymlp_version": pymlp.__version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("_pymlp_version", "unknown")
        if version != pymlp.__version__:
            warnings.warn(
                f"this {type(self).__name__} was pickled by pymlp {version} and is loaded by {pymlp.__version__}, "
                "which may read it differently",
                UserWarning,
                stacklevel=2,
            )
        super().__setstate__(state)
