"""The cosine in exported sources, of arguments of any size: the engine's ``csrc/cosine.inc.h`` and ``quarter_turns.h``.

See `pymlp.export.c_functions` for the names in the text.
"""

from __future__ import annotations

from pymlp.export.c_tables import polynomial_function

COSINE_FUNCTIONS: dict[str, str] = {
    "sine_table": polynomial_function("sine_table", "(sin(s) - s) / s**3 by x = s**2, for 0 <= s <= pi / 4"),
    "cosine_table": polynomial_function(
        "cosine_table", "(cos(s) - 1 + s**2 / 2) / s**4 by x = s**2, for 0 <= s <= pi / 4"
    ),
    "quarter_turns": """\
/* 2 / pi after 64 zeros, 32 binary digits a number */
static const uint32_t ${p}two_over_pi[] = {
$two_over_pi
};

/* x = turns pi / 2 + r + rest, |r| <= pi / 4; turns modulo 2**32 */
typedef struct { double r, rest; uint32_t turns; } ${p}turned;

static double ${p}double_of(uint64_t bits)
{
    union { double number; uint64_t bits; } word;
    word.bits = bits;
    return word.number;
}

static uint64_t ${p}bits_of_double(double x)
{
    union { double number; uint64_t bits; } word;
    word.number = x;
    return word.bits;
}

static uint64_t ${p}high_half(uint64_t a, uint64_t b)
{
    const uint64_t mask = 0xffffffffu, low = (a & mask) * (b & mask);
    const uint64_t first = (a >> 32) * (b & mask) + (low >> 32), second = (a & mask) * (b >> 32) + (first & mask);
    return (a >> 32) * (b >> 32) + (first >> 32) + (second >> 32);
}

/* For |x| >= 2**-10: the product with 2 / pi is taken in whole numbers, of those digits of 2 / pi alone that make a
 * difference modulo 4 (Payne and Hanek, "Radian reduction for trigonometric functions", 1983). */
static ${p}turned ${p}quarter_turns(double x)
{
    const uint64_t bits = ${p}bits_of_double(x);
    const int exponent = (int)(bits >> 52 & 2047) - 1075;
    const uint64_t mantissa = (bits & 0x000fffffffffffffu) | 0x0010000000000000u;
    /* higher digits give whole turns; the table begins 64 digits before the point */
    const int start = exponent - 2 + 64;
    uint32_t digits[6], product[6];
    uint64_t words[3], angle;
    double scale;
    int i, j, back, zeros = 0, shift = 0;
    ${p}turned to;
    to.rest = 0;
    to.turns = 0;
    if (exponent == 2047 - 1075) {
        /* an infinity becomes NaN, which stays one */
        to.r = x - x;
        return to;
    }
    for (i = 0; i < 6; i++) {
        const uint32_t *word = ${p}two_over_pi + start / 32 + 5 - i;
        digits[i] = (uint32_t)((((uint64_t)word[0] << 32 | word[1]) << start % 32) >> 32);
        product[i] = 0;
    }
    for (j = 0; j < 2; j++) {
        const uint64_t factor = mantissa >> 32 * j & 0xffffffffu;
        uint64_t carry = 0;
        for (i = 0; i + j < 6; i++) {
            const uint64_t sum = factor * digits[i] + product[i + j] + carry;
            product[i + j] = (uint32_t)sum;
            carry = sum >> 32;
        }
    }
    to.turns = product[5] >> 30;
    for (i = 0; i < 3; i++)
        words[i] = (uint64_t)product[2 * i + 1] << 32 | product[2 * i];
    words[2] = words[2] << 2 | words[1] >> 62;
    words[1] = words[1] << 2 | words[0] >> 62;
    words[0] = words[0] << 2;
    /* more than half a quarter turn counts from the next one back */
    back = (int)(words[2] >> 63);
    to.turns += (uint32_t)back;
    if (back) {
        words[0] = 0 - words[0];
        words[1] = ~words[1] + (words[0] == 0);
        words[2] = ~words[2] + (words[0] == 0 && words[1] == 0);
    }
    while (words[2] == 0 && zeros < 128) {
        words[2] = words[1];
        words[1] = words[0];
        words[0] = 0;
        zeros += 64;
    }
    while (words[2] != 0 && words[2] >> 63 == 0) {
        words[2] = words[2] << 1 | words[1] >> 63;
        words[1] <<= 1;
        shift++;
    }
    /* pi / 2 as a multiple of 2**-63 */
    angle = ${p}high_half(words[2], 0xc90fdaa22168c235u);
    scale = ${p}double_of((uint64_t)(1023 - 63 - zeros - shift) << 52);
    if (back != (int)(bits >> 63))
        scale = -scale;
    to.r = (double)(angle & ~(uint64_t)2047) * scale;
    to.rest = (double)(angle & 2047) * scale;
    to.turns = bits >> 63 ? 0 - to.turns : to.turns;
    return to;
}""",
    "turned_cosine": """\
/* cos(turns pi / 2 + r + rest) */
static inline $real ${p}turned_cosine($bits turns, $real r, $real rest)
{
    const $real square = r * r;
    const $real sine = r + (r * square * ${p}sine_table(square) + rest);
    const $real down = 0.5$f * square, head = 1 - down;
    const $real tail = square * square * ${p}cosine_table(square) + -r * rest;
    const $real cosine = head + (((1 - head) - down) + tail);
    /* below 0 in the second and third quarter */
    const $bits sign = ((turns + 1) >> 1 & 1) << $sign_bit;
    return ${p}number_of(${p}bits_of(${p}select((int)(turns & 1), sine, cosine)) ^ sign);
}""",
    "cosine": """\
/* cos(x) for |x| up to $near_angle: the first two parts of pi / 2 are so short that nothing is rounded */
static inline $real ${p}near_cosine($real x)
{
    const $real shifted = x * $two_over_pi_number + $rounder;
    const $real n = shifted - $rounder;
    const $real exact = (x - n * $half_pi_1) - n * $half_pi_2, third = n * $half_pi_3;
    const $real difference = exact - third, part = difference - exact;
    const $real low = ((exact - (difference - part)) - (third + part)) - n * $half_pi_4;
    const $real r = difference + low;
    return ${p}turned_cosine(${p}bits_of(shifted), r, (difference - r) + low);
}

static $real ${p}cosine($real x)
{
    ${p}turned to;
    $real r;
    if (!(${p}absolute(x) > $near_angle))
        return ${p}near_cosine(x);
    to = ${p}quarter_turns((double)x);
    r = ($real)to.r;
    return ${p}turned_cosine(to.turns, r, ($real)((to.r - (double)r) + to.rest));
}""",
}  # fmt: skip
