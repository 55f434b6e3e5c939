/* pymlp.h: the C interface of the pymlp engine.
 *
 * The verbs are those of the Python class Plan (pymlp/backends/__init__.py), on plain pointers: a plan is a network made
 * ready to run for one batch size and number of threads.  Parameters are one flat vector [W0 b0 W1 b1 ...], each W is
 * (inputs, outputs) in C order; all arrays are contiguous, of the plan's dtype (float or double), and owned by the
 * caller.  Nothing here prints, exits or keeps a pointer after it returns.  Functions that can fail return a code;
 * pymlp_error_text says what it means.  A model is a file of `pymlp.save` made ready to predict.
 *
 * The block below is also what the Python extension is declared from, so it holds declarations alone.
 */
#ifndef PYMLP_H
#define PYMLP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* of a shared library, what is declared here can be seen, and nothing else */
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* cffi declarations begin */
typedef struct pymlp_plan pymlp_plan;
typedef struct pymlp_predictor pymlp_predictor;
typedef struct pymlp_model pymlp_model;

/* One row of a network's table.  Buffer 0 holds the inputs, buffer i + 1 what row i writes. */
typedef struct {
    int32_t kind;            /* number of a layer kind, from pymlp_layer_kind */
    int32_t activation;      /* number of an activation, from pymlp_activation */
    int64_t inputs, outputs;
    int32_t source, second;  /* buffers it reads; second: -1 where there is none */
    double setting;          /* rate of dropout, epsilon of a norm; 0 where there is none */
    double max_norm;         /* largest norm of the weights into a unit; 0: none */
} pymlp_layer;

/* Rows of a sparse X (CSR), for the verbs that take it: X itself is then NULL.  The row reading the network's inputs must be
 * dense, and no other may read them. */
typedef struct {
    const void *values;     /* numbers of the plan's dtype, row by row */
    const int32_t *columns; /* their columns, ascending within a row and below the inputs; not checked */
    const int64_t *starts;  /* (rows + 1): where each row starts in both */
} pymlp_sparse;

typedef struct {
    int32_t kind;           /* number of a loss, from pymlp_loss */
    int32_t group;          /* outputs of a target */
    int32_t n_numbers;
    const double *numbers;  /* the loss's parameters (pymlp/losses.py), copied */
    void *function;         /* loss "compiled": void f(int64_t rows, int64_t outputs, const real *y, const real *output,
                               real *value, real *gradient) */
} pymlp_loss_rule;

typedef struct {
    int32_t kind;            /* number of an optimizer, from pymlp_optimizer_kind */
    int32_t averages;        /* the last slot holds an average of the parameters */
    double parameters[6];    /* the rule's constants (pymlp/optimizers.py) */
    double clip_norm, clip_value; /* 0: none */
} pymlp_optimizer;

/* Numbers of the registries' rows by name; -1 where there is none. */
int pymlp_layer_kind(const char *name);
int pymlp_activation(const char *name);
int pymlp_loss(const char *name);
int pymlp_optimizer_kind(const char *name);

/* Instruction sets this machine can run, best first; NULL past the last. */
const char *pymlp_instruction_set(int position);
const char *pymlp_error_text(int code);
/* Bytes of the last allocation that was refused, in any thread: what the code for no memory is about. */
double pymlp_refused_bytes(void);

/* dtype: 32 or 64.  n_threads bounds the threads of a verb; with automatic != 0 it takes fewer where the work is small.
 * batch_size bounds the rows of backward, loss_gradient and a batch of train_steps. */
int pymlp_plan_create(pymlp_plan **plan, const char *instruction_set, int dtype, const pymlp_layer *layers,
                      int64_t n_layers, const pymlp_loss_rule *loss, double l1, double l2, uint64_t seed,
                      int64_t batch_size, int n_threads, int automatic);
void pymlp_plan_free(pymlp_plan *plan);
/* Frees *plan, if there is one: for an owner that must exist before it, so that no exception can come in between. */
void pymlp_plan_disown(pymlp_plan **plan);
/* Threads that a training step on a full batch takes. */
int pymlp_plan_threads(const pymlp_plan *plan);

/* step: number of the training step, which the masks of dropout depend on, or -1: inference; row_offset: place of the first
 * row in the batch. */
/* out (rows, outputs) = network(X), X (rows, inputs) or sparse */
int pymlp_forward(pymlp_plan *plan, const void *params, const void *X, const pymlp_sparse *sparse, int64_t rows,
                  void *out, int64_t step, int64_t row_offset);
/* gradient and x_gradient of sum(network(X) * output_gradient); either may be NULL, and with sparse rows x_gradient must */
int pymlp_backward(pymlp_plan *plan, const void *params, const void *X, const pymlp_sparse *sparse, int64_t rows,
                   const void *output_gradient, void *gradient, void *x_gradient, int64_t step, int64_t row_offset);
/* mean loss with penalties, and its gradient; weight may be NULL */
int pymlp_loss_gradient(pymlp_plan *plan, const void *params, const void *X, const pymlp_sparse *sparse, const void *y,
                        const void *weight, int64_t rows, void *gradient, double *loss, int64_t step,
                        int64_t row_offset);
/* one optimizer step in place; coefficients: the step's 4 numbers (pymlp/optimizers.py) */
int pymlp_update(pymlp_plan *plan, const pymlp_optimizer *optimizer, void *params, const void *gradient, void *slots,
                 const double *coefficients);
/* n_steps batches, rows order[starts[i]] .. order[starts[i + 1] - 1] of X, y and weight (n_rows rows), from step number
 * `step` on; coefficients (n_steps, 4); losses (n_steps) */
int pymlp_train_steps(pymlp_plan *plan, const pymlp_optimizer *optimizer, void *params, void *slots, int64_t step,
                      const void *X, const pymlp_sparse *sparse, const void *y, const void *weight, int64_t n_rows,
                      const int64_t *order, const int64_t *starts, int64_t n_steps, const double *coefficients,
                      double *losses);
/* Ends the running verb, or else the next one, soon; may be called from any thread. */
void pymlp_stop(pymlp_plan *plan);

/* A network with its parameters, copied, for inference alone; any number of threads may use one at the same time.  With
 * with_complement != 0 the network has one output p, and there are two columns, 1 - p and p. */
int pymlp_predictor_create(pymlp_predictor **predictor, const char *instruction_set, int dtype,
                           const pymlp_layer *layers, int64_t n_layers, const pymlp_loss_rule *loss,
                           const void *params, int with_complement, int n_threads, int automatic);
void pymlp_predictor_free(pymlp_predictor *predictor);
void pymlp_predictor_disown(pymlp_predictor **predictor);
/* out (rows, columns) = network(X), X (rows, inputs) */
int pymlp_predictor_predict(pymlp_predictor *predictor, const void *X, int64_t rows, void *out);
/* the same for sparse rows */
int pymlp_predictor_predict_sparse(pymlp_predictor *predictor, const pymlp_sparse *X, int64_t rows, void *out);
/* the same, and jacobian (rows, columns, inputs): the derivative of each column by each input; out may be NULL */
int pymlp_predictor_value_and_gradient(pymlp_predictor *predictor, const void *X, int64_t rows, void *out,
                                       void *jacobian);

/* A model file, as pymlp.save writes it, read and checked as strictly as pymlp.load checks it.  What is wrong, and where, is
 * written as a text into `message`, of at most so many bytes with the 0 at its end; it may be NULL.  A model that could not
 * be read is NULL.  Any number of threads may use one at the same time. */
int pymlp_model_load(pymlp_model **model, const char *path, char *message, int64_t message_bytes);
/* the same of a file's bytes in memory, which need not stay */
int pymlp_model_read(pymlp_model **model, const void *bytes, int64_t size, char *message, int64_t message_bytes);
void pymlp_model_free(pymlp_model *model);
/* The instruction set (NULL: the best that there is) and the most threads of a call from now on; at first the best, and
 * one.  The bits do not depend on them.  Not while another thread uses the model. */
int pymlp_model_use(pymlp_model *model, const char *instruction_set, int n_threads);

/* X (rows, inputs), out (rows, columns) and gradient (rows, columns, inputs) are of this dtype, 32 or 64. */
int pymlp_model_dtype(const pymlp_model *model);
int64_t pymlp_model_inputs(const pymlp_model *model);
int64_t pymlp_model_columns(const pymlp_model *model);
/* What pymlp.Predictor(model)(X) gives in Python: probabilities of classes or labels (of two classes both), or what
 * decision_function gives where there are none, or predicted numbers. */
int pymlp_predict(pymlp_model *model, const void *X, int64_t rows, void *out);
/* the same, and the derivative of each column by each input; out may be NULL */
int pymlp_value_and_gradient(pymlp_model *model, const void *X, int64_t rows, void *out, void *gradient);

/* "binary", "multiclass", "multilabel-indicator" or "numbers", which a plain network gives, too. */
const char *pymlp_model_task(const pymlp_model *model);
/* Above it, a label, or of two classes the second, is predicted. */
double pymlp_model_threshold(const pymlp_model *model);
/* Labels, 0 for numbers; and their texts in UTF-8, in the order of the columns, NULL past the last.  *length, which may be
 * NULL, becomes the bytes of a text, which may hold zeros. */
int64_t pymlp_model_classes(const pymlp_model *model);
const char *pymlp_model_class(const pymlp_model *model, int64_t number, int64_t *length);
/* Name of an input; NULL where the model knows none. */
const char *pymlp_model_feature(const pymlp_model *model, int64_t number, int64_t *length);
/* What plans are made of, to train the network further; a loss that no file holds is "custom".  All live as long as the
 * model. */
const pymlp_layer *pymlp_model_layers(const pymlp_model *model, int64_t *n_layers);
const pymlp_loss_rule *pymlp_model_loss(const pymlp_model *model);
const void *pymlp_model_params(const pymlp_model *model, int64_t *n_params);
void pymlp_model_training(const pymlp_model *model, double *l1, double *l2, uint64_t *seed);

/* Shuffles an order of rows (at most 2^32) as NumPy's RandomState.shuffle would, which goes from the end: the part of it
 * that moves rows last - 1 down to first.  Of `count` orders of so many rows each, one after the other, it shuffles the
 * first as it is, and each further one as the one before it has become.  generator is a bitgen_t of NumPy, which the
 * caller has locked.  twister: where it is a Mersenne Twister, its 624 words and the number of those used; else NULL.  Of
 * the plan it takes the instruction set; the plan may be in use. */
void pymlp_shuffle(const pymlp_plan *plan, void *generator, uint32_t *twister, int64_t *orders, int64_t count, int64_t rows,
                   int64_t first, int64_t last);

/* A predictor as the functions that other programs call back, which are handed a pointer to a record of this kind.  The
 * caller fills it in, and keeps it and what it points to while it is in use; any number of threads may share one. */
typedef struct {
    pymlp_predictor *predictor;
    int32_t dtype;           /* the predictor's, 32 or 64 */
    int32_t column;          /* of the answer: the number that a function of one number gives */
    int64_t inputs, columns; /* of a row, and of its answer */
    const void *scale, *shift; /* what each column is multiplied by and what then added (columns); or NULL, both */
} pymlp_callback;

/* Rows of the predictor's dtype: pymlp_predictor_predict and pymlp_predictor_value_and_gradient, scaled. */
int pymlp_call_rows(const void *callback, const void *X, int64_t rows, void *out);
int pymlp_call_rows_and_gradient(const void *callback, const void *X, int64_t rows, void *out, void *gradient);
/* One row of doubles each, whatever the predictor's dtype.  Where there is no number to give, for want of memory or
 * because n or a size is not the predictor's, they give NaN, those with a status 0 (all is well: 1). */
/* an integrand of one variable, and of n; with its gradient (n), unless that is NULL, as NLopt calls an objective */
double pymlp_call_number(double x, void *callback);
double pymlp_call_point(int n, double *x, void *callback);
double pymlp_call_number_and_gradient(double x, double *gradient, void *callback);
double pymlp_call_point_and_gradient(unsigned n, const double *x, double *gradient, void *callback);
/* filters of SciPy's ndimage: of the numbers under a footprint; of each run of a line that is as long as a row */
int pymlp_call_window(double *numbers, intptr_t size, double *value, void *callback);
int pymlp_call_line(double *input, intptr_t input_size, double *output, intptr_t output_size, void *callback);
/* from the place of a pixel in the output to the place in the input that it is taken from */
int pymlp_call_coordinates(intptr_t *output, double *input, int output_rank, int input_rank, void *callback);
/* right-hand side of an ordinary differential equation: rates (columns) of the state (columns); t is the first input
 * where the predictor has one more than columns; with their derivatives (columns, inputs) unless that is NULL */
void pymlp_call_rates(double t, double *state, double *rates, void *callback);
void pymlp_call_rates_and_gradient(double t, const double *state, double *rates, double *gradient, void *callback);

/* out[i] = function(z[i]), or its slope there, for one activation of the registry (an element-wise one), or the
 * function "log"; for tests and tables of error */
int pymlp_evaluate(const char *instruction_set, int dtype, const char *name, int slope, const void *z, int64_t count,
                   void *out);
/* GFLOP/s of register-only multiply-adds on n_threads threads, and of the micro-kernel at a depth, from cache */
double pymlp_measure_peak(const char *instruction_set, int dtype, int n_threads, double seconds);
double pymlp_measure_tile(const char *instruction_set, int dtype, int64_t depth, double seconds);
/* One product by the micro-kernels, at their own edges and strides, which a plan does not let one choose; for tests.
 * product: a struct product of plan.h, or NULL for none.  sizes becomes the rows of a tile, and the numbers in a panel, in
 * a vector and in half a vector (0: there is no such tile). */
int pymlp_multiply(const char *instruction_set, int dtype, int64_t sizes[4], const void *product);
/* cffi declarations end */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

enum {
    PYMLP_OK = 0,
    PYMLP_OUT_OF_MEMORY = 1,
    PYMLP_BUSY = 2,
    PYMLP_STOPPED = 3,
    PYMLP_ROW_OUT_OF_RANGE = 4,
    PYMLP_BAD_ARGUMENT = 5,
    PYMLP_NO_INSTRUCTION_SET = 6,
    PYMLP_UNREADABLE = 7,
    PYMLP_BAD_MODEL = 8
};

#ifdef __cplusplus
}
#endif
#endif
