/* isa.inc.h: compiles the whole engine for one instruction set, in float and in double.
 *
 * Included by each isa_*.c after it has defined
 *   ISA           name, part of every symbol
 *   ISA_TARGET    the compiler's target string (absent: what the compiler assumes anyway).  With "prfchw", memory is asked for
 *                 to be written, and other cores give up their copies at once; without, the compiler asks to read it, and the
 *                 store waits for them.  Processors that do not have this instruction pass it over.
 *   VECTOR_BYTES  bytes of a vector
 *   TILE_ROWS, TILE_VECTORS   the micro-kernel's largest tile; TILE_VECTORS vectors hold 8, 16 or 32 numbers
 *   FMA_F32(a, b, c), FMA_F64, SQRT_F32, SQRT_F64   on vectors
 *   WIDE_PRODUCT(a, b)  64-bit products of the lower halves of vectors of 64-bit numbers
 *   ROOT(x)       square root of one double
 *   HALF_FMA_F32, HALF_FMA_F64   on vectors of half the bytes (absent: narrow columns take a whole vector)
 *   WIDENED_F32(x), WIDENED_F64, NARROWED_F32, NARROWED_F64   with them: from half a vector to a whole one, whose other
 *                                half may be anything, and back
 *   PICK_WORDS(to, mask, words), WORDS_AT_MOST(words, bounds)   writes those 32-bit words of a vector whose bits are set in
 *                                the mask, side by side, and others after them; the mask of a comparison (absent: both)
 *   SAVE_FLOAT_MODE(), RESTORE_FLOAT_MODE(mode)   subnormal numbers count as 0 in between
 * Every function with vector types stays inside the target region.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "functions.h"
#include "plan.h"
#include "quarter_turns.h"
#include "tables.h"
#include "threads.h"
#include "trials.h"

#ifdef ISA_TARGET
#define PRAGMA_TEXT(text) _Pragma(#text)
#define PRAGMA(text) PRAGMA_TEXT(text)
#if defined(__clang__)
PRAGMA(clang attribute push(__attribute__((target(ISA_TARGET))), apply_to = function))
#else
#pragma GCC push_options
PRAGMA(GCC target(ISA_TARGET))
#endif
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))
/* a parameter that all functions of a table are given, and some have no use for */
#define UNREAD __attribute__((unused))

#define JOINED_(word, isa, type) word##_##isa##_##type
#define JOINED(word, isa, type) JOINED_(word, isa, type)
#define NAME(word) JOINED(word, ISA, REAL_NAME)
#define OF_ISA_(word, isa) word##_##isa
#define OF_ISA__(word, isa) OF_ISA_(word, isa)
#define OF_ISA(word) OF_ISA__(word, ISA)

#include "shuffle.inc.h"

#define REAL float
#define REAL_NAME f32
#define INTEGER int32_t
#define UNSIGNED uint32_t
#define BY_TYPE(single, twofold) single
#define FMA(a, b, c) FMA_F32(a, b, c)
#define SQRT(a) SQRT_F32(a)
#include "engine.inc.h"
#undef REAL
#undef REAL_NAME
#undef INTEGER
#undef UNSIGNED
#undef BY_TYPE
#undef FMA
#undef SQRT

#define REAL double
#define REAL_NAME f64
#define INTEGER int64_t
#define UNSIGNED uint64_t
#define BY_TYPE(single, twofold) twofold
#define FMA(a, b, c) FMA_F64(a, b, c)
#define SQRT(a) SQRT_F64(a)
#include "engine.inc.h"

#ifdef ISA_TARGET
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#define ENGINE_OF_(isa) pymlp_engine_##isa
#define ENGINE_OF(isa) ENGINE_OF_(isa)
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

const struct engine ENGINE_OF(ISA) = {
    .name = TEXT(ISA),
    .single = &JOINED(operations, ISA, f32),
    .twofold = &JOINED(operations, ISA, f64),
};
