/* vector.inc.h: vectors of REAL, and exp, log and what is built on them, for all lanes at once.
 *
 * One sequence of operations for all instruction sets: every fused operation is written FMA, every other * and + rounds
 * by itself, so the bits are the same wherever FMA fuses.  Selections are masks: both sides are computed.  Where a result
 * would gather more than two roundings, intermediate ones carry along what their rounding left (`low`, `rest`, `tail`),
 * which a last fused operation adds.  Measured errors: README.md, section Functions.
 */

#define LANES ((int)(VECTOR_BYTES / sizeof(REAL)))
#define VECTOR NAME(vector)
#define INTEGERS NAME(integers)
#define UNSIGNEDS NAME(unsigneds)

typedef REAL VECTOR __attribute__((vector_size(VECTOR_BYTES)));
typedef INTEGER INTEGERS __attribute__((vector_size(VECTOR_BYTES)));
typedef UNSIGNED UNSIGNEDS __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL NAME(loose_vector) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

#define MANTISSA_BITS BY_TYPE(23, 52)
#define EXPONENT_BIAS BY_TYPE(127, 1023)
/* 1.5 * 2**MANTISSA_BITS: adding it rounds to an integer and leaves that integer in the low bits */
#define ROUNDER BY_TYPE(12582912.0f, 6755399441055744.0)
#define INFINITY_ BY_TYPE(__builtin_inff(), __builtin_inf())
#define NOT_A_NUMBER BY_TYPE(__builtin_nanf(""), __builtin_nan(""))
#define REAL_EPSILON BY_TYPE(1.1920928955078125e-07f, 2.220446049250313e-16)

ALWAYS_INLINE VECTOR NAME(splat)(REAL x) { return x - (VECTOR){0}; }
ALWAYS_INLINE VECTOR NAME(load)(const REAL *from) { return *(const NAME(loose_vector) *)from; }
ALWAYS_INLINE void NAME(store)(REAL *to, VECTOR x) { *(NAME(loose_vector) *)to = x; }

ALWAYS_INLINE VECTOR NAME(select)(INTEGERS mask, VECTOR yes, VECTOR no) {
    return (VECTOR)((mask & (INTEGERS)yes) | (~mask & (INTEGERS)no));
}

ALWAYS_INLINE VECTOR NAME(absolute)(VECTOR x) {
    return (VECTOR)((UNSIGNEDS)x & (((UNSIGNED)1 << (8 * sizeof(REAL) - 1)) - 1 + (UNSIGNEDS){0}));
}

ALWAYS_INLINE VECTOR NAME(with_sign)(VECTOR x, VECTOR sign) {
    UNSIGNEDS bit = ((UNSIGNED)1 << (8 * sizeof(REAL) - 1)) + (UNSIGNEDS){0};
    return (VECTOR)(((UNSIGNEDS)x & ~bit) | ((UNSIGNEDS)sign & bit));
}

/* the second argument is kept where the first is a NaN's turn to lose: both keep a NaN in x */
ALWAYS_INLINE VECTOR NAME(at_most)(VECTOR x, REAL bound) {
    VECTOR limit = NAME(splat)(bound);
    return NAME(select)(x > limit, limit, x);
}

ALWAYS_INLINE VECTOR NAME(at_least)(VECTOR x, REAL bound) {
    VECTOR limit = NAME(splat)(bound);
    return NAME(select)(x < limit, limit, x);
}

/* One chain; a long polynomial's high powers are two, the odd and the even ones, which a core runs side by side. */
ALWAYS_INLINE VECTOR NAME(polynomial)(VECTOR x, const REAL *coefficients, int count) {
    VECTOR sum = NAME(splat)(coefficients[count - 1]);
    int i = count - 2;
    if (count > 12) {
        VECTOR square = x * x, other = NAME(splat)(coefficients[i--]);
        for (; i > 3; i -= 2) {
            sum = FMA(sum, square, NAME(splat)(coefficients[i]));
            other = FMA(other, square, NAME(splat)(coefficients[i - 1]));
        }
        sum = FMA(sum, x, other);
    }
    for (; i >= 0; i--) sum = FMA(sum, x, NAME(splat)(coefficients[i]));
    return sum;
}
#define POLYNOMIAL(x, table) NAME(polynomial)(x, table, (int)(sizeof(table) / sizeof(*table)))

/* 2**n for integral n in [-EXPONENT_BIAS, EXPONENT_BIAS] (0 at the lower end) */
ALWAYS_INLINE VECTOR NAME(two_to)(VECTOR n) {
    VECTOR rounded = n + NAME(splat)(ROUNDER + EXPONENT_BIAS);
    return (VECTOR)((UNSIGNEDS)rounded << MANTISSA_BITS);
}

/* High part of ln(2), with trailing zeros so that n times it is exact, and the rest. */
#define LN2_HIGH BY_TYPE(0.693359375f, 0.6931471803691238)
#define LN2_LOW BY_TYPE(-0.00021219444005469057f, 1.9082149292705877e-10)
#define EXP_TABLE BY_TYPE(exp_table_f32, exp_table_f64)

/* x = n ln(2) + r + rest with |r| <= ln(2) / 2; returns r and stores n.  |x| must be below about 1000. */
ALWAYS_INLINE VECTOR NAME(reduce)(VECTOR x, VECTOR *n, VECTOR *rest) {
    const VECTOR rounder = NAME(splat)(ROUNDER), low = NAME(splat)(-LN2_LOW);
    *n = FMA(x, NAME(splat)(BY_TYPE(1.4426950408889634f, 1.4426950408889634)), rounder) - rounder;
    VECTOR high = FMA(*n, NAME(splat)(-LN2_HIGH), x), r = FMA(*n, low, high);
    *rest = FMA(*n, low, high - r);
    return r;
}

/* exp(x) for x from -88.3 to 88 (f64: -709.4 to 709); results below the smallest normal number are 0, and so is that at
 * the lower end */
ALWAYS_INLINE VECTOR NAME(bounded_exp)(VECTOR x) {
    VECTOR n, rest, r = NAME(reduce)(x, &n, &rest), p = FMA(r * r, POLYNOMIAL(r, EXP_TABLE), r);
    return (NAME(splat)(1) + p) * NAME(two_to)(n);
}

/* exp(x); results below the smallest normal number are 0 */
ALWAYS_INLINE VECTOR NAME(vector_exp)(VECTOR x) {
    const REAL lowest = BY_TYPE(-88.0f, -709.0), highest = BY_TYPE(88.72283172607422f, 709.782712893384);
    VECTOR n, rest, r = NAME(reduce)(NAME(at_least)(NAME(at_most)(x, highest), lowest), &n, &rest);
    VECTOR p = FMA(r * r, POLYNOMIAL(r, EXP_TABLE), r);
    /* 2**(bias + 1) is no number: take a factor of 2 out of it */
    INTEGERS over = n > NAME(splat)(EXPONENT_BIAS);
    VECTOR y = (NAME(splat)(1) + p) * NAME(two_to)(NAME(select)(over, n - NAME(splat)(1), n));
    y = NAME(select)(over, y + y, y);
    return NAME(select)(x > NAME(splat)(highest), NAME(splat)(INFINITY_), y);
}

/* exp(x) = 2**n (head + tail), 0.65 <= head <= 1.35, |tail| < 0.08: both together are good to a tenth of a unit in the
 * last place.  |x| must be below about 1000. */
ALWAYS_INLINE VECTOR NAME(split_exp)(VECTOR x, VECTOR *n, VECTOR *tail) {
    const VECTOR one = NAME(splat)(1);
    VECTOR rest, r = NAME(reduce)(x, n, &rest), head = one + r;
    *tail = FMA(r * r, POLYNOMIAL(r, EXP_TABLE), (r - (head - one)) + rest);
    return head;
}

/* (high + low) / (d + d_low), given inverse = 1 / d: rounded once, but for the low parts' own errors.  low may reach some
 * hundredths of high: it need not be what a rounding left. */
ALWAYS_INLINE VECTOR NAME(quotient)(VECTOR high, VECTOR low, VECTOR d, VECTOR d_low, VECTOR inverse) {
    VECTOR q = high * inverse, rest = FMA(-q, d_low, FMA(-q, d, high) + low);
    return FMA(rest, inverse, q);
}

/* exp(x) - 1 for x <= 0, with full relative accuracy at small x; *low becomes what rounding left. */
ALWAYS_INLINE VECTOR NAME(expm1_negative)(VECTOR x, VECTOR *low) {
    VECTOR n, rest, r = NAME(reduce)(NAME(at_least)(x, BY_TYPE(-80.0f, -700.0)), &n, &rest);
    VECTOR square = r * r, q = POLYNOMIAL(r, EXP_TABLE), p = FMA(square, q, r), p_low = FMA(square, q, r - p) + rest;
    VECTOR scale = NAME(two_to)(n), without_p = scale - NAME(splat)(1), y = FMA(scale, p, without_p);
    *low = FMA(scale, p_low, FMA(scale, p, without_p - y));
    return y;
}

/* log(x); subnormal numbers count as 0 */
ALWAYS_INLINE VECTOR NAME(vector_log)(VECTOR x) {
    /* bits of sqrt(1/2): mantissas are taken from [sqrt(1/2), sqrt(2)) */
    const UNSIGNED root = BY_TYPE(0x3f3504f3u, 0x3fe6a09e667f3bcdu), one = BY_TYPE(0x3f800000u, 0x3ff0000000000000u);
    const UNSIGNED mask = ((UNSIGNED)1 << MANTISSA_BITS) - 1;
    /* 2**MANTISSA_BITS: its low bits read as an integer are added to it, which converts without a conversion */
    const REAL reader = BY_TYPE(8388608.0f, 4503599627370496.0);
    UNSIGNEDS shifted = (UNSIGNEDS)x + (one - root);
    UNSIGNEDS exponent = (shifted >> MANTISSA_BITS) | (UNSIGNEDS)NAME(splat)(reader);
    VECTOR e = (VECTOR)exponent - NAME(splat)(reader + EXPONENT_BIAS);
    VECTOR f = (VECTOR)((shifted & mask) + root) - NAME(splat)(1);
    VECTOR s = f / (NAME(splat)(2) + f), z = s * s, half = NAME(splat)(0.5f) * f * f;
    VECTOR rest = z * POLYNOMIAL(z, BY_TYPE(log_table_f32, log_table_f64));
    /* log(1 + f) = f - (half - s (half + rest)) */
    VECTOR low = FMA(e, NAME(splat)(LN2_LOW), s * (half + rest));
    VECTOR y = FMA(e, NAME(splat)(LN2_HIGH), f - (half - low));
    y = NAME(select)(x == NAME(splat)(INFINITY_), x, y);
    y = NAME(select)(x == NAME(splat)(0), NAME(splat)(-INFINITY_), y);
    return NAME(select)(x >= NAME(splat)(0), y, NAME(splat)(NOT_A_NUMBER));
}

ALWAYS_INLINE VECTOR NAME(vector_tanh)(VECTOR z) {
    const VECTOR two = NAME(splat)(2);
    VECTOR low, m = NAME(expm1_negative)(-two * NAME(absolute)(z), &low);
    VECTOR d = two + m, d_low = (m - (d - two)) + low;
    return NAME(with_sign)(NAME(quotient)(m, low, d, d_low, NAME(splat)(1) / d), z);
}

/* Where results z exp(-z) and the like reach down to the smallest normal number, exp(-z) is below it: its scale is kept
 * SPARE powers of two too large until all else is multiplied. */
enum { NAME(SPARE) = 64 };
#define SPARE_SCALE BY_TYPE(0x1p-64f, 0x1p-64)

/* max(z, 0) + 2**-SPARE scaled, of a function that is `slope` z around 0.  There the two terms lie so close together that
 * the sum would miss a second term which is too small to be a number. */
ALWAYS_INLINE VECTOR NAME(join_sides)(VECTOR z, VECTOR scaled, REAL slope) {
    VECTOR y = NAME(at_least)(z, 0) + scaled * NAME(splat)(SPARE_SCALE);
    INTEGERS tiny = NAME(absolute)(z) < NAME(splat)(BY_TYPE(0x1p-90f, 0x1p-90));
    return NAME(select)(tiny, NAME(splat)(slope) * z, y);
}

/* What logistic, softplus, silu and mish begin with: x = -|z|, bounded, and exp(x) = 2**-SPARE scale (head + tail),
 * which rounded is e. */
struct NAME(left_exp) {
    VECTOR x, head, tail, scale, e;
};

ALWAYS_INLINE struct NAME(left_exp) NAME(left_exp_of)(VECTOR z) {
    struct NAME(left_exp) left;
    VECTOR n;
    left.x = NAME(at_least)(-NAME(absolute)(z), BY_TYPE(-110.0f, -730.0));
    left.head = NAME(split_exp)(left.x, &n, &left.tail);
    left.scale = NAME(two_to)(n + NAME(splat)(NAME(SPARE)));
    left.e = (left.head + left.tail) * left.scale * NAME(splat)(SPARE_SCALE);
    return left;
}

/* 1 / (1 + exp(-z)) is exp(x) / (1 + exp(x)) on the left and 1 / (1 + exp(x)) on the right */
ALWAYS_INLINE VECTOR NAME(vector_logistic)(VECTOR z) {
    const VECTOR one = NAME(splat)(1), zero = NAME(splat)(0);
    struct NAME(left_exp) left = NAME(left_exp_of)(z);
    INTEGERS negative = z < zero;
    VECTOR d = one + left.e, d_low = left.e - (d - one);
    VECTOR q = NAME(quotient)(NAME(select)(negative, left.head, one), NAME(select)(negative, left.tail, zero), d, d_low,
                              one / d);
    return NAME(select)(negative, q * left.scale * NAME(splat)(SPARE_SCALE), q);
}

/* log(1 + exp(z)) = max(z, 0) + log(1 + e) with e = exp(-|z|) */
ALWAYS_INLINE VECTOR NAME(vector_softplus)(VECTOR z) {
    const VECTOR one = NAME(splat)(1), half = NAME(splat)(0.5f);
    struct NAME(left_exp) left = NAME(left_exp_of)(z);
    VECTOR e = left.e, s = e / (NAME(splat)(2) + e), square = s * s;
    VECTOR p = POLYNOMIAL(square, BY_TYPE(log1p_table_f32, log1p_table_f64));
    /* log(1 + e) = e - e**2 / 2 + s (e**2 / 2 + ...), and what rounding left of e counts by about 1 - e / 2 */
    VECTOR rest = FMA(square, p, half * e * e);
    VECTOR e_low = (left.tail - ((left.head + left.tail) - left.head)) * left.scale * NAME(splat)(SPARE_SCALE);
    VECTOR low = FMA(s, rest, e_low * FMA(-half, e, one));
    return NAME(at_least)(z, 0) + (FMA(-half * e, e, e) + low);
}

/* silu(z) = z logistic(z) = max(z, 0) + silu(-|z|) */
ALWAYS_INLINE VECTOR NAME(vector_silu)(VECTOR z) {
    const VECTOR one = NAME(splat)(1);
    struct NAME(left_exp) left = NAME(left_exp_of)(z);
    VECTOR d = one + left.e, d_low = left.e - (d - one);
    VECTOR high = left.x * left.head, low = FMA(left.x, left.tail, FMA(left.x, left.head, -high));
    return NAME(join_sides)(z, NAME(quotient)(high, low, d, d_low, one / d) * left.scale, BY_TYPE(0.5f, 0.5));
}

/* mish(z) = z tanh(log(1 + exp(z))).  With e = exp(-|z|) it is
 *   z e (2 + e) / (2 + 2 e + e**2)           on the left
 *   z - z e (2 e) / (1 + 2 e + 2 e**2)       on the right */
ALWAYS_INLINE VECTOR NAME(vector_mish)(VECTOR z) {
    const VECTOR one = NAME(splat)(1), two = NAME(splat)(2), zero = NAME(splat)(0);
    struct NAME(left_exp) left = NAME(left_exp_of)(z);
    INTEGERS negative = z < zero;
    VECTOR e = left.e, double_e = e + e, factor = NAME(select)(negative, e, double_e);
    VECTOR a = NAME(select)(negative, two, zero), b = NAME(select)(negative, two, one);
    VECTOR k = a + factor, k_low = factor - (k - a);
    VECTOR linear = b + double_e, d = FMA(factor, e, linear);
    VECTOR d_low = FMA(factor, e, linear - d) + (double_e - (linear - b));
    VECTOR product = left.x * left.head, product_low = FMA(left.x, left.tail, FMA(left.x, left.head, -product));
    VECTOR high = product * k, low = FMA(product, k_low, FMA(product_low, k, FMA(product, k, -high)));
    return NAME(join_sides)(z, NAME(quotient)(high, low, d, d_low, one / d) * left.scale, BY_TYPE(0.6f, 0.6));
}

/* gelu(z) = z Phi(z) = max(z, 0) + gelu(-|z|), where Phi is the distribution function of the standard normal:
 *   Phi(-x) = exp(-x**2 / 2) P(s) / (1 + NORMAL_FACTOR x),  s = 1 / (1 + NORMAL_POLE x),  x >= 0
 * The polynomial's values lie between 0.34 and 0.5, so that it passes on little of the error of s. */
ALWAYS_INLINE VECTOR NAME(vector_gelu)(VECTOR z) {
    const VECTOR one = NAME(splat)(1), half = NAME(splat)(0.5f), factor = NAME(splat)(NORMAL_FACTOR);
    VECTOR x = NAME(at_most)(NAME(absolute)(z), NORMAL_END), square = x * x;
    VECTOR n, tail, head = NAME(split_exp)(-half * square, &n, &tail);
    /* the square's rounding error matters where the exponent is large */
    tail = FMA(-half * FMA(x, x, -square), head + tail, tail);
    VECTOR d = FMA(factor, x, one), d_low = FMA(factor, x, one - d), s = one / FMA(NAME(splat)(NORMAL_POLE), x, one);
    VECTOR p = POLYNOMIAL(s - NAME(splat)(NORMAL_MIDDLE), BY_TYPE(normal_table_f32, normal_table_f64));
    VECTOR product = -x * p, product_low = FMA(-x, p, -product);
    VECTOR high = product * head, low = FMA(product, tail, FMA(product, head, -high)) + product_low * head;
    VECTOR scale = NAME(two_to)(n + NAME(splat)(NAME(SPARE)));
    return NAME(join_sides)(z, NAME(quotient)(high, low, d, d_low, one / d) * scale, BY_TYPE(0.5f, 0.5));
}

/* One round of a transposition: rows `distance` apart exchange every second run of `distance` lanes. */
ALWAYS_INLINE void NAME(exchange_lanes)(VECTOR *rows, const int distance) {
    UNSIGNEDS low = {0}, high = {0};
#pragma GCC unroll 16
    for (int lane = 0; lane < LANES; lane++) {
        low[lane] = (UNSIGNED)(lane & distance ? LANES + lane - distance : lane);
        high[lane] = (UNSIGNED)(lane & distance ? LANES + lane : lane + distance);
    }
#pragma GCC unroll 16
    for (int row = 0; row < LANES; row++) {
        if (row & distance) continue;
        VECTOR a = rows[row], b = rows[row + distance];
#if defined(__clang__)
        VECTOR c, d;
        for (int lane = 0; lane < LANES; lane++) {
            c[lane] = low[lane] < LANES ? a[low[lane]] : b[low[lane] - LANES];
            d[lane] = high[lane] < LANES ? a[high[lane]] : b[high[lane] - LANES];
        }
        rows[row] = c;
        rows[row + distance] = d;
#else
        rows[row] = __builtin_shuffle(a, b, (INTEGERS)low);
        rows[row + distance] = __builtin_shuffle(a, b, (INTEGERS)high);
#endif
    }
}

/* LANES rows of LANES numbers become columns.  The rounds stand one by one so that their masks are constants. */
ALWAYS_INLINE void NAME(transpose_square)(VECTOR *rows) {
    if (LANES > 1) NAME(exchange_lanes)(rows, 1);
    if (LANES > 2) NAME(exchange_lanes)(rows, 2);
    if (LANES > 4) NAME(exchange_lanes)(rows, 4);
    if (LANES > 8) NAME(exchange_lanes)(rows, 8);
}
