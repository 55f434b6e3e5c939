/* jacobian.inc.h: the derivative of inference: outputs, and what they change by with each input.
 *
 * A strip of rows goes forward by the layer kinds' own functions, with all kept that the way back needs, and then back
 * once for each column of the outputs.  A sweep over few rows would leave the tiles empty, so several columns go
 * together: what was kept of the rows is written again for each of them, and the sweep is over pairs of a column and a
 * row, column by column.  Each number is one chain over the outputs of a layer whatever the pairs beside it, so the
 * bits do not depend on how rows and columns are dealt out.
 */

/* What the threads of a call share. */
struct NAME(derivation) {
    const pymlp_plan *plan; /* with the transposes of all layers */
    char *scratch;          /* a piece for each thread */
    size_t scratch_bytes;
    const REAL *X;
    REAL *out, *jacobian; /* out: NULL where only the derivative is wanted */
    bool with_complement;
    int64_t rows, strip_rows, strips;
    int64_t group_columns, groups; /* columns of the outputs that go to one thread */
    int64_t pairs;                 /* at most, of a strip */
    atomic_llong next;
};

/* One thread's strip: `pairs` rows of every buffer, in bands. */
struct NAME(pairs) {
    const pymlp_plan *plan;
    REAL *numbers, *scalars, *head;
    int64_t pairs, rows; /* rows: of X, the first of the pairs */
};

ALWAYS_INLINE REAL *NAME(pairs_at)(const struct NAME(pairs) *all, int64_t row_numbers) {
    return all->numbers + all->pairs * row_numbers;
}

/* What layer `number` reads and writes of the first `rows` pairs. */
static struct NAME(strip) NAME(strip_of_pairs)(const struct NAME(pairs) *all, int64_t number, int64_t rows) {
    const pymlp_plan *plan = all->plan;
    const struct layer *layer = &plan->layers[number];
    const struct buffer *in = &plan->buffers[layer->input_buffer], *out = &plan->buffers[layer->output_buffer];
    const int64_t band = all->pairs * BAND;
    struct NAME(strip) strip = {.plan = plan,
                                .layer = layer,
                                .rows = rows,
                                .activated = number < plan->n_layers - 1,
                                .step = -1,
                                .in = NAME(pairs_at)(all, in->outputs_at),
                                .in_band = band,
                                .second_band = band,
                                .band = band,
                                .z = NAME(pairs_at)(all, out->inputs_at),
                                .a = NAME(pairs_at)(all, out->outputs_at),
                                .scalars = all->scalars + layer->scalars / plan->block_rows * all->pairs,
                                .deltas = NAME(pairs_at)(all, out->deltas_at),
                                .in_deltas = NAME(pairs_at)(all, in->deltas_at)};
    if (layer->second_buffer >= 0) {
        const struct buffer *second = &plan->buffers[layer->second_buffer];
        strip.second = NAME(pairs_at)(all, second->outputs_at);
        strip.second_deltas = NAME(pairs_at)(all, second->deltas_at);
    }
    return strip;
}

/* The outputs of the strip's rows, from their pre-activations; `out` (rows, columns) or NULL. */
static void NAME(finish_outputs)(const struct NAME(pairs) *all, bool with_complement, REAL *out) {
    const pymlp_plan *plan = all->plan;
    const struct layer *last = &plan->layers[plan->n_layers - 1];
    const struct buffer *buffer = &plan->buffers[plan->n_layers];
    const int64_t columns = last->outputs, width = with_complement ? 2 : columns, band = all->pairs * BAND;
    REAL *p = all->head;
    for (int64_t row = 0; row < all->rows; row += LANES) {
        const int64_t count = all->rows - row < LANES ? all->rows - row : LANES;
        NAME(gather_block)(count, columns, NAME(pairs_at)(all, buffer->inputs_at) + row * BAND, BAND, band, p);
        NAME(activate_outputs)(last->activation, plan->loss_group, columns, p);
        NAME(scatter_block)(count, columns, p, NAME(pairs_at)(all, buffer->outputs_at) + row * BAND, BAND, band);
        if (out == NULL) continue;
        if (with_complement) {
            NAME(store)(p + LANES, NAME(load)(p));
            NAME(store)(p, ONE - NAME(load)(p));
        }
        NAME(scatter_block)(count, width, p, out + row * width, width, BAND);
    }
}

/* What was kept of the rows is written again for `copies` - 1 further columns. */
static void NAME(repeat_rows)(const struct NAME(pairs) *all, int64_t copies) {
    const pymlp_plan *plan = all->plan;
    const int64_t numbers = all->rows * BAND, band = all->pairs * BAND;
    /* of the outputs the sweeps read the rows alone */
    for (int64_t b = 0; b < plan->n_layers; b++) {
        const struct buffer *buffer = &plan->buffers[b];
        /* outputs, and inputs where they are kept apart, lie one after the other */
        const int64_t end = buffer->deltas_at - buffer->outputs_at;
        for (int64_t at = 0; at < end; at += BAND) {
            REAL *rows = NAME(pairs_at)(all, buffer->outputs_at) + at / BAND * band;
            for (int64_t copy = 1; copy < copies; copy++)
                memcpy(rows + copy * numbers, rows, (size_t)numbers * sizeof(REAL));
        }
    }
    for (int64_t l = 0; l < plan->n_layers; l++) {
        const struct layer *layer = &plan->layers[l];
        if (layer->row_scalars == 0) continue;
        REAL *scalars = all->scalars + layer->scalars / plan->block_rows * all->pairs;
        const int64_t count = all->rows * layer->row_scalars;
        for (int64_t copy = 1; copy < copies; copy++)
            memcpy(scalars + copy * count, scalars, (size_t)count * sizeof(REAL));
    }
}

/* The deltas that output column `column` begins with, of the pairs from `place` on. */
static void NAME(begin_column)(const struct NAME(pairs) *all, int64_t column, int64_t place) {
    const pymlp_plan *plan = all->plan;
    const struct layer *last = &plan->layers[plan->n_layers - 1];
    const struct buffer *buffer = &plan->buffers[plan->n_layers];
    const int64_t columns = last->outputs, band = all->pairs * BAND;
    const int slope = pymlp_activation_rows[last->activation].slope;
    const bool needs_inputs = slope == SLOPE_FROM_INPUT || slope == ROW_WISE_FROM_INPUT;
    REAL *p = all->head, *z = p + columns * LANES, *g = z + columns * LANES;
    for (int64_t row = 0; row < all->rows; row += LANES) {
        const int64_t count = all->rows - row < LANES ? all->rows - row : LANES;
        NAME(gather_block)(count, columns, NAME(pairs_at)(all, buffer->outputs_at) + row * BAND, BAND, band, p);
        if (needs_inputs)
            NAME(gather_block)(count, columns, NAME(pairs_at)(all, buffer->inputs_at) + row * BAND, BAND, band, z);
        for (int64_t i = 0; i < columns; i++) NAME(store)(g + i * LANES, i == column ? ONE : ZERO);
        NAME(pull_back_outputs)(last->activation, plan->loss_group, columns, z, p, g);
        NAME(scatter_block)(count, columns, g, NAME(pairs_at)(all, buffer->deltas_at) + (place + row) * BAND, BAND, band);
    }
}

/* The deltas of the inputs of the pairs from `place` on are written as the derivatives of output column `column`. */
static void NAME(write_column)(const struct NAME(derivation) *call, const struct NAME(pairs) *all, int64_t first,
                               int64_t column, int64_t place) {
    const pymlp_plan *plan = all->plan;
    const int64_t inputs = plan->layers[0].inputs, columns = plan->layers[plan->n_layers - 1].outputs;
    const int64_t width = call->with_complement ? 2 : columns, band = all->pairs * BAND;
    const REAL *deltas = NAME(pairs_at)(all, plan->buffers[0].deltas_at) + place * BAND;
    for (int64_t row = 0; row < all->rows; row++, deltas += BAND) {
        REAL *to = call->jacobian + ((first + row) * width + (call->with_complement ? 1 : column)) * inputs;
        NAME(bands_to_rows)(1, inputs, deltas, band, to);
        /* 1 - p falls as p rises */
        if (call->with_complement)
            for (int64_t i = 0; i < inputs; i++) to[i - inputs] = -to[i];
    }
}

/* One strip of rows and one group of columns. */
static void NAME(differentiate_strip)(const struct NAME(derivation) *call, int64_t strip, int64_t group, char *scratch) {
    const pymlp_plan *plan = call->plan;
    const int64_t first = strip * call->strip_rows, first_column = group * call->group_columns;
    const int64_t columns = plan->layers[plan->n_layers - 1].outputs, width = call->with_complement ? 2 : columns;
    const int64_t end = first_column + call->group_columns < columns ? first_column + call->group_columns : columns;
    struct NAME(pairs) all = {.plan = plan, .numbers = (REAL *)scratch};
    all.rows = call->rows - first < call->strip_rows ? call->rows - first : call->strip_rows;
    /* columns that go together */
    int64_t together = call->pairs / all.rows;
    together = together < 1 ? 1 : together > end - first_column ? end - first_column : together;
    all.pairs = all.rows * together;
    all.scalars = all.numbers + all.pairs * plan->row_numbers;
    all.head = all.scalars + all.pairs * plan->n_scalars;
    NAME(rows_to_bands)(all.rows, plan->layers[0].inputs, call->X, NULL, first, all.numbers, all.pairs * BAND);
    for (int64_t l = 0; l < plan->n_layers; l++) {
        const struct NAME(strip) layer = NAME(strip_of_pairs)(&all, l, all.rows);
        NAME(layer_kinds)[layer.layer->kind].forward(&layer);
    }
    REAL *out = call->out == NULL || group > 0 ? NULL : call->out + first * width;
    NAME(finish_outputs)(&all, call->with_complement, out);
    NAME(repeat_rows)(&all, together);
    for (int64_t column = first_column; column < end; column += together) {
        const int64_t count = end - column < together ? end - column : together;
        for (int64_t i = 0; i < count; i++) NAME(begin_column)(&all, column + i, i * all.rows);
        for (int64_t l = plan->n_layers - 1; l >= 0; l--) {
            const struct NAME(strip) layer = NAME(strip_of_pairs)(&all, l, count * all.rows);
            NAME(layer_kinds)[layer.layer->kind].backward(&layer);
        }
        for (int64_t i = 0; i < count; i++) NAME(write_column)(call, &all, first, column + i, i * all.rows);
    }
}

static void NAME(derivation_work)(void *context, int index, UNREAD int members) {
    struct NAME(derivation) *call = context;
    __typeof__(SAVE_FLOAT_MODE()) mode = SAVE_FLOAT_MODE();
    char *scratch = call->scratch + (size_t)index * call->scratch_bytes;
    int64_t item;
    while ((item = atomic_fetch_add(&call->next, 1)) < call->strips * call->groups)
        NAME(differentiate_strip)(call, item / call->groups, item % call->groups, scratch);
    RESTORE_FLOAT_MODE(mode);
}

static void NAME(transpose)(const pymlp_plan *plan) { NAME(transpose_weights)(plan, 0, plan->n_units, true); }

static void NAME(differentiate)(const pymlp_plan *plan, void *scratch, int64_t pairs, const void *X, int64_t rows,
                                void *out, void *jacobian, bool with_complement, int n_threads) {
    const int64_t columns = plan->layers[plan->n_layers - 1].outputs;
    struct NAME(derivation) call = {.plan = plan,
                                    .scratch = scratch,
                                    .scratch_bytes = (size_t)pymlp_derivation_bytes(plan, pairs),
                                    .X = X,
                                    .out = out,
                                    .jacobian = jacobian,
                                    .with_complement = with_complement,
                                    .rows = rows,
                                    .pairs = pairs,
                                    .group_columns = columns,
                                    .groups = 1};
    if (rows == 0) return;
    const int members = pymlp_team_begin(n_threads);
    call.strips = (rows + pairs - 1) / pairs;
    /* the same number for each thread, where they are few; of fewer rows than threads each takes some columns */
    if (call.strips < 8 * members) call.strips = (call.strips + members - 1) / members * members;
    call.strip_rows = (rows + call.strips - 1) / call.strips;
    call.strips = (rows + call.strip_rows - 1) / call.strip_rows;
    if (call.strips < members && columns > 1) {
        call.groups = (members + call.strips - 1) / call.strips;
        call.group_columns = (columns + call.groups - 1) / call.groups;
        call.groups = (columns + call.group_columns - 1) / call.group_columns;
    }
    pymlp_team_run(members, NAME(derivation_work), &call);
    pymlp_team_end(members);
}
