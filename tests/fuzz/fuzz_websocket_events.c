/*
 * application/websocket-events and Seance-Order: nothing is read behind the end, a prefix of an event asks
 * for more, and what is read can be written.
 *
 * Input: any number of events; its beginning is read as a Seance-Order value, too.
 */
#include "../../nginx/module/websocket_events.h"
#include "fuzz.h"

/* What a shorter buffer gives, given what the whole one gave. */
static void
check_prefix(const uint8_t *data, size_t size, long used)
{
	uint8_t *copy = fuzz_copy(data, size);
	struct events_event event;
	long got = events_decode(copy, size, &event);

	if (used > 0)
		must(got == (size < (size_t)used ? 0 : used));
	else
		must(got == 0 || got == used);
	free(copy);
}

static void
check_prefixes(const uint8_t *data, size_t size, long used)
{
	for (size_t n = 0; n <= size && n < EVENTS_HEAD_MAX + 8; n++)
		check_prefix(data, n, used);
	for (long n = used - 3; n <= used; n++)
		if (n >= 0)
			check_prefix(data, (size_t)n, used);
}

static void
write_and_read(const struct events_event *event)
{
	uint8_t *out = malloc(EVENTS_HEAD_MAX + event->len + 2);
	struct events_event again;
	size_t at = events_head(out, event->type, event->len);

	must(at <= EVENTS_HEAD_MAX);
	if (event->len > 0)
		memcpy(out + at, event->data, event->len);
	memcpy(out + at + event->len, "\r\n", 2);
	must(events_decode(out, at + event->len + 2, &again) == (long)(at + event->len + 2));
	must(again.type == event->type && again.len == event->len);
	must(event->len == 0 || memcmp(again.data, event->data, event->len) == 0);
	if (event->data == NULL) {
		at = events_bare(out, event->type);
		must(events_decode(out, at, &again) == (long)at && again.type == event->type &&
		     again.data == NULL);
	}
	free(out);
}

static void
check_order(const uint8_t *data, size_t size)
{
	struct events_order order, again;
	long used;

	for (; (used = events_order_decode(data, size, &order)) > 0; data += used, size -= (size_t)used) {
		char out[EVENTS_ORDER_MAX];
		size_t len = events_order_write(out, &order);

		must((size_t)used <= size && order.cursor > order.after);
		must(len <= sizeof(out) && events_order_decode((uint8_t *)out, len, &again) == (long)len);
		must(again.after == order.after && again.cursor == order.cursor);
		must(again.count == order.count);
	}
}

FUZZ_TARGET(websocket_events)
{
	struct events_event event;
	long used;

	check_order(data, size);
	do {
		used = events_decode(data, size, &event);
		check_prefixes(data, size, used);
		if (used > 0) {
			must((size_t)used <= size);
			must(event.len == 0 || event.data + event.len + 2 == data + used);
			write_and_read(&event);
			data += used;
			size -= (size_t)used;
		}
	} while (used > 0 && size > 0);
}
