"""What lets a fit of an estimator go on from a checkpoint: what must be the same, and what was drawn before its first
step.

The seed of the masks, the scalings and the generator from which validation rows and orders are drawn come from the
checkpoint.  So it does not matter whether `random_state` is a number, and what a warm start began from is not needed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pymlp import backends
from pymlp.checkpoints import Checkpoints, fingerprint, generator_state, set_generator_state
from pymlp.network import Network
from pymlp.standardisation import Standardisation

if TYPE_CHECKING:
    from pymlp.fitting import Data
    from pymlp.perceptron import MultilayerPerceptron

# Parameters that may change when a fit goes on: how long it lasts, and what it prints.  The loss is in the network.
FREE = ("max_iter", "max_fun", "max_time", "verbose", "loss")


def opened(draft: MultilayerPerceptron, network: Network, data: Data, checkpoints: Checkpoints) -> Data:
    """The data of a fit that is kept, and that goes on if it shall and can.

    Raises
    ------
    ValueError
        The checkpoint is malformed, or that of another fit.
    OSError
        There is no place for one, or it cannot be read.
    """
    parameters = {name: value for name, value in draft.get_params(deep=False).items() if name not in FREE}
    settings: dict[str, Any] = {**parameters, "X": data.X, "y": data.y, "sample_weight": data.sample_weight}
    if data.y is None:
        settings["X"] = f"a stream of {data.X.shape[0]} rows and {data.X.shape[1]} columns"
    classes = getattr(draft, "classes_", None)
    if classes is not None:
        settings["classes"] = np.asarray(classes).tolist()
    if data.validation is not None:
        scored = data.validation
        settings.update(X_val=scored.X, y_val=scored.y, sample_weight_val=scored.weight)
    # other backends give other bits
    settings["backend"] = backends.arithmetic()
    checkpoints.open(fingerprint(type(draft).__name__, network, settings))
    return replace(data, random=checkpoints.generator_for(data.random), checkpoints=checkpoints)


def started(network: Network, data: Data) -> Network:
    """The network with the seed of its masks, once all is drawn that comes before the validation rows."""
    checkpoints = data.checkpoints
    if checkpoints is None:
        return network
    if checkpoints.found is None:
        checkpoints.start = {"seed": network.seed, "generator": generator_state(data.random)}
        return network
    with checkpoints.taking_up():
        set_generator_state(data.random, checkpoints.start["generator"])
        return replace(network, seed=checkpoints.start["seed"])


def known_scaling(data: Data, network: Network) -> Standardisation | None:
    """The scalings of the fit that goes on, if one does and had some."""
    checkpoints = data.checkpoints
    if checkpoints is None or checkpoints.found is None:
        return None
    with checkpoints.taking_up():
        return Standardisation.from_state(checkpoints.start["standardisation"], network)


def note_scaling(data: Data, scaling: Standardisation) -> None:
    """Keep the scalings with the checkpoints, if there are any."""
    if data.checkpoints is not None:
        data.checkpoints.start["standardisation"] = scaling.state
