/* dense.inc.h: the layer kind "dense", activation(inputs W + bias), as its three functions: forward and backward over
 * rows, and the parameters' gradient over units (a panel of outputs by UNIT_INPUTS inputs).
 */

/* rows of the batch that a unit's tiles go through at once: 256 rows of a panel of deltas stay in L1 */
enum { NAME(BATCH_BLOCK) = 256 };

/* What phase 2 does with the gradient sums of a block. */
struct NAME(gradient_job) {
    int64_t rows;             /* of the block */
    bool first, last;         /* block of the batch */
    bool penalised;           /* add the penalties' gradient and record their sums */
    REAL l1, l2, inverse;     /* inverse of the batch's weight sum */
    REAL *gradient;           /* flat vector to write; NULL: take an optimizer step instead */
    struct NAME(rule) rule, bias_rule;
};

/* Columns to work on in the band that starts at `column`: whole vectors */
ALWAYS_INLINE int64_t NAME(band_width)(int64_t columns, int64_t column) {
    return columns - column < BAND ? (columns - column + LANES - 1) / LANES * LANES : BAND;
}

static void NAME(dense_forward)(const pymlp_plan *plan, const struct layer *layer, int64_t rows, const REAL *in,
                                int64_t in_band, REAL *z, REAL *a, int64_t band, bool activated) {
    const REAL *packed = plan->packed;
    NAME(multiply)(plan, rows, layer->outputs, layer->inputs, in, in_band, packed + layer->packed_weight,
                   layer->padded_inputs * PANEL, packed + layer->packed_bias, z, band);
    if (!activated || (layer->activation == ACTIVATION_identity && a == z)) return;
    for (int64_t column = 0, at = 0; column < layer->outputs; column += BAND, at += band)
        NAME(activate_band)(layer->activation, rows, NAME(band_width)(layer->outputs, column), z + at, a + at);
}

/* `deltas` come in as gradient to the outputs (to the pre-activations if not `activated`) and leave as gradient to the
 * pre-activations; in_deltas, where wanted, becomes the gradient to the inputs. */
static void NAME(dense_backward)(const pymlp_plan *plan, const struct layer *layer, int64_t rows, const REAL *z,
                                 const REAL *a, REAL *deltas, int64_t band, bool activated, REAL *in_deltas,
                                 int64_t in_band) {
    if (activated && layer->activation != ACTIVATION_identity)
        for (int64_t column = 0, at = 0; column < layer->outputs; column += BAND, at += band)
            NAME(multiply_slope_band)(layer->activation, rows, NAME(band_width)(layer->outputs, column), z + at, a + at,
                                      deltas + at);
    if (in_deltas != NULL)
        NAME(multiply)(plan, rows, layer->inputs, layer->outputs, deltas, band,
                       (const REAL *)plan->transposes + layer->packed_transpose, layer->padded_outputs * PANEL, NULL,
                       in_deltas, in_band);
}

/* sums (height, PANEL) become the gradient's final value, and the penalties' partial sums are recorded */
static void NAME(finish_gradient)(const pymlp_plan *plan, const struct NAME(gradient_job) *job,
                                  const struct NAME(unit) *unit, int vectors, REAL *sums) {
    const REAL *weights = (const REAL *)plan->packed + unit->place;
    const VECTOR inverse = NAME(splat)(job->inverse), l1 = NAME(splat)(job->l1), l2 = NAME(splat)(job->l2);
    if (!job->penalised) {
        for (int64_t row = 0; row < unit->inputs; row++)
            for (int v = 0; v < vectors; v++) {
                REAL *at = sums + row * PANEL + v * LANES;
                NAME(store)(at, NAME(load)(at) * inverse);
            }
        return;
    }
    REAL squares[PANEL], absolutes[PANEL];
    for (int v = 0; v < vectors; v++) {
        VECTOR square = {0}, absolute = {0};
        for (int64_t row = 0; row < unit->inputs; row++) {
            REAL *at = sums + row * PANEL + v * LANES;
            VECTOR w = NAME(load)(weights + row * PANEL + v * LANES), g = NAME(load)(at);
            square = FMA(w, w, square);
            g = FMA(l2, w, g);
            if (job->l1 != 0) {
                absolute = absolute + NAME(absolute)(w);
                g = g + NAME(select)(w == ZERO, ZERO, NAME(with_sign)(l1, w));
            }
            NAME(store)(at, g * inverse);
        }
        NAME(store)(squares + v * LANES, square);
        NAME(store)(absolutes + v * LANES, absolute);
    }
    int64_t groups = (unit->layer->outputs + PENALTY_COLUMNS - 1) / PENALTY_COLUMNS;
    int64_t first = unit->layer->first_penalty + unit->input / UNIT_INPUTS * groups + unit->column / PENALTY_COLUMNS;
    for (int64_t column = 0; column < unit->columns; column += PENALTY_COLUMNS) {
        double square = 0, absolute = 0;
        /* lanes past the last output hold zeros, or were not computed */
        for (int64_t i = column; i < column + PENALTY_COLUMNS && i < unit->columns; i++) {
            square += (double)squares[i];
            absolute += (double)absolutes[i];
        }
        double *to = plan->penalties + 2 * (first + column / PENALTY_COLUMNS);
        to[0] = square;
        to[1] = absolute;
    }
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

/* The bias gradient of a panel: column sums of the deltas, one chain over the rows each. */
static void NAME(dense_bias_gradient)(const pymlp_plan *plan, const struct NAME(gradient_job) *job,
                                      const struct NAME(unit) *unit, int vectors, const REAL *deltas) {
    const struct layer *layer = unit->layer;
    int64_t place = layer->packed_bias + unit->column;
    REAL sums[PANEL];
    VECTOR chains[TILE_VECTORS] = {{0}};
    for (int64_t row = 0; row < job->rows; row++)
        for (int v = 0; v < vectors; v++) chains[v] = chains[v] + NAME(load)(deltas + row * BAND + v * LANES);
    for (int v = 0; v < vectors; v++) NAME(store)(sums + v * LANES, chains[v]);
    NAME(join_blocks)(plan, job, vectors * LANES, place, sums);
    if (!job->last) return;
    for (int v = 0; v < vectors; v++)
        NAME(store)(sums + v * LANES, NAME(load)(sums + v * LANES) * NAME(splat)(job->inverse));
    if (job->gradient != NULL)
        memcpy(job->gradient + layer->bias + unit->column, sums, (size_t)unit->columns * sizeof(REAL));
    else
        NAME(optimize)(&job->bias_rule, vectors * LANES, (REAL *)plan->packed + place, sums,
                       (REAL *)plan->slots[0] + place, (REAL *)plan->slots[1] + place);
}

/* Gradient sums of a unit over the block's rows: sums[input][column] = chain over the rows of a * delta. */
static void NAME(gradient_sums)(int64_t rows, int64_t inputs, int vectors, const REAL *a, const REAL *deltas, REAL *sums) {
    int64_t tiles = (inputs + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t row = 0; row < rows; row += NAME(BATCH_BLOCK)) {
        int64_t count = rows - row < NAME(BATCH_BLOCK) ? rows - row : NAME(BATCH_BLOCK);
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t first = NAME(tile_start)(inputs, tiles, tile);
            int64_t height = NAME(tile_start)(inputs, tiles, tile + 1) - first;
            REAL *c = sums + first * PANEL;
            NAME(column_tiles)[height](vectors, count, a + row * BAND + first, 0, deltas + row * BAND,
                                       row > 0 ? c : NAME(zeros), row > 0 ? PANEL : 0, c);
        }
    }
}

/* The same for fewer columns than a vector has lanes: the operands change places, so that the inputs fill the lanes, and
 * the result is turned.  A product does not mind the order of its factors, so the bits are the same. */
static void NAME(narrow_gradient_sums)(int64_t rows, int64_t inputs, int64_t columns, const REAL *a, const REAL *deltas,
                                       REAL *sums) {
    for (int64_t part = 0; part < inputs; part += PANEL) {
        REAL turned[LANES * PANEL] __attribute__((aligned(64))) = {0};
        int vectors = NAME(vectors_of)(inputs - part);
        NAME(gradient_sums)(rows, columns, vectors, deltas, a + part, turned);
        for (int v = 0; v < vectors; v++) {
            VECTOR square[LANES];
#pragma GCC unroll 16
            for (int row = 0; row < LANES; row++) square[row] = NAME(load)(turned + row * PANEL + v * LANES);
            NAME(transpose_square)(square);
#pragma GCC unroll 16
            for (int row = 0; row < LANES; row++) NAME(store)(sums + (part + v * LANES + row) * PANEL, square[row]);
        }
    }
}

static void NAME(dense_gradient)(const pymlp_plan *plan, const struct NAME(gradient_job) *job,
                                 const struct layer *layer, int64_t number) {
    const struct NAME(unit) unit = NAME(unit_of)(layer, number);
    const struct buffer *input = &plan->buffers[layer->input_buffer], *output = &plan->buffers[layer->output_buffer];
    const REAL *a = (const REAL *)input->outputs + NAME(place_of)(unit.input, input->band);
    const REAL *deltas = (const REAL *)output->deltas + NAME(place_of)(unit.column, output->band);
    int vectors = NAME(vectors_of)(unit.columns);
    REAL sums[UNIT_INPUTS * PANEL] __attribute__((aligned(64)));
    if (unit.columns < LANES && unit.columns < unit.inputs)
        NAME(narrow_gradient_sums)(job->rows, unit.inputs, unit.columns, a, deltas, sums);
    else
        NAME(gradient_sums)(job->rows, unit.inputs, vectors, a, deltas, sums);
    if (unit.input == 0) NAME(dense_bias_gradient)(plan, job, &unit, vectors, deltas);
    bool whole = vectors == TILE_VECTORS;
    int64_t runs = whole ? 1 : unit.inputs, run = whole ? unit.inputs * PANEL : vectors * LANES;
    for (int64_t i = 0; i < runs; i++) NAME(join_blocks)(plan, job, run, unit.place + i * PANEL, sums + i * PANEL);
    if (!job->last) return;
    NAME(finish_gradient)(plan, job, &unit, vectors, sums);
    if (job->gradient != NULL) {
        for (int64_t row = 0; row < unit.inputs; row++)
            memcpy(job->gradient + layer->weight + (unit.input + row) * layer->outputs + unit.column,
                   sums + row * PANEL, (size_t)unit.columns * sizeof(REAL));
        return;
    }
    for (int64_t i = 0; i < runs; i++) {
        int64_t place = unit.place + i * PANEL;
        NAME(optimize)(&job->rule, run, (REAL *)plan->packed + place, sums + i * PANEL,
                       (REAL *)plan->slots[0] + place, (REAL *)plan->slots[1] + place);
    }
    if (layer->flags & NEEDS_INPUT_GRADIENT) NAME(transpose_unit)(plan, &unit);
}

/* A layer kind is these three functions. */
struct NAME(layer_functions) {
    void (*forward)(const pymlp_plan *plan, const struct layer *layer, int64_t rows, const REAL *in, int64_t in_band,
                    REAL *z, REAL *a, int64_t band, bool activated);
    void (*backward)(const pymlp_plan *plan, const struct layer *layer, int64_t rows, const REAL *z, const REAL *a,
                     REAL *deltas, int64_t band, bool activated, REAL *in_deltas, int64_t in_band);
    void (*gradient)(const pymlp_plan *plan, const struct NAME(gradient_job) *job, const struct layer *layer,
                     int64_t unit);
};

#define LAYER_FUNCTIONS(name) {NAME(name##_forward), NAME(name##_backward), NAME(name##_gradient)},
static const struct NAME(layer_functions) NAME(layer_kinds)[N_LAYER_KINDS] = {LAYER_KIND_ROWS(LAYER_FUNCTIONS)};
