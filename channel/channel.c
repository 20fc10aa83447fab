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

const char *const *
channel_ignored(const struct seance_channel *channel)
{
	static const char *const meta[] = {"__meta__", NULL};
	return channel->ignore_keys ? channel->ignore_keys : meta;
}

const char *
channel_presence_key(const struct seance_channel *channel)
{
	return channel->presence_key ? channel->presence_key : "user_id";
}

const char *
channel_presence_meta(const struct seance_channel *channel)
{
	return channel->presence_meta ? channel->presence_meta : "presence";
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
	if (channel->scope != SEANCE_SHARED && (channel->presence || channel->idle_ttl))
		return "presence and idle_ttl are for shared scope";
	if (channel->scope == SEANCE_SHARED && channel->resume_ttl)
		return "resume_ttl is for private scope";
	if (channel->idle_ttl < 0 || channel->resume_ttl < 0)
		return "idle_ttl or resume_ttl is negative";
	if (channel->message_builder == SEANCE_OWN_MESSAGES &&
	    (!channel->new_state_message || !channel->update_state_message))
		return "SEANCE_OWN_MESSAGES need new_state_message and update_state_message";
	if (channel->state_schema && !channel->migrate)
		return "it has a state_schema, but no migrate";
	return NULL;
}
