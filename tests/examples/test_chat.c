/* test_chat - examples/chat, by the kit */
#include <stdio.h>

#include "seance_test.h"

#include "../../examples/chat/chat.c" /* NOLINT(bugprone-suspicious-include) */

#define LOBBY "chat:lobby"

static size_t
lines_of(struct seance_test_client *client)
{
	return json_object_array_length(json_object_object_get(seance_test_state(client, LOBBY), "lines"));
}

static void
test_names(struct seance_test *test)
{
	struct seance_test_client *nobody = seance_test_connect(test, NULL);

	seance_test_join(nobody, LOBBY, "{}");
	SEANCE_EXPECT_REFUSED(nobody, LOBBY, "{\"reason\":\"a name, please, of at most 40 bytes\"}");
	seance_test_join(nobody, LOBBY, "{\"name\":\"  \"}");
	SEANCE_EXPECT_REFUSED(nobody, LOBBY, "{\"reason\":\"a name, please, of at most 40 bytes\"}");
}

static void
test_lines(struct seance_test_client *ann, struct seance_test_client *bob)
{
	char line[60];

	seance_test_push(ann, LOBBY, "say", "{\"text\":\"Hello <b>\"}");
	SEANCE_EXPECT_STATE(bob, LOBBY,
	                    "{\"lines\":[{\"who\":\"ann\",\"text\":\"Hello <b>\"}],\"typing\":{}}");
	seance_test_push(ann, LOBBY, "say", "{\"text\":\" \"}");
	SEANCE_EXPECT_REFUSED(ann, LOBBY, "{\"reason\":\"say something, in at most 1000 bytes\"}");
	for (int i = 0; i < 60; i++) {
		snprintf(line, sizeof line, "{\"text\":\"line %d\"}", i);
		seance_test_push(bob, LOBBY, "say", line);
	}
	SEANCE_EXPECT(lines_of(ann) == LINES_MAX, "the last 50 lines are kept");
}

static void
test_typing(struct seance_test *test, struct seance_test_client *ann, struct seance_test_client *bob)
{
	json_object *typing;

	seance_test_push(bob, LOBBY, "typing", "{}");
	SEANCE_EXPECT_TIMER(test, LOBBY, TYPING_MS, "\"bob\"");
	seance_test_advance(test, TYPING_MS - 1);
	seance_test_push(bob, LOBBY, "typing", "{}");
	seance_test_advance(test, TYPING_MS - 1);
	typing = json_object_object_get(seance_test_state(ann, LOBBY), "typing");
	SEANCE_EXPECT(json_object_object_get_ex(typing, "bob", NULL), "the sign lasts while somebody types");
	seance_test_restart(test);
	seance_test_advance(test, 1);
	typing = json_object_object_get(seance_test_state(ann, LOBBY), "typing");
	SEANCE_EXPECT(json_object_object_length(typing) == 0,
	              "and goes by a timer, whatever is restarted meanwhile");
}

static void
test_presence(struct seance_test *test, struct seance_test_client *ann, struct seance_test_client *bob)
{
	json_object *state;
	struct seance_test_client *eve = seance_test_connect(test, NULL);

	SEANCE_EXPECT_JOINED(eve, LOBBY, "{\"name\":\"eve\"}");
	state = seance_test_event(eve, LOBBY, "presence_state");
	SEANCE_EXPECT(json_object_object_length(state) == 3, "who comes is told of all");
	while ((state = seance_test_event(ann, LOBBY, "presence_diff")) != NULL)
		if (json_object_object_get_ex(json_object_object_get(state, "joins"), "eve", NULL))
			break;
	SEANCE_EXPECT(state != NULL, "and they of him");
	seance_test_close(eve);
	seance_test_advance(test, 4999);
	SEANCE_EXPECT(seance_test_event(bob, LOBBY, "presence_diff") != NULL, "  (of eve's coming)");
	SEANCE_EXPECT(seance_test_event(ann, LOBBY, "presence_diff") == NULL,
	              "who might come back has not gone");
	seance_test_advance(test, 1);
	state = seance_test_event(ann, LOBBY, "presence_diff");
	SEANCE_EXPECT(json_object_object_get_ex(json_object_object_get(state, "leaves"), "eve", NULL),
	              "who does not has");
}

int
main(void)
{
	struct seance_test *test = SEANCE_TEST_PROGRAM();
	struct seance_test_client *ann = seance_test_connect(test, NULL),
							  *bob = seance_test_connect(test, NULL);

	SEANCE_EXPECT_JOINED(bob, LOBBY, "{\"name\":\"bob\"}");
	SEANCE_EXPECT_JOINED(ann, LOBBY, "{\"name\":\"ann\"}");
	test_names(test);
	test_lines(ann, bob);
	test_typing(test, ann, bob);
	while (seance_test_event(bob, LOBBY, "presence_diff") != NULL)
		; /* of ann */
	test_presence(test, ann, bob);
	return seance_test_end(test);
}
