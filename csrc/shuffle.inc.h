/* shuffle.inc.h: the order of an epoch, drawn as NumPy's RandomState.shuffle draws it: the same numbers, the same swaps.
 *
 * Fisher and Yates from the end: row i trades places with a row drawn from 0 .. i, by masking 32 random bits to the
 * length of i and drawing again while the result exceeds i.  As many rows take at least as many draws, so those are made
 * in one go; the generator itself would take two thirds of the time if asked for one word at a time, so the usual one,
 * the Mersenne Twister, is advanced here, 624 words at once.
 *
 * Whether a draw counts is as good as a coin's toss, so it is no branch here.  Where the instruction set can pick words
 * out of a vector, the draws that count are picked out first, two vectors at once, and then only swaps are left: a sixth
 * of NumPy's time, where one loop for both, in which a draw that does not count trades row i with itself and leaves i
 * where it is, takes a quarter.  Without picking, two loops are slower than one.
 *
 * Compiled once for each instruction set: it depends on none of REAL. */

/* words of the Mersenne Twister's state, and from a word to the one it is mixed with (Matsumoto and Nishimura, "Mersenne
 * Twister: a 623-dimensionally equidistributed uniform pseudo-random number generator", 1998) */
enum { TWISTER_WORDS = 624, TWISTER_DISTANCE = 397 };

/* the highest bit of one word and the others of the next, times the matrix of the paper */
ALWAYS_INLINE uint32_t OF_ISA(twisted)(uint32_t word, uint32_t next) {
    const uint32_t joined = (word & 0x80000000u) | (next & 0x7fffffffu);
    return (joined >> 1) ^ ((0u - (joined & 1)) & 0x9908b0dfu);
}

static void OF_ISA(renew)(uint32_t *state) {
    const int whole = TWISTER_WORDS - TWISTER_DISTANCE;
    for (int i = 0; i < whole; i++) state[i] = state[i + TWISTER_DISTANCE] ^ OF_ISA(twisted)(state[i], state[i + 1]);
    for (int i = whole; i < TWISTER_WORDS - 1; i++) state[i] = state[i - whole] ^ OF_ISA(twisted)(state[i], state[i + 1]);
    state[TWISTER_WORDS - 1] = state[TWISTER_DISTANCE - 1] ^ OF_ISA(twisted)(state[TWISTER_WORDS - 1], state[0]);
}

/* Draws at most `count` words; how many. */
static int64_t OF_ISA(draw)(const struct bit_generator *source, uint32_t *twister, int64_t count, uint32_t *drawn) {
    if (twister == NULL) {
        if (count > TWISTER_WORDS) count = TWISTER_WORDS;
        for (int64_t i = 0; i < count; i++) drawn[i] = source->next_uint32(source->state);
        return count;
    }
    if (twister[TWISTER_WORDS] >= TWISTER_WORDS) {
        OF_ISA(renew)(twister);
        twister[TWISTER_WORDS] = 0;
    }
    const uint32_t *state = twister + twister[TWISTER_WORDS];
    const int64_t left = TWISTER_WORDS - (int64_t)twister[TWISTER_WORDS];
    if (count > left) count = left;
    for (int64_t i = 0; i < count; i++) {
        uint32_t word = state[i];
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c5680u;
        word ^= word << 15 & 0xefc60000u;
        drawn[i] = word ^ word >> 18;
    }
    twister[TWISTER_WORDS] += (uint32_t)count;
    return count;
}

#ifdef PICK_WORDS
typedef uint32_t OF_ISA(words) __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t OF_ISA(loose_words) __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
enum { OF_ISA(WORDS) = VECTOR_BYTES / 4, OF_ISA(PICKED) = 2 };

/* Leaves at the front of `drawn` the places that count, in their order: not above `last`, less one for each before; how
 * many.  Of the words of two vectors at most 31 have come before one of them, so most are certain to count or not, and few
 * must be looked at one by one. */
static int64_t OF_ISA(pick)(uint32_t *drawn, int64_t count, uint32_t mask, uint32_t last) {
    const int lanes = OF_ISA(WORDS), at_once = OF_ISA(PICKED) * OF_ISA(WORDS);
    OF_ISA(words) numbers;
    for (int i = 0; i < lanes; i++) numbers[i] = (uint32_t)i;
    uint32_t picked = 0;
    int64_t i = 0;
    for (; i + at_once <= count && last - picked >= (uint32_t)at_once; i += at_once) {
        const uint32_t bound = last - picked;
        OF_ISA(words) places[OF_ISA(PICKED)];
        uint64_t counts = 0, may_count = 0;
        for (int v = 0; v < OF_ISA(PICKED); v++) {
            places[v] = *(const OF_ISA(loose_words) *)(drawn + i + v * lanes) & mask;
            counts |= (uint64_t)WORDS_AT_MOST(places[v], bound - (uint32_t)(v * lanes) - numbers) << (v * lanes);
            may_count |= (uint64_t)WORDS_AT_MOST(places[v], bound - (OF_ISA(words)){0}) << (v * lanes);
        }
        for (uint64_t unsure = may_count & ~counts; unsure != 0; unsure &= unsure - 1) {
            const int at = __builtin_ctzll(unsure);
            const uint32_t before = (uint32_t)__builtin_popcountll(counts & (((uint64_t)1 << at) - 1));
            counts |= (uint64_t)((drawn[i + at] & mask) + before <= bound) << at;
        }
        for (int v = 0; v < OF_ISA(PICKED); v++) {
            const uint64_t these = counts >> (v * lanes) & (((uint64_t)1 << lanes) - 1);
            PICK_WORDS(drawn + picked, these, places[v]);
            picked += (uint32_t)__builtin_popcountll(these);
        }
    }
    for (; i < count; i++) {
        const uint32_t place = drawn[i] & mask;
        drawn[picked] = place;
        picked += place <= last - picked;
    }
    return picked;
}
#endif

/* Trades rows from i on downwards by so many draws, masked; the row that the next draw is for. */
ALWAYS_INLINE int64_t OF_ISA(trade)(int64_t *order, int64_t i, uint32_t *drawn, int64_t count, uint32_t mask) {
#ifdef PICK_WORDS
    count = OF_ISA(pick)(drawn, count, mask, (uint32_t)i);
    for (int64_t n = 0; n < count; n++, i--) {
        const int64_t other = drawn[n], row = order[i];
        order[i] = order[other];
        order[other] = row;
    }
#else
    for (int64_t n = 0; n < count; n++) {
        const int64_t place = drawn[n] & mask;
        const int64_t counts = place <= i;
        const int64_t other = counts ? place : i;
        const int64_t row = order[i];
        order[i] = order[other];
        order[other] = row;
        i -= counts;
    }
#endif
    return i;
}

static void OF_ISA(shuffle)(const struct bit_generator *source, uint32_t *twister, int64_t *order, int64_t first,
                            int64_t last) {
    uint32_t drawn[TWISTER_WORDS];
    const int64_t end = first > 0 ? first - 1 : 0;
    int64_t i = last - 1;
    while (i > end) {
        const uint32_t mask = UINT32_MAX >> __builtin_clz((uint32_t)i);
        const int64_t next_shorter = mask >> 1, stop = next_shorter > end ? next_shorter : end;
        while (i > stop) i = OF_ISA(trade)(order, i, drawn, OF_ISA(draw)(source, twister, i - stop, drawn), mask);
    }
}
