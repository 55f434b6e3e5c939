"""Works out the coefficients in tables.h and prints that file: ``python csrc/make_tables.py > csrc/tables.h``.

Needs mpmath and takes a few seconds.  Each polynomial is the best one for its relative error (Remez's exchange, in
45-digit arithmetic), with weights that turn its error into that of the function built on it.  The two lowest
coefficients are rounded one after the other and the rest fitted anew, so that it makes up for their rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 45
# intervals of the grid; odd, so that no point lies in the middle, where some weights are 0
POINTS = 301
Function = Callable[[mp.mpf], mp.mpf]
# digits, C type and suffixes of the two kinds of numbers
SINGLE, TWOFOLD = (24, "float", "f32", "f"), (53, "double", "f64", "")
Kind = tuple[int, str, str, str]
HEAD = """\
/* tables.h: coefficients of the engine's functions, lowest power first, printed by make_tables.py, which says how they
 * are made.  The errors beside each table are relative to the whole function (exp, log, Phi, sine, cosine), in float
 * and in double, before rounding. */
#ifndef PYMLP_TABLES_H
#define PYMLP_TABLES_H

#include <stdint.h>"""


def rounded(number: mp.mpf, kind: Kind) -> mp.mpf:
    """The nearest number of the kind."""
    with mp.workprec(kind[0]):
        return +number


def literal(number: mp.mpf, kind: Kind) -> str:
    """The number in C."""
    return f"{float(number)!r}{kind[3]}"


def best_polynomial(function: Function, weight: Function, low: mp.mpf, high: mp.mpf, count: int, fixed: list) -> list:
    """Of the polynomials with `count` coefficients, the first ones as given, that with least max |weight x error|."""
    start, free = len(fixed), count - len(fixed)
    x = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / POINTS) for i in range(POINTS + 1)]
    # the rest to fit is divided by x**start, which goes into the weights: polynomials that begin with that power have a
    # zero too many for the exchange
    weights = [weight(at) * abs(at) ** start for at in x]
    rest = [(function(at) - mp.polyval([0, *fixed[::-1]], at)) / at**start for at in x]
    chosen, best, least = [round(POINTS * i / free) for i in range(free + 1)], [], mp.inf
    for _ in range(12):
        system, right = mp.matrix(free + 1), mp.matrix(free + 1, 1)
        for row, i in enumerate(chosen):
            for power in range(free):
                system[row, power] = x[i] ** power
            system[row, free] = (-1) ** row / weights[i]
            right[row] = rest[i]
        solution = list(mp.lu_solve(system, right))[:free]
        errors = [w * (r - mp.polyval(solution[::-1], at)) for w, r, at in zip(weights, rest, x, strict=True)]
        if max(map(abs, errors)) < least:
            best, least = fixed + solution, max(map(abs, errors))
        # the largest error between any two changes of sign
        peaks: list[int] = []
        for i, error in enumerate(errors):
            if not peaks or (error > 0) != (errors[peaks[-1]] > 0):
                peaks.append(i)
            elif abs(error) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        while len(peaks) > free + 1:
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        if len(peaks) <= free or peaks == chosen:
            break
        chosen = peaks
    return best


def table(function: Function, weight: Function, ends: tuple, count: int, kind: Kind) -> tuple[list, mp.mpf]:
    """Coefficients of the kind for the interval, and the largest weighted error they leave."""
    low, high = map(mp.mpf, ends)
    fixed: list[mp.mpf] = []
    while len(fixed) < 2:
        fixed.append(rounded(best_polynomial(function, weight, low, high, count, fixed)[len(fixed)], kind))
    found = [rounded(number, kind) for number in best_polynomial(function, weight, low, high, count, fixed)]
    points = [low + (high - low) * (i + mp.mpf(1) / 3) / 1000 for i in range(1000)]
    return found, max(abs(weight(at) * (function(at) - mp.polyval(found[::-1], at))) for at in points)


def exponential(r: mp.mpf) -> mp.mpf:
    """(exp(r) - 1 - r) / r**2"""
    return (mp.expm1(r) - r) / r**2


def logarithm(z: mp.mpf) -> mp.mpf:
    """(log((1 + s) / (1 - s)) - 2 s) / s**3 with s = sqrt(z)"""
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) - 2 * s) / s**3


def share_of_logarithm(z: mp.mpf) -> mp.mpf:
    """What an error of `logarithm` has to be multiplied by to be relative to the logarithm."""
    s = mp.sqrt(z)
    return s**3 / (2 * mp.atanh(s))


def sine(z: mp.mpf) -> mp.mpf:
    """(sin(s) - s) / s**3 with s = sqrt(z)"""
    s = mp.sqrt(z)
    return (mp.sin(s) - s) / s**3


def share_of_sine(z: mp.mpf) -> mp.mpf:
    """What an error of `sine` has to be multiplied by to be relative to the sine."""
    s = mp.sqrt(z)
    return s**3 / mp.sin(s)


def cosine(z: mp.mpf) -> mp.mpf:
    """(cos(s) - 1 + z / 2) / z**2 with s = sqrt(z)"""
    return (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2


def share_of_cosine(z: mp.mpf) -> mp.mpf:
    """What an error of `cosine` has to be multiplied by to be relative to the cosine."""
    return z**2 / mp.cos(mp.sqrt(z))


def normal(x: mp.mpf) -> mp.mpf:
    """exp(x**2 / 2) Phi(-x)"""
    return mp.exp(x * x / 2) * mp.erfc(x / mp.sqrt(2)) / 2


def normal_factor(x: mp.mpf, kind: Kind) -> mp.mpf:
    """The factor near 0.79 for which normal(x) (1 + factor x) has least to round.

    That is the first coefficient if x is the middle of the range, and no later one can make up for its rounding there.
    (At 0.8 the function would rise above 1/2, where numbers are twice as far apart.)
    """

    def left_by_rounding(factor: mp.mpf) -> mp.mpf:
        first = normal(x) * (1 + factor * x)
        return abs(first - rounded(first, kind))

    start = rounded(mp.mpf("0.79"), kind)
    return min((start + i * mp.mpf(2) ** -kind[0] for i in range(-2000, 2001)), key=left_by_rounding)


def show(name: str, comment: str, single: tuple[list, mp.mpf], twofold: tuple[list, mp.mpf]) -> None:
    """Print a pair of arrays, as many numbers a line as fit."""
    print(f"\n/* {comment}; errors {float(single[1]):.1e} and {float(twofold[1]):.1e} */")
    for kind, (coefficients, _) in ((SINGLE, single), (TWOFOLD, twofold)):
        print(f"static const {kind[1]} {name}_{kind[2]}[] = {{")
        line = "   "
        for number in coefficients:
            text = f" {literal(number, kind)},"
            if len(line) + len(text) > 120:
                print(line)
                line = "   "
            line += text
        print(f"{line}\n}};")


def show_normal() -> None:
    """Print the constants and the arrays of the normal distribution."""
    made, constants = [], []
    for kind, count, pole, middle, end in (
        (SINGLE, 10, "0.21875", "0.625", "13.5"),
        (TWOFOLD, 23, "0.1875", "0.5625", "38.6"),
    ):
        pole, middle, end = map(mp.mpf, (pole, middle, end))
        factor = normal_factor((1 / middle - 1) / pole, kind)

        def flat(t: mp.mpf, pole: mp.mpf = pole, middle: mp.mpf = middle, factor: mp.mpf = factor) -> mp.mpf:
            x = (1 / (t + middle) - 1) / pole
            return normal(x) * (1 + factor * x)

        def inverse(t: mp.mpf, flat: Function = flat) -> mp.mpf:
            return 1 / flat(t)

        made.append(table(flat, inverse, (1 / (1 + pole * end) - middle, 1 - middle), count, kind))
        constants.append((pole, factor, middle, end))
    print()
    for name, single, twofold in zip(("POLE", "FACTOR", "MIDDLE", "END"), *constants, strict=True):
        print(f"#define NORMAL_{name} BY_TYPE({literal(single, SINGLE)}, {literal(twofold, TWOFOLD)})")
    comment = "exp(x**2 / 2) Phi(-x) (1 + NORMAL_FACTOR x), 0 <= x <= NORMAL_END, in powers of\n"
    show("normal_table", f"{comment} * 1 / (1 + NORMAL_POLE x) - NORMAL_MIDDLE", *made)


def show_half_pi() -> None:
    """Print pi / 2 in four parts and the binary digits of 2 / pi."""
    parts = []
    # the first two have so many digits, and so few that their products with the turns are exact
    for kind, digits in ((SINGLE, 12), (TWOFOLD, 26)):
        rest, found = mp.pi / 2, []
        for end in (digits - 1, 2 * digits - 1):
            found.append(mp.floor(rest * 2**end) / 2**end)
            rest -= found[-1]
        for _ in range(2):
            found.append(rounded(rest, kind))
            rest -= found[-1]
        parts.append(found)
    print()
    for number, (single, twofold) in enumerate(zip(*parts, strict=True), 1):
        print(f"#define HALF_PI_{number} BY_TYPE({literal(single, SINGLE)}, {literal(twofold, TWOFOLD)})")
    # as many as the largest double asks for
    words = 38
    with mp.workprec(32 * words + 64):
        digits = int(mp.floor(2 / mp.pi * mp.mpf(2) ** (32 * words)))
    print("\n/* 2 / pi after 64 zeros, 32 binary digits a number */\nstatic const uint32_t two_over_pi[] = {")
    numbers = [0, 0] + [digits >> 32 * (words - 1 - i) & 0xFFFFFFFF for i in range(words)]
    for start in range(0, len(numbers), 8):
        print("    " + " ".join(f"0x{number:08x}," for number in numbers[start : start + 8]))
    print("};")


def main() -> None:
    """Print the file."""
    print(HEAD)

    # a hair more than half of log(2): what is rounded to an integer, x / log(2), has been rounded before
    end = mp.log(2) / 2 * mp.mpf("1.001")
    made = [
        table(exponential, lambda r: r * r / mp.exp(r), (-end, end), count, kind)
        for kind, count in ((SINGLE, 5), (TWOFOLD, 10))
    ]
    show("exp_table", "(exp(r) - 1 - r) / r**2, |r| <= log(2) / 2", *made)

    for name, comment, end, counts in (
        ("log_table", "|s| <= (sqrt(2) - 1) / (sqrt(2) + 1)", (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1), (3, 7)),
        ("log1p_table", "0 <= s <= 1/3", mp.mpf(1) / 3, (4, 10)),
    ):
        made = [
            table(logarithm, share_of_logarithm, ("1e-6", end**2), count, kind)
            for kind, count in zip((SINGLE, TWOFOLD), counts, strict=True)
        ]
        show(name, f"(log((1 + s) / (1 - s)) - 2 s) / s**3 in s**2, {comment}", *made)
    show_normal()

    end = mp.pi / 4 * mp.mpf("1.001")
    for name, comment, function, share, counts in (
        ("sine_table", "(sin(s) - s) / s**3 in s**2", sine, share_of_sine, (3, 6)),
        ("cosine_table", "(cos(s) - 1 + s**2 / 2) / s**4 in s**2", cosine, share_of_cosine, (3, 6)),
    ):
        made = [
            table(function, share, ("1e-6", end**2), count, kind)
            for kind, count in zip((SINGLE, TWOFOLD), counts, strict=True)
        ]
        show(name, f"{comment}, 0 <= s <= pi / 4", *made)
    show_half_pi()
    print("\n#endif")


if __name__ == "__main__":
    main()
