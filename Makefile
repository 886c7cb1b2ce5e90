# capsid's targets; `make help` lists them. The program is one static binary below target/TRIPLE/release.
SHELL := /bin/sh
CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=

TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
BINARIES := target/$(TRIPLE)/release
CAPSID := $(BINARIES)/capsid

# One file without libraries. `+crt-static` needs --target, or proc macros can't be built; with --target these
# flags reach neither them nor build scripts. Not position-independent: relocating costs each command 0.1 ms and
# 0.5 MiB (capsid --version, 0.64 against 0.75 ms), and capsid is executed for a moment, by those who may do more
# than it does, on configurations that they wrote; stack, heap and mmap stay randomised.
STATIC := -C target-feature=+crt-static -C relocation-model=static
COMMIT := $(shell git rev-parse HEAD 2>/dev/null)
RELEASE := CAPSID_COMMIT="$(COMMIT)" RUSTFLAGS="$(STATIC)" $(CARGO) build --locked --release --target $(TRIPLE)

.PHONY: help build demo test test-engines soak bench lint install clean

help: ## lists the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

build: ## builds the static release binary
	@test -x "$(CAPSID)" || echo "building, which takes some minutes" >&2
	@$(RELEASE) --quiet --workspace --bins
	@echo "$(CAPSID)"

demo: build ## builds a busybox bundle, runs it, and shows that it is a container
	@CAPSID_BINARIES="$(CURDIR)/$(BINARIES)" docs/demo.sh

test: ## installs what the tests need, builds, runs every test
	@CAPSID_TRIPLE="$(TRIPLE)" CAPSID_STATIC="$(STATIC)" CARGO="$(CARGO)" tests/run.sh

test-engines: ## only the tests under containerd, Docker and Podman
	@CAPSID_TRIPLE="$(TRIPLE)" CAPSID_STATIC="$(STATIC)" CARGO="$(CARGO)" tests/run.sh engines

soak: ## the tests with their full counts: every kill point, hundreds of rounds
	@CAPSID_SOAK=1 CAPSID_TRIPLE="$(TRIPLE)" CAPSID_STATIC="$(STATIC)" CARGO="$(CARGO)" tests/run.sh

bench: build ## measures capsid against crun, runc and the kernel floor (ARGS="--quick" for a look)
	@"$(BINARIES)/capsid-bench" $(ARGS)

lint: ## checks formatting, clippy, the documentation's links, and (where cargo-deny is installed) licences, bans and sources
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --quiet --locked --workspace --all-targets --test engines -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --locked --workspace --no-deps
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --log-level error check licenses bans sources; \
	else echo "lint: cargo-deny is not installed: licences, bans and sources not checked"; fi

install: build ## installs capsid and rootfs-builder below DESTDIR/PREFIX
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 "$(CAPSID)" "$(BINARIES)/rootfs-builder" "$(DESTDIR)$(PREFIX)/bin/"

clean: ## removes what was built
	@$(CARGO) clean --quiet
