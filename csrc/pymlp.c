/* pymlp.c: plans, the table of instruction sets, and the verbs' way in: everything that is compiled once.
 *
 * A plan is one allocation laid out here; the arithmetic is in the operations of its instruction set.  Every verb takes
 * the plan's busy flag, so that two threads on one plan get an error and not each other's scratch memory.
 */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "memory.h"
#include "plan.h"
#include "threads.h"
#include "trials.h"

#define ACTIVATION_ROW(name, slope) {#name, slope},
#define FUSED_ROW(name) [ACTIVATION_##name] = TILE_VALUE_##name,
#define LOSS_ROW(name, output, numbers, delta) {#name, ACTIVATION_##output, numbers, delta},
#define OPTIMIZER_ROW(name, slots) {#name, slots},
#define LAYER_KIND_ROW(name, matrix, vectors, scalars, nature, gradient, row) {#name, matrix, vectors, scalars, nature},
const struct activation_row pymlp_activation_rows[N_ACTIVATIONS] = {ACTIVATION_ROWS(ACTIVATION_ROW)};
const int pymlp_value_tiles[N_ACTIVATIONS] = {FUSED_ROWS(FUSED_ROW)};
const struct loss_row pymlp_loss_rows[N_LOSSES] = {LOSS_ROWS(LOSS_ROW)};
const struct optimizer_row pymlp_optimizer_rows[N_OPTIMIZERS] = {OPTIMIZER_ROWS(OPTIMIZER_ROW)};
const struct layer_kind_row pymlp_layer_kind_rows[N_LAYER_KINDS] = {LAYER_KIND_ROWS(LAYER_KIND_ROW)};

#if defined(__x86_64__)
extern const struct engine pymlp_engine_avx512, pymlp_engine_avx2;
#elif defined(__aarch64__)
extern const struct engine pymlp_engine_neon;
#endif
extern const struct engine pymlp_engine_portable;

/* best first */
static const struct engine *const engines[] = {
#if defined(__x86_64__)
    &pymlp_engine_avx512,
    &pymlp_engine_avx2,
#elif defined(__aarch64__)
    &pymlp_engine_neon,
#endif
    &pymlp_engine_portable,
};
enum { N_ENGINES = sizeof engines / sizeof *engines };

static bool machine_runs(const struct engine *engine) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (engine == &pymlp_engine_avx512)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (engine == &pymlp_engine_avx2) return avx2;
#endif
    (void)engine;
    return true;
}

const char *pymlp_instruction_set(int position) {
    for (int i = 0; i < N_ENGINES; i++)
        if (machine_runs(engines[i]) && position-- == 0) return engines[i]->name;
    return NULL;
}

static const struct operations *operations_of(const char *instruction_set, int dtype) {
    for (int i = 0; i < N_ENGINES; i++)
        if (strcmp(engines[i]->name, instruction_set) == 0 && machine_runs(engines[i]))
            return dtype == 32 ? engines[i]->single : dtype == 64 ? engines[i]->twofold : NULL;
    return NULL;
}

const char *pymlp_error_text(int code) {
    switch (code) {
        case PYMLP_OK: return "no error";
        case PYMLP_OUT_OF_MEMORY: return "out of memory";
        case PYMLP_BUSY: return "the plan is in use by another thread";
        case PYMLP_STOPPED: return "stopped on request";
        case PYMLP_ROW_OUT_OF_RANGE: return "order holds a row number outside X";
        case PYMLP_BAD_ARGUMENT: return "an argument is out of its range";
        case PYMLP_NO_INSTRUCTION_SET: return "this machine cannot run that instruction set";
        case PYMLP_UNREADABLE: return "the file cannot be read";
        case PYMLP_BAD_MODEL: return "not a valid model file";
        default: return "unknown error code";
    }
}

#define FIND_NAME(rows, count, field)                                  \
    for (int i = 0; i < (count); i++)                                  \
        if (strcmp((rows)[i] field, name) == 0) return i;              \
    return -1
int pymlp_activation(const char *name) { FIND_NAME(pymlp_activation_rows, N_ACTIVATIONS, .name); }
int pymlp_loss(const char *name) { FIND_NAME(pymlp_loss_rows, N_LOSSES, .name); }
int pymlp_optimizer_kind(const char *name) { FIND_NAME(pymlp_optimizer_rows, N_OPTIMIZERS, .name); }
int pymlp_layer_kind(const char *name) { FIND_NAME(pymlp_layer_kind_rows, N_LAYER_KINDS, .name); }

int pymlp_threads_for(const pymlp_plan *plan, double multiply_adds) {
    /* multiply-adds that make a thread worth its barriers and its cold caches: some 10 us of work */
    const double worth = 6.5e5;
    if (!plan->automatic) return plan->n_threads;
    double threads = multiply_adds / worth;
    return threads >= plan->n_threads ? plan->n_threads : threads < 1 ? 1 : (int)threads;
}

double pymlp_step_work(const pymlp_plan *plan, double rows) {
    if (plan->filled == 1) return 3 * plan->multiply_adds * rows;
    /* the update of all weights of the first layer, some 13 multiply-adds each, outweighs its products */
    const double first = (double)plan->layers[0].inputs * (double)plan->layers[0].outputs;
    return 3 * (plan->multiply_adds - (1 - plan->filled) * first) * rows + 13 * first;
}

int pymlp_plan_threads(const pymlp_plan *plan) {
    return pymlp_threads_for(plan, pymlp_step_work(plan, (double)plan->batch_size));
}

/* --- the layout of a plan --------------------------------------------------------------------------------------- */

/* Numbers from one band of a buffer to the next.  Many bands must not lie a multiple of 4096 bytes apart, or the pieces
 * of a row would share a few cache sets: 15 rows more than such a multiple deals them out evenly. */
static int64_t band_of(int64_t rows, int64_t width) {
    if (width > 4 * BAND) rows = pymlp_rounded_up(rows - 15, 32) + 15;
    return rows * BAND;
}

/* Rows that go through all layers together: the activations of a layer, or of 512 columns of a wide one, should stay in a
 * second-level cache, and products that find no room for so many cut their depth (kernels.inc.h): 640 KB. */
static int64_t strip_rows_for(int64_t widest, size_t real_bytes) {
    int64_t rows = 655360 / (int64_t)real_bytes / (widest < 512 ? widest : 512);
    /* 15 rows more than a multiple of 32, for the same reason as in band_of */
    return rows > 256 ? 256 - 17 : rows / 32 * 32 - 17;
}

/* Rows of a strip in inference: as many, unless the strips of all threads would then take more than 2 GB.  The inputs have
 * their place in a strip even where they are sparse, and text has millions of columns. */
static int64_t prediction_rows_for(const pymlp_plan *plan) {
    const double most = 2147483648.0, bytes = (double)plan->widest * (double)plan->operations->real_bytes;
    const double rows = most / (bytes * (double)plan->n_strips * (double)plan->n_threads);
    if (rows >= (double)plan->strip_rows) return plan->strip_rows;
    return rows < LEAST_STRIP_ROWS ? LEAST_STRIP_ROWS : (int64_t)rows;
}

/* AddressSanitizer watches the ends of allocations, and a plan is one: there its pieces lie apart, and what is between them
 * belongs to nobody. */
#ifdef __SANITIZE_ADDRESS__
enum { BETWEEN_PIECES = 128 };
static void fence(const char *from, const char *to) { ASAN_POISON_MEMORY_REGION(from, (size_t)(to - from)); }
#else
enum { BETWEEN_PIECES = 0 };
static void fence(const char *from, const char *to) {
    (void)from;
    (void)to;
}
#endif

/* Deals out the next piece of the plan's allocation, on a cache line of its own. */
static void *piece(pymlp_plan *plan, double count, size_t bytes) {
    /* counted in floating point as well, for the check that nothing overflowed */
    plan->counted += count * (double)bytes + 64 + BETWEEN_PIECES;
    /* refused in the end; such a number may have no integer */
    if (plan->counted > MOST_PLAN_BYTES) return plan;
    char *at = (char *)plan + plan->bytes;
    plan->bytes += (((size_t)count * bytes + 63) & ~(size_t)63) + BETWEEN_PIECES;
    if (plan->is_placed) fence(at + (size_t)count * bytes, (char *)plan + plan->bytes);
    return at;
}

/* Where a row of the buffer lies among those of a strip of inference's derivative. */
static void place_in_row(pymlp_plan *plan, struct buffer *buffer, bool keeps_inputs) {
    const int64_t width = pymlp_rounded_up(buffer->width, BAND);
    buffer->outputs_at = plan->row_numbers;
    buffer->inputs_at = keeps_inputs ? buffer->outputs_at + width : buffer->outputs_at;
    buffer->deltas_at = buffer->inputs_at + width;
    plan->row_numbers = buffer->deltas_at + width;
}

double pymlp_derivation_bytes(const pymlp_plan *plan, int64_t pairs) {
    const double outputs = (double)plan->layers[plan->n_layers - 1].outputs;
    const double numbers = (double)pairs * ((double)plan->row_numbers + (double)plan->n_scalars) +
                           HEAD_PIECES * outputs * plan->operations->lanes;
    /* pieces of whole cache lines */
    return (double)(((size_t)numbers * plan->operations->real_bytes + 63) & ~(size_t)63);
}

/* Deals out all pieces; called once to count the bytes, and once more where they are. */
static void deal_out(pymlp_plan *plan) {
    const size_t real = plan->operations->real_bytes;
    plan->bytes = (size_t)((char *)(plan->buffers + plan->n_layers + 1) - (char *)plan + 63) & ~(size_t)63;
    plan->counted = (double)plan->bytes;
    plan->loss_numbers = piece(plan, plan->n_loss_numbers, sizeof(double));
    plan->penalties = piece(plan, 2.0 * (double)plan->n_penalties, sizeof(double));
    plan->packed = piece(plan, (double)plan->packed_size, real);
    plan->transposes = piece(plan, (double)plan->transpose_size, real);
    for (int i = 0; i < MOST_SLOTS; i++) plan->slots[i] = piece(plan, (double)plan->packed_size, real);
    plan->gradient = piece(plan, (double)plan->n_parameters, real);
    plan->squares = piece(plan, (double)(plan->n_parameters / NORM_CHUNK + 1), sizeof(double));
    plan->sums = piece(plan, plan->batch_size > BLOCK_ROWS ? (double)plan->packed_size : 0, real);
    plan->row_losses = piece(plan, (double)plan->block_rows, real);
    plan->scalars = piece(plan, (double)plan->block_rows * (double)plan->n_scalars, real);
    plan->entry_ends = piece(plan, (double)plan->layers[0].row_groups, sizeof(int64_t));
    int64_t widest = 0;
    plan->row_numbers = 0;
    for (int64_t b = 0; b <= plan->n_layers; b++) {
        struct buffer *buffer = &plan->buffers[b];
        const struct layer *layer = b > 0 ? &plan->layers[b - 1] : NULL;
        buffer->width = layer == NULL ? plan->layers[0].inputs : layer->outputs;
        buffer->band = band_of(plan->block_rows, buffer->width);
        const double count = (double)buffer->band * (double)(pymlp_rounded_up(buffer->width, BAND) / BAND);
        const int nature = layer == NULL ? 0 : pymlp_layer_kind_rows[layer->kind].nature;
        const bool keeps_inputs =
            nature & KEEPS_VALUE ||
            (nature & ACTIVATES && pymlp_activation_rows[layer->activation].slope == SLOPE_FROM_INPUT);
        place_in_row(plan, buffer, keeps_inputs || b == plan->n_layers);
        if (b == 0 && plan->takes_sparse && 2 * count * (double)real > LARGE_INPUTS_BYTES) {
            /* by the first verb that needs them; until then an address that is none of its own */
            plan->inputs_count = count;
            buffer->outputs = buffer->inputs = buffer->deltas = plan->packed;
            widest = pymlp_rounded_up(buffer->width, BAND);
            continue;
        }
        buffer->outputs = piece(plan, count, real);
        buffer->inputs = keeps_inputs ? piece(plan, count, real) : buffer->outputs;
        buffer->deltas = piece(plan, count, real);
        if (buffer->width > widest) widest = pymlp_rounded_up(buffer->width, BAND);
    }
    plan->widest = widest;
    plan->strip_rows = strip_rows_for(widest, real);
    /* strips of activations, and HEAD_PIECES times the outputs of a vector of rows */
    const double outputs = (double)plan->layers[plan->n_layers - 1].outputs;
    plan->prediction_rows = prediction_rows_for(plan);
    plan->strip_numbers = plan->prediction_rows * widest;
    const double numbers =
        plan->n_strips * (double)plan->strip_numbers + HEAD_PIECES * outputs * plan->operations->lanes;
    plan->scratch_bytes = ((size_t)numbers * real + 63) & ~(size_t)63;
    plan->shares = piece(plan, (double)plan->n_threads, sizeof(struct share));
    plan->scratch = piece(plan, (double)plan->n_threads * (numbers * (double)real + 64) / (double)real, real);
}

/* Whether the loss has its numbers and its function, and the last layer is one that it is defined over. */
static bool fits(const pymlp_loss_rule *loss, const pymlp_layer *last) {
    const struct loss_row *row = &pymlp_loss_rows[loss->kind];
    return loss->n_numbers == (row->n_numbers == NUMBER_A_LEVEL ? loss->group : row->n_numbers) &&
           (row->output_activation == ACTIVATION_any || row->output_activation == last->activation) &&
           last->outputs % loss->group == 0 && (loss->kind != LOSS_compiled || loss->function != NULL);
}

int pymlp_plan_create(pymlp_plan **plan, const char *instruction_set, int dtype, const pymlp_layer *layers,
                      int64_t n_layers, const pymlp_loss_rule *loss, double l1, double l2, uint64_t seed,
                      int64_t batch_size, int n_threads, int automatic) {
    *plan = NULL;
    const struct operations *operations = operations_of(instruction_set, dtype);
    if (operations == NULL) return PYMLP_NO_INSTRUCTION_SET;
    if (n_layers < 1 || n_layers > 100000 || loss->kind < 0 || loss->kind >= N_LOSSES || loss->group < 1 ||
        loss->n_numbers < 0 || loss->n_numbers > MOST_LOSS_NUMBERS || batch_size < 1 || n_threads < 1 ||
        !(l1 >= 0 && l1 <= DBL_MAX) || !(l2 >= 0 && l2 <= DBL_MAX))
        return PYMLP_BAD_ARGUMENT;
    if (!pymlp_is_table(layers, n_layers)) return PYMLP_BAD_ARGUMENT;
    if (!fits(loss, &layers[n_layers - 1])) return PYMLP_BAD_ARGUMENT;

    /* first the head alone, to count; then all of it in one piece */
    const size_t layers_at = (sizeof(pymlp_plan) + 63) & ~(size_t)63;
    const size_t buffers_at = layers_at + (size_t)n_layers * sizeof(struct layer);
    const size_t head_bytes = buffers_at + ((size_t)n_layers + 1) * sizeof(struct buffer);
    pymlp_plan *head = pymlp_new_zeros((double)head_bytes);
    if (head == NULL) return PYMLP_OUT_OF_MEMORY;
    head->operations = operations;
    head->loss = loss->kind;
    head->loss_group = loss->group;
    head->n_loss_numbers = loss->n_numbers;
    head->loss_function = loss->function;
    head->seed = seed;
    head->n_threads = n_threads < MOST_THREADS ? n_threads : MOST_THREADS;
    head->automatic = automatic;
    head->l1 = l1;
    head->l2 = l2;
    head->batch_size = batch_size;
    head->block_rows = batch_size < BLOCK_ROWS ? batch_size : BLOCK_ROWS;
    head->n_layers = n_layers;
    head->layers = (struct layer *)((char *)head + layers_at);
    head->buffers = (struct buffer *)((char *)head + buffers_at);
    int code = pymlp_describe_layers(head, layers);
    if (code == PYMLP_OK) {
        head->shape = pymlp_shape_of(head);
        deal_out(head);
        if (head->counted > MOST_PLAN_BYTES) code = pymlp_refuse(head->counted);
    }
    pymlp_plan *whole = code == PYMLP_OK ? pymlp_new_zeros((double)head->bytes) : NULL;
    if (whole != NULL) {
        memcpy(whole, head, head_bytes);
        whole->layers = (struct layer *)((char *)whole + layers_at);
        whole->buffers = (struct buffer *)((char *)whole + buffers_at);
        whole->is_placed = true;
        deal_out(whole);
        /* a loss without numbers need not say where they are */
        if (loss->n_numbers > 0)
            memcpy(whole->loss_numbers, loss->numbers, (size_t)loss->n_numbers * sizeof(double));
    } else if (code == PYMLP_OK) {
        code = PYMLP_OUT_OF_MEMORY;
    }
    pymlp_free_zeros(head);
    *plan = whole;
    return code;
}

void pymlp_plan_free(pymlp_plan *plan) {
    if (plan == NULL) return;
    free(plan->entries);
    if (plan->inputs != NULL) pymlp_free_zeros(plan->inputs);
    pymlp_free_zeros(plan);
}

void pymlp_plan_disown(pymlp_plan **plan) {
    pymlp_plan_free(*plan);
    *plan = NULL;
}

/* --- the verbs ---------------------------------------------------------------------------------------------------- */

static bool take(pymlp_plan *plan) {
    int now = pymlp_process_generation(), found = atomic_load(&plan->busy);
    /* a flag from before a fork belongs to a thread that does not exist here */
    return found != now && atomic_compare_exchange_strong(&plan->busy, &found, now);
}

static int release(pymlp_plan *plan, int code) {
    atomic_store(&plan->busy, 0);
    return code;
}

static int64_t numbers_in_row(const struct batch *data, int64_t row) {
    const int64_t number = data->order == NULL ? row : data->order[row];
    return data->row_starts[number + 1] - data->row_starts[number];
}

/* Makes the buffer of dense inputs that a plan was created without; false if there is no memory. */
static bool make_room_for_inputs(pymlp_plan *plan) {
    if (plan->inputs_count == 0 || plan->inputs != NULL) return true;
    /* a whole number of bands: on a cache line each; a double, because twice as many may be more than a size_t holds */
    const double bytes = (double)plan->inputs_count * (double)plan->operations->real_bytes;
    plan->inputs = pymlp_new_zeros(2 * bytes);
    if (plan->inputs == NULL) return false;
    plan->buffers[0].outputs = plan->buffers[0].inputs = plan->inputs;
    plan->buffers[0].deltas = (char *)plan->inputs + (size_t)bytes;
    return true;
}

/* Takes the plan for a verb over the batches of `data`: rows starts[i] .. starts[i + 1] - 1.  Makes room for dense inputs, or
 * for the numbers of any block of sparse ones. */
static int take_for(pymlp_plan *plan, const struct batch *data, const int64_t *starts, int64_t n_steps) {
    if (data->columns != NULL && !plan->takes_sparse) return PYMLP_BAD_ARGUMENT;
    if (!take(plan)) return PYMLP_BUSY;
    plan->filled = 1;
    if (data->columns == NULL) return make_room_for_inputs(plan) ? PYMLP_OK : release(plan, PYMLP_OUT_OF_MEMORY);
    int64_t most = 0, all = 0;
    for (int64_t i = 0; i < n_steps; i++)
        for (int64_t block = starts[i]; block < starts[i + 1]; block += BLOCK_ROWS) {
            const int64_t end = starts[i + 1] - block < BLOCK_ROWS ? starts[i + 1] : block + BLOCK_ROWS;
            int64_t numbers = 0;
            for (int64_t row = block; row < end; row++) numbers += numbers_in_row(data, row);
            if (numbers > most) most = numbers;
            all += numbers;
        }
    const double places = (double)(starts[n_steps] - starts[0]) * (double)plan->layers[0].inputs;
    if (places > 0) plan->filled = (double)all / places;
    if (most <= plan->most_entries) return PYMLP_OK;
    free(plan->entries);
    /* a number and its place take as much as two numbers */
    plan->entries = pymlp_new_block((double)most * 2 * (double)plan->operations->real_bytes);
    plan->most_entries = plan->entries == NULL ? 0 : most;
    return plan->entries == NULL ? release(plan, PYMLP_OUT_OF_MEMORY) : PYMLP_OK;
}

static bool is_optimizer(const pymlp_optimizer *optimizer) {
    return optimizer->kind >= 0 && optimizer->kind < N_OPTIMIZERS;
}

/* The rows that a verb was given, dense or sparse */
static struct batch batch_of(const void *X, const pymlp_sparse *sparse) {
    if (sparse == NULL) return (struct batch){.X = X};
    return (struct batch){.X = sparse->values, .columns = sparse->columns, .row_starts = sparse->starts};
}

int pymlp_forward(pymlp_plan *plan, const void *params, const void *X, const pymlp_sparse *sparse, int64_t rows,
                  void *out, int64_t step, int64_t row_offset) {
    if (rows < 0) return PYMLP_BAD_ARGUMENT;
    if (sparse != NULL && !plan->takes_sparse) return PYMLP_BAD_ARGUMENT;
    if (!take(plan)) return PYMLP_BUSY;
    struct batch batch = batch_of(X, sparse);
    batch.rows = rows;
    batch.step = step;
    batch.row_offset = row_offset;
    return release(plan, plan->operations->forward(plan, params, &batch, out));
}

int pymlp_backward(pymlp_plan *plan, const void *params, const void *X, const pymlp_sparse *sparse, int64_t rows,
                   const void *output_gradient, void *gradient, void *x_gradient, int64_t step, int64_t row_offset) {
    if (rows < 0 || rows > plan->batch_size || (sparse != NULL && x_gradient != NULL)) return PYMLP_BAD_ARGUMENT;
    const int64_t starts[2] = {0, rows};
    struct batch batch = batch_of(X, sparse);
    batch.output_gradient = output_gradient;
    batch.rows = rows;
    batch.step = step;
    batch.row_offset = row_offset;
    const int code = take_for(plan, &batch, starts, 1);
    if (code != PYMLP_OK) return code;
    return release(plan, plan->operations->backward(plan, params, &batch, gradient, x_gradient));
}

int pymlp_loss_gradient(pymlp_plan *plan, const void *params, const void *X, const pymlp_sparse *sparse, const void *y,
                        const void *weight, int64_t rows, void *gradient, double *loss, int64_t step,
                        int64_t row_offset) {
    if (rows < 0 || rows > plan->batch_size || plan->loss == LOSS_custom) return PYMLP_BAD_ARGUMENT;
    const int64_t starts[2] = {0, rows};
    struct batch batch = batch_of(X, sparse);
    batch.y = y;
    batch.weight = weight;
    batch.rows = rows;
    batch.step = step;
    batch.row_offset = row_offset;
    const int code = take_for(plan, &batch, starts, 1);
    if (code != PYMLP_OK) return code;
    return release(plan, plan->operations->loss_gradient(plan, params, &batch, gradient, loss));
}

int pymlp_update(pymlp_plan *plan, const pymlp_optimizer *optimizer, void *params, const void *gradient, void *slots,
                 const double *coefficients) {
    if (!is_optimizer(optimizer)) return PYMLP_BAD_ARGUMENT;
    if (!take(plan)) return PYMLP_BUSY;
    return release(plan, plan->operations->update(plan, optimizer, params, gradient, slots, coefficients));
}

int pymlp_train_steps(pymlp_plan *plan, const pymlp_optimizer *optimizer, void *params, void *slots, int64_t step,
                      const void *X, const pymlp_sparse *sparse, const void *y, const void *weight, int64_t n_rows,
                      const int64_t *order, const int64_t *starts, int64_t n_steps, const double *coefficients,
                      double *losses) {
    if (!is_optimizer(optimizer) || n_steps < 0 || plan->loss == LOSS_custom) return PYMLP_BAD_ARGUMENT;
    for (int64_t i = 0; i < n_steps; i++)
        if (starts[i] < 0 || starts[i + 1] < starts[i] || starts[i + 1] - starts[i] > plan->batch_size)
            return PYMLP_BAD_ARGUMENT;
    for (int64_t i = starts[0]; i < starts[n_steps]; i++)
        if (order[i] < 0 || order[i] >= n_rows) return PYMLP_ROW_OUT_OF_RANGE;
    struct batch data = batch_of(X, sparse);
    data.y = y;
    data.weight = weight;
    data.order = order;
    data.step = step;
    const int code = take_for(plan, &data, starts, n_steps);
    if (code != PYMLP_OK) return code;
    return release(plan, plan->operations->train_steps(plan, optimizer, params, slots, &data, starts, n_steps,
                                                       coefficients, losses));
}

void pymlp_stop(pymlp_plan *plan) { atomic_store(&plan->stop, 1); }

int pymlp_evaluate(const char *instruction_set, int dtype, const char *name, int slope, const void *z, int64_t count,
                   void *out) {
    const struct operations *operations = operations_of(instruction_set, dtype);
    if (operations == NULL) return PYMLP_NO_INSTRUCTION_SET;
    int activation = strcmp(name, "log") == 0 && !slope ? N_ACTIVATIONS : pymlp_activation(name);
    if (activation < 0 || count < 0) return PYMLP_BAD_ARGUMENT;
    if (activation < N_ACTIVATIONS && pymlp_activation_rows[activation].slope >= ROW_WISE) return PYMLP_BAD_ARGUMENT;
    return operations->evaluate(activation, slope != 0, z, count, out);
}

int pymlp_multiply(const char *instruction_set, int dtype, int64_t sizes[4], const void *product) {
    const struct operations *operations = operations_of(instruction_set, dtype);
    if (operations == NULL) return PYMLP_NO_INSTRUCTION_SET;
    operations->product(product, sizes);
    return PYMLP_OK;
}

void pymlp_shuffle(const pymlp_plan *plan, void *generator, uint32_t *twister, int64_t *orders, int64_t count, int64_t rows,
                   int64_t first, int64_t last) {
    for (int64_t i = 0; i < count; i++) {
        int64_t *order = orders + i * rows;
        if (i > 0) memcpy(order, order - rows, (size_t)rows * sizeof *order);
        plan->operations->shuffle(generator, twister, order, first, last);
    }
}

double pymlp_measure_peak(const char *instruction_set, int dtype, int n_threads, double seconds) {
    const struct operations *operations = operations_of(instruction_set, dtype);
    return operations == NULL ? 0 : operations->measure_peak(n_threads, seconds);
}

double pymlp_measure_tile(const char *instruction_set, int dtype, int64_t depth, double seconds) {
    const struct operations *operations = operations_of(instruction_set, dtype);
    return operations == NULL ? 0 : operations->measure_tile(depth, seconds);
}
