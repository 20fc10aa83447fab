/*
 * patch: RFC 6902's examples, the verbs, what they write, what they refuse, and undoing
 *
 * SEED=number (or the first argument) repeats the random part of a run.
 */
#define _GNU_SOURCE
#include "../../channel/face.h"
#include "../../channel/json.h"
#include "../../channel/patch.h"
#include "../../channel/pointer.h"
#include "../diff/random_json.h"
#include "parse.h"
#include "tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool
is(json_object *value, const char *expected)
{
	json_object *other = parse(expected);
	bool same = json_equal(value, other);

	json_object_put(other);
	return same;
}

/* ---- patch_apply ---- */

/* expected: NULL when the patch must be refused */
static void
applies(const char *name, const char *before, const char *operations, const char *expected)
{
	json_object *document = parse(before), *patch = parse(operations);
	bool done = patch_apply(&document, patch);

	if (expected != NULL)
		ok(done && is(document, expected), "%s", name);
	else
		ok(!done && is(document, before), "%s: refused, nothing changed", name);
	json_object_put(document);
	json_object_put(patch);
}

static void
test_rfc(void)
{
	applies("A.1 adding an object member", "{\"foo\":\"bar\"}",
	        "[{\"op\":\"add\",\"path\":\"/baz\",\"value\":\"qux\"}]",
	        "{\"baz\":\"qux\",\"foo\":\"bar\"}");
	applies("A.2 adding an array element", "{\"foo\":[\"bar\",\"baz\"]}",
	        "[{\"op\":\"add\",\"path\":\"/foo/1\",\"value\":\"qux\"}]",
	        "{\"foo\":[\"bar\",\"qux\",\"baz\"]}");
	applies("A.3 removing an object member", "{\"baz\":\"qux\",\"foo\":\"bar\"}",
	        "[{\"op\":\"remove\",\"path\":\"/baz\"}]", "{\"foo\":\"bar\"}");
	applies("A.4 removing an array element", "{\"foo\":[\"bar\",\"qux\",\"baz\"]}",
	        "[{\"op\":\"remove\",\"path\":\"/foo/1\"}]", "{\"foo\":[\"bar\",\"baz\"]}");
	applies("A.5 replacing a value", "{\"baz\":\"qux\",\"foo\":\"bar\"}",
	        "[{\"op\":\"replace\",\"path\":\"/baz\",\"value\":\"boo\"}]",
	        "{\"baz\":\"boo\",\"foo\":\"bar\"}");
	applies("A.6 moving a value",
	        "{\"foo\":{\"bar\":\"baz\",\"waldo\":\"fred\"},\"qux\":{\"corge\":\"grault\"}}",
	        "[{\"op\":\"move\",\"from\":\"/foo/waldo\",\"path\":\"/qux/thud\"}]",
	        "{\"foo\":{\"bar\":\"baz\"},\"qux\":{\"corge\":\"grault\",\"thud\":\"fred\"}}");
	applies("A.7 moving an array element", "{\"foo\":[\"all\",\"grass\",\"cows\",\"eat\"]}",
	        "[{\"op\":\"move\",\"from\":\"/foo/1\",\"path\":\"/foo/3\"}]",
	        "{\"foo\":[\"all\",\"cows\",\"eat\",\"grass\"]}");
	applies("A.8 testing a value: success", "{\"baz\":\"qux\",\"foo\":[\"a\",2,\"c\"]}",
	        "[{\"op\":\"test\",\"path\":\"/baz\",\"value\":\"qux\"},"
	        "{\"op\":\"test\",\"path\":\"/foo/1\",\"value\":2}]",
	        "{\"baz\":\"qux\",\"foo\":[\"a\",2,\"c\"]}");
	applies("A.9 testing a value: error", "{\"baz\":\"qux\"}",
	        "[{\"op\":\"test\",\"path\":\"/baz\",\"value\":\"bar\"}]", NULL);
	applies("A.10 adding a nested member object", "{\"foo\":\"bar\"}",
	        "[{\"op\":\"add\",\"path\":\"/child\",\"value\":{\"grandchild\":{}}}]",
	        "{\"foo\":\"bar\",\"child\":{\"grandchild\":{}}}");
	applies("A.11 ignoring unrecognized elements", "{\"foo\":\"bar\"}",
	        "[{\"op\":\"add\",\"path\":\"/baz\",\"value\":\"qux\",\"xyz\":123}]",
	        "{\"foo\":\"bar\",\"baz\":\"qux\"}");
	applies("A.12 adding to a nonexistent target", "{\"foo\":\"bar\"}",
	        "[{\"op\":\"add\",\"path\":\"/baz/bat\",\"value\":\"qux\"}]", NULL);
	applies("A.13 invalid JSON Patch document", "{\"foo\":\"bar\"}",
	        "[{\"op\":\"add\",\"path\":\"/baz\",\"value\":\"qux\",\"op\":\"remove\"}]", NULL);
	applies("A.14 ~ escape ordering", "{\"/\":9,\"~1\":10}",
	        "[{\"op\":\"test\",\"path\":\"/~01\",\"value\":10}]", "{\"/\":9,\"~1\":10}");
	applies("A.15 comparing strings and numbers", "{\"/\":9,\"~1\":10}",
	        "[{\"op\":\"test\",\"path\":\"/~01\",\"value\":\"10\"}]", NULL);
	applies("A.16 adding an array value", "{\"foo\":[\"bar\"]}",
	        "[{\"op\":\"add\",\"path\":\"/foo/-\",\"value\":[\"abc\",\"def\"]}]",
	        "{\"foo\":[\"bar\",[\"abc\",\"def\"]]}");
}

static void
test_apply(void)
{
	applies("no operations", "{\"a\":1}", "[]", "{\"a\":1}");
	applies("add replaces a member", "{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/a\",\"value\":null}]",
	        "{\"a\":null}");
	applies("add of the whole document", "{\"a\":1}", "[{\"op\":\"add\",\"path\":\"\",\"value\":[1]}]",
	        "[1]");
	applies("replace of the whole document", "{\"a\":1}",
	        "[{\"op\":\"replace\",\"path\":\"\",\"value\":null}]", "null");
	applies("and of null", "null", "[{\"op\":\"replace\",\"path\":\"\",\"value\":{}}]", "{}");
	applies("remove of the whole document", "{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"\"}]", NULL);
	applies("replace of nothing", "{}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":1}]", NULL);
	applies("replace of -", "[1]", "[{\"op\":\"replace\",\"path\":\"/-\",\"value\":1}]", NULL);
	applies("replace behind the end", "[1]", "[{\"op\":\"replace\",\"path\":\"/1\",\"value\":1}]", NULL);
	applies("remove of -", "[1]", "[{\"op\":\"remove\",\"path\":\"/-\"}]", NULL);
	applies("remove of a null", "{\"a\":null}", "[{\"op\":\"remove\",\"path\":\"/a\"}]", "{}");
	applies("add at the length", "[1]", "[{\"op\":\"add\",\"path\":\"/1\",\"value\":2}]", "[1,2]");
	applies("add behind the length", "[1]", "[{\"op\":\"add\",\"path\":\"/2\",\"value\":2}]", NULL);
	applies("add at the front", "[1,2,3]", "[{\"op\":\"add\",\"path\":\"/0\",\"value\":null}]",
	        "[null,1,2,3]");
	applies("test of null", "{\"a\":null}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":null}]",
	        "{\"a\":null}");
	applies("test of what is absent", "{}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":null}]", NULL);
	applies("test 1 is 1.0", "[1]", "[{\"op\":\"test\",\"path\":\"/0\",\"value\":1.0}]", "[1]");
	applies("move onto a member", "{\"a\":1,\"b\":2}",
	        "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/b\"}]", "{\"b\":1}");
	applies("move onto itself", "{\"a\":[1]}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a\"}]",
	        "{\"a\":[1]}");
	applies("move into itself", "{\"a\":{\"b\":{}}}",
	        "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a/b/c\"}]", NULL);
	applies("move of the whole", "{\"a\":1}", "[{\"op\":\"move\",\"from\":\"\",\"path\":\"/b\"}]", NULL);
	applies("move to the whole", "{\"a\":[1]}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"\"}]",
	        "[1]");
	applies("move to the array's end", "[1,2,3]", "[{\"op\":\"move\",\"from\":\"/0\",\"path\":\"/-\"}]",
	        "[2,3,1]");
	applies("move behind what is left", "[1,2,3]", "[{\"op\":\"move\",\"from\":\"/0\",\"path\":\"/3\"}]",
	        NULL);
	applies("move of nothing", "{}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/b\"}]", NULL);
	applies("a name that only begins alike", "{\"a\":1,\"ab\":{}}",
	        "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/ab/c\"}]", "{\"ab\":{\"c\":1}}");
	applies("copy", "{\"a\":{\"b\":1}}", "[{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/a/c\"}]",
	        "{\"a\":{\"b\":1,\"c\":{\"b\":1}}}");
	applies(
		"a copy is a value of its own", "{\"a\":[1]}",
		"[{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/b\"},{\"op\":\"add\",\"path\":\"/a/-\",\"value\":2}]",
		"{\"a\":[1,2],\"b\":[1]}");
	applies("copy of nothing", "{}", "[{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/b\"}]", NULL);
	applies("a failure undoes what was before", "{\"a\":[1,2]}",
	        "[{\"op\":\"remove\",\"path\":\"/a/0\"},{\"op\":\"add\",\"path\":\"/b\",\"value\":1},"
	        "{\"op\":\"replace\",\"path\":\"\",\"value\":0},{\"op\":\"remove\",\"path\":\"/x\"}]",
	        NULL);
	applies("__proto__ in a pointer", "{}", "[{\"op\":\"add\",\"path\":\"/__proto__\",\"value\":1}]",
	        NULL);
	applies("__proto__ in a value", "{}",
	        "[{\"op\":\"add\",\"path\":\"/a\",\"value\":{\"__proto__\":1}}]", NULL);
	applies("__proto__s is a name", "{}", "[{\"op\":\"add\",\"path\":\"/__proto__s\",\"value\":1}]",
	        "{\"__proto__s\":1}");
}

static void
test_malformed(void)
{
	applies("not an array", "{}", "{}", NULL);
	applies("null", "{}", "null", NULL);
	applies("not an object", "{}", "[1]", NULL);
	applies("an operation null", "{}", "[null]", NULL);
	applies("no op", "{}", "[{\"path\":\"/a\",\"value\":1}]", NULL);
	applies("an unknown op", "{}", "[{\"op\":\"set\",\"path\":\"/a\",\"value\":1,\"from\":\"\"}]", NULL);
	applies("op not a string", "{}", "[{\"op\":1,\"path\":\"/a\",\"value\":1}]", NULL);
	applies("no path", "{}", "[{\"op\":\"add\",\"value\":1}]", NULL);
	applies("path null", "{}", "[{\"op\":\"add\",\"path\":null,\"value\":1}]", NULL);
	applies("no value", "{}", "[{\"op\":\"add\",\"path\":\"/a\"}]", NULL);
	applies("no from", "{\"a\":1}", "[{\"op\":\"move\",\"path\":\"/a\"}]", NULL);
	applies("a path without /", "{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"a\"}]", NULL);
	applies("U+0000 in a path", "{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"/a\\u0000\"}]", NULL);
}

/* ---- Edits ---- */

static void
test_written(void)
{
	struct patch_edit edit;

	patch_edit_init(&edit, parse("{\"a\":[1],\"b\":2}"));
	ok(strcmp(buffer_text(&edit.operations), "") == 0, "no operations yet");
	ok(patch_add(&edit, "/a/-", parse("{\"x\":\"/\"}")), "add");
	ok(patch_replace(&edit, "/a/1/x", NULL), "replace");
	ok(!patch_replace(&edit, "/nothing", json_object_new_int(1)), "what fails is not written");
	ok(patch_move(&edit, "/a/1", "/\"\\\n\x01~1"), "move");
	ok(patch_copy(&edit, "/a", "/c"), "copy");
	ok(patch_remove(&edit, "/b"), "remove");
	ok(strcmp(buffer_text(&edit.operations),
	          "{\"op\":\"add\",\"path\":\"/a/-\",\"value\":{\"x\":\"/\"}},"
	          "{\"op\":\"replace\",\"path\":\"/a/1/x\",\"value\":null},"
	          "{\"op\":\"move\",\"from\":\"/a/1\",\"path\":\"/\\\"\\\\\\n\\u0001~1\"},"
	          "{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/c\"},"
	          "{\"op\":\"remove\",\"path\":\"/b\"}") == 0 &&
	       strlen(buffer_text(&edit.operations)) == edit.operations.len,
	   "the operations as text");
	ok(is(edit.document, "{\"a\":[1],\"\\\"\\\\\\n\\u0001/\":{\"x\":null},\"c\":[1]}"), "the document");
	patch_edit_undo(&edit);
	ok(is(edit.document, "{\"a\":[1],\"b\":2}") && strcmp(buffer_text(&edit.operations), "") == 0,
	   "undone");
	ok(patch_remove(&edit, "/b"), "and again");
	patch_edit_accept(&edit);
	ok(edit.operations.len == 0 && strcmp(buffer_text(&edit.operations), "") == 0,
	   "accepting empties the operations");
	patch_edit_undo(&edit);
	ok(is(edit.document, "{\"a\":[1]}"), "and keeps the document");
	patch_edit_release(&edit);
}

/* What was handed in and what is in the document are two values. */
static void
test_not_shared(void)
{
	json_object *payload = parse("{\"list\":[]}");
	struct patch_edit edit;

	patch_edit_init(&edit, parse("{}"));
	ok(patch_add(&edit, "/a", json_object_get(payload)) &&
	       patch_add(&edit, "/b", json_object_get(payload)),
	   "the same value in two places");
	ok(patch_add(&edit, "/a/list/-", json_object_new_int(1)), "one of them changed");
	ok(is(edit.document, "{\"a\":{\"list\":[1]},\"b\":{\"list\":[]}}"), "the other is as it was");
	ok(is(payload, "{\"list\":[]}"), "and so is the caller's");
	json_object_object_add(payload, "more", NULL);
	ok(is(edit.document, "{\"a\":{\"list\":[1]},\"b\":{\"list\":[]}}"),
	   "nor does the caller change the document");
	ok(patch_add(&edit, "/c", json_object_get(edit.document)), "the document within itself");
	ok(patch_replace(&edit, "/a", json_object_get(json_object_object_get(edit.document, "a"))),
	   "a value by itself");
	patch_edit_undo(&edit);
	ok(is(edit.document, "{}"), "all undone");
	patch_edit_release(&edit);
	json_object_put(payload);
}

/* depth objects within each other */
static json_object *
nested(int depth)
{
	json_object *value = NULL;

	for (int i = 0; i < depth; i++) {
		json_object *outer = json_object_new_object();

		json_object_object_add(outer, "a", value);
		value = outer;
	}
	return value;
}

static void
test_refused(void)
{
	struct patch_edit edit;

	patch_edit_init(&edit, parse("{\"a\":{\"b\":[]}}"));
	ok(!patch_add(&edit, "/x", json_object_new_double((double)NAN)), "NaN");
	ok(!patch_add(&edit, "/x", json_object_new_string("\xFF")), "a string that is not UTF-8");
	ok(!patch_add(&edit, "/\xFF", NULL), "a pointer that is not UTF-8");
	ok(!patch_add(&edit, "/__proto__", NULL) && !patch_add(&edit, "/a/__proto__/b", NULL),
	   "__proto__ in a pointer");
	ok(!patch_add(&edit, "/x", parse("[{\"__proto__\":1}]")), "__proto__ in a value");
	ok(!patch_move(&edit, "/a", "/__proto__") && !patch_copy(&edit, "/a", "/__proto__"),
	   "nor by move, copy");
	ok(patch_add(&edit, "/d", nested(JSON_DEPTH_STATE - 1)), "as deep as may be");
	ok(!patch_add(&edit, "/a/b/-", nested(JSON_DEPTH_STATE - 2)), "too deep");
	ok(!patch_move(&edit, "/d", "/a/d") && !patch_copy(&edit, "/d", "/a/d"), "nor by move, copy");
	ok(!patch_add(&edit, "", nested(JSON_DEPTH_STATE + 1)), "too deep as a whole");
	ok(!patch_become(&edit, nested(JSON_DEPTH_STATE + 1)), "nor so");
	ok(!patch_move(&edit, "/a/b", "/a/b/c"), "move into itself");
	ok(!patch_move(&edit, "/a/b", "/nowhere/c"), "move to nowhere");
	ok(!patch_remove(&edit, ""), "remove of the whole");
	ok(patch_remove(&edit, "/d") && is(edit.document, "{\"a\":{\"b\":[]}}"), "nothing has changed");
	patch_edit_release(&edit);
}

/* A state of the greatest depth can be read again from its patch within a frame. */
static void
test_depth_of_frames(void)
{
	struct patch_edit edit;
	json_object *frame = NULL;
	char *text = NULL;
	int len;

	patch_edit_init(&edit, NULL);
	ok(patch_add(&edit, "", nested(JSON_DEPTH_STATE)), "the deepest state");
	len = asprintf(&text, "[null,null,\"t\",\"e\",{\"operations\":[%s],\"version\":1}]",
	               buffer_text(&edit.operations));
	ok(json_parse(text, (size_t)len, &frame, NULL), "its frame can be parsed");
	json_object_put(frame);
	free(text);
	patch_edit_release(&edit);
}

static void
test_become(void)
{
	struct patch_edit edit;
	json_object *state = parse("{\"a\":[1,2,3],\"b\":{\"c\":2}}");

	patch_edit_init(&edit, parse("{\"a\":[1,3],\"b\":{\"c\":1}}"));
	ok(patch_become(&edit, json_object_get(state)), "becomes another state");
	ok(json_equal(edit.document, state), "is it");
	ok(strcmp(buffer_text(&edit.operations), "{\"op\":\"add\",\"path\":\"/a/1\",\"value\":2},"
	                                         "{\"op\":\"replace\",\"path\":\"/b/c\",\"value\":2}") == 0,
	   "by the fewest operations");
	patch_edit_accept(&edit);
	ok(patch_become(&edit, state) && edit.operations.len == 0, "the same again is no operation");
	patch_become(&edit, parse("{\"old\":{\"a\":1}}"));
	patch_edit_accept(&edit);
	state = parse("{\"old\":{}}");
	json_object_object_add(state, "new", json_object_get(json_object_object_get(edit.document, "old")));
	ok(patch_become(&edit, state) && is(edit.document, "{\"old\":{},\"new\":{\"a\":1}}"),
	   "what both share may stand elsewhere");
	patch_edit_undo(&edit);
	patch_become(&edit, parse("{\"a\":[1,2,3],\"b\":{\"c\":2}}"));
	patch_edit_accept(&edit);
	ok(patch_become(&edit, NULL) && edit.document == NULL, "becomes null");
	ok(patch_become(&edit, parse("[]")), "and an array");
	patch_edit_undo(&edit);
	ok(is(edit.document, "{\"a\":[1,2,3],\"b\":{\"c\":2}}"), "undone");
	patch_edit_release(&edit);
}

/* ---- What is told of members that are hidden ---- */

static const char *const hidden[] = {"__meta__", "x", NULL};

/* One verb's telling; NULL: as it is written. */
static void
tells(const char *name, const char *before, const char *operations, const char *expected)
{
	json_object *patch = parse(operations);
	struct patch_edit edit;

	patch_edit_init(&edit, parse(before));
	edit.hidden = hidden;
	bool done = patch_run(&edit, patch);
	bool same = expected == NULL ? !edit.otherwise
	                             : edit.otherwise && strcmp(buffer_text(&edit.told), expected) == 0;
	if (!ok(done && same, "told: %s", name))
		printf("# %s\n", buffer_text(&edit.told));
	patch_edit_release(&edit);
	json_object_put(patch);
}

static void
test_told(void)
{
	const char *before = "{\"a\":{\"__meta__\":{\"n\":1},\"b\":[1,{\"x\":2}]},\"x\":[1,2],\"c\":3}";

	tells("nothing is hidden", before, "[{\"op\":\"add\",\"path\":\"/a/b/0\",\"value\":[1]}]", NULL);
	tells("below a hidden member: nothing", before,
	      "[{\"op\":\"replace\",\"path\":\"/a/__meta__/n\",\"value\":5}]", "");
	tells(
		"a hidden member comes and goes: nothing", before,
		"[{\"op\":\"add\",\"path\":\"/a/b/1/__meta__\",\"value\":5},{\"op\":\"remove\",\"path\":\"/x\"}]",
		"");
	tells("a value that holds one", before,
	      "[{\"op\":\"replace\",\"path\":\"/c\",\"value\":{\"x\":1,\"y\":[{\"x\":0,\"z\":2}]}}]",
	      "{\"op\":\"replace\",\"path\":\"/c\",\"value\":{\"y\":[{\"z\":2}]}}");
	tells("what came before and after is told", before,
	      "[{\"op\":\"remove\",\"path\":\"/c\"},{\"op\":\"remove\",\"path\":\"/x/0\"},"
	      "{\"op\":\"add\",\"path\":\"/d\",\"value\":1}]",
	      "{\"op\":\"remove\",\"path\":\"/c\"},{\"op\":\"add\",\"path\":\"/d\",\"value\":1}");
	tells("moved out: added", before, "[{\"op\":\"move\",\"from\":\"/x/1\",\"path\":\"/d\"}]",
	      "{\"op\":\"add\",\"path\":\"/d\",\"value\":2}");
	tells("moved in: removed", before, "[{\"op\":\"move\",\"from\":\"/a/b/0\",\"path\":\"/x/0\"}]",
	      "{\"op\":\"remove\",\"path\":\"/a/b/0\"}");
	tells("moved from one to another: nothing", before,
	      "[{\"op\":\"move\",\"from\":\"/x\",\"path\":\"/a/__meta__/x\"}]", "");
	tells("moved where nothing is hidden", before,
	      "[{\"op\":\"move\",\"from\":\"/a/b/1\",\"path\":\"/d\"}]", NULL);
	tells("moved to where its parent was", before,
	      "[{\"op\":\"move\",\"from\":\"/x/0\",\"path\":\"/x\"}]", "");
	tells("a part in place of the whole", before,
	      "[{\"op\":\"move\",\"from\":\"/a/__meta__\",\"path\":\"\"}]",
	      "{\"op\":\"add\",\"path\":\"\",\"value\":{\"n\":1}}");
	tells("copied out: added", before, "[{\"op\":\"copy\",\"from\":\"/x\",\"path\":\"/d\"}]",
	      "{\"op\":\"add\",\"path\":\"/d\",\"value\":[1,2]}");
	tells("copied in: nothing", before, "[{\"op\":\"copy\",\"from\":\"/c\",\"path\":\"/x/-\"}]", "");
	tells("an array has no names", "[[1]]", "[{\"op\":\"add\",\"path\":\"/0/-\",\"value\":1}]", NULL);
}

/* ---- At random ---- */

/* A pointer that mostly leads somewhere. */
static char *
random_pointer(json_object *document)
{
	char *pointer = strdup(""), token[24];
	json_object *value = document;

	while (random_below(4) > 0) {
		const char *name = token;
		char *child;

		if (json_object_is_type(value, json_type_array)) {
			size_t index = random_below((unsigned)json_object_array_length(value) + 2);

			snprintf(token, sizeof(token), "%zu", index);
			if (random_below(8) == 0)
				strcpy(token, "-");
			value = json_object_array_get_idx(value, index);
		} else {
			name = random_key();
			if (json_object_is_type(value, json_type_object))
				value = json_object_object_get(value, name);
			else
				value = NULL;
		}
		child = pointer_child(pointer, name);
		free(pointer);
		pointer = child;
	}
	return pointer;
}

static bool
random_verb(struct patch_edit *edit)
{
	char *pointer = random_pointer(edit->document), *from = random_pointer(edit->document);
	bool done = false;

	switch (random_below(8)) {
	case 0:
	case 1:
	case 2:
		done = patch_add(edit, pointer, random_value(2));
		break;
	case 3:
		done = patch_replace(edit, pointer, random_value(2));
		break;
	case 4:
		done = patch_remove(edit, pointer);
		break;
	case 5:
	case 6:
		done = patch_move(edit, from, pointer);
		break;
	default:
		done = json_depth(edit->document, 20) < 20 && patch_copy(edit, from, pointer);
		break;
	}
	free(pointer);
	free(from);
	return done;
}

/* Do these operations make one value of the other?  from is taken. */
static bool
leads(json_object *from, struct buffer *written, json_object *to)
{
	json_object *operations = NULL;
	char *text = NULL;
	int len = asprintf(&text, "[%s]", buffer_text(written));
	bool same = json_parse(text, (size_t)len, &operations, NULL) && patch_apply(&from, operations) &&
	            json_equal(from, to);

	if (!same)
		printf("# %s\n", text);
	json_object_put(from);
	json_object_put(operations);
	free(text);
	return same;
}

static bool
is_written(json_object *original, struct patch_edit *edit)
{
	return leads(json_copy(original), &edit->operations, edit->document);
}

/* A value that shares parts with the document; taken. */
static bool
becomes(struct patch_edit *edit, json_object *value)
{
	json_object *wanted = json_copy(value);
	bool done = patch_become(edit, value) && json_equal(edit->document, wanted);

	json_object_put(wanted);
	return done;
}

/* Does a value of these operations hold what is hidden? */
static bool
tells_hidden(struct buffer *told, const char *const *names)
{
	json_object *operations = NULL, *value;
	char *text = NULL;
	int len = asprintf(&text, "[%s]", buffer_text(told));
	bool found = !json_parse(text, (size_t)len, &operations, NULL);

	for (size_t i = 0; !found && i < json_object_array_length(operations); i++)
		found = json_object_object_get_ex(json_object_array_get_idx(operations, i), "value", &value) &&
		        face_hides(value, names);
	json_object_put(operations);
	free(text);
	return found;
}

/* What is told leads from face to face, and says nothing of what is hidden. */
static bool
is_told(json_object *original, struct patch_edit *edit)
{
	struct buffer *told = edit->otherwise ? &edit->told : &edit->operations;
	json_object *face = face_of(edit->document, edit->hidden);
	bool same = !face_hides(face, edit->hidden) && leads(face_of(original, edit->hidden), told, face) &&
	            !tells_hidden(told, edit->hidden);

	json_object_put(face);
	return same;
}

static void
test_told_random(void)
{
	static const char *const lists[][4] = {{NULL},
	                                       {"id", NULL},
	                                       {"id", "a/b", "~1", NULL},
	                                       {"", "0", "-", NULL},
	                                       {"list", "name", "b", NULL}};
	unsigned otherwise = 0, wrong = 0;

	for (unsigned i = 0; i < 10000 && wrong == 0; i++) {
		json_object *document = random_value(5), *original;
		struct patch_edit edit;

		patch_edit_init(&edit, document);
		edit.hidden = lists[random_below(5)];
		original = json_copy(document);
		for (unsigned rounds = random_below(3) + 1; rounds > 0; rounds--) {
			for (unsigned verbs = random_below(12); verbs > 0; verbs--)
				random_verb(&edit);
			if (random_below(4) == 0)
				wrong += !becomes(&edit, random_like(edit.document, 3, 30));
			wrong += !is_told(original, &edit);
		}
		otherwise += edit.otherwise;
		patch_edit_undo(&edit);
		wrong += !json_equal(edit.document, original) || edit.otherwise || edit.told.len > 0;
		patch_edit_release(&edit);
		json_object_put(original);
	}
	ok(wrong == 0 && otherwise > 1000,
	   "10,000 edits at random with hidden members, %u told otherwise: from face to face", otherwise);
}

static void
test_random(void)
{
	unsigned changes = 0, wrong = 0;

	for (unsigned i = 0; i < 5000; i++) {
		json_object *document = random_value(4), *original = json_copy(document);
		struct patch_edit edit;

		patch_edit_init(&edit, document);
		for (unsigned verbs = random_below(20); verbs > 0; verbs--)
			changes += random_verb(&edit);
		if (random_below(4) == 0)
			wrong += !becomes(&edit, random_like(edit.document, 3, 30));
		wrong += !is_written(original, &edit);
		patch_edit_undo(&edit);
		wrong += !json_equal(edit.document, original);
		patch_edit_release(&edit);
		json_object_put(original);
	}
	ok(wrong == 0, "5,000 edits at random, %u changes: written operations repeat them, undo undoes them",
	   changes);
}

/* ---- Members that come and go: json-c's tables alone would become slow ---- */

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Adds and removes members of a large object, always other ones. */
static double
churn(struct patch_edit *edit, unsigned first, unsigned count)
{
	double start = seconds();
	char pointer[32];

	for (unsigned i = first; i < first + count; i++) {
		snprintf(pointer, sizeof(pointer), "/user%u", i);
		if (!patch_add(edit, pointer, json_object_new_boolean(1)))
			return -1;
		if (i >= 5000) {
			snprintf(pointer, sizeof(pointer), "/user%u", i - 5000);
			if (!patch_remove(edit, pointer))
				return -1;
		}
		patch_edit_accept(edit);
	}
	return seconds() - start;
}

static void
test_churn(void)
{
	struct patch_edit edit;
	double early, late;

	patch_edit_init(&edit, json_object_new_object());
	early = churn(&edit, 0, 10000);
	churn(&edit, 10000, 50000);
	late = churn(&edit, 60000, 10000);
	ok(early >= 0 && late >= 0 && json_object_object_length(edit.document) == 5000,
	   "5,000 members that come and go");
	ok(late < 10 * early, "stay fast: %.2f us a change, at first %.2f", late * 50, early * 200 / 3);
	patch_edit_release(&edit);
}

int
main(int argc, char **argv)
{
	const char *given = argc > 1 ? argv[1] : getenv("SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);

	printf("# seed %llu\n", (unsigned long long)seed);
	random_state = seed;
	test_rfc();
	test_apply();
	test_malformed();
	test_written();
	test_not_shared();
	test_refused();
	test_depth_of_frames();
	test_become();
	test_random();
	test_told();
	test_told_random();
	test_churn();
	return done();
}
