/* kinds.inc.h: the table of the layer kinds' functions, which the loops of a step and of inference walk. */

struct NAME(layer_functions) {
    void (*forward)(const struct NAME(strip) *strip);
    void (*backward)(const struct NAME(strip) *strip);
    void (*gradient)(const pymlp_plan *plan, const struct NAME(gradient_job) *job, const struct layer *layer,
                     int64_t unit, struct NAME(pending) *pending);
};

/* a null pointer: a kind without parameters has no units */
enum { NAME(no_gradient) = 0 };

#define LAYER_FUNCTIONS(name, matrix, vectors, scalars, nature, gradient, row) \
    {NAME(name##_forward), NAME(name##_backward), NAME(gradient)},
static const struct NAME(layer_functions) NAME(layer_kinds)[N_LAYER_KINDS] = {LAYER_KIND_ROWS(LAYER_FUNCTIONS)};

/* Deltas that a layer leaves at a buffer it reads, from row `row` of the block on; NULL where none are wanted. */
ALWAYS_INLINE REAL *NAME(deltas_for)(const struct buffer *buffer, int64_t row, bool wanted) {
    return wanted ? (REAL *)buffer->deltas + row * BAND : NULL;
}

/* Rows `row` .. `row + rows` of the block that starts at `block` in the batch, of what layer `number` reads and writes.
 * `inputs_too`: the gradient to the network's inputs is wanted. */
ALWAYS_INLINE struct NAME(strip) NAME(strip_of_block)(const pymlp_plan *plan, const struct batch *batch, int64_t number,
                                                      int64_t block, int64_t row, int64_t rows, bool inputs_too) {
    const struct layer *layer = &plan->layers[number];
    const struct buffer *in = &plan->buffers[layer->input_buffer], *out = &plan->buffers[layer->output_buffer];
    struct NAME(strip) strip = {
        .plan = plan,
        .layer = layer,
        .rows = rows,
        .activated = number < plan->n_layers - 1,
        .step = batch->step,
        .first_row = batch->row_offset + block + row,
        .in = (const REAL *)in->outputs + row * BAND,
        .in_band = in->band,
        .z = (REAL *)out->inputs + row * BAND,
        .a = (REAL *)out->outputs + row * BAND,
        .band = out->band,
        .deltas = (REAL *)out->deltas + row * BAND,
        .in_deltas = NAME(deltas_for)(in, row, inputs_too || layer->flags & NEEDS_INPUT_GRADIENT),
        .scalars = (REAL *)plan->scalars + layer->scalars + row * pymlp_layer_kind_rows[layer->kind].scalars,
    };
    if (layer->second_buffer < 0) return strip;
    const struct buffer *second = &plan->buffers[layer->second_buffer];
    strip.second = (const REAL *)second->outputs + row * BAND;
    strip.second_band = second->band;
    strip.second_deltas = NAME(deltas_for)(second, row, inputs_too || layer->flags & NEEDS_SECOND_GRADIENT);
    return strip;
}
