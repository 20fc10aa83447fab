#define _GNU_SOURCE
#include "json.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* ---- UTF-8 ---- */

static bool
is_continuation(unsigned char c)
{
	return (c & 0xC0) == 0x80;
}

/* The bytes of the sequence that begins with a byte above 0x7F; 0 when it is not valid. */
static size_t
utf8_sequence(const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *)text;

	if (s[0] < 0xC2 || s[0] > 0xF4 || len < 2 || !is_continuation(s[1]))
		return 0;
	if (s[0] < 0xE0)
		return 2;
	if (len < 3 || !is_continuation(s[2]))
		return 0;
	if (s[0] < 0xF0) {
		bool overlong = s[0] == 0xE0 && s[1] < 0xA0;
		bool surrogate = s[0] == 0xED && s[1] > 0x9F;
		return overlong || surrogate ? 0 : 3;
	}
	if (len < 4 || !is_continuation(s[3]))
		return 0;
	if ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
		return 0;
	return 4;
}

static size_t
utf8_encode(uint32_t code, char *out)
{
	if (code < 0x80) {
		out[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		out[0] = (char)(0xC0 | code >> 6);
		out[1] = (char)(0x80 | (code & 0x3F));
		return 2;
	}
	if (code < 0x10000) {
		out[0] = (char)(0xE0 | code >> 12);
		out[1] = (char)(0x80 | (code >> 6 & 0x3F));
		out[2] = (char)(0x80 | (code & 0x3F));
		return 3;
	}
	out[0] = (char)(0xF0 | code >> 18);
	out[1] = (char)(0x80 | (code >> 12 & 0x3F));
	out[2] = (char)(0x80 | (code >> 6 & 0x3F));
	out[3] = (char)(0x80 | (code & 0x3F));
	return 4;
}

bool
json_is_utf8(const char *text, size_t len)
{
	size_t i = 0;

	while (i < len) {
		size_t step = (unsigned char)text[i] < 0x80 ? 1 : utf8_sequence(text + i, len - i);
		if (step == 0)
			return false;
		i += step;
	}
	return true;
}

/* ---- Parsing: recursive descent, one pass ---- */

struct parser {
	const char *at, *end;
	const char *message; /* why it failed; NULL so far */
	int depth;

	/* A decoded string or a number's text, ended with NUL. */
	char *scratch;
	size_t scratch_len, scratch_room;
	char room[256];
};

static bool parse_value(struct parser *p, json_object **value);

static bool
fail(struct parser *p, const char *message)
{
	p->message = message;
	return false;
}

/* What to say when something else was expected: the text may simply have ended. */
static bool
unexpected(struct parser *p)
{
	return fail(p, p->at == p->end ? "text ends too early" : "unexpected character");
}

static void
scratch_append(struct parser *p, const char *text, size_t len)
{
	size_t needed = p->scratch_len + len + 1;

	if (needed > p->scratch_room) {
		char *old = p->scratch == p->room ? NULL : p->scratch;
		char *grown = memory_realloc(old, 2 * needed);
		if (old == NULL)
			memcpy(grown, p->room, p->scratch_len);
		p->scratch = grown;
		p->scratch_room = 2 * needed;
	}
	memcpy(p->scratch + p->scratch_len, text, len);
	p->scratch_len += len;
	p->scratch[p->scratch_len] = '\0';
}

static void
scratch_set(struct parser *p, const char *text, size_t len)
{
	p->scratch_len = 0;
	scratch_append(p, text, len);
}

static void
skip_space(struct parser *p)
{
	while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r'))
		p->at++;
}

static bool
skip_char(struct parser *p, char c)
{
	if (p->at == p->end || *p->at != c)
		return false;
	p->at++;
	return true;
}

/* Goes on to a quote, a backslash, the end, or what must not be in a string. */
static void
skip_plain(struct parser *p)
{
	while (p->at < p->end) {
		unsigned char c = (unsigned char)*p->at;
		size_t step = 1;

		if (c < 0x20 || c == '"' || c == '\\')
			return;
		if (c >= 0x80)
			step = utf8_sequence(p->at, (size_t)(p->end - p->at));
		if (step == 0)
			return;
		p->at += step;
	}
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool
parse_hex4(struct parser *p, uint32_t *code)
{
	*code = 0;
	for (int i = 0; i < 4; i++) {
		int digit = p->at < p->end ? hex_digit(*p->at) : -1;
		if (digit < 0)
			return fail(p, "bad escape");
		*code = *code << 4 | (uint32_t)digit;
		p->at++;
	}
	return true;
}

/* What follows \u; a pair of surrogates is one character. */
static bool
parse_unicode_escape(struct parser *p)
{
	uint32_t code, low;
	char bytes[4];

	if (!parse_hex4(p, &code))
		return false;
	if (code >= 0xD800 && code <= 0xDBFF) {
		if (!skip_char(p, '\\') || !skip_char(p, 'u'))
			return fail(p, "lone surrogate");
		if (!parse_hex4(p, &low))
			return false;
		if (low < 0xDC00 || low > 0xDFFF)
			return fail(p, "lone surrogate");
		code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
	} else if (code >= 0xDC00 && code <= 0xDFFF) {
		return fail(p, "lone surrogate");
	}
	scratch_append(p, bytes, utf8_encode(code, bytes));
	return true;
}

static bool
parse_escape(struct parser *p)
{
	static const char names[] = "\"\\/bfnrt";
	static const char meant[] = "\"\\/\b\f\n\r\t";
	const char *name;

	if (skip_char(p, 'u'))
		return parse_unicode_escape(p);
	if (p->at == p->end || *p->at == '\0' || (name = strchr(names, *p->at)) == NULL)
		return fail(p, "bad escape");
	p->at++;
	scratch_append(p, &meant[name - names], 1);
	return true;
}

/* Behind the opening quote.  The text is a slice of the input, or the scratch if it has escapes. */
static bool
parse_string(struct parser *p, const char **text, size_t *len)
{
	const char *start = p->at;

	skip_plain(p);
	if (skip_char(p, '"')) {
		*text = start;
		*len = (size_t)(p->at - start) - 1;
		return true;
	}
	scratch_set(p, start, (size_t)(p->at - start));
	while (skip_char(p, '\\')) {
		if (!parse_escape(p))
			return false;
		start = p->at;
		skip_plain(p);
		scratch_append(p, start, (size_t)(p->at - start));
	}
	if (!skip_char(p, '"')) {
		if (p->at == p->end)
			return unexpected(p);
		return fail(p, (unsigned char)*p->at < 0x20 ? "control character in a string" : "invalid UTF-8");
	}
	*text = p->scratch;
	*len = p->scratch_len;
	return true;
}

/* A key, ended with NUL, in the scratch. */
static bool
parse_key(struct parser *p)
{
	const char *text;
	size_t len;

	if (!skip_char(p, '"'))
		return unexpected(p);
	if (!parse_string(p, &text, &len))
		return false;
	if (text != p->scratch)
		scratch_set(p, text, len);
	if (memchr(p->scratch, '\0', len) != NULL)
		return fail(p, "key with U+0000");
	return true;
}

static bool
parse_member(struct parser *p, json_object *object)
{
	char small[64], *key;
	json_object *value = NULL;
	bool done = false;

	if (!parse_key(p))
		return false;
	/* the value will need the scratch */
	key = p->scratch_len < sizeof(small) ? small : memory_alloc(p->scratch_len + 1);
	memcpy(key, p->scratch, p->scratch_len + 1);

	skip_space(p);
	if (!skip_char(p, ':')) {
		unexpected(p);
	} else if (parse_value(p, &value)) {
		if (json_object_object_add(object, key, value) != 0)
			memory_need(NULL);
		done = true;
	}
	if (key != small)
		free(key);
	return done;
}

static bool
parse_element(struct parser *p, json_object *array)
{
	json_object *value = NULL;

	if (!parse_value(p, &value))
		return false;
	if (json_object_array_add(array, value) != 0)
		memory_need(NULL);
	return true;
}

/* Members or elements up to the closing bracket; container is taken and handed out. */
static bool
parse_items(struct parser *p, json_object *container, char close,
            bool (*parse_item)(struct parser *p, json_object *container), json_object **value)
{
	bool done;

	memory_need(container);
	if (++p->depth > JSON_DEPTH_MAX) {
		json_object_put(container);
		return fail(p, "too deep");
	}
	skip_space(p);
	done = skip_char(p, close);
	while (!done) {
		skip_space(p);
		if (!parse_item(p, container))
			break;
		skip_space(p);
		done = skip_char(p, close);
		if (!done && !skip_char(p, ',')) {
			unexpected(p);
			break;
		}
	}
	p->depth--;
	if (!done) {
		json_object_put(container);
		return false;
	}
	*value = container;
	return true;
}

static size_t
skip_digits(struct parser *p)
{
	const char *start = p->at;

	while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
		p->at++;
	return (size_t)(p->at - start);
}

static bool
make_integer(struct parser *p, const char *digits, bool negative, json_object **value)
{
	uint64_t amount = 0;

	for (; digits < p->at; digits++) {
		if (__builtin_mul_overflow(amount, 10u, &amount) ||
		    __builtin_add_overflow(amount, (uint64_t)(*digits - '0'), &amount))
			return fail(p, "number out of range");
	}
	if (negative && amount > (uint64_t)INT64_MAX + 1)
		return fail(p, "number out of range");
	if (negative)
		*value = json_object_new_int64((int64_t)(0 - amount));
	else if (amount <= INT64_MAX)
		*value = json_object_new_int64((int64_t)amount);
	else
		*value = json_object_new_uint64(amount);
	memory_need(*value);
	return true;
}

static locale_t c_locale;

static void
make_c_locale(void)
{
	c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	memory_need(c_locale);
}

static bool
make_double(struct parser *p, const char *start, json_object **value)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	double amount;

	/* the author's program may have set a locale with a decimal comma */
	pthread_once(&once, make_c_locale);
	scratch_set(p, start, (size_t)(p->at - start));
	amount = strtod_l(p->scratch, NULL, c_locale);
	if (!isfinite(amount))
		return fail(p, "number out of range");
	*value = memory_need(json_object_new_double_s(amount, p->scratch));
	return true;
}

static bool
parse_number(struct parser *p, json_object **value)
{
	const char *start = p->at, *digits;
	bool negative = skip_char(p, '-'), whole = true;

	digits = p->at;
	if (!skip_char(p, '0') && skip_digits(p) == 0)
		return unexpected(p);
	if (p->at < p->end && *p->at >= '0' && *p->at <= '9')
		return fail(p, "leading zero");
	if (skip_char(p, '.')) {
		whole = false;
		if (skip_digits(p) == 0)
			return unexpected(p);
	}
	if (skip_char(p, 'e') || skip_char(p, 'E')) {
		whole = false;
		if (!skip_char(p, '+'))
			skip_char(p, '-');
		if (skip_digits(p) == 0)
			return unexpected(p);
	}
	if (whole)
		return make_integer(p, digits, negative, value);
	return make_double(p, start, value);
}

static bool
parse_word(struct parser *p, const char *word, json_object *meaning, json_object **value)
{
	size_t len = strlen(word);

	if ((size_t)(p->end - p->at) < len || memcmp(p->at, word, len) != 0) {
		json_object_put(meaning);
		return fail(p, "unexpected character");
	}
	p->at += len;
	*value = meaning;
	return true;
}

static bool
parse_string_value(struct parser *p, json_object **value)
{
	const char *text;
	size_t len;

	if (!parse_string(p, &text, &len))
		return false;
	*value = memory_need(json_object_new_string_len(text, (int)len));
	return true;
}

static bool
parse_value(struct parser *p, json_object **value)
{
	skip_space(p);
	if (p->at == p->end)
		return unexpected(p);
	switch (*p->at) {
	case '{':
		p->at++;
		return parse_items(p, json_object_new_object(), '}', parse_member, value);
	case '[':
		p->at++;
		return parse_items(p, json_object_new_array_ext(8), ']', parse_element, value);
	case '"':
		p->at++;
		return parse_string_value(p, value);
	case 't':
		return parse_word(p, "true", memory_need(json_object_new_boolean(1)), value);
	case 'f':
		return parse_word(p, "false", memory_need(json_object_new_boolean(0)), value);
	case 'n':
		return parse_word(p, "null", NULL, value);
	default:
		return parse_number(p, value);
	}
}

/* A whole text: one value and nothing behind it. */
static bool
parse_text(struct parser *p, json_object **value)
{
	if (!parse_value(p, value))
		return false;
	skip_space(p);
	if (p->at == p->end)
		return true;
	json_object_put(*value);
	return fail(p, "something follows the value");
}

bool
json_parse(const char *text, size_t len, json_object **value, struct json_error *error)
{
	struct parser p;
	json_object *parsed = NULL;
	bool done;

	/* not `= {0}`: the room need not be cleared for each frame */
	p.at = text;
	p.end = text + len;
	p.message = NULL;
	p.depth = 0;
	p.scratch = p.room;
	p.scratch_len = 0;
	p.scratch_room = sizeof(p.room);

	/* json-c counts a string's bytes in an int */
	if (len > INT32_MAX)
		done = fail(&p, "too long");
	else
		done = parse_text(&p, &parsed);
	if (done)
		*value = parsed;
	else if (error != NULL)
		*error = (struct json_error){.message = p.message, .position = (size_t)(p.at - text)};
	if (p.scratch != p.room)
		free(p.scratch);
	return done;
}

/* ---- Writing ---- */

const char *
json_text(json_object *value, size_t *len)
{
	const char *text;
	size_t text_len = 4;

	if (value == NULL)
		text = "null";
	else
		text = json_object_to_json_string_length(
			value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &text_len);
	if (text == NULL)
		memory_need(NULL);
	if (len != NULL)
		*len = text_len;
	return text;
}

/* ---- Comparing ---- */

/* A number in one form whatever json-c's type: whole amounts within 64 bits as sign and magnitude. */
struct number {
	bool whole, negative;
	uint64_t magnitude;
	double real; /* when not whole */
};

static struct number
number_of(json_object *value)
{
	struct number n = {.whole = true};

	if (json_object_get_type(value) == json_type_int) {
		int64_t amount = json_object_get_int64(value);
		n.negative = amount < 0;
		n.magnitude = n.negative ? 0 - (uint64_t)amount : json_object_get_uint64(value);
		return n;
	}
	n.real = json_object_get_double(value);
	if (fabs(n.real) < 18446744073709551616.0)
		n.magnitude = (uint64_t)fabs(n.real);
	n.whole = fabs(n.real) == (double)n.magnitude;
	if (!n.whole)
		return (struct number){.real = n.real};
	n.negative = n.real < 0;
	n.real = 0;
	return n;
}

static bool
equal_numbers(json_object *a, json_object *b)
{
	struct number x = number_of(a), y = number_of(b);

	return x.whole == y.whole && x.negative == y.negative && x.magnitude == y.magnitude &&
	       x.real == y.real;
}

static bool
equal_strings(json_object *a, json_object *b)
{
	int len = json_object_get_string_len(a);

	return len == json_object_get_string_len(b) &&
	       memcmp(json_object_get_string(a), json_object_get_string(b), (size_t)len) == 0;
}

static bool
equal_arrays(json_object *a, json_object *b)
{
	size_t len = json_object_array_length(a);

	if (len != json_object_array_length(b))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!json_equal(json_object_array_get_idx(a, i), json_object_array_get_idx(b, i)))
			return false;
	return true;
}

static bool
equal_objects(json_object *a, json_object *b)
{
	struct lh_entry *entry;
	json_object *other;

	if (json_object_object_length(a) != json_object_object_length(b))
		return false;
	lh_foreach(json_object_get_object(a), entry)
	{
		if (!json_object_object_get_ex(b, lh_entry_k(entry), &other) ||
		    !json_equal(lh_entry_v(entry), other))
			return false;
	}
	return true;
}

/* json-c keeps what an author gave as true, which may be any number but 0. */
static bool
is_true(json_object *boolean)
{
	return json_object_get_boolean(boolean) != 0;
}

static bool
is_number(enum json_type type)
{
	return type == json_type_int || type == json_type_double;
}

bool
json_equal(json_object *a, json_object *b)
{
	enum json_type type = json_object_get_type(a), other = json_object_get_type(b);

	if (a == b)
		return true;
	if (is_number(type) && is_number(other))
		return equal_numbers(a, b);
	if (type != other)
		return false;
	switch (type) {
	case json_type_boolean:
		return is_true(a) == is_true(b);
	case json_type_string:
		return equal_strings(a, b);
	case json_type_array:
		return equal_arrays(a, b);
	case json_type_object:
		return equal_objects(a, b);
	default:
		return true;
	}
}

/* ---- Hashing ---- */

static uint64_t
mix(uint64_t hash, uint64_t word)
{
	__extension__ typedef unsigned __int128 wide;
	wide product = (wide)(hash ^ word ^ 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t
hash_bytes(uint64_t hash, const char *bytes, size_t len)
{
	uint64_t word;

	hash = mix(hash, len);
	for (; len >= sizeof(word); bytes += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		hash = mix(hash, word);
	}
	word = 0;
	memcpy(&word, bytes, len);
	return mix(hash, word);
}

static uint64_t
hash_number(uint64_t hash, json_object *value)
{
	struct number n = number_of(value);
	uint64_t bits;

	memcpy(&bits, &n.real, sizeof(bits));
	return mix(hash, n.whole ? n.magnitude + n.negative : bits);
}

static uint64_t
hash_array(uint64_t hash, json_object *array)
{
	size_t len = json_object_array_length(array);

	for (size_t i = 0; i < len; i++)
		hash = mix(hash, json_hash(json_object_array_get_idx(array, i)));
	return mix(hash, len);
}

/* A sum, so that the order of the members does not matter. */
static uint64_t
hash_object(uint64_t hash, json_object *object)
{
	struct lh_entry *entry;
	uint64_t sum = 0;

	lh_foreach(json_object_get_object(object), entry)
	{
		const char *key = lh_entry_k(entry);
		sum += hash_bytes(json_hash(lh_entry_v(entry)), key, strlen(key));
	}
	return mix(hash, sum);
}

uint64_t
json_hash(json_object *value)
{
	/* Where the program was loaded is its secret: nobody can prepare values that collide. */
	static const char anchor;
	enum json_type type = json_object_get_type(value);
	uint64_t hash;

	if (type == json_type_int)
		type = json_type_double;
	hash = mix((uint64_t)(uintptr_t)&anchor, (uint64_t)type);
	switch (type) {
	case json_type_boolean:
		return mix(hash, is_true(value));
	case json_type_double:
		return hash_number(hash, value);
	case json_type_string:
		return hash_bytes(hash, json_object_get_string(value),
		                  (size_t)json_object_get_string_len(value));
	case json_type_array:
		return hash_array(hash, value);
	case json_type_object:
		return hash_object(hash, value);
	default:
		return hash;
	}
}

/* ---- Looking through a value ---- */

bool
json_has_proto(json_object *value)
{
	struct lh_entry *entry;

	if (json_object_is_type(value, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(value); i++)
			if (json_has_proto(json_object_array_get_idx(value, i)))
				return true;
	} else if (json_object_is_type(value, json_type_object)) {
		lh_foreach(json_object_get_object(value), entry)
		{
			if (strcmp(lh_entry_k(entry), "__proto__") == 0 || json_has_proto(lh_entry_v(entry)))
				return true;
		}
	}
	return false;
}

static int
larger(int a, int b)
{
	return a > b ? a : b;
}

int
json_depth(json_object *value, int limit)
{
	struct lh_entry *entry;
	int below = 0;

	if (!json_object_is_type(value, json_type_array) && !json_object_is_type(value, json_type_object))
		return 0;
	if (limit <= 0)
		return 1;
	if (json_object_is_type(value, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(value); i++)
			below = larger(below, json_depth(json_object_array_get_idx(value, i), limit - 1));
	} else {
		lh_foreach(json_object_get_object(value), entry) below =
			larger(below, json_depth(lh_entry_v(entry), limit - 1));
	}
	return 1 + below;
}

static const char *
unfit_object(json_object *object, int depth_max)
{
	struct lh_entry *entry;
	const char *why = depth_max <= 0 ? "too deep" : NULL;

	lh_foreach(json_object_get_object(object), entry)
	{
		const char *key = lh_entry_k(entry);

		if (why != NULL)
			break;
		if (strcmp(key, "__proto__") == 0)
			why = "a key is __proto__";
		else if (!json_is_utf8(key, strlen(key)))
			why = "a key is not UTF-8";
		else
			why = json_unfit(lh_entry_v(entry), depth_max - 1);
	}
	return why;
}

static const char *
unfit_array(json_object *array, int depth_max)
{
	const char *why = depth_max <= 0 ? "too deep" : NULL;

	for (size_t i = 0; why == NULL && i < json_object_array_length(array); i++)
		why = json_unfit(json_object_array_get_idx(array, i), depth_max - 1);
	return why;
}

const char *
json_unfit(json_object *value, int depth_max)
{
	switch (json_object_get_type(value)) {
	case json_type_double:
		return isfinite(json_object_get_double(value)) ? NULL : "a number is not finite";
	case json_type_string:
		if (json_is_utf8(json_object_get_string(value), (size_t)json_object_get_string_len(value)))
			return NULL;
		return "a string is not UTF-8";
	case json_type_array:
		return unfit_array(value, depth_max);
	case json_type_object:
		return unfit_object(value, depth_max);
	default:
		return NULL;
	}
}

/* ---- Copying (json_object_deep_copy of 0.16 cuts strings at U+0000) ---- */

static json_object *
copy_int(json_object *value)
{
	int64_t amount = json_object_get_int64(value);

	if (amount == INT64_MAX)
		return json_object_new_uint64(json_object_get_uint64(value));
	return json_object_new_int64(amount);
}

/* With the text it was read from, if json-c has kept one. */
static json_object *
copy_double(json_object *value)
{
	json_object *copy = NULL;

	if (json_object_deep_copy(value, &copy, NULL) != 0)
		copy = json_object_new_double(json_object_get_double(value));
	return copy;
}

static json_object *
copy_array(json_object *array)
{
	size_t len = json_object_array_length(array);
	json_object *copy = memory_need(json_object_new_array_ext(len > 0 ? (int)len : 1));

	for (size_t i = 0; i < len; i++)
		if (json_object_array_add(copy, json_copy(json_object_array_get_idx(array, i))) != 0)
			memory_need(NULL);
	return copy;
}

static json_object *
copy_object(json_object *object)
{
	json_object *copy = memory_need(json_object_new_object());
	struct lh_entry *entry;

	lh_foreach(json_object_get_object(object), entry)
	{
		if (json_object_object_add_ex(copy, lh_entry_k(entry), json_copy(lh_entry_v(entry)),
		                              JSON_C_OBJECT_ADD_KEY_IS_NEW) != 0)
			memory_need(NULL);
	}
	return copy;
}

static json_object *
copy_scalar(json_object *value)
{
	switch (json_object_get_type(value)) {
	case json_type_boolean:
		return json_object_new_boolean(json_object_get_boolean(value));
	case json_type_double:
		return copy_double(value);
	case json_type_int:
		return copy_int(value);
	default:
		return json_object_new_string_len(json_object_get_string(value),
		                                  json_object_get_string_len(value));
	}
}

json_object *
json_copy(json_object *value)
{
	switch (json_object_get_type(value)) {
	case json_type_null:
		return NULL;
	case json_type_array:
		return copy_array(value);
	case json_type_object:
		return copy_object(value);
	default:
		return memory_need(copy_scalar(value));
	}
}

json_object *
json_read(const char *text)
{
	json_object *value = NULL;
	if (!text || !json_parse(text, strlen(text), &value, NULL))
		return NULL;
	return value;
}
