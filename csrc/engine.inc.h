/* engine.inc.h: the engine for one instruction set and one REAL: its parts in order, and the table that offers them. */
#include "vector.inc.h"
#include "cosine.inc.h"
#include "functions.inc.h"
#include "update.inc.h"
#include "kernels.inc.h"
#include "strip.inc.h"
#include "dense.inc.h"
#include "sparse.inc.h"
#include "norm.inc.h"
#include "parametric.inc.h"
#include "dropout.inc.h"
#include "add.inc.h"
#include "kinds.inc.h"
#include "max_norm.inc.h"
#include "head.inc.h"
#include "predict.inc.h"
#include "step.inc.h"
#include "jacobian.inc.h"
#include "measure.inc.h"

static const struct operations NAME(operations) = {
    .panel = PANEL,
    .lanes = LANES,
    .real_bytes = sizeof(REAL),
    .forward = NAME(forward),
    .backward = NAME(backward),
    .loss_gradient = NAME(loss_gradient),
    .update = NAME(update),
    .train_steps = NAME(train_steps),
    .pack = NAME(pack),
    .predict = NAME(predict),
    .predict_row = NAME(predict_row),
    .shuffle = OF_ISA(shuffle),
    .transpose = NAME(transpose),
    .differentiate = NAME(differentiate),
    .evaluate = NAME(evaluate),
    .product = NAME(product),
    .measure_peak = NAME(measure_peak),
    .measure_tile = NAME(measure_tile),
};
