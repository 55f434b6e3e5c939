/* head.inc.h: what comes after the last layer: the output activation, the loss of each row, and the first deltas.
 *
 * Works on LANES rows at a time with the rows in the lanes, so that every sum within a row is one chain over its
 * columns: the same bits for any vector width, and one output costs no more than its share.
 */

/* p (columns, LANES): pre-activations become outputs */
static void NAME(activate_outputs)(int activation, int64_t columns, REAL *p) {
    if (activation != ACTIVATION_softmax) {
        NAME(activate_band)(activation, 1, columns * LANES, p, p);
        return;
    }
    VECTOR highest = NAME(load)(p), sum = ZERO;
    for (int64_t i = 1; i < columns; i++) {
        VECTOR z = NAME(load)(p + i * LANES);
        highest = NAME(select)(z > highest, z, highest);
    }
    for (int64_t i = 0; i < columns; i++) {
        VECTOR e = NAME(vector_exp)(NAME(load)(p + i * LANES) - highest);
        NAME(store)(p + i * LANES, e);
        sum = sum + e;
    }
    for (int64_t i = 0; i < columns; i++) NAME(store)(p + i * LANES, NAME(load)(p + i * LANES) / sum);
}

/* g (columns, LANES): gradient to the outputs p becomes gradient to the pre-activations */
static void NAME(pull_back_outputs)(int activation, int64_t columns, const REAL *p, REAL *g) {
    if (activation != ACTIVATION_softmax) {
        NAME(multiply_slope_band)(activation, 1, columns * LANES, NULL, p, g);
        return;
    }
    VECTOR sum = ZERO;
    for (int64_t i = 0; i < columns; i++) sum = FMA(NAME(load)(p + i * LANES), NAME(load)(g + i * LANES), sum);
    for (int64_t i = 0; i < columns; i++)
        NAME(store)(g + i * LANES, NAME(load)(p + i * LANES) * (NAME(load)(g + i * LANES) - sum));
}

/* The loss of LANES rows, from outputs p and targets y (columns, LANES), which become the deltas; a row of weight 0
 * counts as removed, whatever it holds. */
static VECTOR NAME(row_loss)(int loss, int64_t columns, const REAL *p, REAL *y, VECTOR weight, bool weighted) {
    VECTOR sum = ZERO;
    switch (loss) {
#define LOSS_CASE(name, output)                                                                  \
    case LOSS_##name:                                                                            \
        for (int64_t i = 0; i < columns; i++)                                                    \
            sum = sum + NAME(term_##name)(NAME(load)(y + i * LANES), NAME(load)(p + i * LANES)); \
        break;
        LOSS_ROWS(LOSS_CASE)
#undef LOSS_CASE
    }
    sum = sum * NAME(splat)(NAME(loss_factor)(loss, columns));
    for (int64_t i = 0; i < columns; i++) {
        VECTOR delta = NAME(load)(p + i * LANES) - NAME(load)(y + i * LANES);
        if (weighted) delta = NAME(select)(weight == ZERO, ZERO, delta * weight);
        NAME(store)(y + i * LANES, delta);
    }
    return weighted ? NAME(select)(weight == ZERO, ZERO, sum * weight) : sum;
}

/* Rows become lanes: (rows, columns) from rows `stride` apart, in bands `band` apart (BAND: a plain array), become
 * (columns, LANES); and the way back. */
static void NAME(gather_block)(int64_t rows, int64_t columns, const REAL *from, int64_t stride, int64_t band, REAL *to) {
    for (int64_t i = 0; i < columns; i += LANES)
        NAME(gather_columns)(rows, columns - i < LANES ? columns - i : LANES, from + NAME(place_of)(i, band), stride,
                             to + i * LANES);
}

static void NAME(scatter_block)(int64_t rows, int64_t columns, const REAL *from, REAL *to, int64_t stride, int64_t band) {
    for (int64_t i = 0; i < columns; i += LANES)
        NAME(scatter_columns)(rows, columns - i < LANES ? columns - i : LANES, from + i * LANES,
                              to + NAME(place_of)(i, band), stride);
}

/* Losses and first deltas of rows `row` .. `row + rows` of the block that starts at `block` in the batch.
 * scratch: (3 columns, LANES). */
static void NAME(head)(const pymlp_plan *plan, const struct batch *batch, int64_t block, int64_t row, int64_t rows,
                       REAL *scratch) {
    const struct layer *last = &plan->layers[plan->n_layers - 1];
    const struct buffer *buffer = &plan->buffers[last->output_buffer];
    const int64_t columns = last->outputs;
    REAL *p = scratch, *y = p + columns * LANES, *targets = y + columns * LANES;
    for (int64_t end = row + rows; row < end; row += LANES) {
        int64_t count = end - row < LANES ? end - row : LANES;
        NAME(gather_block)(count, columns, (const REAL *)buffer->outputs + row * BAND, BAND, buffer->band, p);
        NAME(activate_outputs)(last->activation, columns, p);
        if (batch->output_gradient != NULL) {
            NAME(gather_block)(count, columns, (const REAL *)batch->output_gradient + (block + row) * columns, columns,
                               BAND, y);
            NAME(pull_back_outputs)(last->activation, columns, p, y);
        } else {
            REAL weights[LANES] = {0};
            for (int64_t i = 0; i < count; i++) {
                int64_t number = batch->order == NULL ? block + row + i : batch->order[block + row + i];
                memcpy(targets + i * columns, (const REAL *)batch->y + number * columns, (size_t)columns * sizeof(REAL));
                if (batch->weight != NULL) weights[i] = ((const REAL *)batch->weight)[number];
            }
            NAME(gather_block)(count, columns, targets, columns, BAND, y);
            VECTOR losses = NAME(row_loss)(plan->loss, columns, p, y, NAME(load)(weights), batch->weight != NULL);
            /* not a whole vector: the rows after these may be another thread's */
            memcpy((REAL *)plan->row_losses + row, &losses, (size_t)count * sizeof(REAL));
        }
        NAME(scatter_block)(count, columns, y, (REAL *)buffer->deltas + row * BAND, BAND, buffer->band);
    }
}
