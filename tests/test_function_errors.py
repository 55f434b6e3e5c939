"""The engine's functions: against the exact ones, at the ends of their range, and alike on all instruction sets.

What is exact and how errors are counted stands in bench/function_errors.py, which also sweeps all float32 numbers.
"""

import math

import function_errors
import mpmath
import numpy as np
import pytest

from pymlp import backends, config_context
from pymlp.functions import ACTIVATIONS

pytestmark = pytest.mark.skipif("c" not in backends.available(), reason=f"no C engine: {backends.missing_reason('c')}")
if "c" in backends.available():
    from pymlp.backends import c

ISAS = c.instruction_sets() if "c" in backends.available() else ()
FUSED = [isa for isa in ISAS if isa != "portable"]
ELEMENT_WISE = [name for name, row in ACTIVATIONS.items() if row.slope is not None]
NAMES = [*ELEMENT_WISE, "log"]
INF = math.inf
SELU_SCALE, SELU_PRODUCT = 1.0507009873554804934, 1.7580993408473768599

# what minus infinity, -0, +0 and infinity become
ENDS = {
    "identity": (-INF, -0.0, 0.0, INF),
    "logistic": (0.0, 0.5, 0.5, 1.0),
    "tanh": (-1.0, -0.0, 0.0, 1.0),
    "relu": (0.0, 0.0, 0.0, INF),
    "leaky_relu": (-INF, -0.0, 0.0, INF),
    "elu": (-1.0, -0.0, 0.0, INF),
    "selu": (-SELU_PRODUCT, -0.0, 0.0, INF),
    "gelu": (0.0, -0.0, 0.0, INF),
    "silu": (0.0, -0.0, 0.0, INF),
    "mish": (0.0, -0.0, 0.0, INF),
    "softplus": (0.0, math.log(2), math.log(2), INF),
    "exp": (0.0, 1.0, 1.0, INF),
    "cosine": (math.nan, 1.0, 1.0, math.nan),
    "square": (INF, 0.0, 0.0, INF),
    "log": (math.nan, -INF, -INF, INF),
}


def most_errors(name: str, isa: str, at: float) -> float:
    """The bound in units in the last place; the portable engine lacks what corrects quotients and products."""
    if isa != "portable":
        return 2.0
    # the rounding error of z**2 stays in, and of the reduced argument next to the zeros of the cosine
    return 4.0 + {"gelu": at * at / 2, "cosine": 4.0}.get(name, 0)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NAMES)
def test_float32_values_and_slopes(name, isa):
    worst = function_errors.sweep_single(name, False, isa, stride=40_009)
    assert worst.count > 100_000
    assert worst.error <= most_errors(name, isa, worst.at), worst
    if name != "log":
        worst = function_errors.sweep_single(name, True, isa, stride=40_009)
        assert worst.error <= 4, worst


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NAMES)
def test_float64_values_and_slopes(name, isa):
    worst = function_errors.sweep_twofold(name, False, isa, count=1000)
    assert worst.count > 1000
    assert worst.error <= most_errors(name, isa, worst.at), worst
    if name != "log":
        worst = function_errors.sweep_twofold(name, True, isa, count=1000)
        assert worst.error <= 4, worst


def corners(dtype, exponents):
    """The powers of 2 with these exponents, the numbers next to them, and their negatives."""
    powers = np.ldexp(np.ones(len(exponents), dtype), exponents).astype(dtype)
    numbers = np.concatenate([powers, np.nextafter(powers, dtype(0)), np.nextafter(powers, dtype(np.inf))])
    return np.concatenate([numbers, -numbers])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NAMES)
def test_next_to_every_power_of_two(name, isa):
    # of float32 all numbers that have one, the least and the largest; of float64 where mpmath is quick
    info = np.finfo(np.float32)
    every = corners(np.float32, np.arange(info.minexp, info.maxexp))
    every = np.concatenate([every, np.array([info.tiny, info.max, -info.max, -info.tiny], np.float32)])
    double = corners(np.float64, np.concatenate([[-1022, -1021, -500], np.arange(-66, 11, 3)]))
    if name == "log":
        double = np.abs(double)
    # what is below the smallest normal number counts as 0, here too
    double = function_errors.flushed(double)
    double = double[double != 0]
    for slope in (False, True) if name != "log" else (False,):
        for worst in (
            function_errors.judged_single(name, slope, isa, every),
            function_errors.judged_twofold(name, slope, isa, double),
        ):
            assert worst.count > 160
            assert worst.error <= (4 if slope else most_errors(name, isa, worst.at)), worst


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "cosine"])
def test_the_largest_float64(name, isa):
    # so large that NumPy's own formulas are exact; the cosine has a test of its own
    z = np.ldexp([1.0, 1.5, 1.0, 1.75], [60, 300, 1000, 1023])
    z = np.concatenate([z, [np.finfo(np.float64).max]])
    z = z if name == "log" else np.concatenate([z, -z])
    with np.errstate(all="ignore"):
        expected = np.asarray(function_errors.VALUES[name](function_errors.Double, z), np.float64)
    with config_context(isa=isa):
        np.testing.assert_array_max_ulp(c.evaluate(name, z), expected, 2)


@pytest.mark.slow
@pytest.mark.parametrize("isa", [*FUSED[:1], "portable"])
@pytest.mark.parametrize("name", NAMES)
def test_every_thousandth_float32(name, isa):
    if isa not in ISAS:
        pytest.skip(f"this machine has no engine {isa}")
    for slope in (False, True) if name != "log" else (False,):
        worst = function_errors.sweep_single(name, slope, isa, stride=1_009)
        assert worst.count > 4_000_000
        assert worst.error <= (4 if slope else most_errors(name, isa, worst.at)), worst


def test_the_sweeps_notice_errors(monkeypatch):
    # results one unit off, zeros, NaNs and infinities
    right = c.evaluate
    for wrong, least in (
        (lambda out: np.nextafter(out, np.inf), 1),
        (lambda out: out * 0, 1e6),
        (lambda out: out + np.nan, INF),
        (lambda out: out + np.inf, INF),
    ):
        monkeypatch.setattr(c, "evaluate", lambda name, z, slope, wrong=wrong: wrong(right(name, z, slope)))
        assert function_errors.sweep_single("logistic", False, stride=4_000_037).error >= least
        assert function_errors.sweep_twofold("logistic", False, count=100).error >= least
        assert function_errors.sweep_single("logistic", True, stride=4_000_037).error >= 0.5


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_ends_and_signed_zeros(name, dtype, isa):
    with config_context(isa=isa):
        out = c.evaluate(name, np.array([-INF, -0.0, 0.0, INF], dtype))
        assert np.isnan(c.evaluate(name, np.array([np.nan, -np.nan], dtype))).all()
        subnormal = c.evaluate(name, np.array([-1.0, 1.0], dtype) * np.finfo(dtype).smallest_subnormal)
    expected = np.array(ENDS[name], dtype)
    if name in ("selu", "softplus"):
        # numbers with a rounding
        np.testing.assert_array_max_ulp(out, expected, 2)
    else:
        np.testing.assert_array_equal(out, expected)
    signed = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(out)[signed], np.signbit(expected)[signed])
    # subnormal numbers count as 0; some functions copy them
    np.testing.assert_array_equal(function_errors.flushed(subnormal), out[1:3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_bits_on_every_fused_instruction_set(name, dtype):
    # all exponents; numbers of middling size; a length that fills no vector
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2 ** np.finfo(dtype).bits, 50_001, np.uint64).astype(f"u{np.dtype(dtype).itemsize}")
    z = np.concatenate([bits.view(dtype), draw.uniform(-100, 100, 20_000).astype(dtype)])
    z = np.concatenate([z, draw.standard_normal(20_000).astype(dtype), np.array(ENDS["identity"], dtype)])
    results = []
    for isa in FUSED:
        with config_context(isa=isa):
            parts = [c.evaluate(name, z)] + ([c.evaluate(name, z, slope=True)] if name != "log" else [])
        out = np.concatenate(parts)
        # the sign and payload of a NaN are excepted from the promise
        out[np.isnan(out)] = np.nan
        results.append(out.tobytes())
    assert len(set(results)) <= 1


@pytest.mark.parametrize("isa", ISAS)
def test_large_arguments_of_the_cosine(isa):
    # 6381956970095103 * 2**797 lies nearer to an odd multiple of pi / 2 than any other double but those of its size
    draw = np.random.default_rng(0)
    z = np.concatenate([[math.ldexp(6381956970095103, 797), 1.6e6, 1.7e6], np.exp2(draw.uniform(20, 1023.9, 300))])
    z = np.concatenate([z, -z, np.round(z[:100] / math.pi) * math.pi / 2])
    with config_context(isa=isa):
        found, slope = c.evaluate("cosine", z), c.evaluate("cosine", z, slope=True)
    with mpmath.workdps(400):
        for number, value, by_number in zip(z.tolist(), found.tolist(), slope.tolist(), strict=True):
            for result, exact in ((value, mpmath.cos(number)), (by_number, -mpmath.sin(number))):
                assert abs(float((mpmath.mpf(result) - exact) / exact)) <= 2.0**-52, number
