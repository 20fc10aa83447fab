#include "diff.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "memory.h"

struct diff {
	json_object *operations;
	size_t bytes; /* about how long their text is */

	char *path; /* of what is being compared; not ended with NUL */
	size_t path_len, path_room;
};

static void diff_values(struct diff *diff, json_object *from, json_object *to, size_t few);

static bool
are_both(json_object *a, json_object *b, enum json_type type)
{
	return json_object_is_type(a, type) && json_object_is_type(b, type);
}

/* ---- The path ---- */

static void
path_append(struct diff *diff, char c)
{
	if (diff->path_len == diff->path_room) {
		diff->path_room = diff->path_room > 0 ? 2 * diff->path_room : 256;
		diff->path = memory_realloc(diff->path, diff->path_room);
	}
	diff->path[diff->path_len++] = c;
}

static void
path_push_key(struct diff *diff, const char *key)
{
	path_append(diff, '/');
	for (; *key != '\0'; key++) {
		if (*key == '~' || *key == '/') {
			path_append(diff, '~');
			path_append(diff, *key == '~' ? '0' : '1');
		} else {
			path_append(diff, *key);
		}
	}
}

static void
path_push_index(struct diff *diff, size_t index)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%zu", index);
	path_push_key(diff, digits);
}

/* ---- Operations ---- */

static size_t text_size(json_object *value, size_t limit);

static size_t
array_text_size(json_object *array, size_t limit)
{
	size_t size = 2;

	for (size_t i = 0; size < limit && i < json_object_array_length(array); i++)
		size += 1 + text_size(json_object_array_get_idx(array, i), limit - size);
	return size;
}

static size_t
object_text_size(json_object *object, size_t limit)
{
	struct lh_entry *entry = lh_table_head(json_object_get_object(object));
	size_t size = 2;

	for (; size < limit && entry != NULL; entry = lh_entry_next(entry))
		size += 4 + strlen(lh_entry_k(entry)) + text_size(lh_entry_v(entry), limit - size);
	return size;
}

/* About how long the text of a value is; stops counting at the limit. */
static size_t
text_size(json_object *value, size_t limit)
{
	switch (json_object_get_type(value)) {
	case json_type_string:
		return 2 + (size_t)json_object_get_string_len(value);
	case json_type_array:
		return array_text_size(value, limit);
	case json_type_object:
		return object_text_size(value, limit);
	default:
		return 4;
	}
}

static void
add_member(json_object *object, const char *key, json_object *value)
{
	const unsigned options = JSON_C_OBJECT_ADD_KEY_IS_NEW | JSON_C_OBJECT_ADD_CONSTANT_KEY;

	if (json_object_object_add_ex(object, key, value, options) != 0)
		memory_need(NULL);
}

static json_object *
make_operation(struct diff *diff, const char *op)
{
	json_object *operation = memory_need(json_object_new_object());
	json_object *path = json_object_new_string_len(diff->path, (int)diff->path_len);

	add_member(operation, "op", memory_need(json_object_new_string(op)));
	add_member(operation, "path", memory_need(path));
	diff->bytes += strlen("{\"op\":,\"path\":\"\"},") + 2 + strlen(op) + diff->path_len;
	if (json_object_array_add(diff->operations, operation) != 0)
		memory_need(NULL);
	return operation;
}

static void
write_remove(struct diff *diff)
{
	make_operation(diff, "remove");
}

static void
write_value(struct diff *diff, const char *op, json_object *value)
{
	add_member(make_operation(diff, op), "value", json_object_get(value));
	diff->bytes += strlen(",\"value\":") + text_size(value, SIZE_MAX);
}

/* The operations so far. */
struct mark {
	size_t count, bytes;
};

static struct mark
mark_here(struct diff *diff)
{
	return (struct mark){json_object_array_length(diff->operations), diff->bytes};
}

/* Replaces the operations since the mark by one for the whole value, if that is shorter. */
static void
shorten(struct diff *diff, struct mark mark, json_object *to, size_t few)
{
	size_t count = json_object_array_length(diff->operations) - mark.count;
	size_t spent = diff->bytes - mark.bytes;
	size_t frame = strlen("{\"op\":\"replace\",\"path\":\"\",\"value\":},") + diff->path_len;

	if (count <= few || spent <= frame || text_size(to, spent - frame) >= spent - frame)
		return;
	json_object_array_del_idx(diff->operations, mark.count, count);
	diff->bytes = mark.bytes;
	write_value(diff, "replace", to);
}

/* ---- Objects ---- */

static void
remove_missing(struct diff *diff, json_object *from, json_object *to)
{
	size_t path_len = diff->path_len;
	struct lh_entry *entry;

	lh_foreach(json_object_get_object(from), entry)
	{
		if (json_object_object_get_ex(to, lh_entry_k(entry), NULL))
			continue;
		path_push_key(diff, lh_entry_k(entry));
		write_remove(diff);
		diff->path_len = path_len;
	}
}

static void
diff_objects(struct diff *diff, json_object *from, json_object *to)
{
	size_t path_len = diff->path_len;
	struct lh_entry *entry;
	json_object *old;

	remove_missing(diff, from, to);
	lh_foreach(json_object_get_object(to), entry)
	{
		json_object *value = lh_entry_v(entry);

		path_push_key(diff, lh_entry_k(entry));
		if (json_object_object_get_ex(from, lh_entry_k(entry), &old))
			diff_values(diff, old, value, DIFF_FEW);
		else
			write_value(diff, "add", value);
		diff->path_len = path_len;
	}
}

/* ---- Arrays: which elements are equal ---- */

/* What is left of two arrays without their common ends. */
struct middle {
	json_object *from, *to;
	size_t start;            /* the same in both */
	size_t from_len, to_len; /* elements */
};

static json_object *
element(json_object *array, size_t index)
{
	return json_object_array_get_idx(array, index);
}

static struct middle
find_middle(json_object *from, json_object *to)
{
	size_t from_len = json_object_array_length(from), to_len = json_object_array_length(to);
	struct middle middle = {.from = from, .to = to};

	while (middle.start < from_len && middle.start < to_len &&
	       json_equal(element(from, middle.start), element(to, middle.start)))
		middle.start++;
	while (middle.start < from_len && middle.start < to_len &&
	       json_equal(element(from, from_len - 1), element(to, to_len - 1))) {
		from_len--;
		to_len--;
	}
	middle.from_len = from_len - middle.start;
	middle.to_len = to_len - middle.start;
	return middle;
}

/* Numbers for values, the same for equal ones: a hash table with open addressing. */
struct classes {
	struct class_slot {
		json_object *value; /* borrowed */
		uint64_t hash;
		bool used, in_from, in_to;
	} * slots;
	size_t size; /* a power of two */
};

static uint32_t
classify(struct classes *classes, json_object *value)
{
	uint64_t hash = json_hash(value);
	size_t at = hash & (classes->size - 1);
	struct class_slot *slot = &classes->slots[at];

	while (slot->used && (slot->hash != hash || !json_equal(slot->value, value))) {
		at = (at + 1) & (classes->size - 1);
		slot = &classes->slots[at];
	}
	if (!slot->used) {
		slot->used = true;
		slot->hash = hash;
		slot->value = value;
	}
	return (uint32_t)at;
}

/* Elements that occur on both sides: no other can be part of a common subsequence. */
struct side {
	uint32_t *class; /* of each such element */
	uint32_t *index; /* its place in the middle */
	size_t len;
};

static void
side_init(struct side *side, size_t room)
{
	side->class = memory_array(room, sizeof(*side->class));
	side->index = memory_array(room, sizeof(*side->index));
	side->len = 0;
}

static void
side_release(struct side *side)
{
	free(side->class);
	free(side->index);
}

static void
side_filter(struct side *side, struct classes *classes, const uint32_t *class, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		struct class_slot *slot = &classes->slots[class[i]];

		if (!slot->in_from || !slot->in_to)
			continue;
		side->class[side->len] = class[i];
		side->index[side->len++] = (uint32_t)i;
	}
}

static size_t
table_size(size_t items)
{
	size_t size = 16;

	while (size < 2 * items)
		size *= 2;
	return size;
}

static void
find_sides(struct middle *middle, struct side *from, struct side *to)
{
	size_t total = middle->from_len + middle->to_len;
	struct classes classes = {.size = table_size(total)};
	uint32_t *class = memory_array(total, sizeof(*class));
	uint32_t *to_class = class + middle->from_len;

	classes.slots = memory_zeroed(classes.size, sizeof(*classes.slots));
	for (size_t i = 0; i < middle->from_len; i++) {
		class[i] = classify(&classes, element(middle->from, middle->start + i));
		classes.slots[class[i]].in_from = true;
	}
	for (size_t i = 0; i < middle->to_len; i++) {
		to_class[i] = classify(&classes, element(middle->to, middle->start + i));
		classes.slots[to_class[i]].in_to = true;
	}
	side_filter(from, &classes, class, middle->from_len);
	side_filter(to, &classes, to_class, middle->to_len);
	free(classes.slots);
	free(class);
}

/* ---- Arrays: the longest common subsequence ---- */

/*
 * Myers' greedy search (An O(ND) Difference Algorithm, 1986).  Round d finds, on each diagonal
 * k = x - y of -d, -d + 2 ... d, the furthest x that d insertions and removals can reach.  All rounds
 * are kept one after the other, so that the way can be followed back.
 */
struct search {
	struct side *from, *to;
	int64_t *furthest; /* round d begins at d (d + 1) / 2 */
	size_t room;
	size_t steps; /* equal elements walked over, all in all */
};

enum { STEPS_MAX = 1 << 24 }; /* about 20 ms */

static int64_t *
round_start(struct search *search, int64_t d)
{
	return search->furthest + d * (d + 1) / 2;
}

/* Where a way of d steps comes from, on its way to diagonal k: by a removal (x grows) or an insertion? */
static bool
comes_by_insertion(struct search *search, int64_t d, int64_t k)
{
	int64_t *before = round_start(search, d - 1);
	int64_t slot = (k + d) / 2; /* of k + 1 in the round before; k - 1 is left of it */

	return k == -d || (k != d && before[slot - 1] < before[slot]);
}

static int64_t
step_to(struct search *search, int64_t d, int64_t k)
{
	int64_t *before = round_start(search, d - 1);
	int64_t slot = (k + d) / 2;

	if (d == 0)
		return 0;
	return comes_by_insertion(search, d, k) ? before[slot] : before[slot - 1] + 1;
}

static int64_t
walk_equal(struct search *search, int64_t x, int64_t k)
{
	int64_t from_len = (int64_t)search->from->len, to_len = (int64_t)search->to->len;
	int64_t start = x;

	while (x < from_len && x - k < to_len && search->from->class[x] == search->to->class[x - k])
		x++;
	search->steps += (size_t)(x - start) + 1;
	return x;
}

static void
make_round(struct search *search, int64_t d)
{
	size_t needed = (size_t)((d + 1) * (d + 2) / 2);

	if (needed <= search->room)
		return;
	search->room = 2 * needed;
	search->furthest = memory_realloc(search->furthest, search->room * sizeof(*search->furthest));
}

/* One round; true when it reaches the end of both. */
static bool
search_round(struct search *search, int64_t d)
{
	int64_t from_len = (int64_t)search->from->len, to_len = (int64_t)search->to->len;

	make_round(search, d);
	for (int64_t k = -d; k <= d; k += 2) {
		int64_t x = walk_equal(search, step_to(search, d, k), k);

		round_start(search, d)[(k + d) / 2] = x;
		if (x >= from_len && x - k >= to_len)
			return true;
	}
	return false;
}

/* Follows the way back and notes which elements were walked over together. */
static void
note_pairs(struct search *search, int64_t d, uint32_t *partner)
{
	int64_t x = (int64_t)search->from->len, k = x - (int64_t)search->to->len;

	for (; d >= 0; d--) {
		int64_t start = step_to(search, d, k);

		for (; x > start; x--)
			partner[search->from->index[x - 1]] = search->to->index[x - 1 - k] + 1;
		if (d > 0 && comes_by_insertion(search, d, k)) {
			k++;
		} else {
			k--;
			x--;
		}
	}
}

/*
 * For each element of the middle of `from` the one of `to` that it stays as, plus 1; 0 for none.
 * Owned by the caller.  All 0 when the search was given up.
 */
static uint32_t *
find_partners(struct middle *middle)
{
	uint32_t *partner = memory_zeroed(middle->from_len, sizeof(*partner));
	struct side from, to;
	struct search search = {.from = &from, .to = &to};

	side_init(&from, middle->from_len);
	side_init(&to, middle->to_len);
	find_sides(middle, &from, &to);
	for (int64_t d = 0; d <= DIFF_LCS_MAX && search.steps < STEPS_MAX; d++) {
		if (search_round(&search, d)) {
			note_pairs(&search, d, partner);
			break;
		}
	}
	free(search.furthest);
	side_release(&from);
	side_release(&to);
	return partner;
}

/* ---- Arrays: the operations ---- */

/* Elements between two that stay: from[i .. i_end) became to[j .. j_end). */
struct gap {
	size_t i, i_end, j, j_end;
};

/* How many members or elements two values have in common, not looking any deeper. */
static size_t
likeness(json_object *a, json_object *b)
{
	struct lh_entry *entry;
	json_object *other;
	size_t same = 0;

	if (are_both(a, b, json_type_object)) {
		lh_foreach(json_object_get_object(a), entry)
		{
			if (json_object_object_get_ex(b, lh_entry_k(entry), &other))
				same += json_equal(lh_entry_v(entry), other);
		}
	} else if (are_both(a, b, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(a) && i < json_object_array_length(b); i++)
			same += json_equal(element(a, i), element(b, i));
	}
	return same;
}

/*
 * When one side of a gap has more elements: do the others belong together at the end of the gap rather
 * than at its beginning?  (One put before another that changed, or removed before it.)
 */
static bool
is_alike_at_end(json_object *from, json_object *to, struct gap gap, size_t pairs)
{
	enum { PAIRS_MAX = 16 };
	size_t at_start = 0, at_end = 0;

	if (gap.i_end - gap.i == gap.j_end - gap.j || pairs > PAIRS_MAX)
		return false;
	for (size_t k = 0; k < pairs; k++) {
		at_start += likeness(element(from, gap.i + k), element(to, gap.j + k));
		at_end += likeness(element(from, gap.i_end - 1 - k), element(to, gap.j_end - 1 - k));
	}
	return at_end > at_start;
}

/* All before index j is as in `to` already, so j is the index in the array as it is then. */
static void
write_pairs(struct diff *diff, json_object *from, size_t i, json_object *to, size_t j, size_t count)
{
	size_t path_len = diff->path_len;

	for (size_t k = 0; k < count; k++) {
		path_push_index(diff, j + k);
		diff_values(diff, element(from, i + k), element(to, j + k), 0);
		diff->path_len = path_len;
	}
}

/* Removes and adds at index j; only one of them happens. */
static void
write_surplus(struct diff *diff, size_t removed, json_object *to, size_t j, size_t added)
{
	size_t path_len = diff->path_len;

	path_push_index(diff, j);
	for (; removed > 0; removed--)
		write_remove(diff);
	diff->path_len = path_len;
	for (; added > 0; added--, j++) {
		path_push_index(diff, j);
		write_value(diff, "add", element(to, j));
		diff->path_len = path_len;
	}
}

static void
write_gap(struct diff *diff, json_object *from, json_object *to, struct gap gap)
{
	size_t removed = gap.i_end - gap.i, added = gap.j_end - gap.j;
	size_t pairs = removed < added ? removed : added;

	removed -= pairs;
	added -= pairs;
	if (is_alike_at_end(from, to, gap, pairs)) {
		write_surplus(diff, removed, to, gap.j, added);
		write_pairs(diff, from, gap.i + removed, to, gap.j + added, pairs);
	} else {
		write_pairs(diff, from, gap.i, to, gap.j, pairs);
		write_surplus(diff, removed, to, gap.j + pairs, added);
	}
}

static void
write_gaps(struct diff *diff, struct middle *middle, const uint32_t *partner)
{
	size_t start = middle->start;
	struct gap gap = {.i = start, .j = start};

	for (size_t i = 0; i < middle->from_len; i++) {
		if (partner[i] == 0)
			continue;
		gap.i_end = start + i;
		gap.j_end = start + partner[i] - 1;
		write_gap(diff, middle->from, middle->to, gap);
		gap.i = gap.i_end + 1;
		gap.j = gap.j_end + 1;
	}
	gap.i_end = start + middle->from_len;
	gap.j_end = start + middle->to_len;
	write_gap(diff, middle->from, middle->to, gap);
}

static void
diff_arrays(struct diff *diff, json_object *from, json_object *to)
{
	struct middle middle = find_middle(from, to);
	size_t start = middle.start;
	uint32_t *partner;

	if (middle.from_len == 0 || middle.to_len == 0) {
		write_gap(diff, from, to,
		          (struct gap){start, start + middle.from_len, start, start + middle.to_len});
		return;
	}
	partner = find_partners(&middle);
	write_gaps(diff, &middle, partner);
	free(partner);
}

/* ---- Values ---- */

/* few: operations inside that are not worth replacing the whole value */
static void
diff_values(struct diff *diff, json_object *from, json_object *to, size_t few)
{
	struct mark mark = mark_here(diff);
	bool is_root = diff->path_len == 0;

	if (from == to)
		return;
	if (are_both(from, to, json_type_object))
		diff_objects(diff, from, to);
	else if (are_both(from, to, json_type_array))
		diff_arrays(diff, from, to);
	else if (!json_equal(from, to))
		write_value(diff, "replace", to);
	if (!is_root)
		shorten(diff, mark, to, few);
}

json_object *
diff_make(json_object *from, json_object *to)
{
	struct diff diff = {.operations = memory_need(json_object_new_array_ext(8))};

	diff_values(&diff, from, to, DIFF_FEW);
	free(diff.path);
	return diff.operations;
}
