/* functions.h: the registries' rows on the C side: layer kinds, activations, losses, optimizers.
 *
 * A row here goes with a row in pymlp/functions.py or pymlp/optimizers.py and with the functions of its name in
 * functions.inc.h (layer kinds: in the file of the kind).  Numbers follow the order here and never leave the process:
 * Python asks for them by name.
 */
#ifndef PYMLP_FUNCTIONS_H
#define PYMLP_FUNCTIONS_H

/* how the slope of an activation is found: from the stored output, from the stored pre-activation, or (softmax) not
 * element by element at all */
enum { SLOPE_FROM_OUTPUT, SLOPE_FROM_INPUT, ROW_WISE };

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
#define ACTIVATION_ROWS(ROW) \
    ELEMENT_WISE_ROWS(ROW)   \
    ROW(softmax, ROW_WISE)

/* ROW(name): activations so cheap that a product applies them, or multiplies by their slope, which is taken from the
 * output, while its sums are in registers */
#define FUSED_ROWS(ROW) ROW(relu)

/* ROW(name, output activation) */
#define LOSS_ROWS(ROW)              \
    ROW(squared_error, identity)    \
    ROW(log_loss, softmax)          \
    ROW(binary_log_loss, logistic)  \
    ROW(poisson, exp)

/* ROW(name, number of slots) */
#define OPTIMIZER_ROWS(ROW) \
    ROW(sgd, 1)             \
    ROW(adam, 2)            \
    ROW(adamw, 2)

/* ROW(name) */
#define LAYER_KIND_ROWS(ROW) ROW(dense)

enum { MOST_SLOTS = 2 };

#define ENUM_ACTIVATION(name, slope) ACTIVATION_##name,
#define ENUM_FUSED(name) TILE_VALUE_##name, TILE_SLOPE_##name,
#define ENUM_LOSS(name, output) LOSS_##name,
#define ENUM_OPTIMIZER(name, slots) OPTIMIZER_##name,
#define ENUM_LAYER_KIND(name) KIND_##name,
enum { ACTIVATION_ROWS(ENUM_ACTIVATION) N_ACTIVATIONS };
/* what a product's tiles do with their sums */
enum { TILE_PLAIN, FUSED_ROWS(ENUM_FUSED) N_TILE_KINDS };
enum { LOSS_ROWS(ENUM_LOSS) N_LOSSES };
enum { OPTIMIZER_ROWS(ENUM_OPTIMIZER) N_OPTIMIZERS };
enum { LAYER_KIND_ROWS(ENUM_LAYER_KIND) N_LAYER_KINDS };

struct activation_row { const char *name; int slope; };
struct loss_row { const char *name; int output_activation; };
struct optimizer_row { const char *name; int n_slots; };

extern const struct activation_row pymlp_activation_rows[N_ACTIVATIONS];
/* by activation: the kind of tile that applies it, TILE_PLAIN (0) if there is none; the next kind takes its slope */
extern const int pymlp_value_tiles[N_ACTIVATIONS];
extern const struct loss_row pymlp_loss_rows[N_LOSSES];
extern const struct optimizer_row pymlp_optimizer_rows[N_OPTIMIZERS];

#endif
