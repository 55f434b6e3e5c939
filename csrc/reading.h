/* reading.h: what all that read a model file share: where its pieces lie, and what is wrong with it; see reading.c. */
#ifndef PYMLP_READING_H
#define PYMLP_READING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory.h"

struct pymlp_reading {
    char *message; /* the caller's, of so many bytes; or NULL */
    int64_t message_bytes;
    const char *path; /* NULL: bytes in memory */
    int code;         /* PYMLP_OK until something is wrong */
    struct pymlp_blocks scrap, kept; /* of the reading alone, and of the model */
};

/* Takes note of what is wrong, as printf would write it; false.  The first note stays: all others follow from it. */
bool pymlp_complain(struct pymlp_reading *reading, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same of a file that cannot be read. */
bool pymlp_complain_of_system(struct pymlp_reading *reading, int error);
/* The same where memory was refused; its code. */
int pymlp_complain_of_memory(struct pymlp_reading *reading);
/* Memory for so many things of so many bytes, of zeros; NULL, and noted, where there is none. */
void *pymlp_scrap(struct pymlp_reading *reading, int64_t count, size_t bytes);
void *pymlp_kept(struct pymlp_reading *reading, int64_t count, size_t bytes);

/* Whether the bytes are UTF-8 without surrogates. */
bool pymlp_is_utf8(const char *text, int64_t length);

/* A piece of a text for a message: in quotes, without control characters and what is no UTF-8, cut where it is long. */
enum { SHOWN_BYTES = 80 };
const char *pymlp_shown_text(const char *text, int64_t length, char shown[SHOWN_BYTES]);

#endif
