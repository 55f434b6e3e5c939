/* kinds.inc.h: the table of the layer kinds' functions, which the loops of a step and of inference walk. */

typedef void NAME(gradient_function)(const pymlp_plan *plan, const struct NAME(gradient_job) *job,
                                     const struct layer *layer, int64_t unit, struct NAME(pending) *pending);

struct NAME(layer_functions) {
    void (*forward)(const struct NAME(strip) *strip);
    void (*backward)(const struct NAME(strip) *strip);
    NAME(gradient_function) *gradient;
};

/* a null pointer: a kind without parameters has no units */
enum { NAME(no_gradient) = 0 };

#define LAYER_FUNCTIONS(name, matrix, vectors, scalars, nature, gradient, row) \
    {NAME(name##_forward), NAME(name##_backward), (NAME(gradient_function) *)NAME(gradient)},
static const struct NAME(layer_functions) NAME(layer_kinds)[N_LAYER_KINDS] = {LAYER_KIND_ROWS(LAYER_FUNCTIONS)};

/* The functions that serve a layer in a call: others where it reads the network's inputs and these are sparse. */
ALWAYS_INLINE const struct NAME(layer_functions) *NAME(functions_of)(const struct layer *layer, bool sparse) {
    return &NAME(layer_kinds)[sparse && layer->input_buffer == 0 ? KIND_sparse_dense : layer->kind];
}

/* Deltas that a layer leaves at a buffer it reads, from row `row` of the block on; NULL where none are wanted. */
ALWAYS_INLINE REAL *NAME(deltas_for)(const struct buffer *buffer, int64_t row, bool wanted) {
    return wanted ? (REAL *)buffer->deltas + row * BAND : NULL;
}

/* What layer `number` reads and writes from row `row` of the block on; the rest of `strip` stays. */
ALWAYS_INLINE void NAME(aim)(struct NAME(strip) *strip, int64_t number, int64_t row) {
    const pymlp_plan *plan = strip->plan;
    const struct layer *layer = &plan->layers[number];
    const struct buffer *in = &plan->buffers[layer->input_buffer], *out = &plan->buffers[layer->output_buffer];
    strip->layer = layer;
    strip->activated = number < plan->n_layers - 1;
    strip->in = (const REAL *)in->outputs + row * BAND;
    strip->in_band = in->band;
    strip->z = (REAL *)out->inputs + row * BAND;
    strip->a = (REAL *)out->outputs + row * BAND;
    strip->band = out->band;
    strip->scalars = (REAL *)plan->scalars + layer->scalars + row * layer->row_scalars;
    if (layer->second_buffer < 0) return;
    const struct buffer *second = &plan->buffers[layer->second_buffer];
    strip->second = (const REAL *)second->outputs + row * BAND;
    strip->second_band = second->band;
}

/* The same for the way back; `inputs_too`: the gradient to the network's inputs is wanted. */
ALWAYS_INLINE void NAME(aim_back)(struct NAME(strip) *strip, int64_t number, int64_t row, bool inputs_too) {
    const struct buffer *buffers = strip->plan->buffers;
    NAME(aim)(strip, number, row);
    const struct layer *layer = strip->layer;
    strip->deltas = (REAL *)buffers[layer->output_buffer].deltas + row * BAND;
    strip->in_deltas =
        NAME(deltas_for)(&buffers[layer->input_buffer], row, inputs_too || layer->flags & NEEDS_INPUT_GRADIENT);
    if (layer->second_buffer >= 0)
        strip->second_deltas =
            NAME(deltas_for)(&buffers[layer->second_buffer], row, inputs_too || layer->flags & NEEDS_SECOND_GRADIENT);
}
