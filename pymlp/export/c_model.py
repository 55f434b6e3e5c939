"""A model on its way into a source file of C: in the type of the file, with the names it has there, and what is
computed of it in which order and in which buffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from pymlp import backends
from pymlp.config import config_context
from pymlp.export.c_functions import constants
from pymlp.export.c_layers import blocks
from pymlp.export.c_text import counted
from pymlp.export.quantisation import QuantisedDense, quantised_layers, quantised_outputs
from pymlp.inference import outputs_of
from pymlp.layers import KINDS, Row
from pymlp.network import Network
from pymlp.portable import PortableModel


@dataclass(frozen=True)
class Step:
    """A row of the table as the file computes it: the places it reads and writes, by their names there."""

    row: Row
    source: str
    second: str
    target: str

    @property
    def description(self) -> str:
        """The row in words."""
        row = self.row
        said = f"layers[{row.layer}]: {row.kind}"
        if row.kind == "dense":
            said += f", {counted(row.inputs, 'input')}, {counted(row.outputs, 'unit')}"
        return said if row.activation == "identity" else f"{said}, {row.activation}"


def steps_of(network: Network, target: str) -> tuple[list[Step], dict[str, int]]:
    """The rows of the table that inference computes, the last of which writes to `target`, and the sizes of the buffers
    between them, of which there are as few as the rows allow."""
    # a row that is left out passes on what it reads
    passed, rows = {0: 0}, []
    for row in network.table:
        skipped = KINDS[row.kind].trains_only
        passed[row.number + 1] = passed[row.source] if skipped else row.number + 1
        if not skipped:
            rows.append(row)
    last_reader = {passed[buffer]: row.number for row in rows for buffer in (row.source, row.second) if buffer >= 0}
    places: dict[int, str] = {0: "x"}
    sizes: dict[str, int] = {}
    free: list[str] = []
    steps = []
    for row in rows:
        read = [passed[buffer] for buffer in (row.source, row.second) if buffer >= 0]
        done = [buffer for buffer in dict.fromkeys(read) if buffer and last_reader[buffer] == row.number]
        if row is rows[-1]:
            place = target
        elif row.kind != "dense" and read[0] in done:
            # all but products may write where they read
            place = places[read[0]]
            done.remove(read[0])
        else:
            place = free.pop() if free else "abcd"[len(sizes)]
        places[row.number + 1] = place
        if place != target:
            sizes[place] = max(sizes.get(place, 0), row.outputs)
        free += [places[buffer] for buffer in done]
        steps.append(Step(row, places[read[0]], places[read[1]] if len(read) > 1 else "", place))
    return steps, sizes


def _in_dtype(model: PortableModel, dtype: str) -> PortableModel:
    """The model with its numbers in another type; ValueError where one is not finite there."""
    network = replace(model.network, dtype=dtype)
    with np.errstate(over="ignore"):
        params = model.params.astype(dtype)
        scale = None if model.output_scale is None else tuple(part.astype(dtype) for part in model.output_scale)
    for label, view in network.views(params).items():
        if not np.isfinite(view).all():
            place = tuple(np.argwhere(~np.isfinite(view))[0].tolist())
            raise ValueError(f"the model cannot be exported: {label}{list(place)} is {view[place]} in {dtype}")
    return replace(model, network=network, params=params, output_scale=scale)


@dataclass(frozen=True, eq=False)
class CModel:
    """A model in the type of a file.

    Parameters
    ----------
    model : PortableModel
        In the type of the file's floating-point numbers.
    name : str
        What the names in the file begin with.
    dtype : {"float32", "float64", "int8"}
    file : str
        Name of the file.
    layers : mapping of int to QuantisedDense
        By the number of their row in the table; empty unless the dtype is "int8".
    """

    model: PortableModel
    name: str
    dtype: str
    file: str
    layers: Mapping[int, QuantisedDense] = field(default_factory=dict)

    @classmethod
    def of(cls, model: PortableModel, name: str, dtype: str, file: str, X: Any = None) -> CModel:
        """A model in another type; for "int8", with the ranges of the rows X.

        Raises
        ------
        ValueError
            A number is not finite in the type, or a layer has too many inputs for integers.
        """
        model = _in_dtype(model, "float32" if dtype == "int8" else dtype)
        layers = quantised_layers(model.network, model.params, model.seen(X)) if dtype == "int8" else {}
        return cls(model, name, dtype, file, layers)

    @property
    def network(self) -> Network:
        """What is computed."""
        return self.model.network

    @property
    def macro(self) -> str:
        """What the names of macros begin with."""
        return self.name.upper()

    @cached_property
    def values(self) -> dict[str, str]:
        """What the names in the texts of functions stand for."""
        return {
            **constants(f"{self.name}_", self.network.dtype),
            **blocks(self.network.dtype),
            "P": f"{self.macro}_",
            "name": self.name,
            "file": self.file,
        }

    @property
    def real(self) -> str:
        """The type of inputs and outputs in C."""
        return self.values["real"]

    @property
    def columns(self) -> int:
        """Numbers that the file answers for a row."""
        return 2 if self.model.with_complement else self.network.outputs

    @cached_property
    def _steps(self) -> tuple[list[Step], dict[str, int]]:
        return steps_of(self.network, "out + 1" if self.model.with_complement else "out")

    @property
    def steps(self) -> list[Step]:
        """What is computed, in order."""
        return self._steps[0]

    @property
    def buffers(self) -> dict[str, int]:
        """Sizes of the buffers between the steps, by name."""
        return self._steps[1]

    @property
    def most_inputs(self) -> int:
        """Inputs of the widest layer in integers; 0 where there is none."""
        return max((len(layer.weight) for layer in self.layers.values()), default=0)

    def outputs(self, X: Any) -> np.ndarray:
        """The network's outputs (rows, outputs) as the file computes them: integers by their definition in NumPy, else
        the engine's portable instruction set, or NumPy where there is no engine."""
        X = self.model.seen(X)
        if self.layers:
            return quantised_outputs(self.network, self.model.params, self.layers, X)
        if backends.missing_reason("c") is not None:
            return outputs_of(backends.get("numpy").Plan(self.network, 1), self.model.params, X)
        with config_context(backend="c", isa="portable"):
            return outputs_of(backends.get().Plan(self.network, 1), self.model.params, X)
