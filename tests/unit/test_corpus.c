/*
 * The fuzz targets' saved inputs: tests/fuzz/corpus/<target>/, each file once
 *
 * A target stops the program when something does not hold; the line before names the file.
 */
#include "../fuzz/fuzz.h"
#include "tap.h"

#include <dirent.h>

#define CORPUS "tests/fuzz/corpus"

struct fuzz_target *fuzz_targets;

/* The input lies in memory of its own size: a sanitizer sees what is read behind it. */
static void
replay(const struct fuzz_target *target, const char *path)
{
	FILE *file = fopen(path, "rb");
	char bytes[65536];
	uint8_t *input;
	size_t len;

	printf("# %s\n", path);
	fflush(stdout);
	must(file != NULL);
	len = fread(bytes, 1, sizeof(bytes), file);
	must(len < sizeof(bytes));
	fclose(file);
	input = fuzz_copy(bytes, len);
	target->run(input, len);
	free(input);
}

static void
replay_all(const struct fuzz_target *target)
{
	struct dirent **entries = NULL;
	char path[512];
	int files = 0, count;

	snprintf(path, sizeof(path), CORPUS "/%s", target->name);
	count = scandir(path, &entries, NULL, alphasort);
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), CORPUS "/%s/%s", target->name, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.') {
			replay(target, path);
			files++;
		}
		free(entries[i]);
	}
	free(entries);
	ok(files > 0, "%s: %d saved inputs", target->name, files);
}

int
main(void)
{
	ok(fuzz_targets != NULL, "there are fuzz targets");
	for (const struct fuzz_target *target = fuzz_targets; target != NULL; target = target->next)
		replay_all(target);
	return done();
}
