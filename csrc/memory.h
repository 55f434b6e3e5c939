/* memory.h: the engine's memory; see memory.c. */
#ifndef PYMLP_MEMORY_H
#define PYMLP_MEMORY_H

/* Sizes are in floating point: products of hostile sizes do not overflow there.  NULL where there is no memory. */

/* A block of zeros on a cache line of its own, whose pages are not touched before they are used; for pymlp_free_zeros. */
void *pymlp_new_zeros(double bytes);
void pymlp_free_zeros(void *zeros);
/* The same of undefined content, for free. */
void *pymlp_new_block(double bytes);

/* Blocks that are freed together: what the reading of a file makes on its way. */
struct pymlp_blocks {
    void *last;
};
/* The same as pymlp_new_block, of zeros, and free with the others. */
void *pymlp_add_block(struct pymlp_blocks *blocks, double bytes);
void pymlp_free_blocks(struct pymlp_blocks *blocks);

/* Takes note of bytes that could not be had; PYMLP_OUT_OF_MEMORY. */
int pymlp_refuse(double bytes);

#endif
