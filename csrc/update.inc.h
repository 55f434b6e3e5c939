/* update.inc.h: from gradient sums to new parameters: the penalties' part of a gradient, and the optimizers.
 *
 * An optimizer NAME is step_NAME(rule, w, g, s, t), the new parameter of a vector of them; s and t are its slots.  What all
 * optimizers share, clipping, decay and averages, stands around it in `optimize`.
 *
 * A square root and a division take a core some 20 cycles a vector, and the parameters and slots of a large network come
 * from a third-level cache.  Products need neither the divider nor the memory.  So the update of one unit waits for the
 * product of the next: its rows ask for the same rows of the unit after, and where the registers suffice it is woven into
 * the product, a row between two short runs of depth.  That is for the plain steps of the usual optimizers; all else is
 * updated in one go when the next product is done.
 */

/* numbers in a row of a panel of parameters: as wide as the micro-kernel's tile */
#define PANEL (TILE_VECTORS * LANES)

/* An optimizer's constants for one step; what a to e mean is said beside their use.  Vectors, a number in every lane, are
 * those of the woven steps. */
struct NAME(rule) {
    int kind;
    bool woven; /* nothing but a step of WOVEN_OPTIMIZER_ROWS: may be woven into products */
    bool nesterov, clips, scales, decays, averages;
    REAL second_size, averaging, clip, scale;
    VECTOR size, decay, a, b, c, d, e;
};

static struct NAME(rule) NAME(rule_of)(const pymlp_optimizer *optimizer, const double *coefficients) {
    const double *p = optimizer->parameters;
    struct NAME(rule) rule = {.kind = optimizer->kind};
    /* adamw's step contains the decay */
    if (rule.kind == OPTIMIZER_adam && coefficients[DECAY] != 0) rule.kind = OPTIMIZER_adamw;
    rule.decays = rule.kind != OPTIMIZER_adamw && coefficients[DECAY] != 0;
    rule.clips = optimizer->clip_value != 0;
    rule.averages = optimizer->averages != 0;
    rule.woven = rule.kind <= OPTIMIZER_adamw && !rule.decays && !rule.clips && !rule.averages;
    rule.size = NAME(splat)((REAL)coefficients[SIZE]);
    rule.second_size = (REAL)coefficients[SECOND_SIZE];
    rule.decay = NAME(splat)((REAL)coefficients[DECAY]);
    rule.averaging = (REAL)coefficients[AVERAGING];
    rule.clip = (REAL)optimizer->clip_value;
    rule.a = NAME(splat)((REAL)p[0]);
    rule.b = NAME(splat)((REAL)(1 - p[0]));
    rule.c = NAME(splat)((REAL)p[1]);
    rule.d = NAME(splat)((REAL)(1 - p[1]));
    rule.e = NAME(splat)((REAL)p[2]);
    if (rule.kind == OPTIMIZER_sgd) rule.nesterov = p[1] != 0;
    if (rule.kind == OPTIMIZER_rprop) {
        rule.b = NAME(splat)((REAL)p[1]);
        rule.c = NAME(splat)((REAL)p[2]);
        rule.d = NAME(splat)((REAL)p[3]);
    }
    return rule;
}

/* Makes it the rule of parameters that are no weights: decay spares them. */
static void NAME(spare)(struct NAME(rule) *rule) {
    rule->decay = ZERO;
    rule->decays = false;
}

/* The rule for a layer's weights: where a largest norm is kept, the average waits for it (max_norm.inc.h). */
static struct NAME(rule) NAME(rule_for)(const struct layer *layer, const struct NAME(rule) *rule) {
    struct NAME(rule) found = *rule;
    found.averages = rule->averages && layer->max_norm == 0;
    return found;
}

/* a: momentum; s: velocity */
ALWAYS_INLINE VECTOR NAME(step_sgd)(const struct NAME(rule) *rule, VECTOR w, VECTOR g, VECTOR *s, UNREAD VECTOR *t) {
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

/* as adam's */
ALWAYS_INLINE VECTOR NAME(step_nadam)(const struct NAME(rule) *rule, VECTOR w, VECTOR g, VECTOR *s, VECTOR *t) {
    *s = FMA(rule->a, *s, rule->b * g);
    *t = FMA(rule->c, *t, rule->d * g * g);
    return w - FMA(NAME(splat)(rule->second_size), g, rule->size * *s) / (SQRT(*t) + rule->e);
}

/* a, b: rho, 1 - rho; c: momentum; e: epsilon; s: velocity; t: second moment */
ALWAYS_INLINE VECTOR NAME(step_rmsprop)(const struct NAME(rule) *rule, VECTOR w, VECTOR g, VECTOR *s, VECTOR *t) {
    *t = FMA(rule->a, *t, rule->b * g * g);
    *s = FMA(rule->c, *s, rule->size * g / (SQRT(*t) + rule->e));
    return w - *s;
}

/* a, b: beta_1, 1 - beta_1; c, d: beta_2, 1 - beta_2; s: momentum */
ALWAYS_INLINE VECTOR NAME(step_lion)(const struct NAME(rule) *rule, VECTOR w, VECTOR g, VECTOR *s, UNREAD VECTOR *t) {
    VECTOR direction = NAME(sign)(FMA(rule->a, *s, rule->b * g));
    *s = FMA(rule->c, *s, rule->d * g);
    return FMA(-rule->size, direction, w);
}

/* a, b: what shortens and lengthens a step; c, d: the shortest and the longest; s: gradient before; t: length of the step, 0
 * before the first */
ALWAYS_INLINE VECTOR NAME(step_rprop)(const struct NAME(rule) *rule, VECTOR w, VECTOR g, VECTOR *s, VECTOR *t) {
    VECTOR agreement = NAME(sign)(*s) * NAME(sign)(g);
    VECTOR longer = NAME(smaller)(*t * rule->b, rule->d), shorter = NAME(larger)(*t * rule->a, rule->c);
    VECTOR length = NAME(select)(agreement > ZERO, longer, NAME(select)(agreement < ZERO, shorter, *t));
    *t = NAME(select)(*t == ZERO, rule->size, length);
    *s = NAME(select)(agreement < ZERO, ZERO, g);
    return FMA(-NAME(sign)(*s), *t, w);
}

ALWAYS_INLINE VECTOR NAME(clipped)(const struct NAME(rule) *rule, VECTOR g) {
    if (rule->clips) g = NAME(at_least)(NAME(at_most)(g, rule->clip), -rule->clip);
    return rule->scales ? g * NAME(splat)(rule->scale) : g;
}

/* The averages of `count` parameters, whole vectors, take them in. */
static void NAME(average)(const struct NAME(rule) *rule, int64_t count, const REAL *w, REAL *averages) {
    for (int64_t i = 0; i < count; i += LANES) {
        const VECTOR average = NAME(load)(averages + i);
        NAME(store)(averages + i, FMA(NAME(splat)(rule->averaging), NAME(load)(w + i) - average, average));
    }
}

/* In place on rows of `width` parameters, whole vectors, `stride` apart; slots[i] lies like w. */
static void NAME(optimize)(const struct NAME(rule) *rule, int64_t rows, int64_t width, int64_t stride, REAL *w,
                           const REAL *g, REAL *const *slots) {
    const struct NAME(rule) local = *rule;
    REAL *s = slots[0], *t = slots[1];
    switch (local.kind) {
#define OPTIMIZER_CASE(name, n_slots)                                                                     \
    case OPTIMIZER_##name:                                                                                \
        for (int64_t row = 0; row < rows; row++)                                                          \
            for (int64_t i = row * stride; i < row * stride + width; i += LANES) {                        \
                VECTOR old = NAME(load)(w + i), first = NAME(load)(s + i), second = ZERO;                 \
                if (n_slots > 1) second = NAME(load)(t + i);                                              \
                if (local.decays) old = FMA(-local.decay, old, old);                                      \
                VECTOR gradient = NAME(clipped)(&local, NAME(load)(g + i));                               \
                VECTOR new = NAME(step_##name)(&local, old, gradient, &first, &second);                   \
                NAME(store)(w + i, new);                                                                  \
                NAME(store)(s + i, first);                                                                \
                if (n_slots > 1) NAME(store)(t + i, second);                                              \
                if (local.averages) {                                                                     \
                    VECTOR average = NAME(load)(slots[n_slots] + i);                                      \
                    NAME(store)(slots[n_slots] + i, FMA(NAME(splat)(local.averaging), new - average, average)); \
                }                                                                                         \
            }                                                                                             \
        break;
        OPTIMIZER_ROWS(OPTIMIZER_CASE)
#undef OPTIMIZER_CASE
    }
}

/* Sum of squares of `count` numbers of the gradient, clipped by value where `clip` is not infinite: 16 chains in double,
 * whatever the vectors, then a fixed tree. */
static double NAME(sum_of_squares)(int64_t count, const REAL *g, REAL clip) {
    enum { CHAINS = 16 };
    double sums[CHAINS] = {0};
    REAL rest[CHAINS] = {0};
    const int64_t whole = count / CHAINS * CHAINS;
    if (whole < count) memcpy(rest, g + whole, (size_t)(count - whole) * sizeof(REAL));
    for (int64_t start = 0; start < count; start += CHAINS) {
        const REAL *numbers = start < whole ? g + start : rest;
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++) {
            REAL x = numbers[i] > clip ? clip : numbers[i];
            x = x < -clip ? -clip : x;
            sums[i] += (double)x * (double)x;
        }
    }
    for (int half = CHAINS / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) sums[i] += sums[i + half];
    return sums[0];
}

/* The sums of squares of the gradient's chunks of which this thread has its share */
static void NAME(square_chunks)(const pymlp_plan *plan, const REAL *gradient, double clip_value, int index, int members) {
    const int64_t chunks = (plan->n_parameters + NORM_CHUNK - 1) / NORM_CHUNK;
    const REAL clip = clip_value != 0 ? (REAL)clip_value : INFINITY_;
    for (int64_t chunk = chunks * index / members; chunk < chunks * (index + 1) / members; chunk++) {
        const int64_t start = chunk * NORM_CHUNK, left = plan->n_parameters - start;
        plan->squares[chunk] =
            NAME(sum_of_squares)(left < NORM_CHUNK ? left : NORM_CHUNK, gradient + start, clip);
    }
}

/* With the sums of all chunks, sets the factor that brings the gradient's norm down to the largest allowed. */
static void NAME(limit_norm)(const pymlp_plan *plan, double clip_norm, struct NAME(rule) *rule) {
    const int64_t chunks = (plan->n_parameters + NORM_CHUNK - 1) / NORM_CHUNK;
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) sum += plan->squares[chunk];
    const double norm = ROOT(sum);
    rule->scales = norm > clip_norm;
    rule->woven = rule->woven && !rule->scales;
    rule->scale = (REAL)(clip_norm / norm);
}

/* What phase 2 does with the gradient sums of a block. */
struct NAME(gradient_job) {
    int64_t rows;         /* of the block */
    bool first, last;     /* block of the batch */
    bool penalised;       /* add the penalties' gradient and record their sums */
    REAL l1, l2, inverse; /* inverse of the batch's weight sum */
    REAL *gradient;       /* flat vector to write; NULL: take an optimizer step instead */
    const REAL *given;    /* flat: the gradient, known already; the batch is not asked for it.  NULL: it is */
    struct NAME(rule) rule, bias_rule;
};

/* A unit of phase 2: `inputs` inputs from `input`, and one panel of outputs, `columns` of them */
struct NAME(unit) {
    const struct layer *layer;
    int64_t input, inputs, column, columns;
    int64_t place; /* of its first number in the packed arrays */
    int64_t turn, turns; /* of the groups of inputs that its panel meets one after the other, this is so many-th of so many */
    int64_t panel;       /* of those that the same groups of inputs meet, the last first */
};

/* A unit whose gradient sums are complete, and how far its update has come. */
struct NAME(pending) {
    const struct NAME(gradient_job) *job;
    struct NAME(unit) unit;
    int64_t rows;          /* that are left */
    int64_t run, pace;     /* after so much depth of a product, so many rows are updated */
    int64_t width, stride; /* numbers of a row, whole vectors; numbers from row to row */
    REAL *w, *s, *t, *g;   /* the first row */
    int64_t done;          /* numbers from the first row to the next to be updated */
    int64_t ahead;         /* from a row to the same row of the unit after */
    const REAL *turned;    /* where the transpose will be written, a panel of inputs after the other; without one, any place */
    int64_t turned_gap;    /* from the end of the unit's part of such a panel to its part of the next */
    int turn;              /* which of the sums the next unit may use */
    VECTOR squares[TILE_VECTORS], absolutes[TILE_VECTORS]; /* of the parameters, by column: the penalties' sums */
    REAL sums[2][UNIT_INPUTS * PANEL] __attribute__((aligned(64)));
};

/* What is woven into a product: an optimizer's steps, with penalties or not */
#define WOVEN_AS(optimizer, penalised) (2 * (optimizer) + (penalised))
#define NOTHING_WOVEN WOVEN_AS(N_OPTIMIZERS, 0)

/* The gradient's final value from its sum; square and absolute: the penalties' sums so far */
ALWAYS_INLINE VECTOR NAME(finished)(const struct NAME(gradient_job) *job, const bool penalised, VECTOR w, VECTOR g,
                                    VECTOR *square, VECTOR *absolute) {
    if (penalised) {
        *square = FMA(w, w, *square);
        g = FMA(NAME(splat)(job->l2), w, g);
        if (job->l1 != 0) {
            *absolute = *absolute + NAME(absolute)(w);
            g = g + NAME(select)(w == ZERO, ZERO, NAME(with_sign)(NAME(splat)(job->l1), w));
        }
    }
    return g * NAME(splat)(job->inverse);
}

/* Updates the next row.  The compiler knows the optimizer, and if there are penalties: where ways part, a product that this is
 * woven into would have to shift its sums from register to register. */
ALWAYS_INLINE void NAME(update_row)(struct NAME(pending) *pending, const int optimizer, const bool penalised) {
    const struct NAME(gradient_job) *job = pending->job;
    const struct NAME(rule) *rule = &job->rule;
    const int64_t start = pending->done, width = pending->width, ahead = pending->ahead;
    REAL *const w = pending->w + start, *const s = pending->s + start, *const t = pending->t + start;
    const REAL *const g = pending->g + start, *turned = pending->turned + start;
    if (UNIT_INPUTS > PANEL) turned += (int64_t)((uint64_t)start / (PANEL * PANEL)) * pending->turned_gap;
    pending->done = start + pending->stride;
    pending->rows--;
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; v++) {
        const int i = v * LANES;
        if (i >= width) continue;
        VECTOR old = NAME(load)(w + i), first = NAME(load)(s + i), second = ZERO;
        const VECTOR gradient =
            NAME(finished)(job, penalised, old, NAME(load)(g + i), &pending->squares[v], &pending->absolutes[v]);
        __builtin_prefetch(turned + i, 1, 3);
        switch (optimizer) {
#define UPDATE_CASE(name, n_slots)                                                       \
    case OPTIMIZER_##name:                                                               \
        if (n_slots > 1) second = NAME(load)(t + i);                                     \
        __builtin_prefetch(w + ahead + i, 1, 3);                                         \
        __builtin_prefetch(s + ahead + i, 1, 3);                                         \
        if (n_slots > 1) __builtin_prefetch(t + ahead + i, 1, 3);                        \
        NAME(store)(w + i, NAME(step_##name)(rule, old, gradient, &first, &second));     \
        NAME(store)(s + i, first);                                                       \
        if (n_slots > 1) NAME(store)(t + i, second);                                     \
        break;
            WOVEN_OPTIMIZER_ROWS(UPDATE_CASE)
#undef UPDATE_CASE
        }
    }
}

/* Updates what rows are left by a woven rule. */
static void NAME(update_left)(struct NAME(pending) *pending) {
    switch (WOVEN_AS(pending->job->rule.kind, pending->job->penalised)) {
#define LEFT_CASE(name, penalised)                                                             \
    case WOVEN_AS(OPTIMIZER_##name, penalised):                                                \
        while (pending->rows > 0) NAME(update_row)(pending, OPTIMIZER_##name, penalised);      \
        break;
#define LEFT_CASES(name, n_slots) LEFT_CASE(name, 0) LEFT_CASE(name, 1)
        WOVEN_OPTIMIZER_ROWS(LEFT_CASES)
#undef LEFT_CASES
#undef LEFT_CASE
    }
}

/* Updates all rows by any rule, which nothing was woven of. */
static void NAME(update_at_once)(const pymlp_plan *plan, struct NAME(pending) *pending) {
    REAL *slots[MOST_SLOTS];
    const struct NAME(gradient_job) *job = pending->job;
    for (int64_t column = 0; column < pending->width; column += LANES) {
        VECTOR square = pending->squares[column / LANES], absolute = pending->absolutes[column / LANES];
        for (int64_t i = column; i < column + pending->rows * pending->stride; i += pending->stride)
            NAME(store)(pending->g + i, NAME(finished)(job, job->penalised, NAME(load)(pending->w + i),
                                                       NAME(load)(pending->g + i), &square, &absolute));
        pending->squares[column / LANES] = square;
        pending->absolutes[column / LANES] = absolute;
    }
    for (int i = 0; i < MOST_SLOTS; i++) slots[i] = (REAL *)plan->slots[i] + pending->unit.place;
    const struct NAME(rule) rule = NAME(rule_for)(pending->unit.layer, &pending->job->rule);
    NAME(optimize)(&rule, pending->rows, pending->width, pending->stride, pending->w, pending->g, slots);
}
