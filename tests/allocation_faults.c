/* allocation_faults.c: refuses chosen allocations, threads and advice of chosen modules, and counts what they hold.
 *
 * Preloaded before the C library (LD_PRELOAD), it stands between every module of a process and malloc, pthread_create,
 * madvise and the registration of fork handlers.  A call counts if its return address lies in a module that is watched, so
 * a fault meets the engine and nobody else.  For the data of NumPy's arrays it has the functions that NumPy lets its users
 * put in place of malloc: inside, NumPy does not live through every refusal.  Python arms it through ctypes
 * (allocation_faults.py).  The blocks of watched modules are entered in a table until they are freed, by whomever: what stays has leaked.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* the C library's own, under the names it has them by for those who replace malloc */
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *block, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *block);

enum { ALLOCATION = 1, THREAD = 2, ADVICE = 4, FORK_WATCH = 8, MAPPING = 16 };
enum { MOST_RANGES = 64, BUCKETS = 4096, BUCKET_BLOCKS = 8 };

static struct { uintptr_t start, end; } ranges[MOST_RANGES];
static atomic_int n_ranges, kinds;
static atomic_size_t least_bytes;
static atomic_long calls, failures, first_fault, end_of_faults;

static struct { _Atomic uintptr_t block; atomic_size_t bytes; } table[BUCKETS][BUCKET_BLOCKS];
static atomic_long live_blocks, live_bytes, peak_bytes, lost_track;

/* NULL: an array's data */
static int is_watched(const void *address) {
    if (address == NULL) return 1;
    const uintptr_t at = (uintptr_t)address;
    const int count = atomic_load_explicit(&n_ranges, memory_order_acquire);
    for (int i = 0; i < count; i++)
        if (at >= ranges[i].start && at < ranges[i].end) return 1;
    return 0;
}

/* Whether this call is one of those to fail. */
static int is_refused(int kind, size_t bytes, const void *caller) {
    if (!(atomic_load_explicit(&kinds, memory_order_relaxed) & kind)) return 0;
    if (kind == ALLOCATION && bytes < atomic_load_explicit(&least_bytes, memory_order_relaxed)) return 0;
    if (!is_watched(caller)) return 0;
    const long number = atomic_fetch_add(&calls, 1) + 1;
    if (number < atomic_load(&first_fault) || number >= atomic_load(&end_of_faults)) return 0;
    atomic_fetch_add(&failures, 1);
    return 1;
}

static unsigned bucket_of(uintptr_t block) { return (unsigned)(block >> 4) * 2654435761u >> 20 & (BUCKETS - 1); }

static void *entered(void *block, size_t bytes, const void *caller) {
    if (block == NULL || bytes < atomic_load_explicit(&least_bytes, memory_order_relaxed) || !is_watched(caller))
        return block;
    const unsigned bucket = bucket_of((uintptr_t)block);
    for (int i = 0; i < BUCKET_BLOCKS; i++) {
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&table[bucket][i].block, &none, (uintptr_t)block)) continue;
        atomic_store(&table[bucket][i].bytes, bytes);
        atomic_fetch_add(&live_blocks, 1);
        const long now = atomic_fetch_add(&live_bytes, (long)bytes) + (long)bytes;
        long peak = atomic_load(&peak_bytes);
        while (now > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, now)) {}
        return block;
    }
    atomic_fetch_add(&lost_track, 1);
    return block;
}

static void strike_out(void *block) {
    if (block == NULL || atomic_load_explicit(&live_blocks, memory_order_relaxed) == 0) return;
    const unsigned bucket = bucket_of((uintptr_t)block);
    for (int i = 0; i < BUCKET_BLOCKS; i++) {
        if (atomic_load_explicit(&table[bucket][i].block, memory_order_relaxed) != (uintptr_t)block) continue;
        const size_t bytes = atomic_load(&table[bucket][i].bytes);
        atomic_store(&table[bucket][i].block, 0);
        atomic_fetch_sub(&live_blocks, 1);
        atomic_fetch_sub(&live_bytes, (long)bytes);
        return;
    }
}

/* --- what stands before the C library --------------------------------------------------------------------------- */

static void *out_of_memory(void) {
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t bytes) {
    const void *caller = __builtin_return_address(0);
    if (is_refused(ALLOCATION, bytes, caller)) return out_of_memory();
    return entered(__libc_malloc(bytes), bytes, caller);
}

void *calloc(size_t count, size_t bytes) {
    const void *caller = __builtin_return_address(0);
    if (is_refused(ALLOCATION, count * bytes, caller)) return out_of_memory();
    return entered(__libc_calloc(count, bytes), count * bytes, caller);
}

void *realloc(void *block, size_t bytes) {
    const void *caller = __builtin_return_address(0);
    if (is_refused(ALLOCATION, bytes, caller)) return out_of_memory();
    strike_out(block);
    return entered(__libc_realloc(block, bytes), bytes, caller);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    const void *caller = __builtin_return_address(0);
    if (is_refused(ALLOCATION, bytes, caller)) return out_of_memory();
    return entered(__libc_memalign(alignment, bytes), bytes, caller);
}

int posix_memalign(void **block, size_t alignment, size_t bytes) {
    const void *caller = __builtin_return_address(0);
    if (is_refused(ALLOCATION, bytes, caller)) return ENOMEM;
    *block = entered(__libc_memalign(alignment, bytes), bytes, caller);
    return *block == NULL ? ENOMEM : 0;
}

void free(void *block) {
    strike_out(block);
    __libc_free(block);
}

void *mmap(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset) {
    if (is_refused(MAPPING, bytes, __builtin_return_address(0))) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, address, bytes, protection, flags, descriptor, offset);
}

int madvise(void *address, size_t bytes, int advice) {
    if (is_refused(ADVICE, bytes, __builtin_return_address(0))) {
        errno = ENOMEM;
        return -1;
    }
    return (int)syscall(SYS_madvise, address, bytes, advice);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    if (is_refused(THREAD, 0, __builtin_return_address(0))) return EAGAIN;
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attributes, start, argument);
}

/* what pthread_atfork, a piece of each module, calls */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *module) {
    if (is_refused(FORK_WATCH, 0, __builtin_return_address(0))) return ENOMEM;
    static int (*real)(void (*)(void), void (*)(void), void (*)(void), void *);
    if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "__register_atfork");
    return real(prepare, parent, child, module);
}

/* --- what NumPy calls, by its handler "mem_handler" ------------------------------------------------------------------- */

static void *data_malloc(void *context, size_t bytes) {
    (void)context;
    return is_refused(ALLOCATION, bytes, NULL) ? NULL : entered(__libc_malloc(bytes), bytes, NULL);
}

static void *data_calloc(void *context, size_t count, size_t bytes) {
    (void)context;
    return is_refused(ALLOCATION, count * bytes, NULL) ? NULL : entered(__libc_calloc(count, bytes), count * bytes, NULL);
}

static void *data_realloc(void *context, void *block, size_t bytes) {
    (void)context;
    if (is_refused(ALLOCATION, bytes, NULL)) return NULL;
    strike_out(block);
    return entered(__libc_realloc(block, bytes), bytes, NULL);
}

static void data_free(void *context, void *block, size_t bytes) {
    (void)context;
    (void)bytes;
    free(block);
}

struct {
    char name[127];
    uint8_t version;
    void *context;
    void *(*malloc)(void *context, size_t bytes);
    void *(*calloc)(void *context, size_t count, size_t bytes);
    void *(*realloc)(void *context, void *block, size_t bytes);
    void (*free)(void *context, void *block, size_t bytes);
} faults_data_handler = {"faults", 1, NULL, data_malloc, data_calloc, data_realloc, data_free};

/* --- what Python calls ------------------------------------------------------------------------------------------ */

static int add_module(struct dl_phdr_info *module, size_t size, void *part) {
    (void)size;
    if (strstr(module->dlpi_name, part) == NULL) return 0;
    for (int i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &module->dlpi_phdr[i];
        const int count = atomic_load(&n_ranges);
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X) || count == MOST_RANGES) continue;
        ranges[count].start = module->dlpi_addr + segment->p_vaddr;
        ranges[count].end = ranges[count].start + segment->p_memsz;
        atomic_store(&n_ranges, count + 1);
    }
    return 0;
}

/* Watches the modules whose file has `part` in its path ("": every module), besides those watched already; how many pieces
 * of code are watched now. */
int faults_watch(char *part) {
    dl_iterate_phdr(add_module, part);
    return atomic_load(&n_ranges);
}

/* From now on allocations below `least` bytes do not count. */
void faults_watch_nothing(size_t least) {
    atomic_store(&n_ranges, 0);
    atomic_store(&least_bytes, least);
}

/* Watched calls of these kinds number first .. end - 1, from now on, fail. */
void faults_arm(int of_kinds, long first, long end) {
    atomic_store(&kinds, 0);
    atomic_store(&first_fault, first);
    atomic_store(&end_of_faults, end);
    atomic_store(&calls, 0);
    atomic_store(&failures, 0);
    atomic_store(&kinds, of_kinds);
}

void faults_disarm(void) { atomic_store(&kinds, 0); }

long faults_calls(void) { return atomic_load(&calls); }
long faults_failures(void) { return atomic_load(&failures); }
long faults_live_blocks(void) { return atomic_load(&live_blocks); }
long faults_live_bytes(void) { return atomic_load(&live_bytes); }
/* 0 unless a bucket of the table was full: then the counts of live blocks mean nothing */
long faults_lost_track(void) { return atomic_load(&lost_track); }

/* Most bytes held at the same time since the last call. */
long faults_peak_bytes(void) { return atomic_exchange(&peak_bytes, atomic_load(&live_bytes)); }
