/* thread_driver.c: many threads predict with one predictor while others train, in C alone, to be run under
 * ThreadSanitizer, which cannot see through an interpreter's locks.
 *
 * Every training and every prediction is compared with one made before the threads began: the same bytes, whoever had
 * the pool.  A further thread stops a plan at work again and again.  Ends with status 0 and one line if all agree.
 *
 *     cc -std=gnu11 -O1 -g -fsanitize=thread -ffp-contract=off -Icsrc tests/thread_driver.c csrc/[a-z]*.c -lpthread \
 *        -o thread_driver && ./thread_driver [rounds]
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pymlp.h"

enum { INPUTS = 20, HIDDEN = 130, OUTPUTS = 3, ROWS = 300, BATCH = 64, STEPS = 40, PREDICTING = 32, TRAINING = 4 };
enum { PARAMETERS = INPUTS * HIDDEN + HIDDEN + HIDDEN * OUTPUTS + OUTPUTS };

static pymlp_layer layers[2];
static pymlp_loss_rule loss;
static pymlp_optimizer optimizer;
static pymlp_predictor *predictor;
static float X[ROWS * INPUTS], y[ROWS * OUTPUTS], start[PARAMETERS], trained[PARAMETERS], predicted[ROWS * OUTPUTS];
static float slopes[ROWS * OUTPUTS * INPUTS];
static int64_t order[STEPS * BATCH], starts[STEPS + 1];
static double coefficients[STEPS * 4];
/* the log loss without smoothing */
static const double loss_numbers[1];
static const char *instruction_set;
static atomic_int failures, running;
static atomic_long trainings, predictions, stops;
static int rounds = 20;

static void fail(const char *what, int code) {
    fprintf(stderr, "%s: %s\n", what, code == PYMLP_OK ? "other bytes" : pymlp_error_text(code));
    atomic_fetch_add(&failures, 1);
}

/* numbers in -1 .. 1, the same in each run */
static float drawn(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 11) / 4503599627370496.0 - 1.0);
}

static pymlp_plan *new_plan(int n_threads) {
    pymlp_plan *plan = NULL;
    const int code =
        pymlp_plan_create(&plan, instruction_set, 32, layers, 2, &loss, 0, 1e-4, 0, BATCH, n_threads, 0);
    if (code != PYMLP_OK) {
        fail("a plan", code);
        exit(2);
    }
    return plan;
}

static int train(pymlp_plan *plan, float *params) {
    static _Thread_local float slots[2 * PARAMETERS];
    double losses[STEPS];
    memcpy(params, start, sizeof start);
    memset(slots, 0, sizeof slots);
    return pymlp_train_steps(plan, &optimizer, params, slots, 0, X, NULL, y, NULL, ROWS, order, starts, STEPS,
                             coefficients, losses);
}

static void *train_again(void *number) {
    static _Thread_local float params[PARAMETERS];
    pymlp_plan *plan = new_plan(1 + (int)(intptr_t)number % 3);
    for (int i = 0; i < rounds; i++) {
        const int code = train(plan, params);
        if (code != PYMLP_OK || memcmp(params, trained, sizeof params) != 0) fail("a training", code);
        atomic_fetch_add(&trainings, 1);
    }
    pymlp_plan_free(plan);
    return NULL;
}

/* Derivatives of some rows; the first threads here find no transposes, and make them all at once. */
static void differentiate(int64_t start_row) {
    static _Thread_local float out[ROWS * OUTPUTS], jacobian[ROWS * OUTPUTS * INPUTS];
    const int64_t rows = ROWS / 3 - start_row;
    const int code =
        pymlp_predictor_value_and_gradient(predictor, X + start_row * INPUTS, rows, out, jacobian);
    if (code != PYMLP_OK) fail("a derivative", code);
    if (memcmp(out, predicted + start_row * OUTPUTS, (size_t)(rows * OUTPUTS) * sizeof *out) != 0 ||
        memcmp(jacobian, slopes + start_row * OUTPUTS * INPUTS, (size_t)(rows * OUTPUTS * INPUTS) * sizeof *out) != 0)
        fail("a derivative", PYMLP_OK);
}

static void *predict_again(void *number) {
    static _Thread_local float out[ROWS * OUTPUTS];
    /* pieces of another length for each thread: the same bytes however rows are cut */
    const int64_t piece = 1 + (int64_t)(intptr_t)number * 9;
    for (int i = 0; i < rounds * 4; i++) {
        for (int64_t row = 0; row < ROWS; row += piece) {
            const int64_t count = ROWS - row < piece ? ROWS - row : piece;
            const int code = pymlp_predictor_predict(predictor, X + row * INPUTS, count, out + row * OUTPUTS);
            if (code != PYMLP_OK) fail("a prediction", code);
        }
        if (memcmp(out, predicted, sizeof out) != 0) fail("a prediction", PYMLP_OK);
        atomic_fetch_add(&predictions, 1);
        differentiate((intptr_t)number % 7);
    }
    return NULL;
}

static void *stop_again(void *plan) {
    while (atomic_load(&running)) {
        pymlp_stop(plan);
        atomic_fetch_add(&stops, 1);
        for (volatile int pause = 0; pause < 20000; pause++) continue;
    }
    return NULL;
}

/* Trainings that are stopped at any moment; then one that is not, on the same plan. */
static void *train_stopped(void *argument) {
    (void)argument;
    static _Thread_local float params[PARAMETERS];
    pymlp_plan *plan = new_plan(2);
    pthread_t stopper;
    atomic_store(&running, 1);
    if (pthread_create(&stopper, NULL, stop_again, plan) != 0) exit(2);
    for (int i = 0; i < rounds; i++) {
        const int code = train(plan, params);
        if (code != PYMLP_OK && code != PYMLP_STOPPED) fail("a stopped training", code);
    }
    atomic_store(&running, 0);
    pthread_join(stopper, NULL);
    int code = train(plan, params);
    /* the last stop may have come between two trainings */
    if (code == PYMLP_STOPPED) code = train(plan, params);
    if (code != PYMLP_OK || memcmp(params, trained, sizeof params) != 0) fail("a training after stops", code);
    pymlp_plan_free(plan);
    return NULL;
}

static void prepare(void) {
    uint64_t state = 1;
    instruction_set = pymlp_instruction_set(0);
    const int dense = pymlp_layer_kind("dense");
    layers[0] = (pymlp_layer){.kind = dense, .activation = pymlp_activation("relu"), .inputs = INPUTS, .outputs = HIDDEN,
                              .source = 0, .second = -1};
    layers[1] = (pymlp_layer){.kind = dense, .activation = pymlp_activation("softmax"), .inputs = HIDDEN,
                              .outputs = OUTPUTS, .source = 1, .second = -1};
    loss = (pymlp_loss_rule){.kind = pymlp_loss("log_loss"), .group = 1, .n_numbers = 1, .numbers = loss_numbers};
    optimizer = (pymlp_optimizer){.kind = pymlp_optimizer_kind("sgd"), .parameters = {0.9, 1}};
    for (int i = 0; i < ROWS * INPUTS; i++) X[i] = drawn(&state);
    for (int i = 0; i < PARAMETERS; i++) start[i] = 0.2f * drawn(&state);
    for (int row = 0; row < ROWS; row++) y[row * OUTPUTS + row % OUTPUTS] = 1;
    for (int i = 0; i < STEPS * BATCH; i++) order[i] = (int64_t)i * 7 % ROWS;
    for (int i = 0; i <= STEPS; i++) starts[i] = (int64_t)i * BATCH;
    for (int i = 0; i < STEPS; i++) coefficients[4 * i] = 0.01;
}

int main(int count, char **arguments) {
    if (count > 1) rounds = atoi(arguments[1]);
    prepare();
    pymlp_plan *plan = new_plan(1);
    int code = train(plan, trained);
    pymlp_plan_free(plan);
    if (code != PYMLP_OK || !isfinite(trained[0]) || memcmp(trained, start, sizeof start) == 0) {
        fail("the first training", code);
        return 2;
    }
    code = pymlp_predictor_create(&predictor, instruction_set, 32, layers, 2, &loss, trained, 0, 2, 0);
    if (code == PYMLP_OK) code = pymlp_predictor_predict(predictor, X, ROWS, predicted);
    /* by a predictor of its own: that of the threads is to have no transposes yet */
    pymlp_predictor *first = NULL;
    static float again[ROWS * OUTPUTS];
    if (code == PYMLP_OK)
        code = pymlp_predictor_create(&first, instruction_set, 32, layers, 2, &loss, trained, 0, 1, 0);
    if (code == PYMLP_OK) code = pymlp_predictor_value_and_gradient(first, X, ROWS, again, slopes);
    pymlp_predictor_free(first);
    if (code != PYMLP_OK || memcmp(again, predicted, sizeof again) != 0) {
        fail("the first prediction", code);
        return 2;
    }
    pthread_t threads[PREDICTING + TRAINING + 1];
    int made = 0;
    for (intptr_t i = 0; i < PREDICTING; i++, made++)
        if (pthread_create(&threads[made], NULL, predict_again, (void *)i) != 0) return 2;
    for (intptr_t i = 0; i < TRAINING; i++, made++)
        if (pthread_create(&threads[made], NULL, train_again, (void *)i) != 0) return 2;
    if (pthread_create(&threads[made++], NULL, train_stopped, NULL) != 0) return 2;
    for (int i = 0; i < made; i++) pthread_join(threads[i], NULL);
    pymlp_predictor_free(predictor);
    printf("%ld trainings, %ld predictions of %d rows, %ld stops, %d failures\n", atomic_load(&trainings),
           atomic_load(&predictions), (int)ROWS, atomic_load(&stops), atomic_load(&failures));
    return atomic_load(&failures) != 0;
}
