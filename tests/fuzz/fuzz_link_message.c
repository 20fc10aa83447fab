/*
 * The link's messages: what is read is written again byte by byte, a prefix asks for more.
 *
 * Input: any number of messages.
 */
#include "../../nginx/module/link_message.h"
#include "fuzz.h"

static void
check_prefix(const uint8_t *data, size_t size, long used)
{
	uint8_t *copy = fuzz_copy(data, size);
	struct link_message message;
	long got = link_decode(copy, size, &message);

	if (used > 0)
		must(got == (size < (size_t)used ? 0 : used));
	else
		must(got == 0 || got == used);
	free(copy);
}

static void
write_again(const uint8_t *data, long used, const struct link_message *message)
{
	size_t size = link_size(message), targets = 0;
	uint8_t *out = malloc((size_t)used), *at = out + size;

	if (message->type == LINK_DELIVER)
		targets = message->target_count * (size_t)LINK_TARGET_SIZE;
	must(size + targets + message->body_len == (size_t)used);
	must(link_encode(out, message) == size);
	for (uint32_t i = 0; i < message->target_count; i++, at += LINK_TARGET_SIZE)
		link_target_write(at, link_target_at(message, i));
	if (message->body_len > 0)
		memcpy(at, message->body, message->body_len);
	must(memcmp(out, data, (size_t)used) == 0);
	free(out);
}

FUZZ_TARGET(link_message)
{
	struct link_message message;
	long used;

	do {
		used = link_decode(data, size, &message);
		for (size_t n = 0; n <= size && n < 8; n++)
			check_prefix(data, n, used);
		if (used > 0) {
			must((size_t)used <= size && (size_t)used == link_wanted(data, size));
			check_prefix(data, (size_t)used - 1, used);
			write_again(data, used, &message);
			data += used;
			size -= (size_t)used;
		}
	} while (used > 0 && size > 0);
}
