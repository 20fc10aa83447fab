/* test_store_dump - all that a store holds as one text, to compare */
#ifndef SEANCE_TEST_STORE_DUMP_H
#define SEANCE_TEST_STORE_DUMP_H

#include "store.h"

#include <stdio.h>
#include <stdlib.h>

struct dump {
	FILE *out;
	struct store *store;
};

static void
dump_text(FILE *out, const char *text)
{
	if (text == NULL)
		fputs(" -", out);
	else
		fprintf(out, " '%s'", text);
}

static bool
dump_record(void *context, const struct store_record *record)
{
	FILE *out = context;

	fprintf(out, "record %lld %lld %lld %lld %lld %d %lld %lld %lld", (long long)record->number,
	        (long long)record->previous, (long long)record->instance, (long long)record->revision,
	        (long long)record->version, (int)record->kind, (long long)record->socket,
	        (long long)record->message, (long long)record->time_ms);
	dump_text(out, record->ref);
	dump_text(out, record->join_ref);
	dump_text(out, record->event);
	dump_text(out, record->operations);
	dump_text(out, record->events);
	dump_text(out, record->state);
	dump_text(out, record->detail);
	fputc('\n', out);
	return true;
}

/* Reads the state from within the scan, as the contract allows. */
static bool
dump_instance(void *context, const struct store_instance *instance)
{
	struct dump *dump = context;
	char *state = NULL;

	fprintf(dump->out, "instance %lld %d %lld %lld %lld %lld %lld %lld", (long long)instance->id,
	        instance->shared, (long long)instance->revision, (long long)instance->version,
	        (long long)instance->last_commit, (long long)instance->state_revision,
	        (long long)instance->state_version, (long long)instance->epoch);
	dump_text(dump->out, instance->topic);
	if (store_instance_state(dump->store, instance->id, &state) != STORE_OK)
		fputs(" no state", dump->out);
	dump_text(dump->out, state);
	fputc('\n', dump->out);
	free(state);
	return true;
}

static bool
dump_socket(void *context, const struct store_socket *socket)
{
	FILE *out = context;

	fprintf(out, "socket %lld %lld %lld", (long long)socket->id, (long long)socket->format,
	        (long long)socket->connected_ms);
	dump_text(out, socket->token);
	dump_text(out, socket->address);
	dump_text(out, socket->assigns);
	fputc('\n', out);
	return true;
}

static bool
dump_join(void *context, const struct store_join *join)
{
	FILE *out = context;

	fprintf(out, "join %lld %lld %lld %lld", (long long)join->number, (long long)join->ended,
	        (long long)join->socket, (long long)join->instance);
	dump_text(out, join->topic);
	dump_text(out, join->join_ref);
	dump_text(out, join->assigns);
	dump_text(out, join->state_key);
	dump_text(out, join->state_version_key);
	fprintf(out, " %lld", (long long)join->wants);
	fputc('\n', out);
	return true;
}

static bool
dump_broadcast(void *context, int64_t instance, const struct store_broadcast *broadcast)
{
	FILE *out = context;

	fprintf(out, "pending %lld %lld %lld %lld", (long long)instance, (long long)broadcast->id,
	        (long long)broadcast->hops, (long long)broadcast->time_ms);
	dump_text(out, broadcast->topic);
	dump_text(out, broadcast->payload);
	fputc('\n', out);
	return true;
}

static bool
dump_timer(void *context, const struct store_timer *timer)
{
	FILE *out = context;

	fprintf(out, "timer %lld %lld %lld %lld", (long long)timer->number, (long long)timer->id,
	        (long long)timer->instance, (long long)timer->due_ms);
	dump_text(out, timer->payload);
	fputc('\n', out);
	return true;
}

/* Whatever a failing read leaves out makes the text another one. */
static void
dump_status(FILE *out, enum store_status status)
{
	if (status != STORE_OK)
		fprintf(out, "failed %d\n", (int)status);
}

/* All that the store holds, owned by the caller. */
static char *
dump_store(struct store *store)
{
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);
	struct dump dump = {out, store};
	int64_t number;

	dump_status(out, store_scan(store, 0, INT64_MAX, dump_record, out));
	dump_status(out, store_scan_instances(store, dump_instance, &dump));
	dump_status(out, store_scan_sockets(store, dump_socket, out));
	dump_status(out, store_scan_joins(store, dump_join, out));
	dump_status(out, store_scan_pending(store, "", dump_broadcast, out));
	dump_status(out, store_scan_timers(store, dump_timer, out));
	dump_status(out, store_backlog(store, &number));
	if (number != 0)
		fprintf(out, "backlog %lld\n", (long long)number);
	dump_status(out, store_mark_get(store, STORE_MARK_WRITTEN, &number));
	fprintf(out, "written %lld\n", (long long)number);
	dump_status(out, store_last(store, &number));
	fprintf(out, "last %lld\n", (long long)number);
	fclose(out);
	return text;
}

#endif
