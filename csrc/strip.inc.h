/* strip.inc.h: what the functions of a layer kind are given, and what several of them share.
 *
 * A kind is three functions.  forward and backward get a strip of rows of the buffers that the layer reads and writes;
 * gradient gets a unit of the layer's parameters, over all rows of a block.
 */

struct NAME(strip) {
    const pymlp_plan *plan;
    const struct layer *layer;
    int64_t rows;
    bool activated;            /* false: the layer's activation is the head's to apply */
    int64_t step, first_row;   /* what masks depend on: the training step (-1: inference), place in the batch of row 0 */
    const struct batch *batch; /* where sparse inputs are; strips of dense ones may have none */
    int64_t batch_row;         /* place of row 0 among the batch's rows */
    const REAL *in, *second;   /* outputs of the buffers it reads */
    int64_t in_band, second_band, band;
    REAL *z, *a;               /* pre-activations, or what else is kept in their place, and outputs; may be the same */
    REAL *scalars;             /* those kept of each row; NULL: not needed */
    /* Gradient to the outputs, or to the pre-activations if not `activated` or if the layer after has taken the slope;
     * backward leaves that to the pre-activations.  in_deltas and second_deltas, where not NULL, become the gradients to
     * what was read, or have them added. */
    REAL *deltas, *in_deltas, *second_deltas;
};

/* Columns to work on in the band that starts at `column`: whole vectors */
ALWAYS_INLINE int64_t NAME(band_width)(int64_t columns, int64_t column) {
    return columns - column < BAND ? (columns - column + LANES - 1) / LANES * LANES : BAND;
}

/* Runs over the numbers of `row_count` rows of one band, in whole vectors: `i` is the place of a vector. */
#define EACH_VECTOR(row_count, width)                              \
    for (int64_t row = 0; row < (row_count); row++)                \
        for (int64_t i = row * BAND; i < row * BAND + (width); i += LANES)

/* `deltas` by the outputs become deltas by the pre-activations. */
static void NAME(take_slope)(const struct NAME(strip) *strip) {
    const struct layer *layer = strip->layer;
    if (!strip->activated || layer->activation == ACTIVATION_identity || layer->flags & SLOPE_IS_TAKEN) return;
    for (int64_t column = 0, at = 0; column < layer->outputs; column += BAND, at += strip->band)
        NAME(multiply_slope_band)(layer->activation, strip->rows, NAME(band_width)(layer->outputs, column),
                                  strip->z + at, strip->a + at, strip->deltas + at);
}

/* The activation of the pre-activations z, in place or into a. */
static void NAME(activate)(const struct NAME(strip) *strip) {
    const struct layer *layer = strip->layer;
    if (layer->activation == ACTIVATION_identity && strip->a == strip->z) return;
    for (int64_t column = 0, at = 0; column < layer->outputs; column += BAND, at += strip->band)
        NAME(activate_band)(layer->activation, strip->rows, NAME(band_width)(layer->outputs, column), strip->z + at,
                            strip->a + at);
}

/* Writes a share of the gradient to a buffer, or adds it to those that are there. */
ALWAYS_INLINE void NAME(give)(REAL *to, VECTOR share, bool adds) {
    NAME(store)(to, adds ? NAME(load)(to) + share : share);
}

/* Adds the sums of the blocks before, keeps them for the blocks after; `place` in the packed arrays. */
static void NAME(join_blocks)(const pymlp_plan *plan, const struct NAME(gradient_job) *job, int64_t count,
                              int64_t place, REAL *sums) {
    REAL *before = (REAL *)plan->sums + place;
    if (!job->first)
        for (int64_t i = 0; i < count; i += LANES) NAME(store)(sums + i, NAME(load)(before + i) + NAME(load)(sums + i));
    if (!job->last)
        for (int64_t i = 0; i < count; i += LANES) NAME(store)(before + i, NAME(load)(sums + i));
}

/* The unit's columns of the layer's vector `number`: from the gradient's sums over the block (or the one that was given) to
 * its end, or to the new parameters. */
ALWAYS_INLINE void NAME(finish_vector)(const pymlp_plan *plan, const struct NAME(gradient_job) *job,
                                const struct NAME(unit) *unit, int64_t number, int vectors, VECTOR *chains) {
    const struct layer *layer = unit->layer;
    const int64_t place = layer->packed_bias + number * layer->padded_outputs + unit->column;
    const int64_t flat = layer->bias + number * layer->outputs + unit->column;
    REAL sums[PANEL], *slots[MOST_SLOTS];
    for (int v = 0; v < vectors; v++) NAME(store)(sums + v * LANES, chains[v]);
    if (job->given != NULL) memcpy(sums, job->given + flat, (size_t)unit->columns * sizeof(REAL));
    NAME(join_blocks)(plan, job, vectors * LANES, place, sums);
    if (!job->last) return;
    for (int v = 0; v < vectors; v++)
        NAME(store)(sums + v * LANES, NAME(load)(sums + v * LANES) * NAME(splat)(job->inverse));
    if (job->gradient != NULL) {
        memcpy(job->gradient + flat, sums, (size_t)unit->columns * sizeof(REAL));
        return;
    }
    for (int i = 0; i < MOST_SLOTS; i++) slots[i] = (REAL *)plan->slots[i] + place;
    NAME(optimize)(&job->bias_rule, 1, vectors * LANES, 0, (REAL *)plan->packed + place, sums, slots);
}
