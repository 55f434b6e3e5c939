/* estimator.h: what a model file says of an estimator beside its network; see estimator.c. */
#ifndef PYMLP_ESTIMATOR_H
#define PYMLP_ESTIMATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "json.h"
#include "labels.h"
#include "network.h"
#include "reading.h"

enum { IS_CLASSIFIER = 1, IS_REGRESSOR = 2 };

/* what the columns are; TASK_NUMBERS: no classes */
enum { TASK_BINARY, TASK_MULTICLASS, TASK_LABELS, TASK_NUMBERS, N_TASKS };
extern const char *const pymlp_task_names[N_TASKS];

struct pymlp_estimator {
    int task;
    int64_t n_classes;
    struct pymlp_text *classes, *features; /* NULL: none; as many features as inputs */
    /* of the targets in training, one for each output; NULL: not scaled, or folded into the network */
    double *mean, *deviation;
};

/* What the state of an estimator of this kind says, which must be all that its writer could have said; what lasts is kept. */
bool pymlp_take_estimator(struct pymlp_reading *reading, int kind, const struct pymlp_json *state,
                          const struct pymlp_network *network, struct pymlp_estimator *found);

#endif
