#include "head.h"

ngx_table_elt_t *
seance_head_push(ngx_http_request_t *r, const char *name, const u_char *value, size_t len)
{
	ngx_table_elt_t *h = ngx_list_push(&r->headers_out.headers);

	if (h == NULL)
		return NULL;
	ngx_memzero(h, sizeof *h);
	h->hash = 1;
	h->key.data = (u_char *)name;
	h->key.len = ngx_strlen(name);
	h->value.data = (u_char *)value;
	h->value.len = len;
	return h;
}

void
seance_head_clear(ngx_http_request_t *r)
{
	ngx_http_clear_content_length(r);
	ngx_http_clear_accept_ranges(r);
	ngx_http_clear_last_modified(r);
	ngx_http_clear_etag(r);
	r->headers_out.content_type.len = 0;
	r->headers_out.content_type_len = 0;
}

static ngx_uint_t
is_copied(const ngx_str_t *name)
{
	static const char cors[] = "access-control-";

	return (name->len == 4 && ngx_strncasecmp(name->data, (u_char *)"vary", 4) == 0) ||
	       (name->len > sizeof cors - 1 &&
	        ngx_strncasecmp(name->data, (u_char *)cors, sizeof cors - 1) == 0);
}

ngx_int_t
seance_head_copy(ngx_http_request_t *r)
{
	if (r->upstream == NULL)
		return NGX_OK;
	for (ngx_list_part_t *part = &r->upstream->headers_in.headers.part; part != NULL;
	     part = part->next) {
		ngx_table_elt_t *h = part->elts;

		for (ngx_uint_t i = 0; i < part->nelts; i++) {
			ngx_table_elt_t *copy;

			if (!is_copied(&h[i].key))
				continue;
			copy = seance_head_push(r, "", h[i].value.data, h[i].value.len);
			if (copy == NULL)
				return NGX_ERROR;
			copy->key = h[i].key;
		}
	}
	return NGX_OK;
}
