"""The weights and biases of a fitted model as lists of views of its flat vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


class ParameterViews(list):
    """A list of views whose items are assigned by copying into them, so that the vector behind them follows."""

    def __setitem__(self, index: Any, value: Any) -> None:
        views = self[index]
        if isinstance(index, slice):
            copy_into(views, value)
        else:
            copy_into([views], [value])


def copy_into(views: list[np.ndarray], values: Iterable[Any]) -> None:
    """Copy each value into its view; ValueError, before anything changes, if number, shapes or kind do not fit."""
    values = [np.asarray(value) for value in values]
    shapes, expected = [value.shape for value in values], [view.shape for view in views]
    if shapes != expected:
        raise ValueError(f"arrays of shapes {expected} are needed, got {shapes}")
    # also what cannot be converted shows before anything changes
    values = [value.astype(view.dtype, copy=False) for view, value in zip(views, values, strict=True)]
    for view, value in zip(views, values, strict=True):
        view[...] = value
