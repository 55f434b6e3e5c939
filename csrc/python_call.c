/* python_call.c: calling a predictor from Python in the time that a small network takes: the module pymlp._call.  And where
 * a generator of NumPy is, in less than the time of many steps.
 *
 * A call through cffi needs a Python function around it that looks at the arrays, and both together take two to ten times
 * as long as a network of 4-64-64-2.  Here the looking is done in C, on NumPy's own records, so it can be complete for
 * every call; whatever is not exactly as expected goes to the Python method `_general`, which converts or complains.
 * Part of the engine only where setup.py builds it as a module: the rest of csrc knows nothing of Python.
 */
#if defined(PYMLP_PYTHON)
#define PYMLP_FILLS_NUMPY
#include "python_arrays.h"

#include "pymlp.h"

typedef int predict_function(pymlp_predictor *predictor, const void *X, int64_t rows, void *out);
typedef int gradient_function(pymlp_predictor *predictor, const void *X, int64_t rows, void *out, void *jacobian);

typedef struct {
    PyObject_HEAD
    predict_function *predict; /* NULL: every call is general */
    gradient_function *differentiate;
    pymlp_predictor *predictor;
    PyObject *dtype;
    npy_intp width, columns, most_rows, most_gradient_rows;
    int flat;       /* the answer has no axis for columns */
    int keeps_lock; /* the interpreter's lock stays taken: the work is shorter than to return it */
} Caller;

static PyObject *general_name, *out_name, *capsule_name;

/* Whether C can take X as it lies; its dimensions, and its rows. */
static int is_taken(const Caller *self, PyObject *X, int *ndim, npy_intp *rows) {
    if (self->predict == NULL || !pymlp_is_plain(X, self->dtype, NPY_ARRAY_CARRAY_RO)) return 0;
    PyArrayObject *array = (PyArrayObject *)X;
    *ndim = PyArray_NDIM(array);
    if (*ndim < 1 || *ndim > 2 || PyArray_DIM(array, *ndim - 1) != self->width) return 0;
    *rows = *ndim == 2 ? PyArray_DIM(array, 0) : 1;
    return 1;
}

static PyObject *new_array(const Caller *self, int ndim, npy_intp *shape) {
    Py_INCREF(self->dtype);
    return PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)self->dtype, ndim, shape, NULL, NULL, 0, NULL);
}

/* The answer as a new reference; NULL without an exception where the general way is to be taken. */
static PyObject *direct(const Caller *self, PyObject *X, PyObject *out) {
    int ndim;
    npy_intp rows;
    if (!is_taken(self, X, &ndim, &rows) || rows > self->most_rows) return NULL;
    PyArrayObject *from = (PyArrayObject *)X, *to = (PyArrayObject *)out;
    npy_intp shape[2] = {ndim == 2 ? rows : self->columns, self->columns};
    const int out_ndim = ndim - self->flat;
    if (out == NULL) {
        out = new_array(self, out_ndim, shape);
        if (out == NULL) return NULL;
        to = (PyArrayObject *)out;
    } else {
        if (!pymlp_is_plain(out, self->dtype, NPY_ARRAY_CARRAY) || PyArray_NDIM(to) != out_ndim) return NULL;
        for (int i = 0; i < out_ndim; i++)
            if (PyArray_DIM(to, i) != shape[i]) return NULL;
        const size_t bytes = (size_t)PyArray_ITEMSIZE(from) * (size_t)rows;
        if (pymlp_overlap(PyArray_BYTES(from), bytes * (size_t)self->width, PyArray_BYTES(to),
                          bytes * (size_t)self->columns))
            return NULL;
        Py_INCREF(out);
    }
    int code;
    if (self->keeps_lock && rows == 1) {
        code = self->predict(self->predictor, PyArray_DATA(from), 1, PyArray_DATA(to));
    } else {
        Py_BEGIN_ALLOW_THREADS
        code = self->predict(self->predictor, PyArray_DATA(from), rows, PyArray_DATA(to));
        Py_END_ALLOW_THREADS
    }
    if (code == 0) return out;
    /* the general way meets the same code, and says what it means */
    Py_DECREF(out);
    return NULL;
}

static PyObject *caller_call(PyObject *object, PyObject *arguments, PyObject *keywords) {
    const Caller *self = (const Caller *)object;
    const Py_ssize_t count = PyTuple_Size(arguments), named = keywords == NULL ? 0 : PyDict_Size(keywords);
    PyObject *out = NULL;
    if (count == 1 && named == 1)
        out = PyDict_GetItemWithError(keywords, out_name);
    else if (count == 2 && named == 0)
        out = PyTuple_GetItem(arguments, 1);
    if (out == NULL && PyErr_Occurred()) return NULL;
    if (count >= 1 && (out != NULL || count + named == 1)) {
        PyObject *answer = direct(self, PyTuple_GetItem(arguments, 0), out == Py_None ? NULL : out);
        if (answer != NULL || PyErr_Occurred()) return answer;
    }
    PyObject *general = PyObject_GetAttr(object, general_name);
    if (general == NULL) return NULL;
    PyObject *answer = PyObject_Call(general, arguments, keywords);
    Py_DECREF(general);
    return answer;
}

/* _direct_gradient(X): values and gradient; None where the general way is to be taken */
static PyObject *direct_gradient(PyObject *object, PyObject *X) {
    const Caller *self = (const Caller *)object;
    int ndim;
    npy_intp rows;
    if (!is_taken(self, X, &ndim, &rows) || rows > self->most_gradient_rows) Py_RETURN_NONE;
    npy_intp shape[3], values_ndim = 0;
    if (ndim == 2) shape[values_ndim++] = rows;
    if (!self->flat) shape[values_ndim++] = self->columns;
    shape[values_ndim] = self->width;
    PyObject *values = new_array(self, (int)values_ndim, shape);
    PyObject *gradient = values == NULL ? NULL : new_array(self, (int)values_ndim + 1, shape);
    PyObject *both = gradient == NULL ? NULL : PyTuple_Pack(2, values, gradient);
    Py_XDECREF(values);
    Py_XDECREF(gradient);
    if (both == NULL) return NULL;
    void *const from = PyArray_DATA((PyArrayObject *)X), *const out = PyArray_DATA((PyArrayObject *)values);
    void *const jacobian = PyArray_DATA((PyArrayObject *)gradient);
    int code;
    Py_BEGIN_ALLOW_THREADS
    code = self->differentiate(self->predictor, from, rows, out, jacobian);
    Py_END_ALLOW_THREADS
    if (code == 0) return both;
    Py_DECREF(both);
    Py_RETURN_NONE;
}

/* _set_entry(function, predictor, dtype, width, columns, most_rows, flat, keeps_lock, gradient function, most of its rows):
 * addresses as integers */
static PyObject *set_entry(PyObject *object, PyObject *arguments) {
    Caller *self = (Caller *)object;
    unsigned long long function, predictor, differentiate;
    Py_ssize_t width, columns, most_rows, most_gradient_rows;
    int flat, keeps_lock;
    PyObject *dtype;
    if (!PyArg_ParseTuple(arguments, "KKO!nnnppKn", &function, &predictor, &PyArrayDescr_Type, &dtype, &width, &columns,
                          &most_rows, &flat, &keeps_lock, &differentiate, &most_gradient_rows))
        return NULL;
    Py_INCREF(dtype);
    Py_XDECREF(self->dtype);
    self->dtype = dtype;
    self->predict = (predict_function *)(uintptr_t)function;
    self->differentiate = (gradient_function *)(uintptr_t)differentiate;
    self->predictor = (pymlp_predictor *)(uintptr_t)predictor;
    self->width = width;
    self->columns = columns;
    self->most_rows = most_rows;
    self->most_gradient_rows = most_gradient_rows;
    self->flat = flat;
    self->keeps_lock = keeps_lock;
    Py_RETURN_NONE;
}

static void caller_free(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(((Caller *)object)->dtype);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyMethodDef caller_methods[] = {
    {"_set_entry", set_entry, METH_VARARGS, "Say what a call runs: addresses of the function and of the predictor."},
    {"_direct_gradient", direct_gradient, METH_O, "Values and gradient of X; None where this is not the way."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot caller_slots[] = {
    {Py_tp_call, caller_call},
    {Py_tp_dealloc, caller_free},
    {Py_tp_methods, caller_methods},
    {Py_tp_doc, "Calls a predictor of the C engine directly where it can, else the method _general."},
    {0, NULL},
};

static PyType_Spec caller_spec = {
    .name = "pymlp._call.Caller",
    .basicsize = sizeof(Caller),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = caller_slots,
};

/* The attribute `ctypes` of a generator says the same, but takes as long to be made as three steps of a small network. */
static PyObject *generator_addresses(PyObject *module, PyObject *generator) {
    (void)module;
    PyObject *capsule = PyObject_GetAttr(generator, capsule_name);
    if (capsule == NULL) return NULL;
    /* bitgen_t of NumPy's public interface, which begins with the state; the capsule is the generator's own */
    void **source = PyCapsule_GetPointer(capsule, "BitGenerator");
    Py_DECREF(capsule);
    if (source == NULL) return NULL;
    return Py_BuildValue("KK", (unsigned long long)(uintptr_t)source, (unsigned long long)(uintptr_t)*source);
}

static PyMethodDef module_methods[] = {
    {"generator_addresses", generator_addresses, METH_O,
     "Where a bit generator of NumPy's is as C calls it, and where its state, as long as it lives."},
    {NULL, NULL, 0, NULL},
};

static int fill_module(PyObject *module) {
    if (PyArray_ImportNumPyAPI() < 0) return -1;
    general_name = PyUnicode_InternFromString("_general");
    out_name = PyUnicode_InternFromString("out");
    capsule_name = PyUnicode_InternFromString("capsule");
    const int named = general_name != NULL && out_name != NULL && capsule_name != NULL;
    PyObject *type = named ? PyType_FromSpec(&caller_spec) : NULL;
    if (type == NULL) return -1;
    int code = PyModule_AddObjectRef(module, "Caller", type);
    Py_DECREF(type);
    return code < 0 ? code : pymlp_add_stepper(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, fill_module},
#if defined(Py_GIL_DISABLED)
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pymlp._call",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__call(void) { return PyModuleDef_Init(&module); }
#else
typedef int pymlp_no_python; /* a translation unit must hold something */
#endif
