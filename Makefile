# Seance in C - build, run, test.  GNU Make.
#
#   make                       the library, the nginx module and the examples' programs
#   make run                   nginx and a program, in the foreground; installs what is missing
#                              PORT=8080 LISTEN=127.0.0.1 APP=examples/todos DIR=run
#                              SEANCE_FLAGS="--durability=normal ..." NGINX_WORKERS=1 MODULE=file.so
#   make test                  everything, unit tests with sanitizers too; last line "N passed, N failed"
#   make test-sanitize         the same with the program itself sanitized
#   make test-nginx-asan       the module's tests in a whole nginx under AddressSanitizer, of Debian's source
#   make torture               TORTURE=50000 connections that break while all else does, plain and in both kinds of
#                              AddressSanitizer
#   make lint, make format     clang-format, clang-tidy, cppcheck
#   make bench                 figures and ratios
#   make bench-module          those of the nginx module: echo beside npm's ws, fan-out, memory
#   make fuzz                  FUZZ_SECONDS=60 for each target of tests/fuzz, or those of FUZZ="json diff"
#   make unit                  only builds the unit tests (build/<variant>/unit/)
#   make deps, make deps-test  only installs what is missing
#   make install, make uninstall  PREFIX=/usr/local DESTDIR= (library, header, unit file), and what a Debian nginx
#                              loads and includes, in /usr/lib/nginx, /usr/share/nginx and /etc/nginx
#   make clean
#
#   SANITIZE=address,undefined or SANITIZE=thread is a variant: it has a folder of its own in build/.
#   DEV=1 makes every warning an error.

PORT ?= 8080
LISTEN ?= 127.0.0.1
APP ?= examples/todos
DIR ?= run
SEANCE_FLAGS ?=
NGINX_WORKERS ?= 1
NGINX_PRELOAD ?=
SANITIZE ?=
DEV ?=

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# ---- variant, flags ------------------------------------------------------------------------------

comma := ,
VARIANT := $(if $(SANITIZE),$(subst $(comma),-,$(SANITIZE)),normal)
BUILD := build/$(VARIANT)
GEN := build/gen

ifeq ($(origin CC),default)
CC := gcc
endif
AR := ar
PKG_CONFIG ?= pkg-config
CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
HARDEN := $(if $(SANITIZE),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2) -fstack-protector-strong
SANITIZERS := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=undefined -fno-omit-frame-pointer)

# Asked when a recipe first runs, not before: `make run` may have to install pkg-config.
PACKAGES_CFLAGS = $(eval PACKAGES_CFLAGS := $(shell $(PKG_CONFIG) --cflags json-c sqlite3) \
	$(shell $(PKG_CONFIG) --cflags fcgi 2>/dev/null))$(PACKAGES_CFLAGS)
PACKAGES_LIBS = $(eval PACKAGES_LIBS := $(shell $(PKG_CONFIG) --libs json-c sqlite3) \
	$(shell $(PKG_CONFIG) --libs fcgi 2>/dev/null || echo -lfcgi))$(PACKAGES_LIBS)

ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE= $(CFLAGS) $(WARNINGS) $(if $(DEV),-Werror) -fvisibility=hidden -fPIC -pthread \
	$(HARDEN) $(SANITIZERS) $(PACKAGES_CFLAGS)
ALL_LDFLAGS = $(LDFLAGS) -pthread -Wl,-z,relro,-z,now $(SANITIZERS)

compile = @mkdir -p $(@D)
compile += && echo "  CC    $@" && $(CC) $(1) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
link = @mkdir -p $(@D)
link += && echo "  LINK  $@" && $(CC) $(ALL_LDFLAGS) -o $@ $(1) $(PACKAGES_LIBS)

# ---- the library: each layer sees itself and what stands below it ---------------------------------

STORAGE_SEES := -Istorage -I$(GEN)
CHANNEL_SEES := -Ichannel -Istorage -Iinclude
CODECS_SEE := -Inginx/module
FCGI_SEES := -Ifcgi -Ichannel -Istorage -Iinclude -Inginx/module
# callbacks have the parameters of their contract, used or not
APP_SEES := -Iinclude -Wno-unused-parameter
TESTS_SEE := $(FCGI_SEES) -I$(GEN) -Itests

CODECS := websocket fcgi_record websocket_events link_message   # plain C, no nginx header
LIBRARY := $(BUILD)/libseance.a
LIBRARY_OBJECTS := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard fcgi/*.c channel/*.c storage/*.c) \
	nginx/module/link_message.c nginx/module/websocket_events.c)
CODEC_OBJECTS := $(patsubst %,$(BUILD)/obj/nginx/module/%.o,$(CODECS))

$(BUILD)/obj/storage/%.o: storage/%.c
	$(call compile,$(STORAGE_SEES))
$(BUILD)/obj/channel/%.o: channel/%.c
	$(call compile,$(CHANNEL_SEES))
$(BUILD)/obj/fcgi/%.o: fcgi/%.c
	$(call compile,$(FCGI_SEES))
$(BUILD)/obj/nginx/module/%.o: nginx/module/%.c
	$(call compile,$(CODECS_SEE))

# The schema as C strings; only the storage layer includes it.
$(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard storage/*.c)): | $(GEN)/schema_sql.h
$(GEN)/schema_sql.h: storage/schema.sql storage/views.sql
	@mkdir -p $(@D)
	@{ echo '/* Made from $^. */'; \
	   echo '#pragma GCC diagnostic ignored "-Woverlength-strings"'; \
	   for file in $^; do \
	       echo "static const char $$(basename $$file .sql)_sql[] ="; \
	       sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/\t"/' -e 's/$$/\\n"/' $$file; \
	       echo '	"";'; \
	   done; } >$@.new && mv $@.new $@

$(LIBRARY): $(LIBRARY_OBJECTS)
	@mkdir -p $(@D)
	@echo "  AR    $@"
	@rm -f $@ && $(AR) rcs $@ $^

library: $(LIBRARY)

# ---- programs of authors: FOLDER/*.c becomes FOLDER/NAME, NAME the folder's last name --------------
# A sanitized one stays in build/<variant>/app/, beside the normal one.

in_tree = $(patsubst $(CURDIR)/%,%,$(abspath $(1)))
program_of = $(if $(SANITIZE),$(BUILD)/app/$(call in_tree,$(1))/$(notdir $(1)),$(call in_tree,$(1))/$(notdir $(1)))

APP_FOLDER := $(call in_tree,$(APP))
PROGRAM_FOLDERS := $(sort $(APP_FOLDER) tests/conformance $(wildcard examples/*))
# only those with C files; APP may also be a folder with a finished program
PROGRAM_FOLDERS := $(foreach folder,$(PROGRAM_FOLDERS),$(if $(wildcard $(folder)/*.c),$(folder)))

define program_rules
$(call program_of,$(1)): $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard $(1)/*.c)) $(LIBRARY)
	$$(call link,$$^)
$(BUILD)/obj/$(1)/%.o: $(1)/%.c
	$$(call compile,$(APP_SEES))
-include $(patsubst %.c,$(BUILD)/obj/%.d,$(wildcard $(1)/*.c))
endef
$(foreach folder,$(PROGRAM_FOLDERS),$(eval $(call program_rules,$(folder))))

PROGRAM := $(call program_of,$(APP_FOLDER))
program: $(if $(wildcard $(APP_FOLDER)/*.c),$(PROGRAM))
programs: $(foreach folder,$(PROGRAM_FOLDERS),$(call program_of,$(folder)))

# ---- the nginx module: built anew when its sources or the installed nginx change -------------------

MODULE_FILE := build/module/ngx_http_seance_module.so
MODULE ?= $(MODULE_FILE)

module: $(MODULE_FILE)
$(MODULE_FILE): $(wildcard nginx/module/*) build/module/nginx-version
	@echo "  NGINX $@"
	@env -u MAKEFLAGS -u MFLAGS nginx/module/build.sh
	@touch $@
build/module/nginx-version: FORCE
	@mkdir -p $(@D)
	@{ PATH=$$PATH:/usr/sbin; nginx -V 2>&1; dpkg-query -W nginx-dev 2>&1; } >$@.new || true
	@if cmp -s $@.new $@; then rm $@.new; else rm -f $(@D)/configured; mv $@.new $@; fi
FORCE:

# ---- test programs --------------------------------------------------------------------------------

UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/test_*.c))
BENCH := $(patsubst tests/bench/%.c,$(BUILD)/bench_%,$(wildcard tests/bench/*.c))
DIFF := $(patsubst tests/diff/%.c,$(BUILD)/diff_%,$(wildcard tests/diff/*.c))
ECHO := $(patsubst tests/echo/%.c,$(BUILD)/%,$(wildcard tests/echo/echo.c))
TEST_PROGRAMS := $(UNIT) $(BENCH) $(DIFF) $(ECHO)

# programs of one file; the others of tests/unit are shared by all unit tests
UNIT_SHARED := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out $(wildcard tests/unit/test_*.c),$(wildcard tests/unit/*.c)))

# the fuzz targets: test_corpus replays what they have found; with clang (`make fuzz`) each is a program
FUZZ_OBJECTS := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard tests/fuzz/fuzz_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
CORPUS := $(BUILD)/unit/test_corpus

$(filter-out $(CORPUS),$(UNIT)): $(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(UNIT_SHARED) $(CODEC_OBJECTS) $(LIBRARY)
	$(call link,$^)
$(CORPUS): $(BUILD)/obj/tests/unit/test_corpus.o $(FUZZ_OBJECTS) $(CODEC_OBJECTS) $(LIBRARY)
	$(call link,$^)
$(FUZZERS): $(BUILD)/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/obj/tests/fuzz/one.o $(CODEC_OBJECTS) $(LIBRARY)
	$(call link,-fsanitize=fuzzer $^)
$(BUILD)/obj/tests/fuzz/%.o: tests/fuzz/%.c
	$(call compile,$(TESTS_SEE))
$(BENCH): $(BUILD)/bench_%: $(BUILD)/obj/tests/bench/%.o $(CODEC_OBJECTS) $(LIBRARY)
	$(call link,$^)
$(DIFF): $(BUILD)/diff_%: $(BUILD)/obj/tests/diff/%.o $(CODEC_OBJECTS) $(LIBRARY)
	$(call link,$^)
$(ECHO): $(BUILD)/%: $(BUILD)/obj/tests/echo/%.o $(CODEC_OBJECTS) $(LIBRARY)
	$(call link,$^)
$(BUILD)/obj/tests/unit/%.o: tests/unit/%.c
	$(call compile,$(TESTS_SEE))
$(BUILD)/obj/tests/bench/%.o: tests/bench/%.c
	$(call compile,$(TESTS_SEE))
$(BUILD)/obj/tests/diff/%.o: tests/diff/%.c
	$(call compile,$(TESTS_SEE))
$(BUILD)/obj/tests/echo/%.o: tests/echo/%.c
	$(call compile,$(TESTS_SEE))
$(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard tests/unit/*.c)): | $(GEN)/schema_sql.h

unit: $(UNIT)
test-programs: $(TEST_PROGRAMS)
fuzzers: $(FUZZERS)

-include $(LIBRARY_OBJECTS:.o=.d) $(CODEC_OBJECTS:.o=.d) \
	$(patsubst %.c,$(BUILD)/obj/%.d,$(wildcard tests/unit/*.c tests/bench/*.c tests/diff/*.c tests/echo/*.c tests/fuzz/*.c))

# ---- targets --------------------------------------------------------------------------------------

all: library programs module

# targets that install first build in a second make, on all cores unless -j was given
SUBMAKE = $(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

deps:
	@scripts/deps run
deps-test:
	@scripts/deps test

# The recipe becomes the script: a signal to make reaches it, and nothing stands between.
export PORT LISTEN DIR SEANCE_FLAGS NGINX_WORKERS NGINX_PRELOAD SANITIZE
run:
	@scripts/deps run
	@$(SUBMAKE) -s program $(if $(filter $(MODULE_FILE),$(MODULE)),module)
	@APP='$(APP_FOLDER)' PROGRAM='$(PROGRAM)' MODULE='$(MODULE)' exec scripts/run

# The unit tests are built and run three times; everything else with the normal program.
test:
	@scripts/deps run
	@scripts/deps test
	@$(SUBMAKE) all test-programs
	@$(SUBMAKE) unit SANITIZE=address,undefined
	@$(SUBMAKE) unit SANITIZE=thread
	@tests/run normal

test-sanitize:
	@scripts/deps run
	@scripts/deps test
	@$(SUBMAKE) all test-programs
	@$(SUBMAKE) programs test-programs SANITIZE=address,undefined
	@$(SUBMAKE) programs test-programs SANITIZE=thread
	@tests/run sanitize

test-nginx-asan:
	@scripts/deps run
	@scripts/deps test
	@scripts/deps nginx-asan
	@$(SUBMAKE) module
	@tests/run nginx-asan

TORTURE ?= 50000
torture:
	@scripts/deps run
	@scripts/deps test
	@scripts/deps nginx-asan
	@$(SUBMAKE) module
	@tests/module/torture.mjs $(TORTURE)
	@tests/module/asan.sh tests/module/torture.mjs $(TORTURE)
	@tests/module/nginx-asan.sh tests/module/torture.mjs $(TORTURE)

bench:
	@scripts/deps run
	@$(SUBMAKE) all test-programs
	@tests/bench/run

bench-module:
	@scripts/deps run
	@scripts/deps test
	@$(SUBMAKE) module test-programs
	@tests/bench/module.mjs

FUZZ_SECONDS ?= 60
FUZZ_SANITIZE := fuzzer-no-link,address,undefined
fuzz:
	@scripts/deps run
	@scripts/deps fuzz
	@$(SUBMAKE) fuzzers CC=clang SANITIZE=$(FUZZ_SANITIZE)
	@tests/fuzz/run build/$(subst $(comma),-,$(FUZZ_SANITIZE)) $(FUZZ_SECONDS) $(FUZZ)

C_FILES = $(sort $(shell git ls-files -co --exclude-standard '*.c' '*.h'))
lint:
	@scripts/deps run
	@scripts/deps lint
	@$(SUBMAKE) $(GEN)/schema_sql.h
	@scripts/lint $(C_FILES)
format:
	@scripts/deps lint
	clang-format -i $(C_FILES)

# ---- installing: where a Debian nginx, systemd and pkg-config find it --------------------------------

PREFIX ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0
NGINX_SHARE := /usr/share/nginx
PLACES := $(PREFIX)/include/seance.h $(PREFIX)/lib/libseance.a $(PREFIX)/lib/pkgconfig/seance.pc \
	$(PREFIX)/lib/systemd/system/seance.service /usr/lib/sysusers.d/seance.conf \
	$(PREFIX)/share/seance/www/seance.js $(PREFIX)/share/doc/seance/README.md \
	$(PREFIX)/share/doc/seance/gateway.md $(PREFIX)/share/doc/seance/delivery.md \
	/usr/lib/nginx/modules/ngx_http_seance_module.so $(NGINX_SHARE)/modules-available/mod-http-seance.conf \
	/etc/nginx/modules-enabled/50-mod-http-seance.conf \
	/etc/nginx/seance-http.conf /etc/nginx/seance-server.conf /etc/nginx/seance-params.conf
put = install -D -m 644 $(1) '$(DESTDIR)$(2)'
filled = sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' $(1) | install -D -m 644 /dev/stdin '$(DESTDIR)$(2)'

install: library module
	@$(call put,include/seance.h,$(PREFIX)/include/seance.h)
	@$(call put,$(LIBRARY),$(PREFIX)/lib/libseance.a)
	@$(call filled,include/seance.pc.in,$(PREFIX)/lib/pkgconfig/seance.pc)
	@$(call filled,fcgi/seance.service.in,$(PREFIX)/lib/systemd/system/seance.service)
	@$(call put,fcgi/sysusers.conf,/usr/lib/sysusers.d/seance.conf)
	@$(call put,nginx/www/seance.js,$(PREFIX)/share/seance/www/seance.js)
	@$(foreach doc,README.md docs/gateway.md docs/delivery.md,$(call put,$(doc),$(PREFIX)/share/doc/seance/$(notdir $(doc)));)
	@$(call put,$(MODULE),/usr/lib/nginx/modules/ngx_http_seance_module.so)
	@$(call put,nginx/mod-http-seance.conf,$(NGINX_SHARE)/modules-available/mod-http-seance.conf)
	@install -d '$(DESTDIR)/etc/nginx/modules-enabled'
	@ln -sf $(NGINX_SHARE)/modules-available/mod-http-seance.conf \
		'$(DESTDIR)/etc/nginx/modules-enabled/50-mod-http-seance.conf'
	@$(foreach part,http server params,test -e '$(DESTDIR)/etc/nginx/seance-$(part).conf' || \
		$(call put,nginx/seance-$(part).conf,/etc/nginx/seance-$(part).conf);)
	@echo "installed; the includes in $(DESTDIR)/etc/nginx are yours to change, and stay as they are next time"

uninstall:
	@rm -f $(foreach place,$(PLACES),'$(DESTDIR)$(place)')

clean:
	rm -rf build $(foreach folder,$(PROGRAM_FOLDERS),$(folder)/$(notdir $(folder)))

.PHONY: install uninstall all library program programs module unit test-programs deps deps-test run test test-sanitize test-nginx-asan torture \
	bench bench-module fuzz fuzzers lint format clean FORCE
