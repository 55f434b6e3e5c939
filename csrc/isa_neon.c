/* isa_neon.c: the engine for AArch64, whose vectors always have fused multiply-add.
 * Registers: 6 x 4 sums + 4 of b + 1 of a = 29 of 32. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define ISA neon
#define VECTOR_BYTES 16
#define TILE_ROWS 6
#define TILE_VECTORS 4
#define FMA_F32(a, b, c) ((VECTOR)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define FMA_F64(a, b, c) ((VECTOR)vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#define SQRT_F32(a) ((VECTOR)vsqrtq_f32((float32x4_t)(a)))
#define SQRT_F64(a) ((VECTOR)vsqrtq_f64((float64x2_t)(a)))
#define WIDE_PRODUCT(a, b) (vmull_u32(vmovn_u64((uint64x2_t)(a)), vmovn_u64((uint64x2_t)(b))))
#define ROOT(x) vget_lane_f64(vsqrt_f64(vdup_n_f64(x)), 0)
#define VECTOR_REGISTER(x) "+w"(x)
#include "float_mode_aarch64.h"
#include "isa.inc.h"
#else
typedef int pymlp_no_neon; /* a translation unit must hold something */
#endif
