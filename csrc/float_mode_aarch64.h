/* float_mode_aarch64.h: subnormal inputs and results count as 0. */
#ifndef PYMLP_FLOAT_MODE_H
#define PYMLP_FLOAT_MODE_H

#include <stdint.h>

/* bit 24 of the control register flushes subnormals; the rest at 0 is round to nearest without traps */
static inline uint64_t save_float_mode(void) {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24));
    return mode;
}

static inline void restore_float_mode(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }

#define SAVE_FLOAT_MODE() save_float_mode()
#define RESTORE_FLOAT_MODE(mode) restore_float_mode(mode)

#endif
