/* norm.inc.h: the layer kind "layer_norm", activation(gain (x - mean) / deviation + shift), mean and deviation being those of
 * a row.
 *
 * A sum within a row runs in 16 lanes, as many vectors as that takes, which a fixed tree adds up: the same bits for every
 * instruction set.  The mean and the reciprocal of the deviation are kept of each row.
 */

enum { NAME(SUM_LANES) = 16, NAME(SUM_VECTORS) = NAME(SUM_LANES) / LANES };

/* A vector whose first `count` lanes are those of x, and the others 0 */
ALWAYS_INLINE VECTOR NAME(first_lanes)(VECTOR x, int64_t count) {
    INTEGERS lanes;
#pragma GCC unroll 16
    for (int lane = 0; lane < LANES; lane++) lanes[lane] = lane;
    return count >= LANES ? x : NAME(select)(lanes < (INTEGER)count + (INTEGERS){0}, x, ZERO);
}

ALWAYS_INLINE REAL NAME(sum_of_lanes)(const VECTOR *sums) {
    REAL lanes[NAME(SUM_LANES)];
    for (int v = 0; v < NAME(SUM_VECTORS); v++) NAME(store)(lanes + v * LANES, sums[v]);
    for (int half = NAME(SUM_LANES) / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] = lanes[i] + lanes[i + half];
    return lanes[0];
}

/* Runs over the columns of a row in groups of SUM_LANES; `v` is the vector of the group, `left` the columns from its first
 * on. */
#define EACH_SUMMAND(columns)                                                 \
    for (int64_t group = 0; group < (columns); group += NAME(SUM_LANES))      \
        for (int64_t v = 0, left = (columns) - group; v < NAME(SUM_VECTORS) && left > 0; v++, left -= LANES)

/* Sum of x - origin, or of its square, over a row. */
ALWAYS_INLINE REAL NAME(row_sum)(const bool squares, const REAL *x, int64_t band, int64_t columns, VECTOR origin) {
    VECTOR sums[NAME(SUM_VECTORS)] = {ZERO};
    EACH_SUMMAND(columns) {
        VECTOR distance = NAME(first_lanes)(NAME(load)(x + NAME(place_of)(group, band) + v * LANES) - origin, left);
        sums[v] = squares ? FMA(distance, distance, sums[v]) : sums[v] + distance;
    }
    return NAME(sum_of_lanes)(sums);
}

static void NAME(layer_norm_forward)(const struct NAME(strip) *strip) {
    const struct layer *layer = strip->layer;
    const REAL *gain = (const REAL *)strip->plan->packed + layer->packed_bias, *shift = gain + layer->padded_outputs;
    const REAL width = (REAL)layer->outputs;
    for (int64_t row = 0; row < strip->rows; row++) {
        const REAL *x = strip->in + row * BAND;
        REAL *z = strip->z + row * BAND;
        const VECTOR mean = NAME(splat)(NAME(row_sum)(false, x, strip->in_band, layer->outputs, ZERO) / width);
        const REAL variance = NAME(row_sum)(true, x, strip->in_band, layer->outputs, mean) / width;
        const VECTOR inverse = ONE / SQRT(NAME(splat)(variance + (REAL)layer->setting));
        if (strip->scalars != NULL) {
            strip->scalars[2 * row] = mean[0];
            strip->scalars[2 * row + 1] = inverse[0];
        }
        for (int64_t column = 0; column < layer->outputs; column += LANES) {
            const VECTOR normal = (NAME(load)(x + NAME(place_of)(column, strip->in_band)) - mean) * inverse;
            NAME(store)(z + NAME(place_of)(column, strip->band),
                        FMA(normal, NAME(load)(gain + column), NAME(load)(shift + column)));
        }
    }
    if (strip->activated) NAME(activate)(strip);
}

static void NAME(layer_norm_backward)(const struct NAME(strip) *strip) {
    const struct layer *layer = strip->layer;
    const REAL *gain = (const REAL *)strip->plan->packed + layer->packed_bias;
    const REAL width = (REAL)layer->outputs;
    const bool adds = layer->flags & ADDS_INTO_DELTAS;
    NAME(take_slope)(strip);
    if (strip->in_deltas == NULL) return;
    for (int64_t row = 0; row < strip->rows; row++) {
        const REAL *x = strip->in + row * BAND, *deltas = strip->deltas + row * BAND;
        REAL *to = strip->in_deltas + row * BAND;
        const VECTOR mean = NAME(splat)(strip->scalars[2 * row]), inverse = NAME(splat)(strip->scalars[2 * row + 1]);
        VECTOR sums[NAME(SUM_VECTORS)] = {ZERO}, products[NAME(SUM_VECTORS)] = {ZERO};
        EACH_SUMMAND(layer->outputs) {
            const int64_t column = group + v * LANES;
            const VECTOR d = NAME(load)(deltas + NAME(place_of)(column, strip->band));
            const VECTOR normal = (NAME(load)(x + NAME(place_of)(column, strip->in_band)) - mean) * inverse;
            const VECTOR scaled = NAME(first_lanes)(d * NAME(load)(gain + column), left);
            sums[v] = sums[v] + scaled;
            products[v] = FMA(scaled, NAME(first_lanes)(normal, left), products[v]);
        }
        const VECTOR level = NAME(splat)(NAME(sum_of_lanes)(sums) / width);
        const VECTOR slant = NAME(splat)(NAME(sum_of_lanes)(products) / width);
        for (int64_t column = 0; column < layer->outputs; column += LANES) {
            const int64_t at = NAME(place_of)(column, strip->in_band);
            const VECTOR d = NAME(load)(deltas + NAME(place_of)(column, strip->band));
            const VECTOR normal = (NAME(load)(x + at) - mean) * inverse;
            const VECTOR rest = FMA(-normal, slant, d * NAME(load)(gain + column) - level);
            NAME(give)(to + at, inverse * rest, adds);
        }
    }
}

static void NAME(layer_norm_gradient)(const pymlp_plan *plan, const struct NAME(gradient_job) *job,
                                      const struct layer *layer, int64_t number,
                                      UNREAD struct NAME(pending) *pending) {
    const struct NAME(unit) unit = NAME(unit_of)(layer, number);
    const struct buffer *input = &plan->buffers[layer->input_buffer], *output = &plan->buffers[layer->output_buffer];
    const REAL *x = (const REAL *)input->outputs + NAME(place_of)(unit.column, input->band);
    const REAL *deltas = (const REAL *)output->deltas + NAME(place_of)(unit.column, output->band);
    const REAL *scalars = (const REAL *)plan->scalars + layer->scalars;
    const int vectors = NAME(vectors_of)(unit.columns);
    VECTOR of_gain[TILE_VECTORS] = {ZERO}, of_shift[TILE_VECTORS] = {ZERO};
    for (int64_t row = 0; row < job->rows; row++) {
        const VECTOR mean = NAME(splat)(scalars[2 * row]), inverse = NAME(splat)(scalars[2 * row + 1]);
        for (int v = 0; v < vectors; v++) {
            const VECTOR d = NAME(load)(deltas + row * BAND + v * LANES);
            of_gain[v] = FMA(d, (NAME(load)(x + row * BAND + v * LANES) - mean) * inverse, of_gain[v]);
            of_shift[v] = of_shift[v] + d;
        }
    }
    NAME(finish_vector)(plan, job, &unit, 0, vectors, of_gain);
    NAME(finish_vector)(plan, job, &unit, 1, vectors, of_shift);
}
