/* lists.h: the lists of a state, in its JSON text or in arrays beside it; see lists.c. */
#ifndef PYMLP_LISTS_H
#define PYMLP_LISTS_H

#include <stdbool.h>
#include <stdint.h>

#include "container.h"
#include "json.h"
#include "reading.h"

/* Puts the lists that lie in arrays in the places of the state that name them; each exactly once. */
bool pymlp_attach_lists(struct pymlp_reading *reading, struct pymlp_json *state, const struct pymlp_container *container,
                        const bool *is_list);
/* The items of a list, or of one that lies in an array, one after the other:
 *     struct pymlp_items items = pymlp_items_of(list);
 *     for (const struct pymlp_json *item; (item = pymlp_next_item(&items)) != NULL;) ...
 * An item lives until the next one is taken. */
struct pymlp_items {
    const struct pymlp_json *list, *next;
    int64_t at; /* of an array: number or byte */
    struct pymlp_json item;
    char digits[24];
};
struct pymlp_items pymlp_items_of(const struct pymlp_json *list);
const struct pymlp_json *pymlp_next_item(struct pymlp_items *items);
/* Numbers of items */
int64_t pymlp_count_of(const struct pymlp_json *list);

#endif
