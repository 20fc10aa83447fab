/*
 * echo - a FastCGI program on the request loop that sends every message back
 *
 *     echo PROGRAM.SOCK [LINK.SOCK]
 *
 * A connect request (no SEANCE_SOCKET) is accepted with a random id; a message's events are its answer.
 * Links are accepted and read, and sent nothing.  For the module's tests, and as the ceiling that the
 * real program is measured against.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "link_server.h"
#include "log.h"
#include "loop.h"
#include "memory.h"

#define ID_LEN 22 /* 128 bits in base64url */

static struct loop *loop;

static void
random_id(char *id)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	unsigned char bytes[ID_LEN];

	if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
		log_die("no randomness");
	for (int i = 0; i < ID_LEN; i++)
		id[i] = digits[bytes[i] & 63];
	id[ID_LEN] = '\0';
}

static void
answer_connect(struct loop_request *request)
{
	char answer[128];
	char id[ID_LEN + 1];
	int len;

	random_id(id);
	len = snprintf(answer, sizeof answer,
	               "X-Accel-Redirect: /_hold/websocket/%s?protocol=phoenix\r\n\r\n", id);
	loop_finish(request, answer, (size_t)len);
}

static void
answer_message(struct loop_request *request)
{
	static const char head[] = "Content-Type: application/websocket-events\r\n\r\n";
	size_t head_len = sizeof head - 1;
	char small[4096];
	char *answer = small;
	size_t len;
	const char *body = loop_body(request, &len);

	if (head_len + len > sizeof small)
		answer = memory_alloc(head_len + len);
	memcpy(answer, head, head_len);
	memcpy(answer + head_len, body, len);
	loop_finish(request, answer, head_len + len);
	if (answer != small)
		free(answer);
}

static void
request_answer(void *context, struct loop_request *request)
{
	(void)context;
	if (loop_param(request, "SEANCE_SOCKET") == NULL)
		answer_connect(request);
	else
		answer_message(request);
}

static int
no_turn(void *context)
{
	(void)context;
	return -1;
}

static void
no_lock(void *context)
{
	(void)context;
}

static void
no_message(void *context, struct link *link, const struct link_message *message)
{
	(void)context;
	(void)link;
	(void)message;
}

static void
no_gone(void *context, struct link *link)
{
	(void)context;
	(void)link;
}

static int
listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof address.sun_path)
		log_die("the path of a socket is too long: %s", path);
	strcpy(address.sun_path, path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1024) != 0)
		log_die("%s: %s", path, strerror(errno));
	return fd;
}

static void
stop(int signal_number)
{
	(void)signal_number;
	loop_stop(loop);
}

int
main(int argc, char **argv)
{
	const struct loop_handler handler = {.request = request_answer, .turn = no_turn};
	const struct link_handler link_handler = {
		.lock = no_lock,
		.unlock = no_lock,
		.message = no_message,
		.gone = no_gone,
	};
	struct sigaction action = {.sa_handler = stop};
	struct link_server *links = NULL;
	bool clean;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: echo PROGRAM.SOCK [LINK.SOCK]\n");
		return 2;
	}
	loop = loop_new(listen_at(argv[1]), &handler, 64 << 20, 4);
	if (argc == 3)
		links = link_server_new(loop, listen_at(argv[2]), 64 << 20, &link_handler);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	clean = loop_run(loop);
	if (!clean)
		return 1;
	if (links != NULL)
		link_server_free(links, 0);
	loop_free(loop);
	return 0;
}
