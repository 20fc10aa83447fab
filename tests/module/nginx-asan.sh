#!/bin/bash
# nginx-asan.sh COMMAND... - runs it with a whole nginx built with AddressSanitizer, module included
#
# Made of the distribution's source package, of the version that is installed or one near to it, with -DNGX_DEBUG_PALLOC=1: each
# allocation from a pool is one of malloc's, so that errors inside pools show.  The source comes through
# apt with a source list of its own; the system's lists are not touched.  Needs `scripts/deps nginx-asan`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$here/../..
out=$tree/build/nginx-asan
mkdir -p "$out"
out=$(cd "$out" && pwd)
exec 9>"$out/building"
flock 9

version=$(dpkg-query -W -f '${Version}' nginx)
if [ ! -e "$out/source-$version" ]; then
	codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
	rm -rf "$out/nginx" "$out"/source-* "$out"/configured
	mkdir -p "$out/lists/partial" "$out/download"
	printf 'deb-src http://deb.debian.org/debian %s main\n' "$codename" "$codename-updates" >"$out/sources.list"
	printf 'deb-src http://deb.debian.org/debian-security %s-security main\n' "$codename" >>"$out/sources.list"
	own=(-o "Dir::Etc::sourcelist=$out/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$out/lists"
		-o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=" -o APT::Sandbox::User=root)
	apt-get "${own[@]}" -qq update
	# mirrors do not keep every version
	(cd "$out/download" && for wanted in "$version" $(apt-cache "${own[@]}" showsrc nginx | sed -n 's/^Version: //p' | sort -rV); do
		apt-get "${own[@]}" -qq source --download-only "nginx=$wanted" 2>"$out/apt.log" && exit
	done; cat "$out/apt.log" >&2; exit 1)
	dpkg-source -x "$out"/download/nginx_*.dsc "$out/nginx" >/dev/null
	touch "$out/source-$version"
fi

# what it was configured for: other files of the module need it anew
wanted=$(cat "$tree/nginx/module/config" "$0" | cksum)
if [ "$(cat "$out/configured" 2>/dev/null)" != "$wanted" ]; then
	(
		cd "$out/nginx"
		./configure --prefix="$out/prefix" --with-threads --with-http_ssl_module --with-http_v2_module \
			--with-http_realip_module --with-http_auth_request_module \
			--with-cc-opt='-g -O1 -fsanitize=address -fno-omit-frame-pointer -DNGX_DEBUG_PALLOC=1 -Wno-error' \
			--with-ld-opt=-fsanitize=address --add-dynamic-module="$tree/nginx/module"
	) >"$out/configure.log" 2>&1 || { tail -n 20 "$out/configure.log" >&2; exit 1; }
	echo "$wanted" >"$out/configured"
fi
make -s -j"$(nproc)" -C "$out/nginx" -f objs/Makefile binary modules >"$out/make.log" 2>&1 || { tail -n 20 "$out/make.log" >&2; exit 1; }
flock -u 9

export NGINX_BINARY=$out/nginx/objs/nginx
export SEANCE_MODULE=$out/nginx/objs/ngx_http_seance_module.so
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:exitcode=99:fast_unwind_on_malloc=0
export LSAN_OPTIONS=suppressions=$here/asan.supp:print_suppressions=0
exec "$@"
