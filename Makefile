# `make help` tells what there is. PG_CONFIG names the server to build for; by default the newest one installed.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Rust's installer puts cargo where a non-login shell does not look.
export PATH := $(PATH):$(HOME)/.cargo/bin

PG_CONFIG ?= $(shell . scripts/lib.sh; find_pg_config)
DESTDIR ?=
BINDIR ?= /usr/local/bin
MODELDIR ?= /var/lib/pg_answer/models
PG_ANSWER_MODEL_PATH ?= $(shell . scripts/lib.sh; model_path)
export DESTDIR BINDIR MODELDIR PG_ANSWER_MODEL_PATH

MODELS := all-MiniLM-L6-v2 qwen2.5-coder-0.5b-instruct

release_dir := $(or $(CARGO_TARGET_DIR),target)/release
pull_models = $(release_dir)/pg_answer_model --model-path "$(PG_ANSWER_MODEL_PATH)" pull $(MODELS)

# Expanded only where used: before setup has run there may be no server yet.
pg_feature = pg_answer/pg$(shell . scripts/lib.sh; pg_major "$(PG_CONFIG)")
with_pg = PG_CONFIG="$(PG_CONFIG)" PGRX_PG_CONFIG_PATH="$(PG_CONFIG)"

# One choice of packages and features for all that tests, benchmarks and lint build: with another, cargo would compile
# the large dependencies once more, since their features depend on who else is built.
all_crates := --workspace --no-default-features --features pg_answer_inference/parity
with_server = $(all_crates),$(pg_feature)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r target text; do printf '  make %-16s %s\n' "$$target" "$$text"; done
	@echo "Variables: PG_CONFIG, DESTDIR, BINDIR ($(BINDIR)), MODELDIR ($(MODELDIR)), PG_ANSWER_MODEL_PATH"

.PHONY: build
build: need-pg
	$(with_pg) cargo build --release -p pg_answer -p pg_answer_model -p pg_answer_demo \
		--no-default-features --features $(pg_feature)

.PHONY: need-pg
need-pg:
	@. scripts/lib.sh; PG_CONFIG="$(PG_CONFIG)" need_pg_config >/dev/null

.PHONY: install
install: build ## build and install into the server (asks for sudo only where it must)
	$(with_pg) scripts/install.sh

.PHONY: uninstall
uninstall: need-pg ## remove what install put there; models stay
	$(with_pg) scripts/install.sh uninstall

.PHONY: models
models: build ## pull the models that demo and tests use
	$(pull_models)

.PHONY: demo
demo: ## from nothing to questions answered from the PostgreSQL manual
	@demo/demo.sh

.PHONY: demo-stop
demo-stop: ## stop the demo's cluster; its data stay for the next run
	@demo/demo.sh stop

# Two steps, because the second make must see the server that the first one may have installed.
.PHONY: test
test: ## every test: crates, models, SQL in throw-away clusters
	scripts/setup.sh test
	$(MAKE) run-tests

.PHONY: run-tests
run-tests: everything
	$(with_pg) cargo test --release $(with_server)

.PHONY: bench
bench: everything ## benchmarks of the crates, then of a live cluster
	$(with_pg) cargo bench --exclude pg_answer_benches $(with_server)
	$(with_pg) $(release_dir)/pg_answer_benches

# Tests and benchmarks, with the extension installed and the models pulled.
.PHONY: everything
everything: need-pg
	$(with_pg) cargo build --release --all-targets $(with_server)
	$(with_pg) scripts/install.sh
	$(pull_models)

# For example BENCH_INDEX="--rows 200000 --vectors rows.f32 --queries queries.f32 --plot docs/index.svg"
.PHONY: bench-index
bench-index: everything ## vector indexes side by side: pg_answer's and those that benches/index.toml names
	$(with_pg) $(release_dir)/index $(BENCH_INDEX)

.PHONY: bench-inference
bench-inference: everything ## models beside their peers; PG_ANSWER_PEERS names a Python that has them
	$(with_pg) cargo bench $(with_server) --bench decoder --bench encoder_rates
	$(with_pg) $(release_dir)/sessions

.PHONY: lint
lint: need-pg ## formatting, clippy with warnings denied, licences and sources of dependencies
	cargo fmt --all --check
	$(with_pg) cargo clippy --release --all-targets $(with_server) -- -D warnings
	cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny check bans licenses sources
	@if cargo deny fetch db >/dev/null 2>&1; then cargo deny check --disable-fetch advisories; \
	else echo "advisories: not checked, their database could not be fetched"; fi

.PHONY: clean
clean: ## remove what was built
	cargo clean
