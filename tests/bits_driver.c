/* bits_driver.c: prints a hash of everything the engine computes, case by case, through its public header alone.
 *
 * Compiled together with the engine by any compiler with any flags (builds.py), it shows whether that engine computes
 * the same bits as another: one line for each instruction set, number of threads, dtype and case,
 *
 *     <instruction set> <threads> <dtype> <hash> <case>
 *
 * The hash is of the parameters, the optimizer's slots, the losses, the gradients and the outputs of all verbs.  Data
 * and start are multiples of powers of two by a formula of whole numbers, so that they are the same everywhere.  A
 * result that is not finite ends the run: the bits of a NaN are not promised.
 *
 *     bits_driver [threads ...]      1 by default
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bits_cases.h"
#include "pymlp.h"

/* the numbers of a step, and the most arrays an optimizer keeps */
enum { N_COEFFICIENTS = 4, MOST_SLOTS = 3 };

/* --- data --------------------------------------------------------------------------------------------------------- */

/* Well mixed bits of a place in a series. */
static uint64_t mixed(uint64_t series, uint64_t place) {
    uint64_t bits = (series * 1000003 + place + 1) * 0x9e3779b97f4a7c15u;
    for (int i = 0; i < 2; i++) bits = (bits ^ bits >> 29) * 0xd1342543de82ef95u;
    return bits ^ bits >> 32;
}

/* A multiple of 2^-23 in [-1, 1). */
static double number(uint64_t series, int64_t place) {
    return ((double)(mixed(series, (uint64_t)place) >> 40) - 8388608.0) / 8388608.0;
}

static void *room(int dtype, int64_t count) {
    /* one number more: an empty array has an address, too */
    void *array = calloc((size_t)count + 1, (size_t)dtype / 8);
    if (array == NULL) exit(2);
    return array;
}

static void put(int dtype, void *array, int64_t place, double value) {
    if (dtype == 32)
        ((float *)array)[place] = (float)value;
    else
        ((double *)array)[place] = value;
}

/* `count` numbers in [-scale, scale) */
static void *filled(int dtype, int64_t count, uint64_t series, double scale) {
    void *array = room(dtype, count);
    for (int64_t i = 0; i < count; i++) put(dtype, array, i, scale * number(series, i));
    return array;
}

static void *targets_of(const struct task *task, int dtype) {
    void *y = room(dtype, task->rows * task->width);
    for (int64_t row = 0; row < task->rows; row++)
        for (int64_t i = 0; i < task->width; i++) {
            const int64_t place = row * task->width + i, group = place / task->loss->group;
            const uint64_t bits = mixed(2, (uint64_t)(task->loss->targets == ONE_CLASS ? row : place)) >> 20;
            double value = number(2, group);
            if (task->loss->targets == ONE_CLASS) value = (int64_t)(bits % (uint64_t)task->width) == i;
            if (task->loss->targets == YES_OR_NO) value = (double)(bits % 2);
            if (task->loss->targets == POSITIVE) value = 1.25 + value;
            put(dtype, y, place, value);
        }
    return y;
}

/* Start values of a size at which sums neither die out nor grow. */
static void *start_of(const struct task *task, int dtype) {
    void *params = filled(dtype, task->n_parameters, 3, 0.5);
    int64_t at = 0;
    for (int64_t l = 0; l < task->n_layers; l++) {
        const pymlp_layer *layer = &task->layers[l];
        double scale = 1;
        while (scale * scale * (double)layer->inputs > 2) scale /= 2;
        if (layer->kind == pymlp_layer_kind("dense")) {
            for (int64_t i = layer->inputs * layer->outputs; i > 0; i--, at++)
                put(dtype, params, at, scale * number(3, at));
            at += layer->outputs;
        }
        if (layer->kind == pymlp_layer_kind("parametric")) at += layer->outputs;
        if (layer->kind == pymlp_layer_kind("layer_norm"))
            for (int64_t i = 0; i < 2 * layer->outputs; i++, at++)
                put(dtype, params, at, (i < layer->outputs) + 0.25 * number(3, at));
    }
    return params;
}

/* A tenth of the numbers of X, row by row; X itself becomes what they are without zeros.  Empty rows are among them. */
static pymlp_sparse sparse_of(const struct task *task, int dtype, void *X, int64_t inputs) {
    int64_t *starts = calloc((size_t)task->rows + 1, sizeof *starts), count = 0;
    int32_t *columns = calloc((size_t)(task->rows * inputs), sizeof *columns);
    void *values = room(dtype, task->rows * inputs);
    if (starts == NULL || columns == NULL) exit(2);
    for (int64_t row = 0; row < task->rows; row++) {
        for (int64_t i = 0; i < inputs; i++) {
            const int64_t place = row * inputs + i;
            const bool kept = row % 7 != 3 && mixed(4, (uint64_t)place) % 10 == 0;
            if (!kept) {
                put(dtype, X, place, 0);
                continue;
            }
            put(dtype, values, count, number(1, place));
            columns[count++] = (int32_t)i;
        }
        starts[row + 1] = count;
    }
    return (pymlp_sparse){.values = values, .columns = columns, .starts = starts};
}

static void free_sparse(const pymlp_sparse *sparse) {
    free((void *)sparse->values);
    free((void *)sparse->columns);
    free((void *)sparse->starts);
}

/* --- hashes ------------------------------------------------------------------------------------------------------- */

/* A hash of bytes that takes them in one after the other (Fowler, Noll and Vo), and whether all numbers were finite. */
struct hash {
    uint64_t value;
    bool finite;
};

static struct hash new_hash(void) { return (struct hash){.value = 0xcbf29ce484222325u, .finite = true}; }

static void take_in(struct hash *hash, const void *bytes, size_t count) {
    const unsigned char *from = bytes;
    for (size_t i = 0; i < count; i++) hash->value = (hash->value ^ from[i]) * 0x100000001b3u;
}

static void take_in_numbers(struct hash *hash, int dtype, const void *array, int64_t count) {
    take_in(hash, array, (size_t)count * (size_t)dtype / 8);
    for (int64_t i = 0; i < count; i++) {
        const uint32_t single = ((const uint32_t *)array)[dtype == 32 ? i : 2 * i + 1];
        const uint32_t exponent = dtype == 32 ? 0x7f800000u : 0x7ff00000u;
        if ((single & exponent) == exponent) hash->finite = false;
    }
}

/* --- runs --------------------------------------------------------------------------------------------------------- */

static void check(int code, const char *verb, const struct task *task) {
    if (code == PYMLP_OK) return;
    fprintf(stderr, "%s of case \"%s\": %s\n", verb, task->name, pymlp_error_text(code));
    exit(1);
}

/* half the squared error, summed over the outputs */
#define COMPILED_LOSS(type)                                                                                          \
    static void compiled_##type(int64_t rows, int64_t outputs, const type *y, const type *output, type *value,       \
                                type *gradient) {                                                                    \
        for (int64_t row = 0; row < rows; row++) {                                                                   \
            value[row] = 0;                                                                                          \
            for (int64_t i = row * outputs; i < (row + 1) * outputs; i++) {                                          \
                gradient[i] = output[i] - y[i];                                                                      \
                value[row] += gradient[i] * gradient[i] * (type)0.5;                                                 \
            }                                                                                                        \
        }                                                                                                            \
    }
COMPILED_LOSS(float)
COMPILED_LOSS(double)

static pymlp_loss_rule loss_rule_of(const struct task *task, int dtype) {
    pymlp_loss_rule rule = {.kind = pymlp_loss(task->loss->name),
                            .group = task->loss->group,
                            .n_numbers = task->loss->n_numbers,
                            .numbers = task->loss->numbers};
    void (*single)(int64_t, int64_t, const float *, const float *, float *, float *) = compiled_float;
    void (*twofold)(int64_t, int64_t, const double *, const double *, double *, double *) = compiled_double;
    if (strcmp(task->loss->name, "compiled") != 0) return rule;
    /* the language has no conversion between the two kinds of pointers */
    if (dtype == 32)
        memcpy(&rule.function, &single, sizeof single);
    else
        memcpy(&rule.function, &twofold, sizeof twofold);
    return rule;
}

/* Rows in a mixed order, some of them twice, in batches of any length down to one row. */
static void deal_batches(const struct task *task, int64_t *order, int64_t *starts) {
    for (int64_t step = 0; step < task->n_steps; step++) {
        const int64_t left_out = step % 3 == 1 ? task->rows / 3 : step % 3 == 2 ? task->rows - 1 : 0;
        starts[step + 1] = starts[step] + task->rows - left_out;
    }
    for (int64_t i = 0; i < starts[task->n_steps]; i++)
        order[i] = (int64_t)(mixed(5, (uint64_t)i) >> 8) % task->rows;
}

/* Coefficients of the steps, as an optimizer of pymlp/optimizers.py would give them. */
static void fill_coefficients(const struct task *task, double *coefficients) {
    for (int64_t step = 0; step < task->n_steps; step++, coefficients += N_COEFFICIENTS) {
        coefficients[0] = 0.015625 / (1 + 0.25 * (double)step);
        coefficients[1] = coefficients[0] * task->decay;
        coefficients[2] = coefficients[0] / 8;
        coefficients[3] = task->averages ? 1 / (1 + (double)step) : 0;
    }
}

/* The derivatives of the first rows' outputs by all inputs, in one call and row by row, with outputs that must be those of
 * `predicted`; values: room for them. */
static void differentiate(const struct task *task, int dtype, pymlp_predictor *predictor, int64_t columns, const void *X,
                          const void *predicted, void *values, struct hash *hash) {
    const int64_t inputs = task->layers[0].inputs, size = columns * inputs, rows = task->rows < 40 ? task->rows : 40;
    const size_t bytes = (size_t)dtype / 8;
    char *whole = room(dtype, rows * size), *cut = room(dtype, rows * size);
    check(pymlp_predictor_value_and_gradient(predictor, X, rows, values, whole), "value_and_gradient", task);
    for (int64_t row = 0; row < rows; row++)
        check(pymlp_predictor_value_and_gradient(predictor, (const char *)X + (size_t)(row * inputs) * bytes, 1, NULL,
                                                 cut + (size_t)(row * size) * bytes),
              "value_and_gradient", task);
    if (memcmp(values, predicted, (size_t)(rows * columns) * bytes) != 0 ||
        memcmp(whole, cut, (size_t)(rows * size) * bytes) != 0) {
        fprintf(stderr, "float%d, case \"%s\": derivatives depend on how the rows are cut\n", dtype, task->name);
        exit(1);
    }
    take_in_numbers(hash, dtype, whole, rows * size);
    free(whole);
    free(cut);
}

/* What a predictor says of all rows, in one call and cut into several. */
static void predict(const struct task *task, const char *isa, int dtype, int threads, const void *params, const void *X,
                    const pymlp_sparse *sparse, struct hash *hash) {
    const int64_t inputs = task->layers[0].inputs;
    const pymlp_loss_rule loss = loss_rule_of(task, dtype);
    const size_t bytes = (size_t)dtype / 8;
    for (int complement = 0; complement <= (task->width == 1); complement++) {
        const int64_t columns = task->width + complement;
        void *out = room(dtype, task->rows * columns), *cut = room(dtype, task->rows * columns);
        pymlp_predictor *predictor;
        check(pymlp_predictor_create(&predictor, isa, dtype, task->layers, task->n_layers, &loss, params, complement,
                                     threads, task->automatic),
              "predictor_create", task);
        if (sparse != NULL)
            check(pymlp_predictor_predict_sparse(predictor, sparse, task->rows, out), "predict_sparse", task);
        else
            check(pymlp_predictor_predict(predictor, X, task->rows, out), "predict", task);
        for (int64_t row = 0, count; row < task->rows; row += count) {
            count = row == 0 || task->rows - row < 3 ? 1 : (task->rows - row) / 2;
            check(pymlp_predictor_predict(predictor, (const char *)X + (size_t)(row * inputs) * bytes, count,
                                          (char *)cut + (size_t)(row * columns) * bytes),
                  "predict", task);
        }
        if (memcmp(out, cut, (size_t)(task->rows * columns) * bytes) != 0) {
            fprintf(stderr, "%s, %d threads, float%d, case \"%s\": predictions depend on how the rows are cut\n", isa,
                    threads, dtype, task->name);
            exit(1);
        }
        take_in_numbers(hash, dtype, out, task->rows * columns);
        differentiate(task, dtype, predictor, columns, X, out, cut, hash);
        pymlp_predictor_free(predictor);
        free(out);
        free(cut);
    }
}

/* All verbs of a plan on one task; the parameters end where the training leaves them. */
static struct hash run(const struct task *task, const char *isa, int dtype, int threads) {
    struct hash hash = new_hash();
    const int64_t inputs = task->layers[0].inputs, n_outputs = task->rows * task->width;
    const int n_slots = task->rule->n_slots + task->averages;
    void *params = start_of(task, dtype), *gradient = room(dtype, task->n_parameters);
    void *slots = room(dtype, MOST_SLOTS * task->n_parameters), *out = room(dtype, n_outputs);
    void *x_gradient = room(dtype, task->rows * inputs), *X = filled(dtype, task->rows * inputs, 1, 1);
    void *y = targets_of(task, dtype), *weight = task->weighted ? room(dtype, task->rows) : NULL;
    for (int64_t row = 0; task->weighted && row < task->rows; row++)
        put(dtype, weight, row, row % 5 == 2 ? 0 : 1.125 + number(6, row));
    int64_t *order = calloc((size_t)(task->n_steps * task->rows), sizeof *order);
    int64_t *starts = calloc((size_t)task->n_steps + 1, sizeof *starts);
    double *coefficients = calloc((size_t)(task->n_steps * N_COEFFICIENTS), sizeof *coefficients);
    double *step_losses = calloc((size_t)task->n_steps, sizeof *step_losses), loss_value = 0;
    if (order == NULL || starts == NULL || coefficients == NULL || step_losses == NULL) exit(2);
    deal_batches(task, order, starts);
    fill_coefficients(task, coefficients);
    pymlp_sparse rows = {0};
    if (task->sparse) rows = sparse_of(task, dtype, X, inputs);
    const pymlp_sparse *sparse = task->sparse ? &rows : NULL;
    const void *dense = task->sparse ? NULL : X;
    const pymlp_loss_rule loss = loss_rule_of(task, dtype);
    pymlp_optimizer optimizer = {.kind = pymlp_optimizer_kind(task->rule->name),
                                 .averages = task->averages,
                                 .clip_norm = task->clip_norm,
                                 .clip_value = task->clip_value};
    memcpy(optimizer.parameters, task->rule->parameters, sizeof task->rule->parameters);

    pymlp_plan *plan;
    check(pymlp_plan_create(&plan, isa, dtype, task->layers, task->n_layers, &loss, task->l1, task->l2,
                            0x0123456789abcdefu, task->batch_size, threads, task->automatic),
          "plan_create", task);
    /* as in training, with the masks of a step, then as in inference */
    for (int64_t step = 7; step >= -1; step -= 8) {
        check(pymlp_forward(plan, params, dense, sparse, task->rows, out, step, 3), "forward", task);
        take_in_numbers(&hash, dtype, out, n_outputs);
        check(pymlp_backward(plan, params, dense, sparse, task->rows, y, gradient, task->sparse ? NULL : x_gradient,
                             step, 3),
              "backward", task);
        take_in_numbers(&hash, dtype, gradient, task->n_parameters);
        take_in_numbers(&hash, dtype, x_gradient, task->rows * inputs);
    }
    if (strcmp(task->loss->name, "custom") != 0) {
        check(pymlp_loss_gradient(plan, params, dense, sparse, y, weight, task->rows, gradient, &loss_value, 5, 2),
              "loss_gradient", task);
        take_in_numbers(&hash, 64, &loss_value, 1);
        take_in_numbers(&hash, dtype, gradient, task->n_parameters);
        check(pymlp_train_steps(plan, &optimizer, params, slots, 11, dense, sparse, y, weight, task->rows, order,
                                starts, task->n_steps, coefficients, step_losses),
              "train_steps", task);
        take_in_numbers(&hash, 64, step_losses, task->n_steps);
        take_in_numbers(&hash, dtype, params, task->n_parameters);
        take_in_numbers(&hash, dtype, slots, n_slots * task->n_parameters);
    }
    check(pymlp_update(plan, &optimizer, params, gradient, slots, coefficients), "update", task);
    take_in_numbers(&hash, dtype, params, task->n_parameters);
    take_in_numbers(&hash, dtype, slots, n_slots * task->n_parameters);
    pymlp_plan_free(plan);
    predict(task, isa, dtype, threads, params, X, sparse, &hash);

    if (task->sparse) free_sparse(&rows);
    void *const all[] = {params, gradient, slots,  out,          x_gradient, X,
                         y,      weight,   order,  coefficients, starts,     step_losses};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    return hash;
}

static void print_line(const char *isa, int threads, int dtype, struct hash hash, const char *name) {
    printf("%s %d float%d %016llx %s\n", isa, threads, dtype, (unsigned long long)hash.value, name);
}

static void run_task(const struct task *task, const char *isa, int dtype, const int *threads, int n_threads) {
    for (int i = 0; i < n_threads; i++) {
        const struct hash hash = run(task, isa, dtype, threads[i]);
        if (!hash.finite) {
            fprintf(stderr, "%s, float%d: case \"%s\" left the finite numbers\n", isa, dtype, task->name);
            exit(1);
        }
        print_line(isa, threads[i], dtype, hash, task->name);
    }
}

/* Values or slopes of one function at numbers of all sizes, zeros and infinities among them. */
static void evaluate(const char *name, bool slope, const char *isa, int dtype) {
    enum { COUNT = 20000 };
    void *z = room(dtype, COUNT), *out = room(dtype, COUNT);
    for (int64_t i = 0; i < COUNT; i++) {
        /* a range of ordinary numbers, then any exponent but those of subnormal and of no numbers */
        double value = 24 * number(8, i);
        if (i % 4 == 0) {
            const uint64_t bits = mixed(9, (uint64_t)i), largest = dtype == 32 ? 254 : 2046;
            const uint64_t exponent = 1 + (bits >> 1) % largest + (dtype == 32 ? 1023 - 127 : 0);
            const uint64_t pattern = bits << 63 | exponent << 52 | (bits >> 12 & 0x7fffff) << 29;
            memcpy(&value, &pattern, sizeof value);
        }
        put(dtype, z, i, i < 2 ? (i == 0 ? 0.0 : -0.0) : value);
    }
    struct task task = new_task("evaluate", name, 1, 1);
    if (slope) snprintf(task.name, sizeof task.name, "evaluate %s's slope", name);
    check(pymlp_evaluate(isa, dtype, name, slope, z, COUNT, out), "evaluate", &task);
    struct hash hash = new_hash();
    for (int64_t i = 0; i < COUNT; i++) {
        const double value = dtype == 32 ? (double)((float *)out)[i] : ((double *)out)[i];
        /* a NaN's sign and payload are not promised */
        if (value != value) put(dtype, out, i, 0.0);
        take_in(&hash, value != value ? "n" : "y", 1);
    }
    take_in_numbers(&hash, dtype, out, COUNT);
    print_line(isa, 1, dtype, hash, task.name);
    free(z);
    free(out);
}

/* The order of an epoch's rows. */
static void shuffle(const char *isa) {
    enum { ROWS = 100000, WORDS = 624 };
    static uint32_t twister[WORDS + 1];
    static int64_t order[ROWS];
    for (int64_t i = 0; i < WORDS; i++) twister[i] = (uint32_t)mixed(7, (uint64_t)i);
    twister[WORDS] = 100;
    for (int64_t i = 0; i < ROWS; i++) order[i] = i;
    struct task task = activation_task(activations[0]);
    const pymlp_loss_rule loss = loss_rule_of(&task, 64);
    pymlp_plan *plan;
    check(pymlp_plan_create(&plan, isa, 64, task.layers, task.n_layers, &loss, 0, 0, 0, 1, 1, 0), "plan_create", &task);
    pymlp_shuffle(plan, NULL, twister, order, 1, ROWS, 0, ROWS);
    pymlp_plan_free(plan);
    struct hash hash = new_hash();
    take_in(&hash, order, sizeof order);
    take_in(&hash, twister, sizeof twister);
    print_line(isa, 1, 64, hash, "shuffle");
}

static void run_all(const char *isa, int dtype, const int *threads, int n_threads) {
    struct task task;
#define RUN(made)                                             \
    do {                                                      \
        task = made;                                          \
        run_task(&task, isa, dtype, threads, n_threads);      \
    } while (0)
    for (int i = 0; i < N_ACTIVATIONS; i++) RUN(activation_task(activations[i]));
    for (int i = 0; i < N_LOSSES; i++) RUN(loss_task(&losses[i]));
    for (int i = 0; i < N_RULES; i++)
        for (int variant = 0; variant < N_SHARED; variant++) RUN(rule_task(&rules[i], variant));
    for (int i = 0; i < N_FEATURES; i++) RUN(feature_task(i, 33, 37));
    RUN(feature_task(ALL_OF_THEM, 7, 15));
    RUN(feature_task(ALL_OF_THEM, 130, 30));
    RUN(feature_task(ALL_OF_THEM, 5, 4500));
    for (int i = 0; i < N_SHAPES; i++) RUN(shape_task(shapes[i]));
    RUN(sparse_task("sgd"));
    RUN(sparse_task("adam"));
    RUN(sparse_task("rmsprop"));
    RUN(automatic_task());
#undef RUN
    for (int i = 0; i < N_ACTIVATIONS; i++) {
        evaluate(activations[i], false, isa, dtype);
        evaluate(activations[i], true, isa, dtype);
    }
    evaluate("log", false, isa, dtype);
    if (dtype == 64) shuffle(isa);
}

int main(int argc, char **argv) {
    enum { MOST_COUNTS = 16 };
    int threads[MOST_COUNTS] = {1}, n_threads = argc > 1 ? 0 : 1;
    for (int i = 1; i < argc && n_threads < MOST_COUNTS; i++) threads[n_threads++] = atoi(argv[i]);
    const char *isa;
    for (int i = 0; (isa = pymlp_instruction_set(i)) != NULL; i++)
        for (int dtype = 32; dtype <= 64; dtype += 32) run_all(isa, dtype, threads, n_threads);
    return 0;
}
