/*
 * module - what the nginx-side files share: a location's settings and the worker's keeper
 *
 * Files: socket (what is held), handshake, stream and wait (its kinds), order and out (what is written to it),
 * message and answer (requests to the program), pool (FastCGI connections and jobs), link (the stream to the
 * program), table (handles).
 */
#ifndef SEANCE_MODULE_H
#define SEANCE_MODULE_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <sys/un.h>

struct seance_link;
struct seance_pool;

/* A location's settings. */
struct seance_conf {
	struct seance_link *link; /* NULL: the location holds nothing */
	struct seance_pool *pool;
	ngx_uint_t connections;
	ngx_flag_t keep_conn; /* FastCGI connections are used again */
	ngx_uint_t sockets;   /* that the worker holds at most; 0: as many as it can */
	size_t message_size;  /* bytes of one message of a client */
	size_t queue;         /* bytes of requests that wait behind the one in flight */
	size_t buffer;        /* bytes that wait outwards: past it the socket is behind */
	size_t buffer_limit;  /* ... and past this it is closed */
	ngx_uint_t held_back; /* units of the link that wait for what precedes them */
	ngx_msec_t idle_timeout, deadline, close_timeout;
	ngx_msec_t ping;     /* a stream that was sent nothing gets a comment */
	ngx_array_t *params; /* of struct seance_param; NULL when none */
};

struct seance_param {
	ngx_str_t name;
	ngx_http_complex_value_t value;
};

/*
 * seance_keep, seance_unkeep - count what an exiting worker must not lose
 *
 * A worker that was told to go exits as soon as no timer is left but cancelable ones; while
 * the count is not 0, the keeper is such a timer.
 */
void seance_keep(void);
void seance_unkeep(void);

/* seance_back_off - the delay after a delay: from min, doubled up to max */
ngx_msec_t seance_back_off(ngx_msec_t delay, ngx_msec_t min, ngx_msec_t max);

/* seance_count_connections - those to the program that serves what a link is for; busy: with a message */
void seance_count_connections(const struct seance_link *link, uint64_t *all, uint64_t *busy);

/* seance_worker_tag - the worker's random number, drawn when it starts */
uint64_t seance_worker_tag(void);

/* seance_address - "unix:/path" as an address; returns an error text or NULL */
char *seance_address(ngx_str_t *value, struct sockaddr_un *address, ngx_str_t *name);

/*
 * seance_connect - connects to a unix socket without a log line of nginx's own
 *
 * Failures repeat until the program is back: the caller says so once.
 *
 * Returns   the connection, without handlers, logging to the cycle's log; NULL.
 */
ngx_connection_t *seance_connect(struct sockaddr_un *address, ngx_str_t *name);

extern ngx_module_t ngx_http_seance_module;

#endif
