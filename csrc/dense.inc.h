/* dense.inc.h: the layer kind "dense", activation(inputs W + bias), as its three functions: forward and backward over
 * rows, and the parameters' gradient over units (a panel of outputs by UNIT_INPUTS inputs).
 */

/* rows of the batch that a unit's tiles go through at once: so many of a band of inputs and of a panel of deltas, 16 KB and at
 * most 16 more, stay in L1 */
enum { NAME(BATCH_BLOCK) = 512 / sizeof(REAL) };

static void NAME(dense_forward)(const struct NAME(strip) *strip) {
    const struct layer *layer = strip->layer;
    const REAL *packed = strip->plan->packed;
    const struct NAME(fused) fused = {.kind = strip->activated ? pymlp_value_tiles[layer->activation] : TILE_PLAIN};
    NAME(multiply)(strip->plan, strip->rows, layer->outputs, layer->inputs, strip->in, strip->in_band,
                   packed + layer->packed_weight, layer->panel_size, layer->pitch, packed + layer->packed_bias, strip->z,
                   strip->band, false, fused);
    if (strip->activated && fused.kind == TILE_PLAIN) NAME(activate)(strip);
}

static void NAME(dense_backward)(const struct NAME(strip) *strip) {
    const struct layer *layer = strip->layer;
    const pymlp_plan *plan = strip->plan;
    NAME(take_slope)(strip);
    if (strip->in_deltas == NULL) return;
    struct NAME(fused) fused = {.kind = TILE_PLAIN};
    if (layer->flags & TAKES_INPUT_SLOPE) {
        fused.kind = pymlp_value_tiles[plan->layers[layer->input_buffer - 1].activation] + 1;
        fused.outputs = strip->in - strip->in_deltas;
    }
    NAME(multiply)(plan, strip->rows, layer->inputs, layer->outputs, strip->deltas, strip->band,
                   (const REAL *)plan->transposes + layer->packed_transpose, layer->padded_outputs * PANEL, PANEL, NULL,
                   strip->in_deltas, strip->in_band, layer->flags & ADDS_INTO_DELTAS, fused);
}

/* Records the penalties' partial sums of a unit. */
static void NAME(record_penalties)(const pymlp_plan *plan, const struct NAME(unit) *unit, const REAL *squares,
                                   const REAL *absolutes) {
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

/* Fewer outputs than a vector has lanes: the weights lie without gaps, and a vector of them holds several rows. */
ALWAYS_INLINE bool NAME(is_narrow)(const struct layer *layer) { return layer->pitch < LANES; }

/* Brings what is left of a unit's update to its end. */
static void NAME(finish_update)(const pymlp_plan *plan, struct NAME(pending) *pending) {
    if (pending->job == NULL) return;
    if (pending->job->rule.woven)
        NAME(update_left)(pending);
    else
        NAME(update_at_once)(plan, pending);
    const struct NAME(unit) *unit = &pending->unit;
    if (pending->job->penalised && !NAME(is_narrow)(unit->layer))
        NAME(record_penalties)(plan, unit, (const REAL *)pending->squares, (const REAL *)pending->absolutes);
    if (unit->layer->flags & NEEDS_INPUT_GRADIENT) NAME(transpose_unit)(plan, unit);
    pending->job = NULL;
}

/* The penalties of a narrow unit, one chain over the rows for each column, as for a wide one */
static void NAME(narrow_penalties)(const pymlp_plan *plan, const struct NAME(unit) *unit) {
    const REAL *weights = (const REAL *)plan->packed + unit->place;
    VECTOR square = ZERO, absolute = ZERO;
    for (int64_t row = 0; row < unit->inputs; row++) {
        VECTOR w = NAME(narrow_row)(unit->layer, weights, row);
        square = FMA(w, w, square);
        absolute = absolute + NAME(absolute)(w);
    }
    REAL squares[LANES], absolutes[LANES];
    NAME(store)(squares, square);
    NAME(store)(absolutes, absolute);
    NAME(record_penalties)(plan, unit, squares, absolutes);
}

/* The unit's sums, which lie where `pending` keeps them, wait for their update from now on: `rows` rows of `width` numbers,
 * `stride` apart. */
static void NAME(begin_update)(const pymlp_plan *plan, const struct NAME(gradient_job) *job,
                               const struct NAME(unit) *unit, int64_t rows, int64_t width, int64_t stride,
                               struct NAME(pending) *pending) {
    if (job->penalised && NAME(is_narrow)(unit->layer)) NAME(narrow_penalties)(plan, unit);
    pending->job = job;
    pending->unit = *unit;
    pending->rows = rows;
    pending->width = width;
    pending->stride = stride;
    pending->w = (REAL *)plan->packed + unit->place;
    pending->s = (REAL *)plan->slots[0] + unit->place;
    pending->t = (REAL *)plan->slots[1] + unit->place;
    pending->g = pending->sums[pending->turn];
    pending->done = 0;
    const bool turns = unit->layer->flags & NEEDS_INPUT_GRADIENT;
    pending->turned = turns ? NAME(turned_place)(plan, unit, unit->input) : pending->w;
    pending->turned_gap = turns ? (unit->layer->padded_outputs - PANEL) * PANEL : 0;
    pending->turn = 1 - pending->turn;
    memset(pending->squares, 0, sizeof pending->squares);
    memset(pending->absolutes, 0, sizeof pending->absolutes);
}

/* The unit's gradient, from its sums, is written to the flat vector. */
static void NAME(store_gradient)(const pymlp_plan *plan, const struct NAME(gradient_job) *job,
                                 const struct NAME(unit) *unit, int64_t width, const REAL *sums) {
    const REAL *w = (const REAL *)plan->packed + unit->place;
    VECTOR squares[TILE_VECTORS] = {ZERO}, absolutes[TILE_VECTORS] = {ZERO};
    for (int64_t row = 0; row < unit->inputs; row++, w += unit->layer->pitch, sums += unit->layer->pitch) {
        REAL padded[PANEL];
        REAL *there = job->gradient + unit->layer->weight + (unit->input + row) * unit->layer->outputs + unit->column;
        REAL *gradient = unit->columns == PANEL ? there : padded;
        for (int64_t i = 0; i < width; i += LANES)
            NAME(store)(gradient + i, NAME(finished)(job, job->penalised, NAME(load)(w + i), NAME(load)(sums + i),
                                                     &squares[i / LANES], &absolutes[i / LANES]));
        if (gradient == padded) memcpy(there, padded, (size_t)unit->columns * sizeof(REAL));
    }
    if (job->penalised) NAME(record_penalties)(plan, unit, (const REAL *)squares, (const REAL *)absolutes);
}

/* The bias gradient of a panel: column sums of the deltas, one chain over the rows each. */
static void NAME(dense_bias_gradient)(const pymlp_plan *plan, const struct NAME(gradient_job) *job,
                                      const struct NAME(unit) *unit, int vectors, const REAL *deltas) {
    VECTOR chains[TILE_VECTORS] = {{0}};
    for (int64_t row = 0; row < job->rows; row++)
        for (int v = 0; v < vectors; v++) chains[v] = chains[v] + NAME(load)(deltas + row * BAND + v * LANES);
    NAME(finish_vector)(plan, job, unit, 0, vectors, chains);
}

/* The sums of a unit from the flat gradient that the job was given: rows of the unit's pitch, or of a panel */
static void NAME(given_sums)(const struct NAME(gradient_job) *job, const struct NAME(unit) *unit, REAL *sums) {
    const struct layer *layer = unit->layer;
    const REAL *from = job->given + layer->weight + unit->input * layer->outputs + unit->column;
    if (unit->columns == PANEL) {
        for (int64_t row = 0; row < unit->inputs; row++)
            memcpy(sums + row * PANEL, from + row * layer->outputs, PANEL * sizeof(REAL));
        return;
    }
    /* vectors run over the ends of rows */
    memset(sums, 0, UNIT_INPUTS * PANEL * sizeof(REAL));
    for (int64_t row = 0; row < unit->inputs; row++)
        memcpy(sums + row * layer->pitch, from + row * layer->outputs, (size_t)unit->columns * sizeof(REAL));
}

/* What a unit asks for into L2, a block of rows before it is read, or NULL */
struct NAME(ahead) {
    const REAL *own;    /* its panel's deltas, where they are not at hand */
    const REAL *next;   /* those of the panel that comes next, whose first block it asks for during its own last one */
    const REAL *inputs; /* lines of the group of inputs that comes in the place of its own */
};

/* rows of a block from which on units ask ahead: what fewer read is at hand anyway */
enum { NAME(LEAST_ROWS_AHEAD) = 256 };
/* lines that a tile can ask for at each k, and the units that have to share the lines of a band */
enum { NAME(ASKED_LINES) = LONG_TILES ? 1 : 2, NAME(ASKING_UNITS) = BAND / CACHE_LINE / NAME(ASKED_LINES) };

/* Where the group of inputs begins that will come in the place of the unit's own, which meets its last panels; NULL: none */
static const REAL *NAME(next_inputs)(const struct NAME(unit) *unit, const REAL *a, int64_t band) {
    const struct layer *layer = unit->layer;
    const int64_t group = unit->input / UNIT_INPUTS, last_block = (layer->row_groups - 1) / layer->block_groups;
    int64_t next = group - layer->block_groups;
    if (next < 0) {
        /* the last block of groups, on the panels of the block before */
        next = last_block * layer->block_groups + unit->turn;
        if (unit->column == unit->panel * PANEL || next >= layer->row_groups) return NULL;
    }
    return a + (next - group) * band;
}

/* Of the units on a panel, which are taken from the last, the first to be taken asks for its deltas and the last for those of the
 * next panel, the one before.  Long bands come from memory, which no machine asks for early enough; but a whole panel's worth,
 * asked for while another is in use, would drive the inputs from L2.  The next inputs are asked for by the last units that the
 * present ones meet, each for some of the lines. */
static struct NAME(ahead) NAME(asked_ahead)(const struct NAME(unit) *unit, int64_t rows, const REAL *a, int64_t a_band,
                                            const REAL *deltas, int64_t band) {
    struct NAME(ahead) ahead = {NULL, NULL, NULL};
    if (rows < NAME(LEAST_ROWS_AHEAD)) return ahead;
    if (unit->turn == unit->turns - 1) ahead.own = deltas;
    if (unit->turn == 0 && unit->panel > 0)
        ahead.next = deltas + NAME(place_of)(unit->column - PANEL, band) - NAME(place_of)(unit->column, band);
    if (unit->panel < NAME(ASKING_UNITS)) {
        const REAL *inputs = NAME(next_inputs)(unit, a, a_band);
        if (inputs != NULL) ahead.inputs = inputs + unit->panel * NAME(ASKED_LINES) * CACHE_LINE;
    }
    return ahead;
}

/* Gradient sums of a unit over the block's rows: sums[input][column] = chain over the rows of a * delta.  What is pending
 * (or NULL) is woven in where the heights of the tiles allow it. */
static void NAME(gradient_sums)(int64_t rows, int64_t inputs, int vectors, const REAL *a, const REAL *deltas, REAL *sums,
                                struct NAME(pending) *pending, struct NAME(ahead) ahead) {
    const int64_t tiles = (inputs + TILE_ROWS - 1) / TILE_ROWS;
    const bool woven = WEAVES && inputs == UNIT_INPUTS && pending != NULL && pending->job != NULL &&
                       pending->job->rule.woven;
    NAME(column_tile_function) *const *functions =
        woven ? NAME(woven_tiles)[WOVEN_AS(pending->job->rule.kind, pending->job->penalised)] : NAME(column_tiles);
    if (woven) {
        /* spread evenly: a burst of divisions would fill the queues that the products wait in */
        const int64_t depth = tiles * rows, left = pending->rows > 0 ? pending->rows : 1;
        pending->run = depth > left ? depth / left : 1;
        pending->pace = (left + depth - 1) / depth;
    }
    for (int64_t row = 0; row < rows; row += NAME(BATCH_BLOCK)) {
        int64_t count = rows - row < NAME(BATCH_BLOCK) ? rows - row : NAME(BATCH_BLOCK);
        const REAL *coming = row + NAME(BATCH_BLOCK) >= rows ? ahead.next
                             : ahead.own != NULL ? ahead.own + (row + NAME(BATCH_BLOCK)) * BAND : NULL;
        const REAL *lines = ahead.inputs != NULL ? ahead.inputs + row * BAND : NULL;
        for (int64_t tile = 0, first = 0, height; tile < tiles; tile++, first += height) {
            if (FETCH_AHEAD == 0 && (coming != NULL || lines != NULL))
                for (int64_t at = count * tile / tiles; at < count * (tile + 1) / tiles; at++) {
                    for (int64_t i = 0; i < PANEL && coming != NULL; i += CACHE_LINE)
                        __builtin_prefetch(coming + at * BAND + i, 0, 2);
                    for (int64_t i = 0; i < NAME(ASKED_LINES) * CACHE_LINE && lines != NULL; i += CACHE_LINE)
                        __builtin_prefetch(lines + at * BAND + i, 0, 2);
                }
            /* the block's own deltas, for which one tile has to ask, and the others where nothing else is to be asked for */
            const REAL *next = deltas + (row + FETCH_AHEAD) * BAND;
            if (coming != NULL && (LONG_TILES ? tile < PANEL / CACHE_LINE : tile == 1))
                next = coming + (LONG_TILES ? tile * CACHE_LINE : 0);
            else if (lines != NULL && tile == 2)
                next = lines;
            /* as by tile_start; these numbers are small, and the narrower division takes less time */
            height = (uint32_t)(inputs * (tile + 1)) / (uint32_t)tiles - first;
            REAL *c = sums + first * PANEL;
            functions[height](vectors, count, a + row * BAND + first, deltas + row * BAND,
                              row > 0 ? c : NAME(zeros), c, pending, next);
        }
    }
}

/* The same for a narrow layer: the operands change places, so that the inputs fill the lanes, and the result is turned
 * into rows of `columns` numbers without gaps.  A product does not mind the order of its factors, so the bits are the
 * same. */
static void NAME(narrow_gradient_sums)(int64_t rows, int64_t inputs, int64_t columns, const REAL *a, const REAL *deltas,
                                       REAL *sums, struct NAME(pending) *pending) {
    const struct NAME(ahead) none = {NULL, NULL, NULL};
    for (int64_t part = 0; part < inputs; part += PANEL) {
        REAL turned[LANES * PANEL] __attribute__((aligned(64))) = {0};
        int vectors = NAME(vectors_of)(inputs - part);
        NAME(gradient_sums)(rows, columns, vectors, deltas, a + part, turned, pending, none);
        for (int v = 0; v < vectors; v++) {
            VECTOR square[LANES];
#pragma GCC unroll 16
            for (int row = 0; row < LANES; row++) square[row] = NAME(load)(turned + row * PANEL + v * LANES);
            NAME(transpose_square)(square);
            /* what a vector holds past a row is overwritten by the next */
#pragma GCC unroll 16
            for (int row = 0; row < LANES; row++)
                if (part + v * LANES + row < inputs) NAME(store)(sums + (part + v * LANES + row) * columns, square[row]);
        }
    }
    NAME(store)(sums + inputs * columns, ZERO);
}

/* What comes after the sums of a unit, which lie where `pending` keeps them: the update of the unit before, the bias, the
 * blocks before, and then the flat gradient, or the turn to be updated. */
static void NAME(end_unit)(const pymlp_plan *plan, const struct NAME(gradient_job) *job, const struct NAME(unit) *unit,
                           const REAL *deltas, struct NAME(pending) *pending) {
    const int vectors = NAME(vectors_of)(unit->columns);
    REAL *sums = pending->sums[pending->turn];
    /* rows of `width` numbers, `stride` apart */
    int64_t count = unit->inputs, width = vectors * LANES, stride = PANEL;
    if (NAME(is_narrow)(unit->layer)) {
        count = (unit->inputs * unit->columns + LANES - 1) / LANES;
        stride = LANES;
    }
    NAME(finish_update)(plan, pending);
    if (unit->input == 0) NAME(dense_bias_gradient)(plan, job, unit, vectors, deltas);
    for (int64_t i = 0; i < count && !(job->first && job->last); i++)
        NAME(join_blocks)(plan, job, width, unit->place + i * stride, sums + i * stride);
    if (!job->last) return;
    if (job->gradient != NULL)
        NAME(store_gradient)(plan, job, unit, width, sums);
    else
        NAME(begin_update)(plan, job, unit, count, width, stride, pending);
}

static void NAME(dense_gradient)(const pymlp_plan *plan, const struct NAME(gradient_job) *job,
                                 const struct layer *layer, int64_t number, struct NAME(pending) *pending) {
    const struct NAME(unit) unit = NAME(unit_of)(layer, number);
    const struct buffer *input = &plan->buffers[layer->input_buffer], *output = &plan->buffers[layer->output_buffer];
    const REAL *a = (const REAL *)input->outputs + NAME(place_of)(unit.input, input->band);
    const REAL *deltas = (const REAL *)output->deltas + NAME(place_of)(unit.column, output->band);
    REAL *sums = pending->sums[pending->turn];
    if (pending->job != NULL) pending->ahead = unit.place - pending->unit.place;
    if (job->given != NULL)
        NAME(given_sums)(job, &unit, sums);
    else if (NAME(is_narrow)(layer))
        NAME(narrow_gradient_sums)(job->rows, unit.inputs, unit.columns, a, deltas, sums, pending);
    else
        NAME(gradient_sums)(job->rows, unit.inputs, NAME(vectors_of)(unit.columns), a, deltas, sums, pending,
                            NAME(asked_ahead)(&unit, job->rows, a, input->band, deltas, output->band));
    NAME(end_unit)(plan, job, &unit, deltas, pending);
}
