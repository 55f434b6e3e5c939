/* quarter_turns.h: what large arguments of the cosine leave modulo a quarter turn, exactly, one number at a time.
 *
 * The product with 2 / pi is taken in whole numbers, of those binary digits of 2 / pi alone that make a difference modulo
 * 4 (Payne and Hanek, "Radian reduction for trigonometric functions", 1983).  No function of the C library is used, so the
 * bits are the same everywhere.
 */
#ifndef PYMLP_QUARTER_TURNS_H
#define PYMLP_QUARTER_TURNS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tables.h"

/* 32-bit limbs of the product that are kept: 2 bits of quarter turns, 190 of their fraction */
enum { TURN_LIMBS = 6 };

static uint64_t high_half(uint64_t a, uint64_t b) {
    const uint64_t mask = 0xffffffffu, low = (a & mask) * (b & mask);
    const uint64_t first = (a >> 32) * (b & mask) + (low >> 32), second = (a & mask) * (b >> 32) + (first & mask);
    return (a >> 32) * (b >> 32) + (first >> 32) + (second >> 32);
}

/* x = n pi / 2 + *r + *rest with |*r| <= pi / 4, good to 60 bits; returns n modulo 2**32.  |x| is at least 2**-10; infinity
 * leaves NaN. */
static uint32_t quarter_turns(double x, double *r, double *rest) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    const int exponent = (int)(bits >> 52 & 2047) - 1075;
    *rest = 0;
    if (exponent == 2047 - 1075) {
        *r = NAN;
        return 0;
    }
    const uint64_t mantissa = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1) << 52;
    /* higher digits give whole turns; the table begins 64 digits before the point */
    const int start = exponent - 2 + 64;
    uint32_t digits[TURN_LIMBS], product[TURN_LIMBS] = {0};
    for (int i = 0; i < TURN_LIMBS; i++) {
        const uint32_t *word = two_over_pi + start / 32 + TURN_LIMBS - 1 - i;
        digits[i] = (uint32_t)((((uint64_t)word[0] << 32 | word[1]) << start % 32) >> 32);
    }
    for (int j = 0; j < 2; j++) {
        const uint64_t factor = mantissa >> 32 * j & 0xffffffffu;
        uint64_t carry = 0;
        for (int i = 0; i + j < TURN_LIMBS; i++) {
            const uint64_t sum = factor * digits[i] + product[i + j] + carry;
            product[i + j] = (uint32_t)sum;
            carry = sum >> 32;
        }
    }
    uint32_t turns = product[TURN_LIMBS - 1] >> 30;
    uint64_t words[3];
    for (int i = 0; i < 3; i++) words[i] = (uint64_t)product[2 * i + 1] << 32 | product[2 * i];
    words[2] = words[2] << 2 | words[1] >> 62;
    words[1] = words[1] << 2 | words[0] >> 62;
    words[0] = words[0] << 2;
    /* more than half a quarter turn counts from the next one back */
    const int back = (int)(words[2] >> 63);
    turns += (uint32_t)back;
    if (back) {
        words[0] = -words[0];
        words[1] = ~words[1] + (words[0] == 0);
        words[2] = ~words[2] + (words[0] == 0 && words[1] == 0);
    }
    /* pi is irrational: no double is so near a multiple of pi / 2 that these digits are 0 */
    int zeros = 0;
    while (words[2] == 0 && zeros < 128) {
        words[2] = words[1];
        words[1] = words[0];
        words[0] = 0;
        zeros += 64;
    }
    int shift = 0;
    while (words[2] != 0 && words[2] >> 63 == 0) {
        words[2] = words[2] << 1 | words[1] >> 63;
        words[1] <<= 1;
        shift++;
    }
    /* pi / 2 as a multiple of 2**-63 */
    const uint64_t angle = high_half(words[2], UINT64_C(0xc90fdaa22168c235));
    const uint64_t scale_bits = (uint64_t)(1023 - 63 - zeros - shift) << 52;
    double scale;
    memcpy(&scale, &scale_bits, sizeof scale);
    const int negative = back != (int)(bits >> 63);
    if (negative) scale = -scale;
    *r = (double)(angle & ~UINT64_C(2047)) * scale;
    *rest = (double)(angle & 2047) * scale;
    return bits >> 63 ? 0u - turns : turns;
}

#endif
