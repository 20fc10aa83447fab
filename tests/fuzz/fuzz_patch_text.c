/*
 * JSON Patch from text: any document, any operations; all is applied, or all can be undone.
 *
 * Input: a document, a byte 0, an array of operations.
 */
#include "../../channel/json.h"
#include "../../channel/patch.h"
#include "fuzz.h"

static void
run(json_object *document, json_object *operations)
{
	json_object *copy = json_copy(document);
	struct patch_edit edit;
	bool done;

	patch_edit_init(&edit, json_copy(document));
	done = patch_run(&edit, operations);
	must(json_unfit(edit.document, JSON_DEPTH_STATE) == NULL);
	must(patch_apply(&copy, operations) == done);
	must(json_equal(copy, done ? edit.document : document));
	patch_edit_undo(&edit);
	must(json_equal(edit.document, document));
	patch_edit_release(&edit);
	json_object_put(copy);
}

FUZZ_TARGET(patch_text)
{
	const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
	json_object *document = NULL, *operations = NULL;

	if (end == NULL || !json_parse((const char *)data, (size_t)(end - data), &document, NULL))
		return;
	if (json_parse((const char *)end + 1, size - (size_t)(end - data) - 1, &operations, NULL)) {
		/* a copy into a copy doubles: not endlessly */
		if (json_unfit(document, JSON_DEPTH_STATE) == NULL &&
		    json_object_is_type(operations, json_type_array) &&
		    json_object_array_length(operations) <= 12)
			run(document, operations);
	}
	json_object_put(document);
	json_object_put(operations);
}
