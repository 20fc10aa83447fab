#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "json.h"
#include "memory.h"
#include "patch.h"

/* The stored state may lag behind the log: these operations are applied to it. */
struct step {
	int64_t revision;
	json_object *operations; /* owned */
};

struct view {
	bool found;
	int64_t instance;
	int64_t last_commit;
	int64_t state_revision;
	int64_t revision;
	int64_t version;
	int64_t epoch;
	struct step *steps; /* rising revisions, once sorted */
	size_t count, room;
};

static bool
take_instance(void *context, const struct store_instance *row)
{
	struct view *view = context;

	view->found = true;
	view->instance = row->id;
	view->last_commit = row->last_commit;
	view->state_revision = row->state_revision;
	view->revision = row->revision;
	view->version = row->version;
	view->epoch = row->epoch;
	return true;
}

static void
take_step(struct view *view, const struct store_record *row)
{
	if (row->revision >= view->revision) {
		view->revision = row->revision;
		view->version = row->version;
	}
	if (row->operations == NULL || row->revision <= view->state_revision)
		return;
	view->steps = memory_grow(view->steps, view->count, &view->room, sizeof *view->steps);
	view->steps[view->count++] = (struct step){row->revision, json_read(row->operations)};
}

/* What came after the instance's row was written. */
static bool
take_later(void *context, const struct store_record *row)
{
	struct view *view = context;

	if (row->instance == view->instance)
		take_step(view, row);
	return true;
}

/* What came before, back to the stored state. */
static bool
take_earlier(void *context, const struct store_record *row)
{
	struct view *view = context;

	if (row->revision <= view->state_revision)
		return false;
	take_step(view, row);
	return true;
}

static int
by_revision(const void *a, const void *b)
{
	int64_t left = ((const struct step *)a)->revision;
	int64_t right = ((const struct step *)b)->revision;

	return (left > right) - (left < right);
}

static bool
steps_apply(struct view *view, json_object **state)
{
	bool good = true;

	if (view->count > 0)
		qsort(view->steps, view->count, sizeof *view->steps, by_revision);
	for (size_t i = 0; i < view->count; i++) {
		good = good && patch_apply(state, view->steps[i].operations);
		json_object_put(view->steps[i].operations);
	}
	free(view->steps);
	return good;
}

/* state is taken. */
static void
print(const struct view *view, const char *topic, json_object *state)
{
	json_object *out = json_object_new_object();

	json_object_object_add(out, "topic", json_object_new_string(topic));
	json_object_object_add(out, "version", json_object_new_int64(view->version));
	json_object_object_add(out, "revision", json_object_new_int64(view->revision));
	json_object_object_add(out, "epoch", json_object_new_int64(view->epoch));
	json_object_object_add(out, "state", state);
	printf("%s\n", json_text(out, NULL));
	json_object_put(out);
}

static enum store_status
read_view(struct store *store, const char *topic, struct view *view, char **text)
{
	enum store_status status = store_instance_find(store, topic, take_instance, view);
	int64_t last;

	if (status != STORE_OK)
		return status;
	status = store_instance_state(store, view->instance, text);
	if (status == STORE_OK)
		status = store_last(store, &last);
	if (status == STORE_OK && view->last_commit > 0)
		status = store_history(store, view->last_commit, take_earlier, view);
	if (status == STORE_OK)
		status = store_scan(store, view->last_commit, last, take_later, view);
	return status;
}

/* Within a transaction, so that the program writes nothing between the reads; it is short. */
static enum store_status
read_consistent(struct store *store, const char *topic, struct view *view, char **text)
{
	bool foreign;
	enum store_status status = store_begin(store, &foreign);

	if (status != STORE_OK)
		return status;
	status = read_view(store, topic, view, text);
	store_rollback(store);
	return status;
}

static int
show(struct store *store, const char *topic)
{
	struct view view = {.found = false};
	char *text = NULL;
	enum store_status status = read_consistent(store, topic, &view, &text);
	json_object *state = json_read(text);
	bool good = steps_apply(&view, &state);

	free(text);
	if (status == STORE_NONE || (status == STORE_OK && !view.found)) {
		fprintf(stderr, "seance: there is no shared topic %s\n", topic);
	} else if (status != STORE_OK) {
		command_failed(store);
	} else if (!good) {
		fprintf(stderr, "seance: the log does not fit to the state of %s\n", topic);
	} else {
		print(&view, topic, state);
		return 0;
	}
	json_object_put(state);
	return 1;
}

int
command_show(const struct options *options, const char *topic)
{
	struct store *store = command_store(options);
	int result;

	if (store == NULL)
		return 1;
	result = show(store, topic);
	store_close(store);
	return result;
}
