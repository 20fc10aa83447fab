#include "server.h"

enum engine_connect
arrival_begin(struct server *server, struct arrival *arrival, const struct engine_client *client)
{
	enum engine_connect outcome = engine_connect(server->engine, client, &arrival->socket);
	if (outcome != CONNECT_OK)
		return outcome;
	arrival->next = server->arrivals;
	server->arrivals = arrival;
	return outcome;
}

void
arrivals_stored(struct server *server, struct answer **answers)
{
	struct arrival *list = server->arrivals, *next;
	server->arrivals = NULL; /* others may come while a callback runs */
	for (struct arrival *arrival = list; arrival; arrival = next) {
		next = arrival->next;
		struct socket *socket = arrival->socket;
		if (engine_stored(socket) || socket->ended) {
			arrival->stored(server, arrival, answers);
			engine_release(socket);
		} else {
			arrival->next = server->arrivals;
			server->arrivals = arrival;
		}
	}
}
