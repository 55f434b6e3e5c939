/* callables.c: a predictor as the functions that other programs call back: integrands, filters, right-hand sides.
 *
 * Such programs know one signature each, speak double and pass a pointer along.  Here it points to a pymlp_callback, the
 * predictor and what its answer is multiplied by; so one function of each signature serves every network, needs no
 * compiler where it is used and calls no Python.  A float network's numbers are converted on the way in and out.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "pymlp.h"

/* What a call works in lies on the stack up to so many bytes: to allocate takes as long as a layer of a small network. */
enum { STACK_BYTES = 4096 };

/* not a number, without libm */
#define NOTHING __builtin_nan("")

/* Columns of `rows` rows become column * scale + shift, each operation rounded: what Predictor computes in NumPy; and
 * derivatives of columns by `inputs` inputs, derivative * scale. */
#define SCALE(real)                                                                                      \
    static void scale_##real(const pymlp_callback *self, int64_t rows, real *out) {                      \
        const real *scale = self->scale, *shift = self->shift;                                           \
        for (int64_t row = 0; row < rows; row++, out += self->columns)                                   \
            for (int64_t i = 0; i < self->columns; i++) out[i] = out[i] * scale[i] + shift[i];           \
    }                                                                                                    \
    static void scale_jacobian_##real(const pymlp_callback *self, int64_t rows, real *jacobian) {        \
        const real *scale = self->scale;                                                                 \
        for (int64_t row = 0; row < rows; row++)                                                         \
            for (int64_t i = 0; i < self->columns; i++, jacobian += self->inputs)                        \
                for (int64_t k = 0; k < self->inputs; k++) jacobian[k] = jacobian[k] * scale[i];         \
    }
SCALE(float)
SCALE(double)

int pymlp_call_rows(const void *callback, const void *X, int64_t rows, void *out) {
    const pymlp_callback *const self = callback;
    const int code = pymlp_predictor_predict(self->predictor, X, rows, out);
    if (code != PYMLP_OK || self->scale == NULL) return code;
    if (self->dtype == 32)
        scale_float(self, rows, out);
    else
        scale_double(self, rows, out);
    return PYMLP_OK;
}

int pymlp_call_rows_and_gradient(const void *callback, const void *X, int64_t rows, void *out, void *gradient) {
    const pymlp_callback *const self = callback;
    const int code = pymlp_predictor_value_and_gradient(self->predictor, X, rows, out, gradient);
    if (code != PYMLP_OK || self->scale == NULL) return code;
    if (self->dtype == 32) {
        if (out != NULL) scale_float(self, rows, out);
        scale_jacobian_float(self, rows, gradient);
    } else {
        if (out != NULL) scale_double(self, rows, out);
        scale_jacobian_double(self, rows, gradient);
    }
    return PYMLP_OK;
}

/* --- one row of doubles ----------------------------------------------------------------------------------------- */

/* Memory for one call, on the caller's stack or allocated. */
struct space {
    void *memory;
    char stack[STACK_BYTES] __attribute__((aligned(64)));
};

static bool take(struct space *space, int64_t numbers, size_t bytes) {
    const double size = (double)numbers * (double)bytes;
    space->memory = size <= STACK_BYTES ? space->stack : pymlp_new_block(size);
    return space->memory != NULL;
}

static void give_back(struct space *space) {
    if (space->memory != space->stack) free(space->memory);
}

static void to_float(const double *from, int64_t count, float *to) {
    for (int64_t i = 0; i < count; i++) to[i] = (float)from[i];
}

static void to_double(const float *from, int64_t count, double *to) {
    for (int64_t i = 0; i < count; i++) to[i] = (double)from[i];
}

static int call(const pymlp_callback *self, const void *x, void *out, void *gradient) {
    return gradient == NULL ? pymlp_call_rows(self, x, 1, out)
                            : pymlp_call_rows_and_gradient(self, x, 1, out, gradient);
}

/* The answer (columns) to one row x (inputs), and its derivatives (columns, inputs) unless `gradient` is NULL. */
static bool answer(const pymlp_callback *self, const double *x, double *out, double *gradient) {
    if (self->dtype == 64) return call(self, x, out, gradient) == PYMLP_OK;
    const int64_t derivatives = gradient == NULL ? 0 : self->columns * self->inputs;
    struct space space;
    if (!take(&space, self->inputs + self->columns + derivatives, sizeof(float))) return false;
    float *const row = space.memory, *const found = row + self->inputs, *const slopes = found + self->columns;
    to_float(x, self->inputs, row);
    const bool done = call(self, row, found, gradient == NULL ? NULL : slopes) == PYMLP_OK;
    if (done) to_double(found, self->columns, out);
    if (done) to_double(slopes, derivatives, gradient);
    give_back(&space);
    return done;
}

/* The one column of it that is asked for, and its gradient (inputs) unless NULL. */
static bool one_column(const pymlp_callback *self, const double *x, double *value, double *gradient) {
    if (self->columns == 1) return answer(self, x, value, gradient);
    struct space space;
    if (!take(&space, self->columns * (gradient == NULL ? 1 : 1 + self->inputs), sizeof(double))) return false;
    double *const out = space.memory, *const slopes = gradient == NULL ? NULL : out + self->columns;
    const bool done = answer(self, x, out, slopes);
    if (done) *value = out[self->column];
    if (done && gradient != NULL)
        memcpy(gradient, slopes + self->column * self->inputs, (size_t)self->inputs * sizeof(double));
    give_back(&space);
    return done;
}

static void no_numbers(double *numbers, int64_t count) {
    for (int64_t i = 0; i < count; i++) numbers[i] = NOTHING;
}

double pymlp_call_number(double x, void *callback) {
    const pymlp_callback *const self = callback;
    double value;
    return self->inputs == 1 && one_column(self, &x, &value, NULL) ? value : NOTHING;
}

double pymlp_call_point(int n, double *x, void *callback) {
    const pymlp_callback *const self = callback;
    double value;
    return self->inputs == n && one_column(self, x, &value, NULL) ? value : NOTHING;
}

double pymlp_call_point_and_gradient(unsigned n, const double *x, double *gradient, void *callback) {
    const pymlp_callback *const self = callback;
    double value;
    if (self->inputs == n && one_column(self, x, &value, gradient)) return value;
    if (gradient != NULL) no_numbers(gradient, n);
    return NOTHING;
}

double pymlp_call_number_and_gradient(double x, double *gradient, void *callback) {
    return pymlp_call_point_and_gradient(1, &x, gradient, callback);
}

int pymlp_call_window(double *numbers, intptr_t size, double *value, void *callback) {
    const pymlp_callback *const self = callback;
    return self->inputs == size && one_column(self, numbers, value, NULL);
}

int pymlp_call_line(double *input, intptr_t input_size, double *output, intptr_t output_size, void *callback) {
    const pymlp_callback *const self = callback;
    if (input_size - output_size != self->inputs - 1) return 0;
    for (intptr_t i = 0; i < output_size; i++)
        if (!one_column(self, input + i, output + i, NULL)) return 0;
    return 1;
}

int pymlp_call_coordinates(intptr_t *output, double *input, int output_rank, int input_rank, void *callback) {
    const pymlp_callback *const self = callback;
    struct space space;
    if (output_rank != self->inputs || input_rank != self->columns || !take(&space, self->inputs, sizeof(double)))
        return 0;
    double *const x = space.memory;
    for (int64_t i = 0; i < self->inputs; i++) x[i] = (double)output[i];
    const bool done = answer(self, x, input, NULL);
    give_back(&space);
    return done;
}

/* The row that a right-hand side is asked about: the state, with the time before it if it is an input. */
static const double *state_row(const pymlp_callback *self, double t, const double *state, struct space *space) {
    space->memory = space->stack;
    if (self->inputs == self->columns) return state;
    if (!take(space, self->inputs, sizeof(double))) return NULL;
    double *const x = space->memory;
    x[0] = t;
    memcpy(x + 1, state, (size_t)(self->inputs - 1) * sizeof(double));
    return x;
}

void pymlp_call_rates_and_gradient(double t, const double *state, double *rates, double *gradient, void *callback) {
    const pymlp_callback *const self = callback;
    struct space space;
    const double *const x = state_row(self, t, state, &space);
    if (x == NULL || !answer(self, x, rates, gradient)) {
        no_numbers(rates, self->columns);
        if (gradient != NULL) no_numbers(gradient, self->columns * self->inputs);
    }
    give_back(&space);
}

void pymlp_call_rates(double t, double *state, double *rates, void *callback) {
    pymlp_call_rates_and_gradient(t, state, rates, NULL, callback);
}
