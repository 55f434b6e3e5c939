/* python_stepper.c: one batch at a time from Python, in little more than the engine's own time: the type pymlp._call.Stepper.
 *
 * A control loop or a game asks for the outputs of a few rows, works out by itself how good they were, and takes a step with
 * a gradient of its own: a few microseconds of the engine, around which cffi and a look at each array in Python would put
 * ten.  As for predictors (python_call.c), the looking is done here, on NumPy's own records, for every call; whatever is
 * not exactly as expected goes to the Python methods _forward, _predict, _step and _train of pymlp/learner.py, which convert
 * or complain, and come back by _run_forward, _run_step, _run_train and _run_update.
 *
 * Every step happens as a whole or not at all: a code of the engine comes before anything is written, and Python's signals
 * are seen by nobody in between.
 */
#if defined(PYMLP_PYTHON)
#include "python_arrays.h"

#include <float.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "pymlp.h"

typedef int forward_function(pymlp_plan *plan, const void *params, const void *X, const pymlp_sparse *sparse, int64_t rows,
                             void *out, int64_t step, int64_t row_offset);
typedef int backward_function(pymlp_plan *plan, const void *params, const void *X, const pymlp_sparse *sparse, int64_t rows,
                              const void *output_gradient, void *gradient, void *x_gradient, int64_t step,
                              int64_t row_offset);
typedef int loss_gradient_function(pymlp_plan *plan, const void *params, const void *X, const pymlp_sparse *sparse,
                                   const void *y, const void *weight, int64_t rows, void *gradient, double *loss,
                                   int64_t step, int64_t row_offset);
typedef int update_function(pymlp_plan *plan, const pymlp_optimizer *optimizer, void *params, const void *gradient,
                            void *slots, const double *coefficients);

typedef struct {
    PyObject_HEAD
    pymlp_plan *plan; /* NULL: every call is general */
    const pymlp_optimizer *optimizer;
    forward_function *forward;
    backward_function *backward;
    loss_gradient_function *loss_gradient;
    update_function *update;
    PyObject *fail;  /* called with a code, raises what it means */
    PyObject *dtype;
    PyArrayObject *params, *slots;       /* the user's: (n_parameters,) and (n_slots, n_parameters) */
    PyArrayObject *gradient, *kept;      /* (n_parameters,); the rows of the last forward, (batch size, inputs) */
    PyArrayObject *count;                /* (1,): steps taken */
    PyArrayObject *coefficients;         /* of the steps from `first` on, (steps, 4) */
    int64_t first;
    npy_intp inputs, outputs, batch_size, n_slots;
    npy_intp most_rows;                  /* of a call that is made directly: a longer one would keep Ctrl-C waiting */
    npy_intp locked_rows;                /* up to so many, the interpreter's lock stays taken */
    int with_loss;                       /* the engine knows the network's loss */
    double lowest, highest;              /* targets */
    npy_intp kept_rows;                  /* -1: no forward since the last step */
    int kept_ndim;
    atomic_int busy;                     /* generation of the process whose thread works with it; 0: nobody's */
} Stepper;

/* Rows of a call: X, or those that were kept. */
struct rows {
    const void *numbers;
    npy_intp count;
    int ndim;
};

static PyObject *general_names[4], *names_forward[2], *names_step[2], *names_train[3];
enum { FORWARD, PREDICT, STEP, TRAIN };

/* A flag set by a thread that a fork has left behind lapses in the child. */
static atomic_int generation = 1;

static void count_fork(void) { atomic_fetch_add(&generation, 1); }

static bool take(Stepper *self) {
    const int now = atomic_load(&generation);
    int found = atomic_load(&self->busy);
    return found != now && atomic_compare_exchange_strong(&self->busy, &found, now);
}

static void release(Stepper *self) { atomic_store(&self->busy, 0); }

/* NULL, with the exception that a code of the engine stands for */
static PyObject *failed(const Stepper *self, int code) {
    PyObject *none = PyObject_CallFunction(self->fail, "i", code);
    Py_XDECREF(none);
    if (none != NULL) PyErr_SetString(PyExc_SystemError, "the engine's code stands for no exception");
    return NULL;
}

static bool is_double(const Stepper *self) { return PyArray_ITEMSIZE(self->params) == sizeof(double); }

static size_t bytes_of(PyArrayObject *array) { return (size_t)PyArray_NBYTES(array); }

/* --- looking at arrays ---------------------------------------------------------------------------------------------- */

/* Whether all numbers lie in an interval, which NaN never does.  Without a branch, so that it takes vectors. */
static bool lie_within(const Stepper *self, const void *numbers, npy_intp count, double lowest, double highest) {
    int outside = 0;
    if (is_double(self)) {
        const double *x = numbers;
        for (npy_intp i = 0; i < count; i++) outside |= !(x[i] >= lowest) | !(x[i] <= highest);
    } else {
        const float *x = numbers, low = (float)lowest, high = (float)highest;
        for (npy_intp i = 0; i < count; i++) outside |= !(x[i] >= low) | !(x[i] <= high);
    }
    return !outside;
}

static double largest(const Stepper *self) { return is_double(self) ? DBL_MAX : (double)FLT_MAX; }

static bool are_finite(const Stepper *self, const void *numbers, npy_intp count) {
    return lie_within(self, numbers, count, -largest(self), largest(self));
}

/* Whether the user's arrays are still what they were: their memory may be read-only or of another shape by now. */
static bool are_trainable(const Stepper *self) {
    return pymlp_is_plain((PyObject *)self->params, self->dtype, NPY_ARRAY_CARRAY) && PyArray_NDIM(self->params) == 1 &&
           PyArray_DIM(self->params, 0) == PyArray_DIM(self->gradient, 0) &&
           pymlp_is_plain((PyObject *)self->slots, self->dtype, NPY_ARRAY_CARRAY) && PyArray_NDIM(self->slots) == 2 &&
           PyArray_DIM(self->slots, 0) == self->n_slots &&
           PyArray_DIM(self->slots, 1) == PyArray_DIM(self->gradient, 0);
}

static int64_t steps_of(const Stepper *self) { return *(const int64_t *)PyArray_DATA(self->count); }

/* Where the coefficients of the next step are; NULL where they have not been worked out yet. */
static const double *coefficients_of(const Stepper *self) {
    const int64_t place = steps_of(self) - self->first;
    if (self->coefficients == NULL || place < 0 || place >= PyArray_DIM(self->coefficients, 0)) return NULL;
    return (const double *)PyArray_DATA(self->coefficients) + 4 * place;
}

/* Whether X holds rows, at least `least` and at most `most`, as the engine takes them, of finite numbers. */
static bool are_rows(const Stepper *self, PyObject *X, npy_intp least, npy_intp most, struct rows *rows) {
    if (!pymlp_is_plain(X, self->dtype, NPY_ARRAY_CARRAY_RO)) return false;
    PyArrayObject *array = (PyArrayObject *)X;
    rows->ndim = PyArray_NDIM(array);
    if (rows->ndim < 1 || rows->ndim > 2 || PyArray_DIM(array, rows->ndim - 1) != self->inputs) return false;
    rows->count = rows->ndim == 2 ? PyArray_DIM(array, 0) : 1;
    rows->numbers = PyArray_DATA(array);
    return rows->count >= least && rows->count <= most && are_finite(self, rows->numbers, rows->count * self->inputs);
}

/* Whether an array has a row of `width` numbers for each of the rows, and as many axes as those. */
static bool go_with(const Stepper *self, PyObject *object, const struct rows *rows, npy_intp width, int flags) {
    if (!pymlp_is_plain(object, self->dtype, flags)) return false;
    PyArrayObject *array = (PyArrayObject *)object;
    return PyArray_NDIM(array) == rows->ndim && PyArray_DIM(array, rows->ndim - 1) == width &&
           (rows->ndim == 1 || PyArray_DIM(array, 0) == rows->count);
}

static bool overlaps(PyArrayObject *array, PyArrayObject *other) {
    return pymlp_overlap(PyArray_BYTES(array), bytes_of(array), PyArray_BYTES(other), bytes_of(other));
}

/* --- the work ------------------------------------------------------------------------------------------------------- */

/* What a call does once its arguments have been looked at, without Python. */
struct work {
    struct rows rows;
    const void *by_output, *y, *weight, *gradient;
    const double *coefficients;
    void *out;
    bool trains, keeps;
    int64_t step;
    double loss;
};

static int compute_forward(Stepper *self, struct work *work) {
    const void *X = work->rows.numbers;
    if (work->keeps) {
        /* a caller's array may hold the next rows by the time of the step */
        memcpy(PyArray_DATA(self->kept), X, (size_t)(work->rows.count * self->inputs * PyArray_ITEMSIZE(self->kept)));
        X = PyArray_DATA(self->kept);
    }
    return self->forward(self->plan, PyArray_DATA(self->params), X, NULL, work->rows.count, work->out,
                         work->trains ? work->step : -1, 0);
}

static int compute_update(Stepper *self, struct work *work) {
    const int code = self->update(self->plan, self->optimizer, PyArray_DATA(self->params), work->gradient,
                                  PyArray_DATA(self->slots), work->coefficients);
    if (code != PYMLP_OK) return code;
    *(int64_t *)PyArray_DATA(self->count) = work->step + 1;
    self->kept_rows = -1;
    return code;
}

static int compute_step(Stepper *self, struct work *work) {
    work->gradient = PyArray_DATA(self->gradient);
    const int code = self->backward(self->plan, PyArray_DATA(self->params), work->rows.numbers, NULL, work->rows.count,
                                    work->by_output, PyArray_DATA(self->gradient), NULL, work->step, 0);
    return code == PYMLP_OK ? compute_update(self, work) : code;
}

static int compute_train(Stepper *self, struct work *work) {
    work->gradient = PyArray_DATA(self->gradient);
    const int code = self->loss_gradient(self->plan, PyArray_DATA(self->params), work->rows.numbers, NULL, work->y,
                                         work->weight, work->rows.count, PyArray_DATA(self->gradient), &work->loss,
                                         work->step, 0);
    return code == PYMLP_OK ? compute_update(self, work) : code;
}

/* Runs one of them, the stepper being taken, and gives it back; a code.  `strict`: by a helper thread, which somebody may
 * ask to stop. */
static int run(Stepper *self, int (*compute)(Stepper *self, struct work *work), struct work *work, bool strict) {
    int code;
    if (!strict && work->rows.count <= self->locked_rows) {
        code = compute(self, work);
    } else {
        Py_BEGIN_ALLOW_THREADS
        code = compute(self, work);
        Py_END_ALLOW_THREADS
    }
    /* nobody asks a direct call to stop: that was meant for an earlier one, which ended just before */
    if (code == PYMLP_STOPPED && !strict) code = compute(self, work);
    if (work->keeps) {
        self->kept_rows = code == PYMLP_OK ? work->rows.count : -1;
        self->kept_ndim = work->rows.ndim;
    }
    release(self);
    return code;
}

/* Each of the four gives a new reference, or NULL: without an exception where the arguments want the general way. */

static PyObject *forward(Stepper *self, PyObject *X, PyObject *out, bool keeps, bool strict) {
    struct work work = {.trains = keeps, .keeps = keeps};
    const npy_intp most = strict ? NPY_MAX_INTP : self->most_rows;
    if (!are_trainable(self) || !are_rows(self, X, 0, keeps && self->batch_size < most ? self->batch_size : most, &work.rows))
        return NULL;
    npy_intp shape[2] = {work.rows.ndim == 2 ? work.rows.count : self->outputs, self->outputs};
    if (out == NULL) {
        Py_INCREF(self->dtype);
        out = PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)self->dtype, work.rows.ndim, shape, NULL, NULL, 0, NULL);
        if (out == NULL) return NULL;
    } else {
        PyArrayObject *to = (PyArrayObject *)out;
        if (!go_with(self, out, &work.rows, self->outputs, NPY_ARRAY_CARRAY) || overlaps(to, (PyArrayObject *)X) ||
            overlaps(to, self->params) || overlaps(to, self->slots))
            return NULL;
        Py_INCREF(out);
    }
    work.out = PyArray_DATA((PyArrayObject *)out);
    int code = PYMLP_BUSY;
    if (take(self)) {
        work.step = steps_of(self);
        code = run(self, compute_forward, &work, strict);
    }
    if (code == PYMLP_OK) return out;
    Py_DECREF(out);
    return failed(self, code);
}

static PyObject *none_or_failed(const Stepper *self, int code) {
    if (code != PYMLP_OK) return failed(self, code);
    Py_RETURN_NONE;
}

static PyObject *step(Stepper *self, PyObject *by_output, PyObject *X, bool strict) {
    struct work work = {.trains = true};
    const npy_intp most = strict || self->batch_size < self->most_rows ? self->batch_size : self->most_rows;
    if (!are_trainable(self)) return NULL;
    if (!take(self)) return failed(self, PYMLP_BUSY);
    if (X == NULL) work.rows = (struct rows){PyArray_DATA(self->kept), self->kept_rows, self->kept_ndim};
    work.step = steps_of(self);
    work.coefficients = coefficients_of(self);
    if ((X == NULL ? work.rows.count < 1 || work.rows.count > most : !are_rows(self, X, 1, most, &work.rows)) ||
        work.coefficients == NULL || !go_with(self, by_output, &work.rows, self->outputs, NPY_ARRAY_CARRAY_RO) ||
        !are_finite(self, PyArray_DATA((PyArrayObject *)by_output), work.rows.count * self->outputs)) {
        release(self);
        return NULL;
    }
    work.by_output = PyArray_DATA((PyArrayObject *)by_output);
    return none_or_failed(self, run(self, compute_step, &work, strict));
}

/* Whether row weights are at least 0, and together more; subnormal ones count as 0. */
static bool are_weights(const Stepper *self, PyObject *weight, const struct rows *rows) {
    if (rows->ndim != 2 || !pymlp_is_plain(weight, self->dtype, NPY_ARRAY_CARRAY_RO)) return false;
    PyArrayObject *array = (PyArrayObject *)weight;
    const void *numbers = PyArray_DATA(array);
    if (PyArray_NDIM(array) != 1 || PyArray_DIM(array, 0) != rows->count) return false;
    const double next_to_0 = is_double(self) ? DBL_MIN - DBL_TRUE_MIN : (double)(FLT_MIN - FLT_TRUE_MIN);
    return lie_within(self, numbers, rows->count, 0, largest(self)) &&
           !lie_within(self, numbers, rows->count, 0, next_to_0);
}

static PyObject *train(Stepper *self, PyObject *X, PyObject *y, PyObject *weight, bool strict) {
    struct work work = {.trains = true};
    const npy_intp most = strict || self->batch_size < self->most_rows ? self->batch_size : self->most_rows;
    if (!self->with_loss || !are_trainable(self) || !are_rows(self, X, 1, most, &work.rows) ||
        !go_with(self, y, &work.rows, self->outputs, NPY_ARRAY_CARRAY_RO) ||
        !lie_within(self, PyArray_DATA((PyArrayObject *)y), work.rows.count * self->outputs, self->lowest, self->highest) ||
        (weight != NULL && !are_weights(self, weight, &work.rows)))
        return NULL;
    work.y = PyArray_DATA((PyArrayObject *)y);
    work.weight = weight == NULL ? NULL : PyArray_DATA((PyArrayObject *)weight);
    if (!take(self)) return failed(self, PYMLP_BUSY);
    work.step = steps_of(self);
    work.coefficients = coefficients_of(self);
    if (work.coefficients == NULL) {
        release(self);
        return NULL;
    }
    const int code = run(self, compute_train, &work, strict);
    return code == PYMLP_OK ? PyFloat_FromDouble(work.loss) : failed(self, code);
}

static PyObject *update(Stepper *self, PyObject *gradient) {
    struct work work = {.trains = true};
    if (!are_trainable(self) || !pymlp_is_plain(gradient, self->dtype, NPY_ARRAY_CARRAY_RO)) return NULL;
    PyArrayObject *array = (PyArrayObject *)gradient;
    if (PyArray_NDIM(array) != 1 || PyArray_DIM(array, 0) != PyArray_DIM(self->params, 0)) return NULL;
    if (!take(self)) return failed(self, PYMLP_BUSY);
    work.gradient = PyArray_DATA(array);
    work.step = steps_of(self);
    work.coefficients = coefficients_of(self);
    if (work.coefficients == NULL) {
        release(self);
        return NULL;
    }
    return none_or_failed(self, run(self, compute_update, &work, true));
}

/* --- the methods ---------------------------------------------------------------------------------------------------- */

/* Deals positional and named arguments out to their places, NULL where there is none or None; whether they fit. */
static bool deal_out(PyObject *const *arguments, Py_ssize_t count, PyObject *keywords, PyObject *const *names, int least,
                     int most, PyObject **found) {
    for (int i = 0; i < most; i++) found[i] = NULL;
    if (count > most) return false;
    for (Py_ssize_t i = 0; i < count; i++) found[i] = arguments[i];
    const Py_ssize_t named = keywords == NULL ? 0 : PyTuple_Size(keywords);
    for (Py_ssize_t i = 0; i < named; i++) {
        /* names in code are interned; others go the general way */
        PyObject *name = PyTuple_GetItem(keywords, i);
        int place = 0;
        while (place < most && names[place] != name) place++;
        if (place == most || found[place] != NULL) return false;
        found[place] = arguments[count + i];
    }
    for (int i = 0; i < most; i++)
        if (found[i] == Py_None) found[i] = NULL;
    for (int i = 0; i < least; i++)
        if (found[i] == NULL) return false;
    return true;
}

static PyObject *generally(PyObject *self, int method, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
    PyObject *function = PyObject_GetAttr(self, general_names[method]);
    PyObject *positional = PyTuple_New(count), *named = keywords == NULL ? NULL : PyDict_New();
    PyObject *answer = NULL;
    if (function == NULL || positional == NULL || (keywords != NULL && named == NULL)) goto end;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_INCREF(arguments[i]);
        if (PyTuple_SetItem(positional, i, arguments[i]) < 0) goto end;
    }
    for (Py_ssize_t i = 0; keywords != NULL && i < PyTuple_Size(keywords); i++)
        if (PyDict_SetItem(named, PyTuple_GetItem(keywords, i), arguments[count + i]) < 0) goto end;
    answer = PyObject_Call(function, positional, named);
end:
    Py_XDECREF(function);
    Py_XDECREF(positional);
    Py_XDECREF(named);
    return answer;
}

#define IS_BOUND(self) (((Stepper *)(self))->plan != NULL)

static PyObject *call_forward(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords, int method) {
    PyObject *found[2], *answer = NULL;
    if (IS_BOUND(self) && deal_out(arguments, count, keywords, names_forward, 1, 2, found))
        answer = forward((Stepper *)self, found[0], found[1], method == FORWARD, false);
    return answer != NULL || PyErr_Occurred() ? answer : generally(self, method, arguments, count, keywords);
}

static PyObject *method_forward(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
    return call_forward(self, arguments, count, keywords, FORWARD);
}

static PyObject *method_predict(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
    return call_forward(self, arguments, count, keywords, PREDICT);
}

static PyObject *method_step(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
    PyObject *found[2], *answer = NULL;
    if (IS_BOUND(self) && deal_out(arguments, count, keywords, names_step, 1, 2, found))
        answer = step((Stepper *)self, found[0], found[1], false);
    return answer != NULL || PyErr_Occurred() ? answer : generally(self, STEP, arguments, count, keywords);
}

static PyObject *method_train(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
    PyObject *found[3], *answer = NULL;
    if (IS_BOUND(self) && deal_out(arguments, count, keywords, names_train, 2, 3, found))
        answer = train((Stepper *)self, found[0], found[1], found[2], false);
    return answer != NULL || PyErr_Occurred() ? answer : generally(self, TRAIN, arguments, count, keywords);
}

static PyObject *strictly(PyObject *answer) {
    if (answer == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_SystemError, "the arguments are not as the engine takes them");
    return answer;
}

static PyObject *given(PyObject *object) { return object == Py_None ? NULL : object; }

static PyObject *run_forward(PyObject *self, PyObject *arguments) {
    PyObject *X, *out;
    int keeps;
    if (!PyArg_ParseTuple(arguments, "OOp", &X, &out, &keeps)) return NULL;
    return strictly(!IS_BOUND(self) ? NULL : forward((Stepper *)self, X, out, keeps, true));
}

static PyObject *run_step(PyObject *self, PyObject *arguments) {
    PyObject *by_output, *X;
    if (!PyArg_ParseTuple(arguments, "OO", &by_output, &X)) return NULL;
    return strictly(!IS_BOUND(self) ? NULL : step((Stepper *)self, by_output, given(X), true));
}

static PyObject *run_train(PyObject *self, PyObject *arguments) {
    PyObject *X, *y, *weight;
    if (!PyArg_ParseTuple(arguments, "OOO", &X, &y, &weight)) return NULL;
    return strictly(!IS_BOUND(self) ? NULL : train((Stepper *)self, X, y, given(weight), true));
}

static PyObject *run_update(PyObject *self, PyObject *gradient) {
    return strictly(!IS_BOUND(self) ? NULL : update((Stepper *)self, gradient));
}

/* _bind(addresses, fail, dtype, arrays, sizes, with_loss, lowest, highest): once, by pymlp/learner.py */
static PyObject *bind(PyObject *object, PyObject *arguments) {
    Stepper *self = (Stepper *)object;
    unsigned long long at[6];
    PyObject *fail, *dtype, *arrays[5];
    Py_ssize_t inputs, outputs, batch_size, n_slots, locked_rows;
    int with_loss;
    double lowest, highest;
    if (!PyArg_ParseTuple(arguments, "(KKKKKK)OO!(O!O!O!O!O!)(nnnnn)pdd", &at[0], &at[1], &at[2], &at[3], &at[4], &at[5],
                          &fail, &PyArrayDescr_Type, &dtype, &PyArray_Type, &arrays[0], &PyArray_Type, &arrays[1], &PyArray_Type,
                          &arrays[2], &PyArray_Type, &arrays[3], &PyArray_Type, &arrays[4], &inputs, &outputs, &batch_size,
                          &n_slots, &locked_rows, &with_loss, &lowest, &highest))
        return NULL;
    if (self->plan != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a stepper is bound once");
        return NULL;
    }
    Py_INCREF(fail);
    Py_INCREF(dtype);
    for (int i = 0; i < 5; i++) Py_INCREF(arrays[i]);
    self->fail = fail;
    self->dtype = dtype;
    self->params = (PyArrayObject *)arrays[0];
    self->slots = (PyArrayObject *)arrays[1];
    self->gradient = (PyArrayObject *)arrays[2];
    self->kept = (PyArrayObject *)arrays[3];
    self->count = (PyArrayObject *)arrays[4];
    self->inputs = inputs;
    self->outputs = outputs;
    self->batch_size = batch_size;
    self->n_slots = n_slots;
    self->locked_rows = locked_rows;
    self->with_loss = with_loss;
    self->lowest = lowest;
    self->highest = highest;
    self->kept_rows = -1;
    self->optimizer = (const pymlp_optimizer *)(uintptr_t)at[1];
    self->forward = (forward_function *)(uintptr_t)at[2];
    self->backward = (backward_function *)(uintptr_t)at[3];
    self->loss_gradient = (loss_gradient_function *)(uintptr_t)at[4];
    self->update = (update_function *)(uintptr_t)at[5];
    /* from here on calls may be direct */
    self->plan = (pymlp_plan *)(uintptr_t)at[0];
    Py_RETURN_NONE;
}

/* _begin(first, coefficients, most_rows): the steps from `first` on have these coefficients; from now on calls of at most
 * so many rows are direct */
static PyObject *begin(PyObject *object, PyObject *arguments) {
    Stepper *self = (Stepper *)object;
    long long first;
    PyObject *coefficients;
    Py_ssize_t most_rows;
    if (!PyArg_ParseTuple(arguments, "LO!n", &first, &PyArray_Type, &coefficients, &most_rows)) return NULL;
    if (!IS_BOUND(self)) return strictly(NULL);
    if (!take(self)) return failed(self, PYMLP_BUSY);
    Py_INCREF(coefficients);
    PyArrayObject *before = self->coefficients;
    self->coefficients = (PyArrayObject *)coefficients;
    self->first = first;
    self->most_rows = most_rows;
    release(self);
    Py_XDECREF((PyObject *)before);
    Py_RETURN_NONE;
}

static PyObject *kept_shape(PyObject *object, void *closure) {
    (void)closure;
    const Stepper *self = (const Stepper *)object;
    if (self->plan == NULL || self->kept_rows < 0) Py_RETURN_NONE;
    if (self->kept_ndim == 1) return Py_BuildValue("(n)", self->outputs);
    return Py_BuildValue("(nn)", self->kept_rows, self->outputs);
}

static void stepper_free(PyObject *object) {
    Stepper *self = (Stepper *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->fail);
    Py_XDECREF(self->dtype);
    PyArrayObject *const arrays[] = {self->params, self->slots, self->gradient, self->kept, self->count, self->coefficients};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) Py_XDECREF((PyObject *)arrays[i]);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS

static PyMethodDef stepper_methods[] = {
    {"forward", FAST(method_forward),
     "forward($self, /, X, out=None)\n--\n\n"
     "Outputs of rows, which are remembered for `step`; see the class."},
    {"predict", FAST(method_predict),
     "predict($self, /, X, out=None)\n--\n\n"
     "Outputs of any number of rows, without dropout, remembering nothing; see the class."},
    {"step", FAST(method_step),
     "step($self, /, output_gradient, X=None)\n--\n\n"
     "One step of the optimizer by a gradient at the outputs; see the class."},
    {"train", FAST(method_train),
     "train($self, /, X, y, weight=None)\n--\n\n"
     "One step of the optimizer by the network's own loss, which is returned; see the class."},
    {"_bind", bind, METH_VARARGS, "Say once what calls work with."},
    {"_begin", begin, METH_VARARGS, "Say what the next steps' coefficients are, and which calls are direct."},
    {"_run_forward", run_forward, METH_VARARGS, "forward or predict, into `out`."},
    {"_run_step", run_step, METH_VARARGS, "step"},
    {"_run_train", run_train, METH_VARARGS, "train"},
    {"_run_update", run_update, METH_O, "A step by a gradient at the parameters."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef stepper_getters[] = {
    {"_kept_shape", kept_shape, NULL, "Shape of the outputs of the last forward, None after a step.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot stepper_slots[] = {
    {Py_tp_dealloc, stepper_free},
    {Py_tp_methods, stepper_methods},
    {Py_tp_getset, stepper_getters},
    {Py_tp_doc, "Calls a plan of the C engine directly where it can, else the methods of its derived class."},
    {0, NULL},
};

static PyType_Spec stepper_spec = {
    .name = "pymlp._call.Stepper",
    .basicsize = sizeof(Stepper),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = stepper_slots,
};

static int intern(PyObject **names, int count, const char *const *texts) {
    for (int i = 0; i < count; i++)
        if ((names[i] = PyUnicode_InternFromString(texts[i])) == NULL) return -1;
    return 0;
}

int pymlp_add_stepper(PyObject *module) {
    if (intern(general_names, 4, (const char *[]){"_forward", "_predict", "_step", "_train"}) < 0 ||
        intern(names_forward, 2, (const char *[]){"X", "out"}) < 0 ||
        intern(names_step, 2, (const char *[]){"output_gradient", "X"}) < 0 ||
        intern(names_train, 3, (const char *[]){"X", "y", "weight"}) < 0)
        return -1;
    static bool forks_are_counted = false;
    if (!forks_are_counted && pthread_atfork(NULL, NULL, count_fork) != 0) {
        PyErr_NoMemory();
        return -1;
    }
    forks_are_counted = true;
    PyObject *type = PyType_FromSpec(&stepper_spec);
    if (type == NULL) return -1;
    const int code = PyModule_AddObjectRef(module, "Stepper", type);
    Py_DECREF(type);
    return code;
}
#else
typedef int pymlp_no_stepper; /* a translation unit must hold something */
#endif
