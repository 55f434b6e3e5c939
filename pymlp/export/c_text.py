"""Numbers, strings and names as text of C."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
# the longest string that every compiler of C99 takes
LONGEST_STRING = 4095
# characters of a string that are written in their own way
ESCAPES = {'"': '\\"', "\\": "\\\\", "?": "\\?", "\n": "\\n", "\t": "\\t"}


def literal(number: Any, dtype: str) -> str:
    """A number of the dtype as a constant of C of its type: the shortest decimal that reads as the same number."""
    return literals(np.array([number], dtype))[0]


def literals(numbers: np.ndarray) -> list[str]:
    """The numbers of an array of float32 or float64, in C order; see `literal`."""
    suffix = "f" if numbers.dtype == np.float32 else ""
    with np.printoptions(legacy=False):
        # the shortest digits, whatever else was set; which way to place the point is shortest is chosen here
        texts = numbers.reshape(-1).astype("U32").tolist()
    return [_shortened(text) + suffix for text in texts]


def _shortened(text: str) -> str:
    """Without the zero before the point, one that is alone after it, and those that an exponent begins with."""
    digits, e, exponent = text.partition("e")
    if e:
        return f"{digits.removesuffix('.0')}e{int(exponent)}"
    sign = "-" if digits[0] == "-" else ""
    whole, _, part = digits[len(sign) :].partition(".")
    if part == "0":
        return f"{sign}{whole}."
    return f"{sign}{'' if whole == '0' else whole}.{part}"


def string(text: str) -> str:
    """A string constant of C; what is not of ASCII is written byte by byte, in UTF-8."""
    pieces = []
    for character in text:
        if character in ESCAPES:
            pieces.append(ESCAPES[character])
        elif " " <= character <= "~":
            pieces.append(character)
        else:
            pieces += [f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogatepass")]
    return f'"{"".join(pieces)}"'


def counted(count: int, noun: str) -> str:
    """A number of things in words: "1 input", "2 inputs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def comment(lines: list[str]) -> str:
    """A comment of several lines, set out as those of this project are; the lines must not end it."""
    return "/* " + "\n".join([lines[0], *(f" * {line}".rstrip() for line in lines[1:])]) + "\n */"


def filled(items: list[str], width: int = 120, indent: str = "    ") -> str:
    """Items with commas, as many a line as fit."""
    lines, line = [], indent
    for item in items:
        if len(line) + len(item) + 1 > width and line != indent:
            lines.append(line.rstrip())
            line = indent
        line += f"{item}, "
    return "\n".join([*lines, line.rstrip()])
