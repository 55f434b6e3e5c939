/* layers.c: the table of layers: which tables there can be, and what a plan needs to know of each of their rows: where its
 * parameters lie, what the way back asks of it, and where inference keeps what it writes.
 */
#include <float.h>

#include "memory.h"
#include "plan.h"

/* Whether a row of a table can be: what it reads has been written, its widths fit, and so does its kind. */
static bool is_row(const pymlp_layer *rows, int64_t number, int64_t n_rows) {
    const pymlp_layer *row = &rows[number];
    if (row->kind < 0 || row->kind >= N_LAYER_KINDS || row->activation < 0 || row->activation >= N_ACTIVATIONS ||
        row->inputs < 1 || row->outputs < 1 || row->source < 0 || row->source > number || row->second > number)
        return false;
    const struct layer_kind_row *kind = &pymlp_layer_kind_rows[row->kind];
    if (kind->nature & STANDS_IN) return false;
    const bool last = number == n_rows - 1;
    if (row->inputs != (row->source == 0 ? rows[0].inputs : rows[row->source - 1].outputs)) return false;
    if (!kind->matrix && row->inputs != row->outputs) return false;
    if ((row->second >= 0) != ((kind->nature & TAKES_SECOND) != 0)) return false;
    if (row->second >= 0 && row->outputs != (row->second == 0 ? rows[0].inputs : rows[row->second - 1].outputs))
        return false;
    /* so written that what is not a number fails too; a rate of dropout is divided by its complement */
    if (!(row->max_norm >= 0 && row->max_norm <= DBL_MAX) || (row->max_norm > 0 && !kind->matrix)) return false;
    if (!(row->setting >= 0 && row->setting <= DBL_MAX)) return false;
    if (kind->nature & TRAINS_ONLY && !(row->setting < 1)) return false;
    /* the head applies the last row's activation, the others' must work element by element */
    return last ? kind->matrix : pymlp_activation_rows[row->activation].slope < ROW_WISE;
}

/* rows of a block below which units are in the order of their inputs alone; what groups of inputs may take of a second-level
 * cache, and deltas of the last-level one, of which a core's fair share is a few megabytes */
enum { FEW_ROWS = 128, GROUPS_BYTES = 262144, DELTAS_BYTES = 2097152 };

/* How many groups of inputs meet each panel one after the other: as many as stay in a second-level cache, with the panel's deltas
 * and what the updates bring.  Few rows of all groups stay there anyway; where threads have whole groups, steps of 32 rows are
 * 4 % faster. */
static int64_t block_groups_for(int64_t rows, int64_t real_bytes) {
    if (rows < FEW_ROWS) return 1;
    const int64_t fit = GROUPS_BYTES / (rows * UNIT_INPUTS * real_bytes);
    return fit > 1 ? fit : 1;
}

/* How many panels meet all groups of inputs before the next panels do: each group reads their deltas anew, which stay in the
 * last-level cache; the inputs are read once for each such block of panels. */
static int64_t block_panels_for(int64_t rows, int64_t panel, int64_t real_bytes) {
    const int64_t fit = DELTAS_BYTES / (rows * panel * real_bytes);
    return fit > 1 ? fit : 1;
}

/* Where the parameters of each layer lie, and the counts that follow. */
static int lay_out(pymlp_plan *plan, const pymlp_layer *given) {
    const int64_t panel = plan->operations->panel;
    double size = 0;
    plan->splits_columns = true;
    plan->takes_sparse = given->kind == KIND_dense;
    plan->filled = 1;
    for (int64_t l = 0; l < plan->n_layers; l++, given++) {
        const struct layer_kind_row *kind = &pymlp_layer_kind_rows[given->kind];
        const int64_t matrix_inputs = kind->matrix ? given->inputs : 0;
        /* in floating point, before any sum or product of hostile widths, which would overflow */
        size += ((double)matrix_inputs + UNIT_INPUTS + kind->vectors) * ((double)given->outputs + (double)panel);
        if (size + (double)given->inputs > MOST_NUMBERS) return pymlp_refuse(size * (double)plan->operations->real_bytes);
        struct layer *layer = &plan->layers[l];
        *layer = (struct layer){.kind = given->kind,
                                .activation = given->activation,
                                .inputs = given->inputs,
                                .outputs = given->outputs,
                                .input_buffer = given->source,
                                .second_buffer = given->second,
                                .output_buffer = (int)l + 1,
                                .setting = given->setting,
                                .max_norm = given->max_norm,
                                .matrix_inputs = matrix_inputs,
                                .vectors = kind->vectors,
                                .scalars = plan->n_scalars * plan->block_rows,
                                .row_scalars = kind->scalars,
                                .panels = pymlp_rounded_up(given->outputs, panel) / panel,
                                .padded_inputs = pymlp_rounded_up(matrix_inputs, UNIT_INPUTS),
                                .padded_outputs = pymlp_rounded_up(given->outputs, panel),
                                .first_unit = plan->n_units,
                                .first_penalty = plan->n_penalties};
        layer->row_groups = kind->matrix ? layer->padded_inputs / UNIT_INPUTS : kind->vectors > 0;
        layer->block_groups = block_groups_for(plan->block_rows, (int64_t)plan->operations->real_bytes);
        layer->block_panels = block_panels_for(plan->block_rows, panel, (int64_t)plan->operations->real_bytes);
        layer->weight = plan->n_parameters;
        layer->bias = layer->weight + matrix_inputs * layer->outputs;
        layer->packed_weight = plan->packed_size;
        layer->pitch = kind->matrix && layer->outputs < plan->operations->lanes ? layer->outputs : panel;
        layer->panel_size = layer->padded_inputs * layer->pitch;
        /* a vector read at the last row of a narrow panel ends in the bias */
        layer->packed_bias = layer->packed_weight + layer->panels * layer->panel_size;
        layer->packed_transpose = plan->transpose_size;
        plan->packed_size = layer->packed_bias + layer->vectors * layer->padded_outputs;
        plan->transpose_size += layer->padded_inputs * layer->padded_outputs;
        plan->n_parameters = layer->bias + layer->vectors * layer->outputs;
        plan->n_units += layer->row_groups * layer->panels;
        plan->n_penalties +=
            layer->padded_inputs / UNIT_INPUTS * (pymlp_rounded_up(layer->outputs, PENALTY_COLUMNS) / PENALTY_COLUMNS);
        plan->n_scalars += kind->scalars;
        plan->multiply_adds += (double)(kind->matrix ? layer->inputs : 1) * (double)layer->outputs;
        plan->has_max_norm = plan->has_max_norm || layer->max_norm != 0;
        if (!(kind->nature & (ANY_COLUMNS | SAME_COLUMNS | TRAINS_ONLY))) plan->splits_columns = false;
        const bool reads_inputs = layer->input_buffer == 0 || layer->second_buffer == 0;
        if (reads_inputs && !kind->matrix) plan->copies_inputs = true;
        if (reads_inputs && l > 0) plan->takes_sparse = false;
    }
    return PYMLP_OK;
}

static bool is_trained(const pymlp_plan *plan, int buffer) {
    return buffer > 0 && plan->layers[buffer - 1].flags & IS_TRAINED;
}

/* What the way back needs to know of each layer. */
static void set_flags(pymlp_plan *plan) {
    for (int64_t l = 0; l < plan->n_layers; l++) {
        struct layer *layer = &plan->layers[l];
        const struct layer_kind_row *kind = &pymlp_layer_kind_rows[layer->kind];
        if (is_trained(plan, layer->input_buffer)) layer->flags |= NEEDS_INPUT_GRADIENT | IS_TRAINED;
        if (is_trained(plan, layer->second_buffer)) layer->flags |= NEEDS_SECOND_GRADIENT | IS_TRAINED;
        if (kind->matrix || kind->vectors > 0) layer->flags |= IS_TRAINED;
    }
    for (int64_t l = plan->n_layers - 1; l >= 0; l--) {
        struct layer *layer = &plan->layers[l];
        struct buffer *source = &plan->buffers[layer->input_buffer];
        if (source->is_read) layer->flags |= ADDS_INTO_DELTAS;
        source->is_read = true;
        if (layer->second_buffer < 0) continue;
        if (plan->buffers[layer->second_buffer].is_read) layer->flags |= ADDS_INTO_SECOND;
        plan->buffers[layer->second_buffer].is_read = true;
    }
    /* the first that reads a buffer is the last to leave its share of the deltas */
    for (int64_t l = 0; l < plan->n_layers; l++) {
        struct layer *layer = &plan->layers[l];
        struct buffer *source = &plan->buffers[layer->input_buffer];
        const bool is_first = source->is_read;
        source->is_read = false;
        if (layer->second_buffer >= 0) plan->buffers[layer->second_buffer].is_read = false;
        if (!is_first || layer->input_buffer == 0 || !pymlp_layer_kind_rows[layer->kind].matrix) continue;
        struct layer *before = &plan->layers[layer->input_buffer - 1];
        const bool activates = pymlp_layer_kind_rows[before->kind].nature & ACTIVATES;
        if (!activates || pymlp_value_tiles[before->activation] == TILE_PLAIN) continue;
        layer->flags |= TAKES_INPUT_SLOPE;
        before->flags |= SLOPE_IS_TAKEN;
    }
}

/* Gives the buffers of inference (`training` 0), or of forward as in training, their pieces of memory: each the first that no
 * later layer reads. */
static int set_places(pymlp_plan *plan, int training) {
    struct buffer *buffers = plan->buffers;
    int64_t read_until[MOST_STRIPS];
    /* a piece that nothing is in yet is free for the first layer, too */
    for (int piece = 0; piece < MOST_STRIPS; piece++) read_until[piece] = -1;
    for (int64_t b = 0; b <= plan->n_layers; b++) buffers[b].made_by = b, buffers[b].last_reader = b;
    for (int64_t l = 0; l < plan->n_layers; l++) {
        const struct layer *layer = &plan->layers[l];
        if (!training && pymlp_layer_kind_rows[layer->kind].nature & TRAINS_ONLY) {
            buffers[l + 1].made_by = buffers[layer->input_buffer].made_by;
            continue;
        }
        buffers[buffers[layer->input_buffer].made_by].last_reader = l;
        if (layer->second_buffer >= 0) buffers[buffers[layer->second_buffer].made_by].last_reader = l;
    }
    read_until[0] = buffers[0].last_reader;
    buffers[0].place = INPUTS;
    for (int64_t l = 0; l < plan->n_layers; l++) {
        struct layer *layer = &plan->layers[l];
        if (buffers[l + 1].made_by != l + 1) continue;
        int piece = 0;
        while (piece < plan->n_strips && read_until[piece] >= l) piece++;
        if (piece == MOST_STRIPS) return PYMLP_BAD_ARGUMENT;
        if (piece == plan->n_strips) plan->n_strips++;
        read_until[piece] = buffers[l + 1].last_reader;
        buffers[l + 1].place = piece;
        layer->places[training] = (struct places){
            .source = buffers[buffers[layer->input_buffer].made_by].place,
            .second = layer->second_buffer < 0 ? 0 : buffers[buffers[layer->second_buffer].made_by].place,
            .output = piece};
    }
    return PYMLP_OK;
}

bool pymlp_is_table(const pymlp_layer *rows, int64_t n_rows) {
    for (int64_t l = 0; l < n_rows; l++)
        if (!is_row(rows, l, n_rows)) return false;
    return true;
}

int pymlp_describe_layers(pymlp_plan *plan, const pymlp_layer *given) {
    int code = lay_out(plan, given);
    if (code != PYMLP_OK) return code;
    set_flags(plan);
    plan->n_strips = 1;
    code = set_places(plan, 0);
    return code == PYMLP_OK ? set_places(plan, 1) : code;
}
