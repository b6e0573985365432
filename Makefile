# Hoy: build, check, install. `make help` lists the targets.

PREFIX   ?= /usr/local
BINDIR   ?= $(PREFIX)/bin
MANDIR   ?= $(PREFIX)/share/man
BASHCOMP ?= $(PREFIX)/share/bash-completion/completions
ZSHCOMP  ?= $(PREFIX)/share/zsh/site-functions
FISHCOMP ?= $(PREFIX)/share/fish/vendor_completions.d
DESTDIR  ?=
CARGO    ?= cargo
INSTALL  ?= install

PROGRAMS := hoy hoy-build hoy-copy hoy-runtime hoy-spec hoy-storage
HOST     := $(or $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p'),$(shell uname -m)-unknown-linux-gnu)
OUT      := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE  := $(OUT)/$(HOST)/release
SHELLS   := bash zsh fish
SKIPS    := $(OUT)/skipped-tests
VERSION  := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

.PHONY: all help programs completions check check-long check-vm conformance lint demo bench install uninstall dist clean

all: programs completions ## build the programs and their completions

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

programs:
	$(CARGO) build --release --locked $(addprefix --bin ,$(PROGRAMS))

completions: programs
	@mkdir -p $(OUT)/completions
	@for p in $(PROGRAMS); do for s in $(SHELLS); do \
	  $(RELEASE)/$$p --completion $$s >$(OUT)/completions/$$p.$$s || exit 1; done; done

check: all ## run all tests; installs what they compare with where root allows it
	@sh tests/set-up
	@rm -f $(SKIPS)
	HOY_BIN_DIR=$(RELEASE) HOY_SKIPS=$(SKIPS) $(CARGO) test --workspace --locked --no-fail-fast -- --test-threads=4
	@if [ -s $(SKIPS) ]; then sort -u $(SKIPS); echo "$$(sort -u $(SKIPS) | wc -l) tests were skipped"; fi

check-long: all ## the longer proofs: more kills, more random input
	@sh tests/set-up
	HOY_LONG=1 HOY_BIN_DIR=$(RELEASE) $(CARGO) test --workspace --locked --no-fail-fast -- --test-threads=2
	HOY_LONG=1 HOY_BIN_DIR=$(RELEASE) sh tests/vm/check

check-vm: all ## the runtime's tests in a virtual machine: systemd, cgroup v2 alone, AppArmor
	HOY_BIN_DIR=$(RELEASE) sh tests/vm/check

conformance: all ## the runtime held to its specification; any other one by RUNTIME=crun
	@sh tests/set-up
	HOY_BIN_DIR=$(RELEASE) $(CARGO) test --locked --no-fail-fast -p hoy-tests $(addprefix --test ,$(basename $(notdir $(wildcard tests/tests/conformance_*.rs)))) -- --test-threads=4

lint: ## formatting and clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

demo: all ## make, run, change, move an image: no registry, no network
	@HOY_BIN_DIR=$(RELEASE) sh tests/demo

bench: all ## time and memory beside Debian's tools
	@sh tests/set-up
	HOY_BIN_DIR=$(RELEASE) $(CARGO) bench --locked -p hoy-tests --bench peers --bench builds --bench copies --bench layers --bench runtime

install: ## install under PREFIX; builds and downloads nothing
	@for p in $(PROGRAMS); do [ -x $(RELEASE)/$$p ] || { echo "$(RELEASE)/$$p is missing: run \"make\" first" >&2; exit 1; }; done
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man7
	$(INSTALL) -m 755 $(addprefix $(RELEASE)/,$(PROGRAMS)) $(DESTDIR)$(BINDIR)
	for n in 1 5 7; do for m in man/*.$$n; do $(INSTALL) -m 644 $$m $(DESTDIR)$(MANDIR)/man$$n || exit 1; done; done
	$(INSTALL) -d $(DESTDIR)$(BASHCOMP) $(DESTDIR)$(ZSHCOMP) $(DESTDIR)$(FISHCOMP)
	for p in $(PROGRAMS); do \
	  $(INSTALL) -m 644 $(OUT)/completions/$$p.bash $(DESTDIR)$(BASHCOMP)/$$p && \
	  $(INSTALL) -m 644 $(OUT)/completions/$$p.zsh $(DESTDIR)$(ZSHCOMP)/_$$p && \
	  $(INSTALL) -m 644 $(OUT)/completions/$$p.fish $(DESTDIR)$(FISHCOMP)/$$p.fish || exit 1; done

uninstall: ## remove what install put there
	rm -f $(addprefix $(DESTDIR)$(BINDIR)/,$(PROGRAMS))
	for n in 1 5 7; do for m in man/*.$$n; do rm -f $(DESTDIR)$(MANDIR)/man$$n/$${m#man/}; done; done
	rm -f $(addprefix $(DESTDIR)$(BASHCOMP)/,$(PROGRAMS)) $(addprefix $(DESTDIR)$(ZSHCOMP)/_,$(PROGRAMS))
	rm -f $(addsuffix .fish,$(addprefix $(DESTDIR)$(FISHCOMP)/,$(PROGRAMS)))

dist: ## the sources with all crates, to build without a network
	@rm -rf dist && mkdir -p dist/hoy-$(VERSION)
	git archive HEAD | tar -x -C dist/hoy-$(VERSION)
	cd dist/hoy-$(VERSION) && $(CARGO) vendor --locked --versioned-dirs >vendor.toml && cat vendor.toml >>.cargo/config.toml && rm vendor.toml
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$$(git log -1 --format=%ct) \
	  -C dist -c hoy-$(VERSION) | gzip -n9 >dist/hoy-$(VERSION).tar.gz
	@rm -rf dist/hoy-$(VERSION)
	@ls -l dist

clean: ## remove what was built
	$(CARGO) clean
	rm -rf dist
