"""What stands before the code of an exported source: what a person must know, the declarations, and what compilers are
told."""

from __future__ import annotations

import numpy as np

import pymlp
from pymlp.export.c_functions import expanded
from pymlp.export.c_layers import MACROS
from pymlp.export.c_model import CModel
from pymlp.export.c_numbers import constant_bytes, names_of
from pymlp.export.c_text import comment, counted

PREAMBLE = (
    """\
#include <stddef.h>
#include <stdint.h>

/* A compiler that reorders operations, or makes one of two, changes the answers. */
#if defined(__FAST_MATH__)
#error "$file does not compute what it should with -ffast-math"
#endif
#if defined(_MSC_VER) && !defined(__clang__)
#pragma fp_contract(off)
#elif !defined(__GNUC__) || defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif !defined(__STRICT_ANSI__) || defined(__cplusplus)
#pragma GCC optimize("fp-contract=off")
#endif

"""
    + MACROS
)


def preamble(model: CModel) -> str:
    """Headers, and what the compiler is told."""
    return expanded(PREAMBLE, model.values)


def declarations(model: CModel) -> str:
    """What other files of a program may see."""
    macro = model.macro
    counts = [("INPUTS", model.network.inputs), ("OUTPUTS", model.columns)]
    if model.model.classes is not None:
        counts.append(("CLASSES", len(model.model.classes)))
    named = [f"extern const char *const {model.name}_{what}[{macro}_{count}];" for what, count, _ in names_of(model)]
    return "\n".join(
        [
            f"#ifndef {macro}_DECLARATIONS",
            f"#define {macro}_DECLARATIONS",
            *(f"#define {macro}_{count} {number}" for count, number in counts),
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            *named,
            *(f"{each};" for each, _ in _interface(model)),
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "#endif",
        ]
    )


def _interface(model: CModel) -> list[tuple[str, list[str]]]:
    """The functions that a program calls, and what they do."""
    p, real, inputs = f"{model.name}_", model.real, model.network.inputs
    named = "" if model.model.feature_names is None else f", in the order of {p}features"
    found = [
        (
            f"void {p}predict(const {real} *x, {real} *out)",
            [
                f"x: {counted(inputs, 'input')}{named}, raw: any scaling of the training is in the weights",
                f"out: {_answer(model)}",
            ],
        )
    ]
    if model.model.task == "multilabel-indicator":
        above = f"labels: for each label 1 where its column is above {model.model.threshold:g}, else 0"
        found.append((f"void {p}labels(const {real} *x, int *labels)", [above]))
    elif model.model.task != "numbers":
        found.append((f"int {p}classify(const {real} *x)", [f"the place of the class in {p}classes"]))
    return found


def _answer(model: CModel) -> str:
    """What ``out`` is."""
    given, columns, loss = model.model, model.columns, model.network.loss_function
    order = f"in the order of {model.name}_classes"
    what = "probabilities" if given.gives_probabilities else "scores"
    if given.task == "binary" and not given.with_complement:
        return f"1 score, above {given.threshold:g} for {model.name}_classes[{len(given.classes) - 1}]"
    if given.task in ("binary", "multiclass"):
        return f"{columns} {what} of classes, {order}"
    if given.task == "multilabel-indicator":
        return f"{columns} {what} of labels, {order}"
    if loss.name == "quantile":
        return f"{columns} numbers, for each target its quantiles at {', '.join(f'{each:g}' for each in loss.numbers)}"
    if loss.name == "gaussian_nll":
        return f"{columns} numbers, for each target the mean and the standard deviation"
    activation = model.network.output_activation
    return f"{counted(columns, 'number')}{'' if activation == 'identity' else f' ({activation})'}"


def head(model: CModel) -> str:
    """The comment at the top of the file."""
    size = np.dtype(model.network.dtype).itemsize
    stack = size * sum(model.buffers.values()) + 2 * model.most_inputs
    arithmetic = "8-bit integers and float32" if model.layers else model.network.dtype
    lines = [
        f"{model.file}: a multilayer perceptron in {arithmetic}, written by pymlp {pymlp.__version__}.",
        "It needs no library and no heap.",
        "",
    ]
    for declared, said in _interface(model):
        lines += [f"    {declared};", *(f"        {each}" for each in said)]
    lines += [
        "",
        "Arrays must not overlap. Any number of threads may call at the same time. What is computed:",
        "",
        *(f"    {step.description}" for step in model.steps),
        "",
        f"The constants take {constant_bytes(model):,} bytes, buffers on the stack {stack:,}.",
    ]
    if model.layers:
        lines += [
            "Inputs of layers become whole numbers from -128 to 127, by ranges taken from rows that were given. What",
            "lies outside of its range counts as the end next to it, and what is not a number as the lower end.",
        ]
    lines += [
        "",
        "Compile this file with yours, as C99 or as C++11. A file that calls it begins with",
        "",
        f"    #define {model.macro}_DECLARATIONS_ONLY",
        f'    #include "{model.file}"',
        "",
        "Loops are such that -O3, with -march=native or what fits the target, makes vectors of them. The answers are",
        "those of the model to the last digits wherever operations keep their order and none of them are fused, which",
        "gcc has to be told by -std=c99 or -ffp-contract=off; where it is not, this file tells it.",
        "",
        "A program that compares answers with those recorded when the file was written, and returns 0 if they agree:",
        "",
        f"    cc -std=c99 -O3 -D{model.macro}_SELF_TEST {model.file} -o self_test && ./self_test",
    ]
    return comment(lines)
