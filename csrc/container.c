/* container.c: the container of model files by the safetensors format, read as strictly as pymlp/container.py reads it.
 *
 * Eight bytes of header length, a JSON header, then the arrays one after the other.  The header is bounded before it is
 * parsed, and all of it is checked before there is memory for the arrays: no file takes more time or memory than a sound
 * one of its size.
 */
#include "container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sha256.h"

/* bytes of a header, and characters of an array's name, at most */
enum { LONGEST_HEADER = 1 << 19, LONGEST_NAME = 200 };
enum { LENGTH_BYTES = 8, DIGEST_DIGITS = 64 };

static const struct { const char *name; int bytes; } types[N_TYPES] = {
    [TYPE_F32] = {"F32", 4}, [TYPE_F64] = {"F64", 8}, [TYPE_I64] = {"I64", 8},
    [TYPE_U32] = {"U32", 4}, [TYPE_U64] = {"U64", 8}, [TYPE_U8] = {"U8", 1},
};

/* The bytes `from` on, as many as `count`: those in memory, or a copy of those in the file; NULL with a complaint. */
static const uint8_t *bytes_of(struct pymlp_reading *reading, const struct pymlp_source *source, int64_t from,
                               int64_t count) {
    if (source->bytes != NULL) return source->bytes + from;
    uint8_t *to = pymlp_scrap(reading, count, 1);
    if (to == NULL) return NULL;
    for (int64_t done = 0; done < count;) {
        const ssize_t now = read(source->file, to + done, (size_t)(count - done));
        if (now > 0) {
            done += now;
        } else if (now == 0) {
            pymlp_complain(reading, "it became shorter while it was read");
            return NULL;
        } else if (errno != EINTR) {
            pymlp_complain_of_system(reading, errno);
            return NULL;
        }
    }
    return to;
}

/* --- entries ------------------------------------------------------------------------------------------------------ */

static bool is_array_name(const char *name, int64_t length) {
    if (length > LONGEST_NAME) return false;
    for (int64_t i = 0; i < length; i++)
        if (name[i] < 32 || name[i] > 126) return false;
    return true;
}

/* The array's shape, and the bytes that it takes. */
static bool take_shape(struct pymlp_reading *reading, const char *name, const struct pymlp_json *shape,
                       struct pymlp_entry *entry, int64_t *needed) {
    char shown[SHOWN_BYTES];
    if (!pymlp_is_list(shape))
        return pymlp_complain(reading, "%s: shape must be a list, found %s", name, pymlp_shown(shape, shown));
    /* NumPy multiplies in 64 bits, also where a size of 0 makes the array an empty one */
    int64_t size = types[entry->type].bytes;
    *needed = size;
    bool fits = shape->count <= MOST_DIMENSIONS;
    entry->n_dimensions = 0;
    for (const struct pymlp_json *item = shape->first; item != NULL; item = item->next) {
        int64_t length = 0;
        const bool is_small = pymlp_integer_of(item, &length);
        if (item->kind != JSON_INTEGER || item->number < 0)
            return pymlp_complain(reading, "%s: shape must be integers of at least 0, found %s", name,
                                  pymlp_shown(item, shown));
        fits = fits && is_small && !__builtin_mul_overflow(size, length > 0 ? length : 1, &size);
        if (!fits) continue;
        entry->shape[entry->n_dimensions++] = length;
        *needed *= length;
    }
    return fits || pymlp_complain(reading, "%s: no array is of such a shape", name);
}

static bool take_entry(struct pymlp_reading *reading, const struct pymlp_json *value, struct pymlp_entry *entry) {
    static const char *const keys[] = {"dtype", "shape", "data_offsets", NULL};
    char shown[SHOWN_BYTES], name[SHOWN_BYTES];
    pymlp_shown_text(value->name, value->name_length, name);
    *entry = (struct pymlp_entry){.name = value->name, .name_length = value->name_length};
    if (!is_array_name(value->name, value->name_length))
        return pymlp_complain(reading, "the header has the name %s, which is not one of an array", name);
    if (value->kind != JSON_OBJECT)
        return pymlp_complain(reading, "the header: %s must be an object, found %s", name, pymlp_shown(value, shown));
    const struct pymlp_json *type = pymlp_member(value, "dtype");
    while (entry->type < N_TYPES && !pymlp_is_text(type, types[entry->type].name)) entry->type++;
    if (entry->type == N_TYPES)
        return pymlp_complain(reading, "%s: dtype must be one of F32, F64, I64, U32, U64, U8, found %s", name,
                              pymlp_shown(type, shown));
    int64_t needed = 0;
    if (!take_shape(reading, name, pymlp_member(value, "shape"), entry, &needed)) return false;
    const struct pymlp_json *places = pymlp_member(value, "data_offsets");
    if (!pymlp_is_list(places) || places->count != 2 || places->first->kind != JSON_INTEGER ||
        places->first->next->kind != JSON_INTEGER)
        return pymlp_complain(reading, "%s: data_offsets must be two integers, found %s", name,
                              pymlp_shown(places, shown));
    if (!pymlp_integer_of(places->first, &entry->start) || !pymlp_integer_of(places->first->next, &entry->stop) ||
        entry->start < 0 || entry->stop < entry->start || entry->stop - entry->start != needed)
        return pymlp_complain(reading, "%s: data_offsets must span %lld bytes", name, (long long)needed);
    return pymlp_has_only(reading, name, value, keys);
}

static int compare_places(const void *left, const void *right) {
    const struct pymlp_entry *a = left, *b = right;
    if (a->start != b->start) return a->start < b->start ? -1 : 1;
    return (a->stop > b->stop) - (a->stop < b->stop);
}

/* The entries in the order of their places, which fill the data without holes and overlaps. */
static bool take_entries(struct pymlp_reading *reading, const struct pymlp_json *header,
                         const struct pymlp_json *metadata, int64_t data_bytes, struct pymlp_container *found) {
    found->entries = pymlp_scrap(reading, header->count, sizeof *found->entries);
    if (found->entries == NULL) return false;
    for (const struct pymlp_json *value = header->first; value != NULL; value = value->next)
        if (value != metadata && !take_entry(reading, value, &found->entries[found->n_entries++])) return false;
    qsort(found->entries, (size_t)found->n_entries, sizeof *found->entries, compare_places);
    int64_t end = 0;
    for (int64_t i = 0; i < found->n_entries; i++) {
        const struct pymlp_entry *entry = &found->entries[i];
        char shown[SHOWN_BYTES];
        if (entry->start != end)
            return pymlp_complain(reading, "there is %s before %s: it starts at %lld instead of %lld",
                                  entry->start > end ? "a hole" : "an overlap",
                                  pymlp_shown_text(entry->name, entry->name_length, shown), (long long)entry->start,
                                  (long long)end);
        end = entry->stop;
    }
    return data_bytes == end || pymlp_complain(reading, "%lld bytes of tensors must follow the header, found %lld",
                                               (long long)end, (long long)data_bytes);
}

/* --- the digest --------------------------------------------------------------------------------------------------- */

/* Where the digits stand in the header, if they stand there once; else NULL. */
static const char *only_place(const char *header, int64_t header_bytes, const char *digits) {
    const char *found = NULL;
    for (int64_t i = 0; i + DIGEST_DIGITS <= header_bytes;) {
        if (memcmp(header + i, digits, DIGEST_DIGITS) != 0) {
            i++;
            continue;
        }
        if (found != NULL) return NULL;
        found = header + i;
        i += DIGEST_DIGITS;
    }
    return found;
}

/* A file may lack its digest, as those of other writers do: then only its structure is checked. */
static bool has_its_digest(struct pymlp_reading *reading, const uint8_t *length, const char *header,
                           int64_t header_bytes, int64_t data_bytes, const struct pymlp_container *found) {
    const struct pymlp_json *written = pymlp_member(found->metadata, "sha256");
    if (written == NULL) return true;
    char zeros[DIGEST_DIGITS], digits[DIGEST_DIGITS], shown[SHOWN_BYTES];
    const char *place = written->length == DIGEST_DIGITS ? only_place(header, header_bytes, written->text) : NULL;
    if (place == NULL)
        return pymlp_complain(reading, "__metadata__['sha256'] must be 64 digits found nowhere else, found %s",
                              pymlp_shown(written, shown));
    struct pymlp_sha256 digest;
    memset(zeros, '0', sizeof zeros);
    pymlp_sha256_begin(&digest);
    pymlp_sha256_add(&digest, length, LENGTH_BYTES);
    pymlp_sha256_add(&digest, header, (size_t)(place - header));
    pymlp_sha256_add(&digest, zeros, sizeof zeros);
    place += DIGEST_DIGITS;
    pymlp_sha256_add(&digest, place, (size_t)(header + header_bytes - place));
    pymlp_sha256_add(&digest, found->data, (size_t)data_bytes);
    pymlp_sha256_end(&digest, digits);
    return memcmp(digits, written->text, sizeof digits) == 0 ||
           pymlp_complain(reading, "it was damaged: its bytes do not give the SHA-256 that it states");
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

bool pymlp_read_container(struct pymlp_reading *reading, const struct pymlp_source *source,
                          struct pymlp_container *found) {
    *found = (struct pymlp_container){0};
    char shown[SHOWN_BYTES];
    if (source->size < LENGTH_BYTES)
        return pymlp_complain(reading, "it has %lld bytes, and the header length alone takes 8", (long long)source->size);
    const uint8_t *length = bytes_of(reading, source, 0, LENGTH_BYTES);
    if (length == NULL) return false;
    uint64_t header_bytes = 0;
    for (int i = 0; i < LENGTH_BYTES; i++) header_bytes |= (uint64_t)length[i] << 8 * i;
    if (header_bytes > LONGEST_HEADER)
        return pymlp_complain(reading, "its first 8 bytes give a header of %llu bytes, and %d are the most",
                              (unsigned long long)header_bytes, (int)LONGEST_HEADER);
    const int64_t rest = source->size - LENGTH_BYTES, data_bytes = rest - (int64_t)header_bytes;
    if (data_bytes < 0)
        return pymlp_complain(reading, "its header should take %llu bytes, but only %lld follow the length",
                              (unsigned long long)header_bytes, (long long)rest);
    const char *header = (const char *)bytes_of(reading, source, LENGTH_BYTES, (int64_t)header_bytes);
    if (header == NULL) return false;
    if (header_bytes == 0 || header[0] != '{')
        return pymlp_complain(reading, "its header must begin with '{', found %s",
                              pymlp_shown_text(header, header_bytes > 0, shown));
    const struct pymlp_json *root = pymlp_parse_json(reading, "the header", header, (int64_t)header_bytes);
    if (root == NULL) return false;
    found->metadata = pymlp_member(root, "__metadata__");
    if (found->metadata == NULL || found->metadata->kind != JSON_OBJECT)
        return pymlp_complain(reading, "the header: '__metadata__' must be an object, found %s",
                              pymlp_shown(found->metadata, shown));
    for (const struct pymlp_json *value = found->metadata->first; value != NULL; value = value->next)
        if (value->kind != JSON_TEXT) {
            char name[SHOWN_BYTES];
            return pymlp_complain(reading, "__metadata__[%s] must be a string, found %s",
                                  pymlp_shown_text(value->name, value->name_length, name), pymlp_shown(value, shown));
        }
    if (!take_entries(reading, root, found->metadata, data_bytes, found)) return false;
    found->data = bytes_of(reading, source, LENGTH_BYTES + (int64_t)header_bytes, data_bytes);
    return found->data != NULL && has_its_digest(reading, length, header, (int64_t)header_bytes, data_bytes, found);
}
