/* threads.c: a pool of threads made on first use, a barrier, and nothing else that knows of threads.
 *
 * One team works at a time; who finds the pool busy works alone, with the same results.  A waiting thread spins for a
 * few tens of microseconds, but only while the team fits the cores, then sleeps; a waker makes the system call only if
 * someone sleeps.  (Pure spinning with 4 threads on 2 cores costs 4 ms a barrier, this 0.04.)  In the child of a fork
 * the other threads are gone: the state is set to zero without touching locks they may have held.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "threads.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#endif

/* some 40 us of pauses: longer than threads of a small step differ between two barriers, about as long as a wake-up */
enum { SPINS = 2500 };

static struct {
    atomic_int taken;     /* a team is at work */
    atomic_int job;       /* number of the job * 256 + members; changing it starts the workers */
    atomic_int sleepers;  /* workers asleep on `job` */
    atomic_int arrived, phase, waiters;  /* barrier: members arrived, its turn, members asleep on `phase` */
    atomic_int stopping;                 /* what the last barrier's last member saw of the stop flag */
    int workers;                         /* threads made so far; touched by the team's caller alone */
    atomic_int wakers_core;              /* where the thread was that last changed a word others wait for */
    atomic_int spins;                    /* pauses before sleeping; idle workers read it at any time */
    void (*work)(void *context, int index, int members);
    void *context;
#ifdef __linux__
    cpu_set_t allowed;    /* cores of the team's caller, which its workers keep to */
#endif
} pool;

static atomic_int generation = 1;

static inline void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#ifdef __linux__
static void sleep_while(atomic_int *word, int value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake_all(atomic_int *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Looks at the cores that the caller of a team may use; how many. */
static int cores(void) {
    if (sched_getaffinity(0, sizeof pool.allowed, &pool.allowed) != 0) CPU_ZERO(&pool.allowed);
    const int count = CPU_COUNT(&pool.allowed);
    return count > 0 ? count : 1;
}

static int this_core(void) { return sched_getcpu(); }

static _Thread_local cpu_set_t allowed_cores;
static _Thread_local bool is_aside;

/* Keeps the calling thread off `core` until return_to_cores, if it is there and may be elsewhere. */
static void keep_off_core(int core) {
    if (is_aside || core < 0 || core >= CPU_SETSIZE || sched_getcpu() != core) return;
    if (sched_getaffinity(0, sizeof allowed_cores, &allowed_cores) != 0 || CPU_COUNT(&allowed_cores) < 2) return;
    cpu_set_t others = allowed_cores;
    CPU_CLR((size_t)core, &others);
    is_aside = sched_setaffinity(0, sizeof others, &others) == 0;
}

static void return_to_cores(void) {
    if (is_aside) (void)sched_setaffinity(0, sizeof allowed_cores, &allowed_cores);
    is_aside = false;
}

/* Brings a worker to the cores of the team's caller: those may have changed since it was made, which concerns no thread but
 * the one that asked for it.  `own`: the worker's, as far as it knows. */
static void follow_caller(cpu_set_t *own) {
    if (CPU_EQUAL(own, &pool.allowed) || CPU_COUNT(&pool.allowed) == 0) return;
    *own = pool.allowed;
    is_aside = false;
    (void)sched_setaffinity(0, sizeof *own, own);
}
#else
static pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t sleep_condition = PTHREAD_COND_INITIALIZER;

static void sleep_while(atomic_int *word, int value) {
    pthread_mutex_lock(&sleep_lock);
    while (atomic_load(word) == value) pthread_cond_wait(&sleep_condition, &sleep_lock);
    pthread_mutex_unlock(&sleep_lock);
}

static void wake_all(atomic_int *word) {
    (void)word;
    pthread_mutex_lock(&sleep_lock);
    pthread_cond_broadcast(&sleep_condition);
    pthread_mutex_unlock(&sleep_lock);
}

static int cores(void) {
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

static int this_core(void) { return -1; }

static void keep_off_core(int core) { (void)core; }

static void return_to_cores(void) {}
#endif

/* Waits until *word is no longer `value`; `sleepers` counts the threads that a waker must wake. */
static void wait_for_change(atomic_int *word, int value, atomic_int *sleepers, int spins) {
    for (int i = 0; i < spins; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != value) return;
        pause_briefly();
    }
    /* sequentially consistent on both sides: either we see the change, or the waker sees us counted */
    atomic_fetch_add(sleepers, 1);
    while (atomic_load(word) == value) sleep_while(word, value);
    atomic_fetch_sub(sleepers, 1);
    /* While another library's threads spin on the idle cores (OpenBLAS's do, for 100 ms after a product), and on virtual
     * machines whose idle cores are halted, the system wakes a thread on its waker's core.  There the two take turns at
     * every barrier, never both ready to run, so that no balancing of loads would ever part them: the woken one keeps off
     * that core for the rest of the job.  A team that does not fit the cores must share them, and would only crowd. */
    if (atomic_load_explicit(&pool.spins, memory_order_relaxed) > 0)
        keep_off_core(atomic_load_explicit(&pool.wakers_core, memory_order_relaxed));
}

static void change(atomic_int *word, int value, atomic_int *sleepers) {
    atomic_store_explicit(&pool.wakers_core, this_core(), memory_order_relaxed);
    atomic_store(word, value);
    if (atomic_load(sleepers) > 0) wake_all(word);
}

static void *worker(void *argument) {
    int index = (int)(intptr_t)argument;
    int seen = 0;
#ifdef __linux__
    cpu_set_t own;
    if (sched_getaffinity(0, sizeof own, &own) != 0) CPU_ZERO(&own);
#endif
    for (;;) {
        wait_for_change(&pool.job, seen, &pool.sleepers, pool.spins);
        seen = atomic_load_explicit(&pool.job, memory_order_acquire);
        /* the members are read from the same word as the job's number: a worker that is late and not a member must not
         * take the next job's half-written fields for its own */
        int members = seen & 255;
        if (index >= members) {
            return_to_cores();
            continue;
        }
#ifdef __linux__
        follow_caller(&own);
#endif
        pool.work(pool.context, index, members);
        pymlp_team_barrier(members, NULL);
        return_to_cores();
    }
    return NULL;
}

static void forget_parents_threads(void) {
    memset(&pool, 0, sizeof pool);
#ifndef __linux__
    /* a worker of the parent's may have held the lock as the fork was made, or sleep at the condition */
    sleep_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    sleep_condition = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
#endif
    atomic_fetch_add(&generation, 1);
}

/* whether a child will know that it has no workers; if not, there must be none */
static bool forks_are_watched;

static void watch_forks(void) { forks_are_watched = pthread_atfork(NULL, NULL, forget_parents_threads) == 0; }

int pymlp_process_generation(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    return atomic_load(&generation);
}

static bool start_worker(int index) {
    /* signals belong to the host program's threads */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attributes;
    pthread_t thread;
    bool started = pthread_attr_init(&attributes) == 0;
    if (started) {
        started = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
                  pthread_create(&thread, &attributes, worker, (void *)(intptr_t)index) == 0;
        pthread_attr_destroy(&attributes);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

int pymlp_team_begin(int wanted) {
    pymlp_process_generation();
    int free_pool = 0;
    if (wanted <= 1 || !forks_are_watched || !atomic_compare_exchange_strong(&pool.taken, &free_pool, 1)) return 1;
    if (wanted > MOST_THREADS) wanted = MOST_THREADS;
    pool.spins = wanted <= cores() ? SPINS : 0;
    while (pool.workers < wanted - 1) {
        /* a new worker finds the last job's word, of which it is no member: it had not been made then */
        if (!start_worker(pool.workers + 1)) break;
        pool.workers++;
    }
    int members = pool.workers + 1 < wanted ? pool.workers + 1 : wanted;
    if (members == 1) atomic_store(&pool.taken, 0);
    return members;
}

void pymlp_team_run(int members, void (*work)(void *context, int index, int members), void *context) {
    if (members > 1) {
        pool.work = work;
        pool.context = context;
        unsigned number = ((unsigned)atomic_load(&pool.job) >> 8) + 1;
        change(&pool.job, (int)((number & 0x7fffff) << 8 | (unsigned)members), &pool.sleepers);
    }
    work(context, 0, members);
    if (members > 1) pymlp_team_barrier(members, NULL);
    return_to_cores();
}

void pymlp_team_end(int members) {
    if (members > 1) atomic_store(&pool.taken, 0);
}

bool pymlp_team_barrier(int members, const atomic_int *stop) {
    if (members == 1) return stop != NULL && atomic_load_explicit(stop, memory_order_relaxed) != 0;
    int phase = atomic_load_explicit(&pool.phase, memory_order_relaxed);
    if (atomic_fetch_add(&pool.arrived, 1) + 1 == members) {
        atomic_store_explicit(&pool.arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool.stopping, stop != NULL && atomic_load(stop) != 0, memory_order_relaxed);
        change(&pool.phase, phase + 1, &pool.waiters);
    } else {
        wait_for_change(&pool.phase, phase, &pool.waiters, pool.spins);
    }
    return atomic_load_explicit(&pool.stopping, memory_order_relaxed) != 0;
}
