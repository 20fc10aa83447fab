#include "pool.h"
#include "fcgi_record.h"
#include "link_message.h"
#include "out.h"

#include <ngx_event.h>

#define READ_SIZE  65536
#define ANSWER_MAX LINK_MESSAGE_MAX
#define DELAY_MIN  5
#define DELAY_MAX  50
#define WEED_MS    500

/* A FastCGI connection. */
struct seance_peer {
	ngx_queue_t queue; /* in pool->idle or pool->busy */
	struct seance_pool *pool;
	ngx_connection_t *c;
	struct seance_job *job; /* NULL: idle */
	ngx_msec_t since;       /* when it was given the job */
	size_t sent;
	struct fcgi_answer answer;
};

static u_char read_buffer[READ_SIZE];

static void pump(struct seance_pool *pool);
static void retry(ngx_event_t *ev);
static void weed(ngx_event_t *ev);

void
seance_pool_init(struct seance_pool *pool)
{
	ngx_queue_init(&pool->idle);
	ngx_queue_init(&pool->busy);
	ngx_queue_init(&pool->waiting);
	pool->dummy.fd = (ngx_socket_t)-1;
	pool->dummy.data = pool;
	pool->retry.handler = retry;
	pool->retry.data = &pool->dummy;
	pool->retry.cancelable = 1;
	pool->weed.handler = weed;
	pool->weed.data = &pool->dummy;
	pool->weed.cancelable = 1;
}

/* Attempts after a failure come from a timer only: no recursion, no spinning. */
static void
retry_later(struct seance_pool *pool)
{
	if (pool->retry.timer_set || ngx_queue_empty(&pool->waiting))
		return;
	pool->delay = seance_back_off(pool->delay, DELAY_MIN, DELAY_MAX);
	pool->retry.log = ngx_cycle->log;
	ngx_add_timer(&pool->retry, pool->delay);
}

static void
retry(ngx_event_t *ev)
{
	ngx_connection_t *dummy = ev->data;

	pump(dummy->data);
}

static void
peer_free(struct seance_peer *peer)
{
	ngx_queue_remove(&peer->queue);
	ngx_close_connection(peer->c);
	fcgi_answer_release(&peer->answer);
	peer->pool->count--;
	free(peer);
}

/* The connection is of no use any more; its job goes back to the head of the queue. */
static void
peer_fail(struct seance_peer *peer)
{
	struct seance_pool *pool = peer->pool;
	struct seance_job *job = peer->job;

	peer_free(peer);
	if (job != NULL) {
		job->peer = NULL;
		job->waiting = 1;
		ngx_queue_insert_head(&pool->waiting, &job->queue);
	}
	retry_later(pool);
}

/* What the program wrote to STDERR, in one line: some of it may be a client's. */
static void
log_errors(struct seance_pool *pool, const struct fcgi_answer *answer)
{
	u_char line[FCGI_ERRORS_MAX];
	size_t len = answer->errors_len;

	for (size_t i = 0; i < len; i++) {
		u_char c = answer->errors[i];

		line[i] = c < ' ' || c == 127 ? ' ' : c;
	}
	while (len > 0 && line[len - 1] == ' ')
		len--;
	if (len > 0)
		ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "seance: %V wrote: %*s", &pool->name, len, line);
}

/* The job is over.  The connection serves whoever waits before the job's owner may send more. */
static void
peer_done(struct seance_peer *peer)
{
	struct seance_pool *pool = peer->pool;
	struct seance_job *job = peer->job;
	struct fcgi_answer answer = peer->answer;

	fcgi_answer_init(&peer->answer, ANSWER_MAX);
	job->peer = NULL;
	peer->job = NULL;
	pool->delay = 0;
	if (!pool->keep || peer->sent < job->len) {
		peer_free(peer); /* answered before all was sent: no way to go on */
	} else {
		ngx_queue_remove(&peer->queue);
		ngx_queue_insert_head(&pool->idle, &peer->queue);
	}
	log_errors(pool, &answer);
	pump(pool);
	job->done(job, SEANCE_ANSWERED, answer.data, answer.len);
	fcgi_answer_release(&answer);
}

/* The connection and its job are over: the request will not be sent again. */
static void
peer_give_up(struct seance_peer *peer, enum seance_outcome outcome, const char *why)
{
	struct seance_pool *pool = peer->pool;
	struct seance_job *job = peer->job;

	log_errors(pool, &peer->answer);
	peer_free(peer);
	job->peer = NULL;
	job->done(job, outcome, (const u_char *)why, ngx_strlen(why));
	pump(pool);
}

/* What came is no answer; the next one would fare no better. */
static void
peer_malformed(struct seance_peer *peer, const char *why)
{
	peer_give_up(peer, SEANCE_MALFORMED, why);
}

static void
peer_ended(struct seance_peer *peer)
{
	switch (peer->answer.protocol_status) {
	case FCGI_REQUEST_COMPLETE:
		peer_done(peer);
		break;
	case FCGI_OVERLOADED:
		peer_fail(peer);
		break;
	default:
		peer_malformed(peer, "request refused by its FastCGI protocol status");
	}
}

/* Returns NGX_OK when the connection may be read further. */
static ngx_int_t
peer_take(struct seance_peer *peer, size_t len)
{
	switch (fcgi_answer_read(&peer->answer, read_buffer, len)) {
	case FCGI_MORE:
		return NGX_OK;
	case FCGI_DONE:
		peer_ended(peer);
		break;
	case FCGI_BROKEN:
		peer_malformed(peer, "not FastCGI");
		break;
	case FCGI_TOO_BIG:
		peer_malformed(peer, "too big");
		break;
	case FCGI_NO_MEMORY:
		peer_malformed(peer, "out of memory");
		break;
	}
	return NGX_DONE;
}

/* The timer is set once, and looks, when it goes off, whether it was right to. */
static void
peer_check(struct seance_peer *peer)
{
	ngx_msec_t waited = ngx_current_msec - peer->since;

	if (peer->job == NULL)
		return;
	if (waited < peer->job->patience)
		ngx_add_timer(peer->c->read, peer->job->patience - waited);
	else
		peer_give_up(peer, SEANCE_LOST, "");
}

static void
peer_read(ngx_event_t *ev)
{
	ngx_connection_t *c = ev->data;
	struct seance_peer *peer = c->data;

	if (c->close) { /* worker_shutdown_timeout */
		peer_fail(peer);
		return;
	}
	if (ev->timedout) {
		ev->timedout = 0;
		peer_check(peer);
		return;
	}
	do {
		ssize_t n = c->recv(c, read_buffer, sizeof read_buffer);

		if (n == NGX_AGAIN)
			break;
		if (n <= 0 || peer->job == NULL) { /* an idle connection has nothing to say */
			peer_fail(peer);
			return;
		}
		if (peer_take(peer, n) != NGX_OK)
			return; /* gone or busy again: look no more */
	} while (ev->ready);
	if (ngx_handle_read_event(ev, 0) != NGX_OK)
		peer_fail(peer);
}

static void
peer_write(ngx_event_t *ev)
{
	ngx_connection_t *c = ev->data;
	struct seance_peer *peer = c->data;
	struct seance_job *job = peer->job;
	ngx_int_t rc;

	while (job != NULL && peer->sent < job->len) {
		ssize_t n = c->send(c, job->data + peer->sent, job->len - peer->sent);

		if (n == NGX_AGAIN)
			break;
		if (n <= 0) {
			peer_fail(peer);
			return;
		}
		peer->sent += n;
	}
	if (job != NULL && peer->sent < job->len)
		rc = ngx_handle_write_event(ev, 0);
	else
		rc = seance_quiet_write(c);
	if (rc != NGX_OK)
		peer_fail(peer);
}

static struct seance_peer *
peer_new(struct seance_pool *pool)
{
	struct seance_peer *peer = malloc(sizeof *peer);

	if (peer == NULL)
		return NULL;
	peer->c = seance_connect(&pool->address, &pool->name);
	if (peer->c == NULL) {
		free(peer);
		return NULL;
	}
	peer->c->data = peer;
	peer->c->read->handler = peer_read;
	peer->c->write->handler = peer_write;
	peer->c->read->cancelable = 1;
	peer->pool = pool;
	peer->job = NULL;
	fcgi_answer_init(&peer->answer, ANSWER_MAX);
	ngx_queue_insert_head(&pool->idle, &peer->queue);
	pool->count++;
	return peer;
}

static void
log_state(struct seance_pool *pool, ngx_uint_t down)
{
	if (pool->down == down)
		return;
	pool->down = down;
	ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
	              down ? "seance: %V does not take connections" : "seance: %V takes connections again",
	              &pool->name);
}

/* An idle connection, or a new one; NULL when there is none now. */
static struct seance_peer *
find_peer(struct seance_pool *pool)
{
	struct seance_peer *peer;

	if (!ngx_queue_empty(&pool->idle))
		return ngx_queue_data(ngx_queue_head(&pool->idle), struct seance_peer, queue);
	if (pool->count >= pool->max)
		return NULL;
	peer = peer_new(pool);
	log_state(pool, peer == NULL);
	if (peer == NULL)
		retry_later(pool);
	return peer;
}

static void
assign(struct seance_peer *peer, struct seance_job *job)
{
	ngx_queue_remove(&peer->queue);
	ngx_queue_insert_tail(&peer->pool->busy, &peer->queue);
	peer->job = job;
	peer->sent = 0;
	peer->since = ngx_current_msec;
	job->peer = peer;
	job->attempts++;
	if (!peer->c->read->timer_set)
		ngx_add_timer(peer->c->read, job->patience);
	peer_write(peer->c->write);
}

/* A job that waits is taken out and ends unsent. */
static void
give_up(struct seance_job *job)
{
	seance_pool_withdraw(job);
	job->done(job, SEANCE_LOST, NULL, 0);
}

static void
weed_later(struct seance_pool *pool)
{
	if (pool->weed.timer_set || ngx_queue_empty(&pool->waiting))
		return;
	pool->weed.log = ngx_cycle->log;
	ngx_add_timer(&pool->weed, WEED_MS);
}

/* While no connection becomes free nobody asks whether a job that waits is wanted: so ask here. */
static void
weed(ngx_event_t *ev)
{
	ngx_connection_t *dummy = ev->data;
	struct seance_pool *pool = dummy->data;
	ngx_queue_t *q, *next;

	for (q = ngx_queue_head(&pool->waiting); q != ngx_queue_sentinel(&pool->waiting); q = next) {
		struct seance_job *job = ngx_queue_data(q, struct seance_job, queue);

		next = ngx_queue_next(q);
		if (job->prepare(job) != NGX_OK)
			give_up(job);
	}
	weed_later(pool);
}

/* Sends what waits, as far as there are connections. */
static void
pump(struct seance_pool *pool)
{
	if (pool->pumping)
		return; /* a job's owner came back: the loop below goes on */
	pool->pumping = 1;
	while (!ngx_queue_empty(&pool->waiting) && !pool->retry.timer_set) {
		ngx_queue_t *q = ngx_queue_head(&pool->waiting);
		struct seance_job *job = ngx_queue_data(q, struct seance_job, queue);
		struct seance_peer *peer;

		if (job->prepare(job) != NGX_OK) {
			give_up(job);
			continue;
		}
		peer = find_peer(pool);
		if (peer == NULL)
			break;
		ngx_queue_remove(q);
		job->waiting = 0;
		assign(peer, job);
	}
	pool->pumping = 0;
	weed_later(pool);
}

void
seance_pool_submit(struct seance_pool *pool, struct seance_job *job)
{
	job->pool = pool;
	job->peer = NULL;
	job->attempts = 0;
	job->waiting = 1;
	ngx_queue_insert_tail(&pool->waiting, &job->queue);
	pump(pool);
}

ngx_int_t
seance_pool_withdraw(struct seance_job *job)
{
	if (!job->waiting)
		return NGX_DECLINED;
	ngx_queue_remove(&job->queue);
	job->waiting = 0;
	return NGX_OK;
}

ngx_uint_t
seance_pool_busy(const struct seance_pool *pool)
{
	ngx_uint_t count = 0;

	for (ngx_queue_t *q = ngx_queue_next(&pool->busy); q != &pool->busy; q = ngx_queue_next(q))
		count++;
	return count;
}

static void
close_all(ngx_queue_t *peers)
{
	while (!ngx_queue_empty(peers)) {
		struct seance_peer *peer = ngx_queue_data(ngx_queue_head(peers), struct seance_peer, queue);
		/* peer_free takes it out of the queue: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		struct seance_job *job = peer->job;

		peer_free(peer);
		if (job != NULL) {
			job->peer = NULL;
			job->done(job, SEANCE_LOST, NULL, 0);
		}
	}
}

void
seance_pool_exit(struct seance_pool *pool)
{
	pool->max = 0;
	while (!ngx_queue_empty(&pool->waiting)) {
		ngx_queue_t *q = ngx_queue_head(&pool->waiting);

		give_up(ngx_queue_data(q, struct seance_job, queue));
	}
	close_all(&pool->busy);
	close_all(&pool->idle);
	if (pool->retry.timer_set)
		ngx_del_timer(&pool->retry);
	if (pool->weed.timer_set)
		ngx_del_timer(&pool->weed);
}
