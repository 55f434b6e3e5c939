/* plan.h: what a plan holds, and the table of functions that an instruction set brings.
 *
 * A plan is one allocation: the table of layers, the packed parameters, the buffers of a batch and each thread's
 * scratch; what only sparse inputs need, and what only very wide dense ones do, are others, made by the first verb that
 * gets them.  Sizes are in elements of the plan's dtype unless they say bytes; pages of what a verb does not use are never
 * touched.
 */
#ifndef PYMLP_PLAN_H
#define PYMLP_PLAN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "functions.h"
#include "pymlp.h"

/* rows of a block: the gradients of a longer batch are added block by block, in order */
enum { BLOCK_ROWS = 4096 };
/* inputs of a unit of phase 2, and rows and columns of one partial sum of the penalties: the same for every instruction
 * set, because the order of sums must be */
enum { UNIT_INPUTS = 32, PENALTY_COLUMNS = 8 };
/* numbers of the flat vector in one partial sum of the gradient's norm */
enum { NORM_CHUNK = 4096 };
/* scratch of the output layer: outputs of a vector of rows, so many times */
enum { HEAD_PIECES = 4 };
/* rows of a strip of inference at least: those of the highest tile, and one */
enum { LEAST_STRIP_ROWS = 15 };
/* columns of a band of a buffer: a unit's inputs, and one or more panels */
enum { BAND = UNIT_INPUTS };

/* NEEDS_INPUT_GRADIENT, NEEDS_SECOND_GRADIENT: parameters lie before the buffer that the layer reads; IS_TRAINED: they lie
 * in the layer or before.  ADDS_INTO_DELTAS, ADDS_INTO_SECOND: a later layer reads the same buffer, and has left its share of
 * the deltas there.  TAKES_INPUT_SLOPE: the product that makes the deltas of the layer's inputs, the last share of them,
 * multiplies them by the slope of the activation that made those inputs; SLOPE_IS_TAKEN: so the layer that made them need
 * not. */
enum {
    NEEDS_INPUT_GRADIENT = 1,
    TAKES_INPUT_SLOPE = 2,
    SLOPE_IS_TAKEN = 4,
    NEEDS_SECOND_GRADIENT = 8,
    ADDS_INTO_DELTAS = 16,
    ADDS_INTO_SECOND = 32,
    IS_TRAINED = 64
};

/* Inference keeps a strip of rows of the buffers that are still read, in so many pieces of memory at most; the network's
 * inputs are in none, or in the first. */
enum { MOST_STRIPS = 8, INPUTS = -1 };

/* Where a layer finds and leaves a strip of its buffers: numbers of pieces, or INPUTS. */
struct places {
    int source, second, output;
};

/* The outputs of a layer, or the network's inputs, for all rows of a block, in bands of BAND columns: number (row, column)
 * is at (column / BAND) * band + row * BAND + column % BAND.  A tile reads rows, or columns, of a band in one run, which
 * neither cache sets nor page tables mind; columns past `width` are 0. */
struct buffer {
    int64_t width, band;
    void *outputs;
    void *inputs; /* pre-activations; the same as outputs where slopes are taken from those */
    void *deltas; /* gradient to the outputs, then to the pre-activations */
    /* The same three of a strip of inference's derivative, in numbers of a row before them. */
    int64_t outputs_at, inputs_at, deltas_at;
    /* while the plan is laid out */
    bool is_read;      /* by a layer that was looked at */
    int place;         /* piece of memory it has in inference */
    int64_t last_reader, made_by; /* layers; made_by: the one that wrote it, past those left out, and 1 more */
};

struct layer {
    int kind, activation, flags;
    int64_t inputs, outputs;
    int input_buffer, second_buffer, output_buffer; /* numbers in plan->buffers; second: -1 where there is none */
    double setting, max_norm;
    struct places places[2]; /* in inference; in forward as in training */
    int64_t matrix_inputs, vectors; /* parameters: a matrix (matrix_inputs, outputs) and so many vectors (outputs) */
    int64_t weight, bias;           /* offsets in the flat vector: the matrix, and the first vector */
    int64_t scalars, row_scalars;   /* place of what it keeps of each row, (rows, row_scalars) */
    /* Packed: panels of `panel` columns (the instruction set's), each (padded_inputs, panel), so that a tile reads its
     * weights in one run; the transpose likewise, each panel (padded_outputs, panel).  A vector: padded_outputs numbers.
     * Weights of fewer outputs than a vector has lanes are one panel (padded_inputs, outputs) without gaps: its update
     * then takes whole vectors.  `pitch`: numbers from one row of a panel to the next; panel_size: from panel to panel. */
    int64_t panels, padded_inputs, padded_outputs, pitch, panel_size;
    int64_t packed_weight, packed_bias, packed_transpose;
    int64_t row_groups;    /* groups of UNIT_INPUTS inputs; times the panels: units of phase 2 */
    int64_t block_groups;  /* so many groups meet each panel one after the other */
    int64_t block_panels;  /* so many panels meet all groups before the next do */
    int64_t first_unit;    /* number of the layer's first unit */
    int64_t first_penalty; /* number of the layer's first partial sum */
};

/* Units of phase 2 that fall to a thread, by cost: `first` .. `last` - 1, begun from the last.  `taken`: how many were begun, by
 * that thread or by one that had done its own; a cache line for each thread. */
struct share {
    int64_t first, last;
    atomic_llong taken;
    char rest[64 - 2 * sizeof(int64_t) - sizeof(atomic_llong)];
};

struct engine;
struct operations;

struct pymlp_plan {
    const struct operations *operations;
    int loss, n_threads, automatic;
    double l1, l2;
    uint64_t seed;
    int loss_group, n_loss_numbers;
    double *loss_numbers;
    void *loss_function;
    int64_t batch_size, block_rows; /* block_rows: rows of the buffers */
    int64_t strip_rows;             /* rows that a thread carries through all layers before the next */
    int64_t widest;                 /* numbers of a row of the widest layer, in whole bands */
    int64_t prediction_rows;        /* the same in inference, at most */
    int64_t strip_numbers;          /* of so many rows of the widest layer */
    int64_t row_numbers;            /* of a row in a strip of inference's derivative: all buffers */
    int64_t n_layers, n_parameters, n_units, n_penalties, packed_size, transpose_size;
    int64_t n_scalars;              /* kept of a row, by all layers */
    int n_strips;                   /* pieces of memory that inference needs */
    bool splits_columns;            /* every layer of inference can be computed column by column */
    bool copies_inputs;             /* inference reads the inputs by vectors, which may reach past their end */
    bool has_max_norm;
    bool takes_sparse;              /* the network's inputs are read by a dense layer and by nothing else */
    double multiply_adds; /* of one row, forward */
    struct layer *layers;
    struct buffer *buffers; /* n_layers + 1 */
    void *packed;           /* weights and biases of all layers */
    void *transposes;
    void *slots[MOST_SLOTS]; /* laid out like `packed` */
    void *gradient;          /* flat; used where its norm is clipped */
    double *squares;         /* of the gradient's chunks of NORM_CHUNK numbers: sums of squares */
    void *sums;              /* gradient of the blocks so far, laid out like `packed` */
    void *row_losses;        /* (block rows) */
    void *scalars;           /* that layers keep of each row */
    double *penalties;       /* (n_penalties, 2): sums of squares and of absolute values */
    int64_t *entry_ends;     /* of sparse inputs: where the numbers of each group of UNIT_INPUTS columns end in `entries` */
    void *entries;           /* an allocation of its own, which grows with the batches; NULL before the first */
    int64_t most_entries;    /* that fit */
    double filled;           /* share of the inputs of the verb at work that are not 0 */
    double inputs_count;     /* numbers of a buffer of dense inputs that is an allocation of its own; 0: it is not */
    void *inputs;            /* that, twice; NULL before a verb needs it */
    struct share *shares;    /* a thread's each */
    void *scratch;           /* a piece for each thread */
    size_t scratch_bytes;    /* of one piece */
    size_t bytes;
    double counted; /* the same without overflow */
    bool is_placed; /* the pieces are memory; false while they are only counted */
    double trial_seconds[2]; /* of a training step, by all threads and by one: what the last trial found */
    uint64_t shape;          /* what others like it have in common; see trials.h */
    atomic_int stop;
    atomic_int busy; /* generation of the process that uses the plan, 0: free */
};

/* Numbers of a step's row of coefficients (pymlp/optimizers.py) */
enum { SIZE, DECAY, SECOND_SIZE, AVERAGING, N_COEFFICIENTS };
/* most parameters of a loss */
enum { MOST_LOSS_NUMBERS = 1024 };

/* One training step's arrays, as the verbs get them; NULL where a verb has none. */
struct batch {
    const void *X, *y, *weight;
    const void *output_gradient; /* backward: instead of a loss */
    const int64_t *order;        /* row numbers; NULL: rows in their order */
    /* of sparse inputs, else NULL: X holds the numbers that are not 0, row by row; their columns, which ascend in a row, and
     * where each row starts in both */
    const int32_t *columns;
    const int64_t *row_starts;
    int64_t rows;
    int64_t step, row_offset; /* what the masks of dropout depend on; step < 0: inference */
};

/* A product by itself, for tests.  By row tiles: C = start + A B, A (rows, depth) and C (rows, columns) in bands, B (depth,
 * columns) in panels; or by column tiles: C = A^T B, A (depth, rows) and B (depth, columns) a band each, at most a band and
 * a panel wide, C in rows a panel apart. */
struct product {
    int64_t by_columns, rows, columns, depth;
    const void *a, *b, *bias, *outputs; /* outputs: lie like C; whose slope it is multiplied by */
    void *c;
    int64_t a_band, b_panel, pitch, c_band;
    int64_t adds, kind; /* start is C itself; what tiles do with their sums (N_TILE_KINDS) */
};

/* bitgen_t of numpy/random/bitgen.h, NumPy's public interface to its generators */
struct bit_generator {
    void *state;
    uint64_t (*next_uint64)(void *state);
    uint32_t (*next_uint32)(void *state);
    double (*next_double)(void *state);
    uint64_t (*next_raw)(void *state);
};

struct operations {
    /* numbers in a panel; plan_layout needs it before there is a plan */
    int panel, lanes;
    size_t real_bytes;
    int (*forward)(pymlp_plan *plan, const void *params, const struct batch *batch, void *out);
    int (*backward)(pymlp_plan *plan, const void *params, const struct batch *batch, void *gradient, void *x_gradient);
    int (*loss_gradient)(pymlp_plan *plan, const void *params, const struct batch *batch, void *gradient, double *loss);
    int (*update)(pymlp_plan *plan, const pymlp_optimizer *optimizer, void *params, const void *gradient, void *slots,
                  const double *coefficients);
    int (*train_steps)(pymlp_plan *plan, const pymlp_optimizer *optimizer, void *params, void *slots,
                       const struct batch *data, const int64_t *starts, int64_t n_steps, const double *coefficients,
                       double *losses);
    /* a predictor's: `params` become the plan's packed weights, once; then any number of threads at the same time, each
     * with scratch memory of its own, as large as the plan's */
    void (*pack)(pymlp_plan *plan, const void *params);
    int (*predict)(pymlp_plan *plan, void *scratch, const struct batch *batch, void *out, bool with_complement,
                   int n_threads);
    /* the same for one row on the calling thread; scratch: the widest layer for each of the strips */
    void (*predict_row)(const pymlp_plan *plan, void *scratch, const void *X, void *out, bool with_complement);
    /* the plan's transposes of all layers, from the packed weights */
    void (*transpose)(const pymlp_plan *plan);
    /* outputs, unless NULL, and their derivatives by the inputs; scratch: a piece of pymlp_derivation_bytes for each thread.
     * Of `pairs` pairs of a row and a column of the outputs, at most, that go back together. */
    void (*differentiate)(const pymlp_plan *plan, void *scratch, int64_t pairs, const void *X, int64_t rows, void *out,
                          void *jacobian, bool with_complement, int n_threads);
    /* of one order; see pymlp_shuffle */
    void (*shuffle)(const struct bit_generator *source, uint32_t *twister, int64_t *order, int64_t first, int64_t last);
    int (*evaluate)(int activation, bool slope, const void *z, int64_t count, void *out);
    void (*product)(const struct product *product, int64_t sizes[4]);
    double (*measure_peak)(int n_threads, double seconds);
    double (*measure_tile)(int64_t depth, double seconds);
};

struct engine {
    const char *name;
    const struct operations *single, *twofold;
};

/* multiply-adds of a training step (its three products) for which the number of threads is tried out: about 7 us to half a
 * millisecond of one core */
#define LEAST_TRIED 4e5
#define MOST_TRIED 3e7

/* a plan of more numbers is refused before any product of sizes is made: 2**47, far above any memory; and so is one of more
 * bytes than a block may have, which is fewer where addresses have 32 bits */
#define MOST_NUMBERS 140737488355328.0
#define MOST_PLAN_BYTES (8 * MOST_NUMBERS < (double)(SIZE_MAX / 4) ? 8 * MOST_NUMBERS : (double)(SIZE_MAX / 4))
/* A network that takes sparse inputs may never get dense ones: its buffer of them, where it is larger, is not made before it
 * is needed. */
#define LARGE_INPUTS_BYTES 67108864.0

static inline int64_t pymlp_rounded_up(int64_t count, int64_t multiple) {
    return (count + multiple - 1) / multiple * multiple;
}

/* Whether there can be a network of these layers. */
bool pymlp_is_table(const pymlp_layer *rows, int64_t n_rows);
/* Fills plan->layers, of which there are as many as plan->n_layers says, and the counts that follow from them. */
int pymlp_describe_layers(pymlp_plan *plan, const pymlp_layer *given);
/* Threads for a piece of work of so many multiply-adds between two barriers. */
int pymlp_threads_for(const pymlp_plan *plan, double multiply_adds);
/* Bytes of the scratch memory of one thread that carries so many pairs of a row and an output column back together. */
double pymlp_derivation_bytes(const pymlp_plan *plan, int64_t pairs);
/* What a training step of so many rows is worth in multiply-adds. */
double pymlp_step_work(const pymlp_plan *plan, double rows);
/* What inference of so many rows is worth in multiply-adds.  A weight that serves a single row costs two to three of
 * them, because it comes from afar. */
double pymlp_row_work(const pymlp_plan *plan, int64_t rows);

#endif
