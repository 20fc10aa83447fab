#include "link_message.h"

#include <string.h>

static uint8_t *
put_number(uint8_t *out, uint64_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		out[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
	return out + size;
}

static uint8_t *
put_text(uint8_t *out, const uint8_t *text, size_t len)
{
	*out++ = (uint8_t)len;
	if (len > 0)
		memcpy(out, text, len);
	return out + len;
}

/* What is left of a message; `bad` once a field did not fit, and then for good. */
struct fields {
	const uint8_t *at;
	size_t left;
	int bad;
};

static uint64_t
take_number(struct fields *f, unsigned size)
{
	uint64_t value = 0;

	if (f->left < size) {
		f->bad = 1;
		return 0;
	}
	for (unsigned i = 0; i < size; i++)
		value = value << 8 | f->at[i];
	f->at += size;
	f->left -= size;
	return value;
}

static const uint8_t *
take_bytes(struct fields *f, size_t len)
{
	const uint8_t *bytes = f->at;

	if (f->left < len) {
		f->bad = 1;
		return NULL;
	}
	f->at += len;
	f->left -= len;
	return bytes;
}

static const uint8_t *
take_text(struct fields *f, size_t max, size_t *len)
{
	*len = (size_t)take_number(f, 1);
	if (*len > max)
		f->bad = 1;
	return take_bytes(f, *len);
}

static void
take_deliver(struct fields *f, struct link_message *m)
{
	m->batch = take_number(f, 8);
	m->opcode = (uint8_t)take_number(f, 1);
	m->target_count = (uint32_t)take_number(f, 4);
	if (m->opcode < LINK_TEXT || m->opcode > LINK_CATCH_UP_BYTES)
		f->bad = 1;
	m->targets = take_bytes(f, (size_t)m->target_count * LINK_TARGET_SIZE);
	m->body_len = f->left;
	m->body = take_bytes(f, f->left);
}

/* Returns 0 when the type is unknown. */
static int
take_fields(struct fields *f, struct link_message *m)
{
	switch (m->type) {
	case LINK_HELLO:
		m->version = (uint32_t)take_number(f, 4);
		m->tag = take_number(f, 8);
		m->deadline_ms = (uint32_t)take_number(f, 4);
		return 1;
	case LINK_HELD:
		m->handle = take_number(f, 8);
		m->kind = (uint8_t)take_number(f, 1);
		m->position = take_number(f, 8);
		m->answered = take_number(f, 8);
		m->id = take_text(f, LINK_ID_MAX, &m->id_len);
		return 1;
	case LINK_HELLO_END:
		return 1;
	case LINK_CLOSED:
		m->handle = take_number(f, 8);
		m->code = (uint16_t)take_number(f, 2);
		m->reason = take_text(f, LINK_REASON_MAX, &m->reason_len);
		m->id = take_text(f, LINK_ID_MAX, &m->id_len);
		return 1;
	case LINK_BEHIND:
	case LINK_DRAINED:
		m->handle = take_number(f, 8);
		m->position = take_number(f, 8);
		return 1;
	case LINK_ACK:
		m->batch = take_number(f, 8);
		return 1;
	case LINK_COUNTS:
		m->counts_len = (size_t)take_number(f, 1) * LINK_COUNT_SIZE;
		m->counts = take_bytes(f, m->counts_len);
		return 1;
	case LINK_DELIVER:
		take_deliver(f, m);
		return 1;
	case LINK_CLOSE:
		m->batch = take_number(f, 8);
		m->handle = take_number(f, 8);
		m->code = (uint16_t)take_number(f, 2);
		m->reason = take_text(f, LINK_REASON_MAX, &m->reason_len);
		return 1;
	case LINK_WAKE:
		m->batch = take_number(f, 8);
		m->handle = take_number(f, 8);
		return 1;
	}
	return 0;
}

size_t
link_wanted(const uint8_t *buf, size_t len)
{
	struct fields f = {buf, len, 0};
	uint64_t follows = take_number(&f, 4);

	return f.bad ? 0 : 4 + (size_t)follows;
}

long
link_decode(const uint8_t *buf, size_t len, struct link_message *message)
{
	size_t whole = link_wanted(buf, len);
	struct fields f;

	if (len < 4)
		return 0;
	if (whole < 5 || whole > LINK_MESSAGE_MAX)
		return -1;
	if (len < whole)
		return 0;
	memset(message, 0, sizeof *message);
	message->type = (enum link_type)buf[4];
	f = (struct fields){buf + 5, whole - 5, 0};
	if (!take_fields(&f, message) || f.bad || f.left > 0)
		return -1;
	return (long)whole;
}

struct link_target
link_target_at(const struct link_message *message, uint32_t i)
{
	struct fields f = {message->targets + (size_t)i * LINK_TARGET_SIZE, LINK_TARGET_SIZE, 0};
	struct link_target target;

	target.handle = take_number(&f, 8);
	target.after = take_number(&f, 8);
	target.cursor = take_number(&f, 8);
	return target;
}

uint64_t
link_count_at(const struct link_message *message, enum link_count which)
{
	size_t at = (size_t)which * LINK_COUNT_SIZE;
	struct fields f = {message->counts + at, LINK_COUNT_SIZE, 0};

	return at < message->counts_len ? take_number(&f, LINK_COUNT_SIZE) : 0;
}

const char *
link_count_name(enum link_count which)
{
#define LINK_COUNT_TEXT(name, text) text,
	static const char *const names[] = {LINK_COUNTS_EACH(LINK_COUNT_TEXT)};

	return names[which];
}

size_t
link_size(const struct link_message *m)
{
	switch (m->type) {
	case LINK_HELLO:
		return 5 + 4 + 8 + 4;
	case LINK_HELD:
		return 5 + 8 + 1 + 8 + 8 + 1 + m->id_len;
	case LINK_HELLO_END:
		return 5;
	case LINK_CLOSED:
		return 5 + 8 + 2 + 1 + m->reason_len + 1 + m->id_len;
	case LINK_BEHIND:
	case LINK_DRAINED:
		return 5 + 8 + 8;
	case LINK_ACK:
		return 5 + 8;
	case LINK_COUNTS:
		return 5 + 1 + m->counts_len;
	case LINK_DELIVER:
		return 5 + 8 + 1 + 4;
	case LINK_CLOSE:
		return 5 + 8 + 8 + 2 + 1 + m->reason_len;
	case LINK_WAKE:
		return 5 + 8 + 8;
	}
	return 0;
}

size_t
link_encode(uint8_t *out, const struct link_message *m)
{
	size_t size = link_size(m), behind = 0;
	uint8_t *p = out;

	if (m->type == LINK_DELIVER)
		behind = (size_t)m->target_count * LINK_TARGET_SIZE + m->body_len;
	if (size == 0)
		return 0;
	p = put_number(p, size - 4 + behind, 4);
	*p++ = (uint8_t)m->type;
	switch (m->type) {
	case LINK_HELLO:
		p = put_number(p, m->version, 4);
		p = put_number(p, m->tag, 8);
		put_number(p, m->deadline_ms, 4);
		break;
	case LINK_HELD:
		p = put_number(p, m->handle, 8);
		*p++ = m->kind;
		p = put_number(p, m->position, 8);
		p = put_number(p, m->answered, 8);
		put_text(p, m->id, m->id_len);
		break;
	case LINK_CLOSED:
		p = put_number(p, m->handle, 8);
		p = put_number(p, m->code, 2);
		p = put_text(p, m->reason, m->reason_len);
		put_text(p, m->id, m->id_len);
		break;
	case LINK_BEHIND:
	case LINK_DRAINED:
		p = put_number(p, m->handle, 8);
		put_number(p, m->position, 8);
		break;
	case LINK_ACK:
		put_number(p, m->batch, 8);
		break;
	case LINK_COUNTS:
		*p++ = (uint8_t)(m->counts_len / LINK_COUNT_SIZE);
		if (m->counts_len > 0)
			memcpy(p, m->counts, m->counts_len);
		break;
	case LINK_DELIVER:
		p = put_number(p, m->batch, 8);
		*p++ = m->opcode;
		put_number(p, m->target_count, 4);
		break;
	case LINK_CLOSE:
		p = put_number(p, m->batch, 8);
		p = put_number(p, m->handle, 8);
		p = put_number(p, m->code, 2);
		put_text(p, m->reason, m->reason_len);
		break;
	case LINK_WAKE:
		p = put_number(p, m->batch, 8);
		put_number(p, m->handle, 8);
		break;
	case LINK_HELLO_END:
		break;
	}
	return size;
}

void
link_target_write(uint8_t *out, struct link_target target)
{
	out = put_number(out, target.handle, 8);
	out = put_number(out, target.after, 8);
	put_number(out, target.cursor, 8);
}

void
link_count_write(uint8_t *out, uint64_t count)
{
	put_number(out, count, LINK_COUNT_SIZE);
}
