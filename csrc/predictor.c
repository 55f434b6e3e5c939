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

/* Pairs of a row and a column that a thread's scratch for derivatives holds: as many as stay in a second-level cache, at
 * least those of the highest tile; fewer only where a row is so wide that these would take more than 64 MB. */
enum { LEAST_PAIRS = 16, MOST_PAIRS = 128 };
#define NEAR_BYTES 786432.0
#define MOST_PAIR_BYTES 67108864.0

/* Free pieces of so many bytes, in any order, else NULL: a place is emptied and filled in one exchange, so that no piece is
 * ever seen by two threads. */
struct pieces {
    double bytes;
    _Atomic(void *) kept[MOST_KEPT];
};

struct pymlp_predictor {
    pymlp_plan *plan;
    /* the plan once more, beside transposes of its weights: made by the first call that asks for a derivative */
    _Atomic(pymlp_plan *) turned;
    bool with_complement;
    bool rows_on_stack; /* one row goes to operations->predict_row */
    int64_t pairs;      /* of a thread's scratch for derivatives */
    double row_bytes;   /* of the scratch that the derivative of a single row takes */
    atomic_llong last_brief; /* when the last brief call ended */
    struct pieces predicting, differentiating;
};

/* A piece of zeros, or one that was used before; NULL without memory.  Lanes past the last column are computed as well and
 * read by nobody, but what is in them may decide a branch. */
static void *take_piece(struct pieces *pieces) {
    for (int i = 0; i < MOST_KEPT; i++) {
        if (atomic_load_explicit(&pieces->kept[i], memory_order_relaxed) == NULL) continue;
        void *piece = atomic_exchange_explicit(&pieces->kept[i], NULL, memory_order_acquire);
        if (piece != NULL) return piece;
    }
    return pymlp_new_zeros(pieces->bytes);
}

static void return_piece(struct pieces *pieces, void *piece) {
    for (int i = 0; i < MOST_KEPT; i++) {
        void *none = NULL;
        if (atomic_load_explicit(&pieces->kept[i], memory_order_relaxed) == NULL &&
            atomic_compare_exchange_strong_explicit(&pieces->kept[i], &none, piece, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
    pymlp_free_zeros(piece);
}

static void free_pieces(struct pieces *pieces) {
    for (int i = 0; i < MOST_KEPT; i++) {
        void *piece = atomic_load(&pieces->kept[i]);
        if (piece != NULL) pymlp_free_zeros(piece);
    }
}

double pymlp_row_work(const pymlp_plan *plan, int64_t rows) {
    return plan->multiply_adds * (rows < 3 ? 2.5 : (double)rows);
}

static int64_t pairs_for(double pair_bytes) {
    const double near = NEAR_BYTES / pair_bytes, most = MOST_PAIR_BYTES / pair_bytes;
    const int64_t pairs = near > MOST_PAIRS ? MOST_PAIRS : near < LEAST_PAIRS ? LEAST_PAIRS : (int64_t)near;
    return (double)pairs <= most ? pairs : most < 1 ? 1 : (int64_t)most;
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
    const int64_t outputs = new->plan->layers[n_layers - 1].outputs;
    const double threads = new->plan->n_threads, pair_bytes = pymlp_derivation_bytes(new->plan, 1);
    new->pairs = pairs_for(pair_bytes);
    new->row_bytes = pymlp_derivation_bytes(new->plan, outputs);
    new->predicting.bytes = (double)new->plan->scratch_bytes * threads;
    new->differentiating.bytes = pymlp_derivation_bytes(new->plan, new->pairs) * threads;
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
    free_pieces(&predictor->predicting);
    free_pieces(&predictor->differentiating);
    pymlp_plan *turned = atomic_load(&predictor->turned);
    if (turned != NULL) pymlp_free_zeros(turned);
    pymlp_plan_free(predictor->plan);
    pymlp_free_zeros(predictor);
}

void pymlp_predictor_disown(pymlp_predictor **predictor) {
    pymlp_predictor_free(*predictor);
    *predictor = NULL;
}

static long long nanoseconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Threads of a call of so much work.  The first brief one after a pause goes alone; if a second one follows at once, it is
 * worth to wake the others.  `*brief`: the call says when it has ended. */
static int threads_of_call(pymlp_predictor *predictor, double work, bool *brief) {
    const pymlp_plan *plan = predictor->plan;
    const int n_threads = pymlp_threads_for(plan, work);
    *brief = plan->automatic && n_threads > 1 && work < BRIEF_WORK;
    const long long last = *brief ? atomic_load_explicit(&predictor->last_brief, memory_order_relaxed) : 0;
    return *brief && nanoseconds_now() - last > AWAKE_NANOSECONDS ? 1 : n_threads;
}

static void end_brief(pymlp_predictor *predictor) {
    atomic_store_explicit(&predictor->last_brief, nanoseconds_now(), memory_order_relaxed);
}

/* Rows that do not go to predict_row */
static int predict_rows(pymlp_predictor *predictor, const struct batch *batch, void *out) {
    const pymlp_plan *plan = predictor->plan;
    void *scratch = take_piece(&predictor->predicting);
    if (scratch == NULL) return PYMLP_OUT_OF_MEMORY;
    bool brief;
    const int n_threads = threads_of_call(predictor, pymlp_row_work(plan, batch->rows), &brief);
    int code = plan->operations->predict(predictor->plan, scratch, batch, out, predictor->with_complement, n_threads);
    if (brief) end_brief(predictor);
    return_piece(&predictor->predicting, scratch);
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

/* The predictor's plan with the transposes of its weights; NULL without memory.  Of several calls that find none, each
 * makes one, and the first to be done leaves it to all: nobody waits, and a fork interrupts nothing. */
static const pymlp_plan *turned_plan(pymlp_predictor *predictor) {
    pymlp_plan *found = atomic_load_explicit(&predictor->turned, memory_order_acquire);
    if (found != NULL) return found;
    const pymlp_plan *plan = predictor->plan;
    const size_t head = (sizeof *plan + 63) & ~(size_t)63;
    pymlp_plan *new = pymlp_new_zeros((double)head + (double)plan->transpose_size * (double)plan->operations->real_bytes);
    if (new == NULL) return NULL;
    memcpy(new, plan, sizeof *plan);
    new->transposes = (char *)new + head;
    plan->operations->transpose(new);
    if (atomic_compare_exchange_strong_explicit(&predictor->turned, &found, new, memory_order_acq_rel,
                                                memory_order_acquire))
        return new;
    pymlp_free_zeros(new);
    return found;
}

int pymlp_predictor_value_and_gradient(pymlp_predictor *predictor, const void *X, int64_t rows, void *out,
                                       void *jacobian) {
    if (rows < 0 || jacobian == NULL) return PYMLP_BAD_ARGUMENT;
    const pymlp_plan *plan = turned_plan(predictor);
    if (plan == NULL) return PYMLP_OUT_OF_MEMORY;
    const int64_t outputs = plan->layers[plan->n_layers - 1].outputs;
    if (rows == 1 && predictor->rows_on_stack && predictor->row_bytes <= STACK_BYTES) {
        char scratch[STACK_BYTES] __attribute__((aligned(64)));
        /* as a new piece is */
        memset(scratch, 0, (size_t)predictor->row_bytes);
        plan->operations->differentiate(plan, scratch, outputs, X, 1, out, jacobian, predictor->with_complement, 1);
        return PYMLP_OK;
    }
    void *scratch = take_piece(&predictor->differentiating);
    if (scratch == NULL) return PYMLP_OUT_OF_MEMORY;
    bool brief;
    /* forward, and back for each of the outputs */
    const double work = pymlp_row_work(plan, rows) * (1 + (double)outputs);
    const int n_threads = threads_of_call(predictor, work, &brief);
    plan->operations->differentiate(plan, scratch, predictor->pairs, X, rows, out, jacobian, predictor->with_complement,
                                    n_threads);
    if (brief) end_brief(predictor);
    return_piece(&predictor->differentiating, scratch);
    return PYMLP_OK;
}
