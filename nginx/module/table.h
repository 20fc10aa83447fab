/*
 * table - the worker's held sockets by their handles
 *
 * A handle is the worker's tag (24 bits), the slot's generation (20), the slot (20): found by
 * index, never mistaken for a later socket in the same slot.
 */
#ifndef SEANCE_TABLE_H
#define SEANCE_TABLE_H

#include <ngx_config.h>
#include <ngx_core.h>

struct seance_socket;

/* seance_table_add - gives a socket a handle; 0 when the table is full or memory is short */
uint64_t seance_table_add(struct seance_socket *socket);

/* seance_table_remove - the handle is no longer known */
void seance_table_remove(uint64_t handle);

/* seance_table_find - the socket of a handle, or NULL */
struct seance_socket *seance_table_find(uint64_t handle);

/* seance_table_slot - the slot of a handle of this worker */
uint32_t seance_table_slot(uint64_t handle);

/* seance_table_at - the socket in a slot, or NULL; slot < seance_table_slots() */
struct seance_socket *seance_table_at(uint32_t slot);

/* seance_table_slots - one more than the highest slot ever used */
uint32_t seance_table_slots(void);

/* seance_table_count - how many sockets are held */
uint32_t seance_table_count(void);

/* seance_table_free - gives the table's memory back; it is empty afterwards */
void seance_table_free(void);

#endif
