/*
 * JSON Patch: an edit's written operations lead to its document, undoing leads back, what is refused
 * changes nothing.
 *
 * Input: bytes for a document, then for one verb after the other.
 */
#include "json_bytes.h"

/* The written operations, applied to what there was. */
static void
check_written(const struct patch_edit *edit, json_object *before)
{
	json_object *copy = json_copy(before), *operations = NULL;
	size_t len = edit->operations.len + 2;
	char *text = malloc(len);

	text[0] = '[';
	if (edit->operations.len > 0)
		memcpy(text + 1, edit->operations.at, edit->operations.len);
	text[len - 1] = ']';
	must(json_parse(text, len, &operations, NULL));
	must(patch_apply(&copy, operations) && json_equal(copy, edit->document));
	json_object_put(operations);
	json_object_put(copy);
	free(text);
}

/* Some verbs, up to one that says stop; each changes the document only when it is taken. */
static void
run_verbs(struct fuzz_bytes *in, struct patch_edit *edit)
{
	for (int i = 0; i < 32 && in->left > 0 && !fuzz_is_large(edit->document); i++) {
		json_object *before = json_copy(edit->document);
		size_t len = edit->operations.len;

		if (fuzz_verb(in, edit))
			must(edit->operations.len > len);
		else
			must(edit->operations.len == len && json_equal(edit->document, before));
		json_object_put(before);
	}
	must(json_unfit(edit->document, JSON_DEPTH_STATE) == NULL);
}

FUZZ_TARGET(patch)
{
	struct fuzz_bytes in = {data, size};
	json_object *before = fuzz_value(&in, 6);
	struct patch_edit edit;

	patch_edit_init(&edit, json_copy(before));
	while (json_unfit(before, JSON_DEPTH_STATE) == NULL && in.left > 0) {
		run_verbs(&in, &edit);
		check_written(&edit, before);
		if (fuzz_byte(&in) % 2 == 0) {
			patch_edit_undo(&edit);
			must(json_equal(edit.document, before));
		} else {
			patch_edit_accept(&edit);
			json_object_put(before);
			before = json_copy(edit.document);
		}
		must(edit.operations.len == 0);
		if (fuzz_is_large(before))
			break;
	}
	patch_edit_release(&edit);
	json_object_put(before);
}
