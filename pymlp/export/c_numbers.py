"""The numbers and names of a model as arrays in C: what an exported source knows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pymlp.export.c_layers import PANEL
from pymlp.export.c_model import CModel, Step
from pymlp.export.c_text import LONGEST_STRING, filled, literals, string

# an integer of 8 bits in decimal, by its place among them
_WHOLE = [str(number) for number in range(-128, 128)]


def panels_of(outputs: int, dtype: str) -> Iterator[tuple[int, int, int]]:
    """How many panels of which width a layer is made up of, and from which column on: (width, panels, first)."""
    panel = PANEL[dtype]
    whole = outputs // panel
    if whole:
        yield panel, whole, 0
    if outputs % panel:
        yield outputs % panel, 1, whole * panel


def arrays_of(model: CModel) -> Iterator[str]:
    """The parameters of all steps, and the scale of the outputs."""
    for step in model.steps:
        if step.row.kind != "dense":
            for part, numbers in zip(step.row.parts, _parts(model, step), strict=True):
                yield _array(model, f"{part.name}_{step.row.layer}", numbers)
        elif step.row.number in model.layers:
            yield from _whole_arrays(model, step)
        else:
            yield from _dense_arrays(model, step)
    if model.model.output_scale is not None:
        for name, numbers in zip(("output_scale", "output_shift"), model.model.output_scale, strict=True):
            yield _array(model, name, numbers)


def constant_bytes(model: CModel) -> int:
    """Memory that the arrays take in a program, but for those of names."""
    size, total = np.dtype(model.network.dtype).itemsize, 0
    for step in model.steps:
        layer = model.layers.get(step.row.number)
        if layer is None:
            total += size * sum(math.prod(part.shape) for part in step.row.parts)
        else:
            # a common range stands in the code
            arrays = (layer.weight, layer.scale, layer.bias, *((layer.low, layer.inverse) if layer.by_input else ()))
            total += sum(array.nbytes for array in arrays)
    return total if model.model.output_scale is None else total + 2 * size * model.network.outputs


def _parts(model: CModel, step: Step) -> list[np.ndarray]:
    return model.network.parts(model.model.params)[step.row.number]


def _array(model: CModel, name: str, numbers: np.ndarray) -> str:
    return _declared(model, model.real, name, str(len(numbers)), filled(literals(numbers)))


def _declared(model: CModel, kind: str, name: str, size: str, body: str) -> str:
    return f"static const {kind} {model.name}_{name}[{size}] {model.macro}_ALIGNED = {{\n{body}\n}};"


def _dense_arrays(model: CModel, step: Step) -> Iterator[str]:
    weight, bias = _parts(model, step)
    lines = []
    for width, panels, first in panels_of(step.row.outputs, model.network.dtype):
        for start in range(first, first + width * panels, width):
            texts = literals(weight[:, start : start + width])
            lines += [",".join(texts[place : place + width]) + "," for place in range(0, len(texts), width)]
    panel = PANEL[model.network.dtype]
    cut = f", {panel} units at a time" if step.row.outputs > panel else ""
    size = f"{step.row.inputs} * {step.row.outputs}"
    said = f"/* {step.description}: a line holds the weights of one input{cut} */\n"
    yield said + _declared(model, model.real, f"weight_{step.row.layer}", size, "\n".join(lines))
    yield _array(model, f"bias_{step.row.layer}", bias)


def _whole_arrays(model: CModel, step: Step) -> Iterator[str]:
    row, layer = step.row, model.layers[step.row.number]
    if layer.by_input:
        yield _array(model, f"low_{row.layer}", layer.low)
        yield _array(model, f"inverse_{row.layer}", layer.inverse)
    lines = [",".join([_WHOLE[number + 128] for number in unit.tolist()]) + "," for unit in layer.weight.T]
    said = f"/* {step.description}: a line holds the weights of one unit */\n"
    size = f"{row.inputs} * {row.outputs}"
    yield said + _declared(model, "signed char", f"weight_{row.layer}", size, "\n".join(lines))
    yield _array(model, f"scale_{row.layer}", layer.scale)
    yield _array(model, f"bias_{row.layer}", layer.bias)


def names_of(model: CModel) -> Iterator[tuple[str, str, list[str]]]:
    """What has names, the macro that counts them, and the names.

    Raises
    ------
    ValueError
        A name cannot be a string of C.
    """
    if model.model.feature_names is not None:
        yield "features", "INPUTS", _texts("feature", model.model.feature_names)
    if model.model.classes is not None:
        yield "classes", "CLASSES", _texts("class", model.model.classes.tolist())


def name_arrays(model: CModel) -> Iterator[str]:
    """The arrays of names."""
    for what, count, names in names_of(model):
        body = ",\n".join(f"    {string(each)}" for each in names)
        yield f"const char *const {model.name}_{what}[{model.macro}_{count}] = {{\n{body}\n}};"


def _texts(what: str, names: Iterable[Any]) -> list[str]:
    texts = [str(each) for each in names]
    for text in texts:
        if "\0" in text or len(text.encode("utf-8", "surrogatepass")) > LONGEST_STRING:
            raise ValueError(
                f"the model cannot be exported: the name of the {what} {text[:40]!r} is no string of C, as it holds a "
                f"zero or is longer than {LONGEST_STRING} bytes"
            )
    return texts
