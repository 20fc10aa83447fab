/*
 * diff: the patches for known pairs, and for random ones that patch_apply makes b of a
 *
 * SEED=number (or the first argument) repeats a run.
 */
#include "../../channel/diff.h"
#include "../../channel/json.h"
#include "../../channel/patch.h"
#include "../diff/random_json.h"
#include "parse.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Does the patch make `to` of `from`? */
static bool
leads_to(json_object *from, json_object *to, json_object *patch)
{
	json_object *document = json_copy(from);
	bool same = patch_apply(&document, patch) && json_equal(document, to);

	json_object_put(document);
	return same;
}

static void
gives(const char *a, const char *b, const char *expected)
{
	json_object *from = parse(a), *to = parse(b), *patch = diff_make(from, to);
	const char *text = json_text(patch, NULL);

	ok(strcmp(text, expected) == 0 && leads_to(from, to, patch), "%s to %s", a, b);
	if (strcmp(text, expected) != 0)
		printf("# %s instead of %s\n", text, expected);
	json_object_put(patch);
	json_object_put(from);
	json_object_put(to);
}

static void
test_scalars(void)
{
	gives("null", "null", "[]");
	gives("1", "1.0", "[]");
	gives("1", "2", "[{\"op\":\"replace\",\"path\":\"\",\"value\":2}]");
	gives("null", "{}", "[{\"op\":\"replace\",\"path\":\"\",\"value\":{}}]");
	gives("{\"a\":1}", "null", "[{\"op\":\"replace\",\"path\":\"\",\"value\":null}]");
	gives("{\"a\":1}", "[1]", "[{\"op\":\"replace\",\"path\":\"\",\"value\":[1]}]");
}

static void
test_objects(void)
{
	gives("{}", "{}", "[]");
	gives("{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", "[]");
	gives("{\"a\":1,\"b\":2}", "{\"b\":3}",
	      "[{\"op\":\"remove\",\"path\":\"/a\"},{\"op\":\"replace\",\"path\":\"/b\",\"value\":3}]");
	gives("{}", "{\"b\":1,\"a\":2}",
	      "[{\"op\":\"add\",\"path\":\"/b\",\"value\":1},{\"op\":\"add\",\"path\":\"/a\",\"value\":2}]");
	gives("{\"a\":{\"b\":{\"c\":1}}}", "{\"a\":{\"b\":{\"c\":2}}}",
	      "[{\"op\":\"replace\",\"path\":\"/a/b/c\",\"value\":2}]");
	gives("{\"a\":{\"x\":1,\"y\":2}}", "{\"a\":{\"x\":3,\"y\":4}}",
	      "[{\"op\":\"replace\",\"path\":\"/a/x\",\"value\":3},"
	      "{\"op\":\"replace\",\"path\":\"/a/y\",\"value\":4}]");
	gives("{\"a/b\":1,\"m~n\":1,\"\":1}", "{\"a/b\":2,\"m~n\":2,\"\":2}",
	      "[{\"op\":\"replace\",\"path\":\"/a~1b\",\"value\":2},"
	      "{\"op\":\"replace\",\"path\":\"/m~0n\",\"value\":2},"
	      "{\"op\":\"replace\",\"path\":\"/\",\"value\":2}]");
}

static void
test_null_and_absent(void)
{
	gives("{}", "{\"a\":null}", "[{\"op\":\"add\",\"path\":\"/a\",\"value\":null}]");
	gives("{\"a\":null}", "{}", "[{\"op\":\"remove\",\"path\":\"/a\"}]");
	gives("{\"a\":null}", "{\"a\":0}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":0}]");
	gives("{\"a\":0}", "{\"a\":null}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":null}]");
	gives("[null]", "[null,null]", "[{\"op\":\"add\",\"path\":\"/1\",\"value\":null}]");
}

static void
test_arrays(void)
{
	gives("[]", "[1]", "[{\"op\":\"add\",\"path\":\"/0\",\"value\":1}]");
	gives("[1]", "[]", "[{\"op\":\"remove\",\"path\":\"/0\"}]");
	gives("[2,3]", "[1,2,3]", "[{\"op\":\"add\",\"path\":\"/0\",\"value\":1}]");
	gives("[1,2,3]", "[1,3]", "[{\"op\":\"remove\",\"path\":\"/1\"}]");
	gives("[1,1,1]", "[1,1]", "[{\"op\":\"remove\",\"path\":\"/2\"}]");
	gives("[1,2,3]", "[1,9,3]", "[{\"op\":\"replace\",\"path\":\"/1\",\"value\":9}]");
	gives("[1,2,3]", "[2,3,4]",
	      "[{\"op\":\"remove\",\"path\":\"/0\"},{\"op\":\"add\",\"path\":\"/2\",\"value\":4}]");
	gives("[1,2,3,4,5]", "[2,3,9,5,1]",
	      "[{\"op\":\"remove\",\"path\":\"/0\"},{\"op\":\"replace\",\"path\":\"/2\",\"value\":9},"
	      "{\"op\":\"add\",\"path\":\"/4\",\"value\":1}]");
	gives("[{\"id\":1,\"t\":\"one\"},{\"id\":2,\"t\":\"two\"}]",
	      "[{\"id\":1,\"t\":\"one\"},{\"id\":2,\"t\":\"2\"}]",
	      "[{\"op\":\"replace\",\"path\":\"/1/t\",\"value\":\"2\"}]");
	gives("[{\"id\":1,\"a\":1,\"b\":1}]", "[{\"id\":1,\"a\":2,\"b\":2}]",
	      "[{\"op\":\"replace\",\"path\":\"/0\",\"value\":{\"id\":1,\"a\":2,\"b\":2}}]");
	gives("[{\"id\":1,\"t\":\"one\"},3]", "[{\"id\":2,\"t\":\"two\"},{\"id\":1,\"t\":\"1\"},3]",
	      "[{\"op\":\"add\",\"path\":\"/0\",\"value\":{\"id\":2,\"t\":\"two\"}},"
	      "{\"op\":\"replace\",\"path\":\"/1/t\",\"value\":\"1\"}]");
	gives(
		"[{\"id\":1,\"t\":\"one\"},{\"id\":2,\"t\":\"two\"}]", "[{\"id\":2,\"t\":\"2\"}]",
		"[{\"op\":\"remove\",\"path\":\"/0\"},{\"op\":\"replace\",\"path\":\"/0/t\",\"value\":\"2\"}]");
	gives("[[1,2],[3]]", "[[1,2,4],[3]]", "[{\"op\":\"add\",\"path\":\"/0/2\",\"value\":4}]");
	gives("[{\"a\":1}]", "[[1]]", "[{\"op\":\"replace\",\"path\":\"/0\",\"value\":[1]}]");
}

/* Many removals within a member are worth replacing it; a few are not. */
static void
test_shorter(void)
{
	gives("{\"a\":[1,2,3]}", "{\"a\":[]}",
	      "[{\"op\":\"remove\",\"path\":\"/a/0\"},{\"op\":\"remove\",\"path\":\"/a/0\"},"
	      "{\"op\":\"remove\",\"path\":\"/a/0\"}]");
	gives("{\"a\":[1,2,3,4,5,6,7,8,9]}", "{\"a\":[]}",
	      "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":[]}]");
	gives("{\"a\":{\"1\":1,\"2\":1,\"3\":1,\"4\":1,\"5\":1,\"6\":1,\"7\":1,\"8\":1,\"9\":1}}",
	      "{\"a\":{}}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":{}}]");
}

static json_object *
numbers(int first, int count)
{
	json_object *array = json_object_new_array();

	for (int i = 0; i < count; i++)
		json_object_array_add(array, json_object_new_int(first + i));
	return array;
}

/* Takes both. */
static void
takes_operations(json_object *from, json_object *to, size_t most, const char *what)
{
	struct timespec start, end;
	json_object *patch;
	double ms;

	clock_gettime(CLOCK_MONOTONIC, &start);
	patch = diff_make(from, to);
	clock_gettime(CLOCK_MONOTONIC, &end);
	ms = (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6;
	ok(json_object_array_length(patch) <= most && leads_to(from, to, patch),
	   "%s: %zu operations (at most %zu), %.2f ms", what, json_object_array_length(patch), most, ms);
	json_object_put(patch);
	json_object_put(from);
	json_object_put(to);
}

/* count numbers with another one after every step of them */
static json_object *
with_insertions(int count, int step)
{
	json_object *array = json_object_new_array();

	for (int i = 0; i < count; i++) {
		json_object_array_add(array, json_object_new_int(i));
		if (i % step == 0)
			json_object_array_add(array, json_object_new_int(-1 - i));
	}
	return array;
}

static json_object *
shuffled(int count)
{
	json_object *array = json_object_new_array();

	for (int i = 0; i < count; i++)
		json_object_array_add(array, json_object_new_int((int)random_below((unsigned)count)));
	return array;
}

static void
test_large_arrays(void)
{
	json_object *to;

	takes_operations(numbers(1, 1000), numbers(0, 1001), 1, "prepend to 1,000");
	takes_operations(numbers(0, 1000), numbers(1, 1000), 2, "a moving window of 1,000");
	takes_operations(numbers(0, 10000), numbers(100, 10000), 200, "one of 10,000 moved by 100");
	to = numbers(0, 10000);
	json_object_array_put_idx(to, 5000, json_object_new_string("x"));
	takes_operations(numbers(0, 10000), to, 1, "one of 10,000 changed");
	to = numbers(0, 10000);
	json_object_array_put_idx(to, 5, json_object_new_string("x"));
	json_object_array_del_idx(to, 9000, 1);
	takes_operations(numbers(0, 10000), to, 2, "one changed, one removed of 10,000");
	takes_operations(numbers(0, 10000), with_insertions(10000, 100), 100, "100 scattered insertions");
	takes_operations(with_insertions(10000, 100), numbers(0, 10000), 100, "100 scattered removals");
	takes_operations(numbers(0, 2000), numbers(5000, 2000), 2000, "2,000 all different");
	takes_operations(shuffled(3000), shuffled(3000), 3000, "3,000 at random: the search is given up");
	takes_operations(shuffled(100000), shuffled(100000), 100000, "100,000 at random");
}

/* The values that operations carry are those of `to` themselves; neither side is changed. */
static void
test_sharing(void)
{
	json_object *from = parse("{\"a\":1}"), *to = parse("{\"a\":1,\"b\":[1]}");
	json_object *patch = diff_make(from, to);
	json_object *value = json_object_object_get(json_object_array_get_idx(patch, 0), "value");

	ok(value == json_object_object_get(to, "b"), "values are shared with `to`");
	json_object_put(patch);
	patch = diff_make(to, to);
	ok(json_object_array_length(patch) == 0, "the same value gives nothing");
	json_object_put(patch);
	json_object_put(from);
	json_object_put(to);
}

static void
random_pair(unsigned number)
{
	unsigned percent = 1 + random_below(60);
	int depth = (int)random_below(5);
	json_object *from = random_value(depth);
	json_object *to = random_below(5) == 0 ? random_value(depth) : random_like(from, depth, percent);
	json_object *patch = diff_make(from, to);

	if (!leads_to(from, to, patch)) {
		ok(false, "random pair %u", number);
		printf("# from %s\n", json_text(from, NULL));
		printf("# to %s\n", json_text(to, NULL));
		printf("# patch %s\n", json_text(patch, NULL));
	}
	if (json_equal(from, to) != (json_object_array_length(patch) == 0))
		ok(false, "random pair %u: operations although equal, or none", number);
	json_object_put(from);
	json_object_put(to);
	json_object_put(patch);
}

/* Every pair of words over a small alphabet: where wrong indexes would show. */
static void
random_word_pair(void)
{
	json_object *from = json_object_new_array(), *to = json_object_new_array(), *patch;
	unsigned letters = 2 + random_below(4);

	for (unsigned i = random_below(14); i > 0; i--)
		json_object_array_add(from, json_object_new_int((int)random_below(letters)));
	for (unsigned i = random_below(14); i > 0; i--)
		json_object_array_add(to, json_object_new_int((int)random_below(letters)));
	patch = diff_make(from, to);
	if (!leads_to(from, to, patch))
		ok(false, "%s to %s", json_text(from, NULL), json_text(to, NULL));
	json_object_put(from);
	json_object_put(to);
	json_object_put(patch);
}

int
main(int argc, char **argv)
{
	const char *given = argc > 1 ? argv[1] : getenv("SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);

	printf("# seed %llu\n", (unsigned long long)seed);
	random_state = seed;
	test_scalars();
	test_objects();
	test_null_and_absent();
	test_arrays();
	test_shorter();
	test_large_arrays();
	test_sharing();
	for (unsigned i = 0; i < 20000; i++)
		random_pair(i);
	ok(true, "20,000 random pairs");
	for (unsigned i = 0; i < 20000; i++)
		random_word_pair();
	ok(true, "20,000 pairs of words");
	return done();
}
