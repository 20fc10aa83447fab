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
	$(shell $(PKG_CONFIG) --libs fcgi 2>/dev/null || echo -lfcgi) -lcrypto)$(PACKAGES_LIBS)

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
EXAMPLE_TESTS := $(patsubst tests/examples/%.c,$(BUILD)/examples/%,$(wildcard tests/examples/test_*.c))
TEST_PROGRAMS := $(UNIT) $(EXAMPLE_TESTS) $(BENCH) $(DIFF) $(ECHO)

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
$(EXAMPLE_TESTS): $(BUILD)/examples/%: $(BUILD)/obj/tests/examples/%.o $(LIBRARY)
	$(call link,$^)
$(BUILD)/obj/tests/examples/%.o: tests/examples/%.c
	$(call compile,$(APP_SEES))
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

unit: $(UNIT) $(EXAMPLE_TESTS)
test-programs: $(TEST_PROGRAMS)
fuzzers: $(FUZZERS)

-include $(LIBRARY_OBJECTS:.o=.d) $(CODEC_OBJECTS:.o=.d) \
	$(patsubst %.c,$(BUILD)/obj/%.d,$(wildcard tests/unit/*.c tests/examples/*.c tests/bench/*.c tests/diff/*.c tests/echo/*.c tests/fuzz/*.c))

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
VERSION = $(shell sed -n 's/^\#define SEANCE_VERSION "\(.*\)"/\1/p' fcgi/main.c)
NGINX_SHARE := /usr/share/nginx
NGINX_ENABLED := /etc/nginx/modules-enabled/50-mod-http-seance.conf

# FILE:FOLDER.  In a FILE.in, @...@ is filled in.  Those of SITE_FILES are the site's to change, once they are there.
INSTALLED := include/seance.h:$(PREFIX)/include include/seance_test.h:$(PREFIX)/include \
	docs/man/seance.3:$(PREFIX)/share/man/man3 docs/man/seance_test.3:$(PREFIX)/share/man/man3 $(LIBRARY):$(PREFIX)/lib include/seance.pc.in:$(PREFIX)/lib/pkgconfig \
	fcgi/seance.service.in:$(PREFIX)/lib/systemd/system nginx/www/seance.js:$(PREFIX)/share/seance/www \
	nginx/www/seance.d.ts:$(PREFIX)/share/seance/www nginx/www/openapi.json:$(PREFIX)/share/seance/www \
	README.md:$(PREFIX)/share/doc/seance docs/gateway.md:$(PREFIX)/share/doc/seance \
	docs/delivery.md:$(PREFIX)/share/doc/seance fcgi/sysusers.d/seance.conf:/usr/lib/sysusers.d \
	$(MODULE):/usr/lib/nginx/modules nginx/mod-http-seance.conf:$(NGINX_SHARE)/modules-available
SITE_FILES := $(foreach part,http server params internal,nginx/seance-$(part).conf:/etc/nginx)

source_of = $(firstword $(subst :, ,$(1)))
place_of = '$(DESTDIR)$(lastword $(subst :, ,$(1)))/$(patsubst %.in,%,$(notdir $(call source_of,$(1))))'
filled = sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' $(1)
put = $(if $(filter %.in,$(call source_of,$(1))),$(call filled,$(call source_of,$(1))) | install -D -m 644 /dev/stdin,install -D -m 644 $(call source_of,$(1))) $(call place_of,$(1))

install: library module
	@set -e; $(foreach one,$(INSTALLED),$(call put,$(one));) \
	$(foreach one,$(SITE_FILES),test -e $(call place_of,$(one)) || $(call put,$(one));) \
	install -d '$(DESTDIR)$(dir $(NGINX_ENABLED))'; \
	ln -sf $(NGINX_SHARE)/modules-available/mod-http-seance.conf '$(DESTDIR)$(NGINX_ENABLED)'
	@echo "installed; the includes in $(DESTDIR)/etc/nginx are yours to change, and stay as they are next time"

uninstall:
	@rm -f $(foreach one,$(INSTALLED) $(SITE_FILES),$(call place_of,$(one))) '$(DESTDIR)$(NGINX_ENABLED)'

clean:
	rm -rf build $(foreach folder,$(PROGRAM_FOLDERS),$(folder)/$(notdir $(folder)))

.PHONY: all library program programs module unit test-programs deps deps-test run test test-sanitize \
	test-nginx-asan torture bench bench-module fuzz fuzzers lint format install uninstall clean FORCE
