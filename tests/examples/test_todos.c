/* test_todos - examples/todos, by the kit */
#include "seance_test.h"

#include "../../examples/todos/todos.c" /* NOLINT(bugprone-suspicious-include) */

#define HOME "todos:home"

int
main(void)
{
	struct seance_test *test = SEANCE_TEST_PROGRAM();
	struct seance_test_client *ann = seance_test_connect(test, NULL),
							  *bob = seance_test_connect(test, NULL);

	SEANCE_EXPECT_JOINED(ann, HOME, "{}");
	SEANCE_EXPECT_JOINED(bob, HOME, "{}");
	seance_test_push(ann, HOME, "add", "{\"title\":\"Buy candles\"}");
	SEANCE_EXPECT_STATE(bob, HOME,
	                    "{\"next\":2,\"todos\":[{\"id\":1,\"title\":\"Buy candles\",\"done\":false}]}");
	seance_test_push(bob, HOME, "toggle", "{\"id\":1}");
	SEANCE_EXPECT_PATCH(
		bob, HOME,
		"[{\"op\":\"add\",\"path\":\"/todos/-\",\"value\":{\"id\":1,\"title\":\"Buy candles\","
		"\"done\":false}},{\"op\":\"replace\",\"path\":\"/next\",\"value\":2}]");
	SEANCE_EXPECT_PATCH(bob, HOME, "[{\"op\":\"replace\",\"path\":\"/todos/0/done\",\"value\":true}]");
	seance_test_push(bob, HOME, "clear", "{}");
	SEANCE_EXPECT_STATE(ann, HOME, "{\"next\":2,\"todos\":[]}");
	return seance_test_end(test);
}
