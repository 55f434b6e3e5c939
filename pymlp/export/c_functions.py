"""The functions of one number in exported sources: activations, and the exponential, sine and root they are made of.

They are the engine's (``csrc/vector.inc.h``, ``cosine.inc.h``, ``functions.inc.h``) for one number at a time, in the
order of operations of its portable instruction set, which has no fused multiply-add: so results are the same to the
bit, but for numbers below the smallest normal one, which the engine takes for 0 throughout and these when they come
out.  Terms that only a fused operation would make other than 0 are left out.  There is no branch in them, so that a
compiler can work on a vector of numbers at a time.

In the text ``$p`` stands for the prefix of all names in the file, ``$real`` for the type of its numbers, ``$bits`` for
that of whole numbers as long, ``$f`` for the suffix of constants; other names are in `constants`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from string import Template

from pymlp.export.c_cosine import COSINE_FUNCTIONS
from pymlp.export.c_tables import CONSTANTS, TABLES, TWO_OVER_PI, polynomial_function, polynomial_statements
from pymlp.export.c_text import filled, literal
from pymlp.functions import LEAKY_SLOPE, LEAST_DEVIATION, SELU_SCALE

# what a text defines: a function, a table or a type; and what it mentions
DEFINED = re.compile(
    r"^(?:static|\$\{P\}INLINE|\$\{P\}APART)[^;=(\[]*\$\{p\}(\w+)[(\[]|^(?:typedef .*|)\} \$\{p\}(\w+);", re.MULTILINE
)
MENTIONED = re.compile(r"\$\{p\}(\w+)")


def constants(prefix: str, dtype: str) -> dict[str, str]:
    """What the names in a text stand for."""
    single = dtype == "float32"

    def by_type(if_single: float, if_double: float) -> str:
        return literal(if_single if single else if_double, dtype)

    return {
        "p": prefix,
        "real": "float" if single else "double",
        "bits": "uint32_t" if single else "uint64_t",
        "f": "f" if single else "",
        "sign": "0x80000000u" if single else "0x8000000000000000u",
        "exponent": "0x7f800000u" if single else "0x7ff0000000000000u",
        "mantissa_bits": "23" if single else "52",
        "sign_bit": "31" if single else "63",
        # 1.5 times the first power of 2 above which numbers are whole
        "rounder": "12582912.0f" if single else "6755399441055744.0",
        "biased_rounder": "12583039.0f" if single else "6755399441056767.0",
        "log2_e": by_type(1.4426950408889634, 1.4426950408889634),
        "ln2_high": by_type(0.693359375, 0.6931471803691238),
        "minus_ln2_low": by_type(0.00021219444005469057, -1.9082149292705877e-10),
        "exp_lowest": by_type(-88.0, -709.0),
        "exp_highest": by_type(88.72283172607422, 709.782712893384),
        "expm1_lowest": by_type(-80.0, -700.0),
        "left_lowest": by_type(-110.0, -730.0),
        "spare": literal(64.0, dtype),
        "spare_scale": literal(2.0**-64, dtype),
        "tiny": literal(2.0**-90, dtype),
        "leaky_slope": literal(LEAKY_SLOPE, dtype),
        "selu_scale": literal(SELU_SCALE, dtype),
        "selu_product": by_type(1.7580993175506592, 1.7580993408473768),
        "selu_product_low": by_type(2.32967177e-08, 1.41535194e-17),
        "two_over_pi_number": by_type(0.6366197723675814, 0.6366197723675814),
        "near_angle": by_type(6400.0, 1.6e6),
        "mish_slope": literal(0.6, dtype),
        "least_deviation": literal(LEAST_DEVIATION, dtype),
        "root_digit": "0x01000000u" if single else "0x0020000000000000u",
        "root_exponent": "125" if single else "1021",
        "exponent_bias": "127" if single else "1023",
        "mantissa": "0x007fffffu" if single else "0x000fffffffffffffu",
        "leading_bit": "0x00800000u" if single else "0x0010000000000000u",
        **{name.lower(): by_type(*pair) for name, pair in CONSTANTS.items()},
        **{f"{name}_sum": polynomial_statements(name, dtype) for name in TABLES},
        "two_over_pi": filled([f"0x{number:08x}" for number in TWO_OVER_PI]),
    }


def in_order(names: Iterable[str], functions: Mapping[str, str]) -> list[str]:
    """These functions and all that they mention, each once and after what it mentions."""
    definers = {
        defined: name
        for name, text in functions.items()
        for found in DEFINED.findall(text)
        for defined in found
        if defined
    }
    found: dict[str, None] = {}

    def take(name: str) -> None:
        for mentioned in MENTIONED.findall(functions[name]):
            if definers[mentioned] != name:
                take(definers[mentioned])
        found.setdefault(name)

    for name in names:
        take(name)
    return list(found)


def expanded(text: str, values: dict[str, str]) -> str:
    """The text with its names replaced; a name that is not known is an error."""
    return Template(text).substitute(values)


FUNCTIONS: dict[str, str] = {
    # the parts that others are made of
    "word": """\
/* a number and its bits */
typedef union { $real number; $bits bits; } ${p}word;

static inline $bits ${p}bits_of($real x)
{
    ${p}word word;
    word.number = x;
    return word.bits;
}

static inline $real ${p}number_of($bits bits)
{
    ${p}word word;
    word.bits = bits;
    return word.number;
}""",
    "select": """\
/* yes ? a : b, without a branch, so that loops become vectors: a compiler would branch to what is known to come of a */
static inline $real ${p}select(int yes, $real a, $real b)
{
    const $bits mask = 0 - ($bits)(yes != 0);
    return ${p}number_of((mask & ${p}bits_of(a)) | (~mask & ${p}bits_of(b)));
}""",
    "absolute": """\
static inline $real ${p}absolute($real x) { return ${p}number_of(${p}bits_of(x) & ~$sign); }""",
    "flushed": """\
/* x, or 0 where x is below the smallest normal number: such numbers are slow on many machines, and of no weight */
static inline $real ${p}flushed($real x)
{
    const $bits bits = ${p}bits_of(x);
    const $bits kept = 0 - ($bits)((bits & $exponent) != 0);
    return ${p}number_of(bits & (kept | $sign));
}""",
    "two_to": """\
/* 2**n for whole n from -$exponent_bias, where it is 0, to $exponent_bias: n is put into the exponent's bits */
static inline $real ${p}two_to($real n)
{
    return ${p}number_of(${p}bits_of(n + $biased_rounder) << $mantissa_bits);
}""",
    "exp_table": polynomial_function("exp_table", "(exp(x) - 1 - x) / x**2 for |x| <= log(2) / 2"),
    "log1p_table": polynomial_function(
        "log1p_table", "(log((1 + s) / (1 - s)) - 2 s) / s**3 by x = s**2, for 0 <= s <= 1/3"
    ),
    "normal_table": polynomial_function(
        "normal_table", "the factor of gelu that is 1/2 or a little less, by x = s - $normal_middle"
    ),
    "reduced": """\
/* x = n log(2) + r + rest, |r| <= log(2) / 2 */
typedef struct { $real n, r, rest; } ${p}reduced;

static inline ${p}reduced ${p}reduce($real x)
{
    ${p}reduced to;
    /* adding a number so large leaves no places after the point */
    const $real shifted = x * $log2_e + $rounder;
    const $real n = shifted - $rounder;
    /* n times the leading digits of log(2) is exact */
    const $real high = n * -$ln2_high + x;
    to.n = n;
    to.r = n * $minus_ln2_low + high;
    to.rest = n * $minus_ln2_low + (high - to.r);
    return to;
}""",
    "exp": """\
static inline $real ${p}exp($real x)
{
    const $real below = ${p}select(x > $exp_highest, $exp_highest, x);
    const ${p}reduced to = ${p}reduce(${p}select(below < $exp_lowest, $exp_lowest, below));
    const $real power = to.r * to.r * ${p}exp_table(to.r) + to.r;
    /* 2**(largest exponent + 1) is no number: a factor of 2 is taken out of it */
    const int over = to.n > $exponent_bias;
    const $real n = ${p}select(over, to.n - 1, to.n);
    const $real y = (1 + power) * ${p}two_to(n);
    const $real whole = ${p}flushed(${p}select(over, y + y, y));
    return ${p}select(x > $exp_highest, ${p}number_of($exponent), whole);
}""",
    "split_exp": """\
/* exp(x) = 2**n (head + tail), head near 1 and tail small */
typedef struct { $real n, head, tail; } ${p}split;

static inline ${p}split ${p}split_exp($real x)
{
    const ${p}reduced to = ${p}reduce(x);
    ${p}split y;
    y.n = to.n;
    y.head = 1 + to.r;
    y.tail = to.r * to.r * ${p}exp_table(to.r) + ((to.r - (y.head - 1)) + to.rest);
    return y;
}""",
    "quotient": """\
/* (high + low) / (d + d_low), given inverse = 1 / d: the quotient is corrected once by what is left */
static inline $real ${p}quotient($real high, $real low, $real d, $real d_low, $real inverse)
{
    const $real q = high * inverse;
    const $real rest = -q * d_low + ((-q * d + high) + low);
    return rest * inverse + q;
}""",
    "expm1_negative": """\
/* exp(x) - 1 for x <= 0, and what rounding left of it */
typedef struct { $real y, low; } ${p}expm1;

static inline ${p}expm1 ${p}expm1_negative($real x)
{
    const ${p}reduced to = ${p}reduce(${p}select(x < $expm1_lowest, $expm1_lowest, x));
    const $real square = to.r * to.r, q = ${p}exp_table(to.r);
    const $real p = square * q + to.r, p_low = (square * q + (to.r - p)) + to.rest;
    const $real scale = ${p}two_to(to.n), without_p = scale - 1;
    ${p}expm1 found;
    found.y = scale * p + without_p;
    found.low = scale * p_low + (scale * p + (without_p - found.y));
    return found;
}""",
    "left_exp": """\
/* x = -|z|, and exp(x) = 2**-64 scale (head + tail), which rounded is e: the scale is so large that products with it,
 * which come last, need not be 0 where exp(x) would be */
typedef struct { $real x, head, tail, scale, e; } ${p}left;

static inline ${p}left ${p}left_exp($real z)
{
    const $real down = -${p}absolute(z);
    ${p}left left;
    ${p}split y;
    left.x = ${p}select(down < $left_lowest, $left_lowest, down);
    y = ${p}split_exp(left.x);
    left.head = y.head;
    left.tail = y.tail;
    left.scale = ${p}two_to(y.n + $spare);
    left.e = (y.head + y.tail) * left.scale * $spare_scale;
    return left;
}""",
    "join_sides": """\
/* max(z, 0) + 2**-64 scaled, of a function that is slope z next to 0 */
static inline $real ${p}join_sides($real z, $real scaled, $real slope)
{
    const $real y = ${p}select(z < 0, 0, z) + scaled * $spare_scale;
    return ${p}flushed(${p}select(${p}absolute(z) < $tiny, slope * z, y));
}""",
    "sqrt": """\
/* The root of a positive number, rounded to nearest: digit by digit, in whole numbers. */
static $real ${p}sqrt($real x)
{
    const $bits bits = ${p}bits_of(x), exponent = bits >> $mantissa_bits, odd = (exponent + 1) & 1;
    $bits rest = ((bits & $mantissa) | $leading_bit) << (odd + 1), root = 0, twice = 0, digit;
    if ((bits & $exponent) == $exponent)
        return x;
    for (digit = $root_digit; digit != 0; digit >>= 1) {
        if (twice + digit <= rest) {
            rest -= twice + digit;
            twice += digit + digit;
            root += digit;
        }
        rest <<= 1;
    }
    /* there is one digit more than x has; no root lies half way between two numbers */
    if (rest != 0)
        root += root & 1;
    return ${p}number_of((root >> 1) + ((exponent + $root_exponent - odd) / 2 << $mantissa_bits));
}""",
    # the activations
    "logistic": """\
/* 1 / (1 + exp(-z)) */
static inline $real ${p}logistic($real z)
{
    const ${p}left left = ${p}left_exp(z);
    const int negative = z < 0;
    const $real d = 1 + left.e, d_low = left.e - (d - 1);
    const $real q = ${p}quotient(${p}select(negative, left.head, 1), ${p}select(negative, left.tail, 0), d,
        d_low, 1 / d);
    const $real scaled = q * left.scale * $spare_scale;
    return ${p}flushed(${p}select(negative, scaled, q));
}""",
    "tanh": """\
static inline $real ${p}tanh($real z)
{
    const ${p}expm1 m = ${p}expm1_negative(-2 * ${p}absolute(z));
    const $real d = 2 + m.y, d_low = (m.y - (d - 2)) + m.low;
    const $real size = ${p}quotient(m.y, m.low, d, d_low, 1 / d);
    return ${p}number_of((${p}bits_of(size) & ~$sign) | (${p}bits_of(z) & $sign));
}""",
    "relu": """\
static inline $real ${p}relu($real z) { return z <= 0 ? 0 : z; }""",
    "leaky_relu": """\
static inline $real ${p}leaky_relu($real z)
{
    const $real below = $leaky_slope * z;
    return ${p}select(z > 0, z, ${p}flushed(below));
}""",
    "elu": """\
static inline $real ${p}elu($real z)
{
    const $real below = ${p}expm1_negative(${p}select(z > 0, 0, z)).y;
    return ${p}select(z < 0, below, z);
}""",
    "selu": """\
static inline $real ${p}selu($real z)
{
    const ${p}expm1 m = ${p}expm1_negative(${p}select(z > 0, 0, z));
    const $real below = $selu_product * m.y + ($selu_product_low * m.y + $selu_product * m.low);
    const $real above = $selu_scale * z;
    return ${p}select(z < 0, below, above);
}""",
    "gelu": """\
/* z Phi(z) = max(z, 0) + gelu(-|z|), Phi being the distribution function of the normal distribution, and
 * Phi(-x) = exp(-x**2 / 2) normal_table(s) / d for x >= 0, with d and s as below */
static inline $real ${p}gelu($real z)
{
    const $real size = ${p}absolute(z), x = ${p}select(size > $normal_end, $normal_end, size);
    const ${p}split bell = ${p}split_exp(-0.5$f * (x * x));
    const $real d = $normal_factor * x + 1, d_low = $normal_factor * x + (1 - d);
    const $real s = 1 / ($normal_pole * x + 1);
    const $real product = -x * ${p}normal_table(s - $normal_middle);
    const $real q = ${p}quotient(product * bell.head, product * bell.tail, d, d_low, 1 / d);
    return ${p}join_sides(z, q * ${p}two_to(bell.n + $spare), 0.5$f);
}""",
    "silu": """\
/* z logistic(z) = max(z, 0) + silu(-|z|) */
static inline $real ${p}silu($real z)
{
    const ${p}left left = ${p}left_exp(z);
    const $real d = 1 + left.e, d_low = left.e - (d - 1);
    const $real q = ${p}quotient(left.x * left.head, left.x * left.tail, d, d_low, 1 / d);
    return ${p}join_sides(z, q * left.scale, 0.5$f);
}""",
    "mish": """\
/* z tanh(log(1 + exp(z))), which is, with e = exp(-|z|),
 * z e (2 + e) / (2 + 2 e + e**2) on the left, and z - z e (2 e) / (1 + 2 e + 2 e**2) on the right */
static inline $real ${p}mish($real z)
{
    const ${p}left left = ${p}left_exp(z);
    const int negative = z < 0;
    const $real e = left.e, double_e = e + e, factor = ${p}select(negative, e, double_e);
    const $real a = ${p}select(negative, 2, 0), b = ${p}select(negative, 2, 1);
    const $real k = a + factor, k_low = factor - (k - a);
    const $real linear = b + double_e, d = factor * e + linear;
    const $real d_low = (factor * e + (linear - d)) + (double_e - (linear - b));
    const $real product = left.x * left.head, product_low = left.x * left.tail;
    const $real q = ${p}quotient(product * k, product * k_low + product_low * k, d, d_low, 1 / d);
    return ${p}join_sides(z, q * left.scale, $mish_slope);
}""",
    "softplus": """\
/* log(1 + exp(z)) = max(z, 0) + log(1 + e), e = exp(-|z|) */
static inline $real ${p}softplus($real z)
{
    const ${p}left left = ${p}left_exp(z);
    const $real e = left.e, s = e / (2 + e), square = s * s;
    /* log(1 + e) = e - e**2 / 2 + s (e**2 / 2 + ...), and what rounding left of e counts by about 1 - e / 2 */
    const $real rest = square * ${p}log1p_table(square) + 0.5$f * e * e;
    const $real e_low = (left.tail - ((left.head + left.tail) - left.head)) * left.scale * $spare_scale;
    const $real low = s * rest + e_low * (-0.5$f * e + 1);
    return ${p}flushed(${p}select(z < 0, 0, z) + ((-0.5$f * e * e + e) + low));
}""",
    "square": """\
static inline $real ${p}square($real z) { return ${p}flushed(z * z); }""",
    **COSINE_FUNCTIONS,
}  # fmt: skip
