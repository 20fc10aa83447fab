#include "table.h"
#include "module.h"

#define SLOT_BITS       20
#define GENERATION_BITS 20
#define MASK            0xfffffu
#define FIRST_SIZE      64u

struct slot {
	struct seance_socket *socket;
	uint32_t generation;
	uint32_t next_free; /* slot + 1; 0 ends the list */
};

static struct slot *slots;
static uint32_t size, used, count, first_free;

static ngx_int_t
grow(void)
{
	uint32_t wider = size == 0 ? FIRST_SIZE : size * 2;
	struct slot *grown;

	if (wider > MASK + 1)
		return NGX_ERROR;
	grown = realloc(slots, wider * sizeof *slots);
	if (grown == NULL)
		return NGX_ERROR;
	slots = grown;
	size = wider;
	return NGX_OK;
}

uint64_t
seance_table_add(struct seance_socket *socket)
{
	struct slot *slot;
	uint32_t i;

	if (first_free != 0) {
		i = first_free - 1;
		first_free = slots[i].next_free;
	} else {
		if (used == size && grow() != NGX_OK)
			return 0;
		i = used++;
		slots[i].generation = 0;
	}
	slot = &slots[i];
	slot->socket = socket;
	slot->generation = (slot->generation + 1) & MASK;
	count++;
	return seance_worker_tag() << (SLOT_BITS + GENERATION_BITS) |
	       (uint64_t)slot->generation << SLOT_BITS | i;
}

uint32_t
seance_table_slot(uint64_t handle)
{
	return handle & MASK;
}

struct seance_socket *
seance_table_find(uint64_t handle)
{
	uint32_t i = seance_table_slot(handle);

	if (i >= used || ((handle >> SLOT_BITS) & MASK) != slots[i].generation ||
	    (handle ^ seance_worker_tag() << (SLOT_BITS + GENERATION_BITS)) >>
	            (SLOT_BITS + GENERATION_BITS) !=
	        0)
		return NULL;
	return slots[i].socket;
}

void
seance_table_remove(uint64_t handle)
{
	uint32_t i = seance_table_slot(handle);

	if (seance_table_find(handle) == NULL)
		return;
	slots[i].socket = NULL;
	slots[i].next_free = first_free;
	first_free = i + 1;
	count--;
}

struct seance_socket *
seance_table_at(uint32_t slot)
{
	return slots[slot].socket;
}

uint32_t
seance_table_slots(void)
{
	return used;
}

uint32_t
seance_table_count(void)
{
	return count;
}

void
seance_table_free(void)
{
	free(slots);
	slots = NULL;
	size = used = count = first_free = 0;
}
