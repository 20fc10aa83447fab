/*
 * counter - a number that everybody who looks at the page shares
 *
 * Topics counter:*, each with a number of its own.  State {"count":0}; events: increment {}, add {"by":N},
 * reset {}, which is refused when there is nothing to reset.
 */
#include <string.h>

#include "seance.h"

#define BY_MAX 1000

static int64_t
count_of(json_object *state)
{
	return json_object_get_int64(json_object_object_get(state, "count"));
}

static enum seance_status
counter_init(struct seance_call *call, const char *topic, json_object *payload)
{
	return seance_set_state(call, seance_json("{\"count\":0}"));
}

static enum seance_status
add(struct seance_call *call, json_object *by, json_object *state)
{
	int64_t number = json_object_get_int64(by);

	if (!json_object_is_type(by, json_type_int) || number < -BY_MAX || number > BY_MAX)
		return seance_refuse(call, "by how much? At most %d", BY_MAX);
	return seance_replace(call, json_object_new_int64(count_of(state) + number), "/count");
}

static enum seance_status
counter_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	if (strcmp(event, "increment") == 0)
		return seance_replace(call, json_object_new_int64(count_of(state) + 1), "/count");
	if (strcmp(event, "add") == 0)
		return add(call, json_object_object_get(payload, "by"), state);
	if (strcmp(event, "reset") != 0)
		return seance_refuse(call, "unknown event: %s", event);
	if (count_of(state) == 0)
		return seance_refuse(call, "it is 0 already");
	return seance_replace(call, json_object_new_int64(0), "/count");
}

static const struct seance_channel counter = {
	.topic = "counter:*",
	.scope = SEANCE_SHARED,
	.init = counter_init,
	.handle_event = counter_event,
};

SEANCE_MAIN(&counter)
