/* options.c: option objects: which there are, and what their parameters may be.
 *
 * A kind is a row here as it is a class in pymlp/losses.py, pymlp/optimizers.py or pymlp/schedules.py; the tests compare
 * both, field by field.  An engine that predicts needs the losses' numbers alone, but a file of which any part is not what
 * its writer could have written is no model.
 */
#include "options.h"

#include <string.h>

#include "lists.h"
#include "pymlp.h"

#define INFINITE __builtin_inf()

/* what a parameter may be, beside numbers in the field's interval */
enum {
    NUMBER,         /* nothing */
    MAYBE_NUMBER,   /* null */
    BOOLEAN,        /* a truth value alone */
    COUNT,          /* an integer of at least `low` alone, or a truth value, which Python takes for one */
    AVERAGE,        /* null, "ema" or "swa" alone */
    STEP,           /* the number of a step: an integer up to 2**62 alone */
    LEVELS,         /* a list of numbers in the interval, which ascend, alone */
    EPOCHS,         /* a number of epochs, or a rising list of them, alone */
    AT_LEAST_LEAST, /* a number no smaller than the parameter "least" alone */
};

struct pymlp_option_field {
    const char *name;
    int type;
    struct pymlp_interval interval;
    double standard; /* the default, of a loss's number and of what others are compared with */
};

/* intervals */
#define FROM_0 {0, INFINITE, false, true}
#define ABOVE_0 {0, INFINITE, true, true}
#define FROM_1 {1, INFINITE, false, true}
#define ABOVE_1 {1, INFINITE, true, true}
#define FROM_0_TO_1 {0, 1, false, false}
#define FROM_0_BELOW_1 {0, 1, false, true}
#define ABOVE_0_TO_1 {0, 1, true, false}
#define ABOVE_0_BELOW_1 {0, 1, true, true}
#define NO_INTERVAL {0, 0, false, false}
#define FIELDS(...) (const struct pymlp_option_field[]) { __VA_ARGS__, {NULL, 0, NO_INTERVAL, 0} }
#define NO_FIELDS (const struct pymlp_option_field[]) { {NULL, 0, NO_INTERVAL, 0} }

#define ADAM_FIELDS                                                                           \
    FIELDS({"beta_1", NUMBER, FROM_0_BELOW_1, 0}, {"beta_2", NUMBER, FROM_0_BELOW_1, 0},      \
           {"epsilon", NUMBER, ABOVE_0, 0})

static const double standard_levels[] = {0.1, 0.5, 0.9};

static const struct pymlp_option_kind kinds[] = {
    {"SquaredError", NUMBER_LOSS, LOSS_squared_error, NO_FIELDS},
    {"AbsoluteError", NUMBER_LOSS, LOSS_absolute_error, NO_FIELDS},
    {"Huber", NUMBER_LOSS, LOSS_huber, FIELDS({"delta", NUMBER, ABOVE_0, 1})},
    {"Quantile", NUMBER_LOSS, LOSS_quantile, FIELDS({"levels", LEVELS, ABOVE_0_BELOW_1, 0})},
    {"GaussianNLL", NUMBER_LOSS, LOSS_gaussian_nll, NO_FIELDS},
    {"LogLoss", CLASS_LOSS, LOSS_log_loss, FIELDS({"label_smoothing", NUMBER, FROM_0_TO_1, 0})},
    {"BinaryLogLoss", CLASS_LOSS, LOSS_binary_log_loss, FIELDS({"label_smoothing", NUMBER, FROM_0_TO_1, 0})},
    {"Focal", CLASS_LOSS, LOSS_focal, FIELDS({"gamma", NUMBER, FROM_0, 2})},
    {"BinaryFocal", CLASS_LOSS, LOSS_binary_focal, FIELDS({"gamma", NUMBER, FROM_0, 2})},
    {"Hinge", CLASS_LOSS, LOSS_hinge, NO_FIELDS},
    {"Perceptron", CLASS_LOSS, LOSS_perceptron, NO_FIELDS},
    {"SquaredHinge", CLASS_LOSS, LOSS_squared_hinge, NO_FIELDS},
    {"Poisson", NUMBER_LOSS, LOSS_poisson, NO_FIELDS},
    {"Gamma", NUMBER_LOSS, LOSS_gamma, NO_FIELDS},
    {"Tweedie", NUMBER_LOSS, LOSS_tweedie, FIELDS({"power", NUMBER, {1, 2, true, true}, 1.5})},
    {"SGD", OPTIMIZER, -1, FIELDS({"momentum", NUMBER, FROM_0_TO_1, 0}, {"nesterov", BOOLEAN, NO_INTERVAL, 0})},
    {"Adam", OPTIMIZER, -1, ADAM_FIELDS},
    {"AdamW", OPTIMIZER, -1, ADAM_FIELDS},
    {"NAdam", OPTIMIZER, -1, ADAM_FIELDS},
    {"RMSprop", OPTIMIZER, -1,
     FIELDS({"rho", NUMBER, FROM_0_BELOW_1, 0}, {"momentum", NUMBER, FROM_0_TO_1, 0}, {"epsilon", NUMBER, ABOVE_0, 0})},
    {"Lion", OPTIMIZER, -1, FIELDS({"beta_1", NUMBER, FROM_0_BELOW_1, 0}, {"beta_2", NUMBER, FROM_0_BELOW_1, 0})},
    {"Rprop", OPTIMIZER, -1,
     FIELDS({"shrink", NUMBER, ABOVE_0_BELOW_1, 0}, {"grow", NUMBER, ABOVE_1, 0}, {"least", NUMBER, ABOVE_0, 1e-6},
            {"most", AT_LEAST_LEAST, FROM_0, 50})},
    {"Constant", SCHEDULE, -1, NO_FIELDS},
    {"InverseScaling", SCHEDULE, -1, FIELDS({"power", NUMBER, FROM_0, 0})},
    {"Step", SCHEDULE, -1, FIELDS({"epochs", EPOCHS, NO_INTERVAL, 0}, {"factor", NUMBER, ABOVE_0_TO_1, 0})},
    {"Exponential", SCHEDULE, -1, FIELDS({"factor", NUMBER, ABOVE_0_TO_1, 0})},
    {"Cosine", SCHEDULE, -1,
     FIELDS({"warmup", NUMBER, FROM_0, 0}, {"restarts", COUNT, FROM_0, 0}, {"final", NUMBER, FROM_0_TO_1, 0},
            {"multiplier", NUMBER, ABOVE_0, 0})},
    {"OneCycle", SCHEDULE, -1,
     FIELDS({"peak", MAYBE_NUMBER, ABOVE_0, 0}, {"rising", NUMBER, ABOVE_0_BELOW_1, 0},
            {"start_divisor", NUMBER, FROM_1, 0}, {"end_divisor", NUMBER, FROM_1, 0})},
    {"Plateau", SCHEDULE, -1,
     FIELDS({"factor", NUMBER, ABOVE_0_TO_1, 0}, {"patience", COUNT, FROM_0, 0}, {"tol", NUMBER, FROM_0, 0},
            {"smallest", NUMBER, FROM_0, 0})},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

/* what all optimizers have besides */
static const struct pymlp_option_field optimizer_fields[] = {
    {"weight_decay", NUMBER, FROM_0, 0},     {"clip_norm", MAYBE_NUMBER, ABOVE_0, 0},
    {"clip_value", MAYBE_NUMBER, ABOVE_0, 0}, {"average", AVERAGE, NO_INTERVAL, 0},
    {"average_decay", NUMBER, FROM_0_BELOW_1, 0}, {"average_start", STEP, NO_INTERVAL, 0},
    {NULL, 0, NO_INTERVAL, 0},
};
/* what no kind has besides */
static const struct pymlp_option_field no_fields[] = {{NULL, 0, NO_INTERVAL, 0}};

bool pymlp_is_in(const struct pymlp_json *value, struct pymlp_interval interval) {
    if (!pymlp_is_number(value)) return false;
    const double number = value->number;
    /* so written that what is not a number fails */
    return (interval.low_open ? number > interval.low : number >= interval.low) &&
           (interval.high_open ? number < interval.high : number <= interval.high);
}

static bool are_levels(const struct pymlp_json *value, struct pymlp_interval interval) {
    if (!pymlp_is_list(value) || pymlp_count_of(value) == 0) return false;
    struct pymlp_items items = pymlp_items_of(value);
    double before = interval.low;
    for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL; before = item->number)
        if (!pymlp_is_in(item, interval) || !(item->number > before)) return false;
    return true;
}

static bool are_epochs(const struct pymlp_json *value) {
    if (value->kind == JSON_INTEGER) return value->number >= 1;
    if (!pymlp_is_list(value) || pymlp_count_of(value) == 0) return false;
    struct pymlp_items items = pymlp_items_of(value);
    struct pymlp_json before = {.kind = JSON_INTEGER, .text = "0", .length = 1};
    char digits[LONGEST_INTEGER];
    for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL;) {
        if (item->kind != JSON_INTEGER || pymlp_compare_numbers(item, &before) <= 0) return false;
        /* an array's item lives until the next one */
        memcpy(digits, item->text, (size_t)item->length);
        before.text = digits;
        before.length = item->length;
    }
    return true;
}

/* `least` NULL: its default */
static bool is_least(const struct pymlp_json *value, const struct pymlp_json *least, struct pymlp_interval interval) {
    const struct pymlp_json standard = {.kind = JSON_REAL, .number = 1e-6};
    if (!pymlp_is_in(value, interval)) return false;
    if (least == NULL) least = &standard;
    /* what is wrong with it is said of itself */
    return !pymlp_is_in(least, interval) || pymlp_compare_numbers(least, value) <= 0;
}

static bool fits(const struct pymlp_option_field *field, const struct pymlp_json *value,
                 const struct pymlp_json *parameters) {
    int64_t integer;
    switch (field->type) {
        case MAYBE_NUMBER: return value->kind == JSON_NULL || pymlp_is_in(value, field->interval);
        case BOOLEAN: return pymlp_is_boolean(value);
        case COUNT: return pymlp_is_boolean(value) || (value->kind == JSON_INTEGER && value->number >= field->interval.low);
        case AVERAGE: return value->kind == JSON_NULL || pymlp_is_text(value, "ema") || pymlp_is_text(value, "swa");
        case STEP: return pymlp_integer_of(value, &integer) && integer >= 0 && integer <= (int64_t)1 << 62;
        case LEVELS: return are_levels(value, field->interval);
        case EPOCHS: return are_epochs(value);
        case AT_LEAST_LEAST: return is_least(value, pymlp_member(parameters, "least"), field->interval);
        default: return pymlp_is_in(value, field->interval);
    }
}

static const struct pymlp_option_field *field_of(const struct pymlp_option_field *fields, const struct pymlp_json *member) {
    for (; fields->name != NULL; fields++)
        if (member->name_length == (int64_t)strlen(fields->name) &&
            memcmp(member->name, fields->name, (size_t)member->name_length) == 0)
            return fields;
    return NULL;
}

const struct pymlp_option_kind *pymlp_take_option(struct pymlp_reading *reading, const char *where,
                                                  const struct pymlp_json *description, int families) {
    static const char *const keys[] = {"option", "parameters", NULL};
    char shown[SHOWN_BYTES], name[SHOWN_BYTES];
    const struct pymlp_json *option = pymlp_member(description, "option");
    const struct pymlp_json *parameters = pymlp_member(description, "parameters");
    int number = 0;
    while (number < N_KINDS && !((kinds[number].family & families) && pymlp_is_text(option, kinds[number].name))) number++;
    if (number == N_KINDS || parameters == NULL || parameters->kind != JSON_OBJECT) {
        pymlp_complain(reading, "%s: not the description of an option object: %s", where, pymlp_shown(option, shown));
        return NULL;
    }
    if (!pymlp_has_only(reading, where, description, keys)) return NULL;
    const struct pymlp_option_kind *kind = &kinds[number];
    /* a parameter that is not given may not fit one that is */
    for (const struct pymlp_option_field *field = kind->fields; field->name != NULL; field++) {
        const struct pymlp_json standard = {.kind = JSON_REAL, .number = field->standard};
        if (field->type != AT_LEAST_LEAST || pymlp_member(parameters, field->name) != NULL) continue;
        if (fits(field, &standard, parameters)) continue;
        pymlp_complain(reading, "%s: the parameter %s of %s must be given", where, field->name, kind->name);
        return NULL;
    }
    for (const struct pymlp_json *value = parameters->first; value != NULL; value = value->next) {
        const struct pymlp_option_field *field = field_of(kind->fields, value);
        if (field == NULL) field = field_of(kind->family == OPTIMIZER ? optimizer_fields : no_fields, value);
        if (field == NULL) {
            pymlp_complain(reading, "%s: %s has no parameter %s", where, kind->name,
                           pymlp_shown_text(value->name, value->name_length, name));
            return NULL;
        }
        if (!fits(field, value, parameters)) {
            pymlp_complain(reading, "%s: the parameter %s of %s cannot be %s", where, field->name, kind->name,
                           pymlp_shown(value, shown));
            return NULL;
        }
    }
    return kind;
}

/* --- losses ------------------------------------------------------------------------------------------------------- */

static const struct pymlp_option_kind *kind_of_loss(int loss) {
    for (int i = 0; i < N_KINDS; i++)
        if (kinds[i].loss == loss) return &kinds[i];
    return NULL;
}

static struct pymlp_described_loss loss_with(const struct pymlp_option_kind *kind, bool by_name, int64_t n_numbers,
                                             const double *numbers) {
    struct pymlp_described_loss found = {.loss = kind->loss,
                                         .by_name = by_name,
                                         .family = kind->family,
                                         .group = 1,
                                         .output_activation = pymlp_loss_rows[kind->loss].output_activation,
                                         .n_numbers = n_numbers,
                                         .numbers = numbers};
    /* the levels, or a mean and a deviation */
    if (kind->loss == LOSS_quantile) found.group = (int)n_numbers;
    if (kind->loss == LOSS_gaussian_nll) found.group = 2;
    return found;
}

struct pymlp_described_loss pymlp_loss_by_name(int loss) {
    const struct pymlp_option_kind *kind = kind_of_loss(loss);
    if (loss == LOSS_quantile) return loss_with(kind, true, 3, standard_levels);
    return loss_with(kind, true, kind->fields->name != NULL, &kind->fields->standard);
}

/* A loss of the user's own, whose function is in no file. */
static bool take_custom(struct pymlp_reading *reading, const char *where, const struct pymlp_json *value,
                        struct pymlp_described_loss *found) {
    static const char *const keys[] = {"output_activation", NULL};
    char shown[SHOWN_BYTES];
    const struct pymlp_json *parameters = pymlp_member(value, "parameters");
    if (parameters == NULL || parameters->kind != JSON_OBJECT)
        return pymlp_complain(reading, "%s: a CustomLoss without parameters", where);
    if (!pymlp_has_only(reading, where, parameters, keys)) return false;
    const struct pymlp_json *name = pymlp_member(parameters, keys[0]);
    const int activation = name == NULL ? ACTIVATION_identity : pymlp_activation_of(name);
    if (activation < 0)
        return pymlp_complain(reading, "%s: output_activation=%s is unknown", where, pymlp_shown(name, shown));
    *found = (struct pymlp_described_loss){
        .loss = LOSS_custom, .family = ANY_LOSS, .group = 1, .output_activation = activation};
    return true;
}

bool pymlp_take_loss(struct pymlp_reading *reading, const char *where, const struct pymlp_json *value,
                     struct pymlp_described_loss *found) {
    char shown[SHOWN_BYTES];
    if (value->kind != JSON_OBJECT) {
        for (int i = 0; i < N_KINDS; i++) {
            if (kinds[i].loss < 0 || !pymlp_is_text(value, pymlp_loss_rows[kinds[i].loss].name)) continue;
            *found = pymlp_loss_by_name(kinds[i].loss);
            return true;
        }
        return pymlp_complain(reading, "%s: loss=%s is unknown", where, pymlp_shown(value, shown));
    }
    if (pymlp_is_text(pymlp_member(value, "option"), "CustomLoss")) return take_custom(reading, where, value, found);
    const struct pymlp_option_kind *kind = pymlp_take_option(reading, where, value, ANY_LOSS);
    if (kind == NULL) return false;
    *found = pymlp_loss_by_name(kind->loss);
    found->by_name = false;
    const struct pymlp_json *given = kind->fields->name == NULL
                                         ? NULL
                                         : pymlp_member(pymlp_member(value, "parameters"), kind->fields->name);
    if (given == NULL) return true;
    const bool is_list = pymlp_is_list(given);
    const int64_t count = is_list ? pymlp_count_of(given) : 1;
    double *numbers = pymlp_kept(reading, count, sizeof *numbers);
    if (numbers == NULL) return false;
    if (is_list) {
        struct pymlp_items items = pymlp_items_of(given);
        int64_t i = 0;
        for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL;) numbers[i++] = item->number;
    } else {
        *numbers = given->number;
    }
    *found = loss_with(kind, false, count, numbers);
    return true;
}

bool pymlp_are_same_losses(const struct pymlp_described_loss *left, const struct pymlp_described_loss *right) {
    if (left->loss != right->loss || left->by_name != right->by_name ||
        left->output_activation != right->output_activation || left->n_numbers != right->n_numbers)
        return false;
    for (int64_t i = 0; i < left->n_numbers; i++)
        if (left->numbers[i] != right->numbers[i]) return false;
    return true;
}

/* --- activations -------------------------------------------------------------------------------------------------- */

int pymlp_activation_of(const struct pymlp_json *text) {
    for (int i = 0; i < N_ACTIVATIONS; i++)
        if (pymlp_is_text(text, pymlp_activation_rows[i].name)) return i;
    return -1;
}

bool pymlp_is_hidden_activation(int activation) {
    /* the exponential would overflow where anything follows it */
    return pymlp_activation_rows[activation].slope < ROW_WISE && activation != ACTIVATION_exp;
}
