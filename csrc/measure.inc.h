/* measure.inc.h: what the machine can do at most, what the micro-kernel makes of it, and single functions and products for
 * tests. */

static VECTOR NAME(evaluate_vector)(int activation, bool slope, VECTOR z) {
    switch (activation) {
#define EVALUATE_CASE(name, kind)                    \
    case ACTIVATION_##name: {                        \
        VECTOR a = NAME(value_##name)(z);            \
        return slope ? NAME(slope_##name)(z, a) : a; \
    }
        ELEMENT_WISE_ROWS(EVALUATE_CASE)
#undef EVALUATE_CASE
    }
    return NAME(vector_log)(z);
}

static int NAME(evaluate)(int activation, bool slope, const void *z, int64_t count, void *out) {
    __typeof__(SAVE_FLOAT_MODE()) mode = SAVE_FLOAT_MODE();
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t rest = count - i < LANES ? count - i : LANES;
        REAL padded[LANES] = {0};
        memcpy(padded, (const REAL *)z + i, (size_t)rest * sizeof(REAL));
        NAME(store)(padded, NAME(evaluate_vector)(activation, slope, NAME(load)(padded)));
        memcpy((REAL *)out + i, padded, (size_t)rest * sizeof(REAL));
    }
    RESTORE_FLOAT_MODE(mode);
    return PYMLP_OK;
}

static void NAME(product)(const struct product *given, int64_t sizes[4]) {
    /* nobody stops it */
    static const pymlp_plan idle;
    sizes[0] = TILE_ROWS;
    sizes[1] = PANEL;
    sizes[2] = LANES;
    sizes[3] = HALF_LANES;
    if (given == NULL) return;
    REAL *c = given->c;
    if (given->by_columns) {
        NAME(gradient_sums)(given->depth, given->rows, NAME(vectors_of)(given->columns), given->a, given->b, c, NULL,
                            (struct NAME(ahead)){NULL, NULL, NULL});
        return;
    }
    struct NAME(fused) fused = {.kind = (int)given->kind};
    if (given->outputs != NULL) fused.outputs = (const REAL *)given->outputs - c;
    NAME(multiply)(&idle, given->rows, given->columns, given->depth, given->a, given->a_band, given->b, given->b_panel,
                   given->pitch, given->bias, c, given->c_band, given->adds != 0, fused);
}

struct NAME(peak_run) {
    double seconds, rate[MOST_THREADS];
};

enum { NAME(PEAK_CHAINS) = 10 };

/* as many independent chains as the unit's latency times its width, in registers alone */
static void NAME(peak_work)(void *context, int index, UNREAD int members) {
    struct NAME(peak_run) *run = context;
    VECTOR sums[NAME(PEAK_CHAINS)], a = NAME(splat)(BY_TYPE(0.999f, 0.999)), b = NAME(splat)(BY_TYPE(0.001f, 0.001));
    for (int i = 0; i < NAME(PEAK_CHAINS); i++) sums[i] = NAME(splat)((REAL)i);
    double start = NAME(seconds_now)(), now = start, flops = 0;
    while (now - start < run->seconds) {
        for (int repeat = 0; repeat < 20000; repeat++) {
#pragma GCC unroll 16
            for (int i = 0; i < NAME(PEAK_CHAINS); i++) {
                sums[i] = FMA(sums[i], a, b);
                /* keeps the compiler from taking the chains apart or out of registers */
                __asm__ volatile("" : VECTOR_REGISTER(sums[i]));
            }
        }
        flops += 2.0 * LANES * NAME(PEAK_CHAINS) * 20000;
        now = NAME(seconds_now)();
    }
    run->rate[index] = flops / (now - start) * 1e-9;
}

static double NAME(measure_peak)(int n_threads, double seconds) {
    struct NAME(peak_run) run = {.seconds = seconds};
    int members = pymlp_team_begin(n_threads);
    pymlp_team_run(members, NAME(peak_work), &run);
    pymlp_team_end(members);
    double sum = 0;
    for (int i = 0; i < members; i++) sum += run.rate[i];
    return sum;
}

/* The largest tile, A by rows and B a packed panel, all from cache. */
static double NAME(measure_tile)(int64_t depth, double seconds) {
    if (depth < 1 || depth > NAME(MOST_DEPTH)) return 0;
    REAL a[TILE_ROWS * NAME(MOST_DEPTH)], b[NAME(MOST_DEPTH) * PANEL] __attribute__((aligned(64)));
    REAL c[TILE_ROWS * BAND] __attribute__((aligned(64)));
    for (size_t i = 0; i < sizeof a / sizeof *a; i++) a[i] = (REAL)0.5;
    for (size_t i = 0; i < sizeof b / sizeof *b; i++) b[i] = (REAL)0.25;
    double start = NAME(seconds_now)(), now = start, flops = 0;
    while (now - start < seconds) {
        for (int repeat = 0; repeat < 100; repeat++) {
            NAME(row_tiles)[TILE_PLAIN][TILE_ROWS](TILE_VECTORS, depth, a, TILE_ROWS * BAND, b, PANEL, NAME(zeros), 0,
                                                   c, 0, b, 0);
            /* the result counts as used, and the operands as changed: no call may be left out */
            __asm__ volatile("" : : "r"(a), "r"(b), "r"(c) : "memory");
        }
        flops += 200.0 * TILE_ROWS * PANEL * (double)depth;
        now = NAME(seconds_now)();
    }
    return flops / (now - start) * 1e-9;
}
