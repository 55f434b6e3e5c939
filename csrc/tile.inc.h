/* tile.inc.h: the micro-kernel, for one width of vectors: included with
 *   TILE, TILE_VECTOR, TILE_LANES   the function's name, the vector and how many numbers it holds
 *   TILE_FMA(a, b, c)
 *   TILE_WIDEN(x), TILE_NARROW(x)   to and from a whole VECTOR
 *
 * c[rows][vectors] = start + sum over k of a[row, k] * b[k, :].  a[row, k] is at a + row * a_row + k * a_depth, for `run`
 * values of k, after which a moves on by a_skip; b[k, :] at b + k * b_depth; the rows of c are c_row apart, those of start
 * start_row (0: one row for all, a bias or zeros).  depth and run are at least 1.  After each run some rows of `pending` are
 * updated, as `woven` says; it is read for nothing else.
 *
 * Memory is asked for ahead from `next` on, which moves on like b, in one of three ways.  With fetch_ahead 0: so many `lines`
 * after each run, into the second-level cache, of what a later product will read.  Else at each k, with a's lines so many
 * values of k before their turn: two lines from `next` on, b's own or those of a later product; or, for tiles that are longer
 * than a line, b's own and one line from `next` on into the second-level cache.
 *
 * kind says what becomes of the sums before they are stored: nothing, an activation, or a multiplication by the slope of
 * one, whose outputs are `outputs` numbers from where the sums go.
 */
ALWAYS_INLINE void TILE(const int rows, const int vectors, int64_t depth, const REAL *a, const int64_t a_row,
                        const int64_t a_depth, int64_t run, int64_t a_skip, const REAL *b, const int64_t b_depth,
                        const REAL *start, int64_t start_row, REAL *c, const int64_t c_row,
                        const int fetch_ahead, const int woven, struct NAME(pending) *pending, const int kind,
                        int64_t outputs, const REAL *next, int64_t lines) {
    typedef REAL loose __attribute__((vector_size(TILE_LANES * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
    TILE_VECTOR sums[TILE_ROWS][TILE_VECTORS];
    /* no branch on where a chain starts, and loops that run at least once: where two ways meet, the compiler would have
     * the sums go through memory */
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++) sums[row][v] = *(const loose *)(start + row * start_row + v * TILE_LANES);
    do {
        int64_t count = depth < run ? depth : run;
        depth -= count;
        do {
            TILE_VECTOR right[TILE_VECTORS];
            for (int v = 0; v < vectors; v++) right[v] = *(const loose *)(b + v * TILE_LANES);
            for (int row = 0; row < rows; row++) {
                TILE_VECTOR left = a[row * a_row] - (TILE_VECTOR){0};
                for (int v = 0; v < vectors; v++) sums[row][v] = TILE_FMA(left, right[v], sums[row][v]);
            }
            if (fetch_ahead > 0) {
                __builtin_prefetch(a + (rows - 1) * a_row + fetch_ahead * a_depth, 0, 3);
                const REAL *near = LONG_TILES ? b + fetch_ahead * b_depth : next;
                __builtin_prefetch(near, 0, 3);
                __builtin_prefetch(near + CACHE_LINE, 0, 3);
                if (LONG_TILES) {
                    __builtin_prefetch(a + fetch_ahead * a_depth, 0, 3);
                    __builtin_prefetch(next, 0, 2);
                }
                next += b_depth;
            }
            a += a_depth;
            b += b_depth;
        } while (--count > 0);
        a += a_skip;
        if (fetch_ahead == 0) {
            for (int64_t line = 0; line < lines; line++) __builtin_prefetch(next + line * CACHE_LINE, 0, 2);
            next += run * b_depth;
        }
        if (woven != NOTHING_WOVEN)
            for (int64_t row = pending->pace; row > 0 && pending->rows > 0; row--)
                NAME(update_row)(pending, woven / 2, woven % 2);
    } while (depth > 0);
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++) {
            REAL *target = c + row * c_row + v * TILE_LANES;
            switch (kind) {
                case TILE_PLAIN: *(loose *)target = sums[row][v]; break;
#define FUSED_CASE(name)                                                                                          \
    case TILE_VALUE_##name: *(loose *)target = TILE_NARROW(NAME(value_##name)(TILE_WIDEN(sums[row][v]))); break;   \
    case TILE_SLOPE_##name:                                                                                       \
        *(loose *)target =                                                                                        \
            sums[row][v] * TILE_NARROW(NAME(slope_##name)(ZERO, TILE_WIDEN(*(const loose *)(target + outputs)))); \
        break;
                FUSED_ROWS(FUSED_CASE)
#undef FUSED_CASE
            }
        }
}
#undef TILE
#undef TILE_VECTOR
#undef TILE_LANES
#undef TILE_FMA
#undef TILE_WIDEN
#undef TILE_NARROW
