/* network.c: a network as a model file describes it, checked as pymlp/network.py checks it, and its parameters.
 *
 * A description may come from anywhere and ask for any size: widths are counted where they cannot overflow, and nothing is
 * allocated for parameters before the file is known to hold them.
 */
#include "network.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "functions.h"

/* most parameters, and inputs: 2**47, what the engine counts to */
#define MOST_PARAMETERS ((int64_t)1 << 47)
/* what is added to a row's variance before its root is taken (pymlp/layers.py) */
#define NORM_EPSILON 1e-5
/* rows that a layer becomes at most */
enum { MOST_ROWS_OF_LAYER = 5 };

static const struct pymlp_interval share = {0, 1, false, true}, penalty = {0, __builtin_inf(), false, true},
                                   above_0 = {0, __builtin_inf(), true, true};

/* names of the arrays of a row, by its kind: the matrix and the vectors */
static const char *const part_names[N_LAYER_KINDS][3] = {
    [KIND_dense] = {"weight", "bias"}, [KIND_layer_norm] = {"gain", "shift"}, [KIND_parametric] = {"mixture"}};

/* --- layers ------------------------------------------------------------------------------------------------------- */

/* A number in an interval, where there is one. */
static bool take_number(struct pymlp_reading *reading, const char *where, const struct pymlp_json *object,
                        const char *name, struct pymlp_interval interval, double *found) {
    char shown[SHOWN_BYTES];
    const struct pymlp_json *value = pymlp_member(object, name);
    if (value == NULL) return true;
    if (!pymlp_is_in(value, interval))
        return pymlp_complain(reading, "%s: %s cannot be %s", where, name, pymlp_shown(value, shown));
    *found = value->number;
    return true;
}

static bool take_boolean(struct pymlp_reading *reading, const char *where, const struct pymlp_json *object,
                         const char *name, bool *found) {
    char shown[SHOWN_BYTES];
    const struct pymlp_json *value = pymlp_member(object, name);
    if (value == NULL) return true;
    if (!pymlp_is_boolean(value))
        return pymlp_complain(reading, "%s: %s must be true or false, got %s", where, name, pymlp_shown(value, shown));
    *found = value->kind == JSON_TRUE;
    return true;
}

/* An integer of at least 1; one of more than 64 bits counts as the largest of them. */
static bool take_width(struct pymlp_reading *reading, const char *where, const struct pymlp_json *object,
                       const char *name, int64_t *found) {
    char shown[SHOWN_BYTES];
    const struct pymlp_json *value = pymlp_member(object, name);
    if (value == NULL || value->kind != JSON_INTEGER || value->number < 1)
        return pymlp_complain(reading, "%s: %s must be an integer of at least 1, got %s", where, name,
                              pymlp_shown(value, shown));
    if (!pymlp_integer_of(value, found)) *found = INT64_MAX;
    return true;
}

bool pymlp_take_dense(struct pymlp_reading *reading, const char *where, const struct pymlp_json *description,
                      struct pymlp_dense *found) {
    static const char *const keys[] = {"outputs",  "activation", "dropout",    "normalization",
                                       "residual", "max_norm",   "parametric", NULL};
    char shown[SHOWN_BYTES];
    *found = (struct pymlp_dense){.activation = ACTIVATION_relu};
    if (description->kind != JSON_OBJECT)
        return pymlp_complain(reading, "%s must be an object, found %s", where, pymlp_shown(description, shown));
    if (!pymlp_has_only(reading, where, description, keys)) return false;
    if (!take_width(reading, where, description, "outputs", &found->outputs)) return false;
    const struct pymlp_json *activation = pymlp_member(description, "activation");
    if (activation != NULL) found->activation = pymlp_activation_of(activation);
    if (found->activation < 0)
        return pymlp_complain(reading, "%s: activation=%s is unknown", where, pymlp_shown(activation, shown));
    const struct pymlp_json *norm = pymlp_member(description, "normalization");
    found->normalised = norm != NULL && norm->kind != JSON_NULL;
    if (found->normalised && !pymlp_is_text(norm, "layer"))
        return pymlp_complain(reading, "%s: normalization=%s is unknown", where, pymlp_shown(norm, shown));
    const struct pymlp_json *largest = pymlp_member(description, "max_norm");
    const bool is_limited = largest != NULL && largest->kind != JSON_NULL;
    return take_number(reading, where, description, "dropout", share, &found->dropout) &&
           (!is_limited || take_number(reading, where, description, "max_norm", above_0, &found->max_norm)) &&
           take_boolean(reading, where, description, "residual", &found->residual) &&
           take_boolean(reading, where, description, "parametric", &found->parametric);
}

/* Adds a row, and its parameters to the network's; false where there are more than can be counted. */
static bool add_row(struct pymlp_network *network, int64_t layer, pymlp_layer row) {
    const struct layer_kind_row *kind = &pymlp_layer_kind_rows[row.kind];
    row.inputs = network->outputs;
    row.source = (int32_t)network->n_rows;
    int64_t count;
    if (row.inputs > MOST_PARAMETERS || row.outputs > MOST_PARAMETERS ||
        __builtin_mul_overflow(kind->matrix ? row.inputs + kind->vectors : kind->vectors, row.outputs, &count) ||
        count > MOST_PARAMETERS - network->n_parameters)
        return false;
    network->n_parameters += count;
    network->layer_of_row[network->n_rows] = layer;
    network->rows[network->n_rows++] = row;
    network->outputs = row.outputs;
    return true;
}

/* The rows of a layer: the product, and what comes with it, in the order of computation. */
static bool add_layer(struct pymlp_network *network, int64_t number, const struct pymlp_dense *layer) {
    const int32_t first = (int32_t)network->n_rows;
    const int32_t plain = ACTIVATION_identity, activation = layer->activation;
    const int64_t outputs = layer->outputs;
    const bool bare = !layer->normalised && !layer->parametric;
    return add_row(network, number, (pymlp_layer){.kind = KIND_dense, .activation = bare ? activation : plain,
                                                  .outputs = outputs, .second = -1, .max_norm = layer->max_norm}) &&
           (!layer->normalised ||
            add_row(network, number, (pymlp_layer){.kind = KIND_layer_norm,
                                                   .activation = layer->parametric ? plain : activation,
                                                   .outputs = outputs, .second = -1, .setting = NORM_EPSILON})) &&
           (!layer->parametric ||
            add_row(network, number, (pymlp_layer){.kind = KIND_parametric, .activation = activation,
                                                   .outputs = outputs, .second = -1})) &&
           (layer->dropout == 0 ||
            add_row(network, number, (pymlp_layer){.kind = KIND_dropout, .activation = plain, .outputs = outputs,
                                                   .second = -1, .setting = layer->dropout})) &&
           (!layer->residual ||
            add_row(network, number, (pymlp_layer){.kind = KIND_add, .activation = plain, .outputs = outputs,
                                                   .second = first}));
}

static bool take_layers(struct pymlp_reading *reading, const char *where, const struct pymlp_json *layers,
                        double input_dropout, struct pymlp_network *found) {
    found->rows = pymlp_kept(reading, MOST_ROWS_OF_LAYER * layers->count + 1, sizeof *found->rows);
    found->layer_of_row = pymlp_scrap(reading, MOST_ROWS_OF_LAYER * layers->count + 1, sizeof *found->layer_of_row);
    if (found->rows == NULL || found->layer_of_row == NULL) return false;
    bool fits = true;
    found->outputs = found->inputs;
    if (input_dropout != 0)
        fits = add_row(found, -1, (pymlp_layer){.kind = KIND_dropout, .activation = ACTIVATION_identity,
                                                .outputs = found->inputs, .second = -1, .setting = input_dropout});
    int64_t number = 0;
    for (const struct pymlp_json *item = layers->first; item != NULL && fits; item = item->next, number++) {
        char name[60];
        struct pymlp_dense layer;
        snprintf(name, sizeof name, "%s: layers[%lld]", where, (long long)number);
        if (!pymlp_take_dense(reading, name, item, &layer)) return false;
        const bool last = item->next == NULL;
        if (last && layer.activation != found->loss.output_activation)
            return pymlp_complain(reading, "%s: the loss is defined over the output activation %s, not over %s", name,
                                  pymlp_activation_rows[found->loss.output_activation].name,
                                  pymlp_activation_rows[layer.activation].name);
        if (last && (layer.dropout != 0 || layer.normalised || layer.residual || layer.parametric))
            return pymlp_complain(reading, "%s: the output layer can have a max_norm and nothing else", name);
        if (!last && !pymlp_is_hidden_activation(layer.activation))
            return pymlp_complain(reading, "%s: %s serves as output activation only", name,
                                  pymlp_activation_rows[layer.activation].name);
        if (layer.residual && layer.outputs != found->outputs)
            return pymlp_complain(reading, "%s: residual=true needs as many outputs as inputs, got %lld and %lld", name,
                                  (long long)layer.outputs, (long long)found->outputs);
        fits = add_layer(found, number, &layer);
    }
    if (!fits) return pymlp_complain(reading, "%s: its layers have more than 2**47 parameters", where);
    return found->outputs % found->loss.group == 0 ||
           pymlp_complain(reading, "%s: the loss has %d outputs for each target, but there are %lld", where,
                          found->loss.group, (long long)found->outputs);
}

/* --- the network -------------------------------------------------------------------------------------------------- */

static bool take_seed(struct pymlp_reading *reading, const char *where, const struct pymlp_json *value, uint64_t *found) {
    /* Python takes a truth value for a number */
    if (value == NULL || pymlp_is_boolean(value)) {
        *found = value != NULL && value->kind == JSON_TRUE;
        return true;
    }
    char shown[SHOWN_BYTES];
    static const struct pymlp_json largest = {.kind = JSON_INTEGER, .text = "18446744073709551615", .length = 20};
    if (value->kind != JSON_INTEGER || value->number < 0 || pymlp_compare_numbers(value, &largest) > 0)
        return pymlp_complain(reading, "%s: seed must be an integer of 64 bits, at least 0, got %s", where,
                              pymlp_shown(value, shown));
    *found = 0;
    for (int64_t i = 0; i < value->length; i++)
        if (value->text[i] != '-') *found = 10 * *found + (uint64_t)(value->text[i] - '0');
    return true;
}

bool pymlp_take_network(struct pymlp_reading *reading, const struct pymlp_json *description, int64_t n_arrays,
                        struct pymlp_network *found) {
    static const char where[] = "__metadata__['network']";
    static const char *const keys[] = {"inputs", "layers", "loss", "dtype", "l1", "l2", "input_dropout", "seed", NULL};
    char shown[SHOWN_BYTES];
    *found = (struct pymlp_network){.dtype = 32};
    if (!pymlp_has_only(reading, where, description, keys)) return false;
    const struct pymlp_json *layers = pymlp_member(description, "layers");
    if (layers == NULL || layers->kind != JSON_LIST || layers->count == 0)
        return pymlp_complain(reading, "%s: layers must be a list of at least one, got %s", where,
                              pymlp_shown(layers, shown));
    /* of each a weight and a bias, before there is memory for them */
    if (2 * layers->count > n_arrays)
        return pymlp_complain(reading, "its %lld tensors are too few for %lld layers", (long long)n_arrays,
                              (long long)layers->count);
    const struct pymlp_json *dtype = pymlp_member(description, "dtype");
    if (pymlp_is_text(dtype, "float64"))
        found->dtype = 64;
    else if (dtype != NULL && !pymlp_is_text(dtype, "float32"))
        return pymlp_complain(reading, "%s: dtype=%s is not one of float32, float64", where, pymlp_shown(dtype, shown));
    const struct pymlp_json *loss = pymlp_member(description, "loss");
    found->loss = pymlp_loss_by_name(LOSS_squared_error);
    if (loss != NULL && !pymlp_take_loss(reading, where, loss, &found->loss)) return false;
    double input_dropout = 0;
    return take_width(reading, where, description, "inputs", &found->inputs) &&
           take_number(reading, where, description, "l1", penalty, &found->l1) &&
           take_number(reading, where, description, "l2", penalty, &found->l2) &&
           take_number(reading, where, description, "input_dropout", share, &input_dropout) &&
           take_seed(reading, where, pymlp_member(description, "seed"), &found->seed) &&
           take_layers(reading, where, layers, input_dropout, found);
}

/* --- parameters --------------------------------------------------------------------------------------------------- */

static bool is_of_state(const struct pymlp_entry *entry) {
    return entry->name_length >= 6 && memcmp(entry->name, "state.", 6) == 0;
}

/* Numbers of a file, which are little-endian, as this machine has them. */
static void copy_numbers(int bytes, int64_t count, const uint8_t *from, void *to) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    uint8_t *at = to;
    for (int64_t i = 0; i < count; i++)
        for (int j = 0; j < bytes; j++) at[i * bytes + j] = from[i * bytes + bytes - 1 - j];
#else
    memcpy(to, from, (size_t)(count * bytes));
#endif
}

/* Place of the first number that is not finite; -1: there is none. */
static int64_t first_odd_number(int dtype, const void *numbers, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (dtype == 32 ? !isfinite(((const float *)numbers)[i]) : !isfinite(((const double *)numbers)[i])) return i;
    return -1;
}

/* The array of one part of a row, into its place in the flat vector. */
static bool take_part(struct pymlp_reading *reading, const struct pymlp_network *network,
                      const struct pymlp_container *container, const char *name, int64_t rows, int64_t columns,
                      char *taken, char *to) {
    const int64_t count = (rows > 0 ? rows : 1) * columns;
    const int n_dimensions = rows > 0 ? 2 : 1, bytes = network->dtype / 8;
    const int64_t length = (int64_t)strlen(name);
    int64_t i = 0;
    for (; i < container->n_entries; i++)
        if (container->entries[i].name_length == length && memcmp(container->entries[i].name, name, (size_t)length) == 0)
            break;
    if (i == container->n_entries) return pymlp_complain(reading, "the header has no '%s'", name);
    const struct pymlp_entry *entry = &container->entries[i];
    if (entry->type != (network->dtype == 32 ? TYPE_F32 : TYPE_F64))
        return pymlp_complain(reading, "%s: dtype must be 'F%d'", name, network->dtype);
    if (entry->n_dimensions != n_dimensions || entry->shape[n_dimensions - 1] != columns ||
        (rows > 0 && entry->shape[0] != rows))
        return pymlp_complain(reading, rows > 0 ? "%s: shape must be [%lld, %lld]" : "%s: shape must be [%lld]", name,
                              (long long)(rows > 0 ? rows : columns), (long long)columns);
    taken[i] = 1;
    if (to == NULL) return true;
    copy_numbers(bytes, count, container->data + entry->start, to);
    const int64_t odd = first_odd_number(network->dtype, to, count);
    if (odd < 0) return true;
    return pymlp_complain(reading, rows > 0 ? "%s[%lld, %lld] is not a finite number" : "%s[%lld] is not a finite number",
                          name, (long long)(rows > 0 ? odd / columns : odd), (long long)(odd % columns));
}

/* All parts, into the flat vector, or where that is NULL to see whether they are there. */
static bool take_parts(struct pymlp_reading *reading, const struct pymlp_network *network,
                       const struct pymlp_container *container, char *taken, char *params) {
    for (int64_t r = 0; r < network->n_rows; r++) {
        const pymlp_layer *row = &network->rows[r];
        const struct layer_kind_row *kind = &pymlp_layer_kind_rows[row->kind];
        for (int part = 0; part < kind->matrix + kind->vectors; part++) {
            char name[60];
            const int64_t rows = part < kind->matrix ? row->inputs : 0;
            snprintf(name, sizeof name, "layers.%lld.%s", (long long)network->layer_of_row[r],
                     part_names[row->kind][part]);
            if (!take_part(reading, network, container, name, rows, row->outputs, taken, params)) return false;
            if (params != NULL) params += (rows > 0 ? rows : 1) * row->outputs * (network->dtype / 8);
        }
    }
    return true;
}

void *pymlp_take_parameters(struct pymlp_reading *reading, const struct pymlp_network *network,
                            const struct pymlp_container *container, bool *is_list) {
    char *taken = pymlp_scrap(reading, container->n_entries, sizeof *taken), shown[SHOWN_BYTES];
    if (taken == NULL || !take_parts(reading, network, container, taken, NULL)) return NULL;
    for (int64_t i = 0; i < container->n_entries; i++) {
        const struct pymlp_entry *entry = &container->entries[i];
        is_list[i] = is_of_state(entry);
        if (taken[i] || is_list[i]) continue;
        pymlp_complain(reading, "the network has no tensor %s", pymlp_shown_text(entry->name, entry->name_length, shown));
        return NULL;
    }
    /* the file holds as many numbers */
    char *params = pymlp_kept(reading, network->n_parameters, (size_t)network->dtype / 8);
    if (params == NULL || !take_parts(reading, network, container, taken, params)) return NULL;
    return params;
}
