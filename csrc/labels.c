/* labels.c: the labels of classes, which a model file holds as JSON values and the name of a NumPy type.
 *
 * A label is what `pymlp.model_state.labels_of` takes for one: a value that its type can hold to the last digit.  What C
 * gives of it is the text that Python's `str` makes of it.
 */
#include "labels.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lists.h"

/* NumPy gives each string the room of the longest: bytes of the array, beside so many for each character it holds */
enum { ROOM_OF_LABELS = 1 << 20, ROOM_OF_A_CHARACTER = 64 };
/* bytes of the text of a number: an integer's digits are more than a real's */
enum { NUMBER_BYTES = LONGEST_INTEGER + 8, DIGIT_BYTES = 32 };

struct type {
    char kind;     /* b, i, u, f, U or O */
    int64_t width; /* bytes, or characters of U */
};

/* The type that a text such as "<i8" names, in any byte order. */
static bool take_type(const struct pymlp_json *text, struct type *found) {
    if (text == NULL || text->kind != JSON_TEXT || text->length < 2) return false;
    if (text->text[0] != '<' && text->text[0] != '>' && text->text[0] != '|') return false;
    const char *digits = text->text + 2;
    const int64_t count = text->length - 2;
    found->kind = text->text[1];
    found->width = 0;
    if (count > 9) return false;
    for (int64_t i = 0; i < count; i++) {
        if (digits[i] < '0' || digits[i] > '9') return false;
        found->width = 10 * found->width + (digits[i] - '0');
    }
    const bool is_digit = count == 1;
    const int64_t width = found->width;
    switch (found->kind) {
        case 'b': return is_digit && width == 1;
        case 'i':
        case 'u': return is_digit && (width == 1 || width == 2 || width == 4 || width == 8);
        case 'f': return is_digit && (width == 2 || width == 4 || width == 8);
        case 'O': return count == 0 || (is_digit && width == 8);
        case 'U': return count > 0;
        default: return false;
    }
}

static bool is_whole_in(const struct pymlp_json *value, const struct type *type) {
    static const char *const lowest[] = {"-128", "-32768", "-2147483648", "-9223372036854775808"};
    static const char *const highest[] = {"127", "32767", "2147483647", "9223372036854775807"};
    static const char *const highest_unsigned[] = {"255", "65535", "4294967295", "18446744073709551615"};
    const int size = type->width == 8 ? 3 : (int)type->width / 2;
    const char *low = type->kind == 'u' ? "0" : lowest[size], *high = (type->kind == 'u' ? highest_unsigned : highest)[size];
    const struct pymlp_json from = {.kind = JSON_INTEGER, .text = low, .length = (int64_t)strlen(low)};
    const struct pymlp_json to = {.kind = JSON_INTEGER, .text = high, .length = (int64_t)strlen(high)};
    return pymlp_compare_numbers(&from, value) <= 0 && pymlp_compare_numbers(value, &to) <= 0;
}

/* Whether a number has no more digits than float16 has. */
static bool is_half(double number) {
    const double size = number < 0 ? -number : number;
    if (size > 65504.0) return size > DBL_MAX;
    /* in units of the smallest */
    const double scaled = size * 16777216.0;
    uint64_t whole = (uint64_t)scaled;
    if ((double)whole != scaled) return false;
    for (; whole >= 2048; whole /= 2)
        if (whole % 2 != 0) return false;
    return true;
}

static bool is_real_in(const struct pymlp_json *value, const struct type *type) {
    const struct pymlp_json nearest = {.kind = JSON_REAL, .number = value->number};
    if (pymlp_compare_numbers(value, &nearest) != 0) return false;
    const double number = value->number, size = number < 0 ? -number : number;
    if (type->width == 8) return true;
    if (type->width == 2) return is_half(number);
    return size > FLT_MAX ? size > DBL_MAX : (double)(float)number == number;
}

static int64_t characters_of(const struct pymlp_json *text) {
    int64_t count = 0;
    for (int64_t i = 0; i < text->length; i++) count += ((unsigned char)text->text[i] & 0xc0) != 0x80;
    return count;
}

/* NumPy takes zeros at the end of a string for room that is left, and a width of 0 for any. */
static bool is_text_in(const struct pymlp_json *value, const struct type *type) {
    if (value->length > 0 && value->text[value->length - 1] == '\0') return false;
    return type->width == 0 || characters_of(value) <= type->width;
}

/* Whether the type can hold a value, and the value is of the type's kind. */
static bool is_of(const struct pymlp_json *value, const struct type *type) {
    if (value->kind == JSON_REAL && value->number != value->number) return false;
    switch (type->kind) {
        case 'b': return pymlp_is_boolean(value);
        case 'i':
        case 'u': return value->kind == JSON_INTEGER && is_whole_in(value, type);
        case 'f': return pymlp_is_number(value) && is_real_in(value, type);
        case 'U': return value->kind == JSON_TEXT && is_text_in(value, type);
        default: return value->kind == JSON_TEXT || pymlp_is_boolean(value) || pymlp_is_number(value);
    }
}

/* A value that outlives the next item of its list; digits: room for those of an integer. */
static struct pymlp_json copied(const struct pymlp_json *value, char digits[LONGEST_INTEGER]) {
    struct pymlp_json copy = *value;
    if (copy.kind != JSON_INTEGER) return copy;
    memcpy(digits, value->text, (size_t)value->length);
    copy.text = digits;
    return copy;
}

static bool ascends(const struct pymlp_json *before, const struct pymlp_json *after) {
    /* texts and numbers have no order among each other */
    if ((before->kind == JSON_TEXT) != (after->kind == JSON_TEXT)) return false;
    return (before->kind == JSON_TEXT ? pymlp_compare_texts : pymlp_compare_numbers)(before, after) < 0;
}

static bool are_labels(struct pymlp_reading *reading, const struct pymlp_json *values, const struct type *type,
                       const char *name) {
    struct pymlp_items items = pymlp_items_of(values);
    struct pymlp_json before = {.kind = JSON_NULL};
    char shown[SHOWN_BYTES], digits[LONGEST_INTEGER];
    double used = 0;
    for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL;) {
        if (!is_of(item, type))
            return pymlp_complain(reading, "the label %s is none that the type %s can hold", pymlp_shown(item, shown), name);
        if (before.kind != JSON_NULL && !ascends(&before, item))
            return pymlp_complain(reading, "the labels of classes must ascend: %s does not", pymlp_shown(item, shown));
        before = copied(item, digits);
        if (item->kind == JSON_TEXT) used += (double)characters_of(item);
    }
    const double room = 4 * (double)type->width * (double)pymlp_count_of(values);
    return type->kind != 'U' || room <= ROOM_OF_LABELS + ROOM_OF_A_CHARACTER * used ||
           pymlp_complain(reading, "labels of classes in strings of %lld characters take much more room than those they "
                          "have", (long long)type->width);
}

/* --- texts -------------------------------------------------------------------------------------------------------- */

/* Makes the number that is written as d.ddde+dd larger by one of its last digit; false where that has fewer digits. */
static bool step_up(char *text) {
    for (char *digit = strchr(text, 'e') - 1; digit >= text && *digit != '-'; digit--) {
        if (*digit == '.') continue;
        if (*digit != '9') {
            ++*digit;
            return true;
        }
        *digit = '0';
    }
    return false;
}

/* What Python's `repr` makes of a real: the fewest digits that tell it from all others. */
static void write_real(double number, char text[NUMBER_BYTES]) {
    /* zero has a sign, too */
    const bool is_negative = number < 0 || (number == 0 && 1 / number < 0);
    const double size = is_negative ? -number : number;
    const char *sign = is_negative ? "-" : "";
    char found[DIGIT_BYTES];
    int digits = 1;
    if (size > DBL_MAX) {
        snprintf(text, NUMBER_BYTES, "%sinf", sign);
        return;
    }
    for (;; digits++) {
        snprintf(found, sizeof found, "%.*e", digits - 1, size);
        if (strtod(found, NULL) == size) break;
        /* at a power of two, above which numbers lie further apart, the second nearest may do; those that are written
         * without an exponent have few digits */
        if (step_up(found) && strtod(found, NULL) == size) break;
    }
    const int exponent = atoi(strchr(found, 'e') + 1), behind = digits - 1 - exponent;
    /* of an exponent at least two digits are written, as C does it */
    if (exponent < -4 || exponent >= 16)
        snprintf(text, NUMBER_BYTES, "%s%s", sign, found);
    else
        snprintf(text, NUMBER_BYTES, "%s%.*f", sign, behind > 1 ? behind : 1, size);
}

static const char *text_of(const struct pymlp_json *value, const struct type *type, char room[NUMBER_BYTES],
                           int64_t *length) {
    const char *text = room;
    if (value->kind == JSON_TEXT) {
        *length = value->length;
        return value->text;
    }
    if (pymlp_is_boolean(value)) {
        text = value->kind == JSON_TRUE ? "True" : "False";
    } else if (type->kind == 'f' || value->kind == JSON_REAL) {
        write_real(value->number, room);
    } else {
        /* Python knows one zero */
        const bool is_zero = value->number == 0;
        snprintf(room, NUMBER_BYTES, "%.*s", is_zero ? 1 : (int)value->length, is_zero ? "0" : value->text);
    }
    *length = (int64_t)strlen(text);
    return text;
}

/* The texts of a list's items, kept in one piece. */
static struct pymlp_text *texts_of(struct pymlp_reading *reading, const struct pymlp_json *list, const struct type *type) {
    char room[NUMBER_BYTES];
    int64_t bytes = 0, length, count = 0;
    struct pymlp_items items = pymlp_items_of(list);
    for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL; count++) {
        text_of(item, type, room, &length);
        bytes += length + 1;
    }
    struct pymlp_text *texts = pymlp_kept(reading, count, sizeof *texts);
    char *to = pymlp_kept(reading, bytes, 1);
    if (texts == NULL || to == NULL) return NULL;
    items = pymlp_items_of(list);
    count = 0;
    for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL; count++) {
        const char *text = text_of(item, type, room, &length);
        if (length > 0) memcpy(to, text, (size_t)length);
        to[length] = '\0';
        texts[count] = (struct pymlp_text){.text = to, .length = length};
        to += length + 1;
    }
    return texts;
}

struct pymlp_text *pymlp_take_labels(struct pymlp_reading *reading, const struct pymlp_json *type,
                                     const struct pymlp_json *values) {
    struct type found;
    char shown[SHOWN_BYTES];
    if (!take_type(type, &found)) {
        pymlp_complain(reading, "the labels of classes cannot be of the type %s", pymlp_shown(type, shown));
        return NULL;
    }
    if (!pymlp_is_list(values) || pymlp_count_of(values) == 0) {
        pymlp_complain(reading, "the labels of classes must be a list of at least one");
        return NULL;
    }
    return are_labels(reading, values, &found, pymlp_shown(type, shown)) ? texts_of(reading, values, &found) : NULL;
}

struct pymlp_text *pymlp_take_texts(struct pymlp_reading *reading, const struct pymlp_json *list) {
    const struct type type = {.kind = 'O'};
    struct pymlp_items items = pymlp_items_of(list);
    for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL;)
        if (item->kind != JSON_TEXT) {
            char shown[SHOWN_BYTES];
            pymlp_complain(reading, "%s is no text", pymlp_shown(item, shown));
            return NULL;
        }
    return texts_of(reading, list, &type);
}
