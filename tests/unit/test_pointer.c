/* pointer: RFC 6901's examples, array indexes, what leads nowhere, formats */
#include "../../channel/json.h"
#include "../../channel/pointer.h"
#include "parse.h"
#include "tap.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static void
gets(json_object *document, const char *pointer, const char *expected)
{
	json_object *value = NULL;
	bool found = pointer_get(document, pointer, &value);

	ok(found && strcmp(json_text(value, NULL), expected) == 0, "\"%s\" is %.40s", pointer, expected);
}

static void
gets_nothing(json_object *document, const char *pointer)
{
	json_object *value = NULL;

	ok(!pointer_get(document, pointer, &value), "\"%s\" leads nowhere", pointer);
}

/* RFC 6901, section 5 */
static void
test_rfc(void)
{
	json_object *document =
		parse("{\"foo\":[\"bar\",\"baz\"],\"\":0,\"a/b\":1,\"c%d\":2,\"e^f\":3,\"g|h\":4,"
	          "\"i\\\\j\":5,\"k\\\"l\":6,\" \":7,\"m~n\":8}");
	json_object *value = NULL;

	ok(pointer_get(document, "", &value) && value == document, "\"\" is the whole document");
	gets(document, "/foo", "[\"bar\",\"baz\"]");
	gets(document, "/foo/0", "\"bar\"");
	gets(document, "/", "0");
	gets(document, "/a~1b", "1");
	gets(document, "/c%d", "2");
	gets(document, "/e^f", "3");
	gets(document, "/g|h", "4");
	gets(document, "/i\\j", "5");
	gets(document, "/k\"l", "6");
	gets(document, "/ ", "7");
	gets(document, "/m~0n", "8");
	json_object_put(document);
}

static void
test_nowhere(void)
{
	json_object *document = parse("{\"a\":[1,[2],null],\"n\":null,\"s\":\"x\",\"~1\":9}");

	gets(document, "/n", "null");
	gets(document, "/a/2", "null");
	gets(document, "/a/1/0", "2");
	gets(document, "/~01", "9");
	gets_nothing(document, "a");
	gets_nothing(document, "/b");
	gets_nothing(document, "/b/c");
	gets_nothing(document, "/n/x");
	gets_nothing(document, "/s/0");
	gets_nothing(document, "/a/3");
	gets_nothing(document, "/a/-");
	gets_nothing(document, "/a/-/0");
	gets_nothing(document, "/a/-1");
	gets_nothing(document, "/a/00");
	gets_nothing(document, "/a/01");
	gets_nothing(document, "/a/1e0");
	gets_nothing(document, "/a/ 1");
	gets_nothing(document, "/a/1 ");
	gets_nothing(document, "/a/");
	gets_nothing(document, "/a/x");
	gets_nothing(document, "/a/18446744073709551616");
	gets_nothing(document, "/a/99999999999999999999999999");
	gets_nothing(document, "/~");
	gets_nothing(document, "/~2");
	gets_nothing(document, "/a~");
	json_object_put(document);
	gets_nothing(NULL, "/a");
}

static void
test_places(void)
{
	json_object *document = parse("{\"a\":[1,2]}"), *array = json_object_object_get(document, "a");
	struct pointer_place place;

	ok(pointer_find(document, "", &place) && place.parent == NULL && place.token == NULL && place.exists,
	   "the whole document has no parent");
	pointer_release(&place);
	ok(pointer_find(document, "/x~1y", &place) && place.parent == document && !place.exists &&
	       strcmp(place.token, "x/y") == 0,
	   "a member that is not there yet");
	pointer_release(&place);
	ok(pointer_find(document, "/a/-", &place) && place.parent == array && place.index == 2 &&
	       !place.exists,
	   "behind the end of an array");
	pointer_release(&place);
	ok(pointer_find(document, "/a/2", &place) && place.index == 2 && !place.exists, "by its index too");
	pointer_release(&place);
	ok(pointer_find(document, "/a/1", &place) && place.index == 1 && place.exists, "an element");
	pointer_release(&place);
	ok(!pointer_find(document, "/a/3", &place), "not further");
	pointer_release(&place);
	json_object_put(document);
}

__attribute__((format(printf, 2, 3))) static void
formats(const char *expected, const char *format, ...)
{
	va_list args;
	char *pointer;

	va_start(args, format);
	pointer = pointer_format(format, args);
	va_end(args);
	if (expected == NULL)
		ok(pointer == NULL, "refused: %s", format);
	else
		ok(pointer != NULL && strcmp(pointer, expected) == 0, "%.60s", expected);
	free(pointer);
}

/* The formats that the compiler would warn of. */
static void
refuses_format(const char *format, ...)
{
	va_list args;
	char *pointer;

	va_start(args, format);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	pointer = pointer_format(format, args);
#pragma GCC diagnostic pop
	va_end(args);
	ok(pointer == NULL, "refused: %s", format);
	free(pointer);
}

static void
test_formats(void)
{
	formats("/todos/-", "/todos/-");
	formats("/users/a~1b/x", "/users/%s/x", "a/b");
	formats("/users/m~0n", "/users/%s", "m~n");
	formats("/~1~0", "/%c%c", '/', '~');
	formats("/a~1b/~0", "/a~1b/~0%s", "");
	formats("/7/-8/9", "/%d/%i/%u", 7, -8, 9u);
	formats("/-9223372036854775808/18446744073709551615", "/%ld/%lu", LONG_MIN, ULONG_MAX);
	formats("/-9223372036854775808/18446744073709551615", "/%lld/%llu", LLONG_MIN, ULLONG_MAX);
	formats("/18446744073709551615/-1", "/%zu/%zd", SIZE_MAX, (ssize_t)-1);
	formats("/100%", "/%d%%", 100);
	formats("/\xC3\xA9", "/%s", "\xC3\xA9");
	formats("", "%s", "");
}

static void
test_refused_formats(void)
{
	static char longest[POINTER_MAX + 1];
	char *child;

	refuses_format("a");
	refuses_format("%s", "/a");
	refuses_format("/%x", 1);
	refuses_format("/%f", 1.0);
	refuses_format("/%5d", 1);
	refuses_format("/%.*s", 1, "a");
	refuses_format("/%ls", L"a");
	refuses_format("/%hd", 1);
	refuses_format("/%");
	refuses_format("/%l");
	refuses_format("/%s", (char *)NULL);
	refuses_format("/%c", 0);
	memset(longest, 'x', POINTER_MAX - 1);
	child = pointer_child("", longest);
	formats(child, "/%s", longest);
	free(child);
	longest[POINTER_MAX - 1] = 'x';
	refuses_format("/%s", longest);
	longest[POINTER_MAX - 2] = '/';
	longest[POINTER_MAX - 1] = '\0';
	refuses_format("/%s", longest);
}

static void
test_child(void)
{
	char *child = pointer_child("/a", "b/~c");

	ok(strcmp(child, "/a/b~1~0c") == 0, "a child's name is escaped");
	free(child);
	child = pointer_child("", "");
	ok(strcmp(child, "/") == 0, "the empty key");
	free(child);
}

int
main(void)
{
	test_rfc();
	test_nowhere();
	test_places();
	test_formats();
	test_refused_formats();
	test_child();
	return done();
}
