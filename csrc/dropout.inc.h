/* dropout.inc.h: the layer kind "dropout": in training, units become 0 with a probability, and the others grow by as much as
 * is lost.
 *
 * Which ones is a function of the network's seed, the step, the layer's number, the row's place in the batch and the unit,
 * by the counter-based generator Philox4x32-10 (Salmon, Moraes, Dror and Shaw, 2011; pymlp/philox.py is its definition).  So
 * the mask is drawn again on the way back instead of being stored, and is the same for every backend.
 */

/* lanes of 64 bits, in which words of 32 bits are multiplied; counters of a band, each of which gives 4 words */
enum { NAME(WORD_LANES) = VECTOR_BYTES / 8, NAME(BAND_COUNTERS) = BAND / 4, NAME(ROUNDS) = 10 };
typedef uint64_t NAME(words) __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t NAME(signed_words) __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t NAME(flags) __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

/* What all masks of a layer in a step have in common. */
struct NAME(mask) {
    uint64_t keys[NAME(ROUNDS)][2], step, tail;
    int64_t threshold; /* the least word at which a unit is kept */
};

static struct NAME(mask) NAME(mask_of)(const struct NAME(strip) *strip) {
    const uint64_t step = (uint64_t)strip->step, number = (uint64_t)strip->layer->output_buffer - 1;
    struct NAME(mask) mask = {.step = step, .tail = number | step >> 32 << 16};
    uint32_t first = (uint32_t)strip->plan->seed, second = (uint32_t)(strip->plan->seed >> 32);
    for (int round = 0; round < NAME(ROUNDS); round++, first += 0x9E3779B9u, second += 0xBB67AE85u) {
        mask.keys[round][0] = first;
        mask.keys[round][1] = second;
    }
    mask.threshold = (int64_t)(strip->layer->setting * 4294967296.0 + 0.5);
    return mask;
}

/* keep[unit] becomes -1 or 0 for the BAND units from `unit` on. */
ALWAYS_INLINE void NAME(draw_band)(const struct NAME(mask) *mask, int64_t unit, int64_t row, int32_t *keep) {
    const NAME(words) low = 0xFFFFFFFFu + (NAME(words)){0};
    NAME(words) lanes;
#pragma GCC unroll 8
    for (int lane = 0; lane < NAME(WORD_LANES); lane++) lanes[lane] = (uint64_t)lane;
#pragma GCC unroll 4
    for (int part = 0; part < NAME(BAND_COUNTERS); part += NAME(WORD_LANES)) {
        NAME(words) word[4] = {(uint64_t)(unit / 4 + part) + lanes, (uint64_t)row + (NAME(words)){0},
                               mask->step + (NAME(words)){0}, mask->tail + (NAME(words)){0}};
        /* what the upper halves of the lanes hold, no product sees */
#pragma GCC unroll 10
        for (int round = 0; round < NAME(ROUNDS); round++) {
            const NAME(words) left = (NAME(words))WIDE_PRODUCT(word[0], 0xD2511F53u + (NAME(words)){0});
            const NAME(words) right = (NAME(words))WIDE_PRODUCT(word[2], 0xCD9E8D57u + (NAME(words)){0});
            word[0] = (right >> 32) ^ word[1] ^ mask->keys[round][0];
            word[1] = right;
            word[2] = (left >> 32) ^ word[3] ^ mask->keys[round][1];
            word[3] = left;
        }
        NAME(words) kept[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            kept[i] = (NAME(words))((NAME(signed_words))(word[i] & low) >= mask->threshold + (NAME(signed_words)){0});
        const NAME(words) first = (kept[0] & low) | kept[1] << 32, second = (kept[2] & low) | kept[3] << 32;
        uint64_t pairs[2 * NAME(WORD_LANES)];
        for (int lane = 0; lane < NAME(WORD_LANES); lane++) {
            pairs[2 * lane] = first[lane];
            pairs[2 * lane + 1] = second[lane];
        }
        memcpy(keep + 4 * part, pairs, sizeof pairs);
    }
}

/* `from` through the mask, into `to` or added to what is there. */
static void NAME(pass_mask)(const struct NAME(strip) *strip, const REAL *from, int64_t from_band, REAL *to,
                            int64_t to_band, bool adds) {
    const struct layer *layer = strip->layer;
    const bool masks = strip->step >= 0;
    const struct NAME(mask) mask = NAME(mask_of)(strip);
    const VECTOR scale = NAME(splat)((REAL)(1 / (1 - layer->setting)));
    for (int64_t column = 0; column < layer->outputs; column += BAND, from += from_band, to += to_band) {
        const int64_t width = NAME(band_width)(layer->outputs, column);
        for (int64_t row = 0; row < strip->rows; row++) {
            const REAL *x = from + row * BAND;
            REAL *y = to + row * BAND;
            int32_t keep[BAND] __attribute__((aligned(64)));
            if (masks) NAME(draw_band)(&mask, column, strip->first_row + row, keep);
            for (int64_t i = 0; i < width; i += LANES) {
                VECTOR value = NAME(load)(x + i);
                if (masks) {
                    const INTEGERS kept = __builtin_convertvector(*(const NAME(flags) *)(keep + i), INTEGERS);
                    value = NAME(select)(kept, value * scale, ZERO);
                }
                NAME(give)(y + i, value, adds);
            }
        }
    }
}

static void NAME(dropout_forward)(const struct NAME(strip) *strip) {
    NAME(pass_mask)(strip, strip->in, strip->in_band, strip->a, strip->band, false);
}

static void NAME(dropout_backward)(const struct NAME(strip) *strip) {
    if (strip->in_deltas == NULL) return;
    NAME(pass_mask)(strip, strip->deltas, strip->band, strip->in_deltas, strip->in_band,
                    strip->layer->flags & ADDS_INTO_DELTAS);
}
