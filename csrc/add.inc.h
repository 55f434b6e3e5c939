/* add.inc.h: the layer kind "add", the sum of two buffers: a residual link. */

static void NAME(add_forward)(const struct NAME(strip) *strip) {
    const int64_t columns = strip->layer->outputs;
    for (int64_t column = 0; column < columns; column += BAND) {
        const REAL *x = strip->in + NAME(place_of)(column, strip->in_band);
        const REAL *y = strip->second + NAME(place_of)(column, strip->second_band);
        REAL *to = strip->a + NAME(place_of)(column, strip->band);
        EACH_VECTOR(strip->rows, NAME(band_width)(columns, column))
            NAME(store)(to + i, NAME(load)(x + i) + NAME(load)(y + i));
    }
}

/* The deltas are a share of the gradient to a buffer as they are. */
static void NAME(pass_on)(const struct NAME(strip) *strip, REAL *to, int64_t band, bool adds) {
    const int64_t columns = strip->layer->outputs;
    if (to == NULL) return;
    for (int64_t column = 0; column < columns; column += BAND) {
        const REAL *deltas = strip->deltas + NAME(place_of)(column, strip->band);
        REAL *there = to + NAME(place_of)(column, band);
        EACH_VECTOR(strip->rows, NAME(band_width)(columns, column)) NAME(give)(there + i, NAME(load)(deltas + i), adds);
    }
}

static void NAME(add_backward)(const struct NAME(strip) *strip) {
    NAME(pass_on)(strip, strip->in_deltas, strip->in_band, strip->layer->flags & ADDS_INTO_DELTAS);
    NAME(pass_on)(strip, strip->second_deltas, strip->second_band, strip->layer->flags & ADDS_INTO_SECOND);
}

