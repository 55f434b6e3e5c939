/* memory.c: every allocation of the engine, and what is known of the last one that was refused.
 *
 * A verb answers PYMLP_OUT_OF_MEMORY and leaves everything as it was; how much it asked for stands here, for the message
 * of whoever called it.
 */
#include "memory.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "pymlp.h"

/* One for the process, not one for each thread: the loader makes a thread's own variables when they are first touched, and
 * where there is no memory for them it ends the process.  Two threads that are refused at once may see each other's. */
static _Atomic double refused_bytes;

/* a quarter of what addresses reach, 2**62 bytes or 2**30: no block is as long, and sums of a few sizes do not wrap around */
#define MOST_BYTES ((double)(SIZE_MAX / 4))

double pymlp_refused_bytes(void) { return atomic_load(&refused_bytes); }

int pymlp_refuse(double bytes) {
    atomic_store(&refused_bytes, bytes);
    return PYMLP_OUT_OF_MEMORY;
}

static void *noted(void *block, double bytes) {
    if (block == NULL) pymlp_refuse(bytes);
    return block;
}

static void ask_for_huge_pages(char *from, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    /* only whole huge pages inside; a refusal costs speed, nothing else */
    const uintptr_t page = (uintptr_t)1 << 21;
    uintptr_t first = ((uintptr_t)from + page - 1) & ~(page - 1), last = ((uintptr_t)from + bytes) & ~(page - 1);
    if (last > first + page) (void)madvise((void *)first, last - first, MADV_HUGEPAGE);
#else
    (void)from;
    (void)bytes;
#endif
}

void *pymlp_new_zeros(double bytes) {
    char *block = bytes < MOST_BYTES ? noted(calloc(1, (size_t)bytes + 64 + sizeof(void *)), bytes) : noted(NULL, bytes);
    if (block == NULL) return NULL;
    char *aligned = (char *)(((uintptr_t)block + sizeof(void *) + 63) & ~(uintptr_t)63);
    memcpy(aligned - sizeof(void *), &block, sizeof(void *));
    ask_for_huge_pages(aligned, (size_t)bytes);
    return aligned;
}

void pymlp_free_zeros(void *zeros) {
    void *block;
    memcpy(&block, (char *)zeros - sizeof(void *), sizeof(void *));
    free(block);
}

void *pymlp_new_block(double bytes) {
    if (bytes >= MOST_BYTES) return noted(NULL, bytes);
    return noted(aligned_alloc(64, ((size_t)bytes + 63) & ~(size_t)63), bytes);
}

/* what stands before each of the blocks: the block before it; a cache line, so that what follows is on one of its own */
enum { LINK_BYTES = 64 };

void *pymlp_add_block(struct pymlp_blocks *blocks, double bytes) {
    char *link = pymlp_new_zeros(bytes + LINK_BYTES);
    if (link == NULL) return NULL;
    memcpy(link, &blocks->last, sizeof blocks->last);
    blocks->last = link;
    return link + LINK_BYTES;
}

void pymlp_free_blocks(struct pymlp_blocks *blocks) {
    while (blocks->last != NULL) {
        void *link = blocks->last;
        memcpy(&blocks->last, link, sizeof blocks->last);
        pymlp_free_zeros(link);
    }
}
