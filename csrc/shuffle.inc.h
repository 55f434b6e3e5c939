/* shuffle.inc.h: the order of an epoch, drawn as NumPy's RandomState.shuffle draws it: the same numbers, the same swaps.
 *
 * Fisher and Yates from the end: row i trades places with a row drawn from 0 .. i, by masking 32 random bits to the
 * length of i and drawing again while the result exceeds i.  As many rows take at least as many draws, so those are made
 * in one go; the generator itself would take two thirds of the time if asked for one word at a time, so the usual one,
 * the Mersenne Twister, is advanced here, 624 words at once.
 *
 * Whether a draw counts is as good as a coin's toss, so it is no branch here.  Where the instruction set can pick words
 * out of a vector, the draws that count are picked out first, two vectors at once, and then only swaps are left: an eighth
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

/* Words that have been drawn, those from `at` to `end` not yet used. */
struct OF_ISA(supply) {
    const struct bit_generator *source;
    uint32_t *twister;
    int64_t at, end;
    uint32_t words[TWISTER_WORDS];
};

/* Draws more words, once all are used: at most `needed` where they could not be given back.  The twister's are there in
 * any case, so all of them are made ready; how many of them count as drawn is written where the shuffle ends. */
static void OF_ISA(restock)(struct OF_ISA(supply) *supply, int64_t needed) {
    uint32_t *const twister = supply->twister, *const words = supply->words;
    if (twister == NULL) {
        supply->at = 0;
        supply->end = needed < TWISTER_WORDS ? needed : TWISTER_WORDS;
        for (int64_t i = 0; i < supply->end; i++) words[i] = supply->source->next_uint32(supply->source->state);
        return;
    }
    if (supply->at >= TWISTER_WORDS) {
        OF_ISA(renew)(twister);
        supply->at = 0;
    }
    supply->end = TWISTER_WORDS;
    for (int64_t i = supply->at; i < TWISTER_WORDS; i++) {
        uint32_t word = twister[i];
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c5680u;
        word ^= word << 15 & 0xefc60000u;
        words[i] = word ^ word >> 18;
    }
}

/* Rows i and `other` trade places. */
ALWAYS_INLINE void OF_ISA(swap)(int64_t *order, int64_t i, int64_t other) {
    const int64_t row = order[i];
    order[i] = order[other];
    order[other] = row;
}

#ifdef PICK_WORDS
typedef uint32_t OF_ISA(words) __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t OF_ISA(loose_words) __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
/* vectors at once; and trades for each two, of which there are as good as always so many to make: to find what counts among
 * the next words is a chain of steps that takes as long as they do, at the same time.  A number that changed would be
 * guessed wrong. */
enum { OF_ISA(WORDS) = VECTOR_BYTES / 4, OF_ISA(PICKED) = 2, OF_ISA(TRADED) = OF_ISA(WORDS) };

/* Trades rows from i on downwards, as far as the words drawn go and at most to `stop`; the row to go on from.
 *
 * The places that count, which are not above i less one for each before, move to the front of the words, which are thereby
 * used.  Of the words of two vectors at most 31 have come before one of them, so most are certain to count or not, and few
 * must be looked at one by one. */
static int64_t OF_ISA(trade)(int64_t *order, int64_t i, int64_t stop, struct OF_ISA(supply) *supply, uint32_t mask) {
    const int lanes = OF_ISA(WORDS), at_once = OF_ISA(PICKED) * OF_ISA(WORDS);
    uint32_t *const drawn = supply->words + supply->at;
    const int64_t count = supply->end - supply->at, rows = i - stop;
    OF_ISA(words) numbers;
    for (int n = 0; n < lanes; n++) numbers[n] = (uint32_t)n;
    const uint32_t last = (uint32_t)i;
    uint32_t picked = 0, traded = 0;
    int64_t used = 0;
    for (; used + at_once <= count && rows - picked >= at_once; used += at_once) {
        const uint32_t bound = last - picked;
        OF_ISA(words) places[OF_ISA(PICKED)];
        uint64_t counts = 0, may_count = 0;
        for (int v = 0; v < OF_ISA(PICKED); v++) {
            places[v] = *(const OF_ISA(loose_words) *)(drawn + used + v * lanes) & mask;
            counts |= (uint64_t)WORDS_AT_MOST(places[v], bound - (uint32_t)(v * lanes) - numbers) << (v * lanes);
            may_count |= (uint64_t)WORDS_AT_MOST(places[v], bound - (OF_ISA(words)){0}) << (v * lanes);
        }
        for (uint64_t unsure = may_count & ~counts; unsure != 0; unsure &= unsure - 1) {
            const int at = __builtin_ctzll(unsure);
            const uint32_t before = (uint32_t)__builtin_popcountll(counts & (((uint64_t)1 << at) - 1));
            counts |= (uint64_t)((drawn[used + at] & mask) + before <= bound) << at;
        }
        for (int v = 0; v < OF_ISA(PICKED); v++) {
            const uint64_t these = counts >> (v * lanes) & (((uint64_t)1 << lanes) - 1);
            PICK_WORDS(drawn + picked, these, places[v]);
            picked += (uint32_t)__builtin_popcountll(these);
        }
        if (picked - traded < OF_ISA(TRADED)) continue;
        const uint32_t *const others = drawn + traded;
        const int64_t from = i - traded;
#pragma GCC unroll 16
        for (int n = 0; n < OF_ISA(TRADED); n++) OF_ISA(swap)(order, from - n, others[n]);
        traded += OF_ISA(TRADED);
    }
    for (; used < count && picked < rows; used++) {
        const uint32_t place = drawn[used] & mask;
        drawn[picked] = place;
        picked += place <= last - picked;
    }
    supply->at += used;
    for (; traded < picked; traded++) OF_ISA(swap)(order, i - traded, drawn[traded]);
    return i - picked;
}
#else
/* Trades rows from i on downwards, as far as the words drawn go and at most to `stop`; the row to go on from. */
ALWAYS_INLINE int64_t OF_ISA(trade)(int64_t *order, int64_t i, int64_t stop, struct OF_ISA(supply) *supply, uint32_t mask) {
    const uint32_t *const drawn = supply->words + supply->at;
    /* as many rows take at least as many words, so these are all used */
    const int64_t left = supply->end - supply->at, count = left < i - stop ? left : i - stop;
    for (int64_t n = 0; n < count; n++) {
        const int64_t place = drawn[n] & mask;
        const int64_t counts = place <= i;
        OF_ISA(swap)(order, i, counts ? place : i);
        i -= counts;
    }
    supply->at += count;
    return i;
}
#endif

static void OF_ISA(shuffle)(const struct bit_generator *source, uint32_t *twister, int64_t *order, int64_t first,
                            int64_t last) {
    struct OF_ISA(supply) supply;
    supply.source = source;
    supply.twister = twister;
    supply.at = supply.end = twister == NULL ? 0 : (int64_t)twister[TWISTER_WORDS];
    const int64_t end = first > 0 ? first - 1 : 0;
    int64_t i = last - 1;
    while (i > end) {
        const uint32_t mask = UINT32_MAX >> __builtin_clz((uint32_t)i);
        const int64_t next_shorter = mask >> 1, stop = next_shorter > end ? next_shorter : end;
        while (i > stop) {
            if (supply.at == supply.end) OF_ISA(restock)(&supply, i - stop);
            i = OF_ISA(trade)(order, i, stop, &supply, mask);
        }
    }
    if (twister != NULL) twister[TWISTER_WORDS] = (uint32_t)supply.at;
}
