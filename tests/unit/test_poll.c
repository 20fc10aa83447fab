/*
 * test_poll - sockets that ask for what they lack: what their answers hold when some are lost, requests come again,
 * the log cannot be read and the program is killed
 */
#include "engine_bench.h"

#include "visit.h"

/* --- one that asks --- */

struct asker {
	char token[64];
	int64_t position; /* as its token says */
	struct client client;
	int sent;
};

struct question {
	enum message_outcome outcome;
	int64_t cursor;
	struct buffer frames; /* websocket_events */
	int count;
};

/* A frame on its way; what answers it and has no row is to get one. */
struct sending {
	enum message_outcome outcome;
	struct buffer reply;
};

static struct asker
asker_open(struct bench *b)
{
	struct engine_client client = {.address = "127.0.0.1"};
	struct socket *socket = NULL;
	if (engine_connect(b->engine, &client, &socket) != CONNECT_OK)
		abort();
	bench_commit(b);
	struct asker asker = {.position = engine_newest(b->engine)};
	snprintf(asker.token, sizeof(asker.token), "%s", socket->row.token);
	asker.client.frames = json_object_new_array();
	engine_release(socket);
	return asker;
}

static void
asker_release(struct asker *asker)
{
	if (asker->client.trouble)
		printf("# %s: %s\n", asker->client.trouble, asker->client.trouble_frame);
	ok(!asker->client.trouble, "  (the client had no trouble)");
	for (int i = 0; i < asker->client.join_count; i++) {
		json_object_put(asker->client.joins[i].state);
		json_object_put(asker->client.joins[i].pushed);
	}
	json_object_put(asker->client.frames);
}

/* As fcgi/deliver.c for those that ask. */
static void
turn(struct bench *b)
{
	struct commit_result result;
	engine_commit(b->engine, &result);
	for (struct message *m = result.answered; m; m = m->next)
		if (m->kind == MESSAGE_POLL && m->outcome == OUTCOME_COMMITTED)
			m->socket->answer = m->request;
	for (size_t i = 0; i < result.delivery_count; i++) {
		const struct delivery *delivery = &result.deliveries[i];
		struct question *question = delivery->socket->answer;
		if (question) {
			const struct store_socket *socket = &delivery->socket->row;
			const struct phoenix_client to = {.own = delivery->record->row.socket == socket->id,
			                                  .wants = delivery->wants};
			question->count += phoenix_commit(&question->frames, &to, delivery->record);
		} else if (!delivery->socket->ended) {
			engine_undelivered(b->engine, delivery);
		}
	}
	for (struct message *m = result.answered; m; m = m->next) {
		if (m->kind == MESSAGE_POLL) {
			struct question *question = m->request;
			question->outcome = m->outcome;
			question->cursor = m->cursor;
			m->socket->answer = NULL;
		} else {
			struct sending *sending = m->request;
			sending->outcome = m->outcome;
			if (m->outcome == OUTCOME_FAILED)
				continue;
			buffer_add(&sending->reply, m->reply.at, m->reply.len);
			phoenix_outcome(&sending->reply, 0, m);
		}
	}
	commit_result_release(&result);
}

/* false: its socket has gone */
static bool
question_begin(struct bench *b, const struct asker *asker, struct question *question)
{
	struct socket *socket = engine_find(b->engine, asker->token);
	*question = (struct question){0};
	if (socket)
		engine_poll(b->engine, socket, asker->position, question);
	return socket != NULL;
}

/* Its answer comes to the client. */
static void
question_end(struct asker *asker, struct question *question)
{
	struct gateway g = {.client = asker->client};
	if (question->outcome == OUTCOME_COMMITTED || question->outcome == OUTCOME_NOTHING) {
		gateway_write(&g, question->frames.at, question->frames.len);
		asker->client = g.client;
		asker->position = question->cursor;
	}
	buffer_release(&question->frames);
}

/* How many frames it was told; -1: it could not be. */
static int
ask(struct bench *b, struct asker *asker)
{
	struct question question;
	if (!question_begin(b, asker, &question))
		return -1;
	turn(b);
	question_end(asker, &question);
	return question.outcome == OUTCOME_COMMITTED ? question.count : -1;
}

/* --- what it sends, as fcgi/long_poll.c does --- */

static void
note_join(struct asker *asker, const char *frame)
{
	json_object *json = json_read(frame);
	if (strcmp(json_object_get_string(json_object_array_get_idx(json, 3)), "phx_join") == 0) {
		struct client_join *join =
			client_find(&asker->client, json_object_get_string(json_object_array_get_idx(json, 2)));
		snprintf(join->join_ref, sizeof(join->join_ref), "%s",
		         json_text(json_object_array_get_idx(json, 0), NULL));
		join->wanted = true;
	}
	json_object_put(json);
}

static struct message *
message_of(struct bench *b, const struct asker *asker, const char *mark, struct sending *sending)
{
	struct message *message = message_new(engine_find(b->engine, asker->token));
	message->visit = visit_marked(mark);
	message->request = sending;
	return message;
}

static void
begin(struct bench *b, const struct asker *asker, const char *frame, const char *mark,
      struct sending *sending)
{
	struct message *message = message_of(b, asker, mark, sending);
	const char *why;
	*sending = (struct sending){0};
	if (!phoenix_parse(0, false, frame, strlen(frame), message, &message->reply, &why))
		abort();
	engine_take(b->engine, message);
}

static void
begin_answer(struct bench *b, const struct asker *asker, const char *mark, struct sending *sending)
{
	struct message *message = message_of(b, asker, mark, sending);
	json_object *frames = json_object_new_array();
	char *line_end;
	size_t len = strtoul(sending->reply.at + 5, &line_end, 16);
	json_object_array_add(frames, json_object_new_string_len(line_end + 2, (int)len));
	message->kind = MESSAGE_ANSWER;
	message->payload = frames;
	buffer_release(&sending->reply);
	*sending = (struct sending){0};
	engine_take(b->engine, message);
}

/* Another process adds to a topic, by a request as clients without a socket send. */
static void
other_adds(struct bench *b, const char *topic, int id)
{
	struct bench other = {.limits = world_limits()};
	struct commit_result result;
	char body[32];
	snprintf(other.path, sizeof(other.path), "%s", b->path);
	char *error = NULL;
	struct store *store = store_open_sqlite(other.path, STORE_NORMALLY, &error);
	other.engine = engine_open(store, &other.limits, &world_hooks, NULL, world_channels);
	engine_lock(other.engine);
	if (!engine_restore_guest(other.engine))
		abort();
	struct visit *visit = visit_marked(NULL);
	snprintf(body, sizeof(body), "{\"id\":%d}", id);
	visit->event = memory_strdup("add");
	visit->params = json_object_new_object();
	visit->body = json_read(body);
	engine_visit(other.engine, visit, topic, NULL);
	engine_commit(other.engine, &result);
	if (result.answered->outcome != OUTCOME_COMMITTED)
		abort();
	commit_result_release(&result);
	engine_unlock(other.engine);
	engine_close(other.engine);
}

/* Sent and dealt with; false: it failed.  meanwhile: where another process adds before the commit; NULL: nowhere. */
static bool
post_meanwhile(struct bench *b, struct asker *asker, const char *frame, const char *mark,
               const char *meanwhile, int id)
{
	struct sending sending;
	begin(b, asker, frame, mark, &sending);
	if (meanwhile)
		other_adds(b, meanwhile, id);
	turn(b);
	if (sending.reply.len > 0) {
		begin_answer(b, asker, mark, &sending);
		turn(b);
	}
	buffer_release(&sending.reply);
	return sending.outcome != OUTCOME_FAILED;
}

static bool
post(struct bench *b, struct asker *asker, const char *frame, const char *mark)
{
	return post_meanwhile(b, asker, frame, mark, NULL, 0);
}

static bool
say(struct bench *b, struct asker *asker, const char *frame)
{
	char mark[32];
	snprintf(mark, sizeof(mark), "%.6s %d", asker->token, ++asker->sent);
	note_join(asker, frame);
	return post(b, asker, frame, mark);
}

static int
told(const struct asker *asker, const char *event)
{
	int count = 0;
	for (size_t i = 0; i < json_object_array_length(asker->client.frames); i++) {
		json_object *frame = json_object_array_get_idx(asker->client.frames, i);
		count += strcmp(json_object_get_string(json_object_array_get_idx(frame, 3)), event) == 0;
	}
	return count;
}

#define JOIN(topic)    "[\"1\",\"1\",\"" topic "\",\"phx_join\",{}]"
#define ADD(topic, id) "[\"1\",\"2\",\"" topic "\",\"seance:event:add\",{\"id\":" #id "}]"
#define REFUSE         "[\"1\",\"3\",\"shared:a\",\"seance:event:refuse\",{}]"

/* --- tests --- */

/* A newer question with the same token: the older one has been told nothing, and says so. */
static void
test_two_questions(void)
{
	struct bench b;
	struct question older, newer;
	bench_open(&b, false);
	struct asker asker = asker_open(&b), other = asker_open(&b);
	say(&b, &asker, JOIN("shared:a"));
	say(&b, &other, JOIN("shared:a"));
	ok(ask(&b, &asker) == 2, "the join's reply and its state");
	int64_t position = asker.position;
	say(&b, &other, ADD("shared:a", 1));
	question_begin(&b, &asker, &older);
	question_begin(&b, &asker, &newer);
	turn(&b);
	ok(newer.outcome == OUTCOME_COMMITTED && newer.count == 1, "the newer question is told");
	ok(older.outcome == OUTCOME_NOTHING && older.count == 0 && older.cursor == position,
	   "the older one is told nothing, and goes on from where it was");
	buffer_release(&newer.frames);
	question_end(&asker, &older);
	ok(ask(&b, &asker) == 1 && client_find(&asker.client, "shared:a")->version == 1,
	   "whoever goes on with its answer is told what the newer one was");
	asker_release(&asker);
	asker_release(&other);
	bench_close(&b);
}

static void
test_lost_answers(bool file)
{
	struct bench b;
	struct question lost;
	bench_open(&b, file);
	struct asker asker = asker_open(&b);
	say(&b, &asker, JOIN("shared:a"));
	for (int i = 0; i < 6; i++) {
		say(&b, &asker, i % 3 ? ADD("shared:a", 1) : REFUSE);
		say(&b, &asker, "[null,\"4\",\"phoenix\",\"heartbeat\",{}]");
		question_begin(&b, &asker, &lost);
		turn(&b);
		buffer_release(&lost.frames);
		ok(lost.count == 2 + 2 * (i == 0), "told");
		if (file && i % 2)
			bench_restart(&b, i % 4 == 1);
		question_begin(&b, &asker, &lost);
		turn(&b);
		buffer_release(&lost.frames);
		ok(lost.count == 2 + 2 * (i == 0), "told again, since the answer was lost");
		ok(ask(&b, &asker) == 2 + 2 * (i == 0) && ask(&b, &asker) == 0, "and once more, then no more");
	}
	ok(told(&asker, "phx_reply") == 1 + 2 + 6 && client_find(&asker.client, "shared:a")->version == 4,
	   "replies and patches came once");
	asker_release(&asker);
	bench_close(&b);
}

/* nginx sends a request again: what was done is not done, and not answered, twice. */
static void
test_sent_again(bool keyed)
{
	const char *add = keyed
	                      ? "[\"1\",\"2\",\"shared:a\",\"seance:event\",{\"type\":\"add\",\"payload\":{"
	                        "\"id\":1},\"key\":\"k\"}]"
	                      : ADD("shared:a", 1);
	struct bench b;
	bench_open(&b, true);
	struct asker asker = asker_open(&b);
	say(&b, &asker, JOIN("shared:a"));
	for (int i = 0; i < 3; i++) {
		post(&b, &asker, add, "frame 1 of x");
		post(&b, &asker, REFUSE, "frame 2 of x");
		post(&b, &asker, "[null,\"4\",\"phoenix\",\"heartbeat\",{}]", "frame 3 of x");
		post(&b, &asker, "[\"1\",\"5\",\"shared:a\",\"odd\",{}]", "frame 4 of x");
		bench_restart(&b, i == 1);
	}
	ok(ask(&b, &asker) == 2 + 1 + 3, "%s: each was done and answered once",
	   keyed ? "with keys" : "plain");
	ok(client_find(&asker.client, "shared:a")->version == 1, "the event, too");
	asker_release(&asker);
	bench_close(&b);
}

/* More than an answer holds: several, that follow on each other. */
static void
test_much(void)
{
	struct bench b;
	bench_open(&b, false);
	struct asker asker = asker_open(&b), other = asker_open(&b);
	say(&b, &asker, JOIN("shared:a"));
	say(&b, &other, JOIN("shared:a"));
	ask(&b, &asker);
	enum { EVENTS = 40, BYTES = 30000 };
	char *frame = memory_alloc(BYTES + 200);
	int at = snprintf(frame, 200, "[\"1\",\"2\",\"shared:a\",\"seance:event:add\",{\"id\":\"");
	memset(frame + at, 'x', BYTES);
	strcpy(frame + at + BYTES, "\"}]");
	for (int i = 0; i < EVENTS; i++)
		say(&b, &other, frame);
	free(frame);
	int answers = 0, frames = 0, largest = 0, some;
	while ((some = ask(&b, &asker)) > 0) {
		answers++;
		frames += some;
		largest = some > largest ? some : largest;
		if (answers == 2) /* one comes between */
			say(&b, &other, ADD("shared:a", 1));
	}
	ok(frames == EVENTS + 1 && answers >= 4 && largest * BYTES <= POLL_BYTES + BYTES,
	   "%d frames in %d answers of %d at most", frames, answers, largest);
	ok(client_find(&asker.client, "shared:a")->version == (EVENTS + 1) % 11, "in order");
	asker_release(&asker);
	asker_release(&other);
	bench_close(&b);
}

/* The log cannot be read for a while: the question fails, and what it was to be told is not lost. */
static void
test_unreadable(void)
{
	struct bench b;
	bench_open(&b, false);
	struct asker asker = asker_open(&b);
	say(&b, &asker, JOIN("shared:a"));
	say(&b, &asker, ADD("shared:a", 1));
	b.engine->fill_retry_ms = clock_ms() + 60000; /* as after a failure */
	ok(ask(&b, &asker) == -1 && ask(&b, &asker) == -1, "a question fails");
	say(&b, &asker, ADD("shared:a", 2));
	b.engine->fill_retry_ms = 0;
	bench_commit(&b); /* the log is read, for nobody who asks */
	say(&b, &asker, ADD("shared:a", 3));
	ok(ask(&b, &asker) == 5 && client_find(&asker.client, "shared:a")->version == 3,
	   "then it is told all");
	ok(ask(&b, &asker) == 0, "once");
	asker_release(&asker);
	bench_close(&b);
}

/* A session ends while its question is under way, and while it sends. */
static void
test_ended(void)
{
	struct bench b;
	struct question question;
	struct sending sending;
	bench_open(&b, false);
	struct asker asker = asker_open(&b);
	say(&b, &asker, JOIN("shared:a"));
	begin(&b, &asker, ADD("shared:a", 1), "mark", &sending);
	question_begin(&b, &asker, &question);
	engine_closed(b.engine, engine_find(b.engine, asker.token));
	turn(&b);
	ok(question.outcome == OUTCOME_GONE && question.count == 0, "the question is told so");
	ok(sending.outcome == OUTCOME_GONE, "and so is what it sends");
	ok(ask(&b, &asker) == -1, "it is not there any more");
	buffer_release(&question.frames);
	buffer_release(&sending.reply);
	asker_release(&asker);
	bench_close(&b);
}

/* What waits is woken by what is for it, and by nothing else. */
static void
test_waits(void)
{
	struct bench b;
	char name[WATCH_NAME_BYTES];
	bench_open(&b, false);
	struct asker asker = asker_open(&b), other = asker_open(&b);
	say(&b, &asker, JOIN("shared:a"));
	say(&b, &other, JOIN("shared:b"));
	ask(&b, &asker);
	ask(&b, &asker);
	watch_name_socket(name, asker.token);
	engine_wait(b.engine, name, asker.position, &b.link, 7);
	say(&b, &other, ADD("shared:b", 1));
	ok(b.engine->watches && ask(&b, &other) > 0, "what is others' does not wake it");
	ok(engine_newest(b.engine) > asker.position, "nor do their rows");
	b.engine->limits.grace_ms = -1;
	engine_house(b.engine, INT64_MAX, NULL, NULL);
	ok(engine_find(b.engine, asker.token) && !engine_find(b.engine, other.token),
	   "while it waits its session lives; another's is over");
	asker_release(&other);
	other = asker_open(&b);
	say(&b, &other, JOIN("shared:a"));
	ok(b.engine->watches, "a join of another is no news");
	begin(&b, &other, ADD("shared:a", 1), "mark", &(struct sending){0});
	struct commit_result result;
	engine_commit(b.engine, &result);
	ok(result.woken_count == 1 && result.woken[0].handle == 7 && !b.engine->watches,
	   "what is for it wakes it, once");
	commit_result_release(&result);
	engine_wait(b.engine, name, asker.position, &b.link, 8);
	ok(!b.engine->watches && b.engine->woken_count == 1, "who comes to wait too late is woken at once");
	asker_release(&asker);
	asker_release(&other);
	bench_close(&b);
}

/* What it may still ask for is kept; one that never asks is closed in the end. */
static void
ended(void *context, struct socket *socket)
{
	(void)socket;
	++*(int *)context;
}

/* Another's rows, of a topic that it has not joined, and all that house-keeping does meanwhile. */
static void
rows_of_others(struct bench *b, struct asker *other, int count, int *closed)
{
	for (int i = 0; i < count; i++) {
		say(b, other, ADD("shared:b", 1));
		ask(b, other);
		bench_time_passes(b);
		engine_house(b->engine, INT64_MAX, ended, closed);
		turn(b);
	}
}

static void
test_log(void)
{
	enum { ROWS = 20 };
	struct bench b;
	struct question lost;
	int closed = 0;
	bench_open(&b, false);
	struct asker asker = asker_open(&b), other = asker_open(&b);
	b.engine->limits.log_rows = ROWS;
	b.engine->limits.marks_ms = -1;
	say(&b, &asker, JOIN("shared:a"));
	say(&b, &other, JOIN("shared:a"));
	say(&b, &other, JOIN("shared:b"));
	ask(&b, &asker);
	rows_of_others(&b, &other, 3 * ROWS, &closed);
	ok(closed == 1 && !engine_find(b.engine, asker.token), "whoever does not ask for long has ended");
	asker_release(&asker);
	asker = asker_open(&b);
	say(&b, &asker, JOIN("shared:a"));
	ask(&b, &asker);
	say(&b, &other, ADD("shared:a", 1));
	question_begin(&b, &asker, &lost);
	turn(&b);
	buffer_release(&lost.frames);
	int64_t oldest = b.engine->oldest;
	rows_of_others(&b, &other, 3 * ROWS / 2, &closed);
	ok(b.engine->oldest > oldest, "the log is kept short");
	ok(ask(&b, &asker) == 1 && client_find(&asker.client, "shared:a")->version == 1,
	   "but what an answer may have lost is kept");
	ask(&b, &asker);
	rows_of_others(&b, &other, ROWS / 2, &closed);
	say(&b, &other, ADD("shared:a", 2));
	rows_of_others(&b, &other, ROWS + 5, &closed);
	ok(ask(&b, &asker) == 1 && client_find(&asker.client, "shared:a")->version == 2,
	   "and what it has not asked for yet");
	ok(closed == 1, "whoever asks goes on");
	asker_release(&asker);
	asker = asker_open(&b);
	say(&b, &asker, JOIN("shared:a"));
	rows_of_others(&b, &other, 3 * ROWS / 2, &closed);
	ok(ask(&b, &asker) == 2, "and all for one that has never asked");
	asker_release(&asker);
	asker_release(&other);
	bench_close(&b);
}

/* --- a random walk --- */

static uint64_t walk_state;

static int
below(int n)
{
	walk_state = walk_state * 6364136223846793005u + 1442695040888963407u;
	return (int)((walk_state >> 33) % (uint64_t)n);
}

enum { ASKERS = 3 };
static const char *const walk_topics[] = {"shared:a", "shared:b", "private:a"};

struct walk {
	struct bench b;
	struct asker askers[ASKERS];
	int id;              /* of the last event */
	int applied[2];      /* events of the shared topics */
	int keyed[2];        /* the id of the last one with a key, that was applied; 0: none ... */
	int64_t row[2];      /* ... and a row that is not newer than its own */
	int replied[ASKERS]; /* frames that are answered whatever the state is */
	int closed, pruned;
	int answers, losses, kills, repeats;
};

static bool
walk_joined(struct walk *walk, const struct asker *asker, const char *topic)
{
	struct socket *socket = engine_find(walk->b.engine, asker->token);
	return socket && socket_join(socket, topic);
}

static const char *
walk_join_ref(struct walk *walk, const struct asker *asker, int topic)
{
	struct socket *socket = engine_find(walk->b.engine, asker->token);
	const struct join *join = socket ? socket_join(socket, walk_topics[topic]) : NULL;
	return join ? join->join_ref : "\"none\"";
}

/* With the key of the one before it, or a new one, or none; and what it is to lead to. */
static void
walk_event(struct walk *walk, const struct asker *asker, int topic, char *frame, size_t size)
{
	bool shared = topic < 2, counts = shared && walk_joined(walk, asker, walk_topics[topic]);
	int *keyed = shared ? &walk->keyed[topic] : NULL;
	int how = below(3), id = ++walk->id;
	if (how == 0 || !shared) {
		snprintf(frame, size, "[null,\"e\",\"%s\",\"seance:event:add\",{\"id\":%d}]", walk_topics[topic],
		         id);
	} else {
		bool again = how == 1 && *keyed && walk->row[topic] >= walk->b.engine->oldest;
		id = again ? *keyed : id;
		counts = counts && !again;
		snprintf(
			frame, size,
			"[null,\"e\",\"%s\",\"seance:event\",{\"type\":\"add\",\"payload\":{\"id\":%d},\"key\":\"%d\"}]",
			walk_topics[topic], id, id);
		if (counts) {
			*keyed = id;
			walk->row[topic] = walk->b.engine->last;
		}
	}
	if (counts)
		walk->applied[topic]++;
}

static void
walk_frame(struct walk *walk, const struct asker *asker, char *frame, size_t size)
{
	int topic = below(3);
	switch (below(9)) {
	case 0:
		snprintf(frame, size, "[\"%d\",\"1\",\"%s\",\"phx_join\",{}]", asker->sent, walk_topics[topic]);
		break;
	case 1:
		snprintf(frame, size, "[%s,\"l\",\"%s\",\"phx_leave\",{}]", walk_join_ref(walk, asker, topic),
		         walk_topics[topic]);
		break;
	case 2:
		walk->replied[asker - walk->askers]++;
		snprintf(frame, size, "[null,\"h\",\"phoenix\",\"heartbeat\",{}]");
		break;
	case 3:
		walk->replied[asker - walk->askers]++;
		snprintf(frame, size, "[\"1\",\"h\",\"nobody:x\",\"seance:event:add\",{}]");
		break;
	case 4:
		snprintf(frame, size, "[null,\"e\",\"%s\",\"seance:refresh\",{}]", walk_topics[topic]);
		break;
	default:
		walk_event(walk, asker, topic, frame, size);
	}
}

static void
walk_kill(struct walk *walk)
{
	bench_restart(&walk->b, below(2));
	walk->kills++;
}

/* A request that may come several times, before and after what it leads to, to one program or another. */
static void
walk_send(struct walk *walk, struct asker *asker)
{
	char frame[200], mark[32];
	bool done = false;
	snprintf(mark, sizeof(mark), "%.6s %d", asker->token, ++asker->sent);
	walk_frame(walk, asker, frame, sizeof(frame));
	note_join(asker, frame);
	while (!done) {
		int how = below(10);
		if (how == 0)
			walk_kill(walk);
		if (how == 1)
			store_fail_at(walk->b.faulty, 1 + below(8), STORE_ERROR);
		int other = how == 3 ? below(2) : -1;
		if (other >= 0)
			walk->applied[other]++;
		done = post_meanwhile(&walk->b, asker, frame, mark, other < 0 ? NULL : walk_topics[other],
		                      other < 0 ? 0 : ++walk->id);
		store_fail_at(walk->b.faulty, 0, STORE_OK);
		if (how == 2)
			walk_kill(walk);
		if (done && below(6) == 0) {
			walk->repeats++;
			done = false;
		}
	}
}

static void
walk_ask(struct walk *walk, struct asker *asker)
{
	struct question question, newer;
	question_begin(&walk->b, asker, &question);
	bool two = below(8) == 0;
	if (two)
		question_begin(&walk->b, asker, &newer);
	turn(&walk->b);
	if (two && below(2)) {
		question_end(asker, &newer);
		buffer_release(&question.frames);
	} else {
		if (two)
			buffer_release(&newer.frames);
		if (below(3) == 0) {
			buffer_release(&question.frames);
			walk->losses++;
		} else {
			question_end(asker, &question);
		}
	}
	walk->answers++;
}

/* The log is kept short; whoever lags too far behind is closed, and another comes. */
static void
walk_house(struct walk *walk)
{
	int64_t oldest = walk->b.engine->oldest;
	walk->b.engine->limits.log_rows = 60;
	walk->b.engine->limits.marks_ms = -1;
	bench_time_passes(&walk->b);
	engine_house(walk->b.engine, INT64_MAX, ended, &walk->closed);
	turn(&walk->b);
	walk->pruned += (int)(walk->b.engine->oldest - oldest);
	for (int i = 0; i < ASKERS; i++) {
		struct asker *asker = &walk->askers[i];
		if (engine_find(walk->b.engine, asker->token))
			continue;
		asker_release(asker);
		*asker = asker_open(&walk->b);
		walk->replied[i] = 0;
	}
}

static int
walk_replies(const struct asker *asker)
{
	int replies = 0;
	for (size_t i = 0; i < json_object_array_length(asker->client.frames); i++) {
		json_object *ref =
			json_object_array_get_idx(json_object_array_get_idx(asker->client.frames, i), 1);
		replies += ref && strcmp(json_object_get_string(ref), "h") == 0;
	}
	return replies;
}

static bool
walk_agrees(struct walk *walk, struct asker *asker, const char *topic)
{
	struct socket *socket = engine_find(walk->b.engine, asker->token);
	struct join *join = socket ? socket_join(socket, topic) : NULL;
	const struct client_join *client = client_find(&asker->client, topic);
	if (!join || !client->joined)
		return !join && !client->joined;
	return instance_load(walk->b.engine, join->instance) && join->instance->version == client->version &&
	       json_equal(join->instance->edit.document, client->state);
}

static int
walk_count(struct walk *walk, const char *topic)
{
	struct instance *instance = NULL;
	const struct seance_channel *channel = &world_shared;
	if (instance_find_shared(walk->b.engine, channel, topic, &instance) != STORE_OK ||
	    !instance->row.id || !instance_load(walk->b.engine, instance))
		return 0;
	return json_object_get_int(world_get(instance->edit.document, "count"));
}

static void
walk_once(uint64_t seed, int steps)
{
	struct walk walk = {0};
	walk_state = seed;
	bench_open(&walk.b, true);
	for (int i = 0; i < ASKERS; i++)
		walk.askers[i] = asker_open(&walk.b);
	for (int i = 0; i < steps; i++) {
		struct asker *asker = &walk.askers[below(ASKERS)];
		if (below(2))
			walk_send(&walk, asker);
		else
			walk_ask(&walk, asker);
		if (below(40) == 0)
			walk_kill(&walk);
		if (below(10) == 0)
			walk_house(&walk);
	}
	bool agree = true, replied = true;
	for (int i = 0; i < ASKERS; i++) {
		struct asker *asker = &walk.askers[i];
		while (ask(&walk.b, asker) != 0)
			continue;
		for (int t = 0; t < 3; t++)
			agree = agree && walk_agrees(&walk, asker, walk_topics[t]);
		replied = replied && walk_replies(asker) == walk.replied[i];
	}
	ok(agree, "seed %d: clients and server agree", (int)seed);
	for (int t = 0; t < 2; t++)
		ok(walk_count(&walk, walk_topics[t]) == walk.applied[t], "seed %d: %d events, each applied once",
		   (int)seed, walk.applied[t]);
	ok(replied, "seed %d: each reply came once", (int)seed);
	printf("# seed %d: %d answers, %d lost, %d kills, %d sent again, %d closed, %d rows pruned\n",
	       (int)seed, walk.answers, walk.losses, walk.kills, walk.repeats, walk.closed, walk.pruned);
	for (int i = 0; i < ASKERS; i++)
		asker_release(&walk.askers[i]);
	bench_close(&walk.b);
}

int
main(int argc, char **argv)
{
	if (argc > 2) {
		walk_once(strtoull(argv[1], NULL, 10), atoi(argv[2]));
		return done();
	}
	test_two_questions();
	test_lost_answers(false);
	test_lost_answers(true);
	test_sent_again(false);
	test_sent_again(true);
	test_much();
	test_unreadable();
	test_ended();
	test_waits();
	test_log();
	for (uint64_t seed = 1; seed <= 10; seed++)
		walk_once(seed, 600);
	return done();
}
