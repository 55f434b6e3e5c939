/* sparse.inc.h: the layer kind "sparse_dense": what "dense" computes, where a call gives the network's inputs by their numbers
 * that are not 0 alone (struct batch, columns).
 *
 * An element of a product is the same chain of fused multiply-adds over the same numbers in the same order; a product with 0,
 * which is left out, adds nothing.  So the bits are those of dense inputs (a zero's sign aside, and while weights are finite).
 * For the gradient, phase 1 deals the block's numbers to groups of UNIT_INPUTS columns, rows in their order: a unit of phase
 * 2 then adds up what concerns it and nothing else.
 */

/* A number of a block's inputs: `place` is its row, times BAND (which is UNIT_INPUTS), plus its column within the group. */
struct NAME(entry) {
    REAL value;
    int32_t place;
};

/* vectors whose chains one row carries at the same time, as in row_product; and numbers ahead of their turn for which
 * weights are asked: they lie anywhere */
enum { NAME(SPARSE_VECTORS) = 8, NAME(NUMBERS_AHEAD) = 6 };

/* Place of the first number of a row, and of the first of the next, in batch->X.  A row of weight 0 counts as removed, and has
 * none. */
ALWAYS_INLINE int64_t NAME(sparse_row)(const struct batch *batch, int64_t row, int64_t *end) {
    const int64_t number = batch->order == NULL ? row : batch->order[row];
    const bool removed = batch->weight != NULL && ((const REAL *)batch->weight)[number] == 0;
    *end = batch->row_starts[removed ? number : number + 1];
    return batch->row_starts[number];
}

/* `vectors` vectors of one row of bias + X W, into a buffer's row from `column` on; panels of W are `b_panel` apart, their
 * rows `pitch`. */
ALWAYS_INLINE void NAME(sparse_product)(const int vectors, int64_t count, const REAL *values, const int32_t *columns,
                                        const REAL *b, int64_t b_panel, int64_t pitch, const REAL *bias, REAL *z,
                                        int64_t column, int64_t band) {
    VECTOR sums[NAME(SPARSE_VECTORS)];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) sums[v] = NAME(load)(bias + v * LANES);
    for (int64_t k = 0; k < count; k++) {
        const VECTOR left = NAME(splat)(values[k]);
        const REAL *right = b + (int64_t)columns[k] * pitch;
        if (k + NAME(NUMBERS_AHEAD) < count) {
            const REAL *ahead = b + (int64_t)columns[k + NAME(NUMBERS_AHEAD)] * pitch;
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                __builtin_prefetch(ahead + v / TILE_VECTORS * b_panel + v % TILE_VECTORS * LANES, 0, 3);
        }
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sums[v] = FMA(left, NAME(load)(right + v / TILE_VECTORS * b_panel + v % TILE_VECTORS * LANES), sums[v]);
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) NAME(store)(z + NAME(place_of)(column + v * LANES, band), sums[v]);
}

static void NAME(sparse_dense_forward)(const struct NAME(strip) *strip) {
    const struct layer *layer = strip->layer;
    const struct batch *batch = strip->batch;
    const REAL *packed = strip->plan->packed;
    for (int64_t column = 0; column < layer->outputs; column += NAME(SPARSE_VECTORS) * LANES) {
        const int64_t left = (layer->outputs - column + LANES - 1) / LANES;
        const REAL *b = packed + layer->packed_weight + column / PANEL * layer->panel_size;
        const REAL *bias = packed + layer->packed_bias + column;
        if (atomic_load_explicit(&strip->plan->stop, memory_order_relaxed)) return;
        for (int64_t row = 0; row < strip->rows; row++) {
            int64_t end, first = NAME(sparse_row)(batch, strip->batch_row + row, &end);
            const REAL *values = (const REAL *)batch->X + first;
            const int32_t *columns = batch->columns + first;
            REAL *z = strip->z + row * BAND;
            switch (left < NAME(SPARSE_VECTORS) ? left : NAME(SPARSE_VECTORS)) {
#define SPARSE_CASE(count)                                                                                               \
    case count:                                                                                                         \
        NAME(sparse_product)(count, end - first, values, columns, b, layer->panel_size, layer->pitch, bias, z, column, \
                             strip->band);                                                                              \
        break;
                SPARSE_CASE(1) SPARSE_CASE(2) SPARSE_CASE(3) SPARSE_CASE(4)
                SPARSE_CASE(5) SPARSE_CASE(6) SPARSE_CASE(7) SPARSE_CASE(8)
#undef SPARSE_CASE
            }
        }
    }
    if (strip->activated) NAME(activate)(strip);
}

static void NAME(sparse_dense_backward)(const struct NAME(strip) *strip) { NAME(take_slope)(strip); }

/* First of `columns`[from .. end - 1] that is at least `column` */
ALWAYS_INLINE int64_t NAME(first_at_least)(const int32_t *columns, int64_t from, int64_t end, int64_t column) {
    while (from < end) {
        const int64_t middle = from + (end - from) / 2;
        if (columns[middle] < column)
            from = middle + 1;
        else
            end = middle;
    }
    return from;
}

/* A thread's share of dealing out the numbers of a block's rows, a counting sort: it takes some of the groups whole, and
 * finds where they begin by counting what lies before them, so threads need not wait for each other. */
static void NAME(deal_entries)(const pymlp_plan *plan, const struct batch *batch, int64_t block, int64_t rows, int index,
                               int members) {
    const int64_t groups = plan->layers[0].row_groups;
    const int64_t from = groups * index / members, to = groups * (index + 1) / members;
    struct NAME(entry) *entries = plan->entries;
    int64_t *ends = plan->entry_ends, before = 0;
    if (from == to) return;
    memset(ends + from, 0, (size_t)(to - from) * sizeof *ends);
    for (int64_t row = 0; row < rows; row++) {
        int64_t end, start = NAME(sparse_row)(batch, block + row, &end);
        int64_t k = from == 0 ? start : NAME(first_at_least)(batch->columns, start, end, from * UNIT_INPUTS);
        before += k - start;
        for (; k < end && batch->columns[k] < to * UNIT_INPUTS; k++) ends[batch->columns[k] / UNIT_INPUTS]++;
    }
    for (int64_t group = from; group < to; group++) {
        const int64_t count = ends[group];
        ends[group] = before;
        before += count;
    }
    for (int64_t row = 0; row < rows; row++) {
        int64_t end, start = NAME(sparse_row)(batch, block + row, &end);
        int64_t k = from == 0 ? start : NAME(first_at_least)(batch->columns, start, end, from * UNIT_INPUTS);
        for (; k < end && batch->columns[k] < to * UNIT_INPUTS; k++) {
            const int32_t column = batch->columns[k];
            entries[ends[column / UNIT_INPUTS]++] = (struct NAME(entry)){
                .value = ((const REAL *)batch->X)[k], .place = (int32_t)row * BAND + column % UNIT_INPUTS};
        }
    }
}

/* sums[input][column], rows a panel apart: the chain over the unit's entries */
ALWAYS_INLINE void NAME(entry_sums)(const int vectors, const struct NAME(entry) *entries, int64_t count,
                                    const REAL *deltas, REAL *sums) {
    for (int64_t i = 0; i < count; i++) {
        REAL *to = sums + entries[i].place % BAND * PANEL;
        const REAL *delta = deltas + entries[i].place / BAND * BAND;
        const VECTOR left = NAME(splat)(entries[i].value);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            NAME(store)(to + v * LANES, FMA(left, NAME(load)(delta + v * LANES), NAME(load)(to + v * LANES)));
    }
}

static void NAME(sparse_dense_gradient)(const pymlp_plan *plan, const struct NAME(gradient_job) *job,
                                        const struct layer *layer, int64_t number, struct NAME(pending) *pending) {
    const struct NAME(unit) unit = NAME(unit_of)(layer, number);
    const struct buffer *output = &plan->buffers[layer->output_buffer];
    const REAL *deltas = (const REAL *)output->deltas + NAME(place_of)(unit.column, output->band);
    const int vectors = NAME(vectors_of)(unit.columns);
    const int64_t group = unit.input / UNIT_INPUTS;
    const int64_t first = group > 0 ? plan->entry_ends[group - 1] : 0, count = plan->entry_ends[group] - first;
    const struct NAME(entry) *entries = (const struct NAME(entry) *)plan->entries + first;
    REAL *sums = pending->sums[pending->turn];
    if (pending->job != NULL) pending->ahead = unit.place - pending->unit.place;
    for (int64_t row = 0; row < unit.inputs; row++) memset(sums + row * PANEL, 0, (size_t)vectors * LANES * sizeof(REAL));
    switch (vectors) {
        case 1: NAME(entry_sums)(1, entries, count, deltas, sums); break;
        case 2: NAME(entry_sums)(2, entries, count, deltas, sums); break;
#if TILE_VECTORS == 4
        case 3: NAME(entry_sums)(3, entries, count, deltas, sums); break;
        case 4: NAME(entry_sums)(4, entries, count, deltas, sums); break;
#endif
    }
    if (NAME(is_narrow)(layer)) {
        /* rows without gaps: what a vector holds past a row is overwritten by the next */
        for (int64_t row = 1; row < unit.inputs; row++)
            NAME(store)(sums + row * unit.columns, NAME(load)(sums + row * PANEL));
        NAME(store)(sums + unit.inputs * unit.columns, ZERO);
    }
    NAME(end_unit)(plan, job, &unit, deltas, pending);
}
