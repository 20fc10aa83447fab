#define _GNU_SOURCE /* vasprintf */
#include "engine_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "memory.h"
#include "random.h"

void
engine_log(struct engine *engine, const char *format, ...)
{
	va_list args;
	char *line = NULL;
	va_start(args, format);
	if (vasprintf(&line, format, args) >= 0)
		engine->hooks.log(engine->hooks.context, line);
	va_end(args);
	free(line);
}

void
numbers_add(struct numbers *numbers, int64_t number)
{
	numbers->at = memory_grow(numbers->at, numbers->count, &numbers->room, sizeof(*numbers->at));
	numbers->at[numbers->count++] = number;
}

/* --- tables: json-c's hash, with numbers for keys --- */

static unsigned long
number_hash(const void *key)
{
	return (unsigned long)((uintptr_t)key * 0x9e3779b97f4a7c15u >> 16);
}

static int
number_equal(const void *a, const void *b)
{
	return a == b;
}

struct lh_table *
table_of_numbers(void)
{
	return memory_need(lh_table_new(1024, NULL, number_hash, number_equal));
}

static void *
number_key(int64_t number)
{
	return (void *)(uintptr_t)number; /* NOLINT(performance-no-int-to-ptr): a key, never followed */
}

/*
 * json-c never makes the slot of what was deleted empty again, and a search for what is not there ends at an
 * empty slot only: after a search that found nothing, a long run without one has the table made anew.
 */
static void
tidy(struct lh_table *table, const void *key)
{
	enum { LONG_RUN = 128 };
	size_t size = (size_t)table->size, slot = lh_get_hash(table, key) % size;
	size_t freed = 0;
	for (size_t i = 0; i < LONG_RUN && i < size; i++) {
		const void *found = table->table[(slot + i) % size].k;
		if (found == LH_EMPTY)
			return;
		freed += found == LH_FREED;
	}
	if (freed >= LONG_RUN / 4 && lh_table_resize(table, table->size) != 0)
		abort();
}

static void *
find(struct lh_table *table, const void *key)
{
	void *value = NULL;
	if (lh_table_lookup_ex(table, key, &value))
		return value;
	tidy(table, key);
	return NULL;
}

void *
table_find_number(struct lh_table *table, int64_t number)
{
	return find(table, number_key(number));
}

void
table_add_number(struct lh_table *table, int64_t number, void *value)
{
	if (lh_table_insert(table, number_key(number), value) != 0)
		abort();
}

void
table_remove_number(struct lh_table *table, int64_t number)
{
	lh_table_delete(table, number_key(number));
}

void *
table_find_text(struct lh_table *table, const char *text)
{
	return find(table, text);
}

/* --- life --- */

struct engine *
engine_open(struct store *store, const struct engine_limits *limits, const struct engine_hooks *hooks,
            seance_connect_fn *on_connect, const struct seance_channel *const *channels)
{
	struct engine *engine = memory_zeroed(1, sizeof(*engine));
	pthread_mutex_init(&engine->lock, NULL);
	engine->store = store;
	engine->limits = *limits;
	engine->hooks = *hooks;
	engine->on_connect = on_connect;
	engine->channels = channels;
	engine->sockets_by_token = memory_need(lh_kchar_table_new(1024, NULL));
	engine->sockets_by_id = table_of_numbers();
	engine->sockets_by_handle = table_of_numbers();
	engine->keys = memory_need(lh_kchar_table_new(64, NULL));
	engine->watches_by_name = memory_need(lh_kchar_table_new(64, NULL));
	engine->watches_by_handle = table_of_numbers();
	engine->addresses = memory_need(lh_kchar_table_new(64, NULL));
	engine->shared_by_topic = memory_need(lh_kchar_table_new(1024, NULL));
	engine->instances_by_id = table_of_numbers();
	engine->posts_look = true;
	engine->post_after = memory_strdup("");
	return engine;
}

void
engine_lock(struct engine *engine)
{
	pthread_mutex_lock(&engine->lock);
}

void
engine_unlock(struct engine *engine)
{
	pthread_mutex_unlock(&engine->lock);
}

static bool
first_socket(void *context, const struct store_socket *row)
{
	(void)row;
	*(bool *)context = true;
	return false;
}

/* A guest that closes is alone; the log is left as it is while a socket may come back and need it. */
static enum store_status
keep_guests_house(struct engine *engine, int64_t written)
{
	int64_t until = lower(engine->last - engine->limits.log_rows, written);
	bool sockets = false;
	int deleted;
	enum store_status status = store_answers_prune(engine->store, clock_unix_ms());
	if (status == STORE_OK)
		status = store_scan_sockets(engine->store, first_socket, &sockets);
	if (status == STORE_OK && until > 0 && !sockets)
		status = store_prune(engine->store, until, PRUNE_BATCH, &deleted);
	return status;
}

static enum store_status
write_everything(struct engine *engine)
{
	bool foreign;
	enum store_status status = store_begin(engine->store, &foreign);
	if (status != STORE_OK)
		return status;
	if (foreign) { /* what is known here is not the newest */
		store_rollback(engine->store);
		return STORE_OK;
	}
	for (struct instance *i = engine->due_first; i && status == STORE_OK; i = i->due_next)
		status = instance_write(engine, i, true);
	int64_t written = instances_written(engine, engine->last);
	if (status == STORE_OK)
		status = store_mark_put(engine->store, STORE_MARK_WRITTEN, written);
	if (status == STORE_OK && engine->guest)
		status = keep_guests_house(engine, written);
	if (status == STORE_OK)
		status = store_commit(engine->store);
	if (status != STORE_OK)
		store_rollback(engine->store);
	instances_put(engine, status == STORE_OK);
	return status;
}

static void
free_all(struct engine *engine)
{
	keys_forget(engine, NOTHING_NEEDED);
	lh_table_free(engine->keys);
	watches_unlink(engine, NULL);
	while (engine->sockets)
		socket_end(engine, engine->sockets);
	joins_forget(engine, NOTHING_NEEDED);
	while (engine->instances_by_id->head)
		instance_free(engine, (struct instance *)lh_entry_v(engine->instances_by_id->head));
	while (engine->shared_by_topic->head)
		instance_free(engine, (struct instance *)lh_entry_v(engine->shared_by_topic->head));
	lh_table_free(engine->sockets_by_token);
	lh_table_free(engine->sockets_by_id);
	lh_table_free(engine->sockets_by_handle);
	free(engine->woken);
	lh_table_free(engine->watches_by_name);
	lh_table_free(engine->watches_by_handle);
	lh_table_free(engine->addresses);
	lh_table_free(engine->shared_by_topic);
	lh_table_free(engine->instances_by_id);
}

struct store *
engine_detach(struct engine *engine)
{
	struct store *store = engine->store;
	staged_drop(engine);
	free_all(engine);
	free(engine->ended_sockets.at);
	free(engine->lost_joins.at);
	free(engine->dead_instances.at);
	free(engine->blanks);
	free(engine->puts);
	free(engine->post_after);
	departures_forget(engine);
	free(engine->departures);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
	return store;
}

void
engine_close(struct engine *engine)
{
	staged_drop(engine);
	if (write_everything(engine) != STORE_OK)
		engine_log(engine, "states could not be written (%s): they will be read from the log",
		           store_message(engine->store));
	store_close(engine_detach(engine));
}

/* --- connect --- */

#define TOKEN_BYTES 16 /* 128 bits: nobody guesses another client's id */

static void
token_make(char token[TOKEN_BYTES * 2])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	unsigned char random[TOKEN_BYTES];
	random_bytes(random, sizeof(random));
	unsigned bits = 0;
	int have = 0, out = 0;
	for (int i = 0; i < TOKEN_BYTES; i++) {
		bits = bits << 8 | random[i];
		for (have += 8; have >= 6; have -= 6)
			token[out++] = digits[bits >> (have - 6) & 63];
	}
	token[out++] = digits[bits << (6 - have) & 63];
	token[out] = '\0';
}

static bool
within_limits(struct engine *engine, const struct engine_client *client)
{
	const struct address *address = table_find_text(engine->addresses, client->address);
	return engine->socket_count - engine->idle_count < engine->limits.sockets &&
	       (!address || address->sockets - address->idle < engine->limits.sockets_per_address);
}

/* The one that nobody is on, of this address if any, that would end first; NULL: it is in use, or there is none. */
static struct socket *
first_idle(struct engine *engine, const char *address)
{
	struct socket *first = NULL;
	for (struct socket *s = engine->sockets; s; s = s->next)
		if (s->until_ms && s->users == 1 && (!first || s->until_ms < first->until_ms) &&
		    (!address || strcmp(s->row.address, address) == 0) && !watch_waits_for_socket(engine, s))
			first = s;
	return first;
}

/* Sockets without a connection keep nobody out.  They have the same limits again; then the oldest go. */
static void
drop_idle(struct engine *engine, const char *text)
{
	const struct address *address = table_find_text(engine->addresses, text);
	bool of_address = address && address->idle > engine->limits.sockets_per_address;
	struct socket *socket = NULL;
	if (of_address || engine->idle_count > engine->limits.sockets)
		socket = first_idle(engine, of_address ? text : NULL);
	if (socket)
		socket_end(engine, socket);
}

/* The lock is let go while the callback runs. */
static enum seance_status
ask_connect(struct engine *engine, struct seance_call *call, const struct engine_client *client)
{
	int slot = -1;
	if (!engine->on_connect)
		return SEANCE_OK;
	engine_unlock(engine);
	bool runs = run_begin(engine, client->name ? client->name : "", 0, &slot);
	enum seance_status status = runs ? call_outcome(call, engine->on_connect(call, client->params))
	                                 : seance_crash(call, "it has killed the program before");
	run_end(engine, slot);
	engine_lock(engine);
	return status;
}

static struct socket *
stage_socket(struct engine *engine, const struct engine_client *client, struct seance_call *call)
{
	char token[TOKEN_BYTES * 2];
	token_make(token);
	struct store_socket row = {
		.token = token,
		.address = client->address,
		.format = client->format,
		.assigns = call->assigned ? json_text(call->assigns, NULL) : NULL,
		.connected_ms = clock_unix_ms(),
	};
	struct socket *socket = socket_new(engine, &row);
	socket->known = true; /* it was sent nothing, and nothing can be for it yet */
	socket->floor = NOTHING_NEEDED;
	socket_use(socket); /* by the caller */
	socket_use(socket); /* by what is staged */
	struct staged *staged = staged_add(engine);
	staged->socket = socket;
	stage_effects(staged, call);
	return socket;
}

enum engine_connect
engine_connect(struct engine *engine, const struct engine_client *client, struct socket **socket)
{
	if (!within_limits(engine, client)) {
		engine_log(engine, "connect from %s refused: too many sockets", client->address);
		return CONNECT_LIMIT;
	}
	struct seance_call call = {
		.topic = "",
		.socket_token = "",
		.header = client->header,
		.header_context = client->header_context,
	};
	enum seance_status status = ask_connect(engine, &call, client);
	bool within = within_limits(engine, client); /* others may have come meanwhile */
	if (status == SEANCE_CRASHED)
		engine_log(engine, "connect crashed: %s", call_why(&call));
	if (status == SEANCE_OK && within) {
		drop_idle(engine, client->address);
		*socket = stage_socket(engine, client, &call);
	}
	call_release(&call);
	if (status != SEANCE_OK)
		return status == SEANCE_CRASHED ? CONNECT_CRASHED : CONNECT_REFUSED;
	return within ? CONNECT_OK : CONNECT_LIMIT;
}

bool
engine_stored(const struct socket *socket)
{
	return socket->row.id != 0;
}

void
engine_keep(struct socket *socket)
{
	socket_use(socket);
}

void
engine_release(struct socket *socket)
{
	socket_unuse(socket);
}

struct socket *
engine_find(struct engine *engine, const char *token)
{
	struct socket *socket = table_find_text(engine->sockets_by_token, token);
	return socket && !socket->until_ms ? socket : NULL;
}

struct socket *
engine_find_handle(struct engine *engine, const void *link, uint64_t handle)
{
	struct socket *socket = table_find_number(engine->sockets_by_handle, (int64_t)handle);
	return socket && socket->link == link ? socket : NULL;
}

/* --- what links say --- */

bool
engine_is_ahead(const struct engine *engine, int64_t position)
{
	return position > engine->last;
}

bool
engine_held(struct engine *engine, const char *token, void *link, uint64_t handle, int64_t position)
{
	struct socket *socket = engine_find(engine, token);
	if (!socket || engine_is_ahead(engine, position))
		return false;
	socket_unlink(engine, socket);
	socket->link = link;
	socket->handle = handle;
	table_add_number(engine->sockets_by_handle, (int64_t)handle, socket);
	socket->behind = false;
	if (!socket->known || socket->last != position)
		socket_want_fill(engine, socket, position);
	return true;
}

void
engine_unlinked(struct engine *engine, void *link, int64_t floor)
{
	int64_t now = clock_ms();
	watches_unlink(engine, link);
	for (struct socket *s = engine->sockets; s; s = s->next) {
		if (s->link != link)
			continue;
		socket_unlink(engine, s);
		s->known = false;
		s->behind = false;
		s->floor = lower(s->floor, lower(floor, engine->last + 1));
		s->unlinked_ms = now;
	}
}

void
engine_closed(struct engine *engine, struct socket *socket)
{
	socket_lose(engine, socket);
}

void
engine_behind(struct engine *engine, struct socket *socket, int64_t position)
{
	(void)engine;
	socket->behind = true;
	socket->lagged = true;
	socket->known = false;
	socket->floor = lower(socket->floor, position + 1);
}

void
engine_drained(struct engine *engine, struct socket *socket, int64_t position)
{
	socket->behind = false;
	socket_want_fill(engine, socket, position);
}

void
engine_undelivered(struct engine *engine, const struct delivery *delivery)
{
	(void)engine;
	delivery->socket->known = false;
	delivery->socket->floor = lower(delivery->socket->floor, delivery->record->row.number);
}

/* --- house-keeping --- */

static void
end_unlisted(struct engine *engine, int64_t now)
{
	struct socket *next;
	for (struct socket *s = engine->sockets; s; s = next) {
		next = s->next;
		bool over = s->until_ms && s->users == 1 && (s->until_ms <= now || s->join_count == 0);
		if (over && !watch_waits_for_socket(engine, s))
			socket_end(engine, s);
		else if (!s->until_ms && !s->link && !s->running &&
		         now - s->unlinked_ms > engine->limits.grace_ms && !watch_waits_for_socket(engine, s))
			socket_lose(engine, s);
	}
}

/* The newest row that is so old that no message with a later one can be sent again; 0: not known. */
static int64_t
tail_sample(struct engine *engine, int64_t now)
{
	int64_t number = 0;
	for (int i = 0; i < TAIL_SAMPLES; i++) {
		const struct sample *sample = &engine->tail[i];
		if (sample->time_ms && now - sample->time_ms >= engine->limits.marks_ms &&
		    sample->number > number)
			number = sample->number;
	}
	engine->tail[engine->tail_next] = (struct sample){now, engine->last};
	engine->tail_next = (engine->tail_next + 1) % TAIL_SAMPLES;
	return number;
}

static int64_t
sockets_floor(const struct engine *engine)
{
	int64_t floor = NOTHING_NEEDED;
	for (const struct socket *s = engine->sockets; s; s = s->next)
		floor = lower(floor, s->floor);
	return floor;
}

/* The log can't wait for a socket that needs a row as old as this: it joins anew, and loses no event. */
static void
close_laggards(struct engine *engine, int64_t until, void (*close)(void *context, struct socket *socket),
               void *context)
{
	struct socket *next;
	for (struct socket *s = engine->sockets; s && until > 0; s = next) {
		next = s->next;
		if (s->floor > until)
			continue;
		engine_log(engine, "socket %s lags too far behind the log: closed", s->row.token);
		close(context, s);
		socket_lose(engine, s);
	}
}

void
engine_house(struct engine *engine, int64_t floor, void (*close)(void *context, struct socket *socket),
             void *context)
{
	int64_t now = clock_ms();
	end_unlisted(engine, now);
	int64_t limit = engine->last - engine->limits.log_rows;
	int64_t tail = tail_sample(engine, now);
	if (limit <= engine->oldest)
		return;
	close_laggards(engine, lower(limit - engine->limits.log_rows, tail), close, context);
	int64_t safe = lower(lower(floor, sockets_floor(engine)) - 1, tail);
	engine->prune_until = lower(limit, lower(safe - state_rows(engine), engine->written));
}

static int
until(int64_t due_ms, int64_t now)
{
	return due_ms <= now ? 0 : (int)(due_ms - now);
}

int
engine_due(struct engine *engine)
{
	int64_t now = clock_ms();
	int64_t due = NOTHING_NEEDED, house = NOTHING_NEEDED;
	if (engine->staged_count || engine->answered || engine->woken_count)
		return 0;
	due = posts_due(engine, now);
	if (engine->fills)
		due = lower(due, engine->fill_retry_ms);
	if (engine->ended_sockets.count || engine->lost_joins.count || engine->dead_instances.count)
		house = now + HOUSE_AFTER_MS;
	if (engine->blank_count)
		house = lower(house, engine->blank_count > BLANKS_MAX ? now : engine->blanks_due_ms);
	if (engine->prune_until >= engine->oldest)
		house = now;
	if (engine->due_first)
		house = lower(house, engine->due_first->due_ms);
	if (house != NOTHING_NEEDED && house < engine->retry_ms)
		house = engine->retry_ms;
	due = lower(due, house);
	return due == NOTHING_NEEDED ? -1 : until(due, now);
}
