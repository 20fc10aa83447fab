#!/bin/bash
# asan.sh COMMAND... - runs it with the module built with AddressSanitizer, for nginx with libasan preloaded
#
# Leaks of the module are looked for, too: it frees all it has when a worker exits.  nginx itself
# does not, so what it and its libraries allocated is left out (asan.supp).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
"$here/../../nginx/module/build.sh" "$here/../../build/module-asan" -fsanitize=address -fno-omit-frame-pointer
export SEANCE_MODULE=$here/../../build/module-asan/ngx_http_seance_module.so
export NGINX_PRELOAD; NGINX_PRELOAD=$(gcc -print-file-name=libasan.so)
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:exitcode=99:fast_unwind_on_malloc=1
export LSAN_OPTIONS=suppressions=$here/asan.supp:print_suppressions=0
exec "$@"
