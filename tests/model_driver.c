/* model_driver.c: reads model files by the engine's public header alone, to be run under sanitizers and valgrind.
 *
 * Standard input holds files one after the other, before each its length as 8 bytes (little-endian).  For each it prints
 * the code that pymlp_model_read gave, and of a model the number of its columns.  The bytes lie in a block of their own
 * size, so that a sanitizer sees what is read behind them; a model is asked for everything that it can tell.
 *
 *     model_driver < cases
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pymlp.h"

/* rows that are predicted */
enum { ROWS = 3 };

/* Reads all of a model's texts and numbers; what they come to, so that nothing is left out. */
static uint64_t looked_through(const pymlp_model *model) {
    uint64_t sum = (uint64_t)pymlp_model_inputs(model) + strlen(pymlp_model_task(model));
    int64_t length, count;
    for (int64_t i = 0; i < pymlp_model_classes(model); i++)
        sum += strlen(pymlp_model_class(model, i, &length)) + (uint64_t)length;
    for (int64_t i = 0; i < pymlp_model_inputs(model); i++) {
        const char *name = pymlp_model_feature(model, i, &length);
        if (name != NULL) sum += strlen(name) + (uint64_t)length;
    }
    const pymlp_layer *layers = pymlp_model_layers(model, &count);
    for (int64_t i = 0; i < count; i++) sum += (uint64_t)layers[i].outputs;
    const unsigned char *params = pymlp_model_params(model, &count);
    for (int64_t i = 0; i < count * pymlp_model_dtype(model) / 8; i++) sum += params[i];
    const pymlp_loss_rule *loss = pymlp_model_loss(model);
    for (int i = 0; i < loss->n_numbers; i++) sum += loss->numbers[i] > 0;
    return sum;
}

static int predict(pymlp_model *model) {
    const size_t bytes = (size_t)pymlp_model_dtype(model) / 8;
    const size_t inputs = (size_t)pymlp_model_inputs(model), columns = (size_t)pymlp_model_columns(model);
    void *X = calloc(ROWS * inputs, bytes), *out = malloc(ROWS * columns * bytes);
    void *gradient = malloc(ROWS * columns * inputs * bytes);
    int code = X == NULL || out == NULL || gradient == NULL ? PYMLP_OUT_OF_MEMORY : PYMLP_OK;
    if (code == PYMLP_OK) code = pymlp_predict(model, X, ROWS, out);
    if (code == PYMLP_OK) code = pymlp_value_and_gradient(model, X, ROWS, out, gradient);
    free(X);
    free(out);
    free(gradient);
    return code;
}

int main(void) {
    unsigned char head[8];
    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        uint64_t size = 0;
        for (int i = 0; i < 8; i++) size |= (uint64_t)head[i] << 8 * i;
        unsigned char *bytes = malloc((size_t)size + (size == 0));
        if (bytes == NULL || fread(bytes, 1, (size_t)size, stdin) != size) return 2;
        /* of each length once, so that a cut message is looked at, too */
        static int64_t message_bytes;
        char *message = malloc((size_t)(message_bytes = (message_bytes + 1) % 300) + 1);
        pymlp_model *model;
        int code = pymlp_model_read(&model, bytes, (int64_t)size, message, message_bytes);
        free(bytes);
        if (code == PYMLP_OK && (looked_through(model) == 0 || predict(model) != PYMLP_OK)) return 3;
        printf("%d %lld\n", code, code == PYMLP_OK ? (long long)pymlp_model_columns(model) : 0);
        pymlp_model_free(model);
        free(message);
    }
    return 0;
}
