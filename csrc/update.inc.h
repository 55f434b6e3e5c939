/* update.inc.h: from gradient sums to new parameters: the penalties' part of a gradient, and the optimizers.
 *
 * An optimizer NAME is step_NAME(rule, w, g, s, t), the new parameter of a vector of them; s and t are its slots.
 *
 * A square root and a division take a core some 20 cycles a vector, and the parameters and slots of a large network come
 * from a third-level cache.  Products need neither the divider nor the memory.  So the update of one unit waits for the
 * product of the next: its rows ask for the same rows of the unit after, and where the registers suffice it is woven into
 * the product, a row between two short runs of depth.
 */

/* numbers in a row of a panel of parameters: as wide as the micro-kernel's tile */
#define PANEL (TILE_VECTORS * LANES)

/* An optimizer's constants for one step, a number in every lane; what a, b, c mean is said beside their use. */
struct NAME(rule) {
    int kind;
    bool nesterov;
    VECTOR size, decay, a, b, c, d, e;
};

static struct NAME(rule) NAME(rule_of)(const pymlp_optimizer *optimizer, const double *coefficients) {
    const double *p = optimizer->parameters;
    struct NAME(rule) rule = {.kind = optimizer->kind};
    rule.size = NAME(splat)((REAL)coefficients[0]);
    rule.decay = NAME(splat)((REAL)coefficients[1]);
    rule.a = NAME(splat)((REAL)p[0]);
    if (optimizer->kind == OPTIMIZER_sgd) {
        rule.nesterov = p[1] != 0;
    } else {
        rule.b = NAME(splat)((REAL)(1 - p[0]));
        rule.c = NAME(splat)((REAL)p[1]);
        rule.d = NAME(splat)((REAL)(1 - p[1]));
        rule.e = NAME(splat)((REAL)p[2]);
    }
    return rule;
}

/* a: momentum; s: velocity */
ALWAYS_INLINE VECTOR NAME(step_sgd)(const struct NAME(rule) *rule, VECTOR w, VECTOR g, VECTOR *s, VECTOR *t) {
    *s = FMA(-rule->size, g, rule->a * *s);
    return w + (rule->nesterov ? FMA(-rule->size, g, rule->a * *s) : *s);
}

/* a, b: beta_1, 1 - beta_1; c, d: beta_2, 1 - beta_2; e: epsilon; s, t: first and second moment */
ALWAYS_INLINE VECTOR NAME(step_adam)(const struct NAME(rule) *rule, VECTOR w, VECTOR g, VECTOR *s, VECTOR *t) {
    *s = FMA(rule->a, *s, rule->b * g);
    *t = FMA(rule->c, *t, rule->d * g * g);
    return w - rule->size * *s / (SQRT(*t) + rule->e);
}

ALWAYS_INLINE VECTOR NAME(step_adamw)(const struct NAME(rule) *rule, VECTOR w, VECTOR g, VECTOR *s, VECTOR *t) {
    return NAME(step_adam)(rule, FMA(-rule->decay, w, w), g, s, t);
}

/* In place on `count` parameters, a multiple of LANES. */
static void NAME(optimize)(const struct NAME(rule) *rule, int64_t count, REAL *w, const REAL *g, REAL *s, REAL *t) {
    const struct NAME(rule) local = *rule;
    switch (local.kind) {
#define OPTIMIZER_CASE(name, n_slots)                                                  \
    case OPTIMIZER_##name:                                                             \
        for (int64_t i = 0; i < count; i += LANES) {                                   \
            VECTOR first = NAME(load)(s + i), second = ZERO;                           \
            if (n_slots > 1) second = NAME(load)(t + i);                               \
            VECTOR new = NAME(step_##name)(&local, NAME(load)(w + i), NAME(load)(g + i), &first, &second); \
            NAME(store)(w + i, new);                                                   \
            NAME(store)(s + i, first);                                                 \
            if (n_slots > 1) NAME(store)(t + i, second);                               \
        }                                                                              \
        break;
        OPTIMIZER_ROWS(OPTIMIZER_CASE)
#undef OPTIMIZER_CASE
    }
}

/* What phase 2 does with the gradient sums of a block. */
struct NAME(gradient_job) {
    int64_t rows;         /* of the block */
    bool first, last;     /* block of the batch */
    bool penalised;       /* add the penalties' gradient and record their sums */
    REAL l1, l2, inverse; /* inverse of the batch's weight sum */
    REAL *gradient;       /* flat vector to write; NULL: take an optimizer step instead */
    struct NAME(rule) rule, bias_rule;
};

/* A unit of phase 2: `inputs` inputs from `input`, and one panel of outputs, `columns` of them */
struct NAME(unit) {
    const struct layer *layer;
    int64_t input, inputs, column, columns;
    int64_t place; /* of its first number in the packed arrays */
};

/* A unit whose gradient sums are complete, and how far its update has come. */
struct NAME(pending) {
    const struct NAME(gradient_job) *job;
    struct NAME(unit) unit;
    int64_t rows;          /* that are left */
    int64_t run, pace;     /* after so much depth of a product, so many rows are updated */
    int64_t width, stride; /* numbers of a row, whole vectors; numbers from row to row */
    REAL *w, *s, *t;       /* the first row */
    const REAL *g;
    int64_t done;          /* numbers from the first row to the next to be updated */
    int64_t ahead;         /* from a row to the same row of the unit after */
    const REAL *turned;    /* where the transpose will be written; without one, any place */
    int turn;              /* which of the sums the next unit may use */
    REAL squares[PANEL], absolutes[PANEL]; /* of the parameters, by column: the penalties' sums */
    REAL sums[2][UNIT_INPUTS * PANEL] __attribute__((aligned(64)));
};

/* The gradient's final value from its sum; square and absolute: the penalties' sums so far */
ALWAYS_INLINE VECTOR NAME(finished)(const struct NAME(gradient_job) *job, VECTOR w, VECTOR g, VECTOR *square,
                                    VECTOR *absolute) {
    if (job->penalised) {
        *square = FMA(w, w, *square);
        g = FMA(NAME(splat)(job->l2), w, g);
        if (job->l1 != 0) {
            *absolute = *absolute + NAME(absolute)(w);
            g = g + NAME(select)(w == ZERO, ZERO, NAME(with_sign)(NAME(splat)(job->l1), w));
        }
    }
    return g * NAME(splat)(job->inverse);
}

/* Updates the next `count` rows, or what is left. */
ALWAYS_INLINE void NAME(update_rows)(struct NAME(pending) *pending, int64_t count) {
    const struct NAME(gradient_job) *job = pending->job;
    const struct NAME(rule) *rule = &job->rule;
    const int64_t stride = pending->stride, ahead = pending->ahead;
    if (count > pending->rows) count = pending->rows;
    pending->rows -= count;
    const int64_t from = pending->done, to = from + count * stride;
    pending->done = to;
    /* column by column, so that the penalties' sums stay in registers */
    for (int64_t column = 0; column < pending->width; column += LANES) {
        REAL *w = pending->w + column, *s = pending->s + column, *t = pending->t + column;
        const REAL *g = pending->g + column, *turned = pending->turned + column;
        VECTOR square = NAME(load)(pending->squares + column), absolute = NAME(load)(pending->absolutes + column);
        switch (rule->kind) {
#define UPDATE_CASE(name, n_slots)                                                              \
    case OPTIMIZER_##name:                                                                      \
        for (int64_t i = from; i < to; i += stride) {                                           \
            VECTOR old = NAME(load)(w + i), first = NAME(load)(s + i), second = ZERO;           \
            if (n_slots > 1) second = NAME(load)(t + i);                                        \
            __builtin_prefetch(w + ahead + i, 1, 3);                                            \
            __builtin_prefetch(s + ahead + i, 1, 3);                                            \
            if (n_slots > 1) __builtin_prefetch(t + ahead + i, 1, 3);                           \
            __builtin_prefetch(turned + i, 1, 3);                                               \
            VECTOR gradient = NAME(finished)(job, old, NAME(load)(g + i), &square, &absolute);  \
            NAME(store)(w + i, NAME(step_##name)(rule, old, gradient, &first, &second));        \
            NAME(store)(s + i, first);                                                          \
            if (n_slots > 1) NAME(store)(t + i, second);                                        \
        }                                                                                       \
        break;
            OPTIMIZER_ROWS(UPDATE_CASE)
#undef UPDATE_CASE
        }
        NAME(store)(pending->squares + column, square);
        NAME(store)(pending->absolutes + column, absolute);
    }
}
