# `make` lists the targets. Everything runs in .venv, which is made on first use: from requirements-run.lock for what runs
# meshobs, from requirements.lock for what tests and checks need beside it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
FUZZ := $(VENV)/.fuzz
# Others than meshobs, in an environment of their own.
PEERS := $(VENV)/peers
# How long `make fuzz` takes, half of it guided by coverage; and where it keeps the inputs that reached something new.
FUZZ_SECONDS ?= 600
CORPUS := build/fuzz
DEMO := build/demo.duckdb
# Tests of a real datapath and of a large mesh.
ALONE := tests/lab/netns/test_netns.py tests/lab/test_large_mesh.py

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-whole tools check fuzz lab-matrix format bench proto docs lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

# A pip that is there already (22.3 and later) serves: unpacking another one takes as long as DuckDB and Arrow together.
HAS_PIP := $(shell $(PYTHON) -c 'import pip; print([*map(int, pip.__version__.split(".")[:2])] >= [22, 3])' 2>/dev/null)
WITHOUT_PIP := $(if $(filter True,$(HAS_PIP)),--without-pip)
# All that is needed is in the locks: nothing is left for pip to find out.
PIP := $(if $(WITHOUT_PIP),$(PYTHON) -m pip --python $(BIN)/python,$(BIN)/pip) install \
	--quiet --disable-pip-version-check --no-compile --no-deps
# kubernetes asks for these; its asyncio client uses them, which nobody here loads.
UNUSED := aiohttp aiohttp-retry aiohappyeyeballs aiosignal attrs frozenlist multidict propcache yarl

$(RUNS): requirements-run.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "meshobs needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(WITHOUT_PIP) $(VENV)
	$(PIP) --require-hashes -r requirements-run.lock
	$(PIP) --no-build-isolation --editable .
	@touch $@

$(READY): $(RUNS) requirements.lock
	$(PIP) --require-hashes -r requirements.lock
	@$(BIN)/python -m ensurepip >/dev/null  # for hands that are used to it
	@touch $@

$(FUZZ): $(READY) requirements-fuzz.lock
	$(PIP) --require-hashes -r requirements-fuzz.lock
	@touch $@

setup: $(READY) ## make .venv with everything in it

# A real mesh in namespaces has certificates of its own: an extra.
demo: $(if $(filter netns,$(DRIVER)),$(READY),$(RUNS)) ## play the walkthrough on the embedded mesh (DRIVER=netns, kind: a real one), judge it, print what it shows
	@mkdir -p build && rm -f $(DEMO)
	@$(BIN)/meshobs --db $(DEMO) demo$(if $(DRIVER), --driver $(DRIVER))

tools: $(READY) ## build the real programs that tests run against, with Go, into ~/.cache/meshobs
	$(BIN)/python tests/support/real_programs.py

test: $(READY) ## run the tests; what needs `make tools` is skipped without it
	$(BIN)/pytest $(ALONE:%=--ignore %)
	@# Alone on the machine: kernels lose events that busy agents do not read in time.
	$(BIN)/pytest -n 0 $(ALONE)

test-whole: export WHOLE := 1
test-whole: test ## the same with all recordings, kills, flows and versions of what runs smaller there

check: $(READY) ## format, lint, types, import contracts, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

fuzz: $(FUZZ) ## look for input that breaks importers and object readers (FUZZ_SECONDS=600)
	@mkdir -p $(CORPUS)
	$(BIN)/python tests/fuzz/readers.py $(CORPUS) -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build/ -print_final_stats=1
	FUZZ_EXAMPLES=$(FUZZ_SECONDS) $(BIN)/pytest -n 0 tests/collector/test_fuzz.py

lab-matrix: $(READY) ## run all experiments on each kind of mesh, for hours (MATRIX="vxlan 1.20.2": some) -> build/lab-matrix
	$(BIN)/python tests/lab/matrix.py $(MATRIX)

format: $(READY) ## format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(PEERS)/.ready: requirements-peers.lock
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-peers.lock
	@touch $@

bench: $(READY) $(PEERS)/.ready ## measure speed, memory and size -> build/bench.json
	$(BIN)/python tests/bench/bench.py

proto: $(READY) ## generate meshobs/pb from proto/
	$(BIN)/python proto/generate.py

docs: $(READY) ## generate docs/reference from the commands and queries
	$(BIN)/python docs/generate.py

lock: ## choose the newest versions anew
	$(PYTHON) -m venv build/uv && build/uv/bin/pip install --quiet uv
	build/uv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --all-extras --group dev --upgrade pyproject.toml --output-file requirements.lock
	build/uv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --group fuzz --upgrade --output-file requirements-fuzz.lock
	build/uv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --group peers --upgrade --output-file requirements-peers.lock
	build/uv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --group build $(UNUSED:%=--no-emit-package %) -c requirements.lock pyproject.toml --output-file requirements-run.lock

clean: ## remove .venv and everything generated that is not committed
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
