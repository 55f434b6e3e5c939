"""The error of a model that cannot be converted."""

from __future__ import annotations


class ConversionError(ValueError):
    """A model, or a part of it, has no equal in the other library; the message names the layer, node or parameter."""
