/*
 * order - what is written to a socket, in the order of commits (delivery.md)
 */
#ifndef SEANCE_ORDER_H
#define SEANCE_ORDER_H

#include "module.h"

struct seance_socket;

/* seance_order_settle - writes all that may be written by now of what is held back and of the answer */
void seance_order_settle(struct seance_socket *socket);

/* seance_order_drained - when little enough waits again, the program is asked for what was dropped */
void seance_order_drained(struct seance_socket *socket);

/* seance_order_clear - drops what is held back and the answer */
void seance_order_clear(struct seance_socket *socket);

#endif
