#include "token.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "memory.h"
#include "random.h"

#define PATH_SIZE        4096
#define SIGNATURE_BYTES  32
#define SIGNATURE_DIGITS (2 * SIGNATURE_BYTES)
#define EXPIRES_DIGITS   18 /* fewer than an int64_t has */

/* --- the key --- */

static bool
key_read(struct token_key *key, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	/* one byte more than it may have */
	unsigned char bytes[TOKEN_KEY_BYTES + 1];
	ssize_t len = read(fd, bytes, sizeof bytes);
	close(fd);
	if (len != TOKEN_KEY_BYTES) {
		errno = EINVAL;
		return false;
	}
	memcpy(key->bytes, bytes, TOKEN_KEY_BYTES);
	return true;
}

static bool
key_write(const char *path)
{
	unsigned char bytes[TOKEN_KEY_BYTES];
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	random_bytes(bytes, sizeof bytes);
	bool written = write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes && fsync(fd) == 0;
	return close(fd) == 0 && written;
}

/* A new name is on the disk only when its directory is. */
static bool
dir_sync(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool synced = fd >= 0 && fsync(fd) == 0;
	if (fd >= 0)
		close(fd);
	return synced;
}

/* Written under a name of its own, then linked: link never replaces, so the first program's key is everybody's. */
static bool
key_make(const char *dir, const char *path)
{
	char own[PATH_SIZE];
	int len = snprintf(own, sizeof own, "%s.%" PRId64, path, random_number());
	if (len < 0 || len >= (int)sizeof own) {
		errno = ENAMETOOLONG;
		return false;
	}
	bool made = key_write(own) && (link(own, path) == 0 || errno == EEXIST);
	int error = errno;
	unlink(own);
	errno = error;
	return made && dir_sync(dir);
}

bool
token_open(struct token_key *key, const char *dir)
{
	char path[PATH_SIZE];
	int len = snprintf(path, sizeof path, "%s/token.key", dir);
	if (len < 0 || len >= (int)sizeof path) {
		log_line("the path %s/token.key is too long", dir);
		return false;
	}
	if (key_read(key, path) || (errno == ENOENT && key_make(dir, path) && key_read(key, path)))
		return true;
	log_line("%s: %s", path, errno == EINVAL ? "is not a key of 32 bytes" : strerror(errno));
	return false;
}

/* --- tokens --- */

static void
signature(char digits[SIGNATURE_DIGITS + 1], const struct token_key *key, const char *text, size_t len)
{
	unsigned char bytes[EVP_MAX_MD_SIZE];
	unsigned size = 0;
	if (HMAC(EVP_sha256(), key->bytes, TOKEN_KEY_BYTES, (const unsigned char *)text, len, bytes,
	         &size) == NULL ||
	    size != SIGNATURE_BYTES)
		log_die("HMAC-SHA256 failed");
	for (size_t i = 0; i < SIGNATURE_BYTES; i++)
		snprintf(digits + 2 * i, 3, "%02x", bytes[i]);
}

static bool
all_of(const char *text, const char *also)
{
	for (; *text; text++) {
		if (!isascii((unsigned char)*text) ||
		    (!isalnum((unsigned char)*text) && strchr(also, *text) == NULL))
			return false;
	}
	return true;
}

char *
token_sign(const struct token_key *key, const char *kind, const char *text, int64_t expires)
{
	char token[TOKEN_MAX + 1];
	if (!all_of(kind, "-_") || !all_of(text, "-_.~") || expires < 0)
		return NULL;
	int len = snprintf(token, sizeof token, "%s.%s.%" PRId64, kind, text, expires);
	if (len < 0 || len + 1 + SIGNATURE_DIGITS > TOKEN_MAX)
		return NULL;
	signature(token + len + 1, key, token, (size_t)len);
	token[len] = '.';
	return memory_strdup(token);
}

/* The dot before the signature; NULL when it is not signed by the key. */
static const char *
signed_end(const struct token_key *key, const char *token)
{
	char digits[SIGNATURE_DIGITS + 1];
	const char *end = strrchr(token, '.');
	if (end == NULL || strlen(end + 1) != SIGNATURE_DIGITS)
		return NULL;
	signature(digits, key, token, (size_t)(end - token));
	return CRYPTO_memcmp(digits, end + 1, SIGNATURE_DIGITS) == 0 ? end : NULL;
}

char *
token_read(const struct token_key *key, const char *kind, const char *token, bool *expired)
{
	*expired = false;
	if (token == NULL || strnlen(token, TOKEN_MAX + 1) > TOKEN_MAX || !all_of(kind, "-_"))
		return NULL;
	const char *end = signed_end(key, token);
	size_t kind_len = strlen(kind);
	if (end == NULL || strncmp(token, kind, kind_len) != 0 || token[kind_len] != '.')
		return NULL;
	/* from here on it is as token_sign has made it */
	const char *text = token + kind_len + 1;
	const char *dot = memrchr(text, '.', (size_t)(end - text));
	if (dot == NULL || end - dot - 1 > EXPIRES_DIGITS)
		return NULL;
	*expired = strtoll(dot + 1, NULL, 10) <= time(NULL);
	if (*expired)
		return NULL;
	char *copy = memory_strdup(text);
	copy[dot - text] = '\0';
	return copy;
}
