/* trials.c: what trials of one thread against several have found, by the shape of a plan.
 *
 * A trial takes dozens of steps in the slower way.  An estimator makes a plan for each fit, and the fits of a search or
 * of a forest have the same shape, so what one plan has found is there for the next; it is found anew after some calls,
 * because what else the machine does changes.  It is one table for the process, without locks: a shape has one place, and
 * loses it to another that falls there.  Of two threads that write at the same time one is forgotten, which costs a
 * trial, or a call in the slower way, and changes no bit. */
#include <stdatomic.h>
#include <string.h>

#include "trials.h"

enum { N_PLACES = 256 };

/* verdict: twice the calls until the next trial, and 1 more where one thread is faster */
static struct {
    atomic_ullong key; /* 0: none */
    atomic_llong verdict;
} places[N_PLACES];

/* one step of FNV-1a, a word at a time, and a shift that brings the high bits down (Fowler, Noll and Vo, 1991) */
static uint64_t mixed(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x100000001b3u;
    return hash ^ hash >> 29;
}

uint64_t pymlp_shape_of(const pymlp_plan *plan) {
    uint64_t hash = mixed(0xcbf29ce484222325u, (uint64_t)(uintptr_t)plan->operations);
    hash = mixed(mixed(mixed(hash, (uint64_t)plan->n_threads), (uint64_t)plan->batch_size), (uint64_t)plan->loss);
    for (int64_t l = 0; l < plan->n_layers; l++) {
        const struct layer *layer = &plan->layers[l];
        hash = mixed(mixed(hash, (uint64_t)layer->kind), (uint64_t)layer->activation);
        hash = mixed(mixed(hash, (uint64_t)layer->inputs), (uint64_t)layer->outputs);
    }
    return hash;
}

/* Batches, and the inputs that are not 0, may be fewer in one call than in another: up to the next power of two. */
static uint64_t key_of(const pymlp_plan *plan, double work) {
    uint64_t bits;
    memcpy(&bits, &work, sizeof bits);
    const uint64_t key = mixed(plan->shape, bits >> 52);
    return key != 0 ? key : 1;
}

int pymlp_recall_trial(const pymlp_plan *plan, double work) {
    const uint64_t key = key_of(plan, work);
    if (atomic_load(&places[key % N_PLACES].key) != key) return -1;
    const long long verdict = atomic_load(&places[key % N_PLACES].verdict);
    if (verdict < 2) return -1;
    atomic_store(&places[key % N_PLACES].verdict, verdict - 2);
    return (int)(verdict & 1);
}

void pymlp_note_trial(const pymlp_plan *plan, double work, bool one_is_faster, int64_t calls) {
    const uint64_t key = key_of(plan, work);
    atomic_store(&places[key % N_PLACES].key, key);
    atomic_store(&places[key % N_PLACES].verdict, 2 * calls + one_is_faster);
}
