/*
 * patch - JSON Patch (RFC 6902): operations applied in place, written down, and undone
 *
 * An edit is a document being changed: each verb is applied at once, appended to `operations` as text,
 * and remembered so that all can be undone.
 *
 * With `hidden` the edit also keeps what is to be told to those who see the document's face (face.h): the
 * same cost, and nothing of it as long as that is the same.
 *
 * A document shares nothing with anybody: verbs put a deep copy of the value into it.  So no later
 * change of the document shows in a value that somebody else holds, nor the other way round, and
 * a document may be used under another lock than the values that went into it.
 */
#ifndef SEANCE_PATCH_H
#define SEANCE_PATCH_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "buffer.h"

struct patch_undo;

struct patch_edit {
	json_object *document;     /* owned: the value as it stands now; NULL is JSON null */
	struct buffer operations;  /* text of the array without its brackets */
	bool unwritten;            /* set after init: operations are not written down */
	struct patch_undo *undo;   /* owned: newest first */
	const char *const *hidden; /* set after init: names of members that clients do not see; borrowed */
	bool otherwise;            /* clients are to be told otherwise than by operations: */
	struct buffer told;        /* ... these, which do to face_of(document) what operations do to it */
};

/* patch_edit_init - begins; document is taken and must be fit (json_unfit) and nobody else's */
void patch_edit_init(struct patch_edit *edit, json_object *document);

/* patch_edit_undo - the document as it was at init (or at the last accept); operations empty again;
 * the members of an object may come in another order */
void patch_edit_undo(struct patch_edit *edit);

/* patch_edit_accept - forgets how to undo and empties operations; the document stays as it is */
void patch_edit_accept(struct patch_edit *edit);

/* patch_edit_release - frees all of it, the document too */
void patch_edit_release(struct patch_edit *edit);

/*
 * patch_add, patch_replace, patch_remove, patch_move, patch_copy - the verbs of RFC 6902, section 4
 *
 * The whole document ("") can be added and replaced, not removed.
 *
 * pointer   A JSON Pointer, borrowed.
 * value     Taken, also on failure.
 * Returns   true; false, with nothing changed, when the pointer leads nowhere or has a token
 *           "__proto__" or is not UTF-8, the value is not fit (json_unfit), a move would go into
 *           itself, or the document would be deeper than JSON_DEPTH_STATE.
 * Cost      O(pointer's bytes + value), and for arrays O(elements moved).
 */
bool patch_add(struct patch_edit *edit, const char *pointer, json_object *value);
bool patch_replace(struct patch_edit *edit, const char *pointer, json_object *value);
bool patch_remove(struct patch_edit *edit, const char *pointer);
bool patch_move(struct patch_edit *edit, const char *from, const char *to);
bool patch_copy(struct patch_edit *edit, const char *from, const char *to);

/*
 * patch_run - all operations of a patch, one after the other, through the verbs
 *
 * operations   Borrowed: an array of RFC 6902 operations, `test` included (it is not written down).
 * Returns      true; false at the first that fails: those before it stay, for patch_edit_undo.
 */
bool patch_run(struct patch_edit *edit, json_object *operations);

/*
 * patch_become - the document becomes another value by the operations that diff_make finds
 *
 * value     Taken, also on failure.
 * Returns   true; false, with nothing changed, when the value is not fit.
 * Cost      diff_make's.
 */
bool patch_become(struct patch_edit *edit, json_object *value);

/*
 * patch_apply - all operations of a patch, as read from the log
 *
 * document     In and out: owned by the caller and nobody else's; as it was after a failure.
 * operations   Borrowed: an array of RFC 6902 operations, `test` included.
 * Returns      true when all could be applied.
 */
bool patch_apply(json_object **document, json_object *operations);

#endif
