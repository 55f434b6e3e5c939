"""Functions of one number in the Numba backend, and how its functions are compiled and kept.

What each computes is defined in `pymlp.functions`.  The exponential and what is made of it are written out here,
without branches, so that LLVM computes a vector of them at a time; a call of the C library for each element would take
ten times as long.  Constants are given the type of the argument (``type(x)(...)``) because Numba takes every literal
for a double, and one double in a loop makes the whole loop double.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
from numba import njit, types
from numba.extending import overload

from pymlp.backends.numba_vector import polynomial
from pymlp.functions import ERF_NEAR, ERFC_FAR, GAUSS_FACTOR, LEAKY_SLOPE, SELU_ALPHA, SELU_SCALE

# no exceptions on division by zero, and a product and a sum may fuse: nothing else of fast-math
_MEANING = {"error_model": "numpy", "fastmath": {"contract"}}
# functions that only compiled code calls need no way in from Python, which would be compiled too
OPTIONS = {**_MEANING, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def _digest_of_sources() -> str:
    folder = Path(__file__).parent
    files = [*sorted(folder.glob("numba*.py")), folder.parent / "functions.py", folder.parent / "philox.py"]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


_DIGEST = _digest_of_sources()


def cached(function: Callable) -> Callable:
    """Compile an entry point and keep the machine code on disk, if there is a place for it.

    Numba notices changes in the entry point's own file only; so the name it is kept under says what all files were.
    """
    function.__qualname__ = f"{function.__qualname__}_{_DIGEST}"
    try:
        return njit(**_MEANING, nogil=True, cache=True)(function)
    except RuntimeError:
        # neither the package's directory nor the user's cache can be written: compile anew in each process
        return njit(**_MEANING, nogil=True)(function)


# (exp(r) - 1) / r by its Taylor series on |r| <= log(2) / 2: error 5e-9 with 7 terms, 4e-18 with 13
_EXPM1_32 = polynomial([1 / math.factorial(k) for k in range(1, 8)])
_EXPM1_64 = polynomial([1 / math.factorial(k) for k in range(1, 14)])
# log1p(u) = 2 atanh(s), s = u / (2 + u) <= 1/3: series of atanh(s) / s in s**2, error 3e-9 with 8 terms, 2e-17 with 16
_ATANH_32 = polynomial([1 / (2 * k + 1) for k in range(8)])
_ATANH_64 = polynomial([1 / (2 * k + 1) for k in range(16)])
_ERF_NEAR = polynomial(ERF_NEAR)
_ERFC_FAR = polynomial(ERFC_FAR)

LOG2_E = 1.4426950408889634
# log(2) as a part with trailing zero bits, whose product with a small whole number is exact, and the rest
LN2_HIGH_32, LN2_LOW_32 = 0.693359375, -2.12194440054690583e-4
LN2_HIGH_64, LN2_LOW_64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# 1.5 * 2**mantissa bits: adding it rounds to a whole number, which is then read from the low bits
MAGIC_32, MAGIC_64 = 12582912.0, 6755399441055744.0


def exponential_parts(x):
    """(q, s1, s2) with ``exp(x) = (1 + q) * s1 * s2``; s1 and s2 are powers of two.  Keeps NaN, clamps the rest."""


@overload(exponential_parts, jit_options=OPTIONS)
def _exponential_parts(x):
    if x == types.float32:

        def parts(x):
            # beyond these the result is 0 or infinity all the same
            bounded = np.float32(-110.0) if x < np.float32(-110.0) else x
            bounded = np.float32(89.0) if bounded > np.float32(89.0) else bounded
            shifted = bounded * np.float32(LOG2_E) + np.float32(MAGIC_32)
            whole = shifted - np.float32(MAGIC_32)
            rest = bounded - whole * np.float32(LN2_HIGH_32)
            rest = rest - whole * np.float32(LN2_LOW_32)
            power = np.int32(np.float32(shifted).view(np.int32) - np.float32(MAGIC_32).view(np.int32))
            half = np.int32(power >> 1)
            scale_1 = np.int32((half + 127) << 23).view(np.float32)
            scale_2 = np.int32((power - half + 127) << 23).view(np.float32)
            return rest * _EXPM1_32(rest), scale_1, scale_2

        return parts

    def parts(x):
        bounded = -760.0 if x < -760.0 else x
        bounded = 710.0 if bounded > 710.0 else bounded
        shifted = bounded * LOG2_E + MAGIC_64
        whole = shifted - MAGIC_64
        rest = bounded - whole * LN2_HIGH_64
        rest = rest - whole * LN2_LOW_64
        power = np.float64(shifted).view(np.int64) - np.float64(MAGIC_64).view(np.int64)
        half = power >> 1
        scale_1 = np.int64((half + 1023) << 52).view(np.float64)
        scale_2 = np.int64((power - half + 1023) << 52).view(np.float64)
        return rest * _EXPM1_64(rest), scale_1, scale_2

    return parts


def log1p_of_fraction(u):
    """log(1 + u) for 0 <= u <= 1."""


@overload(log1p_of_fraction, jit_options=OPTIONS)
def _log1p_of_fraction(u):
    series = _ATANH_32 if u == types.float32 else _ATANH_64

    def log1p(u):
        two = type(u)(2.0)
        s = u / (two + u)
        return two * s * series(s * s)

    return log1p


@njit(**OPTIONS)
def exponential(x):
    q, scale_1, scale_2 = exponential_parts(x)
    return (type(x)(1.0) + q) * scale_1 * scale_2


@njit(**OPTIONS)
def expm1_of_negative(x):
    """exp(x) - 1 for x <= 0."""
    q, scale_1, scale_2 = exponential_parts(x)
    scale = scale_1 * scale_2
    return q * scale + (scale - type(x)(1.0))


@njit(**OPTIONS)
def logistic(z):
    one = type(z)(1.0)
    small = exponential(-abs(z))
    return (one if z >= type(z)(0.0) else small) / (one + small)


@njit(**OPTIONS)
def tanh(z):
    t = expm1_of_negative(type(z)(-2.0) * abs(z))
    size = -t / (type(z)(2.0) + t)
    return -size if z < type(z)(0.0) else size


@njit(**OPTIONS)
def relu(z):
    return type(z)(0.0) if z <= type(z)(0.0) else z


@njit(**OPTIONS)
def leaky_relu(z):
    return z if z > type(z)(0.0) else z * type(z)(LEAKY_SLOPE)


@njit(**OPTIONS)
def elu(z):
    zero = type(z)(0.0)
    return z if z > zero else expm1_of_negative(zero if z > zero else z)


@njit(**OPTIONS)
def selu(z):
    zero = type(z)(0.0)
    negative = type(z)(SELU_ALPHA) * expm1_of_negative(zero if z > zero else z)
    return type(z)(SELU_SCALE) * (z if z > zero else negative)


@njit(**OPTIONS)
def without_left_end(z):
    """z, and 0 instead of -inf: for products with what vanishes there faster than z grows."""
    return type(z)(0.0) if z == type(z)(-np.inf) else z


@njit(**OPTIONS)
def without_ends(z):
    return type(z)(0.0) if abs(z) == type(z)(np.inf) else z


@njit(**OPTIONS)
def normal_cdf(z):
    """Distribution function of the standard normal, in double whatever z is."""
    wide = np.float64(z)
    x = abs(wide) * math.sqrt(0.5)
    near_x = 1.0 if x > 1.0 else x
    near = 0.5 * x * _ERF_NEAR(near_x * near_x)
    far_x = 1.0 if x < 1.0 else x
    far_x = 28.0 if far_x > 28.0 else far_x
    far = 0.5 * exponential(-x * x) * _ERFC_FAR((far_x - 3.0) / (far_x + 3.0)) / (1.0 + 2.0 * far_x)
    upper = 0.5 + near if x < 1.0 else 1.0 - far
    lower = 0.5 - near if x < 1.0 else far
    return type(z)(lower if wide < 0.0 else upper)


@njit(**OPTIONS)
def gelu(z):
    return without_left_end(z) * normal_cdf(z)


@njit(**OPTIONS)
def silu(z):
    return without_left_end(z) * logistic(z)


@njit(**OPTIONS)
def tanh_of_softplus(z):
    # with e = exp(-|z|) and n = exp(z): (n**2 + 2 n) / (n**2 + 2 n + 2), top and bottom divided by n**2 if z >= 0
    one, two, small = type(z)(1.0), type(z)(2.0), exponential(-abs(z))
    positive = z >= type(z)(0.0)
    top = one + two * small if positive else small * (small + two)
    return top / (top + (two * small * small if positive else two))


@njit(**OPTIONS)
def mish(z):
    return without_left_end(z) * tanh_of_softplus(z)


@njit(**OPTIONS)
def softplus(z):
    positive = type(z)(0.0) if z <= type(z)(0.0) else z
    return positive + log1p_of_fraction(exponential(-abs(z)))


@njit(**OPTIONS)
def cosine(z):
    # the C library's: features are computed once, and large arguments need its exact reduction
    return math.cos(z)


@njit(**OPTIONS)
def square(z):
    return z * z


@njit(**OPTIONS)
def logistic_slope(z, a):
    return a * (type(z)(1.0) - a)


@njit(**OPTIONS)
def tanh_slope(z, a):
    return type(z)(1.0) - a * a


@njit(**OPTIONS)
def relu_slope(z, a):
    return type(z)(1.0) if a != type(z)(0.0) else type(z)(0.0)


@njit(**OPTIONS)
def leaky_relu_slope(z, a):
    return type(z)(1.0) if a > type(z)(0.0) else type(z)(LEAKY_SLOPE)


@njit(**OPTIONS)
def elu_slope(z, a):
    return type(z)(1.0) if a > type(z)(0.0) else a + type(z)(1.0)


@njit(**OPTIONS)
def selu_slope(z, a):
    return type(z)(SELU_SCALE) if a > type(z)(0.0) else a + type(z)(SELU_SCALE * SELU_ALPHA)


@njit(**OPTIONS)
def gelu_slope(z, a):
    density = type(z)(GAUSS_FACTOR) * exponential(type(z)(-0.5) * z * z)
    return normal_cdf(z) + without_ends(z) * density


@njit(**OPTIONS)
def silu_slope(z, a):
    return logistic(z) + without_ends(z) * logistic(z) * logistic(-z)


@njit(**OPTIONS)
def mish_slope(z, a):
    t = tanh_of_softplus(z)
    return t + without_ends(z) * (type(z)(1.0) - t * t) * logistic(z)


@njit(**OPTIONS)
def softplus_slope(z, a):
    return -expm1_of_negative(-a)


@njit(**OPTIONS)
def exp_slope(z, a):
    return a


@njit(**OPTIONS)
def cosine_slope(z, a):
    return -math.sin(z)


@njit(**OPTIONS)
def square_slope(z, a):
    return z + z


@njit(**OPTIONS)
def copy(source, target):
    """target[:] = source, in a fraction of the time that Numba takes to compile that assignment."""
    for i in range(len(target)):
        target[i] = source[i]


@njit(**OPTIONS)
def clear(target):
    """target[:] = 0, likewise."""
    for i in range(len(target)):
        target[i] = 0
