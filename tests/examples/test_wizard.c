/* test_wizard - examples/wizard, by the kit */
#include "seance_test.h"

#include "../../examples/wizard/wizard.c" /* NOLINT(bugprone-suspicious-include) */

#define ORDER "wizard:order"

int
main(void)
{
	struct seance_test *test = SEANCE_TEST_PROGRAM();
	struct seance_test_client *ann = seance_test_connect(test, NULL),
							  *bob = seance_test_connect(test, NULL);

	SEANCE_EXPECT_JOINED(ann, ORDER, "{}");
	SEANCE_EXPECT_JOINED(bob, ORDER, "{}");
	seance_test_push(ann, ORDER, "back", "{}");
	SEANCE_EXPECT_REFUSED(ann, ORDER, "{\"reason\":\"there is no way back\"}");
	seance_test_push(ann, ORDER, "next", "{\"value\":\" \"}");
	SEANCE_EXPECT_REFUSED(ann, ORDER, "{\"field\":\"name\",\"reason\":\"Please give a name.\"}");
	seance_test_push(ann, ORDER, "next", "{\"value\":\"Ann\"}");
	seance_test_push(ann, ORDER, "next", "{\"value\":13}");
	SEANCE_EXPECT_REFUSED(ann, ORDER, "{\"field\":\"seats\",\"reason\":\"There is room for twelve.\"}");
	seance_test_push(ann, ORDER, "confirm", "{}");
	SEANCE_EXPECT_REFUSED(ann, ORDER, "{\"reason\":\"not now\"}");
	seance_test_push(ann, ORDER, "next", "{\"value\":2}");
	seance_test_push(ann, ORDER, "back", "{}");
	SEANCE_EXPECT_STATE(ann, ORDER, "{\"step\":\"seats\",\"answers\":{\"name\":\"Ann\",\"seats\":2}}");
	seance_test_push(ann, ORDER, "next", "{\"value\":3}");
	seance_test_push(ann, ORDER, "next", "{}");
	SEANCE_EXPECT_REFUSED(ann, ORDER, "{\"reason\":\"there is no next step\"}");
	seance_test_restart(test);
	seance_test_push(ann, ORDER, "confirm", "{}");
	SEANCE_EXPECT_EVENT(ann, ORDER, "ordered", "{\"name\":\"Ann\",\"seats\":3}");
	SEANCE_EXPECT_STATE(ann, ORDER, "{\"step\":\"done\",\"answers\":{\"name\":\"Ann\",\"seats\":3}}");
	SEANCE_EXPECT_STATE(bob, ORDER, "{\"step\":\"name\",\"answers\":{}}");
	SEANCE_EXPECT_NOTHING(bob, "another topic");
	return seance_test_end(test);
}
