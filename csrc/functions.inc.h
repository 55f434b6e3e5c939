/* functions.inc.h: the bodies of the rows in functions.h: activations, losses and optimizers, a vector at a time.
 *
 * An activation NAME is value_NAME(z) and slope_NAME(z, a); of z and a the slope reads the one its row names.
 * A loss is term_NAME(y, p, c), the loss of one output, summed over the outputs of a row, and delta_NAME(y, p, c), the
 * gradient that its row names; c is its number (a quantile's level, say), where it has one.
 * An optimizer is in update.inc.h.
 */

#define ONE NAME(splat)(1)
#define ZERO NAME(splat)(0)

ALWAYS_INLINE VECTOR NAME(value_identity)(VECTOR z) { return z; }
ALWAYS_INLINE VECTOR NAME(slope_identity)(UNREAD VECTOR z, UNREAD VECTOR a) { return ONE; }

ALWAYS_INLINE VECTOR NAME(value_logistic)(VECTOR z) { return NAME(vector_logistic)(z); }
ALWAYS_INLINE VECTOR NAME(slope_logistic)(UNREAD VECTOR z, VECTOR a) { return a * (ONE - a); }

ALWAYS_INLINE VECTOR NAME(value_tanh)(VECTOR z) { return NAME(vector_tanh)(z); }
ALWAYS_INLINE VECTOR NAME(slope_tanh)(UNREAD VECTOR z, VECTOR a) { return FMA(-a, a, ONE); }

/* a NaN passes: it is not <= 0 */
ALWAYS_INLINE VECTOR NAME(value_relu)(VECTOR z) { return NAME(select)(z <= ZERO, ZERO, z); }
ALWAYS_INLINE VECTOR NAME(slope_relu)(UNREAD VECTOR z, VECTOR a) { return NAME(select)(a != ZERO, ONE, ZERO); }

#define LEAKY_SLOPE NAME(splat)(BY_TYPE(0.01f, 0.01))
ALWAYS_INLINE VECTOR NAME(value_leaky_relu)(VECTOR z) { return NAME(select)(z > ZERO, z, LEAKY_SLOPE * z); }
ALWAYS_INLINE VECTOR NAME(slope_leaky_relu)(UNREAD VECTOR z, VECTOR a) {
    return NAME(select)(a > ZERO, ONE, LEAKY_SLOPE);
}

ALWAYS_INLINE VECTOR NAME(value_elu)(VECTOR z) {
    VECTOR low;
    return NAME(select)(z < ZERO, NAME(expm1_negative)(NAME(at_most)(z, 0), &low), z);
}
ALWAYS_INLINE VECTOR NAME(slope_elu)(UNREAD VECTOR z, VECTOR a) { return NAME(select)(a > ZERO, ONE, a + ONE); }

#define SELU_SCALE NAME(splat)(BY_TYPE(1.0507009873554805f, 1.0507009873554805))
/* scale times alpha, and what rounding it left */
#define SELU_PRODUCT NAME(splat)(BY_TYPE(1.7580993175506592f, 1.7580993408473768))
#define SELU_PRODUCT_LOW NAME(splat)(BY_TYPE(2.32967177e-08f, 1.41535194e-17))
ALWAYS_INLINE VECTOR NAME(value_selu)(VECTOR z) {
    VECTOR low, m = NAME(expm1_negative)(NAME(at_most)(z, 0), &low);
    VECTOR below = FMA(SELU_PRODUCT, m, FMA(SELU_PRODUCT_LOW, m, SELU_PRODUCT * low));
    return NAME(select)(z < ZERO, below, SELU_SCALE * z);
}
ALWAYS_INLINE VECTOR NAME(slope_selu)(UNREAD VECTOR z, VECTOR a) {
    return NAME(select)(a > ZERO, SELU_SCALE, a + SELU_PRODUCT);
}

/* The slopes of gelu, silu and mish, most of 1, are off by up to 4 roundings of 1: a gradient asks no more. */

/* gelu(z) - gelu(-z) = z, so the slopes at z and -z add up to 1 */
ALWAYS_INLINE VECTOR NAME(value_gelu)(VECTOR z) { return NAME(vector_gelu)(z); }
ALWAYS_INLINE VECTOR NAME(slope_gelu)(VECTOR z, UNREAD VECTOR a) {
    /* at the end the exponential is 0 */
    VECTOR x = NAME(at_most)(NAME(absolute)(z), BY_TYPE(13.25f, 37.66));
    VECTOR bell = NAME(bounded_exp)(NAME(splat)(-0.5f) * x * x);
    VECTOR s = ONE / FMA(NAME(splat)(NORMAL_POLE), x, ONE), d = FMA(NAME(splat)(NORMAL_FACTOR), x, ONE);
    VECTOR p = POLYNOMIAL(s - NAME(splat)(NORMAL_MIDDLE), BY_TYPE(normal_table_f32, normal_table_f64));
    VECTOR left = bell * FMA(NAME(splat)(BY_TYPE(-0.3989422804014327f, -0.3989422804014327)), x, p / d);
    return NAME(select)(z < ZERO, left, ONE - left);
}

/* the same holds for silu */
ALWAYS_INLINE VECTOR NAME(value_silu)(VECTOR z) { return NAME(vector_silu)(z); }
ALWAYS_INLINE VECTOR NAME(slope_silu)(VECTOR z, UNREAD VECTOR a) {
    VECTOR x = NAME(at_least)(-NAME(absolute)(z), BY_TYPE(-88.0f, -709.0)), e = NAME(bounded_exp)(x);
    VECTOR inverse = ONE / (ONE + e), left = e * inverse * FMA(x, inverse, ONE);
    return NAME(select)(z < ZERO, left, ONE - left);
}

/* beyond the end it is 1 in REAL */
#define MISH_END BY_TYPE(20.0f, 40.0)
ALWAYS_INLINE VECTOR NAME(value_mish)(VECTOR z) { return NAME(vector_mish)(z); }
/* tanh(log(1 + e)) = n / (n + 2) with e = exp(z), n = e (e + 2); its slope is 4 e (e + 1) / (n + 2)**2 */
ALWAYS_INLINE VECTOR NAME(slope_mish)(VECTOR z, UNREAD VECTOR a) {
    VECTOR x = NAME(at_least)(NAME(at_most)(z, MISH_END), BY_TYPE(-88.0f, -709.0)), e = NAME(bounded_exp)(x);
    VECTOR n = FMA(e, e, e + e), inverse = ONE / (n + NAME(splat)(2));
    return inverse * FMA(NAME(splat)(4) * x * inverse, FMA(e, e, e), n);
}

ALWAYS_INLINE VECTOR NAME(value_softplus)(VECTOR z) { return NAME(vector_softplus)(z); }
ALWAYS_INLINE VECTOR NAME(slope_softplus)(UNREAD VECTOR z, VECTOR a) {
    VECTOR low;
    return -NAME(expm1_negative)(-a, &low);
}

ALWAYS_INLINE VECTOR NAME(value_exp)(VECTOR z) { return NAME(vector_exp)(z); }
ALWAYS_INLINE VECTOR NAME(slope_exp)(UNREAD VECTOR z, VECTOR a) { return a; }

ALWAYS_INLINE VECTOR NAME(value_cosine)(VECTOR z) { return NAME(vector_cosine)(z, 0); }
/* -sin(z) is the cosine a quarter turn on */
ALWAYS_INLINE VECTOR NAME(slope_cosine)(VECTOR z, UNREAD VECTOR a) { return NAME(vector_cosine)(z, 1); }

ALWAYS_INLINE VECTOR NAME(value_square)(VECTOR z) { return z * z; }
ALWAYS_INLINE VECTOR NAME(slope_square)(VECTOR z, UNREAD VECTOR a) { return z + z; }

/* y log(p), and 0 where y is 0 */
ALWAYS_INLINE VECTOR NAME(y_log)(VECTOR y, VECTOR p) {
    INTEGERS none = y == ZERO;
    return NAME(select)(none, ZERO, y * NAME(vector_log)(NAME(select)(none, ONE, p)));
}

ALWAYS_INLINE VECTOR NAME(clipped_probability)(VECTOR p) {
    return NAME(at_most)(NAME(at_least)(p, REAL_EPSILON), 1 - REAL_EPSILON);
}

/* the larger; of numbers that compare as neither, the first */
ALWAYS_INLINE VECTOR NAME(larger)(VECTOR x, VECTOR other) { return NAME(select)(x < other, other, x); }
ALWAYS_INLINE VECTOR NAME(smaller)(VECTOR x, VECTOR other) { return NAME(select)(x > other, other, x); }

/* 1, -1 or, where it is neither above nor below, x: a zero or no number */
ALWAYS_INLINE VECTOR NAME(sign)(VECTOR x) {
    return NAME(select)(x > ZERO, ONE, NAME(select)(x < ZERO, -ONE, x));
}

/* x**power for x >= 0 */
ALWAYS_INLINE VECTOR NAME(power)(VECTOR x, VECTOR power) { return NAME(vector_exp)(power * NAME(vector_log)(x)); }

ALWAYS_INLINE VECTOR NAME(term_squared_error)(VECTOR y, VECTOR p, UNREAD VECTOR c) {
    VECTOR difference = y - p;
    return difference * difference;
}
ALWAYS_INLINE VECTOR NAME(delta_squared_error)(VECTOR y, VECTOR p, UNREAD VECTOR c) { return p - y; }

ALWAYS_INLINE VECTOR NAME(term_absolute_error)(VECTOR y, VECTOR p, UNREAD VECTOR c) { return NAME(absolute)(y - p); }
ALWAYS_INLINE VECTOR NAME(delta_absolute_error)(VECTOR y, VECTOR p, UNREAD VECTOR c) { return NAME(sign)(p - y); }

/* c: the distance up to which it is squared */
ALWAYS_INLINE VECTOR NAME(term_huber)(VECTOR y, VECTOR p, VECTOR c) {
    VECTOR distance = NAME(absolute)(y - p), near = NAME(smaller)(distance, c);
    return near * FMA(NAME(splat)(-0.5f), near, distance);
}
ALWAYS_INLINE VECTOR NAME(delta_huber)(VECTOR y, VECTOR p, VECTOR c) {
    return NAME(larger)(NAME(smaller)(p - y, c), -c);
}

/* c: the level */
ALWAYS_INLINE VECTOR NAME(term_quantile)(VECTOR y, VECTOR p, VECTOR c) {
    VECTOR residual = y - p;
    return NAME(larger)(c * residual, (c - ONE) * residual);
}
ALWAYS_INLINE VECTOR NAME(delta_quantile)(VECTOR y, VECTOR p, VECTOR c) {
    return NAME(select)(y > p, -c, NAME(select)(y < p, ONE - c, ZERO));
}

ALWAYS_INLINE VECTOR NAME(term_log_loss)(VECTOR y, VECTOR p, UNREAD VECTOR c) {
    return -NAME(y_log)(y, NAME(clipped_probability)(p));
}
ALWAYS_INLINE VECTOR NAME(delta_log_loss)(VECTOR y, VECTOR p, UNREAD VECTOR c) { return p - y; }
ALWAYS_INLINE VECTOR NAME(term_binary_log_loss)(VECTOR y, VECTOR p, UNREAD VECTOR c) {
    VECTOR q = NAME(clipped_probability)(p);
    return -(NAME(y_log)(y, q) + NAME(y_log)(ONE - y, ONE - q));
}
ALWAYS_INLINE VECTOR NAME(delta_binary_log_loss)(VECTOR y, VECTOR p, UNREAD VECTOR c) { return p - y; }

/* c: the exponent */
ALWAYS_INLINE VECTOR NAME(term_focal)(VECTOR y, VECTOR p, VECTOR c) {
    VECTOR q = NAME(clipped_probability)(p);
    return -NAME(power)(ONE - q, c) * NAME(y_log)(y, q);
}
ALWAYS_INLINE VECTOR NAME(delta_focal)(VECTOR y, VECTOR p, VECTOR c) {
    VECTOR q = NAME(clipped_probability)(p), rest = ONE - q;
    return y * NAME(power)(rest, c - ONE) * FMA(c * q, NAME(vector_log)(q), -rest);
}
ALWAYS_INLINE VECTOR NAME(term_binary_focal)(VECTOR y, VECTOR p, VECTOR c) {
    return NAME(term_focal)(y, p, c) + NAME(term_focal)(ONE - y, ONE - p, c);
}
ALWAYS_INLINE VECTOR NAME(delta_binary_focal)(VECTOR y, VECTOR p, VECTOR c) {
    return FMA(NAME(delta_focal)(y, p, c), ONE - p, -(NAME(delta_focal)(ONE - y, ONE - p, c) * p));
}

/* classes 0 and 1 as -1 and 1 */
ALWAYS_INLINE VECTOR NAME(class_sign)(VECTOR y) { return FMA(NAME(splat)(2), y, -ONE); }
ALWAYS_INLINE VECTOR NAME(delta_at_margin)(VECTOR y, VECTOR p, VECTOR margin) {
    VECTOR s = NAME(class_sign)(y);
    return NAME(select)(s * p <= margin, -s, ZERO);
}
ALWAYS_INLINE VECTOR NAME(term_hinge)(VECTOR y, VECTOR p, UNREAD VECTOR c) {
    return NAME(at_least)(FMA(-NAME(class_sign)(y), p, ONE), 0);
}
ALWAYS_INLINE VECTOR NAME(delta_hinge)(VECTOR y, VECTOR p, UNREAD VECTOR c) { return NAME(delta_at_margin)(y, p, ONE); }
ALWAYS_INLINE VECTOR NAME(term_perceptron)(VECTOR y, VECTOR p, UNREAD VECTOR c) {
    return NAME(at_least)(-NAME(class_sign)(y) * p, 0);
}
ALWAYS_INLINE VECTOR NAME(delta_perceptron)(VECTOR y, VECTOR p, UNREAD VECTOR c) {
    return NAME(delta_at_margin)(y, p, ZERO);
}
ALWAYS_INLINE VECTOR NAME(term_squared_hinge)(VECTOR y, VECTOR p, VECTOR c) {
    VECTOR inside = NAME(term_hinge)(y, p, c);
    return inside * inside;
}
ALWAYS_INLINE VECTOR NAME(delta_squared_hinge)(VECTOR y, VECTOR p, VECTOR c) {
    return NAME(splat)(-2) * NAME(class_sign)(y) * NAME(term_hinge)(y, p, c);
}

ALWAYS_INLINE VECTOR NAME(term_poisson)(VECTOR y, VECTOR p, UNREAD VECTOR c) { return NAME(y_log)(y, y / p) - y + p; }
ALWAYS_INLINE VECTOR NAME(delta_poisson)(VECTOR y, VECTOR p, UNREAD VECTOR c) { return p - y; }

ALWAYS_INLINE VECTOR NAME(term_gamma)(VECTOR y, VECTOR p, UNREAD VECTOR c) {
    VECTOR ratio = y / p;
    return ratio - NAME(vector_log)(ratio) - ONE;
}
ALWAYS_INLINE VECTOR NAME(delta_gamma)(VECTOR y, VECTOR p, UNREAD VECTOR c) { return ONE - y / p; }

/* y x**power, and 0 where y is 0 */
ALWAYS_INLINE VECTOR NAME(y_power)(VECTOR y, VECTOR x, VECTOR power) {
    return NAME(select)(y == ZERO, ZERO, y * NAME(power)(x, power));
}
/* c: the power of the mean that is the variance, in (1, 2) */
ALWAYS_INLINE VECTOR NAME(term_tweedie)(VECTOR y, VECTOR p, VECTOR c) {
    VECTOR lower = ONE - c, upper = NAME(splat)(2) - c;
    return NAME(power)(y, upper) / (lower * upper) - NAME(y_power)(y, p, lower) / lower + NAME(power)(p, upper) / upper;
}
ALWAYS_INLINE VECTOR NAME(delta_tweedie)(VECTOR y, VECTOR p, VECTOR c) {
    return NAME(power)(p, NAME(splat)(2) - c) - NAME(y_power)(y, p, ONE - c);
}

/* what the sum of a row's terms is multiplied by to be its reported loss */
static REAL NAME(loss_factor)(int loss, int64_t outputs) {
    switch (loss) {
        case LOSS_squared_error: return (REAL)(0.5 / (double)outputs);
        case LOSS_absolute_error:
        case LOSS_huber:
        case LOSS_quantile: return (REAL)(1 / (double)outputs);
        default: return 1;
    }
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
