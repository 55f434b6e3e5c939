/* threads.h: the engine's own threads; see threads.c. */
#ifndef PYMLP_THREADS_H
#define PYMLP_THREADS_H

#include <stdatomic.h>
#include <stdbool.h>

/* most threads of one team; the count shares a word with the job number */
enum { MOST_THREADS = 128 };

/* A team is the calling thread and the workers that help it, from pymlp_team_begin to pymlp_team_end.  Where the pool is busy or
 * threads cannot be made, the team is smaller than asked for, down to the caller alone: results do not depend on it. */
int pymlp_team_begin(int wanted);
/* Runs work(context, index, members) once on each member, index 0 on the caller; returns when all are done. */
void pymlp_team_run(int members, void (*work)(void *context, int index, int members), void *context);
void pymlp_team_end(int members);

/* Waits until every member has arrived.  The last to arrive looks at `stop`, so that all members get the same answer:
 * whether the work is to be given up. */
bool pymlp_team_barrier(int members, const atomic_int *stop);

/* A number that changes in the child of a fork, never 0: flags set by threads that no longer exist lapse with it. */
int pymlp_process_generation(void);

#endif
