#include "origin.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

/* The host of "scheme://host:port", as it stands in the header; len is 0 when there is none. */
static const char *
host_of(const char *origin, size_t *len)
{
	const char *host = strstr(origin, "//");
	*len = 0;
	if (!host)
		return "";
	host += 2;
	*len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/");
	return host;
}

static bool
same_host(const char *host, size_t len, const char *header)
{
	size_t header_len = *header == '[' ? strcspn(header, "]") + 1 : strcspn(header, ":");
	return len == header_len && strncasecmp(host, header, len) == 0;
}

/* One entry of the list: "//example.com" or "//" "*.example.com", which stands for all below it. */
static bool
entry_allows(const char *entry, size_t entry_len, const char *host, size_t len)
{
	if (entry_len < 2 || strncmp(entry, "//", 2) != 0)
		return false;
	entry += 2;
	entry_len -= 2;
	if (entry_len > 1 && entry[0] == '*') {
		entry++;
		entry_len--;
		return len > entry_len && strncasecmp(host + len - entry_len, entry, entry_len) == 0;
	}
	return len == entry_len && strncasecmp(host, entry, len) == 0;
}

static bool
list_allows(const char *list, const char *host, size_t len)
{
	while (list && *list) {
		size_t entry_len = strcspn(list, " ,");
		if (entry_allows(list, entry_len, host, len))
			return true;
		list += entry_len;
		list += strspn(list, " ,");
	}
	return false;
}

bool
origin_is_allowed(const char *origin, const char *host, const char *list)
{
	size_t len;
	const char *from = host_of(origin, &len);
	return len && ((host && same_host(from, len, host)) || list_allows(list, from, len));
}
