/*
 * Differences: applied to the one value they give the other, whether read from text or not, and by
 * patch_become, which can be undone.
 *
 * Input: a byte; bytes for a value; then bytes for another value, or for verbs that make it of the first.
 */
#include "../../channel/diff.h"
#include "json_bytes.h"

static void
check_patch(json_object *from, json_object *to, json_object *operations)
{
	json_object *copy = json_copy(from);

	must((json_object_array_length(operations) == 0) == json_equal(from, to));
	must(patch_apply(&copy, operations) && json_equal(copy, to));
	json_object_put(copy);
}

static void
check_diff(json_object *from, json_object *to)
{
	json_object *operations = diff_make(from, to), *again = NULL;
	size_t len;
	const char *text = json_text(operations, &len);

	check_patch(from, to, operations);
	must(json_parse(text, len, &again, NULL));
	check_patch(from, to, again);
	json_object_put(operations);
	json_object_put(again);
}

static void
check_become(json_object *from, json_object *to)
{
	struct patch_edit edit;

	patch_edit_init(&edit, json_copy(from));
	must(patch_become(&edit, json_object_get(to)) && json_equal(edit.document, to));
	patch_edit_undo(&edit);
	must(json_equal(edit.document, from));
	patch_edit_release(&edit);
}

/* from, changed here and there; owned. */
static json_object *
changed(struct fuzz_bytes *in, json_object *from)
{
	struct patch_edit edit;
	json_object *to;

	patch_edit_init(&edit, json_copy(from));
	for (int i = 0; i < 64 && in->left > 0 && !fuzz_is_large(edit.document); i++)
		(void)fuzz_verb(in, &edit);
	to = json_object_get(edit.document);
	patch_edit_release(&edit);
	return to;
}

FUZZ_TARGET(diff)
{
	struct fuzz_bytes in = {data, size};
	bool other = fuzz_byte(&in) % 2 == 0;
	json_object *from = fuzz_value(&in, 6), *to = NULL;

	if (json_unfit(from, JSON_DEPTH_STATE) == NULL) {
		to = other ? fuzz_value(&in, 6) : changed(&in, from);
		if (json_unfit(to, JSON_DEPTH_STATE) == NULL) {
			json_object *kept = json_copy(from);

			check_diff(from, to);
			check_diff(to, from);
			check_become(from, to);
			must(json_equal(from, kept));
			json_object_put(kept);
		}
	}
	json_object_put(from);
	json_object_put(to);
}
