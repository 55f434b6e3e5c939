/* float_mode_x86.h: subnormal inputs and results count as 0 (they cost 20 to 50 times a normal number otherwise). */
#ifndef PYMLP_FLOAT_MODE_H
#define PYMLP_FLOAT_MODE_H

#include <immintrin.h>

/* bits of the control register: flush to zero, denormals are zero, all exceptions masked, round to nearest */
static inline unsigned save_float_mode(void) {
    unsigned mode = _mm_getcsr();
    _mm_setcsr(0x8000u | 0x0040u | 0x1f80u);
    return mode;
}

#define SAVE_FLOAT_MODE() save_float_mode()
#define RESTORE_FLOAT_MODE(mode) _mm_setcsr(mode)

#endif
