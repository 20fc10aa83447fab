/*
 * ngx_http_seance_module - directives, what a location holds, the worker's beginning and end
 */
#include "handshake.h"
#include "link.h"
#include "module.h"
#include "pool.h"
#include "socket.h"
#include "stream.h"
#include "table.h"
#include "wait.h"

#include <ngx_event.h>
#include <ngx_event_connect.h>
#include <sys/random.h>

#define KEEPER_MS 60000 /* any time does: the keeper only has to exist */

struct main_conf {
	ngx_array_t links; /* of struct seance_link * */
	ngx_array_t pools; /* of struct seance_pool * */
};

/* The worker */

static ngx_uint_t kept;
static ngx_event_t keeper;
static ngx_connection_t keeper_dummy;
static uint64_t tag;
static ngx_uint_t started; /* this process is one that holds sockets */

void
seance_keep(void)
{
	if (kept++ == 0)
		ngx_add_timer(&keeper, KEEPER_MS);
}

void
seance_unkeep(void)
{
	if (--kept == 0)
		ngx_del_timer(&keeper);
}

static void
keeper_again(ngx_event_t *ev)
{
	ngx_add_timer(ev, KEEPER_MS);
}

ngx_msec_t
seance_back_off(ngx_msec_t delay, ngx_msec_t min, ngx_msec_t max)
{
	if (delay < min)
		return min;
	return delay * 2 < max ? delay * 2 : max;
}

uint64_t
seance_worker_tag(void)
{
	return tag;
}

static uint64_t
draw_tag(void)
{
	uint64_t drawn;

	if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
		drawn = (uint64_t)ngx_random() << 32 ^ (uint64_t)ngx_random() ^ (uint64_t)ngx_pid << 16;
	return drawn;
}

ngx_connection_t *
seance_connect(struct sockaddr_un *address, ngx_str_t *name)
{
	ngx_peer_connection_t pc;
	ngx_log_t quiet = *ngx_cycle->log;
	ngx_int_t rc;

	quiet.log_level = 0;
	ngx_memzero(&pc, sizeof pc);
	pc.sockaddr = (struct sockaddr *)address;
	pc.socklen = sizeof *address;
	pc.name = name;
	pc.get = ngx_event_get_peer;
	pc.log = &quiet;
	pc.log_error = NGX_ERROR_ERR;
	rc = ngx_event_connect_peer(&pc);
	if (rc != NGX_OK && rc != NGX_AGAIN) {
		if (pc.connection != NULL)
			ngx_close_connection(pc.connection);
		return NULL;
	}
	pc.connection->log = ngx_cycle->log;
	pc.connection->read->log = ngx_cycle->log;
	pc.connection->write->log = ngx_cycle->log;
	return pc.connection;
}

void
seance_count_connections(const struct seance_link *link, uint64_t *all, uint64_t *busy)
{
	struct main_conf *main = ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_seance_module);
	struct seance_pool **pools = main->pools.elts;

	*all = *busy = 0;
	for (ngx_uint_t i = 0; i < main->pools.nelts; i++) {
		if (pools[i]->link != link)
			continue;
		*all += pools[i]->count;
		*busy += seance_pool_busy(pools[i]);
	}
}

static ngx_int_t
init_process(ngx_cycle_t *cycle)
{
	struct main_conf *main;
	struct seance_link **links;

	/* cache manager and loader come here, too */
	if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
		return NGX_OK;
	main = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_seance_module);
	if (main == NULL)
		return NGX_OK;
	started = 1;
	tag = draw_tag();
	keeper_dummy.fd = (ngx_socket_t)-1;
	keeper.handler = keeper_again;
	keeper.data = &keeper_dummy;
	keeper.log = cycle->log;
	seance_sockets_init();
	links = main->links.elts;
	for (ngx_uint_t i = 0; i < main->links.nelts; i++)
		seance_link_start(links[i]);
	return NGX_OK;
}

static void
exit_process(ngx_cycle_t *cycle)
{
	struct main_conf *main = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_seance_module);
	struct seance_pool **pools;
	struct seance_link **links;

	if (!started || main == NULL)
		return;
	pools = main->pools.elts;
	for (ngx_uint_t i = 0; i < main->pools.nelts; i++)
		seance_pool_exit(pools[i]);
	seance_sockets_exit();
	links = main->links.elts;
	for (ngx_uint_t i = 0; i < main->links.nelts; i++)
		seance_link_exit(links[i]);
}

/* Holding: where the program's X-Accel-Redirect has led */

static ngx_uint_t
id_valid(const ngx_str_t *id)
{
	if (id->len == 0 || id->len > LINK_ID_MAX)
		return 0;
	for (size_t i = 0; i < id->len; i++) {
		u_char c = id->data[i];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
		      c == '_'))
			return 0;
	}
	return 1;
}

static ngx_str_t
last_segment(ngx_str_t path)
{
	size_t at = path.len;

	while (at > 0 && path.data[at - 1] != '/')
		at--;
	return (ngx_str_t){path.len - at, path.data + at};
}

/* The kind that a path names in its last but one segment: .../websocket/ID; 0: none. */
static ngx_uint_t
kind_of(const ngx_str_t *name)
{
	static const struct {
		ngx_str_t name;
		ngx_uint_t kind;
	} kinds[] = {{ngx_string("websocket"), LINK_WEBSOCKET},
	             {ngx_string("events"), LINK_STREAM},
	             {ngx_string("wait"), LINK_WAIT}};

	for (ngx_uint_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (kinds[i].name.len == name->len &&
		    ngx_strncmp(kinds[i].name.data, name->data, name->len) == 0)
			return kinds[i].kind;
	return 0;
}

static ngx_int_t
read_target(ngx_http_request_t *r, const struct seance_conf *conf, ngx_uint_t *kind, ngx_str_t *id)
{
	ngx_str_t name, parent = r->uri;
	const char *why = NULL;

	*id = last_segment(r->uri);
	parent.len -= ngx_min(id->len + 1, parent.len);
	name = last_segment(parent);
	*kind = kind_of(&name);
	if (*kind == 0)
		why = "nothing of that kind is held";
	else if (!id_valid(id))
		why = "no valid id";
	else if (*kind != LINK_WEBSOCKET && seance_link_none(conf->link))
		why = "the location has no link";
	if (why == NULL)
		return NGX_OK;
	ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "seance: bad redirect to \"%V\": %s", &r->uri,
	              why);
	return NGX_HTTP_INTERNAL_SERVER_ERROR;
}

/* May the worker hold one more?  Said in the log once, until one could be held again. */
static ngx_int_t
check_room(const struct seance_conf *conf)
{
	static ngx_uint_t full;
	ngx_uint_t was_full = full;

	full = conf->sockets != 0 && seance_table_count() >= conf->sockets;
	if (full && !was_full)
		ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
		              "seance: the worker holds %ui sockets: more are refused", conf->sockets);
	return full ? NGX_HTTP_SERVICE_UNAVAILABLE : NGX_OK;
}

static ngx_int_t
hold(ngx_http_request_t *r, struct seance_conf *conf)
{
	ngx_uint_t kind;
	ngx_str_t id;
	ngx_int_t rc = read_target(r, conf, &kind, &id);

	if (rc == NGX_OK)
		rc = check_room(conf);
	if (rc != NGX_OK)
		return rc;
	switch (kind) {
	case LINK_STREAM:
		return seance_stream_start(r, conf, &id);
	case LINK_WAIT:
		return seance_wait_start(r, conf, &id);
	default:
		return seance_handshake(r, conf, &id);
	}
}

static ngx_int_t
handler(ngx_http_request_t *r)
{
	struct seance_conf *conf = ngx_http_get_module_loc_conf(r, ngx_http_seance_module);
	ngx_int_t rc;

	if (r != r->main || !r->internal)
		return NGX_HTTP_NOT_FOUND;
	rc = hold(r, conf);
	if (rc == NGX_OK) {
		r->main->count++;
		return NGX_DONE;
	}
	seance_count(conf->link, REFUSED, 1);
	return rc == NGX_DONE ? NGX_OK : rc;
}

/* Configuration */

char *
seance_address(ngx_str_t *value, struct sockaddr_un *address, ngx_str_t *name)
{
	if (value->len <= 5 || ngx_strncmp(value->data, "unix:", 5) != 0)
		return "must name a unix socket, unix:/path";
	if (value->len - 5 >= sizeof address->sun_path)
		return "has a path that is too long for a unix socket";
	ngx_memzero(address, sizeof *address);
	address->sun_family = AF_UNIX;
	ngx_memcpy(address->sun_path, value->data + 5, value->len - 5);
	*name = *value;
	return NULL;
}

/* The link of a name, or the one without; made when it is not there yet, so that it may be defined later. */
static struct seance_link *
find_link(ngx_conf_t *cf, ngx_str_t *name)
{
	struct main_conf *main = ngx_http_conf_get_module_main_conf(cf, ngx_http_seance_module);
	struct seance_link **links = main->links.elts, **place, *link;

	for (ngx_uint_t i = 0; i < main->links.nelts; i++)
		if (links[i]->name.len == name->len &&
		    ngx_strncmp(links[i]->name.data, name->data, name->len) == 0)
			return links[i];
	place = ngx_array_push(&main->links);
	link = ngx_pcalloc(cf->pool, sizeof *link);
	if (place == NULL || link == NULL)
		return NULL;
	*place = link;
	link->name = *name;
	seance_link_init(link);
	return link;
}

static char *
set_link(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
	ngx_str_t *value = cf->args->elts;
	struct seance_link *link;

	if (value[1].len == 0)
		return "needs a name";
	link = find_link(cf, &value[1]);
	if (link == NULL)
		return NGX_CONF_ERROR;
	if (link->path.data != NULL)
		return "is duplicate";
	return seance_address(&value[2], &link->address, &link->path);
}

static char *
set_hold(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
	struct seance_conf *location = conf;
	ngx_str_t *value = cf->args->elts, none = ngx_string("");
	ngx_http_core_loc_conf_t *clcf;

	if (location->link != NULL)
		return "is duplicate";
	location->link = find_link(cf, cf->args->nelts > 1 ? &value[1] : &none);
	if (location->link == NULL)
		return NGX_CONF_ERROR;
	clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
	clcf->handler = handler;
	return NGX_CONF_OK;
}

static char *
set_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
	struct main_conf *main = ngx_http_conf_get_module_main_conf(cf, ngx_http_seance_module);
	struct seance_conf *location = conf;
	ngx_str_t *value = cf->args->elts;
	struct seance_pool **place, *pool;

	if (location->pool != NULL)
		return "is duplicate";
	place = ngx_array_push(&main->pools);
	pool = ngx_pcalloc(cf->pool, sizeof *pool);
	if (place == NULL || pool == NULL)
		return NGX_CONF_ERROR;
	*place = pool;
	location->pool = pool;
	seance_pool_init(pool);
	return seance_address(&value[1], &pool->address, &pool->name);
}

static char *
set_param(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
	static const char *own[] = {"REQUEST_METHOD",     "CONTENT_TYPE",   "CONTENT_LENGTH",
	                            "HTTP_CONNECTION_ID", "SEANCE_SOCKET",  "SEANCE_MESSAGE",
	                            "SEANCE_WORKER",      "SEANCE_POSITION"};
	struct seance_conf *location = conf;
	ngx_str_t *value = cf->args->elts;
	ngx_http_compile_complex_value_t compile;
	struct seance_param *param;

	for (ngx_uint_t i = 0; i < sizeof own / sizeof own[0]; i++)
		if (ngx_strcasecmp(value[1].data, (u_char *)own[i]) == 0)
			return "names a parameter that the module sends itself";
	if (location->params == NULL) {
		location->params = ngx_array_create(cf->pool, 4, sizeof *param);
		if (location->params == NULL)
			return NGX_CONF_ERROR;
	}
	param = ngx_array_push(location->params);
	if (param == NULL)
		return NGX_CONF_ERROR;
	ngx_memzero(param, sizeof *param);
	param->name = value[1];
	ngx_memzero(&compile, sizeof compile);
	compile.cf = cf;
	compile.value = &value[2];
	compile.complex_value = &param->value;
	return ngx_http_compile_complex_value(&compile) == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
}

static void *
create_main_conf(ngx_conf_t *cf)
{
	struct main_conf *main = ngx_pcalloc(cf->pool, sizeof *main);

	if (main == NULL || ngx_array_init(&main->links, cf->pool, 2, sizeof(void *)) != NGX_OK ||
	    ngx_array_init(&main->pools, cf->pool, 2, sizeof(void *)) != NGX_OK)
		return NULL;
	return main;
}

static void *
create_location(ngx_conf_t *cf)
{
	struct seance_conf *location = ngx_pcalloc(cf->pool, sizeof *location);

	if (location == NULL)
		return NULL;
	location->connections = NGX_CONF_UNSET_UINT;
	location->keep_conn = NGX_CONF_UNSET;
	location->sockets = NGX_CONF_UNSET_UINT;
	location->message_size = NGX_CONF_UNSET_SIZE;
	location->queue = NGX_CONF_UNSET_SIZE;
	location->buffer = NGX_CONF_UNSET_SIZE;
	location->buffer_limit = NGX_CONF_UNSET_SIZE;
	location->held_back = NGX_CONF_UNSET_UINT;
	location->idle_timeout = NGX_CONF_UNSET_MSEC;
	location->deadline = NGX_CONF_UNSET_MSEC;
	location->close_timeout = NGX_CONF_UNSET_MSEC;
	location->ping = NGX_CONF_UNSET_MSEC;
	return location;
}

static char *
check_location(ngx_conf_t *cf, struct seance_conf *location)
{
	const char *why = NULL;

	if (location->pool == NULL)
		why = "\"seance_hold\" needs \"seance_pass\"";
	else if (location->ping == 0)
		why = "\"seance_ping\" must not be 0";
	else if (location->connections == 0)
		why = "\"seance_connections\" must not be 0";
	else if (location->buffer_limit < location->buffer)
		why = "\"seance_buffer_limit\" must not be below \"seance_buffer\"";
	if (why != NULL) {
		ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%s", why);
		return NGX_CONF_ERROR;
	}
	location->pool->max = location->connections;
	location->pool->keep = location->keep_conn;
	location->pool->link = location->link;
	location->link->deadline = ngx_max(location->link->deadline, location->deadline);
	return NGX_CONF_OK;
}

static char *
merge_location(ngx_conf_t *cf, void *parent, void *child)
{
	struct seance_conf *outer = parent, *location = child;

	if (location->pool == NULL)
		location->pool = outer->pool;
	if (location->params == NULL)
		location->params = outer->params;
	ngx_conf_merge_uint_value(location->connections, outer->connections, 64);
	ngx_conf_merge_value(location->keep_conn, outer->keep_conn, 1);
	ngx_conf_merge_uint_value(location->sockets, outer->sockets, 0);
	ngx_conf_merge_size_value(location->message_size, outer->message_size, 1024 * 1024);
	ngx_conf_merge_size_value(location->queue, outer->queue, 64 * 1024);
	ngx_conf_merge_size_value(location->buffer, outer->buffer, 256 * 1024);
	ngx_conf_merge_size_value(location->buffer_limit, outer->buffer_limit, 16 * 1024 * 1024);
	ngx_conf_merge_uint_value(location->held_back, outer->held_back, 64);
	ngx_conf_merge_msec_value(location->idle_timeout, outer->idle_timeout, 60000);
	ngx_conf_merge_msec_value(location->deadline, outer->deadline, 30000);
	ngx_conf_merge_msec_value(location->close_timeout, outer->close_timeout, 5000);
	ngx_conf_merge_msec_value(location->ping, outer->ping, 15000);
	return location->link != NULL ? check_location(cf, location) : NGX_CONF_OK;
}

/* Every name that a location holds for must have a link. */
static char *
init_main_conf(ngx_conf_t *cf, void *conf)
{
	struct main_conf *main = conf;
	struct seance_link **links = main->links.elts;

	for (ngx_uint_t i = 0; i < main->links.nelts; i++) {
		if (links[i]->path.data == NULL && !seance_link_none(links[i])) {
			ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "no \"seance_link\" is named \"%V\"",
			              &links[i]->name);
			return NGX_CONF_ERROR;
		}
	}
	return NGX_CONF_OK;
}

#define ANYWHERE (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF)
#define SETTING(name, set, field)                                                   \
	{                                                                               \
		ngx_string(name), ANYWHERE | NGX_CONF_TAKE1, set, NGX_HTTP_LOC_CONF_OFFSET, \
			offsetof(struct seance_conf, field), NULL                               \
	}

static ngx_command_t commands[] = {
	{ngx_string("seance_link"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE2, set_link, NGX_HTTP_MAIN_CONF_OFFSET,
     0, NULL},
	{ngx_string("seance_hold"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS | NGX_CONF_TAKE1, set_hold,
     NGX_HTTP_LOC_CONF_OFFSET, 0, NULL},
	{ngx_string("seance_pass"), ANYWHERE | NGX_CONF_TAKE1, set_pass, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL},
	{ngx_string("seance_param"), ANYWHERE | NGX_CONF_TAKE2, set_param, NGX_HTTP_LOC_CONF_OFFSET, 0,
     NULL},
	SETTING("seance_connections", ngx_conf_set_num_slot, connections),
	{ngx_string("seance_keep_conn"), ANYWHERE | NGX_CONF_FLAG, ngx_conf_set_flag_slot,
     NGX_HTTP_LOC_CONF_OFFSET, offsetof(struct seance_conf, keep_conn), NULL},
	SETTING("seance_sockets", ngx_conf_set_num_slot, sockets),
	SETTING("seance_message_size", ngx_conf_set_size_slot, message_size),
	SETTING("seance_queue", ngx_conf_set_size_slot, queue),
	SETTING("seance_buffer", ngx_conf_set_size_slot, buffer),
	SETTING("seance_buffer_limit", ngx_conf_set_size_slot, buffer_limit),
	SETTING("seance_held_back", ngx_conf_set_num_slot, held_back),
	SETTING("seance_idle_timeout", ngx_conf_set_msec_slot, idle_timeout),
	SETTING("seance_deadline", ngx_conf_set_msec_slot, deadline),
	SETTING("seance_close_timeout", ngx_conf_set_msec_slot, close_timeout),
	SETTING("seance_ping", ngx_conf_set_msec_slot, ping),
	ngx_null_command};

static ngx_http_module_t context = {
	.create_main_conf = create_main_conf,
	.init_main_conf = init_main_conf,
	.create_loc_conf = create_location,
	.merge_loc_conf = merge_location,
};

ngx_module_t ngx_http_seance_module = {NGX_MODULE_V1,
                                       .ctx = &context,
                                       .commands = commands,
                                       .type = NGX_HTTP_MODULE,
                                       .init_process = init_process,
                                       .exit_process = exit_process,
                                       NGX_MODULE_V1_PADDING};
