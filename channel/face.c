#include "face.h"

#include <string.h>

#include "json.h"
#include "memory.h"

bool
face_hides_name(const char *name, const char *const *names)
{
	while (*names != NULL && strcmp(*names, name) != 0)
		names++;
	return *names != NULL;
}

static bool
hides_element(json_object *array, const char *const *names)
{
	for (size_t i = 0; i < json_object_array_length(array); i++)
		if (face_hides(json_object_array_get_idx(array, i), names))
			return true;
	return false;
}

static bool
is_named(json_object *object, const char *const *names)
{
	for (; *names != NULL; names++)
		if (json_object_object_get_ex(object, *names, NULL))
			return true;
	return false;
}

bool
face_hides(json_object *value, const char *const *names)
{
	if (*names == NULL)
		return false;
	if (json_object_is_type(value, json_type_array))
		return hides_element(value, names);
	if (!json_object_is_type(value, json_type_object))
		return false;
	if (is_named(value, names))
		return true;
	json_object_object_foreach(value, key, member)
	{
		(void)key;
		if (face_hides(member, names))
			return true;
	}
	return false;
}

static json_object *
array_face(json_object *array, const char *const *names)
{
	size_t len = json_object_array_length(array);
	json_object *face = memory_need(json_object_new_array_ext((int)len));

	for (size_t i = 0; i < len; i++)
		if (json_object_array_add(face, face_of(json_object_array_get_idx(array, i), names)) != 0)
			memory_need(NULL);
	return face;
}

static json_object *
object_face(json_object *object, const char *const *names)
{
	json_object *face = memory_need(json_object_new_object());

	json_object_object_foreach(object, key, member)
	{
		if (!face_hides_name(key, names) &&
		    json_object_object_add(face, key, face_of(member, names)) != 0)
			memory_need(NULL);
	}
	return face;
}

json_object *
face_of(json_object *value, const char *const *names)
{
	if (json_object_is_type(value, json_type_array))
		return array_face(value, names);
	if (json_object_is_type(value, json_type_object))
		return object_face(value, names);
	return json_copy(value);
}
