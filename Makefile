# Promptreel. `make demo` renders a video, `make test` runs every test; both set up what they need.

PYTHON ?= python3
VENV   ?= .venv
PROMPT ?= a red circle moving left on a navy background
MINUTES ?= 5

# Handed to the shell as a variable, so that quotes in a prompt stay quotes.
export PROMPT

BIN    := $(VENV)/bin
RUN    := $(VENV)/.run-installed
DEV    := $(VENV)/.dev-installed
PYTEST := $(BIN)/python -m pytest
# The contract tests mostly wait for emulators; the others want the cores for themselves.
TOGETHER := --numprocesses 4
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo up test test-unit test-contract test-journey lint format torture bench clean

help: ## This list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUN) ## Render PROMPT="…" to out/demo.mp4 and show the progress.
	@$(BIN)/promptreel render "$$PROMPT" --out out/demo.mp4

up: $(RUN) ## Run the API and a worker on this machine until Ctrl-C.
	@$(BIN)/promptreel up

test: $(DEV) ## All tests.
	@$(PYTEST) tests/contract $(TOGETHER)
	@$(PYTEST) tests/unit tests/journey

test-unit: $(DEV) ## Rules, adapters and routes, each by itself.
	@$(PYTEST) tests/unit

test-contract: $(DEV) ## What every adapter of a port promises.
	@$(PYTEST) tests/contract $(TOGETHER)

test-journey: $(DEV) ## Whole jobs through real processes.
	@$(PYTEST) tests/journey

lint: $(DEV) ## Style, types and who may import whom.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(DEV) ## Put the code in its one form.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

torture: $(DEV) ## Kill, stop and starve it for MINUTES=5, and check that nothing is lost; SEED=… to repeat.
	@$(BIN)/promptreel torture --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(PROFILE),--profile $(PROFILE))

bench: $(DEV) ## Measure, print tables, write benchmarks/results/; a quarter of an hour on two cores.
	@$(BIN)/python benchmarks/overhead.py
	@$(BIN)/python benchmarks/slo.py
	@$(BIN)/python benchmarks/cold_start.py
	@$(BIN)/python benchmarks/engine.py
	@$(BIN)/python benchmarks/gpu_wan.py
	@$(BIN)/python benchmarks/cost.py

clean: ## Remove what the commands above made; jobs and models stay.
	rm -rf $(VENV) out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(RUN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Promptreel needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	@echo "setting up $(VENV) (once, a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable '.[api,worker]'
	@touch $@

$(DEV): $(RUN)
	@$(PIP) --editable '.[api,worker,gcp,dev]'
	@touch $@
