/* vector.inc.h: vectors of REAL, and exp, log and what is built on them, for all lanes at once.
 *
 * One sequence of operations for all instruction sets: every fused operation is written FMA, every other * and + rounds
 * by itself, so the bits are the same wherever FMA fuses.  Selections are masks: both sides are computed.  Polynomials
 * interpolate at Chebyshev nodes; the error beside each is relative and before rounding.
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

ALWAYS_INLINE VECTOR NAME(polynomial)(VECTOR x, const REAL *coefficients, int count) {
    VECTOR sum = NAME(splat)(coefficients[count - 1]);
    for (int i = count - 2; i >= 0; i--) sum = FMA(sum, x, NAME(splat)(coefficients[i]));
    return sum;
}
#define POLYNOMIAL(x, table) NAME(polynomial)(x, table, (int)(sizeof(table) / sizeof(*table)))

/* 2**n for integral n in [-EXPONENT_BIAS, EXPONENT_BIAS] (0 at the lower end) */
ALWAYS_INLINE VECTOR NAME(two_to)(VECTOR n) {
    VECTOR rounded = n + NAME(splat)(ROUNDER + EXPONENT_BIAS);
    return (VECTOR)((UNSIGNEDS)rounded << MANTISSA_BITS);
}

/* Splits x = n ln(2) + r, |r| <= ln(2) / 2; returns exp(r) - 1 and stores n.  |x| must be below about 1000. */
ALWAYS_INLINE VECTOR NAME(reduced_exp)(VECTOR x, VECTOR *n) {
    const VECTOR rounder = NAME(splat)(ROUNDER);
    *n = FMA(x, NAME(splat)(BY_TYPE(1.4426950408889634f, 1.4426950408889634)), rounder) - rounder;
    /* the high part of ln(2) has trailing zeros, so that n times it is exact */
    VECTOR r = FMA(*n, NAME(splat)(BY_TYPE(-0.693359375f, -0.6931471803691238)), x);
    r = FMA(*n, NAME(splat)(BY_TYPE(0.00021219444005469057f, -1.9082149292705877e-10)), r);
    return FMA(r * r, POLYNOMIAL(r, BY_TYPE(exp_table_f32, exp_table_f64)), r);
}

/* exp(x); results below the smallest normal number are 0 */
ALWAYS_INLINE VECTOR NAME(vector_exp)(VECTOR x) {
    const REAL lowest = BY_TYPE(-87.33654022216797f, -708.3964185322641);
    const REAL highest = BY_TYPE(88.72283172607422f, 709.782712893384);
    VECTOR n, p = NAME(reduced_exp)(NAME(at_least)(NAME(at_most)(x, highest), lowest), &n);
    /* 2**(bias + 1) is no number: take a factor of 2 out of it */
    INTEGERS over = n > NAME(splat)(EXPONENT_BIAS);
    VECTOR scale = NAME(two_to)(NAME(select)(over, n - NAME(splat)(1), n));
    VECTOR y = FMA(scale, p, scale);
    y = NAME(select)(over, y + y, y);
    y = NAME(select)(x < NAME(splat)(lowest), NAME(splat)(0), y);
    return NAME(select)(x > NAME(splat)(highest), NAME(splat)(INFINITY_), y);
}

/* exp(x) - 1 for x <= 0, with full relative accuracy at small x */
ALWAYS_INLINE VECTOR NAME(vector_expm1_negative)(VECTOR x) {
    VECTOR n, p = NAME(reduced_exp)(NAME(at_least)(x, BY_TYPE(-80.0f, -700.0)), &n);
    VECTOR scale = NAME(two_to)(n);
    return FMA(scale, p, scale - NAME(splat)(1));
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
    VECTOR low = FMA(e, NAME(splat)(BY_TYPE(-0.00021219444005469057f, 1.9082149292705877e-10)), s * (half + rest));
    VECTOR y = FMA(e, NAME(splat)(BY_TYPE(0.693359375f, 0.6931471803691238)), f - (half - low));
    y = NAME(select)(x == NAME(splat)(INFINITY_), x, y);
    y = NAME(select)(x == NAME(splat)(0), NAME(splat)(-INFINITY_), y);
    return NAME(select)(x >= NAME(splat)(0), y, NAME(splat)(NOT_A_NUMBER));
}

/* log(1 + x) for 0 <= x <= 1 */
ALWAYS_INLINE VECTOR NAME(vector_log1p)(VECTOR x) {
    VECTOR u = NAME(splat)(1) + x;
    return NAME(vector_log)(u) + (x - (u - NAME(splat)(1))) / u;
}

ALWAYS_INLINE VECTOR NAME(vector_logistic)(VECTOR z) {
    VECTOR small = NAME(vector_exp)(-NAME(absolute)(z));
    return NAME(select)(z < NAME(splat)(0), small, NAME(splat)(1)) / (NAME(splat)(1) + small);
}

ALWAYS_INLINE VECTOR NAME(vector_tanh)(VECTOR z) {
    VECTOR m = NAME(vector_expm1_negative)(NAME(splat)(-2) * NAME(absolute)(z));
    return NAME(with_sign)(m / (NAME(splat)(2) + m), z);
}

/* Distribution function of the standard normal, Phi(z), with full relative accuracy in the left tail; *bell becomes
 * exp(-z**2 / 2). */
ALWAYS_INLINE VECTOR NAME(vector_normal_cdf)(VECTOR z, VECTOR *bell) {
    const VECTOR half = NAME(splat)(0.5f);
    VECTOR bounded = NAME(at_most)(NAME(absolute)(z), BY_TYPE(15.0f, 40.0));
    VECTOR square = bounded * bounded, error = FMA(bounded, bounded, -square);
    VECTOR e = NAME(vector_exp)(-half * square);
    /* the square's rounding error matters where the exponent is large */
    e = FMA(-half * error, e, e);
    *bell = e;
    VECTOR x = bounded * NAME(splat)(BY_TYPE(0.70710678f, 0.7071067811865476));
    VECTOR near_x = NAME(at_most)(x, BY_TYPE(0.5f, 0.5));
    VECTOR near = half * near_x * POLYNOMIAL(near_x * near_x, BY_TYPE(erf_near_f32, erf_near_f64));
    VECTOR far_x = NAME(at_most)(NAME(at_least)(x, BY_TYPE(0.5f, 0.5)), BY_TYPE(9.7f, 28.0));
    VECTOR t = (far_x - NAME(splat)(3)) / (far_x + NAME(splat)(3));
    VECTOR far = half * e * POLYNOMIAL(t, BY_TYPE(erfc_far_f32, erfc_far_f64)) / FMA(NAME(splat)(2), far_x, NAME(splat)(1));
    INTEGERS negative = z < NAME(splat)(0), is_near = x < half;
    VECTOR left = NAME(select)(is_near, half - near, far);
    VECTOR right = NAME(select)(is_near, half + near, NAME(splat)(1) - far);
    return NAME(select)(negative, left, right);
}

/* One round of a transposition: rows `distance` apart exchange every second run of `distance` lanes. */
ALWAYS_INLINE void NAME(exchange_lanes)(VECTOR *rows, const int distance) {
    UNSIGNEDS low, high;
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
