/* model.c: a model file as a thing to predict with, without Python.
 *
 * What a file says is checked by the files for its parts; here they meet, and become a predictor with what its columns mean.
 * A model answers what `pymlp.Predictor` answers of the same file, to the bit.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

#include "container.h"
#include "estimator.h"
#include "functions.h"
#include "lists.h"
#include "network.h"
#include "pymlp.h"
#include "reading.h"

struct pymlp_model {
    struct pymlp_blocks kept; /* this structure, too */
    pymlp_predictor *predictor;
    struct pymlp_network network;
    pymlp_loss_rule loss;
    void *params;
    bool with_complement;
    /* what outputs are multiplied by, and what is then added, of the network's type; NULL: nothing */
    void *scale, *shift;
    struct pymlp_estimator estimator;
};

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* What the metadata say of the file itself; the estimator's kind, 0 of a plain network. */
static bool take_metadata(struct pymlp_reading *reading, const struct pymlp_json *metadata, int *estimator) {
    static const char *const keys[] = {"format",    "format_version", "pymlp_version", "network",
                                       "estimator", "state",          "sha256",        NULL};
    char shown[SHOWN_BYTES];
    const struct pymlp_json *format = pymlp_member(metadata, "format");
    if (pymlp_is_text(format, "pymlp checkpoint"))
        return pymlp_complain(reading, "it is the checkpoint of a training run");
    if (!pymlp_is_text(format, "pymlp"))
        return pymlp_complain(reading, "__metadata__['format'] must be 'pymlp', found %s", pymlp_shown(format, shown));
    const struct pymlp_json *version = pymlp_member(metadata, "format_version");
    if (!pymlp_is_text(version, "1"))
        return pymlp_complain(reading, "its format version is %s and this pymlp reads '1'", pymlp_shown(version, shown));
    const struct pymlp_json *writer = pymlp_member(metadata, "pymlp_version");
    bool is_printable = writer != NULL;
    for (int64_t i = 0; is_printable && i < writer->length; i++)
        is_printable = writer->text[i] >= 32 && writer->text[i] <= 126;
    if (!is_printable)
        return pymlp_complain(reading, "__metadata__['pymlp_version'] is %s", pymlp_shown(writer, shown));
    const struct pymlp_json *name = pymlp_member(metadata, "estimator");
    *estimator = pymlp_is_text(name, "MLPClassifier") ? IS_CLASSIFIER : pymlp_is_text(name, "MLPRegressor") ? IS_REGRESSOR : 0;
    if (name != NULL && *estimator == 0)
        return pymlp_complain(reading, "__metadata__['estimator'] must be one of MLPClassifier, MLPRegressor, found %s",
                              pymlp_shown(name, shown));
    return pymlp_has_only(reading, "__metadata__", metadata, keys);
}

/* A JSON text among the metadata. */
static struct pymlp_json *parsed(struct pymlp_reading *reading, const struct pymlp_json *metadata, const char *name,
                                 const char *where) {
    const struct pymlp_json *text = pymlp_member(metadata, name);
    if (text != NULL) return pymlp_parse_json(reading, where, text->text, text->length);
    pymlp_complain(reading, "__metadata__ has no '%s'", name);
    return NULL;
}

/* The scaling of the outputs in the network's type. */
static bool take_scale(struct pymlp_reading *reading, pymlp_model *model) {
    const double *deviation = model->estimator.deviation, *mean = model->estimator.mean;
    const int64_t outputs = model->network.outputs;
    if (deviation == NULL) return true;
    model->scale = pymlp_kept(reading, outputs, sizeof(double));
    model->shift = pymlp_kept(reading, outputs, sizeof(double));
    if (model->scale == NULL || model->shift == NULL) return false;
    for (int64_t i = 0; i < outputs; i++) {
        if (model->network.dtype == 32) {
            ((float *)model->scale)[i] = (float)deviation[i];
            ((float *)model->shift)[i] = (float)mean[i];
        } else {
            ((double *)model->scale)[i] = deviation[i];
            ((double *)model->shift)[i] = mean[i];
        }
    }
    return true;
}

static bool take_model(struct pymlp_reading *reading, const struct pymlp_source *source, pymlp_model *model) {
    struct pymlp_container container;
    int estimator = 0;
    if (!pymlp_read_container(reading, source, &container)) return false;
    if (!take_metadata(reading, container.metadata, &estimator)) return false;
    const struct pymlp_json *network = parsed(reading, container.metadata, "network", "__metadata__['network']");
    struct pymlp_json *state = parsed(reading, container.metadata, "state", "__metadata__['state']");
    bool *is_list = pymlp_scrap(reading, container.n_entries, sizeof *is_list);
    if (network == NULL || state == NULL || is_list == NULL) return false;
    if (!pymlp_take_network(reading, network, container.n_entries, &model->network)) return false;
    model->params = pymlp_take_parameters(reading, &model->network, &container, is_list);
    if (model->params == NULL || !pymlp_attach_lists(reading, state, &container, is_list)) return false;
    model->estimator.task = TASK_NUMBERS;
    if (estimator != 0 && !pymlp_take_estimator(reading, estimator, state, &model->network, &model->estimator)) return false;
    const int activation = model->network.loss.output_activation;
    model->with_complement = estimator == IS_CLASSIFIER && model->network.outputs == 1 &&
                             (activation == ACTIVATION_softmax || activation == ACTIVATION_logistic);
    return take_scale(reading, model);
}

/* The predictor for an instruction set, NULL for the best. */
static int new_predictor(const pymlp_model *model, const char *instruction_set, int n_threads,
                         pymlp_predictor **predictor) {
    if (instruction_set == NULL) instruction_set = pymlp_instruction_set(0);
    return pymlp_predictor_create(predictor, instruction_set, model->network.dtype, model->network.rows,
                                  model->network.n_rows, &model->loss, model->params, model->with_complement, n_threads, 1);
}

static int finish(struct pymlp_reading *reading, pymlp_model *model) {
    const struct pymlp_described_loss *loss = &model->network.loss;
    model->loss = (pymlp_loss_rule){.kind = loss->loss,
                                    .group = loss->group,
                                    .n_numbers = (int32_t)loss->n_numbers,
                                    .numbers = loss->numbers};
    const int code = new_predictor(model, NULL, 1, &model->predictor);
    if (code == PYMLP_OUT_OF_MEMORY) return pymlp_complain_of_memory(reading);
    if (code != PYMLP_OK) pymlp_complain(reading, "the engine cannot run its network: %s", pymlp_error_text(code));
    return reading->code;
}

/* Makes a model of what the source holds. */
static int read_source(struct pymlp_reading *reading, const struct pymlp_source *source, pymlp_model **model) {
    /* numbers are read and written with a point, whatever the host program has chosen */
    const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    const locale_t before = plain == (locale_t)0 ? (locale_t)0 : uselocale(plain);
    pymlp_model *new = pymlp_kept(reading, 1, sizeof *new);
    if (plain == (locale_t)0 && new != NULL) {
        pymlp_complain_of_memory(reading);
        new = NULL;
    }
    if (new != NULL && take_model(reading, source, new)) finish(reading, new);
    pymlp_free_blocks(&reading->scrap);
    if (plain != (locale_t)0) {
        uselocale(before);
        freelocale(plain);
    }
    if (reading->code == PYMLP_OK) {
        new->kept = reading->kept;
        *model = new;
    } else {
        pymlp_free_blocks(&reading->kept);
    }
    return reading->code;
}

static struct pymlp_reading new_reading(char *message, int64_t message_bytes, const char *path) {
    if (message != NULL && message_bytes > 0) *message = '\0';
    return (struct pymlp_reading){
        .message = message, .message_bytes = message == NULL ? 0 : message_bytes, .path = path, .code = PYMLP_OK};
}

int pymlp_model_load(pymlp_model **model, const char *path, char *message, int64_t message_bytes) {
    struct pymlp_reading reading = new_reading(message, message_bytes, path);
    struct stat status;
    *model = NULL;
    struct pymlp_source source = {.file = open(path, O_RDONLY | O_CLOEXEC)};
    if (source.file < 0 || fstat(source.file, &status) != 0) {
        pymlp_complain_of_system(&reading, errno);
    } else if (S_ISDIR(status.st_mode)) {
        pymlp_complain_of_system(&reading, EISDIR);
    } else {
        source.size = status.st_size;
        read_source(&reading, &source, model);
    }
    if (source.file >= 0) close(source.file);
    return reading.code;
}

int pymlp_model_read(pymlp_model **model, const void *bytes, int64_t size, char *message, int64_t message_bytes) {
    struct pymlp_reading reading = new_reading(message, message_bytes, NULL);
    const struct pymlp_source source = {.bytes = bytes, .size = size};
    *model = NULL;
    if (bytes == NULL || size < 0) return PYMLP_BAD_ARGUMENT;
    return read_source(&reading, &source, model);
}

void pymlp_model_free(pymlp_model *model) {
    if (model == NULL) return;
    struct pymlp_blocks kept = model->kept;
    pymlp_predictor_free(model->predictor);
    pymlp_free_blocks(&kept);
}

int pymlp_model_use(pymlp_model *model, const char *instruction_set, int n_threads) {
    pymlp_predictor *predictor;
    const int code = new_predictor(model, instruction_set, n_threads, &predictor);
    if (code != PYMLP_OK) return code;
    pymlp_predictor_free(model->predictor);
    model->predictor = predictor;
    return PYMLP_OK;
}

/* --- predicting --------------------------------------------------------------------------------------------------- */

int64_t pymlp_model_inputs(const pymlp_model *model) { return model->network.inputs; }
int64_t pymlp_model_columns(const pymlp_model *model) { return model->with_complement ? 2 : model->network.outputs; }
int pymlp_model_dtype(const pymlp_model *model) { return model->network.dtype; }

/* The number of a column's scale: that of a single output is for both columns. */
#define EACH_SCALED(type, array, run, operation)                                            \
    for (int64_t row = 0; row < rows; row++)                                                \
        for (int64_t column = 0; column < columns; column++)                                \
            for (int64_t i = 0; i < (run); i++) {                                           \
                type *number = (type *)(array) + (row * columns + column) * (run) + i;      \
                const int64_t place = model->network.outputs == 1 ? 0 : column;             \
                operation;                                                                  \
            }

static void scale_values(const pymlp_model *model, int64_t rows, void *out) {
    const int64_t columns = pymlp_model_columns(model);
    if (model->network.dtype == 32) {
        const float *scale = model->scale, *shift = model->shift;
        EACH_SCALED(float, out, 1, *number = *number * scale[place]; *number = *number + shift[place])
    } else {
        const double *scale = model->scale, *shift = model->shift;
        EACH_SCALED(double, out, 1, *number = *number * scale[place]; *number = *number + shift[place])
    }
}

static void scale_gradient(const pymlp_model *model, int64_t rows, void *gradient) {
    const int64_t columns = pymlp_model_columns(model), inputs = model->network.inputs;
    if (model->network.dtype == 32) {
        const float *scale = model->scale;
        EACH_SCALED(float, gradient, inputs, *number = *number * scale[place])
    } else {
        const double *scale = model->scale;
        EACH_SCALED(double, gradient, inputs, *number = *number * scale[place])
    }
}

int pymlp_predict(pymlp_model *model, const void *X, int64_t rows, void *out) {
    const int code = pymlp_predictor_predict(model->predictor, X, rows, out);
    if (code == PYMLP_OK && model->scale != NULL) scale_values(model, rows, out);
    return code;
}

int pymlp_value_and_gradient(pymlp_model *model, const void *X, int64_t rows, void *out, void *gradient) {
    const int code = pymlp_predictor_value_and_gradient(model->predictor, X, rows, out, gradient);
    if (code == PYMLP_OK && model->scale != NULL) {
        if (out != NULL) scale_values(model, rows, out);
        scale_gradient(model, rows, gradient);
    }
    return code;
}

/* --- what a model is ---------------------------------------------------------------------------------------------- */

const char *pymlp_model_task(const pymlp_model *model) { return pymlp_task_names[model->estimator.task]; }

double pymlp_model_threshold(const pymlp_model *model) {
    const int activation = model->network.loss.output_activation;
    const bool is_probability = activation == ACTIVATION_softmax || activation == ACTIVATION_logistic;
    return model->estimator.task != TASK_NUMBERS && is_probability ? 0.5 : 0;
}

int64_t pymlp_model_classes(const pymlp_model *model) { return model->estimator.n_classes; }

static const char *given(const struct pymlp_text *text, int64_t *length) {
    if (length != NULL) *length = text->length;
    return text->text;
}

const char *pymlp_model_class(const pymlp_model *model, int64_t number, int64_t *length) {
    if (number < 0 || number >= model->estimator.n_classes) return NULL;
    return given(&model->estimator.classes[number], length);
}

const char *pymlp_model_feature(const pymlp_model *model, int64_t number, int64_t *length) {
    if (model->estimator.features == NULL || number < 0 || number >= model->network.inputs) return NULL;
    return given(&model->estimator.features[number], length);
}

const pymlp_layer *pymlp_model_layers(const pymlp_model *model, int64_t *n_layers) {
    *n_layers = model->network.n_rows;
    return model->network.rows;
}

const pymlp_loss_rule *pymlp_model_loss(const pymlp_model *model) { return &model->loss; }

const void *pymlp_model_params(const pymlp_model *model, int64_t *n_params) {
    *n_params = model->network.n_parameters;
    return model->params;
}

void pymlp_model_training(const pymlp_model *model, double *l1, double *l2, uint64_t *seed) {
    *l1 = model->network.l1;
    *l2 = model->network.l2;
    *seed = model->network.seed;
}
