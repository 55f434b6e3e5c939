/* kernels.inc.h: the micro-kernel, and moving numbers between the flat vector and the packed layout.
 *
 * One micro-kernel serves all three products, because its A operand carries two strides.  Every element of the result
 * is one chain of fused multiply-adds, sequential in depth, whatever the tile: cutting the depth stores the chain and
 * takes it up again.
 */

#define PANEL (TILE_VECTORS * LANES)

/* depth that is carried through a row block at once: 512 rows of a panel are 64 KB, and stay in L2 with the block of A */
enum { NAME(DEPTH_BLOCK) = 512 };

/* c[rows][vectors] = start + sum over k of a[row, k] * b[k, :], with a[row, k] at a + row * a_row + k * a_depth and
 * b[k, :] at b + k * b_depth.  start: NULL for zero, else start_row apart (0: one row for all, a bias). */
ALWAYS_INLINE void NAME(tile)(const int rows, const int vectors, int64_t depth, const REAL *a, int64_t a_row,
                              int64_t a_depth, const REAL *b, int64_t b_depth, const REAL *start, int64_t start_row,
                              REAL *c, int64_t c_row) {
    VECTOR sums[TILE_ROWS][TILE_VECTORS];
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++)
            sums[row][v] = start == NULL ? (VECTOR){0} : NAME(load)(start + row * start_row + v * LANES);
    for (int64_t k = 0; k < depth; k++) {
        VECTOR right[TILE_VECTORS];
        for (int v = 0; v < vectors; v++) right[v] = NAME(load)(b + v * LANES);
        for (int row = 0; row < rows; row++) {
            VECTOR left = NAME(splat)(a[row * a_row]);
            for (int v = 0; v < vectors; v++) sums[row][v] = FMA(left, right[v], sums[row][v]);
        }
        a += a_depth;
        b += b_depth;
    }
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++) NAME(store)(c + row * c_row + v * LANES, sums[row][v]);
}

/* Every edge size is the same function with constant counts.  `rows_name`: A read row by row (a_depth 1); the other:
 * A read column by column (a_row 1). */
#define TILE_ARGUMENTS                                                                                   \
    int vectors, int64_t depth, const REAL *a, int64_t a_stride, const REAL *b, int64_t b_depth, const REAL *start, \
        int64_t start_row, REAL *c, int64_t c_row
#define TILE_FUNCTION(rows)                                                                              \
    static __attribute__((noinline)) void NAME(row_tile_##rows)(TILE_ARGUMENTS) {                        \
        switch (vectors) { TILE_WIDTHS(rows, a_stride, 1) }                                              \
    }                                                                                                    \
    static __attribute__((noinline)) void NAME(column_tile_##rows)(TILE_ARGUMENTS) {                     \
        switch (vectors) { TILE_WIDTHS(rows, 1, a_stride) }                                              \
    }
#define TILE_WIDTH(rows, count, a_row, a_depth) \
    case count: NAME(tile)(rows, count, depth, a, a_row, a_depth, b, b_depth, start, start_row, c, c_row); break;
#if TILE_VECTORS == 2
#define TILE_WIDTHS(rows, a_row, a_depth) TILE_WIDTH(rows, 1, a_row, a_depth) TILE_WIDTH(rows, 2, a_row, a_depth)
#elif TILE_VECTORS == 4
#define TILE_WIDTHS(rows, a_row, a_depth)                                       \
    TILE_WIDTH(rows, 1, a_row, a_depth) TILE_WIDTH(rows, 2, a_row, a_depth)     \
    TILE_WIDTH(rows, 3, a_row, a_depth) TILE_WIDTH(rows, 4, a_row, a_depth)
#endif
#if TILE_ROWS == 3
#define EACH_TILE(DO) DO(1) DO(2) DO(3)
#elif TILE_ROWS == 6
#define EACH_TILE(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6)
#elif TILE_ROWS == 14
#define EACH_TILE(DO) \
    DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14)
#endif
EACH_TILE(TILE_FUNCTION)

typedef void NAME(tile_function)(TILE_ARGUMENTS);
#define ROW_TILE_ENTRY(rows) NAME(row_tile_##rows),
#define COLUMN_TILE_ENTRY(rows) NAME(column_tile_##rows),
static NAME(tile_function) *const NAME(row_tiles)[TILE_ROWS + 1] = {NULL, EACH_TILE(ROW_TILE_ENTRY)};
static NAME(tile_function) *const NAME(column_tiles)[TILE_ROWS + 1] = {NULL, EACH_TILE(COLUMN_TILE_ENTRY)};

/* First row of tile `number` when `rows` rows are dealt to `tiles` tiles as evenly as they go: 32 = 11 + 11 + 10 */
ALWAYS_INLINE int64_t NAME(tile_start)(int64_t rows, int64_t tiles, int64_t number) { return rows * number / tiles; }

ALWAYS_INLINE int NAME(vectors_of)(int64_t columns) {
    return (int)((columns < PANEL ? columns + LANES - 1 : PANEL) / LANES);
}

/* C = start + A B over `rows` rows, A (rows, depth) by rows, B packed panels `b_panel` apart, C `columns` wide.
 * Bias: one row of start, or NULL.  Gives up between panels when the plan is told to stop. */
static void NAME(multiply)(const pymlp_plan *plan, int64_t rows, int64_t columns, int64_t depth, const REAL *a,
                           int64_t a_stride, const REAL *b, int64_t b_panel, const REAL *bias, REAL *c,
                           int64_t c_stride) {
    int64_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t k = 0; k < depth; k += NAME(DEPTH_BLOCK)) {
        int64_t count = depth - k < NAME(DEPTH_BLOCK) ? depth - k : NAME(DEPTH_BLOCK);
        for (int64_t column = 0, panel = 0; column < columns; column += PANEL, panel++) {
            if (atomic_load_explicit(&plan->stop, memory_order_relaxed)) return;
            int vectors = NAME(vectors_of)(columns - column);
            const REAL *right = b + panel * b_panel + k * PANEL;
            for (int64_t tile = 0; tile < tiles; tile++) {
                int64_t row = NAME(tile_start)(rows, tiles, tile);
                int64_t height = NAME(tile_start)(rows, tiles, tile + 1) - row;
                REAL *to = c + row * c_stride + column;
                const REAL *start = k > 0 ? to : bias == NULL ? NULL : bias + column;
                NAME(row_tiles)[height](vectors, count, a + row * a_stride + k, a_stride, right, PANEL, start,
                                        k > 0 ? c_stride : 0, to, c_stride);
            }
        }
    }
}

/* A (rows, columns) block, `columns` at most LANES, becomes `columns` vectors of LANES rows; absent rows are 0. */
static void NAME(gather_columns)(int64_t rows, int64_t columns, const REAL *from, int64_t stride, REAL *to) {
    if (rows < LANES || columns <= 4) {
        for (int64_t column = 0; column < columns; column++)
            for (int64_t row = 0; row < LANES; row++)
                to[column * LANES + row] = row < rows ? from[row * stride + column] : 0;
        return;
    }
    VECTOR square[LANES];
    for (int row = 0; row < LANES; row++) {
        REAL padded[LANES] = {0};
        if (columns < LANES) memcpy(padded, from + row * stride, (size_t)columns * sizeof(REAL));
        square[row] = NAME(load)(columns < LANES ? padded : from + row * stride);
    }
    NAME(transpose_square)(square);
    for (int64_t column = 0; column < columns; column++) NAME(store)(to + column * LANES, square[column]);
}

/* The way back: `columns` vectors of LANES rows become the first `columns` numbers of `rows` rows. */
static void NAME(scatter_columns)(int64_t rows, int64_t columns, const REAL *from, REAL *to, int64_t stride) {
    if (rows < LANES || columns <= 4) {
        for (int64_t row = 0; row < rows; row++)
            for (int64_t column = 0; column < columns; column++) to[row * stride + column] = from[column * LANES + row];
        return;
    }
    VECTOR square[LANES];
    for (int column = 0; column < LANES; column++)
        square[column] = column < columns ? NAME(load)(from + column * LANES) : (VECTOR){0};
    NAME(transpose_square)(square);
    for (int row = 0; row < LANES; row++) {
        if (columns == LANES) {
            NAME(store)(to + row * stride, square[row]);
        } else {
            REAL padded[LANES];
            NAME(store)(padded, square[row]);
            memcpy(to + row * stride, padded, (size_t)columns * sizeof(REAL));
        }
    }
}

/* A unit of phase 2: `inputs` inputs from `input`, and one panel of outputs, `columns` of them. */
struct NAME(unit) {
    const struct layer *layer;
    int64_t input, inputs, column, columns;
    int64_t place; /* of its first number in the packed arrays */
};

static struct NAME(unit) NAME(unit_of)(const struct layer *layer, int64_t number) {
    struct NAME(unit) unit = {.layer = layer};
    int64_t panel = (number - layer->first_unit) / layer->row_groups;
    unit.input = (number - layer->first_unit) % layer->row_groups * UNIT_INPUTS;
    unit.inputs = layer->inputs - unit.input < UNIT_INPUTS ? layer->inputs - unit.input : UNIT_INPUTS;
    unit.column = panel * PANEL;
    unit.columns = layer->outputs - unit.column < PANEL ? layer->outputs - unit.column : PANEL;
    unit.place = layer->packed_weight + panel * layer->padded_inputs * PANEL + unit.input * PANEL;
    return unit;
}

/* Writes the unit's weights, packed as (UNIT_INPUTS, PANEL), into the panels of the transpose. */
static void NAME(transpose_unit)(const pymlp_plan *plan, const struct NAME(unit) *unit) {
    const REAL *from = (const REAL *)plan->packed + unit->place;
    REAL *to = (REAL *)plan->transposes + unit->layer->packed_transpose;
    for (int64_t input = 0; input < unit->inputs; input += LANES)
        for (int64_t column = 0; column < unit->columns; column += LANES) {
            VECTOR square[LANES];
#pragma GCC unroll 16
            for (int row = 0; row < LANES; row++) square[row] = NAME(load)(from + (input + row) * PANEL + column);
            NAME(transpose_square)(square);
            int64_t target = unit->input + input;
            REAL *panel = to + target / PANEL * unit->layer->padded_outputs * PANEL + target % PANEL;
#pragma GCC unroll 16
            for (int row = 0; row < LANES; row++)
                NAME(store)(panel + (unit->column + column + row) * PANEL, square[row]);
        }
}

/* Between a unit of the flat vector and its packed place (padding stays 0). */
static void NAME(pack_unit)(const struct NAME(unit) *unit, const REAL *flat, REAL *packed) {
    const struct layer *layer = unit->layer;
    for (int64_t row = 0; row < unit->inputs; row++)
        memcpy(packed + unit->place + row * PANEL,
               flat + layer->weight + (unit->input + row) * layer->outputs + unit->column,
               (size_t)unit->columns * sizeof(REAL));
    if (unit->input == 0)
        memcpy(packed + layer->packed_bias + unit->column, flat + layer->bias + unit->column,
               (size_t)unit->columns * sizeof(REAL));
}

static void NAME(unpack_unit)(const struct NAME(unit) *unit, const REAL *packed, REAL *flat) {
    const struct layer *layer = unit->layer;
    for (int64_t row = 0; row < unit->inputs; row++)
        memcpy(flat + layer->weight + (unit->input + row) * layer->outputs + unit->column,
               packed + unit->place + row * PANEL, (size_t)unit->columns * sizeof(REAL));
    if (unit->input == 0)
        memcpy(flat + layer->bias + unit->column, packed + layer->packed_bias + unit->column,
               (size_t)unit->columns * sizeof(REAL));
}
