/* python_arrays.h: what the files of the module pymlp._call share: Python's and NumPy's headers, and looks at arrays. */
#ifndef PYMLP_PYTHON_ARRAYS_H
#define PYMLP_PYTHON_ARRAYS_H

#define PY_SSIZE_T_CLEAN
#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
/* one table of NumPy's functions for all files; python_call.c fills it */
#define PY_ARRAY_UNIQUE_SYMBOL pymlp_numpy
#ifndef PYMLP_FILLS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <Python.h>
#include <numpy/arrayobject.h>

/* Whether `array` is an array of this type itself, not of a derived class, whose numbers C can take as they lie.  By the
 * type's number: arrays that were pickled have a record of their own for a type that is the same. */
static inline int pymlp_is_plain(PyObject *array, PyObject *dtype, int flags) {
    if (Py_TYPE(array) != &PyArray_Type) return 0;
    PyArrayObject *found = (PyArrayObject *)array;
    return PyArray_TYPE(found) == ((PyArray_Descr *)dtype)->type_num && PyArray_ISNOTSWAPPED(found) &&
           (PyArray_FLAGS(found) & flags) == flags;
}

static inline int pymlp_overlap(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

/* Adds the type `Stepper` to the module (python_stepper.c); -1 with an exception. */
int pymlp_add_stepper(PyObject *module);

#endif
