/* step.inc.h: the two phases of a training step, and the verbs of a plan.
 *
 *   phase 1   each thread carries its rows through all layers: forward, loss, deltas back to the first layer
 *   barrier
 *   phase 2   each thread takes units of weights: gradient over all rows of the block, then the optimizer in place; one that
 *             is done with its share goes on with those of others
 *   barrier
 * Two barriers at any depth, no private gradients, no reduction.  Every thread works out the same plan of steps by
 * itself; what is summed in order is summed by thread 0.  A stop is agreed on at barriers, so that none is left waiting.
 *
 * Whether a short step gains from more threads hangs on how far apart the cores are, which no table knows: on one virtual
 * machine two threads took 0.85 or 3.4 times the time of one, at different hours.  So a run of such steps tries both.
 */

static double NAME(seconds_now)(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* steps of a trial, timed in groups, of which the fastest counts; calls from one trial to the next */
enum { NAME(TRIAL_STEPS) = 24, NAME(TRIAL_GROUP) = 8, NAME(TRIAL_CALLS) = 16 };

/* What the threads of a verb share. */
struct NAME(run) {
    pymlp_plan *plan;
    const struct batch *data;
    const REAL *params;
    const pymlp_optimizer *optimizer; /* training; NULL: one batch, gradient stored */
    REAL *trained, *slots;            /* training: the flat vectors to write at the end */
    REAL *gradient, *x_gradient;
    const int64_t *starts;
    int64_t n_steps;
    const double *coefficients;
    double *losses;
    bool tries;              /* training: find out how many threads serve it best */
    double seconds;          /* of a step, in the fastest group of the steps so far */
    int members;             /* threads of the call */
    int64_t active;          /* those that take the steps after the trial */
    bool stopped;
};

/* What a unit costs, in multiply-adds of a vector for each row of the batch: its product, its update, its transpose. */
static double NAME(unit_cost)(const pymlp_plan *plan, const struct NAME(unit) *unit) {
    const double filled = unit->layer->input_buffer == 0 ? plan->filled : 1;
    const double rows = filled * (double)plan->block_rows, turning = unit->layer->flags & NEEDS_INPUT_GRADIENT ? 16 : 0;
    if (unit->layer->matrix_inputs == 0)
        return (double)(unit->layer->vectors * NAME(vectors_of)(unit->columns)) * rows;
    if (NAME(is_narrow)(unit->layer)) {
        const double numbers = (double)(unit->inputs * unit->columns) / LANES;
        return (double)(unit->columns * NAME(vectors_of)(unit->inputs)) * rows + numbers * 13 + UNIT_INPUTS * turning;
    }
    return (double)(unit->inputs * NAME(vectors_of)(unit->columns)) * (rows + 13 + turning);
}

/* Writes down the share of thread `index`: units are dealt by their cost, in their order. */
static void NAME(deal_units)(const pymlp_plan *plan, int index, int members) {
    int64_t *first = &plan->shares[index].first, *last = &plan->shares[index].last;
    *first = 0;
    *last = plan->n_units;
    if (members == 1) return;
    double total = 0, passed = 0;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) *first = *last = plan->n_units;
        for (int64_t l = 0, number = 0; l < plan->n_layers; l++)
            for (int64_t i = plan->layers[l].row_groups * plan->layers[l].panels; i > 0; i--, number++) {
                const struct NAME(unit) unit = NAME(unit_of)(&plan->layers[l], number);
                const double cost = NAME(unit_cost)(plan, &unit);
                if (pass == 0) {
                    total += cost;
                    continue;
                }
                /* a unit belongs to the thread in whose share its middle lies */
                const double middle = (passed + 0.5 * cost) * members;
                if (middle >= total * index && number < *first) *first = number;
                if (middle >= total * (index + 1)) {
                    *last = number;
                    return;
                }
                passed += cost;
            }
    }
}

static const struct layer *NAME(layer_of)(const pymlp_plan *plan, int64_t unit) {
    int64_t l = plan->n_layers - 1;
    while (plan->layers[l].first_unit > unit) l--;
    return &plan->layers[l];
}

/* The transposes of units `first` .. `last` - 1, from the packed weights */
static void NAME(transpose_weights)(const pymlp_plan *plan, int64_t first, int64_t last, bool first_layers_too) {
    for (int64_t number = first; number < last; number++) {
        if (atomic_load_explicit(&plan->stop, memory_order_relaxed)) return;
        const struct layer *layer = NAME(layer_of)(plan, number);
        if (!(layer->flags & NEEDS_INPUT_GRADIENT) && !first_layers_too) continue;
        const struct NAME(unit) unit = NAME(unit_of)(layer, number);
        NAME(transpose_unit)(plan, &unit);
    }
}

static REAL *NAME(scratch)(const pymlp_plan *plan, int index) {
    return (REAL *)((char *)plan->scratch + (size_t)index * plan->scratch_bytes);
}

/* A row of weight 0 counts as removed, whatever it holds: zeros take the place of its inputs in their bands, or what overflows
 * on the way would make NaN of a product with 0. */
static void NAME(clear_removed)(const struct batch *batch, int64_t first, int64_t rows, int64_t width, REAL *to,
                                int64_t band) {
    const REAL *weight = batch->weight;
    if (weight == NULL) return;
    for (int64_t row = 0; row < rows; row++) {
        if (weight[batch->order == NULL ? first + row : batch->order[first + row]] != 0) continue;
        for (int64_t column = 0; column < width; column += BAND)
            memset(to + row * BAND + NAME(place_of)(column, band), 0, BAND * sizeof(REAL));
    }
}

/* Asks for the targets of `rows` rows, which by their numbers may lie anywhere in memory, long before the loss reads them: of a
 * wide row the first line and the last.  Inlined: see ask_for. */
ALWAYS_INLINE void NAME(ask_for_targets)(const pymlp_plan *plan, const struct batch *batch, int64_t first, int64_t rows) {
    const int64_t columns = plan->layers[plan->n_layers - 1].outputs;
    if (batch->order == NULL || batch->output_gradient != NULL) return;
    for (int64_t row = 0; row < rows; row++) {
        const REAL *target = (const REAL *)batch->y + batch->order[first + row] * columns;
        __builtin_prefetch(target, 0, 2);
        __builtin_prefetch(target + columns - 1, 0, 2);
    }
}

/* Phase 1 for rows `row` .. `end` of the block that starts at `block` in the batch. */
static void NAME(row_phase)(const struct NAME(run) *run, const struct batch *batch, int64_t block, int64_t row,
                            int64_t end, REAL *scratch) {
    const pymlp_plan *plan = run->plan;
    const struct buffer *buffers = plan->buffers;
    const bool inputs_too = run->x_gradient != NULL, sparse = batch->columns != NULL;
    const int64_t first = row, all = end - row, strips = (all + plan->strip_rows - 1) / plan->strip_rows;
    struct NAME(strip) strip = {.plan = plan, .step = batch->step, .batch = batch};
    for (int64_t number = 0; number < strips; number++) {
        row = first + NAME(tile_start)(all, strips, number);
        int64_t rows = first + NAME(tile_start)(all, strips, number + 1) - row;
        if (!sparse) {
            REAL *inputs = (REAL *)buffers[0].outputs + row * BAND;
            NAME(rows_to_bands)(rows, buffers[0].width, batch->X, batch->order, block + row, inputs, buffers[0].band);
            NAME(clear_removed)(batch, block + row, rows, buffers[0].width, inputs, buffers[0].band);
        }
        NAME(ask_for_targets)(plan, batch, block + row, rows);
        strip.rows = rows;
        strip.batch_row = block + row;
        strip.first_row = batch->row_offset + block + row;
        for (int64_t l = 0; l < plan->n_layers; l++) {
            NAME(aim)(&strip, l, row);
            NAME(functions_of)(strip.layer, sparse)->forward(&strip);
        }
        NAME(head)(plan, batch, block, row, rows, scratch);
        for (int64_t l = plan->n_layers - 1; l >= 0; l--) {
            NAME(aim_back)(&strip, l, row, inputs_too);
            NAME(functions_of)(strip.layer, sparse)->backward(&strip);
        }
        if (inputs_too)
            NAME(bands_to_rows)(rows, buffers[0].width, (const REAL *)buffers[0].deltas + row * BAND, buffers[0].band,
                                run->x_gradient + (block + row) * buffers[0].width);
    }
}

static double NAME(weight_sum)(const struct batch *batch) {
    if (batch->weight == NULL) return (double)batch->rows;
    double sum = 0;
    for (int64_t i = 0; i < batch->rows; i++)
        sum += (double)((const REAL *)batch->weight)[batch->order == NULL ? i : batch->order[i]];
    return sum;
}

/* The unit of a share to begin next, or -1 if all have been: from the last, so that a narrow output layer's update finds products
 * to hide under, and the first layer's weights, which the next step needs first, are left in the caches. */
ALWAYS_INLINE int64_t NAME(next_unit)(struct share *share) {
    /* a look is cheaper than an exchange, and most are in vain once all threads have done their own */
    if (atomic_load_explicit(&share->taken, memory_order_relaxed) >= share->last - share->first) return -1;
    const int64_t number = share->last - 1 - atomic_fetch_add_explicit(&share->taken, 1, memory_order_relaxed);
    return number < share->first ? -1 : number;
}

/* Phase 2 for thread `index`: its own units, then what is left of others', who may share their core with other programs or
 * have further to memory.  Who computes a unit does not change its bits.  `sparse`: the batch's inputs are. */
static void NAME(unit_phase)(const pymlp_plan *plan, const struct NAME(gradient_job) *job, int index, int members,
                             bool sparse) {
    struct NAME(pending) pending;
    pending.job = NULL;
    pending.turn = 0;
    /* without a unit after, a row asks for itself */
    pending.ahead = 0;
    for (int turn = 0; turn < members; turn++) {
        struct share *share = &plan->shares[(index + turn) % members];
        for (int64_t number; (number = NAME(next_unit)(share)) >= 0;) {
            if (atomic_load_explicit(&plan->stop, memory_order_relaxed)) break;
            const struct layer *layer = NAME(layer_of)(plan, number);
            NAME(functions_of)(layer, sparse)->gradient(plan, job, layer, number, &pending);
        }
    }
    NAME(finish_update)(plan, &pending);
}

/* Both phases over all blocks of a batch; false if told to stop.  *loss, on thread 0 alone, becomes the sum of the rows'
 * losses; the penalties' sums are complete after the last barrier. */
static bool NAME(batch_phases)(const struct NAME(run) *run, const struct batch *batch, struct NAME(gradient_job) *job,
                               int index, int members, double *loss) {
    pymlp_plan *plan = run->plan;
    REAL *scratch = NAME(scratch)(plan, index);
    *loss = 0;
    for (int64_t block = 0; block < batch->rows; block += BLOCK_ROWS) {
        int64_t rows = batch->rows - block < BLOCK_ROWS ? batch->rows - block : BLOCK_ROWS;
        atomic_store_explicit(&plan->shares[index].taken, 0, memory_order_relaxed);
        NAME(row_phase)(run, batch, block, rows * index / members, rows * (index + 1) / members, scratch);
        if (batch->columns != NULL) NAME(deal_entries)(plan, batch, block, rows, index, members);
        if (pymlp_team_barrier(members, &plan->stop)) return false;
        if (index == 0 && batch->output_gradient == NULL)
            for (int64_t i = 0; i < rows; i++) *loss += (double)((const REAL *)plan->row_losses)[i];
        if (job != NULL) {
            job->rows = rows;
            job->first = block == 0;
            job->last = block + rows == batch->rows;
            NAME(unit_phase)(plan, job, index, members, batch->columns != NULL);
        }
        if (pymlp_team_barrier(members, &plan->stop)) return false;
    }
    return true;
}

static double NAME(penalty)(const pymlp_plan *plan) {
    if (plan->l1 == 0 && plan->l2 == 0) return 0;
    double squares = 0, absolutes = 0;
    for (int64_t i = 0; i < plan->n_penalties; i++) {
        squares += plan->penalties[2 * i];
        absolutes += plan->penalties[2 * i + 1];
    }
    return 0.5 * plan->l2 * squares + plan->l1 * absolutes;
}

static struct NAME(gradient_job) NAME(job_of)(const pymlp_plan *plan, double weight_sum, REAL *gradient) {
    return (struct NAME(gradient_job)){
        .penalised = plan->l1 != 0 || plan->l2 != 0,
        .l1 = (REAL)plan->l1,
        .l2 = (REAL)plan->l2,
        .inverse = (REAL)(1 / weight_sum),
        .gradient = gradient,
    };
}

/* One optimizer step from the gradient in plan->gradient, whose norm is limited; false if told to stop. */
static bool NAME(limited_update)(const struct NAME(run) *run, struct NAME(gradient_job) *job, int index, int members) {
    pymlp_plan *plan = run->plan;
    atomic_store_explicit(&plan->shares[index].taken, 0, memory_order_relaxed);
    NAME(square_chunks)(plan, plan->gradient, run->optimizer->clip_value, index, members);
    if (pymlp_team_barrier(members, &plan->stop)) return false;
    NAME(limit_norm)(plan, run->optimizer->clip_norm, &job->rule);
    job->bias_rule = job->rule;
    NAME(spare)(&job->bias_rule);
    job->rows = 0;
    /* the sums of the blocks are in the gradient already */
    job->first = job->last = true;
    job->penalised = false;
    job->inverse = 1;
    job->gradient = NULL;
    job->given = plan->gradient;
    NAME(unit_phase)(plan, job, index, members, false);
    return !pymlp_team_barrier(members, &plan->stop);
}

/* Steps `from` .. `to`, on `members` threads of which this is number `index`; false if told to stop. */
static bool NAME(take_steps)(struct NAME(run) *run, int64_t from, int64_t to, int index, int members) {
    pymlp_plan *plan = run->plan;
    NAME(deal_units)(plan, index, members);
    double began = run->tries && index == 0 ? NAME(seconds_now)() : 0;
    for (int64_t step = from; step < to; step++) {
        struct batch batch = *run->data;
        batch.order += run->starts[step];
        batch.step += step;
        batch.rows = run->starts[step + 1] - run->starts[step];
        double weight_sum = NAME(weight_sum)(&batch), loss;
        if (weight_sum == 0) {
            if (index == 0) run->losses[step] = 0;
            continue;
        }
        const bool limited = run->optimizer->clip_norm != 0;
        struct NAME(gradient_job) job = NAME(job_of)(plan, weight_sum, limited ? plan->gradient : NULL);
        job.rule = NAME(rule_of)(run->optimizer, run->coefficients + N_COEFFICIENTS * step);
        job.bias_rule = job.rule;
        NAME(spare)(&job.bias_rule);
        if (!NAME(batch_phases)(run, &batch, &job, index, members, &loss)) return false;
        if (index == 0) run->losses[step] = (loss + NAME(penalty)(plan)) / weight_sum;
        if (limited && !NAME(limited_update)(run, &job, index, members)) return false;
        if (plan->has_max_norm) {
            NAME(shorten_weights)(plan, &job.rule, index, members);
            if (pymlp_team_barrier(members, &plan->stop)) return false;
        }
        if (run->tries && index == 0 && (step - from + 1) % NAME(TRIAL_GROUP) == 0) {
            const double now = NAME(seconds_now)(), seconds = (now - began) / NAME(TRIAL_GROUP);
            if (seconds < run->seconds) run->seconds = seconds;
            began = now;
        }
    }
    return true;
}

static int NAME(slots_of)(const pymlp_optimizer *optimizer) {
    return pymlp_optimizer_rows[optimizer->kind].n_slots + (optimizer->averages != 0);
}

static void NAME(training)(void *context, int index, int members) {
    struct NAME(run) *run = context;
    pymlp_plan *plan = run->plan;
    __typeof__(SAVE_FLOAT_MODE()) mode = SAVE_FLOAT_MODE();
    const int n_slots = NAME(slots_of)(run->optimizer);
    NAME(repack)(plan, index, members, run->trained, plan->packed, false);
    for (int slot = 0; slot < n_slots; slot++)
        NAME(repack)(plan, index, members, run->slots + slot * plan->n_parameters, plan->slots[slot], false);
    bool stopped = pymlp_team_barrier(members, &plan->stop);
    if (!stopped) {
        NAME(deal_units)(plan, index, members);
        NAME(transpose_weights)(plan, plan->shares[index].first, plan->shares[index].last, false);
        stopped = pymlp_team_barrier(members, &plan->stop);
    }
    if (index == 0) run->members = members;
    /* all threads, then one, then as many as were faster; those that have nothing to do wait at the barrier */
    int64_t step = 0, active = members;
    for (int piece = 0; step < run->n_steps && !stopped; piece++) {
        const int64_t end = run->tries && piece < 2 ? step + NAME(TRIAL_STEPS) : run->n_steps;
        if (run->tries && piece > 0) active = piece == 1 ? 1 : run->active;
        if (index < active) stopped = !NAME(take_steps)(run, step, end, index, (int)active);
        if (run->tries && index == 0 && piece < 2) {
            plan->trial_seconds[piece] = run->seconds;
            run->seconds = INFINITY_;
            run->active = plan->trial_seconds[1] < plan->trial_seconds[0] ? 1 : members;
        }
        step = end;
        if (pymlp_team_barrier(members, &plan->stop)) stopped = true;
    }
    if (!stopped) {
        NAME(repack)(plan, index, members, run->trained, plan->packed, true);
        for (int slot = 0; slot < n_slots; slot++)
            NAME(repack)(plan, index, members, run->slots + slot * plan->n_parameters, plan->slots[slot], true);
        /* told to stop, any of them may have left numbers out */
        stopped = pymlp_team_barrier(members, &plan->stop);
    }
    if (index == 0 && stopped) run->stopped = true;
    RESTORE_FLOAT_MODE(mode);
}

static void NAME(differentiation)(void *context, int index, int members) {
    struct NAME(run) *run = context;
    pymlp_plan *plan = run->plan;
    __typeof__(SAVE_FLOAT_MODE()) mode = SAVE_FLOAT_MODE();
    NAME(deal_units)(plan, index, members);
    NAME(repack)(plan, index, members, (REAL *)run->params, plan->packed, false);
    bool stopped = pymlp_team_barrier(members, &plan->stop);
    if (!stopped) {
        NAME(transpose_weights)(plan, plan->shares[index].first, plan->shares[index].last, run->x_gradient != NULL);
        stopped = pymlp_team_barrier(members, &plan->stop);
    }
    if (!stopped) {
        bool with_loss = run->losses != NULL;
        double weight_sum = with_loss ? NAME(weight_sum)(run->data) : 1, loss;
        struct NAME(gradient_job) job = NAME(job_of)(plan, weight_sum, run->gradient);
        job.penalised = job.penalised && with_loss;
        stopped = !NAME(batch_phases)(run, run->data, run->gradient == NULL ? NULL : &job, index, members, &loss);
        if (index == 0 && with_loss && !stopped) *run->losses = (loss + NAME(penalty)(plan)) / weight_sum;
    }
    if (index == 0 && stopped) run->stopped = true;
    RESTORE_FLOAT_MODE(mode);
}

/* Runs `work` on so many threads. */
static int NAME(run_threads)(struct NAME(run) *run, void (*work)(void *context, int index, int members), int threads) {
    int members = pymlp_team_begin(threads);
    pymlp_team_run(members, work, run);
    pymlp_team_end(members);
    if (!run->stopped) return PYMLP_OK;
    atomic_store(&run->plan->stop, 0);
    return PYMLP_STOPPED;
}

static int NAME(backward)(pymlp_plan *plan, const void *params, const struct batch *batch, void *gradient,
                          void *x_gradient) {
    if (batch->rows == 0) {
        if (gradient != NULL) memset(gradient, 0, (size_t)plan->n_parameters * sizeof(REAL));
        return PYMLP_OK;
    }
    struct NAME(run) run = {.plan = plan, .data = batch, .params = params, .gradient = gradient, .x_gradient = x_gradient};
    return NAME(run_threads)(&run, NAME(differentiation),
                             pymlp_threads_for(plan, pymlp_step_work(plan, (double)batch->rows)));
}

static int NAME(loss_gradient)(pymlp_plan *plan, const void *params, const struct batch *batch, void *gradient,
                               double *loss) {
    /* weights count as the training counts them: subnormal ones are 0 */
    __typeof__(SAVE_FLOAT_MODE()) mode = SAVE_FLOAT_MODE();
    const bool empty = NAME(weight_sum)(batch) == 0;
    RESTORE_FLOAT_MODE(mode);
    if (empty) {
        memset(gradient, 0, (size_t)plan->n_parameters * sizeof(REAL));
        *loss = 0;
        return PYMLP_OK;
    }
    struct NAME(run) run = {.plan = plan, .data = batch, .params = params, .gradient = gradient, .losses = loss};
    return NAME(run_threads)(&run, NAME(differentiation),
                             pymlp_threads_for(plan, pymlp_step_work(plan, (double)batch->rows)));
}

static int NAME(train_steps)(pymlp_plan *plan, const pymlp_optimizer *optimizer, void *params, void *slots,
                             const struct batch *data, const int64_t *starts, int64_t n_steps,
                             const double *coefficients, double *losses) {
    struct NAME(run) run = {.plan = plan,
                            .data = data,
                            .optimizer = optimizer,
                            .trained = params,
                            .slots = slots,
                            .starts = starts,
                            .n_steps = n_steps,
                            .coefficients = coefficients,
                            .losses = losses};
    if (n_steps == 0) return PYMLP_OK;
    const double work = pymlp_step_work(plan, (double)(starts[n_steps] - starts[0]) / (double)n_steps);
    int threads = pymlp_threads_for(plan, work);
    if (plan->automatic && plan->n_threads > 1 && work >= LEAST_TRIED && work < MOST_TRIED) {
        const int several = threads < 2 ? 2 : threads;
        const int one_is_faster = pymlp_recall_trial(plan, work);
        if (one_is_faster >= 0) {
            threads = one_is_faster ? 1 : several;
        } else if (n_steps >= 4 * NAME(TRIAL_STEPS)) {
            run.tries = true;
            run.seconds = INFINITY_;
            threads = several;
        }
    }
    int code = NAME(run_threads)(&run, NAME(training), threads);
    /* a trial without a second thread, or that was broken off, or whose batches were empty, tells nothing */
    if (run.tries && code == PYMLP_OK && run.members > 1 && plan->trial_seconds[0] < INFINITY_ &&
        plan->trial_seconds[1] < INFINITY_)
        pymlp_note_trial(plan, work, plan->trial_seconds[1] < plan->trial_seconds[0], NAME(TRIAL_CALLS) - 1);
    return code;
}

/* The flat vectors have no padding: a vector's worth is copied out and back where a piece ends. */
static void NAME(update_piece)(const struct NAME(rule) *rule, int n_slots, int64_t count, REAL *w, const REAL *g,
                               REAL *const *slots) {
    int64_t whole = count / LANES * LANES, rest = count - whole;
    size_t bytes = (size_t)rest * sizeof(REAL);
    NAME(optimize)(rule, 1, whole, 0, w, g, slots);
    if (rest == 0) return;
    REAL last[2 + MOST_SLOTS][LANES] = {{0}}, *last_slots[MOST_SLOTS];
    memcpy(last[0], w + whole, bytes);
    memcpy(last[1], g + whole, bytes);
    for (int i = 0; i < MOST_SLOTS; i++) {
        last_slots[i] = last[2 + i];
        if (i < n_slots) memcpy(last_slots[i], slots[i] + whole, bytes);
    }
    NAME(optimize)(rule, 1, LANES, 0, last[0], last[1], last_slots);
    memcpy(w + whole, last[0], bytes);
    for (int i = 0; i < n_slots; i++) memcpy(slots[i] + whole, last_slots[i], bytes);
}

static int NAME(update)(pymlp_plan *plan, const pymlp_optimizer *optimizer, void *params, const void *gradient,
                        void *slots, const double *coefficients) {
    __typeof__(SAVE_FLOAT_MODE()) mode = SAVE_FLOAT_MODE();
    REAL *w = params;
    const REAL *g = gradient;
    const int n_slots = NAME(slots_of)(optimizer);
    struct NAME(rule) rule = NAME(rule_of)(optimizer, coefficients);
    if (optimizer->clip_norm != 0) {
        NAME(square_chunks)(plan, g, optimizer->clip_value, 0, 1);
        NAME(limit_norm)(plan, optimizer->clip_norm, &rule);
    }
    struct NAME(rule) bias_rule = rule;
    NAME(spare)(&bias_rule);
    for (int64_t l = 0; l < plan->n_layers; l++) {
        const struct layer *layer = &plan->layers[l];
        REAL *weight_slots[MOST_SLOTS], *bias_slots[MOST_SLOTS];
        for (int i = 0; i < MOST_SLOTS; i++) {
            /* those past the last are never touched */
            REAL *slot = (REAL *)slots + (i < n_slots ? i : 0) * plan->n_parameters;
            weight_slots[i] = slot + layer->weight;
            bias_slots[i] = slot + layer->bias;
        }
        const struct NAME(rule) weight_rule = NAME(rule_for)(layer, &rule);
        NAME(update_piece)(&weight_rule, n_slots, layer->matrix_inputs * layer->outputs, w + layer->weight,
                           g + layer->weight, weight_slots);
        NAME(update_piece)(&bias_rule, n_slots, layer->vectors * layer->outputs, w + layer->bias, g + layer->bias,
                           bias_slots);
        if (layer->max_norm != 0) NAME(shorten_flat)(layer, &rule, w + layer->weight, weight_slots[n_slots - 1]);
    }
    RESTORE_FLOAT_MODE(mode);
    return PYMLP_OK;
}
