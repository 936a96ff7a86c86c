# What people and machines type. Each target says in one line what it is for; the work is in cargo and
# in the scripts beside. `test`, `bench` and `demo` install what they need first (as root, with apt), and
# return at once from that when it is there.
#
# Tests make network namespaces and boot guests: they need root. What can go wrong is told by them: a
# missing tool is a failure that names the package, never a test silently skipped.

CARGO ?= cargo
PROFILE ?= default

CASES ?=

.PHONY: help build install-deps guest test soak budget bench lint demo clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

build: ## the release binary
	$(CARGO) build --release --locked

install-deps: ## what the tests and the demo use, from the distribution
	scripts/install-deps.sh

guest: install-deps ## the kernel and initramfs that test guests boot
	qemu/build-guest.sh

# The runner's own summary is the last thing printed. cargo-nextest gives each test a process, a time
# limit and its share of the machine (.config/nextest.toml); without it, one test at a time.
#
# The newest QEMU is fetched beforehand. Where it cannot be had its tests are left out, which is said
# before the tests and once more after them: they have not passed.
test: guest ## every test, guests included
	$(CARGO) test --locked --doc --quiet
	@# What one of the tests builds too (tests/budget.rs): not while others measure times.
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

# The seed is printed; VUM_SEED=N does the same once more. VUM_SOAK is the time in seconds.
soak: install-deps ## a hostile tenant beside fifteen others for five minutes
	VUM_SOAK=$${VUM_SOAK:-300} $(CARGO) test --locked --test soak -- --nocapture

budget: install-deps ## takes new figures for the instruction budget (tests/budget.toml)
	VUM_BUDGET=take $(CARGO) test --locked --quiet --test budget -- --nocapture --exact \
		no_path_takes_more_instructions_than_it_did

# The release build beside its peers; it refuses a busy machine. CASES="P1 P2" runs some (CASES=--list names them).
bench: install-deps ## measures, and writes docs/performance.md and its chart: some 20 minutes
	$(CARGO) bench --locked --bench table -- $(CASES)

lint: ## formatting, clippy, documentation; dependencies where cargo-deny is installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) fetch --locked && \
		$(CARGO) deny --offline check licenses bans sources; \
	else \
		echo "lint: cargo-deny is not installed, dependencies were not checked"; \
	fi

demo: ## two QEMU guests on one parent NIC, reaching each other and the LAN
	qemu/demo.sh

clean: ## what was built, the test guest too
	$(CARGO) clean
	rm -rf qemu/build
