/* options.h: option objects as model files describe them: losses, optimizers, schedules; see options.c. */
#ifndef PYMLP_OPTIONS_H
#define PYMLP_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "functions.h"
#include "json.h"
#include "reading.h"

/* families of kinds, and of losses those of classes and of numbers */
enum { CLASS_LOSS = 1, NUMBER_LOSS = 2, OPTIMIZER = 4, SCHEDULE = 8, ANY_LOSS = CLASS_LOSS | NUMBER_LOSS, ANY_OPTION = 15 };

struct pymlp_option_field;
struct pymlp_option_kind {
    const char *name;
    int family, loss; /* loss: its number in the registry, -1: none */
    const struct pymlp_option_field *fields; /* up to one without a name */
};

/* The kind of an option object of one of these families whose parameters all fit; NULL with a complaint. */
const struct pymlp_option_kind *pymlp_take_option(struct pymlp_reading *reading, const char *where,
                                                  const struct pymlp_json *description, int families);

/* A loss by its name, or as an object with its own numbers. */
struct pymlp_described_loss {
    int loss;     /* its number; LOSS_custom: a function that no file holds */
    bool by_name;
    int family, group, output_activation;
    int64_t n_numbers;
    const double *numbers;
};

/* The loss that a name or an object describes. */
bool pymlp_take_loss(struct pymlp_reading *reading, const char *where, const struct pymlp_json *value,
                     struct pymlp_described_loss *found);
/* The loss of this number by its name, with its default numbers. */
struct pymlp_described_loss pymlp_loss_by_name(int loss);
/* Whether files say the same of two losses. */
bool pymlp_are_same_losses(const struct pymlp_described_loss *left, const struct pymlp_described_loss *right);

/* The number of the activation that the text names, or -1. */
int pymlp_activation_of(const struct pymlp_json *text);
/* Whether hidden layers may have it. */
bool pymlp_is_hidden_activation(int activation);

/* Whether a value is a number in an interval, as pymlp/options.py checks it: truth values are none. */
struct pymlp_interval {
    double low, high;
    bool low_open, high_open;
};
bool pymlp_is_in(const struct pymlp_json *value, struct pymlp_interval interval);

#endif
