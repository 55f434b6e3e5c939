/* parameters.h: the parameters of an estimator in a model file; see parameters.c. */
#ifndef PYMLP_PARAMETERS_H
#define PYMLP_PARAMETERS_H

#include <stdbool.h>

#include "json.h"
#include "options.h"
#include "reading.h"

/* Whether all parameters of an estimator (IS_CLASSIFIER or IS_REGRESSOR) are ones that it can have; the loss that they ask
 * for.  of_custom: the network's loss is a function of the user's own, so the parameters say what there is to say of it. */
bool pymlp_take_parameters_of(struct pymlp_reading *reading, int estimator, bool of_custom,
                              const struct pymlp_json *parameters, struct pymlp_described_loss *loss);

#endif
