/* functions.h: the registries' rows on the C side: layer kinds, activations, losses, optimizers.
 *
 * A row here goes with a row in pymlp/functions.py or pymlp/optimizers.py and with the functions of its name in
 * functions.inc.h (layer kinds: in the file of the kind).  Numbers follow the order here and never leave the process:
 * Python asks for them by name.
 */
#ifndef PYMLP_FUNCTIONS_H
#define PYMLP_FUNCTIONS_H

/* how the slope of an activation is found: from the stored output, from the stored pre-activation, or not element by
 * element at all, but over the columns of a row, from their outputs or their pre-activations */
enum { SLOPE_FROM_OUTPUT, SLOPE_FROM_INPUT, ROW_WISE, ROW_WISE_FROM_INPUT };

/* ROW(name, slope) */
#define ELEMENT_WISE_ROWS(ROW)         \
    ROW(identity, SLOPE_FROM_OUTPUT)   \
    ROW(logistic, SLOPE_FROM_OUTPUT)   \
    ROW(tanh, SLOPE_FROM_OUTPUT)       \
    ROW(relu, SLOPE_FROM_OUTPUT)       \
    ROW(leaky_relu, SLOPE_FROM_OUTPUT) \
    ROW(elu, SLOPE_FROM_OUTPUT)        \
    ROW(selu, SLOPE_FROM_OUTPUT)       \
    ROW(gelu, SLOPE_FROM_INPUT)        \
    ROW(silu, SLOPE_FROM_INPUT)        \
    ROW(mish, SLOPE_FROM_INPUT)        \
    ROW(softplus, SLOPE_FROM_OUTPUT)   \
    ROW(cosine, SLOPE_FROM_INPUT)      \
    ROW(square, SLOPE_FROM_INPUT)      \
    ROW(exp, SLOPE_FROM_OUTPUT)
#define ACTIVATION_ROWS(ROW)            \
    ELEMENT_WISE_ROWS(ROW)              \
    ROW(softmax, ROW_WISE)              \
    ROW(ascending, ROW_WISE_FROM_INPUT) \
    ROW(mean_deviation, ROW_WISE_FROM_INPUT)

/* ROW(name): activations so cheap that a product applies them, or multiplies by their slope, which is taken from the
 * output, while its sums are in registers */
#define FUSED_ROWS(ROW) ROW(relu)

/* by what a loss's delta function gives the gradient: the scores before the output activation, the outputs, or the
 * logarithms of softmax's outputs */
enum { DELTA_BY_SCORE, DELTA_BY_OUTPUT, DELTA_BY_LOGARITHM };
/* numbers of a loss: so many, or one for each output of a target */
enum { NUMBER_A_LEVEL = -1 };
/* an output activation that is the network's choice */
enum { ACTIVATION_any = -1 };

/* ROW(name, output activation, numbers, kind of delta): losses with a term for each output */
#define TERM_LOSS_ROWS(ROW)                                   \
    ROW(squared_error, identity, 0, DELTA_BY_SCORE)           \
    ROW(absolute_error, identity, 0, DELTA_BY_SCORE)          \
    ROW(huber, identity, 1, DELTA_BY_SCORE)                   \
    ROW(quantile, ascending, NUMBER_A_LEVEL, DELTA_BY_OUTPUT) \
    ROW(log_loss, softmax, 1, DELTA_BY_SCORE)                 \
    ROW(binary_log_loss, logistic, 1, DELTA_BY_SCORE)         \
    ROW(focal, softmax, 1, DELTA_BY_LOGARITHM)                \
    ROW(binary_focal, logistic, 1, DELTA_BY_SCORE)            \
    ROW(hinge, identity, 0, DELTA_BY_SCORE)                   \
    ROW(perceptron, identity, 0, DELTA_BY_SCORE)              \
    ROW(squared_hinge, identity, 0, DELTA_BY_SCORE)           \
    ROW(poisson, exp, 0, DELTA_BY_SCORE)                      \
    ROW(gamma, exp, 0, DELTA_BY_SCORE)                        \
    ROW(tweedie, exp, 1, DELTA_BY_SCORE)
/* and those of several outputs at once; "custom" is computed by Python, between forward and backward */
#define LOSS_ROWS(ROW)                                        \
    TERM_LOSS_ROWS(ROW)                                       \
    ROW(gaussian_nll, mean_deviation, 0, DELTA_BY_OUTPUT)     \
    ROW(compiled, any, 0, DELTA_BY_OUTPUT)                    \
    ROW(custom, any, 0, DELTA_BY_OUTPUT)

/* ROW(name, number of slots): optimizers whose update is woven into products, and all; an average of the parameters is one
 * more slot */
#define WOVEN_OPTIMIZER_ROWS(ROW) \
    ROW(sgd, 1)                   \
    ROW(adam, 2)                  \
    ROW(adamw, 2)
#define OPTIMIZER_ROWS(ROW)       \
    WOVEN_OPTIMIZER_ROWS(ROW)     \
    ROW(nadam, 2)                 \
    ROW(rmsprop, 2)               \
    ROW(lion, 1)                  \
    ROW(rprop, 2)

/* what a layer kind is:
 *   ACTIVATES      the row's activation is applied to what the kind computes
 *   KEEPS_VALUE    something as large as its outputs is kept for the way back, where pre-activations would be
 *   TAKES_SECOND   it reads two buffers
 *   TRAINS_ONLY    left out in inference
 *   ANY_COLUMNS    a column of the outputs can be had without the others, from all inputs
 *   SAME_COLUMNS   from the same column of the inputs
 *   STANDS_IN      no table has it: it serves another kind's rows in some calls
 */
enum {
    ACTIVATES = 1,
    KEEPS_VALUE = 2,
    TAKES_SECOND = 4,
    TRAINS_ONLY = 8,
    ANY_COLUMNS = 16,
    SAME_COLUMNS = 32,
    STANDS_IN = 64
};

/* ROW(name, has a matrix (inputs, outputs), vectors (outputs) of parameters after it, scalars kept of each row, what it is,
 * its function for the parameters' gradient, and that for a single row in inference) */
#define LAYER_KIND_ROWS(ROW)                                                                \
    ROW(dense, 1, 1, 0, ACTIVATES | ANY_COLUMNS, dense_gradient, dense_row)                 \
    ROW(sparse_dense, 1, 1, 0, ACTIVATES | STANDS_IN, sparse_dense_gradient, any_row)       \
    ROW(layer_norm, 0, 2, 2, ACTIVATES, layer_norm_gradient, any_row)                       \
    ROW(parametric, 0, 1, 0, KEEPS_VALUE | SAME_COLUMNS, parametric_gradient, any_row)      \
    ROW(dropout, 0, 0, 0, TRAINS_ONLY | SAME_COLUMNS, no_gradient, any_row)                 \
    ROW(add, 0, 0, 0, TAKES_SECOND | SAME_COLUMNS, no_gradient, any_row)

enum { MOST_SLOTS = 3 };

#define ENUM_ACTIVATION(name, slope) ACTIVATION_##name,
#define ENUM_FUSED(name) TILE_VALUE_##name, TILE_SLOPE_##name,
#define ENUM_LOSS(name, output, numbers, delta) LOSS_##name,
#define ENUM_OPTIMIZER(name, slots) OPTIMIZER_##name,
#define ENUM_LAYER_KIND(name, matrix, vectors, scalars, nature, gradient, row) KIND_##name,
enum { ACTIVATION_ROWS(ENUM_ACTIVATION) N_ACTIVATIONS };
/* what a product's tiles do with their sums */
enum { TILE_PLAIN, FUSED_ROWS(ENUM_FUSED) N_TILE_KINDS };
enum { LOSS_ROWS(ENUM_LOSS) N_LOSSES };
enum { OPTIMIZER_ROWS(ENUM_OPTIMIZER) N_OPTIMIZERS };
enum { LAYER_KIND_ROWS(ENUM_LAYER_KIND) N_LAYER_KINDS };

struct activation_row { const char *name; int slope; };
struct loss_row { const char *name; int output_activation, n_numbers, delta; };
struct optimizer_row { const char *name; int n_slots; };
struct layer_kind_row { const char *name; int matrix, vectors, scalars, nature; };

extern const struct activation_row pymlp_activation_rows[N_ACTIVATIONS];
/* by activation: the kind of tile that applies it, TILE_PLAIN (0) if there is none; the next kind takes its slope */
extern const int pymlp_value_tiles[N_ACTIVATIONS];
extern const struct loss_row pymlp_loss_rows[N_LOSSES];
extern const struct optimizer_row pymlp_optimizer_rows[N_OPTIMIZERS];
extern const struct layer_kind_row pymlp_layer_kind_rows[N_LAYER_KINDS];

#endif
