# The commands for people and for CI. Each target says in one line what it is for; cargo and the
# scripts do the work. `test`, `bench` and `demo` first install the packages that they need (as
# root, with apt). If all are installed, that step returns at once.
#
# Tests make network namespaces and boot guests, so they need root. A missing tool is a failure that
# names the package; no test is skipped silently.

CARGO ?= cargo
PROFILE ?= default

CASES ?=

.PHONY: help build install-deps guest test fuzz loom miri soak budget bench lint demo clean

help: ## prints this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

build: ## builds the release binary
	$(CARGO) build --release --locked

install-deps: ## installs what the tests and the demo need, from the distribution
	scripts/install-deps.sh

guest: install-deps ## builds the kernel and initramfs that test guests boot
	qemu/build-guest.sh

# The runner's own summary is the last thing printed. cargo-nextest gives each test a process, a
# time limit and its share of the machine (.config/nextest.toml); without it, one test at a time.
#
# The newest QEMU is fetched first. If that fails, its tests are left out, and a line before and
# after the tests says so: they have not passed.
test: guest ## runs every test, including those with guests
	$(CARGO) test --locked --doc --quiet
	@# tests/budget.rs needs this build too, and must not run it while other tests measure times.
	$(CARGO) build --locked --release --quiet --example turns
	@left_out=; \
	if ! scripts/newest-qemu.sh >/dev/null; then \
		left_out="NOT CHECKED: the newest QEMU could not be fetched (see above): the tests qemu_newest_* do not run"; \
		echo "$$left_out"; \
	fi; \
	status=0; \
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --locked --workspace --profile $(PROFILE) \
			-E "$${left_out:+not test(/(^|::)qemu_newest_/) and }all()" || status=$$?; \
	else \
		$(CARGO) test --locked --workspace --lib --bins --tests -- --test-threads=1 \
			$${left_out:+--skip qemu_newest_} || status=$$?; \
	fi; \
	[ -z "$$left_out" ] || echo "$$left_out"; \
	exit $$status

# `make test` runs every target for two seconds. FUZZ_SECONDS is the time for each target. The run
# prints its FUZZ_SEED, which repeats the same inputs.
fuzz: ## runs every fuzz target for a minute
	FUZZ_SECONDS=$${FUZZ_SECONDS:-60} $(CARGO) test --locked --package fuzz -- --nocapture

# `make test` looks at the orders with three preemptions at most.
loom: ## the concurrent protocols in every order of their steps: a minute
	LOOM_UNBOUNDED=1 $(CARGO) test --locked --package models -- --nocapture

# Needs the nightly toolchain with its components miri and rust-src.
miri: ## the pure rooms under miri, which finds undefined behaviour
	PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation \
		$(CARGO) +nightly miri test --locked --target-dir target/miri --lib -- net:: offload:: switch::

# The test prints its seed; VUM_SEED=N repeats that run. VUM_SOAK is the time in seconds.
soak: install-deps ## runs a hostile tenant beside fifteen others for five minutes
	VUM_SOAK=$${VUM_SOAK:-300} $(CARGO) test --locked --test soak -- --nocapture

budget: install-deps ## records new figures for the instruction budget (tests/budget.toml)
	VUM_BUDGET=take $(CARGO) test --locked --quiet --test budget -- --nocapture --exact \
		no_path_takes_more_instructions_than_it_did

# Compares the release build with its peers, and refuses a busy machine. CASES="P1 P2" runs these
# cases; CASES=--list names all of them.
bench: install-deps ## measures, and writes docs/performance.md and its chart: about 20 minutes
	$(CARGO) bench --locked --bench table -- $(CASES)

lint: ## checks formatting, clippy, documentation, and dependencies if cargo-deny is installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) fetch --locked && \
		$(CARGO) deny --workspace --offline check licenses bans sources; \
	else \
		echo "lint: cargo-deny is not installed; dependencies were not checked"; \
	fi

demo: ## shows two QEMU guests on one parent NIC that reach each other and the LAN
	qemu/demo.sh

clean: ## removes all build results, including the test guest
	$(CARGO) clean
	rm -rf qemu/build
