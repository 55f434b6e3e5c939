/* isa_portable.c: the engine for any machine the compiler knows, without fused multiply-add: it agrees with the other
 * sets to a tolerance, not to the bit.  Registers (of 16): 3 x 4 sums + 3 of b or a. */
#if defined(__x86_64__)
#include <immintrin.h>
#include "float_mode_x86.h"
#define ISA_TARGET "prfchw"
#define VECTOR_REGISTER(x) "+x"(x)
#define SQRT_F32(a) ((VECTOR)_mm_sqrt_ps((__m128)(a)))
#define SQRT_F64(a) ((VECTOR)_mm_sqrt_pd((__m128d)(a)))
#define ROOT(x) _mm_cvtsd_f64(_mm_sqrt_sd(_mm_setzero_pd(), _mm_set_sd(x)))
#elif defined(__aarch64__)
#include <arm_neon.h>
#include "float_mode_aarch64.h"
#define VECTOR_REGISTER(x) "+w"(x)
#define SQRT_F32(a) ((VECTOR)vsqrtq_f32((float32x4_t)(a)))
#define SQRT_F64(a) ((VECTOR)vsqrtq_f64((float64x2_t)(a)))
#define ROOT(x) vget_lane_f64(vsqrt_f64(vdup_n_f64(x)), 0)
#else
#define VECTOR_REGISTER(x) "+m"(x)
#define SAVE_FLOAT_MODE() 0
#define RESTORE_FLOAT_MODE(mode) ((void)(mode))
/* the compiler's own, which may be the C library's */
#define SQRT_F32(a) ((VECTOR){__builtin_sqrtf((a)[0]), __builtin_sqrtf((a)[1]), __builtin_sqrtf((a)[2]), \
                              __builtin_sqrtf((a)[3])})
#define SQRT_F64(a) ((VECTOR){__builtin_sqrt((a)[0]), __builtin_sqrt((a)[1])})
#define ROOT(x) __builtin_sqrt(x)
#endif

#define ISA portable
#define VECTOR_BYTES 16
#define TILE_ROWS 3
#define TILE_VECTORS 4
#define FMA_F32(a, b, c) ((a) * (b) + (c))
#define FMA_F64(a, b, c) ((a) * (b) + (c))
#define WIDE_PRODUCT(a, b) (((a) & 0xFFFFFFFFu) * ((b) & 0xFFFFFFFFu))
#include "isa.inc.h"
