/*
 * Requests to the HTTP API: read, or refused by an answer whose head is well-formed and whose body is JSON.
 *
 * Input: bytes for the method and what else is there, then texts with their length before them: what stands behind
 * /channels/, query, Origin, token, Idempotency-Key, Last-Event-ID; then the body.
 */
#include <ctype.h>

#include "../../channel/memory.h"
#include "../../fcgi/api.h"
#include "fuzz.h"
#include "json.h"

enum { URI, QUERY, ORIGIN, TOKEN, KEY, LAST, TEXTS };

enum { SIGNED = 1, STREAM = 2, TYPE = 4, OTHER_TYPE = 8, MATCH = 16, KNOWN = 32 };

struct request {
	const char *method;
	uint8_t has;
	char *texts[TEXTS];
};

static const char *
param(void *context, const char *name)
{
	const struct request *request = context;
	static const char *const names[TEXTS] = {"REQUEST_URI",          "QUERY_STRING",
	                                         "HTTP_ORIGIN",          "HTTP_SEANCE_TOKEN",
	                                         "HTTP_IDEMPOTENCY_KEY", "HTTP_LAST_EVENT_ID"};

	for (int i = 0; i < TEXTS; i++)
		if (strcmp(name, names[i]) == 0)
			return i <= QUERY || *request->texts[i] ? request->texts[i] : NULL;
	if (strcmp(name, "REQUEST_METHOD") == 0)
		return request->method;
	if (strcmp(name, "HTTP_HOST") == 0)
		return "a.example";
	if (strcmp(name, "HTTP_ACCEPT") == 0)
		return request->has & STREAM ? "text/event-stream" : NULL;
	if (strcmp(name, "CONTENT_TYPE") == 0)
		return request->has & TYPE         ? "application/json"
		       : request->has & OTHER_TYPE ? "text/plain"
		                                   : NULL;
	if (strcmp(name, "HTTP_IF_MATCH") == 0)
		return request->has & MATCH ? "\"1-1\"" : NULL;
	return NULL;
}

/* Of a header nothing but its line. */
static const char *
check_line(const char *line)
{
	size_t name = 0;

	while (isalpha((unsigned char)line[name]) || line[name] == '-')
		name++;
	must(name > 0 && line[name] == ':' && line[name + 1] == ' ');
	line += strcspn(line, "\r\n");
	must(line[0] == '\r' && line[1] == '\n');
	return line + 2;
}

static void
check_answer(const char *out)
{
	json_object *body = NULL;

	must(strncmp(out, "Status: ", 8) == 0);
	while (*out != '\r')
		out = check_line(out);
	must(out[1] == '\n');
	out += 2;
	must(*out == '\0' || json_parse(out, strlen(out), &body, NULL));
	json_object_put(body);
}

static void
check_visit(const struct visit *visit, const char *topic)
{
	must(*topic != '\0' && json_is_utf8(topic, strlen(topic)));
	must(!visit->event ||
	     (*visit->event && json_is_utf8(visit->event, strlen(visit->event)) && visit->body));
	must(!visit->joins || (visit->body && !visit->socket));
	must(!visit->streams || (!visit->event && !visit->socket));
	must(!visit->has_since || (visit->since_epoch >= 0 && visit->since_revision >= 0));
	for (int i = 0; i < VISIT_KEYS; i++)
		must(!visit->keys[i].text || visit->event);
}

static char *
text_of(struct fuzz_bytes *in, const char *before)
{
	struct fuzz_bytes bytes = fuzz_text(in);
	struct buffer text = {0};

	buffer_add_text(&text, before);
	for (size_t i = 0; i < bytes.left; i++) /* nginx lets no control character into a header or a path */
		buffer_add_char(&text, bytes.at[i] < 0x20 || bytes.at[i] == 0x7f ? '_' : (char)bytes.at[i]);
	return buffer_text(&text);
}

FUZZ_TARGET(api)
{
	static const char *const methods[] = {"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT"};
	static const struct token_key token_key;
	struct fuzz_bytes in = {data, size};
	struct request request = {methods[fuzz_byte(&in) % 6], fuzz_byte(&in), {0}};
	struct buffer out = {0};
	char *topic = NULL;

	for (int i = 0; i < TEXTS; i++)
		request.texts[i] = text_of(&in, i == URI ? "/channels/" : "");
	if (request.has & SIGNED) {
		char *token = token_sign(&token_key, "join", request.texts[TOKEN], INT32_MAX);
		free(request.texts[TOKEN]);
		request.texts[TOKEN] = token ? token : memory_strdup("");
	}
	const struct api_request api = {.param = param,
	                                .context = &request,
	                                .body = (const char *)in.at,
	                                .len = in.left,
	                                .origins = "//b.example //*.c.example",
	                                .key = &token_key};
	struct visit *visit = api_read(&api, &topic, &out);
	if (visit)
		check_visit(visit, topic);
	else
		check_answer(buffer_text(&out));
	visit_free(visit);
	free(topic);
	buffer_release(&out);
	for (int i = 0; i < TEXTS; i++)
		free(request.texts[i]);
}
