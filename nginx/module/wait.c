#include "wait.h"
#include "head.h"
#include "socket.h"

#define SECONDS_MAX 3600

/* Of the request's memory. */
struct seance_wait {
	ngx_str_t again;        /* the path */
	unsigned end_again : 1; /* it is asked again at the end, too */
	unsigned woken : 1;
	unsigned over : 1; /* its time is */
};

/* What is left of the time, counted from the request's beginning. */
static ngx_msec_t
left(const ngx_http_request_t *r, ngx_uint_t seconds)
{
	ngx_time_t *now = ngx_timeofday();
	ngx_msec_int_t passed = (ngx_msec_int_t)((now->sec - r->start_sec) * 1000) +
	                        (ngx_msec_int_t)now->msec - (ngx_msec_int_t)r->start_msec;
	ngx_msec_int_t rest = (ngx_msec_int_t)seconds * 1000 - ngx_max(passed, 0);

	return rest > 0 ? (ngx_msec_t)rest : 1;
}

void
seance_wait_wake(struct seance_socket *s)
{
	if (s->state == SEANCE_GONE)
		return;
	s->wait->woken = 1;
	seance_socket_gone(s);
}

static void
on_read(ngx_http_request_t *r)
{
	struct seance_socket *s = seance_socket_of(r);
	ngx_event_t *rev = r->connection->read;

	if (s == NULL || s->state == SEANCE_GONE)
		return;
	if (rev->timedout) {
		rev->timedout = 0;
		s->wait->over = 1;
		seance_socket_gone(s);
	} else {
		ngx_http_test_reading(r);
	}
}

/* Under HTTP/2 it may be here that a client shows to have gone. */
static void
on_write(ngx_http_request_t *r)
{
	struct seance_socket *s = seance_socket_of(r);

	if (s != NULL && r->connection->error)
		seance_socket_gone(s);
}

static struct seance_wait *
wait_new(ngx_http_request_t *r)
{
	struct seance_wait *wait = ngx_pcalloc(r->pool, sizeof *wait);
	ngx_str_t end;

	if (wait == NULL || ngx_http_arg(r, (u_char *)"again", 5, &wait->again) != NGX_OK ||
	    wait->again.len == 0 || wait->again.data[0] != '/')
		return NULL;
	wait->end_again = ngx_http_arg(r, (u_char *)"end", 3, &end) == NGX_OK && end.len == 5 &&
	                  ngx_strncmp(end.data, "again", 5) == 0;
	return wait;
}

ngx_int_t
seance_wait_start(ngx_http_request_t *r, struct seance_conf *conf, ngx_str_t *name)
{
	struct seance_wait *wait = wait_new(r);
	struct seance_socket *s;
	ngx_uint_t seconds;

	if (wait == NULL) {
		ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "seance: no path to ask again in \"%V\"",
		              &r->args);
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	}
	seconds = ngx_min(seance_number_arg(r, "seconds"), SECONDS_MAX);
	s = seance_socket_add(r, conf, name, LINK_WAIT);
	if (s == NULL)
		return NGX_HTTP_SERVICE_UNAVAILABLE;
	s->wait = wait;
	s->position = seance_number_arg(r, "after");
	r->read_event_handler = on_read;
	r->write_event_handler = on_write;
	ngx_add_timer(r->connection->read, left(r, seconds));
	seance_socket_held(s);
	return NGX_OK;
}

/* The request as it came, but for its $uri: what asks for $request_uri sees no difference. */
static void
ask_again(ngx_http_request_t *r, struct seance_wait *wait)
{
	u_char *end = r->unparsed_uri.data + r->unparsed_uri.len;
	u_char *mark = ngx_strlchr(r->unparsed_uri.data, end, '?');
	ngx_str_t args = ngx_null_string;

	if (mark != NULL) {
		args.data = mark + 1;
		args.len = end - mark - 1;
	}
	ngx_http_clean_header(r);
	r->uri_changes = NGX_HTTP_MAX_URI_CHANGES + 1; /* it is no loop: each time somebody woke it */
	(void)ngx_http_internal_redirect(r, &wait->again, &args);
	ngx_http_finalize_request(r, NGX_DONE);
}

static void
answer_nothing(ngx_http_request_t *r)
{
	seance_head_clear(r);
	r->headers_out.status = NGX_HTTP_NO_CONTENT;
	r->header_only = 1;
	ngx_http_finalize_request(r, seance_head_copy(r) == NGX_OK ? ngx_http_send_header(r) : NGX_ERROR);
}

void
seance_wait_leave(struct seance_socket *s, ngx_http_request_t *r)
{
	if (s->wait->woken || (s->wait->over && s->wait->end_again))
		ask_again(r, s->wait);
	else if (s->wait->over)
		answer_nothing(r);
	else
		ngx_http_finalize_request(r, NGX_HTTP_CLOSE);
}
