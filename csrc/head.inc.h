/* head.inc.h: what comes after the last layer: the output activation, the loss of each row, and the first deltas.  Deltas of
 * a loss that is defined by its outputs go back through the output activation here.
 *
 * Works on LANES rows at a time with the rows in the lanes, so that every sum within a row is one chain over its
 * columns: the same bits for any vector width, and one output costs no more than its share.
 */

/* standard deviation = softplus + this, so that its logarithm and reciprocal stay finite */
#define LEAST_DEVIATION NAME(splat)(BY_TYPE(1e-6f, 1e-6))

/* p (columns, LANES): pre-activations become outputs; columns belong together in groups of `group` */
static void NAME(activate_outputs)(int activation, int group, int64_t columns, REAL *p) {
    switch (activation) {
        case ACTIVATION_softmax: break;
        case ACTIVATION_ascending:
            for (int64_t i = 0; i < columns; i++)
                if (i % group != 0)
                    NAME(store)(p + i * LANES, NAME(load)(p + (i - 1) * LANES) +
                                                   NAME(vector_softplus)(NAME(load)(p + i * LANES)));
            return;
        case ACTIVATION_mean_deviation:
            for (int64_t i = 1; i < columns; i += 2)
                NAME(store)(p + i * LANES, NAME(vector_softplus)(NAME(load)(p + i * LANES)) + LEAST_DEVIATION);
            return;
        default: NAME(activate_band)(activation, 1, columns * LANES, p, p); return;
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

/* g (columns, LANES): gradient to the outputs p becomes gradient to the pre-activations z, which are read only where the
 * activation's row says so */
static void NAME(pull_back_outputs)(int activation, int group, int64_t columns, const REAL *z, const REAL *p, REAL *g) {
    VECTOR sum = ZERO;
    switch (activation) {
        case ACTIVATION_softmax:
            for (int64_t i = 0; i < columns; i++) sum = FMA(NAME(load)(p + i * LANES), NAME(load)(g + i * LANES), sum);
            for (int64_t i = 0; i < columns; i++)
                NAME(store)(g + i * LANES, NAME(load)(p + i * LANES) * (NAME(load)(g + i * LANES) - sum));
            return;
        case ACTIVATION_ascending:
            /* a step moves its output and all above it */
            for (int64_t i = columns - 1; i >= 0; i--) {
                sum = (i + 1) % group == 0 ? NAME(load)(g + i * LANES) : sum + NAME(load)(g + i * LANES);
                NAME(store)(g + i * LANES, i % group == 0 ? sum : sum * NAME(vector_logistic)(NAME(load)(z + i * LANES)));
            }
            return;
        case ACTIVATION_mean_deviation:
            for (int64_t i = 1; i < columns; i += 2)
                NAME(store)(g + i * LANES, NAME(load)(g + i * LANES) * NAME(vector_logistic)(NAME(load)(z + i * LANES)));
            return;
        default: NAME(multiply_slope_band)(activation, 1, columns * LANES, z, p, g);
    }
}

/* y (columns, LANES): `part` of each row's probability is spread over all classes */
static void NAME(smooth_targets)(double part, int64_t classes, int64_t columns, REAL *y) {
    const VECTOR kept = NAME(splat)((REAL)(1 - part)), spread = NAME(splat)((REAL)(part / (double)classes));
    for (int64_t i = 0; i < columns; i++) NAME(store)(y + i * LANES, NAME(load)(y + i * LANES) * kept + spread);
}

/* The negative logarithm of the normal density; y becomes the gradient by the outputs. */
static VECTOR NAME(gaussian_nll)(int64_t columns, const REAL *p, REAL *y) {
    VECTOR sum = ZERO, half = NAME(splat)(0.5f), constant = NAME(splat)(BY_TYPE(0.9189385332046727f, 0.9189385332046727));
    for (int64_t i = 0; i + 1 < columns; i += 2) {
        VECTOR deviation = NAME(load)(p + (i + 1) * LANES);
        VECTOR distance = (NAME(load)(y + i * LANES) - NAME(load)(p + i * LANES)) / deviation;
        sum = sum + (FMA(half * distance, distance, NAME(vector_log)(deviation)) + constant);
        NAME(store)(y + i * LANES, -distance / deviation);
        NAME(store)(y + (i + 1) * LANES, FMA(-distance, distance, ONE) / deviation);
    }
    return sum;
}

/* The loss of LANES rows, from outputs p and targets y (columns, LANES), which become the deltas that the loss's row
 * names. */
static VECTOR NAME(row_loss)(const pymlp_plan *plan, int64_t columns, const REAL *p, REAL *y) {
    const double *numbers = plan->loss_numbers;
    VECTOR sum = ZERO;
    if (plan->loss == LOSS_log_loss && numbers[0] != 0) NAME(smooth_targets)(numbers[0], columns, columns, y);
    if (plan->loss == LOSS_binary_log_loss && numbers[0] != 0) NAME(smooth_targets)(numbers[0], 2, columns, y);
    switch (plan->loss) {
#define LOSS_CASE(name, output, n_numbers, delta)                                                            \
    case LOSS_##name:                                                                                        \
        for (int64_t i = 0; i < columns; i++) {                                                              \
            VECTOR target = NAME(load)(y + i * LANES), value = NAME(load)(p + i * LANES), c = ZERO;          \
            if ((n_numbers) != 0) c = NAME(splat)((REAL)numbers[(n_numbers) > 0 ? 0 : i % plan->loss_group]); \
            sum = sum + NAME(term_##name)(target, value, c);                                                 \
            NAME(store)(y + i * LANES, NAME(delta_##name)(target, value, c));                                \
        }                                                                                                    \
        break;
        TERM_LOSS_ROWS(LOSS_CASE)
#undef LOSS_CASE
        case LOSS_gaussian_nll: return NAME(gaussian_nll)(columns, p, y);
    }
    return sum * NAME(splat)(NAME(loss_factor)(plan->loss, columns));
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

/* A loss of one's own for `count` rows, from outputs p (columns, LANES) and targets (count, columns); y becomes the gradient
 * by the outputs (columns, LANES).  plain: room for the outputs, and for the gradient, as rows. */
static VECTOR NAME(compiled_loss)(const pymlp_plan *plan, int64_t count, int64_t columns, const REAL *p,
                                  const REAL *targets, REAL *y, REAL *plain) {
    void (*function)(int64_t, int64_t, const REAL *, const REAL *, REAL *, REAL *);
    memcpy(&function, &plan->loss_function, sizeof function);
    REAL values[LANES] = {0};
    NAME(scatter_block)(count, columns, p, y, columns, BAND);
    function(count, columns, targets, y, values, plain);
    NAME(gather_block)(count, columns, plain, columns, BAND, y);
    return NAME(load)(values);
}

/* y (columns, LANES): deltas of the kind that the loss's row names become gradient to the pre-activations. */
static void NAME(pull_back_deltas)(const pymlp_plan *plan, int64_t columns, const REAL *z, const REAL *p, REAL *y) {
    const int kind = pymlp_loss_rows[plan->loss].delta;
    if (kind == DELTA_BY_OUTPUT)
        NAME(pull_back_outputs)(plan->layers[plan->n_layers - 1].activation, plan->loss_group, columns, z, p, y);
    if (kind == DELTA_BY_LOGARITHM) {
        VECTOR sum = ZERO;
        for (int64_t i = 0; i < columns; i++) sum = sum + NAME(load)(y + i * LANES);
        for (int64_t i = 0; i < columns; i++)
            NAME(store)(y + i * LANES, FMA(-NAME(load)(p + i * LANES), sum, NAME(load)(y + i * LANES)));
    }
}

/* Losses and deltas y (columns, LANES) of rows times their weights; a row of weight 0 counts as removed, whatever it holds.  On
 * its own, because gcc 12 fails with an internal error where it is inlined. */
static __attribute__((noinline)) VECTOR NAME(weigh)(int64_t columns, VECTOR weight, VECTOR losses, REAL *y) {
    const INTEGERS removed = weight == ZERO;
    for (int64_t i = 0; i < columns; i++)
        NAME(store)(y + i * LANES, NAME(select)(removed, ZERO, NAME(load)(y + i * LANES) * weight));
    return NAME(select)(removed, ZERO, losses * weight);
}

/* Losses and first deltas of rows `row` .. `row + rows` of the block that starts at `block` in the batch.
 * scratch: (HEAD_PIECES columns, LANES). */
static void NAME(head)(const pymlp_plan *plan, const struct batch *batch, int64_t block, int64_t row, int64_t rows,
                       REAL *scratch) {
    const struct layer *last = &plan->layers[plan->n_layers - 1];
    const struct buffer *buffer = &plan->buffers[last->output_buffer];
    const int64_t columns = last->outputs;
    const int slope = pymlp_activation_rows[last->activation].slope;
    const bool needs_inputs = (slope == SLOPE_FROM_INPUT || slope == ROW_WISE_FROM_INPUT) &&
                              (batch->output_gradient != NULL || pymlp_loss_rows[plan->loss].delta == DELTA_BY_OUTPUT);
    const bool weighted = batch->weight != NULL;
    REAL *p = scratch, *y = p + columns * LANES, *targets = y + columns * LANES, *plain = targets + columns * LANES;
    for (int64_t end = row + rows; row < end; row += LANES) {
        int64_t count = end - row < LANES ? end - row : LANES;
        const REAL *inputs = (const REAL *)buffer->inputs + row * BAND;
        NAME(gather_block)(count, columns, inputs, BAND, buffer->band, p);
        NAME(activate_outputs)(last->activation, plan->loss_group, columns, p);
        if (batch->output_gradient != NULL) {
            NAME(gather_block)(count, columns, (const REAL *)batch->output_gradient + (block + row) * columns, columns,
                               BAND, y);
            if (needs_inputs) NAME(gather_block)(count, columns, inputs, BAND, buffer->band, targets);
            NAME(pull_back_outputs)(last->activation, plan->loss_group, columns, targets, p, y);
        } else {
            REAL weights[LANES] = {0};
            for (int64_t i = 0; i < count; i++) {
                int64_t number = batch->order == NULL ? block + row + i : batch->order[block + row + i];
                const REAL *target = (const REAL *)batch->y + number * columns;
                /* a single number takes less time than the call that copies it */
                if (columns == 1)
                    targets[i] = *target;
                else
                    memcpy(targets + i * columns, target, (size_t)columns * sizeof(REAL));
                if (weighted) weights[i] = ((const REAL *)batch->weight)[number];
            }
            VECTOR losses;
            if (plan->loss == LOSS_compiled) {
                losses = NAME(compiled_loss)(plan, count, columns, p, targets, y, plain);
            } else {
                NAME(gather_block)(count, columns, targets, columns, BAND, y);
                losses = NAME(row_loss)(plan, columns, p, y);
            }
            if (needs_inputs) NAME(gather_block)(count, columns, inputs, BAND, buffer->band, targets);
            NAME(pull_back_deltas)(plan, columns, targets, p, y);
            if (weighted) losses = NAME(weigh)(columns, NAME(load)(weights), losses, y);
            /* not a whole vector: the rows after these may be another thread's */
            memcpy((REAL *)plan->row_losses + row, &losses, (size_t)count * sizeof(REAL));
        }
        NAME(scatter_block)(count, columns, y, (REAL *)buffer->deltas + row * BAND, BAND, buffer->band);
    }
}
