/*
 * Signed tokens and their key.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"
#include "token.h"

static char dir[] = "/tmp/test_token.XXXXXX";
static char path[64];

static bool
says(const struct token_key *key, const char *kind, const char *token, const char *text)
{
	bool expired;
	char *read = token_read(key, kind, token, &expired);
	bool same = text == NULL ? read == NULL : read != NULL && strcmp(read, text) == 0;
	free(read);
	return same;
}

static void
test_key(struct token_key *key)
{
	struct token_key again;
	struct stat made;

	ok(token_open(key, dir), "a key is made");
	ok(stat(path, &made) == 0 && (made.st_mode & 0777) == 0600 && made.st_size == TOKEN_KEY_BYTES,
	   "for its owner alone");
	ok(token_open(&again, dir) && memcmp(key, &again, sizeof again) == 0, "and found again");
	ok(!token_open(&again, "/nowhere/at/all"), "no directory: no key");
	ok(truncate(path, 31) == 0 && !token_open(&again, dir), "a cut key is not used");
	unlink(path);
}

/* Programs that start at once: each writes the key that it uses into a pipe. */
static void
test_race(struct token_key *key)
{
	enum { PROGRAMS = 16 };
	struct token_key others[PROGRAMS];
	int go[2], keys[2], same = 0;

	if (pipe(go) != 0 || pipe(keys) != 0)
		exit(1);
	for (int i = 0; i < PROGRAMS; i++) {
		if (fork() != 0)
			continue;
		char byte;
		close(go[1]);
		bool opened = read(go[0], &byte, 1) == 0 && token_open(key, dir);
		_exit(opened && write(keys[1], key, sizeof *key) == (ssize_t)sizeof *key ? 0 : 1);
	}
	close(go[1]);
	close(keys[1]);
	for (int i = 0; i < PROGRAMS && read(keys[0], &others[i], sizeof *others) == (ssize_t)sizeof *others;
	     i++)
		same += memcmp(&others[i], &others[0], sizeof *others) == 0;
	while (wait(NULL) > 0)
		continue;
	ok(same == PROGRAMS && token_open(key, dir) && memcmp(key, &others[0], sizeof *key) == 0,
	   "programs that start at once use one key");
}

static void
test_tokens(const struct token_key *key)
{
	int64_t later = time(NULL) + 3600;
	char *token = token_sign(key, "join", "a-b_c.d~1", later);
	char *expired = token_sign(key, "join", "a", time(NULL) - 1);
	char *empty = token_sign(key, "join", "", later);
	int forged = 0;

	ok(says(key, "join", token, "a-b_c.d~1"), "what was signed is read");
	ok(says(key, "join", empty, ""), "also when it is empty");
	ok(strspn(token, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~") ==
	       strlen(token),
	   "URL-safe: %s", token);
	ok(says(key, "joi", token, NULL) && says(key, "poll", token, NULL) &&
	       says(key, "join.a-b_c", token, NULL),
	   "another kind is not");
	ok(says(key, "join", expired, NULL), "nor an expired one");
	for (size_t i = 0; i < strlen(token); i++) {
		char was = token[i];
		token[i] ^= 1;
		forged += says(key, "join", token, NULL);
		token[i] = '\0';
		forged += says(key, "join", token, NULL);
		token[i] = was;
	}
	ok(forged == 2 * (int)strlen(token), "nor one with any byte changed, nor cut anywhere");
	struct token_key other = *key;
	other.bytes[0] ^= 1;
	ok(says(&other, "join", token, NULL), "nor one of another key");
	free(token);
	free(expired);
	free(empty);
}

static void
test_bad(const struct token_key *key)
{
	static const char *const bad[] = {"",        ".", "....", "join", "join.", "join.a.99999999999.",
	                                  "\xff\xfe"};
	char long_text[TOKEN_MAX + 2];
	int refused = 0;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		refused += says(key, "join", bad[i], NULL);
	ok(refused == sizeof bad / sizeof *bad && says(key, "join", NULL, NULL),
	   "what is no token is not read");
	memset(long_text, 'a', sizeof long_text - 1);
	long_text[sizeof long_text - 1] = '\0';
	ok(token_sign(key, "join", long_text, 1) == NULL, "a long text is not signed");
	ok(says(key, "join", long_text, NULL), "nor a long token read");
	ok(token_sign(key, "join", "a b", 1) == NULL && token_sign(key, "a.b", "a", 1) == NULL &&
	       token_sign(key, "join", "a/b", 1) == NULL && token_sign(key, "join", "\xc3\xa9", 1) == NULL,
	   "nor other characters");
}

int
main(void)
{
	struct token_key key;

	alarm(60);
	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(path, sizeof path, "%s/token.key", dir);
	test_key(&key);
	test_race(&key);
	test_tokens(&key);
	test_bad(&key);
	unlink(path);
	ok(rmdir(dir) == 0, "nothing else is left in the directory");
	return done();
}
