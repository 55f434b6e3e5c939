/* json.h: JSON texts as trees of values; see json.c. */
#ifndef PYMLP_JSON_H
#define PYMLP_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "reading.h"

/* JSON_ARRAY: a list whose items lie in an array of the file, see lists.h */
enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_INTEGER, JSON_REAL, JSON_TEXT, JSON_LIST, JSON_OBJECT, JSON_ARRAY };

/* what the items of a JSON_ARRAY are */
enum { ITEM_REALS, ITEM_INTEGERS, ITEM_TEXTS };

struct pymlp_json {
    int kind;
    double number;    /* of a number, an integer's rounded to the nearest */
    const char *text; /* of a text, in UTF-8, with a 0 behind it; of an integer its characters, without one */
    int64_t length;
    /* of lists and objects: the first item or member, and how many; of an array how many numbers or bytes */
    struct pymlp_json *first;
    int64_t count;
    const uint8_t *data;
    int items;
    /* its place in what it is in */
    struct pymlp_json *next;
    const char *name; /* of a member, as a text */
    int64_t name_length;
};

/* Bounds of a JSON text: values and names outside its strings, lists and objects within each other, characters of an
 * integer (pymlp/container.py). */
enum { MOST_VALUES = 1 << 15, DEEPEST = 32, LONGEST_INTEGER = 40 };

/* The object that a text of `length` bytes holds; NULL with a complaint where it holds none.  The text must live as long as
 * the tree. */
struct pymlp_json *pymlp_parse_json(struct pymlp_reading *reading, const char *where, const char *text, int64_t length);

/* A member of an object by its name; NULL where there is none, or no object. */
struct pymlp_json *pymlp_member(const struct pymlp_json *object, const char *name);
/* Whether the object has members of these names alone, NULL past the last; a complaint names another. */
bool pymlp_has_only(struct pymlp_reading *reading, const char *where, const struct pymlp_json *object,
                    const char *const *names);

bool pymlp_is_text(const struct pymlp_json *value, const char *text);
bool pymlp_is_list(const struct pymlp_json *value);
/* an integer or a real, no truth value */
bool pymlp_is_number(const struct pymlp_json *value);
bool pymlp_is_boolean(const struct pymlp_json *value);
/* Whether it is an integer of 64 bits, which becomes *found. */
bool pymlp_integer_of(const struct pymlp_json *value, int64_t *found);
/* -1, 0 or 1: which of two numbers or truth values (0 and 1) is larger, exactly; neither is NaN. */
int pymlp_compare_numbers(const struct pymlp_json *left, const struct pymlp_json *right);
/* The same of texts, by their characters. */
int pymlp_compare_texts(const struct pymlp_json *left, const struct pymlp_json *right);

/* A value for a message. */
const char *pymlp_shown(const struct pymlp_json *value, char shown[SHOWN_BYTES]);

#endif
