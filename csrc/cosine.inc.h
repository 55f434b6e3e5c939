/* cosine.inc.h: the cosine of all lanes at once.
 *
 * The argument less a multiple of pi / 2 is found in three steps.  The first two parts of pi / 2 are so short that neither
 * their products nor the differences round, fused or not; what rounding leaves of the third is kept, so that the cosine is
 * right next to its zeros as well.  Beyond NEAR_ANGLE, some 2**12 (f64: 2**20) quarter turns, the products would round, and
 * `quarter_turns` takes over.
 */

#define NEAR_ANGLE BY_TYPE(6400.0f, 1.6e6)

struct NAME(angle) {
    VECTOR r, rest;
    UNSIGNEDS turns;
};

ALWAYS_INLINE bool NAME(any)(INTEGERS mask) {
    uint64_t words[VECTOR_BYTES / 8], all = 0;
    memcpy(words, &mask, sizeof words);
    for (int i = 0; i < VECTOR_BYTES / 8; i++) all |= words[i];
    return all != 0;
}

/* x = turns pi / 2 + r + rest, |r| <= pi / 4 */
ALWAYS_INLINE struct NAME(angle) NAME(angle_of)(VECTOR x) {
    const VECTOR rounder = NAME(splat)(ROUNDER);
    VECTOR shifted = FMA(x, NAME(splat)(BY_TYPE(0.6366197723675814f, 0.6366197723675814)), rounder);
    VECTOR n = shifted - rounder, exact = (x - n * NAME(splat)(HALF_PI_1)) - n * NAME(splat)(HALF_PI_2);
    VECTOR third = NAME(splat)(HALF_PI_3), product = n * third, product_low = FMA(n, third, -product);
    VECTOR difference = exact - product, part = difference - exact;
    VECTOR left = (exact - (difference - part)) - (product + part);
    VECTOR low = left - FMA(n, NAME(splat)(HALF_PI_4), product_low);
    struct NAME(angle) angle;
    angle.r = difference + low;
    angle.rest = (difference - angle.r) + low;
    angle.turns = (UNSIGNEDS)shifted;
    INTEGERS far = NAME(absolute)(x) > NAME(splat)(NEAR_ANGLE);
    if (__builtin_expect(NAME(any)(far), 0)) {
        for (int lane = 0; lane < LANES; lane++) {
            if (!far[lane]) continue;
            double r, rest;
            angle.turns[lane] = quarter_turns((double)x[lane], &r, &rest);
            angle.r[lane] = (REAL)r;
            angle.rest[lane] = (REAL)((r - (double)angle.r[lane]) + rest);
        }
    }
    return angle;
}

/* cos(x + turns pi / 2) */
ALWAYS_INLINE VECTOR NAME(vector_cosine)(VECTOR x, UNSIGNED turns) {
    const VECTOR one = NAME(splat)(1), half = NAME(splat)(0.5f);
    struct NAME(angle) angle = NAME(angle_of)(x);
    VECTOR r = angle.r, square = r * r;
    VECTOR sine = r + FMA(r * square, POLYNOMIAL(square, BY_TYPE(sine_table_f32, sine_table_f64)), angle.rest);
    VECTOR down = half * square, head = one - down;
    VECTOR tail = FMA(square * square, POLYNOMIAL(square, BY_TYPE(cosine_table_f32, cosine_table_f64)), -r * angle.rest);
    VECTOR cosine = head + (((one - head) - down) + tail);
    UNSIGNEDS quarter = angle.turns + turns;
    VECTOR y = NAME(select)((INTEGERS)(-(quarter & 1)), sine, cosine);
    /* below 0 in the second and third quarter */
    return (VECTOR)((UNSIGNEDS)y ^ (((quarter + 1) >> 1 & 1) << (8 * sizeof(REAL) - 1)));
}
