/* test_channel - what an author may declare, and defaults */
#include <stdbool.h>
#include <string.h>

#include "channel.h"
#include "tap.h"

static enum seance_status
any_init(struct seance_call *call, const char *topic, json_object *payload)
{
	(void)topic, (void)payload;
	return seance_set_state(call, NULL);
}

static const struct seance_channel sound = {.topic = "a:*", .init = any_init};

static bool
named(const char *state, const char *version)
{
	struct seance_channel channel = sound;
	channel.state_key = state;
	channel.state_version_key = version;
	return channel_fault(&channel) == NULL;
}

int
main(void)
{
	ok(channel_fault(&sound) == NULL, "topic and init are enough");
	ok(channel_fault(&(struct seance_channel){.init = any_init}) != NULL, "no topic");
	ok(channel_fault(&(struct seance_channel){.topic = "a"}) != NULL, "no init");
	ok(strcmp(channel_state_key(&sound), "state") == 0 &&
	       strcmp(channel_state_version_key(&sound), "version") == 0,
	   "names by default");
	ok(named("version", "state") && named("a b", "\xc3\xa4") && named(NULL, "v"), "other names");
	ok(!named("", NULL) && !named("a\"b", NULL) && !named(NULL, "a\\b") && !named("a\n", NULL) &&
	       !named("\xff", NULL),
	   "names that no path in SQL can hold");
	ok(!named("version", NULL) && !named("a", "a"), "both the same");
	return done();
}
