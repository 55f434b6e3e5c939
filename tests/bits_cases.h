/* bits_cases.h: what bits_driver.c computes: networks of every layer kind, activation, loss, optimizer, awkward shape.
 *
 * Names are those of the engine's registries; test_builds.py compares them with the registries of Python, so that a new
 * row there needs a case here.
 */
#ifndef BITS_CASES_H
#define BITS_CASES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pymlp.h"

enum { MOST_LAYERS = 12, MOST_LOSS_NUMBERS = 3, NAME_LENGTH = 64 };

/* what targets a loss takes: any numbers, one class of each row, 0 or 1, positive numbers */
enum targets { ANY, ONE_CLASS, YES_OR_NO, POSITIVE };

static const char *const activations[] = {"identity", "logistic", "tanh", "relu",     "leaky_relu", "elu",    "selu",
                                          "gelu",     "silu",     "mish", "softplus", "cosine",     "square", "exp"};
enum { N_ACTIVATIONS = sizeof activations / sizeof *activations };

struct loss {
    const char *name, *activation;
    enum targets targets;
    int group, n_numbers;
    double numbers[MOST_LOSS_NUMBERS];
};

static const struct loss losses[] = {
    {"squared_error", "identity", ANY, 1, 0, {0}},
    {"absolute_error", "identity", ANY, 1, 0, {0}},
    {"huber", "identity", ANY, 1, 1, {0.3}},
    {"quantile", "ascending", ANY, 3, 3, {0.1, 0.5, 0.9}},
    {"log_loss", "softmax", ONE_CLASS, 1, 1, {0.1}},
    {"binary_log_loss", "logistic", YES_OR_NO, 1, 1, {0.2}},
    {"focal", "softmax", ONE_CLASS, 1, 1, {2}},
    {"binary_focal", "logistic", YES_OR_NO, 1, 1, {1.5}},
    {"hinge", "identity", YES_OR_NO, 1, 0, {0}},
    {"perceptron", "identity", YES_OR_NO, 1, 0, {0}},
    {"squared_hinge", "identity", YES_OR_NO, 1, 0, {0}},
    {"poisson", "exp", POSITIVE, 1, 0, {0}},
    {"gamma", "exp", POSITIVE, 1, 0, {0}},
    {"tweedie", "exp", POSITIVE, 1, 1, {1.3}},
    {"gaussian_nll", "mean_deviation", ANY, 2, 0, {0}},
    {"compiled", "tanh", ANY, 1, 0, {0}},
    {"custom", "gelu", ANY, 1, 0, {0}},
};
enum { N_LOSSES = sizeof losses / sizeof *losses };

struct rule {
    const char *name;
    int n_slots;
    double parameters[4];
};

static const struct rule rules[] = {
    {"sgd", 1, {0.875, 1}},
    {"adam", 2, {0.9, 0.999, 1e-8}},
    {"adamw", 2, {0.9, 0.99, 1e-6}},
    {"nadam", 2, {0.8, 0.999, 1e-8}},
    {"rmsprop", 2, {0.9, 0.5, 1e-8}},
    {"lion", 1, {0.9, 0.99}},
    {"rprop", 2, {0.5, 1.2, 1e-6, 50}},
};
enum { N_RULES = sizeof rules / sizeof *rules };

/* --- cases -------------------------------------------------------------------------------------------------------- */

struct task {
    char name[NAME_LENGTH];
    pymlp_layer layers[MOST_LAYERS];
    int64_t n_layers, n_parameters, width, rows, batch_size;
    const struct loss *loss;
    const struct rule *rule;
    double l1, l2, decay, clip_norm, clip_value;
    bool averages, weighted, sparse, automatic;
    int64_t n_steps;
};

static const struct loss *loss_named(const char *name) {
    for (int i = 0; i < N_LOSSES; i++)
        if (strcmp(losses[i].name, name) == 0) return &losses[i];
    exit(2);
}

static const struct rule *rule_named(const char *name) {
    for (int i = 0; i < N_RULES; i++)
        if (strcmp(rules[i].name, name) == 0) return &rules[i];
    exit(2);
}

/* A task without layers. */
static struct task new_task(const char *kind, const char *what, int64_t inputs, int64_t rows) {
    struct task task = {.width = inputs,
                        .rows = rows,
                        .batch_size = rows,
                        .loss = loss_named("squared_error"),
                        .rule = rule_named("sgd"),
                        .n_steps = 4};
    snprintf(task.name, sizeof task.name, "%s %s", kind, what);
    return task;
}

/* Appends a layer that reads what the last one wrote. */
static pymlp_layer *append(struct task *task, const char *kind, const char *activation, int64_t outputs) {
    pymlp_layer *layer = &task->layers[task->n_layers];
    *layer = (pymlp_layer){.kind = pymlp_layer_kind(kind),
                           .activation = pymlp_activation(activation),
                           .inputs = task->width,
                           .outputs = outputs,
                           .source = (int32_t)task->n_layers,
                           .second = -1};
    const int64_t matrix = strcmp(kind, "dense") == 0 ? layer->inputs * outputs : 0;
    const int64_t vectors = strcmp(kind, "layer_norm") == 0                                        ? 2
                            : strcmp(kind, "dense") == 0 || strcmp(kind, "parametric") == 0 ? 1
                                                                                                   : 0;
    task->n_layers++;
    task->n_parameters += matrix + vectors * outputs;
    task->width = outputs;
    return layer;
}

static void append_output(struct task *task, const char *loss, int64_t outputs) {
    task->loss = loss_named(loss);
    append(task, "dense", task->loss->activation, outputs);
}

static struct task activation_task(const char *activation) {
    struct task task = new_task("activation", activation, 5, 37);
    append(&task, "dense", activation, 17);
    append(&task, "dense", "tanh", 33);
    append_output(&task, "squared_error", 3);
    task.l2 = 0.01;
    task.weighted = true;
    return task;
}

static struct task loss_task(const struct loss *loss) {
    struct task task = new_task("loss", loss->name, 9, 29);
    append(&task, "dense", "relu", 20);
    append_output(&task, loss->name, 6);
    task.rule = rule_named("adam");
    task.weighted = true;
    return task;
}

/* what all optimizers share */
static const char *const shared[] = {"plain", "decay, clip_value", "clip_norm", "averages"};
enum { N_SHARED = sizeof shared / sizeof *shared };

static struct task rule_task(const struct rule *rule, int variant) {
    char what[NAME_LENGTH];
    snprintf(what, sizeof what, "%s %s", rule->name, shared[variant]);
    struct task task = new_task("optimizer", what, 70, 40);
    /* more parameters than a chunk of the gradient's norm */
    append(&task, "dense", "silu", 80);
    append_output(&task, "log_loss", 3);
    task.rule = rule;
    task.l2 = 0.1;
    if (variant == 1) task.decay = 0.1, task.clip_value = 0.01;
    if (variant == 2) task.clip_norm = 0.1;
    if (variant == 3) task.averages = true;
    task.n_steps = 6;
    return task;
}

/* features of layers, alone and all together */
static const char *const features[] = {"dropout", "layer_norm", "parametric", "add", "max_norm", "all of them"};
enum { DROPOUT, LAYER_NORM, PARAMETRIC, ADD, MAX_NORM, ALL_OF_THEM, N_FEATURES };

static struct task feature_task(int feature, int64_t width, int64_t rows) {
    char what[NAME_LENGTH];
    snprintf(what, sizeof what, "%s, width %d, %d rows", features[feature], (int)width, (int)rows);
    struct task task = new_task("layer", what, width, rows);
    const bool all = feature == ALL_OF_THEM;
    if (feature == DROPOUT || all) append(&task, "dropout", "identity", width)->setting = 0.25;
    for (int i = 0; i < 2; i++) {
        const int32_t start = (int32_t)task.n_layers;
        pymlp_layer *dense = append(&task, "dense", feature == LAYER_NORM || all ? "identity" : "tanh", width);
        if (feature == MAX_NORM || all) dense->max_norm = 0.6;
        if (feature == LAYER_NORM || all) append(&task, "layer_norm", "silu", width)->setting = 1e-5;
        if (feature == PARAMETRIC || all) append(&task, "parametric", "mish", width);
        if (feature == DROPOUT || all) append(&task, "dropout", "identity", width)->setting = 0.3;
        if (feature == ADD || all) append(&task, "add", "identity", width)->second = start;
    }
    append_output(&task, "log_loss", 3);
    task.rule = rule_named("adamw");
    if (all) task.l1 = 0.02, task.l2 = 0.1, task.decay = 0.2, task.averages = task.weighted = true;
    return task;
}

/* rows and widths with edges everywhere: tiles have 14, 6 or 3 rows, vectors 16, 8, 4 or 2 numbers */
static const int64_t shapes[][7] = {
    {1, 1, 1},
    {2, 4, 3, 5},
    {7, 9, 17, 9},
    {13, 15, 31, 4},
    {14, 16, 32, 64, 16},
    {15, 17, 33, 10},
    {33, 257, 100, 257, 10},
    {201, 31, 32, 33, 100, 3},
    /* deeper than what a product takes at once */
    {19, 600, 12, 1},
    /* more inputs than units are taken at once, and more columns */
    {9, 1090, 150, 2},
    /* more rows than a block */
    {4500, 3, 5, 2},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static struct task shape_task(const int64_t *shape) {
    char what[NAME_LENGTH];
    int length = snprintf(what, sizeof what, "%d rows, %d", (int)shape[0], (int)shape[1]);
    for (int i = 2; shape[i] > 0; i++)
        length += snprintf(what + length, sizeof what - (size_t)length, "-%d", (int)shape[i]);
    struct task task = new_task("shape", what, shape[1], shape[0]);
    for (int i = 2; shape[i + 1] > 0; i++) append(&task, "dense", activations[3 + i], shape[i]);
    int last = 2;
    while (shape[last + 1] > 0) last++;
    append_output(&task, shape[last] == 1 ? "binary_log_loss" : "log_loss", shape[last]);
    task.rule = rule_named("adam");
    task.l2 = 0.1;
    return task;
}

static struct task sparse_task(const char *rule) {
    struct task task = new_task("sparse", rule, 70, 40);
    append(&task, "dense", "relu", 50);
    append_output(&task, "log_loss", 3);
    task.rule = rule_named(rule);
    task.sparse = task.weighted = true;
    task.l2 = 0.01;
    return task;
}

/* of the size for which a run of steps tries how many threads to take */
static struct task automatic_task(void) {
    struct task task = new_task("automatic", "threads", 20, 50);
    append(&task, "dense", "relu", 100);
    append_output(&task, "binary_log_loss", 1);
    task.rule = rule_named("adam");
    task.automatic = true;
    task.n_steps = 120;
    return task;
}

#endif
