"""The part of an exported source that computes: ``predict``, what decides on classes, and the functions they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pymlp.export.c_functions import FUNCTIONS, expanded, in_order
from pymlp.export.c_layers import BLOCK, COLUMNS, DENSE, LAYER_FUNCTIONS, WHOLE_DENSE
from pymlp.export.c_model import CModel, Step
from pymlp.export.c_numbers import panels_of
from pymlp.export.c_text import literal
from pymlp.layers import KINDS


class Body:
    """The statements of ``predict``, and what they call.

    Parameters
    ----------
    model : CModel
    """

    def __init__(self, model: CModel) -> None:
        self._model = model
        # in the order of the calls: functions, widths of panels, and inputs of layers in integers
        self._called: dict[str, None] = {}
        self._widths: set[int] = set()
        self._inputs: set[int] = set()
        self._lines = [line for step in model.steps for line in self._statements(step)]
        if model.model.with_complement:
            self._lines.append("out[0] = 1 - out[1];")
        if model.model.output_scale is not None:
            arrays = (f"{model.name}_output_{part}" for part in ("scale", "shift"))
            self._lines.append(self._call("scale", model.network.outputs, *arrays, "out"))

    def functions(self) -> Iterator[str]:
        """The functions that are called, each after those that it calls."""
        model, known = self._model, {**FUNCTIONS, **LAYER_FUNCTIONS}
        for name in in_order(self._called, known):
            yield expanded(known[name], model.values)
        if self._widths:
            yield from (expanded(text, model.values) for text in (BLOCK, COLUMNS))
        for width in sorted(self._widths, reverse=True):
            yield expanded(DENSE, {**model.values, "width": str(width)})
        for inputs in sorted(self._inputs, reverse=True):
            yield expanded(WHOLE_DENSE, {**model.values, "inputs": str(inputs)})

    def predict(self) -> str:
        """The function that answers for a row."""
        model, declared = self._model, []
        if model.buffers:
            declared.append(f"{model.real} {', '.join(f'{place}[{size}]' for place, size in model.buffers.items())};")
        if model.layers:
            declared.append(f"int16_t whole[{model.most_inputs}];")
        given, first = "x", []
        if model.model.input_threshold is not None:
            # what the layers read as x is what each input counts as
            given, inputs = "raw", f"{model.macro}_INPUTS"
            declared += [f"{model.real} x[{inputs}];", "int i;"]
            threshold = literal(model.model.input_threshold, model.network.dtype)
            first = [f"for (i = 0; i < {inputs}; i++)", f"    x[i] = raw[i] > {threshold};"]
        body = "\n".join(f"    {line}" for line in [*declared, *first, *self._lines])
        return f"void {model.name}_predict(const {model.real} *{given}, {model.real} *out)\n{{\n{body}\n}}"

    def decision(self) -> Iterator[str]:
        """The function that decides on a class or on labels, where there are any."""
        text = _decision_text(self._model)
        if text is not None:
            yield expanded(
                text,
                {
                    **self._model.values,
                    "threshold": literal(self._model.model.threshold, self._model.network.dtype),
                    "place": "1" if self._model.model.with_complement else "0",
                },
            )

    def _call(self, function: str, *arguments: Any) -> str:
        """A statement that calls one of `LAYER_FUNCTIONS`, which gets into the file."""
        self._called.setdefault(function)
        return f"{self._model.name}_{function}({', '.join(map(str, arguments))});"

    def _statements(self, step: Step) -> Iterator[str]:
        """What a step becomes."""
        model, row = self._model, step.row
        yield f"/* {step.description} */"
        names = [f"{model.name}_{part.name}_{row.layer}" for part in row.parts]
        if row.kind == "dense":
            yield from self._whole_dense(step) if row.number in model.layers else self._dense(step)
        elif row.kind == "layer_norm":
            epsilon = literal(row.setting, model.network.dtype)
            yield self._call("layer_norm", row.outputs, step.source, epsilon, *names, step.target)
        elif row.kind == "parametric":
            yield self._call(f"parametric_{row.activation}", row.outputs, step.source, *names, step.target)
        elif row.kind == "add":
            yield self._call("add", row.outputs, step.source, step.second, step.target)
        else:
            raise NotImplementedError(f"a row of the kind {row.kind!r} has no form in C")
        if KINDS[row.kind].activates and row.activation != "identity":
            # of those over columns one is given their groups
            group = [model.network.loss_function.group] if row.activation == "ascending" else []
            name = row.activation if row.activation in LAYER_FUNCTIONS else f"apply_{row.activation}"
            yield self._call(name, row.outputs, *group, step.target)

    def _dense(self, step: Step) -> Iterator[str]:
        name, layer, inputs = self._model.name, step.row.layer, step.row.inputs
        for width, panels, first in panels_of(step.row.outputs, self._model.network.dtype):
            self._widths.add(width)
            weight = f"{name}_weight_{layer}" + (f" + {inputs} * {first}" if first else "")
            bias, target = (
                f"{place}{f' + {first}' if first else ''}" for place in (f"{name}_bias_{layer}", step.target)
            )
            yield f"{name}_dense_{width}({inputs}, {panels}, {step.source}, {weight}, {bias}, {target});"

    def _whole_dense(self, step: Step) -> Iterator[str]:
        name, row, layer = self._model.name, step.row, self._model.layers[step.row.number]
        self._inputs.add(row.inputs)
        if layer.by_input:
            ranges = [f"{name}_low_{row.layer}", f"{name}_inverse_{row.layer}"]
        else:
            ranges = [literal(numbers[0], "float32") for numbers in (layer.low, layer.inverse)]
        yield self._call("quantise_each" if layer.by_input else "quantise", row.inputs, step.source, *ranges, "whole")
        arrays = ", ".join(f"{name}_{part}_{row.layer}" for part in ("weight", "scale", "bias"))
        yield f"{name}_dense_{row.inputs}({row.outputs}, whole, {arrays}, {step.target});"


def _decision_text(model: CModel) -> str | None:
    if model.model.task == "multilabel-indicator":
        return LABELS
    if model.model.task == "multiclass":
        return LARGEST
    if model.model.task == "binary":
        return SECOND if len(model.model.classes) > 1 else ONLY
    return None


LABELS = """\
void ${p}labels(const $real *x, int *labels)
{
    $real out[${P}OUTPUTS];
    int i;
    ${p}predict(x, out);
    for (i = 0; i < ${P}OUTPUTS; i++)
        labels[i] = out[i] > $threshold;
}"""
LARGEST = """\
int ${p}classify(const $real *x)
{
    $real out[${P}OUTPUTS];
    int i, best = 0;
    ${p}predict(x, out);
    for (i = 1; i < ${P}CLASSES; i++)
        if (out[i] > out[best])
            best = i;
    return best;
}"""
SECOND = """\
int ${p}classify(const $real *x)
{
    $real out[${P}OUTPUTS];
    ${p}predict(x, out);
    return out[$place] > $threshold;
}"""
ONLY = """\
int ${p}classify(const $real *x)
{
    /* there was one class in the training */
    (void)x;
    return 0;
}"""
