#include "memory_table.h"

#include "store_backend.h"

#include <stdlib.h>
#include <string.h>

/* An array with room for one element more. */
static void *
grow(void *array, size_t *room, size_t count, size_t element_bytes)
{
	if (count < *room)
		return array;
	*room = *room == 0 ? 16 : *room * 2;
	return store_check_memory(realloc(array, *room * element_bytes));
}

size_t
table_after(const struct table *table, int64_t number)
{
	size_t low = 0;
	size_t high = table->count;

	if (high > 0 && table->slots[high - 1].number <= number)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (table->slots[middle].number <= number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The slot of a number, or NULL. */
static struct table_slot *
slot_of(const struct table *table, int64_t number)
{
	size_t after = table_after(table, number);

	if (after == 0 || table->slots[after - 1].number != number)
		return NULL;
	return &table->slots[after - 1];
}

void *
table_get(const struct table *table, int64_t number)
{
	struct table_slot *slot = slot_of(table, number);

	return slot == NULL ? NULL : slot->row;
}

static void
insert(struct table *table, int64_t number, void *row)
{
	size_t at = table_after(table, number);
	struct table_slot *slot;

	table->slots = grow(table->slots, &table->room, table->count, sizeof(*table->slots));
	slot = &table->slots[at];
	memmove(slot + 1, slot, (table->count - at) * sizeof(*slot));
	*slot = (struct table_slot){.number = number, .row = row};
	table->count++;
}

static void
cut(struct table *table, size_t at, size_t count)
{
	struct table_slot *slot = &table->slots[at];

	memmove(slot, slot + count, (table->count - at - count) * sizeof(*slot));
	table->count -= count;
}

/* Puts row in the number's place and gives back what was there. */
static void *
exchange(struct table *table, int64_t number, void *row)
{
	struct table_slot *slot = slot_of(table, number);
	void *old = slot == NULL ? NULL : slot->row;

	if (slot == NULL && row != NULL)
		insert(table, number, row);
	else if (slot != NULL && row != NULL)
		slot->row = row;
	else if (slot != NULL)
		cut(table, (size_t)(slot - table->slots), 1);
	return old;
}

static void
journal_add(struct journal *journal, struct table *table, int64_t number, void *row)
{
	struct journal_entry entry = {.table = table, .number = number, .row = row};

	journal->entries = grow(journal->entries, &journal->room, journal->count, sizeof(*journal->entries));
	journal->entries[journal->count++] = entry;
}

void
table_set(struct table *table, struct journal *journal, int64_t number, void *row)
{
	journal_add(journal, table, number, exchange(table, number, row));
}

void
table_remove_until(struct table *table, struct journal *journal, int64_t number)
{
	size_t count = table_after(table, number);

	for (size_t i = 0; i < count; i++)
		journal_add(journal, table, table->slots[i].number, table->slots[i].row);
	if (count > 0)
		cut(table, 0, count);
}

void
table_release(struct table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->slots[i].row);
	free(table->slots);
	*table = (struct table){0};
}

void
journal_undo(struct journal *journal)
{
	while (journal->count > 0) {
		struct journal_entry *entry = &journal->entries[--journal->count];

		free(exchange(entry->table, entry->number, entry->row));
	}
}

void
journal_forget(struct journal *journal)
{
	while (journal->count > 0)
		free(journal->entries[--journal->count].row);
}

void
journal_release(struct journal *journal)
{
	journal_forget(journal);
	free(journal->entries);
	*journal = (struct journal){0};
}
