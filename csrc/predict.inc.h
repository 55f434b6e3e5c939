/* predict.inc.h: inference: the only way forward through all layers, behind Plan.forward and the predictor.
 *
 * Three ways to deal out the work, with the same bits, because each element is one chain over the inputs in any of them:
 *   one row      a vector walks through the layers; several panels at a time, or the chains would wait for each other
 *   few rows     each thread takes a share of a layer's panels, so that the weights are read once by all threads
 *                together; a barrier after each layer
 *   many rows    each thread takes strips of rows and carries them through all layers, as in phase 1 of a step
 */

/* What the threads of a call share. */
struct NAME(prediction) {
    pymlp_plan *plan;
    const REAL *params; /* flat vector to pack first; NULL: packed already */
    char *scratch;      /* a piece of plan->scratch_bytes for each thread */
    const struct batch *batch; /* its rows, and what masks depend on; step < 0: inference */
    REAL *out;
    int64_t rows, strip_rows, strips;
    bool with_complement, by_columns;
    atomic_llong next_strip;
    atomic_bool stopped;
};

/* One of a thread's pieces of memory for the activations of a strip; before them lies room for output columns. */
ALWAYS_INLINE REAL *NAME(strip_of)(const pymlp_plan *plan, char *scratch, int thread, int number) {
    REAL *own = (REAL *)(scratch + (size_t)thread * plan->scratch_bytes);
    return own + HEAD_PIECES * plan->layers[plan->n_layers - 1].outputs * LANES + number * plan->strip_numbers;
}

/* panels whose chains one row carries at the same time: 8 vectors hide the latency of two units */
enum { NAME(ROW_PANELS) = 8 / TILE_VECTORS };

/* The first `vectors` (at most 8) vectors of one row of bias + A B; panels of B are `b_panel` apart, their rows `pitch`. */
ALWAYS_INLINE void NAME(row_product)(const int vectors, int64_t depth, const REAL *a, const REAL *b, int64_t b_panel,
                                     int64_t pitch, const REAL *bias, REAL *z) {
    VECTOR sums[8];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) sums[v] = NAME(load)(bias + v * LANES);
    for (int64_t k = 0; k < depth; k++) {
        const VECTOR left = NAME(splat)(a[k]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            const REAL *right = b + v / TILE_VECTORS * b_panel + v % TILE_VECTORS * LANES;
            sums[v] = FMA(left, NAME(load)(right + k * pitch), sums[v]);
        }
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) NAME(store)(z + v * LANES, sums[v]);
}

/* dense_forward for one row, whose bands then lie one after the other: a plain vector. */
static void NAME(dense_row)(const pymlp_plan *plan, const struct layer *layer, const REAL *in,
                            UNREAD const REAL *second, REAL *out, bool activated) {
    const REAL *weight = (const REAL *)plan->packed + layer->packed_weight;
    const REAL *bias = (const REAL *)plan->packed + layer->packed_bias;
    const int64_t depth = layer->inputs, b_panel = layer->panel_size;
    int64_t vectors = (layer->outputs + LANES - 1) / LANES;
    REAL *z = out;
    for (; vectors >= 8; vectors -= 8) {
        NAME(row_product)(8, depth, in, weight, b_panel, PANEL, bias, z);
        weight += NAME(ROW_PANELS) * b_panel, bias += 8 * LANES, z += 8 * LANES;
    }
    switch (vectors) {
#define ROW_CASE(count)                                                               \
    case count:                                                                       \
        NAME(row_product)(count, depth, in, weight, b_panel, layer->pitch, bias, z);  \
        break;
        ROW_CASE(1) ROW_CASE(2) ROW_CASE(3) ROW_CASE(4) ROW_CASE(5) ROW_CASE(6) ROW_CASE(7)
#undef ROW_CASE
    }
    if (activated) NAME(activate_band)(layer->activation, 1, (layer->outputs + LANES - 1) / LANES * LANES, out, out);
}

/* One row through a kind that has no shorter way */
static void NAME(any_row)(const pymlp_plan *plan, const struct layer *layer, const REAL *in, const REAL *second,
                          REAL *out, bool activated) {
    const struct NAME(strip) strip = {.plan = plan, .layer = layer, .rows = 1, .activated = activated, .step = -1,
                                      .in = in, .second = second, .in_band = BAND, .second_band = BAND, .band = BAND,
                                      .z = out, .a = out};
    NAME(layer_kinds)[layer->kind].forward(&strip);
}

typedef void NAME(row_function)(const pymlp_plan *plan, const struct layer *layer, const REAL *in, const REAL *second,
                                REAL *out, bool activated);
#define ROW_FUNCTION(name, matrix, vectors, scalars, nature, gradient, row) NAME(row),
static NAME(row_function) *const NAME(row_functions)[N_LAYER_KINDS] = {LAYER_KIND_ROWS(ROW_FUNCTION)};

/* Whether a layer is left out */
ALWAYS_INLINE bool NAME(is_skipped)(const struct layer *layer, int64_t step) {
    return step < 0 && pymlp_layer_kind_rows[layer->kind].nature & TRAINS_ONLY;
}

/* One layer of a few rows from `first` on, in bands `band` apart. */
static void NAME(layer_forward)(const struct NAME(prediction) *call, const struct layer *layer, int64_t first,
                                int64_t rows, const REAL *in, const REAL *second, REAL *out, int64_t band) {
    const pymlp_plan *plan = call->plan;
    const bool activated = layer->output_buffer < plan->n_layers;
    const bool sparse = call->batch->columns != NULL;
    if (rows == 1 && call->batch->step < 0 && !sparse) {
        NAME(row_functions)[layer->kind](plan, layer, in, second, out, activated);
        return;
    }
    const struct NAME(strip) strip = {.plan = plan, .layer = layer, .rows = rows, .activated = activated,
                                      .step = call->batch->step, .first_row = call->batch->row_offset + first,
                                      .batch = call->batch, .batch_row = first, .in = in, .second = second,
                                      .in_band = band, .second_band = band, .band = band, .z = out, .a = out};
    NAME(functions_of)(layer, sparse)->forward(&strip);
}

/* activate_outputs for one row z, whose columns lie in the lanes; every sum is the chain over the columns that it is
 * there. */
static void NAME(activate_row)(int activation, int group, int64_t columns, REAL *z) {
    const int64_t whole = (columns + LANES - 1) / LANES * LANES;
    switch (activation) {
        case ACTIVATION_identity: return;
        case ACTIVATION_softmax: {
            REAL highest = z[0], sum = 0;
            for (int64_t i = 1; i < columns; i++) highest = z[i] > highest ? z[i] : highest;
            for (int64_t i = 0; i < columns; i += LANES)
                NAME(store)(z + i, NAME(vector_exp)(NAME(load)(z + i) - NAME(splat)(highest)));
            for (int64_t i = 0; i < columns; i++) sum = sum + z[i];
            for (int64_t i = 0; i < columns; i += LANES) NAME(store)(z + i, NAME(load)(z + i) / NAME(splat)(sum));
            return;
        }
        case ACTIVATION_ascending:
        case ACTIVATION_mean_deviation:
            for (int64_t first = 0; first < columns; first += LANES) {
                REAL steps[LANES];
                const int64_t end = columns - first < LANES ? columns : first + LANES;
                VECTOR step = NAME(vector_softplus)(NAME(load)(z + first));
                if (activation == ACTIVATION_mean_deviation) step = step + LEAST_DEVIATION;
                NAME(store)(steps, step);
                for (int64_t i = first; i < end; i++) {
                    if (activation == ACTIVATION_mean_deviation)
                        z[i] = i % 2 == 1 ? steps[i - first] : z[i];
                    else
                        z[i] = i % group == 0 ? z[i] : z[i - 1] + steps[i - first];
                }
            }
            return;
        default: NAME(activate_band)(activation, 1, whole, z, z);
    }
}

/* Writes one row of output pre-activations z as outputs; `columns` numbers, or the two of with_complement. */
static void NAME(write_row)(int activation, int group, int64_t columns, bool with_complement, REAL *z, REAL *out) {
    NAME(activate_row)(activation, group, columns, z);
    if (with_complement) {
        out[0] = 1 - z[0];
        out[1] = z[0];
        return;
    }
    int64_t i = 0;
    for (; i + LANES <= columns; i += LANES) NAME(store)(out + i, NAME(load)(z + i));
    for (; i < columns; i++) out[i] = z[i];
}

/* The general way below for LANES rows of a vector each, where the vectors written may run over their rows' ends. */
static void NAME(write_square)(int activation, int group, int64_t columns, const REAL *z, REAL *out, REAL *scratch) {
    VECTOR square[LANES];
#pragma GCC unroll 16
    for (int row = 0; row < LANES; row++) square[row] = NAME(load)(z + row * BAND);
    NAME(transpose_square)(square);
#pragma GCC unroll 16
    for (int column = 0; column < LANES; column++)
        if (column < columns) NAME(store)(scratch + column * LANES, square[column]);
    NAME(activate_outputs)(activation, group, columns, scratch);
#pragma GCC unroll 16
    for (int column = 0; column < LANES; column++)
        square[column] = column < columns ? NAME(load)(scratch + column * LANES) : ZERO;
    NAME(transpose_square)(square);
    /* in their order, so that what runs over is written again */
#pragma GCC unroll 16
    for (int row = 0; row < LANES; row++) NAME(store)(out + row * columns, square[row]);
}

/* Pre-activations of the output layer, in bands, become outputs in the plain array `out`, from row `first` on. */
static void NAME(write_outputs)(const struct NAME(prediction) *call, int64_t first, int64_t rows, REAL *z, int64_t band,
                                int thread) {
    const struct layer *last = &call->plan->layers[call->plan->n_layers - 1];
    const int64_t columns = last->outputs, width = call->with_complement ? 2 : columns;
    const int group = call->plan->loss_group;
    REAL *out = call->out + first * width;
    if (rows == 1) {
        NAME(write_row)(last->activation, group, columns, call->with_complement, z, out);
        return;
    }
    /* rows after which as many numbers of these rows are still to come as a vector may run over */
    const int64_t spill = (columns + LANES - 1) / LANES * LANES - columns, free = rows - (spill + width - 1) / width;
    if (last->activation == ACTIVATION_identity && !call->with_complement) {
        int64_t row = 0;
        for (; row < free; row++, out += width)
            for (int64_t i = 0; i < columns; i += LANES)
                NAME(store)(out + i, NAME(load)(z + row * BAND + NAME(place_of)(i, band)));
        NAME(bands_to_rows)(rows - row, columns, z + row * BAND, band, out);
        return;
    }
    REAL *scratch = (REAL *)(call->scratch + (size_t)thread * call->plan->scratch_bytes);
    for (int64_t row = 0; row < rows; row += LANES, out += LANES * width) {
        int64_t count = rows - row < LANES ? rows - row : LANES;
        if (row + LANES <= free && 4 < columns && columns <= LANES) {
            NAME(write_square)(last->activation, group, columns, z + row * BAND, out, scratch);
            continue;
        }
        NAME(gather_block)(count, columns, z + row * BAND, BAND, band, scratch);
        NAME(activate_outputs)(last->activation, group, columns, scratch);
        if (call->with_complement) {
            NAME(store)(scratch + LANES, NAME(load)(scratch));
            NAME(store)(scratch, ONE - NAME(load)(scratch));
        }
        NAME(scatter_block)(count, width, scratch, out, width, BAND);
    }
}

/* rows_to_bands for rows `first` on of the call, in whole vectors, which end within the next rows: a copy of each row by
 * its size costs more than a narrow layer.  Only at the end of X is nothing behind a row. */
static void NAME(take_rows)(const struct NAME(prediction) *call, int64_t first, int64_t rows, REAL *to, int64_t band) {
    const REAL *X = call->batch->X;
    const int64_t width = call->plan->layers[0].inputs, left = (call->rows - first) * width;
    const int64_t whole = (width + LANES - 1) / LANES * LANES, safe = left < whole ? 0 : (left - whole) / width + 1;
    const int64_t fast = safe < rows ? safe : rows;
    for (int64_t row = 0; row < fast; row++) {
        const REAL *source = X + (first + row) * width;
        REAL *target = to + row * BAND;
        for (int64_t column = 0; column < width; column += BAND, target += band)
            for (int64_t i = 0; i < BAND && column + i < width; i += LANES)
                NAME(store)(target + i, NAME(load)(source + column + i));
    }
    NAME(rows_to_bands)(rows - fast, width, X, NULL, first + fast, to + fast * BAND, band);
}

/* Carries `rows` rows from `first` on through all layers. */
static void NAME(predict_strip)(const struct NAME(prediction) *call, int64_t first, int64_t rows, int thread) {
    const pymlp_plan *plan = call->plan;
    const int64_t band = rows * BAND;
    REAL *const strips = NAME(strip_of)(plan, call->scratch, thread, 0), *out = strips;
    if (call->batch->columns == NULL) NAME(take_rows)(call, first, rows, strips, band);
    for (int64_t l = 0; l < plan->n_layers; l++) {
        const struct layer *layer = &plan->layers[l];
        const struct places *places = &layer->places[call->batch->step >= 0];
        if (NAME(is_skipped)(layer, call->batch->step)) continue;
        /* the inputs are in the first piece */
        const REAL *in = strips + (places->source == INPUTS ? 0 : places->source) * plan->strip_numbers;
        const REAL *second = strips + (places->second == INPUTS ? 0 : places->second) * plan->strip_numbers;
        out = strips + places->output * plan->strip_numbers;
        NAME(layer_forward)(call, layer, first, rows, in, second, out, band);
    }
    NAME(write_outputs)(call, first, rows, out, band, thread);
}

/* All rows of the call at once, each thread with its share of every layer's columns; true if told to stop. */
static bool NAME(predict_by_columns)(const struct NAME(prediction) *call, int index, int members) {
    const pymlp_plan *plan = call->plan;
    const int64_t rows = call->rows, band = rows * BAND;
    REAL *const strips = NAME(strip_of)(plan, call->scratch, 0, 0), *out = strips;
    const REAL *inputs = call->batch->X;
    if (rows > 1 || plan->copies_inputs) {
        /* each for itself: a barrier costs more than to copy a few rows */
        REAL *own = NAME(strip_of)(plan, call->scratch, index, 0);
        NAME(take_rows)(call, 0, rows, own, band);
        inputs = own;
    }
    for (int64_t l = 0; l < plan->n_layers; l++) {
        struct layer part = plan->layers[l];
        const struct places *places = &part.places[0];
        if (NAME(is_skipped)(&part, -1)) continue;
        const REAL *in = places->source == INPUTS ? inputs : strips + places->source * plan->strip_numbers;
        const REAL *second = places->second == INPUTS ? inputs : strips + places->second * plan->strip_numbers;
        out = strips + places->output * plan->strip_numbers;
        /* whole bands, because two threads must not write to one cache line */
        const int64_t bands = (part.outputs + BAND - 1) / BAND;
        const int64_t column = bands * index / members * BAND, end = bands * (index + 1) / members * BAND;
        const int64_t place = NAME(place_of)(column, band);
        part.packed_weight += column / PANEL * part.panel_size;
        part.packed_bias += column;
        part.outputs = (end < part.outputs ? end : part.outputs) - column;
        if (pymlp_layer_kind_rows[part.kind].nature & SAME_COLUMNS) in += place;
        if (part.outputs > 0) NAME(layer_forward)(call, &part, 0, rows, in, second + place, out + place, band);
        if (pymlp_team_barrier(members, &plan->stop)) return true;
    }
    if (index == 0) NAME(write_outputs)(call, 0, rows, out, band, 0);
    return false;
}

static void NAME(prediction_work)(void *context, int index, int members) {
    struct NAME(prediction) *call = context;
    pymlp_plan *plan = call->plan;
    __typeof__(SAVE_FLOAT_MODE()) mode = SAVE_FLOAT_MODE();
    bool stopped = false;
    if (call->params != NULL) {
        NAME(repack)(plan, index, members, (REAL *)call->params, plan->packed, false);
        stopped = pymlp_team_barrier(members, &plan->stop);
    }
    if (call->by_columns && !stopped) {
        stopped = NAME(predict_by_columns)(call, index, members);
    } else if (!stopped) {
        int64_t strip;
        /* who is done takes the next strip: a thread that lost its core for a while holds up nobody else */
        while (!stopped && (strip = atomic_fetch_add(&call->next_strip, 1)) < call->strips) {
            const int64_t first = strip * call->strip_rows, rest = call->rows - first;
            NAME(predict_strip)(call, first, rest < call->strip_rows ? rest : call->strip_rows, index);
            stopped = atomic_load_explicit(&plan->stop, memory_order_relaxed) != 0;
        }
    }
    if (stopped) atomic_store(&call->stopped, true);
    RESTORE_FLOAT_MODE(mode);
}

/* Most rows of a strip: its activations should stay in the caches nearby, its tiles be whole, and its bands not begin at the
 * same places of their pages.  Of layers wider than 512 the weights come from afar, and should serve many rows. */
static int64_t NAME(prediction_rows)(const pymlp_plan *plan) {
    const int64_t fit = 262144 / (int64_t)sizeof(REAL) / (plan->widest < 512 ? plan->widest : 512);
    const int64_t rows = (fit < plan->prediction_rows ? fit : plan->prediction_rows) / TILE_ROWS * TILE_ROWS;
    return rows % 16 == 0 ? rows - TILE_ROWS : rows;
}

static int NAME(run_prediction)(struct NAME(prediction) *call, int n_threads) {
    pymlp_plan *plan = call->plan;
    const int members = pymlp_team_begin(n_threads);
    call->by_columns = members > 1 && call->rows <= members * TILE_ROWS && call->rows <= plan->prediction_rows &&
                       plan->splits_columns && call->batch->step < 0 && call->batch->columns == NULL;
    const int64_t most = NAME(prediction_rows)(plan);
    int64_t strips = (call->rows + most - 1) / most;
    /* the same number for each thread, where they are few */
    if (strips < 8 * members) strips = (strips + members - 1) / members * members;
    const int64_t share = strips > 0 ? (call->rows + strips - 1) / strips : 0;
    call->strip_rows = (share + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    call->strips = share > 0 ? (call->rows + call->strip_rows - 1) / call->strip_rows : 0;
    pymlp_team_run(members, NAME(prediction_work), call);
    pymlp_team_end(members);
    if (!atomic_load(&call->stopped)) return PYMLP_OK;
    atomic_store(&plan->stop, 0);
    return PYMLP_STOPPED;
}

static int NAME(forward)(pymlp_plan *plan, const void *params, const struct batch *batch, void *out) {
    struct NAME(prediction) call = {.plan = plan,
                                    .params = params,
                                    .batch = batch,
                                    .scratch = plan->scratch,
                                    .out = out,
                                    .rows = batch->rows};
    return NAME(run_prediction)(&call, pymlp_threads_for(plan, pymlp_row_work(plan, batch->rows)));
}

static void NAME(pack)(pymlp_plan *plan, const void *params) {
    NAME(repack)(plan, 0, 1, (REAL *)params, plan->packed, false);
}

/* One row on the calling thread, by the shortest way: what is left out takes as long as a small network.
 * scratch: the widest layer, as often as there are strips. */
static void NAME(predict_row)(const pymlp_plan *plan, void *scratch, const void *X, void *out, bool with_complement) {
    __typeof__(SAVE_FLOAT_MODE()) mode = SAVE_FLOAT_MODE();
    REAL *const rows = scratch, *z = rows;
    const struct layer *layer = plan->layers, *last = layer + plan->n_layers - 1;
    const REAL *inputs = X;
    if (plan->copies_inputs) inputs = memcpy(rows, X, (size_t)layer->inputs * sizeof(REAL));
    for (int64_t l = 0; l < plan->n_layers; l++, layer++) {
        const struct places *places = &layer->places[0];
        if (NAME(is_skipped)(layer, -1)) continue;
        z = rows + places->output * plan->widest;
        NAME(row_functions)[layer->kind](
            plan, layer, places->source == INPUTS ? inputs : rows + places->source * plan->widest,
            places->second == INPUTS ? inputs : rows + places->second * plan->widest, z, layer != last);
    }
    NAME(write_row)(last->activation, plan->loss_group, last->outputs, with_complement, z, out);
    RESTORE_FLOAT_MODE(mode);
}

static int NAME(predict)(pymlp_plan *plan, void *scratch, const struct batch *batch, void *out, bool with_complement,
                         int n_threads) {
    struct NAME(prediction) call = {.plan = plan, .batch = batch, .scratch = scratch, .out = out, .rows = batch->rows,
                                    .with_complement = with_complement};
    return NAME(run_prediction)(&call, n_threads);
}
