#include "patch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "diff.h"
#include "face.h"
#include "json.h"
#include "memory.h"
#include "pointer.h"

/* ---- Containers: a member or element, by key in an object, by index in an array ---- */

/*
 * Puts a value behind the others and moves it to its index: json-c 0.16 has no insert.  The elements'
 * list is public in json-c's headers.
 */
static void
array_insert(json_object *array, size_t index, json_object *value)
{
	struct array_list *list = json_object_get_array(array);

	if (json_object_array_add(array, value) != 0)
		memory_need(NULL);
	memmove(&list->array[index + 1], &list->array[index],
	        (list->length - 1 - index) * sizeof(list->array[0]));
	list->array[index] = value;
}

static bool
is_array(json_object *container)
{
	return json_object_is_type(container, json_type_array);
}

static void
container_insert(json_object *container, const char *key, size_t index, json_object *value)
{
	if (is_array(container))
		array_insert(container, index, value);
	else if (json_object_object_add(container, key, value) != 0)
		memory_need(NULL);
}

static void
container_replace(json_object *container, const char *key, size_t index, json_object *value)
{
	int failed;

	if (is_array(container))
		failed = json_object_array_put_idx(container, index, value);
	else
		failed = json_object_object_add(container, key, value);
	if (failed != 0)
		memory_need(NULL);
}

static void
container_delete(json_object *container, const char *key, size_t index)
{
	if (is_array(container))
		json_object_array_del_idx(container, index, 1);
	else
		json_object_object_del(container, key);
}

static json_object *
container_get(json_object *container, const char *key, size_t index)
{
	if (is_array(container))
		return json_object_array_get_idx(container, index);
	return json_object_object_get(container, key);
}

/*
 * Builds an object's table anew when the slots where a key would be are a long run without an empty one.
 *
 * json-c marks a deleted member's slot as freed, never as empty again, and a search for an absent key
 * ends at an empty slot only: when the members of a large object come and go, every search would soon
 * look at all slots.  A new table has no freed slots, so that this is rare.
 *
 * Not while a callback runs: it may be going through the members as it removes them.
 */
static void
tidy_table(struct lh_table *table, const char *key)
{
	enum { LONG_RUN = 128 };
	size_t size = (size_t)table->size, slot = lh_get_hash(table, key) % size;
	size_t run = size < LONG_RUN ? size : LONG_RUN;
	size_t freed = 0;

	for (size_t i = 0; i < run; i++) {
		const void *found = table->table[(slot + i) % size].k;

		if (found == LH_EMPTY)
			return;
		freed += found == LH_FREED;
	}
	if (freed >= run / 4 && lh_table_resize(table, table->size) != 0)
		memory_need(NULL);
}

static void
container_tidy(json_object *container, const char *key)
{
	if (!is_array(container))
		tidy_table(json_object_get_object(container), key);
}

/* ---- Undoing ---- */

enum undo_kind { UNDO_DOCUMENT, UNDO_INSERT, UNDO_REPLACE, UNDO_DELETE };

/*
 * One change.  Undone newest first, so each finds the containers as it has left them: they are held by
 * the document or by older records, and borrowed here.
 */
struct patch_undo {
	struct patch_undo *older;
	enum undo_kind kind;
	json_object *container; /* borrowed; NULL for the whole document */
	json_object *value;     /* owned: what was there before */
	size_t index;
	char key[];
};

static void
remember(struct patch_edit *edit, enum undo_kind kind, struct pointer_place *place, json_object *value)
{
	const char *key = place->token != NULL ? place->token : "";
	size_t key_size = strlen(key) + 1;
	struct patch_undo *undo = memory_alloc(sizeof(*undo) + key_size);

	undo->older = edit->undo;
	undo->kind = kind;
	undo->container = place->parent;
	undo->value = value;
	undo->index = place->index;
	memcpy(undo->key, key, key_size);
	edit->undo = undo;
}

static void
undo_newest(struct patch_edit *edit)
{
	struct patch_undo *undo = edit->undo;

	switch (undo->kind) {
	case UNDO_DOCUMENT:
		json_object_put(edit->document);
		edit->document = undo->value;
		break;
	case UNDO_INSERT:
		container_delete(undo->container, undo->key, undo->index);
		container_tidy(undo->container, undo->key);
		break;
	case UNDO_REPLACE:
		container_replace(undo->container, undo->key, undo->index, undo->value);
		break;
	case UNDO_DELETE:
		container_insert(undo->container, undo->key, undo->index, undo->value);
		break;
	}
	edit->undo = undo->older;
	free(undo);
}

/* Before any record is forgotten: they hold the containers. */
static void
tidy_all(struct patch_edit *edit)
{
	for (struct patch_undo *undo = edit->undo; undo != NULL; undo = undo->older)
		if (undo->kind == UNDO_DELETE)
			container_tidy(undo->container, undo->key);
}

static void
forget_all(struct patch_edit *edit)
{
	while (edit->undo != NULL) {
		struct patch_undo *undo = edit->undo;

		edit->undo = undo->older;
		json_object_put(undo->value);
		free(undo);
	}
}

/* ---- Changing the document; values are taken only on success ---- */

static void
change_document(struct patch_edit *edit, struct pointer_place *whole, json_object *value)
{
	remember(edit, UNDO_DOCUMENT, whole, edit->document);
	edit->document = value;
}

static void
change_replace(struct patch_edit *edit, struct pointer_place *place, json_object *value)
{
	json_object *old = container_get(place->parent, place->token, place->index);

	remember(edit, UNDO_REPLACE, place, json_object_get(old));
	container_replace(place->parent, place->token, place->index, value);
}

static void
change_insert(struct patch_edit *edit, struct pointer_place *place, json_object *value)
{
	remember(edit, UNDO_INSERT, place, NULL);
	container_insert(place->parent, place->token, place->index, value);
}

static void
change_delete(struct patch_edit *edit, struct pointer_place *place)
{
	json_object *old = container_get(place->parent, place->token, place->index);

	remember(edit, UNDO_DELETE, place, json_object_get(old));
	container_delete(place->parent, place->token, place->index);
}

static bool
add_at(struct patch_edit *edit, const char *pointer, json_object *value)
{
	struct pointer_place place;

	if (!pointer_find(edit->document, pointer, &place))
		return false;
	if (place.parent == NULL)
		change_document(edit, &place, value);
	else if (place.exists && !is_array(place.parent))
		change_replace(edit, &place, value);
	else
		change_insert(edit, &place, value);
	pointer_release(&place);
	return true;
}

static bool
replace_at(struct patch_edit *edit, const char *pointer, json_object *value)
{
	struct pointer_place place;
	bool done = false;

	if (!pointer_find(edit->document, pointer, &place))
		return false;
	if (place.parent == NULL)
		change_document(edit, &place, value);
	else if (place.exists)
		change_replace(edit, &place, value);
	done = place.exists;
	pointer_release(&place);
	return done;
}

static bool
remove_at(struct patch_edit *edit, const char *pointer)
{
	struct pointer_place place;
	bool done;

	if (!pointer_find(edit->document, pointer, &place))
		return false;
	done = place.parent != NULL && place.exists;
	if (done)
		change_delete(edit, &place);
	pointer_release(&place);
	return done;
}

/* ---- What is refused ---- */

static int
count_tokens(const char *pointer)
{
	int count = 0;

	for (; *pointer != '\0'; pointer++)
		count += *pointer == '/';
	return count;
}

static bool
has_proto_token(const char *pointer)
{
	static const char token[] = "/__proto__";
	const size_t len = sizeof(token) - 1;

	for (; (pointer = strstr(pointer, token)) != NULL; pointer += len)
		if (pointer[len] == '/' || pointer[len] == '\0')
			return true;
	return false;
}

static bool
is_pointer_fit(const char *pointer)
{
	return !has_proto_token(pointer) && json_is_utf8(pointer, strlen(pointer));
}

/* May this value stand there? */
static bool
is_fit(const char *pointer, json_object *value)
{
	return is_pointer_fit(pointer) &&
	       json_unfit(value, JSON_DEPTH_STATE - count_tokens(pointer)) == NULL;
}

static bool
is_inside(const char *from, const char *to)
{
	size_t len = strlen(from);

	return strncmp(from, to, len) == 0 && to[len] == '/';
}

/* ---- Writing operations, and what clients are told of them ---- */

struct operation {
	const char *op;
	const char *from; /* NULL: none */
	const char *path;
	json_object *value; /* borrowed; of no account when from is there or nothing is put in */
	bool puts;          /* value counts */
};

static void
add_text_member(struct buffer *out, const char *name, const char *text)
{
	buffer_add_text(out, name);
	buffer_add_json_string(out, text, strlen(text));
}

static void
write_operation(struct buffer *out, const struct operation *operation)
{
	const char *text;
	size_t len;

	add_text_member(out, out->len > 0 ? ",{\"op\":" : "{\"op\":", operation->op);
	if (operation->from != NULL)
		add_text_member(out, ",\"from\":", operation->from);
	add_text_member(out, ",\"path\":", operation->path);
	if (operation->puts) {
		text = json_text(operation->value, &len);
		buffer_add_text(out, ",\"value\":");
		buffer_add(out, text, len);
	}
	buffer_add_char(out, '}');
}

/* From here on clients are told otherwise: so far it was the same. */
static void
tell_otherwise(struct patch_edit *edit)
{
	if (edit->otherwise)
		return;
	edit->otherwise = true;
	buffer_add(&edit->told, edit->operations.at, edit->operations.len);
}

/* An operation that puts a value in, without what is hidden in that. */
static void
tell_value(struct patch_edit *edit, const struct operation *operation)
{
	struct operation shown = *operation;

	if (!face_hides(operation->value, edit->hidden)) {
		if (edit->otherwise)
			write_operation(&edit->told, operation);
		return;
	}
	tell_otherwise(edit);
	shown.value = face_of(operation->value, edit->hidden);
	write_operation(&edit->told, &shown);
	json_object_put(shown.value);
}

static void
tell_instead(struct patch_edit *edit, const struct operation *operation)
{
	tell_otherwise(edit);
	if (operation->puts)
		tell_value(edit, operation);
	else
		write_operation(&edit->told, operation);
}

/* Between what is hidden and what is not, a move or copy is something else. */
static void
tell_from(struct patch_edit *edit, const struct operation *operation, bool to_hidden)
{
	bool moves = strcmp(operation->op, "move") == 0;

	if (!to_hidden)
		tell_instead(edit,
		             &(struct operation){
						 .op = "add", .path = operation->path, .value = operation->value, .puts = true});
	else if (moves)
		tell_instead(edit, &(struct operation){.op = "remove", .path = operation->from});
	else
		tell_otherwise(edit);
}

/* from_hidden: looked up before the operation; path and value are as after it. */
static void
tell(struct patch_edit *edit, const struct operation *operation, bool from_hidden)
{
	bool hidden = pointer_passes(edit->document, operation->path, edit->hidden);

	if (hidden && (from_hidden || operation->from == NULL))
		tell_otherwise(edit);
	else if (hidden != from_hidden)
		tell_from(edit, operation, hidden);
	else if (operation->puts)
		tell_value(edit, operation);
	else if (edit->otherwise)
		write_operation(&edit->told, operation);
}

static void
note(struct patch_edit *edit, const struct operation *operation, bool from_hidden)
{
	if (edit->unwritten)
		return;
	if (edit->hidden != NULL)
		tell(edit, operation, from_hidden);
	write_operation(&edit->operations, operation);
}

/* ---- Edits ---- */

void
patch_edit_init(struct patch_edit *edit, json_object *document)
{
	*edit = (struct patch_edit){.document = document};
}

static void
empty(struct buffer *operations)
{
	enum { ROOM_KEPT = 4096 };

	if (operations->room > ROOM_KEPT)
		buffer_release(operations);
	buffer_clear(operations);
}

static void
empty_operations(struct patch_edit *edit)
{
	empty(&edit->operations);
	empty(&edit->told);
	edit->otherwise = false;
}

void
patch_edit_undo(struct patch_edit *edit)
{
	while (edit->undo != NULL)
		undo_newest(edit);
	empty_operations(edit);
}

void
patch_edit_accept(struct patch_edit *edit)
{
	tidy_all(edit);
	forget_all(edit);
	empty_operations(edit);
}

void
patch_edit_release(struct patch_edit *edit)
{
	forget_all(edit);
	buffer_release(&edit->operations);
	buffer_release(&edit->told);
	json_object_put(edit->document);
	edit->document = NULL;
}

/* ---- Verbs ---- */

typedef bool change_function(struct patch_edit *edit, const char *pointer, json_object *value);

static bool
put_copy(struct patch_edit *edit, const char *pointer, json_object *value, change_function *change)
{
	json_object *copy = json_copy(value);

	if (change(edit, pointer, copy))
		return true;
	json_object_put(copy);
	return false;
}

bool
patch_add(struct patch_edit *edit, const char *pointer, json_object *value)
{
	bool done = is_fit(pointer, value) && put_copy(edit, pointer, value, add_at);

	if (done)
		note(edit, &(struct operation){.op = "add", .path = pointer, .value = value, .puts = true},
		     false);
	json_object_put(value);
	return done;
}

bool
patch_replace(struct patch_edit *edit, const char *pointer, json_object *value)
{
	bool done = is_fit(pointer, value) && put_copy(edit, pointer, value, replace_at);

	if (done)
		note(edit, &(struct operation){.op = "replace", .path = pointer, .value = value, .puts = true},
		     false);
	json_object_put(value);
	return done;
}

bool
patch_remove(struct patch_edit *edit, const char *pointer)
{
	if (!is_pointer_fit(pointer) || !remove_at(edit, pointer))
		return false;
	note(edit, &(struct operation){.op = "remove", .path = pointer}, false);
	return true;
}

/* Takes the value out and puts it back in elsewhere: `to` counts as if it were gone already. */
static bool
move_value(struct patch_edit *edit, const char *from, const char *to, json_object *value)
{
	if (strcmp(from, to) == 0)
		return true;
	if (is_inside(from, to) || !remove_at(edit, from))
		return false;
	if (add_at(edit, to, json_object_get(value)))
		return true;
	json_object_put(value);
	undo_newest(edit);
	return false;
}

static bool
is_hidden(const struct patch_edit *edit, const char *pointer)
{
	return edit->hidden != NULL && pointer_passes(edit->document, pointer, edit->hidden);
}

bool
patch_move(struct patch_edit *edit, const char *from, const char *to)
{
	json_object *value;
	bool hidden;

	if (!is_pointer_fit(from) || !pointer_get(edit->document, from, &value))
		return false;
	hidden = is_hidden(edit, from);
	if (!is_fit(to, value) || !move_value(edit, from, to, value))
		return false;
	note(edit, &(struct operation){.op = "move", .from = from, .path = to, .value = value}, hidden);
	return true;
}

bool
patch_copy(struct patch_edit *edit, const char *from, const char *to)
{
	json_object *value;
	bool hidden;

	if (!is_pointer_fit(from) || !pointer_get(edit->document, from, &value))
		return false;
	hidden = is_hidden(edit, from);
	if (!is_fit(to, value) || !put_copy(edit, to, value, add_at))
		return false;
	note(edit, &(struct operation){.op = "copy", .from = from, .path = to, .value = value}, hidden);
	return true;
}

/* ---- Patches ---- */

/* A member that is a pointer; NULL when there is none. */
static const char *
pointer_member(json_object *operation, const char *key)
{
	json_object *value;
	const char *text;

	if (!json_object_object_get_ex(operation, key, &value) ||
	    !json_object_is_type(value, json_type_string))
		return NULL;
	text = json_object_get_string(value);
	return strlen(text) == (size_t)json_object_get_string_len(value) ? text : NULL;
}

static bool
run_with_value(struct patch_edit *edit, const char *op, const char *path, json_object *value)
{
	json_object *found;

	if (strcmp(op, "add") == 0)
		return patch_add(edit, path, json_object_get(value));
	if (strcmp(op, "replace") == 0)
		return patch_replace(edit, path, json_object_get(value));
	assert(strcmp(op, "test") == 0);
	return pointer_get(edit->document, path, &found) && json_equal(found, value);
}

static bool
is_one_of(const char *word, const char *a, const char *b, const char *c)
{
	return strcmp(word, a) == 0 || strcmp(word, b) == 0 || strcmp(word, c) == 0;
}

static bool
run_operation(struct patch_edit *edit, json_object *operation)
{
	const char *op, *path, *from;
	json_object *value;

	if (!json_object_is_type(operation, json_type_object))
		return false;
	op = pointer_member(operation, "op");
	path = pointer_member(operation, "path");
	if (op == NULL || path == NULL)
		return false;
	if (strcmp(op, "remove") == 0)
		return patch_remove(edit, path);
	if (is_one_of(op, "add", "replace", "test"))
		return json_object_object_get_ex(operation, "value", &value) &&
		       run_with_value(edit, op, path, value);
	from = pointer_member(operation, "from");
	if (from == NULL)
		return false;
	if (strcmp(op, "move") == 0)
		return patch_move(edit, from, path);
	return strcmp(op, "copy") == 0 && patch_copy(edit, from, path);
}

bool
patch_run(struct patch_edit *edit, json_object *operations)
{
	if (!json_object_is_type(operations, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(operations); i++)
		if (!run_operation(edit, json_object_array_get_idx(operations, i)))
			return false;
	return true;
}

/* The new value may share parts with the document, in other places: what is put in is copied beforehand. */
static bool
become_by(struct patch_edit *edit, json_object *from, json_object *to)
{
	json_object *shared = diff_make(from, to), *operations = json_copy(shared);
	bool done = patch_run(edit, operations);

	json_object_put(shared);
	json_object_put(operations);
	return done;
}

/* What clients see is compared by itself: what they are told is not to depend on what is hidden. */
static void
tell_difference(struct patch_edit *edit, json_object *value)
{
	json_object *from = face_of(edit->document, edit->hidden), *to = face_of(value, edit->hidden);
	struct patch_edit face;

	patch_edit_init(&face, from);
	become_by(&face, from, to);
	tell_otherwise(edit);
	if (edit->told.len > 0 && face.operations.len > 0)
		buffer_add_char(&edit->told, ',');
	buffer_add(&edit->told, face.operations.at, face.operations.len);
	patch_edit_release(&face);
	json_object_put(to);
}

static bool
become(struct patch_edit *edit, json_object *value)
{
	const char *const *hidden = edit->hidden;
	bool hides = hidden != NULL && (face_hides(edit->document, hidden) || face_hides(value, hidden));
	bool done;

	if (!hides)
		return become_by(edit, edit->document, value);
	tell_difference(edit, value);
	edit->hidden = NULL;
	done = become_by(edit, edit->document, value);
	edit->hidden = hidden;
	return done;
}

bool
patch_become(struct patch_edit *edit, json_object *value)
{
	bool done = json_unfit(value, JSON_DEPTH_STATE) == NULL;

	if (done) {
		done = become(edit, value);
		assert(done);
	}
	json_object_put(value);
	return done;
}

bool
patch_apply(json_object **document, json_object *operations)
{
	struct patch_edit edit;
	bool done;

	patch_edit_init(&edit, *document);
	edit.unwritten = true;
	done = patch_run(&edit, operations);
	if (done)
		patch_edit_accept(&edit);
	else
		patch_edit_undo(&edit);
	*document = edit.document;
	return done;
}
