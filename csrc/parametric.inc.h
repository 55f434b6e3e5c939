/* parametric.inc.h: the layer kind "parametric", x + mixture (f(x) - x), f being the row's activation.  f(x) is kept for the way
 * back.
 */

static void NAME(parametric_forward)(const struct NAME(strip) *strip) {
    const struct layer *layer = strip->layer;
    const REAL *mixture = (const REAL *)strip->plan->packed + layer->packed_bias;
    for (int64_t column = 0; column < layer->outputs; column += BAND) {
        const REAL *in = strip->in + NAME(place_of)(column, strip->in_band);
        REAL *value = strip->z + NAME(place_of)(column, strip->band), *out = strip->a + NAME(place_of)(column, strip->band);
        const int64_t width = NAME(band_width)(layer->outputs, column);
        NAME(activate_band)(layer->activation, strip->rows, width, in, value);
        EACH_VECTOR(strip->rows, width) {
            const VECTOR x = NAME(load)(in + i);
            NAME(store)(out + i, FMA(NAME(load)(mixture + column + i % BAND), NAME(load)(value + i) - x, x));
        }
    }
}

static void NAME(parametric_backward)(const struct NAME(strip) *strip) {
    const struct layer *layer = strip->layer;
    const REAL *mixture = (const REAL *)strip->plan->packed + layer->packed_bias;
    const bool adds = layer->flags & ADDS_INTO_DELTAS;
    if (strip->in_deltas == NULL) return;
    for (int64_t column = 0; column < layer->outputs; column += BAND) {
        const int64_t from = NAME(place_of)(column, strip->in_band), to = NAME(place_of)(column, strip->band);
        const int64_t width = NAME(band_width)(layer->outputs, column);
        for (int64_t row = 0; row < strip->rows; row++) {
            REAL slopes[BAND] __attribute__((aligned(64)));
            const REAL *deltas = strip->deltas + to + row * BAND;
            REAL *in_deltas = strip->in_deltas + from + row * BAND;
            for (int64_t i = 0; i < width; i += LANES) NAME(store)(slopes + i, ONE);
            NAME(multiply_slope_band)(layer->activation, 1, width, strip->in + from + row * BAND,
                                      strip->z + to + row * BAND, slopes);
            for (int64_t i = 0; i < width; i += LANES) {
                const VECTOR slope = FMA(NAME(load)(mixture + column + i), NAME(load)(slopes + i) - ONE, ONE);
                NAME(give)(in_deltas + i, NAME(load)(deltas + i) * slope, adds);
            }
        }
    }
}

static void NAME(parametric_gradient)(const pymlp_plan *plan, const struct NAME(gradient_job) *job,
                                      const struct layer *layer, int64_t number,
                                      UNREAD struct NAME(pending) *pending) {
    const struct NAME(unit) unit = NAME(unit_of)(layer, number);
    const struct buffer *input = &plan->buffers[layer->input_buffer], *output = &plan->buffers[layer->output_buffer];
    const int64_t place = NAME(place_of)(unit.column, output->band);
    const REAL *x = (const REAL *)input->outputs + NAME(place_of)(unit.column, input->band);
    const REAL *value = (const REAL *)output->inputs + place, *deltas = (const REAL *)output->deltas + place;
    const int vectors = NAME(vectors_of)(unit.columns);
    VECTOR sums[TILE_VECTORS] = {ZERO};
    for (int64_t row = 0; row < job->rows; row++)
        for (int v = 0; v < vectors; v++) {
            const int64_t at = row * BAND + v * LANES;
            sums[v] = FMA(NAME(load)(deltas + at), NAME(load)(value + at) - NAME(load)(x + at), sums[v]);
        }
    NAME(finish_vector)(plan, job, &unit, 0, vectors, sums);
}
