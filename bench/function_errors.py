"""How far the engine's functions lie from the exact ones: the largest error over all float32 numbers, or every n-th.

    python bench/function_errors.py                       # every 997th float32 number: a minute or two
    python bench/function_errors.py exp --stride 1        # all 2**32: five minutes with one core, half without slopes

Values are judged in units in the last place of the exact result, slopes in roundings (half the epsilon) of 1 or of the
slope if that is larger.  Subnormal numbers count as 0, going in and coming out.  Each formula stands here once, and is
worked out in float64 to judge float32 (its own error is below 1e-6 of a float32 unit) and in 40 digits to judge
float64, on random numbers of all sizes.  It needs SciPy and mpmath.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
from scipy import special
from tqdm import tqdm

from pymlp import config_context
from pymlp.backends import c
from pymlp.functions import LEAKY_SLOPE

STRIDE = 997
COUNT = 20_000
# numbers of a piece of the sweep, whose arrays stay in a second-level cache
PIECE = 2**13
DIGITS = 40


class Double:
    """What the formulas are made of, for arrays of float64."""

    exp, log, log1p, expm1, tanh = np.exp, np.log, np.log1p, np.expm1, np.tanh
    sin, cos = np.sin, np.cos
    logistic, normal_cdf = special.expit, special.ndtr
    where, maximum = np.where, np.maximum

    @staticmethod
    def number(text: str) -> float:
        return float(text)


class Digits:
    """The same for single numbers of mpmath."""

    exp, log, log1p, expm1, tanh = mpmath.exp, mpmath.log, mpmath.log1p, mpmath.expm1, mpmath.tanh
    sin, cos = mpmath.sin, mpmath.cos
    number = mpmath.mpf

    @staticmethod
    def logistic(z: Any) -> Any:
        return 1 / (1 + mpmath.exp(-z))

    @staticmethod
    def normal_cdf(z: Any) -> Any:
        return mpmath.erfc(-z / mpmath.sqrt(2)) / 2

    @staticmethod
    def where(condition: bool, yes: Any, no: Any) -> Any:
        return yes if condition else no

    maximum = max


Formula = Callable[[Any, Any], Any]


def _bounded(m: Any, z: Any) -> Any:
    # minus infinity times 0 would be no number
    return m.maximum(z, -1e5)


def _softplus(m: Any, z: Any) -> Any:
    return m.maximum(z, 0) + m.log1p(m.exp(-abs(z)))


def _normal_density(m: Any, z: Any) -> Any:
    return m.number("0.39894228040143267793994605993438186848") * m.exp(-z * z / 2)


def _selu_scale(m: Any) -> Any:
    return m.number("1.0507009873554804934193349852946")


def _selu_product(m: Any) -> Any:
    return _selu_scale(m) * m.number("1.6732632423543772848170429916717")


def _within(m: Any, z: Any) -> Any:
    # slopes beyond are the ends' own, and infinity times 0 would be no number
    return m.maximum(-m.maximum(-z, -1e3), -1e3)


def _gelu_slope(m: Any, z: Any) -> Any:
    return m.normal_cdf(z) + _within(m, z) * _normal_density(m, _within(m, z))


def _silu_slope(m: Any, z: Any) -> Any:
    return m.logistic(z) * (1 + _within(m, z) * m.logistic(-z))


def _mish_slope(m: Any, z: Any) -> Any:
    t = m.tanh(_softplus(m, z))
    return t + _within(m, z) * (1 - t) * (1 + t) * m.logistic(z)


VALUES: dict[str, Formula] = {
    "identity": lambda m, z: z,
    "logistic": lambda m, z: m.logistic(z),
    "tanh": lambda m, z: m.tanh(z),
    "relu": lambda m, z: m.maximum(z, 0),
    "leaky_relu": lambda m, z: m.where(z > 0, z, z * m.number(str(LEAKY_SLOPE))),
    "elu": lambda m, z: m.where(z > 0, z, m.expm1(z)),
    "selu": lambda m, z: m.where(z > 0, _selu_scale(m) * z, _selu_product(m) * m.expm1(z)),
    "gelu": lambda m, z: _bounded(m, z) * m.normal_cdf(z),
    "silu": lambda m, z: _bounded(m, z) * m.logistic(z),
    "mish": lambda m, z: _bounded(m, z) * m.tanh(_softplus(m, z)),
    "softplus": _softplus,
    "exp": lambda m, z: m.exp(z),
    "cosine": lambda m, z: m.cos(z),
    "square": lambda m, z: z * z,
    "log": lambda m, z: m.log(z),
}
SLOPES: dict[str, Formula] = {
    "identity": lambda m, z: m.where(z > 0, 1, 1),
    "logistic": lambda m, z: m.logistic(z) * m.logistic(-z),
    "tanh": lambda m, z: 4 * m.logistic(2 * z) * m.logistic(-2 * z),
    "relu": lambda m, z: m.where(z > 0, 1, 0),
    "leaky_relu": lambda m, z: m.where(z > 0, 1, m.number(str(LEAKY_SLOPE))),
    "elu": lambda m, z: m.where(z > 0, 1, m.exp(z)),
    "selu": lambda m, z: m.where(z > 0, _selu_scale(m), _selu_product(m) * m.exp(z)),
    "gelu": _gelu_slope,
    "silu": _silu_slope,
    "mish": _mish_slope,
    "softplus": lambda m, z: m.logistic(z),
    "exp": lambda m, z: m.exp(z),
    "cosine": lambda m, z: -m.sin(z),
    "square": lambda m, z: z + z,
}


@dataclass(frozen=True)
class Worst:
    """The largest error found among `count` numbers, and the number that has it."""

    error: float = 0.0
    at: float = 0.0
    count: int = 0

    def joined(self, other: Worst) -> Worst:
        """Of two sweeps together."""
        larger = other if other.error > self.error else self
        return Worst(larger.error, larger.at, self.count + other.count)


def flushed(z: np.ndarray) -> np.ndarray:
    """Subnormal numbers become 0 with their sign."""
    return np.where(np.abs(z) < np.finfo(z.dtype).tiny, np.copysign(z.dtype.type(0), z), z)


def _units(exact: np.ndarray, dtype: np.dtype, slope: bool) -> np.ndarray:
    """What one unit of error is at float64 results."""
    info = np.finfo(dtype)
    if slope:
        return np.maximum(np.abs(exact), 1) * (info.eps / 2)
    # the power of 2 at or below each: its exponent bits alone
    powers = (exact.view(np.int64) & 0x7FF0000000000000).view(np.float64)
    return np.maximum(powers, float(info.tiny)) * 2.0**-info.nmant


def _judged(z: np.ndarray, found: np.ndarray, exact: np.ndarray, error: np.ndarray) -> Worst:
    """The worst of the errors once zeros, infinities and NaNs are judged; the exact results are as float64.

    A NaN for a number, an infinity for what rounds to a finite number, and their reverses are infinite errors.
    """
    info, size = np.finfo(found.dtype), np.abs(exact)
    # a result below the smallest normal number, or within its rounding, may be 0
    error = np.where((found == 0) & (size < float(info.tiny) * (1 + 2 * float(info.eps))), 0, error)
    same = (found == exact) | (np.isnan(found) & np.isnan(exact))
    with np.errstate(over="ignore"):
        same |= np.isinf(found) & (found == exact.astype(found.dtype))
    error = np.where(same, 0, np.where(np.isnan(error), np.inf, error))
    position = int(np.argmax(error))
    return Worst(float(error[position]), float(z[position]), len(z))


def evaluated(name: str, z: np.ndarray, slope: bool, isa: str | None) -> np.ndarray:
    """The engine's results on an instruction set (None: the best one); subnormal ones, which only copies are, as 0."""
    with config_context(isa=isa):
        return flushed(c.evaluate(name, z, slope))


def judged_single(name: str, slope: bool, isa: str | None, z: np.ndarray) -> Worst:
    """These float32 numbers."""
    with np.errstate(all="ignore"):
        found = evaluated(name, z, slope, isa)
        exact = np.asarray((SLOPES if slope else VALUES)[name](Double, flushed(z).astype(np.float64)), np.float64)
        error = np.abs(found - exact) / _units(exact, found.dtype, slope)
        if slope:
            # there is none to compare with
            exact = np.where(np.isnan(z), found, exact)
        return _judged(z, found, exact, error)


def single_piece(name: str, slope: bool, isa: str | None, first: int, stride: int) -> Worst:
    """The float32 numbers whose bits are first, first + stride, ... (PIECE of them, or until 2**32)."""
    bits = np.arange(first, min(first + PIECE * stride, 2**32), stride, dtype=np.uint64).astype(np.uint32)
    return judged_single(name, slope, isa, bits.view(np.float32))


def sweep_single(
    name: str, slope: bool, isa: str | None = None, stride: int = STRIDE, n_threads: int = 1, bar: bool = False
) -> Worst:
    """Every `stride`-th float32 number."""
    starts, worst = range(0, 2**32, PIECE * stride), Worst()
    with (
        ThreadPoolExecutor(n_threads) as pool,
        tqdm(total=len(starts), desc=f"{name} float32", leave=False, disable=not bar) as shown,
    ):
        for piece in pool.map(lambda first: single_piece(name, slope, isa, first, stride), starts):
            worst = worst.joined(piece)
            shown.update()
    return worst


def twofold_numbers(count: int) -> np.ndarray:
    """About `count` float64 numbers of both signs where the functions change, and around 1 and the powers of 2."""
    draw = np.random.default_rng(0)
    share = count // 7
    sizes = [draw.uniform(0, limit, share) for limit in (1, 3, 12, 40, 750)] + [np.exp2(draw.uniform(-1022, 9, share))]
    powers = np.exp2(np.arange(-60, 11.0))
    edges = np.concatenate([powers, np.nextafter(powers, 0), np.nextafter(powers, np.inf)])
    z = np.concatenate([*sizes, np.exp2(draw.uniform(-50, 0, share))])
    z[-share:] = 1 - z[-share:]
    return np.concatenate([z * draw.choice([-1.0, 1.0], len(z)), edges, -edges])


def judged_twofold(name: str, slope: bool, isa: str | None, z: np.ndarray, bar: bool = False) -> Worst:
    """These float64 numbers."""
    formula = (SLOPES if slope else VALUES)[name]
    found = evaluated(name, z, slope, isa)
    exact, difference = np.empty(len(z)), np.empty(len(z), object)
    with mpmath.workdps(DIGITS):
        for i, number in enumerate(tqdm(z.tolist(), desc=f"{name} float64", leave=False, disable=not bar)):
            value = mpmath.mpf(formula(Digits, mpmath.mpf(number)))
            exact[i], difference[i] = value, abs(value - float(found[i]))
        error = np.array(
            [float(d / u) for d, u in zip(difference, _units(exact, z.dtype, slope).tolist(), strict=True)]
        )
    return _judged(z, found, exact, error)


def sweep_twofold(name: str, slope: bool, isa: str | None = None, count: int = COUNT, bar: bool = False) -> Worst:
    """About `count` float64 numbers."""
    z = twofold_numbers(count)
    return judged_twofold(name, slope, isa, np.abs(z) if name == "log" else z, bar)


def main() -> None:
    """Print the table of errors."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("functions", nargs="*", metavar="function", help=f"by default all: {', '.join(VALUES)}")
    parser.add_argument("--stride", type=int, default=STRIDE, help="judge every n-th float32 number (1: all)")
    parser.add_argument("--count", type=int, default=COUNT, help="judge about n float64 numbers")
    parser.add_argument("--no-slopes", action="store_true", help="judge the values alone, in half the time")
    parser.add_argument("--isa", help="instruction set; by default the best one of this machine")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the float32 sweep")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.functions) - set(VALUES))
    if unknown:
        parser.error(f"functions must be of {', '.join(VALUES)}, got {', '.join(unknown)}")
    for option in ("stride", "count", "threads"):
        if getattr(arguments, option) < 1:
            parser.error(f"--{option} must be at least 1, got {getattr(arguments, option)}")

    print("| function | dtype | numbers | largest error, ulp | at | largest error of the slope, roundings | at |")
    print("|---|---|--:|--:|--:|--:|--:|")
    bar = sys.stderr.isatty()
    for name in arguments.functions or VALUES:
        for dtype in ("float32", "float64"):
            columns, count = [], 0
            for slope in (False, True):
                if slope and (arguments.no_slopes or name not in SLOPES):
                    columns += ["", ""]
                    continue
                if dtype == "float32":
                    worst = sweep_single(name, slope, arguments.isa, arguments.stride, arguments.threads, bar)
                else:
                    worst = sweep_twofold(name, slope, arguments.isa, arguments.count, bar)
                count = worst.count
                columns += [f"{worst.error:.2f}", f"{worst.at:.9g}" if worst.error else ""]
            print(f"| {name} | {dtype} | {count:,} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
