/* trials.h: by how many threads steps of a shape are fastest, as trials have found it; see trials.c. */
#ifndef PYMLP_TRIALS_H
#define PYMLP_TRIALS_H

#include "plan.h"

/* What tells plans apart whose steps take different times: the instruction set, threads, rows and layers. */
uint64_t pymlp_shape_of(const pymlp_plan *plan);
/* Whether the last trial of steps of this shape and about this work (pymlp_step_work) found one thread to be faster (1) or
 * not (0); -1: it is time for a trial.  Each answer counts as one call of those until the next trial. */
int pymlp_recall_trial(const pymlp_plan *plan, double work);
/* Notes what a trial found, for so many calls. */
void pymlp_note_trial(const pymlp_plan *plan, double work, bool one_is_faster, int64_t calls);

#endif
