# Promptreel. `make demo` renders a video, `make test` runs every test; both set up what they need.

PYTHON ?= python3
VENV   ?= .venv
PROMPT ?= a red circle moving left on a navy background
MINUTES ?= 5
EXAMPLES ?= 500

# Handed to the shell as a variable, so that quotes in a prompt stay quotes.
export PROMPT

BIN    := $(VENV)/bin
RUN    := $(VENV)/.run-installed
DEV    := $(VENV)/.dev-installed
FUZZ   := $(VENV)/.fuzz-installed
# In an environment of its own: its hundred packages would argue with ours.
SCAN_BIN := $(VENV)-scan/bin
SCAN     := $(VENV)-scan/.checkov-3.3.30
AUDIT_BIN := $(VENV)-audit/bin
AUDIT    := $(VENV)-audit/.pip-audit-2.10.1
PYTEST := $(BIN)/python -m pytest
# The contract tests mostly wait for emulators, the unit tests for processes of their own; the journeys
# want the cores for themselves.
TOGETHER := --numprocesses 4
PAIRED   := --numprocesses 2
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo up test test-unit test-contract test-journey test-terraform fuzz fuzz-api docs licences audit pictures lint lint-deploy format torture bench bench-peers clean

help: ## This list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUN) ## Render PROMPT="…" to out/demo.mp4; with MODE=chaining SEGMENTS=3, a long video to out/demo/.
ifdef MODE
	@rm -rf out/demo
	@$(BIN)/promptreel pipeline --prompt "$$PROMPT" --mode $(MODE) $(if $(SEGMENTS),--segments $(SEGMENTS)) --out out/demo
else
	@$(BIN)/promptreel render "$$PROMPT" --out out/demo.mp4
endif

up: $(RUN) ## Run the API and a worker on this machine until Ctrl-C.
	@$(BIN)/promptreel up

test: $(DEV) ## All tests.
	@$(PYTEST) tests/contract $(TOGETHER)
	@$(PYTEST) tests/unit $(PAIRED)
	@$(PYTEST) tests/journey

test-unit: $(DEV) ## Rules, adapters and routes, each by itself.
	@$(PYTEST) tests/unit $(PAIRED)

test-contract: $(DEV) ## What every adapter of a port promises.
	@$(PYTEST) tests/contract $(TOGETHER)

test-journey: $(DEV) ## Whole jobs through real processes; HTTP3=1: by Hypercorn, over HTTP/3.
	@$(PYTEST) tests/journey $(if $(HTTP3),--http3)

fuzz: $(FUZZ) ## Give what parses strangers' bytes other bytes for MINUTES=5 in all; says how to repeat what it finds.
	@MINUTES=$(MINUTES) $(BIN)/python tests/fuzz/fuzz.py

fuzz-api: $(DEV) ## Ask the API whatever its specification allows, EXAMPLES=500 of each; SEED=… for others.
	@FUZZ_EXAMPLES=$(EXAMPLES) FUZZ_SEED=$(or $(SEED),2) $(PYTEST) tests/journey/test_api_schema.py

docs: $(RUN) ## Write docs/api.md from the API's own specification.
	@$(BIN)/python -m services.api.reference > docs/.api.md && mv docs/.api.md docs/api.md

licences: $(DEV) ## Write docs/licences.md from what is installed.
	@$(BIN)/python docs/licences.py

audit: $(AUDIT) ## Is anything known against the versions in constraints.txt? Needs the network.
	@deploy/audit.sh $(AUDIT_BIN)/pip-audit

pictures: $(DEV) ## Take the README's pictures anew; needs Chromium, and nothing else does.
	@$(BIN)/python docs/pictures/take.py

lint: $(DEV) lint-deploy ## Style, types, who may import whom, and what is deployed.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python docs/licences.py --check
	@$(BIN)/hadolint services/*/Dockerfile
	@$(BIN)/shellcheck deploy/*.sh deploy/edge/*.sh
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.cloudbuild cloudbuild.yaml

lint-deploy: $(SCAN) ## What Terraform would make: is any of it unsafe?
	@$(SCAN_BIN)/checkov --directory terraform --framework terraform --skip-path terraform/tests --skip-download --compact --quiet

test-terraform: ## terraform's own fmt, validate and test; needs Terraform, and nothing of Google's.
	@terraform -chdir=terraform fmt -check -recursive
	@terraform -chdir=terraform init -backend=false -input=false >/dev/null
	@terraform -chdir=terraform validate
	@terraform -chdir=terraform test

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
	@$(BIN)/python benchmarks/stitch.py
	@$(BIN)/python benchmarks/scale

bench-peers: $(DEV) ## Measure it beside what people would pick instead; 40 minutes on two cores that do nothing else.
	@$(BIN)/python benchmarks/peers --environments $(VENV)-peers

clean: ## Remove what the commands above made; jobs and models stay.
	rm -rf $(VENV) $(VENV)-scan $(VENV)-audit $(VENV)-peers out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(RUN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Promptreel needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	@echo "setting up $(VENV) (once, a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable '.[api,worker,remote]'
	@touch $@

$(DEV): $(RUN)
	@$(PIP) --editable '.[api,worker,gcp,dev]'
	@touch $@

$(FUZZ): $(DEV)
	@$(PIP) --editable '.[fuzz]'
	@touch $@

$(SCAN):
	@test -x $(SCAN_BIN)/python || $(PYTHON) -m venv $(VENV)-scan
	@$(SCAN_BIN)/python -m pip install --quiet --disable-pip-version-check 'checkov==$(@:$(VENV)-scan/.checkov-%=%)'
	@touch $@

$(AUDIT):
	@test -x $(AUDIT_BIN)/python || $(PYTHON) -m venv $(VENV)-audit
	@$(AUDIT_BIN)/python -m pip install --quiet --disable-pip-version-check 'pip-audit==$(@:$(VENV)-audit/.pip-audit-%=%)'
	@touch $@
