#include "channel.h"

#include <stdbool.h>
#include <string.h>

#include "json.h"

const char *
channel_state_key(const struct seance_channel *channel)
{
	return channel->state_key ? channel->state_key : "state";
}

const char *
channel_state_version_key(const struct seance_channel *channel)
{
	return channel->state_version_key ? channel->state_version_key : "version";
}

/* What a path in SQL (storage/views.sql) can name without an escape. */
static bool
is_name(const char *key)
{
	for (const char *c = key; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == '"' || *c == '\\')
			return false;
	return *key && json_is_utf8(key, strlen(key));
}

const char *
channel_fault(const struct seance_channel *channel)
{
	const char *state = channel_state_key(channel), *version = channel_state_version_key(channel);
	if (!channel->topic)
		return "it has no topic";
	if (!channel->init)
		return "it has no init";
	if (!is_name(state) || !is_name(version))
		return "state_key and state_version_key are names without quotes, backslashes and control characters";
	if (strcmp(state, version) == 0)
		return "state_key and state_version_key are the same";
	return NULL;
}
