/* reading.c: what is wrong with a model file, in words, and the memory that its reading takes.
 *
 * The words go into a buffer of the caller's: there is no text of a last error for threads to share, and nothing that must
 * be freed after a failure.
 */
#include "reading.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pymlp.h"

/* characters of a text that are shown */
enum { SHOWN_CHARACTERS = 60 };

/* The start of the message, up to what is wrong; its length, or what it would be. */
static int begin(struct pymlp_reading *reading, const char *what) {
    const char *path = reading->path == NULL ? "the model" : reading->path;
    return snprintf(reading->message, (size_t)reading->message_bytes, "%s %s", path, what);
}

/* Takes half a character off the end of a message that was cut. */
static void end(struct pymlp_reading *reading, int64_t length) {
    if (length < reading->message_bytes) return;
    char *last = reading->message + reading->message_bytes - 1;
    /* the first byte of the last character, and how many it should have */
    char *first = last;
    while (first > reading->message && ((unsigned char)first[-1] & 0xc0) == 0x80) first--;
    if (first == reading->message) return;
    first--;
    const unsigned char lead = (unsigned char)*first;
    const int bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (last - first < bytes) *first = '\0';
}

bool pymlp_complain(struct pymlp_reading *reading, const char *format, ...) {
    if (reading->code != PYMLP_OK) return false;
    reading->code = PYMLP_BAD_MODEL;
    if (reading->message == NULL || reading->message_bytes < 1) return false;
    int64_t length = begin(reading, "is not a valid model file: ");
    if (length < 0 || length >= reading->message_bytes) {
        end(reading, length);
        return false;
    }
    va_list values;
    va_start(values, format);
    length += vsnprintf(reading->message + length, (size_t)(reading->message_bytes - length), format, values);
    va_end(values);
    end(reading, length);
    return false;
}

bool pymlp_complain_of_system(struct pymlp_reading *reading, int error) {
    if (reading->code != PYMLP_OK) return false;
    reading->code = PYMLP_UNREADABLE;
    if (reading->message == NULL || reading->message_bytes < 1) return false;
    int64_t length = begin(reading, "cannot be read: ");
    if (length >= 0 && length < reading->message_bytes)
        length += snprintf(reading->message + length, (size_t)(reading->message_bytes - length), "%s", strerror(error));
    end(reading, length);
    return false;
}

static void *noted(struct pymlp_reading *reading, void *block) {
    if (block == NULL && reading->code == PYMLP_OK) {
        reading->code = PYMLP_OUT_OF_MEMORY;
        if (reading->message != NULL && reading->message_bytes > 0)
            snprintf(reading->message, (size_t)reading->message_bytes, "out of memory: %.0f bytes were asked for",
                     pymlp_refused_bytes());
    }
    return block;
}

void *pymlp_scrap(struct pymlp_reading *reading, int64_t count, size_t bytes) {
    return noted(reading, pymlp_add_block(&reading->scrap, (double)count * (double)bytes));
}

void *pymlp_kept(struct pymlp_reading *reading, int64_t count, size_t bytes) {
    return noted(reading, pymlp_add_block(&reading->kept, (double)count * (double)bytes));
}

const char *pymlp_shown_text(const char *text, int64_t length, char shown[SHOWN_BYTES]) {
    char *to = shown;
    *to++ = '\'';
    int64_t i = 0;
    for (int characters = 0; i < length; characters += (text[i] & 0xc0) != 0x80, i++) {
        /* whole characters alone, and room for dots and quotes */
        const bool begins = ((unsigned char)text[i] & 0xc0) != 0x80;
        if (begins && (characters >= SHOWN_CHARACTERS || to - shown > SHOWN_BYTES - 10)) break;
        *to++ = (unsigned char)text[i] < 32 || text[i] == 127 ? '?' : text[i];
    }
    if (i < length) to += sprintf(to, "...");
    *to++ = '\'';
    *to = '\0';
    return shown;
}
