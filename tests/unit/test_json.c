/* json: what the parser takes and refuses, writing, equality, copies */
#include "../../channel/json.h"
#include "tap.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define SLICE(literal) literal, sizeof(literal) - 1

static json_object *
parse(const char *text)
{
	json_object *value = NULL;
	struct json_error error;

	if (!json_parse(text, strlen(text), &value, &error))
		printf("# refused: %s: %s at %zu\n", text, error.message, error.position);
	return value;
}

/* A text as a test's name: on one line */
static const char *
on_line(const char *text, size_t len)
{
	static char line[61];

	snprintf(line, sizeof(line), "%.*s", (int)len, text);
	for (char *c = line; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == '#')
			*c = '.';
	return line;
}

static void
takes(const char *text, const char *written)
{
	json_object *value = NULL;
	bool done = json_parse(text, strlen(text), &value, NULL);

	ok(done && strcmp(json_text(value, NULL), written) == 0, "%s is taken", on_line(text, strlen(text)));
	json_object_put(value);
}

static void
refuses_bytes(const char *text, size_t len, const char *message, size_t position)
{
	json_object *value = NULL;
	struct json_error error = {0};
	bool done = json_parse(text, len, &value, &error);

	ok(!done && value == NULL && strcmp(error.message, message) == 0 && error.position == position,
	   "%s at %zu: %s", message, position, on_line(text, len));
	if (!done && (error.position != position || strcmp(error.message, message) != 0))
		printf("# it said: %s at %zu\n", error.message, error.position);
	json_object_put(value);
}

static void
refuses(const char *text, const char *message, size_t position)
{
	refuses_bytes(text, strlen(text), message, position);
}

static void
test_values(void)
{
	takes("null", "null");
	takes(" true ", "true");
	takes("false", "false");
	takes("\"\"", "\"\"");
	takes("[]", "[]");
	takes("{}", "{}");
	takes("\t[ 1 ,\n2\r, [ ] , { } ] ", "[1,2,[],{}]");
	takes("{ \"a\" : { \"b\" : [ null ] } , \"\" : 0 }", "{\"a\":{\"b\":[null]},\"\":0}");
	takes("{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":3,\"b\":2}");
	takes("{\"a\\/b~\":\"/\"}", "{\"a/b~\":\"/\"}");
}

static void
test_numbers(void)
{
	takes("0", "0");
	takes("-0", "0");
	takes("-0.0", "-0.0");
	takes("1.5e-7", "1.5e-7");
	takes("1.50", "1.50");
	takes("1E+2", "1E+2");
	takes("9223372036854775807", "9223372036854775807");
	takes("9223372036854775808", "9223372036854775808");
	takes("18446744073709551615", "18446744073709551615");
	takes("-9223372036854775808", "-9223372036854775808");
	takes("1.7976931348623157e308", "1.7976931348623157e308");
	takes("5e-324", "5e-324");
	takes("1e-400", "1e-400");
	refuses("18446744073709551616", "number out of range", 20);
	refuses("-9223372036854775809", "number out of range", 20);
	refuses("123456789012345678901234567890", "number out of range", 30);
	refuses("1e309", "number out of range", 5);
	refuses("-1e309", "number out of range", 6);
	refuses("01", "leading zero", 1);
	refuses("-01", "leading zero", 2);
	refuses("1.", "text ends too early", 2);
	refuses(".5", "unexpected character", 0);
	refuses("+1", "unexpected character", 0);
	refuses("-", "text ends too early", 1);
	refuses("1e", "text ends too early", 2);
	refuses("1e+", "text ends too early", 3);
	refuses("1.e5", "unexpected character", 2);
	refuses("0x10", "something follows the value", 1);
	refuses("NaN", "unexpected character", 0);
	refuses("nan", "unexpected character", 0);
	refuses("Infinity", "unexpected character", 0);
	refuses("-Infinity", "unexpected character", 1);
	refuses("[NaN]", "unexpected character", 1);
}

static void
test_strings(void)
{
	json_object *value;

	takes("\"\\u0041\\n\\t\\b\\f\\r\\\"\\\\\\/\"", "\"A\\n\\t\\b\\f\\r\\\"\\\\/\"");
	takes("\"\\ud83d\\ude00\"", "\"\xF0\x9F\x98\x80\"");
	takes("\"\\u00e9\\u20AC\"", "\"\xC3\xA9\xE2\x82\xAC\"");
	takes("\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\x7F\"",
	      "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\x7F\"");
	takes("\"a\\u0000b\"", "\"a\\u0000b\"");
	value = parse("\"a\\u0000b\"");
	ok(json_object_get_string_len(value) == 3, "U+0000 stays in a value");
	json_object_put(value);

	refuses("{\"a\\u0000b\":1}", "key with U+0000", 11);
	refuses_bytes(SLICE("\"a\0b\""), "control character in a string", 2);
	refuses("\"a\nb\"", "control character in a string", 2);
	refuses("\"a\x1F\"", "control character in a string", 2);
	refuses("'a'", "unexpected character", 0);
	refuses("{'a':1}", "unexpected character", 1);
	refuses("\"abc", "text ends too early", 4);
	refuses("\"abc\\", "bad escape", 5);
	refuses("\"\\x\"", "bad escape", 2);
	refuses("\"\\u12\"", "bad escape", 5);
	refuses("\"\\u12g4\"", "bad escape", 5);
	refuses_bytes(SLICE("\"\\\0\""), "bad escape", 2);
	refuses("\"\\ud83d\"", "lone surrogate", 7);
	refuses("\"\\ud83dx\"", "lone surrogate", 7);
	refuses("\"\\ude00\"", "lone surrogate", 7);
	refuses("\"\\ud83d\\ud83d\"", "lone surrogate", 13);
}

static void
test_utf8(void)
{
	refuses("\"\x80\"", "invalid UTF-8", 1);
	refuses("\"\xC3\"", "invalid UTF-8", 1);
	refuses("\"\xC0\x80\"", "invalid UTF-8", 1);
	refuses("\"\xC1\xBF\"", "invalid UTF-8", 1);
	refuses("\"\xE0\x9F\xBF\"", "invalid UTF-8", 1);
	refuses("\"\xED\xA0\x80\"", "invalid UTF-8", 1);
	refuses("\"\xF0\x8F\xBF\xBF\"", "invalid UTF-8", 1);
	refuses("\"\xF4\x90\x80\x80\"", "invalid UTF-8", 1);
	refuses("\"\xF5\x80\x80\x80\"", "invalid UTF-8", 1);
	refuses("\"\xFF\"", "invalid UTF-8", 1);
	refuses("{\"\xFF\":1}", "invalid UTF-8", 2);
	refuses("\xEF\xBB\xBF{}", "unexpected character", 0);
	refuses_bytes("\"\xE2\x82\xAC\"", 3, "invalid UTF-8", 1);
	ok(json_is_utf8("\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF", 10),
	   "around the surrogates and the last");
	ok(!json_is_utf8("\xED\xA0\x80", 3), "a surrogate is not UTF-8");
}

static void
test_structure(void)
{
	refuses("", "text ends too early", 0);
	refuses("  ", "text ends too early", 2);
	refuses("[1,]", "unexpected character", 3);
	refuses("[,1]", "unexpected character", 1);
	refuses("[1 2]", "unexpected character", 3);
	refuses("{\"a\":1,}", "unexpected character", 7);
	refuses("{\"a\"}", "unexpected character", 4);
	refuses("{\"a\":}", "unexpected character", 5);
	refuses("{a:1}", "unexpected character", 1);
	refuses("{1:1}", "unexpected character", 1);
	refuses("[1", "text ends too early", 2);
	refuses("{\"a\":1", "text ends too early", 6);
	refuses("[1}", "unexpected character", 2);
	refuses("[] []", "something follows the value", 3);
	refuses("[1]]", "something follows the value", 3);
	refuses("1 2", "something follows the value", 2);
	refuses("//x\n1", "unexpected character", 0);
	refuses("[1/**/]", "unexpected character", 2);
	refuses("tru", "unexpected character", 0);
	refuses("nulll", "something follows the value", 4);
	refuses("True", "unexpected character", 0);
	refuses_bytes(SLICE("1\0"), "something follows the value", 1);
}

static void
test_slices(void)
{
	json_object *value = NULL;

	ok(json_parse("[1,2]x", 5, &value, NULL) && json_object_array_length(value) == 2,
	   "reads no further than len");
	json_object_put(value);
	value = NULL;
	ok(json_parse("123", 2, &value, NULL) && json_object_get_int(value) == 12, "not even digits");
	json_object_put(value);
}

/* depth arrays within each other */
static json_object *
nested(int depth)
{
	json_object *value = NULL;

	for (int i = 0; i < depth; i++) {
		json_object *outer = json_object_new_array();

		json_object_array_add(outer, value);
		value = outer;
	}
	return value;
}

static void
test_depth(void)
{
	char text[400];
	json_object *value;

	memset(text, '[', 200);
	memset(text + 200, ']', 200);
	value = NULL;
	ok(json_parse(text + 200 - 64, 128, &value, NULL), "64 levels are taken");
	ok(json_depth(value, 100) == 64, "and are 64");
	ok(json_depth(value, 10) == 11, "counting stops at limit + 1");
	json_object_put(value);
	refuses_bytes(text + 200 - 65, 130, "too deep", 65);
	refuses_bytes(text, 200, "too deep", 65);
	ok(json_depth(NULL, 5) == 0, "null has no depth");
	value = parse("{\"a\":[{}],\"b\":1}");
	ok(json_depth(value, 64) == 3, "the deepest branch counts");
	json_object_put(value);
	value = nested(60);
	ok(json_unfit(value, 60) == NULL, "60 levels are fit for 60");
	ok(json_unfit(value, 59) != NULL, "but not for 59");
	json_object_put(value);
}

static void
equal(const char *a, const char *b, bool expected)
{
	json_object *x = parse(a), *y = parse(b);

	ok(json_equal(x, y) == expected && json_equal(y, x) == expected, "%s %s %s", a,
	   expected ? "equals" : "differs from", b);
	if (expected)
		ok(json_hash(x) == json_hash(y), "and so do their hashes");
	json_object_put(x);
	json_object_put(y);
}

static void
test_equal(void)
{
	equal("1", "1.0", true);
	equal("1", "1.0000001", false);
	equal("0", "-0.0", true);
	equal("-5", "-5.0e0", true);
	equal("-5", "5", false);
	equal("18446744073709551615", "18446744073709551615", true);
	equal("18446744073709551615", "1.8446744073709551616e19", false);
	equal("9223372036854775807", "9223372036854775808.0", false);
	equal("9223372036854775808", "9223372036854775808.0", true);
	equal("-9223372036854775808", "-9223372036854775808.0", true);
	equal("9223372036854775807", "18446744073709551615", false);
	equal("-1", "18446744073709551615", false);
	equal("1e300", "1.0e300", true);
	equal("0.1", "1e-1", true);
	equal("null", "null", true);
	equal("null", "false", false);
	equal("0", "false", false);
	equal("\"1\"", "1", false);
	equal("\"a\\u0000b\"", "\"a\\u0000c\"", false);
	equal("[1,2]", "[2,1]", false);
	equal("[1,2]", "[1,2,3]", false);
	equal("[]", "{}", false);
	equal("{\"a\":1,\"b\":[2]}", "{\"b\":[2.0],\"a\":1}", true);
	equal("{\"a\":null}", "{\"b\":null}", false);
	equal("{\"a\":null}", "{}", false);
	equal("true", "true", true);
	equal("true", "false", false);
}

static void
copies(const char *text)
{
	json_object *value = parse(text), *copy = json_copy(value);

	ok(value != copy && json_equal(value, copy) &&
	       strcmp(json_text(value, NULL), json_text(copy, NULL)) == 0,
	   "copy of %s", text);
	json_object_put(value);
	json_object_put(copy);
}

static void
test_copy(void)
{
	json_object *value;

	ok(json_copy(NULL) == NULL, "the copy of null is null");
	copies(
		"{\"a\":[1,-2,18446744073709551615,9223372036854775807,1.50,\"x\\u0000y\",true,false,null,{}]}");
	copies("\"x\\u0000y\"");
	copies("[]");
	value = json_object_new_double(0.1);
	json_object_set_userdata(value, value, NULL);
	json_object *copy = json_copy(value);
	ok(json_equal(value, copy), "a double without text");
	json_object_put(copy);
	json_object_put(value);
}

static void
unfit(json_object *value, const char *why)
{
	json_object *array = json_object_new_array();
	const char *said;

	json_object_array_add(array, value);
	said = json_unfit(array, 64);
	ok(said != NULL && strcmp(said, why) == 0, "unfit: %s", why);
	json_object_put(array);
}

static void
test_unfit(void)
{
	json_object *object;

	unfit(json_object_new_double((double)NAN), "a number is not finite");
	unfit(json_object_new_double((double)INFINITY), "a number is not finite");
	unfit(json_object_new_string("\xFF"), "a string is not UTF-8");
	unfit(parse("{\"a\":{\"__proto__\":1}}"), "a key is __proto__");
	object = json_object_new_object();
	json_object_object_add(object, "\xC3", NULL);
	unfit(object, "a key is not UTF-8");
	object = parse("[{\"a\":[{\"__proto__\":{}}]}]");
	ok(json_has_proto(object), "__proto__ is found at any depth");
	json_object_put(object);
	object = parse("[\"__proto__\",{\"proto\":\"__proto__\"}]");
	ok(!json_has_proto(object) && json_unfit(object, 64) == NULL, "but only keys count");
	json_object_put(object);
}

static void
test_text(void)
{
	size_t len = 0;
	json_object *value = parse("[\"a\\u0000\"]");

	ok(strcmp(json_text(NULL, &len), "null") == 0 && len == 4, "null is written");
	json_text(value, &len);
	ok(len == 11, "with its length");
	json_object_put(value);
}

static void
test_long(void)
{
	static char text[100000];
	json_object *value = NULL;

	memset(text, 'x', sizeof(text));
	text[0] = '"';
	text[sizeof(text) - 1] = '"';
	text[50000] = '\\';
	text[50001] = 'n';
	ok(json_parse(text, sizeof(text), &value, NULL) &&
	       json_object_get_string_len(value) == (int)sizeof(text) - 3,
	   "a long string with an escape");
	json_object_put(value);

	text[0] = '{';
	text[1] = '"';
	text[sizeof(text) - 4] = '"';
	text[sizeof(text) - 3] = ':';
	text[sizeof(text) - 2] = '0';
	text[sizeof(text) - 1] = '}';
	value = NULL;
	ok(json_parse(text, sizeof(text), &value, NULL) && json_object_object_length(value) == 1,
	   "a long key");
	json_object_put(value);
}

int
main(void)
{
	test_values();
	test_numbers();
	test_strings();
	test_utf8();
	test_structure();
	test_slices();
	test_depth();
	test_equal();
	test_copy();
	test_unfit();
	test_text();
	test_long();
	return done();
}
