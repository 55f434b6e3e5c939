/* parameters.c: the parameters of an estimator, checked as pymlp/model_state.py and pymlp/validation.py check them.
 *
 * None of them changes a prediction.  But a file in which one is none that `fit` takes was not written by `save`, and
 * what else it says is not to be trusted.
 */
#include "parameters.h"

#include <stdlib.h>
#include <string.h>

#include "estimator.h"
#include "lists.h"
#include "network.h"

/* what a JSON value stands for (pymlp/model_state.py, `from_plain`) */
enum { A_VALUE, A_SEQUENCE, A_DICT, A_LAYER, AN_OPTION };

/* what a parameter may be */
enum {
    REAL_NUMBER,  /* a number in its interval, for which Python takes truth values, too */
    MAYBE_REAL,   /* the same or null */
    WHOLE_NUMBER, /* an integer in its interval, likewise */
    TRUTH,
    SIZES,        /* a width, a layer, or a sequence of these */
    ACTIVATIONS,  /* the name of a hidden layer's, or any sequence */
    SOLVER,
    BATCH,        /* "auto" or an integer in its interval */
    RATE,         /* a name or a schedule */
    SEED,         /* null or an integer of 32 bits */
    VERBOSITY,    /* an integer in its interval or a truth value */
    PATIENCE,     /* an integer in its interval or infinity */
    SCORING,      /* null or any text */
    TYPE,         /* null or a type's name */
    LOSS,
    CLASS_WEIGHT, /* null, "balanced", a dict or a sequence */
};

struct parameter {
    const char *name;
    int estimators, type;
    struct pymlp_interval interval;
};

#define BOTH (IS_CLASSIFIER | IS_REGRESSOR)
#define INFINITE __builtin_inf()
#define NO_INTERVAL {0, 0, false, false}
#define FROM(low) {low, INFINITE, false, true}
#define ABOVE_0 {0, INFINITE, true, true}
#define BELOW_1 {0, 1, false, true}
#define TO_1 {0, 1, false, false}

static const struct parameter known[] = {
    {"hidden_layer_sizes", BOTH, SIZES, FROM(1)},
    {"activation", BOTH, ACTIVATIONS, NO_INTERVAL},
    {"solver", BOTH, SOLVER, NO_INTERVAL},
    {"alpha", BOTH, REAL_NUMBER, FROM(0)},
    {"batch_size", BOTH, BATCH, FROM(1)},
    {"learning_rate", BOTH, RATE, NO_INTERVAL},
    {"learning_rate_init", BOTH, REAL_NUMBER, ABOVE_0},
    {"power_t", BOTH, REAL_NUMBER, FROM(0)},
    {"max_iter", BOTH, WHOLE_NUMBER, FROM(1)},
    {"shuffle", BOTH, TRUTH, NO_INTERVAL},
    {"random_state", BOTH, SEED, {0, 4294967295.0, false, false}},
    {"tol", BOTH, REAL_NUMBER, FROM(0)},
    {"verbose", BOTH, VERBOSITY, FROM(0)},
    {"warm_start", BOTH, TRUTH, NO_INTERVAL},
    {"momentum", BOTH, REAL_NUMBER, TO_1},
    {"nesterovs_momentum", BOTH, TRUTH, NO_INTERVAL},
    {"early_stopping", BOTH, TRUTH, NO_INTERVAL},
    {"validation_fraction", BOTH, REAL_NUMBER, BELOW_1},
    {"beta_1", BOTH, REAL_NUMBER, BELOW_1},
    {"beta_2", BOTH, REAL_NUMBER, BELOW_1},
    {"epsilon", BOTH, REAL_NUMBER, ABOVE_0},
    {"n_iter_no_change", BOTH, PATIENCE, FROM(1)},
    {"max_fun", BOTH, WHOLE_NUMBER, FROM(1)},
    {"dropout", BOTH, REAL_NUMBER, BELOW_1},
    {"l1_ratio", BOTH, REAL_NUMBER, TO_1},
    {"scoring", BOTH, SCORING, NO_INTERVAL},
    {"standardize", BOTH, TRUTH, NO_INTERVAL},
    {"max_time", BOTH, MAYBE_REAL, ABOVE_0},
    {"dtype", BOTH, TYPE, NO_INTERVAL},
    {"roll_back", BOTH, TRUTH, NO_INTERVAL},
    {"input_dropout", BOTH, REAL_NUMBER, BELOW_1},
    {"loss", BOTH, LOSS, NO_INTERVAL},
    {"class_weight", IS_CLASSIFIER, CLASS_WEIGHT, NO_INTERVAL},
    {"standardize_target", IS_REGRESSOR, TRUTH, NO_INTERVAL},
};
enum { N_PARAMETERS = sizeof known / sizeof *known };

/* --- what a value stands for -------------------------------------------------------------------------------------- */

/* A key of a dict: a text, or a number, of which an integer of 64 bits need not keep its digits. */
struct key {
    int kind;
    double number;
    bool is_small;
    int64_t integer;
    const char *text;
    int64_t length;
};

static struct key key_of(const struct pymlp_json *value) {
    struct key key = {.kind = value->kind, .number = value->number, .text = value->text, .length = value->length};
    key.is_small = pymlp_integer_of(value, &key.integer);
    /* Python takes truth values for 0 and 1 */
    if (pymlp_is_boolean(value)) {
        key.kind = JSON_INTEGER;
        key.is_small = true;
        key.integer = value->kind == JSON_TRUE;
    }
    return key;
}

static bool is_nan(const struct key *key) { return key->kind == JSON_REAL && key->number != key->number; }

/* Texts first, then numbers in their order, then those that are none. */
static int compare_keys(const void *left, const void *right) {
    const struct key *a = left, *b = right;
    const int a_class = a->kind == JSON_TEXT ? 0 : 1 + is_nan(a), b_class = b->kind == JSON_TEXT ? 0 : 1 + is_nan(b);
    if (a_class != b_class) return a_class - b_class;
    if (a_class == 2) return 0;
    const struct pymlp_json first = {.kind = a->kind, .number = a->number, .text = a->text, .length = a->length};
    const struct pymlp_json second = {.kind = b->kind, .number = b->number, .text = b->text, .length = b->length};
    if (a_class == 0) return pymlp_compare_texts(&first, &second);
    /* rounded numbers are in the order of the numbers, as far as they tell */
    if (a->number != b->number) return a->number < b->number ? -1 : 1;
    if (a->is_small && b->is_small) return (a->integer > b->integer) - (a->integer < b->integer);
    /* an integer that a real equals, when rounded, is small, or has its digits in the JSON text */
    if (a->is_small || b->is_small) {
        const struct key *small = a->is_small ? a : b, *other = a->is_small ? b : a;
        const double real = other->number;
        /* what is past 64 bits is further from 0; so is a real of 2**63 */
        int found = real < 0 ? 1 : -1;
        if (other->kind == JSON_REAL && real < 9223372036854775808.0)
            found = (small->integer > (int64_t)real) - (small->integer < (int64_t)real);
        return a->is_small ? found : -found;
    }
    return pymlp_compare_numbers(&first, &second);
}

static bool take_plain(struct pymlp_reading *reading, const char *where, const struct pymlp_json *value, int *what,
                       const struct pymlp_option_kind **option);

static bool take_plain_items(struct pymlp_reading *reading, const char *where, const struct pymlp_json *list) {
    struct pymlp_items items = pymlp_items_of(list);
    int what;
    const struct pymlp_option_kind *option;
    for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL;)
        if (!take_plain(reading, where, item, &what, &option)) return false;
    return true;
}

/* The keys and the values of a dict, as many of both, no key twice. */
static bool take_dict(struct pymlp_reading *reading, const char *where, const struct pymlp_json *keys,
                      const struct pymlp_json *values) {
    if (!pymlp_is_list(keys) || !pymlp_is_list(values) || pymlp_count_of(keys) != pymlp_count_of(values))
        return pymlp_complain(reading, "%s: a dict must have as many keys as values", where);
    struct key *found = pymlp_scrap(reading, pymlp_count_of(keys), sizeof *found);
    if (found == NULL) return false;
    int64_t count = 0;
    struct pymlp_items items = pymlp_items_of(keys);
    for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL;) {
        if (item->kind != JSON_TEXT && !pymlp_is_number(item) && !pymlp_is_boolean(item))
            return pymlp_complain(reading, "%s: the keys of a dict must be strings or numbers", where);
        found[count++] = key_of(item);
    }
    qsort(found, (size_t)count, sizeof *found, compare_keys);
    /* of a JSON text NaN is one object of Python's, which equals itself; of an array each is another */
    for (int64_t i = 1; i < count; i++)
        if (!(is_nan(&found[i]) && keys->kind == JSON_ARRAY) && compare_keys(&found[i - 1], &found[i]) == 0)
            return pymlp_complain(reading, "%s: a dict has a key twice", where);
    return take_plain_items(reading, where, values);
}

static bool take_plain(struct pymlp_reading *reading, const char *where, const struct pymlp_json *value, int *what,
                       const struct pymlp_option_kind **option) {
    *option = NULL;
    if (pymlp_is_list(value)) {
        *what = A_SEQUENCE;
        return take_plain_items(reading, where, value);
    }
    *what = A_VALUE;
    if (value->kind != JSON_OBJECT) return true;
    const struct pymlp_json *keys = pymlp_member(value, "keys"), *values = pymlp_member(value, "values");
    if (value->count == 2 && keys != NULL && values != NULL) {
        *what = A_DICT;
        return take_dict(reading, where, keys, values);
    }
    const struct pymlp_json *layer = pymlp_member(value, "layer");
    if (value->count == 1 && layer != NULL && layer->kind == JSON_OBJECT) {
        struct pymlp_dense dense;
        *what = A_LAYER;
        return pymlp_take_dense(reading, where, layer, &dense);
    }
    *what = AN_OPTION;
    *option = pymlp_take_option(reading, where, value, ANY_OPTION);
    return *option != NULL;
}

/* --- parameters --------------------------------------------------------------------------------------------------- */

static bool is_in(const struct pymlp_json *value, struct pymlp_interval interval, bool whole) {
    if (pymlp_is_boolean(value)) {
        const struct pymlp_json number = {.kind = JSON_INTEGER, .number = value->number};
        return pymlp_is_in(&number, interval);
    }
    return (!whole || value->kind == JSON_INTEGER) && pymlp_is_in(value, interval);
}

static bool is_named(const struct pymlp_json *value, const char *const *names) {
    while (*names != NULL && !pymlp_is_text(value, *names)) names++;
    return *names != NULL;
}

/* A width is an integer above 0, a layer was looked at. */
static bool are_sizes(const struct pymlp_json *value, int what) {
    if (what != A_SEQUENCE) return what == A_LAYER || (value->kind == JSON_INTEGER && value->number >= 1);
    struct pymlp_items items = pymlp_items_of(value);
    for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL;) {
        const bool is_layer = item->count == 1 && pymlp_member(item, "layer") != NULL;
        if (!is_layer && !(item->kind == JSON_INTEGER && item->number >= 1)) return false;
    }
    return true;
}

static bool is_solver(const struct pymlp_json *value) {
    int number = 0;
    while (number < N_OPTIMIZERS && !pymlp_is_text(value, pymlp_optimizer_rows[number].name)) number++;
    return number < N_OPTIMIZERS || pymlp_is_text(value, "lbfgs");
}

static bool is_of_family(const struct pymlp_option_kind *option, int families) {
    return option != NULL && (option->family & families);
}

static bool fits(const struct parameter *parameter, const struct pymlp_json *value, int what,
                 const struct pymlp_option_kind *option) {
    static const char *const rates[] = {"constant", "invscaling", "adaptive", NULL};
    static const char *const types[] = {"float32", "float64", NULL};
    const bool is_value = what == A_VALUE, is_null = value->kind == JSON_NULL;
    int activation;
    switch (parameter->type) {
        case REAL_NUMBER: return is_value && is_in(value, parameter->interval, false);
        case MAYBE_REAL: return is_value && (is_null || is_in(value, parameter->interval, false));
        case WHOLE_NUMBER: return is_value && is_in(value, parameter->interval, true);
        case TRUTH: return pymlp_is_boolean(value);
        case SIZES: return are_sizes(value, what);
        case ACTIVATIONS:
            activation = pymlp_activation_of(value);
            return what == A_SEQUENCE || (activation >= 0 && pymlp_is_hidden_activation(activation));
        case SOLVER: return is_solver(value) || is_of_family(option, OPTIMIZER);
        case BATCH: return pymlp_is_text(value, "auto") || (is_value && is_in(value, parameter->interval, true));
        case RATE: return is_named(value, rates) || is_of_family(option, SCHEDULE);
        case SEED: return is_value && (is_null || is_in(value, parameter->interval, true));
        case VERBOSITY: return is_value && is_in(value, parameter->interval, true);
        case PATIENCE:
            return is_value && (is_in(value, parameter->interval, true) ||
                                (value->kind == JSON_REAL && value->number == INFINITE));
        case SCORING: return is_null || value->kind == JSON_TEXT;
        case TYPE: return is_null || is_named(value, types);
        case CLASS_WEIGHT: return is_null || pymlp_is_text(value, "balanced") || what == A_DICT || what == A_SEQUENCE;
        default: return false;
    }
}

static bool take_loss_parameter(struct pymlp_reading *reading, int estimator, bool of_custom, const char *where,
                                const struct pymlp_json *value, struct pymlp_described_loss *loss) {
    char shown[SHOWN_BYTES];
    if (!pymlp_take_loss(reading, where, value, loss)) return false;
    const int family = estimator == IS_CLASSIFIER ? CLASS_LOSS : NUMBER_LOSS;
    /* a name stands for those that fit any number of classes */
    const bool is_binary = loss->loss == LOSS_binary_log_loss || loss->loss == LOSS_binary_focal;
    const bool is_known = loss->loss == LOSS_custom ? of_custom : loss->family == family && !(loss->by_name && is_binary);
    return is_known || pymlp_complain(reading, "%s: the loss cannot be %s", where, pymlp_shown(value, shown));
}

bool pymlp_take_parameters_of(struct pymlp_reading *reading, int estimator, bool of_custom,
                              const struct pymlp_json *parameters, struct pymlp_described_loss *loss) {
    char shown[SHOWN_BYTES], where[SHOWN_BYTES + 20];
    if (parameters == NULL || parameters->kind != JSON_OBJECT)
        return pymlp_complain(reading, "the parameters of the estimator must be an object, found %s",
                              pymlp_shown(parameters, shown));
    *loss = pymlp_loss_by_name(estimator == IS_CLASSIFIER ? LOSS_log_loss : LOSS_squared_error);
    if (of_custom && pymlp_member(parameters, "loss") == NULL)
        return pymlp_complain(reading, "the parameters of the estimator have no loss");
    for (const struct pymlp_json *value = parameters->first; value != NULL; value = value->next) {
        int number = 0, what;
        const struct pymlp_option_kind *option;
        pymlp_shown_text(value->name, value->name_length, shown);
        while (number < N_PARAMETERS && !((known[number].estimators & estimator) &&
                                          value->name_length == (int64_t)strlen(known[number].name) &&
                                          memcmp(value->name, known[number].name, (size_t)value->name_length) == 0))
            number++;
        if (number == N_PARAMETERS) return pymlp_complain(reading, "there is no parameter %s", shown);
        strcpy(where, "the parameter ");
        strcat(where, shown);
        if (known[number].type == LOSS) {
            if (!take_loss_parameter(reading, estimator, of_custom, where, value, loss)) return false;
            continue;
        }
        if (!take_plain(reading, where, value, &what, &option)) return false;
        if (!fits(&known[number], value, what, option))
            return pymlp_complain(reading, "%s cannot be %s", where, pymlp_shown(value, shown));
    }
    return true;
}
