#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "json.h"
#include "memory.h"

/* The instances of a topic: one if it is shared, one for each join if it is private. */
struct view {
	const char *topic;
	int64_t *instances;
	size_t count, room;
};

static bool
take_instance(void *context, const struct store_instance *row)
{
	struct view *view = context;

	if (strcmp(row->topic, view->topic) != 0)
		return true;
	view->instances = memory_grow(view->instances, view->count, &view->room, sizeof *view->instances);
	view->instances[view->count++] = row->id;
	return true;
}

static bool
wanted(const struct view *view, int64_t instance)
{
	for (size_t i = 0; i < view->count; i++)
		if (view->instances[i] == instance)
			return true;
	return false;
}

static const char *
kind_name(enum store_kind kind)
{
	switch (kind) {
	case STORE_EVENT:
		return "event";
	case STORE_JOIN:
		return "join";
	case STORE_LEAVE:
		return "leave";
	case STORE_REFRESH:
		return "refresh";
	case STORE_CRASH:
		return "crash";
	case STORE_PRESENCE:
	case STORE_PRESENCE_STATE:
		return "presence";
	case STORE_ANSWER:
		return "answer";
	}
	return "unknown";
}

static void
put_number(json_object *out, const char *name, int64_t number)
{
	json_object_object_add(out, name, json_object_new_int64(number));
}

static void
put_text(json_object *out, const char *name, const char *text)
{
	if (text != NULL)
		json_object_object_add(out, name, json_object_new_string(text));
}

static void
put_json(json_object *out, const char *name, const char *text)
{
	if (text != NULL)
		json_object_object_add(out, name, json_read(text));
}

static bool
print_row(void *context, const struct store_record *row)
{
	json_object *out;

	if (!wanted(context, row->instance))
		return true;
	out = json_object_new_object();
	put_number(out, "number", row->number);
	put_number(out, "instance", row->instance);
	put_number(out, "revision", row->revision);
	put_number(out, "version", row->version);
	put_text(out, "kind", kind_name(row->kind));
	put_number(out, "time_ms", row->time_ms);
	put_number(out, "socket", row->socket);
	put_number(out, "message", row->message);
	put_text(out, "ref", row->ref);
	put_text(out, "join_ref", row->join_ref);
	put_text(out, "event", row->event);
	put_json(out, "operations", row->operations);
	put_json(out, "events", row->events);
	put_json(out, "detail", row->detail);
	printf("%s\n", json_text(out, NULL));
	json_object_put(out);
	return !ferror(stdout); /* whoever reads may have had enough */
}

static enum store_status
print_log(struct store *store, struct view *view)
{
	int64_t last;
	enum store_status status = store_scan_instances(store, take_instance, view);

	if (status == STORE_OK)
		status = store_last(store, &last);
	if (status == STORE_OK)
		status = store_scan(store, 0, last, print_row, view);
	return status;
}

int
command_log(const struct options *options, const char *topic)
{
	struct view view = {.topic = topic};
	struct store *store = command_store(options);
	int result = 0;

	if (store == NULL)
		return 1;
	if (print_log(store, &view) != STORE_OK) {
		result = command_failed(store);
	} else if (view.count == 0) {
		fprintf(stderr, "seance: there is no topic %s\n", topic);
		result = 1;
	}
	free(view.instances);
	store_close(store);
	return result;
}
