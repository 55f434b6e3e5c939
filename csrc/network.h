/* network.h: the description of a network in a model file, and the table of rows that it becomes; see network.c. */
#ifndef PYMLP_NETWORK_H
#define PYMLP_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

#include "container.h"
#include "json.h"
#include "options.h"
#include "pymlp.h"
#include "reading.h"

/* One layer as a user says it (pymlp/layers.py, Dense). */
struct pymlp_dense {
    int64_t outputs; /* INT64_MAX: as many, or more */
    int activation;
    bool normalised, residual, parametric;
    double dropout, max_norm; /* 0: none */
};

struct pymlp_network {
    int64_t inputs, outputs, n_parameters;
    int dtype; /* 32 or 64 */
    double l1, l2;
    uint64_t seed;
    struct pymlp_described_loss loss;
    pymlp_layer *rows;
    int64_t *layer_of_row; /* number of the layer that a row belongs to, -1: of what comes before the first */
    int64_t n_rows;
};

/* What describes a layer; false with a complaint. */
bool pymlp_take_dense(struct pymlp_reading *reading, const char *where, const struct pymlp_json *description,
                      struct pymlp_dense *found);
/* The network that the description in a file of so many arrays describes, whose rows and numbers are kept. */
bool pymlp_take_network(struct pymlp_reading *reading, const struct pymlp_json *description, int64_t n_arrays,
                        struct pymlp_network *found);
/* Its flat vector of parameters, kept, from the container's arrays, which must be those of the network and lists of the
 * state: these are marked in `is_list`, one for each entry.  NULL with a complaint. */
void *pymlp_take_parameters(struct pymlp_reading *reading, const struct pymlp_network *network,
                            const struct pymlp_container *container, bool *is_list);

#endif
