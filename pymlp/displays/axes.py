"""Where a display draws: the axes it is given, or a figure of its own; and the colours the displays share."""

from __future__ import annotations

from typing import Any

# what a weight's sign looks like; the same hues are the ends of the colour map
NEGATIVE, POSITIVE = "#b2182b", "#2166ac"
DIVERGING = "RdBu"
QUIET = "#777777"


def axes_or_new(ax: Any, size: tuple[float, float]) -> Any:
    """`ax`, or the axes of a new figure of `size` (inches); ImportError names the command if matplotlib is missing."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("the package matplotlib is missing; run: pip install 'pymlp[plot]'") from error
    return pyplot.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def fitted_network(estimator: Any) -> Any:
    """The network of a fitted estimator; ValueError if it has none."""
    network = getattr(estimator, "network_", None)
    if network is None:
        raise ValueError(f"estimator must be a fitted estimator of pymlp, got {estimator!r}")
    return network
