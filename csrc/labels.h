/* labels.h: the labels of classes in a model file; see labels.c. */
#ifndef PYMLP_LABELS_H
#define PYMLP_LABELS_H

#include <stdbool.h>
#include <stdint.h>

#include "json.h"
#include "reading.h"

/* A text in UTF-8, behind which there is a 0; it may hold zeros, too. */
struct pymlp_text {
    const char *text;
    int64_t length;
};

/* The texts of the labels of `type`, which must be of it and ascend; kept.  NULL with a complaint. */
struct pymlp_text *pymlp_take_labels(struct pymlp_reading *reading, const struct pymlp_json *type,
                                     const struct pymlp_json *values);
/* The texts of a list that holds nothing else, kept. */
struct pymlp_text *pymlp_take_texts(struct pymlp_reading *reading, const struct pymlp_json *list);

#endif
