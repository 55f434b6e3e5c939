/* shuffle.c: the order of an epoch, drawn as NumPy's RandomState.shuffle draws it: the same numbers, the same swaps.
 *
 * Fisher and Yates from the end: row i trades places with a row drawn from 0 .. i, by masking 32 random bits to the
 * length of i and drawing again while the result exceeds i.  Whether a draw counts is as good as a coin's toss, so it is
 * no branch here: a draw that does not count trades row i with itself and leaves i where it is.  That, and a loop that
 * knows the size of a row number, takes half of NumPy's time, which is a tenth of an epoch of a tiny network. */
#include "pymlp.h"

/* bitgen_t of numpy/random/bitgen.h, NumPy's public interface to its generators */
typedef struct {
    void *state;
    uint64_t (*next_uint64)(void *state);
    uint32_t (*next_uint32)(void *state);
    double (*next_double)(void *state);
    uint64_t (*next_raw)(void *state);
} bit_generator;

void pymlp_shuffle(void *generator, int64_t *order, int64_t rows)
{
    const bit_generator *source = generator;
    int64_t i = rows - 1;
    while (i > 0) {
        const uint32_t mask = UINT32_MAX >> __builtin_clz((uint32_t)i);
        const int64_t next_shorter = mask >> 1;
        while (i > next_shorter) {
            const int64_t drawn = source->next_uint32(source->state) & mask;
            const int64_t counts = drawn <= i;
            const int64_t other = counts ? drawn : i;
            const int64_t row = order[i];
            order[i] = order[other];
            order[other] = row;
            i -= counts;
        }
    }
}
