/*
 * store_backend - what a backend of the store implements
 *
 * Each function does what the function of store.h with its name does.  A backend's own struct
 * begins with a struct store.  store.c has seen to it that writes come only between begin and
 * commit or rollback, that none comes after a failure, and that rollback has something to undo.
 */
#ifndef SEANCE_STORE_BACKEND_H
#define SEANCE_STORE_BACKEND_H

#include "store.h"

#define STORE_MESSAGE_BYTES 256

struct store_backend {
	void (*close)(struct store *store);
	bool (*changed)(struct store *store);

	enum store_status (*begin)(struct store *store, bool *foreign);
	enum store_status (*commit)(struct store *store);
	void (*rollback)(struct store *store);

	enum store_status (*append)(struct store *store, struct store_record *record);
	enum store_status (*last)(struct store *store, int64_t *number);
	enum store_status (*scan)(struct store *store, int64_t after, int64_t until, store_record_fn *row,
	                          void *context);
	enum store_status (*scan_back)(struct store *store, store_record_fn *row, void *context);
	enum store_status (*scan_keys)(struct store *store, store_key_fn *row, void *context);
	enum store_status (*history)(struct store *store, int64_t number, store_record_fn *row,
	                             void *context);
	enum store_status (*prune)(struct store *store, int64_t until, int limit, int *deleted);

	enum store_status (*instance_add)(struct store *store, struct store_instance *instance,
	                                  const char *state);
	enum store_status (*instance_put)(struct store *store, const struct store_instance *instance,
	                                  const char *state);
	enum store_status (*instance_delete)(struct store *store, int64_t id);
	enum store_status (*instance_find)(struct store *store, const char *topic, store_instance_fn *row,
	                                   void *context);
	enum store_status (*instance_get)(struct store *store, int64_t id, store_instance_fn *row,
	                                  void *context);
	enum store_status (*instance_state)(struct store *store, int64_t id, char **state);
	enum store_status (*scan_instances)(struct store *store, store_instance_fn *row, void *context);

	enum store_status (*socket_add)(struct store *store, struct store_socket *socket);
	enum store_status (*socket_delete)(struct store *store, int64_t id);
	enum store_status (*scan_sockets)(struct store *store, store_socket_fn *row, void *context);

	enum store_status (*join_add)(struct store *store, const struct store_join *join);
	enum store_status (*join_assigns)(struct store *store, int64_t number, const char *assigns);
	enum store_status (*join_end)(struct store *store, int64_t number, int64_t ended);
	enum store_status (*scan_joins)(struct store *store, store_join_fn *row, void *context);

	enum store_status (*subscribe)(struct store *store, int64_t instance, const char *topic);
	enum store_status (*unsubscribe)(struct store *store, int64_t instance, const char *topic);
	enum store_status (*subscription)(struct store *store, int64_t instance, const char *topic,
	                                  int64_t *position);
	enum store_status (*subscriptions)(struct store *store, int64_t instance, int64_t *count);
	enum store_status (*broadcast_add)(struct store *store, struct store_broadcast *broadcast);
	enum store_status (*scan_pending)(struct store *store, const char *after, store_broadcast_fn *row,
	                                  void *context);
	enum store_status (*scan_broadcasts)(struct store *store, const char *topic, int64_t after,
	                                     store_broadcast_fn *row, void *context);
	enum store_status (*broadcast_done)(struct store *store, int64_t instance, const char *topic,
	                                    int64_t id);
	enum store_status (*broadcasts_prune)(struct store *store, const char *topic);
	enum store_status (*backlog)(struct store *store, int64_t *count);

	enum store_status (*timer_add)(struct store *store, struct store_timer *timer);
	enum store_status (*timer_delete)(struct store *store, int64_t instance, int64_t id);
	enum store_status (*timer_get)(struct store *store, int64_t id, store_timer_fn *row, void *context);
	enum store_status (*scan_timers)(struct store *store, store_timer_fn *row, void *context);
	enum store_status (*set_aside)(struct store *store, const struct store_refused *refused);

	enum store_status (*instance_schema)(struct store *store, int64_t id, int64_t schema);
	enum store_status (*timer_delete_kind)(struct store *store, int64_t instance, int64_t kind);
	enum store_status (*presence_put)(struct store *store, struct store_presence *presence);
	enum store_status (*presence_delete)(struct store *store, int64_t number);
	enum store_status (*scan_presences)(struct store *store, int64_t instance, store_presence_fn *row,
	                                    void *context);

	enum store_status (*answer_add)(struct store *store, const struct store_answer *answer);
	enum store_status (*answer_get)(struct store *store, const char *key, store_answer_fn *row,
	                                void *context);
	enum store_status (*answers_prune)(struct store *store, int64_t now_ms);

	enum store_status (*mark_put)(struct store *store, const char *name, int64_t value);
	enum store_status (*mark_get)(struct store *store, const char *name, int64_t *value);
};

struct store {
	const struct store_backend *backend;
	bool writing;                      /* a transaction is open */
	enum store_status failed;          /* why it can only be rolled back; STORE_OK: it is sound */
	char message[STORE_MESSAGE_BYTES]; /* set by the backend whenever it returns a failure */
};

/* store_failure - is it one?  STORE_NONE is an answer, not a failure */
static inline bool
store_failure(enum store_status status)
{
	return status != STORE_OK && status != STORE_NONE;
}

/* store_no_memory - says so and aborts: what is committed is safe, what is not cannot be trusted */
_Noreturn void store_no_memory(void);

/* store_check_memory - the pointer that an allocation gave, if it did */
static inline void *
store_check_memory(void *memory)
{
	if (memory == NULL)
		store_no_memory();
	return memory;
}

#endif
