/*
 * out - encoded frames, shared by reference count, and what waits to be written to a client
 */
#ifndef SEANCE_OUT_H
#define SEANCE_OUT_H

#include <ngx_config.h>
#include <ngx_core.h>

/* Bytes as they go to clients.  Not changed once it is shared. */
struct seance_frame {
	ngx_uint_t refs;
	size_t len;
	uint32_t messages;     /* data messages in it */
	uint16_t close_code;   /* of the CLOSE that it ends with; 0 when none */
	unsigned catch_up : 1; /* in place of several units: fits a socket just at its `after` */
	unsigned bytes : 1;    /* for streams; else WebSocket frames */
	u_char data[];
};

/* seance_frame_new - room for size bytes, one reference, owned by the caller; NULL without memory */
struct seance_frame *seance_frame_new(size_t size);

/* seance_frame_unref - gives one reference back; NULL is accepted */
void seance_frame_unref(struct seance_frame *frame);

/* seance_frame_message - one data message as a frame; NULL without memory */
struct seance_frame *seance_frame_message(ngx_uint_t opcode, const u_char *data, size_t len);

/* seance_frame_bytes - bytes for streams; NULL without memory */
struct seance_frame *seance_frame_bytes(const u_char *data, size_t len);

struct seance_out_item;

/* What waits to be written to one client.  All zero is empty. */
struct seance_out {
	struct seance_out_item *first, *last;
	size_t bytes;
};

/*
 * seance_out_write - writes bytes of a frame, or queues what the connection does not take now
 *
 * Only c->send is used, and repeated with the same pointer and length (TLS needs that).
 *
 * c         NULL: only queue.
 * frame     Borrowed; a reference is taken for what waits.
 * Returns   NGX_OK; NGX_ERROR when the connection is broken; NGX_ABORT without memory.
 */
ngx_int_t seance_out_write(struct seance_out *out, ngx_connection_t *c, struct seance_frame *frame,
                           size_t from, size_t to);

/* seance_out_flush - writes what waits, as far as the connection takes it; NGX_OK or NGX_ERROR */
ngx_int_t seance_out_flush(struct seance_out *out, ngx_connection_t *c);

/*
 * seance_out_take - takes what waits first, of which there is some
 *
 * Returns   its frame; the reference is the caller's now.  from, to: what of it waits.
 */
struct seance_frame *seance_out_take(struct seance_out *out, size_t *from, size_t *to);

/* seance_out_cut - drops what waits but the item whose writing may have begun */
void seance_out_cut(struct seance_out *out);

/* seance_out_clear - drops all that waits */
void seance_out_clear(struct seance_out *out);

/* A growing array of bytes with a ceiling.  All zero is empty. */
struct seance_bytes {
	u_char *data;
	size_t len, size;
};

/* seance_bytes_room - makes room for more bytes behind data + len; NULL without memory or past max */
u_char *seance_bytes_room(struct seance_bytes *bytes, size_t more, size_t max);

/* seance_bytes_skip - drops the first n bytes; gives large memory back when nothing is left */
void seance_bytes_skip(struct seance_bytes *bytes, size_t n);

/* seance_bytes_free - drops all and gives the memory back */
void seance_bytes_free(struct seance_bytes *bytes);

/*
 * seance_quiet_write - takes a connection off EPOLLOUT when nothing waits to be written
 *
 * A unix socket raises it each time the peer reads: a wake-up for nothing.  NGX_OK or NGX_ERROR.
 */
ngx_int_t seance_quiet_write(ngx_connection_t *c);

#endif
