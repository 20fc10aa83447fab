/*
 * fuzz - what the fuzz targets share
 *
 * A target is a file fuzz_<name>.c with FUZZ_TARGET(name) { ... }: it is given any bytes and stops the
 * program by must() when something does not hold.  libFuzzer runs one target (one.c, `make fuzz`);
 * tests/unit/test_corpus.c runs all of them on the saved inputs, corpus/<name>/.
 */
#ifndef SEANCE_FUZZ_H
#define SEANCE_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fuzz_target {
	const char *name;
	void (*run)(const uint8_t *data, size_t size);
	struct fuzz_target *next;
};

/* All targets of the program, in any order; each adds itself before main. */
extern struct fuzz_target *fuzz_targets;

#define FUZZ_TARGET(word)                                              \
	static void fuzz_##word(const uint8_t *data, size_t size);         \
	__attribute__((constructor)) static void fuzz_add_##word(void)     \
	{                                                                  \
		static struct fuzz_target target = {#word, fuzz_##word, NULL}; \
		target.next = fuzz_targets;                                    \
		fuzz_targets = &target;                                        \
	}                                                                  \
	static void fuzz_##word(const uint8_t *data, size_t size)

#define must(cond)                                                                \
	do {                                                                          \
		if (!(cond)) {                                                            \
			fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                              \
		}                                                                         \
	} while (0)

/* Bytes that decide; zeros when none are left. */
struct fuzz_bytes {
	const uint8_t *at;
	size_t left;
};

static inline uint8_t
fuzz_byte(struct fuzz_bytes *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

static inline uint64_t
fuzz_number(struct fuzz_bytes *in, int size_bytes)
{
	uint64_t number = 0;

	while (size_bytes-- > 0)
		number = number << 8 | fuzz_byte(in);
	return number;
}

/* Some of them, their number in a byte before them. */
static inline struct fuzz_bytes
fuzz_text(struct fuzz_bytes *in)
{
	size_t len = fuzz_byte(in);
	struct fuzz_bytes text = {in->at, len < in->left ? len : in->left};

	in->at += text.left;
	in->left -= text.left;
	return text;
}

/* A copy of exactly this size (free): a sanitizer sees what is read behind it. */
static inline void *
fuzz_copy(const void *bytes, size_t len)
{
	void *copy = calloc(1, len > 0 ? len : 1);

	must(copy != NULL);
	if (len > 0)
		memcpy(copy, bytes, len);
	return copy;
}

/* The next piece of an input that comes in pieces: 1 to left bytes; seed 0: always 1. */
static inline size_t
fuzz_piece(uint32_t *seed, size_t left)
{
	size_t len = 1;

	if (*seed != 0) {
		*seed = *seed * 1664525u + 1013904223u;
		len += (*seed >> 8) % ((*seed >> 24) % 4 == 0 ? 1000 : 9);
	}
	return len < left ? len : left;
}

#endif
