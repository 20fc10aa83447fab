/*
 * wizard - a form in three steps, for each visitor a state of his own, which waits ten minutes for one whose
 * connection is lost
 *
 * Topic wizard:order.  State {"step":"name","answers":{}}; steps: name, seats, confirm, done.  Events:
 *
 *     next {"value": ...}   the answer to this step; refused with {"field","reason"} when it is none
 *     back {}               one step back; the answer stays
 *     confirm {}            at the last step: an event `ordered` with all answers is replied
 */
#include <string.h>

#include "seance.h"

#define SEATS_MAX 12

/* Why a value is no answer; NULL: it is one. */
typedef const char *check_fn(json_object *value);

static const char *
check_name(json_object *value)
{
	const char *text = json_object_get_string(value);

	if (!json_object_is_type(value, json_type_string) || text[strspn(text, " ")] == '\0')
		return "Please give a name.";
	return json_object_get_string_len(value) > 100 ? "That is too long." : NULL;
}

static const char *
check_seats(json_object *value)
{
	int64_t seats = json_object_get_int64(value);

	if (!json_object_is_type(value, json_type_int) || seats < 1)
		return "At least one seat.";
	return seats > SEATS_MAX ? "There is room for twelve." : NULL;
}

static const struct step {
	const char *name;
	check_fn *check; /* NULL: nothing is asked for */
} steps[] = {{"name", check_name}, {"seats", check_seats}, {"confirm", NULL}, {"done", NULL}};

#define STEPS (sizeof steps / sizeof steps[0])

static size_t
step_of(json_object *state)
{
	const char *name = json_object_get_string(json_object_object_get(state, "step"));
	size_t at = 0;

	while (at < STEPS - 1 && strcmp(steps[at].name, name) != 0)
		at++;
	return at;
}

static enum seance_status
go_to(struct seance_call *call, size_t step)
{
	return seance_replace(call, json_object_new_string(steps[step].name), "/step");
}

static enum seance_status
refuse_field(struct seance_call *call, const char *field, const char *why)
{
	json_object *reason = json_object_new_object();

	json_object_object_add(reason, "field", json_object_new_string(field));
	json_object_object_add(reason, "reason", json_object_new_string(why));
	return seance_refuse_json(call, reason);
}

static enum seance_status
next(struct seance_call *call, json_object *payload, size_t step)
{
	json_object *value = json_object_object_get(payload, "value");
	const char *why;

	if (steps[step].check == NULL)
		return seance_refuse(call, "there is no next step");
	why = steps[step].check(value);
	if (why != NULL)
		return refuse_field(call, steps[step].name, why);
	seance_add(call, json_object_get(value), "/answers/%s", steps[step].name);
	return go_to(call, step + 1);
}

static enum seance_status
wizard_event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
{
	size_t step = step_of(state);

	if (strcmp(event, "next") == 0)
		return next(call, payload, step);
	if (strcmp(event, "back") == 0)
		return step == 0 || step == STEPS - 1 ? seance_refuse(call, "there is no way back")
		                                      : go_to(call, step - 1);
	if (strcmp(event, "confirm") != 0 || step != STEPS - 2)
		return seance_refuse(call, "not now");
	seance_reply(call, "ordered", json_object_get(json_object_object_get(state, "answers")));
	return go_to(call, STEPS - 1);
}

static enum seance_status
wizard_init(struct seance_call *call, const char *topic, json_object *payload)
{
	return seance_set_state(call, seance_json("{\"step\":\"name\",\"answers\":{}}"));
}

static const struct seance_channel wizard = {
	.topic = "wizard:*",
	.resume_ttl = 600,
	.init = wizard_init,
	.handle_event = wizard_event,
};

SEANCE_MAIN(&wizard)
