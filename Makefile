# Everything a newcomer types. `make run` and `make test` install what is missing.

CARGO ?= cargo
EXAMPLE ?= examples/web/regrow.yaml

.PHONY: help run test lint bench build install-run install-test install-bench sim soak fuzz

help:
	@echo "make run     build Regrow, run examples/web: three web servers behind HAProxy (Ctrl-C stops it)"
	@echo "make test    lint and all tests, with the real components"
	@echo "make bench   measure against peers; the table goes to bench/RESULTS.md"
	@echo "make lint    formatting, clippy, walls, links of the docs"
	@echo "make soak    the heavy tests at full size, hours of them; ONLY='-p regrow-store' for some"
	@echo "make sim     the simulator at length: SEEDS=100000 make sim"
	@echo "make fuzz    ten million executions of each decoder; fuzz/run.sh RUNS TARGET for some"

run: install-run
	$(CARGO) build --release --locked -p regrow
	@mkdir -p examples/web/run
	./target/release/regrow up $(EXAMPLE)

build:
	$(CARGO) build --release --locked -p regrow

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	scripts/check-links.sh

test: install-test lint
	$(CARGO) build --locked -p regrow
	$(CARGO) nextest run --workspace --locked

# Ten thousand simulated machines: huge pages and small blocks kept at hand save a quarter of the time.
BIG := GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.tcache_max=4096:glibc.malloc.tcache_count=60000

# Tests that are heavy have two sizes: a bounded one in `make test`, and this one.
soak: install-test
	$(CARGO) build --locked -p regrow
	REGROW_FULL=1 $(CARGO) nextest run --locked --profile soak $(or $(ONLY),--workspace --exclude regrow-gossip)
	$(if $(ONLY),,REGROW_FULL=1 $(BIG) $(CARGO) nextest run --release --locked --profile soak -j1 -p regrow-gossip)

sim:
	SEEDS=$${SEEDS:-100000} $(CARGO) nextest run --release --locked -p regrow-sim

fuzz:
	fuzz/run.sh $(or $(RUNS),10000000) $(TARGETS)

bench: install-bench build
	bench/run.sh

install-run:
	@scripts/install.sh run

install-test:
	@scripts/install.sh test

install-bench:
	@scripts/install.sh bench
