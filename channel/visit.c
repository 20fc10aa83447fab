#include "visit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"
#include "json.h"
#include "memory.h"
#include "since.h"

void
visit_free(struct visit *visit)
{
	if (!visit)
		return;
	json_object_put(visit->params);
	json_object_put(visit->body);
	free(visit->name);
	free(visit->socket);
	free(visit->event);
	free(visit->digest);
	free(visit->key);
	for (int i = 0; i < VISIT_KEYS; i++)
		free(visit->keys[i].text);
	free(visit->if_match);
	free(visit->answer);
	free(visit);
}

struct visit *
visit_marked(const char *mark)
{
	struct visit *visit = memory_zeroed(1, sizeof(*visit));
	visit->digest = memory_strdup("");
	visit->answer = memory_strdup("null");
	if (mark)
		visit->keys[0] = (struct visit_key){memory_strdup(mark), VISIT_MARK_MS};
	return visit;
}

/* --- keys --- */

uint64_t
visit_hash(uint64_t hash, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
	return hash;
}

char *
visit_key(const char *kind, uint64_t hash, const char *text)
{
	size_t size = strlen(kind) + strlen(text) + 24;
	char *key = memory_alloc(size);
	snprintf(key, size, "%s %016llx %s", kind, (unsigned long long)hash, text);
	return key;
}

uint64_t
visit_digest(const char *event, json_object *payload)
{
	size_t len;
	const char *text = json_text(payload, &len);
	return visit_hash(visit_hash(VISIT_HASH_BEGIN, event, strlen(event) + 1), text, len);
}

/* --- what is answered --- */

static void
add_head(struct buffer *out, const struct message *message, const struct instance *instance,
         int64_t revision, int64_t version)
{
	struct visit *visit = message->visit;
	position_write(visit->position, instance->row.epoch, revision);
	buffer_add_text(out, "\"version\":");
	buffer_add_number(out, version);
	buffer_add_text(out, ",\"revision\":");
	buffer_add_number(out, revision);
	buffer_add_text(out, ",\"position\":\"");
	buffer_add_text(out, visit->position);
	buffer_add_text(out, "\"");
}

static void
add_topic(struct buffer *out, const struct message *message)
{
	buffer_add_text(out, "{\"topic\":");
	buffer_add_json_string(out, message->topic, strlen(message->topic));
	buffer_add_text(out, ",");
}

/* Ended with a NUL; it goes into the visit. */
static void
end_answer(struct visit *visit, struct buffer *out)
{
	buffer_add(out, "}", sizeof("}"));
	free(visit->answer);
	visit->answer = out->at;
}

void
visit_answer_state(struct message *message, const struct instance *instance, bool reset)
{
	struct buffer out = {0};
	char *state = show_text(instance);
	add_topic(&out, message);
	add_head(&out, message, instance, instance->revision, instance->version);
	if (reset)
		buffer_add_text(&out, ",\"reset\":true");
	buffer_add_text(&out, ",\"state\":");
	buffer_add_text(&out, state);
	end_answer(message->visit, &out);
	free(state);
}

void
visit_answer_join(struct message *message, const struct instance *instance)
{
	struct visit *visit = message->visit;
	struct buffer out = {0};
	visit_answer_state(message, instance, false);
	buffer_add_text(&out, VISIT_JOINED);
	buffer_add_text(&out, message->socket->row.token);
	buffer_add_text(&out, "\",");
	buffer_add(&out, visit->answer + 1, strlen(visit->answer));
	free(visit->answer);
	visit->answer = out.at;
}

void
visit_answer_nothing(struct visit *visit)
{
	free(visit->answer);
	visit->answer = memory_strdup("null");
}

/* --- the patches since --- */

static void
add_patches(struct buffer *out, const struct since *since)
{
	buffer_add_text(out, ",\"patches\":[");
	for (size_t i = since->count; i-- > 0;) {
		const struct store_record *row = &since->records[i]->row;
		buffer_add_text(out, "{\"version\":");
		buffer_add_number(out, row->version);
		buffer_add_text(out, ",\"revision\":");
		buffer_add_number(out, row->revision);
		buffer_add_text(out, ",\"operations\":");
		buffer_add_text(out, since_told(row));
		buffer_add_text(out, i > 0 ? "}," : "}");
	}
	buffer_add_text(out, "]");
}

/* An end that is yet to come is none. */
static bool
has_end(const struct visit *visit, const struct instance *instance)
{
	return visit->has_until && visit->until_revision <= instance->row.revision;
}

static bool
read_patches(struct engine *engine, struct visit *visit, const struct instance *instance,
             struct since *since)
{
	int64_t until = has_end(visit, instance) ? visit->until_revision : instance->row.revision;
	*since = (struct since){0};
	return (!visit->has_until || visit->until_epoch == instance->row.epoch) &&
	       since_read(engine, instance, visit->since_epoch, visit->since_revision, until, since);
}

/* false: the log does not reach back, or another history is meant. */
static bool
answer_since(struct engine *engine, struct message *message, const struct instance *instance)
{
	struct visit *visit = message->visit;
	struct since since;
	bool reaches = read_patches(engine, visit, instance, &since);
	visit->is_fixed = reaches && has_end(visit, instance);
	if (reaches) {
		struct buffer out = {0};
		add_topic(&out, message);
		add_head(&out, message, instance, since.until, since.version);
		add_patches(&out, &since);
		end_answer(visit, &out);
		visit->is_newest = since.count == 0 && !visit->is_fixed;
		watch_name(visit->watch, instance);
	}
	since_release(&since);
	return reaches;
}

/* What is not committed yet is not shown: patches are those of the log, a state waits for the next commit. */
static void
see(struct engine *engine, struct message *message, struct instance *instance)
{
	const struct visit *visit = message->visit;
	instance->blank_ms = clock_ms(); /* somebody has its position */
	if (visit->has_since && answer_since(engine, message, instance)) {
		message_answer(engine, message, OUTCOME_COMMITTED);
		return;
	}
	visit_answer_state(message, instance, visit->has_since);
	if (!instance->row.id && !instance->staged && !engine->guest)
		stage_birth(stage_rowless(engine, message, instance));
	else if (instance->staged)
		stage_rowless(engine, message, instance);
	else
		message_answer(engine, message, OUTCOME_COMMITTED);
}

/* --- an event --- */

static enum seance_status
run_visit_event(struct run *run)
{
	const struct seance_channel *channel = run->instance->channel;
	if (!channel->handle_event)
		return SEANCE_OK;
	return channel->handle_event(&run->call, run->message->visit->event, run->message->visit->body,
	                             run->instance->edit.document);
}

static void
add_events(struct buffer *out, const struct seance_call *call)
{
	size_t len = call->events ? json_object_array_length(call->events) : 0;
	buffer_add_text(out, ",\"events\":[");
	for (size_t i = 0; i < len; i++) {
		json_object *entry = json_object_array_get_idx(call->events, i);
		const char *name = json_object_get_string(json_object_array_get_idx(entry, 1));
		buffer_add_text(out, i > 0 ? ",{\"name\":" : "{\"name\":");
		buffer_add_json_string(out, name, strlen(name));
		buffer_add_text(out, ",\"detail\":");
		buffer_add_text(out, json_text(json_object_array_get_idx(entry, 2), NULL));
		buffer_add_text(out, "}");
	}
	buffer_add_text(out, "]");
}

/* What clients are told, in the form in which they are. */
static void
add_change(struct buffer *out, const struct store_record *row)
{
	const char *member = row->built ? ",\"message\":" : row->state ? ",\"state\":" : ",\"operations\":";
	buffer_add_text(out, member);
	buffer_add_text(out, row->built ? row->built : row->state ? row->state : since_told(row));
}

/* An event's row, as it was, or is to be, committed. */
static void
answer_event(struct message *message, const struct instance *instance, const struct store_record *row)
{
	struct buffer out = {0};
	buffer_add_text(&out, "{");
	add_head(&out, message, instance, row->revision, row->version);
	add_change(&out, row);
	json_object *events = json_read(row->events);
	struct seance_call told = {.events = events};
	add_events(&out, &told);
	json_object_put(events);
	end_answer(message->visit, &out);
}

/* What it has joined; NULL: nothing (any more), or it wants shared state. */
static struct join *
own_join(const struct message *message)
{
	struct socket *socket = message->socket;
	struct join *join = socket && !socket->ended ? socket_join(socket, message->topic) : NULL;
	return join && join->wants & JOIN_REQUESTS ? join : NULL;
}

static void
finish_visit(struct engine *engine, struct run *run, enum seance_status status)
{
	struct message *message = run->message;
	status = settle(engine, run, status);
	if (status == SEANCE_OK) {
		const struct staged *staged =
			stage_event(engine, message, run->instance, own_join(message), &run->call);
		answer_event(message, run->instance, &staged->record->row);
		return;
	}
	if (status == SEANCE_REFUSED)
		message->reason = refusal_of(&run->call, "reason");
	message_answer(engine, message, status == SEANCE_REFUSED ? OUTCOME_REFUSED : OUTCOME_CRASHED);
}

static bool
fits_if_match(const struct visit *visit, const struct instance *instance)
{
	char position[POSITION_BYTES], quoted[POSITION_BYTES + 2];
	if (!visit->if_match || strcmp(visit->if_match, "*") == 0)
		return true;
	if (!instance->row.id &&
	    instance->revision == 0) /* the first state, as whoever saw a first one has seen it */
		return strstr(visit->if_match, "-0\"") != NULL;
	position_write(position, instance->row.epoch, instance->revision);
	snprintf(quoted, sizeof(quoted), "\"%s\"", position);
	return strstr(visit->if_match, quoted) != NULL;
}

static void
event_run(struct engine *engine, struct message *message, struct instance *instance)
{
	struct run run;
	if (!fits_if_match(message->visit, instance)) {
		position_write(message->visit->position, instance->row.epoch, instance->revision);
		message_answer(engine, message, OUTCOME_CHANGED);
		return;
	}
	const struct join *own = own_join(message);
	run_init(&run, message, instance, own ? own->next_assigns : message->assigns);
	run.call.edit = &instance->edit;
	run.call.version = instance->version;
	enum seance_status status = run_callback(engine, &run, run_visit_event);
	ready_waiting(engine, instance);
	if (run_counts(engine, &run))
		finish_visit(engine, &run, status);
	call_release(&run.call);
}

/* --- the same request again --- */

struct found_answer {
	struct message *message;
	bool marked; /* by nginx, whose mark is never another request's */
	bool other;  /* it was another request */
};

static bool
found_row(void *context, const struct store_answer *row)
{
	struct found_answer *found = context;
	struct visit *visit = found->message->visit;
	found->other = !found->marked && strcmp(row->digest, visit->digest) != 0;
	free(visit->answer);
	visit->answer = found->other ? NULL : memory_strdup(row->answer);
	return false;
}

bool
visit_was_answered(struct engine *engine, struct message *message)
{
	const struct visit *visit = message->visit;
	struct found_answer found = {.message = message};
	for (int i = 0; i < VISIT_KEYS; i++) {
		const char *key = visit->keys[i].text;
		found.marked = i == 0;
		enum store_status status =
			key ? store_answer_get(engine->store, key, found_row, &found) : STORE_NONE;
		if (status == STORE_NONE)
			continue;
		message_answer(engine, message,
		               status != STORE_OK ? OUTCOME_FAILED
		               : found.other      ? OUTCOME_MISUSED
		                                  : OUTCOME_COMMITTED);
		return true;
	}
	return false;
}

/* STORE_NONE: it was done meanwhile. */
enum store_status
visit_write(struct engine *engine, const struct staged *staged)
{
	const struct visit *visit = staged->message ? staged->message->visit : NULL;
	enum store_status status = STORE_OK;
	bool failed = visit && staged->message->by_api && staged->join && !staged->join->instance;
	if (!visit || failed || (!staged->record && staged->message->kind != MESSAGE_BROADCAST))
		return STORE_OK; /* nothing was done */
	for (int i = 0; i < VISIT_KEYS && status == STORE_OK; i++) {
		const struct store_answer row = {
			.key = visit->keys[i].text,
			.digest = visit->digest,
			.answer = visit->answer,
			.until_ms = clock_unix_ms() + visit->keys[i].keep_ms,
		};
		if (row.key)
			status = store_answer_add(engine->store, &row);
	}
	return status;
}

/* --- being let in --- */

static enum seance_status
run_connect(struct run *run)
{
	return run->message->visit->connect(&run->call, run->message->visit->params);
}

/* One callback that may refuse; what it assigns and asks for goes on with the message. */
static bool
ask(struct engine *engine, struct message *message, run_fn *callback, enum message_outcome refused)
{
	struct run run;
	run_init(&run, message, NULL, message->assigns);
	if (callback == run_connect) {
		run.call.topic = "";
		run.call.channel = NULL;
		run.call.header = message->visit->header;
		run.call.header_context = message->visit->header_context;
	}
	enum seance_status status = run_callback(engine, &run, callback);
	if (run.call.assigned) {
		json_object_put(message->assigns);
		message->assigns = call_take_assigns(&run.call);
	}
	effects_append(&message->effects, &run.call.effects);
	if (status == SEANCE_REFUSED) {
		message->reason = refusal_of(&run.call, "reason");
		message_answer(engine, message, refused);
	} else if (status == SEANCE_CRASHED) {
		message_answer(engine, message, OUTCOME_CRASHED);
	}
	call_release(&run.call);
	return status == SEANCE_OK;
}

static bool
may_come_in(struct engine *engine, struct message *message)
{
	struct visit *visit = message->visit;
	visit->connect = engine->on_connect;
	if (!visit->connected && visit->connect && !ask(engine, message, run_connect, OUTCOME_DENIED))
		return false;
	visit->connected = true;
	message->channel = channel_for(engine, message->topic);
	if (!message->channel || message->channel->scope != SEANCE_SHARED) {
		message_answer(engine, message, OUTCOME_UNMATCHED);
		return false;
	}
	visit->is_public = message->channel->is_public;
	if (!message->authorized && message->channel->authorize &&
	    !ask(engine, message, run_authorize, OUTCOME_FORBIDDEN))
		return false;
	message->authorized = true;
	return true;
}

/* --- an event with its key was done --- */

struct done {
	struct message *message;
	const struct instance *instance;
	bool found;
};

static bool
done_row(void *context, const struct store_record *row)
{
	struct done *done = context;
	done->found = true;
	answer_event(done->message, done->instance, row);
	return false;
}

static void
answer_done(struct engine *engine, struct message *message, const struct instance *instance,
            int64_t number)
{
	struct done done = {message, instance, false};
	bool read = store_history(engine->store, number, done_row, &done) == STORE_OK && done.found;
	message_answer(engine, message, read ? OUTCOME_COMMITTED : OUTCOME_FAILED);
}

/* Together with the staged one; if that is not committed, it runs again. */
static void
answer_staged(struct engine *engine, struct message *message, struct instance *instance,
              const char *text)
{
	for (size_t i = 0; i < engine->staged_count; i++) {
		const struct record *record = engine->staged[i].record;
		if (record && record->row.key && strcmp(record->row.key, text) == 0)
			answer_event(message, instance, &record->row);
	}
	stage_rowless(engine, message, instance);
}

/* A process that is soon gone reads them when it needs them; false: it cannot. */
static bool
knows_keys(struct engine *engine)
{
	return !engine->guest || lh_table_length(engine->keys) > 0 || keys_read(engine) == STORE_OK;
}

/* By a socket, or, as private state is its client's own, by another request. */
static bool
was_done(struct engine *engine, struct message *message, struct instance *instance)
{
	struct visit *visit = message->visit;
	int64_t number;
	if (!visit->key)
		return false;
	if (!knows_keys(engine)) {
		message_answer(engine, message, OUTCOME_FAILED);
		return true;
	}
	char *text = key_text(instance, visit->key, visit->event, visit->body);
	enum key_state state = keys_find(engine, text, &number);
	if (state == KEY_OTHERS)
		message_answer(engine, message, OUTCOME_MISUSED);
	else if (state == KEY_DONE && number)
		answer_done(engine, message, instance, number);
	else if (state == KEY_DONE)
		answer_staged(engine, message, instance, text);
	free(message->row_key);
	message->row_key = visit->socket && state == KEY_NEW ? text : NULL;
	if (!message->row_key)
		free(text);
	return state != KEY_NEW;
}

/* --- the instance --- */

static void
on_state(struct engine *engine, struct message *message, struct instance *instance)
{
	struct join *own = own_join(message);
	if (message->visit->leaves)
		stage(engine, message, STORE_LEAVE, instance, own->join_ref)->ends = own;
	else if (!message->visit->event)
		see(engine, message, instance);
	else if (!was_done(engine, message, instance))
		event_run(engine, message, instance);
}

/* Without an event that has led to something it is not kept. */
static void
forget_unborn(struct engine *engine, const char *topic)
{
	struct instance *instance = table_find_text(engine->shared_by_topic, topic);
	if (instance)
		instance_forget(engine, instance);
}

static void
first_state_failed(struct engine *engine, struct run *run, enum seance_status status)
{
	if (status == SEANCE_REFUSED)
		run->message->reason = refusal_of(&run->call, "reason");
	message_answer(engine, run->message, status == SEANCE_REFUSED ? OUTCOME_REFUSED : OUTCOME_CRASHED);
}

static void
first_state(struct engine *engine, struct run *run)
{
	json_object *state = run->call.first_state;
	run->call.first_state = NULL;
	instance_give_state(engine, run->instance, state);
	show_take(run->instance, &run->call.shown);
	effects_append(&run->message->effects, &run->call.effects);
	on_state(engine, run->message, run->instance);
}

/* The topic has no state yet. */
static void
init_run(struct engine *engine, struct message *message, struct instance *instance)
{
	struct run run;
	char *topic = memory_strdup(message->topic);
	run_init(&run, message, instance, message->assigns);
	run.call.init = true;
	enum seance_status status = run_callback(engine, &run, run_init_callback);
	ready_waiting(engine, instance);
	bool counts = run_counts(engine, &run);
	if (counts)
		status = settle_init(engine, &run, status);
	if (counts && status == SEANCE_OK)
		first_state(engine, &run);
	else if (counts)
		first_state_failed(engine, &run, status);
	call_release(&run.call);
	if (counts)
		forget_unborn(engine, topic);
	free(topic);
}

static struct instance *
shared_instance(struct engine *engine, struct message *message)
{
	struct instance *instance = NULL;
	if (!may_come_in(engine, message))
		return NULL;
	if (instance_find_shared(engine, message->channel, message->topic, &instance) != STORE_OK) {
		message_answer(engine, message, OUTCOME_FAILED);
		return NULL;
	}
	return instance;
}

/* Whose token it is was asked when it joined. */
static struct instance *
own_instance(struct engine *engine, struct message *message)
{
	const struct join *own = own_join(message);
	if (!own) {
		message->channel = channel_for(engine, message->topic);
		bool none = !message->channel || message->channel->scope == SEANCE_SHARED;
		message_answer(engine, message,
		               none && message->visit->leaves ? OUTCOME_UNMATCHED : OUTCOME_DENIED);
		return NULL;
	}
	message->channel = own->instance->channel;
	socket_idle(engine, message->socket, message->channel);
	return own->instance;
}

void
visit_run(struct engine *engine, struct message *message)
{
	bool own = message->visit->socket || message->visit->leaves;
	struct instance *instance = (own ? own_instance : shared_instance)(engine, message);
	if (!instance || (message->visit->event && visit_was_answered(engine, message)) ||
	    wait_for(instance, message))
		return;
	if (!instance->row.id && !instance->loaded) {
		init_run(engine, message, instance);
		return;
	}
	switch (instance_ready(engine, instance, message)) {
	case INSTANCE_READY:
		on_state(engine, message, instance);
		break;
	case INSTANCE_UNREADABLE:
		message_answer(engine, message, OUTCOME_FAILED);
		break;
	case INSTANCE_WAITING:
		break;
	}
}

void
engine_visit(struct engine *engine, struct visit *visit, const char *topic, void *request)
{
	struct message *message = memory_zeroed(1, sizeof(*message));
	message->kind = MESSAGE_VISIT;
	message->visit = visit;
	message->by_api = true;
	message->socket = visit->socket ? table_find_text(engine->sockets_by_token, visit->socket) : NULL;
	if (message->socket)
		socket_use(message->socket);
	message->topic = memory_strdup(topic);
	message->event = visit->event ? memory_strdup(visit->event) : NULL;
	message->payload = json_object_get(visit->params);
	message->request = request;
	message->number = 1;
	message_ready(engine, message);
	messages_run(engine);
}
