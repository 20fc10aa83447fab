#include "cors.h"

#include "origin.h"

void
cors_add(struct buffer *out, const char *origin, const char *host, const char *list)
{
	buffer_add_text(out, "Vary: Origin\r\n");
	if (!origin || !origin_is_allowed(origin, host, list))
		return;
	buffer_add_text(out, "Access-Control-Allow-Origin: ");
	buffer_add_text(out, origin);
	buffer_add_text(out, "\r\nAccess-Control-Allow-Credentials: true\r\n");
}
