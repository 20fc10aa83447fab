/*
 * face - a state without the members that clients do not see
 *
 * What is hidden are members of objects, at any depth, by their names; elements of arrays have none.
 */
#ifndef SEANCE_FACE_H
#define SEANCE_FACE_H

#include <json-c/json.h>
#include <stdbool.h>

/* face_hides_name - is a member of this name hidden? */
bool face_hides_name(const char *name, const char *const *names);

/* face_hides - is there anything to hide?  names ends with NULL; O(value) */
bool face_hides(json_object *value, const char *const *names);

/* face_of - a deep copy without what is hidden, owned by the caller; NULL for NULL; O(value) */
json_object *face_of(json_object *value, const char *const *names);

#endif
