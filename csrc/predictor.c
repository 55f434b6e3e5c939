/* predictor.c: a network frozen with its parameters, which any number of threads may ask at the same time.
 *
 * The weights are packed once, into a plan that nothing changes any more; what a call writes to is scratch memory of its
 * own, taken from a list without a lock.  A call allocates only while more calls run at the same time than ever before.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "memory.h"
#include "plan.h"
#include "threads.h"

/* Scratch memory kept for later calls.  Calls beyond so many at the same time allocate and free their own. */
enum { MOST_KEPT = 64 };

/* A row that is one thread's work finds its scratch on the stack where so many bytes are enough: the list costs as much
 * as a layer of a small network. */
enum { STACK_BYTES = 16384 };

/* A row of fewer multiply-adds takes less time than to meet other threads, however many are asked for. */
#define LEAST_SHARED_WORK 5e4
/* A call of fewer multiply-adds is over before a sleeping thread has woken up and been of use. */
#define BRIEF_WORK 5e6
/* how long threads wait awake for the next call (threads.c): later ones find them asleep */
enum { AWAKE_NANOSECONDS = 40000 };

struct pymlp_predictor {
    pymlp_plan *plan;
    size_t scratch_bytes;
    bool with_complement;
    bool rows_on_stack; /* one row goes to operations->predict_row */
    atomic_llong last_brief; /* when the last brief call ended */
    /* free pieces, in any order, else NULL: a place is emptied and filled in one exchange, so that no piece is ever seen
     * by two threads */
    _Atomic(void *) kept[MOST_KEPT];
};

double pymlp_row_work(const pymlp_plan *plan, int64_t rows) {
    return plan->multiply_adds * (rows < 3 ? 2.5 : (double)rows);
}

int pymlp_predictor_create(pymlp_predictor **predictor, const char *instruction_set, int dtype,
                           const pymlp_layer *layers, int64_t n_layers, const pymlp_loss_rule *loss, const void *params,
                           int with_complement, int n_threads, int automatic) {
    *predictor = NULL;
    if (n_layers >= 1 && with_complement && layers[n_layers - 1].outputs != 1) return PYMLP_BAD_ARGUMENT;
    pymlp_predictor *new = pymlp_new_zeros(sizeof *new);
    if (new == NULL) return PYMLP_OUT_OF_MEMORY;
    int code =
        pymlp_plan_create(&new->plan, instruction_set, dtype, layers, n_layers, loss, 0, 0, 0, 1, n_threads, automatic);
    if (code != PYMLP_OK) {
        pymlp_free_zeros(new);
        return code;
    }
    new->with_complement = with_complement != 0;
    new->scratch_bytes = new->plan->scratch_bytes * (size_t)new->plan->n_threads;
    const double work = pymlp_row_work(new->plan, 1);
    new->rows_on_stack = (work < LEAST_SHARED_WORK || pymlp_threads_for(new->plan, work) == 1) &&
                         (size_t)new->plan->n_strips * (size_t)new->plan->widest * new->plan->operations->real_bytes <=
                             STACK_BYTES;
    new->plan->operations->pack(new->plan, params);
    *predictor = new;
    return PYMLP_OK;
}

void pymlp_predictor_free(pymlp_predictor *predictor) {
    if (predictor == NULL) return;
    for (int i = 0; i < MOST_KEPT; i++) free(atomic_load(&predictor->kept[i]));
    pymlp_plan_free(predictor->plan);
    pymlp_free_zeros(predictor);
}

void pymlp_predictor_disown(pymlp_predictor **predictor) {
    pymlp_predictor_free(*predictor);
    *predictor = NULL;
}

static void *take_scratch(pymlp_predictor *predictor) {
    for (int i = 0; i < MOST_KEPT; i++) {
        if (atomic_load_explicit(&predictor->kept[i], memory_order_relaxed) == NULL) continue;
        void *scratch = atomic_exchange_explicit(&predictor->kept[i], NULL, memory_order_acquire);
        if (scratch != NULL) return scratch;
    }
    void *scratch = pymlp_new_block((double)predictor->scratch_bytes);
    /* lanes past the last column are computed as well and read by nobody, but what is in them may decide a branch */
    if (scratch != NULL) memset(scratch, 0, predictor->scratch_bytes);
    return scratch;
}

static void return_scratch(pymlp_predictor *predictor, void *scratch) {
    for (int i = 0; i < MOST_KEPT; i++) {
        void *none = NULL;
        if (atomic_load_explicit(&predictor->kept[i], memory_order_relaxed) == NULL &&
            atomic_compare_exchange_strong_explicit(&predictor->kept[i], &none, scratch, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
    free(scratch);
}

static long long nanoseconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Rows that do not go to predict_row */
static int predict_rows(pymlp_predictor *predictor, const struct batch *batch, void *out) {
    const pymlp_plan *plan = predictor->plan;
    void *scratch = take_scratch(predictor);
    if (scratch == NULL) return PYMLP_OUT_OF_MEMORY;
    const double work = pymlp_row_work(plan, batch->rows);
    int n_threads = pymlp_threads_for(plan, work);
    const bool brief = plan->automatic && n_threads > 1 && work < BRIEF_WORK;
    /* the first call after a pause goes alone; if a second one follows at once, it is worth to wake the others */
    if (brief && nanoseconds_now() - atomic_load_explicit(&predictor->last_brief, memory_order_relaxed) > AWAKE_NANOSECONDS)
        n_threads = 1;
    int code = plan->operations->predict(predictor->plan, scratch, batch, out, predictor->with_complement, n_threads);
    if (brief) atomic_store_explicit(&predictor->last_brief, nanoseconds_now(), memory_order_relaxed);
    return_scratch(predictor, scratch);
    return code;
}

int pymlp_predictor_predict(pymlp_predictor *predictor, const void *X, int64_t rows, void *out) {
    if (rows < 0) return PYMLP_BAD_ARGUMENT;
    const pymlp_plan *plan = predictor->plan;
    if (rows == 1 && predictor->rows_on_stack) {
        char scratch[STACK_BYTES] __attribute__((aligned(64)));
        plan->operations->predict_row(plan, scratch, X, out, predictor->with_complement);
        return PYMLP_OK;
    }
    const struct batch batch = {.X = X, .rows = rows, .step = -1};
    return predict_rows(predictor, &batch, out);
}

int pymlp_predictor_predict_sparse(pymlp_predictor *predictor, const pymlp_sparse *X, int64_t rows, void *out) {
    if (rows < 0 || !predictor->plan->takes_sparse) return PYMLP_BAD_ARGUMENT;
    const struct batch batch = {
        .X = X->values, .columns = X->columns, .row_starts = X->starts, .rows = rows, .step = -1};
    return predict_rows(predictor, &batch, out);
}
