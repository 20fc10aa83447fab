/*
 * header - HTTP headers as they come to a FastCGI program (RFC 3875, section 4.1.18)
 */
#ifndef SEANCE_HEADER_H
#define SEANCE_HEADER_H

#define HEADER_PARAM_BYTES 128

/* header_param - the parameter that has a header: "HTTP_USER_AGENT" of "User-Agent"; "" when it is too long */
void header_param(char param[HEADER_PARAM_BYTES], const char *name);

#endif
