/* predict.c: what a model file says of rows of numbers, without Python.
 *
 *     predict MODEL < rows
 *
 * Each line of the input is a row: as many numbers as the model has inputs.  Each line of the output is what the model
 * says of it: its columns, and for classes the label that is predicted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pymlp.h"

static double number_of(const pymlp_model *model, const void *numbers, int64_t place) {
    return pymlp_model_dtype(model) == 32 ? (double)((const float *)numbers)[place] : ((const double *)numbers)[place];
}

/* Reads one row into X; 0 at the end of the input. */
static int read_row(const pymlp_model *model, void *X) {
    for (int64_t i = 0; i < pymlp_model_inputs(model); i++) {
        double number;
        if (scanf("%lf", &number) != 1) return 0;
        if (pymlp_model_dtype(model) == 32)
            ((float *)X)[i] = (float)number;
        else
            ((double *)X)[i] = number;
    }
    return 1;
}

/* Prints the label that is predicted; of labels that exclude nothing, each that is. */
static void print_labels(const pymlp_model *model, const void *out) {
    const int64_t columns = pymlp_model_columns(model), classes = pymlp_model_classes(model);
    const double threshold = pymlp_model_threshold(model);
    if (strcmp(pymlp_model_task(model), "multilabel-indicator") == 0) {
        for (int64_t i = 0; i < classes; i++)
            if (number_of(model, out, columns - classes + i) > threshold)
                printf(" %s", pymlp_model_class(model, i, NULL));
    } else if (strcmp(pymlp_model_task(model), "binary") == 0) {
        /* the last column speaks for the second class, if there is one */
        const int64_t second = classes > 1 && number_of(model, out, columns - 1) > threshold;
        printf(" %s", pymlp_model_class(model, second, NULL));
    } else if (classes > 0) {
        int64_t best = 0;
        for (int64_t i = 1; i < columns; i++)
            if (number_of(model, out, i) > number_of(model, out, best)) best = i;
        printf(" %s", pymlp_model_class(model, best, NULL));
    }
}

int main(int count, char **arguments) {
    pymlp_model *model;
    char message[500];
    if (count != 2) {
        fprintf(stderr, "usage: predict MODEL < rows\n");
        return 2;
    }
    if (pymlp_model_load(&model, arguments[1], message, sizeof message) != PYMLP_OK) {
        fprintf(stderr, "%s\n", message);
        return 1;
    }
    const int64_t inputs = pymlp_model_inputs(model), columns = pymlp_model_columns(model);
    void *X = calloc((size_t)inputs, sizeof(double)), *out = calloc((size_t)columns, sizeof(double));
    int code = X == NULL || out == NULL ? PYMLP_OUT_OF_MEMORY : PYMLP_OK;
    while (code == PYMLP_OK && read_row(model, X)) {
        code = pymlp_predict(model, X, 1, out);
        for (int64_t i = 0; code == PYMLP_OK && i < columns; i++)
            printf("%s%.17g", i > 0 ? " " : "", number_of(model, out, i));
        if (code == PYMLP_OK) print_labels(model, out);
        printf("\n");
    }
    if (code != PYMLP_OK) fprintf(stderr, "%s\n", pymlp_error_text(code));
    free(X);
    free(out);
    pymlp_model_free(model);
    return code != PYMLP_OK;
}
