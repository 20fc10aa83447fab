/*
 * Events that are not to be done again, by the keys in their rows: "DIGEST SCOPE KEY".  A key is known as long as the
 * log has its row; all of them are in memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"
#include "json.h"
#include "memory.h"

#define HASH_DIGITS 16

struct key {
	char *text;     /* owned: of the row */
	int64_t number; /* of the row; 0: it is staged */
	struct key *next;
};

/* What is the same for two events with one key; the digest before it tells whether they are the same event. */
static const char *
name_of(const char *text)
{
	return text + HASH_DIGITS + 1;
}

char *
key_text(const struct instance *instance, const char *key, const char *event, json_object *payload)
{
	char scope[32];
	size_t size = 2 * (HASH_DIGITS + 1) + strlen(key) + 1;
	char *text = memory_alloc(size);
	snprintf(scope, sizeof(scope), "I%lld", (long long)instance->row.id);
	const char *owner = instance->row.shared ? instance->row.topic : scope;
	snprintf(text, size, "%016llx %016llx %s", (unsigned long long)visit_digest(event, payload),
	         (unsigned long long)visit_hash(VISIT_HASH_BEGIN, owner, strlen(owner)), key);
	return text;
}

static struct key *
insert(struct engine *engine, const char *text)
{
	struct key *key = memory_zeroed(1, sizeof(*key));
	key->text = memory_strdup(text);
	if (lh_table_insert(engine->keys, name_of(key->text), key) != 0)
		abort();
	return key;
}

static void
key_free(struct engine *engine, struct key *key)
{
	lh_table_delete(engine->keys, name_of(key->text));
	free(key->text);
	free(key);
}

enum key_state
keys_find(struct engine *engine, const char *text, int64_t *number)
{
	const struct key *key = table_find_text(engine->keys, name_of(text));
	if (!key)
		return KEY_NEW;
	*number = key->number;
	return strncmp(key->text, text, HASH_DIGITS) == 0 ? KEY_DONE : KEY_OTHERS;
}

void
keys_stage(struct engine *engine, const char *text)
{
	insert(engine, text);
}

void
keys_unstage(struct engine *engine, const char *text)
{
	struct key *key = table_find_text(engine->keys, name_of(text));
	if (key && key->number == 0)
		key_free(engine, key);
}

void
keys_commit(struct engine *engine, const char *text, int64_t number)
{
	struct key *key = table_find_text(engine->keys, name_of(text));
	if (!key)
		key = insert(engine, text);
	if (key->number)
		return;
	key->number = number;
	if (engine->keys_last)
		engine->keys_last->next = key;
	else
		engine->keys_first = key;
	engine->keys_last = key;
}

static bool
read_key(void *context, int64_t number, const char *text)
{
	struct engine *engine = context;
	if (strlen(text) > 2 * HASH_DIGITS)
		keys_commit(engine, text, number);
	return true;
}

enum store_status
keys_read(struct engine *engine)
{
	return store_scan_keys(engine->store, read_key, engine);
}

void
keys_forget(struct engine *engine, int64_t until)
{
	while (engine->keys_first && engine->keys_first->number <= until) {
		struct key *key = engine->keys_first;
		engine->keys_first = key->next;
		if (!engine->keys_first)
			engine->keys_last = NULL;
		key_free(engine, key);
	}
}
