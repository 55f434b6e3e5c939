/* kernels.inc.h: the micro-kernel, and moving numbers between the flat vector and the packed layout.
 *
 * One micro-kernel serves all three products, because its A operand carries two strides.  Every element of the result
 * is one chain of fused multiply-adds, sequential in depth, whatever the tile: cutting the depth stores the chain and
 * takes it up again.
 */

/* numbers of a cache line, on most machines */
#define CACHE_LINE ((int64_t)(64 / sizeof(REAL)))

/* where chains start that have no bias: a tile's rows */
static const REAL NAME(zeros)[TILE_ROWS * PANEL] __attribute__((aligned(64))) = {0};

/* The depth that is carried through a strip at once is at most 512; and the strip's rows of A, so deep, and those of this panel
 * of weights and the next take at most 440 KB.  What lies in 1 MB of L2 page by page, as chance will have it, begins to drive
 * itself out from 450 KB on, and what goes through, the sums and the weights after, passes the same sets. */
enum { NAME(MOST_DEPTH) = 512, NAME(DEPTH_NUMBERS) = 450560 / sizeof(REAL) };
/* tiles to a panel from which on they ask for the next one: of fewer, each would ask for more than it hides */
enum { NAME(LEAST_TILES) = 4 };

/* What a product does with its sums: a kind of tile, and for a slope the distance from the sums to the outputs. */
struct NAME(fused) {
    int kind;
    int64_t outputs;
};

/* a column of a tile may be longer than a cache line: 14 numbers of float64 */
#define LONG_TILES (TILE_ROWS > CACHE_LINE)

#define TILE NAME(tile)
#define TILE_VECTOR VECTOR
#define TILE_LANES LANES
#define TILE_FMA FMA
#define TILE_WIDEN(x) (x)
#define TILE_NARROW(x) (x)
#include "tile.inc.h"

/* "vectors" of a tile that is half a vector wide */
#define HALF_VECTOR 0

#ifdef HALF_FMA_F32
/* Half a vector's columns: some cores do two such steps in the time of a whole one, and no column is computed in vain. */
typedef REAL NAME(half_vector) __attribute__((vector_size(VECTOR_BYTES / 2)));
#define HALF_LANES (LANES / 2)
#define TILE NAME(half_tile)
#define TILE_VECTOR NAME(half_vector)
#define TILE_LANES HALF_LANES
#define TILE_WIDEN(x) ((VECTOR)BY_TYPE(WIDENED_F32(x), WIDENED_F64(x)))
#define TILE_NARROW(x) ((NAME(half_vector))BY_TYPE(NARROWED_F32(x), NARROWED_F64(x)))
#define TILE_FMA(a, b, c) ((NAME(half_vector))BY_TYPE(HALF_FMA_F32(a, b, c), HALF_FMA_F64(a, b, c)))
#include "tile.inc.h"
#define HALF_TILE_WIDTH(rows, kind)                                                                                  \
    case HALF_VECTOR:                                                                                                \
        NAME(half_tile)(rows, 1, depth, a, BAND, 1, BAND, band - BAND, b, b_depth, start, start_row, c, BAND, 0,     \
                        NOTHING_WOVEN, NULL, kind, outputs, next, lines);                                            \
        break;
#else
#define HALF_LANES 0
#define HALF_TILE_WIDTH(rows, kind)
#endif

/* Every edge size is the same function with constant counts.  A row tile reads rows of A in bands `band` apart, B in rows
 * b_depth apart, and writes into a band of C; a column tile reads a band of A column by column, a band of B, and writes
 * rows a panel apart. */
#define ROW_TILE_ARGUMENTS                                                                                           \
    int vectors, int64_t depth, const REAL *a, int64_t band, const REAL *b, int64_t b_depth, const REAL *start,      \
        int64_t start_row, REAL *c, UNREAD int64_t outputs, const REAL *next, int64_t lines
/* a function for each kind: ways that part after the loop would have the sums go through memory, see tile.inc.h */
#define ROW_TILE(name, rows, kind)                                                                                   \
    static __attribute__((noinline)) void NAME(name)(ROW_TILE_ARGUMENTS) {                                           \
        switch (vectors) {                                                                                           \
            HALF_TILE_WIDTH(rows, kind)                                                                              \
            TILE_WIDTHS(rows, BAND, 1, BAND, band - BAND, b_depth, start_row, BAND, 0, NOTHING_WOVEN, NULL, kind,    \
                        outputs, next, lines)                                                                        \
        }                                                                                                            \
    }
#define PLAIN_TILE(rows, x) ROW_TILE(row_tile_##rows, rows, TILE_PLAIN)
#define FUSED_TILES(name)                                                                                            \
    EACH_TILE_OF(VALUE_TILE, name)                                                                                   \
    EACH_TILE_OF(SLOPE_TILE, name)
#define VALUE_TILE(rows, name) ROW_TILE(value_tile_##name##_##rows, rows, TILE_VALUE_##name)
#define SLOPE_TILE(rows, name) ROW_TILE(slope_tile_##name##_##rows, rows, TILE_SLOPE_##name)
#define COLUMN_TILE_ARGUMENTS                                                                                        \
    int vectors, int64_t depth, const REAL *a, const REAL *b, const REAL *start, REAL *c,                            \
        UNREAD struct NAME(pending) *pending, UNREAD const REAL *next
#define COLUMN_TILE_WIDTHS(rows, run, woven)                                                                         \
    TILE_WIDTHS(rows, 1, BAND, run, 0, BAND, PANEL, PANEL, FETCH_AHEAD, woven, pending, TILE_PLAIN, 0, next, 0)
#define COLUMN_TILE(rows, x)                                                                                         \
    static __attribute__((noinline)) void NAME(column_tile_##rows)(COLUMN_TILE_ARGUMENTS) {                          \
        switch (vectors) { COLUMN_TILE_WIDTHS(rows, depth, NOTHING_WOVEN) }                                          \
    }
/* a column tile with a unit's update woven in, for the heights that 32 inputs are dealt in */
#define WOVEN_TILE(rows, name, penalised)                                                                            \
    static __attribute__((noinline)) void NAME(woven_tile_##name##_##penalised##_##rows)(COLUMN_TILE_ARGUMENTS) {    \
        switch (vectors) { COLUMN_TILE_WIDTHS(rows, pending->run, WOVEN_AS(OPTIMIZER_##name, penalised)) }           \
    }
#define WOVEN_TILES(name, n_slots) EACH_WOVEN_TILE(WOVEN_TILE, name, 0) EACH_WOVEN_TILE(WOVEN_TILE, name, 1)
#define TILE_WIDTH(count, rows, a_row, a_depth, run, a_skip, b_depth, start_row, c_row, fetch_ahead, woven, pending, \
                   kind, outputs, next, lines)                                                                       \
    case count:                                                                                                      \
        NAME(tile)(rows, count, depth, a, a_row, a_depth, run, a_skip, b, b_depth, start, start_row, c, c_row,       \
                   fetch_ahead, woven, pending, kind, outputs, next, lines);                                         \
        break;
#if TILE_VECTORS == 2
#define TILE_WIDTHS(...) TILE_WIDTH(1, __VA_ARGS__) TILE_WIDTH(2, __VA_ARGS__)
#elif TILE_VECTORS == 4
#define TILE_WIDTHS(...)                                                                                             \
    TILE_WIDTH(1, __VA_ARGS__) TILE_WIDTH(2, __VA_ARGS__) TILE_WIDTH(3, __VA_ARGS__) TILE_WIDTH(4, __VA_ARGS__)
#endif
#if TILE_ROWS == 3
#define EACH_TILE_OF(DO, x) DO(1, x) DO(2, x) DO(3, x)
#elif TILE_ROWS == 6
#define EACH_TILE_OF(DO, x) DO(1, x) DO(2, x) DO(3, x) DO(4, x) DO(5, x) DO(6, x)
#elif TILE_ROWS == 14
#define EACH_TILE_OF(DO, x)                                                                                          \
    DO(1, x) DO(2, x) DO(3, x) DO(4, x) DO(5, x) DO(6, x) DO(7, x) DO(8, x) DO(9, x) DO(10, x) DO(11, x) DO(12, x)   \
        DO(13, x) DO(14, x)
#endif
/* Weaving pays where the registers hold a tile and an update; elsewhere the update comes after the product.  And a column
 * tile reads two long runs of memory, often another core's work: it asks for them ahead where one k takes 11 cycles or
 * more; where it takes 5, the loads are the bottleneck. */
#if TILE_ROWS == 14
#define WEAVES 1
#define FETCH_AHEAD 12
#define EACH_WOVEN_TILE(DO, ...) DO(10, __VA_ARGS__) DO(11, __VA_ARGS__)
#else
#define WEAVES 0
#define FETCH_AHEAD 0
#define EACH_WOVEN_TILE(DO, ...)
#endif
EACH_TILE_OF(PLAIN_TILE, )
EACH_TILE_OF(COLUMN_TILE, )
WOVEN_OPTIMIZER_ROWS(WOVEN_TILES)
FUSED_ROWS(FUSED_TILES)

typedef void NAME(row_tile_function)(ROW_TILE_ARGUMENTS);
typedef void NAME(column_tile_function)(COLUMN_TILE_ARGUMENTS);
#define PLAIN_ENTRY(rows, x) NAME(row_tile_##rows),
#define COLUMN_ENTRY(rows, x) NAME(column_tile_##rows),
#define WOVEN_ENTRY(rows, name, penalised) [rows] = NAME(woven_tile_##name##_##penalised##_##rows),
#define WOVEN_ENTRIES(name, n_slots)                                                                                 \
    [WOVEN_AS(OPTIMIZER_##name, 0)] = {EACH_WOVEN_TILE(WOVEN_ENTRY, name, 0)},                                       \
    [WOVEN_AS(OPTIMIZER_##name, 1)] = {EACH_WOVEN_TILE(WOVEN_ENTRY, name, 1)},
#define VALUE_ENTRY(rows, name) NAME(value_tile_##name##_##rows),
#define SLOPE_ENTRY(rows, name) NAME(slope_tile_##name##_##rows),
#define FUSED_ENTRIES(name)                                                                                          \
    [TILE_VALUE_##name] = {NULL, EACH_TILE_OF(VALUE_ENTRY, name)},                                                   \
    [TILE_SLOPE_##name] = {NULL, EACH_TILE_OF(SLOPE_ENTRY, name)},
/* by height, 1 to TILE_ROWS; row tiles also by kind, and woven ones by what is woven in */
static NAME(row_tile_function) *const NAME(row_tiles)[N_TILE_KINDS][TILE_ROWS + 1] = {
    [TILE_PLAIN] = {NULL, EACH_TILE_OF(PLAIN_ENTRY, )}, FUSED_ROWS(FUSED_ENTRIES)};
static NAME(column_tile_function) *const NAME(column_tiles)[TILE_ROWS + 1] = {NULL, EACH_TILE_OF(COLUMN_ENTRY, )};
static NAME(column_tile_function) *const NAME(woven_tiles)[NOTHING_WOVEN][TILE_ROWS + 1] = {
    WOVEN_OPTIMIZER_ROWS(WOVEN_ENTRIES)};

/* First row of tile `number` when `rows` rows are dealt to `tiles` tiles as evenly as they go: 32 = 11 + 11 + 10 */
ALWAYS_INLINE int64_t NAME(tile_start)(int64_t rows, int64_t tiles, int64_t number) { return rows * number / tiles; }

ALWAYS_INLINE int NAME(vectors_of)(int64_t columns) {
    return (int)((columns < PANEL ? columns + LANES - 1 : PANEL) / LANES);
}

/* Where column `column` of row 0 is, in a buffer whose bands are `band` apart */
ALWAYS_INLINE int64_t NAME(place_of)(int64_t column, int64_t band) { return column / BAND * band + column % BAND; }

/* Asks for `rows` rows of a panel in a band, to be written. */
ALWAYS_INLINE void NAME(fetch_rows)(const REAL *from, int64_t rows) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < PANEL; i += CACHE_LINE) __builtin_prefetch(from + row * BAND + i, 1, 3);
}

/* The depth that `rows` rows are carried through at once: whole bands, as even as they go */
ALWAYS_INLINE int64_t NAME(depth_block)(int64_t rows, int64_t depth) {
    const int64_t fits = NAME(DEPTH_NUMBERS) / (rows + 2 * PANEL);
    const int64_t most = fits > NAME(MOST_DEPTH) ? NAME(MOST_DEPTH) : fits < BAND ? BAND : fits;
    if (depth <= most) return depth;
    const int64_t blocks = (depth + most - 1) / most;
    return (depth + blocks * BAND - 1) / (blocks * BAND) * BAND;
}

/* C = start + A B over `rows` rows; A (rows, depth) and C (rows, columns) in bands, B in packed panels `b_panel` apart whose
 * rows are `pitch` apart.  start: C itself if it `adds`, else the bias in every row, or zeros if that is NULL.  `fused`: what
 * becomes of whole sums.  The weights of a large layer come from afar: where many tiles meet a panel, they ask for the next
 * panel meanwhile, each for its part of every band's depth of it, and for the sums that the next tile takes up.  Gives up
 * between panels when the plan is told to stop.  Inlined: of what a layer does, forward or back, this is nearly all. */
ALWAYS_INLINE void NAME(multiply)(const pymlp_plan *plan, int64_t rows, int64_t columns, int64_t depth, const REAL *a,
                                  int64_t a_band, const REAL *b, int64_t b_panel, int64_t pitch, const REAL *bias,
                                  REAL *c, int64_t c_band, bool adds, struct NAME(fused) fused) {
    int64_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const int64_t block = NAME(depth_block)(rows, depth);
    for (int64_t k = 0; k < depth; k += block) {
        int64_t count = depth - k < block ? depth - k : block;
        const REAL *left = a + NAME(place_of)(k, a_band);
        NAME(row_tile_function) *const *functions = NAME(row_tiles)[k + count < depth ? TILE_PLAIN : fused.kind];
        for (int64_t column = 0, panel = 0; column < columns; column += PANEL, panel++) {
            if (atomic_load_explicit(&plan->stop, memory_order_relaxed)) return;
            int vectors = columns - column <= HALF_LANES ? HALF_VECTOR : NAME(vectors_of)(columns - column);
            const REAL *right = b + panel * b_panel + k * pitch;
            REAL *result = c + NAME(place_of)(column, c_band);
            const int64_t ahead = tiles >= NAME(LEAST_TILES) && column + PANEL < columns ? BAND * pitch / CACHE_LINE : 0;
            const bool on_top = adds || k > 0;
            for (int64_t tile = 0; tile < tiles; tile++) {
                int64_t row = NAME(tile_start)(rows, tiles, tile);
                int64_t height = NAME(tile_start)(rows, tiles, tile + 1) - row;
                REAL *to = result + row * BAND;
                if (on_top && tile + 1 < tiles) NAME(fetch_rows)(to + height * BAND, height);
                const int64_t line = ahead * tile / tiles;
                const REAL *start = on_top ? to : bias == NULL ? NAME(zeros) : bias + column;
                functions[height](vectors, count, left + row * BAND, a_band, right, pitch, start, on_top ? BAND : 0, to,
                                  fused.outputs, right + (ahead > 0 ? b_panel : 0) + line * CACHE_LINE,
                                  ahead * (tile + 1) / tiles - line);
            }
        }
    }
}

/* numbers of later rows that are asked for while earlier ones are copied */
enum { NAME(ROW_NUMBERS_AHEAD) = 2048 / sizeof(REAL) };

/* Inlined, as whatever only asks for memory has to be: gcc leaves out calls of functions that seem to do nothing. */
ALWAYS_INLINE void NAME(ask_for)(const REAL *from, int64_t count) {
    for (int64_t i = 0; i < count; i += CACHE_LINE) __builtin_prefetch(from + i, 0, 3);
    __builtin_prefetch(from + count - 1, 0, 3);
}

/* Rows of a plain array, `numbers` or else from `first`, are laid into bands; and the way back from row 0.  Rows by their numbers
 * lie anywhere in an array that may be larger than the caches: the first are asked for at once, and each of the others while
 * one before it is copied. */
static void NAME(rows_to_bands)(int64_t rows, int64_t width, const REAL *from, const int64_t *numbers, int64_t first,
                                REAL *to, int64_t band) {
    const int64_t ahead = numbers == NULL ? rows : 1 + NAME(ROW_NUMBERS_AHEAD) / (width + 1);
    for (int64_t row = 0; numbers != NULL && row < ahead && row < rows; row++)
        NAME(ask_for)(from + numbers[first + row] * width, width);
    for (int64_t row = 0; row < rows; row++) {
        const REAL *source = from + (numbers == NULL ? first + row : numbers[first + row]) * width;
        const REAL *later = row + ahead < rows ? from + numbers[first + row + ahead] * width : source;
        REAL *target = to + row * BAND;
        int64_t column = 0;
        for (; column + BAND <= width; column += BAND, target += band) {
            for (int64_t i = 0; i < BAND; i += CACHE_LINE) __builtin_prefetch(later + column + i, 0, 3);
            memcpy(target, source + column, BAND * sizeof(REAL));
        }
        if (later != source) NAME(ask_for)(later + column, width - column);
        if (column < width) memcpy(target, source + column, (size_t)(width - column) * sizeof(REAL));
    }
}

static void NAME(bands_to_rows)(int64_t rows, int64_t width, const REAL *from, int64_t band, REAL *to) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < width; column += BAND)
            memcpy(to + row * width + column, from + row * BAND + NAME(place_of)(column, band),
                   (size_t)(width - column < BAND ? width - column : BAND) * sizeof(REAL));
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

/* Units are numbered so that each panel meets the groups of inputs of a block one after the other: the block's activations,
 * 256 KB, then stay in L2 for the panels after.  And the panels of a block, 2 MB of deltas, meet all groups before the next
 * block's: their deltas, which each block of groups reads anew, then stay in L3 even where neighbours use it too. */
static struct NAME(unit) NAME(unit_of)(const struct layer *layer, int64_t number) {
    struct NAME(unit) unit = {.layer = layer};
    int64_t rest = number - layer->first_unit, first_panel = 0, panels = layer->panels;
    /* few layers are so wide, and a division makes all that follows wait */
    if (panels > layer->block_panels) {
        const int64_t units = layer->block_panels * layer->row_groups;
        first_panel = rest / units * layer->block_panels;
        panels = panels - first_panel < layer->block_panels ? panels - first_panel : layer->block_panels;
        rest %= units;
    }
    const int64_t in_block = layer->block_groups * panels, first_group = rest / in_block * layer->block_groups;
    const int64_t left = layer->row_groups - first_group, within = rest % in_block;
    const int64_t groups = left < layer->block_groups ? left : layer->block_groups;
    unit.turn = within % groups;
    unit.turns = groups;
    unit.panel = within / groups;
    unit.input = (first_group + unit.turn) * UNIT_INPUTS;
    unit.inputs = layer->matrix_inputs - unit.input < UNIT_INPUTS ? layer->matrix_inputs - unit.input : UNIT_INPUTS;
    unit.column = (first_panel + unit.panel) * PANEL;
    unit.columns = layer->outputs - unit.column < PANEL ? layer->outputs - unit.column : PANEL;
    unit.place = layer->packed_weight + (first_panel + unit.panel) * layer->panel_size + unit.input * layer->pitch;
    return unit;
}

/* Where the transpose of the unit's weights begins, for the panel of inputs that `input` belongs to */
ALWAYS_INLINE REAL *NAME(turned_place)(const pymlp_plan *plan, const struct NAME(unit) *unit, int64_t input) {
    const struct layer *layer = unit->layer;
    REAL *panel = (REAL *)plan->transposes + layer->packed_transpose + input / PANEL * layer->padded_outputs * PANEL;
    return panel + input % PANEL + unit->column * PANEL;
}

/* The row `row` of a unit of a narrow layer, whose rows lie closer than a vector is wide.  What comes after the unit is another
 * one, which another thread may be updating: the vector ends with the unit. */
ALWAYS_INLINE VECTOR NAME(narrow_row)(const struct layer *layer, const REAL *weights, int64_t row) {
    const int64_t left = (UNIT_INPUTS - row) * layer->pitch;
    if (left >= LANES) return NAME(load)(weights + row * layer->pitch);
    REAL padded[LANES] = {0};
    memcpy(padded, weights + row * layer->pitch, (size_t)left * sizeof(REAL));
    return NAME(load)(padded);
}

/* Writes the unit's weights into the panels of the transpose. */
static void NAME(transpose_unit)(const pymlp_plan *plan, const struct NAME(unit) *unit) {
    const struct layer *layer = unit->layer;
    const REAL *from = (const REAL *)plan->packed + unit->place;
    for (int64_t input = 0; input < unit->inputs; input += LANES)
        for (int64_t column = 0; column < unit->columns; column += LANES) {
            VECTOR square[LANES];
            if (layer->pitch < LANES)
                for (int row = 0; row < LANES; row++) square[row] = NAME(narrow_row)(layer, from, input + row);
            else
#pragma GCC unroll 16
                for (int row = 0; row < LANES; row++)
                    square[row] = NAME(load)(from + (input + row) * layer->pitch + column);
            NAME(transpose_square)(square);
            REAL *to = NAME(turned_place)(plan, unit, unit->input + input) + column * PANEL;
            /* rows of a narrow layer lie closer than a vector: what was read past them is left out */
#pragma GCC unroll 16
            for (int row = 0; row < LANES; row++)
                if (row < unit->columns - column) NAME(store)(to + row * PANEL, square[row]);
        }
}

/* Copies a share of the rows of a flat vector (a layer's vectors count as further rows) to their packed places, or back.
 * Row by row, because the flat side is then one run; padding stays 0.  Gives up when the plan is told to stop: a wide
 * network takes as long to pack as a small one to train. */
static void NAME(repack)(const pymlp_plan *plan, int index, int members, REAL *flat, REAL *packed, bool back) {
    const int64_t from = plan->n_parameters * index / members, to = plan->n_parameters * (index + 1) / members;
    for (int64_t l = 0; l < plan->n_layers; l++) {
        const struct layer *layer = &plan->layers[l];
        const int64_t width = layer->outputs;
        /* the rows that begin in from .. to - 1 */
        int64_t row = from <= layer->weight ? 0 : (from - layer->weight + width - 1) / width;
        for (; row < layer->matrix_inputs + layer->vectors && layer->weight + row * width < to; row++) {
            if (atomic_load_explicit(&plan->stop, memory_order_relaxed)) return;
            const int64_t vector = row - layer->matrix_inputs;
            REAL *there = packed + (vector >= 0 ? layer->packed_bias + vector * layer->padded_outputs
                                                : layer->packed_weight + row * layer->pitch);
            REAL *here = flat + layer->weight + row * width;
            const int64_t step = vector >= 0 ? PANEL : layer->panel_size;
            for (int64_t column = 0; column < width; column += PANEL, there += step) {
                if (width - column >= PANEL)
                    memcpy(back ? here + column : there, back ? there : here + column, PANEL * sizeof(REAL));
                else
                    memcpy(back ? here + column : there, back ? there : here + column,
                           (size_t)(width - column) * sizeof(REAL));
            }
        }
    }
}
