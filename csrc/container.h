/* container.h: the container of model files: named arrays and strings; see container.c. */
#ifndef PYMLP_CONTAINER_H
#define PYMLP_CONTAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "json.h"
#include "reading.h"

enum { TYPE_F32, TYPE_F64, TYPE_I64, TYPE_U32, TYPE_U64, TYPE_U8, N_TYPES };
enum { MOST_DIMENSIONS = 8 };

/* What the header says of an array: its type, its shape, and its place among the bytes of all arrays. */
struct pymlp_entry {
    const char *name;
    int64_t name_length;
    int type, n_dimensions;
    int64_t shape[MOST_DIMENSIONS], start, stop;
};

struct pymlp_container {
    struct pymlp_json *metadata; /* strings by name, the digest among them */
    struct pymlp_entry *entries; /* in the order of their places, without holes and overlaps */
    int64_t n_entries;
    const uint8_t *data; /* the bytes of all arrays */
};

/* Where a container is: in memory, or, where `bytes` is NULL, in an open file. */
struct pymlp_source {
    const uint8_t *bytes;
    int file;
    int64_t size;
};

/* Reads a container, and checks its structure and its digest; false with a complaint. */
bool pymlp_read_container(struct pymlp_reading *reading, const struct pymlp_source *source,
                          struct pymlp_container *found);

#endif
