"""What all losses share: an option object with a name, an output activation and bounds of its targets.

The registry is in `pymlp.losses`; the losses of classes are in `pymlp.class_losses`, those of numbers in
`pymlp.number_losses`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import ClassVar

import numpy as np

from pymlp.options import option

Array = np.ndarray


@option
class Loss:
    """What all losses share; each stands in `LOSSES`.

    Attributes
    ----------
    name : str
    output_activation : str
    lowest_target, highest_target : float
        Bounds of y.
    """

    name: ClassVar[str] = ""
    # without an annotation: in `CustomLoss` it is a field
    output_activation = "identity"
    lowest_target: ClassVar[float] = -np.inf
    highest_target: ClassVar[float] = np.inf

    @property
    def group(self) -> int:
        """Outputs of a target."""
        return 1

    @property
    def numbers(self) -> tuple[float, ...]:
        """The parameters as a backend takes them."""
        return tuple(float(getattr(self, each.name)) for each in fields(self))

    def potential_factor(self, outputs: int) -> float:
        """What the reported value must be multiplied by to be the potential of the gradient."""
        return 1.0

    def value(self, y: Array, output: Array) -> Array:
        """Reported loss of each row, shape (rows,), from targets and outputs of shape (rows, outputs)."""
        raise NotImplementedError

    def score_gradient(self, y: Array, output: Array, z: Array | None = None) -> Array:
        """Gradient by the scores z before the output activation, (rows, outputs).

        z is read only where the outputs do not tell it: by losses with more than one output a target.
        """
        raise NotImplementedError

    def both(self, y: Array, output: Array, z: Array | None = None) -> tuple[Array, Array]:
        """`value` and `score_gradient`."""
        return self.value(y, output), self.score_gradient(y, output, z)
