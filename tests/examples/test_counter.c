/* test_counter - examples/counter, by the kit */
#include "seance_test.h"

#include "../../examples/counter/counter.c" /* NOLINT(bugprone-suspicious-include) */

int
main(void)
{
	struct seance_test *test = SEANCE_TEST_PROGRAM();
	struct seance_test_client *ann = seance_test_connect(test, NULL),
							  *bob = seance_test_connect(test, NULL);

	SEANCE_EXPECT_JOINED(ann, "counter:a", "{}");
	SEANCE_EXPECT_FULL_STATE(ann, "counter:a", "{\"count\":0}");
	SEANCE_EXPECT_JOINED(bob, "counter:a", "{}");
	seance_test_push(ann, "counter:a", "increment", "{}");
	SEANCE_EXPECT_PATCH(ann, "counter:a", "[{\"op\":\"replace\",\"path\":\"/count\",\"value\":1}]");
	SEANCE_EXPECT_STATE(bob, "counter:a", "{\"count\":1}");
	seance_test_push(bob, "counter:a", "add", "{\"by\":-11}");
	SEANCE_EXPECT_STATE(ann, "counter:a", "{\"count\":-10}");
	seance_test_push(bob, "counter:a", "add", "{\"by\":1001}");
	SEANCE_EXPECT_REFUSED(bob, "counter:a", "{\"reason\":\"by how much? At most 1000\"}");
	seance_test_push(bob, "counter:a", "add", "{\"by\":1.5}");
	SEANCE_EXPECT_REFUSED(bob, "counter:a", "{\"reason\":\"by how much? At most 1000\"}");
	seance_test_restart(test);
	seance_test_push(bob, "counter:a", "reset", "{}");
	SEANCE_EXPECT_STATE(ann, "counter:a", "{\"count\":0}");
	SEANCE_EXPECT_VERSION(ann, "counter:a", 3);
	seance_test_push(bob, "counter:a", "reset", "{}");
	SEANCE_EXPECT_REFUSED(bob, "counter:a", "{\"reason\":\"it is 0 already\"}");
	seance_test_push(bob, "counter:a", "fly", "{}");
	SEANCE_EXPECT_REFUSED(bob, "counter:a", "{\"reason\":\"unknown event: fly\"}");
	SEANCE_EXPECT_JOINED(bob, "counter:b", "{}");
	SEANCE_EXPECT_STATE(bob, "counter:b", "{\"count\":0}");
	return seance_test_end(test);
}
