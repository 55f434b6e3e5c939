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

int pymlp_complain_of_memory(struct pymlp_reading *reading) {
    if (reading->code != PYMLP_OK) return reading->code;
    reading->code = PYMLP_OUT_OF_MEMORY;
    if (reading->message != NULL && reading->message_bytes > 0)
        snprintf(reading->message, (size_t)reading->message_bytes, "out of memory: the engine asked for %.0f bytes",
                 pymlp_refused_bytes());
    return reading->code;
}

static void *noted(struct pymlp_reading *reading, void *block) {
    if (block == NULL) pymlp_complain_of_memory(reading);
    return block;
}

void *pymlp_scrap(struct pymlp_reading *reading, int64_t count, size_t bytes) {
    return noted(reading, pymlp_add_block(&reading->scrap, (double)count * (double)bytes));
}

void *pymlp_kept(struct pymlp_reading *reading, int64_t count, size_t bytes) {
    return noted(reading, pymlp_add_block(&reading->kept, (double)count * (double)bytes));
}

bool pymlp_is_utf8(const char *text, int64_t length) {
    const unsigned char *at = (const unsigned char *)text, *end = at + length;
    while (at < end) {
        const unsigned char lead = *at++;
        if (lead < 0x80) continue;
        const int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (lead < 0xc2 || lead > 0xf4 || end - at < more) return false;
        /* neither longer than it need be, nor a surrogate, nor past the last character */
        const unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        const unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (*at < low || *at > high) return false;
        for (int i = 1; i < more; i++)
            if ((at[i] & 0xc0) != 0x80) return false;
        at += more;
    }
    return true;
}

const char *pymlp_shown_text(const char *text, int64_t length, char shown[SHOWN_BYTES]) {
    char *to = shown;
    /* the rest of a character */
    for (; length > 0 && ((unsigned char)*text & 0xc0) == 0x80; length--) text++;
    const bool is_utf8 = pymlp_is_utf8(text, length);
    *to++ = '\'';
    int64_t i = 0, characters = 0;
    for (; i < length; i++) {
        const unsigned char byte = (unsigned char)text[i];
        /* whole characters alone, and room for dots and quotes */
        if ((byte & 0xc0) != 0x80 || !is_utf8) {
            if (characters++ == SHOWN_CHARACTERS || to - shown > SHOWN_BYTES - 10) break;
        }
        *to++ = byte < 32 || byte == 127 || (byte > 127 && !is_utf8) ? '?' : text[i];
    }
    if (i < length) to += sprintf(to, "...");
    *to++ = '\'';
    *to = '\0';
    return shown;
}
