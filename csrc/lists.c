/* lists.c: lists of numbers or texts, whether they stand in a JSON text or lie in an array of the file, where long ones are
 * (pymlp/long_lists.py): who goes through their items need not know.
 */
#include "lists.h"

#include <stdio.h>
#include <string.h>

/* --- lists that lie in arrays ------------------------------------------------------------------------------------- */

/* Makes of the value the list that the array holds. */
static bool take_array(struct pymlp_reading *reading, const struct pymlp_entry *entry, const uint8_t *data,
                       struct pymlp_json *value) {
    char shown[SHOWN_BYTES];
    pymlp_shown_text(entry->name, entry->name_length, shown);
    if (entry->n_dimensions != 1 || (entry->type != TYPE_F64 && entry->type != TYPE_I64 && entry->type != TYPE_U8))
        return pymlp_complain(reading, "%s is no list", shown);
    if (entry->type == TYPE_U8 && !pymlp_is_utf8((const char *)data + entry->start, entry->shape[0]))
        return pymlp_complain(reading, "%s must hold UTF-8", shown);
    value->kind = JSON_ARRAY;
    value->items = entry->type == TYPE_F64 ? ITEM_REALS : entry->type == TYPE_I64 ? ITEM_INTEGERS : ITEM_TEXTS;
    value->data = data + entry->start;
    value->count = entry->shape[0];
    return true;
}

static bool attach(struct pymlp_reading *reading, struct pymlp_json *value, const struct pymlp_container *container,
                   const bool *is_list, bool *is_used) {
    if (value->kind != JSON_LIST && value->kind != JSON_OBJECT) return true;
    const struct pymlp_json *name = value->count == 1 ? pymlp_member(value, "array") : NULL;
    if (name == NULL) {
        for (struct pymlp_json *item = value->first; item != NULL; item = item->next)
            if (!attach(reading, item, container, is_list, is_used)) return false;
        return true;
    }
    for (int64_t i = 0; i < container->n_entries; i++) {
        const struct pymlp_entry *entry = &container->entries[i];
        if (!is_list[i] || is_used[i] || name->kind != JSON_TEXT || name->length != entry->name_length ||
            memcmp(name->text, entry->name, (size_t)name->length) != 0)
            continue;
        is_used[i] = true;
        return take_array(reading, entry, container->data, value);
    }
    char shown[SHOWN_BYTES];
    return pymlp_complain(reading, "there is no array %s, or it is there for another list", pymlp_shown(name, shown));
}

bool pymlp_attach_lists(struct pymlp_reading *reading, struct pymlp_json *state, const struct pymlp_container *container,
                        const bool *is_list) {
    char shown[SHOWN_BYTES];
    bool *is_used = pymlp_scrap(reading, container->n_entries, sizeof *is_used);
    if (is_used == NULL || !attach(reading, state, container, is_list, is_used)) return false;
    for (int64_t i = 0; i < container->n_entries; i++)
        if (is_list[i] && !is_used[i])
            return pymlp_complain(reading, "nothing uses the array %s",
                                  pymlp_shown_text(container->entries[i].name, container->entries[i].name_length, shown));
    return true;
}

/* --- items -------------------------------------------------------------------------------------------------------- */

struct pymlp_items pymlp_items_of(const struct pymlp_json *list) {
    return (struct pymlp_items){.list = list, .next = list->kind == JSON_LIST ? list->first : NULL};
}

static uint64_t little_endian(const uint8_t *bytes) {
    uint64_t word = 0;
    for (int i = 0; i < 8; i++) word |= (uint64_t)bytes[i] << 8 * i;
    return word;
}

const struct pymlp_json *pymlp_next_item(struct pymlp_items *items) {
    const struct pymlp_json *list = items->list;
    if (list->kind != JSON_ARRAY) {
        const struct pymlp_json *item = items->next;
        if (item != NULL) items->next = item->next;
        return item;
    }
    struct pymlp_json *item = &items->item;
    *item = (struct pymlp_json){.kind = JSON_REAL};
    if (list->items == ITEM_TEXTS) {
        /* texts with a 0 between them: one more than there are of these */
        if (items->at > list->count) return NULL;
        const char *text = (const char *)list->data + items->at;
        const int64_t left = list->count - items->at;
        const char *end = left == 0 ? NULL : memchr(text, '\0', (size_t)left);
        item->kind = JSON_TEXT;
        item->text = text;
        item->length = end == NULL ? left : end - text;
        items->at += item->length + 1;
        return item;
    }
    if (items->at >= list->count) return NULL;
    const uint64_t word = little_endian(list->data + 8 * items->at++);
    if (list->items == ITEM_REALS) {
        memcpy(&item->number, &word, sizeof item->number);
        return item;
    }
    int64_t number;
    memcpy(&number, &word, sizeof number);
    item->kind = JSON_INTEGER;
    item->number = (double)number;
    item->text = items->digits;
    item->length = snprintf(items->digits, sizeof items->digits, "%lld", (long long)number);
    return item;
}

int64_t pymlp_count_of(const struct pymlp_json *list) {
    if (list->kind != JSON_ARRAY || list->items != ITEM_TEXTS) return list->count;
    int64_t count = 1;
    for (int64_t i = 0; i < list->count; i++) count += list->data[i] == 0;
    return count;
}
