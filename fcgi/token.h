/*
 * token - strings that a client is given to keep, and that nobody else can make
 *
 *     KIND.TEXT.EXPIRES.SIGNATURE
 *
 * URL-safe characters only.  Signed, not encrypted: TEXT can be read by whoever has it.  The signature is
 * HMAC-SHA256 (RFC 2104) of all before it, in hexadecimal, with the key of the program's directory.
 */
#ifndef SEANCE_TOKEN_H
#define SEANCE_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#define TOKEN_KEY_BYTES 32
#define TOKEN_MAX       1024 /* bytes of a token; longer ones are nobody's */

struct token_key {
	unsigned char bytes[TOKEN_KEY_BYTES];
};

/*
 * token_open - the key in DIR/token.key, which is made when there is none (mode 0600)
 *
 * Programs that start at once agree on one key; it is on the disk before it is used.
 *
 * Returns   true; false after one line in the log.
 */
bool token_open(struct token_key *key, const char *dir);

/*
 * token_sign - a token
 *
 * kind      what it is for, so that no token serves for another purpose: letters, digits, '-' and '_'.
 * text      what it says: these, '.' and '~'.
 * expires   in seconds since 1970.
 * Returns   owned (free); NULL when kind or text has another character or the token would be too long.
 */
char *token_sign(const struct token_key *key, const char *kind, const char *text, int64_t expires)
	__attribute__((warn_unused_result));

/*
 * token_read - what a token of this kind says
 *
 * token     Borrowed; anything that a client may send; NULL is no token.
 * expired   Set: it is ours, but of the past.
 * Returns   its text, owned (free); NULL when it is none, forged, of another kind or expired.
 */
char *token_read(const struct token_key *key, const char *kind, const char *token, bool *expired)
	__attribute__((warn_unused_result));

#endif
