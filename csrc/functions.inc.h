/* functions.inc.h: the bodies of the rows in functions.h: activations, losses and optimizers, a vector at a time.
 *
 * An activation NAME is value_NAME(z) and slope_NAME(z, a); of z and a the slope reads the one its row names.
 * A loss is term_NAME(y, p), the loss of one output, summed over the outputs of a row.
 * An optimizer is in update.inc.h.
 */

#define ONE NAME(splat)(1)
#define ZERO NAME(splat)(0)

ALWAYS_INLINE VECTOR NAME(value_identity)(VECTOR z) { return z; }
ALWAYS_INLINE VECTOR NAME(slope_identity)(VECTOR z, VECTOR a) { return ONE; }

ALWAYS_INLINE VECTOR NAME(value_logistic)(VECTOR z) { return NAME(vector_logistic)(z); }
ALWAYS_INLINE VECTOR NAME(slope_logistic)(VECTOR z, VECTOR a) { return a * (ONE - a); }

ALWAYS_INLINE VECTOR NAME(value_tanh)(VECTOR z) { return NAME(vector_tanh)(z); }
ALWAYS_INLINE VECTOR NAME(slope_tanh)(VECTOR z, VECTOR a) { return FMA(-a, a, ONE); }

/* a NaN passes: it is not <= 0 */
ALWAYS_INLINE VECTOR NAME(value_relu)(VECTOR z) { return NAME(select)(z <= ZERO, ZERO, z); }
ALWAYS_INLINE VECTOR NAME(slope_relu)(VECTOR z, VECTOR a) { return NAME(select)(a != ZERO, ONE, ZERO); }

#define LEAKY_SLOPE NAME(splat)(BY_TYPE(0.01f, 0.01))
ALWAYS_INLINE VECTOR NAME(value_leaky_relu)(VECTOR z) { return NAME(select)(z > ZERO, z, LEAKY_SLOPE * z); }
ALWAYS_INLINE VECTOR NAME(slope_leaky_relu)(VECTOR z, VECTOR a) { return NAME(select)(a > ZERO, ONE, LEAKY_SLOPE); }

ALWAYS_INLINE VECTOR NAME(value_elu)(VECTOR z) {
    return NAME(select)(z > ZERO, z, NAME(vector_expm1_negative)(NAME(at_most)(z, 0)));
}
ALWAYS_INLINE VECTOR NAME(slope_elu)(VECTOR z, VECTOR a) { return NAME(select)(a > ZERO, ONE, a + ONE); }

#define SELU_SCALE NAME(splat)(BY_TYPE(1.0507009873554805f, 1.0507009873554805))
#define SELU_PRODUCT NAME(splat)(BY_TYPE(1.7580993408473766f, 1.7580993408473766)) /* scale times alpha */
ALWAYS_INLINE VECTOR NAME(value_selu)(VECTOR z) {
    VECTOR below = SELU_PRODUCT * NAME(vector_expm1_negative)(NAME(at_most)(z, 0));
    return NAME(select)(z > ZERO, SELU_SCALE * z, below);
}
ALWAYS_INLINE VECTOR NAME(slope_selu)(VECTOR z, VECTOR a) {
    return NAME(select)(a > ZERO, SELU_SCALE, a + SELU_PRODUCT);
}

/* where the factor has reached 0, z may as well be this: minus infinity times 0 would be no number */
#define LEFT_END BY_TYPE(-1000.0f, -1000.0)
#define RIGHT_END BY_TYPE(1000.0f, 1000.0)

ALWAYS_INLINE VECTOR NAME(value_gelu)(VECTOR z) {
    VECTOR bell;
    return NAME(at_least)(z, LEFT_END) * NAME(vector_normal_cdf)(z, &bell);
}
ALWAYS_INLINE VECTOR NAME(slope_gelu)(VECTOR z, VECTOR a) {
    VECTOR bell, phi = NAME(vector_normal_cdf)(z, &bell);
    VECTOR bounded = NAME(at_most)(NAME(at_least)(z, LEFT_END), RIGHT_END);
    return FMA(bounded, NAME(splat)(BY_TYPE(0.3989422804014327f, 0.3989422804014327)) * bell, phi);
}

ALWAYS_INLINE VECTOR NAME(value_silu)(VECTOR z) { return NAME(at_least)(z, LEFT_END) * NAME(vector_logistic)(z); }
ALWAYS_INLINE VECTOR NAME(slope_silu)(VECTOR z, VECTOR a) {
    VECTOR small = NAME(vector_exp)(-NAME(absolute)(z)), sum = ONE + small;
    INTEGERS negative = z < ZERO;
    VECTOR s = NAME(select)(negative, small, ONE) / sum, other = NAME(select)(negative, ONE, small) / sum;
    VECTOR bounded = NAME(at_most)(NAME(at_least)(z, LEFT_END), RIGHT_END);
    return FMA(bounded, s * other, s);
}

/* tanh(log(1 + e)) = n / (n + 2) with n = e (e + 2); beyond the end it is 1 in REAL */
#define MISH_END BY_TYPE(20.0f, 40.0)
ALWAYS_INLINE VECTOR NAME(value_mish)(VECTOR z) {
    VECTOR e = NAME(vector_exp)(NAME(at_most)(z, MISH_END)), n = e * (e + NAME(splat)(2));
    return NAME(at_least)(z, LEFT_END) * (n / (n + NAME(splat)(2)));
}
ALWAYS_INLINE VECTOR NAME(slope_mish)(VECTOR z, VECTOR a) {
    const VECTOR two = NAME(splat)(2);
    VECTOR bounded = NAME(at_least)(NAME(at_most)(z, MISH_END), LEFT_END);
    VECTOR e = NAME(vector_exp)(bounded), n = e * (e + two), t = n / (n + two);
    VECTOR rest = NAME(splat)(4) * (n + ONE) / ((n + two) * (n + two));
    return FMA(bounded, rest * (e / (ONE + e)), t);
}

ALWAYS_INLINE VECTOR NAME(value_softplus)(VECTOR z) {
    return NAME(at_least)(z, 0) + NAME(vector_log1p)(NAME(vector_exp)(-NAME(absolute)(z)));
}
ALWAYS_INLINE VECTOR NAME(slope_softplus)(VECTOR z, VECTOR a) { return -NAME(vector_expm1_negative)(-a); }

ALWAYS_INLINE VECTOR NAME(value_exp)(VECTOR z) { return NAME(vector_exp)(z); }
ALWAYS_INLINE VECTOR NAME(slope_exp)(VECTOR z, VECTOR a) { return a; }

/* y log(p), and 0 where y is 0 */
ALWAYS_INLINE VECTOR NAME(y_log)(VECTOR y, VECTOR p) {
    INTEGERS none = y == ZERO;
    return NAME(select)(none, ZERO, y * NAME(vector_log)(NAME(select)(none, ONE, p)));
}

ALWAYS_INLINE VECTOR NAME(clipped_probability)(VECTOR p) {
    return NAME(at_most)(NAME(at_least)(p, REAL_EPSILON), 1 - REAL_EPSILON);
}

ALWAYS_INLINE VECTOR NAME(term_squared_error)(VECTOR y, VECTOR p) {
    VECTOR difference = y - p;
    return difference * difference;
}
ALWAYS_INLINE VECTOR NAME(term_log_loss)(VECTOR y, VECTOR p) { return -NAME(y_log)(y, NAME(clipped_probability)(p)); }
ALWAYS_INLINE VECTOR NAME(term_binary_log_loss)(VECTOR y, VECTOR p) {
    VECTOR q = NAME(clipped_probability)(p);
    return -(NAME(y_log)(y, q) + NAME(y_log)(ONE - y, ONE - q));
}
ALWAYS_INLINE VECTOR NAME(term_poisson)(VECTOR y, VECTOR p) { return NAME(y_log)(y, y / p) - y + p; }

/* what the sum of a row's terms is multiplied by to be its reported loss */
static REAL NAME(loss_factor)(int loss, int64_t outputs) {
    return loss == LOSS_squared_error ? (REAL)(0.5 / (double)outputs) : 1;
}

/* a = value(z) over rows of `width` numbers, BAND apart: one band of a buffer, or part of it.  a may be z. */
static void NAME(activate_band)(int activation, int64_t rows, int64_t width, const REAL *z, REAL *a) {
    /* a whole band is one run */
    if (width == BAND) width = rows * BAND, rows = 1;
    switch (activation) {
#define ACTIVATION_CASE(name, slope)                                                              \
    case ACTIVATION_##name:                                                                       \
        for (int64_t row = 0; row < rows; row++)                                                  \
            for (int64_t i = row * BAND; i < row * BAND + width; i += LANES)                      \
                NAME(store)(a + i, NAME(value_##name)(NAME(load)(z + i)));                        \
        break;
        ELEMENT_WISE_ROWS(ACTIVATION_CASE)
#undef ACTIVATION_CASE
    }
}

/* deltas *= slope, likewise */
static void NAME(multiply_slope_band)(int activation, int64_t rows, int64_t width, const REAL *z, const REAL *a,
                                      REAL *deltas) {
    if (width == BAND) width = rows * BAND, rows = 1;
    switch (activation) {
#define SLOPE_CASE(name, slope)                                                                   \
    case ACTIVATION_##name:                                                                       \
        for (int64_t row = 0; row < rows; row++)                                                  \
            for (int64_t i = row * BAND; i < row * BAND + width; i += LANES) {                    \
                VECTOR from_z = (slope) == SLOPE_FROM_INPUT ? NAME(load)(z + i) : ZERO;           \
                VECTOR from_a = (slope) == SLOPE_FROM_OUTPUT ? NAME(load)(a + i) : ZERO;          \
                NAME(store)(deltas + i, NAME(load)(deltas + i) * NAME(slope_##name)(from_z, from_a)); \
            }                                                                                     \
        break;
        ELEMENT_WISE_ROWS(SLOPE_CASE)
#undef SLOPE_CASE
    }
}
