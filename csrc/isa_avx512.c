/* isa_avx512.c: the engine for x86-64 with AVX-512.
 * Registers: 14 x 2 sums + 2 of b + 1 of a = 31 of 32. */
#if defined(__x86_64__)
#include <immintrin.h>

#define ISA avx512
#define ISA_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prfchw"
#define VECTOR_BYTES 64
#define TILE_ROWS 14
#define TILE_VECTORS 2
#define FMA_F32(a, b, c) ((VECTOR)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define FMA_F64(a, b, c) ((VECTOR)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#define HALF_FMA_F32(a, b, c) _mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c))
#define HALF_FMA_F64(a, b, c) _mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c))
#define WIDENED_F32(x) _mm512_castps256_ps512((__m256)(x))
#define WIDENED_F64(x) _mm512_castpd256_pd512((__m256d)(x))
#define NARROWED_F32(x) _mm512_castps512_ps256((__m512)(x))
#define NARROWED_F64(x) _mm512_castpd512_pd256((__m512d)(x))
#define SQRT_F32(a) ((VECTOR)_mm512_sqrt_ps((__m512)(a)))
#define SQRT_F64(a) ((VECTOR)_mm512_sqrt_pd((__m512d)(a)))
#define WIDE_PRODUCT(a, b) (_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#define ROOT(x) _mm_cvtsd_f64(_mm_sqrt_sd(_mm_setzero_pd(), _mm_set_sd(x)))
#define WORDS_AT_MOST(words, bounds) _mm512_cmple_epu32_mask((__m512i)(words), (__m512i)(bounds))
#define PICK_WORDS(to, mask, words) \
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32((__mmask16)(mask), (__m512i)(words)))
#define VECTOR_REGISTER(x) "+v"(x)
#include "float_mode_x86.h"
#include "isa.inc.h"
#else
typedef int pymlp_no_avx512; /* a translation unit must hold something */
#endif
