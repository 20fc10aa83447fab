/*
 * memory_table - rows by rising number, with a journal that can undo what was done to them
 *
 * A row is one block of memory from malloc, never changed in place: another takes its place.
 * So one function, table_set, is all that writing needs, and undoing it is calling it again.
 */
#ifndef SEANCE_MEMORY_TABLE_H
#define SEANCE_MEMORY_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct table_slot {
	int64_t number;
	void *row; /* owned */
};

struct table {
	struct table_slot *slots; /* owned; by rising number */
	size_t count;
	size_t room;
};

/* A row as it was before a table_set. */
struct journal_entry {
	struct table *table; /* borrowed */
	int64_t number;
	void *row; /* owned; NULL: there was none */
};

struct journal {
	struct journal_entry *entries; /* owned; oldest first */
	size_t count;
	size_t room;
};

/* table_get - the row of a number, borrowed until it is replaced; NULL if there is none */
void *table_get(const struct table *table, int64_t number);

/* table_after - place of the first row whose number is greater; table->count if there is none */
size_t table_after(const struct table *table, int64_t number);

/*
 * table_set - puts a row in the place of the one with its number
 *
 * row    Taken; NULL removes.
 * Cost   O(log rows) at the end of the table, O(rows) elsewhere.
 */
void table_set(struct table *table, struct journal *journal, int64_t number, void *row);

/* table_remove_until - removes all rows whose number is not greater; Cost O(rows) */
void table_remove_until(struct table *table, struct journal *journal, int64_t number);

/* table_release - frees all rows */
void table_release(struct table *table);

/* journal_undo - all rows as they were when the journal was empty; it is empty again */
void journal_undo(struct journal *journal);

/* journal_forget - what was done stays */
void journal_forget(struct journal *journal);

/* journal_release - frees what it holds */
void journal_release(struct journal *journal);

#endif
