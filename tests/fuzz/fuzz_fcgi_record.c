/*
 * A FastCGI answer: records in pieces mean what they mean in one.
 *
 * Input: two bytes for the limit, four for the cuts, then the answer.
 */
#include "../../nginx/module/fcgi_record.h"
#include "fuzz.h"

/* Reads all of it in pieces, or in one when cuts is NULL.  The last piece is left to the caller (free). */
static enum fcgi_progress
read_answer(struct fcgi_answer *answer, const uint8_t *data, size_t size, uint32_t *cuts,
            uint8_t **piece)
{
	enum fcgi_progress progress = FCGI_MORE;
	*piece = NULL;
	for (size_t at = 0; at < size && (progress == FCGI_MORE || progress == FCGI_DONE);) {
		size_t len = cuts != NULL ? fuzz_piece(cuts, size - at) : size;

		free(*piece);
		*piece = fuzz_copy(data + at, len);
		progress = fcgi_answer_read(answer, *piece, len);
		must(answer->len <= answer->limit && answer->memory_size <= 2 * (at + len));
		at += len;
	}
	return progress;
}

static void
check_head(const struct fcgi_answer *answer)
{
	uint8_t *text = fuzz_copy(answer->data, answer->len);
	size_t head = fcgi_cgi_head(text, answer->len), len;
	const uint8_t *value;
	must(head <= answer->len && (head == 0 || text[head - 1] == '\n'));
	if (fcgi_cgi_find(text, answer->len, "Status", &value, &len))
		must(value >= text + 7 && value + len <= text + answer->len);
	free(text);
}

static void
read_both_ways(const uint8_t *data, size_t size, size_t limit, uint32_t cuts)
{
	struct fcgi_answer whole, pieces;
	uint8_t *all, *last;
	fcgi_answer_init(&whole, limit);
	fcgi_answer_init(&pieces, limit);
	enum fcgi_progress progress = read_answer(&whole, data, size, NULL, &all);
	must(read_answer(&pieces, data, size, &cuts, &last) == progress);
	if (progress == FCGI_MORE || progress == FCGI_DONE) {
		must(whole.len == pieces.len && whole.errors_len == pieces.errors_len);
		must(whole.len == 0 || memcmp(whole.data, pieces.data, whole.len) == 0);
		must(memcmp(whole.errors, pieces.errors, whole.errors_len) == 0);
		must(whole.protocol_status == pieces.protocol_status);
		check_head(&whole);
	}
	fcgi_answer_release(&whole);
	fcgi_answer_release(&pieces);
	free(all);
	free(last);
}

FUZZ_TARGET(fcgi_record)
{
	struct fuzz_bytes in = {data, size};
	size_t limit = (size_t)fuzz_number(&in, 2);
	uint32_t cuts = (uint32_t)fuzz_number(&in, 4);
	read_both_ways(in.at, in.left, limit, cuts);
}
