/* json.c: JSON as Python's json module reads it, within bounds that are checked before anything is made of a text.
 *
 * The bounds are those of pymlp/container.py, and so is what counts as JSON: NaN, Infinity and -Infinity are numbers, no
 * object has a name twice, no string has half a character.  A text within bounds has so many values at most, so the tree is
 * one allocation, and what its strings become another.
 */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* most members of an object that are compared two by two; more are sorted */
enum { FEW_MEMBERS = 8 };

struct parser {
    struct pymlp_reading *reading;
    const char *where, *at, *end;
    struct pymlp_json *values; /* the next */
    int64_t values_left;
    const struct pymlp_json **sorted; /* room for the members of an object */
    char *texts;
};

/* --- bounds ------------------------------------------------------------------------------------------------------- */

/* Counts what stands outside strings, and the quotes of strings; *values becomes how many values there are at most. */
static bool is_within_bounds(struct pymlp_reading *reading, const char *where, const char *text, int64_t length,
                             int64_t *values) {
    int64_t quotes = 0, marks = 0, depth = 0;
    bool inside = false;
    for (int64_t i = 0; i < length; i++) {
        const char c = text[i];
        if (c == '"') {
            inside = !inside;
            quotes++;
        } else if (inside) {
            /* what comes after a backslash ends no string */
            if (c == '\\') i++;
        } else if (c == ',' || c == ':' || c == '[' || c == '{') {
            marks++;
            if (c == '[' || c == '{') depth++;
            if (depth > DEEPEST)
                return pymlp_complain(reading, "%s goes more than %d brackets deep", where, (int)DEEPEST);
        } else if (c == ']' || c == '}') {
            depth--;
        }
        if (quotes > 2 * MOST_VALUES || marks > MOST_VALUES)
            return pymlp_complain(reading, "%s has more than %d values", where, (int)MOST_VALUES);
    }
    *values = marks + 1;
    return true;
}

/* --- texts and numbers -------------------------------------------------------------------------------------------- */

static bool is_malformed(struct parser *parser, const char *what) {
    char shown[SHOWN_BYTES];
    return pymlp_complain(parser->reading, "%s is not JSON: %s at %s", parser->where, what,
                          pymlp_shown_text(parser->at, parser->end - parser->at, shown));
}

static void skip_space(struct parser *parser) {
    while (parser->at < parser->end &&
           (*parser->at == ' ' || *parser->at == '\t' || *parser->at == '\n' || *parser->at == '\r'))
        parser->at++;
}

/* Whether the text goes on with `word`, which is then passed. */
static bool passes(struct parser *parser, const char *word) {
    const int64_t length = (int64_t)strlen(word);
    if (parser->end - parser->at < length || memcmp(parser->at, word, (size_t)length) != 0) return false;
    parser->at += length;
    return true;
}

static int digit_of(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The four digits of an escaped character; -1 where there are none. */
static int32_t escaped_unit(struct parser *parser) {
    int32_t unit = 0;
    if (parser->end - parser->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        const int digit = digit_of(parser->at[i]);
        if (digit < 0) return -1;
        unit = 16 * unit + digit;
    }
    parser->at += 4;
    return unit;
}

static char *put_character(char *to, int32_t c) {
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3f));
    } else {
        if (c < 0x10000) {
            *to++ = (char)(0xe0 | c >> 12);
        } else {
            *to++ = (char)(0xf0 | c >> 18);
            *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        }
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    }
    return to;
}

/* What follows a backslash; NULL where it is nothing. */
static char *take_escape(struct parser *parser, char *to) {
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (parser->at == parser->end) return NULL;
    const char c = *parser->at++;
    if (c != 'u') {
        const char *letter = c == '\0' ? NULL : strchr(letters, c);
        if (letter == NULL) return NULL;
        *to = meant[letter - letters];
        return to + 1;
    }
    int32_t unit = escaped_unit(parser);
    if (unit < 0 || (unit >= 0xdc00 && unit < 0xe000)) return NULL;
    if (unit >= 0xd800 && unit < 0xdc00) {
        if (!passes(parser, "\\u")) return NULL;
        const int32_t second = escaped_unit(parser);
        if (second < 0xdc00 || second >= 0xe000) return NULL;
        unit = 0x10000 + ((unit - 0xd800) << 10) + (second - 0xdc00);
    }
    return put_character(to, unit);
}

/* A string, from behind its first quote on. */
static bool take_text(struct parser *parser, const char **text, int64_t *length) {
    char *to = parser->texts;
    *text = to;
    while (parser->at < parser->end && *parser->at != '"') {
        if ((unsigned char)*parser->at < 32) return is_malformed(parser, "a control character in a string");
        if (*parser->at != '\\') {
            *to++ = *parser->at++;
            continue;
        }
        parser->at++;
        to = take_escape(parser, to);
        if (to == NULL) return is_malformed(parser, "an escape that is no character");
    }
    if (parser->at == parser->end) return is_malformed(parser, "a string without an end");
    parser->at++;
    *length = to - *text;
    *to++ = '\0';
    parser->texts = to;
    return true;
}

static bool passes_digits(struct parser *parser) {
    const char *start = parser->at;
    while (parser->at < parser->end && *parser->at >= '0' && *parser->at <= '9') parser->at++;
    return parser->at > start;
}

static bool take_number(struct parser *parser, struct pymlp_json *value) {
    const char *start = parser->at;
    value->kind = JSON_INTEGER;
    passes(parser, "-");
    if (!passes(parser, "0") && !passes_digits(parser)) return is_malformed(parser, "no value");
    /* what does not belong to the number is left to be complained of */
    const char *whole = parser->at;
    if (passes(parser, ".")) {
        if (passes_digits(parser))
            value->kind = JSON_REAL, whole = parser->at;
        else
            parser->at = whole;
    }
    if (passes(parser, "e") || passes(parser, "E")) {
        if (!passes(parser, "+")) passes(parser, "-");
        if (passes_digits(parser))
            value->kind = JSON_REAL, whole = parser->at;
        else
            parser->at = whole;
    }
    value->text = start;
    value->length = whole - start;
    if (value->kind == JSON_INTEGER && value->length > LONGEST_INTEGER)
        return pymlp_complain(parser->reading, "%s has an integer of %lld characters", parser->where,
                              (long long)value->length);
    /* strtod wants an end, and takes more for numbers than JSON does */
    memcpy(parser->texts, start, (size_t)value->length);
    parser->texts[value->length] = '\0';
    value->number = strtod(parser->texts, NULL);
    /* integers have one zero */
    if (value->kind == JSON_INTEGER && value->number == 0) value->number = 0;
    return true;
}

/* --- values ------------------------------------------------------------------------------------------------------- */

static int compare_bytes(const char *left, int64_t left_length, const char *right, int64_t right_length) {
    const int64_t shorter = left_length < right_length ? left_length : right_length;
    const int found = shorter == 0 ? 0 : memcmp(left, right, (size_t)shorter);
    return found != 0 ? found : (left_length > right_length) - (left_length < right_length);
}

static int compare_names(const void *left, const void *right) {
    const struct pymlp_json *const *a = left, *const *b = right;
    return compare_bytes((*a)->name, (*a)->name_length, (*b)->name, (*b)->name_length);
}

static bool has_twice(struct parser *parser, const struct pymlp_json *member) {
    char shown[SHOWN_BYTES];
    return pymlp_complain(parser->reading, "%s has the key %s twice", parser->where,
                          pymlp_shown_text(member->name, member->name_length, shown));
}

/* Whether no two members have one name. */
static bool names_differ(struct parser *parser, const struct pymlp_json *object) {
    if (object->count <= FEW_MEMBERS) {
        for (const struct pymlp_json *a = object->first; a != NULL; a = a->next)
            for (const struct pymlp_json *b = a->next; b != NULL; b = b->next)
                if (compare_names(&a, &b) == 0) return has_twice(parser, a);
        return true;
    }
    int64_t count = 0;
    for (const struct pymlp_json *member = object->first; member != NULL; member = member->next)
        parser->sorted[count++] = member;
    qsort(parser->sorted, (size_t)count, sizeof *parser->sorted, compare_names);
    for (int64_t i = 1; i < count; i++)
        if (compare_names(&parser->sorted[i - 1], &parser->sorted[i]) == 0) return has_twice(parser, parser->sorted[i]);
    return true;
}

static struct pymlp_json *take_value(struct parser *parser, int depth);

/* The items of a list, or the members of an object, from behind its bracket on. */
static bool take_items(struct parser *parser, struct pymlp_json *value, char close, int depth) {
    struct pymlp_json **next = &value->first;
    skip_space(parser);
    if (parser->at < parser->end && *parser->at == close) {
        parser->at++;
        return true;
    }
    for (;;) {
        const char *name = NULL;
        int64_t name_length = 0;
        skip_space(parser);
        if (close == '}') {
            if (!passes(parser, "\"")) return is_malformed(parser, "no name");
            if (!take_text(parser, &name, &name_length)) return false;
            skip_space(parser);
            if (!passes(parser, ":")) return is_malformed(parser, "no colon");
        }
        struct pymlp_json *item = take_value(parser, depth + 1);
        if (item == NULL) return false;
        item->name = name;
        item->name_length = name_length;
        *next = item;
        next = &item->next;
        value->count++;
        skip_space(parser);
        if (passes(parser, ",")) continue;
        if (parser->at == parser->end || *parser->at != close) return is_malformed(parser, "no comma and no end");
        parser->at++;
        return value->kind == JSON_LIST || names_differ(parser, value);
    }
}

static bool fill_value(struct parser *parser, struct pymlp_json *value, int depth) {
    static const struct { const char *word; int kind; double number; } words[] = {
        {"null", JSON_NULL, 0},
        {"false", JSON_FALSE, 0},
        {"true", JSON_TRUE, 1},
        {"NaN", JSON_REAL, __builtin_nan("")},
        {"Infinity", JSON_REAL, __builtin_inf()},
        {"-Infinity", JSON_REAL, -__builtin_inf()},
    };
    if (passes(parser, "\"")) {
        value->kind = JSON_TEXT;
        return take_text(parser, &value->text, &value->length);
    }
    if (passes(parser, "[")) {
        value->kind = JSON_LIST;
        return take_items(parser, value, ']', depth);
    }
    if (passes(parser, "{")) {
        value->kind = JSON_OBJECT;
        return take_items(parser, value, '}', depth);
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (passes(parser, words[i].word)) {
            value->kind = words[i].kind;
            value->number = words[i].number;
            return true;
        }
    return take_number(parser, value);
}

static struct pymlp_json *take_value(struct parser *parser, int depth) {
    skip_space(parser);
    /* the bounds of a text that is no JSON say less of it */
    if (parser->values_left == 0 || depth > DEEPEST) {
        is_malformed(parser, "more values than it can have");
        return NULL;
    }
    struct pymlp_json *value = parser->values++;
    parser->values_left--;
    return fill_value(parser, value, depth) ? value : NULL;
}

struct pymlp_json *pymlp_parse_json(struct pymlp_reading *reading, const char *where, const char *text, int64_t length) {
    int64_t values = 0;
    if (!is_within_bounds(reading, where, text, length, &values)) return NULL;
    if (!pymlp_is_utf8(text, length)) {
        pymlp_complain(reading, "%s is not JSON: it is not UTF-8", where);
        return NULL;
    }
    struct parser parser = {.reading = reading, .where = where, .at = text, .end = text + length, .values_left = values};
    parser.values = pymlp_scrap(reading, values, sizeof *parser.values);
    parser.sorted = pymlp_scrap(reading, values, sizeof *parser.sorted);
    /* a string without its quotes, or a number, and an end each: behind a number comes at least one character */
    parser.texts = pymlp_scrap(reading, length + 2, 1);
    if (parser.values == NULL || parser.sorted == NULL || parser.texts == NULL) return NULL;
    struct pymlp_json *root = take_value(&parser, 0);
    if (root == NULL) return NULL;
    skip_space(&parser);
    if (parser.at < parser.end) {
        is_malformed(&parser, "more behind its end");
        return NULL;
    }
    if (root->kind != JSON_OBJECT) {
        char shown[SHOWN_BYTES];
        pymlp_complain(reading, "%s must be a JSON object, found %s", where, pymlp_shown(root, shown));
        return NULL;
    }
    return root;
}

/* --- what a value is ---------------------------------------------------------------------------------------------- */

static bool is_named(const struct pymlp_json *member, const char *name) {
    return member->name_length == (int64_t)strlen(name) && memcmp(member->name, name, (size_t)member->name_length) == 0;
}

struct pymlp_json *pymlp_member(const struct pymlp_json *object, const char *name) {
    if (object == NULL || object->kind != JSON_OBJECT) return NULL;
    struct pymlp_json *member = object->first;
    while (member != NULL && !is_named(member, name)) member = member->next;
    return member;
}

bool pymlp_has_only(struct pymlp_reading *reading, const char *where, const struct pymlp_json *object,
                    const char *const *names) {
    for (const struct pymlp_json *member = object->first; member != NULL; member = member->next) {
        int i = 0;
        while (names[i] != NULL && !is_named(member, names[i])) i++;
        if (names[i] != NULL) continue;
        char shown[SHOWN_BYTES];
        return pymlp_complain(reading, "%s has the unknown key %s", where,
                              pymlp_shown_text(member->name, member->name_length, shown));
    }
    return true;
}

bool pymlp_is_text(const struct pymlp_json *value, const char *text) {
    return value != NULL && value->kind == JSON_TEXT && value->length == (int64_t)strlen(text) &&
           memcmp(value->text, text, (size_t)value->length) == 0;
}

bool pymlp_is_list(const struct pymlp_json *value) {
    return value != NULL && (value->kind == JSON_LIST || value->kind == JSON_ARRAY);
}

bool pymlp_is_number(const struct pymlp_json *value) {
    return value != NULL && (value->kind == JSON_INTEGER || value->kind == JSON_REAL);
}

bool pymlp_is_boolean(const struct pymlp_json *value) {
    return value != NULL && (value->kind == JSON_FALSE || value->kind == JSON_TRUE);
}

/* The digits of an integer, without its sign, and how many. */
static const char *digits_of(const struct pymlp_json *value, int64_t *count, bool *negative) {
    *negative = value->length > 0 && value->text[0] == '-';
    *count = value->length - *negative;
    return value->text + *negative;
}

bool pymlp_integer_of(const struct pymlp_json *value, int64_t *found) {
    if (value == NULL || value->kind != JSON_INTEGER) return false;
    int64_t count;
    bool negative;
    const char *digits = digits_of(value, &count, &negative);
    uint64_t size = 0;
    for (int64_t i = 0; i < count; i++) {
        const uint64_t digit = (uint64_t)(digits[i] - '0');
        if (size > (UINT64_MAX - digit) / 10) return false;
        size = 10 * size + digit;
    }
    if (size > (uint64_t)INT64_MAX + negative) return false;
    *found = negative ? (int64_t)(0 - size) : (int64_t)size;
    return true;
}

int pymlp_compare_texts(const struct pymlp_json *left, const struct pymlp_json *right) {
    /* the order of bytes in UTF-8 is that of characters */
    const int found = compare_bytes(left->text, left->length, right->text, right->length);
    return (found > 0) - (found < 0);
}

/* An integer's digits against a number's that is not smaller than 0 and has none behind its point. */
static int compare_digits(const char *left, int64_t left_count, const char *right, int64_t right_count) {
    if (left_count != right_count) return left_count < right_count ? -1 : 1;
    const int found = memcmp(left, right, (size_t)left_count);
    return (found > 0) - (found < 0);
}

/* An integer against a real, neither of which is small enough for the other's type to be trusted. */
static int compare_with_real(const struct pymlp_json *integer, double real) {
    /* more than any integer that is read */
    if (real >= 1e41 || real <= -1e41) return real > 0 ? -1 : 1;
    int64_t count;
    bool negative;
    const char *digits = digits_of(integer, &count, &negative);
    if (count == 1 && digits[0] == '0') negative = false;
    if (negative != (real < 0)) return negative ? -1 : 1;
    const double size = real < 0 ? -real : real;
    /* past 2**53 every double is whole */
    const double whole = size < 9007199254740992.0 ? (double)(int64_t)size : size;
    char text[64];
    const int length = snprintf(text, sizeof text, "%.0f", whole);
    int found = compare_digits(digits, count, text, length);
    if (found == 0 && whole < size) found = -1;
    return negative ? -found : found;
}

int pymlp_compare_numbers(const struct pymlp_json *left, const struct pymlp_json *right) {
    const bool of_integers = left->kind == JSON_INTEGER && right->kind == JSON_INTEGER;
    if (left->kind == JSON_INTEGER && right->kind == JSON_REAL) return compare_with_real(left, right->number);
    if (left->kind == JSON_REAL && right->kind == JSON_INTEGER) return -compare_with_real(right, left->number);
    if (!of_integers) {
        /* against 0 and 1 every number of a double is right */
        return (left->number > right->number) - (left->number < right->number);
    }
    int64_t left_count, right_count;
    bool left_negative, right_negative;
    const char *left_digits = digits_of(left, &left_count, &left_negative);
    const char *right_digits = digits_of(right, &right_count, &right_negative);
    if (left_digits[0] == '0') left_negative = false;
    if (right_digits[0] == '0') right_negative = false;
    if (left_negative != right_negative) return left_negative ? -1 : 1;
    const int found = compare_digits(left_digits, left_count, right_digits, right_count);
    return left_negative ? -found : found;
}

/* --- for messages -------------------------------------------------------------------------------------------------- */

const char *pymlp_shown(const struct pymlp_json *value, char shown[SHOWN_BYTES]) {
    if (value == NULL) return "nothing";
    switch (value->kind) {
        case JSON_FALSE: return "false";
        case JSON_TRUE: return "true";
        case JSON_INTEGER: snprintf(shown, SHOWN_BYTES, "%.*s", (int)value->length, value->text); return shown;
        case JSON_REAL: snprintf(shown, SHOWN_BYTES, "%.17g", value->number); return shown;
        case JSON_TEXT: return pymlp_shown_text(value->text, value->length, shown);
        case JSON_LIST: snprintf(shown, SHOWN_BYTES, "a list of %lld items", (long long)value->count); return shown;
        case JSON_ARRAY: return "a list";
        case JSON_OBJECT:
            snprintf(shown, SHOWN_BYTES, "an object of %lld members", (long long)value->count);
            return shown;
        default: return "null";
    }
}
