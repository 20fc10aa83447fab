#!/bin/bash
# build.sh [DIR] [CFLAGS...] - builds the nginx module for the nginx that is installed
#
# The result is DIR/ngx_http_seance_module.so (DIR: build/module at the root of the tree).  It is
# made of nginx-dev's sources and flags, out of tree; not made again when nothing has changed.
# CFLAGS, such as -fsanitize=address, are added to nginx's own.
set -eu

module=$(cd "$(dirname "$0")" && pwd)
out=${1:-$module/../../build/module}
[ $# -gt 0 ] && shift
flags="$*"
source=${NGINX_SOURCE:-/usr/share/nginx/src}

if [ ! -r "$source/conf_flags" ]; then
	echo "build.sh: $source is not there: install nginx-dev" >&2
	exit 1
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
exec 9> "$out/building"
flock 9                        # one at a time: builds may be started side by side
tree=$out/nginx so=$out/ngx_http_seance_module.so
version=$(sed -n 's/.*define NGINX_VERSION *"\(.*\)"/\1/p' "$source/src/core/nginx.h")
# what the tree was configured for: another nginx, other flags or other files need it anew
wanted="$version|$flags|$(cksum "$module/config" "$source/conf_flags" | tr '\n' ' ')"

if [ "$(cat "$out/configured" 2>/dev/null)" != "$wanted" ]; then
	rm -rf "$tree" "$so"
	cp -r "$source" "$tree"
	(
		cd "$tree"
		. ./conf_flags
		./configure "${NGX_CONF_FLAGS[@]}" --with-cc-opt="$flags -g -O2 -fPIC -fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wall -Wextra -Wno-unused-parameter -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla" \
			--with-ld-opt="$flags -Wl,-z,relro -Wl,-z,now" \
			--add-dynamic-module="$module" > "$out/configure.log" 2>&1
	) || { tail -n 20 "$out/configure.log" >&2; exit 1; }
	echo "$wanted" > "$out/configured"
fi
make -s -C "$tree" -f objs/Makefile modules
if ! cmp -s "$tree/objs/ngx_http_seance_module.so" "$so"; then
	cp "$tree/objs/ngx_http_seance_module.so" "$so.new"
	mv "$so.new" "$so"
fi
touch "$so"                    # for make: it is as new as its sources
