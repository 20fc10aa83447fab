#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "command.h"
#include "effects.h"
#include "json.h"

static int
refuse(const char *why)
{
	fprintf(stderr, "seance: %s\n", why);
	return 1;
}

static enum store_status
write_one(struct store *store, const char *topic, json_object *message)
{
	struct store_broadcast row = {
		.topic = topic,
		.payload = json_text(message, NULL),
		.time_ms = clock_unix_ms(),
	};
	bool foreign;
	enum store_status status = store_begin(store, &foreign);

	if (status != STORE_OK)
		return status;
	status = store_broadcast_add(store, &row);
	if (status == STORE_OK || status == STORE_NONE)
		status = store_commit(store);
	store_rollback(store);
	return status;
}

static int
broadcast(const struct options *options, struct store *store, const char *topic, json_object *message)
{
	int64_t backlog;

	if (store_backlog(store, &backlog) == STORE_OK && backlog >= BACKLOG_MAX)
		return refuse("too many broadcasts wait to be delivered");
	if (write_one(store, topic, message) != STORE_OK)
		return command_failed(store);
	(void)command_wake(options); /* if it does not run, it will look when it starts */
	return 0;
}

int
command_broadcast(const struct options *options, const char *topic, const char *text)
{
	const char *fault = effects_topic_fault(topic);
	json_object *message = NULL;
	struct json_error error = {.message = "it is too large"};
	struct store *store;
	int result = 1;

	if (fault != NULL)
		return refuse(fault);
	if (strlen(text) > EFFECT_BYTES || !json_parse(text, strlen(text), &message, &error)) {
		fprintf(stderr, "seance: the message is not JSON: %s\n", error.message);
		return 1;
	}
	store = command_store(options);
	if (store != NULL)
		result = broadcast(options, store, topic, message);
	store_close(store);
	json_object_put(message);
	return result;
}
