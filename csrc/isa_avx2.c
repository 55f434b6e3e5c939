/* isa_avx2.c: the engine for x86-64 with AVX2 and FMA.
 * Registers: 6 x 2 sums + 2 of b + 1 of a = 15 of 16. */
#if defined(__x86_64__)
#include <immintrin.h>

#define ISA avx2
#define ISA_TARGET "avx2,fma,prfchw"
#define VECTOR_BYTES 32
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define FMA_F32(a, b, c) ((VECTOR)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define FMA_F64(a, b, c) ((VECTOR)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#define HALF_FMA_F32(a, b, c) _mm_fmadd_ps((__m128)(a), (__m128)(b), (__m128)(c))
#define HALF_FMA_F64(a, b, c) _mm_fmadd_pd((__m128d)(a), (__m128d)(b), (__m128d)(c))
#define WIDENED_F32(x) _mm256_castps128_ps256((__m128)(x))
#define WIDENED_F64(x) _mm256_castpd128_pd256((__m128d)(x))
#define NARROWED_F32(x) _mm256_castps256_ps128((__m256)(x))
#define NARROWED_F64(x) _mm256_castpd256_pd128((__m256d)(x))
#define SQRT_F32(a) ((VECTOR)_mm256_sqrt_ps((__m256)(a)))
#define SQRT_F64(a) ((VECTOR)_mm256_sqrt_pd((__m256d)(a)))
#define WIDE_PRODUCT(a, b) (_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#define ROOT(x) _mm_cvtsd_f64(_mm_sqrt_sd(_mm_setzero_pd(), _mm_set_sd(x)))
#define VECTOR_REGISTER(x) "+x"(x)
#include "float_mode_x86.h"
#include "isa.inc.h"
#else
typedef int pymlp_no_avx2; /* a translation unit must hold something */
#endif
