/* max_norm.inc.h: after a step, the weights into a unit are scaled down to the layer's largest norm, where theirs is larger.
 *
 * The norm of a column is the root of one chain over the inputs.
 */

/* By what columns of these sums of squares are multiplied. */
ALWAYS_INLINE VECTOR NAME(shortening)(VECTOR squares, double max_norm) {
    const VECTOR norm = SQRT(squares), limit = NAME(splat)((REAL)max_norm);
    return NAME(select)(norm > limit, limit / norm, ONE);
}

/* The columns of one panel of packed weights, and their transposes. */
static void NAME(shorten_panel)(const pymlp_plan *plan, const struct layer *layer, int64_t panel) {
    const int64_t column = panel * PANEL, rest = layer->outputs - column;
    const int64_t columns = rest < PANEL ? rest : PANEL, place = layer->packed_weight + panel * layer->panel_size;
    const int vectors = NAME(vectors_of)(columns);
    REAL *weights = (REAL *)plan->packed + place, factors[PANEL];
    bool any = false;
    for (int v = 0; v < vectors; v++) {
        VECTOR squares = ZERO;
        for (int64_t input = 0; input < layer->matrix_inputs; input++) {
            const VECTOR w = NAME(load)(weights + input * layer->pitch + v * LANES);
            squares = FMA(w, w, squares);
        }
        NAME(store)(factors + v * LANES, NAME(shortening)(squares, layer->max_norm));
    }
    for (int64_t i = 0; i < columns; i++) any = any || factors[i] != 1;
    if (!any) return;
    for (int64_t input = 0; input < layer->matrix_inputs; input++)
        for (int64_t i = 0; i < columns; i++) weights[input * layer->pitch + i] *= factors[i];
    if (!(layer->flags & NEEDS_INPUT_GRADIENT)) return;
    for (int64_t input = 0; input < layer->matrix_inputs; input += UNIT_INPUTS) {
        const int64_t left = layer->matrix_inputs - input;
        const struct NAME(unit) unit = {.layer = layer,
                                        .input = input,
                                        .inputs = left < UNIT_INPUTS ? left : UNIT_INPUTS,
                                        .column = column,
                                        .columns = columns,
                                        .place = place + input * layer->pitch};
        NAME(transpose_unit)(plan, &unit);
    }
}

/* A thread's share of all panels; the averages of their weights, which have waited for it, follow. */
static void NAME(shorten_weights)(const pymlp_plan *plan, const struct NAME(rule) *rule, int index, int members) {
    const int last_slot = pymlp_optimizer_rows[rule->kind].n_slots;
    int64_t turn = 0;
    for (int64_t l = 0; l < plan->n_layers; l++) {
        const struct layer *layer = &plan->layers[l];
        if (layer->max_norm == 0) continue;
        for (int64_t panel = 0; panel < layer->panels; panel++) {
            if (turn++ % members != index) continue;
            NAME(shorten_panel)(plan, layer, panel);
            const int64_t place = layer->packed_weight + panel * layer->panel_size;
            if (rule->averages)
                NAME(average)(rule, layer->panel_size, (REAL *)plan->packed + place,
                              (REAL *)plan->slots[last_slot] + place);
        }
    }
}

/* The same for a layer's weights in the flat vector, and their average. */
static void NAME(shorten_flat)(const struct layer *layer, const struct NAME(rule) *rule, REAL *weights, REAL *averages) {
    for (int64_t column = 0; column < layer->outputs; column += LANES) {
        const int64_t rest = layer->outputs - column;
        const size_t bytes = (size_t)(rest < LANES ? rest : LANES) * sizeof(REAL);
        REAL w[LANES] = {0}, average[LANES] = {0};
        VECTOR squares = ZERO;
        for (int64_t input = 0; input < layer->matrix_inputs; input++) {
            memcpy(w, weights + input * layer->outputs + column, bytes);
            squares = FMA(NAME(load)(w), NAME(load)(w), squares);
        }
        const VECTOR factor = NAME(shortening)(squares, layer->max_norm);
        for (int64_t at = column; at < layer->matrix_inputs * layer->outputs; at += layer->outputs) {
            memcpy(w, weights + at, bytes);
            NAME(store)(w, NAME(load)(w) * factor);
            memcpy(weights + at, w, bytes);
            if (!rule->averages) continue;
            memcpy(average, averages + at, bytes);
            NAME(average)(rule, LANES, w, average);
            memcpy(averages + at, average, bytes);
        }
    }
}
