/* estimator.c: the state of an estimator in a model file, checked as pymlp/model_state.py, pymlp/standardisation.py and the
 * estimators themselves check it: every value is one that `fit` could have left behind.
 *
 * What predictions need of it is the labels of classes, the names of features and how targets were scaled; the parameters
 * and the records of the fit are looked at and left.
 */
#include "estimator.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#include "lists.h"
#include "parameters.h"

const char *const pymlp_task_names[N_TASKS] = {"binary", "multiclass", "multilabel-indicator", "numbers"};

/* --- records of the fit ------------------------------------------------------------------------------------------- */

static bool is_null(const struct pymlp_json *value) { return value->kind == JSON_NULL; }
static bool is_count(const struct pymlp_json *value) { return value->kind == JSON_INTEGER && value->number >= 0; }
static bool is_maybe_number(const struct pymlp_json *value) { return is_null(value) || pymlp_is_number(value); }

static bool are_all(const struct pymlp_json *value, bool (*is_one)(const struct pymlp_json *value)) {
    if (!pymlp_is_list(value)) return false;
    struct pymlp_items items = pymlp_items_of(value);
    for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL;)
        if (!is_one(item)) return false;
    return true;
}

static bool are_numbers(const struct pymlp_json *value) { return are_all(value, pymlp_is_number); }
static bool are_maybe_numbers(const struct pymlp_json *value) { return is_null(value) || are_numbers(value); }

static bool is_history(const struct pymlp_json *value) {
    const struct pymlp_json *loss = pymlp_member(value, "loss");
    const struct pymlp_json *others[] = {pymlp_member(value, "validation_score"), pymlp_member(value, "rate")};
    if (loss == NULL || value->count != 3 || !are_numbers(loss)) return false;
    /* null where there is none at all */
    for (int i = 0; i < 2; i++)
        if (others[i] == NULL || !(is_null(others[i]) || (are_all(others[i], is_maybe_number) &&
                                                          pymlp_count_of(others[i]) == pymlp_count_of(loss))))
            return false;
    return true;
}

static bool take_records(struct pymlp_reading *reading, const struct pymlp_json *records) {
    static const struct { const char *name; bool (*is_one)(const struct pymlp_json *value); } known[] = {
        {"n_iter_", is_count},
        {"history_", is_history},
        {"t_", is_count},
        {"loss_", pymlp_is_number},
        {"best_loss_", is_maybe_number},
        {"loss_curve_", are_numbers},
        {"validation_scores_", are_maybe_numbers},
        {"best_validation_score_", is_maybe_number},
    };
    enum { N_KNOWN = sizeof known / sizeof *known };
    char shown[SHOWN_BYTES];
    if (records == NULL || records->kind != JSON_OBJECT)
        return pymlp_complain(reading, "the records of the fit must be an object, found %s", pymlp_shown(records, shown));
    int64_t found = 0;
    for (int i = 0; i < N_KNOWN; i++) {
        const struct pymlp_json *value = pymlp_member(records, known[i].name);
        if (value == NULL) continue;
        found++;
        if (!known[i].is_one(value))
            return pymlp_complain(reading, "the record %s does not hold what a fit leaves there", known[i].name);
    }
    return found == records->count || pymlp_complain(reading, "the model has unknown records");
}

/* --- how inputs and targets were scaled --------------------------------------------------------------------------- */

/* Means and deviations of so many columns; what they are is written to `mean` and `deviation`, where these are not NULL. */
static bool take_scaling(struct pymlp_reading *reading, const char *name, const struct pymlp_json *value,
                         int64_t columns, bool of_inputs, double *mean, double *deviation) {
    const struct pymlp_json *means = value->kind == JSON_LIST && value->count == 2 ? value->first : NULL;
    const struct pymlp_json *deviations = means == NULL ? NULL : means->next;
    if (!are_numbers(means) || !are_numbers(deviations) || pymlp_count_of(means) != columns ||
        pymlp_count_of(deviations) != columns)
        return pymlp_complain(reading, "the scaling of the %s must have %lld means and deviations", name,
                              (long long)columns);
    struct pymlp_items items = pymlp_items_of(means);
    int64_t at = 0;
    bool fits = true;
    for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL; at++) {
        /* so written that what is not a number fails */
        fits = fits && item->number >= -DBL_MAX && item->number <= DBL_MAX;
        if (mean != NULL) mean[at] = item->number;
    }
    items = pymlp_items_of(deviations);
    at = 0;
    for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL; at++) {
        /* those of a constant input are infinite, and those of a constant target 1 */
        fits = fits && item->number > 0 && (of_inputs || item->number <= DBL_MAX);
        if (deviation != NULL) deviation[at] = item->number;
    }
    return fits || pymlp_complain(reading, "the scaling of the %s must have finite means and deviations above 0", name);
}

static bool take_standardisation(struct pymlp_reading *reading, const struct pymlp_json *value,
                                 const struct pymlp_network *network, struct pymlp_estimator *found) {
    if (value == NULL || is_null(value)) return true;
    const struct pymlp_json *inputs = pymlp_member(value, "inputs"), *target = pymlp_member(value, "target");
    if (inputs == NULL || target == NULL || value->count != 2)
        return pymlp_complain(reading, "a standardisation has an entry each for inputs and target");
    if (!is_null(inputs) && !take_scaling(reading, "inputs", inputs, network->inputs, true, NULL, NULL)) return false;
    if (is_null(target)) return true;
    double *mean = pymlp_kept(reading, network->outputs, sizeof *mean);
    double *deviation = pymlp_kept(reading, network->outputs, sizeof *deviation);
    if (mean == NULL || deviation == NULL ||
        !take_scaling(reading, "target", target, network->outputs, false, mean, deviation))
        return false;
    /* what is linear at its end has the scaling in its last layer */
    if (network->loss.output_activation == ACTIVATION_identity) return true;
    /* a deviation has no place to be shifted to */
    if (network->loss.loss == LOSS_gaussian_nll)
        for (int64_t i = 1; i < network->outputs; i += 2) mean[i] = 0;
    found->mean = mean;
    found->deviation = deviation;
    return true;
}

/* --- what is predicted -------------------------------------------------------------------------------------------- */

/* The form of a loss that fits the classes: of single columns, or of those that share a softmax. */
static bool fits_classes(const struct pymlp_described_loss *asked, int task, const struct pymlp_network *network) {
    struct pymlp_described_loss loss = *asked;
    const bool joint = task == TASK_MULTICLASS;
    if (loss.loss == LOSS_binary_log_loss || loss.loss == LOSS_binary_focal) {
        if (joint) return false;
    } else if (!joint && (loss.loss == LOSS_log_loss || loss.loss == LOSS_focal)) {
        /* by its name the log loss stays a name, the focal loss becomes an object */
        loss.loss = loss.loss == LOSS_log_loss ? LOSS_binary_log_loss : LOSS_binary_focal;
        loss.by_name = asked->by_name && asked->loss == LOSS_log_loss;
        loss.output_activation = pymlp_loss_rows[loss.loss].output_activation;
    }
    return pymlp_are_same_losses(&loss, &network->loss);
}

static bool take_classes(struct pymlp_reading *reading, const struct pymlp_json *classes,
                         const struct pymlp_described_loss *asked, const struct pymlp_network *network,
                         struct pymlp_estimator *found) {
    static const char *const keys[] = {"kind", "dtype", "values", "sparse_labels", NULL};
    char shown[SHOWN_BYTES];
    if (classes == NULL || classes->kind != JSON_OBJECT || classes->count != 4 ||
        !pymlp_has_only(reading, "the entry of classes", classes, keys))
        return pymlp_complain(reading, "the model does not say what its classes are");
    const struct pymlp_json *kind = pymlp_member(classes, "kind"), *sparse = pymlp_member(classes, "sparse_labels");
    found->task = 0;
    while (found->task < TASK_NUMBERS && !pymlp_is_text(kind, pymlp_task_names[found->task])) found->task++;
    if (found->task == TASK_NUMBERS)
        return pymlp_complain(reading, "the model has an unknown kind of classes: %s", pymlp_shown(kind, shown));
    if (sparse->kind != JSON_FALSE && (sparse->kind != JSON_TRUE || found->task != TASK_LABELS))
        return pymlp_complain(reading, "sparse_labels=%s does not fit %s classes", pymlp_shown(sparse, shown), kind->text);
    const struct pymlp_json *values = pymlp_member(classes, "values");
    found->classes = pymlp_take_labels(reading, pymlp_member(classes, "dtype"), values);
    if (found->classes == NULL) return false;
    found->n_classes = pymlp_count_of(values);
    if (found->task != TASK_LABELS && (found->task == TASK_BINARY) != (found->n_classes <= 2))
        return pymlp_complain(reading, "%lld classes are not %s", (long long)found->n_classes, kind->text);
    const int64_t columns = found->task == TASK_BINARY ? 1 : found->n_classes;
    return (columns == network->outputs && fits_classes(asked, found->task, network)) ||
           pymlp_complain(reading, "%lld %s classes do not fit the network's outputs and loss",
                          (long long)found->n_classes, kind->text);
}

static bool take_features(struct pymlp_reading *reading, const struct pymlp_json *features,
                          const struct pymlp_network *network, struct pymlp_estimator *found) {
    if (features == NULL) return pymlp_complain(reading, "the state has no 'features'");
    if (is_null(features)) return true;
    if (!pymlp_is_list(features) || pymlp_count_of(features) != network->inputs)
        return pymlp_complain(reading, "the names of the %lld features must be as many strings",
                              (long long)network->inputs);
    found->features = pymlp_take_texts(reading, features);
    return found->features != NULL;
}

/* Whether a regressor's network has the loss that its parameters ask for, by a name or as an object. */
static bool is_loss_of(const struct pymlp_described_loss *asked, const struct pymlp_network *network) {
    struct pymlp_described_loss left = *asked, right = network->loss;
    left.by_name = right.by_name = false;
    return pymlp_are_same_losses(&left, &right);
}

bool pymlp_take_estimator(struct pymlp_reading *reading, int kind, const struct pymlp_json *state,
                          const struct pymlp_network *network, struct pymlp_estimator *found) {
    static const char *const of_all[] = {"class", "parameters", "features", "fitted", "standardisation", NULL};
    static const char *const of_classifier[] = {"class", "parameters", "features", "fitted", "standardisation",
                                                "classes", NULL};
    const char *name = kind == IS_CLASSIFIER ? "MLPClassifier" : "MLPRegressor";
    char shown[SHOWN_BYTES];
    struct pymlp_described_loss asked;
    *found = (struct pymlp_estimator){.task = TASK_NUMBERS};
    const struct pymlp_json *class = pymlp_member(state, "class");
    if (!pymlp_is_text(class, name))
        return pymlp_complain(reading, "the model is of class %s, not %s", pymlp_shown(class, shown), name);
    if (!pymlp_has_only(reading, "the state", state, kind == IS_CLASSIFIER ? of_classifier : of_all) ||
        !pymlp_take_parameters_of(reading, kind, network->loss.loss == LOSS_custom, pymlp_member(state, "parameters"),
                                  &asked) ||
        !take_records(reading, pymlp_member(state, "fitted")) ||
        !take_features(reading, pymlp_member(state, "features"), network, found) ||
        !take_standardisation(reading, pymlp_member(state, "standardisation"), network, found))
        return false;
    if (kind == IS_CLASSIFIER) return take_classes(reading, pymlp_member(state, "classes"), &asked, network, found);
    return is_loss_of(&asked, network) ||
           pymlp_complain(reading, "the network's loss is not the one that the parameters ask for");
}
