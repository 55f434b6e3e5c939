"""Works out the coefficients in tables.h and prints that file: ``python csrc/make_tables.py > csrc/tables.h``.

Needs mpmath; takes about half a minute.  Each polynomial is the best one for its relative error (Remez's exchange) in
45-digit arithmetic, with weights that turn the polynomial's error into that of the function built on it.  Coefficients
are rounded from the constant on, and the others fitted anew after each: the later ones make up for the rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp
import numpy as np

mp.mp.dps = 45
# odd, so that no point lies in the middle, where some weights are 0
POINTS = 301
Function = Callable[[mp.mpf], mp.mpf]


def rounded(number: mp.mpf, dtype: type) -> mp.mpf:
    """The nearest number of the dtype."""
    digits = 24 if dtype is np.float32 else 53
    with mp.workprec(digits):
        return +number


def best_polynomial(function: Function, weight: Function, low, high, count: int, fixed: list) -> tuple[list, mp.mpf]:
    """`count` coefficients, of which the first are given, least in max |weight (function - polynomial)| on the interval.

    Returns the coefficients and that maximum.
    """
    low, high, start = mp.mpf(low), mp.mpf(high), len(fixed)
    x = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / POINTS) for i in range(POINTS + 1)]
    # what is left to fit, divided by x**start, which goes into the weights: powers from `start` on would have one more zero
    weights = [weight(at) * abs(at) ** start for at in x]
    rest = [(function(at) - mp.polyval([0, *fixed[::-1]], at)) / at**start for at in x]
    free = count - start
    chosen, best = [round(POINTS * i / free) for i in range(free + 1)], None
    for _ in range(12):
        system, right = mp.matrix(free + 1), mp.matrix(free + 1, 1)
        for row, i in enumerate(chosen):
            for k in range(free):
                system[row, k] = x[i] ** k
            system[row, free] = (-1) ** row / weights[i]
            right[row] = rest[i]
        solution = list(mp.lu_solve(system, right))[:free]
        errors = [w * (r - mp.polyval(solution[::-1], at)) for w, r, at in zip(weights, rest, x, strict=True)]
        largest = max(map(abs, errors))
        if best is None or largest < best[1]:
            best = fixed + solution, largest
        # the largest error between any two changes of sign
        peaks = []
        for i, error in enumerate(errors):
            if peaks and (error > 0) == (errors[peaks[-1]] > 0):
                if abs(error) > abs(errors[peaks[-1]]):
                    peaks[-1] = i
            else:
                peaks.append(i)
        while len(peaks) > free + 1:
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        if len(peaks) <= free or peaks == chosen:
            break
        chosen = peaks
    return best


def table(function: Function, weight: Function, low, high, count: int, dtype: type) -> tuple[list, mp.mpf]:
    """Coefficients of the dtype, and the largest weighted error they leave."""
    fixed: list = []
    # the later ones are too small for their rounding to count
    while len(fixed) < min(count, 2):
        fixed.append(rounded(best_polynomial(function, weight, low, high, count, fixed)[0][len(fixed)], dtype))
    found = best_polynomial(function, weight, low, high, count, fixed)[0] if len(fixed) < count else fixed
    found = [rounded(number, dtype) for number in found]
    low, high = mp.mpf(low), mp.mpf(high)
    points = [low + (high - low) * (i + mp.mpf(1) / 3) / 1000 for i in range(1000)]
    return found, max(abs(weight(at) * (function(at) - mp.polyval(found[::-1], at))) for at in points)


def literal(number: mp.mpf, dtype: type) -> str:
    """The number in C."""
    return f"{float(number)!r}f" if dtype is np.float32 else repr(float(number))


def print_table(name: str, dtype: type, coefficients: list) -> None:
    """An array in C, as many numbers a line as fit."""
    c_type, suffix = ("float", "f32") if dtype is np.float32 else ("double", "f64")
    lines, line = [], ""
    for number in coefficients:
        text = literal(number, dtype) + ", "
        if len(line) + len(text) > 116:
            lines.append(line.rstrip())
            line = ""
        line += text
    print(f"static const {c_type} {name}_{suffix}[] = {{")
    for text in [*lines, line.rstrip(", ")]:
        print(f"    {text}")
    print("};")


def exponential(r: mp.mpf) -> mp.mpf:
    """(exp(r) - 1 - r) / r**2"""
    return (mp.expm1(r) - r) / r**2 if r else mp.mpf("0.5")


def logarithm(z: mp.mpf) -> mp.mpf:
    """(log((1 + s) / (1 - s)) - 2 s) / s**3 with s = sqrt(z)"""
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) - 2 * s) / s**3 if z > mp.mpf(10) ** -15 else mp.mpf(2) / 3 + mp.mpf(2) / 5 * z


def normal(x: mp.mpf) -> mp.mpf:
    """exp(x**2 / 2) Phi(-x)"""
    return mp.exp(x * x / 2) * mp.erfc(x / mp.sqrt(2)) / 2


def normal_parameters(dtype: type) -> tuple[mp.mpf, mp.mpf, mp.mpf, mp.mpf]:
    """Pole, middle, end, and the factor near 0.79 for which the first coefficient has least to round.

    That coefficient is the value at the middle; no later one can make up for its rounding there.
    """
    pole, middle, end = map(mp.mpf, (("0.21875", "0.625", "13.5") if dtype is np.float32 else ("0.1875", "0.5625", "38.6")))
    x = (1 / middle - 1) / pole
    start, step = rounded(mp.mpf("0.79"), dtype), mp.mpf(2) ** (-24 if dtype is np.float32 else -53)
    factors = [start + i * step for i in range(-2000, 2001)]
    return pole, middle, end, min(factors, key=lambda f: abs(normal(x) * (1 + f * x) - rounded(normal(x) * (1 + f * x), dtype)))


def main() -> None:
    """Print the file."""
    kinds = (np.float32, np.float64)
    print("/* tables.h: coefficients of the engine's functions, lowest power first, made by make_tables.py (see there how); the")
    print(" * errors beside each table are relative to the function named, in float and in double, before rounding. */")
    print("#ifndef PYMLP_TABLES_H\n#define PYMLP_TABLES_H\n")

    def show(name: str, comment: str, made: list) -> None:
        errors = " and ".join(f"{float(error):.1e}" for _, error in made)
        print(f"/* {comment}; errors {errors} */")
        for dtype, (coefficients, _) in zip(kinds, made, strict=True):
            print_table(name, dtype, coefficients)
        print()

    # a hair more than half of log(2): the quotient x / log(2) is rounded before it becomes an integer
    end = mp.log(2) / 2 * mp.mpf("1.001")
    made = [table(exponential, lambda r: r * r / mp.exp(r), -end, end, n, t) for n, t in zip((5, 10), kinds, strict=True)]
    show("exp_table", "exp: (exp(r) - 1 - r) / r**2 on |r| <= log(2) / 2", made)

    def of_logarithm(z: mp.mpf) -> mp.mpf:
        s = mp.sqrt(z)
        return s**3 / (2 * mp.atanh(s))

    for name, comment, end, counts in (
        ("log_table", "log: (log((1 + s) / (1 - s)) - 2 s) / s**3 in powers of s**2, s = f / (2 + f), sqrt(1/2) <= 1 + f <= sqrt(2)",
         (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1), (3, 7)),
        ("log1p_table", "log(1 + x): the same, s = x / (2 + x), 0 <= x <= 1", mp.mpf(1) / 3, (4, 10)),
    ):  # fmt: skip
        made = [table(logarithm, of_logarithm, mp.mpf(10) ** -6, end**2, n, t) for n, t in zip(counts, kinds, strict=True)]
        show(name, comment, made)

    made, constants = [], []
    for dtype, count in zip(kinds, (10, 23), strict=True):
        pole, middle, end, factor = normal_parameters(dtype)

        def function(t: mp.mpf, pole=pole, middle=middle, factor=factor) -> mp.mpf:
            x = (1 / (t + middle) - 1) / pole
            return normal(x) * (1 + factor * x)

        made.append(table(function, lambda t, f=function: 1 / f(t), 1 / (1 + pole * end) - middle, 1 - middle, count, dtype))
        constants.append((pole, factor, middle, end))
    for name, *numbers in zip(("NORMAL_POLE", "NORMAL_FACTOR", "NORMAL_MIDDLE", "NORMAL_END"), *constants, strict=True):
        print(f"#define {name} BY_TYPE({literal(numbers[0], np.float32)}, {literal(numbers[1], np.float64)})")
    show("normal_table", "Phi(-x): exp(x**2 / 2) Phi(-x) (1 + NORMAL_FACTOR x) in powers of 1 / (1 + NORMAL_POLE x) -\n"
         " * NORMAL_MIDDLE, 0 <= x <= NORMAL_END", made)  # fmt: skip
    print("#endif")


if __name__ == "__main__":
    main()
